"""64 bits at the inputs and outputs of compiled models."""

import numpy as np
import pytest

from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import run_compiled

FLOATS = np.array([1, -np.inf, np.inf, np.nan, 1e300, -1e300, 3.5, 0])


@pytest.mark.parametrize("dynamic", [False, True])
def test_infinities_go_in_and_out(dynamic):
    (result,) = run_compiled(lambda x: x + 0.0, FLOATS, dynamic=dynamic)
    with np.errstate(over="ignore"):
        wanted = FLOATS.astype("float32").astype("float64")
    assert result.dtype == "float64"
    np.testing.assert_array_equal(result, wanted)


def test_constants_are_infinite():
    bound = np.where(np.isnan(FLOATS), np.inf, -np.inf)
    (result,) = run_compiled(lambda x: numpy.maximum(x, bound) + 0.0, FLOATS)
    assert np.isnan(result[3]) and np.isneginf(result[1])
    (result,) = run_compiled(lambda x: numpy.where(x > 2, np.inf, x), FLOATS)
    assert np.isposinf(result[[2, 4, 6]]).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_that_do_not_fit_are_refused(dtype):
    double = jit(lambda x: x * 2)
    x = np.array([3, 2**30], dtype)
    assert np.asarray(double(x[:1])).tolist() == [6]
    assert double(x).dtype == dtype
    with pytest.raises(ValueError, match="input 1099511627776 does not fit"):
        double(np.array([3, 2**40], dtype))


def test_what_is_only_passed_on_keeps_its_bits():
    x = np.array([2**60, -(2**62)])
    same, doubled = jit(lambda x, y: (x, y * 2))(x, np.float64(1.5))
    assert np.asarray(same).tolist() == x.tolist()
    assert doubled.dtype == "float64" and float(doubled) == 3


def test_empty_arrays_fit():
    (result,) = run_compiled(
        lambda x: numpy.concatenate([x, x]), np.zeros((0, 2), "int64")
    )
    assert result.shape == (0, 2) and result.dtype == "int64"
