"""The specifications of derivatives: of every op and layer, of float32.

Forwards by `keras.ops.jvp`, and backwards by what each backend has.
"""

import numpy as np

from integration_tests.differential import layers
from integration_tests.differential import ops
from integration_tests.differential.cases import Spec
from integration_tests.differential.cases import arrays_of
from integration_tests.differential.cases import is_float
from integration_tests.differential.cases import map_arrays
from integration_tests.differential.worker import callee
from integration_tests.differential.worker import public
from integration_tests.differential.worker import run_exposed


def usual(x):
    """Floats as float32, those that are no usual numbers replaced."""
    if not is_float(x.dtype):
        return x
    x = x.astype("float32")
    size = np.abs(x)
    is_usual = np.isfinite(x) & (size < 100) & ((size > 1e-3) | (size == 0))
    others = np.random.default_rng(x.size).uniform(0.1, 2, x.shape)
    return np.where(is_usual, x, others.astype("float32")) + 0.0  # no -0


def arguments(spec):
    def drawn(d):
        args = spec.arguments(d)
        kwargs = {}
        if len(args) == 2 and isinstance(args[1], dict):
            args, kwargs = args
        return map_arrays(usual, (args, kwargs))

    return drawn


def weights(x):
    """Numbers to weigh those of `x` by, which vary as they do."""
    return 0.5 + x / (1 + x * x)


def is_float_tensor(x):
    import keras

    if not keras.ops.is_tensor(x):
        return False
    return "float" in keras.backend.standardize_dtype(x.dtype)


def derivatives(call):
    """A function that gives both derivatives of `call`, and its results."""

    def both(*args, **kwargs):
        import keras

        leaves = keras.tree.flatten((args, kwargs))
        places = [i for i, x in enumerate(leaves) if is_float_tensor(x)]

        def function(*floats):
            given = list(leaves)
            for place, x in zip(places, floats):
                given[place] = x
            args_, kwargs_ = keras.tree.pack_sequence_as((args, kwargs), given)
            result = keras.tree.flatten(call(*args_, **kwargs_))
            return [x for x in result if is_float_tensor(x)]

        floats = [leaves[i] for i in places]
        if not floats:
            return []
        tangents = [weights(x) for x in floats]
        results, forwards = keras.ops.jvp(function, floats, tangents)
        if not results:
            return []
        gradients = backwards(function, floats, [weights(y) for y in results])
        return [forwards, gradients]

    return both


def backwards(function, floats, output_gradients):
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.vjp(function, *floats)[1](output_gradients)
    from keras.src.backend.openvino.gradient import GradientTape

    with GradientTape() as tape:
        tape.watch(floats)
        results = function(*floats)
    gradients = tape.gradient(results, floats, output_gradients)
    return [
        keras.ops.zeros_like(x) if g is None else g
        for x, g in zip(floats, gradients)
    ]


# Why there is no derivative to compare.
LEFT_OUT = {
    "ctc_decode": "beam search, which chooses among paths, has none",
    "unique": "JAX gives zeros where it returns indices too",
    "fold": "JAX's shape is another where strides are larger than kernels",
}

# Of these there is one where the number of steps is known.
LOOPS = ("fori_loop", "while_loop")


def of_op(name, spec):
    only_eager = spec.only_eager or name in LOOPS and "loops in Python"
    return Spec(
        arguments(spec),
        build=lambda case: derivatives(spec.call or public(case.name)),
        only_eager=only_eager or "",
        spread=True,
        tolerance=max(20, 4 * spec.tolerance),
    )


def compiled_anew(case, dynamic):
    """Of a layer with the state that it starts with."""
    function = callee(SPECS[case.name], case)
    return run_exposed(function, arrays_of(case), dynamic, times=1)


def of_layer(spec):
    return Spec(
        arguments(spec),
        build=lambda case: derivatives(spec.build(case)),
        compiled=compiled_anew,
        only_eager=spec.only_eager,
        spread=True,
        tolerance=max(20, 4 * spec.tolerance),
    )


SPECS = {
    **{n: of_op(n, s) for n, s in ops.SPECS.items() if n not in LEFT_OUT},
    **{n: of_layer(s) for n, s in layers.SPECS.items() if n not in LEFT_OUT},
}
