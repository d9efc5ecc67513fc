"""Checkpoints of a search: killed at any time, it goes on to the result of a search that nothing has disturbed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from full_disk import full_after
from pmlp_np.base.archive import read_archive, write_archive
from pmlp_np.model_selection import search_checkpoints
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.search_checkpoints import SearchFolder
from pmlp_np.pool import checkpoints
from pmlp_np.pool.checkpoints import Checkpoints


class KilledError(BaseException):
    """Stands for SIGKILL: nothing catches it."""


HOW: dict[str, Any] = {"time_budget": None, "max_epochs": 3, "cv": 3, "batch_size": 16, "progress": False}
# Two rounds: the portfolio, then neighbors.
ROUNDS = HOW | {"max_members": 3 * 22}
HALVED = HOW | {
    "space": {"hidden": [(4,), (9,)], "activation": ["relu", "tanh"], "learning_rate": pm.log_uniform(1e-3, 1e-1)},
    "max_members": 3 * 12, "halving": 2,
}  # fmt: skip


def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng()
    X = rng.normal(size=(60, 3))
    return X, X[:, 0] + 0.1 * rng.normal(size=60)


def whole(result: Any, folder: Path) -> tuple[Any, ...]:
    """All of a result but the seconds that it took."""
    result.ensemble.save(folder / "model.pmlp")
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in result.records()]
    return (folder / "model.pmlp").read_bytes(), result.weights.tobytes(), result.out_of_fold.tobytes(), repr(records)


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, after: bool) -> None:
    """Raise at the call of this number of a method, before or after it has done its work."""
    method: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            raise KilledError
        result = method(*arguments, **named)
        if calls == number:
            raise KilledError
        return result

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("how", [ROUNDS, HALVED], ids=["rounds", "halving"])
def test_killed_anywhere_it_goes_on_to_the_same_result(
    how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    undisturbed = whole(pm.search(X, y, **how), tmp_path)
    places = [(SearchFolder, "_write", 1, True), (SearchFolder, "end_round", 1, False), (pm.Pool, "save", 1, True)]
    if how is ROUNDS:
        places += [
            (Checkpoints, "write", 2, False),
            (Checkpoints, "write", 5, True),
            (SearchFolder, "_write", 1, False),
        ]
        places += [(SearchFolder, "_write", 3, False), (SearchFolder, "end_round", 2, True)]
    for i, (owner, name, number, after) in enumerate(places):
        run = tmp_path / f"{i}"
        with monkeypatch.context() as patch:
            if owner is Checkpoints:
                patch.setattr(Checkpoints, "due", lambda self: True)
            kill_at(patch, owner, name, number, after)
            with pytest.raises(KilledError):
                pm.search(X, y, **how, checkpoint=run)
        # Again, at the next write, if there is one.
        with monkeypatch.context() as patch, contextlib.suppress(KilledError):
            kill_at(patch, SearchFolder, "_write", 1, not after)
            pm.search(X, y, **how, checkpoint=run, resume=True)
        found = pm.search(X, y, **how, checkpoint=run, resume=True)
        assert whole(found, tmp_path) == undisturbed, (name, number, after)
        assert not list(run.glob("round-*/")), "nothing is left of rounds that have ended"
    # When all is done it is read.
    assert whole(pm.search(X, y, **how, checkpoint=run, resume=True), tmp_path) == undisturbed


def test_a_budget_counts_what_was_spent_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    X, y = table()
    how = HOW | {"time_budget": 1.0, "max_members": 3 * 20, "checkpoint": tmp_path / "run"}
    first = pm.search(X, y, **how)
    again = pm.search(X, y, **how, resume=True)
    assert len(again.trials) >= len(first.trials) > 0
    more = pm.search(X, y, **how | {"time_budget": 600.0}, resume=True)
    assert len(more.trials) == 20
    kept = [trial.configuration for trial in first.trials[:4]]
    assert [trial.configuration for trial in more.trials[: len(kept)]] == kept


def test_without_a_budget_a_search_goes_on_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget has cut a round short; without one all of it is trained, and what follows."""
    X, y = table()
    how = ROUNDS | {"max_members": 60, "checkpoint": tmp_path / "run"}
    monkeypatch.setattr(Clock, "until_end", lambda self: 0.05)
    first = pm.search(X, y, **how)
    assert not (tmp_path / "run" / "round-1-0.pmlp").exists()
    monkeypatch.undo()
    whole_one = pm.search(X, y, **how, resume=True)
    assert len(whole_one.trials) == 20 > len(first.trials)
    assert whole(whole_one, tmp_path) == whole(pm.search(X, y, **ROUNDS | {"max_members": 60}), tmp_path)


def test_files_of_others_stay(tmp_path: Path) -> None:
    X, y = table()
    how = HOW | {"max_members": 9}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(pm.DataError, match="checkpoint: expected an empty folder to begin a search in.*notes.txt"):
        pm.search(X, y, **how, checkpoint=tmp_path / "mine", resume=True)
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, SearchFolder, "end_round", 1, False)
        with pytest.raises(KilledError):
            pm.search(X, y, **how, checkpoint=run)
    (run / "round-0" / "notes.txt").write_text("")
    pm.search(X, y, **how, checkpoint=run, resume=True)
    assert [each.name for each in (run / "round-0").iterdir()] == ["notes.txt"]


def test_resume_begins_where_there_is_nothing(tmp_path: Path) -> None:
    X, y = table()
    how = HOW | {"max_members": 9}
    found = whole(pm.search(X, y, **how, checkpoint=tmp_path / "run", resume=True), tmp_path)
    assert found == whole(pm.search(X, y, **how), tmp_path)
    with pytest.raises(pm.DataError, match="checkpoint: .*the folder of a search to resume"):
        pm.search(X, y, **how, resume=True)


def test_another_search_is_refused(tmp_path: Path) -> None:
    X, y = table()
    how = HOW | {"max_members": 9, "checkpoint": tmp_path / "run"}
    pm.search(X, y, **how)
    with pytest.raises(pm.DataError, match="checkpoint: .*a folder without a checkpoint.*resume=True"):
        pm.search(X, y, **how)
    changed = X.copy()
    changed[3, 1] += 0.5
    others = {
        "X, y": [
            {"X": changed}, {"X": X + 1.0}, {"X": X[:, [0, 1, 2, 2]]}, {"y": y[::-1]}, {"y": y * 1024.0}, {"cv": 4},
            {"sample_weight": np.linspace(1, 2, 60)}, {"seed": 5},
        ],
        "the arguments": [{"max_members": 12}, {"max_epochs": 2}, {"select": "best"}, {"batch_size": 8},
                          {"metric": "mae"}, {"halving": 2}],
        "space": [{"space": {"hidden": [(3,)]}}],
    }  # fmt: skip
    for name, cases in others.items():
        for case in cases:
            with pytest.raises(pm.DataError, match=f"checkpoint: expected a search with the same {name}"):
                pm.search(**{"X": X, "y": y} | how | case, resume=True)


def test_values_that_no_file_holds_are_refused(tmp_path: Path) -> None:
    X, y = table()
    space = [pm.Configuration({"hidden": (3,), "optimizer": pm.SGD(0.1)})]
    with pytest.raises(pm.DataError, match="space: optimizer: expected numbers and texts"):
        pm.search(X, y, space, **HOW, max_members=3, checkpoint=tmp_path / "run")


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    X, y = table()
    how = HOW | {"max_members": 9, "checkpoint": tmp_path / "run"}
    pm.search(X, y, **how)
    rng = np.random.default_rng()
    for path in (tmp_path / "run").glob("*.pmlp"):
        content = path.read_bytes()
        for place in {0, len(content) - 1, *rng.integers(len(content), size=20).tolist()}:
            changed = bytearray(content)
            changed[place] ^= 1 << rng.integers(8)
            path.write_bytes(bytes(changed))
            with pytest.raises(pm.FileFormatError, match=path.name):
                pm.search(X, y, **how, resume=True)
        path.write_bytes(content)
    pm.search(X, y, **how, resume=True)


@pytest.mark.parametrize(("name", "number"), [("rate", 0.0), ("rate", -0.0), ("rate", -1.0), ("spent", -1.0)])
def test_numbers_that_no_clock_has_are_refused(name: str, number: float, tmp_path: Path) -> None:
    """With a checksum that is right; whether there is a budget or not."""
    X, y = table()
    how = HOW | {"max_members": 9, "checkpoint": tmp_path / "run"}
    pm.search(X, y, **how)
    path = tmp_path / "run" / "search.pmlp"
    header, arrays = read_archive(path, "search")
    write_archive(path, "search", header | {name: number}, dict(arrays))
    for budget in (None, 60.0):
        with pytest.raises(pm.FileFormatError, match=f"search.pmlp, {name}: expected"):
            pm.search(X, y, **how | {"time_budget": budget}, resume=True)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_full_disk_does_not_end_a_search(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X, y = table()
    undisturbed = whole(pm.search(X, y, **ROUNDS), tmp_path)
    write = search_checkpoints.write_archive
    monkeypatch.setattr(search_checkpoints, "write_archive", full_after(left, write))
    if left == 0:
        with pytest.raises(pm.DataError, match="checkpoint: .*No space left on device"):
            pm.search(X, y, **ROUNDS, checkpoint=tmp_path / "run")
        return
    assert whole(pm.search(X, y, **ROUNDS, checkpoint=tmp_path / "run"), tmp_path) == undisturbed
    monkeypatch.setattr(search_checkpoints, "write_archive", write)
    with monkeypatch.context() as patch:
        # A round's own first checkpoint.
        patch.setattr(checkpoints, "write_archive", full_after(0, write))
        assert whole(pm.search(X, y, **ROUNDS, checkpoint=tmp_path / "other"), tmp_path) == undisturbed
    assert capsys.readouterr().err.count("No space left on device") == 2
    assert whole(pm.search(X, y, **ROUNDS, checkpoint=tmp_path / "run", resume=True), tmp_path) == undisturbed
