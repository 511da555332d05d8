"""What models are compiled for: devices, and properties of the runtime.

Both have a default from the environment, are checked against what is on this
machine, and can be set for a while. Nothing that was compiled for one `Target`
is used for another.
"""

import collections.abc
import contextlib
import functools
import json
import math
import numbers
import os
import threading
import typing

import openvino as ov

from keras.src.backend.openvino.errors import reason

# OpenVINO's name of each kind of device that `keras.device` can ask for, and of
# those that choose or join others.
DEVICE_KINDS = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
JOINING_KINDS = {"auto": "AUTO", "hetero": "HETERO", "multi": "MULTI"}
DEFAULT_DEVICE = "CPU"

PROPERTIES = {
    # Floats are computed as the types in the graph say. The runtime's own
    # default is bfloat16 for all of them, on CPUs that have it.
    "INFERENCE_PRECISION_HINT": "f32",
}

# What a model is compiled for: one call that is to end soon, or many that are
# at work at once.
LATENCY = "LATENCY"
THROUGHPUT = "THROUGHPUT"

# The CPU plugin compiles kernels for each shape that it meets, some 0.1 MB
# each, and keeps 5,000 in each model, and oneDNN within it 1,024 in a process.
# A transformer's block that saw 200 lengths held 118 MB, with these 47 MB.
# A model that goes through more shapes in turns compiles its kernels again.
KERNELS_OF_MODEL = 64
KERNELS_OF_PROCESS = 100


_making_core = threading.Lock()


def core():
    """The one `openvino.Core` of this process."""
    with _making_core:
        return _made_core()


@functools.cache
def _made_core():
    # oneDNN reads it from the environment, and once.
    os.environ.setdefault(
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_OF_PROCESS)
    )
    core = ov.Core()
    core.set_property("CPU", {"CPU_RUNTIME_CACHE_CAPACITY": KERNELS_OF_MODEL})
    return core


class Target(typing.NamedTuple):
    """What a model is compiled for.

    Attributes:
        device: OpenVINO's name of a device.
        properties: pairs of the names and values of OpenVINO's properties, in
            the order of the names.
    """

    device: str
    properties: tuple

    def with_default(self, name, value):
        """The same, with a property unless it has another value for it."""
        if name in dict(self.properties):
            return self
        properties = sorted([*self.properties, (name, value)])
        return self._replace(properties=tuple(properties))

    def without(self, name):
        """The same, but for one property."""
        properties = tuple(p for p in self.properties if p[0] != name)
        return self._replace(properties=properties)


def current_target(hint=LATENCY):
    """The `Target` of what is compiled now.

    Args:
        hint: its `PERFORMANCE_HINT`, unless one is set.
    """
    return _target(get_device(), get_properties(), hint)


@functools.lru_cache(256)
def _target(device, properties, hint):
    hinted = {"PERFORMANCE_HINT": hint, **dict(properties)}
    return Target(device, tuple(sorted(hinted.items())))


# -------------------------------------------------------------------- devices


def get_device():
    """OpenVINO's name of the current device.

    It is that of the innermost `keras.device` of this thread, or else of
    `KERAS_OPENVINO_DEVICE` in the environment, or `"CPU"`.
    """
    return _scoped("device") or _device_of_environment()


class device_scope:
    """Runs the models that are compiled inside on the named device.

    These are those of `predict` and its like, and large eager work. Small eager
    work is computed by NumPy, whatever the device. It holds for this thread.

    Args:
        device_name: `"cpu"`, `"gpu"` or `"npu"`, optionally with an index, as
            in `"gpu:1"`, or OpenVINO's own name, as in `"GPU.1"`; or, of
            several of these, `"auto:gpu,cpu"` (OpenVINO chooses one for a
            model; `"auto"` among all), `"hetero:gpu,cpu"` (each operation runs
            on the first that has it) or `"multi:gpu,cpu"` (requests go to those
            that are idle).

    Raises:
        ValueError: where the name is not one of these, or this machine has no
            such device.
    """

    def __init__(self, device_name):
        self.device = find_device(device_name)

    def __enter__(self):
        _enter("device", self.device)
        return self

    def __exit__(self, *args):
        _leave("device")


def find_device(name):
    """OpenVINO's name of the device that Keras calls `name`."""
    if not isinstance(name, str):
        raise ValueError(
            "`device_name` must be a string such as 'cpu:0', 'gpu:1', 'npu' or "
            f"'auto'. Received: device_name={name!r}"
        )
    kind, colon, members = name.lower().partition(":")
    if kind not in JOINING_KINDS:
        return _find_single(name)
    if kind == "auto" and not colon:
        return JOINING_KINDS[kind]
    if not members:
        raise ValueError(
            f"`device_name` must say which devices, as in '{kind}:gpu,cpu'. "
            f"Received: device_name={name!r}"
        )
    found = [_find_single(member.strip()) for member in members.split(",")]
    return f"{JOINING_KINDS[kind]}:{','.join(found)}"


def _find_single(name):
    kind, _, index = name.lower().replace(".", ":").partition(":")
    available = core().available_devices
    if kind not in DEVICE_KINDS or not (index.isdigit() or index == ""):
        raise ValueError(
            "`device_name` must be 'cpu', 'gpu' or 'npu', optionally with an "
            "index, as in 'gpu:1', or 'auto', 'hetero' or 'multi' with a list "
            f"of them, as in 'auto:gpu,cpu'. Received: device_name={name!r}; "
            f"OpenVINO finds {available} on this machine."
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


@functools.cache
def _device_of_environment():
    name = os.environ.get("KERAS_OPENVINO_DEVICE")
    if not name:
        return DEFAULT_DEVICE
    try:
        return find_device(name)
    except ValueError as error:
        raise ValueError(
            f"KERAS_OPENVINO_DEVICE={name} in the environment: {error}"
        ) from None


# ----------------------------------------------------------------- properties

# Those of the whole process once they are known; `None` before.
_of_process = None
_configuring = threading.RLock()


def get_properties():
    """The current properties, as `Target` has them."""
    return _scoped("properties") or _of_process or _start()


def configure(properties=None, /, **named):
    """Sets properties of the runtime, for all threads.

    They hold for what is called from now on: models that were compiled with
    others are compiled anew. Precision is each layer's own unless
    `inference_precision_hint` is set here.

    Args:
        properties: a dict of the names of OpenVINO's properties, and values.
        **named: the same, as in `performance_hint="throughput"`,
            `num_streams=2`, `inference_num_threads=1` or
            `cache_dir="~/.cache/models"`. `None` stands for the default.

    Raises:
        ValueError: where the current device has no such property, or does not
            take the value. Then nothing is set.
    """
    global _of_process
    with _configuring:
        _of_process = _changed(_of_process or _start(), properties, named)


class configured:
    """Sets properties of the runtime in a `with` statement, for this thread.

    What `configure` sets in the meantime does not count inside.

    Args:
        properties, **named: as those of `configure`.

    Raises:
        ValueError: on entering, as `configure` does.
    """

    def __init__(self, properties=None, /, **named):
        self._changes = properties, named

    def __enter__(self):
        _enter("properties", _changed(get_properties(), *self._changes))
        return self

    def __exit__(self, *args):
        _leave("properties")


def _start():
    """The properties of the process, with those of the environment."""
    global _of_process
    with _configuring:
        if _of_process is None:
            defaults = PROPERTIES.items()
            try:
                _of_process = _changed(defaults, _properties_of_environment())
            except ValueError as error:
                raise ValueError(f"In the environment: {error}") from None
        return _of_process


def _properties_of_environment():
    properties = {}
    text = os.environ.get("KERAS_OPENVINO_CONFIG", "").strip()
    if text:
        properties.update(_parsed(text))
    folder = os.environ.get("KERAS_OPENVINO_CACHE_DIR")
    if folder:
        properties["CACHE_DIR"] = folder
    return properties


def _parsed(text):
    try:
        if text.startswith("{"):
            return json.loads(text)
        pairs = [pair.split("=", 1) for pair in text.split(",")]
        return {name.strip(): value.strip() for name, value in pairs}
    except ValueError:
        raise ValueError(
            "KERAS_OPENVINO_CONFIG in the environment must be a JSON object of "
            "OpenVINO's properties, or KEY=VALUE,KEY=VALUE. Received: "
            f"{text!r}"
        ) from None


def _changed(properties, changes=None, named=()):
    """`properties` with other values, which the current device takes."""
    properties = dict(properties)
    for name, value in {**(changes or {}), **dict(named)}.items():
        # OpenVINO's own are strings, or objects that give one.
        name = (name if isinstance(name, str) else name()).upper()
        if value is None:
            value = PROPERTIES.get(name)
        if value is None or (name == "CACHE_DIR" and not str(value)):
            properties.pop(name, None)
        else:
            if name == "CACHE_DIR":
                value = _folder(value)
            if not isinstance(value, collections.abc.Hashable):
                raise ValueError(
                    f"{name} must be a number, a string or a value of an enum "
                    f"of OpenVINO. Received: {value!r}"
                )
            properties[name] = taken_by(get_device(), name, value)
    return tuple(sorted(properties.items()))


def _folder(path):
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"CACHE_DIR must be a path. Received: {path!r}")
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"CACHE_DIR={path} cannot be a folder: {error.strerror}."
        ) from None
    return path


@functools.lru_cache(1024)
def check(target):
    """Raises a ValueError where the device does not take the properties."""
    for name, value in target.properties:
        if PROPERTIES.get(name) != value and value not in (LATENCY, THROUGHPUT):
            taken_by(target.device, name, value)


def taken_by(device, name, value):
    """The value of a property, as a device takes it.

    Several devices that are joined ask each for what it knows.

    Raises:
        ValueError: where a device refuses the value, or none has the property.
    """
    kind, _, members = device.partition(":")
    if kind in JOINING_KINDS.values():
        members = members.split(",") if members else core().available_devices
        parts = [*members, kind]
    else:
        parts = [device]
    refusals, taken = [], None
    for part in parts:
        try:
            accepted = _accepted(part, name, value)
        except RuntimeError as error:
            known = _settable(part)
            why = reason(error)
            if name in known:
                raise ValueError(
                    f"{part} does not take {name}={value}: {why}"
                ) from None
            refusals.append(f"{why} What {part} takes is {', '.join(known)}.")
        else:
            taken = accepted if taken is None else taken
    if taken is None:
        raise ValueError(
            f"{device} does not take {name}={value}: {' '.join(refusals)}"
        )
    return taken


def _accepted(device, name, value):
    """The value as the runtime spells it; a RuntimeError if it refuses."""
    spellings = [value]
    if isinstance(value, str):
        spellings += [value.upper(), value.lower()]
    failure = None
    for spelling in spellings:
        trial = ov.Core()  # another one: it keeps what it is given
        # Before a device is asked something, a Core takes anything for it.
        trial.get_property(device, "SUPPORTED_PROPERTIES")
        try:
            trial.set_property(device, {name: spelling})
        except (RuntimeError, TypeError) as error:
            failure = failure or RuntimeError(str(error))
            continue
        _check_kept(trial, device, name, spelling)
        return spelling
    raise failure


def _check_kept(trial, device, name, value):
    """Raises a RuntimeError where a number became another one."""
    if name not in _settable(device):
        return
    try:
        number = float(value)  # from the environment, numbers are text
    except (TypeError, ValueError):
        return
    kept = trial.get_property(device, name)
    # Fractions are kept as float32.
    if isinstance(kept, numbers.Real) and not math.isclose(
        kept, number, rel_tol=1e-6
    ):
        raise RuntimeError(f"it would be {kept}.")


@functools.cache
def _settable(device):
    """The names of the properties that a device says it takes."""
    properties = core().get_property(device, "SUPPORTED_PROPERTIES")
    writeable = [name for name, mode in properties.items() if mode != "RO"]
    return sorted({"CACHE_DIR", *writeable})


# What scopes set for their thread: of each kind a list, the innermost last.
# `clear_session` ends none of them, as it would if this was Keras's global
# state.
_scopes = threading.local()


@contextlib.contextmanager
def scope_of(device, properties):
    """What scopes set in another thread: see `get_device`, `get_properties`."""
    _enter("device", device)
    _enter("properties", properties)
    try:
        yield
    finally:
        _leave("properties")
        _leave("device")


def _scoped(kind):
    values = getattr(_scopes, kind, None)
    return values[-1] if values else None


def _enter(kind, value):
    _scopes.__dict__.setdefault(kind, []).append(value)


def _leave(kind):
    getattr(_scopes, kind).pop()
