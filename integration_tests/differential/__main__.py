"""The long run: `python -m integration_tests.differential --help`."""

import argparse
import importlib

from integration_tests.differential.harness import draw
from integration_tests.differential.harness import find
from integration_tests.differential.harness import report

TABLES = {
    name: f"integration_tests.differential.{name}"
    for name in (
        "ops",
        "layers",
        "chains",
        "models",
        "derivatives",
        "evaluations",
        "empties",
        "policies",
    )
}
BATCH = 500


def main():
    parser = argparse.ArgumentParser(
        prog="python -m integration_tests.differential",
        description="Compare random calls with Keras on JAX and NumPy.",
    )
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", choices=TABLES, action="append")
    parser.add_argument(
        "--only", nargs="*", help="names of the ops or layers; all by default"
    )
    args = parser.parse_args()
    total = findings = 0
    for table in args.table or TABLES:
        module = TABLES[table]
        specs = importlib.import_module(module).SPECS
        if args.only:
            specs = {k: v for k, v in specs.items() if k in args.only}
        cases = draw(specs, args.cases, args.seed) if specs else []
        for start in range(0, len(cases), BATCH):
            batch = cases[start : start + BATCH]
            found = find(module, specs, batch)
            total, findings = total + len(batch), findings + len(found)
            if found:
                print(report(found))
            print(f"{table}: {total} cases, {findings} findings", flush=True)
    return bool(findings)


if __name__ == "__main__":
    raise SystemExit(main())
