"""Steps over time, against a loop in NumPy."""

import numpy as np
import pytest

from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.rnn import rnn
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import normal

BATCH, TIME, SIZE = 3, 5, 4
INPUTS = normal(BATCH, TIME, SIZE)
STATES = normal(BATCH, SIZE, seed=1), normal(BATCH, SIZE, seed=2)
CONSTANT = normal(BATCH, SIZE, seed=3)
MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)


def cell(module):
    """A step of a module that has `tanh`: two states, and a constant or not."""

    def step(x, states):
        first, second, *constants = states
        new = module.tanh(x + 0.5 * first - 0.25 * second)
        for constant in constants:
            new = new * constant
        return new + second, (new, first)

    return step


def in_numpy(x, states, *, go_backwards, mask, constants, zero_output, unroll):
    """The last output, all outputs and the states, batch first."""
    step, outputs = cell(np), []
    times = range(x.shape[1])
    for t in reversed(times) if go_backwards else times:
        output, new = step(x[:, t], (*states, *constants))
        if mask is not None:
            keep = mask[:, t, None]
            if zero_output:
                otherwise = np.zeros_like(output)
            elif unroll:
                otherwise = outputs[-1] if outputs else np.zeros_like(output)
            else:
                otherwise = states[0]
            output = np.where(keep, output, otherwise)
            new = [np.where(keep, a, b) for a, b in zip(new, states)]
        states = new
        outputs.append(output)
    return outputs[-1], np.stack(outputs, axis=1), states


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("constants", [(), (CONSTANT,)], ids=["", "constant"])
def test_as_a_loop(unroll, go_backwards, mask, zero_output, constants):
    expected = in_numpy(
        INPUTS,
        STATES,
        go_backwards=go_backwards,
        mask=mask,
        constants=constants,
        zero_output=zero_output,
        unroll=unroll,
    )

    def run(x, *states):
        return rnn(
            cell(numpy),
            x,
            states,
            go_backwards=go_backwards,
            mask=None if mask is None else convert_to_tensor(mask),
            constants=list(map(convert_to_tensor, constants)),
            unroll=unroll,
            zero_output_for_mask=zero_output,
        )

    open_time = [(None, None, SIZE)]
    for function in (run, jit(run), jit(run, open_time)):
        last, outputs, states = function(
            *map(convert_to_tensor, (INPUTS, *STATES))
        )
        compare((last, outputs, *states), (*expected[:2], *expected[2]))


def compare(results, expected):
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)
        assert result.shape == wanted.shape


@pytest.mark.parametrize("unroll", [False, True])
def test_time_may_come_first(unroll):
    turned = np.ascontiguousarray(INPUTS.swapaxes(0, 1))
    last, outputs, states = rnn(cell(numpy), INPUTS, STATES, unroll=unroll)
    others = rnn(cell(numpy), turned, STATES, unroll=unroll, time_major=True)
    compare((others[0], *others[2]), (np.asarray(last), *map(np.array, states)))
    compare((others[1],), (np.asarray(outputs).swapaxes(0, 1),))


def test_only_the_last_output():
    last, outputs, _ = rnn(
        cell(numpy), INPUTS, STATES, return_all_outputs=False
    )
    assert outputs.shape == (BATCH, 1, SIZE)
    np.testing.assert_array_equal(np.asarray(outputs)[:, 0], last)


def test_no_steps_cannot_be_unrolled():
    with pytest.raises(ValueError, match="Unrolling"):
        rnn(cell(numpy), INPUTS[:, :0], STATES, unroll=True)
