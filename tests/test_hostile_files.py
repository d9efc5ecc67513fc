"""Files of networks and ensembles whose parts are there and mean nothing: refused, by the file's name."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm


def network() -> pm.MLP:
    rng = np.random.default_rng()
    layers = [(4, 3), (3, 1)]
    return pm.MLP([rng.normal(size=shape).astype(np.float32) for shape in layers],
                  [rng.normal(size=shape[1]).astype(np.float32) for shape in layers], "tanh")  # fmt: skip


def changed(path: Path, header: Callable[[dict[str, Any]], Any] = len, **arrays: np.ndarray) -> None:
    """Rewrite a file with another header, and with these arrays in place of its own."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    head = json.loads(parts["header.json"])
    header(head)
    parts["header.json"] = json.dumps(head).encode()
    for name, array in arrays.items():
        text = io.BytesIO()
        np.lib.format.write_array(text, array)
        assert f"{name}.npy" in parts
        parts[f"{name}.npy"] = text.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


HEADERS: list[dict[str, Any]] = [{"layers": 0}, {"layers": -1}, {"activation": ["x"]}, {"activation": 5}, {"loss": "x"}]
WEIGHTS = [np.zeros(3), np.array(1.0), np.zeros((4, 0)), np.array(["a"]), np.zeros((4, 3), complex)]


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
    for change in ({"mlps": []}, {"mlps": None}, {"mlps": ["a", "b"]}):
        pm.Ensemble([mlp, mlp]).save(tmp_path / "e.pmlp")
        changed(tmp_path / "e.pmlp", lambda head, change=change: head.update(change))  # type: ignore[misc]
        with pytest.raises(pm.FileFormatError, match="e.pmlp"):
            pm.Ensemble.load(tmp_path / "e.pmlp")


@pytest.mark.parametrize("name", ['w""" + str(undefined) + """.py', "back\\slash.py", "1 model.py"])
def test_python_files_of_any_name(tmp_path: Path, name: str) -> None:
    """The name stands in the text, and is no part of what is run."""
    mlp = network()
    mlp.to_python(tmp_path / name)
    found: dict[str, Any] = {"__name__": "model"}
    exec(compile((tmp_path / name).read_text(encoding="utf-8"), name, "exec"), found)
    x = np.zeros((2, mlp.n_features), np.float32)
    np.testing.assert_allclose(found["predict"](x), mlp.predict(x), rtol=1e-6)
