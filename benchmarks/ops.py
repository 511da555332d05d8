"""Eager operations: this backend against the released one and its peers.

    python benchmarks/ops.py [--only CASE ...] [--backends NAME ...]
                             [--rounds N] [--json FILE]

A call is the operation on tensors that exist already, and its value read with
`ops.convert_to_numpy`. Each backend runs in a process of its own, and all are
asked in turn; a figure is the smallest of all rounds, a round's being the
median of its calls. Afterwards the claims are tested, and the exit status is 1
if one of them fails. `pip install jax tensorflow-cpu torch` brings the peers;
what is not installed is left out of the comparison, and said to be.
"""

import argparse
import functools
import itertools
import sys
import time

import harness

SMALL = ("log10", "identity", "add", "softmax", "argsort")
LARGE = ("matmul", "einsum", "log10_large")
CASES = (*SMALL, *LARGE, "loop")
CHECKS = ("long_loop", "memory", "exact")

SLOT = 0.1  # seconds for one measurement
MEMORY_OPS = 100_000
MEMORY_SECONDS = 100  # the longest that one of the memory loops may take


# Run in the children.


def run_loop(xp, read, steps, y):
    for _ in range(steps):
        y = xp.sin(y) + y * 0.5
        total = read(xp.sum(y))
    return total


@functools.cache
def cases():
    """`{case: (operation, the same in NumPy, inputs)}`."""
    import numpy as np

    from keras import ops

    read = ops.convert_to_numpy
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 2.0, (2, 1000)).astype("float32")
    m, n = rng.normal(size=(2, 256, 256)).astype("float32")
    million = rng.uniform(0.1, 2.0, 1_000_000).astype("float32")
    einsum = functools.partial(ops.einsum, "ij,jk->ik")
    loop = functools.partial(run_loop, ops, read, 20)
    np_loop = functools.partial(run_loop, np, np.asarray, 20)
    return {
        "log10": (ops.log10, np.log10, [a]),
        "identity": (lambda: ops.identity(32), lambda: np.identity(32), []),
        "add": (ops.add, np.add, [a, b]),
        "softmax": (ops.softmax, lambda x: np.exp(x) / np.exp(x).sum(), [a]),
        "argsort": (ops.argsort, np.argsort, [a]),
        "matmul": (ops.matmul, np.matmul, [m, n]),
        "einsum": (einsum, np.matmul, [m, n]),
        "log10_large": (ops.log10, np.log10, [million]),
        "loop": (loop, np_loop, [a]),
    }


@functools.cache
def prepare(case):
    """The call to measure, and the time of the first one.

    A backend whose answer is not NumPy's has an error, not a time.
    """
    import numpy as np

    from keras import ops

    operation, formula, arrays = cases()[case]
    tensors = [ops.convert_to_tensor(array) for array in arrays]

    def call():
        return ops.convert_to_numpy(operation(*tensors))

    started = time.perf_counter()
    value = call()
    first = time.perf_counter() - started
    np.testing.assert_allclose(value, formula(*arrays), rtol=1e-3, atol=1e-3)
    return call, first


def measure(case):
    call, first = prepare(case)
    return first, harness.median_time(call, SLOT)


def long_loop():
    """The times of 2,000 steps and of 100 runs of 20, smallest of 5."""
    import numpy as np

    from keras import ops

    x = ops.convert_to_tensor(np.linspace(0.1, 2, 1000, dtype="float32"))
    times = []
    for _ in range(5):
        for runs, steps in ((1, 2000), (100, 20)):
            started = time.perf_counter()
            for _ in range(runs):
                run_loop(ops, ops.convert_to_numpy, steps, x)
            times.append(time.perf_counter() - started)
    return min(times[0::2]), min(times[1::2])


def exact():
    from keras import ops

    def plus(dtype, x, y):
        total = ops.add(*(ops.convert_to_tensor(v, dtype) for v in (x, y)))
        return ops.convert_to_numpy(total).item()

    return {
        "2**40 + 1 in int64": plus("int64", 2**40, 1) == 2**40 + 1,
        "2**31 + 6 in uint32": plus("uint32", 2**31 + 5, 1) == 2**31 + 6,
        "1 + 1e-12 in float64": plus("float64", 1.0, 1e-12) == 1 + 1e-12,
    }


def memory_loops():
    """`{name: (operations a step, step)}`; a step takes its number and what the
    step before returned, which is a vector of 1,000 floats at the start."""
    import numpy as np

    import keras
    from keras import ops

    read = ops.convert_to_numpy
    x = ops.convert_to_tensor(np.linspace(0.1, 2, 1000, dtype="float32"))
    long = ops.convert_to_tensor(np.arange(MEMORY_OPS, dtype="float32"))
    variable = keras.Variable(x)

    def read_each(_, y):
        y = ops.sin(y) + y * 0.5
        read(ops.sum(y))
        return y

    def never_read(_, y):
        ops.log10(y)
        return y

    def read_at_end(_, y):
        return ops.cos(y)

    def fresh_bounds(i, y):
        n = 1 + i % 997
        read(ops.reshape(long[i : i + n], (n, 1)) * float(i))
        return y

    def fresh_shapes(i, y):
        shape = [1 + i % n for n in (13, 17, 19, 29)]  # no two are the same
        read(ops.convert_to_tensor(np.full(shape, i, "float32")) + 1.0)
        return y

    def variable_assigned(_, y):
        variable.assign(ops.cos(variable))
        return variable

    steps = (
        (4, read_each),
        (1, never_read),
        (1, read_at_end),
        (3, fresh_bounds),
        (1, fresh_shapes),
        (1, variable_assigned),
    )
    return {step.__name__: (size, step) for size, step in steps}, x


def memory(name):
    """The number of operations and by how many bytes they grew the process.

    The resident size is looked at on the way too: what is given back at the
    end counts. A tenth of the loop goes before, to warm up.
    """
    import numpy as np

    from keras import ops

    loops, x = memory_loops()
    size, step = loops[name]
    end = time.perf_counter() + MEMORY_SECONDS

    def run(operations, sizes):
        y = x
        for i in range(0, operations, size):
            y = step(i // size, y)
            if i // size % 1000 == 0:
                sizes.append(harness.resident_bytes())
                if time.perf_counter() > end:
                    break
        value = ops.convert_to_numpy(y)
        sizes.append(harness.resident_bytes())
        return i + size, value

    run(MEMORY_OPS // 10, [])
    sizes = [harness.resident_bytes()]
    done, value = run(MEMORY_OPS, sizes)
    if name in ("read_at_end", "variable_assigned") and done >= MEMORY_OPS:
        np.testing.assert_allclose(value, 0.7390851, rtol=1e-5)  # x == cos(x)
    return done, max(sizes) - sizes[0]


MEMORY_LOOPS = (
    "read_each",
    "never_read",
    "read_at_end",
    "fresh_bounds",
    "fresh_shapes",
    "variable_assigned",
)


# Run in the parent.


def time_claims(results):
    for case, by_name in results.items():
        if "error" in by_name[harness.THIS]:
            yield False, f"{case}: no time, see the error"
            continue
        rivals = {
            name: by_name[name]["time"]
            for name in ("jax", "tensorflow")
            if "time" in by_name.get(name, {})
        }
        if case not in LARGE:
            least = 500 if case == "loop" else 200
            gain = harness.ratio(by_name, harness.RELEASED)
            text = f"{case}: at least {least} times as fast as the released one"
            passed = gain >= least if gain else None
            yield passed, text + (f": {gain:.0f}" if gain else "")
        if case == "loop":
            continue
        pick, limit = (max, 1.0) if case in SMALL else (min, 1.5)
        text = f"{case}: at most {limit} times the "
        text += "slower" if case in SMALL else "faster"
        text += " of JAX and TensorFlow"
        if not rivals:
            yield None, text
            continue
        rival = pick(rivals, key=rivals.get)
        times = by_name[harness.THIS]["time"] / rivals[rival]
        yield times <= limit, f"{text}: {times:.2f} ({rival})"


def check_claims(peer, only):
    """The claims about this backend alone."""

    def ask(function, *args):
        harness.progress(" ".join([function.__name__, *args]))
        return peer.ask(function, *args)

    if "long_loop" in only:
        text = "2,000 steps cost at most 1.2 times 100 runs of 20"
        try:
            once, runs = ask(long_loop)
            yield once <= 1.2 * runs, f"{text}: {once / runs:.2f}"
        except harness.PeerError as error:
            yield False, f"{text}: {error}"
    if "memory" in only:
        for name in MEMORY_LOOPS:
            text = f"{MEMORY_OPS:,} operations grow by at most 20 MB, {name}"
            peer.start()  # what another loop gave back would hide the growth
            try:
                done, grown = ask(memory, name)
                text += f": {grown / 1e6:.1f} MB"
                if done < MEMORY_OPS:
                    text += f" (only {done:,} in {MEMORY_SECONDS} s)"
                yield done >= MEMORY_OPS and grown <= 20e6, text
            except harness.PeerError as error:
                yield False, f"{text}: {error}"
    if "exact" in only:
        try:
            for text, passed in ask(exact).items():
                yield passed, f"{text} is exact"
        except harness.PeerError as error:
            yield False, f"64-bit numbers are exact: {error}"
    harness.progress("")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    harness.add_options(parser, (*CASES, *CHECKS), rounds=7)
    options = parser.parse_args()
    peers = harness.open_peers(options.backends)
    harness.show_machine(peers)

    chosen = [case for case in CASES if case in options.only]
    asked = {name: (peer, measure) for name, peer in peers.items()}
    results = harness.rounds(asked, chosen, options.rounds)
    if results:
        imports = [peer.about.get("import") for peer in peers.values()]
        imports = [
            "error" if x is None else harness.show_time(x) for x in imports
        ]
        harness.show_results(
            results,
            peers,
            "time",
            f"Time of a call, smallest of {options.rounds} rounds",
        )
        harness.show_ratios(results, peers)
        harness.show_results(
            results,
            peers,
            "first",
            "First call",
            [["import keras", *imports]],
        )
        harness.show_errors(results)
    claims = []
    if harness.THIS in peers:
        claims = itertools.chain(
            time_claims(results),
            check_claims(peers[harness.THIS], options.only),
        )
        claims = list(claims)
    status = harness.show_claims(claims)
    if options.json:
        harness.write_json(options.json, peers, results, claims)
    return status


if __name__ == "__main__":
    sys.exit(main())
