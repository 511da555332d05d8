import itertools

import jax
import numpy as np
import pytest
import scipy.special

from keras.src.backend.jax import nn as jax_nn
from keras.src.backend.openvino import nn
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import gradient_of
from keras.src.backend.openvino.testing import normal


def ctc_by_enumeration(log_probs, labels, blank):
    """Minus the log of the summed probability of all paths to `labels`."""
    steps, classes = log_probs.shape
    total = -np.inf
    for path in itertools.product(range(classes), repeat=steps):
        merged = [c for c, _ in itertools.groupby(path)]
        if [c for c in merged if c != blank] == list(labels):
            score = sum(log_probs[t, c] for t, c in enumerate(path))
            total = np.logaddexp(total, score)
    return -total


class TestCTC:
    logits = normal(5, 4, 3).astype("float32")
    log_probs = scipy.special.log_softmax(logits.astype("float64"), axis=-1)

    @pytest.mark.parametrize("blank", (0, 2))
    def test_loss(self, blank):
        one, two = [c for c in range(3) if c != blank]
        rows = [[one], [one, two], [one, one], [], [two, one, two]]
        lengths = np.array([4, 3, 4, 2, 3], "int32")
        target = np.full((5, 3), blank, "int32")
        for row, labels in zip(target, rows):
            row[: len(labels)] = labels
        target_length = np.array([len(r) for r in rows], "int32")
        expected = [
            ctc_by_enumeration(p[:n], labels, blank)
            for p, n, labels in zip(self.log_probs, lengths, rows)
        ]

        def op(target, logits, target_length, lengths):
            return nn.ctc_loss(target, logits, target_length, lengths, blank)

        for (result,) in both_ways(
            op, target, self.logits, target_length, lengths
        ):
            np.testing.assert_allclose(result, expected, rtol=1e-5)

    @pytest.mark.parametrize(
        "rows",
        [[[1, 50]], [[-1, 1]], [[50, 50]], [[50, 51]], [[2, -7]], [[1, 2]]],
    )
    def test_loss_of_labels_that_are_no_classes(self, rows):
        arguments = (
            np.array(rows, "int32"),
            self.logits[:1],
            np.array([2], "int32"),
            np.array([4], "int32"),
        )
        wanted = jax_nn.ctc_loss(*map(jax.numpy.asarray, arguments))
        for (result,) in both_ways(nn.ctc_loss, *arguments):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)
        labels, logits, *lengths = arguments
        wanted = jax.grad(
            lambda logits: jax_nn.ctc_loss(labels, logits, *lengths).sum()
        )(logits)
        derivative = gradient_of(
            lambda logits: nn.ctc_loss(labels, logits, *lengths)
        )
        for (result,) in both_ways(derivative, logits, dynamic=False):
            np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)

    def test_loss_of_labels_that_cannot_be_reached(self):
        one = np.array([[1, 2, 1, 2, 1, 2]], "int32")
        arguments = (
            one,
            self.logits[:1],
            np.array([6], "i4"),
            np.array([4], "i4"),
        )
        for (result,) in both_ways(nn.ctc_loss, *arguments):
            assert result.tolist() == [np.inf]

    @pytest.mark.parametrize("merge", (True, False))
    def test_greedy_decoding(self, merge):
        best = np.array([[1, 1, 0, 1, 2], [0, 0, 2, 2, 2]])
        inputs = np.eye(3, dtype="float32")[best]
        lengths = np.array([5, 4], "int32")

        def op(inputs, lengths):
            return nn.ctc_decode(inputs, lengths, merge_repeated=merge)

        labels = [[1, 1, 2, -1, -1], [2, -1, -1, -1, -1]]
        if not merge:
            labels = [[1, 1, 1, 2, -1], [2, 2, -1, -1, -1]]
        for paths, scores in both_ways(op, inputs, lengths):
            assert paths.tolist() == [labels]
            assert scores.tolist() == [[-5], [-4]]

    @pytest.mark.parametrize("blank", (0, 1, None))
    def test_beam_search_is_exact_with_a_wide_beam(self, blank):
        index = 2 if blank is None else blank
        lengths = np.array([4, 3, 4, 2, 4], "int32")
        sequences = [
            s
            for n in range(5)
            for s in itertools.product(range(3), repeat=n)
            if index not in s
        ]

        def op(inputs, lengths):
            return nn.ctc_decode(
                inputs,
                lengths,
                strategy="beam_search",
                beam_width=50,
                top_paths=2,
                mask_index=blank,
            )

        for paths, scores in both_ways(op, self.logits, lengths):
            assert paths.shape == (2, 5, 4)
            for i, length in enumerate(lengths):
                frames = self.log_probs[i, :length]
                ranked = sorted(
                    (ctc_by_enumeration(frames, s, index), s) for s in sequences
                )
                for k, (loss, labels) in enumerate(ranked[:2]):
                    found = [c for c in paths[k, i] if c != -1]
                    assert found == list(labels)
                    np.testing.assert_allclose(scores[i, k], -loss, rtol=1e-5)

    def test_unknown_strategy(self):
        with pytest.raises(ValueError, match="Invalid strategy"):
            nn.ctc_decode(self.logits, [4] * 5, strategy="best")
