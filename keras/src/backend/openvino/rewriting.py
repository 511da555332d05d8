"""What rewriting the nodes of an `openvino.Model` takes."""

import numpy as np
import openvino as ov

from keras.src.backend.openvino import graph
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.dtypes import to_array


def bodies(model):
    """The models inside the loops and branches of a model, however deep."""
    for node in model.get_ordered_ops():
        for body in own_bodies(node):
            yield body
            yield from bodies(body)


def own_bodies(node):
    """The models inside a node."""
    type = node.get_type_name()
    if type == "If":
        return node.get_then_body(), node.get_else_body()
    return (node.get_function(),) if type in _LOOPS else ()


_LOOPS = ("Loop", "TensorIterator")


def captured(nodes, parameters, results):
    """Makes Parameters of what nodes take from outside.

    Args:
        nodes: an iterable of the nodes of a graph.
        parameters, results: the `openvino.Output`s of the Parameters that the
            graph has, and of its results.

    Returns:
        A list of the `openvino.Output` of each result, and a list of
        `(outer output, parameter)`. Constants are nobody's.
    """
    nodes = list(nodes)
    own = {node.get_name() for node in nodes}
    own |= {parameter.get_node().get_name() for parameter in parameters}
    inner, pairs = {}, []

    def inside(output):
        node = output.get_node()
        name = node.get_name()
        if name in own or node.get_type_name() == "Constant":
            return output
        key = (name, output.get_index())
        if key not in inner:
            inner[key] = parameter_like(output)
            pairs.append((output, inner[key]))
        return inner[key]

    for node in nodes:
        for port in node.inputs():
            source = port.get_source_output()
            replacement = inside(source)
            if replacement is not source:
                port.replace_source_output(replacement)
    return [inside(output) for output in results], pairs


def parameter_like(output):
    """The `openvino.Output` of a Parameter of the same type and shape."""
    kind, shape = output.get_element_type(), output.get_partial_shape()
    return ov.op.Parameter(kind, shape).output(0)


def places(outputs, among):
    """The place of the node of each output among those of others."""
    indices = {x.get_node().get_name(): i for i, x in enumerate(among)}
    return [indices[x.get_node().get_name()] for x in outputs]


def distinct(outputs):
    """Each output once."""
    found = {(x.get_node().get_name(), x.get_index()): x for x in outputs}
    return list(found.values())


def used(parameters, outputs):
    """The places of the Parameters that outputs depend on."""
    names = ancestors(outputs)
    return [
        i for i, x in enumerate(parameters) if x.get_node().get_name() in names
    ]


def ancestors(outputs):
    """All nodes that outputs depend on, and their own, by their names."""
    nodes, stack = {}, [x.get_node() for x in outputs]
    while stack:
        node = stack.pop()
        if node.get_name() not in nodes:
            nodes[node.get_name()] = node
            stack += [x.get_node() for x in node.input_values()]
    return nodes


def takers(output, type):
    """The nodes of a type that take an output."""
    targets = [x.get_node() for x in output.get_target_inputs()]
    return [node for node in targets if node.get_type_name() == type]


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


def repeated(constant, times):
    """An output of a Constant's values, repeated along each axis."""
    attributes, repeats = {}, integer_constant(times)
    return graph.build("Tile", [constant, repeats], attributes).output(0)


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


def stacked(output):
    """The axis along which an output stacks others, and a list of these.

    `(None, [])` where it does not.
    """
    node = output.get_node()
    if node.get_type_name() != "Concat":
        return None, []
    axis, rows = node.get_attributes()["axis"], []
    for x in node.input_values():
        row = x.get_node()
        if row.get_type_name() != "Unsqueeze":
            return None, []
        if integers(row.input_value(1)) != [axis]:
            return None, []
        rows.append(row.input_value(0))
    return axis, rows


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


def constant_like(values, output):
    """A Constant of the dtype of an `openvino.Output`."""
    dtype = numpy_dtype(ov_to_keras_type(output.element_type))
    return graph.constant(np.array(values, dtype))
