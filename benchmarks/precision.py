"""bfloat16 by the types in the graph against the runtime's own switch.

    python benchmarks/precision.py [--only MODEL ...] [--batch N ...]
                                   [--rounds N]

An MLP, an encoder like BERT's, a small ResNet and MobileNet and two LSTMs run
on the CPU, exported by this backend: the float32 model, the same model under
`mixed_bfloat16` (`types`), and the float32 model under the runtime's
`INFERENCE_PRECISION_HINT` for bfloat16 (`hint`), which computes all layers in
it. The batch size is left open, or known when the runtime compiles the model.
The variants take turns; a figure is the least time of the CPU of all rounds,
with one thread. A CPU without bfloat16 shows no gain.
"""

import argparse
import itertools
import os
import pathlib
import sys
import tempfile
import time

import harness

VARIANTS = {
    "float32": ("float32", "f32"),
    "types": ("mixed_bfloat16", "f32"),
    "hint": ("float32", "bf16"),
}
# Of the time under the hint, where it is more than 1.05. That computes
# attention and layer normalisation in bfloat16, and Keras in float32; and it
# multiplies weights with the scale of a normalisation, where a MobileNet's
# small kernels take longer for it.
LIMITS = {"encoder": 1.25, "mobilenet": 1.25}


def build(name, policy):
    """A model under a dtype policy."""
    import keras
    from keras import layers

    keras.config.set_dtype_policy(policy)
    inputs = keras.Input(SHAPES[name])
    x = BLOCKS[name](layers, inputs)
    outputs = layers.Dense(10, activation="softmax", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def mlp(layers, x):
    for _ in range(4):
        x = layers.Dense(1024, activation="relu")(x)
    return x


def encoder(layers, x):
    for _ in range(4):
        attended = layers.MultiHeadAttention(4, 64)(x, x)
        x = layers.LayerNormalization()(x + attended)
        hidden = layers.Dense(1024, activation="gelu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(256)(hidden))
    return layers.GlobalAveragePooling1D()(x)


def normalized(layers, x, activation="relu"):
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def resnet(layers, x):
    x = layers.Conv2D(32, 3, padding="same", use_bias=False)(x)
    x = normalized(layers, x)
    for filters in (32, 64, 128):
        strides = 1 if filters == 32 else 2
        y = layers.Conv2D(filters, 3, strides, "same", use_bias=False)(x)
        y = normalized(layers, y)
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = normalized(layers, y, None)
        if strides == 2:
            x = layers.Conv2D(filters, 1, strides, use_bias=False)(x)
            x = normalized(layers, x, None)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    return layers.GlobalAveragePooling2D()(x)


def mobilenet(layers, x):
    x = layers.Conv2D(32, 3, 2, "same", use_bias=False)(x)
    x = normalized(layers, x, "relu6")
    for filters, strides in ((64, 1), (128, 2), (128, 1), (256, 2)):
        x = layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(x)
        x = normalized(layers, x, "relu6")
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = normalized(layers, x, "relu6")
    return layers.GlobalAveragePooling2D()(x)


def lstm(layers, x):
    x = layers.LSTM(256, return_sequences=True)(x)
    return layers.LSTM(256)(x)


SHAPES = {
    "mlp": (1024,),
    "encoder": (128, 256),
    "resnet": (56, 56, 3),
    "mobilenet": (96, 96, 3),
    "lstm": (64, 128),
}
BLOCKS = {
    "mlp": mlp,
    "encoder": encoder,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "lstm": lstm,
}


def trained(weights):
    """Weights as training leaves them: none is the zero that is left out."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [w + rng.uniform(0.01, 0.1, w.shape) for w in weights]


def compiled(model, hint, shape):
    """An InferRequest of the model as this backend exports it."""
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder, "model.xml"))
        model.export(path, format="openvino", verbose=False)
        core = ov.Core()
        core.set_property({"ENABLE_MMAP": False})  # the file goes away
        options = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": 1,
        }
        read = core.read_model(path)
        read.reshape(shape)
        request = core.compile_model(read, "CPU", options)
    return request.create_infer_request()


def measure(name, batch, is_open, rounds):
    """The seconds that each variant takes."""
    import numpy as np

    requests = {}
    for variant, (policy, hint) in VARIANTS.items():
        model = build(name, policy)
        model.set_weights(trained(model.get_weights()))
        shape = [-1 if is_open else batch, *SHAPES[name]]
        requests[variant] = compiled(model, hint, shape)
    x = np.random.default_rng(0).normal(size=(batch, *SHAPES[name]))
    x = x.astype("float32")
    times = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, request in requests.items():
            request.infer({0: x})  # brings its weights into the caches
            started = time.process_time()
            request.infer({0: x})
            times[variant].append(time.process_time() - started)
    return {variant: min(t) for variant, t in times.items()}


def claims(ratios):
    return [
        (
            ratio <= LIMITS.get(name, 1.05),
            f"{name}, batch of {batch}, {kind}: {ratio:.2f} times the time "
            f"under the hint, at most {LIMITS.get(name, 1.05)}",
        )
        for (name, batch, kind), ratio in ratios.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BLOCKS, default=BLOCKS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "openvino"
    rows, ratios = [], {}
    for name, batch, kind in itertools.product(
        options.only, options.batch, ("open", "static")
    ):
        harness.progress(f"{name}, batch of {batch}, {kind}")
        times = measure(name, batch, kind == "open", options.rounds)
        cells = [harness.show_time(times[variant]) for variant in VARIANTS]
        ratio = ratios[name, batch, kind] = times["types"] / times["hint"]
        rows.append([name, str(batch), kind, *cells, f"{ratio:.2f}"])
    harness.progress("")
    harness.show_table(
        f"A batch on {harness.cpu()}",
        ["", "batch", "size", *VARIANTS, "types / hint"],
        rows,
    )
    return harness.show_claims(claims(ratios))


if __name__ == "__main__":
    sys.exit(main())
