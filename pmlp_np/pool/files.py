"""Loading a pool from a file."""

from __future__ import annotations

import os

from pmlp_np import backends
from pmlp_np.base.archive import MISFITS, open_archive, unfit
from pmlp_np.base.errors import (
    FileFormatError,
    require_memory,
)
from pmlp_np.pool.file_format import PoolFile
from pmlp_np.pool.pool import Pool
from pmlp_np.state.plan import Plan


def load(path: str | os.PathLike[str]) -> Pool:
    """Read a pool that `Pool.save` wrote. Raises FileNotFoundError, and FileFormatError for any other file."""
    with open_archive(path, "pool") as archive:
        try:
            return _read(PoolFile(archive))
        except FileFormatError:
            raise
        except MISFITS as error:
            raise unfit(path, "a pool", error) from error


def _read(file: PoolFile) -> Pool:
    head = file.header
    specs, (ids, stream_key, order_key) = file.specs(), file.keys()
    plan = Plan(specs, head["n_features"], head["n_outputs"], file.loss, file.dtype, stream_key, order_key,
                file.features(), file.names)  # fmt: skip
    file.check_plan(plan)
    pool = Pool._of(plan, ids, file.backend, head["device"])
    pool._progress, pool._records, pool._given = file.progress(), file.records(), file.given(plan)
    pool._kept_best, pool.ended_ = head["kept_best"], head["ended"]
    require_memory("specs", pool._buffer_bytes(), "Load it where there is more.")
    backend = backends.create(pool.backend, pool.device, plan)
    file.restore(backend.store, plan, pool._progress)
    pool._backend = backend
    return pool
