"""Parts: folds; by group, by order, by a column, by files; weights; what speaks against the test score."""

import json

import numpy as np
import pytest

import pmlp_np as pm
from command_line import SHORT, refused, run
from conftest import requires
from pmlp_np import DataError
from pmlp_np.app import fitting
from pmlp_np.app import run as fits
from pmlp_np.app.choices import Choices
from pmlp_np.app.parts import part_by_group, part_by_order
from pmlp_np.app.problem import Source, understand
from pmlp_np.model_selection.folds import make_folds

N = 200
NAMES = ("training", "validation", "test")


@pytest.fixture(autouse=True)
def pandas(monkeypatch):
    for name in ("typer", "rich", "pyarrow"):
        requires(name)
    # Pictures take most of the time of a short fit, and have tests of their own.
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    return requires("pandas")


@pytest.fixture
def written(tmp_path):
    """written(columns, name) writes a table and returns its path."""
    import pandas

    def go(columns, name="t.csv"):
        path = tmp_path / name
        frame = pandas.DataFrame(columns)
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
        return str(path)

    return go


def columns(rng, n=N):
    return {
        "a": rng.normal(size=n).round(6), "patient": [f"P{i // 4:03d}" for i in range(n)], "y": rng.normal(size=n),
        "day": (np.datetime64("2020-01-01") + rng.permutation(n)).astype(str), "w": rng.integers(0, 4, n),
    }  # fmt: skip


def disjoint(parts, n):
    assert sorted(np.concatenate([parts[name] for name in NAMES]).tolist()) == list(range(n))


# Folds.


def test_folds_without_other_validation(written):
    rng = np.random.default_rng()
    table = columns(rng)
    problem = understand(Source(written(table), "y"), 0)
    assert [len(problem.parts[name]) for name in NAMES] == [160, 0, 40]
    arguments = problem.for_search()
    assert arguments["cv"] is None and len(arguments["y"]) == 160 == len(arguments["X"])
    np.testing.assert_allclose(arguments["y"], table["y"][problem.parts["training"]])
    assert understand(Source(written(table), "y"), 0, cv=7).for_search()["cv"] == 7
    shared = understand(Source(written(table), "y", validation_share=0.3), 0)
    assert [len(shared.parts[name]) for name in NAMES] == [100, 60, 40] and len(shared.for_search()["cv"]) == 1
    for cv, more, words in (
        (161, {}, "--cv: expected 2 to 160 folds, for 160 training rows, got 161. Say --cv 160"),
        (1, {}, "--cv: .* got 1. Say --cv 2"), (5, {"validation_share": 0.3}, "--cv: .*60 in one. Leave out --cv"),
        (45, {"group": "patient"}, "2 to 40 folds, for 40 groups of 'patient' in the training rows"),
        (5, {"order_by": "a"}, "Leave out --cv"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            understand(Source(written(table), "y", **more), 0, cv=cv)
    two = table | {"patient": [f"P{i % 2}" for i in range(N)]}
    with pytest.raises(DataError, match="--group: expected at least 3 groups, two of them for folds, got 2"):
        understand(Source(written(two), "y", group="patient"), 0)


# Groups.


@pytest.mark.parametrize("of_classes", [False, True])
def test_all_rows_of_a_group_are_in_one_part(of_classes):
    rng = np.random.default_rng()
    groups = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 9, 60))).astype(str)
    n = len(groups)
    classes = rng.choice(3, n, p=[0.6, 0.3, 0.1]) if of_classes else None
    for validation, test in ((0.2, 0.2), (0.1, 0.4), (0.0, 0.3)):
        parts = part_by_group(groups, classes, validation, test, int(rng.integers(1 << 30)), "--group g")
        disjoint(parts, n)
        found = [set(groups[parts[name]]) for name in NAMES]
        assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
        for name, share in zip(NAMES, (1 - validation - test, validation, test), strict=True):
            assert abs(len(parts[name]) - share * n) <= 0.06 * n
            if of_classes and share:
                for c in range(2):
                    assert abs((classes[parts[name]] == c).mean() - (classes == c).mean()) < 0.2
    again = [part_by_group(groups, classes, 0.2, 0.2, seed, "g")["test"].tolist() for seed in (3, 3, 4)]
    assert again[0] == again[1] != again[2]


def test_few_and_uneven_groups():
    for sizes in ((1, 1, 1), (50, 1, 1), (1, 1, 50), (20, 20, 20), (90, 5, 5, 3)):
        groups = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
        parts = part_by_group(groups, None, 0.2, 0.2, 0, "--group g")
        disjoint(parts, len(groups))
        assert all(len(parts[name]) for name in NAMES), sizes
        assert len(parts["training"]) >= max(sizes) or len(set(sizes)) == 1 or max(sizes) < 30
    with pytest.raises(DataError, match="--group g: expected at least 3 groups, one for each part, got 2"):
        part_by_group(np.array(["a", "b"] * 20), None, 0.2, 0.2, 0, "--group g")


def test_groups_of_a_table(written):
    rng = np.random.default_rng()
    table = columns(rng)
    problem = understand(Source(written(table), "y", group="patient", drop=["day"]), 0)
    found = [{table["patient"][i] for i in problem.parts[name]} for name in NAMES]
    assert problem.by_folds and not found[1] and not found[0] & found[2]
    shared = understand(Source(written(table), "y", group="patient", drop=["day"], validation_share=0.3), 0)
    found = [{table["patient"][i] for i in shared.parts[name]} for name in NAMES]
    assert found[1] and not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    assert problem.columns.left_out["patient"] == "it groups the rows"
    # Folds are of whole groups, too.
    arguments = problem.for_search()
    assert arguments["groups"].tolist() == [table["patient"][i] for i in problem.parts["training"]]
    folds = make_folds(None, len(arguments["y"]), rng, None, arguments["groups"])
    for training, validation in zip(folds.training, folds.validation, strict=True):
        assert not set(arguments["groups"][training]) & set(arguments["groups"][validation])
    asked = understand(Source(written(table), "y", group="patient", drop=["day"], categorical=["patient"]), 0)
    assert "patient" in asked.columns.names
    holes = table | {"patient": ["", *table["patient"][1:]]}
    with pytest.raises(DataError, match="--group patient, line 2: expected a value in every row, got a missing cell"):
        understand(Source(written(holes), "y", group="patient"), 0)


# Order.


def test_the_last_rows_test():
    rng = np.random.default_rng()
    values = rng.permutation(N) * 1.0
    parts = part_by_order(values, 0.2, 0.3, "--order-by t")
    disjoint(parts, N)
    assert [len(parts[name]) for name in NAMES] == [100, 40, 60]
    assert values[parts["training"]].max() < values[parts["validation"]].min()
    assert values[parts["validation"]].max() < values[parts["test"]].min()
    # Rows of one value stay together, however many they are.
    for distinct in (3, 4, 7):
        values = rng.integers(0, distinct, N) * 1.0
        parts = part_by_order(values, 0.2, 0.2, "--order-by t")
        disjoint(parts, N)
        ends = [(values[parts[name]].min(), values[parts[name]].max()) for name in NAMES]
        assert ends[0][1] < ends[1][0] and ends[1][1] < ends[2][0]
    alone = part_by_order(np.array([0.0, 1.0] * 50), 0.0, 0.2, "--order-by t")
    assert len(alone["test"]) == 50 and not len(alone["validation"])
    with pytest.raises(DataError, match="at least 3 different values, at least one for each part, got 2"):
        part_by_order(np.array([0.0, 1.0] * 50), 0.2, 0.2, "--order-by t")


@pytest.mark.parametrize("of", ["day", "number", "month"])
def test_the_order_of_a_column(written, pandas, of):
    rng = np.random.default_rng()
    table = columns(rng)
    days = pandas.to_datetime(pandas.Series(table["day"]))
    table |= {"number": -days.to_numpy().astype("int64") // 10**9, "month": days.dt.strftime("%d.%m.%Y")}
    for kind in ("csv", "parquet"):
        problem = understand(Source(written(table, f"t.{kind}"), "y", order_by=of), 0)
        time = days.to_numpy() if of != "number" else table["number"]
        first, last = time[problem.parts["training"]], time[problem.parts["test"]]
        assert first.max() < last.min() and len(last) == 40 == len(problem.parts["validation"])
        arguments = problem.for_search()
        ((training, validation),) = arguments["cv"]
        rows = np.concatenate([problem.parts["training"], problem.parts["validation"]])
        assert rows[training].tolist() == problem.parts["training"].tolist() and arguments["groups"] is None
        assert rows[validation].tolist() == problem.parts["validation"].tolist()
        assert not any("not by date" in doubt for doubt in problem.doubts)
    assert any("--order-by day" in doubt for doubt in understand(Source(written(table), "y"), 0).doubts)
    table["day"] = ["", *table["day"][1:]]
    with pytest.raises(DataError, match="--order-by day, line 2: expected a value in every row"):
        understand(Source(written(table), "y", order_by="day"), 0)
    with pytest.raises(DataError, match="--order-by patient, line 2: expected numbers or dates, got 'P000'"):
        understand(Source(written(table), "y", order_by="patient"), 0)


# A column, and files.


def test_a_column_names_the_parts(written):
    rng = np.random.default_rng()
    table = columns(rng)
    spellings = {"training": ["train", "Training", " TRAIN "], "validation": ["val", "valid", "dev"],
                 "test": ["test", "Testing", "holdout"]}  # fmt: skip
    which = rng.choice(NAMES, N, p=[0.6, 0.2, 0.2])
    table["part"] = [str(rng.choice(spellings[name])) for name in which]
    problem = understand(Source(written(table), "y", part="part"), 0)
    for name in NAMES:
        assert problem.parts[name].tolist() == np.flatnonzero(which == name).tolist()
    assert "part" in problem.columns.left_out
    # Without validation rows there are folds of the training rows, or a share of them is drawn.
    table["part"] = np.where(which == "test", "test", "train")
    for share in (None, 0.3):
        problem = understand(Source(written(table), "y", part="part", validation_share=share), 0)
        disjoint(problem.parts, N)
        assert problem.parts["test"].tolist() == np.flatnonzero(which == "test").tolist()
        assert problem.by_folds == (share is None)
    others = list(table["part"][1:])
    for odd, words in ((["trian", *others], "line 2.*'trian'"), (["", *others], "line 2.*missing"),
                       (["test"] * N, "training rows, got none"), (["train"] * N, "test rows, got none")):  # fmt: skip
        with pytest.raises(DataError, match=f"--part part.*{words}"):
            understand(Source(written(table | {"part": odd}), "y", part="part"), 0)


def test_files_are_parts(written, pandas):
    rng = np.random.default_rng()
    frame = pandas.DataFrame(columns(rng))
    rows = {"t.csv": slice(0, 100), "v.csv": slice(100, 150), "s.parquet": slice(150, 200)}
    files = {name: written(frame[part].assign(more=1) if name != "t.csv" else frame[part], name)
             for name, part in rows.items()}  # fmt: skip
    problem = understand(Source(files["t.csv"], "y", validation=files["v.csv"], test=files["s.parquet"]), 0)
    assert [problem.parts[name].tolist() for name in NAMES] == [list(range(*s.indices(N))) for s in rows.values()]
    np.testing.assert_allclose(problem.own_y, frame["y"])
    np.testing.assert_allclose(problem.frame["a"], frame["a"])
    np.testing.assert_array_equal(problem.frame["day"], pandas.to_datetime(frame["day"]))
    arguments = problem.for_search()
    np.testing.assert_allclose(arguments["X"]["a"], frame["a"][:150])
    assert [each.tolist() for each in arguments["cv"][0]] == [list(range(100)), list(range(100, 150))]
    for name, left in (("validation", 20), ("test", 0)):
        problem = understand(Source(files["t.csv"], "y", **{name: files["v.csv"]}), 0)
        assert problem.parts[name].tolist() == list(range(100, 150)) and problem.by_folds == (name == "test")
        assert len(problem.parts["test"]) == left or name == "test"
        assert len(problem.parts["training"]) == 100 - left


def test_mistakes_in_other_files_are_named_with_file_and_line(written, pandas):
    rng = np.random.default_rng()
    frame = pandas.DataFrame(columns(rng)).astype({"a": object}).assign(y=lambda f: np.where(f["y"] > 0, "p", "q"))
    path = written(frame)

    def refuses(change, *words, **more):
        other = frame.copy()
        change(other)
        with pytest.raises(DataError) as error:
            understand(Source(path, "y", test=written(other, "s.csv"), **more), 0)
        assert all(word in str(error.value) for word in words), error.value

    def put(column, cell):
        return lambda other: other.__setitem__(column, [*other[column][:7], cell, *other[column][8:]])

    refuses(put("a", "x"), "column 'a'", "s.csv, line 9", "'x'")
    refuses(put("y", "new"), "target 'y'", "s.csv, line 9", "a class that the table has", "'new'")
    refuses(put("y", ""), "target 'y'", "s.csv, line 9", "--skip-missing-target")
    refuses(put("w", -1), "--weight w, line 9", "-1", weight="w")
    refuses(lambda other: other.pop("a"), "s.csv", "no 'a'")
    refuses(lambda other: other.pop("y"), "--target", "s.csv")


# Weights.


def test_weights_reach_the_search_and_scores(written, capsys, tmp_path):
    """Held to a search that is given the weights directly, and to means by hand."""
    rng = np.random.default_rng()
    table = columns(rng)
    table["y"] = np.sin(table["a"]) + rng.normal(size=N) * 0.1
    source = Source(written(table), "y", weight="w", drop=["day", "patient"])
    problem = understand(source, 0, cv=3)
    assert problem.columns.names == ["a"] and problem.columns.left_out["w"] == "it weighs the rows"
    weight = {name: table["w"][problem.parts[name]] for name in NAMES}
    found = fits.search(problem, Choices(cv=3, max_members=6, max_epochs=5), progress=False)
    rows, own = problem.parts["training"], problem.own_y
    other = pm.search(table["a"][rows, None], table["y"][rows], task="regression", cv=3, time_budget=None,
                      max_members=6, max_epochs=5, sample_weight=weight["training"], progress=False)  # fmt: skip
    predicted = found.model.predict(problem.frame)
    np.testing.assert_allclose(predicted, other.ensemble.predict(table["a"][:, None]), rtol=1e-5, atol=1e-6)
    error, there = (predicted - own)[problem.parts["test"]], weight["test"]
    expected = np.sqrt(np.average(error**2, weights=there))
    assert found.scores["ensemble"]["test"]["rmse"] == pytest.approx(expected, rel=1e-4)
    # Rows of weight 0 are in no fold.
    best = other.trials[found.records[0]["id"]]
    counted = weight["training"] > 0
    residual = best.out_of_fold[:, 0] * other.ensemble.targets.scale + other.ensemble.targets.mean - own[rows][counted]
    expected = np.average(np.abs(residual), weights=weight["training"][counted])
    assert found.records[0]["validation_mae"] == pytest.approx(expected, rel=1e-4)
    guess = np.average(own[rows], weights=weight["training"])
    expected = np.average(np.abs(own[problem.parts["test"]] - guess), weights=there)
    assert found.scores["guess"]["test"]["mae"] == pytest.approx(expected, rel=1e-6)
    low, high = found.model.predict_interval(problem.frame.iloc[problem.parts["test"]], 0.9).T
    inside = (low <= own[problem.parts["test"]]) & (own[problem.parts["test"]] <= high)
    assert found.covered == pytest.approx(np.average(inside, weights=there))
    # A common factor changes nothing.
    for factor in (1e-300, 1e300):
        scaled = understand(Source(written(table | {"w": table["w"] * factor}), "y", weight="w",
                                   drop=["day", "patient"]), 0)  # fmt: skip
        ratio = scaled.weight / problem.weight.max() / np.where(problem.weight > 0, problem.weight, 1.0)
        np.testing.assert_allclose(ratio[problem.weight > 0], ratio.max(), rtol=1e-12)


@pytest.mark.parametrize("cell, words", [("-1", "-1"), ("", "a missing cell"), ("x", "'x'"), ("inf", "inf")])
def test_odd_weights_are_refused_by_line(written, cell, words):
    table = columns(np.random.default_rng())
    odd = [*map(str, table["w"][:5]), cell, *map(str, table["w"][6:])]
    with pytest.raises(DataError, match="--weight w, line 7: expected.*got " + words):
        understand(Source(written(table | {"w": odd}), "y", weight="w"), 0)


def test_parts_of_no_weight_are_refused(written):
    table = columns(np.random.default_rng())
    table |= {"part": (["train"] * 3 + ["val"] + ["test"]) * 40}
    for name, place in (("training", "train"), ("validation", "val"), ("test", "test")):
        weight = [0 if part == place else 1 for part in table["part"]]
        with pytest.raises(DataError, match=f"--weight w: expected .* {name} rows? of weight above 0, got 0"):
            understand(Source(written(table | {"w": weight}), "y", weight="w", part="part"), 0)


# What contradicts.


@pytest.mark.parametrize("options, names", [
    (["--group", "patient", "--order-by", "day"], ["--group and --order-by", "Leave out --order-by"]),
    (["--part", "patient", "--test", "x.csv"], ["--part and --test", "Leave out --test"]),
    (["--part", "patient", "--test-share", "0.1"], ["--part and --test-share"]),
    (["--test", "x.csv", "--test-share", "0.1"], ["--test and --test-share"]),
    (["--group", "patient", "--validation", "x", "--test", "x"], ["--group, --validation and --test"]),
    (["--numeric", "a", "--categorical", "a"], ["--categorical and --numeric", "'a'"]),
    (["--numeric", "a", "--drop", "a"], ["--numeric and --drop", "'a'"]),
    (["--weight", "w", "--group", "w"], ["--group and --weight", "'w'"]),
    (["--group", "y"], ["--group", "another column than the target", "'y'"]),
    (["--order-by", "days"], ["--order-by", "'days'", "Did you mean 'day'?"]),
    (["--weight", "z"], ["--weight", "'z'"]),
])  # fmt: skip
def test_options_that_contradict_each_other(written, capsys, tmp_path, options, names):
    path = written(columns(np.random.default_rng()))
    refused(run(capsys, "fit", path, "--target", "y", "--out", tmp_path / "r", *SHORT, *options), *names)
    assert not (tmp_path / "r").exists()


# What speaks against the test score.


def test_the_test_score_is_fair_only_where_nothing_speaks_against_it(written, capsys, tmp_path):
    rng = np.random.default_rng()
    clean = {"a": rng.normal(size=N), "b": rng.normal(size=N), "y": rng.normal(size=N)}
    cases = {
        "": clean,
        "--group patient_id": clean | {"patient_id": [f"P{i // 4}" for i in range(N)]},
        "--group customer": clean | {"customer": np.arange(N) // 3},
        "--order-by when": clean | {"when": (np.datetime64("2020-01-01") + np.arange(N)).astype(str)},
        "--drop place": clean | {"place": np.arange(N), "y": np.arange(N) / 7},
        "also among the training rows": {name: np.tile(cells[: N // 2], 2) for name, cells in clean.items()},
        "test rows": {name: cells[:60] for name, cells in clean.items()},
    }
    for words, table in cases.items():
        problem = understand(Source(written(table), "y"), 0)
        assert len(problem.doubts) == (words != ""), (words, problem.doubts)
        assert words in "".join(problem.doubts)
    fit = ("fit", written(cases["--order-by when"]), "--target", "y", "--out", tmp_path / "r", *SHORT)
    said = run(capsys, *fit)
    assert "The test score is fair" not in said.out and "Against the test score speaks:\n  - rows are" in said.out
    assert len(json.loads((tmp_path / "r" / "run.json").read_text())["doubts"]) == 1
    said = run(capsys, *fit, "--order-by", "when", "--overwrite")
    assert "The test score is fair" in said.out and "by the order of when" in said.out


def test_rows_that_come_twice_are_counted():
    from pmlp_np.app.fairness import rows_in_both

    rng = np.random.default_rng()
    X = rng.integers(0, 3, (60, 2)).astype(np.float32) * rng.choice([-1.0, 1.0], (60, 1)).astype(np.float32)
    y = rng.integers(0, 2, 60)
    some, others = np.arange(40, 60), np.arange(40)
    expected = sum(any((X[i] == X[j]).all() and y[i] == y[j] for j in others) for i in some)
    assert rows_in_both(X, y, some, others) == expected > 0
    assert rows_in_both(X, np.arange(60), some, others) == 0


def test_test_rows_that_chose_the_member_are_said(written):
    rng = np.random.default_rng()
    table, other, third = (written(columns(rng), name) for name in ("t.csv", "v.csv", "w.csv"))
    problem = understand(Source(table, "y", drop=("patient", "w", "day"), validation=other, test=other), 0)
    assert problem.doubts == [f"{N} of {N} test rows are also among the validation rows, which chose the ensemble"]
    problem = understand(Source(table, "y", drop=("patient", "w", "day"), validation=other, test=third), 0)
    assert problem.doubts == [] and not any("validation rows" in note for note in problem.notes)
    problem = understand(Source(table, "y", drop=("patient", "w", "day"), validation=table, test=third), 0)
    said = f"{N} of {N} validation rows are also among the training rows"
    assert any(note.startswith(said) for note in problem.notes)


def test_groups_that_other_files_have_too_are_said(written):
    rng = np.random.default_rng()
    other = columns(rng)
    table, same = written(columns(rng)), written(other, "same.csv")
    new = written(other | {"patient": [f"Q{i // 4}" for i in range(N)]}, "new.csv")
    same, new = (understand(Source(table, "y", drop=("day",), group="patient", test=each), 0) for each in (same, new))
    assert same.doubts == ["50 groups of the test rows are also in training or validation: --group can't part rows of "
                           "other files"]  # fmt: skip
    assert new.doubts == []


def test_a_share_beside_a_column_that_names_validation_rows_is_refused(written):
    named = columns(np.random.default_rng()) | {"part": (["train", "train", "val", "test"] * N)[:N]}
    with pytest.raises(DataError, match="Leave out --validation-share"):
        understand(Source(written(named), "y", part="part", validation_share=0.3), 0)
    named["part"] = [word.replace("val", "train") for word in named["part"]]
    problem = understand(Source(written(named), "y", part="part", validation_share=0.3), 0)
    assert len(problem.parts["validation"]) == round(0.3 * 0.75 * N)


def test_weights_beyond_float32_are_refused_by_line(written):
    weights = np.ones(N)
    weights[::2] = 1e60
    table = columns(np.random.default_rng()) | {"w": weights}
    with pytest.raises(DataError, match=r"--weight w, line \d+: .*Set it to 0, or correct the largest weights"):
        understand(Source(written(table), "y", weight="w"), 0)
    table["w"] = np.where(weights > 1.0, weights, 0.0)
    assert len(understand(Source(written(table), "y", weight="w"), 0).weight) == N


def test_no_row_with_a_target_is_not_one(written):
    table = columns(np.random.default_rng()) | {"y": [np.nan] * N}
    with pytest.raises(DataError, match="at least 10 rows with a target, got none"):
        understand(Source(written(table), "y", skip_missing_target=True), 0)
