"""Values of pending graphs: by NumPy kernels, or by a compiled model."""

import math

import numpy as np

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import plans
from keras.src.backend.openvino.dtypes import HALVES
from keras.src.backend.openvino.dtypes import NUMPY_DTYPES
from keras.src.backend.openvino.dtypes import without_base
from keras.src.backend.openvino.registry import Spec
from keras.src.backend.openvino.registry import find

# A pending graph that grows deeper is evaluated on the way, so that a loop
# whose values nobody looks at does not pile up nodes. 256 nodes hold 0.3 MB.
MAX_DEPTH = 256

# Graphs that multiply-add more often than this, as `work` counts, are
# compiled: a run of a compiled model costs 26 us more than a kernel, and
# compiling, once for each structure, some 20 ms.
COMPILED_WORK = 2**22

# A pending node that keeps more bytes than this alive for a value that takes a
# quarter of its inputs, or a 64th of all that it keeps, is computed at once:
# 100 means of 4 MB that nobody looked at kept 405 MB. To sum up as many bytes
# takes 10 us.
MAX_HELD = 2**16

# Of these kernels give a view, also of halves; others are given float32.
_VIEWS = frozenset(("Reshape", "Squeeze", "Transpose", "Unsqueeze"))

_COMPILED_DTYPES = frozenset(("float32", "float16", "bfloat16", "bool"))


def evaluate(nodes):
    """Computes the pending ones of `nodes` and all they depend on.

    Afterwards each of them, and each node on the way that a tensor or another
    pending node still needs, has its `values` and has forgotten its inputs.
    """
    order = graph.topological_order(nodes)
    while _worth_compiling(order):
        if plans.run(order, nodes):
            return
        # Another thread has computed some of them in the meantime.
        order = graph.topological_order(nodes)
    _interpret(order)


def is_due(node):
    """Whether a node of more than `MAX_HELD` is to be computed at once."""
    outputs = sum(map(_spec_bytes, node.outputs))
    if 4 * outputs >= node.held or find(node.type).work:
        return False  # compiled with what follows, it is faster
    inputs = sum(_spec_bytes(s) for s in node.specs if s.__class__ is Spec)
    return 4 * outputs < inputs or 64 * outputs < node.held


def _spec_bytes(spec):
    dtype, shape = spec
    if shape is None:  # it depends on values
        return 0
    return math.prod(shape) * NUMPY_DTYPES[dtype].itemsize


def _interpret(order):
    """Runs a kernel for each node, and lets go of each as soon as it can."""
    order.reverse()
    with np.errstate(all="ignore"):
        while order:
            node = order.pop()
            kernel = find(node.type).kernel
            if kernel is None:
                plans.run([node], [node])
            else:
                _run_kernel(node, kernel)


def _run_kernel(node, kernel):
    inputs = node.inputs
    if node.values is not None:
        return
    arrays = [
        operand.node.values[operand.index]
        if operand.__class__ is graph.Source
        else operand
        for operand in inputs
    ]
    outputs = node.outputs
    if outputs[0].dtype in HALVES and node.type not in _VIEWS:
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
    dtype = NUMPY_DTYPES[spec.dtype]
    if value.__class__ is not np.ndarray or value.dtype is not dtype:
        value = np.asarray(value, dtype=dtype)
    return value if value.base is None else without_base(value)


def _widened(array):
    if array.dtype.name in HALVES:
        return array.astype(np.float32)
    return array


def _worth_compiling(order):
    """Whether the CPU plugin is faster, and as right, for these nodes."""
    work = 0
    for node in order:
        count = find(node.type).work
        if count:
            work += count(node)
    return (
        work >= COMPILED_WORK
        and not any(
            spec.dtype not in _COMPILED_DTYPES
            for node in order
            for spec in node.outputs
        )
        and not any(graph.has_complex(node.specs) for node in order)
    )
