"""Derivatives of what is computed for each element by itself."""

import math

from keras.src.backend.openvino import nn
from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.common import polynomial
from keras.src.backend.openvino.core import custom_gradient
from keras.src.backend.openvino.derivatives.rules import elementwise
from keras.src.backend.openvino.derivatives.rules import rule
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast

where = ops.where


def _register(derivative, *types):
    """Gives the rule of functions of one operand.

    Args:
        derivative: takes the operand and the result.
        *types: the node types.
    """

    @elementwise(*types)
    def rule(gradient, y, x):
        return gradient * derivative(x, y)


def _slope(value, sign):
    """`value`, whose own derivative is said: `sign * x * value(x) ** 3`.

    That of its factors is NaN, inf - inf, where one of them is 0.
    """

    def slope(x):
        @custom_gradient
        def known(x):
            return value(x), lambda given: sign * given * x * slope(x) ** 3

        return known(x)

    return slope


_arcsin_slope = _slope(lambda x: 1 / ops.sqrt((1 - x) * (1 + x)), 1)
_arccosh_slope = _slope(lambda x: 1 / (ops.sqrt(x - 1) * ops.sqrt(x + 1)), -1)

# At 0 it is 1, as in JAX: derivatives of `abs(x) ** 2` and the like are right.
_register(lambda x, y: where(x >= 0, like(1, x), -1), "Abs")
_register(lambda x, y: -_arcsin_slope(x), "Acos")
_register(lambda x, y: _arccosh_slope(x), "Acosh")
_register(lambda x, y: _arcsin_slope(x), "Asin")
_register(lambda x, y: 1 / ops.sqrt(x * x + 1), "Asinh")
_register(lambda x, y: 1 / (1 + x * x), "Atan")
_register(lambda x, y: 1 / ((1 - x) * (1 + x)), "Atanh")
_register(lambda x, y: -ops.sin(x), "Cos")
_register(lambda x, y: ops.sinh(x), "Cosh")
_register(lambda x, y: y, "Exp", "NaNExp")
_register(lambda x, y: y + 1, "Expm1")
_register(lambda x, y: 1 / x, "Log")
_register(lambda x, y: 1 / (x * math.log(2)), "Log2")
_register(lambda x, y: 1 / (x * math.log(10)), "Log10")
_register(lambda x, y: 1 / (1 + x), "Log1p")
_register(lambda x, y: like(-1, x), "Negative")
_register(lambda x, y: ops.cos(x), "Sin")
_register(lambda x, y: ops.cosh(x), "Sinh")
_register(lambda x, y: 0.5 / y, "Sqrt")
_register(lambda x, y: y**-2 * (1 / 3), "Cbrt")
_register(lambda x, y: 1 + y * y, "Tan")
_register(lambda x, y: (1 - y) * (1 + y), "Tanh")
_register(
    lambda x, y: 2 / math.sqrt(math.pi) * ops.exp(-x * x), "ErrorFunction"
)
_register(
    lambda x, y: -2 / math.sqrt(math.pi) * ops.exp(-x * x),
    "ComplementaryErrorFunction",
)
_register(
    lambda x, y: math.sqrt(math.pi) / 2 * ops.exp(y * y), "InverseErrorFunction"
)


# Abramowitz and Stegun, 9.8.3 and 9.8.4: powers of (x / 3.75)^2, of 3.75 / x.
_I1_SMALL = (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733)
_I1_SMALL += (0.00301532, 0.00032411)
_I1_LARGE = (0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555)
_I1_LARGE += (0.02282967, -0.02895312, 0.01787654, -0.00420059)


def _i1(x):
    """The modified Bessel function of order 1, the derivative of `i0`."""
    size = ops.absolute(x)
    small = size * polynomial(_I1_SMALL, ops.square(size / 3.75))
    large = where(size < 3.75, 3.75, size)
    tail = polynomial(_I1_LARGE, 3.75 / large) * ops.exp(large)
    return ops.sign(x) * where(size < 3.75, small, tail / ops.sqrt(large))


_register(lambda x, y: _i1(x), "BesselI0")


@rule("Angle", "Ceiling", "Floor", "Round", "Sign", "Trunc")
def _steps(inputs, outputs, gradients, **_):
    return [None]


@rule("Convert")
def _convert(inputs, outputs, gradients, destination_type):
    (x,) = inputs
    return [cast(gradients[0], x.dtype) if is_float(x.dtype) else None]


@elementwise("Clamp")
def _clamp(gradient, y, x, min, max):
    return where((x > min) & (x < max), gradient, 0)


# ----------------------------------------------------------------- activations

_register(lambda x, y: cast(x > 0, x.dtype), "Relu")
_register(lambda x, y: y * (1 - y), "Sigmoid")
_register(lambda x, y: ops.square(1 - ops.absolute(y)), "SoftSign")
_register(lambda x, y: nn.sigmoid(x), "LogOnePlusExp")
_register(lambda x, y: where(ops.absolute(x) <= 1, like(1, x), 0), "HardTanh")
_register(lambda x, y: where(ops.absolute(x) < 3, 1 / 6, 0), "HSigmoid")
_register(
    lambda x, y: where(
        ops.absolute(x) < 3, (2 * x + 3) / 6, cast(x > 0, x.dtype)
    ),
    "HSwish",
)


@elementwise("Elu")
def _elu(gradient, y, x, alpha):
    return gradient * where(x > 0, 1, y + alpha)


@elementwise("Selu")
def _selu(gradient, y, x, alpha, scale):
    return gradient * where(x > 0, scale, y + alpha * scale)


@elementwise("Gelu")
def _gelu(gradient, y, x, approximation_mode="erf"):
    if approximation_mode.lower() == "tanh":
        scale = math.sqrt(2 / math.pi)
        inner = ops.tanh(scale * (x + 0.044715 * x * x * x))
        slope = scale * (1 + 3 * 0.044715 * x * x) * (1 - inner * inner)
        return gradient * 0.5 * (1 + inner + x * slope)
    below = 0.5 * apply("ComplementaryErrorFunction", x * (-math.sqrt(0.5)))
    density = ops.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return gradient * (below + x * density)


@elementwise("Swish")
def _swish(gradient, y, x):
    share = nn.sigmoid(x)
    return gradient * (share + x * (share * (1 - share)))


@elementwise("PRelu")
def _prelu(gradient, y, x, slope):
    if slope.ndim == 1 and x.ndim > 1 and slope.shape != (1,):
        raise NotImplementedError(
            "PRelu has a derivative for slopes that broadcast."
        )
    is_negative = x < 0
    return (
        where(is_negative, gradient * slope, gradient),
        where(is_negative, gradient * x, 0),
    )


# --------------------------------------------------------------- two operands


@elementwise("Add")
def _add(gradient, y, x1, x2):
    return gradient, gradient


@elementwise("Subtract")
def _subtract(gradient, y, x1, x2):
    return gradient, -gradient


@elementwise("Multiply")
def _multiply(gradient, y, x1, x2):
    return gradient * x2, gradient * x1


@elementwise("Divide")
def _divide(gradient, y, x1, x2):
    return gradient / x2, -gradient * y / x2


@elementwise("Power")
def _power(gradient, y, x, exponent):
    # Where the naive forms give NaN: 0 * inf of `0 ** 0`, and log(0).
    # (Small numbers are zeros too: their inverse may be infinite.)
    base = where((exponent == 0) & (x * x == 0), 1, x)
    of_x = exponent * apply("Power", base, exponent - 1)
    of_exponent = y * ops.log(where(x == 0, 1, x))
    return gradient * of_x, gradient * of_exponent


@elementwise("Maximum", "NaNMaximum")
def _maximum(gradient, y, x1, x2):
    return _shared(gradient, x1, x2, x1 > x2, x1 < x2)


@elementwise("Minimum", "NaNMinimum")
def _minimum(gradient, y, x1, x2):
    return _shared(gradient, x1, x2, x1 < x2, x1 > x2)


def _shared(gradient, x1, x2, is_first, is_second):
    """Equal operands have half of it each; where one is NaN, neither has."""
    half = where(x1 == x2, 0.5 * gradient, 0)
    return where(is_first, gradient, half), where(is_second, gradient, half)


@elementwise("FMax")
def _fmax(gradient, y, x1, x2):
    return _chosen(gradient, (x1 > x2) | ops.isnan(x2))


@elementwise("FMin")
def _fmin(gradient, y, x1, x2):
    return _chosen(gradient, (x1 < x2) | ops.isnan(x2))


def _chosen(gradient, is_first):
    """Of equal operands it is the second, as in JAX."""
    return where(is_first, gradient, 0), where(is_first, 0, gradient)


@elementwise("Select")
def _select(gradient, y, condition, x1, x2):
    return None, where(condition, gradient, 0), where(condition, 0, gradient)


@elementwise("FloorDivide")
def _floor_divide(gradient, y, x1, x2):
    return None, None


@elementwise("TruncRemainder")
def _trunc_remainder(gradient, y, x1, x2):
    return gradient, -gradient * ops.trunc(x1 / x2)


@elementwise("ArcTan2")
def _arctan2(gradient, angle, y, x):
    scaled = gradient / (x * x + y * y)
    return scaled * x, -scaled * y


@elementwise("Hypot")
def _hypot(gradient, y, x1, x2):
    # At 0, where there is none, half for each operand, as in JAX.
    is_zero = y == 0
    size = where(is_zero, 1, y)
    return tuple(gradient * where(is_zero, 0.5, x / size) for x in (x1, x2))


@elementwise("LogAddExp")
def _log_add_exp(gradient, y, x1, x2):
    return tuple(gradient * ops.exp(_exponent_of_share(x, y)) for x in (x1, x2))


@elementwise("LogAddExp2")
def _log_add_exp2(gradient, y, x1, x2):
    return tuple(
        gradient * ops.exp2(_exponent_of_share(x, y)) for x in (x1, x2)
    )


def _exponent_of_share(x, y):
    return where(x == math.inf, 0, x - y)


@elementwise("LoadExponent")
def _load_exponent(gradient, y, x, exponent):
    return apply("LoadExponent", gradient, exponent)
