"""Part B of `keras.ops.numpy` on OpenVINO; to be merged into `numpy.py`."""

import builtins
import collections
import functools
import itertools
import math
import operator

import ml_dtypes
import numpy as np

from keras.src.backend.common.backend_utils import vectorize_impl
from keras.src.backend.openvino import custom
from keras.src.backend.openvino.common import canonical_axes
from keras.src.backend.openvino.common import canonical_axis
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.common import in_float32
from keras.src.backend.openvino.common import shape as dims_of
from keras.src.backend.openvino.common import to_float
from keras.src.backend.openvino.composite import composite
from keras.src.backend.openvino.control_flow import vectorized_map
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import is_integer
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import standardize
from keras.src.backend.openvino.numpy import any
from keras.src.backend.openvino.numpy import arange
from keras.src.backend.openvino.numpy import clip
from keras.src.backend.openvino.numpy import cumsum
from keras.src.backend.openvino.numpy import eye
from keras.src.backend.openvino.numpy import floor
from keras.src.backend.openvino.numpy import isnan
from keras.src.backend.openvino.numpy import matmul
from keras.src.backend.openvino.numpy import max
from keras.src.backend.openvino.numpy import maximum
from keras.src.backend.openvino.numpy import mean
from keras.src.backend.openvino.numpy import median
from keras.src.backend.openvino.numpy import min
from keras.src.backend.openvino.numpy import minimum
from keras.src.backend.openvino.numpy import mod
from keras.src.backend.openvino.numpy import multiply
from keras.src.backend.openvino.numpy import round
from keras.src.backend.openvino.numpy import sum
from keras.src.backend.openvino.numpy import tri
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote
from keras.src.backend.openvino.tensor import value_of

# ------------------------------------------- what needs several nodes in graphs


def _comparable(x):
    """`x` in a dtype that NumPy sorts with NaN last."""
    return x.astype(np.float32) if x.dtype.kind == "V" else x


def _arg_sort_kernel(x, axis):
    return np.argsort(_comparable(x), axis=axis, kind="stable")


@composite("ArgSort", _arg_sort_kernel)
def _arg_sort(x, axis):
    if is_float(x.dtype):
        # The CPU plugin does not order NaN. It takes the place of infinity,
        # and infinity that of the largest number.
        largest = ml_dtypes.finfo(numpy_dtype(x.dtype)).max
        x = where(isnan(x), math.inf, apply("Minimum", x, _like(largest, x)))
    _, order = _top_k(x, axis, "i64")
    return cast(order, "int32")


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


def _like(value, x):
    return convert_to_tensor(value, x.dtype)


def _fill_value(dtype):
    """What JAX gives for an element that does not exist."""
    if is_float(dtype):
        return math.nan
    if dtype == "bool":
        return True
    bounds = np.iinfo(dtype)
    return int(bounds.max if dtype.startswith("u") else bounds.min)


def _take_kernel(x, indices, axis):
    dim = x.shape[axis]
    outside = (indices < -dim) | (indices >= dim)
    if not outside.any():
        return np.take(x, indices, axis)
    fill = np.array(_fill_value(x.dtype.name), x.dtype)
    if dim == 0:
        return np.full(_replaced(x.shape, axis, indices.shape), fill)
    taken = np.take(x, np.where(outside, 0, indices), axis)
    outside = outside.reshape(outside.shape + (1,) * (x.ndim - axis - 1))
    return np.where(outside, fill, taken)


@composite("TakeOrFill", _take_kernel)
def _take_or_fill(x, indices, axis):
    taken = gather(x, indices, axis)
    outside = _is_outside(indices, dims_of(x)[axis])
    trailing = range(indices.ndim, indices.ndim + x.ndim - axis - 1)
    outside = expand_dims(outside, tuple(trailing))
    return apply("Select", outside, _like(_fill_value(x.dtype), x), taken)


def _is_outside(indices, dim):
    return (indices < -dim) | (indices >= dim)


def _replaced(dims, axis, new):
    return dims[:axis] + new + dims[axis + 1 :]


def _take_along_axis_kernel(x, indices, axis):
    dim = x.shape[axis]
    outside = (indices < -dim) | (indices >= dim)
    if not outside.any():
        return np.take_along_axis(x, indices, axis)
    fill = np.array(_fill_value(x.dtype.name), x.dtype)
    if dim == 0:
        x = np.full(_replaced(x.shape, axis, (1,)), fill)
    taken = np.take_along_axis(x, np.where(outside, 0, indices), axis)
    return np.where(outside, fill, taken)


@composite("TakeAlongAxis", _take_along_axis_kernel)
def _take_along_axis(x, indices, axis):
    dim = dims_of(x)[axis]
    x, indices = (
        _stretched(x, indices, axis),
        _stretched(indices, x, axis),
    )
    inside = clip(indices, -dim, dim - 1)
    taken = apply("GatherElements", x, inside, axis=axis)
    fill = _like(_fill_value(x.dtype), x)
    return apply("Select", _is_outside(indices, dim), fill, taken)


def _stretched(x, other, axis):
    """`x` with the dims of `other` where its own are 1, but for one axis.

    A dim that is not known is taken not to be 1.
    """
    stretch = [
        i != axis and x.shape[i] == 1 and other.shape[i] != 1
        for i in range(x.ndim)
    ]
    if not builtins.any(stretch):
        return x
    dims = zip(stretch, dims_of(x), dims_of(other))
    return apply(
        "Broadcast", x, [theirs if s else own for s, own, theirs in dims]
    )


# ------------------------------------------- operations that OpenVINO has not


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


custom.register(
    "View",
    _view_kernel,
    lambda x, dtype: [(dtype, _view_shape(*x, dtype))],
)

custom.register(
    "SLogDet",
    lambda x: tuple(np.linalg.slogdet(x)),
    lambda x: [(x[0], x[1][:-2])] * 2,
)


# ---------------------------------------------------------------------- the ops


def append(x1, x2, axis=None):
    return concatenate([x1, x2], axis)


def argpartition(x, kth, axis=-1):
    # Sorted is partitioned at every element.
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    dim = x.shape[canonical_axis(axis, x.ndim)]
    if dim is not None:
        canonical_axis(kth, dim)
    return argsort(x, axis)


def argsort(x, axis=-1):
    x = convert_to_tensor(x)
    if axis is None or x.ndim == 0:
        x, axis = ravel(x), 0
    return _arg_sort(x, axis=canonical_axis(axis, x.ndim))


def array_split(x, indices_or_sections, axis=0):
    if not isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    x = convert_to_tensor(x)
    axis = canonical_axis(axis, x.ndim)
    sections = _positive(indices_or_sections, "array_split")
    dim = dims_of(x)[axis]
    size, longer = dim // sections, dim % sections
    bounds = [size * i + _smaller(longer, i) for i in range(1, sections)]
    return _cut(x, bounds, axis)


def _positive(sections, op):
    if sections < 1:
        raise ValueError(
            f"`{op}` takes one section or more. Received: {sections}"
        )
    return sections


def _smaller(a, b):
    if is_symbolic(a) or is_symbolic(b):
        return minimum(a, b)
    return builtins.min(a, b)


def _larger(a, b):
    if is_symbolic(a) or is_symbolic(b):
        return maximum(a, b)
    return builtins.max(a, b)


def broadcast_to(x, shape):
    x = convert_to_tensor(x)
    shape = _target_shape(shape)
    if x.shape == shape:
        return x
    return apply("Broadcast", x, shape, mode="numpy")


def _target_shape(shape):
    """A tuple of integers, or a list or tensor with symbolic dims in it."""
    if is_symbolic(shape):
        return shape
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
    if x.shape[-1] not in (2, 3):
        raise ValueError(
            "`cross` takes vectors of 2 or 3 components. Received: "
            f"{x.shape[-1]}"
        )
    return [x[..., i] for i in range(x.shape[-1])]


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
    return apply("Select", on_diagonal, row, _like(0, x))


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
    length = _larger(
        _smaller(
            rows + builtins.min(offset, 0), columns - builtins.max(offset, 0)
        ),
        0,
    )
    step = columns + 1
    x = _reshaped(x, x.ndim - 2, [[(x, x.ndim - 2), (x, x.ndim - 1)]])
    return x[..., first : first + length * step : step]


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


def einsum(subscripts, *operands, optimize=None):
    """Sums of products, each pair of operands by one `MatMul`.

    `optimize` is taken for NumPy's sake: more than two operands are always
    contracted in the order that takes the least work.
    """
    operands = [convert_to_tensor(x) for x in operands]
    ranks = tuple(x.ndim for x in operands)
    if _is_matmul(subscripts, ranks):
        return matmul(*operands)
    is_int8 = builtins.all(x.dtype == "int8" for x in operands)
    operands = promote(*operands)
    dtype = "int32" if is_int8 else operands[0].dtype
    labels, output = _parse_einsum(subscripts, ranks)
    terms = list(zip(operands, labels))
    for i, j in _einsum_order(terms, output):
        second, first = terms.pop(j), terms.pop(i)
        needed = output + "".join(labels for _, labels in terms)
        terms.append(_contract(*first, *second, needed))
    ((x, labels),) = terms
    x, labels = _summed(x, labels, output)
    x = _in_order(x, labels, output)
    return cast(x, dtype)


@functools.lru_cache(maxsize=1024)
def _parse_einsum(subscripts, ranks):
    """The labels of each operand and of the output, one character a dim.

    Raises:
        ValueError: for an equation that is malformed or does not fit.
    """
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = inputs.split(",")
    if len(inputs) != len(ranks):
        raise ValueError(
            f"`einsum` got {len(ranks)} operands for {subscripts!r}, which "
            f"takes {len(inputs)}."
        )
    # Dims that an ellipsis stands for, counted from the last one.
    hidden = [chr(0x10000 + i) for i in range(builtins.max(ranks, default=0))]
    longest = ""
    expanded = []
    for labels, rank in zip(inputs, ranks):
        count = rank - len(labels.replace("...", ""))
        if count < 0 or (count > 0 and "..." not in labels):
            raise ValueError(
                f"`einsum` got an operand of {rank} dims for the labels "
                f"{labels!r} of {subscripts!r}."
            )
        ellipsis = "".join(hidden[:count][::-1])
        longest = builtins.max(longest, ellipsis, key=len)
        expanded.append(labels.replace("...", ellipsis))
    used = "".join(expanded)
    if arrow:
        output = output.replace("...", longest)
    else:
        once = {c for c in used if used.count(c) == 1 and c not in hidden}
        output = longest + "".join(sorted(once))
    letters = (c for c in used + output if c not in hidden)
    if (
        not builtins.all(c.isalpha() for c in letters)
        or set(output) - set(used)
        or len(set(output)) < len(output)
    ):
        raise ValueError(f"`einsum` got a malformed equation: {subscripts!r}")
    return tuple(expanded), output


@functools.lru_cache(maxsize=1024)
def _is_matmul(subscripts, ranks):
    """Whether an equation is `matmul` as it is."""
    if len(ranks) != 2:
        return False
    (labels1, labels2), output = _parse_einsum(subscripts, ranks)
    batch, free1, free2, inner, _ = _contraction_plan(labels1, labels2, output)
    ranks_fit = len(free1) == 1 if batch else len(free2) < 2
    return (
        ranks_fit
        and len(inner) == 1
        and (len(free2) == 1 or not batch)
        and labels1 == batch + free1 + inner
        and labels2 == batch + inner + free2
        and output == batch + free1 + free2
    )


def _einsum_order(terms, output):
    """Which two of the terms to contract at each step; results come last."""
    if len(terms) < 3:
        return ((0, 1),) * (len(terms) - 1)
    sizes = {}
    for x, labels in terms:
        sizes.update(zip(labels, x.shape))
    labels = tuple(labels for _, labels in terms)
    return _cheapest_order(labels, output, tuple(sizes.items()))


@functools.lru_cache(maxsize=1024)
def _cheapest_order(terms, output, sizes):
    """The order that takes, at each step, the pair with the least work."""
    # A dim that is not known counts as a batch of 32.
    sizes = {label: 32 if dim is None else dim for label, dim in sizes}
    terms, order = list(terms), []

    def work(pair):
        return math.prod(sizes[c] for c in set(terms[pair[0]] + terms[pair[1]]))

    while len(terms) > 1:
        pairs = itertools.combinations(range(len(terms)), 2)
        i, j = builtins.min(pairs, key=work)
        order.append((i, j))
        both = set(terms.pop(j) + terms.pop(i))
        terms.append("".join(both.intersection(output + "".join(terms))))
    return tuple(order)


def _contract(x1, labels1, x2, labels2, needed):
    """The product of two tensors, summed over what is not `needed`.

    Returns:
        `(x, labels)`: the result and what its dims are called.
    """
    x1, labels1 = _summed(x1, labels1, labels2 + needed)
    x2, labels2 = _summed(x2, labels2, labels1 + needed)
    plan = _contraction_plan(labels1, labels2, needed)
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


_ContractionPlan = collections.namedtuple(
    "_ContractionPlan", "batch free1 free2 inner swapped"
)


@functools.lru_cache(maxsize=4096)
def _contraction_plan(labels1, labels2, needed):
    """Which dims of two operands are which; swapped if that saves a step."""
    needed = "".join(dict.fromkeys(needed))
    batch = "".join(c for c in needed if c in labels1 and c in labels2)
    free1 = "".join(c for c in needed if c in labels1 and c not in labels2)
    free2 = "".join(c for c in needed if c in labels2 and c not in labels1)
    inner = "".join(c for c in labels1 if c in labels2 and c not in needed)
    wanted = "".join(c for c in needed if c in labels1 + labels2)
    if batch + free1 + free2 != wanted == batch + free2 + free1:
        return _ContractionPlan(batch, free2, free1, inner, True)
    return _ContractionPlan(batch, free1, free2, inner, False)


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
    """`x` with its dims in another order; those it has not are 1."""
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


def expand_dims(x, axis):
    x = convert_to_tensor(x)
    count = len(axis) if isinstance(axis, (list, tuple)) else 1
    axes = canonical_axes(axis, x.ndim + count)
    return apply("Unsqueeze", x, axes) if axes else x


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


def hsplit(x, indices_or_sections):
    x = convert_to_tensor(x)
    axis = 0 if x.ndim == 1 else 1
    return _split_at_least(x, indices_or_sections, 1, axis, "hsplit")


def hstack(xs):
    xs = [convert_to_tensor(x) for x in xs]
    xs = [expand_dims(x, 0) if x.ndim == 0 else x for x in xs]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1)


def inner(x1, x2):
    x1, x2 = promote(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return multiply(x1, x2)
    return tensordot(x1, x2, [[-1], [-1]])


def kron(x1, x2):
    x1, x2 = promote(x1, x2)
    ndim = builtins.max(x1.ndim, x2.ndim)
    x1 = expand_dims(x1, tuple(range(ndim - x1.ndim)))
    x2 = expand_dims(x2, tuple(range(ndim - x2.ndim)))
    dims = [[(x1, i), (x2, i)] for i in range(ndim)]
    x1 = expand_dims(x1, tuple(range(1, 2 * ndim, 2)))
    x2 = expand_dims(x2, tuple(range(0, 2 * ndim, 2)))
    return _reshaped(multiply(x1, x2), 0, dims)


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


def nonzero(x):
    x = convert_to_tensor(x)
    if x.ndim == 0:
        raise ValueError("`nonzero` takes a tensor of at least one dim.")
    positions = apply("NonZero", x, output_type="i32")
    return tuple(apply("Gather", positions, i, 0) for i in range(x.ndim))


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
        return _pad_node(x, widths, mode, _like(values, x))
    values = np.broadcast_to(np.asarray(values), (x.ndim, 2))
    for axis, (before, after) in enumerate(widths):
        for place, value in enumerate(values[axis].tolist()):
            ends = [(0, 0)] * x.ndim
            ends[axis] = (0, after) if place else (before, 0)
            x = _pad_node(x, ends, mode, _like(value, x))
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
    return cast(ramp if is_float(edge.dtype) else floor(ramp), edge.dtype)


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


def ravel(x):
    x = convert_to_tensor(x)
    return x if x.ndim == 1 else reshape(x, (-1,))


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
    return apply("Reshape", x, shape, special_zero=False)


def _resolved(old, new):
    """`new` with its -1 replaced, for a tensor of the shape `old`."""
    size = math.prod(old)
    if -1 in new:
        rest = -math.prod(new)
        if new.count(-1) > 1 or rest <= 0 or size % rest:
            raise ValueError(
                f"Cannot reshape a tensor of shape {old} into {new}."
            )
        return tuple(size // rest if dim == -1 else dim for dim in new)
    if math.prod(new) != size:
        raise ValueError(f"Cannot reshape a tensor of shape {old} into {new}.")
    return new


def roll(x, shift, axis=None):
    x = convert_to_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), dims_of(x))
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    axes = tuple(canonical_axis(a, x.ndim) for a in axes)
    shifts = shift if isinstance(shift, (list, tuple)) else (shift,)
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


def size(x):
    return math.prod(dims_of(convert_to_tensor(x)))


@in_float32
def slogdet(x):
    return apply("SLogDet", to_float(x))


def sort(x, axis=-1):
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    return _sort(x, axis=canonical_axis(axis, x.ndim))


def split(x, indices_or_sections, axis=0):
    x = convert_to_tensor(x)
    axis = canonical_axis(axis, x.ndim)
    if not isinstance(indices_or_sections, int):
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


def swapaxes(x, axis1, axis2):
    x = convert_to_tensor(x)
    axis1, axis2 = canonical_axis(axis1, x.ndim), canonical_axis(axis2, x.ndim)
    order = list(range(x.ndim))
    order[axis1], order[axis2] = axis2, axis1
    return transpose(x, order)


def take(x, indices, axis=None):
    x = convert_to_tensor(x)
    indices = _indices(indices, "take")
    if axis is None:
        x, axis = ravel(x), 0
    axis = canonical_axis(axis, x.ndim)
    if _are_inside(indices, x.shape[axis]):
        return gather(x, indices, axis)
    return _take_or_fill(x, indices, axis=axis)


def _indices(indices, op):
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


def _are_inside(indices, dim):
    """Whether the indices are known to be within the bounds of a dim."""
    known = indices._value
    if known is None or dim is None:
        return False
    return not known.size or (known.min() >= -dim and known.max() < dim)


def take_along_axis(x, indices, axis=None):
    x = convert_to_tensor(x)
    indices = _indices(indices, "take_along_axis")
    if axis is None:
        x, axis = ravel(x), 0
    if x.ndim != indices.ndim:
        raise ValueError(
            "`take_along_axis` takes indices of as many dims as `x`. "
            f"Received: x.shape={x.shape}, indices.shape={indices.shape}"
        )
    return _take_along_axis(x, indices, axis=canonical_axis(axis, x.ndim))


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


def tril(x, k=0):
    x = convert_to_tensor(x)
    return apply("Select", _lower_part(x, k, "tril"), x, _like(0, x))


def triu(x, k=0):
    x = convert_to_tensor(x)
    return apply("Select", _lower_part(x, k - 1, "triu"), _like(0, x), x)


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
    x = convert_to_tensor(x)
    if axis is None and is_symbolic(x):
        values, index, inverse, counts = _unique_sorted(ravel(x))
    else:
        axes = () if axis is None else canonical_axes(axis, x.ndim)
        values, index, inverse, counts = apply(
            "Unique",
            x,
            *axes,
            sorted=sorted,
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
    """What the node Unique gives for one dim, NaN and no elements included.

    The CPU plugin takes neither.
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
    return apply("Select", is_known, found, _like(fill_value, x))


def unravel_index(indices, shape):
    indices = convert_to_tensor(indices)
    dtype = indices.dtype
    indices = _indices(indices, "unravel_index")
    size = math.prod(shape)
    indices = clip(indices, -size, size - 1)
    rest = where(indices < 0, indices + size, indices)
    results = []
    for dim in reversed(shape):
        quotient = rest // dim
        results.append(cast(rest - quotient * dim, dtype))
        rest = quotient
    return tuple(reversed(results))


def vdot(x1, x2):
    x1, x2 = promote(x1, x2)
    return tensordot(ravel(x1), ravel(x2), 1)


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
