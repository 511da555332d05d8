import contextlib
import functools
import gc
import json
import os
import shutil
import threading
import weakref

import numpy as np
import openvino as ov
import pytest

import keras
from keras import layers
from keras import ops
from keras.src import tree
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.custom import Operation
from keras.src.backend.openvino.export import compress
from keras.src.backend.openvino.export import trace
from keras.src.export.openvino import export_openvino
from keras.src.export.openvino_utils import arguments_of
from keras.src.export.openvino_utils import input_leaves
from keras.src.export.openvino_utils import write_ir


def normal(*shape):
    return (
        np.random.default_rng(len(shape)).normal(size=shape).astype("float32")
    )


def spec(*shape, dtype="float32", **kwargs):
    return keras.InputSpec(shape=shape, dtype=dtype, **kwargs)


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_ports_of_dtypes_that_numpy_lacks_are_float32(dtype, tmp_path):
    x = keras.Input((3,), dtype=dtype)
    y = ops.cast(ops.cast(x, "float32") * 3, dtype)
    model = keras.Model(x, {"input": x, "y": y})
    compiled = exported(model, tmp_path)
    given = np.float32([[1, 1.01, -1.5], [0, 3, 100]])
    rounded = given.astype(dtype)
    results = compiled(given)
    np.testing.assert_array_equal(results[0], rounded.astype("float32"))
    expected = (rounded.astype("float32") * 3).astype(dtype)
    np.testing.assert_array_equal(results["y"], expected.astype("float32"))
    ports = [*compiled.inputs, *compiled.outputs]
    assert {port.element_type for port in ports} == {ov.Type.f32}


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_a_model_that_ends_in_bfloat16(policy, tmp_path):
    dense = layers.Dense(4, dtype=policy)
    model = keras.Sequential([keras.Input((6,)), dense])
    compiled = exported(model, tmp_path)
    for x in batches(6):
        wanted = model.predict(x, verbose=0)
        assert wanted.dtype.name == "bfloat16"
        result = compiled(x)[0]
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, wanted.astype("float32"))


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

    assert shape(spec(4, 6)) == shape([spec(4, 6)]) == "[4,6]"
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


@pytest.mark.parametrize("format", ["litert", "torch"])
def test_formats_of_other_backends(format, tmp_path):
    with pytest.raises(ValueError, match="(?i)tensorflow|torch"):
        mlp().export(tmp_path / "model", format=format)


@pytest.mark.parametrize("options", [{}, {"format": "onnx"}])
def test_other_formats_are_refused_with_the_way_to_get_one(options, tmp_path):
    match = "format='openvino'.*KERAS_BACKEND"
    with pytest.raises(NotImplementedError, match=match):
        mlp().export(tmp_path / "model", **options)
    assert not any(tmp_path.iterdir())


def test_arguments_of_other_backends_are_refused(tmp_path):
    with pytest.raises(ValueError, match="takes no .'is_static'"):
        export_openvino(mlp(), tmp_path / "model.xml", is_static=True)


def test_images_that_are_prepared(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3), dtype="uint8"),
            layers.Resizing(8, 6),
            layers.CenterCrop(6, 6),
            layers.Rescaling(1 / 255),
            layers.Normalization(mean=[0.5, 0.4, 0.3], variance=[0.1, 0.2, 1]),
            layers.Conv2D(2, 3),
        ]
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 11, 3), "uint8")
    check(model, tmp_path, images, images[:1, :7])


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_text_with_padding(layer, tmp_path):
    x = keras.Input((None,), dtype="int32")
    h = layers.Embedding(10, 4, mask_zero=True)(x)
    h = layers.Bidirectional(getattr(layers, layer)(3, return_sequences=1))(h)
    model = keras.Model(x, [getattr(layers, layer)(3)(h), h])
    tokens = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]], "int32")
    check(model, tmp_path, tokens, tokens[1:, :3])


def test_lists_in_dicts(tmp_path):
    pair = [keras.Input((2,), name="a"), keras.Input((2,), name="b")]
    one = keras.Input((3,))
    model = keras.Model(
        {"pair": pair, "one": one},
        {"sums": [pair[0] + pair[1], pair[1]], "one": one * 2},
    )
    inputs = [
        {"pair": [normal(n, 2), 2 * normal(n, 2)], "one": normal(n, 3)}
        for n in (1, 4)
    ]
    compiled = check(model, tmp_path, *inputs)
    assert names(compiled.inputs) == ["a", "b", "one"]
    assert names(compiled.outputs) == ["one_1", "sums", "sums_1"]
    # Specs without names have those of the model.
    signature = [{"pair": [spec(4, 2), spec(4, 2)], "one": spec(4, 3)}]
    compiled = exported(model, tmp_path, input_signature=signature)
    assert names(compiled.inputs) == ["a", "b", "one"]
    assert compiled.input(0).partial_shape.to_string() == "[4,2]"


def test_a_list_of_a_subclass_has_its_key(tmp_path):
    class Nested(keras.Model):
        def call(self, inputs):
            return inputs["pair"][0] - inputs["pair"][1]

    model = Nested()
    inputs = {"pair": [normal(2, 4), 3 * normal(2, 4)]}
    model(inputs)
    compiled = check(model, tmp_path, inputs)
    assert names(compiled.inputs) == ["pair", "pair_1"]


def test_the_error_names_layer_and_operation(tmp_path):
    def in_a_loop(x):
        return ops.fori_loop(0, 3, lambda i, x: x * ops.det(x)[0], x)

    x = keras.Input((3, 3))
    model = keras.Model(x, layers.Lambda(in_a_loop, name="looped")(x))
    with pytest.raises(NotImplementedError, match="Det of looped"):
        exported(model, tmp_path)
    noise = layers.Lambda(
        lambda x: x + keras.random.normal(ops.shape(x), seed=1), name="noise"
    )
    model = keras.Model(x, noise(x))
    with pytest.raises(NotImplementedError, match="Random of noise"):
        exported(model, tmp_path)
    assert not any(tmp_path.iterdir())


def test_state_of_recurrent_layers_is_refused(tmp_path):
    x = keras.Input((4, 3), batch_size=2)
    model = keras.Model(x, layers.LSTM(5, stateful=True)(x))
    with pytest.raises(NotImplementedError, match="assigns variables"):
        exported(model, tmp_path, input_signature=[spec(2, 4, 3)])


def test_batch_normalization_has_its_moving_statistics(tmp_path):
    layer = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), layer])
    rng = np.random.default_rng(0)
    gamma, beta, mean, variance = rng.uniform(1, 2, (4, 3)).astype("float32")
    layer.set_weights([gamma, beta, mean, variance])
    x = normal(5, 3)
    expected = (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta
    result = exported(model, tmp_path)(x)[0]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_weights_are_shared_and_not_copied():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(32)])
    ov_model = trace("m", model, arguments_of(model, spec(None, 64)))
    (kernel, _) = model.variables
    shared = np.asarray(kernel.value).ctypes.data
    assert shared in [
        rewriting.address(node)
        for node in ov_model.get_ops()
        if node.get_type_name() == "Constant"
    ]


# ------------------------------------------------------------------- float16


def constants(path):
    model = ov.Core().read_model(path)
    nodes = model.get_ordered_ops()
    return [x for x in nodes if x.get_type_name() == "Constant"]


def test_weights_in_float16(tmp_path):
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(256, "tanh"), layers.Dense(64)]
    )
    x = normal(7, 64)
    exported(model, tmp_path)
    size = (tmp_path / "model.bin").stat().st_size
    compiled = exported(model, tmp_path, compress_to_fp16=True)
    assert (tmp_path / "model.bin").stat().st_size < 0.6 * size
    result = compiled(x)[0]
    assert result.dtype == np.float32
    rounded = [
        w.astype("float16").astype("float32") if w.ndim > 1 else w
        for w in model.get_weights()
    ]
    first, bias, last, offset = rounded
    expected = np.tanh(x @ first + bias) @ last + offset
    np.testing.assert_allclose(result, expected, atol=1e-5)
    # The model has its weights as before.
    check(model, tmp_path, x)


@pytest.mark.parametrize("scale", [12345.0, 1e6, 1e-6, np.nan])
def test_weights_that_float16_does_not_hold(scale, tmp_path):
    kernel = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    weights = [w + np.float32(scale) for w in kernel.get_weights()]
    weights[0] = np.full_like(weights[0], scale)
    kernel.set_weights(weights)
    x = normal(2, 4)
    result = exported(kernel, tmp_path, compress_to_fp16=True)(x)[0]
    np.testing.assert_allclose(result, x @ weights[0] + weights[1], rtol=1e-5)


def test_shapes_and_epsilons_in_float16(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Resizing(7, 5),
            layers.LayerNormalization(epsilon=1e-12),
            layers.Conv2D(4, 3),
        ]
    )
    x = np.ones((1, 10, 9, 3), "float32")
    result = exported(model, tmp_path, compress_to_fp16=True)(x)[0]
    np.testing.assert_allclose(result, model.predict(x, verbose=0), atol=1e-2)


def test_packed_constants_stay_packed(tmp_path):
    weights = np.random.default_rng(0).integers(0, 16, (64, 64), "uint8")
    packed = ov.Tensor(weights.reshape(-1)[: 64 * 32], [64, 64], ov.Type.u4)
    x = ov.opset16.parameter([-1, 64], np.float32)
    packed = ov.opset16.constant(packed)
    real = ov.opset16.multiply(
        ov.opset16.convert(packed, "f32"), np.full((1, 64), 0.5, "float32")
    )
    y = ov.opset16.matmul(x, real, False, False)
    model = ov.Model([y], [x], "packed")
    compress(model)
    write_ir(model, tmp_path / "model.xml")
    types = [
        x.get_output_element_type(0) for x in constants(tmp_path / "model.xml")
    ]
    assert sorted(map(str, types)) == sorted(
        map(str, [ov.Type.u4, ov.Type.f16])
    )
    assert (tmp_path / "model.bin").stat().st_size < 64 * 64


# --------------------------------------------------------------------- files


def contents(folder):
    return {x.name: x.read_bytes() for x in folder.iterdir() if x.is_file()}


def test_a_failure_leaves_the_older_files(tmp_path, monkeypatch):
    model = mlp()
    exported(model, tmp_path)
    before = contents(tmp_path)

    def fail(ov_model, path, **kwargs):
        path.write_text("half")
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(ov, "save_model", fail)
    with pytest.raises(OSError, match="cannot write 'model.xml'"):
        exported(model, tmp_path)
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_leaves_the_older_files(tmp_path):
    resource = pytest.importorskip("resource")
    exported(mlp(), tmp_path)
    before = contents(tmp_path)
    large = keras.Sequential([keras.Input((100,)), layers.Dense(1000)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match="cannot write"):
            exported(large, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 2


def pairs_at_each_step(folder, monkeypatch, fails_at=None):
    """What the folder has after each file is moved while a model is written."""
    replace, seen = os.replace, []

    def watched(source, target):
        if len(seen) == fails_at:
            seen.append(None)
            raise PermissionError("It is open elsewhere.")
        replace(source, target)
        seen.append(contents(folder))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", watched)
        with contextlib.suppress(PermissionError):
            exported(mlp(), folder)
    return seen


def test_files_of_two_models_are_never_together(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    exported(mlp(), tmp_path / "whole")
    before = contents(tmp_path / "whole")
    seen = pairs_at_each_step(tmp_path / "whole", monkeypatch)
    after = contents(tmp_path / "whole")
    assert len(seen) == 4 and seen[-1] == after != before
    for files in seen:
        assert files in (before, after) or "model.xml" not in files
    for step in range(4):
        folder = tmp_path / str(step)
        folder.mkdir()
        exported(mlp(), folder)
        before = contents(folder)
        pairs_at_each_step(folder, monkeypatch, fails_at=step)
        assert contents(folder) == before
        assert len(list(folder.iterdir())) == 2


def test_who_has_read_the_older_files_keeps_them(tmp_path):
    """OpenVINO maps the weights: to write into the file changes them."""
    model, x = mlp(), normal(3, 6)
    exported(model, tmp_path)
    expected = model.predict(x, verbose=0)
    older = ov.Core().read_model(tmp_path / "model.xml")
    model.set_weights([w + 1 for w in model.get_weights()])
    exported(model, tmp_path)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    result = ov.Core().compile_model(older, "CPU", exact)(x)[0]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_folders_are_not_replaced(tmp_path):
    for name in ("model.xml", "model.bin"):
        (tmp_path / name / "data").mkdir(parents=True)
        with pytest.raises(IsADirectoryError, match=name):
            exported(mlp(), tmp_path)
        (tmp_path / name / "data").rmdir()
        (tmp_path / name).rmdir()
    exported(mlp(), tmp_path / "new" / "folder")


def test_threads_export_to_one_path(tmp_path, monkeypatch):
    path = tmp_path / "model.xml"
    replace = os.replace

    def export(units):
        model = keras.Sequential([keras.Input((6,)), layers.Dense(units)])
        export_openvino(model, path, verbose=False)

    second = threading.Thread(target=export, args=[2000])

    def replace_slowly(source, target):
        replace(source, target)
        if target == path.with_suffix(".bin") and second.ident is None:
            second.start()
            second.join(timeout=0.5)  # it waits until this one is done

    monkeypatch.setattr(os, "replace", replace_slowly)
    export(1000)
    second.join()
    (output,) = ov.Core().read_model(path).outputs
    units = output.partial_shape[1].get_length()
    size = path.with_suffix(".bin").stat().st_size
    assert 7 * 4 * units <= size < 7 * 4 * units + 1000


# ------------------------------------------------------------------ archives


def endpoint(folder, name):
    """A compiled endpoint of what was written, found as its server does."""
    config = json.loads((folder / "config.json").read_text())
    (base,) = [
        entry["config"]["base_path"]
        for entry in config["model_config_list"]
        if entry["config"]["name"] == name
    ]
    path = folder / base / "1" / "model.xml"
    return ov.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )


def test_an_archive_of_a_model(tmp_path):
    model = mlp()
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        name="serve", fn=model.call, input_signature=[spec(None, 6)]
    )
    archive.write_out(tmp_path / "archive", verbose=False)
    serve = endpoint(tmp_path / "archive", "serve")
    for x in batches(6):
        np.testing.assert_allclose(
            serve(x)[0], model.predict(x, verbose=0), atol=1e-6
        )
    files = (tmp_path / "archive").rglob("*.*")
    assert {x.relative_to(tmp_path).as_posix() for x in files} == {
        "archive/config.json",
        "archive/serve/1/model.bin",
        "archive/serve/1/model.xml",
    }
    assert [x.name for x in tmp_path.iterdir()] == ["archive"]
    assert archive.variables == model.variables
    assert archive.trainable_variables == model.trainable_variables
    assert archive.non_trainable_variables == []


def test_endpoints_of_all_structures(tmp_path):
    first, second = layers.Dense(3), layers.Dense(3)
    first(normal(1, 4)), second(normal(1, 4))
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    listed = keras.Model([a, b], first(a) - second(b))
    keyed = keras.Model({"a": a, "b": b}, {"y": first(a), "z": second(b)})
    x, y = normal(5, 4), 2 * normal(5, 4)
    archive = keras.export.ExportArchive()
    archive.track_and_add_endpoint("list", listed, [[a, b]])
    archive.add_endpoint("tuple", listed.call, ((spec(None, 4), b),))
    archive.add_endpoint("dict", keyed, {"a": a, "b": spec(None, 4)})
    returned = archive.add_endpoint("one", first.call, spec(None, 4))
    archive.add_endpoint(
        "both",
        lambda p, q: (returned(p), [second(q["in"])]),
        [spec(None, 4), {"in": spec(5, 4)}],
    )
    archive.write_out(tmp_path / "archive", verbose=False)
    one, other = np.asarray(first(x)), np.asarray(second(y))
    for name, inputs, outputs, given, wanted in (
        ("list", ["a", "b"], None, [x, y], [one - other]),
        ("tuple", ["a", "b"], None, [x, y], [one - other]),
        ("dict", ["a", "b"], ["y", "z"], [x, y], [one, other]),
        ("one", ["input"], ["output"], [x], [one]),
        ("both", ["p", "in"], ["output", "output_1"], [x, y], [one, other]),
    ):
        compiled = endpoint(tmp_path / "archive", name)
        assert names(compiled.inputs) == inputs
        assert outputs is None or names(compiled.outputs) == outputs
        for result, value in zip(compiled(given).values(), wanted, strict=True):
            np.testing.assert_allclose(result, value, atol=1e-6)
    np.testing.assert_allclose(returned(x), one, atol=1e-6)


def test_open_dims_of_an_endpoint(tmp_path):
    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "total", lambda x: ops.sum(x, 1), [spec(None, None, dtype="int32")]
    )
    archive.write_out(tmp_path / "archive", verbose=False)
    compiled = endpoint(tmp_path / "archive", "total")
    assert compiled.input(0).partial_shape.to_string() == "[?,?]"
    for shape in ((2, 3), (5, 1)):
        x = np.arange(np.prod(shape), dtype="int32").reshape(shape)
        np.testing.assert_array_equal(compiled(x)[0], x.sum(1))


def test_an_archive_has_the_weights_of_when_it_is_written(tmp_path):
    model = mlp()
    archive = keras.export.ExportArchive()
    archive.track_and_add_endpoint("serve", model, [spec(None, 6)])
    for _ in range(2):
        model.set_weights([w + 1 for w in model.get_weights()])
        archive.write_out(tmp_path / "archive", verbose=False)
        serve = endpoint(tmp_path / "archive", "serve")
        x = normal(3, 6)
        np.testing.assert_allclose(
            serve(x)[0], model.predict(x, verbose=0), atol=1e-5
        )


def test_collections_of_variables(tmp_path):
    variables = [
        keras.Variable(normal(2, 3), name="first"),
        keras.Variable([1, 2], dtype="int8", name="second"),
        keras.Variable([1.5, 2**-130], dtype="bfloat16", name="third"),
        keras.Variable([7], dtype="int32", name="first"),
    ]
    archive = keras.export.ExportArchive()
    archive.add_endpoint("identity", lambda x: x, [spec(None)])
    archive.add_variable_collection("mine", variables)
    archive.write_out(tmp_path / "archive", verbose=False)
    loaded = np.load(tmp_path / "archive" / "mine.npz")
    assert list(loaded) == ["first", "second", "third", "first_1"]
    for name, variable in zip(loaded, variables):
        np.testing.assert_array_equal(
            loaded[name], np.asarray(variable.value).astype(loaded[name].dtype)
        )
    dtypes = [str(loaded[name].dtype) for name in loaded]
    assert dtypes == ["float32", "int8", "float32", "int32"]
    with pytest.raises(ValueError, match="'mine' is already taken"):
        archive.add_variable_collection("mine", variables)
    with pytest.raises(ValueError, match="list, tuple or set"):
        archive.add_variable_collection("other", variables[0])
    with pytest.raises(ValueError, match="instances of `keras.Variable`"):
        archive.add_variable_collection("other", [normal(2)])


def test_an_archive_in_float16(tmp_path):
    archive = keras.export.ExportArchive()
    archive.track_and_add_endpoint("serve", mlp(), [spec(None, 6)])
    options = {"compress_to_fp16": True}
    archive.write_out(tmp_path / "archive", options, verbose=False)
    path = tmp_path / "archive" / "serve" / "1" / "model.xml"
    types = {x.get_output_element_type(0) for x in constants(path)}
    assert ov.Type.f16 in types
    with pytest.raises(ValueError, match="compress_to_fp16"):
        archive.write_out(tmp_path / "archive", {"other": 1})


def test_an_archive_says_what_it_has(tmp_path, capsys):
    keras.config.enable_interactive_logging()
    archive = keras.export.ExportArchive()
    archive.track_and_add_endpoint("serve", mlp(), [spec(None, 6, name="x")])
    archive.write_out(str(tmp_path / "archive"))
    said = capsys.readouterr().out
    assert f"'{tmp_path / 'archive'}'" in said and "Endpoint 'serve'" in said
    assert "in x: float32[?,6]" in said
    archive.write_out(tmp_path / "archive", verbose=False)
    assert not capsys.readouterr().out


def test_what_an_archive_refuses(tmp_path):
    model = mlp()
    archive = keras.export.ExportArchive()
    with pytest.raises(ValueError, match="No endpoints have been set"):
        archive.write_out(tmp_path / "archive")
    with pytest.raises(ValueError, match="Invalid resource type"):
        archive.track("model")
    with pytest.raises(ValueError, match="It must be built"):
        archive.track(layers.Dense(3))
    with pytest.raises(ValueError, match="must provide an `input_signature`"):
        archive.add_endpoint("serve", model.call)
    with pytest.raises(ValueError, match="`shape` and `dtype`"):
        archive.add_endpoint("serve", model, [keras.InputSpec(shape=(2, 6))])
    for other in (6, "x", normal(2, 6)):
        with pytest.raises(TypeError, match="Unsupported"):
            archive.add_endpoint("serve", model, [other])
    with pytest.raises(ValueError, match="takes no .'jax2tf_kwargs'"):
        archive.add_endpoint("serve", model, [spec(2, 6)], jax2tf_kwargs={})
    for name in ("", "..", "a/b", "a.npz", 3):
        with pytest.raises(ValueError, match="names are letters"):
            archive.add_endpoint(name, model, [spec(2, 6)])
    archive.add_endpoint("serve", model, [spec(2, 6)])
    with pytest.raises(ValueError, match="'serve' is already taken"):
        archive.add_endpoint("serve", model, [spec(2, 6)])
    assert not any(tmp_path.iterdir())


def test_endpoints_that_are_refused_are_named(tmp_path):
    counter = keras.Variable(0.0, name="counter")
    for function, text in (
        (
            functools.partial(lambda x, y: counter.assign_add(y) + x, y=1.0),
            "mine cannot be exported.*assigns variables .counter",
        ),
        (lambda x: None, "mine cannot be exported: it returns no tensors"),
        (lambda x: x * ops.det(x[None] @ x[None]), "mine cannot.* hold Det"),
    ):
        archive = keras.export.ExportArchive()
        archive.add_endpoint("mine", function, [spec(3, 3)])
        with pytest.raises((NotImplementedError, ValueError), match=text):
            archive.write_out(tmp_path / "archive")
    assert not any(tmp_path.iterdir())


def test_an_archive_that_fails_leaves_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "archive"
    archive = keras.export.ExportArchive()
    archive.track_and_add_endpoint("serve", mlp(), [spec(None, 6)])
    archive.write_out(path, verbose=False)
    before = contents(path / "serve" / "1")
    archive.add_endpoint("det", ops.det, [spec(None, 3, 3)])
    with pytest.raises(NotImplementedError, match="Det"):
        archive.write_out(path)
    replaced = keras.export.ExportArchive()
    replaced.track_and_add_endpoint("new", mlp(), [spec(None, 6)])
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replaced.write_out(path)
    assert contents(path / "serve" / "1") == before
    assert [x.name for x in tmp_path.iterdir()] == ["archive"]
    for path in (path, tmp_path / "former"):
        replaced.write_out(path, verbose=False)
        assert {x.name for x in path.iterdir()} == {"config.json", "new"}


def test_an_archive_replaces_nothing_else(tmp_path):
    archive = keras.export.ExportArchive()
    archive.track_and_add_endpoint("serve", mlp(), [spec(None, 6)])
    for file in ("notes.txt", "serve/2/model.xml"):
        path = tmp_path / "archive"
        archive.write_out(path, verbose=False)
        (path / file).parent.mkdir(exist_ok=True)
        (path / file).write_text("mine")
        with pytest.raises(FileExistsError, match="something else"):
            archive.write_out(path)
        assert (path / file).read_text() == "mine"
        (path / file).unlink()
    for config in ('{"mine": 1}', "[]", "{", '{"model_config_list": []}'):
        path = tmp_path / "data"
        path.mkdir(exist_ok=True)
        np.savez(path / "train.npz", x=np.ones(3))
        (path / "config.json").write_text(config)
        with pytest.raises(FileExistsError, match="something else"):
            archive.write_out(path)
        assert (path / "config.json").read_text() == config
        assert np.load(path / "train.npz")["x"].shape == (3,)
    archive.write_out(tmp_path / "archive", verbose=False)
    shutil.rmtree(tmp_path / "archive" / "serve")
    with pytest.raises(FileExistsError, match="something else"):
        archive.write_out(tmp_path / "archive")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        archive.write_out(tmp_path / "file")
