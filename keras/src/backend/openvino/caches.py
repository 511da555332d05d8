"""Caches of keys and values in a loop that is kept out of the graph.

A decoder hands all its keys and values from step to step as one tensor, stacked
from those of each layer, of the full length, and updates one position in each
step. Here the parts of the stack are handed on one by one (`Stack`), and those
that are updated so hold no more than the positions that are there: a step adds
one at the end (`Growth`), which is right where it does not look beyond.
"""

import typing

import numpy as np
import openvino as ov

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import symbolic_of


class Stack(typing.NamedTuple):
    """A tensor that is stacked from others.

    Attributes:
        axis: the axis along which they are stacked.
        parts: a list of what they are: each a `Stack` or an
            `openvino.Output`.
    """

    axis: int
    parts: list

    def map(self, function):
        """A `Stack` like this, of what `function` makes of each output."""
        return Stack(self.axis, [mapped(function, x) for x in self.parts])


def mapped(function, stack):
    """`Stack.map`, also of an output alone."""
    if isinstance(stack, Stack):
        return stack.map(function)
    return function(stack)


def flat(stack):
    """The outputs in a `Stack`, or an output alone, as a list."""
    if isinstance(stack, Stack):
        return [x for part in stack.parts for x in flat(part)]
    return [stack]


def taken_apart(output):
    """The `Stack` that an `openvino.Output` is made of, or the output."""
    axis, rows = rewriting.stacked(output)
    return Stack(axis, list(map(taken_apart, rows))) if rows else output


def places_of_parts(stacks):
    """The places of the parts of stacks among all parts, and outputs alone."""
    are_stacked = [isinstance(s, Stack) for s in stacks for _ in flat(s)]
    return {i for i, is_stacked in enumerate(are_stacked) if is_stacked}


def joined(stack):
    """The tensor of a `Stack`, or of an output."""
    if not isinstance(stack, Stack):
        return OpenVINOKerasTensor(stack)
    rows = [apply("Unsqueeze", joined(x), stack.axis) for x in stack.parts]
    return apply("Concat", *rows, axis=stack.axis)


def parts_like(stack, output):
    """The outputs that an `openvino.Output` stacks as another one does.

    Args:
        stack: a `Stack`, or an `openvino.Output`.
        output: an `openvino.Output` of the shape that it stands for.
    """
    if not isinstance(stack, Stack):
        return [output]
    axis, rows = rewriting.stacked(output)
    count = len(stack.parts)
    if axis != stack.axis or len(rows) != count:
        x = OpenVINOKerasTensor(output)
        rows = [apply("Gather", x, i, stack.axis).output for i in range(count)]
    return [
        part
        for like, row in zip(stack.parts, rows)
        for part in parts_like(like, row)
    ]


class Growth(typing.NamedTuple):
    """What a step makes longer by one position.

    Attributes:
        whole: the `openvino.Output` of the Parameter that stands for it, of
            the length after the step, wherever its shape is asked for.
        past: that of the Parameter with the positions before.
        result: past and new position.
        axis: the axis of positions.
        start: the position that is updated, a 0-d output.
    """

    whole: typing.Any
    past: typing.Any
    result: typing.Any
    axis: int
    start: typing.Any


class Growing:
    """What is updated a position at a time while a step is traced.

    Args:
        wholes: an iterable of the `openvino.Output` of Parameters that may be.

    Attributes:
        found: a list of `Growth`.
    """

    def __init__(self, wholes):
        self._wholes = {_name(x): x for x in wholes}
        self.found = []

    def appended(self, x, starts, updates):
        """What `slice_update` gives, or `None` where it is no such update."""
        whole = self._wholes.get(_name(x.output)) if is_symbolic(x) else None
        if whole is None or x.ndim != updates.ndim or len(starts) != x.ndim:
            return None
        if x.dtype not in ("float32", "bfloat16"):
            return None  # the CPU plugin cannot set a state of float16
        moved = [i for i, start in enumerate(starts) if not _is_zero(start)]
        if len(moved) != 1 or not _is_one_position(x, updates, moved[0]):
            return None
        (axis,) = moved
        past = rewriting.parameter_like(x.output)
        graph.current_trace().innermost.add(past.get_node())
        result = apply("Concat", symbolic_of(x.dtype, past), updates, axis=axis)
        start = cast(convert_to_tensor(starts[axis]), "int32").output
        del self._wholes[_name(whole)]
        self.found.append(Growth(whole, past, result.output, axis, start))
        return result


def fixed_of(step):
    """The places of the parameters that a step does not only add to.

    Args:
        step: a `stages.Step`.
    """
    places = {_name(x): i for i, x in enumerate(step.parameters)}
    starts = [growth.start for growth in step.growths]
    takers = _takers([*step.results, step.condition, *starts])
    fixed = set()
    for growth in step.growths:
        place = places[_name(growth.whole)]
        others = takers.get(_name(growth.whole), set()) - {"ShapeOf"}
        if others or _name(step.results[place]) != _name(growth.result):
            fixed.add(place)
    return fixed


def _takers(outputs):
    """For each node that outputs depend on, the types of those that take it."""
    takers, stack = {}, [x.get_node() for x in outputs]
    done = {node.get_name() for node in stack}
    while stack:
        node = stack.pop()
        for source in node.input_values():
            name = _name(source)
            takers.setdefault(name, set()).add(node.get_type_name())
            if name not in done:
                done.add(name)
                stack.append(source.get_node())
    return takers


def _name(output):
    return output.get_node().get_name()


def _is_zero(start):
    return not is_symbolic(start) and int(start) == 0


def _is_one_position(x, updates, axis):
    """Whether updates are one position of all that `x` has.

    A batch that nobody knows is the same: others would not be joined.
    """
    dims = zip(x.output.partial_shape, updates.output.partial_shape)
    return all(
        old.is_dynamic and new == 1
        if i == axis
        else new == old or new.is_dynamic
        for i, (old, new) in enumerate(dims)
    )


def appended(x, starts, updates):
    """What `slice_update` gives where a cache in a step is updated, or `None`.

    Args:
        x: a tensor.
        starts: a sequence of integers or 0-d tensors, or a 1-d tensor.
        updates: a tensor of the dtype of `x`.
    """
    trace = graph.current_trace()
    growing = trace and trace.growing
    if not growing or not isinstance(starts, (list, tuple)):
        return None
    return growing.appended(x, starts, updates)


class States(typing.NamedTuple):
    """What a model keeps from step to step in place of what grows.

    Attributes:
        names: a list of the name of each state.
        beams: the `openvino.Output` of a Parameter: for each row of the batch
            the row of the states that it continues.
        sinks: a list of the nodes that assign the states.
    """

    names: list
    beams: typing.Any
    sinks: list


def kept(growths, initial=()):
    """Makes what grows in the graph of a step a state of the model.

    The CPU plugin fuses the nodes that read, reorder and assign it with the
    attention behind them, which then copies nothing.

    Args:
        growths: a list of `Growth`.
        initial: the `openvino.Output` of what each state is in the first
            step; where there are none, it has no positions.

    Returns:
        The `States`.
    """
    beams = graph.parameter("int32", (None,))
    names, sinks, shapes = [], [], {}
    initial = initial or [_nothing(growth, beams) for growth in growths]
    for index, (growth, first) in enumerate(zip(growths, initial)):
        name = f"cache{index}"
        read, sink = _state(name, growth, beams, first)
        names.append(name)
        sinks.append(sink)
        # One for all that know the same dims: they grow together.
        kind = growth.past.get_partial_shape().to_string(), growth.axis
        if kind not in shapes:
            shapes[kind] = _grown_shape(read, growth.axis)
        # Of what is fused with the attention, nobody may ask for the shape.
        for node in _shapes_of(growth.whole) + _shapes_of(growth.result):
            type = {"destination_type": node.get_element_type().to_string()}
            shape = graph.node("Convert", [shapes[kind]], type)
            rewriting.rewire(node, shape.output(0))
    return States(names, beams, sinks)


def _state(name, growth, beams, first):
    """What reads a state, and the node that assigns it."""
    info = ov.op.util.VariableInfo()
    info.variable_id = name
    info.data_type = growth.past.get_element_type()
    info.data_shape = growth.past.get_partial_shape()
    variable = ov.op.util.Variable(info)
    read = ov.op.read_value(first, variable).output(0)
    axis = graph.constant(np.array(0, np.int32))
    rows = graph.node("Gather", [read, beams, axis], {"batch_dims": 0})
    rewriting.rewire(growth.past.get_node(), rows.output(0))
    return read, ov.op.assign(growth.result.get_node(), variable)


def _nothing(growth, beams):
    """A cache with no positions, of which a state begins by itself."""
    dims = [dim.get_min_length() for dim in growth.past.get_partial_shape()]
    dims[growth.axis] = 0
    batch = graph.node("ShapeOf", [beams], {"output_type": "i32"}).output(0)
    rest = graph.constant(np.array(dims[1:], np.int32))
    shape = graph.node("Concat", [batch, rest], {"axis": 0}).output(0)
    zero = rewriting.constant_like(0, growth.past)
    return graph.node("Broadcast", [zero, shape], {"mode": "numpy"}).output(0)


def _grown_shape(read, axis):
    """The shape of a cache with one position more."""
    shape = graph.node("ShapeOf", [read], {"output_type": "i32"}).output(0)
    one = np.zeros(len(read.get_partial_shape()), np.int32)
    one[axis] = 1
    return graph.node("Add", [shape, graph.constant(one)], {}).output(0)


def _shapes_of(output):
    return rewriting.takers(output, "ShapeOf")
