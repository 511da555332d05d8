"""Models: `predict` on this backend, its peers and the bare OpenVINO runtime.

    python benchmarks/predict.py [--only MODEL ...] [--backends NAME ...]
                                 [--rounds N] [--json FILE] [--export NAME]

The models of `models.py`, in float32, answer one batch (`call`, which is
`predict_on_batch`), many (`many`, by `predict`) and those of eight threads
(`threads`, by `predict_on_batch`), of 1 and of 32 samples. The yardstick is the
model as `model.export` writes it under this backend (or under --export NAME:
tensorflow is an independent one), run by OpenVINO's own API in float32: `call`
by one infer request that is compiled for latency, `many` and `threads` by an
`AsyncInferQueue` of a model that is compiled for throughput, with outputs
copied out. The released backend leaves the precision to the runtime, which is
bfloat16 on some CPUs.

Each backend runs in a process of its own, and all are asked in turn; a figure
is the smallest of all rounds, a round's being the median of its calls. The exit
status is 1 if an answer is wrong or a claim does not hold.
"""

import argparse
import concurrent.futures
import functools
import pathlib
import sys
import tempfile
import time

import harness
import models

BATCHES = (1, 32)
METHODS = ("call", "many", "threads")
THREADS = 8
CASES = tuple(
    f"{model} {method} {batch}"
    for model in models.MODELS
    for batch in BATCHES
    for method in METHODS
)

SLOT = 0.2  # seconds for one measurement
MANY = 0.5  # seconds that many batches are to take, about
# What no time is to be compared with: itself, and another precision.
UNEQUAL = (harness.THIS, "runtime", harness.RELEASED)
OVERHEAD = 25e-6  # seconds that a call may take beside the runtime's


# Run in the children. What is measured is the time of a batch.


def parse(case):
    name, method, batch = case.split()
    return name, method, int(batch)


@functools.cache
def batches_of(name, batch):
    """How many batches are many: as many as take `MANY`, by threads."""
    x = models.data(name, batch)
    call = functools.partial(models.build(name).predict_on_batch, x)
    call()
    count = int(MANY / harness.median_time(call, 0.05))
    return THREADS * max(1, min(500, count // THREADS))


@functools.cache
def warm_up():
    """Does what is done once in a process, at the first call of any model."""
    import numpy as np

    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.predict_on_batch(np.zeros((1, 1), "float32"))


@functools.cache
def prepare(case):
    """The call to measure, of how many batches, and the time of the first."""
    warm_up()
    name, method, batch = parse(case)
    model = models.build(name)
    if method == "call":
        x = models.data(name, batch)
        call, count = functools.partial(model.predict_on_batch, x), 1
        return call, count, first_time(call)
    if method == "threads":
        x, count = models.data(name, batch), batches_of(name, batch)
        call = functools.partial(call_in_threads, model, x, count)
        return call, count, first_time(call) / count
    few = models.data(name, THREADS * batch)
    many = functools.partial(model.predict, batch_size=batch, verbose=0)
    first = first_time(functools.partial(many, few)) / THREADS
    count = batches_of(name, batch)
    x = few.repeat(count // THREADS, axis=0)[: count * batch]
    return functools.partial(many, x), count, first


def call_in_threads(model, x, count):
    def work(_):
        for _ in range(count // THREADS):
            model.predict_on_batch(x)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))


def measure(case):
    call, count, first = prepare(case)
    return first, harness.median_time(call, SLOT) / count


@functools.cache
def compiled(name, hint):
    import openvino as ov

    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})  # the file goes away
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder, "model.xml"))
        models.build(name).export(path, format="openvino", verbose=False)
        started = time.perf_counter()
        model = core.read_model(path)
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": hint,
        }
        result = core.compile_model(model, "CPU", options)
    return result, time.perf_counter() - started


def run_request(request, x):
    request.infer({0: x}, share_inputs=True)
    return request.get_output_tensor(0).data.copy()


def run_queue(queue, x, batch, out):
    import openvino as ov

    def finish(request, start):
        out[start : start + batch] = request.get_output_tensor(0).data

    queue.set_callback(finish)
    for start in range(0, len(x), batch):
        part = ov.Tensor(x[start : start + batch], shared_memory=True)
        queue.start_async({0: part}, start, share_inputs=True)
    queue.wait_all()


@functools.cache
def prepare_runtime(case):
    import numpy as np
    import openvino as ov

    warm_up()
    name, method, batch = parse(case)
    if method == "call":
        model, seconds = compiled(name, "LATENCY")
        x = models.data(name, batch)
        call = functools.partial(run_request, model.create_infer_request(), x)
        return call, 1, seconds + first_time(call)
    model, _ = compiled(name, "THROUGHPUT")
    few = models.data(name, THREADS * batch)
    count = batches_of(name, batch)
    x = few.repeat(count // THREADS, axis=0)[: count * batch]
    request = model.create_infer_request()
    y = run_request(request, few[:batch])
    out = np.empty((len(x), *y.shape[1:]), y.dtype)
    call = functools.partial(
        run_queue, ov.AsyncInferQueue(model), x, batch, out
    )
    return call, count, first_time(call) / count


def measure_runtime(case):
    call, count, first = prepare_runtime(case)
    return first, harness.median_time(call, SLOT) / count


def first_time(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def answer(name):
    return models.build(name).predict(models.data(name, 4), verbose=0)


def answer_of_runtime(name):
    model, _ = compiled(name, "LATENCY")
    return run_request(model.create_infer_request(), models.data(name, 4))


# Run in the parent.


def right_answers(asked, names):
    for name in names:
        # Quantised activations may round to another step.
        limit = 1e-2 if "-" in name else 1e-4
        try:
            expected = asked["jax"][0].ask(answer, name)
        except (KeyError, harness.PeerError):
            yield None, f"{name}: answers as on JAX"
            continue
        for other, function in (
            (harness.THIS, answer),
            ("runtime", answer_of_runtime),
        ):
            text = f"{name}: {other} answers what JAX does to {limit}"
            try:
                found = asked[other][0].ask(function, name)
            except harness.PeerError as error:
                yield False, f"{text}: {error}"
                continue
            error = abs(found - expected).max() / abs(expected).max()
            yield bool(error <= limit), f"{text}: {error:.1e}"


def speeds(results):
    """The claims on times, where both were measured."""
    for case, by_name in results.items():
        name, method, batch = parse(case)
        this = by_name.get(harness.THIS, {}).get("time")
        runtime = by_name.get("runtime", {}).get("time")
        if this is None:
            continue
        if runtime is not None and method == "call":
            allowed = 1.05 * runtime + OVERHEAD
            text = f"{case}: at most 1.05 times the runtime's call and 25 us"
            yield this <= allowed, f"{text}: {this / allowed:.2f} of that"
            first = by_name[harness.THIS]["first"] / by_name["runtime"]["first"]
            text = f"{case}: the first within 1.5 times the runtime's"
            yield first <= 1.5, f"{text}: {first:.2f}"
        elif runtime is not None:
            share = 0.95 if runtime >= 1e-3 else 0.7
            text = f"{case}: at least {share} of the runtime's throughput"
            yield runtime / this >= share, f"{text}: {runtime / this:.2f}"
        peers = {
            peer: result["time"]
            for peer, result in by_name.items()
            if "time" in result and peer not in UNEQUAL
        }
        if peers:
            fastest = min(peers, key=peers.get)
            text = f"{case}: no slower than the fastest peer, {fastest}"
            yield this <= peers[fastest], f"{text}: {this / peers[fastest]:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    harness.add_options(parser, models.MODELS, rounds=5)
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
    asked["runtime"] = harness.Peer(options.export), measure_runtime
    chosen = [case for case in CASES if parse(case)[0] in options.only]
    results = harness.rounds(asked, chosen, options.rounds)
    harness.show_results(
        results,
        asked,
        "time",
        f"Time of a batch, smallest of {options.rounds} rounds",
    )
    harness.show_results(results, asked, "first", "First call")
    tested = []
    if harness.THIS in peers:
        harness.show_ratios(results, asked)
        tested += right_answers(asked, options.only)
        tested += speeds(results)
    harness.show_errors(results)
    status = harness.show_claims(tested)
    if options.json:
        harness.write_json(options.json, peers, results, tested)
    return status


if __name__ == "__main__":
    sys.exit(main())
