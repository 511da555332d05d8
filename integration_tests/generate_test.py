"""`generate` of decoders in steps, compared with what they give eagerly."""

import numpy as np
import pytest

import keras
from keras import ops
from keras.src.backend.openvino.testing import made_stages
from keras.src.backend.openvino.testing import runtime_types

# Of the overlay alone there is a `keras_hub` too, without models.
models = pytest.importorskip("keras_hub.models")

import hub_models  # noqa: E402

SMALL = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "hidden_dim": 32,
    "intermediate_dim": 48,
}


def gpt2(task=models.GPT2CausalLM, **options):
    backbone = models.GPT2Backbone(
        **SMALL, num_heads=4, max_sequence_length=40, **options
    )
    return begun(task(backbone, preprocessor=None))


def llama(**options):
    backbone = models.LlamaBackbone(
        **SMALL, num_query_heads=4, num_key_value_heads=2, **options
    )
    return begun(models.LlamaCausalLM(backbone, preprocessor=None))


def phi3():
    """Its rotary embedding looks at the length of what it gets."""
    backbone = models.Phi3Backbone(
        **SMALL,
        num_query_heads=4,
        num_key_value_heads=2,
        max_sequence_length=32,
        pretraining_sequence_length=8,
        rope_scaling_type="su",
        rope_scaling_short_factor=[1.0] * 4,
        rope_scaling_long_factor=[1.0, 3.0, 5.0, 9.0],
    )
    return begun(models.Phi3CausalLM(backbone, preprocessor=None))


def bart():
    backbone = models.BartBackbone(**SMALL, num_heads=4, max_sequence_length=40)
    return begun(models.BartSeq2SeqLM(backbone, preprocessor=None))


def begun(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    model.compile(sampler="greedy")
    return model


def prompts(counts, length, words=50):
    rng = np.random.default_rng(length)
    tokens = rng.integers(1, words, (len(counts), length)).astype("int32")
    mask = np.arange(length) < np.array(counts)[:, None]
    return {"token_ids": tokens * mask, "padding_mask": mask}


@pytest.fixture
def made(monkeypatch):
    return made_stages(monkeypatch)


def check(model, *cases, stop=None, inputs=prompts):
    def generate(is_eager):
        model.run_eagerly = is_eager
        return [
            model.generate(inputs(*case), stop_token_ids=stop) for case in cases
        ]

    expected = generate(is_eager=True)
    for result, values in zip(generate(is_eager=False), expected):
        for key, value in values.items():
            np.testing.assert_array_equal(result[key], value)


@pytest.mark.parametrize("build", [gpt2, llama, phi3])
def test_one_pair_of_models_is_for_all_lengths(made, build):
    cases = [([3], 9), ([5, 2], 14), ([1, 4, 11], 12), ([12], 12), ([2], 24)]
    check(build(), *cases, stop=(7, 30))
    assert len(made) == 1


def texts_and_prompts(counts, length, *text):
    """Those of an encoder, and those of the decoder behind it."""
    sides = {"decoder": prompts(counts, length), "encoder": prompts(*text)}
    return {
        f"{side}_{key}": array
        for side, inputs in sides.items()
        for key, array in inputs.items()
    }


def test_a_decoder_behind_an_encoder(made):
    cases = [([3], 9, [4], 5), ([1, 2], 14, [7, 3], 9), ([4], 9, [2], 2)]
    check(bart(), *cases, stop=(7, 30), inputs=texts_and_prompts)
    assert len(made) == 1


# What a prompt's positions are told from, and what its tokens are shared out
# to, in some of KerasHub's families.
FAMILIES = ["bloom", "falcon", "gemma", "gpt_oss", "mixtral", "opt"]


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_alone_give_what_whole_sequences_give(made, family):
    model = begun(hub_models.FAMILIES[family]())
    cases = [([4], 15), ([5, 3], 9), ([1], 12), ([2, 7, 4], 10)]
    check(model, *cases, inputs=lambda *case: prompts(*case, words=20))
    assert len(made) == 1


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16"])
def test_other_dtypes(dtype):
    check(gpt2(dtype=dtype), ([3], 8))


def test_attention_of_bfloat16_is_one_node(made):
    model = gpt2(dtype="bfloat16")
    check(model, ([3], 8))
    types = runtime_types(made[0]._step._compiled)
    assert types.count("ScaledDotProductAttention") == SMALL["num_layers"]


def test_new_weights(made):
    model = gpt2()
    for factor in (1, -1, 2):
        model.set_weights([w * factor for w in model.get_weights()])
        check(model, ([3, 5], 12))
    assert len(made) == 3


class Halved(models.GPT2CausalLM):
    def call_with_cache(self, *args):
        logits, *others = super().call_with_cache(*args)
        return logits[..., ::-1], *others


def test_what_users_change_is_taken_as_it_is(made):
    check(gpt2(Halved), ([3, 5], 12))
    model = gpt2()
    layer = model.backbone.transformer_layers[0]
    mask = layer._compute_self_attention_mask
    layer._compute_self_attention_mask = lambda *args, **kwargs: ops.ones_like(
        mask(*args, **kwargs)
    )
    check(model, ([3, 5], 12))
    model = gpt2()
    model.backbone.embeddings_dropout = Centred()
    check(model, ([3, 5], 12))
    assert not made


class Centred(keras.layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=1, keepdims=True) / 2


def test_longer_than_the_positions_that_were_trained():
    model = gpt2()
    check(model, ([3], 40))
    with pytest.raises(ValueError, match="does not fit"):
        model.generate(prompts([3], 41), stop_token_ids=None)
    check(model, ([3], 40))
