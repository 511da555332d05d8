"""Whether what a graph gives for a position depends on how many there are.

A decoder gets its prompt in a sequence as long as what it is to become. Of the
caches that it begins with, the positions of the prompt alone are of use, and
they can be computed from the prompt alone: no position depends on later ones.
That is wrong where a graph looks at the length itself, as some rotary
embeddings do. Here it is followed through the graph.
"""

import enum

import openvino as ov

from keras.src.backend.openvino import rewriting


class _Kind(enum.Enum):
    """What the values of an output depend on."""

    NOTHING = enum.auto()
    # The length, as a dim does.
    LENGTH = enum.auto()
    # Where they stand alone: those of a range, and a mask made of two.
    PLACE = enum.auto()
    # The arguments; a position on itself and those before.
    DATA = enum.auto()


class _LooksAtLength(Exception):
    """Values depend on the length, and on others."""


def are_prefixes(outputs, parameters):
    """Whether what is cut from arguments is no more than cut from outputs.

    Args:
        outputs: a list of `openvino.Output`, of a function of which no position
            depends on the arguments' later ones.
        parameters: a list of the `openvino.Output` of its Parameters.
    """
    model = ov.Model(outputs, [x.get_node() for x in parameters])
    kinds = {}
    try:
        for node in model.get_ordered_ops():
            kind = _kind(node, [kinds[_port(x)] for x in node.input_values()])
            for output in node.outputs():
                is_one = len(output.get_partial_shape()) == 0
                is_alike = kind is _Kind.PLACE and is_one
                kinds[_port(output)] = _Kind.NOTHING if is_alike else kind
    except _LooksAtLength:
        return False
    return all(kinds[_port(x)] is not _Kind.LENGTH for x in outputs)


def _port(output):
    return output.get_node().get_name(), output.get_index()


def _kind(node, kinds):
    """The `_Kind` of a node, from those of its inputs."""
    type = node.get_type_name()
    if type in _SOURCES:
        return _SOURCES[type]
    if list(rewriting.own_bodies(node)):
        raise _LooksAtLength
    sizes = _SIZES.get(type, ())
    values = {kind for port, kind in enumerate(kinds) if port not in sizes}
    has_length = any(kinds[port] is _Kind.LENGTH for port in sizes)
    if _Kind.LENGTH in values:
        if values & {_Kind.PLACE, _Kind.DATA}:
            raise _LooksAtLength
        return _Kind.LENGTH
    if _Kind.DATA in values:
        return _Kind.DATA
    if _Kind.PLACE in values and not _keeps_places(node):
        raise _LooksAtLength
    is_place = has_length or _Kind.PLACE in values
    return _Kind.PLACE if is_place else _Kind.NOTHING


def _keeps_places(node):
    """Whether each value depends on others of the same place alone."""
    type = node.get_type_name()
    return type in _EACH or type in _ALONG and _ALONG[type](node)


def _concat(node):
    axis = node.get_attributes()["axis"]
    return all(x.get_partial_shape()[axis].is_static for x in node.inputs())


def _cum_sum(node):
    """From the front."""
    return not node.get_attributes()["reverse"]


def _gather(node):
    """Rows that are counted from the front."""
    indices = rewriting.integers(node.input_value(1))
    return indices is None or all(i >= 0 for i in indices)


def _mat_mul(node):
    axis = -2 if node.get_attributes()["transpose_a"] else -1
    shape = node.get_input_partial_shape(0)
    return shape[len(shape) + axis].is_static


def _reduce(node):
    axes = rewriting.integers(node.input_value(1))
    shape = node.get_input_partial_shape(0)
    return axes is not None and all(shape[axis].is_static for axis in axes)


def _slice(node):
    """Rows that are counted from the front, from some known one on."""
    starts = rewriting.integers(node.input_value(1))
    steps = rewriting.integers(node.input_value(3))
    is_known = starts is not None and steps is not None
    return is_known and min(starts) >= 0 and min(steps) > 0


_SOURCES = {
    "Parameter": _Kind.DATA,
    "Constant": _Kind.NOTHING,
    "ShapeOf": _Kind.LENGTH,
}

# The inputs that say how many values there are.
_SIZES = {
    "Broadcast": (1,),
    "Range": (1,),
    "Reshape": (1,),
    "Slice": (2,),
    "Tile": (1,),
}

_EACH = frozenset(
    "Abs Add BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr "
    "BitwiseRightShift BitwiseXor Broadcast Ceiling Clamp Convert Cos Divide "
    "Equal Exp Floor FloorMod Greater GreaterEqual Less LessEqual Log "
    "LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Multiply Negative "
    "NotEqual Power Range Reshape Result Select Sin Sqrt Squeeze Subtract Tile "
    "Transpose Unsqueeze".split()
)

# Those that move or sum values along an axis.
_ALONG = {
    "Concat": _concat,
    "CumSum": _cum_sum,
    "Gather": _gather,
    "MatMul": _mat_mul,
    "ReduceLogicalAnd": _reduce,
    "ReduceLogicalOr": _reduce,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceSum": _reduce,
    "Slice": _slice,
}
