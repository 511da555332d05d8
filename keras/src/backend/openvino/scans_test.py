"""Derivatives of scans: loops in models, beside those that are laid out."""

import numpy as np
import pytest

from keras.src import ops
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.gradient import GradientTape
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import gradient_of
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import trace


def scanned(x, reverse=False):
    """Of what is handed on, sliced, stacked, and comes from outside."""
    weight = ops.sum(x, axis=0) / 8

    def step(carry, row):
        total, count = carry
        total = ops.tanh(total * weight + row)
        return (total, count + 1), (total * row, ops.cast(count, "float32"))

    initial = x[0], convert_to_tensor(0)
    (total, _), (ys, counts) = ops.scan(step, initial, x, reverse=reverse)
    factors = ops.expand_dims(counts + 1, -1)
    return ops.sum(total * total) + ops.sum(ops.sin(ys) * factors)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dynamic", [False, (0,), (0, 1)])
def test_a_loop_has_the_derivative_of_its_steps(reverse, dynamic):
    gradient = gradient_of(lambda x: scanned(x, reverse))
    x = normal(7, 3)
    assert node_types(trace(gradient, x, dynamic=dynamic)).count("Loop") == 2
    # Eagerly the steps are laid out.
    eager, compiled = both_ways(gradient, x, dynamic=dynamic)
    np.testing.assert_allclose(compiled[0], eager[0], rtol=1e-4, atol=1e-5)


def test_gradients_of_what_is_handed_on_and_stacked():
    def scanned(x):
        def step(carry, row):
            return ops.where(row > 0, carry * 2 + row, carry * 3), carry

        return ops.sum(ops.scan(step, ops.ones((3,)), x)[0])

    eager, compiled = both_ways(gradient_of(scanned), normal(5, 3))
    np.testing.assert_allclose(compiled[0], eager[0], rtol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_one_model_for_all_lengths(dynamic):
    gradient = gradient_of(scanned)
    compiled = jit(gradient, [(None, 3)])
    for length in (1, 2, 9, 4):
        x = normal(length, 3)
        np.testing.assert_allclose(
            compiled(x), gradient(convert_to_tensor(x)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("dynamic", [False, (0,), (0, 1), (0, 1, 2)])
def test_of_matrices_from_outside(dynamic):
    """Their gradients are one product, unless something else takes them."""
    kernel = normal(3, 3, seed=1) / 4

    def function(x):
        # (steps, rows, 3)
        weight, other = kernel + ops.sum(x) / 100, kernel * ops.sum(x)

        def step(carry, rows):
            carry = ops.tanh(carry @ weight + rows @ weight)
            return carry, ops.sin(rows @ other) @ ops.transpose(other)

        carry, ys = ops.scan(step, x[0], x)
        return ops.sum(carry * carry) + ops.sum(ys * ys)

    gradient = gradient_of(function)
    x = normal(6, 4, 3)
    eager, compiled = both_ways(gradient, x, dynamic=dynamic)
    np.testing.assert_allclose(compiled[0], eager[0], rtol=1e-4, atol=1e-4)


def test_variables_that_steps_assign():
    weight = Variable(normal(3, seed=1))
    state = Variable(np.ones(3, "float32"), trainable=False)

    def function(x):
        def step(carry, row):
            state.assign(state * weight + row)
            return carry + ops.sum(state * state), state.value

        with GradientTape() as tape:
            tape.watch(x)
            carry, ys = ops.scan(step, convert_to_tensor(0.0), x)
            target = carry + ops.sum(ys * ys) + ops.sum(state * 3)
        return target, *tape.gradient(target, [x, weight])

    x = convert_to_tensor(normal(5, 3) / 4)
    results = []
    for call in (function, jit(function)):
        state.assign(np.ones(3))
        results.append([*call(x), np.array(state)])
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_derivatives_of_derivatives():
    second = gradient_of(gradient_of(scanned))
    eager, compiled = both_ways(second, normal(4, 3), dynamic=False)
    np.testing.assert_allclose(compiled[0], eager[0], rtol=1e-3, atol=1e-4)

    def in_itself(x):
        with GradientTape() as tape:
            tape.watch(x)
            with GradientTape(persistent=True) as inner:
                inner.watch(x)
                y = scanned(x)
            gradient = inner.gradient(y, x)
        return tape.gradient(gradient, x)

    eager, compiled = both_ways(in_itself, normal(4, 3), dynamic=False)
    np.testing.assert_allclose(compiled[0], eager[0], rtol=1e-3, atol=1e-4)


def test_a_random_step_is_the_same_backwards():
    from keras.src import layers
    from keras.src import models

    x, y = normal(4, 6, 3), normal(4, 2)
    results = []
    for run_eagerly in (False, True):
        model = models.Sequential(
            [
                layers.Input((6, 3)),
                layers.GRU(4, dropout=0.4, recurrent_dropout=0.4, seed=1),
                layers.Dense(2),
            ]
        )
        for i, w in enumerate(model.trainable_weights):
            w.assign(normal(*w.shape, seed=i))
        model.compile("sgd", "mse", run_eagerly=run_eagerly)
        losses = [model.train_on_batch(x, y) for _ in range(3)]
        results.append([*losses, *model.get_weights()])
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
