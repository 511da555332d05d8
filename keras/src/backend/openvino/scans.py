"""Loops over the slices of tensors, and their derivative.

Where values are known, a scan is a loop in Python, and so it is where several
tapes record. In a trace it is a `Loop`, and its derivative a `Loop` backwards,
which is given what each step began with and computes the step again.
"""

import builtins
import functools

import numpy as np

from keras.src import tree
from keras.src.backend.openvino import recording
from keras.src.backend.openvino.common import canonical_axis
from keras.src.backend.openvino.common import checked
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.common import of_size
from keras.src.backend.openvino.common import zeros_like
from keras.src.backend.openvino.control_flow import Assignments
from keras.src.backend.openvino.control_flow import Body
from keras.src.backend.openvino.control_flow import Carry
from keras.src.backend.openvino.control_flow import add_to_trace
from keras.src.backend.openvino.control_flow import any_symbolic
from keras.src.backend.openvino.control_flow import assign_all
from keras.src.backend.openvino.control_flow import attempted
from keras.src.backend.openvino.control_flow import current_value
from keras.src.backend.openvino.control_flow import flat_tensors
from keras.src.backend.openvino.control_flow import loop_node
from keras.src.backend.openvino.control_flow import packed
from keras.src.backend.openvino.control_flow import to_tensors
from keras.src.backend.openvino.control_flow import trace_step
from keras.src.backend.openvino.control_flow import with_state
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.gradient import GradientTape
from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import promote
from keras.src.backend.openvino.tensor import symbolic


def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    if not callable(f):
        raise TypeError(f"`f` should be a callable. Received: f={f}")
    # A loop is not unrolled, but what no backend takes is refused here too.
    counts = isinstance(unroll, (bool, int))
    if not counts or (unroll is not False and unroll < 1):
        message = "`unroll` must be an positive integer or boolean."
        raise ValueError(f"{message} Received: unroll={unroll}")
    carry, xs = Carry(init), to_tensors(xs)
    count = _scan_length(xs, length)

    def step(values, x):
        values, y = f(values, x)
        return carry.handed_on(values), to_tensors(y)

    if count == 0:
        return carry.run(lambda init: (init, _no_slices(step, init, xs)))
    if count is not None:
        xs = tree.map_structure(
            lambda x: None if x is None else of_size(x, 0, count), xs
        )

    def loop(init):
        arguments = step, init, xs, count, reverse
        is_traced = count is None or any_symbolic((init, xs))
        if recording.state.recorders:
            tape = _only_tape()
            if is_traced and tape is not None:
                return _in_order(_taped_scan, *arguments, tape)
            return _unrolled_scan(carry, *arguments)
        if is_traced:
            return _in_order(_traced_scan, *arguments)
        result = attempted(lambda: _eager_scan(carry, *arguments))
        return result or _in_order(_traced_scan, *arguments)

    return carry.run(loop)


def _eager_scan(carry, step, values, xs, count, reverse):
    """The carry and the stack, or `None` where something symbolic is met."""
    ys = [None] * count
    order = list(range(count))[:: -1 if reverse else 1]
    for i in order:
        first = functools.partial(carry.first, step)
        take = first if i == order[0] else step
        values, ys[i] = take(values, _slice_of(xs, i))
        by_outer = any_symbolic((values, ys[i]))  # by a tensor from outside
        if by_outer and not recording.state.recorders:
            return None
    return values, stacked(ys)


def _unrolled_scan(carry, step, values, xs, count, reverse):
    """As `_eager_scan`, of what several tapes record."""
    if count is None:
        raise UnknownDim(
            "What several tapes take the derivatives of `scan` for needs to "
            "know the number of steps."
        )
    return _eager_scan(carry, step, values, xs, count, reverse)


def _scan_length(xs, length):
    """The number of steps; `None` where it is not known in a trace."""
    for x in flat_tensors(xs):
        if x.ndim == 0:
            raise ValueError(
                blaming("there is no first axis to go over in a scalar.")
            )
    lengths = {x.shape[0] for x in flat_tensors(xs)}
    known = lengths - {None}
    if length is not None:
        known.add(int(length))
    if len(known) > 1:
        raise ValueError(
            "`scan` takes `xs` of one length, and `length` must agree with "
            f"it. Received: length={length} and lengths {sorted(known)}"
        )
    if not known and not lengths:
        raise ValueError(
            "`scan` takes `xs` to scan over and `length`, or one of them. "
            "Received: xs=None and length=None"
        )
    return known.pop() if known else None


def _slice_of(xs, i):
    return tree.map_structure(lambda x: None if x is None else x[i], xs)


def stacked(structures):
    """One structure of the tensors of all, stacked along a new first dim."""

    def stack(*parts):
        if parts[0] is None:
            return None
        rows = [apply("Unsqueeze", part, 0) for part in promote(*parts)]
        return apply("Concat", *rows, axis=0)

    return tree.map_structure(stack, *[to_tensors(s) for s in structures])


def _no_slices(step, init, xs):
    """What `step` would give for each slice, stacked over no slices."""
    rows = tree.map_structure(
        lambda x: None if x is None else symbolic(x.dtype, x.shape[1:]), xs
    )
    _, y = trace_step(step, init, rows)
    return tree.map_structure(
        lambda y: (
            None
            if y is None
            else convert_to_tensor(np.zeros((0,) + y.shape), y.dtype)
        ),
        y,
    )


def _in_order(scan, step, init, xs, count, reverse, *arguments):
    """Calls a scan that goes forwards only, as a `Loop` does."""
    if not reverse:
        return scan(step, init, xs, count, *arguments)
    carry, ys = scan(step, init, _reversed(xs), count, *arguments)
    return carry, _reversed(ys)


def _traced_scan(step, init, xs, count):
    return _Steps(step, init, xs).run(init, xs, count)


class _Steps:
    """The body of a `Loop`: a step, for what it is given and for a slice.

    Args:
        step: takes what is handed on and the slices, and returns what it hands
            on and what is to be stacked.
        init, xs: what it is going to be given, and the tensors that are sliced;
            their structures, dtypes and shapes count.

    Attributes:
        variables: a list of the variables that it assigns.
        stacked: what is to be stacked, of one step.
    """

    def __init__(self, step, init, xs):
        flat = tree.flatten(init)

        def trace(variables):
            given = [symbolic(x.dtype, x.shape) for x in flat]
            state = [symbolic(v._dtype, v.shape) for v in variables]
            rows = [
                symbolic(x.dtype, (1,) + x.shape[1:]) for x in flat_tensors(xs)
            ]
            scope = Assignments(zip(variables, state))

            def iteration():
                slices = iter([apply("Squeeze", row, 0) for row in rows])
                x = tree.map_structure(
                    lambda x: x if x is None else next(slices), xs
                )
                with scope:
                    carry, y = step(tree.pack_sequence_as(init, given), x)
                    new = carry, [current_value(v) for v in variables]
                y = tree.map_structure(
                    lambda y: None if y is None else apply("Unsqueeze", y, 0), y
                )
                return convert_to_tensor(True), new, y

            inputs = [x.output for x in given + state]
            slices = [x.output for x in rows]
            body = Body(iteration, inputs, slices)
            return (inputs + slices, body), scope.variables

        (self._inputs, self._body), self.variables = with_state(trace)
        self.stacked = self._body.structure[2]

    def run(self, init, xs, count):
        """What is handed on at the end, and the stacks; assigns variables.

        Args:
            init, xs: tensors like those that this was made for.
            count: the number of steps; `None` for that of the slices.
        """
        trips = _common_length(flat_tensors(xs)) if count is None else count
        loop = loop_node(
            convert_to_tensor(trips, "int64"),
            convert_to_tensor(True),
            self._body,
        )
        merged = tree.flatten(init) + [current_value(v) for v in self.variables]
        results = self._body.results[1:]
        for parameter, x, result in zip(self._inputs, merged, results):
            loop.set_merged_input(parameter.get_node(), x.output, result)
        slicing = (0, 1, 1, -1, 0)  # start, stride, part size, end, axis
        sliced = zip(self._inputs[len(merged) :], flat_tensors(xs))
        for parameter, x in sliced:
            loop.set_sliced_input(parameter.get_node(), x.output, *slicing)
        outputs = [
            loop.get_iter_value(result, -1) for result in results[: len(merged)]
        ] + [
            loop.get_concatenated_slices(result, *slicing)
            for result in results[len(merged) :]
        ]
        add_to_trace(loop)
        structure = init, self.variables, self.stacked
        carry, state, ys = packed(structure, outputs)
        assign_all(self.variables, state)
        return carry, ys


# ---------------------------------------------------------------- derivatives


def _only_tape():
    """The tape that records, if it is the only one and asked once."""
    recorders = recording.state.recorders
    is_tape = len(recorders) == 1 and isinstance(recorders[0], GradientTape)
    return recorders[0] if is_tape and not recorders[0].is_persistent else None


class _Watched:
    """A recorder of a step: which tensors of a tape it uses.

    Args:
        tape: the `GradientTape`, which is told of variables that are read.
    """

    def __init__(self, tape):
        self._tape = tape
        self._found = {}

    @property
    def tensors(self):
        return list(self._found.values())

    def applied(self, operation, inputs, attributes, outputs):
        self._found.update((id(x), x) for x in inputs if self._tape.knows(x))

    def read(self, variable):
        self._tape.read(variable)


def _taped_scan(step, init, xs, count, tape):
    """As `_traced_scan`, of which a tape is told as of one operation."""
    variables = _assigned_by(step, init, xs)

    def stated(carry, x):
        """The step, as one that assigns nothing."""
        values, state = carry
        scope = Assignments(zip(variables, state))
        with scope:
            values, y = step(values, x)
            return (values, [current_value(v) for v in variables]), y

    def forwards(carry, x):
        after, y = stated(carry, x)
        return after, (y, carry)

    first = init, [current_value(v) for v in variables]
    watched = _Watched(tape)
    with recording.recorders(watched):
        steps = _Steps(forwards, first, xs)
    with recording.recorders():
        last, (ys, before) = steps.run(first, xs, count)
    inputs = _floats(first), _floats(xs), watched.tensors
    if any(tape.knows(x) for x in tree.flatten(inputs)):
        outputs = _floats(last), _floats(ys)
        with recording.recorders():
            back = _Back(stated, inputs, outputs, xs, before, count)
        recording.tell(
            back.rule,
            tuple(tree.flatten(inputs)),
            {},
            tuple(tree.flatten(outputs)),
        )
    carry, state = last
    assign_all(variables, state)
    return carry, ys


def _assigned_by(step, init, xs):
    """The variables that a step assigns."""
    with recording.recorders():
        return _Steps(step, init, xs).variables


def _floats(structure):
    return [x for x in flat_tensors(structure) if is_float(x.dtype)]


class _Back:
    """The derivative of a scan.

    Its step is traced here and now, where layers are as they are for the scan
    itself: with their masks of dropout, and in their scopes.

    Args:
        step: takes and returns as `_Steps` has it, and assigns nothing.
        inputs: three lists of tensors of floats: what the first step is given,
            those that are sliced, and those from outside.
        outputs: two: what the last step hands on, and the stacks.
        xs: all that is sliced, nested.
        before: what each step was given, nested and stacked.
        count: the number of steps, or `None`.
    """

    def __init__(self, step, inputs, outputs, xs, before, count):
        self._stacks = xs, before
        self._count = count
        self._outputs = last, ys = outputs
        _, _, self._outside = inputs

        def backwards(given, x):
            of_after, totals = given
            (x, before), of_y = x
            sources = [_floats(before), _floats(x), self._outside]
            with GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                after, y = step(before, x)
            found = tape.gradient(_floats((after, y)), sources, of_after + of_y)
            of_before, of_x, found = tree.map_structure(
                lambda g, x: zeros_like(x) if g is None else g, found, sources
            )
            factors = [_factors(x) for x in found]
            if len(totals) < len(found):
                found = [x for x, pairs in zip(found, factors) if not pairs]
            totals = [apply("Add", *pair) for pair in zip(totals, found)]
            return (of_before, totals), (of_x, factors)

        given = last, self._outside
        steps = _Steps(backwards, given, (self._stacks, ys))
        _, factors = steps.stacked
        if any(factors):
            given = last, _without(factors, self._outside)
            steps = _Steps(backwards, given, (self._stacks, ys))
        self._steps = steps

    def rule(self, inputs, outputs, gradients):
        """The `registry.Operation.gradient` of the scan."""
        of_last, of_ys = tree.pack_sequence_as(self._outputs, gradients)
        with recording.recorders():
            _, factors = self._steps.stacked
            others = _without(factors, self._outside)
            given = of_last, [zeros_like(x) for x in others]
            slices = _reversed((self._stacks, of_ys))
            (of_first, totals), (of_xs, factors) = self._steps.run(
                given, slices, self._count
            )
            totals = iter(totals)
            totals = [
                _product(pairs) if pairs else next(totals) for pairs in factors
            ]
            found = (*of_first, *_reversed(of_xs), *totals)
        recording.tell(_no_second, (*inputs, *gradients), {}, found)
        return found


def _factors(x):
    """The pairs of matrices of whose products `x` is the sum.

    A list of `(a, b)` for `transpose(a) @ b`, empty for anything else. Where
    rows are those of a batch, the sum over all steps is one product.
    """
    node = x.output.get_node()
    operands = [OpenVINOKerasTensor(source) for source in node.input_values()]
    if node.get_type_name() == "Add":
        parts = [_factors(operand) for operand in operands]
        return sum(parts, []) if all(parts) else []
    is_product = node.get_type_name() == "MatMul"
    if not is_product or any(x.ndim != 2 for x in operands):
        return []
    flips = node.get_attributes()
    is_of_rows = flips["transpose_a"] and not flips["transpose_b"]
    return [tuple(operands)] if is_of_rows else []


def _without(factors, tensors):
    """Those of the tensors that have no factors."""
    return [x for x, pairs in zip(tensors, factors) if not pairs]


def _product(pairs):
    """The sum over all steps of products, of factors that are stacked."""
    products = [
        apply(
            "MatMul",
            *[_rows_of_all(x) for x in pair],
            transpose_a=True,
            transpose_b=False,
        )
        for pair in pairs
    ]
    return functools.reduce(functools.partial(apply, "Add"), products)


def _rows_of_all(x):
    return apply("Reshape", x, [-1, dims_of(x)[2]], special_zero=False)


def _no_second(inputs, outputs, gradients):
    raise NotImplementedError(
        blaming(
            "the derivative of a derivative of `scan` takes another tape that "
            "is open around it."
        )
    )


def _reversed(structure):
    return tree.map_structure(
        lambda x: None if x is None else x[::-1], structure
    )


def _common_length(xs):
    """The first dim of tensors that leave it open, if all have the same."""
    first, *others = [dims_of(x)[0] for x in xs]
    return functools.reduce(
        lambda length, other: checked(length, first == other), others, first
    )


def map(f, xs):
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def vectorized_map(function, elements):
    return map(function, elements)


def associative_scan(f, elems, reverse=False, axis=0):
    elems = to_tensors(elems)
    flat = tree.flatten(elems)
    axis = canonical_axis(axis, flat[0].ndim)
    count = flat[0].shape[axis]
    if count is None or any(x.shape[axis] != count for x in flat):
        error = UnknownDim if any(None in x.shape for x in flat) else ValueError
        raise error(
            "`associative_scan` takes tensors of one known size along `axis`, "
            "by default the first dimension. "
            f"Received: axis={axis} and shapes {[x.shape for x in flat]}"
        )

    def combine(a, b):
        a, b = tree.pack_sequence_as(elems, a), tree.pack_sequence_as(elems, b)
        return tree.flatten(to_tensors(f(a, b)))

    if reverse:
        flat = [_strided(x, axis, None, None, -1) for x in flat]
    flat = _prefixes(combine, flat, axis, count)
    if reverse:
        flat = [_strided(x, axis, None, None, -1) for x in flat]
    return tree.pack_sequence_as(elems, flat)


def _prefixes(combine, xs, axis, count):
    """All prefix combinations, by pairs (Blelloch 1990, section 1.3)."""
    if count < 2:
        return xs
    pairs = combine(
        [_strided(x, axis, 0, count - 1, 2) for x in xs],
        [_strided(x, axis, 1, None, 2) for x in xs],
    )
    odd = _prefixes(combine, pairs, axis, count // 2)
    before = odd
    if count % 2 == 0:
        before = [_strided(x, axis, 0, count // 2 - 1, 1) for x in odd]
    even = [_strided(x, axis, 0, 1, 1) for x in xs]
    if count > 2:
        later = combine(before, [_strided(x, axis, 2, None, 2) for x in xs])
        even = [
            apply("Concat", *promote(first, rest), axis=axis)
            for first, rest in zip(even, later)
        ]
    return [_interleaved(e, o, axis, count) for e, o in zip(even, odd)]


def _strided(x, axis, start, stop, step):
    index = [builtins.slice(None)] * x.ndim
    index[axis] = builtins.slice(start, stop, step)
    return x[tuple(index)]


def _interleaved(even, odd, axis, count):
    joined = apply("Concat", *promote(even, odd), axis=axis)
    half = (count + 1) // 2
    places = np.arange(count, dtype=np.int32)
    order = convert_to_tensor(places // 2 + half * (places % 2))
    return gather(joined, order, axis)
