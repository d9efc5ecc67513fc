"""Files: what is written is read, whole or not at all, by NumPy alone, and nothing in a file is ever executed."""

import io
import json
import os
import pickle
import stat
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

import pmlp_np as pm
from crafted import craft, npy, parts
from pmlp_np.base import archive
from pmlp_np.base.archive import read_archive, write_archive
from pmlp_np.base.persistence import whole_file

ARRAYS = hypothesis_numpy.arrays(
    st.sampled_from(["f4", "f8", "i8", "u8", "?", "<U7"]), hypothesis_numpy.array_shapes(min_dims=0, min_side=0)
)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}(/[a-z0-9]{1,5})?", fullmatch=True), ARRAYS, max_size=4))
def test_arrays_come_back(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("files") / "a.pmlp"
    write_archive(path, "test", {"a": 1, "b": [None, "ü", 0.1]}, arrays)
    header, found = read_archive(path, "test")
    assert header == {"a": 1, "b": [None, "ü", 0.1]}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable
    with zipfile.ZipFile(path) as zipped:
        assert zipped.testzip() is None


def test_numpy_reads_the_arrays_and_json_the_header(tmp_path):
    write_archive(tmp_path / "a", "test", {"n": 3}, {"x/y": np.arange(3)})
    with zipfile.ZipFile(tmp_path / "a") as zipped:
        head = json.loads(zipped.read("header.json"))
        assert head["n"] == 3 and list(head["arrays"]) == ["x/y"]
        assert np.array_equal(np.load(io.BytesIO(zipped.read("x/y.npy")), allow_pickle=False), np.arange(3))


def test_arrays_may_come_in_parts_and_in_any_order_of_axes(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_PART", 64)
    wide = np.random.default_rng().normal(size=(37, 11))
    parts = archive.Stream(wide.dtype, wide.shape, lambda: np.array_split(wide, 5))
    write_archive(tmp_path / "a", "test", {}, {"a": wide.T, "b": parts, "c": wide[::2, ::3], "d": wide[:0]})
    _, found = read_archive(tmp_path / "a", "test")
    for name, expected in {"a": wide.T, "b": wide, "c": wide[::2, ::3], "d": wide[:0]}.items():
        assert found[name].shape == expected.shape and np.array_equal(found[name], expected)
    with archive.open_archive(tmp_path / "a", "test") as opened, opened.elements("b") as take:
        assert np.array_equal(np.concatenate([take(n) for n in (1, 0, 200, 206)]), wide.ravel())
    for count in (406, 408):
        with (
            pytest.raises(ValueError, match="has 407 elements"),
            archive.open_archive(tmp_path / "a", "test") as opened,
            opened.elements("b") as take,
        ):
            take(count)


def test_an_older_file_stays_whole_where_writing_fails(tmp_path):
    path = tmp_path / "a.pmlp"
    write_archive(path, "test", {}, {"x": np.arange(3)})
    with pytest.raises(ValueError, match="archives cannot hold dtype object"):
        write_archive(path, "test", {}, {"x": np.arange(5), "y": np.array([{}], object)})
    assert read_archive(path, "test")[1]["x"].tolist() == [0, 1, 2]
    assert os.listdir(tmp_path) == ["a.pmlp"]


@pytest.mark.parametrize("path", ["", b"file", 3, None])
def test_what_is_no_path_is_refused(tmp_path, monkeypatch, path):
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    with pytest.raises(pm.DataError, match="^file: expected a path to write to, got "), whole_file(path):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "place"]


def test_an_interrupted_writer_leaves_no_draft(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_archive(tmp_path / "a", "test", {}, {})
    assert os.listdir(tmp_path) == []


def test_a_file_is_replaced_and_readable_by_those_whom_the_umask_allows(tmp_path):
    path = tmp_path / "a"
    before = os.umask(0o027)
    try:
        write_archive(path, "test", {}, {"x": np.zeros(1)})
        write_archive(str(path), "test", {}, {"x": np.ones(1)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert read_archive(str(path), "test")[1]["x"][0] == 1.0


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "a"
    head = {"format": "pmlp_np", "version": 2, "kind": "test"}
    for dtype in ("|O", "<i8"):
        content = npy(np.arange(1), descr="|O")
        craft(path, head, {"x": content}, lambda places, d=dtype: places["x"].update(dtype=d, shape=[1]))
        with pytest.raises(pm.FileFormatError, match="array '?x'?"):
            read_archive(path, "test")
    path.write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(pm.FileFormatError, match="expected a pmlp_np archive"):
        read_archive(path, "test")


def rewrite(path, **header):
    """The archive with another header, whose checksums are right."""
    head, arrays = parts(path)
    craft(path, head | header, arrays)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "one.pmlp"
    pm.MLP([np.ones((2, 3)), np.ones((3, 1))]).save(path)
    return path


def test_other_kinds_say_how_to_open_them(saved):
    with pytest.raises(pm.FileFormatError, match="of kind 'pool', got 'mlp'. Open it with pm.MLP.load"):
        pm.load(saved)
    rewrite(saved, kind="pool")
    with pytest.raises(pm.FileFormatError, match="of kind 'mlp', got 'pool'. Open it with pm.load"):
        pm.MLP.load(saved)
    rewrite(saved, format="other")
    with pytest.raises(pm.FileFormatError, match="expected a pmlp_np file"):
        pm.MLP.load(saved)


def test_files_of_a_newer_version_are_refused(saved):
    rewrite(saved, version=3)
    with pytest.raises(
        pm.FileFormatError, match="expected format version 2, got 3. Open it with the version of pmlp_np"
    ):
        pm.MLP.load(saved)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 and then nothing"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.pmlp"
    path.write_bytes(content)
    for load in (pm.load, pm.MLP.load):
        with pytest.raises(pm.FileFormatError, match=r"^file .*other\.pmlp: expected a pmlp_np archive, got "):
            load(path)


def test_missing_files_are_not_found(tmp_path):
    for load in (pm.load, pm.MLP.load):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.pmlp")


@pytest.mark.parametrize("kind", ["pool", "mlp"])
def test_files_that_lack_a_part_are_refused(tmp_path, kind):
    path = tmp_path / "some.pmlp"
    pool = pm.Pool([pm.Member(hidden=3)], 2)
    (pool if kind == "pool" else pool.extract(0)).save(path)
    load = {"pool": pm.load, "mlp": pm.MLP.load}[kind]
    header, arrays = read_archive(path, kind)
    for name in arrays:
        write_archive(path, kind, header, {key: array for key, array in arrays.items() if key != name})
        with pytest.raises(pm.FileFormatError):
            load(path)
    for name in header:
        write_archive(path, kind, {key: value for key, value in header.items() if key != name}, arrays)
        with pytest.raises(pm.FileFormatError):
            load(path)
    write_archive(path, kind, header, arrays)
    load(path)
