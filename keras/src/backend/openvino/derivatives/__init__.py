"""The derivatives of the node types, see `registry.Operation.gradient`."""

from keras.src.backend.openvino.derivatives import convolution
from keras.src.backend.openvino.derivatives import elementwise
from keras.src.backend.openvino.derivatives import fourier
from keras.src.backend.openvino.derivatives import linalg
from keras.src.backend.openvino.derivatives import movement
from keras.src.backend.openvino.derivatives import random
from keras.src.backend.openvino.derivatives import reductions
from keras.src.backend.openvino.derivatives import without
