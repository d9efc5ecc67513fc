"""Members with an end of their own: max_epochs in a spec."""

import numpy as np
import pytest

import pmlp_np as pm

F = 3


def data(n=50):
    draw = np.random.default_rng()
    return draw.normal(size=(n, F)).astype(np.float32), draw.normal(size=n).astype(np.float32)


def bits(pool, id):
    return [w.tobytes() for weights in ("last", "average") for w in pool.extract(id, weights=weights).weights]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "coslog4"])
@pytest.mark.parametrize("validated", [False, True])
def test_each_ends_as_if_fit_had_asked_for_its_epochs(schedule, validated, backend):
    X, y = data()
    how = {"batch_size": 16, "progress": False} | ({"validation_data": data(20)} if validated else {})
    ends = [0, 1, 3, 8, 30]
    made = {"hidden": (5,), "schedule": schedule, "average": 0.9, "warmup_epochs": 0.5}
    together = pm.Pool([pm.Member(**made, max_epochs=end) for end in ends], F, seed=4, backend=backend)
    together.fit(X, y, epochs=9, **how)
    assert [each["epochs"] for each in sorted(together.leaderboard(), key=lambda r: r["id"])] == [9, 1, 3, 8, 9]
    for id, end in enumerate(ends):
        # Alone, so that the reference's roundings are the same.
        ours = pm.Pool(pm.Member(**made, max_epochs=end), F, seed=4, ids=[id], backend=backend)
        alone = pm.Pool(pm.Member(**made), F, seed=4, ids=[id], backend=backend)
        ours.fit(X, y, epochs=9, **how)
        alone.fit(X, y, epochs=min(end or 9, 9), **how)
        assert bits(ours, id) == bits(alone, id)
        if backend != "reference":
            assert bits(together, id) == bits(alone, id)
        assert np.isnan(together.history_["loss"][id, end or 9 :]).all()


def test_more_calls_train_up_to_it_and_no_further(backend):
    X, y = data()
    pool = pm.Pool([pm.Member(4, max_epochs=5), pm.Member(4)], F, backend=backend)
    for _ in range(3):
        pool.partial_fit(X, y, epochs=2, progress=False)
    assert [each["epochs"] for each in sorted(pool.leaderboard(), key=lambda r: r["id"])] == [5, 6]
    before = pool.extract(0).weights[0].copy()
    pool.partial_fit(X, y, epochs=4, progress=False)
    assert np.array_equal(pool.extract(0).weights[0], before)
    pool.fit(X, y, epochs=7, progress=False)
    assert [each["epochs"] for each in sorted(pool.leaderboard(), key=lambda r: r["id"])] == [5, 7]


def test_it_is_a_whole_number_and_is_kept_in_files(tmp_path):
    for wrong in (-1, 2.5, np.nan, 2**31, "3"):
        with pytest.raises(pm.SpecError, match="max_epochs: expected a whole number, at least 0"):
            pm.Member(4, max_epochs=wrong)
    specs = pm.grid(hidden=[(3,)], max_epochs=[10, 20])
    assert [spec.max_epochs for spec in specs] == [10, 20]
    pm.Pool(specs, F).save(tmp_path / "p.pmlp")
    assert [spec.max_epochs for spec in pm.load(tmp_path / "p.pmlp").specs] == [10, 20]
