"""Files of networks and ensembles whose parts are there and mean nothing: refused, by the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crafted
import pmlp_np as pm


def network() -> pm.MLP:
    rng = np.random.default_rng()
    layers = [(4, 3), (3, 1)]
    return pm.MLP([rng.normal(size=shape).astype(np.float32) for shape in layers],
                  [rng.normal(size=shape[1]).astype(np.float32) for shape in layers], "tanh")  # fmt: skip


def changed(path: Path, header: Callable[[dict[str, Any]], Any] = len, **arrays: np.ndarray) -> None:
    """Rewrite a file with another header, and with these arrays in place of its own; its checksums are right."""
    head, parts = crafted.parts(path)
    assert arrays.keys() <= parts.keys()
    header(head)
    crafted.craft(path, head, parts | arrays)


HEADERS: list[dict[str, Any]] = [
    {"layers": 0}, {"layers": -1}, {"layers": 3}, {"layers": 1}, {"layers": 2.0}, {"layers": True}, {"layers": 10**30},
    {"activation": ["x"]}, {"activation": 5}, {"activation": []}, {"activation": "tanh"}, {"activation": ["tanh"] * 2},
    {"activation": [["tanh"]]}, {"loss": "x"}, {"loss": []}, {"loss": {}}, {"loss": {"name": "huber", "x": 1}},
    {"loss": {"name": "huber", "delta": -1}}, {"loss": "gaussian_nll"}, {"loss": {"name": "quantile", "levels": [[1]]}},
    {"bias": False}, {"bias": 1}, {"bias": None}, {"n_columns": 4}, {"other": 1},
]  # fmt: skip
NAN, INF = float("nan"), float("inf")
WEIGHTS = [
    np.zeros(3), np.array(1.0), np.zeros((4, 0)), np.array(["a"]), np.full((4, 3), NAN, np.float32), np.zeros((4, 3)),
    np.full((4, 3), INF, np.float32), np.zeros((4, 3), np.int64), np.zeros((4, 3), bool), np.zeros((4, 2), np.float32),
    np.zeros((4, 3, 1), np.float32),
]  # fmt: skip


@pytest.mark.parametrize("change", HEADERS, ids=str)
def test_headers_of_networks(tmp_path: Path, change: dict[str, Any]) -> None:
    network().save(tmp_path / "n.pmlp")
    changed(tmp_path / "n.pmlp", lambda head: head.update(change))
    with pytest.raises(pm.FileFormatError, match="n.pmlp"):
        pm.MLP.load(tmp_path / "n.pmlp")


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: f"{w.dtype}{w.shape}")
def test_arrays_of_networks(tmp_path: Path, weights: np.ndarray) -> None:
    network().save(tmp_path / "n.pmlp")
    changed(tmp_path / "n.pmlp", weights_0=weights)
    with pytest.raises(pm.FileFormatError, match="n.pmlp"):
        pm.MLP.load(tmp_path / "n.pmlp")


FEATURES = [[0, 1, 2], [0, 1, 2, 9], [0, 1, 2, -1], [[0, 1, 2, 3]], [0.0, 1.0, 2.0, 3.0], [True, True, True, True], []]


@pytest.mark.parametrize("features", FEATURES, ids=str)
def test_features_of_networks(tmp_path: Path, features: list[Any]) -> None:
    mlp = network()
    pm.MLP(mlp.weights, mlp.biases, "tanh", features=[3, 0, 1, 2], n_columns=5).save(tmp_path / "n.pmlp")
    changed(tmp_path / "n.pmlp", features=np.array([4, 0, 1, 2]))
    assert pm.MLP.load(tmp_path / "n.pmlp").features.tolist() == [4, 0, 1, 2]  # type: ignore[union-attr]
    changed(tmp_path / "n.pmlp", features=np.array(features))
    with pytest.raises(pm.FileFormatError, match="n.pmlp"):
        pm.MLP.load(tmp_path / "n.pmlp")
    good = np.array([4, 0, 1, 2])
    for n_columns in (0, 4, -1, "5", None, 2.5):
        changed(tmp_path / "n.pmlp", lambda head, n=n_columns: head.update(n_columns=n), features=good)  # type: ignore[misc]
        with pytest.raises(pm.FileFormatError, match="n.pmlp"):
            pm.MLP.load(tmp_path / "n.pmlp")


DATES = np.array(["2026-01-01"], "M8[D]")
NO_NUMBERS: list[Any] = [
    np.zeros((4, 3), complex), np.full((4, 3), DATES[0]), np.full((4, 3), DATES[0] - DATES[0]), np.full((4, 3), "1"),
    np.full((4, 3), 1.0, object), [[1, 2], [3]], None, "weights", np.ma.masked_less(np.arange(12.0).reshape(4, 3), 2),
    np.zeros((4, 3), [("a", "f4")]), {}, [[1j] * 3] * 4,
]  # fmt: skip


@pytest.mark.parametrize("odd", NO_NUMBERS, ids=lambda odd: f"{type(odd).__name__}-{getattr(odd, 'dtype', '')}")
def test_what_are_no_numbers_are_no_weights(odd: Any) -> None:
    """Refused by name, not cast: of complex numbers the imaginary part would be lost, of dates the meaning."""
    last = np.zeros((3, 1))
    with pytest.raises(pm.DataError, match=r"^weights\[0\]: expected"):
        pm.MLP([odd, last])
    with pytest.raises(pm.DataError, match=r"^biases\[1\]: expected"):
        pm.MLP([np.zeros((4, 3)), last], [np.zeros(3), odd])
    with pytest.raises(pm.DataError, match=r"^weights"):
        pm.Ensemble([network()] * 4, odd if odd is not None else [None] * 4)
    for lists in (odd, 3, None):
        with pytest.raises(pm.DataError, match="^weights"):
            pm.MLP(lists)
    with pytest.raises(pm.DataError, match="^features"):
        pm.MLP([np.zeros((4, 3))], features=[0, 1, 2, 2.5], n_columns=5)


def test_networks_that_have_diverged_are_not_saved(tmp_path: Path) -> None:
    """`extract` gives them, to be looked at."""
    pool = pm.Pool([pm.Member(hidden=3, optimizer=pm.SGD(1e30)), pm.Member(hidden=3)], 2, backend="reference")
    X = np.random.default_rng().normal(size=(50, 2))
    with pytest.warns(pm.DivergedWarning):
        pool.fit(X, X[:, 0], epochs=3, progress=False)
    assert pool.status_ == ["diverged", "ok"]
    with pytest.raises(pm.DataError, match=r"^weights\[0\] of the network: expected finite numbers"):
        pool.extract(0).save(tmp_path / "n.pmlp")
    with pytest.raises(pm.DataError, match=r"^weights\[0\] of mlps\[1\]: expected finite numbers"):
        pm.Ensemble([pool.extract(1), pool.extract(0)], [1.0, 0.0]).save(tmp_path / "n.pmlp")
    assert not any(tmp_path.iterdir())
    pool.extract(1).save(tmp_path / "n.pmlp")
    pool.save(tmp_path / "p.pmlp")
    assert pm.load(tmp_path / "p.pmlp").status_ == pool.status_


@pytest.mark.parametrize("weights", [[5.0, 5.0], [0.5, np.nan], [1.5, -0.5], [0.0, 0.0], [1.0], [1, 0], ["a", "b"]])
def test_weights_of_ensembles(tmp_path: Path, weights: list[Any]) -> None:
    """Those that sum to ten would multiply all predictions by it."""
    mlp = network()
    pm.Ensemble([mlp, mlp]).save(tmp_path / "e.pmlp")
    changed(tmp_path / "e.pmlp", weights=np.array(weights))
    with pytest.raises(pm.FileFormatError, match="e.pmlp"):
        pm.Ensemble.load(tmp_path / "e.pmlp")


def test_ensembles_that_lack_a_network(tmp_path: Path) -> None:
    mlp = network()
    for change in ({"mlps": []}, {"mlps": None}, {"mlps": ["a", "b"]}, {"mlps": {}}, {"mlps": [{}, {}]}, {"a": 1}):
        pm.Ensemble([mlp, mlp]).save(tmp_path / "e.pmlp")
        changed(tmp_path / "e.pmlp", lambda head, change=change: head.update(change))  # type: ignore[misc]
        with pytest.raises(pm.FileFormatError, match="e.pmlp"):
            pm.Ensemble.load(tmp_path / "e.pmlp")


@pytest.mark.parametrize("name", ['w""" + str(undefined) + """.py', "back\\slash.py", "1 model.py", "class.py"])
def test_python_files_of_any_name(tmp_path: Path, name: str) -> None:
    """The name stands in the text, and is no part of what is run."""
    mlp = network()
    assert "from model import predict" in mlp.to_python(tmp_path / name)
    found: dict[str, Any] = {"__name__": "model"}
    exec(compile((tmp_path / name).read_text(encoding="utf-8"), name, "exec"), found)
    x = np.zeros((2, mlp.n_features), np.float32)
    np.testing.assert_allclose(found["predict"](x), mlp.predict(x), rtol=1e-6)
