"""Rows, features, targets and weights of a member's own: as if it had been trained alone on them, to the last bit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import pmlp_np as pm
from conftest import requires
from loss_variants import library_loss
from member_state import member_states
from oracle import OracleMLP
from pmlp_np.backends.numba import views
from pmlp_np.data.index_sets import Sets, sets_of
from pmlp_np.training.data_keys import DataKeys
from pmlp_np.training.fit_data import OwnData as Given
from pmlp_np.training.fit_data import fit_data
from pmlp_np.training.settings import Settings
from strategies import Case, cases
from test_faithful import BOUNDED, NUDGE, NUDGED, TINY, close, lone_network

# Members that are drawn may diverge; the oracle's do, too.
pytestmark = pytest.mark.filterwarnings("ignore::pmlp_np.base.errors.DivergedWarning")

DTYPES = ("float32", "float64")
WAYS = ("rows", "features", "targets", "weights", "member weights")


@dataclass(frozen=True)
class OwnData:
    """A case in which members have data of their own, by the arguments of fit."""

    case: Case
    rows: list[np.ndarray] | None
    features: list[np.ndarray] | None
    targets: bool
    weights: str | None
    seed: int

    def data(self, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """X; targets, those of each member along axis 0; weights likewise, or None."""
        X, y = self.case.data(dtype)
        n_members, n = len(self.case.members), self.case.n_rows
        y = np.stack([self.case.data(dtype, part=i)[1] if self.targets else y for i in range(n_members)])
        rng = np.random.default_rng(self.seed)
        weights = None
        if self.weights is not None:
            weights = rng.uniform(0.1, 3.0, (n_members, n)) * (rng.random((n_members, n)) < 0.8)
            weights[:, 0] = 1.0
            if self.weights == "weights":
                weights[:] = weights[0]
            for i in range(n_members):
                # Nobody's rows may all be without weight.
                weights[i, self.rows_of(i)[0]] = 1.0
            if self.weights == "weights":
                weights[:] = weights.max(axis=0)
        return X, y, weights

    def rows_of(self, i: int) -> np.ndarray:
        return np.arange(self.case.n_rows) if self.rows is None else self.rows[i]

    def features_of(self, i: int) -> np.ndarray:
        return np.arange(self.case.n_features) if self.features is None else self.features[i]

    def fit(self, pool: pm.Pool, dtype: str, members: list[int] | None = None, **changes: Any) -> pm.Pool:
        """Train these members (default: all, in order), which are those of the pool."""
        X, y, weights = self.data(dtype)
        chosen = list(range(len(self.case.members))) if members is None else members
        own: dict[str, Any] = {}
        if self.rows is not None:
            own["rows"] = [self.rows[i] for i in chosen]
        if self.features is not None:
            own["features"] = [self.features[i] for i in chosen]
        if self.targets:
            own["targets"] = y[chosen]
        if weights is not None:
            own["sample_weight"] = weights[0] if self.weights == "weights" else weights[chosen]
        return pool.fit(X, None if self.targets else y[0], **self.case.training() | own | changes)

    def alone(self, i: int, dtype: str) -> pm.Pool:
        """Member i, trained alone on a table of its own."""
        case, (X, y, weights) = self.case, self.data(dtype)
        rows, features = self.rows_of(i), self.features_of(i)
        loss = library_loss(case.loss, case.n_outputs)
        pool = pm.Pool([case.members[i]], len(features), case.n_outputs, loss, case.seed, dtype=dtype,
                       ids=[case.ids[i]])  # fmt: skip
        own = {} if weights is None else {"sample_weight": weights[i][rows]}
        return pool.fit(X[rows][:, features], y[i][rows], **case.training(), **own)


@st.composite
def own_data(draw: st.DrawFn) -> OwnData:
    case = draw(cases(max_members=6))
    n_members, n, n_features = len(case.members), case.n_rows, case.n_features
    ways = draw(st.sets(st.sampled_from(WAYS), min_size=1))

    def sets(limit: int, longest: int) -> list[np.ndarray]:
        one = st.lists(st.integers(0, limit - 1), min_size=1, max_size=longest).map(lambda v: np.array(v, np.int64))
        # Whole numbers that could be a mask are refused.
        one = one.filter(lambda v: not (limit > 2 and len(v) == limit and v.max() <= 1))
        run = st.integers(0, limit - 1).flatmap(lambda a: st.integers(a + 1, limit).map(lambda b: np.arange(a, b)))
        few = draw(st.lists(one | run, min_size=1, max_size=3))
        return [few[draw(st.integers(0, len(few) - 1))] for _ in range(n_members)]

    weights = next((way for way in ("member weights", "weights") if way in ways), None)
    return OwnData(
        case,
        sets(n, 90) if "rows" in ways else None,
        sets(n_features, 20) if "features" in ways else None,
        "targets" in ways,
        weights,
        draw(st.integers(0, 2**32 - 1)),
    )


def learned(pool: pm.Pool, id: int) -> list[bytes]:
    """All that training left of a member: parameters, slots, curves, progress, as bytes."""
    state = member_states(pool)[id]
    return [np.asarray(value).tobytes() for value in state.arrays().values()]


@given(own=own_data(), data=st.data())
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_of_training_alone(own: OwnData, dtype: str, data: st.DataObject) -> None:
    pool = own.fit(own.case.pool(dtype), dtype, n_threads=2)
    for i, id in enumerate(own.case.ids):
        assert learned(pool, id) == learned(own.alone(i, dtype), id), f"member {i}"
    order = data.draw(st.permutations(range(len(own.case.ids))))
    ids = [own.case.ids[i] for i in order]
    turned = own.fit(own.case.pool(dtype).subset(ids), dtype, order, n_threads=1)
    assert all(learned(turned, id) == learned(pool, id) for id in ids)
    assert np.array_equal(turned.forward(own.data(dtype)[0]), pool.forward(own.data(dtype)[0])[order], equal_nan=True)


@given(own=own_data())
def test_the_network_of_the_oracle(own: OwnData, backend: str) -> None:
    """Float64, all epochs, on the member's own table; parameters, curve and outputs."""
    case, (X, _, _) = own.case, own.data("float64")
    pool = own.fit(case.pool("float64", backend), "float64")
    raw = pool.forward(X)
    for i, id in enumerate(case.ids):
        found = [train_alone(own, i, nudge) for nudge in (0.0, NUDGE)]
        (net, history), (nudged, _) = found
        if not all(loss < BOUNDED for loss in history):
            continue
        pairs = zip(nudged.effective_weights + nudged.biases, net.effective_weights + net.biases, strict=True)
        moved = nudged.rate_factor != net.rate_factor or not all(close(*pair, NUDGED) for pair in pairs)
        if moved or net.nearest_zero < NUDGED:
            continue
        mlp = pool.extract(id)
        expected = net.effective_weights + net.biases
        assert all(close(*pair) for pair in zip(mlp.weights + mlp.biases, expected, strict=True))
        np.testing.assert_allclose(pool.history_["loss"][i], history, rtol=2.0**-22, atol=TINY)
        assert close(raw[i], net.forward(X[:, own.features_of(i)]))
        assert close(mlp.forward(X), raw[i])


def train_alone(own: OwnData, i: int, nudge: float) -> tuple[OracleMLP, list[float]]:
    case, (X, y, weights) = own.case, own.data("float64")
    rows, features, member = own.rows_of(i), own.features_of(i), case.members[i]
    narrow = Case(**vars(case) | {"n_features": len(features)})
    net, key = lone_network(narrow, i)
    rng = np.random.default_rng(0)
    net.weights = [w * (1.0 + nudge * rng.uniform(-1.0, 1.0, w.shape)) for w in net.weights]
    order_key = {"shared": oracle.order_key(case.seed), "member": key, None: None}[case.shuffle]
    history = net.train(X[rows][:, features], y[i][rows], case.epochs, member.batch_size or case.batch_size, order_key,
                        sample_weight=None if weights is None else weights[i][rows])  # fmt: skip
    return net, history


def test_the_oracles_weights_are_repeats() -> None:
    """A row of weight 2 counts like two rows of weight 1, beside finite differences of the weighted loss."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5, 3)), rng.normal(size=5)
    net = OracleMLP((4,), "tanh", 3, 1, "squared_error", "sgd", {})
    net.set_state([rng.normal(size=w.shape) for w in net.weights], [rng.normal(size=b.shape) for b in net.biases])
    weights = np.array([2.0, 1.0, 1.0, 0.0, 1.0])
    twice = np.array([0, 0, 1, 2, 4])
    loss, gradients, *_ = net._loss_and_gradients(X, y, weights)
    repeated_loss, repeated, *_ = net._loss_and_gradients(X[twice], y[twice])
    assert loss == pytest.approx(repeated_loss, rel=1e-12)
    assert all(np.allclose(a, b, rtol=1e-12) for a, b in zip(gradients, repeated, strict=True))


# One pool for the rest: five folds, bootstraps, blocks of columns.


N, F = 60, 6
CHOICES: dict[str, Any] = {
    "hidden": [(8,), (20, 3), ()], "activation": ["tanh", "relu"], "learning_rate": [1e-2, 1e-3], "repeats": 5
}  # fmt: skip
SPECS = pm.grid(**CHOICES)
FOLDS = [np.arange(N)[np.arange(N) % 5 == k] for k in range(5)]
REST = [np.setdiff1d(np.arange(N), fold) for fold in FOLDS]


def table(loss: str = "squared_error") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(N, F)).astype(np.float32)
    return X, rng.integers(0, 3, N) if loss == "cross_entropy" else X[:, 0] - X[:, 1] ** 2


def folded(values: list[np.ndarray]) -> list[np.ndarray]:
    return [values[i % 5] for i in range(len(SPECS))]


@pytest.mark.parametrize("shuffle", ["shared", "member", None])
def test_copies_and_orders_give_the_same_bits(shuffle: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    states = []
    for worth in (1, 10**6):
        monkeypatch.setattr(views, "_WORTH_A_COPY", worth)
        pool = pm.Pool(SPECS, F).fit(X, y, epochs=3, batch_size=16, shuffle=shuffle, rows=folded(REST), n_threads=1)
        states.append([learned(pool, id) for id in pool.ids_.tolist()])
    assert states[0] == states[1]


def test_masks_are_rows_and_equal_sets_are_kept_once() -> None:
    X, y = table()
    masks = np.zeros((len(SPECS), N), bool)
    for i, rows in enumerate(folded(REST)):
        masks[i, rows] = True
    first = pm.Pool(SPECS, F).fit(X, y, epochs=2, rows=folded(REST))
    second = pm.Pool(SPECS, F).fit(X, y, epochs=2, rows=masks)
    third = pm.Pool(SPECS, F).fit(X, y, epochs=2, rows=np.stack([rows.copy() for rows in folded(REST)]))
    for pool in (second, third):
        assert all(learned(pool, id) == learned(first, id) for id in range(len(SPECS)))
    sets = sets_of(masks, np.arange(len(SPECS)), N, "rows", "row")
    assert len(sets.arrays) == 5 and sets == sets_of(folded(REST), np.arange(len(SPECS)), N, "rows", "row")
    assert sets != sets.take(np.arange(len(SPECS))[::-1])
    lengths = np.array([len(array) for array in sets.arrays])
    columns = {"of": sets.of, "lengths": lengths, "indices": np.concatenate(sets.arrays)}
    assert Sets.from_columns(columns) == sets
    assert Sets.concatenate([sets, sets]).arrays[0] is sets.arrays[0] and len(Sets.concatenate([sets, sets]).of) == 120


def test_neighboring_columns_are_not_copied(backend: str) -> None:
    X, y = table()
    blocks = [np.arange(0, 3), np.arange(2, 6), np.array([0, 5])]
    features = [blocks[i % 3] for i in range(len(SPECS))]
    pool = pm.Pool(SPECS, F, backend=backend).fit(X, y, epochs=2, features=features)
    from pmlp_np.data.inputs import feature_sets

    found = feature_sets(X, pool._plan.features)
    assert [np.shares_memory(part, X) for part in found] == [True, True, False]
    assert [part.shape[1] for part in found] == [3, 4, 2]
    mlp = pool.extract(1)
    assert mlp.features.tolist() == [2, 3, 4, 5] and mlp.n_features == F and len(mlp.weights[0]) == 4
    np.testing.assert_allclose(mlp.forward(X), pool.forward(X)[1], rtol=1e-5, atol=1e-6)


def test_validation_rows_and_out_of_fold(backend: str) -> None:
    """A cross-validation of twelve architectures as one pool, beside each fold by itself."""
    X, y = table()
    pool = pm.Pool(SPECS, F, backend=backend).fit(X, y, epochs=4, rows=folded(REST), validation_rows=folded(FOLDS),
                                                  early_stopping=True, patience=2)  # fmt: skip
    predicted = pool.predict(X)
    for i, fold in enumerate(folded(FOLDS)):
        best = pool.history_["validation_loss"][i][np.isfinite(pool.history_["validation_loss"][i])].min()
        np.testing.assert_allclose(np.mean((predicted[i][fold] - y[fold]) ** 2), best, rtol=1e-4)
    losses = pool.evaluate(X, y, rows=folded(FOLDS))
    np.testing.assert_allclose(losses, np.nanmin(pool.history_["validation_loss"], axis=1), rtol=1e-5)
    groups = np.arange(len(SPECS)) // 5
    found = pool.out_of_fold(X, folded(FOLDS), groups)
    assert found.shape == (len(SPECS) // 5, N)
    for i, fold in enumerate(folded(FOLDS)):
        np.testing.assert_allclose(found[i // 5][fold], predicted[i][fold], rtol=1e-5, atol=1e-6)
    some = pool.evaluate(X, y, members=[7, 3], rows=[FOLDS[0], FOLDS[1]])
    for value, id, fold in zip(some, (7, 3), FOLDS, strict=False):
        np.testing.assert_allclose(value, np.mean((predicted[id][fold] - y[fold]) ** 2), rtol=1e-4)


def test_out_of_fold_probabilities() -> None:
    X, y = table("cross_entropy")
    pool = pm.Pool(SPECS, F, 3, "cross_entropy").fit(X, y, epochs=2, rows=folded(REST))
    found = pool.out_of_fold(X, folded(FOLDS), np.arange(len(SPECS)) // 5, method="predict_proba")
    assert found.shape == (12, N, 3) and np.allclose(found.sum(axis=2), 1.0, atol=1e-5)


@pytest.mark.parametrize("backend_name", ["numba", "reference"])
def test_everything_at_once_survives_files_subsets_and_more_epochs(backend_name: str, tmp_path: Path) -> None:
    X, _ = table()
    specs = pm.grid(**CHOICES, dropout=0.1, input_dropout=0.2, clip_norm=0.5, average=0.9)
    rng = np.random.default_rng(1)
    targets, weights = rng.normal(size=(len(SPECS), N)), rng.uniform(size=(len(SPECS), N))
    bootstraps = [rng.integers(0, N, N) for _ in range(len(SPECS))]
    blocks = [np.arange(0, 3), np.arange(2, 6), np.array([0, 5])]
    features = [blocks[i % 3] for i in range(len(SPECS))]
    own = {"rows": bootstraps, "targets": targets, "sample_weight": weights}
    whole = pm.Pool(specs, F, backend=backend_name).fit(X, epochs=4, features=features, **own)
    part = pm.Pool(specs, F, backend=backend_name).fit(X, epochs=2, features=features, **own)
    part.save(tmp_path / "pool.pmlp")
    loaded = pm.load(tmp_path / "pool.pmlp").partial_fit(X, epochs=2, **own)
    some = part.subset([8, 1, 30])
    some.partial_fit(X, epochs=2, **{name: [values[i] for i in (8, 1, 30)] for name, values in own.items()})
    joined = pm.concat([part.subset([3]), part.subset([8, 1])])
    joined.partial_fit(X, epochs=2, **{name: [values[i] for i in (3, 8, 1)] for name, values in own.items()})
    assert all(learned(loaded, id) == learned(whole, id) for id in range(len(SPECS)))
    assert all(learned(some, id) == learned(whole, id) for id in (8, 1, 30))
    # Alone from the start in every way, also where the others have all features.
    assert all(learned(joined, id) == learned(whole, id) for id in (3, 8, 1))
    everything = pm.Pool(SPECS[:2], F, backend=backend_name, ids=[100, 101]).fit(X, targets[0], epochs=1)
    mixed = pm.concat([part.subset([8]), everything])
    averaged = np.concatenate([part.forward(X, weights="average")[8:9], everything.forward(X)])
    np.testing.assert_allclose(mixed.forward(X, weights="average"), averaged, rtol=1e-5, atol=1e-6)
    assert mixed.extract(8).features.tolist() == blocks[2].tolist() and len(mixed.extract(100).weights[0]) == F
    mlp = whole.extract(7)
    mlp.save(tmp_path / "one.pmlp")
    assert np.array_equal(pm.MLP.load(tmp_path / "one.pmlp").forward(X), mlp.forward(X))
    afresh = pm.Pool(specs, F, backend=backend_name).fit(X, epochs=1, features=features, **own)
    afresh.set_weights(7, mlp)
    assert np.allclose(afresh.forward(X)[7], mlp.forward(X), atol=1e-5)
    with pytest.raises(pm.DataError, match="^features of member 7: expected 4, as in its weights from set_weights"):
        afresh.fit(X, epochs=1, **own)


def test_class_weights_are_sample_weights(backend: str) -> None:
    X, y = table("cross_entropy")
    sklearn_weights = requires("sklearn.utils.class_weight").compute_sample_weight

    def trained(**own: Any) -> np.ndarray:
        pool = pm.Pool(SPECS, F, 3, "cross_entropy", backend=backend).fit(X, y, epochs=2, rows=folded(REST), **own)
        return pool.forward(X)

    balanced = np.zeros((len(SPECS), N))
    for i, rows in enumerate(folded(REST)):
        balanced[i, rows] = sklearn_weights("balanced", y[rows])
    np.testing.assert_allclose(trained(class_weight="balanced"), trained(sample_weight=balanced), rtol=1e-3, atol=1e-5)
    given_weights, sample = {0: 2.0, 2: 0.5}, np.random.default_rng(0).uniform(0.5, 1.0, N)
    together = sample * np.array([2.0, 1.0, 0.5])[y]
    np.testing.assert_allclose(trained(class_weight=given_weights, sample_weight=sample),
                               trained(sample_weight=together), rtol=1e-3, atol=1e-5)  # fmt: skip
    assert not np.allclose(trained(), trained(class_weight=given_weights), atol=1e-3)


@pytest.mark.parametrize("shuffle", ["shared", "member", None])
def test_rows_without_weight_teach_nothing(backend: str, shuffle: str | None) -> None:
    """Whatever they hold: a row's weight goes with it wherever the order takes it."""
    X, y = table()
    weights = np.where(np.arange(N) % 3 > 0, 1.0, 0.0)
    counts = weights > 0.0
    found = []
    for features, targets in ((X, y), (np.where(counts[:, None], X, 2.0 - X), np.where(counts, y, 1e3))):
        pool = pm.Pool(SPECS, F, backend=backend)
        pool.fit(features, targets, epochs=3, batch_size=16, shuffle=shuffle, sample_weight=weights)
        found.append(pool.forward(X))
    assert np.array_equal(*found)


ONE_EACH = f"one array of row numbers, or one mask of {N} truth values, for each of the {len(SPECS)} members"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"rows": [np.arange(5)] * 3}, f"rows: expected {ONE_EACH}, got 3."),
        ({"rows": 5}, f"rows: expected {ONE_EACH}, got 5."),
        ({"rows": [np.arange(5)] * 59 + [np.array([0, N])]},
         f"rows of member 59: expected row numbers from 0 to {N - 1}, got {N}."),
        ({"rows": [np.arange(5)] * 59 + [[-1]]}, f"rows of member 59: expected row numbers from 0 to {N - 1}, got -1."),
        ({"rows": [np.arange(5)] * 59 + [[]]}, "rows of member 59: expected"),
        ({"rows": [np.arange(5)] * 59 + [np.zeros(3, bool)]},
         f"rows of member 59: expected a mask of {N} truth values, got one of 3."),
        ({"rows": [np.arange(5)] * 59 + [np.zeros(N, bool)]}, "rows of member 59: expected at least 1 row, got none."),
        ({"rows": [np.arange(5)] * 59 + [[0.5]]}, "rows of member 59: expected"),
        ({"features": [[0, F]] * 60}, f"features of member 0: expected feature numbers from 0 to {F - 1}, got {F}."),
        ({"sample_weight": np.ones(5)}, f"sample_weight: expected shape ({N},), or (60, {N}) for weights of each"),
        ({"sample_weight": -np.ones(N)}, "sample_weight: expected finite numbers, at least 0, got -1.0 at [0]."),
        ({"sample_weight": np.full((60, N), np.nan)}, "finite numbers, at least 0, got nan at [0, 0]."),
        ({"sample_weight": np.zeros(N)}, "sample_weight of member 0: expected a row that counts, got only zeros."),
        ({"class_weight": "balanced"}, "class_weight: expected cross-entropy and targets that all members share"),
        ({"targets": np.zeros((60, N))}, "y: expected None where targets is given"),
        ({"validation_rows": [np.arange(3)] * 60, "validation_data": table()},
         "validation_rows: expected None where validation_data is given, got both."),
    ],
)  # fmt: skip
def test_bad_data_are_refused_by_member_and_name(own: dict[str, Any], message: str) -> None:
    X, y = table()
    pool = pm.Pool(SPECS, F)
    with pytest.raises(pm.DataError, match=re.escape(message)):
        pool.fit(X, y, **own)
    assert pool._backend is None


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({3: 1.0}, "classes are 0 to 2, got 3: 1.0."),
        ({0: -1.0}, "got 0: -1.0."),
        ("equal", "class_weight: expected 'balanced', or a dict from class numbers to numbers"),
    ],
)
def test_bad_class_weights_are_refused(class_weight: Any, message: str) -> None:
    X, y = table("cross_entropy")
    with pytest.raises(pm.DataError, match=re.escape(message)):
        pm.Pool(SPECS, F, 3, "cross_entropy").fit(X, y, class_weight=class_weight)


def test_targets_of_a_wrong_shape_and_bad_folds_are_refused() -> None:
    X, y = table()
    pool = pm.Pool(SPECS, F)
    with pytest.raises(pm.DataError, match=re.escape(f"targets: expected shape (60, {N}): one set for each member")):
        pool.fit(X, targets=y)
    with pytest.raises(pm.DataError, match="^targets of member 2: expected finite float32 numbers, got nan"):
        pool.fit(X, targets=np.where(np.arange(60)[:, None] == 2, np.nan, np.zeros((60, N))))
    pool.fit(X, y)
    with pytest.raises(pm.DataError, match="^rows: .* one member of each group, got 0 for row 1 of group 0"):
        pool.out_of_fold(X, folded(FOLDS), np.arange(60))
    with pytest.raises(pm.DataError, match="^groups: expected 60 whole numbers, at least 0, got"):
        pool.out_of_fold(X, folded(FOLDS), [0.5] * 60)
    with pytest.raises(pm.DataError, match="^features: expected the features of fit, or None, got others."):
        pool.partial_fit(X, y, features=[[0]] * 60)


@pytest.mark.parametrize("of_each", [True, False])
def test_what_some_members_see_is_taken_with_them(of_each: bool) -> None:
    """Their rows, features, targets and weights, and nothing that nobody sees any more."""
    rng = np.random.default_rng()
    n, members, chosen = 20, 6, np.array([4, 1, 5])
    X = rng.normal(size=(n, 4))
    parts = [rng.integers(0, n, 9), rng.integers(0, n, 12)]
    columns = [np.array([0, 3]), np.array([1, 3]), np.array([2])]
    pool = pm.Pool([pm.Member(hidden=3)] * members, 4)
    features = [columns[i % 3] for i in range(members)] if of_each else None
    y = rng.normal(size=(members, n)) if of_each else rng.normal(size=n)
    weights = rng.uniform(0.1, 1.0, size=(members, n)) if of_each else rng.uniform(0.1, 1.0, n)
    pool.fit(X, None if of_each else y, targets=y if of_each else None, features=features, epochs=1)
    rows = [parts[i % 2] for i in range(members)] if of_each else None
    given = Given(rows=rows, targets=y if of_each else None, sample_weight=weights)
    settings = Settings(1, 8, "shared", False, 1, 0.0, None, False, None)
    data, _ = fit_data(pool._plan, pool.ids_, X, None if of_each else y, None, given, settings)
    sets = None if pool._plan.features is None else pool._plan.features.of
    taken, part = data.take(chosen, sets), pool._plan.take(chosen)
    keys = DataKeys(pool._plan, data).of(chosen)
    assert np.array_equal(DataKeys(part, taken).of(np.arange(3)), keys)
    assert len(set(keys.tolist())) == (3 if of_each else 1)
    if of_each:
        assert len(taken.x) == 2 and len(taken.y) == 3 and len(taken.weights) == 3 and len(taken.rows.arrays) == 2
