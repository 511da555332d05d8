import gc
import weakref

import numpy as np
import openvino as ov
import pytest

import keras
from keras import layers
from keras import ops
from keras.src import tree
from keras.src.backend.openvino.custom import Operation
from keras.src.export.openvino import export_openvino
from keras.src.export.openvino import input_leaves


def normal(*shape):
    return (
        np.random.default_rng(len(shape)).normal(size=shape).astype("float32")
    )


def exported(model, folder, **kwargs):
    path = folder / "model.xml"
    model.export(path, format="openvino", verbose=False, **kwargs)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(path, "CPU", exact)


def check(model, folder, *inputs, atol=1e-5):
    """Compare the file with `predict`, for inputs of several shapes."""
    compiled = exported(model, folder)
    for x in inputs:
        results = compiled([leaf for _, leaf in input_leaves(x)])
        wanted = tree.flatten(model.predict(x, verbose=0))
        assert len(compiled.outputs) == len(wanted)
        for i, value in enumerate(wanted):
            assert results[i].dtype == value.dtype
            np.testing.assert_allclose(results[i], value, atol=atol, rtol=1e-4)
    return compiled


def names(ports):
    return [port.any_name for port in ports]


def batches(*shape):
    return [normal(size, *shape) for size in (1, 5, 2)]


def mlp():
    hidden = layers.Dense(8, "relu")
    return keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3)])


def test_an_mlp(tmp_path):
    compiled = check(mlp(), tmp_path, *batches(6))
    assert compiled.input(0).partial_shape.to_string() == "[?,6]"
    assert {p.name for p in tmp_path.iterdir()} == {"model.xml", "model.bin"}


def test_a_cnn_with_flatten(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(5, 3, padding="same", strides=2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(7, "softmax"),
        ]
    )
    check(model, tmp_path, *batches(12, 12, 3))


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("length", [4, None])
def test_a_recurrent_network(layer, length, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((length, 3)),
            layers.Bidirectional(getattr(layers, layer)(4, return_sequences=1)),
            getattr(layers, layer)(5),
        ]
    )
    shapes = [(2, 4, 3), (5, 4, 3)] if length else [(2, 4, 3), (3, 7, 3)]
    check(model, tmp_path, *(normal(*shape) for shape in shapes))


def test_a_spectrogram_of_any_length(tmp_path):
    x = keras.Input((None,))
    y = layers.MelSpectrogram(64, 32, num_mel_bins=8, sampling_rate=800)(x)
    model = keras.Model(x, y)
    check(model, tmp_path, normal(2, 400), normal(1, 999), atol=1e-3)


def test_text_of_any_length(tmp_path):
    x = keras.Input((None,), dtype="int32")
    h = layers.Embedding(10, 8)(x)
    h = layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 4)(h, h))
    model = keras.Model(x, layers.GlobalAveragePooling1D()(h))
    tokens = np.arange(12, dtype="int32") % 10
    check(model, tmp_path, tokens.reshape(2, 6), tokens.reshape(4, 3))


def test_dicts_of_inputs_and_outputs(tmp_path):
    q, d = keras.Input((4,), name="q"), keras.Input((None, 4), name="d")
    scores = ops.sum(q[:, None] * d, axis=-1)
    model = keras.Model(
        {"q": q, "d": d}, {"scores": scores, "best": ops.argmax(scores, -1)}
    )
    compiled = check(
        model,
        tmp_path,
        {"q": normal(2, 4), "d": normal(2, 3, 4)},
        {"q": normal(5, 4), "d": normal(5, 7, 4)},
    )
    assert names(compiled.inputs) == ["q", "d"]
    assert names(compiled.outputs) == ["best", "scores"]
    (operation,) = [
        x.get_node() for x in compiled.inputs if "q" in x.get_names()
    ]
    assert operation.get_friendly_name() == "q"


def test_lists_of_inputs_and_outputs(tmp_path):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(2, name="shared")
    model = keras.Model([a, b], [shared(a), [shared(b)]])
    inputs = [[normal(n, 4), 2 * normal(n, 4)] for n in (1, 3)]
    compiled = check(model, tmp_path, *inputs)
    assert names(compiled.inputs) == ["a", "b"]
    assert names(compiled.outputs) == ["shared", "shared_1"]
    # The same signature without the list around it.
    specs = [keras.InputSpec(shape=(None, 4), dtype="float32") for _ in "ab"]
    assert len(exported(model, tmp_path, input_signature=specs).inputs) == 2


def test_equal_keys_of_a_nested_structure(tmp_path):
    class Nested(keras.Model):
        def call(self, inputs):
            (first,), second = inputs["left"], inputs["right"]["x"]
            return {"x": first["x"] - second, "sum": (first["x"] + second,)}

    model = Nested()
    inputs = [
        {"left": [{"x": normal(n, 4)}], "right": {"x": 3 * normal(n, 4)}}
        for n in (1, 3)
    ]
    model(inputs[0])
    compiled = check(model, tmp_path, *inputs)
    assert names(compiled.inputs) == ["x", "x_1"]
    assert names(compiled.outputs) == ["sum", "x_2"]


def test_positional_arguments_of_a_subclass(tmp_path):
    class Affine(keras.Model):
        def build(self, x_shape, scale_shape):
            self.dense = layers.Dense(4)

        def call(self, x, scale, training=False):
            assert training is False
            return self.dense(x) * scale

    model = Affine()
    model(normal(2, 3), normal(2, 4))
    compiled = exported(model, tmp_path)
    assert names(compiled.inputs) == ["x", "scale"]
    for n in (1, 5):
        x, scale = normal(n, 3), normal(n, 4)
        result = compiled([x, scale])[0]
        np.testing.assert_allclose(result, model(x, scale), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy, tmp_path):
    dtype = keras.DTypePolicy(policy)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, dtype=dtype), layers.Dense(2)]
    )
    check(model, tmp_path, *batches(6), atol=2e-2)


def test_outputs_that_are_inputs_or_the_same(tmp_path):
    x = keras.Input((3, 4), name="x")
    y = layers.Dense(2, name="y")(x)
    there_and_back = layers.Permute((2, 1))(layers.Permute((2, 1))(x))
    model = keras.Model(x, [x, y, y, there_and_back, there_and_back])
    compiled = check(model, tmp_path, *batches(3, 4))
    assert len(set(names(compiled.outputs + compiled.inputs))) == 6
    assert [port.names for port in compiled.inputs] == [{"x"}]
    assert [port.names for port in compiled.outputs][:3] == [
        {"x_1"},
        {"y"},
        {"y_1"},
    ]
    # Each has a memory of its own.
    data = normal(2, 3, 4)
    request = compiled.create_infer_request()
    tensors = [ov.Tensor(ov.Type.f32, [2, 3, n]) for n in (4, 2, 2, 4, 4)]
    request.set_input_tensor(0, ov.Tensor(data))
    for i, tensor in enumerate(tensors):
        request.set_output_tensor(i, tensor)
    request.infer()
    for tensor, value in zip(tensors, model.predict(data, verbose=0)):
        np.testing.assert_allclose(tensor.data, value, atol=1e-5)


def test_outputs_that_do_not_depend_on_inputs(tmp_path):
    class Constants(keras.Model):
        def call(self, x):
            return {"x": x * 2, "two": ops.ones(3) * 2, "none": None}

    model = Constants()
    model(normal(2, 3))
    compiled = exported(model, tmp_path)
    results = compiled(3 * normal(5, 3))
    np.testing.assert_array_equal(results["two"], [2, 2, 2])
    assert results[1].shape == (5, 3)


def test_signatures(tmp_path):
    def shape(signature):
        compiled = exported(mlp(), tmp_path, input_signature=signature)
        return compiled.input(0).partial_shape.to_string()

    spec = keras.InputSpec(shape=(4, 6), dtype="float32")
    assert shape(spec) == shape([spec]) == "[4,6]"
    assert shape([keras.Input((6,))]) == "[?,6]"
    assert shape([ops.ones((2, 6))]) == "[?,6]"


def test_weights_are_those_of_the_export(tmp_path):
    model = mlp()
    check(model, tmp_path, *batches(6))
    model.set_weights([w + 1 for w in model.get_weights()])
    check(model, tmp_path, *batches(6))


def test_prints_where_it_was_saved(tmp_path, capsys):
    keras.config.enable_interactive_logging()
    path = tmp_path / "model.xml"
    export_openvino(mlp(), path, verbose=False)
    assert "model.xml" not in capsys.readouterr().out
    export_openvino(mlp(), str(path))
    assert str(path) in capsys.readouterr().out


def test_refuses_another_ending(tmp_path):
    with pytest.raises(ValueError, match="end with '.xml'"):
        export_openvino(mlp(), tmp_path / "model.onnx")


class Lambda(keras.Model):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def refused(function, folder):
    model = Lambda(function)
    model(normal(2, 3, 3))
    with pytest.raises(Exception) as error:
        export_openvino(model, folder / "model.xml")
    assert not any(folder.iterdir())
    return error


@pytest.mark.parametrize(
    "function",
    [
        ops.det,
        lambda x: ops.fori_loop(0, 3, lambda i, x: x * ops.det(x)[0], x),
        lambda x: ops.cond(x[0, 0, 0] > 0, lambda: ops.det(x), lambda: x[0, 0]),
    ],
)
def test_refuses_what_runs_in_python(function, tmp_path):
    error = refused(function, tmp_path)
    assert error.type is NotImplementedError
    assert "OpenVINO IR cannot hold Det" in str(error.value)


def test_what_is_refused_is_freed(tmp_path, monkeypatch):
    made = []
    initialize = Operation.__init__

    def init(self, *args):
        initialize(self, *args)
        made.append(weakref.ref(self))

    monkeypatch.setattr(Operation, "__init__", init)
    refused(ops.det, tmp_path)
    gc.collect()
    assert made and not any(operation() for operation in made)


def test_refuses_state(tmp_path):
    counter = keras.Variable(0, name="counter")
    error = refused(lambda x: x + counter.assign_add(1), tmp_path)
    assert error.type is NotImplementedError
    assert "assigns variables" in str(error.value)


def test_says_which_shapes_it_could_not_trace(tmp_path):
    error = refused(lambda x: x * int(ops.shape(x)[0]), tmp_path)
    assert "[(None, 3, 3)]" in "".join(error.value.__notes__)


def test_a_layer_that_needs_a_dim_is_refused_where_it_is_open(tmp_path):
    inputs = layers.Input((None, 3))
    steps = layers.TimeDistributed(layers.Dense(4), name="steps")
    model = keras.Model(inputs, steps(inputs))
    with pytest.raises(ValueError, match="symbolic tensor") as error:
        exported(model, tmp_path)
    assert "`input_signature`" in "".join(error.value.__notes__)
    signature = [layers.InputSpec(shape=(None, 5, 3), dtype="float32")]
    compiled = exported(model, tmp_path, input_signature=signature)
    x = normal(2, 5, 3)
    np.testing.assert_allclose(
        compiled([x])[0], model.predict(x, verbose=0), atol=1e-5
    )


def test_dims_that_a_call_asks_for(tmp_path):
    """They are numbers to it where they are known, and tensors elsewhere."""

    def halves(x):
        batch, steps, features = x.shape
        assert None not in (batch, steps, features)
        x = ops.reshape(x, (batch, steps * features))
        return x[:, : x.shape[1] // 2]

    inputs = layers.Input((None, 2))
    outputs = layers.Lambda(halves, output_shape=(None,))(inputs)
    model = keras.Model(inputs, outputs)
    for steps in (1, 4):
        x = normal(3, steps, 2)
        expected = x.reshape(3, -1)[:, :steps]
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    compiled = exported(model, tmp_path)
    for batch, steps in [(1, 1), (3, 4), (4, 3)]:
        x = normal(batch, steps, 2)
        expected = x.reshape(batch, -1)[:, :steps]
        np.testing.assert_array_equal(compiled([x])[0], expected)


def test_names_of_nested_outputs(tmp_path):
    x = keras.Input((2,), name="x")
    outputs = {"pair": [x + 1, x + 2], "one": x}
    compiled = check(keras.Model(x, outputs), tmp_path, *batches(2))
    assert names(compiled.outputs) == ["one", "pair", "pair_1"]


def test_a_sequential_model_has_the_names_of_its_functional_one(tmp_path):
    model = keras.Sequential(
        [keras.Input((2,), name="x"), layers.Dense(3, name="head")]
    )
    compiled = check(model, tmp_path, *batches(2))
    assert names(compiled.inputs) == ["x"]
    assert names(compiled.outputs) == ["head"]


@pytest.mark.parametrize("format", ["tf_saved_model", "litert", "torch"])
def test_formats_of_other_backends(format, tmp_path):
    with pytest.raises(ValueError, match="(?i)tensorflow|torch"):
        mlp().export(tmp_path / "model", format=format)


def test_a_saved_model_is_refused_with_the_way_to_get_one():
    with pytest.raises(ValueError, match="format='openvino'.*KERAS_BACKEND"):
        keras.export.ExportArchive()
