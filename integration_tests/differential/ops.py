"""The specifications of every op of `keras.ops` and `keras.random`."""

import numpy as np

from integration_tests.differential.cases import ALL
from integration_tests.differential.cases import Spec


def unary(numpy=None, dtypes=ALL, values="any", **options):
    """An op of one array, element by element."""
    return Spec(lambda d: (d.array(dtypes, values=values),), numpy, **options)


def binary(numpy=None, dtypes=ALL, values="any", second=None, **options):
    """An op of two operands that are promoted and broadcast."""
    return Spec(lambda d: d.pair(dtypes, values, second), numpy, **options)


def reduction(
    numpy=None, dtypes=ALL, values="any", several=True, low=0, **options
):
    """An op with `axis` and `keepdims`."""

    def arguments(d):
        x = d.array(dtypes, values=values, low=low)
        axis = d.axis(x.ndim, several=several)
        return (x,), {"axis": axis, "keepdims": d.bool()}

    return Spec(arguments, numpy, **options)


SPECS = {
    "abs": unary(np.abs),
    "add": binary(np.add),
    "equal": binary(np.equal),
    "sin": unary(np.sin, values="moderate"),
    "sum": reduction(np.sum, spread=True),
    "argmax": reduction(np.argmax, several=False, low=1),
}
