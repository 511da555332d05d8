"""`keras.ops.image` on OpenVINO."""

import functools
import itertools
import math
import operator

import ml_dtypes
import numpy as np

from keras.src.backend.config import standardize_data_format
from keras.src.backend.openvino import numpy as ops
from keras.src.backend.openvino import random
from keras.src.backend.openvino.common import at_least_float32
from keras.src.backend.openvino.common import canonical_axis
from keras.src.backend.openvino.common import gather
from keras.src.backend.openvino.common import in_float32
from keras.src.backend.openvino.common import known_dim
from keras.src.backend.openvino.common import larger
from keras.src.backend.openvino.common import smaller
from keras.src.backend.openvino.common import to_float
from keras.src.backend.openvino.dtypes import is_float
from keras.src.backend.openvino.dtypes import is_integer
from keras.src.backend.openvino.dtypes import result_type
from keras.src.backend.openvino.linalg import solve
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import dims_of
from keras.src.backend.openvino.tensor import is_symbolic
from keras.src.backend.openvino.tensor import promote
from keras.src.random.seed_generator import draw_seed

# ------------------------------------------------------------------- layouts


def _checked_images(images):
    images = convert_to_tensor(images)
    if images.ndim not in (3, 4):
        raise ValueError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 "
            f"(batch of images). Received: images.shape={images.shape}"
        )
    return images


def _channels_axis(data_format):
    return -1 if standardize_data_format(data_format) == "channels_last" else -3


def _spatial_axes(ndim, data_format):
    """The axes of height and width."""
    width = ndim - 2 if _channels_axis(data_format) == -1 else ndim - 1
    return width - 1, width


def _batched(images, data_format, channels_axis):
    """The images as a batch with its channels at `channels_axis`."""
    if images.ndim == 3:
        images = ops.expand_dims(images, 0)
    return ops.moveaxis(images, _channels_axis(data_format), channels_axis)


def _restored(images, like, data_format, channels_axis):
    """What `_batched` made of `like`, in the layout of `like`."""
    images = ops.moveaxis(images, channels_axis, _channels_axis(data_format))
    return ops.squeeze(images, 0) if like.ndim == 3 else images


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected one of "
            f"{sorted(choices)}. Received: {name}={value}"
        )


# -------------------------------------------------------------------- colors


def rgb_to_grayscale(images, data_format=None):
    images = _checked_images(images)
    axis = _channels_axis(data_format)
    channels = known_dim(images, axis, "rgb_to_grayscale")
    if channels not in (1, 3):
        raise ValueError(
            "Invalid channel size: expected 3 (RGB) or 1 (Grayscale). "
            f"Received: images.shape={images.shape}"
        )
    if channels == 1:
        return images
    return cast(_luma(to_float(images), axis), images.dtype)


@in_float32
def _luma(images, axis):
    red, green, blue = ops.split(images, 3, axis)
    return 0.2989 * red + 0.5870 * green + 0.1140 * blue


def _check_float_images(images):
    images = _checked_images(images)
    if not is_float(images.dtype):
        raise ValueError(
            "Invalid images dtype: expected float dtype. "
            f"Received: images.dtype={images.dtype}"
        )
    return images


def rgb_to_hsv(images, data_format=None):
    images = _check_float_images(images)
    axis = _channels_axis(data_format)
    tiny = float(ml_dtypes.finfo(images.dtype).eps)
    images = ops.where(ops.absolute(images) < tiny, 0.0, images)
    red, green, blue = ops.split(images, 3, axis)
    value = ops.max(images, axis=axis, keepdims=True)
    chroma = value - ops.min(images, axis=axis, keepdims=True)
    has_chroma = chroma > 0
    saturation = ops.where(
        value > 0, chroma / ops.where(value > 0, value, 1.0), 0.0
    )
    sixth = 1.0 / (6.0 * ops.where(has_chroma, chroma, 1.0))
    hue = ops.where(
        value == green,
        sixth * (blue - red) + 2 / 6,
        sixth * (red - green) + 4 / 6,
    )
    hue = ops.where(value == red, sixth * (green - blue), hue)
    hue = ops.where(has_chroma, hue, 0.0)
    hue = ops.where(hue < 0, hue + 1.0, hue)
    return ops.concatenate([hue, saturation, value], axis=axis)


def hsv_to_rgb(images, data_format=None):
    images = _check_float_images(images)
    axis = _channels_axis(data_format)
    hue, saturation, value = ops.split(images, 3, axis)
    sector = (hue - ops.floor(hue)) * 6.0
    red = ops.absolute(sector - 3.0) - 1.0
    green = 2.0 - ops.absolute(sector - 2.0)
    blue = 2.0 - ops.absolute(sector - 4.0)
    pure = ops.clip(ops.concatenate([red, green, blue], axis=axis), 0.0, 1.0)
    return value * (1.0 - saturation + saturation * pure)


# ------------------------------------------------------------------ resizing


def _triangle(x):
    return ops.maximum(1.0 - x, 0.0)


def _keys_cubic(x):
    """R. G. Keys, "Cubic convolution interpolation" (1981), A = -0.5."""
    near = ((1.5 * x - 2.5) * x) * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x >= 2.0, 0.0, ops.where(x >= 1.0, far, near))


def _lanczos(x, radius):
    wave = radius * ops.sin(math.pi * x) * ops.sin((math.pi / radius) * x)
    squared = ops.where(x > 1e-3, math.pi**2 * x * x, 1.0)
    value = ops.where(x > 1e-3, wave / squared, 1.0)
    return ops.where(x > radius, 0.0, value)


# What an old pixel weighs in a new one, by how far apart they are.
_KERNELS = {
    "linear": _triangle,
    "bilinear": _triangle,
    "trilinear": _triangle,
    "cubic": _keys_cubic,
    "bicubic": _keys_cubic,
    "tricubic": _keys_cubic,
    "lanczos3": functools.partial(_lanczos, radius=3.0),
    "lanczos5": functools.partial(_lanczos, radius=5.0),
}
RESIZE_INTERPOLATIONS = "nearest bilinear bicubic lanczos3 lanczos5".split()
SCALE_AND_TRANSLATE_METHODS = set(_KERNELS)


def resize(
    images,
    size,
    interpolation="bilinear",
    antialias=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    fill_mode="constant",
    fill_value=0.0,
    data_format=None,
):
    _check_choice("interpolation", interpolation, RESIZE_INTERPOLATIONS)
    _check_choice("fill_mode", fill_mode, ("constant",))
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(
            "`resize` can take only one of `crop_to_aspect_ratio` and "
            "`pad_to_aspect_ratio`. Received: both are true"
        )
    if len(size) != 2:
        raise ValueError(
            f"`size` must be (height, width). Received: size={size}"
        )
    images = _checked_images(images)
    axes = _spatial_axes(images.ndim, data_format)
    if images.shape[0] != 0 and 0 in [images.shape[axis] for axis in axes]:
        raise ValueError(
            "`resize` takes images of one pixel or more. Received: "
            f"images.shape={images.shape}"
        )
    if crop_to_aspect_ratio:
        images = _cropped(images, axes, size)
    elif pad_to_aspect_ratio:
        images = _padded(images, axes, size, fill_value)
    if interpolation == "nearest":
        return _resize_nearest(images, axes, size)
    return _resize_linearly(
        to_float(images), axes, size, interpolation, antialias
    )


def _of_aspect_ratio(images, axes, size):
    """Height and width, and each as the other and `size` would have it."""
    height, width = (dims_of(images)[axis] for axis in axes)
    target_height, target_width = size
    return (height, width), (
        width * target_height // target_width,
        height * target_width // target_height,
    )


def _cropped(images, axes, size):
    index = [slice(None)] * images.ndim
    for axis, dim, ideal in zip(axes, *_of_aspect_ratio(images, axes, size)):
        kept = larger(smaller(dim, ideal), 1)
        start = (dim - kept) // 2
        index[axis] = slice(start, start + kept)
    return images[tuple(index)]


def _padded(images, axes, size, fill_value):
    images, fill_value = promote(images, fill_value)
    pads = [0] * images.ndim
    for axis, dim, ideal in zip(axes, *_of_aspect_ratio(images, axes, size)):
        pads[axis] = (larger(dim, ideal) - dim) // 2
    return apply("Pad", images, pads, pads, fill_value, pad_mode="constant")


def _resize_nearest(images, axes, size):
    for axis, target in zip(axes, size):
        dim = dims_of(images)[axis]
        centers = ops.arange(target, dtype="float32") + 0.5
        indices = ops.floor(centers * cast(dim, "float32") / target)
        images = gather(images, cast(indices, "int32"), axis)
    return images


@in_float32
def _resize_linearly(images, axes, size, interpolation, antialias):
    if interpolation == "bilinear" and not antialias:
        return apply(
            "Interpolate",
            images,
            tuple(size),
            axes,
            mode="linear_onnx",
            shape_calculation_mode="sizes",
            coordinate_transformation_mode="half_pixel",
        )
    for axis, target in zip(axes, size):
        dim = dims_of(images)[axis]
        if is_symbolic(dim) or dim != target:
            scale = target / cast(dim, images.dtype)
            images = _resample(
                images, axis, target, scale, 0.0, interpolation, antialias
            )
    return images


def scale_and_translate(
    images,
    output_shape,
    scale,
    translation,
    spatial_dims,
    method,
    antialias=True,
):
    _check_choice("method", method, SCALE_AND_TRANSLATE_METHODS)
    images = to_float(images)
    result = at_least_float32(images)
    scale, translation = (cast(x, result.dtype) for x in (scale, translation))
    for i, axis in enumerate(spatial_dims):
        axis = canonical_axis(axis, images.ndim)
        size = output_shape[axis]
        result = _resample(
            result, axis, size, scale[i], translation[i], method, antialias
        )
    return cast(result, images.dtype)


def _resample(images, axis, size, scale, translation, method, antialias):
    """Images whose `axis` is scaled, moved and cut to `size`.

    Each new pixel is a mean of old ones: one matrix product for the axis.
    """
    dim = dims_of(images)[axis]
    dtype = images.dtype
    centers = ops.arange(size, dtype=dtype) + 0.5
    # Where the centers of the new pixels lie among the old.
    step = 1.0 / scale
    sample = centers * step - translation * step - 0.5
    stretch = ops.maximum(step, 1.0) if antialias else 1.0
    old = ops.expand_dims(ops.arange(dim, dtype=dtype), 1)
    weights = _KERNELS[method](ops.absolute(sample - old) / stretch)
    total = ops.sum(weights, axis=0, keepdims=True)
    small = ops.absolute(total) <= 1000 * float(np.finfo(np.float32).eps)
    inside = (sample >= -0.5) & (sample <= cast(dim, dtype) - 0.5)
    usable = ops.logical_not(small) & inside
    weights = ops.where(usable, weights / ops.where(small, 1.0, total), 0.0)
    images = ops.matmul(ops.moveaxis(images, axis, -1), weights)
    return ops.moveaxis(images, -1, axis)


# ------------------------------------------------------------------ sampling


def _constant(index, dim):
    return index


def _nearest(index, dim):
    return ops.clip(index, 0, dim - 1)


def _wrap(index, dim):
    return index % dim


def _mirror(index, dim):
    """A triangular wave; the edges are not repeated."""
    return _triangular(index, dim - 1)


def _reflect(index, dim):
    """A triangular wave; the edges are repeated."""
    return (_triangular(2 * index + 1, 2 * dim) - 1) // 2


def _triangular(index, half):
    period = larger(2 * half, 1)
    return ops.absolute((index + half) % period - half)


_FILL_MODES = {
    "constant": _constant,
    "nearest": _nearest,
    "wrap": _wrap,
    "mirror": _mirror,
    "reflect": _reflect,
}
AFFINE_TRANSFORM_FILL_MODES = set(_FILL_MODES)
AFFINE_TRANSFORM_INTERPOLATIONS = {"nearest": 0, "bilinear": 1}


def _neighbors(coordinates, order):
    """The indices around coordinates, and the weight of each."""
    if order == 0:
        nearest = _round_away_from_zero(coordinates)
        return [(cast(nearest, "int32"), None)]
    lower = ops.floor(coordinates)
    weight = coordinates - lower
    lower = cast(lower, "int32")
    return [(lower, 1.0 - weight), (lower + 1, weight)]


def _round_away_from_zero(x):
    return apply("Round", x, mode="half_away_from_zero")


def _sample(images, coordinates, order, fill_mode, fill_value, batched):
    """The values of `images` at coordinates.

    Args:
        images: a tensor.
        coordinates: a float tensor for each of its dims, after the first if
            `batched`; dims that are left are sampled whole.
        order: 0 for the nearest value, 1 for linear interpolation.
        fill_mode: what stands outside: a key of `_FILL_MODES`.
        fill_value: for the fill mode `"constant"`.
        batched: whether the first dim of images and coordinates is a batch.

    Returns:
        A tensor of the dtype of `images`.
    """
    start = int(batched)
    whole = images.ndim - start - len(coordinates)
    dims = dims_of(images)[start:]
    dtype = result_type(images.dtype, coordinates[0].dtype)
    fill_value = cast(convert_to_tensor(fill_value, images.dtype), dtype)
    values = cast(images, dtype)
    choices = []
    for coordinate, dim in zip(coordinates, dims):
        choices.append([])
        for index, weight in _neighbors(coordinate, order):
            inside = (index >= 0) & (index < dim)
            index = ops.clip(_FILL_MODES[fill_mode](index, dim), 0, dim - 1)
            choices[-1].append((index, inside, weight))
    total = None
    for corner in itertools.product(*choices):
        indices, insides, weights = zip(*corner)
        part = apply(
            "GatherND", values, ops.stack(indices, -1), batch_dims=start
        )
        if fill_mode == "constant":
            inside = _with_dims(_product(insides, operator.and_), whole)
            part = ops.where(inside, part, fill_value)
        if order == 1:
            weight = _product(weights, operator.mul)
            part = _with_dims(cast(weight, dtype), whole) * part
        total = part if total is None else total + part
    if is_integer(images.dtype):
        total = _round_away_from_zero(total)
    return cast(total, images.dtype)


def _product(factors, multiply):
    product, *others = factors
    for factor in others:
        product = multiply(product, factor)
    return product


def _with_dims(x, number):
    """`x` with `number` dims of size 1 at its end."""
    return x[(..., *[None] * number)]


def map_coordinates(
    inputs, coordinates, order, fill_mode="constant", fill_value=0.0
):
    inputs = convert_to_tensor(inputs)
    coordinates = convert_to_tensor(coordinates)
    if coordinates.ndim < 2:
        raise ValueError(
            "Invalid coordinates rank: expected at least rank 2. Received: "
            f"coordinates.shape={coordinates.shape}"
        )
    if known_dim(coordinates, 0, "map_coordinates") != inputs.ndim:
        raise ValueError(
            "First dim of `coordinates` must be the same as the rank of "
            f"`inputs`. Received: inputs.shape={inputs.shape}, "
            f"coordinates.shape={coordinates.shape}"
        )
    _check_choice("fill_mode", fill_mode, _FILL_MODES)
    _check_choice("order", order, (0, 1))
    coordinates = [coordinates[i] for i in range(inputs.ndim)]
    coordinates = [at_least_float32(x) for x in coordinates]
    return _sample(
        inputs, coordinates, order, fill_mode, fill_value, batched=False
    )


def _pixels(height, width):
    """The row and the column of each pixel."""
    rows = ops.expand_dims(ops.arange(height, dtype="float32"), 1)
    columns = ops.expand_dims(ops.arange(width, dtype="float32"), 0)
    return rows, columns


def affine_transform(
    images,
    transform,
    interpolation="bilinear",
    fill_mode="constant",
    fill_value=0,
    data_format=None,
):
    _check_choice(
        "interpolation", interpolation, AFFINE_TRANSFORM_INTERPOLATIONS
    )
    _check_choice("fill_mode", fill_mode, AFFINE_TRANSFORM_FILL_MODES)
    images = _checked_images(images)
    transform = at_least_float32(transform)
    if transform.ndim not in (1, 2):
        raise ValueError(
            "Invalid transform rank: expected rank 1 (single transform) or "
            "rank 2 (batch of transforms). Received: "
            f"transform.shape={transform.shape}"
        )
    a0, a1, a2, b0, b1, b2, _, _ = _coefficients(transform, 8)
    batch = _batched(images, data_format, -1)
    rows, columns = _pixels(*dims_of(batch)[1:3])
    coordinates = (
        b0 * columns + b1 * rows + b2,
        a0 * columns + a1 * rows + a2,
    )
    sampled = _sample_batch(
        batch, coordinates, interpolation, fill_mode, fill_value
    )
    return _restored(sampled, images, data_format, -1)


def _coefficients(x, number):
    """Each of the numbers in the last dim, with the shape `(batch, 1, 1)`."""
    return [ops.reshape(x[..., i], (-1, 1, 1)) for i in range(number)]


def _sample_batch(images, coordinates, interpolation, fill_mode, fill_value):
    """`_sample` of a batch, at coordinates that may have one for all."""
    batch, height, width, _ = dims_of(images)
    coordinates = [
        ops.broadcast_to(x, (batch, height, width)) for x in coordinates
    ]
    order = AFFINE_TRANSFORM_INTERPOLATIONS[interpolation]
    return _sample(
        images, coordinates, order, fill_mode, fill_value, batched=True
    )


def perspective_transform(
    images,
    start_points,
    end_points,
    interpolation="bilinear",
    fill_value=0,
    data_format=None,
):
    _check_choice(
        "interpolation", interpolation, AFFINE_TRANSFORM_INTERPOLATIONS
    )
    images = _checked_images(images)
    start_points = _checked_points("start_points", start_points)
    end_points = _checked_points("end_points", end_points)
    if start_points.shape != end_points.shape:
        raise ValueError(
            "start_points and end_points must have the same shape. Received: "
            f"start_points.shape={start_points.shape}, "
            f"end_points.shape={end_points.shape}"
        )
    if start_points.ndim == 2:
        start_points = ops.expand_dims(start_points, 0)
        end_points = ops.expand_dims(end_points, 0)
    homography = compute_homography_matrix(start_points, end_points)
    a0, a1, a2, b0, b1, b2, c0, c1 = _coefficients(homography, 8)
    batch = _batched(images, data_format, -1)
    rows, columns = _pixels(*dims_of(batch)[1:3])
    depth = c0 * columns + c1 * rows + 1.0
    coordinates = (
        (b0 * columns + b1 * rows + b2) / depth,
        (a0 * columns + a1 * rows + a2) / depth,
    )
    sampled = _sample_batch(
        batch, coordinates, interpolation, "constant", fill_value
    )
    return _restored(sampled, images, data_format, -1)


def _checked_points(name, points):
    points = cast(points, "float32")
    axes = range(points.ndim)[-2:]
    dims = [known_dim(points, i, "perspective_transform") for i in axes]
    if points.ndim not in (2, 3) or dims != [4, 2]:
        raise ValueError(
            f"Invalid {name} shape: expected (4,2) for a single image or "
            f"(N,4,2) for a batch. Received shape: {points.shape}"
        )
    return points


def compute_homography_matrix(start_points, end_points):
    start_points, end_points = promote(start_points, end_points, float)
    start_x, start_y = start_points[..., 0], start_points[..., 1]
    x, y = end_points[..., 0], end_points[..., 1]
    zeros, ones = ops.zeros_like(x), ops.ones_like(x)
    # a0 x + a1 y + a2 - c0 x start_x - c1 y start_x = start_x, likewise b.
    a_rows = [x, y, ones, zeros, zeros, zeros, -start_x * x, -start_x * y]
    b_rows = [zeros, zeros, zeros, x, y, ones, -start_y * x, -start_y * y]
    rows = [ops.stack(a_rows, axis=-1), ops.stack(b_rows, axis=-1)]
    right = ops.concatenate([start_x, start_y], axis=-1)
    solution = solve(ops.concatenate(rows, axis=-2), ops.expand_dims(right, -1))
    return ops.squeeze(solution, -1)


# ------------------------------------------------------------------- filters


def _convolve_each(images, kernels):
    """Each plane of a `(n, c, h, w)` batch, by each of `(k, kh, kw)` kernels.

    Returns:
        A tensor of shape `(n, c, k, h, w)`.
    """
    batch, channels, height, width = dims_of(images)
    planes = ops.reshape(images, (-1, 1, height, width))
    filtered = apply(
        "Convolution",
        planes,
        ops.expand_dims(kernels, 1),
        strides=(1, 1),
        pads_begin=(0, 0),
        pads_end=(0, 0),
        dilations=(1, 1),
        auto_pad="same_upper",
    )
    number = kernels.shape[0]
    return ops.reshape(filtered, (batch, channels, number, height, width))


def gaussian_blur(
    images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None
):
    images = to_float(_checked_images(images))
    planes = _batched(images, data_format, 1)
    blurred = _blur(planes, kernel_size, sigma=cast(sigma, "float32"))
    return _restored(blurred, images, data_format, 1)


@in_float32
def _blur(planes, kernel_size, *, sigma):
    columns, rows = (
        _gaussian(kernel_size[i], cast(sigma[i], planes.dtype))
        for i in range(2)
    )
    kernel = ops.expand_dims(rows, 1) * columns
    return _convolve_each(planes, kernel[None])[:, :, 0]


def _gaussian(size, sigma):
    x = (ops.arange(size, dtype=sigma.dtype) - (size - 1) / 2) / sigma
    kernel = ops.exp(-0.5 * x * x)
    return kernel / ops.sum(kernel)


def elastic_transform(
    images,
    alpha=20.0,
    sigma=5.0,
    interpolation="bilinear",
    fill_mode="reflect",
    fill_value=0.0,
    seed=None,
    data_format=None,
):
    _check_choice(
        "interpolation", interpolation, AFFINE_TRANSFORM_INTERPOLATIONS
    )
    _check_choice("fill_mode", fill_mode, AFFINE_TRANSFORM_FILL_MODES)
    images = _checked_images(images)
    alpha, sigma = cast(alpha, "float32"), cast(sigma, "float32")
    if is_symbolic(sigma):
        raise ValueError(
            "`elastic_transform` needs the value of `sigma`, which sets the "
            "size of a kernel. Received a symbolic tensor."
        )
    kernel_size = int(6 * float(sigma)) | 1
    batch = _batched(images, data_format, -1)
    dims = dims_of(batch)[:3]
    noise = random.normal(dims, dtype=images.dtype, seed=draw_seed(seed))
    noise = ops.expand_dims(noise * cast(sigma, noise.dtype), 1)
    blurred = _blur(
        noise, (kernel_size, kernel_size), sigma=ops.stack([sigma, sigma])
    )
    # The other backends move rows and columns by the same noise, too.
    shift = alpha * cast(blurred[:, 0], "float32")
    coordinates = [shift + pixels for pixels in _pixels(*dims[1:])]
    transformed = _sample_batch(
        batch, coordinates, interpolation, fill_mode, fill_value
    )
    return _restored(transformed, images, data_format, -1)


def sobel_edges(images, data_format=None):
    images = to_float(images)
    planes = ops.moveaxis(images, _channels_axis(data_format), 1)
    edges = _differentiate(planes)
    edges = ops.moveaxis(edges, 2, -1)
    axis = _channels_axis(data_format)
    return ops.moveaxis(edges, 1, axis - 1)


@in_float32
def _differentiate(planes):
    """The derivatives along rows and columns, stacked as dim 2."""
    down = np.outer((-1, 0, 1), (1, 2, 1))
    kernels = convert_to_tensor(np.stack([down, down.T]), planes.dtype)
    return _convolve_each(planes, kernels)
