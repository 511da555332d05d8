"""Derivatives of what is drawn, by where it lies and how far it spreads."""

from keras.src.backend.openvino.common import like
from keras.src.backend.openvino.derivatives.rules import rule
from keras.src.backend.openvino.derivatives.rules import unbroadcast
from keras.src.backend.openvino.errors import blaming
from keras.src.backend.openvino.numpy import where
from keras.src.backend.openvino.random import STRETCHED
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast


@rule("Random")
def _random(inputs, outputs, gradients, distribution, **attributes):
    if distribution not in STRETCHED:
        raise NotImplementedError(
            blaming(
                "what is drawn has a derivative by the operands of "
                f"{STRETCHED}. Received: a gradient of {distribution!r}"
            )
        )
    key, first, second, *dims = inputs
    # The same numbers again, of mean 0 and deviation 1, or between 0 and 1.
    standard = apply(
        "Random",
        key,
        like(0, first),
        like(1, second),
        *dims,
        distribution=distribution,
        **attributes,
    )
    (gradient,) = gradients
    if distribution == "uniform":
        # What is drawn is at least the lower bound, as with `maximum`.
        reaches = where(second == first, 0.5, where(second > first, 1, 0))
        by_second = gradient * standard * cast(reaches, second.dtype)
        by_first = gradient - by_second
    else:
        by_first, by_second = gradient, gradient * standard
    return [
        None,
        cast(unbroadcast(by_first, first), first.dtype),
        cast(unbroadcast(by_second, second), second.dtype),
        *[None] * len(dims),
    ]
