"""Keras dtype names, OpenVINO types, NumPy dtypes, and values across them."""

import functools

import ml_dtypes
import numpy as np
import openvino as ov
from openvino import Type

from keras.src.backend.common import dtypes as keras_dtypes
from keras.src.backend.common import standardize_dtype
from keras.src.backend.config import floatx

OPENVINO_DTYPES = {
    "bool": Type.boolean,
    "uint8": Type.u8,
    "uint16": Type.u16,
    "uint32": Type.u32,
    "uint64": Type.u64,
    "int8": Type.i8,
    "int16": Type.i16,
    "int32": Type.i32,
    "int64": Type.i64,
    "float16": Type.f16,
    "bfloat16": Type.bf16,
    "float32": Type.f32,
    "float64": Type.f64,
    "float8_e4m3fn": Type.f8e4m3,
    "float8_e5m2": Type.f8e5m2,
    "string": Type.string,
}

_NAMES_OF_OPENVINO = {
    ov_type.to_string(): name for name, ov_type in OPENVINO_DTYPES.items()
}
_KERAS_NAMES = {ov_type: name for name, ov_type in OPENVINO_DTYPES.items()}

# Complex dtypes, which OpenVINO lacks, and the dtype of their parts: in
# its graphs a complex tensor is one of pairs in a last dim of two.
PART_DTYPES = {"complex64": "float32", "complex128": "float64"}
_COMPLEX_NAMES = {part: name for name, part in PART_DTYPES.items()}

NUMPY_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in (*OPENVINO_DTYPES, *PART_DTYPES)
    if name != "string"
}

NUMPY_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items()}

# What `openvino.Tensor` cannot take from NumPy by itself, and the integer
# that carries the same bits across.
BIT_CARRIERS = {
    "bfloat16": np.dtype("uint16"),
    "float8_e4m3fn": np.dtype("uint8"),
    "float8_e5m2": np.dtype("uint8"),
}

FLOAT_DTYPES = frozenset(
    ("float16", "bfloat16", "float32", "float64")
    + ("float8_e4m3fn", "float8_e5m2")
)
# Floats that are computed in float32, and rounded.
HALVES = ("float16", "bfloat16")
INTEGER_DTYPES = frozenset(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
)


def ov_to_keras_type(ov_type):
    """The Keras dtype name of an `openvino.Type`.

    Raises:
        ValueError: for a type that Keras has no name for.
    """
    try:
        return _KERAS_NAMES[ov_type]
    except KeyError:
        raise ValueError(
            f"OpenVINO type {ov_type} has no Keras dtype; those that have are "
            f"{sorted(OPENVINO_DTYPES)}."
        ) from None


def ov_name(dtype):
    """OpenVINO's name of a Keras dtype, as node attributes spell it.

    A complex dtype keeps its own: what reads it is a rule in `complex`.
    """
    if dtype in PART_DTYPES:
        return dtype
    try:
        return OPENVINO_DTYPES[dtype].to_string()
    except KeyError:
        raise TypeError(
            f"OpenVINO has no dtype {dtype}; it has {sorted(OPENVINO_DTYPES)}."
        ) from None


def from_ov_name(name):
    """The Keras dtype that a node attribute such as `"f32"` names."""
    return name if name in PART_DTYPES else _NAMES_OF_OPENVINO[name]


def numpy_dtype(dtype):
    """The `numpy.dtype` of a Keras dtype name (ml_dtypes included)."""
    try:
        return NUMPY_DTYPES[dtype]
    except KeyError:
        raise TypeError(
            f"OpenVINO tensors cannot hold dtype {dtype}; they hold "
            f"{sorted(NUMPY_DTYPES)}."
        ) from None


def dtype_name(dtype):
    """The Keras name of a `numpy.dtype`."""
    return NUMPY_NAMES.get(dtype) or dtype.name


def result_type(*dtypes):
    """Keras's promotion of `dtypes`, with 64-bit operands kept at 64 bits.

    `keras.src.backend.common.dtypes.result_type` narrows every 64-bit result
    to 32 bits, as JAX does by default. Here a 64-bit result that an operand
    asked for is kept, so that `int64`, `uint64` and `float64` are exact.

    Args:
        *dtypes: Keras dtype names, or the Python types `int` and `float`,
            which take part as weak types, and `complex`.

    Returns:
        A Keras dtype name.
    """
    return _result_type(floatx(), *dtypes)


@functools.lru_cache(maxsize=4096)
def _result_type(floatx_name, *dtypes):
    narrow = keras_dtypes.result_type(*dtypes)
    if not any(d in _WIDE_DTYPES for d in dtypes):
        return narrow
    nodes = {
        keras_dtypes._respect_weak_type(*keras_dtypes._dtype_and_weaktype(d))
        for d in dtypes
    }
    wide = keras_dtypes._least_upper_bound(*nodes)
    return wide if wide in NUMPY_DTYPES else narrow


_WIDE_DTYPES = ("int64", "uint64", "float64", "complex128")


def is_complex(dtype):
    return dtype in PART_DTYPES


def is_inexact(dtype):
    """Whether a dtype is a float's or complex, as NumPy's `inexact`."""
    return dtype in FLOAT_DTYPES or dtype in PART_DTYPES


def complex_of(dtype):
    """The complex dtype whose parts have the float dtype `dtype`."""
    return _COMPLEX_NAMES[dtype]


def part_dtype(dtype):
    """The dtype of the parts of a complex dtype, else the dtype itself."""
    return PART_DTYPES.get(dtype, dtype)


def is_float(dtype):
    return dtype in FLOAT_DTYPES


def is_integer(dtype):
    return dtype in INTEGER_DTYPES


@functools.lru_cache(maxsize=256)
def _standardize(dtype, floatx_name):
    return standardize_dtype(dtype)


def standardize(dtype):
    """`standardize_dtype`, remembered; `None` means `floatx`."""
    try:
        return _standardize(dtype, floatx())
    except TypeError:  # an unhashable dtype, such as a structured one
        return standardize_dtype(dtype)


def real_part_for(array, dtype):
    """`array`, or its real part where `dtype` is real, as casts take it."""
    is_cut = array.dtype.kind == "c" and dtype.kind not in "cb"
    return array.real if is_cut else array


def own_array(x, dtype=None):
    """A `numpy.ndarray` of its own with the values of an array.

    Whatever `x` is (a view, swapped in byte order, read-only, a subclass, the
    memory of another library), nobody else writes into the result, and the
    runtime can take it as it is: native, contiguous, aligned and writeable.

    Args:
        x: an array.
        dtype: a Keras dtype; by default that of `x`.
    """
    dtype = numpy_dtype(dtype or x.dtype.name)
    with np.errstate(all="ignore"):
        return np.array(real_part_for(x, dtype), dtype=dtype, order="C")


def for_runtime(array):
    """`array` itself where the runtime can take its memory, or a copy."""
    return array if array.flags.carray else own_array(array)


def without_base(array):
    """`array`, or a copy where it keeps more than twice its own size alive."""
    base = array.base
    if base is None or getattr(base, "nbytes", 0) <= 2 * array.nbytes:
        return array
    return own_array(array)


def to_pairs(array):
    """A complex `numpy.ndarray` as one of floats with a last dim of two."""
    array = np.asarray(array, order="C")
    return array[..., None].view(array.real.dtype)


def from_pairs(array):
    """The complex `numpy.ndarray` of one of floats with a last dim of two."""
    array = np.asarray(array, order="C")
    return array.view(numpy_dtype(complex_of(array.dtype.name)))[..., 0]


def to_ov_tensor(array):
    """An `openvino.Tensor` on the memory of a `numpy.ndarray`."""
    if array.dtype.kind == "c":
        array = to_pairs(array)
    array = for_runtime(array)
    name = array.dtype.name
    if name in BIT_CARRIERS:
        carrier = array.view(BIT_CARRIERS[name])
        return ov.Tensor(carrier, ov.Shape(array.shape), OPENVINO_DTYPES[name])
    return ov.Tensor(array, shared_memory=True)


def to_array(tensor):
    """The `numpy.ndarray` on the memory of an `openvino.Tensor`."""
    name = ov_to_keras_type(tensor.element_type)
    data = tensor.data
    return data.view(numpy_dtype(name)) if name in BIT_CARRIERS else data
