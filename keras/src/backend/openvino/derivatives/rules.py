"""How a rule is registered, and what most of them need."""

import functools

from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.registry import extend
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import dims_of


def rule(*types):
    """Makes a function the `registry.Operation.gradient` of node types."""

    def decorate(function):
        for type in types:
            extend(type, gradient=function)
        return function

    return decorate


def elementwise(*types):
    """As `rule`, of operations that broadcast their operands.

    The function takes the gradient, the result and the operands, and the
    attributes as keywords; it returns a gradient for each operand, or one for
    the first, all in the shape of the result.
    """

    def decorate(function):
        @functools.wraps(function)
        def gradient(inputs, outputs, gradients, **attributes):
            given = function(*gradients, *outputs, *inputs, **attributes)
            if not isinstance(given, tuple):
                given = (given,)
            return [
                None if g is None else unbroadcast(g, x)
                for g, x in zip(given, inputs)
            ]

        return rule(*types)(gradient)

    return decorate


def unbroadcast(gradient, x):
    """The gradient of `x`, of that of what `x` was broadcast to."""
    if x.__class__ is not OpenVINOKerasTensor or not is_float(x.dtype):
        return None
    new = gradient.ndim - x.ndim
    axes = tuple(range(new)) + tuple(
        new + i
        for i, dim in enumerate(x.shape)
        if dim == 1 and gradient.shape[new + i] != 1
    )
    if axes:
        gradient = apply("ReduceSum", gradient, axes, keep_dims=True)
    if new:
        gradient = apply("Squeeze", gradient, tuple(range(new)))
    for axis, dim in enumerate(x.shape):
        if dim is None:
            gradient = _unbroadcast_unknown(gradient, x, axis)
    return gradient


def _unbroadcast_unknown(gradient, x, axis):
    """As `unbroadcast`, along an axis of which `x` may turn out to have 1."""
    dim = dims_of(x)[axis]
    total = apply("ReduceSum", gradient, (axis,), keep_dims=True)
    gradient = where(dim == 1, total, gradient)
    return apply("Slice", gradient, (0,), [dim], (1,), (axis,))


def reshape_as(gradient, x):
    """`gradient` in the shape of `x`."""
    return apply("Reshape", gradient, list(dims_of(x)), special_zero=False)


def static_dims(x, name):
    """The shape of a tensor whose dims the gradient of `name` must know."""
    return tuple(known_dim(x, i, name) for i in range(x.ndim))
