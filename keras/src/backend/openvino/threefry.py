"""Random numbers as a function of a key, in NumPy.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel Random
Numbers: As Easy as 1, 2, 3", 2011). Keys, counters and what becomes of the
bits are laid out as JAX lays them out (`jax_threefry_partitionable`, its
default), so that a key gives the same draws here and there.

A key is a pair of uint32 words. Where a function takes `keys` it takes a
`(n, 2)` array of them and draws one number from each.
"""

import math

import ml_dtypes
import numpy as np

from keras.src.backend.openvino.dtypes import HALVES

# To the left by the first number of bits is to the right by the second.
_ROTATIONS = [
    [(np.uint32(left), np.uint32(32 - left)) for left in rotations]
    for rotations in ((13, 15, 26, 6), (17, 29, 16, 24))
]
_PARITY = np.uint32(0x1BD11BDA)

# Numbers that are drawn at a time. Of 2**12 to 2**20, those from 2**15 to
# 2**16 are the fastest: the words of a block stay in the cache.
_BLOCK = 2**15


# ----------------------------------------------------------------- generator


def _hash(key0, key1, count0, count1):
    """Threefry-2x32 of two uint32 arrays of counters, in their place."""
    schedule = (key0, key1, key0 ^ key1 ^ _PARITY)
    shifted = np.empty_like(count1)
    count0 += key0
    count1 += key1
    for i in range(5):
        for left, right in _ROTATIONS[i % 2]:
            count0 += count1
            np.left_shift(count1, left, out=shifted)
            count1 >>= right
            count1 |= shifted
            count1 ^= count0
        count0 += schedule[(i + 1) % 3]
        count1 += schedule[(i + 2) % 3]
        count1 += np.uint32(i + 1)
    return count0, count1


def _words(key, start, stop):
    """The two words of each counter from `start` to `stop`."""
    count = np.arange(start, stop, dtype=np.uint64)
    high = (count >> np.uint64(32)).astype(np.uint32)
    return _hash(key[0], key[1], high, count.astype(np.uint32))


def split(key, number=2):
    """`number` new keys from one: a `(number, 2)` array."""
    return np.stack(_words(key, 0, number), axis=-1)


def _split_each(keys, number=2):
    """`number` new keys from each: a list of `(n, 2)` arrays."""
    new = []
    for index in range(number):
        count = np.full(len(keys), index, np.uint32)
        words = _hash(keys[:, 0], keys[:, 1], np.zeros_like(count), count)
        new.append(np.stack(words, axis=-1))
    return new


def _to_bits(words, width):
    high, low = words
    if width == 64:
        return high.astype(np.uint64) << np.uint64(32) | low
    high ^= low
    return high.astype(f"uint{width}", copy=False)


def bits(key, shape, width):
    """Uniform unsigned integers of `width` bits."""
    return _draw(key, shape, f"uint{width}", width, lambda x: x)


def _draw(key, shape, dtype, width, transform):
    """The array of `transform` of random bits, a block at a time."""
    drawn = np.empty(math.prod(shape), dtype)
    for start in range(0, drawn.size, _BLOCK):
        stop = min(start + _BLOCK, drawn.size)
        words = _words(key, start, stop)
        drawn[start:stop] = transform(_to_bits(words, width))
    return drawn.reshape(shape)


# ------------------------------------------------------------------- uniform


def _width(dtype):
    """How many random bits a float takes: bfloat16 has 7 in its mantissa."""
    return 8 if dtype.name == "bfloat16" else 8 * dtype.itemsize


def _unit(bits, dtype):
    """Floats in [0, 1) with the top bits of `bits` as their mantissa."""
    unsigned = np.dtype(f"uint{8 * dtype.itemsize}")
    mantissa = ml_dtypes.finfo(dtype).nmant
    shift = 8 * bits.itemsize - mantissa
    fraction = (bits >> bits.dtype.type(shift)).astype(unsigned, copy=False)
    fraction |= np.ones((), dtype).view(unsigned)
    return fraction.view(dtype) - dtype.type(1)


# Where JAX multiplies and adds with one rounding, and the dtype to do so in.
_FUSED = {"float16": np.float32, "float32": np.float64}


def _multiply_add(x, y, z):
    """`x * y + z`, rounded as JAX does on a CPU."""
    wide = _FUSED.get(x.dtype.name, x.dtype)
    total = x.astype(wide, copy=False) * y.astype(wide, copy=False) + z
    return total.astype(x.dtype, copy=False)


def _scale(unit, low, high):
    """Numbers in [0, 1) brought to [low, high)."""
    return np.maximum(low, _multiply_add(unit, high - low, low))


def uniform(key, shape, dtype, low, high):
    """Floats in [low, high)."""
    width = _width(dtype)
    low, high = np.asarray(low, dtype), np.asarray(high, dtype)
    if low.ndim == high.ndim == 0:
        return _draw(
            key,
            shape,
            dtype,
            width,
            lambda bits: _scale(_unit(bits, dtype), low, high),
        )
    unit = _draw(key, shape, dtype, width, lambda bits: _unit(bits, dtype))
    return _scale(unit, low, high)


def _uniform_each(keys, dtype):
    zeros = np.zeros((2, len(keys)), np.uint32)
    words = _hash(keys[:, 0], keys[:, 1], *zeros)
    return _unit(_to_bits(words, _width(dtype)), dtype)


# -------------------------------------------------------------------- normal

# M. Giles, "Approximating the erfinv function" (2010): where -log(1 - x**2)
# is below the bound, a polynomial in the argument, highest power first.
_ERF_INV = {
    "float32": (
        (
            5.0,
            lambda w: w - 2.5,
            (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06)
            + (0.00021858087, -0.00125372503, -0.00417768164, 0.246640727)
            + (1.50140941,),
        ),
        (
            np.inf,
            lambda w: np.sqrt(w) - 3.0,
            (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844)
            + (0.00573950773, -0.0076224613, 0.00943887047, 1.00167406)
            + (2.83297682,),
        ),
    ),
    "float64": (
        (
            6.25,
            lambda w: w - 3.125,
            (-3.6444120640178196996e-21, -1.685059138182016589e-19)
            + (1.2858480715256400167e-18, 1.115787767802518096e-17)
            + (-1.333171662854620906e-16, 2.0972767875968561637e-17)
            + (6.6376381343583238325e-15, -4.0545662729752068639e-14)
            + (-8.1519341976054721522e-14, 2.6335093153082322977e-12)
            + (-1.2975133253453532498e-11, -5.4154120542946279317e-11)
            + (1.051212273321532285e-09, -4.1126339803469836976e-09)
            + (-2.9070369957882005086e-08, 4.2347877827932403518e-07)
            + (-1.3654692000834678645e-06, -1.3882523362786468719e-05)
            + (0.0001867342080340571352, -0.00074070253416626697512)
            + (-0.0060336708714301490533, 0.24015818242558961693)
            + (1.6536545626831027356,),
        ),
        (
            16.0,
            lambda w: np.sqrt(w) - 3.25,
            (2.2137376921775787049e-09, 9.0756561938885390979e-08)
            + (-2.7517406297064545428e-07, 1.8239629214389227755e-08)
            + (1.5027403968909827627e-06, -4.013867526981545969e-06)
            + (2.9234449089955446044e-06, 1.2475304481671778723e-05)
            + (-4.7318229009055733981e-05, 6.8284851459573175448e-05)
            + (2.4031110387097893999e-05, -0.0003550375203628474796)
            + (0.00095328937973738049703, -0.0016882755560235047313)
            + (0.0024914420961078508066, -0.0037512085075692412107)
            + (0.005370914553590063617, 1.0052589676941592334)
            + (3.0838856104922207635,),
        ),
        (
            np.inf,
            lambda w: np.sqrt(w) - 5.0,
            (-2.7109920616438573243e-11, -2.5556418169965252055e-10)
            + (1.5076572693500548083e-09, -3.7894654401267369937e-09)
            + (7.6157012080783393804e-09, -1.4960026627149240478e-08)
            + (2.9147953450901080826e-08, -6.7711997758452339498e-08)
            + (2.2900482228026654717e-07, -9.9298272942317002539e-07)
            + (4.5260625972231537039e-06, -1.9681778105531670567e-05)
            + (7.5995277030017761139e-05, -0.00021503011930044477347)
            + (-0.00013871931833623122026, 1.0103004648645343977)
            + (4.8499064014085844221,),
        ),
    ),
}


def _polynomial(x, coefficients):
    """Horner's scheme in the dtype of `x`."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value


def erf_inv(x):
    """The inverse of the error function on (-1, 1)."""
    if x.dtype.name in HALVES:
        return erf_inv(x.astype(np.float32)).astype(x.dtype)
    # The square is rounded first, as JAX does: the tails differ otherwise.
    w = -np.log(1 - x * x)
    (bound, argument, coefficients), *tails = _ERF_INV[x.dtype.name]
    value = _polynomial(argument(w), coefficients)
    for tail, argument, coefficients in tails:
        where = np.flatnonzero((w >= bound) & (w < tail))
        value.flat[where] = _polynomial(argument(w.flat[where]), coefficients)
        bound = tail
    return value * x


def _normal_of(bits, dtype):
    low = np.nextafter(dtype.type(-1), dtype.type(0))
    unit = _scale(_unit(bits, dtype), low, dtype.type(1))
    return erf_inv(unit) * dtype.type(math.sqrt(2))


def normal(key, shape, dtype, mean, stddev):
    """Floats of the normal distribution."""
    sample = _draw(
        key, shape, dtype, _width(dtype), lambda bits: _normal_of(bits, dtype)
    )
    return sample * stddev.astype(dtype) + mean.astype(dtype)


def _normal_each(keys, dtype):
    zeros = np.zeros((2, len(keys)), np.uint32)
    words = _hash(keys[:, 0], keys[:, 1], *zeros)
    return _normal_of(_to_bits(words, _width(dtype)), dtype)


def truncated_normal(key, shape, dtype, mean, stddev):
    """Floats of the normal distribution within two standard deviations."""
    two, root = dtype.type(2), dtype.type(math.sqrt(2))
    bound = dtype.type(math.erf(two / root))
    largest = np.nextafter(two, dtype.type(0))

    def transform(bits):
        unit = _scale(_unit(bits, dtype), -bound, bound)
        return np.clip(erf_inv(unit) * root, -largest, largest)

    sample = _draw(key, shape, dtype, _width(dtype), transform)
    return sample * stddev.astype(dtype) + mean.astype(dtype)


def gumbel(key, shape, dtype):
    """Floats of the standard Gumbel distribution."""
    smallest = ml_dtypes.finfo(dtype).smallest_normal.astype(dtype)

    def transform(bits):
        unit = _scale(_unit(bits, dtype), smallest, dtype.type(1))
        return -np.log(-np.log(unit))

    return _draw(key, shape, dtype, _width(dtype), transform)


# ------------------------------------------------------------------ integers


def randint(key, shape, dtype, low, high):
    """Integers in [low, high), from 64 random bits or more.

    `low` where `high` is not above it.
    """
    limits = np.iinfo(dtype)
    sampled = dtype if limits.bits >= 32 else np.dtype(np.int32)
    width = 8 * sampled.itemsize
    unsigned = np.dtype(f"uint{width}")
    beyond = high > limits.max
    low, high = _clip(low, limits), _clip(high, limits)
    empty = high <= low
    low, high = (x.astype(sampled).view(unsigned) for x in (low, high))
    # A span of all numbers wraps to 0: no remainder is taken then.
    span = np.where(empty, unsigned.type(1), high - low + (beyond & ~empty))
    half = _remainder(unsigned.type(2 ** (width // 2)), span)
    multiplier = _remainder(half * half, span)
    upper, lower = (bits(k, shape, width) for k in split(key))
    offset = _remainder(upper, span) * multiplier + _remainder(lower, span)
    return (low + _remainder(offset, span)).view(sampled).astype(dtype)


def _clip(x, limits):
    own = np.iinfo(x.dtype)
    x = np.clip(x, max(limits.min, own.min), min(limits.max, own.max))
    return np.asarray(x, limits.dtype)


def _remainder(x, span):
    return np.where(span == 0, x, x % np.maximum(span, span.dtype.type(1)))


def permutation(key, shape, dtype, axis):
    """Indices along `axis` of `shape` that shuffle each row on its own.

    They are sorted by random keys, as often as makes equal keys harmless.
    """
    size = math.prod(shape)
    rounds = math.ceil(3 * math.log(max(1, size)) / math.log(2**32 - 1))
    along = [1] * len(shape)
    along[axis] = shape[axis]
    indices = np.arange(shape[axis], dtype=dtype).reshape(along)
    indices = np.broadcast_to(indices, shape)
    for _ in range(rounds):
        key, subkey = split(key)
        order = np.argsort(bits(subkey, shape, 32), axis=axis, kind="stable")
        indices = np.take_along_axis(indices, order, axis=axis)
    return indices


# ------------------------------------------------------------ by rejection


def gamma(key, shape, dtype, alpha):
    """Floats of the gamma distribution with rate 1."""
    alpha = np.broadcast_to(alpha, shape).astype(dtype).ravel()
    core, scale, keys = _marsaglia_tsang(key, alpha, dtype)
    unit = 1 - _uniform_each(keys, dtype)
    boost = np.where(alpha >= 1, 1, unit ** (1 / alpha))
    return (scale * core * boost).astype(dtype).reshape(shape)


def log_gamma(key, shape, dtype, alpha):
    """The logarithm of what `gamma` draws, which does not underflow."""
    alpha = np.broadcast_to(alpha, shape).astype(dtype).ravel()
    core, scale, keys = _marsaglia_tsang(key, alpha, dtype)
    log_unit = np.log1p(-_uniform_each(keys, dtype))
    boost = np.where((alpha >= 1) | (log_unit == 0), 0, log_unit / alpha)
    log = np.log(scale) + np.log(core) + boost
    return log.astype(dtype).reshape(shape)


def _marsaglia_tsang(key, alpha, dtype):
    """Draws `core` so that `scale * core` is of Gamma(max(alpha, alpha + 1)).

    G. Marsaglia and W. W. Tsang, "A Simple Method for Generating Gamma
    Variables" (2000). Each number has a key of its own, so that how often one
    is rejected does not change the others.

    Returns:
        `(core, scale, keys)`, with a fresh key for each number.
    """
    third = dtype.type(1 / 3)
    scale = np.where(alpha >= 1, alpha, alpha + 1).astype(dtype) - third
    slope = third / np.sqrt(scale)
    keys, fresh = _split_each(split(key, len(alpha)))
    core = np.ones_like(alpha)
    left = np.arange(len(alpha))
    while left.size:
        keys, normal_keys, uniform_keys = _split_each(keys, 3)
        x, v = _positive(normal_keys, slope[left], dtype)
        square, cube = x * x, v * v * v
        unit = _uniform_each(uniform_keys, dtype)
        core[left] = cube
        bound = square / 2 + scale[left] * (1 - cube + np.log(cube))
        rejected = unit >= 1 - dtype.type(0.0331) * (square * square)
        rejected &= np.log(unit) >= bound
        left, keys = left[rejected], keys[rejected]
    return core, scale, fresh


def _positive(keys, slope, dtype):
    """Normal numbers `x`, and `1 + slope * x`, drawn until it is positive."""
    x, v = np.empty((2, len(keys)), dtype)
    left = np.arange(len(keys))
    while left.size:
        keys, subkeys = _split_each(keys)
        x[left] = _normal_each(subkeys, dtype)
        v[left] = _multiply_add(x[left], slope[left], dtype.type(1))
        again = v[left] <= 0
        left, keys = left[again], keys[again]
    return x, v


def beta(key, shape, dtype, alpha, beta):
    """Floats of the beta distribution."""
    key_alpha, key_beta = split(key)
    log_a = log_gamma(key_alpha, shape, dtype, alpha)
    log_b = log_gamma(key_beta, shape, dtype, beta)
    largest = np.maximum(log_a, log_b)
    a, b = np.exp(log_a - largest), np.exp(log_b - largest)
    return a / (a + b)


def binomial(key, shape, dtype, counts, probabilities):
    """Floats that count the successes of `counts` trials; NaN for no counts.

    Where few successes are expected by inversion, else by rejection.
    """
    counts = np.broadcast_to(counts.astype(probabilities.dtype), shape)
    p = np.broadcast_to(probabilities, shape)
    rare = p < 0.5
    q = np.where(rare, p, 1 - p)
    valid = (counts >= 0) & (q >= 0)
    infinite = np.isinf(counts)
    q = np.where(q >= 0, q, q.dtype.type(0.01))
    few = ~(counts >= 0) | (counts * q <= 10)
    counts = np.floor(counts)
    drawn = np.empty_like(counts)
    if few.any():
        drawn = _inversion(key, np.where(few, counts, 0), q)
    if not few.all():
        many = _btrs(key, np.where(few, 10000, counts), np.where(few, 0.5, q))
        drawn = np.where(few, drawn, many)
    drawn = np.where(rare, drawn, counts - drawn)
    drawn = np.where(infinite, np.inf, drawn)
    return np.where(valid, drawn, np.nan).astype(dtype)


def _inversion(key, counts, p):
    """Binomial numbers: how many geometric waiting times fit `counts`."""
    successes, waited = np.zeros((2, *counts.shape), p.dtype)
    log_failure = np.log1p(-p)
    zero, one = np.zeros((), p.dtype), np.ones((), p.dtype)
    while np.any(waited <= counts):
        successes += waited <= counts
        subkey, key = split(key)
        unit = uniform(subkey, counts.shape, p.dtype, zero, one)
        waited += np.ceil(np.log(unit) / log_failure)
    return successes - 1


def _btrs(key, counts, p):
    """Binomial numbers by transformed rejection with squeeze.

    W. Hoermann, "The generation of binomial random variates" (1993).
    """
    zero, one = np.zeros((), p.dtype), np.ones((), p.dtype)
    counts, p = counts.astype(p.dtype), p.astype(p.dtype)
    stddev = np.sqrt(counts * p * (1 - p))
    b = 1.15 + 2.53 * stddev
    a = -0.0873 + 0.0248 * b + 0.01 * p
    center = counts * p + 0.5
    squeeze = 0.92 - 4.2 / b
    odds = p / (1 - p)
    alpha = (2.83 + 5.1 / b) * stddev
    mode = np.floor((counts + 1) * p)
    at_mode = (mode + 0.5) * np.log((mode + 1) / (odds * (counts - mode + 1)))
    at_mode += _stirling_tail(mode) + _stirling_tail(counts - mode)
    drawn = np.full_like(p, -1)
    accepted = np.zeros(p.shape, bool)
    while not accepted.all():
        key, key_u, key_v = split(key, 3)
        u = uniform(key_u, p.shape, p.dtype, zero, one) - p.dtype.type(0.5)
        v = uniform(key_v, p.shape, p.dtype, zero, one)
        distance = 0.5 - np.abs(u)
        k = np.floor((2 * a / distance + b) * u + center)
        inside = (distance >= 0.07) & (v <= squeeze)
        height = np.log(v * alpha / (a / (distance * distance) + b))
        rest = counts - k + 1
        bound = (
            at_mode
            + (counts + 1) * np.log((counts - mode + 1) / rest)
            + (k + 0.5) * np.log(odds * rest / (k + 1))
            - _stirling_tail(k)
            - _stirling_tail(counts - k)
        )
        accept = (k >= 0) & (k <= counts) & (height <= bound) | inside
        drawn = np.where(accept, k, drawn)
        accepted |= accept
    return drawn


_STIRLING_TAILS = np.array(
    [
        math.lgamma(k + 1)
        - (k + 0.5) * math.log(k + 1)
        + (k + 1)
        - math.log(2 * math.pi) / 2
        for k in range(10)
    ]
)


def _stirling_tail(k):
    """What Stirling's formula lacks to log k!."""
    index = np.clip(np.nan_to_num(k), 0, 9).astype(int)
    few = _STIRLING_TAILS.astype(k.dtype)[index]
    square = (k + 1) * (k + 1)
    many = (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)
    return np.where(k <= 9, few, many)
