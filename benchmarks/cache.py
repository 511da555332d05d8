"""The first `predict` of a process, with and without a folder of models.

    python benchmarks/cache.py [--only MODEL ...] [--rounds N]

ResNet50 and MobileNetV3Small, with random weights of a fixed seed, are built in
a process of their own each time; a figure is the seconds that the first
`predict` of one image then takes, the smallest of all rounds. `without` has no
folder, `cold` an empty one, `warm` that of the process before. `own class` is
warm too, but its model is of a class that the script defines, so that it is
traced and found by its graph, in OpenVINO's own cache. `second` is the second
`predict`, which is what no cache can save. The ways take turns. The exit status
is 1 if a claim fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import harness

MODELS = ("ResNet50", "MobileNetV3Small")
FASTER = 2  # how many times a warm folder makes the first `predict`
SAME = 1e-6


def measure(name, is_own):
    """Run in a child: the seconds of two calls, and what the first gave."""
    import numpy as np

    import keras

    class Own(keras.Model):
        pass

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    if is_own:
        model = Own(model.inputs, model.outputs)
    x = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype("float32")
    times = []
    for _ in range(2):
        started = time.perf_counter()
        result = model.predict(x, verbose=0)
        times.append(time.perf_counter() - started)
    return *times, result.ravel()[:10].tolist()


def ask(name, is_own=False, folder=""):
    """What `measure` gives in a new process."""
    child = subprocess.run(
        [sys.executable, __file__, "--child", name, *["own"] * is_own],
        env={
            **os.environ,
            "KERAS_BACKEND": "openvino",
            "KERAS_OPENVINO_CACHE_DIR": folder,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    time.sleep(harness.PAUSE)
    return json.loads(child.stdout)


def rounds_of(name, count):
    """The smallest times by the ways, and the largest difference of answers."""
    times, answers = {}, []
    for turn in range(count):
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryDirectory() as other,
        ):
            for way, is_own, place in (
                ("without", False, ""),
                ("cold", False, folder),
                ("warm", False, folder),
                (None, True, other),
                ("own class", True, other),
            ):
                harness.progress(f"round {turn + 1} of {count}: {name}, {way}")
                first, second, answer = ask(name, is_own, place)
                answers.append(answer)
                for key, value in ((way, first), ("second", second)):
                    times[key] = min(value, times.get(key, value))
    harness.progress("")
    columns = zip(*answers)
    return times, max(max(column) - min(column) for column in columns)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, *own = options.child
        print(json.dumps(measure(name, bool(own))))
        return 0
    ways = ("without", "cold", "warm", "own class", "second")
    rows, claims = [], []
    for name in options.only:
        times, difference = rounds_of(name, options.rounds)
        rows.append([name, *(harness.show_time(times[way]) for way in ways)])
        ratio = times["without"] / times["warm"]
        claims += [
            (
                ratio >= FASTER,
                f"{name}: a warm folder makes the first `predict` {FASTER} "
                f"times as fast or more: {ratio:.2f}",
            ),
            (
                difference <= SAME,
                f"{name}: all ways give one answer, to {SAME}: "
                f"{difference:.1g}",
            ),
        ]
    harness.show_table(
        f"The first predict on {harness.cpu()}", ["", *ways], rows
    )
    return harness.show_claims(claims)


if __name__ == "__main__":
    sys.exit(main())
