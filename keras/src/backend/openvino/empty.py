"""Arrays of no elements in graphs, where the CPU plugin fails.

`graph.build` computes what depends on such arrays alone.
"""

from keras.src.backend.openvino import integers
from keras.src.backend.openvino.graph import build
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply


def mat_mul(inputs, attributes):
    """The mend of `MatMul`, which leaves a sum of no products as memory was.

    It does so where one matrix is constant; with a row and a column of zeros
    there is a product.
    """
    axes = _summed_axes(inputs, **attributes)
    if not any(_has_size_0(x, i) for x, i in zip(inputs, axes)):
        return integers.mat_mul(inputs, attributes)
    inputs = [_extended(x, i) for x, i in zip(inputs, axes)]
    return build("MatMul", inputs, attributes)


def _summed_axes(inputs, transpose_a=False, transpose_b=False):
    a, b = (len(x.partial_shape) for x in inputs)
    return (
        -2 if transpose_a and a > 1 else -1,
        -1 if transpose_b or b == 1 else -2,
    )


def _has_size_0(output, axis):
    dim = output.partial_shape[axis]
    return dim.is_static and dim.get_length() == 0


def _extended(output, axis):
    x = OpenVINOKerasTensor(output)
    after = [0] * x.ndim
    after[axis] = 1
    before = (0,) * x.ndim
    return apply("Pad", x, before, after, pad_mode="constant").output
