"""Keras on several backends, each in a child process that is asked in turn.

A `Peer` is a child that has imported Keras on one backend and then calls the
functions it is sent. All children stay alive for the whole run and `rounds`
asks them one after the other, so that what disturbs the machine disturbs all
of them. The modules here import neither Keras nor NumPy at the top: a child
must choose its backend first, and its import is timed.
"""

import importlib
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import re
import statistics
import sys
import textwrap
import time

THIS = "openvino"
RELEASED = "released"

# The distributions whose versions are reported, and what chooses the backend.
BACKENDS = {
    THIS: ("openvino", {"KERAS_BACKEND": "openvino"}),
    RELEASED: ("openvino", {"KERAS_BACKEND": "openvino", "KERAS_VINO": "0"}),
    "jax": ("jax", {"KERAS_BACKEND": "jax"}),
    "tensorflow": (
        "tensorflow tensorflow-cpu",
        {"KERAS_BACKEND": "tensorflow"},
    ),
    "torch": ("torch", {"KERAS_BACKEND": "torch"}),
    "numpy": ("numpy", {"KERAS_BACKEND": "numpy"}),
}
# Every backend runs on the CPU, also where it could find something faster.
CPU_ONLY = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}

# Between two measurements, in seconds: threads of the child that was asked
# last may spin for a while before they sleep.
PAUSE = 0.05


class PeerError(Exception):
    """What a child answered instead of a result."""


class Peer:
    """A child process with Keras on `backend`, a key of `BACKENDS`.

    Raises nothing when the backend is missing: `error` then says so, and every
    question is answered with it. A child that crashes or takes longer than
    `timeout` seconds is replaced before the next question.
    """

    def __init__(self, backend, timeout=120.0):
        self.backend = backend
        self.timeout = timeout
        self.process = self.pipe = None
        self.about = {}
        self.start()

    def start(self):
        self.stop()
        self.error = None
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(child_pipe, self.backend), daemon=True
        )
        before = dict(os.environ)
        os.environ.pop("KERAS_VINO", None)
        os.environ.update(CPU_ONLY | BACKENDS[self.backend][1])
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        child_pipe.close()
        try:
            self.about = self._answer()
        except PeerError as error:
            self.error = str(error)
            self.stop()

    def stop(self):
        if self.process:
            self.pipe.close()
            self.process.kill()
            self.process.join()
        self.process = None

    def ask(self, function, *args):
        """`function(*args)` in the child; `PeerError` if that fails."""
        if self.error:
            raise PeerError(self.error)
        if not self.process:
            self.start()
        return self._answer((function, args))

    def _answer(self, question=None):
        try:
            if question:
                self.pipe.send(question)
            if not self.pipe.poll(self.timeout):
                self.stop()
                raise PeerError(f"no answer in {self.timeout:.0f} s")
            good, answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            self.stop()
            raise PeerError(f"crashed with exit code {code}") from None
        if not good:
            raise PeerError(answer)
        return answer


def _serve(pipe, backend):
    """The child: import Keras, then call what the parent sends."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    pipe.send(_attempt(_import_keras, backend))
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(function, *args))


def _attempt(function, *args):
    try:
        return True, function(*args)
    except Exception as error:
        text = re.sub(r"\x1b\[\d+m", "", str(error))  # Keras writes in bold
        text = " ".join(text.split()) or "no message"
        return False, f"{type(error).__name__}: {text[:240]}"


def _import_keras(backend):
    started = time.perf_counter()
    keras = importlib.import_module("keras")
    about = {"import": time.perf_counter() - started}
    about["keras"] = keras.__version__
    for distribution in BACKENDS[backend][0].split():
        try:
            about["version"] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    if keras.backend.backend() == "openvino":
        module = importlib.import_module("keras.src.backend.openvino")
        release = pathlib.Path(keras.__file__).resolve().parent
        path = pathlib.Path(module.__file__).resolve()
        about["overlay"] = release not in path.parents
    return about


def median_time(function, seconds):
    """The median time of a call, of as many calls as fit in `seconds`."""
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def resident_bytes():
    """The memory of this process that is in RAM."""
    import resource

    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def open_peers(names):
    """Start the children, one at a time so that their imports compare."""
    return {name: Peer(name) for name in names}


def rounds(asked, cases, count):
    """`{case: {name: {"time", "first"} or {"error"}}}` in seconds.

    `asked` is `{name: (peer, measure)}`; `measure(case)` runs in the child and
    returns the first call's time and the median time of a call. "time" is the
    smallest median of all rounds. Each round puts every case to every peer,
    beginning with another peer.
    """
    results = {case: {} for case in cases}
    for turn in range(count):
        start = turn % len(asked)
        names = [*asked][start:] + [*asked][:start]
        for case, name in itertools.product(cases, names):
            result = results[case].setdefault(name, {})
            if "error" in result:
                continue
            time.sleep(PAUSE)
            progress(f"round {turn + 1} of {count}: {case}, {name}")
            peer, measure = asked[name]
            try:
                first, median = peer.ask(measure, case)
            except PeerError as error:
                results[case][name] = {"error": str(error)}
                continue
            result.setdefault("first", first)
            result["time"] = min(median, result.get("time", median))
    progress("")
    return results


def progress(text):
    if sys.stderr.isatty():
        print(f"\r{text:<78.78}", end="\r", file=sys.stderr, flush=True)


def show_number(number):
    """Three digits, without an exponent."""
    return f"{number:.0f}" if number >= 99.95 else f"{number:#.3g}"


def show_time(seconds):
    if seconds < 0:
        return "-" + show_time(-seconds)
    if seconds < 1e-3:
        return show_number(seconds * 1e6) + " us"
    if seconds < 1:
        return show_number(seconds * 1e3) + " ms"
    return show_number(seconds) + " s"


def show_table(title, header, rows):
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def show_results(results, names, key, title, extra=()):
    """A row a case, a column a name, and `extra` rows at the top."""
    rows = list(extra)
    for case, by_name in results.items():
        row = [by_name[name] for name in names]
        cells = [show_time(r[key]) if key in r else "error" for r in row]
        rows.append([case, *cells])
    show_table(title, ["", *names], rows)


def show_ratios(results, names):
    """How many times the time of this backend the others take."""
    if THIS not in names:
        return
    names = [name for name in names if name != THIS]
    rows = []
    for case, by_name in results.items():
        ratios = [ratio(by_name, name) for name in names]
        rows.append([case, *(show_number(r) if r else "-" for r in ratios)])
    show_table(f"Times the time of {THIS}", ["", *names], rows)


def ratio(by_name, name):
    """The time of peer `name` by that of this backend; None if unknown."""
    this = by_name.get(THIS, {}).get("time")
    other = by_name.get(name, {}).get("time")
    return other / this if this and other else None


def show_machine(peers):
    print(
        f"Python {platform.python_version()}, {cpu()}, {os.cpu_count()} cores"
    )
    for name, peer in peers.items():
        about = peer.about
        text = peer.error or f"{about.get('version')}, Keras {about['keras']}"
        if name == THIS and not peer.error and not about["overlay"]:
            text += " (keras-vino is not installed: this is the released one)"
        print(f"  {name:<11} {text}")


def cpu():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        models = [x.split(":")[1].strip() for x in lines if "model name" in x]
        return models[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def show_errors(results):
    """Each error once, with the cases that have it."""
    cases = {}
    for case, by_name in results.items():
        for name, result in by_name.items():
            if "error" in result:
                cases.setdefault((name, result["error"]), []).append(case)
    if cases:
        print("\nErrors\n")
    for (name, error), where in sorted(cases.items()):
        text = f"{name}, {', '.join(where)}: {error}"
        print(textwrap.indent(textwrap.fill(text, 96), "  "))


def show_claims(claims):
    """Prints `(passed, text)` pairs, `passed` None where nobody can tell.

    Returns the exit status: 1 if a claim fails.
    """
    words = {True: "pass", False: "FAIL", None: "skip"}
    print("\nClaims\n")
    for passed, text in claims:
        text = textwrap.fill(text, 92, subsequent_indent=" " * 8)
        print(f"  {words[passed]}  {text}")
    return int(any(passed is False for passed, _ in claims))


def add_options(parser, cases, rounds):
    parser.add_argument(
        "--only",
        nargs="+",
        choices=cases,
        default=cases,
        metavar="CASE",
        help=f"of {', '.join(cases)}",
    )
    parser.add_argument(
        "--backends",
        nargs="+",
        choices=BACKENDS,
        default=list(BACKENDS),
        metavar="NAME",
        help=f"of {', '.join(BACKENDS)}",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=rounds,
        metavar="N",
        help=f"rounds of measurements, {rounds} unless told",
    )
    parser.add_argument(
        "--json",
        type=pathlib.Path,
        metavar="FILE",
        help="also write everything to this file",
    )


def write_json(path, peers, results, claims):
    about = {n: p.about | {"error": p.error} for n, p in peers.items()}
    content = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count()},
        "peers": about,
        "results": results,
        "claims": [
            {"passed": passed, "claim": text} for passed, text in claims
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
