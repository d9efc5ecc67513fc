"""Files take their place whole: over links, with the old one's mode, and with what a kill left behind removed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.base import persistence


def network(value: float = 1.0) -> pm.MLP:
    return pm.MLP([np.full((2, 1), value)])


def value(path: Path) -> float:
    return float(pm.MLP.load(path).weights[0][0, 0])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o664, 0o444, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a"
    network().save(path)
    path.chmod(bits)
    network(2.0).save(path)
    assert mode(path) == bits and value(path) == 2.0


def test_nobody_reads_the_draft_of_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    network().save(path)
    path.chmod(0o600)
    with persistence.whole_file(path):
        assert [mode(each) for each in tmp_path.iterdir()] == [0o600, 0o600]


def test_the_umask_of_the_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one for all threads: a file that another one makes meanwhile would be open to everybody."""
    before = os.umask(0o027)
    change = os.umask

    def no(mask: int) -> int:
        raise AssertionError("changed")

    try:
        monkeypatch.setattr(os, "umask", no)
        network().save(tmp_path / "a")
        with persistence.draft_folder(tmp_path / "b") as draft:
            modes = mode(tmp_path / "a"), mode(draft)
    finally:
        change(before)
    assert modes == (0o640, 0o750)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, target in {"whole": "there/a", "relative": "../x/there/a", "dangling": "there/b"}.items():
        link = tmp_path / name
        link.symlink_to(target.replace("../x", str(tmp_path)) if name == "relative" else target)
        (tmp_path / f"{name} too").symlink_to(name)
        for i, each in enumerate((link, tmp_path / f"{name} too")):
            network(float(i)).save(each)
            assert each.is_symlink() and value(each) == i
    assert sorted(each.name for each in (tmp_path / "there").iterdir()) == ["a", "b"]
    assert not (tmp_path / "there" / "a").is_symlink()
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic"):
        network().save(tmp_path / "round")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str, linked: bool) -> None:
    path = tmp_path / "odd"
    with socket.socket(socket.AF_UNIX) as listener:
        {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "device": lambda: path.symlink_to("/dev/null"),
         "socket": lambda: listener.bind(str(path))}[kind]()  # fmt: skip
        if linked:
            (tmp_path / "link").symlink_to("odd")
            path = tmp_path / "link"
        before = path.stat().st_mode, sorted(os.listdir(tmp_path))
        pool = pm.Pool([pm.Member(hidden=2)], 2, backend="reference")
        for save in (network().save, pool.save, pm.Ensemble([network()]).save, network().to_python):
            with pytest.raises(
                pm.DataError, match=f"^file {path}: expected a file to write, got a {kind} of that name"
            ):
                save(path)
        assert (path.stat().st_mode, sorted(os.listdir(tmp_path))) == before


WRITER = """
import sys, time
from pmlp_np.base.persistence import whole_file
with whole_file(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("name", ["ü\n[x]*.pmlp", "n" * 250])
def test_drafts_that_a_kill_left_are_removed(tmp_path: Path, name: str) -> None:
    """At the next save to the same place; not those of a process that is still writing."""
    path = tmp_path / name
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        other = tmp_path / ".other.0123456789ab.draft"
        other.write_bytes(b"")
        network(1.0).save(path)
        assert len(list(tmp_path.iterdir())) == 4 and value(path) == 1.0
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        network(2.0).save(path)
        assert len(list(tmp_path.iterdir())) == 3 and value(path) == 2.0
        writers[1].kill()
        writers[1].wait()
        network(3.0).save(path)
        assert set(tmp_path.iterdir()) == {path, other} and value(path) == 3.0
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_what_only_looks_like_a_draft_stays(tmp_path: Path) -> None:
    names = [
        ".a.draft",
        ".a.0123456789ab.drafts",
        ".a.0123456789.draft",
        "a.0123456789ab.draft",
        ".b.0123456789ab.draft",
    ]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".a.0123456789ac.draft").symlink_to(".a.draft")
    network().save(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == sorted([*names, ".a.0123456789ac.draft", "a"])


def test_the_folder_is_flushed_after_the_file_took_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("name"), replace(*paths)))
    network().save(tmp_path / "a")
    assert done == ["file", "name", "folder"]


def test_many_threads_may_write_one_file(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(10):
                network(float(number)).save(tmp_path / "a")
                assert value(tmp_path / "a") in range(4)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and os.listdir(tmp_path) == ["a"]


def test_a_draft_that_is_taken_for_a_stale_one_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another save to the same path, before the draft is locked."""
    made: list[str] = []
    new_file = persistence._new_file

    def taken_once(draft: Path) -> None:
        new_file(draft)
        made.append(draft.name)
        if len(made) == 1:
            persistence.remove_stale_drafts(tmp_path / "a")

    monkeypatch.setattr(persistence, "_new_file", taken_once)
    network(2.0).save(tmp_path / "a")
    assert len(made) == 2 and value(tmp_path / "a") == 2.0 and os.listdir(tmp_path) == ["a"]


def test_errors_name_the_file_and_not_its_draft(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none/a.pmlp'"):
        network().save(tmp_path / "none" / "a.pmlp")
