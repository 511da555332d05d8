"""Graphs: nodes that are not computed yet, and their OpenVINO counterparts.

Every operation of OpenVINO is built here (`build`), so that there is one place
for what holds for each node type. Only those with bodies, `If` and `Loop`, are
built in `control_flow`.
"""

import contextlib
import re
import threading
import typing
import weakref

import numpy as np
import openvino as ov
from openvino.utils.node_factory import NodeFactory

from keras.src.backend.common import global_state
from keras.src.backend.common.name_scope import current_path
from keras.src.backend.openvino import custom
from keras.src.backend.openvino.dtypes import BIT_CARRIERS
from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.dtypes import for_runtime
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import ov_name
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.dtypes import to_ov_tensor
from keras.src.backend.openvino.dtypes import to_pairs
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.errors import reason
from keras.src.backend.openvino.registry import Spec
from keras.src.backend.openvino.registry import find
from keras.src.backend.openvino.specialise import UnknownDim

_factory = NodeFactory("opset16")

# Node types wanted in their first version: compiling the last AvgPool crashes
# the CPU plugin, and the last MaxPool has a second output.
_first_factory = NodeFactory("opset1")
_FIRST_VERSION = ("AvgPool", "MaxPool")


class Source(typing.NamedTuple):
    """An output of a pending `Node`, as an input of another."""

    node: "Node"
    index: int


class Known(typing.NamedTuple):
    """An input that shape inference needs: an integer, or a tuple of them."""

    value: int | tuple


# Held by whoever removes users that are gone from a list of them.
_removing = threading.Lock()


class Node:
    """One operation of a pending graph: what to compute, then its values.

    Attributes:
        type: the OpenVINO operation, such as `"Add"`.
        attributes: a tuple of `(name, value)`, hashable.
        inputs: for each input a `numpy.ndarray`, or the `Source` that was
            pending when this node was made. Empty once the values are known.
        specs: the `Spec` of each input, or what is `Known` of it.
        outputs: the `Spec` of each output; the shape is `None` where it
            depends on values.
        values: the `numpy.ndarray` of each output, or `None` until computed.
        users: weak references to the tensors and nodes that need the values,
            and to some that are gone.
        crowd: how many of these there are before the latter are removed.
        depth: the longest path down to known values.
        held: the bytes of the arrays that it keeps alive, at most.
    """

    __slots__ = (
        "type",
        "attributes",
        "inputs",
        "specs",
        "outputs",
        "values",
        "users",
        "crowd",
        "depth",
        "held",
        "__weakref__",
    )

    def __init__(self, type, attributes, inputs, specs, outputs):
        self.type = type
        self.attributes = attributes
        self.inputs = inputs
        self.specs = specs
        self.outputs = outputs
        self.values = None
        self.users = []
        self.crowd = 64
        self.depth = 1
        held = 0
        for operand in inputs:
            if operand.__class__ is Source:
                source = operand.node
                source.add_user(self)
                held += source.held
                if source.depth >= self.depth:
                    self.depth = source.depth + 1
            else:
                held += operand.nbytes
        self.held = held

    def add_user(self, user):
        """Adds a tensor or node that needs the values."""
        users = self.users
        users.append(weakref.ref(user))
        if len(users) > self.crowd:
            self._remove_gone(users)

    def _remove_gone(self, users):
        # Whoever finds it taken leaves it to the next, and so does a
        # finalizer that runs, on this thread, while users are looked at.
        if not _removing.acquire(blocking=False):
            return
        try:
            # Others only add behind `count` meanwhile, and a list changes a
            # slice in one step.
            count = len(users)
            alive = [u for u in users[:count] if u() is not None]
            users[:count] = alive
            # Not of those that came meanwhile, which may be gone too.
            self.crowd = max(64, 2 * len(alive))
        finally:
            _removing.release()

    def settle(self, values):
        """Takes the computed values and forgets how they came about."""
        # In this order: another thread that still sees the inputs is right
        # to use them, one that sees none finds the values.
        self.values = values
        self.inputs = ()
        self.users = []


def has_complex(specs):
    """Whether an input is an array of complex numbers."""
    return any(
        spec.__class__ is Spec and is_complex(spec.dtype) for spec in specs
    )


def topological_order(nodes):
    """The pending nodes that `nodes` depend on and themselves, inputs first."""
    order = []
    done = {}  # whether a node that was met has its place in the order
    stack = [node for node in nodes if node.values is None]
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            if not done[node]:
                done[node] = True
                order.append(node)
            continue
        done[node] = False
        for operand in node.inputs:
            if operand.__class__ is Source:
                source = operand.node
                if source.values is None and source not in done:
                    stack.append(source)
    return order


def infer(type, attributes, specs):
    """The `Spec` of each output of an operation, from those of its inputs."""
    # In a trace of its own: a loop that is being traced would take the nodes
    # for its own.
    with Trace(custom.Operations()):
        inputs = [
            constant(np.array(spec.value, dtype=np.int64))
            if spec.__class__ is Known
            else parameter(spec.dtype, spec.shape)
            for spec in specs
        ]
        create = build if find(type).formula else node
        return tuple(
            Spec(ov_to_keras_type(output.element_type), static_shape(output))
            for output in create(type, inputs, dict(attributes)).outputs()
        )


def build(type, inputs, attributes):
    """The OpenVINO node of an operation, or those that stand for it.

    Args:
        type: a node type, in OpenVINO's opset or registered.
        inputs: a list of `openvino.Output`.
        attributes: a dict of the operation's attributes.

    Returns:
        An `openvino.Node` with the operation's outputs.

    Raises:
        ValueError: where the operation does not take these inputs.
    """
    operation = find(type)
    half = next((x.element_type for x in inputs if is_half(x)), None)
    if half is not None and operation.halves is None:
        return built_in_float32(type, inputs, attributes, half)
    if operation.formula:
        built = operation.formula(inputs, attributes)
    else:
        built = operation.mend and operation.mend(inputs, attributes)
        if built is None:
            built = node(type, inputs, attributes)
    return _folded(operation, inputs, attributes, built)


def _is_empty(output):
    shape = static_shape(output)
    return shape is not None and 0 in shape


def _folded(operation, inputs, attributes, built):
    """The Constant that an operation on Constants gives, or the node `built`.

    OpenVINO folds some operations only. The CPU plugin computes the others
    once, and a node behind them that works in place may overwrite that value:
    the second call then goes on from a wrong one. Nor can the plugin compile
    some operations on arrays of no elements, and it divides by their number.

    Nodes of several outputs stay as they are, and integers beyond 32 bits.
    """
    if len(built.outputs()) > 1:
        return built
    dtype = ov_to_keras_type(built.get_output_element_type(0))
    shape = static_shape(built.output(0))
    if shape is not None and 0 in shape:
        return constant(np.empty(shape, numpy_dtype(dtype))).get_node()
    arrays = _known_arrays(inputs)
    if operation.kernel is None or arrays is None:
        return built
    with np.errstate(all="ignore"):
        result = operation.kernel(*arrays, **attributes)
    result = np.array(result, numpy_dtype(dtype))
    if _beyond_32_bits(result) is not None:
        return built
    return constant(result).get_node()


def _known_arrays(outputs):
    """The values of `openvino.Output`s, or `None` if one is not known."""
    arrays = []
    for output in outputs:
        array = _known_array(output)
        if array is None:
            return None
        arrays.append(array)
    return arrays


def _known_array(output):
    """The value of an `openvino.Output` that depends on no input."""
    # Of halves kernels compute in float32.
    wide = ov.Type.f32 if is_half(output) else output.element_type
    dtype = numpy_dtype(ov_to_keras_type(wide))
    if _is_empty(output):
        return np.empty(static_shape(output), dtype)
    node = output.get_node()
    type = node.get_type_name()
    if is_half(output) or type not in ("Constant", "Convert"):
        return None
    if type == "Constant":
        return to_array(node.get_tensor_view())
    source = _known_array(node.input_value(0))
    return (
        None if source is None else find(type).kernel(source, wide.to_string())
    )


def is_half(output):
    return output.element_type in (ov.Type.f16, ov.Type.bf16)


def built_in_float32(type, inputs, attributes, half):
    """An operation that devices do not compute right on halves."""
    inputs = [_rounded(x, ov.Type.f32) if is_half(x) else x for x in inputs]
    result = build(type, inputs, attributes)
    if result.get_output_element_type(0) != ov.Type.f32:
        return result
    return _rounded(result.output(0), half).get_node()


def _rounded(output, dtype):
    """A conversion between floats, as NumPy rounds."""
    destination = {"destination_type": dtype.to_string()}
    return build("Convert", [output], destination).output(0)


def plain_cast(output, dtype):
    """The `openvino.Output` of OpenVINO's own Convert to a Keras dtype."""
    destination = {"destination_type": ov_name(dtype)}
    return node("Convert", [output], destination).output(0)


def node(type, inputs, attributes, complex_inputs=()):
    """A single OpenVINO node, as `build`, whatever a device makes of it."""
    try:
        if find(type).rule:
            trace = current_trace()
            keeper = trace.operations if trace is not None else None
            node = custom.Operation(
                inputs, type, attributes, complex_inputs, keeper
            )
        else:
            first = type in _FIRST_VERSION
            factory = _first_factory if first else _factory
            node = factory.create(type, inputs, attributes)
    except RuntimeError as error:
        got = ", ".join(describe(output) for output in inputs)
        said = reason(error)
        kind = UnknownDim if _NEEDS_DIM.search(said) else ValueError
        message = blaming(f"{type} cannot take ({got}): {said}")
        raise kind(message) from None
    trace = current_trace()
    if trace is not None:
        trace.innermost.add(node)
        if trace.narrows:
            # What errors of the runtime say.
            name = node.get_name().replace("Operation", type)
            node.set_friendly_name(f"{current_path()}/{name}".lstrip("/"))
    return node


# What OpenVINO says of a dim that an operation has to know.
_NEEDS_DIM = re.compile("static|dynamic|unknown", re.IGNORECASE)


def describe(output):
    shape = output.partial_shape.to_string()
    return f"{ov_to_keras_type(output.element_type)}{shape}"


def parameter(dtype, shape):
    """The `openvino.Output` of a new Parameter; `None` dims are dynamic."""
    shape = ov.PartialShape([-1 if dim is None else dim for dim in shape])
    node = ov.op.Parameter(OPENVINO_DTYPES[dtype], shape)
    return node.output(0)


def constant(array):
    """The `openvino.Output` of a new Constant that shares `array`'s memory.

    Complex numbers become pairs.
    """
    if array.dtype.kind == "c":
        array = to_pairs(array)
    if array.dtype.name in BIT_CARRIERS:
        # OpenVINO's bindings do not know them from NumPy.
        array = for_runtime(array)
        return constant_of_tensor(to_ov_tensor(array), array)
    if array.dtype == np.float64 and np.isinf(array).any():
        return _infinite_constant(array)
    return ov.op.Constant(for_runtime(array), shared_memory=True).output(0)


def constant_of_tensor(tensor, array):
    """The `openvino.Output` of a new Constant of an `openvino.Tensor`.

    It does not keep the memory alive: that is shared where the trace keeps the
    array, and copied elsewhere.

    Args:
        tensor: an `openvino.Tensor` on the memory of `array`.
        array: a `numpy.ndarray`.
    """
    trace = current_trace()
    is_shared = trace is not None and trace.keeps_arrays
    if is_shared:
        trace.operations.add_array(array)
    return ov.op.Constant(tensor, shared_memory=is_shared).output(0)


def _infinite_constant(array):
    """A quotient of Constants, for an array of float64 with infinities.

    The CPU plugin, which narrows them, makes the largest float32 of those.
    """
    is_infinite = np.isinf(array)
    above = np.where(is_infinite, np.sign(array), array)
    below = np.where(is_infinite, 0.0, 1.0)
    return node("Divide", [constant(above), constant(below)], {}).output(0)


def static_shape(output):
    """The shape of an `openvino.Output` if it is static, else `None`."""
    shape = output.partial_shape
    return tuple(shape.to_shape()) if shape.is_static else None


class Trace:
    """What is traced on this thread: shared constants and new nodes.

    A body of a loop or a branch is a scope of its own, with its own constants
    and nodes.

    Args:
        operations: the `custom.Operations` that keep what is built, or `None`
            where whoever takes the graph may keep it: operations in Python
            are never freed then.
    """

    # Whether the graph is that of a model: it is to run where integers have 32
    # bits, and its nodes are called by their layers.
    narrows = False
    # Whether dims that are not known are symbolic tensors to what is traced.
    symbolic_dims = False
    # Whether `operations` live as long as the graph, and so what they keep.
    keeps_arrays = False
    # Whether the first loop is one of a decoder, and to be kept out of the
    # graph; and that loop, a `stages.Loop`.
    is_causal = False
    loop = None
    # What a step of that loop may add to, a `caches.Growing`.
    growing = None

    def __init__(self, operations):
        self.operations = operations
        self._scopes = [Scope()]
        # The body of a loop enters its trace again.
        self._outer = []

    @property
    def innermost(self):
        return self._scopes[-1]

    def takes_loop(self):
        """Whether a loop that is met now is to be kept out of the graph."""
        is_inside = len(self._scopes) > 1
        return self.is_causal and self.loop is None and not is_inside

    def split(self, loop):
        """Ends what is before a loop; a new scope is for what follows."""
        self.loop = loop
        self.forget()

    def forget(self):
        """Lets go of the nodes: those that nothing needs count as users."""
        self._scopes = [Scope()]

    @contextlib.contextmanager
    def growth(self, growing):
        """Lets what is traced inside make caches longer."""
        self.growing = growing
        try:
            yield
        finally:
            self.growing = None

    @contextlib.contextmanager
    def scope(self):
        """Collects what is built inside, and keeps it from the outer scope."""
        scope = Scope()
        self._scopes.append(scope)
        try:
            yield scope
        finally:
            self._scopes.pop()

    def __enter__(self):
        self._outer.append(current_trace())
        global_state.set_global_attribute("openvino_trace", self)
        return self

    def __exit__(self, *args):
        outer = self._outer.pop()
        global_state.set_global_attribute("openvino_trace", outer)


class Scope:
    """The nodes and constants of one graph while it is traced.

    Attributes:
        nodes: a dict of the nodes that were built, by name.
        dims: a dict of the dims of tensors that were asked for.
    """

    def __init__(self):
        self.nodes = {}
        self.dims = {}
        self._constants = {}

    def add(self, node):
        self.nodes[node.get_name()] = node

    def constant(self, array):
        """The Constant of `array`, one for each array."""
        key = id(array)
        if key not in self._constants:
            # The array is kept, so that its id stays its own.
            self._constants[key] = (array, constant(array))
        return self._constants[key][1]


def current_trace():
    return global_state.get_global_attribute("openvino_trace")


def shared_constant(array):
    """The Constant of `array` in the current trace, or a new one."""
    trace = current_trace()
    if trace is None:
        return constant(array)
    if trace.narrows:
        refuse_to_narrow(array, "constant")
    return trace.innermost.constant(array)


class TooLarge(ValueError):
    """An integer does not fit the 32 bits that a compiled model has for it."""


def refuse_to_narrow(array, what):
    """Raises `TooLarge` for an integer that 32 bits do not hold.

    Args:
        array: a `numpy.ndarray`.
        what: what it is of a compiled model.
    """
    value = _beyond_32_bits(array)
    if value is not None:
        raise TooLarge(
            f"Compiled models compute {array.dtype.name} in 32 bits, which "
            f"the {what} {value} does not fit; compute with it outside "
            "of the model, or set `run_eagerly=True`."
        )


def _beyond_32_bits(array):
    """An integer of a `numpy.ndarray` that 32 bits do not hold, or `None`."""
    if array.dtype.name not in ("int64", "uint32", "uint64") or not array.size:
        return None
    bounds = np.iinfo(np.int32)
    extremes = array.min(), array.max()
    beyond = (x for x in extremes if not bounds.min <= x <= bounds.max)
    return next(beyond, None)
