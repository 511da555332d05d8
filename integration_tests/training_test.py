"""Training beside Keras on JAX: the same, step by step.

Each backend trains in a child process with the same models, weights, data,
seeds and optimizers, see `training_cases.py`.
"""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from integration_tests import training_cases

ROOT = Path(__file__).resolve().parents[1]

# How far a loss of up to 3 may be from JAX's in each of 50 steps. Those of
# TensorFlow are 1e-6 away, where it draws the same numbers.
NEAR = 1e-5


def child(backend, *arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        **kwargs,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What both backends gave: the losses and the weights by case."""
    pytest.importorskip("jax")
    folder = tmp_path_factory.mktemp("runs")

    def run(backend):
        path = folder / f"{backend}.pickle"
        module = "integration_tests.training_cases"
        assert child(backend, "-m", module, str(path)).wait() == 0
        return pickle.loads(path.read_bytes())

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, ("openvino", "jax")))


@pytest.mark.parametrize("case", training_cases.CASES, ids="-".join)
def test_training_is_as_on_jax(runs, case):
    (found, weights), (losses, expected) = (run[case] for run in runs)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(found, losses, rtol=0, atol=NEAR)
    for here, there in zip(weights, expected, strict=True):
        assert here.dtype == there.dtype
        if here.dtype.kind in "iu":  # seeds
            np.testing.assert_array_equal(here, there)
        else:
            np.testing.assert_allclose(here, there, rtol=2e-3, atol=2e-3)


# Trains with statistics and a moving average, and writes the weights. Given a
# step, it kills itself after it. (Keras saves no seeds: dropout begins anew.)
RESUMED = """
import os, signal, sys
import numpy as np
import keras

folder, target, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(0)
x = rng.standard_normal((64, 8)).astype("float32")
y = rng.integers(0, 3, 64)
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((8,)),
    keras.layers.Dense(16, activation="relu"),
    keras.layers.BatchNormalization(),
    keras.layers.Dense(3),
])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01, use_ema=True), loss)


class Kill(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == step:
            os.kill(os.getpid(), signal.SIGKILL)


backup = keras.callbacks.BackupAndRestore(folder)
model.fit(x, y, batch_size=16, epochs=6, shuffle=False, verbose=0,
          callbacks=[backup, Kill()])
np.savez(target, *model.get_weights())
"""


def test_a_killed_training_goes_on_where_it_was(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(RESUMED)

    def train(folder, target, step):
        arguments = script, tmp_path / folder, tmp_path / target, step
        return child("openvino", *map(str, arguments)).wait()

    assert train("first", "whole.npz", 0) == 0
    assert train("second", "killed.npz", 14) == -signal.SIGKILL
    assert not (tmp_path / "killed.npz").exists()
    assert train("second", "resumed.npz", 0) == 0
    whole = np.load(tmp_path / "whole.npz")
    resumed = np.load(tmp_path / "resumed.npz")
    assert len(whole.files) > 5
    for name in whole.files:
        np.testing.assert_array_equal(resumed[name], whole[name])
