import pytest

from keras.src import layers
from keras.src import models
from keras.src import ops
from keras.src.backend.openvino import graph
from keras.src.backend.openvino.custom import Operations


class Own(layers.Layer):
    def __init__(self):
        super().__init__()
        self.factor = 1
        self.table = [1]

    def call(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        return x * self.factor


def changed_by(layer, change):
    before = layer._last_change
    change(layer)
    return layer._last_change > before


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "factor", 2),
        lambda layer: setattr(layer, "factor", 1.0),
        lambda layer: setattr(layer, "factor", True),
        lambda layer: setattr(layer, "table", [1]),
        lambda layer: setattr(layer, "fresh", None),
        lambda layer: setattr(layer, "history", None),  # it is no model
        lambda layer: delattr(layer, "table"),
        lambda layer: setattr(layer, "trainable", False),
        lambda layer: setattr(layer, "dtype_policy", "mixed_bfloat16"),
    ],
)
def test_changes_of_python_state(change):
    assert changed_by(Own(), change)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "factor", 1),
        lambda layer: layer(ops.ones(3)),
        lambda layer: layer.get_config(),
        lambda layer: layer.count_params(),
    ],
)
def test_what_is_no_change(change):
    layer = Own()
    layer(ops.ones(3))
    assert not changed_by(layer, change)


def test_what_is_set_while_a_function_is_traced_is_no_change():
    layer = Own()
    before = layer._last_change
    with graph.Trace(Operations()):
        layer.factor = 6
    assert layer._last_change == before and layer.factor == 6


def test_later_changes_have_larger_numbers():
    first, second = Own(), Own()
    first.factor = 3
    second.factor = 3
    assert second._last_change > first._last_change
    first.factor = 4
    assert first._last_change > second._last_change


@pytest.mark.parametrize("is_built", [False, True])
def test_a_layer_that_is_added_or_removed_changes_the_model(is_built):
    model = models.Sequential([layers.Dense(2)])
    if is_built:
        model.build((None, 3))
    before = model._latest_change()
    model.add(layers.Dense(3))
    added = model._latest_change()
    model.pop()
    assert before < added
    assert not is_built or added < model._latest_change()
