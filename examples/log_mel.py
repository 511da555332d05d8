"""Draws the log-mel spectrogram of a WAV recording, computed by OpenVINO.

    python examples/log_mel.py recording.wav [picture.png]

STFT, mel filter bank and logarithm are one Keras model, compiled once for a
recording of any length. 0 dB is a full-scale sine. Points more than 50 dB below
the loudest are drawn at that floor, and all others are right to 0.0001 dB.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "openvino")

import argparse
import io
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.io import wavfile
from scipy.signal import get_window

import keras
from keras import ops

BANDS = 80
WINDOW = 0.025  # seconds
HOP = 0.010  # seconds
RANGE = 50  # dB below the loudest; further down, float32 is less exact
SILENCE = 1e-10  # the least power that is told from none: -100 dB
BLOCK = 3_000  # frames computed at once, which bounds the memory that it takes
LOUDEST = 1e9  # floats beyond are no sound, NaN and infinity among them
RATES = range(1_000, 1_000_001)  # Hz; others come from damaged headers
TICKS = (125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)  # Hz


def read_wav(path):
    """Reads a WAV file of integers or floats.

    Returns:
        The samples as float32, of shape `(length, channels)` and in -1 ... 1
        for integers, and how many there are in a second.

    Raises:
        OSError: where the file cannot be read.
        ValueError: where it is not a whole WAV file with sound in it.
    """
    data = path.read_bytes()
    if not data:
        raise ValueError("the file is empty")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("not a WAV file")
    size = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < size:
        raise ValueError(
            f"the WAV file is truncated: {len(data):,} of {size:,} bytes"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:  # SciPy does not foresee every broken header
        raise ValueError(
            f"the WAV file is damaged or of an unsupported kind: {error}"
        ) from error
    if not samples.size:
        raise ValueError("the recording has no samples")
    if rate not in RATES:
        raise ValueError(f"cannot use a sample rate of {rate:,} Hz")
    if samples.dtype.kind == "f":
        if not np.abs(samples).max() < LOUDEST:
            raise ValueError("the recording has samples that are out of range")
        samples = samples.astype("float32")
    else:
        full_scale = 2.0 ** (8 * samples.itemsize - 1)
        zero = full_scale if samples.dtype.kind == "u" else 0
        samples = (samples.astype("float32") - zero) / full_scale
    return samples.reshape(len(samples), -1), rate


def hertz_to_mel(hertz):
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def band_edges(rate):
    """Mels: band `i` begins at edge `i`, peaks at `i + 1`, ends at `i + 2`."""
    return np.linspace(0, hertz_to_mel(rate / 2), BANDS + 2)


def frame_sizes(rate):
    """Samples in a window, from one window to the next, and in its FFT."""
    window, hop = round(WINDOW * rate), round(HOP * rate)
    # Zeros around the window until each band has an FFT bin of its own.
    narrowest = 700 * np.expm1(band_edges(rate)[1] / 1127)
    bins = max(window, rate / narrowest)
    return window, hop, 2 ** int(np.ceil(np.log2(bins)))


def mel_filters(rate):
    """Triangles that take an FFT's power to the bands, in units of a sine's."""
    window, _, fft_length = frame_sizes(rate)
    bins = hertz_to_mel(np.fft.rfftfreq(fft_length, 1 / rate))[:, np.newaxis]
    begin, peak, end = np.lib.stride_tricks.sliding_window_view(
        band_edges(rate), BANDS
    )
    triangles = np.minimum(
        (bins - begin) / (peak - begin), (end - bins) / (end - peak)
    )
    full_scale = fft_length * np.sum(get_window("hann", window) ** 2) / 4
    return np.maximum(triangles, 0) / full_scale


def log_mel_model(rate):
    """Samples, `(batch, length)`, to decibels, `(batch, frames, bands)`."""
    samples = keras.Input((None,), name="samples")
    real, imaginary = ops.stft(samples, *frame_sizes(rate), center=False)
    power = ops.square(real) + ops.square(imaginary)
    mel = ops.matmul(power, mel_filters(rate).astype("float32"))
    decibels = 10 * ops.log10(ops.maximum(mel, SILENCE))
    return keras.Model(samples, decibels, name="log_mel")


def log_mel(samples, rate):
    """Decibels, `(frames, bands)`; the middle of frame `i` is at `i * hop`."""
    model = log_mel_model(rate)
    _, hop, fft_length = frame_sizes(rate)
    samples = np.pad(samples, fft_length // 2)
    frames = 1 + (len(samples) - fft_length) // hop
    decibels = []
    for first in range(0, frames, BLOCK):
        last = min(first + BLOCK, frames) - 1
        block = samples[first * hop : last * hop + fft_length]
        decibels.append(model.predict_on_batch(block[np.newaxis])[0])
    decibels = np.concatenate(decibels)
    return np.maximum(decibels, decibels.max() - RANGE)


def draw(decibels, rate, picture):
    hop = frame_sizes(rate)[1] / rate
    edges = band_edges(rate)
    half_band = edges[1] / 2
    loudest = max(decibels.max(), 10 * np.log10(SILENCE) + RANGE)
    figure = Figure(figsize=(9, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        decibels.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=loudest - RANGE,
        vmax=loudest,
        extent=(
            -hop / 2,
            (len(decibels) - 0.5) * hop,
            edges[1] - half_band,
            edges[-2] + half_band,
        ),
    )
    ticks = [hertz for hertz in TICKS if hertz < rate / 2]
    axes.set_yticks(hertz_to_mel(ticks), [f"{hertz:,}" for hertz in ticks])
    axes.set_ylabel("frequency (Hz)")
    axes.set_xlabel("time (s)")
    figure.colorbar(image, label="dB of full scale", pad=0.01)
    figure.savefig(picture, format=picture.suffix[1:] or "png")


def main():
    parser = argparse.ArgumentParser(
        description="Draws the log-mel spectrogram of a WAV recording."
    )
    parser.add_argument("recording", type=Path, help="a WAV file")
    parser.add_argument(
        "picture",
        type=Path,
        nargs="?",
        help="PNG, PDF or SVG; by default RECORDING.png in this folder",
    )
    arguments = parser.parse_args()
    recording = arguments.recording
    picture = arguments.picture or Path(f"{recording.stem}.png")

    def fail(path, error):
        reason = getattr(error, "strerror", None) or error
        parser.exit(2, f"{parser.prog}: {path}: {reason}\n")

    try:
        samples, rate = read_wav(recording)
    except (OSError, ValueError) as error:
        fail(recording, error)
    decibels = log_mel(samples.mean(axis=1), rate)
    try:
        draw(decibels, rate, picture)
    except (OSError, ValueError) as error:
        fail(picture, error)

    length, channels = samples.shape
    frames, bands = decibels.shape
    print(
        f"recording    {length / rate:.2f} s, {rate:,} Hz, "
        f"{channels} channel{'s' * (channels > 1)}"
    )
    print(
        f"spectrogram  {frames} frames, {bands} bands, "
        f"{decibels.min():.1f} to {decibels.max():.1f} dB"
    )
    print(f"picture      {picture}")


if __name__ == "__main__":
    main()
