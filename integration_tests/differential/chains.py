"""Random programs of several ops, of which a runtime may fuse some.

A step is `(name, operands, parameter)`: the operands are indices of the inputs
and of what the steps before gave.
"""

import math

import keras
from integration_tests.differential.cases import Spec
from keras import ops

# Names of `keras.ops` that are continuous: a last bit makes no difference.
UNARY = (
    "abs elu gelu hard_sigmoid hard_tanh leaky_relu log_softmax negative relu "
    "relu6 selu sigmoid silu softmax softplus softsign square tanh"
).split()
BINARY = ("add", "subtract", "multiply", "maximum", "minimum")
REDUCTIONS = ("sum", "max", "min", "mean", "var")
INTEGER_UNARY = ("abs", "negative", "square", "bitwise_not", "relu", "sign")
INTEGER_BINARY = (*BINARY, "bitwise_and", "bitwise_or", "bitwise_xor")
INTEGER_REDUCTIONS = ("sum", "max", "min", "prod")
INTEGERS = ("int32", "int32", "int16", "int8", "uint8", "uint16")


def floats(d):
    dtype = d.choice("float32", "float32", "bfloat16", "float16")
    return program(d, dtype, UNARY, BINARY, REDUCTIONS)


def integers(d):
    return program(
        d,
        d.choice(*INTEGERS),
        INTEGER_UNARY,
        INTEGER_BINARY,
        INTEGER_REDUCTIONS,
    )


def program(d, dtype, unary, binary, reductions):
    """The arguments of a case: arrays of one shape, and the steps."""
    dims = tuple(d.choice(3, 2, 3, 1, 4) for _ in range(d.integer(1, 4)))
    count = d.integer(1, 3)
    arrays = [d.array([dtype], list(dims), "small") for _ in range(count)]
    shapes, steps = [dims] * count, []
    for _ in range(d.integer(3, 9)):
        index = max(0, len(shapes) - d.integer(1, 3))
        alike = [i for i, s in enumerate(shapes) if s == shapes[index]]
        kind = d.choice("unary", "binary", "unary", "binary", *MOVES)
        if kind == "unary":
            step, shape = (d.choice(*unary), (index,), None), shapes[index]
        elif kind == "binary":
            operands = index, d.choice(*alike)
            step, shape = (d.choice(*binary), operands, None), shapes[index]
        else:
            drawn = MOVES[kind](d, shapes, index, alike, reductions)
            if drawn is None:
                continue
            step, shape = drawn
        steps.append(step)
        shapes.append(shape)
    return tuple(arrays), {"steps": tuple(steps)}


def transpose(d, shapes, index, *_):
    shape = shapes[index]
    axes, order = list(range(len(shape))), []
    while axes:
        order.append(axes.pop(d.integer(0, len(axes) - 1)))
    step = "transpose", (index,), tuple(order)
    return step, tuple(shape[i] for i in order)


def matmul(d, shapes, index, *_):
    shape = shapes[index]
    if len(shape) < 2:
        return None
    for other in reversed(range(len(shapes))):
        if shapes[other][:-2] != shape[:-2] or len(shapes[other]) < 2:
            continue
        if shapes[other][-2] == shape[-1]:
            step = "matmul", (index, other), False
            return step, (*shape[:-1], shapes[other][-1])
        if shapes[other][-1] == shape[-1]:
            step = "matmul", (index, other), True
            return step, (*shape[:-1], shapes[other][-2])
    return None


def reduction(d, shapes, index, alike, names):
    shape = shapes[index]
    if not shape:
        return None
    axis, keepdims = d.integer(0, len(shape) - 1), d.bool()
    kept = (1,) if keepdims else ()
    step = d.choice(*names), (index,), {"axis": axis, "keepdims": keepdims}
    return step, (*shape[:axis], *kept, *shape[axis + 1 :])


def reshape(d, shapes, index, *_):
    size = math.prod(shapes[index])
    first = shapes[index][0] if shapes[index] else 1
    shape = d.choice((size,), (first, size // first), (1, *shapes[index]))
    return ("reshape", (index,), shape), shape


def concatenate(d, shapes, index, alike, *_):
    shape = list(shapes[index])
    if not shape:
        return None
    axis = d.integer(0, len(shape) - 1)
    shape[axis] *= 2
    step = "concatenate", (index, d.choice(*alike)), axis
    return step, tuple(shape)


def where(d, shapes, index, alike, *_):
    operands = index, d.choice(*alike), d.choice(*alike)
    return ("where", operands, None), shapes[index]


def shift(d, shapes, index, *_):
    number = d.choice(2, -1, 3)
    return ("shift", (index,), number), shapes[index]


MOVES = {
    "transpose": transpose,
    "matmul": matmul,
    "reduction": reduction,
    "reshape": reshape,
    "concatenate": concatenate,
    "where": where,
    "shift": shift,
}


def run(*tensors, steps):
    """The last results of a program, in the dtype of its inputs."""
    dtype = keras.backend.standardize_dtype(tensors[0].dtype)
    values = list(tensors)
    for name, operands, parameter in steps:
        given = [values[i] for i in operands]
        values.append(ops.cast(apply(name, given, parameter), dtype))
    return values[-2:]


def apply(name, given, parameter):
    if name == "matmul":
        first, second = given
        return ops.matmul(
            first, ops.swapaxes(second, -1, -2) if parameter else second
        )
    if name == "concatenate":
        return ops.concatenate(given, parameter)
    if name == "where":
        # Not at 0, where many numbers are that should be equal.
        return ops.where(given[0] > 0.1234, *given[1:])
    if name == "shift":
        return given[0] * parameter + parameter
    if isinstance(parameter, dict):
        return getattr(ops, name)(*given, **parameter)
    arguments = () if parameter is None else (parameter,)
    return getattr(ops, name)(*given, *arguments)


SPECS = {
    "floats": Spec(floats, call=run, spread=True, tolerance=40),
    "integers": Spec(integers, call=run),
}
