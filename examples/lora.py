"""Teaches the model of digits.py, with LoRA, to read digits in a mirror.

    python examples/lora.py [picture.png] [--rank 4] [--epochs 20]

The kernels of convolutions and of the dense layer stay as they are: two small
matrices are trained beside each. The picture shows the loss of each step, and
that of digits that are held out after each epoch.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "openvino")

import argparse
import io
import math
from pathlib import Path

import digits_data
import numpy as np
from matplotlib.figure import Figure
from rich.progress import Progress

import keras

BATCH = 64
RATE = 0.01  # how far Adam goes


def load(rank):
    """The model, of which kernels and normalisation are frozen."""
    model = keras.saving.load_model(digits_data.MODEL)
    for layer in model.layers:
        layer.trainable = hasattr(layer, "enable_lora")
        if layer.trainable:
            layer.enable_lora(rank)
    return model


def mirrored(data):
    images, labels = data
    return images[:, :, ::-1], labels


class Bar(keras.callbacks.Callback):
    """Shows in a `rich.progress.Progress` how far a training is.

    Attributes:
        losses: a list of the loss of each step.
    """

    def __init__(self, progress):
        super().__init__()
        self.losses = []
        self._progress = progress

    def on_train_begin(self, logs=None):
        total = self.params["steps"] * self.params["epochs"]
        self._task = self._progress.add_task("", total=total)

    def on_epoch_begin(self, epoch, logs=None):
        self._before = 0.0

    def on_train_batch_end(self, batch, logs=None):
        # Keras tells the mean of an epoch so far.
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - self._before)
        self._before = total
        text = f"loss {logs['loss']:.3f}"
        self._progress.update(self._task, advance=1, description=text)


def train(model, epochs):
    """The loss of each step, and that of held-out digits of each epoch."""
    images, labels = mirrored(digits_data.load()[0])
    count = len(images) // BATCH * BATCH  # batches of one size
    model.compile(
        keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy"
    )
    with Progress() as progress:
        bar = Bar(progress)
        history = model.fit(
            images[:count],
            labels[:count],
            batch_size=BATCH,
            epochs=epochs,
            validation_data=mirrored(digits_data.load()[1]),
            callbacks=[bar],
            verbose=0,
        )
    return bar.losses, history.history["val_loss"]


def accuracy(model, data):
    images, labels = data
    answers = model.predict(images, verbose=0).argmax(-1)
    return np.mean(answers == labels)


def draw(losses, held_out, path):
    """Writes a picture of the losses, whole or not at all."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, linewidth=0.8, label="of each step")
    ends = steps.reshape(len(held_out), -1)[:, -1]
    axes.plot(ends, held_out, "o-", markersize=3, label="of held-out digits")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.removeprefix(".") or "png")
    path.write_bytes(buffer.getvalue())


def positive(text):
    """The integer of a text, of 1 or more."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "picture",
        type=Path,
        nargs="?",
        default=Path("lora.png"),
        help="PNG, PDF or SVG; by default lora.png in this folder",
    )
    counts = {"type": positive, "help": "by default %(default)s"}
    parser.add_argument("--rank", default=4, **counts)
    parser.add_argument("--epochs", default=20, **counts)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = load(arguments.rank)
    held_out = mirrored(digits_data.load()[1])
    before = accuracy(model, held_out)
    losses = train(model, arguments.epochs)
    try:
        draw(*losses, arguments.picture)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        parser.exit(2, f"{parser.prog}: {arguments.picture}: {reason}\n")
    trained = sum(math.prod(w.shape) for w in model.trainable_weights)
    print(
        f"{trained:,} of {model.count_params():,} parameters were trained\n"
        f"mirrored digits: {before:.2%} right before, "
        f"{accuracy(model, held_out):.2%} after\n"
        f"picture: {arguments.picture}"
    )


if __name__ == "__main__":
    main()
