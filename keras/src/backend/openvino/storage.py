"""Compiled models in a folder, which other processes find without a trace.

OpenVINO's own cache of models, in the same folder, needs the graph to look for
one, and for ResNet50 the trace takes as long as compiling. A model that
`fingerprint` knows is found by what its layers are, and else by its graph.
"""

import ast
import os
import tempfile
import warnings
import zlib

import numpy as np
import openvino as ov

from keras.src.backend.openvino.executable import Executable
from keras.src.backend.openvino.fingerprint import Fingerprint
from keras.src.backend.openvino.fingerprint import Unknown
from keras.src.backend.openvino.settings import JOINING_KINDS
from keras.src.backend.openvino.settings import core

# The bytes of each number at the end of a file.
LENGTH = 8


def find_place(function, arguments, target):
    """The `Place` of what is compiled for a function, or `None`.

    Args:
        function: what is traced.
        arguments: a list that says of which arguments.
        target: the `settings.Target`.
    """
    folder = dict(target.properties).get("CACHE_DIR")
    if folder is None or not hasattr(function, "__self__"):
        return None
    target = target.without("CACHE_DIR")
    if not _can_import(target.device):
        return None
    machine = core().get_property(target.device, "FULL_DEVICE_NAME")
    # A value of an enum of OpenVINO has a name, others are their own.
    properties = [(name, str(value)) for name, value in target.properties]
    try:
        found = Fingerprint(
            function, arguments, target.device, machine, properties
        )
    except Unknown:
        return None
    return Place(folder, found, target)


def _can_import(device):
    if device.partition(":")[0] in JOINING_KINDS.values():
        return False
    capabilities = core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    return "EXPORT_IMPORT" in capabilities


class Place:
    """Where a compiled model is kept.

    A file has the runtime's bytes, then a Python literal that says the rest,
    the length of that, and at last a checksum of all before.

    Attributes:
        read: a `fingerprint.Read` for each variable of the model, in an order
            that each process has.
        target: what to compile it for, if it is not there.
    """

    def __init__(self, folder, fingerprint, target):
        self.read = fingerprint.read
        self.target = target
        self._path = os.path.join(folder, f"{fingerprint.digest}.model")

    def load(self):
        """What was stored, and the `Executable`; `None` if nothing was."""
        try:
            data = np.memmap(self._path, np.uint8, "r")
            model, text = _parts(data)
            literal = ast.literal_eval(text)
            compiled = core().import_model(
                ov.Tensor(model, model.shape, ov.Type.u8),
                self.target.device,
                dict(self.target.properties),
            )
        except (OSError, ValueError, SyntaxError, RuntimeError):
            return None  # not there, not whole, or of another machine
        executable = Executable(compiled, **literal["executable"], memory=data)
        return literal["about"], executable

    def store(self, about, executable):
        """Keeps a model, if it can be, with what is to be known of it.

        Args:
            about: what Python writes and reads as a literal.
            executable: the `Executable`.
        """
        exported = executable.export()
        if exported is None:
            return
        literal = {"about": about, "executable": exported[0]}
        text = repr(literal).encode()
        try:
            self._write(exported[1], text, _number(len(text)))
        except OSError as error:
            warnings.warn(f"A compiled model cannot be kept: {error}")

    def _write(self, *parts):
        with tempfile.TemporaryDirectory(
            dir=os.path.dirname(self._path)
        ) as folder:
            path = os.path.join(folder, "model")
            with open(path, "wb") as file:
                file.writelines(parts)
                file.write(_number(_checksum(*parts)))
                file.flush()
                os.fsync(file.fileno())
            # At once: other processes see the whole file, or none.
            os.replace(path, self._path)


def _parts(data):
    """The runtime's bytes and the text of a file, given as an array.

    Raises:
        ValueError: where the file is not as it was written.
    """
    content, length, checksum = np.split(data, [-2 * LENGTH, -LENGTH])
    if checksum.tobytes() != _number(_checksum(content, length)):
        raise ValueError("The checksum is that of something else.")
    end = len(content) - int.from_bytes(length.tobytes(), "little")
    return content[:end], content[end:].tobytes().decode()


def _number(value):
    return value.to_bytes(LENGTH, "little")


def _checksum(*parts):
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value
