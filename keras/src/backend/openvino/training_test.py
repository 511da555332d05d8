"""What `fit` does; `integration_tests/training_test.py` has its numbers."""

import gc
import threading
import weakref

import numpy as np
import pytest

import keras_vino
from keras.src import callbacks
from keras.src import layers
from keras.src import losses
from keras.src import metrics
from keras.src import models
from keras.src import ops
from keras.src import optimizers
from keras.src import random
from keras.src import regularizers
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import normal
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDataset

X, Y = normal(24, 3), normal(24, 2, seed=1)


def linear(bias=True, **options):
    """A model of one Dense, of which the steps of SGD are easy to say."""
    dense = layers.Dense(2, kernel_initializer="ones", use_bias=bias)
    model = models.Sequential([layers.Input((3,)), dense])
    model.compile(optimizers.SGD(0.1), "mse", **options)
    return model


def trained(kernel, bias, batches, rate=0.1):
    """The weights of `linear` after steps, computed with NumPy."""
    for x, y, weight in batches:
        error = (x @ kernel + bias - y) * weight[:, None]
        gradient = 2 * error / error.size
        kernel = kernel - rate * x.T @ gradient
        bias = bias - rate * gradient.sum(axis=0)
    return kernel, bias


def batches_of(size, epochs=1, weight=np.ones(len(X)), count=len(X)):
    return [
        (X[i : i + size], Y[i : i + size], weight[i : i + size])
        for _ in range(epochs)
        for i in range(0, count, size)
    ]


def check(model, batches):
    expected = trained(np.ones((3, 2)), np.zeros(2), batches)
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("steps_per_execution", [1, 4])
@pytest.mark.parametrize("size", [8, 7])
def test_steps_of_gradient_descent(run_eagerly, steps_per_execution, size):
    model = linear(
        run_eagerly=run_eagerly, steps_per_execution=steps_per_execution
    )
    model.fit(X, Y, batch_size=size, epochs=3, shuffle=False, verbose=0)
    check(model, batches_of(size, 3))


def test_weights_of_samples_and_classes():
    weight = np.linspace(0, 2, len(X)).astype("float32")
    model = linear()
    model.fit(
        X, Y, batch_size=6, shuffle=False, sample_weight=weight, verbose=0
    )
    check(model, batches_of(6, weight=weight))
    labels = np.arange(len(X)) % 2
    given = []
    for arguments in (
        {"class_weight": {0: 0.5, 1: 3.0}},
        {"sample_weight": np.where(labels, 3.0, 0.5).astype("float32")},
    ):
        model = models.Sequential(
            [layers.Input((3,)), layers.Dense(2, kernel_initializer="ones")]
        )
        loss = losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss)
        model.fit(X, labels, shuffle=False, verbose=0, **arguments)
        model.train_on_batch(X, labels, **arguments)
        given.append(model.get_weights())
    for one, other in zip(*given):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="not both"):
        model.train_on_batch(
            X, labels, sample_weight=labels, class_weight={0: 1.0, 1: 1.0}
        )


class Slices(PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


def made_by_workers():
    return Slices(workers=2)


def generator():
    while True:
        yield from map(Slices().__getitem__, range(3))


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)


def torch_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(
        torch.from_numpy(X), torch.from_numpy(Y)
    )
    return torch.utils.data.DataLoader(data, batch_size=8)


@pytest.mark.parametrize(
    "data", [Slices, made_by_workers, generator, tf_dataset, torch_loader]
)
def test_data_that_comes_in_batches(data):
    model = linear()
    data = data()
    model.fit(data, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
    check(model, batches_of(8, 2))


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_no_batch_of_a_generator_is_lost(run_eagerly):
    model = linear(steps_per_execution=3, run_eagerly=run_eagerly)
    data = map(Slices().__getitem__, range(3))
    model.fit((batch for batch in data), verbose=0)
    check(model, batches_of(8))


def test_validation_and_epochs():
    model = linear(metrics=["mae"])
    history = model.fit(
        X,
        Y,
        batch_size=6,
        epochs=5,
        initial_epoch=1,
        validation_split=0.25,
        validation_freq=2,
        shuffle=False,
        verbose=0,
    )
    check(model, batches_of(6, 4, count=18))
    assert history.epoch == [1, 2, 3, 4]
    assert len(history.history["loss"]) == 4
    assert len(history.history["val_mae"]) == 2
    error = np.mean(np.abs(model.predict(X[18:], verbose=0) - Y[18:]))
    evaluated = model.evaluate(X[18:], Y[18:], verbose=0, return_dict=True)
    np.testing.assert_allclose(evaluated["mae"], error, rtol=1e-5)


def test_validation_takes_the_same_samples_each_time():
    model = linear()
    model.optimizer.learning_rate = 0.0
    arguments = {"validation_batch_size": 4, "validation_steps": 2}
    history = model.fit(
        X, Y, epochs=3, validation_data=(X, Y), verbose=0, **arguments
    )
    error = np.mean((X[:8] @ np.ones((3, 2)) - Y[:8]) ** 2)
    np.testing.assert_allclose(history.history["val_loss"], [error] * 3, 1e-5)


def test_what_is_trained_is_seen_at_once(tmp_path):
    model = linear()
    for _ in range(4):
        model.fit(X, Y, verbose=0)
        kernel, bias = model.get_weights()
        expected = X @ kernel + bias
        np.testing.assert_allclose(model.predict(X, verbose=0), expected, 1e-5)
        loss = model.evaluate(X, Y, verbose=0)
        np.testing.assert_allclose(loss, np.mean((expected - Y) ** 2), 1e-5)
    model.export(tmp_path / "model.xml", format="openvino", verbose=False)
    import openvino as ov

    exported = ov.Core().compile_model(
        tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(exported(X)[0], expected, rtol=1e-5)


def test_rounds_compile_nothing_anew(monkeypatch):
    model = linear(metrics=["mae"])
    found = compiled_models(monkeypatch)
    counts = []
    for _ in range(5):
        model.fit(X, Y, batch_size=8, validation_data=(X, Y), verbose=0)
        model.evaluate(X, Y, verbose=0)
        model.predict(X, verbose=0)
        model.optimizer.learning_rate = 0.05
        counts.append(len(found))
    assert counts[2] == counts[4]
    assert counts[4] <= 8


def test_layers_take_turns_at_being_trainable(monkeypatch):
    found, results, counts = compiled_models(monkeypatch), [], []
    for run_eagerly in (True, False):
        maker = models.Sequential([layers.Input((3,)), layers.Dense(3)])
        critic = models.Sequential([layers.Input((3,)), layers.Dense(1)])
        both = models.Sequential([maker, critic])
        for i, w in enumerate(both.weights):
            w.assign(normal(*w.shape, seed=i))
        for model in (critic, both):
            model.compile(optimizers.SGD(0.1), "mse", run_eagerly=run_eagerly)
        for _ in range(6):
            critic.trainable = True
            critic.train_on_batch(X, Y[:, :1])
            critic.trainable = False
            both.train_on_batch(X, Y[:, 1:])
            counts.append(len(found))
        results.append(both.get_weights())
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert counts[-4] == counts[-1]


def test_what_was_trainable_long_ago_is_forgotten():
    hidden = [layers.Dense(3) for _ in range(3)]
    model = models.Sequential([layers.Input((3,)), *hidden, layers.Dense(2)])
    model.compile("sgd", "mse")
    functions = []
    for i in range(8):
        for place, layer in enumerate(hidden):
            layer.trainable = bool(i >> place & 1)
        functions.append(weakref.ref(model.make_train_function()))
    gc.collect()
    assert len([f for f in functions if f() is not None]) == 2


class Scaled(layers.Layer):
    factor = 1.0

    def call(self, x):
        return x * self.factor


def test_changes_beside_those_of_what_is_trainable_are_seen():
    scaled = Scaled()
    model = models.Sequential([layers.Input((3,)), layers.Dense(2), scaled])
    model.compile(optimizers.SGD(0.1), "mse")
    for factor, trainable in [(1.0, True), (1.0, False), (0.0, True)]:
        scaled.factor, scaled.trainable = factor, trainable
        loss = model.train_on_batch(X, Y)
    np.testing.assert_allclose(loss, np.mean(Y * Y), rtol=1e-5)


def test_attributes_and_frozen_layers():
    model = models.Sequential(
        [layers.Input((3,)), layers.Dense(4), layers.Dense(2)]
    )
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    after = model.get_weights()
    for i, (one, other) in enumerate(zip(before, after)):
        assert np.array_equal(one, other) == (i < 2)
    model.layers[0].trainable = True
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    assert not np.array_equal(model.get_weights()[0], after[0])


def test_a_model_of_no_trainable_weights():
    model = linear()
    model.trainable = False
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="trainable weights"):
        model.fit(X, Y, verbose=0)
    check(model, [])


class WithTape(models.Model):
    """Overrides `train_step` as is done with TensorFlow."""

    def train_step(self, data):
        x, y = data
        with keras_vino.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        weights = self.trainable_weights
        gradients = tape.gradient(loss, weights)
        self.optimizer.apply(gradients, weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_step_of_ones_own(run_eagerly):
    inputs = layers.Input((3,))
    outputs = layers.Dense(2, kernel_initializer="ones")(inputs)
    model = WithTape(inputs, outputs)
    model.compile(
        optimizers.SGD(0.1), "mse", metrics=["mae"], run_eagerly=run_eagerly
    )
    history = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    check(model, batches_of(8))
    assert set(history.history) == {"loss", "mae"}


class Adversaries(models.Model):
    """Two parts with an optimizer each, that are built in the step."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(3), layers.Dense(1)

    def compile(self, **options):
        super().compile(**options)
        self.optimizers = optimizers.Adam(0.1), optimizers.SGD(0.1)

    def call(self, x):
        return self.second(self.first(x))

    def train_step(self, data):
        x = data
        with keras_vino.GradientTape(persistent=True) as tape:
            score = ops.mean(self(x))
            other = ops.mean(ops.square(self.first(x)))
        parts = (score, self.second), (other, self.first)
        for optimizer, (loss, part) in zip(self.optimizers, parts):
            weights = part.trainable_weights
            optimizer.apply(tape.gradient(loss, weights), weights)
        return {"score": score, "other": other}


def test_several_optimizers():
    results = []
    for run_eagerly in (False, True):
        model = Adversaries()
        model(X)
        for i, w in enumerate(model.weights):
            w.assign(normal(*w.shape, seed=i))
        model.compile(run_eagerly=run_eagerly)
        for _ in range(4):
            model.fit(X, batch_size=8, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_dropout_draws_anew_each_step():
    model = models.Sequential([layers.Input((3,)), layers.Dropout(0.5, seed=3)])
    drawn = []

    class Drawn(losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    model.compile("sgd", Drawn())
    with pytest.warns(UserWarning, match="trainable"):
        drawn = [model.train_on_batch(X, X) for _ in range(4)]
    assert len(set(drawn)) == 4
    seeds = random.SeedGenerator(3)
    expected = [
        float(np.mean(random.dropout(X, 0.5, seed=seeds))) for _ in range(4)
    ]
    np.testing.assert_allclose(drawn, expected, rtol=1e-5)


def test_stateful_recurrent_layers():
    x, y = normal(4, 5, 3), normal(4, 2)
    results = []
    for run_eagerly in (False, True):
        model = models.Sequential(
            [
                layers.Input(batch_shape=(4, 5, 3)),
                layers.LSTM(4, stateful=True, seed=0),
                layers.Dense(2, kernel_initializer="ones"),
            ]
        )
        for i, w in enumerate(model.weights):
            w.assign(normal(*w.shape, seed=i))
        model.compile("sgd", "mse", run_eagerly=run_eagerly)
        found = [model.train_on_batch(x, y) for _ in range(4)]
        results.append([*found, *model.get_weights()])
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    model = models.Sequential(
        [
            layers.Input((3,)),
            layers.Dense(8, activation="relu", dtype=policy),
            layers.Dense(2, dtype="float32"),
        ]
    )
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(0.1))
    model.compile(optimizer, "mse")
    history = model.fit(X, Y, epochs=20, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert {str(w.dtype) for w in model.trainable_weights} == {"float32"}


def test_gradients_in_the_dtype_of_the_weights():
    dense = layers.Dense(2, dtype="mixed_bfloat16")
    dense.build((None, 3))
    with keras_vino.GradientTape() as tape:
        y = ops.sum(dense(X) * Y)
    kernel, bias = tape.gradient(y, dense.trainable_weights)
    assert kernel.dtype == bias.dtype == "float32"
    np.testing.assert_allclose(kernel, X.T @ Y, rtol=2e-2, atol=0.05)


def test_regularizers_have_gradients():
    dense = layers.Dense(
        2,
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer=regularizers.L2(0.5),
    )
    model = models.Sequential([layers.Input((3,)), dense])
    model.compile(optimizers.SGD(0.1), lambda y, y_pred: 0 * y_pred)
    for _ in range(3):
        model.train_on_batch(X, Y)
    np.testing.assert_allclose(dense.kernel, np.full((3, 2), 0.9**3), rtol=1e-6)


def test_statistics_of_float8_are_assigned():
    dense = layers.Dense(2)
    model = models.Sequential([layers.Input((3,)), dense])
    model.quantize("float8")
    model.compile("sgd", "mse")
    greatest = []
    for factor in (1, 3):
        model.train_on_batch(factor * X, Y)
        greatest.append(factor * np.abs(X).max())
    history = np.sort(dense.inputs_amax_history)
    np.testing.assert_allclose(history[-3:], [0, *greatest], rtol=1e-6)
    # That of the history before the step, by the greatest float8.
    scale = greatest[0] / 448
    np.testing.assert_allclose(dense.inputs_scale, scale, rtol=1e-6)


def test_variables_are_watched_when_they_are_read():
    dense = layers.Dense(2)
    dense.build((None, 3))
    frozen = layers.Dense(2)
    frozen.build((None, 3))
    frozen.trainable = False
    with keras_vino.GradientTape(persistent=True) as tape:
        y = ops.sum(dense(X) * Y) + ops.sum(frozen(X))
    kernel, bias, none = tape.gradient(y, [*dense.weights, frozen.kernel])
    np.testing.assert_allclose(kernel, X.T @ Y, rtol=1e-5)
    np.testing.assert_allclose(bias, Y.sum(axis=0), rtol=1e-5)
    assert none is None
    unwatched = keras_vino.GradientTape(watch_accessed_variables=False)
    with unwatched as tape:
        tape.watch(frozen.kernel)
        y = ops.sum(dense(X)) + ops.sum(frozen(X) * Y)
    kernel, none = tape.gradient(y, [frozen.kernel, dense.kernel])
    np.testing.assert_allclose(kernel, X.T @ Y, rtol=1e-5)
    assert none is None


def test_a_variable_that_is_assigned_while_a_tape_is_open():
    dense = layers.Dense(1, use_bias=False, kernel_initializer="ones")
    dense.build((None, 1))
    x = np.array([[3.0]], "float32")
    with keras_vino.GradientTape() as tape:
        y = dense(x)
        dense.kernel.assign([[5.0]])
        y = y * dense(x)
    (gradient,) = tape.gradient(y, dense.trainable_weights)
    assert float(gradient[0, 0]) == 3 * 15 + 3 * 3


@pytest.mark.parametrize("compiled", [False, True])
def test_state_depends_on_what_it_is_computed_of(compiled):
    state = Variable(5.0, trainable=False)

    def function(x):
        with keras_vino.GradientTape() as tape:
            tape.watch(x)
            state.assign(state * x)
            y = state * state
        return tape.gradient(y, x)

    function = jit(function) if compiled else function
    # Of (5 * x) ** 2, as on JAX.
    assert float(function(ops.convert_to_tensor(3.0))) == 2 * 25 * 3
    assert float(state) == 15


class Failing(layers.Layer):
    def __init__(self, function, name):
        super().__init__(name=name)
        self._function = function

    def call(self, x):
        return self._function(x)


def doubled_until(x):
    return ops.while_loop(
        lambda y: ops.sum(y) < 100, lambda y: y * 2, [ops.abs(x) + 1]
    )[0]


@pytest.mark.parametrize(
    "function, error, match",
    [
        (ops.stop_gradient, ValueError, "none of its trainable weights"),
        (
            lambda x: ops.nextafter(x, 1.0),
            NotImplementedError,
            r"Failing \(failing\).* NextAfter has no derivative",
        ),
        (doubled_until, NotImplementedError, r"Failing \(failing\).*loop"),
    ],
)
def test_what_cannot_be_trained_is_said(function, error, match):
    model = models.Sequential(
        [
            layers.Input((3,)),
            layers.Dense(2, name="first"),
            Failing(function, "failing"),
        ]
    )
    model.compile("sgd", "mse")
    with pytest.raises(error, match=match):
        model.fit(X, Y, verbose=0)


def test_a_weight_that_the_loss_does_not_depend_on():
    inputs = layers.Input((3,))
    first = layers.Dense(2, name="lonely")
    hidden = first(inputs)
    stopped = Failing(ops.stop_gradient, "stop")(hidden)
    model = models.Model(inputs, layers.Dense(2, name="other")(stopped))
    model.compile("sgd", "mse")
    before = first.get_weights()
    with pytest.warns(UserWarning, match="lonely/kernel"):
        model.fit(X, Y, verbose=0)
    for one, other in zip(before, first.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_training_ends_at_nan():
    model = linear()
    x = X.copy()
    x[8:] = np.nan
    history = model.fit(
        x,
        Y,
        batch_size=8,
        shuffle=False,
        epochs=3,
        verbose=0,
        callbacks=[callbacks.TerminateOnNaN()],
    )
    assert len(history.history["loss"]) == 1
    assert np.isnan(history.history["loss"][0])


class Interrupt(callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_model_is_of_use():
    model = linear(metrics=["mae"])
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            X,
            Y,
            batch_size=8,
            shuffle=False,
            callbacks=[Interrupt()],
            validation_data=(X, Y),
            verbose=0,
        )
    check(model, batches_of(8)[:2])
    model.fit(X[16:], Y[16:], batch_size=8, verbose=0)
    check(model, batches_of(8))
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(
        model.predict(X, verbose=0), X @ kernel + bias, rtol=1e-5
    )


def test_an_interrupt_leaves_no_half_of_a_step(monkeypatch):
    model = linear()
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    bias = model.layers[0].bias
    assign, is_first = bias._direct_assign, [True]

    def interrupted(value):
        if is_first.pop() if is_first else False:
            raise KeyboardInterrupt
        assign(value)

    monkeypatch.setattr(bias, "_direct_assign", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.train_on_batch(X[:8], Y[:8])
    check(model, batches_of(8) + batches_of(8)[:1])


def test_predict_beside_training():
    model = linear(bias=False)
    model.predict(X, verbose=0)
    errors, done = [], threading.Event()

    def predict():
        while not done.is_set():
            result = model.predict(np.eye(3, dtype="float32"), verbose=0)
            if not np.isfinite(result).all():
                errors.append(result)

    thread = threading.Thread(target=predict)
    thread.start()
    for _ in range(20):
        model.fit(X, Y, batch_size=8, verbose=0)
    done.set()
    thread.join()
    assert not errors


def test_sequences_of_many_lengths():
    model = models.Sequential(
        [layers.Input((None, 3)), layers.LSTM(4), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    for length in (3, 5, 4, 6, 7, 3, 8):
        x = normal(2, length, 3)
        model.train_on_batch(x, np.ones((2, 1), "float32"))
    assert np.isfinite(model.predict(normal(2, 9, 3), verbose=0)).all()


def test_metrics_of_a_model_of_ones_own():
    class Counting(models.Model):
        def __init__(self, *args):
            super().__init__(*args)
            self.seen = metrics.Sum(name="seen")

        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            self.seen.update_state(ops.shape(x)[0])
            return ops.mean(ops.square(y - y_pred))

    inputs = layers.Input((3,))
    model = Counting(inputs, layers.Dense(2)(inputs))
    model.compile("sgd")
    history = model.fit(X, Y, batch_size=7, epochs=2, verbose=0)
    assert history.history["seen"] == [24, 24]
