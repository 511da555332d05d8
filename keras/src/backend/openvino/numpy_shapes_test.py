"""Shapes, order, selection and products: the part of `numpy.py` that moves."""

import numpy as np
import pytest

from keras.src import ops
from keras.src import tree
from keras.src.backend.openvino import numpy as knp
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

INF, NAN = np.inf, np.nan
F = np.arange(24, dtype="float32").reshape(2, 3, 4)
M = np.array([[3, 1, 2], [9, 7, 8]], dtype="float32")
V = np.array([5, 1, 4, 1, 3], dtype="float32")
EMPTY = np.zeros((0, 3), "float32")
DTYPES = ["bool", "uint8", "int8", "int32", "int64", "bfloat16", "float16"]


def value(x, dtype):
    return np.asarray(convert_to_tensor(x, dtype))


def check(function, reference, *arrays, compiled=True):
    """`function` agrees with `reference`, eager and compiled."""
    expected = [np.asarray(y) for y in tree.flatten(reference(*arrays))]
    got = [np.asarray(y) for y in tree.flatten(function(*arrays))]
    runs = [got]
    if compiled:
        runs += [run_compiled(function, *arrays, dynamic=d) for d in (0, 1)]
    for run in runs:
        assert len(run) == len(expected)
        for y, wanted in zip(run, expected):
            assert y.shape == wanted.shape
            y, wanted = (a.astype("float64") for a in (y, wanted))
            np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)


def check_named(name, *arrays, **kwargs):
    check(
        lambda *xs: getattr(knp, name)(*xs, **kwargs),
        lambda *xs: getattr(np, name)(*xs, **kwargs),
        *arrays,
    )


# Ops that move elements about and take what NumPy takes.
MOVES = [
    ("append", (M, M), {}),
    ("append", (M, M), {"axis": 1}),
    ("broadcast_to", (M,), {"shape": (2, 2, 3)}),
    ("diag", (V,), {}),
    ("diag", (V,), {"k": 2}),
    ("diag", (V,), {"k": -1}),
    ("diag", (M,), {"k": 1}),
    ("diag", (M,), {"k": -5}),
    ("diagflat", (M,), {"k": 1}),
    ("diagonal", (F,), {}),
    ("diagonal", (F,), {"offset": -1, "axis1": 2, "axis2": 0}),
    ("diagonal", (F,), {"offset": 2, "axis1": 1, "axis2": 2}),
    ("diagonal", (F,), {"offset": 9, "axis1": 1, "axis2": 2}),
    ("diagonal", (EMPTY,), {}),
    ("expand_dims", (M,), {"axis": (0, -1)}),
    ("flip", (F,), {}),
    ("flip", (F,), {"axis": (0, -1)}),
    ("moveaxis", (F,), {"source": (0, 1), "destination": (-1, 0)}),
    ("nonzero", (M,), {}),
    ("nonzero", (EMPTY,), {}),
    ("ravel", (F,), {}),
    ("repeat", (M,), {"repeats": 2}),
    ("repeat", (M,), {"repeats": 3, "axis": 1}),
    ("repeat", (M,), {"repeats": np.array([2, 0, 3]), "axis": 1}),
    ("repeat", (M,), {"repeats": 0, "axis": 0}),
    ("roll", (F,), {"shift": 5}),
    ("roll", (F,), {"shift": -1, "axis": 1}),
    ("roll", (F,), {"shift": (1, 2), "axis": (0, 2)}),
    ("roll", (F,), {"shift": np.array([1, 2]), "axis": np.array([0, 2])}),
    ("roll", (F,), {"shift": 1, "axis": (0, 2)}),
    ("roll", (EMPTY,), {"shift": 1, "axis": 0}),
    ("rot90", (F,), {}),
    ("rot90", (F,), {"k": 2, "axes": (1, 2)}),
    ("rot90", (F,), {"k": -1, "axes": (2, 0)}),
    ("squeeze", (F[:1, :, :1],), {"axis": (0, 2)}),
    ("swapaxes", (F,), {"axis1": 0, "axis2": -1}),
    ("transpose", (F,), {}),
    ("transpose", (F,), {"axes": (1, -1, 0)}),
    ("tril", (F,), {}),
    ("tril", (F,), {"k": -1}),
    ("triu", (F,), {"k": 1}),
    ("triu", (EMPTY,), {}),
]


@pytest.mark.parametrize("name, arrays, kwargs", MOVES)
def test_moves(name, arrays, kwargs):
    check_named(name, *arrays, **kwargs)
    for dtype in DTYPES:
        typed = [value(x, dtype) for x in arrays]
        got = getattr(knp, name)(*typed, **kwargs)
        wanted = getattr(np, name)(*typed, **kwargs)
        for y, expected in zip(tree.flatten(got), tree.flatten(wanted)):
            if name != "nonzero":
                assert y.dtype == dtype
            np.testing.assert_array_equal(np.asarray(y), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: knp.diagonal(x, 1),
        lambda x: knp.flip(x, 1),
        lambda x: knp.roll(x, 1, 0),
        lambda x: knp.sort(x),
        lambda x: knp.argsort(x, 0),
        lambda x: knp.take(x, np.array([1, 0, -1]), 1),
        lambda x: knp.take_along_axis(x, np.array([[0], [-1]]), 1),
        lambda x: knp.tril(x),
        lambda x: knp.unique(x),
        lambda x: knp.pad(x, 1, "reflect"),
        lambda x: knp.nonzero(x),
    ],
)
def test_compiled_dtypes(function, dtype):
    x = value(M - 3, "float32") if dtype != "uint8" else M
    x = value(x, dtype)
    eager = tree.flatten(function(x))
    for got, wanted in zip(run_compiled(function, x), eager):
        assert got.dtype.name == wanted.dtype
        np.testing.assert_array_equal(got, np.asarray(wanted))


@pytest.mark.parametrize("name", ["concatenate", "vstack", "hstack", "dstack"])
@pytest.mark.parametrize("arrays", [(M, M + 1, M), (V, V)])
def test_joining(name, arrays):
    check(
        lambda *xs: getattr(knp, name)(list(xs)),
        lambda *xs: getattr(np, name)(list(xs)),
        *arrays,
    )


def test_concatenate():
    check(
        lambda a, b: knp.concatenate([a, b], axis=None),
        lambda a, b: np.concatenate([a, b], axis=None),
        M,
        V,
    )
    check(lambda a, b: knp.concatenate([a, b]), lambda a, b: b, EMPTY, M)
    mixed = knp.concatenate([np.zeros(1, "int8"), np.ones(1, "float16")])
    assert mixed.dtype == "float16"
    with pytest.raises(ValueError, match="concatenate"):
        knp.concatenate([M, V])


def test_stack():
    for axis in (0, 1, -1):
        check(
            lambda a, b: knp.stack([a, b], axis),
            lambda a, b: np.stack([a, b], axis),
            M,
            M + 1,
        )
    assert knp.stack([1, 2.5]).dtype == "float32"


@pytest.mark.parametrize("shape", [(3, 2), (-1,), (1, -1, 2), 6, (2, 3)])
def test_reshape(shape):
    check(lambda x: knp.reshape(x, shape), lambda x: np.reshape(x, shape), M)


def test_reshape_with_unknown_dims():
    def swap(x):
        rows, columns, last = ops.shape(x)
        return knp.reshape(x, (columns, rows * last))

    check(swap, lambda x: x.reshape(3, 8), F)


def test_reshape_of_no_elements():
    check(lambda x: knp.reshape(x, (3, 0)), lambda x: x.reshape(3, 0), EMPTY)
    assert knp.reshape(EMPTY, (-1, 3)).shape == (0, 3)
    for shape in [(0, -1), (4,), (-1, -1)]:
        with pytest.raises(ValueError, match="reshape"):
            knp.reshape(EMPTY, shape)


@pytest.mark.parametrize("sections", [2, 1, [1], [1, 3], [3, 1], [-1], [9], []])
def test_split(sections):
    check(
        lambda x: knp.split(x, sections, axis=-1),
        lambda x: np.split(x, sections, axis=-1),
        F,
    )


@pytest.mark.parametrize(
    "number", [np.int64(2), np.uint8(2), np.array(2), convert_to_tensor(2)]
)
def test_a_number_of_parts_of_any_type(number):
    for name in ("split", "hsplit", "vsplit", "dsplit"):
        check(
            lambda x: getattr(knp, name)(x, number),
            lambda x: getattr(np, name)(x, 2),
            np.arange(16.0).reshape(2, 2, 4),
        )
    check(
        lambda x: knp.array_split(x, number),
        lambda x: np.array_split(x, 2),
        np.arange(5.0),
    )


def test_other_splits():
    x = np.arange(7, dtype="float32")
    for n in (1, 3, 9):
        check(
            lambda x: knp.array_split(x, n), lambda x: np.array_split(x, n), x
        )
    for name in ("hsplit", "vsplit", "dsplit"):
        check(
            lambda x: getattr(knp, name)(x, [1]),
            lambda x: getattr(np, name)(x, [1]),
            F,
        )
    with pytest.raises(ValueError, match="array_split"):
        knp.split(x, 2)
    with pytest.raises(ValueError, match="dsplit"):
        knp.dsplit(M, 1)


@pytest.mark.parametrize("repeats", [2, (2, 1), (2, 1, 3), (0, 1)])
def test_tile(repeats):
    check(lambda x: knp.tile(x, repeats), lambda x: np.tile(x, repeats), M)


def test_repeats_that_are_tensors():
    check(
        lambda x, n: knp.repeat(x, n, 0),
        lambda x, n: np.repeat(x, n, 0),
        M,
        np.array([3, 2], "int32"),
    )


@pytest.mark.parametrize(
    "mode",
    "constant edge linear_ramp maximum mean median minimum reflect symmetric "
    "wrap".split(),
)
@pytest.mark.parametrize("width", [1, (2, 0), ((1, 2), (0, 3)), 7])
def test_pad(mode, width):
    check(
        lambda x: knp.pad(x, width, mode),
        lambda x: np.pad(x, width, mode),
        M,
    )
    x = M.astype("int32")
    np.testing.assert_array_equal(
        knp.pad(x, width, mode), np.pad(x, width, mode)
    )


def test_pad_values():
    values = ((1, 2), (3, 4))
    check(
        lambda x: knp.pad(x, 1, constant_values=values),
        lambda x: np.pad(x, 1, constant_values=values),
        M,
    )
    check(
        lambda x: knp.pad(x, 1, constant_values=7),
        lambda x: np.pad(x, 1, constant_values=7),
        M,
    )
    with pytest.raises(ValueError, match="constant_values"):
        knp.pad(M, 1, "edge", constant_values=1)
    with pytest.raises(ValueError, match="modes"):
        knp.pad(M, 1, "mirror")
    with pytest.raises(ValueError, match="widths"):
        knp.pad(M, -1)


# --------------------------------------------------------- taking and sorting


def test_take():
    index = np.array([[0, -1], [1, 1]], "int32")
    for axis in (None, 0, 1, -1):
        check(
            lambda x, i: knp.take(x, i, axis),
            lambda x, i: np.take(x, i, axis),
            F,
            index,
        )
    known = np.array([[0, 0, 0]])
    # OpenVINO would drop a Gather on the axis that Unsqueeze adds.
    check(
        lambda x: knp.take(knp.expand_dims(x, 1), known, 1),
        lambda x: np.take(x[:, None], known, 1),
        M,
    )
    none = np.zeros((0, 2), "int32")
    check(lambda x: knp.take(x, none, 1), lambda x: np.take(x, none, 1), M)
    with pytest.raises(TypeError, match="integer"):
        knp.take(M, 1.5)


@pytest.mark.parametrize(
    "dtype, fill",
    [
        ("float32", NAN),
        ("bfloat16", NAN),
        ("int32", -(2**31)),
        ("int8", -128),
        ("uint8", 255),
        ("bool", True),
    ],
)
def test_take_out_of_bounds(dtype, fill):
    x = value(np.array([0, 1, 0]), dtype)
    index = np.array([3, -4, 1, -3], "int32")
    wanted = np.array([fill, fill, 1, 0]).astype("float64")
    for op in (lambda x, i: knp.take(x, i, 0), knp.take_along_axis):
        check(op, lambda x, i: wanted, x, index)
    check(
        lambda x, i: knp.take(x, i, 0),
        lambda x, i: np.full(4, fill, "float64"),
        value(np.zeros(0), dtype),
        index,
    )


@pytest.mark.parametrize(
    "axis, shape, index_shape",
    [
        (0, (2, 3, 4), (5, 3, 4)),
        (2, (2, 1, 4), (1, 3, 2)),
        (1, (2, 3), (2, 0)),
        (0, (3, 2, 4), (5, 1, 1)),
        (1, (2, 3, 2, 4), (2, 5, 1, 1)),
        (1, (1, 3, 4), (2, 5, 1)),
        (1, (2, 3, 4), (1, 5, 1)),
        (1, (1, 3, 4), (1, 5, 1)),
        (2, (1, 1, 8, 1), (1, 1, 8, 1)),
    ],
)
def test_take_along_axis(axis, shape, index_shape):
    rng = np.random.default_rng(0)
    dim = shape[axis]
    x = rng.normal(size=shape).astype("float32")
    index = rng.integers(-dim, dim, index_shape).astype("int32")
    function, reference = (
        lambda x, i, take=module.take_along_axis: take(x, i, axis)
        for module in (knp, np)
    )
    np.testing.assert_array_equal(function(x, index), reference(x, index))
    # Where dims are not known, they are taken to be those of the other.
    broadcasts = any(
        a != b for i, (a, b) in enumerate(zip(shape, index_shape)) if i != axis
    )
    for dynamic in (False, not broadcasts):
        got = run_compiled(function, x, index, dynamic=dynamic)[0]
        np.testing.assert_array_equal(got, reference(x, index))


def test_take_along_axis_of_rows_of_an_open_batch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 2, 4)).astype("float32")
    index = np.array([[0, -1], [3, 1]], "int32").reshape(2, 2, 1, 1)

    def rows(x, index):
        return knp.take_along_axis(x, index, 1)

    expected = np.take_along_axis(x, np.where(index == 3, 0, index), 1)
    expected[1, 0] = NAN  # out of bounds
    (got,) = run_compiled(rows, x, index, dynamic=(0,))
    np.testing.assert_array_equal(got, expected)
    assert "GatherElements" not in node_types(
        trace(rows, x, index, dynamic=(0,))
    )


X = np.array([[3, NAN, -INF, 1, INF, 1], [-0.0, 0, INF, NAN, -NAN, -2]], "f4")


@pytest.mark.parametrize("x", [X, M, F, EMPTY, V[:1], M.astype("int8") > 2])
@pytest.mark.parametrize("axis", [-1, 0, None])
def test_sort(x, axis):
    check(lambda x: knp.sort(x, axis), lambda x: np.sort(x, axis), x)
    check(
        lambda x: knp.argsort(x, axis),
        lambda x: np.argsort(x, axis, kind="stable"),
        x,
    )
    assert knp.argsort(x, axis).dtype == "int32"


@pytest.mark.parametrize("dtype", DTYPES + ["uint32", "uint64", "float64"])
def test_sort_is_stable(dtype):
    x = value(np.random.default_rng(0).integers(0, 4, 300), dtype)
    order = np.argsort(x.astype("float64"), kind="stable")
    np.testing.assert_array_equal(knp.argsort(x), order)
    np.testing.assert_array_equal(knp.sort(x), x[order])
    np.testing.assert_array_equal(run_compiled(knp.argsort, x)[0], order)


def test_sort_of_large_integers():
    x = np.array([2**60 + 1, 2**60, -(2**60)])
    np.testing.assert_array_equal(knp.sort(x), np.sort(x))
    y = np.array([2**24 + 1, 2**24, -(2**31), 2**31 - 1], "int32")
    check(knp.sort, np.sort, y)


def test_argsort_is_one_node():
    assert node_types(trace(knp.argsort, V.astype("int32"))).count("TopK") == 1


def test_argpartition():
    for kth in (0, 3, -1):
        order = np.asarray(knp.argpartition(V, kth))
        at = kth % len(V)
        assert V[order][at] == np.sort(V)[at]
        assert (V[order][:at] <= V[order][at]).all()
        assert (V[order][at:] >= V[order][at]).all()
    with pytest.raises(ValueError):
        knp.argpartition(V, 5)


@pytest.mark.parametrize(
    "x",
    [V, X, EMPTY, M.astype("int32") % 3, np.array([True, False, True])],
)
def test_unique(x):
    kwargs = {f"return_{k}": True for k in ("index", "inverse", "counts")}
    check(
        lambda x: knp.unique(x, **kwargs),
        lambda x: np.unique(x, equal_nan=False, **kwargs),
        x,
    )


def test_unique_is_sorted_whatever_is_asked():
    x = np.array([3, 1, 2, 3], "int32")
    for axis in (None, 0):
        check(
            lambda x: knp.unique(x, sorted=False, axis=axis),
            lambda x: np.unique(x, axis=axis),
            x,
        )


def test_unique_rows():
    x = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], "int32")
    kwargs = {f"return_{k}": True for k in ("index", "inverse", "counts")}
    for axis in (0, 1, -1):
        check(
            lambda x: knp.unique(x, axis=axis, **kwargs),
            lambda x: np.unique(x, axis=axis, **kwargs),
            x,
        )


def test_unique_of_a_size():
    # The figures are those that Keras gives on JAX.
    x = np.array([3, 1, 2, 1, NAN, NAN, 5], "float32")
    kwargs = {f"return_{k}": True for k in ("index", "inverse", "counts")}
    inverse = [2, 0, 1, 0, 4, 5, 3]
    for size, fill, values, index, counts in [
        (8, None, [1, 2, 3, 5, NAN, NAN, 1, 1], [1, 2, 0, 6, 4, 5, 1, 1],
         [2, 1, 1, 1, 1, 1, 0, 0]),
        (8, 9, [1, 2, 3, 5, NAN, NAN, 9, 9], [1, 2, 0, 6, 4, 5, 1, 1],
         [2, 1, 1, 1, 1, 1, 0, 0]),
        (3, None, [1, 2, 3], [1, 2, 0], [2, 1, 1]),
    ]:  # fmt: skip
        check(
            lambda x: knp.unique(x, size=size, fill_value=fill, **kwargs),
            lambda x: tuple(map(np.array, (values, index, inverse, counts))),
            x,
        )
    assert run_compiled(lambda x: knp.unique(x, size=3), x)[0].shape == (3,)
    rows = np.array([[1, 0], [0, 1], [1, 0]])
    for axis, x in [(0, rows), (-1, rows.T)]:
        got = np.asarray(knp.unique(x, axis=axis, size=3))
        got = got.T if axis else got
        np.testing.assert_array_equal(got, [[0, 1], [1, 0], [0, 1]])


# -------------------------------------------------------------- linear algebra


def operands(*shapes, dtype="float32"):
    rng = np.random.default_rng(1)
    return [rng.integers(-3, 4, shape).astype(dtype) for shape in shapes]


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,kj->ik", (2, 3), (4, 3)),
    ("ji,jk->ik", (3, 2), (3, 4)),
    ("ij,jk->ki", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (3,), (4,)),
    ("ij,j->i", (2, 3), (3,)),
    ("i,ij->j", (2,), (2, 3)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("abc,cd->abd", (2, 3, 4), (4, 5)),
    ("abc,cde->abde", (2, 3, 4), (4, 5, 6)),
    ("abcd,cde->abe", (2, 3, 4, 5), (4, 5, 6)),
    ("aecd,abcd->acbe", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("acbe,aecd->abcd", (2, 4, 6, 3), (2, 3, 4, 5)),
    ("btd,df->fbt", (2, 3, 4), (4, 5)),
    ("abij,akl->abijkl", (2, 3, 4, 2), (2, 2, 3)),
    ("abij,acj->abic", (2, 3, 4, 5), (2, 6, 5)),
    ("abij,acdj->abicd", (2, 3, 4, 5), (2, 6, 2, 5)),
    ("ba,a->b", (0, 3), (3,)),
    ("ij,jk->ik", (2, 0), (0, 3)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("...ij,jk", (2, 3, 4), (4, 2)),
    ("i...,i...->...", (2, 3), (2, 3)),
    ("ij...->j...i", (2, 3, 4)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (3, 3, 2)),
    ("ijk->ki", (2, 3, 4)),
    ("ij->", (2, 3)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("i,ij,j->", (2,), (2, 3), (3,)),
    ("ab,ab,ab,cb->ac", (2, 3), (2, 3), (2, 3), (4, 3)),
    ("ba", (2, 3)),
]


@pytest.mark.parametrize("equation, shapes", [(e, s) for e, *s in EINSUMS])
def test_einsum(equation, shapes):
    check(
        lambda *xs: knp.einsum(equation, *xs),
        lambda *xs: np.einsum(equation, *xs),
        *operands(*shapes),
        compiled=0 not in shapes[0],
    )


@pytest.mark.parametrize("equation, shapes", [(e, s) for e, *s in EINSUMS[:20]])
def test_einsum_multiplies_matrices(equation, shapes):
    def contract(*xs):
        return knp.einsum(equation, *xs)

    types = node_types(trace(contract, *operands(*shapes), dynamic=False))
    assert types.count("MatMul") + types.count("Multiply") == 1
    assert set(types) <= {"MatMul", "Multiply", "Reshape", "Transpose"} | {
        "Unsqueeze",
        "ReduceSum",
    }


def test_einsum_adds_nothing_to_a_product_of_matrices():
    def contract(a, b):
        return knp.einsum("abc,cd->abd", a, b)

    model = trace(contract, *operands((2, 3, 4), (4, 5)))
    assert node_types(model) == ["MatMul"]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "bool"])
def test_einsum_dtypes(dtype):
    a, b = operands((3, 40), (40, 3), dtype=dtype)
    if dtype == "int8":
        a, b = a * 42, b * 42
    wide = "int32" if dtype == "int8" else dtype
    for equation in ("ij,jk->ik", "ij,jk->ikj"):
        wanted = np.einsum(equation, a.astype(wide), b.astype(wide))
        got = knp.einsum(equation, a, b)
        assert got.dtype == wide
        np.testing.assert_array_equal(got, wanted)
        got = run_compiled(lambda a, b: knp.einsum(equation, a, b), a, b)[0]
        np.testing.assert_array_equal(got, wanted)


def test_einsum_of_mixed_dtypes():
    a, b = operands((2, 3), (3, 2), dtype="int8")
    assert knp.einsum("ij,jk->ik", a, b > 0).dtype == "int8"
    assert knp.einsum("ij,jk->ik", a, b.astype("float32")).dtype == "float32"


@pytest.mark.parametrize(
    "equation", ["ij,jk", "ijk->i", "ij->k", "i$->i", "ij->ii", "ij->i->j"]
)
def test_einsum_errors(equation):
    with pytest.raises(ValueError, match="einsum"):
        knp.einsum(equation, M)


@pytest.mark.parametrize(
    "name, shapes",
    [
        ("dot", ((2, 3), (3, 4))),
        ("dot", ((3,), (3,))),
        ("dot", ((2, 3), (3,))),
        ("dot", ((2, 3), (4, 3, 2))),
        ("dot", ((), (2, 3))),
        ("inner", ((2, 3), (4, 3))),
        ("inner", ((3,), (3,))),
        ("inner", ((), (3,))),
        ("outer", ((2, 3), (4,))),
        ("vdot", ((2, 3), (2, 3))),
        ("kron", ((2, 3), (4, 5))),
        ("kron", ((3,), (2, 2, 2))),
        ("cross", ((4, 3), (4, 3))),
        ("cross", ((4, 2), (4, 2))),
        ("cross", ((4, 2), (4, 3))),
        ("cross", ((3,), (4, 2))),
        ("trace", ((3, 4, 2),)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_products(name, shapes):
    xs = operands(*shapes)
    check(getattr(knp, name), getattr(np, name), *xs, compiled=name != "cross")
    if name == "cross":
        got = run_compiled(knp.cross, *xs, dynamic=False)[0]
        np.testing.assert_array_equal(got, np.cross(*xs))


def test_cross_axes():
    a, b = operands((3, 4, 5), (4, 5, 3))
    got = knp.cross(a, b, 0, 2, 1)
    np.testing.assert_array_equal(got, np.cross(a, b, 0, 2, 1))


@pytest.mark.parametrize("axes", [1, 2, 0, ([0], [1]), ([2, 0], [0, 1])])
def test_tensordot(axes):
    shapes = {1: [(2, 3, 4), (4, 5)], 2: [(2, 3, 4), (3, 4, 5)]}
    shapes = shapes.get(axes if isinstance(axes, int) else None)
    xs = operands(*(shapes or [(2, 3, 4), (4, 2)]))
    check(
        lambda a, b: knp.tensordot(a, b, axes),
        lambda a, b: np.tensordot(a, b, axes),
        *xs,
    )


def test_tensordot_errors():
    with pytest.raises(ValueError, match="tensordot"):
        knp.tensordot(M, M, 1)


def test_slogdet():
    x = np.array([[[2, 1], [1, -3]], [[0, 0], [0, 0]]], "float32")
    check(knp.slogdet, lambda x: tuple(np.linalg.slogdet(x)), x)
    sign, _ = knp.slogdet(x.astype("int32"))
    assert sign.dtype == "float32"


# ---------------------------------------------------------------------- others


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16", "int64"])
def test_view(dtype):
    x = np.array([[1, -2, 3, 4]], "float32")
    check(lambda x: knp.view(x, dtype), lambda x: x.view(dtype), x)


def test_view_errors():
    with pytest.raises(ValueError, match="view"):
        knp.view(np.zeros(3, "float32"), "int64")


def test_unravel_index():
    x = np.array([0, 5, 11], "int32")
    check(
        lambda x: knp.unravel_index(x, (3, 4)),
        lambda x: np.unravel_index(x, (3, 4)),
        x,
    )
    # Out of bounds is clamped and negative counts from the end, as on JAX.
    rows, columns = knp.unravel_index(np.array([-1, 100, -99]), (3, 4))
    assert rows.tolist() == [2, 2, 0] and columns.tolist() == [3, 3, 0]


def test_size():
    assert knp.size(F) == 24
    check(lambda x: convert_to_tensor(knp.size(x)), np.size, F)


def test_vectorize():
    scaled = knp.vectorize(lambda a, b: a * 2 + b)
    a, b = operands((2, 3), (3,))
    np.testing.assert_array_equal(scaled(a, b), a * 2 + b)
    powered = knp.vectorize(lambda a, n: a**n, excluded={1})
    np.testing.assert_array_equal(powered(a, 2), a**2)
    product = knp.vectorize(knp.dot, signature="(n),(n)->()")
    np.testing.assert_array_equal(product(a, b), a @ b)


def everywhere(function, *arrays):
    """What `function` gives eagerly and in both kinds of compiled models."""
    eager = tree.flatten(function(*map(convert_to_tensor, arrays)))
    yield [np.asarray(x) for x in eager]
    for dynamic in (False, True):
        yield run_compiled(function, *arrays, dynamic=dynamic)


@pytest.mark.parametrize(
    "number", [2**40, -(2**40), 300, -1, 7, np.int64(2**40)]
)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_comparison_with_integers_that_do_not_fit(dtype, number):
    x = np.array([0, 1, 0, 1]).astype(dtype)

    def compare(x):
        return [
            ops.equal(x, number),
            ops.not_equal(number, x),
            ops.less(x, number),
            ops.less_equal(number, x),
            ops.greater(x, number),
            ops.greater_equal(number, x),
        ]

    wide, number_64 = x.astype("int64"), np.int64(number)
    expected = [
        wide == number_64,
        wide != number_64,
        wide < number_64,
        wide >= number_64,
        wide > number_64,
        wide <= number_64,
    ]
    for results in everywhere(compare, x):
        np.testing.assert_array_equal(results, expected)


def test_nothing_but_an_empty_array():
    empty = np.zeros((0, 3), "float32")
    for (median,) in everywhere(lambda x: ops.median(x, axis=0), empty):
        np.testing.assert_array_equal(median, [np.nan] * 3)
    for (total,) in everywhere(lambda x: ops.logsumexp(x, axis=0), empty):
        np.testing.assert_array_equal(total, [-np.inf] * 3)
    flat = empty[:, 0]
    for grids in everywhere(lambda x: ops.meshgrid(x, x), flat):
        assert [grid.shape for grid in grids] == [(0, 0), (0, 0)]
    values = np.ones(2, "float32")
    for (places,) in everywhere(ops.searchsorted, flat, values):
        np.testing.assert_array_equal(places, [0, 0])
    for (places,) in everywhere(lambda x: ops.digitize(values, x), flat):
        np.testing.assert_array_equal(places, [0, 0])


def test_digitize_of_one_number():
    for bins in ([1, 2], [2, 1]):
        bins = np.array(bins, "float32")
        for (place,) in everywhere(ops.digitize, np.float32(1.5), bins):
            np.testing.assert_array_equal(place, np.digitize(1.5, bins))
            assert place.shape == ()


def test_corrcoef_of_one_variable_is_a_number():
    x = np.array([[1, 2, 4]], "float32")
    assert np.corrcoef(x).shape == ops.corrcoef(x).shape == ()
    result = jit(ops.corrcoef, [(None, None)])(x)
    np.testing.assert_allclose(result, 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint32"])
def test_what_is_taken_from_nowhere_fits_a_model(dtype):
    x = np.array([3, 4, 2, 0], dtype)
    indices = np.array([3, -1, 9, -2], "int32")
    bound = -(2**31) if dtype == "int64" else 2**31 - 1
    for op in (ops.take, lambda x, i: ops.take_along_axis(x, i, 0)):
        result = np.asarray(jit(op, [(None,), (None,)])(x, indices))
        np.testing.assert_array_equal(result, [0, 0, bound, 2])
        assert result.dtype == dtype
