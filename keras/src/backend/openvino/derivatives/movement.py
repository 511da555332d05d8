"""Derivatives of what moves elements, or picks or places some of them."""

import numpy as np

from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.common import ones_like
from keras.src.backend.openvino.common import zeros_like
from keras.src.backend.openvino.core import scatter_update
from keras.src.backend.openvino.derivatives.rules import reshape_as
from keras.src.backend.openvino.derivatives.rules import rule
from keras.src.backend.openvino.derivatives.rules import static_dims
from keras.src.backend.openvino.derivatives.rules import unbroadcast
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import value_of

# ------------------------------------------------------------- shapes and order


@rule("Reshape", "Squeeze", "Unsqueeze")
def _reshape(inputs, outputs, gradients, **_):
    x, *rest = inputs
    return [reshape_as(*gradients, x), *(None for _ in rest)]


@rule("Broadcast")
def _broadcast(inputs, outputs, gradients, mode="numpy"):
    x, *rest = inputs
    return [unbroadcast(*gradients, x), *(None for _ in rest)]


@rule("Transpose")
def _transpose(inputs, outputs, gradients):
    x, *order = inputs
    order = _integers(order[0]) if order else []
    order = order or range(x.ndim)[::-1]
    back = sorted(range(x.ndim), key=lambda axis: order[axis])
    return [apply("Transpose", *gradients, tuple(back)), None]


@rule("Concat")
def _concat(inputs, outputs, gradients, axis):
    (gradient,), start, given = gradients, 0, []
    for x in inputs:
        end = start + dims_of(x)[axis]
        given.append(apply("Slice", gradient, [start], [end], (1,), (axis,)))
        start = end
    return given


@rule("Split", "VariadicSplit")
def _split(inputs, outputs, gradients, num_splits=None):
    _, axis, *lengths = inputs
    (axis,) = _integers(axis)
    return [apply("Concat", *gradients, axis=axis), None, None][: len(inputs)]


@rule("Tile")
def _tile(inputs, outputs, gradients):
    x, repeats = inputs
    repeats = _integers(repeats)
    gradient, dims = gradients[0], dims_of(x)
    new = len(repeats) - x.ndim
    dims = (*(1,) * max(new, 0), *dims)
    repeats = [*(1,) * max(-new, 0), *repeats]
    parts = [n for pair in zip(repeats, dims) for n in pair]
    gradient = apply("Reshape", gradient, parts, special_zero=False)
    axes = tuple(range(0, len(parts), 2))
    total = apply("ReduceSum", gradient, axes, keep_dims=False)
    return [reshape_as(total, x), None]


@rule("Roll")
def _roll(inputs, outputs, gradients):
    _, shift, axes = inputs
    back = tuple(-n for n in _integers(shift))
    return [apply("Roll", *gradients, back, axes), None, None]


@rule("DepthToSpace")
def _depth_to_space(inputs, outputs, gradients, **attributes):
    return [apply("SpaceToDepth", *gradients, **attributes)]


@rule("SpaceToDepth")
def _space_to_depth(inputs, outputs, gradients, **attributes):
    return [apply("DepthToSpace", *gradients, **attributes)]


def _integers(x):
    """The integers of an input that shape inference needs."""
    if x.__class__ is OpenVINOKerasTensor:
        return np.ravel(value_of(x)).tolist()
    return [x] if isinstance(x, int) else list(x)


# ---------------------------------------------------------- padding and slicing


@rule("Pad")
def _pad(inputs, outputs, gradients, pad_mode):
    x, begin, end, *value = inputs
    (gradient,) = gradients
    if pad_mode != "constant":
        before, after = _integers(begin), _integers(end)
        dims = static_dims(x, "pad")
        for axis, (dim, *widths) in enumerate(zip(dims, before, after)):
            if any(widths):
                rows = np.pad(np.arange(dim), widths, mode=pad_mode)
                gradient = _rows_added(gradient, rows, axis, dim)
        return [gradient, *(None for _ in inputs[1:])]
    # Padding by fewer than none takes elements away.
    back, forth = [-n for n in _sizes(begin)], [-n for n in _sizes(end)]
    of_x = apply("Pad", gradient, back, forth, pad_mode="constant")
    of_value = []
    if value:
        inside = apply(
            "Pad", ones_like(x), begin, end, like(0, x), pad_mode="constant"
        )
        of_value = [ops.sum(ops.where(inside == 0, gradient, 0))]
    return [of_x, None, None, *of_value]


def _sizes(x):
    if x.__class__ is OpenVINOKerasTensor:
        return [x[i] for i in range(x.shape[0])]
    return _integers(x)


@rule("Slice")
def _slice(inputs, outputs, gradients):
    x, starts, stops, steps, *axes = inputs
    (gradient,) = gradients
    axes = _integers(axes[0]) if axes else range(len(_sizes(starts)))
    bounds = zip(axes, _sizes(starts), _sizes(stops), _integers(steps))
    for axis, start, stop, step in bounds:
        gradient = _unsliced(gradient, x, axis, start, stop, step)
    return [gradient, *(None for _ in inputs[1:])]


def _unsliced(gradient, x, axis, start, stop, step):
    dim = x.shape[axis]
    if dim is not None and isinstance(start, int) and isinstance(stop, int):
        if step < 0 and stop < -dim:
            stop = None
        rows = range(dim)[slice(start, stop, step)]
        if step == 1:
            widths = [rows.start, dim - rows.stop] if len(rows) else [0, dim]
            return _widened(gradient, axis, *widths)
        return _rows_added(gradient, np.array(rows, int), axis, dim)
    rows = ops.arange(dims_of(x)[axis])
    rows = apply("Slice", rows, [start], [stop], (step,), (0,))
    return _rows_added(gradient, rows, axis, dims_of(x)[axis])


def _widened(x, axis, before, after):
    """`x` with so many zeros along one axis."""
    if before == 0 and after == 0:
        return x
    begin, end = [0] * x.ndim, [0] * x.ndim
    begin[axis], end[axis] = before, after
    return apply("Pad", x, begin, end, pad_mode="constant")


def _rows_added(x, rows, axis, dim):
    """Zeros of `dim` along one axis, with `x` added to the rows given."""
    moved = ops.moveaxis(x, axis, 0)
    rest = dims_of(moved)[1:]
    zeros = ops.zeros((dim, *rest), x.dtype)
    rows = ops.expand_dims(cast(rows, "int32"), -1)
    return ops.moveaxis(scatter_update(zeros, rows, moved, "add"), 0, axis)


# -------------------------------------------------------- gathering, scattering


@rule("Gather")
def _gather(inputs, outputs, gradients, batch_dims=0):
    x, indices, axis = inputs
    (gradient,), axis = gradients, _integers(axis)[0] % x.ndim
    if batch_dims:
        raise NotImplementedError("Gather of batches has no derivative here.")
    indices = ops.convert_to_tensor(indices)
    if indices.ndim != 1:
        dims = dims_of(x)
        flat = [*dims[:axis], -1, *dims[axis + 1 :]]
        gradient = apply("Reshape", gradient, flat, special_zero=False)
        indices = ops.reshape(indices, (-1,))
    return [_rows_added(gradient, indices, axis, dims_of(x)[axis]), None, None]


@rule("GatherElements")
def _gather_elements(inputs, outputs, gradients, axis):
    x, indices = inputs
    return [_added_along(x, indices, *gradients, axis), None]


def _added_along(x, indices, updates, axis):
    """Zeros like `x`, with updates added at indices along one axis."""
    return apply(
        "ScatterElementsUpdate",
        zeros_like(x),
        indices,
        updates,
        axis,
        reduction="sum",
    )


@rule("GatherND")
def _gather_nd(inputs, outputs, gradients, batch_dims=0):
    x, indices = inputs
    indices = _with_batches(indices, batch_dims)
    return [scatter_update(zeros_like(x), indices, *gradients, "add"), None]


def _with_batches(indices, batch_dims):
    """The indices of `GatherND` into all dims, of those behind the first."""
    dims = dims_of(indices)[:-1]
    places = []
    for axis in range(batch_dims):
        place = ops.arange(dims[axis])
        place = ops.expand_dims(place, tuple(range(1, len(dims) - axis)))
        places.append(ops.expand_dims(ops.broadcast_to(place, dims), -1))
    return ops.concatenate([*places, cast(indices, "int32")], axis=-1)


@rule("TakeAlongAxis")
def _take_along_axis(inputs, outputs, gradients, axis):
    x, indices = inputs
    (gradient,), size = gradients, dims_of(x)[axis]
    # Where they are broadcast, and where they are outside.
    dims = dims_of(gradient)
    indices = ops.broadcast_to(indices, dims)
    inside = (indices >= -size) & (indices < size)
    whole = (*dims[:axis], size, *dims[axis + 1 :])
    added = _added_along(
        ops.zeros(whole, x.dtype),
        ops.where(inside, indices, 0),
        ops.where(inside, gradient, 0),
        axis,
    )
    return [unbroadcast(added, x), None]


@rule("ScatterUpdate")
def _scatter_update(inputs, outputs, gradients):
    x, indices, updates, axis = inputs
    (gradient,) = gradients
    (axis,) = _integers(axis)
    cleared = apply(
        "ScatterUpdate", gradient, indices, zeros_like(updates), axis
    )
    return [cleared, None, apply("Gather", gradient, indices, axis), None]


@rule("ScatterNDUpdate", "ScatterInside")
def _scatter_nd_update(inputs, outputs, gradients, reduction="none"):
    x, indices, updates = inputs

    def scattered(target, values, how):
        return scatter_update(target, indices, values, how)

    def gathered(values):
        return _rows_at(values, indices)

    return _of_scatter(
        x, updates, *outputs, *gradients, reduction, scattered, gathered
    )


# OpenVINO's names of the reductions of `scatter_update`.
_REDUCTIONS = {None: "none", "add": "sum", "mul": "prod"}


@rule("ScatterElementsUpdate")
def _scatter_elements_update(inputs, outputs, gradients, reduction="none"):
    x, indices, updates, axis = inputs

    def scattered(target, values, how):
        return apply(
            "ScatterElementsUpdate",
            target,
            indices,
            values,
            axis,
            reduction=_REDUCTIONS[how],
        )

    def gathered(values):
        return apply("GatherElements", values, indices, axis=_integers(axis)[0])

    given = _of_scatter(
        x, updates, *outputs, *gradients, reduction, scattered, gathered
    )
    return [*given, None]


def _of_scatter(x, updates, y, gradient, reduction, scattered, gathered):
    """The gradients of a scattering: of `x`, of no indices, of `updates`."""
    if reduction == "sum":
        return [gradient, None, gathered(gradient)]
    if reduction == "none":
        cleared = scattered(gradient, zeros_like(updates), None)
        return [cleared, None, gathered(gradient)]
    if reduction == "prod":
        return _of_scattered_product(x, updates, gradient, scattered, gathered)
    # Of the greatest or the least, all that are equal have their share.
    is_x = cast(x == y, x.dtype)
    is_update = cast(updates == gathered(y), x.dtype)
    share = gradient / scattered(is_x, is_update, "add")
    return [share * is_x, None, gathered(share) * is_update]


def _of_scattered_product(x, updates, gradient, scattered, gathered):
    """As `_of_scatter`: what each factor is multiplied by, zeros aside."""
    of_x = gradient * scattered(ones_like(x), updates, "mul")
    factors = [ops.where(z == 0, 1, z) for z in (x, updates)]
    zeros = [cast(z == 0, z.dtype) for z in (x, updates)]
    product = gathered(gradient * scattered(*factors, "mul"))
    others = gathered(scattered(*zeros, "add")) - zeros[1]
    of_updates = ops.where(others == 0, product / factors[1], 0)
    return [of_x, None, of_updates]


def _rows_at(x, indices):
    """`GatherND`, with zeros where an index is outside of `x`."""
    dims = ops.array(list(dims_of(x)[: indices.shape[-1]]), "int32")
    indices = cast(indices, "int32")
    indices = ops.where(indices < 0, indices + dims, indices)
    inside = ops.all((indices >= 0) & (indices < dims), axis=-1, keepdims=True)
    rows = apply("GatherND", x, ops.where(inside, indices, 0), batch_dims=0)
    inside = ops.squeeze(inside, -1)
    new = tuple(range(inside.ndim, rows.ndim))
    inside = ops.expand_dims(inside, new) if new else inside
    return ops.where(inside, rows, 0)


@rule("TopK")
def _top_k(inputs, outputs, gradients, axis, **_):
    x, indices = inputs[0], outputs[1]
    return [_added_along(x, indices, gradients[0], axis), None]


@rule("Unique")
def _unique(inputs, outputs, gradients, **_):
    x, *axis = inputs
    (gradient, *_), first = gradients, outputs[1]
    if axis:
        axis = _integers(axis[0])[0] % x.ndim
        dim = dims_of(x)[axis]
        return [_rows_added(gradient, first, axis, dim), None]
    size = ops.size(x)
    return [reshape_as(_rows_added(gradient, first, 0, size), x)]
