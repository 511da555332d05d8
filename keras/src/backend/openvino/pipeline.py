"""The steps of a loop over data: the next are at work before one is done."""

import collections
import contextlib

import numpy as np
import optree

from keras.src import backend
from keras.src import tree
from keras.src.backend.openvino.settings import LATENCY
from keras.src.backend.openvino.settings import THROUGHPUT
from keras.src.trainers.data_adapters import array_slicing
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter
from keras.src.trainers.epoch_iterator import EpochIterator

# For so many steps a model is compiled for many calls at once.
MANY_STEPS = 8

_NO_BATCH = "The data has no batch; at least one is needed."


class Epoch(EpochIterator):
    """The steps over some data, in order.

    Iterating gives triples of the numbers of the first and the last batch of a
    step, and its batches, nested arrays and tensors as `jit` takes them.
    Nobody writes into these later on.

    Args:
        steps: how many batches there are; by default all.
        steps_per_execution: of how many batches a step is.
        **data: `x`, `y`, `sample_weight` and `batch_size`, as Keras takes them.
    """

    def __init__(self, steps, steps_per_execution, **data):
        super().__init__(
            steps_per_epoch=steps,
            steps_per_execution=steps_per_execution,
            shuffle=False,
            **data,
        )

    @property
    def is_of_arrays(self):
        return isinstance(self.data_adapter, ArrayDataAdapter)

    @property
    def num_samples(self):
        """How many samples there are, `None` where that is not known."""
        if self.is_of_arrays and not self.steps_per_epoch:
            return self.data_adapter._num_samples
        return None

    @property
    def hint(self):
        """What its steps are compiled for."""
        steps = self.num_batches
        if steps is None or steps >= MANY_STEPS * self.steps_per_execution:
            return THROUGHPUT
        return LATENCY

    def first_batch(self):
        """A batch to build a model for; the epoch starts anew."""
        with without_workers(self.data_adapter):
            batch = first_batch(self)
            super().reset()
        return batch

    def reset(self):
        super().reset()
        workers = getattr(self.data_adapter, "enqueuer", None)
        if workers and self.data_adapter.num_batches is not None:
            # They begin anew, but keep what they have made and nobody took.
            workers.ready_queue.queue.clear()

    def steps(self):
        is_empty = True
        for step in self:
            is_empty = False
            yield step
        if is_empty:
            raise ValueError(_NO_BATCH)

    def _get_iterator(self):
        if self.is_of_arrays:
            return _slices(self.data_adapter)
        # Batches of other data may come in memory that is filled again.
        is_new = isinstance(self.data_adapter, TFDatasetAdapter)
        take = to_array if is_new else _own
        batches = super()._get_iterator()
        return (tree.map_structure(take, batch) for batch in batches)


def first_batch(epoch):
    """A batch of an `EpochIterator`, which is to be reset afterwards.

    It is taken by itself: of a generator Keras keeps two batches, and those of
    a whole step may be more.
    """
    _, _, batches = next(epoch._enumerate_iterator())
    batch = next(batches, None)
    if batch is None:
        raise ValueError(_NO_BATCH)
    return batch


def first_step(take):
    """A step of the batch that `take` gives.

    It is taken only where somebody iterates: data may be there only once.
    """
    yield 0, 0, [take()]


@contextlib.contextmanager
def without_workers(adapter):
    """Inside, a data adapter makes its batches itself.

    For what is taken from workers of a `PyDataset` and then reset: they go on
    behind it.
    """
    workers = getattr(adapter, "enqueuer", None)
    if workers is None:
        yield
        return
    adapter.enqueuer = None
    try:
        yield
    finally:
        adapter.enqueuer = workers


def _slices(adapter):
    """The batches of an `ArrayDataAdapter`, in order."""
    arrays = array_slicing.convert_to_sliceable(
        adapter._inputs, target_backend="numpy"
    )
    leaves, treedef = optree.tree_flatten(arrays, namespace="keras")
    size = adapter.batch_size
    for start in range(0, adapter._num_samples, size):
        window = slice(start, start + size)
        batch = [leaf.convert_to_numpy(leaf[window]) for leaf in leaves]
        yield optree.tree_unflatten(treedef, map(to_array, batch))


def to_array(x):
    """`x` as what `jit` takes for data: lists and scalars become tensors."""
    if x is None or hasattr(x, "dtype"):
        return x
    return backend.convert_to_tensor(x)


def _own(x):
    return x.copy() if isinstance(x, np.ndarray) else to_array(x)


class Together:
    """The calls for the batches of a step, as one `jit.Started`.

    Where one cannot be started, those before are dropped, and where one fails,
    those behind it.

    Args:
        start: takes a batch, returns a `jit.Started`.
        batches: an iterable of them.
        combine: makes the result of an iterator of theirs, each of which is
            waited for when it is taken.
    """

    def __init__(self, start, batches, combine):
        self._calls = collections.deque()
        self._combine = combine
        try:
            for batch in batches:
                self._calls.append(start(batch))
        except BaseException:
            self.drop()
            raise
        self.at_once = self._calls[0].at_once

    def result(self):
        try:
            return self._combine(self._results())
        finally:
            self.drop()

    def _results(self):
        while self._calls:
            yield self._calls.popleft().result()

    def drop(self):
        while self._calls:
            self._calls.popleft().drop()


def ahead(start, steps):
    """The steps, in order, where the next are started before one is done.

    Args:
        start: takes the batches of a step, returns a `jit.Started`.
        steps: those of an `Epoch`. Where they end with an exception it is
            raised after the results of those before.

    Yields:
        The numbers of the first and the last batch of a step, and a function
        that waits for its result.
    """
    running = collections.deque()
    is_open, failure = True, None
    try:
        while True:
            while is_open and _takes_more(running):
                try:
                    first, last, batches = next(steps)
                except StopIteration:
                    is_open = False
                except Exception as error:
                    is_open, failure = False, error
                else:
                    running.append((first, last, start(batches)))
            if not running:
                break
            first, last, _ = running[0]
            yield first, last, lambda: running.popleft()[-1].result()
    finally:
        # Somebody else may write into the arrays from now on.
        for *_, started in running:
            started.drop()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # its traceback would keep this frame, with its arrays


def _takes_more(running):
    """Whether to start a call: two for each that the device works at."""
    return not running or len(running) < 2 * running[-1][-1].at_once


class Gathered:
    """The outputs of all steps, batch after batch.

    Where the number of samples is known they are copied as they come into
    arrays for all of them, so that there are never two copies of all.

    Args:
        num_samples: how many samples all batches have, or `None`.
    """

    def __init__(self, num_samples):
        self._num_samples = num_samples
        self._parts = []
        self._whole = None
        self._done = 0  # rows

    def add(self, outputs):
        """Adds the outputs of a step, and returns them as they are kept."""
        leaves, treedef = optree.tree_flatten(outputs, namespace="keras")
        rows = self._rows(leaves, treedef)
        if rows is None:
            self._take_apart()
            self._parts.append(outputs)
            return outputs
        if self._whole is None:
            self._treedef = treedef
            self._whole = [
                np.empty((self._num_samples, *x.shape[1:]), x.dtype)
                for x in leaves
            ]
        end = self._done + rows
        kept = [whole[self._done : end] for whole in self._whole]
        for target, source in zip(kept, leaves):
            target[...] = source
        self._done = end
        return optree.tree_unflatten(treedef, kept)

    def result(self):
        """The arrays of all batches, in one structure."""
        if self._whole is not None and self._done == self._num_samples:
            return optree.tree_unflatten(self._treedef, self._whole)
        self._take_apart()
        return joined(self._parts)

    def _rows(self, leaves, treedef):
        """How many rows the next outputs fill, `None` if they do not fit."""
        if self._num_samples is None or not all(map(_has_rows, leaves)):
            return None
        rows = {len(x) for x in leaves}
        if len(rows) != 1:
            return None
        (rows,) = rows
        if self._whole is None:
            return rows if rows < self._num_samples else None
        is_alike = treedef == self._treedef and all(
            x.shape[1:] == whole.shape[1:] and x.dtype == whole.dtype
            for x, whole in zip(leaves, self._whole)
        )
        fits = self._done + rows <= self._num_samples
        return rows if is_alike and fits else None

    def _take_apart(self):
        """Goes on with a list of parts."""
        self._num_samples = None
        if self._whole is not None:
            done = [whole[: self._done].copy() for whole in self._whole]
            self._parts = [optree.tree_unflatten(self._treedef, done)]
            self._whole = None


def _has_rows(x):
    return isinstance(x, np.ndarray) and x.ndim > 0


def joined(parts):
    """One structure of the arrays of all `parts`, batch after batch."""
    if len(parts) == 1:
        return parts[0]
    return tree.map_structure(
        lambda *arrays: None if arrays[0] is None else np.concatenate(arrays),
        *parts,
    )
