class OpenvinoExportArchive:
    """Not available: a SavedModel is TensorFlow's own format."""

    def __init__(self):
        raise ValueError(
            "The OpenVINO backend cannot write a TensorFlow SavedModel; "
            "`model.export('model.xml', format='openvino')` writes OpenVINO "
            "IR. For a SavedModel, `model.save` the model, load it with "
            "`KERAS_BACKEND` set to tensorflow, jax or torch, and export it "
            "there."
        )
