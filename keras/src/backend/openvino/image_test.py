"""Tests of `keras.ops.image` on OpenVINO, against SciPy and float64 NumPy."""

import colorsys

import numpy as np
import pytest
from scipy import ndimage

from keras.src import ops
from keras.src.backend.openvino import image
from keras.src.backend.openvino.testing import run_compiled

IMAGES = np.random.RandomState(0).rand(2, 17, 23, 3).astype("float32")
FORMATS = ["channels_last", "channels_first"]


def in_format(images, data_format):
    last = data_format == "channels_last"
    return images if last else np.moveaxis(images, -1, -3)


def check(call, images, expected, tolerance=1e-5):
    """Compares a call, eager and compiled with and without known dims."""
    results = [np.asarray(call(ops.convert_to_tensor(images)))]
    for dynamic in (True, False):
        results += run_compiled(call, images, dynamic=dynamic)
    for result in results:
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)


# ------------------------------------------------------------------- filters

KERNELS = {
    "bilinear": (1, lambda x: 1 - x),
    "bicubic": (
        2,
        lambda x: np.where(
            x < 1,
            1.5 * x**3 - 2.5 * x**2 + 1,
            -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2,
        ),
    ),
    "lanczos3": (3, lambda x: np.sinc(x) * np.sinc(x / 3)),
    "lanczos5": (5, lambda x: np.sinc(x) * np.sinc(x / 5)),
}


def resampling(dim, size, scale, translation, method, antialias):
    """The weight of each old pixel (columns) in each new one (rows)."""
    radius, kernel = KERNELS[method]
    stretch = max(1 / scale, 1) if antialias else 1
    sample = (np.arange(size) + 0.5 - translation) / scale - 0.5
    x = np.abs(sample[:, None] - np.arange(dim)) / stretch
    weights = np.where(x < radius, kernel(x), 0)
    inside = (sample >= -0.5) & (sample <= dim - 0.5)
    weights[inside] /= weights[inside].sum(axis=1, keepdims=True)
    return weights * inside[:, None]


def resized(images, size, method, antialias):
    for axis, target in zip((-3, -2), size):
        dim = images.shape[axis]
        weights = resampling(dim, target, target / dim, 0, method, antialias)
        moved = np.moveaxis(images.astype("float64"), axis, -1)
        images = np.moveaxis(moved @ weights.T, -1, axis)
    return images


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize("size", [(8, 40), (1, 23)])
def test_resize(method, antialias, size):
    check(
        lambda x: image.resize(x, size, method, antialias),
        IMAGES,
        resized(IMAGES, size, method, antialias),
    )


@pytest.mark.parametrize("data_format", FORMATS)
def test_resize_in_both_formats_and_ranks(data_format):
    for images in (IMAGES, IMAGES[0]):
        for method in ("bilinear", "bicubic"):
            expected = resized(images, (9, 11), method, False)
            check(
                lambda x: image.resize(
                    x, (9, 11), method, data_format=data_format
                ),
                in_format(images, data_format),
                in_format(expected, data_format),
            )


@pytest.mark.parametrize("size", [(8, 11), (40, 31), (1, 1)])
def test_resize_nearest(size):
    rows = (2 * np.arange(size[0]) + 1) * 17 // (2 * size[0])
    columns = (2 * np.arange(size[1]) + 1) * 23 // (2 * size[1])
    integers = (IMAGES * 255).astype("uint8")
    for images in (IMAGES, integers):
        check(
            lambda x: image.resize(x, size, "nearest"),
            images,
            images[:, rows][:, :, columns],
            tolerance=0,
        )


def test_resize_cropped_to_aspect_ratio():
    check(
        lambda x: image.resize(x, (8, 30), crop_to_aspect_ratio=True),
        IMAGES,
        resized(IMAGES[:, 5:11], (8, 30), "bilinear", False),
    )


def test_resize_padded_to_aspect_ratio():
    pads = ((0, 0), (0, 0), (20, 20), (0, 0))
    padded = np.pad(IMAGES, pads, constant_values=0.5)
    check(
        lambda x: image.resize(
            x, (8, 30), pad_to_aspect_ratio=True, fill_value=0.5
        ),
        IMAGES,
        resized(padded, (8, 30), "bilinear", False),
    )


@pytest.mark.parametrize("antialias", [False, True])
def test_scale_and_translate(antialias):
    expected = IMAGES.astype("float64")
    for axis, size, scale, move in ((1, 20, 1.3, 2.0), (2, 15, 0.6, -1.5)):
        dim = expected.shape[axis]
        weights = resampling(dim, size, scale, move, "bicubic", antialias)
        moved = np.moveaxis(expected, axis, -1)
        expected = np.moveaxis(moved @ weights.T, -1, axis)
    check(
        lambda x: image.scale_and_translate(
            x,
            (2, 20, 15, 3),
            ops.convert_to_tensor([1.3, 0.6]),
            ops.convert_to_tensor([2.0, -1.5]),
            (1, 2),
            "cubic",
            antialias,
        ),
        IMAGES,
        expected,
    )


@pytest.mark.parametrize("data_format", FORMATS)
def test_gaussian_blur(data_format):
    def gaussian(size, sigma):
        x = (np.arange(size) - (size - 1) / 2) / sigma
        return np.exp(-0.5 * x**2) / np.exp(-0.5 * x**2).sum()

    expected = IMAGES.astype("float64")
    for axis, kernel in ((2, gaussian(5, 1.2)), (1, gaussian(3, 0.7))):
        expected = ndimage.correlate1d(
            expected, kernel, axis=axis, mode="constant"
        )
    check(
        lambda x: image.gaussian_blur(x, (5, 3), (1.2, 0.7), data_format),
        in_format(IMAGES, data_format),
        in_format(expected, data_format),
    )


@pytest.mark.parametrize("data_format", FORMATS)
def test_sobel_edges(data_format):
    down = np.outer((-1, 0, 1), (1, 2, 1))
    edges = [
        ndimage.correlate(
            IMAGES.astype("float64"), kernel[None, :, :, None], mode="constant"
        )
        for kernel in (down, down.T)
    ]
    edges = [in_format(edge, data_format) for edge in edges]
    check(
        lambda x: image.sobel_edges(x, data_format),
        in_format(IMAGES, data_format),
        np.stack(edges, axis=-1),
    )


# -------------------------------------------------------------------- colors


@pytest.mark.parametrize("data_format", FORMATS)
def test_colors(data_format):
    pixels = np.concatenate(
        [IMAGES[0].reshape(-1, 3), [[0, 0, 0], [1, 1, 1], [1, 0, 1]]]
    ).astype("float32")
    hsv = np.array([colorsys.rgb_to_hsv(*p) for p in pixels.astype("float64")])
    picture = in_format(pixels[None], data_format)
    expected = in_format(hsv[None], data_format)

    def static(call, x):
        eager = call(ops.convert_to_tensor(x))
        return [np.asarray(eager), *run_compiled(call, x, dynamic=False)]

    for result in static(lambda x: image.rgb_to_hsv(x, data_format), picture):
        np.testing.assert_allclose(result, expected, atol=1e-5)
    for result in static(
        lambda x: image.hsv_to_rgb(x, data_format), expected.astype("float32")
    ):
        np.testing.assert_allclose(result, picture, atol=1e-5)
    gray = in_format(pixels[None] @ [[0.2989], [0.5870], [0.1140]], data_format)
    for result in static(
        lambda x: image.rgb_to_grayscale(x, data_format), picture
    ):
        np.testing.assert_allclose(result, gray, atol=1e-6)


# ------------------------------------------------------------------ sampling

# What SciPy calls the fill modes that Keras means.
SCIPY_MODES = {
    "constant": "grid-constant",
    "nearest": "nearest",
    "wrap": "grid-wrap",
    "mirror": "mirror",
    "reflect": "reflect",
}


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("fill_mode", SCIPY_MODES)
def test_map_coordinates(fill_mode, order):
    x = IMAGES[0]
    coordinates = np.random.RandomState(1).uniform(-30, 50, (3, 40, 5))
    coordinates = coordinates.astype("float32")
    expected = ndimage.map_coordinates(
        x.astype("float64"),
        coordinates,
        order=order,
        mode=SCIPY_MODES[fill_mode],
        cval=7,
    )
    check(
        lambda x: image.map_coordinates(x, coordinates, order, fill_mode, 7),
        x,
        expected,
        tolerance=1e-4,
    )


def test_map_coordinates_rounds_integers():
    x = np.array([0, 1, 255, 0], "uint8")
    coordinates = np.array([[0.5, 1.5, 2.5, 2.75, 9.0]], "float32")
    check(
        lambda x: image.map_coordinates(x, coordinates, 1),
        x,
        np.array([1, 128, 128, 64, 0]),
    )


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("fill_mode", SCIPY_MODES)
def test_affine_transform(fill_mode, data_format):
    a = np.array(
        [[1.1, 0.2, -2, 0.1, 0.9, 3, 0, 0], [0.8, -0.2, 2, 0.3, 1.2, -3, 0, 0]],
        "float32",
    )
    expected = np.empty(IMAGES.shape)
    y, x = np.mgrid[:17, :23]
    for i in range(2):
        rows = a[i, 3] * x + a[i, 4] * y + a[i, 5]
        columns = a[i, 0] * x + a[i, 1] * y + a[i, 2]
        for c in range(3):
            expected[i, ..., c] = ndimage.map_coordinates(
                IMAGES[i, ..., c].astype("float64"),
                [rows, columns],
                order=1,
                mode=SCIPY_MODES[fill_mode],
                cval=0.5,
            )
    check(
        lambda images: image.affine_transform(
            images, a, "bilinear", fill_mode, 0.5, data_format
        ),
        in_format(IMAGES, data_format),
        in_format(expected, data_format),
        tolerance=1e-4,
    )
    single = np.asarray(
        image.affine_transform(
            in_format(IMAGES[0], data_format),
            a[0],
            "bilinear",
            fill_mode,
            0.5,
            data_format,
        )
    )
    one = in_format(expected[0], data_format)
    np.testing.assert_allclose(single, one, atol=1e-4)


def test_homography_maps_end_points_to_start_points():
    corners = np.array([[0, 0], [22, 0], [0, 16], [22, 16]], "float32")
    end = corners + np.array([[2, 3], [-3, 1], [1, -2], [-4, -1]], "float32")
    (h,) = np.asarray(image.compute_homography_matrix(corners[None], end[None]))
    matrix = np.append(h, 1).reshape(3, 3)
    mapped = np.c_[end, np.ones(4)] @ matrix.T
    np.testing.assert_allclose(
        mapped[:, :2] / mapped[:, 2:], corners, atol=1e-3
    )


@pytest.mark.parametrize("data_format", FORMATS)
def test_perspective_transform_by_a_shift(data_format):
    start = np.array([[0, 0], [22, 0], [0, 16], [22, 16]], "float32")
    expected = np.full(IMAGES.shape, 0.5)
    expected[:, 2:, 3:] = IMAGES[:, :-2, :-3]
    check(
        lambda x: image.perspective_transform(
            x,
            start,
            start + np.array([3, 2], "float32"),
            fill_value=0.5,
            data_format=data_format,
        ),
        in_format(IMAGES, data_format),
        in_format(expected, data_format),
        tolerance=1e-4,
    )


@pytest.mark.parametrize("data_format", FORMATS)
def test_elastic_transform(data_format):
    def call(x):
        return image.elastic_transform(
            x, alpha=3.0, sigma=0.8, seed=5, data_format=data_format
        )

    images = in_format(IMAGES, data_format)
    eager = np.asarray(call(ops.convert_to_tensor(images)))
    assert np.abs(eager - images).max() > 0.1
    check(call, images, eager, tolerance=1e-4)
    check(call, np.ones_like(images), np.ones(images.shape))


@pytest.mark.parametrize(
    "call",
    [
        lambda: image.resize(IMAGES, (5, 5), "spline"),
        lambda: image.resize(IMAGES, (5, 5, 5)),
        lambda: image.resize(IMAGES[0, 0], (5, 5)),
        lambda: image.resize(IMAGES, (5, 5), fill_mode="reflect"),
        lambda: image.affine_transform(IMAGES, np.ones((1, 1, 8), "float32")),
        lambda: image.map_coordinates(IMAGES, np.zeros((3, 2)), 1),
        lambda: image.map_coordinates(IMAGES[0], np.zeros((3, 2)), 2),
        lambda: image.rgb_to_hsv(np.zeros((2, 2, 3), "uint8")),
        lambda: image.rgb_to_grayscale(np.zeros((2, 2, 4))),
        lambda: image.resize(np.zeros((1, 0, 4, 1)), (2, 2)),
    ],
)
def test_errors_name_what_they_got(call):
    with pytest.raises(ValueError, match="Received"):
        call()
