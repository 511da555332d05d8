"""float16, bfloat16 and float8: one meaning, eagerly and in compiled models."""

import ml_dtypes
import numpy as np
import openvino as ov
import pytest

import keras
from keras import layers
from keras import ops
from keras.src.backend.openvino.device import core
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import runtime_types

HALVES = ("float16", "bfloat16")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
MODES = ("eager", "static", "open")


def run(mode, function, *arrays):
    """What `function` gives in float32 or an integer dtype."""
    if mode == "eager":
        return np.asarray(function(*map(ops.convert_to_tensor, arrays)))
    return run_compiled(function, *arrays, dynamic=mode == "open")[0]


def interesting(dtype):
    """All numbers of a dtype, those halfway between, and their neighbours."""
    kind = numpy_dtype(dtype)
    carrier = np.uint8 if kind.itemsize == 1 else np.uint16
    numbers = np.arange(np.iinfo(carrier).max + 1).astype(carrier).view(kind)
    numbers = numbers.astype("float32")
    # In order of size, by the bits of the positive ones.
    below = numbers[: numbers.size // 2].astype("float64")
    halfway = ((below[1:] + below[:-1]) / 2).astype("float32")
    largest = float(ml_dtypes.finfo(kind).max)
    step = largest - float(np.nextafter(kind.type(largest), kind.type(0)))
    edges = largest + step * np.float32([0.4999, 0.5, 0.5001, 1, 2])
    positive = np.concatenate(
        [
            halfway,
            np.nextafter(halfway, np.float32(0)),
            np.nextafter(halfway, np.float32(np.inf)),
            edges,
            [0.1, 1e-7, 7e4, 1e30, np.finfo("float32").max],
        ]
    ).astype("float32")
    return np.concatenate([numbers, positive, -positive])


def is_tiny(x):
    """Whether numbers are subnormal in float32, which the runtime flushes."""
    return (x != 0) & (np.abs(x) < np.finfo("float32").tiny)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALVES + FLOAT8)
def test_casts_round_as_numpy_does(dtype, mode):
    x = interesting(dtype)
    with np.errstate(all="ignore"):
        expected = x.astype(numpy_dtype(dtype)).astype("float32")

    def there_and_back(x):
        return ops.cast(ops.cast(x, dtype), "float32")

    result = run(mode, there_and_back, x)
    if mode != "eager":
        tiny = is_tiny(x) | is_tiny(expected)
        result, expected = result[~tiny], expected[~tiny]
    np.testing.assert_array_equal(result, expected)


def normal(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype("float32")


def assert_close_in(dtype, result, expected, ulps=1, scale=2**-8):
    """Within units in the last place, of numbers down to `scale`."""
    result, expected = (np.asarray(x, "float64") for x in (result, expected))
    step = ulps * float(ml_dtypes.finfo(numpy_dtype(dtype)).eps)
    np.testing.assert_allclose(result, expected, rtol=step, atol=step * scale)


# Of numbers that halves have.
KERNEL = np.round(4 * normal(3, 3, 1, 1)) / 4

OPS = {
    "add": lambda x, y: x + y,
    "batch_normalization": lambda x, y: ops.batch_normalization(
        x, y[0], ops.abs(y[1]) + 1, -1
    ),
    "cdist": ops.cdist,
    "conv": lambda x, y: ops.conv(
        x[None, :, :, None], ops.cast(KERNEL, x.dtype)
    ),
    "cumsum": lambda x, y: ops.cumsum(x, axis=1),
    "divide_no_nan": ops.divide_no_nan,
    "gelu": lambda x, y: ops.gelu(x),
    "layer_normalization": lambda x, y: ops.layer_normalization(x),
    "log_softmax": lambda x, y: ops.log_softmax(x),
    "logaddexp": ops.logaddexp,
    "logsumexp": lambda x, y: ops.logsumexp(x, axis=1),
    "matmul": ops.matmul,
    "mean": lambda x, y: ops.mean(x, axis=1),
    "prod": lambda x, y: ops.prod(x, axis=1),
    "rsqrt": lambda x, y: ops.rsqrt(ops.abs(x)),
    "sinc": lambda x, y: ops.sinc(x),
    "sort": lambda x, y: ops.sort(x),
    "sum": lambda x, y: ops.sum(x, axis=0),
    "trapezoid": lambda x, y: ops.trapezoid(x),
    "var": lambda x, y: ops.var(x, axis=1),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", OPS)
def test_ops_compute_in_float32_and_round_once(name, dtype):
    kind = numpy_dtype(dtype)
    arrays = [normal(6, 6, seed=i).astype(kind) for i in (1, 2)]
    wide = [ops.convert_to_tensor(x.astype("float32")) for x in arrays]
    expected = np.asarray(OPS[name](*wide)).astype(kind)
    for mode in MODES:
        result = run(mode, OPS[name], *arrays)
        assert result.dtype == kind
        # The runtime computes float32 in another order of operations.
        assert_close_in(dtype, result, expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_float16_is_rounded_where_it_is_looked_at(mode):
    x = np.float16([60000, 1, -60000, 0.1])

    def look(x):
        return ops.stack(
            [
                ops.cast(x + x, "float32"),
                ops.cast(ops.cast(x + x, "bfloat16"), "float32"),
                ops.cast(x * x == x + x - x * x, "float32"),
                ops.cast(ops.floor(x * 10 + 2048), "float32"),
            ]
        )

    with np.errstate(all="ignore"):
        total = x + x
        expected = [
            total,
            total.astype(ml_dtypes.bfloat16),
            x * x == total - x * x,
            np.floor(x * np.float16(10) + np.float16(2048)),
        ]
    np.testing.assert_array_equal(
        run(mode, look, x), [e.astype("float32") for e in expected]
    )


@pytest.mark.parametrize("mode", MODES)
def test_products_of_bfloat16_accumulate_in_float32(mode):
    x = np.ones((1, 4096), ml_dtypes.bfloat16)
    # In bfloat16 the sum would stop at 256.
    result = run(mode, lambda x: ops.matmul(x, ops.transpose(x)), x)
    assert result == 4096


def check_model(model, dtype, *shape, ulps=1):
    """`predict` and the direct call are one."""
    x = normal(5, *shape)
    direct = np.asarray(model(x))
    predicted = model.predict(x, batch_size=3, verbose=0)
    assert predicted.dtype == direct.dtype
    assert_close_in(dtype, predicted, direct, ulps, scale=np.abs(direct).max())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_float32_layer_in_a_mixed_model(policy):
    x = keras.Input((64,))
    y = layers.Dense(8, dtype=policy)(x)
    model = keras.Model(x, layers.Dense(256, dtype="float32")(y))
    model.layers[1].set_weights([np.eye(64, 8), np.zeros(8)])
    # What the first layer gives is rounded, and what the head makes of it
    # is exact to float32.
    dtype = policy.removeprefix("mixed_")
    kernel, bias = model.layers[2].get_weights()
    x = normal(5, 64)
    hidden = x[:, :8].astype(numpy_dtype(dtype)).astype("float64")
    expected = hidden @ kernel + bias
    for result in (model(x), model.predict(x, verbose=0)):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_layer_in_a_float32_model(policy):
    x = keras.Input((64,))
    y = layers.Dense(32, activation="relu")(x)
    y = layers.Dense(16, activation="gelu", dtype=policy)(y)
    check_model(keras.Model(x, y), policy.removeprefix("mixed_"), 64, ulps=2)


def test_a_float32_model_while_the_global_policy_is_mixed():
    x = keras.Input((64,), dtype="float32")
    model = keras.Model(x, layers.Dense(32, dtype="float32")(x))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        outer = keras.Sequential([model])
        data = normal(5, 64)
        kernel, bias = model.get_weights()
        for function in (model, outer):
            result = function.predict(data, verbose=0)
            np.testing.assert_allclose(
                result.astype("float32"),
                data @ kernel + bias,
                atol=1e-5 if function is model else 2e-2,
            )
    finally:
        keras.config.set_dtype_policy(before)


MODELS = {
    "convolution": (
        (8, 8, 3),
        lambda: [
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.DepthwiseConv2D(3),
            layers.GlobalAveragePooling2D(),
        ],
    ),
    "recurrent": ((5, 4), lambda: [layers.LSTM(6), layers.Dense(2)]),
    "attention": (
        (5, 8),
        lambda: [Attended(), layers.LayerNormalization()],
    ),
}


@keras.saving.register_keras_serializable("precision_test")
class Attended(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(
            2, 4, dtype=self.dtype_policy
        )

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return x + self.attention(x, x)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", MODELS)
def test_models_predict_what_they_say_directly(name, policy):
    shape, make = MODELS[name]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential([keras.Input(shape), *make()])
        # Roundings of several layers add up.
        check_model(model, policy.removeprefix("mixed_"), *shape, ulps=4)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_an_exported_model_gives_the_same_numbers(policy, tmp_path):
    x = keras.Input((64,))
    y = layers.Dense(32, activation="relu", dtype=policy)(x)
    model = keras.Model(x, layers.Dense(8, dtype="float32")(y))
    path = str(tmp_path / "model.xml")
    model.export(path, format="openvino", verbose=False)
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(path, "CPU", hint)
    data = normal(5, 64)
    np.testing.assert_array_equal(
        compiled([data])[0], model.predict(data, verbose=0)
    )


def test_float8_layers_predict_what_they_say_directly():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(16)])
    model.quantize("float8")
    check_model(model, "float32", 64, ulps=4)


def test_jit_keeps_float32_under_any_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        x = normal(16, 64)
        result = jit(lambda x: ops.matmul(x, ops.transpose(x)))(x)
        np.testing.assert_allclose(np.asarray(result), x @ x.T, atol=1e-4)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_that_a_scatter_makes_are_rounded(dtype):
    x, updates = normal(4, 3), normal(2, 3, seed=1)
    indices = np.array([[1], [1]], "int32")

    def update(x, updates):
        x, updates = ops.cast(x, dtype), ops.cast(updates, dtype)
        result = ops.scatter_update(x, indices, updates, reduction="add")
        return ops.cast(result, "float32")

    (result,) = run_compiled(update, x, updates)
    np.testing.assert_array_equal(
        result, result.astype(numpy_dtype(dtype)).astype("float32")
    )
    assert_close_in(dtype, result, np.asarray(update(x, updates)), ulps=2)


NORMALIZED = {
    "conv": ((9, 9, 8), lambda: layers.Conv2D(16, 3)),
    "strided": ((9, 9, 8), lambda: layers.Conv2D(16, 3, 2, use_bias=False)),
    "causal": ((12, 8), lambda: layers.Conv1D(16, 3, padding="causal")),
    "depthwise": ((9, 9, 8), lambda: layers.DepthwiseConv2D(3)),
    "one_filter": ((9, 9, 8), lambda: layers.Conv2D(1, 3)),
    "transposed": ((9, 9, 8), lambda: layers.Conv2DTranspose(16, 3)),
    "dense": ((64,), lambda: layers.Dense(16)),
    "dense_of_words": ((7, 64), lambda: layers.Dense(16, use_bias=False)),
}


def normalizing_model(layer, shape, policy):
    """A layer, batch normalisation and `relu`, with the same weights always."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential(
            [
                keras.Input(shape),
                layer(),
                layers.BatchNormalization(),
                layers.Activation("relu"),
            ]
        )
    finally:
        keras.config.set_dtype_policy(before)
    rng = np.random.default_rng(3)
    model.set_weights(
        # Numbers that bfloat16 has, and what normalises as it comes.
        [
            rng.uniform(-1, 1, w.shape).astype(ml_dtypes.bfloat16)
            for w in model.layers[0].get_weights()
        ]
        + [rng.uniform(0.5, 2, w.shape) for w in model.layers[1].get_weights()]
    )
    return model


@pytest.mark.parametrize("name", NORMALIZED)
def test_normalisation_is_as_exact_as_it_is_directly(name):
    shape, layer = NORMALIZED[name]
    exact = normalizing_model(layer, shape, "float64")
    mixed = normalizing_model(layer, shape, "mixed_bfloat16")
    x = normal(32, *shape).astype(ml_dtypes.bfloat16).astype("float32")
    expected = np.asarray(exact(x))

    def error(result):
        difference = np.asarray(result, "float64") - expected
        return np.abs(difference).mean() / np.abs(expected).mean()

    predicted = mixed.predict(x, verbose=0)
    assert predicted.dtype == ml_dtypes.bfloat16
    assert error(predicted) < 1.25 * error(mixed(x))


@pytest.mark.parametrize("name", ["conv", "depthwise", "dense"])
def test_normalisation_keeps_what_is_no_number(name):
    shape, layer = NORMALIZED[name]
    model = normalizing_model(layer, shape, "mixed_bfloat16")
    model = keras.Model(model.inputs, model.layers[1].output)
    x = normal(4, *shape)
    x[1].flat[0] = np.nan
    x[2].flat[0] = np.inf
    direct, predicted = np.asarray(model(x)), model.predict(x, verbose=0)
    assert np.isinf(direct).any() and np.isnan(direct).any()
    np.testing.assert_array_equal(np.isnan(predicted), np.isnan(direct))
    np.testing.assert_array_equal(np.isinf(predicted), np.isinf(direct))


@pytest.mark.skipif(
    "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="This CPU has no bfloat16.",
)
@pytest.mark.parametrize("name", ["conv", "depthwise", "dense"])
def test_normalisation_is_computed_with_the_layer(name, tmp_path):
    shape, layer = NORMALIZED[name]
    model = normalizing_model(layer, shape, "mixed_bfloat16")
    path = str(tmp_path / "model.xml")
    model.export(path, format="openvino", verbose=False)
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(path, "CPU", hint)
    types = runtime_types(compiled)
    # Of the input and the output.
    assert types.count("Convert") == 2
    # Of the input, which is rounded.
    assert types.count("Eltwise") == 2


@pytest.mark.parametrize("mode", MODES)
def test_scales_and_shifts_of_other_shapes(mode):
    x, matrix = normal(4, 6), normal(6, 1, seed=1)
    x, matrix = (np.round(8 * array) / 8 for array in (x, matrix))
    along, across = normal(5, seed=2), normal(4, 1, seed=3)

    def look(x):
        x = ops.cast(x, "bfloat16") @ ops.cast(matrix, "bfloat16")
        x = ops.cast(x, "float32")
        results = [x * 3, x + 3, x * along + 1, x * across + across]
        results += [x * along[:1, None, None] + 1, 1 + 2 * x]
        results = [ops.reshape(ops.cast(y, "bfloat16"), -1) for y in results]
        return ops.cast(ops.concatenate(results), "float32")

    product = (x @ matrix).astype(ml_dtypes.bfloat16).astype("float32")
    expected = [product * 3, product + 3, product * along + 1]
    expected += [product * across + across, product * along[0] + 1]
    expected += [1 + 2 * product]
    expected = np.concatenate([y.ravel() for y in expected])
    assert_close_in("bfloat16", run(mode, look, x), expected, 2, scale=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALVES + FLOAT8)
@pytest.mark.parametrize("shape", [(2, 5, 3), (4, 1), (0, 3)])
def test_casts_of_pictures(shape, dtype, mode):
    x = normal(*shape)

    def there_and_back(x):
        return ops.cast(ops.cast(x, dtype), "float32")

    expected = x.astype(numpy_dtype(dtype)).astype("float32")
    np.testing.assert_array_equal(run(mode, there_and_back, x), expected)
