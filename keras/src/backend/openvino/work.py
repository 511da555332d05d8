"""How much there is to compute in a node, counted in multiply-adds.

Node types that are not counted are as fast in NumPy as in a compiled model, or
faster: products (256x256: 290 us against 690, 2048x2048: 113 ms against 125)
and what goes element by element (`Log` of a million floats: 0.5 ms against
4.7).
"""

import math

# Cost, in multiply-adds, of gathering one number from a window or adding one to
# the result: 4 ns. 60,000 such numbers take 300 us, compiled 150 us, and
# compiling a convolution takes 30 ms.
_WINDOW = 64


def convolution(node):
    batch, filters, *places = node.outputs[0].shape
    taps = math.prod(node.specs[1].shape)
    gathered = taps // node.specs[1].shape[-len(places) - 2]
    return batch * math.prod(places) * (gathered * _WINDOW + taps)


def transposed_convolution(node):
    batch, _, *places = node.specs[0].shape
    channels, *taps = node.specs[1].shape
    return math.prod((batch, *places, *taps)) * (_WINDOW + channels)


def attention(node):
    query, key, value = (spec.shape for spec in node.specs[:3])
    logits = math.prod(query[:-1]) * key[-2]
    return logits * (query[-1] + value[-1])


def error_function(node):
    return 64 * math.prod(node.outputs[0].shape)
