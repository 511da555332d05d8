import numpy as np
import pytest

from keras.src.backend.openvino import registry
from keras.src.backend.openvino.composite import composite
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import check
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import trace

X = np.array([[-1.5, 0.0, np.nan], [np.inf, 2.0, -0.0]], "float32")


@pytest.fixture
def scaled(monkeypatch):
    """A composite with an attribute."""
    monkeypatch.setattr(registry, "OPERATIONS", dict(registry.OPERATIONS))

    @composite("ScaledForTests", lambda x, factor: x * np.float32(factor))
    def scaled(x, factor):
        return x * factor

    return scaled


@pytest.mark.parametrize("array", [X, X[:0], np.float32(3)])
def test_the_kernel_and_the_formula_agree(scaled, array):
    array = np.asarray(array)
    check(lambda x: scaled(x, factor=2.5), [array], array * np.float32(2.5))


def test_a_graph_has_the_nodes_of_the_formula(scaled):
    model = trace(lambda x: scaled(x, factor=2.5), X)
    assert node_types(model) == ["Multiply"]


def test_eagerly_the_kernel_computes(scaled):
    assert scaled(convert_to_tensor(X), factor=2.0)._node.type == (
        "ScaledForTests"
    )
