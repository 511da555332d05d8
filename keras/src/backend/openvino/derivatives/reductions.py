"""Derivatives of reductions, cumulative sums and softmax."""

from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino.common import at_least_float32
from keras.src.backend.openvino.common import broadcast_like
from keras.src.backend.openvino.common import canonical_axes
from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.derivatives.rules import reshape_as
from keras.src.backend.openvino.derivatives.rules import rule
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import dims_of


def _kept(result, x, axes, keep_dims):
    """What was reduced, with the dims that were reduced as 1."""
    if keep_dims or not canonical_axes(axes, x.ndim):
        return result
    return apply("Unsqueeze", result, canonical_axes(axes, x.ndim))


def _of_reduction(*types):
    """As `rule`, of a reduction.

    The function takes the gradient and the result, both with the dims that
    were reduced, the operand and the axes.
    """

    def decorate(function):
        def gradient(inputs, outputs, gradients, axes=None, keep_dims=False):
            x, *more = inputs
            axes = more[0] if more else axes
            given, y = (
                _kept(result, x, axes, keep_dims)
                for result in (*gradients, *outputs)
            )
            return [function(given, y, x, axes), None][: len(inputs)]

        return rule(*types)(gradient)

    return decorate


@_of_reduction("ReduceSum")
def _sum(gradient, y, x, axes):
    return broadcast_like(gradient, x)


@_of_reduction("ReduceMean")
def _mean(gradient, y, x, axes):
    count = ops.prod(
        [dims_of(x)[axis] for axis in canonical_axes(axes, x.ndim)]
    )
    wide = at_least_float32(gradient)  # float16 counts to 65,504
    share = cast(wide / cast(count, wide.dtype), x.dtype)
    return broadcast_like(share, x)


@_of_reduction("ReduceMax", "ReduceMin", "NaNReduceMax", "NaNReduceMin")
def _extreme(gradient, y, x, axes):
    found = cast(x == y, x.dtype)
    count = apply("ReduceSum", found, axes, keep_dims=True)
    return found * (gradient / count)


@_of_reduction("ReduceL1")
def _l1(gradient, y, x, axes):
    return gradient * ops.where(x >= 0, like(1, x), -1)


@_of_reduction("ReduceL2")
def _l2(gradient, y, x, axes):
    return gradient * (x / y)


@_of_reduction("ReduceProd")
def _prod(gradient, y, x, axes):
    # The product of all others: of those before, times that of those after.
    axes = canonical_axes(axes, x.ndim)
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    order = (*rest, *axes)
    moved = ops.transpose(x, order)
    dims = [dims_of(x)[axis] for axis in rest]
    number = ops.prod([dims_of(x)[axis] for axis in axes], dtype="int32")
    flat = ops.reshape(moved, (*dims, number))
    others = _product_before(flat) * ops.flip(
        _product_before(ops.flip(flat, -1)), -1
    )
    back = sorted(range(x.ndim), key=order.__getitem__)
    return gradient * ops.transpose(reshape_as(others, moved), back)


def _product_before(x):
    ones = ops.ones_like(x[..., :1])
    shifted = ops.concatenate([ones, x[..., :-1]], axis=-1)
    return ops.cumprod(shifted, axis=-1)


@rule("CumSum")
def _cum_sum(inputs, outputs, gradients, exclusive=False, reverse=False):
    axis = inputs[1]
    back = apply(
        "CumSum", *gradients, axis, exclusive=exclusive, reverse=not reverse
    )
    return [back, None]


@rule("Softmax")
def _softmax(inputs, outputs, gradients, axis=1):
    (gradient,), (y,) = gradients, outputs
    weighted = gradient * y
    return [weighted - y * ops.sum(weighted, axis=axis, keepdims=True)]


@rule("LogSoftmax")
def _log_softmax(inputs, outputs, gradients, axis=-1):
    (gradient,), (y,) = gradients, outputs
    total = ops.sum(gradient, axis=axis, keepdims=True)
    return [gradient - ops.exp(y) * total]
