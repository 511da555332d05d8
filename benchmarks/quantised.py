"""Quantised models against the float32 model: time, memory, exported files.

    python benchmarks/quantised.py [--width N] [--layers N]
                                   [--batches N ...] [--rounds N]

A stack of wide `Dense` layers is quantised in each mode. The models take turns;
a time is the smallest of all rounds, which others on the machine disturb least.
Memory is what a process grows by as it loads the saved model and predicts, in a
process for each mode; the file is the `.bin` of the exported model. The command
ends with 1 where a claim does not hold: that at batch 1 int8 is 3 times as fast
as float32 in a quarter of the memory, and int4 5 times in an eighth, give or
take what scales and the machinery take.
"""

import argparse
import functools
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time

import harness

# How many times as fast at batch 1, and in how little memory, each is to be.
CLAIMS = {
    "float32": (1, 1),
    "int8": (3, 3.5),
    "int4": (5, 6.5),
    "int4 in groups of 128": (5, 6),
}


def build(mode, width, count):
    import numpy as np

    import keras

    name, _, group = mode.partition(" in groups of ")
    config = None
    if name == "int4":
        block = int(group) if group else None
        config = keras.quantizers.Int4QuantizationConfig(block_size=block)
    rng = np.random.default_rng(0)
    inputs = x = keras.Input((width,))
    for _ in range(count):
        layer = keras.layers.Dense(width, activation="relu")
        x = layer(x)
        layer.kernel.assign(rng.normal(0, width**-0.5, (width, width)))
        if name != "float32":
            layer.quantize(name, config=config)
    return keras.Model(inputs, x)


def step_of(model):
    """What `predict` does with a batch, without its loop over batches."""
    from keras.src.backend.openvino.jit import jit

    return jit(functools.partial(model, training=False))


def measure(steps, x, rounds):
    """The seconds that each mode takes for a batch."""
    times = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for mode, step in steps.items():
            step(x)  # brings its weights into the caches
            started = time.perf_counter()
            step(x)
            times[mode] = min(times[mode], time.perf_counter() - started)
    return times


def resident():
    """The bytes of memory that this process has."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def growth(path, width):
    """The bytes by which this process grows with a saved model."""
    os.environ["KERAS_BACKEND"] = "openvino"
    import numpy as np

    import keras

    # The runtime, and what Keras imports as it goes.
    build("int4", 16, 1).predict(np.ones((1, 16)), verbose=0)
    before = resident()
    model = keras.saving.load_model(path)
    model.predict(np.ones((1, width)), verbose=0)
    return resident() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "openvino"
    import numpy as np

    import keras

    steps, sizes, files = {}, {}, {}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for mode in CLAIMS:
            path = pathlib.Path(folder, f"{mode}.keras")
            model = build(mode, options.width, options.layers)
            model.save(path)
            ir = path.with_suffix(".xml")
            model.export(str(ir), format="openvino", verbose=False)
            files[mode] = ir.with_suffix(".bin").stat().st_size
            with spawn.Pool(1) as pool:
                sizes[mode] = pool.apply(growth, (path, options.width))
            steps[mode] = step_of(model)
            path.unlink()
    x = np.random.default_rng(0).normal(
        size=(max(options.batches), options.width)
    )
    x = x.astype("float32")
    times = {
        batch: measure(
            steps, keras.ops.convert_to_tensor(x[:batch]), options.rounds
        )
        for batch in options.batches
    }
    rows, missed = [], []
    for mode, (faster, smaller) in CLAIMS.items():
        row = [mode]
        for batch in options.batches:
            seconds = times[batch][mode]
            ratio = times[batch]["float32"] / seconds
            row += [harness.show_time(seconds), f"{ratio:.1f}"]
            if batch == 1 and ratio < faster:
                missed.append(f"{mode} is {ratio:.1f} times as fast")
        for name, found in (("memory", sizes), ("file", files)):
            ratio = found["float32"] / found[mode]
            row += [f"{found[mode] / 1e6:.0f} MB", f"{ratio:.1f}"]
            if ratio < smaller:
                missed.append(
                    f"{mode}: its {name} is {ratio:.1f} times as small"
                )
        rows.append(row)
    header = [""]
    for name in (*(f"batch {n}" for n in options.batches), "memory", "file"):
        header += [name, "float32 /"]
    harness.show_table(
        f"{options.layers} x Dense({options.width}) on {harness.cpu()}",
        header,
        rows,
    )
    for text in missed:
        print("missed:", text)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
