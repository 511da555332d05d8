"""The OpenVINO runtime: its core, its devices and how models are compiled."""

import functools
import os
import typing

import openvino as ov

from keras.src.backend.common import global_state
from keras.src.backend.openvino import narrowing
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.errors import reason
from keras.src.backend.openvino.executable import Executable
from keras.src.backend.openvino.fusions import prevent_fusions
from keras.src.backend.openvino.layout import port_of
from keras.src.backend.openvino.layout import sink_transposes
from keras.src.backend.openvino.specialise import UnknownDim

# OpenVINO's name of each kind of device that `keras.device` can ask for.
DEVICE_KINDS = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
DEFAULT_DEVICE = "CPU"

PROPERTIES = {
    # Floats are computed as the types in the graph say. The runtime's own
    # default is bfloat16 for all of them, on CPUs that have it.
    "INFERENCE_PRECISION_HINT": "f32",
}

# What a compiled model is made for: one call that is to end soon, or many that
# are at work at once.
LATENCY = "LATENCY"
THROUGHPUT = "THROUGHPUT"


# The CPU plugin compiles kernels for each shape that it meets, some 0.1 MB
# each, and keeps 5,000 in each model, and oneDNN within it 1,024 in a process.
# A transformer's block that saw 200 lengths held 118 MB, with these 47 MB.
# A model that goes through more shapes in turns compiles its kernels again.
KERNELS_OF_MODEL = 64
KERNELS_OF_PROCESS = 100


@functools.cache
def core():
    """The one `openvino.Core` of this process."""
    # oneDNN reads it from the environment, and once.
    os.environ.setdefault(
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_OF_PROCESS)
    )
    core = ov.Core()
    core.set_property("CPU", {"CPU_RUNTIME_CACHE_CAPACITY": KERNELS_OF_MODEL})
    return core


def get_device():
    """OpenVINO's name of the current device, `"CPU"` unless set."""
    return global_state.get_global_attribute("openvino_device", DEFAULT_DEVICE)


class device_scope:
    """Runs what is evaluated inside on the named device.

    Args:
        device_name: `"cpu"`, `"gpu"` or `"npu"`, optionally with an index, as
            in `"gpu:1"`, or OpenVINO's own name, as in `"GPU.1"`.

    Raises:
        ValueError: where the name is not one of these, or this machine has no
            such device.
    """

    def __init__(self, device_name):
        self.device = find_device(device_name)

    def __enter__(self):
        self._outer = get_device()
        global_state.set_global_attribute("openvino_device", self.device)
        return self

    def __exit__(self, *args):
        global_state.set_global_attribute("openvino_device", self._outer)


def find_device(name):
    """OpenVINO's name of the device that Keras calls `name`."""
    if not isinstance(name, str):
        raise ValueError(
            "`device_name` must be a string such as 'cpu:0', 'gpu:1' or 'npu'. "
            f"Received: device_name={name!r}"
        )
    kind, _, index = name.lower().replace(".", ":").partition(":")
    available = core().available_devices
    if kind not in DEVICE_KINDS or not (index.isdigit() or index == ""):
        raise ValueError(
            "`device_name` must be 'cpu', 'gpu' or 'npu', optionally with an "
            f"index, as in 'gpu:1'. Received: device_name={name!r}"
        )
    device = DEVICE_KINDS[kind]
    indexed = f"{device}.{index or 0}"
    if indexed in available:
        return indexed
    if device in available and int(index or 0) == 0:
        return device
    raise ValueError(
        f"OpenVINO finds no device {name!r} on this machine; it finds "
        f"{available}."
    )


def compile_model(outputs, inputs, device=None, operations=None, hint=LATENCY):
    """Compiles a graph.

    Args:
        outputs: a list of `openvino.Output`; one may stand there twice, or be
            an input.
        inputs: a list of the `openvino.Output` of Parameters.
        device: OpenVINO's name of a device; the current one by default.
        operations: the `custom.Operations` in the graph, if they are to live
            no longer than the result.
        hint: `LATENCY` or `THROUGHPUT`.

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
        properties = PROPERTIES | {"PERFORMANCE_HINT": hint}
        compiled = _compile(model, device or get_device(), properties)
    if operations is not None:
        operations.seal()
    return Executable(compiled, plan, wide, _constant_bytes(model), operations)


def _constant_bytes(model):
    """The bytes of the constants of a model and of the bodies in it."""
    sizes = {
        rewriting.address(node): node.get_byte_size()
        for part in (model, *rewriting.bodies(model))
        for node in part.get_ops()
        if node.get_type_name() == "Constant"
    }
    return sum(sizes.values())


def _compile(model, device, properties):
    try:
        return core().compile_model(model, device, properties)
    except RuntimeError as error:
        kind = UnknownDim if model.is_dynamic() else RuntimeError
        raise kind(
            f"OpenVINO cannot compile the model for {device}: {reason(error)}"
        ) from None


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
