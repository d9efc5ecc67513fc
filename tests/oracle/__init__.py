"""An independent multi-layer perceptron, plain float64 NumPy, that the library's members are held to.

It shares no code with pmlp_np and doesn't import it: formulas stand in textbook form, one network at a time, and little
is done for speed. `test_oracle_*.py` hold it to finite differences, PyTorch, scikit-learn and Philox's test vectors.

Shapes: X is (rows, features), raw outputs are (rows, outputs), weights are (fan_in, fan_out), biases are (fan_out,).
Non-finite values flow through as IEEE arithmetic says, without warnings, so that a diverging network can be followed.
"""

from .activation_functions import ACTIVATIONS, KINKS, SHRINK, logistic, normal_cdf
from .arrays import Array
from .initial_weights import INITIALIZERS, initial_weights, open_uniform
from .learning_rates import SCHEDULES, rate_factor
from .loss_functions import LOSSES, in_heads
from .optimizer_steps import OPTIMIZERS, SLOT_POWERS, adamw, rmsprop, sgd
from .perceptron import OracleMLP
from .philox import dropout_mask, key_words, order_key, philox4x32, shuffled_order, stream_key

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "KINKS",
    "LOSSES",
    "OPTIMIZERS",
    "SCHEDULES",
    "SHRINK",
    "SLOT_POWERS",
    "Array",
    "OracleMLP",
    "adamw",
    "dropout_mask",
    "in_heads",
    "initial_weights",
    "key_words",
    "logistic",
    "normal_cdf",
    "open_uniform",
    "order_key",
    "philox4x32",
    "rate_factor",
    "rmsprop",
    "sgd",
    "shuffled_order",
    "stream_key",
]
