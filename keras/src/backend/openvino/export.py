class OpenvinoExportArchive:
    """Not available: a SavedModel is TensorFlow's own format."""

    def track(self, resource):
        raise NotImplementedError(_MESSAGE)

    def add_endpoint(self, name, fn, input_signature=None, **kwargs):
        raise NotImplementedError(_MESSAGE)


_MESSAGE = (
    "`ExportArchive` writes a TensorFlow SavedModel, which the OpenVINO "
    "backend cannot; use `model.export(path, format='openvino')`."
)
