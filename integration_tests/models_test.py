"""Whole models: what they predict, against Keras on JAX where it is there."""

import os
import subprocess
import sys

import numpy as np
import pytest

import keras
from keras import layers
from keras import ops


def mlp():
    return keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(64, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cnn():
    return keras.Sequential(
        [
            keras.Input((28, 28, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.SeparableConv2D(12, 3, dilation_rate=2, padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2DTranspose(6, 3, strides=2, padding="same"),
            layers.AveragePooling2D(3, padding="same"),
            layers.Conv2D(8, 3, groups=2, activation="swish"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    )


def mobile_net():
    # Without the top layer, whose answers for random weights say little.
    return keras.applications.MobileNetV3Small(
        weights=None, include_top=False, input_shape=(96, 96, 3), pooling="avg"
    )


def recurrent():
    inputs = keras.Input((None, 4))
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(inputs)
    return keras.Model(inputs, layers.GRU(5)(x))


def attention():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(50, 16)(inputs)
    x = layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True) + x
    return keras.Model(inputs, layers.Dense(3)(x))


def mel_spectrogram():
    inputs = keras.Input((None,))
    x = layers.MelSpectrogram(fft_length=256, sampling_rate=8000)(inputs)
    return keras.Model(inputs, x)


def stft_spectrogram():
    inputs = keras.Input((None, 1))
    x = layers.STFTSpectrogram(frame_length=200, fft_length=256)(inputs)
    return keras.Model(inputs, x)


RNG = np.random.default_rng(0)
MODELS = {
    mlp: RNG.normal(size=(33, 20)),
    cnn: RNG.uniform(0, 255, size=(5, 28, 28, 3)),
    mobile_net: RNG.uniform(0, 255, size=(3, 96, 96, 3)),
    recurrent: RNG.normal(size=(4, 7, 4)),
    attention: RNG.integers(0, 50, size=(3, 9)),
    mel_spectrogram: RNG.normal(size=(2, 4000)),
    stft_spectrogram: RNG.normal(size=(2, 3000, 1)),
}
PARAMETERS = [
    pytest.param(*item, id=item[0].__name__) for item in MODELS.items()
]

PEER = """
import sys
import keras, numpy as np
folder, *names = sys.argv[1:]
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    x = np.load(f"{folder}/{name}.npy")
    np.save(f"{folder}/{name}.out.npy", model.predict(x, verbose=0))
"""


def build(function):
    """The model with weights that are the same in every run and none zero."""
    keras.utils.set_random_seed(1)
    model = function()
    rng = np.random.default_rng(2)
    for variable in model.weights:
        if variable.dtype == "float32":
            spread = rng.uniform(0.5, 1.5, size=variable.shape)
            offset = 0.1 if "variance" not in variable.name else 0.5
            variable.assign(np.asarray(variable) * spread + offset * spread)
    return model


def as_input(x):
    return x.astype("float32" if x.dtype.kind == "f" else "int32")


@pytest.fixture(scope="module")
def from_jax(tmp_path_factory):
    """What Keras on JAX predicts with the very models."""
    pytest.importorskip("jax")
    folder = tmp_path_factory.mktemp("models")
    for function, x in MODELS.items():
        build(function).save(folder / f"{function.__name__}.keras")
        np.save(folder / f"{function.__name__}.npy", as_input(x))
    names = [function.__name__ for function in MODELS]
    subprocess.run(
        [sys.executable, "-c", PEER, str(folder), *names],
        env=dict(os.environ, KERAS_BACKEND="jax"),
        check=True,
    )
    return {name: np.load(folder / f"{name}.out.npy") for name in names}


@pytest.mark.parametrize("function, x", PARAMETERS)
def test_predict_agrees_with_jax(function, x, from_jax):
    result = build(function).predict(as_input(x), verbose=0)
    expected = from_jax[function.__name__]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("function, x", PARAMETERS)
def test_predict_agrees_with_the_model_run_op_by_op(function, x):
    model, x = build(function), as_input(x)
    result = model.predict(x, batch_size=2, verbose=0)
    expected = ops.convert_to_numpy(model(x))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5 * scale)


def test_set_weights_after_predict_changes_the_answer():
    model, x = build(mlp), as_input(MODELS[mlp])
    before = model.predict(x, verbose=0)
    model.set_weights([w * 0.5 for w in model.get_weights()])
    after = model.predict(x, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, ops.convert_to_numpy(model(x)), atol=1e-6)
    model.layers[0].kernel.assign(np.zeros((20, 64)))
    assert np.ptp(model.predict(x, verbose=0), axis=0).max() < 1e-6


def test_any_length_is_predicted():
    model = build(mel_spectrogram)
    for length in (4000, 5000, 256):
        x = RNG.normal(size=(1, length)).astype("float32")
        np.testing.assert_allclose(
            model.predict(x, verbose=0),
            ops.convert_to_numpy(model(x)),
            rtol=1e-3,
            atol=1e-3,
        )


def compiled_model():
    model = build(mlp)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_evaluate_is_the_mean_over_all_samples():
    model, x = compiled_model(), as_input(MODELS[mlp])
    y = RNG.integers(0, 10, size=len(x))
    p = ops.convert_to_numpy(model(x)).astype("float64")
    loss = -np.log(p[np.arange(len(x)), y]).mean()
    accuracy = (p.argmax(1) == y).mean()
    for _ in range(2):
        logs = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
        np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(logs["accuracy"], accuracy, rtol=1e-6)


def test_evaluate_with_sample_weights_and_eagerly():
    model, x = compiled_model(), as_input(MODELS[mlp])
    y = RNG.integers(0, 10, size=len(x))
    weights = RNG.uniform(size=len(x)).astype("float32")
    compiled = model.evaluate(x, y, sample_weight=weights, verbose=0)
    model.compile(loss=model.loss, metrics=["accuracy"], run_eagerly=True)
    eager = model.evaluate(x, y, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def test_batches():
    model, x = compiled_model(), as_input(MODELS[mlp])
    y = RNG.integers(0, 10, size=len(x))
    np.testing.assert_allclose(
        model.predict_on_batch(x), model.predict(x, verbose=0), rtol=1e-5
    )
    np.testing.assert_allclose(
        model.test_on_batch(x, y), model.evaluate(x, y, verbose=0), rtol=1e-5
    )


def test_several_steps_for_each_execution():
    model, x = compiled_model(), as_input(MODELS[mlp])
    expected = model.predict(x, verbose=0)
    model.compile(loss=model.loss, steps_per_execution=3)
    result = model.predict(x, batch_size=4, verbose=0)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_several_inputs_and_outputs():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model({"a": a, "b": b}, {"sum": a + b, "rest": [a - b, a]})
    x = {"a": np.ones((5, 3)), "b": np.full((5, 3), 2.0)}
    result = model.predict(x, batch_size=2, verbose=0)
    np.testing.assert_array_equal(result["sum"], x["a"] + x["b"])
    np.testing.assert_array_equal(result["rest"][0], x["a"] - x["b"])
    np.testing.assert_array_equal(result["rest"][1], x["a"])


def test_a_subclass_is_built_by_predict():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2, kernel_initializer="ones")

        def call(self, x, training=True):
            return self.dense(x) * (0.0 if training else 1.0)

    x = np.ones((4, 3), "float32")
    np.testing.assert_array_equal(
        Model().predict(x, verbose=0), np.full((4, 2), 3)
    )


def test_mixed_precision_infers_in_that_precision():
    x = RNG.normal(size=(16, 128)).astype("float32")
    for policy, tolerance in (
        ("mixed_bfloat16", 3e-2),
        ("mixed_float16", 4e-3),
    ):
        model = keras.Sequential(
            [
                keras.Input((128,)),
                layers.Dense(32, dtype=policy),
                layers.Dense(4, dtype="float32"),
            ]
        )
        result = model.predict(x, verbose=0)
        h = x.astype("float64")
        for kernel, bias in (model.get_weights()[:2], model.get_weights()[2:]):
            h = h @ kernel + bias
        scale = np.abs(h).max()
        np.testing.assert_allclose(result, h, atol=tolerance * scale)
        assert np.abs(result - h).max() > 1e-6 * scale


def test_no_other_framework_is_needed():
    code = """
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "tensorflow", "torch"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent)
import keras, numpy as np
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
x = np.ones((4, 3))
assert model.predict(x, verbose=0).shape == (4, 2)
model.compile("sgd", "mse")
losses = model.fit(x, x[:, :2], epochs=2, verbose=0).history["loss"]
assert losses[1] < losses[0]
assert abs(float(keras.ops.log10(100.0)) - 2) < 1e-6
"""
    subprocess.run([sys.executable, "-c", code], check=True)
