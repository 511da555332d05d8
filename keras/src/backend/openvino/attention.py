"""Attention over the caches of a decoder as one node.

Layers write it as two products with a softmax between them. The CPU plugin
computes `ScaledDotProductAttention` without copying a cache that is a state of
the model, whose keys and values are (batch, positions, heads, width).
"""

import itertools
import typing

import numpy as np
import openvino as ov

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.dtypes import to_array

# The order of (batch, heads, positions, width) in a cache.
_HEADS_FIRST = [0, 2, 1, 3]


def fuse_attention(growths):
    """Rewrites the attention over caches that grow.

    Args:
        growths: a list of `caches.Growth`.
    """
    caches = {
        _name(growth.result): growth.result
        for growth in growths
        if len(growth.result.get_partial_shape()) == len(_HEADS_FIRST)
    }
    for keys in caches.values():
        for attention in list(_attentions(keys, caches)):
            rewriting.rewire(attention.output, attention.fused())
    for cache in caches.values():
        _take_shapes_before_repeating(cache)


class _Attention(typing.NamedTuple):
    """The nodes of an attention.

    Attributes:
        query: (batch, heads, queries, width), whatever it is multiplied by.
        keys, values: (batch, positions, heads, width).
        groups: how many heads share one of keys and values.
        scale: what the products are multiplied by.
        mask: the `_Mask` of the products, or `None`.
        is_masked: whether queries that look nowhere give 0.
        output: the node that gives (batch, heads, queries, width).
    """

    query: typing.Any
    keys: typing.Any
    values: typing.Any
    groups: int
    scale: float
    mask: typing.Any
    is_masked: bool
    output: typing.Any

    def fused(self):
        """What one node gives in its place."""
        query = _heads_first(_heads_last(self.query))
        keys = _heads_first(_repeated(self.keys, self.groups))
        values = _heads_first(_repeated(self.values, self.groups))
        scale = rewriting.constant_like(self.scale, query)
        result = graph.node(
            "ScaledDotProductAttention",
            [query, keys, values, self._bias(), scale],
            {"causal": False},
        ).output(0)
        if not self.is_masked:
            return result
        axis = rewriting.integer_constant([-1])
        looks = [self.mask.condition, axis]
        looks = graph.node("ReduceLogicalOr", looks, {"keep_dims": True})
        inputs = [looks.output(0), result, rewriting.constant_like(0, result)]
        return graph.node("Select", inputs, {}).output(0)

    def _bias(self):
        """What is added to the products.

        It is finite, so that queries that look nowhere look everywhere, as they
        do where they take so much for it. The plugin reads a number for each
        position, also where a mask has one for all.
        """
        if self.mask is None:
            return rewriting.constant_like(np.zeros((1, 1, 1, 1)), self.query)
        condition, value = self.mask
        zeros = [rewriting.constant_like(0, value), _positions(self.keys)]
        zeros = graph.node("Broadcast", zeros, {"mode": "numpy"}).output(0)
        inputs = [condition, zeros, value]
        return graph.node("Select", inputs, {}).output(0)


class _Mask(typing.NamedTuple):
    """What takes the place of some products.

    Attributes:
        condition: true where a query looks.
        value: the `openvino.Output` of a Constant far below the others.
    """

    condition: typing.Any
    value: typing.Any


def _attentions(keys, caches):
    """The attentions over a cache of keys, in the nodes behind it."""
    for own, groups in _with_groups(keys):
        for node in rewriting.takers(own, "Transpose"):
            if rewriting.integers(node.input_value(1)) != [0, 2, 3, 1]:
                continue
            for product in rewriting.takers(node.output(0), "MatMul"):
                found = _attention(product, keys, groups, caches)
                if found is not None:
                    yield found


def _take_shapes_before_repeating(cache):
    """Leaves the attention alone with a cache that is repeated for it."""
    for node in _repeats(cache):
        groups = _groups(node, cache)
        for shape in (
            rewriting.takers(node.output(0), "ShapeOf") if groups else ()
        ):
            own = rewriting.node_like(shape, [cache])
            times = rewriting.constant_like([1, 1, groups, 1], own)
            rewriting.rewire(
                shape, graph.node("Multiply", [own, times], {}).output(0)
            )


def _with_groups(cache):
    """Pairs of what a cache is, or is repeated to for heads, and how often."""
    yield cache, 1
    for node in _repeats(cache):
        groups = _groups(node, cache)
        if groups:
            yield node.output(0), groups


def _repeats(cache):
    """The nodes behind a cache that may repeat its heads."""
    return rewriting.takers(cache, "Gather") + rewriting.takers(cache, "Tile")


def _groups(node, cache):
    """How often a Gather or a Tile repeats each head of a cache, or 0."""
    heads = cache.get_partial_shape()[2]
    indices = rewriting.integers(node.input_value(1))
    if heads.is_dynamic or not indices:
        return 0
    heads = heads.get_length()
    if node.get_type_name() == "Tile":
        is_repeat = heads == 1 and indices[:2] + indices[3:] == [1, 1, 1]
        return indices[2] if is_repeat else 0
    if rewriting.integers(node.input_value(2)) != [2]:
        return 0
    groups = len(indices) // heads
    is_repeat = indices == list(np.repeat(np.arange(heads), groups))
    return groups if is_repeat else 0


def _attention(product, keys, groups, caches):
    """The `_Attention` of the product of queries and keys, or `None`."""
    if (
        not _is_plain(product)
        or product.get_output_element_type(0) not in _FLOATS
    ):
        return None
    factor, query = _unscaled(product.input_value(0))
    scale, scores = _scaled(product)
    mask, scores = _masked(scores)
    weights = _only_taker(scores, "Softmax")
    rank = len(product.get_output_partial_shape(0))
    if weights is None or weights.get_attributes()["axis"] not in (
        -1,
        rank - 1,
    ):
        return None
    output, is_masked = _only_taker(weights, "MatMul"), False
    if output is None and mask is not None:
        weights, is_masked = _masked_again(weights, mask), True
        output = weights and _only_taker(weights, "MatMul")
    if output is None or not _is_plain(output):
        return None
    values = _values(output.input_value(1), groups, caches)
    if values is None or _name(output.input_value(0)) != weights.get_name():
        return None
    return _Attention(
        query, keys, values, groups, scale * factor, mask, is_masked, output
    )


def _is_plain(product):
    flags = product.get_attributes()
    return not (flags["transpose_a"] or flags["transpose_b"])


def _unscaled(query):
    """The factor of a query, and the query before it is multiplied.

    A factor left there would become one of the product that gives the query,
    which the CPU plugin computes faster alone.
    """
    node = query.get_node()
    if node.get_type_name() == "Transpose":
        factor, x = _unscaled(node.input_value(0))
        return factor, rewriting.node_like(node, [x, node.input_value(1)])
    if node.get_type_name() == "Multiply":
        for x, other in itertools.permutations(node.input_values()):
            factor = _number(x)
            if factor is not None:
                return factor, other
    return 1.0, query


def _scaled(scores):
    """The factor of scores, and the node that gives them multiplied."""
    node = _only_taker(scores, "Multiply")
    for x in node.input_values() if node else ():
        factor = _number(x)
        if factor is not None:
            return factor, node
    return 1.0, scores


def _number(output):
    """The value of a Constant of one number, or `None`."""
    array = _array(output)
    is_one = array is not None and array.size == 1
    return float(array.ravel()[0]) if is_one else None


def _array(output):
    """The values of a Constant, or `None`."""
    constant = rewriting.constant_of(output)
    if constant is None:
        return None
    return to_array(constant.get_tensor_view())


def _masked(scores):
    """The mask of scores, and the node that gives them masked."""
    node = _only_taker(scores, "Select")
    if node is None or _name(node.input_value(1)) != scores.get_name():
        return None, scores
    array = _array(node.input_value(2))
    # Of what is so far below the others nothing is left.
    if array is None or not np.all(array <= -9e8):
        return None, scores
    return _Mask(node.input_value(0), node.input_value(2)), node


def _masked_again(weights, mask):
    """The node that makes 0 of masked weights, or `None`."""
    node = _only_taker(weights, "Select")
    if node is None or _port(node.input_value(0)) != _port(mask.condition):
        return None
    array = _array(node.input_value(2))
    is_zero = array is not None and not np.any(array)
    return node if is_zero else None


def _values(output, groups, caches):
    """The cache that values come from, or `None`."""
    node = output.get_node()
    if node.get_type_name() != "Transpose":
        return None
    if rewriting.integers(node.input_value(1)) != _HEADS_FIRST:
        return None
    source = node.input_value(0)
    if _name(source) in caches:
        return caches[_name(source)] if groups == 1 else None
    repeat = source.get_node()
    if repeat.get_type_name() not in ("Gather", "Tile"):
        return None
    cache = caches.get(_name(repeat.input_value(0)))
    is_alike = cache is not None and _groups(repeat, cache) == groups
    return cache if is_alike else None


def _positions(cache):
    """How many positions a cache has, as an output of one number."""
    shape = graph.node("ShapeOf", [cache], {"output_type": "i32"}).output(0)
    first, axis = rewriting.integer_constant([1]), rewriting.integer_constant(0)
    return graph.node("Gather", [shape, first, axis], {}).output(0)


def _repeated(cache, groups):
    """A cache with each head `groups` times, as the plugin knows it."""
    if groups == 1:
        return cache
    _, _, heads, width = cache.get_partial_shape()
    heads, width = heads.get_length(), width.get_length()
    axis = rewriting.integer_constant([3])
    rows = graph.node("Unsqueeze", [cache, axis], {}).output(0)
    shape = rewriting.integer_constant([1, 1, 1, groups, 1])
    mode = {"mode": "bidirectional"}
    rows = graph.node("Broadcast", [rows, shape], mode).output(0)
    shape = rewriting.integer_constant([0, 0, heads * groups, width])
    return graph.node("Reshape", [rows, shape], {"special_zero": True}).output(
        0
    )


def _heads_first(x):
    return rewriting.transposed(x, _HEADS_FIRST)


def _heads_last(x):
    node = x.get_node()
    is_transpose = node.get_type_name() == "Transpose"
    if is_transpose and rewriting.integers(node.input_value(1)) == _HEADS_FIRST:
        return node.input_value(0)
    return _heads_first(x)


def _only_taker(node, type):
    """The node of a type that alone takes what a node gives, or `None`."""
    targets = list(node.output(0).get_target_inputs())
    taker = targets[0].get_node() if len(targets) == 1 else None
    return taker if taker and taker.get_type_name() == type else None


def _name(output):
    return output.get_node().get_name()


def _port(output):
    return _name(output), output.get_index()


_FLOATS = (ov.Type.f32, ov.Type.bf16)
