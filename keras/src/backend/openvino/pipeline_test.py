import concurrent.futures
import gc
import itertools
import weakref

import numpy as np
import pytest

from keras.src import backend
from keras.src import callbacks
from keras.src import layers
from keras.src import metrics
from keras.src import models
from keras.src import ops
from keras.src.backend.openvino import jit as jit_module
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.pipeline import MANY_STEPS
from keras.src.backend.openvino.pipeline import Epoch
from keras.src.backend.openvino.pipeline import Gathered
from keras.src.backend.openvino.pipeline import Together
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDataset

STEPS = 4 * MANY_STEPS


def scaled(factor=2.0):
    """A model that multiplies by one weight."""
    model = models.Sequential(
        [layers.Input((3,)), layers.Rescaling(1.0), Scale(factor)]
    )
    model.compile()
    return model


class Scale(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = self.add_weight(shape=(), initializer="ones")
        self.factor.assign(factor)

    def call(self, x):
        return x * self.factor


def rows(count):
    return np.arange(3 * count, dtype="float32").reshape(count, 3)


class Log(callbacks.Callback):
    """What it is told, and what it does at the end of a batch."""

    def __init__(self, act=lambda model, batch: None):
        super().__init__()
        self.told = []
        self.act = act

    def on_predict_batch_begin(self, batch, logs=None):
        self.told.append(("begin", batch))

    def on_predict_batch_end(self, batch, logs=None):
        self.told.append(("end", batch, float(logs["outputs"][0, 0])))
        self.act(self.model, batch)


class Buffered(PyDataset):
    """Batches in one array, which each of them overwrites."""

    def __init__(self, data):
        super().__init__()
        self.data = data
        self.buffer = np.empty_like(data[0])

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.buffer[...] = self.data[index]
        return (self.buffer,)


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("steps_per_execution", [1, 3])
@pytest.mark.parametrize("count", [1, 2, STEPS - 1, STEPS])
def test_arrays_in_batches(count, steps_per_execution, size):
    model = scaled()
    model.compile(steps_per_execution=steps_per_execution)
    x = np.resize(rows(1000), (count * size - size // 2, 3))
    result = model.predict(x, batch_size=size, verbose=0)
    np.testing.assert_array_equal(result, 2 * x)
    assert result.flags.writeable
    assert not np.shares_memory(result, x)


@pytest.mark.parametrize("width", [3, 30_000])
def test_a_buffer_that_is_filled_again(width):
    model = models.Sequential([layers.Input((width,)), Scale(2.0)])
    data = np.random.default_rng(0).normal(size=(STEPS, 4, width))
    data = data.astype("float32")
    expected = 2 * np.concatenate(data)

    def generate():
        buffer = np.empty_like(data[0])
        for index, batch in enumerate(data):
            # Keras looks at the first two before it gives them.
            buffer = buffer if index > 1 else np.empty_like(batch)
            buffer[...] = batch
            yield (buffer,)

    for x in (generate(), Buffered(data)):
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


@pytest.mark.parametrize("count", [1, STEPS])
def test_data_is_let_go_at_once(count):
    model, x = scaled(), np.ones((count * 10_000, 3), "float32")
    model.compile(loss="mae")
    gone = weakref.ref(x)
    gc.disable()
    try:
        model.predict(x, batch_size=10_000, verbose=0)
        model.evaluate(x, x, batch_size=10_000, verbose=0)
        del x
        assert gone() is None
    finally:
        gc.enable()


def test_callbacks_are_told_in_order():
    log = Log()
    scaled().predict(rows(STEPS), batch_size=1, callbacks=[log], verbose=0)
    assert log.told == [
        event
        for batch in range(STEPS)
        for event in (("begin", batch), ("end", batch, 6.0 * batch))
    ]


def test_weights_that_a_callback_sets_are_those_of_the_next_batch():
    def act(model, batch):
        if batch % 3 == 0:
            model.set_weights([np.float32(batch + 1)])

    log = Log(act)
    result = scaled().predict(
        rows(STEPS), batch_size=1, callbacks=[log], verbose=0
    )
    factors = [2] + [1 + 3 * (batch // 3) for batch in range(STEPS - 1)]
    np.testing.assert_array_equal(
        result, np.array(factors)[:, None] * rows(STEPS)
    )


@pytest.mark.parametrize("last", [0, 1, STEPS // 2])
def test_stopping(last):
    def act(model, batch):
        model.stop_predicting = batch == last

    model, log = scaled(), Log(act)
    for _ in range(2):
        result = model.predict(
            rows(STEPS), batch_size=1, callbacks=[log], verbose=0
        )
        np.testing.assert_array_equal(result, 2 * rows(last + 1))


class Expected(Exception):
    pass


def test_an_error_of_the_data_comes_after_the_batches_before():
    def generate():
        for batch in rows(5 * 3).reshape(5, 3, 3):
            yield (batch,)
        raise Expected

    model, log = scaled(), Log()
    with pytest.raises(Expected):
        model.predict(generate(), callbacks=[log], verbose=0)
    assert log.told[-1][:2] == ("end", 4)
    np.testing.assert_array_equal(
        model.predict(rows(STEPS), batch_size=1, verbose=0), 2 * rows(STEPS)
    )


def test_a_batch_that_does_not_fit_fails_in_its_turn():
    def generate():
        for batch in range(STEPS):
            yield (np.ones((2, 4 if batch == 5 else 3), "float32"),)

    model, log = models.Sequential([layers.Input((3,)), layers.Dense(1)]), Log()
    expected = model.predict(rows(2), verbose=0)
    with pytest.raises(ValueError, match="shape"):
        model.predict(generate(), callbacks=[log], verbose=0)
    assert log.told[-1] == ("begin", 5)
    np.testing.assert_array_equal(model.predict(rows(2), verbose=0), expected)


def test_an_error_of_a_callback_leaves_the_model_usable():
    def act(model, batch):
        raise Expected

    model = scaled()
    with pytest.raises(Expected):
        model.predict(
            rows(STEPS), batch_size=1, callbacks=[Log(act)], verbose=0
        )
    step = model.predict_function.start
    np.testing.assert_array_equal(
        model.predict(rows(STEPS), batch_size=1, verbose=0), 2 * rows(STEPS)
    )
    assert model.predict_function.start is step


def test_a_state_goes_from_batch_to_batch():
    class Counting(layers.Layer):
        def __init__(self):
            super().__init__()
            self.count = self.add_weight(shape=(), initializer="zeros")

        def call(self, x):
            self.count.assign_add(1.0)
            return x * 0.0 + self.count

    model = models.Sequential([layers.Input((1,)), Counting()])
    result = model.predict(np.zeros((STEPS, 1)), batch_size=1, verbose=0)
    np.testing.assert_array_equal(result[:, 0], 1 + np.arange(STEPS))


def test_a_function_of_the_users_is_called():
    model = scaled()
    model.predict_function = lambda batches: batches[0][:, :1]
    result = model.predict(rows(STEPS), batch_size=1, verbose=0)
    np.testing.assert_array_equal(result, rows(STEPS)[:, :1])


def test_outputs_of_other_lengths_than_batches():
    class Sums(layers.Layer):
        def call(self, x):
            return {"sum": ops.sum(x, axis=0), "double": ops.tile(x, (2, 1))}

    inputs = layers.Input((3,))
    model = models.Model(inputs, Sums()(inputs))
    x = rows(STEPS * 2)
    result = model.predict(x, batch_size=2, verbose=0)
    pairs = x.reshape(STEPS, 2, 3)
    np.testing.assert_array_equal(result["sum"], pairs.sum(axis=1).ravel())
    np.testing.assert_array_equal(
        result["double"], np.tile(pairs, (1, 2, 1)).reshape(-1, 3)
    )


def test_threads_predict_many_batches_of_one_model():
    model = scaled()

    def work(start):
        x = rows(STEPS) + start
        result = model.predict(x, batch_size=1, verbose=0)
        return np.array_equal(result, 2 * x)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))


def test_what_was_started_is_dropped_where_the_next_is_not():
    dropped = []

    class Started:
        at_once = 1

        def drop(self):
            dropped.append(self)

    def start(batch):
        if batch == 2:
            raise KeyboardInterrupt
        return Started()

    with pytest.raises(KeyboardInterrupt):
        Together(start, range(4), list)
    assert len(dropped) == 2


def test_what_was_started_is_dropped_where_the_one_before_fails():
    def generate():
        for batch in range(STEPS):
            yield (np.ones((2, 4 if batch == 5 else 3), "float32"),)

    model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile(steps_per_execution=8)
    with pytest.raises(ValueError, match="shape"):
        model.predict(generate(), verbose=0)
    (step,) = model.predict_function.jits
    assert not any(variant.is_busy() for variant in step._variants)


@pytest.mark.parametrize("method", ["predict", "evaluate"])
def test_steps_of_several_batches_that_cannot_be_started(method, monkeypatch):
    model = models.Sequential([layers.Input((3,)), layers.Dense(3)])
    model.compile(loss="mse", steps_per_execution=2)
    started, dropped = [], []
    start, drop = jit.start, jit_module.Started.drop

    def start_noted(self, *args, **kwargs):
        if len(started) == 3:
            raise KeyboardInterrupt
        started.append(start(self, *args, **kwargs))
        return started[-1]

    def drop_noted(self):
        dropped.append(self)
        drop(self)

    monkeypatch.setattr(jit, "start", start_noted)
    monkeypatch.setattr(jit_module.Started, "drop", drop_noted)
    x = np.ones((16 * 2 * MANY_STEPS, 3), "float32")
    y = {} if method == "predict" else {"y": x}
    with pytest.raises(KeyboardInterrupt):
        getattr(model, method)(x, **y, batch_size=16, verbose=0)
    assert set(map(id, started)) == set(map(id, dropped))


@pytest.mark.parametrize("dims", [(2,), (300, 300)])
def test_calls_that_are_started_run_beside_each_other(dims):
    f = jit(lambda x: {"y": x + 1.0, "x": x})
    arrays = [np.full((2, *dims), i, "float32") for i in range(6)]
    started = [f.start(x) for x in arrays]
    assert all(call.at_once for call in started)
    for call, x in zip(started[:4], arrays):
        result = call.result()
        np.testing.assert_array_equal(result["y"], x + 1)
        np.testing.assert_array_equal(result["x"], x)
    for call in started[4:]:
        call.drop()
    np.testing.assert_array_equal(f(arrays[0])["y"], arrays[0] + 1)


def test_a_started_call_that_fails_says_so_in_its_turn():
    f = jit(lambda x: ops.reshape(x, (2, 3)))
    f.start(np.ones(6, "float32")).result()
    bad = f.start(np.ones(7, "float32"))
    good = f.start(np.ones(6, "float32"))
    assert good.result().shape == (2, 3)
    with pytest.raises(ValueError, match="reshape|Reshape"):
        bad.result()


def test_a_started_call_of_old_values_is_made_again():
    variable = backend.Variable(1.0)
    f = jit(lambda x: x * variable)
    started = f.start(np.float32(2))
    variable.assign(5.0)
    assert float(started.result()) == 10


def test_one_model_for_many_calls_and_one_for_a_single_one(monkeypatch):
    hints = []
    compile_model = jit_module.device.compile_model

    def noted(*args):
        hints.append(dict(args[2].properties)["PERFORMANCE_HINT"])
        return compile_model(*args)

    monkeypatch.setattr(jit_module.device, "compile_model", noted)
    model = scaled()
    for count in (1, STEPS, 2, 2 * STEPS):
        model.predict(rows(count), batch_size=1, verbose=0)
    model.predict_on_batch(rows(3))
    assert sorted(hints) == ["LATENCY", "THROUGHPUT"]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sizes", [[3], [2, 2, 1], [1, 4], [2, 2, 3, 5]])
def test_gathering(sizes, known):
    whole = {"a": rows(sum(sizes)), "b": [None, np.arange(sum(sizes))]}
    ends = np.cumsum(sizes)
    gathered = Gathered(sum(sizes) if known else None)
    for start, end in itertools.pairwise([0, *ends]):
        part = {
            "a": whole["a"][start:end],
            "b": [None, whole["b"][1][start:end]],
        }
        kept = gathered.add(part)
        np.testing.assert_array_equal(kept["a"], part["a"])
    result = gathered.result()
    np.testing.assert_array_equal(result["a"], whole["a"])
    assert result["b"][0] is None
    np.testing.assert_array_equal(result["b"][1], whole["b"][1])


@pytest.mark.parametrize("dtypes", ["ff", "fd"])
@pytest.mark.parametrize("total", [3, 4, 9])
def test_gathering_what_differs(dtypes, total):
    parts = [np.ones((2, 1), dtypes[0]), np.ones((2, 1), dtypes[1])]
    gathered = Gathered(total)
    for part in parts:
        gathered.add(part)
    result = gathered.result()
    np.testing.assert_array_equal(result, np.ones((4, 1)))
    assert result.dtype == dtypes[1]


class Penalty(layers.Layer):
    """Adds a loss, and hides every third step."""

    supports_masking = True

    def call(self, x):
        self.add_loss(ops.mean(ops.abs(x)))
        return x

    def compute_mask(self, x, previous_mask=None):
        return ops.cumsum(ops.ones_like(x[..., 0]), axis=1) % 3 != 0


def tested(steps_per_execution=1, **options):
    inputs = layers.Input((7, 3))
    x = layers.Dense(4, activation="tanh", kernel_regularizer="l2")(inputs)
    x = Penalty()(x)
    outputs = {"a": layers.Dense(1)(x), "b": layers.Dense(2)(x)}
    model = models.Model(inputs, outputs)
    model.compile(
        loss={"a": "mse", "b": "mae"},
        loss_weights={"a": 2.0, "b": 0.5},
        metrics={"a": ["mae", "mse"]},
        weighted_metrics={"b": ["mae"]},
        steps_per_execution=steps_per_execution,
        **options,
    )
    return model


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_many_batches_evaluate_as_each_by_itself(steps_per_execution):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * STEPS + 1, 7, 3)).astype("float32")
    y = {"a": x[..., :1], "b": x[..., 1:]}
    weights = {k: rng.uniform(size=x.shape[:2]) for k in y}
    model = tested(steps_per_execution)
    result = model.evaluate(
        x, y, 2, sample_weight=weights, verbose=0, return_dict=True
    )
    other = tested(run_eagerly=True)
    other.set_weights(model.get_weights())
    expected = other.evaluate(
        x, y, 2, sample_weight=weights, verbose=0, return_dict=True
    )
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=2e-5)


def test_weights_that_a_callback_sets_count_in_evaluate():
    class Set(callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            self.model.set_weights([np.float32(batch + 1)])

    model = scaled(0.0)
    model.compile(loss="mae")
    loss = model.evaluate(
        np.ones((STEPS, 3)),
        np.zeros((STEPS, 3)),
        1,
        callbacks=[Set()],
        verbose=0,
    )
    np.testing.assert_allclose(loss, np.mean(np.arange(STEPS)), rtol=1e-6)


def test_a_test_step_of_the_users_runs_in_order():
    class Own(models.Sequential):
        def test_step(self, data):
            logs = super().test_step(data)
            return {**logs, "twice": 2 * logs["loss"]}

    model = Own([layers.Input((3,)), Scale(1.0)])
    model.compile(loss="mae")
    logs = model.evaluate(
        rows(STEPS), 0 * rows(STEPS), 1, verbose=0, return_dict=True
    )
    np.testing.assert_allclose(logs["loss"], rows(STEPS).mean(), rtol=1e-6)
    np.testing.assert_allclose(logs["twice"], 2 * logs["loss"], rtol=1e-6)


class Numbered(PyDataset):
    """Batches of one number each, made by so many threads."""

    def __init__(self, workers):
        super().__init__(workers=workers)
        self.taken = 0

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        self.taken += 1
        batch = np.full((1, 3), index, "float32")
        return batch, batch


@pytest.mark.parametrize("workers", [1, 2])
def test_evaluate_takes_each_batch_once(workers):
    model = scaled(1.0)
    model.compile(loss=lambda y, y_pred: y_pred)
    model.test_on_batch(rows(1), rows(1))  # builds the metrics
    data = Numbered(workers)
    for _ in range(2):
        loss = model.evaluate(data, verbose=0)
        np.testing.assert_allclose(loss, np.mean(np.arange(STEPS)), rtol=1e-6)
    assert workers > 1 or data.taken == 2 * STEPS


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_is_built_for_a_batch_that_is_still_there(workers):
    model = models.Sequential([Scale(1.0)])
    found = model.predict(Numbered(workers), verbose=0)
    np.testing.assert_array_equal(found[:, 0], np.arange(STEPS))
    model = models.Sequential([Scale(1.0)])
    model.compile(loss=lambda y, y_pred: y_pred)
    loss = model.evaluate(Numbered(workers), verbose=0)
    np.testing.assert_allclose(loss, np.mean(np.arange(STEPS)), rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_epoch_that_is_begun_anew_has_the_same_batches(workers):
    epoch = Epoch(3, 1, x=Numbered(workers))
    for _ in range(2):
        batches = [step[-1][0][0] for step in epoch.steps()]
        assert [x[0, 0] for x in batches] == [0, 1, 2]
        epoch.reset()


class Remembering(models.Sequential):
    """Its loss reads what `call` left, and sets what it reads."""

    def call(self, x, **kwargs):
        self.seen = ops.mean(x)
        return super().call(x, **kwargs) * 0.0 + self.layers[-1].factor

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        factor = self.layers[-1].factor
        factor.assign(factor + 1.0)
        return ops.mean(y_pred) + 0.0 * self.seen


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_a_loss_of_the_users_follows_each_batch(steps_per_execution):
    model = Remembering([layers.Input((3,)), Scale(0.0)])
    model.compile(steps_per_execution=steps_per_execution)
    x = rows(2 * STEPS)
    loss = model.evaluate(x, x, batch_size=1, verbose=0)
    np.testing.assert_allclose(loss, np.mean(np.arange(2 * STEPS)), rtol=1e-6)


def test_a_metric_that_the_model_reads_is_that_of_the_batch_before():
    class Reading(layers.Layer):
        def __init__(self, metric):
            super().__init__()
            self.metric = metric

        def call(self, x):
            return x * 0.0 + self.metric.total

    counter = metrics.MeanAbsoluteError(name="counter")
    model = models.Sequential([layers.Input((3,)), Reading(counter)])
    model.compile(loss="mae", metrics=[counter], steps_per_execution=2)
    counts = model.evaluate(
        rows(2 * STEPS), np.ones((2 * STEPS, 3)), 1, verbose=0, return_dict=True
    )
    eager = models.Sequential([layers.Input((3,)), Reading(counter)])
    eager.compile(loss="mae", metrics=[counter], run_eagerly=True)
    expected = eager.evaluate(
        rows(2 * STEPS), np.ones((2 * STEPS, 3)), 1, verbose=0, return_dict=True
    )
    np.testing.assert_allclose(counts["loss"], expected["loss"], rtol=1e-6)
