"""What `training_test.py` trains on each backend: models and optimizers.

    KERAS_BACKEND=jax python -m integration_tests.training_cases file.pickle

writes a dict with the losses of all steps, and the weights at the end, for each
case.
"""

import pickle
import sys

import numpy as np

STEPS = 50


def model_of(shape, *parts):
    import keras

    return keras.Sequential([keras.Input(shape), *parts])


def mlp(layers):
    return model_of(
        (20,),
        layers.Dense(32, activation="relu"),
        layers.Dense(32, activation="gelu"),
        layers.Dense(4, activation="softmax"),
    )


def cnn(layers):
    return model_of(
        (12, 12, 3),
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.Conv2D(16, 3, strides=2, activation="silu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4, activation="softmax"),
    )


def lstm(layers):
    return model_of(
        (12, 6),
        layers.LSTM(16, return_sequences=True),
        layers.GRU(16),
        layers.Dense(4, activation="softmax"),
    )


def bert(layers):
    import keras

    tokens = keras.Input((10,), dtype="int32")
    x = layers.Embedding(30, 16)(tokens)
    y = layers.MultiHeadAttention(2, 8)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    y = layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(4, activation="softmax")(x)
    return keras.Model(tokens, outputs)


def regularised(layers):
    """With dropout, whose draws are those of Keras on JAX."""
    return model_of(
        (20,),
        layers.Dense(32, activation="relu", kernel_regularizer="l2"),
        layers.Dropout(0.3, seed=1),
        layers.Dense(32, activity_regularizer="l1"),
        layers.GaussianNoise(0.1, seed=2),
        layers.LayerNormalization(),
        layers.Dense(4, activation="softmax", kernel_constraint="unit_norm"),
    )


MODELS = {
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lstm,
    "bert": bert,
    "regularised": regularised,
}


def scheduled(optimizers, **options):
    schedule = optimizers.schedules.ExponentialDecay(0.02, 5, 0.8)
    return optimizers.Adam(schedule, **options)


OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.05),
    "nesterov": lambda o: o.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda o: o.RMSprop(momentum=0.5, centered=True),
    "adam": lambda o: o.Adam(0.01),
    "amsgrad": lambda o: o.Adam(0.01, amsgrad=True),
    "adamw": lambda o: o.AdamW(0.01, weight_decay=0.1),
    "adadelta": lambda o: o.Adadelta(0.5),
    "adagrad": lambda o: o.Adagrad(0.05),
    "adamax": lambda o: o.Adamax(0.01),
    "nadam": lambda o: o.Nadam(0.01),
    "ftrl": lambda o: o.Ftrl(0.05, l1_regularization_strength=1e-3),
    "lion": lambda o: o.Lion(0.001),
    "lamb": lambda o: o.Lamb(0.01),
    "adafactor": lambda o: o.Adafactor(0.01),
    "muon": lambda o: o.Muon(0.01),
    "schedule_free": lambda o: o.ScheduleFreeAdamW(0.01),
    "loss_scale": lambda o: o.LossScaleOptimizer(
        o.Adam(0.01), initial_scale=8.0, dynamic_growth_steps=7
    ),
    "scheduled": scheduled,
    "clipnorm": lambda o: o.SGD(0.05, clipnorm=0.1),
    "clipvalue": lambda o: o.SGD(0.05, clipvalue=0.01),
    "global_clipnorm": lambda o: scheduled(o, global_clipnorm=0.1),
    "loss_scale_factor": lambda o: o.Adam(0.01, loss_scale_factor=32.0),
    "accumulation": lambda o: o.Adam(0.01, gradient_accumulation_steps=3),
    "ema": lambda o: o.Adam(
        0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4
    ),
}

CASES = [(name, "adam") for name in MODELS]
CASES += [("mlp", name) for name in OPTIMIZERS if name != "adam"]
CASES += [("regularised", "accumulation")]


def data_of(model, count):
    """Inputs and labels that depend on them."""
    rng = np.random.default_rng(1)
    (spec,) = model.inputs
    shape = (count, *spec.shape[1:])
    if spec.dtype == "int32":
        x = rng.integers(0, 30, shape).astype("int32")
    else:
        x = rng.standard_normal(shape).astype("float32")
    means = x.reshape(count, 2, -1).mean(axis=2)
    y = (means > np.median(means, axis=0)) @ np.array([1, 2])
    return x, y.astype("int32")


def set_weights(model):
    """Gives weights that are the same on every backend."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            scale = 1 / np.sqrt(np.prod(shape[:-1]))
            variable.assign(rng.normal(0, scale, shape).astype("float32"))


def train(name, optimizer):
    """Lists of the loss of each step, and of the arrays of all weights."""
    import keras

    model = MODELS[name](keras.layers)
    set_weights(model)
    model.compile(
        OPTIMIZERS[optimizer](keras.optimizers),
        "sparse_categorical_crossentropy",
    )
    x, y = data_of(model, 5 * 16)
    losses = []
    for step in range(STEPS):
        rows = slice(step % 5 * 16, step % 5 * 16 + 16)
        losses.append(float(model.train_on_batch(x[rows], y[rows])))
    return losses, [np.array(w) for w in model.get_weights()]


def main(path):
    with open(path, "wb") as file:
        pickle.dump({case: train(*case) for case in CASES}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
