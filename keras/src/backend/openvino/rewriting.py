"""What rewriting the nodes of an `openvino.Model` takes."""

import numpy as np

from keras.src.backend.openvino import graph


def bodies(model):
    """The models inside the loops and branches of a model."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "If":
            yield node.get_then_body()
            yield node.get_else_body()
        elif hasattr(node, "get_function"):
            yield node.get_function()


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


def transposed(x, order):
    return graph.node("Transpose", [x, integer_constant(order)], {}).output(0)


def squeezed(x, axes):
    return graph.node("Squeeze", [x, axes], {}).output(0)


def integers(output):
    """The values of an integer Constant, or `None`."""
    node = output.get_node()
    if node.get_type_name() != "Constant":
        return None
    return [int(value) for value in node.data.ravel()]


def integer_constant(values):
    return graph.constant(np.array(values, np.int64))
