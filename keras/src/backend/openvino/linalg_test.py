import functools
import threading

import numpy as np
import openvino as ov
import pytest

from keras.src import ops
from keras.src import tree
from keras.src.backend.openvino import device
from keras.src.backend.openvino import linalg
from keras.src.backend.openvino import testing
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

check = functools.partial(testing.check, rtol=1e-4, atol=1e-5)


def positive(*shape, dtype="float32"):
    x = normal(*shape, dtype=dtype)
    return x @ x.swapaxes(-1, -2) + np.eye(shape[-1], dtype=dtype)


def transposed(x):
    return x.swapaxes(-1, -2)


def test_every_function_of_the_jax_backend():
    names = (
        "cholesky cholesky_inverse det eig eigh inv jvp lstsq lu_factor "
        "matrix_rank norm pinv qr solve solve_triangular svd"
    )
    assert all(callable(getattr(linalg, name)) for name in names.split())


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_of_positive_definite_matrices(batch):
    x = positive(*batch, 4, 4)
    lower = np.linalg.cholesky(x)
    check(linalg.cholesky, [x], lower)
    check(lambda t: linalg.cholesky(t, upper=True), [x], transposed(lower))
    check(linalg.cholesky_inverse, [lower], np.linalg.inv(x))
    check(
        lambda t: linalg.cholesky_inverse(t, upper=True),
        [np.ascontiguousarray(transposed(lower))],
        np.linalg.inv(x),
    )
    check(linalg.det, [x], np.linalg.det(x))
    check(linalg.inv, [x], np.linalg.inv(x))
    for op in (linalg.eigh, linalg.eig):
        for values, vectors in both_ways(op, x):
            product = (vectors * values[..., None, :]) @ transposed(vectors)
            np.testing.assert_allclose(product, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 5), (2, 2, 4, 4), (0, 2, 3)])
def test_factorisations(shape):
    x = normal(*shape)
    m, n = shape[-2:]
    k = min(m, n)
    for mode in ("reduced", "complete"):
        for q, r in both_ways(lambda t: linalg.qr(t, mode), x):
            assert q.shape[-1] == (m if mode == "complete" else k)
            np.testing.assert_allclose(q @ r, x, atol=1e-5)
            np.testing.assert_allclose(np.tril(r, -1), 0 * r, atol=1e-6)
    for full in (False, True):
        for u, s, vt in both_ways(lambda t: linalg.svd(t, full), x):
            assert u.shape[-1] == (m if full else k)
            assert vt.shape[-2] == (n if full else k)
            product = (u[..., :k] * s[..., None, :]) @ vt[..., :k, :]
            np.testing.assert_allclose(product, x, atol=1e-5)
    singular = np.linalg.svd(x, compute_uv=False)
    check(lambda t: linalg.svd(t, compute_uv=False), [x], singular)
    check(linalg.pinv, [x], np.linalg.pinv(x))
    check(linalg.matrix_rank, [x], np.linalg.matrix_rank(x))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5, 3), (2, 2, 3, 5), (2, 0, 0)])
def test_lu_factor(shape):
    x = normal(*shape)
    *batch, m, n = shape
    k = min(m, n)
    for lu, pivots in both_ways(linalg.lu_factor, x):
        assert pivots.shape == (*batch, k) and pivots.dtype == "int32"
        lower = np.tril(lu, -1)[..., :k] + np.eye(m, k)
        assert np.abs(lower).max(initial=0) <= 1  # the pivots are the largest
        product = lower @ np.triu(lu)[..., :k, :]
        for index in np.ndindex(*batch):
            for row in reversed(range(k)):
                swap = [row, pivots[index][row]]
                product[index][swap] = product[index][swap[::-1]]
        np.testing.assert_allclose(product, x, atol=1e-5)


@pytest.mark.parametrize("lower", [True, False])
def test_systems(lower):
    a = normal(2, 3, 4, 4) + 4 * np.eye(4, dtype="float32")
    b = normal(2, 3, 4, 2)
    vector = b[..., 0].copy()
    check(linalg.solve, (a, b), np.linalg.solve(a, b))
    wanted = np.linalg.solve(a, vector[..., None])[..., 0]
    check(linalg.solve, (a, vector), wanted)
    check(linalg.solve, (a[0, 0], b), np.linalg.solve(a[0, 0], b))

    def triangular(a, b):
        return linalg.solve_triangular(a, b, lower=lower)

    triangle = (np.tril if lower else np.triu)(a)
    check(triangular, (a, b), np.linalg.solve(triangle, b))
    wanted = np.linalg.solve(triangle, vector[..., None])[..., 0]
    check(triangular, (a, vector), wanted)


def test_least_squares_of_low_rank():
    for dtype in ("float32", "float64"):
        # Of rank 1, but for what the dtype rounds.
        a = np.outer(np.arange(1, 6), 1 / np.arange(3, 6)).astype(dtype)
        b = normal(5, 2, dtype=dtype)
        check(linalg.lstsq, (a, b), np.linalg.pinv(a, 1e-5) @ b)
        check(linalg.lstsq, (a, b[:, 0]), np.linalg.pinv(a, 1e-5) @ b[:, 0])
    nearly = np.diag([1, 1e-3]).astype("float32")
    check(linalg.lstsq, (nearly, nearly), np.eye(2))
    cut = functools.partial(linalg.lstsq, rcond=0.01)
    check(cut, (nearly, nearly), np.diag([1, 0]))


def test_an_ill_conditioned_triangle_is_substituted():
    n = 30
    a = np.tril(np.full((n, n), -1.0, "float32"), -1)
    a += 1e-3 * np.eye(n, dtype="float32")
    x = np.zeros((n, 1), "float32")
    x[0] = 1
    solved = linalg.solve_triangular(a, a @ x, lower=True)
    np.testing.assert_allclose(solved, x, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
@pytest.mark.parametrize("rcond", [None, 0.5])
def test_lstsq(shape, rcond):
    a, b = normal(*shape), normal(shape[0], 2, seed=1)
    for right in (b, b[:, 0].copy()):
        wanted = np.linalg.lstsq(a, right, rcond)[0]
        check(lambda a, b: linalg.lstsq(a, b, rcond), (a, right), wanted)


def test_tolerances():
    x = np.diag([1, 1e-3, 1e-9]).astype("float32")
    check(linalg.matrix_rank, [x], 2)
    check(lambda t: linalg.matrix_rank(t, tol=0.1), [x], 1)
    wanted = np.linalg.pinv(x, 0.1)
    check(lambda t: linalg.pinv(t, rcond=0.1), [x], wanted)
    for op in (linalg.matrix_rank, linalg.pinv):
        with pytest.raises(ValueError, match="rank >= 2"):
            op(np.ones(3))


VECTOR_ORDERS = [None, np.inf, -np.inf, 0, 1, -1, 2, -2, 3, 0.5]
MATRIX_ORDERS = [None, "fro", "nuc", np.inf, -np.inf, 1, -1, 2, -2]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    "ord,axis",
    [(ord, axis) for ord in VECTOR_ORDERS for axis in (1, -1)]
    + [(ord, axis) for ord in MATRIX_ORDERS for axis in ((0, 1), (-1, 0))],
)
def test_norm(ord, axis, keepdims):
    x = normal(3, 5, 4)
    wanted = np.linalg.norm(x, ord, axis, keepdims)
    check(lambda t: linalg.norm(t, ord, axis, keepdims), [x], wanted)


def test_norm_of_everything_and_its_errors():
    x = normal(3, 5, 4)
    check(linalg.norm, [x], np.linalg.norm(x))
    check(linalg.norm, [x.astype("int32")], np.linalg.norm(x.astype("int32")))
    for ord, axis in ((3, (0, 1)), ("fro", 0), (2, None), (None, (0, 1, 2))):
        with pytest.raises(ValueError):
            linalg.norm(x, ord, axis)


OPS = (
    "cholesky",
    "inv",
    "det",
    "svd",
    "eigh",
    "qr",
    "pinv",
    "lu_factor",
)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_dtypes(name, dtype):
    x = np.array([[4, 1, 0], [1, 3, 1], [0, 1, 2]])
    op = getattr(linalg, name)
    results = tree.flatten(op(ops.cast(x, dtype)))
    wanted = tree.flatten(op(x.astype("float64")))
    kept = "float32" if dtype == "int32" else dtype
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 1e-5)
    assert results[0].dtype == kept
    for result, reference in zip(results, wanted):
        result = ops.cast(result, "float64")
        np.testing.assert_allclose(result, reference, atol=8 * tolerance)


def test_float64_is_exact():
    x = positive(5, 5, dtype="float64")
    unit = linalg.inv(x) @ x
    np.testing.assert_allclose(unit, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(linalg.det(x), np.linalg.det(x), rtol=1e-14)


@pytest.mark.parametrize("name", ["svd", "eigh", "eig", "qr", "pinv", "det"])
def test_nan_stays_in_its_matrix(name):
    x = np.stack([np.eye(2), [[np.nan, 1], [1, 1]], np.eye(2)])
    for results in both_ways(getattr(linalg, name), x.astype("float32")):
        for result in results:
            assert np.isnan(result[1]).all()
            assert np.isfinite(result[[0, 2]]).all()


def test_singular_matrices():
    x = np.stack([np.eye(2), [[1, 2], [2, 4]]]).astype("float32")
    for op in (linalg.inv, lambda t: linalg.solve(t, np.ones((2, 2, 1)))):
        for (result,) in both_ways(op, x):
            assert np.isfinite(result[0]).all()
            assert not np.isfinite(result[1]).any()


def test_matrices_without_a_factor():
    x = np.stack([np.eye(2), [[1, 2], [2, 1]]]).astype("float32")
    with pytest.raises(ValueError, match="positive definite"):
        linalg.cholesky(x)
    (factor,) = run_compiled(linalg.cholesky, x)
    assert np.isfinite(factor[0]).all() and np.isnan(factor[1]).any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
def test_eigenvalues_are_complex(dtype):
    for x in (
        np.array([[0, -1], [1, 0]]),
        np.array([[2, 1], [0, 3]]),
        np.array([[7]]),
    ):
        for values, vectors in both_ways(linalg.eig, x.astype(dtype)):
            assert values.dtype == vectors.dtype == "complex64"
            assert values.shape == x.shape[:1] and vectors.shape == x.shape
            np.testing.assert_allclose(x @ vectors, vectors * values, atol=1e-6)


def test_from_async_queues():
    model = trace(lambda t: linalg.svd(t, compute_uv=False), normal(1, 2, 3))
    compiled = ov.Core().compile_model(model, "CPU")
    inputs = [normal(1 + i % 3, 2 + i % 4, 3, seed=i) for i in range(40)]
    results = {}

    def keep(request, i):
        results[i] = request.get_output_tensor(0).data.copy()

    queue = ov.AsyncInferQueue(compiled, 4)
    queue.set_callback(keep)
    for i, x in enumerate(inputs):
        queue.start_async([x], i)
    queue.wait_all()
    for i, x in enumerate(inputs):
        wanted = np.linalg.svd(x, compute_uv=False)
        np.testing.assert_allclose(results[i], wanted, atol=1e-5)


def test_from_eight_threads():
    x = symbolic("float32", (None, None, 3))
    values = linalg.svd(x, compute_uv=False)
    executable = device.compile_model([values.output], [x.output])
    failures = []

    def work(seed):
        try:
            for i in range(10):
                x = normal(2, 2 + i % 4, 3, seed=10 * seed + i)
                u, s, vt = linalg.svd(x, full_matrices=False)
                product = (u * s[:, None, :]) @ vt
                np.testing.assert_allclose(product, x, atol=1e-5)
                (result,) = executable([x])
                np.testing.assert_allclose(result, s, atol=1e-5)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
