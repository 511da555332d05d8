"""What is cut from arguments, and from what comes of them."""

import numpy as np
import pytest

from keras.src import layers
from keras.src import ops
from keras.src.backend.openvino import graph
from keras.src.backend.openvino.lengths import are_prefixes
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

X = normal(2, 9, 4)


def table(n, width):
    return ops.convert_to_tensor(normal(n, width, seed=1))


def places(x):
    return ops.arange(ops.shape(x)[1])


def attended(x):
    mask = places(x)[:, None] >= places(x)[None]
    scores = ops.einsum("btd,bsd->bts", x, x)
    return ops.softmax(ops.where(mask, scores, -1e9)) @ x


def embedded(x):
    rows = ops.slice(table(30, 4), (0, 0), (ops.shape(x)[1], 4))
    return x + ops.broadcast_to(rows, ops.shape(x))


def rotated(x):
    angles = ops.cast(places(x), "float32")[:, None] * 0.3
    angles = ops.concatenate([angles, -angles], axis=-1)
    return x * ops.cos(ops.tile(angles, (1, 2)))


def filled(x):
    cache = ops.zeros((ops.shape(x)[0], 2, ops.shape(x)[1], 4))
    new = ops.slice_update(cache[:, 1], (0, 0, 0), ops.matmul(x, table(4, 4)))
    return ops.stack([cache[:, 0], new], axis=1)[:, 1]


def in_heads(x):
    batch, length = ops.shape(x)[:2]
    x = ops.reshape(x, (batch, length, 2, 2))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2)), (batch, length, -1))


def normalised(x):
    return layers.LayerNormalization()(x)


def counted(x):
    """As ALiBi counts the positions that a mask of ones leaves."""
    count = ops.cumsum(ops.ones(ops.shape(x)[:2]), axis=-1) - 1
    return x * count[..., None]


def by_known_dims(x):
    pairs = ops.stack([places(x), places(x) * 2], axis=-1)
    return x * ops.cast(ops.max(pairs, axis=-1), x.dtype)[:, None]


CUT = [
    attended,
    embedded,
    rotated,
    filled,
    in_heads,
    normalised,
    counted,
    by_known_dims,
]


def scaled(x):
    """As a rotary embedding that has other factors for long texts."""
    factor = ops.where(ops.shape(x)[1] > 5, 2.0, 1.0)
    return x * factor


def from_the_end(x):
    """As the bias of ALiBi, which softmax makes the same again."""
    return x * ops.cast(places(x) - ops.shape(x)[1], x.dtype)[:, None]


def by_the_last(x):
    return x / ops.cast(ops.max(places(x)) + 1, x.dtype)


def reversed_places(x):
    return x * ops.cast(places(x)[::-1], x.dtype)[:, None]


def averaged_places(x):
    return x + ops.mean(ops.cast(places(x), x.dtype))


def counted_from_the_end(x):
    ones = ops.ones(ops.shape(x)[:2])
    return x * ops.flip(ops.cumsum(ones, axis=-1), axis=-1)[..., None]


def last_rows(x):
    rows = ops.slice(table(30, 4), (30 - ops.shape(x)[1], 0), ops.shape(x)[1:])
    return x + rows


def looped(x):
    return ops.fori_loop(0, ops.shape(x)[1], lambda i, y: y * 1.5, x)


WHOLE = [
    scaled,
    from_the_end,
    by_the_last,
    reversed_places,
    averaged_places,
    counted_from_the_end,
    last_rows,
    looped,
]


def verdict(function):
    model = trace(function, X, dynamic=(0, 1))
    outputs = [x.input_value(0) for x in model.get_results()]
    inputs = [x.output(0) for x in model.get_parameters()]
    return are_prefixes(outputs, inputs)


def is_prefix(function):
    """Whether it is, of X."""
    (whole,) = run_compiled(function, X, dynamic=(0, 1))
    cuts = [run_compiled(function, X[:, :n], dynamic=(0, 1))[0] for n in (1, 4)]
    return all(
        np.allclose(whole[:, : cut.shape[1]], cut, 1e-5, 1e-6) for cut in cuts
    )


@pytest.mark.parametrize("function", CUT)
def test_what_can_be_cut(function):
    assert is_prefix(function)
    assert verdict(function)


@pytest.mark.parametrize("function", WHOLE)
def test_what_looks_at_the_length(function):
    assert not is_prefix(function)
    assert not verdict(function)


def test_the_length_itself():
    x = graph.parameter("float32", (None, None))
    shape = graph.node("ShapeOf", [x], {"output_type": "i32"}).output(0)
    assert not are_prefixes([shape], [x])
    assert are_prefixes([x], [x])
