from keras.src import tree
from keras.src.backend.openvino import control_flow
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.numpy import swapaxes
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.numpy import zeros_like
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast


def rnn(
    step_function,
    inputs,
    initial_states,
    go_backwards=False,
    mask=None,
    constants=None,
    unroll=False,
    input_length=None,
    time_major=False,
    zero_output_for_mask=False,
    return_all_outputs=True,
):
    """Runs `step_function` over the time steps of `inputs`.

    Args:
        step_function: takes the input of one step and the states followed by
            the constants; returns an output and the new states.
        inputs: tensors of shape `(batch, time, ...)`, nested.
        initial_states: the states before the first step, nested.
        go_backwards: whether the last step comes first.
        mask: boolean tensor of shape `(batch, time)`; where it is false,
            states stay as they are and the output is the previous one.
        constants: tensors that are passed to each step.
        unroll: whether to lay the steps out in the graph, which needs their
            number, instead of a loop.
        input_length: not used.
        time_major: whether `inputs`, `mask` and the outputs have the time
            before the batch.
        zero_output_for_mask: whether a masked step's output is 0 instead.
        return_all_outputs: whether to return more than the last output.

    Returns:
        `(last_output, outputs, new_states)`.
    """
    xs = {"inputs": inputs}
    if mask is not None:
        xs["mask"] = cast(mask, "bool")
    if not time_major:
        xs = tree.map_structure(lambda x: swapaxes(x, 0, 1), xs)
    if go_backwards:
        xs = tree.map_structure(lambda x: x[::-1], xs)

    def step(states, x):
        output, new_states = step_function(
            x["inputs"], tuple(states) + tuple(constants or ())
        )
        new_states = tree.pack_sequence_as(states, tree.flatten(new_states))
        if mask is not None:
            keep = x["mask"]
            if zero_output_for_mask:
                previous = zeros_like(output)
            else:
                previous = _previous_output(states)
            output = _where(keep, output, previous)
            new_states = tree.map_structure(
                lambda new, old: _where(keep, new, old), new_states, states
            )
        return new_states, output

    if unroll:
        states, outputs = _unrolled(step, initial_states, xs)
    else:
        states, outputs = control_flow.scan(step, initial_states, xs)
    last_output = tree.map_structure(lambda y: y[-1], outputs)
    if not return_all_outputs:
        outputs = tree.map_structure(lambda y: y[-1:], outputs)
    if not time_major:
        outputs = tree.map_structure(lambda y: swapaxes(y, 0, 1), outputs)
    return last_output, outputs, states


def _previous_output(states):
    """The first state, by convention; of the last cell where they stack."""
    first = states[0]
    return states[-1][0] if tree.is_nested(first) else first


def _where(keep, new, old):
    """`new` where `keep` of shape `(batch,)` or `(batch, 1)`, else `old`."""
    added = tuple(range(keep.ndim, new.ndim))
    if added:
        keep = apply("Unsqueeze", keep, added)
    return where(keep, new, old)


def _unrolled(step, states, xs):
    steps = known_dim(tree.flatten(xs)[0], 0, "rnn")
    if not steps:
        raise ValueError("Unrolling requires a fixed number of timesteps.")
    outputs = []
    for i in range(steps):
        x = tree.map_structure(lambda x: x[i], xs)
        states, output = step(states, x)
        outputs.append(output)
    return states, control_flow.stacked(outputs)


def cudnn_ok(*args, **kwargs):
    return False


def lstm(*args, **kwargs):
    """Not there: the LSTM layer runs its cell in a loop instead."""
    raise NotImplementedError


def gru(*args, **kwargs):
    """Not there: the GRU layer runs its cell in a loop instead."""
    raise NotImplementedError


def bidirectional_lstm(*args, **kwargs):
    """Not there: the layer runs forwards and backwards by itself."""
    raise NotImplementedError


def bidirectional_gru(*args, **kwargs):
    """Not there: the layer runs forwards and backwards by itself."""
    raise NotImplementedError
