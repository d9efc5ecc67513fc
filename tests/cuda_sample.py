"""The formulas of one pool as CUDA C++, committed: what the kernels are compiled with is there to be read.

python tests/cuda_sample.py       # writes cuda_sample.cuh, after a change of formulas or of how they are rendered
"""

from pathlib import Path

from pmlp_np.backends.cupy.formulas_text import pool_text
from pmlp_np.formulas.losses import as_loss

FILE = Path(__file__).with_suffix(".cuh")


def rendered() -> str:
    """Formulas of a pool with these members, in float32."""
    formulas = pool_text(as_loss("huber"), "float32", ["gelu", "tanh"], ["adam", "sgd"], ["cosine"])
    return f"// Written by {Path(__file__).name}: formulas of a pool, as the CuPy backend compiles them.\n\n{formulas}"


if __name__ == "__main__":
    FILE.write_text(rendered(), "utf-8")
