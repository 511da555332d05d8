"""Models that OpenVINO changes to others with other numbers."""

import itertools

import numpy as np
import pytest
import scipy.special

from keras import applications
from keras import layers
from keras.src.backend.openvino import nn
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.control_flow import while_loop
from keras.src.backend.openvino.fusions import keep_activations_apart
from keras.src.backend.openvino.fusions import prevent_fusions
from keras.src.backend.openvino.layout import sink_transposes
from keras.src.backend.openvino.settings import core
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import runtime_types
from keras.src.backend.openvino.testing import trace


def fused_by_hand(query, key, value):
    query, key, value = (
        numpy.transpose(x, (0, 2, 1, 3)) for x in (query, key, value)
    )
    scores = numpy.matmul(query * 0.5, numpy.transpose(key, (0, 1, 3, 2)))
    return numpy.matmul(nn.softmax(scores), value)


def einsums(query, key, value):
    scores = numpy.einsum("btnh,bsnh->bnts", query, key)
    return numpy.einsum("bnts,bsnh->btnh", nn.softmax(scores), value)


@pytest.mark.parametrize(
    "attention", [nn.dot_product_attention, fused_by_hand, einsums]
)
@pytest.mark.parametrize("dims", [(3, 3, 3, 2), (3, 4, 3, 3), (2, 2, 2, 2)])
@pytest.mark.parametrize("after", [lambda y: y, nn.relu])
def test_attention_with_as_many_heads_as_queries(attention, dims, after):
    targets, sources, heads, size = dims
    query = normal(2, targets, heads, size)
    key, value = normal(2, 2, sources, heads, size, seed=1)
    check(
        lambda q, k, v: after(attention(numpy.tanh(q) * 3, k + 1, v * 2)),
        (query, key, value),
        _attention_in_numpy(attention, query, key, value, after),
        rtol=1e-4,
        atol=1e-5,
        dynamic=False,
    )


def _attention_in_numpy(attention, query, key, value, after):
    q, k, v = (
        x.swapaxes(1, 2) for x in (np.tanh(query) * 3, key + 1, value * 2)
    )
    scores = q @ k.swapaxes(-1, -2)
    if attention is nn.dot_product_attention:
        scores /= np.sqrt(query.shape[-1])
    if attention is fused_by_hand:
        scores /= 2
    result = scipy.special.softmax(scores, axis=-1) @ v
    if attention is not fused_by_hand:
        result = result.swapaxes(1, 2)
    return result if after is not nn.relu else np.maximum(result, 0)


def test_attention_in_a_loop():
    x = normal(2, 3, 3, 4)

    def step(i, x):
        return i + 1, nn.dot_product_attention(numpy.tanh(x), x, x) * 2

    def function(x):
        return while_loop(lambda i, x: i < 3, step, (0, x))[1]

    wanted = np.asarray(function(x))
    check(function, [x], wanted, rtol=1e-4, atol=1e-5, dynamic=False)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("order", itertools.permutations(range(3)))
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (0, 2)])
def test_reductions_beside_transposes(name, order, axis):
    op = getattr(numpy, name)
    for dims in ((3, 3, 1), (3, 2, 1), (1, 2, 2)):
        x = normal(*dims)

        def before(x):
            return op(numpy.transpose(x, order), axis=axis)

        def behind(x):
            result = op(x, axis=axis)
            return numpy.transpose(result) + 1, numpy.transpose(result)

        reduced = getattr(np, name)(x, axis=axis)
        wanted = getattr(np, name)(x.transpose(order), axis=axis)
        check(before, [x], wanted, atol=1e-6, dynamic=False)
        check(behind, [x], (reduced.T + 1, reduced.T), atol=1e-6, dynamic=False)


@pytest.mark.parametrize("dynamic", [False, True])
def test_absolute_of_what_others_take_too(dynamic):
    x = normal(5)
    joined = np.concatenate([x, x * 2])

    def function(x):
        joined = numpy.concatenate([x, x * 2])
        return numpy.where(joined > 0, joined, joined * 3), numpy.abs(joined)

    wanted = np.where(joined > 0, joined, joined * 3), np.abs(joined)
    check(function, [x], wanted, dynamic=dynamic)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_of_one_number(dtype, keepdims):
    x = np.array([[[0]], [[1]], [[5]]], dtype)
    arguments = {"axis": 2, "keepdims": keepdims}
    for dynamic in (False, (0,)):
        check(
            lambda x: numpy.ptp(x, **arguments),
            [x],
            np.ptp(x, **arguments),
            dynamic=dynamic,
        )
        check(
            lambda x: (numpy.max(x, **arguments), numpy.sum(x, **arguments)),
            [x],
            (np.max(x, **arguments), np.sum(x, **arguments)),
            dynamic=dynamic,
        )


@pytest.mark.parametrize("dynamic", [False, (0,)])
def test_scalar_of_a_product_of_matrices(dynamic):
    x, y = normal(1, 3), normal(3, 1, seed=1)
    check(
        lambda x, y: numpy.reshape(numpy.matmul(x, y), ()),
        [x, y],
        np.matmul(x, y).reshape(()),
        dynamic=dynamic,
    )


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("inside", [False, True])
def test_weights_that_are_transposed_elsewhere(batch, inside):
    """A square matrix, as it is and transposed, the second time in a loop."""
    weights, x = normal(*batch, 4, 4), normal(*batch, 5, 4, seed=1)
    tied = convert_to_tensor(weights)

    def function(x):
        def decoded(i, y):
            return i + 1, numpy.matmul(y, numpy.swapaxes(tied, -1, -2))

        encoded = numpy.matmul(x, tied)
        if not inside:
            return product(encoded, tied)
        steps = numpy.sum(x) * 0 + 1
        return while_loop(lambda i, y: i < steps, decoded, (0.0, encoded))[1]

    def product(x, y):
        return apply("MatMul", x, y, transpose_a=False, transpose_b=True)

    wanted = x @ weights @ np.swapaxes(weights, -1, -2)
    for dynamic in (False, (0,)):
        check(function, [x], wanted, dynamic=dynamic, rtol=1e-4)


@pytest.mark.parametrize("type", ["Convolution", "GroupConvolution"])
def test_weights_of_a_convolution_that_is_transposed(type):
    groups = (2,) if type == "GroupConvolution" else ()
    weights = convert_to_tensor(normal(*groups, 8, 8, 3, 3))
    x = normal(2, 8 * (groups or (1,))[0], 5, 5, seed=1)
    attributes = {
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads_begin": (1, 1),
        "pads_end": (1, 1),
        "auto_pad": "explicit",
    }

    def function(x):
        x = apply(type, x, weights, **attributes)
        return apply(f"{type}BackpropData", x, weights, **attributes)

    # Eagerly NumPy computes it.
    wanted = np.asarray(function(convert_to_tensor(x)))
    check(function, [x], wanted, rtol=1e-4, atol=1e-3)


def test_shape_of_a_choice():
    """By a row, between numbers of all rows and of one."""
    x, row = normal(4, 3), normal(1, 3, seed=1)

    def function(x, row):
        chosen = numpy.where(row > 0, x, row)
        return numpy.zeros_like(chosen), numpy.ones_like(row), chosen

    wanted = np.zeros((4, 3)), np.ones((1, 3)), np.where(row > 0, x, row)
    check(function, [x, row], wanted, dynamic=(0,))
    check(function, [x, row], wanted, dynamic=True)


@pytest.mark.parametrize("dynamic", [False, True, (0,)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("begin", [0, 1])
def test_elements_of_a_slice(begin, axis, dynamic):
    x = normal(4, 5)
    indices = np.array([[-1, 0, 1], [1, -2, 0]]).T[:, : 2 - axis]

    def function(x, indices):
        part = x[begin : begin + 3, :2]
        same = part, x[:, :2][begin : begin + 3], numpy.reshape(part, (3, 2))
        taken = [numpy.take_along_axis(y, indices, axis) for y in same]
        return *taken, numpy.exp(part)

    part = x[begin : begin + 3, :2]
    taken = np.take_along_axis(part, indices, axis)
    wanted = (taken, taken, taken, np.exp(part))
    check(function, [x, indices], wanted, dynamic=dynamic)


def assert_same_both_ways(function, x, dynamic, **tolerances):
    """Eagerly NumPy computes it."""
    with np.errstate(all="ignore"):
        eager, compiled = both_ways(function, x, dynamic=dynamic)
    for way in zip(eager, compiled, strict=True):
        # NumPy's assertion knows no NaN of bfloat16.
        way = [y.astype("float32") for y in way]
        np.testing.assert_allclose(*way[::-1], **{"rtol": 0, **tolerances})


HUGE = np.array([1e8, 1, 2], "float32")
LARGE = np.array([1e4, 1e4, 1e4], "float32")
MOST_OF_IT = np.array([1e4 - 0.02, 1e4 - 0.04, 0], "float32")


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "dtype, function",
    [
        ("float32", lambda x: x + 1e8 - 1e8),
        ("float32", lambda x: 1e8 - (x + 1e8)),
        ("float32", lambda x: -(x + 1e8) + 1e8),
        ("float32", lambda x: (x + 1e8) * 2 - 2e8),
        ("float32", lambda x: ((x + 1e8) * 3 + 7) / 2 - 1.5e8),
        ("float32", lambda x: x + HUGE - [1e8, 0, 0]),
        ("float32", lambda x: x + LARGE - MOST_OF_IT),
        ("float32", lambda x: [x + 1e8, x + 1e8 - 1e8]),
        ("float32", lambda x: numpy.broadcast_to(x + 1e8, (2, 3, 3)) - 1e8),
        ("float32", lambda x: numpy.broadcast_to(x * 1e30, (2, 3, 3)) * 1e30),
        ("float32", lambda x: numpy.broadcast_to(x[:1] + HUGE, (3, 3)) - HUGE),
        ("float32", lambda x: numpy.full_like(x, 1e8) + x - 1e8),
        (
            "float32",
            lambda x: numpy.reshape(numpy.ravel(x + 1e8), (3, 3)) - 1e8,
        ),
        ("float32", lambda x: numpy.reshape(x + 1e8, (-1, 3)) - 1e8),
        ("float32", lambda x: numpy.tile(x + HUGE, (1, 1)) - HUGE),
        ("float32", lambda x: (x + 1e8)[0:] - 1e8),
        ("float32", lambda x: numpy.take(x + 1e8, [0, 1, 2], axis=1) - 1e8),
        ("bfloat16", lambda x: numpy.broadcast_to(x + 100, (2, 3, 3)) - 100),
        ("float32", lambda x: x * 2.0**70 * 2.0**70 / 2.0**100),
        ("float32", lambda x: x * 2.0**-90 * 2.0**-90 * 2.0**90 * 2.0**90),
        ("float32", lambda x: x * 2.0**100 * 2.0**-90),
        ("float32", lambda x: (x + 2.0**100) * 2.0**100),
        ("bfloat16", lambda x: x + 100 - 100),
        ("bfloat16", lambda x: (x + 1) * 4 - 4),
        ("bfloat16", lambda x: [x + 100, x + 100 - 100]),
        ("float16", lambda x: x + 1000 - 1000),
        ("float16", lambda x: (x + 1) * 4 - 4),
    ],
)
def test_constants_that_undo_each_other(function, dtype, dynamic):
    x = [[1e-4, 0.123, 5.1e-3], [0.0, 100.0, 3.0], [2.0**40, np.inf, np.nan]]
    x = np.asarray(convert_to_tensor(x, dtype))
    assert_same_both_ways(function, x, dynamic)


@pytest.mark.parametrize("dynamic", [False, (0,), True])
@pytest.mark.parametrize("constant", [1e8, np.array([1e8, 1], "float32")])
def test_constants_behind_a_convolution(constant, dynamic):
    weights = np.round(normal(3, 3, 3, 2))
    assert_same_both_ways(
        lambda x: nn.conv(x, weights) + constant - constant,
        np.round(normal(1, 5, 5, 3, seed=1) * 4),
        dynamic,
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_constants_of_shapes_that_only_fit_what_was_moved(dynamic):
    scale = np.arange(1, 9, dtype="float32")
    angles = np.linspace(0.1, 2, 16, dtype="float32").reshape(8, 1, 2)

    def function(x):
        x = numpy.reshape(x * scale, (-1, 8, 1, 1))
        return numpy.broadcast_to(x, (3, 8, 2, 2)) * angles

    expected = (normal(3, 8) * scale)[..., None, None] * angles
    expected = np.broadcast_to(expected, (3, 8, 2, 2))
    check(function, [normal(3, 8)], expected, dynamic=dynamic)


def test_constants_that_undo_each_other_in_a_loop():
    def function(x):
        return while_loop(
            lambda i, x: i < 2, lambda i, x: (i + 1, x + 1e8 - 1e8), (0, x)
        )[1]

    x = np.array([1, 3, 100], "float32")
    check(function, [x], [np.array([0, 0, 96], "float32")])


def normalized(x, weights, vectors):
    """A convolution with its bias, and what normalizes a batch behind it."""
    bias, mean, scale, beta = vectors
    y = nn.conv(x / 127.5 - 1, weights, padding="same") + bias
    return ((y - mean) * scale + beta) * 0.5 + 3


SQUARE = np.where(np.eye(4) == 1, 0, normal(4, 4)).astype("float32")
KERNEL = np.maximum(normal(3, 3, 4, 4, seed=1), 0)
PRODUCTS = {
    "matmul": lambda x, w: numpy.matmul(x, w * SQUARE),
    "biased": lambda x, w: numpy.matmul(x, w * SQUARE) + np.zeros(4, "float32"),
    "first": lambda x, w: numpy.matmul(w * SQUARE, x),
    "transposed": lambda x, w: numpy.swapaxes(
        numpy.matmul(w * SQUARE, x), -1, -2
    ),
    "negative": lambda x, w: -numpy.matmul(x, w * SQUARE),
    "broadcast": lambda x, w: numpy.broadcast_to(
        numpy.matmul(x, w * SQUARE), (2, 1, 4, 4, 4)
    ),
    "einsum": lambda x, w: numpy.einsum("abij,jk->abik", x, w * SQUARE),
    "conv": lambda x, w: nn.conv(x, w * KERNEL),
    "same": lambda x, w: nn.conv(x, w * KERNEL, padding="same"),
    "depthwise": lambda x, w: nn.depthwise_conv(x, w * KERNEL[..., :1]),
    "transposed conv": lambda x, w: nn.conv_transpose(x, w * KERNEL),
    "int8": lambda x, w: numpy.matmul(x, of_few_bits() * np.float32(w)),
}
FACTORS = {
    "overflow": (0, 1e25, lambda y: y * 1e25),
    "underflow": (1e20, 1e-20, lambda y: y / 1e20),
    "infinity": (1, 1, lambda y: y / np.array([0, 1, 1, 0], "float32")),
    "twice": (0, 1e25, lambda y: y * 2 * [1e25, 1, 1, 1]),
}


def of_few_bits():
    return cast(convert_to_tensor(SQUARE.astype("int8")), "float32")


@pytest.mark.parametrize("dynamic", [False, (0,), True])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_factors_that_weights_do_not_hold(name, factor, dynamic):
    size, of_weights, then = FACTORS[factor]
    assert_same_both_ways(
        lambda x: then(PRODUCTS[name](x, of_weights)),
        np.abs(normal(1, 4, 4, 4, seed=2)) * np.float32(size),
        dynamic,
        rtol=1e-4,
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_factors_that_weights_of_halves_do_not_hold(dtype):
    weights = convert_to_tensor(SQUARE, dtype)
    divisor = convert_to_tensor(np.array([0, 1, 1, 0]), dtype)
    x = np.asarray(convert_to_tensor(np.abs(normal(3, 4)), dtype))
    assert_same_both_ways(
        lambda x: numpy.matmul(x, weights) / divisor, x, False, rtol=1e-2
    )


@pytest.mark.parametrize("shift", [None, 3, np.arange(5, dtype="float32")])
def test_factors_of_more_columns_than_a_product_has(shift):
    """Of weights in groups of few bits."""
    numbers = np.random.default_rng(0).integers(-8, 8, (64, 1), "int8")
    zero = np.repeat(np.arange(4), 16)[:, None].astype("float32")
    factors = np.arange(1, 6, dtype="float32")

    def function(x):
        weights = (cast(convert_to_tensor(numbers), "float32") - zero) * 2
        y = numpy.matmul(x, weights)
        return (y if shift is None else y + shift) * factors

    x = normal(3, 64)
    wanted = (
        x @ (numbers - zero) * 2 + (0 if shift is None else shift)
    ) * factors
    check(function, [x], wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("channels", [3, 64])
@pytest.mark.parametrize("gamma", [1.0, 1e-25, 0.0])
def test_constants_of_ordinary_models_are_left_to_openvino(channels, gamma):
    weights, vectors = normal(3, 3, 3, channels), normal(4, channels, seed=1)
    vectors[2] *= gamma
    model = trace(lambda x: normalized(x, weights, vectors), normal(2, 8, 8, 3))
    before = node_types(model)
    prevent_fusions(model)
    assert node_types(model) == before


@pytest.mark.parametrize("gamma", [1.0, 1e-4, 0.0])
@pytest.mark.parametrize("type", ["Convolution", "FullyConnected"])
def test_normalizations_become_part_of_weights(type, gamma, monkeypatch):
    shape = (3, 3, 3, 4) if type == "Convolution" else (3, 4)
    weights, vectors = normal(*shape), normal(4, 4, seed=1)
    vectors[2, 1:] *= gamma
    product = nn.conv if type == "Convolution" else numpy.matmul

    def function(x):
        bias, mean, scale, beta = vectors
        y = product(x, weights) + bias
        return nn.batch_normalization(y, mean, bias**2, -1, beta, scale)

    compiled = compiled_models(monkeypatch)
    run_compiled(function, normal(2, 8, 8, 3), dynamic=(0,))
    types = runtime_types(compiled[-1]._compiled)
    assert types.count(type) == 1
    assert not {"Eltwise", "Subgraph"} & set(types)


def test_normalizations_of_a_whole_model_are_left_to_openvino():
    model = applications.MobileNetV3Small((32, 32, 3), weights=None)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for variable in layer.weights:  # the variance is positive
                variable.assign(rng.uniform(1e-3, 2, variable.shape))
    traced = trace(model, normal(1, 32, 32, 3), dynamic=(0,))
    sink_transposes(traced)
    before = node_types(traced).count("Maximum")
    prevent_fusions(traced)
    assert node_types(traced).count("Maximum") == before


ROWS = np.array([1, 20, 300, 4000], "float32").reshape(4, 1, 1)


@pytest.mark.parametrize("dynamic", [False, (0,), True])
@pytest.mark.parametrize("columns", [4, 5])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + ROWS,
        lambda x: x + ROWS[None],
        lambda x: x - ROWS,
        lambda x: ROWS - x,
        lambda x: x * ROWS,
        lambda x: x / ROWS,
        lambda x: numpy.maximum(x, ROWS / 1000),
        lambda x: 1 - nn.tanh(x) * ROWS,
        lambda x: nn.relu(x + 1) + ROWS,
        lambda x: numpy.transpose(nn.relu(x), (0, 3, 2, 1)) * ROWS[:, 0, 0],
        lambda x: nn.relu(x) ** 2 + ROWS * 2,
        lambda x: x + ROWS.reshape(4, 1),
    ],
)
def test_constants_along_another_axis_than_the_columns(
    function, columns, dynamic
):
    """They are no bias of the product before them."""
    x, weights = normal(3, 4, 4, 6), normal(6, columns, seed=1)
    assert_same_both_ways(
        lambda x: function(numpy.matmul(x, weights)),
        x,
        dynamic,
        rtol=1e-5,
        atol=1e-3,
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["gelu", "relu", "sigmoid", "silu", "tanh"])
def test_activations_apart_from_products(name, bias):
    weights, shift = normal(6, 8), normal(8, seed=1)
    activation = getattr(nn, name)

    def function(x):
        y = numpy.matmul(x, convert_to_tensor(weights))
        return activation(y + convert_to_tensor(shift) if bias else y) * 1.5

    x = normal(3, 1, 6, seed=2)
    model = trace(function, x, dynamic=(0,))
    fused = runtime_types(core().compile_model(model.clone(), "CPU"))
    keep_activations_apart([y.input_value(0) for y in model.get_results()])
    compiled = core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert "Eltwise" not in fused
    assert "Eltwise" in runtime_types(compiled)
    (expected,) = run_compiled(function, x)
    result = compiled([x])[compiled.outputs[0]]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_activations_that_stay():
    """Those of products of other widths or kinds, and of none."""

    def function(x, y):
        weights = convert_to_tensor(normal(6, 7))
        halves = cast(convert_to_tensor(normal(6, 8)), "bfloat16")
        return (
            nn.gelu(numpy.matmul(x, weights)),
            nn.gelu(numpy.matmul(cast(x, "bfloat16"), halves)),
            nn.gelu(numpy.matmul(x, y)),
            nn.gelu(x),
        )

    model = trace(function, normal(3, 6), normal(6, 8), dynamic=(0,))
    before = node_types(model)
    keep_activations_apart([y.input_value(0) for y in model.get_results()])
    assert node_types(model) == before
