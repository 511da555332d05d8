"""The operations of OpenVINO's opset that this backend uses.

Each has a kernel for small work and for 64-bit arithmetic, which the CPU plugin
would narrow.
"""

import numpy as np

from keras.src.backend.openvino import empty
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import integers
from keras.src.backend.openvino import kernels
from keras.src.backend.openvino import layout
from keras.src.backend.openvino import precision
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino import work
from keras.src.backend.openvino.registry import MOVED
from keras.src.backend.openvino.registry import ROUNDED
from keras.src.backend.openvino.registry import register

# arithmetic
register(
    "Abs",
    np.abs,
    layout=layout.elementwise,
    halves=MOVED,
    mend=integers.wrapping("Abs"),
)
register(
    "Add",
    np.add,
    layout=layout.elementwise,
    halves=ROUNDED,
    mend=integers.wrapping("Add"),
)
register("Ceiling", np.ceil, layout=layout.elementwise)
register("Clamp", kernels.clamp, layout=layout.elementwise, halves=ROUNDED)
register(
    "Convert",
    kernels.convert,
    layout=layout.elementwise,
    mend=precision.convert,
    halves=MOVED,
)
register("Divide", kernels.divide, layout=layout.elementwise, halves=ROUNDED)
register("Exp", np.exp, layout=layout.elementwise, halves=ROUNDED)
register("Floor", np.floor, layout=layout.elementwise)
register("IsNaN", np.isnan, layout=layout.elementwise)
register("Log", np.log, layout=layout.elementwise)
register("Maximum", np.maximum, layout=layout.elementwise, halves=MOVED)
register(
    "Minimum",
    np.minimum,
    layout=layout.elementwise,
    mend=integers.minimum,
    halves=MOVED,
)
register(
    "Multiply",
    np.multiply,
    layout=layout.elementwise,
    halves=ROUNDED,
    mend=integers.wrapping("Multiply"),
)
register(
    "Negative",
    np.negative,
    layout=layout.elementwise,
    halves=MOVED,
    mend=integers.wrapping("Negative"),
)
register(
    "Power",
    kernels.power,
    layout=layout.elementwise,
    mend=integers.wrapping("Power"),
)
register("Round", kernels.round_to_whole, layout=layout.elementwise)
register("Sign", np.sign, layout=layout.elementwise)
register("Sqrt", np.sqrt, layout=layout.elementwise, halves=ROUNDED)
register(
    "Subtract",
    np.subtract,
    layout=layout.elementwise,
    halves=ROUNDED,
    mend=integers.wrapping("Subtract"),
)

# trigonometry
register("Acos", np.arccos, layout=layout.elementwise)
register("Acosh", np.arccosh, layout=layout.elementwise)
register("Asin", np.arcsin, layout=layout.elementwise)
register("Asinh", np.arcsinh, layout=layout.elementwise)
register("Atan", np.arctan, layout=layout.elementwise)
register("Atanh", np.arctanh, layout=layout.elementwise)
register("Cos", np.cos, layout=layout.elementwise)
register("Cosh", np.cosh, layout=layout.elementwise)
register("Sin", np.sin, layout=layout.elementwise)
register("Sinh", np.sinh, layout=layout.elementwise)
register("Tan", np.tan, layout=layout.elementwise)
register("Tanh", np.tanh, layout=layout.elementwise, halves=ROUNDED)

# comparison and logic
register("Equal", np.equal, layout=layout.elementwise, mend=integers.equal)
register("Less", np.less, layout=layout.elementwise, mend=integers.less)
register(
    "LessEqual",
    np.less_equal,
    layout=layout.elementwise,
    mend=integers.less_equal,
)
register("LogicalAnd", np.logical_and, layout=layout.elementwise)
register("LogicalNot", np.logical_not, layout=layout.elementwise)
register("LogicalOr", np.logical_or, layout=layout.elementwise)
register("LogicalXor", np.logical_xor, layout=layout.elementwise)
register(
    "NotEqual", np.not_equal, layout=layout.elementwise, mend=integers.not_equal
)
register(
    "Select",
    np.where,
    layout=layout.elementwise,
    mend=integers.select,
    halves=MOVED,
)

# bits
register("BitwiseAnd", np.bitwise_and, layout=layout.elementwise)
register(
    "BitwiseLeftShift",
    np.left_shift,
    layout=layout.elementwise,
    mend=integers.wrapping("BitwiseLeftShift"),
)
register(
    "BitwiseNot",
    np.bitwise_not,
    layout=layout.elementwise,
    mend=integers.wrapping("BitwiseNot"),
)
register("BitwiseOr", np.bitwise_or, layout=layout.elementwise)
register("BitwiseRightShift", np.right_shift, layout=layout.elementwise)
register("BitwiseXor", np.bitwise_xor, layout=layout.elementwise)

# activations
register("Elu", kernels.elu, layout=layout.elementwise, halves=ROUNDED)
register(
    "Gelu",
    kernels.gelu,
    work=work.error_function,
    layout=layout.elementwise,
    halves=ROUNDED,
)
register(
    "HSigmoid",
    lambda x: np.clip(x + 3, 0, 6) / 6,
    layout=layout.elementwise,
    halves=ROUNDED,
)
register(
    "HSwish",
    lambda x: x * (np.clip(x + 3, 0, 6) / 6),
    layout=layout.elementwise,
    halves=ROUNDED,
)
register("LogSoftmax", kernels.log_softmax)
register("PRelu", kernels.prelu, layout=layout.leaky)
register(
    "Relu",
    lambda x: np.maximum(x, 0),
    layout=layout.elementwise,
    mend=integers.relu,
    halves=MOVED,
)
register("Selu", kernels.selu, layout=layout.elementwise)
register("Sigmoid", kernels.sigmoid, layout=layout.elementwise, halves=ROUNDED)
register(
    "SoftSign",
    lambda x: x / (1 + np.abs(x)),
    layout=layout.elementwise,
    halves=ROUNDED,
)
register("Softmax", kernels.softmax, halves=ROUNDED)
register("Swish", kernels.swish, layout=layout.elementwise, halves=ROUNDED)

# reductions
register("CumSum", kernels.cum_sum, mend=integers.wrapping("CumSum"))
register("ReduceL1", kernels.reduction(kernels.l1))
register("ReduceL2", kernels.reduction(kernels.l2))
register("ReduceLogicalAnd", kernels.reduction(np.logical_and.reduce))
register("ReduceLogicalOr", kernels.reduction(np.logical_or.reduce))
register(
    "ReduceMax",
    kernels.reduction(np.maximum.reduce),
    layout=layout.reduction,
    mend=integers.reduce_max,
    halves=MOVED,
)
register(
    "ReduceMean",
    kernels.reduction(np.mean),
    layout=layout.reduction,
    halves=ROUNDED,
)
register(
    "ReduceMin",
    kernels.reduction(np.minimum.reduce),
    layout=layout.reduction,
    mend=integers.reduce_min,
    halves=MOVED,
)
register(
    "ReduceProd",
    kernels.reduction(np.multiply.reduce),
    mend=integers.reduce_prod,
)
register(
    "ReduceSum",
    kernels.reduction(np.add.reduce),
    layout=layout.reduction,
    mend=integers.reduce_sum,
    halves=ROUNDED,
)

# linear algebra
register("MatMul", kernels.mat_mul, mend=empty.mat_mul, halves=ROUNDED)

# convolution and pooling
register("AdaptiveAvgPool", kernels.adaptive(np.mean))
# The places of the maxima, its other output, no op asks for.
register(
    "AdaptiveMaxPool",
    lambda x, sizes, **_: (kernels.adaptive(np.max)(x, sizes),),
    halves=MOVED,
)
register("AvgPool", kernels.avg_pool, halves=ROUNDED)
register("Col2Im", kernels.col2im)
register(
    "Convolution", kernels.convolution, work=work.convolution, halves=ROUNDED
)
register(
    "ConvolutionBackpropData",
    kernels.convolution_backprop_data,
    work=work.transposed_convolution,
    halves=ROUNDED,
)
register("DepthToSpace", kernels.depth_to_space, halves=MOVED)
register("ExtractImagePatches", kernels.extract_image_patches, halves=MOVED)
register(
    "GroupConvolution",
    kernels.group_convolution,
    work=work.convolution,
    halves=ROUNDED,
)
register(
    "GroupConvolutionBackpropData", kernels.group_convolution_backprop_data
)
register("MaxPool", kernels.max_pool, mend=integers.max_pool, halves=MOVED)
register("SpaceToDepth", kernels.space_to_depth, halves=MOVED)

# attention
register("ScaledDotProductAttention", kernels.attention, work=work.attention)

# data movement
register("Broadcast", kernels.broadcast, halves=MOVED)
register("Concat", kernels.concat, layout=layout.concatenation, halves=MOVED)
register(
    "Pad", kernels.pad, layout=layout.padding, mend=integers.pad, halves=MOVED
)
register("Reshape", kernels.reshape, halves=MOVED)
register(
    "Roll",
    lambda x, shift, axes: np.roll(x, shift.tolist(), axes.tolist()),
    halves=MOVED,
)


def _shape(inputs, attributes):
    """The shape of a stack, which is not to be stacked for that."""
    axis, rows = rewriting.stacked(inputs[0])
    if not rows:
        return None
    shape = graph.build("ShapeOf", rows[:1], attributes).output(0)
    dims = [shape, rewriting.constant_like([len(rows)], shape)]
    order = list(range(len(inputs[0].partial_shape) - 1))
    order.insert(axis, len(order))
    return graph.build(
        "Gather",
        [
            graph.build("Concat", dims, {"axis": 0}).output(0),
            rewriting.integer_constant(order),
            rewriting.integer_constant(0),
        ],
        {"batch_dims": 0},
    )


register(
    "ShapeOf",
    lambda x, output_type="i64": np.array(x.shape, np.int64),
    halves=MOVED,
    mend=_shape,
)
register("Slice", kernels.strided_slice, halves=MOVED)
register("Split", kernels.split, halves=MOVED)
register("Squeeze", kernels.squeeze, halves=MOVED)
register("Tile", lambda x, repeats: np.tile(x, repeats), halves=MOVED)
register("Transpose", kernels.transpose, halves=MOVED)
register("Unsqueeze", kernels.unsqueeze, halves=MOVED)
register("VariadicSplit", kernels.variadic_split, halves=MOVED)

# gathering and scattering


def _gather(inputs, attributes):
    return _row(*inputs) or _gather_from_one(inputs, attributes)


def _row(x, index, axis):
    """What a tensor was stacked from, which is not to be stacked for that."""
    along, rows = rewriting.stacked(x)
    if not rows or index.partial_shape.rank != 0:
        return None
    if rewriting.integers(axis) != [along]:
        return None
    (i,) = rewriting.integers(index) or (None,)
    if i is None or not 0 <= i < len(rows) or rows[i].get_index():
        return None
    return rows[i].get_node()


def _gather_from_one(inputs, attributes):
    """From a batch known to be one the CPU plugin reads beyond its memory."""
    x, indices, axis = inputs
    count = attributes.get("batch_dims", 0)
    batch = [indices.partial_shape[i] for i in range(count)]
    if not batch or any(dim != 1 for dim in batch):
        return None
    axes = graph.constant(np.arange(count))
    indices = graph.build("Squeeze", [indices, axes], {}).output(0)
    return graph.build("Gather", [x, indices, axis], {"batch_dims": 0})


register("Gather", kernels.gather, halves=MOVED, mend=_gather)
register("GatherElements", kernels.gather_elements, halves=MOVED)
register("GatherND", kernels.gather_nd, halves=MOVED)
register("Interpolate", kernels.interpolate)
register("ScatterElementsUpdate", kernels.scatter_elements_update)
register("ScatterNDUpdate", kernels.scatter_nd_update, halves=ROUNDED)
register("ScatterUpdate", kernels.scatter_update, halves=MOVED)

# sorting and searching
register("NonZero", kernels.non_zero, halves=MOVED)
register("SearchSorted", kernels.search_sorted)
register("TopK", kernels.top_k, halves=MOVED)
register("Unique", kernels.unique, halves=MOVED)

# creation
register("OneHot", kernels.one_hot)
register("Range", kernels.value_range)

# Fourier
register("DFT", kernels.fourier(np.fft.fftn, True, True))
register("IDFT", kernels.fourier(np.fft.ifftn, True, True))
register("IRDFT", kernels.fourier(np.fft.irfftn, True, False))
register("RDFT", kernels.fourier(np.fft.rfftn, False, True))
