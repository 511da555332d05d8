import threading

from keras.src.backend.openvino import recording
from keras.src.backend.openvino.tensor import apply
from keras.src.backend.openvino.tensor import convert_to_tensor


class Recorder:
    def __init__(self):
        self.names = []

    def applied(self, operation, inputs, attributes, outputs):
        self.names.append(operation)


def sine():
    return apply("Sin", convert_to_tensor(1.0))


def test_recorders_are_told_what_is_applied():
    recorder = Recorder()
    with recording.recorders(recorder):
        sine()
    sine()
    assert recorder.names == ["Sin"]


def test_those_inside_take_the_place_of_those_outside():
    outer, inner = Recorder(), Recorder()
    with recording.recorders(outer):
        with recording.recorders(inner):
            sine()
        with recording.recorders():
            sine()
        assert (outer.names, inner.names) == ([], ["Sin"])
        with recording.recorders(outer, inner):
            sine()
    assert (outer.names, inner.names) == (["Sin"], ["Sin", "Sin"])


def test_an_error_ends_the_recording():
    recorder = Recorder()
    try:
        with recording.recorders(recorder):
            raise KeyError
    except KeyError:
        pass
    sine()
    assert recorder.names == [] and recording.state.recorders == ()


def test_other_threads_are_not_recorded():
    recorder = Recorder()
    with recording.recorders(recorder):
        thread = threading.Thread(target=sine)
        thread.start()
        thread.join()
    assert recorder.names == []
