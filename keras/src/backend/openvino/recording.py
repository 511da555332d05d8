"""Who is told of the operations and reads of variables on this thread.

A `gradient.GradientTape` is, while it is open. Where none is, applying an
operation costs no more than the look at an empty tuple, and so does reading a
variable.
"""

import contextlib
import threading


class _State(threading.local):
    recorders = ()


state = _State()


@contextlib.contextmanager
def recorders(*recorders):
    """Tells these and no others what is applied inside."""
    outer = state.recorders
    state.recorders = recorders
    try:
        yield
    finally:
        state.recorders = outer


def tell(operation, inputs, attributes, outputs):
    """Tells the recorders what was applied, see `gradient.Step`."""
    for recorder in state.recorders:
        recorder.applied(operation, inputs, attributes, outputs)


def tell_read(variable):
    """Tells the recorders that a trainable variable is read."""
    for recorder in state.recorders:
        recorder.read(variable)
