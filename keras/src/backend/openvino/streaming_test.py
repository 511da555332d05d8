import copy
import itertools
import threading

import numpy as np
import pytest

import keras
import keras_vino
from keras.src.backend.openvino import executable
from keras.src.backend.openvino import settings
from keras.src.backend.openvino.streaming import stream

# Of the overlay alone there is a `keras_hub` too, without models.
pytest.importorskip("keras_hub.models")
keras_hub = pytest.importorskip("keras_hub")


def letters():
    """A character for each byte, as byte pair encoding has them."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [i for i in range(256) if i not in own]
    named = {i: chr(i) for i in own}
    return named | {i: chr(256 + n) for n, i in enumerate(others)}


def tokenizer_of(kind, *special):
    words = [*letters().values(), "\u0120t", *special]
    return kind({word: i for i, word in enumerate(words)}, ["\u0120 t"])


def backbone_of(kind, tokenizer):
    backbone = kind(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=32,
    )
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.7)
    return backbone


@pytest.fixture(scope="module")
def model():
    tokenizer = tokenizer_of(keras_hub.models.GPT2Tokenizer, "<|endoftext|>")
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(
        tokenizer, sequence_length=32
    )
    backbone = backbone_of(keras_hub.models.GPT2Backbone, tokenizer)
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor)


def random(seed):
    return keras_hub.samplers.RandomSampler(seed=seed)


@pytest.mark.parametrize("seed, stop", [(0, "auto"), (1, None), (2, (65, 140))])
def test_pieces_are_the_text(model, seed, stop):
    options = {"max_length": 24, "stop_token_ids": stop}
    model.compile(sampler=random(seed))
    expected = model.generate("the zoo", **options)
    model.compile(sampler=random(seed))
    pieces = list(stream(model, "the zoo", **options))
    assert "the zoo" + "".join(pieces) == expected
    assert len(pieces) > 1 or stop is not None


def test_several_prompts(model):
    prompts = ["a", "the zoo is", "\u00e4\u00f6"]
    model.compile(sampler=random(1))
    expected = model.generate(prompts, max_length=20)
    model.compile(sampler=random(1))
    pieces = list(stream(model, prompts, max_length=20))
    texts = ["".join(parts) for parts in zip(*pieces)]
    assert [p + t for p, t in zip(prompts, texts)] == expected
    assert len(pieces) > 3


def test_pieces_come_while_others_are_generated(model):
    """The first is there before the last is asked for."""
    model.compile(sampler="greedy")
    list(stream(model, "the", max_length=30, stop_token_ids=None))
    pieces = stream(model, "the", max_length=30, stop_token_ids=None)
    next(pieces)
    assert len(list(pieces)) >= 20


def test_whoever_leaves_ends_it(model):
    model.compile(sampler="greedy")
    before = threading.active_count()
    for _ in range(3):
        pieces = stream(model, "the", max_length=30, stop_token_ids=None)
        next(pieces)
        pieces.close()
    assert threading.active_count() == before
    text = model.generate("the", max_length=30)
    assert "the" + "".join(stream(model, "the", max_length=30)) == text


def test_tokens_without_a_preprocessor(model):
    bare = keras_hub.models.GPT2CausalLM(model.backbone)
    bare.compile(sampler="greedy")
    tokens = np.zeros((2, 12), "int32")
    mask = np.zeros((2, 12), "int32")
    tokens[:, :4], mask[0, :3], mask[1, :4] = 70, 1, 1
    x = {"token_ids": tokens, "padding_mask": mask}
    expected = bare.generate(dict(x), stop_token_ids=None)["token_ids"]
    steps = list(stream(bare, dict(x), stop_token_ids=None))
    np.testing.assert_array_equal(np.transpose(steps), expected[:, 3:])


@pytest.mark.parametrize("stops", [False, True])
def test_tokens_behind_a_step_that_fails(model, monkeypatch, stops):
    bare = keras_hub.models.GPT2CausalLM(model.backbone)
    bare.compile(sampler=random(4))
    tokens = np.full((2, 12), 70, "int32")
    mask = np.arange(12) < [[3], [4]]
    x = {"token_ids": tokens, "padding_mask": mask.astype("int32")}
    expected, stop = bare.generate(dict(x), stop_token_ids=None), None
    if stops:
        stop = tuple(expected["token_ids"][:, 8].tolist())
        bare.compile(sampler=random(4))
        expected = bare.generate(dict(x), stop_token_ids=stop)
        assert not expected["padding_mask"].all()
    calls = itertools.count()
    call = executable.Session.__call__

    def failing(self, arrays):
        if next(calls) == 3:
            raise executable.InferenceError("as asked for")
        return call(self, arrays)

    monkeypatch.setattr(executable.Session, "__call__", failing)
    bare.compile(sampler=random(4))
    steps = list(stream(bare, dict(x), stop_token_ids=stop))
    there = expected["padding_mask"].any(axis=0)
    expected = expected["token_ids"][:, there][:, 3:]
    np.testing.assert_array_equal(np.transpose(steps), expected)


def test_with_beams_all_comes_at_the_end(model):
    model.compile(sampler="beam")
    expected = model.generate("the zoo", max_length=12)
    assert list(stream(model, "the zoo", max_length=12)) == [expected]


def test_errors_are_those_of_generate(model):
    model.compile(sampler="greedy")
    with pytest.raises(Exception) as expected:
        model.generate(3.5)
    with pytest.raises(type(expected.value)):
        list(stream(model, 3.5))
    with pytest.raises(TypeError, match="strip_prompt"):
        next(stream(model, "the", strip_prompt=True))


def test_scopes_hold_for_it(model):
    seen = []

    class Sampler(keras_hub.samplers.GreedySampler):
        def get_next_token(self, probabilities):
            seen.append(dict(settings.get_properties()).get("NUM_STREAMS"))
            return super().get_next_token(probabilities)

    model.compile(sampler=Sampler())
    with keras_vino.configured(NUM_STREAMS=1):
        list(stream(model, "the", max_length=8))
    assert set(seen) == {1}


def test_it_is_public():
    assert keras_vino.stream is stream
    assert keras.backend.backend() == "openvino"


@pytest.fixture(scope="module")
def translator():
    special = ["<s>", "<pad>", "</s>", "<mask>"]
    tokenizer = tokenizer_of(keras_hub.models.BartTokenizer, *special)
    preprocessor = keras_hub.models.BartSeq2SeqLMPreprocessor(
        tokenizer, encoder_sequence_length=16, decoder_sequence_length=24
    )
    backbone = backbone_of(keras_hub.models.BartBackbone, tokenizer)
    return keras_hub.models.BartSeq2SeqLM(backbone, preprocessor)


SAID = {"encoder_text": "the zoo", "decoder_text": "a t"}


@pytest.mark.parametrize(
    "inputs, prompts",
    [
        ("the zoo", [""]),
        (["the zoo", "to it"], ["", ""]),
        (SAID, ["a t"]),
        ({key: [text] for key, text in SAID.items()}, ["a t"]),
    ],
)
def test_pieces_of_a_decoder_behind_an_encoder(translator, inputs, prompts):
    translator.compile(sampler=random(1))
    expected = translator.generate(copy.deepcopy(inputs))
    translator.compile(sampler=random(1))
    pieces = list(stream(translator, copy.deepcopy(inputs)))
    assert len(pieces) > 2
    if isinstance(pieces[0], str):
        assert prompts[0] + "".join(pieces) == expected
    else:
        whole = map("".join, zip(*pieces))
        assert [p + text for p, text in zip(prompts, whole)] == list(expected)
