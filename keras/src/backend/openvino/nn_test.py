import functools
import itertools
import math

import numpy as np
import pytest
import scipy.signal
import scipy.special

from keras.src.backend.openvino import interpret
from keras.src.backend.openvino import nn
from keras.src.backend.openvino import plans
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.testing import both_ways
from keras.src.backend.openvino.testing import compiled_models
from keras.src.backend.openvino.testing import node_types
from keras.src.backend.openvino.testing import run_compiled
from keras.src.backend.openvino.testing import trace

SMOOTH = np.concatenate(
    [np.linspace(-9, 9, 37), [0.0, -0.0, 1e-3, -1e-3, 80, -80, 1e4, -1e4]]
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ACTIVATIONS = {
    "celu": elu,
    "elu": elu,
    "gelu": lambda x: (
        x
        * scipy.special.expit(
            2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        )
    ),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "log_sigmoid": scipy.special.log_expit,
    "log_softmax": lambda x: scipy.special.log_softmax(x, axis=-1),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772),
    "sigmoid": scipy.special.expit,
    "silu": lambda x: x * scipy.special.expit(x),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "softmax": lambda x: scipy.special.softmax(x, axis=-1),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sparse_plus": lambda x: np.where(
        x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)
    ),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "tanh": np.tanh,
    "tanh_shrink": lambda x: x - np.tanh(x),
}


class TestActivations:
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_float64_is_float64(self, name):
        result = np.asarray(getattr(nn, name)(SMOOTH))
        assert result.dtype == np.float64
        np.testing.assert_allclose(
            result, ACTIVATIONS[name](SMOOTH), rtol=1e-12, atol=1e-11
        )

    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_float32_eager_and_compiled(self, name):
        x = SMOOTH.astype("float32")
        op, expected = getattr(nn, name), ACTIVATIONS[name](SMOOTH)
        for result in (np.asarray(op(x)), run_compiled(op, x)[0]):
            assert result.dtype == np.float32
            # At -1e4 the terms of squareplus cancel, on JAX too.
            atol = 1e-4 if name == "squareplus" else 2e-6
            np.testing.assert_allclose(result, expected, rtol=3e-6, atol=atol)

    @pytest.mark.parametrize("name", ACTIVATIONS)
    @pytest.mark.parametrize("dtype", ("float16", "bfloat16"))
    def test_halves_are_rounded_once(self, name, dtype):
        x = convert_to_tensor(normal(50) * 3, dtype)
        wide = np.asarray(x).astype("float64")
        result = getattr(nn, name)(x)
        assert result.dtype == dtype
        expected = convert_to_tensor(ACTIVATIONS[name](wide), dtype)
        result, expected = np.asarray(result), np.asarray(expected)
        # Of ties in the last bit of float32 a few go the other way.
        assert np.mean(result == expected) > 0.95
        np.testing.assert_allclose(
            result.astype("float64"),
            expected.astype("float64"),
            rtol=1e-2,
            atol=1e-6,
        )

    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_shapes_and_integers(self, name):
        op = getattr(nn, name)
        assert op(np.zeros((0, 3), "float32")).shape == (0, 3)
        if "softmax" not in name:
            assert np.asarray(op(np.float32(0.5))).shape == ()
        result = op(np.array([[-2, 0, 3]], "int32"))
        kept = name in ("relu", "hard_tanh")
        assert result.dtype == ("int32" if kept else "float32")

    def test_nan_goes_through(self):
        x = np.array([np.nan, np.inf, -np.inf], "float32")
        for name in ("relu", "sigmoid", "softplus", "elu", "hard_tanh"):
            result = np.asarray(getattr(nn, name)(x))
            assert np.isnan(result).tolist() == [True, False, False], name
        assert np.isnan(run_compiled(nn.softplus, x)[0][0])

    def test_softplus_in_the_tails(self):
        # OpenVINO's own SoftPlus is 8e-6 at -64.
        x = np.array([-64, -30, 30, 1e5, -1e5], "float32")
        result = run_compiled(nn.softplus, x)[0]
        np.testing.assert_allclose(result, [0, 0, 30, 1e5, 0], atol=1e-12)

    def test_softmax_of_all_axes_and_of_infinities(self):
        x = normal(2, 3)
        np.testing.assert_allclose(
            nn.softmax(x, axis=None), scipy.special.softmax(x)
        )
        x = np.array([[-np.inf, 0, 0], [1e30, 1e30, 0]])
        np.testing.assert_allclose(
            nn.softmax(x), [[0, 0.5, 0.5], [0.5, 0.5, 0]]
        )

    @pytest.mark.parametrize("axis", (0, 1, -1))
    def test_glu(self, axis):
        x = normal(4, 2, 6).astype("float32")
        value, gate = np.split(x, 2, axis)
        expected = value * scipy.special.expit(gate)
        for result in (
            nn.glu(x, axis),
            run_compiled(lambda x: nn.glu(x, axis), x)[0],
        ):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)

    def test_glu_refuses_what_it_cannot_halve(self):
        with pytest.raises(ValueError, match="divisible by 2"):
            nn.glu(np.zeros((2, 3)))

    @pytest.mark.parametrize("axis", (0, 1, 2))
    def test_sparsemax_of_one_supported_class(self, axis):
        x = np.moveaxis([[[0, 5.0, 1], [9, 0, 0]]], 2, axis)
        expected = np.moveaxis([[[0.0, 1, 0], [1, 0, 0]]], 2, axis)
        np.testing.assert_allclose(nn.sparsemax(x, axis), expected)
        x = x.astype("float32")
        for dynamic in (True, False):
            result = run_compiled(
                lambda x: nn.sparsemax(x, axis), x, dynamic=dynamic
            )[0]
            np.testing.assert_allclose(result, expected)

    def test_threshold_keeps_integers(self):
        x = np.array([1, 5], "int32")
        result = nn.threshold(x, 2, 9)
        assert result.dtype == "int32"
        assert result.tolist() == [9, 5]


# --------------------------------------------------- windows, by definition


def same_padding(size, reach, stride):
    total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def padded(x, kernel, strides, dilations, padding, value=0.0):
    """A channels-last array, padded as Keras's `"same"` does."""
    if padding == "valid":
        return x
    widths = [
        same_padding(n, (k - 1) * d + 1, s)
        for n, k, s, d in zip(x.shape[1:-1], kernel, strides, dilations)
    ]
    return np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=value)


def windows(x, kernel, strides, dilations):
    """For each place of the output its window: (batch, ..., taps, channels)."""
    places = [
        range(0, n - (k - 1) * d, s)
        for n, k, s, d in zip(x.shape[1:-1], kernel, strides, dilations)
    ]
    result = np.empty(
        (len(x), *map(len, places), math.prod(kernel), x.shape[-1])
    )
    for where in itertools.product(*(range(len(p)) for p in places)):
        window = x[
            (
                slice(None),
                *(
                    slice(p[i], p[i] + (k - 1) * d + 1, d)
                    for p, i, k, d in zip(places, where, kernel, dilations)
                ),
            )
        ]
        result[(slice(None), *where)] = window.reshape(len(x), -1, x.shape[-1])
    return result


def convolved(x, kernel, strides, dilations, padding):
    *size, group_channels, filters = kernel.shape
    groups = x.shape[-1] // group_channels
    taps = windows(
        padded(x, size, strides, dilations, padding), size, strides, dilations
    )
    flat = kernel.reshape(math.prod(size), group_channels, filters)
    return np.concatenate(
        [
            np.einsum("...tc,tcf->...f", part, weights)
            for part, weights in zip(
                np.split(taps, groups, -1), np.split(flat, groups, -1)
            )
        ],
        axis=-1,
    )


def with_float32(convolve, x, kernel, stride, padding, data_format, dilation):
    return convolve(
        x,
        kernel.astype("float32"),
        strides=stride,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation,
    )


def check_each_way(op, x, data_format, expected):
    """Compares `op(x, data_format)`, however it is run, channels last."""
    for way, result in each_way(op, x, data_format).items():
        np.testing.assert_allclose(
            result, expected, rtol=1e-4, atol=1e-5, err_msg=way
        )


def each_way(op, x, data_format):
    """What `op(x, data_format)` gives, channels last, by how it is run."""
    x = x.astype("float32")
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    axis = 1 if data_format == "channels_first" else x.ndim - 1
    unknown = tuple(i for i in range(x.ndim) if i != axis)

    def run(x):
        return op(x, data_format)

    results = {
        "eager": np.asarray(run(x)),
        "static": run_compiled(run, x, dynamic=False)[0],
        "dynamic": run_compiled(run, x, dynamic=unknown)[0],
    }
    if data_format == "channels_first":
        results = {k: np.moveaxis(v, 1, -1) for k, v in results.items()}
    return results


SIZES = {1: (9,), 2: (9, 8), 3: (6, 5, 7)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}
FORMATS = ("channels_last", "channels_first")


class TestConvolutions:
    @pytest.mark.parametrize("dims", (1, 2, 3))
    @pytest.mark.parametrize("data_format", FORMATS)
    @pytest.mark.parametrize("padding", ("same", "valid"))
    @pytest.mark.parametrize("stride, dilation", ((1, 1), (2, 1), (1, 2)))
    @pytest.mark.parametrize("groups", (1, 2))
    def test_conv(self, dims, data_format, padding, stride, dilation, groups):
        x = normal(2, *SIZES[dims], 4)
        kernel = normal(*KERNELS[dims], 4 // groups, 6, seed=1)
        expected = convolved(
            x, kernel, (stride,) * dims, (dilation,) * dims, padding
        )

        def op(x, data_format):
            arguments = stride, padding, data_format, dilation
            return with_float32(nn.conv, x, kernel, *arguments)

        check_each_way(op, x, data_format, expected)

    def test_conv_of_float64_and_integers_is_exact(self):
        x, kernel = normal(1, 7, 2), normal(3, 2, 3, seed=1)
        expected = convolved(x, kernel, (1,), (1,), "valid")
        np.testing.assert_allclose(nn.conv(x, kernel), expected, rtol=1e-13)
        x = np.array([[[2**40], [1]]])
        kernel = np.array([[[3]], [[1]]])
        assert nn.conv(x, kernel).tolist() == [[[3 * 2**40 + 1]]]

    def test_conv_of_traced_integers(self):
        x = np.arange(12, dtype="int32").reshape(1, 6, 2)
        kernel = np.arange(12, dtype="int32").reshape(3, 2, 2)
        expected = np.asarray(nn.conv(x, kernel))
        result = run_compiled(lambda x: nn.conv(x, kernel), x, dynamic=(0, 1))
        assert result[0].dtype == np.int32
        assert result[0].tolist() == expected.tolist()

    def test_conv_is_rounded_once_in_bfloat16(self):
        x = convert_to_tensor(normal(1, 9, 40), "bfloat16")
        kernel = convert_to_tensor(normal(3, 40, 4, seed=1), "bfloat16")
        wide = [np.asarray(v).astype("float64") for v in (x, kernel)]
        expected = convolved(*wide, (1,), (1,), "valid")
        result = nn.conv(x, kernel)
        assert result.dtype == "bfloat16"
        np.testing.assert_allclose(
            np.asarray(result).astype("float64"), expected, rtol=2**-8
        )

    def test_conv_takes_the_kernels_dtype(self):
        result = nn.conv(
            np.ones((1, 3, 1), "int32"), np.full((2, 1, 1), 0.5, "float32")
        )
        assert result.dtype == "float32"
        assert result.tolist() == [[[1], [1]]]

    def test_conv_of_an_empty_batch(self):
        kernel = np.ones((3, 2, 5), "float32")
        empty = np.zeros((0, 8, 2), "float32")
        assert np.asarray(nn.conv(empty, kernel)).shape == (0, 6, 5)
        result = run_compiled(lambda x: nn.conv(x, kernel), empty)[0]
        assert result.shape == (0, 6, 5)

    @pytest.mark.parametrize("channels_last", [True, False])
    def test_convolutions_without_filters(self, channels_last):
        data_format = f"channels_{'last' if channels_last else 'first'}"
        x = np.ones((1, 4, 4, 2) if channels_last else (1, 2, 4, 4), "float32")
        kernel = np.ones((2, 2, 2, 0), "float32")
        expected = (1, 3, 3, 0) if channels_last else (1, 0, 3, 3)
        for op in (nn.conv, nn.depthwise_conv):
            options = {"data_format": data_format}
            assert op(x, kernel, **options).shape == expected
            (result,) = run_compiled(lambda x: op(x, kernel, **options), x)
            assert result.shape == expected

    @pytest.mark.parametrize("dilation_rate", [1, 2])
    @pytest.mark.parametrize(
        "padding,strides,expected",
        [
            ("same", 1, (6, 0)),
            ("same", 2, (3, 0)),
            ("valid", 1, (4, 0)),
            ("valid", 2, (2, 0)),
        ],
    )
    @pytest.mark.parametrize(
        "op,kernel_shape",
        [
            (nn.conv, (3, 3, 4, 2)),
            (nn.conv, (3, 3, 2, 2)),
            (nn.depthwise_conv, (3, 3, 4, 2)),
        ],
    )
    def test_conv_along_no_places(
        self, op, kernel_shape, padding, strides, expected, dilation_rate
    ):
        if padding == "valid" and dilation_rate == 2:
            expected = ({1: 2, 2: 1}[strides], 0)
        kernel = np.ones(kernel_shape, "float32")
        filters = 8 if op is nn.depthwise_conv else 2

        def call(x):
            return op(x, kernel, strides, padding, None, dilation_rate)

        for batch in (0, 2):
            x = np.zeros((batch, 6, 0, 4), "float32")
            shape = (batch, *expected, filters)
            assert np.asarray(call(x)).shape == shape
            result = run_compiled(call, x, dynamic=(0,))[0]
            assert result.shape == shape

    @pytest.mark.parametrize("pool", [nn.max_pool, nn.average_pool])
    @pytest.mark.parametrize(
        "padding,expected", [("same", (4, 0)), ("valid", (3, 0))]
    )
    def test_pooling_along_no_places(self, pool, padding, expected):
        for batch in (0, 3):
            x = np.zeros((batch, 7, 0, 2), "float32")
            shape = (batch, *expected, 2)
            assert np.asarray(pool(x, 3, 2, padding)).shape == shape
            result = run_compiled(
                lambda x: pool(x, 3, 2, padding), x, dynamic=(0,)
            )[0]
            assert result.shape == shape

    def test_attention_to_no_keys_is_zero(self):
        query = np.ones((2, 3, 4, 5), "float32")
        key, value = np.ones((2, 0, 4, 5)), np.ones((2, 0, 4, 6))
        arrays = query, key.astype("float32"), value.astype("float32")
        expected = np.zeros((2, 3, 4, 6), "float32")
        eager = nn.dot_product_attention(*arrays)
        np.testing.assert_array_equal(np.asarray(eager), expected)
        result = run_compiled(nn.dot_product_attention, *arrays, dynamic=(0,))[
            0
        ]
        np.testing.assert_array_equal(result, expected)

    def test_fold_of_an_empty_batch(self):
        x = np.zeros((0, 8, 16), "float32")
        assert np.asarray(nn.fold(x, (5, 5), 2)).shape == (0, 2, 5, 5)

    @pytest.mark.parametrize("padding", ["same", "valid"])
    @pytest.mark.parametrize("size", [1, 3])
    @pytest.mark.parametrize("strides", [1, 2])
    def test_conv_transpose_along_no_places(self, padding, size, strides):
        kernel = np.ones((size, size, 3, 4), "float32")
        more = max(size - strides, 0) if padding == "valid" else 0

        def call(x):
            return nn.conv_transpose(x, kernel, strides, padding)

        for batch in (0, 2):
            x = np.zeros((batch, 6, 0, 4), "float32")
            shape = (batch, 6 * strides + more, more, 3)
            assert np.asarray(call(x)).shape == shape
            result = run_compiled(call, x, dynamic=(0,))[0]
            assert result.shape == shape
            assert not result.any()

    def test_errors(self):
        kernel = np.ones((3, 3, 2), "float32")
        with pytest.raises(ValueError, match="empty output"):
            nn.conv(np.ones((1, 2, 3), "float32"), kernel)
        with pytest.raises(ValueError, match="evenly divisible"):
            nn.conv(np.ones((1, 9, 4), "float32"), kernel)
        with pytest.raises(ValueError, match="must match the kernel's input"):
            nn.depthwise_conv(np.ones((1, 9, 4), "float32"), kernel)
        with pytest.raises(ValueError, match="Invalid padding 'full'"):
            nn.conv(np.ones((1, 9, 3), "float32"), kernel, padding="full")
        with pytest.raises(ValueError, match="`strides` must be"):
            nn.conv(np.ones((1, 9, 3), "float32"), kernel, strides=(1, 2))

    @pytest.mark.parametrize("dims", (1, 2))
    @pytest.mark.parametrize("data_format", FORMATS)
    @pytest.mark.parametrize("padding", ("same", "valid"))
    def test_depthwise_and_separable_conv(self, dims, data_format, padding):
        x = normal(2, *SIZES[dims], 3)
        depthwise = normal(*KERNELS[dims], 3, 2, seed=1)
        pointwise = normal(*(1,) * dims, 6, 5, seed=2)
        size = KERNELS[dims]
        as_groups = depthwise.reshape(*size, 1, 6)
        filtered = convolved(x, as_groups, (2,) * dims, (1,) * dims, padding)
        expected = convolved(
            filtered, pointwise, (1,) * dims, (1,) * dims, "valid"
        )
        depthwise = depthwise.astype("float32")
        pointwise = pointwise.astype("float32")

        def op(x, data_format):
            return nn.depthwise_conv(x, depthwise, 2, padding, data_format)

        check_each_way(op, x, data_format, filtered)

        def op(x, data_format):
            return nn.separable_conv(
                x, depthwise, pointwise, 2, padding, data_format
            )

        check_each_way(op, x, data_format, expected)

    @pytest.mark.parametrize("dims", (1, 2, 3))
    @pytest.mark.parametrize("data_format", FORMATS)
    @pytest.mark.parametrize("padding", ("same", "valid"))
    @pytest.mark.parametrize(
        "stride, dilation", ((1, 1), (2, 1), (3, 1), (1, 2))
    )
    def test_conv_transpose(self, dims, data_format, padding, stride, dilation):
        # It is the transpose of the convolution as a linear map.
        x = normal(2, *SIZES[dims], 3)
        kernel = normal(*(3,) * dims, 4, 3, seed=1)
        reach = 2 * dilation + 1
        upsampled = np.zeros(
            (2, *((n - 1) * stride + 1 for n in SIZES[dims]), 3)
        )
        upsampled[(slice(None), *(slice(None, None, stride),) * dims)] = x
        spread = np.zeros((*(reach,) * dims, 4, 3))
        spread[(slice(None, None, dilation),) * dims] = kernel
        full = np.stack(
            [
                [
                    sum(
                        scipy.signal.convolve(
                            row[..., c], spread[..., f, c], "full"
                        )
                        for c in range(3)
                    )
                    for f in range(4)
                ]
                for row in upsampled
            ]
        )
        full = np.moveaxis(full, 1, -1)
        if padding == "same":
            length = [n * stride for n in SIZES[dims]]
            before = (reach - 1) - min(
                math.ceil((stride + reach - 2) / 2), reach - 1
            )
        else:
            length = [
                (n - 1) * stride + max(reach, stride) for n in SIZES[dims]
            ]
            before = 0
        room = [(0, 0), *[(0, stride)] * dims, (0, 0)]
        expected = np.pad(full, room)[
            (slice(None), *(slice(before, before + n) for n in length))
        ]

        def op(x, data_format):
            arguments = stride, padding, data_format, dilation
            return with_float32(nn.conv_transpose, x, kernel, *arguments)

        check_each_way(op, x, data_format, expected)

    @pytest.mark.parametrize("output_padding", (0, 1))
    def test_conv_transpose_output_padding(self, output_padding):
        x = normal(1, 5, 2).astype("float32")
        kernel = normal(3, 4, 2, seed=1).astype("float32")
        for padding, expected in (("valid", 11), ("same", 9)):
            result = nn.conv_transpose(x, kernel, 2, padding, output_padding)
            assert result.shape == (1, expected + output_padding, 4)

    def test_large_ones_are_compiled(self, monkeypatch):
        # The weights are Parameters of the compiled model, for which the CPU
        # plugin wants static shapes; batches of any size share one.
        kernel = normal(3, 3, 32, 32).astype("float32")
        sizes = (1, 2, 3, 4)
        inputs = [normal(n, 16, 16, 32).astype("float32") for n in sizes]
        compiled = compiled_models(monkeypatch)
        monkeypatch.setattr(plans, "_plans", plans.Variants(8, 2**20))
        results = [np.asarray(nn.conv(x, kernel)) for x in inputs]
        assert len(compiled) == 2
        monkeypatch.setattr(interpret, "COMPILED_WORK", math.inf)
        for x, result in zip(inputs, results):
            np.testing.assert_allclose(
                result, nn.conv(x, kernel), rtol=1e-4, atol=1e-4
            )
        assert len(compiled) == 2


class TestPooling:
    @pytest.mark.parametrize("dims", (1, 2, 3))
    @pytest.mark.parametrize("data_format", FORMATS)
    @pytest.mark.parametrize("padding", ("same", "valid"))
    @pytest.mark.parametrize("strides", (None, 1, 3))
    def test_pooling(self, dims, data_format, padding, strides):
        x = normal(2, *SIZES[dims], 3) - 5
        size = KERNELS[dims]
        steps = size if strides is None else (strides,) * dims
        ones = (1,) * dims
        gaps = padded(x, size, steps, ones, padding, np.nan)
        taps = windows(gaps, size, steps, ones)
        for pool, reference in (
            (nn.max_pool, np.nanmax),
            (nn.average_pool, np.nanmean),
        ):
            expected = reference(taps, axis=-2)

            def op(x, data_format):
                return pool(x, size, strides, padding, data_format)

            for way, result in each_way(op, x, data_format).items():
                np.testing.assert_allclose(
                    result, expected, rtol=1e-5, atol=1e-6, err_msg=way
                )

    @pytest.mark.parametrize("dims", (1, 2, 3))
    @pytest.mark.parametrize("data_format", FORMATS)
    @pytest.mark.parametrize("size", (1, 4, (7, 3, 5)))
    def test_adaptive_pooling(self, dims, data_format, size):
        x = normal(2, *SIZES[dims], 3)
        size = size if isinstance(size, int) else size[:dims]
        sizes = (size,) * dims if isinstance(size, int) else size
        for pool, reference in (
            (nn.adaptive_max_pool, np.max),
            (nn.adaptive_average_pool, np.mean),
        ):
            expected = np.empty((2, *sizes, 3))
            for where in np.ndindex(*sizes):
                window = x[
                    (
                        slice(None),
                        *(
                            slice(i * n // s, math.ceil((i + 1) * n / s))
                            for i, n, s in zip(where, SIZES[dims], sizes)
                        ),
                    )
                ]
                expected[(slice(None), *where)] = reference(
                    window, axis=tuple(range(1, dims + 1))
                )

            def op(x, data_format):
                return pool(x, size, data_format)

            for way, result in each_way(op, x, data_format).items():
                np.testing.assert_allclose(
                    result, expected, rtol=1e-5, atol=1e-6, err_msg=way
                )

    def test_max_pool_of_integers_is_exact(self):
        x = np.array([[[2**40], [2**40 + 1], [-(2**40)]]])
        assert nn.max_pool(x, 2, 1).tolist() == [[[2**40 + 1]] * 2]
        x = np.array([[[-7], [-9], [3]]], "int32")
        result = run_compiled(lambda x: nn.max_pool(x, 2, 1, "same"), x)[0]
        assert result.tolist() == [[[-7], [3], [3]]]

    def test_average_pool_of_integers_is_float(self):
        result = nn.average_pool(np.array([[[1], [2]]], "int32"), 2)
        assert result.dtype == "float32"
        assert result.tolist() == [[[1.5]]]


class TestEncoding:
    @pytest.mark.parametrize("axis", (0, 1, -1))
    @pytest.mark.parametrize("dtype", ("float32", "int32", "bool", "bfloat16"))
    def test_one_hot(self, axis, dtype):
        labels = np.array([[0, 3, -1], [4, 2, 99]], "int32")
        hot = labels[..., None] == np.arange(4)
        expected = np.moveaxis(hot, -1, axis)

        def op(x):
            return nn.one_hot(x, 4, axis=axis, dtype=dtype)

        assert op(labels).dtype == dtype
        for result in (np.asarray(op(labels)), run_compiled(op, labels)[0]):
            assert result.dtype.name == dtype
            assert (result == expected).all()

    @pytest.mark.parametrize("dtype", ("uint8", "int8", "uint32", "int64"))
    def test_one_hot_of_other_labels(self, dtype):
        result = np.asarray(nn.one_hot(np.array([1, 3], dtype), 3))
        assert result.tolist() == [[0, 1, 0], [0, 0, 0]]

    def test_multi_hot(self):
        labels = np.array([[0, 3, 3], [-1, 2, 9]], "int32")
        expected = [[1, 0, 0, 1], [0, 0, 1, 0]]
        assert nn.multi_hot(labels, 4).tolist() == expected
        result = run_compiled(lambda x: nn.multi_hot(x, 4), labels)[0]
        assert result.tolist() == expected
        assert nn.multi_hot(labels[0], 4, dtype="int8").tolist() == expected[0]
        assert nn.multi_hot(labels[:, :0], 2).tolist() == [[0, 0], [0, 0]]

    def test_sparse_is_refused(self):
        with pytest.raises(ValueError, match="sparse"):
            nn.one_hot([1], 2, sparse=True)


class TestLosses:
    logits = (normal(5, 4) * 5).astype("float32")
    labels = np.array([0, 3, 1, 2, 9], "int32")  # the last one is of no class
    hot = (labels[:, None] == np.arange(4)).astype("float32")

    @pytest.mark.parametrize("from_logits", (True, False))
    @pytest.mark.parametrize("axis", (-1, 0))
    def test_categorical(self, from_logits, axis):
        probabilities = scipy.special.softmax(self.logits, axis=-1)
        output = self.logits if from_logits else 3 * probabilities
        log_prob = np.log(np.clip(probabilities, 1e-7, 1 - 1e-7))
        if from_logits:
            log_prob = scipy.special.log_softmax(self.logits, axis=-1)
        expected = -np.sum(self.hot * log_prob, axis=-1)
        target = self.hot
        if axis == 0:
            target, output = target.T, output.T

        def op(target, output):
            return nn.categorical_crossentropy(
                target, output, from_logits=from_logits, axis=axis
            )

        for (result,) in both_ways(op, target, output):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("from_logits", (True, False))
    @pytest.mark.parametrize("column", (True, False))
    def test_sparse_categorical(self, from_logits, column):
        output = self.logits
        if not from_logits:
            output = scipy.special.softmax(output, axis=-1)
        labels = self.labels[:, None] if column else self.labels
        expected = np.asarray(
            nn.categorical_crossentropy(
                self.hot, output, from_logits=from_logits
            )
        )

        def op(target, output):
            return nn.sparse_categorical_crossentropy(
                target, output, from_logits=from_logits
            )

        for (result,) in both_ways(op, labels, output):
            np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)

    def test_binary(self):
        logits = np.array([-80, -20, 0, 3, 80], "float32")
        target = np.array([0, 1, 0.5, 1, 0], "float32")
        expected = np.logaddexp(0, logits.astype("float64")) - target * logits

        def op(target, output):
            return nn.binary_crossentropy(target, output, from_logits=True)

        for (result,) in both_ways(op, target, logits):
            np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-8)
        probabilities = scipy.special.expit(logits)
        for (result,) in both_ways(
            nn.binary_crossentropy, target, probabilities
        ):
            # Probabilities are cut off at 1e-7.
            assert result[1] == result.max()
            np.testing.assert_allclose(result[1], -math.log(1e-7), rtol=1e-5)
            np.testing.assert_allclose(result[2:4], expected[2:4], rtol=1e-5)

    def test_errors(self):
        with pytest.raises(ValueError, match="must have the same shape"):
            nn.binary_crossentropy(np.zeros(3), np.zeros(4))
        with pytest.raises(ValueError, match="must have the same shape"):
            nn.categorical_crossentropy(np.zeros((2, 3)), np.zeros((2, 4)))
        with pytest.raises(ValueError, match="up until the last dimension"):
            nn.sparse_categorical_crossentropy(np.zeros(3), np.zeros((2, 4)))
        with pytest.raises(ValueError, match="at least rank 1"):
            nn.categorical_crossentropy(np.float32(1), np.float32(1))


class TestNormalisation:
    @pytest.mark.parametrize("axes", ([0], [1], [0, 2], (-1,), [0, 1, 2]))
    @pytest.mark.parametrize("keepdims", (True, False))
    def test_moments(self, axes, keepdims):
        x = normal(3, 4, 5).astype("float32") + 100
        axis = tuple(axes)
        expected = [
            f(x.astype("float64"), axis=axis, keepdims=keepdims)
            for f in (np.mean, np.var)
        ]
        for results in both_ways(lambda x: nn.moments(x, axes, keepdims), x):
            for result, reference in zip(results, expected):
                assert result.shape == reference.shape
                np.testing.assert_allclose(result, reference, rtol=1e-4)

    def test_moments_of_halves_stay_finite(self):
        x = np.array([6e4, -6e4], "float16")
        mean, variance = nn.moments(x, [0])
        assert mean.dtype == variance.dtype == "float16"
        assert float(variance) == 65504

    def test_moments_across_devices_are_refused(self):
        with pytest.raises(NotImplementedError, match="synchronized"):
            nn.moments(np.zeros(3), [0], synchronized=True)

    @pytest.mark.parametrize("axis", (1, -1))
    def test_batch_normalization(self, axis):
        x = normal(2, 4, 4, seed=1).astype("float32")
        mean, variance, offset, scale = (
            np.abs(normal(4, seed=i)).astype("float32") + 0.1
            for i in range(2, 6)
        )
        placed = (1, 4, 1) if axis == 1 else (1, 1, 4)
        m, v, o, s = (
            a.reshape(placed).astype("float64")
            for a in (mean, variance, offset, scale)
        )
        expected = (x - m) / np.sqrt(v + 1e-3) * s + o

        def op(x):
            return nn.batch_normalization(
                x, mean, variance, axis, offset, scale
            )

        for (result,) in both_ways(op, x):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def attention(query, key, value, bias=0.0, mask=None, scale=None, causal=False):
    query, key, value = (
        np.moveaxis(x.astype("float64"), 1, 2) for x in (query, key, value)
    )
    groups = query.shape[1] // key.shape[1]
    key, value = (np.repeat(x, groups, axis=1) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = query @ np.swapaxes(key, -1, -2) * scale + bias
    allowed = np.ones(logits.shape, bool) if mask is None else mask
    if causal:
        allowed = allowed & np.tri(*logits.shape[-2:], dtype=bool)
    logits = np.where(allowed, logits, -1e38)
    return np.moveaxis(scipy.special.softmax(logits, -1) @ value, 1, 2)


class TestAttention:
    query = normal(2, 5, 4, 8).astype("float32")
    key = normal(2, 7, 4, 8, seed=1).astype("float32")
    value = normal(2, 7, 4, 8, seed=2).astype("float32")
    bias = normal(2, 4, 5, 7, seed=3).astype("float32")
    mask = normal(2, 1, 5, 7, seed=4) > -0.3
    mask[0, 0, 2] = False  # a query that may attend to nothing

    @pytest.mark.parametrize("with_bias", (False, True))
    @pytest.mark.parametrize("with_mask", (False, True))
    @pytest.mark.parametrize("causal", (False, True))
    @pytest.mark.parametrize("scale", (None, 0.7))
    def test_attention(self, with_bias, with_mask, causal, scale):
        extra = {}
        if with_bias:
            extra["bias"] = self.bias
        if with_mask:
            extra["mask"] = self.mask
        inputs = self.query, self.key, self.value
        expected = attention(*inputs, **extra, scale=scale, causal=causal)

        def op(query, key, value, *rest):
            return nn.dot_product_attention(
                query,
                key,
                value,
                **dict(zip(extra, rest)),
                scale=scale,
                is_causal=causal,
            )

        arrays = *inputs, *extra.values()
        eager = np.asarray(op(*arrays))
        np.testing.assert_allclose(eager, expected, rtol=1e-4, atol=1e-5)
        for dynamic in ((0, 1), False):
            if dynamic and extra:
                dynamic = (0,)
            (result,) = run_compiled(op, *arrays, dynamic=dynamic)
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)

    def test_grouped_queries(self):
        inputs = self.query, self.key[:, :, :2], self.value[:, :, :2]
        expected = attention(*inputs)
        result = nn.dot_product_attention(*inputs)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
        (result,) = run_compiled(
            nn.dot_product_attention, *inputs, dynamic=(0, 1)
        )
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("flash_attention", [None, False, True])
    def test_is_one_fused_node(self, flash_attention):
        op = functools.partial(
            nn.dot_product_attention, flash_attention=flash_attention
        )
        model = trace(op, self.query, self.key, self.value)
        assert "ScaledDotProductAttention" in node_types(model)

    def test_halves_are_computed_in_float32(self):
        inputs = [
            convert_to_tensor(x * 20, "float16")
            for x in (self.query, self.key, self.value)
        ]
        result = nn.dot_product_attention(*inputs, mask=self.mask)
        assert result.dtype == "float16"
        expected = attention(*map(np.asarray, inputs), mask=self.mask)
        np.testing.assert_allclose(
            np.asarray(result).astype("float64"), expected, rtol=2e-3, atol=2e-3
        )

    def test_errors(self):
        with pytest.raises(ValueError, match="only supports 4D inputs"):
            nn.dot_product_attention(*[np.zeros((2, 3, 4))] * 3)
        with pytest.raises(ValueError, match="as many heads"):
            nn.dot_product_attention(
                self.query, self.key[:, :, :3], self.value[:, :, :3]
            )
        with pytest.raises(NotImplementedError, match="soft_cap"):
            nn.dot_product_attention(
                self.query, self.key, self.value, attn_logits_soft_cap=1.0
            )


class TestRearrangement:
    @pytest.mark.parametrize(
        "shape, expected",
        [
            ((1, 1, 0, 4), (1, 4, 0)),
            ((0, 1, 4, 4), (0, 4, 4)),
            ((2, 0, 5, 4), (2, 0, 6)),
        ],
    )
    def test_unfolding_nothing(self, shape, expected):
        x = np.zeros(shape, "float32")
        for (result,) in both_ways(
            lambda x: nn.unfold(x, 2, dilation=2), x, dynamic=False
        ):
            assert result.shape == expected

    @pytest.mark.parametrize("dilation", (1, 2))
    @pytest.mark.parametrize("padding", (0, (2, 1)))
    @pytest.mark.parametrize("stride", (1, (2, 3)))
    def test_unfold_and_fold(self, dilation, padding, stride):
        x = normal(2, 3, 8, 9).astype("float32")
        kernel = (3, 2)
        top, left = (padding, padding) if padding == 0 else padding
        steps = (stride, stride) if stride == 1 else stride
        framed = np.pad(x, [(0, 0), (0, 0), (top, top), (left, left)])
        taps = windows(
            np.moveaxis(framed, 1, -1), kernel, steps, (dilation, dilation)
        )
        # (batch, rows, columns, taps, channels)
        expected = np.transpose(taps, (0, 4, 3, 1, 2)).reshape(2, 18, -1)

        def op(x):
            return nn.unfold(x, kernel, dilation, padding, stride)

        for (result,) in both_ways(op, x):
            np.testing.assert_array_equal(result, expected.astype("float32"))

        # Folding is the transpose of unfolding.
        blocks = normal(*expected.shape, seed=1).astype("float32")

        def op(blocks):
            return nn.fold(blocks, (8, 9), kernel, dilation, padding, stride)

        for (result,) in both_ways(op, blocks):
            assert result.shape == x.shape
            np.testing.assert_allclose(
                np.vdot(result, x), np.vdot(blocks, expected), rtol=1e-4
            )

    @pytest.mark.parametrize("data_format", FORMATS)
    def test_depth_and_space(self, data_format):
        x = np.arange(2 * 2 * 3 * 8, dtype="float32").reshape(2, 2, 3, 8)
        # Channels that are last are split as (row, column, channel); those
        # that are first as (channel, row, column).
        if data_format == "channels_last":
            parts = x.reshape(2, 2, 3, 2, 2, 2)
            expected = np.einsum("nhwijc->nhiwjc", parts).reshape(2, 4, 6, 2)
        else:
            parts = np.moveaxis(x, -1, 1).reshape(2, 2, 2, 2, 2, 3)
            expected = np.einsum("ncijhw->nchiwj", parts).reshape(2, 2, 4, 6)
            x = np.moveaxis(x, -1, 1)
        for (result,) in both_ways(
            lambda x: nn.depth_to_space(x, 2, data_format), x
        ):
            np.testing.assert_array_equal(result, expected)
        for (result,) in both_ways(
            lambda x: nn.space_to_depth(x, 2, data_format), expected
        ):
            np.testing.assert_array_equal(result, x)

    def test_psnr(self):
        x1 = normal(3, 4).astype("float32")
        x2 = x1 + normal(3, 4, seed=1).astype("float32")
        mse = np.mean(np.square(x1.astype("float64") - x2))
        expected = 20 * math.log10(2) - 10 * math.log10(mse)
        for (result,) in both_ways(lambda a, b: nn.psnr(a, b, 2), x1, x2):
            np.testing.assert_allclose(result, expected, rtol=1e-5)
        with pytest.raises(ValueError, match="must match for PSNR"):
            nn.psnr(x1, x2[:2], 2)


@pytest.mark.parametrize("name", ["relu", "hard_tanh"])
def test_activations_of_bool(name):
    x = np.array([True, False])
    for dynamic in (False, True):
        (result,) = run_compiled(getattr(nn, name), x, dynamic=dynamic)
        np.testing.assert_array_equal(result, [1, 0])
    np.testing.assert_array_equal(getattr(nn, name)(x), [1, 0])
