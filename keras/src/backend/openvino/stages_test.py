import concurrent.futures

import numpy as np
import pytest

import keras
from keras.src import ops
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import made_stages
from keras.src.backend.openvino.testing import normal

X = np.array([[1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8, 9, 10]], "float32")
OPEN = [(None, None), ()]


@pytest.fixture
def made(monkeypatch):
    return made_stages(monkeypatch)


def loop(step, x, n, *values, condition=lambda *_: True, count=None):
    """Takes steps from 0 to `n`, with a cache that has a row for each.

    Args:
        step: from `(i, seen, *values)` to new values, where `seen` is the sum
            of each row of the batch of the steps so far.
        x: a tensor (batch, positions), of which the rows are filled.
        n: how many steps there are, one for each position at most.
        *values: those before the first step.
        condition: a function of them, whether there is a next step.
        count: what is given as `maximum_iterations`.
    """
    shape = [*ops.shape(x), 1]
    cache = ops.stack([ops.zeros(shape), ops.zeros(shape)], axis=1)

    def proceed(i, cache, *values):
        return ops.logical_and(i < n, condition(*values))

    def body(i, cache, *values):
        row = ops.take(x, [i], axis=1)[..., None]
        first = ops.slice_update(cache[:, 0], [0, i, 0], row)
        second = ops.slice_update(cache[:, 1], [0, i, 0], row * 2)
        seen = ops.sum(first, axis=(1, 2))[:, None]
        seen = seen + ops.sum(second, axis=(1, 2))[:, None]
        cache = ops.stack([first, second], axis=1)
        return i + 1, cache, *step(i, seen, *values)

    start = ops.zeros_like(n)
    final = ops.while_loop(
        proceed, body, (start, cache, *values), maximum_iterations=count
    )
    return final[0], *final[2:]


def staged(function):
    return jit(function, OPEN, is_causal=True)


def check(function, *arrays):
    """Compares a function in stages with what it gives eagerly."""
    expected = keras.tree.flatten(function(*map(ops.convert_to_tensor, arrays)))
    results = keras.tree.flatten(staged(function)(*arrays))
    for result, x in zip(results, expected, strict=True):
        assert result.dtype == x.dtype
        np.testing.assert_allclose(result, x, rtol=1e-6, atol=1e-4)


def powers(x, n):
    """Uses tensors from before the loop in it, and behind it."""
    offset = ops.sum(x)
    i, y = loop(lambda i, seen, y: [y * 2.0 + offset + seen], x, n, x)
    return {"y": y - offset, "i": i, "x": x, "offset": offset}


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (5, 7)])
def test_a_loop_outside_of_the_model(made, count, shape):
    check(powers, normal(*shape), np.array(count, "int32"))
    assert len(made) == 1


def test_one_variant_is_for_all_shapes(made):
    function = staged(powers)
    for size in (1, 2, 5):
        x, n = normal(size, size + 1), np.array(size, "int32")
        expected = powers(ops.convert_to_tensor(x), ops.convert_to_tensor(n))
        np.testing.assert_allclose(function(x, n)["y"], expected["y"], 1e-5)
    assert len(made) == 1


@pytest.mark.parametrize("count", [0, 2, 7])
def test_at_most_so_many_steps(made, count):
    check(
        lambda x, n: loop(
            lambda i, seen, y: [y + seen], x, ops.shape(x)[1], x, count=n
        ),
        X,
        np.array(count, "int32"),
    )
    assert made


def test_a_loop_ends_by_its_condition(made):
    check(
        lambda x, n: loop(
            lambda i, seen, y: [y + seen],
            x,
            n,
            x,
            condition=lambda y: ops.max(y) < 60.0,
        ),
        X,
        np.array(7, "int32"),
    )
    assert made


def test_a_function_without_a_loop(made):
    check(lambda x, n: x * 2.0, X, np.array(1, "int32"))
    assert not made


def test_a_loop_without_caches_stays_in_the_model(made):
    check(
        lambda x, n: ops.fori_loop(0, n, lambda i, y: y * 2.0, x),
        X,
        np.array(3, "int32"),
    )
    assert not made


def test_a_second_loop_and_one_inside(made):
    def function(x, n):
        def step(i, seen, y):
            return [ops.fori_loop(0, n, lambda _, z: z + seen, y)]

        i, y = loop(step, x, n, x)
        return ops.fori_loop(0, i, lambda _, z: z * 2.0, y)

    check(function, X, np.array(3, "int32"))
    assert made


def test_values_that_stay_and_that_change_places(made):
    check(
        lambda x, n: loop(
            lambda i, seen, a, b, c: (b, a, c), x, n, x, x * 2.0, x * 3.0
        ),
        X,
        np.array(3, "int32"),
    )
    assert made


def test_variables_that_a_loop_assigns(made):
    total = Variable(np.zeros((), "float32"))

    def function(x, n):
        def step(i, seen, y):
            total.assign(total + ops.sum(y))
            return [y + 1.0]

        return loop(step, x, n, x)[1] + total

    compiled = staged(function)
    result = compiled(X, np.array(2, "int32"))
    first = X.sum() + (X + 1).sum()
    np.testing.assert_allclose(result, X + 2 + first)
    np.testing.assert_allclose(total.value, first)
    compiled(X, np.array(1, "int32"))
    np.testing.assert_allclose(total.value, first + X.sum())
    assert len(made) == 1


def test_random_draws_differ_from_step_to_step(made):
    seed = keras.random.SeedGenerator(3)

    def function(x, n):
        def step(i, seen, y):
            return [y + keras.random.normal((7,), seed=seed)]

        return loop(step, x, n, x)[1]

    result = staged(function)(X, np.array(4, "int32"))
    other = keras.random.SeedGenerator(3)
    draws = [keras.random.normal((7,), seed=other) for _ in range(4)]
    expected = X + np.sum([np.asarray(draw) for draw in draws], axis=0)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert made


def test_threads_have_their_own_loops():
    function = staged(powers)

    def run(i):
        x = np.full((2, 9), i, "float32")
        return np.asarray(function(x, np.array(i, "int32"))["y"])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(8), timeout=100))
    for i, result in enumerate(results):
        x = np.full((2, 9), i, "float32")
        expected = powers(ops.convert_to_tensor(x), ops.convert_to_tensor(i))
        np.testing.assert_allclose(result, expected["y"], rtol=1e-6)


def test_other_dtypes_than_float32(made):
    check(
        lambda x, n: loop(
            lambda i, seen, y, z: (y * 2, ops.logical_not(z)),
            x,
            n,
            ops.cast(x, "int64"),
            x > 2,
        ),
        X,
        np.array(3, "int64"),
    )
    assert made


def test_steps_beyond_the_caches():
    """The last position is updated then, as `slice_update` does."""
    check(powers, X, np.array(9, "int32"))
