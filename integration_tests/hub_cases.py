"""What KerasHub's models are compared by: the same on every backend.

`python hub_cases.py FOLDER` reads names of cases and answers each with the file
of its outputs on the backend that Keras runs on, or with an error.
"""

import sys
import traceback
from pathlib import Path

import hub_models
import numpy as np
from hub_models import IMAGE
from hub_models import LENGTH

import keras
import keras_hub
from keras import tree
from keras_hub import models

BATCH = 2

WORDS = "the quick brown fox jumps over a lazy dog .".split()
SENTENCES = ["the quick brown fox .", "a dog jumps over the unknown"]


def build(family):
    """A model of the table, with weights that belong to the family."""
    return randomized(hub_models.FAMILIES[family]())


def randomized(model):
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(_random_weight(weight, rng))
    return model


def _random_weight(weight, rng):
    """Kernels that keep the scale of what they get; others near what is set."""
    noise = rng.normal(size=weight.shape)
    if len(weight.shape) < 2:
        return np.asarray(weight) + 0.1 * noise
    return noise / np.sqrt(np.prod(weight.shape[:-1]))


# Shapes of a sample, where a model takes several but not any.
SHAPES = {
    "encoder_input_values": (2000, 1),
    "moonshine/encoder_padding_mask": (2000,),
    "gemma4 with images/pixel_values": (1, 16, 48),
    "gemma4 with images/pixel_position_ids": (1, 16, 2),
    "gemma3 with images/images": (1, 16, 16, 3),
    "gemma3 with images/vision_indices": (4,),
    "gemma4 with images/vision_indices": (4,),
    "gemma3n/images": (1, *IMAGE),
    "input_features": (1, LENGTH, 16),
    "input_features_mask": (1, LENGTH),
    "sam3/token_ids": (32,),
    "sam3/padding_mask": (32,),
    "sam3/boxes": (1, 5),
    "sam3/box_labels": (1,),
    "sam/points": (3, 2),
    "sam/labels": (3,),
    "sam/boxes": (1, 2, 2),
    "sam/masks": (1, 16, 16, 1),
}


def inputs_of(name, model):
    """Random inputs for each that the model has, by its name and dtype."""
    rng = np.random.default_rng(0)

    def random_input(spec):
        key = f"{name}/{spec.name}"
        shape = SHAPES.get(key, SHAPES.get(spec.name, spec.shape[1:]))
        return _random_input(rng, spec, shape)

    return tree.map_structure(random_input, model.input)


def _random_input(rng, spec, shape):
    name = spec.name
    shape = (BATCH, *(LENGTH if dim is None else dim for dim in shape))
    if "mask" in name and len(shape) == 2:
        mask = np.ones(shape, spec.dtype)
        mask[1, shape[1] * 3 // 4 :] = 0
        return mask
    if "float" in spec.dtype:
        return rng.normal(size=shape).astype(spec.dtype)
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if "token_ids" in name:
        return rng.integers(1, 20, shape).astype(spec.dtype)
    high = 2 if "segment" in name else LENGTH
    return rng.integers(0, high, shape).astype(spec.dtype)


def outputs_of(name):
    """The outputs of a case, as a list of arrays."""
    keras.utils.set_random_seed(1)
    if name in CASES:
        outputs = CASES[name]()
    else:
        outputs = family_outputs(name, build(name))
    return [np.asarray(x) for x in tree.flatten(outputs)]


def family_outputs(name, model):
    if name.startswith("stable_diffusion_3"):
        return painted(model)
    inputs = inputs_of(name, model)
    outputs = [model.predict(inputs, verbose=0)]
    if isinstance(model, models.CausalLM):
        outputs.append(generated(model, inputs))
    return outputs


def painted(model):
    rng = np.random.default_rng(0)
    inputs = {
        kind: {
            encoder: rng.integers(1, 20, (BATCH, LENGTH), "int32")
            for encoder in ("clip_l", "clip_g")
        }
        for kind in ("prompts", "negative_prompts")
    }
    strength = {}
    if not isinstance(model, models.TextToImage):
        images = rng.uniform(-1, 1, (BATCH, 40, 48, 3))
        inputs["images"] = images.astype("float32")
        strength["strength"] = 0.5
    if isinstance(model, models.Inpaint):
        inputs["masks"] = rng.integers(0, 2, (BATCH, 40, 48)).astype(bool)
    return model.generate(inputs, 4, guidance_scale=5.0, seed=1, **strength)


def generated(model, inputs, sampler="greedy", **kwargs):
    model.compile(sampler=sampler, loss=None)
    prompts = {key: np.array(value) for key, value in inputs.items()}
    for key in prompts:
        if key in ("padding_mask", "decoder_padding_mask"):
            prompts[key][:, 3:] = 0  # what is to be generated
    if isinstance(model, models.RWKV7CausalLM):
        # It reads one sequence and goes on with another.
        prompts["predict_token_ids"] = prompts["token_ids"]
        prompts["input_padding_mask"] = inputs["padding_mask"]
    if isinstance(model, models.Gemma3CausalLM) and "images" not in prompts:
        prompts["images"] = np.zeros((BATCH, 0, 16, 16, 3), "float32")
    return model.generate(prompts, stop_token_ids=[5], **kwargs)


def sampled(sampler):
    """GPT-2's tokens of two calls in a row."""
    model = build("gpt2")
    inputs = inputs_of("gpt2", model)
    return [generated(model, inputs, sampler) for _ in range(2)]


def word_pieces():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return models.BertTokenizer(vocabulary=special + WORDS)


def text_classes():
    """Classes of strings, from arrays and from `tf.data`."""
    import tensorflow as tf

    tokenizer = word_pieces()
    model = randomized(
        models.BertTextClassifier(
            models.BertBackbone(
                **{
                    **hub_models.TEXT,
                    "vocabulary_size": tokenizer.vocabulary_size(),
                },
                max_sequence_length=LENGTH,
            ),
            num_classes=3,
            preprocessor=models.BertTextClassifierPreprocessor(
                tokenizer, sequence_length=LENGTH
            ),
        )
    )
    dataset = tf.data.Dataset.from_tensor_slices(SENTENCES).batch(2)
    return [
        model.predict(np.array(SENTENCES), verbose=0),
        model.predict(dataset, verbose=0),
    ]


def byte_pairs():
    letters = sorted(set("".join(SENTENCES).replace(" ", "")) | {"\u0120"})
    merges = [
        "\u0120 t",
        "\u0120t h",
        "\u0120th e",
        "o x",
        "f ox",
        "\u0120 fox",
    ]
    vocabulary = letters + [merge.replace(" ", "") for merge in merges]
    vocabulary.append("<|endoftext|>")
    return models.GPT2Tokenizer(
        vocabulary={token: i for i, token in enumerate(vocabulary)},
        merges=merges,
    )


def language_model():
    """GPT-2 that reads and writes strings."""
    tokenizer = byte_pairs()
    return randomized(
        models.GPT2CausalLM(
            models.GPT2Backbone(
                **{
                    **hub_models.TEXT,
                    "vocabulary_size": tokenizer.vocabulary_size(),
                },
                max_sequence_length=32,
            ),
            preprocessor=models.GPT2CausalLMPreprocessor(
                tokenizer, sequence_length=32
            ),
        )
    )


def characters(text):
    """A string as numbers, which arrays are."""
    return np.array([ord(c) for c in text])


def text():
    model = language_model()
    model.compile(sampler="greedy")
    several = model.generate(list(SENTENCES), max_length=30)
    one = model.generate(SENTENCES[0], max_length=25, strip_prompt=True)
    return [characters(x) for x in (*several, one)]


def drafted(sampler):
    """Gemma 4's tokens of two calls in a row, drafted by another model."""
    model = build("gemma4")
    assistant = randomized(hub_models.gemma_4_assistant())
    rng = np.random.default_rng(0)
    assistant.token_ordering.assign(rng.permutation(20).astype("float32"))
    inputs = inputs_of("gemma4", model)
    return [
        generated(model, inputs, sampler, assistant_model=assistant)
        for _ in range(2)
    ]


def read():
    """The letters that PARSeq reads in pictures."""
    model = randomized(hub_models.parseq_reader())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 40, 48, 3), "uint8")
    images[1] //= 64
    return [characters(letters) for letters in model.generate(images)]


def refused():
    """The errors of tasks that do not generate by themselves."""
    assistant = hub_models.gemma_4_assistant()
    return [
        characters(_error_of(painted, build("flux"))),
        characters(
            _error_of(generated, assistant, inputs_of("gemma4", assistant))
        ),
    ]


def _error_of(function, *args):
    try:
        function(*args)
    except Exception as error:
        return repr(error)
    raise AssertionError("There was no error.")


def pictures():
    """Classes of pictures, from arrays and resized in `tf.data`."""
    import tensorflow as tf

    model = build("resnet")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 40, 48, 3), "uint8")
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=IMAGE[:2], scale=[1 / 255] * 3, offset=[-0.5, -0.4, -0.3]
    )
    dataset = tf.data.Dataset.from_tensor_slices(images)
    return [
        model.predict(np.asarray(converter(images)), verbose=0),
        model.predict(dataset.batch(2).map(converter), verbose=0),
        model.predict(dataset.map(converter).batch(2), verbose=0),
    ]


def sound():
    """What Whisper makes of sound, from arrays and in `tf.data`."""
    import tensorflow as tf

    model = build("whisper")
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(2, 1000)).astype("float32")
    converter = keras_hub.layers.WhisperAudioConverter(
        num_mels=8,
        num_fft_bins=400,
        stride=100,
        sampling_rate=100,
        max_audio_length=LENGTH,
    )
    features = [np.asarray(converter(waves))]
    dataset = tf.data.Dataset.from_tensor_slices(waves).batch(2)
    features += [np.asarray(x) for x in dataset.map(converter)]
    inputs = inputs_of("whisper", model)
    return features + [
        model.predict({**inputs, "encoder_features": x}, verbose=0)
        for x in features
    ]


SAMPLERS = {
    "greedy": lambda: keras_hub.samplers.GreedySampler(),
    "top_k": lambda: keras_hub.samplers.TopKSampler(k=3, seed=1),
    "top_p": lambda: keras_hub.samplers.TopPSampler(p=0.8, seed=1),
    "random": lambda: keras_hub.samplers.RandomSampler(seed=1, temperature=0.7),
    "beam": lambda: keras_hub.samplers.BeamSampler(num_beams=3),
    "contrastive": lambda: keras_hub.samplers.ContrastiveSampler(
        k=3, alpha=0.6
    ),
}

CASES = {
    "text classes": text_classes,
    "text": text,
    "pictures": pictures,
    "sound": sound,
    "read": read,
    "refused": refused,
    "drafted": lambda: drafted("greedy"),
    "drafted at random": lambda: drafted("random"),
    **{
        f"sampler {name}": lambda make=make: sampled(make())
        for name, make in SAMPLERS.items()
    },
}


def main(folder):
    answers = sys.stdout
    sys.stdout = sys.stderr
    for name in map(str.strip, sys.stdin):
        file = Path(folder) / f"{name}.npz"
        try:
            np.savez(file, *outputs_of(name))
            answer = str(file)
        except Exception:
            answer = repr(traceback.format_exc())
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
