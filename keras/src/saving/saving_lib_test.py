import h5py
import numpy as np
import pytest

from keras.src import layers
from keras.src import models


class Nested(models.Model):
    """Layers in tuples in a list, which old files leave out."""

    def __init__(self, count=3):
        super().__init__()
        self.blocks = [(layers.Dense(4, use_bias=False),) for _ in range(count)]
        self.out = layers.Dense(2)

    def call(self, x):
        for (dense,) in self.blocks:
            x = dense(x)
        return self.out(x)


def test_weights_saved_without_nested_containers(tmp_path):
    path = tmp_path / "nested.weights.h5"
    saved, loaded = Nested(), Nested()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    expected = saved.predict(x, verbose=0)
    assert not np.allclose(loaded.predict(x, verbose=0), expected)
    saved.save_weights(path)
    with h5py.File(path, "r+") as file:
        # Where Keras put them before it wrote nested containers.
        for i, name in enumerate(sorted(file["blocks"])):
            layer = f"dense_{i}" if i else "dense"
            file.move(f"blocks/{name}/dense", f"layers/{layer}")
        del file["blocks"]
    with pytest.warns(UserWarning, match="Skipping nested container"):
        loaded.load_weights(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
