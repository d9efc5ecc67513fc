"""The reference backend on a GPU, for which a strict stand-in of CuPy computes on the CPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from member_state import restore, state_of
from pmlp_np.backends.contract import Control
from pmlp_np.base.errors import DataError
from reference_pools import DIVERGING, MIXED, REORDERED, Case, assert_same_state, cases, outputs, train
from strict_cupy import DeviceArray, device_module


@pytest.fixture(scope="module")
def strict_cupy() -> ModuleType:
    return device_module()


@given(case=cases(), dtype=st.sampled_from(["float32", "float64"]))
def test_on_a_device_nothing_is_converted_or_mixed(case: Case, dtype: str, strict_cupy: ModuleType) -> None:
    case = replace(case, dtype=dtype)
    tolerance = REORDERED if dtype == "float64" else {"rtol": 1e-2, "atol": 1e-2}
    host = case.backend()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", strict_cupy)
        device = case.backend(device="gpu")
        assert isinstance(device.store.parameters, DeviceArray)
        assert_same_state(host, device, rtol=0)
        histories = [train(case, backend, 2)[1] for backend in (host, device)]
        assume(np.abs(histories).max() < DIVERGING)
        np.testing.assert_allclose(*histories, **tolerance)
        everybody = np.arange(len(case.members))
        for backend in (host, device):
            backend.store.keep(everybody)
            backend.store.write(0, *backend.store.read(0, "best"))
            backend.store.keep(everybody[:1])
        assert_same_state(host, device, **tolerance)
        device = device.take(case.plan(), everybody)
        restore(device, state_of(device))
        assert_same_state(host, device, **tolerance)
        np.testing.assert_allclose(outputs(case, host), outputs(case, device), **tolerance)
        found = [b.evaluate(everybody, b.place(case.rows()), "best", Control())[0] for b in (host, device)]
        np.testing.assert_allclose(*found, **tolerance)


def test_the_stand_in_is_strict(strict_cupy: ModuleType) -> None:
    device, single = DeviceArray(np.ones(2)), DeviceArray(np.ones(2, np.float32))
    for mix in (
        lambda: device + np.ones(2),
        lambda: np.ones(2) + device,
        lambda: np.exp(device),
        lambda: np.concatenate([device, device]),
        lambda: strict_cupy.where(np.ones(2, bool), device, 0.0),
        lambda: device[np.array([0])],
        lambda: float(device.sum()),
        lambda: single * np.float64(2.0),
    ):
        with pytest.raises(TypeError):
            mix()
    for promote in (lambda: single * device, lambda: device.__setitem__(0, single)):
        with pytest.raises(AssertionError):
            promote()


def test_without_cupy_or_a_gpu_the_error_says_so(strict_cupy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DataError, match="device: expected an installed CuPy for 'gpu', got none. Install"):
        MIXED.backend(device="gpu")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    with pytest.raises(DataError, match="device: expected a GPU that CuPy can use, got none."):
        MIXED.backend(device="gpu")
