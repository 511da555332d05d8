"""`keras.random` on OpenVINO.

What is drawn is a function of the seed, the shape and the dtype: the same
eagerly, in a compiled model and, but for rounding, with Keras on JAX, whose
float64 and 64-bit integers are those of `jax_enable_x64`. OpenVINO's own
`RandomUniform` does not take its seed from the graph, and the CPU plugin has
no exact unsigned integers, so that the numbers come from an operation in
NumPy. Models compiled for the CPU call it back; on other devices seed and
shape must be known when a function is traced.
"""

import operator

import numpy as np

from keras.src.backend.config import floatx
from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino import threefry
from keras.src.backend.openvino.common import canonical_axis
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import numpy_dtype
from keras.src.backend.openvino.dtypes import standardize
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import stack_integers
from keras.src.backend.openvino.tensor import value_of
from keras.src.random.seed_generator import SeedGenerator
from keras.src.random.seed_generator import draw_seed
from keras.src.random.seed_generator import make_default_seed


def _kernel(key, *operands, distribution, dtype, shape, result, **parameters):
    if None in shape:
        *operands, dims = operands
        shape = tuple(dims.tolist())
    draw = getattr(threefry, distribution)
    key, dtype = key.view(np.uint32), numpy_dtype(dtype)
    with np.errstate(all="ignore"):
        drawn = draw(key, shape, dtype, *operands, **parameters)
        return drawn.astype(numpy_dtype(result), copy=False)


def _rule(*specs, shape, result, **parameters):
    return [(result, shape)]


register("Random", _kernel, rule=_rule)

# The distributions that two operands move and stretch, mean and deviation or
# the bounds.
STRETCHED = ("normal", "truncated_normal", "uniform")

# What the CPU plugin takes for these dtypes in its graph.
_IN_A_GRAPH = {
    "bfloat16": "float32",
    "float16": "float32",
    "float64": "float32",
    "int64": "int32",
    "uint32": "int32",
    "uint64": "int32",
}


def _draw(distribution, seed, shape, dtype, *operands, **parameters):
    """A tensor of random numbers.

    Args:
        distribution: the name of a function in `threefry`.
        seed: a tensor with a key, or what `draw_seed` takes.
        shape: a tuple of integers and 0-d integer tensors, or a 1-d tensor.
        dtype: a Keras dtype.
        *operands: tensors that the function takes.
        **parameters: what else it takes; hashable.
    """
    dtype = standardize(dtype)
    dims = _dims(shape)
    static = tuple(None if is_symbolic(dim) else dim for dim in dims)
    inputs = [_key(seed), *operands]
    if None in static:
        inputs.append(stack_integers(dims))
    in_a_graph = any(map(is_symbolic, inputs))
    drawn = apply(
        "Random",
        *inputs,
        distribution=distribution,
        dtype=dtype,
        shape=static,
        result=_IN_A_GRAPH.get(dtype, dtype) if in_a_graph else dtype,
        **parameters,
    )
    return cast(drawn, dtype)


def _dims(shape):
    """The dims of a shape: integers, and symbolic 0-d tensors."""
    if not isinstance(shape, (list, tuple)):
        shape = convert_to_tensor(shape)
        shape = [shape] if shape.ndim == 0 else list(shape)
    dims = [x if is_symbolic(x) else operator.index(x) for x in shape]
    if any(dim < 0 for dim in dims if isinstance(dim, int)):
        raise ValueError(
            blaming(f"a shape has dims of 0 or more. Received: shape={shape}")
        )
    return dims


def _key(seed):
    if not isinstance(seed, OpenVINOKerasTensor):
        seed = draw_seed(seed)
    if is_symbolic(seed):
        return seed
    # The CPU plugin saturates a uint32 Constant, but not a uint32 Parameter.
    return concrete(value_of(cast(seed, "uint32")).view(np.int32))


def beta(shape, alpha, beta, dtype=None, seed=None):
    dtype = dtype or floatx()
    alpha, beta = (convert_to_tensor(x, dtype) for x in (alpha, beta))
    return _draw("beta", seed, shape, dtype, alpha, beta)


def binomial(shape, counts, probabilities, dtype=None, seed=None):
    dtype = standardize(dtype)
    probabilities = _parameter(probabilities, dtype)
    counts = convert_to_tensor(counts)
    return _draw("binomial", seed, shape, dtype, counts, probabilities)


def _parameter(x, dtype):
    """`x` as floats that an op which gives a dtype computes with.

    Those of 64 bits take other draws. On JAX there are none unless they are
    asked for, and here they are where the result has them.
    """
    x = convert_to_tensor(x)
    if not is_float(x.dtype):
        return cast(x, floatx())
    is_too_wide = x.dtype == "float64" != dtype
    return cast(x, "float32") if is_too_wide else x


def categorical(logits, num_samples, dtype="int32", seed=None):
    logits = _parameter(logits, floatx())
    batch, classes = dims_of(logits)
    noise = _draw("gumbel", seed, (batch, classes, num_samples), logits.dtype)
    scores = noise + logits[:, :, None]
    return cast(ops.argmax(scores, axis=1), dtype)


def dropout(inputs, rate, noise_shape=None, seed=None):
    inputs = convert_to_tensor(inputs)
    zeros = convert_to_tensor(0, inputs.dtype)
    if rate == 0:
        return inputs
    if rate == 1:
        return ops.zeros_like(inputs)
    dims = dims_of(inputs)
    if noise_shape is not None:
        dims = _noise_dims(inputs, noise_shape)
    keep = 1.0 - rate
    mask = uniform(dims, dtype="float32", seed=seed) < keep
    return ops.where(mask, inputs / keep, zeros)


def _noise_dims(x, noise_shape):
    """The dims of a mask for `x`; where they are `None`, those of `x`."""
    dims = _dims(
        [d if n is None else n for d, n in zip(dims_of(x), noise_shape)]
    )
    known = [
        (n, d)
        for n, d in zip(reversed(dims), reversed(x.shape))
        if isinstance(n, int) and d is not None
    ]
    if len(noise_shape) > x.ndim or any(n not in (1, d) for n, d in known):
        raise ValueError(
            "`dropout` takes a `noise_shape` that broadcasts to the shape of "
            f"its inputs. Received: noise_shape={noise_shape}, "
            f"inputs.shape={x.shape}"
        )
    return dims


def gamma(shape, alpha, dtype=None, seed=None):
    dtype = dtype or floatx()
    return _draw("gamma", seed, shape, dtype, convert_to_tensor(alpha, dtype))


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    dtype = dtype or floatx()
    mean, stddev = (convert_to_tensor(x, dtype) for x in (mean, stddev))
    return _draw("normal", seed, shape, dtype, mean, stddev)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    bounds = [convert_to_tensor(x) for x in (minval, maxval)]
    bounds = [cast(x, "int64") if is_float(x.dtype) else x for x in bounds]
    return _draw("randint", seed, shape, dtype or "int32", *bounds)


def shuffle(x, axis=0, seed=None):
    x = convert_to_tensor(x)
    axis = canonical_axis(axis, x.ndim)
    indices = _draw("permutation", seed, dims_of(x), "int32", axis=axis)
    return apply("GatherElements", x, indices, axis=axis)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    dtype = dtype or floatx()
    mean, stddev = (convert_to_tensor(x, dtype) for x in (mean, stddev))
    return _draw("truncated_normal", seed, shape, dtype, mean, stddev)


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    dtype = dtype or floatx()
    low, high = (convert_to_tensor(x, dtype) for x in (minval, maxval))
    return _draw("uniform", seed, shape, dtype, low, high)
