"""Values of pending graphs: by NumPy kernels, or by a compiled model."""

import collections
import threading

import numpy as np

from keras.src.backend.openvino import device
from keras.src.backend.openvino import graph
from keras.src.backend.openvino.dtypes import NUMPY_DTYPES
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.dtypes import to_ov_tensor
from keras.src.backend.openvino.registry import find

# A pending graph that grows deeper is evaluated on the way, so that a loop
# whose values nobody looks at does not pile up nodes. 256 nodes hold 0.3 MB.
MAX_DEPTH = 256

# Graphs that multiply-add more often than this, as `work` counts, are
# compiled: a run of a compiled model costs 26 us more than a kernel, and
# compiling, once for each structure, some 20 ms.
COMPILED_WORK = 2**22

# The structures whose compiled models are kept.
MAX_PLANS = 512

_HALVES = ("float16", "bfloat16")
_COMPILED_DTYPES = frozenset(("float32", "float16", "bfloat16", "bool"))


def evaluate(nodes):
    """Computes the pending ones of `nodes` and all they depend on.

    Afterwards each of them, and each node on the way that a tensor or another
    pending node still needs, has its `values` and has forgotten its inputs.
    """
    order = graph.topological_order(nodes)
    while _worth_compiling(order):
        if _run_compiled(order, nodes):
            return
        # Another thread has computed some of them in the meantime.
        order = graph.topological_order(nodes)
    _interpret(order)


def _interpret(order):
    """Runs a kernel for each node, and lets go of each as soon as it can."""
    order.reverse()
    with np.errstate(all="ignore"):
        while order:
            node = order.pop()
            kernel = find(node.type).kernel
            if kernel is None:
                _run_compiled([node], [node])
            else:
                _run_kernel(node, kernel)


def _run_kernel(node, kernel):
    inputs = node.inputs
    if node.values is not None:
        return
    arrays = [
        operand[0].values[operand[1]] if operand.__class__ is tuple else operand
        for operand in inputs
    ]
    outputs = node.outputs
    if outputs[0][0] in _HALVES:
        arrays = [_widened(array) for array in arrays]
    if node.attributes:
        values = kernel(*arrays, **dict(node.attributes))
    else:
        values = kernel(*arrays)
    if values.__class__ is tuple:
        values = tuple(map(_converted, values, outputs))
    else:
        values = (_converted(values, outputs[0]),)
    node.settle(values)


def _converted(value, spec):
    """The array of what a kernel gave, in the dtype that was inferred."""
    dtype = NUMPY_DTYPES[spec[0]]
    if value.__class__ is np.ndarray and value.dtype is dtype:
        return value
    return np.asarray(value, dtype=dtype)


def value(operand):
    """The array of an input that a `graph.Node` keeps."""
    if operand.__class__ is tuple:
        node, index = operand
        return node.values[index]
    return operand


def _widened(array):
    if array.dtype.name in _HALVES:
        return array.astype(np.float32)
    return array


def _worth_compiling(order):
    """Whether the CPU plugin is faster, and as right, for these nodes."""
    work = 0
    for node in order:
        count = find(node.type).work
        if count:
            work += count(node)
    return work >= COMPILED_WORK and all(
        dtype in _COMPILED_DTYPES for node in order for dtype, _ in node.outputs
    )


# ------------------------------------------------------------ compiled plans


class Specialisations:
    """Compiled variants of one graph, by the shapes of its inputs.

    Args:
        compile: a function from shapes, in which `None` is a dynamic dim, to
            a callable; one with a method `is_current` is compiled anew once
            that is false.
        opened: a function from shapes that no variant fits to the same with
            `None` for dims that are to be dynamic. By default these are the
            dims that are seen to vary, which keeps the number of variants
            small whatever sizes come.
    """

    def __init__(self, compile, opened=None):
        self._compile = compile
        self._opened = opened or self._varying
        self._variants = []
        self._refused = set()
        self._lock = threading.RLock()

    def get(self, shapes):
        """The variant for these shapes (a list of tuples of integers)."""
        for pattern, variant in self._variants:
            if _matches(pattern, shapes) and _is_current(variant):
                return variant
        with self._lock:
            self._variants = [v for v in self._variants if _is_current(v[1])]
            for pattern, variant in self._variants:
                if _matches(pattern, shapes):
                    return variant
            pattern, variant = self._new_variant(shapes)
            self._variants = [(pattern, variant)] + self._variants
            return variant

    def _new_variant(self, shapes):
        pattern = self._opened(shapes)
        if pattern != shapes and tuple(pattern) not in self._refused:
            try:
                return pattern, self._compile(pattern)
            except Exception:
                # Something needs one of these dims known, as a convolution
                # those of its weights. If that is not the reason, it fails
                # again below.
                self._refused.add(tuple(pattern))
        return shapes, self._compile(shapes)

    def _varying(self, shapes):
        if not self._variants:
            return shapes
        # The closest: the weights of another layer that has this graph too
        # must not become dynamic where only the batch size does.
        patterns = [pattern for pattern, _ in self._variants]
        closest = min(patterns, key=lambda p: _distance(p, shapes))
        return _generalised(closest, shapes)


def _is_current(variant):
    is_current = getattr(variant, "is_current", None)
    return is_current is None or is_current()


def _matches(pattern, shapes):
    return all(
        dim is None or dim == size
        for dims, shape in zip(pattern, shapes)
        for dim, size in zip(dims, shape)
    )


def _distance(pattern, shapes):
    """The number of dims in which shapes do not match a pattern."""
    return sum(
        dim is not None and dim != size
        for dims, shape in zip(pattern, shapes)
        for dim, size in zip(dims, shape)
    )


def _generalised(pattern, shapes):
    return [
        tuple(dim if dim == size else None for dim, size in zip(dims, shape))
        for dims, shape in zip(pattern, shapes)
    ]


_plans = collections.OrderedDict()
_plans_lock = threading.Lock()


def _run_compiled(order, wanted):
    """Runs the nodes as one compiled model, cached by their structure.

    Returns:
        Whether it did; not if one of them has been computed already.
    """
    inputs = [node.inputs for node in order]
    if any(node.values is not None for node in order):
        return False
    structure, leaves, kept = _structure(order, inputs, wanted)
    key = (structure, device.get_device())
    with _plans_lock:
        plan = _plans.get(key)
        if plan is None:
            plan = Specialisations(_compiler(structure, device.get_device()))
            _plans[key] = plan
            if len(_plans) > MAX_PLANS:
                _plans.popitem(last=False)
        else:
            _plans.move_to_end(key)
    executable = plan.get([leaf.shape for leaf in leaves])
    results = executable([to_ov_tensor(leaf) for leaf in leaves])
    values = iter([to_array(result) for result in results])
    for node in kept:
        node.settle(tuple(next(values) for _ in node.outputs))
    for node in order:
        if node.values is None:
            node.settle((None,) * len(node.outputs))
    return True


def _structure(order, inputs, wanted):
    """What the nodes compute, as a hashable value, and on which arrays.

    Returns:
        `(structure, leaves, kept)`: the structure names the operand `i` of a
        node as `("node", position, output)`, `("leaf", position)` or
        `("=", value)`; `kept` are the nodes whose values somebody needs.
    """
    positions = {node: i for i, node in enumerate(order)}
    leaves, leaf_positions, rows = [], {}, []

    def reference(operand, spec):
        if spec[0] == "=":
            return spec
        if operand.__class__ is tuple and operand[0] in positions:
            return ("node", positions[operand[0]], operand[1])
        array = value(operand)
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


def _needed_outside(node, inside):
    users = (user() for user in node.users)
    return any(u is not None and u not in inside for u in users)


def _compiler(structure, device_name):
    """A function from the shapes of the leaves to the compiled model."""
    rows, specs, kept = structure

    def compile(shapes):
        parameters = [
            graph.parameter(dtype, shape)
            for (dtype, _), shape in zip(specs, shapes)
        ]
        nodes = []
        for type, attributes, references in rows:
            inputs = []
            for kind, *where in references:
                if kind == "=":
                    array = np.array(where[0], dtype=np.int64)
                    inputs.append(graph.constant(array))
                elif kind == "leaf":
                    inputs.append(parameters[where[0]])
                else:
                    inputs.append(nodes[where[0]].output(where[1]))
            nodes.append(graph.build(type, inputs, dict(attributes)))
        outputs = [output for i in kept for output in nodes[i].outputs()]
        return device.compile_model(outputs, parameters, device_name)

    return compile
