import gc
import weakref

import ml_dtypes
import numpy as np
import pytest

from keras.src.backend import KerasTensor
from keras.src.backend.openvino import core
from keras.src.backend.openvino import custom
from keras.src.backend.openvino import linalg
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import run_compiled


def kernel(a, b, scale):
    return a * scale + b, a > b, a.sum(axis=-1, dtype=a.dtype)


def rule(a, b, scale):
    dtype, shape = a
    return [a, ("bool", shape), (dtype, shape[:-1])]


register("TestOperation", kernel, rule=rule)


def operation(a, b):
    return apply(
        "TestOperation", convert_to_tensor(a), convert_to_tensor(b), scale=2
    )


@pytest.mark.parametrize(
    "dtype",
    "float32 float16 bfloat16 float64 int8 uint8 int32 int64 uint32".split(),
)
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (2, 0), (1, 2, 3)])
def test_several_outputs_of_every_dtype(dtype, shape):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    size = int(np.prod(shape))
    a = (np.arange(size).reshape(shape) % 5).astype(dtype)
    b = np.ones(shape).astype(dtype)
    wanted = kernel(a, b, 2)
    for results in (operation(a, b), run_compiled(operation, a, b)):
        for result, reference in zip(results, wanted, strict=True):
            result = np.asarray(result)
            assert result.dtype == reference.dtype
            np.testing.assert_array_equal(result, reference)


def test_in_the_body_of_a_loop():
    def op(x):
        def body(i, x):
            return i + 1, linalg.svd(x)[0] + linalg.det(x)[:, None, None]

        _, x = core.while_loop(lambda i, x: i < 3, body, (0, x))
        return x

    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype("float32")
    eager = np.asarray(op(convert_to_tensor(x)))
    np.testing.assert_allclose(run_compiled(op, x)[0], eager, atol=1e-5)


def test_in_the_branches_of_a_condition():
    def op(x):
        return core.cond(
            x[0, 0, 0] > 0, lambda: linalg.svd(x)[0], lambda: linalg.qr(x)[0]
        )

    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype("float32")
    for signed in (x, -x):
        (result,) = run_compiled(op, signed)
        wanted = np.asarray(op(convert_to_tensor(signed)))
        np.testing.assert_allclose(result, wanted, atol=1e-5)


def _fail(x):
    raise ValueError("this kernel always fails")


register("TestFailure", _fail, rule=lambda x: [x])


def test_errors_of_a_kernel_say_what_happened():
    def op(x):
        return apply("TestFailure", convert_to_tensor(x))

    x = np.ones(3, "float32")
    with pytest.raises(ValueError, match="this kernel always fails"):
        np.asarray(op(x))
    with pytest.raises(ValueError, match="this kernel always fails"):
        run_compiled(op, x)


@pytest.fixture
def made(monkeypatch):
    """Weak references to the operations that are made."""
    references = []
    initialize = custom.Operation.__init__

    def init(self, *args):
        initialize(self, *args)
        references.append(weakref.ref(self))

    monkeypatch.setattr(custom.Operation, "__init__", init)
    return references


def alive(references):
    gc.collect()
    return [r for r in references if r() is not None]


def test_a_model_is_freed_with_its_operations_and_its_weights(made):
    weights = core.Variable(np.eye(3, dtype="float32"))
    function = jit(lambda x: linalg.cholesky(x @ weights))
    for size in (1, 2, 3):
        x = np.broadcast_to(4 * np.eye(3, dtype="float32"), (size, 3, 3))
        np.testing.assert_array_equal(np.asarray(function(x)), x / 2)
    assert alive(made)
    value = weakref.ref(weights.value._value)
    weights.assign(4 * np.eye(3, dtype="float32"))
    np.testing.assert_array_equal(np.asarray(function(x)), x)
    assert alive([value]) == []
    del function
    assert alive(made) == []


def test_operations_of_a_model_do_not_pile_up_as_it_runs(made):
    function = jit(lambda x: linalg.cholesky(x))
    x = np.eye(2, dtype="float32")
    for size in range(2 * custom.Operations.MAX_COPIES):
        function(np.broadcast_to(x, (size, 2, 2)))
    assert len(alive(made)) < 1.1 * custom.Operations.MAX_COPIES


def test_shapes_that_are_inferred_without_a_model_leave_no_operations(made):
    x = KerasTensor((None, 3, 3))
    assert core.compute_output_spec(linalg.cholesky, x).shape == (None, 3, 3)
    linalg.cholesky(convert_to_tensor(np.eye(7, dtype="float32")))
    assert made and alive(made) == []
