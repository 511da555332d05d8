"""What Keras asks of a backend beside its ops: variables, tensors, tracing."""

import builtins

import numpy as np

from keras.src import tree
from keras.src.backend.common import KerasVariable
from keras.src.backend.common import variables as common_variables
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.common.symbolic_scope import SymbolicScope
from keras.src.backend.openvino import caches
from keras.src.backend.openvino import jit
from keras.src.backend.openvino import recording
from keras.src.backend.openvino.common import canonical_axis
from keras.src.backend.openvino.common import checked
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.common import of_size
from keras.src.backend.openvino.composite import composite
from keras.src.backend.openvino.control_flow import cond
from keras.src.backend.openvino.control_flow import fori_loop
from keras.src.backend.openvino.control_flow import switch
from keras.src.backend.openvino.control_flow import while_loop
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.dtypes import for_runtime
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.dtypes import own_array
from keras.src.backend.openvino.graph import Trace
from keras.src.backend.openvino.kernels import is_outside
from keras.src.backend.openvino.kernels import scatter_nd_update
from keras.src.backend.openvino.registry import ROUNDED
from keras.src.backend.openvino.scans import associative_scan
from keras.src.backend.openvino.scans import map
from keras.src.backend.openvino.scans import scan
from keras.src.backend.openvino.scans import vectorized_map
from keras.src.backend.openvino.settings import device_scope
from keras.src.backend.openvino.settings import get_device
from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.specialise import naming_unknown_dims
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import alias
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.tensor import traced_caller
from keras.src.backend.openvino.tensor import value_of

SUPPORTS_SPARSE_TENSORS = False
SUPPORTS_RAGGED_TENSORS = False
SUPPORTS_COMPLEX_DTYPES = True
IS_THREAD_SAFE = True


class Variable(KerasVariable):
    """A variable whose value compiled functions may share.

    Assigning binds a new value and never writes into the old one. `version` is
    the number of its last assignment among all of the process, so that whoever
    compiled the value in can tell.
    """

    version = 0

    def _initialize(self, value):
        self._direct_assign(convert_to_tensor(value, dtype=self._dtype))

    def _direct_assign(self, value):
        # Computed here: a variable that is assigned in each step of a loop
        # would keep the graph of all steps.
        # `value` may be a view, in an order of its own.
        new = concrete(for_runtime(value_of(value)))
        if recording.state.recorders and not self.trainable:
            recording.tell(_assigned, (value,), {}, (new,))
        self._value = new
        jit.note_assignment(self)

    def _convert_to_tensor(self, value, dtype=None):
        return convert_to_tensor(value, dtype=dtype)

    @property
    def value(self):
        jit.note_read(self)
        return super().value

    def __array__(self, dtype=None, copy=None):
        return self.value.__array__(dtype, copy)


def _assigned(inputs, outputs, gradients):
    """The `registry.Operation.gradient` of an assignment, as on JAX.

    To a tape, what is assigned to a trainable variable is a source instead, as
    in TensorFlow.
    """
    return gradients


def convert_to_numpy(x):
    """A new `numpy.ndarray` with the value of `x`."""
    if isinstance(x, (OpenVINOKerasTensor, KerasVariable)):
        return own_array(value_of(convert_to_tensor(x)))
    return np.array(x)


def is_tensor(x):
    return isinstance(x, OpenVINOKerasTensor)


def get_ov_output(x, ov_type=None):
    """The `openvino.Output` of anything that `convert_to_tensor` takes.

    For code that builds OpenVINO nodes of its own; the released backend has
    it under this name.
    """
    dtype = None if ov_type is None else ov_to_keras_type(ov_type)
    return convert_to_tensor(x, dtype).output


def shape(x):
    """The dims of `x`: integers, and 0-d int32 tensors for unknown ones."""
    if None in x.shape[-3:] and (traced_caller() or "").startswith(_CROPS):
        raise UnknownDim(
            "The crops of Keras's image layers need the height and width of "
            f"images. Received: shape={x.shape}"
        )
    return dims_of(x)


# They take another branch where `isinstance(height, int)` is false, and give
# images of another size or other pixels there.
_CROPS = (
    "keras.src.layers.preprocessing.image_preprocessing.center_crop",
    "keras.src.utils.image_utils",
)


def standardize_shape(shape):
    """`shape` as Keras has it: `None` for dims that are symbolic tensors."""
    if isinstance(shape, (list, tuple)):
        shape = tuple(None if is_symbolic(dim) else dim for dim in shape)
    return common_variables.standardize_shape(shape)


def compute_output_spec(fn, *args, **kwargs):
    """The `KerasTensor`s that `fn` gives for `KerasTensor`s.

    `fn` is traced on symbolic tensors, as by `jit`; nothing is computed. Where
    it needs dims that are not known, it is traced with two sizes for these:
    what differs in the results is not known.
    """
    try:
        return _spec(fn, args, kwargs)
    except UnknownDim as error:
        unknown = error
    for pair in _SIZES:
        try:
            specs = [_spec(fn, args, kwargs, *sizes) for sizes in pair]
            return tree.map_structure(_same_or_unknown, *specs)
        except UnknownDim:
            continue
        except (TypeError, ValueError) as error:
            # It may be about these sizes, of which the caller knows nothing.
            raise unknown from error
    raise unknown


# What stands for first and other dims that are not known. As `jit` does, the
# first is left open where it may be. Layers halve images up to five times.
_SIZES = (((None, 64), (None, 96)), ((8, 64), (16, 96)))


def _spec(fn, args, kwargs, first=None, other=None):
    def to_symbolic(x):
        if not isinstance(x, KerasTensor):
            return x
        sizes = (first, *[other] * (len(x.shape) - 1))
        dims = [n if dim is None else dim for dim, n in zip(x.shape, sizes)]
        return symbolic(x.dtype, dims)

    trace = Trace(Operations())
    trace.symbolic_dims = True
    with StatelessScope(), SymbolicScope(), trace, naming_unknown_dims():
        args, kwargs = tree.map_structure(to_symbolic, (args, kwargs))
        return tree.map_structure(_to_keras_tensor, fn(*args, **kwargs))


def _same_or_unknown(x1, x2):
    """What two specs that were found for different sizes have in common."""
    if isinstance(x1, KerasTensor):
        dims = zip(x1.shape, x2.shape, strict=True)
        return KerasTensor([a if a == b else None for a, b in dims], x1.dtype)
    if x1.__class__ is int and x1 != x2:
        return KerasTensor((), "int32")  # a dim, as `shape` gives it
    return x1


def _to_keras_tensor(x):
    if isinstance(x, OpenVINOKerasTensor):
        return KerasTensor(x.shape, x.dtype)
    return x


def scatter(indices, values, shape):
    values = convert_to_tensor(values)
    zeros = apply("Broadcast", convert_to_tensor(0, values.dtype), shape)
    return scatter_update(zeros, indices, values, "add")


# OpenVINO's name of each reduction of `scatter_update`.
_REDUCTIONS = {
    None: "none",
    "add": "sum",
    "max": "max",
    "min": "min",
    "mul": "prod",
}


def scatter_update(inputs, indices, updates, reduction=None):
    """`inputs` with `updates`, which broadcast, at `indices`.

    As in JAX, what is to go outside of `inputs` goes nowhere.
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(f"Unsupported reduction: {reduction}")
    inputs = convert_to_tensor(inputs)
    indices = convert_to_tensor(indices)
    if indices.dtype != "int32":
        indices = cast(indices, "int64")
    updates = _filling(indices, cast(updates, inputs.dtype), inputs)
    operands = inputs, indices, updates
    is_inside = _are_inside(*operands[:2])
    return apply(
        "ScatterNDUpdate" if is_inside else "ScatterInside",
        *operands,
        reduction=_REDUCTIONS[reduction],
    )


def _filling(indices, updates, x):
    """`updates` in the shape of what `indices` pick from `x`."""
    depth = known_dim(indices, -1, "scatter_update")
    shape = indices.shape[:-1] + x.shape[depth:]
    if updates.shape == shape and None not in shape:
        return updates
    dims = dims_of(indices)[:-1] + dims_of(x)[depth:]
    return apply("Broadcast", updates, dims)


def _are_inside(x, indices):
    """Whether indices are known, and known to be within the bounds of `x`."""
    dims = x.shape[: indices.shape[-1]]
    if is_symbolic(indices) or None in dims:
        return False
    return not is_outside(value_of(indices), np.array(dims, "int32")).any()


def _scatter_inside_kernel(x, indices, updates, reduction):
    depth = indices.shape[-1]
    outside = is_outside(indices, np.array(x.shape[:depth], "int32"))
    inside = ~outside.any(axis=-1)
    updates = updates[inside]
    return scatter_nd_update(x, indices[inside], updates, reduction)


@composite(
    "ScatterInside",
    _scatter_inside_kernel,
    takes_complex=True,
    halves=ROUNDED,
)
def _scatter_inside(x, indices, updates, reduction):
    # The runtime refuses other indices. One more row, cut off in the end,
    # takes what belongs to none.
    depth = known_dim(indices, -1, "scatter_update")
    indices = cast(indices, "int32")
    dims = apply("ShapeOf", x, output_type="i32")
    dims = apply("Slice", dims, (0,), (depth,), (1,), (0,))
    positive = apply("Select", indices < 0, indices + dims, indices)
    outside = apply("LogicalOr", positive < 0, positive >= dims)
    outside = apply("ReduceLogicalOr", outside, (-1,), keep_dims=True)
    first = np.eye(1, depth, dtype="int32")[0]  # the index of the added row
    rows = apply("Select", outside, dims * first, positive)
    before, after = (0,) * x.ndim, (1, *(0 for _ in range(1, x.ndim)))
    padded = apply("Pad", x, before, after, pad_mode="constant")
    result = apply(
        "ScatterNDUpdate", padded, rows, updates, reduction=reduction
    )
    return apply("Slice", result, (0,), (-1,), (1,), (0,))


def slice(inputs, start_indices, shape):
    x = convert_to_tensor(inputs)
    starts, sizes = _window(x, start_indices, shape)
    window = [builtins.slice(None)] * x.ndim
    for axis, (start, size) in enumerate(zip(starts, sizes)):
        if is_symbolic(start) and not is_symbolic(size):
            # The size of what a `Slice` gives would not be known.
            x = gather(x, _rows(start, size), axis)
        elif is_symbolic(size) or size != x.shape[axis]:
            window[axis] = builtins.slice(start, start + size)
    return x[tuple(window)]


def slice_update(inputs, start_indices, updates):
    x = convert_to_tensor(inputs)
    updates = cast(updates, x.dtype)
    grown = caches.appended(x, start_indices, updates)
    if grown is not None:
        return grown
    starts, sizes = _window(x, start_indices, dims_of(updates))
    axes = [
        axis
        for axis, (size, dim) in enumerate(zip(updates.shape, x.shape))
        if size is None or size != dim
    ]
    # Known dims first: the others, as that of the batch in a cache of keys and
    # values, then cost no more than the rows that are updated.
    axes.sort(key=lambda axis: None in (x.shape[axis], updates.shape[axis]))
    rows = [(axis, _rows(starts[axis], sizes[axis])) for axis in axes]
    return _with_rows(x, updates, rows)


def _with_rows(x, updates, rows):
    """`x` with `updates` in the rows that are given for some of its axes.

    It is a `ScatterUpdate` for each axis, because compiling a `SliceScatter`
    crashes the CPU plugin.
    """
    if not rows:
        return updates
    (axis, indices), *inner = rows
    if inner:
        window = gather(x, indices, axis)
        updates = _with_rows(window, updates, inner)
    return apply("ScatterUpdate", x, indices, updates, axis)


def _window(x, starts, sizes):
    """The starts and sizes of a window, which is moved to where it fits in `x`.

    Returns:
        Two lists with an integer, or a 0-d tensor in a trace, for each axis.
    """
    starts, sizes = _integers(starts, x.ndim), _integers(sizes, x.ndim)
    if not len(starts) == len(sizes) == x.ndim:
        raise ValueError(
            "A window has a start and a size for each axis. Received: "
            f"{len(starts)} start indices and a window of {len(sizes)} dims "
            f"for a tensor of shape {x.shape}"
        )
    dims = dims_of(x)
    starts = [_from_the_front(s, dim) for s, dim in zip(starts, dims)]
    sizes = [
        dim - start if isinstance(size, int) and size == -1 else size
        for dim, start, size in zip(dims, starts, sizes)
    ]
    lasts = [dim - size for dim, size in zip(dims, sizes)]
    if any(isinstance(last, int) and last < 0 for last in lasts):
        raise ValueError(
            f"A window of shape {tuple(sizes)} does not fit into a tensor of "
            f"shape {x.shape}"
        )
    starts = [_clamped(*pair) for pair in zip(starts, lasts)]
    starts = [
        checked(convert_to_tensor(start), last >= 0)
        if is_symbolic(last)
        else start
        for start, size, last in zip(starts, sizes, lasts)
    ]
    return starts, sizes


def _integers(values, rank):
    """The elements of a shape or an index: integers, or tensors in a trace."""
    if not isinstance(values, (list, tuple)):
        values = convert_to_tensor(values)
        length = values.shape[0]
        values = [values[i] for i in range(rank if length is None else length)]
    return [_integer(value) for value in values]


def _integer(x):
    if isinstance(x, int):
        return x
    x = convert_to_tensor(x)
    return cast(x, "int32") if is_symbolic(x) else int(x)


def _from_the_front(start, dim):
    """`start`, counted from the end where it is negative, as JAX does."""
    if isinstance(start, int):
        return start if start >= 0 else start + dim
    negative = apply("Less", start, convert_to_tensor(0, "int32"))
    return apply("Select", negative, cast(start + dim, "int32"), start)


def _clamped(start, last):
    """`start`, moved to where a window that may start at `last` fits."""
    known = [x for x in (start, last) if isinstance(x, int)]
    if 0 in known:
        return 0
    if len(known) == 2:
        return max(0, min(start, last))
    start, last = cast(start, "int32"), cast(last, "int32")
    zero = convert_to_tensor(0, "int32")
    return apply("Maximum", zero, apply("Minimum", start, last))


def _rows(start, size):
    """The indices of `size` rows from `start` on."""
    if is_symbolic(size):
        return apply("Range", start, start + size, 1, output_type="i32")
    rows = np.arange(size, dtype=np.int32)
    if is_symbolic(start):
        return apply("Add", concrete(rows), start)
    return concrete(rows + np.int32(start))


def stop_gradient(variable):
    x = convert_to_tensor(variable)
    return alias(x) if recording.state.recorders else x


def unstack(x, num=None, axis=0):
    x = convert_to_tensor(x)
    axis = canonical_axis(axis, x.ndim)
    if num is not None:
        x = of_size(x, axis, num)
    size = known_dim(x, axis, "unstack")
    if num not in (None, size):
        raise ValueError(
            f"`unstack` with num={num} takes a dim of as many. Received: "
            f"shape={x.shape}, axis={axis}"
        )
    before = (builtins.slice(None),) * axis
    return [x[(*before, i)] for i in range(size)]


class custom_gradient:
    """Calls a function that returns `(result, gradient)`; gives the result.

    `gradient` takes the gradients of the flat results and returns those of the
    arguments, of keyword arguments after the others. Variables are given to
    the function as they are.

    Args:
        fun: the function to decorate.
    """

    def __init__(self, fun):
        self.fun = fun

    def __call__(self, *args, **kwargs):
        with recording.recorders():
            outputs, gradient = self.fun(*args, **kwargs)
        if not recording.state.recorders:
            return outputs
        outputs = tree.map_structure(
            lambda x: alias(convert_to_tensor(x)), outputs
        )
        recording.tell(
            _own_rule(gradient),
            tuple(_differentiable(x) for x in tree.flatten((args, kwargs))),
            {},
            tuple(tree.flatten(outputs)),
        )
        return outputs


def _differentiable(x):
    return convert_to_tensor(x) if isinstance(x, KerasVariable) else x


def _own_rule(gradient):
    """The `registry.Operation.gradient` of a function's own gradient."""

    def rule(inputs, outputs, gradients):
        given = gradient(*gradients)
        given = given if isinstance(given, (list, tuple)) else (given,)
        return [x if x is None else convert_to_tensor(x) for x in given]

    return rule


def remat(f):
    """`f` itself: what its gradient needs is kept, not computed again."""
    return f


def random_seed_dtype():
    # Threefry's key is two 32-bit words.
    return "uint32"
