"""What is known of each node type, said once, in one call."""

import typing


class Spec(typing.NamedTuple):
    """The dtype, in Keras's name, and the shape of an array."""

    dtype: str
    shape: tuple | None


class Operation(typing.NamedTuple):
    """A node type; what it lacks is `None`.

    Attributes:
        kernel: what it computes, said in NumPy: called with the input arrays
            and the attributes as keywords, returns an array, or a tuple of
            arrays. An operation without one is compiled.
        rule: for an operation that OpenVINO lacks: called with the `Spec` of
            each input, where unknown dims are `None`, and the attributes as
            keywords; returns a list of the `(dtype, shape)` of each output.
        formula: for an operation that OpenVINO lacks or computes wrong:
            called with the `openvino.Output` of each input and the attributes
            as a dict; returns the `openvino.Node` that stands for it in a
            graph.
        mend: like `formula`, for an operation of OpenVINO that a device
            computes wrong for some inputs; returns `None` for the others.
        work: called with a `graph.Node`; returns the multiply-adds that it
            takes, or what takes as long.
        halves: for an operation that devices compute right on float16 and
            bfloat16: `MOVED` where its values are among those it got, or
            their opposites or bounds, `ROUNDED` where it computes in float32
            and rounds once. What has neither is given float32.
        layout: how a transpose moves behind it, see `layout`.
        gradient: called with the inputs as `tensor.apply` takes them, the
            outputs, the gradients of these, and the attributes as keywords;
            returns the gradients of the inputs, `None` where there is none.
            Or a text that says why there is no derivative.
        complex: called with what `tensor.apply` takes for complex operands in
            a trace, returns what it returns, see `complex`.
    """

    kernel: typing.Callable | None = None
    rule: typing.Callable | None = None
    formula: typing.Callable | None = None
    mend: typing.Callable | None = None
    work: typing.Callable | None = None
    halves: str | None = None
    layout: typing.Callable | None = None
    gradient: typing.Callable | str | None = None
    complex: typing.Callable | None = None


# What `Operation.halves` can be.
MOVED = "moved"
ROUNDED = "rounded"

# By the name of the node type.
OPERATIONS = {}

UNKNOWN = Operation()


def register(name, kernel=None, **traits):
    """Adds a node type: an operation of OpenVINO's opset, or a new name.

    Args:
        name: the name that `tensor.apply` takes.
        kernel: as the attribute of `Operation`, and so the others.
        **traits: its other attributes.
    """
    if name in OPERATIONS:
        raise ValueError(f"The node type {name} is registered already.")
    OPERATIONS[name] = Operation(kernel, **traits)


def extend(name, **traits):
    """Adds what is known of a node type to what was registered."""
    OPERATIONS[name] = OPERATIONS[name]._replace(**traits)


def find(name):
    """The `Operation` of a node type."""
    return OPERATIONS.get(name, UNKNOWN)
