"""A pool's contents: every way to a pool makes it of the same parts, and parts and wholes lose none of them."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.pool.contents import Contents
from whole_pool import everything, pool_with_everything

PARTS = [field.name for field in fields(Contents)]


@pytest.fixture(scope="module")
def pool() -> pm.Pool:
    return pool_with_everything()


def test_a_pool_is_its_contents(pool: pm.Pool) -> None:
    contents = pool._contents()
    again = pm.Pool._from_contents(contents)
    assert [getattr(again._contents(), name) for name in PARTS] == [getattr(contents, name) for name in PARTS]
    assert all(getattr(again._contents(), name) is getattr(pool._contents(), name) for name in PARTS)


def test_every_way_to_a_pool_makes_the_same_parts(pool: pm.Pool, tmp_path: Path) -> None:
    pool.save(tmp_path / "pool.pmlp")
    new = pm.Pool(pool.specs, 3, loss=pm.Huber(delta=2.0), backend="reference")
    fitted = pm.Pool([pm.Member(hidden=2)], 1, backend="reference").fit(np.ones((3, 1)), np.ones(3), progress=False)
    ways = {
        "new": new, "fitted": fitted, "loaded": pm.load(tmp_path / "pool.pmlp"), "subset": pool.subset([2, 9]),
        "joined": pm.concat([pool, new]), "unpickled": pickle.loads(pickle.dumps(pool)), "copied": copy.copy(pool),
    }  # fmt: skip
    for name, made in ways.items():
        assert vars(made).keys() - {"_trainer"} == vars(pool).keys() - {"_trainer"}, name
        for part in PARTS:
            value, like = getattr(made._contents(), part), getattr(pool._contents(), part)
            assert value is None or like is None or type(value) is type(like), (name, part)
        assert not made.ids_.flags.writeable, name


@pytest.mark.parametrize("first", [1, 2, 3])
def test_parts_that_are_joined_again_lose_nothing(pool: pm.Pool, first: int) -> None:
    """All that members have: weights, slots, averages, bests, curves, cursors, keys, features, given weights."""
    parts = [pool.subset(pool.ids_[:first]), pool.subset(pool.ids_[first:])]
    joined = pm.concat(parts)
    joined.ended_ = pool.ended_
    expected, found = everything(pool), everything(joined)
    assert found.keys() == expected.keys() and len(found) > 30
    assert [name for name in found if found[name] != expected[name]] == []
    assert sorted(pool._assigned) == [2] == sorted(joined._assigned)


@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_fit_begins_with_parts_of_its_own(pool: pm.Pool) -> None:
    """What a copy was made of before a fit is untouched by it."""
    again = copy.deepcopy(pool)
    contents = again._contents()
    before = everything(pm.Pool._from_contents(contents))
    again.fit(np.ones((4, 3)), np.ones(4), features=[[0, 1], [2], [0, 1], [1, 0, 2]], progress=False)
    assert everything(pm.Pool._from_contents(contents)) == before
    assert again._contents().assigned is contents.assigned
