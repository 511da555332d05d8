"""`OpenVINOKerasTensor`: a value, or a node whose value is not known yet."""

import functools
import sys
import weakref

import numpy as np
import openvino as ov

from keras.src import tree
from keras.src.backend.common import KerasVariable
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import interpret
from keras.src.backend.openvino import recording
from keras.src.backend.openvino import registry
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.dtypes import PART_DTYPES
from keras.src.backend.openvino.dtypes import complex_of
from keras.src.backend.openvino.dtypes import dtype_name
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.dtypes import is_inexact
from keras.src.backend.openvino.dtypes import is_integer
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import ov_name
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.dtypes import own_array
from keras.src.backend.openvino.dtypes import result_type
from keras.src.backend.openvino.dtypes import standardize
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.errors import asker
from keras.src.backend.openvino.registry import Spec
from keras.src.backend.openvino.specialise import UnknownDim


class OpenVINOKerasTensor:
    """A tensor of the OpenVINO backend.

    It is concrete (its value is known), pending (everything it depends on is
    concrete, and it is computed when somebody looks) or symbolic (it depends
    on an input of a trace). `OpenVINOKerasTensor(output)` is the symbolic
    tensor of an `openvino.Output`; the others come from `convert_to_tensor`
    and from ops.

    Attributes:
        dtype: Keras's name of the dtype.
        shape: a tuple of integers. Of a symbolic tensor, a dim that is not
            known is `None` to the backend, and to the code that is traced a
            0-d symbolic tensor, as `keras.ops.shape` gives. Where the shape
            of a pending tensor depends on values, asking for it computes
            them.
        ndim: the number of dims.
        output: the `openvino.Output` of a symbolic tensor; of the others a
            Constant with the value, for which asking computes it. That of a
            complex tensor has pairs of floats in a last dim of two.
    """

    # NumPy leaves `array + tensor` to the tensor.
    __array_priority__ = 100

    # What a tensor lacks stays `None`; creating one sets the rest.
    _value = None
    _node = None
    _index = 0
    _output = None
    _shape = None
    _parts = None
    _digest = None  # of the value, for `fingerprint`

    def __init__(self, output):
        self._output = output
        self.dtype = ov_to_keras_type(output.element_type)

    @property
    def shape(self):
        static = self._shape
        if static is None:
            static = self._shape = self._find_shape()
        if self._output is not None and None in static:
            caller = traced_caller()
            if caller is not None and not caller.startswith(_KNOWS_NONE):
                return dims_of(self)
        return static

    def _find_shape(self):
        if self._output is not None:
            return _partial_shape(self._output, "shape")
        node = self._node  # another thread may take it away
        shape = None if node is None else node.outputs[self._index].shape
        if shape is not None:
            return shape
        return value_of(self).shape

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def size(self):
        """The number of elements; `None` where a dim is not known."""
        if None in self.shape:
            return None
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def output(self):
        if self._output is not None:
            return self._output
        # Computed now, in full precision, rather than by the compiled model.
        return graph.shared_constant(value_of(self))

    def _pending(self):
        """Whether the value is not known; takes it if the node has it."""
        node = self._node
        if node is None:
            return False
        if node.values is None:
            return True
        self._value = node.values[self._index]
        self._node = None
        return False

    def numpy(self):
        return own_array(value_of(self))

    def __array__(self, dtype=None, copy=None):
        value = value_of(self)
        if dtype is not None and value.dtype != dtype:
            if copy is False:
                raise ValueError(
                    f"A tensor of {self.dtype} cannot be an array of {dtype} "
                    "without a copy. Received: copy=False"
                )
            return value.astype(dtype)
        if copy:
            return own_array(value)
        view = value.view()
        view.flags.writeable = False  # compiled models may share the memory
        return view

    def item(self):
        return value_of(self).item()

    def tolist(self):
        return value_of(self).tolist()

    def __bool__(self):
        return bool(value_of(self))

    def __int__(self):
        return int(self._real_scalar("int"))

    def __float__(self):
        return float(self._real_scalar("float"))

    def __complex__(self):
        return complex(self._scalar())

    def __index__(self):
        value = self._scalar()
        if value.dtype.kind not in "iu":
            raise TypeError(
                "Only integer tensors can be used as an index. "
                f"Received a tensor of dtype {self.dtype}."
            )
        return int(value)

    def _scalar(self):
        if self.ndim > 0:
            raise TypeError(
                "Only scalar tensors can be converted to Python scalars. "
                f"Received a tensor of shape {self.shape}."
            )
        return value_of(self)

    def _real_scalar(self, kind):
        if is_complex(self.dtype):
            raise TypeError(
                f"A complex tensor cannot be converted to a Python {kind}; "
                "`keras.ops.real` gives its real part."
            )
        return self._scalar()

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor.")
        length = self.shape[0]
        if length is None:
            raise UnknownDim(
                "len() of a symbolic tensor whose first dim is not known: "
                f"shape={self.shape}. Use `keras.ops.shape(x)[0]`."
            )
        return length

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("Iteration over a 0-d tensor.")
        return (self[i] for i in range(len(self)))

    def __hash__(self):
        if self._is_unknown_dim():
            raise UnknownDim(
                "A dim that is not known has no hash, so that it is no key of "
                "a dictionary. Use `keras.ops` on it instead."
            )
        return id(self)

    def _is_unknown_dim(self):
        return (
            self._output is not None
            and self.ndim == 0
            and is_integer(self.dtype)
            and _depends_on_shapes(self._output)
        )

    def __format__(self, spec):
        if self._output is None and self.ndim == 0:
            return format(value_of(self).item(), spec)
        return format(str(self), spec)

    def __repr__(self):
        text = f"<OpenVINOKerasTensor shape={self.shape}, dtype={self.dtype}"
        if self._output is not None:
            return f"{text}, symbolic>"
        return f"{text}, value={value_of(self)!r}>"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        if self._output is not None:
            return self
        return concrete(own_array(value_of(self)))

    def __reduce__(self):
        return concrete, (own_array(value_of(self)),)


def _partial_shape(output, what):
    shape = output.partial_shape
    if shape.rank.is_dynamic:
        raise ValueError(
            f"The {what} of the result of {output.get_node().get_type_name()} "
            "is not known, not even its rank, which every Keras op needs."
        )
    return tuple(
        None if dim.is_dynamic else dim.get_length()
        for dim in (shape[i] for i in range(shape.rank.get_length()))
    )


def concrete(value):
    """The tensor of a `numpy.ndarray` that nobody writes to any more."""
    tensor = _new(OpenVINOKerasTensor)
    tensor._value = value
    tensor._shape = value.shape
    tensor.dtype = dtype_name(value.dtype)
    return tensor


_new = OpenVINOKerasTensor.__new__


def pending(node, index):
    """The tensor of an output of a pending `graph.Node`."""
    tensor = _new(OpenVINOKerasTensor)
    tensor._node = node
    tensor._index = index
    tensor.dtype, tensor._shape = node.outputs[index]
    node.users.append(weakref.ref(tensor))
    return tensor


def alias(x):
    """Another tensor of the value of `x`."""
    tensor = _new(OpenVINOKerasTensor)
    tensor.__dict__.update(x.__dict__)
    node = tensor._node  # that of `x` may be gone by now
    if node is not None:
        node.add_user(tensor)
    return tensor


def symbolic(dtype, shape):
    """The tensor of a new Parameter; `None` for a dim that is dynamic."""
    if is_complex(dtype):
        return paired(graph.parameter(PART_DTYPES[dtype], (*shape, 2)))
    tensor = OpenVINOKerasTensor(graph.parameter(dtype, shape))
    tensor._shape = tuple(shape)
    return tensor


def paired(output, parts=None):
    """The symbolic complex tensor of an `openvino.Output` of pairs.

    Args:
        output: its last dim holds the real and the imaginary part.
        parts: these as tensors, where they are known.
    """
    tensor = OpenVINOKerasTensor(output)
    tensor.dtype = complex_of(tensor.dtype)
    tensor._shape = _partial_shape(output, "shape")[:-1]
    tensor._parts = parts
    return tensor


def symbolic_of(dtype, output):
    """The symbolic tensor of an `openvino.Output` that stands for a dtype."""
    return (paired if is_complex(dtype) else OpenVINOKerasTensor)(output)


def is_complex_tensor(x):
    return isinstance(x, OpenVINOKerasTensor) and is_complex(x.dtype)


def is_symbolic(x):
    """Whether `x` is a tensor that depends on an input of a trace."""
    return isinstance(x, OpenVINOKerasTensor) and x._output is not None


def value_of(tensor):
    """The `numpy.ndarray` of a tensor, computed if it is pending."""
    if tensor._value is None:
        if tensor._output is not None:
            depends = _depends_on_shapes(tensor._output)
            error = UnknownDim if depends else ValueError
            raise error(_symbolic_message(tensor))
        node = tensor._node  # another thread may take it away
        if node is not None and node.values is None:
            interpret.evaluate([node])
        tensor._pending()
    return tensor._value


def dims_of(x):
    """The dims of `x`: integers, and 0-d int32 tensors for unknown ones."""
    static = tuple(x.shape)
    if None not in static or not is_symbolic(x):
        return static  # of another framework too: layers run in `tf.data`
    trace = graph.current_trace()
    if trace is None:
        return _found_dims(x, static)
    # Layers ask often. What is built in the body of a loop is of use there.
    known = trace.innermost.dims
    key = x.output.get_node().get_name(), x.output.get_index()
    if key not in known:
        known[key] = _found_dims(x, static)
    return known[key]


def _found_dims(x, static):
    dims = apply("ShapeOf", x, output_type="i32")
    return tuple(
        apply("Gather", dims, i, 0) if dim is None else dim
        for i, dim in enumerate(static)
    )


def traced_caller():
    """What called the caller of this, as `"module.function"`.

    `None` where nothing is traced, or where dims that are not known are no
    symbolic tensors.
    """
    trace = graph.current_trace()
    if trace is None or not trace.symbolic_dims:
        return None
    frame = sys._getframe(2)
    return f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_name}"


# To these modules and functions a dim that is not known is `None`: the backend,
# what prints shapes, and what compares known dims only to refuse arguments. All
# other code gets a 0-d symbolic tensor, so that `if x.shape[1] is None` takes
# the branch that it takes with arrays; where it needs the number, that is an
# error, and it is traced again with the size known.
_KNOWS_NONE = (
    "keras.src.backend.",
    "keras.src.layers.activations.softmax",
    "keras.src.layers.input_spec",
    "keras.src.layers.merging.dot",
    "keras.src.layers.reshaping.",
    "keras.src.losses.",
    "keras.src.ops.math._segment_reduce_validation",
    "keras.src.ops.nn",
    "keras.src.utils.traceback_utils",
)


def _depends_on_shapes(output):
    """Whether a value would be known if the shapes of all inputs were."""
    stack, seen = [output.get_node()], set()
    while stack:
        node = stack.pop()
        if node.get_name() in seen or node.get_type_name() == "ShapeOf":
            continue
        if node.get_type_name() == "Parameter":
            return False
        seen.add(node.get_name())
        stack += [value.get_node() for value in node.input_values()]
    return True


def _symbolic_message(tensor):
    return (
        f"{asker() or 'The code'} needs the value of a symbolic tensor "
        f"(shape={tensor.shape}, dtype={tensor.dtype}), which has none until "
        "the compiled model runs; compute with `keras.ops` (`ops.cond`, "
        "`ops.while_loop`, `ops.where`, `ops.shape`) instead of Python or "
        "NumPy."
    )


# ------------------------------------------------------------ making graphs


def apply(type, *inputs, **attributes):
    """Adds an operation to the graph.

    Args:
        type: the operation's name in OpenVINO's opset, or in `custom`.
        *inputs: its inputs in order. A tensor is data. An integer, or a list
            or tuple of integers, is a constant that shape inference needs
            (axes, a target shape); a list with 0-d integer tensors in it
            becomes a 1-d tensor of them.
        **attributes: the operation's attributes; hashable.

    Returns:
        A tensor, or a tuple of tensors for more than one output. It is
        symbolic if an input is, and pending otherwise.
    """
    if recording.state.recorders:
        return _apply_recorded(type, inputs, attributes)
    operands, specs = [], []
    size = len(inputs)
    for x in inputs:
        if x.__class__ is not OpenVINOKerasTensor:
            x = _constant_input(x)
            if x.__class__ is not OpenVINOKerasTensor:
                if x.__class__ is tuple:
                    size += len(x)
                operands.append(_integers(x))
                specs.append(graph.Known(x))
                continue
        if x._output is not None:
            return _trace(type, inputs, attributes)
        operand, spec = _operand(x)
        operands.append(operand)
        specs.append(spec)
    attributes = tuple(attributes.items())
    find = infer if size <= MAX_REMEMBERED else infer.__wrapped__
    outputs = find(type, attributes, tuple(specs))
    node = graph.Node(type, attributes, tuple(operands), tuple(specs), outputs)
    if node.held > interpret.MAX_HELD and interpret.is_due(node):
        interpret.evaluate([node])
    if len(outputs) == 1:
        return pending(node, 0)
    return tuple(pending(node, index) for index in range(len(outputs)))


def _apply_recorded(type, inputs, attributes):
    """As `apply`, where somebody is told of it."""
    operation = registry.find(type)
    if type == _MAKES_COMPLEX or any(map(is_complex_tensor, inputs)):
        # What becomes of the parts is told.
        if not operation.rule and operation.complex:
            return operation.complex(*inputs, **attributes)
    with recording.recorders():
        inputs = tuple(map(_constant_input, inputs))
        result = apply(type, *inputs, **attributes)
    outputs = result if isinstance(result, tuple) else (result,)
    recording.tell(type, inputs, attributes, outputs)
    return result


def _constant_input(x):
    if x.__class__ in (OpenVINOKerasTensor, int):
        return x
    if isinstance(x, (list, tuple)):
        if any(isinstance(item, OpenVINOKerasTensor) for item in x):
            return stack_integers(x)
        return tuple(map(int, x))
    if isinstance(x, np.ndarray):
        return tuple(x.tolist()) if x.ndim else x.item()
    return int(x)


def stack_integers(items):
    """The 1-d int64 tensor of integers and 0-d integer tensors."""
    parts = [
        apply("Unsqueeze", convert_to_tensor(item, "int64"), (0,))
        for item in items
    ]
    return apply("Concat", *parts, axis=0)


# Of operations of more inputs and integers than this nothing is remembered:
# 4,096 splits at 50,000 places would hold 30 GB.
MAX_REMEMBERED = 128


def _integers(value):
    is_long = value.__class__ is tuple and len(value) > MAX_REMEMBERED
    make = _remembered_integers.__wrapped__ if is_long else _remembered_integers
    return make(value)


@functools.lru_cache(maxsize=4096)
def _remembered_integers(value):
    return np.array(value, dtype=np.int64)


def _operand(x):
    """What a new `graph.Node` keeps of a tensor, and its spec."""
    node = x._node
    if node is not None and node.values is None:
        spec = node.outputs[x._index]
        if spec.shape is not None and node.depth < interpret.MAX_DEPTH:
            return graph.Source(node, x._index), spec
    value = value_of(x)
    return value, Spec(x.dtype, value.shape)


@functools.lru_cache(maxsize=16384)
def infer(type, attributes, specs):
    """The `Spec` of each output, from those of the inputs."""
    if not (
        type == _MAKES_COMPLEX
        or registry.find(type).rule
        or graph.has_complex(specs)
    ):
        return graph.infer(type, attributes, specs)
    with graph.Trace(Operations()):
        inputs = [
            spec.value if spec.__class__ is graph.Known else symbolic(*spec)
            for spec in specs
        ]
        outputs = _trace(type, inputs, dict(attributes))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return tuple(
        Spec(x.dtype, None if None in x.shape else x.shape) for x in outputs
    )


# The operation that makes complex numbers of others.
_MAKES_COMPLEX = "Complex"


def _trace(type, inputs, attributes):
    inputs = [_constant_input(x) for x in inputs]
    operation = registry.find(type)
    complex_inputs = tuple(
        i for i, x in enumerate(inputs) if is_complex_tensor(x)
    )
    if operation.rule:
        outputs = [_traced_input(x) for x in inputs]
        node = graph.node(type, outputs, attributes, complex_inputs)
        results = tuple(map(symbolic_of, node.dtypes, node.outputs()))
    elif complex_inputs or type == _MAKES_COMPLEX:
        if operation.complex is None:
            raise TypeError(
                f"{asker() or 'This'} does not take complex numbers ({type})."
            )
        return operation.complex(*inputs, **attributes)
    else:
        outputs = [_traced_input(x) for x in inputs]
        node = graph.build(type, outputs, attributes)
        results = tuple(map(OpenVINOKerasTensor, node.outputs()))
    return results[0] if len(results) == 1 else results


def _traced_input(x):
    if x.__class__ is not OpenVINOKerasTensor:
        return graph.constant(_integers(x))
    return x.output


# ----------------------------------------------------------------- converting


def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """The tensor of `x`.

    Args:
        x: a tensor, a variable, an array, a Python scalar, nested lists of
            these, an `openvino.Output` or `openvino.Tensor`, or anything that
            NumPy can make an array of. Arrays are copied.
        dtype: a Keras dtype; by default that of `x`. Python integers are
            int32 (int64 or uint64 where they do not fit), Python floats
            `floatx`.
        sparse, ragged: must not be true; OpenVINO has no such tensors.

    Returns:
        An `OpenVINOKerasTensor`.
    """
    if sparse or ragged:
        kind = "sparse" if sparse else "ragged"
        raise ValueError(
            f"OpenVINO has no {kind} tensors. Received: {kind}=True"
        )
    if x.__class__ is OpenVINOKerasTensor:
        return x if dtype is None else cast(x, dtype)
    if isinstance(x, KerasVariable):
        return convert_to_tensor(x.value, dtype)
    if isinstance(x, ov.Output):
        return convert_to_tensor(OpenVINOKerasTensor(x), dtype)
    if isinstance(x, ov.Tensor):
        x = to_array(x)
    leaves = [x]
    if isinstance(x, (list, tuple)):
        leaves = tree.flatten(x)
        if any(
            issubclass(kind, (OpenVINOKerasTensor, KerasVariable))
            for kind in set(map(type, leaves))
        ):
            return _stack(x, dtype)
    dtype = None if dtype is None else standardize(dtype)
    return concrete(_new_array(x, leaves, dtype))


def _new_array(x, leaves, dtype):
    """A new `numpy.ndarray` of a Keras dtype with the values of `x`."""
    if dtype is not None and x.__class__ in (int, float, bool, complex):
        return _scalar(x, dtype)
    array = _as_array(x, dtype)
    kinds = _kinds(leaves)
    if dtype is None and kinds <= _NUMBERS:
        return own_array(array, _python_dtype(array))
    dtype = dtype or _promoted(kinds)
    holds_integers = int in kinds and array.dtype.kind in "iu" and array.size
    if holds_integers and is_integer(dtype):
        extremes = int(array.min()), int(array.max())
        info = np.iinfo(dtype)
        if not info.min <= extremes[0] <= extremes[1] <= info.max:
            _refuse_beyond(dtype, *extremes)
    return own_array(array, dtype)


def _refuse_beyond(dtype, *numbers):
    """Raises an `OverflowError` for Python integers that are far too large.

    As on JAX, those that int32 holds wrap around in a smaller dtype.
    """
    end = 2**32 if dtype == "uint32" else 2**31
    for x in numbers:
        if x.__class__ is int and not -(2**31) <= x < end:
            raise OverflowError(
                f"The Python integer {x} does not fit the dtype {dtype}."
            )


def _as_array(x, dtype):
    if str(getattr(x, "dtype", "")) == "torch.bfloat16":
        # NumPy has no bfloat16 of its own, and torch gives it none.
        return np.asarray(x.detach().float()).astype(numpy_dtype("bfloat16"))
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise type(error)(
            f"Cannot convert a {x.__class__.__name__} to a tensor: {error}"
        ) from error
    if isinstance(x, (list, tuple)):
        array = _with_large_integers(x, array, dtype)
    if np.ma.is_masked(x):
        raise ValueError(
            "Cannot convert an array with masked elements to a tensor, which "
            "has no mask; fill them first, as in `x.filled(0)`."
        )
    if array.dtype.kind not in "biufc" and array.dtype.name not in _ML_DTYPES:
        raise TypeError(
            f"Cannot convert a {x.__class__.__name__} of NumPy dtype "
            f"{array.dtype} to a tensor; OpenVINO tensors hold numbers and "
            "booleans."
        )
    return array


def _with_large_integers(x, array, dtype):
    """`array`, made of the nested lists `x`, with integers that int64 lacks.

    NumPy makes floats or objects of them. They are uint64 where that holds
    all, and floats where floats are wanted.
    """
    kind = array.dtype.kind
    if kind != "O" and not (kind == "f" and (np.abs(array) >= 2**63).any()):
        return array
    leaves = np.array(x, dtype=object)
    classes = {leaf.__class__ for leaf in leaves.flat}
    if not classes <= {int, float}:
        return array
    if classes == {int} and (dtype is None or is_integer(dtype)):
        extremes = min(leaves.flat), max(leaves.flat)
        if extremes[0] < 0 or extremes[1] >= 2**64:
            _refuse_beyond(dtype or "uint64", *extremes)
        return leaves.astype("uint64")
    return leaves.astype("float64")


_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


_NUMBERS = frozenset((int, float, bool, complex))


def _kinds(leaves):
    """The dtypes among `leaves`, and the types of numbers without one."""
    kinds = set(map(type, leaves))
    if kinds <= _NUMBERS:
        return kinds
    kinds = set(map(_kind, leaves))
    if len(kinds) == 1:
        return kinds
    # Beside others NumPy's scalars of 64 bits are numbers, as in `promote`.
    return set(map(_kind, map(_number_or_leaf, leaves)))


def _kind(x):
    if x.__class__ in _NUMBERS:
        return x.__class__
    if hasattr(x, "dtype"):
        return standardize(x.dtype)
    return _python_dtype(np.asarray(x))


def _promoted(kinds):
    """The dtype of what `_kinds` tells of."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return result_type(*["bool" if kind is bool else kind for kind in kinds])


def _python_dtype(array):
    """The dtype of a tensor of Python numbers."""
    if array.dtype.kind == "c":
        return result_type(complex)
    if array.dtype.kind == "f":
        return result_type(float)
    if array.dtype.kind != "i":
        return array.dtype.name
    bounds = np.iinfo(np.int32)
    if (
        array.size
        and not bounds.min <= array.min() <= array.max() <= bounds.max
    ):
        return array.dtype.name
    return "int32"


def _stack(items, dtype):
    """The tensor of nested lists with tensors in them."""
    parts = [
        _stack(item, None)
        if isinstance(item, (list, tuple))
        else convert_to_tensor(item)
        for item in items
    ]
    if dtype is None:
        dtype = result_type(*[part.dtype for part in parts])
    parts = [apply("Unsqueeze", cast(part, dtype), (0,)) for part in parts]
    return apply("Concat", *parts, axis=0)


def cast(x, dtype):
    """`x` as a tensor of the Keras dtype `dtype`."""
    dtype = standardize(dtype)
    if x.__class__ is not OpenVINOKerasTensor:
        return convert_to_tensor(x, dtype)
    return _cast_tensor(x, dtype)


def _cast_tensor(x, dtype):
    if x.dtype == dtype:
        return x
    if is_complex(dtype) and not is_complex(x.dtype):
        return complex_tensor(cast(x, PART_DTYPES[dtype]))
    if dtype == "bool" and is_inexact(x.dtype):
        # The CPU plugin converts NaN to False.
        return apply("NotEqual", x, convert_to_tensor(0, x.dtype))
    return apply("Convert", x, destination_type=ov_name(dtype))


def complex_tensor(real, imaginary=None):
    """The complex tensor of its parts, floats of one dtype and shape."""
    if imaginary is None:
        zero = convert_to_tensor(0, real.dtype)
        dims = real.shape
        if None in dims:
            dims = apply("ShapeOf", real, output_type="i32")
        imaginary = apply("Broadcast", zero, dims, mode="numpy")
    return apply("Complex", real, imaginary)


def promote(*operands):
    """The operands as tensors of one dtype, by Keras's promotion rules.

    Args:
        *operands: tensors, or what `convert_to_tensor` takes. A Python scalar
            takes the dtype of the tensors, as do NumPy's 64-bit scalars,
            which are what NumPy's functions make of Python scalars. The types
            `int` and `float` take part in the promotion only.

    Returns:
        A tuple of tensors, one for each operand that is not a type.
    """
    if _are_alike(operands):
        return operands
    operands = [x if x.__class__ in _READY else _ready(x) for x in operands]
    dtype = result_type(
        *[
            x.dtype
            if x.__class__ is OpenVINOKerasTensor
            else x
            if x.__class__ is type
            else x.__class__
            for x in operands
        ]
    )
    return tuple(
        [
            _cast_tensor(x, dtype)
            if x.__class__ is OpenVINOKerasTensor
            else concrete(_scalar(x, dtype))
            for x in operands
            if x.__class__ is not type
        ]
    )


def _are_alike(operands):
    """Whether all are tensors of one dtype that has promotions."""
    first = operands[0]
    if first.__class__ is not OpenVINOKerasTensor or "8_" in first.dtype:
        return False
    dtype = first.dtype
    for x in operands:
        if x.__class__ is not OpenVINOKerasTensor or x.dtype != dtype:
            return False
    return True


_READY = frozenset((OpenVINOKerasTensor, int, float, complex, type))


def _ready(x):
    """`x` as something of `_READY`."""
    x = _number_or_leaf(x)
    return x if x.__class__ in _READY else convert_to_tensor(x)


def _number_or_leaf(x):
    """`x`, or the Python number that is one of NumPy's scalars of 64 bits."""
    if isinstance(x, np.float64):
        return float(x)
    if isinstance(x, np.int64):
        return int(x)
    if isinstance(x, np.complex128):
        return complex(x)
    return x


def _scalar(x, dtype):
    """The 0-d `numpy.ndarray` of a Python number."""
    if abs(x) < 2**15:
        return _wrapped(x, dtype)
    with np.errstate(all="ignore"):  # takes 1 us: infinite in a narrow dtype
        return _wrapped(x, dtype)


def _wrapped(x, dtype):
    try:
        return np.array(x, dtype=numpy_dtype(dtype))
    except (OverflowError, ValueError):  # wraps, as NumPy's casts do
        _refuse_beyond(dtype, x)
        with np.errstate(all="ignore"):
            return np.array(x).astype(numpy_dtype(dtype))
