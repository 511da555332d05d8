import inspect
import itertools
import warnings

from keras.src import backend
from keras.src import tree
from keras.src.export.export_utils import convert_spec_to_tensor
from keras.src.export.export_utils import get_input_signature
from keras.src.export.export_utils import make_input_spec
from keras.src.export.export_utils import make_tf_tensor_spec
from keras.src.export.saved_model import DEFAULT_ENDPOINT_NAME
from keras.src.export.saved_model import ExportArchive
from keras.src.utils import io_utils


def export_openvino(
    model, filepath, verbose=None, input_signature=None, **kwargs
):
    """Writes a model's forward pass as OpenVINO IR.

    The IR is two files, `name.xml` with the graph and `name.bin` with the
    weights, that the OpenVINO runtime runs without Keras.

    An input is called by its key in a dict, or by the name of its `Input`, or,
    among several positional arguments, by that of its argument. Where the
    OpenVINO backend exports, dims that the signature leaves open stay open,
    and outputs are called by their keys, or by the layers that make them.

    Args:
        model: a built `keras.Model`.
        filepath: `str` or `pathlib.Path` that ends in `.xml`.
        verbose: whether to say where the model was saved. Defaults to `True`.
        input_signature: the shapes and dtypes of the inputs, as a structure of
            `keras.InputSpec`, `tf.TensorSpec`, `keras.KerasTensor` or backend
            tensors; a list of several is one for each positional argument. By
            default that of the model, with the batch size open.
        **kwargs: on the TensorFlow and JAX backends, passed to
            `ExportArchive.track_and_add_endpoint`; the others ignore them.

    Raises:
        ValueError: for a path of another ending, and for inputs that the
            model does not take.
        NotImplementedError: where the forward pass assigns variables, or
            computes what OpenVINO has no operation for.

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
    if input_signature is None:
        input_signature = get_input_signature(model)
    arguments = arguments_of(model, input_signature)

    import openvino as ov

    if backend.backend() == "openvino":
        ov_model = trace(model, arguments)
    elif backend.backend() in ("tensorflow", "jax"):
        function = concrete_function(model, input_signature, **kwargs)
        ov_model = ov.convert_model(function)
    elif backend.backend() == "torch":
        ov_model = ov.convert_model(torchscript(model, arguments))
    else:
        raise NotImplementedError(
            "`export_openvino` needs the OpenVINO, TensorFlow, JAX or torch "
            f"backend. Received: backend={backend.backend()}"
        )
    names = unique(input_names(model, arguments))
    for port, name in zip(ov_model.inputs, names):
        port.get_node().set_friendly_name(name)
        port.tensor.set_names({name})

    ov.save_model(ov_model, filepath, compress_to_fp16=False)
    if verbose is None or verbose:
        io_utils.print_msg(f"Saved OpenVINO IR at '{filepath}'.")


# ---------------------------------------------------------------- signatures


def arguments_of(model, signature):
    """The signature of each positional argument of the model's call."""
    if not isinstance(signature, (list, tuple)):
        return [signature]
    if len(signature) > 1 and len(data_parameters(model)) == 1:
        return [signature]
    return list(signature)


def data_parameters(model):
    """The names of the positional parameters of `call` that take inputs."""
    return [
        parameter.name
        for parameter in inspect.signature(model.call).parameters.values()
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.name not in ("training", "mask")
    ]


def input_names(model, arguments):
    defaults = itertools.repeat("input")
    if len(arguments) > 1:
        defaults = itertools.chain(data_parameters(model), defaults)
    return [
        key or getattr(leaf, "name", None) or default
        for argument, default in zip(arguments, defaults)
        for key, leaf in input_leaves(argument)
    ]


def input_leaves(structure, key=None):
    """Pairs of a leaf's key in a dict and the leaf.

    Dicts are in their own order, which the inputs of all backends have.
    """
    if isinstance(structure, dict):
        for key, value in structure.items():
            yield from input_leaves(value, key)
    elif isinstance(structure, (list, tuple)):
        for value in structure:
            yield from input_leaves(value)
    else:
        yield key, structure


def output_names(model, outputs):
    functional = getattr(model, "_functional", None) or model  # a Sequential's
    defaults = itertools.chain(
        getattr(functional, "output_names", ()), itertools.repeat("output")
    )
    return [
        next((key for key in reversed(path) if isinstance(key, str)), default)
        for (path, leaf), default in zip(
            tree.flatten_with_path(outputs), defaults
        )
        if leaf is not None
    ]


def unique(names):
    """The names, with a number behind those that come again."""
    taken = set()
    for base in names:
        numbered = (f"{base}_{i}" for i in itertools.count(1))
        candidates = itertools.chain([base], numbered)
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        yield name


# ------------------------------------------------------- the OpenVINO backend


def trace(model, arguments):
    """The `openvino.Model` of a Keras model, its outputs named."""
    import openvino as ov

    from keras.src.backend.openvino import fusions
    from keras.src.backend.openvino import graph
    from keras.src.backend.openvino import layout
    from keras.src.backend.openvino.custom import Operations
    from keras.src.backend.openvino.tensor import convert_to_tensor

    training = {"training": False} if model._call_has_training_arg else {}
    # Kept until they are refused; a traceback ends with them.
    operations = Operations()
    with graph.Trace(operations) as scope, backend.StatelessScope() as state:
        scope.narrows = True  # as all devices do
        scope.symbolic_dims = True
        inputs = tree.map_structure(symbolic_input, arguments)
        try:
            outputs = model(*inputs, **training)
        except Exception as error:
            shapes = [
                backend.standardize_shape(x.shape) for x in tree.flatten(inputs)
            ]
            error.add_note(
                f"This was the export for inputs of the shapes {shapes}; "
                "`input_signature` can give the dims that a model must know."
            )
            raise
        results = [
            convert_to_tensor(y).output
            for y in tree.flatten(outputs)
            if y is not None
        ]
    refuse_assignments(model, state)
    parameters = [x.output.get_node() for _, x in input_leaves(inputs)]
    ov_model = ov.Model(results, parameters)
    refuse_python_operations(ov_model)
    layout.sink_transposes(ov_model)
    fusions.prevent_fusions(ov_model)
    separate_outputs(ov_model)
    names = [*input_names(model, arguments), *output_names(model, outputs)]
    names = list(unique(names))[len(parameters) :]
    for port, name in zip(ov_model.outputs, names):
        port.tensor.set_names({name})
    return ov_model


def symbolic_input(spec):
    from keras.src.backend.openvino.tensor import symbolic

    if backend.is_tensor(spec):
        spec = make_input_spec(spec)
    dtype = backend.standardize_dtype(spec.dtype)
    return symbolic(dtype, backend.standardize_shape(spec.shape))


def refuse_assignments(model, state):
    changed = state.state_mapping
    if changed:
        paths = [v.path for v in model.variables if id(v) in changed]
        raise NotImplementedError(
            f"{model.name} cannot be exported: its forward pass assigns "
            f"variables (among them {paths}), and OpenVINO IR is written here "
            "without state."
        )


def refuse_python_operations(ov_model):
    from keras.src.backend.openvino.custom import Operation
    from keras.src.backend.openvino.rewriting import bodies

    parts = (ov_model, *bodies(ov_model))
    for node in (node for part in parts for node in part.get_ordered_ops()):
        if isinstance(node, Operation):
            raise NotImplementedError(
                f"OpenVINO IR cannot hold {node.operation}, which OpenVINO has "
                "no operation for and this backend computes in Python."
            )


def separate_outputs(ov_model):
    """Copies the outputs that are an input or another output.

    The ports of one tensor would have one name and one memory.
    """
    from keras.src.backend.openvino import graph
    from keras.src.backend.openvino.layout import port_of

    taken = {port_of(x) for x in ov_model.inputs}
    for result in ov_model.get_results():
        source = result.input_value(0)
        if port_of(source) in taken:
            dtype = {"destination_type": source.element_type.get_type_name()}
            source = graph.build("Convert", [source], dtype).output(0)
            result.input(0).replace_source_output(source)
        taken.add(port_of(source))
    # Until it is validated, a Result names its former source's tensor.
    ov_model.validate_nodes_and_infer_types()


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
