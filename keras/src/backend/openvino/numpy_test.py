"""Element-wise maths, reductions and creation: numbers, dtypes and graphs.

The reference is NumPy, in float64 for floats. Every op is looked at eagerly
and inside a model compiled with dynamic dims.
"""

import math

import ml_dtypes
import numpy as np
import pytest

from keras.src import backend
from keras.src import ops
from keras.src.backend.openvino import numpy as knp
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.graph import topological_order
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

INF, NAN = math.inf, math.nan
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32)]
WIDE_INTEGERS = ["int64", "uint64"]
FLOATS = ["float16", "bfloat16", "float32"]
LIMIT = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 3e-6, "float64": 1e-13}


def array(values, dtype):
    return np.asarray(values, dtype=getattr(ml_dtypes, dtype, dtype))


def both(function, *arrays):
    """What `function` gives eagerly, and in a compiled model."""
    results = function(*map(convert_to_tensor, arrays))
    single = not isinstance(results, (list, tuple))
    eager = [np.asarray(y) for y in ([results] if single else results)]
    compiled = run_compiled(function, *arrays)
    for way in zip(eager, compiled):
        assert way[0].dtype == way[1].dtype
    return (eager[0], compiled[0]) if single else (eager, compiled)


def check(function, reference, *arrays, limit=None, dtype=None):
    """Compares with NumPy's `reference`, which gets floats in float64."""
    wide = [a.astype("float64") if a.dtype.name in LIMIT else a for a in arrays]
    with np.errstate(all="ignore"):
        expected = np.asarray(reference(*wide))
    for result in both(function, *arrays):
        if dtype is not None:
            assert result.dtype.name == dtype
        assert result.shape == expected.shape
        name = result.dtype.name
        if name in LIMIT:
            close = limit or LIMIT[name]
            np.testing.assert_allclose(
                result.astype("float64"),
                np.asarray(expected, result.dtype).astype("float64"),
                rtol=close,
                atol=close,
            )
        else:
            np.testing.assert_array_equal(result, expected)


# ---------------------------------------------------------------------- log10

MAGNITUDES = np.concatenate(
    [
        [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 1.4e-45, 1e-40, 3.4e38],
        np.geomspace(1e-45, 3e38, 999),
        1 + np.linspace(-0.2, 0.2, 999),
    ]
).astype("float32")


def test_log10_is_a_log_and_one_product():
    model = trace(knp.log10, np.zeros((2, 3), "float32"))
    assert node_types(model) == ["Log", "Multiply"]
    factors = [
        node.get_data()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant"
    ]
    assert len(factors) == 1
    assert factors[0].dtype == np.float32
    np.testing.assert_allclose(factors[0], 1 / math.log(10), rtol=1e-7)
    assert model.output().partial_shape.rank.get_length() == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_log10_of_halves_computes_in_float32(dtype):
    model = trace(knp.log10, array([1], dtype))
    assert node_types(model)[:3] == ["Convert", "Log", "Multiply"]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_log10_of_integers_converts_first(dtype):
    model = trace(knp.log10, array([1], dtype))
    assert node_types(model) == ["Convert", "Log", "Multiply"]
    assert knp.log10(array([1], dtype)).dtype == backend.floatx()


def test_log10_within_3_ulp_of_float64():
    with np.errstate(all="ignore"):
        expected = np.log10(MAGNITUDES.astype("float64"))
    ulp = np.spacing(np.abs(expected).astype("float32")).astype("float64")
    for result in both(knp.log10, MAGNITUDES):
        same = (result == expected) | (np.isnan(result) & np.isnan(expected))
        near = np.abs(result - expected) <= 3 * ulp
        assert np.all(same | near), MAGNITUDES[~(same | near)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_log10_of_halves_is_rounded_once(dtype):
    with np.errstate(all="ignore"):
        x = array(np.geomspace(1e-4, 6e4, 500), dtype)
        expected = np.log10(x.astype("float64")).astype(x.dtype)
    eager, compiled = both(knp.log10, x)
    # float32 may fall on the other side of a tie.
    assert np.mean(eager != expected) < 0.01
    for result in (eager, compiled):
        # The CPU plugin's conversion to bfloat16 truncates.
        np.testing.assert_allclose(
            result.astype("float64"),
            expected.astype("float64"),
            rtol=2 * float(ml_dtypes.finfo(x.dtype).eps),
        )


def test_log10_of_float64_is_computed_in_float64():
    x = np.geomspace(1e-300, 1e300, 100)
    result = np.asarray(knp.log10(x))
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, np.log10(x), rtol=1e-15)


def test_log10_of_anything_tensor_like():
    assert float(knp.log10(100)) == pytest.approx(2)
    assert float(knp.log10(True)) == 0
    assert np.asarray(knp.log10([[1, 10], [100, 1000]])).shape == (2, 2)
    assert np.asarray(knp.log10(np.zeros((0, 3), "float32"))).shape == (0, 3)
    assert np.asarray(knp.log10(Variable(np.float32(10)))) == 1
    (empty,) = run_compiled(knp.log10, np.zeros((0, 3), "float32"))
    assert empty.shape == (0, 3)


# ------------------------------------------------------- identity, eye and tri


def test_identity_compares_one_range():
    types = node_types(trace(knp.identity, np.array(3)))
    assert types.count("Range") == types.count("Equal") == 1
    eager = topological_order([knp.identity(3)._node])
    expected = ["Range", "Unsqueeze", "Equal", "Convert"]
    assert [node.type for node in eager] == expected


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize(
    "dtype",
    ["bool", "float16", "bfloat16", "float32", "float64"]
    + INTEGERS
    + WIDE_INTEGERS,
)
def test_identity_in_every_dtype(n, dtype):
    result = np.asarray(knp.identity(n, dtype=dtype))
    assert result.dtype.name == dtype
    np.testing.assert_array_equal(result, np.identity(n).astype(result.dtype))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_identity_of_a_symbolic_size(n, dtype):
    for result in both(knp.identity, array(n, dtype)):
        assert result.dtype.name == backend.floatx()
        np.testing.assert_array_equal(result, np.identity(n))
    model = trace(knp.identity, array(n, dtype))
    assert model.output().partial_shape.to_string() == "[?,?]"


@pytest.mark.parametrize("op", [knp.identity, knp.eye, knp.tri])
@pytest.mark.parametrize("n", [-1, np.int32(-3), np.array(-1)])
def test_a_negative_size_is_an_error(op, n):
    with pytest.raises(ValueError, match="size of 0 or more"):
        op(n)


@pytest.mark.parametrize("op", [knp.identity, knp.eye, knp.tri])
@pytest.mark.parametrize(
    "n", [2.0, "3", None, True, np.float32(2), np.array(2.0), np.array(True)]
)
def test_a_size_that_is_no_integer_is_an_error(op, n):
    for given in (n, convert_to_tensor(n)) if hasattr(n, "dtype") else (n,):
        with pytest.raises(TypeError, match="integer size"):
            op(given)


def test_a_size_that_is_no_scalar_is_an_error():
    with pytest.raises(ValueError, match="scalar size"):
        knp.identity(convert_to_tensor([2, 3]))


@pytest.mark.parametrize("k", [-3, -1, 0, 2, 9])
@pytest.mark.parametrize("shape", [(3, None), (3, 4), (4, 2), (0, 3)])
def test_eye_and_tri(shape, k):
    for op, reference in ((knp.eye, np.eye), (knp.tri, np.tri)):
        expected = reference(*shape, k=k)
        np.testing.assert_array_equal(np.asarray(op(*shape, k=k)), expected)
        symbolic = [np.array(d) for d in shape if d is not None]
        (result,) = run_compiled(lambda *n: op(*n, k=k), *symbolic)
        np.testing.assert_array_equal(result, expected)


# ------------------------------------------------------- element-wise on floats

SPREAD = [0.0, -0.0, 1e-6, -1e-6, 0.3, -0.7, 1.0, -1.0, 1.5, -2.5, 3.7, 20.0]
SPECIAL = [INF, -INF, NAN]
POSITIVE = [0.0, 1e-6, 0.3, 1.0, 1.5, 2.5, 100.0, 12345.0, INF, NAN]
UNIT = [0.0, -0.0, 1e-6, 0.3, -0.7, 1.0, -1.0, NAN]

UNARY = {
    "absolute": SPREAD + SPECIAL,
    "arccos": UNIT,
    "arccosh": [1.0, 1.5, 30.0, INF, NAN],
    "arcsin": UNIT,
    "arcsinh": SPREAD + SPECIAL,
    "arctan": SPREAD + SPECIAL,
    "arctanh": [0.0, 1e-6, 0.3, -0.7, NAN],
    "cbrt": SPREAD + SPECIAL,
    "ceil": SPREAD + SPECIAL,
    "cos": SPREAD + [NAN],
    "cosh": [0.0, 0.5, -3.0, NAN, INF],
    "deg2rad": SPREAD + SPECIAL,
    "exp": [0.0, -0.0, 1e-6, 0.3, -0.7, 3.7, INF, -INF, NAN],
    "exp2": [0.0, 1e-6, 0.3, -0.7, 3.7, INF, -INF, NAN],
    "expm1": [0.0, 1e-4, -1e-4, 0.3, -0.7, 3.7, -30.0, INF, -INF, NAN],
    "fabs": SPREAD + SPECIAL,
    "floor": SPREAD + SPECIAL,
    "i0": [0.0, 0.5, -1.0, 3.7, 3.8, 8.0, NAN],
    "log": POSITIVE,
    "log10": POSITIVE,
    "log1p": [0.0, 1e-4, -1e-4, 0.3, -0.7, -1.0, 100.0, INF, NAN, -2.0],
    "log2": POSITIVE,
    "negative": SPREAD + SPECIAL,
    "rad2deg": SPREAD + SPECIAL,
    "reciprocal": SPREAD[4:] + SPECIAL,
    "round": [0.5, 1.5, -0.5, 2.4] + SPECIAL,
    "sign": SPREAD + SPECIAL,
    "sin": SPREAD + [NAN],
    "sinc": [0.0, -0.0, 0.3, -0.7, 1.5, NAN],
    "sinh": [0.0, 0.5, -3.0, NAN, INF],
    "sqrt": POSITIVE,
    "square": SPREAD + SPECIAL,
    "tan": [0.0, 1e-6, 0.3, -0.7, NAN],
    "tanh": SPREAD + SPECIAL,
    "trunc": SPREAD + SPECIAL,
}


@pytest.mark.parametrize("dtype", FLOATS + ["float64"])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    x = array(UNARY[name], dtype)
    op, reference = getattr(knp, name), getattr(np, name)
    if dtype == "float64":
        with np.errstate(all="ignore"):
            expected = reference(x)
        result = np.asarray(op(x))
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-15)
    else:
        check(op, reference, x, dtype=dtype)


@pytest.mark.parametrize("name", ["expm1", "log1p", "i0", "tanh", "log2"])
def test_accuracy_in_float32(name):
    x = np.concatenate([np.geomspace(1e-30, 80, 400), -np.geomspace(1e-9, 0.9)])
    x = x.astype("float32")
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x.astype("float64"))
    for result in both(getattr(knp, name), x):
        np.testing.assert_allclose(result, expected, rtol=2e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_tests_of_floats(dtype):
    x = array(SPREAD + SPECIAL, dtype)
    for name in "isfinite isinf isnan isneginf isposinf isreal signbit".split():
        check(getattr(knp, name), getattr(np, name), x, dtype="bool")
    check(knp.angle, np.angle, x, dtype=dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_tests_of_integers(dtype):
    x = array([0, 1, 100], dtype)
    for name in "isfinite isinf isnan isneginf isposinf isreal signbit".split():
        check(getattr(knp, name), getattr(np, name), x, dtype="bool")


PAIRS = np.array(
    [(a, b) for a in SPREAD + SPECIAL for b in SPREAD + SPECIAL], "float32"
).T
BINARY = {
    "add": np.add,
    "arctan2": np.arctan2,
    "divide": np.divide,
    "equal": np.equal,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "heaviside": np.heaviside,
    "hypot": np.hypot,
    "less": np.less,
    "less_equal": np.less_equal,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "not_equal": np.not_equal,
    "subtract": np.subtract,
}


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    check(getattr(knp, name), BINARY[name], *PAIRS)


@pytest.mark.parametrize("name", ["mod", "fmod", "floor_divide"])
def test_remainders_of_floats(name):
    rng = np.random.default_rng(0)
    x1 = np.r_[PAIRS[0], rng.normal(size=500) * 100, 1, 1.0].astype("float32")
    x2 = np.r_[PAIRS[1], rng.normal(size=500), 0.1, 0.3].astype("float32")
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x1, x2)
    for result in both(getattr(knp, name), x1, x2):
        np.testing.assert_array_equal(result, expected)


def test_power_of_floats():
    x1 = array([2, -2, -8, 0, 0, 0, INF, NAN, 1, -1, 2, 10], "float32")
    x2 = array([0.5, 3, 1 / 3, 0, 2, -1, 0, 0, NAN, INF, -149, 38], "float32")
    check(knp.power, np.power, x1, x2)


def test_logaddexp2_of_equal_operands_is_exact():
    x = array([-1, 0, 0.5, 100, INF, -INF], "float32")
    for result in both(knp.logaddexp2, x, x):
        np.testing.assert_array_equal(result, x + 1)


def test_signed_zeros_stay():
    x = array([0.0, -0.0], "float32")
    for name in ("sin", "tan", "sqrt", "floor", "ceil", "arctan"):
        expected = np.signbit(getattr(np, name)(x))
        for result in both(getattr(knp, name), x):
            np.testing.assert_array_equal(np.signbit(result), expected)


def test_clip():
    x = array([NAN, -INF, -2, 0.5, 2, INF], "float32")
    check(lambda x: knp.clip(x, -1, 1), lambda x: np.clip(x, -1, 1), x)
    check(lambda x: knp.clip(x, None, 1), lambda x: np.minimum(x, 1), x)
    check(lambda x: knp.clip(x, 0, None), lambda x: np.maximum(x, 0), x)
    x = array([-5, 0, 2**24 + 1], "int32")
    check(lambda x: knp.clip(x, -1, 2**25), lambda x: np.maximum(x, -1), x)


def test_nan_to_num():
    x = array([NAN, INF, -INF, 1], "float32")
    check(knp.nan_to_num, lambda x: np.nan_to_num(x.astype("float32")), x)
    check(
        lambda x: knp.nan_to_num(x, 7.0, 8.0, 9.0),
        lambda x: np.nan_to_num(x, nan=7.0, posinf=8.0, neginf=9.0),
        x,
    )
    limits = np.asarray(knp.nan_to_num(array([INF, -INF], "bfloat16")))
    assert np.isfinite(limits.astype("float32")).all()


@pytest.mark.parametrize("equal_nan", [False, True])
def test_isclose(equal_nan):
    x1, x2 = PAIRS
    x2 = np.where(np.arange(x2.size) % 2, x1 + np.float32(1e-9), x2)
    check(
        lambda a, b: knp.isclose(a, b, equal_nan=equal_nan),
        lambda a, b: np.isclose(a, b, equal_nan=equal_nan),
        x1,
        x2,
    )
    assert not bool(knp.allclose(x1, x2))
    assert bool(knp.allclose([1, 2], [1.0, 2.0]))


def test_round_to_decimals():
    x = array([1.25, -1.25, 12345.678, 0.0, INF, NAN], "float32")
    for decimals in (0, 1, 2, -1, -2):
        check(
            lambda x: knp.round(x, decimals),
            lambda x: np.round(x, decimals),
            x,
        )
    x = array([123, -155, 0, 255], "int32")
    for decimals in (0, 2, -1, -2):
        check(
            lambda x: knp.round(x, decimals), lambda x: np.round(x, decimals), x
        )


def test_nextafter_and_ldexp():
    x = array([0, 1, -1, INF, NAN], "float32")
    y = array([1, 2, 0, 0, 1], "float32")
    expected = np.nextafter(x, y)
    for result in both(knp.nextafter, x, y):
        np.testing.assert_array_equal(result, expected)
    exponent = array([3, -2, 127, 4, 1], "int32")
    check(knp.ldexp, np.ldexp, x, exponent)
    with pytest.raises(TypeError, match="integer"):
        knp.ldexp(x, y)


def test_divide_no_nan():
    x, y = array([0, 1, -3, 5], "float32"), array([0, 0, 2, -2], "float32")
    for result in both(knp.divide_no_nan, x, y):
        np.testing.assert_array_equal(result, [0, 0, -1.5, -2.5])


# ------------------------------------------------------------ integers and bool


def integers(dtype, size=200, zeros=True):
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, size, dtype=dtype)
    small = np.clip(rng.integers(-9, 9, size), info.min, info.max)
    x1, x2 = values, np.where(rng.random(size) < 0.5, small, values[::-1])
    x2 = x2.astype(dtype)
    x1[:3], x2[:3] = [0, 1, info.max], [3, 2, 2]
    return x1, x2 if zeros else np.where(x2 == 0, 1, x2).astype(dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "maximum", "minimum"]
)
def test_integer_arithmetic_wraps_around(name, dtype):
    if dtype == "uint32" and name in ("maximum", "minimum"):
        pytest.skip("the CPU plugin orders uint32 as int32")
    check(getattr(knp, name), getattr(np, name), *integers(dtype), dtype=dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize("name", ["floor_divide", "mod", "fmod"])
def test_integer_division(name, dtype):
    x1, x2 = integers(dtype)
    check(getattr(knp, name), getattr(np, name), x1, x2, dtype=dtype)


@pytest.mark.parametrize("dtype", INTEGERS + WIDE_INTEGERS)
def test_integer_division_is_exact_eagerly(dtype):
    x1, x2 = integers(dtype)
    with np.errstate(all="ignore"):
        for name in ("floor_divide", "mod", "fmod"):
            result = np.asarray(getattr(knp, name)(x1, x2))
            np.testing.assert_array_equal(result, getattr(np, name)(x1, x2))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_power(dtype):
    base = array([0, 1, 2, 3, 5, 7, 10, 2], dtype)
    exponent = array([0, 5, 7, 19, 2, 0, 9, 40], dtype)
    check(knp.power, np.power, base, exponent, dtype=dtype)
    if not dtype.startswith("u"):
        base = array([1, -1, -1, 2, -3], dtype)
        exponent = array([-3, -3, -2, -1, 3], dtype)
        for result in both(knp.power, base, exponent):
            np.testing.assert_array_equal(result, [1, -1, 1, 0, -27])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_unary_on_integers(dtype):
    x, _ = integers(dtype)
    for name in ("absolute", "negative", "sign", "square", "bitwise_not"):
        if dtype == "uint32" and name == "sign":
            continue  # the CPU plugin takes uint32 for int32
        check(getattr(knp, name), getattr(np, name), x, dtype=dtype)
    for name in ("sin", "floor", "ceil", "exp2", "log", "sqrt"):
        small = array([0, 1, 4], dtype)
        check(
            getattr(knp, name),
            lambda x: getattr(np, name)(x.astype("float64")),
            small,
            dtype="float32",
        )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bits(dtype):
    x1, x2 = integers(dtype)
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        check(getattr(knp, name), getattr(np, name), x1, x2, dtype=dtype)
    places = array(np.arange(x1.size) % np.iinfo(dtype).bits, dtype)
    check(knp.left_shift, np.left_shift, x1, places, dtype=dtype)
    if dtype != "uint32":
        check(knp.right_shift, np.right_shift, x1, places, dtype=dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts_by_more_places_than_there_are(dtype):
    x = array([[1], [3], [np.iinfo(dtype).min], [100]], dtype)
    places = array([0, 7, 8, 16, 31, 32, 33, 63, 64, 100], dtype)
    check(knp.left_shift, np.left_shift, x, places, dtype=dtype)
    check(knp.right_shift, np.right_shift, x // 2, places, dtype=dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_gcd_and_lcm(dtype):
    x1 = array([12, 0, 7, 0, 100], dtype)
    x2 = array([18, 5, 7, 0, 1], dtype)
    check(knp.gcd, np.gcd, x1, x2, dtype=dtype)
    check(knp.lcm, np.lcm, x1, x2, dtype=dtype)


def test_bool_arithmetic_is_logic():
    x1 = np.array([True, True, False, False])
    x2 = np.array([True, False, True, False])
    for name, reference in {
        "add": np.logical_or,
        "multiply": np.logical_and,
        "maximum": np.logical_or,
        "minimum": np.logical_and,
        "bitwise_and": np.logical_and,
        "bitwise_or": np.logical_or,
        "bitwise_xor": np.logical_xor,
        "logical_and": np.logical_and,
        "logical_or": np.logical_or,
        "logical_xor": np.logical_xor,
    }.items():
        check(getattr(knp, name), reference, x1, x2, dtype="bool")
    check(knp.divide, lambda a, b: a / b.astype("float64"), x1, x2)
    check(knp.logical_not, np.logical_not, x1, dtype="bool")
    check(knp.bitwise_not, np.logical_not, x1, dtype="bool")
    with pytest.raises(TypeError, match="subtract"):
        knp.subtract(x1, x2)
    with pytest.raises(TypeError, match="negative"):
        knp.negative(x1)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_logic_on_numbers(dtype):
    x1, x2 = array([0, 1, 3, 0], dtype), array([0, 2, 0, 1], dtype)
    for name in ("logical_and", "logical_or", "logical_xor"):
        check(getattr(knp, name), getattr(np, name), x1, x2, dtype="bool")


def test_bits_of_floats_are_an_error():
    for op in (knp.bitwise_and, knp.bitwise_or, knp.left_shift, knp.gcd):
        with pytest.raises(TypeError, match="integers"):
            op([1.0], [2.0])


def test_64_bits_are_exact_eagerly():
    big = convert_to_tensor(np.array(2**40))
    assert int(big + 1) == 2**40 + 1
    assert int(big * 3 - 1) == 3 * 2**40 - 1
    assert int(big // 3) == 2**40 // 3
    assert int(-big % 7) == -(2**40) % 7
    assert int(knp.sum(knp.stack([big, big, big + 1]))) == 3 * 2**40 + 1
    assert int(knp.max(knp.stack([big, big + 1]))) == 2**40 + 1
    assert int(knp.argmax(knp.stack([big, big + 1]))) == 1
    assert int(knp.cumsum(knp.stack([big, big + 1]))[1]) == 2**41 + 1
    assert int(knp.full((), 2**40 + 1, "int64")) == 2**40 + 1
    assert int(knp.arange(2**40, 2**40 + 2)[1]) == 2**40 + 1
    assert bool(big < big + 1)
    assert int(convert_to_tensor(np.uint32(2**31 + 5)) + 1) == 2**31 + 6
    assert int(convert_to_tensor(np.uint64(2**63)) + 1) == 2**63 + 1
    one = convert_to_tensor(np.array(1.0))
    assert float(one + 1e-12 - 1) == 1 + 1e-12 - 1
    assert float(knp.sum(knp.full((10,), 0.1, "float64"))) == np.sum([0.1] * 10)


# ------------------------------------------------------------------- operators


def test_operators_and_their_reflections():
    x = convert_to_tensor(np.array([7, -7, 2], "int32"))
    v = np.asarray(x)
    for expression in (
        "x + 2; 2 + x; x - 2; 2 - x; x * 3; 3 * x; x / 2; 2 / x; x // 2; 9 // x"
        "; x % 3; 9 % x; x ** 2; abs(x); -x; +x; ~x; x & 3; 3 & x; x | 1; 1 | x"
        "; x ^ 5; 5 ^ x; x << 2; 1 << (x * 0 + 2); x >> 1; 99 >> (x * 0 + 1)"
        "; x == 2; x != 2; x < 2; x <= 2; x > 2; x >= 2; 2 < x; 2 == x; x @ x"
        "; x.astype('float32') @ x if hasattr(x, 'none') else x + 0"
    ).split(";"):
        expected = eval(expression.strip(), {"x": v, "abs": abs})
        result = eval(expression.strip(), {"x": x, "abs": abs})
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)


def test_operators_with_arrays_and_scalars():
    x = convert_to_tensor(np.array([1.5, -2.5], "float32"))
    assert (np.float32(2) * x).dtype == "float32"
    assert (np.array([1, 2], "int32") + x).dtype == "float32"
    assert (x.dtype, (x + 1).dtype, (x * 2.0).dtype) == ("float32",) * 3
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    np.testing.assert_array_equal(np.asarray(round(x)), [2, -2])
    with pytest.raises(TypeError):
        x + "1"
    with pytest.raises(TypeError):
        x & x


def test_int8_times_int8_is_int32():
    x1 = np.full((2, 50), 100, "int8")
    for result in both(knp.matmul, x1, x1.T.copy()):
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, 500_000)


@pytest.mark.parametrize("dtype", ["float32", "int32", "float16"])
@pytest.mark.parametrize(
    "shapes",
    [
        [(3,), (3,)],
        [(2, 3), (3,)],
        [(3,), (3, 2)],
        [(2, 3), (3, 4)],
        [(5, 2, 3), (3, 4)],
        [(5, 1, 2, 3), (7, 3, 4)],
        [(3,), (5, 3, 2)],
        [(0, 3), (3, 2)],
        [(2, 0), (0, 2)],
    ],
)
def test_matmul(shapes, dtype):
    rng = np.random.default_rng(2)
    x1, x2 = (array(rng.integers(-5, 5, s), dtype) for s in shapes)
    check(knp.matmul, np.matmul, x1, x2, dtype=dtype)


# ------------------------------------------------------------------ reductions

AXES = [None, 0, -1, (0, 2), (-1, 1), ()]
CUBE = np.random.default_rng(3).normal(size=(3, 4, 5)).astype("float32")
HOLES = np.where(np.random.default_rng(4).random(CUBE.shape) < 0.4, NAN, CUBE)
HOLES = HOLES.astype("float32")


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(
    "name", ["sum", "mean", "prod", "max", "min", "var", "std", "all", "any"]
)
def test_reductions(name, axis, keepdims):
    options = {"axis": axis, "keepdims": keepdims}
    for x in (CUBE, HOLES):
        check(
            lambda x: getattr(knp, name)(x, **options),
            lambda x: getattr(np, name)(x, **options),
            x,
        )


@pytest.mark.parametrize("axis", [None, 1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["amax", "amin", "ptp", "median"])
def test_more_reductions(name, axis, keepdims):
    options = {"axis": axis, "keepdims": keepdims}
    check(
        lambda x: getattr(knp, name)(x, **options),
        lambda x: getattr(np, name)(x, **options),
        CUBE,
    )


@pytest.mark.parametrize("axis", [None, 1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", "sum prod max min mean var std median".split())
@pytest.mark.filterwarnings("ignore")
def test_reductions_that_skip_nan(name, axis, keepdims):
    options = {"axis": axis, "keepdims": keepdims}
    x = HOLES.copy()
    x[0, :, 0] = NAN
    check(
        lambda x: getattr(knp, f"nan{name}")(x, **options),
        lambda x: getattr(np, f"nan{name}")(x, **options),
        x,
    )


@pytest.mark.parametrize("dtype", ["bool"] + INTEGERS + WIDE_INTEGERS)
def test_sums_of_integers_are_wide(dtype):
    x = array([[1, 0, 1], [1, 1, 1]], dtype)
    wide = {"bool": "int32", "int8": "int32", "int16": "int32"}
    wide |= {"uint8": "uint32", "uint16": "uint32"}
    expected = wide.get(dtype, dtype)
    for name in ("sum", "prod"):
        check(
            lambda x: getattr(knp, name)(x, axis=1),
            lambda x: getattr(np, name)(x, axis=1),
            x,
            dtype=expected,
        )
    check(knp.mean, np.mean, x, dtype="float32")
    check(knp.var, np.var, x, dtype="float32")
    check(knp.count_nonzero, np.count_nonzero, x, dtype="int32")


def test_reductions_of_int32_are_exact():
    x = np.array([[2**24 + 1, 1, -(2**30)], [2**31 - 1, 3, -(2**31)]], "int32")
    for axis in (None, 0, 1):
        check(
            lambda x: knp.sum(x, axis),
            lambda x: np.sum(x, axis, dtype="int32"),
            x,
        )
        for name in ("max", "min", "argmax", "argmin"):
            check(
                lambda x: getattr(knp, name)(x, axis),
                lambda x: getattr(np, name)(x, axis),
                x,
            )


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_extremes_of_nothing(dtype):
    x = array(np.zeros((0, 3)), dtype)
    with pytest.raises(ValueError, match="initial"):
        knp.max(x, axis=0)
    np.testing.assert_array_equal(
        np.asarray(knp.max(x, axis=0, initial=7)).astype(int), [7, 7, 7]
    )
    np.testing.assert_array_equal(
        np.asarray(knp.min(x, axis=0, initial=7, keepdims=True)).astype(int),
        [[7, 7, 7]],
    )
    (result,) = run_compiled(lambda x: knp.max(x, axis=0, initial=7), x)
    np.testing.assert_array_equal(result.astype(int), [7, 7, 7])
    x = array([[1, 9, 3]], dtype)
    for result in both(lambda x: knp.max(x, axis=0, initial=4), x):
        np.testing.assert_array_equal(result.astype(int), [4, 9, 4])


def test_reductions_of_nothing():
    x = np.zeros((0, 3), "float32")
    for name in ("sum", "prod", "all", "any", "mean"):
        check(
            lambda x: getattr(knp, name)(x, axis=0),
            lambda x: getattr(np, name)(x, axis=0),
            x,
        )
    x = np.zeros((0, 3), "int32")
    check(lambda x: knp.sum(x, axis=0), lambda x: np.sum(x, axis=0), x)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(name):
    x = np.array(
        [[1, 3, 3, 1], [NAN, 1, NAN, 2], [INF, NAN, -INF, 1], [0, 0, 0, 0]],
        "float32",
    )
    op, reference = getattr(knp, name), getattr(np, name)
    for axis in (None, 0, 1, -1):
        for keepdims in (False, True):
            options = {"axis": axis, "keepdims": keepdims}
            check(
                lambda x: op(x, **options),
                lambda x: reference(x, **options),
                x,
                dtype="int32",
            )
    check(op, reference, np.array([False, True, True]), dtype="int32")
    skipping = getattr(knp, f"nan{name}")
    for result in both(lambda x: skipping(x, axis=1), x):
        expected = getattr(np, f"nan{name}")(x, axis=1)
        np.testing.assert_array_equal(result, expected)
    for result in both(skipping, np.full((2,), NAN, "float32")):
        assert result == -1


@pytest.mark.parametrize("dtype", ["float32", "int32", "int8", "bool"])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_cumulation(name, dtype):
    x = array(np.random.default_rng(5).integers(0, 3, (3, 7)), dtype)
    expected = "int32" if dtype == "bool" else dtype
    for axis in (None, 0, 1, -1):
        check(
            lambda x: getattr(knp, name)(x, axis=axis),
            lambda x: getattr(np, name)(x, axis=axis, dtype=expected),
            x,
            dtype=expected,
        )
    static = run_compiled(lambda x: getattr(knp, name)(x, 1), x, dynamic=False)
    dynamic = run_compiled(lambda x: getattr(knp, name)(x, 1), x)
    np.testing.assert_array_equal(static, dynamic)


def test_cumulation_without_nan():
    for name in ("nancumsum", "nancumprod"):
        check(
            lambda x: getattr(knp, name)(x, axis=1),
            lambda x: getattr(np, name)(x, axis=1),
            HOLES,
        )


METHODS = ["linear", "lower", "higher", "midpoint", "nearest"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [None, 1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_quantiles(method, axis, keepdims):
    options = {"axis": axis, "method": method, "keepdims": keepdims}
    for q in (0.3, [0.0, 0.25, 1.0]):
        for x in (CUBE, HOLES):
            for name in ("quantile", "nanquantile"):
                check(
                    lambda x: getattr(knp, name)(x, q, **options),
                    lambda x: getattr(np, name)(x, q, **options),
                    x,
                )
    check(
        lambda x: knp.percentile(x, 30, **options),
        lambda x: np.percentile(x, 30, **options),
        CUBE,
    )


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_quantiles_round_positions_as_numpy_does(dtype):
    x = np.arange(1001, dtype=dtype)
    q = np.array([0.1, 0.3, 0.7], "float32")
    for result in both(lambda x, q: knp.quantile(x, q, method="higher"), x, q):
        np.testing.assert_array_equal(
            result, np.quantile(x, q, method="higher")
        )


def test_average():
    weights = np.array([1, 2, 3, 4], "float32")
    check(knp.average, np.average, CUBE)
    check(
        lambda x, w: knp.average(x, axis=1, weights=w),
        lambda x, w: np.average(x, axis=1, weights=w),
        CUBE,
        weights,
    )
    check(
        lambda x, w: knp.average(x, weights=w),
        lambda x, w: np.average(x, weights=w),
        CUBE,
        np.abs(CUBE),
    )


def test_var_does_not_overflow_in_float16():
    x = array([300.0, -300.0], "float16")
    assert float(knp.std(x)) == 300
    assert float(knp.mean(array([60000.0] * 4, "float16"))) == 60000


# -------------------------------------------------- counting, searching, grids


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_and_digitize(side):
    edges = np.array([0, 1, 1, 2.5], "float32")
    x = np.array([[-1, 0, 1], [2, 2.5, 9]], "float32")
    check(
        lambda e, x: knp.searchsorted(e, x, side),
        lambda e, x: np.searchsorted(e, x, side),
        edges,
        x,
        dtype="int32",
    )
    check(knp.digitize, np.digitize, x, edges, dtype="int32")
    check(knp.digitize, np.digitize, x, edges[::-1].copy(), dtype="int32")


def test_bincount_takes_no_scalar():
    with pytest.raises(ValueError, match="`bincount` takes arrays"):
        knp.bincount(np.int32(3))


def test_bincount():
    x = np.array([1, 5, 1, 0, 3], "int32")
    weights = np.array([0.5, 1, 2, 3, 4], "float32")
    check(knp.bincount, np.bincount, x, dtype="int32")
    check(
        lambda x: knp.bincount(x, minlength=9),
        lambda x: np.bincount(x, minlength=9),
        x,
    )
    check(
        lambda x, w: knp.bincount(x, weights=w),
        lambda x, w: np.bincount(x, weights=w),
        x,
        weights,
        dtype="float32",
    )
    rows = np.stack([x, x[::-1]])
    for result in both(knp.bincount, rows):
        expected = np.stack([np.bincount(x), np.bincount(x)])
        np.testing.assert_array_equal(result, expected)
    assert np.asarray(knp.bincount(np.zeros((0,), "int32"))).size == 0


def test_histogram():
    x = np.random.default_rng(6).normal(size=100).astype("float32")
    for options in ({}, {"bins": 7}, {"bins": 5, "range": (-1.0, 1.0)}):
        counts, edges = np.histogram(x, **options)
        eager, compiled = both(lambda x: knp.histogram(x, **options), x)
        for result in (eager, compiled):
            np.testing.assert_array_equal(result[0], counts)
            np.testing.assert_allclose(result[1], edges, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("sizes", [(7, 3), (3, 7), (6, 4), (4, 4), (4, 7)])
def test_correlate(sizes, mode):
    rng = np.random.default_rng(7)
    x1, x2 = (rng.normal(size=n).astype("float32") for n in sizes)
    check(
        lambda a, b: knp.correlate(a, b, mode),
        lambda a, b: np.correlate(a, b, mode),
        x1,
        x2,
    )


def test_corrcoef_diff_trapezoid_vander():
    x = CUBE[0]
    rows = x.shape[0]  # which `corrcoef` has to know
    check(lambda x: knp.corrcoef(knp.reshape(x, (rows, -1))), np.corrcoef, x)
    check(knp.diff, np.diff, x)
    check(lambda x: knp.diff(x, 2, 0), lambda x: np.diff(x, 2, 0), x)
    check(knp.trapezoid, np.trapezoid, x)
    check(
        lambda y, x: knp.trapezoid(y, x, axis=0),
        lambda y, x: np.trapezoid(y, x, axis=0),
        x,
        np.array([0, 1, 3, 7], "float32"),
    )
    x = np.array([1, 2, -3, 0], "int32")
    check(knp.vander, np.vander, x, dtype="int32")
    check(lambda x: knp.vander(x, 3, True), lambda x: np.vander(x, 3, True), x)


def test_where_and_select():
    condition = np.array([True, False, True])
    x1, x2 = np.array([1, 2, 3], "int32"), np.array([9.5], "float32")
    check(knp.where, np.where, condition, x1, x2, dtype="float32")
    big = np.array([2**24 + 1, 2**31 - 1, 5], "int32")
    check(knp.where, np.where, condition, big, x1, dtype="int32")
    check(
        lambda x: knp.select([x > 2, x > 1], [x * 10, x * 100], -1),
        lambda x: np.select([x > 2, x > 1], [x * 10, x * 100], -1),
        x1,
        dtype="int32",
    )


def test_meshgrid():
    a, b, c = (np.arange(n, dtype="float32") for n in (2, 3, 4))
    for indexing in ("xy", "ij"):
        for vectors in ([a], [a, b], [a, b, c]):
            expected = np.meshgrid(*vectors, indexing=indexing)
            for results in both(
                lambda *v: knp.meshgrid(*v, indexing=indexing), *vectors
            ):
                for result, wanted in zip(results, expected):
                    np.testing.assert_array_equal(result, wanted)


# ------------------------------------------------------------------- creation


@pytest.mark.parametrize(
    "bounds",
    [(5,), (0,), (-3,), (2, 7), (7, 2, -2), (0.0, 1.0, 0.1), (0, 0.3, 0.1)]
    + [(1.5,), (3, 0, -0.5), (0, 5, 2)],
)
def test_arange(bounds):
    result = np.asarray(knp.arange(*bounds))
    expected = np.arange(*bounds)
    wanted = "float32" if expected.dtype.kind == "f" else "int32"
    assert result.dtype.name == wanted
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    dtypes = ["int8", "uint8", "int64", "float16", "bfloat16", "float64"]
    for dtype in dtypes if min(bounds) >= 0 else []:
        result = np.asarray(knp.arange(*bounds, dtype=dtype))
        assert result.dtype.name == dtype


def test_arange_of_a_symbolic_bound():
    for result in both(lambda n: knp.arange(1, n, 2), np.array(8, "int32")):
        np.testing.assert_array_equal(result, [1, 3, 5, 7])
    for result in both(knp.arange, np.array(2.5, "float32")):
        np.testing.assert_array_equal(result, [0, 1, 2])


@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize("num", [0, 1, 5])
@pytest.mark.parametrize("name", ["linspace", "logspace", "geomspace"])
def test_spaces(name, num, endpoint):
    options = {"num": num, "endpoint": endpoint}
    op, reference = getattr(knp, name), getattr(np, name)
    result = np.asarray(op(1, 4, **options))
    assert result.dtype == np.float32
    expected = reference(1, 4, **options)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    start = np.array([[1, 2]], "float32")
    stop = np.array([[3], [5]], "float32")
    for axis in (0, 1, -1):
        check(
            lambda a, b: op(a, b, axis=axis, **options),
            lambda a, b: reference(a, b, axis=axis, **options),
            start,
            stop,
            limit=1e-5,
        )


def test_linspace_of_integers_and_its_step():
    np.testing.assert_array_equal(
        np.asarray(knp.linspace(0, 10, 11, dtype="int32")), np.arange(11)
    )
    values, step = knp.linspace(0, 1, 5, retstep=True)
    assert float(step) == 0.25
    np.testing.assert_array_equal(np.asarray(values), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8])
@pytest.mark.parametrize(
    "name", ["bartlett", "blackman", "hamming", "hanning", "kaiser"]
)
def test_windows(name, n):
    extra = (8.6,) if name == "kaiser" else ()
    expected = getattr(np, name)(n, *extra)
    op = getattr(knp, name)
    result = np.asarray(op(n, *extra))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)
    (result,) = run_compiled(lambda n: op(n, *extra), np.array(n))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_fills():
    np.testing.assert_array_equal(
        np.asarray(knp.zeros((2, 0))), np.zeros((2, 0))
    )
    np.testing.assert_array_equal(np.asarray(knp.ones(3, "int8")), [1, 1, 1])
    np.testing.assert_array_equal(
        np.asarray(knp.full((2, 2), [1.5, 2])), [[1.5, 2]] * 2
    )
    assert knp.empty((2, 3)).shape == (2, 3)
    x = np.ones((2, 3), "int16")
    for op, value in ((knp.zeros_like, 0), (knp.ones_like, 1)):
        check(op, lambda x: np.full_like(x, value), x, dtype="int16")
    for result in both(lambda x: knp.full_like(x, 2.5, dtype="float32"), x):
        np.testing.assert_array_equal(result, np.full((2, 3), 2.5))
    for result in both(lambda x: knp.zeros((ops.shape(x)[1], 2)), x):
        assert result.shape == (3, 2)


def test_a_scalar_takes_the_dtype_of_the_tensor():
    for dtype in FLOATS + ["float64"]:
        assert (convert_to_tensor(array([1], dtype)) * 0.5).dtype == dtype
    assert (convert_to_tensor(array([1], "int8")) + 1).dtype == "int8"
    assert (convert_to_tensor(array([1], "int8")) + 1.5).dtype == "float32"
    assert (convert_to_tensor(array([1], "int64")) + 1).dtype == "int64"


@pytest.mark.parametrize("exponent", [31, 64, 123456789, 2**31 - 1])
def test_integer_powers_wrap_around(exponent):
    base = np.array([0, 1, -1, 2, -2, 3, -7, 123456789], "int32")
    with np.errstate(all="ignore"):
        wanted = np.power(base, np.int32(exponent))
    for result in both(lambda x: knp.power(x, exponent), base):
        np.testing.assert_array_equal(result, wanted)
    for result in both(knp.power, base, np.array(exponent, "int32")):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("name", ["isinf", "isneginf", "isposinf", "isfinite"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + x,
        lambda x: 1 / x,
        lambda x: x * x,
        lambda x: knp.exp(100 * x),
        lambda x: knp.log(x),
    ],
)
def test_tests_of_floats_that_were_computed(function, name):
    # The CPU plugin joins them to the operation before.
    x = array(SPREAD + SPECIAL, "float32")
    expected = getattr(np, name)(np.asarray(function(convert_to_tensor(x))))
    for (result,) in both_ways(lambda x: getattr(knp, name)(function(x)), x):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", ["max", "min", "amax", "amin"])
@pytest.mark.parametrize("length", [1, 3])
def test_extremes_of_infinities_alone(name, length):
    for value in (-np.inf, np.inf):
        x = np.full((2, length), value, "float32")
        check(getattr(knp, name), getattr(np, name), x)
        check(
            lambda x: getattr(knp, name)(x, axis=1),
            lambda x: getattr(np, name)(x, axis=1),
            np.stack([x[0], np.ones(length, "float32")]),
        )


def test_subnormal_numbers_are_finite():
    x = np.array([1e-40, -1e-40, 0, np.inf, np.nan], "float32")
    check(knp.isfinite, np.isfinite, x)
    for result in both(lambda x: knp.hypot(x, 0.0), x[:3]):
        np.testing.assert_allclose(result, np.abs(x[:3]), atol=2e-38)
