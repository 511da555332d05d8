"""What rewriting the nodes of an `openvino.Model` takes."""

import numpy as np

from keras.src.backend.openvino import graph
from keras.src.backend.openvino.dtypes import to_array


def bodies(model):
    """The models inside the loops and branches of a model, however deep."""
    for node in model.get_ordered_ops():
        for body in _own_bodies(node):
            yield body
            yield from bodies(body)


def _own_bodies(node):
    if node.get_type_name() == "If":
        return node.get_then_body(), node.get_else_body()
    return (node.get_function(),) if hasattr(node, "get_function") else ()


def rewire(node, output):
    """Gives `output` to all that take the first output of `node`."""
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(output)


def node_like(node, inputs, **attributes):
    """The `openvino.Output` of a node like `node` but for what is given."""
    attributes = {**node.get_attributes(), **attributes}
    return graph.node(node.get_type_name(), inputs, attributes).output(0)


def reshaped(x, dims):
    shape = integer_constant(dims)
    return graph.node("Reshape", [x, shape], {"special_zero": False}).output(0)


def reshaped_like(x, other):
    attributes = {"special_zero": False}
    return graph.node("Reshape", [x, _shape_of(other)], attributes).output(0)


def broadcast_with(x, other):
    """`x` in the shape that it and another output broadcast to."""
    mode = {"mode": "bidirectional"}
    return graph.node("Broadcast", [x, _shape_of(other)], mode).output(0)


def _shape_of(x):
    return graph.node("ShapeOf", [x], {"output_type": "i32"}).output(0)


def transposed(x, order):
    return graph.node("Transpose", [x, integer_constant(order)], {}).output(0)


def squeezed(x, axes):
    return graph.node("Squeeze", [x, axes], {}).output(0)


def constant_of(output):
    """The Constant that an output is, or is converted from, or `None`."""
    node = output.get_node()
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def address(constant):
    """Where the values of a Constant are."""
    return constant.get_tensor_view().data.ctypes.data


def with_own_constant(output):
    """An output with the same values, from a new Constant.

    It holds them in another order, so that no two are merged again.
    """
    node = output.get_node()
    if node.get_type_name() == "Convert":
        x = with_own_constant(node.input_value(0))
        return node_like(node, [x])
    array = to_array(node.get_tensor_view())
    flipped = graph.constant(np.array(array.T, order="C"))
    return transposed(flipped, range(array.ndim)[::-1])


def integers(output):
    """The values of an integer Constant, or `None`."""
    node = output.get_node()
    if node.get_type_name() != "Constant":
        return None
    return [int(value) for value in node.data.ravel()]


def integer_constant(values):
    return graph.constant(np.array(values, np.int64))
