"""Runs in hand: what `Pool.fit` does, by its parts, so that it can pause, be written, read, parted and joined."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.backends.contract import SHUFFLES
from pmlp_np.data.dataset import Dataset
from pmlp_np.pool.fit_arguments import FitArguments
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.fit_data import fit_data, watch_of
from pmlp_np.training.loop import train
from pmlp_np.training.saved_run import plain_of, run_of
from pmlp_np.training.settings import Settings


@dataclass
class Run:
    """A fit that has begun or is to begin. state.progress is the pool's."""

    pool: pm.Pool
    state: TrainingState
    settings: Settings
    data: Dataset
    validation: Dataset | None

    def go_on(self, pause: Callable[[], bool] | None = None) -> str:
        pool, settings = self.pool, self.settings
        assert self.state.progress is pool._progress
        return train(
            pool._ready(), self.state, pool._records, watch_of(pool._plan, settings), self.data, self.validation,
            settings, pool.ids_, pool._kept_best, pause,
        )  # fmt: skip

    def go_on_with_pauses(self, k: int, then: Callable[[Run], Run]) -> tuple[Run, int]:
        """Pause at every k-th look, and go on with what `then` makes of the run. Returns the run, and how often."""
        looks, pauses, run = 0, 0, self

        def pause() -> bool:
            nonlocal looks
            looks += 1
            return looks % k == 0

        while run.go_on(pause) == "paused":
            run, pauses = then(run), pauses + 1
        return run, pauses

    def take(self, ids: Any) -> Run:
        """The run of some members, with a pool of its own."""
        positions, features = self.pool._positions(ids), self.pool._plan.features
        pool = self.pool.subset(ids)
        of = None if features is None else features.of
        data, validation = (None if each is None else each.take(positions, of) for each in (self.data, self.validation))
        assert data is not None
        return replace(
            self, pool=pool, state=self.state.take(positions, pool._progress), data=data, validation=validation
        )


def begun(
    pool: pm.Pool,
    *data: Any,
    epochs: Any,
    planned: Any = None,
    asked: Any = None,
    features: Any = None,
    first: bool = True,
    **how: Any,
) -> Run:
    """A run of the pool's members: epochs and planned may be one number or (n_members,); else as `Pool.fit`, or where
    it isn't the first, as `Pool.partial_fit`."""
    if first:
        plan = replace(pool._plan, features=pool._feature_sets(features))
        pool._set_contents(pool._contents().started_afresh(plan))
    most = int(np.max(epochs))
    arguments = FitArguments(*data, epochs=max(most, 1), features=features, **({"progress": False} | how))
    settings = arguments.settings()
    rows, validation = fit_data(
        pool._plan,
        pool.ids_,
        arguments.X,
        arguments.y,
        arguments.validation_data,
        arguments.own_data(),
        settings,
        first,
    )
    counts, own = rows.counts(len(pool)), pool.specs.batch_size
    batch_size = np.minimum(np.where(own > 0, own, settings.batch_size), counts)
    pool._ready()
    pool._kept_best = pool._kept_best or settings.early_stopping
    asked = np.ones(len(pool), bool) if asked is None else asked
    state = TrainingState.start(pool._progress, asked, epochs, batch_size, SHUFFLES[settings.shuffle], planned)
    return Run(pool, state, settings, rows, validation)


def written(state: TrainingState, settings: Settings) -> tuple[str, bytes]:
    """A run as text and bytes."""
    values, arrays = plain_of(state, settings)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return json.dumps(values, allow_nan=False), file.getvalue()


def read(text: str, content: bytes, n_members: int, callbacks: Sequence[Any] = ()) -> tuple[TrainingState, Settings]:
    """The inverse, without pickle."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return run_of(json.loads(text), dict(file), n_members, callbacks)


def through_files(run: Run, folder: Path) -> Run:
    """The same run, as it is when its pool and its state have been written and read again."""
    run.pool.save(folder / "pool.pmlp")
    pool = pm.load(folder / "pool.pmlp")
    state, settings = read(*written(run.state, run.settings), len(pool), run.settings.callbacks)
    assert settings == run.settings
    for name, values in vars(state.progress).items():
        assert np.array_equal(values, getattr(pool._progress, name), equal_nan=values.dtype.kind == "f"), name
    state.progress = pool._progress
    return replace(run, pool=pool, state=state, settings=settings)
