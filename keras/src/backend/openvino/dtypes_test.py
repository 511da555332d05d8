import itertools

import ml_dtypes
import numpy as np
import openvino as ov
import pytest

from keras.src.backend.openvino import dtypes

WIDE = ("int64", "uint64", "float64")


@pytest.mark.parametrize("name", dtypes.OPENVINO_DTYPES)
def test_names_there_and_back(name):
    ov_type = dtypes.OPENVINO_DTYPES[name]
    assert dtypes.ov_to_keras_type(ov_type) == name
    assert dtypes.ov_name(name) == ov_type.to_string()
    assert dtypes.from_ov_name(ov_type.to_string()) == name
    if name != "string":
        assert dtypes.dtype_name(dtypes.numpy_dtype(name)) == name
        assert dtypes.numpy_dtype(name).itemsize * 8 >= ov_type.bitwidth


@pytest.mark.parametrize("name", dtypes.PART_DTYPES)
def test_complex_dtypes(name):
    part = dtypes.part_dtype(name)
    assert np.zeros((), name).real.dtype == part
    assert dtypes.complex_of(part) == name
    assert dtypes.is_complex(name) and not dtypes.is_complex(part)
    assert dtypes.is_inexact(name) and not dtypes.is_float(name)


def test_dtypes_that_nothing_has():
    with pytest.raises(ValueError, match="has no Keras dtype"):
        dtypes.ov_to_keras_type(ov.Type.u1)
    with pytest.raises(TypeError, match="OpenVINO has no dtype int3"):
        dtypes.ov_name("int3")
    with pytest.raises(TypeError, match="cannot hold dtype string"):
        dtypes.numpy_dtype("string")


@pytest.mark.parametrize("wide", WIDE)
def test_wide_operands_keep_their_width(wide):
    narrow = {"int64": "int32", "uint64": "uint32", "float64": "float32"}[wide]
    assert dtypes.result_type(wide) == wide
    assert dtypes.result_type(wide, wide) == wide
    assert dtypes.result_type(wide, narrow) == wide
    assert dtypes.result_type(wide, "bool") == wide
    assert dtypes.result_type(wide, float) == (
        "float64" if wide == "float64" else "float32"
    )


def test_no_wide_result_of_narrow_operands():
    names = [n for n in dtypes.NUMPY_DTYPES if n not in (*WIDE, "complex128")]
    names = [n for n in names if "float8" not in n]
    for pair in itertools.product(names, names):
        result = dtypes.result_type(*pair)
        assert result not in WIDE, pair
        assert result == dtypes.result_type(*pair[::-1])


def views():
    whole = np.arange(24, dtype="float32").reshape(4, 6)
    read_only = whole.copy()
    read_only.flags.writeable = False
    buffer = bytearray(whole.tobytes() + b"12345")
    unaligned = np.frombuffer(bytearray(b"1") + buffer, "uint8")[1:97]
    return {
        "whole": whole,
        "strided": whole[::2, 1::2],
        "reversed": whole[::-1],
        "transposed": whole.T,
        "big-endian": whole.astype(">f4"),
        "read-only": read_only,
        "unaligned": unaligned.view("float32").reshape(4, 6),
        "broadcast": np.broadcast_to(whole[0], (3, 6)),
        "matrix": whole.view(np.matrix),
        "0-d": whole[1, 1, ...],
        "empty": whole[:0],
    }


@pytest.mark.parametrize("kind", views())
def test_an_array_of_its_own(kind):
    x = views()[kind]
    own = dtypes.own_array(x)
    assert type(own) is np.ndarray and own.dtype.isnative
    assert own.flags.carray and own.base is None
    assert not np.shares_memory(own, x)
    np.testing.assert_array_equal(own, x)


@pytest.mark.parametrize("kind", views())
def test_what_the_runtime_takes(kind):
    x = views()[kind].astype("float32", copy=False)
    tensor = dtypes.to_ov_tensor(x)
    assert tuple(tensor.shape) == x.shape
    np.testing.assert_array_equal(dtypes.to_array(tensor), x)
    assert (dtypes.for_runtime(x) is x) == x.flags.carray


@pytest.mark.parametrize("name", dtypes.NUMPY_DTYPES)
def test_values_across(name):
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtypes.numpy_dtype(name))
    array = dtypes.to_array(dtypes.to_ov_tensor(x))
    if dtypes.is_complex(name):
        assert array.shape == (2, 3, 2)
        array = dtypes.from_pairs(array)
    assert array.dtype == x.dtype
    assert array.tobytes() == x.tobytes()


def test_memory_is_shared_with_the_runtime():
    x = np.zeros(3, ml_dtypes.bfloat16)
    tensor = dtypes.to_ov_tensor(x)
    x[1] = 2
    np.testing.assert_array_equal(dtypes.to_array(tensor), x)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
@pytest.mark.parametrize("name", ["complex64", "complex128"])
def test_pairs_of_complex_numbers(name, shape):
    random = np.random.default_rng(0)
    parts = random.standard_normal((2, *shape))
    x = (parts[0] + 1j * parts[1]).astype(name)
    for layout in (x, x.T):
        pairs = dtypes.to_pairs(layout)
        np.testing.assert_array_equal(pairs[..., 0], layout.real)
        np.testing.assert_array_equal(pairs[..., 1], layout.imag)
        np.testing.assert_array_equal(dtypes.from_pairs(pairs), layout)


def test_casts_of_complex_numbers_take_the_real_part():
    x = np.array([1.5 + 2j, -3j])
    np.testing.assert_array_equal(dtypes.own_array(x, "int32"), [1, 0])
    np.testing.assert_array_equal(dtypes.own_array(x, "bool"), [True, True])
    np.testing.assert_array_equal(dtypes.own_array(x, "complex64"), x)


def test_a_part_that_keeps_a_whole_is_copied():
    whole = np.arange(100)
    few, most = whole[:10], whole[:60]
    assert dtypes.without_base(few).base is None
    np.testing.assert_array_equal(dtypes.without_base(few), few)
    assert dtypes.without_base(most) is most
    assert dtypes.without_base(whole) is whole


def test_a_dtype_that_is_no_name():
    assert dtypes.standardize(None) == "float32"
    assert dtypes.standardize(np.dtype("int8")) == "int8"
    assert dtypes.standardize(float) == "float32"
    with pytest.raises((ValueError, TypeError)):
        dtypes.standardize(["int8"])
