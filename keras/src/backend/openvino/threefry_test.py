import numpy as np
import pytest
from scipy import special

from keras.src.backend.openvino import threefry

KEY = np.array([2**32 - 1, 2**31], np.uint32)


def test_threefry_known_answers():
    """The vectors of the generator's authors, in Random123."""
    cases = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ]
    for key, counter, expected in cases:
        words = threefry._hash(
            *np.array(key, np.uint32),
            *(np.array([word], np.uint32) for word in counter),
        )
        assert tuple(int(word[0]) for word in words) == expected


def test_inverse_error_function():
    x = np.linspace(-0.9999, 0.9999, 20001)
    expected = special.erfinv(x)
    np.testing.assert_allclose(threefry.erf_inv(x), expected, rtol=1e-12)
    single = threefry.erf_inv(x.astype(np.float32))
    exact = special.erfinv(x.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(single, exact, rtol=1e-4)


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 5), (70001,)])
def test_bits_of_jax(shape, width):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        key = jax.numpy.array(KEY)
        expected = jax.random.bits(key, shape, f"uint{width}")
    drawn = threefry.bits(KEY, shape, width)
    assert drawn.dtype == expected.dtype
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_keys_of_jax(number):
    jax = pytest.importorskip("jax")
    expected = jax.random.split(jax.numpy.array(KEY), number)
    np.testing.assert_array_equal(threefry.split(KEY, number), expected)


def test_draws_do_not_depend_on_how_many_are_asked_for():
    few, many = (threefry.bits(KEY, (n,), 32) for n in (10, 100_000))
    np.testing.assert_array_equal(few, many[:10])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_integers_without_a_range_are_the_lowest(dtype):
    low, high = np.array(5, "int32"), np.array(5, "int32")
    drawn = threefry.randint(KEY, (9,), np.dtype(dtype), low, high)
    np.testing.assert_array_equal(drawn, np.full(9, 5, dtype))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_permutation_has_each_index_once(axis):
    indices = threefry.permutation(KEY, (40, 50), np.dtype("int32"), axis)
    every = np.arange((40, 50)[axis], dtype="int32")
    every = np.expand_dims(every, 1 - axis)
    np.testing.assert_array_equal(
        np.sort(indices, axis=axis), np.broadcast_to(every, (40, 50))
    )
    rows = np.unique(indices, axis=1 - axis)
    assert rows.shape == (40, 50)
