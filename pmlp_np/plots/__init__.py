"""Pictures of a pool: its loss curves, and its members' scores by size, by activation and over two hyperparameters.

They need matplotlib (`pip install 'pmlp_np[plots]'`), which is imported when the first is drawn. Each draws into the
axes it is given, or into a figure of its own that no window and no pyplot knows of, and returns the axes:

    pm.plots.loss_curves(pool, by="activation").figure.savefig("curves.png", dpi=200)
"""

from pmlp_np.plots.curves import loss_curves
from pmlp_np.plots.heat import heat_map
from pmlp_np.plots.looks import ACTIVATION_LOOKS, Look
from pmlp_np.plots.scores import score_by_activation, score_by_size

__all__ = ["ACTIVATION_LOOKS", "Look", "heat_map", "loss_curves", "score_by_activation", "score_by_size"]
