"""Files of table models: an archive with the views, the targets and the weights, and a pool's own file for each pool.

The parts are checked as everything that is read: the archive by its checksum, the views and targets here, the pools by
`pm.load`. Nothing in a file is executed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.base.archive import MISFITS, read_archive, unfit, write_archive
from pmlp_np.base.errors import DataError, FileFormatError, compose, show
from pmlp_np.data.preprocessing.feature_views import FeatureViews
from pmlp_np.model_selection.calibration import Spread
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION, TASKS, Targets
from pmlp_np.pool.files import load as load_pool
from pmlp_np.pool.pool import Pool

_KIND = "table model"
# Python's types of classes by the kind of the array that y was.
_CLASSES: dict[str, type] = {"b": bool, "i": int, "u": int, "f": float, "U": str, "O": str}


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a `TableModel` to a file."""
    pools = list({id(pool): pool for pool, _ in model.members}.values())
    number = {id(pool): i for i, pool in enumerate(pools)}
    header = {
        "views": model.views.to_plain(), "blocks": list(model.blocks), "targets": _plain_targets(model.targets),
        "temperature": float(model.temperature), "n_pools": len(pools),
        "members": [[number[id(pool)], ids.tolist()] for pool, ids in model.members],
    }  # fmt: skip
    arrays: dict[str, Any] = {"weights": model.weights}
    if model.spread is not None:
        arrays |= {"noise": model.spread.noise, "ratios": np.ascontiguousarray(model.spread.ratios)}
    with tempfile.TemporaryDirectory() as folder:
        for i, pool in enumerate(pools):
            file = Path(folder) / f"{i}.pmlp"
            pool.save(file)
            arrays[f"pool{i}"] = np.fromfile(file, np.uint8)
    write_archive(path, _KIND, header, arrays)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the fields of a `TableModel` from a file that `write` wrote. Raises FileFormatError for any other file."""
    header, arrays = read_archive(path, _KIND)
    try:
        return _fields(header, arrays)
    except FileFormatError as error:
        raise FileFormatError(f"file {os.fspath(path)}: {error}") from error
    except MISFITS as error:
        raise unfit(path, "a table model", error) from error


def _fields(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    views, targets = FeatureViews.from_plain(header["views"]), _targets_of(header["targets"])
    blocks = tuple(header["blocks"])
    if blocks != views.names():
        hint = "Another version may have written it: train again."
        raise DataError(compose("blocks", f"those of the views, {views.names()}", show(blocks), hint))
    pools = [_pool_of(arrays[f"pool{i}"]) for i in range(int(header["n_pools"]))]
    width = sum(map(views.width, blocks))
    n_outputs = {pool.n_outputs for pool in pools}
    if len(n_outputs) != 1 or any(pool.n_features != width or pool.loss != targets.loss for pool in pools):
        raise DataError(compose("pools", f"pools of {width} inputs, for {targets.task}", show(pools)))
    expected = len(targets.classes) if targets.task == CLASSIFICATION else len(targets.mean)
    if targets.task in (CLASSIFICATION, REGRESSION) and n_outputs != {expected}:
        raise DataError(compose("pools", f"{expected} outputs", show(n_outputs)))
    members = tuple((pools[i], _ids_in(pools[i], ids)) for i, ids in header["members"])
    weights, temperature = arrays["weights"], header["temperature"]
    known = weights.dtype == np.float64 and weights.shape == (len(members),)
    if not known or not (weights > 0.0).all() or abs(float(weights.sum()) - 1.0) > 1e-9:
        raise DataError(compose("weights", "a number above 0 for each configuration, of sum 1", show(weights)))
    if type(temperature) is not float or not 0.0 < temperature < float("inf"):
        raise DataError(compose("temperature", "a number above 0", show(temperature)))
    return {
        "views": views, "blocks": blocks, "targets": targets, "members": members, "weights": weights,
        "spread": _spread_of(arrays, targets), "temperature": temperature,
    }  # fmt: skip


def _ids_in(pool: Pool, ids: Any) -> np.ndarray:
    found = np.array(ids, np.int64)
    if found.ndim != 1 or not len(found) or not np.isin(found, pool.ids_).all():
        raise DataError(compose("members", "ids of the pool", show(ids)))
    return found


def _pool_of(content: np.ndarray) -> Pool:
    """Return the pool of a file's bytes."""
    if content.dtype != np.uint8 or content.ndim != 1:
        raise DataError(compose("pool", "the bytes of a file", f"{content.dtype} {content.shape}"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.pmlp"
        content.tofile(file)
        return load_pool(file)


def _plain_targets(targets: Targets) -> dict[str, Any]:
    return {
        "task": targets.task, "classes": targets.classes.tolist(), "kind": targets.classes.dtype.kind,
        "mean": targets.mean.tolist(), "scale": targets.scale.tolist(), "flat": targets.flat,
    }  # fmt: skip


def _targets_of(plain: Any) -> Targets:
    task, classes, kind = plain["task"], plain["classes"], plain["kind"]
    if task not in TASKS or kind not in _CLASSES or type(plain["flat"]) is not bool:
        raise DataError(compose("targets", "a known task", show(plain)))
    if any(type(each) is not _CLASSES[kind] for each in classes):
        raise DataError(compose("classes", "texts or numbers of one type", show(classes)))
    array = np.array(classes, object if kind == "O" else None) if classes else np.zeros(0)
    right = len(classes) >= 2 if task == CLASSIFICATION else not classes
    if len(set(classes)) != len(classes) or not right:
        raise DataError(compose("classes", "different ones, at least two of a classification", show(classes)))
    mean, scale = (np.array(plain[name], np.float64) for name in ("mean", "scale"))
    if mean.shape != scale.shape or mean.ndim != 1 or (len(mean) > 0) is not (task == REGRESSION):
        raise DataError(compose("targets", "a mean and a scale of each output", show(plain)))
    if not np.isfinite(mean).all() or not (np.isfinite(scale) & (scale > 0.0)).all():
        raise DataError(compose("targets", "finite numbers, scales above 0", show(plain)))
    return Targets(task, array, mean, scale, plain["flat"])


def _spread_of(arrays: dict[str, np.ndarray], targets: Targets) -> Spread | None:
    if targets.task != REGRESSION:
        return None
    noise, ratios, n = arrays["noise"], arrays["ratios"], len(targets.mean)
    shaped = noise.shape == (n,) and ratios.ndim == 2 and ratios.shape[0] == n and ratios.shape[1] > 0
    if not shaped or noise.dtype != np.float64 or ratios.dtype != np.float64:
        raise DataError(compose("spread", f"float64 numbers of {n} outputs", f"{noise.shape}, {ratios.shape}"))
    if not (np.isfinite(noise) & (noise > 0.0)).all() or not np.isfinite(ratios).all():
        raise DataError(compose("spread", "finite numbers", "others"))
    if (ratios < 0.0).any() or (np.diff(ratios, axis=1) < 0.0).any():
        raise DataError(compose("spread", "ratios that grow from 0", "others"))
    return Spread(noise, ratios)
