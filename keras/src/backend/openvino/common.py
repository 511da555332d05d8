"""What the ops share: promotion, axes, dims and the common shapes of an op."""

import functools
import operator

from keras.src import tree
from keras.src.backend.openvino.dtypes import HALVES
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import is_inexact
from keras.src.backend.openvino.dtypes import result_type
from keras.src.backend.openvino.dtypes import standardize
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote


def to_float(x):
    """`x` as a float or complex tensor; others become `floatx`."""
    x = convert_to_tensor(x)
    return x if is_inexact(x.dtype) else cast(x, result_type(x.dtype, float))


def at_least_float32(x):
    """`x` as floats of 32 bits or more."""
    x = to_float(x)
    return cast(x, result_type(x.dtype, "float32"))


def like(value, x):
    """`value` as a tensor of the dtype of `x`."""
    return convert_to_tensor(value, x.dtype)


def known_dim(x, axis, name):
    """The size of a dim that the op `name` cannot do without."""
    dim = x.shape[axis]
    if dim is None:
        raise UnknownDim(
            f"`{name}` needs to know dim {axis} of its input. Received: "
            f"shape={x.shape}"
        )
    return dim


def broadcast_like(y, x):
    """`y` in the shape of `x`."""
    if x.ndim == 0:
        return y  # the CPU plugin crashes
    dims = x.shape
    if None in dims:
        dims = apply("ShapeOf", x, output_type="i32")
    return apply("Broadcast", y, dims)


def zeros_like(x):
    """Zeros in the shape and dtype of `x`."""
    return broadcast_like(like(0, x), x)


def ones_like(x):
    """Ones in the shape and dtype of `x`."""
    return broadcast_like(like(1, x), x)


def nearest_like(value, x):
    """`value` as a tensor of the dtype of `x` that graphs can hold.

    Of integers that is one of signed 32 bits, see `integers`.
    """
    if x.dtype in ("int64", "uint32", "uint64"):
        value = max(-(2**31), min(int(value), 2**31 - 1))
    return like(value, x)


def unary(type, x, **attributes):
    """An element-wise operation on floats."""
    return apply(type, to_float(x), **attributes)


def binary(type, x1, x2, *kinds):
    """A broadcast operation on two operands of one dtype.

    Args:
        type: the OpenVINO operation.
        x1, x2: the operands.
        *kinds: Python types that take part in the promotion, such as `float`.
    """
    return apply(type, *promote(x1, x2, *kinds))


def in_float32(op):
    """An op of several steps that rounds float16 and bfloat16 once, at its end.

    Tensors among its positional arguments are given to it in float32. If all
    that are of floats have one dtype, the result has it too.
    """

    @functools.wraps(op)
    def computed(*args, **kwargs):
        dtypes = [_dtype(x) for x in args]
        if not any(dtype in HALVES for dtype in dtypes):
            return op(*args, **kwargs)
        wide = [
            cast(x, "float32") if dtype in HALVES else x
            for x, dtype in zip(args, dtypes)
        ]
        result = op(*wide, **kwargs)
        floats = set(filter(is_float, dtypes))
        if len(floats) > 1:
            return result
        (half,) = floats
        return tree.map_structure(
            lambda y: cast(y, half) if y.dtype == "float32" else y, result
        )

    return computed


def _dtype(x):
    dtype = getattr(x, "dtype", None)
    return None if dtype is None else standardize(dtype)


def refuse_complex(op, *operands):
    """Raises a `TypeError` for an op that complex numbers have no order for."""
    for x in operands:
        dtype = getattr(x, "dtype", x.__class__.__name__)
        if "complex" in str(dtype):
            raise TypeError(
                f"`{op}` does not take complex numbers. Received: {dtype}"
            )


def refuse_sparse(op, sparse):
    """Raises a `ValueError` where an op is to give a sparse tensor."""
    if sparse:
        raise ValueError(
            f"`{op}` cannot give a sparse tensor; OpenVINO has none. "
            "Received: sparse=True"
        )


def canonical_axes(axis, ndim):
    """`axis` (`None`, or as `listed` takes it) as a tuple of axes from 0 on.

    Raises:
        ValueError: for an axis that a tensor of `ndim` dims lacks,
            or that is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(canonical_axis(a, ndim) for a in listed(axis))
    if len(set(axes)) < len(axes):
        raise ValueError(
            blaming(f"an axis is named twice. Received: axis={axis}")
        )
    return axes


def listed(axis):
    """`axis`, one or several in a sequence, an array or a tensor, in a list."""
    is_one = not isinstance(axis, (list, tuple)) and not getattr(
        axis, "ndim", 0
    )
    return [axis] if is_one else list(axis)


def canonical_axis(axis, ndim):
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(
            blaming(
                f"axis {axis} is out of bounds for a tensor of {ndim} dims."
            )
        )
    return axis % ndim


def reduction(type, x, axis, keepdims):
    """A reduction that keeps the dtype of `x`."""
    axes = canonical_axes(axis, x.ndim)
    return apply(type, x, axes, keep_dims=bool(keepdims)) if axes else x


def gather(x, indices, axis):
    """The elements of `x` at `indices` (a tensor) along one axis.

    It is the node Gather, but for what OpenVINO gets wrong: a compiled model
    crashes where the data or the indices are known to be empty, and where the
    indices are constant, an axis that Unsqueeze made is taken away again.
    """
    if not is_symbolic(x) and not is_symbolic(indices):
        return apply("Gather", x, indices, axis)
    if 0 in x.shape or 0 in indices.shape:
        dims = dims_of(x)
        dims = dims[:axis] + dims_of(indices) + dims[axis + 1 :]
        return apply("Broadcast", convert_to_tensor(0, x.dtype), dims)
    if x.shape[axis] == 1 and indices.ndim and not is_symbolic(indices):
        new_dims = tuple(range(axis, axis + indices.ndim - 1))
        repeats = (1,) * axis + indices.shape + (1,) * (x.ndim - axis - 1)
        x = apply("Unsqueeze", x, new_dims) if new_dims else x
        return apply("Tile", x, repeats)
    return apply("Gather", x, indices, axis)


def checked(x, holds):
    """`x`, integers that are computed only where a condition holds.

    Where it does not, a compiled model fails: nothing else in OpenVINO's
    graphs asserts, but no dim of 2 can be squeezed away.

    Args:
        x: a tensor.
        holds: a symbolic 0-d tensor of bool.
    """
    one, two = convert_to_tensor([1]), convert_to_tensor([2])
    size = apply("Select", holds, one, two)
    zero = apply("Squeeze", apply("Broadcast", like(0, x), size), 0)
    return apply("Add", x, zero)


def of_size(x, axis, size):
    """`x`, whose open dim `axis` has a known size.

    A compiled model fails where it has another.
    """
    if x.shape[axis] is not None:
        return x
    return apply("VariadicSplit", x, axis, (size,))


def dimension(n, op):
    """`n` as the size of a dim: an integer, or a symbolic 0-d tensor.

    Raises:
        TypeError: where `n` is not an integer.
        ValueError: where it is negative or not a scalar.
    """
    if isinstance(n, OpenVINOKerasTensor):
        if "int" not in n.dtype:
            raise TypeError(
                f"`{op}` takes an integer size. Received a tensor of dtype "
                f"{n.dtype}."
            )
        if n.ndim != 0:
            raise ValueError(
                f"`{op}` takes a scalar size. Received a tensor of shape "
                f"{n.shape}."
            )
        if is_symbolic(n):
            return n
    try:
        if isinstance(n, bool):
            raise TypeError
        size = operator.index(n)
    except TypeError:
        raise TypeError(
            f"`{op}` takes an integer size. Received: {n!r}"
        ) from None
    if size < 0:
        raise ValueError(f"`{op}` takes a size of 0 or more. Received: {size}")
    return size


def smaller(dim1, dim2):
    """The smaller of two dims, as `dims_of` gives them."""
    if is_symbolic(dim1) or is_symbolic(dim2):
        return binary("Minimum", dim1, dim2)
    return min(dim1, dim2)


def larger(dim1, dim2):
    """The larger of two dims, as `dims_of` gives them."""
    if is_symbolic(dim1) or is_symbolic(dim2):
        return binary("Maximum", dim1, dim2)
    return max(dim1, dim2)


def broadcast_dims(dims1, dims2):
    """What two static shapes broadcast to; unknown dims are `None`."""
    rank = max(len(dims1), len(dims2))
    pairs = zip(
        (1,) * (rank - len(dims1)) + tuple(dims1),
        (1,) * (rank - len(dims2)) + tuple(dims2),
    )
    return tuple(b if a == 1 else a if b in (1, None) else b for a, b in pairs)


def polynomial(coefficients, x):
    """The polynomial with these coefficients, that of 1 first (Horner)."""
    return functools.reduce(lambda y, c: y * x + c, reversed(coefficients))
