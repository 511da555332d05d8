"""The operations on floats that have no derivative, and why."""

from keras.src.backend.openvino.registry import extend

_REASONS = {
    "CTCBeamSearch": "it chooses among paths",
    "Eig": "its results are complex",
    "NextAfter": "it computes with bits",
    "Range": "the number of its results depends on values",
    "View": "it computes with bits",
}

for _type, _reason in _REASONS.items():
    extend(_type, gradient=_reason)
