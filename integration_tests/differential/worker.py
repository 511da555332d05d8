"""A child process that runs cases on one backend.

`python -m integration_tests.differential.worker` reads pickled cases from its
standard input and writes a pickled answer for each to its standard output, so
that whoever started it sees which case ended it.
"""

import importlib
import os
import pickle
import sys
import warnings

import numpy as np

from integration_tests.differential.cases import Outcome
from integration_tests.differential.cases import arrays_of
from integration_tests.differential.cases import has_64_bits
from integration_tests.differential.cases import is_float
from integration_tests.differential.cases import map_arrays


def attempt(function):
    try:
        return Outcome([own(x) for x in function()])
    except Exception as error:  # a finding, or the reference's limit
        text = " ".join(str(error).split())
        return Outcome(None, f"{type(error).__name__}: {text}"[:400])


def own(x):
    return x if isinstance(x, str) else np.array(x)


def flat(result):
    """The arrays of a result, in order; Python numbers are 0-d arrays."""
    import keras

    return [
        x
        if isinstance(x, str)
        else keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(x))
        for x in keras.tree.flatten(result)
        if x is not None
    ]


def callee(spec, case):
    """A function of the case's arrays, as tensors."""
    call = spec.build(case) if spec.build else spec.call or public(case.name)

    def function(*arrays):
        arrays = iter(arrays)
        args, kwargs = map_arrays(
            lambda _: next(arrays), (case.args, case.kwargs)
        )
        return call(*args, **kwargs)

    return function


def public(name):
    """The function of a name such as `sum`, `image.resize`."""
    import keras

    target = keras.ops
    for part in name.split("."):
        target = getattr(target, part)
    return target


def run_here(spec, case):
    """The outcomes on this backend: eager, compiled, with open dims."""
    import keras

    arrays = arrays_of(case)
    try:
        function = callee(spec, case)
    except Exception as error:  # a layer that cannot be built
        return [Outcome(None, repr(error)[:400])] * 3

    def eager():
        tensors = [keras.ops.convert_to_tensor(x) for x in arrays]
        return flat(function(*tensors))

    def compiled(dynamic):
        if spec.compiled:
            return flat(spec.compiled(case, dynamic))
        return run_exposed(function, arrays, dynamic)

    outcomes = [attempt(eager)]
    if not spec.only_eager:
        outcomes += [attempt(lambda: compiled(x)) for x in (False, True)]
    return outcomes


# The dtypes that the CPU plugin may compute in wider ones.
WIDER = {
    "bool": "int32",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "float16": "float32",
    "bfloat16": "float32",
}


def run_exposed(function, arrays, dynamic, times=3):
    """The results inside a compiled model.

    Its outputs would hide that a result does not fit its dtype, which the
    next operation of a model sees. With all dims open it is called `times`
    times, which are to give the same: once where the function has state.
    """
    import keras
    from keras.src.backend.openvino import testing
    from keras.src.backend.openvino.jit import jit

    dtypes = []

    def wider(*tensors):
        dtypes.clear()
        results = map(
            keras.ops.convert_to_tensor, keras.tree.flatten(function(*tensors))
        )
        exposed = []
        for x in results:
            dtypes.append(keras.backend.standardize_dtype(x.dtype))
            wide = WIDER.get(dtypes[-1])
            exposed.append(keras.ops.cast(x, wide) if wide else x)
        return exposed

    if dynamic:
        # As for `predict`, which knows the dims of empty arrays, and those
        # that an operation cannot do without.
        open_specs = [(None,) * x.ndim for x in arrays]
        compiled = jit(wider, open_specs)
        results = testing.same_each_time(
            lambda: list(map(np.asarray, compiled(*arrays))), times
        )
    else:
        results = testing.run_compiled(wider, *arrays, dynamic=False)
    return [as_it_was(x, dtype) for x, dtype in zip(results, dtypes)]


def as_it_was(x, dtype):
    """`x` in a narrower dtype if that has its values, else as it is."""
    narrow = x.astype(dtype)
    same = np.array_equal(narrow.astype(x.dtype), x, equal_nan=True)
    return narrow if same else x


def run_reference(spec, case):
    """The outcomes of Keras on JAX and of NumPy."""
    import jax

    import keras

    def on_jax():
        tensors = [keras.ops.convert_to_tensor(x) for x in arrays_of(case)]
        return flat(callee(spec, case)(*tensors))

    def on_numpy():
        args, kwargs = map_arrays(as_float32, (case.args, case.kwargs))
        result = spec.numpy(*args, **kwargs)
        return result if isinstance(result, (tuple, list)) else [result]

    # Only for operands that have them: 64 bits change JAX's default dtypes.
    with jax.enable_x64(has_64_bits(case)):
        outcomes = [attempt(on_jax)]
    if spec.numpy:
        outcomes.append(attempt(on_numpy))
    return outcomes


def as_float32(x):
    """`x` for NumPy: halves are computed in float32 and rounded once."""
    is_half = is_float(x.dtype) and x.dtype.itemsize == 2
    return x.astype("float32") if is_half else x


def main():
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    warnings.simplefilter("ignore")
    table, cases = pickle.load(sys.stdin.buffer)
    specs = importlib.import_module(table).SPECS
    here = os.environ["KERAS_BACKEND"] == "openvino"
    with np.errstate(all="ignore"):
        for case in cases:
            run = run_here if here else run_reference
            pickle.dump(run(specs[case.name], case), out)
            out.flush()


if __name__ == "__main__":
    main()
