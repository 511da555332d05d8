"""Connectionist temporal classification: the loss and the decoders.

The ops are `nn.ctc_loss` and `nn.ctc_decode`.
"""

import math

import numpy as np

from keras.src.backend.openvino import kernels
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.composite import composite
from keras.src.backend.openvino.gradient import replayed
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of


def _forward(logits, logit_length, labels, label_length, blank):
    """Minus the log probability of the labels, by the forward recursion.

    Its states are the labels with a blank before, between and after them. As
    on JAX, a label that is no class is certain in every step.
    """
    batch, steps, classes = logits.shape
    count = label_length.max(initial=0)
    labels = labels[:, :count]
    states = np.full((batch, 2 * count + 1), blank, np.int64)
    states[:, 1::2] = labels
    is_class = (states >= 0) & (states < classes)
    emitted = np.take_along_axis(
        kernels.log_softmax(logits, axis=2),
        np.where(is_class, states, 0)[:, None, :],
        axis=2,
    )
    emitted = np.where(is_class[:, None, :], emitted, 0)
    # A blank between two different labels may be left out.
    skips = np.zeros(states.shape, bool)
    skips[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    alpha = np.full(states.shape, -np.inf, logits.dtype)
    alpha[:, 0] = 0
    for step in range(steps):
        before = _shifted(alpha, 1)
        skipped = np.where(skips, _shifted(alpha, 2), -np.inf)
        total = np.logaddexp(np.logaddexp(alpha, before), skipped)
        running = (step < logit_length)[:, None]
        alpha = np.where(running, total + emitted[:, step], alpha)
    last = 2 * label_length.astype(np.int64)[:, None]
    ends = np.take_along_axis(alpha, np.maximum(last - [0, 1], 0), axis=1)
    with_label = np.where(last[:, 0] > 0, ends[:, 1], -np.inf)
    return -np.logaddexp(ends[:, 0], with_label)


def _shifted(alpha, by):
    """The states `by` places before each."""
    start = np.full((len(alpha), by), -np.inf, alpha.dtype)
    return np.concatenate([start, alpha], axis=1)[:, : alpha.shape[1]]


# The logarithm of no probability; infinity less infinity would be NaN.
_IMPOSSIBLE = -1e30


@replayed
def _step_by_step(logits, logit_length, labels, label_length, blank):
    """As `_forward`, of ops that have derivatives."""
    steps, classes = (known_dim(logits, i, "ctc_loss") for i in (1, 2))
    count = known_dim(labels, 1, "ctc_loss")
    blanks = numpy.full_like(labels, blank)
    pairs = numpy.stack([blanks, labels], axis=-1)
    pairs = numpy.reshape(pairs, (-1, 2 * count))
    states = numpy.pad(pairs, ((0, 0), (0, 1)), constant_values=blank)
    log_probs = apply("LogSoftmax", logits, axis=2)
    states = numpy.repeat(numpy.expand_dims(states, 1), steps, axis=1)
    index = numpy.clip(states, 0, classes - 1)
    emitted = numpy.take_along_axis(log_probs, index, axis=2)
    emitted = numpy.where(states == index, emitted, 0.0)
    repeated = numpy.pad(labels[:, 1:] == labels[:, :-1], ((0, 0), (1, 0)))
    pairs = numpy.stack([numpy.zeros_like(repeated), ~repeated], axis=-1)
    skips = numpy.pad(numpy.reshape(pairs, (-1, 2 * count)), ((0, 0), (0, 1)))
    alpha = numpy.where(numpy.arange(2 * count + 1) == 0, 0.0, _IMPOSSIBLE)
    alpha = numpy.zeros_like(emitted[:, 0]) + alpha
    for step in range(steps):
        total = numpy.logaddexp(alpha, _moved(alpha, 1))
        skipped = numpy.where(skips, _moved(alpha, 2), _IMPOSSIBLE)
        total = numpy.logaddexp(total, skipped) + emitted[:, step]
        running = numpy.expand_dims(logit_length > step, 1)
        alpha = numpy.where(running, total, alpha)
    last = 2 * numpy.expand_dims(label_length, 1)
    before = numpy.maximum(last - 1, 0)
    end = numpy.take_along_axis(alpha, last, axis=1)
    with_label = numpy.take_along_axis(alpha, before, axis=1)
    with_label = numpy.where(last > 0, with_label, _IMPOSSIBLE)
    return -numpy.squeeze(numpy.logaddexp(end, with_label), 1)


def _moved(alpha, by):
    widths = ((0, 0), (by, 0))
    padded = numpy.pad(alpha, widths, constant_values=_IMPOSSIBLE)
    return padded[:, :-by]


@composite("CTCForward", _forward, gradient=_step_by_step)
def loss(logits, logit_length, labels, label_length, blank):
    """Minus the log probability of the labels, for each sample."""
    steps = dims_of(logits)[1]
    logit_length = numpy.minimum(logit_length, steps)
    log_probs = apply("LogSoftmax", logits, axis=2)
    logits, labels, excess = _with_certain_classes(log_probs, labels)
    # OpenVINO's node wants as many labels as steps; the CPU plugin crashes
    # where a length is 0, and refuses labels that cannot be reached.
    labels = apply(
        "Pad",
        labels,
        (0, 0),
        [0, steps - dims_of(labels)[1]],
        convert_to_tensor(0, "int32"),
        pad_mode="constant",
    )
    node_length = numpy.maximum(logit_length, 1)
    result = apply(
        "CTCLoss",
        logits,
        node_length,
        labels,
        numpy.clip(label_length, 1, node_length),
        blank,
        preprocess_collapse_repeated=False,
        ctc_merge_repeated=True,
        unique=False,
    )
    result = result - excess * cast(logit_length, result.dtype)
    blanks = apply("Gather", log_probs, blank, 2)
    step = numpy.arange(steps, dtype="int32")
    running = step < numpy.expand_dims(logit_length, 1)
    all_blank = -numpy.sum(numpy.where(running, blanks, 0.0), axis=1)
    result = numpy.where(label_length == 0, all_blank, result)
    return numpy.where(label_length > logit_length, math.inf, result)


def _with_certain_classes(log_probs, labels):
    """Logits and labels that are classes, for OpenVINO's node.

    Labels that are no classes become two that are added, in turns, so that
    different ones remain different from their neighbours. These are as probable
    as all others together, three times as much as the node takes in total; they
    are impossible where they are not needed.

    Returns:
        The logits, the labels, and by how much the loss of each step is too
        large.
    """
    batch, steps, classes = dims_of(log_probs)
    is_class = numpy.logical_and(labels >= 0, labels < classes)
    changes = numpy.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (1, 0)))
    turn = numpy.cumsum(cast(changes, "int32"), axis=1) % 2
    labels = numpy.where(is_class, labels, classes + turn)
    is_needed = numpy.logical_not(numpy.all(is_class))
    added = numpy.where(is_needed, 0.0, _IMPOSSIBLE)
    added = numpy.broadcast_to(added, (batch, steps, 2))
    logits = numpy.concatenate([log_probs, cast(added, log_probs.dtype)], 2)
    return logits, labels, numpy.where(is_needed, math.log(3), 0.0)


def greedy_decode(inputs, sequence_lengths, merge_repeated, mask_index):
    """The most probable class of each step, without blanks, and its score."""
    steps = dims_of(inputs)[1]
    step = numpy.arange(steps, dtype="int32")[None, :]
    ended = step >= sequence_lengths[:, None]
    labels = numpy.argmax(inputs, axis=-1)
    labels = numpy.where(ended, mask_index, labels)
    scores = numpy.where(ended, 0.0, numpy.max(inputs, axis=-1))
    blank = labels == mask_index
    if merge_repeated:
        repeated = labels[:, 1:] == labels[:, :-1]
        repeated = numpy.pad(repeated, ((0, 0), (1, 0)))
        blank = numpy.logical_or(blank, repeated)
    # The labels first, in their order, then as many -1 as there are blanks.
    order = numpy.argsort(numpy.where(blank, steps, step), axis=-1)
    labels = numpy.where(blank, -1, labels)
    labels = numpy.take_along_axis(labels, order, axis=-1)
    return labels[None], -numpy.sum(scores, axis=1, keepdims=True)


def _beam_search_kernel(log_probs, lengths, blank, beam_width, top_paths):
    """The kernel of beam search: paths and scores of the best `top_paths`."""
    batch, steps, classes = log_probs.shape
    paths = np.full((top_paths, batch, steps), -1, np.int32)
    scores = np.full((batch, top_paths), -np.inf, log_probs.dtype)
    with np.errstate(all="ignore"):
        for i, length in enumerate(lengths):
            frames = log_probs[i, :length]
            best, score = _prefix_search(frames, int(blank), beam_width)
            best, score = best[:top_paths], score[:top_paths]
            labels = np.where(best == classes, -1, best)
            paths[: len(best), i, : len(frames)] = labels
            scores[i, : len(best)] = score
    return paths, scores


def _prefix_search(frames, blank, beam_width):
    """The prefixes that are most probable after all frames, best first.

    A prefix is a row of classes, filled up with the number of classes, which
    sorts last: of two that are equally probable the smaller one is preferred.
    Its probability has two parts: of the alignments that end with its last
    label (`open`, which the same label prolongs) and of those that end with a
    blank (`closed`).
    """
    steps, classes = frames.shape
    prefixes = np.full((1, steps), classes)
    sizes = np.array([0])
    open, closed = np.array([-np.inf]), np.array([0.0])
    for frame in frames:
        every = np.arange(len(prefixes))
        last = np.where(sizes > 0, prefixes[every, sizes - 1], blank)
        both = np.logaddexp(open, closed)
        longer_scores = both[:, None] + frame
        longer_scores[every, last] = closed + frame[last]
        longer_scores[:, blank] = -np.inf
        longer = np.repeat(prefixes, classes, axis=0)
        ends = np.repeat(sizes, classes)
        longer[np.arange(len(longer)), ends] = np.tile(
            np.arange(classes), len(prefixes)
        )
        candidates = np.concatenate([prefixes, longer])
        never = np.full(len(longer), -np.inf)
        prefixes, inverse = np.unique(candidates, axis=0, return_inverse=True)
        open, closed = (
            _log_sum_by(inverse.ravel(), len(prefixes), np.concatenate(parts))
            for parts in (
                (open + frame[last], longer_scores.ravel()),
                (both + frame[blank], never),
            )
        )
        best = np.argsort(-np.logaddexp(open, closed), kind="stable")
        best = best[:beam_width]
        prefixes, open, closed = prefixes[best], open[best], closed[best]
        sizes = np.sum(prefixes != classes, axis=1)
    return prefixes, np.logaddexp(open, closed)


def _log_sum_by(group, count, logs):
    """The logarithm of the sum of `exp(logs)` in each group."""
    total = np.full(count, -np.inf)
    np.logaddexp.at(total, group, logs)
    return total


def _beam_search_rule(log_probs, lengths, blank, beam_width, top_paths):
    dtype, (batch, steps, _) = log_probs
    return [("int32", (top_paths, batch, steps)), (dtype, (batch, top_paths))]


# Prefixes are told apart and merged in each step, which no graph can.
register("CTCBeamSearch", _beam_search_kernel, rule=_beam_search_rule)


def beam_search(log_probs, lengths, blank, beam_width, top_paths):
    """The most probable paths with their scores, best first."""
    return apply(
        "CTCBeamSearch",
        log_probs,
        lengths,
        blank,
        beam_width=beam_width,
        top_paths=top_paths,
    )
