"""`keras.ops.math` on OpenVINO."""

import builtins
import functools
import math
import statistics

import ml_dtypes
import numpy as np

from keras.src.backend.openvino import kernels
from keras.src.backend.openvino import work
from keras.src.backend.openvino.common import canonical_axes
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.common import in_float32
from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.common import nearest_like
from keras.src.backend.openvino.common import polynomial
from keras.src.backend.openvino.common import reduction
from keras.src.backend.openvino.common import to_float
from keras.src.backend.openvino.composite import composite
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.numpy import absolute
from keras.src.backend.openvino.numpy import arange
from keras.src.backend.openvino.numpy import as_indices
from keras.src.backend.openvino.numpy import broadcast_to
from keras.src.backend.openvino.numpy import concatenate
from keras.src.backend.openvino.numpy import exp
from keras.src.backend.openvino.numpy import expand_dims
from keras.src.backend.openvino.numpy import isfinite
from keras.src.backend.openvino.numpy import isnan
from keras.src.backend.openvino.numpy import log
from keras.src.backend.openvino.numpy import matmul
from keras.src.backend.openvino.numpy import max
from keras.src.backend.openvino.numpy import minimum
from keras.src.backend.openvino.numpy import moveaxis
from keras.src.backend.openvino.numpy import ones
from keras.src.backend.openvino.numpy import pad
from keras.src.backend.openvino.numpy import reshape
from keras.src.backend.openvino.numpy import round
from keras.src.backend.openvino.numpy import sign
from keras.src.backend.openvino.numpy import slogdet
from keras.src.backend.openvino.numpy import sqrt
from keras.src.backend.openvino.numpy import square
from keras.src.backend.openvino.numpy import stack
from keras.src.backend.openvino.numpy import sum
from keras.src.backend.openvino.numpy import swapaxes
from keras.src.backend.openvino.numpy import take
from keras.src.backend.openvino.numpy import transpose
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.registry import find
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import complex_tensor
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote

# ------------------------------------------------------------------- segments


def _segment_kernel(data, ids, count, reduction):
    dtype = data.dtype.name
    result = np.full(
        (int(count),) + data.shape[1:], _neutral(reduction, dtype), data.dtype
    )
    known = (ids >= 0) & (ids < count)
    kernels.REDUCTIONS[reduction].at(result, ids[known], data[known])
    if is_float(dtype) and reduction in _EXTREMES:
        empty = np.bincount(ids[known], minlength=len(result)) == 0
        result[empty] = _of_empty(reduction, dtype)
    return result


_EXTREMES = ("max", "min")


def _neutral(reduction, dtype):
    """What a reduction begins with."""
    if reduction not in _EXTREMES:
        return 0 if reduction == "sum" else 1
    if is_float(dtype):
        return -np.inf if reduction == "max" else np.inf
    return _of_empty(reduction, dtype)


def _of_empty(reduction, dtype):
    """The maximum or minimum of a segment without data: a finite number.

    So Keras has it for this backend, as on TensorFlow.
    """
    bounds = (ml_dtypes.finfo if is_float(dtype) else np.iinfo)(dtype)
    return bounds.min if reduction == "max" else bounds.max


@composite("SegmentReduce", _segment_kernel)
def _segment_reduce(data, ids, count, reduction):
    # One more segment, which is cut off, takes what belongs to none.
    known = (ids >= 0) & (ids < count)
    ids = expand_dims(where(known, ids, count), 1)
    dims = [count + 1, *dims_of(data)[1:]]
    neutral = nearest_like(_neutral(reduction, data.dtype), data)
    result = _scatter(data, ids, neutral, dims, reduction)
    if is_float(data.dtype) and reduction in _EXTREMES:
        # The CPU plugin's maximum and minimum overlook NaN, its sum does not.
        nan = where(isnan(data), data, 0)
        result = result + _scatter(nan, ids, 0, dims, "sum")
        sizes = _scatter(cast(known, "int32"), ids, 0, dims[:1], "sum")
        sizes = reshape(sizes, (-1,) + (1,) * (data.ndim - 1))
        result = where(sizes > 0, result, _of_empty(reduction, data.dtype))
    return result[:-1]


def _scatter(data, ids, neutral, dims, reduction):
    initial = broadcast_to(like(neutral, data), dims)
    return apply("ScatterNDUpdate", initial, ids, data, reduction=reduction)


def _segments(reduction, data, ids, count):
    data = convert_to_tensor(data)
    ids = as_indices(ids, f"segment_{reduction}")
    if count is None:
        # Without ids there are no segments.
        none = convert_to_tensor([-1], dtype=ids.dtype)
        count = max(concatenate([ids, none])) + 1
        count = count if is_symbolic(count) else int(count)
    count = cast(count, ids.dtype)
    if data.dtype == "bool":
        result = _segment_reduce(
            cast(data, "int32"), ids, count, reduction=reduction
        )
        return result > 0
    return _segment_reduce(data, ids, count, reduction=reduction)


def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    return _segments("sum", data, segment_ids, num_segments)


def segment_max(data, segment_ids, num_segments=None, sorted=False):
    return _segments("max", data, segment_ids, num_segments)


def segment_min(data, segment_ids, num_segments=None, sorted=False):
    return _segments("min", data, segment_ids, num_segments)


def segment_prod(data, segment_ids, num_segments=None, sorted=False):
    return _segments("prod", data, segment_ids, num_segments)


# ----------------------------------------------------------------- the largest


def top_k(x, k, sorted=True):
    x = convert_to_tensor(x)
    k = int(k)
    length = x.shape[-1] if x.ndim else 0
    if k < 0 or (length is not None and k > length):
        raise ValueError(
            "`top_k` takes a `k` from 0 to the size of the last dim. "
            f"Received: k={k}, x.shape={x.shape}"
        )
    if k == 0:
        nothing = x[..., :0]
        return nothing, cast(nothing, "int32")
    if x.dtype == "bool":
        values, indices = _top_k(cast(x, "int32"), k)
        return values > 0, indices
    if not (is_symbolic(x) and is_float(x.dtype)):
        return _top_k(x, k)
    # NaN comes first; the CPU plugin does not order it.
    largest = float(ml_dtypes.finfo(x.dtype).max)
    finite = where(isnan(x), np.inf, minimum(x, largest))
    _, indices = _top_k(finite, k)
    return apply("GatherElements", x, indices, axis=x.ndim - 1), indices


def _top_k(x, k):
    return apply(
        "TopK",
        x,
        k,
        axis=-1,
        mode="max",
        sort="value",
        index_element_type="i32",
        stable=True,
    )


def in_top_k(targets, predictions, k):
    targets = convert_to_tensor(targets)
    predictions = to_float(predictions)
    classes = dims_of(predictions)[-1]
    targets = where(targets < 0, targets + classes, targets)
    known = (targets >= 0) & (targets < classes)
    index = cast(where(known, targets, 0), "int32")
    index = expand_dims(index, -1)
    axis = predictions.ndim - 1
    at_target = apply("GatherElements", predictions, index, axis=axis)
    # NaN is no large probability, and neither is that of an unknown class.
    wanted = expand_dims(known, -1) & ~isnan(at_target)
    at_target = where(wanted, at_target, -np.inf)
    larger = sum(cast(predictions > at_target, "int32"), axis=-1)
    return larger < k


# ------------------------------------------------------- sums of many numbers


@in_float32
def logsumexp(x, axis=None, keepdims=False):
    x = to_float(x)
    axes = canonical_axes(axis, x.ndim)
    largest = max(x, axes, keepdims=True, initial=-math.inf)
    largest = where(isfinite(largest), largest, 0)
    total = reduction("ReduceSum", exp(x - largest), axes, True)
    result = log(total) + largest
    return result if keepdims or not axes else apply("Squeeze", result, axes)


@in_float32
def cdist(x, y):
    x, y = promote(x, y, float)
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError(
            "`cdist` takes tensors of at least two dims. "
            f"Received: x.shape={x.shape}, y.shape={y.shape}"
        )
    if x.shape[-1] != y.shape[-1] and None not in (x.shape[-1], y.shape[-1]):
        raise ValueError(
            "`cdist` takes points with as many coordinates in `x` as in `y`. "
            f"Received: x.shape={x.shape}, y.shape={y.shape}"
        )
    difference = expand_dims(x, -2) - expand_dims(y, -3)
    return sqrt(sum(square(difference), axis=-1))


def logdet(x):
    return slogdet(x)[1]


# ------------------------------------------------------------------- sequences


def extract_sequences(x, sequence_length, sequence_stride):
    x = convert_to_tensor(x)
    if x.shape[-1] is not None and x.shape[-1] < sequence_length:
        raise ValueError(
            "`extract_sequences` needs a signal at least as long as a "
            f"sequence. Received: x.shape={x.shape}, "
            f"sequence_length={sequence_length}"
        )
    # Gathered in blocks, as long as those that both sequences and strides
    # are made of: twice as fast as element by element.
    block = math.gcd(sequence_length, sequence_stride)
    x, blocks = _in_blocks(x, block)
    wide, step = sequence_length // block, sequence_stride // block
    starts = arange(0, blocks - wide + 1, step)
    index = expand_dims(starts, 1) + arange(wide)
    sequences = gather(x, index, x.ndim - 2)
    *batch, _, _ = dims_of(x)
    return reshape(sequences, (*batch, -1, sequence_length))


def _in_blocks(x, size):
    """`x` with its last dim cut into blocks, and how many there are."""
    *batch, length = dims_of(x)
    if size > 1:
        # A Range instead of a division, which the CPU plugin rounds.
        ends = arange(size, length + 1, size)
        x = x[..., : ends[-1]]
        length = dims_of(ends)[0]
    return reshape(x, (*batch, length, size)), length


def _overlap_add(sequences, stride):
    """The sum of the sequences, each `stride` after the one before."""
    *batch, _, length = dims_of(sequences)
    parts = -(-length // stride)
    excess = parts * stride - length
    sequences = _pad_end(sequences, -1, excess)
    sequences = reshape(sequences, (*batch, -1, parts, stride))
    # Row i holds the i-th part of each sequence. Padded, and read with rows
    # one shorter, each row begins one place later than the one above.
    rows = _pad_end(swapaxes(sequences, -2, -3), -2, parts)
    rows = reshape(rows, (*batch, -1, stride))[..., :-parts, :]
    rows = reshape(rows, (*batch, parts, -1, stride))
    signal = reshape(sum(rows, axis=-3), (*batch, -1))
    return signal[..., :-excess] if excess else signal


def _pad_end(x, axis, amount):
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, amount)
    return pad(x, widths) if amount else x


# --------------------------------------------------------- Fourier transforms

# Coefficients that the factors of a transform may have; more are left to
# OpenVINO's node, which needs none.
_MOST_COEFFICIENTS = 2**23


def _parts(x):
    """The real and the imaginary part of a complex tensor."""
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(
            "Input `x` should be a tuple of two tensors - real and imaginary. "
            f"Received: x={x}"
        )
    real, imaginary = map(convert_to_tensor, x)
    if real.shape != imaginary.shape:
        raise ValueError(
            "Both the real and imaginary parts should have the same shape. "
            f"Received: {real.shape} and {imaginary.shape}"
        )
    if not (is_float(real.dtype) and is_float(imaginary.dtype)):
        raise ValueError(
            "Both the real and imaginary parts should be floats. "
            f"Received: {real.dtype} and {imaginary.dtype}"
        )
    return promote(real, imaginary)


def _get_complex_tensor_from_tuple(x):
    """The complex tensor of its parts: what `keras.ops.polar` asks for."""
    real, imaginary = _parts(x)
    dtype = "float64" if real.dtype == "float64" else "float32"
    return complex_tensor(cast(real, dtype), cast(imaginary, dtype))


def _complex_fourier_kernel(x, node, axes, size=()):
    transform = find(node).kernel
    return transform(x, np.array(axes), *map(np.array, size))


@composite("ComplexFourier", _complex_fourier_kernel)
def _complex_fourier(x, node, axes, size=()):
    """A transform of complex numbers, their parts in a last dim of two."""
    # The nodes take no float64, which the CPU plugin would narrow anyway.
    result = cast(x, "float32")
    if node == "IRDFT":
        return cast(apply(node, result, axes, *size), x.dtype)
    for axis in axes:
        if _is_power_of_two(x.shape[axis - 1]):
            result = apply(node, result, (axis,))
        else:
            result = _by_real_fourier(result, axis, node == "IDFT")
    return cast(result, x.dtype)


def _is_power_of_two(length):
    return length is not None and length.bit_count() == 1


def _by_real_fourier(x, axis, inverse):
    """The transform of complex numbers along an axis, by those of their parts.

    Of other lengths than powers of two, the CPU plugin's DFT is off by 1e-4 of
    the largest number at 1,000, and its real transform by 1e-7. The spectrum
    of a part has conjugates in its other half.
    """
    x = moveaxis(x, -1, 0)
    real, imaginary = moveaxis(x[0], axis, -1), moveaxis(x[1], axis, -1)
    length = dims_of(real)[-1]
    bins = length // 2 + 1
    mirrored = length - arange(bins, length, dtype="int32")

    def spectrum(part):
        real, imaginary = rfft(part)
        return (
            concatenate([real, take(real, mirrored, -1)], -1),
            concatenate([imaginary, -take(imaginary, mirrored, -1)], -1),
        )

    turn = -1 if inverse else 1
    first, second = spectrum(real), spectrum(imaginary * turn)
    real = first[0] - second[1]
    imaginary = (first[1] + second[0]) * turn
    result = stack([real, imaginary], axis=0)
    if inverse:
        result = result / cast(length, result.dtype)
    return moveaxis(moveaxis(result, -1, axis), 0, -1)


def _complex_transform(node, x, axes):
    x = stack(_parts(x), axis=-1)
    result = _complex_fourier(x, node=node, axes=axes)
    return result[..., 0], result[..., 1]


def fft(x):
    return _complex_transform("DFT", x, (-1,))


def fft2(x):
    return _complex_transform("DFT", x, (-2, -1))


def ifft2(x):
    return _complex_transform("IDFT", x, (-2, -1))


def _real_fourier_kernel(x, length):
    result = np.fft.rfft(x)
    return np.stack([result.real, result.imag])


def _real_fourier_node(x):
    result = apply("RDFT", cast(x, "float32"), (-1,))
    return cast(moveaxis(result, -1, 0), x.dtype)


@composite("RealFourier", _real_fourier_kernel)
def _real_fourier(x, length):
    """The transform of real signals, its parts in a first dim of two.

    In two products with small matrices, as Cooley and Tukey factor it. With a
    length of 1,024, that takes a fifth of the time of the CPU plugin's RDFT,
    and is off by 4e-7 of the largest number, RDFT by 2e-7. RDFT is naive where
    the length is no power of two: with 1,000, the products are 16 times as fast
    and four times as accurate.
    """
    factors = _factors(length)
    if factors is None:
        return _real_fourier_node(x)
    rows, columns, index, *tables = factors
    signs, first, second = [cast(table, x.dtype) for table in tables]
    bins = rows // 2 + 1
    batch = dims_of(x)[:-1]
    x = matmul(first, reshape(x, (-1, rows, columns)))
    x = transpose(reshape(x, (-1, bins, 2 * columns)), (1, 0, 2))
    x = matmul(x, second)
    x = transpose(reshape(x, (bins, -1, 2, columns)), (2, 1, 0, 3))
    x = take(reshape(x, (2, -1, bins * columns)), index, axis=-1) * signs
    return reshape(x, (2, *batch, length // 2 + 1))


@functools.lru_cache(maxsize=64)
def _factors(length):
    """The constants of the transform of a length, `None` for too many.

    The signal is a matrix, x[t] at row t // columns. The product with `first`
    transforms its columns, to `bins` frequencies, since the others mirror
    them. For each of these, the matrix in `second` turns the phases and
    transforms the row. That gives the frequencies in the order `index`, where
    the mirrored ones take the `signs` of a conjugate.
    """
    columns = builtins.max(
        (d for d in range(1, math.isqrt(length) + 1) if length % d == 0),
        default=1,
    )
    rows = length // columns
    bins = rows // 2 + 1
    coefficients = 2 * bins * (rows + 2 * columns**2)
    if length == 0 or coefficients > _MOST_COEFFICIENTS:
        return None
    frequency, row = np.arange(bins)[:, None], np.arange(rows)
    turns = frequency * row % rows / rows
    first = np.stack(_rotation(turns), axis=1).reshape(2 * bins, rows)

    column = np.arange(columns)
    frequencies = (frequency + rows * column)[:, None, :]
    cos, sin = _rotation(frequencies * column[:, None] % length / length)
    second = np.stack([cos, sin, -sin, cos], axis=2)
    second = second.reshape(bins, columns, 2, 2, columns)
    second = second.transpose(0, 2, 1, 3, 4)
    second = second.reshape(bins, 2 * columns, 2 * columns)

    wanted = np.arange(length // 2 + 1)
    direct = wanted % rows < bins
    source = np.where(direct, wanted, length - wanted)
    index = source % rows * columns + source // rows
    signs = np.stack([np.ones_like(wanted), np.where(direct, 1, -1)])
    tables = index, signs[:, None], first, second
    kinds = "int32", "float64", "float64", "float64"
    return rows, columns, *map(convert_to_tensor, tables, kinds)


def _rotation(turns):
    angles = -2 * np.pi * turns
    return np.cos(angles), np.sin(angles)


def _resized(x, length):
    """`x` with its last dim cut, or filled up with zeros."""
    if x.shape[-1] == length:
        return x
    return _pad_end(x, -1, length)[..., :length]


@in_float32
def rfft(x, fft_length=None):
    x = to_float(x)
    if fft_length is not None:
        x = _resized(x, fft_length)
    length = fft_length or x.shape[-1]
    if length is None:
        result = _real_fourier_node(x)
    else:
        result = _real_fourier(x, length=int(length))
    return result[0], result[1]


def irfft(x, fft_length=None):
    real, imaginary = _parts(x)
    size = ()
    if fft_length is not None:
        bins = fft_length // 2 + 1
        real, imaginary = _resized(real, bins), _resized(imaginary, bins)
        size = ((int(fft_length),),)
    x = stack([real, imaginary], axis=-1)
    return _complex_fourier(x, node="IRDFT", axes=(-1,), size=size)


_WINDOWS = {"hann": 0.5, "hamming": 0.54}


def _window(window, sequence_length, fft_length, dtype):
    """The window in the middle of `fft_length` zeros; `None` is all ones."""
    if window is None:
        return ones((fft_length,), dtype)
    if isinstance(window, str):
        if window not in _WINDOWS:
            raise ValueError(
                "If a string is passed to `window`, it must be one of "
                f"{sorted(_WINDOWS)}. Received: window={window!r}"
            )
        mean = _WINDOWS[window]
        turns = np.arange(sequence_length) / sequence_length
        window = mean - (1 - mean) * np.cos(2 * np.pi * turns)
        window = window if sequence_length > 1 else np.ones(1)
    window = convert_to_tensor(window, dtype)
    if window.shape != (sequence_length,):
        raise ValueError(
            "The shape of `window` must be equal to [sequence_length]. "
            f"Received: window.shape={window.shape}, "
            f"sequence_length={sequence_length}"
        )
    before = (fft_length - sequence_length) // 2
    return pad(window, [(before, fft_length - sequence_length - before)])


def stft(
    x, sequence_length, sequence_stride, fft_length, window="hann", center=True
):
    x = convert_to_tensor(x)
    if x.dtype not in ("float32", "float64"):
        raise TypeError(
            "`stft` takes a tensor of dtype `float32` or `float64`. "
            f"Received: x.dtype={x.dtype}"
        )
    if fft_length < sequence_length:
        raise ValueError(
            "`fft_length` must equal or exceed `sequence_length`. Received: "
            f"fft_length={fft_length}, sequence_length={sequence_length}"
        )
    if center:
        x = _reflected(x, fft_length // 2)
    sequences = extract_sequences(x, fft_length, sequence_stride)
    if window is not None:
        sequences *= _window(window, sequence_length, fft_length, x.dtype)
    return rfft(sequences)


def _reflected(x, amount):
    """`x` with `amount` elements before and after it, mirrored."""
    length = x.shape[-1]
    if length is not None and amount >= length:
        # Mirrored more than once, for which OpenVINO has no node.
        index = np.pad(np.arange(length), amount, mode="reflect")
        return take(x, index.astype(np.int32), axis=-1)
    widths = [(0, 0)] * (x.ndim - 1) + [(amount, amount)]
    return pad(x, widths, mode="reflect")


def istft(
    x,
    sequence_length,
    sequence_stride,
    fft_length,
    length=None,
    window="hann",
    center=True,
):
    real, imaginary = _parts(x)
    if real.ndim < 2:
        raise ValueError(
            "`istft` takes tensors of at least two dims. "
            f"Received: x[0].shape={real.shape}"
        )
    sequences = irfft((real, imaginary), fft_length)
    weights = _window(window, sequence_length, fft_length, sequences.dtype)
    signal = _overlap_add(sequences * weights, sequence_stride)
    energy = square(weights)
    energy = broadcast_to(energy, (dims_of(sequences)[-2], fft_length))
    energy = _overlap_add(energy, sequence_stride)
    signal = signal / where(energy > 1e-10, energy, 1)
    if window is None:
        signal = signal * (fft_length / sequence_stride)
    begin = fft_length // 2 if center else 0
    if length is not None:
        return signal[..., begin : begin + length]
    return signal[..., begin:-begin] if begin else signal


# ------------------------------------------------------ powers, error functions


@in_float32
def rsqrt(x):
    return 1 / sqrt(to_float(x))


# Its relative error is 1e-9: erf(x) / x in x**2, for |x| <= 1.
_ERF = (
    1.12837917, -0.376126258, 0.112835851, -0.0268538119, 0.00518832767,
    -0.000801019352, 7.853861e-05,
)  # fmt: skip

# Its relative error is 1e-8: erfc(x) * exp(x**2) * (x + 2) in
# (x - 2) / (x + 2), for 0.5 <= x <= 11.
_ERFCX = (
    1.02158272, -0.687160683, 0.279470972, -0.0364418492, -0.0214929886,
    0.00647239489, 0.00299543029, -0.000805685605, -0.000462152295,
)  # fmt: skip


def _erf_near_zero(x):
    return x * polynomial(_ERF, square(x))


def _erfc_of_positive(x):
    x = minimum(x, 11.0)
    scaled = polynomial(_ERFCX, (x - 2) / (x + 2)) / (x + 2)
    # The square of the coarse part is exact, and that of the rest is small.
    coarse = round(x * 16) * (1 / 16)
    rest = (x - coarse) * (x + coarse)
    return exp(-square(coarse)) * exp(-rest) * scaled


@composite("ErrorFunction", kernels.erf, work=work.error_function)
def _erf(x):
    # The CPU plugin's Erf is off by 5e-7, whatever is left of small values.
    magnitude = absolute(x)
    far = sign(x) * (1 - _erfc_of_positive(magnitude))
    return where(magnitude < 1, _erf_near_zero(x), far)


@in_float32
def erf(x):
    return _erf(to_float(x))


@composite("ComplementaryErrorFunction", kernels.erfc, work=work.error_function)
def _erfc(x):
    magnitude = absolute(x)
    tail = _erfc_of_positive(magnitude)
    far = where(x < 0, 2 - tail, tail)
    return where(magnitude < 0.5, 1 - _erf_near_zero(x), far)


@in_float32
def erfc(x):
    return _erfc(to_float(x))


# Their relative error is 2e-8: erfinv(x) / x in w = -log(1 - x**2), in
# w / 2.5 - 1 where w <= 5, else in sqrt(w) - 3.2.
_ERFINV = (
    1.50140936, 0.616600715, -0.0261086674, -0.0195740919, 0.00852907963,
    -0.000484701701, -0.000845386843, 0.000284527667, 3.54501707e-05,
    -3.35350715e-05,
)  # fmt: skip
_ERFINV_TAIL = (
    3.03363653, 1.0046925, 0.00597586573, -0.00429484451, 0.00292697807,
    -0.00199096085, 0.00115337909, -0.000361465979, -0.000112397637,
    0.000100987253,
)  # fmt: skip


def _erfinv_of_number(x):
    if not -1 < x < 1:
        return x * math.inf if abs(x) == 1 else math.nan
    magnitude = abs(x)
    y = -_NORMAL.inv_cdf((1 - magnitude) / 2) / math.sqrt(2)
    if magnitude < 0.5:
        # Newton's step for the digits that the difference from 1 lost.
        slope = 2 / math.sqrt(math.pi) * math.exp(-y * y)
        y -= (math.erf(y) - magnitude) / slope
    return math.copysign(y, x)


_NORMAL = statistics.NormalDist()


@composite(
    "InverseErrorFunction",
    np.frompyfunc(_erfinv_of_number, 1, 1),
    work=work.error_function,
)
def _erfinv(x):
    magnitude = absolute(x)
    w = -log((1 - magnitude) * (1 + magnitude))
    near = polynomial(_ERFINV, w * 0.4 - 1)
    far = polynomial(_ERFINV_TAIL, sqrt(w) - 3.2)
    return x * where(magnitude == 1, math.inf, where(w <= 5, near, far))


@in_float32
def erfinv(x):
    return _erfinv(to_float(x))
