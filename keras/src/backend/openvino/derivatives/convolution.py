"""Derivatives of products, convolutions, pooling and resizing."""

import functools
import itertools
import math

import numpy as np

from keras.src.backend.openvino import kernels
from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.derivatives.rules import reshape_as
from keras.src.backend.openvino.derivatives.rules import rule
from keras.src.backend.openvino.derivatives.rules import unbroadcast
from keras.src.backend.openvino.gradient import replayed
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import dims_of

# ------------------------------------------------------------------- products


@rule("MatMul")
def _mat_mul(inputs, outputs, gradients, transpose_a=False, transpose_b=False):
    (a, b), (gradient,) = inputs, gradients
    if b.ndim == 1:
        gradient = ops.expand_dims(gradient, -1)
    if a.ndim == 1:
        gradient = ops.expand_dims(gradient, -2)
    # A vector is a row on the left, a column on the right.
    flip_a, flip_b = transpose_a and a.ndim > 1, transpose_b and b.ndim > 1
    left = ops.expand_dims(a, 0) if a.ndim == 1 else a
    right = ops.expand_dims(b, 1) if b.ndim == 1 else b

    def product(x, y, flip_x, flip_y):
        return apply("MatMul", x, y, transpose_a=flip_x, transpose_b=flip_y)

    if flip_a:
        of_a = product(right, gradient, flip_b, True)
    else:
        of_a = product(gradient, right, False, not flip_b)
    if flip_b:
        of_b = product(gradient, left, True, flip_a)
    else:
        of_b = product(left, gradient, not flip_a, False)
    return [
        reshape_as(unbroadcast(of_a, left), a)
        if a.ndim == 1
        else unbroadcast(of_a, a),
        reshape_as(unbroadcast(of_b, right), b)
        if b.ndim == 1
        else unbroadcast(of_b, b),
    ]


@replayed
def _attention(query, key, value, mask, scale, causal=False):
    keys = ops.swapaxes(key, -1, -2)
    logits = ops.matmul(query, keys) * scale + mask
    weights = apply("Softmax", logits, axis=logits.ndim - 1)
    return ops.matmul(weights, value)


rule("ScaledDotProductAttention")(_attention)

# ---------------------------------------------------------------- convolutions


@rule("Convolution")
def _convolution(inputs, outputs, gradients, **attributes):
    x, weights = inputs
    return _of_convolution(x, weights, *gradients, 1, **attributes)


@rule("GroupConvolution")
def _group_convolution(inputs, outputs, gradients, **attributes):
    x, weights = inputs
    groups = known_dim(weights, 0, "conv")
    return _of_convolution(x, weights, *gradients, groups, **attributes)


def _of_convolution(
    x,
    weights,
    gradient,
    groups,
    strides,
    dilations,
    pads_begin,
    pads_end,
    auto_pad="explicit",
):
    count = len(strides)
    sizes = [known_dim(x, 2 + i, "conv") for i in range(count)]
    kernel = weights.shape[-count:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    pads = _pads(sizes, reach, strides, pads_begin, pads_end, auto_pad)
    left = [
        (size + sum(pad) - width) % stride
        for size, pad, width, stride in zip(sizes, pads, reach, strides)
    ]
    of_x = _backwards(
        gradient,
        weights,
        groups,
        strides=strides,
        dilations=dilations,
        pads_begin=tuple(before for before, _ in pads),
        pads_end=tuple(after for _, after in pads),
        output_padding=tuple(left),
        auto_pad="explicit",
    )
    of_weights = _of_weights(
        x, gradient, weights, groups, strides, dilations, pads
    )
    return [of_x, reshape_as(of_weights, weights)]


def _backwards(x, weights, groups, strides, **attributes):
    """The transposed convolution, of as many groups as there are."""
    if groups > 1:
        type = "GroupConvolutionBackpropData"
    else:
        type = "ConvolutionBackpropData"
        if weights.ndim == len(strides) + 3:
            weights = apply("Squeeze", weights, (0,))
    return apply(type, x, weights, strides=strides, **attributes)


def _pads(sizes, reach, strides, begin, end, auto_pad):
    """The padding before and after each spatial dim, as pairs of integers."""
    paddings = kernels.spatial_paddings(
        sizes, reach, strides, begin, end, auto_pad
    )
    return [(int(before), int(after)) for before, after in paddings]


# Slices of few channels that skip places take longer than what they are for.
_FEW_CHANNELS = 8


def _of_weights(x, gradient, weights, groups, strides, dilations, pads):
    """The gradient of weights, in their shape but for dims of 1."""
    channels = weights.shape[-len(strides) - 1]
    if groups > 1:
        is_in_rows = channels == 1
    else:
        is_in_rows = channels >= _FEW_CHANNELS or max(strides) == 1
    find = _by_rows if is_in_rows else _by_convolution
    return find(x, gradient, weights, groups, strides, dilations, pads)


def _by_rows(x, gradient, weights, groups, strides, dilations, pads):
    """As `_of_weights`, of one group, or of groups of one channel.

    Each place in the kernel has a product of its own. Those of 1x1 take a tenth
    of the time of `_by_convolution`, those of 3x3 about half of it.
    """
    count = len(strides)
    channels, *kernel = weights.shape[-count - 1 :]
    filters = known_dim(gradient, 1, "conv") // groups
    places = [known_dim(gradient, 2 + i, "conv") for i in range(count)]
    channels_last = (0, *range(2, 2 + count), 1)
    x = _Rows(ops.transpose(x, channels_last), pads)
    gradient = ops.transpose(gradient, channels_last)
    gradient = ops.reshape(gradient, (-1, groups * filters))
    parts = []
    for tap in itertools.product(*map(range, kernel)):
        starts = [t * d for t, d in zip(tap, dilations)]
        rows = x.take(starts, places, strides)
        parts.append(_product_of_rows(rows, gradient, groups))
    outer = () if groups == 1 else (groups,)
    dims = (*kernel, *outer, channels, filters)
    result = ops.reshape(ops.stack(parts), dims)
    return ops.transpose(
        result, (*range(count, len(dims) - 2), -1, -2, *range(count))
    )


def _product_of_rows(x, gradient, groups):
    """The sum of the outer products of rows, of each group."""
    if groups == 1:
        return apply("MatMul", x, gradient, transpose_a=True, transpose_b=False)
    if x.shape[1] < gradient.shape[1]:  # several filters for each
        gradient = ops.reshape(
            gradient, (-1, groups, gradient.shape[1] // groups)
        )
        x = ops.expand_dims(x, -1)
    return ops.sum(x * gradient, axis=0)


class _Rows:
    """A padded array of which the parts are taken that a kernel meets.

    Its last two dims are one, so that the CPU plugin, which keeps the channels
    of four dims last by itself, moves nothing.

    Args:
        x: `(batch, *spatial, channels)`.
        pads: what is before and behind each spatial dim.
    """

    def __init__(self, x, pads):
        self._channels = x.shape[-1]
        sizes = [known_dim(x, 1 + i, "conv") for i in range(len(pads))]
        self._width = sizes[-1] + sum(pads[-1])
        x = ops.reshape(x, (-1, *sizes[:-1], sizes[-1] * self._channels))
        if any(map(any, pads)):
            last = [n * self._channels for n in pads[-1]]
            before, after = zip((0, 0), *pads[:-1], last)
            x = apply("Pad", x, before, after, pad_mode="constant")
        self._x = x

    def take(self, starts, counts, steps):
        """So many places along each dim, as rows of `(any, channels)`."""
        index = [
            slice(start, start + (count - 1) * step + 1, step)
            for start, count, step in zip(starts, counts, steps)
        ]
        last = index.pop()
        if last.step == 1:
            end = last.stop * self._channels
            index.append(slice(last.start * self._channels, end))
        x = self._x[(slice(None), *index)]
        if last.step > 1:
            x = ops.reshape(x, (-1, self._width, self._channels))[:, last]
        return ops.reshape(x, (-1, self._channels))


def _by_convolution(x, gradient, weights, groups, strides, dilations, pads):
    """As `_of_weights`: a convolution of the input with the gradient.

    Batch and channels have changed places, and strides and dilations.
    """
    count = len(strides)
    batch = known_dim(x, 0, "conv")
    spatial = tuple(range(3, 3 + count))
    x = ops.reshape(x, (batch, groups, -1, *x.shape[2:]))
    x = ops.transpose(x, (2, 1, 0, *spatial))
    channels = x.shape[0]
    x = ops.reshape(x, (channels, groups * batch, *x.shape[3:]))
    places = [known_dim(gradient, 2 + i, "conv") for i in range(count)]
    gradient = ops.reshape(gradient, (batch, groups, -1, *places))
    gradient = ops.transpose(gradient, (1, 2, 0, *spatial))
    type = "GroupConvolution" if groups > 1 else "Convolution"
    result = apply(
        type,
        x,
        gradient if groups > 1 else apply("Squeeze", gradient, (0,)),
        strides=dilations,
        dilations=strides,
        pads_begin=tuple(before for before, _ in pads),
        pads_end=tuple(after for _, after in pads),
        auto_pad="explicit",
    )
    kernel = weights.shape[-count:]
    result = result[(..., *(slice(0, size) for size in kernel))]
    result = ops.reshape(result, (channels, groups, -1, *kernel))
    return ops.transpose(result, (1, 2, 0, *spatial))


@rule("ConvolutionBackpropData")
def _convolution_backprop_data(inputs, outputs, gradients, **attributes):
    return _of_transposed(*inputs, *gradients, "Convolution", 1, **attributes)


@rule("GroupConvolutionBackpropData")
def _group_convolution_backprop_data(inputs, outputs, gradients, **attributes):
    groups = known_dim(inputs[1], 0, "conv")
    return _of_transposed(
        *inputs, *gradients, "GroupConvolution", groups, **attributes
    )


def _of_transposed(
    x,
    weights,
    gradient,
    type,
    groups,
    strides,
    dilations,
    pads_begin,
    pads_end,
    output_padding=None,
    auto_pad="explicit",
):
    of_x = apply(
        type,
        gradient,
        weights,
        strides=strides,
        dilations=dilations,
        pads_begin=pads_begin,
        pads_end=pads_end,
        auto_pad="explicit",
    )
    # Of what only `output_padding` reaches there is no place in `x`.
    of_x = of_x[(..., *(slice(0, n) for n in x.shape[2:]))]
    pads = list(zip(pads_begin, pads_end))
    of_weights = _of_weights(
        gradient, x, weights, groups, strides, dilations, pads
    )
    return [of_x, reshape_as(of_weights, weights)]


# --------------------------------------------------------------------- pooling


def _taps(x, kernel, strides, places):
    """For each place in the kernel, what it takes from `x` for each window."""
    for tap in itertools.product(*map(range, kernel)):
        index = tuple(
            slice(start, start + (count - 1) * stride + 1, stride)
            for start, count, stride in zip(tap, places, strides)
        )
        yield tap, x[(..., *index)]


class _Windows:
    """The windows of a pooling: where they lie in the padded input."""

    def __init__(self, x, y, kernel, strides, begin, end, auto_pad):
        count = len(kernel)
        self.kernel, self.strides = kernel, strides
        self.sizes = [known_dim(x, 2 + i, "pool") for i in range(count)]
        self.places = [known_dim(y, 2 + i, "pool") for i in range(count)]
        self.pads = _pads(self.sizes, kernel, strides, begin, end, auto_pad)
        self.padded = [n + sum(pad) for n, pad in zip(self.sizes, self.pads)]

    def pad(self, x, value):
        before = [0, 0, *(pad[0] for pad in self.pads)]
        after = [0, 0, *(pad[1] for pad in self.pads)]
        if not any(before) and not any(after):
            return x
        value = cast(value, x.dtype)
        return apply("Pad", x, before, after, value, pad_mode="constant")

    def cut(self, x):
        """`x` without what is in no window, of those that do not overlap."""
        index = [
            slice(0, count * k) for count, k in zip(self.places, self.kernel)
        ]
        return x[(..., *index)]

    def repeat(self, x):
        """What each window has, at all of its places."""
        sizes = tuple(n * k for n, k in zip(self.places, self.kernel))
        axes = tuple(range(2, x.ndim))
        return apply("Interpolate", x, sizes, axes, **kernels.REPEATING)

    def uncut(self, x):
        """What was cut, with zeros in the place of what was left out."""
        for axis, size in enumerate(self.sizes, start=2):
            dims = list(dims_of(x))
            dims[axis] = size - dims[axis]
            if dims[axis]:
                # `Pad` takes several times as long.
                x = apply("Concat", x, ops.zeros(dims, x.dtype), axis=axis)
        return x

    def put_back(self, x, weights):
        """What has, at each place of a window, so many times its value.

        Args:
            x: a value for each window.
            weights: an array, for the places in a window. What windows share
                is summed.
        """
        channels = known_dim(x, 1, "pool")
        weights = np.tile(weights, (channels, 1, 1, *(1,) * weights.ndim))
        left = [
            (size - k) % stride
            for size, k, stride in zip(self.padded, self.kernel, self.strides)
        ]
        return apply(
            "GroupConvolutionBackpropData",
            x,
            cast(concrete(weights.astype("float32")), x.dtype),
            strides=self.strides,
            dilations=(1,) * len(left),
            pads_begin=tuple(before for before, _ in self.pads),
            pads_end=tuple(after for _, after in self.pads),
            output_padding=tuple(left),
            auto_pad="explicit",
        )


@rule("MaxPool")
def _max_pool(
    inputs,
    outputs,
    gradients,
    kernel,
    strides,
    pads_begin,
    pads_end,
    auto_pad="explicit",
):
    """Goes to the first of the greatest in each window, as in JAX."""
    (x,), (y,), (gradient,) = inputs, outputs, gradients
    windows = _Windows(x, y, kernel, strides, pads_begin, pads_end, auto_pad)
    if tuple(kernel) == tuple(strides) and not any(map(any, windows.pads)):
        return [_of_tiles(x, y, gradient, windows)]
    padded = windows.pad(x, -math.inf)
    taps = _taps(padded, kernel, strides, windows.places)
    places, values = zip(*taps)
    moved = []
    for tap, part in zip(places, _to_the_first(values, y, gradient)):
        weights = np.zeros(kernel)
        weights[tap] = 1
        moved.append(windows.put_back(part, weights))
    return [functools.reduce(ops.add, moved)]


def _to_the_first(values, y, gradient):
    """The gradients of what windows take the greatest of.

    Args:
        values: for each place in a window a tensor of what is there.
        y: the greatest, of which the first in each window is meant.
        gradient: that of `y`.
    """
    is_left = None
    for x in values:
        hit = x == y
        if is_left is not None:
            hit = hit & is_left
        missed = ops.logical_not(hit)
        is_left = missed if is_left is None else is_left & missed
        yield ops.where(hit, gradient, 0)


def _of_tiles(x, y, gradient, windows):
    """As `_max_pool`, of windows that do not overlap.

    The first of the greatest is the one with the greatest rank, where ranks go
    down inside of a window. They are float32, in which each is another.
    """
    cut = windows.cut(x)
    kernel = windows.kernel
    ranks = np.arange(math.prod(kernel), 0, -1.0).reshape(kernel)
    ranks = np.tile(ranks, windows.places)[None, None]
    ranks = concrete(ranks.astype("float32"))
    hits = ops.where(cut == windows.repeat(y), ranks, 0)
    first = apply(
        "MaxPool",
        hits,
        kernel=kernel,
        strides=kernel,
        pads_begin=(0,) * len(kernel),
        pads_end=(0,) * len(kernel),
        auto_pad="explicit",
    )
    is_first = hits == windows.repeat(ops.maximum(first, 1))
    moved = ops.where(is_first, windows.repeat(gradient), 0)
    return windows.uncut(moved)


@rule("AvgPool")
def _avg_pool(
    inputs,
    outputs,
    gradients,
    kernel,
    strides,
    pads_begin,
    pads_end,
    auto_pad="explicit",
    **exclude,
):
    (x,), (y,), (gradient,) = inputs, outputs, gradients
    windows = _Windows(x, y, kernel, strides, pads_begin, pads_end, auto_pad)
    count = math.prod(kernel)
    if exclude["exclude-pad"] and any(map(any, windows.pads)):
        ones = np.ones((1, 1, *windows.sizes), "float32")
        sums = kernels.avg_pool(
            np.pad(ones, [(0, 0), (0, 0), *windows.pads]),
            kernel,
            strides,
            (0,) * len(kernel),
            (0,) * len(kernel),
            **{"exclude-pad": False},
        )
        count = cast(concrete(sums * count), gradient.dtype)
    return [windows.put_back(gradient / count, np.ones(kernel))]


def _by_matrices(gradient, axes, matrices):
    """The gradient of what takes the sums of rows with a matrix's weights.

    Args:
        gradient: that of the result.
        axes: the axes that were summed along.
        matrices: for each an array, `(size of the result, size before)`.
    """
    for axis, matrix in zip(axes, matrices):
        weights = cast(concrete(np.ascontiguousarray(matrix)), gradient.dtype)
        moved = ops.matmul(ops.moveaxis(gradient, axis, -1), weights)
        gradient = ops.moveaxis(moved, -1, axis)
    return gradient


@rule("AdaptiveAvgPool")
def _adaptive_avg_pool(inputs, outputs, gradients):
    x, sizes = inputs
    axes = range(2, x.ndim)
    average = kernels.adaptive(np.mean)
    matrices = [
        average(np.eye(known_dim(x, axis, "pool"))[:, None], np.array([size]))[
            :, 0
        ].T
        for axis, size in zip(axes, sizes)
    ]
    return [_by_matrices(*gradients, axes, matrices), None]


@replayed
def _adaptive_max_pool(x, sizes, **_):
    for axis, size in enumerate(sizes, start=2):
        dim = known_dim(x, axis, "pool")
        parts = []
        for i in range(size):
            start, end = i * dim // size, -(-(i + 1) * dim // size)
            part = apply("Slice", x, (start,), (end,), (1,), (axis,))
            parts.append(ops.max(part, axis=axis, keepdims=True))
        x = apply("Concat", *parts, axis=axis)
    return x


rule("AdaptiveMaxPool")(_adaptive_max_pool)


@rule("Interpolate")
def _interpolate(inputs, outputs, gradients, **attributes):
    x, sizes, axes = inputs
    matrices = [
        kernels.interpolate(
            np.eye(known_dim(x, axis, "resize"), dtype="float32"),
            np.array([known_dim(outputs[0], axis, "resize")]),
            np.array([0]),
            **attributes,
        )
        for axis in axes
    ]
    return [_by_matrices(*gradients, axes, matrices), None, None]


@replayed
def _extract_image_patches(x, sizes, strides, rates, auto_pad):
    reach = [(k - 1) * r + 1 for k, r in zip(sizes, rates)]
    dims = [known_dim(x, axis, "extract_patches") for axis in (2, 3)]
    pads = _pads(dims, reach, strides, (0, 0), (0, 0), auto_pad)
    before, after = zip((0, 0), (0, 0), *pads)
    x = apply("Pad", x, before, after, pad_mode="constant")
    counts = [
        (dim + sum(pad) - width) // stride + 1
        for dim, pad, width, stride in zip(dims, pads, reach, strides)
    ]
    return apply(
        "Concat", *_dilated_taps(x, sizes, strides, rates, counts), axis=1
    )


rule("ExtractImagePatches")(_extract_image_patches)


def _dilated_taps(x, kernel, strides, dilations, counts):
    """As `_taps`, of kernels with gaps."""
    for tap in itertools.product(*map(range, kernel)):
        index = tuple(
            slice(t * d, t * d + (count - 1) * stride + 1, stride)
            for t, d, count, stride in zip(tap, dilations, counts, strides)
        )
        yield x[(..., *index)]


@rule("Col2Im")
def _col2im(
    inputs, outputs, gradients, strides, dilations, pads_begin, pads_end
):
    x, size, kernel = inputs
    (gradient,) = gradients
    before, after = (0, 0, *pads_begin), (0, 0, *pads_end)
    padded = apply("Pad", gradient, before, after, pad_mode="constant")
    counts = [
        (n + b + e - (k - 1) * d - 1) // s + 1
        for n, b, e, k, d, s in zip(
            size, pads_begin, pads_end, kernel, dilations, strides
        )
    ]
    taps = list(_dilated_taps(padded, kernel, strides, dilations, counts))
    # (batch, channels, places in the kernel, blocks)
    columns = ops.stack(taps, axis=2)
    return [reshape_as(columns, x), None, None]
