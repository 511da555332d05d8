"""Language models: tokens a second of KerasHub's `generate`.

    python benchmarks/generate.py [--models NAME ...] [--precisions NAME ...]
                                  [--lengths N ...] [--batches N ...]
                                  [--backends NAME ...] [--rounds N]

GPT-2 (124 million parameters) and a Llama of 150 million with grouped-query
attention, of random weights, take a prompt of 32 tokens and choose the best
token until the sequence is full. Beside this backend run its peers, each in a
process of its own that is asked in turn; a figure is the best of all rounds.

- "tokens/s" counts what is generated, the time for the prompt included.
- "prompt" is the time for a sequence that lacks its last token.
- "first" is the time of the first call, in which models are compiled.
- "peak" is what the process had at most while it generated, beyond what it had
  before the model was built, and how many times what the weights take.
- "limit" is how many tokens a second there can be where each takes a read of
  all weights, as two threads of this process read that many bytes.

The exit status is 1 if tokens are not those of Keras on JAX, or if another
backend is faster.
"""

import argparse
import concurrent.futures
import functools
import itertools
import pathlib
import sys
import time

import harness

PROMPT = 32
# KerasHub's name of each, and what its backbone takes.
MODELS = {
    "gpt2": (
        "GPT2",
        {
            "vocabulary_size": 50257,
            "num_layers": 12,
            "num_heads": 12,
            "hidden_dim": 768,
            "intermediate_dim": 3072,
            "max_sequence_length": 1024,
        },
    ),
    "llama": (
        "Llama",
        {
            "vocabulary_size": 32000,
            "num_layers": 16,
            "num_query_heads": 12,
            "num_key_value_heads": 4,
            "hidden_dim": 768,
            "intermediate_dim": 2048,
        },
    ),
}
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
# What two results may differ by is chance where most tokens are alike.
EXACT = ("float32",)


# Run in the children.


@functools.cache
def build(name, precision):
    import numpy as np

    import keras
    import keras_hub

    family, options = MODELS[name]
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    backbone = getattr(keras_hub.models, f"{family}Backbone")(
        **options, dtype=dtype
    )
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        if len(weight.shape) > 1:
            values = rng.normal(0, weight.shape[0] ** -0.5, weight.shape)
            weight.assign(values.astype("float32"))
    task = getattr(keras_hub.models, f"{family}CausalLM")
    model = task(backbone=backbone, preprocessor=None)
    if precision.startswith("int"):
        model.quantize(precision)
    model.compile(sampler="greedy")
    keras.utils.set_random_seed(0)
    return model


def inputs(vocabulary, count, length, batch):
    import numpy as np

    rng = np.random.default_rng(0)
    tokens = np.zeros((batch, length), "int32")
    tokens[:, :count] = rng.integers(0, vocabulary, (batch, count))
    mask = np.zeros((batch, length), "int32")
    mask[:, :count] = 1
    return {"token_ids": tokens, "padding_mask": mask}


def generate(name, precision, count, length, batch):
    """The seconds that it takes, and the tokens."""
    model = build(name, precision)
    x = inputs(model.backbone.vocabulary_size, count, length, batch)
    started = time.perf_counter()
    y = model.generate(x, stop_token_ids=None)
    return time.perf_counter() - started, y["token_ids"].tolist()


def weight_bytes(name, precision):
    """How many bytes the weights have, in their precision."""
    import keras

    weights = build(name, precision).weights
    return sum(keras.ops.convert_to_numpy(x).nbytes for x in weights)


def bytes_before():
    """What the process has with KerasHub, which imports TensorFlow too."""
    import keras_hub  # noqa: F401

    return status("VmRSS")


def forget_peak(name, precision):
    """Builds the model, and counts from now on."""
    build(name, precision)
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def peak_bytes():
    return status("VmHWM")


def status(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(key)]
    return int(line.split()[1]) * 1024


# Run in the parent.


def seconds_to_read(count):
    """The shortest time in which two threads read so many bytes."""
    import numpy as np

    halves = np.ones((2, count // 8), "float32")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        times = []
        for _ in range(10):
            started = time.perf_counter()
            list(pool.map(np.max, halves))
            times.append(time.perf_counter() - started)
    return min(times)


def run(peers, case, rounds):
    name, precision, length, batch = case
    results = {}
    for backend, peer in peers.items():
        try:
            before = peer.ask(bytes_before)
            peer.ask(forget_peak, name, precision)
            first, output = peer.ask(
                generate, name, precision, PROMPT, length, batch
            )
        except harness.PeerError as error:
            results[backend] = {"error": str(error)}
            continue
        results[backend] = {"first": first, "output": output, "base": before}
    for _ in range(rounds):
        for backend, result in results.items():
            if "error" in result:
                continue
            for key, count in (("all", PROMPT), ("prompt", length - 1)):
                seconds, _ = peers[backend].ask(
                    generate, name, precision, count, length, batch
                )
                result[key] = min(seconds, result.get(key, seconds))
    for backend, result in results.items():
        if "error" not in result:
            peer = peers[backend]
            result["peak"] = peer.ask(peak_bytes) - result["base"]
            result["bytes"] = peer.ask(weight_bytes, name, precision)
        peers[backend].stop()
    return results


def report(case, results):
    name, precision, length, batch = case
    limit = None
    rows = []
    for backend, result in results.items():
        if "error" in result:
            rows.append([backend, result["error"][:60]] + [""] * 5)
            continue
        speed = (length - PROMPT) * batch / result["all"]
        if backend == harness.THIS:
            limit = batch / seconds_to_read(result["bytes"])
        rows.append(
            [
                backend,
                f"{speed:.1f}",
                f"{speed / limit:.2f}" if limit else "",
                harness.show_time(result["prompt"]),
                f"{result['first']:.1f} s",
                f"{result['peak'] / 2**20:.0f} MB",
                f"{result['peak'] / result['bytes']:.2f}",
            ]
        )
    title = f"{name}, {precision}, {length} tokens, a batch of {batch}"
    columns = ["", "tokens/s", "of limit", "prompt", "first", "peak", "weights"]
    harness.show_table(title, columns, rows)
    return list(claims(title, precision, results))


def claims(title, precision, results):
    own = results[harness.THIS]
    for backend, result in results.items():
        if backend == harness.THIS or "error" in own or "error" in result:
            continue
        if precision in EXACT and backend == "jax":
            same = own["output"] == result["output"]
            yield same, f"{title}: the tokens of Keras on JAX"
        ratio = own["all"] / result["all"]
        yield ratio <= 1, f"{title}: {1 / ratio:.2f} times as fast as {backend}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--backends",
        nargs="+",
        default=[harness.THIS, "jax", "tensorflow", harness.RELEASED],
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cases = itertools.product(
        options.models, options.precisions, options.lengths, options.batches
    )
    peers = {name: harness.Peer(name, timeout=900) for name in options.backends}
    harness.show_machine(peers)
    held = []
    for case in cases:
        held += report(case, run(peers, case, options.rounds))
    return harness.show_claims(held)


if __name__ == "__main__":
    sys.exit(main())
