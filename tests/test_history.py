"""Curves of the history: as long as the epochs there are, whatever room they have."""

import numpy as np
import pytest

import pmlp_np as pm
from monitored import SETTINGS, validation
from pmlp_np.training.history import History
from small_pool import X, draw_y, pool_of, same_history


def test_curves_grow_by_doubling_and_show_the_epochs_there_are():
    records, members = History(3), np.arange(3)
    rooms = set()
    for epoch in range(100):
        before = records.curves
        records.make_room(["loss"], epoch + 1)
        for name, curve in before.items():
            assert curve.shape == (3, epoch) and np.array_equal(curve, records.curves[name][:, :epoch])
        assert records.curves["loss"].shape == (3, epoch + 1)
        assert np.isnan(records.curves["loss"][:, -1]).all()
        records.enter("loss", members, np.full(3, epoch), members + epoch)
        rooms.add(len(records._rooms["loss"]))
    assert sorted(rooms) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert np.array_equal(records.curves["loss"], np.arange(3)[:, None] + np.arange(100))
    # One fit takes no more than it needs; a curve that comes late is as long as the others.
    exact = History(3)
    exact.make_room(["loss"], 100)
    assert len(exact._rooms["loss"]) == 100
    records.make_room(["late"], 50)
    assert records.curves["late"].shape == (3, 100) and np.isnan(records.curves["late"]).all()


@pytest.mark.parametrize("way", ["file", "subset", "concat"])
def test_room_that_is_spare_is_nowhere_seen(way, tmp_path):
    y, data = draw_y(), validation()
    pool = pool_of()
    for _ in range(5):
        pool.partial_fit(X, y, validation_data=data, **SETTINGS)
    assert len(pool._records._rooms["loss"]) > 5
    whole = pool_of().fit(X, y, epochs=5, validation_data=data, **SETTINGS)
    assert same_history(pool.history_, whole.history_)
    if way == "file":
        pool.save(tmp_path / "pool.pmlp")
        whole.save(tmp_path / "whole.pmlp")
        assert (tmp_path / "pool.pmlp").stat().st_size == (tmp_path / "whole.pmlp").stat().st_size
        pool = pm.load(tmp_path / "pool.pmlp")
    if way == "subset":
        pool, whole = pool.subset([7, 20]), whole.subset([7, 20])
    if way == "concat":
        pool, whole = (pm.concat([each.subset([7]), each.subset([30, 20])]) for each in (pool, whole))
    assert same_history(pool.history_, whole.history_)
    for each in (pool, whole):
        each.partial_fit(X, y, epochs=2, validation_data=data, **SETTINGS)
    assert same_history(pool.history_, whole.history_) and pool.history_["loss"].shape[1] == 7
    pool.set_weights(7, pool.extract(7))
    for curve in pool.history_.values():
        assert np.isnan(curve[list(pool.ids_).index(7)]).all() and np.isfinite(curve).sum() == curve[1:].size
