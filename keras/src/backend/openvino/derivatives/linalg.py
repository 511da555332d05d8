"""Derivatives of linear algebra, of real matrices.

They are those of M. Giles, "Collected matrix derivative results for forward and
reverse mode algorithmic differentiation" (2008), unless said otherwise.
"""

from keras.src.backend.openvino import linalg
from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.derivatives.rules import rule
from keras.src.backend.openvino.derivatives.rules import unbroadcast
from keras.src.backend.openvino.gradient import replayed
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import dims_of

matmul = ops.matmul


def _transposed(x):
    return ops.swapaxes(x, -1, -2)


def _symmetric(x):
    return 0.5 * (x + _transposed(x))


def _matrix(x):
    """A scalar for each matrix, to be multiplied by its elements."""
    return ops.expand_dims(x, (-2, -1))


def _identity(x):
    """The unit matrix with as many columns as `x`."""
    return ops.identity(dims_of(x)[-1], dtype=x.dtype)


def _solved(triangle, x, lower):
    return linalg.solve_triangular(triangle, x, lower=lower)


@rule("Cholesky")
def _cholesky(inputs, outputs, gradients):
    (factor,), (gradient,) = outputs, gradients
    product = matmul(_transposed(factor), ops.tril(gradient))
    half = ops.tril(product) - 0.5 * product * _identity(product)
    left = _solved(_transposed(factor), half, lower=False)
    right = _solved(_transposed(factor), _transposed(left), lower=False)
    return [_symmetric(right)]


@rule("Inverse")
def _inverse(inputs, outputs, gradients, adjoint):
    (inverse,), (gradient,) = outputs, gradients
    flipped = _transposed(inverse)
    return [-matmul(matmul(flipped, gradient), flipped)]


@rule("Det")
def _det(inputs, outputs, gradients):
    (x,), (y,), (gradient,) = inputs, outputs, gradients
    return [_matrix(gradient * y) * _transposed(linalg.inv(x))]


@rule("SLogDet")
def _slogdet(inputs, outputs, gradients):
    (x,), (_, gradient) = inputs, gradients
    return [_matrix(gradient) * _transposed(linalg.inv(x))]


@rule("Solve")
def _solve(inputs, outputs, gradients):
    (a, b), (x,), (gradient,) = inputs, outputs, gradients
    of_b = apply("Solve", _transposed(a), gradient)
    of_a = -matmul(of_b, _transposed(x))
    return [unbroadcast(of_a, a), unbroadcast(of_b, b)]


@rule("SolveTriangular")
def _solve_triangular(inputs, outputs, gradients, lower):
    (a, b), (x,), (gradient,) = inputs, outputs, gradients
    of_b = apply("SolveTriangular", _transposed(a), gradient, lower=not lower)
    of_a = -matmul(of_b, _transposed(x))
    of_a = ops.tril(of_a) if lower else ops.triu(of_a)
    return [unbroadcast(of_a, a), unbroadcast(of_b, b)]


def _inverse_differences(values):
    """`1 / (values[j] - values[i])`, and 0 where they are the same."""
    differences = ops.expand_dims(values, -2) - ops.expand_dims(values, -1)
    same = differences == 0
    return ops.where(same, 0, 1 / ops.where(same, 1, differences))


@rule("Eigh")
def _eigh(inputs, outputs, gradients):
    (values, vectors), (of_values, of_vectors) = outputs, gradients
    inner = _inverse_differences(values) * matmul(
        _transposed(vectors), of_vectors
    )
    inner = inner + ops.expand_dims(of_values, -1) * _identity(vectors)
    result = matmul(matmul(vectors, inner), _transposed(vectors))
    return [_symmetric(result)]


@rule("Svd")
def _svd(inputs, outputs, gradients, full_matrices):
    """J. Townsend, "Differentiating the singular value decomposition", 2016."""
    (x,), (u, s, vt), (of_u, of_s, of_vt) = inputs, outputs, gradients
    if full_matrices and x.shape[-1] != x.shape[-2]:
        raise NotImplementedError(
            "`svd` of matrices that are not square has a derivative with "
            "`full_matrices=False`."
        )
    v, of_v = _transposed(vt), _transposed(of_vt)
    factors = _inverse_differences(s * s)
    row = ops.expand_dims(s, -2)

    def antisymmetric(a, b):
        product = matmul(_transposed(a), b)
        return factors * (product - _transposed(product))

    unit = _identity(ops.expand_dims(s, -2))
    inner = antisymmetric(u, of_u) * row
    inner = inner + ops.expand_dims(s, -1) * antisymmetric(v, of_v)
    inner = inner + unit * ops.expand_dims(of_s, -1)
    result = matmul(matmul(u, inner), vt)
    outside_u = of_u - matmul(u, matmul(_transposed(u), of_u))
    outside_v = of_v - matmul(v, matmul(_transposed(v), of_v))
    result = result + matmul(outside_u / row, vt)
    return [result + matmul(u / row, _transposed(outside_v))]


@replayed
def _singular_values(x):
    return linalg.svd(x, full_matrices=False)[1]


rule("SingularValues")(_singular_values)


@rule("Qr")
def _qr(inputs, outputs, gradients, mode):
    """S. F. Walter and L. Lehmann, "Algorithmic differentiation of linear
    algebra functions with application in optimum experimental design" (2010).
    """
    (x,), (q, r), (of_q, of_r) = inputs, outputs, gradients
    rows, columns = (known_dim(x, axis, "qr") for axis in (-2, -1))
    if mode == "complete" and rows > columns:
        raise NotImplementedError(
            "`qr` of matrices of more rows than columns has a derivative with "
            f"`mode='reduced'`. Received: x.shape={x.shape}, mode={mode!r}"
        )
    if rows >= columns:
        return [_of_qr(q, r, of_q, of_r)]
    # The last columns are `q` times those of `r`.
    last, of_last = x[..., rows:], of_r[..., rows:]
    of_q = of_q + matmul(last, _transposed(of_last))
    first = _of_qr(q, r[..., :rows], of_q, of_r[..., :rows])
    return [ops.concatenate([first, matmul(q, of_last)], axis=-1)]


def _of_qr(q, r, of_q, of_r):
    """Where `r` is square."""
    inner = matmul(r, _transposed(of_r)) - matmul(_transposed(of_q), q)
    lower = ops.tril(inner)
    inner = lower + _transposed(lower) - inner * _identity(inner)
    right = of_q + matmul(q, inner)
    solved = _solved(r, _transposed(right), lower=False)
    return _transposed(solved)


@rule("LuFactor")
def _lu_factor(inputs, outputs, gradients):
    (x,), (lu, pivots), gradient = inputs, outputs, gradients[0]
    size = known_dim(x, -1, "lu_factor")
    if known_dim(x, -2, "lu_factor") != size:
        raise NotImplementedError(
            "`lu_factor` has a derivative for square matrices. Received: "
            f"x.shape={x.shape}"
        )
    unit = _identity(lu)
    lower, upper = ops.tril(lu, -1) + unit, ops.triu(lu)
    inner = ops.tril(matmul(_transposed(lower), ops.tril(gradient, -1)), -1)
    inner = inner + ops.triu(matmul(ops.triu(gradient), _transposed(upper)))
    left = _solved(_transposed(lower), inner, lower=False)
    result = _transposed(_solved(upper, _transposed(left), lower=False))
    places = ops.argsort(_permutation(pivots, size), axis=-1)
    places = ops.expand_dims(places, -1)
    return [ops.take_along_axis(result, places, axis=-2)]


def _permutation(pivots, size):
    """The order of the rows, after each was exchanged with its pivot."""
    rows = ops.arange(size)
    order = ops.broadcast_to(rows, dims_of(pivots))
    for i in range(size):
        other = pivots[..., i : i + 1]
        first = order[..., i : i + 1]
        second = ops.take_along_axis(order, other, axis=-1)
        order = ops.where(rows == other, first, order)
        order = ops.where(rows == i, second, order)
    return order


@rule("Pinv")
def _pinv(inputs, outputs, gradients, rcond):
    """That of G. H. Golub and V. Pereyra, "The differentiation of
    pseudo-inverses and nonlinear least squares problems" (1973), (4.12).
    """
    (x,), (inverse,), (gradient,) = inputs, outputs, gradients
    flipped, given = _transposed(inverse), _transposed(gradient)
    rows, columns = matmul(x, inverse), matmul(inverse, x)
    result = -matmul(matmul(flipped, gradient), flipped)
    outer = matmul(given, matmul(inverse, flipped))
    result = result + outer - matmul(rows, outer)
    inner = matmul(matmul(flipped, inverse), given)
    return [result + inner - matmul(inner, columns)]


@replayed
def _lstsq(a, b, rcond):
    return matmul(linalg.pinv(a, rcond), b)


rule("Lstsq")(_lstsq)
