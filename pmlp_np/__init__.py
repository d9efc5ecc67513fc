"""pmlp_np trains thousands of small multi-layer perceptrons at once, each exactly as if it were alone."""

from typing import Any as _Any

from pmlp_np import plots as plots
from pmlp_np.base.errors import (
    DataError,
    DeviceError,
    DivergedWarning,
    FileFormatError,
    MemoryNeededError,
    PmlpError,
    SpecError,
)
from pmlp_np.base.errors import compose as _compose
from pmlp_np.base.version import __version__ as __version__
from pmlp_np.formulas.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    GaussianNLL,
    Huber,
    Poisson,
    Quantile,
    SquaredError,
)
from pmlp_np.formulas.optimizers import SGD, Adam, AdamW, NAdam, RMSprop
from pmlp_np.formulas.registration import register_activation, register_loss
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.distillation import distill
from pmlp_np.model_selection.proposals import Proposals
from pmlp_np.model_selection.scoring import CustomMetric
from pmlp_np.model_selection.search import search
from pmlp_np.model_selection.table_model import TableModel
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.models.mlp import MLP
from pmlp_np.pool.files import load
from pmlp_np.pool.joining import concat
from pmlp_np.pool.pool import Pool
from pmlp_np.pool.resuming import resume
from pmlp_np.specs.members import Member, Specs
from pmlp_np.specs.search_space import PAPER_ACTIVATIONS, grid, integers, log_uniform, sample, uniform
from pmlp_np.training.callbacks import EpochEnd

# Imported at first use, with scikit-learn.
_LATE = ("MLPPoolClassifier", "MLPPoolRegressor")


def __getattr__(name: str) -> _Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from pmlp_np.estimators import pool_estimators
    except ModuleNotFoundError as error:
        hint = "Install it: pip install 'pmlp_np[sklearn]'. pm.search needs NumPy and Numba alone."
        raise DataError(_compose(f"pm.{name}", "scikit-learn", f"{error}", hint)) from error
    return getattr(pool_estimators, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})


__all__ = [
    "MLP",
    "PAPER_ACTIVATIONS",
    "SGD",
    "AbsoluteError",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "Configuration",
    "CrossEntropy",
    "CustomMetric",
    "DataError",
    "DeviceError",
    "DivergedWarning",
    "Ensemble",
    "EpochEnd",
    "FileFormatError",
    "GaussianNLL",
    "Huber",
    "Member",
    "MemoryNeededError",
    "NAdam",
    "PmlpError",
    "Poisson",
    "Pool",
    "Proposals",
    "Quantile",
    "RMSprop",
    "SpecError",
    "Specs",
    "SquaredError",
    "TableModel",
    "concat",
    "distill",
    "grid",
    "integers",
    "load",
    "log_uniform",
    "register_activation",
    "register_loss",
    "resume",
    "sample",
    "search",
    "uniform",
]
