"""A function with a loop as compiled models: before it, a step, after it.

A `Loop` of OpenVINO copies all that it hands on in each step. Here a step is a
call of a compiled model, and what a decoder caches stays there as its state.
"""

import contextlib
import itertools
import threading
import typing

import numpy as np
import openvino as ov

from keras.src.backend.openvino import caches
from keras.src.backend.openvino import device
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.attention import fuse_attention
from keras.src.backend.openvino.executable import InferenceError
from keras.src.backend.openvino.fusions import keep_activations_apart
from keras.src.backend.openvino.lengths import are_prefixes

# Who is told of the values of a loop on this thread.
_listeners = threading.local()


@contextlib.contextmanager
def heard_by(listener):
    """Calls `listener` after each step of a loop on this thread.

    Args:
        listener: is given a list of the `numpy.ndarray` of each value that is
            no cache. What it raises ends the loop.
    """
    _listeners.listener = listener
    try:
        yield
    finally:
        del _listeners.listener


class Loop(typing.NamedTuple):
    """A loop that is traced, and no part of a graph.

    Attributes:
        trips, condition: the `openvino.Output` of how many steps there are at
            most (-1: any number), and of whether there is a first one.
        initial: a list of the `openvino.Output` of each value it begins with.
        step: a `Step`.
        final: a list of the `openvino.Output` of Parameters that stand for
            what it ends with, in what follows.
    """

    trips: typing.Any
    condition: typing.Any
    initial: list
    step: "Step"
    final: list


class Step(typing.NamedTuple):
    """The graph of a step of a loop.

    Attributes:
        parameters: a list of the `openvino.Output` of the Parameters of the
            values that it begins with.
        condition: whether another step follows.
        results: a list of the `openvino.Output` of each new value.
        captured: a list of `(outer output, parameter)`.
        growths: a list of the `caches.Growth` in it.
    """

    parameters: list
    condition: typing.Any
    results: list
    captured: list
    growths: list


def are_of_use(loop, results):
    """Whether the caches of a `Loop` grow, and nothing that follows takes them.

    That would need them as a whole. Without such caches a loop takes no longer
    in the model.
    """
    wholes = [growth.whole for growth in loop.step.growths]
    places = rewriting.places(wholes, loop.step.parameters)
    final = [loop.final[place] for place in places]
    return bool(wholes) and not rewriting.used(final, results)


class Stages:
    """A traced function with a loop, as a function of arrays.

    It has the methods and attributes of an `Executable`, but that a call
    cannot be started.

    Args:
        trace: the `graph.Trace`, which has met a loop.
        results, parameters: lists of the `openvino.Output` of the function's
            results and Parameters.
        target: a `settings.Target`.
    """

    def __init__(self, trace, results, parameters, target):
        loop, step = trace.loop, trace.loop.step
        results, later = rewriting.captured(
            trace.innermost.nodes.values(), loop.final, results
        )
        trace.forget()
        self._caches = _Caches(step, target)
        self._constant = len(step.captured)
        first = [
            loop.trips,
            loop.condition,
            *self._caches.others(loop.initial),
            *[outer for outer, _ in step.captured],
            *[outer for outer, _ in later],
        ]
        filled = self._caches.of(loop.initial)
        is_cut = list(map(_has_positions, parameters))
        if trace.is_causal is not True:
            pairs = itertools.zip_longest(is_cut, trace.is_causal)
            is_cut = [all(pair) for pair in pairs]
        prompt = _Prompt.of(first, filled, parameters, is_cut)
        if prompt is not None:
            filled = []
        self._before = device.compile_model(
            [*first, *filled], parameters, target
        )
        self._counts = len(first), len(loop.initial) - len(step.growths)
        self._step = self._caches.compile(step, prompt, target)
        self._after = device.compile_model(
            results,
            [*self._caches.others(loop.final), *[inner for _, inner in later]],
            target,
        )
        trace.operations.seal()
        self._kept = trace.operations
        self._parts = self._before, self._step, self._after
        self.nbytes = max(part.nbytes for part in self._parts)
        self.at_once = 1

    def __call__(self, arrays):
        results = self._before(arrays)
        first, count = self._counts
        (trips, proceed, *values), filled = results[:first], results[first:]
        values, others = values[:count], values[count:]
        constant, later = others[: self._constant], others[self._constant :]
        trips = int(trips)
        listener = getattr(_listeners, "listener", None)
        if proceed and trips:
            length = self._caches.length(values, constant)
            with self._step.session() as session:
                step = self._caches.begin(session, arrays, filled, length)
                del results, filled
                while proceed and trips:
                    proceed, *values = step([*values, *constant])
                    trips -= 1
                    if listener is not None:
                        listener(values)
        return self._after([*values, *later])

    def is_busy(self):
        return self._step.is_busy()

    def release_memory(self):
        for part in self._parts:
            part.release_memory()


class _Prompt:
    """What fills the caches, as a part of the model of a step.

    The first step takes it. The CPU plugin keeps what it makes of weights once
    for a model: so the products of the prompt and of a step share it. Where it
    can be, it is computed from no more positions of the function's arguments
    than the caches are to hold.

    Args:
        filled: a list of the `openvino.Output` of each cache.
        parameters: a list of that of the Parameters.
        is_cut: a list of whether each has a position for each of the caches.

    Attributes:
        outputs: the `openvino.Output`s whose graph this is.
    """

    @classmethod
    def of(cls, values, filled, parameters, is_cut):
        """A `_Prompt` where there is little work for `values`, else `None`."""
        is_alone = any(is_cut) and not _has_products(values)
        return cls(filled, parameters, is_cut) if is_alone else None

    def __init__(self, filled, parameters, is_cut):
        model = _cloned(filled, parameters)
        self.outputs = [x.input_value(0) for x in model.get_results()]
        self._parameters = [x.output(0) for x in model.get_parameters()]
        self._is_cut = is_cut
        self._are_prefixes = are_prefixes(filled, parameters)
        self._longest = 0

    def within(self, axes):
        """The caches as they are in the first step, in the graph of a step.

        Args:
            axes: the axis of positions of each.

        Returns:
            The `openvino.Output` of how many rows and positions they were
            computed with, zeros in later steps, and those of each; and a list
            of those of the Parameters that this needs.
        """
        outer = [rewriting.parameter_like(x) for x in self._parameters]
        count, inner = (graph.parameter("int32", ()) for _ in range(2))
        filled = [
            _first_positions(x, inner, axis)
            for x, axis in zip(self.outputs, axes)
        ]
        filled = [_dims(self.outputs[0], [0, axes[0]]), *filled]
        zero = rewriting.constant_like(0, count)
        is_first = graph.node("GreaterEqual", [count, zero], {}).output(0)
        node = ov.opset16.if_op(is_first)
        parameters = [x.get_node() for x in (*self._parameters, inner)]
        bodies = (
            ov.Model(filled, parameters),
            ov.Model(list(map(_any_like, filled)), []),
        )
        node.set_then_body(bodies[0])
        node.set_else_body(bodies[1])
        for x, parameter in zip([*outer, count], parameters):
            node.set_input(x, parameter, None)
        results = zip(*(body.get_results() for body in bodies))
        size, *filled = [node.set_output(*pair) for pair in results]
        return size, filled, [*outer, count]

    def inputs(self, arrays, length):
        """What each step gets for these Parameters.

        Args:
            arrays: the function's arguments.
            length: how many positions the caches are to have.

        Returns:
            How many rows and positions the arguments have, and an iterator of
            the lists of arrays.
        """
        size = self._size(arrays)

        def cut(count):
            pairs = zip(arrays, self._is_cut)
            return [x[:, :count] if is_cut else x for x, is_cut in pairs]

        def given():
            # What takes no arguments so long is to fail for their first
            # positions too.
            is_known = self._are_prefixes and size[1] <= self._longest
            # The CPU plugin does not take arrays of no elements.
            first = cut(max(length, 1)) if is_known else arrays
            yield [*first, np.array(length, np.int32)]
            yield from itertools.repeat([*cut(1), np.array(-1, np.int32)])

        return size, given()

    def check(self, size, inputs):
        """Refuses caches of other sizes than the arguments.

        Args:
            size: how many rows and positions a step found, if it is the first.
            inputs: what it was given.
        """
        *arrays, count = inputs
        if count < 0:
            return
        expected = self._size(arrays)
        if tuple(size) != expected:
            raise InferenceError(
                f"The loop begins with caches of {size} rows and positions, "
                f"where arguments have {expected}."
            )
        self._longest = max(expected[1], self._longest)

    def _size(self, arrays):
        """How many rows and positions arguments have."""
        pairs = zip(arrays, self._is_cut)
        return min(x.shape[:2] for x, is_cut in pairs if is_cut)


def _first_positions(x, count, axis):
    """The first positions of a cache; `count` is a 0-d output."""
    zero, one, axis = (rewriting.integer_constant([n]) for n in (0, 1, axis))
    count = rewriting.reshaped(count, [1])
    count = graph.plain_cast(count, "int64")
    return graph.node("Slice", [x, zero, count, one, axis], {}).output(0)


def _dims(x, axes):
    """Some dims of an output, as a 1-d output."""
    shape = graph.node("ShapeOf", [x], {"output_type": "i32"}).output(0)
    axes, axis = map(rewriting.integer_constant, (axes, 0))
    return graph.node("Gather", [shape, axes, axis], {}).output(0)


def _any_like(output):
    """A Constant of a shape that an output may have."""
    dims = [dim.get_min_length() or 1 for dim in output.get_partial_shape()]
    return rewriting.constant_like(np.zeros(dims), output)


def _has_products(outputs):
    nodes = rewriting.ancestors(outputs).values()
    return any(node.get_type_name() == "MatMul" for node in nodes)


def _has_positions(parameter):
    """Whether the second dim of an argument, that of positions, is open."""
    shape = parameter.get_partial_shape()
    return len(shape) > 1 and shape[1].is_dynamic


class _Caches:
    """The caches of a step that are states of its model.

    Args:
        step: a `Step`.
        target: a `settings.Target`.
    """

    def __init__(self, step, target):
        self._places = rewriting.places(
            [growth.whole for growth in step.growths], step.parameters
        )
        self._axes = [growth.axis for growth in step.growths]
        self._starts = rewriting.distinct(
            [growth.start for growth in step.growths]
        )
        self._first = _compile_alone(
            self._starts,
            [*self.others(step.parameters), *[x for _, x in step.captured]],
            target,
        )

    def of(self, values):
        """The caches among the values of all carries."""
        return [values[place] for place in self._places]

    def others(self, values):
        """Those of the values of all carries that are no cache."""
        places = set(self._places)
        return [x for i, x in enumerate(values) if i not in places]

    def compile(self, step, prompt, target):
        """The model of a step, and of a `_Prompt` unless it is `None`."""
        fuse_attention(step.growths)
        if target.device == "CPU":
            keep_activations_apart([step.condition, *step.results])
            if prompt is not None:
                # So that products take weights in the same order as a step's.
                keep_activations_apart(prompt.outputs)
            # Its default is a precision below that of the model.
            target = target.with_default("KV_CACHE_PRECISION", "f32")
        sizes, filled, inputs = [], [], []
        if prompt is not None:
            size, filled, inputs = prompt.within(self._axes)
            sizes = [size]
        states = caches.kept(step.growths, filled)
        self._prompt = prompt
        self._names = states.names
        return device.compile_model(
            [
                step.condition,
                *self.others(step.results),
                *self._starts,
                *sizes,
            ],
            [
                *self.others(step.parameters),
                *[inner for _, inner in step.captured],
                states.beams,
                *inputs,
            ],
            target,
            sinks=states.sinks,
        )

    def length(self, values, constant):
        """How many positions the caches are to have before the first step.

        Args:
            values, constant: what else the first step gets.
        """
        length = int(self._first([*values, *constant])[0])
        if length < 0:
            raise InferenceError(f"The loop updates position {length} first.")
        return length

    def begin(self, session, arrays, filled, length):
        """Fills the caches; returns the function of a step.

        Args:
            session: a `Session` of the model of a step.
            arrays: the arguments of the function.
            filled: the caches, where there is no `_Prompt`.
            length: how many positions of them there are.
        """
        if self._prompt is None:
            rows, limit = self._set_states(session, filled, length)
            given = itertools.repeat([])
        else:
            (rows, limit), given = self._prompt.inputs(arrays, length)
        beams = np.arange(rows, dtype=np.int32)
        lengths = itertools.count(length)
        count = len(self._starts)

        def step(values):
            inputs = next(given)
            results = session([*values, beams, *inputs])
            position = next(lengths)
            if self._prompt is not None:
                self._prompt.check(results.pop(), inputs)
            starts = results[-count:]
            if position >= limit or any(start != position for start in starts):
                raise InferenceError(
                    "The loop does not fill its caches one position after "
                    f"another: it updates {starts} where there are {position} "
                    f"of {limit}."
                )
            return results[:-count]

        return step

    def _set_states(self, session, filled, length):
        """Gives a `Session` the first positions of the caches.

        Returns:
            The size of the batch, and how many positions there may be.
        """
        rows = [
            np.ascontiguousarray(x[(slice(None),) * axis + (slice(length),)])
            for x, axis in zip(filled, self._axes)
        ]
        session.set_states(dict(zip(self._names, rows)))
        return len(rows[0]), filled[0].shape[self._axes[0]]


def _compile_alone(outputs, inputs, target):
    """Compiles a graph of which parts belong to others that are compiled."""
    model = _cloned(outputs, inputs)
    return device.compile_model(
        [result.input_value(0) for result in model.get_results()],
        [parameter.output(0) for parameter in model.get_parameters()],
        target,
    )


def _cloned(outputs, inputs):
    """A copy of a graph, as an `openvino.Model`."""
    return ov.Model(outputs, [x.get_node() for x in inputs]).clone()
