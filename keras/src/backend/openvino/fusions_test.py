"""Models that OpenVINO changes to others with other numbers."""

import itertools

import numpy as np
import pytest
import scipy.special

from keras.src.backend.openvino import nn
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.control_flow import while_loop
from keras.src.backend.openvino.fusions import prevent_fusions
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import normal
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


HUGE = np.array([1e8, 1, 2], "float32")


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
        ("float32", lambda x: [x + 1e8, x + 1e8 - 1e8]),
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
    with np.errstate(all="ignore"):
        eager, compiled = both_ways(function, x, dynamic=dynamic)
    for way in zip(eager, compiled, strict=True):
        # NumPy's assertion knows no NaN of bfloat16.
        np.testing.assert_array_equal(*(y.astype("float32") for y in way))


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


@pytest.mark.parametrize("channels", [3, 64])
@pytest.mark.parametrize("gamma", [1.0, 1e-25, 0.0])
def test_constants_of_ordinary_models_are_left_to_openvino(channels, gamma):
    weights, vectors = normal(3, 3, 3, channels), normal(4, channels, seed=1)
    vectors[2] *= gamma
    model = trace(lambda x: normalized(x, weights, vectors), normal(2, 8, 8, 3))
    before = node_types(model)
    prevent_fusions(model)
    assert node_types(model) == before
