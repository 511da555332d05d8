from keras.src import tree
from keras.src.backend.openvino import recording
from keras.src.backend.openvino import scans
from keras.src.backend.openvino import sequences
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.numpy import swapaxes
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.numpy import zeros_like
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import is_symbolic


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
            states stay as they are, and so does the output: it is the first
            state, by convention the same, or where steps are unrolled the
            previous output, 0 before the first.
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
    if not (constants or time_major):
        ran = _as_sequence(
            step_function,
            xs,
            initial_states,
            go_backwards,
            unroll,
            zero_output_for_mask,
        )
        if ran is not None:
            outputs, states = ran
            last_output = outputs[:, -1]
            if not return_all_outputs:
                outputs = outputs[:, -1:]
            return last_output, outputs, states
    if not time_major:
        xs = tree.map_structure(lambda x: swapaxes(x, 0, 1), xs)
    if go_backwards:
        xs = tree.map_structure(lambda x: x[::-1], xs)

    def step(states, x, previous=None):
        output, new_states = step_function(
            x["inputs"], tuple(states) + tuple(constants or ())
        )
        new_states = tree.pack_sequence_as(states, tree.flatten(new_states))
        if mask is not None:
            keep = x["mask"]
            if zero_output_for_mask:
                previous = 0
            elif previous is None:
                previous = _previous_output(states)
            output = _where(keep, output, previous)
            new_states = tree.map_structure(
                lambda new, old: _where(keep, new, old), new_states, states
            )
        return new_states, output

    if unroll:
        states, outputs = _unrolled(step, initial_states, xs)
    else:
        states, outputs = scans.scan(step, initial_states, xs)
    last_output = tree.map_structure(lambda y: y[-1], outputs)
    if not return_all_outputs:
        outputs = tree.map_structure(lambda y: y[-1:], outputs)
    if not time_major:
        outputs = tree.map_structure(lambda y: swapaxes(y, 0, 1), outputs)
    return last_output, outputs, states


def _as_sequence(step_function, xs, states, go_backwards, unroll, zero_output):
    """The outputs and states by one operation; `None` where none does it."""
    x, mask = xs["inputs"], xs.get("mask")
    if recording.state.recorders or not is_symbolic(x):
        return None
    found = sequences.find(step_function)
    if found is None:
        return None
    cell, weights = found
    states = [convert_to_tensor(state) for state in states]
    if not sequences.takes(x, states, weights):
        return None
    if go_backwards:
        x, mask = x[:, ::-1], mask if mask is None else mask[:, ::-1]
    if mask is None:
        return sequences.run(cell, x, states, weights)
    if mask.ndim != 2:
        return None
    before = zeros_like(states[0]) if unroll else states[0]
    outputs, states = sequences.run_masked(
        cell, x, states, weights, mask, before
    )
    if zero_output:
        outputs = _where(mask, outputs, 0)
    return outputs, states


def _previous_output(states):
    """The first state, by convention; of the last cell where they stack."""
    first = states[0]
    return states[-1][0] if tree.is_nested(first) else first


def _where(keep, new, old):
    """`new` where `keep`, of its first dims, else `old`."""
    added = tuple(range(keep.ndim, new.ndim))
    if added:
        keep = apply("Unsqueeze", keep, added)
    return where(keep, new, old)


def _unrolled(step, states, xs):
    steps = known_dim(tree.flatten(xs)[0], 0, "rnn")
    if not steps:
        raise ValueError("Unrolling requires a fixed number of timesteps.")
    outputs, output = [], 0
    for i in range(steps):
        x = tree.map_structure(lambda x: x[i], xs)
        states, output = step(states, x, output)
        outputs.append(output)
    return states, scans.stacked(outputs)


def cudnn_ok(*args, **kwargs):
    return False


def lstm(*args, **kwargs):
    """Not there: `rnn` finds the cell, and knows more of masks."""
    raise NotImplementedError


def gru(*args, **kwargs):
    """Not there: `rnn` finds the cell, and knows more of masks."""
    raise NotImplementedError


def bidirectional_lstm(*args, **kwargs):
    """Not there: the layers inside know their dtypes, subclasses and losses."""
    raise NotImplementedError


def bidirectional_gru(*args, **kwargs):
    """Not there: the layers inside know their dtypes, subclasses and losses."""
    raise NotImplementedError
