"""Pictures of a pool: its loss curves, and its members' scores by size, by activation and over two hyperparameters.

They need matplotlib (`pip install 'pmlp_np[plots]'`), which is imported when the first is drawn. Each draws into the
axes it is given, or into a new figure, of which neither pyplot nor a window knows, and returns the axes:

    pm.plots.loss_curves(pool, by="activation").figure.savefig("curves.png", dpi=200)
"""

from pmlp_np.formulas.activations import Style
from pmlp_np.plots.curves import loss_curves
from pmlp_np.plots.heat import heat_map
from pmlp_np.plots.scores import score_by_activation, score_by_size
from pmlp_np.plots.styles import ACTIVATION_STYLES

# Their names in 0.1.0.
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
