"""Casts to float16, bfloat16 and float8 in graphs, rounded as NumPy rounds.

The CPU plugin computes float16 in float32, whatever the casts, so that a value
that is cast to float16 and back keeps all its bits. It truncates half of the
numbers that it casts to bfloat16 where a dim is open, and rounds twice on the
way to float8. Here numbers are rounded in float32 before a cast, which then
has nothing left to round, and those of float16 also when they are cast to
another dtype.

So a float16 that was computed is rounded only when it is cast, used by a
float32 operation, or returned.

What normalises the output of a bfloat16 convolution stays in bfloat16: the
runtime then computes it with the convolution, in float32 up to the last step.
"""

import typing

import numpy as np
import openvino as ov

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import integers
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.dtypes import from_ov_name
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.graph import plain_cast
from keras.src.backend.openvino.registry import MOVED
from keras.src.backend.openvino.registry import find
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor


class Format(typing.NamedTuple):
    """A floating-point format.

    Attributes:
        bits: how many bits a number has, the leading one included.
        lowest: the exponent of the smallest number that has them all.
        largest: the largest number.
        beyond: what larger numbers become.
    """

    bits: int
    lowest: int
    largest: float
    beyond: float


FORMATS = {
    "float16": Format(11, -14, 65504, np.inf),
    "float8_e4m3fn": Format(4, -6, 448, np.nan),
    "float8_e5m2": Format(3, -14, 57344, np.inf),
    # Its exponents are those of float32.
    "bfloat16": Format(8, -126, np.inf, np.inf),
}

# Dtypes with no number that a format of 8 bits or more would round.
_SMALL = ("bool", "int8", "uint8")


def convert(inputs, attributes):
    """The mend of `Convert`."""
    (x,) = inputs
    source = ov_to_keras_type(x.element_type)
    target = from_ov_name(attributes["destination_type"])
    if target not in FORMATS and not is_float(target):
        return integers.convert(inputs, attributes)
    unrounded = source == "float16" and not _holds(x, source)
    rounds = target in FORMATS and not _holds(x, target)
    if not (unrounded or rounds):
        return None
    normalized = _normalized(x) if target == "bfloat16" else None
    if normalized is not None:
        return normalized
    wide = plain_cast(x, "float32")
    is_narrow = _is_narrow(x)
    if is_narrow:
        wide = rewriting.reshaped(wide, [-1])
    result = OpenVINOKerasTensor(wide)
    if unrounded:
        result = rounded(result, source)
    if rounds:
        result = rounded(result, target)
    result = plain_cast(result.output, target)
    if is_narrow:
        result = rewriting.reshaped_like(result, x)
    return result.get_node()


def _is_narrow(x):
    """Whether arithmetic on an input is ten times as slow as it could be.

    The CPU plugin vectorises along the last dim; pictures have 3 channels
    there. Elsewhere a reshape would keep transposes from moving.
    """
    if x.get_node().get_type_name() != "Parameter":
        return False
    dims = list(x.partial_shape)
    return len(dims) > 1 and dims[-1].is_static and dims[-1].get_length() < 16


def _holds(x, dtype):
    """Whether the values of an `openvino.Output` are known to be of a dtype."""
    own = ov_to_keras_type(x.element_type)
    if own in _SMALL:
        return FORMATS[dtype].bits >= 8
    node = x.get_node()
    type = node.get_type_name()
    if type in ("Parameter", "Constant", "Convert") or own != "float16":
        if own == dtype:
            return True
    if type == "Convert":
        return _holds(node.input_value(0), dtype)
    return find(type).halves == MOVED and all(
        _holds(source, dtype)
        for source in node.input_values()
        if is_float(ov_to_keras_type(source.element_type))
    )


def _normalized(x):
    """The bfloat16 node of a product or convolution, scaled and shifted.

    The scale and the shift are Constants, rounded to bfloat16, which moves the
    result as much as rounding the product would, as it is not.

    Args:
        x: the `openvino.Output` in float32 that is cast to bfloat16.

    Returns:
        An `openvino.Node`, or `None` where `x` is nothing of the kind.
    """
    scaled, shift = _with_constant(x, "Add")
    wide, scale = _with_constant(scaled, "Multiply")
    if shift is None or scale is None or not _is_cast(wide):
        return None
    product = wide.get_node().input_value(0)
    axis = _axis_of_filters(product)
    if axis is None or product.element_type != ov.Type.bf16:
        return None
    if not (
        _is_along(axis, product, scale) and _is_along(axis, product, shift)
    ):
        return None
    # It changes nothing. Without it the runtime multiplies the weights with
    # the scale, which rounds them a second time, and not to nearest.
    slope = graph.constant(np.ones((), scale.dtype))
    same = graph.node("PRelu", [product, slope], {}).output(0)
    scaled = graph.node("Multiply", [same, graph.constant(scale)], {}).output(0)
    return graph.node("Add", [scaled, graph.constant(shift)], {})


def _is_cast(x):
    return x.get_node().get_type_name() == "Convert"


def _with_constant(x, type):
    """The operands of a node of a type whose second is a Constant.

    Returns:
        An `openvino.Output` and an array of bfloat16; `x` and `None` where it
        is no such node.
    """
    node = x.get_node()
    if node.get_type_name() == type:
        first, second = node.input_values()
        if second.get_node().get_type_name() == "Constant":
            array = to_array(second.get_node().get_tensor_view())
            return first, array.astype(numpy_dtype("bfloat16"))
    return x, None


def _axis_of_filters(x):
    """The axis of the filters of a convolution, or of the units of a product.

    They may have a bias. `None` where `x` is neither's output.
    """
    node = x.get_node()
    type = node.get_type_name()
    if type in ("Convolution", "GroupConvolution"):
        return 1
    if type == "MatMul":
        return len(x.partial_shape) - 1
    if type == "Add" and _with_constant(x, type)[1] is not None:
        return _axis_of_filters(node.input_value(0))
    if type == "Transpose":
        inner = _axis_of_filters(node.input_value(0))
        order = rewriting.integers(node.input_value(1))
        return order.index(inner) if order and inner is not None else None
    return None


def _is_along(axis, x, array):
    """Whether an array has a number for each place along an axis of `x`."""
    dims = list(x.partial_shape)
    placed = [1] * (len(dims) - array.ndim) + list(array.shape)
    expected = [dim if i == axis else 1 for i, dim in enumerate(dims)]
    return placed == expected


def rounded(x, dtype):
    """The numbers of a dtype next to those of `x`, in float32.

    Args:
        x: a symbolic float32 tensor.
        dtype: a key of `FORMATS`.
    """
    bits, lowest, largest, beyond = FORMATS[dtype]
    result = _to_bits(x, bits)
    if dtype == "bfloat16":
        return result
    step = 2.0 ** (lowest - bits + 1)
    small = apply("Round", x * (1 / step), mode="half_to_even") * step
    is_small = apply("Less", apply("Abs", x), _number(2.0**lowest))
    result = apply("Select", is_small, small, result)
    is_large = apply("Greater", apply("Abs", result), _number(largest))
    return apply("Select", is_large, result * beyond, result)


def _to_bits(x, bits):
    """`x` rounded to nearest, ties to even, to so many bits.

    `x * (1 - 2**-n)` has as many bits as `x` has, of 24, so that its distance
    from `x`, times `2**n`, is a number of `24 - n` bits next to `x`.
    """
    n = 24 - bits
    largest = float(np.finfo(np.float32).max)
    # The bounds make infinity, less the other number, infinity. No sum of
    # products here can be fused into one that rounds once.
    lower = apply("Clamp", x * (2.0**-n - 1), min=-largest, max=largest)
    return (x + lower) * 2.0**n


def _number(value):
    return convert_to_tensor(value, "float32")
