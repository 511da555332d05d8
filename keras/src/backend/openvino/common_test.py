import ml_dtypes
import numpy as np
import pytest
from numpy.lib.array_utils import normalize_axis_tuple

from keras.src.backend.openvino import common
from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace


@pytest.mark.parametrize("axis", [0, -1, (0, 2), [-3, 1], (), (2, -1, 0)])
@pytest.mark.parametrize("ndim", [1, 3, 4])
def test_axes_as_numpy_reads_them(axis, ndim):
    try:
        expected = normalize_axis_tuple(axis, ndim)
    except ValueError:
        with pytest.raises(ValueError, match="out of bounds|named twice"):
            common.canonical_axes(axis, ndim)
    else:
        assert common.canonical_axes(axis, ndim) == expected


def test_axes_that_are_not_integers():
    assert common.canonical_axes(None, 2) == (0, 1)
    assert common.canonical_axes(np.int64(-1), 2) == (1,)
    assert common.canonical_axes(np.array(-1), 2) == (1,)
    assert common.canonical_axes(np.array([0, -1]), 2) == (0, 1)
    assert common.canonical_axes(convert_to_tensor([0, -1]), 2) == (0, 1)
    with pytest.raises(TypeError):
        common.canonical_axes(0.5, 2)


@pytest.mark.parametrize(
    "shape1, shape2",
    [((), (3,)), ((2, 1), (1, 3)), ((4, 2, 3), (3,)), ((0, 1), (1, 5))],
)
def test_shapes_that_broadcast(shape1, shape2):
    expected = np.broadcast_shapes(shape1, shape2)
    assert common.broadcast_dims(shape1, shape2) == expected
    assert common.broadcast_dims(shape2, shape1) == expected


def test_dims_that_are_not_known_broadcast():
    # An unknown dim is another's size where that is neither 1 nor unknown.
    for dims1, dims2, expected in (
        ((None,), (3,), (3,)),
        ((None,), (1,), (None,)),
        ((None, 2), (None,), (None, 2)),
        ((None,), (None,), (None,)),
    ):
        assert common.broadcast_dims(dims1, dims2) == expected
        assert common.broadcast_dims(dims2, dims1) == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(dtype):
    @common.in_float32
    def three_steps(x, n):
        return (x + n) * x - x, x > 0

    x = normal(50).astype(getattr(ml_dtypes, dtype, dtype))
    wide = x.astype("float32")
    expected = ((wide + 3) * wide - wide).astype(x.dtype), wide > 0
    for results in both_ways(lambda x: three_steps(x, 3), x):
        for result, wanted in zip(results, expected):
            assert result.dtype == wanted.dtype
            np.testing.assert_array_equal(result, wanted)


def test_halves_of_two_dtypes_give_float32():
    @common.in_float32
    def total(x, y):
        return x + y

    x, y = np.float16([0.1]), np.array([0.1], ml_dtypes.bfloat16)
    result = total(convert_to_tensor(x), convert_to_tensor(y))
    assert result.dtype == "float32"
    np.testing.assert_array_equal(result, np.float32(x) + np.float32(y))


@pytest.mark.parametrize("size", [0, 5, np.int32(5), np.array(5)])
def test_sizes(size):
    assert common.dimension(size, "op") == size
    assert common.dimension(convert_to_tensor(size), "op") == size


@pytest.mark.parametrize(
    "size, error",
    [
        (-1, ValueError),
        (2.0, TypeError),
        (True, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (convert_to_tensor(2.0), TypeError),
        (convert_to_tensor([2]), ValueError),
        (convert_to_tensor(-1), ValueError),
    ],
)
def test_what_is_no_size(size, error):
    with pytest.raises(error, match="^`op` takes a"):
        common.dimension(size, "op")


def test_a_dim_that_has_to_be_known():
    tensors = []

    def function(x):
        tensors.append(x)
        return x

    trace(function, np.ones((2, 3), "float32"), dynamic=(0,))
    assert common.known_dim(tensors[0], 1, "op") == 3
    with pytest.raises(UnknownDim, match=r"`op` .*dim 0.*\(None, 3\)"):
        common.known_dim(tensors[0], 0, "op")


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 3), (4, 2, 3)])
def test_broadcast_like(shape, dtype):
    y = np.arange(3).astype(dtype)
    if len(shape) == 0:
        y = y[2]
    x = np.zeros(shape, "float32")
    check(common.broadcast_like, (y, x), np.broadcast_to(y, shape))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "indices", [np.array(0), np.array([0, 0, 0]), np.zeros((2, 2), int)]
)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [(2, 1, 3), (1, 1, 1), (3, 2, 4)])
def test_gathering_along_any_axis(shape, indices, axis, known):
    x = normal(*shape)
    indices = indices.astype("int32")
    expected = np.take(x, indices, axis)
    if known:
        check(
            lambda x: common.gather(x, convert_to_tensor(indices), axis),
            (x,),
            expected,
            dynamic=False,
        )
    else:
        check(
            lambda x, i: common.gather(x, i, axis),
            (x, indices),
            expected,
            dynamic=False,
        )


def test_the_smaller_and_the_larger_dim():
    assert (common.smaller(2, 3), common.larger(2, 3)) == (2, 3)

    def bounds(n):
        return common.smaller(n, 4), common.larger(4, n)

    for n in (1, 9):
        results = run_compiled(bounds, np.array(n, "int32"))
        assert [int(x) for x in results] == [min(n, 4), max(n, 4)]


def test_polynomials_as_numpy():
    x = normal(20, dtype="float64")
    coefficients = (3.0, -1.0, 0.5, 2.0)
    expected = np.polynomial.Polynomial(coefficients)(x)
    result = common.polynomial(coefficients, x)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint32"])
def test_what_is_no_float_becomes_one(dtype):
    x = convert_to_tensor(np.ones(2, dtype))
    wanted = "float32"
    assert common.to_float(x).dtype == wanted
    assert common.at_least_float32(x).dtype == wanted


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_floats_stay(dtype):
    x = convert_to_tensor([1.0], dtype)
    assert common.to_float(x).dtype == dtype
    wide = "float64" if dtype == "float64" else "float32"
    assert common.at_least_float32(x).dtype == wide


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="`sort` does not take complex"):
        common.refuse_complex("sort", np.ones(2), np.ones(2, "complex64"))
    common.refuse_complex("sort", np.ones(2), 3)


def test_the_nearest_that_graphs_hold():
    for dtype in ("int64", "uint32", "uint64"):
        x = symbolic_of(dtype)
        assert int(common.nearest_like(2**40, x)) == 2**31 - 1
        assert int(common.nearest_like(7, x)) == 7
    assert int(common.nearest_like(-(2**40), symbolic_of("int64"))) == -(2**31)


def symbolic_of(dtype):
    made = []
    trace(lambda x: made.append(x) or x, np.ones(2, dtype))
    return made[0]
