"""Inputs and outputs of 64 bits of compiled models, which compute in 32.

The CPU plugin makes of each number the nearest that it has: of infinity the
largest float32, of 2**40 the largest int32. Here floats are rounded as NumPy
rounds them, and integers that do not fit are refused.
"""

import numpy as np
import openvino as ov

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.dtypes import ov_to_keras_type

_NARROW = {"float64": "float32", "int64": "int32", "uint64": "int32"}


def narrow_parameter(parameter):
    """A 32-bit Parameter and a Convert in place of a 64-bit one with consumers.

    Other Parameters are returned unchanged.
    """
    dtype = ov_to_keras_type(parameter.get_element_type())
    targets = parameter.output(0).get_target_inputs()
    types = {target.get_node().get_type_name() for target in targets}
    if dtype not in _NARROW or types <= {"Result"}:
        return parameter
    kind = OPENVINO_DTYPES[_NARROW[dtype]]
    narrow = ov.op.Parameter(kind, parameter.get_partial_shape())
    rewriting.rewire(parameter, graph.plain_cast(narrow.output(0), dtype))
    return narrow


def narrow_output(output):
    """An `openvino.Output` of float32 for one of float64."""
    is_wide = output.get_element_type() == ov.Type.f64
    return graph.plain_cast(output, "float32") if is_wide else output


def narrowed(array):
    """A `numpy.ndarray` of 32 bits with the numbers of one of 64.

    Raises:
        graph.TooLarge: for an integer that 32 bits do not hold.
    """
    dtype = array.dtype.name
    if dtype != "float64":
        graph.refuse_to_narrow(array, "input")
    with np.errstate(over="ignore"):
        return array.astype(_NARROW[dtype])
