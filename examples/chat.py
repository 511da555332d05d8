"""A chat in the terminal with a language model of KerasHub, run by OpenVINO.

    python examples/chat.py PRESET [--length N] [--sampler NAME] [--turn TEXT]

PRESET is a folder that holds a causal language model and its tokenizer, as
`save_to_preset` writes it; KerasHub (`pip install keras-hub`) reads it. What is
typed is added to the conversation, and the model goes on with that, shown as it
comes. Ctrl-C ends an answer, and Ctrl-D or an empty line the chat.

A model that was tuned for chats wants turns in a form of its own, for Gemma
--turn "<start_of_turn>user\\n{}<end_of_turn>\\n<start_of_turn>model\\n".
"""

import os

os.environ.setdefault("KERAS_BACKEND", "openvino")

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

import keras_hub
import keras_vino

SAMPLERS = ("greedy", "random", "top_k", "top_p")


class Conversation:
    """What was said, as one text that a model goes on with.

    Args:
        model: a KerasHub `CausalLM` with a preprocessor.
        length: how many tokens it sees at most, those of its answer included.
        turn: what becomes of a text that is said, which stands for `{}`.
    """

    def __init__(self, model, length, turn="{}"):
        self._model = model
        self._length = length
        self._turn = turn
        self._turns = []

    def answer(self, said):
        """Gives the pieces of an answer as they come.

        What was said first is forgotten where less than half of the length
        would be left for the answer.

        Raises:
            ValueError: where what is said takes so much alone.
        """
        turns = [*self._turns, self._turn.replace("{}", said)]
        while self._count("".join(turns)) > self._length // 2:
            if len(turns) == 1:
                raise ValueError(
                    f"that is more than {self._length // 2} tokens; "
                    "say less, or set --length"
                )
            turns.pop(0)
        pieces = []
        stream = keras_vino.stream(
            self._model, "".join(turns), max_length=self._length
        )
        with contextlib.closing(stream):
            try:
                for piece in stream:
                    pieces.append(piece)
                    yield piece
            finally:
                self._turns = [*turns, "".join(pieces)]

    def _count(self, text):
        return np.size(self._model.preprocessor.tokenizer(text))


def load(preset, sampler):
    """The model in a folder.

    Raises:
        ValueError: where it holds no whole causal language model.
    """
    if not preset.is_dir():
        raise ValueError("there is no such folder")
    try:
        model = keras_hub.models.CausalLM.from_preset(str(preset.resolve()))
    except Exception as error:  # there is no end of what may be broken
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"not a preset of a causal language model: {reason}"
        ) from error
    if model.preprocessor is None:
        raise ValueError("the preset has no tokenizer")
    model.compile(sampler=sampler)
    return model


def show(console, pieces):
    """Prints an answer as it comes, and then how fast it came."""
    started, count = time.perf_counter(), 0
    # What is left of an answer that is interrupted is not wanted.
    with contextlib.closing(pieces), contextlib.suppress(KeyboardInterrupt):
        for count, piece in enumerate(pieces, 1):
            console.print(Text(piece), end="", soft_wrap=True)
    seconds = time.perf_counter() - started
    console.print(
        f"\n{count} steps in {seconds:.1f} s", style="dim", highlight=False
    )


def chat(console, conversation):
    while True:
        try:
            said = console.input("[bold]> [/bold]").strip()
        except (EOFError, KeyboardInterrupt):
            said = ""
        if not said:
            return
        try:
            show(console, conversation.answer(said))
        except ValueError as error:
            console.print(Text(str(error).splitlines()[0], style="red"))


def main():
    parser = argparse.ArgumentParser(
        description="A chat in the terminal with a language model of KerasHub."
    )
    parser.add_argument("preset", type=Path, help="a folder")
    parser.add_argument(
        "--length",
        type=int,
        default=256,
        help="how many tokens the model sees at most (by default %(default)s)",
    )
    parser.add_argument("--sampler", choices=SAMPLERS, default="top_p")
    parser.add_argument(
        "--turn",
        default="{}\n",
        type=lambda text: text.replace("\\n", "\n"),
        help="what becomes of what you say, {}",
    )
    arguments = parser.parse_args()
    if arguments.length < 2:
        parser.error("--length must be 2 or more")
    if "{}" not in arguments.turn:
        parser.error("--turn must have a {}")
    try:
        model = load(arguments.preset, arguments.sampler)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {arguments.preset}: {error}\n")
    chat(Console(), Conversation(model, arguments.length, arguments.turn))


if __name__ == "__main__":
    main()
