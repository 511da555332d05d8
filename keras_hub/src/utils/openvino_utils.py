"""`generate` of KerasHub's models on Keras's OpenVINO backend."""

from keras import ops
from keras import tree
from keras.src.backend.openvino.jit import jit


def ov_infer(model, inputs, stop_token_ids, fn):
    """What `fn(inputs, stop_token_ids)` returns, as one compiled model.

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
        function.compiled = model._dated(jit(fn))
    return function.compiled(inputs, stop_token_ids)
