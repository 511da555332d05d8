"""Runs cases in child processes, and gathers what they find."""

import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from integration_tests.differential.cases import Outcome
from integration_tests.differential.cases import draw_cases
from integration_tests.differential.compare import compare

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # Seconds for a case, after which it counts as hanging.


def run_in_child(table, cases, backend):
    """What the worker answers for each case; a text where it died of one."""
    answers = []
    while len(answers) < len(cases):
        # The child that died of a case leaves the rest to another.
        got, end = _run_until_death(table, cases[len(answers) :], backend)
        answers += got
        if len(answers) < len(cases):
            answers.append(end)
    return answers


def _run_until_death(table, cases, backend):
    errors = tempfile.TemporaryFile()
    child = subprocess.Popen(
        [sys.executable, "-m", "integration_tests.differential.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "JAX_PLATFORMS": "cpu",
            # Most of the time goes into compiling for one call.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
    )
    arrived = queue.Queue()

    def read():
        try:
            while True:
                arrived.put(pickle.load(child.stdout))
        except (EOFError, pickle.UnpicklingError):
            arrived.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        with child.stdin as stdin:
            pickle.dump((table, cases), stdin)
    except BrokenPipeError:
        pass
    answers = []
    try:
        while len(answers) < len(cases):
            answer = arrived.get(timeout=PATIENCE)
            if answer is None:
                return answers, f"exit {child.wait()}{last_line(errors)}"
            answers.append(answer)
        return answers, ""
    except queue.Empty:
        return answers, f"no answer in {PATIENCE} seconds"
    finally:
        child.kill()
        child.wait()
        reader.join()
        child.stdout.close()


def last_line(file):
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def draw(specs, count, seed):
    """About `count` cases of `specs`, shared out by their weights."""
    each = count / sum(spec.weight for spec in specs.values())
    return [
        case
        for name, spec in specs.items()
        for case in draw_cases(
            name,
            spec,
            max(1, round(each * spec.weight)),
            seed + zlib.crc32(name.encode()),
        )
    ]


def find(table, specs, cases):
    """The findings for cases of a table.

    Args:
        table: the module whose `SPECS` are meant, by its full name.
        specs: these.
        cases: a list of `Case`s.
    """
    with ThreadPoolExecutor(2) as pool:
        here = pool.submit(run_in_child, table, cases, "openvino")
        there = pool.submit(run_in_child, table, cases, "jax")
    answers = list(zip(cases, here.result(), there.result()))
    suspects = [answer for answer in answers if _compared(specs, *answer)]
    # JAX may give two answers: on a busy machine it gave another loss of
    # `test_on_batch`. What it says twice counts.
    again = run_in_child(table, [case for case, *_ in suspects], "jax")
    return [
        finding
        for (case, outcomes, _), references in zip(suspects, again)
        for finding in _compared(specs, case, outcomes, references)
    ]


def _compared(specs, case, outcomes, references):
    """The findings for a case."""
    if isinstance(references, str):
        references = [Outcome(None, references)]  # JAX died.
    return compare(specs[case.name], case, outcomes, references)


def report(findings):
    """A text with the findings by name, and the least case of each kind."""
    groups = {}
    for finding in findings:
        key = (finding.case.name, finding.kind, finding.mode)
        groups.setdefault(key, []).append(finding)
    lines = []
    for (name, kind, mode), group in sorted(groups.items()):
        least = min(group, key=lambda f: len(str(f)) + len(call_text(f.case)))
        lines.append(f"{name}: {kind}, {mode}, {len(group)} times")
        lines.append(f"    {call_text(least.case)}")
        lines.append(f"    {least}")
    return "\n".join(lines)


def call_text(case):
    """The call as Python; `a` makes an array of a list and a dtype."""
    args = [text(x) for x in case.args]
    args += [f"{k}={text(v)}" for k, v in case.kwargs.items()]
    return f"{case.name}({', '.join(args)})"


def text(x):
    if hasattr(x, "dtype"):
        if not 0 < x.size <= 40:
            return f"a(<{list(x.shape)}>, '{x.dtype}')"
        return f"a({x.tolist()}, '{x.dtype}')"
    if isinstance(x, (list, tuple)):
        inner = ", ".join(map(text, x))
        return f"[{inner}]" if isinstance(x, list) else f"({inner},)"
    return repr(x)
