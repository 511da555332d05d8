"""Operations that OpenVINO has no node for, computed by NumPy.

In an eager graph they are a kernel like any other; in a compiled model they
are Python operations that the CPU plugin calls back.
"""

import collections
import weakref

import numpy as np
import openvino as ov

from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.dtypes import PART_DTYPES
from keras.src.backend.openvino.dtypes import complex_of
from keras.src.backend.openvino.dtypes import from_pairs
from keras.src.backend.openvino.dtypes import is_complex
from keras.src.backend.openvino.dtypes import ov_to_keras_type
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.dtypes import to_pairs
from keras.src.backend.openvino.registry import Spec
from keras.src.backend.openvino.registry import find


class Operations:
    """Keeps the operations of a graph, and their copies in compiled models.

    The runtime calls the Python object of an operation, and does not keep it
    alive. If the object passed itself to `super().__init__`, it would never be
    freed, nor the weights that lead to it. Here they live as long as this
    object, which the compiled model holds. So do the arrays of those Constants
    that do not keep them alive themselves.
    """

    # More than the threads that infer at once.
    MAX_COPIES = 256

    def __init__(self):
        self._kept = []
        self._compiled = []
        self._arrays = []

    def is_empty(self):
        """Whether there are no operations; arrays are none."""
        return not (self._kept or self._compiled)

    def add(self, operation):
        """Keeps an `Operation`."""
        self._kept.append(operation)

    def add_array(self, array):
        """Keeps the `numpy.ndarray` that a Constant shares."""
        self._arrays.append(array)

    def seal(self):
        """Says that the model is compiled.

        From now on the runtime makes copies to infer shapes, drops each when
        it has one, and makes the next for the next batch.
        """
        self._compiled = self._kept
        self._kept = collections.deque(maxlen=self.MAX_COPIES)


class Operation(ov.Op):
    """The node of a registered operation in an OpenVINO graph.

    Args:
        inputs: a list of `openvino.Output`.
        name: the name of the operation, as it is registered.
        attributes: a dict of its attributes.
        complex_inputs: the places of the inputs that are pairs and stand for
            complex numbers.
        keeper: the `Operations` to keep it; without, it lives for ever.
    """

    def __init__(self, inputs, name, attributes, complex_inputs, keeper=None):
        super().__init__(self if keeper is None else None)
        self._keeper = weakref.ref(keeper) if keeper else None
        self.operation = name  # `name` is OpenVINO's own
        self.attributes = attributes
        self.complex_inputs = complex_inputs
        self.set_arguments(inputs)
        self.constructor_validate_and_infer_types()
        if keeper is not None:
            keeper.add(self)

    def validate_and_infer_types(self):
        rule = find(self.operation).rule
        specs = [_spec(self, i) for i in range(self.get_input_size())]
        outputs = rule(*specs, **self.attributes)
        self.dtypes = [dtype for dtype, _ in outputs]
        for index, (dtype, shape) in enumerate(outputs):
            dims = [-1 if dim is None else dim for dim in shape]
            if is_complex(dtype):
                dtype = PART_DTYPES[dtype]
                dims.append(2)
            self.set_output_type(
                index, OPENVINO_DTYPES[dtype], ov.PartialShape(dims)
            )

    def clone_with_new_inputs(self, inputs):
        keeper = self._keeper and self._keeper()
        return Operation(
            inputs,
            self.operation,
            self.attributes,
            self.complex_inputs,
            keeper,
        )

    def has_evaluate(self):
        return True

    def evaluate(self, outputs, inputs):
        try:
            self._compute(outputs, inputs)
        except Exception as error:
            raise ValueError(f"{self.operation} fails: {error}") from error
        return True

    def _compute(self, outputs, inputs):
        kernel = find(self.operation).kernel
        arrays = [
            from_pairs(array) if index in self.complex_inputs else array
            for index, array in enumerate(map(to_array, inputs))
        ]
        with np.errstate(all="ignore"):
            results = kernel(*arrays, **self.attributes)
            if not isinstance(results, tuple):
                results = (results,)
            for tensor, dtype, result in zip(outputs, self.dtypes, results):
                if is_complex(dtype):
                    result = to_pairs(result.astype(dtype))
                tensor.shape = result.shape
                to_array(tensor)[...] = result


def _spec(node, index):
    shape = node.get_input_partial_shape(index)
    dims = [None if dim.is_dynamic else dim.get_length() for dim in shape]
    dtype = ov_to_keras_type(node.get_input_element_type(index))
    if index in node.complex_inputs:
        return Spec(complex_of(dtype), tuple(dims[:-1]))
    return Spec(dtype, tuple(dims))
