"""Trains the model of digits.py on OpenVINO, and reads the held-out digits.

    python examples/train_digits.py [--keep]

KERAS_BACKEND=jax or tensorflow trains it there. --keep writes digits.keras, and
digits_predictions.npz with the probabilities of every held-out image: what
digits.py reads was trained on another backend, so that OpenVINO's answers can
be compared with it on a machine that does not have it.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "openvino")

import argparse
import time

import digits_data
import numpy as np

import keras
from keras import layers

EPOCHS = 15


def convolution(filters):
    """A convolution, normalised; 0.9 suits a training of a few hundred steps"""
    return [
        layers.Conv2D(filters, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
    ]


def build():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *convolution(16),
            *convolution(24),
            layers.MaxPooling2D(2),
            *convolution(32),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )


def train():
    """The trained model, and how many images a second it was trained on."""
    images, labels = digits_data.load()[0]
    model = build()
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    arguments = {"batch_size": 64, "verbose": 2}
    model.fit(images, labels, **arguments)  # the first epoch compiles
    start = time.perf_counter()
    model.fit(images, labels, initial_epoch=1, epochs=EPOCHS, **arguments)
    seconds = time.perf_counter() - start
    return model, len(images) * (EPOCHS - 1) / seconds


def keep(trained, probabilities):
    # A model that was never compiled is saved without the optimizer's state.
    model = build()
    model.set_weights(trained.get_weights())
    model.save(digits_data.MODEL)
    backend = keras.backend.backend()
    np.savez(
        digits_data.PREDICTIONS, backend=backend, probabilities=probabilities
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="write the files")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    model, speed = train()
    held_out, answers = digits_data.load()[1]
    probabilities = model.predict(held_out, verbose=0)
    if arguments.keep:
        keep(model, probabilities)
    accuracy = np.mean(probabilities.argmax(-1) == answers)
    print(
        f"trained on {keras.backend.backend()}: {model.count_params():,} "
        f"parameters, {speed:,.0f} images per second, "
        f"{accuracy:.2%} of {len(answers)} held-out images right"
    )


if __name__ == "__main__":
    main()
