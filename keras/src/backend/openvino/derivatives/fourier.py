"""Derivatives of the Fourier transforms: each is linear, and has an adjoint."""

import math

from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino.derivatives.rules import rule
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import dims_of


@rule("ComplexFourier")
def _complex_fourier(inputs, outputs, gradients, node, axes, size=()):
    (x,), (gradient,) = inputs, gradients
    if node == "IRDFT":
        return [_of_inverse_real(gradient, x)]
    # Of the numbers in pairs, their axes counted without that of the pairs.
    count = math.prod([dims_of(x)[axis - 1] for axis in axes], start=_one(x))
    if node == "DFT":
        return [_transformed(gradient, "IDFT", axes) * cast(count, x.dtype)]
    return [_transformed(gradient, "DFT", axes) / cast(count, x.dtype)]


def _one(x):
    return ops.ones((), "int32") if None in x.shape else 1


def _transformed(x, node, axes, size=()):
    return apply("ComplexFourier", x, node=node, axes=axes, size=size)


@rule("RealFourier")
def _real_fourier(inputs, outputs, gradients, length):
    (gradient,) = gradients
    return [_of_real(ops.moveaxis(gradient, 0, -1), length)]


@rule("RDFT")
def _rdft(inputs, outputs, gradients):
    x, axes = inputs
    return [_of_real(*gradients, dims_of(x)[-1]), None]


@rule("IRDFT")
def _irdft(inputs, outputs, gradients):
    return [_of_inverse_real(*gradients, inputs[0]), None, None]


def _of_real(gradient, length):
    """The gradient of signals, of that of their spectra in pairs."""
    shares = _shares(dims_of(gradient)[-2], length, gradient.dtype)
    scaled = gradient * cast(length, gradient.dtype) / shares
    if isinstance(length, int):
        return _transformed(scaled, "IRDFT", (-1,), ((length,),))
    return apply("IRDFT", scaled, (-1,), [length])


def _of_inverse_real(gradient, x):
    """The gradient of spectra in pairs, of that of their signals."""
    length = dims_of(gradient)[-1]
    if isinstance(length, int):
        parts = apply("RealFourier", gradient, length=length)
        spectrum = ops.moveaxis(parts, 0, -1)
    else:
        spectrum = apply("RDFT", gradient, (-1,))
    shares = _shares(dims_of(x)[-2], length, x.dtype)
    return spectrum * shares / cast(length, x.dtype)


def _shares(bins, length, dtype):
    """How many numbers of the whole spectrum each of its half stands for.

    All but the first, and the last of an even length, are there twice.
    """
    place = ops.arange(bins)
    once = (place == 0) | (place * 2 == length)
    return ops.expand_dims(ops.where(once, ops.ones((), dtype), 2), -1)
