"""bfloat16 by the types in the graph against the runtime's own switch.

    python benchmarks/precision.py [--only MODEL ...] [--batch N] [--rounds N]

An MLP, an encoder like BERT's and a CNN with batch normalisation run on the
CPU, exported by this backend with the batch size left open: the float32 model,
the same model under `mixed_bfloat16` (`types`), and the float32 model under the
runtime's `INFERENCE_PRECISION_HINT` for bfloat16 (`hint`), which computes all
layers in it. The three take turns; a figure is the median of all rounds. A CPU
without bfloat16 shows no gain.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import harness

MODELS = ("mlp", "encoder", "cnn")
VARIANTS = {
    "float32": ("float32", "f32"),
    "types": ("mixed_bfloat16", "f32"),
    "hint": ("float32", "bf16"),
}


def build(name, policy):
    """A model and the shape of an input."""
    import keras
    from keras import layers

    keras.config.set_dtype_policy(policy)
    if name == "mlp":
        shape = (1024,)
        inputs = x = keras.Input(shape)
        for _ in range(4):
            x = layers.Dense(1024, activation="relu")(x)
    elif name == "encoder":
        shape = (128, 256)
        inputs = x = keras.Input(shape)
        for _ in range(4):
            attended = layers.MultiHeadAttention(4, 64)(x, x)
            x = layers.LayerNormalization()(x + attended)
            hidden = layers.Dense(1024, activation="gelu")(x)
            x = layers.LayerNormalization()(x + layers.Dense(256)(hidden))
        x = layers.GlobalAveragePooling1D()(x)
    else:
        shape = (56, 56, 3)
        inputs = x = keras.Input(shape)
        for filters in (32, 64, 128):
            for _ in range(2):
                x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
                x = layers.BatchNormalization()(x)
                x = layers.Activation("relu")(x)
            x = layers.MaxPooling2D()(x)
        x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(10, activation="softmax", dtype="float32")(x)
    return keras.Model(inputs, outputs), shape


def compiled(model, hint):
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
        }
        request = core.compile_model(path, "CPU", options)
    return request.create_infer_request()


def measure(name, batch, rounds):
    """The seconds that each variant takes."""
    import numpy as np

    requests, weights = {}, None
    for variant, (policy, hint) in VARIANTS.items():
        model, shape = build(name, policy)
        weights = weights or model.get_weights()
        model.set_weights(weights)
        requests[variant] = compiled(model, hint)
    x = np.random.default_rng(0).normal(size=(batch, *shape))
    x = x.astype("float32")
    times = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, request in requests.items():
            request.infer({0: x})  # brings its weights into the caches
            started = time.perf_counter()
            request.infer({0: x})
            times[variant].append(time.perf_counter() - started)
    return {variant: statistics.median(t) for variant, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "openvino"
    rows = []
    for name in options.only:
        times = measure(name, options.batch, options.rounds)
        cells = [harness.show_time(times[variant]) for variant in VARIANTS]
        rows.append([name, *cells, f"{times['types'] / times['hint']:.2f}"])
    harness.show_table(
        f"A batch of {options.batch} on {harness.cpu()}",
        ["", *VARIANTS, "types / hint"],
        rows,
    )


if __name__ == "__main__":
    main()
