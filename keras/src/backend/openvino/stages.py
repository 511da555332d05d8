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
        self._count = len(loop.initial) - len(step.growths)
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
        self._before = _Before(
            first, filled, self._caches, parameters, is_cut, target
        )
        self._step = self._caches.compile(step, target)
        self._after = device.compile_model(
            results,
            [*self._caches.others(loop.final), *[inner for _, inner in later]],
            target,
        )
        trace.operations.seal()
        self._kept = trace.operations
        self._parts = *self._before.parts, self._step, self._after
        self.nbytes = max(part.nbytes for part in self._parts)
        self.at_once = 1

    def __call__(self, arrays):
        (trips, proceed, *values), filled = self._before(arrays)
        values, others = values[: self._count], values[self._count :]
        constant, later = others[: self._constant], others[self._constant :]
        trips = int(trips)
        listener = getattr(_listeners, "listener", None)
        if proceed and trips:
            length = self._caches.length(values, constant)
            filled, limit = filled(length)
            with self._step.session() as session:
                step = self._caches.begin(session, filled, length, limit)
                del filled
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


class _Before:
    """The models of what is there before a loop.

    Where they can be, the caches are computed by a model of their own, from no
    more positions of the arguments than the caches are to hold. That is of use
    where all the work is in it.

    Args:
        values: a list of `openvino.Output`.
        filled: those of the caches.
        caches: the `_Caches`.
        parameters: a list of the `openvino.Output` of the Parameters.
        is_cut: a list of whether each may be cut to its first positions.
        target: a `settings.Target`.

    Attributes:
        parts: a tuple of the `Executable`s.
    """

    def __init__(self, values, filled, caches, parameters, is_cut, target):
        self._caches = caches
        self._count = len(values)
        self._fill = None
        self._is_cut = is_cut
        self._longest = 0
        if (
            any(is_cut)
            and not _has_products(values)
            and are_prefixes(filled, parameters)
        ):
            self._fill = _compile_alone(filled, parameters, target)
            filled = []
        self._values = device.compile_model(
            [*values, *filled], parameters, target
        )
        self.parts = (self._values, self._fill)[: 1 + bool(self._fill)]

    def __call__(self, arrays):
        """What there is before the loop.

        Args:
            arrays: the function's arguments.

        Returns:
            A list of the values, and a function from the length that caches
            are to have to a list of them, and how long they may become.
        """
        results = self._values(arrays)
        values, filled = results[: self._count], results[self._count :]
        return values, lambda length: self._filled(arrays, filled, length)

    def _filled(self, arrays, filled, length):
        if self._fill is None:
            return self._caches.cut(filled, length)
        pairs = list(zip(arrays, self._is_cut))
        limit = min(x.shape[1] for x, is_cut in pairs if is_cut)
        if limit > self._longest:
            # What takes no arguments so long is to fail for their first
            # positions too.
            filled = self._fill(arrays)
            self._longest = limit
            return self._caches.cut(filled, length)
        # The CPU plugin does not take arrays of no elements.
        count = max(length, 1)
        cut = [x[:, :count] if is_cut else x for x, is_cut in pairs]
        return self._caches.cut(self._fill(cut), length)[0], limit


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

    def compile(self, step, target):
        fuse_attention(step.growths)
        states = caches.kept(step.growths)
        self._names = states.names
        if target.device == "CPU":
            keep_activations_apart([step.condition, *step.results])
            # Its default is a precision below that of the model.
            target = target.with_default("KV_CACHE_PRECISION", "f32")
        return device.compile_model(
            [step.condition, *self.others(step.results), *self._starts],
            [
                *self.others(step.parameters),
                *[inner for _, inner in step.captured],
                states.beams,
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

    def cut(self, filled, length):
        """The first positions of the caches, and how many they have."""
        rows = [
            np.ascontiguousarray(x[(slice(None),) * axis + (slice(length),)])
            for x, axis in zip(filled, self._axes)
        ]
        return rows, filled[0].shape[self._axes[0]]

    def begin(self, session, filled, length, limit):
        """Fills the caches; returns the function of a step.

        Args:
            session: a `Session` of the model of a step.
            filled: the caches with their first positions.
            length: how many these are.
            limit: how many there may be.
        """
        session.set_states(dict(zip(self._names, filled)))
        beams = np.arange(len(filled[0]), dtype=np.int32)
        lengths = itertools.count(length)
        count = len(self._starts)

        def step(arrays):
            results = session([*arrays, beams])
            length = next(lengths)
            starts = results[-count:]
            if length >= limit or any(start != length for start in starts):
                raise InferenceError(
                    "The loop does not fill its caches one position after "
                    f"another: it updates {starts} where there are {length} "
                    f"of {limit}."
                )
            return results[:-count]

        return step


def _compile_alone(outputs, inputs, target):
    """Compiles a graph of which parts belong to others that are compiled."""
    parameters = [x.get_node() for x in inputs]
    model = ov.Model(outputs, parameters).clone()
    return device.compile_model(
        [result.input_value(0) for result in model.get_results()],
        [parameter.output(0) for parameter in model.get_parameters()],
        target,
    )
