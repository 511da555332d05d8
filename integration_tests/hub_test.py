"""KerasHub on this backend, compared with KerasHub on JAX.

`HUB_TEST=all pytest integration_tests/hub_test.py` runs every family of models;
without it, one of each kind.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Of the overlay alone there is a `keras_hub` too, without models.
pytest.importorskip("keras_hub.models", reason="KerasHub is not installed")
pytest.importorskip("jax", reason="JAX, to compare with, is not installed")

import hub_cases  # noqa: E402
import hub_models  # noqa: E402

import keras  # noqa: E402
import keras_hub  # noqa: E402

ONE_OF_EACH_KIND = [
    "bert",
    "gemma",  # attention in a window
    "gpt2",
    "mixtral",  # experts
    "rwkv7",  # recurrent
    "t5",  # encoder and decoder
    "moonshine",  # sound
    "depth_anything",
    "efficientnet",
    "segformer",
    "stable_diffusion_3",
    "gemma3 with images",
]
FAMILIES = (
    hub_models.FAMILIES
    if os.environ.get("HUB_TEST") == "all"
    else ONE_OF_EACH_KIND
)

# Tasks that do not generate by themselves, on JAX neither: the case `refused`.
NOT_GENERATING = {
    # KerasHub has no text encoders and no decoder for it: "'FluxBackbone'
    # object has no attribute 'latent_shape'".
    "FluxTextToImage",
    # It drafts for another model, as in the cases `drafted`, "and cannot be
    # called standalone".
    "Gemma4AssistantCausalLM",
}


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """A function from the name of a case to its outputs on JAX."""
    child = subprocess.Popen(
        [sys.executable, hub_cases.__file__, tmp_path_factory.mktemp("hub")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            # Compiling is most of the work.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
    )

    class Answer:
        """What the child computes while this process goes on."""

        def __init__(self, name):
            print(name, file=child.stdin, flush=True)

        def outputs(self):
            answer = child.stdout.readline().strip()
            assert answer.endswith(".npz"), answer
            with np.load(answer) as file:
                return list(file.values())

    yield Answer
    child.stdin.close()
    child.wait()


def check(actual, expected):
    assert len(actual) == len(expected)
    for x, y in zip(actual, expected):
        assert x.dtype == y.dtype
        if y.dtype.kind == "f":
            scale = np.max(np.abs(y), initial=1e-3)
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * scale)
        elif y.dtype == "uint8":  # pictures, rounded at last
            np.testing.assert_allclose(x.astype(int), y, rtol=0, atol=1)
        else:
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", [*FAMILIES, *hub_cases.CASES])
def test_as_on_jax(name, on_jax):
    answer = on_jax(name)
    try:
        actual = hub_cases.outputs_of(name)
    finally:
        expected = answer.outputs()
    check(actual, expected)


PROMPT = hub_cases.SENTENCES[0]


@pytest.fixture
def language_model():
    model = hub_cases.language_model()
    model.compile(sampler="greedy")
    return model


def test_generate_sees_new_weights(language_model):
    text = language_model.generate(PROMPT)
    old = language_model.get_weights()
    new = [-w for w in old]
    language_model.set_weights(new)
    changed = language_model.generate(PROMPT)
    language_model.run_eagerly = True
    assert changed == language_model.generate(PROMPT) != text
    language_model.run_eagerly = False
    language_model.set_weights(old)
    assert language_model.generate(PROMPT) == text


def test_generate_sees_a_new_sampler(language_model):
    text = language_model.generate(PROMPT)
    language_model.compile(sampler=hub_cases.SAMPLERS["random"]())
    one, two = (language_model.generate(PROMPT) for _ in range(2))
    assert len({text, one, two}) == 3


def test_generate_sees_low_rank_weights(language_model):
    text = language_model.generate(PROMPT)
    language_model.backbone.enable_lora(2)
    assert language_model.generate(PROMPT) == text  # they begin with zeros
    rng = np.random.default_rng(0)
    for weight in language_model.weights:
        if weight.name == "lora_kernel_b":
            weight.assign(5 * rng.normal(size=weight.shape))
    changed = language_model.generate(PROMPT)
    language_model.run_eagerly = True
    assert changed == language_model.generate(PROMPT) != text


def test_generate_stops_where_it_is_told(language_model):
    prompt = language_model.preprocessor.generate_preprocess([PROMPT])
    length = int(np.sum(prompt["padding_mask"]))
    language_model.preprocessor = None

    def tokens(stop):
        outputs = language_model.generate(prompt, stop_token_ids=stop)
        return outputs["token_ids"][0][outputs["padding_mask"][0]].tolist()

    everything = tokens(None)
    for stop in set(everything[length:]):
        end = everything.index(stop, length) + 1
        assert tokens([stop]) == everything[:end]


def test_generate_of_a_batch(language_model):
    texts = language_model.generate(list(hub_cases.SENTENCES))
    assert texts == [language_model.generate(s) for s in hub_cases.SENTENCES]


def test_saved_and_loaded(language_model, tmp_path):
    text = language_model.generate(PROMPT)
    language_model.save(tmp_path / "model.keras")
    language_model.save_to_preset(tmp_path / "preset")
    for loaded in (
        keras.saving.load_model(tmp_path / "model.keras"),
        keras_hub.models.CausalLM.from_preset(str(tmp_path / "preset")),
    ):
        loaded.compile(sampler="greedy")
        assert loaded.generate(PROMPT) == text


def test_all_families_are_in_the_table():
    folder = Path(keras_hub.__file__).parent / "src" / "models"
    folders = {file.parent.name for file in folder.glob("*/*_backbone.py")}
    covered = {name.split(" with ")[0] for name in hub_models.FAMILIES}
    assert folders <= covered


def test_all_tasks_that_generate_are_in_the_table():
    bases = (
        keras_hub.models.CausalLM,
        keras_hub.models.ImageToImage,
        keras_hub.models.Inpaint,
        keras_hub.models.TextToImage,
    )
    generating = {
        task.__name__
        for task in vars(keras_hub.models).values()
        if isinstance(task, type) and issubclass(task, bases)
        if task.backbone_cls  # bases have none
    }
    built = {type(build()).__name__ for build in hub_models.FAMILIES.values()}
    assert generating - built <= NOT_GENERATING <= generating
