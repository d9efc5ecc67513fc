"""Files of table models: the same predictions, and whatever else is in a file is refused."""

import json

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.base.archive import read_archive, write_archive
from test_search import found


@pytest.fixture(scope="module", params=["regression", "classification", "multilabel"])
def written(request, tmp_path_factory):
    result, X, _ = found(request.param)
    path = tmp_path_factory.mktemp("models") / "model.pmlp"
    result.ensemble.save(path)
    return result.ensemble, X, path


def test_a_loaded_model_predicts_the_same_bits(written):
    model, X, path = written
    again = pm.TableModel.load(path)
    asked = ["predict", "predict_std", "predict_interval"] if model.spread else ["predict", "predict_proba"]
    for name in asked:
        ours, theirs = getattr(model, name)(X), getattr(again, name)(X)
        assert np.array_equal(ours, theirs) and ours.dtype.kind == theirs.dtype.kind
    assert again.views.left_out == model.views.left_out and len(again.networks()) == len(model.networks())


@pytest.mark.parametrize(
    "y", [np.array(["a", "b"], object), np.array([3, 7]), np.array([True, False]), np.array([1.0, 2.0])]
)
def test_classes_keep_their_type(y, tmp_path):
    labels = np.tile(y, 30)
    X = np.random.default_rng().normal(size=(60, 2))
    how = {"task": "classification", "time_budget": None, "max_members": 2, "max_epochs": 1, "cv": 2, "progress": False}
    model = pm.search(X, labels, **how).ensemble
    model.save(tmp_path / "m")
    again = pm.TableModel.load(tmp_path / "m").predict(X)
    assert again.dtype == model.predict(X).dtype == labels.dtype and np.array_equal(again, model.predict(X))


def changed(path, tmp_path, change):
    """A file with another header or other arrays, and a right checksum."""
    header, arrays = read_archive(path, "table model")
    header = {
        k: v for k, v in json.loads(json.dumps(header)).items() if k not in ("format", "version", "kind", "arrays")
    }
    change(header, arrays)
    other = tmp_path / "other.pmlp"
    write_archive(other, "table model", header, arrays)
    return other


CHANGES = {
    "no views": lambda h, a: h.pop("views"),
    "other blocks": lambda h, a: h.update(blocks=["raw"]),
    "no such task": lambda h, a: h["targets"].update(task="guess"),
    "a mean too many": lambda h, a: h["targets"].update(mean=[0.0, 0.0]),
    "a pool that is none": lambda h, a: a.update(pool0=np.zeros(100, np.uint8)),
    "a pool of numbers": lambda h, a: a.update(pool0=np.zeros(3)),
    "a million pools": lambda h, a: h.update(n_pools=10**6),
    "members of no pool": lambda h, a: h.update(members=[[7, [0]]]),
    "members that are none": lambda h, a: h.update(members=[[0, [10**9]]]),
    "no member": lambda h, a: h.update(members=[]),
    "weights of sum 2": lambda h, a: a.update(weights=2.0 * a["weights"]),
    "a weight of NaN": lambda h, a: a.update(weights=a["weights"] * np.nan),
    "no temperature": lambda h, a: h.update(temperature=0.0),
    "a temperature of text": lambda h, a: h.update(temperature="1"),
    "other classes": lambda h, a: h["targets"].update(classes=["one"], kind="U"),
    "flat is a number": lambda h, a: h["targets"].update(flat=1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_model_is_refused_by_name(written, tmp_path, name):
    _, _, path = written
    other = changed(path, tmp_path, CHANGES[name])
    with pytest.raises(pm.FileFormatError, match="other.pmlp"):
        pm.TableModel.load(other)


SPREADS = {
    "negative noise": lambda a: a.update(noise=-a["noise"]),
    "ratios that fall": lambda a: a.update(ratios=np.ascontiguousarray(a["ratios"][:, ::-1])),
    "no noise": lambda a: a.pop("noise"),
    "ratios of one dimension": lambda a: a.update(ratios=a["ratios"][0]),
}


@pytest.mark.parametrize("written", ["regression"], indirect=True)
@pytest.mark.parametrize("name", SPREADS)
def test_a_spread_that_is_none_is_refused(written, tmp_path, name):
    _, _, path = written
    with pytest.raises(pm.FileFormatError, match="other.pmlp"):
        pm.TableModel.load(changed(path, tmp_path, lambda header, arrays: SPREADS[name](arrays)))


def test_a_damaged_file_is_refused(written, tmp_path):
    _, _, path = written
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "other.pmlp").write_bytes(content)
    with pytest.raises(pm.FileFormatError, match="other.pmlp"):
        pm.TableModel.load(tmp_path / "other.pmlp")
    result_of_pool = tmp_path / "pool.pmlp"
    pm.Pool([pm.Member(3)], 2).save(result_of_pool)
    with pytest.raises(pm.FileFormatError, match="pool.pmlp"):
        pm.TableModel.load(result_of_pool)
