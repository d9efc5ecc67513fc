"""How pictures draw the paper's ten activations: color and dash of each."""

# Told apart by lightness and dash as well as by hue, so that they also survive color blindness and gray print.
ACTIVATION_LINES = {
    "identity": ("#000000", "--"),
    "sigmoid": ("#88ccee", "-"),
    "tanh": ("#332288", "-"),
    "relu": ("#cc3311", "-"),
    "leaky_relu": ("#ee7733", "--"),
    "elu": ("#117733", "-"),
    "gelu": ("#ddaa33", "-"),
    "selu": ("#44aa99", "--"),
    "hardshrink": ("#aa4499", "-"),
    "mish": ("#997700", ":"),
}
