from keras import ops
from keras_hub.src.utils.keras_utils import standardize_data_format


def interpolate(x, size, data_format=None):
    """Resizes images bilinearly; the corners of both stand on each other.

    KerasHub calls a function of the backend's framework here, of those that
    it knows. This does it with ops that every backend has.

    Args:
        x: a 4-d tensor of images.
        size: a tuple of 2 integers, `(height, width)`.
        data_format: `"channels_last"` or `"channels_first"`.
    """
    channels_last = standardize_data_format(data_format) == "channels_last"
    equation = "bhwc,ih,jw->bijc" if channels_last else "bchw,ih,jw->bcij"
    height, width = ops.shape(x)[1:3] if channels_last else ops.shape(x)[2:]
    rows = _weights(size[0], height, x.dtype)
    columns = _weights(size[1], width, x.dtype)
    return ops.einsum(equation, x, rows, columns)


def _weights(size, count, dtype):
    """What each of `size` points takes of `count` points on the same line."""
    points = ops.arange(size, dtype="float32")
    places = points * ((count - 1) / max(size - 1, 1))
    distances = ops.abs(
        ops.expand_dims(places, 1) - ops.arange(count, dtype="float32")
    )
    return ops.cast(ops.maximum(1.0 - distances, 0.0), dtype)
