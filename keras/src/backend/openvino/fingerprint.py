"""Digests of what a model computes, which are the same in other processes.

A digest is of everything that a model's methods can read when they are traced:
the Python state of its layers, the values of its variables, and the code. It is
known for models that are wholly made of classes and functions of Keras and
KerasHub, as those are; what others do may depend on anything.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import pathlib
import sys
import sysconfig
import types
import typing

import numpy as np
import openvino as ov

from keras.src.backend import config
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.openvino.dtypes import for_runtime
from keras.src.backend.openvino.layer import OpenvinoLayer
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import value_of
from keras.src.version import __version__

_PACKAGES = ("keras", "keras_hub", "numpy", "openvino", "optree")


class Unknown(Exception):
    """Something of which another process cannot be told what it does."""


class Read(typing.NamedTuple):
    """A variable, as a fingerprint has it.

    Attributes:
        variable: the `Variable`.
        version: that of the value, or of one before.
        value: the tensor. Assigning binds another one.
    """

    variable: KerasVariable
    version: int
    value: OpenVINOKerasTensor


class Fingerprint:
    """What a method of a layer computes.

    Attributes:
        digest: a hexadecimal string.
        read: a `Read` for each variable whose value it stands for, in an order
            that is the same in each process.

    Args:
        method: a bound method.
        *others: what it depends on besides: plain values, and lists of them.

    Raises:
        Unknown: where it may depend on what cannot be told.
    """

    def __init__(self, method, *others):
        self.read = []
        self._hash = hashlib.sha256()
        self._places = {}  # of objects by their ids
        self._kept = []  # the objects, so that ids stay their own
        self._known = set()  # classes that were added
        for part in (_installed(), _settings(), *others, method):
            self._add(part)
        self.digest = self._hash.hexdigest()

    def _add(self, x):
        kind = x.__class__
        if kind in _PLAIN:
            self._add_plain(x)
            return
        place = self._places.setdefault(id(x), len(self._places))
        if place < len(self._kept):
            self._add_plain(("again", place))
            return
        self._kept.append(x)
        if isinstance(x, KerasVariable):
            self._add_variable(x)
        elif isinstance(x, (np.ndarray, np.generic)):
            self._add_array(np.asarray(x))
        elif isinstance(x, OpenVINOKerasTensor):
            self._hash.update(_digest_of(x))
        elif kind in (list, tuple):
            self._add_plain((kind.__name__, len(x)))
            for item in x:
                self._add(item)
        elif isinstance(x, (set, frozenset)):
            self._add_plain((_name(kind), sorted(map(_plain, x))))
        elif isinstance(x, dict):
            self._add_items(kind, x)
        elif isinstance(x, (type, types.FunctionType, types.BuiltinMethodType)):
            self._add_plain((_name(x), *_codes_of(x)))
        elif isinstance(x, types.ModuleType):
            self._add_plain(_module_name(x))
        elif isinstance(x, types.MethodType):
            self._add_plain(_name(x.__func__))
            self._add(x.__self__)
        else:
            self._add_object(x)

    def _add_plain(self, x):
        self._hash.update(f"{x.__class__.__name__} {x!r};".encode())

    def _add_array(self, array):
        if array.dtype.hasobject:
            raise Unknown(array.dtype)
        self._add_plain((array.dtype.name, array.shape))
        self._hash.update(for_runtime(array).reshape(-1).view(np.uint8))

    def _add_variable(self, variable):
        # In this order: where it is assigned in between, the version is out of
        # date, and never the value.
        version = variable.version
        value = variable._value
        if value is None:
            raise Unknown(variable)
        self.read.append(Read(variable, version, value))
        self._add_class(variable.__class__)
        self._add_plain(variable._autocast)
        self._hash.update(_digest_of(value))

    def _add_class(self, kind):
        if kind not in self._known:
            self._known.add(kind)
            for base in kind.__mro__[:-1]:
                self._add_plain((_name(base), *_attributes(base)))

    def _add_items(self, kind, items):
        # Most are plain, and added at once.
        plain, others = [_name(kind)], []
        for key, value in items.copy().items():  # threads may add to it
            if key.__class__ in _PLAIN and value.__class__ in _PLAIN:
                plain += key, value
            else:
                plain += "another", len(others)
                others += key, value
        self._add_plain((plain, len(others)))
        for item in others:
            self._add(item)

    def _add_object(self, x):
        kind = x.__class__
        self._add_class(kind)
        items = list(x) if isinstance(x, (list, tuple)) else None
        state = getattr(x, "__dict__", None if items is None else {})
        if state is None:
            raise Unknown(kind)
        state = state.copy()
        accounts = _accounts_of(x)
        state = {k: v for k, v in state.items() if k not in accounts}
        state["items of it"] = items
        self._add_items(kind, state)


_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None)))
_PLAIN |= {type(Ellipsis), slice}


def _digest_of(tensor):
    """The digest of a tensor's value, which never changes: it is kept."""
    if tensor._digest is None:
        array = value_of(tensor)
        digest = hashlib.sha256(f"{array.dtype.name} {array.shape};".encode())
        digest.update(for_runtime(array).reshape(-1).view(np.uint8))
        tensor._digest = digest.digest()
    return tensor._digest


def _plain(x):
    if x.__class__ not in _PLAIN:
        raise Unknown(x)
    return repr(x)


def _name(x):
    """Where a class or function stands, if it is what stands there."""
    module = getattr(x, "__module__", None) or ""
    name = f"{module}:{x.__qualname__}"
    if module.partition(".")[0] not in (*_PACKAGES, "builtins", "collections"):
        raise Unknown(name)
    found = sys.modules.get(module)
    for part in x.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not x:
        raise Unknown(name)
    return name


def _module_name(module):
    if sys.modules.get(module.__name__) is not module:
        raise Unknown(module)
    if module.__name__.partition(".")[0] not in _PACKAGES:
        raise Unknown(module)
    return module.__name__


def _accounts_of(x):
    """The attributes of an object that no forward pass reads."""
    # Both are built on the backend.
    from keras.src.ops.operation import Operation
    from keras.src.utils.tracking import TrackedList

    if isinstance(x, Operation):
        return getattr(x, "_accounts", OpenvinoLayer._accounts)
    if isinstance(x, KerasTensor):
        return ("_keras_history",)
    return ("tracker",) if isinstance(x, TrackedList) else ()


def _attributes(kind):
    """The attributes of a class, by their code and values.

    Raises:
        Unknown: where a function, or one that it refers to, is of no package,
            and for values of other classes.
    """
    for name, value in vars(kind).items():
        if name in _OF_CLASSES:
            continue
        for part in _parts_of(value):
            if isinstance(part, types.FunctionType):
                yield from ((name, *code) for code in _codes_of(part))
            elif not isinstance(part, _BUILT_IN):
                yield name, _told(part)


# Attributes of classes that no forward pass reads.
_OF_CLASSES = frozenset(
    ("__doc__", "__annotations__", "__orig_bases__", "__parameters__")
    + ("_abc_impl", "_api_export_path", "_api_export_symbol_id")
)


def _parts_of(value):
    """The functions that an attribute of a class calls, or its value."""
    if isinstance(value, property):
        return value.fget, value.fset
    if isinstance(value, (classmethod, staticmethod)):
        return (value.__func__,)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    return (value,)


# Descriptors and functions that have no code in Python.
_BUILT_IN = (
    types.BuiltinFunctionType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


def _told(x):
    """A value of a class or a function, as what each process writes alike.

    Raises:
        Unknown: for what is neither plain nor made of plain values.
    """
    kind = x.__class__
    if kind in _PLAIN:
        return repr(x)
    if kind is object:
        return "an object"  # it is asked which one it is, and has no state
    if kind in (tuple, list):
        return kind.__name__, [*map(_told, x)]
    if kind in (set, frozenset):
        return kind.__name__, sorted(map(repr, map(_told, x)))
    if kind is dict:
        return "dict", [(_told(k), _told(v)) for k, v in x.items()]
    if kind is types.CodeType:
        return _instructions(x)
    if isinstance(x, type):
        return _name(x)
    raise Unknown(x)


def _codes_of(function):
    """What a function does, and what the functions do that it refers to.

    Those that it finds by their names in its module are not among them.
    """
    waiting, seen = [function], set()
    while waiting:
        function = waiting.pop()
        code = getattr(function, "__code__", None)
        if code is None or id(function) in seen:
            continue
        seen.add(id(function))
        file = code.co_filename
        root = next(filter(file.startswith, _roots()), None)
        # Tests stand beside what they test.
        if root is None or file.endswith("_test.py"):
            raise Unknown(function)
        named = function.__kwdefaults__ or {}
        defaults = [*(function.__defaults__ or ()), *named.values()]
        functions = [x for x in defaults if isinstance(x, types.FunctionType)]
        values = [
            "a function" if isinstance(x, types.FunctionType) else _told(x)
            for x in defaults
        ]
        place = file.removeprefix(root), code.co_qualname
        yield *place, _instructions(code), [*named], values
        waiting += functions
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty yet
                waiting.append(cell.cell_contents)


def is_as_released(x):
    """Whether all methods of an object are those of Keras and KerasHub.

    Neither its classes nor itself have any that others wrote.
    """
    parts = [
        part
        for kind in type(x).__mro__
        for value in vars(kind).values()
        for part in _parts_of(value)
    ]
    functions = [x for x in parts if isinstance(x, types.FunctionType)]
    functions += [
        value
        for name, value in vars(x).items()
        if callable(value) and hasattr(type(x), name)
    ]
    return all(map(_is_released, functions))


def _is_released(function):
    code = getattr(function, "__code__", None)
    if code is None:
        return type(function).__module__.partition(".")[0] in _PACKAGES
    return any(map(code.co_filename.startswith, _roots()))


@functools.lru_cache(2**14)
def _instructions(code):
    """A digest of what a code object does, wherever it stands."""
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    constants = [*map(_told, code.co_consts)]
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    steps = code.co_flags, code.co_code, code.co_exceptiontable
    told = counts, steps, names, constants
    return hashlib.sha256(repr(told).encode()).hexdigest()


@functools.cache
def _roots():
    """The folders of the packages, of this one, and of Python's own modules."""
    folders = [folder for name in _PACKAGES for folder in _folders(name)]
    folders += [str(pathlib.Path(__file__).parents[3])]
    folders.append(sysconfig.get_path("stdlib"))
    return [os.path.join(folder, "") for folder in folders]


def _settings():
    """What Keras's functions ask that is no state of a layer."""
    return (
        config.floatx(),
        config.epsilon(),
        config.image_data_format(),
        config.is_flash_attention_enabled(),
    )


def _folders(package):
    """Where a package is installed, imported or not."""
    spec = importlib.util.find_spec(package)
    return [] if spec is None else spec.submodule_search_locations


@functools.cache
def _installed():
    """The versions of what is installed, and this backend as it is.

    Of Keras and KerasHub also when each file was written, as somebody may have
    edited one. To ask for that takes some 20 ms, once in a process.
    """
    code = hashlib.sha256()
    for file in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
        code.update(file.read_bytes())
    for package in ("keras", "keras_hub"):
        for folder in _folders(package):
            code.update(repr(sorted(_files(folder))).encode())
    versions = __version__, np.__version__, ov.__version__, sys.version
    return (*versions, code.hexdigest())


def _files(root):
    """The path, time and bytes of each module in a folder."""
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    stat = entry.stat()
                    path = os.path.relpath(entry.path, root)
                    yield path, stat.st_mtime_ns, stat.st_size
                elif entry.is_dir() and entry.name != "__pycache__":
                    waiting.append(entry.path)
