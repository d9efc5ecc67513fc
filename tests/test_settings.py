"""Threads and processes: a pool has the same bits wherever it trains; and what benchmarks of reliability compute."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.reliability import isolation, settings
from benchmarks.reliability.cluster import Setting, simulate

TIMES = {
    "seconds of a task": 1e-3, "seconds to take in a member": 3e-5, "bytes of a member, trained": 6000.0,
    "bytes of a member, fresh": 800.0, "seconds of an epoch": 2e-3, "spread of speed": 0.05,
}  # fmt: skip
SMALL = Setting(members=20_000, pools=2, schedulers=1, machines=10, threads=4)


@pytest.fixture(scope="module")
def expected() -> str:
    return settings.tried("plain")


@pytest.mark.parametrize("name", ["fork while another thread trains", "joblib, loky", "another thread meanwhile"])
def test_the_bits_are_those_of_a_plain_fit(name: str, expected: str) -> None:
    assert settings.tried(name, expected) == ""


def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.SETTINGS, "wrong", settings.Setting("plain", {"HOME": "/"}))
    assert "not another" in settings.tried("wrong", "another")
    monkeypatch.setitem(settings.SETTINGS, "broken", settings.Setting("no such way"))
    assert settings.tried("broken", "").startswith("exit status 2")


def test_members_keep_their_bits_beside_wild_ones() -> None:
    found = isolation.under_fire(12, int(np.random.default_rng().integers(2**31)))
    assert found["pools"] == 12 and found["changed"] == 0 and found["diverged"] > 0


def test_a_simulated_cluster() -> None:
    """All work is done once, failures cost what is computed again, and a busier scheduler costs time."""
    calm = simulate(SMALL, TIMES)
    assert 0.7 < calm["efficiency"] < 1.0 and calm["lost"] == 0.0
    ideal = SMALL.pools * SMALL.members * SMALL.work * TIMES["seconds of an epoch"] / (10 * 4 * 3600)
    assert calm["hours"] == pytest.approx(ideal / calm["efficiency"], rel=0.1)
    failing = simulate(replace(SMALL, mtbf=7200.0), TIMES)
    assert failing["lost"] > 0.0 and failing["efficiency"] < calm["efficiency"]
    busy = simulate(SMALL, TIMES | {"seconds of a task": 0.1})
    assert busy["scheduler"] > calm["scheduler"] and busy["efficiency"] < calm["efficiency"]
