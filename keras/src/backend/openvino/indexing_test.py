import numpy as np
import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras.src import ops
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

X = np.arange(24, dtype="float32").reshape(2, 3, 4)
ALL = slice(None)


def pending(array):
    """A tensor that is not computed yet, of no other value."""
    order = tuple(range(array.ndim))[::-1]
    x = convert_to_tensor(array)
    return apply("Transpose", apply("Transpose", x, order), order)


def shapes(min_side, max_dims):
    return hnp.array_shapes(
        min_dims=0, max_dims=max_dims, min_side=min_side, max_side=4
    )


@st.composite
def indexed_arrays(draw):
    """An array, and a key that NumPy may take for it."""
    shape = draw(shapes(0, 4))
    items, axis = [], 0
    picks = draw(shapes(1, 2))
    while axis < len(shape) and draw(st.integers(0, 5)):
        dim = shape[axis]
        kinds = ["slice", "none", "bool"]
        kinds += ["integer", "array", "array"] if dim else []
        # NumPy takes masks without elements that do not fit.
        kinds += ["mask"] if 0 not in shape else []
        kind = draw(st.sampled_from(kinds))
        axis += kind not in ("none", "bool")
        if kind == "slice":
            items.append(draw(st.slices(dim)))
        elif kind == "none":
            items.append(None)
        elif kind == "bool":
            items.append(draw(st.booleans()))
        elif kind == "integer":
            items.append(draw(st.integers(-dim, dim - 1)))
        elif kind == "array":
            elements = st.integers(-dim, dim - 1)
            array = draw(hnp.arrays(np.int64, picks, elements=elements))
            items.append(draw(st.sampled_from([array, array.tolist()])))
        else:
            end = draw(st.integers(axis, len(shape)))
            items.append(draw(hnp.arrays(bool, shape[axis - 1 : end])))
            axis = end
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), Ellipsis)
    key = items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)
    return np.arange(np.prod(shape, dtype=int)).reshape(shape), key


@settings(deadline=None, max_examples=400)
@given(indexed_arrays())
@example((np.zeros((1, 0)), (Ellipsis, 0, False)))
@example((np.zeros((3, 4)), (Ellipsis, 0, False)))
@example((np.zeros((3, 4)), (np.array([9]), np.zeros(0, int))))
def test_as_numpy(case):
    array, key = case
    for x in (convert_to_tensor(array), pending(array)):
        try:
            wanted = array[key]
        except IndexError:
            with pytest.raises(IndexError):
                x[key]
        else:
            got = x[key]
            assert got.shape == wanted.shape
            np.testing.assert_array_equal(got, wanted)


MASK = X % 3 == 0
KEYS = [
    0,
    -1,
    (0, 1),
    (ALL, 1),
    (0, 1, -1),
    slice(None, None, -1),
    (Ellipsis, slice(None, None, -2)),
    (slice(5, 0, -1), slice(-1, -4, -1)),
    (slice(1, None), 0),
    (0, Ellipsis, None),
    (None, ALL, 1, None),
    [],
    [1],
    ([0, 1], [1, 2]),
    (ALL, [0, -1], [1, 2]),
    ([0, 1], ALL, [1, -2]),
    (0, ALL, [1, 2]),
    (0, [1, 2]),
    ([[0], [1]], [1, 2]),
    (slice(1), [2, 0], ALL),
    MASK,
    MASK[..., 0],
    (ALL, MASK[0]),
    (ALL, np.array([True, False, True])),
    (MASK[..., 0], [0] * int(MASK[..., 0].sum())),
    [True, False],
    True,
    False,
    (True, ALL, [0]),
    (None, True, [1], Ellipsis),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_compiled(key, dynamic):
    got = run_compiled(lambda x: x[key], X, dynamic=dynamic)[0]
    assert got.shape == X[key].shape
    np.testing.assert_array_equal(got, X[key])


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int64", "float16", "bfloat16"]
)
@pytest.mark.parametrize(
    "key", [1, slice(None, None, -1), ([0, 1], [1, 2]), (ALL, [2, 0]), MASK]
)
def test_compiled_dtypes(key, dtype):
    x = np.asarray(convert_to_tensor(X, dtype))
    got = run_compiled(lambda x: x[key], x)[0]
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x[key])
    np.testing.assert_array_equal(pending(x)[key], x[key])


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_with_keys_that_are_inputs(dynamic):
    row = np.array([0, 1, -1], "int32")
    column = np.array([[2], [0]], "uint8")
    for function, *arrays in [
        (lambda x, i: x[i], X, row),
        (lambda x, i: x[:, i], X, row),
        (lambda x, i, j: x[i, j], X, row, column),
        (lambda x, i, j: x[:, j, i], X, row, column),
        (lambda x, i, j: x[i, :, j], X, row, column),
        (lambda x, i: x[i, 1:, [0, 1, 2]], X, row),
        (lambda x, i: x[i], X, np.array(-1, "int32")),
        (lambda x, i: x[:, i, 0], X, np.array(1, "int64")),
        (lambda x, n: x[:n], X, np.array(-1, "int32")),
        (lambda x, n: x[..., n:], X, np.array(2, "int64")),
        (lambda x, n: x[..., 3:0:n], X, np.array(-2, "int32")),
        (lambda x, m: x[m], X, MASK),
        (lambda x, m: x[m], X, MASK[..., 0]),
        (lambda x, m: x[:, m], X, MASK[0]),
        (lambda x, m: x[:, 1:, m], X, MASK[0, 0]),
        (lambda x, m: x[:, m, 1:, None], X, MASK[0, :, 0]),
        (lambda x, m: x[m, 1], X, MASK[..., 0]),
        (lambda x, m: x[m], X, np.zeros(X.shape, bool)),
        (lambda x, m: x[m], X, np.array(True)),
        (lambda x, m: x[m, 1], X, np.array(False)),
    ]:
        wanted = function(*arrays)
        got = run_compiled(function, *arrays, dynamic=dynamic)[0]
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)
        got = function(*map(pending, arrays))
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)


def test_graphs():
    def types(function, *arrays):
        return node_types(trace(function, *arrays))

    def types_with_known_dims(function):
        return node_types(trace(function, X, dynamic=False))

    assert types_with_known_dims(lambda x: x[1]) == ["Gather"]
    assert types(lambda x: x[:, 1:], X) == ["Slice"]
    assert types(lambda x: x[::-1, :2], X) == ["Slice"]
    assert types_with_known_dims(lambda x: x[1:, 0]) == ["Slice", "Gather"]
    assert types(lambda x: x[:, None], X) == ["Unsqueeze"]
    assert types_with_known_dims(lambda x: x[:, [2, 1]]) == ["Gather"]
    with_known_dims = trace(lambda x, m: x[m], X, MASK, dynamic=False)
    assert node_types(with_known_dims) == ["NonZero", "Transpose", "GatherND"]
    assert types(lambda x: x[...], X) == []


def test_tensors_out_of_bounds_are_clamped():
    index = np.array([5, -5, 1], "int32")
    wanted = X[[1, 0, 1]]
    np.testing.assert_array_equal(pending(X)[convert_to_tensor(index)], wanted)
    np.testing.assert_array_equal(pending(X)[pending(index)], wanted)
    for function in (lambda x, i: x[i], lambda x, i: x[i, :][:, :1][:, 0]):
        got = run_compiled(function, X, index)[0]
        np.testing.assert_array_equal(got, function(X, [1, 0, 1]))
    got = run_compiled(lambda x, i: x[i, i], X, index)[0]
    np.testing.assert_array_equal(got, X[[1, 0, 1], [2, 0, 1]])


@pytest.mark.parametrize(
    "key",
    [2, -3, (0, 3), [0, 2], np.array([-3]), (0, 0, 0, 0), 1.5, "a", [0.5]]
    + [(Ellipsis, Ellipsis), np.ones(3, bool), np.ones((2, 4), bool)],
    ids=str,
)
def test_errors(key):
    for x in (convert_to_tensor(X), pending(X)):
        with pytest.raises((IndexError, TypeError)):
            x[key]


@pytest.mark.parametrize(
    "key",
    [
        2,
        -3,
        (ALL, 3),
        (0, 0, -5),
        [0, 2],
        np.array([[-3]]),
        (ALL, [0, 5], [0, 1]),
        ([0, 1], 100_000_000),
        ([[0], [-5]], ALL, [0, 1]),
    ],
    ids=str,
)
def test_out_of_bounds_of_an_open_dim(key):
    function = jit(lambda x: x[key], [(None, None, None)])
    large = np.arange(8.0).reshape(2, 2, 2)
    with pytest.raises(IndexError, match="is out of bounds for axis"):
        function(X)
    with pytest.raises(ValueError, match="fails"):  # it reads nothing there
        run_compiled(lambda x: x[key], X)
    with pytest.raises(IndexError, match="is out of bounds for axis"):
        function(large)


def test_bounds_are_those_of_each_call(monkeypatch):
    models = compiled_models(monkeypatch)
    function = jit(
        lambda x: (x[:, 4], x[:, -4], x[:, 0], x[:, [3, -5], [1, 0]]),
        [(None, None, 2)],
    )
    for size in (5, 9, 6):
        x = np.arange(4.0 * size, dtype="float32").reshape(2, size, 2)
        wanted = x[:, 4], x[:, -4], x[:, 0], x[:, [3, -5], [1, 0]]
        for got, value in zip(function(x), wanted, strict=True):
            np.testing.assert_array_equal(got, value)
    assert len(models) == 1
    with pytest.raises(IndexError, match="Index 4 .* axis 1 of size 4"):
        function(np.ones((2, 4, 2), "float32"))


def test_the_first_of_what_turns_out_to_be_empty():
    for index in (0, -1, [0]):
        function = jit(lambda x: x[x > 0][index], [(None,)])
        got = function(np.array([-1.0, 2.0], "float32"))
        np.testing.assert_array_equal(np.ravel(got), [2])
        with pytest.raises(ValueError, match="fails"):
            function(np.array([-1.0, -2.0], "float32"))


def test_masks_of_open_dims_that_do_not_match():
    x = np.arange(6.0, dtype="float32").reshape(3, 2)
    masks = [np.ones(9, bool), np.ones(2, bool), np.ones((2, 3), bool)]
    masks += [np.ones((9, 2), bool), np.ones((3, 1), bool)]
    by_input = jit(lambda x, mask: x[mask], [(None, None), (None, None)])
    by_row = jit(lambda x, mask: x[mask], [(None, None), (None,)])
    for mask in masks:
        by_constant = jit(lambda x: x[mask], [(None, None)])
        compiled = by_row if mask.ndim == 1 else by_input
        for failing in (lambda: compiled(x, mask), lambda: by_constant(x)):
            with pytest.raises(IndexError, match="boolean index of shape"):
                failing()
    mask = x > 2
    for keep in (mask, mask[:, 0]):
        compiled = by_row if keep.ndim == 1 else by_input
        by_constant = jit(lambda x: x[keep], [(None, None)])
        for got in (compiled(x, keep), by_constant(x)):
            np.testing.assert_array_equal(got, x[keep])


def test_out_of_bounds_in_a_loop():
    def function(x):
        return ops.scan(lambda carry, row: (carry, row[4]), 0, x)[1]

    compiled = jit(function, [(None, None)])
    x = np.arange(10.0, dtype="float32").reshape(2, 5)
    np.testing.assert_array_equal(compiled(x), x[:, 4])
    with pytest.raises(IndexError, match="Index 4"):
        compiled(x[:, :4])


def test_error_messages():
    x = pending(X)
    with pytest.raises(IndexError, match="2 is out of bounds for axis 0"):
        x[2]
    with pytest.raises(IndexError, match="3 dims, and 4 are indexed"):
        x[0, 0, 0, 0]
    with pytest.raises(IndexError, match=r"shape \(3,\) does not match"):
        x[np.ones(3, bool)]
    with pytest.raises(ValueError, match="step"):
        x[::0]
    with pytest.raises(TypeError, match="slice_update.*scatter_update"):
        x[0] = 1


def test_other_kinds_of_keys():
    x = convert_to_tensor(X)
    for one in (
        np.int64(1),
        np.array(1),
        convert_to_tensor(1),
        Variable(1, dtype="int32"),
    ):
        np.testing.assert_array_equal(x[one], X[1])
        np.testing.assert_array_equal(x[:one], X[:1])
        np.testing.assert_array_equal(x[[0, one], 0], X[[0, 1], 0])
    np.testing.assert_array_equal(Variable(X)[:, 1], X[:, 1])
    np.testing.assert_array_equal(x[[None, ALL, 1]], X[None, :, 1])
    np.testing.assert_array_equal(x[[Ellipsis, 2]], X[..., 2])
    assert [row.shape for row in x] == [(3, 4), (3, 4)]
    assert x[0, 0, 0].shape == () and x[0, 0, 0].dtype == "float32"
    assert ops.shape(x[1:1]) == (0, 3, 4)
