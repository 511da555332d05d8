"""Models: `predict` on this backend, its peers and the bare OpenVINO runtime.

    python benchmarks/predict.py [--only MODEL ...] [--backends NAME ...]
                                 [--rounds N] [--json FILE] [--export NAME]

An MLP, a small CNN and MobileNetV3Small in float32 answer one image and a batch
of 32, by `predict` and by `predict_on_batch`. The yardstick is an OpenVINO
`InferRequest` of the same model, as `model.export` writes it under this backend
(or under --export NAME: tensorflow is an independent one), compiled for
float32: `runtime` with the shapes left open, `static` with them fixed. What
this backend takes longer is its overhead. The released backend leaves the
precision to the runtime, which is bfloat16 on some CPUs.

Each backend runs in a process of its own, and all are asked in turn; a figure
is the smallest of all rounds, a round's being the median of its calls. The exit
status is 1 if an answer is wrong.
"""

import argparse
import functools
import pathlib
import sys
import tempfile
import time

import harness

SHAPES = {"mlp": (784,), "cnn": (28, 28, 1), "mobilenet": (224, 224, 3)}
MODELS = tuple(SHAPES)
METHODS = ("predict", "on_batch")
BATCHES = (1, 32)
CASES = tuple(
    f"{model} {method} {batch}"
    for model in MODELS
    for batch in BATCHES
    for method in METHODS
)

SLOT = 0.2  # seconds for one measurement


# Run in the children.


@functools.cache
def build(name):
    """The model, with weights that are the same on every backend."""
    import numpy as np

    import keras
    from keras import layers

    if name == "mobilenet":
        model = keras.applications.MobileNetV3Small(
            weights=None, include_top=True
        )
    elif name == "mlp":
        model = keras.Sequential(
            [
                keras.Input(SHAPES[name]),
                layers.Dense(256, activation="relu"),
                layers.Dense(256, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )
    else:
        model = keras.Sequential(
            [
                keras.Input(SHAPES[name]),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(10, activation="softmax"),
            ]
        )
    rng = np.random.default_rng(0)
    weights = model.get_weights()
    for i, weight in enumerate(weights):
        if weight.ndim > 1:  # biases and statistics start with constants
            depthwise = weight.ndim == 4 and weight.shape[3] == 1
            inputs = weight.shape[: 2 if depthwise else -1]
            scale = np.sqrt(2 / np.prod(inputs))
            weights[i] = rng.normal(0, scale, weight.shape).astype("float32")
    model.set_weights(weights)
    return model


def images(name, count):
    import numpy as np

    shape, top = SHAPES[name], 255 if name == "mobilenet" else 1
    images = np.random.default_rng(1).uniform(0, top, (count, *shape))
    return images.astype("float32")


@functools.cache
def prepare(case):
    """The call to measure, and the time of the first one."""
    name, method, batch = case.split()
    x = images(name, int(batch))
    if method == "predict":
        call = functools.partial(build(name).predict, x, verbose=0)
    else:
        call = functools.partial(build(name).predict_on_batch, x)
    return call, first_time(call)


def measure(case):
    call, first = prepare(case)
    return first, harness.median_time(call, SLOT)


@functools.cache
def compiled(name, batch):
    """An InferRequest of the exported model; `batch` None leaves it open."""
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder, "model.xml"))
        build(name).export(path, format="openvino", verbose=False)
        core = ov.Core()
        core.set_property({"ENABLE_MMAP": False})  # the file goes away
        model = core.read_model(path)
    if batch:
        model.reshape([batch, *SHAPES[name]])
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(model, "CPU", options).create_infer_request()


def run_request(request, x):
    request.infer({0: x}, share_inputs=True)
    return request.get_output_tensor(0).data.copy()


@functools.cache
def prepare_runtime(case, static):
    name, _, batch = case.split()
    started = time.perf_counter()
    request = compiled(name, int(batch) if static else None)
    call = functools.partial(run_request, request, images(name, int(batch)))
    return call, time.perf_counter() - started + first_time(call)


def measure_runtime(case, static=False):
    call, first = prepare_runtime(case, static)
    return first, harness.median_time(call, SLOT)


def measure_static(case):
    return measure_runtime(case, static=True)


def first_time(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def answer(name):
    return build(name).predict(images(name, 32), verbose=0)


def answer_of_runtime(name):
    return run_request(compiled(name, None), images(name, 32))


def answers_for_zeros():
    """What the MLP predicts before and after its weights are set to zero."""
    model = build("mlp")
    weights = model.get_weights()
    before = answer("mlp")
    model.set_weights([0 * weight for weight in weights])
    after = answer("mlp")
    model.set_weights(weights)
    return before, after, answer("mlp")


# Run in the parent.


def show_overhead(results):
    rows = []
    for case, by_name in results.items():
        times = [
            by_name[name].get("time")
            for name in (harness.THIS, "runtime", "static")
        ]
        this, *others = times
        times += [other and this and this - other for other in others]
        cells = [harness.show_time(x) if x else "-" for x in times]
        rows.append([case, *cells])
    header = ["", harness.THIS, "runtime", "static", "overhead", "to static"]
    harness.show_table("Overhead of a call", header, rows)


def claims(asked, models):
    for name in models:
        text = f"{name}: predicts what JAX does to 1e-5"
        try:
            expected = asked["jax"][0].ask(answer, name)
        except (KeyError, harness.PeerError):
            yield None, text
            continue
        for other, function in (
            (harness.THIS, answer),
            ("runtime", answer_of_runtime),
        ):
            text = f"{name}: {other} answers what JAX does to 1e-5"
            try:
                found = asked[other][0].ask(function, name)
            except harness.PeerError as error:
                yield False, f"{text}: {error}"
                continue
            error = abs(found - expected).max() / abs(expected).max()
            yield bool(error <= 1e-5), f"{text}: {error:.1e}"
    text = "set_weights after predict changes the answer, and back"
    try:
        before, after, again = asked[harness.THIS][0].ask(answers_for_zeros)
        passed = abs(after - 0.1).max() < 1e-6 and (before == again).all()
        yield bool(passed), text
    except harness.PeerError as error:
        yield False, f"{text}: {error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    harness.add_options(parser, MODELS, rounds=5)
    parser.add_argument(
        "--export",
        choices=harness.BACKENDS,
        default=harness.THIS,
        metavar="NAME",
        help="the backend that exports the model for the bare runtime",
    )
    options = parser.parse_args()
    peers = harness.open_peers(options.backends)
    harness.show_machine(peers)

    asked = {name: (peer, measure) for name, peer in peers.items()}
    runtime = harness.Peer(options.export)
    asked["runtime"] = runtime, measure_runtime
    asked["static"] = runtime, measure_static
    chosen = [case for case in CASES if case.split()[0] in options.only]
    results = harness.rounds(asked, chosen, options.rounds)
    harness.show_results(
        results,
        asked,
        "time",
        f"Time of a call, smallest of {options.rounds} rounds",
    )
    harness.show_results(results, asked, "first", "First call")
    tested = []
    if harness.THIS in peers:
        harness.show_ratios(results, asked)
        show_overhead(results)
        tested = list(claims(asked, options.only))
    harness.show_errors(results)
    status = harness.show_claims(tested)
    if options.json:
        harness.write_json(options.json, peers, results, tested)
    return status


if __name__ == "__main__":
    sys.exit(main())
