import operator

import numpy as np
import pytest

import keras
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways

UNARY = ("abs", "invert", "neg", "pos")
BINARY = ("add", "and_", "floordiv", "lshift", "mod", "mul", "or_", "pow")
BINARY += ("rshift", "sub", "xor", "eq", "ge", "gt", "le", "lt", "ne")
X = np.array([[7, -3, 2], [0, 1, -8]], "int32")
Y = np.array([2, 5, 3], "int32")


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    function = getattr(operator, name)
    for (result,) in both_ways(function, X):
        np.testing.assert_array_equal(result, function(X))


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    function = getattr(operator, name)
    x = np.abs(X) if name == "pow" else X
    for operands in ((x, Y), (Y, x[0] % 5)):
        for (result,) in both_ways(function, *operands):
            np.testing.assert_array_equal(result, function(*operands))
    for (result,) in both_ways(lambda y: function(y, 3), x):
        np.testing.assert_array_equal(result, function(x, 3))


@pytest.mark.parametrize("name", BINARY)
def test_the_other_operand_is_first(name):
    function = getattr(operator, name)
    y = Y.astype("int32")
    for other in (3, np.array([9, 4, 1], "int32")):
        for (result,) in both_ways(lambda y: function(other, y), y):
            np.testing.assert_array_equal(result, function(other, y))


def test_products_and_quotients():
    x = np.array([[1.5, -2.0], [0.25, 8.0]], "float32")
    y = np.array([[2.0, 3.0], [-4.0, 0.5]], "float32")
    for function in (operator.matmul, operator.truediv):
        for (result,) in both_ways(function, x, y):
            np.testing.assert_allclose(result, function(x, y))
    tensor = convert_to_tensor(y)
    np.testing.assert_allclose(x @ tensor, x @ y)
    np.testing.assert_allclose(3 / tensor, 3 / y)


@pytest.mark.parametrize("swapped", [False, True])
def test_quotient_and_remainder(swapped):
    def both(x, y):
        return divmod(y, x) if swapped else divmod(x, y)

    x = np.array([7.5, -7.5, 2.0], "float32")
    y = np.array([2.0, 2.0, -3.0], "float32")
    for results in both_ways(both, x, y):
        np.testing.assert_array_equal(results, both(x, y))
    quotient, remainder = divmod(7, convert_to_tensor(Y))
    np.testing.assert_array_equal((quotient, remainder), divmod(7, Y))


@pytest.mark.parametrize("decimals", [None, 0, 2])
def test_rounding(decimals):
    x = np.array([1.005, 2.5, -3.456], "float32")
    for (result,) in both_ways(lambda x: round(x, decimals), x):
        expected = np.round(x, decimals or 0)
        np.testing.assert_allclose(result, expected, rtol=1e-6)


class Other:
    """What has operators, and is no number."""

    def __radd__(self, other):
        return "sum"

    def __rmatmul__(self, other):
        return "product"

    def __gt__(self, other):
        return "greater"

    def __eq__(self, other):
        return "equal"


def test_the_operators_of_another_class():
    x = convert_to_tensor(X)
    assert x + Other() == "sum"
    assert x @ Other() == "product"
    assert (x < Other()) == "greater"
    assert (x == Other()) == "equal"


def test_the_operators_of_symbolic_inputs():
    x = np.array([1.5, -2.0], "float32")
    inputs = keras.Input((2,))
    outputs = convert_to_tensor(x) - inputs * convert_to_tensor(x)
    model = keras.Model(inputs, outputs)
    given = np.array([[4, 5], [6, 7]], "float32")
    result = model.predict(given, verbose=0)
    np.testing.assert_allclose(result, x - given * x)


@pytest.mark.parametrize("other", ["a", None, {}, set(), b"a", object()])
def test_what_is_no_operand(other):
    x = convert_to_tensor(X)
    for function in (operator.add, operator.matmul, operator.lt):
        with pytest.raises(TypeError, match="not supported|unsupported"):
            function(x, other)
    assert (x == other) is False
    assert (x != other) is True
