"""Pending graphs, and the OpenVINO nodes that are built for them."""

import concurrent.futures
import gc
import sys

import numpy as np
import openvino as ov
import pytest

from keras.src.backend.openvino import graph
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.graph import Known
from keras.src.backend.openvino.graph import Node
from keras.src.backend.openvino.graph import Source
from keras.src.backend.openvino.graph import Trace
from keras.src.backend.openvino.registry import Spec

ONES = np.ones(3, "float32")
SPEC = Spec("float32", (3,))


def node(*operands):
    inputs = [Source(x, 0) if isinstance(x, Node) else x for x in operands]
    return Node("Add", (), inputs, [SPEC] * len(inputs), [SPEC])


def test_inputs_come_before_what_takes_them():
    bottom = node(ONES, ONES)
    left, right = node(bottom, ONES), node(bottom, bottom)
    top, other = node(left, right), node(right, ONES)
    order = graph.topological_order([top, other])
    assert len(order) == 5  # each once
    for one in order:
        for x in one.inputs:
            if isinstance(x, Source):
                assert order.index(x.node) < order.index(one)


def test_known_values_end_the_order():
    bottom = node(ONES, ONES)
    top = node(bottom, ONES)
    bottom.settle((2 * ONES,))
    assert graph.topological_order([top]) == [top]
    assert graph.topological_order([bottom]) == []


def test_a_chain_of_ten_thousand_is_no_recursion():
    last = node(ONES, ONES)
    for _ in range(10_000):
        last = node(last, ONES)
    assert last.depth == 10_001
    assert len(graph.topological_order([last])) == 10_001


def test_what_settles_lets_go_of_its_inputs():
    bottom = node(ONES, ONES)
    top = node(bottom, bottom)
    assert top.held == 2 * bottom.held == 4 * ONES.nbytes
    assert [user() for user in bottom.users] == [top, top]
    top.settle((ONES,))
    assert top.inputs == ()
    del bottom
    gc.collect()
    assert top.values[0] is ONES


def test_shapes_and_dtypes_are_inferred():
    specs = [Spec("float32", (4, 1)), SPEC]
    assert graph.infer("Less", (), specs) == (("bool", (4, 3)),)
    transposed = [Spec("int32", (2, 3, 4)), Known((2, 0, 1))]
    assert graph.infer("Transpose", (), transposed) == (("int32", (4, 2, 3)),)


def test_errors_name_the_node_and_what_it_got():
    with pytest.raises(ValueError, match=r"Add cannot take \(float32\[2\]"):
        graph.infer("Add", (), [Spec("float32", (2,)), SPEC])


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32_where_devices_do_not(half):
    x = graph.parameter(half, (None, 3))
    tangent = graph.build("Tan", [x], {})
    assert tangent.get_output_element_type(0) == x.get_element_type()
    inner = tangent
    while inner.get_type_name() != "Tan":
        inner = inner.input_value(0).get_node()
    assert inner.get_input_element_type(0) == ov.Type.f32
    total = graph.build("Add", [x, x], {})
    assert total.get_type_name() == "Add"
    assert total.get_input_element_type(0) == x.get_element_type()


def test_constants_share_memory_and_are_shared():
    array = np.arange(4, dtype="float32")
    with Trace(Operations()) as trace:
        first = graph.shared_constant(array)
        again = graph.shared_constant(array)
        assert first.get_node().get_name() == again.get_node().get_name()
        with trace.scope():  # a body has constants of its own
            inner = graph.shared_constant(array)
        assert inner.get_node().get_name() != first.get_node().get_name()
    array[0] = 7
    assert first.get_node().data[0] == 7


def test_traces_nest():
    assert graph.current_trace() is None
    with Trace(Operations()) as outer:
        with Trace(Operations()) as inner:
            assert graph.current_trace() is inner
        assert graph.current_trace() is outer
    assert graph.current_trace() is None


@pytest.mark.parametrize("dtype", ["int64", "uint32", "uint64"])
def test_what_32_bits_do_not_hold_is_refused(dtype):
    graph.refuse_to_narrow(np.array([0, 2**31 - 1], dtype), "constant")
    graph.refuse_to_narrow(np.array([], dtype), "constant")
    with pytest.raises(ValueError, match="the constant 2147483648 does not"):
        graph.refuse_to_narrow(np.array([2**31], dtype), "constant")


def test_what_is_of_constants_alone_is_one():
    x = graph.constant(np.array([5, -3], np.int32))
    y = graph.constant(np.array([6, 2], np.int16))
    y = graph.node("Convert", [y], {"destination_type": "i32"}).output(0)
    both = graph.build("BitwiseXor", [x, y], {})
    assert both.get_type_name() == "Constant"
    np.testing.assert_array_equal(both.data, [5 ^ 6, -3 ^ 2])
    inverse = graph.build("BitwiseNot", [both.output(0)], {})
    np.testing.assert_array_equal(inverse.data, [~(5 ^ 6), ~(-3 ^ 2)])
    other = graph.parameter("int32", (2,))
    assert graph.build("BitwiseXor", [x, other], {}).get_type_name() != (
        "Constant"
    )


def test_constants_that_32_bits_do_not_hold_are_not_computed():
    # The CPU plugin would take the nearest number that it can hold.
    x = graph.constant(np.array([5], np.uint32))
    assert graph.build("BitwiseNot", [x], {}).get_type_name() == "BitwiseNot"


def test_users_that_are_gone_take_no_room():
    bottom = node(ONES, ONES)
    kept = []
    for i in range(10_000):
        user = node(bottom, ONES)
        if i % 100 == 0:
            kept.append(user)
    assert len(bottom.users) <= 2 * len(kept) + 64
    assert [u() for u in bottom.users if u() in kept] == kept


def test_no_user_is_lost_among_threads():
    bottom = node(ONES, ONES)
    kept = []

    def use():
        for i in range(2000):
            user = node(bottom, ONES)
            if i % 20 == 0:
                kept.append(user)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(use) for _ in range(8)]:
                future.result()
    finally:
        sys.setswitchinterval(interval)
    users = {u() for u in bottom.users}
    assert len(kept) == 800 and users.issuperset(kept)
    node(bottom, ONES)  # where all found somebody at work, this one is next
    assert len(bottom.users) <= 2 * (len(kept) + 9) + 64
