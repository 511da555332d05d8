import numpy as np
import openvino as ov
import pytest

from keras.src.backend.openvino import core
from keras.src.backend.openvino import device
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import trace


def run(output, parameters, *arrays):
    executable = device.compile_model([output], parameters)
    return executable(arrays)[0]


def test_bodies_of_loops_and_branches():
    def nested(x):
        def body(i, y):
            return i + 1, core.cond(numpy.sum(y) > 3, lambda: -y, lambda: y)

        return core.while_loop(lambda i, y: i < 3, body, (0, x))[1]

    model = trace(nested, np.ones(2, "float32"))
    inner = list(rewriting.bodies(model))
    assert len(inner) == 3  # the loop's, and in it those of the two branches
    types = [{op.get_type_name() for op in body.get_ops()} for body in inner]
    assert "If" in types[0] and any("Negative" in t for t in types[1:])


def test_a_model_without_bodies():
    model = trace(numpy.sin, np.ones(2, "float32"))
    assert list(rewriting.bodies(model)) == []


def test_rewiring():
    x = graph.parameter("float32", (3,))
    before = graph.node("Sin", [x], {})
    outputs = [graph.node(t, [before.output(0)], {}) for t in ("Abs", "Exp")]
    rewriting.rewire(before, graph.node("Cos", [x], {}).output(0))
    array = np.array([-1.0, 0.0, 2.0], "float32")
    for node, function in zip(outputs, (np.abs, np.exp)):
        result = run(node.output(0), [x], array)
        np.testing.assert_allclose(result, function(np.cos(array)), rtol=1e-5)


def test_a_node_with_another_attribute():
    x = graph.parameter("float32", (2, 3))
    y = graph.parameter("float32", (2, 4))
    product = graph.node("MatMul", [x, y], {"transpose_a": True})
    other = rewriting.node_like(
        product, [y, x], transpose_a=True, transpose_b=False
    )
    assert other.get_shape() == [4, 3]
    assert other.get_node().get_type_name() == "MatMul"


@pytest.mark.parametrize("shape", [(4, 1), (3,), (), (1, 4, 3)])
def test_broadcasting_both_ways(shape):
    x = graph.parameter("float32", (4, 1))
    other = graph.parameter("float32", [None] * len(shape))
    array = normal(4, 1)
    result = run(
        rewriting.broadcast_with(x, other),
        [x, other],
        array,
        np.zeros(shape, "float32"),
    )
    wanted = np.broadcast_shapes((4, 1), shape)
    np.testing.assert_array_equal(result, np.broadcast_to(array, wanted))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 4), (5,)])
def test_a_constant_of_its_own(dtype, shape):
    array = normal(*shape).astype(dtype)
    constant = graph.constant(array)
    converted = graph.node("Convert", [constant], {"destination_type": "f32"})
    x = graph.parameter("float32", ())
    for output in (constant, converted.output(0)):
        own = rewriting.with_own_constant(output)
        assert own.get_element_type() == output.get_element_type()
        nodes = ov.Model([own], []).get_ops()
        (own_constant,) = (
            node
            for node in nodes
            if node.get_type_name() == "Constant"
            and node.get_element_type() == constant.get_element_type()
        )
        before = rewriting.constant_of(output)
        assert rewriting.address(before) != rewriting.address(own_constant)
        total = graph.node("Convert", [own], {"destination_type": "f32"})
        total = graph.node("Add", [total.output(0), x], {}).output(0)
        result = run(total, [x], np.zeros((), "float32"))
        np.testing.assert_array_equal(result, array.astype("float32"))


def test_what_is_constant():
    values = graph.constant(np.array([3, -1], np.int64))
    assert rewriting.integers(values) == [3, -1]
    x = graph.parameter("int64", (2,))
    assert rewriting.integers(x) is None
    assert rewriting.constant_of(x) is None
    assert rewriting.integers(rewriting.integer_constant((5, 6))) == [5, 6]


def test_shapes_and_orders():
    array = normal(2, 3, 1)
    x = graph.parameter("float32", array.shape)
    for output, expected in (
        (rewriting.reshaped(x, (3, 2)), array.reshape(3, 2)),
        (rewriting.transposed(x, (2, 0, 1)), array.transpose(2, 0, 1)),
        (
            rewriting.squeezed(x, rewriting.integer_constant([2])),
            array.squeeze(2),
        ),
    ):
        # A change of order alone may be no node of the model.
        output = graph.node("Abs", [output], {}).output(0)
        np.testing.assert_array_equal(run(output, [x], array), np.abs(expected))
