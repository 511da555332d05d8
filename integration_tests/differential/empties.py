"""The specifications of arrays of no elements, and of 0-d ones.

They are those of the ops and layers, with the arrays of a case changed: all
dims of one size become 0, so that dims that are to be equal still are; or all
arrays become 0-d. What no call takes is an error on each backend.
"""

import numpy as np

from integration_tests.differential import layers
from integration_tests.differential import ops
from integration_tests.differential.cases import map_arrays


def emptied(size):
    """A function that makes dims of a size 0."""

    def function(x):
        kept = tuple(slice(0 if n == size else None) for n in x.shape)
        return x[kept].copy()

    return function


def to_scalar(x):
    return np.resize(x, ()).astype(x.dtype)


def of_op(spec):
    def arguments(d):
        args = spec.arguments(d)
        sizes = {n for x in found(args) for n in x.shape}
        if not sizes or d.integer(0, 2) == 0:
            return map_arrays(to_scalar, args)
        return map_arrays(emptied(d.choice(*sorted(sizes))), args)

    def refuses(case):
        try:
            return spec.refuses(case)
        except (IndexError, TypeError):
            return True  # of 0-d arrays, which lack the dim that counts

    return spec._replace(
        arguments=arguments,
        weight=1,
        may_raise=True,
        refuses=spec.refuses and refuses,
    )


def of_layer(spec):
    """Empty batches, and other dims."""

    def arguments(d):
        args = spec.arguments(d)
        first, *_ = found(args)
        batch = first.shape[0] if first.ndim else 1
        sizes = {n for x in found(args) for n in x.shape}
        return map_arrays(emptied(d.choice(batch, *sorted(sizes))), args)

    return spec._replace(arguments=arguments)


def found(args):
    """The arrays in what `Spec.arguments` returns."""
    arrays = []
    map_arrays(arrays.append, args)
    return arrays


# Not changed, with the reason.
LEFT_OUT = {
    "ContrastLimitedAdaptiveHistogramEqualization": "JAX's shape is another",
    "StringLookup": "takes lists of strings",
    "TextVectorization": "takes lists of strings",
    **{
        name: "takes no array"
        for name in ops.SPECS
        if name.startswith("random.")
    },
}

SPECS = {
    **{n: of_op(s) for n, s in ops.SPECS.items() if n not in LEFT_OUT},
    **{n: of_layer(s) for n, s in layers.SPECS.items() if n not in LEFT_OUT},
}
