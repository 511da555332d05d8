"""Training: `train_on_batch` and `fit` on this backend and its peers.

    python benchmarks/fit.py [--only MODEL ...] [--backends NAME ...]
                             [--rounds N] [--json FILE]

Models in float32 are trained by Adam. `step` is `train_on_batch`, `fit` a batch
among as many as take half a second; a figure is the smallest of all rounds, a
round's being the median of its calls. Each backend runs in a process of its
own, and all are asked in turn. Memory is by how much a process of its own, that
has trained another model, grows at most while the model is built and trained
for a few steps. The exit status is 1 if the losses of 50 steps are further from
those on JAX than twice those on TensorFlow are, or a claim fails.
"""

import argparse
import functools
import itertools
import statistics
import sys
import time

import harness
import models

# The peers that train.
BACKENDS = (harness.THIS, "tensorflow", "jax", "torch")
SLOT = 0.3  # seconds for one measurement
MANY = 0.5  # seconds that the batches of a `fit` are to take, about
STEPS = 50  # of which the losses are compared
FEW = 5  # in which memory is measured
NEAR = 1e-5  # what losses may differ by in any case
SEEDS = (1, 2, 3)  # of the data for that; the middle one of them counts
TIMEOUT = 600  # seconds


# Run in the children: they choose the backend before Keras is imported.


def mlp(keras, layers):
    hidden = [layers.Dense(256, activation="relu") for _ in range(4)]
    return keras.Sequential([keras.Input((256,)), *hidden, classes(layers)])


def cnn(keras, layers):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            classes(layers),
        ]
    )


def resnet(keras, layers):
    """20 layers, as for CIFAR-10 (He et al. 2015, section 4.2)."""

    def convolution(x, filters, strides=1):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(
            x
        )
        return layers.BatchNormalization()(x)

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolution(inputs, 16))
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if filters > 16 and block == 0 else 1
            y = layers.ReLU()(convolution(x, filters, strides))
            y = convolution(y, filters)
            if strides == 2:
                x = layers.Conv2D(filters, 1, 2, use_bias=False)(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, classes(layers)(x))


def mobilenet(keras, layers):
    return keras.applications.MobileNetV3Small(
        weights=None, input_shape=(224, 224, 3), classes=10
    )


def lstm(keras, layers):
    return keras.Sequential(
        [
            keras.Input((64, 32)),
            layers.LSTM(128, return_sequences=True),
            layers.GRU(128),
            classes(layers),
        ]
    )


def bert(keras, layers):
    return models.bert(keras, layers, classes(layers))


def classes(layers):
    return layers.Dense(10, activation="softmax")


# Each model, and how many samples a batch has.
MODELS = {
    "mlp": (mlp, 128),
    "cnn": (cnn, 64),
    "resnet": (resnet, 32),
    "mobilenet": (mobilenet, 16),
    "lstm": (lstm, 32),
    "bert": (bert, 16),
}


def build(name):
    """The model, with weights that are the same on every backend."""
    import keras

    make, _ = MODELS[name]
    model = make(keras, keras.layers)
    models.set_weights(model)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def data(name, model, batches=1, seed=1):
    """So many batches of samples and labels."""
    import numpy as np

    count = MODELS[name][1] * batches
    rng = np.random.default_rng(seed)
    (spec,) = model.inputs
    shape = (count, *spec.shape[1:])
    if spec.dtype == "int32":
        x = rng.integers(0, 10_000, shape).astype("int32")
    else:
        x = rng.standard_normal(shape).astype("float32")
    return x, rng.integers(0, 10, count).astype("int32")


@functools.cache
def prepare(name):
    """A call of `train_on_batch`, the model, and the time of the first."""
    started = time.perf_counter()
    model = build(name)
    step = functools.partial(model.train_on_batch, *data(name, model))
    step()
    return step, model, time.perf_counter() - started


@functools.cache
def prepare_fit(name):
    """A call of `fit`, and how many batches it takes."""
    step, model, _ = prepare(name)
    count = max(4, int(MANY / harness.median_time(step, 0.1)))
    fit = functools.partial(
        model.fit,
        *data(name, model, count),
        batch_size=MODELS[name][1],
        verbose=0,
    )
    fit()
    return fit, count


def measure(case):
    """The seconds until the first step was taken, and those of a step."""
    name, method = case.split()
    step, _, first = prepare(name)
    if method == "step":
        return first, harness.median_time(step, SLOT)
    fit, count = prepare_fit(name)
    return first, harness.median_time(fit, SLOT) / count


def losses(name, count, seed=1):
    """Those of so many steps."""
    model = build(name)
    x, y = data(name, model, seed=seed)
    return [float(model.train_on_batch(x, y)) for _ in range(count)]


def peak(name):
    """By how many bytes the process grows while a model is trained."""
    import numpy as np

    import keras

    # Libraries are loaded where something is trained for the first time.
    first = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    first.compile("adam", "mse")
    first.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))
    before = harness.resident_bytes()
    losses(name, FEW)
    return peak_bytes() - before


def peak_bytes():
    """The most memory that this process ever had in RAM."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# Run in the parent.


def memory(backends, names):
    """`{name: {backend: bytes}}`, of a process for each."""
    found = {}
    for name in names:
        for backend in backends:
            harness.progress(f"memory: {name}, {backend}")
            peer = harness.Peer(backend, TIMEOUT)
            try:
                grown = peer.ask(peak, name)
            except harness.PeerError:
                continue
            finally:
                peer.stop()
            found.setdefault(name, {})[backend] = grown
    harness.progress("")
    return found


def show_memory(found, backends):
    rows = [
        [name, *(f"{by[b] / 1e6:.0f} MB" if b in by else "-" for b in backends)]
        for name, by in found.items()
    ]
    harness.show_table("Memory at most", ["", *backends], rows)


def show_samples(results, backends):
    rows = []
    for case, by_name in results.items():
        name, method = case.split()
        if method == "fit":
            times = [by_name[b].get("time") for b in backends]
            size = MODELS[name][1]
            cells = [f"{size / t:,.0f}" if t else "-" for t in times]
            rows.append([name, *cells])
    harness.show_table("Samples a second, by `fit`", ["", *backends], rows)


def right_losses(peers, names):
    for name in names:
        text = f"{name}: the losses of {STEPS} steps are as near to JAX's as "
        text += "twice those on TensorFlow"
        try:
            shares = [distance(peers, name, seed) for seed in SEEDS]
        except (KeyError, harness.PeerError) as error:
            yield None, f"{text}: {error}"
            continue
        share = statistics.median(shares)
        yield share <= 1, f"{text}: {share:.2f} of that"


def distance(peers, name, seed):
    """How far losses are from JAX's, by what they may be.

    Rounding grows with the steps, and what it does to a number that is next to
    the kink of a `relu` is chance.
    """
    expected, here, there = (
        peers[peer].ask(losses, name, STEPS, seed)
        for peer in ("jax", harness.THIS, "tensorflow")
    )
    here, there = (
        itertools.accumulate((abs(a - b) for a, b in zip(x, expected)), max)
        for x in (here, there)
    )
    return max(x / max(2 * y, NEAR) for x, y in zip(here, there))


def speeds(results):
    halves = []
    for case, by_name in results.items():
        ratios = {
            name: harness.ratio(by_name, name)
            for name in by_name
            if name != harness.THIS and harness.ratio(by_name, name)
        }
        if "tensorflow" in ratios:
            text = f"{case}: no slower than Keras on TensorFlow"
            share = ratios["tensorflow"]
            yield share >= 1, f"{text}: {1 / share:.2f} of its time"
        if ratios:
            halves.append(min(ratios.values()) >= 1)
    if halves:
        text = "no slower than the fastest peer in half of the cases"
        passed = 2 * sum(halves) >= len(halves)
        yield passed, f"{text}: in {sum(halves)} of {len(halves)}"


def frugal(found):
    for name, by_backend in found.items():
        this = by_backend.pop(harness.THIS, None)
        if this and by_backend:
            share = this / min(by_backend.values())
            text = f"{name}: at most 1.2 times the memory of the best peer"
            yield share <= 1.2, f"{text}: {share:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    harness.add_options(parser, MODELS, rounds=3)
    parser.set_defaults(backends=BACKENDS)
    options = parser.parse_args()
    peers = {name: harness.Peer(name, TIMEOUT) for name in options.backends}
    harness.show_machine(peers)
    peers = {name: peer for name, peer in peers.items() if not peer.error}
    cases = [f"{x} {how}" for x in options.only for how in ("step", "fit")]
    asked = {name: (peer, measure) for name, peer in peers.items()}
    results = harness.rounds(asked, cases, options.rounds)
    harness.show_results(
        results,
        peers,
        "time",
        f"Time of a batch, smallest of {options.rounds} rounds",
    )
    harness.show_ratios(results, peers)
    show_samples(results, peers)
    steps = {c: r for c, r in results.items() if c.endswith("step")}
    harness.show_results(steps, peers, "first", "Until the first step is taken")
    claims = list(right_losses(peers, options.only))
    for peer in peers.values():
        peer.stop()
    found = memory(peers, options.only)
    show_memory(found, peers)
    claims += [*speeds(results), *frugal(found)]
    harness.show_errors(results)
    status = harness.show_claims(claims)
    if options.json:
        harness.write_json(options.json, peers, results, claims)
    return status


if __name__ == "__main__":
    sys.exit(main())
