"""Loading a pool from a file."""

from __future__ import annotations

import os

from pmlp_np import backends
from pmlp_np.base.archive import MISFITS, open_archive, unfit
from pmlp_np.base.errors import DataError, DeviceError, FileFormatError
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.file_format import PoolFile
from pmlp_np.pool.held_members import require_room
from pmlp_np.pool.pool import Pool
from pmlp_np.state.plan import Plan


def load(path: str | os.PathLike[str], backend: str | None = None, device: str | None = None) -> Pool:
    """Read a pool that `Pool.save` wrote.

    backend, device: where it goes on, as `Pool` takes them. Default: where it was. Numba and CuPy train on to the same
        bits.

    Raises FileNotFoundError; FileFormatError for any other file; DataError for a backend or device that is not here.
    """
    elsewhere = None if backend is None and device is None else backends.check(backend or backends.AUTO, device)
    with open_archive(path, "pool") as archive:
        try:
            contents = _contents(PoolFile(archive), elsewhere)
            return Pool._of(contents)
        except NotHere as error:
            raise error.reason from None
        except FileFormatError:
            raise
        except MISFITS as error:
            raise unfit(path, "a pool", error) from error


class NotHere(Exception):
    """The backend of a file cannot be had on this machine: no fault of the file's."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


def _contents(file: PoolFile, elsewhere: tuple[str, str] | None) -> Contents:
    head = file.header
    name, device = elsewhere or (file.backend, head["device"])
    specs, (ids, stream_key, order_key) = file.specs(), file.keys()
    plan = Plan(specs, head["n_features"], head["n_outputs"], file.loss, file.dtype, stream_key, order_key,
                file.features(), file.names)  # fmt: skip
    file.check_plan(plan)
    contents = Contents(plan, ids, name, device, file.progress(), file.records(),
                        given=file.given(plan), kept_best=head["kept_best"], ended=head["ended"])  # fmt: skip
    require_room(plan, "Load it where there is more.")
    try:
        contents.backend = backends.create(name, device, plan)
    except (DataError, DeviceError) as error:
        raise NotHere(error) from None
    file.restore(contents.backend.store, plan, contents.progress)
    return contents
