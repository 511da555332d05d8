import contextlib
import copy
import functools
import inspect
import types

from keras.src import backend
from keras.src import callbacks as callbacks_module
from keras.src import tree
from keras.src.backend.openvino.jit import Started
from keras.src.backend.openvino.jit import assigning
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.layer import OpenvinoLayer
from keras.src.backend.openvino.layer import latest_change
from keras.src.backend.openvino.pipeline import Epoch
from keras.src.backend.openvino.pipeline import Gathered
from keras.src.backend.openvino.pipeline import Together
from keras.src.backend.openvino.pipeline import ahead
from keras.src.backend.openvino.pipeline import first_step
from keras.src.backend.openvino.pipeline import joined
from keras.src.backend.openvino.pipeline import to_array
from keras.src.backend.openvino.settings import LATENCY
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import concrete
from keras.src.backend.openvino.tensor import symbolic
from keras.src.backend.openvino.tensor import value_of
from keras.src.backend.openvino.training import Training
from keras.src.backend.openvino.training import batch_size_of
from keras.src.backend.openvino.training import jits_of
from keras.src.trainers.data_adapters import data_adapter_utils
from keras.src.utils import traceback_utils
from keras.src.utils.python_utils import is_default
from keras.src.utils.python_utils import pythonify_logs

# It begins as Keras has it.
_NO_SUCH_EXPORT = (
    "`{}` only currently supports the tensorflow, jax and torch backends. "
    "`model.export('model.xml', format='openvino')` writes OpenVINO IR; for "
    "another format, `model.save` the model, load it with `KERAS_BACKEND` set "
    "to one of these, and export it there."
)
_OTHER_FORMATS = {
    "tf_saved_model": "export_saved_model",
    "onnx": "export_onnx",
}


class OpenVINOTrainer(Training):
    """`predict`, `evaluate` and `fit` as compiled models of one step each."""

    _run_state = frozenset(
        ("predict_function", "test_function", "train_function", "history")
        + ("stop_predicting", "stop_evaluating", "stop_training")
        + ("_eval_epoch_iterator", "_initial_epoch")
    )
    _accounts = OpenvinoLayer._accounts | _run_state
    _accounts |= {"optimizer", "loss", "_loss_tracker", "_compile_config"}
    _accounts |= {"_compile_loss", "_compile_metrics", "_jit_compile"}

    def __init__(self):
        super().__init__()
        self.test_function = None
        self.predict_function = None

    def predict_step(self, data):
        """The model's outputs for a batch; override it as on any backend."""
        return self._forward(_inputs(data))

    def test_step(self, data):
        """Updates loss and metrics with a batch; returns the logs."""
        return self._update_metrics(data, self._forward(_inputs(data)))

    def _update_metrics(self, data, y_pred):
        x, y, sample_weight = data_adapter_utils.unpack_x_y_sample_weight(data)
        loss = self._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False
        )
        self._loss_tracker.update_state(loss, sample_weight=batch_size_of(x))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    # `test_step` in two parts: the first depends on no batch before.

    def _forward_alone(self, x):
        """The outputs, their masks, and the losses that layers added."""
        y_pred = self._forward(x)
        masks = tree.map_structure(backend.get_keras_mask, y_pred)
        losses = [layer._get_own_losses() for layer in self._flatten_layers()]
        return y_pred, masks, losses

    def _update_alone(self, data, y_pred, masks, losses):
        tree.map_structure(_set_mask, y_pred, masks)
        for layer, own in zip(self._flatten_layers(), losses):
            if own:
                layer.add_loss(own)
        return self._update_metrics(data, y_pred)

    def _forward(self, x, training=False):
        if self._call_has_training_arg:
            return self(x, training=training)
        return self(x)

    def make_predict_function(self, force=False):
        self.predict_function = self._up_to_date(
            self.predict_function, self._new_predict_function, force
        )
        return self.predict_function

    def _new_predict_function(self):
        take, step = _itself, self.predict_step
        if _is_own(self, "predict_step"):
            # One model for all, whatever they come in.
            take, step = _inputs, self._forward
        step = self._compiled(step)

        def combine(outputs):
            return joined([_to_arrays(x) for x in outputs])

        def predict_function(batches):
            return combine([step(take(batch)) for batch in batches])

        def start(batches, hint):
            def start_one(batch):
                return step.start(take(batch), hint=hint)

            return Together(start_one, batches, combine)

        if isinstance(step, jit):
            predict_function.start = start
        return self._stamped(predict_function, step)

    def make_test_function(self, force=False):
        self.test_function = self._up_to_date(
            self.test_function, self._new_test_function, force
        )
        return self.test_function

    def _new_test_function(self):
        step = self._compiled(self.test_step)

        def test_function(batches):
            for batch in batches:
                logs = step(batch)
            return logs

        steps = [step]
        if isinstance(step, jit) and self._has_own_test_step():
            forward = self._compiled(self._forward_alone)
            update = self._compiled(self._update_alone)
            start = _test_ahead(test_function, forward, update)
            test_function.start = start
            steps += [forward, update]
        return self._stamped(test_function, *steps)

    def _has_own_test_step(self):
        """Whether nobody else says what follows the outputs in a test step.

        What others write may ask for what `call` left on the model.
        """
        return (
            _is_own(self, "test_step")
            and _is_own(self, "compute_loss")
            and _is_own(self, "compute_metrics")
        )

    def _up_to_date(self, function, make, force):
        """`function`, or another where it is outdated or `force` is set.

        Layers may take turns at being trainable, as adversaries do: what it
        is, and what it was before, are of use again.

        Args:
            function: one that `make` gave, one of the user's, or `None`.
            make: gives a new one.
            force: whether to make a new one in any case.
        """
        if not (force or self._is_outdated(function)):
            return function
        layers = self._flatten_layers()
        change = max(layer._last_lasting_change for layer in layers)
        state = change, tuple(layer.trainable for layer in layers)
        known = {} if force else getattr(function, "known", {})
        known = {s: f for s, f in known.items() if s[0] == change}
        found = known.pop(state, None)
        found = make() if found is None else self._dated(found)
        last = dict(list(known.items())[-1:])
        for function in last.values():
            function.known = {}  # not all that there ever was
        found.known = {**last, state: found}
        return found

    def _stamped(self, function, *steps):
        """`function`, with the model's state that it stands for."""
        function.is_built = self._is_built()
        function.jits = [step for step in steps if isinstance(step, jit)]
        return self._dated(function)

    def _dated(self, function):
        """`function`, with the last change of a layer: see `_is_outdated`."""
        function.checked = latest_change()
        function.change = self._latest_change()
        return function

    def _is_outdated(self, function):
        if function is None:
            return True
        if not hasattr(function, "change"):
            return False  # a function that the user put here stays
        latest = latest_change()
        if function.checked != latest:
            if function.change < self._latest_change():
                return True
            function.checked = latest
        return False

    def _is_built(self):
        return all(layer.built for layer in self._flatten_layers())

    def _build_for(self, x):
        """Builds what is not built, as a call with `x` does."""
        with backend.StatelessScope():
            self(tree.map_structure(_to_tensor, x))

    def _latest_change(self):
        return max(layer._last_change for layer in self._flatten_layers())

    # Weights are set, loaded and quantised as one change: `predict` in another
    # thread gets all of them or none.

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # `Model` has its own, which come before those of this class.
        for name in ("load_weights", "quantize"):
            if name in vars(cls):
                setattr(cls, name, _as_one_change(vars(cls)[name]))
        if "export" in vars(cls):
            cls.export = _without_other_formats(cls.export)

    def set_weights(self, weights):
        with assigning:
            super().set_weights(weights)

    def _compiled(self, step, **options):
        """`step` as a compiled model, unless it has to run op by op.

        Args:
            step: a method of the model.
            **options: what else `jit` takes.
        """
        if self.run_eagerly or not self.jit_compile:
            return lambda data: tree.map_structure(
                _copied, step(tree.map_structure(_to_tensor, data))
            )
        inputs = getattr(self, "inputs", None) or ()
        specs = [x.shape for x in tree.flatten(inputs)]
        return jit(step, specs, **options)

    @traceback_utils.filter_traceback
    def predict(
        self, x, batch_size=None, verbose="auto", steps=None, callbacks=None
    ):
        epoch = self._epoch(steps, x=x, batch_size=batch_size)
        if epoch.num_batches == 0 and epoch.is_of_arrays:
            return self.predict_on_batch(x)  # arrays of no samples
        if not self._is_built():
            self._build_for(_inputs(epoch.first_batch()))
        callbacks = self._callback_list(callbacks, epoch, verbose)
        self.make_predict_function()
        results = Gathered(epoch.num_samples)
        self.stop_predicting = False
        callbacks.on_predict_begin()
        told = _BatchHooks(callbacks, "predict")
        with _steps_ahead(self.predict_function, epoch) as steps:
            for first, last, result in steps:
                told.begin(first)
                told.end(last, {"outputs": results.add(result())})
                if self.stop_predicting:
                    break
        _release_memory(self.predict_function)
        callbacks.on_predict_end()
        return results.result()

    @traceback_utils.filter_traceback
    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        self._assert_compile_called("evaluate")
        cached = kwargs.pop("_use_cached_eval_dataset", False)
        if kwargs:
            raise ValueError(f"Arguments not recognized: {kwargs}")
        if cached:
            epoch = self._eval_epoch_iterator
            epoch.reset()  # the same samples each time
        else:
            data = {"x": x, "y": y, "sample_weight": sample_weight}
            epoch = self._epoch(steps, batch_size=batch_size, **data)
        self._symbolic_build(iterator=first_step(epoch.first_batch))
        callbacks = self._callback_list(callbacks, epoch, verbose, False)
        self.make_test_function()
        self.reset_metrics()
        self.stop_evaluating = False
        callbacks.on_test_begin()
        logs = {}
        told = _BatchHooks(callbacks, "test")
        with _steps_ahead(self.test_function, epoch) as steps:
            for first, last, result in steps:
                told.begin(first)
                logs = result()
                told.end(last, logs)
                if self.stop_evaluating:
                    break
        _release_memory(self.test_function)
        logs = pythonify_logs(self._get_metrics_result_or_logs(logs))
        callbacks.on_test_end(logs)
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def _epoch(self, steps, **data):
        return Epoch(steps, self.steps_per_execution, **data)

    def _callback_list(self, callbacks, epoch, verbose, history=True, epochs=1):
        if isinstance(callbacks, callbacks_module.CallbackList):
            return callbacks
        progress = {"add_progbar": verbose != 0, "verbose": verbose}
        return callbacks_module.CallbackList(
            callbacks,
            model=self,
            add_history=history,
            epochs=epochs,
            steps=epoch.num_batches,
            **progress,
        )

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        self._assert_compile_called("test_on_batch")
        batch = tree.map_structure(to_array, (x, y, sample_weight))
        self._symbolic_build(data_batch=batch)
        self.make_test_function()
        self.reset_metrics()
        logs = self.test_function([batch])
        logs = pythonify_logs(_to_arrays(logs))
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def predict_on_batch(self, x):
        function = self.predict_function
        if self._is_outdated(function) or not getattr(
            function, "is_built", False
        ):
            if not self._is_built():
                self._build_for(x)
            self.make_predict_function()
        return self.predict_function([(tree.map_structure(to_array, x),)])

    # KerasHub's own bridge, where this one is not in its place, compiles its
    # models of `generate` with these two.

    def _parameterize_data(self, data):
        """Symbolic tensors like the arrays in `data`, batch dims dynamic."""

        def parameterize(x):
            x = backend.convert_to_tensor(x)
            return symbolic(x.dtype, (None,) + x.shape[1:] if x.shape else ())

        return tree.map_structure(parameterize, data)

    def _unpack_singleton(self, x):
        if isinstance(x, (list, tuple)) and len(x) == 1:
            return x[0]
        return x


def _test_ahead(test_function, forward, update):
    """A function that starts a step of `evaluate`.

    Args:
        test_function: takes the batches of a step one by one.
        forward, update: the two parts of `test_step`, compiled.
    """

    def start(batches, hint):
        if hint == LATENCY:
            return Started(functools.partial(test_function, batches))

        def updated(results):
            for batch, outputs in zip(batches, results):
                logs = update(batch, *outputs)
            return logs

        def start_one(batch):
            return forward.start(_inputs(batch), hint=hint)

        return Together(start_one, batches, updated)

    return start


def _as_one_change(assign):
    @functools.wraps(assign)
    def assign_all(*args, **kwargs):
        with assigning:
            return assign(*args, **kwargs)

    return assign_all


def _without_other_formats(export):
    """`export`, which would write an archive of IRs for a SavedModel."""
    signature = inspect.signature(export)

    @functools.wraps(export)
    def checked(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        other = _OTHER_FORMATS.get(given.arguments.get("format"))
        if other:
            raise NotImplementedError(_NO_SUCH_EXPORT.format(other))
        return export(*args, **kwargs)

    return checked


def _release_memory(function):
    """Frees what a loop over large batches left in compiled models."""
    for step in jits_of(function):
        step.release_memory()


def _itself(data):
    return data


def _inputs(data):
    """The `x` of a batch."""
    x, _, _ = data_adapter_utils.unpack_x_y_sample_weight(data)
    return x


def _to_tensor(x):
    return None if x is None else backend.convert_to_tensor(x)


def _copied(x):
    """A copy: a model may return an input, a weight, or one tensor twice."""
    if isinstance(x, (OpenVINOKerasTensor, backend.Variable)):
        return concrete(backend.convert_to_numpy(x))
    return copy.copy(x)


def _to_arrays(structure):
    # No copies: nobody else has the arrays that a step of `_compiled` returns.
    if isinstance(structure, OpenVINOKerasTensor):
        return value_of(structure)
    return tree.map_structure(
        lambda x: value_of(x) if isinstance(x, OpenVINOKerasTensor) else x,
        structure,
    )


def _is_own(model, name):
    """Whether a method of a model is the trainer's, and nobody else's."""
    own = types.MethodType(getattr(OpenVINOTrainer, name), model)
    return getattr(model, name) == own


def _set_mask(x, mask):
    if mask is not None:
        backend.set_keras_mask(x, mask)


def _steps_ahead(function, epoch):
    """The steps of an epoch from `ahead`, to be closed at the end."""
    # A function of the user's starts nothing.
    start = getattr(function, "start", None)

    def started(batches):
        if start is None:
            return Started(functools.partial(function, batches))
        return start(batches, epoch.hint)

    return contextlib.closing(ahead(started, epoch.steps()))


class _BatchHooks:
    """Tells callbacks of batches, if one of them wants to know.

    To tell them of a batch takes 10 to 40 us.

    Args:
        callbacks: a `CallbackList`.
        name: `"predict"` or `"test"`.
    """

    def __init__(self, callbacks, name):
        begin, end = f"on_{name}_batch_begin", f"on_{name}_batch_end"
        is_heard = callbacks.__class__ is not callbacks_module.CallbackList
        is_heard = is_heard or any(
            not is_default(getattr(callback, hook))
            for callback in callbacks.callbacks
            for hook in (begin, end)
        )
        self.begin = getattr(callbacks, begin) if is_heard else _ignore
        self.end = getattr(callbacks, end) if is_heard else _ignore


def _ignore(*args):
    pass
