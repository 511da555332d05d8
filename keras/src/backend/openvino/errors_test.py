import re

import numpy as np
import pytest

from keras.src import backend
from keras.src import layers
from keras.src import losses
from keras.src import metrics
from keras.src import models
from keras.src import ops
from keras.src.backend.openvino.errors import reason
from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.testing import run_compiled
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDataset


def ones(*shape):
    return np.ones(shape, "float32")


class Lambda(layers.Layer):
    """A layer that computes what it is given."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)

    def compute_output_spec(self, x):
        return backend.KerasTensor(x.shape, x.dtype)


def predict(function, x, name="mine"):
    inputs = layers.Input(x.shape[1:])
    outputs = Lambda(function, name=name)(inputs)
    return models.Model(inputs, outputs).predict(x, verbose=0)


def helper(x):
    return x if x[0, 0] > 0 else -x


def first_line(error):
    """What is wrong, without what Keras says of the layer around it."""
    lines = str(error.value).splitlines()
    return re.sub(r"\x1b\[\d+m", "", lines[2 if len(lines) > 1 else 0])


@pytest.mark.parametrize(
    "function, asker",
    [
        (lambda x: x if ops.sum(x) > 0 else -x, "Lambda (mine)"),
        (lambda x: x * float(ops.max(x)), "Lambda (mine)"),
        (lambda x: np.asarray(x), "Lambda (mine)"),
        (lambda x: x[: int(ops.max(x))], "Lambda (mine)"),
        (ops.convert_to_numpy, "`convert_to_numpy` in Lambda (mine)"),
        (helper, "`helper` in Lambda (mine)"),
    ],
)
def test_who_asks_for_the_value_of_a_symbolic_tensor(function, asker):
    with pytest.raises(ValueError) as error:
        predict(function, ones(2, 3))
    assert first_line(error).startswith(
        f"{asker} needs the value of a symbolic tensor (shape="
    )


def test_the_innermost_layer_is_named():
    def outer(x):
        return Lambda(lambda x: x * float(x[0, 0]), name="inner")(x)

    with pytest.raises(ValueError, match=r"Lambda \(inner\) needs the value"):
        predict(outer, ones(2, 3))


def test_a_loss_is_named():
    def own_loss(y, y_pred):
        return y_pred * float(y[0, 0])

    model = models.Sequential([layers.Dense(1)])
    model.compile(loss=own_loss)
    with pytest.raises(ValueError, match="^`own_loss`.* needs the value"):
        model.evaluate(ones(2, 1), ones(2, 1), verbose=0)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda: ops.add(ones(3), ones(4)), "`add`: Add cannot take (float32["),
        (lambda: ops.sum(ones(3), axis=2), "`sum`: axis 2 is out of bounds"),
        (lambda: ops.reshape(ones(3), (2, 2)), "`reshape`: cannot reshape a"),
        (lambda: ops.repeat(ones(3), [1, 2]), "`repeat` takes one number"),
        (lambda: ops.qr(ones(3)), "`qr` takes matrices"),
        (lambda: ops.map(ops.sin, 3.0), "`map`: there is no first axis"),
        (lambda: ops.switch(0, []), "`switch` takes at least one branch"),
        (lambda: ops.unstack(ones(2), axis=1), "`unstack`: axis 1 is out"),
        (
            lambda: losses.MeanSquaredError()(ones(2, 3), ones(2, 4)),
            "`mean_squared_error`: Subtract cannot take (float32[2,3], ",
        ),
        (
            lambda: metrics.MeanSquaredError()(ones(2, 3), ones(2, 4)),
            "`mean_squared_error`: Subtract cannot take (float32[2,3], ",
        ),
        (
            lambda: losses.MeanSquaredError()(ones(2, 3), ones(2, 3), ones(5)),
            "`reduce_weighted_values`: Multiply cannot take (float32[2], ",
        ),
    ],
)
def test_the_op_is_named(function, message):
    with pytest.raises(ValueError) as error:
        function()
    assert str(error.value).startswith(message)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or not error.value.__context__


@pytest.mark.parametrize(
    "function, shapes, message",
    [
        (ops.add, [(3, 4), (3, 5)], "Add: "),
        (ops.matmul, [(3, 4), (3, 5)], "MatMul: "),
        (lambda x: ops.split(x, 2), [(3, 4)], "Split: Dimension of data"),
        (ops.inv, [(3, 4)], "Inverse: Input must contain square"),
        (ops.solve, [(3, 3), (4, 4)], "Solve fails: "),
    ],
)
def test_inference(function, shapes, message):
    with pytest.raises(ValueError) as error:
        run_compiled(function, *[ones(*shape) for shape in shapes])
    text = str(error.value)
    assert text.startswith(
        f"The compiled model fails for inputs of the shapes {shapes}: "
    )
    assert message in text
    assert_no_source(text)


def test_inference_names_the_layer():
    inputs = layers.Input((None,))
    layer = Lambda(lambda x: ops.add(x, ones(5)), name="mine")
    model = models.Model(inputs, layer(inputs))
    with pytest.raises(ValueError) as error:
        model.predict(ones(2, 4), verbose=0)
    text = first_line(error)
    assert text.startswith("`add` in Lambda (mine): Add cannot take (float32[")
    assert_no_source(text)


@pytest.mark.parametrize(
    "layer, message",
    [
        (layers.Conv2D(3, 5), "the input's spatial dims (2, 9) are smaller"),
        (layers.MaxPooling2D(4), "Kernel after dilation has size (dim: 4)"),
    ],
)
def test_images_of_open_size_that_are_too_small(layer, message):
    inputs = layers.Input((None, None, 3))
    model = models.Model(inputs, layer(inputs))
    assert model.predict(ones(1, 9, 9, 3), verbose=0).shape[0] == 1
    with pytest.raises(ValueError) as error:
        model.predict(ones(1, 2, 9, 3), verbose=0)
    assert message in first_line(error)
    assert_no_source(first_line(error))
    assert model.predict(ones(2, 8, 9, 3), verbose=0).shape[0] == 2


def test_compilation():
    # The CPU plugin wants to know the dims of a convolution's weights.
    with pytest.raises(UnknownDim) as error:
        run_compiled(ops.conv, ones(1, 4, 3), ones(2, 3, 5))
    text = str(error.value)
    assert text.startswith("OpenVINO cannot compile the model for CPU: Conv")
    assert_no_source(text)


def assert_no_source(text):
    assert len(text.splitlines()) == 1
    assert not re.search(r"\.[ch]pp|\.py|Exception from|Check '", text)


def test_a_reason_that_is_not_told():
    assert reason(RuntimeError("Exception from src/core.cpp:1:\n"))


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_predict_of_no_samples(run_eagerly):
    model = models.Sequential(
        [
            layers.Conv2D(2, 3),
            layers.MaxPooling2D(),
            layers.AveragePooling2D(2, padding="same"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(5),
        ]
    )
    model.compile(run_eagerly=run_eagerly)
    for count in (0, 2, 0):  # unbuilt, with a model for any batch, and without
        result = model.predict(ones(count, 8, 8, 3), verbose=0)
        assert result.shape == (count, 5)
        assert result.dtype == "float32"
        result = model.predict_on_batch(ones(count, 8, 8, 3))
        assert result.shape == (count, 5)


@pytest.mark.parametrize("pool", [ops.max_pool, ops.average_pool])
@pytest.mark.parametrize("shape", [(0, 7, 7, 2), (3, 7, 7, 0), (0, 7, 7, 0)])
def test_pooling_of_nothing(pool, shape):
    expected = (shape[0], 4, 4, shape[3])

    def pooled(x):
        return pool(x, 2, padding="same", data_format="channels_last")

    assert pooled(ones(*shape)).shape == expected
    (result,) = run_compiled(pooled, ones(*shape), dynamic=False)
    assert result.shape == expected
    (result,) = run_compiled(pooled, ones(*shape), dynamic=(1, 2))
    assert result.shape == expected


class Batches(PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class Scaled(models.Model):
    def call(self, data):
        return data["x"] * ops.cast(data["scale"], "float32")


@pytest.mark.parametrize("scales", [(2, 3), (0.5, 1.5), (True, False)])
def test_python_scalars_in_a_dataset(scales):
    data = [({"x": ones(2, 3), "scale": s}, ones(2, 3)) for s in scales]
    expected = np.concatenate([s * ones(2, 3) for s in scales])
    result = Scaled().predict(Batches(*data), verbose=0)
    np.testing.assert_array_equal(result, expected)
    model = Scaled()
    model.compile(loss="mse")
    np.testing.assert_allclose(
        model.evaluate(Batches(*data), verbose=0),
        np.mean((expected - 1) ** 2),
        rtol=1e-6,
    )


@pytest.mark.parametrize("method", ["predict", "evaluate"])
def test_data_without_a_batch(method):
    for model in (models.Sequential([layers.Dense(1)]), Scaled()):
        model.compile(loss="mse")
        with pytest.raises(ValueError, match="The data has no batch"):
            getattr(model, method)(Batches(), verbose=0)


@pytest.mark.parametrize("size", [4, 5, 6])
def test_a_factor_of_an_open_dim_and_a_constant_one(size):
    # The CPU plugin alone computes something, whatever the size.
    constant = np.arange(10, dtype="float32").reshape(5, 2)
    x = np.arange(2 * size, dtype="float32").reshape(2, size)

    def product(x):
        return ops.matmul(x, constant), ops.einsum("ij,jk->ik", x, constant)

    if size == 5:
        for result in run_compiled(product, x):
            np.testing.assert_allclose(result, x @ constant)
    else:
        with pytest.raises(ValueError, match="The compiled model fails"):
            run_compiled(product, x)
