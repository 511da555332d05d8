"""The tape, and rules in the cases that the naive formula gets wrong.

`integration_tests/differential` compares the derivatives of every op with
those of JAX.
"""

import threading

import numpy as np
import pytest

from keras.src import layers
from keras.src import models
from keras.src import ops
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.gradient import GradientTape
from keras.src.backend.openvino.gradient import jvp
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.registry import OPERATIONS
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import gradient_of
from keras.src.backend.openvino.testing import normal
from keras.src.random import random


def check(function, x, expected, **tolerance):
    for (result,) in both_ways(gradient_of(function), x):
        np.testing.assert_allclose(result, expected, **tolerance)


def test_central_differences():
    def function(x):
        y = ops.tanh(ops.matmul(x, ops.transpose(x)))
        return ops.logsumexp(y, axis=0) * ops.sqrt(ops.sum(x * x, axis=1) + 1)

    x = normal(3, 4, dtype="float64")
    gradient = np.asarray(gradient_of(function)(convert_to_tensor(x)))
    step = 1e-6
    for place in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[place] += step
        below[place] -= step
        total = np.sum(function(above)) - np.sum(function(below))
        np.testing.assert_allclose(
            gradient[place], total / (2 * step), rtol=1e-6
        )


def test_shapes_that_were_broadcast():
    x, y = normal(3, 1), normal(2, 1, 4, seed=1)

    def gradients(x, y):
        with GradientTape() as tape:
            tape.watch([x, y])
            product = ops.add(x, 1) * y
        return tape.gradient(product, [x, y])

    wanted = (
        np.broadcast_to(y, (2, 3, 4)).sum(axis=(0, 2), keepdims=False)[:, None],
        np.broadcast_to(x + 1, (2, 3, 4)).sum(axis=1, keepdims=True),
    )
    for results in both_ways(gradients, x, y):
        for result, expected in zip(results, wanted):
            np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_what_is_used_twice_and_what_is_not_used():
    x, y = convert_to_tensor([2.0, 3.0]), convert_to_tensor([1.0])
    with GradientTape() as tape:
        tape.watch([x, y])
        z = x * x * x
    of_x, of_y = tape.gradient(z, [x, y])
    np.testing.assert_allclose(of_x, [12.0, 27.0])
    assert of_y is None


def test_nested_sources_and_output_gradients():
    sources = {"a": convert_to_tensor([1.0, 2.0]), "b": convert_to_tensor(3.0)}
    with GradientTape() as tape:
        tape.watch(sources)
        targets = [sources["a"] * sources["b"], ops.square(sources["b"])]
    weights = [np.array([1.0, 10.0], "float32"), np.array(100.0, "float32")]
    found = tape.gradient(targets, sources, weights)
    np.testing.assert_allclose(found["a"], [3.0, 30.0])
    np.testing.assert_allclose(found["b"], 1 + 20 + 600.0)


def test_derivatives_of_derivatives():
    def third(x):
        return gradient_of(gradient_of(gradient_of(lambda x: x**4)))(x)

    x = normal(5)
    for (result,) in both_ways(third, x):
        np.testing.assert_allclose(result, 24 * x, rtol=1e-4)


@pytest.mark.parametrize(
    "function, x, expected",
    [
        (lambda x: ops.where(x > 0, ops.log(x), 0.0), [-1.0, 2.0], [0, 0.5]),
        (lambda x: x**0, [0.0, 2.0], [0, 0]),
        (lambda x: ops.abs(x), [0.0, -2.0], [1, -1]),
        (lambda x: ops.max(x), [1.0, 3.0, 3.0], [0, 0.5, 0.5]),
        (lambda x: ops.prod(x), [0.0, 2.0, 3.0], [6, 0, 0]),
        (lambda x: ops.prod(x), [0.0, 0.0, 3.0], [0, 0, 0]),
        (lambda x: ops.cumprod(x), [0.0, 2.0], [3, 0]),
        (lambda x: ops.round(x) + ops.sign(x), [0.4, -2.0], [0, 0]),
    ],
)
def test_where_the_naive_formula_fails(function, x, expected):
    x = np.array(x, "float32")
    # What has no derivative has no gradient either.
    gradient = gradient_of(lambda x: ops.sum(function(x)) + ops.sum(0 * x))
    for (result,) in both_ways(gradient, x):
        np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size, kernel", [(6, 2), (7, 2), (8, 3)])
def test_pooling_gives_to_the_first_of_the_greatest(size, kernel, strides):
    # Of few values, so that many are equal.
    x = np.random.default_rng(0).integers(0, 3, (2, size, size + 1, 3))
    x = x.astype("float32")
    count = [(n - kernel) // strides + 1 for n in x.shape[1:3]]
    weights = normal(2, *count, 3)
    expected = np.zeros_like(x)
    for b, i, j, c in np.ndindex(weights.shape):
        rows, columns = i * strides, j * strides
        window = x[b, rows : rows + kernel, columns : columns + kernel, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        place = b, rows + row, columns + column, c
        expected[place] += weights[b, i, j, c]

    def function(x):
        pooled = ops.max_pool(x, kernel, strides, data_format="channels_last")
        return pooled * weights

    for dynamic in (False, (0,)):
        for (result,) in both_ways(gradient_of(function), x, dynamic=dynamic):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_pooling_of_many_that_are_equal():
    x = ops.ones((1, 40, 60, 1), "bfloat16")
    gradient = gradient_of(
        lambda x: ops.max_pool(x, 20, data_format="channels_last")
    )
    expected = np.zeros((1, 40, 60, 1))
    expected[:, ::20, ::20] = 1
    for result in gradient(x), jit(gradient)(x):
        np.testing.assert_array_equal(ops.cast(result, "float32"), expected)


@pytest.mark.parametrize(
    "kernel, groups, options",
    [
        ((3, 3, 2, 4), 1, {"padding": "same"}),
        ((3, 3, 2, 4), 1, {"padding": "same", "strides": 2}),
        ((2, 3, 9, 4), 1, {"strides": (2, 1)}),
        ((3, 2, 9, 4), 1, {"padding": "same", "dilation_rate": 2}),
        ((1, 1, 9, 4), 1, {}),
        ((3, 3, 2, 6), 3, {"padding": "same"}),
        ((3, 3, 1, 6), 6, {"strides": 2}),
        ((3, 3, 1, 12), 6, {"padding": "same"}),
    ],
)
def test_of_convolutions(kernel, groups, options):
    """A convolution is linear in its input and in its kernel."""
    x, other_x = (normal(2, 7, 8, kernel[2] * groups, seed=i) for i in (1, 2))
    w, other_w = normal(*kernel, seed=3), normal(*kernel, seed=4)

    def function(x, w):
        return ops.conv(x, w, data_format="channels_last", **options)

    weights = normal(*function(x, w).shape, seed=5)

    def gradients(x, w):
        with GradientTape() as tape:
            tape.watch([x, w])
            y = function(x, w) * weights
        return tape.gradient(y, [x, w])

    expected = [
        np.sum(function(other_x, w) * weights),
        np.sum(function(x, other_w) * weights),
    ]
    for of_x, of_w in both_ways(gradients, x, w, dynamic=False):
        found = [np.sum(of_x * other_x), np.sum(of_w * other_w)]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel, strides", [(2, 2), (3, 2), (2, 3), (3, 1)])
def test_of_mean_pooling(kernel, strides, padding):
    x, other = normal(2, 7, 8, 3, seed=1), normal(2, 7, 8, 3, seed=2)

    def function(x):
        return ops.average_pool(
            x, kernel, strides, padding, data_format="channels_last"
        )

    weights = normal(*function(x).shape, seed=3)
    expected = np.sum(function(other) * weights)
    gradient = gradient_of(lambda x: function(x) * weights)
    for (result,) in both_ways(gradient, x, dynamic=(0,)):
        np.testing.assert_allclose(np.sum(result * other), expected, rtol=1e-4)


def test_means_of_more_numbers_than_float16_counts():
    gradient = gradient_of(lambda x: ops.mean(x * x) * 1000)
    x = np.ones(100_000, "float16")
    for (result,) in both_ways(gradient, x):
        np.testing.assert_allclose(result, 0.02, rtol=1e-2)


def test_divide_no_nan():
    x, y = np.array([1.0, 2.0], "float32"), np.array([0.0, 2.0], "float32")
    check(lambda x: ops.divide_no_nan(x, y), x, [0, 0.5])
    check(lambda y: ops.divide_no_nan(x, y), y, [0, -0.5])


def test_stopped_gradients():
    check(lambda x: ops.stop_gradient(x) * x, normal(3), normal(3))


def test_own_gradients():
    @ops.custom_gradient
    def clipped(x):
        return ops.exp(x), lambda gradient: ops.clip(gradient, -1.0, 1.0)

    check(lambda x: clipped(x) * 5, normal(3), np.ones(3))


def test_integers_have_no_gradient():
    x = convert_to_tensor([1, 2])
    with pytest.raises(TypeError, match="floats"), GradientTape() as tape:
        tape.watch(x)
    with GradientTape() as tape:
        y = convert_to_tensor([1.5, -2.5])
        tape.watch(y)
        z = ops.cast(ops.cast(y, "int32"), "float32") * y
    np.testing.assert_allclose(tape.gradient(z, y), [1.0, -2.0])


def test_a_tape_is_used_once():
    x = convert_to_tensor(2.0)
    with GradientTape() as tape:
        tape.watch(x)
        y = x * x
    tape.gradient(y, x)
    with pytest.raises(RuntimeError, match="persistent"):
        tape.gradient(y, x)
    with GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    assert [float(tape.gradient(y, x)) for _ in range(2)] == [4.0, 4.0]


def test_a_loop_of_unknown_length_has_no_derivative():
    x = convert_to_tensor(normal(3, 3))

    def loop(x):
        return ops.while_loop(
            lambda y: ops.sum(y) < 100, lambda y: y * 2, [ops.abs(x) + 1]
        )[0]

    gradient_of(loop)(x)
    with pytest.raises(NotImplementedError, match="loop"):
        jit(gradient_of(loop))(x)


def test_threads_do_not_see_each_other():
    results = {}

    def run(i):
        x = convert_to_tensor(float(i))
        for _ in range(50):
            results[i] = float(gradient_of(lambda x: x * x)(x))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: 2.0 * i for i in range(8)}


def logarithm_or_itself(x):
    return ops.cond(x > 0, lambda: ops.log(x), lambda: x * x)


def nested(x):
    y = x * x * x

    def below():
        return ops.cond(x < -2, lambda: y * x, lambda: ops.log(x + 2) * y)

    return ops.cond(x > 0, lambda: ops.sqrt(y), below)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    "function, x, expected",
    [
        (logarithm_or_itself, -3.0, (-6, 2)),
        (logarithm_or_itself, 0.0, (0, 2)),
        (logarithm_or_itself, 2.0, (1 / 2, -1 / 4)),
        (nested, -3.0, (-108, 108)),
        (nested, -1.0, (-1, 7)),
        (nested, 4.0, (3, 3 / 8)),
    ],
)
def test_a_branch_that_is_not_taken_has_no_part(function, x, expected, order):
    # There the logarithm or the root has a derivative of NaN.
    for _ in range(order):
        function = gradient_of(function)
    for (result,) in both_ways(function, np.float32(x)):
        np.testing.assert_allclose(result, expected[order - 1], rtol=1e-5)


def test_jvp_of_a_branch_that_is_not_taken():
    def function(x):
        return jvp(logarithm_or_itself, [x], [ops.ones_like(x)])

    for result, tangent in both_ways(function, np.float32(-3)):
        assert (result, tangent) == (9, -6)


def test_branches_assign_variables_under_a_tape():
    variable = Variable([1.0, 4.0])

    def function(x):
        def then():
            variable.assign(ops.log(x))
            return ops.sum(variable * x)

        return ops.cond(x[0] > 0, then, lambda: ops.sum(variable * x * x))

    gradient = jit(gradient_of(function))
    result = gradient(convert_to_tensor([-2.0, 3.0]))
    np.testing.assert_allclose(result, [-4.0, 24.0])
    result = gradient(convert_to_tensor([2.0, 3.0]))
    np.testing.assert_allclose(result, 1 + np.log([2.0, 3.0]), rtol=1e-6)
    np.testing.assert_allclose(variable, np.log([2.0, 3.0]), rtol=1e-6)


def test_branches_and_loops():
    def function(x):
        y = ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x * x)
        carry, ys = ops.scan(lambda c, r: (c + r, c * r), y[0], y)
        return carry * ops.sum(ys) + ops.fori_loop(0, 3, lambda i, v: v * y, y)

    x = np.abs(normal(3, 3))
    eager, compiled = both_ways(gradient_of(function), x, dynamic=False)
    np.testing.assert_allclose(compiled[0], eager[0], rtol=1e-4)
    step = 1e-3
    for place in ((0, 0), (2, 1)):
        above, below = x.astype("float64"), x.astype("float64")
        above[place] += step
        below[place] -= step
        total = np.sum(function(convert_to_tensor(above)))
        total -= np.sum(function(convert_to_tensor(below)))
        np.testing.assert_allclose(
            eager[0][place], total / (2 * step), rtol=1e-3
        )


def test_compiled_functions_have_derivatives():
    compiled = jit(lambda x: ops.sin(x) * 2)
    x = convert_to_tensor(normal(4))
    np.testing.assert_allclose(
        gradient_of(compiled)(x), 2 * np.cos(x), rtol=1e-6
    )


# No gradient gets to these: their results are integers or booleans ...
DISCRETE = """
BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor
Equal GreatestCommonDivisor IsNaN Less LessEqual LogicalAnd LogicalNot
LogicalOr LogicalXor MatrixRank NonZero NotEqual ReduceLogicalAnd
ReduceLogicalOr SearchSorted ShapeOf UnsignedRemainder
"""
# ... or a tape is told of others, of which they are made, or which they make,
# or their floats are constants.
UNSEEN = """
Complex Conjugate DFT IDFT Imaginary OneHot Real
GRUSequence LSTMSequence RNNSequence
"""


def test_every_node_type_that_a_gradient_gets_to_has_a_rule_or_a_reason():
    lacking = {name for name, x in OPERATIONS.items() if not x.gradient}
    # Other tests register some of their own.
    lacking = {name for name in lacking if not name.startswith("Test")}
    assert lacking == {*DISCRETE.split(), *UNSEEN.split()}


@ops.custom_gradient
def as_complex(x):
    return ops.view_as_complex(x), lambda gradient: gradient


@pytest.mark.parametrize(
    "function, reason",
    [
        (lambda x: ops.arange(x[0, 0], 3), "number of its results"),
        (lambda x: ops.eig(x), "Eig has no derivative: .* complex"),
        (lambda x: ops.nextafter(x, 1.0), "NextAfter .* bits"),
        (lambda x: ops.view(x, "float16"), "View .* bits"),
        (
            lambda x: ops.ctc_decode(x[None], [2], strategy="beam_search"),
            "paths",
        ),
        (as_complex, "`custom_gradient` is for"),
        (lambda x: random.gamma((2,), x[0], seed=1), "'gamma'"),
        (lambda x: random.beta((2,), x[0], 1.0, seed=1), "'beta'"),
    ],
)
def test_that_there_is_no_derivative_is_said_and_why(function, reason):
    with pytest.raises(NotImplementedError, match=reason):
        gradient_of(function)(convert_to_tensor(np.eye(2, dtype="float32")))


def test_every_reason_is_said_above():
    reasons = {n for n, x in OPERATIONS.items() if isinstance(x.gradient, str)}
    assert reasons == {"CTCBeamSearch", "Eig", "NextAfter", "Range", "View"}


def test_jvp():
    x, tangent = normal(2, 3), normal(2, 3, seed=1)

    def function(x, tangent):
        return jvp(lambda x: (ops.sin(x), ops.sum(x * x)), [x], [tangent])

    wanted = (
        np.sin(x),
        np.sum(x * x),
        np.cos(x) * tangent,
        np.sum(2 * x * tangent),
    )
    for results in both_ways(function, x, tangent):
        for result, expected in zip(results, wanted, strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_jvp_of_one_tensor_for_two_arguments():
    x = convert_to_tensor([2.0, 3.0])
    ones, zeros = ops.ones_like(x), ops.zeros_like(x)
    _, tangent = jvp(lambda a, b: a * b * b, [x, x], [ones, zeros])
    np.testing.assert_allclose(tangent, [4.0, 9.0])
    (result,), (tangent,) = jvp(lambda a: [a], [x], [ones])
    np.testing.assert_allclose([result, tangent], [[2.0, 3.0], [1.0, 1.0]])


def _along(function, tangent=ops.ones_like):
    """The derivative of a function of one tensor along `tangent` of it."""
    return lambda x: jvp(function, [x], [tangent(x)])[1]


@pytest.mark.parametrize(
    "function, wanted",
    [
        (_along(_along(lambda x: x**3)), lambda x: 6 * x),
        # The direction depends on the argument, too.
        (
            _along(_along(ops.sin, lambda x: x)),
            lambda x: np.cos(x) - x * np.sin(x),
        ),
        (gradient_of(_along(ops.sin)), lambda x: -np.sin(x)),
        (_along(gradient_of(ops.sin)), lambda x: -np.sin(x)),
        # One inside another, of which each has its own argument.
        (
            _along(lambda x: x * _along(lambda y: x * y * y)(x)),
            lambda x: 6 * x**2,
        ),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_derivatives_of_jvp(function, wanted, dynamic):
    x = normal(3, dtype="float64")
    for (result,) in both_ways(function, x, dynamic=dynamic):
        np.testing.assert_allclose(result, wanted(x), rtol=1e-5, atol=1e-6)


def test_derivatives_of_jvp_in_predict():
    class Second(layers.Layer):
        def call(self, x):
            return _along(_along(lambda x: x**3))(x)

    inputs = layers.Input((None,))
    model = models.Model(inputs, Second()(inputs))
    for x in (normal(2, 3), normal(4, 5)):
        result = model.predict(x, verbose=0)
        np.testing.assert_allclose(result, 6 * x, rtol=1e-6)


def test_jvp_of_integers_is_zero():
    x = convert_to_tensor([1.5, -0.5])
    result, tangent = jvp(lambda x: ops.argmax(x), [x], [x])
    assert int(result) == 0 and int(tangent) == 0


@pytest.mark.parametrize(
    "tangent", [np.ones(3, "float32"), np.ones(2, "float64")]
)
def test_jvp_takes_tangents_like_the_primals(tangent):
    x = convert_to_tensor([1.0, 2.0])
    with pytest.raises(TypeError, match="tangent"):
        jvp(ops.sin, [x], [tangent])


@pytest.mark.parametrize("shape, axis", [((3, 0), 1), ((0, 3), 1), ((3, 0), 0)])
def test_products_of_nothing(shape, axis):
    x = convert_to_tensor(np.ones(shape, "float32"))
    value, tangent = jvp(lambda x: ops.prod(x, axis=axis), [x], [x])
    np.testing.assert_array_equal(value, np.prod(x, axis=axis))
    np.testing.assert_array_equal(tangent, 0 * np.prod(x, axis=axis))


@pytest.mark.parametrize("zeros", [(), (0,), (1,), (0, 1)])
def test_products_of_scattered_zeros(zeros):
    # Of what a product depends on linearly, a difference is the derivative.
    x, updates = np.array([2.0, 3.0, 4.0]), np.array([5.0, 7.0, 0.5, 1.5])
    for i in zeros:
        updates[i] = 0
    indices = np.array([[0], [0], [1], [0]], "int32")

    def product(x, updates):
        result = ops.scatter_update(x, indices, updates, "mul")
        return ops.sum(result * np.array([1.0, 10.0, 100.0]))

    operands = list(map(ops.convert_to_tensor, (x, updates)))
    with GradientTape() as tape:
        tape.watch(operands)
        total = product(*operands)
    for i, gradient in enumerate(tape.gradient(total, operands)):
        expected = []
        for unit in np.eye(len((x, updates)[i])):
            moved = [x, updates]
            moved[i] = moved[i] + unit
            expected.append(float(product(*moved)) - float(total))
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


def test_the_value_that_pads_beside_large_numbers():
    value = ops.convert_to_tensor(0.0)
    weights = np.array([1.0, 1.0, 1e8, np.inf, 1.0], "float32")
    with GradientTape() as tape:
        tape.watch(value)
        padded = ops.pad(
            np.ones(2, "float32"), ((2, 1),), constant_values=value
        )
    assert float(tape.gradient(padded, value, weights)) == 3


def test_own_gradients_of_keywords_and_variables():
    @ops.custom_gradient
    def twice(x):
        return 2 * x, lambda upstream: 10 * upstream

    x = ops.convert_to_tensor([1.0, 2.0])
    variable = Variable([1.0, 2.0])
    with GradientTape(persistent=True) as tape:
        tape.watch([x, variable])
        results = twice(x=x), twice(variable)
    for source, result in zip((x, variable), results):
        gradient = tape.gradient(result, source)
        np.testing.assert_array_equal(gradient, [10.0, 10.0])


def test_gradients_while_the_tape_is_open():
    x = ops.convert_to_tensor(3.0)
    with GradientTape() as tape:
        tape.watch(x)
        gradient = tape.gradient(x * x, x)
        x * gradient
    assert float(gradient) == 6


@pytest.mark.parametrize("compile", [lambda f: f, jit])
def test_a_value_that_is_assigned_is_a_source_of_its_own(compile):
    """As in TensorFlow: what it was made of has no part in it."""
    variable = Variable(3.0)

    def function(x):
        with GradientTape() as tape:
            variable.assign(variable * variable * x)
            y = variable * variable
        return tape.gradient(y, variable)

    gradient = compile(function)(convert_to_tensor(2.0))
    assert float(gradient) == 2 * 18 == 2 * float(variable)
