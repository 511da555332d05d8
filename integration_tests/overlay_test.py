"""The overlay, in interpreters of its own and in this one."""

import os
import shutil
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

import keras_vino

ROOT = Path(__file__).resolve().parents[1]
BACKEND = "keras.src.backend.openvino"
WHERE = f"import keras, {BACKEND} as backend; print(backend.__file__)"


def run(*args, cwd=ROOT, **env):
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env={**os.environ, "KERAS_BACKEND": "openvino", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def is_here(result):
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip()).is_relative_to(keras_vino.TREE)


def test_backend_is_the_one_here():
    # In the checkout, whose folder `keras` comes first in the path with `-c`.
    assert is_here(run("-c", WHERE))


def test_backend_chosen_in_a_script_that_spawns(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, os\n"
        "os.environ['KERAS_BACKEND'] = 'openvino'\n"
        f"def where(): {WHERE}\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    process = context.Process(target=where)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    raise SystemExit(process.exitcode)\n"
    )
    assert is_here(run(script, cwd=tmp_path, KERAS_BACKEND="jax"))


def test_switched_off():
    result = run("-c", WHERE, KERAS_VINO="0")
    assert not is_here(result)
    assert "site-packages" in result.stdout


def test_start_imports_nothing():
    # As in benchmarks/start.py: with the hook, and passing over it.
    code = (
        "import site, sys; read = site.addpackage\n"
        "site.addpackage = lambda folder, name, known: (\n"
        "    known if name == {!r} else read(folder, name, known))\n"
        "site.main(); print(len(sys.meta_path), *sorted(sys.modules))"
    )
    hooked = run("-S", "-c", code.format("none")).stdout.split()
    plain = run("-S", "-c", code.format("keras_vino.pth")).stdout.split()
    assert int(hooked[0]) == int(plain[0]) + 1
    assert hooked[1:] == plain[1:]


@pytest.mark.parametrize("fault", ["missing", "not Python", "raises"])
def test_broken_install(tmp_path, fault):
    shutil.copy(ROOT / "keras_vino" / "keras_vino.pth", tmp_path)
    if fault != "missing":
        (tmp_path / "keras_vino").mkdir()
        (tmp_path / "keras_vino" / "__init__.py").write_text(
            "(" if fault == "not Python" else "raise RuntimeError"
        )
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").touch()
    code = f"import site; site.addsitedir({str(tmp_path)!r}); print('started')"
    isolated = ["-I", "-S", "-c"]
    started = run(*isolated, code)
    assert (started.stdout, started.stderr) == ("started\n", "")
    other = run(*isolated, f"{code}; import keras", KERAS_BACKEND="jax")
    assert other.returncode == 0, other.stderr
    off = run(*isolated, f"{code}; import keras", KERAS_VINO="0")
    assert off.returncode == 0, off.stderr
    here = run(*isolated, f"{code}; import keras")
    assert "ImportError: keras-vino is broken" in here.stderr


@pytest.mark.parametrize(
    "name, version",
    [
        ("keras", "3.14.1"),
        ("keras", "3.16.0"),
        ("openvino", "2026.3.0"),
        ("openvino", "2027.0.0"),
        ("openvino", None),
    ],
)
def test_unsupported_version(name, version):
    code = (
        "from importlib import metadata\n"
        "real = metadata.version\n"
        "def version(name):\n"
        f"    if name != {name!r}: return real(name)\n"
        f"    if {version!r}: return {version!r}\n"
        "    raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = version\n"
        "import keras\n"
    )
    result = run("-c", code)
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: keras-vino supports keras")
    assert f"{name} {version or 'is not installed'}" in error
    other = "openvino" if name == "keras" else "keras"
    assert f"{other} {metadata.version(other)}" in error


def test_supported_versions_are_those_installed():
    keras_vino.check_versions()


# The rest asks the finder, in this process.


@pytest.fixture
def fresh(monkeypatch):
    """As before Keras has been imported, with no backend chosen."""
    monkeypatch.delitem(sys.modules, "keras.src.backend.config", raising=False)
    for name in ("KERAS_BACKEND", "KERAS_HOME", "KERAS_VINO"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("backend", ["jax", "numpy", "tensorflow", "torch"])
def test_other_backends_see_nothing(fresh, backend):
    fresh.setenv("KERAS_BACKEND", "openvino")
    assert keras_vino.find_spec(BACKEND)
    fresh.setenv("KERAS_BACKEND", backend)
    assert keras_vino.find_spec(BACKEND) is None


@pytest.mark.parametrize("variable", ["KERAS_HOME", "HOME"])
@pytest.mark.parametrize(
    "text, found",
    [
        ('{"backend": "openvino"}', True),
        ('{"backend": "jax"}', False),
        ("{}", False),
        ("[]", False),
        ("{", False),
        (None, False),
    ],
)
def test_backend_of_the_config_file(fresh, tmp_path, variable, text, found):
    folder = tmp_path / ".keras" if variable == "HOME" else tmp_path
    fresh.setenv(variable, str(tmp_path))
    if text is not None:
        folder.mkdir(exist_ok=True)
        (folder / "keras.json").write_text(text)
    assert bool(keras_vino.find_spec(BACKEND)) == found
    # As for Keras, the environment counts more, unless it is empty.
    fresh.setenv("KERAS_BACKEND", "")
    assert bool(keras_vino.find_spec(BACKEND)) == found
    fresh.setenv("KERAS_BACKEND", "jax")
    assert keras_vino.find_spec(BACKEND) is None


def test_choice_of_keras_counts(fresh):
    config = types.SimpleNamespace(backend=lambda: "jax")
    fresh.setenv("KERAS_BACKEND", "openvino")
    fresh.setitem(sys.modules, "keras.src.backend.config", config)
    assert keras_vino.find_spec(BACKEND) is None


def test_modules_and_packages(fresh, tmp_path):
    fresh.setenv("KERAS_BACKEND", "openvino")
    fresh.setattr(keras_vino, "TREE", str(tmp_path))
    for file in (
        "keras/src/new.py",
        "keras/src/ops/__init__.py",
        "keras/src/ops/numpy_test.py",
        "keras/src/backend/openvino/__init__.py",
        "keras_hub/src/utils/openvino_utils.py",
        "other/src/new.py",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    release = ["/release/keras/src"]

    new = keras_vino.find_spec("keras.src.new", release)
    assert new.origin == str(tmp_path / "keras/src/new.py")
    assert new.submodule_search_locations is None

    # The rest of a package comes from the release, but never of the backend.
    ops = keras_vino.find_spec("keras.src.ops", release)
    assert ops.submodule_search_locations == [
        str(tmp_path / "keras/src/ops"),
        "/release/keras/src/ops",
    ]
    backend = keras_vino.find_spec(BACKEND, [f"{release[0]}/backend"])
    assert backend.submodule_search_locations == [
        str(tmp_path / "keras/src/backend/openvino")
    ]

    name = "keras_hub.src.utils.openvino_utils"
    assert keras_vino.find_spec(name, release).origin.startswith(str(tmp_path))

    assert keras_vino.find_spec("keras") is None
    assert keras_vino.find_spec("other.src.new") is None
    assert keras_vino.find_spec("keras.src.layers", release) is None
    assert keras_vino.find_spec("keras.src.ops.numpy_test", release) is None
    assert keras_vino.find_spec("src.new") is None
