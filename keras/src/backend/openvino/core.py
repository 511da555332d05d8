"""What Keras asks of a backend beside its ops: variables, tensors, tracing."""

import numpy as np

from keras.src import tree
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.common.symbolic_scope import SymbolicScope
from keras.src.backend.openvino import common
from keras.src.backend.openvino import jit
from keras.src.backend.openvino.control_flow import associative_scan
from keras.src.backend.openvino.control_flow import cond
from keras.src.backend.openvino.control_flow import fori_loop
from keras.src.backend.openvino.control_flow import map
from keras.src.backend.openvino.control_flow import scan
from keras.src.backend.openvino.control_flow import switch
from keras.src.backend.openvino.control_flow import vectorized_map
from keras.src.backend.openvino.control_flow import while_loop
from keras.src.backend.openvino.device import device_scope
from keras.src.backend.openvino.device import get_device
from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.graph import Trace
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.tensor import value_of

SUPPORTS_SPARSE_TENSORS = False
SUPPORTS_RAGGED_TENSORS = False
SUPPORTS_COMPLEX_DTYPES = False
IS_THREAD_SAFE = True


class Variable(KerasVariable):
    """A variable whose value compiled functions may share.

    Assigning binds a new value and never writes into the old one; `version`
    counts the assignments, so that whoever compiled the value in can tell.
    """

    version = 0

    def _initialize(self, value):
        self._direct_assign(convert_to_tensor(value, dtype=self._dtype))

    def _direct_assign(self, value):
        # Computed here: a variable that is assigned in each step of a loop
        # would keep the graph of all steps.
        self._value = concrete(value_of(value))
        jit.note_assignment(self)

    def _convert_to_tensor(self, value, dtype=None):
        return convert_to_tensor(value, dtype=dtype)

    @property
    def value(self):
        jit.note_read(self)
        return super().value

    def __array__(self, dtype=None, copy=None):
        return self.value.__array__(dtype, copy)


def convert_to_numpy(x):
    """A new `numpy.ndarray` with the value of `x`."""
    if isinstance(x, (OpenVINOKerasTensor, KerasVariable)):
        return np.array(value_of(convert_to_tensor(x)))
    return np.array(x)


def is_tensor(x):
    return isinstance(x, OpenVINOKerasTensor)


def get_ov_output(x, ov_type=None):
    """The `openvino.Output` of anything that `convert_to_tensor` takes."""
    dtype = None if ov_type is None else ov_to_keras_type(ov_type)
    return convert_to_tensor(x, dtype).output


def shape(x):
    return common.shape(x)


def compute_output_spec(fn, *args, **kwargs):
    """The `KerasTensor`s that `fn` gives for `KerasTensor`s.

    `fn` is traced on symbolic tensors, unknown dims dynamic; nothing is
    computed.
    """
    with StatelessScope(), SymbolicScope(), Trace():
        args, kwargs = tree.map_structure(_to_symbolic, (args, kwargs))
        return tree.map_structure(_to_keras_tensor, fn(*args, **kwargs))


def _to_symbolic(x):
    return symbolic(x.dtype, x.shape) if isinstance(x, KerasTensor) else x


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
    if reduction not in _REDUCTIONS:
        raise ValueError(f"Unsupported reduction: {reduction}")
    inputs = convert_to_tensor(inputs)
    return apply(
        "ScatterNDUpdate",
        inputs,
        cast(indices, "int32"),
        cast(updates, inputs.dtype),
        reduction=_REDUCTIONS[reduction],
    )


def slice(inputs, start_indices, shape):
    inputs = convert_to_tensor(inputs)
    starts = _start_indices(start_indices)
    sizes = [
        dim - start if size == -1 else size
        for dim, start, size in zip(common.shape(inputs), starts, shape)
    ]
    return apply("Slice", *_window(inputs, starts, sizes))


def slice_update(inputs, start_indices, updates):
    inputs = convert_to_tensor(inputs)
    updates = cast(updates, inputs.dtype)
    starts = _start_indices(start_indices)
    data, *window = _window(inputs, starts, common.shape(updates))
    return apply("SliceScatter", data, updates, *window)


def _start_indices(indices):
    """The start of each axis: integers, and 0-d tensors in a trace."""
    if isinstance(indices, (list, tuple)):
        return [_start_index(index) for index in indices]
    indices = convert_to_tensor(indices)
    return [_start_index(indices[i]) for i in range(indices.shape[0])]


def _start_index(index):
    if is_symbolic(index):
        return cast(index, "int32")
    return int(convert_to_tensor(index))


def _window(x, starts, sizes):
    """The inputs of a `Slice` that is moved to where it fits into `x`."""
    begins = [
        _fitting(start, size, dim)
        for start, size, dim in zip(starts, sizes, common.shape(x))
    ]
    ends = [begin + size for begin, size in zip(begins, sizes)]
    ones = (1,) * x.ndim
    return x, begins, ends, ones, tuple(range(x.ndim))


def _fitting(start, size, dim):
    last = dim - size
    if isinstance(start, int) and isinstance(last, int):
        return max(0, min(start, last))
    start, last = promote(start, last)
    zero = convert_to_tensor(0, start.dtype)
    return apply("Maximum", zero, apply("Minimum", start, last))


def stop_gradient(variable):
    return convert_to_tensor(variable)


def unstack(x, num=None, axis=0):
    x = convert_to_tensor(x)
    size = x.shape[axis] if num is None else num
    if size is None:
        raise ValueError(
            f"`unstack` needs `num`, for dim {axis} of the input is not known: "
            f"shape={x.shape}"
        )
    return [apply("Gather", x, i, axis) for i in range(size)]


class custom_gradient:
    """Calls a function that returns `(result, gradient)`; gives the result.

    Args:
        fun: the function to decorate.
    """

    def __init__(self, fun):
        self.fun = fun

    def __call__(self, *args, **kwargs):
        outputs, _ = self.fun(*args, **kwargs)
        return outputs


def remat(f):
    """`f` itself: without gradients there is nothing to compute again."""
    return f


def random_seed_dtype():
    # Threefry's key is two 32-bit words.
    return "uint32"
