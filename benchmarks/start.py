"""What keras-vino adds to the start of a Python interpreter.

Starts interpreters in pairs, one with the hook and one that passes over it, and
prints the median of the differences: `python benchmarks/start.py [pairs]`.
"""

import resource
import statistics
import subprocess
import sys

WITH = "import site; site.main()"
WITHOUT = """
import site
read = site.addpackage
site.addpackage = lambda folder, name, known: (
    known if name == "keras_vino.pth" else read(folder, name, known)
)
site.main()
"""


def seconds(code):
    """Processor time, which other work on the machine disturbs least."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    # -S: `site` does its work when `code` asks for it, not before.
    subprocess.run([sys.executable, "-S", "-c", code], check=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def main(pairs=200):
    if not any("KerasVino" in str(finder) for finder in sys.meta_path):
        sys.exit("keras-vino is not installed in this environment")
    costs = []
    for i in range(pairs):
        # Both orders, so that what the first warms is even.
        order = (WITH, WITHOUT) if i % 2 else (WITHOUT, WITH)
        took = {code: seconds(code) for code in order}
        costs.append(1000 * (took[WITH] - took[WITHOUT]))
    low, median, high = statistics.quantiles(costs, n=4)
    print(
        f"start of an interpreter with keras-vino: +{median:.2f} ms "
        f"(median of {pairs} pairs, quartiles {low:.2f} to {high:.2f})"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
