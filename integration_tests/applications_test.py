"""`keras.applications` on this backend, compared with Keras on JAX.

`APPLICATIONS_TEST=all pytest integration_tests/applications_test.py` runs every
architecture; without it, a few small ones.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

import keras

# The least that each takes, where it is not 32 pixels.
SIZES = {"Inception": 75, "Xception": 71, "NASNet": 32}
# Those that take all others too much time to build.
FEW = ("MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny")


def architectures():
    return sorted(
        name
        for name, make in vars(keras.applications).items()
        if callable(make) and name[0].isupper()
    )


def names():
    if os.environ.get("APPLICATIONS_TEST") == "all":
        return architectures()
    return FEW


def answers(name):
    """What a model with known weights makes of two images.

    Returns:
        An array of that, and of what it makes of images that are the same but
        for rounding.
    """
    size = next((n for start, n in SIZES.items() if name.startswith(start)), 64)
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(size, size, 3)
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = weight.shape
        if len(shape) < 2:
            # Scales, shifts and variances near those that layers begin with.
            noise = rng.uniform(0.9, 1.1, shape)
            weight.assign(noise * np.mean(weight) + 0.05 * (noise - 1))
        else:
            inputs = np.prod(shape[:-2] if shape[-1] == 1 else shape[:-1])
            weight.assign(rng.normal(0, np.sqrt(2 / inputs), shape))
    images = rng.uniform(0, 255, (2, size, size, 3)).astype("float32")
    nearby = images * rng.uniform(1 - 1e-6, 1 + 1e-6, images.shape)
    nearby = nearby.astype("float32")
    return np.stack([model.predict(x, verbose=0) for x in (images, nearby)])


@pytest.mark.skipif(
    keras.backend.backend() != "openvino", reason="compares it with another"
)
@pytest.mark.parametrize("name", names())
def test_as_on_jax(name, tmp_path):
    pytest.importorskip("jax")
    path = tmp_path / "answers.npy"
    subprocess.run(
        [sys.executable, __file__, name, path],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    expected, nearby = np.load(path)
    actual, _ = answers(name)
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    assert np.std(expected) > 0
    # With such weights deep ones make much of little: what JAX makes of the
    # rounding of pixels alone, all layers may make of theirs several times.
    allowed = max(
        1e-4 * np.abs(expected).max(), 5 * np.abs(nearby - expected).max()
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=allowed)


if __name__ == "__main__":
    np.save(sys.argv[2], answers(sys.argv[1]))
