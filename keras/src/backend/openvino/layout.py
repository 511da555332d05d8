"""Moves transposes out of the way of what the runtime fuses.

Keras keeps channels last and OpenVINO's convolutions have them first, so that
each stands between two transposes. Moved behind the bias, the normalisation and
the activation that follow, the second meets the first of the next convolution
and both vanish, and the runtime fuses what follows into the convolution.
"""

import numpy as np

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.registry import find


def sink_transposes(model):
    """Moves the transposes of an `openvino.Model` towards its outputs."""
    for part in (model, *rewriting.bodies(model)):
        _sink_transposes(part)


def _sink_transposes(model):
    # The outputs that are transposes, and of what, and the order.
    transposed = {}
    for node in model.get_ordered_ops():
        type = node.get_type_name()
        if type == "Transpose":
            _note(node, transposed)
        elif find(type).layout:
            _sink(node, find(type).layout, transposed)


def _note(node, transposed):
    source, order = node.input_value(0), rewriting.integers(node.input_value(1))
    if not order:
        return
    if port_of(source) in transposed:
        source, inner = transposed[port_of(source)]
        order = [inner[axis] for axis in order]
    if order == sorted(order):
        rewriting.rewire(node, source)
    else:
        transposed[port_of(node.output(0))] = source, order


def _sink(node, rule, transposed):
    inputs = node.input_values()
    found = [transposed.get(port_of(x)) for x in inputs]
    order = next((known[1] for known in found if known), None)
    if order is None or any(known and known[1] != order for known in found):
        return
    if node.output(0).partial_shape.rank.is_dynamic:
        return
    sources = [known[0] if known else None for known in found]
    moved = rule(node, inputs, sources, order)
    if moved is None:
        return
    result = moved
    if len(moved.partial_shape) == len(order):
        result = rewriting.transposed(moved, order)
        transposed[port_of(result)] = moved, order
    rewriting.rewire(node, result)


def elementwise(node, inputs, sources, order):
    if len(node.output(0).partial_shape) != len(order):
        return None
    wholes = [
        graph.static_shape(x)
        for x, source in zip(inputs, sources)
        if source is not None
    ]
    operands = [
        _untransposed(_before_broadcast(x, wholes), order)
        if source is None
        else source
        for x, source in zip(inputs, sources)
    ]
    if None not in operands:
        return rewriting.node_like(node, operands)


def leaky(node, inputs, sources, order):
    # The slope of a single number; more of them are for axis 1.
    x, slope = sources[0], inputs[1]
    if x is not None and graph.static_shape(slope) in ((), (1,)):
        return rewriting.node_like(node, [x, slope])


def concatenation(node, inputs, sources, order):
    if None not in sources:
        axis = order[node.get_attributes()["axis"]]
        return rewriting.node_like(node, sources, axis=axis)


def padding(node, inputs, sources, order):
    widths = [rewriting.integers(x) for x in inputs[1:3]]
    if sources[0] is None or None in widths:
        return None
    placed = []
    for width in widths:
        before = [0] * len(order)
        for axis, size in zip(order, width):
            before[axis] = size
        placed.append(rewriting.integer_constant(before))
    return rewriting.node_like(node, [sources[0], *placed, *inputs[3:]])


def reduction(node, inputs, sources, order):
    axes = rewriting.integers(inputs[1])
    if sources[0] is None or not axes:
        return None
    axes = [order[axis] for axis in axes]
    if not node.get_attributes()["keep_dims"]:
        others = [axis for axis in order if axis not in axes]
        if others != sorted(others):
            return None
    return rewriting.node_like(
        node, [sources[0], rewriting.integer_constant(axes)]
    )


def _before_broadcast(x, wholes):
    """What `x` is broadcast from, where an operand of its shape does that.

    Of shapes that are not known, nobody knows whether they are the same.
    """
    node, shape = x.get_node(), graph.static_shape(x)
    is_broadcast = node.get_type_name() == "Broadcast"
    if not is_broadcast or shape is None or shape not in wholes:
        return x
    is_explicit = node.get_attributes()["mode"] == "explicit"
    return x if is_explicit else node.input_value(0)


def _untransposed(x, order):
    """`x`, broadcast among values in `order`, as it was before; or `None`.

    That is free for constants, and where dims that are not 1 stay in order.
    """
    dims = graph.static_shape(x)
    if dims is None or len(dims) > len(order):
        return None
    if all(dim == 1 for dim in dims):
        return x
    dims = [1] * (len(order) - len(dims)) + list(dims)
    inverse = np.argsort(order)
    if x.get_node().get_type_name() == "Constant":
        array = to_array(x.get_node().get_tensor_view()).reshape(dims)
        return graph.constant(np.array(array.transpose(inverse), order="C"))
    several = [place for place in inverse if dims[place] != 1]
    if several == sorted(several):
        return rewriting.reshaped(x, [dims[place] for place in inverse])
    return None


def port_of(output):
    """What tells an `openvino.Output` of a graph from the others."""
    return output.get_node().get_name(), output.get_index()
