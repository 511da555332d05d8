"""Decoders with caches of keys and values, as KerasHub writes them."""

import itertools

import numpy as np
import pytest

import keras_vino
from keras.src import layers
from keras.src import ops
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import check as check_both
from keras.src.backend.openvino.testing import made_stages
from keras.src.backend.openvino.testing import normal
from keras.src.backend.openvino.testing import runtime_types

LAYERS, HEADS, SIZE, WIDTH, WORDS = 3, 4, 8, 32, 11
OPEN = [(None, None)]


class Decoder:
    """A small language model that is asked for one word after another.

    Args:
        groups: how many heads of the queries share one of keys and values.
        attend: from scores and a bool mask to weights.
        take: from the caches of all layers to the one of a layer.
    """

    def __init__(self, groups=1, attend=None, take=None):
        rng = np.random.default_rng(0)

        def weights(*shape):
            x = rng.normal(size=shape) / np.sqrt(shape[0])
            return ops.convert_to_tensor(x.astype("float32"))

        self.groups, self.attend, self.take = groups, attend, take
        self.kv_heads = HEADS // groups
        self.words = weights(WORDS, WIDTH) * 4.0
        self.query = [weights(WIDTH, HEADS, SIZE) for _ in range(LAYERS)]
        self.key, self.value = (
            [weights(WIDTH, self.kv_heads, SIZE) for _ in range(LAYERS)]
            for _ in range(2)
        )
        self.out = [weights(HEADS, SIZE, WIDTH) for _ in range(LAYERS)]

    def attention(self, i, x, cache, index):
        query = ops.einsum("btw,wnh->btnh", x, self.query[i]) * SIZE**-0.5
        start = [0, index, 0, 0]
        key, value = (
            ops.slice_update(
                cache[:, j], start, ops.einsum("btw,wnh->btnh", x, w[i])
            )
            for j, w in enumerate((self.key, self.value))
        )
        cache = ops.stack((key, value), axis=1)
        key, value = (ops.repeat(x, self.groups, axis=2) for x in (key, value))
        scores = ops.einsum("btnh,bsnh->bnts", query, key)
        steps = ops.shape(x)[1]
        reach = ops.arange(steps)[:, None] + index
        mask = ops.arange(ops.shape(key)[1])[None] <= reach
        mask = mask[None, None]
        weights = (self.attend or attend)(scores, mask)
        x = ops.einsum("bnts,bsnh->btnh", weights, value)
        return ops.einsum("btnh,nhw->btw", x, self.out[i]), cache

    def call(self, words, cache, index):
        x, caches = ops.take(self.words, words, axis=0), []
        for i in range(LAYERS):
            own = self.take(cache, i) if self.take else cache[:, i]
            y, own = self.attention(i, x, own, index)
            x = x + y
            caches.append(own)
        return ops.einsum("btw,vw->btv", x, self.words), ops.stack(caches, 1)

    def begun(self, prompt):
        """The caches that hold a prompt."""
        batch, length = ops.shape(prompt)
        shape = (batch, LAYERS, 2, length, self.kv_heads, SIZE)
        return self.call(prompt, ops.zeros(shape, "float32"), 0)[1]

    def generate(self, prompt, count, stride=1):
        def step(prompt, cache, index):
            words = ops.slice(prompt, [0, index - 1], [ops.shape(prompt)[0], 1])
            scores, cache = self.call(words, cache, index - 1)
            best = ops.cast(ops.argmax(scores, axis=-1), "int32")
            prompt = ops.slice_update(prompt, [0, index], best)
            return prompt, cache, index + stride

        return ops.while_loop(
            lambda prompt, cache, index: index < ops.shape(prompt)[1],
            step,
            (prompt, self.begun(prompt), count),
        )


def attend(scores, mask):
    return layers.Softmax()(scores, mask=mask)


def add_large(scores, mask):
    return ops.softmax(ops.where(mask, scores, -1e9))


def capped(scores, mask):
    """As Gemma 2 has it, for which no node of OpenVINO is there."""
    return add_large(ops.tanh(scores / 5.0) * 5.0, mask)


def scaled(scores, mask):
    return attend(scores * 0.3, mask)


def prompt_of(batch, count, length):
    rng = np.random.default_rng(length)
    prompt = np.zeros((batch, length), "int32")
    prompt[:, :count] = rng.integers(0, WORDS, (batch, count))
    return prompt, np.array(count, "int32")


@pytest.fixture
def made(monkeypatch):
    return made_stages(monkeypatch)


def types_of_step(made):
    """The types of the nodes that the step of the last one was compiled to."""
    return runtime_types(made[-1]._step._compiled)


def check(function, *shape):
    """Compares words that a staged function gives with those of steps."""
    arrays = prompt_of(*shape)
    eager = arrays[0].copy()
    expected = np.asarray(function.__self__.generate(*arrays)[0])
    assert not np.array_equal(expected, eager)
    staged = jit(lambda *args: function(*args)[0], OPEN, is_causal=True)
    np.testing.assert_array_equal(staged(*arrays), expected)
    return staged


FUSED = "ScaledDotProductAttention"


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("attend", [attend, add_large, scaled])
def test_attention_over_caches_is_one_node(made, groups, attend):
    check(Decoder(groups, attend).generate, 2, 4, 12)
    types = types_of_step(made)
    assert types.count(FUSED) == LAYERS
    assert types.count("MemoryInput") == 2 * LAYERS


@pytest.mark.parametrize("precision", ["f16", "bf16", "u8"])
def test_caches_of_another_precision(made, precision):
    with keras_vino.configured(KV_CACHE_PRECISION=precision):
        check(Decoder().generate, 2, 4, 12)
    assert types_of_step(made).count(FUSED) == LAYERS


def test_attention_of_another_kind_is_computed_as_it_stands(made):
    check(Decoder(1, capped).generate, 2, 4, 12)
    types = types_of_step(made)
    assert FUSED not in types
    assert types.count("MemoryInput") == 2 * LAYERS


def test_one_variant_is_for_all_lengths_and_batches(made):
    decoder = Decoder()
    staged = check(decoder.generate, 1, 1, 5)
    for shape in ((1, 3, 9), (4, 2, 30), (2, 30, 31), (3, 1, 7), (1, 1, 2)):
        arrays = prompt_of(*shape)
        expected = decoder.generate(*arrays)[0]
        np.testing.assert_array_equal(staged(*arrays), expected)
    assert len(made) == 1


def lengths_filled(made, staged, *cases):
    """How many positions are computed for the caches, case by case."""
    prompt, lengths = made[-1]._caches._prompt, []
    inputs = prompt.inputs

    def noted(*args):
        size, given = inputs(*args)
        first = next(given)
        lengths.append(first[0].shape[1])
        return size, itertools.chain([first], given)

    prompt.inputs = noted
    for case in cases:
        staged(*prompt_of(*case))
    return lengths


def test_caches_are_filled_from_the_prompt_alone(made):
    decoder = Decoder()
    staged = check(decoder.generate, 2, 4, 12)
    cases = [(2, 5, 12), (1, 3, 11), (1, 1, 9), (2, 7, 20), (2, 7, 20)]
    # The last word of a prompt is for the first step. Of a length that is
    # longer than all before, everything is computed once.
    assert lengths_filled(made, staged, *cases) == [4, 2, 1, 20, 6]
    for case in cases:
        arrays = prompt_of(*case)
        expected = decoder.generate(*arrays)[0]
        np.testing.assert_array_equal(staged(*arrays), expected)


def test_weights_of_prompt_and_step_are_in_one_model(made):
    decoder = Decoder()
    check(decoder.generate, 2, 4, 12)
    lists = (decoder.query, decoder.key, decoder.value, decoder.out)
    tensors = [decoder.words, *itertools.chain(*lists)]
    weights = sum(np.asarray(x).nbytes for x in tensors)
    assert made[-1]._before.nbytes < weights / 2
    assert weights <= made[-1]._step.nbytes < 1.5 * weights


def test_caches_that_depend_on_the_length_are_filled_whole(made):
    class Scaled(Decoder):
        def attention(self, i, x, cache, index):
            x = x * ops.where(ops.shape(x)[1] > 10, -1.0, 1.0)
            return super().attention(i, x, cache, index)

    decoder = Scaled()
    staged = check(decoder.generate, 2, 4, 12)
    cases = ((2, 4, 9), (2, 4, 13))
    assert lengths_filled(made, staged, *cases) == [9, 13]
    for case in cases:
        arrays = prompt_of(*case)
        expected = decoder.generate(*arrays)[0]
        np.testing.assert_array_equal(staged(*arrays), expected)


def test_there_is_no_prompt():
    """The first step then takes the last word, and is no addition."""
    decoder, arrays = Decoder(), prompt_of(2, 0, 6)
    arrays[0][:] = np.arange(6) + 1
    staged = jit(lambda *args: decoder.generate(*args)[0], OPEN, is_causal=True)
    expected = decoder.generate(*arrays)[0]
    np.testing.assert_array_equal(staged(*arrays), expected)


def test_no_step_is_taken():
    prompt, count = prompt_of(2, 6, 6)
    staged = jit(
        lambda *args: Decoder().generate(*args)[0], OPEN, is_causal=True
    )
    np.testing.assert_array_equal(staged(prompt, count), prompt)


def test_caches_that_are_needed_behind_the_loop(made):
    decoder, arrays = Decoder(), prompt_of(2, 3, 9)
    expected = decoder.generate(*arrays)
    results = jit(decoder.generate, OPEN, is_causal=True)(*arrays)
    for result, x in zip(results, expected):
        np.testing.assert_allclose(result, x, rtol=1e-4, atol=1e-5)
    assert not made


def test_caches_that_are_read_otherwise(made):
    def take(cache, i):
        return cache[:, i] + 0.0 * ops.sum(cache)

    check(Decoder(take=take).generate, 2, 4, 12)
    assert not made


def test_caches_that_are_filled_in_another_order():
    """Positions are skipped, so that what is there is not what is seen."""
    decoder, arrays = Decoder(), prompt_of(2, 4, 12)

    def generate(prompt, count):
        return decoder.generate(prompt, count, stride=2)[0]

    staged = jit(generate, OPEN, is_causal=True)
    for _ in range(2):
        np.testing.assert_array_equal(staged(*arrays), generate(*arrays))


def test_states_are_of_one_call():
    """What a call left is nothing to the next."""
    decoder = Decoder()
    staged = check(decoder.generate, 1, 4, 12)
    for shape in ((1, 4, 12), (2, 4, 12), (1, 4, 12)):
        arrays = prompt_of(*shape)
        arrays[0][:, 0] = 3
        expected = decoder.generate(*arrays)[0]
        np.testing.assert_array_equal(staged(*arrays), expected)


def masked_rows(x, n, mask_of):
    """Attends in `n` steps to a row of ones, twos and so on, under a mask."""

    def step(i, cache, _):
        new = ops.ones((ops.shape(x)[0], 1, 2, 4)) * ops.cast(i, "float32")
        key = ops.slice_update(cache[:, 0], [0, i, 0, 0], new)
        value = ops.slice_update(cache[:, 1], [0, i, 0, 0], new)
        query = ops.ones((ops.shape(x)[0], 1, 2, 4))
        scores = ops.einsum("btnh,bsnh->bnts", query, key)
        weights = attend(scores, mask_of(x, key))
        out = ops.einsum("bnts,bsnh->btnh", weights, value)
        return i + 1, ops.stack([key, value], axis=1), out

    batch, length = ops.shape(x)
    part = ops.zeros((batch, length, 2, 4))
    return ops.while_loop(
        lambda i, cache, out: i < n,
        step,
        (
            ops.sum(ops.zeros_like(n)),
            ops.stack([part, part], axis=1),
            ops.zeros((batch, 1, 2, 4)),
        ),
    )[2]


ROWS = np.array([[1] * 5, [-1] * 5], "float32")


def test_masked_rows_of_attention_are_as_they_were(made):
    """A query that may look at nothing gives 0."""

    def function(x, n):
        def mask_of(x, key):
            shape = (ops.shape(x)[0], 1, 1, ops.shape(key)[1])
            return ops.broadcast_to((x > 0)[:, None, None, :1], shape)

        return masked_rows(x, n, mask_of)

    n = np.array(3, "int32")
    result = np.asarray(jit(function, OPEN, is_causal=True)(ROWS, n))
    assert not result[1].any() and result[0].all()
    assert FUSED in types_of_step(made)


def test_masks_that_are_one_for_all_positions():
    def function(x, n):
        return masked_rows(x, n, lambda x, key: (x > 0)[:, None, None, :1])

    n = np.array(3, "int32")
    result = np.asarray(jit(function, OPEN, is_causal=True)(ROWS, n))
    weights = np.exp([0, 4, 8])
    expected = np.average([0, 1, 2], weights=weights)
    np.testing.assert_allclose(result[0], np.full((1, 2, 4), expected), 1e-5)
    assert not result[1].any()


def test_appending_is_for_what_was_stacked():
    """What is handed on as it is may be looked at as a whole."""

    def function(x, n):
        def step(i, y):
            y = ops.slice_update(y, [0, i], normalised(y))
            return i + 1, y

        def normalised(y):
            return ops.mean(y, axis=1, keepdims=True)

        return ops.while_loop(lambda i, y: i < n, step, (0, x))[1]

    x = normal(3, 6)
    result = jit(function, OPEN, is_causal=True)(x, np.array(4, "int32"))
    expected = x.copy()
    for i in range(4):
        expected[:, i] = expected.mean(axis=1)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_rows_and_shapes_of_stacks(axis, dynamic):
    """Nothing is stacked for them, whatever the model then computes."""

    def function(x):
        stack = ops.stack([x, x * 2.0, x + 1.0], axis=axis)
        rows = [ops.take(stack, i, axis=axis) for i in (0, 1, 2, -1)]
        shape = ops.convert_to_tensor(ops.shape(stack))
        return [*rows, shape, ops.shape(rows[1])[0] + ops.sum(stack)]

    x = normal(4, 5)
    stack = np.stack([x, x * 2, x + 1], axis=axis)
    rows = [np.take(stack, i, axis=axis) for i in (0, 1, 2, -1)]
    expected = [*rows, stack.shape, 4 + stack.sum()]
    check_both(function, [x], expected, dynamic=dynamic)


def test_caches_of_other_sizes_than_the_prompt(made):
    """They are computed in one model then, of known dims."""

    class Longer(Decoder):
        def begun(self, prompt):
            caches = super().begun(prompt)
            return ops.pad(caches, [[0, 0]] * 3 + [[0, 1], [0, 0], [0, 0]])

    check(Longer().generate, 2, 4, 12)
