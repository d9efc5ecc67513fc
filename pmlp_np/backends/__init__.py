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
# The name that stands for the fastest backend; of one device, the first in the table that has it.
AUTO = "auto"


def check(name: Any, device: Any = None) -> tuple[str, str]:
    """Return (backend, device) for the name of a backend and a device; None: the backend's default device.

    ("auto", "") stands for a choice that depends on the plan: see `resolve`. Raises DataError for an unknown name or
    device.
    """
    if not isinstance(name, str) or name not in (*BACKENDS, AUTO):
        raise DataError(unknown_name("backend", name, (*BACKENDS, AUTO)))
    able = {each: entry.devices for each, entry in BACKENDS.items() if name in (each, AUTO)}
    if device is None:
        return (AUTO, "") if name == AUTO else (name, able[name][0])
    for each, devices in able.items():
        if device in devices:
            return each, device
    known = dict.fromkeys(known for devices in able.values() for known in devices)
    raise DataError(compose("device", " or ".join(map(repr, known)) + f" for backend {name!r}", show(device)))


def resolve(name: str, device: str, plan: Plan) -> tuple[str, str]:
    """Return (backend, device), as `check` returned them, with the choice made for "auto"."""
    if name != AUTO:
        return name, device
    from pmlp_np.backends.trial import gpu_pays

    return check(AUTO, "gpu" if gpu_pays(plan, create) else "cpu")


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
