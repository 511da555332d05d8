"""Recurrent layers in compiled models, against their cells step by step."""

import itertools

import numpy as np
import pytest

from keras.src import backend
from keras.src import layers
from keras.src import models
from keras.src import ops
from keras.src import saving
from keras.src.backend.openvino import sequences
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

BATCH, TIME, SIZE, UNITS = 3, 7, 5, 4
INPUTS = normal(BATCH, TIME, SIZE)
MASK = np.array(
    [[1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 1, 0], [0] * 7], dtype=bool
)
LAYERS = {
    "lstm": (layers.LSTM, {}, "LSTMSequence"),
    "gru": (layers.GRU, {}, "GRUSequence"),
    "reset first": (layers.GRU, {"reset_after": False}, "GRUSequence"),
    "simple": (layers.SimpleRNN, {}, "RNNSequence"),
    "relu": (layers.SimpleRNN, {"activation": "relu"}, "RNNSequence"),
}


def built(create, **arguments):
    """A layer with random weights, its biases too."""
    layer = create(UNITS, return_state=True, **arguments)
    return randomised(layer)


def randomised(layer):
    layer.build((BATCH, None, SIZE))
    for seed, weight in enumerate(layer.weights):
        weight.assign(0.5 * normal(*weight.shape, seed=seed))
    return layer


def compiled(layer, x, mask, specs=()):
    def call(x, mask=None):
        return [ops.cast(y, "float32") for y in layer(x, mask=mask)]

    arrays = (x,) if mask is None else (x, mask)
    return jit(call, specs[: len(arrays)])(*arrays)


def compare(results, expected, tolerance):
    for result, wanted in zip(results, expected, strict=True):
        wanted = np.asarray(wanted, "float32")
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, tolerance, tolerance)


OPEN = [(None, None, SIZE), (None, None)]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("specs", [(), OPEN], ids=["known", "open"])
def test_as_the_cell_step_by_step(name, mask, specs):
    create, arguments, _ = LAYERS[name]
    x = INPUTS.copy()
    if mask is not None:
        x[~mask] = np.nan  # nobody looks at it
    flags = "return_sequences go_backwards use_bias zero_output_for_mask"
    for values in itertools.product([False, True], repeat=4):
        layer = built(create, **arguments, **dict(zip(flags.split(), values)))
        expected = layer(INPUTS, mask=mask)
        compare(compiled(layer, x, mask, specs), expected, 2e-6)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("unroll", [False, True])
def test_masked_steps_before_the_first_that_counts(name, unroll):
    create, arguments, _ = LAYERS[name]
    layer = built(create, **arguments, return_sequences=True, unroll=unroll)
    state = normal(BATCH, UNITS, seed=9)
    states = [state] * (2 if create is layers.LSTM else 1)

    def call(x, mask):
        return layer(x, mask=mask, initial_state=states)

    expected = call(INPUTS, MASK)
    # What is before the first is 0 where Keras on JAX unrolls.
    first = np.zeros((2, UNITS)) if unroll else state[1:]
    np.testing.assert_array_equal(expected[0][1:, 0], first)
    compare(jit(call)(INPUTS, MASK), expected, 2e-6)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_in_halves(name, policy, mask):
    create, arguments, _ = LAYERS[name]
    layer = built(create, dtype=policy, return_sequences=True, **arguments)
    expected = layer(INPUTS, mask=mask)
    compare(compiled(layer, INPUTS, mask), expected, 3e-2)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_one_operation_is_the_whole_loop(name, mask):
    create, arguments, type = LAYERS[name]
    layer = built(create, **arguments)
    arrays = (INPUTS,) if mask is None else (INPUTS, MASK)

    def call(x, mask=None):
        return layer(x, mask=mask)

    types = node_types(trace(call, *arrays, dynamic=(0, 1)))
    assert types.count(type) == 1 and "Loop" not in types


@pytest.mark.parametrize("create", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_both_directions(create, merge_mode, return_sequences):
    inner = create(UNITS, return_sequences=return_sequences, return_state=True)
    layer = randomised(layers.Bidirectional(inner, merge_mode=merge_mode))
    for mask in (None, MASK):
        expected = layer(INPUTS, mask=mask)
        for specs in ((), OPEN):
            results = compiled(layer, INPUTS, mask, specs)
            compare(results, expected, 2e-6)
    types = node_types(trace(layer, INPUTS, dynamic=(0, 1)))
    assert sum(type.endswith("Sequence") for type in types) == 2


@pytest.mark.parametrize("create", [layers.LSTM, layers.GRU])
def test_both_directions_of_a_subclass(create):
    class Doubling(create):
        def call(self, sequences, **kwargs):
            return super().call(2 * sequences, **kwargs)

    forward, backward = (
        Doubling(
            UNITS,
            return_sequences=True,
            activity_regularizer="l2",
            go_backwards=go_backwards,
        )
        for go_backwards in (False, True)
    )
    with saving.custom_object_scope({"Doubling": Doubling}):
        both = layers.Bidirectional(forward, backward_layer=backward)
    model = models.Sequential([layers.Input((None, SIZE)), both])
    expected = model(INPUTS)
    compare([model.predict(INPUTS, verbose=0)], [expected], 2e-6)
    y = np.zeros(expected.shape, "float32")
    losses = []
    for run_eagerly in (False, True):
        model.compile(loss="mse", run_eagerly=run_eagerly)
        losses.append(model.evaluate(INPUTS, y, verbose=0))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0] > np.mean(np.square(expected))  # with the regularizer's


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("units", [1, 6, 16])
def test_a_batch_of_one(name, units):
    # The CPU plugin's Gather from such a batch read what is not its own.
    create, arguments, _ = LAYERS[name]
    layer = create(units, return_sequences=True, **arguments)
    x, mask = INPUTS[1:2], MASK[1:2]
    expected = layer(x, mask=mask)
    for _ in range(3):
        (result,) = run_compiled(
            lambda x, mask: layer(x, mask=mask), x, mask, dynamic=False
        )
        compare([result], [expected], 2e-6)


def test_one_mask_for_all():
    layer = built(layers.GRU, return_sequences=True)
    mask = MASK[1:2]
    expected = layer(INPUTS, mask=mask)
    for specs in ((), OPEN):
        compare(compiled(layer, INPUTS, mask, specs), expected, 2e-6)


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_the_carry_is_held_beside_large_weights(scale):
    layer = built(layers.LSTM)
    for weight in layer.weights:
        weight.assign(scale * weight)
    expected = layer(INPUTS, mask=MASK)
    compare(compiled(layer, INPUTS, MASK), expected, 2e-6)


class OwnStep(layers.GRU):
    """Its step does more than call its cell."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        cell_kwargs = {}

        def step(inputs, states):
            output, states = self.cell(inputs, states, **cell_kwargs)
            return 2 * output + 1, states

        return backend.rnn(
            step, sequences, initial_state, return_all_outputs=True
        )


def test_steps_of_others_remain_loops():
    layer = randomised(OwnStep(UNITS, return_sequences=True))
    expected = layer(INPUTS)
    plain = randomised(layers.GRU(UNITS, return_sequences=True))(INPUTS)
    compare([expected], [2 * plain + 1], 1e-6)
    compare([jit(layer)(INPUTS)], [expected], 2e-6)


def test_cells_that_somebody_changed_remain_loops():
    layer = built(layers.SimpleRNN)
    call = layer.cell.call
    layer.cell.call = lambda inputs, states, training=False: call(
        -inputs, states
    )
    compare(compiled(layer, INPUTS, None), layer(INPUTS), 2e-6)


def test_one_model_for_all_lengths_that_keeps_states():
    traces = []

    class Noting(layers.Layer):
        def call(self, x):
            traces.append(x.shape)
            return x

    model = models.Sequential(
        [
            layers.Input(batch_shape=(BATCH, None, SIZE)),
            Noting(),
            layers.LSTM(UNITS, stateful=True),
        ]
    )
    whole = np.concatenate([INPUTS[:, :n] for n in (2, 3, 5, 7)], axis=1)
    for length in (2, 3, 5, 7):
        result = model.predict_on_batch(INPUTS[:, :length])
        if length == 2:
            count = len(traces)
    assert len(traces) == count
    other = layers.LSTM(UNITS)
    other.build(whole.shape)
    other.set_weights(model.get_weights()[:3])
    compare([result], [other(whole)], 2e-6)


def test_states_go_from_call_to_call():
    layer = built(layers.LSTM, stateful=True, return_sequences=True)
    other = built(layers.LSTM, return_sequences=True)
    other.set_weights(layer.get_weights())
    whole = other(INPUTS)[0]
    first, last = INPUTS[:, :3], INPUTS[:, 3:]
    layer.reset_state()
    call = jit(lambda x: layer(x)[0])
    parts = [np.asarray(call(part)) for part in (first, last)]
    compare([np.concatenate(parts, axis=1)], [whole], 2e-6)


def test_weights_that_the_model_itself_assigns():
    layer = built(layers.GRU)
    kernel = layer.cell.kernel
    expected = layer(INPUTS)

    def call(x):
        kernel.assign(kernel * 2)
        kernel.assign(kernel / 2)
        return layer(x)

    compare(jit(call)(INPUTS), expected, 2e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"activation": lambda x: ops.tanh(x)},
    ],
    ids=["relu", "hard_sigmoid", "own"],
)
def test_other_activations_remain_loops(arguments):
    layer = built(layers.LSTM, **arguments)
    assert "Loop" in node_types(trace(layer, INPUTS, dynamic=(0, 1)))
    compare(compiled(layer, INPUTS, None), layer(INPUTS), 2e-6)


def test_cells_of_other_classes_remain_loops():
    class Doubling(layers.LSTMCell):
        def call(self, inputs, states, training=False):
            return super().call(2 * inputs, states, training)

    layer = layers.RNN(Doubling(UNITS), return_state=True)
    layer = randomised(layer)
    assert "Loop" in node_types(trace(layer, INPUTS, dynamic=(0, 1)))
    compare(compiled(layer, INPUTS, None), layer(INPUTS), 2e-6)


def test_the_cell_alone_is_enough():
    layer = randomised(layers.RNN(layers.GRUCell(UNITS), return_state=True))
    assert "GRUSequence" in node_types(trace(layer, INPUTS))
    compare(compiled(layer, INPUTS, None), layer(INPUTS), 2e-6)


def test_dropout_in_training_remains_a_loop():
    layer = built(layers.SimpleRNN, recurrent_dropout=0.5)
    for training, type in ((True, "Loop"), (False, "RNNSequence")):
        types = node_types(trace(lambda x: layer(x, training=training), INPUTS))
        assert type in types


def test_steps_that_see_no_layer():
    assert sequences.find(np.add) is None
    assert sequences.find(lambda x, states: (x, states)) is None


def test_an_empty_batch():
    layer = built(layers.LSTM, return_sequences=True)
    compare(compiled(layer, INPUTS[:0], None), layer(INPUTS[:0]), 0)
