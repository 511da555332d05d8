import concurrent.futures
import gc
import itertools
import threading
import time
import weakref

import numpy as np
import pytest

from keras.src import layers
from keras.src import metrics
from keras.src import models
from keras.src import ops
from keras.src.backend.common.global_state import clear_session
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.openvino.tensor import value_of
from keras.src.backend.openvino.testing import in_threads_beside


def ones(*shape):
    return np.ones(shape, "float32")


class Leaky(models.Model):
    """Returns what it keeps: an input, a weight, a constant, one tensor twice.

    Its outputs are as long as a batch of three.
    """

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(3,), initializer="ones")
        self.constant = ops.convert_to_tensor(ones(3))

    def build(self, input_shape):
        pass

    def call(self, x):
        doubled = 2.0 * x
        return {
            "input": x,
            "variable": self.weight,
            "weight": ops.convert_to_tensor(self.weight),
            "view": ops.expand_dims(self.weight, 0)[0],
            "constant": self.constant,
            "twice": [doubled, doubled],
        }


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("method", ["predict", "predict_on_batch"])
def test_what_predict_gives_is_the_users(method, run_eagerly):
    model = Leaky()
    model.compile(run_eagerly=run_eagerly)
    x = ones(3)
    arguments = {"verbose": 0} if method == "predict" else {}
    for _ in range(2):
        results = getattr(model, method)(x, **arguments)
        arrays = [x, value_of(model.weight.value), value_of(model.constant)]
        given = [results[k] for k in results if k != "twice"]
        given += results["twice"]
        for pair in itertools.combinations(arrays + given, 2):
            assert not np.shares_memory(*pair)
        for array, expected in zip(given, [1, 1, 1, 1, 1, 2, 2]):
            assert array.__class__ is np.ndarray
            np.testing.assert_array_equal(array, expected * ones(3))
            array[...] = 7
    np.testing.assert_array_equal(model.weight, ones(3))


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x.astype(">f4"),
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1][::-1],
        np.matrix,
    ],
)
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_arrays_of_any_layout(given, run_eagerly):
    model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.compile(loss="mse", run_eagerly=run_eagerly)
    x = np.arange(12, dtype="float32").reshape(4, 3)
    y = x @ np.asarray(model.layers[0].kernel)
    np.testing.assert_allclose(model.predict(given(x), verbose=0), y, rtol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(given(x)), y, rtol=1e-5)
    many = np.tile(x, (5000, 1))  # the runtime gets the memory of large ones
    for _ in range(2):
        result = model.predict_on_batch(given(many))
        np.testing.assert_allclose(result, np.tile(y, (5000, 1)), rtol=1e-5)
    loss = model.evaluate(given(x), given(y + 1), verbose=0)
    np.testing.assert_allclose(loss, 1, rtol=1e-5)
    loss = model.test_on_batch(given(x), given(y + 1))
    np.testing.assert_allclose(loss, 1, rtol=1e-5)


def test_steps_of_any_number():
    """What Keras lays out in Python needs the number, which may change."""
    inputs = layers.Input((None, 3))
    dense = layers.Dense(4)
    model = models.Model(inputs, layers.TimeDistributed(dense)(inputs))
    for shape in [(2, 5, 3), (2, 2, 3), (5, 2, 3), (3, 5, 3), (1, 7, 3)]:
        x = np.arange(np.prod(shape), dtype="float32").reshape(shape)
        expected = x @ np.asarray(dense.kernel)
        result = model.predict(x, verbose=0, batch_size=2)
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(2, 8, 8, 3), (3, 2, 8, 3), (2, 2, 2, 3)])
@pytest.mark.parametrize(
    "layer",
    [
        layers.CenterCrop(4, 4),
        layers.RandomCrop(4, 4),
        layers.Resizing(4, 3, crop_to_aspect_ratio=True),
        layers.Resizing(4, 3, pad_to_aspect_ratio=True),
    ],
)
def test_crops_of_images_of_any_size(layer, size):
    inputs = layers.Input((None, None, 3))
    model = models.Model(inputs, layer(inputs))
    x = np.random.default_rng(0).uniform(size=size).astype("float32")
    expected = np.asarray(layer(x, training=False))
    result = model.predict(x, verbose=0)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_losses_of_outputs_weigh_batches_by_their_size():
    inputs = layers.Input((1,))
    model = models.Model(inputs, {"a": 1.0 * inputs, "b": 2.0 * inputs})
    model.compile(loss={"a": "mae", "b": "mae"})
    x = np.array([[1.0], [2.0], [6.0]], "float32")
    data = {"x": x, "y": {"a": 0 * x, "b": 0 * x}}
    logs = model.evaluate(**data, batch_size=2, verbose=0, return_dict=True)
    assert logs["a_loss"] == pytest.approx(3.0)
    assert logs["b_loss"] == pytest.approx(6.0)
    assert logs["loss"] == pytest.approx(9.0)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_each_batch_is_tested_by_itself(run_eagerly):
    inputs = layers.Input((1,))
    model = models.Model(inputs, 2.0 * inputs)
    model.compile(loss="mae", metrics=["mae"], run_eagerly=run_eagerly)
    model.evaluate(9 * ones(2, 1), ones(2, 1), verbose=0)
    for x in (1.0, 3.0, 4.0):
        results = model.test_on_batch(x * ones(2, 1), 0 * ones(2, 1))
        np.testing.assert_allclose(results, [2 * x, 2 * x], rtol=1e-6)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_no_batch_of_a_generator_is_lost_to_building(method):
    batches = ((n * ones(1, 1), 0 * ones(1, 1)) for n in (1, 2, 4, 8))
    model = models.Sequential([layers.Dense(1, kernel_initializer="ones")])
    model.compile(loss="mae", steps_per_execution=4)
    results = getattr(model, method)(batches, steps=4, verbose=0)
    assert np.mean(results) == pytest.approx(15 / 4)


def changes():
    """Models, what is to change them, and what Keras announces it by."""

    def enable_lora(model):
        model.layers[0].enable_lora(2, b_initializer="ones")

    def quantize_layer(model):
        model.layers[0].quantize("int8")

    def set_attribute(model):
        model.layers[0].activation = ops.negative

    def set_dtype_policy(model):
        model.layers[0].dtype_policy = "bfloat16"

    def remove_bias(model):
        model.layers[0].bias = None

    return [
        enable_lora,
        quantize_layer,
        set_attribute,
        remove_bias,
        set_dtype_policy,
        lambda model: model.quantize("int8"),
        lambda model: model.add(layers.Dense(3)),
        lambda model: model.add(layers.Rescaling(2.0)),
        lambda model: model.pop(),
    ]


@pytest.mark.parametrize("change", changes())
def test_the_next_predict_sees_a_change(change):
    model = models.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(4, bias_initializer="ones"),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    for method in (model.predict_on_batch, lambda x: model(x).numpy()):
        before = method(x)
    change(model)
    after = model.predict_on_batch(x)
    expected = np.asarray(model(x))
    assert before.shape != after.shape or not np.allclose(before, after)
    np.testing.assert_allclose(after, expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(model.predict(x, verbose=0), after, rtol=1e-5)


class Counting(layers.Layer):
    """Has a state of its own, and sets attributes while it is called."""

    def __init__(self, traces):
        super().__init__()
        self._traces = traces
        self.scale = 1.0

    def call(self, x):
        self._traces.append(x.shape)
        self.calls = len(self._traces)
        self.last_input = x
        return x * self.scale


def test_what_runs_sets_is_no_change():
    traces = []
    model = models.Sequential([layers.Input((4,)), Counting(traces)])
    model.compile(loss="mse")
    x = ones(2, 4)
    for repetition in range(3):
        model.predict(x, verbose=0)
        model.evaluate(x, x, verbose=0)
        model.predict_on_batch(x)
        if repetition == 0:
            count = len(traces)
        assert len(traces) == count
        model(x)
        del traces[count:]
    model.layers[0].scale = 1.0
    model.predict(x, verbose=0)
    assert len(traces) == count
    model.layers[0].scale = 3.0
    np.testing.assert_array_equal(model.predict(x, verbose=0), 3 * x)


LOSSES = (
    "binary_crossentropy binary_focal_crossentropy categorical_crossentropy "
    "categorical_focal_crossentropy categorical_hinge cosine_similarity dice "
    "hinge huber kl_divergence log_cosh mean_absolute_error "
    "mean_absolute_percentage_error mean_squared_error "
    "mean_squared_logarithmic_error poisson squared_hinge tversky"
).split()
METRICS = (
    "AUC BinaryAccuracy CategoricalAccuracy CosineSimilarity F1Score "
    "FalseNegatives FalsePositives Hinge KLDivergence MeanSquaredError "
    "OneHotIoU OneHotMeanIoU Poisson Precision R2Score Recall "
    "RootMeanSquaredError TopKCategoricalAccuracy TrueNegatives TruePositives"
).split()


def arguments_of(metric):
    if metric.startswith("OneHot"):
        return {"num_classes": 3} | (
            {"target_class_ids": [0]} if metric == "OneHotIoU" else {}
        )
    return {}


@pytest.mark.parametrize("loss", LOSSES)
def test_one_model_evaluates_batches_of_any_size(loss):
    evaluate_sizes(loss, [])


@pytest.mark.parametrize("metric", METRICS)
def test_one_model_measures_batches_of_any_size(metric):
    create = getattr(metrics, metric)
    evaluate_sizes("mean_squared_error", [create(**arguments_of(metric))])


def evaluate_sizes(loss, metrics):
    traces = []
    model = models.Sequential([layers.Input((3,)), Counting(traces)])
    model.compile(loss=loss, metrics=metrics)
    for size in (1, 2, 3, 5):
        x = np.random.default_rng(size).dirichlet(ones(3), size)
        y = np.eye(3, dtype="float32")[np.arange(size) % 3]
        weights = ones(size)
        model.evaluate(x, y, sample_weight=weights, verbose=0)
        if size == 1:
            count = len(traces)
    assert len(traces) == count


def test_outputs_that_are_none():
    class Half(models.Model):
        def call(self, x):
            return {"doubled": 2 * x, "none": None}

    x = ones(10, 2)
    for batch_size in (4, 16):
        result = Half().predict(x, batch_size=batch_size, verbose=0)
        assert result["none"] is None
        np.testing.assert_array_equal(result["doubled"], 2 * x)


def test_all_weights_are_set_at_once_for_other_threads():
    model = models.Sequential([layers.Input((8,)), layers.Dense(8)])
    model.set_weights([ones(8, 8), ones(8)])
    model.predict_on_batch(ones(1, 8))

    def work():
        for _ in range(10):
            (value,) = np.unique(model.predict_on_batch(ones(1, 8)))
            assert value % 9 == 0  # eight of the kernel, one of the bias

    in_threads_beside(
        lambda n: model.set_weights([n * ones(8, 8), n * ones(8)]), work
    )


class Loaded(layers.Dense):
    """Lets others run between its kernel and its bias."""

    half_loaded = None

    def load_own_variables(self, store):
        self.kernel.assign(store["0"])
        if self.half_loaded is not None:
            self.half_loaded.set()
            time.sleep(0.5)
        self.bias.assign(store["1"])

    def quantize(self, mode, **kwargs):
        self.load_own_variables({"0": ones(8, 8), "1": ones(8)})


@pytest.mark.parametrize("method", ["load_weights", "quantize"])
def test_all_weights_change_at_once_for_other_threads(method, tmp_path):
    model = models.Sequential([layers.Input((8,)), Loaded(8)])
    path = tmp_path / "model.weights.h5"
    model.set_weights([ones(8, 8), ones(8)])
    model.save_weights(path)
    model.set_weights([2 * ones(8, 8), 2 * ones(8)])
    np.testing.assert_array_equal(model.predict_on_batch(ones(1, 8)), 18)
    model.layers[0].half_loaded = half_loaded = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        given = path if method == "load_weights" else "int8"
        changing = pool.submit(getattr(model, method), given)
        assert half_loaded.wait(60)
        np.testing.assert_array_equal(model.predict_on_batch(ones(1, 8)), 9)
        changing.result()


def test_a_scope_may_stand_for_other_weights():
    model = models.Sequential([layers.Input((8,)), layers.Dense(8)])
    model.set_weights([ones(8, 8), ones(8)])
    x = ones(2, 8)
    others = [(v, n * ones(*v.shape)) for n, v in enumerate(model.weights, 2)]
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(x, verbose=0), 9 * x)
        with StatelessScope(others):
            np.testing.assert_array_equal(model.predict(x, verbose=0), 19 * x)
            np.testing.assert_array_equal(model.predict_on_batch(x), 19 * x)


def test_a_model_is_freed_with_what_it_compiled():
    model = models.Sequential(
        [layers.Input((8,)), layers.Dense(8), layers.GaussianNoise(1.0)]
    )
    model.predict_on_batch(ones(1, 8))
    kernel = weakref.ref(value_of(model.layers[0].kernel.value))
    del model
    clear_session()
    gc.collect()
    assert kernel() is None


class Adds(layers.Layer):
    """Adds the sum of its inputs to the losses."""

    def call(self, x):
        self.add_loss(ops.sum(x))
        return x


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_losses_of_layers_are_part_of_the_loss(run_eagerly):
    dense = layers.Dense(
        4,
        kernel_initializer="ones",
        kernel_regularizer="l2",
        bias_regularizer="l1",
        activity_regularizer="l2",
    )
    model = models.Sequential(
        [dense, layers.ActivityRegularization(l1=0.1), Adds()]
    )
    model.compile(loss="mse", run_eagerly=run_eagerly)
    x, y = ones(3, 5), ones(3, 4)
    for factor in (1, 2, 3):  # the weights change between two evaluations
        if factor > 1:
            model.set_weights([factor * dense_ones(), 0.5 * ones(4)])
        kernel, bias = model.get_weights() or (dense_ones(), 0 * ones(4))
        z = x @ kernel + bias
        expected = (
            np.mean((z - y) ** 2)
            + 0.01 * np.sum(kernel**2)
            + 0.01 * np.sum(np.abs(bias))
            + 0.01 * np.sum(z**2) / len(z)
            + 0.1 * np.sum(np.abs(z)) / len(z)
            + np.sum(z)
        )
        for _ in range(2):
            np.testing.assert_allclose(
                model.evaluate(x, y, verbose=0), expected, rtol=1e-5
            )
            np.testing.assert_allclose(
                model.test_on_batch(x, y), expected, rtol=1e-5
            )


def dense_ones():
    return ones(5, 4)


def test_what_the_bridge_of_kerashub_calls():
    model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    data = {"x": ones(4, 3), "n": [np.int32(7)]}
    symbols = model._parameterize_data(data)
    assert symbols["x"].output.partial_shape.to_string() == "[?,3]"
    assert symbols["n"][0].output.partial_shape.to_string() == "[]"
    assert symbols["n"][0].dtype == "int32"
    assert model._unpack_singleton([1]) == 1
    assert model._unpack_singleton([1, 2]) == [1, 2]


def test_a_step_of_another_model_is_its_own():
    model, other = (
        models.Sequential([layers.Input((3,)), layers.Dense(2)])
        for _ in range(2)
    )
    other.set_weights([2 * w for w in other.get_weights()])
    expected = other.predict(ones(2, 3), verbose=0)
    model.predict_step = other.predict_step
    np.testing.assert_array_equal(
        model.predict(ones(2, 3), verbose=0), expected
    )
