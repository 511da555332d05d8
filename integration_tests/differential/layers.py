"""The specifications of every layer of `keras.layers`."""

import inspect
import random
from typing import NamedTuple

import numpy as np

from integration_tests.differential.cases import Spec
from integration_tests.differential.cases import arrays_of
from integration_tests.differential.cases import map_arrays

# ------------------------------------------------------- how a case is made


class Array(NamedTuple):
    """An input that is to be drawn.

    Attributes:
        shape: its shape, the batch first.
        dtype: its dtype.
        low, high: the bounds of its values; of integers, the last is not drawn.
        fixed: the axes that the inputs of a model must know.
    """

    shape: tuple
    dtype: str = "float32"
    low: float = -2
    high: float = 2
    fixed: tuple = (-1,)


class New(NamedTuple):
    """A layer to be made: its name in `keras.layers`, and its arguments."""

    name: str
    arguments: dict = {}


class Op(NamedTuple):
    """A function of `keras.ops` as an argument of a layer."""

    name: str


def made(x):
    """What a `New` or an `Op` stands for, anywhere in `x`."""
    import keras

    if isinstance(x, New):
        return getattr(keras.layers, x.name)(**made(x.arguments))
    if isinstance(x, Op):
        return getattr(keras.ops, x.name)
    if isinstance(x, dict):
        return {key: made(value) for key, value in x.items()}
    if isinstance(x, list):
        return [made(item) for item in x]
    return x


def fill(x, rng, fixed):
    """`x` with values for its `Array`s, whose fixed axes are noted."""
    if isinstance(x, Array):
        fixed.append({axis % len(x.shape) for axis in x.fixed})
        return values(x, rng)
    if isinstance(x, (list, tuple)):
        return type(x)(fill(item, rng, fixed) for item in x)
    if isinstance(x, dict):
        return {key: fill(value, rng, fixed) for key, value in x.items()}
    return x


def values(array, rng):
    if array.dtype == "str":
        # Nested lists: strings are no tensors.
        return (
            rng.integers(array.low, array.high, array.shape)
            .astype(str)
            .tolist()
        )
    if array.dtype == "bool":
        return rng.uniform(size=array.shape) < 0.7
    if "int" in array.dtype:
        drawn = rng.integers(array.low, array.high, array.shape)
    else:
        drawn = rng.uniform(array.low, array.high, array.shape)
    return drawn.astype(array.dtype)


def arguments(draw, name, fixed):
    """The `arguments` of a `Spec`, from a function of the table below."""
    if "name" in inspect.signature(draw).parameters:
        fixed = {"name": name, **fixed}

    def drawn(d):
        seed = d.integer(0, 2**32 - 1)
        options, inputs, *rest = draw(Draw(seed), **fixed)
        call, training = (*rest, *({}, False)[len(rest) :])
        rng, axes = np.random.default_rng(seed), []
        inputs, call = fill(inputs, rng, axes), fill(call, rng, axes)
        kwargs = {"layer": New(name, options), "call": call}
        return (inputs,), kwargs | {"training": training, "axes": axes}

    return drawn


def built(case, inputs, call):
    """The layer of a case, called with symbolic inputs; its weights drawn."""
    layer = made(case.kwargs["layer"])
    options = dict(call)
    if layer._call_has_training_arg:
        options["training"] = case.kwargs["training"]
    outputs = layer(inputs, **options)
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        low = 0.1 if "variance" in weight.path else -0.9
        weight.assign(rng.uniform(low, 0.9, weight.shape))
    return layer, outputs


def build(case):
    """A function of a case's arguments that calls its layer."""
    import keras

    def symbolic(x):
        return keras.KerasTensor(x.shape, x.dtype.name)

    inputs, call = map_arrays(symbolic, (case.args[0], case.kwargs["call"]))
    layer, _ = built(case, inputs, call)
    training = case.kwargs["training"]

    def function(inputs, call, **_):
        options = {"training": training} if layer._call_has_training_arg else {}
        return layer(inputs, **call, **options)

    if keras.backend.backend() == "jax" and not training:
        return compiled_by_jax(function)
    return function


def compiled_by_jax(function):
    """As `function`; it takes JAX longer to compile each op by itself."""
    import jax

    def run(inputs, call, **_):
        flags = {k: v for k, v in call.items() if isinstance(v, bool)}
        arrays = {k: v for k, v in call.items() if k not in flags}
        return jax.jit(lambda x, y: function(x, {**y, **flags}))(inputs, arrays)

    return run


def compiled(case, dynamic):
    """What `predict` gives, with all dims open that can be, or the batch.

    `predict` is not in training; that is one compiled model too.
    """
    import keras
    from keras.src.backend.openvino.jit import jit
    from keras.src.backend.openvino.testing import same_each_time

    axes = iter(case.kwargs["axes"])

    def shape(x):
        fixed = next(axes) if dynamic else set(range(1, x.ndim))
        return [n if i in fixed else None for i, n in enumerate(x.shape)]

    arrays = arrays_of(case)
    if case.kwargs["training"]:
        function = build(case)
        specs = [shape(x) for x in arrays]
        return jit(function, specs=specs)(*case.args, case.kwargs["call"])
    inputs = []

    def opened(x):
        inputs.append(keras.Input(batch_shape=shape(x), dtype=x.dtype.name))
        return inputs[-1]

    placed, call = map_arrays(opened, (case.args[0], case.kwargs["call"]))
    _, outputs = built(case, placed, call)
    model = keras.Model(inputs, outputs)
    batch_size = max(1, len(arrays[0]))
    return same_each_time(
        lambda: keras.tree.flatten(
            model.predict(arrays, batch_size=batch_size, verbose=0)
        )
    )


class Draw(random.Random):
    """Draws the arguments of layers."""

    def pick(self, *options):
        return self.choice(options)

    def size(self, low=1, high=6):
        return self.randint(low, high)

    def sizes(self, count, low=1, high=6):
        return tuple(self.size(low, high) for _ in range(count))

    def flag(self):
        return self.random() < 0.5

    def some(self, **options):
        """Some of the options, each drawn from its values."""
        return {
            name: self.choice(values)
            for name, values in options.items()
            if self.flag()
        }


# Not layers that can be drawn, with the reason.
LEFT_OUT = {
    "FlaxLayer": "wraps a module of Flax, for JAX",
    "InputLayer": "is in every model",
    "InputSpec": "is not a layer",
    "JaxLayer": "wraps a function of JAX",
    "Layer": "is the base class",
    "TFSMLayer": "wraps a SavedModel, for TensorFlow",
    "TorchModuleWrapper": "wraps a module of torch",
    "Wrapper": "is a base class",
}

SPECS = {}


def specify(*names, only_eager="", tolerance=4, numpy=None, **fixed):
    """Makes the specifications of layers whose arguments a function draws.

    The function takes a `Draw`, the layer's name if it wants it, and `fixed`;
    it returns the layer's arguments, its inputs, and as far as they are needed
    the other arguments of the call and whether it is in training.
    """

    def add(draw):
        for name in names:
            SPECS[name] = Spec(
                arguments(draw, name, fixed),
                numpy,
                build=build,
                compiled=compiled,
                only_eager=only_eager,
                spread=True,
                tolerance=tolerance,
            )
        return draw

    return add


ACTIVATIONS = (
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu "
    "hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu "
    "sigmoid silu softmax soft_shrink softplus softsign sparse_plus "
    "sparse_sigmoid sparsemax squareplus tanh tanh_shrink threshold"
).split()
ANY = ("float32", "float64", "float16", "int32", "int8", "uint8", "bool")


def _any(d, *shape, **more):
    dtype = d.pick("float32", "float32", *ANY)
    low = 0 if dtype in ("uint8", "bool") else -9
    high = 2 if dtype == "bool" else 9
    return Array(shape, dtype, low, high, **more)


# ---------------------------------------------------------------------- core


@specify("Dense")
def _(d):
    options = d.some(use_bias=[False], activation=ACTIVATIONS[4:])
    return (
        dict(units=2 * d.size(), **options),
        Array((*d.sizes(d.pick(1, 1, 2, 3)), d.size())),
    )


@specify("EinsumDense")
def _(d):
    a, b, c = d.sizes(3)
    equation, shape, out, bias = d.pick(
        ("ab,bc->ac", (a, b), c, "c"),
        ("abc,cd->abd", (a, b, c), (None, c), "d"),
        ("...x,xy->...y", (a, b, c), c, "y"),
        ("abc,cde->abde", (a, b, c), (None, 2, 3), "e"),
        ("abc,bcd->ad", (a, b, c), 4, None),
    )
    fixed = (-1, -2) if equation == "abc,bcd->ad" else (-1,)
    return (
        dict(equation=equation, output_shape=out, bias_axes=bias),
        Array(shape, fixed=fixed),
    )


@specify("Embedding")
def _(d):
    size = d.size(2, 9)
    return (
        dict(input_dim=size, output_dim=d.size(), mask_zero=d.flag()),
        Array(
            d.sizes(d.pick(1, 2, 2, 3)),
            d.pick("int32", "int64", "uint8", "float32"),
            0,
            size,
            fixed=(),
        ),
    )


@specify("ReversibleEmbedding")
def _(d):
    size, out = d.size(2, 9), d.size()
    reverse = d.flag()
    options = dict(
        input_dim=size,
        output_dim=out,
        **d.some(tie_weights=[False], logit_soft_cap=[3.0]),
    )
    if reverse:
        return options, Array((*d.sizes(2), out)), dict(reverse=True)
    return options, Array(d.sizes(2), "int32", 0, size, fixed=())


@specify("Masking")
def _(d):
    return dict(mask_value=d.pick(0.0, 1.0)), Array(d.sizes(3), "float32", 0, 2)


@specify("Identity")
def _(d):
    return {}, _any(d, *d.sizes(d.pick(1, 2, 3)), fixed=())


@specify("Lambda")
def _(d):
    return dict(function=Op("negative")), Array(d.sizes(3), fixed=())


# --------------------------------------------------------------- activations


@specify("Activation")
def _(d):
    name = d.pick(*ACTIVATIONS)
    shape = d.sizes(d.pick(1, 2, 3)) + (2 * d.size(),)
    return dict(activation=name), Array(shape, fixed=())


@specify("ELU", alpha=[0.3])
@specify("LeakyReLU", negative_slope=[0.1])
@specify("ReLU", max_value=[1.0], negative_slope=[0.1], threshold=[0.5])
def _(d, **options):
    return d.some(**options), Array(d.sizes(d.pick(1, 2, 3)), fixed=())


@specify("PReLU")
def _(d):
    shared = d.flag()
    return (
        dict(shared_axes=[1]) if shared else {},
        Array(d.sizes(3), fixed=(-1,) if shared else (1, 2)),
    )


@specify("Softmax")
def _(d):
    shape = d.sizes(3)
    options = {}
    if d.flag():
        options = dict(mask=Array(shape, "bool", 0, 2, fixed=()))
    axis = d.pick(-1, -1, 1, (1, 2), [-1, -2])
    return dict(axis=axis), Array(shape, fixed=()), options


# ------------------------------------------------------------- normalization


@specify("BatchNormalization")
def _(d):
    rank = d.pick(2, 3, 4)
    axis = d.pick(-1, 1)
    shape = d.sizes(rank)
    options = {}
    if d.flag() and axis == -1 and rank > 2:
        options = dict(mask=Array(shape[:-1], "bool", 0, 2, fixed=()))
    return (
        dict(axis=axis, **d.some(center=[False], scale=[False])),
        Array(shape, fixed=(axis,)),
        options,
        d.flag(),
    )


@specify("LayerNormalization")
def _(d):
    rank = d.pick(2, 3, 4)
    axis = d.pick(-1, [-1], [1, -1] if rank > 2 else -1)
    fixed = tuple(axis) if isinstance(axis, list) else (axis,)
    return (
        dict(axis=axis, **d.some(center=[False], scale=[False])),
        Array(d.sizes(rank), fixed=fixed),
    )


@specify("RMSNormalization")
def _(d):
    return dict(axis=-1), Array(d.sizes(d.pick(2, 3, 4)))


@specify("UnitNormalization")
def _(d):
    rank = d.pick(2, 3, 4)
    return dict(axis=d.pick(-1, 1)), Array(d.sizes(rank), fixed=())


@specify("GroupNormalization")
def _(d):
    groups, per = d.size(1, 3), d.size(1, 3)
    rank = d.pick(2, 3, 4)
    shape = (*d.sizes(rank - 1), groups * per)
    axis = d.pick(-1, -1, 1)
    if axis == 1:
        shape = (shape[0], shape[-1], *shape[1:-1])
    return (
        dict(groups=d.pick(groups, -1), axis=axis, **d.some(center=[False])),
        Array(shape, fixed=(axis,)),
    )


@specify("SpectralNormalization")
def _(d):
    return (
        dict(layer=New("Dense", dict(units=d.size())), power_iterations=2),
        Array(d.sizes(d.pick(2, 3))),
        {},
        d.flag(),
    )


# -------------------------------------------------------------- convolutions


def _spatial(d, rank, low=3, high=9):
    """A batch of channels last or first, and which axis they are."""
    channels = 2 * d.size(1, 2)
    spatial = d.sizes(rank, low, high)
    if d.pick(0, 0, 1):
        return (d.size(1, 3), channels, *spatial), "channels_first", 1
    return (d.size(1, 3), *spatial, channels), "channels_last", -1


def _conv(transposed=False, depthwise=False, separable=False):
    def draw(d, rank):
        shape, data_format, axis = _spatial(d, rank, 3, 7)
        options = dict(kernel_size=d.size(1, 3), data_format=data_format)
        options["padding"] = d.pick("valid", "same")
        options |= d.some(use_bias=[False], activation=["relu", "tanh"])
        which = d.pick("strides", "dilation_rate", None)
        if which:
            options[which] = d.size(1, 2)
        if depthwise or separable:
            options["depth_multiplier"] = d.size(1, 2)
        if not depthwise:
            options["filters"] = 2 * d.size(1, 2)
        if not (transposed or depthwise or separable):
            options["groups"] = d.pick(1, 1, 2)
            if rank == 1 and data_format == "channels_last" and d.flag():
                options["padding"] = "causal"
        return options, Array(shape, fixed=(axis,))

    return draw


for _rank in (1, 2, 3):
    specify(f"Conv{_rank}D", rank=_rank)(_conv())
    specify(f"Conv{_rank}DTranspose", rank=_rank)(_conv(transposed=True))
    if _rank < 3:
        specify(f"DepthwiseConv{_rank}D", rank=_rank)(_conv(depthwise=True))
        specify(f"SeparableConv{_rank}D", rank=_rank)(_conv(separable=True))


# ------------------------------------------------------------------- pooling


def _pool(d, rank):
    shape, data_format, axis = _spatial(d, rank, 3, 7)
    options = dict(pool_size=d.size(1, 3), data_format=data_format)
    options |= d.some(strides=[1, 2, 3], padding=["same"])
    return options, Array(shape, fixed=(axis,))


def _global_pool(d, rank):
    shape, data_format, axis = _spatial(d, rank, 1, 5)
    options = dict(data_format=data_format, keepdims=d.flag())
    return options, Array(shape, fixed=())


def _global_average_1d(d, rank):
    shape, data_format, axis = _spatial(d, rank, 1, 5)
    options = dict(data_format=data_format, keepdims=d.flag())
    call = {}
    if d.flag():
        steps = shape[1] if axis == -1 else shape[2]
        call = dict(mask=Array((shape[0], steps), "bool", 0, 2, fixed=()))
    return options, Array(shape, fixed=()), call


def _adaptive_pool(d, rank):
    shape, data_format, axis = _spatial(d, rank, 2, 8)
    size = d.pick(d.size(1, 4), d.sizes(rank, 1, 4))
    options = dict(output_size=size, data_format=data_format)
    return options, Array(shape, fixed=tuple(range(1, rank + 2)))


for _rank in (1, 2, 3):
    specify(f"MaxPooling{_rank}D", rank=_rank)(_pool)
    specify(f"AveragePooling{_rank}D", rank=_rank)(_pool)
    specify(f"GlobalMaxPooling{_rank}D", rank=_rank)(_global_pool)
    specify(f"GlobalAveragePooling{_rank}D", rank=_rank)(
        _global_pool if _rank > 1 else _global_average_1d
    )
    specify(f"AdaptiveMaxPooling{_rank}D", rank=_rank)(_adaptive_pool)
    specify(f"AdaptiveAveragePooling{_rank}D", rank=_rank)(_adaptive_pool)


# ----------------------------------------------------------------- reshaping


def _cropping(d, rank):
    shape, data_format, axis = _spatial(d, rank, 5, 8)
    options = {}
    if rank > 1:
        options = dict(data_format=data_format)
    else:
        shape = (d.size(), d.size(5, 8), d.size())
    cropping = d.pick(
        1,
        2,
        (1, 0) if rank == 1 else d.sizes(rank, 0, 2),
        (2, 1)
        if rank == 1
        else tuple((d.size(0, 2), d.size(0, 2)) for _ in range(rank)),
    )
    return dict(cropping=cropping, **options), Array(shape, fixed=())


def _padding(d, rank):
    shape, data_format, axis = _spatial(d, rank, 1, 5)
    padding = d.pick(
        d.size(0, 2),
        d.sizes(2, 0, 2) if rank == 1 else d.sizes(rank, 0, 2),
        d.sizes(2, 0, 2)
        if rank == 1
        else tuple(d.sizes(2, 0, 2) for _ in range(rank)),
    )
    options = dict(padding=padding, data_format=data_format)
    return options, Array(shape, fixed=())


def _upsampling(d, rank):
    shape, data_format, axis = _spatial(d, rank, 1, 4)
    if rank == 1:
        return dict(size=d.size(1, 3)), Array(d.sizes(3), fixed=())
    options = dict(size=d.sizes(rank, 1, 3), data_format=data_format)
    if rank == 2:
        options |= d.some(interpolation=["bilinear", "nearest", "bicubic"])
    return options, Array(shape, fixed=())


for _rank in (1, 2, 3):
    specify(f"Cropping{_rank}D", rank=_rank)(_cropping)
    specify(f"ZeroPadding{_rank}D", rank=_rank)(_padding)
    specify(f"UpSampling{_rank}D", rank=_rank)(_upsampling)


@specify("Flatten")
def _(d):
    shape, data_format, axis = _spatial(d, d.pick(0, 1, 2), 1, 4)
    options = {} if len(shape) < 3 else dict(data_format=data_format)
    return options, _any(d, *shape, fixed=())


@specify("Permute")
def _(d):
    dims = list(range(1, d.size(1, 3) + 1))
    d.shuffle(dims)
    return dict(dims=tuple(dims)), _any(d, *d.sizes(len(dims) + 1), fixed=())


@specify("RepeatVector")
def _(d):
    return dict(n=d.size()), _any(d, *d.sizes(2), fixed=())


@specify("Reshape")
def _(d):
    a, b, c = d.sizes(3)
    target, fixed = d.pick(
        ((a, b * c), (1, 2, 3)),
        ((-1, c), (-1,)),
        ((-1,), ()),
        ((b, -1), ()),
        ((c, -1, a), ()),
        ((a * b * c, 1), (1, 2, 3)),
    )
    return dict(target_shape=target), _any(d, d.size(), a, b, c, fixed=fixed)


# ------------------------------------------------------------------- merging


@specify("Add", "Average", "Maximum", "Minimum", "Multiply")
def _(d):
    shape = d.sizes(d.pick(2, 3))
    count = d.size(2, 3)
    shapes = [shape] * count
    if d.flag():
        shapes[-1] = shape[:-1] + (1,)
    dtype = d.pick("float32", "float32", "int32")
    return {}, [Array(s, dtype, -9, 9, fixed=()) for s in shapes]


@specify("Subtract")
def _(d):
    shape = d.sizes(d.pick(2, 3))
    return {}, [Array(shape, fixed=())] * 2


@specify("Concatenate")
def _(d):
    shape = d.sizes(3)
    axis = d.pick(1, 2, -1)
    arrays = []
    for _ in range(d.size(2, 3)):
        other = list(shape)
        other[axis] = d.size()
        arrays.append(Array(tuple(other), fixed=(-1,)))
    return dict(axis=axis), arrays


@specify("Dot")
def _(d):
    b, n, m, k = d.sizes(4)
    shapes, axes = d.pick(
        (((b, n), (b, n)), 1),
        (((b, n, k), (b, m, k)), 2),
        (((b, n, k), (b, k, m)), (2, 1)),
        (((b, k, n), (b, k, m)), 1),
        (((b, n, k), (b, k)), (2, 1)),
    )
    options = dict(axes=axes, normalize=d.flag())
    # Keras wants to know none or both of the dims that are summed over.
    summed = axes if isinstance(axes, tuple) else (axes, axes)
    known = d.flag()
    return options, [
        Array(s, fixed=(i,) if known else ()) for s, i in zip(shapes, summed)
    ]


# ------------------------------------------------------------ regularization


def _noise(name, options, shape):
    def draw(d):
        return (
            dict(seed=d.size(0, 99), **{k: d.pick(*v) for k, v in options}),
            Array(d.sizes(shape or d.pick(1, 2, 3)), fixed=()),
            {},
            d.flag(),
        )

    specify(name)(draw)


_noise("AlphaDropout", [("rate", (0.1, 0.5))], None)
_noise("Dropout", [("rate", (0.1, 0.5))], None)
_noise("GaussianDropout", [("rate", (0.1, 0.5))], None)
_noise("GaussianNoise", [("stddev", (0.1, 0.9))], None)
_noise("SpatialDropout1D", [("rate", (0.5,))], 3)
_noise("SpatialDropout2D", [("rate", (0.5,))], 4)
_noise("SpatialDropout3D", [("rate", (0.5,))], 5)


@specify("ActivityRegularization")
def _(d):
    return dict(l1=0.1, l2=0.2), Array(d.sizes(2), fixed=())


# ----------------------------------------------------------------- attention


@specify("Attention", "AdditiveAttention")
def _(d):
    b, q, v, k = d.sizes(4)
    arrays = [Array((b, q, k)), Array((b, v, k))]
    if d.flag():
        arrays.append(Array((b, v, k)))
    call = {}
    if d.flag():
        call["mask"] = [
            Array((b, q), "bool", 0, 2, fixed=()),
            Array((b, v), "bool", 0, 2, fixed=()),
        ]
    call |= d.some(use_causal_mask=[True], return_attention_scores=[True])
    return d.some(use_scale=[True, False]), arrays, call


def _heads(d, options):
    b, q, v, k = d.sizes(4)
    same = d.flag()
    query = Array((b, q, k))
    value = Array((b, q if same else v, k))
    call = dict(value=value)
    if d.flag():
        call["key"] = value
    call |= d.some(
        use_causal_mask=[True],
        return_attention_scores=[True],
        attention_mask=[Array((b, q, value.shape[1]), "bool", 0, 2, fixed=())],
        query_mask=[Array((b, q), "bool", 0, 2, fixed=())],
        value_mask=[Array((b, value.shape[1]), "bool", 0, 2, fixed=())],
    )
    return (
        options | d.some(use_bias=[False], flash_attention=[False]),
        query,
        call,
    )


@specify("MultiHeadAttention")
def _(d):
    options = dict(num_heads=d.size(1, 3), key_dim=d.size(1, 4))
    options |= d.some(value_dim=[1, 3], output_shape=[2])
    return _heads(d, options)


@specify("GroupQueryAttention")
def _(d):
    key_heads = d.size(1, 2)
    options = dict(
        head_dim=d.size(1, 4),
        num_query_heads=key_heads * d.size(1, 2),
        num_key_value_heads=key_heads,
    )
    return _heads(d, options)


# ----------------------------------------------------------------- recurrent


def _cell(d, name):
    options = dict(units=d.size(1, 4))
    options |= d.some(use_bias=[False], activation=["relu", "sigmoid"])
    if name == "GRU":
        options["reset_after"] = d.flag()
    return options


def _sequences(d, *features):
    batch, steps = d.sizes(2)
    call = {}
    if d.flag():
        call = dict(mask=Array((batch, steps), "bool", 0, 2, fixed=()))
    return Array((batch, steps, *features)), call


def _loop_options(d):
    return d.some(
        return_sequences=[True],
        return_state=[True],
        go_backwards=[True],
        zero_output_for_mask=[True],
    )


@specify("GRU", "LSTM", "SimpleRNN")
def _(d, name):
    options = _cell(d, name) | _loop_options(d)
    array, call = _sequences(d, d.size())
    if d.pick(0, 0, 1):
        options["unroll"] = True
        # Keras on JAX does not do this where it unrolls.
        options.pop("zero_output_for_mask", None)
        array = array._replace(fixed=(1, 2))
    return options, array, call


@specify("RNN")
def _(d):
    kind = d.pick("GRU", "LSTM", "SimpleRNN")
    cell = New(kind + "Cell", _cell(d, kind))
    if d.flag():
        cells = [cell, New("SimpleRNNCell", dict(units=2))]
        cell = d.pick(New("StackedRNNCells", dict(cells=cells)), cells)
    return dict(cell=cell, **_loop_options(d)), *_sequences(d, d.size())


@specify("Bidirectional")
def _(d):
    kind = d.pick("GRU", "LSTM", "SimpleRNN")
    options = _cell(d, kind) | d.some(
        return_sequences=[True],
        return_state=[True],
        zero_output_for_mask=[True],
    )
    merge = d.pick("concat", "sum", "mul", "ave", None)
    return (
        dict(layer=New(kind, options), merge_mode=merge),
        *_sequences(d, d.size()),
    )


@specify("TimeDistributed")
def _(d):
    inner, features = d.pick(
        (New("Dense", dict(units=d.size())), d.sizes(1)),
        (New("Conv1D", dict(filters=2, kernel_size=2)), (4, 3)),
        (New("Flatten"), (2, 3)),
        (New("BatchNormalization"), (3,)),
    )
    array, call = _sequences(d, *features)
    return dict(layer=inner), array._replace(fixed=(-1,)), call


@specify("GRUCell", "LSTMCell", "SimpleRNNCell")
def _(d, name):
    options = _cell(d, name[:-4])
    batch, units = d.size(), options["units"]
    count = 2 if name == "LSTMCell" else 1
    return (
        options,
        Array((batch, d.size())),
        dict(states=[Array((batch, units))] * count),
    )


@specify("StackedRNNCells")
def _(d):
    batch = d.size()
    cells = [New("GRUCell", dict(units=2)), New("SimpleRNNCell", dict(units=3))]
    states = [[Array((batch, 2))], [Array((batch, 3))]]
    return dict(cells=cells), Array((batch, d.size())), dict(states=states)


def _conv_lstm(d, rank):
    shape, data_format, axis = _spatial(d, rank, 3, 4)
    steps = d.size(1, 3)
    shape = (shape[0], steps, *shape[1:])
    options = dict(
        filters=d.size(1, 2),
        kernel_size=d.size(1, 2),
        data_format=data_format,
        padding=d.pick("valid", "same"),
        **_loop_options(d),
    )
    return options, Array(shape, fixed=tuple(range(2, rank + 3)))


for _rank in (1, 2, 3):
    specify(f"ConvLSTM{_rank}D", rank=_rank)(_conv_lstm)


# ------------------------------------------------------------- preprocessing


@specify("CategoryEncoding")
def _(d):
    mode = d.pick("multi_hot", "one_hot", "count")
    shape = d.sizes(d.pick(1, 2))
    call = {}
    if mode == "count" and d.flag():
        call = dict(count_weights=Array(shape, fixed=()))
    if mode == "one_hot":
        shape = (shape[0], 1)
    return (
        dict(num_tokens=7, output_mode=mode),
        Array(shape, "int32", 0, 7, fixed=()),
        call,
    )


@specify("Discretization")
def _(d):
    mode = d.pick("int", "multi_hot", "one_hot", "count")
    shape = d.sizes(2)
    if mode == "one_hot":
        shape = (shape[0], 1)
    return (
        dict(bin_boundaries=[-1.0, 0.0, 0.5], output_mode=mode),
        Array(shape, fixed=() if mode == "int" else (-1,)),
    )


@specify("HashedCrossing")
def _(d):
    mode = d.pick("int", "one_hot")
    array = Array((d.size(), 1), "int64", 0, 99)
    return dict(num_bins=7, output_mode=mode), (array, array)


@specify("Hashing")
def _(d):
    mode = d.pick("int", "multi_hot", "one_hot", "count")
    shape = (d.size(), 1 if mode == "one_hot" else d.size())
    options = d.some(salt=[7, [1, 2]], mask_value=[3])
    return (
        dict(num_bins=7, output_mode=mode, **options),
        Array(shape, "int64", 0, 99),
    )


@specify("IntegerLookup")
def _(d):
    mode = d.pick("int", "multi_hot", "one_hot", "count")
    shape = (d.size(), 1 if mode == "one_hot" else d.size())
    return (
        dict(vocabulary=[3, 5, 8], output_mode=mode),
        Array(shape, "int64", 0, 9),
    )


@specify("StringLookup", only_eager="OpenVINO has no strings")
def _(d):
    mode = d.pick("int", "multi_hot", "one_hot", "count")
    shape = (d.size(), 1 if mode == "one_hot" else d.size())
    return (
        dict(vocabulary=["3", "5", "8"], output_mode=mode),
        Array(shape, "str", 0, 9),
    )


@specify("TextVectorization", only_eager="OpenVINO has no strings")
def _(d):
    mode = d.pick("int", "multi_hot", "count")
    return (
        dict(vocabulary=["3", "5", "8"], output_mode=mode),
        Array((d.size(), 1), "str", 0, 9),
    )


@specify("Normalization")
def _(d):
    axis = d.pick(-1, None)
    values = [0.5, 1.0, 2.0]
    mean, variance = (values, values) if axis else (0.5, 2.0)
    return (
        dict(axis=axis, mean=mean, variance=variance, invert=d.flag()),
        Array((*d.sizes(d.pick(1, 2)), 3)),
    )


@specify("Rescaling")
def _(d):
    options = dict(scale=d.pick(2.0, [1.0, 2.0, 3.0]), offset=d.pick(0.0, 1.0))
    dtype = d.pick("float32", "uint8", "int32")
    return options, Array((*d.sizes(2), 3), dtype, 0, 255)


@specify("MelSpectrogram")
def _(d):
    options = dict(
        fft_length=16,
        sequence_stride=d.size(3, 8),
        sampling_rate=100,
        num_mel_bins=d.size(2, 5),
        min_freq=1,
        **d.some(min_power=[1e-3]),
    )
    return options, Array((d.size(), d.size(40, 60)), fixed=())


@specify("STFTSpectrogram")
def _(d):
    options = dict(
        mode=d.pick("log", "magnitude", "psd", "real", "imag"),
        frame_length=d.size(8, 12),
        frame_step=d.size(3, 8),
        fft_length=16,
        padding=d.pick("valid", "same"),
        **d.some(expand_dims=[True], scaling=["density", "spectrum"]),
    )
    return options, Array((d.size(), d.size(40, 60), d.size(1, 2)))


# -------------------------------------------------------------------- images


def _images(d, first=True):
    """The data format, channels last if not `first`, and images."""
    batch, height, width = d.size(1, 3), *d.sizes(2, 4, 9)
    if first and d.pick(True, False, False):
        shape = (batch, 3, height, width)
        return "channels_first", Array(shape, "float32", 0, 255, fixed=(1,))
    shape = (batch, height, width, 3)
    return "channels_last", Array(shape, "float32", 0, 255)


@specify("CenterCrop", "RandomCrop")
def _(d, name):
    data_format, array = _images(d)
    options = dict(height=d.size(3, 10), width=d.size(3, 10))
    if name == "RandomCrop":
        options["seed"] = 1
    return dict(**options, data_format=data_format), array


@specify("Resizing")
def _(d):
    data_format, array = _images(d)
    options = dict(height=d.size(3, 10), width=d.size(3, 10))
    options |= d.some(
        interpolation=["nearest", "bicubic", "bilinear"],
    )
    options |= d.pick(
        {}, dict(crop_to_aspect_ratio=True), dict(pad_to_aspect_ratio=True)
    )
    return dict(**options, data_format=data_format), array


@specify("AutoContrast", "Solarization")
def _(d, name):
    data_format, array = _images(d)
    options = dict(value_range=(0, 255), data_format=data_format)
    if name == "Solarization":
        options |= dict(threshold_factor=(0.5, 0.5), seed=1)
    return options, array


@specify("ContrastLimitedAdaptiveHistogramEqualization")
def _(d):
    return dict(value_range=(0, 255)), _images(d, first=False)[1]


def equalized(images, layer, **_):
    """Of whole numbers, by one histogram for each channel.

    JAX multiplies by 1 / 255 where NumPy divides, and may take the next bin.
    """
    first = layer.arguments["data_format"] == "channels_first"
    axis = 1 if first else -1
    channels = []
    for channel in np.moveaxis(images.astype("int32"), axis, 0):
        total = np.cumsum(np.bincount(channel.ravel(), minlength=256))
        least = total[total > 0][0]
        table = (total - least) * 255 / (total[-1] - least)
        channels.append(np.clip(np.round(table), 0, 255)[channel])
    return np.stack(channels, axis).astype("float32")


@specify("Equalization", numpy=equalized)
def _(d):
    """As in training: models that Keras makes of it are cycles."""
    data_format, array = _images(d)
    options = dict(value_range=(0, 255), data_format=data_format)
    return options, array, {}, True


@specify("MaxNumBoundingBoxes")
def _(d):
    count = d.size()
    boxes = dict(
        boxes=Array((2, count, 4), "float32", 0, 9, fixed=(-1,)),
        labels=Array((2, count), "int32", 0, 9, fixed=()),
    )
    images = Array((2, 5, 5, 3), "float32", 0, 255)
    return (
        dict(max_number=d.size(), bounding_box_format="xyxy"),
        dict(images=images, bounding_boxes=boxes),
    )


RANDOM_IMAGE_LAYERS = {
    "CutMix": dict(),
    "MixUp": dict(),
    "RandAugment": dict(),
    "RandomBrightness": dict(factor=0.3),
    "RandomColorDegeneration": dict(factor=0.3),
    "RandomColorJitter": dict(
        brightness_factor=0.2, contrast_factor=0.3, hue_factor=0.1
    ),
    "RandomContrast": dict(factor=0.3),
    "RandomErasing": dict(),
    "RandomFlip": dict(),
    "RandomGaussianBlur": dict(),
    "RandomGrayscale": dict(factor=0.5),
    "RandomHue": dict(factor=0.3, value_range=(0, 255)),
    "RandomInvert": dict(),
    "RandomPerspective": dict(),
    "RandomPosterization": dict(factor=4),
    "RandomRotation": dict(factor=0.3),
    "RandomSaturation": dict(factor=0.5),
    "RandomSharpness": dict(factor=0.5, value_range=(0, 255)),
    "RandomShear": dict(x_factor=0.2, y_factor=0.2),
    "RandomTranslation": dict(height_factor=0.2, width_factor=0.3),
    "RandomZoom": dict(height_factor=0.3),
}


@specify(*RANDOM_IMAGE_LAYERS)
def _(d, name):
    data_format, array = _images(d)
    return (
        dict(
            seed=d.size(0, 99),
            data_format=data_format,
            **RANDOM_IMAGE_LAYERS[name],
        ),
        array,
        {},
        d.flag(),
    )


@specify("AugMix")
def _(d):
    """In training it draws from Python's generator, which has no seed."""
    data_format, array = _images(d)
    return dict(data_format=data_format), array


@specify(
    "RandomElasticTransform",
    only_eager="the size of a kernel depends on a random number",
)
def _(d):
    data_format, array = _images(d)
    return dict(seed=d.size(0, 99), data_format=data_format), array, {}, True


@specify("Pipeline")
def _(d):
    layers = [
        New("RandomFlip", dict(seed=1)),
        New("Rescaling", dict(scale=2.0)),
    ]
    return dict(layers=layers), _images(d, first=False)[1]
