"""Products with weights of 8 or 4 bits, which compiled models keep so.

A quantised layer makes floats of its weights, `(numbers - zero) * scale`, and
multiplies with them. As a Constant these would take 4 or 8 times the memory,
and a product of few rows the time to read it. Here the pending graph that makes
the floats is taken apart: the model gets the numbers as they are stored, and
the arithmetic behind them as nodes, which the runtime does while it multiplies.
Weights that are made in another way, or that the CPU plugin would read wrong,
become floats as before.
"""

import functools
import math
import typing

import numpy as np
import openvino as ov

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import integers
from keras.src.backend.openvino import recording
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import pending
from keras.src.backend.openvino.tensor import value_of

_NUMBERS = ("int8", "uint8")
_FLOATS = ("float32", "bfloat16")

# The fewest rows that share one scale. The CPU plugin multiplies wrong with
# some groups of rows that are not powers of two, and with all below four.
_SMALLEST_GROUP = 16

# Sums of integers up to this are exact in float32, in any order.
_EXACT = 2**24


class _Weights(typing.NamedTuple):
    """Floats that are `(numbers - zero) * scales[0] * scales[1] * ...`.

    Attributes:
        numbers: a `numpy.ndarray` of int8 or uint8.
        zero: a `numpy.ndarray` of float32 that broadcasts with it, of as many
            dims.
        scales: a tuple of such.
        stored: the arrays of int8 or uint8 that the numbers were made of.
    """

    numbers: np.ndarray
    zero: np.ndarray
    scales: tuple
    stored: tuple


def product(x1, x2):
    """`matmul` of a symbolic tensor and weights of few bits.

    Args:
        x1: of at least one dim.
        x2: of the dtype of `x1`.

    Returns:
        A tensor of that dtype, or `None` where `x2` is something else, or
        where it is to be multiplied as floats.
    """
    if recording.state.recorders or not is_symbolic(x1) or is_symbolic(x2):
        return None
    if x2.ndim != 2 or 0 in x2.shape or x2._node is None:
        return None
    is_integer = x1.dtype == "int32" and integers.fits_int8(x1)
    if not is_integer and x1.dtype not in _FLOATS:
        return None
    weights = _taken_apart(graph.Source(x2._node, x2._index))
    if weights is None or is_integer and not _is_plain(weights):
        return None
    x = cast(_before_widening(x1) if is_integer else x1, "float32")
    y = _exact_product(x, weights) if is_integer else _product(x, weights)
    return None if y is None else cast(y, x1.dtype)


def rows(x, indices):
    """Rows of a matrix of int8 that was made of two numbers in each byte.

    Args:
        x: a tensor.
        indices: a symbolic tensor of integers; what is outside of `x` is for
            the caller.

    Returns:
        A tensor of int8, of which only the rows are unpacked, or `None` where
        `x` is something else.
    """
    if recording.state.recorders or not is_symbolic(indices) or is_symbolic(x):
        return None
    if x.dtype != "int8" or x.ndim != 2 or 0 in x.shape or x._node is None:
        return None
    weights = _taken_apart(graph.Source(x._node, x._index))
    if weights is None or weights.numbers.shape[1] % 2:
        return None
    if not _is_within(weights.numbers, -8, 8):
        return None
    array = _nibbles(weights.numbers)
    stored = next((a for a in weights.stored if _has_bytes(a, array)), None)
    if stored is None:
        return None
    pairs = stored.reshape(len(weights.numbers), -1).view("int8")
    pairs = cast(gather(concrete(pairs), indices, 0), "int32")
    # The sign of the lower half is in the middle of the byte.
    lower = apply("BitwiseLeftShift", pairs, like(28, pairs))
    halves = [
        apply("BitwiseRightShift", half, like(places, half))
        for half, places in ((lower, 28), (pairs, 4))
    ]
    halves = [apply("Unsqueeze", half, (-1,)) for half in halves]
    numbers = apply("Concat", *halves, axis=-1)
    dims = (0,) * indices.ndim + (x.shape[1],)  # a 0 keeps a dim
    numbers = apply("Reshape", numbers, dims, special_zero=True)
    return cast(numbers, "int8")


def _before_widening(x):
    """The int8 tensor that `x` was converted from, where it was."""
    node = x.output.get_node()
    if node.get_type_name() == "Convert":
        return OpenVINOKerasTensor(node.input_value(0))
    return x


# -------------------------------------------------- taking pending graphs apart


def _taken_apart(operand):
    """The `_Weights` of an input that a `graph.Node` keeps, or `None`."""
    if operand.__class__ is not graph.Source:
        return _plain(operand, (operand,))
    node, index = operand
    inputs = node.inputs  # another thread may take them away
    if node.values is not None:
        return _taken_apart(node.values[index])
    dtype = node.outputs[index].dtype
    if node.type in _MOVES:
        return _MOVES[node.type](node, *inputs)
    if dtype in _NUMBERS:
        stored = tuple(_arrays_below(node))
        return _plain(value_of(pending(node, index)), stored)
    if node.type == "Convert":
        return _convert(dtype, *inputs)
    if node.type in _ARITHMETIC and dtype in _FLOATS:
        return _ARITHMETIC[node.type](node, *inputs)
    return None


def _plain(array, stored):
    if array.dtype.name not in _NUMBERS:
        return None
    zero = np.zeros((1,) * array.ndim, "float32")
    return _Weights(array, zero, (), stored)


def _arrays_below(node):
    for each in graph.topological_order([node]):
        for operand in each.inputs:
            if operand.__class__ is np.ndarray and operand.dtype in _NUMBERS:
                yield operand


def _convert(dtype, x):
    if dtype not in ("int32", *_FLOATS):
        return None
    weights = _taken_apart(x)
    return weights if dtype in _FLOATS or _is_plain(weights) else None


def _is_plain(weights):
    """Whether weights are their numbers."""
    return weights and not weights.scales and not weights.zero.any()


def _transpose(node, x, order):
    weights = _taken_apart(x)
    return weights and _map(weights, lambda array: array.transpose(order))


def _reshape(node, x, _):
    weights = _taken_apart(x)
    if weights is None:
        return None
    before, after = weights.numbers.shape, node.outputs[0].shape

    def reshaped(array):
        if array.size == 1:
            return array.reshape((1,) * len(after))
        return np.broadcast_to(array, before).reshape(after)

    return _map(weights, reshaped)


def _map(weights, function):
    numbers, zero, scales, stored = weights
    scales = tuple(map(function, scales))
    return _Weights(function(numbers), function(zero), scales, stored)


def _subtract(node, x, zero):
    weights = _of_shape(node, x)
    if weights is None or weights.scales:
        return None
    zero = weights.zero + _floats(zero, weights.zero.ndim)
    return weights._replace(zero=zero)


def _multiply(node, x1, x2):
    return _scaled(node, x1, x2) or _scaled(node, x2, x1)


def _divide(node, x, scale):
    return _scaled(node, x, scale, invert=True)


def _scaled(node, x, scale, invert=False):
    weights = _of_shape(node, x)
    if weights is None:
        return None
    scale = _floats(scale, weights.zero.ndim)
    with np.errstate(all="ignore"):
        scale = 1 / scale if invert else scale
    return weights._replace(scales=(*weights.scales, scale))


def _of_shape(node, x):
    """The `_Weights` of an operand, if the result has their shape."""
    weights = _taken_apart(x)
    is_whole = weights and weights.numbers.shape == node.outputs[0].shape
    return weights if is_whole else None


def _floats(operand, rank):
    """The float32 values of an operand, with so many dims."""
    if operand.__class__ is graph.Source:
        operand = value_of(pending(*operand))
    array = operand.astype("float32", copy=False)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


_MOVES = {"Transpose": _transpose, "Reshape": _reshape}

_ARITHMETIC = {
    "Subtract": _subtract,
    "Multiply": _multiply,
    "Divide": _divide,
}


# -------------------------------------------------------------------- products


def _product(x, weights):
    """The product of floats, or `None` if scales are too mixed for it."""
    count = len(weights.numbers)
    scales = []
    for scale in weights.scales:
        if scale.shape == (count, 1) != (1, 1):  # one for each input
            x = apply("Multiply", x, concrete(scale[:, 0].copy()))
        else:
            scales.append(scale)
    scale = functools.reduce(
        np.multiply, scales or [np.ones((1, 1), "float32")]
    )
    zero = weights.zero
    group = math.gcd(count, _run(scale, count), _run(zero, count))
    if group < count:
        group &= -group  # the largest power of two in it
        if group < _SMALLEST_GROUP:
            return None
    scale, zero = (a[::group] if len(a) > 1 else a for a in (scale, zero))
    return _mat_mul(x, weights, scale, zero)


def _run(array, count):
    """How many rows there are of each kind, one behind the other."""
    if len(array) == 1:
        return count
    changes = np.flatnonzero((array[1:] != array[:-1]).any(axis=1)) + 1
    return math.gcd(*changes.tolist(), count)


def _exact_product(x, weights):
    """The product of integers from -128 to 127, in int32.

    In float32 it is exact where sums stay below 2^24, so that as many rows of
    the weights are multiplied at once as do. It is not where the runtime is
    told to compute in bfloat16: the CPU plugin has no product of integers.
    """
    numbers = weights.numbers
    total = None
    for start, stop in _exact_parts(numbers):
        is_whole = stop - start == len(numbers)
        part = x if is_whole else _slice(x, start, stop)
        rows = weights._replace(numbers=numbers[start:stop])
        one, none = np.ones((1, 1), "float32"), np.zeros((1, 1), "float32")
        term = cast(_mat_mul(part, rows, one, none), "int32")
        total = term if total is None else apply("Add", total, term)
    return total


def _exact_parts(numbers):
    """Bounds of rows whose products with int8 are exact when summed up."""
    start, total = 0, 0
    for step in range(0, len(numbers), 64):
        rows = numbers[step : step + 64]
        here = np.abs(rows, dtype="int16").sum(axis=0, dtype="int32")
        total = total + here
        if total.max() * 128 > _EXACT:
            yield start, step
            start, total = step, here
    yield start, len(numbers)


def _slice(x, start, stop):
    return apply("Slice", x, (start,), (stop,), (1,), (-1,))


def _mat_mul(x, weights, scale, zero):
    """`x @ ((numbers - zero) * scale)`, in float32.

    Args:
        x: a symbolic tensor of float32.
        weights: their `numbers` and where they are stored.
        scale, zero: `numpy.ndarray`s with a row for all, or for each of the
            groups of rows, and a column for all, or for each.
    """
    rows, columns = weights.numbers.shape
    groups = max(len(scale), len(zero))
    dims = [groups, rows // groups] if groups > 1 else [rows]
    # The CPU plugin keeps one order of the numbers in one place, so that where
    # both look alike they are never taken for those of the transposed matrix.
    is_ambiguous = [*dims, columns] == [columns, *dims]
    ways = (False,) if is_ambiguous else (False, True)
    array, type, transposed = _as_stored(weights, ways)
    dims = [columns, *dims] if transposed else [*dims, columns]

    def for_columns(values):
        values = np.broadcast_to(values, (groups, columns))
        values = values[:, None] if groups > 1 else values
        values = np.moveaxis(values, -1, 0) if transposed else values
        return np.array(values, order="C")

    w = _in_floats(_constant(array, type, dims))
    if zero.any():
        zero = _zero_constant(for_columns(zero))
        w = graph.node("Subtract", [w, zero], {}).output(0)
    scale = graph.constant(for_columns(scale))
    w = graph.node("Multiply", [w, scale], {}).output(0)
    if groups > 1:
        dims = [columns, rows] if transposed else [rows, columns]
        w = rewriting.reshaped(w, dims)
    w = OpenVINOKerasTensor(w)
    return apply("MatMul", x, w, transpose_a=False, transpose_b=transposed)


def _in_floats(output):
    attributes = {"destination_type": "f32"}
    return graph.node("Convert", [output], attributes).output(0)


def _zero_constant(zero):
    for dtype in _NUMBERS:
        small = zero.astype(dtype)
        if (small == zero).all():
            return _in_floats(graph.constant(small))
    return graph.constant(zero)


# ---------------------------------------------------------- numbers as they are


def _as_stored(weights, ways):
    """How a Constant is to hold the numbers of weights.

    Args:
        weights: the `_Weights`.
        ways: which of False and True the last result may be.

    Returns:
        `(array, type, transposed)`: a `numpy.ndarray` with the bytes of the
        numbers of an `openvino.Type`, and whether they are those of the
        transposed matrix. Where these bytes are stored, it is that array.
    """
    numbers = weights.numbers
    type = _type_of(numbers)
    for transposed in ways:
        array = numbers.T if transposed else numbers
        if type.bitwidth == 8 and _is_in_order(array):
            return array, type, transposed
        if type.bitwidth == 4:
            array = _nibbles(array)
            for stored in weights.stored:
                if _has_bytes(stored, array):
                    return stored, type, transposed
    array = np.ascontiguousarray(numbers)
    return array if type.bitwidth == 8 else _nibbles(array), type, False


def _type_of(numbers):
    # With an odd number of rows, the plugin reads the wrong half of a byte.
    if len(numbers) % 2 == 0 and _is_within(numbers, -8, 8):
        return ov.Type.i4
    if len(numbers) % 2 == 0 and _is_within(numbers, 0, 16):
        return ov.Type.u4
    return OPENVINO_DTYPES[numbers.dtype.name]


def _is_within(numbers, start, end):
    return start <= numbers.min() and numbers.max() < end


def _nibbles(numbers):
    """The bytes of numbers of 4 bits, of two each, the low half first."""
    flat = np.ravel(numbers).view("uint8")
    packed = flat[::2] & 15
    packed[: flat.size // 2] |= flat[1::2] << 4
    return packed


def _is_in_order(array):
    return array.flags.c_contiguous and array.flags.aligned


def _has_bytes(stored, array):
    return (
        stored.nbytes == array.nbytes
        and _is_in_order(stored)
        and np.array_equal(stored.reshape(-1).view("uint8"), array)
    )


def _constant(array, type, dims):
    """The `openvino.Output` of a Constant of numbers that are stored so."""
    if type.bitwidth == 8:
        return graph.constant(array.reshape(dims))
    tensor = ov.Tensor(array, ov.Shape(dims), type)
    return graph.constant_of_tensor(tensor, array)
