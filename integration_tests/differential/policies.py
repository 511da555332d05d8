"""The specifications of dtype policies: of layers, models, quantised layers.

Every layer is made under a global policy; in the models each layer has one of
its own, the last mostly float32. Results are to be as exact as the narrowest
dtype that something is computed in.
"""

import contextlib

import numpy as np

import keras
from integration_tests.differential import layers
from integration_tests.differential.cases import Case
from integration_tests.differential.cases import Spec

POLICIES = (
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "mixed_float16",
    "mixed_bfloat16",
)
QUANTISED = ("Dense", "EinsumDense", "Embedding", "ReversibleEmbedding")
# The modes of all these layers, and those of the first two alone.
MODES = ("int8", "int4", "int4 in groups")
CALIBRATED = ("gptq", "gptq in groups", "awq", "awq in groups")
GROUP = 16
# Names of dtypes, the least exact first. Nothing is as exact as float64: under
# that policy Keras normalises in float32, and so does its GRU on JAX in parts.
DTYPES = ("bfloat16", "float16", "float32")


def narrowest(case):
    """The least exact dtype in the policies of a case."""
    names = " ".join(map(str, case.kwargs["policies"]))
    return next((dtype for dtype in DTYPES if dtype in names), "float32")


# ------------------------------------------------------------------- layers


@contextlib.contextmanager
def under(policy):
    """Makes what is made inside it under a policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def without_policies(case):
    kwargs = {k: v for k, v in case.kwargs.items() if k != "policies"}
    return Case(case.name, case.args, kwargs)


def of_layer(spec):
    def arguments(d):
        args, kwargs = spec.arguments(d)
        return args, {**kwargs, "policies": [d.choice(*POLICIES)]}

    def build(case):
        with under(case.kwargs["policies"][0]):
            function = layers.build(without_policies(case))
        return lambda *args, policies, **kwargs: function(*args, **kwargs)

    def compiled(case, dynamic):
        with under(case.kwargs["policies"][0]):
            return layers.compiled(without_policies(case), dynamic)

    return spec._replace(
        arguments=arguments,
        build=build,
        compiled=compiled,
        narrowest=narrowest,
        numpy=None,
        tolerance=4 * spec.tolerance,
    )


# ------------------------------------------------------------------- models


def mixed_model(case):
    """Two layers and a head, each of a policy of its own."""
    first, second, head = case.kwargs["policies"]
    keras.utils.set_random_seed(case.kwargs["seed"])
    (x,) = case.args
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    if x.ndim == 2:
        y = keras.layers.Embedding(11, 4, dtype=first)(inputs)
    else:
        y = keras.layers.Dense(6, "gelu", dtype=first)(inputs)
    y = keras.layers.MultiHeadAttention(2, 3, dtype=second)(y, y)
    y = keras.layers.LayerNormalization(dtype=first)(y)
    return keras.Model(inputs, keras.layers.Dense(3, "tanh", dtype=head)(y))


def quantised_model(case):
    """A layer whose weights were quantised, and a head of floats."""
    policy, head = case.kwargs["policies"]
    mode, name = case.kwargs["mode"], case.kwargs["layer"]
    keras.utils.set_random_seed(case.kwargs["seed"])
    (x,) = case.args
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    options = {
        "Dense": {"units": 8, "activation": "tanh"},
        "EinsumDense": {
            "equation": "btc,cd->btd",
            "output_shape": (None, 8),
            "bias_axes": "d",
        },
        "Embedding": {"input_dim": 11, "output_dim": 2 * GROUP},
        "ReversibleEmbedding": {"input_dim": 11, "output_dim": 2 * GROUP},
    }[name]
    layer = getattr(keras.layers, name)(**options, dtype=policy)
    y = layer(inputs)
    quantise(layer, mode, np.random.default_rng(case.kwargs["seed"]))
    if name == "ReversibleEmbedding":
        y = layer(y, reverse=True)
    return keras.Model(inputs, keras.layers.Dense(3, dtype=head)(y))


def quantise(layer, mode, rng):
    """Quantises a layer; by GPTQ and AWQ to weights that are drawn."""
    mode, _, is_grouped = mode.partition(" ")
    group = GROUP if is_grouped else -1
    if mode == "int4":
        config = keras.quantizers.Int4QuantizationConfig(block_size=group)
    elif mode == "gptq":
        config = keras.quantizers.GPTQConfig(None, None, group_size=group)
    elif mode == "awq":
        config = keras.quantizers.AWQConfig(None, None, group_size=group)
    else:
        config = None
    layer.quantize(mode, config=config)
    if mode not in ("gptq", "awq"):
        return
    setattr(layer, f"is_{mode}_calibrated", True)
    kernel, scale = layer.quantized_kernel, layer.kernel_scale
    kernel.assign(rng.integers(0, 256, kernel.shape, "uint8"))
    layer.kernel_zero.assign(rng.integers(0, 16, scale.shape, "uint8"))
    scale.assign(rng.uniform(0.01, 0.1, scale.shape))
    if is_grouped:
        layer.g_idx.assign(np.arange(kernel.shape[1]) // GROUP)
    if mode == "awq":
        scales = layer.awq_scales
        scales.assign(rng.uniform(0.5, 2, scales.shape))


def of_model(make, arguments):
    def build(case):
        model = make(case)
        if keras.backend.backend() != "jax":
            return lambda x, **_: model(x, training=False)
        return lambda x, **_: model.predict(x, verbose=0)

    def compiled(case, dynamic):
        model = make(case)
        (x,) = case.args
        return model.predict(x, batch_size=2 if dynamic else 32, verbose=0)

    return Spec(
        arguments,
        build=build,
        compiled=compiled,
        spread=True,
        tolerance=8,
        narrowest=narrowest,
    )


def inputs_of(d, tokens, width=4):
    shape = [d.integer(1, 5), d.integer(1, 6)]
    if tokens:
        return d.array(("int32",), shape, (0, 10))
    return d.array(("float32",), [*shape, width], "small")


def mixed(d):
    policies = [d.choice(*POLICIES) for _ in range(2)]
    policies.append(d.choice("float32", "float32", *POLICIES))
    x = inputs_of(d, d.bool())
    return (x,), {"policies": policies, "seed": d.integer(0, 2**31 - 1)}


def quantised(d):
    layer = d.choice(*QUANTISED)
    is_embedding = "Embedding" in layer
    modes = MODES if is_embedding else MODES + CALIBRATED
    # An odd width, one of a group and a half, and one of two groups.
    width = d.choice(4, 5, 24, 2 * GROUP)
    return (inputs_of(d, is_embedding, width),), {
        # Keras does not quantise layers that compute in float16.
        "policies": [
            d.choice("float32", "bfloat16", "mixed_bfloat16"),
            "float32",
        ],
        "mode": d.choice(*modes),
        "layer": layer,
        "seed": d.integer(0, 2**31 - 1),
    }


SPECS = {
    "mixed_model": of_model(mixed_model, mixed),
    "quantised_model": of_model(quantised_model, quantised),
    **{name: of_layer(spec) for name, spec in layers.SPECS.items()},
}
