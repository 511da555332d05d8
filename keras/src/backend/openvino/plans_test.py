import numpy as np
import pytest

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import plans
from keras.src.backend.openvino.specialise import Variants
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import pending
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import normal


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """The models that are compiled, in a cache of their own."""
    cache = Variants(plans.MAX_PLANS, plans.MAX_BYTES)
    monkeypatch.setattr(plans, "_plans", cache)
    return compiled_models(monkeypatch)


def node_of(tensor):
    return tensor._node


def steps(x, y):
    product = apply("MatMul", convert_to_tensor(x), convert_to_tensor(y))
    return product, apply("Exp", product)


def run(*tensors):
    """Computes pending tensors and those between them by one plan."""
    nodes = [node_of(tensor) for tensor in tensors]
    order = graph.topological_order(nodes)
    return plans.run(order, nodes)


def test_values_are_those_of_numpy():
    x, y = normal(3, 4), normal(4, 5)
    product, result = steps(x, y)
    assert run(result)
    np.testing.assert_allclose(result, np.exp(x @ y), rtol=1e-5)
    # It is alive, so that its value was kept.
    assert node_of(product).values is not None
    np.testing.assert_allclose(product, x @ y, rtol=1e-5, atol=1e-6)


def test_what_a_plan_does_not_give_is_found_all_the_same():
    """Another thread may have come to it when nobody seemed to need it."""
    x, y = normal(3, 4), normal(4, 5)
    product, result = steps(x, y)
    node = node_of(product)
    del product
    assert run(result)
    source = graph.Source(node, 0)
    late = graph.Node("Exp", (), (source,), node.outputs, node.outputs)
    np.testing.assert_allclose(pending(late, 0), result, rtol=1e-5)


def test_a_structure_is_compiled_once(compiled):
    for seed in range(4):
        x, y = normal(3, 4, seed=seed), normal(4, 5, seed=seed + 9)
        _, result = steps(x, y)
        run(result)
        np.testing.assert_allclose(result, np.exp(x @ y), rtol=1e-5)
    assert len(compiled) == 1


def test_sizes_that_vary_share_a_model(compiled):
    for size in (3, 4, 7, 5, 100):
        x, y = normal(size, 4), normal(4, 5)
        _, result = steps(x, y)
        run(result)
        np.testing.assert_allclose(result, np.exp(x @ y), rtol=1e-5)
    assert len(compiled) == 2  # one for the first size, one for any


def test_attributes_and_constants_tell_structures_apart(compiled):
    x = normal(3, 4)
    for axis in (0, 1):
        result = apply("ReduceSum", convert_to_tensor(x), (axis,))
        run(result)
        np.testing.assert_allclose(result, x.sum(axis), rtol=1e-5)
    for axis in (0, 1):
        result = apply("LogSoftmax", convert_to_tensor(x), axis=axis)
        run(result)
        total = np.log(np.exp(x).sum(axis, keepdims=True))
        np.testing.assert_allclose(result, x - total, rtol=1e-5, atol=1e-6)
    assert len(compiled) == 4


def test_an_array_that_stands_twice_is_one_input(compiled):
    x = convert_to_tensor(normal(3, 3))
    run(apply("MatMul", x, x))
    run(apply("MatMul", x, convert_to_tensor(normal(3, 3))))
    assert len(compiled) == 2


def test_what_was_computed_meanwhile_is_not_computed_again(compiled):
    _, result = steps(normal(3, 4), normal(4, 5))
    nodes = [node_of(result)]
    order = graph.topological_order(nodes)
    np.asarray(result)
    before = len(compiled)
    assert not plans.run(order, nodes)
    assert len(compiled) == before
