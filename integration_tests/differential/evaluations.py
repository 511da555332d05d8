"""The specifications of `evaluate` and `test_on_batch`.

Models of one body and some outputs, each with a loss and metrics; layers add
losses of their own. Weights are the initial ones, which are the
same on each backend for the same seed. What is compared are the names and the
numbers that come out, three times in a row.
"""

from typing import Callable
from typing import NamedTuple

import numpy as np

import keras
from integration_tests.differential.cases import Spec
from integration_tests.differential.models import Draw

SAMPLES = 11
STEPS = 5
FEATURES = 6
TOKENS = 9


class Kind(NamedTuple):
    """What an output predicts.

    Attributes:
        activation: of the output.
        targets: takes a generator and a shape, whose last dim is that of the
            classes or the features, and returns an array.
        losses, metrics: what can be computed of it: names, or pairs of a name
            and arguments.
    """

    activation: str
    targets: Callable
    losses: tuple
    metrics: tuple


def numbers(rng, shape):
    return rng.normal(size=shape).astype("float32")


def yes_or_no(rng, shape):
    return rng.integers(0, 2, shape).astype("float32")


def classes(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1]).astype("int32")


def one_hot(rng, shape):
    return np.eye(shape[-1], dtype="float32")[classes(rng, shape)]


KINDS = {
    "numbers": Kind(
        "linear",
        numbers,
        (
            "mse",
            "MeanAbsoluteError",
            "MeanAbsolutePercentageError",
            "MeanSquaredLogarithmicError",
            "LogCosh",
            "CosineSimilarity",
            "Tversky",
            ("Huber", {"delta": 0.5}),
        ),
        (
            "mae",
            "RootMeanSquaredError",
            "MeanAbsolutePercentageError",
            "MeanSquaredLogarithmicError",
            "CosineSimilarity",
            "LogCoshError",
            "PearsonCorrelation",
            "ConcordanceCorrelation",
            "R2Score",
            ("R2Score", {"class_aggregation": None}),
        ),
    ),
    "yes_or_no": Kind(
        "sigmoid",
        yes_or_no,
        (
            "binary_crossentropy",
            "Hinge",
            "SquaredHinge",
            "Dice",
            "Poisson",
            ("BinaryCrossentropy", {"label_smoothing": 0.2}),
            ("BinaryCrossentropy", {"from_logits": True}),
            ("BinaryFocalCrossentropy", {"apply_class_balancing": True}),
            ("Tversky", {"alpha": 0.3, "beta": 0.7}),
        ),
        (
            "accuracy",
            "BinaryCrossentropy",
            "Hinge",
            "SquaredHinge",
            "Poisson",
            "TruePositives",
            "FalseNegatives",
            ("BinaryAccuracy", {"threshold": 0.4}),
            ("Precision", {"thresholds": [0.3, 0.5]}),
            ("Recall", {"top_k": 1}),
            ("FalsePositives", {"thresholds": 0.45}),
            ("AUC", {"num_thresholds": 20}),
            ("AUC", {"curve": "PR", "summation_method": "majoring"}),
            ("SensitivityAtSpecificity", {"specificity": 0.5}),
            ("SpecificityAtSensitivity", {"sensitivity": 0.5}),
            ("PrecisionAtRecall", {"recall": 0.5}),
            ("RecallAtPrecision", {"precision": 0.5}),
            ("BinaryIoU", {"threshold": 0.5}),
            ("F1Score", {"threshold": 0.5}),
        ),
    ),
    "classes": Kind(
        "softmax",
        classes,
        (
            "sparse_categorical_crossentropy",
            "CategoricalGeneralizedCrossEntropy",
            ("SparseCategoricalCrossentropy", {"from_logits": True}),
            ("SparseCategoricalCrossentropy", {"ignore_class": 0}),
        ),
        (
            "accuracy",
            "SparseCategoricalCrossentropy",
            ("SparseTopKCategoricalAccuracy", {"k": 2}),
        ),
    ),
    "one_hot": Kind(
        "softmax",
        one_hot,
        (
            "categorical_crossentropy",
            "KLDivergence",
            "CategoricalHinge",
            ("CategoricalCrossentropy", {"label_smoothing": 0.1}),
            ("CategoricalFocalCrossentropy", {"gamma": 1.5}),
        ),
        (
            "accuracy",
            "CategoricalCrossentropy",
            "CategoricalHinge",
            "KLDivergence",
            ("TopKCategoricalAccuracy", {"k": 2}),
            ("OneHotMeanIoU", {"num_classes": 3}),
            ("OneHotIoU", {"num_classes": 3, "target_class_ids": [0, 2]}),
            ("F1Score", {"average": "macro"}),
            ("FBetaScore", {"average": None, "beta": 2.0}),
        ),
    ),
}
OF_ONE_DIM = ("R2Score", "F1Score", "FBetaScore", "Recall")
REDUCTIONS = ("sum", "mean", "mean_with_sample_weight", "sum_over_batch_size")
REGULARIZERS = ("l1", "l2", "L1L2", "OrthogonalRegularizer")


class Output(NamedTuple):
    kind: str
    units: int
    loss: object
    metrics: list
    weighted_metrics: list


class Penalised(keras.layers.Layer):
    """Adds losses of its input and of a weight."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        self.add_loss(0.1 * self.scale)
        return x * self.scale


class OwnLoss(keras.Model):
    """Adds to the loss that was compiled, and to the metrics."""

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.5

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        first = keras.tree.flatten(y_pred)[0]
        return {**results, "largest": keras.ops.max(first)}


# ----------------------------------------------------------- what is drawn


def drawn_output(d, has_steps):
    kind = d.choice(list(KINDS))
    loss = d.choice(KINDS[kind].losses)
    if not isinstance(loss, str) and d.pick(True, False):
        loss = loss[0], {**loss[1], "reduction": d.pick(*REDUCTIONS)}
    fit = [
        metric
        for metric in KINDS[kind].metrics
        if not has_steps or name_of(metric) not in OF_ONE_DIM
    ]
    metrics = d.sample(fit, min(len(fit), d.randint(0, 3)))
    weighted = d.sample(fit, d.randint(0, 1))
    units = 1 if kind == "yes_or_no" and d.pick(True, False) else 3
    return Output(kind, units, loss, metrics, weighted)


def name_of(drawn):
    return drawn if isinstance(drawn, str) else drawn[0]


def arguments(has_steps):
    def drawn(draw):
        seed = draw.integer(0, 2**31 - 1)
        d = Draw(seed)
        count = d.pick(1, 1, 2, 3)
        outputs = [drawn_output(d, has_steps) for _ in range(count)]
        return (), {
            "seed": seed,
            "outputs": outputs,
            "regularizers": [d.pick(None, *REGULARIZERS) for _ in range(2)],
            "penalties": d.sample(("layer", "activity", "model"), 2)[
                : d.randint(0, 2)
            ],
            "loss_weights": d.pick(None, [0.5, 2.0, 1.0][:count]),
            "sample_weight": d.pick(True, False),
            "data": d.pick("arrays", "generator", "dataset"),
            "batch_size": d.pick(4, 8, 16),
            "steps_per_execution": d.pick(1, 1, 2, 3),
        }

    return drawn


# --------------------------------------------------------- what is computed


def of_module(module, drawn):
    if isinstance(drawn, str) and drawn.islower():
        return drawn
    name, options = (drawn, {}) if isinstance(drawn, str) else drawn
    return getattr(module, name)(**options)


def compiled_model(case, run_eagerly, dynamic):
    """The model of a case, with its losses and metrics."""
    options = case.kwargs
    keras.utils.clear_session()  # which numbers the names of metrics
    keras.utils.set_random_seed(options["seed"])
    has_steps = case.name == "of_sequences"
    kernel, activity = options["regularizers"]
    if has_steps:
        inputs = keras.Input((None if dynamic else STEPS,), dtype="int32")
        x = keras.layers.Embedding(TOKENS, 4, mask_zero=True)(inputs)
        x = keras.layers.GRU(
            4, return_sequences=True, kernel_regularizer=kernel
        )(x)
    else:
        x = inputs = keras.Input((FEATURES,))
        x = keras.layers.Dense(5, "tanh", kernel_regularizer=kernel)(x)
        x = keras.layers.BatchNormalization(beta_regularizer="l2")(x)
        x = keras.layers.Dropout(0.5)(x)
    if activity and activity != "OrthogonalRegularizer":
        x = keras.layers.Dense(4, "elu", activity_regularizer=activity)(x)
    if "layer" in options["penalties"]:
        x = Penalised()(x)
    if "activity" in options["penalties"]:
        x = keras.layers.ActivityRegularization(0.01, 0.02)(x)
    outputs = [
        keras.layers.Dense(y.units, KINDS[y.kind].activation, name=f"y{i}")(x)
        for i, y in enumerate(options["outputs"])
    ]
    own = "model" in options["penalties"]
    model = (OwnLoss if own else keras.Model)(inputs, outputs)
    compile_model(model, options, run_eagerly)
    return model


def compile_model(model, options, run_eagerly):
    outputs = options["outputs"]

    def metrics(name):
        of_each = [
            [of_module(keras.metrics, m) for m in getattr(y, name)]
            for y in outputs
        ]
        return of_each if any(of_each) else None

    model.compile(
        loss=[of_module(keras.losses, y.loss) for y in outputs],
        loss_weights=options["loss_weights"],
        metrics=metrics("metrics"),
        weighted_metrics=metrics("weighted_metrics"),
        steps_per_execution=options["steps_per_execution"],
        run_eagerly=run_eagerly,
    )


def data_of(case):
    """Inputs, targets and weights of the samples."""
    options = case.kwargs
    rng = np.random.default_rng(options["seed"])
    lead = (SAMPLES,)
    if case.name == "of_sequences":
        lead = (SAMPLES, STEPS)
        x = rng.integers(0, TOKENS, lead).astype("int32")
        x[:, 0] = 1  # No sample is masked whole.
    else:
        x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    outputs = options["outputs"]
    targets = [KINDS[y.kind].targets(rng, (*lead, y.units)) for y in outputs]
    if not options["sample_weight"]:
        return x, targets, None
    weights = [rng.uniform(0, 2, lead).astype("float32") for _ in outputs]
    return x, targets, weights


class Batches(keras.utils.PyDataset):
    def __init__(self, data, size):
        super().__init__()
        self.data, self.size = data, size

    def __len__(self):
        return -(-SAMPLES // self.size)

    def __getitem__(self, index):
        return part(self.data, index * self.size, self.size)


def part(data, start, size):
    """A batch of inputs, targets and weights, these if there are some."""
    sliced = keras.tree.map_structure(
        lambda x: None if x is None else x[start : start + size], data
    )
    # Lists would be taken for what a single input is made of.
    return tuple(
        tuple(x) if isinstance(x, list) else x for x in sliced if x is not None
    )


def evaluate(model, case):
    """What `evaluate` gives for the data in the form of the case."""
    data, size = data_of(case), case.kwargs["batch_size"]
    options = {"verbose": 0, "return_dict": True}
    if case.kwargs["data"] == "arrays":
        x, y, weights = data
        return model.evaluate(
            x, y, batch_size=size, sample_weight=weights, **options
        )
    batches = Batches(data, size)
    if case.kwargs["data"] == "dataset":
        return model.evaluate(batches, **options)
    steps = len(batches)
    generator = (batches[i % steps] for i in range(3 * steps))
    return model.evaluate(generator, steps=steps, **options)


def results(case, run_eagerly=False, dynamic=False):
    """The names and numbers of three calls of each."""
    model = compiled_model(case, run_eagerly, dynamic)
    batch = part(data_of(case), 0, case.kwargs["batch_size"])
    evaluated = [evaluate(model, case) for _ in range(3)]
    tested = [model.test_on_batch(*batch, return_dict=True) for _ in range(3)]
    return [*table(evaluated), *table(tested)]


def table(calls):
    """The names in the logs of each call, and an array for each name.

    It begins with a 1, by which the errors of small numbers are measured.
    """
    names = list(calls[0])
    arrays = [np.hstack([1.0, *(c[n] for c in calls)]) for n in names]
    return [*map(" ".join, calls), *map(np.float32, arrays)]


def build(case):
    eager = keras.backend.backend() != "jax"
    return lambda **_: results(case, run_eagerly=eager)


def _spec(has_steps):
    return Spec(
        arguments(has_steps),
        build=build,
        compiled=lambda case, dynamic: results(case, dynamic=dynamic),
        spread=True,
        tolerance=4,
    )


SPECS = {"of_samples": _spec(False), "of_sequences": _spec(True)}
