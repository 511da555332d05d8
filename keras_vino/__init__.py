"""Puts this project's modules over those of the installed packages.

This module is the import finder that does so. Every interpreter reads
`keras_vino.pth` as it starts, one line that loads this file when `keras` is
first imported. The line loads it from where it is installed, whatever folder
the interpreter runs in, and where that fails lets other backends go on. It
waits because importing even an empty file costs 3 ms where no bytecode is kept,
and looks for itself because Python 3.11 reads the line twice in a virtual
environment.
"""

import json
import os
import sys
from importlib import import_module
from importlib.util import spec_from_file_location

BACKEND = "keras.src.backend.openvino"

PACKAGES = ("keras", "keras_hub")

# A wheel carries their trees inside this package; a checkout has them beside.
TREE = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(TREE, "keras")):
    TREE = os.path.dirname(TREE)


# What stands in the backend and a user finds here, by its module there.
PUBLIC = {
    "GradientTape": "gradient",
    "configure": "settings",
    "configured": "settings",
    "stream": "streaming",
}


def __getattr__(name):
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not active():
        raise RuntimeError(
            f"`keras_vino.{name}` is for the OpenVINO backend; set "
            "KERAS_BACKEND=openvino before Keras is imported."
        )
    return getattr(import_module(f"{BACKEND}.{PUBLIC[name]}"), name)


def find_spec(name, path=None, target=None):
    """The spec of a module that stands in the tree, else None."""
    # Tests here and in the release share paths. Only pytest imports them, and
    # `conftest.py` tells it which is which.
    package, _, inner = name.partition(".")
    if package not in PACKAGES or not inner or name.endswith("_test"):
        return None
    folder = os.path.join(TREE, *name.split("."))
    file = os.path.join(folder, "__init__.py")
    folders = None
    if os.path.isfile(file):
        folders = [folder]
        # What is not here comes from the release, except in the backend: half
        # of one and half of the other would be neither.
        if name != BACKEND:
            last = name.rpartition(".")[2]
            folders += [os.path.join(parent, last) for parent in path or ()]
    else:
        file = folder + ".py"
    if not os.path.isfile(file) or not active():
        return None
    if name == BACKEND:
        check_versions()
    return spec_from_file_location(
        name, file, submodule_search_locations=folders
    )


def active():
    if os.environ.get("KERAS_VINO") == "0":
        return False
    # The backend that Keras has chosen, or before that is going to choose.
    config = sys.modules.get("keras.src.backend.config")
    return getattr(config, "backend", configured_backend)() == "openvino"


def configured_backend():
    """What Keras reads: the environment, else `keras.json` in its home."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    home = os.path.expanduser("~")
    home = home if os.access(home, os.W_OK) else "/tmp"
    home = os.environ.get("KERAS_HOME", os.path.join(home, ".keras"))
    try:
        with open(os.path.expanduser(os.path.join(home, "keras.json"))) as f:
            return json.load(f).get("backend")
    except Exception:  # Keras tells the user what is wrong with the file.
        return None


def check_versions():
    """Raise an ImportError for a Keras or OpenVINO that this is not made for"""
    from importlib import metadata

    from packaging.requirements import Requirement  # Keras depends on it.

    requirements = map(Requirement, metadata.requires("keras-vino"))
    requirements = [r for r in requirements if r.name in ("keras", "openvino")]
    found = []
    supported = True
    for requirement in requirements:
        try:
            version = metadata.version(requirement.name)
            supported &= requirement.specifier.contains(version, True)
        except metadata.PackageNotFoundError:
            version = "is not installed"
            supported = False
        found.append(f"{requirement.name} {version}")
    if not supported:
        raise ImportError(
            f"keras-vino supports {' and '.join(map(str, requirements))}; "
            f"found: {', '.join(found)}. KERAS_VINO=0 uses the backend that "
            "Keras ships."
        )
