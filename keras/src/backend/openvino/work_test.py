"""The work that is counted, against the multiply-adds of the definitions."""

import numpy as np
import pytest

from keras.src.backend.openvino import nn
from keras.src.backend.openvino.graph import topological_order
from keras.src.backend.openvino.registry import find
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor


def ones(*shape):
    return convert_to_tensor(np.ones(shape, "float32"))


def count(node):
    return find(node.type).work(node)


def sum_of_products(tensor):
    """Of arrays of ones the sum of a result is its number of products."""
    return float(np.sum(tensor))


# Of each node type: the shapes of its inputs, and its strides.
CASES = {
    "Convolution": ((2, 3, 9, 8), (5, 3, 3, 2), (1, 2)),
    "GroupConvolution": ((2, 6, 9, 8), (3, 4, 2, 3, 2), (1, 1)),
    "ConvolutionBackpropData": ((2, 3, 4, 5), (3, 6, 3, 2), (2, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_convolutions_take_their_products(name):
    shape, weights, strides = CASES[name]
    result = apply(
        name,
        ones(*shape),
        ones(*weights),
        strides=strides,
        pads_begin=(0, 0),
        pads_end=(0, 0),
        dilations=(1, 1),
    )
    work = count(result._node)
    products = sum_of_products(result)
    # What a window takes is counted beside.
    assert products <= work <= 64 * products


def test_attention_takes_two_products():
    query, key, value = (ones(2, n, 3, d) for n, d in ((5, 8), (7, 8), (7, 8)))
    result = nn.dot_product_attention(query, key, value)
    (attention,) = (
        node
        for node in topological_order([result._node])
        if node.type == "ScaledDotProductAttention"
    )
    assert count(attention) == 2 * 3 * 5 * 7 * (8 + 8)


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_work_grows_with_the_size(size):
    small, large = (
        count(apply("Gelu", ones(n), approximation_mode="erf")._node)
        for n in (size, 2 * size)
    )
    assert large == 2 * small
