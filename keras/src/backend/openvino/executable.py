"""Compiled models as functions of arrays, called by many threads at once."""

import contextlib
import functools
import threading

import openvino as ov

from keras.src.backend.openvino import narrowing
from keras.src.backend.openvino.dtypes import for_runtime
from keras.src.backend.openvino.dtypes import own_array
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.dtypes import to_ov_tensor
from keras.src.backend.openvino.dtypes import to_pairs
from keras.src.backend.openvino.errors import reason


class InferenceError(ValueError):
    """A compiled model fails for its inputs."""


class Executable:
    """A compiled model as a function of arrays.

    Threads may call it at once: each call uses an infer request of its own,
    taken from those that are idle.

    Attributes:
        nbytes: the bytes of the model's constants.
        keeps_large: whether to keep an idle request however large its inputs
            and outputs are: those are the next ones of a model that changes
            its own weights.
    """

    keeps_large = False

    # What an idle request may have been given last: it holds the outputs. A new
    # one takes 5 us to make, and what is larger takes 200 us.
    MAX_IDLE_BYTES = 2**20
    # More requests than that are at work at once only now and then.
    MAX_IDLE = 16

    def __init__(
        self,
        compiled,
        sources,
        wide_inputs,
        wide_outputs,
        nbytes,
        operations=None,
        memory=None,
    ):
        self.nbytes = nbytes
        self._compiled = compiled
        self._sources = sources
        self._wide_inputs = wide_inputs
        self._wide_outputs = wide_outputs
        self._busy = 0  # requests at work
        self._is_large = False
        self._idle = []
        self._lock = threading.Lock()
        # Set last so that they are freed after `_compiled`, which calls the
        # operations and reads the memory.
        self._operations = operations
        self._memory = memory

    def export(self):
        """The other arguments of the constructor, and the model as bytes.

        `None` where the runtime cannot write it.
        """
        calls_python = self._operations and not self._operations.is_empty()
        if self._compiled is None or calls_python:
            return None
        try:
            data = self._compiled.export_model().getbuffer()
        except RuntimeError:
            return None
        return {
            "sources": [tuple(source) for source in self._sources],
            "wide_inputs": self._wide_inputs,
            "wide_outputs": self._wide_outputs,
            "nbytes": self.nbytes,
        }, data

    def __call__(self, arrays):
        """Infers once.

        Args:
            arrays: a list of the `numpy.ndarray` of each input, in order.

        Returns:
            A list of the `numpy.ndarray` of each output, with pairs for complex
            numbers, whose memory nobody else has.

        Raises:
            InferenceError: where the model fails for these inputs.
            TooLarge: where an integer of them does not fit 32 bits.
        """
        arrays = list(map(_real, arrays))
        return self._outputs(
            arrays, self._infer(arrays) if self._compiled else ()
        )

    def _infer(self, arrays):
        arrays = self._narrowed(arrays)
        request = self._take()
        return self._run(request, request.infer, arrays)

    def start(self, arrays):
        """Starts to infer, as a call does.

        Nobody may write into the arrays until the result is there.

        Returns:
            A function that waits for the results and returns them, to be
            called once.
        """
        arrays = list(map(_real, arrays))
        if self._compiled is None:
            return lambda: self._outputs(arrays, ())
        given = self._narrowed(arrays)
        request = self._take()
        try:
            request.start(given)
        except BaseException as error:
            self._give_back(request, is_large=True)
            raise _failure(given, error) from None
        return lambda: self._outputs(
            arrays, self._run(request, request.wait, given)
        )

    @contextlib.contextmanager
    def session(self):
        """A `Session`: calls between which the model keeps its states."""
        request = self._take()
        try:
            yield Session(self, request)
        finally:
            self._give_back(request, is_large=True)

    @functools.cached_property
    def at_once(self):
        """How many calls the device works at, at once."""
        if self._compiled is None:
            return 1
        return self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")

    @functools.cached_property
    def _ports(self):
        """The types of the inputs; types and first shapes of the outputs."""
        types = [port.element_type for port in self._compiled.inputs]
        specs = [
            (port.element_type, _initial_shape(port.partial_shape))
            for port in self._compiled.outputs
        ]
        return types, specs

    def is_busy(self):
        """Whether calls are at work."""
        return self._busy > 0

    def _narrowed(self, arrays):
        if not self._wide_inputs:
            return arrays
        arrays = list(arrays)
        for index in self._wide_inputs:
            arrays[index] = narrowing.narrowed(arrays[index])
        return arrays

    def _run(self, request, step, arrays):
        """What `step`, which infers or waits, computes; ends the request."""
        is_large = True
        try:
            results = self._results(step, arrays)
            is_large = request.nbytes > self.MAX_IDLE_BYTES
            is_large = is_large and not self.keeps_large
        finally:
            self._give_back(request, is_large)
        return results

    def _results(self, step, arrays):
        try:
            results = step(arrays)
        except RuntimeError as error:
            raise _failure(arrays, error) from None
        for index in self._wide_outputs:
            results[index] = results[index].astype("float64")
        return results

    def _outputs(self, arrays, computed):
        results = []
        for is_input, index, is_copied in self._sources:
            array = (arrays if is_input else computed)[index]
            results.append(own_array(array) if is_copied else array)
        return results

    def release_memory(self):
        """Frees what large batches left in the model between its nodes.

        The next large batch takes up to half as long again, to get it back.
        """
        with self._lock:  # the runtime refuses while a request is at work
            if self._is_large and not self._busy:
                self._is_large = False
                self._compiled.release_memory()

    def _take(self):
        with self._lock:
            self._busy += 1
            if self._idle:
                return self._idle.pop()
        try:
            return _Request(self._compiled, *self._ports)
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise

    def _give_back(self, request, is_large):
        with self._lock:
            self._busy -= 1
            if is_large:
                self._is_large = True
            elif len(self._idle) < self.MAX_IDLE:
                self._idle.append(request)


class Session:
    """Calls of an `Executable` that follow one another, in one thread."""

    def __init__(self, executable, request):
        self._executable = executable
        self._request = request

    def set_states(self, arrays):
        """Sets the states of the model.

        Args:
            arrays: a dict of the `numpy.ndarray` for each name.
        """
        try:
            self._request.set_states(arrays)
        except RuntimeError as error:
            raise _failure(list(arrays.values()), error) from None

    def __call__(self, arrays):
        """Infers once, as the `Executable` does."""
        executable = self._executable
        arrays = list(map(_real, arrays))
        given = executable._narrowed(arrays)
        results = executable._results(self._request.infer, given)
        return executable._outputs(arrays, results)


def _real(array):
    return to_pairs(array) if array.dtype.kind == "c" else array


def _failure(arrays, error):
    """What to raise for an exception of the runtime."""
    if not isinstance(error, RuntimeError):
        return error
    shapes = [array.shape for array in arrays]
    return InferenceError(
        f"The compiled model fails for inputs of the shapes {shapes}: "
        f"{reason(error)}"
    )


class _Request:
    """An infer request, and the memory that it has.

    To give it memory takes some 10 us for each input and output, so that small
    arrays are copied into and out of memory that it keeps; it is given that of
    large ones.

    Attributes:
        nbytes: the bytes of inputs and outputs of the last call.
    """

    # Where the one takes as long as the other.
    COPIED_BYTES = 2**16

    def __init__(self, compiled, types, specs):
        # That of the bindings themselves: what OpenVINO's Python class does
        # with inputs and outputs takes 5 us.
        base = super(ov.CompiledModel, compiled)
        self._request = base.create_infer_request()
        self._types = types
        self._inputs = [None] * len(types)  # its own memory, as arrays
        self._specs = specs
        self._outputs = [None] * len(specs)  # for the next call, as tensors
        self._held = []
        self.nbytes = 0

    def infer(self, arrays):
        """The outputs for a list of arrays."""
        self._give(arrays)
        self._request.infer({}, share_outputs=True, decode_strings=False)
        return self._collect()

    def set_states(self, arrays):
        """Sets states by their names."""
        for state in self._request.query_state():
            state.state = to_ov_tensor(arrays[state.name])

    def start(self, arrays):
        """Starts to infer the outputs, for which `wait` waits."""
        self._give(arrays)
        self._request.start_async({}, None)

    def wait(self, arrays):
        """The outputs, of the arrays with which it was started."""
        self._request.wait()
        return self._collect()

    def _give(self, arrays):
        """Gives the request its inputs, and memory for its outputs."""
        self.nbytes = sum([array.nbytes for array in arrays])
        for index, array in enumerate(arrays):
            if array.nbytes <= self.COPIED_BYTES:
                self._copy(index, array)
            else:
                self._share(index, array)
        for index, tensor in enumerate(self._outputs):
            if tensor is None:
                tensor = ov.Tensor(*self._specs[index])
                self._request.set_output_tensor(index, tensor)
                self._outputs[index] = tensor

    def _collect(self):
        self._held = []
        return [self._taken(i) for i in range(len(self._outputs))]

    def _taken(self, index):
        """The array of an output, which nobody else has."""
        array = to_array(self._outputs[index])
        self.nbytes += array.nbytes
        if array.nbytes <= self.COPIED_BYTES:
            return array.copy()
        self._outputs[index] = None
        return array

    def _copy(self, index, array):
        own = self._inputs[index]
        if own is None or own.shape != array.shape:
            tensor = ov.Tensor(self._types[index], ov.Shape(array.shape))
            self._request.set_input_tensor(index, tensor)
            own = self._inputs[index] = to_array(tensor)
        own[...] = array

    def _share(self, index, array):
        array = for_runtime(array)
        # Held until the end: the runtime keeps no more than the address.
        self._held.append(array)
        self._request.set_input_tensor(index, to_ov_tensor(array))
        self._inputs[index] = None


def _initial_shape(shape):
    """A shape to allocate at first; the runtime resizes dynamic outputs."""
    if shape.is_static:
        return list(shape.to_shape())
    return [0] * shape.rank.get_length()
