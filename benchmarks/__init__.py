"""Speed and memory of pmlp_np beside its peers. Run a script as a module: `python -m benchmarks.paper_grid`."""

import os

# Where set, these slow a current NumPy. OpenBLAS reads them when NumPy loads, so they go before anything imports it.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
