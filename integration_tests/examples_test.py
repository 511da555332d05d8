"""The examples, run as a user runs them, and their numbers."""

import importlib
import os
import re
import shutil
import struct
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import keras

sys.path.append(str(Path(__file__).parents[1] / "examples"))

import digits_data
import log_mel

EXAMPLES = Path(log_mel.__file__).parent
RATE = 16_000
PNG = b"\x89PNG"


def run(script, *arguments, folder=None, input=""):
    """Runs a script in a process of its own, on the backend of this one."""
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        cwd=folder,
        input=input,
        capture_output=True,
        text=True,
    )


# Digits


def test_digits_agree_with_the_training_backend():
    _, (images, labels) = digits_data.load()
    trained = np.load(digits_data.PREDICTIONS)["probabilities"]
    model = keras.saving.load_model(digits_data.MODEL)
    probabilities = model.predict(images, verbose=0)

    np.testing.assert_allclose(probabilities, trained, rtol=0, atol=1e-5)
    digits = probabilities.argmax(-1)
    np.testing.assert_array_equal(digits, trained.argmax(-1))
    assert np.mean(digits == labels) > 0.975


def test_digits_prints_what_it_read():
    result = run(EXAMPLES / "digits.py")
    assert result.returncode == 0, result.stderr
    assert f"backend    {keras.backend.backend()}" in result.stdout
    assert "360 of 360 predictions" in result.stdout
    assert "read as 3" in result.stdout
    assert result.stdout.isascii()


def test_digits_fails_where_the_answers_differ(tmp_path):
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    saved = dict(np.load(digits_data.PREDICTIONS))
    saved["probabilities"][7, 3] += 2e-5
    np.savez(folder / digits_data.PREDICTIONS.name, **saved)
    result = run(folder / "digits.py")
    assert result.returncode == 1
    assert "differ" in result.stderr


def test_digits_are_trained_to_the_accuracy_of_another_backend(tmp_path):
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    before = (folder / digits_data.MODEL.name).read_bytes()
    result = run(folder / "train_digits.py")
    assert result.returncode == 0, result.stderr
    assert (folder / digits_data.MODEL.name).read_bytes() == before
    trained, speed, accuracy = result.stdout.splitlines()[-1].split(", ")
    assert trained.startswith(f"trained on {keras.backend.backend()}:")
    assert speed.endswith("images per second")
    _, (_, labels) = digits_data.load()
    other = np.load(digits_data.PREDICTIONS)["probabilities"].argmax(-1)
    wanted = np.mean(other == labels) - 0.01
    assert float(accuracy.partition("%")[0]) / 100 > wanted


# Log-mel spectrograms


def speech_like(rate, seconds=1.0):
    """A gliding voice, hiss and pauses between them, in float64."""
    random = np.random.default_rng(0)
    time = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * np.cumsum(150 + 30 * np.sin(5 * time)) / rate
    harmonics = range(1, int(rate / 2 / 180))
    voice = sum(np.sin(n * phase) / n**1.5 for n in harmonics)
    hiss = random.standard_normal(len(time))
    loudness = np.clip(np.sin(9 * time), 0, 1)
    return 0.2 * voice * loudness + 0.03 * hiss * loudness[::-1] ** 2


def reference(samples, rate):
    """What `log_mel` computes, written with NumPy and in float64."""
    length, hop, fft_length = log_mel.frame_sizes(rate)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    before = fft_length // 2 - (fft_length - length) // 2
    padded = np.pad(samples.astype("float64"), (before, length))
    starts = hop * np.arange(1 + len(samples) // hop)
    frames = padded[starts[:, np.newaxis] + np.arange(length)]
    power = np.abs(np.fft.rfft(frames * window, fft_length)) ** 2

    mels = 1127 * np.log(1 + np.fft.rfftfreq(fft_length, 1 / rate) / 700)
    edges = np.linspace(0, 1127 * np.log(1 + rate / 2 / 700), 82)
    bands = [np.interp(mels, edges[i : i + 3], [0, 1, 0]) for i in range(80)]
    full_scale = fft_length * np.sum(window**2) / 4
    mel = power @ np.transpose(bands) / full_scale
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    return np.maximum(decibels, decibels.max() - 50)


def save(path, samples, kind, rate=RATE):
    """Writes floats as WAV; returns what a reader should find, in float64."""
    if kind.startswith("float"):
        samples = samples.astype(kind)
        wavfile.write(path, rate, samples)
        return samples.astype("float64")
    bits = int(kind.removeprefix("int"))
    scale = 2.0 ** (bits - 1)
    levels = np.clip(np.rint(samples * scale), -scale, scale - 1)
    stored = (levels + 128 if bits == 8 else levels).astype("<i8")
    octets = stored[..., np.newaxis].view("u1")[..., : bits // 8]
    with wave.open(str(path), "wb") as file:
        file.setframerate(rate)
        file.setsampwidth(bits // 8)
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.writeframes(octets.tobytes())
    return levels / scale


@pytest.mark.parametrize(
    "rate, sizes",
    [
        (8_000, (200, 80, 512)),
        (11_025, (276, 110, 1_024)),
        (16_000, (400, 160, 1_024)),
        (44_100, (1_102, 441, 2_048)),
        (48_000, (1_200, 480, 2_048)),
    ],
)
def test_log_mel_agrees_with_float64(rate, sizes):
    assert log_mel.frame_sizes(rate) == sizes
    samples = speech_like(rate).astype("float32")
    decibels = log_mel.log_mel(samples, rate)
    expected = reference(samples, rate)
    assert np.mean(expected > expected.min()) > 0.5
    np.testing.assert_allclose(decibels, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1, 159, 160, 161, 1_024, 4_801])
def test_any_length(length):
    samples = speech_like(RATE)[2_000 : 2_000 + length].astype("float32")
    decibels = log_mel.log_mel(samples, RATE)
    assert decibels.shape == (1 + length // 160, 80)
    np.testing.assert_allclose(
        decibels, reference(samples, RATE), rtol=0, atol=1e-4
    )


def test_blocks_join_without_a_seam(monkeypatch):
    samples = speech_like(RATE).astype("float32")
    whole = log_mel.log_mel(samples, RATE)
    for frames in (1, 7, 50):
        monkeypatch.setattr(log_mel, "BLOCK", frames)
        blocks = log_mel.log_mel(samples, RATE)
        np.testing.assert_allclose(blocks, whole, rtol=0, atol=1e-4)


def test_one_model_takes_every_length():
    model = log_mel.log_mel_model(RATE)
    assert model.input_shape == (None, None)
    for length in (1_024, 5_000, 3_000):
        decibels = model.predict_on_batch(np.zeros((2, length), "float32"))
        frames = 1 + (length - 1_024) // 160
        np.testing.assert_allclose(decibels, np.full((2, frames, 80), -100))


@pytest.mark.parametrize("hertz", [200, 440, 1_000, 3_000, 7_000])
def test_a_tone_is_in_its_band(hertz):
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * hertz * time).astype("float32")
    frame = log_mel.log_mel(tone, RATE)[50]
    band = frame.argmax()
    edges = 700 * np.expm1(log_mel.band_edges(RATE) / 1127)
    assert edges[band] < hertz < edges[band + 2]
    # A triangle takes between half and all of a tone in it, and its neighbour
    # the rest.
    power = 10 ** (frame[band - 2 : band + 3] / 10)
    assert power.sum() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "kind", ["int8", "int16", "int24", "int32", "float32", "float64"]
)
def test_sample_formats(tmp_path, kind, channels):
    samples = speech_like(RATE, 0.3)
    if channels == 2:
        samples = np.stack([samples, -0.5 * samples[::-1]], axis=1)
    stored = save(tmp_path / "a.wav", samples, kind)

    read, rate = log_mel.read_wav(tmp_path / "a.wav")
    assert rate == RATE
    assert read.shape == (len(samples), channels)
    np.testing.assert_allclose(
        read, stored.reshape(read.shape), rtol=1e-7, atol=1e-7
    )
    mixed = stored.reshape(read.shape).mean(axis=1)
    decibels = log_mel.log_mel(read.mean(axis=1), rate)
    np.testing.assert_allclose(
        decibels, reference(mixed, rate), rtol=0, atol=1e-4
    )


def test_unknown_chunks_are_skipped(tmp_path):
    path = tmp_path / "a.wav"
    stored = save(path, speech_like(RATE, 0.1), "int16")
    data = path.read_bytes()
    extra = b"LIST" + struct.pack("<I", 6) + b"abcdef"
    size = struct.pack("<I", len(data) + len(extra) - 8)
    path.write_bytes(data[:4] + size + data[8:12] + extra + data[12:])
    read, _ = log_mel.read_wav(path)
    np.testing.assert_array_equal(read[:, 0], stored)


def main(monkeypatch, script, *arguments):
    name = f"{script.__name__}.py"
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    script.main()


def test_log_mel_draws_and_sums_up(tmp_path):
    samples = np.stack([speech_like(48_000), speech_like(48_000)], axis=1)
    save(tmp_path / "two words.wav", samples, "int16", 48_000)
    result = run(EXAMPLES / "log_mel.py", "two words.wav", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    recording, spectrogram, picture = result.stdout.splitlines()
    assert recording.endswith("1.00 s, 48,000 Hz, 2 channels")
    assert "101 frames, 80 bands" in spectrogram
    assert picture.endswith("two words.png")
    assert (tmp_path / "two words.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("samples", [[0.5], [0.0] * 4_000])
def test_a_click_and_silence_are_drawn(tmp_path, monkeypatch, samples):
    recording, picture = tmp_path / "a.wav", tmp_path / "picture"
    save(recording, np.array(samples), "int16")
    main(monkeypatch, log_mel, recording, picture)
    assert picture.read_bytes().startswith(PNG)


def edited(offset, new):
    """A function that overwrites bytes of a WAV file."""
    return lambda wav: wav[:offset] + new + wav[offset + len(new) :]


BROKEN = {
    "missing": (None, "No such file"),
    "empty": (lambda wav: b"", "empty"),
    "text": (lambda wav: b"Dear diary,\n", "not a WAV file"),
    "another RIFF": (edited(8, b"AVI "), "not a WAV file"),
    "cut in the header": (lambda wav: wav[:30], "truncated"),
    "cut after the header": (lambda wav: wav[:44], "truncated"),
    "cut in the samples": (lambda wav: wav[:999], "truncated"),
    "one byte short": (lambda wav: wav[:-1], "truncated"),
    "no samples": (
        lambda wav: edited(4, struct.pack("<I", 36))(wav[:40]) + bytes(4),
        "no samples",
    ),
    "no format": (edited(12, b"what"), "damaged or of an unsupported kind"),
    "A-law": (edited(20, b"\x06"), "ALAW"),
    "no channels": (edited(22, b"\x00"), "damaged"),
    "no sample rate": (edited(24, bytes(8)), "sample rate of 0 Hz"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_recordings(tmp_path, monkeypatch, capfd, case):
    edit, reason = BROKEN[case]
    recording = tmp_path / "a.wav"
    if edit is not None:
        save(recording, speech_like(RATE, 0.1), "int16")
        recording.write_bytes(edit(recording.read_bytes()))
    fails(monkeypatch, capfd, log_mel, (recording, tmp_path / "a.png"), reason)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_floats_out_of_range(tmp_path, monkeypatch, capfd, value):
    samples = speech_like(RATE, 0.1)
    samples[100] = value
    save(tmp_path / "a.wav", samples, "float64")
    arguments = (tmp_path / "a.wav", tmp_path / "a.png")
    fails(monkeypatch, capfd, log_mel, arguments, "out of range")


def test_a_folder_is_no_recording(tmp_path, monkeypatch, capfd):
    fails(monkeypatch, capfd, log_mel, (tmp_path,), "Is a directory")


@pytest.mark.parametrize(
    "picture, reason",
    [
        ("missing/a.png", "No such file"),
        ("folder.png", "Is a directory"),
        ("a.wav", "not supported"),
    ],
)
def test_pictures_that_cannot_be_written(
    tmp_path, monkeypatch, capfd, picture, reason
):
    recording = tmp_path / "a.wav"
    save(recording, speech_like(RATE, 0.1), "int16")
    (tmp_path / "folder.png").mkdir()
    before = recording.read_bytes()
    fails(monkeypatch, capfd, log_mel, (recording, tmp_path / picture), reason)
    assert recording.read_bytes() == before


def test_an_error_is_one_line_and_status_2(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    result = run(EXAMPLES / "log_mel.py", "a.wav", folder=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "log_mel.py: a.wav: the file is empty\n"


def fails(monkeypatch, capfd, script, arguments, reason):
    """The script says why in one line and exits with status 2."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(monkeypatch, script, *arguments)
    assert stop.value.code == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"{script.__name__}.py: ")
    assert output.err.count("\n") == 1
    assert output.err.endswith("\n")
    assert reason in output.err


# Fine-tuning


def test_lora_teaches_the_digits_of_a_mirror(tmp_path):
    picture = tmp_path / "losses.png"
    result = run(EXAMPLES / "lora.py", picture, "--epochs", 12)
    assert result.returncode == 0, result.stderr
    *_, parameters, digits, drawn = result.stdout.splitlines()
    # 4 columns and 4 rows for each kernel, and the biases of ten digits.
    kernels = [(9, 16), (9 * 16, 24), (9 * 24, 32), (4 * 32, 10)]
    trained = 4 * sum(map(sum, kernels)) + 10
    assert parameters.startswith(f"{trained:,} of ")
    before, after = map(float, re.findall(r"([\d.]+)%", digits))
    assert before < 50 and after > 90
    assert drawn == f"picture: {picture}"
    assert picture.read_bytes().startswith(PNG)


def test_lora_says_what_it_cannot_draw(tmp_path):
    picture = tmp_path / "losses.wav"
    result = run(EXAMPLES / "lora.py", picture, "--epochs", 1)
    assert result.returncode == 2
    error = result.stderr.splitlines()[-1]
    assert error.startswith("lora.py: ") and "not supported" in error


# A chat

SAID = ["hello there", "and you"]


@pytest.fixture(scope="module")
def chat():
    # Of the overlay alone there is a `keras_hub` too, without models.
    pytest.importorskip("keras_hub.models")
    return importlib.import_module("chat")


@pytest.fixture(scope="module")
def preset(chat, tmp_path_factory):
    """A folder with a small model that knows letters alone."""
    models = chat.keras_hub.models
    words = [*map(chr, range(97, 123)), "\u0120", "\u010a", "\u0120t"]
    words.append("<|endoftext|>")
    preprocessor = models.GPT2CausalLMPreprocessor(
        models.GPT2Tokenizer(
            vocabulary={word: i for i, word in enumerate(words)},
            merges=["\u0120 t"],
        )
    )
    backbone = models.GPT2Backbone(
        vocabulary_size=len(words),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=64,
    )
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.7)
    folder = tmp_path_factory.mktemp("preset")
    models.GPT2CausalLM(backbone, preprocessor).save_to_preset(str(folder))
    return folder


def goes_on(model, text, length):
    """What the model has behind a text."""
    whole = model.generate(text, max_length=length)
    assert whole.startswith(text)
    return whole.removeprefix(text)


def test_a_chat_prints_what_the_model_says(chat, preset):
    model = chat.load(preset, "greedy")
    # An answer that fills the length leaves nothing of what was before.
    answers = [goes_on(model, f"{said}\n", 64) for said in SAID]
    expected = "".join(f"> {answer}|" for answer in answers)

    lines = "".join(f"{said}\n" for said in SAID)
    options = ("--sampler", "greedy", "--length", 64)
    result = run(EXAMPLES / "chat.py", preset, *options, input=lines)
    assert result.returncode == 0, result.stderr
    printed = re.sub(r"\n\d+ steps in \S+ s\n", "|", result.stdout)
    assert printed.rstrip() == f"{expected}>"


def test_a_chat_forgets_what_was_said_first(chat, preset):
    model = chat.load(preset, "greedy")
    conversation = chat.Conversation(model, 24)
    for said in SAID:
        assert "".join(conversation.answer(said)) == goes_on(model, said, 24)


def test_an_answer_that_is_not_waited_for_is_remembered(chat, preset):
    model = chat.load(preset, "greedy")
    conversation = chat.Conversation(model, 64)
    answer = conversation.answer("hello")
    first = next(answer) + next(answer)
    answer.close()
    answer = "".join(conversation.answer("and"))
    assert answer == goes_on(model, f"hello{first}and", 64)


def test_a_chat_refuses_what_is_too_long(chat, preset):
    conversation = chat.Conversation(chat.load(preset, "greedy"), 32)
    with pytest.raises(ValueError, match="more than 16 tokens"):
        next(conversation.answer("a" * 17))
    assert "".join(conversation.answer("a" * 16))


def removed(name):
    return lambda folder: (folder / name).unlink()


def overwritten(name):
    return lambda folder: (folder / name).write_bytes(b"{HDF")


BROKEN_PRESETS = {
    "missing": (shutil.rmtree, "no such folder"),
    "empty": (removed("config.json"), "has no config.json"),
    "no JSON": (overwritten("config.json"), "not a preset"),
    "no weights": (removed("model.weights.h5"), "model.weights"),
    "broken weights": (overwritten("model.weights.h5"), "not a preset"),
    "no words": (removed("assets/tokenizer/vocabulary.json"), "vocabulary"),
}


@pytest.mark.parametrize("case", BROKEN_PRESETS)
def test_broken_presets(chat, preset, tmp_path, monkeypatch, capfd, case):
    damage, reason = BROKEN_PRESETS[case]
    folder = shutil.copytree(preset, tmp_path / "preset")
    damage(folder)
    fails(monkeypatch, capfd, chat, (folder,), reason)
