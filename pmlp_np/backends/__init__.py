"""Backends: where the arithmetic happens. Each is imported when a pool first needs it, and never imports another."""

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
    """A backend: what imports its class, and the devices it runs on, the default first."""

    load: Callable[[], type[Backend]]
    devices: tuple[str, ...] = ("cpu",)


BACKENDS = {
    "numba": Entry(_numba),
    "cupy": Entry(_cupy, ("gpu",)),
    "reference": Entry(_reference, ("cpu", "gpu")),
}
# What users may write in place of a name: the fastest backend that is there.
AUTO = "auto"


def check(name: Any, device: Any = None) -> tuple[str, str]:
    """The backend that a name stands for, and its device: the default one for None. DataError for an unknown name or
    device."""
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
    """A backend that holds the members of a plan, not yet initialized."""
    # Half an import would leave a Numba in sys.modules that fails from then on.
    with interrupts.held():
        backend = BACKENDS[name].load()
    return backend(plan, device)


def machine_facts() -> dict[str, Any]:
    """What the default backend finds on this machine, by name: see backends/numba/machine.py. A second or two."""
    with interrupts.held():
        from pmlp_np.backends.numba.machine import facts

    return facts()
