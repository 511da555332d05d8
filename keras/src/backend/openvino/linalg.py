"""`keras.ops.linalg` on OpenVINO.

OpenVINO has no nodes for decompositions: LAPACK computes them, through NumPy,
eagerly and inside compiled models (see `custom`).
"""

import contextlib
import math

import numpy as np

from keras.src.backend.openvino.common import broadcast_dims
from keras.src.backend.openvino.common import canonical_axes
from keras.src.backend.openvino.common import in_float32
from keras.src.backend.openvino.common import reduction
from keras.src.backend.openvino.common import to_float
from keras.src.backend.openvino.complex import join
from keras.src.backend.openvino.complex import parts
from keras.src.backend.openvino.dtypes import complex_of
from keras.src.backend.openvino.dtypes import is_inexact
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import part_dtype
from keras.src.backend.openvino.gradient import jvp  # noqa: F401
from keras.src.backend.openvino.numpy import absolute
from keras.src.backend.openvino.numpy import concatenate
from keras.src.backend.openvino.numpy import conj
from keras.src.backend.openvino.numpy import expand_dims
from keras.src.backend.openvino.numpy import identity
from keras.src.backend.openvino.numpy import matmul
from keras.src.backend.openvino.numpy import moveaxis
from keras.src.backend.openvino.numpy import swapaxes
from keras.src.backend.openvino.registry import Spec
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote
from keras.src.backend.openvino.tensor import value_of

# ------------------------------------------------- operations that LAPACK does


def _register(name, function, rule):
    """Adds an operation on stacks of matrices.

    Args:
        name: its name.
        function: of arrays of at least two dims, and of the attributes.
        rule: for the `(dtype, shape)` of each input and the attributes, those
            of each output; unknown dims are `None`.
    """
    register(name, _kernel(function, rule), rule=rule)


def _kernel(function, rule):
    """`function`, with NaN where it has no answer, as in JAX."""

    def kernel(*arrays, **attributes):
        if not any(np.isnan(array).any() for array in arrays):
            with contextlib.suppress(np.linalg.LinAlgError):
                return function(*arrays, **attributes)
        return _one_by_one(function, rule, arrays, attributes)

    return kernel


def _one_by_one(function, rule, arrays, attributes):
    """What `function` gives for each matrix that it has an answer for.

    LAPACK may stop at one that is singular, and does not always pass NaN on.
    """
    specs = [Spec(array.dtype.name, array.shape) for array in arrays]
    outputs = tuple(
        np.full(dims, np.nan if is_inexact(dtype) else 0, numpy_dtype(dtype))
        for dtype, dims in rule(*specs, **attributes)
    )
    batch = np.broadcast_shapes(*[array.shape[:-2] for array in arrays])
    arrays = [np.broadcast_to(a, batch + a.shape[-2:]) for a in arrays]
    for index in np.ndindex(batch):
        matrices = [array[index] for array in arrays]
        if any(np.isnan(matrix).any() for matrix in matrices):
            continue
        with contextlib.suppress(np.linalg.LinAlgError):
            results = function(*matrices, **attributes)
            if not isinstance(results, tuple):
                results = (results,)
            for output, result in zip(outputs, results):
                output[index] = result
    return outputs


@in_float32
def _compute(name, *operands, **attributes):
    """Applies an operation to float tensors."""
    return apply(name, *promote(*operands, float), **attributes)


def _same(spec):
    return [spec]


def _shorter_side(m, n):
    return None if None in (m, n) else min(m, n)


# ------------------------------------------------------------- factorisations


def _symmetrised(a):
    """JAX takes the symmetric part, where LAPACK looks at one triangle."""
    return (a + _transposed(a)) / 2


def _transposed(a):
    return np.swapaxes(a, -1, -2).conj()


_register("Cholesky", lambda a: np.linalg.cholesky(_symmetrised(a)), _same)


def cholesky(a, upper=False):
    factor = _compute("Cholesky", a)
    if not is_symbolic(factor) and np.isnan(value_of(factor)).any():
        raise ValueError(
            "`cholesky` takes positive definite matrices; at least one of "
            f"those in `x` is not. Received: x.shape={factor.shape}"
        )
    return conj(swapaxes(factor, -1, -2)) if upper else factor


@in_float32
def cholesky_inverse(a, upper=False):
    a = to_float(a)
    unit = identity(dims_of(a)[-1], dtype=a.dtype)
    inverse = _compute("SolveTriangular", a, unit, lower=not upper)
    transposed = conj(swapaxes(inverse, -1, -2))
    if upper:
        return matmul(inverse, transposed)
    return matmul(transposed, inverse)


def _eig(a):
    if np.array_equal(a, _transposed(a)):
        return tuple(np.linalg.eigh(a))
    return tuple(np.linalg.eig(a))


def _eig_rule(spec):
    dtype, dims = spec
    dtype = complex_of(part_dtype(dtype))
    return [(dtype, dims[:-1]), (dtype, dims)]


_register("Eig", _eig, _eig_rule)


def eig(x):
    return _compute("Eig", x)


def _eigh_rule(spec):
    dtype, dims = spec
    return [(part_dtype(dtype), dims[:-1]), spec]


_register("Eigh", lambda a: tuple(np.linalg.eigh(_symmetrised(a))), _eigh_rule)


def eigh(x):
    return _compute("Eigh", x)


def _lu_factor(a):
    """Gaussian elimination with row pivoting, all matrices at once."""
    m, n = a.shape[-2:]
    steps = min(m, n)
    lu = a.reshape((math.prod(a.shape[:-2]), m, n)).copy()
    each = np.arange(len(lu))
    pivots = np.empty((len(lu), steps), np.int32)
    for i in range(steps):
        row = pivots[:, i] = i + np.argmax(np.abs(lu[:, i:, i]), axis=1)
        lu[each, i], lu[each, row] = lu[each, row], lu[each, i]
        pivot = lu[:, i, i, None]
        below = lu[:, i + 1 :, i]
        below /= np.where(pivot == 0, 1, pivot)
        lu[:, i + 1 :, i + 1 :] -= below[:, :, None] * lu[:, i, None, i + 1 :]
    return lu.reshape(a.shape), pivots.reshape(a.shape[:-2] + (steps,))


def _lu_factor_rule(spec):
    *batch, m, n = spec.shape
    return [spec, ("int32", (*batch, _shorter_side(m, n)))]


_register("LuFactor", _lu_factor, _lu_factor_rule)


def lu_factor(x):
    return _compute("LuFactor", x)


def _qr_rule(spec, mode):
    dtype, (*batch, m, n) = spec
    inner = m if mode == "complete" else _shorter_side(m, n)
    return [(dtype, (*batch, m, inner)), (dtype, (*batch, inner, n))]


_register("Qr", lambda a, mode: tuple(np.linalg.qr(a, mode)), _qr_rule)


def qr(x, mode="reduced"):
    if mode not in ("reduced", "complete"):
        raise ValueError(
            "`mode` argument of `qr`: Expected one of {'reduced', 'complete'}. "
            f"Received: mode={mode}"
        )
    x = convert_to_tensor(x)
    if x.ndim < 2:
        raise ValueError(
            f"`qr` takes matrices, or batches of them. Received: "
            f"x.shape={x.shape}"
        )
    return _compute("Qr", x, mode=mode)


def _svd(a, full_matrices):
    return tuple(np.linalg.svd(a, full_matrices=full_matrices))


def _svd_rule(spec, full_matrices):
    dtype, (*batch, m, n) = spec
    k = _shorter_side(m, n)
    rows, columns = (m, n) if full_matrices else (k, k)
    return [
        (dtype, (*batch, m, rows)),
        (part_dtype(dtype), (*batch, k)),
        (dtype, (*batch, columns, n)),
    ]


def _singular_values_rule(spec):
    dtype, (*batch, m, n) = spec
    return [(part_dtype(dtype), (*batch, _shorter_side(m, n)))]


_register("Svd", _svd, _svd_rule)
_register(
    "SingularValues",
    lambda a: np.linalg.svd(a, compute_uv=False),
    _singular_values_rule,
)


def svd(x, full_matrices=True, compute_uv=True):
    if compute_uv:
        return _compute("Svd", x, full_matrices=bool(full_matrices))
    return _compute("SingularValues", x)


# ----------------------------------------------- determinants, ranks, inverses


def _scalar_rule(spec):
    dtype, dims = spec
    return [(dtype, dims[:-2])]


_register("Det", np.linalg.det, _scalar_rule)


def det(a):
    return _compute("Det", a)


def _complex_inverse(x, adjoint):
    """That of a real matrix of twice the size.

    Its blocks multiply as the complex numbers do.
    """
    real, imaginary = parts(x)
    size = dims_of(x)[-1]
    blocks = [[real, -imaginary], [imaginary, real]]
    rows = [concatenate(row, axis=-1) for row in blocks]
    inverse = apply("Inverse", concatenate(rows, axis=-2), adjoint=adjoint)
    columns = inverse[..., :size]
    return join(columns[..., :size, :], columns[..., size:, :])


_inverse_kernel = _kernel(np.linalg.inv, _same)
register(
    "Inverse", lambda a, adjoint: _inverse_kernel(a), complex=_complex_inverse
)


@in_float32
def inv(a):
    return apply("Inverse", to_float(a), adjoint=False)


def _matrix_rank_rule(spec, tol):
    return [("int32", spec.shape[:-2])]


_register("MatrixRank", np.linalg.matrix_rank, _matrix_rank_rule)


def matrix_rank(x, tol=None):
    x = _matrices(x)
    return _compute("MatrixRank", x, tol=None if tol is None else float(tol))


def _pinv(a, rcond):
    if rcond is None:
        rcond = 10 * max(a.shape[-2:]) * np.finfo(a.dtype).eps
    return np.linalg.pinv(a, rcond)


def _pinv_rule(spec, rcond):
    dtype, (*batch, m, n) = spec
    return [(dtype, (*batch, n, m))]


_register("Pinv", _pinv, _pinv_rule)


def pinv(x, rcond=None):
    x = _matrices(x)
    return _compute("Pinv", x, rcond=None if rcond is None else float(rcond))


def _matrices(x):
    x = convert_to_tensor(x)
    if x.ndim >= 2:
        return x
    raise ValueError(
        f"Expected matrices, of rank >= 2. Received: x.shape={x.shape}"
    )


# -------------------------------------------------------------- linear systems


def _solve_rule(a, b, **attributes):
    batch = broadcast_dims(a.shape[:-2], b.shape[:-2])
    return [(b.dtype, batch + b.shape[-2:])]


def _solve_triangular(a, b, lower):
    # LAPACK's elimination finds an upper triangle already eliminated, and
    # leaves the substitution to do.
    if lower:
        backwards = (..., slice(None, None, -1), slice(None))
        flipped = np.tril(a)[..., ::-1, ::-1]
        return np.linalg.solve(flipped, b[backwards])[backwards]
    return np.linalg.solve(np.triu(a), b)


_register("Solve", np.linalg.solve, _solve_rule)
_register("SolveTriangular", _solve_triangular, _solve_rule)


def solve(a, b):
    return _solve("Solve", a, b)


def solve_triangular(a, b, lower=False):
    return _solve("SolveTriangular", a, b, lower=bool(lower))


def _solve(name, a, b, **attributes):
    a, b = convert_to_tensor(a), convert_to_tensor(b)
    if b.ndim > 1 and b.ndim != a.ndim - 1:
        return _compute(name, a, b, **attributes)
    column = _compute(name, a, expand_dims(b, -1), **attributes)
    return apply("Squeeze", column, -1)


def _lstsq(a, b, rcond):
    if rcond is None:  # NumPy's is that of float64, whatever the dtype
        rcond = max(a.shape) * np.finfo(a.dtype).eps
    return np.linalg.lstsq(a, b, rcond)[0]


def _lstsq_rule(a, b, rcond):
    dtype, (_, n) = a
    return [(dtype, (n, *b.shape[1:]))]


_register("Lstsq", _lstsq, _lstsq_rule)


def lstsq(a, b, rcond=None):
    a, b = convert_to_tensor(a), convert_to_tensor(b)
    if a.ndim != 2 or b.ndim not in (1, 2):
        raise ValueError(
            "`lstsq` takes a matrix `a`, and a vector or a matrix `b`. "
            f"Received: a.shape={a.shape}, b.shape={b.shape}"
        )
    rcond = None if rcond is None else float(rcond)
    if b.ndim == 2:
        return _compute("Lstsq", a, b, rcond=rcond)
    column = _compute("Lstsq", a, expand_dims(b, -1), rcond=rcond)
    return apply("Squeeze", column, -1)


# ----------------------------------------------------------------------- norms

_INFINITY = float("inf")


@in_float32
def norm(x, ord=None, axis=None, keepdims=False):
    x = to_float(x)
    axes = canonical_axes(axis, x.ndim)
    if axis is None and ord is None:
        return reduction("ReduceL2", x, axes, keepdims)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, axes, keepdims)
    raise ValueError(
        "`norm` takes vectors (one axis) or matrices (two). "
        f"Received: x.shape={x.shape}, ord={ord}, axis={axis}"
    )


def _vector_norm(x, ord, axes, keepdims):
    if ord in _VECTOR_NORMS:
        return reduction(_VECTOR_NORMS[ord], absolute(x), axes, keepdims)
    if isinstance(ord, str):
        raise ValueError(
            "`norm` of a vector takes an `ord` that is a number or None. "
            f"Received: ord={ord!r}"
        )
    if ord == 0:
        is_any = cast(x != 0, part_dtype(x.dtype))
        return reduction("ReduceSum", is_any, axes, keepdims)
    powers = reduction("ReduceSum", absolute(x) ** ord, axes, keepdims)
    return powers ** (1 / ord)


_VECTOR_NORMS = {
    None: "ReduceL2",
    2: "ReduceL2",
    1: "ReduceSum",
    _INFINITY: "ReduceMax",
    -_INFINITY: "ReduceMin",
}


def _matrix_norm(x, ord, axes, keepdims):
    if ord in (None, "fro"):
        return reduction("ReduceL2", x, axes, keepdims)
    if ord in _NORMS_OF_SINGULAR_VALUES:
        values = svd(moveaxis(x, axes, (-2, -1)), compute_uv=False)
        result = reduction(_NORMS_OF_SINGULAR_VALUES[ord], values, -1, False)
        return expand_dims(result, sorted(axes)) if keepdims else result
    if ord not in _NORMS_OF_SUMS:
        raise ValueError(
            "`norm` of a matrix takes an `ord` of None, 'fro', 'nuc', 1, -1, "
            f"2, -2, inf or -inf. Received: ord={ord!r}"
        )
    type, summed = _NORMS_OF_SUMS[ord]
    sums = reduction("ReduceL1", x, axes[summed], True)
    result = reduction(type, sums, axes, True)
    return result if keepdims else apply("Squeeze", result, axes)


_NORMS_OF_SINGULAR_VALUES = {
    2: "ReduceMax",
    -2: "ReduceMin",
    "nuc": "ReduceSum",
}

# The reduction, and which of the two axes is summed before.
_NORMS_OF_SUMS = {
    1: ("ReduceMax", 0),
    -1: ("ReduceMin", 0),
    _INFINITY: ("ReduceMax", 1),
    -_INFINITY: ("ReduceMin", 1),
}
