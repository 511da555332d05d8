"""Branches and loops: Python's where values are known, OpenVINO's in a trace.

A body may use any tensor from outside. In a trace its nodes are collected
while it runs, and each edge that comes from outside becomes an input of the
`If` or `Loop` (`_capture`). Variables that it assigns become outputs of the
`If`, and state of the `Loop` (`with_state`).
"""

import functools
import itertools
import math

import openvino as ov

from keras.src import tree
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.common.variables import AutocastScope
from keras.src.backend.openvino import caches
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import recording
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino import stages
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import result_type
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import alias
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.tensor import symbolic_of


def to_tensors(structure):
    return tree.map_structure(
        lambda x: None if x is None else convert_to_tensor(x), structure
    )


def flat_tensors(structure):
    """The tensors of a structure, in order; it may have `None` in it."""
    return [x for x in tree.flatten(structure) if x is not None]


def any_symbolic(structure):
    return any(is_symbolic(x) for x in tree.flatten(structure))


class Body:
    """A traced graph inside another one.

    Args:
        function: gives the structure that the graph computes.
        parameters: the inputs of a loop that its results after the first take
            the places of, in order.
        slices: the inputs of a loop that bring in others in each step.
        is_loop: whether the parameters are those of a `Loop`.

    Attributes:
        structure: what the function returned, of tensors.
        results: the `openvino.Output` of each flat tensor of `structure`.
        captured: a list of `(outer output, parameter)`.
    """

    def __init__(self, function, parameters=(), slices=(), is_loop=True):
        trace = graph.current_trace() or graph.Trace(None)
        with trace, trace.scope() as scope:
            self.structure = to_tensors(function())
            outputs = [x.output for x in flat_tensors(self.structure)]
            if is_loop and (parameters or slices):
                _copy_what_is_viewed(scope)
                outputs = _kept_apart(outputs, parameters, scope)
        self._parameters = [*parameters, *slices]
        self.results, self.captured = rewriting.captured(
            scope.nodes.values(), self._parameters, outputs
        )

    def model(self):
        captured = [parameter for _, parameter in self.captured]
        nodes = [p.get_node() for p in self._parameters + captured]
        return ov.Model(self.results, nodes)


# What gives the values that it got, and may do so without copying them.
_VIEWS = (
    "Convert",
    "Gather",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "VariadicSplit",
)


# What never has its results in the place of its inputs.
_READERS = (
    "Convolution",
    "ConvolutionBackpropData",
    "GroupConvolution",
    "GroupConvolutionBackpropData",
    "MatMul",
    "ShapeOf",
)


def _copy_what_is_viewed(scope):
    """Copies what nodes of a loop's body take through views from outside.

    The CPU plugin computes many a node in the place of what it takes, if nobody
    else takes that. It spares the inputs of a body, but not views of them, as
    slices are: what the next iteration brings would overwrite a result that is
    to be handed on, and what comes from outside would be another from then on.
    """
    copies = {}
    for node in list(scope.nodes.values()):
        if node.get_type_name() in (*_VIEWS, *_READERS):
            continue
        for port in node.inputs():
            source = port.get_source_output()
            view = source.get_node()
            if (
                view.get_type_name() in _VIEWS
                and _is_view(source, scope)
                and _may_take_the_place(node, source)
            ):
                key = view.get_name(), source.get_index()
                if key not in copies:
                    copies[key] = _copied(source)
                port.replace_source_output(copies[key])


def _may_take_the_place(node, source):
    """Whether a result of a node may be where `source`, one of its inputs, is.

    That takes as many elements, or the place beside others of a `Concat`.
    """
    shapes = [x.get_partial_shape() for x in (source, *node.outputs())]
    if node.get_type_name() == "Concat" or any(x.is_dynamic for x in shapes):
        return True
    size, *sizes = [math.prod(x.to_shape()) for x in shapes]
    return size in sizes


def _kept_apart(results, parameters, scope):
    """The results of a loop's body as the CPU plugin can take them over.

    It copies results to parameters one by one: of two that are exchanged, the
    second would be itself again, and one that is a parameter, or a view of one,
    stays uninitialised. A parameter that the body does not use never receives
    its initial value, which is the result of no iterations.
    """
    results = [_copied(x) if _is_view(x, scope) else x for x in results]
    used = rewriting.ancestors(results)
    return [
        result
        if parameter is None or parameter.get_node().get_name() in used
        else _with_use_of(parameter, result)
        for result, parameter in itertools.zip_longest(
            results, [None, *parameters][: len(results)]
        )
    ]


def _is_view(output, scope):
    """Whether an output is what comes from outside of a body, or a view."""
    while output.get_node().get_type_name() in _VIEWS:
        output = output.get_node().input_value(0)
    node = output.get_node()
    is_inside = node.get_name() in scope.nodes
    return not is_inside and node.get_type_name() != "Constant"


def _with_use_of(parameter, result):
    """`result`, out of an array that also holds what `parameter` holds."""
    own, other = OpenVINOKerasTensor(result), OpenVINOKerasTensor(parameter)
    flat = [
        apply("Reshape", x, (-1,), special_zero=False) for x in (own, other)
    ]
    size = apply("ShapeOf", flat[0], output_type="i32")
    joined = apply("Concat", *flat, axis=0)
    taken = apply("Slice", joined, (0,), size, (1,), (0,))
    shape = apply("ShapeOf", own, output_type="i32")
    return apply("Reshape", taken, shape, special_zero=False).output


def _copied(output):
    """The values in memory of their own, which the runtime keeps apart."""
    x = OpenVINOKerasTensor(output)
    if x.ndim == 0:
        return apply("Squeeze", _rolled(apply("Unsqueeze", x, 0)), 0).output
    return _rolled(x).output


def _rolled(x):
    return apply("Roll", x, (0,), (0,))


def add_to_trace(node):
    """Adds a node that was not made by `graph.build` to the trace."""
    trace = graph.current_trace()
    if trace is not None:
        trace.innermost.add(node)


def packed(structure, outputs):
    """The tensors of `outputs` in the places of those of `structure`."""
    outputs = iter(outputs)
    return tree.map_structure(
        lambda x: None if x is None else symbolic_of(x.dtype, next(outputs)),
        structure,
    )


# ---------------------------------------------------------------- variables


class Assignments(StatelessScope):
    """Holds back what is assigned to variables, and knows what is outside.

    Attributes:
        variables: a dict of those that were assigned, by id.
    """

    def __init__(self, values=()):
        super().__init__(values)
        self.variables = {}
        outer = get_stateless_scope()
        if outer is not None:
            self.state_mapping = {**outer.state_mapping, **self.state_mapping}
            self.collect_losses = outer.collect_losses
            self.losses = outer.losses

    def add_update(self, update):
        super().add_update(update)
        self.variables[id(update[0])] = update[0]

    def commit(self):
        """Assigns, outside of the scope, what was assigned in it."""
        for variable in self.variables.values():
            variable.assign(self.get_current_value(variable))


def current_value(variable):
    """The value of a variable in its own dtype, whatever a layer casts to."""
    with AutocastScope(None):
        return variable.value


def assign_all(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(value)


def attempted(function):
    """What `function` gives eagerly.

    If that is `None`, because it met a symbolic tensor on its way, then
    nothing is assigned.
    """
    if graph.current_trace() is None:
        return function()
    with Assignments() as scope:
        result = function()
    if result is not None:
        scope.commit()
    return result


def with_state(trace):
    """Traces bodies together with the variables that they assign.

    Args:
        trace: a function from the variables found so far, a list, to what it
            traced and a dict of the variables that were assigned.

    Returns:
        What was traced at last, and the list of all variables.
    """
    variables = {}
    while True:
        traced, assigned = trace(list(variables.values()))
        if assigned.keys() <= variables.keys():
            return traced, list(variables.values())
        variables |= assigned


# ------------------------------------------------------------------ branches


def cond(pred, true_fn, false_fn):
    """What one of two functions gives, as tensors.

    In a trace both are called, and are to give the same structure and dtypes.
    Where `pred` is known, only the one that is taken is called: what the other
    gives remains unknown.
    """
    pred = convert_to_tensor(pred)
    if not is_symbolic(pred):
        return to_tensors(true_fn() if bool(pred) else false_fn())
    if recording.state.recorders:
        return _selected(cast(pred, "bool"), true_fn, false_fn)

    def trace(variables):
        bodies, assigned = [], {}
        for function in (true_fn, false_fn):
            scope = Assignments()
            bodies.append(
                Body(functools.partial(_branch, function, scope, variables))
            )
            assigned |= scope.variables
        return bodies, assigned

    branches, variables = with_state(trace)
    _match_branches(*[branch.structure for branch in branches])
    node = ov.opset16.if_op(cast(pred, "bool").output)
    models = [branch.model() for branch in branches]
    node.set_then_body(models[0])
    node.set_else_body(models[1])
    inputs = {}
    for position, branch in enumerate(branches):
        for output, parameter in branch.captured:
            key = (output.get_node().get_name(), output.get_index())
            entry = inputs.setdefault(key, [output, None, None])
            entry[position + 1] = parameter.get_node()
    for output, then_parameter, else_parameter in inputs.values():
        node.set_input(output, then_parameter, else_parameter)
    outputs = [
        node.set_output(then_result, else_result)
        for then_result, else_result in zip(
            models[0].get_results(), models[1].get_results()
        )
    ]
    add_to_trace(node)
    result, state = packed(branches[0].structure, outputs)
    assign_all(variables, state)
    return result


def _branch(function, scope, variables):
    with scope:
        return function(), [current_value(v) for v in variables]


def _selected(pred, true_fn, false_fn):
    """As `cond`, of operations that are recorded: both branches, and a choice.

    The inside of an `If` cannot be recorded outside of it.
    """
    branches = (true_fn, pred), (false_fn, apply("LogicalNot", pred))

    def trace(variables):
        results, assigned = [], {}
        for function, is_taken in branches:
            scope = Assignments()
            with recording.recorders(_Entrance(is_taken)):
                result = to_tensors(_branch(function, scope, variables))
            results.append(result)
            assigned |= scope.variables
        return results, assigned

    results, variables = with_state(trace)
    _match_branches(*results)
    result, state = tree.map_structure(
        lambda x, y: None if x is None else apply("Select", pred, x, y),
        *results,
    )
    assign_all(variables, state)
    return result


class _Entrance:
    """Tells the recorders of a branch, and that tensors enter it.

    Entering has a derivative, 0 where the branch is not taken. There the
    derivatives inside may be NaN or infinite, whatever they are multiplied by.

    Args:
        is_taken: a 0-d tensor of bool.
    """

    def __init__(self, is_taken):
        self._is_taken = is_taken
        self._recorders = recording.state.recorders
        self._known = {}  # by its id, a tensor and what it is called inside

    def applied(self, operation, inputs, attributes, outputs):
        with recording.recorders(*self._recorders):
            inputs = tuple([self._entered(x) for x in inputs])
            self._known.update((id(y), (y, y)) for y in outputs)
            recording.tell(operation, inputs, attributes, outputs)

    def read(self, variable):
        with recording.recorders(*self._recorders):
            recording.tell_read(variable)

    def _entered(self, x):
        if not isinstance(x, OpenVINOKerasTensor) or not is_float(x.dtype):
            return x
        if id(x) not in self._known:
            inside = alias(x)
            self._known[id(x)] = x, inside
            recording.tell(self._rule, (x,), {}, (inside,))
        return self._known[id(x)][1]

    def _rule(self, inputs, outputs, gradients):
        (gradient,) = gradients
        nothing = convert_to_tensor(0, gradient.dtype)
        return [apply("Select", self._is_taken, gradient, nothing)]


def _match_branches(*structures):
    """Checks that both branches return the same structure and dtypes."""
    tree.assert_same_structure(*structures)
    for then, other in zip(*[flat_tensors(s) for s in structures]):
        if then.dtype != other.dtype:
            raise TypeError(
                "`cond` takes branches that return the same dtypes. Received: "
                f"{then.dtype} from `true_fn` and {other.dtype} from "
                "`false_fn`"
            )


def switch(index, branches, *operands):
    if not branches:
        raise ValueError("`switch` takes at least one branch. Received none.")
    index = convert_to_tensor(index)
    if not is_symbolic(index):
        chosen = min(max(int(index), 0), len(branches) - 1)
        return to_tensors(branches[chosen](*operands))
    return _switch(index, branches, operands, 0)


def _switch(index, branches, operands, position):
    branch = functools.partial(branches[position], *operands)
    if position == len(branches) - 1:
        return branch()
    here = apply("LessEqual", index, convert_to_tensor(position, index.dtype))
    return cond(
        here, branch, lambda: _switch(index, branches, operands, position + 1)
    )


# --------------------------------------------------------------------- loops


class Carry:
    """What a loop hands on from step to step, in dtypes that stay.

    They are those of the initial values, but that Python numbers among these
    are promoted with what the steps make of them.

    Args:
        initial: a structure of tensors and numbers.
    """

    def __init__(self, initial):
        self._initial = to_tensors(initial)
        self._are_numbers = [
            x.__class__ in _NUMBERS for x in tree.flatten(initial)
        ]

    def run(self, loop):
        """What the function `loop` gives for the initial values."""
        while True:
            try:
                return loop(self._initial)
            except _Promoted as promoted:
                self._initial = self._packed(promoted.values)

    def handed_on(self, new):
        """What a step gave, as tensors in the initial structure and dtypes.

        Raises:
            _Promoted: where numbers are to begin in other dtypes.
            TypeError: where the dtype of a tensor does not stay.
        """
        tree.assert_same_structure(new, self._initial)
        new, initial = tree.flatten(new), tree.flatten(self._initial)
        triples = zip(new, initial, self._are_numbers)
        dtypes = [
            None if x is None else _carried_dtype(y, x, is_number)
            for y, x, is_number in triples
        ]
        if any(x is not None and x.dtype != d for x, d in zip(initial, dtypes)):
            raise _Promoted(_cast_all(initial, dtypes))
        return self._packed(_cast_all(new, dtypes))

    def first(self, step, *arguments):
        """What the first step gives; assigns nothing if numbers change."""
        if not any(self._are_numbers):
            return step(*arguments)
        with Assignments() as scope:
            result = step(*arguments)
        scope.commit()
        return result

    def settle(self, step, *arguments):
        """Promotes numbers where no step is taken."""
        if any(self._are_numbers):
            trace_step(step, *arguments)

    def _packed(self, flat):
        return tree.pack_sequence_as(self._initial, flat)


class _Promoted(Exception):
    """The initial values of a loop are to be these, because of its steps."""

    def __init__(self, values):
        super().__init__()
        self.values = values


_NUMBERS = (int, float, complex)

# On JAX, which has no 64 bits unless it is told to, these are one.
_IN_32_BITS = {
    "int64": "int32",
    "uint64": "uint32",
    "float64": "float32",
    "complex128": "complex64",
}


def _carried_dtype(new, initial, is_number):
    """The dtype of what begins as the tensor `initial` and becomes `new`."""
    dtype = initial.dtype
    given = new.__class__
    if given not in _NUMBERS:
        given = convert_to_tensor(new).dtype
    promoted = result_type(dtype, given)
    if is_number or (given in _NUMBERS and promoted == dtype):
        return promoted
    if _IN_32_BITS.get(given, given) != _IN_32_BITS.get(dtype, dtype):
        given = getattr(given, "__name__", given)
        raise TypeError(
            blaming(
                "a loop hands on values of the dtypes that they begin with. "
                f"Received: {dtype}, and {given} from a step"
            )
        )
    return dtype


def trace_step(step, *arguments):
    """What a step would give for arguments like these."""
    # What it assigns is not assigned: no step is taken.
    with recording.recorders(), graph.Trace(Operations()), Assignments():
        return step(*tree.map_structure(_symbolic_like, arguments))


def _cast_all(flat, dtypes):
    return [d if x is None else cast(x, d) for x, d in zip(flat, dtypes)]


def _symbolic_like(x):
    return None if x is None else symbolic(x.dtype, x.shape)


def while_loop(cond, body, loop_vars, maximum_iterations=None):
    is_sequence = isinstance(loop_vars, (tuple, list))
    carry = Carry(tuple(loop_vars) if is_sequence else (loop_vars,))

    def step(values):
        new = body(*values)
        if not is_sequence or not isinstance(new, (tuple, list)):
            new = (new,)
        return carry.handed_on(tuple(new))

    def loop(initial):
        arguments = cond, step, initial, maximum_iterations
        values = attempted(lambda: _eager_while(carry, *arguments))
        if values is not None:
            return values
        trace = graph.current_trace()
        is_staged = trace is not None and trace.takes_loop()
        return (_staged_while if is_staged else _traced_while)(*arguments)

    values = carry.run(loop)
    if not is_sequence:
        return values[0]
    return type(loop_vars)(values) if isinstance(loop_vars, list) else values


def _eager_while(carry, cond, step, values, maximum_iterations):
    """The final values, or `None` where something symbolic is met.

    What is recorded may be symbolic, but not the condition: the inside of a
    `Loop` cannot be recorded outside of it.
    """
    recorders = recording.state.recorders
    iteration = 0
    while True:
        proceed = maximum_iterations is None or iteration < maximum_iterations
        if not is_symbolic(proceed):
            proceed = convert_to_tensor(proceed and cond(*values))
        if is_symbolic(proceed) and recorders:
            raise NotImplementedError(
                blaming(
                    "a loop whose end depends on symbolic tensors has no "
                    "derivative; `ops.scan` and `ops.fori_loop` with known "
                    "bounds have one."
                )
            )
        if is_symbolic(proceed):
            return None
        if not proceed:
            if iteration == 0:
                carry.settle(step, values)
            return values
        if any_symbolic(values) and not recorders:
            return None
        values = step(values) if iteration else carry.first(step, values)
        iteration += 1


def _traced_while(cond, step, initial, maximum_iterations):
    flat = tree.flatten(initial)

    def trace(variables):
        values = [symbolic(x.dtype, x.shape) for x in flat]
        state = [symbolic(v._dtype, v.shape) for v in variables]
        scope = Assignments(zip(variables, state))

        def iteration():
            with scope:
                new = step(tree.pack_sequence_as(initial, values))
                proceed = _scalar_bool(cond(*new))
                return proceed, new, [current_value(v) for v in variables]

        inputs = [x.output for x in values + state]
        return (inputs, Body(iteration, inputs)), scope.variables

    (inputs, body), variables = with_state(trace)
    trips = convert_to_tensor(_trips(maximum_iterations), "int64")
    loop = loop_node(trips, _scalar_bool(cond(*initial)), body)
    results = body.results[1:]
    flat = flat + [current_value(v) for v in variables]
    for parameter, x, result in zip(inputs, flat, results):
        loop.set_merged_input(parameter.get_node(), x.output, result)
    outputs = [loop.get_iter_value(result, -1) for result in results]
    add_to_trace(loop)
    values, state = packed((initial, variables), outputs)
    assign_all(variables, state)
    return values


def _trips(maximum_iterations):
    return -1 if maximum_iterations is None else maximum_iterations


def _staged_while(cond, step, initial, maximum_iterations):
    """As `_traced_while`, of a loop that is kept out of the graph."""
    flat = tree.flatten(initial)
    stacks = [caches.taken_apart(x.output) for x in flat]
    places = caches.places_of_parts(stacks)
    while True:
        traced, variables = with_state(
            lambda found: _traced_step(
                cond, step, initial, stacks, places, found
            )
        )
        fixed = caches.fixed_of(traced)
        if not fixed:
            break
        places -= fixed
    first = [x for stack in stacks for x in caches.flat(stack)]
    first += [current_value(v).output for v in variables]
    loop = stages.Loop(
        convert_to_tensor(_trips(maximum_iterations), "int64").output,
        _scalar_bool(cond(*initial)).output,
        first,
        traced,
        [rewriting.parameter_like(x) for x in first],
    )
    graph.current_trace().split(loop)
    final = iter(loop.final)
    stacks = [caches.mapped(lambda _: next(final), stack) for stack in stacks]
    assign_all(
        variables, [symbolic_of(v._dtype, next(final)) for v in variables]
    )
    return tree.pack_sequence_as(initial, _joined(stacks, flat))


def _traced_step(cond, step, initial, stacks, places, variables):
    """The `stages.Step` of a loop, and the variables that it assigns.

    Args:
        cond, step, initial: the functions and first values of the loop.
        stacks: what each of these is made of, a `caches.Stack` or an output.
        places: those of the parts of stacks that may grow, among all parts.
        variables: a list of those that the step is known to assign.
    """
    inner = [caches.mapped(rewriting.parameter_like, s) for s in stacks]
    parts = [x for stack in inner for x in caches.flat(stack)]
    state = [symbolic(v._dtype, v.shape) for v in variables]
    scope = Assignments(zip(variables, state))
    growing = caches.Growing([parts[place] for place in places])

    def iteration():
        values = _joined(inner, tree.flatten(initial))
        with scope:
            new = step(tree.pack_sequence_as(initial, values))
            proceed = _scalar_bool(cond(*new))
            results = [
                OpenVINOKerasTensor(part)
                for stack, x in zip(stacks, tree.flatten(new))
                for part in caches.parts_like(stack, x.output)
            ]
            return proceed, results, [current_value(v) for v in variables]

    inputs = parts + [x.output for x in state]
    with graph.current_trace().growth(growing):
        body = Body(iteration, inputs, is_loop=False)
    proceed, *results = body.results
    traced = stages.Step(inputs, proceed, results, body.captured, growing.found)
    return traced, scope.variables


def _joined(stacks, likes):
    """The tensors of `caches.Stack`s or outputs, in the dtypes of others."""
    return [
        caches.joined(stack)
        if isinstance(stack, caches.Stack)
        else symbolic_of(like.dtype, stack)
        for stack, like in zip(stacks, likes)
    ]


def _scalar_bool(x):
    x = cast(x, "bool")
    return x if x.ndim == 0 else apply("Reshape", x, (), special_zero=False)


def loop_node(trips, condition, body):
    """A `Loop` whose body's first result says whether to go on."""
    loop = ov.opset16.loop(trips.output, condition.output)
    loop.set_function(body.model())
    loop.set_special_body_ports([-1, 0])
    for output, parameter in body.captured:
        loop.set_invariant_input(parameter.get_node(), output)
    return loop


def fori_loop(lower, upper, body_fun, init_val):
    lower, upper = promote(lower, upper)

    def proceed(index, _):
        return apply("Less", index, upper)

    def step(index, value):
        one = convert_to_tensor(1, index.dtype)
        return apply("Add", index, one), body_fun(index, value)

    return while_loop(proceed, step, (lower, init_val))[1]
