"""Resuming: a run goes on from its last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pmlp_np import backends
from pmlp_np.base.archive import MISFITS, open_archive, unfit
from pmlp_np.base.errors import DataError, FileFormatError, compose, show
from pmlp_np.pool.checkpoints import KIND, OVER, Checkpoints, check_every, file_of, run_folder, run_in, taken_apart
from pmlp_np.pool.file_format import PoolFile
from pmlp_np.pool.files import BackendUnavailable, contents_of
from pmlp_np.pool.fit_arguments import FitArguments
from pmlp_np.pool.pool import Pool
from pmlp_np.training.callbacks import Callback


def resume(
    checkpoint: str | os.PathLike[str],
    X: Any = None,
    y: Any = None,
    *,
    validation_data: tuple[Any, ...] | None = None,
    rows: Any = None,
    targets: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    validation_rows: Any = None,
    callbacks: Sequence[Callback] = (),
    time_budget: float | None = None,
    progress: bool | str | None = None,
    n_threads: int | None = None,
    on_interrupt: str | None = None,
    checkpoint_every: float | None = None,
    backend: str | None = None,
    device: str | None = None,
    client: Any = None,
) -> Pool:
    """Go on with a run from its last checkpoint, and return its pool with the bits of a run that was never stopped.

    checkpoint: the folder that was given to `Pool.fit` or `Pool.partial_fit`. Checkpoints go on to be written there.
    X, y, validation_data, rows, targets, sample_weight, class_weight, validation_rows: the data of the run, as they
        were given to fit; they are in no checkpoint. Other data are refused. A run that was done needs none.
    callbacks: the callbacks of the run, in their order. Default: none.
    time_budget: seconds from now on. Default None: what is left of the run's.
    progress, n_threads, on_interrupt, checkpoint_every, backend, device: as for fit and `pm.load`. Default None: those
        of the run. client: as for fit; default None: here.

    Raises DataError where there is no checkpoint, another process trains in the folder, or data or callbacks are not
    those of the run; FileFormatError for a checkpoint that is damaged.
    """
    if callbacks is None:
        callbacks = ()
    if not isinstance(callbacks, (tuple, list)):
        raise DataError(compose("callbacks", "a list of functions", show(callbacks)))
    path = file_of(checkpoint)
    chosen = None if backend is None and device is None else backends.check(backend or backends.AUTO, device)
    if checkpoint_every is not None:
        check_every(checkpoint_every)
    with run_folder(checkpoint, begins=False) as folder:
        with open_archive(path, KIND) as archive:
            try:
                values, arrays, every = taken_apart(archive)
                contents = contents_of(PoolFile(archive), chosen)
                state, settings = run_in(archive, values, arrays, contents.progress, callbacks)
            except BackendUnavailable as error:
                raise error.of(archive.name) from None
            except (FileFormatError, DataError):
                raise
            except MISFITS as error:
                raise unfit(path, "a checkpoint", error) from error
        pool: Pool = Pool._from_contents(contents)
        if pool.ended_ in OVER:
            return pool
        if X is None:
            hint = "Hand over the arguments of fit that are data: no checkpoint has them."
            raise DataError(compose("X", "the data of the run", "None", hint))
        given = {"progress": progress, "n_threads": n_threads, "on_interrupt": on_interrupt}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if time_budget is not None:
            # Checked before it is added to.
            replace(settings, time_budget=time_budget, monitor=settings.monitor or None)
            changed["time_budget"] = state.seconds + time_budget
        settings = replace(settings, monitor=settings.monitor or None, **changed)
        data = FitArguments(
            X, y, validation_data=validation_data, rows=rows, targets=targets, sample_weight=sample_weight,
            class_weight=class_weight, validation_rows=validation_rows,
        )  # fmt: skip
        assert folder is not None
        checkpoints = Checkpoints(folder, every if checkpoint_every is None else checkpoint_every, settings,
                                  pool._as_archive)  # fmt: skip
        return pool._go_on(data, settings, state, checkpoints, client)
