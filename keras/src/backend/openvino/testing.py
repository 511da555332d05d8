"""What the fork's tests share."""

import concurrent.futures
import itertools
import threading

import numpy as np
import openvino as ov

from keras.src import tree
from keras.src.backend.openvino import device
from keras.src.backend.openvino import stages
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.dtypes import from_pairs
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.gradient import GradientTape
from keras.src.backend.openvino.graph import Trace
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.tensor import value_of


def _traced(function, arrays, dynamic, operations):
    with Trace(operations):
        inputs = [
            symbolic(a.dtype.name, _known_dims(a.shape, dynamic))
            for a in arrays
        ]
        outputs = map(convert_to_tensor, tree.flatten(function(*inputs)))
        outputs = [(y.dtype, y.output) for y in outputs]
    return outputs, [x.output for x in inputs]


def trace(function, *arrays, dynamic=True):
    """The `openvino.Model` of `function` for inputs like `arrays`.

    Args:
        function: takes and returns (nested) tensors.
        *arrays: `numpy.ndarray`s; only their dtypes and shapes count.
        dynamic: whether all dims are unknown to the trace, or a tuple of the
            axes that are.
    """
    outputs, inputs = _traced(function, arrays, dynamic, None)
    return ov.Model([y for _, y in outputs], [x.get_node() for x in inputs])


def _known_dims(shape, dynamic):
    axes = dynamic if isinstance(dynamic, tuple) else range(len(shape))
    return [
        None if dynamic and axis in axes else dim
        for axis, dim in enumerate(shape)
    ]


def node_types(model):
    """The types of a model's nodes in order, inputs and outputs aside."""
    types = [node.get_type_name() for node in model.get_ordered_ops()]
    return [t for t in types if t not in ("Parameter", "Result", "Constant")]


def run_compiled(function, *arrays, dynamic=True):
    """What `function` gives inside a model compiled for the CPU, as a list."""
    arrays = [value_of(convert_to_tensor(a)) for a in arrays]
    operations = Operations()
    outputs, inputs = _traced(function, arrays, dynamic, operations)
    executable = device.compile_model(
        [y for _, y in outputs], inputs, operations=operations
    )
    results = same_each_time(lambda: executable(arrays))
    return [
        from_pairs(result) if is_complex(dtype) else result
        for (dtype, _), result in zip(outputs, results)
    ]


def same_each_time(call, times=3):
    """What `call` gives, a list of arrays, the same each time.

    Memory that a compiled model writes into by mistake shows from the second
    call on.
    """
    first = call()
    for _ in range(times - 1):
        for x, y in zip(first, call(), strict=True):
            assert x.tobytes() == y.tobytes(), "another call gives another"
    return first


def both_ways(function, *arrays, dynamic=True):
    """The flat results of `function`: eager, and in a compiled model."""
    tensors = map(convert_to_tensor, arrays)
    eager = [np.asarray(y) for y in tree.flatten(function(*tensors))]
    compiled = run_compiled(function, *arrays, dynamic=dynamic)
    assert [y.dtype for y in eager] == [y.dtype for y in compiled]
    return eager, compiled


def gradient_of(function):
    """The gradient of the sum of what a function of one tensor gives."""

    def gradient(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)

    return gradient


def check(function, arrays, expected, rtol=1e-6, atol=0.0, dynamic=True):
    """Compares what `function` gives, eager and compiled, with `expected`."""
    several = isinstance(expected, (tuple, list))
    expected = expected if several else [expected]
    for results in both_ways(function, *arrays, dynamic=dynamic):
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=rtol, atol=atol)
            assert result.shape == np.shape(wanted)


def compiled_models(monkeypatch):
    """A list that gets each model that is compiled from now on in a test."""
    models = []
    compile_model = device.compile_model

    def noted(*args, **kwargs):
        models.append(compile_model(*args, **kwargs))
        return models[-1]

    monkeypatch.setattr(device, "compile_model", noted)
    return models


def made_stages(monkeypatch):
    """A list that gets the `Stages` that are made from now on in a test."""
    made = []

    class Noted(stages.Stages):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(stages, "Stages", Noted)
    return made


def runtime_nodes(compiled):
    """Pairs of the type and the node of what the runtime made of a model.

    Args:
        compiled: an `openvino.CompiledModel`.
    """
    nodes = compiled.get_runtime_model().get_ordered_ops()
    return [(x.get_rt_info()["layerType"].astype(str), x) for x in nodes]


def runtime_types(compiled):
    """The types of these nodes."""
    return [type for type, _ in runtime_nodes(compiled)]


def normal(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def in_threads_beside(change, work):
    """Runs `work()` in eight threads, beside one that calls `change(n)`.

    Args:
        change: called with 1, 2 and so on until all work is done.
        work: what raises an error where something is wrong.
    """
    stop = threading.Event()

    def keep_changing():
        for n in itertools.count(1):
            if stop.is_set():
                return
            change(n)

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        changing = pool.submit(keep_changing)
        working = [pool.submit(work) for _ in range(8)]
        try:
            for future in working:
                future.result()
        finally:
            stop.set()
        changing.result()
