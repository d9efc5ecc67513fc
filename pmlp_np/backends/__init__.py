"""Backends: where the arithmetic happens. Each is imported when a pool first needs it, and never imports another."""

from __future__ import annotations

from typing import Any

from pmlp_np.backends.contract import Backend
from pmlp_np.base import interrupts
from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.state.plan import Plan

# Name -> what "auto" and users may choose. "auto" is the fastest that is there.
BACKENDS = ("numba", "reference", "auto")


def check(name: Any, device: Any) -> str:
    """The backend that a name stands for. DataError for an unknown name or device."""
    if name not in BACKENDS:
        raise DataError(unknown_name("backend", name, BACKENDS))
    devices = ("cpu", "gpu") if name == "reference" else ("cpu",)
    if device not in devices:
        raise DataError(compose("device", " or ".join(map(repr, devices)) + f" for backend {name!r}", show(device)))
    return "numba" if name == "auto" else name


def create(name: str, device: str, plan: Plan) -> Backend:
    """A backend that holds the members of a plan, not yet initialized."""
    if name == "reference":
        from pmlp_np.backends.reference.backend import ReferenceBackend

        return ReferenceBackend(plan, device)
    # Half an import would leave a Numba in sys.modules that fails from then on.
    with interrupts.held():
        from pmlp_np.backends.numba.backend import NumbaBackend

    return NumbaBackend(plan)


def machine_facts() -> dict[str, Any]:
    """What the default backend finds on this machine, by name: see backends/numba/machine.py. A second or two."""
    with interrupts.held():
        from pmlp_np.backends.numba.machine import facts

    return facts()
