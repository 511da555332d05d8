"""How models are compiled."""

import typing

import openvino as ov

from keras.src.backend.openvino import narrowing
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.custom import Operation
from keras.src.backend.openvino.errors import reason
from keras.src.backend.openvino.executable import Executable
from keras.src.backend.openvino.fusions import prevent_fusions
from keras.src.backend.openvino.layout import port_of
from keras.src.backend.openvino.layout import sink_transposes
from keras.src.backend.openvino.settings import check
from keras.src.backend.openvino.settings import core
from keras.src.backend.openvino.settings import current_target
from keras.src.backend.openvino.specialise import UnknownDim


def compile_model(outputs, inputs, target=None, operations=None, sinks=()):
    """Compiles a graph.

    Args:
        outputs: a list of `openvino.Output`; one may stand there twice, or be
            an input.
        inputs: a list of the `openvino.Output` of Parameters.
        target: the `settings.Target`; the current one by default.
        operations: the `custom.Operations` in the graph, if they are to live
            no longer than the result.
        sinks: the nodes that assign the states of the model.

    Returns:
        An `Executable`.
    """
    parameters = [x.get_node() for x in inputs]
    sinks = list(sinks)
    model = ov.Model(outputs, sinks, parameters)
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
        model = ov.Model(computed, sinks, narrow)
        keep_floats(model)
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


def keep_floats(model):
    """Says in an `openvino.Model`, and in its IR, that floats are no integers.

    Of those that meet weights of few bits the CPU plugin would otherwise make
    integers of 8 bits, which makes results wrong by a percent.
    """
    path = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]
    model.set_rt_info("0", path)


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
