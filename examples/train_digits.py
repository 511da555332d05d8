"""Trains the model of digits.py on another backend, and keeps its answers.

    KERAS_BACKEND=jax python examples/train_digits.py

Writes digits.keras, and digits_predictions.npz with the probabilities that the
training backend gives for every held-out image, so that another backend can be
compared with it on a machine that does not have it.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import digits_data
import numpy as np

import keras
from keras import layers


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


def main():
    keras.utils.set_random_seed(0)
    (images, labels), (held_out, answers) = digits_data.load()
    trained = build()
    trained.compile("adam", "sparse_categorical_crossentropy")
    trained.fit(images, labels, batch_size=64, epochs=15, verbose=0)

    # A model that was never compiled is saved without the optimizer's state.
    model = build()
    model.set_weights(trained.get_weights())
    model.save(digits_data.MODEL)
    probabilities = model.predict(held_out, verbose=0)
    backend = keras.backend.backend()
    np.savez(
        digits_data.PREDICTIONS, backend=backend, probabilities=probabilities
    )
    accuracy = np.mean(probabilities.argmax(-1) == answers)
    print(
        f"trained on {backend}: {model.count_params():,} parameters, "
        f"{accuracy:.2%} of {len(answers)} held-out images right"
    )


if __name__ == "__main__":
    main()
