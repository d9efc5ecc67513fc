"""Files of pools that are damaged, or crafted with checksums that are right: refused by the file's name, before
anything is made of them."""

from __future__ import annotations

import dataclasses
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from crafted import craft, flip, parts
from pmlp_np.pool import file_format
from pmlp_np.state.progress import Progress
from pmlp_np.training import history
from whole_pool import everything, pool_with_everything

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def pool() -> pm.Pool:
    return pool_with_everything()


@pytest.fixture
def path(pool: pm.Pool, tmp_path: Path) -> Path:
    pool.save(tmp_path / "crafted.pmlp")
    return tmp_path / "crafted.pmlp"


def test_a_pool_comes_back_with_all_it_has(pool: pm.Pool, path: Path) -> None:
    assert everything(pm.load(path)) == everything(pool)
    pm.load(path).save(path.with_name("again.pmlp"))
    assert path.read_bytes() == path.with_name("again.pmlp").read_bytes()


def test_other_programs_read_the_archive(path: Path) -> None:
    """It is a zip of .npy files, whatever else it is."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        listed = json.loads(archive.read("header.json"))["arrays"]
        assert [f"{name}.npy" for name in listed] + ["header.json"] == archive.namelist()
    _, arrays = parts(path)
    for name, array in np.load(path, allow_pickle=False).items():
        assert name == "header.json" or array.tobytes() == arrays[name].tobytes()


def refused(path: Path, load: Callable[[Path], Any] = pm.load) -> str:
    with pytest.raises(pm.FileFormatError) as caught:
        load(path)
    assert str(caught.value).startswith(f"file {path}") and "expected" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["pool", "mlp", "ensemble"])
def test_no_flipped_bit_loads(pool: pm.Pool, tmp_path: Path, kind: str) -> None:
    """Wherever it lies: in an array, the header, zip's own tables, or the seal."""
    path = tmp_path / "flipped.pmlp"
    made: Any = {"pool": pool, "mlp": pool.extract(5), "ensemble": pool.ensemble([5, 2])}[kind]
    made.save(path)
    content = path.read_bytes()
    load = {"pool": pm.load, "mlp": pm.MLP.load, "ensemble": pm.Ensemble.load}[kind]
    rng = np.random.default_rng()
    for bit in rng.choice(8 * len(content), 300, replace=False).tolist():
        path.write_bytes(flip(content, bit))
        refused(path, load)


def test_no_part_and_no_more_of_a_file_loads(path: Path) -> None:
    content = path.read_bytes()
    rng = np.random.default_rng()
    lengths = {0, 1, 21, 22, 119, 120, 121, len(content) - 1, *rng.integers(len(content), size=60).tolist()}
    odd = [content[:length] for length in lengths] + [content[length:] for length in lengths if length]
    odd += [content + b"\0", b"\0" + content, content + content, content + b"PK\5\6" + bytes(18)]
    for each in odd:
        path.write_bytes(each)
        refused(path)


def put(name: str, place: Any, value: Any) -> Callable[[dict[str, Any], Arrays], None]:
    def change(header: dict[str, Any], arrays: Arrays) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return change


def replace(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda header, arrays: arrays.update({name: make(arrays[name])})


def head(**values: Any) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda header, arrays: header.update(values)


def without(*names: str) -> Callable[[dict[str, Any], Arrays], None]:
    def change(header: dict[str, Any], arrays: Arrays) -> None:
        for name in names:
            (arrays if name in arrays else header).pop(name)  # type: ignore[attr-defined]

    return change


NAN, INF = float("nan"), float("inf")
_BY_MEMBER = ("ids", "stream_key", "order_key", "best_value", "best_epoch", "specs/bias", "specs/seed")
CHANGES: dict[str, Callable[[dict[str, Any], Arrays], Any]] = {
    "a short key": replace("stream_key", lambda a: a[:-1]),
    "a long key": replace("order_key", lambda a: np.append(a, a[:1])),
    "signed keys": replace("stream_key", lambda a: a.astype(np.int64)),
    "an id twice": put("ids", 0, 2),
    "an id below 0": put("ids", 0, -1),
    "a short cursor": replace("progress/minibatch", lambda a: a[:-1]),
    "a cursor below 0": put("progress/minibatch", 1, -1),
    "a cursor far off": put("progress/minibatch", 1, 2**40),
    "a cursor of floats": replace("progress/minibatch", lambda a: a.astype(np.float64)),
    "an epoch below 0": put("progress/epoch", 1, -1),
    "an epoch that no curve has": put("progress/epoch", 1, 4),
    "a step below 0": put("progress/step", 0, -5),
    "a status that is none": put("progress/status", 0, 250),
    "a status below 0": put("progress/status", 0, -1),
    "a rate above 1": put("progress/rate_factor", 0, 1e9),
    "a rate below 0": put("progress/rate_factor", 0, -1.0),
    "a rate that is no number": put("progress/rate_factor", 0, NAN),
    "a plateau that is no number": put("progress/plateau_loss", 0, NAN),
    "a wait below 0": put("progress/plateau_wait", 0, -1),
    "epochs of a fit below 0": put("progress/fit_epochs", 0, -(2**62)),
    "a best epoch that no curve has": put("best_epoch", 0, 3),
    "a best epoch below -1": put("best_epoch", 0, -2),
    "a short best value": replace("best_value", lambda a: a[:1]),
    "a curve of another length": replace("curves/loss", lambda a: a[:, :-1]),
    "a curve of fewer members": replace("curves/loss", lambda a: a[:-1]),
    "a curve of doubles": replace("curves/loss", lambda a: a.astype(np.float64)),
    "a curve in one piece": replace("curves/loss", lambda a: a.ravel()),
    "a curve of an unknown name": lambda h, a: a.update({"curves/no": a["curves/loss"]}),
    "parameters too few": replace("state/parameters", lambda a: a[:-1]),
    "parameters too many": replace("state/parameters", lambda a: np.append(a, a[:1])),
    "parameters of doubles": replace("state/parameters", lambda a: a.astype(np.float64)),
    "parameters that are no numbers": put("state/parameters", 0, NAN),
    "parameters without end": put("state/parameters", -20, INF),
    "slots too few": replace("state/slots", lambda a: a[:-1]),
    "patience from an epoch that no curve has": put("waits_from", 0, 3),
    "patience from before the first epoch": put("waits_from", 0, -2),
    "signed keys of data": replace("validated_on", lambda a: a.astype(np.int64)),
    "a short key of a cursor": replace("progress/cursor_key", lambda a: a[:-1]),
    "what is shown of fewer": replace("shown/validation_loss", lambda a: a[:-1]),
    "what is shown as doubles": replace("shown/validation_loss", lambda a: a.astype(np.float64)),
    "an unknown value that is shown": lambda h, a: a.update({"shown/no": a["shown/validation_loss"]}),
    "no best": without("state/best"),
    "no average": without("state/average"),
    "a best that nobody kept": head(kept_best=False),
    "an average that nobody keeps": lambda h, a: put("specs/options", slice(None), a["specs/options"][1])(h, a),
    "no slots": without("state/slots"),
    "no ids": without("ids"),
    "no status": without("progress/status"),
    "an array too many": lambda h, a: a.update({"other": a["ids"]}),
    "features out of range": put("features/indices", 0, 3),
    "features below 0": put("features/indices", 0, -1),
    "feature sets that are none": put("features/of", 0, 9),
    "feature sets of no length": put("features/lengths", 0, 0),
    "feature sets too long": put("features/lengths", 0, 2**62),
    "feature sets that overflow": put("features/lengths", slice(None), 2**62),
    "feature sets that go down": put("features/lengths", 0, -1),
    "features as masks": replace("features/indices", lambda a: a.astype(bool)),
    "half of the features": without("features/lengths"),
    "given to nobody": put("given/members", 0, 4),
    "given weights too few": replace("given/values", lambda a: a[:-1]),
    "given weights that are none": put("given/values", 0, NAN),
    "given twice": lambda h, a: a.update({"given/members": np.repeat(a["given/members"], 2),
                                          "given/values": np.tile(a["given/values"], 2)}),
    "specs of fewer": replace("specs/bias", lambda a: a[:-1]),
    "widths of 0": put("specs/widths", 0, 0),
    "widths far off": put("specs/widths", 0, 2**31 - 1),
    "widths that the file can't hold": put("specs/widths", slice(None), 2**24),
    "widths below 0": put("specs/widths", 0, -3),
    "offsets that go down": put("specs/width_offsets", 1, 5),
    "offsets below 0": put("specs/width_offsets", 0, -1),
    "offsets without end": put("specs/width_offsets", -1, 2**40),
    "a code that is none": put("specs/activations", 0, 9999),
    "a code below 0": put("specs/activations", 0, -1),
    "an optimizer that is none": put("specs/optimizer", 0, 77),
    "an initializer below 0": put("specs/initializer", 0, -1),
    "options that are no numbers": put("specs/options", 0, NAN),
    "hyperparameters that are none": put("specs/hyperparameters", 0, NAN),
    "hyperparameters below 0": put("specs/hyperparameters", slice(None), -1.0),
    "batch sizes below 0": put("specs/batch_size", 0, -1),
    "names in one text": replace("specs/optimizer_names", lambda a: a[0]),
    "names too few": replace("specs/activation_names", lambda a: a[:1]),
    "names that mean nothing here": replace("specs/optimizer_names", lambda a: np.array(["x"] * len(a))),
    "a table of names too many": lambda h, a: a.update({"specs/other_names": a["specs/optimizer_names"]}),
    "no names": without("specs/option_names"),
    "hyperparameters in a row": replace("specs/hyperparameters", lambda a: a.ravel()),
    "a batch of members that are none": lambda h, a: a.update({n: v[:0] for n, v in a.items() if n in _BY_MEMBER}),
    "features of 0": head(n_features=0),
    "a number of features that is true": head(n_features=True),
    "features in a text": head(n_features="3"),
    "outputs too many": head(n_outputs=2**30),
    "outputs without end": head(n_outputs=10**400),
    "outputs below 0": head(n_outputs=-1),
    "outputs of a float": head(n_outputs=1.0),
    "a loss that is none": head(loss="none"),
    "a loss of other parameters": head(loss={"name": "huber", "other": 1}),
    "a loss of none": head(loss={"name": "huber", "delta": -1}),
    "a loss without a name": head(loss={"delta": 1}),
    "a loss of a list": head(loss=[1]),
    "a loss of many levels": head(loss={"name": "quantile", "levels": [0.5] * 5000}),
    "a dtype of objects": head(dtype="object"),
    "a dtype of a list": head(dtype=[["a", "f4"]]),
    "another dtype": head(dtype="float64"),
    "a backend that is none": head(backend="none"),
    "a backend of a list": head(backend=[]),
    "a device that is none": head(device={}),
    "a monitor that is none": head(monitor="none"),
    "a monitor of a list": head(monitor=["loss"]),
    "an ending without end": head(ended="x" * 10**5),
    "an ending of a number": head(ended=3),
    "best kept a bit": head(kept_best=1),
    "no dtype": without("dtype"),
    "an item too many": head(other=1),
    "another kind": head(kind="mlp"),
    "another format": head(format="other"),
    "a version of before": head(version=1),
    "a version to come": head(version=3),
    "a version that is true": head(version=True),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_crafted_pools(path: Path, name: str) -> None:
    header, arrays = parts(path)
    header["backend"] = "numba"
    craft(path, header, arrays)  # type: ignore[arg-type]
    pm.load(path)
    CHANGES[name](header, arrays)
    craft(path, header, arrays)  # type: ignore[arg-type]
    refused(path)


def test_parameters_that_are_no_numbers_where_they_may_be(path: Path) -> None:
    """Of members that have diverged, and of those within an epoch: who has diverged is known when it ends."""
    header, arrays = parts(path)
    assert pm.load(path).status_[3] == "diverged"
    put("state/parameters", -1, NAN)(header, arrays)
    craft(path, header, arrays)  # type: ignore[arg-type]
    assert np.isnan(pm.load(path).extract(7, weights="last").biases[-1]).all()
    put("state/parameters", 0, NAN)(header, arrays)
    craft(path, header, arrays)  # type: ignore[arg-type]
    assert "finite parameters" in refused(path)
    put("progress/minibatch", 0, 1)(header, arrays)
    craft(path, header, arrays)  # type: ignore[arg-type]
    assert np.isnan(pm.load(path).extract(5, weights="last").weights[0]).any()


LISTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no list": lambda places: places.clear(),
    "an array behind itself": lambda places: places["ids"].update(offset=places["stream_key"]["offset"]),
    "an array before the file": lambda places: places["ids"].update(offset=-64),
    "an array behind the file": lambda places: places["ids"].update(offset=2**62),
    "two arrays in one place": lambda places: places.update(stream_key=places["ids"]),
    "more than there is": lambda places: places["ids"].update(shape=[2**40]),
    "more than can be": lambda places: places["ids"].update(shape=[2**60, 2**60]),
    "less than nothing": lambda places: places["ids"].update(shape=[-4]),
    "a shape that is no list": lambda places: places["ids"].update(shape=4),
    "a shape of floats": lambda places: places["ids"].update(shape=[4.0]),
    "a shape of many": lambda places: places["ids"].update(shape=[1] * 100),
    "a shape of nothing": lambda places: places["ids"].update(shape=[0, 2**47, 2**47]),
    "objects": lambda places: places["ids"].update(dtype="|O"),
    "records": lambda places: places["ids"].update(dtype=[["a", "<i8"]]),
    "dates": lambda places: places["ids"].update(dtype="<M8[s]"),
    "complex numbers": lambda places: places["ids"].update(dtype="<c8"),
    "long texts": lambda places: places["ids"].update(dtype="<U99999999999"),
    "other bytes": lambda places: places["ids"].update(dtype=">i8"),
    "a checksum of another": lambda places: places["ids"].update(checksum=places["order_key"]["checksum"]),
    "no checksum": lambda places: places["ids"].pop("checksum"),
    "a checksum of a number": lambda places: places["ids"].update(checksum=0),
    "more than it needs": lambda places: places["ids"].update(more=1),
    "a text": lambda places: places.update(ids="ids"),
    "an offset of true": lambda places: places["ids"].update(offset=True),
}


@pytest.mark.parametrize("name", LISTS)
def test_crafted_lists_of_arrays(path: Path, name: str) -> None:
    header, arrays = parts(path)
    craft(path, header, arrays, LISTS[name])  # type: ignore[arg-type]
    refused(path)


TEXTS: dict[str, Callable[[str], str]] = {
    "nothing": lambda text: "",
    "a list": lambda text: "[]",
    "a number": lambda text: "1",
    "half": lambda text: text[: len(text) // 2],
    "twice": lambda text: text + text,
    "lists in lists": lambda text: "[" * 100_000,
    "objects in objects": lambda text: '{"a":' * 100_000,
    "many lists": lambda text: "[" + "[]," * 400_000 + "[]]",
    "a name twice": lambda text: text.replace('"format"', '"kind": "pool", "format"', 1),
    "no number": lambda text: text.replace('"n_features": 3', '"n_features": NaN', 1),
    "infinity": lambda text: text.replace('"n_features": 3', '"n_features": -Infinity', 1),
    "a large number": lambda text: text.replace('"n_features": 3', '"n_features": 1e999', 1),
    "a long number": lambda text: text.replace('"n_features": 3', '"n_features": ' + "9" * 20_000, 1),
    "other letters": lambda text: text.replace('"format"', '"förmat"', 1),
    "half a letter": lambda text: text.replace('"huber"', '"\\ud800"', 1),
}


@pytest.mark.parametrize("name", TEXTS)
def test_crafted_headers(path: Path, name: str) -> None:
    header, arrays = parts(path)
    craft(path, header, arrays, text=TEXTS[name])  # type: ignore[arg-type]
    refused(path)


def test_bytes_that_are_no_value_of_their_type(path: Path) -> None:
    header, arrays = parts(path)
    for name, dtype in (("specs/bias", "|b1"), ("specs/optimizer_names", None)):
        raw = np.full(arrays[name].nbytes, 0xEE, np.uint8)
        odd = raw.view(dtype or arrays[name].dtype).reshape(arrays[name].shape)
        craft(path, header, arrays | {name: odd})  # type: ignore[arg-type]
        refused(path)


def test_versions_are_named(path: Path) -> None:
    header, arrays = parts(path)
    craft(path, header, arrays, version=3)  # type: ignore[arg-type]
    assert "expected format version 2, got 3. Open it with the version of pmlp_np that wrote it" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"format": "pmlp_np", "version": 1, "kind": "pool"}))
        archive.writestr("ids.npy", b"")
    assert "expected format version 2, got 1. Open it with the version" in refused(path)


@pytest.mark.parametrize("change", [head(n_outputs=2**30), put("specs/widths", slice(None), 2**24)])
def test_what_a_file_asks_for_is_bounded_by_its_size(path: Path, change: Any) -> None:
    header, arrays = parts(path)
    change(header, arrays)
    craft(path, header, arrays)  # type: ignore[arg-type]
    tracemalloc.start()
    refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < os.path.getsize(path) + 64 * 10**6


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        for load in (pm.load, pm.MLP.load, pm.Ensemble.load):
            refused(path, load)
    with pytest.raises(IsADirectoryError):
        pm.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        pm.load(tmp_path / "none.pmlp")


def test_every_column_is_in_the_table() -> None:
    assert set(file_format.PROGRESS) == {each.name for each in dataclasses.fields(Progress)}
    assert set(file_format._RECORDS) == set(history.COLUMNS)
