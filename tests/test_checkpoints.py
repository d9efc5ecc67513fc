"""Checkpoints: a run that was killed at any time goes on to the bits of a run that was never stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from full_disk import full_after
from pmlp_np.pool import checkpoints
from pmlp_np.pool.checkpoints import Checkpoints

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.reliability import killed_run, kills

QUIET = {"progress": False}


def as_file(pool: pm.Pool, folder: Path) -> bytes:
    """All of a pool: the same contents give the same file."""
    pool.save(folder / "whole.pmlp")
    return (folder / "whole.pmlp").read_bytes()


class Case:
    """A pool and a fit of it, with all that a fit may have. Data are drawn anew."""

    def __init__(self, backend: str) -> None:
        rng = np.random.default_rng()
        X, self.A = rng.normal(size=(50, 4)), rng.normal(size=(30, 4))
        y, b = X[:, 0] + rng.normal(size=50), self.A[:, 0] + rng.normal(size=30)
        specs = [
            pm.Member(hidden=(5,), dropout=0.3, schedule="cosine", average=0.9),
            pm.Member(hidden=(9, 3), activation="tanh", learning_rate=0.1, plateau_patience=1),
            pm.Member(hidden=3, optimizer=pm.SGD(0.01, momentum=0.9), batch_size=7, feature_scale=True),
            pm.Member(hidden=2, activation="identity", optimizer=pm.SGD(1e30)),
        ]
        self.pool = pm.Pool(specs, 4, seed=int(rng.integers(2**60)), ids=[5, 2, 9, 7], backend=backend)
        rows = [rng.permutation(50)[:40] for _ in specs]
        self.data: dict[str, Any] = {
            "X": X, "y": y, "rows": rows, "validation_data": (self.A, b), "sample_weight": rng.random(50),
        }  # fmt: skip
        self.how: dict[str, Any] = {
            "epochs": 9, "batch_size": 8, "shuffle": "member", "early_stopping": True, "patience": 3,
            "features": [[0, 1], [2], [0, 1, 3], [1, 0, 2]], **QUIET,
        }  # fmt: skip

    def fit(self, pool: pm.Pool, **more: Any) -> pm.Pool:
        with pytest.warns(pm.DivergedWarning):
            return pool.fit(**self.data, **self.how, **more)


def copied(pool: pm.Pool) -> pm.Pool:
    return pool.subset(pool.ids_)


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock finds a checkpoint due."""
    monkeypatch.setattr(Checkpoints, "due", lambda self: True)


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("more", [{}, {"metrics": ("mae",), "validated_weights": "average"}, {"callbacks": [len]}])
def test_every_checkpoint_goes_on_to_the_same_bits(
    more: dict[str, Any], backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(backend)
    if "callbacks" in more:
        more = {"callbacks": [lambda end: None]}
    undisturbed = as_file(case.fit(copied(case.pool), **more), tmp_path)
    write, copies = Checkpoints.write, []

    def write_and_copy(self: Checkpoints, state: Any, last: bool = False) -> None:
        write(self, state, last)
        copies.append(shutil.copytree(self.folder, tmp_path / f"{len(copies)}"))

    monkeypatch.setattr(Checkpoints, "write", write_and_copy)
    case.fit(case.pool, checkpoint=tmp_path / "run", **more)
    assert as_file(case.pool, tmp_path) == undisturbed
    monkeypatch.setattr(Checkpoints, "write", write)
    monkeypatch.setattr(Checkpoints, "due", lambda self: False)
    assert len(copies) > 3
    callbacks = {"callbacks": more["callbacks"]} if "callbacks" in more else {}
    some = {0, 1, len(copies) - 2, len(copies) - 1, *np.random.default_rng().integers(len(copies), size=4).tolist()}
    for k in some:
        # The last one is that of the end, after which nothing is left to tell of.
        with contextlib.nullcontext() if k == len(copies) - 1 else pytest.warns(pm.DivergedWarning):
            pool = pm.resume(copies[k], **case.data, **callbacks)
        assert as_file(pool, tmp_path) == undisturbed, f"checkpoint {k} of {len(copies)}"
        # What stands there now is the end.
        assert as_file(pm.resume(copies[k], callbacks=callbacks.get("callbacks", ())), tmp_path) == undisturbed


def test_between_minibatches_of_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round is cut short within an epoch, stored, and goes on."""
    rng = np.random.default_rng()
    X, y = rng.normal(size=(400, 3)), rng.normal(size=400)
    pool = pm.Pool(pm.grid(hidden=[(4,), (9,)], activation=["tanh"]), 3, seed=4, backend="reference")
    undisturbed = as_file(copied(pool).fit(X, y, epochs=2, batch_size=10, **QUIET), tmp_path)
    write, cut, looks = Checkpoints.write, [], 0

    def due(self: Checkpoints) -> bool:
        nonlocal looks
        looks += 1
        return looks > 7

    def note_and_write(self: Checkpoints, state: Any, last: bool = False) -> None:
        nonlocal looks
        looks = 0
        cut.append(int(state.progress.minibatch.max()))
        write(self, state, last)

    monkeypatch.setattr(Checkpoints, "due", due)
    monkeypatch.setattr(Checkpoints, "write", note_and_write)
    pool.fit(X, y, epochs=2, batch_size=10, checkpoint=tmp_path / "run", **QUIET)
    assert as_file(pool, tmp_path) == undisturbed
    assert len([minibatch for minibatch in cut if minibatch]) > 3


def test_a_budget_ends_and_another_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    X, y = rng.normal(size=(3000, 10)), rng.normal(size=3000)
    pool = pm.Pool(pm.grid(hidden=[(20,)] * 8, activation=["tanh"]), 10, seed=4)
    pool.fit(X[:60], y[:60], **QUIET)
    undisturbed = copied(pool).fit(X, y, epochs=300, **QUIET)
    begun = pool.fit(X, y, epochs=300, time_budget=0.05, checkpoint=tmp_path / "run", **QUIET)
    assert begun.ended_ == "time budget"
    # What is left of the budget is nothing.
    assert pm.resume(tmp_path / "run", X, y).ended_ == "time budget"
    assert pm.resume(tmp_path / "run", X, y, time_budget=0.05).ended_ == "time budget"
    whole = pm.resume(tmp_path / "run", X, y, time_budget=600.0)
    assert whole.ended_ == "done"
    assert as_file(whole, tmp_path) == as_file(undisturbed, tmp_path)


def test_partial_fit_has_checkpoints_too(tmp_path: Path) -> None:
    X, y, *_ = killed_run.data()
    pool = killed_run.new_pool("reference").fit(X, y, epochs=2, **QUIET)
    other = copied(pool).partial_fit(X, y, epochs=2, members=[1, 3], **QUIET)
    pool.partial_fit(X, y, epochs=2, members=[1, 3], checkpoint=tmp_path / "run", **QUIET)
    assert as_file(pm.resume(tmp_path / "run"), tmp_path) == as_file(other, tmp_path) == as_file(pool, tmp_path)


def test_another_backend_goes_on(tmp_path: Path) -> None:
    X, y, *_ = killed_run.data()
    pool = killed_run.new_pool()
    pool.fit(X, y, epochs=500, time_budget=0.01, checkpoint=tmp_path / "run", **QUIET)
    assert pm.resume(tmp_path / "run", X, y, backend="reference", time_budget=0.01).backend == "reference"


@pytest.mark.usefixtures("looks_often")
def test_a_stop_is_not_lost_where_a_checkpoint_is_due(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill comes after the callback has ended training, and before the last checkpoint."""
    X, y, *_ = killed_run.data()

    def stop(end: pm.EpochEnd) -> None:
        if end.epoch == 3:
            end.stop()

    one = killed_run.new_pool(backend).fit(X, y, epochs=6, callbacks=[stop], **QUIET)
    assert one.ended_ == "stopped"
    write = Checkpoints.write

    class KilledError(BaseException):
        pass

    def die_at_the_last(self: Checkpoints, state: Any, last: bool = False) -> None:
        if last:
            raise KilledError
        write(self, state, last)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", die_at_the_last)
        with pytest.raises(KilledError):
            killed_run.new_pool(backend).fit(X, y, epochs=6, callbacks=[stop], checkpoint=tmp_path / "run", **QUIET)
    resumed = pm.resume(tmp_path / "run", X, y, callbacks=[stop])
    assert as_file(resumed, tmp_path) == as_file(one, tmp_path)


# Killed.


@pytest.fixture(scope="module")
def undisturbed_result(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, float]:
    """The result of the process when nothing disturbs it, and its seconds."""
    return kills.undisturbed(tmp_path_factory.mktemp("undisturbed"))


def test_killed_at_random_moments(undisturbed_result: tuple[bytes, float], tmp_path: Path) -> None:
    """Twenty kills: in the first writes, in training and validation, while a checkpoint is read, at the end."""
    found = kills.kill_randomly(20, tmp_path, *undisturbed_result, np.random.default_rng())
    assert (found.kills, found.different) == (20, 0)


def test_sigterm_ends_with_a_checkpoint(undisturbed_result: tuple[bytes, float], tmp_path: Path) -> None:
    expected, seconds = undisturbed_result
    for share in (0.1, 0.2, 0.4):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        assert kills.run(tmp_path, share * seconds, signal.SIGTERM) in (0, -signal.SIGTERM)
        assert kills.run(tmp_path) == 0
        assert (tmp_path / "result.pmlp").read_bytes() == expected
        (tmp_path / "result.pmlp").unlink()


# Refused.


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The folder of a run that a budget has ended."""
    X, y, A, b = killed_run.data()
    pool = killed_run.new_pool("reference")
    pool.fit(X, y, validation_data=(A, b), **killed_run.HOW, time_budget=0.05, checkpoint=tmp_path / "run", **QUIET)
    assert pool.ended_ == "time budget"
    return tmp_path / "run"


def test_other_data_are_refused(begun: Path) -> None:
    X, y, A, b = killed_run.data()
    before = (begun / "checkpoint.pmlp").read_bytes()
    changed = X.copy()
    changed[7, 2] += 1e-3
    for data, validation in (((changed, y), (A, b)), ((X, y[::-1]), (A, b)), ((X, y), (A, b + 1)), ((X, y), None)):
        with pytest.raises(pm.DataError, match=r"data|validation_data"):
            pm.resume(begun, *data, validation_data=validation)
    with pytest.raises(pm.DataError, match="sample_weight|data"):
        pm.resume(begun, X, y, validation_data=(A, b), sample_weight=np.linspace(1, 2, len(X)))
    with pytest.raises(pm.DataError, match="X: .*the data of the run"):
        pm.resume(begun)
    assert (begun / "checkpoint.pmlp").read_bytes() == before


def test_a_folder_has_one_run(begun: Path) -> None:
    X, y, A, b = killed_run.data()
    with pytest.raises(pm.DataError, match="checkpoint: .*a folder without a checkpoint.*pm.resume"):
        killed_run.new_pool("reference").fit(X, y, checkpoint=begun)
    holder = "import fcntl, os, sys; handle = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(handle, fcntl.LOCK_EX)"
    holder += "; os.ftruncate(handle, 0); os.write(handle, b'%d' % os.getpid()); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(begun / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(pm.DataError, match=f"checkpoint: .*process {process.pid} trains"):
            pm.resume(begun, X, y, validation_data=(A, b))
        process.kill()
    pm.resume(begun, X, y, validation_data=(A, b))


@pytest.mark.parametrize("folder", ["", 3, b"", "a\0b"])
def test_what_is_no_path_is_refused(folder: Any) -> None:
    X, y, *_ = killed_run.data()
    with pytest.raises(pm.DataError, match="checkpoint: expected a path of a folder"):
        killed_run.new_pool("reference").fit(X, y, checkpoint=folder)
    with pytest.raises(pm.DataError, match="checkpoint: expected a path of a folder"):
        pm.resume(folder)


def test_folders_that_cannot_be_used_are_refused_before_training(tmp_path: Path) -> None:
    X, y, *_ = killed_run.data()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "within", Path("/proc/run")):
        pool = killed_run.new_pool("reference")
        with pytest.raises(pm.DataError, match=r"checkpoint: expected a folder"):
            pool.fit(X, y, checkpoint=folder, **QUIET)
        assert not pool._progress.step.any()
    (tmp_path / "link").symlink_to("link")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "link", tmp_path / ("x" * 300)):
        with pytest.raises(pm.DataError, match="checkpoint: expected a folder with a file checkpoint.pmlp"):
            pm.resume(folder)
    for seconds in (0, -1, float("nan"), float("inf"), "60", None):
        with pytest.raises(pm.DataError, match="checkpoint_every: expected seconds, above 0"):
            killed_run.new_pool("reference").fit(X, y, checkpoint=tmp_path / "x", checkpoint_every=seconds, **QUIET)


@pytest.mark.usefixtures("looks_often")
def test_a_full_disk_leaves_the_last_checkpoint_and_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X, y, A, b = killed_run.data()
    fitted: dict[str, Any] = {"validation_data": (A, b), **killed_run.HOW, **QUIET}
    undisturbed = killed_run.new_pool().fit(X, y, **fitted)
    write = checkpoints.write_archive
    monkeypatch.setattr(checkpoints, "write_archive", full_after(3, write))
    pool = killed_run.new_pool().fit(X, y, checkpoint=tmp_path / "run", **fitted)
    assert as_file(pool, tmp_path) == as_file(undisturbed, tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "compiling" not in line]
    assert len(said) == 2 and all("No space left on device" in line for line in said)
    assert "training goes on" in said[0] and "pool.save" in said[1]
    monkeypatch.setattr(checkpoints, "write_archive", write)
    monkeypatch.setattr(Checkpoints, "due", lambda self: False)
    resumed = pm.resume(tmp_path / "run", X, y, validation_data=(A, b))
    assert as_file(resumed, tmp_path) == as_file(undisturbed, tmp_path)
    # A disk that is full from the start is said before any training.
    monkeypatch.setattr(checkpoints, "write_archive", full_after(0, write))
    pool = killed_run.new_pool()
    with pytest.raises(pm.DataError, match="checkpoint: .*No space left on device"):
        pool.fit(X, y, checkpoint=tmp_path / "other", **fitted)
    assert not pool._progress.step.any()


def test_a_first_checkpoint_that_fails_leaves_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, *_ = killed_run.data()
    pool = killed_run.new_pool().fit(X, y, epochs=2, **QUIET)
    before = as_file(pool, tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_archive", full_after(0, checkpoints.write_archive))
        for call in (pool.fit, pool.partial_fit):
            with pytest.raises(pm.DataError, match="checkpoint: .*No space left on device"):
                call(X, y, checkpoint=tmp_path / call.__name__, **QUIET)
            assert as_file(pool, tmp_path) == before


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a callback goes elsewhere."""
    X, y, *_ = killed_run.data()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    pool = killed_run.new_pool("reference")
    pool.fit(X, y, epochs=2, checkpoint="run", callbacks=[lambda end: os.chdir(tmp_path / "elsewhere")], **QUIET)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert as_file(pm.resume(tmp_path / "run", callbacks=[print]), tmp_path) == as_file(pool, tmp_path)


def test_a_forked_process_does_not_keep_the_folder(begun: Path) -> None:
    X, y, A, b = killed_run.data()
    children = []

    def fork(end: pm.EpochEnd) -> None:
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        children.append(child)
        end.stop()

    folder = begun.parent / "forked"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        killed_run.new_pool("reference").fit(X, y, epochs=3, checkpoint=folder, callbacks=[fork], **QUIET)
    try:
        assert pm.resume(folder, callbacks=[print]).ended_ == "stopped"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_callbacks_of_a_run_that_goes_on_are_a_list(begun: Path) -> None:
    X, y, A, b = killed_run.data()
    with pytest.raises(pm.DataError, match="callbacks: expected a list of functions"):
        pm.resume(begun, X, y, validation_data=(A, b), callbacks=print)
    pm.resume(begun, X, y, validation_data=(A, b), callbacks=None)


def test_every_flipped_bit_is_refused_by_name(begun: Path) -> None:
    X, y, A, b = killed_run.data()
    path = begun / "checkpoint.pmlp"
    content, rng = path.read_bytes(), np.random.default_rng()
    places = {0, len(content) - 1, *rng.integers(len(content), size=60).tolist()}
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(changed))
        with pytest.raises(pm.FileFormatError, match="checkpoint.pmlp"):
            pm.resume(begun, X, y, validation_data=(A, b))
    for length in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(pm.FileFormatError, match="checkpoint.pmlp"):
            pm.resume(begun, X, y, validation_data=(A, b))
    path.write_bytes(content)
    pm.resume(begun, X, y, validation_data=(A, b))


def test_a_pool_is_no_checkpoint_and_a_checkpoint_no_pool(begun: Path) -> None:
    with pytest.raises(pm.FileFormatError, match=r"kind 'pool'.*'checkpoint'.*pm\.resume"):
        pm.load(begun / "checkpoint.pmlp")
    killed_run.new_pool("reference").save(begun / "checkpoint.pmlp")
    with pytest.raises(pm.FileFormatError, match=r"kind 'checkpoint'.*'pool'.*pm\.load"):
        pm.resume(begun)
