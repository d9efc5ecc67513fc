"""The table of backends, and that each of them has the contract's methods with the contract's signatures."""

import inspect

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np import backends
from pmlp_np.backends.contract import Backend, Control

# Those of the language that the contract speaks of.
SPECIAL = ("__init__", "__deepcopy__")


def methods_of(cls):
    """Public methods and those of SPECIAL, of the class and of the package's classes that it stands on."""
    found = inspect.getmembers(cls, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_") or name in SPECIAL}


def arguments_of(method):
    """(name, kind, default) of each parameter, in order. Further ones of a constructor, with defaults, are its own."""
    found = [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
    if method.__name__ == "__init__":
        found = [(name, kind, inspect.Parameter.empty) for name, kind, _ in found[:3]] + [
            each for each in found[3:] if each[2] is inspect.Parameter.empty
        ]
    return found


def differences(cls):
    """What a class has otherwise than the contract, as text; loads nothing but the class's own module."""
    expected, got = methods_of(Backend), methods_of(cls)
    found = [f"{name} is missing" for name in expected.keys() - got.keys()]
    found += [f"{name} is in no contract" for name in got.keys() - expected.keys()]
    for name in expected.keys() & got.keys():
        wanted, given = arguments_of(expected[name]), arguments_of(got[name])
        if wanted != given:
            found.append(f"{name} takes {given}, not {wanted}")
    return found


@pytest.mark.parametrize("name", backends.BACKENDS)
def test_signatures_are_the_contract_s(name):
    assert differences(backends.BACKENDS[name].load()) == []


def test_other_signatures_would_be_noticed():
    reference = backends.BACKENDS["reference"].load()

    class Renamed(reference):
        def forward(self, members, rows, out, weights, control):
            """Another name."""

    class Defaulted(reference):
        def forward(self, members, x, out, weights="last", control=Control()):  # noqa: B008
            """Defaults that the contract lacks."""

    class More(reference):
        def train_one_minibatch(self):
            """Finer than the contract."""

    class Fewer:
        def __init__(self, plan, device, memory_cap):
            """An argument that `create` would not give."""

    assert [len(differences(cls)) for cls in (Renamed, Defaulted, More)] == [1, 1, 1]
    assert len(differences(Fewer)) == len(methods_of(Backend))
    assert len(methods_of(Backend)) > 5


def test_the_table_says_what_there_is(backend):
    plan = pm.Pool(pm.Member(hidden=3), 2)._plan
    made = backends.create(*backends.check(backend), plan)
    assert type(made) is backends.BACKENDS[backend].load()
    assert np.array_equal(made.store.buffers()["parameters"], plan.parameter_counts().sum())


def test_auto_on_a_device_is_the_first_of_the_table_that_has_it():
    assert backends.check("auto", "cpu") == ("numba", "cpu")
    assert backends.check("auto", "gpu") == ("cupy", "gpu")
    assert pm.Pool(pm.Member(hidden=3), 2, backend="auto", device="cpu").backend == "numba"


@pytest.mark.parametrize("name", ["torch", None, ["numba"], ("numba",), 1, np.zeros(2)])
def test_other_backends_are_refused(name):
    known = ", ".join([*backends.BACKENDS, "auto"])
    assert known.startswith("numba, cupy, reference")
    with pytest.raises(pm.DataError, match=f"^backend: expected one of {known}, got"):
        pm.Pool(pm.Member(hidden=3), 2, backend=name)


@pytest.mark.parametrize(("name", "device"), [("numba", "gpu"), ("auto", "tpu"), ("reference", "tpu"), ("numba", [1])])
def test_other_devices_are_refused(name, device):
    with pytest.raises(pm.DataError, match="^device: expected 'cpu'"):
        pm.Pool(pm.Member(hidden=3), 2, backend=name, device=device)
