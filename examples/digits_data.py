"""The scanned digits, and the one split that every script here uses."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
MODEL = HERE / "digits.keras"
PREDICTIONS = HERE / "digits_predictions.npz"


def load():
    """Returns `(images, labels)` to train on and `(images, labels)` held out.

    The 1,797 images come with scikit-learn. They are 8x8 pixels in 17 shades
    of grey, scaled to 0 ... 1 here. Every fifth image is held out.
    """
    digits = load_digits()
    images = (digits.images / 16).astype("float32")[..., np.newaxis]
    held_out = np.arange(len(images)) % 5 == 0
    return (
        (images[~held_out], digits.target[~held_out]),
        (images[held_out], digits.target[held_out]),
    )
