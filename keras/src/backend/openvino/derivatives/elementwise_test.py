"""Derivatives at the edges, where conventions are those of JAX 0.10.

`integration_tests/differential` compares the derivatives of every op with
those of JAX elsewhere.
"""

import math

import numpy as np
import pytest

from keras.src import ops
from keras.src.backend.openvino.gradient import GradientTape
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import gradient_of

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    "function, x, expected",
    [
        (ops.abs, [0.0, -0.0, -1.0, INF, -INF], [1, 1, -1, 1, -1]),
        (lambda x: ops.norm(x, 1), [0.0, -1.0], [1, -1]),
        (lambda x: ops.norm(x, 0.5), [0.0, 1.0], [INF, 1]),
        (ops.hard_tanh, [-2.0, -1.0, 0.0, 1.0, 2.0], [0, 1, 1, 1, 0]),
        (ops.sparse_sigmoid, [-1.0, 0.0, 1.0, 2.0], [0.25, 0.5, 0.25, 0]),
        (lambda x: ops.clip(x, 0, 1), [0.0, 0.5, 1, 2], [0.5, 1, 0.5, 0]),
        (ops.relu, [0.0, 1.0], [0, 1]),
        (ops.relu6, [0.0, 1.0, 6.0], [0, 1, 0]),
        (ops.sqrt, [0.0, 4.0], [INF, 0.25]),
        (ops.arccosh, [1.0, 2.0, 0.5], [INF, 3**-0.5, NAN]),
        (lambda x: ops.fmax(x, 0.0), [0.0, 1.0, NAN], [0, 1, 0]),
        (lambda x: ops.fmin(x, 0.0), [0.0, -1.0, NAN], [0, 1, 0]),
        (lambda x: ops.fmax(x, NAN), [0.0, 1.0, NAN], [1, 1, 1]),
        (lambda x: ops.fmin(NAN, x), [0.0, 1.0, NAN], [1, 1, 0]),
        (lambda x: ops.power(x, 0.0), [0.0, 1e-40, 2.0, INF], [0, 0, 0, 0]),
        (
            lambda x: ops.power(2.0, x),
            [0.0, 1.0],
            [math.log(2), 2 * math.log(2)],
        ),
        (lambda x: ops.power(0.0, x), [0.0, 1.0], [0, 0]),
        (lambda x: ops.quantile(x, 0.4), [1.0, 2, 2, 5], [0, 0.8, 0.2, 0]),
        (ops.median, [3.0, 3, 3, 3], [0, 0.5, 0.5, 0]),
        (ops.var, [1.0, 1.0], [0, 0]),
        (ops.logsumexp, [-INF, 0, 0], [0, 0.5, 0.5]),
    ],
)
def test_first_derivatives(function, x, expected):
    check(gradient_of(function), [np.array(x, "float32")], np.array(expected))


PI2 = math.pi**2


@pytest.mark.parametrize(
    "function, x, expected",
    [
        (ops.arccos, [-1.0, 0.0, 0.5, 1.0], [INF, 0, -0.769800, -INF]),
        (ops.arcsin, [-1.0, 0.0, 0.5, 1.0], [-INF, 0, 0.769800, INF]),
        (ops.arccosh, [1.0, 2.0], [-INF, -0.384900]),
        (ops.cbrt, [0.0, 1.0, -8.0], [-INF, -2 / 9, 1 / 144]),
        (lambda x: ops.norm(x, 2), [0.0, 3.0], [1 / 3, 0]),
        (ops.softsign, [0.0, 1.0], [-2, -0.25]),
        (ops.sinc, [0.0, 1.0, 2.0], [-PI2 / 3, 2, -0.5]),
        (ops.sinc, [1e-3, -1e-4, 1e-20], [-PI2 / 3] * 3),
        (lambda x: ops.logaddexp(x, 0.0), [0.0, INF, -INF], [0.25, 0, 0]),
        (lambda x: ops.power(x, 2.0), [0.0, -1.0], [2, 2]),
    ],
)
def test_second_derivatives(function, x, expected):
    second = gradient_of(gradient_of(function))
    check(second, [np.array(x, "float32")], np.array(expected), rtol=2e-5)


def test_third_derivatives_of_inverse_functions():
    x = np.array([0.25, -0.5])
    third = gradient_of(gradient_of(gradient_of(ops.arcsin)))
    expected = (1 + 2 * x * x) / (1 - x * x) ** 2.5
    check(third, [x.astype("float32")], expected, rtol=1e-5)
    x = np.array([1.5, 3.0])
    third = gradient_of(gradient_of(gradient_of(ops.arccosh)))
    expected = (2 * x * x + 1) / (x * x - 1) ** 2.5
    check(third, [x.astype("float32")], expected, rtol=1e-5)


def sinc_slope(x):
    """The derivative of sin(pi x) / (pi x), from its series."""
    return sum(
        (-1) ** i
        * 2
        * i
        * math.pi ** (2 * i)
        * x ** (2 * i - 1)
        / math.factorial(2 * i + 1)
        for i in range(1, 30)
    )


@pytest.mark.parametrize("dtype, rtol", [("float32", 2e-6), ("float64", 1e-14)])
def test_sinc_is_exact_on_both_sides_of_its_seam(dtype, rtol):
    x = np.array([1e-9, 0.01, 0.3, 0.318, 0.3183, 0.3184, 0.32, 0.5], dtype)
    gradient = gradient_of(ops.sinc)(ops.convert_to_tensor(x))
    np.testing.assert_allclose(gradient, sinc_slope(x), rtol=rtol)
    np.testing.assert_allclose(ops.sinc(x), np.sinc(x), rtol=rtol)


def test_sinc_of_large_numbers_and_of_none():
    x = np.array([1e38, 12.25, INF, NAN], "float32")
    for gradient, second in both_ways(
        lambda x: [
            gradient_of(ops.sinc)(x),
            gradient_of(gradient_of(ops.sinc))(x),
        ],
        x,
    ):
        assert np.all(np.isfinite(gradient[:2]) & np.isfinite(second[:2]))
        assert np.all(np.isnan(gradient[2:]))


PAIRS = {
    "mod": (
        ops.mod,
        [1.0, 1.0, -1.0, 5.0, -5.0, 3.0],
        [-INF, INF, INF, -3.0, 3.0, 3.0],
        [1, 1, 1, 1, 1, 1],
        [1, 0, 1, 2, 2, -1],
    ),
    "hypot": (
        ops.hypot,
        [0.0, 3.0, 0.0, -3.0],
        [0.0, 4.0, 2.0, 0.0],
        [0.5, 0.6, 0, -1],
        [0.5, 0.8, 1, 0],
    ),
    "maximum": (
        ops.maximum,
        [0.0, 1.0, NAN, 1.0, INF],
        [0.0, 2.0, 1.0, NAN, INF],
        [0.5, 0, 0, 0, 0.5],
        [0.5, 1, 0, 0, 0.5],
    ),
    "minimum": (
        ops.minimum,
        [0.0, 1.0, NAN, 1.0, INF],
        [0.0, 2.0, 1.0, NAN, INF],
        [0.5, 1, 0, 0, 0.5],
        [0.5, 0, 0, 0, 0.5],
    ),
    "fmax": (
        ops.fmax,
        [0.0, 1.0, NAN, 1.0, NAN],
        [0.0, 2.0, 1.0, NAN, NAN],
        [0, 0, 0, 1, 1],
        [1, 1, 1, 0, 0],
    ),
    "fmin": (
        ops.fmin,
        [0.0, 1.0, NAN, 1.0, NAN],
        [0.0, 2.0, 1.0, NAN, NAN],
        [0, 1, 0, 1, 1],
        [1, 0, 1, 0, 0],
    ),
    "logaddexp": (
        ops.logaddexp,
        [0.0, INF, INF, -INF, 1.0, 100.0],
        [0.0, INF, -INF, 0.0, 0.0, -100.0],
        [0.5, 1, 1, 0, 1 / (1 + math.exp(-1)), 1],
        [0.5, 1, 0, 1, 1 / (1 + math.exp(1)), 0],
    ),
    "logaddexp2": (
        ops.logaddexp2,
        [0.0, INF, INF, -INF, 1.0],
        [0.0, INF, -INF, 0.0, 0.0],
        [0.5, 1, 1, 0, 2 / 3],
        [0.5, 1, 0, 1, 1 / 3],
    ),
    "power": (
        ops.power,
        [0.0, 0.0, 2.0, 0.0, 2.0],
        [1.0, 2.0, 0.0, 0.5, 3.0],
        [1, 0, 0, INF, 12],
        [0, 0, math.log(2), 0, 8 * math.log(2)],
    ),
}


def of_both(function):
    def gradients(x1, x2):
        with GradientTape() as tape:
            tape.watch([x1, x2])
            y = function(x1, x2)
        return tape.gradient(y, [x1, x2])

    return gradients


@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_by_two_operands(name):
    function, *arrays = PAIRS[name]
    x1, x2, *expected = [np.array(x, "float32") for x in arrays]
    check(of_both(function), [x1, x2], expected, rtol=2e-6)


def test_mixed_derivative_of_a_power_of_zero():
    # d2/dx dy of x**y is x**(y - 1) * (1 + y * log(x))
    def by_exponent(x, y):
        return of_both(lambda x, y: of_both(ops.power)(x, y)[0])(x, y)[1]

    arrays = [np.array([2.0, 4.0, 2.0], "float32"), np.float32([0, 0, 1])]
    check(by_exponent, arrays, np.array([0.5, 0.25, 1 + math.log(2)]))


def test_variance_beside_nan():
    x = np.array([NAN, 1.0, 3.0], "float32")
    check(gradient_of(ops.nanvar), [x], np.array([0, -1, 1]))


def test_the_derivative_of_elu_along_a_tangent_is_finite():
    x = np.array([INF, 1.0, -INF], "float32")

    def tangent(x):
        return ops.jvp(ops.elu, [x], [ops.ones_like(x)])[1]

    check(tangent, [x], np.array([1, 1, 0]))
