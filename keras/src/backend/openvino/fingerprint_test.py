import functools
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import keras
from keras.src import layers
from keras.src.backend.openvino import fingerprint
from keras.src.backend.openvino.fingerprint import Fingerprint
from keras.src.backend.openvino.fingerprint import Unknown
from keras.src.utils import traceback_utils

MODEL = """
import os
os.environ["KERAS_BACKEND"] = "openvino"
import keras
from keras import layers
from keras.src.backend.openvino.fingerprint import Fingerprint
keras.utils.set_random_seed(0)
x = keras.Input((None,), dtype="int32")
y = layers.Embedding(9, 8)(x)
y = layers.MultiHeadAttention(2, 4)(y, y) + 1
y = layers.LSTM(4)(layers.Dropout(0.5)(y))
model = keras.Model(x, {"b": y, "a": [layers.BatchNormalization()(y)]})
"""


def model_of(*more):
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dropout(0.5, name="dropout"),
            layers.Flatten(),
            layers.Dense(5, activation="gelu", name="dense"),
            *more,
        ]
    )


def digest(model, *others):
    return Fingerprint(model.predict_step, *others).digest


def test_it_is_the_same_in_other_processes():
    code = MODEL + "print(Fingerprint(model.predict_step).digest)"
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for hashing in ("0", "1")
    )
    assert first == second and len(first.strip()) == 64


def test_models_alike_have_one():
    assert digest(model_of()) == digest(model_of())
    model = model_of()
    before = digest(model)
    model.predict(np.ones((2, 6, 6, 3)), verbose=0)
    assert digest(model) == before
    kernel = model.get_layer("dense").kernel
    kernel.assign(np.asarray(kernel))
    assert digest(model) == before


def set_weight(model):
    weights = model.get_weights()
    weights[-1].flat[-1] = np.nextafter(weights[-1].flat[-1], 1)
    model.set_weights(weights)


def swap_weights(model):
    norm = model.get_layer("norm")
    norm.set_weights([norm.get_weights()[i] for i in (1, 0, 2, 3)])


def negate_zero(model):
    model.get_layer("dense").bias.assign(np.full(5, -0.0))


def attribute(layer, name, value):
    def change(model):
        setattr(model.get_layer(layer), name, value)

    change.__name__ = f"{layer}_{name}"
    return change


@pytest.mark.parametrize(
    "change",
    [
        set_weight,
        swap_weights,
        negate_zero,
        attribute("conv", "padding", "same"),
        attribute("conv", "strides", (2, 2)),
        attribute("norm", "epsilon", 0.1),
        attribute("norm", "trainable", False),
        attribute("relu", "max_value", 1.0),
        attribute("relu", "loss", 1.0),  # it is no model
        attribute("dense", "activation", keras.activations.relu),
        attribute("dense", "activation", None),
        attribute("dense", "use_bias", False),
        attribute("dense", "dtype_policy", keras.DTypePolicy("mixed_bfloat16")),
        lambda model: model.get_layer("dense").quantize("int8"),
        lambda model: model.get_layer("dense").enable_lora(1),
        lambda model: model.pop(),
        lambda model: model.add(layers.Dense(5, name="last")),
        lambda model: model.add(layers.Softmax()),
    ],
)
def test_what_is_not_alike_has_another(change):
    model = model_of()
    before = digest(model)
    change(model)
    assert digest(model) != before


def test_the_graph_counts():
    x, y = keras.Input((4,)), keras.Input((4,))
    assert digest(keras.Model([x, y], x - y)) != digest(
        keras.Model([x, y], y - x)
    )


def test_settings_and_arguments_count():
    model = model_of()
    found = {digest(model), digest(model, 1), digest(model, True, "a")}
    found |= {digest(model, ["a", None]), digest(model, ["a"], None)}
    for name, value in {
        "floatx": "float16",
        "epsilon": 1e-3,
        "image_data_format": "channels_first",
    }.items():
        before = getattr(keras.config, name)()
        getattr(keras.config, f"set_{name}")(value)
        try:
            found.add(digest(model))
        finally:
            getattr(keras.config, f"set_{name}")(before)
    assert len(found) == 8


class Own(layers.Layer):
    def call(self, x):
        return x


class OwnModel(keras.Model):
    pass


def own_model():
    model = model_of()
    return OwnModel(model.inputs, model.outputs)


def own_method():
    model = model_of()
    model.get_layer("relu").call = lambda x: x
    return model


def own_step():
    model = model_of()
    model.predict_step = lambda data: data
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: model_of(Own()),
        lambda: model_of(layers.Lambda(lambda x: x)),
        lambda: model_of(layers.Activation(lambda x: x)),
        own_model,
        own_method,
    ],
)
def test_what_others_write_is_unknown(build):
    with pytest.raises(Unknown):
        digest(build())


@pytest.mark.parametrize("kind", [layers.ReLU, layers.Layer])
def test_classes_that_others_change_are_unknown(kind, monkeypatch):
    model = model_of()
    digest(model)
    monkeypatch.setattr(kind, "call", lambda self, x: x + 1)
    with pytest.raises(Unknown):
        digest(model)


def wrapped(call):
    @functools.wraps(call)
    def doubled(self, x):
        return 2 * call(self, x)

    return doubled


@pytest.mark.parametrize(
    "name, change",
    [
        ("call", wrapped),
        ("call", lambda call: traceback_utils.filter_traceback(wrapped(call))),
        ("max_value", lambda _: property(lambda self: 6.0)),
        ("max_value", lambda _: functools.cached_property(lambda self: 6.0)),
        ("call", lambda call: functools.partialmethod(call)),
    ],
)
def test_methods_that_others_wrap_are_unknown(name, change, monkeypatch):
    model = model_of()
    new = change(vars(layers.ReLU).get(name))
    monkeypatch.setattr(layers.ReLU, name, new, raising=False)
    with pytest.raises(Unknown):
        digest(model)


def test_a_method_of_another_class_counts(monkeypatch):
    model = model_of()
    before = digest(model)
    monkeypatch.setattr(layers.ReLU, "call", layers.Identity.call)
    assert digest(model) != before


def test_the_code_of_methods_counts(monkeypatch):
    def call(self, inputs, training=None):
        return inputs

    model = model_of()
    found = {digest(model)}
    call = call.__code__
    # As an edited file has it: another body in the same place.
    before = layers.Dense.call.__code__
    place = {
        name: getattr(before, name)
        for name in ("co_filename", "co_firstlineno", "co_qualname", "co_name")
    }
    monkeypatch.setattr(layers.Dense.call, "__code__", call.replace(**place))
    found.add(digest(model))
    monkeypatch.setattr(layers.Dense.call, "__defaults__", (True,))
    found.add(digest(model))
    monkeypatch.setattr(layers.Dense.call, "__kwdefaults__", {"training": 1})
    found.add(digest(model))
    assert len(found) == 4


def test_the_code_of_functions_counts(monkeypatch):
    function = keras.activations.hard_sigmoid
    model = model_of(layers.Activation(function))
    found = {digest(model)}
    monkeypatch.setattr(function, "__defaults__", (1,))
    found.add(digest(model))
    code = function.__code__
    names = tuple("relu" if x == "hard_sigmoid" else x for x in code.co_names)
    assert names != code.co_names
    monkeypatch.setattr(function, "__code__", code.replace(co_names=names))
    found.add(digest(model))
    assert len(found) == 3


def test_code_within_code_counts():
    def function(x, factor):
        return [y * factor + (1, 2.0)[0] for y in x if y in {"a", "b"}]

    code = function.__code__
    (inner,) = [x for x in code.co_consts if hasattr(x, "co_code")]
    found = {fingerprint._instructions(code)}
    for name, value in ("co_names", ("other",)), ("co_consts", (3,)):
        changed = inner.replace(**{name: value})
        constants = [changed if x is inner else x for x in code.co_consts]
        changed = code.replace(co_consts=tuple(constants))
        found.add(fingerprint._instructions(changed))
    assert len(found) == 3


@pytest.mark.parametrize("kind", [layers.ReLU, layers.Layer])
@pytest.mark.parametrize("value", [2.0, "a", [1, (2, None)], {"a": {1}}])
def test_attributes_of_classes_count(kind, value, monkeypatch):
    model = model_of()
    before = digest(model)
    monkeypatch.setattr(kind, "factor", value, raising=False)
    assert digest(model) != before


@pytest.mark.parametrize("value", [np.ones(2), [np.ones(2)], Own])
def test_other_attributes_of_classes_are_unknown(value, monkeypatch):
    model = model_of()
    monkeypatch.setattr(layers.ReLU, "factor", value, raising=False)
    with pytest.raises(Unknown):
        digest(model)


def test_files_of_keras_count(tmp_path, monkeypatch):
    def found():
        fingerprint._installed.cache_clear()
        return fingerprint._installed()

    before = found()
    folders = fingerprint._folders
    monkeypatch.setattr(
        fingerprint, "_folders", lambda name: [*folders(name), str(tmp_path)]
    )
    file = tmp_path / "layers" / "dense.py"
    file.parent.mkdir()
    states = [before]
    for text in ("a = 1", "a = 10"):
        file.write_text(text)
        states.append(found())
        assert found() == states[-1]
    os.utime(file, (1, 1))
    states.append(found())
    assert len(set(states)) == 4
    monkeypatch.undo()
    assert found() == before


HUB = """
first = Fingerprint(model.predict_step).digest
import keras_hub
assert Fingerprint(model.predict_step).digest == first
x = keras.Input((3, 8))
y = keras_hub.layers.TransformerEncoder(8, 2)(x)
print(Fingerprint(keras.Model(x, y).predict_step).digest)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="needs KerasHub"
)
def test_kerashub_may_be_imported_later():
    result = subprocess.run(
        [sys.executable, "-c", MODEL + HUB], stdout=subprocess.PIPE, check=True
    )
    assert len(result.stdout.strip()) == 64


def test_variables_of_ones_own_are_unknown():
    class Own(keras.Variable):
        pass

    model = model_of()
    dense = model.get_layer("dense")
    dense._tracker.unlock()
    dense._kernel = Own(dense.kernel.numpy())
    with pytest.raises(Unknown):
        digest(model)


def test_a_step_of_ones_own_is_unknown():
    with pytest.raises(Unknown):
        Fingerprint(own_step().predict_step)


def test_variables_come_in_an_order():
    first, second = (Fingerprint(model_of().predict_step) for _ in range(2))
    paths = [read.variable.path for read in first.read]
    assert paths == [read.variable.path for read in second.read]
    assert len(set(paths)) == len(paths) == 9  # with the seed of the dropout
