"""`jit`: a Python function of tensors as one compiled model."""

import ast
import contextlib
import copy
import functools
import itertools
import math
import threading
import typing
import weakref

import numpy as np
import optree

from keras.src import tree
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.openvino import device
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import recording
from keras.src.backend.openvino import stages
from keras.src.backend.openvino import storage
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.dtypes import NUMPY_NAMES
from keras.src.backend.openvino.dtypes import from_pairs
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.dtypes import own_array
from keras.src.backend.openvino.executable import InferenceError
from keras.src.backend.openvino.settings import LATENCY
from keras.src.backend.openvino.settings import THROUGHPUT
from keras.src.backend.openvino.settings import Target
from keras.src.backend.openvino.settings import current_target
from keras.src.backend.openvino.specialise import Variants
from keras.src.backend.openvino.specialise import naming_unknown_dims
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import alias
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.tensor import value_of

# The compiled models of one `jit` that are kept. One for a small model takes 1
# to 3 MB.
MAX_VARIANTS = 32
MAX_BYTES = 2**30

# Those that are kept of arguments that a model with open dims fails for.
MAX_RETRIED = 4

# So many shapes a function has models of its own for, where it is to.
MAX_STATIC = 4

# A variable that a function was compiled anew for so many times is an input of
# the next model. Weights that are an input cost up to a fifth of the time.
MAX_RECOMPILED = 1

# So many calls that meet others at work, and a function is compiled for many
# calls at once. One that meets none from beginning to end undoes that.
CROWD = 16

# Held while several variables are assigned as one change, and while a function
# that reads them is compiled.
assigning = threading.RLock()

# By the ids of variables, what a compiled function that assigns one holds from
# when it reads it to when it assigns it. Functions may share variables.
_updating = weakref.WeakValueDictionary()

# Assignments are numbered, whatever the variable; `_latest[0]` is the number
# of the last one, so that "nothing was assigned" is one comparison.
_numbers = itertools.count(1)
_latest = [0]


def note_assignment(variable):
    """Tells compiled functions that `variable` has a new value."""
    variable.version = next(_numbers)
    _latest[0] = variable.version


def note_read(variable):
    """Tells the function that is being traced, and tapes, of a read."""
    trace = graph.current_trace()
    if isinstance(trace, _FunctionTrace):
        trace.reads.setdefault(id(variable), (variable, variable.version))
    if recording.state.recorders and variable.trainable:
        recording.tell_read(variable)


class jit:
    """Runs a function of (nested) tensors as one compiled model.

    The function is traced once for each structure, dtypes and shapes of its
    arguments, where the first dim is dynamic, and so are the dims that
    `specs` leave open: layers may choose what they do by a dim they know.
    Variables that the function reads become Constants that share their memory,
    and the function is traced anew after they are assigned; those that are
    assigned again and again become inputs of the model. Variables that the
    function itself assigns become inputs and outputs and are assigned after
    each call.

    Where a tape records, and in a `StatelessScope`, which says what variables
    are, the function itself is called.

    The compiled models that were used last are kept, `MAX_VARIANTS` of them
    whose constants take `MAX_BYTES`, or the last one alone.

    Args:
        function: takes and returns nested structures of tensors. Anything
            else in its arguments (`None`, Python scalars, strings) is fixed
            at the trace and must be hashable.
        specs: shapes of the first tensors among the arguments, in order, with
            `None` for the dims that are dynamic.
        is_causal: whether the function is a decoder, of which no position of
            a sequence depends on later ones: neither of what a loop caches,
            nor of arguments (batch, positions). For some of the arguments
            alone, a list of a bool for each array among them. A loop that
            fills its caches is kept out of the model then: each step is a call
            of one, see `stages`.
        is_static: whether to compile a model of known dims for each of the
            first shapes that come.
        varying: variables that are known to be assigned again and again.
    """

    def __init__(
        self,
        function,
        specs=(),
        is_causal=False,
        is_static=False,
        varying=(),
    ):
        self._function = function
        self._is_causal = is_causal
        self._specs = specs
        self._is_static = is_static
        self._varying = _Varying(varying)
        # One lock for all: a function may assign, or call others.
        self._variants = Variants(MAX_VARIANTS, MAX_BYTES, assigning)
        # Those without open dims, of arguments that others fail for.
        self._retried = Variants(MAX_RETRIED, MAX_BYTES, assigning)
        self._last = None, None  # the last call, and the variant for it
        self._hint = LATENCY
        self._calls = 0
        self._crowd = 0
        self._assigns = False  # whether a variant was found to

    def __call__(self, *args):
        if recording.state.recorders:
            # A compiled model has no derivative; what it computes has.
            return self._function(*args)
        if in_stateless_scope():
            return self._run_in_scope(args)
        call = _call_of(args, self._hint)
        variant = self._variant(call)
        is_met = variant.is_busy()
        self._calls = number = self._calls + 1
        try:
            return variant(call.arrays)
        except InferenceError:
            if not variant.is_open:
                raise
        finally:
            self._note_crowd(is_met or self._calls != number)
        # With dims that are known the function itself says what is wrong.
        variant = self._retried.get(*self._graph(call), lambda shapes: [shapes])
        return variant(call.arrays)

    def start(self, *args, hint=LATENCY):
        """Starts a call, and returns at once.

        A function that assigns variables is called when the result is asked
        for, because the calls before may not have assigned theirs. So is one
        whose variables were assigned since, or that fails.

        Args:
            *args: those of a call; nobody may write into the arrays among them
                until the result is there.
            hint: `settings.THROUGHPUT` where many calls are started before the
                first result is asked for.

        Returns:
            A `Started`.
        """
        call = functools.partial(self, *args)
        if recording.state.recorders or in_stateless_scope():
            return Started(call)
        try:
            found = _call_of(args, hint)
            variant = self._variant(found)
            if variant.assigns:
                return Started(call)
            wait = variant.start(found.arrays)
        except Exception:  # raised again where the result is asked for
            return Started(call)
        return Started(call, wait, variant.at_once)

    def _note_crowd(self, is_met):
        """Chooses what calls are compiled for, by whether they meet others."""
        if is_met:
            self._crowd = min(self._crowd + 1, CROWD)
            if self._crowd == CROWD:
                self._hint = THROUGHPUT
        elif self._crowd:
            self._crowd = 0
            self._hint = LATENCY

    def _variant(self, call):
        """The `_Compiled` for a call, compiled if need be."""
        fixed = [
            _told_apart(leaf) if x is None else (x.dtype, x.shape)
            for leaf, x in zip(call.leaves, call.values)
        ]
        key = call.treedef, fixed, call.target
        last, variant = self._last
        if key != last or not variant.is_current():
            # What is out of date is let go before another is compiled.
            del variant
            self._last = None, None
            variant = self._variants.get(*self._graph(call), self._patterns)
            self._last = key, variant
        return variant

    def _graph(self, call):
        """What `Variants.get` asks of a call: key, shapes, how to compile."""
        specs = tuple(
            leaf if x is None else _Array(x.dtype.name, x.ndim)
            for leaf, x in zip(call.leaves, call.values)
        )
        kinds = tuple(map(_told_apart, specs))
        is_empty = any(not x.size for x in call.arrays)
        key = (call.treedef, kinds, call.target, is_empty)
        compile = functools.partial(
            self._compile, call.treedef, specs, call.target
        )
        return key, [x.shape for x in call.arrays], compile

    def _compile(self, *arguments):
        self._varying.update()
        # The models of a decoder take their inputs apart.
        varying = [] if self._is_causal else list(self._varying)
        may_store = not (self._assigns or self._is_causal or varying)
        variant = _Compiled(
            self._function, self._is_causal, *arguments, may_store, varying
        )
        self._assigns = self._assigns or variant.assigns
        self._varying.note(variant.constants)
        return variant

    def vary(self, variables):
        """Tells that variables are going to be assigned again and again."""
        self._varying.add(variables)

    def _run_in_scope(self, args):
        """Calls the function in a scope that says what variables are.

        As of a compiled model, nobody else has what it gives.
        """
        leaves, treedef = _flatten(args)
        leaves = [convert_to_tensor(x) if _is_array(x) else x for x in leaves]
        args = optree.tree_unflatten(treedef, leaves)
        results = _without_variables(self._function(*args))
        return tree.map_structure(_copy, results)

    def release_memory(self):
        """Frees what large arguments left in the compiled models."""
        for variant in (*self._variants, *self._retried):
            variant.release_memory()

    def _patterns(self, shapes):
        """The dims that are dynamic, from all that may be to none."""
        if any(0 in shape for shape in shapes):
            return [shapes]  # the CPU plugin does not pool an empty batch
        if self._is_static and len(self._variants) < MAX_STATIC:
            return [shapes]
        batch = [(None, *shape[1:]) if shape else () for shape in shapes]
        opened = list(batch)
        for i, spec in enumerate(self._specs[: len(shapes)]):
            if len(spec) == len(shapes[i]):
                # A batch that the spec knows is known: states have its size.
                dims = zip(shapes[i], spec)
                opened[i] = tuple(None if s is None else d for d, s in dims)
        return [opened, batch, shapes]


class Started:
    """A call that was started.

    Args:
        wait: waits for what it gives, and returns it; raises a `ValueError`
            where that is not to be had, or out of date.
        call: makes the call, where nothing was started or `wait` fails.
        at_once: how many calls the device works at, at once.
    """

    def __init__(self, call, wait=None, at_once=0):
        self.at_once = at_once
        self._call = call
        self._wait = wait

    def result(self):
        """Waits for what the call gives, and returns it."""
        if self._wait is None:
            return self._call()
        try:
            return self._wait()
        except ValueError:
            return self._call()

    def drop(self):
        """Waits until the arguments are no longer in use."""
        if self._wait is not None:
            with contextlib.suppress(ValueError):
                self._wait()


class _Varying:
    """The variables that are inputs of the models of a function.

    Args:
        variables: those that are from the beginning.
    """

    def __init__(self, variables):
        self._variables = {}
        # By id, those that were compiled in: a weak reference, the version,
        # and how often it was found to be another.
        self._compiled = {}
        self.add(variables)

    def __iter__(self):
        return iter(list(self._variables.values()))

    def add(self, variables):
        self._variables.update((id(v), v) for v in variables)

    def note(self, constants):
        """Takes the variables that were compiled in, with their versions."""
        for variable, version in constants:
            *_, count = self._compiled.get(id(variable), (0,))
            known = weakref.ref(variable), version, count
            self._compiled[id(variable)] = known

    def update(self):
        """Finds those that are assigned again and again."""
        for key, (reference, version, count) in list(self._compiled.items()):
            variable = reference()
            if variable is None:
                del self._compiled[key]
            elif variable.version != version:
                if count == MAX_RECOMPILED:
                    self.add([variable])
                known = reference, variable.version, count + 1
                self._compiled[key] = known


class _Call(typing.NamedTuple):
    """The arguments of a call.

    Attributes:
        leaves, treedef: the arguments, flat.
        values: for each leaf its array, or `None` if it is not one.
        arrays: the arrays.
        target: what it is compiled for, a `settings.Target`.
    """

    leaves: list
    treedef: optree.PyTreeSpec
    values: list
    arrays: list
    target: Target


def _call_of(args, hint):
    leaves, treedef = _flatten(args)
    values = [_array(leaf) for leaf in leaves]
    arrays = [x for x in values if x is not None]
    return _Call(leaves, treedef, values, arrays, current_target(hint))


class _Array(typing.NamedTuple):
    """What is known of an argument that is an array."""

    dtype: str
    rank: int


def _flatten(structure):
    return optree.tree_flatten(structure, none_is_leaf=True, namespace="keras")


def _array(leaf):
    """The `numpy.ndarray` of an argument, or `None` if it is not one."""
    if isinstance(leaf, OpenVINOKerasTensor):
        return value_of(leaf)
    if isinstance(leaf, KerasVariable):
        return value_of(leaf.value)
    if leaf.__class__ is np.ndarray and leaf.dtype in NUMPY_NAMES:
        return leaf  # not copied: nothing keeps it
    return value_of(convert_to_tensor(leaf)) if _is_array(leaf) else None


def _told_apart(leaf):
    """A key for a leaf: 1, 1.0 and True are equal, and so are 0.0 and -0.0."""
    is_float = isinstance(leaf, float)
    return leaf.__class__, math.copysign(1, leaf) if is_float else None, leaf


def _is_array(leaf):
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape")


def _plain(spec):
    return tuple(spec) if isinstance(spec, _Array) else spec


def _is_literal(structure):
    """Whether a structure is what Python reads of what it writes."""
    try:
        read = ast.literal_eval(repr(structure))
    except (SyntaxError, ValueError):
        return False
    return _flatten(read) == _flatten(structure)


class _FunctionTrace(graph.Trace):
    """The trace of a jitted function, with the variables it reads."""

    narrows = True
    symbolic_dims = True
    keeps_arrays = True

    def __init__(self, is_causal):
        super().__init__(Operations())
        self.is_causal = is_causal
        self.reads = {}


class _RecordingScope(StatelessScope):
    """A stateless scope that knows the variables that were assigned."""

    def __init__(self, state_mapping):
        super().__init__(state_mapping, collect_losses=True)
        self.assigned = {}

    def get_current_value(self, variable):
        """Its value, which a layer asks for to regularize its weights."""
        note_read(variable)
        value = super().get_current_value(variable)
        return variable._value if value is None else value

    def add_update(self, update):
        variable, value = update
        if variable.trainable:
            value = alias(value)  # as eagerly, a tape has it for another
        super().add_update((variable, value))
        self.assigned[id(variable)] = variable


class _Compiled:
    """One variant of a jitted function: a compiled model and its variables.

    Args:
        function, is_causal, treedef, specs, target, shapes: what is compiled,
            how, and for what.
        may_store: whether to look for it among those that were stored, and to
            store it. To look takes a digest of all weights.
        varying: the variables that are inputs if the function reads them.

    Attributes:
        constants: a list of the variables that were compiled in, with the
            version of each.
    """

    def __init__(
        self,
        function,
        is_causal,
        treedef,
        specs,
        target,
        shapes,
        may_store,
        varying,
    ):
        self._is_causal = is_causal
        self._varying = varying
        self.is_open = any(None in shape for shape in shapes)
        # No other thread assigns some of the variables as one change meanwhile.
        with assigning:
            arguments = [repr(treedef), [*map(_plain, specs)], shapes]
            place = stored = None
            if may_store:
                place = storage.find_place(function, arguments, target)
                stored = place and place.load()
            if stored:
                self._restore(place, *stored)
            else:
                self._compile(function, treedef, specs, target, shapes, place)
        self.nbytes = self._executable.nbytes
        self.at_once = self._executable.at_once
        self.assigns = bool(self._assigned)
        self.is_busy = self._executable.is_busy
        self.release_memory = self._executable.release_memory

    def _compile(self, function, treedef, specs, target, shapes, place):
        naming = naming_unknown_dims if self.is_open else contextlib.nullcontext
        with naming():
            traced = self._trace(function, treedef, specs, shapes)
            trace, results, parameters = traced
            if trace.loop and not stages.are_of_use(trace.loop, results):
                self._is_causal = False
                traced = self._trace(function, treedef, specs, shapes)
                trace, results, parameters = traced
        if trace.loop is not None:
            self._executable = stages.Stages(*traced, target)
            return
        trace.forget()
        about = place and self._about(place)
        # What is not stored whole the runtime keeps by its graph.
        self._executable = device.compile_model(
            results,
            parameters,
            place.target if about else target,
            trace.operations,
        )
        self._executable.keeps_large = bool(self._assigned)
        if about:
            place.store(about, self._executable)

    def _about(self, place):
        """What other processes are told of this beside the model.

        `None` where it is no function of its inputs, and where variables were
        assigned since the place was found, which is that of other values.
        """
        places = {id(r.variable): i for i, r in enumerate(place.read)}
        read = [places.get(id(v)) for v, _ in self.constants]
        count = self._treedef.num_leaves
        outputs, _ = optree.tree_unflatten(self._treedef, range(count))
        if (
            self._assigned
            or any(self._known)
            or None in read
            or any(r.variable._value is not r.value for r in place.read)
            or not _is_literal(outputs)
        ):
            return None
        return {"outputs": outputs, "dtypes": self._dtypes, "read": read}

    def _restore(self, place, about, executable):
        self._checked = None  # variables may have been assigned since
        self._state = self._assigned = self._updating = ()
        read = [place.read[i] for i in about["read"]]
        self.constants = [(r.variable, r.version) for r in read]
        self._dtypes = about["dtypes"]
        self._known = [None] * len(self._dtypes)
        _, self._treedef = _flatten((about["outputs"], []))
        self._executable = executable

    def _trace(self, function, treedef, specs, shapes):
        self._checked = _latest[0]
        state = list(self._varying)
        while True:
            trace = _FunctionTrace(self._is_causal)
            with trace:
                mapping = [(v, symbolic(v._dtype, v.shape)) for v in state]
                inputs, args = _symbolic_arguments(treedef, specs, shapes)
                with _RecordingScope(mapping) as scope:
                    outputs = _without_variables(function(*args))
            known = {id(v) for v in state}
            # Read before it was assigned: its value is an input.
            missed = [
                v
                for i, v in scope.assigned.items()
                if i in trace.reads and i not in known
            ]
            if not missed:
                break
            state += missed
        mapping = [(v, x) for v, x in mapping if id(v) in trace.reads]
        self._state = [v for v, _ in mapping]
        self.constants = [
            (v, version)
            for i, (v, version) in trace.reads.items()
            if i not in known
        ]
        self._assigned = list(scope.assigned.values())
        # In one order, so that no two functions wait for each other.
        self._updating = [
            _updating.setdefault(i, threading.Lock())
            for i in sorted(scope.assigned)
        ]
        assigned = [scope.get_current_value(v) for v in self._assigned]
        leaves, self._treedef = _flatten((outputs, assigned))
        # What does not depend on the arguments is known by now.
        self._known = [None if is_symbolic(x) else (x,) for x in leaves]
        self._dtypes = [leaf.dtype for leaf in leaves if is_symbolic(leaf)]
        with trace:
            results = [leaf.output for leaf in leaves if is_symbolic(leaf)]
        parameters = inputs + [tensor for _, tensor in mapping]
        return trace, results, [x.output for x in parameters]

    def is_current(self):
        """Whether the Constants still are the values of the variables."""
        latest = _latest[0]
        if self._checked == latest:
            return True
        if any(v.version != version for v, version in self.constants):
            return False
        self._checked = latest
        return True

    def __call__(self, arrays):
        with contextlib.ExitStack() as updating:
            for lock in self._updating:
                updating.enter_context(lock)
            return self._run(arrays)

    def start(self, arrays):
        """Starts a call of a function that assigns nothing.

        Returns:
            A function that waits for what it gives, and returns it; it raises
            a `ValueError` where variables were assigned meanwhile.
        """
        versions = self._versions()
        wait = self._executable.start(self._with_state(arrays))

        def result():
            outputs, _ = self._structured(wait())
            if not self.is_current() or self._versions() != versions:
                raise ValueError("The variables have other values by now.")
            return outputs

        return result

    def _versions(self):
        return [v.version for v in self._state]

    def _with_state(self, arrays):
        """The inputs of the model: those given, and the variables as of now."""
        if not self._state:
            return arrays
        with assigning:  # none or all of what is assigned as one change
            return arrays + [value_of(v._value) for v in self._state]

    def _structured(self, arrays):
        """The outputs and the values to assign, from the model's outputs."""
        results = iter(map(_result, arrays, self._dtypes))
        leaves = [
            next(results) if x is None else _copy(*x) for x in self._known
        ]
        return optree.tree_unflatten(self._treedef, leaves)

    def _run(self, arrays):
        arrays = self._executable(self._with_state(arrays))
        outputs, assigned = self._structured(arrays)
        try:
            self._assign(assigned)
        except KeyboardInterrupt:
            self._assign(assigned)  # all of them: half of a step is none
            raise
        return outputs

    def _assign(self, values):
        with assigning:
            for variable, value in zip(self._assigned, values):
                variable._direct_assign(value)


def _without_variables(structure):
    """The structure with the values of variables, as they are now."""
    return tree.map_structure(
        lambda x: x.value if isinstance(x, KerasVariable) else x, structure
    )


def _result(array, dtype):
    return concrete(from_pairs(array) if is_complex(dtype) else array)


def _copy(leaf):
    if is_symbolic(leaf):
        return leaf
    if isinstance(leaf, OpenVINOKerasTensor):
        return concrete(own_array(value_of(leaf)))
    return copy.copy(leaf)


def _symbolic_arguments(treedef, specs, shapes):
    """The symbolic inputs, and the arguments with them in their places."""
    shapes = iter(shapes)
    leaves = [
        symbolic(spec.dtype, next(shapes)) if isinstance(spec, _Array) else spec
        for spec in specs
    ]
    inputs = [leaf for leaf in leaves if isinstance(leaf, OpenVINOKerasTensor)]
    return inputs, optree.tree_unflatten(treedef, leaves)
