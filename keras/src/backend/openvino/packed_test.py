import gc
import weakref

import numpy as np
import openvino as ov
import pytest

from keras.src import layers
from keras.src import models
from keras.src import ops
from keras.src import quantizers
from keras.src import saving
from keras.src.backend.openvino import packed
from keras.src.backend.openvino.tensor import value_of
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import gradient_of
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import runtime_nodes
from keras.src.backend.openvino.testing import trace
from keras.src.quantizers.awq_config import AWQConfig
from keras.src.quantizers.gptq_config import GPTQConfig
from keras.src.quantizers.quantization_config import Int4QuantizationConfig
from keras.src.quantizers.quantization_config import Int8QuantizationConfig

ROWS, COLUMNS = 64, 24


def int4(block_size=None):
    return Int4QuantizationConfig(block_size=block_size)


# --------------------------------------------- the formulas of Keras, in NumPy


def nibbles(packed, signed=True):
    """The two numbers of each byte along the last axis, the low half first."""
    low, high = packed & 15, (packed.astype("uint8") >> 4)
    numbers = np.stack([low.astype("uint8"), high], -1).astype("float64")
    numbers = numbers.reshape(*packed.shape[:-1], -1)
    return numbers - 16 * (numbers > 7) if signed else numbers


def values(*variables):
    return [ops.convert_to_numpy(v).astype("float64") for v in variables]


def of_int8(layer, x):
    kernel, scale = values(layer._kernel, layer.kernel_scale)
    factor = 127 / (np.abs(x).max(-1, keepdims=True) + np.float32(1e-7))
    numbers = np.clip(np.round(x * factor.astype("float32")), -127, 127)
    return numbers @ kernel / (scale * factor)


def of_floats_and_int8(layer, x):
    kernel, scale = values(layer._kernel, layer.kernel_scale)
    return x @ kernel / scale


def of_int4(layer, x):
    kernel = nibbles(ops.convert_to_numpy(layer._kernel))
    (scale,) = values(layer.kernel_scale)
    return x @ (kernel[:, : len(scale)] / scale)


def of_groups(layer, x):
    kernel = nibbles(ops.convert_to_numpy(layer._kernel))
    names = layer.kernel_scale, layer.kernel_zero, layer.g_idx
    scale, zero, groups = values(*names)
    groups, kernel = groups.astype(int), kernel[:, : scale.shape[-1]]
    return x @ ((kernel - zero[groups]) * scale[groups])


def of_calibrated(layer, x):
    """For GPTQ and AWQ, whose weights are stored transposed."""
    kernel = ops.convert_to_numpy(layer.quantized_kernel)
    if len(kernel) < layer.kernel_scale.shape[0]:
        kernel = nibbles(kernel.T, signed=False).T
    names = layer.kernel_scale, layer.kernel_zero, layer.g_idx
    scale, zero, groups = values(*names)
    groups = groups.astype(int)
    kernel = ((kernel - zero[:, groups]) * scale[:, groups]).T
    if hasattr(layer, "awq_scales"):
        kernel = kernel / values(layer.awq_scales)[0][:, None]
    return x @ kernel


def calibrate(layer, mode, bits=4):
    """Gives a layer weights as GPTQ and AWQ would."""
    rng = np.random.default_rng(0)
    for variable in (layer.quantized_kernel, layer.kernel_zero):
        end = 256 if variable is layer.quantized_kernel else 2**bits
        variable.assign(rng.integers(0, end, variable.shape, "uint8"))
    layer.kernel_scale.assign(rng.uniform(0.01, 0.1, layer.kernel_scale.shape))
    groups = layer.kernel_scale.shape[1]
    layer.g_idx.assign(np.arange(ROWS) // (ROWS // groups))
    if mode == "awq":
        layer.awq_scales.assign(rng.uniform(0.5, 2, layer.awq_scales.shape))
    setattr(layer, f"is_{mode}_calibrated", True)


def gptq(bits, group_size):
    return GPTQConfig(None, None, weight_bits=bits, group_size=group_size)


def awq(group_size):
    return AWQConfig(None, None, group_size=group_size)


# Mode, its configuration, the formula, and the type of the numbers.
MODES = {
    "int8": ("int8", None, of_int8, "i8"),
    "int8 weights": (
        "int8",
        Int8QuantizationConfig(activation_quantizer=None),
        of_floats_and_int8,
        "i8",
    ),
    "int4": ("int4", int4(), of_int4, "i4"),
    "int4 in groups": ("int4", int4(16), of_groups, "i4"),
    "int4 in groups of 48": ("int4", int4(48), of_groups, "i4"),
    "gptq": ("gptq", gptq(4, -1), of_calibrated, "u4"),
    "gptq in groups": ("gptq", gptq(4, 32), of_calibrated, "u4"),
    "gptq of 8 bits": ("gptq", gptq(8, 32), of_calibrated, "u8"),
    "awq": ("awq", awq(-1), of_calibrated, "u4"),
    "awq in groups": ("awq", awq(32), of_calibrated, "u4"),
}


def quantised(name, policy="float32", columns=COLUMNS, rows=ROWS, **kwargs):
    mode, config, formula, _ = MODES[name]
    layer = layers.Dense(columns, dtype=policy, **kwargs)
    layer.build((None, rows))
    layer._kernel.assign(normal(rows, columns))
    layer.quantize(mode, config=config)
    if mode in ("gptq", "awq"):
        calibrate(layer, mode, bits=8 if "8 bits" in name else 4)
    return layer, formula


def packed_types(model):
    """The types of the numbers that products take, `f32` for floats."""
    types = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            weights = node.input_value(1).get_node()
            while weights.get_type_name() != "Constant":
                weights = weights.input_value(0).get_node()
            types.append(weights.get_output_element_type(0).to_string())
    return types


# ----------------------------------------------------------------------- layers


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 5)])
def test_dense(name, shape):
    layer, formula = quantised(name)
    x = normal(*shape, ROWS)
    for dynamic in (False, (0,)):
        expected = formula(layer, x)
        check(layer, [x], expected, rtol=1e-4, atol=1e-4, dynamic=dynamic)


@pytest.mark.parametrize("name", MODES)
def test_numbers_stay_packed(name):
    layer, _ = quantised(name)
    model = trace(layer, normal(2, ROWS), dynamic=(0,))
    assert packed_types(model) == [MODES[name][-1]]
    sizes = [
        node.get_byte_size()
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
    ]
    bits = 4 if "4" in MODES[name][-1] else 8
    assert max(sizes) == ROWS * COLUMNS * bits // 8


@pytest.mark.parametrize("name", ["int8 weights", "int4", "int4 in groups"])
def test_factors_go_into_the_scale(name, monkeypatch):
    # OpenVINO would multiply the weights, as floats.
    layer, formula = quantised(name, bias_initializer="ones")
    norm = layers.BatchNormalization()
    norm.build((None, COLUMNS))
    shift, scale = normal(2, COLUMNS)
    norm.beta.assign(shift)
    norm.gamma.assign(scale)
    model = models.Sequential([layers.Input((ROWS,)), layer, norm])
    compiled = compiled_models(monkeypatch)
    x = normal(3, ROWS)
    result = model.predict(x, verbose=0)
    y = formula(layer, x) + 1
    expected = y / np.sqrt(1 + 1e-3) * scale + shift
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    nodes = runtime_nodes(compiled[-1]._compiled)
    (product,) = [node for type, node in nodes if type == "FullyConnected"]
    expected = {"int8 weights": "i8"}.get(name, "i4")
    assert product.get_input_element_type(1).to_string() == expected


@pytest.mark.parametrize("name", MODES)
def test_mixed_bfloat16(name):
    layer, formula = quantised(name, policy="mixed_bfloat16")
    x = np.round(normal(3, ROWS) * 4) / 4  # exact in bfloat16
    expected = formula(layer, x)
    size = np.abs(expected).max()
    check(
        lambda x: ops.cast(layer(x), "float32"),
        [x.astype("float32")],
        expected,
        rtol=0,
        atol=0.02 * size,
        dynamic=(0,),
    )


@pytest.mark.parametrize("name", ["int8", "int4", "int4 in groups"])
@pytest.mark.parametrize("rows, columns", [(1, 1), (7, 5), (17, 3), (40, 9)])
def test_odd_sizes(name, rows, columns):
    layer, formula = quantised(name, rows=rows, columns=columns)
    x = normal(3, rows)
    check(layer, [x], formula(layer, x), rtol=1e-4, atol=1e-4, dynamic=(0,))


@pytest.mark.parametrize("config", [int4(), int4(16)])
def test_einsum_dense(config):
    layer = layers.EinsumDense("btd,dnh->btnh", (None, 3, 8))
    layer.build((None, 5, ROWS))
    layer.quantize("int4", config=config)
    formula = of_groups if config.block_size else of_int4
    x = normal(2, 5, ROWS)
    expected = formula(layer, x).reshape(2, 5, 3, 8)
    check(layer, [x], expected, rtol=1e-4, atol=1e-4, dynamic=(0,))
    assert packed_types(trace(layer, x, dynamic=(0,))) == ["i4"]


@pytest.mark.parametrize("mode, config", [("int8", None), ("int4", int4(16))])
def test_lora(mode, config):
    layer = layers.Dense(COLUMNS)
    layer.build((None, ROWS))
    layer.quantize(mode, config=config)
    formula = of_int8 if mode == "int8" else of_groups
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(normal(2, COLUMNS))
    x = normal(3, ROWS)
    a, b = values(layer.lora_kernel_a, layer.lora_kernel_b)
    expected = formula(layer, x) + x @ a @ b
    check(layer, [x], expected, rtol=1e-4, atol=1e-4, dynamic=(0,))


@pytest.mark.parametrize("name", ["int8 weights", "int4", "int4 in groups"])
def test_gradients_of_inputs(name):
    layer, formula = quantised(name)
    x = normal(3, ROWS)
    expected = formula(layer, np.eye(ROWS)).sum(1)
    expected = np.broadcast_to(expected, x.shape)
    check(gradient_of(layer), [x], expected, rtol=1e-4, atol=1e-4, dynamic=(0,))


# ------------------------------------------------------------------- embeddings


class Reversed(layers.Layer):
    """The logits of tokens by the embedding that they are looked up in."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def call(self, tokens):
        return self.embedding(self.embedding(tokens), reverse=True)


@pytest.mark.parametrize("config", [int4(), int4(16)])
@pytest.mark.parametrize("depth", [32, 33, 10])  # one as many as tokens
def test_reversible_embedding(config, depth):
    embedding = layers.ReversibleEmbedding(32, depth)
    embedding.build()
    embedding._embeddings.assign(normal(32, depth))
    embedding.quantize("int4", config=config)
    numbers = nibbles(ops.convert_to_numpy(embedding._embeddings))[:, :depth]
    (scale,) = values(embedding.embeddings_scale)
    if config.block_size:
        zero, groups = values(embedding.embeddings_zero, embedding.g_idx)
        groups = groups.astype(int)
        table = (numbers - zero[:, groups]) * scale[:, groups]
    else:
        table = numbers / scale[:, None]
    tokens = np.array([[0, 31, 7], [5, 5, 1]], "int32")
    check(embedding, [tokens], table[tokens], rtol=1e-5, dynamic=(0,))
    rows = table[tokens].astype("float32")
    factor = 127 / (np.abs(rows).max(-1, keepdims=True) + np.float32(1e-7))
    logits = np.clip(np.round(rows * factor), -127, 127) / factor @ table.T
    size = np.abs(logits).max()
    layer = Reversed(embedding)
    check(layer, [tokens], logits, rtol=0, atol=2e-2 * size, dynamic=(0,))


def test_tokens_outside_of_packed_rows():
    embedding = layers.Embedding(6, 4)
    embedding.build()
    embedding._embeddings.assign(normal(6, 4))
    embedding.quantize("int4", config=int4())
    tokens = np.array([-1, 0, 6, -7], "int32")

    def rows(tokens):
        unpacked = quantizers.unpack_int4(embedding._embeddings, 4, axis=-1)
        return ops.take(unpacked, tokens, axis=0)

    table = nibbles(ops.convert_to_numpy(embedding._embeddings))
    expected = [table[-1], table[0], [-128] * 4, [-128] * 4]
    check(rows, [tokens], np.array(expected), dynamic=(0,))
    constants = [
        node.get_output_shape(0)
        for node in trace(rows, tokens).get_ops()
        if node.get_type_name() == "Constant"
    ]
    assert [6, 2] in [list(dims) for dims in constants]
    assert [6, 4] not in [list(dims) for dims in constants]


# --------------------------------------------------------------------- products


@pytest.mark.parametrize("size", [1000, 1025, 5000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_products_of_int8_are_exact(size, order):
    # The largest sums are beyond the 24 bits of float32.
    x = np.full((2, size), -128, "int8")
    x[1] = np.random.default_rng(0).integers(-128, 128, size)
    w = np.full((size, 3), -128, "int8")
    w[:, 1:] = np.random.default_rng(1).integers(-128, 128, (size, 2))
    w = ops.convert_to_tensor(np.asarray(w.T if order == "F" else w))

    def product(x):
        return ops.matmul(x, ops.transpose(w) if order == "F" else w)

    expected = x.astype("int64") @ (
        np.asarray(w).astype("int64").T if order == "F" else np.asarray(w)
    )
    check(product, [x], expected, rtol=0, dynamic=(0,))


def test_one_matrix_both_ways():
    # The CPU plugin would take the one for the other.
    w = ops.convert_to_tensor(
        np.random.default_rng(0).integers(-128, 128, (16, 16), "int8")
    )

    def both(x):
        return ops.matmul(x, w), ops.matmul(x, ops.transpose(w))

    x = np.round(normal(3, 16) * 4)
    kernel = np.asarray(w).astype("float64")
    check(both, [x], [x @ kernel, x @ kernel.T], dynamic=(0,))


@pytest.mark.parametrize(
    "weights",
    [
        lambda q, s: (q - s) * s,
        lambda q, s: q * s - s,
        lambda q, s: s * (ops.cast(q, "float32") - 3),
        lambda q, s: ops.cast(q, "float32") * s[:1] * s[:, :1] / s,
        lambda q, s: ops.cast(ops.cast(q, "float32") * s, "int8") * s,
        lambda q, s: ops.cast(q, "float32") * ops.reshape(s, (2, 2, -1))[:, :1],
    ],
)
def test_other_arithmetic(weights):
    q = np.random.default_rng(0).integers(-8, 8, (4, 6), "int8")
    s = np.random.default_rng(1).uniform(0.5, 2, (4, 6)).astype("float32")

    def product(x):
        w = weights(ops.convert_to_tensor(q), ops.convert_to_tensor(s))
        return ops.matmul(x, ops.reshape(w, (-1, 6))[:4])

    x = normal(3, 4)
    w = np.asarray(weights(ops.convert_to_tensor(q), ops.convert_to_tensor(s)))
    expected = x.astype("float64") @ w.reshape(-1, 6)[:4]
    check(product, [x], expected, rtol=1e-4, atol=1e-5, dynamic=(0,))


# ----------------------------------------------------------------------- models


def test_predict_sees_other_weights():
    layer, formula = quantised("int4 in groups")
    model = models.Sequential([layers.Input((ROWS,)), layer])
    x = normal(2, ROWS)
    for seed in range(3):
        numbers = np.random.default_rng(seed).integers(
            -128, 128, layer._kernel.shape, "int8"
        )
        layer._kernel.assign(numbers)
        np.testing.assert_allclose(
            model.predict(x, verbose=0),
            formula(layer, x),
            rtol=1e-4,
            atol=1e-4,
        )


def test_compiled_models_hold_packed_weights(monkeypatch):
    # Constants of 4 bits do not keep the memory that they share.
    layer, formula = quantised("int4")
    model = models.Sequential([layers.Input((ROWS,)), layer])
    x = normal(2, ROWS)
    expected = formula(layer, x)
    compiled = compiled_models(monkeypatch)
    model.predict(x, verbose=0)
    stored = weakref.ref(value_of(layer._kernel.value))
    layer._kernel.assign(np.zeros_like(stored()))
    gc.collect()
    assert stored() is not None
    (result,) = compiled[-1]([x])
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    compiled.clear()
    model.predict(x, verbose=0)
    gc.collect()
    assert stored() is None


def test_weights_that_nobody_may_write_are_shared():
    array = np.arange(64, dtype="int8")
    array.flags.writeable = False
    numbers = nibbles(array).reshape(32, 4).astype("int8")
    weights = packed._Weights(numbers, np.zeros((1, 1)), (), (array,))
    stored, type, transposed = packed._as_stored(weights, (False,))
    assert stored is array and type == ov.Type.i4 and not transposed


@pytest.mark.parametrize("name", ["int8", "int4", "int4 in groups"])
def test_exported_weights_stay_packed(name, tmp_path):
    rows, columns = 512, 256
    layer, formula = quantised(name, rows=rows, columns=columns)
    model = models.Sequential([layers.Input((rows,)), layer])
    path = tmp_path / "model.xml"
    model.export(str(path), format="openvino", verbose=False)
    numbers = rows * columns // (1 if name == "int8" else 2)
    scales = 0 if name != "int4 in groups" else rows // 16 * columns * 5
    assert path.with_suffix(".bin").stat().st_size < numbers + scales + 8192
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(str(path), "CPU", exact)
    x = normal(3, rows)
    expected = formula(layer, x)
    np.testing.assert_allclose(compiled(x)[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["int8", "int4", "int4 in groups"])
def test_saved_models(name, tmp_path):
    layer, formula = quantised(name)
    model = models.Sequential([layers.Input((ROWS,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = saving.load_model(tmp_path / "model.keras")
    x = normal(3, ROWS)
    expected = formula(layer, x)
    result = loaded.predict(x, verbose=0)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
