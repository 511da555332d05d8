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
        self._count = len(loop.initial)
        self._constant = len(step.captured)
        self._before = device.compile_model(
            [
                loop.trips,
                loop.condition,
                *loop.initial,
                *[outer for outer, _ in step.captured],
                *[outer for outer, _ in later],
            ],
            parameters,
            target,
        )
        self._step = self._caches.compile(step, target)
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
        trips, proceed, *values = self._before(arrays)
        values, others = values[: self._count], values[self._count :]
        constant, later = others[: self._constant], others[self._constant :]
        filled = self._caches.of(values)
        values = self._caches.others(values)
        trips = int(trips)
        listener = getattr(_listeners, "listener", None)
        if proceed and trips:
            with self._step.session() as session:
                step = self._caches.begin(session, filled, values, constant)
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

    def begin(self, session, filled, values, constant):
        """Fills the caches; returns the function of a step.

        Args:
            session: a `Session` of the model of a step.
            filled: the caches as a whole, of which the first positions count.
            values, constant: what else the first step gets.
        """
        length = int(self._first([*values, *constant])[0])
        limit = filled[0].shape[self._axes[0]]
        if length < 0:
            raise InferenceError(f"The loop updates position {length} first.")
        rows = [
            np.ascontiguousarray(x[(slice(None),) * axis + (slice(length),)])
            for x, axis in zip(filled, self._axes)
        ]
        session.set_states(dict(zip(self._names, rows)))
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
