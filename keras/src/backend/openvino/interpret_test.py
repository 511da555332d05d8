import concurrent.futures
import gc
import weakref

import numpy as np
import pytest

from keras.src import ops
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import interpret
from keras.src.backend.openvino.registry import OPERATIONS
from keras.src.backend.openvino.registry import find
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import value_of


@pytest.fixture
def calls(monkeypatch):
    """Counts the runs of each kernel."""
    counts = {}

    def counting(name, kernel):
        def run(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return kernel(*args, **kwargs)

        return run

    for name in ("Sin", "Cos", "Add", "MatMul"):
        operation = find(name)
        counted = counting(name, operation.kernel)
        monkeypatch.setitem(
            OPERATIONS, name, operation._replace(kernel=counted)
        )
    return counts


@pytest.fixture
def compiled_products(monkeypatch):
    """Has each product, and what hangs on it, computed by a compiled model."""
    heavy = find("MatMul")._replace(work=lambda node: interpret.COMPILED_WORK)
    monkeypatch.setitem(OPERATIONS, "MatMul", heavy)


def test_nothing_is_computed_before_somebody_looks(calls):
    x = convert_to_tensor([1.0, 2.0])
    y = ops.sin(x)
    assert y.shape == (2,) and y.dtype == "float32"
    assert calls == {}
    np.testing.assert_allclose(y, np.sin([1, 2]), rtol=1e-6)
    assert calls == {"Sin": 1}


def test_nothing_is_computed_twice(calls):
    x = convert_to_tensor([1.0, 2.0])
    y = ops.sin(x)
    left, right = ops.cos(y), y + 1.0
    for tensor in (left, right, y, left, right):
        np.asarray(tensor)
    assert calls == {"Sin": 1, "Cos": 1, "Add": 1}


def test_a_loop_that_reads_each_step_does_the_same_work_in_each(calls):
    y = convert_to_tensor(np.ones(3, "float32"))
    expected = np.ones(3)
    for step in range(1, 50):
        y = ops.sin(y) + 1.0
        expected = np.sin(expected) + 1.0
        np.testing.assert_allclose(y, expected, rtol=1e-5)
        assert calls == {"Sin": step, "Add": step}


def test_a_computed_tensor_forgets_its_graph():
    x = ops.sin(convert_to_tensor([1.0]))
    node = weakref.ref(x._node)
    y = ops.cos(x)
    del x
    assert node() is not None
    np.asarray(y)
    gc.collect()
    assert node() is None


def test_a_tensor_on_the_way_keeps_its_value_for_those_who_need_it(
    calls, compiled_products
):
    a = np.random.default_rng(0).normal(size=(16, 16)).astype("float32")
    x = convert_to_tensor(a)
    product = ops.matmul(x, x)
    kept = ops.sin(product)
    pending = ops.cos(product)
    del product
    total = ops.sum(kept)
    float(total)
    assert calls == {}
    np.testing.assert_allclose(kept, np.sin(a @ a), atol=1e-4)
    np.testing.assert_allclose(pending, np.cos(a @ a), atol=1e-4)
    assert calls == {"Cos": 1}


def test_new_sizes_of_a_compiled_structure_agree_with_numpy(
    compiled_products,
):
    rng = np.random.default_rng(0)
    for rows in (16, 30, 17):
        a = rng.normal(size=(rows, 20)).astype("float32")
        b = rng.normal(size=(20, 20)).astype("float32")
        np.testing.assert_allclose(
            ops.matmul(a, b), a @ b, rtol=1e-4, atol=1e-4
        )


def test_a_long_chain_that_nobody_reads_stays_shallow():
    y = convert_to_tensor([0.0])
    for _ in range(10 * interpret.MAX_DEPTH):
        y = y + 1.0
        if y._node is not None:
            assert y._node.depth <= interpret.MAX_DEPTH
    assert float(y[0]) == 10 * interpret.MAX_DEPTH


LARGE = np.ones((256, 256), "float32")


@pytest.mark.parametrize(
    "shrink",
    [
        ops.mean,
        lambda x: ops.sum(ops.sin(x) + 1.0),
        lambda x: x[3] * 2.0,
        lambda x: ops.max(x, axis=1) + 1.0,
        lambda x: apply("NonZero", x[:1] * 2.0, output_type="i64"),
    ],
)
def test_a_small_value_that_nobody_reads_does_not_keep_large_inputs(shrink):
    x = convert_to_tensor(LARGE)
    array = weakref.ref(value_of(x))
    small = shrink(x)
    del x
    gc.collect()
    assert array() is None
    np.testing.assert_allclose(small, shrink(convert_to_tensor(LARGE)))


def test_values_that_shrink_slowly_do_not_keep_large_inputs():
    x = convert_to_tensor(LARGE)
    array = weakref.ref(value_of(x))
    while len(x) > 1:
        x = ops.sin(x)[: len(x) // 2]
    gc.collect()
    assert array() is None


def test_large_values_are_computed_when_somebody_looks(calls):
    x = convert_to_tensor(LARGE)
    y = ops.cos(ops.sin(x)) + 1.0
    assert calls == {}
    np.testing.assert_allclose(y, np.cos(np.sin(LARGE)) + 1, rtol=1e-6)


def test_a_shape_that_depends_on_values_is_found():
    found = apply("NonZero", convert_to_tensor([0, 3, 0, 5]), output_type="i64")
    assert found.shape == (1, 2)
    np.testing.assert_array_equal(found, [[1, 3]])


def test_topological_order_puts_inputs_first():
    x = convert_to_tensor([1.0])
    a = ops.sin(x)
    b = ops.cos(a)
    c = apply("Add", a, b)
    order = graph.topological_order([c._node])
    assert [node.type for node in order] == ["Sin", "Cos", "Add"]


def test_eight_threads_build_and_evaluate_at_once(compiled_products):
    base = np.linspace(0, 1, 1000, dtype="float32")
    square = np.random.default_rng(1).normal(size=(64, 64)).astype("float32")
    shared = ops.sin(convert_to_tensor(base))
    product = ops.matmul(square, square)

    def work(seed):
        total = 0.0
        for i in range(30):
            y = ops.cos(shared + float(seed)) * float(i)
            total += float(ops.sum(y)) + float(ops.sum(product[0]))
        return total

    def reference(seed):
        y = np.cos(np.sin(base.astype("float64")) + seed).sum()
        row = (square.astype("float64")[0] @ square).sum()
        return sum(y * i + row for i in range(30))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    np.testing.assert_allclose(
        results, [reference(seed) for seed in range(8)], rtol=1e-4
    )


@pytest.mark.parametrize(
    "dtype, x, y, expected",
    [
        ("int64", 2**40, 1, 2**40 + 1),
        ("uint32", 2**31 + 5, 1, 2**31 + 6),
        ("uint64", 2**63, 1, 2**63 + 1),
        ("float64", 1.0, 1e-12, 1 + 1e-12),
    ],
)
def test_64_bits_are_exact(dtype, x, y, expected):
    total = convert_to_tensor(x, dtype) + y
    assert total.dtype == dtype
    assert np.asarray(total).item() == expected
    assert (total - y).item() == x
