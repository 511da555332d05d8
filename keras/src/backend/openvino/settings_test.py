import concurrent.futures
import json
import os
import subprocess
import sys
import threading

import numpy as np
import openvino as ov
import pytest

import keras
import keras_vino
from keras.src import layers
from keras.src import ops
from keras.src.backend.openvino import plans
from keras.src.backend.openvino import settings
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import in_threads_beside
from keras.src.backend.openvino.testing import normal

JOINED = ["auto", "auto:cpu", "hetero:cpu", "multi:cpu"]


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch):
    monkeypatch.setattr(settings, "_of_process", None)


def model_of(units=8):
    return keras.Sequential([keras.Input((16,)), layers.Dense(units)])


def run(code, **env):
    """What another process prints; `.error` is the last line it ends with."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "openvino", **env},
        capture_output=True,
        text=True,
    )
    result.error = (result.stderr.strip().splitlines() or [""])[-1]
    return result


# -------------------------------------------------------------------- devices


@pytest.mark.parametrize("name", ["cpu", "cpu:0", "CPU", "CPU.0"])
def test_the_cpu_is_there(name):
    with keras.device(name):
        assert settings.get_device() == "CPU"
        assert float(ops.sin(0.0)) == 0


def test_there_is_one_core_whoever_asks_first():
    code = """
import concurrent.futures, threading, time
import openvino as ov
from keras.src.backend.openvino import settings
made = []
class Core(ov.Core):
    def __init__(self):
        made.append(1)
        time.sleep(0.1)
        super().__init__()
ov.Core = Core
barrier = threading.Barrier(4)
def ask(_):
    barrier.wait()
    return id(settings.core())
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = set(pool.map(ask, range(4)))
print(len(found), len(made))
"""
    assert run(code).stdout.split() == ["1", "1"]


def test_scopes_nest():
    with keras.device("auto"):
        with keras.device("hetero:cpu"):
            assert settings.get_device() == "HETERO:CPU"
        assert settings.get_device() == "AUTO"
    assert settings.get_device() == settings.DEFAULT_DEVICE


def test_a_scope_ends_with_an_error():
    with pytest.raises(KeyError), keras.device("auto"):
        raise KeyError
    assert settings.get_device() == settings.DEFAULT_DEVICE


def test_a_scope_outlasts_the_session():
    with keras.device("auto"), keras_vino.configured(num_streams=2):
        keras.backend.clear_session()
        device, properties = settings.current_target()
    assert device == "AUTO" and ("NUM_STREAMS", 2) in properties


def test_a_scope_is_of_its_thread():
    with keras.device("auto"):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(settings.get_device).result() == "CPU"


@pytest.mark.parametrize(
    "name", ["gpu:7", "cpu:3", "npu:9", "auto:cpu:5", "hetero:cpu,gpu:8"]
)
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(ValueError, match=r"finds no device.*'CPU'"):
        keras.device(name)


@pytest.mark.parametrize(
    "name", ["tpu", "cpu:x", "", 3, None, "auto:", "auto:tpu", "auto:-cpu"]
)
def test_what_is_no_device_name_is_an_error(name):
    with pytest.raises(ValueError, match="device_name"):
        keras.device(name)


@pytest.mark.parametrize("name", ["hetero", "multi", "multi:"])
def test_lists_of_no_devices_are_an_error(name):
    with pytest.raises(ValueError, match="must say which devices"):
        keras.device(name)


def test_indexed_devices(monkeypatch):
    class Core:
        available_devices = ["CPU", "GPU.0", "GPU.1", "NPU"]

    monkeypatch.setattr(settings, "core", Core)
    for name, device in {
        "gpu": "GPU.0",
        "gpu:1": "GPU.1",
        "npu:0": "NPU",
        "auto:gpu,cpu": "AUTO:GPU.0,CPU",
        "AUTO:GPU.1,CPU": "AUTO:GPU.1,CPU",
        "hetero:gpu:1, cpu:0": "HETERO:GPU.1,CPU",
        "multi:npu,gpu": "MULTI:NPU,GPU.0",
    }.items():
        assert settings.find_device(name) == device
    with pytest.raises(ValueError, match="GPU.1"):
        settings.find_device("auto:gpu:2,cpu")


@pytest.mark.parametrize("name", JOINED)
def test_models_on_joined_devices(name, monkeypatch):
    models = compiled_models(monkeypatch)
    model, x = model_of(), normal(5, 16)
    with keras.device(name):
        result = model.predict(x, verbose=0)
        again = model.predict(x[:3], verbose=0)
    kernel, bias = model.get_weights()
    # A bfloat16 result, the runtime's own on some CPUs, would be 1e-2 off.
    np.testing.assert_allclose(result, x @ kernel + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again, result[:3], rtol=1e-6)
    (executable,) = models
    assert executable._compiled.get_property("EXECUTION_DEVICES") == ["CPU"]
    singular = jit(lambda x: ops.svd(x, compute_uv=False))
    with keras.device(name):  # called back from Python
        np.testing.assert_allclose(
            singular(x), np.linalg.svd(x, compute_uv=False), rtol=1e-5
        )


def test_eager_plans_are_of_their_device(monkeypatch):
    models = compiled_models(monkeypatch)
    x = ops.convert_to_tensor(normal(1, 64, 64, 17))
    kernel = normal(3, 3, 17, 32)
    results = []
    for name in ("cpu", "auto", "cpu", "auto"):
        with keras.device(name):
            results.append(np.asarray(ops.conv(x, kernel)))
    assert len(models) == 2
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-4)


def test_the_device_of_the_environment():
    code = (
        "import keras, numpy as np\n"
        "from keras.src.backend.openvino import settings\n"
        "x = keras.ops.ones(3) + 1\n"
        "assert settings.get_device() == 'AUTO:CPU'\n"
        "with keras.device('cpu'):\n"
        "    assert settings.get_device() == 'CPU'\n"
    )
    assert run(code, KERAS_OPENVINO_DEVICE="auto:cpu").returncode == 0


def test_a_wrong_device_of_the_environment():
    code = (
        "import keras, numpy as np\n"
        "model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
        "with keras.device('cpu'):\n"
        "    model.predict(np.ones((1, 2)), verbose=0)\n"
        "print('so far')\n"
        "model.predict(np.ones((1, 2)), verbose=0)\n"
    )
    result = run(code, KERAS_OPENVINO_DEVICE="gpu:9")
    assert result.stdout == "so far\n"
    assert result.error.startswith("ValueError: KERAS_OPENVINO_DEVICE=gpu:9 ")
    assert "finds ['CPU'" in result.error


# ----------------------------------------------------------------- properties

READ_BACK = [
    ("performance_hint", "throughput", "THROUGHPUT"),
    ("PERFORMANCE_HINT", "LATENCY", "LATENCY"),
    ("num_streams", 2, 2),
    ("num_streams", "2", 2),
    ("inference_num_threads", 1, 1),
    ("inference_precision_hint", "bf16", ov.Type.bf16),
    ("execution_mode_hint", "accuracy", "ACCURACY"),
    ("perf_count", True, "YES"),
    ("enable_cpu_pinning", False, False),
]


@pytest.mark.parametrize("name, value, kept", READ_BACK)
def test_each_property_reaches_the_model(name, value, kept, monkeypatch):
    models = compiled_models(monkeypatch)
    model, x = model_of(), normal(2, 16)
    model.predict(x, verbose=0)
    with keras_vino.configured(**{name: value}):
        model.predict(x, verbose=0)
    found = models[-1]._compiled.get_property(name.upper())
    assert getattr(found, "name", found) == kept


@pytest.mark.parametrize("name", JOINED)
def test_properties_reach_the_members(name, monkeypatch):
    models = compiled_models(monkeypatch)
    with keras.device(name), keras_vino.configured(inference_num_threads=1):
        model_of().predict(normal(2, 16), verbose=0)
    found = models[0]._compiled.get_property("DEVICE_PROPERTIES")["CPU"]
    assert found["INFERENCE_NUM_THREADS"] == 1
    assert found["INFERENCE_PRECISION_HINT"] == ov.Type.f32


def test_configure_is_seen_by_predict(monkeypatch):
    models = compiled_models(monkeypatch)
    model, x = model_of(), normal(2, 16)

    def streams():
        model.predict(x, verbose=0)
        return models[-1]._compiled.get_property("NUM_STREAMS")

    assert streams() == 1
    keras_vino.configure(num_streams=2)
    assert streams() == 2
    with keras_vino.configured(num_streams=1):
        model.predict(x, verbose=0)
        assert len(models) == 3
    keras_vino.configure(num_streams=None)
    streams()
    assert len(models) == 3  # the first again
    assert dict(settings.get_properties()) == settings.PROPERTIES


def test_eager_plans_see_properties(monkeypatch):
    monkeypatch.setattr(plans, "_plans", plans.Variants(8, 2**20))
    models = compiled_models(monkeypatch)
    x, kernel = normal(1, 64, 64, 17), normal(3, 3, 17, 32)
    for threads in (None, 1, None, 1):
        with keras_vino.configured(inference_num_threads=threads):
            np.asarray(ops.conv(x, kernel))
    assert len(models) == 2
    found = models[1]._compiled.get_property("INFERENCE_NUM_THREADS")
    assert found == 1


def test_openvino_names_and_enums():
    hint = ov.properties.hint
    keras_vino.configure(
        {
            hint.performance_mode: hint.PerformanceMode.THROUGHPUT,
            "NUM_STREAMS": 2,
        }
    )
    expected = hint.PerformanceMode.THROUGHPUT
    assert dict(settings.get_properties())["PERFORMANCE_HINT"] == expected


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("nope", 1, r"CPU does not take NOPE=1: .*NUM_STREAMS"),
        ("num_streams", -5, r"NUM_STREAMS=-5: .*non negative"),
        ("performance_hint", "fast", r"PERFORMANCE_HINT=fast: .*LATENCY"),
        ("inference_precision_hint", "f64", r"=f64: .*bf16, f16, f32"),
        ("inference_num_threads", 1.5, r"INFERENCE_NUM_THREADS=1.5: .*be 1"),
        ("inference_num_threads", "1.5", r"INFERENCE_NUM_THREADS=1.5: .*be 1"),
        ("inference_num_threads", True, r"INFERENCE_NUM_THREADS=True: "),
        ("execution_devices", "CPU", r"EXECUTION_DEVICES=CPU: "),
        ("num_streams", [2], r"NUM_STREAMS must be a number"),
        ("cache_dir", os.devnull, r"CACHE_DIR=.* cannot be a folder"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "auto:cpu", "hetero:cpu"])
def test_wrong_properties(device, name, value, message):
    message = message.replace("CPU does", ".*CPU does")
    before = settings.get_properties()
    with keras.device(device):
        with pytest.raises(ValueError, match=message):
            keras_vino.configure({"num_streams": 2, name: value})
        with pytest.raises(ValueError, match=message):
            with keras_vino.configured(**{name: value}):
                raise AssertionError("is not reached")
    assert settings.get_properties() == before


@pytest.mark.parametrize("rate", [0.8, "0.8"])
def test_fractions_are_taken(rate):
    keras_vino.configure(cpu_sparse_weights_decompression_rate=rate)
    assert model_of().predict(normal(2, 16), verbose=0).shape == (2, 8)


def test_a_property_that_another_device_has_not():
    with keras.device("auto"):
        keras_vino.configure(schedule_policy="round_robin")
        assert model_of().predict(normal(2, 16), verbose=0).shape == (2, 8)
    with pytest.raises(ValueError, match="CPU does not take SCHEDULE_POLICY"):
        model_of().predict(normal(2, 16), verbose=0)


def test_scopes_of_properties_are_of_their_thread():
    entered, seen = threading.Event(), threading.Event()

    def inside():
        with keras_vino.configured(num_streams=2):
            entered.set()
            assert seen.wait(60)
            return dict(settings.get_properties())["NUM_STREAMS"]

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(inside)
        assert entered.wait(60)
        assert "NUM_STREAMS" not in dict(settings.get_properties())
        seen.set()
        assert future.result() == 2


def test_scopes_may_be_entered_again_and_by_others():
    before = settings.current_target()
    scope, device = keras_vino.configured(num_streams=2), keras.device("auto")
    entered, seen = threading.Event(), threading.Event()

    def beside():
        with keras_vino.configured(inference_num_threads=1), scope:
            entered.set()
            assert seen.wait(60)
        return settings.current_target()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with scope, device:
            future = pool.submit(beside)
            with device, scope:
                assert entered.wait(60)
            seen.set()
            assert future.result() == before
            assert settings.get_device() == "AUTO"
            assert dict(settings.get_properties())["NUM_STREAMS"] == 2
    assert settings.current_target() == before


def test_a_folder_has_to_be_a_path():
    with pytest.raises(ValueError, match="CACHE_DIR.*5"):
        keras_vino.configure(cache_dir=5)


def test_threads_predict_while_one_configures():
    model, x = model_of(), normal(4, 16)
    kernel, bias = model.get_weights()

    def work():
        for _ in range(20):
            np.testing.assert_allclose(
                model.predict_on_batch(x), x @ kernel + bias, 1e-4, 1e-5
            )

    in_threads_beside(
        lambda n: keras_vino.configure(inference_num_threads=1 + n % 2), work
    )


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"NUM_STREAMS": 2, "PERFORMANCE_HINT": "THROUGHPUT"}),
        "NUM_STREAMS=2,PERFORMANCE_HINT=THROUGHPUT",
        " num_streams = 2, performance_hint = throughput ",
    ],
)
def test_properties_of_the_environment(text, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_OPENVINO_CONFIG", text)
    monkeypatch.setenv("KERAS_OPENVINO_CACHE_DIR", str(tmp_path / "cache"))
    found = dict(settings.get_properties())
    assert int(found.pop("NUM_STREAMS")) == 2
    assert found == {
        "CACHE_DIR": str(tmp_path / "cache"),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    with keras_vino.configured(cache_dir=None, performance_hint=None):
        assert "CACHE_DIR" not in dict(settings.get_properties())


@pytest.mark.parametrize(
    "text, message",
    [
        ("NUM_STREAMS", "KERAS_OPENVINO_CONFIG in the environment must be"),
        ('{"NUM_STREAMS": ', "KERAS_OPENVINO_CONFIG in the environment must"),
        ("NOPE=1", "In the environment: CPU does not take NOPE=1"),
        ("NUM_STREAMS=x", "In the environment: CPU does not take NUM_STREAMS"),
    ],
)
def test_wrong_properties_of_the_environment(text, message, monkeypatch):
    monkeypatch.setenv("KERAS_OPENVINO_CONFIG", text)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            model_of().predict(normal(2, 16), verbose=0)


def test_other_backends_have_no_settings():
    code = "import keras_vino; keras_vino.configure(num_streams=1)"
    result = run(code, KERAS_BACKEND="numpy")
    assert result.error.startswith("RuntimeError: `keras_vino.configure`")
    code = "import keras_vino; keras_vino.nothing"
    assert run(code).error.startswith("AttributeError")
