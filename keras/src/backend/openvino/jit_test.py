import concurrent.futures
import contextlib
import gc
import itertools
import threading
import weakref

import numpy as np
import pytest

from keras.src import backend
from keras.src import ops
from keras.src.backend.openvino import executable
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import jit as jit_module
from keras.src.backend.openvino.executable import Executable
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.tensor import value_of
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import in_threads_beside


def ones(*shape):
    return np.ones(shape, "float32")


def counted(function):
    """`function`, and a list that grows with each trace of it."""
    traces = []

    def traced(*args):
        traces.append(args)
        return function(*args)

    return jit(traced), traces


def test_nested_arguments_and_results():
    f = jit(lambda a, b: {"sum": a["x"] + b[0], "none": None, "same": b})
    result = f({"x": ones(2, 3)}, (ones(3),))
    np.testing.assert_array_equal(result["sum"], 2 * ones(2, 3))
    assert result["none"] is None
    np.testing.assert_array_equal(result["same"][0], ones(3))


def test_a_new_batch_size_is_no_new_trace():
    f, traces = counted(lambda x: ops.sum(x * 2.0, axis=1))
    for batch in (2, 7, 1):
        np.testing.assert_array_equal(f(ones(batch, 3)), 6 * ones(batch))
    assert len(traces) == 1


def test_an_empty_batch_is_known_to_the_function():
    # The CPU plugin fails in some operations where a dim turns out to be 0.
    f, traces = counted(lambda x: ops.sum(x * 2.0, axis=1))
    for batch in (2, 0, 3, 0):
        np.testing.assert_array_equal(f(ones(batch, 3)), 6 * ones(batch))
    assert [x.shape for (x,) in traces] == [(None, 3), (0, 3)]


def test_dims_that_specs_leave_open_are_no_new_trace():
    traces = []

    def total(x):
        traces.append(backend.standardize_shape(x.shape))
        return ops.sum(x)

    f = jit(total, specs=[(None, None)])
    for width in range(3, 9):
        assert float(f(ones(2, width))) == 2 * width
    assert traces == [(None, None)]


def test_other_dims_are_known_to_the_function():
    f, traces = counted(lambda x: x[:, : x.shape[1] // 2])
    for width in (4, 6, 4):
        assert f(ones(2, width)).shape == (2, width // 2)
    assert len(traces) == 2


def test_dtypes_structures_and_static_arguments_are_traced_apart():
    f, traces = counted(lambda x, n: x * n)
    assert f(np.array([3], "int32"), 2).dtype == "int32"
    assert f(ones(1), 2).dtype == "float32"
    np.testing.assert_array_equal(f(ones(1), 5), [5])
    assert len(traces) == 3


@pytest.mark.parametrize(
    "times_length",
    [
        lambda x: x * float(len(x)),
        lambda x: x * float(ops.shape(x)[0]),
        lambda x: x * float(np.prod(x.shape)),
        lambda x: x * sum(1.0 for _ in range(x.shape[0])),
    ],
)
def test_a_dim_that_has_to_be_known_is_traced_for_each_size(times_length):
    f, traces = counted(times_length)
    for size in (2, 3, 2):
        np.testing.assert_array_equal(f(ones(size)), size * ones(size))
    assert [x.shape for (x,) in traces] == [(None,), (2,), (3,)]


def test_a_function_that_fails_is_traced_once():
    def fail(x):
        raise error

    for error in (KeyError("no"), TypeError("no"), RuntimeError("no")):
        f, traces = counted(fail)
        with pytest.raises(error.__class__) as raised:
            f(ones(2))
        assert raised.value is error and len(traces) == 1
    f, traces = counted(lambda x: x if ops.sum(x) > 0 else -x)
    with pytest.raises(ValueError, match="symbolic"):
        f(ones(2))
    assert len(traces) == 1


def test_equal_arguments_of_different_types_are_traced_apart():
    f = jit(lambda x, n: x * n)
    x = np.array([3], "int32")
    assert [f(x, n).dtype for n in (1, 1.0)] == ["int32", "float32"]


def test_zeros_of_both_signs_are_traced_apart():
    divide = jit(lambda x, y: x / y)
    for zero, expected in ((0.0, np.inf), (-0.0, -np.inf), (0.0, np.inf)):
        assert float(divide(np.float32(1), zero)) == expected


def test_the_models_that_are_kept_are_few(monkeypatch):
    monkeypatch.setattr(jit_module, "MAX_VARIANTS", 3)
    f, traces = counted(lambda x: x[:, : x.shape[1] // 2])
    for width in (2, 3, 4, 5, 5, 4, 3):
        assert f(ones(1, width)).shape == (1, width // 2)
    assert len(traces) == len(f._variants) + 1 == 4
    f(ones(1, 2))
    assert len(traces) == 5


def test_a_function_is_freed_with_its_models():
    variable = backend.Variable(ones(3))
    f = jit(lambda x: x + variable)
    f(ones(3))
    compiled = weakref.ref(next(iter(f._variants)))
    del f
    assert compiled() is None


def test_weights_that_were_assigned_are_let_go():
    variable = backend.Variable(ones(3))
    old = []

    def add(x):
        gc.collect()  # before another model is compiled
        assert all(value() is None for value in old)
        return x + variable

    f = jit(add)
    for i in range(3):
        f(ones(3))
        old.append(weakref.ref(value_of(variable.value)))
        variable.assign(i * ones(3))
    assert len(f._variants) == 1


def test_variables_among_the_results():
    read, assigned = backend.Variable(ones(2)), backend.Variable(ones(2))

    def step(x):
        assigned.assign(x)
        return read, assigned, assigned.value

    f = jit(step)
    for i in range(2):
        results = f(i * ones(2))
        for result, expected in zip(results, (1, i, i)):
            np.testing.assert_array_equal(result, expected * ones(2))
        arrays = [value_of(x) for x in results]
        arrays += [value_of(v.value) for v in (read, assigned)]
        for pair in itertools.combinations(arrays, 2):
            assert not np.shares_memory(*pair)


def test_variables_that_are_read_are_up_to_date():
    variable = backend.Variable(ones(3))
    f, traces = counted(lambda x: x + variable)
    np.testing.assert_array_equal(f(ones(3)), 2 * ones(3))
    variable.assign(5 * ones(3))
    np.testing.assert_array_equal(f(ones(3)), 6 * ones(3))
    assert len(traces) == 2
    backend.Variable(0.0).assign(1.0)  # another one: no new trace
    np.testing.assert_array_equal(f(ones(3)), 6 * ones(3))
    assert len(traces) == 2


def test_variables_that_are_assigned_are_state():
    total = backend.Variable(0.0)
    last = backend.Variable(ones(2))

    def step(x):
        total.assign_add(ops.sum(x))
        last.assign(x)
        return total.value * 10.0

    f, traces = counted(step)
    results = [float(f(np.array([i, 1], "float32"))) for i in range(4)]
    assert results == [10, 30, 60, 100]
    assert float(total) == 10
    np.testing.assert_array_equal(last, [3, 1])
    total.assign(100.0)
    assert float(f(ones(2))) == 1020
    assert len(traces) == 2  # the second once `total` was known to be state


def test_integer_state():
    count = backend.Variable(0, dtype="int32")
    seed = backend.Variable(
        np.array([1, 2**32 - 2], "uint32"), dtype="uint32", trainable=False
    )

    def step(x):
        count.assign(count + 1)
        return x, seed.value

    f = jit(step)
    for i in range(3):
        _, value = f(ones(1))
        assert int(count) == i + 1
    np.testing.assert_array_equal(seed, [1, 2**32 - 2])


def test_unseeded_random_numbers_are_those_that_come_eagerly():
    from keras.src import random
    from keras.src.random.seed_generator import global_seed_generator
    from keras.src.utils import rng_utils

    rng_utils.set_random_seed(3)
    expected = [np.asarray(random.uniform((3,))) for _ in range(4)]
    rng_utils.set_random_seed(3)
    global_seed_generator()
    f = jit(lambda x: x + random.uniform((3,)))
    for values in expected:
        np.testing.assert_allclose(f(np.zeros(3, "float32")), values)


@pytest.mark.parametrize("dtype", ["int64", "uint32"])
def test_a_constant_that_32_bits_do_not_hold_is_refused(dtype):
    constant = backend.convert_to_tensor(2**31 + 6, dtype)
    with pytest.raises(ValueError, match=f"{dtype} in 32 bits"):
        jit(lambda x: x + constant)(np.zeros(2, dtype))


def test_assigning_leaves_arrays_that_were_given_out_alone():
    variable = backend.Variable(ones(2))
    before = np.asarray(variable.value)
    variable.assign(7 * ones(2))
    np.testing.assert_array_equal(before, ones(2))
    source = ones(2)
    variable.assign(source)
    source[0] = 9
    np.testing.assert_array_equal(variable, ones(2))


def test_looking_at_a_symbolic_tensor_says_what_to_do_instead():
    f = jit(lambda x: x if ops.sum(x) > 0 else -x)
    with pytest.raises(ValueError, match="symbolic tensor.*ops.cond"):
        f(ones(2))


def test_float32_is_not_bfloat16():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(64, 512)).astype("float32")
    w = backend.Variable(rng.normal(size=(512, 64)).astype("float32"))
    result = jit(lambda x: ops.matmul(x, w))(a)
    reference = a.astype("float64") @ np.asarray(w).astype("float64")
    np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-4)


def test_eight_threads_call_at_once():
    variable = backend.Variable(ones(4))
    f = jit(lambda x: ops.sin(x) + variable)

    def work(i):
        x = np.full((i + 1, 4), i, "float32")
        return all(
            np.allclose(f(x), np.sin(x) + 1, atol=1e-6) for _ in range(20)
        )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def called_at_once(monkeypatch, functions, seconds):
    """What the functions give in threads, and whether all ran at once."""
    barrier = threading.Barrier(len(functions))
    infer = Executable._infer
    met = []

    def meet(executable, tensors):
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(seconds)
            met.append(executable)
        return infer(executable, tensors)

    monkeypatch.setattr(Executable, "_infer", meet)
    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        calls = [pool.submit(f, ones(1)) for f in functions]
        results = [float(call.result()[0]) for call in calls]
    return results, len(met) == len(functions)


def test_threads_do_not_find_a_state_that_is_about_to_change(monkeypatch):
    count, other = backend.Variable(0.0), backend.Variable(0.0)

    def step(x):
        return x + count.assign_add(1.0)

    def step_of_two(x):
        other.assign_add(1.0)
        return step(x)

    functions = [jit(step), jit(step_of_two)]
    for f in functions:
        f(ones(1))
    results, _ = called_at_once(monkeypatch, functions * 2, 0.5)
    assert sorted(results) == [4, 5, 6, 7]
    assert float(count) == 6 and float(other) == 3


def test_threads_without_state_run_at_once(monkeypatch):
    weight = backend.Variable(ones(1))
    f = jit(lambda x: x + weight)
    f(ones(1))
    results, at_once = called_at_once(monkeypatch, [f, f], 60)
    assert results == [2, 2] and at_once


def test_a_crowd_is_compiled_for():
    weights = np.random.default_rng(0).normal(size=(512, 512))
    f = jit(lambda x: ops.tanh(ops.matmul(x, weights.astype("float32"))))
    x = ones(64, 512)
    expected = np.asarray(f(x))
    for _ in range(2 * jit_module.CROWD):
        f(x)
    assert len(f._variants) == 1

    def work(_):
        for _ in range(16 * jit_module.CROWD):
            np.testing.assert_allclose(f(x), expected, rtol=1e-4, atol=1e-5)
        return f._hint

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        hints = list(pool.map(work, range(8)))
    assert "THROUGHPUT" in hints
    assert len(f._variants) == 2
    for _ in range(2 * jit_module.CROWD):
        f(x)
    assert f._hint == "LATENCY" and len(f._variants) == 2


def test_a_scope_may_stand_for_other_values_of_variables():
    read, assigned = backend.Variable(ones(2)), backend.Variable(ones(2))

    def step(x):
        assigned.assign(x + read)
        return read, assigned

    f = jit(step)
    f(ones(2))
    value = backend.convert_to_tensor(5 * ones(2))
    with backend.StatelessScope([(read, value)]) as scope:
        results = f(ones(2))
    for result, expected in zip(results, (5, 6)):
        np.testing.assert_array_equal(result, expected * ones(2))
        assert not np.shares_memory(value_of(result), value_of(value))
    np.testing.assert_array_equal(scope.get_current_value(assigned), [6, 6])
    np.testing.assert_array_equal(assigned, [2, 2])
    np.testing.assert_array_equal(f(ones(2))[0], ones(2))


def test_a_call_in_a_trace_is_a_part_of_it():
    variable = backend.Variable(ones(2))
    inner = jit(lambda x: x * variable)
    outer = jit(lambda x: inner(x + 1.0))
    for factor in (1, 2):
        variable.assign(factor * ones(2))
        np.testing.assert_array_equal(outer(ones(2)), 2 * factor * ones(2))


def test_a_loop_leaves_no_trace():
    def doubled(x):
        return ops.while_loop(lambda y: ops.sum(y) < 10, lambda y: y * 2, (x,))

    (result,) = jit(doubled)(np.ones(3, "float32"))
    np.testing.assert_array_equal(result, [4, 4, 4])
    assert graph.current_trace() is None


def test_results_are_of_the_old_or_of_the_new_value():
    variable = backend.Variable(ones(100))
    f = jit(lambda x: x * variable)
    f(ones(100))

    def work():
        last = 0
        for _ in range(20):
            result = np.unique(f(ones(100)))
            assert len(result) == 1 and result[0] >= last
            last = result[0]

    in_threads_beside(lambda n: variable.assign(n * ones(100)), work)


def test_functions_that_call_each_other_in_threads():
    for _ in range(5):
        inner = jit(lambda x: x * 2)
        outer = jit(lambda x: x + np.asarray(inner(ones(2))))
        barrier = threading.Barrier(2)

        def call(function):
            barrier.wait()
            return np.asarray(function(ones(2)))

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = list(pool.map(call, (outer, inner)))
        np.testing.assert_array_equal(results, [[3, 3], [2, 2]])


@pytest.fixture
def compiled(monkeypatch):
    return compiled_models(monkeypatch)


def test_an_input_that_32_bits_do_not_hold_compiles_nothing(compiled):
    f = jit(lambda x: x + 1)
    np.testing.assert_array_equal(f(np.array([1])), [2])
    for _ in range(3):
        with pytest.raises(ValueError, match=f"input {2**40} does not fit"):
            f(np.array([2**40]))
    assert len(compiled) == 1


def test_arguments_that_fail_are_compiled_for_once(compiled, monkeypatch):
    f = jit(lambda x: x + 1.0)
    f(ones(2))

    def fail(*args):
        raise executable.InferenceError("inputs of any length fail")

    monkeypatch.setattr(Executable, "_infer", fail)
    for size in [3] * 5 + [4] * 5:
        with pytest.raises(ValueError, match="of any length"):
            f(ones(size))
    assert len(compiled) == 3
    for size in range(1, 9):
        with pytest.raises(ValueError, match="of any length"):
            f(ones(size))
    assert len(f._retried) == jit_module.MAX_RETRIED


def test_an_assignment_that_fails_runs_nothing_again(monkeypatch):
    first, second = backend.Variable(0.0), backend.Variable(0.0)

    @jit
    def step(x):
        second.assign_add(first.assign_add(1.0))
        return x

    step(ones(2))
    assign = backend.Variable._direct_assign

    def fail(variable, value):
        if variable is second:
            raise ValueError("it takes no value")
        assign(variable, value)

    with monkeypatch.context() as patch:
        patch.setattr(backend.Variable, "_direct_assign", fail)
        with pytest.raises(ValueError, match="it takes no value"):
            step(ones(2))
    assert float(first) == 2


def test_calls_that_are_refused_are_not_at_work(monkeypatch):
    f = jit(lambda x: x[0] + 1)
    f([np.array([1], "int64")])
    (variant,) = f._variants
    for call in (f, variant.start):
        with pytest.raises(graph.TooLarge):
            call([np.array([2**40], "int64")])
        assert not variant.is_busy()
    variant._executable._idle.clear()
    monkeypatch.setattr(executable, "_Request", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        f([np.array([1], "int64")])
    assert not variant.is_busy()


def test_calls_that_fail_leave_nothing():
    f = jit(lambda x, n: x + np.ones(n, "float32"))
    for n in range(5, 15):
        with pytest.raises(ValueError, match="Add cannot take"):
            f(ones(1, 3), n)
    assert len(f._variants._graphs) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(64, 32), (32, 32)])
def test_weights_in_another_order_are_not_copied(monkeypatch, dtype, shape):
    models = compiled_models(monkeypatch)
    values = np.random.default_rng(0).integers(-3, 4, shape).astype("float32")
    table = backend.Variable(values, dtype=dtype)

    @jit
    def function(i):
        x = ops.take(table, i, axis=0)
        heads = ops.reshape(table, (shape[0], 2, -1))
        return ops.matmul(x, ops.transpose(table)), heads[i, 1]

    index = np.array([3, 1, 2], "int32")
    product, half = function(index)
    expected = values[index] @ values.T
    np.testing.assert_array_equal(ops.cast(product, "float32"), expected)
    expected = values[index, shape[1] // 2 :]
    np.testing.assert_array_equal(ops.cast(half, "float32"), expected)
    assert models[0].nbytes < 1.5 * value_of(table.value).nbytes


@pytest.mark.parametrize("first", [False, True])
def test_a_square_matrix_as_it_is_and_transposed(first):
    values = np.arange(256, dtype="float32").reshape(16, 16)
    table = backend.Variable(values)

    @jit
    def function(x):
        ways = [ops.transpose(table), table.value]
        return [ops.matmul(x, w) for w in (ways if first else ways[::-1])]

    x = np.eye(16, dtype="float32")
    results = function(x)[:: 1 if first else -1]
    np.testing.assert_array_equal(results[0], values.T)
    np.testing.assert_array_equal(results[1], values)
