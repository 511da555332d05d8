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
    """`fn` as one compiled model, or as one for the prompt and one for a token.

    The latter are for all lengths, and sizes of a batch.
    """
    if not _is_decoder(model, inputs):
        return jit(fn)
    specs = [(None,) * len(x.shape) for x in tree.flatten(inputs)]
    return jit(fn, specs, is_causal=True)


def _is_decoder(model, inputs):
    """Whether a task is a decoder of text alone, and all of it KerasHub's own.

    It fills its caches one position after another, and no position looks at
    later ones. What others do is not known, nor what encoders and images are
    to their tokens.
    """
    is_text = isinstance(inputs, dict) and set(inputs) == _TEXT
    return is_text and all(map(is_as_released, model._flatten_layers()))


_TEXT = {"token_ids", "padding_mask"}
