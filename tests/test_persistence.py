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
from pmlp_np.persistence import read_archive, write_archive

ARRAYS = hypothesis_numpy.arrays(
    st.sampled_from(["f4", "f8", "i8", "u8", "?", "<U7"]), hypothesis_numpy.array_shapes(min_dims=0, min_side=0)
)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}(/[a-z0-9]{1,5})?", fullmatch=True), ARRAYS, max_size=4))
def test_arrays_come_back(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("files") / "a.pmlp"
    write_archive(path, "test", {"a": 1, "b": [None, "ü", 0.1]}, arrays)
    header, found = read_archive(path, "test")
    assert (header["a"], header["b"], header["kind"]) == (1, [None, "ü", 0.1], "test")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable


def test_numpy_reads_the_arrays_and_json_the_header(tmp_path):
    write_archive(tmp_path / "a", "test", {"n": 3}, {"x/y": np.arange(3)})
    with zipfile.ZipFile(tmp_path / "a") as archive:
        assert json.loads(archive.read("header.json"))["n"] == 3
        assert np.array_equal(np.load(io.BytesIO(archive.read("x/y.npy")), allow_pickle=False), np.arange(3))


def test_an_older_file_stays_whole_where_writing_fails(tmp_path):
    path = tmp_path / "a.pmlp"
    write_archive(path, "test", {}, {"x": np.arange(3)})
    with pytest.raises(ValueError, match="Object arrays"):
        write_archive(path, "test", {}, {"x": np.arange(5), "y": np.array([{}], object)})
    assert read_archive(path, "test")[1]["x"].tolist() == [0, 1, 2]
    assert os.listdir(tmp_path) == ["a.pmlp"]


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
    write_archive(path, "test", {}, {})
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([pytest.fail], object), allow_pickle=True)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", content.getvalue())
    with pytest.raises(pm.FileFormatError, match="Object arrays cannot be loaded"):
        read_archive(path, "test")
    path.write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(pm.FileFormatError, match="expected a pmlp_np archive"):
        read_archive(path, "test")


def rewrite(path, **header):
    """The archive with another header, whose checksums are right."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["header.json"] = json.dumps(json.loads(entries["header.json"]) | header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


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
    rewrite(saved, version=2)
    with pytest.raises(
        pm.FileFormatError, match="expected format version 1, got 2. Open it with the version of pmlp_np"
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


def test_every_cut_and_every_flipped_byte_is_noticed(saved):
    """A damaged file is refused or, where the damage lies in bytes that mean nothing, read as it was written."""
    content = saved.read_bytes()
    expected = pm.MLP.load(saved).forward(np.ones((1, 2)))
    refused = 0
    for place in range(0, len(content), 7):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]):
            saved.write_bytes(damaged)
            try:
                assert np.array_equal(pm.MLP.load(saved).forward(np.ones((1, 2))), expected)
            except pm.FileFormatError:
                refused += 1
    assert refused > len(content) / 7
    saved.write_bytes(content)
    assert np.array_equal(pm.MLP.load(saved).forward(np.ones((1, 2))), expected)


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
    for name in set(header) - {"format", "version", "kind"}:
        write_archive(path, kind, {key: value for key, value in header.items() if key != name}, arrays)
        with pytest.raises(pm.FileFormatError):
            load(path)
    write_archive(path, kind, header, arrays)
    load(path)
