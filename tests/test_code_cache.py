"""The cache of compiled code: damaged files, folders that can't be written, folders of others and of other versions."""

import builtins
import errno
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pmlp_np as pm
from pmlp_np.backends.numba import code_cache
from pmlp_np.backends.numba.compiling import kernel, note_compiled, pass_address

# Compiled by nobody else, in a moment.


def weigh(a, b):
    return 3 * a + b


def compiled():
    """The function as a process that starts sees it: nothing of it compiled yet."""
    return kernel(entry=True)(weigh)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for compiled code, in a process that has said nothing yet."""
    found = tmp_path / "code"
    found.mkdir()
    use(monkeypatch, found)
    return found


def use(monkeypatch, folder):
    monkeypatch.setattr(code_cache, "cache_folder", lambda: folder)
    monkeypatch.setattr(code_cache, "_unwritable", False)
    code_cache._say_once.cache_clear()


def compilations(monkeypatch):
    """A list that grows with each compilation."""
    from numba.core.dispatcher import _FunctionCompiler

    compile_now, done = _FunctionCompiler.compile, []

    def compile_counted(self, *arguments):
        done.append(self.py_func.__name__)
        return compile_now(self, *arguments)

    monkeypatch.setattr(_FunctionCompiler, "compile", compile_counted)
    return done


def test_code_is_kept_and_found_again(folder, monkeypatch, capsys):
    done = compilations(monkeypatch)
    assert compiled()(4, 5) == 17
    (path,) = folder.iterdir()
    first = path.read_bytes()
    assert compiled()(4, 5) == 17 and compiled()(1, 1) == 4
    assert done == ["weigh"] and path.read_bytes() == first
    # Of other types it is another function.
    assert compiled()(4.5, 5.0) == 18.5
    assert done == ["weigh", "weigh"] and len(list(folder.iterdir())) == 2
    assert compiled()(4, 5) == 17 and len(done) == 2
    assert capsys.readouterr().err == ""


@kernel()
def weighed(a, b):
    return 3 * a + b


def weigh_some(n):
    return weighed(n, 0) + weighed(2, n) + weighed(1, 1) + weighed(n, n)


def test_constant_arguments_make_no_versions_of_a_function(folder):
    assert kernel(entry=True)(weigh_some)(5) == 15 + 11 + 4 + 20
    assert len(weighed.overloads) == 1


def damages():
    """(name, what becomes of a file's bytes), at random."""

    def flip(content, at, bit):
        at %= len(content)
        return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]

    return st.one_of(
        st.builds(lambda at, bit: lambda c: flip(c, at, bit), st.integers(0, 1 << 20), st.integers(0, 7)),
        st.builds(lambda share: lambda c: c[: int(share * len(c))], st.floats(0, 1, exclude_max=True)),
        st.builds(lambda more: lambda c: c + more, st.binary(min_size=1)),
        st.builds(lambda other: lambda c: other, st.binary()),
        st.builds(lambda at: lambda c: c[: at % len(c)] + bytes(len(c) - at % len(c)), st.integers(0, 1 << 20)),
    )


@given(damages())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_noticed_and_written_anew(folder, monkeypatch, capsys, damage):
    """Each of its bits, so that no other machine code is executed than was written."""
    cache, key = code_cache, b"k" * 32
    path = folder / "some.nbc"
    cache._write(path, key, b"machine code")
    whole = path.read_bytes()
    broken = damage(whole)
    if broken == whole:
        return
    path.write_bytes(broken)
    code_cache._say_once.cache_clear()
    assert cache._read(path, key) is None
    assert not path.exists() and capsys.readouterr().err.count("was damaged") == 1
    cache._write(path, key, b"machine code")
    assert path.read_bytes() == whole and cache._read(path, key) == b"machine code"
    assert [each.name for each in folder.iterdir()] == ["some.nbc"]


@pytest.mark.parametrize("way", ["flipped", "empty", "half", "another's", "no pickle", "folder", "pipe"])
def test_a_damaged_entry_heals_itself(folder, monkeypatch, capsys, way):
    done = compilations(monkeypatch)
    compiled()(4, 5)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if way in ("folder", "pipe"):
        path.unlink()
        path.mkdir() if way == "folder" else os.mkfifo(path)
    elif way == "another's":
        compiled()(4.0, 5.0)
        (other,) = set(folder.iterdir()) - {path}
        shutil.copy(other, path)
        done.pop()
    else:
        start = len(code_cache._MAGIC) + 64
        at = random.randrange(start, len(whole))
        broken = {"flipped": whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :], "empty": b"", "half": whole[:at]}
        if way == "no pickle":
            # Its checksum is right: written so, by a Numba that kept something else.
            code_cache._write(path, whole[start - 32 : start], b"cbuiltins\nno_such_name\n.")
        else:
            path.write_bytes(broken[way])
    assert compiled()(4, 5) == 17 and done == ["weigh"] * 2
    said = capsys.readouterr().err
    if way == "folder":
        assert said.count("can't be kept") == 1
        return
    assert said.count("was damaged") == (way != "pipe")
    assert compiled()(4, 5) == 17 and done == ["weigh"] * 2 and capsys.readouterr().err == ""
    assert path.is_file()


def refusing(error, *places):
    """In place of a function of the system: it fails for writers below these folders."""

    def refuse(function):
        def called(path, *arguments, **options):
            writes = function is not builtins.open or set("wxa+") & set("".join(map(str, arguments)))
            if writes and any(os.fspath(path).startswith(str(place)) for place in places):
                raise OSError(error, os.strerror(error), os.fspath(path))
            return function(path, *arguments, **options)

        return called

    return refuse


def refuse_writing(monkeypatch, error, folder, functions=("open", "replace", "mkdir", "unlink")):
    refuse = refusing(error, folder)
    for name in functions:
        owner = builtins if name == "open" else os
        monkeypatch.setattr(owner, name, refuse(getattr(owner, name)))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("functions", [("open", "replace", "mkdir", "unlink"), ("replace",)])
def test_where_nothing_can_be_written_it_goes_on(folder, monkeypatch, capsys, error, functions):
    with monkeypatch.context() as patch:
        refuse_writing(patch, error, folder, functions)
        assert compiled()(4, 5) == 17 and compiled()(4.0, 5.0) == 17.0
    (line,) = capsys.readouterr().err.splitlines()
    assert os.strerror(error) in line and str(folder) in line and "Set PMLP_CACHE_DIR to a folder" in line
    assert not list(folder.iterdir()), "no draft is left"


def test_a_disk_that_is_full_in_the_middle_of_a_file(folder, monkeypatch, capsys):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(code_cache, "open", lambda *how: Full(open(*how)), raising=False)  # noqa: SIM115
    assert compiled()(4, 5) == 17
    assert "No space left" in capsys.readouterr().err and not list(folder.iterdir())


def test_code_that_can_only_be_read_is_used(folder, monkeypatch, capsys):
    compiled()(4, 5)
    done = compilations(monkeypatch)
    with monkeypatch.context() as patch:
        refuse_writing(patch, errno.EROFS, folder)
        assert compiled()(4, 5) == 17
        assert (done, capsys.readouterr().err) == ([], "")
        # It is not complete: this is said when something is missing.
        assert compiled()(4.0, 5.0) == 17.0
    assert done == ["weigh"] and capsys.readouterr().err.count("can't be kept") == 1


def test_without_any_folder_it_compiles(monkeypatch):
    use(monkeypatch, None)
    assert compiled()(4, 5) == 17 and not code_cache.can_write()


def test_nothing_is_noted_as_compiled_that_was_not_kept(folder, monkeypatch):
    note_compiled(folder / "compiled-float32")
    assert (folder / "compiled-float32").exists()
    with monkeypatch.context() as patch:
        refuse_writing(patch, errno.ENOSPC, folder)
        compiled()(4, 5)
    note_compiled(folder / "compiled-float64")
    note_compiled(folder / "no such folder" / "compiled-float64")
    assert not (folder / "compiled-float64").exists()


# Which folder.


@pytest.fixture
def place(monkeypatch):
    """A function that finds the folder anew, as a process does that starts with these variables."""
    code_cache.source_hash()
    code_cache._say_once.cache_clear()

    def find(**variables):
        for name in ("PMLP_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, str(value))
        return code_cache.cache_folder.__wrapped__()

    return find


def test_the_folder_is_the_user_s(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = {
        "own": place(PMLP_CACHE_DIR=tmp_path / "a", XDG_CACHE_HOME=tmp_path / "b", HOME=tmp_path / "c"),
        "xdg": place(XDG_CACHE_HOME=tmp_path / "b", HOME=tmp_path / "c"),
        "home": place(HOME=tmp_path / "c"),
        "relative": place(PMLP_CACHE_DIR="rel"),
        "words": place(PMLP_CACHE_DIR=tmp_path / "Wärme 日本 é"),
    }
    parents = {"own": "a", "xdg": "b/pmlp_np", "home": "c/.cache/pmlp_np", "relative": "rel", "words": "Wärme 日本 é"}
    for name, folder in found.items():
        assert folder == tmp_path / parents[name] / code_cache.source_hash(), name
        assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700, "nobody else can put code there"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("home", [None, ""])
def test_users_without_a_home(place, tmp_path, monkeypatch, capsys, home):
    """Whom the system does not know has none either; "~" would be a folder below the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path if home is None else "/")
    assert place(HOME=home) is None and not list(tmp_path.iterdir())
    assert "there is no home folder" in capsys.readouterr().err
    # The hint, followed.
    assert place(HOME=home, PMLP_CACHE_DIR=tmp_path / "mine") is not None
    assert capsys.readouterr().err == ""


def test_a_file_is_no_folder(place, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert place(PMLP_CACHE_DIR=tmp_path / "file") is None
    assert "Not a directory" in capsys.readouterr().err
    assert place(PMLP_CACHE_DIR=tmp_path / "file" / "below") is None
    assert place(PMLP_CACHE_DIR=tmp_path / ("long" * 100)) is None


def test_a_folder_that_cannot_be_made(place, tmp_path, monkeypatch, capsys):
    refuse_writing(monkeypatch, errno.EROFS, tmp_path)
    assert place(PMLP_CACHE_DIR=tmp_path / "new") is None
    assert "Read-only file system" in capsys.readouterr().err


def test_a_folder_to_which_everybody_can_write_is_not_trusted(place, tmp_path, capsys):
    (tmp_path / "shared").mkdir(mode=0o777)
    os.chmod(tmp_path / "shared", 0o777)
    # The code's own folder below it is nobody else's.
    folder = place(PMLP_CACHE_DIR=tmp_path / "shared")
    assert folder is not None and capsys.readouterr().err == ""
    for mode in (0o777, 0o702, 0o1777):
        os.chmod(folder, mode)
        assert place(PMLP_CACHE_DIR=tmp_path / "shared") is None
        said = capsys.readouterr().err
        assert f"{folder} is not used: the folder can be written by everybody" in said
    # The hint, followed; and rights of a group are the user's business.
    assert place(PMLP_CACHE_DIR=tmp_path / "mine") is not None
    os.chmod(folder, 0o775)
    assert place(PMLP_CACHE_DIR=tmp_path / "shared") == folder and capsys.readouterr().err == ""


def test_a_folder_of_somebody_else_is_not_trusted(place, tmp_path, monkeypatch, capsys):
    folder = place(PMLP_CACHE_DIR=tmp_path / "a")
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    owner = folder.stat().st_uid
    assert place(PMLP_CACHE_DIR=tmp_path / "a") is None
    assert f"belongs to another user (number {owner}); it is compiled anew" in capsys.readouterr().err
    if os.geteuid() == 0:
        # What the administrator has put there, everybody may use.
        os.chown(folder, 0, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert place(PMLP_CACHE_DIR=tmp_path / "a") == folder


# Folders of other versions.

DAY = 24 * 3600


def version(base, name, days, files=("a.nbc", "b.nbc.0123.tmp", "compiled-float32-0123"), read_days=None):
    """A version's folder that was last used so many days ago; read_days: when its files were last read, if later."""
    folder = base / name
    folder.mkdir(parents=True)
    then = time.time() - days * DAY
    for file in files:
        (folder / file).write_bytes(b"code")
        os.utime(folder / file, (then if read_days is None else time.time() - read_days * DAY, then))
    os.utime(folder, (then, then))
    return folder


def test_folders_of_versions_that_nobody_uses_are_removed(place, tmp_path, capsys):
    gone = [version(tmp_path, "0" * 20, 31), version(tmp_path, "0123456789abcdef0123", 400, files=())]
    kept = [
        version(tmp_path, "1" * 20, 29),
        version(tmp_path, "2" * 20, -5),
        version(tmp_path, "3" * 20, 400, read_days=2),
        version(tmp_path, "my results 1", 400),
        version(tmp_path, "4" * 21, 400),
        version(tmp_path, "A" * 20, 400),
        version(tmp_path / "elsewhere", "5" * 20, 400),
    ]
    (tmp_path / ("6" * 20)).symlink_to(kept[-1])
    (tmp_path / ("7" * 20)).write_text("a file")
    os.utime(tmp_path / ("7" * 20), (0, 0))
    mine = place(PMLP_CACHE_DIR=tmp_path)
    assert not any(folder.exists() for folder in gone)
    assert all(len(list(folder.iterdir())) == 3 for folder in kept)
    assert mine.is_dir() and (tmp_path / ("6" * 20)).is_symlink() and (tmp_path / ("7" * 20)).is_file()
    assert capsys.readouterr().err == ""


def test_what_is_no_compiled_code_stays(place, tmp_path):
    folder = version(tmp_path, "0" * 20, 400, files=("a.nbc", "notes.txt"))
    place(PMLP_CACHE_DIR=tmp_path)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_use_is_noted(place, tmp_path):
    """The folder is used, and so are its files, however old they are."""
    folder = version(tmp_path, code_cache.source_hash(), 400)
    assert place(PMLP_CACHE_DIR=tmp_path) == folder and len(list(folder.iterdir())) == 3
    assert time.time() - folder.stat().st_mtime < 60


def test_nothing_is_removed_that_others_may_write_to_or_where_no_use_can_be_noted(place, tmp_path, monkeypatch, capsys):
    folder = version(tmp_path, "0" * 20, 400)
    os.chmod(folder, 0o777)
    assert place(PMLP_CACHE_DIR=tmp_path) is not None and len(list(folder.iterdir())) == 3
    os.chmod(folder, 0o700)
    with monkeypatch.context() as patch:
        refuse_writing(patch, errno.EROFS, tmp_path, ("utime",))
        assert place(PMLP_CACHE_DIR=tmp_path) is not None and len(list(folder.iterdir())) == 3
    assert place(PMLP_CACHE_DIR=tmp_path) is not None and not folder.exists()
    assert capsys.readouterr().err == ""


def test_a_process_whose_folder_was_removed_goes_on(folder, monkeypatch, capsys):
    done = compilations(monkeypatch)
    function = compiled()
    assert function(4, 5) == 17
    shutil.rmtree(folder)
    assert function(4.0, 5.0) == 17.0 and compiled()(4, 5) == 17
    assert done == ["weigh"] * 3 and len(list(folder.iterdir())) == 2
    assert capsys.readouterr().err == ""


# Whole fits, in processes of their own.

FIT = """
import builtins, errno, hashlib, os, sys
import numpy as np
read_only = sys.argv[1]
def refusing(function):
    def called(path, *arguments, **options):
        writes = function is not open_now or set("wxa+") & set("".join(map(str, arguments)))
        if read_only and writes and str(path).startswith(read_only):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return function(path, *arguments, **options)
    return called
open_now = builtins.open
builtins.open = refusing(open)
for name in ("mkdir", "replace", "unlink", "rename"):
    setattr(os, name, refusing(getattr(os, name)))
import pathlib
read_now, used = pathlib.Path.read_bytes, []
pathlib.Path.read_bytes = lambda path: used.append(path.name) or read_now(path)
import pmlp_np as pm
X = np.random.default_rng(0).normal(size=(30, 3))
pool = pm.Pool(pm.Member(hidden=4), 3).fit(X, X[:, 0], epochs=2)
print(hashlib.sha256(b"".join(a.tobytes() for a in pool.extract(0).weights)).hexdigest())
print(*sorted(name for name in used if name.startswith("run-")))
"""


def fit_apart(base, read_only=False):
    environment = os.environ | {"PYTHONPATH": str(Path(pm.__file__).parents[1]), "PMLP_CACHE_DIR": str(base)}
    command = [sys.executable, "-W", "error", "-c", FIT, str(base) if read_only else ""]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_fits_with_a_damaged_and_a_read_only_cache(tmp_path):
    base = tmp_path / "Wärme"
    whole = code_cache.cache_folder()
    folder = base / whole.name
    # In a process of its own: what this one compiled may lie elsewhere.
    right = fit_apart(whole.parent).stdout.splitlines()[0]
    shutil.copytree(whole, folder)
    done = fit_apart(base, read_only=True)
    found, used = done.stdout.splitlines()
    assert (found, done.stderr) == (right, "")
    broken = [folder / name for name in random.sample(used.split(), 3)]
    for path in broken:
        content = bytearray(path.read_bytes())
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(random.choice([bytes(content), content[: len(content) // 2], b""]))
    done = fit_apart(base, read_only=True)
    assert done.stdout.startswith(right) and len(done.stderr.splitlines()) == 2
    assert "damaged" in done.stderr and "can't be kept" in done.stderr
    done = fit_apart(base)
    assert done.stdout.startswith(right) and len(done.stderr.splitlines()) == 1 and "damaged" in done.stderr
    assert all(code_cache._checked(path.read_bytes(), b"") is not None for path in broken)


def test_a_pass_is_found_by_its_name(folder, monkeypatch):
    """What tells passes apart is in their closures."""
    done = compilations(monkeypatch)
    names = ["fill", "finite"]
    for _ in range(2):
        for name in names:
            pass_address.__wrapped__("float32", name)
    assert len(done) == len(names) == len(list(folder.glob("run-*.nbc")))
