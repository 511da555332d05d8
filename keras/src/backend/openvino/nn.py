"""`keras.ops.nn` on OpenVINO."""

import math

import numpy as np

from keras.src.backend.common.backend_utils import check_conv_input_channels
from keras.src.backend.common.backend_utils import (
    check_conv_transpose_input_channels,
)
from keras.src.backend.common.backend_utils import (
    compute_conv_transpose_output_crops_for_torch as conv_transpose_crops,
)
from keras.src.backend.config import epsilon as fuzz
from keras.src.backend.config import floatx
from keras.src.backend.config import standardize_data_format
from keras.src.backend.openvino import ctc
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.common import at_least_float32
from keras.src.backend.openvino.common import canonical_axes
from keras.src.backend.openvino.common import canonical_axis
from keras.src.backend.openvino.common import in_float32
from keras.src.backend.openvino.common import refuse_sparse
from keras.src.backend.openvino.common import to_float
from keras.src.backend.openvino.common import unary
from keras.src.backend.openvino.composite import composite
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import result_type
from keras.src.backend.openvino.dtypes import standardize
from keras.src.backend.openvino.math import rsqrt
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote

# ---------------------------------------------------------------- activations
#
# Compiled, OpenVINO's fused nodes are within 1e-6 of the true values, though
# Elu, Selu and Gelu lose relative accuracy near zero and in the tails, and Relu
# and Clamp give a bound for NaN. SoftPlus is not used: it is 8e-6 at -64.


@in_float32
def celu(x, alpha=1.0):
    x = to_float(x)
    negative = numpy.minimum(x, 0)
    return numpy.maximum(x, 0) + alpha * numpy.expm1(negative / alpha)


def elu(x, alpha=1.0):
    return unary("Elu", x, alpha=float(alpha))


def gelu(x, approximate=True):
    mode = "TANH" if approximate else "ERF"
    return unary("Gelu", x, approximation_mode=mode)


@in_float32
def glu(x, axis=-1):
    x = to_float(x)
    size = x.shape[canonical_axis(axis, x.ndim)]
    if size is not None and size % 2:
        raise ValueError(
            "`glu` halves `axis`, so that the axis size must be divisible by "
            f"2. Received: x.shape={x.shape}, axis={axis}"
        )
    value, gate = apply("Split", x, axis, num_splits=2)
    return value * sigmoid(gate)


def hard_shrink(x, threshold=0.5):
    x = to_float(x)
    return numpy.where(numpy.absolute(x) > threshold, x, 0.0)


def hard_sigmoid(x):
    return unary("HSigmoid", x)


def hard_silu(x):
    return unary("HSwish", x)


def _number(x):
    """`x` as a tensor of numbers; True is 1."""
    x = convert_to_tensor(x)
    return cast(x, "int32") if x.dtype == "bool" else x


@composite("HardTanh", lambda x: np.clip(x, -1, 1))
def _hard_tanh(x):
    return apply("Clamp", x, min=-1.0, max=1.0)


def hard_tanh(x):
    return _hard_tanh(_number(x))


@in_float32
def leaky_relu(x, negative_slope=0.2):
    x = to_float(x)
    return apply("PRelu", x, convert_to_tensor(negative_slope, x.dtype))


@in_float32
def log_sigmoid(x):
    return -softplus(-to_float(x))


def log_softmax(x, axis=-1):
    return _softmax("LogSoftmax", x, axis)


def relu(x):
    return apply("Relu", _number(x))


def relu6(x):
    return unary("Clamp", x, min=0.0, max=6.0)


@in_float32
def selu(x):
    x = to_float(x)
    alpha = 1.6732632423543772848170429916717
    scale = 1.0507009873554804934193349852946
    return apply(
        "Selu",
        x,
        convert_to_tensor(alpha, x.dtype),
        convert_to_tensor(scale, x.dtype),
    )


def sigmoid(x):
    return unary("Sigmoid", x)


def silu(x):
    return unary("Swish", x)


def soft_shrink(x, threshold=0.5):
    x = to_float(x)
    below = numpy.where(x < -threshold, x + threshold, 0.0)
    return numpy.where(x > threshold, x - threshold, below)


def softmax(x, axis=-1):
    return _softmax("Softmax", x, axis)


def _softmax(type, x, axis):
    x = to_float(x)
    if axis is not None:
        return apply(type, x, axis=canonical_axis(axis, x.ndim))
    flat = apply("Reshape", x, (-1,), special_zero=False)
    return apply(
        "Reshape",
        apply(type, flat, axis=0),
        list(dims_of(x)),
        special_zero=False,
    )


@in_float32
def softplus(x):
    return _softplus(to_float(x))


@composite("LogOnePlusExp", lambda x: np.logaddexp(x, 0))
def _softplus(x):
    # log(1 + z) is 2 artanh(z / (z + 2)); of z up to 1, eight terms of that
    # series give all that float32 holds.
    z = apply("Exp", -numpy.absolute(x))
    ratio = z / (z + 2)
    square = ratio * ratio
    series = 1 / 15
    for odd in (13, 11, 9, 7, 5, 3, 1):
        series = square * series + 1 / odd
    return apply("Relu", x) + 2 * ratio * series


def softsign(x):
    return unary("SoftSign", x)


@in_float32
def sparse_plus(x):
    x = to_float(x)
    bent = numpy.square(x + 1) * 0.25
    return numpy.where(x <= -1, 0.0, numpy.where(x >= 1, x, bent))


@in_float32
def sparse_sigmoid(x):
    return 0.5 * numpy.clip(to_float(x) + 1, 0, 2)


@in_float32
def sparsemax(x, axis=-1):
    x = to_float(x)
    axis = canonical_axis(axis, x.ndim)
    descending = -numpy.sort(-x, axis=axis)
    total = numpy.cumsum(descending, axis=axis)
    rank_shape = [1] * x.ndim
    rank_shape[axis] = -1
    rank = numpy.arange(1, dims_of(x)[axis] + 1, dtype=x.dtype)
    rank = numpy.reshape(rank, rank_shape)
    in_support = rank * descending > total - 1
    support = numpy.sum(cast(in_support, x.dtype), axis=axis, keepdims=True)
    # The threshold of Martins and Astudillo is the last of these sums less 1;
    # Keras, on each of its backends, adds all of them up.
    mass = numpy.sum(
        numpy.where(in_support, total, 0.0), axis=axis, keepdims=True
    )
    return numpy.maximum(x - (mass - 1) / support, 0)


@in_float32
def squareplus(x, b=4):
    x = to_float(x)
    return (x + numpy.sqrt(numpy.square(x) + b)) * 0.5


def tanh(x):
    return unary("Tanh", x)


@in_float32
def tanh_shrink(x):
    x = to_float(x)
    return x - tanh(x)


def threshold(x, threshold, default_value):
    x = convert_to_tensor(x)
    return numpy.where(x > threshold, x, default_value)


# --------------------------------------------------- layouts, windows, padding


def _channels_first(x, data_format):
    """`x` in OpenVINO's layout: batch, channels, spatial dims."""
    if data_format == "channels_first":
        return x
    last = x.ndim - 1
    return apply("Transpose", x, (0, last, *range(1, last)))


def _restored(x, data_format):
    """The inverse of `_channels_first`."""
    if data_format == "channels_first":
        return x
    return apply("Transpose", x, (0, *range(2, x.ndim), 1))


def _channels(x, data_format):
    return x.shape[-1 if data_format == "channels_last" else 1]


def _spatial_dims(x, op):
    dims = x.ndim - 2
    if dims not in (1, 2, 3):
        raise ValueError(
            f"`{op}` takes 1, 2 or 3 spatial dims beside batch and channels. "
            f"Received: shape={x.shape}"
        )
    return dims


def _per_dim(value, dims, name):
    """`value`, an integer or one for each spatial dim, as a tuple."""
    if isinstance(value, int):
        return (value,) * dims
    value = tuple(int(v) for v in value)
    if len(value) != dims:
        raise ValueError(
            f"`{name}` must be an integer or {dims} integers, one for each "
            f"spatial dim. Received: {name}={value}"
        )
    return value


def _auto_pad(padding):
    """OpenVINO's name of a Keras padding."""
    modes = {"same": "same_upper", "valid": "valid"}
    mode = modes.get(padding.lower() if isinstance(padding, str) else padding)
    if mode is None:
        raise ValueError(
            f"Invalid padding '{padding}', must be 'same' or 'valid'."
        )
    return mode


# --------------------------------------------------------------------- pooling


def average_pool(
    inputs, pool_size, strides=None, padding="valid", data_format=None
):
    # The mean is over the elements that are there, not over the padding.
    return _pool(
        "AvgPool",
        to_float(inputs),
        pool_size,
        strides,
        padding,
        data_format,
        **{"exclude-pad": True},
    )


def max_pool(
    inputs, pool_size, strides=None, padding="valid", data_format=None
):
    x = convert_to_tensor(inputs)
    return _pool("MaxPool", x, pool_size, strides, padding, data_format)


def _pool(type, x, pool_size, strides, padding, data_format, **attributes):
    data_format = standardize_data_format(data_format)
    dims = _spatial_dims(x, "pool")
    kernel = _per_dim(pool_size, dims, "pool_size")
    strides = kernel if strides is None else _per_dim(strides, dims, "strides")
    x = _channels_first(x, data_format)
    batch, channels, *places = dims_of(x)
    if 0 in x.shape[2:]:  # OpenVINO pools something only.
        reach = kernel if padding == "valid" else (1,) * dims
        places = _windows(places, reach, strides)
        pooled = numpy.zeros((batch, channels, *places), x.dtype)
        return _restored(pooled, data_format)
    is_empty = 0 in x.shape[:2]
    if is_empty:
        x = numpy.zeros((1, 1, *places), x.dtype)
    pooled = apply(
        type,
        x,
        kernel=kernel,
        strides=strides,
        pads_begin=(0,) * dims,
        pads_end=(0,) * dims,
        auto_pad=_auto_pad(padding),
        **attributes,
    )
    if is_empty:
        places = dims_of(pooled)[2:]
        pooled = numpy.broadcast_to(pooled, (batch, channels, *places))
    return _restored(pooled, data_format)


def adaptive_average_pool(inputs, output_size, data_format=None):
    x = to_float(inputs)
    return _adaptive_pool("AdaptiveAvgPool", x, output_size, data_format)


def adaptive_max_pool(inputs, output_size, data_format=None):
    x = convert_to_tensor(inputs)
    return _adaptive_pool(
        "AdaptiveMaxPool",
        x,
        output_size,
        data_format,
        # The CPU plugin has no int64 here.
        index_element_type="i32",
    )


def _adaptive_pool(type, x, output_size, data_format, **attributes):
    data_format = standardize_data_format(data_format)
    size = _per_dim(output_size, _spatial_dims(x, "pool"), "output_size")
    pooled = apply(type, _channels_first(x, data_format), size, **attributes)
    if isinstance(pooled, tuple):
        pooled, _ = pooled  # the places of the maxima
    return _restored(pooled, data_format)


# ---------------------------------------------------------------- convolutions


def conv(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    data_format = standardize_data_format(data_format)
    kernel = convert_to_tensor(kernel)
    x = convert_to_tensor(inputs, kernel.dtype)
    dims = _spatial_dims(x, "conv")
    channels = _channels(x, data_format)
    group_channels = kernel.shape[-2]
    groups = 1
    if channels is not None and group_channels is not None:
        if channels % group_channels:
            raise ValueError(
                "The number of input channels must be evenly divisible by "
                "kernel's in_channels. Received input channels "
                f"{channels} and kernel in_channels {group_channels}. "
            )
        groups = channels // group_channels
    # (..., in, out) -> (out, in, ...)
    weights = apply("Transpose", kernel, (dims + 1, dims, *range(dims)))
    if groups > 1:
        weights = apply(
            "Reshape",
            weights,
            (groups, -1, *weights.shape[1:]),
            special_zero=False,
        )
    return _convolve(
        "GroupConvolution" if groups > 1 else "Convolution",
        x,
        weights,
        data_format,
        kernel.shape[:dims],
        strides,
        padding,
        dilation_rate,
    )


def depthwise_conv(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    data_format = standardize_data_format(data_format)
    kernel = convert_to_tensor(kernel)
    x = convert_to_tensor(inputs, kernel.dtype)
    check_conv_input_channels(x, kernel, data_format)
    dims = _spatial_dims(x, "depthwise_conv")
    # (..., channels, multiplier) -> (channels, multiplier, 1, ...)
    weights = apply("Transpose", kernel, (dims, dims + 1, *range(dims)))
    return _convolve(
        "GroupConvolution",
        x,
        apply("Unsqueeze", weights, (2,)),
        data_format,
        kernel.shape[:dims],
        strides,
        padding,
        dilation_rate,
    )


def separable_conv(
    inputs,
    depthwise_kernel,
    pointwise_kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    filtered = depthwise_conv(
        inputs, depthwise_kernel, strides, padding, data_format, dilation_rate
    )
    return conv(filtered, pointwise_kernel, data_format=data_format)


def _convolve(
    type,
    x,
    weights,
    data_format,
    kernel_size,
    strides,
    padding,
    dilation_rate,
):
    dims = _spatial_dims(x, "conv")
    strides = _per_dim(strides, dims, "strides")
    dilations = _per_dim(dilation_rate, dims, "dilation_rate")
    auto_pad = _auto_pad(padding)
    x = _channels_first(x, data_format)
    if auto_pad == "valid":
        _check_not_empty(x.shape[2:], kernel_size, dilations)
    if 0 in (*x.shape[2:], *weights.shape) and None not in weights.shape:
        # OpenVINO slides some kernels over something only.
        batch, _, *sizes = dims_of(x)
        filters = math.prod(weights.shape[: -dims - 1])
        reach = _reach(kernel_size, dilations)
        reach = reach if auto_pad == "valid" else (1,) * dims
        places = _windows(sizes, reach, strides)
        result = numpy.zeros((batch, filters, *places), x.dtype)
        return _restored(result, data_format)
    result = _in_floats(
        type,
        x,
        weights,
        strides=strides,
        dilations=dilations,
        pads_begin=(0,) * dims,
        pads_end=(0,) * dims,
        auto_pad=auto_pad,
    )
    return _restored(result, data_format)


def _reach(kernel_size, dilations):
    """How many places a kernel spans in each dim that is known."""
    return [n and (n - 1) * d + 1 for n, d in zip(kernel_size, dilations)]


def _windows(sizes, reach, strides):
    """How many windows of so many places fit into each dim."""
    counts = [
        (size - places) // stride + 1
        for size, places, stride in zip(sizes, reach, strides)
    ]
    return [
        max(0, n) if isinstance(n, int) else numpy.maximum(n, 0) for n in counts
    ]


def _check_not_empty(sizes, kernel_size, dilations):
    for size, reach in zip(sizes, _reach(kernel_size, dilations)):
        if size and reach and size < reach:
            raise ValueError(
                "The convolution operation resulted in an empty output: the "
                f"input's spatial dims {tuple(sizes)} are smaller than the "
                f"kernel {tuple(kernel_size)} with dilation {dilations} and "
                "padding='valid'."
            )


def _in_floats(type, x, weights, **attributes):
    """A convolution; the CPU plugin has none of integers, eager code has."""
    if is_float(x.dtype) or not (is_symbolic(x) or is_symbolic(weights)):
        return apply(type, x, weights, **attributes)
    result = apply(
        type, cast(x, "float32"), cast(weights, "float32"), **attributes
    )
    return cast(result, x.dtype)


def conv_transpose(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    output_padding=None,
    data_format=None,
    dilation_rate=1,
):
    data_format = standardize_data_format(data_format)
    x, kernel = promote(inputs, kernel)
    check_conv_transpose_input_channels(x, kernel, data_format)
    dims = _spatial_dims(x, "conv_transpose")
    # What "valid" and "same" crop of all that the kernel reaches; where they
    # reach beyond, the crop is negative.
    crops = conv_transpose_crops(
        x.shape, kernel.shape, strides, padding, output_padding, dilation_rate
    )
    # (..., out, in) -> (in, out, ...)
    weights = apply("Transpose", kernel, (dims + 1, dims, *range(dims)))
    strides = _per_dim(strides, dims, "strides")
    dilations = _per_dim(dilation_rate, dims, "dilation_rate")
    x = _channels_first(x, data_format)
    if 0 in x.shape[2:] and None not in kernel.shape:
        # The CPU plugin makes a place where there is none.
        batch, _, *sizes = dims_of(x)
        reach = _reach(kernel.shape[:dims], dilations)
        places = [
            (n - 1) * stride + width - before - after
            for n, stride, width, (before, after) in zip(
                sizes, strides, reach, crops
            )
        ]
        result = numpy.zeros((batch, weights.shape[1], *places), x.dtype)
        return _restored(result, data_format)
    result = _in_floats(
        "ConvolutionBackpropData",
        x,
        weights,
        strides=strides,
        dilations=dilations,
        pads_begin=tuple(before for before, _ in crops),
        pads_end=tuple(max(after, 0) for _, after in crops),
        output_padding=tuple(max(-after, 0) for _, after in crops),
        auto_pad="explicit",
    )
    return _restored(result, data_format)


# -------------------------------------------------------------------- encoding


def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    refuse_sparse("one_hot", sparse)
    x = convert_to_tensor(x)
    if x.dtype not in ("int32", "int64"):
        x = cast(x, "int64" if x.dtype in ("uint32", "uint64") else "int32")
    dtype = floatx() if dtype is None else standardize(dtype)
    return apply(
        "OneHot",
        x,
        num_classes,
        convert_to_tensor(1, dtype),
        convert_to_tensor(0, dtype),
        axis=axis,
    )


def multi_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    refuse_sparse("multi_hot", sparse)
    x = convert_to_tensor(x)
    hits = one_hot(x, num_classes, axis=axis, dtype="bool")
    found = apply("ReduceLogicalOr", hits, 1 if x.ndim > 1 else 0)
    return cast(found, floatx() if dtype is None else dtype)


# ---------------------------------------------------------------------- losses


def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    target = convert_to_tensor(target)
    output = convert_to_tensor(output)
    _check_same_shape(target.shape, output.shape)
    _check_has_classes(output.shape)
    dtype = result_type(target.dtype, output.dtype, float)
    log_prob = _log_probabilities(output, from_logits, axis)
    target = cast(target, log_prob.dtype)
    return cast(-numpy.sum(target * log_prob, axis=axis), dtype)


def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    target = convert_to_tensor(target, "int32")
    output = convert_to_tensor(output)
    _check_has_classes(output.shape)
    if target.ndim == output.ndim and target.shape[-1] in (1, None):
        target = apply("Squeeze", target, -1)
    if not _may_equal(target.shape, output.shape[:-1]):
        raise ValueError(
            "Arguments `target` and `output` must have the same shape up until "
            f"the last dimension: target.shape={target.shape}, "
            f"output.shape={output.shape}"
        )
    dtype = result_type(output.dtype, float)
    log_prob = _log_probabilities(output, from_logits, axis)
    classes = dims_of(output)[axis]
    labels = one_hot(target, classes, axis=axis, dtype=log_prob.dtype)
    return cast(-numpy.sum(labels * log_prob, axis=axis), dtype)


def binary_crossentropy(target, output, from_logits=False):
    target = convert_to_tensor(target)
    output = convert_to_tensor(output)
    _check_same_shape(target.shape, output.shape)
    dtype = result_type(target.dtype, output.dtype, float)
    output = at_least_float32(output)
    target = cast(target, output.dtype)
    if from_logits:
        loss = target * softplus(-output) + (1 - target) * softplus(output)
    else:
        output = numpy.clip(output, fuzz(), 1 - fuzz())
        loss = -(
            target * numpy.log(output) + (1 - target) * numpy.log(1 - output)
        )
    return cast(loss, dtype)


def _log_probabilities(output, from_logits, axis):
    output = at_least_float32(output)
    if from_logits:
        return log_softmax(output, axis=axis)
    output = output / numpy.sum(output, axis=axis, keepdims=True)
    return numpy.log(numpy.clip(output, fuzz(), 1 - fuzz()))


def _may_equal(shape1, shape2):
    """Whether two shapes are equal where both are known."""
    return len(shape1) == len(shape2) and all(
        a == b or None in (a, b) for a, b in zip(shape1, shape2)
    )


def _check_same_shape(target, output):
    if not _may_equal(target, output):
        raise ValueError(
            "Arguments `target` and `output` must have the same shape. "
            f"Received: target.shape={target}, output.shape={output}"
        )


def _check_has_classes(output):
    if len(output) < 1:
        raise ValueError(
            "Arguments `target` and `output` must be at least rank 1. "
            f"Received: output.shape={output}"
        )


# --------------------------------------------------------------- normalisation


def moments(x, axes, keepdims=False, synchronized=False):
    if synchronized:
        raise NotImplementedError(
            "Argument synchronized=True is not supported with OpenVINO, which "
            "runs on one device at a time."
        )
    x = to_float(x)
    dtype = x.dtype
    x = at_least_float32(x)
    axes = canonical_axes(axes, x.ndim)
    mean = numpy.mean(x, axis=axes, keepdims=True)
    variance = numpy.mean(numpy.square(x - mean), axis=axes, keepdims=keepdims)
    if not keepdims and axes:
        mean = apply("Squeeze", mean, axes)
    if dtype in ("float16", "bfloat16"):
        # Both to float16's range, as on JAX: overflow is not infinity.
        limit = float(np.finfo(np.float16).max)
        mean = cast(numpy.clip(mean, -limit, limit), dtype)
        variance = cast(numpy.clip(variance, -limit, limit), dtype)
    return mean, variance


@in_float32
def batch_normalization(
    x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3
):
    x = convert_to_tensor(x)
    placed = [1] * x.ndim
    placed[axis] = -1

    def along_axis(value):
        return apply(
            "Reshape", convert_to_tensor(value), placed, special_zero=False
        )

    factor = rsqrt(along_axis(variance) + epsilon)
    if scale is not None:
        factor = factor * along_axis(scale)
    shift = -along_axis(mean) * factor
    if offset is not None:
        shift = shift + along_axis(offset)
    return x * factor + shift


# ------------------------------------------------------------------------- CTC


def ctc_loss(target, output, target_length, output_length, mask_index=0):
    return ctc.loss(
        at_least_float32(convert_to_tensor(output)),
        convert_to_tensor(output_length, "int32"),
        convert_to_tensor(target, "int32"),
        convert_to_tensor(target_length, "int32"),
        convert_to_tensor(mask_index, "int32"),
    )


def ctc_decode(
    inputs,
    sequence_lengths,
    strategy="greedy",
    beam_width=100,
    top_paths=1,
    merge_repeated=True,
    mask_index=0,
):
    inputs = convert_to_tensor(inputs)
    inputs = cast(inputs, result_type(inputs.dtype, "float32"))
    sequence_lengths = convert_to_tensor(sequence_lengths, "int32")
    if mask_index is None:
        mask_index = dims_of(inputs)[-1] - 1
    if strategy == "greedy":
        return ctc.greedy_decode(
            inputs, sequence_lengths, merge_repeated, mask_index
        )
    if strategy == "beam_search":
        return ctc.beam_search(
            log_softmax(inputs),
            sequence_lengths,
            convert_to_tensor(mask_index, "int32"),
            beam_width,
            top_paths,
        )
    raise ValueError(
        f"Invalid strategy {strategy}. Supported values are 'greedy' and "
        "'beam_search'."
    )


# --------------------------------------------------------------------- metrics


def psnr(x1, x2, max_val):
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    if not _may_equal(x1.shape, x2.shape):
        raise ValueError(
            f"Input shapes {x1.shape} and {x2.shape} must match for PSNR "
            "calculation. "
        )
    x1, x2 = promote(x1, x2, float)
    max_val = convert_to_tensor(max_val, x2.dtype)
    mse = numpy.mean(numpy.square(x1 - x2))
    return 20 * numpy.log10(max_val) - 10 * numpy.log10(mse)


# ------------------------------------------------------------------- attention


def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    query, key, value = map(convert_to_tensor, (query, key, value))
    if not query.ndim == key.ndim == value.ndim == 4:
        raise ValueError(
            "`dot_product_attention` only supports 4D inputs. "
            f"Received: query.shape={query.shape}, key.shape={key.shape}, "
            f"value.shape={value.shape}."
        )
    if attn_logits_soft_cap is not None:
        raise NotImplementedError(
            "`dot_product_attention` with `attn_logits_soft_cap` is only "
            "supported for JAX on TPU, not with OpenVINO."
        )
    dtype = result_type(query.dtype, key.dtype, value.dtype, float)
    compute_dtype = result_type(dtype, "float32")
    query, key, value = (
        apply("Transpose", cast(x, compute_dtype), (0, 2, 1, 3))
        for x in (query, key, value)
    )
    if key.shape[2] == 0:
        # Of no keys the CPU plugin leaves memory as it was.
        batch, heads, length, _ = dims_of(query)
        size = dims_of(value)[3]
        return numpy.zeros((batch, length, heads, size), dtype)
    heads = query.shape[1]
    key, value = (_for_each_head(x, heads) for x in (key, value))
    if scale is None:
        scale = rsqrt(cast(dims_of(query)[3], compute_dtype))
    bias = _attention_bias(bias, mask, is_causal, query, key)
    # `flash_attention` changes nothing: this node is the fused attention, and
    # how it is computed is up to the device.
    result = apply(
        "ScaledDotProductAttention",
        query,
        key,
        value,
        convert_to_tensor(0, compute_dtype) if bias is None else bias,
        convert_to_tensor(scale, compute_dtype),
        causal=False,
    )
    return cast(apply("Transpose", result, (0, 2, 1, 3)), dtype)


def _for_each_head(x, heads):
    """Keys or values of fewer heads, each repeated for a group of queries."""
    own = x.shape[1]
    if own == heads or None in (own, heads):
        return x
    if heads % own:
        raise ValueError(
            "`dot_product_attention` takes keys and values with as many heads "
            "as the query, or a divisor of that. Received: "
            f"{own} heads for a query of {heads}."
        )
    return numpy.repeat(x, heads // own, axis=1)


def _attention_bias(bias, mask, is_causal, query, key):
    """What is added to the logits, or `None`.

    What is masked gets a number so low that its weight is zero, but finite:
    a query without any key attends to all of them, rather than to NaN.
    """
    dtype = query.dtype
    allowed = None
    if mask is not None:
        allowed = _four_dims(cast(mask, "bool"), query.shape[1])
    if is_causal:
        row = numpy.arange(dims_of(query)[2], dtype="int32")
        column = numpy.arange(dims_of(key)[2], dtype="int32")
        causal = (row[:, None] >= column)[None, None]
        allowed = (
            causal if allowed is None else numpy.logical_and(allowed, causal)
        )
    if bias is not None:
        bias = _four_dims(convert_to_tensor(bias, dtype), query.shape[1])
    if allowed is None:
        return bias
    lowest = -0.7 * float(np.finfo(np.float32).max)
    return numpy.where(
        allowed,
        convert_to_tensor(0, dtype) if bias is None else bias,
        convert_to_tensor(lowest, dtype),
    )


def _four_dims(x, heads):
    """A mask or bias as (batch, heads, queries, keys), to be broadcast."""
    while x.ndim < 4:
        per_head = x.ndim == 3 and x.shape[1] == heads
        x = apply("Unsqueeze", x, (2 if per_head else 1,))
    return x


# --------------------------------------------------------------- rearrangement


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    x = convert_to_tensor(input)
    kernel, dilation, padding, stride = _pairs(
        kernel_size, dilation, padding, stride
    )
    if any(padding):
        widths = (0, 0, *padding)
        zero = convert_to_tensor(0, x.dtype)
        x = apply("Pad", x, widths, widths, zero, pad_mode="constant")
    batch, channels, *places = dims_of(x)
    if x.size == 0:
        blocks = _windows(places, _reach(kernel, dilation), stride)
        dims = batch, channels * math.prod(kernel), math.prod(blocks)
        return numpy.zeros(dims, x.dtype)
    patches = apply(
        "ExtractImagePatches",
        x,
        sizes=kernel,
        strides=stride,
        rates=dilation,
        auto_pad="valid",
    )
    # (batch, places in the kernel, channels, blocks): channels come first.
    patches = apply(
        "Reshape",
        patches,
        [batch, math.prod(kernel), channels, -1],
        special_zero=False,
    )
    patches = apply("Transpose", patches, (0, 2, 1, 3))
    return apply(
        "Reshape",
        patches,
        [batch, channels * math.prod(kernel), -1],
        special_zero=False,
    )


def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    size, kernel, dilation, padding, stride = _pairs(
        output_size, kernel_size, dilation, padding, stride
    )
    return apply(
        "Col2Im",
        convert_to_tensor(x),
        size,
        kernel,
        strides=stride,
        dilations=dilation,
        pads_begin=padding,
        pads_end=padding,
    )


def _pairs(*values):
    return [(v, v) if isinstance(v, int) else tuple(v) for v in values]


def depth_to_space(x, block_size, data_format="channels_last"):
    return _rearranged("DepthToSpace", x, block_size, data_format)


def space_to_depth(x, block_size, data_format="channels_last"):
    return _rearranged("SpaceToDepth", x, block_size, data_format)


def _rearranged(type, x, block_size, data_format):
    x = _channels_first(convert_to_tensor(x), data_format)
    # In Keras the innermost part of the channels is theirs if they are last.
    last = data_format == "channels_last"
    mode = "blocks_first" if last else "depth_first"
    x = apply(type, x, block_size=int(block_size), mode=mode)
    return _restored(x, data_format)
