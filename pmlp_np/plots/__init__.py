"""Plots of a pool: loss curves, and scores of members by size, by activation and over two hyperparameters.

Plots need matplotlib (`pip install 'pmlp_np[plots]'`), which is imported by the first call. Each function draws into
the argument `ax`, or into the axes of a new figure that pyplot does not manage, and returns the axes:

    pm.plots.loss_curves(pool, by="activation").figure.savefig("curves.png", dpi=200)
"""

from pmlp_np.formulas.activations import Style
from pmlp_np.plots.curves import loss_curves
from pmlp_np.plots.heat import heat_map
from pmlp_np.plots.scores import score_by_activation, score_by_size
from pmlp_np.plots.styles import ACTIVATION_STYLES

# Aliases: the names in version 0.1.0.
ACTIVATION_LOOKS, Look = ACTIVATION_STYLES, Style

__all__ = [
    "ACTIVATION_LOOKS",
    "ACTIVATION_STYLES",
    "Look",
    "Style",
    "heat_map",
    "loss_curves",
    "score_by_activation",
    "score_by_size",
]
