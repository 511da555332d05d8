"""Pending graphs that run as compiled models, kept by their structure."""

import functools

import numpy as np

from keras.src.backend.openvino import device
from keras.src.backend.openvino import graph
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.settings import current_target
from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.specialise import Variants

# The compiled models that are kept. Weights are inputs to them, so that they
# hold little: the constants of formulas.
MAX_PLANS = 512
MAX_BYTES = 2**26

_plans = Variants(MAX_PLANS, MAX_BYTES)


class _Plan:
    """A compiled model without variables, which is never out of date."""

    def __init__(self, executable):
        self.executable = executable
        self.nbytes = executable.nbytes

    def is_current(self):
        return True


def run(order, wanted):
    """Runs the nodes as one compiled model, cached by their structure.

    Returns:
        Whether it did; not if one of them has been computed already.
    """
    inputs = [node.inputs for node in order]
    if any(node.values is not None for node in order):
        return False
    structure, leaves, kept = _structure(order, inputs, wanted)
    key = (structure, current_target())
    compile = functools.partial(_compile, *key)
    plan = _plans.get(key, [leaf.shape for leaf in leaves], compile)
    values = iter(plan.executable(leaves))
    # The others go with the inputs of these. A thread that still has one of
    # them finds it pending.
    for node in kept:
        node.settle(tuple(next(values) for _ in node.outputs))
    return True


def _structure(order, inputs, wanted):
    """What the nodes compute, as a hashable value, and on which arrays.

    Returns:
        `(structure, leaves, kept)`: the structure names the operand `i` of a
        node as `("node", position, output)`, `("leaf", position)` or
        `("known", value)`; `kept` are the nodes whose values somebody needs.
    """
    positions = {node: i for i, node in enumerate(order)}
    leaves, leaf_positions, rows = [], {}, []

    def reference(operand, spec):
        if spec.__class__ is graph.Known:
            return ("known", spec.value)
        if operand.__class__ is graph.Source and operand.node in positions:
            return ("node", positions[operand.node], operand.index)
        array = _value(operand)
        if id(array) not in leaf_positions:
            leaf_positions[id(array)] = len(leaves)
            leaves.append(array)
        return ("leaf", leaf_positions[id(array)])

    for node, operands in zip(order, inputs):
        references = tuple(map(reference, operands, node.specs))
        rows.append((node.type, node.attributes, references))
    wanted = set(wanted)
    kept = [n for n in order if n in wanted or _needed_outside(n, positions)]
    specs = tuple((leaf.dtype.name, leaf.ndim) for leaf in leaves)
    structure = (tuple(rows), specs, tuple(positions[n] for n in kept))
    return structure, leaves, kept


def _value(operand):
    """The array of an input that a `graph.Node` keeps."""
    if operand.__class__ is graph.Source:
        return operand.node.values[operand.index]
    return operand


def _needed_outside(node, inside):
    # A copy, for another thread may remove some that are gone.
    users = (user() for user in node.users.copy())
    return any(u is not None and u not in inside for u in users)


def _compile(structure, target, shapes):
    """The compiled model of a structure for leaves of these shapes."""
    rows, specs, kept = structure
    parameters = [
        graph.parameter(dtype, shape)
        for (dtype, _), shape in zip(specs, shapes)
    ]
    nodes = []
    operations = Operations()
    try:
        with graph.Trace(operations):
            for type, attributes, references in rows:
                inputs = [_input(r, parameters, nodes) for r in references]
                nodes.append(graph.build(type, inputs, dict(attributes)))
    except ValueError as error:
        # The nodes were inferred with all dims known when they were recorded.
        raise UnknownDim(str(error)) from error
    outputs = [output for i in kept for output in nodes[i].outputs()]
    return _Plan(device.compile_model(outputs, parameters, target, operations))


def _input(reference, parameters, nodes):
    kind, *where = reference
    if kind == "known":
        return graph.constant(np.array(where[0], dtype=np.int64))
    if kind == "leaf":
        return parameters[where[0]]
    return nodes[where[0]].output(where[1])
