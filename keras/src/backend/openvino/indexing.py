"""NumPy's indexing of tensors: `x[key]`."""

import functools
import operator

import numpy as np

from keras.src.backend.common import KerasVariable
from keras.src.backend.openvino import recording
from keras.src.backend.openvino.common import binary
from keras.src.backend.openvino.common import checked
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.dtypes import without_base
from keras.src.backend.openvino.kernels import is_outside
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic

# Bounds that lie beyond every dim and fit the 32 bits of the CPU plugin.
_AFTER_THE_LAST = 2**31 - 1
_BEFORE_THE_FIRST = -(2**31) + 1


def getitem(x, key):
    """`x[key]`, by NumPy's rules.

    Out of bounds, integers and arrays raise an `IndexError`, which a compiled
    model with open dims does when it runs; tensors are clamped, as JAX does.

    Args:
        x: a tensor.
        key: an integer, a slice (its bounds may be 0-d tensors), `None`,
            `Ellipsis`, a boolean, a mask, integers in an array, a list or a
            tensor; or a tuple of these, or a list of them if one is a slice,
            `None` or `Ellipsis`.
    """
    items = tuple(key) if _is_several(key) else (key,)
    is_known = x._output is None and not x._pending()
    recorded = recording.state.recorders
    if is_known and not recorded and all(map(_is_basic, items)):
        return concrete(without_base(np.asarray(x._value[items])))
    if key.__class__ is int and x.ndim:
        index = np.array(key)
        _check_bounds(index, 0, x.shape[0])
        return _gathered(x, index, 0)
    items = list(map(_standard_item, items))
    slices, new_dims, indices = _layout(x, items)
    if slices:
        x = _sliced(x, slices)
    if new_dims:
        x = apply("Unsqueeze", x, tuple(new_dims))
    if all(index.ndim == 0 for _, index in indices):
        for gone, (dim, index) in enumerate(indices):
            x = _gathered(x, index, dim - gone)
        return x
    if len(indices) == 1:
        dim, index = indices[0]
        return _gathered(x, index, dim)
    return _gathered_together(x, indices, _are_adjacent(items))


def setitem(x, key, value):
    raise TypeError(
        "Tensors cannot be assigned to; use `keras.ops.slice_update` or "
        "`keras.ops.scatter_update`, which return a new tensor."
    )


def _is_several(key):
    """Whether `key` is a tuple, or a list that can only stand for one.

    Layers that were written for TensorFlow or PyTorch index with such lists.
    """
    return isinstance(key, tuple) or (
        isinstance(key, list)
        and any(x is None or x is Ellipsis or isinstance(x, slice) for x in key)
    )


def _is_basic(item):
    """Whether NumPy gives a view for it, without asking a tensor."""
    if item.__class__ is slice:
        bounds = (item.start, item.stop, item.step)
        return all(b is None or b.__class__ is int for b in bounds)
    return item.__class__ is int or item is None or item is Ellipsis


def _standard_item(item):
    """`None`, `Ellipsis`, a slice, or an index as an array or a tensor."""
    if item is None or item is Ellipsis or item.__class__ is slice:
        return item
    if isinstance(item, KerasVariable):
        item = convert_to_tensor(item)
    if isinstance(item, (list, tuple)):
        item = _array_or_tensor(item)
    if item.__class__ is int:
        return np.array(item)
    if not isinstance(item, (OpenVINOKerasTensor, np.ndarray)):
        item = np.asarray(item)
    if _is_mask(item):
        return item if is_symbolic(item) else np.asarray(item)
    if isinstance(item, np.ndarray):
        is_integer = item.dtype.kind in "iu"
    else:
        is_integer = "int" in item.dtype
    if not is_integer:
        raise IndexError(
            "Only integers, slices, `None`, `...`, and integer or boolean "
            "tensors, arrays and lists are valid indices. Received: "
            f"{item!r}"
        )
    return item


def _is_mask(index):
    if isinstance(index, np.ndarray):
        return index.dtype.kind == "b"
    return index.dtype == "bool"


def _array_or_tensor(items):
    if len(items) == 0:
        return np.array(items, dtype=np.int64)
    tensor = convert_to_tensor(items)
    known = tensor._value
    return tensor if known is None else known


def _consumed(item):
    """How many dims of the tensor an item stands for."""
    if item is None or item is Ellipsis:
        return 0
    if item.__class__ is not slice and _is_mask(item):
        return item.ndim
    return 1


def _layout(x, items):
    """What the items ask of `x`.

    Returns:
        `(slices, new_dims, indices)`: slices by axis of `x`; where the
        sliced `x` gets dims of size 1; and for each dim that this gives and
        an index picks from, `(dim, index)`.
    """
    rank = x.ndim
    free = rank - sum(map(_consumed, items))
    if free < 0:
        raise IndexError(
            f"Too many indices: the tensor has {rank} dims, and "
            f"{rank - free} are indexed."
        )
    if sum(item is Ellipsis for item in items) > 1:
        raise IndexError("An index can only have a single ellipsis (`...`).")
    slices, new_dims, indices, bounds = {}, [], [], []
    axis = dim = 0
    for item in items:
        if item is Ellipsis:
            axis += free
            dim += free
        elif item is None:
            new_dims.append(dim)
            dim += 1
        elif item.__class__ is slice:
            if not (item.start is item.stop is item.step is None):
                slices[axis] = item
            axis += 1
            dim += 1
        elif _is_mask(item):
            if item.ndim == 0:
                new_dims.append(dim)
            rows = _true_positions(item, dims_of(x)[axis : axis + item.ndim])
            indices.extend((dim + i, row) for i, row in enumerate(rows))
            axis += item.ndim
            dim += max(item.ndim, 1)
        else:
            bounds.append((item, axis, x.shape[axis]))
            indices.append((dim, item))
            axis += 1
            dim += 1
    # As in NumPy, arrays may hold anything where they broadcast to nothing.
    is_empty = any(0 in getattr(index, "shape", ()) for _, index in indices)
    for item, axis, size in bounds:
        if not is_empty or item.ndim == 0:
            _check_bounds(item, axis, size)
    return slices, new_dims, indices


def _check_bounds(index, axis, dim):
    if dim is None or not isinstance(index, np.ndarray):
        return
    outside = index[is_outside(index, dim)]
    if outside.size:
        raise IndexError(
            f"Index {outside[0]} is out of bounds for axis {axis} of "
            f"size {dim}."
        )


class _Row:
    """The positions of a symbolic mask's true elements in one of its dims."""

    ndim = 1

    def __init__(self, positions, row):
        self.positions = positions
        self.row = row


def _true_positions(mask, dims):
    """The indices of a mask's true elements, one for each of `dims`."""
    fits = _fits(mask, dims)
    if not is_symbolic(mask):
        rows = np.nonzero(np.atleast_1d(mask))
        if fits is None:
            return rows
        return [checked(_as_tensor(row), fits) for row in rows]
    if mask.ndim == 0:
        mask = apply("Unsqueeze", mask, 0)
    positions = apply("NonZero", mask, output_type="i32")
    if fits is not None:
        positions = checked(positions, fits)
    return [_Row(positions, i) for i in range(mask.ndim)]


def _fits(mask, dims):
    """Whether a mask has these dims: a 0-d tensor, or `None` if it is known.

    Raises:
        IndexError: where it is known not to.
    """
    equal = []
    for size, dim in zip(dims_of(mask), dims):
        if is_symbolic(size) or is_symbolic(dim):
            equal.append(binary("Equal", size, dim))
        elif size != dim:
            raise IndexError(
                f"A boolean index of shape {tuple(mask.shape)} does not match "
                f"the dims {tuple(dims)} that it indexes."
            )
    if not equal:
        return None
    return functools.reduce(functools.partial(apply, "LogicalAnd"), equal)


def _are_adjacent(items):
    """Whether no slice, `None` or `Ellipsis` stands between the indices."""
    kinds = [
        item is None or item is Ellipsis or item.__class__ is slice
        for item in items
    ]
    first = kinds.index(False)
    last = len(kinds) - kinds[::-1].index(False)
    return not any(kinds[first:last])


# --------------------------------------------------------------------- slices


def _sliced(x, slices):
    """`x` with `slices` (by axis) taken in one step."""
    bounds = [_bounds(each) for each in slices.values()]
    start, stop, step = zip(*bounds)
    return apply("Slice", x, start, stop, step, tuple(slices))


def _bounds(item):
    step = 1 if item.step is None else _bound(item.step)
    if is_symbolic(step):
        if item.start is None or item.stop is None:
            raise ValueError(
                "A slice whose step is a symbolic tensor needs both bounds. "
                f"Received: {item}"
            )
        backwards = False
    elif step == 0:
        raise ValueError("The step of a slice cannot be zero.")
    else:
        backwards = step < 0
    start, stop = item.start, item.stop
    if start is None:
        start = _AFTER_THE_LAST if backwards else 0
    if stop is None:
        stop = _BEFORE_THE_FIRST if backwards else _AFTER_THE_LAST
    return _bound(start), _bound(stop), step


def _bound(bound):
    """An integer, or the symbolic 0-d tensor that `bound` is."""
    if isinstance(bound, KerasVariable):
        bound = convert_to_tensor(bound)
    if is_symbolic(bound):
        if bound.ndim or "int" not in bound.dtype:
            raise TypeError(
                "The bounds of a slice are integers or 0-d integer tensors. "
                f"Received a tensor of shape {bound.shape} and dtype "
                f"{bound.dtype}."
            )
        return bound
    bound = operator.index(bound)
    return min(max(bound, _BEFORE_THE_FIRST), _AFTER_THE_LAST)


# -------------------------------------------------------------------- indices


def _gathered(x, index, dim):
    """`x` at one index."""
    return gather(x, _as_tensor(_within(index, dims_of(x)[dim])), dim)


def _as_tensor(index):
    if isinstance(index, np.ndarray):
        return concrete(index.astype(np.int64))
    if isinstance(index, _Row):
        return apply("Gather", index.positions, index.row, 0)
    return index if index.dtype == "int64" else cast(index, "int32")


def _within(index, dim):
    """`index` within the bounds of a dim, still negative where it was.

    Tensors are clamped. Of the others those that are outside of a known dim
    were refused; of an open one a compiled model refuses them when it runs.
    """
    if isinstance(index, _Row):
        return index
    if isinstance(index, np.ndarray):
        if not is_symbolic(dim) or not index.size:
            return index
        least = max(int(index.max()) + 1, -int(index.min()))
        return checked(_as_tensor(index), dim >= _bound(least))
    value = index._value
    if value is not None and not is_symbolic(dim):
        is_clamped = is_outside(value, dim).any()
        return np.clip(value, -dim, dim - 1) if is_clamped else value
    index = _as_tensor(index)
    dim = convert_to_tensor(dim, index.dtype)
    last = apply("Subtract", dim, convert_to_tensor(1, index.dtype))
    index = apply("Minimum", index, last)
    return apply("Maximum", index, apply("Negative", dim))


def _non_negative(index, dim):
    """`index` counted from the start of the dim."""
    index = _within(index, dim)
    if isinstance(index, _Row):
        return index
    if isinstance(index, np.ndarray) and not is_symbolic(dim):
        return np.where(index < 0, index + dim, index)
    index = _as_tensor(index)
    zero = convert_to_tensor(0, index.dtype)
    wrapped = apply("Add", index, convert_to_tensor(dim, index.dtype))
    return apply("Select", apply("Less", index, zero), wrapped, index)


def _gathered_together(x, indices, adjacent):
    """`x` at several indices, which broadcast together.

    Their common dims stand where the indexed dims stood if these are
    adjacent, and first otherwise.
    """
    dims = [dim for dim, _ in indices]
    rest = [dim for dim in range(x.ndim) if dim not in dims]
    sizes = dims_of(x)
    positions = _stacked(
        [_non_negative(index, sizes[d]) for d, index in indices]
    )
    if dims + rest != list(range(x.ndim)):
        x = apply("Transpose", x, tuple(dims + rest))
    x = apply("GatherND", x, positions)
    common = positions.ndim - 1
    before = dims[0] if adjacent else 0
    if before:
        order = [*range(common, common + before), *range(common)]
        x = apply("Transpose", x, (*order, *range(len(order), x.ndim)))
    return x


def _stacked(indices):
    """The indices, broadcast together, as the columns of one tensor."""
    if all(isinstance(index, np.ndarray) for index in indices):
        common = _broadcast([index.shape for index in indices])
        indices = [np.broadcast_to(index, common) for index in indices]
        return concrete(np.stack(indices, axis=-1).astype(np.int64))
    if _are_rows_of_one_mask(indices):
        return apply("Transpose", indices[0].positions, (1, 0))
    indices = [cast(_as_tensor(index), "int32") for index in indices]
    shapes = [index.shape for index in indices]
    if any(None in each for each in shapes):
        total = functools.reduce(functools.partial(apply, "Add"), indices)
        target = apply("ShapeOf", total, output_type="i32")
    else:
        target = _broadcast(shapes)
    columns = [
        apply("Unsqueeze", apply("Broadcast", index, target), -1)
        for index in indices
    ]
    return apply("Concat", *columns, axis=-1)


def _broadcast(shapes):
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise IndexError(
            f"Indices of the shapes {shapes} do not broadcast together."
        ) from None


def _are_rows_of_one_mask(indices):
    rows = [index for index in indices if isinstance(index, _Row)]
    return len(rows) == len(indices) and all(
        row.positions is rows[0].positions for row in rows
    )


OpenVINOKerasTensor.__getitem__ = getitem
OpenVINOKerasTensor.__setitem__ = setitem
