import numpy as np
import pytest

from keras.src.backend.openvino import nn
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.core import shape
from keras.src.backend.openvino.layout import sink_transposes
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 6, 5, 3)).astype("float32")
KERNEL = RNG.normal(size=(3, 3, 3, 3)).astype("float32")
BIAS = RNG.normal(size=(3,)).astype("float32")
PLANE = RNG.normal(size=(6, 5, 1)).astype("float32")


def conv(x):
    return nn.conv(x, KERNEL, padding="same")


def squeeze_and_excite(x):
    pooled = numpy.mean(x, axis=(1, 2), keepdims=True)
    return x * nn.sigmoid(conv(pooled))


# What stands between two convolutions.
BETWEEN = {
    "bias": lambda x: x + BIAS,
    "bias first": lambda x: BIAS - x,
    "4-d bias": lambda x: x * BIAS.reshape(1, 1, 1, 3),
    "a constant plane": lambda x: x + PLANE,
    "relu": nn.relu,
    "leaky relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "softplus": nn.softplus,
    "batch normalization": lambda x: nn.batch_normalization(
        x, BIAS, BIAS**2, -1, BIAS, BIAS
    ),
    "residual": lambda x: x + nn.relu(conv(x) + BIAS),
    "concatenation": lambda x: numpy.concatenate([x, x * 2], axis=-1)[..., 1:4],
    "padding": lambda x: numpy.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0))),
    "where": lambda x: numpy.where(x > BIAS, x, 0.5),
    "squeeze and excite": squeeze_and_excite,
    "a mean": lambda x: x - numpy.mean(x, axis=(0, 1, 2)),
    "means": lambda x: x * numpy.mean(x, axis=(1, 2))[:, None, None],
    "a mean of rows": lambda x: x + numpy.mean(x, axis=(0, 3))[..., None],
    "a broadcast mean": lambda x: (
        x + numpy.broadcast_to(numpy.mean(x, (1, 2), keepdims=True), shape(x))
    ),
    "max pool": lambda x: nn.max_pool(nn.relu(x), 2),
    "softmax": nn.softmax,
    "transpose": lambda x: numpy.transpose(x, (0, 2, 1, 3)) + BIAS,
}


@pytest.mark.parametrize("dynamic", ((0,), (0, 1, 2), False))
@pytest.mark.parametrize("name", BETWEEN)
def test_numbers_stay(name, dynamic):
    def function(x):
        y = BETWEEN[name](conv(x))
        return y, conv(y) + BIAS

    expected = function(convert_to_tensor(IMAGE))
    results = run_compiled(function, IMAGE, dynamic=dynamic)
    for result, reference in zip(results, expected):
        assert result.shape == reference.shape
        np.testing.assert_allclose(result, reference, rtol=1e-3, atol=1e-4)


STAY = {"a broadcast mean", "concatenation", "softmax", "transpose"}
VANISH = set(BETWEEN) - STAY
# Between others, only where all dims are known.
VANISH_IF_KNOWN = {name for name in VANISH if "mean" in name}


@pytest.mark.parametrize("name", sorted(VANISH))
def test_transposes_between_convolutions_vanish(name):
    dynamic = () if name in VANISH_IF_KNOWN else (0,)
    model = trace(
        lambda x: conv(BETWEEN[name](conv(x))), IMAGE, dynamic=dynamic
    )
    assert node_types(model).count("Transpose") >= 4
    sink_transposes(model)
    order = node_types(model)
    first = order.index("Convolution")
    last = len(order) - order[::-1].index("Convolution")
    assert order[first:last].count("Transpose") == 0
    assert order.count("Transpose") == 2


def test_what_is_broadcast_moves_before_that():
    between = BETWEEN["a broadcast mean"]
    model = trace(lambda x: conv(between(conv(x))), IMAGE, dynamic=())
    sink_transposes(model)
    sizes = [
        np.prod(node.get_output_shape(0))
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Transpose"
    ]
    assert sizes.count(IMAGE.size) == 2


@pytest.mark.parametrize("dynamic", ((0,), False))
def test_what_is_broadcast_to_more_rows_stays_so(dynamic):
    def function(x, other):
        mean = numpy.mean(other, (0, 1, 2), keepdims=True)
        return nn.relu(conv(x) + numpy.broadcast_to(mean, shape(other)))

    one = IMAGE[:1]
    expected = function(convert_to_tensor(one), convert_to_tensor(IMAGE))
    (result,) = run_compiled(function, one, IMAGE, dynamic=dynamic)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)


def test_what_broadcasts_otherwise_stays_where_it_is():
    # The second operand is neither a constant nor transposed.
    model = trace(
        lambda x, other: conv(conv(x) + other), IMAGE, IMAGE, dynamic=(0,)
    )
    before = node_types(model)
    sink_transposes(model)
    assert node_types(model) == before
    results = run_compiled(
        lambda x, other: conv(conv(x) + other), IMAGE, 2 * IMAGE
    )
    expected = conv(conv(convert_to_tensor(IMAGE)) + 2 * IMAGE)
    np.testing.assert_allclose(results[0], expected, rtol=1e-3, atol=1e-4)


def test_without_transposes_nothing_changes():
    model = trace(lambda x: nn.relu(x + BIAS), IMAGE)
    before = node_types(model)
    sink_transposes(model)
    assert node_types(model) == before
