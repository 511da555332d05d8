import numpy as np
import pytest

from keras.src import ops
from keras.src.backend.openvino.gradient import GradientTape
from keras.src.backend.openvino.gradient import jvp
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import normal
from keras.src.random import random

NORMALS = (random.normal, random.truncated_normal)
WEIGHTS = normal(4, 3)


def derivatives(draw, dtype):
    """A function that gives the gradients and the tangent of a draw."""

    def both(first, second):
        def function(first, second):
            return draw((4, 3), first, second, dtype=dtype, seed=7)

        with GradientTape() as tape:
            tape.watch([first, second])
            y = function(first, second)
        weights = ops.convert_to_tensor(WEIGHTS)
        gradients = tape.gradient(y, [first, second], weights)
        tangents = [ops.full_like(first, 2), ops.full_like(second, 3)]
        return *gradients, jvp(function, [first, second], tangents)[1]

    return both


@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-5), ("float16", 5e-3)])
@pytest.mark.parametrize("stddev", [0.0, 2.0])
@pytest.mark.parametrize("draw", NORMALS)
def test_by_mean_and_deviation(draw, stddev, dtype, rtol):
    standard = np.asarray(draw((4, 3), dtype=dtype, seed=7)).astype("float32")
    expected = (
        WEIGHTS.sum(axis=0),
        np.sum(WEIGHTS * standard),
        2 + 3 * standard,
    )
    operands = [np.ones(3, dtype), np.array(stddev, dtype)]
    check(derivatives(draw, dtype), operands, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    "low, high, share", [(-1.0, 2.0, 1), (1.0, 1.0, 0.5), (2.0, 1.0, 0)]
)
def test_by_bounds(low, high, share):
    # As JAX draws: of bounds in the wrong order, the lower one.
    standard = share * np.asarray(random.uniform((4, 3), seed=7))
    expected = (
        np.sum(WEIGHTS * (1 - standard), axis=1, keepdims=True),
        np.sum(WEIGHTS * standard),
        2 + standard,
    )
    operands = [np.full((4, 1), low, "float32"), np.float32(high)]
    both = derivatives(random.uniform, "float32")
    check(both, operands, expected, rtol=1e-5, atol=1e-5)
