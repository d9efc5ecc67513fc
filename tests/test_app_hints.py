"""Every hint that the command line offers is followed: the command runs then, or comes further. (Those about how cells
are read have a file of their own.)"""

import json
import re

import numpy as np
import pytest

from command_line import SHORT, run
from conftest import requires
from following_hints import corrected, followed, hints, without
from pmlp_np.app import fitting

N = 60
RNG = np.random.default_rng()
A = RNG.normal(size=N).round(4)
Y = (A + np.arange(N) % 7).round(3)


@pytest.fixture(autouse=True)
def pandas(monkeypatch):
    for name in ("typer", "rich"):
        requires(name)
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    return requires("pandas")


@pytest.fixture
def command(tmp_path):
    """command(columns, "--more", ...) writes a table and returns the command that fits its column y."""

    def go(columns, *more, name="t.csv"):
        import pandas

        pandas.DataFrame(columns).to_csv(tmp_path / name, index=False)
        return ["fit", tmp_path / name, "--target", "y", "--out", tmp_path / "r", *SHORT, *more]

    return go


@pytest.fixture
def refusal(capsys):
    """refusal(command) is the one line with which it is refused."""

    def go(arguments):
        said = run(capsys, *arguments)
        assert said.code == 1 and said.err.count("\n") == 1, said
        return said.err

    return go


@pytest.fixture
def runs(capsys):
    """runs(command) asserts that it does, and returns what it said."""

    def go(arguments):
        said = run(capsys, *arguments)
        assert said.code == 0, said.err
        return said

    return go


OPTIONS = {
    "group and order": ({"a": A, "g": np.arange(N) // 3, "y": Y}, ["--group", "g", "--order-by", "a"], None),
    "all three": ({"a": A, "g": np.arange(N) // 3, "y": Y}, ["--group", "g", "--order-by", "a", "--part", "g"], None),
    "part and test": ({"a": A, "g": ["train", "val", "test"] * 20, "y": Y}, ["--part", "g", "--test", "t.csv"], None),
    "two groups": ({"a": A, "two words": np.arange(N) // 30, "y": Y}, ["--group", "two words"], None),
    "a group is missing": ({"a": A, "two words": [None, *range(N - 1)], "y": Y}, ["--group", "two words"], None),
    "two values": ({"a": A, "g": np.arange(N) // 30, "y": Y}, ["--order-by", "g"], None),
    "order is missing": ({"a": A, "g": [None, *range(N - 1)], "y": Y}, ["--order-by", "g"], None),
    "order of words": ({"a": A, "g": ["x", "z"] * 30, "y": Y}, ["--order-by", "g"], None),
    "parts misspelled": ({"a": A, "g": ["x", "z"] * 30, "y": Y}, ["--part", "g"], None),
    "no test rows": ({"a": A, "g": ["train"] * N, "y": Y}, ["--part", "g"], None),
    "negative weight": ({"a": A, "the weight": -np.arange(N), "y": Y}, ["--weight", "the weight"], None),
    "weights are words": ({"a": A, "g": ["x", "z"] * 30, "y": Y}, ["--weight", "g"], None),
    "no weight at all": ({"a": A, "g": np.zeros(N), "y": Y}, ["--weight", "g"], None),
    "two kinds": ({"a b": A, "c": A, "y": Y}, ["--numeric", "a b", "--categorical", "a b"], None),
    "shares of all rows": ({"a": A, "y": Y}, ["--validation-share", "0.6", "--test-share", "0.5"], "both shares"),
    "no validation rows": ({"a": A, "y": Y}, ["--validation-share", "0.001"], "--validation-share"),
    "one validation row": ({"a": A, "y": Y}, ["--validation-share", "0.02"], "--validation-share"),
    "no test rows of this share": ({"a": A, "y": Y}, ["--test-share", "0.001"], "--test-share"),
    "too many folds": ({"a": A, "y": Y}, ["--cv", "60"], "--cv"),
    "too many folds of groups": ({"a": A, "g": np.arange(N) // 6, "y": Y}, ["--group", "g", "--cv", "30"], "--cv"),
    "one fold": ({"a": A, "y": Y}, ["--cv", "1"], "--cv"),
    "folds and a share": ({"a": A, "y": Y}, ["--cv", "3", "--validation-share", "0.2"], "--cv"),
    "folds in an order": ({"a": A, "y": Y}, ["--cv", "3", "--order-by", "a"], "--cv"),
    "a row without a target": ({"a": A, "y": [None, *Y[1:]]}, [], "--skip-missing-target"),
    "constant by order": ({"a": A, "t": np.arange(N), "y": [5.0] * 50 + Y[50:].tolist()}, ["--order-by", "t"], None),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_a_refusal_names(command, refusal, runs, case):
    columns, more, option = OPTIONS[case]
    arguments = command(columns, *more)
    message = refusal(arguments)
    if option == "both shares":
        for name, _ in hints(message):
            arguments = followed(arguments, message, name)
    else:
        arguments = followed(arguments, message, option)
    if case == "all three":
        arguments = without(arguments, hints(message)[1][0])
    runs(arguments)


def test_another_seed_draws_other_rows(command, refusal, runs):
    """Two cells of 60 differ: some seeds put both elsewhere than into training."""
    columns = {"a": A, "y": [1.5] * 58 + [2.0, 3.0]}
    for seed in range(40):
        arguments = command(columns, "--task", "regression", "--seed", seed, "--validation-share", "0.4",
                            "--test-share", "0.4", "--overwrite")  # fmt: skip
        # Whichever it is, one of the other seeds does.
        try:
            message = refusal(arguments)
        except AssertionError:
            continue
        assert "in the training rows" in message and ("--seed", None) in hints(message)
        break
    else:
        pytest.fail("no seed was refused")
    for other in range(40):
        try:
            runs([*without(arguments, "--seed"), "--seed", other])
            return
        except AssertionError:
            continue
    pytest.fail("no other seed ran")


def test_a_target_of_another_file(command, refusal, runs, pandas, tmp_path):
    pandas.DataFrame({"a": A[:9], "y": ["", *Y[1:9]]}).to_csv(tmp_path / "s.csv", index=False)
    arguments = command({"a": A, "y": Y}, "--test", tmp_path / "s.csv")
    runs(followed(arguments, refusal(arguments), "--skip-missing-target"))
    for option in ("--test", "--validation"):
        more = [option, tmp_path / "s.csv", f"{option}-share", "0.2", "--skip-missing-target", "--overwrite"]
        arguments = command({"a": A, "y": Y}, *more)
        runs(followed(arguments, refusal(arguments)))
    both = ["--test", tmp_path / "s.csv", "--validation", tmp_path / "s.csv", "--skip-missing-target", "--overwrite"]
    arguments = command({"a": A, "g": np.arange(N), "y": Y}, *both, "--group", "g")
    message = refusal(arguments)
    pandas.DataFrame({"a": A[:9], "g": range(9), "y": Y[:9]}).to_csv(tmp_path / "s.csv", index=False)
    runs(followed(arguments, message))


def test_numbers_that_can_not_be_computed_with(command, refusal, runs):
    for odd in ("inf", "1e300"):
        arguments = command({"a": [odd, *A[1:]], "y": Y}, "--overwrite")
        assert "Correct or empty the cell" in refusal(arguments)
        for better in ("", "1"):
            runs(command({"a": [better, *A[1:]], "y": Y}, "--overwrite"))


def test_misspelled_names(command, refusal, runs, tmp_path):
    columns = {"alpha": A, "g": np.arange(N), "y": Y}
    for more in (["--drop", "alhpa"], ["--numeric", "alhpa"], ["--categorical", "alhpa"], ["--order-by", "alhpa"],
                 ["--weight", "gg"]):  # fmt: skip
        arguments = command(columns, *more, "--overwrite")
        message = refusal(arguments)
        if "Did you mean" in message:
            runs(corrected(arguments, message))
        else:
            assert more[0] == "--weight"
    arguments = command(columns, "--overwrite")
    arguments[1] = tmp_path / "tt.csv"
    message = refusal(arguments)
    arguments[1] = re.search(r"Did you mean (.*)\?", message)[1]
    runs(arguments)
    runs(["leaderboard", tmp_path / "r", "--sort", "parameters"])
    arguments = ["leaderboard", tmp_path / "r", "--sort", "parameter"]
    runs(corrected(arguments, refusal(arguments)))
    message = refusal(["leaderboard", tmp_path / "rr"])
    runs(["leaderboard", re.search(r"Did you mean (.*)\?", message)[1]])


def test_places_to_write_to(command, refusal, runs, tmp_path, monkeypatch):
    arguments = command({"a": A, "y": Y})
    runs(arguments)
    runs(followed(arguments, refusal(arguments), "--overwrite"))
    deep = [*arguments[:5], tmp_path / "no" / "r", *arguments[6:]]
    message = refusal(deep)
    (tmp_path / re.search(r"mkdir -p (\S+?)\.?\n", message)[1]).mkdir(parents=True)
    runs(deep)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    here = [*arguments[:5], ".", *arguments[6:]]
    message = refusal(here)
    runs([*here[:5], re.search(r"such as (\w+)", message)[1], *here[6:]])
    plot = ["plot", tmp_path / "r", "--kind", "scores", "--out", tmp_path / "m.svg"]
    runs(plot)
    runs(followed(plot, refusal(plot), "--overwrite"))


def test_notes_that_offer_an_option(command, runs, tmp_path):
    """What is left out can be kept, what is suspected left out, and then nothing is said of it."""
    order = np.random.default_rng().permutation(N)
    counted = np.arange(N)
    columns = {"a": A, "row id": counted, "customer no": 7 * counted, "z": counted, "y": counted / 7}
    arguments = command({name: np.asarray(cells)[order] for name, cells in columns.items()}, "--overwrite")
    said = runs(arguments)
    notes = [line for line in said.err.splitlines() if line.startswith("note")]
    offered = [option for note in notes for option in hints(note)]
    assert ("--numeric", "row id") in offered and ("--drop", "customer no") in offered and ("--drop", "z") in offered
    for option, name in dict.fromkeys(offered):
        arguments += [option, name] if name else []
    said = runs(arguments)
    assert "note" not in said.err and "alone predicts" not in said.out
    assert json.loads((tmp_path / "r" / "run.json").read_text())["columns"] == ["a", "row id"]


def test_doubts_that_offer_an_option(command, runs, tmp_path):
    columns = {"a": A, "patient id": np.arange(N) // 3, "when": np.datetime64("2020-01-01") + np.arange(N), "y": Y}
    arguments = command(columns, "--overwrite", "--test-share", "0.5")
    said = runs(arguments)
    doubts = [line for line in said.out.splitlines() if line.startswith("  - ")]
    assert len(doubts) == 2
    for doubt in doubts:
        (option,) = hints(doubt)
        again = runs([*arguments, *option])
        assert doubt not in again.out, doubt


def test_spaces_and_coverages_as_their_hints_say(command, refusal, runs, tmp_path):
    space = tmp_path / "s.json"
    arguments = command({"a": A, "y": Y}, "--space", space)
    space.write_text("[]")
    written = re.search(r"Write, for instance, (\{.*\})\.", refusal(arguments))[1]
    space.write_text(written)
    runs(arguments)
    space.write_text('{"learning_rate": {}}')
    example = re.search(r"For example (\{.*\})\.", refusal([*arguments, "--overwrite"]))[1]
    space.write_text(f'{{"learning_rate": {example}}}')
    runs([*arguments, "--overwrite"])
    arguments = [*arguments, "--overwrite", "--metric", "rmes"]
    runs(corrected(arguments, refusal(arguments)))
    predict = ["predict", tmp_path / "r", tmp_path / "t.csv", "--out", tmp_path / "p.csv", "--coverage", "90"]
    message = refusal(predict)
    runs([*predict[:-1], re.search(r"such as ([\d.]+),", message)[1]])
