"""The models that `predict.py` measures.

Keras and NumPy are imported where they are used: see `harness.py`.
"""

import functools


def mlp(keras, layers):
    return _sequential((256,), *(_relu(256) for _ in range(4)))


def dense(keras, layers):
    return _sequential((2048,), *(_relu(2048) for _ in range(4)))


def dense_int8(keras, layers):
    return _quantised(dense(keras, layers), "int8")


def dense_int4(keras, layers):
    return _quantised(dense(keras, layers), "int4")


def mobilenet(keras, layers):
    return keras.applications.MobileNetV3Small(
        weights=None, input_shape=(224, 224, 3)
    )


def resnet50(keras, layers):
    return keras.applications.ResNet50(weights=None, input_shape=(224, 224, 3))


def efficientnet(keras, layers):
    return keras.applications.EfficientNetV2B0(
        weights=None, input_shape=(224, 224, 3)
    )


def bert(keras, layers, head=None):
    """An encoder: 4 blocks of width 256 and 4 heads, for 128 tokens.

    Args:
        head: the last layer, by default a Dense of 2.
    """
    tokens = keras.Input((128,), dtype="int32")
    x = layers.Embedding(10_000, 256)(tokens)
    for _ in range(4):
        y = layers.MultiHeadAttention(4, 64)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
        y = layers.Dense(1024, activation="gelu")(x)
        y = layers.Dense(256)(y)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
    head = head or layers.Dense(2)
    return keras.Model(tokens, head(layers.GlobalAveragePooling1D()(x)))


def spectrogram(keras, layers):
    """Log-mel spectrograms of two seconds, read by a CNN."""
    return _sequential(
        (32_000,),
        layers.MelSpectrogram(sampling_rate=16_000),
        layers.Reshape((128, -1, 1)),
        layers.Conv2D(16, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
    )


def unet(keras, layers):
    def block(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    inputs = x = keras.Input((128, 128, 3))
    skipped = []
    for filters in (16, 32):
        x = block(x, filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, 64)
    for filters in (32, 16):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = layers.Concatenate()([x, skipped.pop()])
        x = block(x, filters)
    outputs = layers.Conv2D(1, 1, activation="sigmoid")(x)
    return keras.Model(inputs, outputs)


def recurrent(keras, layers):
    return _sequential(
        (64, 32),
        layers.LSTM(128, return_sequences=True),
        layers.GRU(128),
        layers.Dense(10),
    )


def bidirectional(keras, layers):
    return _sequential(
        (64, 32),
        layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
        layers.SimpleRNN(64),
        layers.Dense(10),
    )


MODELS = {
    "mlp": mlp,
    "mobilenet": mobilenet,
    "resnet50": resnet50,
    "efficientnet": efficientnet,
    "bert": bert,
    "spectrogram": spectrogram,
    "unet": unet,
    "recurrent": recurrent,
    "bidirectional": bidirectional,
    "dense": dense,
    "dense-int8": dense_int8,
    "dense-int4": dense_int4,
}


def _relu(units):
    from keras import layers

    return layers.Dense(units, activation="relu")


def _sequential(shape, *parts):
    import keras

    return keras.Sequential([keras.Input(shape), *parts])


def _quantised(model, mode):
    set_weights(model)
    model.quantize(mode)
    return model


@functools.cache
def build(name):
    """The model, with weights that are the same on every backend."""
    import keras

    model = MODELS[name](keras, keras.layers)
    if "-" not in name:  # quantised ones have theirs
        set_weights(model)
    return model


def set_weights(model):
    import numpy as np

    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        shape = variable.shape
        if len(shape) < 2:  # biases and statistics start with constants
            continue
        depthwise = len(shape) == 4 and shape[3] == 1
        inputs = shape[: 2 if depthwise else -1]
        # The rounding of one step must not grow over all of them.
        gain = 0.5 if "recurrent" in variable.name else 2
        scale = np.sqrt(gain / np.prod(inputs))
        variable.assign(rng.normal(0, scale, shape).astype("float32"))


def data(name, count):
    """So many samples: an array."""
    import numpy as np

    (spec,) = build(name).inputs
    rng = np.random.default_rng(1)
    shape = (count, *spec.shape[1:])
    if spec.dtype == "int32":
        return rng.integers(0, 10_000, shape).astype("int32")
    top = 255 if spec.shape[1:] == (224, 224, 3) else 1
    return rng.uniform(0, top, shape).astype("float32")
