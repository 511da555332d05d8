"""The OpenVINO backend.

Its modules register node types and their derivatives as they are imported, and
`indexing` and `operators` give tensors `x[...]` and `x + y`.
"""

from keras.src.backend.common.name_scope import name_scope
from keras.src.backend.openvino import complex
from keras.src.backend.openvino import core
from keras.src.backend.openvino import derivatives
from keras.src.backend.openvino import image
from keras.src.backend.openvino import indexing
from keras.src.backend.openvino import linalg
from keras.src.backend.openvino import math
from keras.src.backend.openvino import nn
from keras.src.backend.openvino import numpy
from keras.src.backend.openvino import operators
from keras.src.backend.openvino import opset
from keras.src.backend.openvino import random
from keras.src.backend.openvino.core import IS_THREAD_SAFE
from keras.src.backend.openvino.core import SUPPORTS_COMPLEX_DTYPES
from keras.src.backend.openvino.core import SUPPORTS_RAGGED_TENSORS
from keras.src.backend.openvino.core import SUPPORTS_SPARSE_TENSORS
from keras.src.backend.openvino.core import Variable
from keras.src.backend.openvino.core import cast
from keras.src.backend.openvino.core import compute_output_spec
from keras.src.backend.openvino.core import cond
from keras.src.backend.openvino.core import convert_to_numpy
from keras.src.backend.openvino.core import convert_to_tensor
from keras.src.backend.openvino.core import device_scope
from keras.src.backend.openvino.core import is_tensor
from keras.src.backend.openvino.core import random_seed_dtype
from keras.src.backend.openvino.core import shape
from keras.src.backend.openvino.core import standardize_shape
from keras.src.backend.openvino.core import vectorized_map
from keras.src.backend.openvino.rnn import bidirectional_gru
from keras.src.backend.openvino.rnn import bidirectional_lstm
from keras.src.backend.openvino.rnn import cudnn_ok
from keras.src.backend.openvino.rnn import gru
from keras.src.backend.openvino.rnn import lstm
from keras.src.backend.openvino.rnn import rnn
