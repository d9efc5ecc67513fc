"""Loading of a pool from a file."""

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
    """Load a pool from `path`, a file of `Pool.save`.

    backend, device: of the loaded pool, as for `Pool`. Default: those of the saved pool. Numba and CuPy train to the
        same bits.

    Raises FileNotFoundError; FileFormatError for any other file; DataError for a backend or device that is unavailable.
    """
    chosen = None if backend is None and device is None else backends.check(backend or backends.AUTO, device)
    with open_archive(path, "pool") as archive:
        try:
            return Pool._from_contents(contents_of(PoolFile(archive), chosen))
        except BackendUnavailable as error:
            raise error.of(archive.name) from None
        except FileFormatError:
            raise
        except MISFITS as error:
            raise unfit(path, "a pool", error) from error


class BackendUnavailable(Exception):
    """This machine lacks the backend of a file; the file is not damaged."""

    def __init__(self, reason: DataError | DeviceError) -> None:
        super().__init__()
        self.reason = reason

    def of(self, name: str) -> DataError | DeviceError:
        """Return the reason, with the name of the file."""
        return type(self.reason)(f"{name}, {self.reason}")


def contents_of(file: PoolFile, chosen: tuple[str, str] | None) -> Contents:
    """Return the contents of a pool's file. chosen: (backend, device). None: those in the file.

    Raises BackendUnavailable, and FileFormatError or one of MISFITS for a file whose parts do not fit together.
    """
    head = file.header
    specs, (ids, stream_key, order_key) = file.specs(), file.keys()
    plan = Plan(specs, head["n_features"], head["n_outputs"], file.loss, file.dtype, stream_key, order_key,
                file.features(), file.names)  # fmt: skip
    file.check_plan(plan)
    name, device = chosen or (file.backend, head["device"])
    name, device = backends.resolve(name, device, plan)
    contents = Contents(plan, ids, name, device, file.progress(), file.records(),
                        assigned=file.assigned(plan), kept_best=head["kept_best"], ended=head["ended"])  # fmt: skip
    require_room(plan, "Load the file on a machine with more memory.")
    try:
        contents.backend = backends.create(name, device, plan)
    except (DataError, DeviceError) as error:
        raise BackendUnavailable(error) from None
    file.restore(contents.backend.store, plan, contents.progress)
    return contents
