"""Operations that OpenVINO lacks, or that its CPU plugin computes wrong.

A composite has a name like any other node type, and `tensor.apply` takes it.
Eagerly its NumPy kernel computes it at once; in a graph it is spelled out in
nodes that every device computes right.
"""

import functools

from keras.src.backend.openvino.gradient import replayed
from keras.src.backend.openvino.registry import register
from keras.src.backend.openvino.tensor import OpenVINOKerasTensor
from keras.src.backend.openvino.tensor import apply


def composite(name, kernel, takes_complex=False, **traits):
    """Registers the decorated formula as the graph of a new node type.

    Args:
        name: a name that OpenVINO's opset lacks.
        kernel: called with the input arrays and the attributes as keywords.
        takes_complex: whether kernel and formula hold for complex numbers.
        **traits: what else `registry.register` takes.

    Returns:
        A decorator. The formula takes symbolic tensors and the attributes as
        keywords, and returns a tensor that is a node's only output. What
        remains under its name applies the composite to tensors.
    """

    def decorate(formula):
        def build(inputs, attributes):
            tensors = map(OpenVINOKerasTensor, inputs)
            return formula(*tensors, **attributes).output.get_node()

        if takes_complex:
            traits["complex"] = formula
        traits.setdefault("gradient", replayed(formula))
        register(name, kernel, formula=build, **traits)
        return functools.wraps(formula)(functools.partial(apply, name))

    return decorate
