import functools
import warnings

from keras.src import backend
from keras.src import optimizers
from keras.src import tree
from keras.src.backend import config
from keras.src.backend.openvino.gradient import GradientTape
from keras.src.backend.openvino.pipeline import first_batch
from keras.src.backend.openvino.pipeline import first_step
from keras.src.backend.openvino.pipeline import to_array
from keras.src.backend.openvino.pipeline import without_workers
from keras.src.trainers import trainer as base_trainer
from keras.src.trainers.data_adapters import array_slicing
from keras.src.trainers.data_adapters import data_adapter_utils
from keras.src.trainers.epoch_iterator import EpochIterator
from keras.src.utils import traceback_utils
from keras.src.utils.python_utils import pythonify_logs


class Training(base_trainer.Trainer):
    """`fit` and `train_on_batch`: a step is one compiled model.

    It takes and gives all variables that it changes: those of the model, its
    optimizer and its metrics.
    """

    def __init__(self):
        super().__init__()
        self.train_function = None

    def train_step(self, data):
        """Updates weights and metrics with a batch; returns the logs.

        Override it as with TensorFlow: call the model, and compute the loss,
        inside of a `keras_vino.GradientTape`, and give its gradients to
        `self.optimizer.apply`.
        """
        x, y, sample_weight = data_adapter_utils.unpack_x_y_sample_weight(data)
        given = {"x": x, "y": y, "sample_weight": sample_weight}
        weights = self.trainable_weights
        with GradientTape() as tape:
            y_pred = self._forward(x, training=True)
            loss = self._compute_loss(y_pred=y_pred, training=True, **given)
            scaled = loss
            if self.optimizer is not None:
                scaled = self.optimizer.scale_loss(loss)
        self._loss_tracker.update_state(loss, sample_weight=batch_size_of(x))
        if weights:
            gradients = tape.gradient(scaled, weights)
            if all(gradient is None for gradient in gradients):
                raise ValueError(_NO_GRADIENT.format(self.name))
            self.optimizer.apply(gradients, weights)
        else:
            warnings.warn("The model does not have any trainable weights.")
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def make_train_function(self, force=False):
        self.train_function = self._up_to_date(
            self.train_function, self._new_train_function, force
        )
        return self.train_function

    def _new_train_function(self):
        step = self._compiled(
            self.train_step, is_static=True, varying=self._state()
        )

        def train_function(batches):
            for batch in batches:
                logs = step(batch)
            return logs

        return self._stamped(train_function, step)

    def _state(self):
        """The variables that a step of training is likely to assign."""
        frozen = {
            id(variable)
            for layer in self._flatten_layers()
            for variable in layer._trainable_variables
            if not variable.trainable
        }
        found = [v for v in self.variables if id(v) not in frozen]
        if self.optimizer is not None:
            found += self.optimizer.variables
        return found + self.metrics_variables

    @traceback_utils.filter_traceback
    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        self._assert_compile_called("fit")
        limit = config.max_epochs()
        if limit and limit < epochs:
            warnings.warn(f"Limiting epochs to {limit}")
            epochs = limit
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = (
                array_slicing.train_validation_split(
                    (x, y, sample_weight), validation_split=validation_split
                )
            )
        data = EpochIterator(
            x,
            y,
            sample_weight,
            batch_size,
            steps_per_epoch,
            shuffle,
            class_weight,
            self.steps_per_execution,
        )
        with without_workers(data.data_adapter):
            take = functools.partial(first_batch, data)
            self._symbolic_build(iterator=first_step(take))
            data.reset()
        callbacks = self._callback_list(callbacks, data, verbose, epochs=epochs)
        validation = None
        if validation_data is not None:
            val_x, val_y, val_sample_weight = (
                data_adapter_utils.unpack_x_y_sample_weight(validation_data)
            )
            validation = {
                "x": val_x,
                "y": val_y,
                "sample_weight": val_sample_weight,
                "batch_size": validation_batch_size or batch_size,
                "steps": validation_steps,
            }
        self._eval_epoch_iterator = None
        self.stop_training = False
        self.make_train_function()
        callbacks.on_train_begin()
        logs = None
        for epoch in range(self._initial_epoch or initial_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            logs = self._train_epoch(data, callbacks)
            if validation and self._should_eval(epoch, validation_freq):
                logs.update(self._validate(callbacks, **validation))
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        if isinstance(self.optimizer, optimizers.Optimizer) and epochs > 0:
            self.optimizer.finalize_variable_values(self.trainable_weights)
        self._eval_epoch_iterator = None
        callbacks.on_train_end(logs=logs)
        return self.history

    def _train_epoch(self, data, callbacks):
        """Takes the steps of an epoch; returns its logs."""
        logs = {}
        with data.catch_stop_iteration():
            for first, last, batches in data:
                callbacks.on_train_batch_begin(first)
                logs = self.train_function(batches)
                callbacks.on_train_batch_end(last, logs)
                if self.stop_training:
                    break
        return dict(self._get_metrics_result_or_logs(logs))

    def _validate(self, callbacks, steps, **data):
        """Evaluates the model after an epoch; returns the logs."""
        if self._eval_epoch_iterator is None:
            self._eval_epoch_iterator = self._epoch(steps, **data)
        logs = self.evaluate(
            **data,
            steps=steps,
            callbacks=callbacks,
            return_dict=True,
            _use_cached_eval_dataset=True,
        )
        # By the next time all that is trained is assigned again.
        for step in jits_of(self.test_function):
            step.vary(self.trainable_variables)
        return {f"val_{name}": value for name, value in logs.items()}

    @traceback_utils.filter_traceback
    def train_on_batch(
        self,
        x,
        y=None,
        sample_weight=None,
        class_weight=None,
        return_dict=False,
    ):
        self._assert_compile_called("train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "`train_on_batch` takes `sample_weight` or `class_weight`, "
                    f"not both. Received: sample_weight={sample_weight}, "
                    f"class_weight={class_weight}"
                )
            sample_weight = data_adapter_utils.class_weight_to_sample_weights(
                y, class_weight
            )
        batch = tree.map_structure(to_array, (x, y, sample_weight))
        self._symbolic_build(data_batch=batch)
        self.make_train_function()
        self.reset_metrics()
        logs = pythonify_logs(self.train_function([batch]))
        return logs if return_dict else self._flatten_metrics_in_order(logs)


_NO_GRADIENT = (
    "The loss of the model `{}` depends on none of its trainable weights, so "
    "that there is nothing to train: a `loss` is missing in `compile()`, or "
    "what is between has no gradient, such as `ops.argmax` or "
    "`ops.stop_gradient`."
)


def batch_size_of(x):
    leaves = [leaf for leaf in tree.flatten(x) if leaf is not None]
    return next((backend.shape(leaf)[0] for leaf in leaves if leaf.shape), 1)


def jits_of(function):
    """The compiled functions in one that `make_test_function` and such make.

    A function of the user's has none, nor has one that runs op by op.
    """
    return getattr(function, "jits", ())
