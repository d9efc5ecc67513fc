"""Runs of a pool: here or on a cluster, with checkpoints or without, from the start or from where one has stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from pmlp_np.backends.contract import SHUFFLES
from pmlp_np.base import interrupts
from pmlp_np.base.exclusion import exclusive
from pmlp_np.data.dataset import Dataset
from pmlp_np.pool.checkpoints import OVER, Checkpoints
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.divergence import warn_diverged
from pmlp_np.pool.file_format import arrays_of, header_of
from pmlp_np.pool.fit_arguments import FitArguments
from pmlp_np.pool.prediction import Predicting
from pmlp_np.pool.sharded import Shard, check_client, train_sharded
from pmlp_np.state.progress import DIVERGED
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.cursor import note_begun_with, require_begun_with
from pmlp_np.training.data_keys import DataKeys
from pmlp_np.training.fit_data import fit_data, watch_of
from pmlp_np.training.loop import settle, train
from pmlp_np.training.settings import Settings


class Running(Predicting):
    """What `fit`, `partial_fit` and `resume` have in common."""

    def _train(
        self,
        rows: Dataset,
        validation: Dataset | None,
        settings: Settings,
        selected: np.ndarray,
        checkpoints: Checkpoints | None,
        client: Any,
    ) -> Self:
        """Train the members of a mask. Returns self."""
        counts = rows.counts(len(self))
        from_spec, from_fit = self.specs.batch_size, min(settings.batch_size, int(counts.max()))
        batch_size = np.minimum(np.where(from_spec > 0, from_spec, from_fit), counts)
        most = self.specs.option("max_epochs").astype(np.int64)
        left = np.where(most > 0, np.maximum(most - self._progress.epoch, 0), settings.epochs)
        epochs = np.minimum(settings.epochs, left)
        state = TrainingState.start(self._progress, selected, epochs, batch_size, SHUFFLES[settings.shuffle])
        return self._run(rows, validation, settings, state, checkpoints, client)

    def _run(
        self,
        rows: Dataset,
        validation: Dataset | None,
        settings: Settings,
        state: TrainingState,
        checkpoints: Checkpoints | None = None,
        client: Any = None,
        pause: Callable[[], bool] | None = None,
    ) -> Self:
        """Train as the state of a run says. Returns self. pause: as for `training.loop.train`."""
        self.ended_ = "interrupted"
        # A run that goes on tells of all its members, as the warnings of the process before are gone.
        healthy = (self._progress.status != DIVERGED) | bool(state.data_key.any())
        if client is None:
            try:
                with interrupts.abandoning():
                    backend = self._ready()
            except interrupts.Abandoned:
                return self
        self._kept_best = self._kept_best or settings.early_stopping
        with interrupts.ended_by_sigterm() if checkpoints else contextlib.nullcontext():
            if client is None:
                watch = watch_of(self._plan, settings)
                self.ended_ = train(
                    backend, state, self._records, watch, rows, validation, settings, self.ids_, self._kept_best,
                    pause, checkpoints,
                )  # fmt: skip
            else:
                self.ended_ = self._run_on(client, rows, validation, settings, state, checkpoints)
            if checkpoints and self.ended_ in OVER:
                checkpoints.write(state, last=True)
        warn_diverged(self.ids_[healthy & (self._progress.status == DIVERGED)], len(self))
        return self

    def _run_on(
        self,
        client: Any,
        rows: Dataset,
        validation: Dataset | None,
        settings: Settings,
        state: TrainingState,
        checkpoints: Checkpoints | None,
    ) -> str:
        """Train on the workers of a cluster. Returns how it ended."""
        keys = DataKeys(self._plan, rows)
        require_begun_with(state, self.ids_, rows.counts(len(self)), keys, validation)
        if checkpoints:
            note_begun_with(state, keys, validation)

        def join(shards: list[Shard]) -> None:
            for shard in shards:
                state.put(shard.positions, shard.state)
                self._put_members(shard.positions, shard.pool._contents())

        ended = train_sharded(client, self, rows, validation, settings, state, join, checkpoints)
        # Members that reached their target in a shard that then paused are as at a pause.
        settle(self._ready(), state, self._records, self._everyone, self._kept_best, validation is None)
        return ended

    def _put_members(self, positions: np.ndarray, part: Contents) -> None:
        """Take over what became of the members at these positions elsewhere."""
        source = part.backend or part.create_backend()
        self._ready().store.put_members(positions, source.store)
        self._progress.put(positions, part.progress)
        self._records.put_members(positions, part.records)
        self._kept_best = self._kept_best or part.kept_best

    @exclusive
    def _go_on(
        self,
        arguments: FitArguments,
        settings: Settings,
        state: TrainingState,
        checkpoints: Checkpoints,
        client: Any = None,
    ) -> Self:
        """Go on with a run that this pool has begun, on the data in the arguments. Returns self."""
        check_client(client, settings.callbacks)
        first = not self._progress.step.any()
        data, validation = fit_data(
            self._plan, self.ids_, arguments.X, arguments.y, arguments.validation_data, arguments.own_data(), settings,
            first,
        )  # fmt: skip
        with interrupts.fitting(settings.on_interrupt):
            return self._run(data, validation, settings, state, checkpoints, client)

    def _checkpoints(self, folder: Path | None, every: float, settings: Settings) -> Checkpoints | None:
        return None if folder is None else Checkpoints(folder, every, settings, self._as_archive)

    def _as_archive(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return header and arrays of the pool's file. Large arrays are streamed."""
        backend = self._ready()
        if self._kept_best and backend.store.best is None:
            backend.store.keep(self._everyone)
        contents = self._contents()
        return header_of(contents), arrays_of(contents, backend.store)
