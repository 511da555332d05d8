"""Runs tests of the installed Keras release, with this project's own.

`pytest keras/src/ops/numpy_test.py` runs the release's file of that path and
then the one here as if they were one file; either may be missing. A folder
means all such files below it. The release's modules keep their names, those
here are imported as `fork.src.ops.numpy_test`.
"""

import contextlib
import importlib.util
import os
import re
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

os.environ.setdefault("KERAS_BACKEND", "openvino")
# The release's switch for the tests of `keras.applications`, which download
# the weights of each model: "" runs them.
os.environ.setdefault("SKIP_APPLICATIONS_TESTS", "1")

# Where both are installed, TensorFlow crashes if torch comes after it.
with contextlib.suppress(ImportError):
    import torch  # noqa: F401

import pytest

BACKEND = os.environ["KERAS_BACKEND"]
HERE = Path(__file__).resolve().parent
FORK = HERE / "keras"
RELEASE = Path(importlib.util.find_spec("keras").origin).parent
PEERS = ("grain", "jax", "onnxruntime", "tensorboard", "tensorflow", "torch")


# Tests of the release that ask which backend there is, and know others only:
# which of them each takes this one for. TensorFlow takes gradients as it does.
OTHERS = {
    "keras/src/layers/core/dense_test.py::DenseTest::test_quantize_float8$": (
        "tensorflow"
    ),
    "keras/src/layers/core/einsum_dense_test.py::EinsumDenseTest"
    "::test_quantize_float8$": "tensorflow",
    "keras/src/ops/numpy_test.py::NumpyTwoInputOpsCorrectnessTest"
    "::test_divide_no_nan_gradients$": "tensorflow",
    "keras/src/quantizers/quantizers_test.py::QuantizersTest"
    "::test_fake_quant_with_min_max_vars_narrow_": "tensorflow",
    "keras/src/quantizers/quantizers_test.py::QuantizersTest"
    "::test_fake_quant_with_min_max_vars_wide_": "tensorflow",
    "keras/src/trainers/trainer_test.py::TestTrainer"
    "::test_fit_with_data_adapter_py_dataset": "torch",
}


def skip_if_backend(backend, reason):
    """The mark that tests of the release import from here."""
    return pytest.mark.skipif(
        # What they skip on OpenVINO alone is what this backend is to mend.
        backend == BACKEND and BACKEND != "openvino",
        reason=reason,
    )


def is_honoured(mark):
    """Whether a mark may skip a test on this backend."""
    reason = str(mark.kwargs.get("reason", ""))
    return mark.name != "skipif" or not is_ours_to_mend(reason)


def is_ours_to_mend(reason):
    """Whether to run a test although it is marked to be skipped.

    That is where the reason is what OpenVINO lacks, alone or among other
    backends. A test that asks the backend itself, by its flags
    `SUPPORTS_SPARSE_TENSORS` and such, stays skipped.
    """
    reason = reason.lower()
    return "openvino" in reason and not any(
        kind in reason for kind in ("sparse", "ragged")
    )


def skip_test(test, reason):
    """`unittest.TestCase.skipTest`, which tests of the release call too."""
    if BACKEND != "openvino" or not is_ours_to_mend(reason):
        raise unittest.SkipTest(reason)


unittest.TestCase.skipTest = skip_test


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "requires_trainable_backend: needs a backend that trains"
    )
    config.addinivalue_line("markers", "multi_device: needs several devices")
    if BACKEND == "openvino" and os.environ.get("KERAS_VINO") != "0":
        check_overlay()
    config.pluginmanager.register(Suite())
    # A path may exist in the release alone, and pytest overlooks those in
    # `testpaths` that are not on disk.
    given = config.getoption("file_or_dir")
    if not given and config.invocation_params.dir == config.rootpath:
        given = config.getini("testpaths")
    config.args[:] = [
        path
        for arg in given or config.args
        for path in to_collect(config.invocation_params.dir, arg)
    ]


def check_overlay():
    """Fail where the tests would be of something else than this checkout."""
    overlay = sys.modules.get("keras_vino")  # Looking for Keras loaded it.
    tree = Path(overlay.TREE) if overlay else None
    for file in (*FORK.rglob("*.py"), *(HERE / "keras_hub").rglob("*.py")):
        installed = tree and tree / file.relative_to(HERE)
        if not file.name.endswith("_test.py") and not (
            tree
            and installed.exists()
            and installed.read_bytes() == file.read_bytes()
        ):
            raise pytest.UsageError(
                f"keras-vino is not installed as it is in {HERE}: run "
                f"`{sys.executable} -m pip install '{HERE}[test]'`, or with -e "
                "once for all."
            )


def to_collect(folder, arg):
    """The arguments for pytest that stand for one of the user's."""
    path, *names = arg.split("::")
    path = Path(os.path.abspath(folder / path))
    if not path.is_relative_to(FORK):
        return [arg]
    found = [RELEASE / path.relative_to(FORK), path]
    found = [path for path in found if path.exists()]
    if found and found[0].is_file():
        del found[1:]  # `TestFile` sees to both.
    return ["::".join([str(path), *names]) for path in found] or [arg]


def inner_path(path):
    """What a path is below `keras/`, here or in the release; else None."""
    for tree in (RELEASE, FORK):
        if path.is_relative_to(tree):
            return path.relative_to(tree)


class Suite:
    """Hooks for both trees: those of a conftest only see its own folder."""

    def pytest_collect_directory(self, path, parent):
        # Not as packages: pytest would import their `__init__.py`.
        if inner_path(path):
            return pytest.Dir.from_parent(parent, path=path)

    def pytest_ignore_collect(self, collection_path):
        inner = inner_path(collection_path)
        if inner and inner.name.endswith("_test.py"):
            here = collection_path.is_relative_to(FORK)
            return True if here and (RELEASE / inner).exists() else None

    def pytest_pycollect_makemodule(self, module_path, parent):
        inner = inner_path(module_path)
        if inner:
            nodeid = f"keras/{inner.as_posix()}"
            return TestFile.from_parent(parent, path=module_path, nodeid=nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc):
        # The processes of pytest-xdist must agree on the ids.
        for mark in metafunc.definition.iter_markers("parametrize"):
            ids = mark.kwargs.get("ids")
            if callable(ids):
                mark.kwargs["ids"] = without_addresses(ids)

    def pytest_collection_modifyitems(self, items):
        untrainable = pytest.mark.skipif(
            BACKEND == "numpy",
            reason=f"{BACKEND} does not train",
        )
        one_device = pytest.mark.skip(reason="needs several devices")
        excluded = list(read_excluded()) if BACKEND == "openvino" else []
        for item in items:
            if BACKEND == "openvino":
                for node in item.listchain():
                    marks = filter(is_honoured, node.own_markers)
                    node.own_markers = list(marks)
            if "requires_trainable_backend" in item.keywords:
                item.add_marker(untrainable)
            if "multi_device" in item.keywords:
                item.add_marker(one_device)
            for part, reason in excluded:
                if is_part(part, item):
                    item.add_marker(pytest.mark.skip(reason=reason))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        other = None
        if BACKEND == "openvino":
            parts = (part for part in OTHERS if is_part(part, item))
            other = OTHERS.get(next(parts, None))
        with (
            taken_for(other, item.module) if other else contextlib.nullcontext()
        ):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        peer = missing_peer(call.excinfo and call.excinfo.value)
        if peer:
            report.outcome = "skipped"
            path, line, _ = item.location
            report.longrepr = (path, line, f"{peer} is not installed")
        return report


def is_part(part, item):
    """Whether a test has a part in its node id, where $ stands for its end."""
    return part in f"{item.nodeid}$"


@contextlib.contextmanager
def taken_for(name, module):
    """Lets a test module take this backend for another, and nothing else.

    Of TensorFlow there is as much as the tests in `OTHERS` use.
    """
    from keras.src import ops
    from keras.src.backend.openvino.core import Variable
    from keras.src.backend.openvino.gradient import GradientTape
    from keras.src.backend.openvino.jit import jit

    class Other:
        backend = staticmethod(lambda: name)

        def __getattr__(self, attribute):
            return getattr(own, attribute)

    own = module.backend
    framework = types.SimpleNamespace(
        GradientTape=GradientTape,
        Variable=Variable,
        function=lambda jit_compile: jit,
        reduce_sum=ops.sum,
    )
    with (
        mock.patch.object(module, "backend", Other()),
        mock.patch.dict(sys.modules, tensorflow=framework),
    ):
        yield


def without_addresses(ids):
    """The function `ids`, less the addresses in the ids that it gives.

    scikit-learn's show estimators, and these the functions they were given.
    """

    def stable(value):
        name = ids(value)
        return name and re.sub("at0x[0-9a-f]+", "", name)

    return stable


def missing_peer(error):
    """The framework for lack of which an import failed, if that is why."""
    # TensorFlow raises another error where TensorBoard is missing.
    for error in (error, getattr(error, "__context__", None)):
        name = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and name in PEERS:
            return name


class TestFile(pytest.File):
    """A test file of the release, and the one of that path here."""

    def collect(self):
        inner = inner_path(self.path)
        for path, kind in (
            (RELEASE / inner, pytest.Module),
            (FORK / inner, ForkModule),
        ):
            if not path.exists():
                continue
            if kind is ForkModule and not is_for_this_backend(inner):
                yield Absent.from_parent(self, name="another backend is set")
                continue
            module = kind.from_parent(self, path=path, nodeid=self.nodeid)
            try:
                yield from module.collect()
            except self.CollectError as error:
                peer = missing_peer(error.__cause__)
                if not peer:
                    raise
                reason = f"{peer} is not installed"
                yield Absent.from_parent(module, name=reason)


def is_for_this_backend(inner):
    """Whether a test file of this fork has something to test.

    Those of the OpenVINO backend and of its export import what other backends
    do not see.
    """
    return BACKEND == "openvino" or "openvino" not in inner.as_posix()


class ForkModule(pytest.Module):
    def _getobj(self):
        parts = self.path.relative_to(HERE).with_suffix("").parts
        name = ".".join(["fork", *parts[1:]])
        # Asking the finders has pytest's rewrite the asserts.
        for finder in sys.meta_path:
            spec = finder.find_spec(name, [str(self.path.parent)])
            if spec:
                break
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


class Absent(pytest.Item):
    """Stands for tests that cannot run here; its name says why."""

    def runtest(self):
        pytest.skip(self.name)


def read_excluded():
    """Pairs of a part of a node id, with a $ at its end, and a reason."""
    reason, in_comment = [], False
    for line in (HERE / "excluded_tests.txt").read_text().splitlines():
        comment = line.startswith("#")
        if comment and in_comment:
            reason.append(line[1:].strip())
        elif comment or not line.strip():
            reason = [line[1:].strip()]
        else:
            yield line.strip(), " ".join(reason)
        in_comment = comment
