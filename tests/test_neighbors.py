"""Neighbors of members."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from varied_pool import MEMBERS

MOVED = ("learning_rate", "weight_decay", "decoupled_weight_decay", "l1")


def numbers(member):
    return {name: getattr(member.optimizer, name, 0.0) for name in ("learning_rate", "weight_decay")} | {
        name: getattr(member, name) for name in ("decoupled_weight_decay", "l1", "dropout", "input_dropout")
    }


@given(st.integers(0, 2**64 - 1), st.sampled_from([0.1, 0.7, 2.0]), st.integers(1, 4))
def test_numbers_stay_near_and_all_else_stays(seed, spread, n):
    specs = pm.Specs.from_members(MEMBERS)
    found = specs.near(n, seed, spread)
    assert len(found) == n * len(specs)
    moved = 0
    for i, neighbor in enumerate(found):
        member = MEMBERS[i // n]
        before, after = numbers(member), numbers(neighbor)
        for name in MOVED:
            if before[name] == 0.0:
                assert after[name] == 0.0
            else:
                assert abs(np.log(after[name] / before[name])) <= spread + 1e-12
                moved += after[name] != before[name]
        for name in ("dropout", "input_dropout"):
            assert abs(after[name] - before[name]) <= 0.2 * spread and 0.0 <= after[name] <= 0.9
            assert before[name] > 0.0 or after[name] == 0.0
        for old, new in zip(member.hidden, neighbor.hidden, strict=True):
            assert old * np.exp(-0.5 * spread) - 0.5 <= new <= old * np.exp(0.5 * spread) + 0.5 and new >= 1
        for name in ("activation", "bias", "initializer", "batch_size", "seed", "schedule", "average", "clip_norm"):
            assert getattr(neighbor, name) == getattr(member, name)
        assert type(neighbor.optimizer) is type(member.optimizer)
        # A spec that a user could write.
        assert pm.Specs.from_members([neighbor])[0] == neighbor
    assert moved > len(found)


def test_draws_depend_on_the_seed_alone():
    specs = pm.grid(hidden=[4, 9], dropout=0.3)
    assert specs.near(5, 3) == specs.near(5, 3) != specs.near(5, 4)
    assert specs.near(2, spread=0.0) == specs[[0, 0, 1, 1]] and len(specs.near(0)) == 0
    pool = pm.Pool(specs.near(3, 1), 2).fit(np.eye(2), np.ones(2), progress=False)
    assert len(pool) == 6
    with np.errstate(all="raise"):
        huge = pm.grid(learning_rate=1e308).near(20, spread=10.0)
    assert np.isfinite(huge.hyperparameters).all()


@pytest.mark.parametrize(
    ("name", "value"), [("n", -1), ("n", 1.5), ("seed", -1), ("spread", -0.1), ("spread", 11), ("spread", "a")]
)
def test_wrong_arguments_are_refused(name, value):
    with pytest.raises(pm.DataError, match=name):
        pm.grid(hidden=4).near(**{name: value})
