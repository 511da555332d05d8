"""Complex numbers, eager and compiled, compared with NumPy and JAX."""

import operator

import numpy as np
import pytest

import keras
from keras.src import ops
from keras.src import tree
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.registry import OPERATIONS
from keras.src.backend.openvino.testing import run_compiled

INF, NAN = np.inf, np.nan


def normal(*shape, seed=0, dtype="complex64"):
    random = np.random.default_rng(seed)
    real, imaginary = random.standard_normal((2, *shape))
    return (real + 1j * imaginary).astype(dtype)


X, Y, VECTOR = normal(3, 4), normal(3, 4, seed=1), normal(5, seed=2)
SQUARE = normal(4, 4, seed=3)
REAL = normal(3, 4, seed=4).real.copy()
INTEGER = np.arange(12, dtype="int32").reshape(3, 4) % 5
EMPTY, SCALAR = normal(0, 3), normal(seed=5)
# Not a number twice, for the order of elements.
TIES = np.array([2, 1 + 2j, 1 + 1j, 1 + 2j, 2 - 1j], "complex64")


def three_ways(op, *arrays):
    """The results of `op`: eager, compiled, and with every dim open."""
    tensors = map(ops.convert_to_tensor, arrays)
    yield [np.asarray(y) for y in tree.flatten(op(*tensors))]
    for dynamic in (False, True):
        yield run_compiled(op, *arrays, dynamic=dynamic)


def check(op, arrays, expected, rtol=2e-5, atol=2e-6):
    expected = expected if isinstance(expected, (tuple, list)) else [expected]
    for results in three_ways(op, *arrays):
        for i, (result, wanted) in enumerate(
            zip(results, expected, strict=True)
        ):
            wanted = np.asarray(wanted)
            assert result.shape == wanted.shape, i
            assert result.dtype.kind == wanted.dtype.kind, i
            np.testing.assert_allclose(
                result, wanted, rtol=rtol, atol=atol, err_msg=f"result {i}"
            )


def check_ops(names, *arrays):
    """Checks ops that NumPy knows by the same name, in one model."""

    def all_ops(*tensors):
        return [getattr(ops, name)(*tensors) for name in names]

    with np.errstate(all="ignore"):
        expected = [getattr(np, name)(*arrays) for name in names]
    check(all_ops, arrays, expected)


def test_every_rule_has_a_kernel():
    for name, operation in OPERATIONS.items():
        assert operation.complex is None or operation.kernel, name


# ----------------------------------------------------------- element by element

UNARY = """
    absolute angle arccos arccosh arcsin arcsinh arctan arctanh conj cos cosh
    exp exp2 expm1 imag isfinite isinf isnan isreal log log10 log1p log2
    negative real reciprocal round sign sin sinh sqrt square tan tanh
""".split()


@pytest.mark.parametrize("x", [X, EMPTY, SCALAR, 9 * VECTOR])
def test_unary(x):
    check_ops(UNARY, x)


BINARY = """
    add divide equal greater greater_equal less less_equal logical_and
    logical_or maximum minimum multiply not_equal power subtract
""".split()


@pytest.mark.parametrize("y", [Y, REAL, INTEGER, X, Y[0], Y[:, :1]])
def test_binary(y):
    check_ops(BINARY, X, y)
    check_ops(BINARY, y, X)


@pytest.mark.parametrize("scalar", [2, 0.5, 1j, True, np.float64(2)])
def test_python_scalars_take_the_dtype(scalar):
    for results in three_ways(lambda x: (x * scalar, scalar - x), X):
        for result, wanted in zip(results, (X * scalar, scalar - X)):
            assert result.dtype == "complex64"
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)
    for (result,) in three_ways(lambda x: x * 1j, REAL):
        assert result.dtype == "complex64"
        np.testing.assert_allclose(result, REAL * 1j)


def test_comparisons_order_by_the_real_part_first():
    names = ("less", "less_equal", "greater", "maximum", "minimum")
    check_ops(names, TIES[:, None], TIES[None])


@pytest.mark.parametrize(
    "dtype", ["bool", "int32", "float16", "float32", "float64", "complex64"]
)
def test_casts(dtype):
    x = np.array([1, 0, -2.5, 3]).astype(dtype)
    check(lambda x: ops.cast(x, "complex64"), [x], x.astype("complex64"))
    z = np.array([1 + 1j, 0, 2j, -3.5])
    wanted = z != 0 if dtype == "bool" else z.astype("complex64")
    if dtype not in ("bool", "complex64"):
        wanted = z.real.astype(dtype)
    check(lambda z: ops.cast(z, dtype), [z.astype("complex64")], wanted)


# --------------------------------------------------------------- special values


def test_large_and_small_numbers():
    x = np.array([3e18 + 4e18j, 3e30 + 4e30j, 1e37 - 1e37j, 3e-30 + 4e-30j])
    x = x.astype("complex64")
    with np.errstate(all="ignore"):
        check(ops.absolute, [x], np.abs(x), atol=0)
        check(ops.sqrt, [x], np.sqrt(x), atol=0)
        check(ops.log, [x], np.log(x))
        check(ops.divide, [x, x[::-1].copy()], x / x[::-1], atol=0)
        check(ops.reciprocal, [x[:3]], 1 / x[:3], atol=0)
    tiny = (1e-4 * X).astype("complex64")
    wanted = tiny.astype("complex128")
    check(ops.log1p, [tiny], np.log(1 + wanted), atol=1e-9)
    check(ops.expm1, [tiny], np.exp(wanted) - 1, atol=1e-9)
    check(ops.tanh, [tiny], np.tanh(tiny), atol=0)
    far = np.array([80 + 1j, -80 + 2j, 30j]).astype("complex64")
    check(ops.exp, [far], np.exp(far), atol=0)
    check(ops.tanh, [far], np.tanh(far), atol=1e-30)


def of_parts(real, imaginary):
    real, imaginary = np.broadcast_arrays(real, imaginary)
    x = np.empty(real.shape, "complex64")
    x.real, x.imag = real, imaginary
    return x.ravel()


def test_branch_cuts():
    names = (
        "sqrt log arcsin arccos arccosh arcsinh arctan arctanh log1p"
    ).split()
    sides = of_parts([[-30.0], [-2], [-0.5], [0.5], [2], [30]], [0.0, -0.0])
    check_ops(names, sides)
    check_ops(names, of_parts(sides.imag, sides.real))


def test_infinities():
    parts = np.array([INF, -INF, 0.0, 2.0], "float32")
    names = ("absolute", "log", "sqrt", "sign", "isinf", "isfinite")
    check_ops(names, of_parts(parts[:, None], parts))
    check_ops(["exp"], of_parts([[-INF]], [0.0, 1, 2]))
    check_ops(["exp"], of_parts([INF], 0.0))


def test_zero():
    zero, one = np.zeros(1, "complex64"), np.ones(1, "complex64")
    check_ops("log log2 log10 sqrt sign exp tanh".split(), zero)
    check_ops(["divide"], one, zero)
    powers = np.array([0, 2, 0.5, 1 + 1j], "complex64")
    check(lambda x, y: x**y, [zero, powers], np.array([1, 0, 0, 0j]))


def test_nan():
    x = of_parts([NAN, 1, NAN, 2], [1, NAN, NAN, 3])
    check(ops.isnan, [x], np.array([True, True, True, False]))
    check(ops.absolute, [x[3:]], np.abs(x[3:]))
    check(lambda x: x == x, [x], np.array([False, False, False, True]))
    check(lambda x: ops.isnan(ops.max(x)), [x], True)
    check(
        lambda x: ops.isnan(ops.maximum(x, 1j)),
        [x],
        np.array([True, True, True, False]),
    )
    check(ops.nan_to_num, [x], np.nan_to_num(x))
    check(ops.nansum, [x], 2 + 3j)
    check(ops.argsort, [x], np.argsort(x))


# ------------------------------------------------------------------- reductions


@pytest.mark.parametrize("axis", [None, 0, (0, 1), -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(axis, keepdims):
    names = "sum mean std max min".split()
    options = {"axis": axis, "keepdims": keepdims}
    check(
        lambda x: [getattr(ops, name)(x, **options) for name in names],
        [X],
        [getattr(np, name)(X, **options) for name in names],
    )


def test_products_of_elements():
    check(ops.prod, [VECTOR], np.prod(VECTOR))
    check(
        lambda x: ops.prod(x, (0, 1), True), [X], np.prod(X, (0, 1))[None, None]
    )


def test_reductions_of_nothing():
    check(lambda x: ops.sum(x, 0), [EMPTY], np.zeros(3, "complex64"))
    check(lambda x: ops.prod(x, 0), [EMPTY], np.ones(3, "complex64"))


def test_the_variance_is_real_and_has_the_dtype():
    # As Keras on JAX has it.
    wanted = np.var(X, axis=1).astype("complex64")
    check(lambda x: ops.var(x, axis=1), [X], wanted)


def test_sums_and_products_along_an_axis():
    check(lambda x: ops.cumsum(x, axis=1), [X], np.cumsum(X, axis=1))
    check(lambda x: ops.cumprod(x, axis=0), [X], np.cumprod(X, axis=0))
    check(ops.count_nonzero, [X * (INTEGER > 1)], np.count_nonzero(INTEGER > 1))
    check(ops.all, [X], True)
    check(lambda x: ops.norm(x, axis=1), [X], np.linalg.norm(X, axis=1))
    check(lambda x: ops.norm(x, ord=1), [X], np.linalg.norm(X, ord=1))


def test_order():
    for x in (TIES, VECTOR, TIES[:0]):
        check(ops.sort, [x], np.sort(x))
        check(ops.argsort, [x], np.argsort(x, kind="stable"))
        check(ops.unique, [x], np.unique(x))
    check(lambda x: ops.sort(x, axis=0), [X], np.sort(X, axis=0))


# --------------------------------------------------------------- linear algebra


def test_products():
    check(ops.matmul, [X, Y.T.copy()], X @ Y.T)
    check(ops.matmul, [X, REAL.T.copy()], X @ REAL.T)
    batch = normal(2, 3, 4)
    check(ops.matmul, [batch, SQUARE], batch @ SQUARE)
    equation = "ij,kj,kl->il"
    check(
        lambda *xs: ops.einsum(equation, *xs),
        [X, Y, X],
        np.einsum(equation, X, Y, X),
    )
    check(lambda x, y: ops.tensordot(x, y, 2), [X, Y], np.tensordot(X, Y, 2))
    for name in ("outer", "vdot", "dot", "kron", "inner", "correlate"):
        wanted = getattr(np, name)(VECTOR, VECTOR[::-1])
        check(getattr(ops, name), [VECTOR, VECTOR[::-1].copy()], wanted)
    check(
        lambda x: ops.corrcoef(ops.reshape(x, (len(X), -1))),
        [X],
        np.corrcoef(X),
    )


def test_decompositions():
    hermitian = SQUARE @ SQUARE.conj().T + np.eye(4, dtype="complex64")
    check(ops.inv, [SQUARE], np.linalg.inv(SQUARE), atol=1e-5)
    check(ops.det, [SQUARE], np.linalg.det(SQUARE), rtol=1e-4)
    check(ops.slogdet, [SQUARE], tuple(np.linalg.slogdet(SQUARE)), rtol=1e-4)
    column = SQUARE[:, :1].copy()
    check(ops.solve, [hermitian, column], np.linalg.solve(hermitian, column))
    check(ops.cholesky, [hermitian], np.linalg.cholesky(hermitian))
    check(
        lambda x: ops.linalg.cholesky_inverse(ops.cholesky(x)),
        [hermitian],
        np.linalg.inv(hermitian),
        atol=1e-4,
    )
    for values, vectors in three_ways(ops.eigh, hermitian):
        assert values.dtype == "float32"
        product = (vectors * values) @ vectors.conj().T
        np.testing.assert_allclose(product, hermitian, rtol=1e-4, atol=1e-4)
    for u, s, vh in three_ways(ops.svd, SQUARE):
        assert s.dtype == "float32"
        np.testing.assert_allclose((u * s) @ vh, SQUARE, rtol=1e-4, atol=1e-5)
    for q, r in three_ways(ops.qr, SQUARE):
        np.testing.assert_allclose(q @ r, SQUARE, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- data movement

MOVES = {
    "reshape": (lambda x: ops.reshape(x, (2, -1)), lambda x: x.reshape(2, -1)),
    "transpose": (ops.transpose, np.transpose),
    "expand_dims": (lambda x: x[None, :, None], lambda x: x[None, :, None]),
    "squeeze": (lambda x: ops.squeeze(x[:, :1], 1), lambda x: x[:, 0]),
    "slice": (lambda x: x[1:, ::-2], lambda x: x[1:, ::-2]),
    "index": (lambda x: x[-1], lambda x: x[-1]),
    "indices": (lambda x: x[[0, 2], [1, 1]], lambda x: x[[0, 2], [1, 1]]),
    "take": (
        lambda x: ops.take(x, [0, -1], axis=1),
        lambda x: x[:, [0, -1]],
    ),
    "take outside": (
        lambda x: ops.take(x, [0, 9], axis=1)[:, 1],
        lambda x: np.full(3, NAN, "complex64"),
    ),
    "concatenate": (
        lambda x: ops.concatenate([x, REAL], 1),
        lambda x: np.concatenate([x, REAL], 1),
    ),
    "stack": (
        lambda x: ops.stack([x, 2 * x], -1),
        lambda x: np.stack([x, 2 * x], -1),
    ),
    "split": (lambda x: ops.split(x, 2, 1), lambda x: np.split(x, 2, 1)),
    "tile": (lambda x: ops.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3))),
    "repeat": (lambda x: ops.repeat(x, 2, 1), lambda x: np.repeat(x, 2, 1)),
    "roll": (lambda x: ops.roll(x, 1, 0), lambda x: np.roll(x, 1, 0)),
    "flip": (ops.flip, np.flip),
    "pad": (
        lambda x: ops.pad(x, ((1, 2), (0, 1)), constant_values=2j),
        lambda x: np.pad(x, ((1, 2), (0, 1)), constant_values=2j),
    ),
    "reflect": (
        lambda x: ops.pad(x, 1, mode="reflect"),
        lambda x: np.pad(x, 1, mode="reflect"),
    ),
    "broadcast": (
        lambda x: ops.broadcast_to(x, (2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
    ),
    "where": (
        lambda x: ops.where(INTEGER > 1, x, 0),
        lambda x: np.where(INTEGER > 1, x, 0),
    ),
    "triangles": (
        lambda x: (ops.tril(x), ops.triu(x, 1)),
        lambda x: (np.tril(x), np.triu(x, 1)),
    ),
    "diagonal": (ops.diagonal, np.diagonal),
    "diff": (ops.diff, np.diff),
    "ones_like": (ops.ones_like, np.ones_like),
    "full_like": (
        lambda x: ops.full_like(x, 1j),
        lambda x: np.full_like(x, 1j),
    ),
    "shape": (lambda x: ops.shape(x), lambda x: x.shape),
    "scatter": (
        lambda x: ops.scatter_update(x, [[0, 1], [2, 3]], [1j, 2]),
        lambda x: np.where(
            np.arange(12).reshape(3, 4) == 1,
            1j,
            np.where(np.arange(12).reshape(3, 4) == 11, 2, x),
        ),
    ),
    "slice_update": (
        lambda x: ops.slice_update(x, (1, 2), 1j * x[:2, :2]),
        lambda x: np.block([[x[:1]], [x[1:, :2], 1j * x[:2, :2]]]),
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_data_movement(name):
    op, reference = MOVES[name]
    check(op, [X], reference(X))


def test_grids():
    ends = [np.array([1j, 2], "complex64"), np.array([3, 4j], "complex64")]
    check(lambda a, b: ops.linspace(a, b, 5), ends, np.linspace(*ends, 5))
    check(lambda a, b: ops.logspace(a, b, 3), ends, np.logspace(*ends, 3), 1e-3)
    assert ops.eye(3, dtype="complex64").dtype == "complex64"


# ------------------------------------------------------ making and taking apart


def test_views():
    pairs = np.stack([X.real, X.imag], -1)
    check(lambda x: ops.view_as_complex(ops.reshape(x, (-1, 4, 2))), [pairs], X)
    check(ops.view_as_real, [X], pairs)
    check(lambda x: ops.view(x, "float32"), [X], X.view("float32"))
    check(lambda x: ops.view(x, "complex64"), [REAL], REAL.view("complex64"))
    check(ops.polar, [np.abs(X), np.angle(X)], X, atol=1e-5)


def test_real_operands_have_parts_too():
    check(
        lambda x: (ops.real(x), ops.imag(x), ops.conj(x), ops.isreal(x)),
        [REAL],
        (REAL, 0 * REAL, REAL, REAL == REAL),
    )
    check(ops.angle, [REAL], np.angle(REAL))


def test_complex128_is_exact_eagerly():
    x = ops.convert_to_tensor(np.array(1 + 1e-12j))
    assert x.dtype == "complex128"
    assert complex((x + 1e-13) * 2) == 2 * (1 + 1e-13 + 1e-12j)
    assert (x * ops.ones((), "complex64")).dtype == "complex128"
    assert ops.absolute(x).dtype == "float64"


def test_symbolic_dtypes():
    x = KerasTensor((None, 3), "complex64")
    assert ops.exp(x).dtype == "complex64"
    assert (ops.view_as_real(x).shape, ops.view_as_real(x).dtype) == (
        (None, 3, 2),
        "float32",
    )


# As the operators of a variable have them.
OPERATORS = {
    "add": operator.add,
    "divide": operator.truediv,
    "equal": operator.eq,
    "logical_and": operator.and_,
    "logical_or": operator.or_,
    "logical_xor": operator.xor,
    "matmul": operator.matmul,
    "multiply": operator.mul,
    "not_equal": operator.ne,
    "power": operator.pow,
    "subtract": operator.sub,
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    "dtype",
    """
    bool uint8 uint16 uint32 int8 int16 int32 bfloat16 float16 float32 complex64
    """.split(),
)
def test_promotion_is_that_of_jax(name, dtype):
    import jax.numpy as jnp

    ones = jnp.ones(1, "complex64"), jnp.ones(1, dtype)
    wanted = getattr(jnp, name)(*ones).dtype.name
    x = Variable("ones", shape=(1,), dtype="complex64", trainable=False)
    y = Variable("ones", shape=(1,), dtype=dtype, trainable=False)
    assert OPERATORS[name](x, y).dtype == wanted
    assert OPERATORS[name](y, x).dtype == wanted


# ----------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "name",
    """
    argmax cbrt ceil floor isposinf median relu signbit softmax trunc
    """.split(),
)
def test_ops_without_a_meaning_name_themselves(name):
    op = getattr(ops, name)
    with pytest.raises(TypeError, match="complex"):
        np.asarray(op(X))
    with pytest.raises(TypeError, match="complex"):
        run_compiled(op, X)


@pytest.mark.parametrize(
    "name", "bitwise_and floor_divide gcd heaviside hypot mod".split()
)
def test_binary_ops_without_a_meaning_name_themselves(name):
    op = getattr(ops, name)
    with pytest.raises(TypeError, match=f"`{name}`|promote to complex"):
        np.asarray(op(X, Y))
    with pytest.raises(TypeError, match=f"`{name}`|promote to complex"):
        run_compiled(op, X, Y)


def test_nothing_drops_an_imaginary_part_unasked():
    with pytest.raises(TypeError, match="ops.real"):
        float(ops.convert_to_tensor(1j))
    with pytest.raises(TypeError, match="complex"):
        ops.full((2,), 1j)
    with pytest.raises(TypeError, match="complex"):
        ops.clip(X, 0, 1)
    assert complex(ops.convert_to_tensor(2j)) == 2j


# --------------------------------------------------------- models and functions


def test_loops_and_branches():
    check(
        lambda x, y: ops.fori_loop(0, 3, lambda i, a: a * 1j + y, x),
        [X, Y],
        X * -1j + Y * (1j * 1j + 1j + 1),
    )
    check(
        lambda x: ops.scan(lambda a, b: (a + b, a * b), x[0], x),
        [X],
        (
            X[0] + X.sum(0),
            np.array([X[0] * X[0], 2 * X[0] * X[1], (2 * X[0] + X[1]) * X[2]]),
        ),
    )
    check(
        lambda x, y: ops.cond(
            ops.real(x[0, 0]) > 100, lambda: x + y, lambda: x * y
        ),
        [X, Y],
        X * Y,
    )


def test_functions_take_and_give_complex_tensors():
    step = jit(lambda x, y: {"product": x * y, "size": abs(x)})
    for rows in (3, 2, 0):
        result = step(X[:rows], REAL[:rows])
        assert result["product"].dtype == "complex64"
        np.testing.assert_allclose(result["product"], X[:rows] * REAL[:rows])
        np.testing.assert_allclose(result["size"], abs(X[:rows]), rtol=1e-6)
    double = X.astype("complex128")
    result = jit(lambda x: x * 2)(double)
    assert result.dtype == "complex128"
    np.testing.assert_allclose(result, 2 * double, rtol=1e-6)


def test_functions_assign_complex_variables():
    total = Variable(np.zeros(4, "complex64"), trainable=False)

    def add(x):
        total.assign(total + ops.sum(x, axis=0))
        return total.value

    step = jit(add)
    step(X)
    np.testing.assert_allclose(step(Y), X.sum(0) + Y.sum(0), rtol=1e-5)
    np.testing.assert_allclose(total, X.sum(0) + Y.sum(0), rtol=1e-5)


def test_models_predict_complex_numbers():
    class Phase(keras.layers.Layer):
        def build(self, shape):
            self.turn = self.add_weight(
                shape=shape[-1:],
                dtype="complex64",
                initializer=lambda shape, dtype: ops.full(shape, 1j, dtype),
                trainable=False,
            )

        def call(self, x):
            return ops.cast(x, "complex64") * self.turn

    inputs = keras.Input((4,))
    outputs = Phase()(inputs)
    model = keras.Model(inputs, [outputs, keras.ops.real(outputs * outputs)])
    turned, real = model.predict(REAL, batch_size=2, verbose=0)
    assert turned.dtype == "complex64"
    np.testing.assert_allclose(turned, 1j * REAL)
    np.testing.assert_allclose(real, -(REAL**2), rtol=1e-6)
    again = keras.Model(outputs, outputs * 2)
    np.testing.assert_allclose(
        again.predict(turned, verbose=0), 2j * REAL, rtol=1e-6
    )


def test_pairs_of_open_dims():
    x = np.arange(4, dtype="float32").reshape(2, 2)
    result = jit(ops.view_as_complex, [(None, None)])(x)
    np.testing.assert_array_equal(result, [1j, 2 + 3j])
