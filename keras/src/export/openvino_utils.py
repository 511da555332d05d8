"""What exports to OpenVINO IR share: signatures, names of ports, files."""

import contextlib
import inspect
import itertools
import os
import tempfile
import threading
from pathlib import Path

from keras.src import backend
from keras.src import tree
from keras.src.export.export_utils import make_input_spec
from keras.src.layers.layer import Layer

# ---------------------------------------------------------------- signatures


def arguments_of(function, signature):
    """The specs of each positional argument of a function.

    Args:
        function: a callable; that of a layer or model may be itself, or its
            `call` or `__call__`.
        signature: a structure of specs. A list or tuple is one for each
            argument, or, of several for a function of one argument, that
            argument.

    Raises:
        TypeError: for what is no spec.
        ValueError: for a spec without a shape or dtype.
    """
    signature = tree.map_structure(_checked, signature)
    if not isinstance(signature, (list, tuple)):
        return [signature]
    if len(signature) > 1 and len(data_parameters(function)) == 1:
        return [signature]
    return list(signature)


def _checked(spec):
    """The spec, or that of a tensor; Keras says what is wrong with others."""
    is_said = all(
        getattr(spec, name, None) is not None for name in ("shape", "dtype")
    )
    is_spec = hasattr(spec, "name") and not backend.is_tensor(spec)
    return spec if is_spec and is_said else make_input_spec(spec)


def layer_of(function):
    """The layer that a call of `function` calls, or `None`."""
    if isinstance(function, Layer):
        return function
    owner = getattr(function, "__self__", None)
    is_call = getattr(function, "__name__", "") in ("call", "__call__")
    return owner if is_call and isinstance(owner, Layer) else None


def data_parameters(function):
    """The names of the positional parameters that take inputs."""
    layer = layer_of(function)
    parameters = inspect.signature(layer.call if layer else function).parameters
    return [
        parameter.name
        for parameter in parameters.values()
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.name not in ("training", "mask")
    ]


# --------------------------------------------------------------------- names


def input_names(function, arguments):
    """The name of each input: that of its key, of its spec, or of the model's.

    Others are called by the key of the list that they are in, or by their
    argument, where there are several.
    """
    defaults = itertools.repeat("input")
    if len(arguments) > 1:
        defaults = itertools.chain(data_parameters(function), defaults)
    leaves = [
        leaf
        for argument, default in zip(arguments, defaults)
        for leaf in input_leaves(argument, default=default)
    ]
    functional = functional_of(function)
    own = input_leaves(getattr(functional, "_inputs_struct", ()))
    own = [x.name for _, x in own]
    if len(own) != len(leaves):
        own = itertools.repeat(None)
    return [
        key or getattr(leaf, "name", None) or name or default
        for ((key, default), leaf), name in zip(leaves, own)
    ]


def input_leaves(structure, key=None, default=None):
    """Pairs of what may name a leaf, and the leaf.

    The former are its key in a dict, or `None`, and the key around its list,
    or `default`. Dicts are in their own order, which the inputs of all
    backends have.
    """
    if isinstance(structure, dict):
        for key, value in structure.items():
            yield from input_leaves(value, key, key)
    elif isinstance(structure, (list, tuple)):
        for value in structure:
            yield from input_leaves(value, None, default)
    else:
        yield (key, default), structure


def output_names(function, outputs):
    functional = functional_of(function)
    defaults = itertools.chain(
        getattr(functional, "output_names", ()), itertools.repeat("output")
    )
    return [
        next((key for key in reversed(path) if isinstance(key, str)), default)
        for (path, leaf), default in zip(
            tree.flatten_with_path(outputs), defaults
        )
        if leaf is not None
    ]


def functional_of(function):
    """The layer that a function calls, or the functional model within it."""
    layer = layer_of(function)
    return getattr(layer, "_functional", None) or layer  # a Sequential's


def unique(names):
    """The names, with a number behind those that come again."""
    taken = set()
    for base in names:
        numbered = (f"{base}_{i}" for i in itertools.count(1))
        candidates = itertools.chain([base], numbered)
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        yield name


def set_names(ov_model, inputs, outputs=()):
    """Names the ports of an `openvino.Model`, no two of them the same.

    Without `outputs`, these keep their names.
    """
    names = unique([*inputs, *outputs])
    for port, name in zip([*ov_model.inputs, *ov_model.outputs], names):
        if port.get_node().get_type_name() == "Parameter":
            port.get_node().set_friendly_name(name)
        port.tensor.set_names({name})


# --------------------------------------------------------------------- files


def write_ir(ov_model, path, compress_to_fp16=False):
    """Writes an `openvino.Model` as `path`, an `.xml`, and its `.bin`.

    Both take the place of older files when they are complete; until then, and
    where writing fails, the older ones stay. A process that is killed may
    leave a folder `.export-*` beside them, but never files of two models.

    Args:
        ov_model: an `openvino.Model`.
        path: a `pathlib.Path`.
        compress_to_fp16: as for `openvino.save_model`.

    Raises:
        OSError: where the files cannot be written.
    """
    targets = [path, path.with_suffix(".bin")]
    for target in targets:
        if target.is_dir():
            raise IsADirectoryError(f"Cannot write '{target}': it is a folder.")
    with staging(path) as folder:
        save(ov_model, folder / path.name, compress_to_fp16)
        install(folder, targets)


def save(ov_model, path, compress_to_fp16=False):
    """`openvino.save_model`, with an error that names the file."""
    import openvino as ov

    try:
        ov.save_model(ov_model, path, compress_to_fp16=compress_to_fp16)
    except RuntimeError as error:
        raise OSError(f"OpenVINO cannot write '{path.name}': {error}") from None


@contextlib.contextmanager
def staging(path):
    """A folder beside `path`, on its disk, for what is to take its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".export-", dir=path.parent
    ) as name:
        yield Path(name)


# No two exports to one path put files of both there.
_installing = threading.Lock()


def install(folder, targets):
    """Moves what `folder` has to the paths `targets`, all or none of it.

    Args:
        folder: a `pathlib.Path` with a file or folder of each target's name.
            What the targets were is in it afterwards.
        targets: a list of `pathlib.Path`. The first comes last: it is what
            others open, so that they find it with the rest of its kind.
    """
    former = Path(tempfile.mkdtemp(dir=folder))
    kept, placed = [], []
    with _installing:
        try:
            for target in targets:
                if os.path.lexists(target):
                    os.replace(target, former / target.name)
                    kept.append(target)
            for target in reversed(targets):
                os.replace(folder / target.name, target)
                placed.append(target)
        except BaseException:
            for target in placed:
                os.replace(target, folder / target.name)
            for target in reversed(kept):
                os.replace(former / target.name, target)
            raise
