import itertools

from keras.src.backend.common import global_state
from keras.src.backend.openvino import graph

_numbers = itertools.count(1)
_latest = [0]


def latest_change():
    """The number of the last change of any layer: another one, a change."""
    return _latest[0]


class OpenvinoLayer:
    """The base of layers on this backend.

    It numbers the changes of a layer's Python state (`enable_lora`, `quantize`,
    a new `trainable` or dtype policy, a layer that is added), so that a model
    can tell that what it compiled is out of date. What a layer sets while it
    is called is no change.
    """

    _last_change = 0
    _last_lasting_change = 0  # of anything but `trainable`, which takes turns

    # What is set as it runs, and does not change what it computes.
    _run_state = frozenset()

    # Bookkeeping that no forward pass of Keras's own layers reads.
    _accounts = frozenset(
        ("_lock", "_auto_config", "_inbound_nodes", "_outbound_nodes", "_nodes")
        + ("_tracker", "_last_change", "_last_lasting_change")
        + ("_called", "_call_signature")
        + ("_losses", "_loss_ids", "_losses_override", "_metrics")
        + ("_dropout_mask", "_recurrent_dropout_mask", "build", "quantize")
    )

    def __setattr__(self, name, value):
        is_new = not _is_same(self.__dict__.get(name, self), value)
        super().__setattr__(name, value)
        # Of a property, the attribute that it sets is in `__dict__`.
        is_kept = name in self.__dict__ and name not in self._run_state
        if is_new and is_kept:
            self._note_change(is_lasting=name != "_trainable")

    def __delattr__(self, name):
        super().__delattr__(name)
        self._note_change()

    def _note_change(self, is_lasting=True):
        is_called = global_state.get_global_attribute("current_call_ctx")
        if is_called is None and graph.current_trace() is None:
            number = next(_numbers)
            self.__dict__["_last_change"] = number
            if is_lasting:
                self.__dict__["_last_lasting_change"] = number
            _latest[0] = number


def _is_same(old, new):
    if old is new:
        return True
    kind = old.__class__
    return kind is new.__class__ and kind in _PLAIN and old == new


_PLAIN = (bool, int, float, str)
