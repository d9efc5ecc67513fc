"""Loading of a pool from a file."""

from __future__ import annotations

import os

from pmlp_np import backends
from pmlp_np.base.archive import MISFITS, open_archive, unfit
from pmlp_np.base.errors import FileFormatError
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.file_format import PoolFile
from pmlp_np.pool.held_members import require_room
from pmlp_np.pool.pool import Pool
from pmlp_np.state.plan import Plan


def load(path: str | os.PathLike[str]) -> Pool:
    """Load a pool from a file of `Pool.save`. Raises FileNotFoundError, and FileFormatError for any other file."""
    with open_archive(path, "pool") as archive:
        try:
            return Pool._from_contents(_contents(PoolFile(archive)))
        except FileFormatError:
            raise
        except MISFITS as error:
            raise unfit(path, "a pool", error) from error


def _contents(file: PoolFile) -> Contents:
    head = file.header
    specs, (ids, stream_key, order_key) = file.specs(), file.keys()
    plan = Plan(specs, head["n_features"], head["n_outputs"], file.loss, file.dtype, stream_key, order_key,
                file.features(), file.names)  # fmt: skip
    file.check_plan(plan)
    contents = Contents(plan, ids, file.backend, head["device"], file.progress(), file.records(),
                        assigned=file.assigned(plan), kept_best=head["kept_best"], ended=head["ended"])  # fmt: skip
    require_room(plan, "Load the file on a machine with more memory.")
    contents.backend = backends.create(file.backend, head["device"], plan)
    file.restore(contents.backend.store, plan, contents.progress)
    return contents
