"""The specifications of random models: some layers on top of each other.

What a runtime fuses shows where layers meet, and a model that Keras builds is
traced, compiled and called in its own way. Weights are the initial ones, which
are the same on each backend for the same seed.
"""

import random

import numpy as np

from integration_tests.differential.cases import Spec


class Draw(random.Random):
    """Draws layers and their arguments."""

    def pick(self, *options):
        return self.choice(options)


# What is put on top of `x`: functions of a `Draw`, `x` and `keras.layers`.
ON_IMAGES = (
    lambda d, x, layers: layers.Conv2D(
        d.pick(2, 4, 8),
        d.pick(1, 3),
        strides=d.pick(1, 2),
        padding="same" if min(x.shape[1:3]) < 3 else d.pick("same", "valid"),
        activation=d.pick(None, "relu", "swish", "gelu", "tanh"),
    )(x),
    lambda d, x, layers: layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=d.pick(1, 2)
    )(x),
    lambda d, x, layers: layers.SeparableConv2D(4, 3, padding="same")(x),
    lambda d, x, layers: layers.Conv2DTranspose(
        4, 3, strides=d.pick(1, 2), padding=d.pick("same", "valid")
    )(x),
    lambda d, x, layers: layers.BatchNormalization()(x),
    lambda d, x, layers: layers.GroupNormalization(d.pick(1, x.shape[-1]))(x),
    lambda d, x, layers: layers.LayerNormalization(axis=d.pick(-1, (1, 2, 3)))(
        x
    ),
    lambda d, x, layers: layers.MaxPooling2D(2, padding="same")(x),
    lambda d, x, layers: layers.AveragePooling2D(2, padding="same")(x),
    lambda d, x, layers: layers.UpSampling2D(
        2, interpolation=d.pick("nearest", "bilinear")
    )(x),
    lambda d, x, layers: layers.ZeroPadding2D(((1, 0), (0, 2)))(x),
    lambda d, x, layers: layers.Permute((2, 1, 3))(x),
    lambda d, x, layers: layers.Activation(
        d.pick("relu", "hard_swish", "elu", "softplus", "leaky_relu", "mish")
    )(x),
    lambda d, x, layers: layers.Concatenate()(
        [x, layers.Conv2D(x.shape[-1], 1)(x)]
    ),
    lambda d, x, layers: layers.Add()(
        [x, layers.Conv2D(x.shape[-1], 3, padding="same")(x)]
    ),
    lambda d, x, layers: layers.Multiply()(
        [
            x,
            layers.Dense(x.shape[-1], activation="sigmoid")(
                layers.GlobalAveragePooling2D(keepdims=True)(x)
            ),
        ]
    ),
)

ON_SEQUENCES = (
    lambda d, x, layers: layers.LSTM(
        d.pick(3, 4), return_sequences=True, go_backwards=d.pick(True, False)
    )(x),
    lambda d, x, layers: layers.GRU(
        4, return_sequences=True, reset_after=d.pick(True, False)
    )(x),
    lambda d, x, layers: layers.Bidirectional(
        layers.SimpleRNN(3, return_sequences=True),
        merge_mode=d.pick("concat", "sum", "mul"),
    )(x),
    lambda d, x, layers: layers.MultiHeadAttention(
        d.pick(1, 2, 4), d.pick(2, 4)
    )(x, x, use_causal_mask=d.pick(True, False)),
    lambda d, x, layers: layers.GroupQueryAttention(4, 4, 2)(x, x),
    lambda d, x, layers: layers.Attention(use_scale=True)([x, x]),
    lambda d, x, layers: layers.AdditiveAttention()([x, x]),
    lambda d, x, layers: layers.LayerNormalization()(
        layers.Add()([x, layers.Dense(x.shape[-1], activation="gelu")(x)])
    ),
    lambda d, x, layers: layers.RMSNormalization()(x),
    lambda d, x, layers: layers.UnitNormalization()(x),
    lambda d, x, layers: layers.Conv1D(
        4, 3, padding=d.pick("same", "causal"), dilation_rate=d.pick(1, 2)
    )(x),
    lambda d, x, layers: layers.TimeDistributed(
        layers.Dense(5, activation="tanh")
    )(x),
    lambda d, x, layers: layers.EinsumDense("btc,cd->btd", (None, 6))(x),
    lambda d, x, layers: x[:, ::-1] * 0.5 + x,
)


def image_model(d, shape):
    """Takes `(batch, height, width, channels)`."""
    import keras

    x = inputs = keras.Input(shape)
    for _ in range(d.randint(2, 6)):
        x = d.choice(ON_IMAGES)(d, x, keras.layers)
    if d.pick(True, False):
        flat = keras.layers.Flatten()(x)
        x = keras.layers.Dense(3, activation="softmax")(flat)
    return keras.Model(inputs, x)


def sequence_model(d, shape):
    """Takes `(batch, time, channels)`."""
    import keras

    inputs = keras.Input(shape)
    return keras.Model(inputs, on_sequences(d, inputs))


def token_model(d, shape):
    """Takes `(batch, time)`, where 0 is masked."""
    import keras

    inputs = keras.Input(shape, dtype="int32")
    x = keras.layers.Embedding(11, 4, mask_zero=True)(inputs)
    return keras.Model(inputs, on_sequences(d, x))


def on_sequences(d, x):
    from keras import layers

    for _ in range(d.randint(1, 4)):
        x = d.choice(ON_SEQUENCES)(d, x, layers)
    pooling = d.pick(
        None, layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D
    )
    return pooling()(x) if pooling else x


def made(case, dynamic=False):
    """The model of a case, its time open if `dynamic`."""
    import keras

    seed = case.kwargs["seed"]
    keras.utils.set_random_seed(seed)
    (x,) = case.args
    open_time = dynamic and MODELS[case.name] is not image_model
    shape = (None, *x.shape[2:]) if open_time else x.shape[1:]
    return MODELS[case.name](Draw(seed), shape)


def build(case):
    import keras

    model = made(case)
    if keras.backend.backend() != "jax":
        return lambda x, seed: model(x, training=False)
    import jax

    run = jax.jit(lambda x: model(x, training=False))
    return lambda x, seed: run(x)


def predicted(case, dynamic):
    """What `predict` gives for the batch, and for all but its first sample."""
    model = made(case, dynamic)
    (x,) = case.args
    whole = model.predict(x, verbose=0)
    rest = model.predict(x[1:], batch_size=1, verbose=0)
    np.testing.assert_allclose(rest, whole[1:], rtol=1e-3, atol=1e-4)
    return whole


def sized(*sizes):
    """The arguments of a case: an input of drawn dims, and a seed."""

    def arguments(d):
        shape = [d.integer(2, 4), *(d.integer(*size) for size in sizes)]
        seed = d.integer(0, 2**31 - 1)
        x = np.random.default_rng(seed).normal(size=shape)
        return (x.astype("float32"),), {"seed": seed}

    return arguments


def tokens(d):
    seed = d.integer(0, 2**31 - 1)
    shape = d.integer(2, 4), d.integer(1, 9)
    x = np.random.default_rng(seed).integers(0, 11, shape)
    return (x.astype("int32"),), {"seed": seed}


MODELS = {
    "image_model": image_model,
    "sequence_model": sequence_model,
    "token_model": token_model,
}


def _spec(arguments):
    return Spec(
        arguments, build=build, compiled=predicted, spread=True, tolerance=20
    )


SPECS = {
    "image_model": _spec(sized((5, 12), (5, 9), (1, 4))),
    "sequence_model": _spec(sized((1, 9), (3, 4))),
    "token_model": _spec(tokens),
}
