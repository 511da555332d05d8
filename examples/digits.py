"""Reads scanned handwritten digits with OpenVINO.

    python examples/digits.py

The model was trained on another backend (see train_digits.py), whose answers
are kept beside it. The exit status is 1 where OpenVINO's answers differ.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "openvino")

import statistics
import sys
import time

import digits_data
import numpy as np

import keras

TOLERANCE = 1e-5  # between the probabilities of two backends
RUNS = 20
SHOWN = (2, 3, 8)  # digits to show, and a wrong answer if there is one
SHADES = " .:-=+*#%@"


def device():
    """What the backend computes on where `keras.device` says nothing else."""
    backend = keras.backend.backend()
    if backend != "openvino":
        return f"the default of {backend}"
    import openvino

    return openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")


def seconds(function):
    """The median time of `function`, which has been called before."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def picture(image):
    """The lines of a text that looks like `image`."""
    shades = np.rint(image[..., 0] * (len(SHADES) - 1)).astype(int)
    return ["".join(SHADES[i] * 2 for i in row) for row in shades]


def show(images, captions):
    print()
    for line in zip(*map(picture, images)):
        print("   ".join(line).rstrip())
    print("   ".join(f"{caption:16}" for caption in captions).rstrip())


def main():
    _, (images, labels) = digits_data.load()
    trained = np.load(digits_data.PREDICTIONS)
    model = keras.saving.load_model(digits_data.MODEL)

    def predict():
        return model.predict(images, batch_size=len(images), verbose=0)

    probabilities = predict()
    elapsed = seconds(predict)
    digits = probabilities.argmax(-1)
    same = digits == trained["probabilities"].argmax(-1)
    difference = np.abs(probabilities - trained["probabilities"]).max()
    right = digits == labels

    print(f"backend    {keras.backend.backend()}")
    print(f"device     {device()}")
    print(f"accuracy   {right.mean():.2%} of {len(right)} held-out images")
    print(f"speed      {len(images) / elapsed:,.0f} images per second")
    print(f"           (all in one batch, median of {RUNS} runs after a first)")
    print(
        f"agreement  {same.sum()} of {len(same)} predictions as on "
        f"{trained['backend']}, probabilities to {difference:.0e}"
    )

    shown = [np.flatnonzero(right & (labels == digit))[0] for digit in SHOWN]
    shown.extend(np.flatnonzero(~right)[:1])
    captions = [
        f"read as {digits[i]}" + ("" if right[i] else f", is {labels[i]}")
        for i in shown
    ]
    show(images[shown], captions)
    if not same.all() or not difference <= TOLERANCE:
        sys.exit(f"digits.py: the answers differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
