"""`generate` of KerasHub's models on Keras's OpenVINO backend."""

from keras import ops
from keras import tree
from keras.src.backend.openvino.fingerprint import is_as_released
from keras.src.backend.openvino.jit import jit


def ov_infer(model, inputs, stop_token_ids, fn):
    """What `fn(inputs, stop_token_ids)` returns, as compiled models.

    Args:
        model: the KerasHub task whose `generate_function` calls this.
        inputs: a nested structure of arrays.
        stop_token_ids: `None`, or the token ids that end a generation.
        fn: the task's `generate_step`.
    """
    inputs = tree.map_structure(ops.convert_to_tensor, inputs)
    if stop_token_ids is not None:
        stop_token_ids = tuple(map(int, stop_token_ids))
    if model.run_eagerly:
        return fn(inputs, stop_token_ids)
    # A task makes a new one where compiling models anew is due, as after
    # `compile(sampler=...)` and `quantize`, but not as after `enable_lora`;
    # weights are for `jit` to see.
    function = model.make_generate_function()
    if model._is_outdated(getattr(function, "compiled", None)):
        function.compiled = model._dated(_compiled(model, inputs, fn))
    return function.compiled(inputs, stop_token_ids)


def _compiled(model, inputs, fn):
    """`fn` as one compiled model, or as that of a step, which is taken again.

    The latter is for all lengths, and sizes of a batch.
    """
    sequences = _sequences(model, inputs)
    if sequences is None:
        return jit(fn)
    # In the order in which a dict is flattened.
    specs = [(None,) * inputs[key].ndim for key in sorted(inputs)]
    is_causal = [key in sequences for key in sorted(inputs)]
    return jit(fn, specs, is_causal=is_causal)


def _sequences(model, inputs):
    """Which inputs of a decoder have a position for each of its own.

    `None` where a task is none, or where not all of it is KerasHub's own. A
    decoder fills its caches one position after another, and no position looks
    at later ones. What others do is not known, nor what images are to tokens.
    """
    if not isinstance(inputs, dict) or set(inputs) not in _DECODERS:
        return None
    if not all(map(is_as_released, model._flatten_layers())):
        return None
    return _SEQUENCES.intersection(inputs)


_SEQUENCES = frozenset(
    ("token_ids", "padding_mask", "decoder_token_ids", "decoder_padding_mask")
)

# What decoders take, alone and behind an encoder.
_DECODERS = (
    {"token_ids", "padding_mask"},
    {
        "encoder_token_ids",
        "encoder_padding_mask",
        "decoder_token_ids",
        "decoder_padding_mask",
    },
)
