"""Pools that are joined lose nothing that their members have: what is taken out again is the same to the bit, and
training on gives the bits of training apart."""

from __future__ import annotations

import contextlib
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import BACKENDS, requires
from member_state import member_states
from paused_runs import begun
from pmlp_np.state.progress import READY, STOPPED
from pmlp_np.training import history

pytestmark = pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")

F, N = 4, 30
KINDS = [
    pm.Member(hidden=4, average=0.9, schedule="cosine"),
    pm.Member(hidden=(5, 3), activation=("tanh", "gelu"), optimizer=pm.SGD(0.05, momentum=0.9)),
    pm.Member(hidden=(), optimizer=pm.SGD(0.01)),
    pm.Member(hidden=6, feature_scale=True, bias=False, dropout=0.2, batch_size=7, seed=3),
    pm.Member(hidden=3, plateau_patience=1, learning_rate=0.3, clip_norm=0.5),
    pm.Member(hidden=2, activation="identity", optimizer=pm.SGD(1e20)),
]


@dataclass(frozen=True)
class Part:
    """A pool, and what happened to it. cut: looks after which training pauses, 0 for never."""

    kinds: list[int]
    ids: list[int]
    seed: int
    epochs: int
    own: tuple[str, ...]
    early_stopping: bool
    cut: int
    stopped: int
    dropped: int
    given: bool

    def members(self) -> list[pm.Member]:
        return [KINDS[kind] for kind in self.kinds]

    def own_data(self) -> dict[str, Any]:
        """Arguments of fit, for all ways in which members may have data of their own; all members have some."""
        rng, n = np.random.default_rng(self.seed), len(self.kinds)
        found = {
            "rows": [rng.integers(0, N, 20 + i) for i in range(n)],
            "features": [rng.permutation(F)[: 1 + (i + self.seed) % F] for i in range(n)],
            "targets": rng.normal(size=(n, N)),
            "sample_weight": rng.uniform(0.5, 2.0, (n, N)),
        }
        everything = {
            "rows": [np.arange(N)] * n,
            "features": [np.arange(F)] * n,
            "targets": np.tile(draw_y(), (n, 1)),
            "sample_weight": np.ones((n, N)),
        }
        return {name: found[name] if name in self.own else everything[name] for name in found}

    def pool(self, backend: str) -> pm.Pool:
        pool = pm.Pool(self.members(), F, seed=self.seed, backend=backend, ids=self.ids)
        how = self.own_data()
        if self.given:
            columns = {"features": how["features"]}
            trained = pm.Pool(self.members(), F, seed=self.seed + 1, backend=backend, ids=self.ids)
            trained.fit(draw_x(), draw_y(), epochs=1, progress=False, **columns)
            pool.fit(draw_x(), draw_y(), epochs=1, progress=False, **columns)
            with contextlib.suppress(pm.DataError):
                pool.set_weights(self.ids[0], trained.extract(self.ids[0]))
        if not self.epochs:
            return pool
        run = begun(
            pool, draw_x(), None, epochs=self.epochs, **HOW, **how, **validation(len(pool), self.early_stopping)
        )
        looks = iter([False] * self.cut if self.cut else [False] * 10**6)
        run.go_on(lambda: next(looks, True))
        if self.stopped < len(pool) and pool._progress.status[self.stopped] == READY:
            pool._progress.status[self.stopped] = STOPPED
        if self.dropped < len(pool):
            pool._drop([self.ids[self.dropped]])
        return pool


HOW: dict[str, Any] = {"batch_size": 8, "n_threads": 1, "progress": False}


def draw_x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, F))


def draw_y() -> np.ndarray:
    return np.random.default_rng(2).normal(size=N)


def validation(n_members: int, early_stopping: bool) -> dict[str, Any]:
    rows = [np.arange(i % 3, N, 3) for i in range(n_members)]
    return {"validation_rows": rows, "early_stopping": early_stopping, "patience": 1}


@st.composite
def parts(draw: st.DrawFn) -> Part:
    kinds = draw(st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=4))
    ids = draw(st.lists(st.integers(0, 40), min_size=len(kinds), max_size=len(kinds), unique=True))
    return Part(
        kinds,
        ids,
        seed=draw(st.integers(0, 100)),
        epochs=draw(st.integers(0, 3)),
        own=tuple(draw(st.sets(st.sampled_from(["rows", "features", "targets", "sample_weight"])))),
        early_stopping=draw(st.booleans()),
        cut=draw(st.sampled_from([0, 3, 5, 9])),
        stopped=draw(st.integers(0, 6)),
        dropped=draw(st.integers(0, 6)),
        given=draw(st.booleans()),
    )


def contents(pool: pm.Pool, id: int) -> dict[str, np.ndarray]:
    """All that a member has, by name."""
    (m,), records, plan = pool._positions([id]), pool._records, pool._plan
    found = member_states(pool)[id].arrays()
    found |= {name: getattr(records, name)[m : m + 1] for name in history.COLUMNS}
    found |= {f"shown {name}": column[m : m + 1] for name, column in records.shown.items()}
    found |= {"stream": plan.stream_key[m : m + 1], "order": plan.order_key[m : m + 1]}
    found["features"] = np.arange(F) if plan.features is None else plan.features.arrays[plan.features.of[m]]
    for k, array in enumerate(sum(pool._assigned.get(int(m), ([], [])), [])):
        found[f"given {k}"] = array
    return found | {"spec": np.frombuffer(repr(pool.specs[m]).encode(), np.uint8)}


def lost(pool: pm.Pool, id: int, other: pm.Pool, as_id: int) -> list[str]:
    """What a member of the pool has and its like in the other hasn't. What a joined pool has beside it says nothing:
    NaN for epochs and curves of others, and last weights where others keep best ones."""
    ours, theirs = contents(pool, id), contents(other, as_id)
    missing = list(ours.keys() - theirs.keys())
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        if name in pool.history_ and np.isnan(b[len(a) :]).all():
            b = b[: len(a)]
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            missing.append(name)
    last = [ours[name] for kind in ("weights", "biases", "scales") for name in ours if name.startswith(f"{kind} ")]
    for name in theirs.keys() - ours.keys():
        kind, _, k = name.partition(" ")
        if kind == "best":
            if last[int(k)].tobytes() != theirs[name].tobytes():
                missing.append(f"{name}, which are not its last weights")
            continue
        assert name.startswith(("shown ", "loss", "validation_")), name
        if not np.isnan(theirs[name]).all():
            missing.append(f"{name}, which it never had")
    return missing


def renumbered(pools: list[pm.Pool], joined: pm.Pool) -> list[list[int]]:
    """The ids that each pool's members have in the joined one."""
    sizes = np.cumsum([0, *map(len, pools)])
    return [joined.ids_[a:b].tolist() for a, b in zip(sizes[:-1], sizes[1:], strict=True)]


@pytest.mark.parametrize("backend_name", BACKENDS)
@given(drawn=st.lists(parts(), min_size=2, max_size=3), early_stopping=st.booleans(), seed=st.integers(0, 99))
def test_concat_loses_nothing(backend_name: str, drawn: list[Part], early_stopping: bool, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pm.DivergedWarning)
        pools = [part.pool(backend_name) for part in drawn]
        joined = pm.concat(pools)
        names = renumbered(pools, joined)
        for pool, ids in zip(pools, names, strict=True):
            again = joined.subset(ids)
            for id, as_id in zip(pool.ids_.tolist(), ids, strict=True):
                assert not lost(pool, id, joined, as_id)
                assert not lost(pool, id, again, as_id)
        if backend_name == "reference":
            # What its members learn depends on who is beside them, by roundings.
            return
        # Training on, in an order that mixes them: some are within epochs, others rest.
        order = np.random.default_rng(seed).permutation(joined.ids_)
        mixed = joined.subset(order)
        positions = joined._positions(order)
        how = [part.own_data() for part in drawn]
        on = [validation(len(part.kinds), early_stopping) for part in drawn]
        for pool, own, more in zip(pools, how, on, strict=True):
            own = own if pool._plan.features is not None else own | {"features": None}
            pool.partial_fit(draw_x(), None, epochs=2, **HOW, **own, **more)
        together: dict[str, Any] = {
            name: [[*sum((list(own[name]) for own in how), [])][i] for i in positions]
            for name in ("rows", "targets", "sample_weight")
        }
        together |= {name: np.array(together[name]) for name in ("targets", "sample_weight")}
        rows = sum((more["validation_rows"] for more in on), [])
        together |= on[0] | {"validation_rows": [rows[i] for i in positions]}
        mixed.partial_fit(draw_x(), None, epochs=2, **HOW, **together)
    for pool, ids in zip(pools, names, strict=True):
        for id, as_id in zip(pool.ids_.tolist(), ids, strict=True):
            assert not lost(pool, id, mixed, as_id)


def test_what_is_lost_would_be_noticed() -> None:
    X, y = draw_x(), draw_y()
    pool = pm.Pool(KINDS[:2], F, backend="reference").fit(X, y, epochs=2, progress=False, **validation(2, True))
    for name in ("stream_key", "order_key"):
        other = pool.subset([0, 1])
        getattr(other._plan, name)[1] += 1
        assert lost(pool, 1, other, 1) == [name.removesuffix("_key")] and not lost(pool, 0, other, 0)
    other = pool.subset([0, 1])
    other._records.best_value[0] += 1.0
    assert lost(pool, 0, other, 0) == ["best_value"]
    assert {"weights 0", "validation_loss"} < set(lost(pool, 0, pm.Pool(KINDS[:2], F, backend="reference"), 0))


def test_what_was_monitored_is_kept_beside_pools_without_validation() -> None:
    X, y = draw_x(), draw_y()
    watched = pm.Pool(KINDS[:3], F, backend="reference").fit(
        X, y, epochs=3, metrics=["mae"], monitor="mae", progress=False, **validation(3, True)
    )
    plain = pm.Pool(KINDS[:1], F, backend="reference", ids=[9]).fit(X, y, epochs=3, progress=False)
    untrained = pm.Pool(KINDS[:1], F, backend="reference", ids=[8])
    for parts_of in ([plain, watched, untrained], [watched, untrained, plain]):
        joined = pm.concat(parts_of)
        assert joined._records.monitor == "mae"
        assert not any(lost(watched, id, joined, id) for id in (0, 1, 2))
        board = [record["id"] for record in joined.leaderboard()]
        assert board[:3] == [record["id"] for record in watched.leaderboard()]


def test_weights_that_were_given_for_other_columns_are_refused() -> None:
    """The columns that weights were given for are kept, also where a pool had trained without names."""
    pd = requires("pandas")
    X, y = draw_x(), draw_y()
    pools = []
    for i, names in enumerate(("abcd", "wxyz", "abcd")):
        named = pm.Pool(KINDS[:1], F, backend="reference").fit(pd.DataFrame(X, columns=list(names)), y, progress=False)
        pool = pm.Pool(KINDS[:1], F, backend="reference", ids=[i]).fit(X, y, progress=False)
        pool.set_weights(i, named.extract(0))
        pools.append(pool)
    with pytest.raises(pm.DataError, match=re.escape("columns of weights given to pools[1]: expected 'a' as column 0")):
        pm.concat(pools[:2])
    frame = pd.DataFrame(X, columns=list("wxyz"))
    other = pm.Pool(KINDS[:1], F, backend="reference", ids=[7]).fit(frame, y, progress=False)
    with pytest.raises(pm.DataError, match=re.escape("columns of weights given to pools[0]: expected 'w' as column 0")):
        pm.concat([pools[0], other])
    joined = pm.concat([pools[0], pools[2]])
    with pytest.raises(pm.DataError, match=r"^X: expected the columns of fit, where column 0 is 'a'"):
        joined.fit(frame, y, progress=False)
    assert len(joined.fit(pd.DataFrame(X, columns=list("abcd")), y, progress=False)) == 2


def test_pools_that_differ_are_refused_with_a_hint() -> None:
    with pytest.raises(pm.DataError, match=r"^pools\[1\]\.dtype: expected float32, .* got float64\. All members of a"):
        pm.concat([pm.Pool(KINDS, F), pm.Pool(KINDS, F, dtype="float64")])
