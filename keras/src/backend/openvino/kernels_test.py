"""Kernels, against OpenVINO's own nodes and SciPy."""

import numpy as np
import openvino as ov
import pytest
import scipy.signal
import scipy.special

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import kernels
from keras.src.backend.openvino import registry
from keras.src.backend.openvino.settings import PROPERTIES
from keras.src.backend.openvino.settings import core
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled

X = np.linspace(-2.9, 3.1, 60, dtype="float32").reshape(3, 4, 5)
UNIT = X / 4
ABOVE_1 = np.abs(X) + 1.5
TWO = np.float32(2)

# Of each node type: its inputs and attributes.
CASES = {
    **{
        name: ((X,), {})
        for name in (
            "Abs Asinh Atan Ceiling Cos Cosh Exp Floor HSigmoid HSwish IsNaN "
            "Negative Relu Sigmoid Sign Sin Sinh SoftSign Tan Tanh"
        ).split()
    },
    **{name: ((UNIT,), {}) for name in ("Acos", "Asin", "Atanh")},
    **{name: ((ABOVE_1,), {}) for name in ("Acosh", "Log", "Sqrt")},
    **{
        name: ((X, X[::-1] + 0.1), {})
        for name in (
            "Add Divide Equal Less LessEqual Maximum Minimum Multiply NotEqual "
            "Subtract"
        ).split()
    },
    "Clamp": ((X,), {"min": -1.0, "max": 1.5}),
    "Elu": ((X,), {"alpha": 0.5}),
    "Gelu": ((X,), {"approximation_mode": "erf"}),
    "LogSoftmax": ((X,), {"axis": 1}),
    "PRelu": ((X, np.float32([0.1, 0.2, 0.3, 0.4])), {}),
    "Power": ((ABOVE_1, TWO), {}),
    "Round": ((X * 2,), {"mode": "half_to_even"}),
    "Selu": ((X, TWO, np.float32(1.5)), {}),
    "Softmax": ((X,), {"axis": 1}),
    "Swish": ((X,), {}),
    "CumSum": ((X, 1), {"exclusive": True, "reverse": True}),
    "MatMul": ((X, X), {"transpose_a": False, "transpose_b": True}),
    "OneHot": ((np.array([0, 2, -1, 7]), 3, TWO, TWO + 1), {"axis": 0}),
    "Tile": ((X, (2, 1, 3)), {}),
    "Roll": ((X, (1, -2), (0, 2)), {}),
    "Slice": ((X, (3, -1), (0, -9), (-1, -2), (1, 2)), {}),
    "Gather": ((X, np.array([[2, 0], [1, 1]]), 1), {"batch_dims": 0}),
    "GatherElements": ((X, np.full((3, 4, 1), 2)), {"axis": 2}),
    "GatherND": ((X, np.array([[2, 3], [0, 1]])), {"batch_dims": 0}),
    "ScatterUpdate": ((X, np.array([2, 0]), X[:, :2], 1), {}),
    "SearchSorted": ((np.sort(X[0, 0]), X[1, 0]), {"right_mode": True}),
    "SpaceToDepth": (
        (normal(1, 2, 4, 6),),
        {"mode": "blocks_first", "block_size": 2},
    ),
    "DepthToSpace": (
        (normal(1, 8, 2, 3),),
        {"mode": "blocks_first", "block_size": 2},
    ),
    **{
        f"Reduce{kind}": ((ABOVE_1, (0, 2)), {"keep_dims": True})
        for kind in "L1 L2 Max Mean Min Prod Sum".split()
    },
}


@pytest.mark.parametrize("name", CASES)
def test_as_openvino(name):
    inputs, attributes = CASES[name]
    inputs = [np.asarray(x) for x in inputs]
    result = registry.find(name).kernel(*inputs, **attributes)
    parameters = [
        graph.parameter(x.dtype.name, x.shape)
        if x.dtype == np.float32 and x.ndim
        else graph.constant(x)
        for x in inputs
    ]
    node = graph.node(name, parameters, attributes)
    given = [
        x for x in parameters if x.get_node().get_type_name() != "Constant"
    ]
    model = ov.Model(node.outputs(), [x.get_node() for x in given])
    arrays = [x for x in inputs if x.dtype == np.float32 and x.ndim]
    expected = core().compile_model(model, "CPU", PROPERTIES)(arrays)[0]
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("exponent", [0.5, -0.5])
@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (2, 6)])
def test_powers_of_a_half(exponent, shape):
    x = np.array([[-np.inf, -0.0, 0.0, 4.0, np.inf, np.nan]] * 2, "float32")
    exponents = np.full(shape, exponent, "float32")
    with np.errstate(all="ignore"):
        result = kernels.power(x, exponents)
        each = np.power(x, np.full(x.shape, exponent, "float32"))
    np.testing.assert_array_equal(result, each)
    np.testing.assert_array_equal(np.signbit(result), np.signbit(each))
    assert result.dtype == each.dtype


def test_erf_as_scipy():
    x = np.linspace(-30, 30, 4001)
    wanted = x * scipy.special.ndtr(x)
    np.testing.assert_allclose(
        kernels.gelu(x, "erf"), wanted, rtol=1e-12, atol=1e-300
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_as_scipy(stride):
    x, weights = normal(1, 1, 9, 8), normal(1, 1, 3, 2, seed=1)
    result = kernels.convolution(
        x,
        weights,
        strides=(stride, stride),
        pads_begin=(0, 0),
        pads_end=(0, 0),
        dilations=(1, 1),
    )
    wanted = scipy.signal.correlate(x[0, 0], weights[0, 0], mode="valid")
    wanted = wanted[::stride, ::stride]
    np.testing.assert_allclose(result[0, 0], wanted, rtol=1e-5, atol=1e-6)


def test_folding_adds_up_what_overlaps():
    # The patches of an image, each weighed by how often its pixels stand in
    # one, make the image.
    ones = np.ones((1, 4, 9), "float32")
    counts = kernels.col2im(
        ones,
        np.array([4, 4]),
        np.array([2, 2]),
        strides=(1, 1),
        dilations=(1, 1),
        pads_begin=(0, 0),
        pads_end=(0, 0),
    )
    edge = np.array([1, 2, 2, 1])
    np.testing.assert_array_equal(counts[0, 0], np.outer(edge, edge))


@pytest.mark.parametrize("width", [1, 5, 16, 64])
@pytest.mark.parametrize("batch", [1, 2])
def test_gathering_from_each_of_a_batch(width, batch):
    x = normal(batch, 8, width)
    indices = np.array([[7, 0, 3], [1, 1, 2]], "int32")[:batch]
    wanted = np.take_along_axis(x, indices[..., None], 1)

    def gather(x, indices):
        return apply("Gather", x, indices, 1, batch_dims=1)

    for dynamic in (False, True, (1,)):
        (result,) = run_compiled(gather, x, indices, dynamic=dynamic)
        np.testing.assert_array_equal(result, wanted)
