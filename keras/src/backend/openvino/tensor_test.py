import copy
import gc
import itertools
import pickle
import weakref

import ml_dtypes
import numpy as np
import openvino as ov
import pytest

from keras.src import backend
from keras.src import layers
from keras.src import ops
from keras.src.backend.openvino import interpret
from keras.src.backend.openvino.dtypes import NUMPY_DTYPES
from keras.src.backend.openvino.dtypes import OPENVINO_DTYPES
from keras.src.backend.openvino.dtypes import PART_DTYPES
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import promote
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.tensor import value_of
from keras.src.backend.openvino.testing import run_compiled

ALL_DTYPES = sorted(NUMPY_DTYPES)


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_values_come_back_as_they_were(dtype, shape):
    array = np.ones(shape).astype(NUMPY_DTYPES[dtype])
    tensor = convert_to_tensor(array)
    assert (tensor.dtype, tensor.shape, tensor.ndim) == (
        dtype,
        shape,
        len(shape),
    )
    result = ops.convert_to_numpy(tensor)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)
    pair = [2] if dtype in PART_DTYPES else []
    dtype = PART_DTYPES.get(dtype, dtype)
    assert tensor.output.element_type == OPENVINO_DTYPES[dtype]
    assert list(tensor.output.shape) == [*shape, *pair]


@pytest.mark.parametrize(
    "value, dtype",
    [
        (True, "bool"),
        (3, "int32"),
        (2**40, "int64"),
        (0.5, "float32"),
        (2j, "complex64"),
        ([1, 2j], "complex64"),
        (np.complex128(1j), "complex128"),
        ([1, 2], "int32"),
        ([1, 2.5], "float32"),
        ([True, False], "bool"),
        ([], "float32"),
        (np.float64(3), "float64"),
        ([np.float16(3)], "float16"),
        (np.arange(3, dtype="uint16"), "uint16"),
        (range(3), "int32"),
        ([np.float64(3), np.float64(0.1)], "float64"),
        ([np.int64(3), 2**40], "int64"),
        ([np.int64(3), 2], "int32"),
        ([range(2), np.ones(2, "int8")], "int32"),
    ],
)
def test_dtypes_of_what_is_converted(value, dtype):
    tensor = convert_to_tensor(value)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor, value)


@pytest.mark.parametrize(
    "leaves",
    [
        (np.float32(1), 2.5),
        (np.float32(1), np.float64(2.5)),
        (np.float64(1), 2.5),
        (np.float16(1), 2.5, 3),
        (np.float16(1), np.float32(2.5)),
        (np.int8(1), 2),
        (np.int8(1), 2.5),
        (np.uint8(1), np.int8(2), True),
        (np.int32(1), np.float16(2.5)),
        (True, 2, np.float16(1)),
        (np.ones(2, "float32"), [2.0, 3.0]),
        (np.ones(2, "int16"), [2, 3], [np.float16(1), 2]),
        (np.complex64(1j), 2.5, 1),
    ],
    ids=str,
)
def test_a_list_has_the_dtype_of_all_its_leaves(leaves):
    jax = pytest.importorskip("jax")
    for items in itertools.permutations(leaves):
        wanted = jax.numpy.asarray(list(items))
        got = convert_to_tensor(list(items))
        assert got.dtype == wanted.dtype.name
        np.testing.assert_array_equal(got, wanted)
        nested = convert_to_tensor((list(items), list(items)))
        assert nested.dtype == got.dtype
    x = ops.zeros(np.shape(wanted), "float32")
    assert ops.add(x, list(leaves)).dtype == ops.add(x, got).dtype


def test_integers_in_a_list_that_its_dtype_lacks():
    for items in ([np.int8(1), 2**40], [2**40, np.int8(1)]):
        with pytest.raises(OverflowError, match="int8"):
            convert_to_tensor(items)
    np.testing.assert_array_equal(convert_to_tensor([np.int8(1), 300]), [1, 44])


def test_numbers_that_are_infinite_in_a_narrow_dtype(recwarn):
    np.testing.assert_array_equal(ops.add(np.ones(2, "float16"), 1e10), np.inf)
    assert not recwarn.list


@pytest.mark.parametrize("value", ["text", None, {"a": 1}, np.array(["a"])])
def test_what_cannot_be_converted(value):
    with pytest.raises((TypeError, ValueError)):
        convert_to_tensor(value)


@pytest.mark.parametrize("kind", ["sparse", "ragged"])
def test_sparse_and_ragged_are_refused(kind):
    with pytest.raises(ValueError, match=kind):
        convert_to_tensor([1.0], **{kind: True})


def test_lists_with_tensors_in_them_are_stacked():
    x = convert_to_tensor([1.0, 2.0])
    stacked = convert_to_tensor([x, [3, 4], (x * 2.0)])
    np.testing.assert_array_equal(stacked, [[1, 2], [3, 4], [2, 4]])
    (traced,) = run_compiled(
        lambda a: convert_to_tensor([a, a + 1.0]), np.ones(2, "float32")
    )
    np.testing.assert_array_equal(traced, [[1, 1], [2, 2]])


BASE = np.arange(6, dtype="float32").reshape(2, 3)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    bytes_ = b"0" + array.tobytes()
    return np.frombuffer(bytes_, array.dtype, offset=1).reshape(array.shape)


ARRAYS = {
    "array": BASE.copy,
    "big-endian": lambda: BASE.astype(">f4"),
    "big-endian integers": lambda: BASE.astype(">i8"),
    "Fortran order": lambda: np.asfortranarray(BASE),
    "strided": lambda: np.repeat(BASE, 2, axis=1)[:, ::2],
    "reversed": lambda: BASE[::-1],
    "broadcast": lambda: np.broadcast_to(BASE[0], (4, 3)),
    "read-only": lambda: read_only(BASE),
    "unaligned": lambda: unaligned(BASE),
    "matrix": lambda: np.matrix(BASE),
    "masked array": lambda: np.ma.array(BASE),
    "ov.Tensor": lambda: ov.Tensor(BASE.copy()),
    "bytearray": lambda: bytearray(b"abc"),
    "memoryview": lambda: memoryview(bytearray(b"abc")),
    "torch": lambda: pytest.importorskip("torch").tensor(BASE),
    "jax": lambda: pytest.importorskip("jax").numpy.asarray(BASE),
    "tensorflow": lambda: pytest.importorskip("tensorflow").constant(BASE),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16", "uint8"])
def test_what_is_kept_of_an_array_is_nobody_elses(kind, dtype):
    x = ARRAYS[kind]()
    theirs = x.data if isinstance(x, ov.Tensor) else np.asarray(x)
    for make in (convert_to_tensor, backend.Variable):
        kept = value_of(convert_to_tensor(make(x, dtype=dtype)))
        assert kept.__class__ is np.ndarray
        assert kept.flags.carray and kept.dtype.isnative
        assert not np.shares_memory(kept, theirs)
        np.testing.assert_array_equal(kept.astype("float32"), theirs)


def test_what_is_given_out_is_nobody_elses():
    tensor = convert_to_tensor(BASE)
    variable = backend.Variable(tensor)
    for given in (
        ops.convert_to_numpy(tensor),
        ops.convert_to_numpy(variable),
        tensor.numpy(),
        variable.numpy(),
        np.array(tensor),
        np.asarray(tensor, "float64"),
        copy.deepcopy(tensor).numpy(),
        ops.convert_to_numpy(ops.broadcast_to(tensor, (2, 2, 3))),
        ops.convert_to_numpy(ops.transpose(tensor)),
    ):
        given[...] = 5
    np.testing.assert_array_equal(tensor, BASE)
    np.testing.assert_array_equal(variable, BASE)
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(tensor)[0] = 5


def test_an_array_without_a_copy():
    tensor = convert_to_tensor(BASE)
    view = np.asarray(tensor, dtype="float32", copy=False)
    assert np.shares_memory(view, value_of(tensor))
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(tensor, dtype="float16", copy=False)
    assert np.asarray(tensor, dtype="float16").dtype == "float16"


def test_a_mask_is_not_lost():
    with pytest.raises(ValueError, match="filled"):
        convert_to_tensor(np.ma.array(BASE, mask=BASE > 2))


def test_a_small_part_does_not_keep_the_whole():
    whole = convert_to_tensor(np.ones((100, 100), "float32"))
    memory = weakref.ref(value_of(whole))
    ready, lazy = whole[0], ops.transpose(whole)[:, 3:4]
    np.asarray(lazy)
    del whole
    gc.collect()
    assert memory() is None
    np.testing.assert_array_equal(ready, np.ones(100))
    np.testing.assert_array_equal(lazy, np.ones((100, 1)))


def test_a_variable_keeps_what_the_runtime_can_take():
    variable = backend.Variable(BASE)
    variable.assign(ops.transpose(ops.transpose(variable) + 1.0))
    assert value_of(variable.value).flags.carray
    np.testing.assert_array_equal(variable, BASE + 1)


def test_an_openvino_output_or_tensor_is_taken():
    constant = ov.opset16.constant([1.0, 2.0], ov.Type.f32)
    tensor = convert_to_tensor(constant.output(0))
    assert isinstance(tensor, OpenVINOKerasTensor)
    assert tensor.output.get_node().get_type_name() == "Constant"
    np.testing.assert_array_equal(
        convert_to_tensor(ov.Tensor(np.array([1, 2]))), [1, 2]
    )


CASTS = [
    ("float32", "int32", [2.7, -2.7, 0.0], [2, -2, 0]),
    ("float32", "bool", [0.5, 0.0, np.nan], [True, False, True]),
    ("int32", "uint8", [255, 256, -1], [255, 0, 255]),
    ("int64", "int32", [2**32 + 5, -1, 7], [5, -1, 7]),
    ("bool", "float16", [True, False, True], [1, 0, 1]),
    ("float64", "bfloat16", [1 + 2**-9, 3, np.inf], [1, 3, np.inf]),
    ("float32", "float8_e4m3fn", [1.0, 1.06, 2.0], [1.0, 1.0, 2.0]),
]


@pytest.mark.parametrize("source, target, values, expected", CASTS)
def test_cast(source, target, values, expected):
    x = convert_to_tensor(np.array(values).astype(NUMPY_DTYPES[source]))
    y = cast(x, target)
    assert y.dtype == target
    result = ops.convert_to_numpy(y).astype("float64")
    np.testing.assert_array_equal(result, np.array(expected, "float64"))


@pytest.mark.parametrize(
    "operands, dtype",
    [
        (("int32", 1.5), "float32"),
        (("uint8", 2), "uint8"),
        (("bfloat16", 2.5), "bfloat16"),
        (("float16", "bfloat16"), "float32"),
        (("int64", "int32"), "int64"),
        (("int64", "float32"), "float32"),
        (("int64", float), "float32"),
        (("float64", "float32"), "float64"),
        (("uint64", 1), "uint64"),
        (("float32", np.float64(2)), "float32"),
        (("bool", True), "bool"),
    ],
)
def test_promotion(operands, dtype):
    operands = [
        convert_to_tensor(np.ones(2), x) if isinstance(x, str) else x
        for x in operands
    ]
    for tensor in promote(*operands):
        assert tensor.dtype == dtype


def test_a_shape_that_does_not_fit_is_named():
    x, y = np.ones((2, 3), "float32"), np.ones(4, "float32")
    with pytest.raises(ValueError) as error:
        convert_to_tensor(x) + y
    first_line = str(error.value).splitlines()[0]
    assert "Add" in first_line and "float32[2,3], float32[4]" in first_line
    assert "inconsistent" in first_line and ".hpp" not in first_line


def test_python_protocols():
    x = convert_to_tensor([[1, 2], [3, 4]])
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    scalar = convert_to_tensor(3)
    assert (int(scalar), float(scalar), bool(scalar)) == (3, 3.0, True)
    assert list(range(5))[scalar] == 3
    assert f"{convert_to_tensor(0.5):.2f}" == "0.50"
    assert "array([[1, 2]" in repr(x)
    for function in (int, float):
        with pytest.raises(TypeError, match="scalar"):
            function(x)
    with pytest.raises(TypeError, match="0-d"):
        len(scalar)
    with pytest.raises(TypeError, match="0-d"):
        iter(scalar)
    with pytest.raises(TypeError, match="integer"):
        [1][convert_to_tensor(0.5)]
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)


def test_copies_and_pickles():
    x = ops.sin(convert_to_tensor([1.0, 2.0]))
    for twin in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        np.testing.assert_array_equal(twin, x)
        assert twin.dtype == x.dtype


def test_numpy_leaves_operators_to_the_tensor():
    x = convert_to_tensor([1.0, 2.0])
    for y in (np.ones(2, "float32") + x, np.float32(1) + x, 1 + x):
        assert isinstance(y, OpenVINOKerasTensor)
        np.testing.assert_array_equal(y, [2, 3])


def test_a_symbolic_tensor_has_no_value():
    x = symbolic("float32", (None, 3))
    assert x.shape == (None, 3)
    assert "symbolic" in repr(x)
    with pytest.raises(ValueError, match="symbolic"):
        np.asarray(x)
    with pytest.raises(TypeError, match="not known"):
        len(x)
    assert ops.shape(x)[1] == 3
    (dims,) = run_compiled(
        lambda a: ops.shape(a)[0], np.ones((4, 3), "float32")
    )
    assert dims == 4


def test_the_error_of_a_symbolic_tensor_names_the_layer():
    class Peeking(layers.Layer):
        def call(self, x):
            return x if float(ops.sum(x)) > 0 else -x

    with pytest.raises(ValueError, match="Peeking"):
        Peeking()(backend.KerasTensor((2, 3)))


def test_a_value_that_another_thread_takes_is_found(monkeypatch):
    is_pending = OpenVINOKerasTensor._pending

    def overtaken(tensor):
        answer = is_pending(tensor)
        if answer:
            interpret.evaluate([tensor._node])
            is_pending(tensor)
        return answer

    monkeypatch.setattr(OpenVINOKerasTensor, "_pending", overtaken)
    x = convert_to_tensor([1.0, 2.0])
    np.testing.assert_array_equal(value_of(x + x), [2, 4])


def test_bfloat16_numpy_arrays_are_ml_dtypes():
    x = convert_to_tensor([1.0, 2.0], "bfloat16")
    assert ops.convert_to_numpy(x + 1.0).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.clip(x, -(2**40), 2**40),
        lambda x: ops.add(x, 2**40),
        lambda x: ops.where(x > 0, -(2**31) - 1, x),
        lambda x: ops.convert_to_tensor(2**32, "int32"),
        lambda x: ops.convert_to_tensor([0, 2**40], "int32"),
        lambda x: ops.convert_to_tensor([-(2**40)], "uint8"),
        lambda x: ops.convert_to_tensor([2**63], "int32"),
        lambda x: ops.convert_to_tensor([2**63], "int64"),
        lambda x: ops.convert_to_tensor([1, 2**31], "int32"),
        lambda x: ops.convert_to_tensor([0, 2**63], "int64"),
        lambda x: ops.convert_to_tensor([-1, 2**63]),
        lambda x: ops.convert_to_tensor([[2**64], [1]]),
        lambda x: x + 2**31,
        lambda x: ops.convert_to_tensor(2**70, "int64"),
    ],
)
def test_python_integers_that_no_dtype_of_theirs_holds(call):
    x = ops.convert_to_tensor(np.arange(2, dtype="int32"))
    with pytest.raises(OverflowError, match="Python integer"):
        call(x)


def test_python_integers_of_32_bits_wrap_around():
    x = np.array([1], "uint8")
    np.testing.assert_array_equal(ops.add(x, 300), [45])
    np.testing.assert_array_equal(ops.add(x, -1), [0])
    np.testing.assert_array_equal(
        ops.add(np.array([1], "uint32"), 2**32 - 1), [0]
    )
    assert np.asarray(ops.convert_to_tensor([2**40, 0], "bool")).tolist() == [
        True,
        False,
    ]
    np.testing.assert_array_equal(
        ops.convert_to_tensor([2**40], "int64"), [2**40]
    )
    np.testing.assert_array_equal(
        ops.convert_to_tensor([2**40], "float32"), [2**40]
    )


def test_lists_of_integers_beyond_64_bits():
    exact = ops.convert_to_tensor([0, 2**63 + 1])
    assert exact.dtype == "uint64"
    assert exact.tolist() == [0, 2**63 + 1]
    for numbers in ([2**70, -1], [0.5, 2**70], [2**63, 0]):
        result = ops.convert_to_tensor(numbers, "float32")
        np.testing.assert_array_equal(result, np.float32(numbers))


def test_bfloat16_of_torch():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    result = ops.convert_to_tensor(x)
    assert result.dtype == "bfloat16"
    np.testing.assert_array_equal(result, [1.5, -2.0])
