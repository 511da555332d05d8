"""Python's operators on tensors, as the ops of the same meaning."""

import numbers

import numpy as np
import openvino as ov

from keras.src.backend.common import KerasVariable
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor

# The name between Python's underscores, and the op.
_UNARY = {
    "abs": "absolute",
    "invert": "bitwise_not",
    "neg": "negative",
}

_BINARY = {
    "add": "add",
    "and": "bitwise_and",
    "floordiv": "floor_divide",
    "lshift": "left_shift",
    "matmul": "matmul",
    "mod": "mod",
    "mul": "multiply",
    "or": "bitwise_or",
    "pow": "power",
    "rshift": "right_shift",
    "sub": "subtract",
    "truediv": "divide",
    "xor": "bitwise_xor",
}

# Python swaps these by itself.
_COMPARISONS = {
    "eq": "equal",
    "ge": "greater_equal",
    "gt": "greater",
    "le": "less_equal",
    "lt": "less",
    "ne": "not_equal",
}


def _takes(other):
    """Whether an operand is one that an op can make a tensor of.

    Python asks the operator of any other, which a `KerasTensor` has.
    """
    if isinstance(other, _OPERANDS):
        return True
    return hasattr(other, "__array__") and not isinstance(other, KerasTensor)


_OPERANDS = (
    OpenVINOKerasTensor,
    KerasVariable,
    numbers.Number,
    np.ndarray,
    list,
    tuple,
    range,
    ov.Output,
    ov.Tensor,
)


def _operator(op):
    def method(self, other):
        return op(self, other) if _takes(other) else NotImplemented

    return method


def _reflected(op):
    def method(self, other):
        return op(other, self) if _takes(other) else NotImplemented

    return method


def _round(self, decimals=None):
    return numpy.round(self, decimals or 0)


def _divmod(x1, x2):
    return numpy.floor_divide(x1, x2), numpy.mod(x1, x2)


def _install():
    OpenVINOKerasTensor.__pos__ = lambda self: self
    OpenVINOKerasTensor.__round__ = _round
    OpenVINOKerasTensor.__divmod__ = _operator(_divmod)
    OpenVINOKerasTensor.__rdivmod__ = _reflected(_divmod)
    for name, op in _UNARY.items():
        setattr(OpenVINOKerasTensor, f"__{name}__", getattr(numpy, op))
    for name, op in {**_BINARY, **_COMPARISONS}.items():
        function = getattr(numpy, op)
        setattr(OpenVINOKerasTensor, f"__{name}__", _operator(function))
        if name in _BINARY:
            setattr(OpenVINOKerasTensor, f"__r{name}__", _reflected(function))


_install()
