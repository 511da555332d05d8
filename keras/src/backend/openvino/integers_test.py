"""Integers in compiled models, where the CPU plugin computes in float32."""

import numpy as np
import pytest

from keras.src.backend.openvino import nn
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import run_compiled

LIMITS = np.iinfo(np.int32)
RNG = np.random.default_rng(0)
VALUES = np.concatenate(
    [
        RNG.integers(LIMITS.min, LIMITS.max, 40),
        RNG.integers(-3, 3, 10),
        [LIMITS.min, LIMITS.min + 1, LIMITS.max, LIMITS.max - 1],
        [123456789, 123456790, 2**24, 2**24 + 1, -(2**24), -(2**24) - 1],
    ]
).astype("int32")
PAIRS = [x.ravel() for x in np.meshgrid(VALUES, VALUES)]
LEFT, RIGHT = (x[:3600].reshape(60, 60).copy() for x in PAIRS)
CHOICE = RNG.integers(0, 2, LEFT.shape).astype(bool)
FLOATS = RNG.normal(size=LEFT.shape).astype("float32")

# Other operands of comparisons, which broadcast.
OTHERS = {
    "same": RIGHT,
    "row": RIGHT[3:4].copy(),
    "column": RIGHT[:, 3:4].copy(),
    "number": np.array(123456789, "int32"),
}
COMPARISONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}


def check(op, wanted, *arrays):
    for dynamic in (False, True):
        (result,) = run_compiled(op, *arrays, dynamic=dynamic)
        assert result.dtype == wanted.dtype
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name, other):
    op, wanted, other = getattr(numpy, name), COMPARISONS[name], OTHERS[other]
    check(op, wanted(LEFT, other), LEFT, other)
    check(
        lambda x, y: op(x, y + 1),
        wanted(LEFT, other + np.int32(1)),
        LEFT,
        other,
    )


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", COMPARISONS)
def test_what_is_fused_with_a_comparison(name, other):
    op, wanted, other = getattr(numpy, name), COMPARISONS[name], OTHERS[other]
    hit = wanted(LEFT, other)
    check(
        lambda x, y, f: numpy.where(op(x, y), f, -f),
        np.where(hit, FLOATS, -FLOATS),
        LEFT,
        other,
        FLOATS,
    )
    check(
        lambda x, y: numpy.where(op(x, y), x, y + 7) * 3,
        np.where(hit, LEFT, other + np.int32(7)) * np.int32(3),
        LEFT,
        other,
    )
    check(
        lambda x, y: cast(numpy.logical_not(op(x, y)), "int32") * x,
        ~hit * LEFT,
        LEFT,
        other,
    )


@pytest.mark.parametrize("other", OTHERS)
def test_where(other):
    other = OTHERS[other]
    check(numpy.where, np.where(CHOICE, LEFT, other), CHOICE, LEFT, other)
    check(
        lambda f, x, y: numpy.where(numpy.exp(f) < 1, x, y) + x,
        np.where(FLOATS < 0, LEFT, other) + LEFT,
        FLOATS,
        LEFT,
        other,
    )


def test_every_integer_but_zero_is_true():
    check(lambda x: cast(x, "bool"), LEFT != 0, LEFT)
    check(lambda x: numpy.all(x, axis=1), (LEFT != 0).all(1), LEFT)
    check(
        lambda x: numpy.count_nonzero(x, axis=1),
        np.count_nonzero(LEFT, axis=1).astype("int32"),
        LEFT,
    )


def test_bounds():
    check(nn.relu, np.maximum(LEFT, 0), LEFT)
    check(
        lambda x: numpy.clip(x, -123456789, 123456789),
        np.clip(LEFT, -123456789, 123456789),
        LEFT,
    )


@pytest.mark.parametrize("value", [0, 123456789, LIMITS.min])
def test_padding(value):
    check(
        lambda x: numpy.pad(x, ((1, 0), (2, 1)), constant_values=value),
        np.pad(LEFT, ((1, 0), (2, 1)), constant_values=value),
        LEFT,
    )


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(axis, keepdims):
    for name in ("max", "min", "sum", "prod"):
        arguments = {"axis": axis, "keepdims": keepdims}
        of_small = {"dtype": "int32"} if name in ("sum", "prod") else {}
        wanted = getattr(np, name)(LEFT, **arguments, **of_small)
        check(
            lambda x: getattr(numpy, name)(x, **arguments),
            np.asarray(wanted),
            LEFT,
        )


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
@pytest.mark.parametrize("name", ["max", "min", "sum", "prod"])
def test_arithmetic_behind_reductions(name, dtype):
    x = RNG.integers(0, 6, (4, 1, 5)).astype(dtype)
    for axis in (1, 2, (1, 2)):
        reduced = getattr(np, name)(x, axis=axis)
        if name in ("sum", "prod"):
            reduced = reduced.astype("int32")
        for factor, term in ((3, 0), (1, 5), (2, -1)):
            check(
                lambda x: getattr(numpy, name)(x, axis=axis) * factor + term,
                reduced * factor + term,
                x,
            )


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(name):
    near = 2**30 + RNG.permutation(60 * 60).reshape(60, 60).astype("int32")
    for x in (LEFT, near):
        wanted = getattr(np, name)(x, axis=1).astype("int32")
        check(lambda x: getattr(numpy, name)(x, axis=1), wanted, x)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_max_pool(padding, strides, size):
    x = LEFT.reshape(2, 30, 20, 3)

    def op(x):
        return nn.max_pool(x, size, strides, padding)

    # Of doubles, which hold all 32 bits, by the kernel.
    wanted = np.asarray(op(convert_to_tensor(x.astype("float64"))))
    check(op, wanted.astype("int32"), x)


@pytest.mark.parametrize("size", [0, 1, 60, 257, 700])
@pytest.mark.parametrize("small", [(), (0,), (1,), (0, 1)])
def test_matrix_products(size, small):
    factors = [
        RNG.integers(LIMITS.min, LIMITS.max, shape, "int32")
        for shape in [(2, 3, size), (size, 5)]
    ]
    for i in small:
        factors[i] = factors[i].astype("int8")
    wanted = np.matmul(*factors, dtype="int32")
    check(
        lambda a, b: numpy.matmul(cast(a, "int32"), cast(b, "int32")),
        wanted,
        *factors,
    )
    left, right = map(convert_to_tensor, factors)
    check(
        lambda b: numpy.matmul(cast(left, "int32"), cast(b, "int32")),
        wanted,
        factors[1],
    )
    check(
        lambda a: numpy.matmul(cast(a, "int32"), cast(right, "int32")),
        wanted,
        factors[0],
    )


@pytest.mark.parametrize("a", [(7,), (7, 3), (2, 7, 3)])
@pytest.mark.parametrize("b", [(7,), (4, 7)])
def test_transposed_factors_and_vectors(a, b):
    left, right = (
        RNG.integers(LIMITS.min, LIMITS.max, shape, "int32") for shape in (a, b)
    )
    wanted = np.matmul(
        left if left.ndim == 1 else left.swapaxes(-1, -2), right.T
    )
    check(
        lambda x, y: apply("MatMul", x, y, transpose_a=True, transpose_b=True),
        np.asarray(wanted),
        left,
        right,
    )


def test_ops_made_of_comparisons():
    near = np.arange(2**30, 2**30 + 50, dtype="int32")
    check(
        lambda x, y: numpy.isin(x, y), np.isin(near, near[::7]), near, near[::7]
    )
    check(numpy.triu, np.triu(LEFT), LEFT)
    check(
        lambda x: numpy.searchsorted(x, x + 1),
        np.searchsorted(near, near + 1).astype("int32"),
        near,
    )


OF_16_BITS = {
    "add": lambda x: x + x,
    "multiply": lambda x: x * x,
    "subtract": lambda x: x - x * x,
    "negative": lambda x: -x,
    "absolute": abs,
    "invert": lambda x: ~x,
    "shift": lambda x: x << 3,
}


@pytest.mark.parametrize("name", OF_16_BITS)
@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_16_bits_wrap_around_inside_a_model(name, dtype):
    bounds = np.iinfo(dtype)
    x = np.array([bounds.min, bounds.max, bounds.max - 1, 300, 1], dtype)
    op = OF_16_BITS[name]
    check(lambda x: cast(op(x), "float32"), op(x).astype("float32"), x)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("source", ["float32", "int32"])
def test_casts_to_fewer_bits_wrap_around(source, dtype):
    x = np.array([-1, 255, 256, 65535, 65537, -40000, 123456, 7], source)
    wanted = x.astype("int32").astype(dtype)
    check(lambda x: cast(x, dtype), wanted, x)
    check(
        lambda x: cast(cast(x, dtype), "float32") + 1,
        wanted.astype("float32") + 1,
        x,
    )


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_every_call_of_a_model_gives_the_same(dtype, dynamic):
    # `run_compiled` calls the model several times. What is computed of
    # constants alone stays in memory that other nodes must not write into.
    x = np.array([[5, 1, 200], [7, 3, 0]], dtype)
    row, number = np.array([4, 2, 9], dtype), np.array(6, dtype)

    def function(x):
        total = numpy.sum(x)
        return (
            numpy.clip(total, 2, 199),
            numpy.minimum(number, total),
            numpy.minimum(row, x),
            numpy.minimum(x, row),
            numpy.where(x > 4, row, number),
            numpy.where(total > 4, row, -row if dtype[0] == "i" else row),
            numpy.floor_divide(row, x + 1) + numpy.mod(row, x + 1),
            numpy.clip(x, row, row + 3),
        )

    expected = (
        np.clip(x.sum(), 2, 199),
        np.minimum(number, x.sum()),
        np.minimum(row, x),
        np.minimum(row, x),
        np.where(x > 4, row, number),
        row,
        row // (x + 1) + row % (x + 1),
        np.clip(x, row, row + 3),
    )
    results = run_compiled(function, x, dynamic=dynamic)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_remainders_of_the_smallest_number(dtype):
    smallest = np.iinfo(dtype).min
    x = np.array([smallest, smallest, -7, 7, 0, smallest + 1], dtype)
    y = np.array([7, -5, 5, -5, 3, -3], dtype)
    (result,) = run_compiled(numpy.fmod, x, y)
    np.testing.assert_array_equal(result, np.fmod(x, y))
