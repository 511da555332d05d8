"""`keras.ops.numpy` on OpenVINO."""

import builtins
import functools
import math
import operator

import ml_dtypes
import numpy as np

from keras.src.backend.common.backend_utils import vectorize_impl
from keras.src.backend.config import floatx
from keras.src.backend.openvino import contraction
from keras.src.backend.openvino import kernels
from keras.src.backend.openvino import packed
from keras.src.backend.openvino.common import binary
from keras.src.backend.openvino.common import broadcast_dims
from keras.src.backend.openvino.common import canonical_axes
from keras.src.backend.openvino.common import canonical_axis
from keras.src.backend.openvino.common import dimension
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.common import in_float32
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.common import larger
from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.common import listed
from keras.src.backend.openvino.common import nearest_like
from keras.src.backend.openvino.common import polynomial
from keras.src.backend.openvino.common import reduction
from keras.src.backend.openvino.common import refuse_complex
from keras.src.backend.openvino.common import refuse_sparse
from keras.src.backend.openvino.common import smaller
from keras.src.backend.openvino.common import to_float
from keras.src.backend.openvino.common import unary
from keras.src.backend.openvino.composite import composite
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import is_inexact
from keras.src.backend.openvino.dtypes import is_integer
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import ov_name
from keras.src.backend.openvino.dtypes import part_dtype
from keras.src.backend.openvino.dtypes import result_type
from keras.src.backend.openvino.dtypes import standardize
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.kernels import is_outside
from keras.src.backend.openvino.layout import port_of
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.scans import vectorized_map
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote
from keras.src.backend.openvino.tensor import value_of

# --------------------------------------------------------------- what ops share


# The CPU plugin clips these where they should wrap around.
_SMALL_INTEGERS = ("int8", "uint8", "int16", "uint16")


_END = 2**31 - 1  # of a slice to the end


def _wrapping(type, kernel):
    """An integer operation that wraps around in small dtypes, as NumPy's."""

    @composite(f"Wrapping{type}", kernel)
    def wrapping(*operands):
        wide = [cast(x, "int32") for x in operands]
        return cast(apply(type, *wide), operands[0].dtype)

    return wrapping


def _unless_nan(x, result):
    if _is_known_number(x):
        return result
    return apply("Select", apply("NotEqual", x, x), x, result)


def _is_known_number(x):
    node = x.output.get_node()
    if node.get_type_name() != "Constant" or x.ndim > 0:
        return False
    return not math.isnan(node.get_data().item())


def _nan_reduction(name, type, kernel):
    def numpy_kernel(x, axes, keep_dims):
        return kernel(x, axis=axes, keepdims=keep_dims)

    @composite(name, numpy_kernel)
    def reduce(x, axes, keep_dims):
        # The CPU plugin's ReduceMax and ReduceMin give some element's value
        # where one is NaN, and begin with a finite number: of infinities
        # alone they give that.
        begin = -math.inf if type == "ReduceMax" else math.inf
        result = apply(type, x, axes, keep_dims=keep_dims)
        level = cast(apply("NotEqual", x, x), x.dtype) * 2  # NaN is 2 or 3
        is_magnitude = x.output.get_node().get_type_name() == "Abs"
        if not is_magnitude or type != "ReduceMax":
            level = level + cast(x != begin, x.dtype)
        level = apply("ReduceMax", level, axes, keep_dims=keep_dims)
        if not is_magnitude or type != "ReduceMax":
            result = where(level < 1, begin, result)
        return where(level > 1, math.nan, result)

    return reduce


def _elementwise_rule(x1, x2):
    (dtype, dims1), (_, dims2) = x1, x2
    return [(dtype, broadcast_dims(dims1, dims2))]


def _arithmetic(type, wrapping, x1, x2):
    if x1.dtype in _SMALL_INTEGERS:
        return wrapping(x1, x2)
    return apply(type, x1, x2)


def _promote_numbers(x1, x2, *kinds):
    """The operands in one dtype that is not bool."""
    x1, x2 = promote(x1, x2, *kinds)
    if x1.dtype == "bool":
        return cast(x1, "int32"), cast(x2, "int32")
    return x1, x2


def _promote_integers(op, x1, x2):
    """The operands in one dtype of integers, or bool."""
    x1, x2 = promote(x1, x2)
    if is_inexact(x1.dtype):
        raise TypeError(
            f"`{op}` takes integers or booleans. Received operands that "
            f"promote to {x1.dtype}."
        )
    return x1, x2


def _along(x, axis, ndim):
    """A 1-d tensor in a shape that broadcasts along `axis` of `ndim` dims."""
    after = tuple(range(1, ndim - axis))
    return apply("Unsqueeze", x, after) if after else x


def _flatten(x):
    return apply("Reshape", x, (-1,), special_zero=False)


def _slice(x, start, stop, axis):
    """`x[start:stop]` along `axis`."""
    return apply("Slice", x, (start,), (stop,), (1,), (axis,))


def _flattened_if_none(x, axis):
    """`x` and an axis from 0 on; flattened where the axis is `None`."""
    x = convert_to_tensor(x)
    if axis is None:
        return _flatten(x), 0
    return x, canonical_axis(axis, x.ndim)


def _is_empty(x, axes):
    """Whether a reduction of `x` is known to be one of no elements."""
    return builtins.any(x.shape[axis] == 0 for axis in axes)


def _count(x, axes):
    """How many elements a reduction adds up: an integer or a tensor."""
    dims = dims_of(x)
    return functools.reduce(lambda n, axis: n * dims[axis], axes, 1)


def _accumulated(x, dtype=None):
    """`x` in the dtype of its sum."""
    x = convert_to_tensor(x)
    return cast(x, dtype or _ACCUMULATORS.get(x.dtype, x.dtype))


_ACCUMULATORS = {
    "bool": "int32",
    "int8": "int32",
    "int16": "int32",
    "uint8": "uint32",
    "uint16": "uint32",
}


def _extreme(
    x, axis, keepdims, initial, name, of_floats, of_integers, of_bool, larger
):
    x = convert_to_tensor(x)
    axes = canonical_axes(axis, x.ndim)
    keepdims = bool(keepdims)
    if not axes:
        result = x
    elif _is_empty(x, axes):
        if initial is None:
            raise ValueError(
                f"`{name}` of no elements needs `initial`. Received: "
                f"x.shape={x.shape}, axis={axis}"
            )
        result = full(_reduced_dims(x, axes, keepdims), initial, x.dtype)
    elif x.dtype == "bool":
        result = apply(of_bool, x, axes, keep_dims=keepdims)
    elif is_inexact(x.dtype):
        result = of_floats(x, axes=axes, keep_dims=keepdims)
    else:
        result = apply(of_integers, x, axes, keep_dims=keepdims)
    if initial is None:
        return result
    return larger(result, cast(initial, x.dtype))


def _reduced_dims(x, axes, keepdims):
    """The dims of a reduction of `x`."""
    dims = enumerate(dims_of(x))
    if keepdims:
        return [1 if i in axes else dim for i, dim in dims]
    return [dim for i, dim in dims if i not in axes]


def _without_nan(x, value):
    """`x` with `value` for NaN."""
    x = convert_to_tensor(x)
    return where(isnan(x), value, x) if is_inexact(x.dtype) else x


def _window(n, op, value):
    """`value(t)` in float64 for `n` times `t` from 0 to 1; 1 where `n` is 1."""
    n = dimension(cast(n, "int32") if hasattr(n, "dtype") else n, op)
    t = cast(arange(n), "float64") / maximum(subtract(n, 1), 1)
    return cast(where(equal(n, 1), 1.0, value(t)), floatx())


def _comparable(x):
    """`x` in a dtype that NumPy sorts with NaN last."""
    return x.astype(np.float32) if x.dtype.kind == "V" else x


def _top_k(x, axis, index_dtype):
    return apply(
        "TopK",
        x,
        dims_of(x)[axis],
        axis=axis,
        mode="min",
        sort="value",
        index_element_type=index_dtype,
        stable=True,
    )


# --------------------------------------------------------------------- the ops


def abs(x):
    return absolute(x)


_wrapping_abs = _wrapping("Abs", np.abs)


def absolute(x):
    x = convert_to_tensor(x)
    if x.dtype == "bool" or x.dtype.startswith("u"):
        return x
    return _wrapping_abs(x) if x.dtype in _SMALL_INTEGERS else apply("Abs", x)


_wrapping_add = _wrapping("Add", np.add)


def add(x1, x2):
    x1, x2 = promote(x1, x2)
    if x1.dtype == "bool":
        return apply("LogicalOr", x1, x2)
    return _arithmetic("Add", _wrapping_add, x1, x2)


def all(x, axis=None, keepdims=False):
    return reduction("ReduceLogicalAnd", cast(x, "bool"), axis, keepdims)


def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    return all(isclose(x1, x2, rtol, atol, equal_nan))


def amax(x, axis=None, keepdims=False):
    return max(x, axis, keepdims)


def amin(x, axis=None, keepdims=False):
    return min(x, axis, keepdims)


def angle(x):
    x = to_float(x)
    if is_complex(x.dtype):
        return apply("Angle", x)
    half_turn = cast(math.pi, x.dtype)
    return where(isnan(x), x, where(signbit(x), half_turn, 0))


def any(x, axis=None, keepdims=False):
    return reduction("ReduceLogicalOr", cast(x, "bool"), axis, keepdims)


def append(x1, x2, axis=None):
    return concatenate([x1, x2], axis)


def arange(start, stop=None, step=None, dtype=None):
    if stop is None:
        start, stop = 0, start
    bounds = [
        x if x.__class__ in (int, float) else convert_to_tensor(x)
        for x in (start, stop, 1 if step is None else step)
    ]
    kinds = [getattr(x, "dtype", x.__class__) for x in bounds]
    if dtype is None:
        dtype = result_type(*kinds)
        if dtype == "int32" and builtins.any(map(_needs_int64, bounds)):
            dtype = "int64"
    dtype = standardize(dtype)
    wide = _range_dtype([*kinds, dtype])
    bounds = [
        x if x.__class__ is int and wide != "float64" else cast(x, wide)
        for x in bounds
    ]
    return cast(apply("Range", *bounds, output_type=ov_name(wide)), dtype)


def _needs_int64(x):
    return x.__class__ is int and not -(2**31) <= x < 2**31


def _range_dtype(dtypes):
    """What a range of these is counted in."""
    if builtins.any(dtype is float or is_float(dtype) for dtype in dtypes):
        return "float64"
    wide = ("int64", "uint32", "uint64")
    return "int64" if builtins.any(d in wide for d in dtypes) else "int32"


def arccos(x):
    return unary("Acos", x)


def arccosh(x):
    return unary("Acosh", x)


def arcsin(x):
    return unary("Asin", x)


def arcsinh(x):
    return unary("Asinh", x)


def arctan(x):
    return unary("Atan", x)


@composite("ArcTan2", np.arctan2)
def _arctan2(y, x):
    height, width = absolute(y), absolute(x)
    larger, smaller = maximum(height, width), minimum(height, width)
    slope = where(smaller == larger, 1.0, smaller / larger)  # inf / inf
    angle = arctan(where(larger == 0, larger, slope))
    angle = where(height > width, math.pi / 2 - angle, angle)
    angle = where(signbit(x), math.pi - angle, angle)
    return where(signbit(y), -angle, angle)


def arctan2(x1, x2):
    return _arctan2(*promote(x1, x2, float))


def arctanh(x):
    return unary("Atanh", x)


def _arg_extreme(name, reduce, kernel):
    def numpy_kernel(x, axis):
        return kernel(x, axis=axis, keepdims=True)

    @composite(name, numpy_kernel)
    def position(x, axis):
        # The first NaN if there is one, as in NumPy.
        best = reduce(x, axis, True)
        hit = x == best
        if is_float(x.dtype):
            hit = hit | (isnan(x) & isnan(best))
        positions = cast(arange(dims_of(x)[axis]), "float32")
        found = where(hit, _along(positions, axis, x.ndim), math.inf)
        first = apply("ReduceMin", found, (axis,), keep_dims=True)
        return cast(first, "int32")

    return position


_argmax = _arg_extreme("ArgMax", lambda *args: max(*args), np.argmax)


def argmax(x, axis=None, keepdims=False):
    return _arg_reduction(_argmax, x, axis, keepdims)


_argmin = _arg_extreme("ArgMin", lambda *args: min(*args), np.argmin)


def argmin(x, axis=None, keepdims=False):
    return _arg_reduction(_argmin, x, axis, keepdims)


def _arg_reduction(position, x, axis, keepdims):
    x = convert_to_tensor(x)
    if x.dtype == "bool":
        x = cast(x, "int32")
    flat, along = _flattened_if_none(x, axis)
    result = position(flat, axis=along)
    if not keepdims:
        return apply("Squeeze", result, (along,))
    if axis is None:
        return apply("Reshape", result, (1,) * x.ndim, special_zero=False)
    return result


def argpartition(x, kth, axis=-1):
    # Sorted is partitioned at every element.
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    dim = x.shape[canonical_axis(axis, x.ndim)]
    if dim is not None:
        canonical_axis(kth, dim)
    return argsort(x, axis)


def _arg_sort_kernel(x, axis):
    return np.argsort(_comparable(x), axis=axis, kind="stable")


@composite("ArgSort", _arg_sort_kernel)
def _arg_sort(x, axis):
    if is_float(x.dtype):
        # The CPU plugin does not order NaN. It takes the place of infinity,
        # and infinity that of the largest number.
        largest = ml_dtypes.finfo(numpy_dtype(x.dtype)).max
        x = where(isnan(x), math.inf, apply("Minimum", x, like(largest, x)))
    _, order = _top_k(x, axis, "i64")
    return cast(order, "int32")


def argsort(x, axis=-1):
    x = convert_to_tensor(x)
    if axis is None or x.ndim == 0:
        x, axis = ravel(x), 0
    return _arg_sort(x, axis=canonical_axis(axis, x.ndim))


def array(x, dtype=None):
    return convert_to_tensor(x, dtype)


def array_split(x, indices_or_sections, axis=0):
    if _are_indices(indices_or_sections):
        return split(x, indices_or_sections, axis)
    x = convert_to_tensor(x)
    axis = canonical_axis(axis, x.ndim)
    sections = _positive(indices_or_sections, "array_split")
    dim = dims_of(x)[axis]
    size, longer = dim // sections, dim % sections
    bounds = [size * i + smaller(longer, i) for i in range(1, sections)]
    return _cut(x, bounds, axis)


def _are_indices(indices_or_sections):
    is_list = isinstance(indices_or_sections, (list, tuple))
    return is_list or getattr(indices_or_sections, "ndim", 0) > 0


def _positive(sections, op):
    sections = operator.index(sections)
    if sections < 1:
        raise ValueError(
            f"`{op}` takes one section or more. Received: {sections}"
        )
    return sections


def average(x, axis=None, weights=None):
    if weights is None:
        return mean(*promote(x, float), axis=axis)
    x, weights = promote(x, weights, float)
    if weights.ndim != x.ndim:
        # One weight for each position along the axis.
        if axis is None:
            raise ValueError(
                "`average` takes an `axis` where the weights have another "
                f"rank. Received: x.shape={x.shape}, "
                f"weights.shape={weights.shape}"
            )
        axis = canonical_axis(axis, x.ndim)
        weights = _along(weights, axis, x.ndim)
    total = sum(broadcast_to(weights, dims_of(x)), axis)
    return sum(x * weights, axis) / total


def bartlett(x):
    return _window(x, "bartlett", lambda t: 1 - absolute(2 * t - 1))


def bincount(x, weights=None, minlength=0, sparse=False):
    refuse_complex("bincount", x)
    refuse_sparse("bincount", sparse)
    x = cast(x, "int32")
    if x.ndim == 0:
        raise ValueError(
            "`bincount` takes arrays of one dim or more. Received: a scalar"
        )
    weights = ones_like(x) if weights is None else convert_to_tensor(weights)
    if weights.dtype == "bool":
        weights = cast(weights, "int32")
    length = maximum(max(x, initial=-1) + 1, minlength)
    bins = zeros([*dims_of(x)[:-1], length], weights.dtype)
    return apply(
        "ScatterElementsUpdate",
        bins,
        maximum(x, 0),
        weights,
        x.ndim - 1,
        reduction="sum",
    )


def bitwise_and(x, y):
    x, y = _promote_integers("bitwise_and", x, y)
    return apply("LogicalAnd" if x.dtype == "bool" else "BitwiseAnd", x, y)


def bitwise_invert(x):
    x, _ = _promote_integers("bitwise_not", x, x)
    return apply("LogicalNot" if x.dtype == "bool" else "BitwiseNot", x)


@composite("LeftShift", np.left_shift)
def _left_shift(x, places):
    # The CPU plugin shifts by the places modulo 32: twice by half of them.
    wide, places = _as_shifted(x), minimum(_as_shifted(places), 62)
    half = apply("BitwiseRightShift", places, like(1, places))
    wide = apply("BitwiseLeftShift", wide, half)
    return cast(apply("BitwiseLeftShift", wide, places - half), x.dtype)


def _as_shifted(x):
    return cast(x, "int32") if x.dtype in _SMALL_INTEGERS else x


def bitwise_left_shift(x, y):
    return _left_shift(*_promote_shift("left_shift", x, y))


def bitwise_not(x):
    return bitwise_invert(x)


def bitwise_or(x, y):
    x, y = _promote_integers("bitwise_or", x, y)
    return apply("LogicalOr" if x.dtype == "bool" else "BitwiseOr", x, y)


@composite("RightShift", np.right_shift)
def _right_shift(x, places):
    wide, places = _as_shifted(x), minimum(_as_shifted(places), 31)
    return cast(apply("BitwiseRightShift", wide, places), x.dtype)


def bitwise_right_shift(x, y):
    return _right_shift(*_promote_shift("right_shift", x, y))


def _promote_shift(op, x, y):
    x, y = _promote_integers(op, x, y)
    if x.dtype == "bool":
        return cast(x, "int32"), cast(y, "int32")
    return x, y


def bitwise_xor(x, y):
    x, y = _promote_integers("bitwise_xor", x, y)
    return apply("LogicalXor" if x.dtype == "bool" else "BitwiseXor", x, y)


def blackman(x):
    def value(t):
        turn = 2 * math.pi * t
        return 0.42 - 0.5 * cos(turn) + 0.08 * cos(2 * turn)

    return _window(x, "blackman", value)


def broadcast_to(x, shape):
    x = convert_to_tensor(x)
    shape = _target_shape(shape)
    if x.shape == shape:
        return x
    result = apply("Broadcast", x, shape, mode="numpy")
    if is_symbolic(result) and result.size == 0:
        # The CPU plugin divides by a dim of 0.
        return concrete(np.zeros(result.shape, numpy_dtype(x.dtype)))
    return result


def _target_shape(shape):
    """A tuple of integers, or a list or tensor with symbolic dims in it."""
    if is_symbolic(shape):
        return shape if shape.ndim else [shape]
    if isinstance(shape, OpenVINOKerasTensor):
        shape = value_of(shape)
    if isinstance(shape, np.ndarray):
        shape = shape.tolist()
    if not isinstance(shape, (list, tuple)):
        shape = (shape,)
    if builtins.all(d.__class__ is int for d in shape):
        return tuple(shape)
    shape = [d if is_symbolic(d) else operator.index(d) for d in shape]
    return shape if builtins.any(map(is_symbolic, shape)) else tuple(shape)


@composite("Cbrt", np.cbrt)
def _cbrt(x):
    return sign(x) * absolute(x) ** (1 / 3)


def cbrt(x):
    return _cbrt(to_float(x))


def ceil(x):
    return unary("Ceiling", x)


def clip(x, x_min, x_max):
    x = convert_to_tensor(x)
    refuse_complex("clip", x, x_min, x_max)
    if x.dtype == "bool":
        x = cast(x, "int32")
    if x_min is not None:
        x = maximum(x_min, x)
    return x if x_max is None else minimum(x_max, x)


def concatenate(xs, axis=0):
    xs = promote(*map(convert_to_tensor, xs))
    if axis is None:
        xs, axis = tuple(map(ravel, xs)), 0
    ndim = xs[0].ndim
    if ndim == 0 or builtins.any(x.ndim != ndim for x in xs):
        raise ValueError(
            "`concatenate` takes tensors of the same number of dims, at least "
            f"one. Received shapes: {[x.shape for x in xs]}"
        )
    axis = canonical_axis(axis, ndim)
    return xs[0] if len(xs) == 1 else apply("Concat", *xs, axis=axis)


def conj(x):
    x = convert_to_tensor(x)
    return apply("Conjugate", x) if is_complex(x.dtype) else x


def conjugate(x):
    return conj(x)


def copy(x):
    return convert_to_tensor(x)


@in_float32
def corrcoef(x):
    x = to_float(x)
    if x.ndim < 2:
        x = apply("Reshape", x, (1, -1), special_zero=False)
    centred = x - mean(x, axis=-1, keepdims=True)
    covariance = apply("MatMul", centred, conj(centred), transpose_b=True)
    norms = sqrt(sum(_squared_size(centred), axis=-1, keepdims=True))
    correlation = covariance / norms / apply("Transpose", norms, (1, 0))
    if not is_complex(x.dtype):
        correlation = clip(correlation, -1.0, 1.0)
    # As in NumPy, one variable has a number and no matrix.
    is_one = known_dim(x, 0, "corrcoef") == 1
    return squeeze(correlation) if is_one else correlation


def _correlate_kernel(x1, x2, mode):
    return np.correlate(x1, x2, mode)


@composite("Correlate", _correlate_kernel, takes_complex=True)
def _correlate(x1, x2, mode):
    n, m = dims_of(x1)[0], dims_of(x2)[0]
    margin = [subtract(m, 1)]
    zero = zeros((), x1.dtype)
    signal = apply("Pad", x1, margin, margin, zero, pad_mode="constant")
    # The CPU plugin has no Convolution with filters of unknown size.
    shifts = expand_dims(arange(n + m - 1), 1) + arange(m)
    full = matmul(apply("Gather", signal, shifts, 0), conj(x2))
    if mode == "full":
        return full
    shorter, length = minimum(n, m), maximum(n, m)
    start = shorter - 1
    if mode == "valid":
        length = length - start
    else:
        start = (start + cast(m > n, "int32") * (1 - shorter % 2)) // 2
    return apply("Slice", full, [start], [start + length], (1,), (0,))


def correlate(x1, x2, mode="valid"):
    x1, x2 = promote(x1, x2)
    if not is_inexact(x1.dtype):
        dtype = "float64" if x1.dtype == "int64" else floatx()
        x1, x2 = cast(x1, dtype), cast(x2, dtype)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(
            "`correlate` takes 1-d tensors. Received: "
            f"x1.shape={x1.shape}, x2.shape={x2.shape}"
        )
    if mode not in ("full", "same", "valid"):
        raise ValueError(
            "`correlate` takes mode 'full', 'same' or 'valid'. "
            f"Received: mode={mode}"
        )
    return _correlate(x1, x2, mode=mode)


def cos(x):
    return unary("Cos", x)


def cosh(x):
    return unary("Cosh", x)


def count_nonzero(x, axis=None):
    return sum(cast(x, "bool"), axis)


def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = promote(x1, x2)
    a = _components(moveaxis(x1, axisa, -1))
    b = _components(moveaxis(x2, axisb, -1))
    third = a[0] * b[1] - a[1] * b[0]
    if len(a) == len(b) == 2:
        return third
    if len(a) == 2:
        first, second = a[1] * b[2], -(a[0] * b[2])
    elif len(b) == 2:
        first, second = -(a[2] * b[1]), a[2] * b[0]
    else:
        first = a[1] * b[2] - a[2] * b[1]
        second = a[2] * b[0] - a[0] * b[2]
    return stack([first, second, third], axisc)


def _components(x):
    size = known_dim(x, -1, "cross")
    if size not in (2, 3):
        raise ValueError(
            f"`cross` takes vectors of 2 or 3 components. Received: {size}"
        )
    return [x[..., i] for i in range(size)]


def _cum_prod_kernel(x, axis):
    return np.cumprod(x, axis=axis, dtype=x.dtype)


@composite("CumProd", _cum_prod_kernel, takes_complex=True)
def _cum_prod(x, axis):
    dim = x.shape[axis]
    doublings = 31 if dim is None else builtins.max(dim - 1, 0).bit_length()
    ones = ones_like(x)
    for i in range(doublings):
        # Each element times the product of the 2^i before it.
        first = _slice(ones, 0, 2**i, axis)
        shifted = _slice(x, 0, -(2**i), axis)
        x = x * apply("Concat", first, shifted, axis=axis)
    return x


def cumprod(x, axis=None, dtype=None):
    x, axis = _flattened_if_none(_cumulated(x, dtype), axis)
    return _cum_prod(x, axis=axis)


def cumsum(x, axis=None, dtype=None):
    x, axis = _flattened_if_none(_cumulated(x, dtype), axis)
    if x.dtype in _SMALL_INTEGERS:
        return cast(apply("CumSum", cast(x, "int32"), axis), x.dtype)
    return apply("CumSum", x, axis)


def _cumulated(x, dtype):
    x = convert_to_tensor(x)
    if dtype is None:
        dtype = "int32" if x.dtype == "bool" else x.dtype
    return cast(x, dtype)


@in_float32
def deg2rad(x):
    return to_float(x) * (math.pi / 180)


def diag(x, k=0):
    x = convert_to_tensor(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(
            f"`diag` takes a tensor of 1 or 2 dims. Received: x.shape={x.shape}"
        )
    row = pad(x, ((builtins.max(k, 0), builtins.max(-k, 0)),))
    on_diagonal = eye(dims_of(row)[0], k=k, dtype="bool")
    return apply("Select", on_diagonal, row, like(0, x))


def diagflat(x, k=0):
    return diag(ravel(x), k)


def diagonal(x, offset=0, axis1=0, axis2=1):
    x = convert_to_tensor(x)
    if x.ndim < 2:
        raise ValueError(
            "`diagonal` requires a tensor of at least two dims. Received: "
            f"x.shape={x.shape}"
        )
    axes = canonical_axes((axis1, axis2), x.ndim)
    x = moveaxis(x, axes, (-2, -1))
    *batch, rows, columns = dims_of(x)
    # In the rows laid end to end, it is every (columns + 1)-th element.
    first = offset if offset >= 0 else -offset * columns
    length = larger(
        smaller(
            rows + builtins.min(offset, 0), columns - builtins.max(offset, 0)
        ),
        0,
    )
    step = columns + 1
    x = _reshaped(x, x.ndim - 2, [[(x, x.ndim - 2), (x, x.ndim - 1)]])
    return x[..., first : first + length * step : step]


def diff(a, n=1, axis=-1):
    a = convert_to_tensor(a)
    axis = canonical_axis(axis, a.ndim)
    for _ in range(n):
        later, earlier = _slice(a, 1, _END, axis), _slice(a, 0, -1, axis)
        a = (not_equal if a.dtype == "bool" else subtract)(later, earlier)
    return a


def digitize(x, bins):
    x, bins = promote(x, bins)
    last = dims_of(bins)[0]
    decreasing = any(_slice(bins, 0, 1, 0) > _slice(bins, -1, _END, 0))
    backwards = apply("Gather", bins, arange(last - 1, -1, -1), 0)
    return where(
        decreasing,
        last - searchsorted(backwards, x, side="right"),
        searchsorted(bins, x, side="right"),
    )


def divide(x1, x2):
    return binary("Divide", x1, x2, float)


@in_float32
def divide_no_nan(x1, x2):
    x1, x2 = promote(x1, x2, float)
    zero = x2 == 0
    return where(zero, 0, x1 / where(zero, 1, x2))


def dot(x1, x2):
    x1, x2 = promote(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return multiply(x1, x2)
    return tensordot(x1, x2, [[-1], [-1 if x2.ndim == 1 else -2]])


def dsplit(x, indices_or_sections):
    return _split_at_least(x, indices_or_sections, 3, 2, "dsplit")


def _split_at_least(x, indices_or_sections, ndim, axis, op):
    x = convert_to_tensor(x)
    if x.ndim < ndim:
        raise ValueError(
            f"`{op}` takes a tensor of at least {ndim} dims. Received: "
            f"x.shape={x.shape}"
        )
    return split(x, indices_or_sections, axis)


def dstack(xs):
    return concatenate([_at_least_3d(x) for x in xs], 2)


def _at_least_3d(x):
    x = convert_to_tensor(x)
    new_dims = {0: (0, 1, 2), 1: (0, 2), 2: (2,)}
    return expand_dims(x, new_dims.get(x.ndim, ()))


def einsum(subscripts, *operands, **kwargs):
    """Sums of products, each pair of operands by one `MatMul`.

    `kwargs` (NumPy's `optimize`) change nothing: more than two operands are
    always contracted in the order that takes the least work.
    """
    operands = [convert_to_tensor(x) for x in operands]
    ranks = tuple(x.ndim for x in operands)
    if contraction.is_matmul(subscripts, ranks):
        return matmul(*operands)
    is_int8 = builtins.all(x.dtype == "int8" for x in operands)
    operands = promote(*operands)
    dtype = "int32" if is_int8 else operands[0].dtype
    labels, output = contraction.parse(subscripts, ranks)
    terms = list(zip(operands, labels))
    shapes = [x.shape for x in operands]
    for i, j in contraction.order(labels, shapes, output):
        second, first = terms.pop(j), terms.pop(i)
        needed = output + "".join(labels for _, labels in terms)
        terms.append(_contract(*first, *second, needed))
    ((x, labels),) = terms
    x, labels = _summed(x, labels, output)
    x = _in_order(x, labels, output)
    return cast(x, dtype)


def _contract(x1, labels1, x2, labels2, needed):
    """The product of two tensors, summed over what is not `needed`.

    Returns:
        `(x, labels)`: the result and what its dims are called.
    """
    x1, labels1 = _summed(x1, labels1, labels2 + needed)
    x2, labels2 = _summed(x2, labels2, labels1 + needed)
    plan = contraction.plan(labels1, labels2, needed)
    if plan.swapped:
        x1, labels1, x2, labels2 = x2, labels2, x1, labels1
    batch, free1, free2, inner = plan.batch, plan.free1, plan.free2, plan.inner
    if not inner:
        order = batch + free1 + free2
        x1 = _in_order(_wide(x1), labels1, order)
        return multiply(x1, _in_order(_wide(x2), labels2, order)), order
    x1 = _in_order(x1, labels1, batch + free1 + inner)
    x2 = _in_order(x2, labels2, batch + inner + free2)
    # MatMul takes [batch..., rows, inner] and [batch..., inner, columns].
    # Without a batch, rows may be any number of dims.
    joins_rows = bool(batch) and len(free1) != 1
    joins_columns = len(free2) > 1 or bool(batch) and not free2
    kept = len(batch)
    dims1 = [(x1, i) for i in range(kept, x1.ndim)]
    dims2 = [(x2, i) for i in range(kept, x2.ndim)]
    rows, inner1 = dims1[: len(free1)], dims1[len(free1) :]
    inner2, columns = dims2[: len(inner)], dims2[len(inner) :]
    if len(inner) > 1 or joins_columns:
        right = [columns] if joins_columns else _one_each(columns)
        x2 = _reshaped(x2, kept, [inner2, *right])
    if not joins_rows:
        kept, rows = kept + len(rows), []
    if len(inner) > 1 or joins_rows:
        left = [rows] if joins_rows else []
        x1 = _reshaped(x1, kept, [*left, inner1])
    x = matmul(x1, x2)
    if joins_rows or joins_columns:
        x = _reshaped(x, kept, _one_each(rows + columns))
    return x, batch + free1 + free2


def _summed(x, labels, needed):
    """`x` summed over the dims that are not needed, and its labels.

    Of dims with the same label the diagonal is taken.
    """
    while len(set(labels)) < len(labels):
        label = next(c for c in labels if labels.count(c) > 1)
        first = labels.index(label)
        second = labels.index(label, first + 1)
        x = diagonal(x, 0, first, second)
        labels = labels.replace(label, "", 2) + label
    axes = [i for i, c in enumerate(labels) if c not in needed]
    if not axes:
        return x, labels
    labels = "".join(c for c in labels if c in needed)
    if x.dtype == "bool":
        return any(x, axes), labels
    return cast(sum(x, axes), _wide(x).dtype), labels


def _wide(x):
    """int8 as int32, in which `matmul` multiplies it."""
    return cast(x, "int32") if x.dtype == "int8" else x


def _in_order(x, labels, order):
    """`x` with its dims in another order; those it lacks are 1."""
    if labels == order:
        return x
    own = [c for c in order if c in labels]
    x = transpose(x, [labels.index(c) for c in own])
    return expand_dims(x, [i for i, c in enumerate(order) if c not in labels])


def _one_each(dims):
    return [[dim] for dim in dims]


def _reshaped(x, kept, dims):
    """`x` with new dims after its first `kept`.

    Args:
        x: a tensor.
        kept: how many dims remain as they are.
        dims: for each new dim, the dims whose product it is, as `(tensor,
            axis)`.
    """
    sizes = [_known_product([t.shape[a] for t, a in each]) for each in dims]
    new = x.shape[:kept] + tuple(sizes)
    if None not in new:
        return x if new == x.shape else reshape(x, new)
    if 0 not in new and sizes.count(None) < 2:
        sizes = [-1 if size is None else size for size in sizes]
        return apply(
            "Reshape", x, (0,) * kept + tuple(sizes), special_zero=True
        )
    sizes = [
        math.prod(dims_of(t)[a] for t, a in each) if size is None else size
        for size, each in zip(sizes, dims)
    ]
    return reshape(x, [*dims_of(x)[:kept], *sizes])


def _known_product(sizes):
    return None if None in sizes else math.prod(sizes)


def empty(shape, dtype=None):
    return zeros(shape, dtype)


def empty_like(x, dtype=None):
    return zeros_like(x, dtype)


def _compare(type, x1, x2):
    x1, x2 = _within_reach(x1, x2)
    x2, x1 = _within_reach(x2, x1)
    return binary(type, x1, x2)


def _within_reach(x, number):
    """The operands, or small ones where integers like `x` lack `number`.

    Then all of `x` is less, or all of it is greater.
    """
    if number.__class__ not in (int, np.int64):
        return x, number
    x = convert_to_tensor(x)
    if not is_integer(x.dtype) and x.dtype != "bool":
        return x, number
    bounds = np.iinfo(result_type(x.dtype, int))
    if bounds.min <= number <= bounds.max:
        return x, number
    return zeros_like(x, "int32"), 1 if number > 0 else -1


def equal(x1, x2):
    return _compare("Equal", x1, x2)


@composite("NaNExp", np.exp)
def _exp(x):
    # The CPU plugin's Exp gives inf for NaN.
    return _unless_nan(x, apply("Exp", x))


def exp(x):
    return _exp(to_float(x))


def exp2(x):
    x = to_float(x)
    return apply("Power", convert_to_tensor(2, x.dtype), x)


def expand_dims(x, axis):
    x = convert_to_tensor(x)
    count = len(axis) if isinstance(axis, (list, tuple)) else 1
    axes = canonical_axes(axis, x.ndim + count)
    return apply("Unsqueeze", x, axes) if axes else x


@composite("Expm1", np.expm1, takes_complex=True)
def _expm1(x):
    half = tanh(0.5 * x)  # exact near 0, where 1 would swallow x
    return where(absolute(x) < 0.5, 2 * half / (1 - half), exp(x) - 1)


def expm1(x):
    return _expm1(to_float(x))


def eye(N, M=None, k=0, dtype=None):
    row, column = _index_grid(N, M, k, "eye")
    return cast(row == column, dtype or floatx())


def fabs(x):
    return absolute(to_float(x))


def flip(x, axis=None):
    x = convert_to_tensor(x)
    axes = canonical_axes(axis, x.ndim)
    backwards = slice(None, None, -1)
    return x[
        tuple(backwards if i in axes else slice(None) for i in range(x.ndim))
    ]


def fliplr(x):
    return flip(x, 1)


def flipud(x):
    return flip(x, 0)


def floor(x):
    return unary("Floor", x)


@composite("FloorDivide", np.floor_divide)
def _floor_divide(x1, x2):
    if is_float(x1.dtype):
        return _float_floor_divide(x1, x2)
    x1, x2, dtype = cast(x1, "int32"), cast(x2, "int32"), x1.dtype
    # The CPU plugin divides in float32, so the quotient is off by a little:
    # the remainder is divided again, and tells whether it is off by one.
    quotient = _estimated_quotient(x1, x2)
    quotient += _estimated_quotient(x1 - quotient * x2, x2)
    remainder = (x1 - quotient * x2) * sign(x2)
    quotient += cast(remainder >= absolute(x2), "int32")
    quotient -= cast(remainder < 0, "int32")
    return cast(quotient * cast(x2 != 0, "int32"), dtype)


def _estimated_quotient(x1, x2):
    quotient = cast(x1, "float32") / cast(x2, "float32")
    return cast(apply("Floor", quotient), "int32")


def _float_floor_divide(x1, x2):
    quotient = apply("Round", (x1 - _mod(x1, x2)) / x2, mode="half_to_even")
    opposite = cast((x1 < 0) != (x2 < 0), x1.dtype)
    quotient = where(
        isinf(x2) & isfinite(x1), -opposite * sign(absolute(x1)), quotient
    )
    return where(x2 == 0, x1 / x2, quotient)


def floor_divide(x1, x2):
    return _floor_divide(*_promote_numbers(x1, x2))


@composite("FMax", np.fmax)
def _fmax(x1, x2):
    return where(isnan(x1), x2, where(isnan(x2), x1, maximum(x1, x2)))


def fmax(x1, x2):
    x1, x2 = promote(x1, x2)
    return _fmax(x1, x2) if is_float(x1.dtype) else maximum(x1, x2)


@composite("FMin", np.fmin)
def _fmin(x1, x2):
    return where(isnan(x1), x2, where(isnan(x2), x1, minimum(x1, x2)))


def fmin(x1, x2):
    x1, x2 = promote(x1, x2)
    return _fmin(x1, x2) if is_float(x1.dtype) else minimum(x1, x2)


@composite("TruncRemainder", np.fmod)
def _fmod(x1, x2):
    if not is_float(x1.dtype):
        remainder = _mod(x1, x2)  # of the sign of the divisor
        if x1.dtype.startswith("u"):
            return remainder
        is_other = (x1 < 0) != (x2 < 0)
        return where(is_other & (remainder != 0), remainder - x2, remainder)
    divisor = absolute(x2)
    remainder = absolute(x1)
    for _ in range(2):  # exact where the quotient is below 2^24
        remainder = _minus_multiple(remainder, divisor)
    remainder = where(remainder < 0, remainder + divisor, remainder)
    remainder = where(remainder >= divisor, remainder - divisor, remainder)
    remainder = where(isinf(divisor) & isfinite(x1), absolute(x1), remainder)
    return where(x1 < 0, -remainder, remainder)


def _minus_multiple(x, divisor):
    """`x` less the multiple of `divisor` below, with exact products."""
    count = floor(x / divisor)
    count_high, count_low = _halves(count)
    high, low = _halves(divisor)
    x = x - count_high * high
    x = x - count_high * low - count_low * high
    return x - count_low * low


def _halves(x):
    """`x` as a sum of two numbers of 12 bits (Dekker, Veltkamp)."""
    scaled = 4097 * x
    high = scaled - (scaled - x)
    return high, x - high


def fmod(x1, x2):
    return _fmod(*_promote_numbers(x1, x2))


def full(shape, fill_value, dtype=None):
    fill_value = convert_to_tensor(fill_value, dtype or floatx())
    return broadcast_to(fill_value, shape)


def full_like(x, fill_value, dtype=None):
    x = convert_to_tensor(x)
    return full(dims_of(x), fill_value, dtype or x.dtype)


register("GreatestCommonDivisor", np.gcd, rule=_elementwise_rule)


def gcd(x1, x2):
    x1, x2 = _promote_integers("gcd", x1, x2)
    return apply("GreatestCommonDivisor", x1, x2)


def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    dtype = dtype or result_type(*_kinds(start, stop), float)
    start, stop = _grid_ends(start, stop)
    axis = canonical_axis(axis, start.ndim + 1)
    # Of the ratio to the start, so that both ends may be negative.
    exponents = linspace(
        0.0, log(stop / start), num, endpoint, dtype=start.dtype, axis=axis
    )
    result = expand_dims(start, axis) * exp(exponents)
    if endpoint and num > 1:
        result = _with_last(result, stop, axis)
    return _to_grid_dtype(result, dtype)


def greater(x1, x2):
    # The CPU plugin's Greater and GreaterEqual are true of NaN.
    return less(x2, x1)


def greater_equal(x1, x2):
    return less_equal(x2, x1)


def hamming(x):
    return _window(x, "hamming", lambda t: 0.54 - 0.46 * cos(2 * math.pi * t))


def hanning(x):
    return _window(x, "hanning", lambda t: 0.5 - 0.5 * cos(2 * math.pi * t))


def heaviside(x1, x2):
    x1, x2 = promote(x1, x2, float)
    refuse_complex("heaviside", x1)
    step = cast(x1 > 0, x1.dtype)
    return where(isnan(x1), x1, where(x1 == 0, x2, step))


def histogram(x, bins=10, range=None):
    x = to_float(x)
    low, high = range or (min(x, initial=math.inf), max(x, initial=-math.inf))
    low, high = cast(low, x.dtype), cast(high, x.dtype)
    margin = cast(low == high, x.dtype) / 2
    edges = linspace(low - margin, high + margin, bins + 1, dtype=x.dtype)
    ordered = sort(_flatten(x))
    # The last bin includes its upper edge.
    below = searchsorted(ordered, _slice(edges, 0, -1, 0), side="left")
    until = searchsorted(ordered, _slice(edges, -1, _END, 0), side="right")
    counts = diff(apply("Concat", below, until, axis=0))
    return cast(counts, x.dtype), edges


def hsplit(x, indices_or_sections):
    x = convert_to_tensor(x)
    axis = 0 if x.ndim == 1 else 1
    return _split_at_least(x, indices_or_sections, 1, axis, "hsplit")


def hstack(xs):
    xs = [convert_to_tensor(x) for x in xs]
    xs = [expand_dims(x, 0) if x.ndim == 0 else x for x in xs]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1)


@composite("Hypot", np.hypot)
def _hypot(x1, x2):
    x1, x2 = absolute(x1), absolute(x2)
    larger, smaller = apply("Maximum", x1, x2), apply("Minimum", x1, x2)
    ratio = where(smaller == larger, 1.0, smaller / larger)
    # Below the least normal number the CPU plugin divides as by zero.
    is_tiny = larger < float(np.finfo("float32").tiny)
    result = where(is_tiny, larger, larger * sqrt(1 + ratio * ratio))
    result = where(isnan(x1) | isnan(x2), math.nan, result)
    return where(isinf(x1) | isinf(x2), math.inf, result)


def hypot(x1, x2):
    return _hypot(*promote(x1, x2, float))


# Abramowitz and Stegun, 9.8.1 and 9.8.2: powers of (x / 3.75)^2, of 3.75 / x.
_I0_SMALL = (1, 3.5156229, 3.0899424, 1.2067492)


_I0_SMALL += (0.2659732, 0.0360768, 0.0045813)


_I0_LARGE = (0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281)


_I0_LARGE += (-0.02057706, 0.02635537, -0.01647633, 0.00392377)


@composite("BesselI0", np.i0)
def _i0(x):
    x = absolute(x)
    small = polynomial(_I0_SMALL, square(x / 3.75))
    large = polynomial(_I0_LARGE, 3.75 / x) * exp(x) / sqrt(x)
    return where(x < 3.75, small, large)


def i0(x):
    return _i0(to_float(x))


def identity(n, dtype=None):
    row, column = _index_grid(n, None, 0, "identity")
    return cast(row == column, dtype or floatx())


def _index_grid(n, m, k, op):
    """Row numbers plus `k` as a column, column numbers as a row."""
    n = dimension(n, op)
    index = arange(n)
    if m is None and _is_zero(k):
        return expand_dims(index, 1), index
    column = arange(n if m is None else dimension(m, op))
    row = (
        index
        if _is_zero(k)
        else arange(k, add(n, k) if is_symbolic(n) else n + k)
    )
    return expand_dims(row, 1), column


def _is_zero(k):
    return isinstance(k, int) and k == 0


def imag(x):
    x = convert_to_tensor(x)
    if is_complex(x.dtype):
        return apply("Imaginary", x)
    return zeros_like(x)


def inner(x1, x2):
    x1, x2 = promote(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return multiply(x1, x2)
    return tensordot(x1, x2, [[-1], [-1]])


def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    x1, x2 = promote(x1, x2)
    if not is_inexact(x1.dtype):
        x1, x2 = cast(x1, "float64"), cast(x2, "float64")
    near = absolute(x1 - x2) <= atol + rtol * absolute(x2)
    close = (near & isfinite(x2)) | (x1 == x2)
    return close | (isnan(x1) & isnan(x2)) if equal_nan else close


@composite("Finite", np.isfinite)
def _isfinite(x):
    # OpenVINO's IsFinite is false for numbers below 1.2e-38.
    return absolute(x) < math.inf


def isfinite(x):
    return _float_test("Finite", x, True)


def isin(x1, x2, assume_unique=False, invert=False):
    x1, x2 = promote(x1, x2)
    found = any(expand_dims(x1, -1) == _flatten(x2), axis=-1)
    return logical_not(found) if invert else found


@composite("IsInfinite", np.isinf)
def _isinf(x):
    # OpenVINO's IsInf is false, whatever the values, where the CPU plugin
    # joins it to the operation that made them.
    return absolute(x) == math.inf


def isinf(x):
    return _float_test("IsInfinite", x, False)


def isnan(x):
    return _float_test("IsNaN", x, False)


def isneginf(x):
    refuse_complex("isneginf", x)
    return _is_infinity(x, -math.inf)


def isposinf(x):
    refuse_complex("isposinf", x)
    return _is_infinity(x, math.inf)


def _float_test(type, x, of_integers):
    x = convert_to_tensor(x)
    if is_inexact(x.dtype):
        return apply(type, x)
    return full_like(x, of_integers, "bool")


def _is_infinity(x, infinity):
    x = convert_to_tensor(x)
    if is_inexact(x.dtype):
        return x == infinity
    return full_like(x, False, "bool")


def isreal(x):
    return imag(x) == 0


def kaiser(x, beta):
    scale = i0(cast(beta, "float64"))

    def value(t):
        height = maximum(1 - square(2 * t - 1), 0.0)
        return i0(cast(beta, "float64") * sqrt(height)) / scale

    return _window(x, "kaiser", value)


def kron(x1, x2):
    x1, x2 = promote(x1, x2)
    ndim = builtins.max(x1.ndim, x2.ndim)
    x1 = expand_dims(x1, tuple(range(ndim - x1.ndim)))
    x2 = expand_dims(x2, tuple(range(ndim - x2.ndim)))
    dims = [[(x1, i), (x2, i)] for i in range(ndim)]
    x1 = expand_dims(x1, tuple(range(1, 2 * ndim, 2)))
    x2 = expand_dims(x2, tuple(range(0, 2 * ndim, 2)))
    return _reshaped(multiply(x1, x2), 0, dims)


def lcm(x1, x2):
    x1, x2 = _promote_integers("lcm", x1, x2)
    x1, x2 = absolute(x1), absolute(x2)
    return floor_divide(x1, maximum(gcd(x1, x2), 1)) * x2


@composite("LoadExponent", np.ldexp)
def _ldexp(x, exponent):
    # In two steps, so that a power does not overflow where the result fits.
    exponent = cast(exponent, x.dtype)
    half = floor(exponent / 2)
    two = convert_to_tensor(2, x.dtype)
    return x * two**half * two ** (exponent - half)


def ldexp(x1, x2):
    x1, x2 = to_float(x1), convert_to_tensor(x2)
    if not is_integer(x2.dtype):
        raise TypeError(
            "ldexp exponent must be an integer type. "
            f"Received: x2 dtype={x2.dtype}"
        )
    return _ldexp(x1, x2)


def left_shift(x, y):
    return bitwise_left_shift(x, y)


def less(x1, x2):
    return _compare("Less", x1, x2)


def less_equal(x1, x2):
    return _compare("LessEqual", x1, x2)


def linspace(
    start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0
):
    if num < 0:
        raise ValueError(
            f"`linspace` takes `num` of 0 or more. Received: num={num}"
        )
    dtype = dtype or result_type(*_kinds(start, stop), float)
    start, stop = _grid_ends(start, stop)
    axis = canonical_axis(axis, start.ndim + 1)
    intervals = num - 1 if endpoint else num
    step = (stop - start) / builtins.max(intervals, 1)
    position = _along(arange(num, dtype="float64"), axis, start.ndim + 1)
    result = expand_dims(start, axis) + position * expand_dims(step, axis)
    if endpoint and num > 1:
        result = _with_last(result, stop, axis)
    result = _to_grid_dtype(result, dtype)
    if not retstep:
        return result
    step = (stop - start) / intervals
    return result, cast(step, result_type(standardize(dtype), float))


def _grid_ends(start, stop):
    """Both in 64 bits, which the result is rounded from, and in one shape."""
    wide = result_type(*_kinds(start, stop), "float64")
    start, stop = cast(start, wide), cast(stop, wide)
    dims = dims_of(stop - start)
    return broadcast_to(start, dims), broadcast_to(stop, dims)


def _kinds(*operands):
    """What stands for each operand in a promotion."""
    return [
        x.__class__
        if x.__class__ in (int, float, complex)
        else convert_to_tensor(x).dtype
        for x in operands
    ]


def _with_last(x, last, axis):
    """`x` with its last element along `axis` replaced."""
    first = _slice(x, 0, -1, axis)
    return apply("Concat", first, expand_dims(last, axis), axis=axis)


def _to_grid_dtype(x, dtype):
    return cast(floor(x) if is_integer(standardize(dtype)) else x, dtype)


def log(x):
    return unary("Log", x)


@composite("Log10", np.log10)
def _log10(x):
    return log(x) * (1 / math.log(10))


@in_float32
def log10(x):
    return _log10(to_float(x))


def _log1p_kernel(x):
    if x.dtype.kind != "c":
        return np.log1p(x)
    # NumPy's adds the 1, which swallows what is small.
    a, b = x.real, x.imag
    near = np.log1p(a * (a + 2) + b * b) / 2
    size = np.where(np.abs(x) < 0.5, near, np.log(np.hypot(1 + a, b)))
    return size + 1j * np.arctan2(b, 1 + a)


@composite("Log1p", _log1p_kernel)
def _log1p(x):
    near = 2 * apply("Atanh", x / (x + 2))
    return where(absolute(x) < 0.5, near, log(1 + x))


def log1p(x):
    return _log1p(to_float(x))


@composite("Log2", np.log2)
def _log2(x):
    return log(x) * (1 / math.log(2))


def log2(x):
    return _log2(to_float(x))


@composite("LogAddExp", np.logaddexp)
def _logaddexp(x1, x2):
    larger = maximum(x1, x2)
    difference = -absolute(x1 - x2)
    sum = larger + log1p(exp(difference))
    return where(isnan(difference), x1 + x2, sum)  # inf - inf


def logaddexp(x1, x2):
    x1, x2 = promote(x1, x2, float)
    refuse_complex("logaddexp", x1)
    return _logaddexp(x1, x2)


@composite("LogAddExp2", np.logaddexp2)
def _logaddexp2(x1, x2):
    larger = maximum(x1, x2)
    difference = -absolute(x1 - x2)
    sum = larger + log1p(exp2(difference)) * (1 / math.log(2))
    sum = where(isnan(difference), x1 + x2, sum)  # inf - inf
    return where(x1 == x2, x1 + 1, sum)  # exact: of -1 and -1 it is 0


def logaddexp2(x1, x2):
    x1, x2 = promote(x1, x2, float)
    refuse_complex("logaddexp2", x1)
    return _logaddexp2(x1, x2)


def logical_and(x1, x2):
    return apply("LogicalAnd", cast(x1, "bool"), cast(x2, "bool"))


def logical_not(x):
    return apply("LogicalNot", cast(x, "bool"))


def logical_or(x1, x2):
    return apply("LogicalOr", cast(x1, "bool"), cast(x2, "bool"))


def logical_xor(x1, x2):
    return apply("LogicalXor", cast(x1, "bool"), cast(x2, "bool"))


def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    dtype = dtype or result_type(*_kinds(start, stop), float)
    wide = result_type(*_kinds(start, stop, base), "float64")
    exponents = linspace(start, stop, num, endpoint, axis=axis, dtype=wide)
    return _to_grid_dtype(cast(base, wide) ** exponents, dtype)


def matmul(x1, x2):
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    if x1.dtype == x2.dtype == "int8":
        x1, x2 = cast(x1, "int32"), cast(x2, "int32")
    x1, x2 = promote(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        raise ValueError(
            "`matmul` takes tensors of at least one dim. Received: "
            f"x1.shape={x1.shape}, x2.shape={x2.shape}"
        )
    x1 = _with_columns(x1, x2.shape[-2:][0])
    product = packed.product(x1, x2)
    if product is not None:
        return product
    if x1.dtype == "bool":
        product = apply("MatMul", cast(x1, "float32"), cast(x2, "float32"))
        return cast(product, "bool")
    if x1.dtype in _SMALL_INTEGERS:
        product = apply("MatMul", cast(x1, "int32"), cast(x2, "int32"))
        return cast(product, x1.dtype)
    if is_symbolic(x1) and _is_transposed(x2):
        # A Constant in this order would be a copy, as of tied embeddings.
        return apply("MatMul", x1, transpose(x2), transpose_b=True)
    return apply("MatMul", x1, x2)


def _is_transposed(x):
    """Whether a known matrix is a view of one with its dims in order."""
    if is_symbolic(x) or x.ndim != 2:
        return False
    flags = value_of(x).flags
    return flags.f_contiguous and not flags.c_contiguous


def _with_columns(x, count):
    """`x` with its last dim known where only the other factor's is.

    The CPU plugin does not compare the two where one factor is constant, and
    computes on beyond the end of the other.
    """
    if x.shape[-1] is not None or count is None:
        return x
    dims = (0,) * (x.ndim - 1) + (count,)  # a 0 keeps a dim
    return apply("Reshape", x, dims, special_zero=True)


_nan_reduce_max = _nan_reduction("NaNReduceMax", "ReduceMax", np.max)


def max(x, axis=None, keepdims=False, initial=None):
    return _extreme(
        x,
        axis,
        keepdims,
        initial,
        name="max",
        of_floats=_nan_reduce_max,
        of_integers="ReduceMax",
        of_bool="ReduceLogicalOr",
        larger=maximum,
    )


@composite("NaNMaximum", np.maximum)
def _nan_maximum(x1, x2):
    # The CPU plugin's Maximum and Minimum give either where one is NaN, mostly
    # the second.
    return _unless_nan(x1, _unless_nan(x2, apply("Maximum", x1, x2)))


def maximum(x1, x2):
    x1, x2 = promote(x1, x2)
    if is_inexact(x1.dtype):
        return _nan_maximum(x1, x2)
    return apply("LogicalOr" if x1.dtype == "bool" else "Maximum", x1, x2)


def mean(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    if not is_float(x.dtype):
        x = cast(x, result_type(x.dtype, "float32"))
    axes = canonical_axes(axis, x.ndim)
    result = reduction("ReduceMean", x, axes, keepdims)
    # NaN for no elements, of which the CPU plugin makes 0.
    if _is_empty(x, axes):
        result += math.nan
    elif builtins.any(x.shape[i] is None for i in axes):
        result += cast(0 / _count(x, axes), x.dtype)
    return result


def median(x, axis=None, keepdims=False):
    return quantile(x, 0.5, axis, keepdims=keepdims)


def meshgrid(*x, indexing="xy"):
    if indexing not in ("xy", "ij"):
        raise ValueError(
            "`meshgrid` takes indexing 'xy' or 'ij'. "
            f"Received: indexing={indexing}"
        )
    x = [_flatten(convert_to_tensor(each)) for each in x]
    swapped = indexing == "xy" and len(x) > 1
    order = [1, 0, *range(2, len(x))] if swapped else range(len(x))
    dims = [dims_of(x[i])[0] for i in order]
    grids = []
    for i, each in enumerate(x):
        others = tuple(j for j in range(len(x)) if order[j] != i)
        grid = apply("Unsqueeze", each, others) if others else each
        grids.append(broadcast_to(grid, dims))
    return grids


_nan_reduce_min = _nan_reduction("NaNReduceMin", "ReduceMin", np.min)


def min(x, axis=None, keepdims=False, initial=None):
    return _extreme(
        x,
        axis,
        keepdims,
        initial,
        name="min",
        of_floats=_nan_reduce_min,
        of_integers="ReduceMin",
        of_bool="ReduceLogicalAnd",
        larger=minimum,
    )


@composite("NaNMinimum", np.minimum)
def _nan_minimum(x1, x2):
    return _unless_nan(x1, _unless_nan(x2, apply("Minimum", x1, x2)))


def minimum(x1, x2):
    x1, x2 = promote(x1, x2)
    if is_inexact(x1.dtype):
        return _nan_minimum(x1, x2)
    return apply("LogicalAnd" if x1.dtype == "bool" else "Minimum", x1, x2)


@composite("FloorRemainder", np.mod)
def _mod(x1, x2):
    if is_float(x1.dtype):
        remainder = _fmod(x1, x2)
        opposite = (remainder != 0) & ((remainder < 0) != (x2 < 0))
        return where(opposite, remainder + x2, remainder)
    if x1.dtype == "uint32":  # int32 in the CPU plugin
        return apply("UnsignedRemainder", x1, x2)
    wide1, wide2 = cast(x1, "int32"), cast(x2, "int32")
    remainder = wide1 - _floor_divide(wide1, wide2) * wide2
    return cast(remainder * cast(wide2 != 0, "int32"), x1.dtype)


def _unsigned_remainder(x1, x2):
    return np.mod(x1.view(np.uint32), x2.view(np.uint32))


register("UnsignedRemainder", _unsigned_remainder, rule=_elementwise_rule)


def mod(x1, x2):
    return _mod(*_promote_numbers(x1, x2))


def moveaxis(x, source, destination):
    x = convert_to_tensor(x)
    source = canonical_axes(source, x.ndim)
    destination = canonical_axes(destination, x.ndim)
    if len(source) != len(destination):
        raise ValueError(
            "`moveaxis` takes as many source axes as destination axes. "
            f"Received: source={source}, destination={destination}"
        )
    order = [i for i in range(x.ndim) if i not in source]
    for place, axis in sorted(zip(destination, source)):
        order.insert(place, axis)
    return transpose(x, order)


_wrapping_multiply = _wrapping("Multiply", np.multiply)


def multiply(x1, x2):
    x1, x2 = promote(x1, x2)
    if x1.dtype == "bool":
        return apply("LogicalAnd", x1, x2)
    return _arithmetic("Multiply", _wrapping_multiply, x1, x2)


def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    x = convert_to_tensor(x)
    if is_complex(x.dtype):
        parts = (real(x), imag(x))
        parts = [nan_to_num(part, nan, posinf, neginf) for part in parts]
        return apply("Complex", *parts)
    if not is_float(x.dtype):
        return x
    limits = ml_dtypes.finfo(numpy_dtype(x.dtype))
    posinf = float(limits.max) if posinf is None else posinf
    neginf = float(limits.min) if neginf is None else neginf
    result = where(isnan(x), nan, x)
    result = where(isposinf(x), posinf, result)
    return cast(where(isneginf(x), neginf, result), x.dtype)


def nanargmax(x, axis=None, keepdims=False):
    return _nan_arg_reduction(argmax, -math.inf, x, axis, keepdims)


def nanargmin(x, axis=None, keepdims=False):
    return _nan_arg_reduction(argmin, math.inf, x, axis, keepdims)


def _nan_arg_reduction(op, neutral, x, axis, keepdims):
    """The position among what is not NaN; -1 where there is nothing."""
    result = op(_without_nan(x, neutral), axis, keepdims)
    return where(all(isnan(x), axis, keepdims), -1, result)


def nancumprod(x, axis=None, dtype=None):
    return cumprod(_without_nan(x, 1), axis, dtype)


def nancumsum(x, axis=None, dtype=None):
    return cumsum(_without_nan(x, 0), axis, dtype)


def nanmax(x, axis=None, keepdims=False):
    return _nan_extreme(max, -math.inf, x, axis, keepdims)


@in_float32
def nanmean(x, axis=None, keepdims=False):
    x = to_float(x)
    total = sum(_without_nan(x, 0), axis, keepdims)
    return total / cast(_count_numbers(x, axis, keepdims), x.dtype)


def _count_numbers(x, axis, keepdims):
    return sum(logical_not(isnan(x)), axis, keepdims)


def nanmedian(x, axis=None, keepdims=False):
    return nanquantile(x, 0.5, axis, keepdims=keepdims)


def nanmin(x, axis=None, keepdims=False):
    return _nan_extreme(min, math.inf, x, axis, keepdims)


def _nan_extreme(op, neutral, x, axis, keepdims):
    x = convert_to_tensor(x)
    if not is_inexact(x.dtype):
        return op(x, axis, keepdims)
    result = op(_without_nan(x, neutral), axis, keepdims)
    return where(all(isnan(x), axis, keepdims), math.nan, result)


def nanpercentile(x, q, axis=None, method="linear", keepdims=False):
    return nanquantile(x, _fraction(q), axis, method, keepdims)


def nanprod(x, axis=None, keepdims=False):
    return prod(_without_nan(x, 1), axis, keepdims)


def nanquantile(x, q, axis=None, method="linear", keepdims=False):
    x = to_float(x)
    return _quantile(
        x, q=q, axis=axis, method=method, keepdims=keepdims, skip_nan=True
    )


@in_float32
def nanstd(x, axis=None, keepdims=False):
    return sqrt(nanvar(x, axis, keepdims))


def nansum(x, axis=None, keepdims=False):
    return sum(_without_nan(x, 0), axis, keepdims)


@in_float32
def nanvar(x, axis=None, keepdims=False):
    x = to_float(x)
    deviation = where(isnan(x), 0, x - nanmean(x, axis, keepdims=True))
    total = sum(_squared_size(deviation), axis, keepdims)
    return total / cast(_count_numbers(x, axis, keepdims), total.dtype)


def ndim(x):
    return convert_to_tensor(x).ndim


def negative(x):
    x = convert_to_tensor(x)
    if x.dtype == "bool":
        raise TypeError("`negative` takes numbers. Received a bool tensor.")
    if x.dtype.startswith("u") or x.dtype in _SMALL_INTEGERS:
        return subtract(zeros((), x.dtype), x)
    return apply("Negative", x)


register("NextAfter", np.nextafter, rule=_elementwise_rule)


def nextafter(x1, x2):
    return apply("NextAfter", *promote(x1, x2, float))


def nonzero(x):
    x = convert_to_tensor(x)
    if x.ndim == 0:
        raise ValueError("`nonzero` takes a tensor of at least one dim.")
    return tuple(apply("NonZero", x, output_type="i32"))


def not_equal(x1, x2):
    return _compare("NotEqual", x1, x2)


def ones(shape, dtype=None):
    return full(shape, 1, dtype)


def ones_like(x, dtype=None):
    return full_like(x, 1, dtype)


def outer(x1, x2):
    return multiply(expand_dims(ravel(x1), 1), ravel(x2))


def pad(x, pad_width, mode="constant", constant_values=None):
    x = convert_to_tensor(x)
    if constant_values is not None and mode != "constant":
        raise ValueError(
            "Argument `constant_values` can only be "
            "provided when `mode == 'constant'`. "
            f"Received: mode={mode}"
        )
    widths = np.broadcast_to(np.asarray(pad_width, np.int64), (x.ndim, 2))
    if (widths < 0).any():
        raise ValueError(
            f"`pad` takes widths of 0 or more. Received: pad_width={pad_width}"
        )
    if mode not in _PADDINGS:
        raise ValueError(
            f"`pad` takes one of the modes {sorted(_PADDINGS)}. Received: "
            f"mode={mode}"
        )
    if not widths.any():
        return x
    widths = list(map(tuple, widths.tolist()))
    return _PADDINGS[mode](x, widths, mode, constant_values)


def _pad_constant(x, widths, mode, values):
    values = 0 if values is None else values
    if np.ndim(values) == 0:
        return _pad_node(x, widths, mode, like(values, x))
    values = np.broadcast_to(np.asarray(values), (x.ndim, 2))
    for axis, (before, after) in enumerate(widths):
        for place, value in enumerate(values[axis].tolist()):
            ends = [(0, 0)] * x.ndim
            ends[axis] = (0, after) if place else (before, 0)
            x = _pad_node(x, ends, mode, like(value, x))
    return x


def _pad_node(x, widths, mode, *value):
    before, after = zip(*widths)
    return apply("Pad", x, before, after, *value, pad_mode=mode)


def _pad_mirrored(x, widths, mode, _):
    most = {"edge": math.inf, "reflect": -1, "symmetric": 0}[mode]
    if builtins.all(
        dim and builtins.max(ends) <= dim + most
        for dim, ends in zip(x.shape, widths)
        if builtins.any(ends)
    ):
        return _pad_node(x, widths, mode)
    # The node takes no more than a dim's size.
    return _pad_gathered(x, widths, mode, _)


def _pad_gathered(x, widths, mode, _):
    for axis, ends in enumerate(widths):
        if builtins.any(ends):
            index = _padded_positions(dims_of(x)[axis], ends, mode)
            x = gather(x, index, axis)
    return x


def _padded_positions(dim, ends, mode):
    """Which element of a dim stands where after padding."""
    mode = "wrap" if mode == "circular" else mode
    if not is_symbolic(dim):
        return concrete(np.pad(np.arange(dim), ends, mode))
    position = arange(-ends[0], dim + ends[1])
    if mode == "edge":
        return clip(position, 0, dim - 1)
    if mode == "wrap":
        return mod(position, dim)
    # There and back again, with or without the ends twice.
    there_and_back = 2 * dim if mode == "symmetric" else maximum(2 * dim - 2, 1)
    last = there_and_back - 1 if mode == "symmetric" else there_and_back
    position = mod(position, there_and_back)
    return minimum(position, last - position)


def _pad_statistic(x, widths, mode, _):
    for axis, (before, after) in enumerate(widths):
        value = _STATISTICS[mode](x, axis, keepdims=True)
        if is_integer(x.dtype) and is_float(value.dtype):
            value = round(value)
        value = cast(value, x.dtype)
        x = _surrounded(
            x,
            _repeated(value, before, axis),
            _repeated(value, after, axis),
            axis,
        )
    return x


def _repeated(x, count, axis):
    return tile(x, [count if i == axis else 1 for i in range(x.ndim)])


def _surrounded(x, before, after, axis):
    parts = [part for part in (before, x, after) if part.shape[axis] != 0]
    return concatenate(parts, axis) if parts else x


def _pad_ramp(x, widths, mode, _):
    """From 0 at the outer end up to the edge."""
    for axis, (before, after) in enumerate(widths):
        ahead = (slice(None),) * axis
        first, last = x[ahead + (slice(0, 1),)], x[ahead + (slice(-1, None),)]
        rising, falling = range(before), range(after)[::-1]
        x = _surrounded(
            x,
            _ramp(first, rising, before, axis),
            _ramp(last, falling, after, axis),
            axis,
        )
    return x


def _ramp(edge, steps, count, axis):
    steps = reshape(
        convert_to_tensor(list(steps), "int32"),
        [count if i == axis else 1 for i in range(edge.ndim)],
    )
    ramp = to_float(edge) * steps / builtins.max(count, 1)
    return cast(floor(ramp) if is_integer(edge.dtype) else ramp, edge.dtype)


_STATISTICS = {
    "maximum": max,
    "mean": mean,
    "median": median,
    "minimum": min,
}


_PADDINGS = {
    "constant": _pad_constant,
    "edge": _pad_mirrored,
    "reflect": _pad_mirrored,
    "symmetric": _pad_mirrored,
    "wrap": _pad_gathered,
    "circular": _pad_gathered,
    "linear_ramp": _pad_ramp,
    "empty": lambda x, widths, *_: _pad_constant(x, widths, "constant", 0),
    **dict.fromkeys(_STATISTICS, _pad_statistic),
}


def percentile(x, q, axis=None, method="linear", keepdims=False):
    return quantile(x, _fraction(q), axis, method, keepdims)


def _fraction(percent):
    return divide(percent, 100)


@composite("IntegerPower", kernels.power)
def _integer_power(x1, x2):
    # The CPU plugin's Power is one of float32.
    base, exponent, dtype = cast(x1, "int32"), cast(x2, "int32"), x1.dtype
    one = convert_to_tensor(1, "int32")
    result = one
    bits = apply("Abs", exponent)
    for bit in range(_exponent_bits(x2)):
        taken = bits >> bit & one
        result = result * (taken * (base - one) + one)
        base = base * base
    inverse = cast(absolute(cast(x1, "int32")) == one, "int32")
    negative_exponent = cast(exponent < 0, "int32")
    result = result * (one - negative_exponent * (one - inverse))
    return cast(result, dtype)


def _exponent_bits(x):
    node = x.output.get_node()
    if node.get_type_name() != "Constant":
        return 31
    return int(np.abs(node.data.astype("int64")).max(initial=0)).bit_length()


def power(x1, x2):
    x1, x2 = _promote_numbers(x1, x2)
    if is_inexact(x1.dtype):
        return apply("Power", x1, x2)
    return _integer_power(x1, x2)


def prod(x, axis=None, keepdims=False, dtype=None):
    return reduction("ReduceProd", _accumulated(x, dtype), axis, keepdims)


def ptp(x, axis=None, keepdims=False):
    return subtract(max(x, axis, keepdims), min(x, axis, keepdims))


def quantile(x, q, axis=None, method="linear", keepdims=False):
    x = to_float(x)
    return _quantile(
        x, q=q, axis=axis, method=method, keepdims=keepdims, skip_nan=False
    )


@in_float32
def _quantile(x, *, q, axis, method, keepdims, skip_nan):
    """Quantiles of floats; the dims of `q` come first."""
    if method not in _INTERPOLATIONS:
        raise ValueError(
            f"`quantile` takes method {sorted(_INTERPOLATIONS)}. "
            f"Received: method={method}"
        )
    refuse_complex("quantile", x, q)
    # As in NumPy, so that 1,000 times 0.1 is 100 and not above it.
    q = to_float(q) if hasattr(q, "dtype") else cast(q, x.dtype)
    axes = canonical_axes(axis, x.ndim)
    ordered = sort(_axes_last(x, axes), axis=-1)  # NaN comes last
    size = dims_of(ordered)[-1]
    if ordered.shape[-1] in (0, None):  # of nothing, every quantile is NaN
        width = [(0, 0)] * (ordered.ndim - 1) + [(0, 1)]
        ordered = pad(ordered, width, constant_values=math.nan)
    count = sum(logical_not(isnan(ordered)), axis=-1, keepdims=True)
    if skip_nan:
        defined = count > 0
    else:
        defined = count >= maximum(size, 1)
    # A row of positions for each row of values.
    last = cast(maximum(count - 1, 0), "int32")
    position = _flatten(q) * cast(last, q.dtype)
    below, above, share = _INTERPOLATIONS[method](position)
    low, high = _pick(ordered, below, last), _pick(ordered, above, last)
    share = cast(share, x.dtype)
    # Where both are infinite, their distance is NaN.
    distance = where(isinf(low) & isinf(high), 0, high - low)
    between = low * (1 - share) + high * share
    result = where(low == high, low + distance * share, between)
    result = moveaxis(where(defined, result, math.nan), -1, 0)
    rest = _reduced_dims(x, axes, keepdims)
    return reshape(result, [*dims_of(q), *rest])


def _axes_last(x, axes):
    """`x` with `axes` joined into one, which comes last."""
    rest = [i for i in range(x.ndim) if i not in axes]
    dims = dims_of(x)
    count = _count(x, axes)
    x = transpose(x, (*rest, *axes))
    return reshape(x, [*(dims[i] for i in rest), count])


def _pick(ordered, index, last):
    """The elements of the last axis at `index`, for each row its own.

    Beyond 2**24, floats may be rounded to one more than the `last` index.
    """
    index = minimum(cast(index, "int32"), last)
    return apply("GatherElements", ordered, index, axis=ordered.ndim - 1)


_INTERPOLATIONS = {
    "linear": lambda p: (floor(p), ceil(p), p - floor(p)),
    "lower": lambda p: (floor(p), floor(p), zeros_like(p)),
    "higher": lambda p: (ceil(p), ceil(p), zeros_like(p)),
    "midpoint": lambda p: (floor(p), ceil(p), full_like(p, 0.5)),
    "nearest": lambda p: (round(p), round(p), zeros_like(p)),
}


@in_float32
def rad2deg(x):
    return to_float(x) * (180 / math.pi)


def ravel(x):
    x = convert_to_tensor(x)
    return x if x.ndim == 1 else reshape(x, (-1,))


def real(x):
    x = convert_to_tensor(x)
    return apply("Real", x) if is_complex(x.dtype) else x


def reciprocal(x):
    return divide(1, x)


def repeat(x, repeats, axis=None):
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = canonical_axis(axis, x.ndim)
    dim = dims_of(x)[axis]
    if not is_symbolic(repeats):
        repeats = np.asarray(repeats)
        if repeats.size == 1:
            repeats = repeats.item()
        elif not is_symbolic(dim) and repeats.shape != (dim,):
            raise ValueError(
                "`repeat` takes one number of `repeats`, or one for each of "
                f"the {dim} elements. Received: repeats={repeats.tolist()}"
            )
    if isinstance(repeats, int) and is_symbolic(dim):
        each = broadcast_to(expand_dims(arange(dim), 1), (dim, repeats))
        return gather(x, ravel(each), axis)
    if not is_symbolic(repeats) and not is_symbolic(dim):
        return gather(x, concrete(np.repeat(np.arange(dim), repeats)), axis)
    repeats = broadcast_to(cast(repeats, "int32"), (dim,))
    ends = cumsum(repeats)
    positions = arange(sum(repeats))
    # The element of a position is the number of those that end before it.
    index = apply("SearchSorted", ends, positions, right_mode=True)
    return gather(x, index, axis)


def reshape(x, newshape):
    x = convert_to_tensor(x)
    shape = _target_shape(newshape)
    if shape.__class__ is tuple and None not in x.shape:
        shape = _resolved(x.shape, shape)
        if shape == x.shape:
            return x
    kept = _kept_dims(x, shape)
    if kept:
        shape = [0 if i in kept else dim for i, dim in enumerate(shape)]
    return apply("Reshape", x, shape, special_zero=bool(kept))


def _kept_dims(x, shape):
    """The axes of a target shape with symbolic dims that stay as they are.

    Where OpenVINO is told, it finds the size of a dim of -1 beside them.
    """
    if shape.__class__ is not list or not is_symbolic(x):
        return ()
    if builtins.any(dim.__class__ is int and dim == 0 for dim in shape):
        return ()
    return [axis for axis, dim in enumerate(shape) if _is_dim(dim, x, axis)]


def _is_dim(dim, x, axis):
    """Whether `dim` is what `x.shape[axis]` gives of a symbolic tensor."""
    gather = dim.output.get_node() if is_symbolic(dim) else None
    if gather is None or gather.get_type_name() != "Gather":
        return False
    shape_of, index = (gather.input_value(i).get_node() for i in range(2))
    return (
        shape_of.get_type_name() == "ShapeOf"
        and port_of(shape_of.input_value(0)) == port_of(x.output)
        and index.get_type_name() == "Constant"
        and index.data.tolist() == axis
    )


def _resolved(old, new):
    """`new` with its -1 replaced, for a tensor of the shape `old`."""
    size = math.prod(old)
    if -1 in new:
        rest = -math.prod(new)
        if new.count(-1) > 1 or rest <= 0 or size % rest:
            raise ValueError(_misfit(old, new))
        return tuple(size // rest if dim == -1 else dim for dim in new)
    if math.prod(new) != size:
        raise ValueError(_misfit(old, new))
    return new


def _misfit(old, new):
    return blaming(f"cannot reshape a tensor of shape {old} into {new}.")


def right_shift(x, y):
    return bitwise_right_shift(x, y)


def roll(x, shift, axis=None):
    x = convert_to_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), dims_of(x))
    axes = tuple(canonical_axis(a, x.ndim) for a in listed(axis))
    shifts = listed(shift)
    if len(shifts) == 1:
        shifts = shifts * len(axes)
    if len(axes) == 1:
        axes = axes * len(shifts)
    return apply("Roll", x, _target_shape(shifts), axes)


def rot90(array, k=1, axes=(0, 1)):
    x = convert_to_tensor(array)
    if x.ndim < 2:
        raise ValueError(
            "Input array must have at least 2 dimensions. "
            f"Received: array.ndim={x.ndim}"
        )
    if len(axes) != 2 or axes[0] == axes[1]:
        raise ValueError(
            f"Invalid axes: {axes}. Axes must be a tuple of "
            "two different dimensions."
        )
    first, second = canonical_axes(tuple(axes), x.ndim)
    turns = k % 4
    if turns == 2:
        return flip(x, (first, second))
    if turns == 1:
        return swapaxes(flip(x, second), first, second)
    return flip(swapaxes(x, first, second), second) if turns else x


def round(x, decimals=0):
    x = convert_to_tensor(x)
    if not is_inexact(x.dtype):
        return x if decimals >= 0 else _round_integers(x, decimals)
    if decimals == 0:
        return apply("Round", x, mode="half_to_even")
    factor = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return round(x * factor) / factor
    return round(x / factor) * factor


def _round_integers(x, decimals):
    return cast(round(cast(x, "float64"), decimals), x.dtype)


def searchsorted(sorted_sequence, values, side="left"):
    sorted_sequence, values = promote(sorted_sequence, values)
    if sorted_sequence.ndim != 1:
        raise ValueError(
            "`searchsorted` only supports 1-D sorted sequences; "
            "`keras.ops.vectorized_map` takes it to more dims. "
            f"Received: sorted_sequence.shape={sorted_sequence.shape}"
        )
    result = apply(
        "SearchSorted",
        sorted_sequence,
        values,
        right_mode=side == "right",
        output_type="i32",
    )
    if is_symbolic(result) and sorted_sequence.shape[0] in (0, None):
        # The CPU plugin looks into what is empty.
        return clip(result, 0, dims_of(sorted_sequence)[0])
    return result


def select(condlist, choicelist, default=0):
    if len(condlist) != len(choicelist):
        raise ValueError(
            "`select` takes one choice for each condition. Received: "
            f"{len(condlist)} conditions, {len(choicelist)} choices"
        )
    *choices, result = promote(*choicelist, default)
    for condition, choice in zip(reversed(condlist), reversed(choices)):
        result = where(condition, choice, result)
    return result


def sign(x):
    x = convert_to_tensor(x)
    return x if x.dtype == "bool" else apply("Sign", x)


@composite("SignBit", np.signbit)
def _signbit(x):
    return (x < 0) | ((x == 0) & (1 / x < 0))


def signbit(x):
    x = convert_to_tensor(x)
    if is_inexact(x.dtype):
        return _signbit(x)
    return zeros_like(x) if x.dtype == "bool" else x < 0


def sin(x):
    return unary("Sin", x)


# Powers of x^2 in sin(x) / x, which give all that float64 holds up to 1.
_SINC = tuple((-1) ** i / math.factorial(2 * i + 1) for i in range(10))


@composite("Sinc", np.sinc, takes_complex=True)
def _sinc(x):
    # Of sin(x) / x near 0, the derivatives are differences of large numbers.
    angle = x * math.pi
    near = absolute(angle) < 1
    series = polynomial(_SINC, square(where(near, angle, 0)))
    far = where(near, 1, angle)
    return where(near, series, sin(far) / far)


def sinc(x):
    return _sinc(to_float(x))


def sinh(x):
    return unary("Sinh", x)


def size(x):
    return math.prod(dims_of(convert_to_tensor(x)))


register(
    "SLogDet",
    lambda x: tuple(np.linalg.slogdet(x)),
    rule=lambda x: [(x[0], x[1][:-2]), (part_dtype(x[0]), x[1][:-2])],
)


@in_float32
def slogdet(x):
    return apply("SLogDet", to_float(x))


@composite("Sort", lambda x, axis: np.sort(_comparable(x), axis=axis))
def _sort(x, axis):
    if not is_float(x.dtype):
        values, _ = _top_k(x, axis, "i32")
        # A node of its own: TopK has two outputs.
        return apply("Reshape", values, (0,) * x.ndim, special_zero=True)
    # The CPU plugin does not order NaN: it is sorted as infinity, and as many
    # at the end become NaN again.
    values, _ = _top_k(where(isnan(x), math.inf, x), axis, "i32")
    dim = dims_of(x)[axis]
    # Counted in floats: the CPU plugin gets `Less` of integers wrong where the
    # difference is fused into it and both sides are broadcast.
    numbers = dim - sum(cast(isnan(x), "float32"), axis, keepdims=True)
    position = cast(arange(dim), "float32")
    position = expand_dims(position, tuple(range(1, x.ndim - axis)))
    return where(position < numbers, values, math.nan)


def sort(x, axis=-1):
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    return _sort(x, axis=canonical_axis(axis, x.ndim))


def split(x, indices_or_sections, axis=0):
    x = convert_to_tensor(x)
    axis = canonical_axis(axis, x.ndim)
    if _are_indices(indices_or_sections):
        return _cut(x, list(_target_shape(indices_or_sections)), axis)
    sections = _positive(indices_or_sections, "split")
    dim = x.shape[axis]
    if dim is not None and dim % sections:
        raise ValueError(
            f"`split` cannot divide a dim of {dim} into {sections} equal "
            "parts; `array_split` takes parts of different sizes."
        )
    if sections == 1:
        return [x]
    return list(apply("Split", x, axis, num_splits=sections))


def _cut(x, bounds, axis):
    """The parts of `x` between `bounds`."""
    dim = x.shape[axis]
    slices = list(map(slice, [0, *bounds], [*bounds, None]))
    if dim is not None and not builtins.any(map(is_symbolic, bounds)):
        ranges = [range(dim)[part] for part in slices]
        lengths = tuple(map(len, ranges))
        # Bounds that go up only.
        if len(slices) > 1 and math.fsum(lengths) == dim:
            return list(apply("VariadicSplit", x, axis, lengths))
    return [x[(slice(None),) * axis + (part,)] for part in slices]


def sqrt(x):
    return unary("Sqrt", x)


def square(x):
    return multiply(*_promote_numbers(x, x))


def squeeze(x, axis=None):
    x = convert_to_tensor(x)
    if axis is None:
        axis = [i for i, dim in enumerate(x.shape) if dim == 1]
    axes = canonical_axes(axis, x.ndim)
    if builtins.any(x.shape[i] not in (1, None) for i in axes):
        raise ValueError(
            "`squeeze` takes axes whose size is 1. Received: "
            f"x.shape={x.shape}, axis={axis}"
        )
    return apply("Squeeze", x, axes) if axes else x


def stack(x, axis=0):
    xs = promote(*map(convert_to_tensor, x))
    axis = canonical_axis(axis, xs[0].ndim + 1)
    return concatenate([expand_dims(x, axis) for x in xs], axis)


def std(x, axis=None, keepdims=False):
    return _std(to_float(x), axis, keepdims)


@in_float32
def _std(x, axis, keepdims):
    return sqrt(_var(x, axis, keepdims))


_wrapping_subtract = _wrapping("Subtract", np.subtract)


def subtract(x1, x2):
    x1, x2 = promote(x1, x2)
    if x1.dtype == "bool":
        raise TypeError(
            "`subtract` takes numbers. Received two bool tensors; use "
            "`logical_xor`."
        )
    return _arithmetic("Subtract", _wrapping_subtract, x1, x2)


def sum(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    return reduction("ReduceSum", _accumulated(x), axis, keepdims)


def swapaxes(x, axis1, axis2):
    x = convert_to_tensor(x)
    axis1, axis2 = canonical_axis(axis1, x.ndim), canonical_axis(axis2, x.ndim)
    order = list(range(x.ndim))
    order[axis1], order[axis2] = axis2, axis1
    return transpose(x, order)


def _fill_value(dtype):
    """What JAX gives for an element that does not exist."""
    if is_inexact(dtype):
        return math.nan
    if dtype == "bool":
        return True
    bounds = np.iinfo(dtype)
    return int(bounds.max if dtype.startswith("u") else bounds.min)


def _take_kernel(x, indices, axis):
    dim = x.shape[axis]
    outside = is_outside(indices, dim)
    if not outside.any():
        return np.take(x, indices, axis)
    fill = np.array(_fill_value(x.dtype.name), x.dtype)
    if dim == 0:
        return np.full(_replaced(x.shape, axis, indices.shape), fill)
    taken = np.take(x, np.where(outside, 0, indices), axis)
    outside = outside.reshape(outside.shape + (1,) * (x.ndim - axis - 1))
    return np.where(outside, fill, taken)


@composite("TakeOrFill", _take_kernel, takes_complex=True)
def _take_or_fill(x, indices, axis):
    return _filled(gather(x, indices, axis), x, indices, axis)


def _filled(taken, x, indices, axis):
    outside = is_outside(indices, dims_of(x)[axis])
    trailing = range(indices.ndim, indices.ndim + x.ndim - axis - 1)
    outside = expand_dims(outside, tuple(trailing))
    return apply(
        "Select", outside, nearest_like(_fill_value(x.dtype), x), taken
    )


def _replaced(dims, axis, new):
    return dims[:axis] + new + dims[axis + 1 :]


def take(x, indices, axis=None):
    x = convert_to_tensor(x)
    indices = as_indices(indices, "take")
    if axis is None:
        x, axis = ravel(x), 0
    axis = canonical_axis(axis, x.ndim)
    if _are_inside(indices, x, axis):
        return gather(x, indices, axis)
    rows = packed.rows(x, indices) if axis == 0 else None
    if rows is not None:
        return _filled(rows, x, indices, axis)
    return _take_or_fill(x, indices, axis=axis)


def as_indices(indices, op):
    """`indices` as a tensor of int32 or int64."""
    indices = convert_to_tensor(indices)
    if not is_integer(indices.dtype):
        if indices.shape == (0,):
            return cast(indices, "int32")  # that of an empty list
        raise TypeError(
            f"`{op}` takes integer indices. Received: "
            f"indices.dtype={indices.dtype}"
        )
    if indices.dtype in ("int32", "int64"):
        return indices
    wide = "int64" if indices.dtype in ("uint32", "uint64") else "int32"
    return cast(indices, wide)


def _are_inside(indices, x, axis):
    """Whether the indices are known to be within the bounds of an axis."""
    dim, known = x.shape[axis], indices._value
    if dim is not None and is_symbolic(x) and not is_symbolic(indices):
        known = value_of(indices)  # eagerly they may wait
    if known is None or dim is None:
        return False
    return not is_outside(known, dim).any()


def _take_along_axis_kernel(x, indices, axis):
    dim = x.shape[axis]
    outside = is_outside(indices, dim)
    if not outside.any():
        return np.take_along_axis(x, indices, axis)
    fill = np.array(_fill_value(x.dtype.name), x.dtype)
    if dim == 0:
        x = np.full(_replaced(x.shape, axis, (1,)), fill)
    taken = np.take_along_axis(x, np.where(outside, 0, indices), axis)
    return np.where(outside, fill, taken)


@composite("TakeAlongAxis", _take_along_axis_kernel, takes_complex=True)
def _take_along_axis(x, indices, axis):
    dim = dims_of(x)[axis]
    inside = clip(indices, -dim, dim - 1)
    outside = is_outside(indices, dim)
    if axis < x.ndim - 1 and set(indices.shape[axis + 1 :]) == {1}:
        # All that follows an index is taken: faster, as for the beams of a
        # cache of keys and values.
        x, inside = _stretched_alike(x, inside, range(axis))
        inside = apply("Squeeze", inside, tuple(range(axis + 1, x.ndim)))
        taken = apply("Gather", x, inside, axis, batch_dims=axis)
    else:
        others = [i for i in range(x.ndim) if i != axis]
        x, inside = _stretched_alike(x, inside, others)
        taken = apply("GatherElements", x, inside, axis=axis)
    fill = nearest_like(_fill_value(x.dtype), x)
    return apply("Select", outside, fill, taken)


def _stretched_alike(x1, x2, axes):
    return _stretched(x1, x2, axes), _stretched(x2, x1, axes)


def _stretched(x, other, axes):
    """`x` with the dims of `other` where its own are 1, along some axes.

    A dim that is not known is taken not to be 1.
    """
    stretch = [
        i in axes and x.shape[i] == 1 and other.shape[i] != 1
        for i in range(x.ndim)
    ]
    if not builtins.any(stretch):
        return x
    dims = zip(stretch, dims_of(x), dims_of(other))
    return apply(
        "Broadcast", x, [theirs if s else own for s, own, theirs in dims]
    )


def take_along_axis(x, indices, axis=None):
    x = convert_to_tensor(x)
    indices = as_indices(indices, "take_along_axis")
    if axis is None:
        x, axis = ravel(x), 0
    if x.ndim != indices.ndim:
        raise ValueError(
            "`take_along_axis` takes indices of as many dims as `x`. "
            f"Received: x.shape={x.shape}, indices.shape={indices.shape}"
        )
    return _take_along_axis(x, indices, axis=canonical_axis(axis, x.ndim))


def tan(x):
    return unary("Tan", x)


def tanh(x):
    return unary("Tanh", x)


def tensordot(x1, x2, axes=2):
    x1, x2 = promote(x1, x2)
    if isinstance(axes, int):
        axes = (range(x1.ndim - axes, x1.ndim), range(axes))
    axes1, axes2 = (
        canonical_axes(list(a) if isinstance(a, range) else a, ndim)
        for a, ndim in zip(axes, (x1.ndim, x2.ndim))
    )
    pairs = [(x1.shape[i], x2.shape[j]) for i, j in zip(axes1, axes2)]
    if len(axes1) != len(axes2) or builtins.any(
        None not in pair and pair[0] != pair[1] for pair in pairs
    ):
        raise ValueError(
            "`tensordot` takes axes of the same sizes. Received: x1.shape="
            f"{x1.shape}, x2.shape={x2.shape}, axes={axes}"
        )
    labels1 = [chr(i) for i in range(x1.ndim)]
    labels2 = [chr(x1.ndim + i) for i in range(x2.ndim)]
    for i, j in zip(axes1, axes2):
        labels2[j] = labels1[i]
    once = set(labels1) ^ set(labels2)
    output = "".join(c for c in labels1 + labels2 if c in once)
    x, _ = _contract(x1, "".join(labels1), x2, "".join(labels2), output)
    return cast(x, x1.dtype)


def tile(x, repeats):
    return apply("Tile", convert_to_tensor(x), _target_shape(repeats))


def trace(x, offset=0, axis1=0, axis2=1):
    return sum(diagonal(x, offset, axis1, axis2), -1)


def transpose(x, axes=None):
    x = convert_to_tensor(x)
    if axes is None:
        axes = range(x.ndim)[::-1]
    order = canonical_axes(tuple(axes), x.ndim)
    if len(order) != x.ndim:
        raise ValueError(
            "`transpose` takes each axis once. Received: "
            f"x.shape={x.shape}, axes={axes}"
        )
    return x if order == tuple(range(x.ndim)) else apply("Transpose", x, order)


@in_float32
def trapezoid(y, x=None, dx=1.0, axis=-1):
    y = to_float(y)
    axis = canonical_axis(axis, y.ndim)
    widths = dx if x is None else _widths(x, y.ndim, axis)
    pairs = _slice(y, 1, _END, axis) + _slice(y, 0, -1, axis)
    return sum(pairs * widths, axis) * 0.5


def _widths(x, ndim, axis):
    x = convert_to_tensor(x)
    if x.ndim > 1:
        return diff(x, axis=axis)
    return _along(diff(x), axis, ndim)


def tri(N, M=None, k=0, dtype=None):
    row, column = _index_grid(N, M, k, "tri")
    return cast(row >= column, dtype or floatx())


def tril(x, k=0):
    x = convert_to_tensor(x)
    return apply("Select", _lower_part(x, k, "tril"), x, like(0, x))


def triu(x, k=0):
    x = convert_to_tensor(x)
    return apply("Select", _lower_part(x, k - 1, "triu"), like(0, x), x)


def _lower_part(x, k, op):
    if x.ndim < 2:
        raise ValueError(
            f"`{op}` takes a tensor of at least two dims. Received: "
            f"x.shape={x.shape}"
        )
    rows, columns = dims_of(x)[-2:]
    if builtins.any(map(is_symbolic, (rows, columns, k))):
        return tri(rows, columns, k=k, dtype="bool")
    return concrete(np.tri(rows, columns, int(k), bool))


def true_divide(x1, x2):
    return divide(x1, x2)


@composite("Trunc", np.trunc)
def _trunc(x):
    return where(x < 0, ceil(x), floor(x))


def trunc(x):
    x = convert_to_tensor(x)
    return _trunc(x) if is_inexact(x.dtype) else x


def unique(
    x,
    sorted=True,
    return_index=False,
    return_inverse=False,
    return_counts=False,
    axis=None,
    size=None,
    fill_value=None,
):
    # `sorted=False` allows any order; this is JAX's, eager and compiled.
    x = convert_to_tensor(x)
    if axis is None and (is_symbolic(x) or is_complex(x.dtype)):
        values, index, inverse, counts = _unique_sorted(ravel(x))
    else:
        axes = () if axis is None else canonical_axes(axis, x.ndim)
        values, index, inverse, counts = apply(
            "Unique",
            x,
            *axes,
            index_element_type="i32",
            count_element_type="i32",
        )
    if axis is None:
        inverse = reshape(inverse, dims_of(x))
    if size is not None:
        axis = 0 if axis is None else canonical_axis(axis, x.ndim)
        if fill_value is None:
            fill_value = _first(values, axis)
        values = _resized(values, size, fill_value, axis)
        index = _resized(index, size, _first(index, 0), 0)
        counts = _resized(counts, size, 0, 0)
    results = [values]
    if return_index:
        results.append(index)
    if return_inverse:
        results.append(inverse)
    if return_counts:
        results.append(counts)
    return tuple(results) if len(results) > 1 else values


def _unique_sorted(x):
    """What the node Unique gives for one dim.

    The CPU plugin takes no NaN, no empty tensor and no complex numbers.
    """
    order = _arg_sort(x, axis=0)
    values = gather(x, order, 0)
    count = dims_of(x)[0]
    position = arange(count)
    previous = gather(values, maximum(position - 1, 0), 0)
    is_first = (position == 0) | (values != previous)
    starts = nonzero(is_first)[0]
    ends = concatenate([starts[1:], expand_dims(_as_int32(count), 0)])
    group = cumsum(cast(is_first, "int32")) - 1
    inverse = apply("ScatterElementsUpdate", order, order, group, 0)
    return (
        gather(values, starts, 0),
        gather(order, starts, 0),
        inverse,
        ends[: dims_of(starts)[0]] - starts,
    )


def _as_int32(x):
    return convert_to_tensor(x, "int32")


def _first(x, axis):
    return x[(slice(None),) * axis + (slice(0, 1),)]


def _resized(x, size, fill_value, axis):
    """`x` cut to `size` elements, or filled up to that."""
    count = dims_of(x)[axis]
    position = arange(size)
    found = take(x, minimum(position, count - 1), axis)
    is_known = expand_dims(position < count, tuple(range(1, x.ndim - axis)))
    return apply("Select", is_known, found, like(fill_value, x))


def unravel_index(indices, shape):
    indices = convert_to_tensor(indices)
    dtype = indices.dtype
    indices = as_indices(indices, "unravel_index")
    size = math.prod(shape)
    indices = clip(indices, -size, size - 1)
    rest = where(indices < 0, indices + size, indices)
    results = []
    for dim in reversed(shape):
        quotient = rest // dim
        results.append(cast(rest - quotient * dim, dtype))
        rest = quotient
    return tuple(reversed(results))


def vander(x, N=None, increasing=False):
    x = convert_to_tensor(x)
    if x.ndim != 1:
        raise ValueError(
            f"`vander` takes a 1-d tensor. Received: x.shape={x.shape}"
        )
    n = dims_of(x)[0] if N is None else dimension(N, "vander")
    exponents = arange(n) if increasing else arange(n - 1, -1, -1)
    return power(expand_dims(x, 1), cast(exponents, x.dtype))


def var(x, axis=None, keepdims=False):
    x = to_float(x)
    return cast(_var(x, axis, keepdims), x.dtype)


@in_float32
def _var(x, axis, keepdims):
    deviation = x - mean(x, axis, keepdims=True)
    return mean(_squared_size(deviation), axis, keepdims)


def _squared_size(x):
    if is_complex(x.dtype):
        return square(real(x)) + square(imag(x))
    return square(x)


def vdot(x1, x2):
    x1, x2 = promote(x1, x2)
    return tensordot(ravel(conj(x1)), ravel(x2), 1)


def vectorize(pyfunc, *, excluded=None, signature=None):
    @functools.wraps(pyfunc)
    def vectorized(*args, **kwargs):
        left_out = set(excluded or ())
        mapped = [i for i in range(len(args)) if i not in left_out]
        fixed = {k: v for k, v in kwargs.items() if k in left_out}
        named = {k: v for k, v in kwargs.items() if k not in left_out}

        def function(*values, **named):
            every = list(args)
            for i, value in zip(mapped, values):
                every[i] = value
            return pyfunc(*every, **named, **fixed)

        run = vectorize_impl(function, _vectorize_axis, signature=signature)
        return run(*[args[i] for i in mapped], **named)

    return vectorized


def _vectorize_axis(function, in_axes):
    """`function` mapped over the first dims of some of its arguments."""

    def mapped(*args):
        moving = [a for a, axis in zip(args, in_axes) if axis == 0]

        def step(elements):
            elements = iter(elements)
            return function(
                *[
                    next(elements) if axis == 0 else arg
                    for arg, axis in zip(args, in_axes)
                ]
            )

        return vectorized_map(step, moving)

    return mapped


def _view_kernel(x, dtype):
    return (
        np.ascontiguousarray(x)
        .view(numpy_dtype(dtype))
        .reshape(_view_shape(x.dtype.name, x.shape, dtype))
    )


def _view_shape(old, dims, new):
    """The shape of a tensor whose bits are read as another dtype.

    Raises:
        ValueError: where the last dim's bytes are no multiple of an item.
    """
    old_size = numpy_dtype(old).itemsize
    new_size = numpy_dtype(new).itemsize
    if old_size == new_size:
        return dims
    if not dims or (dims[-1] or 0) * old_size % new_size:
        raise ValueError(
            f"`view` cannot read a tensor of shape {dims} and dtype {old} as "
            f"{new}: the bytes of its last dim must be a multiple of "
            f"{new_size}."
        )
    last = dims[-1]
    return dims[:-1] + (None if last is None else last * old_size // new_size,)


register(
    "View",
    _view_kernel,
    rule=lambda x, dtype: [(dtype, _view_shape(*x, dtype))],
)


def view(x, dtype=None):
    x = convert_to_tensor(x)
    dtype = x.dtype if dtype is None else standardize(dtype)
    return x if dtype == x.dtype else apply("View", x, dtype=dtype)


def vsplit(x, indices_or_sections):
    return _split_at_least(x, indices_or_sections, 2, 0, "vsplit")


def vstack(xs):
    xs = [convert_to_tensor(x) for x in xs]
    new_dims = {0: (0, 1), 1: (0,)}
    return concatenate([expand_dims(x, new_dims.get(x.ndim, ())) for x in xs])


def where(condition, x1=None, x2=None):
    if x1 is None and x2 is None:
        return nonzero(condition)
    x1, x2 = promote(x1, x2)
    return apply("Select", cast(condition, "bool"), x1, x2)


def zeros(shape, dtype=None):
    return full(shape, 0, dtype)


def zeros_like(x, dtype=None):
    return full_like(x, 0, dtype)
