"""Recurrent cells of Keras as OpenVINO's operations on whole sequences.

In a compiled model they take the place of a loop over the steps. They hold for
cells of Keras's own classes whose activations the operations have, without
dropout; others remain loops, as does all that is computed eagerly or recorded
by a tape.
"""

import typing

import numpy as np

from keras.src import activations
from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.numpy import arange
from keras.src.backend.openvino.numpy import broadcast_to
from keras.src.backend.openvino.numpy import concatenate
from keras.src.backend.openvino.numpy import cumsum
from keras.src.backend.openvino.numpy import expand_dims
from keras.src.backend.openvino.numpy import pad
from keras.src.backend.openvino.numpy import split
from keras.src.backend.openvino.numpy import transpose
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.numpy import zeros
from keras.src.backend.openvino.numpy import zeros_like
from keras.src.backend.openvino.registry import ROUNDED
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic

_DTYPES = ("float32", "bfloat16", "float16")

for _type in ("LSTMSequence", "GRUSequence", "RNNSequence"):
    register(_type, halves=ROUNDED)


class Weights(typing.NamedTuple):
    """What a cell multiplies with and adds.

    Attributes:
        kernel: tensor of shape `(features, gates * units)`.
        recurrent_kernel: tensor of shape `(units, gates * units)`.
        bias: tensor of shape `(gates * units,)`, or `(2, gates * units)` where
            the recurrent product has its own, or `None`.
    """

    kernel: typing.Any
    recurrent_kernel: typing.Any
    bias: typing.Any = None


class Cell(typing.NamedTuple):
    """An operation on sequences, and what it is to compute.

    Attributes:
        type: the operation in OpenVINO's opset.
        activations: the names that the operation takes, in its order.
        resets_after: of a GRU, whether the reset gate is applied to the
            product with the recurrent kernel.
    """

    type: str
    activations: tuple
    resets_after: bool = False

    @property
    def gates(self):
        """Where OpenVINO's gates are among Keras's."""
        return {
            "LSTMSequence": (1, 0, 2, 3),
            "GRUSequence": (0, 1, 2),
            "RNNSequence": (0,),
        }[self.type]


def find(step_function):
    """The cell that the step of a Keras layer calls, and its weights.

    Returns:
        A `Cell` and its `Weights`, or `None` where no operation stands for
        the step.
    """
    layer = _cell_layer(step_function)
    cell = None if layer is None else _cell_of(layer)
    if cell is None:
        return None
    bias = layer.bias if layer.use_bias else None
    weights = layer.kernel, layer.recurrent_kernel, bias
    dtype = layer.compute_dtype
    return cell, Weights(*(x if x is None else cast(x, dtype) for x in weights))


def _cell_layer(step_function):
    """The cell layer that a step calls, if that is all it does, or `None`.

    Keras hands over the step alone, a function inside `RNN.inner_loop`; what
    that sees of the layer tells the cell.
    """
    from keras.src.layers.rnn.rnn import RNN  # layers are built on the backend

    code = getattr(step_function, "__code__", None)
    if code is None or code not in RNN.inner_loop.__code__.co_consts:
        return None  # a step of its own may do more than call the cell
    seen = dict(zip(code.co_freevars, step_function.__closure__))
    cell = seen["self"].cell_contents.cell
    is_training = seen["cell_kwargs"].cell_contents.get("training")
    dropouts = ("dropout", "recurrent_dropout")
    if is_training and any(getattr(cell, name, 0) for name in dropouts):
        return None
    # Somebody may have put another function in place of its `call`.
    return None if "call" in vars(cell) else cell


def _cell_of(layer):
    """The `Cell` of a cell layer, or `None` where there is none."""
    from keras.src.layers.rnn.gru import GRUCell
    from keras.src.layers.rnn.lstm import LSTMCell
    from keras.src.layers.rnn.simple_rnn import SimpleRNNCell

    kind = type(layer)  # a subclass may compute something else
    functions = [
        getattr(layer, name, None)
        for name in ("activation", "recurrent_activation")
    ]
    if kind is SimpleRNNCell:
        is_known = functions[0] in (activations.tanh, activations.relu)
    else:
        is_known = functions == [activations.tanh, activations.sigmoid]
    if not is_known:
        return None
    if kind is SimpleRNNCell:
        return Cell("RNNSequence", (functions[0].__name__,))
    if kind is LSTMCell:
        return Cell("LSTMSequence", ("sigmoid", "tanh", "tanh"))
    if kind is GRUCell:
        after = bool(layer.reset_after)
        return Cell("GRUSequence", ("sigmoid", "tanh"), after)
    return None


def takes(x, states, weights):
    """Whether the operations take these tensors.

    They are for models, for steps that there are, and for one dtype.
    """
    dtypes = {t.dtype for t in (x, *states, *weights) if t is not None}
    return (
        is_symbolic(x)
        and x.ndim == 3
        and 0 not in x.shape
        # One state for all of a batch is left to the loop, which broadcasts it.
        and all(state.shape[0] == x.shape[0] for state in states)
        and len(dtypes) == 1
        and dtypes <= set(_DTYPES)
    )


def run(cell, x, states, weights):
    """The outputs of a cell for each step, and its last states.

    Args:
        cell: a `Cell`.
        x: tensor of shape `(batch, time, features)`.
        states: a list of tensors of shape `(batch, units)`.
        weights: a `Weights`.

    Returns:
        The outputs, of shape `(batch, time, units)`, and a list of the states.
    """
    units = weights.recurrent_kernel.shape[0]
    batch, time, _ = dims_of(x)
    options = {}
    if cell.type == "GRUSequence":
        options["linear_before_reset"] = cell.resets_after
    # The operations have a dim for directions, the second of `x` and the
    # first of weights.
    outputs, *last = apply(
        cell.type,
        x,
        *(expand_dims(state, 1) for state in states),
        cast(broadcast_to(time, (batch,)), "int32"),
        expand_dims(_by_gates(cell, weights.kernel), 0),
        expand_dims(_by_gates(cell, weights.recurrent_kernel), 0),
        expand_dims(_bias(cell, weights, units), 0),
        hidden_size=units,
        direction="forward",
        activations=cell.activations,
        **options,
    )
    return outputs[:, 0], [state[:, 0] for state in last]


def _by_gates(cell, kernel):
    """A kernel of Keras, transposed and in OpenVINO's order of gates."""
    return transpose(_reordered(kernel, cell.gates))


def _reordered(x, gates):
    parts = split(x, len(gates), axis=-1)
    return concatenate([parts[i] for i in gates], axis=-1)


def _bias(cell, weights, units):
    count = len(cell.gates)
    if weights.bias is None:
        bias = zeros((count * units,), weights.kernel.dtype)
        return zeros((4 * units,), bias.dtype) if cell.resets_after else bias
    if weights.bias.ndim == 1:
        return _reordered(weights.bias, cell.gates)
    # Those of a GRU's candidate stay apart: the recurrent one is reset.
    own, recurrent = weights.bias[0], weights.bias[1]
    both = (own + recurrent)[: 2 * units]
    return concatenate([both, own[2 * units :], recurrent[2 * units :]])


def run_masked(cell, x, states, weights, mask, before):
    """As `run`, where masked steps change nothing.

    The steps that count come first, in their order. What follows them is not
    looked at, but for the carry of an LSTM, which it holds.

    Args:
        mask: boolean tensor of shape `(batch, time)`. The output of a masked
            step is the previous one.
        before: that before the first step, `(batch, units)`.

    Returns:
        The outputs, and a list of the states.
    """
    batch, time, _ = dims_of(x)
    mask = broadcast_to(mask, (batch, time))
    counts = cumsum(cast(mask, "int32"), axis=1)
    steps = broadcast_to(arange(time, dtype="int32"), (batch, time))
    # Which step comes where; behind those that count, one more.
    places = apply(
        "ScatterElementsUpdate",
        pad(zeros_like(steps), [(0, 0), (0, 1)]) + time,
        where(mask, counts - 1, time),
        steps,
        1,
    )[:, :-1]
    more = np.zeros(weights.kernel.shape[0], "float32")
    if cell.type == "LSTMSequence":
        x = pad(x, [(0, 0), (0, 0), (0, 1)])
        more = np.append(more, 1)
        weights = weights._replace(kernel=_holding(weights.kernel))
    more = broadcast_to(like(more, x), (batch, 1, len(more)))
    x = concatenate([x, more], axis=1)
    x = apply("Gather", x, places, 1, batch_dims=1)
    outputs, last = run(cell, x, states, weights)
    outputs = concatenate([expand_dims(before, 1), outputs], axis=1)
    outputs = apply("Gather", outputs, counts, 1, batch_dims=1)
    has_any = expand_dims(counts[:, -1] > 0, -1)
    last[0] = where(has_any, outputs[:, -1], states[0])
    return outputs, last


# Its sigmoid is 1, that of its opposite 0, whatever is added.
_LARGE = {"float16": 6e4, "bfloat16": 1e30, "float32": 1e30}


def _holding(kernel):
    """The kernel of an LSTM with one more feature, which holds the carry.

    Where it is 1, the gate of the input is shut and that of the carry open.
    """
    large = _LARGE[kernel.dtype]
    units = kernel.shape[1] // 4
    row = np.repeat([[-large, large, 0, 0]], units, axis=1)
    return concatenate([kernel, like(row, kernel)], axis=0)
