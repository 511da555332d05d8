"""What error messages say: who asked, and why OpenVINO refuses."""

import re
import sys

from keras.src.backend.common import global_state


def asker():
    """The function and layer that are running, as in "`f` in Dense (d)".

    The function is the outermost op called by the current layer (or by user
    code outside layers), not the ops it calls.

    Returns:
        A string, empty where neither is known.
    """
    layer = running_layer()
    names = [f"`{name}`" for name in [_running_function(layer)] if name]
    if layer is not None:
        names.append(f"{layer.__class__.__name__} ({layer.name})")
    return " in ".join(names)


def blaming(message):
    """`message` after the name of who asked."""
    who = asker()
    return f"{who}: {message}" if who else message


def running_layer():
    """The layer that is called, or `None`."""
    scopes = global_state.get_global_attribute("name_scope_stack")
    callers = [scope.caller for scope in scopes or ()]
    return next((x for x in reversed(callers) if x is not None), None)


def _running_function(layer):
    """The outermost op that is running in `layer`, or else its caller."""
    op = caller = None
    frame = sys._getframe(2)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if layer is not None and owner is layer:
            break
        name = frame.f_code.co_name
        module = frame.f_globals.get("__name__", "")
        if owner is None and name[0] not in "_<":
            if module.startswith(_OPS):
                op = name
            elif not module.startswith("keras."):
                caller = caller or name
        frame = frame.f_back
    return op or caller


_OPS = tuple(
    f"keras.src.{package}."
    for package in ("activations", "losses", "metrics", "ops", "random")
)


def reason(error):
    """The sentences of an exception of OpenVINO that say what is wrong.

    Not the places in OpenVINO's source, which tell a user nothing.
    """
    text = str(error).partition("\nAt:\n")[0]  # what follows is a traceback
    for pattern, replacement in _NOISE:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    text = re.sub(r"^(\S+:)( \1)+", r"\1", " ".join(text.split()))
    return text or "it does not say why."


_NOISE = (
    (r"^(Exception from|While validating|Shape inference input) .*$", ""),
    (r"^(Cannot fallback on|Details:|Not Implemented:).*$", ""),
    (r"Check '.*' failed at \S+:\d+:", ""),
    (r"^Node (\S+?)(_\d+)? of type \w+$", r"\1:"),
    (r"\b\w+ node with name '([^']*?)(_\d+)?'", r"\1:"),
    (r"^Unsupported operation of type: \w+ name: (\S+?)(_\d+)?$", r"\1:"),
    (r"\[(CPU|cpu)\] ?|^\w+Error: ", ""),
)
