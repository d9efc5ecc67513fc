"""Settings: the arguments of a search that say how to search, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.model_selection.ensemble_selection import chooser
from pmlp_np.model_selection.space import Space
from pmlp_np.pool.sharded import check_client

BATCH_SIZE = 64


@dataclass(frozen=True)
class Settings:
    """Arguments of a search, checked. See `search` for their meaning."""

    time_budget: float | None = 60.0
    max_members: int | None = None
    max_epochs: int | None = None
    select: str | int = "greedy"
    batch_size: int = BATCH_SIZE
    n_threads: int | None = None
    seed: int = 0
    progress: bool | str = "auto"
    space: Space | None = None
    metric: Any = None
    halving: int | None = None
    client: Any = None

    def __post_init__(self) -> None:
        budget = self.time_budget
        if budget is not None and not (checks.is_number(budget) and 0.0 < budget < float("inf")):
            raise DataError(compose("time_budget", "seconds, above 0, or None", show(budget)))
        for name in ("max_members", "max_epochs"):
            value = getattr(self, name)
            if value is not None and not (checks.is_whole(value) and int(value) >= 1):
                raise DataError(compose(name, "a whole number, at least 1, or None", show(value)))
        if budget is None and self.max_members is None:
            hint = "Say max_members= where there is no time_budget."
            raise DataError(compose("max_members", "a number of members", "None", hint))
        if self.halving is not None and not (checks.is_whole(self.halving) and int(self.halving) >= 2):
            hint = "One configuration in so many goes on at each cut."
            raise DataError(compose("halving", "a whole number, at least 2, or None", show(self.halving), hint))
        checks.whole("seed", self.seed, 0, 2**63)
        check_client(self.client)
        chooser(self.select)

    @property
    def how(self) -> dict[str, Any]:
        """Return the arguments of `fit` that every pool has."""
        return {
            "batch_size": self.batch_size, "n_threads": self.n_threads, "progress": self.progress,
            "on_interrupt": "keep", "client": self.client,
        }  # fmt: skip
