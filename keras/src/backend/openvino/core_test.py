import jax
import ml_dtypes
import numpy as np
import openvino as ov
import pytest

from keras.src import layers
from keras.src import ops
from keras.src import tree
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.core import compute_output_spec
from keras.src.backend.openvino.core import get_ov_output
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.testing import run_compiled
from keras.src.models import Model

DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"),
    *("uint64", "float16", "bfloat16", "float32", "float64"),
]


def sample(shape, dtype, seed=0):
    """Random values that the 32 bits of compiled models hold."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    if dtype.kind == "i" or dtype.kind == "u":
        bits = min(8 * dtype.itemsize, 31)
        low = -(2 ** (bits - 1)) if dtype.kind == "i" else 0
        return rng.integers(low, 2 ** (bits - 1), shape).astype(dtype)
    return np.asarray(rng.normal(size=shape), "float32").astype(dtype)


def window(x, starts, sizes):
    """Where JAX finds the window, as an index."""
    starts = [s + d if s < 0 else s for s, d in zip(starts, x.shape)]
    ends = [d - n for d, n in zip(x.shape, sizes)]
    starts = [max(0, min(s, e)) for s, e in zip(starts, ends)]
    return tuple(slice(s, s + n) for s, n in zip(starts, sizes))


def updated(x, starts, updates):
    x = x.copy()
    x[window(x, starts, updates.shape)] = updates
    return x


def check(function, arrays, expected):
    """Eagerly, and compiled with static dims, open dims and an open batch."""
    results = [np.asarray(function(*map(ops.convert_to_tensor, arrays)))]
    for dynamic in (False, True, (0,)):
        results += run_compiled(function, *arrays, dynamic=dynamic)
    for result in results:
        assert result.dtype == expected.dtype
        assert result.shape == expected.shape
        np.testing.assert_array_equal(result, expected)


CASES = {
    "one row": ((2, 5, 3), (0, 2, 0), (2, 1, 3)),
    "rows": ((2, 5, 3), (0, 2, 0), (2, 2, 3)),
    "too far": ((2, 5, 3), (0, 4, 0), (2, 3, 3)),
    "negative": ((2, 5, 3), (0, -1, 0), (2, 1, 3)),
    "far too low": ((2, 5, 3), (0, -99, 0), (2, 2, 3)),
    "two axes": ((4, 5, 3), (1, 2, 0), (2, 3, 3)),
    "all axes": ((4, 5, 3), (1, 3, 1), (2, 1, 2)),
    "the whole": ((2, 5, 3), (1, 2, 3), (2, 5, 3)),
    "no rows": ((2, 5, 3), (0, 2, 0), (2, 0, 3)),
    "an empty tensor": ((0, 5), (0, 2), (0, 1)),
    "0-d": ((), (), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_slice(case):
    shape, starts, sizes = CASES[case]
    x = sample(shape, "float32")
    expected = x[window(x, starts, sizes)]
    if shape:
        reference = jax.lax.dynamic_slice(x, starts, sizes)
        np.testing.assert_array_equal(reference, expected)
    check(lambda x: ops.slice(x, starts, sizes), [x], expected)
    if starts:
        indices = [np.array(start, "int32") for start in starts]
        check(lambda x, *i: ops.slice(x, i, sizes), [x, *indices], expected)
        check(
            lambda x, i: ops.slice(x, i, sizes),
            [x, np.array(starts, "int32")],
            expected,
        )


@pytest.mark.parametrize("case", CASES)
def test_slice_of_symbolic_sizes(case):
    shape, starts, sizes = CASES[case]
    x = sample(shape, "float32")
    like = np.zeros(sizes, "float32")
    expected = x[window(x, starts, sizes)]

    def f(x, like, *indices):
        return ops.slice(x, indices or starts, ops.shape(like))

    indices = [np.array(start, "int64") for start in starts]
    check(f, [x, like], expected)
    check(f, [x, like, *indices], expected)


def test_the_size_of_a_slice_is_known_though_its_start_is_not():
    shapes = []

    def f(x, i):
        y = ops.slice(x, [0, i], [ops.shape(x)[0], 2])
        shapes.append(y.shape)
        return y

    x = sample((3, 5), "float32")
    (result,) = run_compiled(f, x, np.array(1, "int32"), dynamic=(0,))
    np.testing.assert_array_equal(result, x[:, 1:3])
    assert shapes == [(None, 2)]


@pytest.mark.parametrize("case", CASES)
def test_slice_update(case):
    shape, starts, sizes = CASES[case]
    x = sample(shape, "float32")
    updates = sample(sizes, "float32", seed=1)
    expected = updated(x, starts, updates)

    def f(x, updates, *indices):
        return ops.slice_update(x, indices or starts, updates)

    check(f, [x, updates], expected)
    indices = [np.array(start, "int32") for start in starts]
    check(f, [x, updates, *indices], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slices_of_all_dtypes(dtype):
    x = sample((3, 4, 2), dtype)
    updates = sample((3, 1, 2), dtype, seed=1)
    arrays = [x, updates, np.array(2, "int32")]
    check(
        lambda x, u, i: ops.slice_update(x, (0, i, 0), u),
        arrays,
        updated(x, (0, 2, 0), updates),
    )
    check(lambda x, u, i: ops.slice(x, (0, i, 0), (3, 1, 2)), arrays, x[:, 2:3])


def test_a_cache_that_is_updated_in_a_loop():
    cache = sample((2, 4, 3), "float32")
    rows = sample((2, 4, 3), "float32", seed=1)

    def f(cache, rows):
        def body(i, cache):
            row = ops.slice(rows, (0, i, 0), (ops.shape(rows)[0], 1, 3))
            return i + 1, ops.slice_update(cache, (0, i, 0), row * 2.0)

        return ops.while_loop(lambda i, _: i < 3, body, (0, cache))[1]

    expected = np.concatenate([rows[:, :3] * 2, cache[:, 3:]], axis=1)
    check(f, [cache, rows], expected)
    for batch in (2, 1):  # by the model of an open batch
        result = jit(f)(cache[:batch], rows[:batch])
        np.testing.assert_array_equal(result, expected[:batch])


def test_a_slice_starts_where_a_variable_says():
    position = Variable(1, dtype="int32")

    @jit
    def f(x):
        position.assign(position + 1)
        return ops.slice(x, [position], [2])

    x = np.arange(8, dtype="float32")
    np.testing.assert_array_equal(f(x), x[2:4])
    np.testing.assert_array_equal(f(x), x[3:5])


def test_windows_that_do_not_fit_are_errors():
    x = np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match="does not fit"):
        ops.slice(x, [0, 0], [2, 4])
    with pytest.raises(ValueError, match="does not fit"):
        ops.slice_update(x, [0, 0], np.zeros((3, 1)))
    with pytest.raises(ValueError, match="start and a size for each axis"):
        ops.slice_update(x, [0], np.zeros((1, 1)))


def applying(function):
    """A layer that calls a function."""

    class Applying(layers.Layer):
        def call(self, x):
            return function(x)

    return Applying()


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda x: ops.reshape(x, (x.shape[0], 6, 2)), (None, 6, 2)),
        (lambda x: ops.reshape(x, (x.shape[0], -1)), (None, 12)),
        (lambda x: ops.reshape(x, (-1, x.shape[1] * 4)), (None, 12)),
        (lambda x: ops.reshape(x, (1, x.shape[0], -1)), (1, None, None)),
        (lambda x: ops.zeros((x.shape[0],) + x.shape[1:]), (None, 3, 4)),
        (lambda x: ops.broadcast_to(x[:1], x.shape), (None, 3, 4)),
        (lambda x: ops.expand_dims(ops.arange(x.shape[0]), 1), (None, 1)),
        (lambda x: x / x.shape[0], (None, 3, 4)),
        (lambda x: x * ops.prod(x.shape), (None, 3, 4)),
        (lambda x: x[: x.shape[0] // 2], (None, 3, 4)),
    ],
)
def test_models_are_built_of_layers_that_ask_for_dims(function, shape):
    inputs = layers.Input((3, 4))
    model = Model(inputs, applying(function)(inputs))
    assert model.output_shape == shape
    x = np.arange(24, dtype="float32").reshape(2, 3, 4)
    np.testing.assert_allclose(model.predict_on_batch(x), function(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2 if x.shape[1] == 1 else x,
        lambda x: x * (x.shape[1] or ops.shape(x)[1]),
        lambda x: x * 2 if not x.shape[1] else x,
        lambda x: x * 2 if all(x.shape[1:]) else x,
        lambda x: x * 2 if x.shape[1] in (1, 7) else x,
        lambda x: x * 2 if tuple(x.shape[1:]) == (1, 2) else x,
        lambda x: x * 2 if x.shape == (x + 1).shape else x,
        lambda x: x + x.size // 2,
        lambda x: sum(x[:, i] for i in range(x.shape[1])),
        lambda x: ops.reshape(x, (-1, x.shape[1] * 2)) if x.shape[1] > 3 else x,
        lambda x: x[:, ::2] if x.shape[1] % 2 == 0 else x,
        lambda x: {x.shape: x + 1}[x.shape],
        lambda x: {x.shape[1] * 2: x + 1}[x.shape[1] * 2],
        lambda x: len({x.shape, (x + 1).shape}) * x,
    ],
)
def test_layers_that_need_open_dims_in_python(function):
    inputs = layers.Input((None, 2))
    model = Model(inputs, applying(function)(inputs))
    for length in (1, 2, 7, 3, 64, 7):
        x = sample((3, length, 2), "float32")
        expected = np.asarray(function(ops.convert_to_tensor(x)))
        result = model.predict(x, verbose=0)
        np.testing.assert_allclose(result, expected, rtol=1e-6)
        assert result.shape == expected.shape


@pytest.mark.parametrize(
    "function, wanted",
    [
        (lambda x, n: x[:, ::2], (None, None, 3, None)),
        (lambda x, n: ops.sum(x, axis=1), (None, 3, None)),
        (lambda x, n: x[:, :7], (None, 7, 3, None)),
        (lambda x, n: ops.ones((n, 2)), (None, 2)),
        (lambda x, n: ops.reshape(x, (x.shape[0], -1)), (None, None)),
        (lambda x, n: [n * 2, x[0]][0], ()),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_specs_of_functions_that_need_open_dims(function, wanted, axis):
    def needing(x):
        return function(x, range(x.shape[axis]).stop)

    spec = compute_output_spec(needing, KerasTensor((None, None, 3, None)))
    assert spec.shape == wanted


def test_sizes_that_stand_for_open_dims_are_in_no_error():
    def function(x):
        return ops.ones(len(x)) + ops.ones(5)

    with pytest.raises(UnknownDim, match=r"len\(\).*None"):
        compute_output_spec(function, KerasTensor((None, 3)))


@pytest.mark.parametrize("reduction", [None, "add", "max", "min", "mul"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bfloat16"])
def test_what_is_scattered_outside_is_dropped(reduction, dtype):
    x = np.arange(12).reshape(4, 3).astype(numpy_dtype(dtype))
    indices = np.array([[1, 2], [4, 0], [-1, 0], [0, 3], [-5, 1], [2, -1]])
    updates = np.array([5, 99, 7, 99, 99, -3]).astype(x.dtype)
    ufunc = {
        "add": np.add,
        "max": np.maximum,
        "min": np.minimum,
        "mul": np.multiply,
    }.get(reduction, lambda old, new: new)
    wanted = x.copy()
    for i in (0, 2, 5):
        place = tuple(indices[i])
        wanted[place] = ufunc(wanted[place], updates[i])
    indices = indices.astype("int32")

    def op(x, indices, updates):
        return ops.scatter_update(x, indices, updates, reduction)

    eager = op(*map(ops.convert_to_tensor, (x, indices, updates)))
    np.testing.assert_array_equal(eager, wanted)
    for specs in ((), [(None, None), (None, None), (None,)]):
        result = jit(op, specs)(x, indices, updates)
        np.testing.assert_array_equal(result, wanted)
        assert result.dtype == dtype


def test_rows_that_are_scattered_outside_are_dropped():
    rows = np.array([[2], [9], [0]], "int32")
    values = np.arange(6, dtype="float32").reshape(3, 2)
    wanted = np.zeros((3, 2), "float32")
    wanted[[2, 0]] = values[[0, 2]]
    np.testing.assert_array_equal(ops.scatter(rows, values, (3, 2)), wanted)
    result = jit(lambda i, v: ops.scatter(i, v, (3, 2)))(rows, values)
    np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"]
)
def test_scatters_take_indices_of_any_dtype(dtype):
    x, ones = np.zeros(5, "float32"), np.ones(2, "float32")
    indices = np.array([[1], [3]], dtype)
    wanted = [0, 1, 0, 1, 0]
    np.testing.assert_array_equal(ops.scatter_update(x, indices, ones), wanted)
    result = jit(ops.scatter_update)(x, indices, ones)
    np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize(
    "updates", [7.0, [1.0, 2.0], [[1.0], [2.0], [3.0]], np.ones((1, 2))]
)
@pytest.mark.parametrize("reduction", [None, "add", "max"])
def test_what_is_scattered_broadcasts(updates, reduction):
    x = np.zeros((4, 2), "float32")
    indices = np.array([[0], [2], [9]])
    updates = np.asarray(updates, "float32")
    expected = x.copy()
    expected[[0, 2]] = np.broadcast_to(updates, (3, 2))[:2]
    check(
        lambda x, y: ops.scatter_update(x, indices, y, reduction),
        [x, updates],
        expected,
    )
    function = jit(
        lambda x, i, y: ops.scatter_update(x, i, y, reduction),
        [(None, None), (None, None), (None,) * updates.ndim],
    )
    np.testing.assert_array_equal(function(x, indices, updates), expected)
    with pytest.raises(ValueError, match="scatter_update"):
        ops.scatter_update(x, indices, np.ones((2, 2)))


def test_an_index_beyond_32_bits_is_outside():
    x, one = np.zeros(3, "float32"), np.ones(1, "float32")
    for index in (2**32 + 1, -(2**32) - 1):
        result = ops.scatter_update(x, np.array([[index]]), one)
        np.testing.assert_array_equal(result, x)


def test_unstacking_another_number_than_there_is():
    x = np.arange(6.0).reshape(3, 2)
    rows = ops.unstack(x, num=3)
    np.testing.assert_array_equal(np.stack(rows), x)
    for num in (2, 5):
        with pytest.raises(ValueError, match=f"`unstack` with num={num}"):
            ops.unstack(x, num=num)


def add_up(xs, length=None):
    def add(carry, x):
        return carry + ops.sum(x), x * 2

    return ops.scan(add, ops.zeros(()), xs, length=length)


def added_rows(*operands):
    return ops.vectorized_map(lambda rows: rows[0] + rows[1], operands)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.unstack(x, num=3),
        lambda x: ops.unstack(x, num=3, axis=-1),
        lambda x: ops.slice(x, [0, 0], [3, 1]),
        lambda x: ops.slice(x, [-2, 1], [-1, 3]),
        lambda x: ops.slice_update(x, [0, 2], ops.ones((3, 3))),
        lambda x: ops.slice_update(x, [0, 0], ops.transpose(x)),
        lambda x: ops.slice(x, [0, 1], ops.shape(ops.transpose(x))),
        lambda x: add_up(x, length=3),
        lambda x: added_rows(x, ops.ones(3)),
        lambda x: added_rows(x[:, :1], ops.transpose(x)),
    ],
)
def test_sizes_that_an_open_dim_lacks(function):
    x = np.arange(9, dtype="float32").reshape(3, 3)
    compiled = jit(function, [(None, None)])
    results = compiled(x), function(ops.convert_to_tensor(x))
    for got, wanted in zip(*map(tree.flatten, results), strict=True):
        np.testing.assert_array_equal(got, wanted)
    for shape in [(2, 2), (2, 4), (4, 2)]:
        other = np.ones(shape, "float32")
        try:
            wanted = tree.flatten(function(ops.convert_to_tensor(other)))
        except ValueError as error:
            with pytest.raises(ValueError) as compiled_error:
                compiled(other)
            assert str(compiled_error.value) == str(error)
        else:
            got = tree.flatten(compiled(other))
            for pair in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(*pair)


def test_sizes_that_are_asked_for_are_those_of_results():
    def function(x):
        parts = ops.unstack(x, num=3), ops.slice(x, [0], [2]), add_up(x, 3)[1]
        shapes.append([y.shape for y in tree.flatten(parts)])
        return parts

    shapes = []
    jit(function, [(None,)])(np.ones(3, "float32"))
    assert shapes == [[(), (), (), (2,), (3,)]]


def test_a_scan_of_no_steps_assigns_nothing():
    variable = Variable(0.0)

    def step(carry, x):
        variable.assign_add(1.0)
        variable.assign(ops.sum(carry))
        return carry, x

    carry, rows = ops.scan(step, np.ones(2, "float32"), np.ones((0, 3)))
    assert rows.shape == (0, 3) and float(variable) == 0
    np.testing.assert_array_equal(carry, np.ones(2))


def test_outputs_for_nodes_of_ones_own():
    output = get_ov_output([1, 2], ov.Type.f32)
    assert output.get_element_type() == ov.Type.f32
    np.testing.assert_array_equal(output.get_node().data, [1, 2])

    def doubled(x):
        return ops.convert_to_tensor(
            ov.opset16.add(get_ov_output(x), get_ov_output(x)).output(0)
        )

    np.testing.assert_array_equal(jit(doubled)(np.ones(3, "float32")), [2] * 3)
