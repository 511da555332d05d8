"""Tests of `keras.random` on OpenVINO.

The tables below are what Keras 3.15.1 draws on JAX 0.10.2 (CPU, default
configuration) for the same calls and seeds, and for float64 and int64 what
`jax.random` draws with `jax_enable_x64` from the key `[seed, 0]`. Where JAX
is installed, more is compared with it as it runs.
"""

import numpy as np
import pytest
from scipy import stats

from keras.src import ops
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import run_compiled
from keras.src.random import random
from keras.src.random.seed_generator import SeedGenerator
from keras.src.utils import set_random_seed

BIG_SEED = 2**31 + 7
PROBABILITIES = [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]

CALLS = {
    "uniform": lambda seed: random.uniform((4,), seed=seed),
    "uniform_range": lambda seed: random.uniform(
        (2, 2), -0.05, 0.07, seed=seed
    ),
    "uniform_float16": lambda seed: random.uniform(
        (4,), -0.05, 0.07, dtype="float16", seed=seed
    ),
    "uniform_bfloat16": lambda seed: random.uniform(
        (4,), -0.05, 0.07, dtype="bfloat16", seed=seed
    ),
    "uniform_float64": lambda seed: random.uniform(
        (3,), dtype="float64", seed=seed
    ),
    "normal": lambda seed: random.normal((4,), seed=seed),
    "normal_float64": lambda seed: random.normal(
        (3,), dtype="float64", seed=seed
    ),
    "truncated_normal": lambda seed: random.truncated_normal((4,), seed=seed),
    "truncated_normal_float64": lambda seed: random.truncated_normal(
        (3,), dtype="float64", seed=seed
    ),
    "randint": lambda seed: random.randint((6,), -5, 100, seed=seed),
    "randint_uint8": lambda seed: random.randint(
        (6,), 5, 300, dtype="uint8", seed=seed
    ),
    "randint_int64": lambda seed: random.randint(
        (3,), 0, 10**12, dtype="int64", seed=seed
    ),
    "randint_all": lambda seed: random.randint(
        (4,), -(2**31), 2**31 - 1, seed=seed
    ),
    "gamma": lambda seed: random.gamma((4,), 2.5, seed=seed),
    "gamma_small": lambda seed: random.gamma((4,), 0.3, seed=seed),
    "beta": lambda seed: random.beta((4,), 0.5, 2.0, seed=seed),
    "binomial_few": lambda seed: random.binomial((6,), 10, 0.3, seed=seed),
    "binomial_many": lambda seed: random.binomial((6,), 1000, 0.7, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(8), seed=seed),
    "categorical": lambda seed: random.categorical(
        np.log(PROBABILITIES).astype("float32"), 5, seed=seed
    ),
    "dropout": lambda seed: random.dropout(
        np.ones((2, 4), "float32"), 0.5, seed=seed
    ),
}

ON_JAX = {
    42: {
        "uniform": [0.56672966, 0.06554866, 0.38167238, 0.71196353],
        "uniform_range": [0.018007562, -0.042134162, -0.004199313, 0.03543563],
        "uniform_float16": [-0.026321411, 0.046325684, -0.015533447]
        + [-0.0209198],
        "uniform_bfloat16": [0.025146484, 0.036376953, 0.012939453]
        + [-0.050048828],
        "uniform_float64": [0.8690484001557932, 0.901331760911924]
        + [0.30670080943601863],
        "normal": [0.16805424, -1.5097888, -0.3010914, 0.55913025],
        "normal_float64": [1.1219041412724307, 1.2891772328404065]
        + [-0.5052238526610089],
        "truncated_normal": [0.16034018, -1.3701739, -0.28699958, 0.5310824],
        "truncated_normal_float64": [1.0461607980244878, 1.1904797607188007]
        + [-0.48033114341870115],
        "randint": [4, 56, 34, 72, 48, 51],
        "randint_uint8": [191, 22, 148, 249, 222, 98],
        "randint_int64": [621567119231, 53273848338, 544633535114],
        "randint_all": [349597137, 1997869472, -1676827840, -1910399680],
        "gamma": [3.1931581, 1.8199635, 1.7563039, 3.6181934],
        "gamma_small": [0.31301278, 0.0005825222, 0.6413647, 0.63137484],
        "beta": [0.024271457, 0.15079321, 0.057646748, 0.06846939],
        "binomial_few": [3, 3, 5, 5, 2, 6],
        "binomial_many": [704, 685, 705, 704, 676, 694],
        "shuffle": [4, 3, 2, 7, 6, 0, 5, 1],
        "categorical": [2, 3, 3, 2, 3, 0, 0, 0, 3, 0],
        "dropout": [0, 2, 2, 0, 0, 2, 2, 2],
    },
    BIG_SEED: {
        "uniform": [0.5088836, 0.2551973, 0.6168885, 0.46543443],
        "uniform_range": [0.0110660335, -0.019376324, 0.024026625]
        + [0.0058521335],
        "uniform_float16": [-0.025848389, 0.023605347, -0.0008883476]
        + [0.036132812],
        "uniform_bfloat16": [0.017333984, -0.035888672, 0.052001953]
        + [0.052001953],
        "normal": [0.022269784, -0.65822333, 0.2973191, -0.08675164],
        "truncated_normal": [0.021256275, -0.6239327, 0.2834135, -0.08279524],
        "randint": [77, 82, 84, 54, 94, 36],
        "randint_uint8": [22, 133, 42, 243, 244, 70],
        "randint_all": [-1931543780, 710923661, -115085124, -2077575257],
        "gamma": [3.235675, 1.7201303, 4.1959844, 1.8496637],
        "gamma_small": [0.00011461196, 0.6661233, 0.06758591, 0.08445468],
        "beta": [0.6316716, 0.1294253, 0.5752323, 0.20361677],
        "binomial_few": [3, 4, 1, 3, 1, 2],
        "binomial_many": [707, 668, 706, 721, 721, 690],
        "shuffle": [3, 0, 5, 4, 2, 6, 1, 7],
        "categorical": [1, 1, 1, 2, 2, 0, 0, 0, 0, 0],
        "dropout": [0, 2, 0, 2, 2, 0, 0, 0],
    },
}

# Rounding differs in logarithms and powers only.
TOLERANCES = {"gamma": 2e-6, "gamma_small": 2e-6, "beta": 2e-6}


@pytest.mark.parametrize(
    "seed,name", [(seed, name) for seed in ON_JAX for name in ON_JAX[seed]]
)
def test_draws_what_jax_draws(seed, name):
    drawn = np.asarray(CALLS[name](seed)).ravel()
    expected = np.array(ON_JAX[seed][name]).astype(drawn.dtype)
    if "uniform" in name or expected.dtype.kind in "iu":
        np.testing.assert_array_equal(drawn, expected)
    else:
        few_ulp = 4 * np.finfo(drawn.dtype).eps
        rtol = TOLERANCES.get(name, few_ulp)
        np.testing.assert_allclose(drawn, expected, rtol=rtol)


def test_parameters_of_64_bits_are_those_of_jax_without():
    jax = pytest.importorskip("jax")
    key = jax.numpy.array([1, 0], "uint32")
    logits = np.log(np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    wanted = jax.random.categorical(
        key, logits[:, :, None], shape=(2, 40), axis=1
    )
    for got in both_ways(lambda x: random.categorical(x, 40, seed=1), logits):
        np.testing.assert_array_equal(got[0], wanted)
    p = np.linspace(0.1, 0.9, 60)
    wanted = jax.random.binomial(key, 30.0, p.astype("float32"), (60,))
    for got in both_ways(lambda p: random.binomial((60,), 30, p, seed=1), p):
        np.testing.assert_array_equal(got[0], wanted)
    wide = random.binomial((60,), 30, p, dtype="float64", seed=1)
    with jax.enable_x64(True):
        wanted = jax.random.binomial(key, 30.0, p, (60,), "float64")
    np.testing.assert_array_equal(wide, wanted)


def on_jax(name, key, shape, *args):
    jax = pytest.importorskip("jax")
    key = jax.numpy.array(key, "uint32")
    return np.asarray(getattr(jax.random, name)(key, *args, shape=shape))


def test_large_draws_of_jax():
    key = (BIG_SEED, 0)
    np.testing.assert_array_equal(
        random.uniform((300, 257), seed=BIG_SEED),
        on_jax("uniform", key, (300, 257)),
    )
    np.testing.assert_allclose(
        random.normal((300, 257), seed=BIG_SEED),
        on_jax("normal", key, (300, 257)),
        rtol=4 * np.finfo(np.float32).eps,
    )
    np.testing.assert_allclose(
        random.gamma((3000,), 0.7, seed=BIG_SEED),
        on_jax("gamma", key, (3000,), 0.7),
        rtol=1e-4,  # 1 + c x may cancel
    )


# ------------------------------------------------------------- distributions

N = 20000
CONTINUOUS = {
    "uniform": (
        lambda: random.uniform((N,), -2.0, 3.0, seed=1),
        stats.uniform(-2, 5),
    ),
    "normal": (
        lambda: random.normal((N,), 1.5, 0.5, seed=2),
        stats.norm(1.5, 0.5),
    ),
    "truncated_normal": (
        lambda: random.truncated_normal((N,), 1.0, 2.0, seed=3),
        stats.truncnorm(-2, 2, 1, 2),
    ),
    "gamma": (lambda: random.gamma((N,), 2.5, seed=4), stats.gamma(2.5)),
    "gamma_small": (lambda: random.gamma((N,), 0.4, seed=5), stats.gamma(0.4)),
    "beta": (lambda: random.beta((N,), 0.5, 2, seed=6), stats.beta(0.5, 2)),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distribution(name):
    draw, distribution = CONTINUOUS[name]
    assert stats.kstest(np.asarray(draw()), distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("count,p", [(10, 0.3), (10, 0.9), (60, 0.5)])
def test_binomial_distribution(count, p):
    drawn = np.asarray(random.binomial((N,), count, p, seed=7)).astype(int)
    expected = N * stats.binom(count, p).pmf(np.arange(count + 1))
    seen = np.bincount(drawn, minlength=count + 1)
    common = expected > 5
    chi2 = np.sum((seen - expected)[common] ** 2 / expected[common])
    assert stats.chi2(common.sum() - 1).sf(chi2) > 1e-3


def test_binomial_of_no_count_is_nan():
    drawn = random.binomial((4,), [np.nan, -1.0, 5.0, 5.0], [0.5, 0.5, 0, 1])
    np.testing.assert_array_equal(drawn, [np.nan, np.nan, 0, 5])


def test_randint_takes_every_value_evenly():
    drawn = np.asarray(random.randint((N,), -3, 4, seed=8))
    seen = np.bincount(drawn + 3, minlength=7)
    assert stats.chisquare(seen).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_randint_of_the_whole_dtype(dtype):
    limits = np.iinfo(dtype)
    drawn = random.randint((N * 20,), limits.min, limits.max + 1, dtype)
    assert len(np.unique(np.asarray(drawn))) > 0.99 * 2**limits.bits


def test_categorical_distribution():
    drawn = random.categorical(np.log(PROBABILITIES), N, seed=9)
    assert drawn.dtype == "int32" and drawn.shape == (2, N)
    for row, probabilities in zip(np.asarray(drawn), PROBABILITIES):
        seen = np.bincount(row, minlength=4)
        expected = N * np.array(probabilities)
        assert stats.chisquare(seen, expected).pvalue > 1e-3


def test_impossible_category_is_never_drawn():
    drawn = random.categorical([[0.0, -np.inf, 0.0]], N, seed=9)
    assert set(np.unique(np.asarray(drawn))) == {0, 2}


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_shuffle_permutes_each_row(axis):
    x = np.arange(300).reshape(3, 100)
    drawn = np.asarray(random.shuffle(x, axis=axis, seed=10))
    assert (drawn != x).any()
    np.testing.assert_array_equal(np.sort(drawn, axis=axis), x)


def test_dropout_keeps_the_mean():
    x = np.random.RandomState(0).rand(100, 200).astype("float32")
    drawn = np.asarray(random.dropout(x, 0.25, seed=11))
    kept = drawn != 0
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_allclose(drawn[kept], (x / 0.75)[kept], rtol=1e-6)
    rows = np.asarray(random.dropout(x, 0.5, noise_shape=(None, 1), seed=1))
    assert set((rows != 0).sum(axis=1)) == {0, 200}


@pytest.mark.parametrize("noise_shape", [(), (3,), (1,), (2, 1), (None, 3)])
def test_dropout_of_a_shape_that_broadcasts(noise_shape):
    x = np.ones((2, 3), "float32")
    for (drawn,) in both_ways(
        lambda x: random.dropout(x, 0.5, noise_shape, seed=1), x, dynamic=False
    ):
        assert drawn.shape == (2, 3) and set(drawn.ravel()) <= {0, 2}


@pytest.mark.parametrize(
    "shape, noise_shape",
    [((2, 3), (2, 1, 5)), ((2, 3), (1, 2, 3)), ((2, 3), (2,))]
    + [((2, 3), (2, 2)), ((1, 3), (2, 3)), ((0, 3), (2, 3))],
)
def test_dropout_of_a_shape_that_does_not_broadcast(shape, noise_shape):
    with pytest.raises(ValueError, match="takes a `noise_shape`"):
        random.dropout(np.ones(shape), 0.5, noise_shape=noise_shape, seed=1)


def test_dropout_of_all_and_nothing():
    x = np.array([1.0, np.nan], "float32")
    np.testing.assert_array_equal(random.dropout(x, 0.0), x)
    np.testing.assert_array_equal(random.dropout(x, 1.0), [0, 0])


# --------------------------------------------------------------------- seeds


def test_seed_generator_goes_on():
    generator = SeedGenerator(BIG_SEED)
    first = np.asarray(random.uniform((4,), seed=generator))
    second = np.asarray(random.uniform((4,), seed=generator))
    expected = np.array(ON_JAX[BIG_SEED]["uniform"], np.float32)
    np.testing.assert_array_equal(first, expected)
    assert (first != second).all()
    np.testing.assert_array_equal(generator.state.value, [BIG_SEED, 2])


def test_unseeded_draws_follow_the_global_seed():
    def draw():
        set_random_seed(3)
        return [np.asarray(random.normal((3,))) for _ in range(2)]

    (first, second), again = draw(), draw()
    assert (first != second).all()
    np.testing.assert_array_equal(again, [first, second])


# ------------------------------------------------------------------ compiled

COMPILED = {
    "uniform": lambda x, seed: random.uniform(
        ops.shape(x), -0.1, 0.3, dtype=x.dtype, seed=seed
    ),
    "normal": lambda x, seed: random.normal(
        ops.shape(x), 1.0, 2.0, dtype=x.dtype, seed=seed
    ),
    "truncated_normal": lambda x, seed: random.truncated_normal(
        ops.shape(x), dtype=x.dtype, seed=seed
    ),
    "gamma": lambda x, seed: random.gamma(
        ops.shape(x), 0.5, dtype=x.dtype, seed=seed
    ),
    "beta": lambda x, seed: random.beta(
        ops.shape(x), 0.5, 3.0, dtype=x.dtype, seed=seed
    ),
    "binomial": lambda x, seed: random.binomial(
        ops.shape(x), 40, 0.5, dtype=x.dtype, seed=seed
    ),
    "categorical": lambda x, seed: random.categorical(x, 9, seed=seed),
    "shuffle": lambda x, seed: random.shuffle(x, axis=1, seed=seed),
    "kept": lambda x, seed: random.dropout(x, 0.4, seed=seed) != 0,
}


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_draws_are_the_eager_ones(name, dtype, dynamic):
    call = COMPILED[name]
    x = np.asarray(ops.cast(np.random.RandomState(0).rand(5, 7), dtype))
    for seed in (3, 2**32 - 1):
        eager = np.asarray(call(ops.convert_to_tensor(x), seed))
        (drawn,) = run_compiled(lambda x: call(x, seed), x, dynamic=dynamic)
        np.testing.assert_array_equal(drawn, eager)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int16", "int64"])
def test_compiled_randint(dtype):
    def call(x):
        return random.randint(ops.shape(x), 3, 100, dtype=dtype, seed=5)

    x = np.zeros((4, 3), "float32")
    (drawn,) = run_compiled(call, x)
    np.testing.assert_array_equal(drawn, call(ops.convert_to_tensor(x)))


@pytest.mark.parametrize("key", [(2**31 + 9, 0), (2**32 - 1, 2**24 + 1)])
def test_key_from_an_input_of_a_compiled_model(key):
    key = np.array(key, np.uint32)
    eager = random.uniform((6,), seed=ops.convert_to_tensor(key))
    (drawn,) = run_compiled(lambda k: random.uniform((6,), seed=k), key)
    np.testing.assert_array_equal(drawn, eager)


def test_seed_generator_is_state_of_a_compiled_function():
    def steps(call, generator):
        x = ops.zeros((3, 4))
        drawn = [np.asarray(call(x)) for _ in range(3)]
        return drawn, np.asarray(generator.state.value)

    eager = SeedGenerator(BIG_SEED)
    compiled = SeedGenerator(BIG_SEED)
    expected = steps(lambda x: x + random.normal((3, 4), seed=eager), eager)
    drawn = steps(
        jit(lambda x: x + random.normal((3, 4), seed=compiled)), compiled
    )
    np.testing.assert_array_equal(drawn[0], expected[0])
    np.testing.assert_array_equal(drawn[1], expected[1])
