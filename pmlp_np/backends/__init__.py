"""Backends, which do the arithmetic. Each is imported when a pool first needs it, and imports no other backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pmlp_np.backends.contract import Backend
from pmlp_np.base import interrupts
from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.state.plan import Plan


def _numba() -> type[Backend]:
    from pmlp_np.backends.numba.backend import NumbaBackend

    return NumbaBackend


def _cupy() -> type[Backend]:
    from pmlp_np.backends.cupy.backend import CupyBackend

    return CupyBackend


def _reference() -> type[Backend]:
    from pmlp_np.backends.reference.backend import ReferenceBackend

    return ReferenceBackend


@dataclass(frozen=True)
class Entry:
    """A backend: a function that imports its class, and its devices, the default first."""

    load: Callable[[], type[Backend]]
    devices: tuple[str, ...] = ("cpu",)


BACKENDS = {
    "numba": Entry(_numba),
    "cupy": Entry(_cupy, ("gpu",)),
    "reference": Entry(_reference, ("cpu", "gpu")),
}
# The name of the fastest backend that is installed.
AUTO = "auto"


def check(name: Any, device: Any = None) -> tuple[str, str]:
    """Return (backend, device) for the name of a backend and a device; None: the backend's default device.

    Raises DataError for an unknown name or device.
    """
    if not isinstance(name, str) or name not in (*BACKENDS, AUTO):
        raise DataError(unknown_name("backend", name, (*BACKENDS, AUTO)))
    chosen = next(iter(BACKENDS)) if name == AUTO else name
    devices = BACKENDS[chosen].devices
    if device is None:
        return chosen, devices[0]
    if device not in devices:
        raise DataError(compose("device", " or ".join(map(repr, devices)) + f" for backend {name!r}", show(device)))
    return chosen, device


def create(name: str, device: str, plan: Plan) -> Backend:
    """Create a backend for the members of a plan, not yet initialized."""
    # An interrupted import would leave a Numba in sys.modules that fails from then on.
    with interrupts.held():
        backend = BACKENDS[name].load()
    return backend(plan, device)


def machine_facts() -> dict[str, Any]:
    """Return facts of this machine by name, in a second or two: see backends/numba/machine.py."""
    with interrupts.held():
        from pmlp_np.backends.numba.machine import facts

    return facts()
