"""The operations that have no derivative, and why."""

from keras.src.backend.openvino.registry import extend

_REASONS = {
    "its results are integers or booleans": (
        "BitwiseAnd",
        "BitwiseLeftShift",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseRightShift",
        "BitwiseXor",
        "Equal",
        "GreatestCommonDivisor",
        "IsFinite",
        "IsInf",
        "IsNaN",
        "Less",
        "LessEqual",
        "LogicalAnd",
        "LogicalNot",
        "LogicalOr",
        "LogicalXor",
        "MatrixRank",
        "NonZero",
        "NotEqual",
        "ReduceLogicalAnd",
        "ReduceLogicalOr",
        "SearchSorted",
        "ShapeOf",
        "UnsignedRemainder",
    ),
    "its results are complex; those of their parts have one": (
        "Complex",
        "Conjugate",
        "Eig",
        "Imaginary",
        "Real",
    ),
    "the number of its results depends on values": ("Range",),
    "it chooses among paths": ("CTCBeamSearch",),
    "it computes with bits": ("NextAfter", "View"),
    "it is a part of `ComplexFourier`, which has one": ("DFT", "IDFT"),
    "the numbers it places are constants": ("OneHot",),
}

for _reason, _types in _REASONS.items():
    for _type in _types:
        extend(_type, gradient=_reason)
