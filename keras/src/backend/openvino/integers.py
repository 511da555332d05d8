"""Integers of 32 bits as they are, where the CPU plugin takes them for float32.

A float32 holds 24 bits. In compiled models the plugin's comparisons, `Select`
where a comparison is fused into it, reductions, products of matrices and
pooling round larger integers to that, whatever the hints. Its `Add`,
`Subtract`, `Multiply`, `Maximum`, `CumSum`, `Gather` and bit operations do not,
and the mends here are made of these. Integers of 64 bits, which the plugin
narrows to 32, are right as far as they fit; those of 16, which it widens, are
wrapped around.
"""

import functools

import numpy as np

from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.dtypes import from_ov_name
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.graph import build
from keras.src.backend.openvino.graph import node
from keras.src.backend.openvino.graph import plain_cast
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of

_WIDE = ("int32", "int64", "uint32", "uint64")
_OF_16_BITS = ("int16", "uint16")
_NARROW = ("int8", "uint8", *_OF_16_BITS)


def _mend(formula, operand=0):
    """The `registry.Operation.mend` of a formula for wide integers.

    Args:
        formula: takes symbolic tensors and the attributes as keywords, and
            returns a tensor.
        operand: the index of an operand; where it is not of wide integers,
            OpenVINO's node is right.
    """

    @functools.wraps(formula)
    def mend(inputs, attributes):
        dtype = ov_to_keras_type(inputs[operand].get_element_type())
        if dtype not in _WIDE:
            return None
        tensors = map(OpenVINOKerasTensor, inputs)
        return formula(*tensors, **attributes).output.get_node()

    return mend


# ---------------------------------------------------- comparing and selecting


def _is_zero(x):
    # Rounded to float32, no integer but 0 is 0.
    return apply("Equal", cast(x, "float32"), convert_to_tensor(0.0))


def _is_not_zero(x):
    return apply("NotEqual", cast(x, "float32"), convert_to_tensor(0.0))


def _equal(x1, x2):
    return _is_zero(apply("BitwiseXor", x1, x2))


def _not_equal(x1, x2):
    return _is_not_zero(apply("BitwiseXor", x1, x2))


def _less(x1, x2):
    return _not_equal(apply("Maximum", x1, x2), x1)


def _less_equal(x1, x2):
    return _equal(apply("Maximum", x1, x2), x2)


def _select(condition, x1, x2):
    # All bits, or none; `Negative` refuses unsigned integers.
    mask = apply("Subtract", like(0, x1), cast(condition, x1.dtype))
    differing = apply("BitwiseAnd", apply("BitwiseXor", x1, x2), mask)
    return apply("BitwiseXor", x2, differing)


equal = _mend(_equal)
not_equal = _mend(_not_equal)
less = _mend(_less)
less_equal = _mend(_less_equal)
select = _mend(_select, operand=1)


def convert(inputs, attributes):
    """The mend of `Convert`.

    The plugin makes False of the smallest integer, saturates a float that it
    casts to 8 bits where a dim is open, and keeps what 16 bits do not hold.
    """
    target = from_ov_name(attributes["destination_type"])
    if target == "bool":
        return _to_bool(inputs, {})
    if target not in _NARROW:
        return None
    (x,) = inputs
    if target not in _OF_16_BITS and not x.get_element_type().is_real():
        return None
    return _wrapped(plain_cast(x, "int32"), target)


_to_bool = _mend(_is_not_zero)


# --------------------------------------------------- wrapping around in 16 bits


def wrapping(type):
    """The mend of an operation whose results may need more than 16 bits.

    The plugin computes them in 32, and only the outputs of a model wrap.
    """

    def mend(inputs, attributes):
        dtype = ov_to_keras_type(inputs[0].get_element_type())
        if dtype not in _OF_16_BITS:
            return None
        wide = [
            plain_cast(x, "int32")
            if ov_to_keras_type(x.get_element_type()) == dtype
            else x
            for x in inputs
        ]
        return _wrapped(build(type, wide, attributes).output(0), dtype)

    return mend


def _wrapped(output, dtype):
    """The low bits of an int32 `openvino.Output`, as a node of a dtype."""
    x = OpenVINOKerasTensor(output)
    if dtype == "uint16":
        x = apply("BitwiseAnd", x, like(0xFFFF, x))
    elif dtype == "int16":
        x = apply("BitwiseLeftShift", x, like(16, x))
        x = apply("BitwiseRightShift", x, like(16, x))
    return plain_cast(x.output, dtype).get_node()


# --------------------------------------------------------- bounds and padding


@_mend
def relu(x):
    return apply("Maximum", x, like(0, x))


@_mend
def minimum(x1, x2):
    # A Minimum and a Maximum of constants would become a Clamp, which rounds.
    both = apply("BitwiseXor", x1, x2)
    return apply("BitwiseXor", both, apply("Maximum", x1, x2))


def pad(inputs, attributes):
    """The mend of `Pad`, which rounds the constant that it pads with."""
    if len(inputs) < 4 or _is_constant_zero(inputs[3]):
        return None
    return _pad(inputs, attributes)


@_mend
def _pad(x, begin, end, value, pad_mode):
    padded = apply(
        "Pad", apply("BitwiseXor", x, value), begin, end, pad_mode=pad_mode
    )
    return apply("BitwiseXor", padded, value)


def _is_constant_zero(output):
    node = output.get_node()
    return node.get_type_name() == "Constant" and not np.any(node.data)


# ------------------------------------------------------- reducing and pooling


def _unfused(type, inputs, attributes):
    """A reduction that nothing is fused to.

    The plugin fuses an integer reduction with a following multiplication or
    addition of a constant, which is wrong for all results but the first.
    """
    x = OpenVINOKerasTensor(node(type, inputs, attributes).output(0))
    return apply("BitwiseOr", x, like(0, x)).output.get_node()


def reduce_prod(inputs, attributes):
    """The mend of `ReduceProd`."""
    if inputs[0].get_element_type().is_real():
        return None
    wrapped = _wrapping_product(inputs, attributes)
    return wrapped or _unfused("ReduceProd", inputs, attributes)


_wrapping_product = wrapping("ReduceProd")


def _extreme(type, neutral):
    """A maximum or minimum; `neutral` is one of 16 bits."""

    @_mend
    def of_wide(x, axes, keep_dims=False):
        def reduced(y):
            result = apply(type, cast(y, "float32"), axes, keep_dims=True)
            return cast(result, x.dtype)

        # 16 bits at a time: the low ones count where the high ones are best.
        high = apply("BitwiseRightShift", x, like(16, x))
        low = apply("BitwiseAnd", x, like(0xFFFF, x))
        best = reduced(high)
        low = apply("Select", _equal(high, best), low, like(neutral, x))
        result = apply("BitwiseLeftShift", best, like(16, x))
        result = apply("BitwiseOr", result, reduced(low))
        return result if keep_dims else apply("Squeeze", result, axes)

    def mend(inputs, attributes):
        dtype = ov_to_keras_type(inputs[0].get_element_type())
        if dtype in _OF_16_BITS:
            return _unfused(type, inputs, attributes)
        return of_wide(inputs, attributes)

    return mend


reduce_max = _extreme("ReduceMax", 0)
reduce_min = _extreme("ReduceMin", 0xFFFF)


@_mend
def reduce_sum(x, axes, keep_dims=False):
    result = x
    for axis in _values(axes):
        # With a 0 in front there is a sum of no elements too.
        before = [int(i == axis) for i in range(x.ndim)]
        after = (0,) * x.ndim
        result = apply("Pad", result, before, after, pad_mode="constant")
        result = apply("CumSum", result, axis)
        result = apply("Gather", result, (-1,), axis)
    return result if keep_dims else apply("Squeeze", result, axes)


def _values(constant):
    return np.ravel(constant.output.get_node().data).tolist()


@_mend
def max_pool(x, kernel, strides, auto_pad, **pads):
    for axis, window, stride in zip(range(2, x.ndim), kernel, strides):
        if auto_pad == "same_upper":
            x = _padded_for_pooling(x, axis, window, stride)
        count = (dims_of(x)[axis] - window) // stride + 1
        reach = (count - 1) * stride + 1
        taps = [
            apply("Slice", x, (tap,), [tap + reach], (stride,), (axis,))
            for tap in range(window)
        ]
        x = functools.reduce(functools.partial(apply, "Maximum"), taps)
    return x


def _padded_for_pooling(x, axis, window, stride):
    dim = dims_of(x)[axis]
    count = (dim + stride - 1) // stride
    missing = convert_to_tensor((count - 1) * stride + window - dim)
    missing = apply("Maximum", missing, like(0, missing))
    widths = [0] * x.ndim
    before, after = widths.copy(), widths
    before[axis] = missing // 2
    after[axis] = missing - before[axis]
    lowest = 0 if x.dtype.startswith("u") else np.iinfo(np.int32).min
    return apply("Pad", x, before, after, like(lowest, x), pad_mode="constant")


# ------------------------------------------------------- products of matrices


@_mend
def mat_mul(a, b, transpose_a=False, transpose_b=False):
    """A sum of products of digits in float32, each of which is exact."""
    axes = -1 - (transpose_a and a.ndim > 1), -2 + (transpose_b or b.ndim == 1)
    size = next((x.shape[i] for x, i in zip((a, b), axes) if x.shape[i]), None)
    bits = _bits(a, size), _bits(b, size)
    total = None
    for parts in _chunks((a, b), axes, size, 2 ** (24 - sum(bits))):
        lefts, rights = map(_digits, parts, bits)
        for left, place in lefts:
            for right, other_place in rights:
                if place + other_place >= 32:
                    continue
                product = apply(
                    "MatMul",
                    left,
                    right,
                    transpose_a=transpose_a,
                    transpose_b=transpose_b,
                )
                shift = like(place + other_place, a)
                term = apply("BitwiseLeftShift", cast(product, a.dtype), shift)
                total = term if total is None else apply("Add", total, term)
    return total


def _bits(x, size):
    """How many bits the digits of a factor may have."""
    if size is None:  # taken to be 2^16 at most
        return 4
    return 7 if fits_int8(x) else 8


def fits_int8(x):
    """Whether the integers of a symbolic tensor are known to be of 8 bits."""
    node = x.output.get_node()
    if node.get_type_name() == "Convert":
        return node.get_input_element_type(0) == OPENVINO_DTYPES["int8"]
    if node.get_type_name() != "Constant":
        return False
    return node.data.min(initial=0) >= -128 and node.data.max(initial=0) < 128


def _chunks(factors, axes, size, most):
    """Parts of the factors in which `most` products are added up."""
    if size is None or size <= most:
        yield factors
        return
    for start in range(0, size, most):
        yield [
            apply("Slice", x, (start,), (start + most,), (1,), (axis,))
            for x, axis in zip(factors, axes)
        ]


def _digits(x, bits):
    """Pairs of a digit of `x` in float32, the last one signed, and its place.

    With `bits` of 7, which no more than -128 to 127 need, `x` is its digit.
    """
    if bits == 7:
        return [(cast(x, "float32"), 0)]
    mask = like(2**bits - 1, x)
    places = range(0, 32, bits)
    digits = [apply("BitwiseRightShift", x, like(place, x)) for place in places]
    digits[:-1] = [apply("BitwiseAnd", digit, mask) for digit in digits[:-1]]
    return [(cast(d, "float32"), place) for d, place in zip(digits, places)]
