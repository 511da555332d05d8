"""Functions of tensors as OpenVINO IR, and archives of these."""

import json
import os
import re
from pathlib import Path

import numpy as np
import openvino as ov

from keras.src import backend
from keras.src import layers
from keras.src import tree
from keras.src.backend.openvino import device
from keras.src.backend.openvino import fusions
from keras.src.backend.openvino import graph
from keras.src.backend.openvino import layout
from keras.src.backend.openvino import rewriting
from keras.src.backend.openvino.custom import Operation
from keras.src.backend.openvino.custom import Operations
from keras.src.backend.openvino.dtypes import BIT_CARRIERS
from keras.src.backend.openvino.dtypes import to_array
from keras.src.backend.openvino.jit import assigning
from keras.src.backend.openvino.jit import jit
from keras.src.backend.openvino.tensor import cast
from keras.src.backend.openvino.tensor import convert_to_tensor
from keras.src.backend.openvino.tensor import symbolic
from keras.src.export.openvino_utils import arguments_of
from keras.src.export.openvino_utils import input_leaves
from keras.src.export.openvino_utils import input_names
from keras.src.export.openvino_utils import install
from keras.src.export.openvino_utils import output_names
from keras.src.export.openvino_utils import save
from keras.src.export.openvino_utils import set_names
from keras.src.export.openvino_utils import staging
from keras.src.export.openvino_utils import unique
from keras.src.utils import io_utils

# ------------------------------------------------------------------- tracing


def trace(name, function, arguments, **kwargs):
    """The `openvino.Model` of a function, its inputs and outputs named.

    Args:
        name: what to call the model.
        function: takes and returns nested structures of tensors.
        arguments: a list of the specs of each of its positional arguments, as
            `arguments_of` gives.
        **kwargs: the function's other arguments.

    Raises:
        ValueError: where the function returns no tensors.
        NotImplementedError: where the function assigns variables, or computes
            what OpenVINO has no operation for.
    """
    # Kept until they are refused; a traceback ends with them.
    operations = Operations()
    # No other thread assigns some of the variables meanwhile.
    with assigning, graph.Trace(operations) as scope, _Assignments() as state:
        scope.narrows = True  # as all devices do
        scope.symbolic_dims = True
        inputs = tree.map_structure(_symbolic_input, arguments)
        try:
            outputs = function(
                *tree.map_structure(_cast_input, inputs, arguments), **kwargs
            )
        except Exception as error:
            shapes = [
                backend.standardize_shape(x.shape) for x in tree.flatten(inputs)
            ]
            error.add_note(
                f"This was the export of {name} for the input shapes {shapes}; "
                "`input_signature` can give the dims that a model must know."
            )
            raise
        results = [
            _cast_output(convert_to_tensor(y)).output
            for y in tree.flatten(outputs)
            if y is not None
        ]
    parameters = [x.output.get_node() for _, x in input_leaves(inputs)]
    ov_model = ov.Model(results, parameters, name)
    # First, as random numbers assign their seeds too.
    _refuse_python_operations(ov_model)
    _refuse_assignments(name, state.assigned)
    if not results:
        raise ValueError(f"{name} cannot be exported: it returns no tensors.")
    layout.sink_transposes(ov_model)
    fusions.prevent_fusions(ov_model)
    _separate_outputs(ov_model)
    set_names(
        ov_model,
        input_names(function, arguments),
        output_names(function, outputs),
    )
    device.keep_floats(ov_model)
    return ov_model


# OpenVINO's bindings take the bits of bfloat16 for a float16, and give them as
# one. What others pass and get is float32.


def _symbolic_input(spec):
    dtype = backend.standardize_dtype(spec.dtype)
    dtype = "float32" if dtype in BIT_CARRIERS else dtype
    return symbolic(dtype, backend.standardize_shape(spec.shape))


def _cast_input(x, spec):
    return cast(x, backend.standardize_dtype(spec.dtype))


def _cast_output(x):
    return cast(x, "float32") if x.dtype in BIT_CARRIERS else x


class _Assignments(backend.StatelessScope):
    """A scope that knows the paths of the variables that were assigned."""

    def __init__(self):
        super().__init__()
        self.assigned = set()

    def add_update(self, update):
        super().add_update(update)
        self.assigned.add(update[0].path)


def _refuse_assignments(name, paths):
    if paths:
        raise NotImplementedError(
            f"{name} cannot be exported: its forward pass assigns variables "
            f"({', '.join(sorted(paths))}), and OpenVINO IR is written here "
            "without state."
        )


def _refuse_python_operations(ov_model):
    found = {
        _described(node)
        for part in (ov_model, *rewriting.bodies(ov_model))
        for node in part.get_ordered_ops()
        if isinstance(node, Operation)
    }
    if found:
        raise NotImplementedError(
            f"{ov_model.get_friendly_name()} cannot be exported: OpenVINO IR "
            f"cannot hold {', '.join(sorted(found))}, which OpenVINO has no "
            "operation for and this backend computes in Python."
        )


def _described(operation):
    path = operation.get_friendly_name().rpartition("/")[0]
    return f"{operation.operation} of {path}" if path else operation.operation


def _separate_outputs(ov_model):
    """Copies the outputs that are an input or another output.

    The ports of one tensor would have one name and one memory.
    """
    taken = {layout.port_of(x) for x in ov_model.inputs}
    for result in ov_model.get_results():
        source = result.input_value(0)
        if layout.port_of(source) in taken:
            dtype = {"destination_type": source.element_type.get_type_name()}
            source = graph.build("Convert", [source], dtype).output(0)
            result.input(0).replace_source_output(source)
        taken.add(layout.port_of(source))
    # Until it is validated, a Result names its former source's tensor.
    ov_model.validate_nodes_and_infer_types()


# --------------------------------------------------------------- compression

# float16 holds all integers up to the one, and has its full precision down to
# the other. Beyond are positions and bounds, below epsilons.
MAX_COMPRESSED = 2.0**11
MIN_COMPRESSED = 2.0**-14


def compress(ov_model):
    """Makes float16 of the float32 weights that it rounds to 11 bits.

    `openvino.save_model` does it too, but makes 65504 of larger numbers, and
    rounds scales by which `Interpolate` finds shapes.
    """
    for part in (ov_model, *rewriting.bodies(ov_model)):
        for node in part.get_ops():
            if node.get_type_name() == "Constant" and _is_compressible(node):
                array = to_array(node.get_tensor_view())
                half = graph.constant(array.astype("float16"))
                rewriting.rewire(node, graph.plain_cast(half, "float32"))


def _is_compressible(constant):
    is_float32 = constant.get_output_element_type(0) == ov.Type.f32
    shape = constant.get_output_shape(0)
    if not is_float32 or len(shape) < 2 or 0 in shape:
        return False
    array = to_array(constant.get_tensor_view())
    largest = max(array.max(), -array.min())
    return MIN_COMPRESSED <= largest <= MAX_COMPRESSED


# ------------------------------------------------------------------ archives


class OpenvinoExportArchive:
    """Writes functions of layers and models as a folder of OpenVINO IRs.

    It is `keras.export.ExportArchive` on this backend. A SavedModel is
    TensorFlow's own format; in its place `write_out("path")` makes

    - `path/name/1/model.xml` and `model.bin` for each endpoint, which
      `openvino.Core().read_model` reads; 1 is the version, as OpenVINO Model
      Server has it,
    - `path/config.json`, with which the server serves all of them,
    - `path/name.npz` for each collection of variables, which `numpy.load`
      reads.

    Each endpoint has its own copy of the weights that it uses. Inputs and
    outputs are called as `model.export(..., format="openvino")` does.

    Example:

    ```python
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        name="serve",
        fn=model.call,
        input_signature=[keras.InputSpec(shape=(None, 3), dtype="float32")],
    )
    archive.write_out("path")

    # Without the hint, CPUs that have bfloat16 compute in it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    path = "path/serve/1/model.xml"
    serve = openvino.Core().compile_model(path, "CPU", exact)
    y = serve(np.ones((8, 3), "float32"))[0]
    ```

    or `ovms --config_path path/config.json --rest_port 8000`.
    """

    def __init__(self):
        self._tracked = []
        self._endpoints = {}
        self._collections = {}

    @property
    def variables(self):
        """The variables of the layers that are tracked."""
        found = {id(v): v for x in self._tracked for v in x.variables}
        return list(found.values())

    @property
    def trainable_variables(self):
        return [v for v in self.variables if v.trainable]

    @property
    def non_trainable_variables(self):
        return [v for v in self.variables if not v.trainable]

    def track(self, resource):
        """Adds the variables of a layer or model to `variables`.

        Endpoints have the variables that they use without it.

        Raises:
            ValueError: for what is no layer, or not built.
        """
        if not isinstance(resource, layers.Layer):
            raise ValueError(
                "Invalid resource type: `track` takes a Keras `Layer` or "
                f"`Model`. Received: resource={resource} (of type "
                f"{type(resource)})"
            )
        if not resource.built:
            raise ValueError(
                f"{resource.name} has no variables yet. It must be built "
                "before export."
            )
        self._tracked.append(resource)

    def add_endpoint(self, name, fn, input_signature=None, **kwargs):
        """Adds a function to what is written.

        It is traced by `write_out`, with the values that variables have then,
        and must not assign any.

        Args:
            name: letters, digits, `_` and `-`; the name of the folder and of
                the served model.
            fn: a function of (nested) tensors, such as `model.call`.
            input_signature: a list of the shapes and dtypes of each positional
                argument, as a structure of `keras.InputSpec`,
                `keras.KerasTensor` or backend tensors; `None` is an open dim.

        Returns:
            `fn` as a compiled function, which other endpoints may call.

        Raises:
            TypeError: for a signature of something else.
            ValueError: for a name that is taken or has other characters, and
                without a signature.
        """
        _check_name("Endpoint", name, self._endpoints)
        if kwargs:
            raise ValueError(
                f"`add_endpoint` takes no {sorted(kwargs)} on the openvino "
                "backend."
            )
        if input_signature is None:
            raise ValueError(
                f"For the endpoint '{name}' you must provide an "
                "`input_signature`, the shape and dtype of each argument, as "
                "in [keras.InputSpec(shape=(None, 3), dtype='float32')]."
            )
        arguments = arguments_of(fn, input_signature)
        self._endpoints[name] = fn, arguments
        specs = [
            backend.standardize_shape(x.shape) for x in tree.flatten(arguments)
        ]
        return jit(fn, specs)

    def track_and_add_endpoint(self, name, resource, input_signature, **kwargs):
        """`track` of a layer or model, and `add_endpoint` of its `__call__`."""
        self.track(resource)
        return self.add_endpoint(
            name, resource.__call__, input_signature, **kwargs
        )

    def add_variable_collection(self, name, variables):
        """Adds variables to what is written, as `name.npz`.

        An array is called by the path of its variable. Those of bfloat16 and
        float8, which files of NumPy do not know, are float32.

        Args:
            name: letters, digits, `_` and `-`.
            variables: a list, tuple or set of `keras.Variable`.

        Raises:
            ValueError: for a name that is taken or has other characters, and
                for other variables.
        """
        _check_name("Collection", name, self._collections)
        if not isinstance(variables, (list, tuple, set)):
            raise ValueError(
                "`variables` must be a list, tuple or set. Received: "
                f"variables={variables} (of type {type(variables)})"
            )
        others = [v for v in variables if not isinstance(v, backend.Variable)]
        if others:
            raise ValueError(
                "`variables` must be instances of `keras.Variable`. Received "
                f"also {others}."
            )
        self._collections[name] = list(variables)

    def write_out(self, filepath, options=None, verbose=True):
        """Writes the archive.

        The folder appears when it is complete, and takes the place of an older
        archive; where an endpoint cannot be exported, or writing fails, the
        older one stays as it is.

        Args:
            filepath: `str` or `pathlib.Path` of the folder.
            options: a dict; `{"compress_to_fp16": True}` keeps weights as
                `model.export(..., format="openvino")` does with it.
            verbose: whether to say where it is, and which endpoints it has.

        Raises:
            FileExistsError: where something else than an archive is, or one
                that somebody changed.
            NotImplementedError: where an endpoint assigns variables, or
                computes what OpenVINO has no operation for.
            ValueError: where no endpoint was added, and for other options.
            OSError: where files cannot be written.
        """
        if not self._endpoints:
            raise ValueError(
                "No endpoints have been set; `add_endpoint` adds one."
            )
        path = Path(os.path.abspath(filepath))
        _check_replaceable(path)
        models = self._traced(**_known_options(options))
        with staging(path) as folder:
            self._write(models, folder / path.name)
            install(folder, [path])
        if verbose:
            endpoints = "\n\n".join(map(_endpoint_text, models.items()))
            io_utils.print_msg(
                f"Saved OpenVINO IRs at '{filepath}'. The following endpoints "
                f"are available:\n\n{endpoints}"
            )

    def _traced(self, compress_to_fp16):
        models = {}
        for name, (function, arguments) in self._endpoints.items():
            models[name] = trace(name, function, arguments)
            if compress_to_fp16:
                compress(models[name])
        return models

    def _write(self, models, folder):
        folder.mkdir()
        for name, ov_model in models.items():
            version = folder / name / "1"
            version.mkdir(parents=True)
            save(ov_model, version / "model.xml")
        for name, variables in self._collections.items():
            keys = unique(v.path for v in variables)
            np.savez(folder / name, **dict(zip(keys, map(_array, variables))))
        config = json.dumps(_config(models), indent=2)
        (folder / "config.json").write_text(config)


def _config(names):
    """What `config.json` says of the models of these names."""
    entries = [{"config": {"name": x, "base_path": x}} for x in names]
    return {"model_config_list": entries}


def _check_name(kind, name, taken):
    if name in taken:
        raise ValueError(f"{kind} name '{name}' is already taken.")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(
            f"{kind} names are letters, digits, '_' and '-'. Received: "
            f"name={name!r}"
        )


def _known_options(options):
    options = {"compress_to_fp16": False, **(options or {})}
    if len(options) > 1:
        raise ValueError(
            "`options` may have 'compress_to_fp16'. Received: "
            f"options={options}"
        )
    return options


def _array(variable):
    array = backend.convert_to_numpy(variable)
    is_unknown = array.dtype.name in BIT_CARRIERS
    return array.astype("float32") if is_unknown else array


def _check_replaceable(path):
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not is_empty and not _is_archive(path):
        raise FileExistsError(
            f"Cannot write an archive to '{path}': it is there and has, or is, "
            "something else than an archive."
        )


def _is_archive(path):
    """Whether a folder is as `write_out` writes it, with nothing beside."""
    try:
        config = json.loads((path / "config.json").read_text())
        entries = config["model_config_list"]
        names = [entry["config"]["name"] for entry in entries]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    models = {f"{name}/1/model.xml" for name in names}
    weights = {f"{name}/1/model.bin" for name in names}
    files = {
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if not file.is_dir()
    }
    others = files - models - weights - {"config.json"}
    return (
        models
        and models <= files
        and config == _config(names)
        and all(re.fullmatch(r"[\w-]+\.npz", file) for file in others)
    )


def _endpoint_text(endpoint):
    name, ov_model = endpoint
    lines = [f"* Endpoint '{name}'"]
    for kind, ports in (("in", ov_model.inputs), ("out", ov_model.outputs)):
        lines += [f"  {kind} {x.any_name}: {graph.describe(x)}" for x in ports]
    return "\n".join(lines)
