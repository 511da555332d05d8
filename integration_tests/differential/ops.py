"""The specifications of every op of `keras.ops` and `keras.random`."""

import functools
import itertools

import numpy as np
import scipy.special

import keras
from integration_tests.differential.cases import ALL
from integration_tests.differential.cases import BOOL
from integration_tests.differential.cases import FLOATS
from integration_tests.differential.cases import INTS
from integration_tests.differential.cases import REALS
from integration_tests.differential.cases import SIGNED
from integration_tests.differential.cases import Spec
from integration_tests.differential.cases import limits
from keras import ops

DATA_FORMATS = ("channels_last", "channels_first")
SINGLES = ("float32",)
LINALG = ("float32", "float64")
INDICES = ("int32", "int64")
# Where Keras casts to float32 itself.
NO_DOUBLES = ("float32", "float16", "bfloat16")
NUMBERS = ("float32", "int32", "float16", "int64", "bfloat16", "uint8")


# -------------------------------------------------- shapes that ops share


def unary(numpy=None, dtypes=ALL, values="any", rank=(0, 4), **options):
    """An op of one array."""
    return Spec(
        lambda d: (d.array(dtypes, rank, values),),
        numpy,
        **options,
    )


def activation(values="any", *choices, **options):
    """An op of one array of floats and keyword arguments: name, choices."""

    def arguments(d):
        x = d.array(FLOATS, (0, 4), values)
        return (x,), {name: d.choice(*of) for name, *of in choices}

    return Spec(arguments, tolerance=4, **options)


def along(*choices, rank=(1, 4), dtypes=FLOATS, values="any", low=0, **options):
    """An op of one array and an axis."""

    def arguments(d):
        x = d.array(dtypes, rank, values, low)
        axis = d.axis(x.ndim, none=False, several=False)
        return (x,), {"axis": axis} | {n: d.choice(*of) for n, *of in choices}

    return Spec(arguments, **options)


def binary(numpy=None, dtypes=ALL, values="any", second=None, **options):
    """An op of two operands that are promoted and broadcast."""
    return Spec(lambda d: d.pair(dtypes, values, second), numpy, **options)


def power(x, y):
    """NumPy's power, and the integer part of negative powers of integers."""
    if np.result_type(x, y).kind != "i":
        return np.power(x, y)
    inverse = np.where(np.abs(x) == 1, np.power(x, np.abs(y)), 0)
    return np.where(np.asarray(y) < 0, inverse, np.power(x, np.abs(y)))


def reduction(
    numpy=None,
    dtypes=ALL,
    values="any",
    several=True,
    low=0,
    keepdims=True,
    **options,
):
    """An op with `axis` and mostly `keepdims`."""

    def arguments(d):
        x = d.array(dtypes, values=values, low=low)
        kwargs = {"axis": d.axis(x.ndim, several=several)}
        if keepdims:
            kwargs["keepdims"] = d.bool()
        return (x,), kwargs

    return Spec(arguments, numpy, **options)


def cumulated(numpy):
    """NumPy's; JAX takes the nearest for floats beyond integers."""

    def function(x, axis, dtype):
        dtype = dtype or x.dtype
        return numpy(x.astype(dtype), axis, dtype)

    return function


def normalized(x, axis=-1, order=2):
    """As Keras says; JAX computes the root of a float64 in float32."""
    powers = np.sum(np.abs(x) ** order, axis, keepdims=True)
    return x / np.maximum(powers ** (1 / order), 1e-12)


def median(x, **kwargs):
    """NumPy's, whose mean of two large numbers is infinite."""
    if x.dtype == "float64":
        return 2 * np.median(x / 2, **kwargs)
    return np.median(x, **kwargs)


def quantiles(numpy, top, dtypes=NUMBERS):
    def arguments(d):
        x = d.array(dtypes, (0, 3), "any", low=1)
        q = d.choice(0.25 * top, top, 0.0, np.array([0.1, 0.5]) * top)
        if isinstance(q, np.ndarray):
            q = q.astype("float32")
        method = d.choice("linear", "lower", "higher", "midpoint", "nearest")
        axis = d.axis(x.ndim)
        return (x, q), {
            "axis": axis,
            "method": method,
            "keepdims": d.bool(),
        }

    return Spec(arguments, numpy, spread=True)


def matrices(values="moderate", square=True, well=False, dtypes=LINALG):
    """A function that draws a batch of matrices."""

    def arguments(d):
        n = d.integer(1, 4)
        m = n if square else d.integer(1, 4)
        batch = list(d.dims((0, 2), low=1))
        x = d.array(dtypes, [*batch, n, m], values)
        if well:  # far from singular
            x = x + 8 * np.eye(n, m).astype(x.dtype)
        return (x,)

    return arguments


def of_low_rank(arguments):
    """`arguments`, the first of full rank or, half the time, of a lower."""

    def drawn(d):
        x, *others = arguments(d)
        if d.bool():
            # But for rounding, which is to be taken for zeros.
            x[..., -1] = x[..., 0] / 3
            x[..., -1, :] = x[..., 0, :] / 3
        return x, *others

    return drawn


def definite(d):
    (x,) = matrices()(d)
    eye = np.eye(x.shape[-1], dtype=x.dtype)
    return ((x @ np.swapaxes(x, -1, -2) + 4 * eye).astype(x.dtype),)


def images(d, dtypes=FLOATS, low=3, high=9, channels=(1, 3)):
    """A batch of images, and its data format."""
    height, width = d.integer(low, high), d.integer(low, high)
    c, n = d.choice(*channels), d.choice(1, 2)
    data_format = d.choice(*DATA_FORMATS)
    shape = [n, height, width, c]
    if data_format == "channels_first":
        shape = [n, c, height, width]
    if d.integer(0, 3) == 3:
        shape = shape[1:]
    return d.array(dtypes, shape, (0, 1)), data_format


def spatial(d, rank, filters=None):
    """Inputs of a convolution or pooling: array, data format."""
    n, c = d.choice(1, 2, 3), d.choice(1, 2, 4)
    dims = [d.integer(5, 9) for _ in range(rank)]
    data_format = d.choice(*DATA_FORMATS)
    shape = [n, *dims, c]
    if data_format == "channels_first":
        shape = [n, c, *dims]
    return d.array(FLOATS, shape, "small"), c, data_format


def pooling(**options):
    def arguments(d):
        rank = d.integer(1, 3)
        x, _, data_format = spatial(d, rank)
        return (x, d.choice(2, 3)), {
            "strides": d.choice(None, 1, 2, 3),
            "padding": d.choice("valid", "same"),
            "data_format": data_format,
        }

    return Spec(arguments, spread=True, **options)


def adaptive(**options):
    def arguments(d):
        x, _, data_format = spatial(d, d.integer(1, 3))
        return (x, d.choice(1, 2, 3)), {"data_format": data_format}

    return Spec(arguments, spread=True, **options)


def convolution(d):
    rank = d.integer(1, 3)
    x, channels, data_format = spatial(d, rank)
    groups = d.choice(1, channels)
    filters = groups * d.choice(1, 2)
    size = d.choice(1, 2, 3)
    shape = [*[size] * rank, channels // groups, filters]
    kernel = d.array([x.dtype.name], shape, "small")
    return (x, kernel), step(d) | {"data_format": data_format}


def step(d):
    """Strides, dilation and padding, of which one only exceeds 1."""
    strides = d.choice(1, 2, 3)
    return {
        "strides": strides,
        "padding": d.choice("valid", "same"),
        "dilation_rate": d.choice(1, 2) if strides == 1 else 1,
    }


def transposed_convolution(d):
    rank = d.integer(1, 3)
    x, channels, data_format = spatial(d, rank)
    shape = [*[d.choice(1, 2, 3)] * rank, d.choice(1, 3), channels]
    kernel = d.array([x.dtype.name], shape, "small")
    return (x, kernel), step(d) | {"data_format": data_format}


def depthwise(d, separable=False):
    rank = d.integer(1, 2)
    x, channels, data_format = spatial(d, rank)
    multiplier = d.choice(1, 2)
    size = [d.choice(1, 2, 3)] * rank
    kernels = [d.array([x.dtype.name], [*size, channels, multiplier], "small")]
    if separable:
        shape = [*[1] * rank, channels * multiplier, 3]
        kernels.append(d.array([x.dtype.name], shape, "small"))
    return (x, *kernels), step(d) | {"data_format": data_format}


def shifts(numpy):
    def arguments(d):
        x = d.array(INTS)
        # In compiled models 64 bits are 32, which hold none of the others.
        places = 31 if x.dtype.itemsize == 8 else 100
        return x, d.array([x.dtype.name], d.broadcast(x.shape), (0, places))

    return Spec(arguments, numpy)


def joined(numpy, rank=(1, 3), axis=False, vary=0):
    """An op of a list of arrays that differ in one dim."""

    def arguments(d):
        shape = list(d.dims(rank))
        at = d.axis(len(shape), none=False, several=False) if axis else vary
        parts = []
        for _ in range(d.integer(1, 3)):
            if shape and vary is not None and -len(shape) <= at < len(shape):
                shape[at] = d.integer(0, 3)
            parts.append(d.array(ALL, list(shape)))
        return ((parts,), {"axis": at}) if axis else (parts,)

    return Spec(arguments, numpy)


def stacked(d):
    shape = list(d.dims((0, 3)))
    parts = [d.array(ALL, shape) for _ in range(d.integer(1, 3))]
    rank = len(shape) + 1
    return (parts,), {"axis": d.integer(-rank, rank - 1)}


def splitting(axis=None, rank=(1, 3), uneven=False):
    def arguments(d):
        shape = list(d.dims(rank, low=1))
        kwargs = {}
        at = axis
        if axis is None:
            at = d.axis(len(shape), none=False, several=False)
            kwargs = {"axis": at}
        parts = d.integer(1, 3)
        if not uneven:
            shape[at] = parts * d.integer(1, 2)
        where = parts
        if not uneven:
            places = sorted({d.integer(0, shape[at]) for _ in range(2)})
            where = d.choice(parts, np.int64(parts), places)
        return (d.array(ALL, shape), where), kwargs

    return Spec(arguments)


def products(d):
    """Operands of `matmul`."""
    n, k, m = d.integer(0, 4), d.integer(0, 5), d.integer(1, 4)
    batch = list(d.dims((0, 2)))
    left = [*batch, n, k]
    right = [*d.broadcast(batch), k, m]
    if d.integer(0, 5) == 0:
        left = [k]
    if d.integer(0, 5) == 0:
        right = [k]
    x = d.array(ALL, left, "finite")
    dtypes = [x.dtype.name] if d.bool() else ALL
    return x, d.array(dtypes, right, "moderate")


def inner_products(d):
    k = d.integer(0, 4)
    return (
        d.array(ALL, [*d.dims((0, 2)), k], "moderate"),
        d.array(ALL, [*d.dims((0, 1)), k], "moderate"),
    )


def dots(d):
    k = d.integer(0, 4)
    right = [k] if d.bool() else [*d.dims((0, 1)), k, d.integer(1, 3)]
    left = [*d.dims((0, 2)), k]
    return d.array(ALL, left, "moderate"), d.array(ALL, right, "moderate")


def flat_pair(dtypes=ALL, values="moderate", low=0, same=False):
    def arguments(d):
        x = d.array(dtypes, [d.integer(low, 6)], values)
        size = x.size if same else d.integer(low, 6)
        return x, d.array(dtypes, [size], values)

    return arguments


def tensordots(d):
    shared = list(d.dims((0, 2), low=1))
    left = [*d.dims((0, 2), low=1), *shared]
    right = [*shared, *d.dims((0, 2), low=1)]
    x, y = d.array(REALS, left, "moderate"), d.array(REALS, right, "moderate")
    axes = len(shared)
    if d.bool():
        last = range(len(left) - axes, len(left))
        axes = [list(last), list(range(axes))]
    return (x, y), {"axes": axes}


def einsums(d):
    a, b, c = d.integer(1, 4), d.integer(1, 4), d.integer(1, 3)
    dims = {"i": a, "j": b, "k": c}
    text = d.choice(
        "ij,jk->ik", "ij,ij->", "i,j->ij", "ii->i", "ij->ji", "...ij,...jk",
        "ij,jk,ki->", "i...->...", "ij,k->kij", "ijk,ik->jk",
    )  # fmt: skip
    operands = text.partition("->")[0].split(",")
    shapes = [
        [dims[letter] for letter in operand.replace("...", "")]
        for operand in operands
    ]
    arrays = [d.array(REALS, shape, "moderate") for shape in shapes]
    return (text, *arrays)


def taken(d):
    x = d.array(ALL, (1, 3), low=1)
    axis = d.axis(x.ndim, several=False)
    size = x.size if axis is None else x.shape[axis]
    indices = d.array(INDICES, (0, 2), (-size, size - 1))
    return (x, indices), {"axis": axis}


def taken_along(d):
    x = d.array(ALL, (1, 3), low=1)
    axis = d.axis(x.ndim, none=False, several=False)
    shape = list(x.shape)
    size, shape[axis] = shape[axis], d.integer(0, 3)
    return (x, d.array(INDICES, shape, (-size, size - 1))), {"axis": axis}


def padded(d):
    x = d.array(ALL, (1, 3), low=2)
    width = [(d.integer(0, 1), d.integer(0, 1)) for _ in x.shape]
    width = d.choice(width, 1, (1, 0))
    mode = d.choice("constant", "reflect", "symmetric", "edge")
    kwargs = {"mode": mode}
    if mode == "constant" and x.dtype != "bool":
        kwargs["constant_values"] = d.choice(None, 3)
    return (x, width), kwargs


def numpy_pad(x, width, mode="constant", constant_values=None):
    if mode == "constant":
        return np.pad(x, width, constant_values=constant_values or 0)
    return np.pad(x, width, mode)


def diagonals(numpy, name="k", rank=(1, 2), **options):
    def arguments(d):
        x = d.array(ALL, rank)
        return (x,), {name: d.integer(-3, 3)}

    return Spec(arguments, numpy, **options)


def planes(numpy):
    def arguments(d):
        x = d.array(ALL, (2, 4))
        first = d.integer(0, x.ndim - 1)
        second = d.integer(0, x.ndim - 2)
        second += second >= first
        return (x,), {
            "offset": d.integer(-2, 2),
            "axis1": first,
            "axis2": second,
        }

    return Spec(arguments, numpy, spread=True)


def permuted(d):
    x = d.array(ALL, (0, 4))
    axes = list(range(x.ndim))
    for i in reversed(range(1, x.ndim)):
        j = d.integer(0, i)
        axes[i], axes[j] = axes[j], axes[i]
    axes = tuple(a - x.ndim if d.bool() else a for a in axes)
    return (x,), {"axes": d.choice(None, axes)}


def moved(d):
    x = d.array(ALL, (1, 4))
    return x, d.integer(-x.ndim, x.ndim - 1), d.integer(-x.ndim, x.ndim - 1)


def reshaped(d):
    x = d.array(ALL, (0, 4))
    shapes = [(x.size,), (-1,), (1, x.size), (x.size, 1, 1), x.shape[::-1]]
    return x, d.choice(*shapes)


def repeated(d):
    x = d.array(ALL, (0, 3))
    axis = d.axis(x.ndim, several=False)
    return (x, d.integer(0, 3)), {"axis": axis}


def rolled(d):
    x = d.array(ALL, (0, 3))
    axis = d.axis(x.ndim)
    shift = d.integer(-7, 7)
    if isinstance(axis, tuple):
        shift = tuple(d.integer(-7, 7) for _ in axis)
    return (x, shift), {"axis": axis}


def filled(with_value=False, like=False):
    def arguments(d):
        dtype = d.choice(None, *ALL)
        first = d.array(ALL, (0, 3)) if like else d.dims((0, 3))
        value = (d.choice(0, 1, 2.5, -3),) if with_value else ()
        if with_value and dtype and dtype.startswith("u"):
            value = (1,)
        return (first, *value), {"dtype": dtype}

    return Spec(arguments)


def chosen(*choices, numpy=None, **kwargs):
    """A call whose arguments are picked from lists."""

    def arguments(d):
        args = tuple(d.choice(*of) for of in choices)
        return args, {name: d.choice(*of) for name, of in kwargs.items()}

    return Spec(arguments, numpy, spread=True)


def ranges(d):
    dtype = d.choice(None, "int32", "float32", "int64", "float16")
    # What NumPy makes of fractional steps between integers is no range.
    step = d.choice(None, 1, 2, *([] if dtype in INTS else [0.5]))
    start, stop = d.choice(0, 1, 2.5, -3), d.choice(None, 5, 7.5)
    return (start, stop, step), {"dtype": dtype}


def spaced(numpy=None, values=(0, 4), **names):
    def arguments(d):
        start = d.array(FLOATS, (0, 2), values)
        stop = d.array([start.dtype.name], list(start.shape), values)
        if d.bool():
            start, stop = float(values[0] + 1), d.choice(5, 7.5)
        return (start, stop), {
            "num": d.integer(0, 7),
            "endpoint": d.bool(),
        } | {n: d.choice(*of) for n, of in names.items()}

    return Spec(arguments, numpy, spread=True, tolerance=4)


def segments(**options):
    def arguments(d):
        x = d.array(NUMBERS, (1, 3), "finite", low=1)
        count = d.integer(1, 5)
        ids = d.array(INTS, [x.shape[0]], (0, count - 1))
        is_sorted = d.bool()
        if is_sorted:
            ids = np.sort(ids)
        return (x, ids), {"num_segments": count, "sorted": is_sorted}

    return Spec(arguments, spread=True, **options)


def bounded(extreme):
    """A maximum or minimum of segments, where one of no elements is finite.

    So Keras's tests have it for TensorFlow and OpenVINO.
    """

    def reference(x, ids, num_segments, sorted):
        bounds = limits(x.dtype)
        bound = bounds.min if extreme is np.max else bounds.max
        result = np.full((num_segments, *x.shape[1:]), bound, x.dtype)
        for i in ids:
            result[i] = extreme(x[ids == i], axis=0)
        return result

    return reference


def where(d):
    x, y = d.pair()
    shape = d.broadcast(np.broadcast_shapes(np.shape(x), np.shape(y)))
    return d.array(("bool", "bool", "int32", "float32"), shape, "small"), x, y


def selected(d):
    shape = list(d.dims((0, 3)))
    count = d.integer(1, 3)
    dtype = d.choice(*ALL)
    return (
        [d.array(BOOL, shape) for _ in range(count)],
        [d.array([dtype], shape) for _ in range(count)],
    )


def clipped(d):
    x = d.array(ALL)
    low, high = d.choice((-1, 2), (0, 1), (-2.5, 2.5), (3, 120))
    if d.integer(0, 3) == 0:
        low = d.array([x.dtype.name], d.broadcast(x.shape))
    return x, low, high


def sought(d):
    x = np.sort(d.array(REALS, [d.integer(0, 9)], "finite"))
    y = d.array([x.dtype.name], (0, 2), "finite")
    return (x, y), {"side": d.choice("left", "right")}


def digitized(d):
    bins = np.sort(d.array(REALS, [d.integer(1, 6)], "moderate"))
    return d.array(REALS, (0, 2), "moderate"), bins


def counted(d):
    x = d.array(("int32", "int64", "uint8", "int8"), (1, 2), (0, 9), low=1)
    kwargs = {"minlength": d.choice(0, 12)}
    if d.bool():
        kwargs["weights"] = d.array(FLOATS, list(x.shape), "small")
    return (x,), kwargs


def bins(x, minlength=0, weights=None):
    """NumPy's `bincount` of each row; JAX adds up float16 in float16."""
    dtype = "int32" if weights is None else weights.dtype
    weights = np.ones_like(x) if weights is None else weights
    length = max(minlength, x.max() + 1)
    rows = [
        np.bincount(row, weight.astype("float64"), length)
        for row, weight in zip(np.atleast_2d(x), np.atleast_2d(weights))
    ]
    return np.stack(rows).reshape([*x.shape[:-1], length]).astype(dtype)


def averaged(d):
    x = d.array(ALL, (1, 3), "moderate", low=1)
    axis = d.axis(x.ndim, several=False)
    weights = d.choice("no", "full", "flat")
    if weights == "no":
        return (x,), {"axis": axis}
    shape = list(x.shape)
    if weights == "flat" and axis is not None:
        shape = [x.shape[axis]]
    return (x,), {"axis": axis, "weights": d.array(FLOATS, shape, "positive")}


def hot(d):
    x = d.array(("int32", "int64", "uint8", "int8"), (0, 3), (-1, 5))
    return (x, d.integer(1, 5)), {
        "axis": d.choice(-1, 0),
        "dtype": d.choice(None, "int32", "bool", "float16"),
    }


def multi_hot(d):
    x = d.array(("int32", "int64", "uint8"), (1, 3), (0, 4), low=1)
    return (x, 5), {"dtype": d.choice(None, "int32", "float16")}


def uniques(d):
    x = d.array(ALL, (0, 1), "moderate")
    names = ("return_index", "return_inverse", "return_counts", "sorted")
    return (x,), {name: d.bool() for name in names}


def histograms(d):
    x = d.array(("float32", "int32"), (1, 1), "small", low=1)
    return (x,), {"bins": d.integer(1, 6), "range": d.choice(None, (-3, 3))}


def crosses(d):
    batch = list(d.dims((0, 2)))
    return [
        d.array(REALS, [*batch, d.choice(3, 3, 2)], "moderate") for _ in "ab"
    ]


def normalised(parts, dtypes=FLOATS, **options):
    """Inputs of a normalization with `parts` arrays of the axis's size."""

    def arguments(d):
        x = d.array(dtypes, (2, 4), "small", low=1)
        axis = d.integer(-x.ndim, x.ndim - 1) if parts > 2 else -1
        size = [x.shape[axis]]
        stats = [
            d.array([x.dtype.name], size, "positive") for _ in range(parts)
        ]
        return (x, *stats), {"axis": axis, **options}

    return Spec(arguments, spread=True, tolerance=10)


def crossentropy(kind):
    def arguments(d):
        output = d.array(FLOATS, (1, 3), "small", low=1)
        from_logits = d.bool()
        if not from_logits:
            output = (np.abs(output) / 5 + 0.05).astype(output.dtype)
        shape = list(output.shape)
        if kind == "sparse":
            target = d.array(INDICES, shape[:-1], (0, shape[-1] - 1))
        else:
            target = d.array([output.dtype.name], shape, (0, 1))
        return (target, output), {"from_logits": from_logits}

    return Spec(arguments, spread=True, tolerance=10)


def attention(d):
    n, t, s, h, k = (d.integer(1, 4) for _ in range(5))
    dtype = d.choice(*FLOATS)
    arrays = [
        d.array([dtype], [n, length, h, k], "small") for length in (t, s, s)
    ]
    kwargs = {"is_causal": d.bool()}
    if d.bool():
        kwargs["mask"] = d.array(BOOL, [n, h, t, s]) | (np.arange(s) == 0)
    if d.bool():
        kwargs["scale"] = 0.5
    return tuple(arrays), kwargs


def ctc(d):
    n, t, length, c = d.integer(1, 3), d.integer(6, 9), d.integer(1, 3), 5
    return (
        d.array(("int32",), [n, length], (1, d.choice(c - 1, c - 1, c + 2))),
        d.array(SINGLES, [n, t, c], "small"),
        d.array(("int32",), [n], (1, length)),
        d.array(("int32",), [n], (6, t)),
    )


def ctc_decoded(d):
    n, t = d.integer(1, 3), d.integer(2, 6)
    x = d.array(SINGLES, [n, t, 4], "small")
    strategy = d.choice("greedy", "beam_search")
    kwargs = {"strategy": strategy}
    if strategy == "beam_search":
        kwargs |= {"beam_width": 4, "top_paths": 2}
    else:
        kwargs |= {"merge_repeated": d.bool()}
    return (x, d.array(("int32",), [n], (1, t))), kwargs


def framed(d):
    x = d.array(FLOATS, [*d.dims((0, 1), low=1), d.integer(16, 40)], "small")
    return x, d.choice(4, 8), d.choice(2, 3)


def spectra(d):
    x = d.array(LINALG, [*d.dims((0, 1), low=1), d.integer(16, 40)], "small")
    return (x, d.choice(6, 8), d.choice(2, 4), 8), {
        "window": d.choice("hann", "hamming", None),
        "center": d.bool(),
    }


def inverse_spectra(d):
    shape = [*d.dims((0, 1), low=1), d.integer(3, 6), 5]
    parts = d.array(SINGLES, shape, "small"), d.array(SINGLES, shape, "small")
    return (parts, 8, 4, 8), {"center": d.bool()}


def complexes(ranks, low=1, dtypes=SINGLES):
    def arguments(d):
        shape = list(d.dims(ranks, low))
        return ((d.array(dtypes, shape, "small"),
                 d.array(dtypes, shape, "small")),)  # fmt: skip

    return arguments


def real_spectrum(d):
    x = d.array(LINALG, (1, 3), "small", low=1)
    return (x,), {"fft_length": d.choice(None, 4, 7)}


def inverse_real_spectrum(d):
    shape = [*d.dims((0, 1), low=1), d.integer(3, 6)]
    pair = d.array(SINGLES, shape, "small"), d.array(SINGLES, shape, "small")
    return (pair,), {"fft_length": d.choice(None, 4, 7)}


def patches(d):
    n, c = d.choice(1, 2), d.choice(1, 2)
    x = d.array(FLOATS, [n, c, d.integer(4, 7), d.integer(4, 7)], "small")
    return (x, d.choice(1, 2, 3)), {
        "dilation": d.choice(1, 1, 2) if x.shape[2] > 5 < x.shape[3] else 1,
        "padding": d.choice(0, 1),
        "stride": d.choice(1, 2),
    }


def folded(d):
    kernel, stride = d.choice(1, 2, 3), d.choice(1, 2)
    height, width = d.integer(4, 6), d.integer(4, 6)
    blocks = ((height - kernel) // stride + 1) * (
        (width - kernel) // stride + 1
    )
    x = d.array(SINGLES, [d.choice(1, 2), 2 * kernel**2, blocks], "small")
    return (x, (height, width), kernel), {"stride": stride}


def fold(x, size, kernel, stride):
    """The sum of the blocks at their places."""
    blocks = x.reshape(len(x), -1, kernel, kernel, x.shape[-1])
    result = np.zeros((*blocks.shape[:2], *size), x.dtype)
    corners = itertools.product(
        range(0, size[0] - kernel + 1, stride),
        range(0, size[1] - kernel + 1, stride),
    )
    for i, (row, column) in enumerate(corners):
        place = slice(row, row + kernel), slice(column, column + kernel)
        result[:, :, *place] += blocks[..., i]
    return result


def blocks(inverse):
    def arguments(d):
        size = d.choice(1, 2, 3)
        n, h, w, c = (d.integer(1, 3) for _ in range(4))
        data_format = d.choice(*DATA_FORMATS)
        h, w, c = (h, w, c * size**2) if inverse else (h * size, w * size, c)
        shape = [n, h, w, c] if data_format == "channels_last" else [n, c, h, w]
        return (d.array(ALL, shape), size), {"data_format": data_format}

    return Spec(arguments)


# ----------------------------------------------------- slices and updates


def sliced(d):
    x = d.array(ALL, (1, 3), low=1)
    sizes = [d.integer(1, n) for n in x.shape]
    starts = [d.integer(0, n - s) for n, s in zip(x.shape, sizes)]
    if d.integer(0, 5) == 0:
        sizes[-1] += x.shape[-1]
    return x, np.array(starts, "int32"), tuple(sizes)


def is_too_large(case):
    x, _, sizes = case.args
    sizes = getattr(sizes, "shape", sizes)
    return any(size > dim for size, dim in zip(sizes, x.shape))


def slice_updated(d):
    x, starts, sizes = sliced(d)
    return x, starts, d.array([x.dtype.name], list(sizes))


def scattered(d):
    shape = list(d.dims((1, 3), low=1))
    count, depth = d.integer(1, 4), d.integer(1, len(shape))
    indices = np.stack(
        [
            d.array(("int32",), [count], (0, shape[axis] - 1))
            for axis in range(depth)
        ],
        axis=-1,
    )
    values = d.array(NUMBERS, [count, *shape[depth:]], "moderate")
    return indices, values, tuple(shape)


def scatter_updated(d):
    indices, values, shape = scattered(d)
    indices, at = np.unique(indices, axis=0, return_index=True)
    x = d.array([values.dtype.name], list(shape))
    reduction = d.choice(None, "add", "max", "min", "mul")
    values = values[at] if d.integer(0, 3) else values[:1]
    return (x, indices.astype("int32"), values), {"reduction": reduction}


def keys(d):
    x = d.array(ALL, (1, 3), low=2)
    n = x.shape[0]
    inside, anywhere = [
        [d.integer(-end, end - 1) for _ in range(2)] for end in (n, n + 3)
    ]
    key = d.choice(
        0, -1, slice(None, None, -1), slice(1, None), (..., 0), None,
        slice(-2, -1), (slice(None), None), slice(None, None, 2),
        inside[0], inside, (inside[:1], inside[1:]), anywhere[0], anywhere,
        (anywhere, [0, -1]), (anywhere[0], slice(1, None)), (..., anywhere),
    )  # fmt: skip
    return x, key


def is_outside(case):
    try:
        case.args[0][case.args[1]]
    except IndexError:
        return True
    return False


def masked(d):
    """An array and a mask, which mostly fits."""
    x = d.array(ALL, (1, 3), low=1)
    shape = list(x.shape[: d.integer(1, x.ndim)])
    if d.integer(0, 2) == 0:
        shape[d.integer(0, len(shape) - 1)] += d.choice(1, 6)
    return x, d.array(("bool",), shape)


def unstacked(d):
    x = d.array(ALL, (1, 3), low=1)
    axis = d.integer(-x.ndim, x.ndim - 1)
    num = d.choice(None, x.shape[axis], d.integer(1, 5))
    return (x,), {"axis": axis, "num": num}


def is_another_number(case):
    axis, num = case.kwargs["axis"], case.kwargs["num"]
    return num not in (None, case.args[0].shape[axis])


# ------------------------------------------------------------ control flow


def branch(x, y):
    return ops.cond(ops.sum(x) > 0, lambda: x + y, lambda: x - y)


def switched(index, x):
    return ops.switch(index, [ops.sin, ops.negative, ops.square], x)


def count_down(x, n):
    return ops.while_loop(
        lambda x, i: i > 0, lambda x, i: (x * 2 + 1, i - 1), (x, n)
    )


def for_loop(x, n, number):
    """Begins with `x`, or with a Python number."""
    if number is None:
        return ops.fori_loop(0, n, lambda i, x: x + ops.cast(i, x.dtype), x)
    return ops.fori_loop(0, n, lambda i, total: total + ops.sum(x), number)


def scan(init, xs, reverse, length=None):
    return ops.scan(
        lambda carry, x: (carry + x, carry * x), init, xs, length, reverse
    )


def is_another_length(case):
    return case.kwargs["length"] not in (None, len(case.args[1]))


def associative(elems, reverse):
    return ops.associative_scan(ops.add, elems, reverse=reverse)


def scanned(d):
    xs = d.array(("float32", "int32"), (1, 3), "small", low=1)
    init = d.array([xs.dtype.name], list(xs.shape[1:]), "small")
    if xs.ndim == 1 and d.bool():
        init = d.choice(0, 2, 0.5)
    length = d.choice(None, None, len(xs), 3)
    return (init, xs, d.bool()), {"length": length}


def same_pair(dtypes=("float32", "int32"), values="small"):
    def arguments(d):
        x = d.array(dtypes, (0, 3), values)
        return x, d.array([x.dtype.name], list(x.shape), values)

    return arguments


def counted_steps(d):
    x = d.array(("float32", "int32"), (0, 3), "small")
    return x, np.array(d.integer(0, 3), "int32")


# ---------------------------------------------------------- linear algebra


def solved(triangular=False):
    def arguments(d):
        (a,) = matrices(well=True)(d)
        if triangular:
            a = np.tril(a)
        shape = [*a.shape[:-1], d.integer(1, 3)]
        b = d.array([a.dtype.name], shape, "moderate")
        if triangular and d.bool():
            return (np.swapaxes(a, -1, -2).copy(), b), {"lower": False}
        return ((a, b), {"lower": True}) if triangular else (a, b)

    return Spec(arguments, spread=True, tolerance=50)


def least_squares(d):
    n = d.integer(2, 4)
    a = d.array(LINALG, [n, d.integer(1, n)], "small")
    a = a + 8 * np.eye(*a.shape).astype(a.dtype)
    return a, d.array([a.dtype.name], [n, d.integer(1, 3)], "small")


def symmetric(d):
    (x,) = matrices()(d)
    return ((x + np.swapaxes(x, -1, -2)).astype(x.dtype),)


def close(x, y):
    return x.shape == y.shape and bool(
        np.allclose(x, y, rtol=1e-3, atol=1e-3 * (1 + np.abs(y).max()))
    )


def is_eigen(x, values, vectors):
    return close(x @ vectors, vectors * values[..., None, :])


def is_qr(x, q, r):
    return close(q @ r, x)


def is_svd(x, u, s, v):
    k = s.shape[-1]
    return close((u[..., :k] * s[..., None, :]) @ v[..., :k, :], x)


def norms(d):
    x = d.array(("float32", "float64", "int32", "bfloat16"), (1, 3),
                "small", low=1)  # fmt: skip
    axis = d.axis(x.ndim, several=False)
    if axis is None and x.ndim > 2:
        order = None
    else:
        order = d.choice(None, 1, 2, np.inf, -np.inf, 0)
    if axis is None and x.ndim == 2:
        order = d.choice(None, "fro", "nuc", 1, -1, 2, -2, np.inf)
    return (x,), {"ord": order, "axis": axis, "keepdims": d.bool()}


# ----------------------------------------------------------------- images


def resized(d):
    x, data_format = images(d, ("float32", "uint8", "float16"))
    if x.dtype == "uint8":
        x = (x * 200).astype("uint8")
    kwargs = {
        "interpolation": d.choice("nearest", "bilinear", "bicubic",
                                  "lanczos3", "lanczos5"),
        "antialias": d.bool(),
        "data_format": data_format,
    }  # fmt: skip
    how = d.choice("", "", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
    if how:
        kwargs[how] = True
    return (x, (d.integer(2, 12), d.integer(2, 12))), kwargs


def transformed(d):
    x, data_format = images(d, ("float32", "float16"))
    shape = [8] if x.ndim == 3 else [x.shape[0], 8]
    change = np.array([1, 0, 0, 0, 1, 0, 0, 0], "float32")
    change = change + d.array(SINGLES, shape, (-0.2, 0.2)) * (
        np.array([1, 1, 5, 1, 1, 5, 0, 0], "float32")
    )
    return (x, change.astype("float32")), {
        "interpolation": d.choice("nearest", "bilinear"),
        "fill_mode": d.choice(
            "constant", "nearest", "wrap", "mirror", "reflect"
        ),
        "fill_value": d.choice(0, 0.5),
        "data_format": data_format,
    }


def perspectives(d):
    x, data_format = images(d, ("float32",), low=4)
    height, width = x.shape[-3:-1]
    if data_format == "channels_first":
        height, width = x.shape[-2:]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    corners = np.broadcast_to(corners, (*x.shape[:-3], 4, 2))
    points = [
        (corners + d.array(SINGLES, list(corners.shape), (-0.9, 0.9))).astype(
            "float32"
        )
        for _ in "ab"
    ]
    return (x, *points), {
        "interpolation": d.choice("nearest", "bilinear"),
        "data_format": data_format,
    }


def mapped(d):
    x = d.array(("float32", "int32", "uint8"), (1, 3), (0, 9), low=2)
    coordinates = d.array(SINGLES, [x.ndim, *d.dims((1, 2))], (-3, 7))
    return (x, coordinates, d.choice(0, 1)), {
        "fill_mode": d.choice(
            "constant", "nearest", "wrap", "mirror", "reflect"
        ),
        "fill_value": d.choice(0, 2),
    }


def extracted(d):
    x, data_format = images(d, low=4)
    return (x, d.choice(1, 2, (3, 2))), {
        "strides": d.choice(None, 1, 2),
        "padding": d.choice("valid", "same"),
        "data_format": data_format,
    }


def extracted_3d(d):
    x, _, data_format = spatial(d, 3)
    return (x, d.choice(1, 2, 3)), {
        "strides": d.choice(None, 1, 2),
        "padding": d.choice("valid", "same"),
        "data_format": data_format,
    }


def cropped(d):
    x, data_format = images(d, ("float32", "uint8"))
    top, left = d.choice(0, 1), d.choice(0, 1)
    return (x,), {
        "top_cropping": top,
        "left_cropping": left,
        "target_height": 2,
        "target_width": 2,
        "data_format": data_format,
    }


def image_padded(d):
    x, data_format = images(d, ("float32", "uint8"))
    return (x,), {
        "top_padding": d.integer(0, 2),
        "left_padding": d.integer(0, 2),
        "bottom_padding": d.integer(0, 2),
        "right_padding": d.integer(0, 2),
        "data_format": data_format,
    }


def colours(dtypes=("float32", "float16")):
    def arguments(d):
        x, data_format = images(d, dtypes, channels=(3,))
        return (x,), {"data_format": data_format}

    return arguments


def blurred(d):
    x, data_format = images(d, ("float32", "float16"))
    return (x,), {
        "kernel_size": d.choice((3, 3), (5, 3)),
        "sigma": d.choice((1.0, 1.0), (0.5, 2.0)),
        "data_format": data_format,
    }


def edges(d):
    x, data_format = images(d, ("float32", "float16"))
    return (x,), {"data_format": data_format}


def similar(d):
    x, data_format = images(d, ("float32",), low=11, high=14)
    y = d.array(("float32",), list(x.shape), (0, 1))
    return (x, y), {"data_format": data_format}


def rescaled(d):
    shape = [2, d.integer(3, 8), d.integer(3, 8), 3]
    x = d.array(("float32", "float16"), shape, (0, 1))
    shape = (2, d.integer(3, 9), d.integer(3, 9), 3)
    scale = d.array(SINGLES, [2], (0.5, 2))
    translation = d.array(SINGLES, [2], (-1, 1))
    return (x, shape, scale, translation, (1, 2)), {
        "method": d.choice("linear", "cubic", "lanczos3", "lanczos5"),
        "antialias": d.bool(),
    }


# ----------------------------------------------------------------- random


def drawn(name, *choices, dtypes=("float32", "float16", "bfloat16")):
    """A call of `keras.random` for a shape and a seed."""

    def arguments(d):
        numbers = tuple(d.choice(*of) for of in choices)
        return (d.dims((0, 3)), *numbers), {
            "dtype": d.choice(*dtypes),
            "seed": d.integer(0, 2**31 - 1),
        }

    return Spec(arguments, call=of_random(name), spread=True, tolerance=10)


def converted(x, dtype):
    """Numbers that an integer cannot hold wrap around, unlike in JAX."""
    return x.astype(dtype or x.dtype)


def saturated(d):
    x, dtype = d.array(ALL), d.choice(*ALL)
    kinds = {"float32", "float64", "float16", "bfloat16"}
    # Keras rounds the bounds to the first dtype, which may be beyond those of
    # the second one.
    if x.dtype.name in kinds and dtype not in (*kinds, "bool", "int8", "uint8"):
        x = np.clip(np.nan_to_num(x), -99, 99).astype(x.dtype)
    if x.dtype.name in ("int64", "uint64") and dtype in kinds:
        dtype = "int32"
    return x, dtype


def of_random(name):
    return functools.partial(_call_random, name)


def _call_random(name, *args, **kwargs):
    return getattr(keras.random, name)(*args, **kwargs)


def shuffled(d):
    x = d.array(ALL, (1, 3), low=1)
    axis = d.integer(0, x.ndim - 1)
    return (x,), {"axis": axis, "seed": d.integer(0, 2**31 - 1)}


def dropped(d):
    x = d.array(("float32", "float16"), (0, 3), "small")
    noise_shape = [d.choice(1, None, dim) for dim in x.shape]
    return (x, d.choice(0.1, 0.5, 0.0)), {
        "noise_shape": d.choice(None, noise_shape),
        "seed": d.integer(0, 2**31 - 1),
    }


def categories(d):
    x = d.array(SINGLES, [d.integer(1, 3), d.integer(1, 5)], "small")
    return (x, d.integer(1, 6)), {"seed": d.integer(0, 2**31 - 1)}


DEPENDS = "the shape of the result depends on values"
NAMES = "what it gives is no tensor"
IN_PYTHON = "takes Python numbers"

SPECS = {
    # Element by element.
    "abs": unary(np.abs),
    "absolute": unary(np.abs),
    "angle": unary(values="moderate"),
    "arccos": unary(np.arccos),
    "arccosh": unary(np.arccosh),
    "arcsin": unary(np.arcsin),
    "arcsinh": unary(np.arcsinh),
    "arctan": unary(np.arctan),
    "arctanh": unary(np.arctanh),
    "bitwise_invert": unary(np.invert, (*BOOL, *INTS)),
    "bitwise_not": unary(np.invert, (*BOOL, *INTS)),
    "cbrt": unary(np.cbrt),
    "ceil": unary(np.ceil),
    "conj": unary(np.conj),
    "conjugate": unary(np.conj),
    "cos": unary(np.cos, values="moderate"),
    "cosh": unary(np.cosh),
    "deg2rad": unary(np.deg2rad),
    "erf": unary(scipy.special.erf),
    "erfc": unary(scipy.special.erfc),
    "erfinv": unary(scipy.special.erfinv, FLOATS, "unit", tolerance=10),
    "exp": unary(np.exp, tolerance=4),
    "exp2": unary(np.exp2, tolerance=4),
    "expm1": unary(np.expm1, tolerance=4),
    "fabs": unary(np.fabs),
    "floor": unary(np.floor),
    "i0": unary(np.i0, values="moderate", tolerance=4),
    "imag": unary(np.imag),
    "isfinite": unary(np.isfinite),
    "isinf": unary(np.isinf),
    "isnan": unary(np.isnan),
    "isneginf": unary(np.isneginf),
    "isposinf": unary(np.isposinf),
    "isreal": unary(np.isreal),
    "log": unary(np.log),
    "log10": unary(np.log10),
    "log1p": unary(np.log1p),
    "log2": unary(np.log2),
    "logical_not": unary(np.logical_not),
    "negative": unary(np.negative, REALS),
    "rad2deg": unary(np.rad2deg),
    "real": unary(np.real),
    "reciprocal": unary(lambda x: 1 / x),
    "rsqrt": unary(lambda x: 1 / np.sqrt(x)),
    "sign": unary(np.sign),
    "signbit": unary(np.signbit),
    "sin": unary(np.sin, values="moderate"),
    "sinc": unary(np.sinc, values="moderate", spread=True),
    "sinh": unary(np.sinh, tolerance=4),
    "sqrt": unary(np.sqrt),
    "square": unary(np.square),
    "tan": unary(np.tan, values="moderate", tolerance=10),
    "tanh": unary(np.tanh),
    "trunc": unary(np.trunc),
    "round": Spec(
        lambda d: ((d.array(ALL),), {"decimals": d.choice(0, 0, 1, -1)}),
        np.round,
    ),
    "nan_to_num": Spec(
        lambda d: (
            (d.array(ALL),),
            {"nan": d.choice(0.0, 2.0), "posinf": d.choice(None, 3.0)},
        ),
        np.nan_to_num,
    ),
    "clip": Spec(clipped, np.clip),
    # Two operands.
    "add": binary(np.add, weight=2),
    "arctan2": binary(np.arctan2),
    "bitwise_and": binary(np.bitwise_and, INTS, second=(0, 100)),
    "bitwise_or": binary(np.bitwise_or, INTS, second=(0, 100)),
    "bitwise_xor": binary(np.bitwise_xor, INTS, second=(0, 100)),
    "bitwise_left_shift": shifts(np.left_shift),
    "bitwise_right_shift": shifts(np.right_shift),
    "left_shift": shifts(np.left_shift),
    "right_shift": shifts(np.right_shift),
    "divide": binary(np.divide, weight=2),
    "divide_no_nan": binary(),
    "equal": binary(np.equal, weight=3),
    "floor_divide": binary(np.floor_divide, values="moderate", second=(1, 4)),
    "fmax": binary(np.fmax),
    "fmin": binary(np.fmin),
    "fmod": binary(np.fmod, values="moderate", second=(1, 4), spread=True),
    "gcd": binary(np.gcd, INTS, "moderate"),
    "greater": binary(np.greater, weight=2),
    "greater_equal": binary(np.greater_equal, weight=2),
    "heaviside": binary(np.heaviside),
    "hypot": binary(np.hypot),
    "isclose": binary(np.isclose),
    "allclose": binary(np.allclose),
    "lcm": binary(np.lcm, INTS, "moderate"),
    "ldexp": Spec(
        lambda d: (
            lambda x: (x, d.array(("int32",), d.broadcast(x.shape), (-9, 9)))
        )(d.array(ALL)),
        np.ldexp,
    ),
    "less": binary(np.less, weight=2),
    "less_equal": binary(np.less_equal, weight=2),
    "logaddexp": binary(np.logaddexp, tolerance=10),
    "logaddexp2": binary(np.logaddexp2, tolerance=10),
    "logical_and": binary(np.logical_and),
    "logical_or": binary(np.logical_or),
    "logical_xor": binary(np.logical_xor),
    "maximum": binary(np.maximum, weight=2),
    "minimum": binary(np.minimum, weight=2),
    "mod": binary(np.mod, values="moderate", second=(1, 4), spread=True),
    "multiply": binary(np.multiply, weight=2),
    "nextafter": binary(np.nextafter, FLOATS),
    "not_equal": binary(np.not_equal, weight=2),
    "power": binary(power, values="moderate", tolerance=10, weight=2),
    "subtract": binary(np.subtract, REALS, weight=2),
    "true_divide": binary(np.true_divide),
    "where": Spec(where, np.where, weight=2),
    "select": Spec(selected, np.select),
    "polar": Spec(
        same_pair(LINALG), lambda r, phi: r * np.exp(1j * phi), spread=True
    ),
    # Reductions.
    "all": reduction(np.all),
    "any": reduction(np.any),
    "amax": reduction(np.amax, low=1),
    "amin": reduction(np.amin, low=1),
    "argmax": reduction(np.argmax, several=False, low=1, weight=2),
    "argmin": reduction(np.argmin, several=False, low=1, weight=2),
    "average": Spec(averaged, np.average, spread=True),
    "count_nonzero": reduction(np.count_nonzero, keepdims=False),
    "logsumexp": reduction(spread=True),
    "max": reduction(np.max, low=1),
    "mean": reduction(np.mean, spread=True, weight=2),
    "median": reduction(median, spread=True),
    "min": reduction(np.min, low=1),
    "moments": Spec(
        lambda d: (
            lambda x: ((x, d.axis(x.ndim, none=False)), {"keepdims": d.bool()})
        )(d.array(FLOATS, (1, 3), "moderate", low=1)),
        spread=True,
        tolerance=10,
    ),
    "nanargmax": reduction(np.nanargmax, several=False, low=1),
    "nanargmin": reduction(np.nanargmin, several=False, low=1),
    "nanmax": reduction(np.nanmax, low=1),
    "nanmean": reduction(np.nanmean, spread=True),
    "nanmedian": reduction(np.nanmedian, spread=True),
    "nanmin": reduction(np.nanmin, low=1),
    "nanprod": reduction(np.nanprod, values="moderate", spread=True),
    "nanstd": reduction(np.nanstd, spread=True, values="moderate"),
    "nansum": reduction(np.nansum, spread=True),
    "nanvar": reduction(
        np.nanvar, spread=True, values="moderate", tolerance=10
    ),
    "prod": reduction(np.prod, spread=True, values="moderate"),
    "ptp": reduction(np.ptp, REALS, low=1),
    "std": reduction(np.std, spread=True, values="moderate"),
    "sum": reduction(np.sum, spread=True, weight=2),
    "var": reduction(np.var, spread=True, values="moderate", tolerance=10),
    "percentile": quantiles(np.percentile, 100),
    "nanpercentile": quantiles(np.nanpercentile, 100),
    "quantile": quantiles(np.quantile, 1),
    "nanquantile": quantiles(np.nanquantile, 1),
    "norm": Spec(norms, np.linalg.norm, spread=True, tolerance=10),
    # Along an axis.
    "argpartition": Spec(
        lambda d: (lambda x: (x, d.integer(0, x.shape[-1] - 1)))(
            d.array(NUMBERS, (1, 2), "small", low=1)
        ),
        check=lambda x, got: bool(
            np.array_equal(
                np.sort(got, -1),
                np.broadcast_to(np.arange(x.shape[-1]), x.shape),
            )
        ),
        only_eager="the order of the rest is free",
    ),
    "argsort": along(dtypes=ALL),
    "sort": along(dtypes=ALL),
    "cumprod": along(
        ("dtype", None, "float32"),
        dtypes=ALL,
        values="moderate",
        spread=True,
        numpy=cumulated(np.cumprod),
    ),
    "cumsum": along(
        ("dtype", None, "int32", "float32"),
        dtypes=ALL,
        values="finite",
        spread=True,
        numpy=cumulated(np.cumsum),
    ),
    "nancumprod": along(dtypes=ALL, values="moderate", spread=True),
    "nancumsum": along(dtypes=ALL, values="moderate", spread=True),
    "diff": along(("n", 1, 2), dtypes=ALL, low=1),
    "flip": Spec(
        lambda d: (lambda x: ((x,), {"axis": d.axis(x.ndim)}))(d.array(ALL)),
        np.flip,
    ),
    "trapezoid": Spec(
        lambda d: (
            lambda x: (
                (x,),
                {"dx": d.choice(1.0, 0.5), "axis": d.integer(0, x.ndim - 1)},
            )
        )(d.array(REALS, (1, 3), "moderate", low=1)),
        spread=True,
    ),
    "unstack": Spec(unstacked, refuses=is_another_number),
    "top_k": Spec(
        lambda d: (lambda x: (x, d.integer(1, x.shape[-1])))(
            d.array(REALS, (1, 3), low=1)
        ),
        weight=2,
    ),
    "in_top_k": Spec(
        lambda d: (
            lambda x: (
                d.array(("int32",), [x.shape[0]], (0, x.shape[1] - 1)),
                x,
                d.integer(1, x.shape[1]),
            )
        )(d.array(("float32", "float16"), (2, 2), "small", low=1)),
    ),
    # Shapes.
    "append": Spec(
        lambda d: (
            lambda x: (
                (x, d.array(ALL, list(x.shape))),
                {"axis": d.axis(x.ndim, several=False)},
            )
        )(d.array(ALL, (1, 3))),
        np.append,
    ),
    "array_split": splitting(uneven=True),
    "broadcast_to": Spec(
        lambda d: (lambda x: (x, (2, *x.shape)))(d.array(ALL, (0, 3))),
        np.broadcast_to,
    ),
    "concatenate": joined(np.concatenate, axis=True),
    "dstack": joined(np.dstack, rank=(3, 3), vary=2),
    "hstack": joined(np.hstack, rank=(2, 3), vary=1),
    "vstack": joined(np.vstack, rank=(2, 3), vary=0),
    "stack": Spec(stacked, np.stack),
    "split": splitting(),
    "vsplit": splitting(0, (2, 3)),
    "hsplit": splitting(1, (2, 3)),
    "dsplit": splitting(2, (3, 3)),
    "copy": unary(np.copy),
    "expand_dims": Spec(
        lambda d: (lambda x: (x, d.integer(-x.ndim - 1, x.ndim)))(d.array(ALL)),
        np.expand_dims,
    ),
    "fliplr": unary(np.fliplr, rank=(2, 3)),
    "flipud": unary(np.flipud, rank=(1, 3)),
    "get_item": Spec(
        lambda d: d.choice(keys, keys, masked)(d),
        lambda x, key: x[key],
        weight=4,
        refuses=is_outside,
    ),
    "meshgrid": Spec(
        lambda d: (
            tuple(d.array(ALL, [d.integer(0, 3)]) for _ in range(2)),
            {"indexing": d.choice("xy", "ij")},
        ),
        np.meshgrid,
    ),
    "moveaxis": Spec(moved, np.moveaxis),
    "swapaxes": Spec(moved, np.swapaxes),
    "transpose": Spec(permuted, np.transpose),
    "pad": Spec(padded, numpy_pad, weight=2),
    "ravel": unary(np.ravel),
    "rearrange": Spec(
        lambda d: (
            d.array(ALL, [d.integer(1, 3), 4, d.integer(1, 3)]),
            d.choice("a b c -> c a b", "a b c -> (a b) c", "a b c -> b (c a)"),
        ),
    ),
    "repeat": Spec(repeated, np.repeat),
    "reshape": Spec(reshaped, np.reshape),
    "roll": Spec(rolled, np.roll),
    "rot90": Spec(
        lambda d: ((d.array(ALL, (2, 3)),), {"k": d.integer(-3, 5)}), np.rot90
    ),
    "squeeze": Spec(
        lambda d: (
            d.array(ALL, [d.integer(0, 3), 1, d.choice(1, 2)]),
            d.choice(1, -2),
        ),
        np.squeeze,
    ),
    "tile": Spec(
        lambda d: (d.array(ALL, (0, 3)), d.choice(2, (2, 1), (1, 3, 2), 0)),
        np.tile,
    ),
    "diag": diagonals(np.diag),
    "diagflat": diagonals(np.diagflat),
    "diagonal": planes(np.diagonal),
    "trace": planes(np.trace),
    "tril": diagonals(np.tril, rank=(2, 3)),
    "triu": diagonals(np.triu, rank=(2, 3)),
    "take": Spec(taken, weight=2),
    "take_along_axis": Spec(taken_along, np.take_along_axis),
    "slice": Spec(sliced, weight=2, refuses=is_too_large),
    "slice_update": Spec(slice_updated, weight=2, refuses=is_too_large),
    "scatter": Spec(scattered),
    "scatter_update": Spec(scatter_updated, weight=2),
    "searchsorted": Spec(sought),
    "digitize": Spec(digitized, np.digitize),
    "isin": Spec(
        lambda d: (
            (d.array(REALS), d.array(REALS, (0, 2))),
            {"invert": d.bool()},
        ),
        np.isin,
    ),
    "bincount": Spec(counted, bins, only_eager=DEPENDS),
    "histogram": Spec(histograms, np.histogram),
    "nonzero": unary(np.nonzero, only_eager=DEPENDS, rank=(1, 3)),
    "unique": Spec(uniques, only_eager=DEPENDS),
    "unravel_index": Spec(
        lambda d: (d.array(INDICES, (0, 2), (0, 23)), (2, 3, 4)),
        np.unravel_index,
    ),
    "segment_sum": segments(),
    "segment_max": segments(numpy=bounded(np.max)),
    "segment_min": segments(numpy=bounded(np.min)),
    "segment_prod": segments(),
    "one_hot": Spec(hot),
    "multi_hot": Spec(multi_hot),
    "vander": Spec(
        lambda d: (
            (d.array(REALS, [d.integer(1, 4)], "small"),),
            {"N": d.choice(None, 2, 4), "increasing": d.bool()},
        ),
        np.vander,
        tolerance=10,
    ),
    # New arrays.
    "arange": Spec(ranges, spread=True),
    "bartlett": chosen((0, 1, 2, 5, 8), numpy=np.bartlett),
    "blackman": chosen((0, 1, 2, 5, 8), numpy=np.blackman),
    "hamming": chosen((0, 1, 2, 5, 8), numpy=np.hamming),
    "hanning": chosen((0, 1, 2, 5, 8), numpy=np.hanning),
    "kaiser": chosen((1, 2, 5, 8), (0.0, 5.0, 14.0)),
    "empty": Spec(
        lambda d: ((d.dims((0, 3)),), {"dtype": d.choice(*ALL)}),
        call=lambda shape, dtype: ops.empty(shape, dtype) * 0,
        only_eager=IN_PYTHON,
    ),
    "empty_like": Spec(
        lambda d: (d.array(REALS, values="small"),),
        call=lambda x: ops.zeros_like(ops.empty_like(x)),
    ),
    "eye": chosen((0, 1, 3), (None, 2, 5), k=(0, 1, -2, 7), dtype=(None, *ALL)),
    "identity": chosen((0, 1, 4), dtype=(None, *ALL)),
    "tri": chosen((0, 1, 3), (None, 2, 5), k=(0, 1, -2, 7), dtype=(None, *ALL)),
    "full": filled(with_value=True),
    "full_like": filled(with_value=True, like=True),
    "ones": filled(),
    "zeros": filled(),
    "ones_like": filled(like=True),
    "zeros_like": filled(like=True),
    "geomspace": spaced(values=(1, 6)),
    "linspace": spaced(dtype=(None, "float32", "int32")),
    "logspace": spaced(base=(10.0, 2.0)),
    # Products.
    "corrcoef": Spec(
        lambda d: (
            d.array(("float32", "float64"), [d.integer(1, 3), 5], "small"),
        ),
        np.corrcoef,
        spread=True,
        tolerance=10,
    ),
    "correlate": Spec(
        lambda d: (
            flat_pair(REALS, low=1)(d),
            {"mode": d.choice("valid", "same", "full")},
        ),
        np.correlate,
        spread=True,
    ),
    "cross": Spec(lambda d: tuple(crosses(d)), np.cross, spread=True),
    "dot": Spec(dots, np.dot, spread=True),
    "einsum": Spec(einsums, np.einsum, spread=True, weight=2),
    "inner": Spec(inner_products, np.inner, spread=True),
    "kron": Spec(
        lambda d: (
            d.array(ALL, (0, 2), "moderate"),
            d.array(ALL, (0, 2), "moderate"),
        ),
        np.kron,
    ),
    "matmul": Spec(products, np.matmul, spread=True, weight=3),
    "outer": Spec(
        lambda d: (d.array(ALL, (0, 2)), d.array(ALL, (0, 2))), np.outer
    ),
    "tensordot": Spec(tensordots, np.tensordot, spread=True),
    "vdot": Spec(flat_pair(same=True), np.vdot, spread=True),
    "cdist": Spec(
        lambda d: (
            lambda k: (
                d.array(("float32", "float64"), [d.integer(1, 4), k], "small"),
                d.array(("float32",), [d.integer(1, 4), k], "small"),
            )
        )(d.integer(1, 3)),
        spread=True,
        tolerance=100,
    ),
    # Neural networks.
    "celu": activation("any", ("alpha", 1.0, 0.5)),
    "elu": activation("any", ("alpha", 1.0, 0.5)),
    "gelu": activation("any", ("approximate", True, False), spread=True),
    "glu": Spec(
        lambda d: (
            d.array(FLOATS, [*d.dims((0, 2)), d.choice(2, 4)], "moderate"),
        ),
        tolerance=4,
    ),
    "hard_shrink": activation("any", ("threshold", 0.5, 1.0)),
    "hard_sigmoid": activation(),
    "hard_silu": activation(),
    "hard_swish": activation(),
    # -1 is no unsigned integer.
    "hard_tanh": unary(dtypes=(*BOOL, *SIGNED, *FLOATS)),
    "leaky_relu": activation("any", ("negative_slope", 0.2, 0.0)),
    "log_sigmoid": activation(),
    "relu": unary(dtypes=ALL),
    "relu6": unary(dtypes=ALL),
    "selu": activation(),
    "sigmoid": activation(),
    "silu": activation(),
    "swish": activation(),
    "soft_shrink": activation("any", ("threshold", 0.5, 1.0)),
    "softplus": activation(),
    "softsign": activation(),
    "sparse_plus": activation(),
    "sparse_sigmoid": activation(),
    "squareplus": activation(
        "any",
        ("b", 4, 1),
        numpy=lambda x, b: (x + np.sqrt(x * x + x.dtype.type(b))) / 2,
    ),
    "tanh_shrink": activation("moderate", spread=True),
    "threshold": activation("any", ("threshold", 0.5), ("default_value", 2.0)),
    "softmax": along(values="moderate", tolerance=4),
    "log_softmax": along(values="moderate", spread=True, tolerance=4),
    "sparsemax": along(values="moderate", spread=True, low=1),
    "normalize": along(
        ("order", 2, 1), values="moderate", tolerance=4, numpy=normalized
    ),
    "average_pool": pooling(),
    "max_pool": pooling(),
    "adaptive_average_pool": adaptive(),
    "adaptive_max_pool": adaptive(),
    "conv": Spec(convolution, spread=True, tolerance=10, weight=3),
    "conv_transpose": Spec(
        transposed_convolution,
        spread=True,
        tolerance=10,
        weight=2,
    ),
    "depthwise_conv": Spec(depthwise, spread=True, tolerance=10),
    "separable_conv": Spec(
        lambda d: depthwise(d, True),
        spread=True,
        tolerance=20,
    ),
    "batch_normalization": normalised(4),
    # With a smaller epsilon, what is left of the differences is rounding.
    "layer_normalization": normalised(2, NO_DOUBLES, epsilon=1e-3),
    "rms_normalization": normalised(1, NO_DOUBLES),
    "binary_crossentropy": crossentropy("binary"),
    "categorical_crossentropy": crossentropy("categorical"),
    "sparse_categorical_crossentropy": crossentropy("sparse"),
    "dot_product_attention": Spec(
        attention, spread=True, tolerance=10, weight=2
    ),
    "ctc_loss": Spec(ctc, spread=True, tolerance=10),
    "ctc_decode": Spec(ctc_decoded, spread=True),
    "psnr": Spec(lambda d: (*same_pair(SINGLES)(d), 2.0), spread=True),
    "space_to_depth": blocks(False),
    "depth_to_space": blocks(True),
    "unfold": Spec(patches),
    # JAX's shape is another where the stride is larger than the kernel.
    "fold": Spec(folded, fold, spread=True),
    # Signals.
    "extract_sequences": Spec(framed),
    "fft": Spec(complexes((1, 2)), spread=True, tolerance=10),
    "fft2": Spec(complexes((2, 3)), spread=True, tolerance=10),
    "ifft2": Spec(complexes((2, 3)), spread=True, tolerance=10),
    "rfft": Spec(real_spectrum, spread=True, tolerance=10),
    "irfft": Spec(inverse_real_spectrum, spread=True, tolerance=10),
    "stft": Spec(spectra, spread=True, tolerance=10),
    "istft": Spec(inverse_spectra, spread=True, tolerance=10),
    "view_as_complex": Spec(
        lambda d: (d.array(LINALG, [*d.dims((0, 2)), 2], "small"),),
    ),
    "view_as_real": Spec(
        lambda d: (d.array(LINALG, (0, 2), "small").astype("complex64"),)
    ),
    # Linear algebra.
    "cholesky": Spec(definite, spread=True, tolerance=50),
    "cholesky_inverse": Spec(
        lambda d: (np.linalg.cholesky(definite(d)[0]),),
        # JAX broadcasts a batch of one away.
        lambda x: np.linalg.inv(x @ x.swapaxes(-1, -2)),
        spread=True,
        tolerance=200,
    ),
    "det": Spec(matrices(), np.linalg.det, spread=True, tolerance=100),
    "eig": Spec(
        matrices(dtypes=SINGLES),
        check=is_eigen,
        only_eager="vectors have no sign",
    ),
    "eigh": Spec(symmetric, check=is_eigen, only_eager="vectors have no sign"),
    "inv": Spec(matrices(well=True), np.linalg.inv, spread=True, tolerance=50),
    "logdet": Spec(definite, spread=True, tolerance=50),
    "lstsq": Spec(of_low_rank(least_squares), spread=True, tolerance=200),
    "lu_factor": Spec(
        matrices(well=True, values="small"), spread=True, tolerance=50
    ),
    "matrix_rank": Spec(
        of_low_rank(matrices("small", False)), np.linalg.matrix_rank
    ),
    "pinv": Spec(
        of_low_rank(matrices("small", False, well=True)),
        np.linalg.pinv,
        spread=True,
        tolerance=200,
    ),
    "qr": Spec(
        matrices("small", False), check=is_qr, only_eager="columns have no sign"
    ),
    "slogdet": Spec(definite, np.linalg.slogdet, spread=True, tolerance=50),
    "solve": solved(),
    "solve_triangular": solved(triangular=True),
    "svd": Spec(
        matrices("small", False),
        check=is_svd,
        only_eager="vectors have no sign",
    ),
    # Tensors, functions, control flow.
    "array": filled(like=True)._replace(
        arguments=lambda d: ((d.array(ALL),), {"dtype": d.choice(None, *ALL)}),
        numpy=converted,
    ),
    "cast": Spec(lambda d: (d.array(ALL), d.choice(*ALL)), converted, weight=4),
    "saturate_cast": Spec(saturated, weight=2),
    "convert_to_tensor": Spec(
        lambda d: ((d.array(ALL),), {"dtype": d.choice(None, *ALL)}), converted
    ),
    "convert_to_numpy": unary(only_eager=NAMES),
    "dtype": unary(only_eager=NAMES, call=lambda x: keras.ops.dtype(x)),
    "is_tensor": unary(only_eager=NAMES),
    "ndim": unary(np.ndim),
    "shape": unary(np.shape),
    "size": unary(np.size),
    "stop_gradient": unary(),
    "view": Spec(
        lambda d: (
            d.array(("float32", "int32")),
            d.choice("int32", "float32", "uint32"),
        ),
    ),
    "cond": Spec(same_pair(), call=branch),
    "switch": Spec(
        lambda d: (
            np.array(d.integer(0, 2), "int32"),
            d.array(SINGLES, (0, 2), "small"),
        ),
        call=switched,
    ),
    "while_loop": Spec(counted_steps, call=count_down),
    "fori_loop": Spec(
        lambda d: (*counted_steps(d), d.choice(None, 0, 1, 0.5)),
        call=for_loop,
    ),
    "scan": Spec(
        scanned,
        call=scan,
        spread=True,
        weight=2,
        refuses=is_another_length,
    ),
    "associative_scan": Spec(
        lambda d: (
            d.array(("float32", "int32"), (1, 2), "small", low=1),
            d.bool(),
        ),
        call=associative,
        spread=True,
    ),
    "map": Spec(
        lambda d: (d.array(("float32", "int32"), (1, 3), "small", low=1),),
        call=lambda xs: ops.map(lambda x: x * 2 + ops.sum(x), xs),
        spread=True,
    ),
    "vectorized_map": Spec(
        lambda d: (d.array(SINGLES, (1, 3), "small", low=1),),
        call=lambda xs: ops.vectorized_map(lambda x: x * 2 + ops.sum(x), xs),
        spread=True,
    ),
    "vectorize": Spec(
        lambda d: (d.array(SINGLES, (0, 2), "small"),),
        call=lambda x: ops.vectorize(lambda y: y * 2 + 1)(x),
    ),
    "custom_gradient": Spec(
        lambda d: (d.array(SINGLES, (0, 2), "small"),),
        call=lambda x: ops.custom_gradient(
            lambda y: (ops.sin(y), lambda *a, upstream: upstream)
        )(x),
    ),
    "jvp": Spec(
        same_pair(SINGLES), call=lambda x, y: ops.jvp(ops.sin, (x,), (y,))
    ),
    # Images.
    "image.affine_transform": Spec(transformed, spread=True, tolerance=20),
    "image.crop_images": Spec(cropped),
    "image.elastic_transform": Spec(
        lambda d: (
            lambda image: (
                (image[0],),
                {"data_format": image[1], "seed": d.integer(0, 99)},
            )
        )(images(d, SINGLES)),
        spread=True,
        tolerance=100,
    ),
    "image.extract_patches": Spec(extracted),
    "image.extract_patches_3d": Spec(extracted_3d),
    "image.gaussian_blur": Spec(blurred, spread=True, tolerance=4),
    "image.hsv_to_rgb": Spec(colours(), spread=True, tolerance=4),
    "image.map_coordinates": Spec(mapped, spread=True, tolerance=10),
    "image.pad_images": Spec(image_padded),
    "image.perspective_transform": Spec(
        perspectives, spread=True, tolerance=100
    ),
    "image.resize": Spec(resized, spread=True, tolerance=10, weight=2),
    "image.rgb_to_grayscale": Spec(colours(), spread=True),
    "image.rgb_to_hsv": Spec(colours(), spread=True, tolerance=4),
    "image.scale_and_translate": Spec(rescaled, spread=True, tolerance=10),
    "image.sobel_edges": Spec(edges, spread=True, tolerance=4),
    "image.ssim": Spec(similar, spread=True, tolerance=20),
    # Random numbers: the draws of Keras on JAX.
    # Of halves, the last bit decides whether a draw is rejected.
    "random.beta": drawn("beta", (0.5, 2.0), (0.5, 3.0), dtypes=("float32",)),
    "random.binomial": drawn("binomial", (5.0, 20.0), (0.2, 0.5)),
    "random.categorical": Spec(categories, call=of_random("categorical")),
    "random.dropout": Spec(dropped, call=of_random("dropout")),
    "random.gamma": drawn("gamma", (0.5, 2.0), dtypes=("float32",)),
    "random.normal": drawn("normal", (0.0, 1.0), (1.0, 2.0)),
    "random.randint": drawn(
        "randint", (0, -5), (3, 1000), dtypes=("int32", "uint8")
    ),
    "random.shuffle": Spec(shuffled, call=of_random("shuffle")),
    "random.truncated_normal": drawn("truncated_normal", (0.0, 1.0)),
    "random.uniform": drawn("uniform", (0.0, -1.0), (1.0, 3.0)),
}
