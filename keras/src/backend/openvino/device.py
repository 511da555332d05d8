"""How models are compiled, and run."""

import threading
import typing

import openvino as ov

from keras.src.backend.openvino import narrowing
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.custom import Operation
from keras.src.backend.openvino.dtypes import for_runtime
from keras.src.backend.openvino.dtypes import own_array
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.dtypes import to_ov_tensor
from keras.src.backend.openvino.dtypes import to_pairs
from keras.src.backend.openvino.errors import reason
from keras.src.backend.openvino.fusions import prevent_fusions
from keras.src.backend.openvino.layout import port_of
from keras.src.backend.openvino.layout import sink_transposes
from keras.src.backend.openvino.settings import check
from keras.src.backend.openvino.settings import core
from keras.src.backend.openvino.settings import current_target
from keras.src.backend.openvino.specialise import UnknownDim


def compile_model(outputs, inputs, target=None, operations=None):
    """Compiles a graph.

    Args:
        outputs: a list of `openvino.Output`; one may stand there twice, or be
            an input.
        inputs: a list of the `openvino.Output` of Parameters.
        target: the `settings.Target`; the current one by default.
        operations: the `custom.Operations` in the graph, if they are to live
            no longer than the result.

    Returns:
        An `Executable`.
    """
    parameters = [x.get_node() for x in inputs]
    model = ov.Model(outputs, parameters)
    sink_transposes(model)
    prevent_fusions(model)
    # Transposes that cancel can make an output an input, or two the same.
    outputs = [result.input_value(0) for result in model.get_results()]
    plan = _OutputPlan(outputs, inputs)
    compiled, wide = None, []
    if plan.computed:
        computed = list(map(narrowing.narrow_output, plan.computed))
        narrow = list(map(narrowing.narrow_parameter, parameters))
        pairs = enumerate(zip(parameters, narrow))
        wide = [i for i, (before, after) in pairs if before is not after]
        model = ov.Model(computed, narrow)
        compiled = _compile(model, target or current_target())
    if operations is not None:
        operations.seal()
    wide_outputs = [
        i for i, y in enumerate(plan.computed) if y.element_type == ov.Type.f64
    ]
    return Executable(
        compiled,
        plan.sources,
        wide,
        wide_outputs,
        _constant_bytes(model),
        operations,
    )


def _nodes(model):
    """The nodes of a model and of the bodies in it."""
    for part in (model, *rewriting.bodies(model)):
        yield from part.get_ops()


def _constant_bytes(model):
    """The bytes of the constants of a model."""
    sizes = {
        rewriting.address(node): node.get_byte_size()
        for node in _nodes(model)
        if node.get_type_name() == "Constant"
    }
    return sum(sizes.values())


def _compile(model, target):
    check(target)
    device, properties = target.device, dict(target.properties)
    if "CACHE_DIR" in properties:
        if any(isinstance(node, Operation) for node in _nodes(model)):
            del properties["CACHE_DIR"]  # no file can hold Python operations
        else:
            _rename(model)
    try:
        return core().compile_model(model, device, properties)
    except RuntimeError as error:
        kind = UnknownDim if model.is_dynamic() else RuntimeError
        raise kind(
            f"OpenVINO cannot compile the model for {device}: {reason(error)}"
        ) from None


def _rename(model):
    """Names everything by its place.

    The runtime finds models in its cache by their names too, and numbers those
    of nodes and ports throughout a process.
    """
    model.set_friendly_name("model")
    for index, node in enumerate(_nodes(model)):
        node.set_friendly_name(f"node{index}")
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        for index, port in enumerate(ports):
            port.tensor.set_names({f"{kind}{index}"})


class _OutputPlan:
    """Where each output of a graph comes from.

    The runtime gives ports of one tensor one memory, so that an output that
    is an input, or stands there twice, must not be an output of the model.

    Attributes:
        computed: the outputs for the model to compute.
        sources: for each output its `_Source`.
    """

    def __init__(self, outputs, inputs):
        self.computed = []
        self.sources = []
        known = {
            port_of(x): _Source(True, i, True) for i, x in enumerate(inputs)
        }
        for output in outputs:
            port = port_of(output)
            if port in known:
                self.sources.append(known[port])
                continue
            source = _Source(False, len(self.computed), False)
            self.computed.append(output)
            self.sources.append(source)
            known[port] = source._replace(is_copied=True)


class _Source(typing.NamedTuple):
    """Where an output comes from.

    Attributes:
        is_input: whether it is an input; otherwise the model computes it.
        index: among the inputs, or what the model computes.
        is_copied: whether somebody else has the memory.
    """

    is_input: bool
    index: int
    is_copied: bool


class Executable:
    """A compiled model as a function of arrays.

    Threads may call it at once: each call uses an infer request of its own,
    taken from those that are idle.

    Attributes:
        nbytes: the bytes of the model's constants.
    """

    # What an idle request may have been given last: it holds the outputs. A new
    # one takes 5 us to make, and what is larger takes 200 us.
    MAX_IDLE_BYTES = 2**20
    # More requests than that are at work at once only now and then.
    MAX_IDLE = 16

    def __init__(
        self,
        compiled,
        sources,
        wide_inputs,
        wide_outputs,
        nbytes,
        operations=None,
        memory=None,
    ):
        self.nbytes = nbytes
        self._compiled = compiled
        self._sources = sources
        self._wide_inputs = wide_inputs
        self._wide_outputs = wide_outputs
        self._busy = 0  # requests at work
        self._is_large = False
        self._idle = []
        self._lock = threading.Lock()
        # The last attributes: operations outlive the model that calls them, and
        # so does the memory that it was read from.
        self._operations = operations
        self._memory = memory

    def export(self):
        """The other arguments of the constructor, and the model as bytes.

        `None` where the runtime cannot write it.
        """
        calls_python = self._operations and not self._operations.is_empty()
        if self._compiled is None or calls_python:
            return None
        try:
            data = self._compiled.export_model().getbuffer()
        except RuntimeError:
            return None
        return {
            "sources": [tuple(source) for source in self._sources],
            "wide_inputs": self._wide_inputs,
            "wide_outputs": self._wide_outputs,
            "nbytes": self.nbytes,
        }, data

    def __call__(self, arrays):
        """Infers once.

        Args:
            arrays: a list of the `numpy.ndarray` of each input, in order.

        Returns:
            A list of the `numpy.ndarray` of each output, with pairs for complex
            numbers, whose memory nobody else has.
        """
        arrays = [to_pairs(x) if x.dtype.kind == "c" else x for x in arrays]
        computed = self._infer(arrays) if self._compiled else ()
        results = []
        for is_input, index, is_copied in self._sources:
            array = (arrays if is_input else computed)[index]
            results.append(own_array(array) if is_copied else array)
        return results

    def _infer(self, arrays):
        if self._wide_inputs:
            arrays = list(arrays)
            for index in self._wide_inputs:
                arrays[index] = narrowing.narrowed(arrays[index])
        request = self._take()
        is_large = True
        try:
            results = request(arrays)
            is_large = request.nbytes > self.MAX_IDLE_BYTES
        except RuntimeError as error:
            shapes = [array.shape for array in arrays]
            raise ValueError(
                f"The compiled model fails for inputs of the shapes {shapes}: "
                f"{reason(error)}"
            ) from None
        finally:
            self._give_back(request, is_large)
        for index in self._wide_outputs:
            results[index] = results[index].astype("float64")
        return results

    def release_memory(self):
        """Frees what large batches left in the model between its nodes.

        The next large batch takes up to half as long again, to get it back.
        """
        with self._lock:  # the runtime refuses while a request is at work
            if self._is_large and not self._busy:
                self._is_large = False
                self._compiled.release_memory()

    def _take(self):
        with self._lock:
            self._busy += 1
            if self._idle:
                return self._idle.pop()
        return _Request(self._compiled)

    def _give_back(self, request, is_large):
        with self._lock:
            self._busy -= 1
            if is_large:
                self._is_large = True
            elif len(self._idle) < self.MAX_IDLE:
                self._idle.append(request)


class _Request:
    """An infer request, and the memory that it has.

    To give it memory takes some 10 us for each input and output, so that small
    arrays are copied into and out of memory that it keeps; it is given that of
    large ones.

    Attributes:
        nbytes: the bytes of inputs and outputs of the last call.
    """

    # Where the one takes as long as the other.
    COPIED_BYTES = 2**16

    def __init__(self, compiled):
        self._request = compiled.create_infer_request()
        self._types = [port.element_type for port in compiled.inputs]
        self._inputs = [None] * len(self._types)  # its own memory, as arrays
        self._specs = [
            (port.element_type, _initial_shape(port.partial_shape))
            for port in compiled.outputs
        ]
        self._outputs = None  # its own, as tensors
        self.nbytes = 0

    def __call__(self, arrays):
        nbytes = sum([array.nbytes for array in arrays])
        if nbytes <= self.COPIED_BYTES:
            self._copy(arrays)
        else:
            # Held until the end: the runtime keeps no more than the address.
            arrays = list(map(for_runtime, arrays))
            self._share(arrays)
        if self._outputs is None:
            outputs = self._new_outputs()
        else:
            outputs = self._outputs
        self._request.infer({}, share_inputs=True, share_outputs=True)
        results = [to_array(tensor) for tensor in outputs]
        written = sum([array.nbytes for array in results])
        self.nbytes = nbytes + written
        if nbytes <= self.COPIED_BYTES >= written:
            self._outputs = outputs
            return [array.copy() for array in results]
        self._outputs = None
        return results

    def _copy(self, arrays):
        own = self._inputs
        for index, array in enumerate(arrays):
            if own[index] is None or own[index].shape != array.shape:
                tensor = ov.Tensor(self._types[index], ov.Shape(array.shape))
                self._request.set_input_tensor(index, tensor)
                own[index] = to_array(tensor)
            own[index][...] = array

    def _share(self, arrays):
        for index, array in enumerate(arrays):
            self._request.set_input_tensor(index, to_ov_tensor(array))
            self._inputs[index] = None

    def _new_outputs(self):
        outputs = [ov.Tensor(*spec) for spec in self._specs]
        for index, tensor in enumerate(outputs):
            self._request.set_output_tensor(index, tensor)
        return outputs


def _initial_shape(shape):
    """A shape to allocate at first; the runtime resizes dynamic outputs."""
    if shape.is_static:
        return list(shape.to_shape())
    return [0] * shape.rank.get_length()
