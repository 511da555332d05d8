import concurrent.futures
import itertools
import weakref

import numpy as np
import openvino as ov
import pytest

from keras.src import ops
from keras.src.backend.openvino import device
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.executable import Executable
from keras.src.backend.openvino.executable import _Request
from keras.src.backend.openvino.graph import parameter
from keras.src.backend.openvino.jit import jit


@pytest.mark.parametrize("dims", [(None,), (3,)])
def test_outputs_that_are_inputs_or_come_twice(dims):
    x = parameter("float32", dims)
    y = ov.opset16.exp(x).output(0)
    executable = device.compile_model([x, y, y, x], [x])
    array = np.arange(3, dtype="float32")
    first, *others = executable([array])
    results = [array, first, *others]
    for pair in itertools.combinations(results, 2):
        assert not np.shares_memory(*pair)
    array[0] = 7
    np.testing.assert_array_equal(first, [0, 1, 2])
    for other in others[:2]:
        np.testing.assert_allclose(other, np.exp([0, 1, 2]), rtol=1e-6)


def test_outputs_that_become_inputs_as_transposes_cancel():
    x = parameter("float32", (None, 3))
    y = x
    for _ in range(2):
        y = ov.opset16.transpose(y, np.array([1, 0])).output(0)
    z = ov.opset16.exp(x).output(0)
    executable = device.compile_model([y, z], [x])
    array = np.arange(6, dtype="float32").reshape(2, 3)
    back, z = executable([array])
    np.testing.assert_array_equal(back, array)
    np.testing.assert_allclose(z, np.exp(array), rtol=1e-6)


def test_a_graph_that_computes_nothing():
    x = parameter("int32", (None,))
    executable = device.compile_model([x], [x])
    (result,) = executable([np.array([1, 2], "int32")])
    np.testing.assert_array_equal(result, [1, 2])


def test_results_stay_as_they_are():
    x = parameter("float32", (None,))
    executable = device.compile_model([ov.opset16.exp(x).output(0)], [x])
    first = executable([np.zeros(2, "float32")])[0]
    executable([np.ones(5, "float32")])
    np.testing.assert_array_equal(first, [1, 1])


def test_idle_requests_hold_little(monkeypatch):
    x = parameter("float32", (None,))
    executable = device.compile_model([ov.opset16.exp(x).output(0)], [x])
    small, large = np.zeros(8, "float32"), np.zeros(80_000, "float32")
    monkeypatch.setattr(Executable, "MAX_IDLE_BYTES", large.nbytes)
    array = weakref.ref(large)
    results = [executable([a])[0] for a in (small, large)]
    result = weakref.ref(results[1])
    np.testing.assert_array_equal(results[1], np.ones(80_000))
    del large, results
    assert array() is None and result() is None
    assert not executable._idle
    executable.release_memory()
    (again,) = executable([small])
    np.testing.assert_array_equal(again, np.ones(8))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_small_and_large_arrays_in_turns(dtype):
    x = parameter(dtype, (None,))
    y = ov.opset16.concat([x, x], 0).output(0)
    z = ov.opset16.shape_of(ov.opset16.unsqueeze(x, 0)).output(0)
    executable = device.compile_model([y, z], [x])
    rng, calls = np.random.default_rng(0), []
    most = _Request.COPIED_BYTES
    for size in (3, 5, 3, most, 2, 0, 4, most // 2, 4, most, most, 1):
        array = rng.integers(0, 2, size).astype(numpy_dtype(dtype))
        calls.append((array.copy(), executable([array])))
        array[...] = 0
    for array, (doubled, dims) in calls:  # nobody wrote into them since
        np.testing.assert_array_equal(doubled, np.concatenate([array, array]))
        np.testing.assert_array_equal(dims, [1, len(array)])
        assert doubled.dtype == array.dtype


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x.T,
        lambda x: x[::-1],
        lambda x: x[:, ::2],
        np.asfortranarray,
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
        lambda x: np.frombuffer(b"0" + x.tobytes(), x.dtype, offset=1),
    ],
    ids="transposed reversed sliced fortran stretched fixed unaligned".split(),
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_large_arrays_of_any_layout(given, dtype):
    rng = np.random.default_rng(0)
    f = jit(lambda x: 2 * x)
    for rows in (200, 300, 250, 200):
        x = rng.normal(size=(rows, 300)).astype(numpy_dtype(dtype))
        array = given(x)
        np.testing.assert_array_equal(f(array), 2 * array.astype("float32"))


def test_memory_is_released_while_threads_infer(monkeypatch):
    monkeypatch.setattr(Executable, "MAX_IDLE_BYTES", 0)
    x = parameter("float32", (None, 256))
    weights = ov.opset16.constant(np.ones((256, 256), "float32"))
    y = ov.opset16.matmul(x, weights, False, False).output(0)
    executable = device.compile_model([y], [x])

    def work(rows):
        for _ in range(20):
            (result,) = executable([np.ones((rows, 256), "float32")])
            executable.release_memory()
            np.testing.assert_array_equal(result, 256)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(100, 108)))


def test_the_bytes_of_constants_are_known():
    x = parameter("float32", (None,))
    weights = ov.op.Constant(np.ones(1000, "float32"), shared_memory=True)
    y = ov.opset16.add(x, weights).output(0)
    assert 4000 <= device.compile_model([y], [x]).nbytes < 4100


def test_constants_in_loops_are_counted():
    weights = ops.convert_to_tensor(np.ones((300, 300), "float32"))
    f = jit(lambda x: ops.fori_loop(0, 3, lambda i, y: y @ weights, x))
    f(np.ones((2, 300), "float32"))
    (variant,) = f._variants
    assert 300 * 300 * 4 <= variant.nbytes < 2 * 300 * 300 * 4
