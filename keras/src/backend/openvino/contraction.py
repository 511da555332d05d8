"""The planning of sums of products: which dims are which, and in what order.

It touches no tensor: a dim is a character, its label. `numpy.einsum` does what
is planned here.
"""

import functools
import itertools
import math
import typing


@functools.lru_cache(maxsize=1024)
def parse(subscripts, ranks):
    """The labels of each operand and of the output, one character a dim.

    Raises:
        ValueError: for an equation that is malformed or does not fit.
    """
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = inputs.split(",")
    if len(inputs) != len(ranks):
        raise ValueError(
            f"`einsum` got {len(ranks)} operands for {subscripts!r}, which "
            f"takes {len(inputs)}."
        )
    # Dims that an ellipsis stands for, counted from the last one.
    hidden = [chr(0x10000 + i) for i in range(max(ranks, default=0))]
    longest = ""
    expanded = []
    for labels, rank in zip(inputs, ranks):
        count = rank - len(labels.replace("...", ""))
        if count < 0 or (count > 0 and "..." not in labels):
            raise ValueError(
                f"`einsum` got an operand of {rank} dims for the labels "
                f"{labels!r} of {subscripts!r}."
            )
        ellipsis = "".join(hidden[:count][::-1])
        longest = max(longest, ellipsis, key=len)
        expanded.append(labels.replace("...", ellipsis))
    used = "".join(expanded)
    if arrow:
        output = output.replace("...", longest)
    else:
        once = {c for c in used if used.count(c) == 1 and c not in hidden}
        output = longest + "".join(sorted(once))
    letters = (c for c in used + output if c not in hidden)
    if (
        not all(c.isalpha() for c in letters)
        or set(output) - set(used)
        or len(set(output)) < len(output)
    ):
        raise ValueError(f"`einsum` got a malformed equation: {subscripts!r}")
    return tuple(expanded), output


@functools.lru_cache(maxsize=1024)
def is_matmul(subscripts, ranks):
    """Whether an equation is `matmul` as it is."""
    if len(ranks) != 2:
        return False
    (labels1, labels2), output = parse(subscripts, ranks)
    batch, free1, free2, inner, _ = plan(labels1, labels2, output)
    ranks_fit = len(free1) == 1 if batch else len(free2) < 2
    return (
        ranks_fit
        and len(inner) == 1
        and (len(free2) == 1 or not batch)
        and labels1 == batch + free1 + inner
        and labels2 == batch + inner + free2
        and output == batch + free1 + free2
    )


def order(labels, shapes, output):
    """Which two of the operands to contract at each step; results come last."""
    if len(labels) < 3:
        return ((0, 1),) * (len(labels) - 1)
    sizes = {}
    for each, shape in zip(labels, shapes):
        sizes.update(zip(each, shape))
    return _cheapest_order(labels, output, tuple(sizes.items()))


@functools.lru_cache(maxsize=1024)
def _cheapest_order(terms, output, sizes):
    """The order that takes, at each step, the pair with the least work."""
    # A dim that is not known counts as a batch of 32.
    sizes = {label: 32 if dim is None else dim for label, dim in sizes}
    terms, chosen = list(terms), []

    def work(pair):
        return math.prod(sizes[c] for c in set(terms[pair[0]] + terms[pair[1]]))

    while len(terms) > 1:
        pairs = itertools.combinations(range(len(terms)), 2)
        i, j = min(pairs, key=work)
        chosen.append((i, j))
        both = set(terms.pop(j) + terms.pop(i))
        terms.append("".join(both.intersection(output + "".join(terms))))
    return tuple(chosen)


class Plan(typing.NamedTuple):
    """Which labels of two operands are which.

    Attributes:
        batch: those in both operands and in the result.
        free1: those in the first operand and in the result.
        free2: those in the second operand and in the result.
        inner: those that are summed over.
        swapped: whether the operands change places.
    """

    batch: str
    free1: str
    free2: str
    inner: str
    swapped: bool


@functools.lru_cache(maxsize=4096)
def plan(labels1, labels2, needed):
    """Which dims of two operands are which; swapped if that saves a step."""
    needed = "".join(dict.fromkeys(needed))
    batch = "".join(c for c in needed if c in labels1 and c in labels2)
    free1 = "".join(c for c in needed if c in labels1 and c not in labels2)
    free2 = "".join(c for c in needed if c in labels2 and c not in labels1)
    inner = "".join(c for c in labels1 if c in labels2 and c not in needed)
    wanted = "".join(c for c in needed if c in labels1 + labels2)
    if batch + free1 + free2 != wanted == batch + free2 + free1:
        return Plan(batch, free2, free1, inner, True)
    return Plan(batch, free1, free2, inner, False)
