import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

import keras
import keras_vino
from keras.src import layers
from keras.src import ops
from keras.src.backend.openvino import jit
from keras.src.backend.openvino import settings
from keras.src.backend.openvino import storage
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import in_threads_beside
from keras.src.backend.openvino.testing import normal


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "_of_process", None)
    keras_vino.configure(cache_dir=tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def no_trace(monkeypatch):
    """Makes each trace an error, once it is called."""

    def trace(*args):
        raise AssertionError("it is traced")

    return lambda: monkeypatch.setattr(jit._Compiled, "_trace", trace)


def dense_model(seed, kind=keras.Model, outputs=None):
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    x = keras.Input((16,))
    y = layers.Dense(8, bias_initializer="normal", name="dense")(x)
    return kind(x, outputs(y) if outputs else y)


def predicted(model, x):
    return model.predict(x, verbose=0)


def expected_of(model, x):
    kernel, bias = model.get_layer("dense").get_weights()
    return x @ kernel + bias


def check(model, x):
    np.testing.assert_allclose(
        predicted(model, x), expected_of(model, x), rtol=1e-4, atol=1e-5
    )


def test_it_is_found_without_a_trace(folder, no_trace):
    x = normal(5, 16)
    first = predicted(dense_model(0), x)
    (file,) = folder.iterdir()
    assert file.suffix == ".model"
    no_trace()
    model = dense_model(0)
    np.testing.assert_array_equal(predicted(model, x), first)
    check(model, normal(3, 16))
    with pytest.raises(AssertionError, match="it is traced"):
        predicted(dense_model(1), x)


def test_weights_that_are_set_afterwards_count(no_trace):
    x = normal(5, 16)
    check(dense_model(0), x)
    model = dense_model(0)
    check(model, x)
    model.set_weights([2 * w for w in model.get_weights()])
    check(model, x)
    model.get_layer("dense").activation = keras.activations.relu
    result = predicted(model, x)
    expected = np.maximum(expected_of(model, x), 0)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


CHILD = """
import json, os, sys
os.environ["KERAS_BACKEND"] = "openvino"
import numpy as np, keras
from keras.src.backend.openvino import device, jit

class Own(keras.Model):
    pass

found, traces = [], []
compile, trace = device._compile, jit._Compiled._trace

def compile_noted(*args):
    compiled = compile(*args)
    found.append(compiled.get_property("LOADED_FROM_CACHE"))
    return compiled

def trace_noted(self, *args):
    traces.append(1)
    return trace(self, *args)

device._compile, jit._Compiled._trace = compile_noted, trace_noted
data = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")
for kind in (keras.Model, Own):
    keras.utils.set_random_seed(int(sys.argv[1]))
    keras.backend.clear_session()
    x = keras.Input((16,))
    y = keras.layers.Dense(8, bias_initializer="normal")(x)
    model = kind(x, y)
    result = model.predict(data, verbose=0)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(result, data @ kernel + bias, 1e-4, 1e-5)
print(json.dumps([len(traces), found]))
"""


def test_processes_share_what_is_the_same(folder):
    def run(seed):
        result = subprocess.run(
            [sys.executable, "-c", CHILD, str(seed)],
            env={**os.environ, "KERAS_OPENVINO_CACHE_DIR": str(folder)},
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(result.stdout)

    assert run(0) == [2, [False, False]]
    assert run(1) == [2, [False, False]]  # the same layers, other weights
    # A class of one's own is traced, and found by its graph.
    assert run(0) == [1, [True]]
    assert len(list(folder.iterdir())) == 4


def test_a_class_of_ones_own_is_found_by_its_graph(folder, monkeypatch):
    class Own(keras.Model):
        pass

    models, x = compiled_models(monkeypatch), normal(5, 16)
    for seed in (0, 1, 0, 1):
        check(dense_model(seed, Own), x)
    assert len(list(folder.glob("*.blob"))) == 2
    found = [m._compiled.get_property("LOADED_FROM_CACHE") for m in models]
    assert found == [False, False, True, True]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:3],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"x" * len(data),
        lambda data: data[:-8] + b"\xff" * 8,
        lambda data: b"x" * 4096 + data[4096:],
        # OpenVINO itself would take these.
        lambda data: data[: len(data) // 3].ljust(len(data), b"\0"),
        lambda data: data[:300] + bytes([data[300] ^ 4]) + data[301:],
        lambda data: data[:-700] + bytes([data[-700] ^ 64]) + data[-699:],
    ],
)
def test_a_file_that_is_not_whole(folder, damage, monkeypatch):
    x = normal(5, 16)
    check(dense_model(0), x)
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    check(dense_model(0), x)
    models = compiled_models(monkeypatch)
    check(dense_model(0), x)
    assert not models  # it was mended


def test_settings_have_files_of_their_own(folder, monkeypatch):
    models, x = compiled_models(monkeypatch), normal(5, 16)
    for threads in (1, 2, 1, 2):
        with keras_vino.configured(inference_num_threads=threads):
            model = dense_model(0)
            check(model, x)
    assert len(models) == len(list(folder.iterdir())) == 2
    with keras_vino.configured(inference_precision_hint="bf16"):
        predicted(dense_model(0), x)
    check(dense_model(0), x)
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("name", ["auto", "auto:cpu", "hetero:cpu"])
def test_joined_devices(name):
    for _ in range(2):
        with keras.device(name):
            check(dense_model(0), normal(5, 16))


@pytest.mark.parametrize(
    "outputs",
    [
        lambda y: [y],
        lambda y: {"b": y, "a": [y * 2, (y,)]},
        lambda y: (y, y),
        lambda y: [y, ops.cast(y * 100, "int64"), ops.cast(y, "float64")],
        lambda y: ops.cast(y, "bfloat16"),
        lambda y: ops.shape(y)[-1] * y,
    ],
)
def test_structures_and_dtypes(outputs, no_trace):
    x = normal(5, 16)
    first = predicted(dense_model(0, outputs=outputs), x)
    no_trace()
    again = predicted(dense_model(0, outputs=outputs), x)
    assert keras.tree.map_structure(lambda y: None, again) == (
        keras.tree.map_structure(lambda y: None, first)
    )
    results = zip(keras.tree.flatten(first), keras.tree.flatten(again))
    for y, z in results:
        np.testing.assert_array_equal(y, z)
        assert y.dtype == z.dtype


def test_dims_that_are_open(no_trace):
    def build():
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        x = keras.Input((None, 4))
        return keras.Model(x, layers.LSTM(3)(x))

    arrays = [normal(2, 5, 4), normal(3, 7, 4), normal(1, 1, 4)]
    model = build()
    expected = [np.asarray(model(x)) for x in arrays]
    predicted(model, arrays[0])
    no_trace()
    model = build()
    for x, y in zip(arrays, expected):
        np.testing.assert_allclose(predicted(model, x), y, 1e-4, 1e-5)


def test_python_operations_are_not_kept(folder):
    def build():
        x = keras.Input((4, 4))
        return keras.Model(x, ops.svd(x, compute_uv=False))

    x = normal(2, 4, 4)
    for _ in range(2):
        np.testing.assert_allclose(
            predicted(build(), x), np.linalg.svd(x, compute_uv=False), 1e-4
        )
    assert not list(folder.iterdir())


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantised_models(mode, folder, no_trace):
    def build():
        model = dense_model(0)
        model.get_layer("dense").quantize(mode)
        return model

    x = normal(5, 16)
    model = build()
    expected = np.asarray(model(x))
    np.testing.assert_allclose(predicted(model, x), expected, 1e-4, 1e-5)
    (file,) = folder.iterdir()
    assert file.suffix == ".model"
    no_trace()
    np.testing.assert_allclose(predicted(build(), x), expected, 1e-4, 1e-5)


def test_models_that_assign_are_found_by_their_graph(folder, monkeypatch):
    models, x = compiled_models(monkeypatch), normal(5, 16)
    for _ in range(2):
        model = dense_model(0)
        model.compile(loss="mse")
        y = expected_of(model, x) + 2
        result = model.evaluate(x, y, verbose=0)
        np.testing.assert_allclose(result, 4, rtol=1e-3)
    assert not list(folder.glob("*.model"))
    found = [m._compiled.get_property("LOADED_FROM_CACHE") for m in models]
    assert found == [False, True]


def test_weights_are_digested_once(monkeypatch):
    digests, places = [], []
    digest, find_place = hashlib.sha256, storage.find_place
    monkeypatch.setattr(
        hashlib, "sha256", lambda *args: digests.append(args) or digest(*args)
    )
    monkeypatch.setattr(
        storage,
        "find_place",
        lambda *args: places.append(1) or find_place(*args),
    )
    model, x = dense_model(0), normal(5, 16)
    model.compile(loss="mse")
    predicted(model, x)
    model.get_layer("dense").bias.assign(np.zeros(8))
    before = len(digests)
    predicted(model, x)
    # That of the model and that of the bias, and not the kernel's.
    assert len(digests) == before + 2
    model.evaluate(x, x[:, :8], verbose=0)
    before = len(places)
    model.get_layer("dense").bias.assign(np.ones(8))
    model.evaluate(x, x[:, :8], verbose=0)
    assert len(places) == before  # it is known to assign


def five_beside(model):
    """Another thread assigns fives to the kernel, and this one waits for it."""
    kernel = model.get_layer("dense").kernel
    thread = threading.Thread(target=kernel.assign, args=[np.full((16, 8), 5)])
    thread.start()
    thread.join()


def test_weights_assigned_while_a_model_is_read(monkeypatch):
    x = normal(5, 16)
    check(dense_model(0), x)
    model, load = dense_model(0), storage.Place.load

    def load_beside(place):
        five_beside(model)
        return load(place)

    with monkeypatch.context() as patch:
        patch.setattr(storage.Place, "load", load_beside)
        predicted(model, x)
    check(model, x)


def test_weights_assigned_while_a_model_is_traced(monkeypatch):
    x = normal(5, 16)
    model, trace = dense_model(0), jit._Compiled._trace

    def trace_beside(*args):
        five_beside(model)
        return trace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(jit._Compiled, "_trace", trace_beside)
        predicted(model, x)
    check(model, x)
    check(dense_model(0), x)


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(UserWarning, match="cannot be kept: no space left"):
        check(dense_model(0), normal(5, 16))
    assert not list(folder.iterdir())


def test_threads_find_and_set(folder):
    x = normal(5, 16)
    check(dense_model(0), x)
    model = dense_model(0)
    kernel, bias = model.get_weights()
    expected = expected_of(model, x)
    largest = np.abs(expected).argmax()

    def work():
        for _ in range(10):
            result = model.predict_on_batch(x)
            factor = np.round(result.flat[largest] / expected.flat[largest])
            np.testing.assert_allclose(result, factor * expected, 1e-3, 1e-4)

    def multiply(n):
        model.set_weights([kernel * (1 + n % 3), bias * (1 + n % 3)])

    in_threads_beside(multiply, work)
    check(model, x)
    for n in range(3):
        multiply(n)
        check(model, x)
    # One for each of three weights at most, for one call and for many at once.
    assert 1 <= len(list(folder.iterdir())) <= 2 * 3


def test_deleted_files_are_still_read(folder):
    x = normal(5, 16)
    check(dense_model(0), x)
    model = dense_model(0)
    check(model, x)
    for file in pathlib.Path(folder).iterdir():
        file.unlink()
    check(model, normal(7, 16))
    check(dense_model(0), x)
