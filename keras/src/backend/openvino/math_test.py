import math

import numpy as np
import pytest

import keras
from keras.src import ops
from keras.src.backend.openvino import math as ov_math
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.graph import Trace
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace


def ulps(result, reference):
    spacing = np.spacing(np.abs(reference).astype(np.float32))
    return np.max(np.abs(result.astype(np.float64) - reference) / spacing)


def test_every_function_of_the_jax_backend():
    names = (
        "cdist erf erfc erfinv extract_sequences fft fft2 ifft2 in_top_k irfft "
        "istft logdet logsumexp rfft rsqrt segment_max segment_min "
        "segment_prod segment_sum stft top_k"
    )
    assert all(callable(getattr(ov_math, name)) for name in names.split())


# ------------------------------------------------------------------- segments


@pytest.mark.parametrize("count", [None, 3, 300])
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"]
)
def test_segment_ids_of_any_dtype(dtype, count):
    ids = np.array([0, 2, 2, 1], dtype)
    data = normal(4, 2)
    wanted = np.zeros((count or 3, 2), "float32")
    np.add.at(wanted, ids.astype(int), data)
    check(lambda x, i: ops.segment_sum(x, i, count), [data, ids], wanted)
    products = np.ones((count or 3, 2), "float32")
    np.multiply.at(products, ids.astype(int), data)
    check(lambda x, i: ops.segment_prod(x, i, count), [data, ids], products)
    with pytest.raises(TypeError, match="integer indices"):
        ops.segment_sum(data, ids.astype("float32"), count)


def test_segments_of_no_ids():
    for dtype in ("uint8", "uint32", "int32"):
        assert ops.segment_sum(ops.ones(0), np.zeros(0, dtype)).shape == (0,)


IDS = np.array([0, 2, -1, 7, 2, 0, -9, 4], "int32")


@pytest.mark.parametrize("dtype", ["float32", "int32", "int8", "int64"])
@pytest.mark.parametrize("count", [4, None])
@pytest.mark.parametrize(
    "name,ufunc,neutral",
    [
        ("sum", np.add, 0),
        ("prod", np.multiply, 1),
        ("max", np.maximum, "min"),
        ("min", np.minimum, "max"),
    ],
)
def test_segments(name, ufunc, neutral, count, dtype):
    data = np.arange(-8, 8).reshape(8, 2).astype(dtype)
    if isinstance(neutral, str):
        bounds = (np.finfo if dtype == "float32" else np.iinfo)(dtype)
        neutral = getattr(bounds, neutral)
        if dtype == "int64":
            neutral = getattr(
                np.iinfo("int64"), "min max".split()[name == "min"]
            )
    expected = np.full((count or 8, 2), neutral, dtype)
    for row, i in zip(data, IDS):
        if 0 <= i < len(expected):
            expected[i] = ufunc(expected[i], row)

    def op(data, ids):
        return getattr(ops, f"segment_{name}")(data, ids, count)

    eager = np.asarray(op(data, IDS))
    np.testing.assert_array_equal(eager, expected)
    assert eager.dtype == dtype
    if dtype != "int64":  # which the CPU plugin narrows
        np.testing.assert_array_equal(run_compiled(op, data, IDS)[0], expected)


def test_segments_of_nan_infinities_and_nothing():
    data = np.array([np.nan, 1, -np.inf, np.inf, 2], "float32")
    ids = np.array([0, 0, 1, 2, 2], "int32")
    lowest = np.finfo("float32").min

    def op(data, ids):
        return ops.segment_max(data, ids, 4)

    check(op, (data, ids), np.array([np.nan, -np.inf, np.inf, lowest]))
    nothing = ops.segment_sum(data[:0], ids[:0])
    assert nothing.shape == (0,)


def test_segments_stay_exact_in_64_bits():
    data = np.array([2**53, 1], "int64")
    assert int(ops.segment_sum(data, np.array([0, 0]))[0]) == 2**53 + 1


# ----------------------------------------------------------------- the largest


def test_top_k_orders_ties_and_nan_as_jax():
    x = np.array(
        [
            [1, np.nan, 3, np.inf, 3, 3],
            [np.nan, 1, np.nan, 2, 3, 4],
            [-np.inf] * 6,
            [np.inf, np.inf, np.inf, np.nan, 0, 1],
        ],
        "float32",
    )
    indices = np.array([[1, 3, 2], [0, 2, 5], [0, 1, 2], [3, 0, 1]])
    values = np.take_along_axis(x, indices, -1)
    check(lambda t: ops.top_k(t, 3), [x], (values, indices))


def test_top_k_of_integers_and_booleans():
    x = np.array([2**24, 2**24 + 1, 2**31 - 1, 2**31 - 2], "int32")
    check(lambda t: ops.top_k(t, 3), [x], (x[[2, 3, 1]], [2, 3, 1]))
    x = np.array([False, True, False, True])
    check(lambda t: ops.top_k(t, 3), [x], ([True, True, False], [1, 3, 0]))
    x = np.array([2**53, 2**53 + 1], "int64")
    assert np.asarray(ops.top_k(x, 1)[1]).tolist() == [1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_top_k_of_halves(dtype):
    x = ops.convert_to_numpy(ops.cast([1.5, np.nan, np.inf, -2, 3], dtype))
    check(lambda t: ops.top_k(t, 3), [x], (x[[1, 2, 4]], [1, 2, 4]))


def test_top_k_bounds():
    check(lambda t: ops.top_k(t, 0), [normal(2, 3)], (np.ones((2, 0)),) * 2)
    with pytest.raises(ValueError, match="top_k"):
        ops.top_k(normal(2, 3), 4)


def test_in_top_k():
    nan = np.nan
    predictions = np.array(
        [[0.1, 0.9, 0.9], [nan, 0.2, 0.1], [0.5, nan, 0.1], [1, 2, 3]],
        "float32",
    )
    targets = np.array([2, 0, 0, 5], "int32")
    expected = np.array([True, False, True, False])

    def op(targets, predictions):
        return ops.in_top_k(targets, predictions, 1)

    check(op, (targets, predictions), expected)


# ------------------------------------------------------------------------ sums


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp(axis, keepdims):
    x = np.array([[1, 2, 1e4], [0, -1e4, 3], [1, 2, 3]], "float32")
    largest = x.astype("float64").max(axis, keepdims=True)
    total = np.exp(x - largest).sum(axis, keepdims=True)
    expected = np.log(total) + largest
    if not keepdims:
        expected = np.squeeze(expected, axis)
    check(lambda t: ops.logsumexp(t, axis, keepdims), [x], expected)


def test_logsumexp_of_infinities():
    inf = np.inf
    x = np.array([[-inf, -inf], [inf, 1], [np.nan, 1], [-inf, 2]], "float32")
    expected = np.array([-inf, inf, np.nan, 2])
    check(lambda t: ops.logsumexp(t, axis=1), [x], expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_logsumexp_dtypes(dtype):
    x = ops.cast(np.array([1, 2, 3]), dtype)
    result = ops.logsumexp(x)
    assert result.dtype == ("float32" if dtype == "int32" else dtype)
    assert float(result) == pytest.approx(3.40760596, rel=4e-3)


def test_cdist():
    x, y = normal(2, 4, 3), normal(2, 5, 3, seed=1)
    expected = np.linalg.norm(x[:, :, None] - y[:, None], axis=-1)
    check(ops.cdist, (x, y), expected)
    same = np.asarray(ops.cdist(x, x))
    assert (np.diagonal(same, axis1=1, axis2=2) == 0).all()
    with pytest.raises(ValueError, match="cdist"):
        ops.cdist(x, y[..., :2])


def test_logdet():
    x = normal(3, 4, 4)
    x = x @ x.swapaxes(1, 2) + np.eye(4, dtype="float32")
    check(ops.logdet, [x], np.linalg.slogdet(x)[1], rtol=1e-5)


# ------------------------------------------------------------------- sequences


@pytest.mark.parametrize("length,stride", [(5, 3), (6, 4), (8, 4), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_extract_sequences(length, stride, dtype):
    x = np.arange(3 * 29).reshape(3, 29).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(x, length, axis=-1)

    def op(x):
        return ops.extract_sequences(x, length, stride)

    check(op, [x], windows[:, ::stride])
    check(op, [x[0]], windows[0, ::stride])


def test_extract_sequences_of_a_short_signal():
    with pytest.raises(ValueError, match="extract_sequences"):
        ops.extract_sequences(normal(4), 5, 1)


# --------------------------------------------------------- Fourier transforms


@pytest.mark.parametrize("name", ["fft", "fft2", "ifft2"])
def test_complex_transforms(name):
    real, imaginary = normal(2, 5, 6), normal(2, 5, 6, seed=1)
    expected = getattr(np.fft, name)(real + 1j * imaginary)

    def op(real, imaginary):
        return getattr(ops, name)((real, imaginary))

    parts = expected.real, expected.imag
    check(op, (real, imaginary), parts, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["fft", "fft2", "ifft2"])
@pytest.mark.parametrize("length", [1, 7, 97, 256, 1000])
@pytest.mark.parametrize("dynamic", [False, True])
def test_complex_transforms_are_accurate(name, length, dynamic):
    real, imaginary = normal(3, length), normal(3, length, seed=1)
    expected = getattr(np.fft, name)(real.astype("float64") + 1j * imaginary)

    def op(real, imaginary):
        return getattr(ops, name)((real, imaginary))

    real, imaginary = run_compiled(op, real, imaginary, dynamic=dynamic)
    error = np.abs(real + 1j * imaginary - expected).max()
    assert error < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("length", [1, 2, 7, 12, 97, 100, 256, 1000, 2053])
def test_rfft_is_accurate_for_every_length(length):
    x = normal(4, length)
    expected = np.fft.rfft(x.astype("float64"))
    scale = np.abs(expected).max()
    # One dynamic dim: the length is what a model knows.
    eager = [np.asarray(y) for y in ops.rfft(x)]
    compiled = run_compiled(lambda t: ops.rfft(t, length), x)
    for real, imaginary in (eager, compiled):
        error = np.abs(real + 1j * imaginary - expected).max()
        assert error < 2e-6 * scale


@pytest.mark.parametrize("length", [None, 3, 10, 11, 15])
def test_rfft_and_irfft_crop_and_pad(length):
    x, y = normal(2, 6), normal(2, 6, seed=1)
    expected = np.fft.rfft(x, length)
    parts = expected.real, expected.imag
    check(lambda t: ops.rfft(t, length), [x], parts, rtol=1e-5, atol=1e-5)

    def inverse(real, imaginary):
        return ops.irfft((real, imaginary), length)

    expected = np.fft.irfft(x + 1j * y, length)
    check(inverse, (x, y), expected, rtol=1e-5, atol=1e-5)


def test_transforms_are_exact_in_float64():
    x = normal(3, 50, dtype="float64")
    real, imaginary = ops.rfft(x)
    expected = np.fft.rfft(x)
    np.testing.assert_allclose(real, expected.real, rtol=1e-12, atol=1e-12)
    restored = ops.irfft((real, imaginary), 50)
    assert restored.dtype == "float64"
    np.testing.assert_allclose(restored, x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_transforms_of_halves(dtype):
    x = ops.cast(normal(2, 12), dtype)
    real, imaginary = ops.rfft(x)
    assert real.dtype == dtype
    restored = ops.irfft((real, imaginary))
    assert restored.dtype == dtype
    np.testing.assert_allclose(
        ops.cast(restored, "float32"), ops.cast(x, "float32"), atol=0.03
    )


def test_a_real_transform_is_two_products():
    model = trace(lambda t: ops.rfft(t, 1000), normal(2, 1000))
    types = node_types(model)
    assert types.count("MatMul") == 2
    assert "RDFT" not in types


@pytest.mark.parametrize(
    "x", [np.ones(3), (np.ones(3),), (np.ones(3), np.ones(2)), ([1], [2])]
)
def test_complex_operands_are_checked(x):
    with pytest.raises(ValueError, match="real and imaginary"):
        ov_math.fft(x)


def hann(length, size):
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    before = (size - length) // 2
    return np.pad(window, (before, size - length - before))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(
    "length,stride,size",
    [(32, 8, 32), (20, 7, 32), (400, 160, 512), (8, 12, 8), (25, 10, 25)],
)
def test_stft_and_istft(length, stride, size, center):
    x = normal(2, 3, 1600)
    signal = x.astype("float64")
    if center:
        widths = [(0, 0), (0, 0), (size // 2, size // 2)]
        signal = np.pad(signal, widths, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(signal, size, axis=-1)
    expected = np.fft.rfft(frames[:, :, ::stride] * hann(length, size))

    def forth(x):
        return ops.stft(x, length, stride, size, "hann", center)

    check(forth, [x], (expected.real, expected.imag), rtol=1e-5, atol=3e-5)

    def back(real, imaginary):
        return ops.istft(
            (real, imaginary), length, stride, size, None, "hann", center
        )

    parts = [np.asarray(y) for y in forth(x)]
    for (restored,) in both_ways(back, *parts):
        assert restored.shape[-1] <= x.shape[-1]
        inner = slice(size, restored.shape[-1] - size)
        if stride <= length // 2:
            np.testing.assert_allclose(
                restored[..., inner], x[..., inner], atol=1e-5
            )


@pytest.mark.parametrize("window", ["hamming", None, np.hanning(16)])
def test_stft_windows(window):
    x = normal(100)
    if window is None:
        weights = np.ones(16)
    elif isinstance(window, str):
        weights = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(16) / 16)
    else:
        weights = window
    frames = np.lib.stride_tricks.sliding_window_view(x, 16)[::4]
    expected = np.fft.rfft(frames * weights)

    def op(x):
        return ops.stft(x, 16, 4, 16, window, False)

    check(op, [x], (expected.real, expected.imag), rtol=1e-5, atol=1e-5)


def test_stft_of_a_signal_shorter_than_its_padding():
    x = normal(5)
    real, imaginary = ops.stft(x, 8, 2, 16)
    frames = np.pad(x.astype("float64"), 8, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(frames, 16)[::2]
    expected = np.fft.rfft(frames * hann(8, 16))
    np.testing.assert_allclose(real, expected.real, atol=1e-5)
    np.testing.assert_allclose(imaginary, expected.imag, atol=1e-5)


def test_istft_length_and_a_single_sample():
    x = normal(2, 400)
    result = ops.istft(ops.stft(x, 32, 8, 32), 32, 8, 32, length=300)
    np.testing.assert_allclose(result, x[:, :300], atol=1e-5)
    x = np.arange(5.0, dtype="float32")
    np.testing.assert_allclose(ops.istft(ops.stft(x, 1, 1, 1), 1, 1, 1), x)


@pytest.mark.parametrize(
    "arguments,error,message",
    [
        ((np.ones(9, "int32"), 4, 2, 4), TypeError, "`float32` or `float64`"),
        ((normal(9), 4, 2, 3), ValueError, "`fft_length`"),
        ((normal(9), 4, 2, 4, "kaiser"), ValueError, "a string is passed"),
        ((normal(9), 4, 2, 4, np.ones(3)), ValueError, "shape of `window`"),
    ],
)
def test_stft_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        ops.stft(*arguments)


def test_specs_of_unknown_lengths():
    with Trace(Operations()):
        x = symbolic("float32", (None, None))
        real, imaginary = ov_math.stft(x, 16, 4, 16)
        assert real.shape == imaginary.shape == (None, None, 9)
        assert ov_math.istft((real, imaginary), 16, 4, 16).ndim == 2


@pytest.mark.parametrize("batch,length", [(1, 4000), (3, 2501)])
def test_a_model_that_begins_with_a_mel_spectrogram(batch, length):
    layer = keras.layers.MelSpectrogram(
        fft_length=256, sequence_stride=64, num_mel_bins=20, sampling_rate=8000
    )
    inputs = keras.Input((None,))
    model = keras.Model(inputs, layer(inputs))
    x = normal(batch, length)
    result = model.predict(x, verbose=0)
    np.testing.assert_allclose(result, layer(x), atol=1e-3)
    assert result.shape == (batch, 20, length // 64 + 1)


@pytest.mark.parametrize("mode", ["log", "magnitude", "angle", "stft"])
def test_a_model_that_begins_with_an_stft(mode):
    layer = keras.layers.STFTSpectrogram(
        mode,
        frame_length=64,
        frame_step=16,
        fft_length=128,
        periodic=True,
        scaling=None,
    )
    inputs = keras.Input((None, 1))
    model = keras.Model(inputs, layer(inputs))
    for batch, length in ((2, 500), (1, 777)):
        x = normal(batch, length, 1)
        result = model.predict(x, verbose=0)
        assert result.shape[:2] == (batch, 1 + (length - 64) // 16)
        if mode == "magnitude":
            frames = np.lib.stride_tricks.sliding_window_view(x[..., 0], 64, 1)
            spectrum = np.fft.rfft(frames[:, ::16] * hann(64, 64), 128)
            np.testing.assert_allclose(result, np.abs(spectrum), atol=1e-3)


# -------------------------------------------------------------- error functions

EDGES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 2, -2], "float32")


@pytest.mark.parametrize(
    "op,reference,low,high,most",
    [
        (ops.erf, math.erf, 1e-30, 10, 3),
        (ops.erfc, math.erfc, 1e-30, 9, 10),
    ],
)
def test_error_functions(op, reference, low, high, most):
    x = np.geomspace(low, high, 500).astype("float32")
    x = np.concatenate([-x, x])
    expected = np.array([reference(v) for v in x.tolist()])
    eager, compiled = both_ways(op, x)
    assert ulps(eager[0], expected) <= 1
    assert ulps(compiled[0], expected) <= most
    edges = np.array([reference(v) for v in EDGES.tolist()])
    check(op, [EDGES], edges)


def test_erfinv():
    y = np.concatenate([np.linspace(-3.7, 3.7, 999), np.geomspace(1e-30, 1)])
    x = np.array([math.erf(v) for v in y]).astype("float32")
    x = x[np.abs(x) < 1]
    eager, compiled = both_ways(ops.erfinv, x)
    wide = np.asarray(ops.erfinv(x.astype("float64")))
    assert ulps(eager[0], wide) <= 1
    assert ulps(compiled[0], wide) <= 5
    inf, nan = np.inf, np.nan
    edges = np.array([nan, nan, nan, 0.0, -0.0, inf, -inf, nan, nan])
    check(ops.erfinv, [EDGES], edges)


def test_erfinv_inverts_erf_in_float64():
    x = np.concatenate([np.linspace(-5, 5, 101), [1e-300, 1e-20, 1e-8]])
    p = np.array([math.erf(v) for v in x])
    slope = 2 / math.sqrt(math.pi) * np.exp(-x * x)
    # `p` is off by half an ulp, which the slope magnifies.
    bound = 2 * np.spacing(np.abs(p)) / slope + 4 * np.spacing(np.abs(x))
    assert (np.abs(np.asarray(ops.erfinv(p)) - x) <= bound).all()


@pytest.mark.parametrize("op", [ops.erf, ops.erfc, ops.erfinv, ops.rsqrt])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_error_function_dtypes(op, dtype):
    x = ops.cast(np.array([1]), dtype)
    expected = "float32" if dtype == "int32" else dtype
    assert op(x).dtype == expected
    assert op(x[:0]).shape == (0,)


def test_rsqrt():
    x = np.array([4, 0.25, 0, -1, np.inf, 2], "float32")
    expected = np.array([0.5, 2, np.inf, np.nan, 0, 1 / np.sqrt(2)])
    check(ops.rsqrt, [x], expected)
