"""What each OpenVINO operation computes, said in NumPy.

`interpret` uses these for small work and for 64-bit arithmetic, which the CPU
plugin would narrow. A kernel takes the input arrays in OpenVINO's order and
the node's attributes as keywords; the caller widens float16 and bfloat16 to
float32 before, and converts the result to the dtype that the node infers.
Operations that are missing here are compiled.
"""

import itertools
import math

import numpy as np

from keras.src.backend.openvino.dtypes import from_ov_name
from keras.src.backend.openvino.dtypes import from_pairs
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import real_part_for
from keras.src.backend.openvino.dtypes import to_pairs

# ---------------------------------------------------------------- arithmetic


def divide(x1, x2):
    is_integer = x1.dtype.kind in "iu"
    return (np.floor_divide if is_integer else np.divide)(x1, x2)


def power(x1, x2):
    if x2.dtype.kind == "i" and np.any(x2 < 0):
        # Only 1 and -1 have an integer for their inverse.
        magnitude = np.where(np.abs(x1) == 1, x1, 0)
        return np.where(x2 < 0, magnitude ** np.abs(x2), x1 ** np.abs(x2))
    y = np.power(x1, x2)
    if x2.dtype.kind == "f" and np.any(x2 == 0.5):
        # NumPy takes the square root, which is NaN of -inf and -0 of -0.
        differs = (x2 == 0.5) & ((x1 == -np.inf) | (x1 == 0))
        if differs.any():
            y = np.where(differs, np.abs(x1), y)
    return y


def convert(x, destination_type):
    dtype = numpy_dtype(from_ov_name(destination_type))
    return (
        x != 0 if dtype.kind == "b" else real_part_for(x, dtype).astype(dtype)
    )


def round_to_whole(x, mode="half_to_even"):
    if mode == "half_to_even":
        return np.round(x)
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)


def clamp(x, min, max):
    return np.clip(x, min, max)


erf = np.frompyfunc(math.erf, 1, 1)
erfc = np.frompyfunc(math.erfc, 1, 1)

# --------------------------------------------------------------- activations


def sigmoid(x):
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decay) / (1 + decay)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x, alpha, scale):
    return scale * elu(x, alpha)


def swish(x):
    return x * sigmoid(x)


def gelu(x, approximation_mode="erf"):
    if approximation_mode.lower() == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + np.tanh(inner))
    return 0.5 * x * np.asarray(erfc(-x / math.sqrt(2)), x.dtype)


def prelu(x, slope):
    if slope.ndim == 1 and x.ndim > 1 and slope.size > 1:
        slope = slope.reshape((-1,) + (1,) * (x.ndim - 2))
    return np.where(x < 0, x * slope, x)


def softmax(x, axis=1):
    if x.size == 0:
        return x
    exponential = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return exponential / np.sum(exponential, axis=axis, keepdims=True)


def log_softmax(x, axis=-1):
    if x.size == 0:
        return x
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


# ---------------------------------------------------------------- reductions


def reduction(function):
    def kernel(x, axes, keep_dims=False):
        axes = tuple(axes.tolist()) if axes.ndim else axes.item()
        return function(x, axis=axes, keepdims=keep_dims)

    return kernel


def l1(x, axis, keepdims):
    return np.sum(np.abs(x), axis=axis, keepdims=keepdims)


def l2(x, axis, keepdims):
    square = (x * x.conj()).real if x.dtype.kind == "c" else x * x
    return np.sqrt(np.sum(square, axis=axis, keepdims=keepdims))


def cum_sum(x, axis, exclusive=False, reverse=False):
    axis = int(axis)
    ordered = np.flip(x, axis) if reverse else x
    total = np.cumsum(ordered, axis=axis, dtype=x.dtype)
    if exclusive:
        total = total - ordered
    return np.flip(total, axis) if reverse else total


# ------------------------------------------------------------ linear algebra


def mat_mul(a, b, transpose_a=False, transpose_b=False):
    if transpose_a and a.ndim > 1:
        a = np.swapaxes(a, -1, -2)
    if transpose_b and b.ndim > 1:
        b = np.swapaxes(b, -1, -2)
    return np.matmul(a, b)


# ------------------------------------------------- convolution and pooling


def spatial_paddings(sizes, windows, strides, begin, end, auto_pad):
    """The `(before, after)` padding of each spatial dim."""
    if auto_pad == "explicit":
        return list(zip(begin, end))
    if auto_pad == "valid":
        return [(0, 0)] * len(windows)
    paddings = []
    for size, window, stride in zip(sizes, windows, strides):
        rest = (size - 1) % stride + 1
        total = max(window - rest, 0) if size else 0
        paddings.append((total // 2, total - total // 2))
    return paddings


def _padded(x, paddings, value):
    """`x` with its last dims padded."""
    if not any(map(any, paddings)):
        return x
    sizes = x.shape[-len(paddings) :]
    dims = [size + sum(pads) for size, pads in zip(sizes, paddings)]
    inner = [slice(pads[0], pads[0] + n) for n, pads in zip(sizes, paddings)]
    # `np.pad` takes 20 us more.
    padded = np.full(x.shape[: -len(paddings)] + tuple(dims), value, x.dtype)
    padded[(..., *inner)] = x
    return padded


def _every(strides, lead):
    """The index that takes every `strides[i]`-th of the dims after `lead`."""
    return (slice(None),) * lead + tuple(slice(None, None, s) for s in strides)


def convolution(x, weights, **attributes):
    return group_convolution(x, weights[None], **attributes)


def group_convolution(
    x, weights, strides, pads_begin, pads_end, dilations, auto_pad="explicit"
):
    groups, filters, channels, *kernel = weights.shape
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    sizes = x.shape[2:]
    x = _padded(
        x,
        spatial_paddings(sizes, reach, strides, pads_begin, pads_end, auto_pad),
        0,
    )
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    windows = windows[_every(strides, 2) + _every(dilations, 0)]
    batch, _, *rest = windows.shape
    places = rest[: len(kernel)]
    # One matrix product for each group: (places, taps) @ (taps, filters).
    windows = windows.reshape(batch, groups, channels, *rest)
    spatial = tuple(range(3, 3 + len(kernel)))
    taps = tuple(range(3 + len(kernel), windows.ndim))
    columns = np.transpose(windows, (1, 0, *spatial, 2, *taps))
    columns = columns.reshape(
        groups, batch * math.prod(places), channels * math.prod(kernel)
    )
    matrix = weights.reshape(groups, filters, columns.shape[-1])
    matrix = matrix.swapaxes(1, 2)
    result = np.matmul(columns, matrix).reshape(groups, batch, *places, filters)
    result = np.moveaxis(result, (0, -1), (1, 2))
    return result.reshape(batch, groups * filters, *places)


def convolution_backprop_data(
    x,
    weights,
    strides,
    pads_begin,
    pads_end,
    dilations,
    auto_pad="explicit",
    output_padding=None,
):
    _, filters, *kernel = weights.shape
    batch, _, *sizes = x.shape
    extra = output_padding or [0] * len(kernel)
    full = [
        (n - 1) * s + (k - 1) * d + 1 + more
        for n, s, k, d, more in zip(sizes, strides, kernel, dilations, extra)
    ]
    result = np.zeros((batch, filters, *full), x.dtype)
    for tap in np.ndindex(*kernel):
        spread = np.tensordot(weights[(..., *tap)], x, (0, 1))
        places = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, sizes, strides)
        )
        result[(slice(None), slice(None), *places)] += spread.swapaxes(0, 1)
    cropped = tuple(
        slice(before, length - after)
        for before, length, after in zip(pads_begin, full, pads_end)
    )
    return result[(slice(None), slice(None), *cropped)]


def group_convolution_backprop_data(x, weights, **attributes):
    parts = np.split(x, len(weights), axis=1)
    return np.concatenate(
        [
            convolution_backprop_data(*pair, **attributes)
            for pair in zip(parts, weights)
        ],
        axis=1,
    )


def _pooled(reduce, x, kernel, strides):
    """`x` reduced over the windows of its last dims."""
    for axis, (window, stride) in enumerate(zip(kernel, strides), start=2):
        views = np.lib.stride_tricks.sliding_window_view(x, window, axis)
        views = views[(slice(None),) * axis + (slice(None, None, stride),)]
        # In this order NumPy reduces whole slices, not window by window.
        x = reduce(np.moveaxis(views, -1, 0), axis=0)
    return x


def max_pool(x, kernel, strides, pads_begin, pads_end, auto_pad="explicit"):
    paddings = spatial_paddings(
        x.shape[2:], kernel, strides, pads_begin, pads_end, auto_pad
    )
    x = _padded(x, paddings, _lowest(x.dtype))
    return _pooled(np.maximum.reduce, x, kernel, strides)


def _lowest(dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def avg_pool(
    x, kernel, strides, pads_begin, pads_end, auto_pad="explicit", **kwargs
):
    paddings = spatial_paddings(
        x.shape[2:], kernel, strides, pads_begin, pads_end, auto_pad
    )
    count = math.prod(kernel)
    if kwargs["exclude-pad"] and any(map(any, paddings)):
        ones = _padded(np.ones((1, 1, *x.shape[2:]), x.dtype), paddings, 0)
        count = _pooled(np.add.reduce, ones, kernel, strides)
    x = _padded(x, paddings, 0)
    return _pooled(np.add.reduce, x, kernel, strides) / count


def adaptive(reduce):
    def kernel(x, sizes):
        for axis, size in enumerate(sizes.tolist(), start=2):
            dim = x.shape[axis]
            parts = [
                reduce(
                    x[
                        (slice(None),) * axis
                        + (slice(i * dim // size, -(-(i + 1) * dim // size)),)
                    ],
                    axis=axis,
                )
                for i in range(size)
            ]
            x = np.stack(parts, axis=axis)
        return x

    return kernel


def extract_image_patches(x, sizes, strides, rates, auto_pad):
    reach = [(k - 1) * r + 1 for k, r in zip(sizes, rates)]
    none = [0] * len(sizes)
    x = _padded(
        x,
        spatial_paddings(x.shape[2:], reach, strides, none, none, auto_pad),
        0,
    )
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    windows = windows[_every(strides, 2) + _every(rates, 0)]
    batch, channels, height, width, *kernel = windows.shape
    patches = np.transpose(windows, (0, 4, 5, 1, 2, 3))
    return patches.reshape(batch, math.prod(kernel) * channels, height, width)


def col2im(x, size, kernel, strides, dilations, pads_begin, pads_end):
    size, kernel = size.tolist(), kernel.tolist()
    padded = [n + b + e for n, b, e in zip(size, pads_begin, pads_end)]
    blocks = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(padded, kernel, dilations, strides)
    ]
    channels = x.shape[-2] // math.prod(kernel)
    parts = x.reshape(x.shape[:-2] + (channels, *kernel, *blocks))
    result = np.zeros(parts.shape[:-4] + tuple(padded), x.dtype)
    for tap in np.ndindex(*kernel):
        places = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, blocks, strides)
        )
        result[(..., *places)] += parts[(..., *tap, slice(None), slice(None))]
    top, left = pads_begin
    return result[..., top : top + size[0], left : left + size[1]]


def depth_to_space(x, block_size, mode):
    batch, channels, *sizes = x.shape
    blocks = (block_size,) * len(sizes)
    depth = channels // math.prod(blocks)
    n = len(sizes)
    if mode == "blocks_first":
        x = np.moveaxis(x.reshape(batch, *blocks, depth, *sizes), n + 1, 1)
    x = x.reshape(batch, depth, *blocks, *sizes)
    order = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
    x = np.transpose(x, (0, 1, *order))
    return x.reshape(batch, depth, *(size * block_size for size in sizes))


def space_to_depth(x, block_size, mode):
    batch, depth, *sizes = x.shape
    n = len(sizes)
    split = ((size // block_size, block_size) for size in sizes)
    x = x.reshape(batch, depth, *itertools.chain(*split))
    places, blocks = range(2, 2 + 2 * n, 2), range(3, 3 + 2 * n, 2)
    inner = (1, *blocks) if mode == "depth_first" else (*blocks, 1)
    x = np.transpose(x, (0, *inner, *places))
    channels = depth * block_size**n
    return x.reshape(batch, channels, *(size // block_size for size in sizes))


# ---------------------------------------------------------------- attention


def attention(query, key, value, mask, scale, causal=False):
    logits = np.matmul(query, key.swapaxes(-1, -2)) * scale + mask
    return np.matmul(softmax(logits, axis=-1), value)


# ------------------------------------------------------------- data movement


def reshape(x, shape, special_zero=False):
    shape = [int(dim) for dim in shape]
    if special_zero:
        shape = [x.shape[i] if dim == 0 else dim for i, dim in enumerate(shape)]
    return x.reshape(shape)


def squeeze(x, axes=None):
    if axes is None:
        return np.squeeze(x)
    rank = x.ndim
    axes = {int(axis) % rank for axis in np.ravel(axes)}
    # OpenVINO leaves an axis that is not 1 as it is.
    return np.squeeze(x, tuple(axis for axis in axes if x.shape[axis] == 1))


def unsqueeze(x, axes):
    return np.expand_dims(x, tuple(int(axis) for axis in np.ravel(axes)))


def transpose(x, order=None):
    return np.transpose(x, None if order is None or not order.size else order)


def broadcast(x, shape, mode="numpy"):
    return np.broadcast_to(x, tuple(int(dim) for dim in shape))


def pad(x, begin, end, value=None, pad_mode="constant"):
    crop = tuple(
        slice(max(-before, 0), x.shape[axis] - max(-after, 0))
        for axis, (before, after) in enumerate(
            zip(begin.tolist(), end.tolist())
        )
    )
    widths = list(zip(np.maximum(begin, 0), np.maximum(end, 0)))
    if pad_mode == "constant":
        constant = 0 if value is None else value
        return np.pad(x[crop], widths, constant_values=constant)
    return np.pad(x[crop], widths, mode=pad_mode)


def strided_slice(x, start, stop, step, axes=None):
    axes = range(len(start)) if axes is None else axes.tolist()
    index = [slice(None)] * x.ndim
    bounds = zip(axes, start.tolist(), stop.tolist(), step.tolist())
    for axis, first, last, stride in bounds:
        # Python's slices clamp as OpenVINO's do, but for a bound that lies
        # before the first element when going backwards.
        dim = x.shape[axis]
        if stride < 0 and last < -dim:
            last = None
        index[axis] = slice(first, last, stride)
    return x[tuple(index)]


def concat(*arrays, axis):
    return np.concatenate(arrays, axis=axis)


def split(x, axis, num_splits):
    return tuple(np.split(x, num_splits, axis=int(axis)))


def variadic_split(x, axis, lengths):
    axis = int(axis)
    lengths = lengths.copy()
    if -1 in lengths:
        lengths[lengths == -1] = x.shape[axis] - (lengths.sum() + 1)
    return tuple(np.split(x, np.cumsum(lengths)[:-1], axis=axis))


# ------------------------------------------------------------------- resizing


def interpolate(x, sizes, axes, **attributes):
    """Linear interpolation between the centers of pixels, or repetition."""
    if attributes == REPEATING:
        for size, axis in zip(sizes.tolist(), axes.tolist()):
            x = np.repeat(x, size // x.shape[axis], axis)
        return x
    if attributes != _LINEAR:
        raise NotImplementedError(
            f"Interpolate is computed for {_LINEAR} and {REPEATING}. "
            f"Received: {attributes}"
        )
    for size, axis in zip(sizes.tolist(), axes.tolist()):
        dim = x.shape[axis]
        scale = np.float32(dim) / np.float32(size)
        sample = (np.arange(size, dtype=np.float32) + 0.5) * scale - 0.5
        sample = np.clip(sample, 0, dim - 1).astype(x.dtype)
        lower = np.floor(sample)
        weight = sample - lower
        lower = lower.astype(np.intp)
        upper = np.minimum(lower + 1, dim - 1)
        weight = weight.reshape((-1,) + (1,) * (x.ndim - axis - 1))
        below, above = np.take(x, lower, axis), np.take(x, upper, axis)
        x = below + (above - below) * weight
    return x


# To a multiple of the size.
REPEATING = {
    "mode": "nearest",
    "shape_calculation_mode": "sizes",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_LINEAR = {
    "mode": "linear_onnx",
    "shape_calculation_mode": "sizes",
    "coordinate_transformation_mode": "half_pixel",
}

# ------------------------------------------------------ gathering, scattering


def is_outside(indices, dim):
    """Which of the indices, in an array or a tensor, a dim lacks."""
    return (indices < -dim) | (indices >= dim)


def gather(x, indices, axis, batch_dims=0):
    axis = int(axis) % x.ndim
    dim = x.shape[axis]
    if batch_dims:
        return _gather_batched(x, indices, axis, batch_dims % indices.ndim)
    try:
        return np.take(x, indices, axis=axis)
    except IndexError:
        # OpenVINO gives zeros where an index is out of bounds.
        outside = is_outside(indices, dim)
        found = np.take(x, np.where(outside, 0, indices), axis) if dim else 0
        shape = x.shape[:axis] + indices.shape + x.shape[axis + 1 :]
        outside = outside.reshape(outside.shape + (1,) * (x.ndim - axis - 1))
        return np.where(outside, 0, found) + np.zeros(shape, x.dtype)


def _gather_batched(x, indices, axis, batch_dims):
    batch = indices.shape[:batch_dims]
    x = np.broadcast_to(x, batch + x.shape[batch_dims:])
    count = math.prod(batch)
    rows = x.reshape((count,) + x.shape[batch_dims:])
    wanted = indices.reshape((count,) + indices.shape[batch_dims:])
    taken = [np.take(r, i, axis - batch_dims) for r, i in zip(rows, wanted)]
    inner = (
        x.shape[batch_dims:axis]
        + indices.shape[batch_dims:]
        + x.shape[axis + 1 :]
    )
    return np.array(taken, dtype=x.dtype).reshape(batch + inner)


def gather_nd(x, indices, batch_dims=0):
    batch = np.indices(x.shape[:batch_dims], sparse=True)
    trailing = indices.ndim - 1 - batch_dims
    batch = tuple(b.reshape(b.shape + (1,) * trailing) for b in batch)
    return x[batch + tuple(np.moveaxis(indices, -1, 0))]


def gather_elements(x, indices, axis):
    return np.take_along_axis(x, indices, axis)


# By their names in scatters and segments.
REDUCTIONS = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def _scatter(x, index, updates, reduction):
    result = x.copy()
    if reduction == "none":
        result[index] = updates
    else:
        REDUCTIONS[reduction].at(result, index, updates)
    return result


def scatter_nd_update(x, indices, updates, reduction="none"):
    return _scatter(x, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


def scatter_update(x, indices, updates, axis):
    axis = int(axis) % x.ndim
    return _scatter(x, (slice(None),) * axis + (indices,), updates, "none")


def scatter_elements_update(x, indices, updates, axis, reduction="none"):
    axis = int(axis) % x.ndim
    index = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices
    return _scatter(x, tuple(index), updates, reduction)


# ------------------------------------------------------- sorting, searching


def top_k(
    x,
    k,
    axis=-1,
    mode="max",
    sort="value",
    index_element_type="i32",
    stable=True,
):
    order = _argsort(x, axis, descending=mode == "max")
    order = np.take(order, np.arange(int(k)), axis=axis)
    return np.take_along_axis(x, order, axis), order


def _argsort(x, axis, descending):
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # Sorted backwards, so that equal values keep their order.
    last = x.shape[axis] - 1
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return last - np.flip(backwards, axis)


def unique(x, axis=None, index_element_type="i64", count_element_type="i64"):
    values, index, inverse, counts = np.unique(
        x,
        return_index=True,
        return_inverse=True,
        return_counts=True,
        axis=None if axis is None else int(axis),
        equal_nan=False,
    )
    return values, index, inverse.reshape(-1), counts


def non_zero(x, output_type="i64"):
    return np.array(np.nonzero(np.atleast_1d(x)))


def search_sorted(sequence, values, right_mode=False, output_type="i64"):
    return np.searchsorted(sequence, values, "right" if right_mode else "left")


# ------------------------------------------------------------------ creation


def value_range(start, stop, step, output_type):
    dtype = numpy_dtype(from_ov_name(output_type))
    return np.arange(start.item(), stop.item(), step.item()).astype(dtype)


def one_hot(
    indices,
    depth,
    on_value,
    off_value,
    axis=-1,
    negative_indices_mode="ignore_negative",
):
    labels = np.arange(int(depth)).astype(indices.dtype)
    axis = axis % (indices.ndim + 1)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = -1
    hit = np.expand_dims(indices, axis) == labels.reshape(shape)
    return np.where(hit, on_value, off_value)


# -------------------------------------------------------------------- Fourier


def fourier(transform, takes_complex, gives_complex):
    def kernel(x, axes, signal_size=None):
        signal = from_pairs(x) if takes_complex else x
        axes = [int(axis) % signal.ndim for axis in axes]
        if signal_size is not None:
            signal_size = [
                signal.shape[axis] if size < 0 else size
                for axis, size in zip(axes, signal_size.tolist())
            ]
        result = transform(signal, s=signal_size, axes=axes)
        return to_pairs(result) if gives_complex else result

    return kernel
