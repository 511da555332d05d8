"""Keeps the runtime from changes to a model that change its numbers.

OpenVINO 2026.4 moves and fuses nodes where that is not right, or makes floats
of weights that are stored in few bits, see `packed`. Each function
here puts a node in other words, which OpenVINO leaves as they are.
"""

import itertools
import typing

import numpy as np
import openvino as ov

from keras.src.backend.openvino import graph
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.dtypes import to_array


def prevent_fusions(model):
    """Rewrites the nodes of an `openvino.Model` that would not be kept."""
    models = [model, *rewriting.bodies(model)]
    _keep_weights_apart(models)
    _keep_slices(models)
    _keep_constants_apart(models)
    _keep_from_columns(models)
    for node in _nodes(models):
        rule = _RULES.get(node.get_type_name())
        result = rule and rule(node, *node.input_values())
        if result:
            rewriting.rewire(node, result)


# What the CPU plugin computes as a part of the product before it.
_ACTIVATIONS = (
    "Clamp",
    "Elu",
    "Gelu",
    "HSigmoid",
    "HSwish",
    "Mish",
    "Relu",
    "Sigmoid",
    "SoftPlus",
    "Swish",
    "Tanh",
)


def keep_activations_apart(outputs):
    """Keeps activations out of the products of floats before them.

    A product alone the CPU plugin computes with MLAS, which of few rows takes
    0.6 of the time. Over nodes that move values it brings most activations to
    the product again, but not over those that split them.

    Args:
        outputs: a list of the `openvino.Output` of the results of a graph.
    """
    for node in list(rewriting.ancestors(outputs).values()):
        if node.get_type_name() in _ACTIVATIONS and _is_behind_product(node):
            x, *others = node.input_values()
            halves = graph.node(
                "Split",
                [x, rewriting.integer_constant(-1)],
                {"num_splits": 2},
            )
            halves = [
                rewriting.node_like(node, [half, *others])
                for half in halves.outputs()
            ]
            joined = graph.node("Concat", halves, {"axis": -1})
            rewriting.rewire(node, joined.output(0))


def _is_behind_product(node):
    """Whether it takes a product with float32 weights, of an even width."""
    x = node.input_value(0)
    shape = x.get_partial_shape()
    if shape.rank.is_dynamic or not len(shape) or shape[-1].is_dynamic:
        return False
    if x.get_node().get_type_name() == "Add":
        pairs = itertools.permutations(x.get_node().input_values())
        terms = [x for x, bias in pairs if _is_constant(bias)]
        x = terms[0] if terms else x
    product = x.get_node()
    if product.get_type_name() != "MatMul" or shape[-1].get_length() % 2:
        return False
    weights = product.input_value(1)
    return _is_constant(weights) and weights.get_element_type() == ov.Type.f32


def _is_constant(output):
    return output.get_node().get_type_name() == "Constant"


def _nodes(models):
    return itertools.chain(*(model.get_ordered_ops() for model in models))


def _keep_weights_apart(models):
    """Duplicates a constant that is used both plain and transposed.

    The CPU plugin keeps what it made of weights, in an order that is good for
    a product or a convolution, for all that use the same memory and have the
    same shape: also for a product with the transposed matrix.
    """
    first = {}
    for model in models:
        own = {}
        for node in model.get_ordered_ops():
            for port in node.inputs()[:2] if _is_product(node) else ():
                source = port.get_source_output()
                weights = rewriting.constant_of(source)
                if weights is None or not _has_other_order(weights):
                    continue
                key = rewriting.address(weights)
                layout = _layout_of_weights(node, port)
                if first.setdefault(key, layout) == layout:
                    continue
                if (key, layout) not in own:
                    own[key, layout] = rewriting.with_own_constant(source)
                port.replace_source_output(own[key, layout])


def _is_product(node):
    type = node.get_type_name()
    return type == "MatMul" or "Convolution" in type


def _layout_of_weights(node, port):
    """How a product wants the weights at a port."""
    type, index = node.get_type_name(), port.get_index()
    if type == "MatMul":
        flag = ("transpose_a", "transpose_b")[index]
        return type, index, node.get_attributes()[flag]
    return type, index


def _has_other_order(constant):
    dims = [dim for dim in constant.get_output_shape(0) if dim > 1]
    return len(dims) > len(set(dims))


def _keep_slices(models):
    """Lets slices start before 0, which means at 0, beside `GatherElements`.

    OpenVINO would leave out a slice that starts at 0 where `GatherElements`
    takes from it, or from what becomes the same: negative indices would count
    from the end of the whole, and its other dims be too long.
    """
    types = {node.get_type_name() for node in _nodes(models)}
    if not types >= {"Slice", "GatherElements"}:
        return
    for node in _nodes(models):
        if node.get_type_name() != "Slice":
            continue
        start, _, step = map(rewriting.integers, node.input_values()[1:4])
        if start and step and not any(start) and set(step) == {1}:
            before = [np.iinfo(np.int32).min] * len(start)
            port = node.input(1)
            port.replace_source_output(rewriting.integer_constant(before))


class _Chain(typing.NamedTuple):
    """What sums and products with constants make: `scale * x + offset`.

    Attributes:
        scale, offset: arrays of float64.
        weights: where `x` is a product or a convolution, those of its inputs
            that are constants, as `openvino.Output`s.
    """

    scale: np.ndarray = np.float64(1)
    offset: np.ndarray = np.float64(0)
    weights: tuple = ()

    def then(self, step):
        """The chain with one more `_Step`."""
        scale, offset, weights = self
        value = step.constant.astype("float64")
        if step.type == "Multiply":
            return _Chain(scale * value, offset * value, weights)
        if step.type == "Divide":
            return _Chain(scale / value, offset / value, weights)
        if step.type == "Add":
            return _Chain(scale, offset + value, weights)
        sign = -1 if step.is_reflected else 1
        return _Chain(sign * scale, sign * (offset - value), weights)


class _Step(typing.NamedTuple):
    """A sum or product with a constant.

    Attributes:
        type: `"Add"`, `"Subtract"`, `"Multiply"` or `"Divide"`.
        port: the `openvino.Input` that takes what is no constant, as it was
            before it was moved.
        constant: an array, which may share the memory of weights.
        is_reflected: whether the constant is the first operand.
    """

    type: str
    port: typing.Any
    constant: np.ndarray
    is_reflected: bool


def _keep_constants_apart(models):
    """Rounds between sums and products whose constants undo each other.

    OpenVINO makes one of several in a row, so that `x + 1e8 - 1e8` would be
    `x`, and `x * 1e20 * 1e20` of 0 be NaN, also where reshapes and the like
    that it leaves out are between them. Factors behind a product of matrices
    or a convolution it multiplies with the weights. Those that lose nothing by
    it, as biases and normalizations, are left to it.
    """
    chains = {}  # by the name of the node at the end
    for node in _nodes(models):
        step = _step(node)
        if step is None:
            if _is_product(node):
                chains[node.get_name()] = _Chain(weights=_weights(node))
            continue
        before = step.port.get_source_output().get_node()
        chain = chains.get(before.get_name(), _Chain())
        with np.errstate(all="ignore"):
            chain, longer = _joined(chain, step)
            if _gives_other_numbers(step, chain, longer):
                step.port.replace_source_output(_rounded(before))
                longer = _Chain().then(step)
        chains[node.get_name()] = longer


def _step(node):
    """The `_Step` of a node, or `None` for others."""
    type = node.get_type_name()
    if type not in _STEPS or not node.get_element_type().is_real():
        return None
    if type == "Negative":
        port = _before(node.input(0), _MOVES)
        return _Step("Multiply", port, np.float64(-1), False)
    constants = list(map(_constant, node.inputs()))
    is_reflected = constants[0] is not None
    has_two = is_reflected and constants[1] is not None
    if not any(constants) or has_two or (is_reflected and type == "Divide"):
        return None
    port = _before(node.input(int(is_reflected)), _MOVES)
    constant = constants[not is_reflected]
    value = to_array(constant.get_tensor_view())
    return _Step(type, port, value, is_reflected)


_STEPS = ("Add", "Divide", "Multiply", "Negative", "Subtract")

# What OpenVINO leaves out where it changes nothing.
_MOVES = (
    "Broadcast",
    "Gather",
    "Pad",
    "Reshape",
    "Slice",
    "Squeeze",
    "StridedSlice",
    "Tile",
    "Transpose",
    "Unsqueeze",
)


def _before(port, types):
    """The input that takes what nodes of some types hand on to a port."""
    node = port.get_source_output().get_node()
    while node.get_type_name() in types:
        port = node.input(0)
        node = port.get_source_output().get_node()
    return port


def _constant(port):
    source = _before(port, ("Broadcast",)).get_source_output()
    return rewriting.constant_of(source)


def _joined(chain, step):
    """A `_Chain` that a step continues, and the chain with it."""
    try:
        return chain, chain.then(step)
    except ValueError:  # moved to other places, it is not joined
        chain = _Chain(weights=chain.weights)
        return chain, chain.then(step)


def _gives_other_numbers(step, chain, longer):
    """Whether a step that is joined with those before gives other numbers.

    Args:
        step: a `_Step`.
        chain, longer: the `_Chain` before and with it.
    """
    if step.type in ("Add", "Subtract"):
        return _is_cancelled(chain, longer)
    largest, smallest = _FLOAT32.max, _FLOAT32.tiny
    before, after = np.abs(chain.scale), np.abs(longer.scale)
    is_lost = (after != 0) & ((after > largest) | (after < smallest))
    return (
        np.any(is_lost & (before != 1))
        or np.any((before > 2.0**64) & (after < np.sqrt(before)))
        or np.any((before < 2.0**-64) & (after > np.sqrt(before)))
        or np.any(np.abs(longer.offset) > largest)
        or (longer.weights and _spoils_weights(after, longer.weights))
    )


_FLOAT32 = np.finfo(np.float32)


def _is_cancelled(chain, longer):
    """Whether a sum takes away what was added before, and rounded numbers.

    Biases and means of some of many channels nearly cancel by chance. That is
    a reason to keep them apart only where nothing remains, or where numbers
    about 1 lost 6 bits to the first sum.
    """
    before, after = np.abs(chain.offset), np.abs(longer.offset)
    remaining = np.maximum(after, np.abs(longer.scale))
    return (
        np.all(after < before / 16)
        or np.any(after < before * 2.0**-20)
        or np.any(remaining < before / 64)
    )


def _spoils_weights(scale, weights):
    """Whether weights times a scale are beyond what float32 holds.

    Args:
        scale: an array of float64, not negative.
        weights: a sequence of `openvino.Output`s.
    """
    scale = scale[scale != 0]
    if (scale == 1).all():
        return False
    low, high = scale.min(), scale.max()
    ranges = [(1, 1), *map(_range, weights)]
    is_held = all(
        _FLOAT32.tiny <= low * smallest and high * largest <= _FLOAT32.max
        for smallest, largest in ranges
    )
    return not is_held  # with a NaN too


def _weights(node):
    """The inputs of a product or a convolution that are constants."""
    sources = [
        _before(port, ("Reshape", "Transpose")).get_source_output()
        for port in node.inputs()[:2]
    ]
    return tuple(
        source
        for source in sources
        if rewriting.constant_of(source) or _has_few_bits(source)
    )


def _range(weights):
    """The least absolute value of weights that counts, and the greatest."""
    if _has_few_bits(weights):
        smallest, largest = _range(weights.get_node().input_value(1))
        return smallest, largest * 256
    constant = rewriting.constant_of(weights)
    values = to_array(constant.get_tensor_view()).reshape(-1)
    # Parts that stay in the processor's cache: that is twice as fast.
    parts = np.array_split(values, values.size // 2**15 + 1)
    smallest, largest = zip(*map(_range_of_values, parts))
    return min(smallest), max(largest)


def _range_of_values(values):
    values = np.abs(values.astype("float32", copy=False))
    if not values.min(initial=np.inf) >= _FLOAT32.tiny:
        # The others are zeros in compiled models.
        values = values[values >= _FLOAT32.tiny]
    return values.min(initial=np.inf), values.max(initial=0)


def _rounded(node):
    """What a node gives, which OpenVINO fuses with nothing behind it.

    Halves, which are computed in float32, are rounded, but for products.
    """
    x = node.output(0)
    if graph.is_half(x) and not _is_product(node):
        return graph.built_in_float32(
            node.get_type_name(), node.input_values(), {}, x.element_type
        ).output(0)
    return graph.node("Maximum", [x, x], {}).output(0)


def _keep_from_columns(models):
    """Repeats constants of another axis than the last behind products.

    With open dims, the CPU plugin takes one with several numbers along a single
    axis for one number for each column of the product, whatever the axis, and
    fails if there are more or fewer columns.
    """
    for node in _nodes(models):
        if node.get_type_name() not in _FUSED_BEHIND_PRODUCTS:
            continue
        for port, other in zip(node.inputs(), node.inputs()[::-1]):
            constant = port.get_source_output()
            columns = _columns_of_product(other.get_source_output())
            if columns and _has_another_axis(constant):
                shape = [1] * (len(constant.partial_shape) - 1) + [columns]
                port.replace_source_output(rewriting.repeated(constant, shape))


_FUSED_BEHIND_PRODUCTS = (
    "Add",
    "Divide",
    "Maximum",
    "Minimum",
    "Multiply",
    "PRelu",
    "Power",
    "SquaredDifference",
    "Subtract",
)


def _has_another_axis(output):
    """Whether a constant has several numbers along one axis, not the last."""
    dims = graph.static_shape(output)
    if rewriting.constant_of(output) is None or dims is None:
        return False
    several = [axis for axis, dim in enumerate(dims) if dim > 1]
    return len(several) == 1 and several[0] < len(dims) - 1


def _columns_of_product(x):
    """The last dim behind a product, if known and several; 0 otherwise."""
    dim, node = x.partial_shape[-1] if len(x.partial_shape) else 0, x.get_node()
    if dim == 0 or dim.is_dynamic or dim == 1:
        return 0
    while node.get_type_name() != "MatMul":
        others = [
            source
            for source in node.input_values()
            if rewriting.constant_of(source) is None
        ]
        if len(others) != 1 or "Convolution" in node.get_type_name():
            return 0
        node = others[0].get_node()
    return dim.get_length()


def _transpose(node, x, order):
    """Inserts a dim of 1 around a transpose that does not change the shape.

    With as many heads as queries, which the transpose of the queries swaps,
    the CPU plugin's fused attention gives other numbers where all dims are
    known.
    """
    dims, order = graph.static_shape(x), rewriting.integers(order)
    if dims is None or not order or order[-1] != len(dims) - 1:
        return None
    last = len(order) - 1
    swapped = [i for i in range(last) if order[i] != i]
    if any(dims[order[i]] != dims[i] or dims[i] == 1 for i in swapped):
        return None
    x = rewriting.reshaped(x, [*dims[:-1], 1, dims[-1]])
    x = rewriting.transposed(x, [*order, last + 1])
    return rewriting.reshaped(x, dims)


def _reduction(node, x, axes):
    """Reduces with its dims kept, and squeezes them then.

    A transpose before or behind it, of dims of 1, would be forgotten: a result
    of (1, 3) would be (3, 1).
    """
    keeps = node.get_attributes()["keep_dims"]
    if _is_of_one(node, x, axes):
        return x if keeps else rewriting.squeezed(x, axes)
    if graph.static_shape(x) is None or keeps:
        return None
    kept = rewriting.node_like(node, [x, axes], keep_dims=True)
    return rewriting.squeezed(kept, axes)


def _is_of_one(node, x, axes):
    """Whether each number is reduced by itself, and stays as it is.

    Of integers, the difference of the greatest and the least of one would be
    the number itself in the CPU plugin.
    """
    axes = rewriting.integers(axes)
    if not axes or node.get_type_name() in ("ReduceL1", "ReduceL2"):
        return False
    dims = [x.partial_shape[axis] for axis in axes]
    return all(dim.is_static and dim.get_length() == 1 for dim in dims)


def _absolute(node, x):
    """Computes `Abs` of a 1-d Concat in two dims.

    OpenVINO would move it into the Concat, which others may take too.
    """
    is_joined = x.get_node().get_type_name() == "Concat"
    if not is_joined or len(x.partial_shape) != 1:
        return None
    axis = rewriting.integer_constant([0])
    x = graph.node("Unsqueeze", [x, axis], {}).output(0)
    x = graph.node("Abs", [x], {}).output(0)
    return rewriting.squeezed(x, axis)


def _select(node, condition, x1, x2):
    """Broadcasts the condition to the full shape if no operand knows a dim.

    OpenVINO would otherwise take the condition's shape for the result's.
    """
    shapes = [x.partial_shape for x in (condition, x1, x2)]
    if not _share_unknown_dim(shapes):
        return None
    for x in (x1, x2):
        condition = rewriting.broadcast_with(condition, x)
    return rewriting.node_like(node, [condition, x1, x2])


def _share_unknown_dim(shapes):
    if any(shape.rank.is_dynamic for shape in shapes):
        return False
    return any(
        all(dim.is_dynamic for dim in dims)
        for dims in zip(*(list(shape)[::-1] for shape in shapes))
    )


def _reshape(node, x, shape):
    """Replaces a reshape to a scalar after MatMul by a Squeeze.

    The CPU plugin crashes otherwise.
    """
    if rewriting.integers(shape) != [] or not _is_of_product(x):
        return None
    axes = rewriting.integer_constant(range(len(x.partial_shape)))
    return rewriting.squeezed(x, axes)


def _is_of_product(x):
    node = x.get_node()
    while node.get_type_name() in ("Reshape", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "MatMul"


def _multiply(node, x1, x2):
    return _scaled(x1, x2, np.multiply) or _scaled(x2, x1, np.multiply)


def _divide(node, x, divisor):
    return _scaled(x, divisor, np.divide)


def _scaled(x, factor, scale):
    """Takes a factor of each column into the scale of weights of few bits.

    OpenVINO would make floats of these weights, and multiply them.
    """
    node, factors = x.get_node(), _row(factor, len(x.partial_shape))
    if factors is None or len(x.get_target_inputs()) > 1:
        return None
    inputs = node.input_values()
    if node.get_type_name() == "MatMul":
        if factors.size > 1 and x.partial_shape[-1] != factors.size:
            return None
        is_transposed = node.get_attributes()["transpose_b"]
        inputs[1] = _rescaled(inputs[1], factors, scale, is_transposed)
    elif node.get_type_name() in ("Add", "Subtract"):
        shift = _row(inputs[1], len(x.partial_shape))
        inputs[0] = _scaled(inputs[0], factor, scale)
        if shift is None or inputs[0] is None:
            return None
        with np.errstate(all="ignore"):
            inputs[1] = graph.constant(scale(shift, factors))
    else:
        return None
    return None if None in inputs else rewriting.node_like(node, inputs)


def _row(output, rank):
    """The values of a Constant, one for each column, or `None`.

    It has float32 values, and no more than `rank` dims.
    """
    node, dims = output.get_node(), graph.static_shape(output)
    if node.get_type_name() != "Constant" or output.element_type != ov.Type.f32:
        return None
    is_row = len(dims) <= rank and all(dim == 1 for dim in dims[:-1])
    return node.data.reshape(-1) if is_row else None


def _rescaled(weights, factors, scale, is_transposed):
    """Weights of few bits with another scale; `None` for other weights."""
    node = weights.get_node()
    inputs = node.input_values()
    if node.get_type_name() == "Reshape":
        inputs[0] = _rescaled(inputs[0], factors, scale, is_transposed)
        return None if inputs[0] is None else rewriting.node_like(node, inputs)
    if not _has_few_bits(weights):
        return None
    before = inputs[1].get_node().data
    if is_transposed:
        factors = factors.reshape((-1,) + (1,) * (before.ndim - 1))
    with np.errstate(all="ignore"):
        after = scale(before, factors)
    if not np.isfinite(after).all():
        return None
    return rewriting.node_like(node, [inputs[0], graph.constant(after)])


def _has_few_bits(weights):
    """Whether weights are made of a Constant of 8 bits or 4, and scaled."""
    node = weights.get_node()
    if node.get_type_name() != "Multiply":
        return False
    is_constant = node.input_value(1).get_node().get_type_name() == "Constant"
    while node.get_type_name() in ("Convert", "Subtract", "Multiply"):
        node = node.input_value(0).get_node()
    bits = node.get_output_element_type(0).bitwidth
    is_small = node.get_type_name() == "Constant" and bits in (4, 8)
    return is_constant and is_small


def _convert(node, x):
    """Leaves out the way through int32 of a product of whole numbers."""
    product = _converted(x, ov.Type.f32, ov.Type.i32)
    if product is None or node.get_output_element_type(0) != ov.Type.f32:
        return None
    node = product.get_node()
    if node.get_type_name() != "MatMul":
        return None
    x, weights = node.input_values()
    is_whole = _converted(x, ov.Type.i8, ov.Type.f32) and _is_whole(weights)
    return product if is_whole else None


def _converted(x, source, target):
    """What is converted to `x`, from one type to another, or `None`."""
    node = x.get_node()
    if node.get_type_name() != "Convert" or x.element_type != target:
        return None
    before = node.input_value(0)
    return before if before.element_type == source else None


def _is_whole(weights):
    """Whether weights are the numbers that are stored."""
    node = weights.get_node()
    if not _has_few_bits(weights):
        return False
    numbers, scale = (value.get_node() for value in node.input_values())
    return numbers.get_type_name() == "Convert" and (scale.data == 1).all()


_RULES = {
    "Abs": _absolute,
    "Convert": _convert,
    "Divide": _divide,
    "Multiply": _multiply,
    "ReduceL1": _reduction,
    "ReduceL2": _reduction,
    "ReduceLogicalAnd": _reduction,
    "ReduceLogicalOr": _reduction,
    "ReduceMax": _reduction,
    "ReduceMean": _reduction,
    "ReduceMin": _reduction,
    "ReduceProd": _reduction,
    "ReduceSum": _reduction,
    "Reshape": _reshape,
    "Select": _select,
    "Transpose": _transpose,
}
