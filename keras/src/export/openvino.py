import warnings
from pathlib import Path

from keras.src import backend
from keras.src import tree
from keras.src.export.export_utils import convert_spec_to_tensor
from keras.src.export.export_utils import get_input_signature
from keras.src.export.export_utils import make_tf_tensor_spec
from keras.src.export.openvino_utils import arguments_of
from keras.src.export.openvino_utils import input_names
from keras.src.export.openvino_utils import set_names
from keras.src.export.openvino_utils import write_ir
from keras.src.export.saved_model import DEFAULT_ENDPOINT_NAME
from keras.src.export.saved_model import ExportArchive
from keras.src.utils import io_utils


def export_openvino(
    model,
    filepath,
    verbose=None,
    input_signature=None,
    compress_to_fp16=False,
    **kwargs,
):
    """Writes a model's forward pass as OpenVINO IR.

    The IR is two files, `name.xml` with the graph and `name.bin` with the
    weights, that the OpenVINO runtime runs without Keras. They appear when both
    are complete; where the export fails, older ones stay as they are.

    An input is called by its key in a dict, or by the name of its `Input`, or,
    among several positional arguments, by that of its argument. Where the
    OpenVINO backend exports, dims that the signature leaves open stay open,
    and outputs are called by their keys, or by the layers that make them.
    There, inputs and outputs of bfloat16 and float8, which OpenVINO's bindings
    take for other dtypes, are float32.

    What is written is inference, with the weights as they are now: dropout is
    gone, and batch normalization uses its moving statistics. A model that
    keeps state from call to call, such as a recurrent layer with
    `stateful=True`, is refused.

    Args:
        model: a built `keras.Model`.
        filepath: `str` or `pathlib.Path` that ends in `.xml`.
        verbose: whether to say where the model was saved. Defaults to `True`.
        input_signature: the shapes and dtypes of the inputs, as a structure of
            `keras.InputSpec`, `tf.TensorSpec`, `keras.KerasTensor` or backend
            tensors; a list of several is one for each positional argument. By
            default that of the model, with the batch size open.
        compress_to_fp16: whether float32 weights of two or more dims are kept
            as float16, in half the space; they are computed with in float32,
            and inputs and outputs stay float32. What does not fit (numbers
            beyond 2048, or all below 6.1e-5) stays float32 where the OpenVINO
            backend exports, and is clipped by OpenVINO elsewhere.
        **kwargs: on the TensorFlow and JAX backends, passed to
            `ExportArchive.track_and_add_endpoint`; the others take none.

    Raises:
        ValueError: for a path of another ending, for arguments that the
            backend does not take, and for inputs that the model does not take.
        NotImplementedError: where the forward pass assigns variables, or
            computes what OpenVINO has no operation for.
        OSError: where the files cannot be written.

    Example:

    ```python
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(4)])
    model.export("model.xml", format="openvino")

    # Without the hint, CPUs that have bfloat16 compute in it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model("model.xml", "CPU", exact)
    y = compiled(np.ones((8, 16), "float32"))[0]
    ```
    """
    filepath = str(filepath)
    if not filepath.endswith(".xml"):
        raise ValueError(
            "The OpenVINO export requires the filepath to end with '.xml'. "
            f"Got: filepath={filepath}"
        )
    if kwargs and backend.backend() in ("openvino", "torch"):
        raise ValueError(
            f"`export_openvino` takes no {sorted(kwargs)} on the "
            f"{backend.backend()} backend."
        )
    if input_signature is None:
        input_signature = get_input_signature(model)
    arguments = arguments_of(model, input_signature)
    names = input_names(model, arguments)

    if backend.backend() == "openvino":
        from keras.src.backend.openvino.export import compress
        from keras.src.backend.openvino.export import trace

        has_training = model._call_has_training_arg
        training = {"training": False} if has_training else {}
        ov_model = trace(model.name, model, arguments, **training)
        if compress_to_fp16:
            compress(ov_model)
        write_ir(ov_model, Path(filepath))
    elif backend.backend() in ("tensorflow", "jax", "torch"):
        import openvino as ov

        if backend.backend() == "torch":
            source = torchscript(model, arguments)
        else:
            source = concrete_function(model, input_signature, **kwargs)
        ov_model = ov.convert_model(source)
        set_names(ov_model, names)
        write_ir(ov_model, Path(filepath), compress_to_fp16)
    else:
        raise NotImplementedError(
            "`export_openvino` needs the OpenVINO, TensorFlow, JAX or torch "
            f"backend. Received: backend={backend.backend()}"
        )
    if verbose is None or verbose:
        io_utils.print_msg(f"Saved OpenVINO IR at '{filepath}'.")


# --------------------------------------------------------- the other backends

# Without these, `jax2tf` writes what OpenVINO does not read.
JAX2TF_OPTIONS = {"enable_xla": False, "native_serialization": False}


def concrete_function(model, signature, **kwargs):
    """The TensorFlow function of a model of the TensorFlow or JAX backend."""
    if backend.backend() == "jax":
        kwargs = jax_options(**kwargs)
    archive = ExportArchive()
    specs = tree.map_structure(make_tf_tensor_spec, signature)
    archive.track_and_add_endpoint(
        DEFAULT_ENDPOINT_NAME, model, specs, **kwargs
    )
    if backend.backend() == "tensorflow":
        archive._filter_and_track_resources()
    return archive._get_concrete_fn(DEFAULT_ENDPOINT_NAME)


def jax_options(is_static=True, jax2tf_kwargs=None, **kwargs):
    if is_static is not True:
        raise ValueError(
            "`is_static` must be `True` in `kwargs` when using the jax backend."
        )
    jax2tf_kwargs = {**JAX2TF_OPTIONS, **(jax2tf_kwargs or {})}
    for option, value in JAX2TF_OPTIONS.items():
        if jax2tf_kwargs[option] is not value:
            raise ValueError(
                f"`{option}` must be `{value}` in `kwargs['jax2tf_kwargs']` "
                "when using the jax backend."
            )
    return {"is_static": True, "jax2tf_kwargs": jax2tf_kwargs, **kwargs}


def torchscript(model, arguments):
    """The traced module of a model of the torch backend, for any batch."""
    import torch

    def sample(spec):
        return convert_spec_to_tensor(spec, replace_none_number=1)

    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(
            model, tuple(tree.map_structure(sample, arguments))
        )
