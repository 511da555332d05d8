"""What language models generate, handed out as it comes."""

import contextlib
import queue
import threading
import typing

import numpy as np

from keras.src.backend.openvino import settings
from keras.src.backend.openvino import stages


def stream(model, inputs, **kwargs):
    """Generates with a KerasHub task, and gives what each step adds.

    Tokens come one by one where `generate` takes the model of a token again and
    again, as KerasHub's decoders of text do with most samplers; of beam and
    contrastive search, and of other tasks, all comes at the end. Who closes
    the iterator, or leaves it, ends the generation after the step at work.

    Args:
        model: a KerasHub task.
        inputs: a batch of what `model.generate` takes: with a preprocessor a
            string or a list of them, or a dict of such for an encoder and a
            decoder; without one a dict of arrays.
        **kwargs: its other arguments, but `strip_prompt`.

    Yields:
        With a preprocessor, the text that follows: a string, or a list of one
        for each prompt. `""` stands for what is no whole character yet, and
        for prompts that have ended. Without one, the tokens of a position
        behind the shortest prompt: an array (batch,) of integers. What comes
        at the end alone is all that `generate` returns, prompts included.
    """
    if "strip_prompt" in kwargs:
        raise TypeError(
            "`stream` gives what follows the prompt, and takes no "
            "`strip_prompt`."
        )
    if model.preprocessor is None:
        pieces = _Tokens()
    else:
        pieces = _Texts(model.preprocessor, inputs, **kwargs)
    generation = _Generation(model, inputs, kwargs)
    try:
        for step in generation.steps():
            yield pieces.of(step)
        yield from pieces.rest(generation.result)
    finally:
        generation.stop()


class _Step(typing.NamedTuple):
    """The sequences after a step.

    Attributes:
        tokens: an array (batch, length) of integers.
        is_prompt: an array like it of bool.
        count: how many positions are there.
    """

    tokens: np.ndarray
    is_prompt: np.ndarray
    count: int


class _Stopped(BaseException):
    """Nobody asks for more."""


class _Generation:
    """A call of `generate` in a thread of its own.

    Attributes:
        result: what it returned, once there are no more steps.
    """

    # More than the consumer needs to be ahead of the model.
    MAX_AHEAD = 64

    def __init__(self, model, inputs, kwargs):
        self.result = None
        self._queue = queue.Queue(self.MAX_AHEAD)
        self._is_stopped = threading.Event()
        scope = settings.scope_of(
            settings.get_device(), settings.get_properties()
        )

        def run():
            with contextlib.suppress(_Stopped):
                try:
                    with scope, stages.heard_by(self._hear):
                        self.result = model.generate(inputs, **kwargs)
                    self._put(None)
                except BaseException as error:
                    self._put(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def steps(self):
        """Each `_Step`; raises what `generate` raises."""
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self):
        """Ends it, and waits for the step that is at work."""
        self._is_stopped.set()
        self._thread.join()

    def _hear(self, values):
        # What KerasHub's samplers hand on: tokens, caches and what else a
        # model keeps, a count and whose tokens are the prompt's. Of others
        # nothing is heard.
        shapes = [x.shape for x in values]
        pairs = list(zip(shapes, shapes[1:]))
        wanted = ((), *shapes[:1])
        if wanted not in pairs[1:]:
            return
        place = pairs.index(wanted, 1)
        tokens, count, is_prompt = values[0], *values[place : place + 2]
        self._put(_Step(tokens.copy(), is_prompt.astype(bool), int(count)))

    def _put(self, item):
        while not self._is_stopped.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Stopped


class _Tokens:
    """The tokens of each position behind the shortest prompt."""

    def __init__(self):
        self._count = 0  # the positions that are there

    def of(self, step):
        self._count = step.count
        return step.tokens[:, step.count - 1]

    def rest(self, result):
        kind = "" if "token_ids" in result else "decoder_"
        tokens = np.asarray(result[f"{kind}token_ids"])
        if not self._count:
            yield tokens
            return
        # A step that fails is computed anew with all others, in one model.
        is_there = np.asarray(result[f"{kind}padding_mask"]).any(axis=0)
        for position in np.flatnonzero(is_there):
            if position >= self._count:
                yield tokens[:, position]


class _Texts:
    """The text that follows each prompt.

    Args:
        preprocessor: the task's.
        inputs: a string, or a list of them, or a dict of such.
        stop_token_ids: as `generate` takes them; other arguments are ignored.
    """

    def __init__(self, preprocessor, inputs, stop_token_ids="auto", **_):
        self._preprocessor = preprocessor
        texts = inputs.values() if isinstance(inputs, dict) else [inputs]
        self._is_single = all(isinstance(text, str) for text in texts)
        if isinstance(stop_token_ids, str):
            tokenizer = preprocessor.tokenizer
            names = ("end_token_id", "end_token2_id")
            stop_token_ids = [getattr(tokenizer, name, None) for name in names]
        self._stops = [i for i in stop_token_ids or () if i is not None]
        self._shown = None

    def of(self, step):
        if self._shown is None:
            self._shown = self._decoded(step.tokens, step.is_prompt)
        positions = np.arange(step.tokens.shape[1])
        is_new = (positions < step.count) & ~step.is_prompt
        is_stop = np.isin(step.tokens, self._stops) & is_new
        is_over = np.cumsum(is_stop, axis=1) > is_stop
        is_there = step.is_prompt | (is_new & ~is_over)
        texts = self._decoded(step.tokens, is_there)
        # Bytes that are no whole character yet are replaced by this one.
        whole = [text.rstrip("\ufffd") for text in texts]
        return self._added(whole)

    def rest(self, result):
        texts = [result] if self._is_single else list(result)
        if self._shown is None:
            yield texts[0] if self._is_single else texts
            return
        added = self._added(texts)
        if any(added):
            yield added

    def _decoded(self, tokens, is_there):
        x = {"token_ids": tokens, "padding_mask": is_there}
        # As it is behind an encoder.
        x |= {f"decoder_{key}": array for key, array in x.items()}
        return list(self._preprocessor.generate_postprocess(x))

    def _added(self, texts):
        """What texts have behind what was shown of them."""
        added = [text[len(old) :] for text, old in zip(texts, self._shown)]
        pairs = zip(texts, self._shown)
        self._shown = [max(text, old, key=len) for text, old in pairs]
        return added[0] if self._is_single else added
