"""What stays in memory of weights, models, shapes and batches that are gone.

    python benchmarks/memory.py [--only CASE ...] [--backends NAME ...]
                                [--json FILE]

Each case runs in a process of its own, a tenth of it first, to warm up. The
figure is by how much the resident size of the process grows after that, at its
end and at most. What ResNet50 takes at most, from building it to the end of a
`predict`, is compared with the bare OpenVINO runtime, from reading the exported
model on. Afterwards the claims are tested, and the exit status is 1 if one of
them fails.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import harness

LIMIT = 50e6  # bytes
TIMEOUT = 1800  # seconds


# Run in the children. A case is a function that does one step; what it returns
# is kept until the end of the case.


def noisy(keras, units):
    """A model with a layer whose numbers are random when it predicts too."""

    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(0)

        def call(self, x):
            shape = keras.ops.shape(x)
            return x + keras.random.normal(shape, seed=self.seed)

    return keras.Sequential(
        [keras.Input((units,)), keras.layers.Dense(units), Noise()]
    )


def set_weights():
    """Weights of 4 MB are set before each `predict`."""
    import numpy as np

    import keras

    model = noisy(keras, 1024)
    weights = [np.ones(w.shape, "float32") for w in model.weights]
    x = np.ones((4, 1024), "float32")

    def step(i):
        model.set_weights([w * (i % 7) for w in weights])
        model.predict(x, verbose=0)

    return step


def models():
    """A model is built, predicts, and is dropped."""
    import numpy as np

    import keras

    x = np.ones((4, 256), "float32")

    def step(i):
        noisy(keras, 256).predict(x, verbose=0)

    return step


def lengths():
    """A transformer's block predicts for another sequence length."""
    import numpy as np

    import keras
    from keras import layers

    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(100, 64)(inputs)
    x = layers.LayerNormalization()(layers.MultiHeadAttention(4, 16)(x, x) + x)
    x = layers.Dense(64, activation="gelu")(x)
    outputs = layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, outputs)

    def step(i):
        model.predict(np.ones((2, 8 + i), "int32"), verbose=0)

    return step


def unread():
    """The mean of 4 MB is kept, and nobody reads it."""
    import numpy as np

    from keras import ops

    return lambda i: ops.mean(np.full((1000, 1000), i, "float32"))


def idle():
    """A small batch comes first, then some of 134 MB."""
    import numpy as np

    import keras

    inputs = keras.Input((None, None, 8))
    x = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, x)

    def step(i):
        size = 512 if i else 8
        model.predict(np.ones((16, size, size, 8), "float32"), verbose=0)

    return step


def export():
    """A model of 400 MB is written as OpenVINO IR."""
    import keras

    layers = [keras.layers.Dense(2500, use_bias=False) for _ in range(16)]
    model = keras.Sequential([keras.Input((2500,)), *layers])
    folder = tempfile.TemporaryDirectory()

    def step(i):
        path = f"{folder.name}/model.xml"
        model.export(path, format="openvino", verbose=False)

    return step


# The number of steps of each case.
CASES = {set_weights: 1000, models: 500, lengths: 200, unread: 100, idle: 4}
CASES[export] = 3
NAMES = {case.__name__: case for case in CASES}


def growth(function):
    """By how many bytes the process grows: at the end, and at most."""
    Path("/proc/self/clear_refs").write_text("5")  # the most is from here on
    before = harness.resident_bytes()
    _kept = function()
    with open("/proc/self/status") as file:
        (line,) = (x for x in file if x.startswith("VmHWM"))
    most = int(line.split()[1]) * 1024
    return harness.resident_bytes() - before, most - before


def measure(name):
    """The `growth` of a case."""
    case = NAMES[name]
    step = case()
    warm = max(1, CASES[case] // 10)
    for i in range(warm):
        step(i)
    steps = range(warm, warm + CASES[case])
    return growth(lambda: [step(i) for i in steps])


def images():
    import numpy as np

    return np.ones((32, 224, 224, 3), "float32")


def export_resnet(path):
    import keras

    model = keras.applications.ResNet50(weights=None)
    model.export(path, format="openvino", verbose=False)


def predict_resnet(_):
    """The most that ResNet50 takes by `predict`, in bytes."""
    import keras

    x = images()

    def predict():
        model = keras.applications.ResNet50(weights=None)
        return model, model.predict(x, batch_size=8, verbose=0)

    return growth(predict)[1]


def infer_resnet(path):
    """The most that it takes by OpenVINO's own API."""
    import openvino as ov

    x = images()
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}

    def infer():
        core = ov.Core()
        model = core.compile_model(core.read_model(path), "CPU", options)
        return model, [model(x[i : i + 8])[0] for i in range(0, 32, 8)]

    return growth(infer)[1]


# Run in the parent.


def megabytes(size):
    return f"{size / 1e6:.0f} MB"


def ask(peer, name):
    peer.start()  # what another case gave back would hide the growth
    try:
        return peer.ask(measure, name)
    except harness.PeerError as error:
        return str(error)


def resnet():
    """What ResNet50 takes, and what it takes of the bare runtime."""
    peer = harness.Peer(harness.THIS, TIMEOUT)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/resnet50.xml"
        peer.ask(export_resnet, path)
        figures = []
        for function in (predict_resnet, infer_resnet):
            peer.start()
            figures.append(peer.ask(function, path))
    return figures


def resnet_claim():
    text = "ResNet50 takes at most 1.2 times the bare runtime's memory"
    try:
        here, bare = resnet()
    except harness.PeerError as error:
        return False, f"{text}: {error}"
    return here <= 1.2 * bare, (
        f"{text}: {megabytes(here)} and {megabytes(bare)}, {here / bare:.2f}"
    )


def claims(results):
    for name, by_backend in results.items():
        if harness.THIS not in by_backend:
            continue
        text = f"{CASES[NAMES[name]]:,} times: {NAMES[name].__doc__} "
        text += f"The process grows by at most {megabytes(LIMIT)}"
        grown = by_backend[harness.THIS]
        if isinstance(grown, str):
            yield False, f"{text}: {grown}"
        else:
            yield grown[0] <= LIMIT, f"{text}: {megabytes(grown[0])}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    harness.add_options(parser, tuple(NAMES), rounds=1)
    parser.set_defaults(backends=[harness.THIS])
    options = parser.parse_args()
    peers = harness.open_peers(options.backends)
    harness.show_machine(peers)
    results = {}
    for name in options.only:
        for backend, peer in peers.items():
            harness.progress(f"{name}, {backend}")
            peer.timeout = TIMEOUT
            results.setdefault(name, {})[backend] = ask(peer, name)
    harness.progress("")
    rows = [
        [name]
        + [
            "error"
            if isinstance(grown, str)
            else f"{megabytes(grown[0])}, {megabytes(grown[1])}"
            for grown in by_backend.values()
        ]
        for name, by_backend in results.items()
    ]
    title = "Growth at the end, and at most"
    harness.show_table(title, ["", *peers], rows)
    found = list(claims(results))
    if options.only == tuple(NAMES):
        found.append(resnet_claim())
    status = harness.show_claims(found)
    if options.json:
        harness.write_json(options.json, peers, results, found)
    return status


if __name__ == "__main__":
    sys.exit(main())
