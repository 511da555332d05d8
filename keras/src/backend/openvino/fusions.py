"""Keeps the runtime from changes to a model that change its numbers.

OpenVINO 2026.4 moves and fuses nodes where that is not right. Each function
here puts a node in other words, which OpenVINO leaves as they are.
"""

import itertools

import numpy as np

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import rewriting


def prevent_fusions(model):
    """Rewrites the nodes of an `openvino.Model` that would not be kept."""
    models = [model, *rewriting.bodies(model)]
    _keep_weights_apart(models)
    _keep_slices(models)
    for node in _nodes(models):
        rule = _RULES.get(node.get_type_name())
        result = rule and rule(node, *node.input_values())
        if result:
            rewriting.rewire(node, result)


def _nodes(models):
    return itertools.chain(*(model.get_ordered_ops() for model in models))


def _keep_weights_apart(models):
    """Duplicates a constant that is used both plain and transposed.

    The CPU plugin keeps what it made of weights, in an order that is good for
    a product or a convolution, for all that use the same memory and have the
    same shape: also for a product with the transposed matrix.
    """
    first = {}
    for model in models:
        own = {}
        for node in model.get_ordered_ops():
            for port in node.inputs()[:2] if _way(node) else ():
                source = port.get_source_output()
                weights = rewriting.constant_of(source)
                if weights is None or not _has_other_order(weights):
                    continue
                key, way = rewriting.address(weights), _way(node, port)
                if first.setdefault(key, way) == way:
                    continue
                if (key, way) not in own:
                    own[key, way] = rewriting.with_own_constant(source)
                port.replace_source_output(own[key, way])


def _way(node, port=None):
    """What a node does to the weights at a port; `None` for other nodes."""
    type, index = node.get_type_name(), port.get_index() if port else 0
    if type == "MatMul":
        flag = ("transpose_a", "transpose_b")[index]
        return type, index, node.get_attributes()[flag]
    return (type, index) if "Convolution" in type else None


def _has_other_order(constant):
    dims = [dim for dim in constant.get_output_shape(0) if dim > 1]
    return len(dims) > len(set(dims))


def _keep_slices(models):
    """Lets slices start before 0, which means at 0, beside `GatherElements`.

    OpenVINO would leave out a slice that starts at 0 where `GatherElements`
    takes from it, or from what becomes the same: negative indices would count
    from the end of the whole, and its other dims be too long.
    """
    types = {node.get_type_name() for node in _nodes(models)}
    if not types >= {"Slice", "GatherElements"}:
        return
    for node in _nodes(models):
        if node.get_type_name() != "Slice":
            continue
        start, _, step = map(rewriting.integers, node.input_values()[1:4])
        if start and step and not any(start) and set(step) == {1}:
            before = [np.iinfo(np.int32).min] * len(start)
            port = node.input(1)
            port.replace_source_output(rewriting.integer_constant(before))


def _transpose(node, x, order):
    """Inserts a dim of 1 around a transpose that does not change the shape.

    With as many heads as queries, which the transpose of the queries swaps,
    the CPU plugin's fused attention gives other numbers where all dims are
    known.
    """
    dims, order = graph.static_shape(x), rewriting.integers(order)
    if dims is None or not order or order[-1] != len(dims) - 1:
        return None
    last = len(order) - 1
    swapped = [i for i in range(last) if order[i] != i]
    if any(dims[order[i]] != dims[i] or dims[i] == 1 for i in swapped):
        return None
    x = rewriting.reshaped(x, [*dims[:-1], 1, dims[-1]])
    x = rewriting.transposed(x, [*order, last + 1])
    return rewriting.reshaped(x, dims)


def _reduction(node, x, axes):
    """Reduces with its dims kept, and squeezes them then.

    A transpose before or behind it, of dims of 1, would be forgotten: a result
    of (1, 3) would be (3, 1).
    """
    keeps = node.get_attributes()["keep_dims"]
    if _is_of_one(node, x, axes):
        return x if keeps else rewriting.squeezed(x, axes)
    if graph.static_shape(x) is None or keeps:
        return None
    kept = rewriting.node_like(node, [x, axes], keep_dims=True)
    return rewriting.squeezed(kept, axes)


def _is_of_one(node, x, axes):
    """Whether each number is reduced by itself, and stays as it is.

    Of integers, the difference of the greatest and the least of one would be
    the number itself in the CPU plugin.
    """
    axes = rewriting.integers(axes)
    if not axes or node.get_type_name() in ("ReduceL1", "ReduceL2"):
        return False
    dims = [x.partial_shape[axis] for axis in axes]
    return all(dim.is_static and dim.get_length() == 1 for dim in dims)


def _absolute(node, x):
    """Computes `Abs` of a 1-d Concat in two dims.

    OpenVINO would move it into the Concat, which others may take too.
    """
    is_joined = x.get_node().get_type_name() == "Concat"
    if not is_joined or len(x.partial_shape) != 1:
        return None
    axis = rewriting.integer_constant([0])
    x = graph.node("Unsqueeze", [x, axis], {}).output(0)
    x = graph.node("Abs", [x], {}).output(0)
    return rewriting.squeezed(x, axis)


def _select(node, condition, x1, x2):
    """Broadcasts the condition to the full shape if no operand knows a dim.

    OpenVINO would otherwise take the condition's shape for the result's.
    """
    shapes = [x.partial_shape for x in (condition, x1, x2)]
    if not _share_unknown_dim(shapes):
        return None
    for x in (x1, x2):
        condition = rewriting.broadcast_with(condition, x)
    return rewriting.node_like(node, [condition, x1, x2])


def _share_unknown_dim(shapes):
    if any(shape.rank.is_dynamic for shape in shapes):
        return False
    return any(
        all(dim.is_dynamic for dim in dims)
        for dims in zip(*(list(shape)[::-1] for shape in shapes))
    )


def _reshape(node, x, shape):
    """Replaces a reshape to a scalar after MatMul by a Squeeze.

    The CPU plugin crashes otherwise.
    """
    if rewriting.integers(shape) != [] or not _is_product(x):
        return None
    axes = rewriting.integer_constant(range(len(x.partial_shape)))
    return rewriting.squeezed(x, axes)


def _is_product(x):
    node = x.get_node()
    while node.get_type_name() in ("Reshape", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "MatMul"


_RULES = {
    "Abs": _absolute,
    "ReduceL1": _reduction,
    "ReduceL2": _reduction,
    "ReduceLogicalAnd": _reduction,
    "ReduceLogicalOr": _reduction,
    "ReduceMax": _reduction,
    "ReduceMean": _reduction,
    "ReduceMin": _reduction,
    "ReduceProd": _reduction,
    "ReduceSum": _reduction,
    "Reshape": _reshape,
    "Select": _select,
    "Transpose": _transpose,
}
