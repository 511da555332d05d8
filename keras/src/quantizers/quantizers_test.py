import numpy as np
import pytest

from keras.src import backend
from keras.src import ops
from keras.src import quantizers

RANGES = [(0.0, 255.0), (0.5, 128.0), (-128.0, -0.5), (-0.1, 127.4), (-3, 5)]


def quantized(x, low, high, num_bits, narrow_range):
    """`x` on the grid of `num_bits` that has 0 on it and is near the range."""
    first, last = int(narrow_range), 2**num_bits - 1
    step = (np.float64(high) - low) / (last - first)
    zero = np.round(np.clip(first - low / step, first, last))
    code = np.floor(np.float64(x) / step + zero + 0.5)
    return (np.clip(code, first, last) - zero) * step


def inputs_for(low, high, num_bits, narrow_range):
    """Values below, on and between the points of the grid, and above."""
    step = (high - low) / (2**num_bits - 1 - narrow_range)
    places = np.arange(-3, 2**num_bits + 3) + np.array([[0.0], [0.3], [0.7]])
    return (np.round(low / step) + places).astype("float32") * step


@pytest.mark.parametrize("low, high", RANGES)
@pytest.mark.parametrize("num_bits", [4, 7, 8])
@pytest.mark.parametrize("narrow_range", [False, True])
def test_fake_quant_values(low, high, num_bits, narrow_range):
    x = inputs_for(low, high, num_bits, narrow_range).astype("float32")

    def fake_quant(x):
        return quantizers.fake_quant_with_min_max_vars(
            x, low, high, num_bits, narrow_range
        )

    expected = quantized(x, low, high, num_bits, narrow_range)
    np.testing.assert_allclose(fake_quant(x), expected, rtol=1e-5, atol=1e-5)
    if backend.backend() == "openvino":
        from keras.src.backend.openvino.testing import run_compiled

        (result,) = run_compiled(fake_quant, x)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_fake_quant_of_channels(axis):
    lows, highs = np.array(RANGES, "float32").T
    x = np.linspace(-200, 300, 1001, dtype="float32")
    x = np.stack([x * 0.983] * len(RANGES), axis)
    expected = [
        quantized(channel, *limits, 8, False)
        for channel, limits in zip(np.moveaxis(x, axis, 0), RANGES)
    ]
    shape = [1, 1]
    shape[axis] = len(RANGES)
    result = quantizers.fake_quant_with_min_max_vars(
        x, lows.reshape(shape), highs.reshape(shape), axis=axis
    )
    np.testing.assert_allclose(
        result, np.stack(expected, axis), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_fake_quant_of_halves(dtype):
    # These points of the grid, and the values, are exact in both dtypes.
    x = np.array([-9.0, -4.0, -3.75, 0.0, 0.25, 1.125, 11.0, 14.0], "float32")
    result = quantizers.fake_quant_with_min_max_vars(
        ops.cast(x, dtype), -4.0, 11.0, num_bits=4
    )
    assert backend.standardize_dtype(result.dtype) == dtype
    np.testing.assert_array_equal(
        ops.cast(result, "float32"), [-4, -4, -4, 0, 0, 1, 11, 11]
    )


@pytest.mark.skipif(
    backend.backend() != "openvino", reason="uses this backend's tape"
)
def test_fake_quant_gradients():
    from keras.src.backend.openvino.testing import both_ways
    from keras.src.backend.openvino.testing import gradient_of

    def fake_quant(x):
        return quantizers.fake_quant_with_min_max_vars(x, -4.0, 11.0, 4)

    x = np.array([-9, -4.1, -3.9, 0, 10.9, 11.1, 14], "float32")
    for (result,) in both_ways(gradient_of(fake_quant), x):
        np.testing.assert_array_equal(result, [0, 0, 1, 1, 1, 0, 0])
