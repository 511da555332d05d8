"""What a case is, and how its shapes, dtypes, values and arguments are drawn.

A table maps names to `Spec`s. A spec draws the arguments of a call and says
how to make the call; arrays are drawn where they stand among the arguments.
"""

from typing import Callable
from typing import NamedTuple

import hypothesis
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

BOOL = ("bool",)
SIGNED = ("int8", "int16", "int32", "int64")
INTS = (*SIGNED, "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float16", "bfloat16", "float64")
REALS = (*INTS, *FLOATS)
ALL = (*BOOL, *REALS)
WIDE = ("int64", "uint64", "float64")

MODES = ("eager", "static", "dynamic")


class Outcome(NamedTuple):
    """The arrays that a call gave, or the text of its error."""

    arrays: list | None
    error: str = ""


class Case(NamedTuple):
    """One call; can be pickled.

    Attributes:
        name: its spec's name in the table.
        args, kwargs: the arguments, with `numpy.ndarray`s for the tensors.
    """

    name: str
    args: tuple
    kwargs: dict


class Spec(NamedTuple):
    """How the cases of an op or a layer are drawn, made and judged.

    Attributes:
        arguments: takes a `Draw`, returns the case's `args` or a pair of
            `args` and `kwargs`.
        numpy: a second reference besides Keras on JAX: takes the arguments
            with NumPy arrays and returns arrays. A result that agrees with
            either is right.
        call: takes the arguments with tensors and returns nested tensors; by
            default the function in `keras.ops` of the spec's name.
        build: where something must be made before the call is traced (a layer
            with its weights): takes the case, returns what `call` would be.
        compiled: where a compiled model is not `call` traced: takes the case
            and whether its dims are open, returns nested arrays.
        tolerance: by how much results may be off, in units of the dtype's
            usual tolerance.
        spread: whether errors are relative to the largest value in sight
            (sums, matrix products) rather than to each result.
        only_eager: why the op cannot be in a compiled model, if so.
        check: instead of comparing values: takes the arrays of the case and
            the results and returns whether these are right. For results that
            are not unique.
        narrowest: takes a case and returns the least exact dtype that is
            computed in; by default that of the results.
        may_raise: whether an error is right too where NumPy gives a result
            and JAX an error.
        weight: how many times as many cases as usual.
        refuses: takes a case; whether it is an error here, whatever Keras on
            JAX makes of it.
    """

    arguments: Callable
    numpy: Callable | None = None
    call: Callable | None = None
    build: Callable | None = None
    compiled: Callable | None = None
    tolerance: float = 1
    spread: bool = False
    only_eager: str = ""
    check: Callable | None = None
    narrowest: Callable | None = None
    may_raise: bool = False
    weight: float = 1
    refuses: Callable | None = None


def draw_cases(name, spec, count, seed):
    """About `count` cases, the same for the same seed."""
    cases = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
        deadline=None,
    )
    @hypothesis.given(st.data())
    def collect(data):
        args = spec.arguments(Draw(data.draw))
        kwargs = {}
        if len(args) == 2 and isinstance(args[1], dict):
            args, kwargs = args
        cases.append(Case(name, args, kwargs))

    collect()
    return cases


def arrays_of(case):
    """The arrays among the arguments, in order."""
    found = []
    map_arrays(found.append, (case.args, case.kwargs))
    return found


def map_arrays(function, structure):
    """`structure` with `function` of each array in the array's place."""
    if isinstance(structure, np.ndarray):
        return function(structure)
    if isinstance(structure, (list, tuple)):
        parts = [map_arrays(function, part) for part in structure]
        if hasattr(structure, "_fields"):
            return type(structure)(*parts)
        return type(structure)(parts)
    if isinstance(structure, dict):
        return {k: map_arrays(function, v) for k, v in structure.items()}
    return structure


def has_64_bits(case):
    """Whether an operand has 64 bits, or an argument asks for them."""
    names = [a.dtype.name for a in arrays_of(case)]
    values = [*case.args, *case.kwargs.values()]
    values += case.kwargs.get("policies", ())
    names += [x for x in values if type(x) is str]
    return any(name in WIDE for name in names)


class Draw:
    """Draws what cases are made of."""

    def __init__(self, draw):
        self._draw = draw

    def choice(self, *options):
        return self._draw(st.sampled_from(options))

    def bool(self):
        return self._draw(st.booleans())

    def integer(self, low, high):
        return self._draw(st.integers(low, high))

    def dims(self, rank=(0, 4), low=0):
        """A shape: mostly small, with dims of 0 and 1, and large ones."""
        rank = self.integer(*rank) if isinstance(rank, tuple) else rank
        dims = [max(low, self.choice(2, 3, 1, 5, 4, 0)) for _ in range(rank)]
        if 0 < rank < 3 and self.integer(0, 7) == 7:
            dims[self.integer(0, rank - 1)] = self.choice(17, 64, 129, 1001)
        return tuple(dims)

    def array(self, dtypes=FLOATS, shape=(0, 4), values="any", low=0):
        """An array.

        Args:
            dtypes: those to choose from.
            shape: a list of dims, or a pair of the least and greatest rank.
            values: a name in `VALUES`, or a pair of bounds.
            low: the least dim that is drawn.
        """
        dtype = np.dtype(self.choice(*dtypes))
        if not isinstance(shape, list):
            shape = self.dims(shape, low)
        rng = np.random.default_rng(self.integer(0, 2**32 - 1))
        if isinstance(values, tuple):
            return between(rng, tuple(shape), dtype, *values)
        kinds = VALUES[values]
        return kinds[self.integer(0, len(kinds) - 1)](rng, tuple(shape), dtype)

    def broadcast(self, shape):
        """A shape that broadcasts with `shape`, as a list."""
        shape = list(shape)
        kind = self.integer(0, 3)
        if kind == 0:
            return shape
        if kind == 1:
            return shape[self.integer(0, len(shape)) :]
        if kind == 2:
            return [1 if self.bool() else dim for dim in shape]
        return []

    def pair(self, dtypes=ALL, values="any", second=None, scalars=True):
        """Two operands that broadcast; the second may be a Python number."""
        x = self.array(dtypes, (0, 3), values)
        if scalars and self.integer(0, 4) == 4:
            return x, self.scalar(second or values)
        # Half of the time of one dtype.
        others = [x.dtype.name] if self.bool() else dtypes
        shape = self.broadcast(x.shape)
        y = self.array(others, shape, second or values)
        if second is None and self.integer(0, 4) == 4:
            y = near(x, y)
        return (y, x) if second is None and self.bool() else (x, y)

    def scalar(self, values="any"):
        if isinstance(values, tuple):
            return self.integer(*map(int, values))
        return self.choice(2, -1, 0.5, 0, 1, -2.5, 3, True, 123456789, 1e30)

    def axis(self, rank, none=True, several=True):
        """An axis of an array, positive or negative; several; or `None`."""
        kind = self.integer(0, 3)
        if rank == 0 or (none and kind == 0):
            return None
        if several and kind == 1:
            axes = self._draw(
                st.lists(st.integers(0, rank - 1), unique=True, min_size=1)
            )
            return tuple(a - rank if self.bool() else a for a in axes)
        return self.integer(-rank, rank - 1)


# ------------------------------------------------------------------ values


def is_float(dtype):
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def limits(dtype):
    if is_float(dtype):
        return ml_dtypes.finfo(dtype)
    return np.iinfo(dtype)


def between(rng, shape, dtype, low, high):
    """Numbers from `low` to `high`, or as far as the dtype goes."""
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if is_float(dtype):
        return np.asarray(rng.uniform(low, high, shape)).astype(dtype)
    low = max(int(low), int(limits(dtype).min))
    high = max(low, min(int(high), int(limits(dtype).max)))
    return rng.integers(low, high, shape, dtype, endpoint=True)[...]


def small(rng, shape, dtype):
    return between(rng, shape, dtype, -4, 4)


def ties(rng, shape, dtype):
    """Halves, which round to even, and equal elements."""
    if not is_float(dtype):
        return between(rng, shape, dtype, -2, 2)
    return np.asarray(rng.integers(-7, 8, shape) / 2).astype(dtype)


def wide(rng, shape, dtype):
    """Numbers of every size that the dtype has."""
    if dtype.kind == "b":
        return small(rng, shape, dtype)
    if is_float(dtype):
        top = np.log2(float(limits(dtype).max))
        size = np.exp2(rng.uniform(-top, top, shape))
        return np.asarray(np.copysign(size, rng.uniform(-1, 1, shape))).astype(
            dtype
        )
    return between(rng, shape, dtype, limits(dtype).min, limits(dtype).max)


def special(rng, shape, dtype):
    """NaN, infinities, zeros, subnormals, limits, neighbours above 2**24."""
    info = dtype.kind != "b" and limits(dtype)
    if dtype.kind == "b":
        return small(rng, shape, dtype)
    if is_float(dtype):
        tiny = float(info.tiny)
        choices = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, 0.1]
        choices += [float(info.max), float(info.min), tiny, -tiny, tiny / 4]
    else:
        choices = [0, 1, int(info.min), int(info.max), int(info.max) - 1]
        choices += [
            n
            for n in (2**24, 2**24 + 1, 123456789, 123456790, -(2**24) - 1)
            if info.min <= n <= info.max
        ]
    drawn = rng.integers(0, len(choices), shape)
    table = np.empty(len(choices), dtype)
    for index, number in enumerate(choices):
        table[index] = number
    return np.asarray(table[drawn])


def near(x, y):
    """`x` with elements one step apart where `y` is odd, in `y`'s shape."""
    if x.dtype != y.dtype or x.dtype.kind == "b":
        return y
    x = np.broadcast_to(x, np.broadcast_shapes(x.shape, y.shape))
    if is_float(x.dtype):
        return np.array(x)
    return np.where(x < limits(x.dtype).max, x + x.dtype.type(1), x)


def positive(rng, shape, dtype):
    return between(rng, shape, dtype, 0.1, 4)


def unit(rng, shape, dtype):
    return between(rng, shape, dtype, -1, 1)


VALUES = {
    "any": (small, special, ties, wide),
    "moderate": (small, ties),
    "small": (small,),
    "finite": (small, ties, wide),
    "positive": (positive,),
    "unit": (unit,),
}
