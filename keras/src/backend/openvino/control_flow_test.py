import gc
import itertools
import tracemalloc

import numpy as np
import pytest

import keras
from keras.src import ops
from keras.src.backend.openvino import tensor
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled

X = np.array([1, 2, 3], "float32")


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_while_loop_tests_first_and_uses_tensors_from_outside(steps):
    def f(x, n):
        return ops.while_loop(
            lambda i, y: i < n, lambda i, y: (i + 1, y * 2.0 + x), (0, x)
        )

    y = X
    for _ in range(steps):
        y = y * 2 + X
    check(f, [X, np.array(steps, "int32")], [steps, y])


@pytest.mark.parametrize("dynamic", [False, True])
def test_loops_that_take_no_step(dynamic):
    """Whether that is known in the trace, to OpenVINO, or as they run."""
    n = np.array(0, "int32")

    def doubled(i, y):
        return i + 1, y * 2

    conditions = [
        lambda x, n: lambda i, y: i < 0,
        lambda x, n: lambda i, y: ops.zeros_like(x)[0] > 1,
        lambda x, n: lambda i, y: ops.shape(x)[0] < i,
        lambda x, n: lambda i, y: i < n,
        lambda x, n: lambda i, y: ops.sum(y) < n,
    ]
    for condition in conditions:
        check(
            lambda x, n: ops.while_loop(condition(x, n), doubled, (0, x)),
            [X, n],
            [0, X],
            dynamic=dynamic,
        )
    for upper in (lambda n: 0, lambda n: -1, lambda n: n):
        check(
            lambda x, n: ops.fori_loop(0, upper(n), lambda i, y: y * 2, x) + 1,
            [X, n],
            [X + 1],
            dynamic=dynamic,
        )


def test_while_loop_with_maximum_iterations():
    def f(x, n):
        return ops.while_loop(
            lambda y: ops.sum(y) < n,
            lambda y: y + 1.0,
            [x],
            maximum_iterations=2,
        )

    check(f, [X, np.array(1000, "float32")], [X + 2])
    check(f, [X, np.array(7, "float32")], [X + 1])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_while_loop_with_maximum_iterations_that_are_a_tensor(count):
    def f(x, n):
        return ops.while_loop(
            lambda y: True, lambda y: y + 1.0, [x], maximum_iterations=n
        )

    check(f, [X, np.array(count, "int32")], [X + count])


def test_while_loop_of_a_single_tensor():
    def f(x):
        return ops.while_loop(lambda y: ops.max(y) < 10.0, lambda y: y * 2.0, x)

    check(f, [X], [X * 4])


def test_loops_nest():
    def f(x, n):
        def outer(i, y):
            _, z = ops.while_loop(
                lambda j, z: j < i, lambda j, z: (j + 1, z + x), (0, y)
            )
            return i + 1, z

        return ops.while_loop(lambda i, y: i < n, outer, (0, x))

    check(f, [X, np.array(4, "int32")], [4, X * 7])


def test_a_tensor_that_grows_in_a_loop():
    def f(x, n):
        return ops.while_loop(
            lambda i, y: i < n,
            lambda i, y: (i + 1, ops.concatenate([y, x])),
            (0, x),
        )[1]

    check(f, [X, np.array(2, "int32")], [np.tile(X, 3)])


@pytest.mark.parametrize("value, expected", [(1, X + 1), (3, X)])
def test_cond(value, expected):
    def f(x, p):
        return ops.cond(p < 2, lambda: x + 1.0, lambda: x)

    check(f, [X, np.array(value, "int32")], [expected])


def test_cond_in_a_loop():
    def f(x, n):
        def body(i, y):
            return i + 1, ops.cond(i % 2 == 0, lambda: y + x, lambda: y * 2.0)

        return ops.while_loop(lambda i, y: i < n, body, (0, x))[1]

    check(f, [X, np.array(3, "int32")], [X * 5])


def test_only_the_branch_that_is_taken_runs_where_the_value_is_known():
    def fails():
        raise AssertionError

    assert float(ops.cond(True, lambda: ops.ones(()), fails)) == 1


def test_a_branch_that_is_taken_gives_tensors():
    result = ops.cond(True, lambda: {"a": 1.0, "b": None}, lambda: None)
    assert result["a"].dtype == "float32" and result["b"] is None
    assert ops.switch(1, [lambda x: x, lambda x: 2], 0.5).dtype == "int32"


def test_cond_of_different_dtypes_is_an_error():
    with pytest.raises(TypeError, match="same dtypes"):
        run_compiled(
            lambda x, p: ops.cond(p, lambda: x, lambda: ops.cast(x, "int32")),
            X,
            np.array(True),
        )


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 5])
def test_switch(index):
    branches = [lambda x: x, lambda x: x * 10.0, lambda x: x - 1.0]
    expected = [X, X * 10, X - 1][min(max(index, 0), 2)]
    check(
        lambda x, i: ops.switch(i, branches, x),
        [X, np.array(index, "int32")],
        [expected],
    )


def test_fori_loop():
    check(
        lambda x, n: ops.fori_loop(1, n, lambda i, v: v + i, x),
        [X, np.array(5, "int32")],
        [X + 10],
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse):
    def f(x, w):
        return ops.scan(
            lambda carry, v: (carry + v * w, carry * 2.0),
            np.float32(0),
            x,
            reverse=reverse,
        )

    carry, ys = 0, []
    for v in X[::-1] if reverse else X:
        ys.append(carry * 2)
        carry = carry + v * 3
    ys = ys[::-1] if reverse else ys
    check(f, [X, np.array(3, "float32")], [carry, ys])


HALVES = np.array([0.5, 0.5, 0.5], "float32")


@pytest.mark.parametrize(
    "function, expected",
    [
        (
            lambda x: ops.scan(lambda c, v: (c + v, c * 2), 0, x),
            [1.5, [0.0, 1.0, 2.0]],
        ),
        (lambda x: ops.scan(lambda c, v: (c + 1, c), 0, x), [3, [0, 1, 2]]),
        (lambda x: ops.fori_loop(0, 3, lambda i, s: s + 0.5, 0), [1.5]),
        (lambda x: ops.fori_loop(0, 3, lambda i, s: s + x[0], 0), [1.5]),
        (lambda x: ops.fori_loop(0, 0, lambda i, s: s + x[0], 0), [0.0]),
        (lambda x: ops.fori_loop(0, 3, lambda i, s: s + 1, 0.5), [3.5]),
        (
            lambda x: ops.while_loop(
                lambda i, *_: i < 3,
                lambda i, a, b: (i + 1, a + b, a + x[0]),
                (0, 0, 0),
            ),
            [3, 1.0, 1.0],
        ),
        (
            lambda x: ops.while_loop(
                lambda i, _: i < ops.cast(x[0] * 6, "int32"),
                lambda i, s: (i + 1, s + x[0]),
                (0, 0),
            ),
            [3, 1.5],
        ),
    ],
)
def test_numbers_that_a_loop_begins_with_are_promoted(function, expected):
    wanted = [np.asarray(convert_to_tensor(y)) for y in expected]
    for results in both_ways(function, HALVES):
        for got, value in zip(results, wanted, strict=True):
            np.testing.assert_array_equal(got, value)
            assert got.dtype == value.dtype


def test_numbers_are_promoted_where_there_is_nothing_to_scan():
    carry, rows = ops.scan(lambda c, v: (c + v, c), 0, HALVES[:0])
    assert carry.dtype == rows.dtype == "float32" and rows.shape == (0,)


@pytest.mark.parametrize("dtype", ["int32", "float16", "bool"])
@pytest.mark.parametrize(
    "loop",
    [
        lambda init, x: ops.scan(lambda c, v: (c + v, v), init, x),
        lambda init, x: ops.fori_loop(0, 2, lambda i, s: s + x[i], init),
        lambda init, x: ops.while_loop(
            lambda s: ops.sum(x) < 3, lambda s: s + x[0], init
        ),
    ],
)
def test_dtypes_of_tensors_that_a_loop_hands_on_stay(loop, dtype):
    init = convert_to_tensor(0, dtype)
    for call in (loop, jit(loop)):
        with pytest.raises(TypeError, match=f"{dtype}, and float32 from"):
            call(init, convert_to_tensor(HALVES))


def test_64_bits_that_a_step_gives_are_those_of_its_carry():
    # As on JAX, where NumPy's arrays of 64 bits have 32.
    def function(x):
        return ops.scan(lambda c, v: (c + np.arange(3) * np.ones(3), v), x, x)

    x = np.ones(3, "float32")
    check(function, [x], [x + 3 * np.arange(3), x])


def test_a_loop_of_a_number_assigns_once():
    variable = Variable(0.0)

    def step(carry, v):
        variable.assign_add(1.0)
        return carry + v, variable.value

    def function(x):
        return ops.scan(step, 0, x)

    for call in (function, jit(function)):
        variable.assign(0.0)
        total, counts = call(HALVES)
        np.testing.assert_array_equal(counts, [1, 2, 3])
        assert float(total) == 1.5 and float(variable) == 3


def test_scan_over_nothing():
    carry, ys = ops.scan(
        lambda c, x: (c, ops.sum(x)), 1.0, np.zeros((0, 3), "float32")
    )
    assert float(carry) == 1 and ys.shape == (0,)


def test_scan_by_length_and_nested_carries():
    def f(x):
        return ops.scan(
            lambda c, _: ({"a": c["a"] + x, "n": c["n"] + 1}, c["n"]),
            {"a": x, "n": 0},
            length=3,
        )

    check(f, [X], [X * 4, 3, [0, 1, 2]])


@pytest.mark.parametrize("op", [ops.map, ops.vectorized_map])
def test_map_and_vectorized_map(op):
    rows = np.arange(6, dtype="float32").reshape(3, 2)
    check(lambda x: op(lambda row: ops.sum(row), x), [rows], [rows.sum(1)])


@pytest.mark.parametrize("count", [1, 2, 6, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(count, reverse):
    x = np.arange(1, count + 1, dtype="float32")
    flipped = x[::-1] if reverse else x
    expected = np.cumsum(flipped)
    expected = expected[::-1] if reverse else expected
    check(
        lambda x: ops.associative_scan(lambda a, b: a + b, x, reverse=reverse),
        [x],
        [expected],
        dynamic=False,
    )


def test_associative_scan_along_an_axis_that_is_not_there():
    for axis in (2, -3, 5):
        with pytest.raises(ValueError, match=f"axis {axis} is out of bounds"):
            ops.associative_scan(ops.add, np.ones((2, 3)), axis=axis)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "op",
    [
        lambda x: ops.scan(lambda carry, row: (carry + row, row), x[0], x)[1],
        lambda x: ops.map(lambda row: row * 2, x),
        lambda x: ops.stack(ops.unstack(x)),
        lambda x: ops.stack(ops.unstack(x, axis=1), axis=1),
    ],
)
def test_the_steps_of_a_loop_are_one_structure(op, known):
    x = ops.convert_to_tensor(normal(100, 100))
    tensor.infer.cache_clear()
    np.asarray(op(x if known else x * 2))
    assert tensor.infer.cache_info().misses < 20


def test_slices_of_known_values_are_no_structure():
    x = normal(100, 10)
    known = ops.convert_to_tensor(x)
    tensor.infer.cache_clear()
    for i in range(90):
        window = ops.slice(known, (i, 1), (2, 9))
        np.testing.assert_array_equal(window, x[i : i + 2, 1:])
    assert tensor.infer.cache_info().misses == 0


def test_what_is_found_is_one_structure_however_much_it_is():
    x = np.zeros((50, 3), "float32")
    tensor.infer.cache_clear()
    for i in range(50):
        x[i] = 1
        assert len(np.asarray(ops.nonzero(x)[0])) == 3 * (i + 1)
    assert tensor.infer.cache_info().misses < 5


@pytest.mark.parametrize(
    "op",
    [
        lambda x: ops.associative_scan(lambda a, b: a + b, x),
        lambda x: ops.split(x, np.arange(1, len(x)))[0],
        lambda x: ops.map(lambda row: row, x),
    ],
)
def test_long_inputs_are_not_remembered(op):
    def run():
        for length in range(5000, 5005):
            np.asarray(op(np.ones(length, "float32")))

    run()
    gc.collect()
    tensor.infer.cache_clear()
    tensor._remembered_integers.cache_clear()
    tracemalloc.start()
    run()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # An array of one length alone has 40 KB.
    assert held < 300_000


def test_slices_move_to_where_they_fit():
    x = np.arange(5, dtype="float32")
    for start, first in ((1, 1), (4, 3), (-9, 0)):
        check(
            lambda x, i: ops.slice(x, [i], [2]),
            [x, np.array(start, "int32")],
            [x[first : first + 2]],
        )
        expected = x.copy()
        expected[first : first + 2] = [8, 9]
        check(
            lambda x, i, u: ops.slice_update(x, [i], u),
            [x, np.array(start, "int32"), np.array([8, 9], "float32")],
            [expected],
        )


@pytest.mark.parametrize(
    "reduction, expected",
    [
        ("add", [1, 7, 1]),
        ("mul", [1, 6, 1]),
        ("max", [1, 3, 1]),
        ("min", [1, 1, 1]),
    ],
)
def test_scatter_update_with_a_reduction(reduction, expected):
    check(
        # How many dims an index has is to be known.
        lambda x, i, u: ops.scatter_update(
            x, ops.reshape(i, (-1, 1)), u, reduction=reduction
        ),
        [
            np.ones(3, "float32"),
            np.array([[1], [1]], "int32"),
            np.array([2, 3] if reduction != "add" else [3, 3], "float32"),
        ],
        [expected],
    )


def test_scatter_adds_up():
    check(
        lambda i, v: ops.scatter(ops.reshape(i, (-1, 1)), v, (4,)),
        [np.array([[1], [3], [1]], "int32"), np.array([1, 2, 3], "float32")],
        [[0, 4, 0, 2]],
    )


def test_a_body_that_makes_tensors_of_known_values():
    known = ops.convert_to_tensor(np.arange(6, dtype="float32").reshape(2, 3))

    def f(x):
        tensor.infer.cache_clear()  # what it builds is not of the body
        return ops.fori_loop(0, 2, lambda i, x: x + ops.sum(known, axis=0), x)

    check(f, [X], [X + 2 * np.array([3, 5, 7])])


def count_eagerly_and_compiled(function, *arrays):
    """What a variable counts up to from 10 on, and the results."""
    counts, results = [], []
    for compiled in (False, True):
        counter = Variable(10, dtype="int32")

        def f(*tensors):
            return function(counter, *tensors)

        run = jit(f) if compiled else f
        for _ in range(2):  # the second time from where the first one ended
            result = run(*[ops.convert_to_tensor(a) for a in arrays])
            results.append(np.asarray(result))
            counts.append(int(counter))
    assert counts[:2] == counts[2:]
    np.testing.assert_array_equal(results[:2], results[2:])
    return counts[:2], results[:2]


def test_variables_that_a_loop_assigns():
    def f(counter, x, n):
        def body(i, y):
            counter.assign_add(1)
            return i + 1, y + ops.cast(counter.value, "float32")

        return ops.while_loop(lambda i, y: i < n, body, (0, x))[1]

    counts, results = count_eagerly_and_compiled(f, X, np.array(3, "int32"))
    assert counts == [13, 16]
    np.testing.assert_array_equal(results, [X + 36, X + 45])


def test_variables_that_a_loop_assigns_which_starts_from_known_values():
    def f(counter, x):
        def body(i, y):
            counter.assign_add(1)
            return i + 1, y + x

        return ops.while_loop(lambda i, y: i < 3, body, (0, np.zeros(3)))[1]

    counts, results = count_eagerly_and_compiled(f, X)
    assert counts == [13, 16]


def test_variables_that_the_condition_of_a_loop_reads():
    def f(counter, x):
        def body(y):
            counter.assign_add(1)
            return y + 1.0

        return ops.while_loop(lambda y: counter.value < 12, body, [x])[0]

    counts, results = count_eagerly_and_compiled(f, X)
    assert counts == [12, 12]
    np.testing.assert_array_equal(results, [X + 2, X])


def test_variables_that_a_branch_assigns():
    def f(counter, x, p):
        def count():
            counter.assign_add(1)
            return x + 1.0

        return ops.cond(p, count, lambda: x)

    for value, expected in ((True, [11, 12]), (False, [10, 10])):
        counts, results = count_eagerly_and_compiled(f, X, np.array(value))
        assert counts == expected
        np.testing.assert_array_equal(results, [X + value] * 2)


def test_variables_that_a_branch_in_a_loop_assigns():
    def f(counter, x, n):
        def count():
            counter.assign_add(1)
            return x

        def body(i, y):
            return i + 1, y + ops.cond(i % 2 == 0, count, lambda: x * 2.0)

        return ops.while_loop(lambda i, y: i < n, body, (0, x))[1]

    counts, results = count_eagerly_and_compiled(f, X, np.array(3, "int32"))
    assert counts == [12, 14]
    np.testing.assert_array_equal(results, [X * 5] * 2)


def test_variables_that_a_scan_assigns():
    def f(counter, x):
        def step(carry, row):
            counter.assign_add(1)
            return carry + row, ops.cast(counter.value, "float32") * row

        return ops.scan(step, np.float32(0), x)[1]

    counts, results = count_eagerly_and_compiled(f, X)
    assert counts == [13, 16]
    np.testing.assert_array_equal(results, [X * [11, 12, 13], X * [14, 15, 16]])


def test_random_draws_in_a_loop_differ():
    def draws(x):
        seed = keras.random.SeedGenerator(1)

        def f(x):
            def body(i, y):
                row = keras.random.uniform((1,), seed=seed)
                return i + 1, ops.slice_update(y, [i], row)

            return ops.while_loop(lambda i, y: i < 3, body, (0, x))[1]

        return [np.asarray(g(x)) for g in (f, jit(f))]

    eager, compiled = draws(ops.zeros(3))
    assert len(set(eager.tolist() + compiled.tolist())) == 6


DTYPES = ("float32", "float16", "bfloat16", "int32", "int8", "bool", "int64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_values_may_change_places(order, shape, dtype):
    arrays = [
        np.asarray(ops.cast(np.full(shape, value), dtype)) for value in range(3)
    ]

    def turned(*values):
        return ops.while_loop(
            lambda i, *_: i < 2,
            lambda i, *values: (i + 1, *(values[j] for j in order)),
            (0, *values),
        )[1:]

    wanted = [arrays[order[j]] for j in order]
    for dynamic in (False, True):
        results = run_compiled(turned, *arrays, dynamic=dynamic)
        for result, array in zip(results, wanted, strict=True):
            np.testing.assert_array_equal(result, array)
            assert result.dtype == array.dtype


@pytest.mark.parametrize(
    "view",
    [
        lambda x: ops.reshape(ops.reshape(x, (6,)), (2, 3)),
        lambda x: ops.transpose(ops.reshape(x, (3, 2))),
        lambda x: x[0:1][[0, 0]],
        lambda x: x[::-1],
    ],
)
def test_views_of_values_may_change_places(view):
    x, y = normal(2, 3), normal(2, 3, seed=1)

    def swapped(x, y):
        return ops.while_loop(
            lambda i, *_: i < 3,
            lambda i, x, y: (i + 1, view(y), view(x)),
            (0, x, y),
        )[1:]

    wanted = [np.asarray(a) for a in swapped(x, y)]
    for result, array in zip(
        run_compiled(swapped, x, y, dynamic=False), wanted
    ):
        np.testing.assert_array_equal(result, array)


def test_scans_may_hand_on_what_they_had():
    x = np.arange(8, dtype="float32").reshape(4, 2)
    first, second = normal(2), normal(2, seed=1)

    def delayed(first, second, x):
        (first, second), ys = ops.scan(
            lambda carry, x: ((carry[0] + x, carry[0]), carry[1]),
            (first, second),
            x,
        )
        return first, second, ys

    sums = first + np.concatenate([np.zeros((1, 2)), np.cumsum(x, axis=0)])
    wanted = sums[4], sums[3], np.stack([second, *sums[:3]])
    for dynamic in (False, True):
        results = run_compiled(delayed, first, second, x, dynamic=dynamic)
        for result, array in zip(results, wanted, strict=True):
            np.testing.assert_allclose(result, array, rtol=1e-6)


# What the CPU plugin would compute in the place of the slice.
STEPS = {
    "sum": lambda carry, row: row + ops.sin(carry),
    "product": lambda carry, row: row * carry,
    "softmax": lambda carry, row: ops.softmax(row + carry),
    "update": lambda carry, row: ops.slice_update(row, (0, 0), carry[:1, :1]),
    "recurrent": lambda carry, row: ops.tanh(row + carry @ np.eye(3)[::-1]),
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_scans_hand_on_what_they_make_of_slices(name, dynamic):
    first, rows = normal(2, 3), normal(5, 2, 3, seed=1)

    def scanned(first, rows):
        def step(carry, row):
            return STEPS[name](carry, row), None

        return ops.scan(step, first, rows)[0]

    wanted = ops.convert_to_tensor(first)
    for row in rows:
        wanted = STEPS[name](wanted, ops.convert_to_tensor(row))
    (result,) = run_compiled(scanned, first, rows, dynamic=dynamic)
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


def test_what_comes_from_outside_stays_as_it_is():
    x, outer = normal(6), normal(2, 3, seed=1)

    def loop(x, outer):
        return ops.fori_loop(
            0, 5, lambda i, x: ops.reshape(outer, (6,)) * ops.sin(x), x
        )

    wanted = x
    for _ in range(5):
        wanted = outer.ravel() * np.sin(wanted)
    (result,) = run_compiled(loop, x, outer, dynamic=False)
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


BODIES = {
    "stays": lambda x, y: (x * 2, y),
    "constant": lambda x, y: (np.ones((2, 3), "float32"), x),
    "unused": lambda x, y: (y * 3, y + 1),
    "joined": lambda x, y: (x + y, x + y),
}


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("name", BODIES)
def test_results_after_any_number_of_iterations(name, count):
    x, y = normal(2, 3), normal(2, 3, seed=1)
    outer = normal(2, 3, seed=2)

    def loop(count, x, y, outer):
        return ops.while_loop(
            lambda i, *_: i < count,
            lambda i, x, y, z: (i + 1, *BODIES[name](x, y), outer),
            (0, x, y, x),
        )[1:]

    wanted = x, y, x
    for _ in range(count):
        wanted = *BODIES[name](*wanted[:2]), outer
    for dynamic in (False, True):
        results = run_compiled(
            loop, np.array(count, "int32"), x, y, outer, dynamic=dynamic
        )
        for result, array in zip(results, wanted, strict=True):
            np.testing.assert_allclose(result, array, rtol=1e-6)
