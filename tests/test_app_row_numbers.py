"""Columns: what is left out, for which reason; row numbers by name, structure and effect; what is constant in the
training rows; texts that are numbers."""

import hashlib
import itertools
import uuid

import numpy as np
import pytest

from command_line import refused, run
from conftest import requires
from pmlp_np.app.problem import Source, understand
from pmlp_np.app.row_numbers import predicts_alone, verdict

QUICK = ("--width", "4", "--depth", "1", "--activation", "tanh", "--learning-rate", "0.03", "--epochs", "15")


@pytest.fixture(autouse=True)
def pandas():
    for name in ("typer", "rich", "pyarrow"):
        requires(name)
    return requires("pandas")


@pytest.fixture
def posed(tmp_path):
    """posed(columns, ...) writes a table and returns the problem that its column y poses."""
    count = itertools.count()

    def go(columns, kind="csv", seed=0, **source):
        import pandas

        frame, path = pandas.DataFrame(columns), tmp_path / f"t{next(count)}.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        return understand(Source(str(path), "y", **source), seed)

    return go


def shuffled(columns, rng):
    order = rng.permutation(len(columns["y"]))
    return {name: np.asarray(cells)[order] for name, cells in columns.items()}


N = 120
SORTED = ["no"] * (N // 2) + ["yes"] * (N // 2)


def gaps(rng):
    return np.sort(rng.choice(100 * N, N, replace=False)) + 1000


NUMBERS = {
    "from 0": lambda rng: np.arange(N),
    "from 5000": lambda rng: np.arange(N) + 5000,
    "descending": lambda rng: np.arange(N)[::-1],
    "gaps": gaps,
    "floats": lambda rng: np.arange(N) * 1.0,
    "texts": lambda rng: [f"A{i:04d}" for i in range(N)],
}


@pytest.mark.parametrize("how", NUMBERS)
@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0", "index", "id", "ID", "PassengerId", "row_id",
                                  "customer_no", "Kunden-Nr", "anything"])  # fmt: skip
def test_row_numbers_are_left_out_or_warned_of(posed, name, how):
    """Rows sorted by class, then shuffled with their numbers: nothing but the number tells the class."""
    rng = np.random.default_rng()
    columns = {"a": rng.normal(size=N), name: NUMBERS[how](rng), "y": SORTED}
    problem = posed(shuffled(columns, rng), "parquet" if name.startswith("__") else "csv")
    if name in problem.columns.left_out:
        reason = problem.columns.left_out[name]
        assert f"column {name!r} is left out: {reason}" in problem.notes
        assert ("different texts" in reason) == (how == "texts") and ("numbers the rows" in reason) == (how != "texts")
    else:
        assert name in ("customer_no", "Kunden-Nr", "anything") and how != "texts"
        assert any(name in note and "--drop" in note for note in problem.notes)
        assert any(name in doubt for doubt in problem.doubts)
        dropped = posed(shuffled(columns, rng), drop=[name])
        assert not any(name in doubt for doubt in dropped.doubts)


def test_what_is_called_like_a_row_number_can_be_kept(posed):
    rng = np.random.default_rng()
    columns = {"id": np.arange(N), "y": rng.normal(size=N) + np.arange(N), "a": rng.normal(size=N)}
    problem = posed(columns)
    assert "--numeric id keeps it" in problem.columns.left_out["id"]
    kept = posed(columns, numeric=["id"])
    assert kept.columns.names == ["id", "a"]


def test_whole_numbers_that_tell_something_stay(posed):
    """A salary, a year, a population: distinct whole numbers are no row numbers, nor is what a name contains."""
    rng = np.random.default_rng()
    columns = {
        "salary": rng.choice(90_000, N, replace=False), "year": np.arange(N) + 1900, "hybrid": np.arange(N)[::-1],
        "valid": rng.permutation(N), "population": rng.choice(10**7, N, replace=False), "index": rng.normal(size=N),
        "store_id": rng.integers(0, 4, N), "y": rng.normal(size=N),
    }  # fmt: skip
    problem = posed(columns)
    assert problem.columns.names == [name for name in columns if name != "y"]
    assert not problem.notes and not [doubt for doubt in problem.doubts if "alone" in doubt]


def test_names_of_row_numbers():
    counting, gappy = np.arange(50.0), np.arange(50.0) ** 2
    for name in ("id", "Id", "userId", "userID", "order id", "id_customer", "rowid", "index", "Unnamed: 0", "#", "X"):
        assert verdict(name, counting) == "row numbers", name
    for name in ("account number", "Nr", "seq"):
        assert verdict(name, counting) == "row numbers", name
    assert verdict("account number", gappy) == "maybe" and verdict("id", gappy) == "row numbers"
    for name in ("acid", "solid", "grid", "nose", "snow", "price", "x", "number of rooms", "covid"):
        assert verdict(name, gappy) == "", name
    # Tables that were joined repeat the index; others say something by it.
    assert verdict("__index_level_0__", np.tile(np.arange(25.0), 2)) == "row numbers"
    assert verdict("store_id", np.tile(np.arange(5.0), 10)) == ""
    assert verdict("id", counting + 0.5) == "" and verdict("id", np.full(50, np.nan)) == ""


def test_alone_means_better_than_chance_by_far():
    rng = np.random.default_rng()
    n = 200
    numbers = rng.permutation(n) * 1.0
    assert predicts_alone(numbers, numbers // 70, True) and predicts_alone(numbers, np.sin(numbers / 20), False)
    assert not predicts_alone(numbers, rng.integers(0, 2, n), True)
    assert not predicts_alone(numbers, rng.normal(size=n), False)
    # A class of one row in twenty, at random: nearly all neighbors agree, by chance.
    assert not predicts_alone(numbers, (rng.permutation(n) < 10) * 1, True)
    assert predicts_alone(numbers, (numbers < 10) * 1, True)
    for other in (numbers + 0.5, numbers // 2):
        assert not predicts_alone(other, numbers // 70, True)


def test_ids_of_texts_are_left_out_with_their_reason(posed):
    rng = np.random.default_rng()
    columns = {
        "uuid": [str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(N)],
        "hash": [hashlib.sha256(rng.bytes(8)).hexdigest() for _ in range(N)],
        "twice": [f"P{i // 2}" for i in range(N)], "a": rng.normal(size=N), "y": rng.normal(size=N),
    }  # fmt: skip
    problem = posed(columns)
    assert problem.columns.names[-1] == "a"
    for name in ("uuid", "hash"):
        reason = problem.columns.left_out[name]
        assert f"{N} different texts in {N} rows" in reason and columns[name][0] in reason


# Texts that are numbers.


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("written", [lambda x: f"{x:.4f}", lambda x: f"{x:.3e}", lambda x: str(2**70 + int(1e17 * x))])
def test_texts_that_are_numbers_are_numbers(posed, kind, written):
    rng = np.random.default_rng()
    x = rng.normal(size=N)
    texts = [written(each) for each in x]
    expected = np.array([float(text) for text in texts])
    for placeholder in (False, True):
        cells = ["?" if placeholder and i % 9 == 0 else text for i, text in enumerate(texts)]
        problem = posed({"a": cells, "y": rng.normal(size=N)}, kind, missing=["?"])
        found = problem.frame["a"].to_numpy()
        there = np.array([cell != "?" for cell in cells])
        np.testing.assert_allclose(found[there], expected[there], rtol=1e-12)
        assert np.isnan(found).any() == placeholder
    # The same as target; rows without one are out before it is decided what it is.
    source = {"missing": ["?"], "skip_missing_target": True}
    for task in (None, "regression"):
        problem = posed({"a": rng.normal(size=N), "y": cells}, kind, task=task, **source)
        assert problem.task.name == "regression"
        np.testing.assert_allclose(problem.own_y, expected[there], rtol=1e-12)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_regression_asked_for_is_never_a_classification(posed, kind, tmp_path):
    from pmlp_np import DataError

    rng = np.random.default_rng()
    a = rng.normal(size=N)
    targets = {"few": rng.integers(0, 2, N), "texts": rng.integers(0, 2, N).astype(str), "halves": (a > 0) / 2,
               "huge": [str(10**20 * (1 + each)) for each in rng.integers(0, 2, N).tolist()],
               "unsigned": rng.integers(0, 2, N).astype(np.uint64) * np.uint64(2**40) + np.uint64(2**63)}  # fmt: skip
    for name, y in targets.items():
        assert posed({"a": a, "y": y}, kind, task="regression").task.name == "regression", name
    for y in (a > 0, np.where(a > 0, "x", "1"), np.where(a > 0, "True", "False")):
        with pytest.raises(DataError, match=r"target 'y', (line|row) \d+: expected numbers, for regression, got"):
            posed({"a": a, "y": y}, kind, task="regression")


def test_classes_that_are_written_as_texts_of_numbers(posed):
    rng = np.random.default_rng()
    a, k = rng.normal(size=N), rng.integers(0, 3, N)
    y = {"plain": k.astype(str), "padded": np.char.zfill(k.astype(str), 3)}
    assert posed({"a": a, "y": y["plain"]}, "parquet").task.classes == (0, 1, 2)
    assert posed({"a": a, "y": y["padded"]}, "parquet").task.classes == ("000", "001", "002")
    for cells in y.values():
        problem = posed({"a": a, "y": cells}, "parquet")
        np.testing.assert_array_equal(problem.own_y, k)


# Constant in the training rows.


def test_what_is_constant_in_the_training_rows_is_out(posed):
    """One cell elsewhere differs: members never learned what to make of it."""
    rng = np.random.default_rng()
    columns = {"a": rng.normal(size=N), "y": rng.normal(size=N)}
    held_out = posed(columns).parts["test"][0]
    for cells, other in (([1.5] * N, 2.5), (["u"] * N, "v"), (["2020-01-01"] * N, "2021-01-01"), ([""] * N, 3.5)):
        odd = list(cells)
        odd[held_out] = other
        problem = posed({**columns, "c": odd})
        assert problem.columns.names == ["a"], cells[0]
        words = f"in the training rows: {'no' if cells[0] == '' else 'one'} value"
        assert words in problem.columns.left_out["c"]
        assert any("'c' is left out" in note for note in problem.notes)


def test_numeric_refuses_the_first_cell_that_is_none(pandas, capsys, tmp_path):
    pandas.DataFrame({"a": ["x", "1"] * 30, "y": np.arange(60) / 7}).to_csv(tmp_path / "t.csv", index=False)
    fit = ("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "r", "--numeric", "a")
    refused(run(capsys, *fit), "--numeric a, line 2", "numbers", "'x'")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_whole_numbers_that_float64_cannot_tell_apart_are_not_called_constant_alone(pandas, tmp_path, suffix):
    n = 40
    cells = np.arange(n, dtype=np.uint64) + np.uint64(2**63)
    frame = pandas.DataFrame({"a": cells, "b": np.arange(n) * 7 % 13, "y": np.arange(n) * 5 % 17 + 0.5})
    path = tmp_path / f"t{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    problem = understand(Source(str(path), "y"), 0)
    reason = problem.columns.left_out["a"]
    assert ("constant" in reason or "one value" in reason) and "digits that float64 can't tell" in reason, reason
