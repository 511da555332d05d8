"""Complex numbers in graphs, which OpenVINO has no type for.

Eagerly a complex tensor is a complex NumPy array, and the kernels compute with
it. In a trace it is one of pairs: floats with a last dim of two, as OpenVINO's
Fourier transforms have them. Each operation that takes complex numbers has a
rule here, which says what becomes of the real and the imaginary parts; one
that has none is an error. The rules also tell the shapes and dtypes of eager
results.
"""

import functools
import math

import numpy as np

from keras.src.backend.openvino import opset  # noqa: F401 (extended here)
from keras.src.backend.openvino import recording
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.dtypes import PART_DTYPES
from keras.src.backend.openvino.dtypes import complex_of
from keras.src.backend.openvino.dtypes import from_ov_name
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.numpy import absolute
from keras.src.backend.openvino.numpy import any
from keras.src.backend.openvino.numpy import arcsin
from keras.src.backend.openvino.numpy import arcsinh
from keras.src.backend.openvino.numpy import arctan2
from keras.src.backend.openvino.numpy import arctanh
from keras.src.backend.openvino.numpy import argsort
from keras.src.backend.openvino.numpy import clip
from keras.src.backend.openvino.numpy import conj
from keras.src.backend.openvino.numpy import cos
from keras.src.backend.openvino.numpy import cosh
from keras.src.backend.openvino.numpy import exp
from keras.src.backend.openvino.numpy import hypot
from keras.src.backend.openvino.numpy import imag
from keras.src.backend.openvino.numpy import isfinite
from keras.src.backend.openvino.numpy import isinf
from keras.src.backend.openvino.numpy import isnan
from keras.src.backend.openvino.numpy import less
from keras.src.backend.openvino.numpy import log
from keras.src.backend.openvino.numpy import log1p
from keras.src.backend.openvino.numpy import max
from keras.src.backend.openvino.numpy import maximum
from keras.src.backend.openvino.numpy import min
from keras.src.backend.openvino.numpy import minimum
from keras.src.backend.openvino.numpy import real
from keras.src.backend.openvino.numpy import sign
from keras.src.backend.openvino.numpy import signbit
from keras.src.backend.openvino.numpy import sin
from keras.src.backend.openvino.numpy import sinh
from keras.src.backend.openvino.numpy import sqrt
from keras.src.backend.openvino.numpy import square
from keras.src.backend.openvino.numpy import take_along_axis
from keras.src.backend.openvino.numpy import tanh
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.numpy import zeros_like
from keras.src.backend.openvino.registry import extend
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import is_complex_tensor
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import paired
from keras.src.backend.openvino.tensor import value_of

# ------------------------------------------------------ tensors and their parts


def parts(x):
    """The real and the imaginary part of a tensor."""
    if not is_complex(x.dtype):
        return x, zeros_like(x)
    if x._parts is not None:
        return x._parts
    if is_symbolic(x):
        pairs = OpenVINOKerasTensor(x.output)
        return tuple(
            gather(pairs, concrete(np.array(i)), x.ndim) for i in (0, 1)
        )
    value = value_of(x)
    return concrete(value.real.copy()), concrete(value.imag.copy())


def join(real, imaginary):
    """The complex tensor of its parts."""
    if not is_symbolic(real) and not is_symbolic(imaginary):
        return _joined_values(real, imaginary)
    last = [apply("Unsqueeze", part, -1) for part in (real, imaginary)]
    pairs = apply("Concat", *last, axis=-1)
    return paired(pairs.output, (real, imaginary))


def _joined_values(real, imaginary):
    if not recording.state.recorders:
        return apply("Complex", real, imaginary)
    with recording.recorders():
        result = apply("Complex", real, imaginary)
    # The derivative is that of the parts.
    result._parts = real, imaginary
    return result


def _rule(type):
    """Makes a function of complex operands the rule of an operation."""

    def decorate(function):
        extend(type, complex=function)
        return function

    return decorate


def _by_parts(*types):
    """Gives the rule of what does the same to either part."""
    for type in types:
        extend(type, complex=functools.partial(_apply_to_parts, type))


def _apply_to_parts(type, *operands, **attributes):
    halves = zip(
        *[parts(x) if is_complex_tensor(x) else (x, x) for x in operands]
    )
    real, imaginary = (apply(type, *half, **attributes) for half in halves)
    if isinstance(real, tuple):
        return tuple(map(join, real, imaginary))
    return join(real, imaginary)


# ----------------------------------------------------- making and taking apart


def _complex_kernel(real, imaginary):
    result = np.empty(real.shape, numpy_dtype(complex_of(real.dtype.name)))
    result.real, result.imag = real, imaginary
    return result


register("Complex", _complex_kernel, complex=join)
register("Real", np.real, complex=lambda x: parts(x)[0])
register("Imaginary", np.imag, complex=lambda x: parts(x)[1])


def _conjugate(x):
    real, imaginary = parts(x)
    return join(real, -imaginary)


register("Conjugate", np.conjugate, complex=_conjugate)


def _angle(x):
    real, imaginary = parts(x)
    return arctan2(imaginary, real)


register("Angle", np.angle, complex=_angle)


@_rule("Convert")
def _convert(x, destination_type):
    dtype = from_ov_name(destination_type)
    real, imaginary = parts(x)
    if not is_complex(dtype):
        return cast(real, dtype)
    part = PART_DTYPES[dtype]
    return join(cast(real, part), cast(imaginary, part))


# ---------------------------------------------------------------- data movement

_by_parts(
    "Broadcast",
    "Concat",
    "Gather",
    "GatherElements",
    "GatherND",
    "Pad",
    "Reshape",
    "Roll",
    "ScatterUpdate",
    "Select",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "VariadicSplit",
)


@_rule("ShapeOf")
def _shape_of(x, output_type):
    return apply("ShapeOf", parts(x)[0], output_type=output_type)


@_rule("NonZero")
def _non_zero(x, output_type):
    return apply("NonZero", cast(x, "bool"), output_type=output_type)


def _scatter(type):
    def rule(*operands, reduction, **attributes):
        if reduction not in ("none", "sum"):
            raise TypeError(
                f"{type} does not take complex numbers with the reduction "
                f"{reduction!r}."
            )
        return _apply_to_parts(
            type, *operands, reduction=reduction, **attributes
        )

    extend(type, complex=rule)


_scatter("ScatterElementsUpdate")
_scatter("ScatterNDUpdate")


# ------------------------------------------------------------------- arithmetic

_by_parts(
    "Add",
    "CumSum",
    "Negative",
    "ReduceMean",
    "ReduceSum",
    "Round",
    "Subtract",
)


@_rule("Multiply")
def _multiply(x, y):
    (a, b), (c, d) = parts(x), parts(y)
    return join(a * c - b * d, a * d + b * c)


@_rule("MatMul")
def _mat_mul(x, y, **transposed):
    product = functools.partial(apply, "MatMul", **transposed)
    (a, b), (c, d) = parts(x), parts(y)
    return join(product(a, c) - product(b, d), product(a, d) + product(b, c))


@_rule("Divide")
def _divide(x, y):
    # R. L. Smith, "Algorithm 116: Complex division" (1962), as NumPy does it:
    # it squares nothing, which might overflow.
    (a, b), (c, d) = parts(x), parts(y)
    steep = absolute(c) < absolute(d)
    larger, smaller = where(steep, d, c), where(steep, c, d)
    ratio = where(larger == 0, larger, smaller / larger)
    scale = larger + smaller * ratio
    return join(
        where(steep, a * ratio + b, a + b * ratio) / scale,
        where(steep, b * ratio - a, b - a * ratio) / scale,
    )


@_rule("Abs")
def _absolute(x):
    return hypot(*parts(x))


@_rule("Sign")
def _sign(x):
    real, imaginary = parts(x)
    is_infinite = isinf(real) | isinf(imaginary)
    # What is finite does not count beside infinity.
    real, imaginary = (
        where(is_infinite, where(isinf(part), sign(part), 0), part)
        for part in (real, imaginary)
    )
    size = hypot(real, imaginary)
    size = where(is_infinite & (size > 1), math.nan, size)
    size = where(size == 0, 1, size)
    return join(real / size, imaginary / size)


@_rule("ReduceProd")
def _reduce_prod(x, axes, keep_dims):
    # The last of the products of what comes before, and 1 of nothing.
    axes = (axes,) if isinstance(axes, int) else axes
    for axis in axes:
        before = [int(i == axis % x.ndim) for i in range(x.ndim)]
        after = [0] * x.ndim
        one = cast(1, x.dtype)
        x = apply("Pad", x, before, after, one, pad_mode="constant")
        x = apply("CumProd", x, axis=axis % x.ndim)
        x = apply("Gather", x, (-1,), axis)
    return x if keep_dims else apply("Squeeze", x, axes)


@_rule("ReduceL1")
def _reduce_l1(x, axes, keep_dims):
    return apply("ReduceSum", absolute(x), axes, keep_dims=keep_dims)


@_rule("ReduceL2")
def _reduce_l2(x, axes, keep_dims):
    return apply("ReduceL2", absolute(x), axes, keep_dims=keep_dims)


# ------------------------------------------------------------------- comparison


@_rule("Equal")
def _equal(x, y):
    (a, b), (c, d) = parts(x), parts(y)
    return (a == c) & (b == d)


@_rule("NotEqual")
def _not_equal(x, y):
    (a, b), (c, d) = parts(x), parts(y)
    return (a != c) | (b != d)


@_rule("Less")
def _less(x, y):
    """The order of NumPy: by the real parts, then by the imaginary ones."""
    (a, b), (c, d) = parts(x), parts(y)
    is_number = (b == b) & (d == d)
    return ((a < c) & is_number) | ((a == c) & (b < d))


@_rule("LessEqual")
def _less_equal(x, y):
    return less(x, y) | (x == y)


@_rule("IsNaN")
def _is_nan(x):
    real, imaginary = parts(x)
    return isnan(real) | isnan(imaginary)


@_rule("IsInfinite")
def _is_inf(x):
    real, imaginary = parts(x)
    return isinf(real) | isinf(imaginary)


@_rule("Finite")
def _is_finite(x):
    real, imaginary = parts(x)
    return isfinite(real) & isfinite(imaginary)


@_rule("NaNMaximum")
def _maximum(x, y):
    return _unless_nan(x, _unless_nan(y, where(less(x, y), y, x)))


@_rule("NaNMinimum")
def _minimum(x, y):
    return _unless_nan(x, _unless_nan(y, where(less(y, x), y, x)))


def _unless_nan(x, result):
    return where(isnan(x), x, result)


def _extreme(type, reduce, outside):
    @_rule(type)
    def rule(x, axes, keep_dims):
        real, imaginary = parts(x)
        best = reduce(real, axes, keepdims=True)
        rest = where(real == best, imaginary, outside)
        best = join(best, reduce(rest, axes, keepdims=True))
        best = where(any(isnan(x), axes, keepdims=True), math.nan, best)
        return best if keep_dims else apply("Squeeze", best, axes)


_extreme("NaNReduceMax", max, -math.inf)
_extreme("NaNReduceMin", min, math.inf)


@_rule("ArgSort")
def _arg_sort(x, axis):
    real, imaginary = parts(x)
    # As NumPy, whose order has NaN last, and more so in the real part.
    no_number = 2 * cast(isnan(real), "int32") + cast(isnan(imaginary), "int32")
    order = argsort(imaginary, axis)
    for key in (real, no_number):
        later = argsort(take_along_axis(key, order, axis), axis)
        order = take_along_axis(order, later, axis)
    return order


@_rule("Sort")
def _sort(x, axis):
    return take_along_axis(x, argsort(x, axis), axis)


# --------------------------------------------- exponentials, logarithms, powers


def _times(size, x):
    """`size * x`, and 0 where either is, whatever the other is."""
    return where((size == 0) | (x == 0), 0, size * x)


@_rule("NaNExp")
def _exp(x):
    real, imaginary = parts(x)
    # The root twice: it does not overflow before the product does.
    root = exp(real / 2)
    return join(
        _times(root, _times(root, cos(imaginary))),
        _times(root, _times(root, sin(imaginary))),
    )


@_rule("Log")
def _log(x):
    real, imaginary = parts(x)
    height, width = absolute(imaginary), absolute(real)
    larger, smaller = maximum(height, width), minimum(height, width)
    ratio = where(smaller == larger, 1, smaller / larger)
    size = log(larger) + log1p(square(ratio)) / 2
    return join(size, arctan2(imaginary, real))


def _logarithm(type, base):
    @_rule(type)
    def rule(x):
        # Each part for itself: 0 times infinity is no number.
        real, imaginary = parts(log(x))
        return join(real / math.log(base), imaginary / math.log(base))


_logarithm("Log2", 2)
_logarithm("Log10", 10)


@_rule("Log1p")
def _log1p(x):
    a, b = parts(x)
    near = log1p(a * (a + 2) + square(b)) / 2
    size = where(absolute(x) < 0.5, near, log(hypot(1 + a, b)))
    return join(size, arctan2(b, 1 + a))


@_rule("Sqrt")
def _sqrt(x):
    real, imaginary = parts(x)
    # Of an eighth, whose absolute value does not overflow.
    larger = 2 * sqrt(absolute(real) / 8 + hypot(real / 8, imaginary / 8))
    height = absolute(imaginary)
    smaller = where(larger == 0, 0, height / larger / 2)
    smaller = where(isinf(height), height, smaller)
    is_right = real >= 0
    height = where(is_right, smaller, larger)
    return join(
        where(is_right, larger, smaller),
        where(signbit(imaginary), -height, height),
    )


@_rule("Power")
def _power(x, y):
    result = exp(y * log(x))
    result = where((x == 0) & (parts(y)[0] > 0), 0, result)
    return where(y == 0, 1, result)


# ----------------------------------------------------------------- trigonometry


def _turned(x):
    """The complex number times i."""
    real, imaginary = parts(x)
    return join(-imaginary, real)


def _turned_back(x):
    real, imaginary = parts(x)
    return join(imaginary, -real)


@_rule("Cosh")
def _cosh(x):
    real, imaginary = parts(x)
    return join(
        _times(cosh(real), cos(imaginary)), _times(sinh(real), sin(imaginary))
    )


@_rule("Sinh")
def _sinh(x):
    real, imaginary = parts(x)
    return join(
        _times(sinh(real), cos(imaginary)), _times(cosh(real), sin(imaginary))
    )


@_rule("Tanh")
def _tanh(x):
    real, imaginary = parts(x)
    # Beyond, it is 1 and `sinh` squared overflows.
    real = clip(real, -40, 40)
    sine, cosine = sin(imaginary), cos(imaginary)
    size = square(sinh(real)) + square(cosine)
    return join(sinh(real) * cosh(real) / size, sine * cosine / size)


@_rule("Cos")
def _cos(x):
    return cosh(_turned(x))


@_rule("Sin")
def _sin(x):
    return _turned_back(sinh(_turned(x)))


@_rule("Tan")
def _tan(x):
    return _turned_back(tanh(_turned(x)))


# The inverses are those of W. Kahan, "Branch cuts for complex elementary
# functions" (1987), which lose no digits to cancellation.


def _roots(x):
    """The conjugate of the root of `1 - x`, and the root of `1 + x`.

    Neither asks for the negative of an imaginary part, of which the CPU plugin
    loses the sign where it is 0, and with it the side of a branch cut.
    """
    a, b = parts(x)
    return sqrt(join(1 - a, b)), sqrt(join(1 + a, b))


@_rule("Asin")
def _arcsin(x):
    below, above = _roots(x)
    return join(
        arctan2(real(x), real(conj(below) * above)),
        arcsinh(imag(below * above)),
    )


@_rule("Acos")
def _arccos(x):
    below, above = _roots(x)
    return join(
        2 * arctan2(real(below), real(above)),
        -arcsinh(imag(below * above)),
    )


@_rule("Acosh")
def _arccosh(x):
    a, b = parts(x)
    below, above = sqrt(join(a - 1, b)), sqrt(join(a + 1, b))
    return join(
        arcsinh(real(conj(below) * above)),
        2 * arctan2(imag(below), real(above)),
    )


@_rule("Asinh")
def _arcsinh(x):
    return _turned_back(arcsin(_turned(x)))


@_rule("Atanh")
def _arctanh(x):
    # Further out, squares overflow and the result is a quarter turn.
    a, b = (clip(part, -1e18, 1e18) for part in parts(x))
    width = absolute(a)
    slope = 2 / hypot(1 - width, b)
    size = where(slope > 1e9, log(slope) / 2, log1p(width * square(slope)) / 4)
    angle = arctan2(b, ((1 - a) * (1 + a) - square(b)) / 2) / 2
    return join(where(signbit(a), -size, size), angle)


@_rule("Atan")
def _arctan(x):
    return _turned_back(arctanh(_turned(x)))
