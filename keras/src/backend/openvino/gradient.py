"""Reverse-mode differentiation of what was applied to tensors.

A tape notes each `tensor.apply`, of concrete and of symbolic tensors alike,
and goes through its notes backwards: the rule of a node type (`gradient` in
`registry.Operation`, see `derivatives`) makes of the gradients of its results
those of its inputs. Rules are made of ops, so that another tape that is open
meanwhile takes derivatives of derivatives.

A trainable variable is watched when it is read: the tape keeps the tensor that
was read, and the gradient of a variable is that of all its tensors.
"""

import contextlib
import functools
import typing

from keras.src import tree
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.name_scope import name_scope
from keras.src.backend.common.variables import AutocastScope
from keras.src.backend.openvino import recording
from keras.src.backend.openvino.common import ones_like
from keras.src.backend.openvino.common import to_float
from keras.src.backend.openvino.common import zeros_like
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.errors import running_layer
from keras.src.backend.openvino.registry import find
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import alias
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor


class Step(typing.NamedTuple):
    """One operation that was applied.

    Attributes:
        operation: the node type, or its rule.
        inputs: a tuple of what `tensor.apply` took.
        attributes: a dict of its attributes.
        outputs: a tuple of the tensors that it gave.
        layer: that which was called, or `None`.
    """

    operation: str | typing.Callable
    inputs: tuple
    attributes: dict
    outputs: tuple
    layer: typing.Any


class GradientTape:
    """Notes what is computed of the tensors it watches.

    Args:
        persistent: whether `gradient` can be called more than once.
        watch_accessed_variables: whether to watch trainable variables that
            are read while the tape is open.

    Example:

    ```python
    with GradientTape() as tape:
        y_pred = model(x, training=True)
        loss = model.compute_loss(x, y, y_pred)
    gradients = tape.gradient(loss, model.trainable_weights)
    model.optimizer.apply(gradients, model.trainable_weights)
    ```
    """

    def __init__(self, persistent=False, watch_accessed_variables=True):
        self.is_persistent = persistent
        self._watches_variables = watch_accessed_variables
        self._steps = []
        self._known = {}  # what is watched, or depends on it, by its id
        self._read = {}  # by the id of a variable, itself and its tensors
        self._is_used = False

    def __enter__(self):
        if self._is_used:
            raise ValueError("A `GradientTape` cannot be entered twice.")
        self._is_used = True
        self._scope = recording.recorders(*recording.state.recorders, self)
        self._scope.__enter__()
        return self

    def __exit__(self, *args):
        self._scope.__exit__(*args)

    def watch(self, tensors):
        """Notes from now on what is computed of these nested tensors.

        Args:
            tensors: nested tensors of floats. Of a variable, trainable or not,
                it is the value of now, and those that are read while the tape
                is open if it is trainable.

        Raises:
            TypeError: for a tensor that is not of floats.
        """
        for x in tree.flatten(tensors):
            dtype = _tensor(x).dtype
            if not is_float(dtype):
                raise TypeError(
                    "A `GradientTape` watches tensors of floats. "
                    f"Received: dtype={dtype}"
                )
            if isinstance(x, KerasVariable):
                self._watch_variable(x, _tensor(x))
            else:
                self._add(_tensor(x))

    def read(self, variable):
        """What `recording` calls: watches a trainable variable."""
        if self._watches_variables and is_float(variable._dtype):
            x = _tensor(variable)
            # What was assigned may depend on what is watched already.
            if not self.knows(x):
                self._watch_variable(variable, x)

    def _watch_variable(self, variable, x):
        _, tensors = self._read.setdefault(id(variable), (variable, {}))
        tensors[id(x)] = x
        self._add(x)

    def _add(self, x):
        self._known[id(x)] = x

    def knows(self, x):
        """Whether `x` is a tensor that is watched, or depends on one."""
        return x.__class__ is OpenVINOKerasTensor and id(x) in self._known

    def applied(self, operation, inputs, attributes, outputs):
        """What `recording` calls: notes a step of something known."""
        if self._steps is None or not any(map(self.knows, inputs)):
            return
        layer = running_layer()
        self._steps.append(Step(operation, inputs, attributes, outputs, layer))
        for y in outputs:
            if is_complex(y.dtype):
                raise _no_derivative(operation)
            if is_float(y.dtype):
                self._add(y)

    def gradient(self, target, sources, output_gradients=None):
        """The gradients of `target` with respect to `sources`.

        Args:
            target: nested tensors of floats. The gradients are those of the
                sum of all elements.
            sources: nested tensors or variables that are watched. The gradient
                of a variable is that of all its values that were read.
            output_gradients: for each tensor of `target` what its elements
                weigh in that sum, a tensor of its shape; by default 1.

        Returns:
            Tensors nested as `sources`, of their shapes and dtypes; `None` for
            those that `target` does not depend on.

        Raises:
            NotImplementedError: for an operation between them that has no
                derivative.
            RuntimeError: where they were asked for already, and the tape is
                not persistent.
        """
        if self._steps is None:
            raise RuntimeError(
                "The gradients of a `GradientTape` can be asked for once, if "
                "it is not persistent."
            )
        targets = [_tensor(x) for x in tree.flatten(target)]
        seeds = _seeds(targets, output_gradients)
        flat = [self._tensors_of(x) for x in tree.flatten(sources)]
        steps = list(self._steps)
        if not self.is_persistent:
            self._steps = None
        found = _backwards(steps, targets, seeds, self._known)
        gradients = [_total(found, tensors) for tensors in flat]
        return tree.pack_sequence_as(sources, gradients)

    def _tensors_of(self, source):
        """The tensors of a source that may be watched."""
        if isinstance(source, KerasVariable):
            _, tensors = self._read.get(id(source), (None, {}))
            return list(tensors.values())
        return [_tensor(source)]


def _tensor(x):
    if isinstance(x, KerasVariable):
        # In its own dtype, whatever a layer casts to. Nobody is told again.
        with recording.recorders(), AutocastScope(None):
            x = x.value
    return convert_to_tensor(x)


def _total(gradients, tensors):
    """The sum of the gradients of some tensors, or `None`."""
    given = [gradients[id(x)] for x in tensors if id(x) in gradients]
    return functools.reduce(lambda a, b: apply("Add", a, b), given or [None])


def _seeds(targets, output_gradients):
    if output_gradients is None:
        return [ones_like(x) for x in targets]
    seeds = tree.flatten(output_gradients)
    if len(seeds) != len(targets):
        raise ValueError(
            "`output_gradients` has one tensor for each of `target`. "
            f"Received: {len(seeds)} for {len(targets)}"
        )
    return [cast(seed, x.dtype) for seed, x in zip(seeds, targets)]


def _backwards(steps, targets, seeds, known):
    """The gradients of all that lies between, by the ids of the tensors."""
    gradients = {}
    for x, seed in zip(targets, seeds):
        if is_float(x.dtype):
            _accumulate(gradients, x, seed)
    for step in reversed(steps):
        given = [gradients.get(id(y)) for y in step.outputs]
        if all(g is None for g in given):
            continue
        with _inside(step.layer):
            found = _gradients(step, given)
        for x, gradient in zip(step.inputs, found):
            is_tensor = x.__class__ is OpenVINOKerasTensor
            if gradient is not None and is_tensor and id(x) in known:
                _accumulate(gradients, x, gradient)
    return gradients


def _inside(layer):
    """A scope in which errors name the layer."""
    if layer is None:
        return contextlib.nullcontext()
    return name_scope(layer.name, caller=layer)


def _accumulate(gradients, x, gradient):
    key = id(x)
    if key in gradients:
        gradient = apply("Add", gradients[key], gradient)
    gradients[key] = gradient


def _gradients(step, given):
    """The gradients of a step's inputs, of those of its outputs."""
    rule = step.operation
    if isinstance(rule, str):
        rule = find(rule).gradient
    if not callable(rule):
        raise _no_derivative(step.operation)
    given = [
        zeros_like(y) if g is None and is_float(y.dtype) else g
        for g, y in zip(given, step.outputs)
    ]
    return rule(step.inputs, step.outputs, given, **step.attributes)


def _no_derivative(operation):
    """The error that says so, and why."""
    if callable(operation):
        text = "`custom_gradient` is for results that are not complex."
    else:
        reason = find(operation).gradient
        because = f": {reason}" if isinstance(reason, str) else ""
        text = f"{operation} has no derivative{because}."
    return NotImplementedError(blaming(text))


def replayed(formula):
    """The rule of an operation that `formula` makes of other operations.

    Args:
        formula: takes the inputs of the operation and its attributes as
            keywords, and returns its outputs.
    """

    def rule(inputs, outputs, gradients, **attributes):
        with GradientTape(watch_accessed_variables=False) as tape:
            sources = {
                id(x): i
                for i, x in reversed(list(enumerate(inputs)))
                if x.__class__ is OpenVINOKerasTensor and is_float(x.dtype)
            }
            tape.watch([inputs[i] for i in sources.values()])
            results = tree.flatten(formula(*inputs, **attributes))
        pairs = [
            (y, g) for y, g in zip(results, gradients) if is_float(y.dtype)
        ]
        found = tape.gradient(
            [y for y, _ in pairs],
            [inputs[i] for i in sources.values()],
            [g for _, g in pairs],
        )
        # An input that is given twice has the gradients of both places.
        given = dict(zip(sources.values(), found))
        return [given.get(i) for i in range(len(inputs))]

    return rule


def jvp(fun, primals, tangents, has_aux=False):
    """The result of a function and its derivative along `tangents`.

    The gradients of sources are linear in those of targets, and what they are
    multiplied by is what the derivative asks for: the gradient of a gradient.

    Args:
        fun: takes as many nested tensors of floats as there are `primals`.
        primals: a list or tuple of its arguments.
        tangents: nested as `primals`, tensors of the same shapes and dtypes.
        has_aux: whether `fun` returns a pair, and the second is to be returned
            as it is.

    Returns:
        `(primals_out, tangents_out)`, and the second result of `fun` if
        `has_aux`. Tangents of integers are zeros.

    Raises:
        TypeError: where primals and tangents do not agree in structure, shape
            and dtype.
    """
    primals = tree.map_structure(_argument, list(primals))
    tangents = _tangents(primals, list(tangents))
    aux = ()
    with GradientTape(watch_accessed_variables=False) as outer:
        with GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(primals)
            results = fun(*primals)
            if has_aux:
                results, *aux = results
            results = tree.map_structure(_tensor, results)
        floats = [y for y in tree.flatten(results) if is_float(y.dtype)]
        weights = [zeros_like(y) for y in floats]
        outer.watch(weights)
        flat = tree.flatten(primals)
        gradients = inner.gradient(floats, flat, weights)
    pairs = [
        (g, t)
        for g, t in zip(gradients, tree.flatten(tangents))
        if g is not None
    ]
    derivatives = outer.gradient(
        [g for g, _ in pairs], weights, [t for _, t in pairs]
    )
    found = iter(derivatives)

    def tangent(y):
        derivative = next(found) if is_float(y.dtype) else None
        return zeros_like(y) if derivative is None else derivative

    return (results, tree.map_structure(tangent, results), *aux)


def _argument(x):
    """A tensor of its own for `x`, because one may be given twice.

    Tapes that are open are told: to them the gradient of one is the other's.
    """
    x = to_float(x)
    own = alias(x)
    recording.tell(lambda inputs, outputs, given: given, (x,), {}, (own,))
    return own


def _tangents(primals, tangents):
    tree.assert_same_structure(primals, tangents)

    def checked(x, tangent):
        tangent = convert_to_tensor(tangent)
        if tangent.dtype != x.dtype or not _agree(tangent.shape, x.shape):
            raise TypeError(
                "`jvp` takes tangents of the dtypes and shapes of the primals. "
                f"Received: a primal of {x.dtype}{x.shape} and a tangent of "
                f"{tangent.dtype}{tangent.shape}"
            )
        return tangent

    return tree.map_structure(checked, primals, tangents)


def _agree(dims1, dims2):
    return len(dims1) == len(dims2) and all(
        None in pair or pair[0] == pair[1] for pair in zip(dims1, dims2)
    )
