"""Arrays of no elements in compiled models."""

import numpy as np
import pytest

from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import run_compiled


@pytest.mark.parametrize(
    "name, shape, arguments",
    [
        ("sum", (2, 3, 0), {"axis": -1}),
        ("mean", (2, 0), {"axis": 1}),
        ("nanvar", (2, 3, 0, 2), {"axis": 3}),
        ("nanstd", (0, 3, 1, 2), {"axis": (2, 3, 0), "keepdims": True}),
        ("median", (2, 0, 3), {"axis": 1}),
        ("prod", (0, 2), {"axis": 0}),
        ("cumsum", (2, 0), {"axis": 0}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "bool"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_reductions_of_no_elements(name, shape, arguments, dtype):
    x = np.zeros(shape, dtype)
    wanted = getattr(np, name)(x, **arguments)
    op = getattr(numpy, name)
    check(lambda x: op(x, **arguments), [x], wanted, dynamic=False)


@pytest.mark.parametrize("dtype", ["float32", "int32", "float16", "bfloat16"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_sums_of_no_products_are_zero(dtype, dynamic):
    weights = numpy.zeros((0, 3), dtype)
    x = np.asarray(numpy.zeros((2, 0), dtype))
    for op in (
        lambda x: numpy.matmul(x, weights),
        lambda x: numpy.matmul(numpy.transpose(weights), numpy.transpose(x)),
        lambda x: numpy.einsum("ij,jk->ik", x + 1, weights),
    ):
        (result,) = run_compiled(op, x, dynamic=dynamic)
        assert result.dtype == x.dtype and result.size == 6
        assert not np.any(result)


def test_products_with_nothing():
    x = np.ones((1,), "float32")
    nothing = np.ones((0, 1, 2), "int16")
    check(numpy.dot, [x, nothing], np.dot(x, nothing), dynamic=False)
    nothing = np.zeros((0,), "uint16")
    check(numpy.matmul, [nothing, nothing], 0, dynamic=False)
