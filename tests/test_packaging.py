"""The package as users get it: its facts, its public names and what their docstrings promise."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, OPTIMIZERS
from pmlp_np.models.export.methods import Exportable
from pmlp_np.models.network import Layers
from pmlp_np.pool.held_members import HeldMembers

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SDIST = PYPROJECT["project"], PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]
PUBLIC = {name: getattr(pm, name) for name in pm.__all__}


def test_the_version_is_one():
    assert pm.__version__ == PROJECT["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", pm.__version__)


def test_core_dependencies_are_numpy_and_numba():
    names = {re.match(r"[A-Za-z0-9_-]+", requirement)[0].lower() for requirement in PROJECT["dependencies"]}
    assert names == {"numpy", "numba"}


def test_extras_build_on_each_other_and_not_on_others():
    extras = PROJECT["optional-dependencies"]
    assert {"app", "plots", "export", "gpu", "demo", "test", "lint", "docs", "package", "dev"} <= set(extras)
    # What users add for one purpose brings no tool of another.
    names = {extra: {re.split(r"[<>=~\[ ]", entry)[0] for entry in entries} for extra, entries in extras.items()}
    assert names["plots"] == {"matplotlib"} and names["gpu"] == {"cupy-cuda12x"}
    assert not {"pytest", "ruff", "mypy", "build", "torch"} & set.union(*(names[e] for e in ("app", "plots", "export")))
    mentioned = set(re.findall(r"pmlp_np\[([a-z,]+)\]", " ".join(sum(extras.values(), []))))
    assert {name for names in mentioned for name in names.split(",")} <= set(extras)


def test_it_is_typed_and_licensed():
    assert (ROOT / "pmlp_np" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]
    for pattern in PROJECT["license-files"]:
        assert list(ROOT.glob(pattern)), pattern


def test_python_versions_are_those_that_the_tests_ran_on():
    """A classifier is a claim; requires-python only lets others try."""
    versions = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: Python :: \d\.\d+$", c)]
    assert versions == ["3.11", "3.12", "3.13"] and PROJECT["requires-python"] == ">=3.11"
    assert not [c for c in PROJECT["classifiers"] if c.startswith("License ::")]  # the license expression says it


def test_the_citation_is_of_this_version_and_of_the_paper_that_the_readme_cites():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    plain = dict(re.findall(r"^ *(?:- )?([a-z-]+): (?!>)(.+)$", text, re.MULTILINE))
    assert re.search(rf"^version: {re.escape(pm.__version__)}$", text, re.MULTILINE)
    assert re.search(rf"^title: {PROJECT['name']}$", text, re.MULTILINE)
    assert f"license: {PROJECT['license']}" in text and plain["cff-version"] == "1.2.0"
    readme = " ".join((ROOT / PROJECT["readme"]).read_text(encoding="utf-8").replace("> ", "").split())
    issue = "*{journal}* {year}, {volume}({issue}), {start}–{end}".format(**plain)
    for said in (plain["doi"], plain["value"], issue, "Farias", "Ludermir", "Bastos-Filho"):
        assert said in readme, said
    title = re.search(r"type: article\n  title: >-\n    (.*)", text)[1]
    assert title in readme


def test_the_changelog_speaks_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\] - (.+)$", text, re.MULTILINE)
    assert newest[1] == pm.__version__
    assert newest[2] == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", newest[2])
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
    }  # fmt: skip


def test_the_source_archive_takes_what_belongs_to_it():
    """`make package` holds what is built to the repository; this holds what is to be built to it."""
    # The readme, the license and pyproject.toml hatchling takes by itself.
    expected = {"pmlp_np", "tests", "docs", "examples", "benchmarks", "Makefile", "CHANGELOG.md", "CITATION.cff"}
    assert {entry.lstrip("/") for entry in SDIST["include"]} >= expected
    assert all((ROOT / name).exists() for name in expected)


def test_the_readme_exists_and_speaks_of_the_package():
    text = (ROOT / PROJECT["readme"]).read_text()
    assert "pmlp_np" in text and "make demo" in text and "make test" in text


def test_public_names_are_documented_and_no_others_are_visible():
    visible = {name for name, value in vars(pm).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert visible == set(pm.__all__)
    for name, value in PUBLIC.items():
        if callable(value):
            assert inspect.getdoc(value), name


def members_of(cls):
    """Public methods and properties that a class defines itself, or has from a part of it that is no class of users."""
    parts = [part for part in reversed(cls.__mro__) if issubclass(part, (Exportable, HeldMembers, Layers))]
    for name, value in {name: value for part in (*parts, cls) for name, value in vars(part).items()}.items():
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, (property, classmethod))):
            yield f"{cls.__name__}.{name}", getattr(cls, name) if not isinstance(value, property) else value


CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
METHODS = dict(item for cls in CLASSES.values() for item in members_of(cls))
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}


def test_public_methods_were_found():
    assert {"Pool.fit", "Pool.loss", "MLP.load", "MLP.hidden", "Specs.from_members"} <= set(METHODS)
    assert {"grid", "sample", "concat", "load"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", METHODS)
def test_public_methods_are_documented(name):
    assert inspect.getdoc(METHODS[name])


@pytest.mark.parametrize("name", METHODS | FUNCTIONS | CLASSES)
def test_docstrings_are_sentences(name):
    """The first paragraph ends, and no line is wider than the code."""
    text = inspect.getdoc((METHODS | FUNCTIONS | CLASSES)[name])
    assert re.search(r"[.:]$", text.split("\n\n")[0].rstrip()), text
    assert all(len(line) <= 120 for line in text.splitlines())


def entries(text):
    """A docstring's list of arguments: {"x": "what it is", ...} from entries `x: what it is` or `x, y: what they are`.

    An entry starts in the first column, after an empty line or another entry; its further lines are indented.
    """
    found, names, after_gap = {}, [], True
    for line in text.splitlines():
        entry = re.match(r"(X|[a-z_]+(?:, [a-z_]+)*): (.*)", line)
        if entry and (after_gap or names):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif names and line.startswith(" "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
        after_gap = not line.strip()
    return found


def parameters(function):
    return {name: p for name, p in inspect.signature(function).parameters.items() if name != "self"}


def test_entries_are_read_off_right():
    text = "Do.\n\nx: one thing.\n    more: of it.\ny, z: two.\n\n  w: not an entry.\nv: nor this.\nKeys: no."
    assert entries(text) == {"x": "one thing. more: of it.", "y": "two.", "z": "two."}


# Those with several arguments, each of which has an entry. The others mention theirs in a sentence.
FULLY_DOCUMENTED = {
    "Pool": pm.Pool,
    "Pool.fit": pm.Pool.fit,
    "MLP": pm.MLP,
    "MLP.folded": pm.MLP.folded,
    "MLP.to_onnx": pm.MLP.to_onnx,
    "MLP.to_python": pm.MLP.to_python,
    "MLP.to_c": pm.MLP.to_c,
    "Ensemble": pm.Ensemble,
    "Pool.ensemble": pm.Pool.ensemble,
    "Member": pm.Member,
    "grid": pm.grid,
    "sample": pm.sample,
    "register_loss": pm.register_loss,
}
# What a finished object has, beside what it was made from.
ATTRIBUTES = {"Pool": {"ids_", "history_", "ended_", "feature_names_in_"}, "MLP": {"feature_names_in_"}}


@pytest.mark.parametrize("name", FULLY_DOCUMENTED)
def test_documented_arguments_are_the_signatures(name):
    documented = [entry for entry in entries(inspect.getdoc(FULLY_DOCUMENTED[name])) if not entry.endswith("_")]
    assert documented == list(parameters(FULLY_DOCUMENTED[name]))
    assert {e for e in entries(inspect.getdoc(FULLY_DOCUMENTED[name])) if e.endswith("_")} == ATTRIBUTES.get(
        name, set()
    )


CALLABLES = {
    name: value for name, value in (METHODS | FUNCTIONS).items() if callable(value) and not name.startswith("Specs.")
}
# These take the arguments of another, to which their docstrings point.
SHARED = {"Pool.partial_fit": "Pool.fit"} | dict.fromkeys(
    ("Pool.predict", "Pool.predict_proba", "Pool.predict_std", "Pool.predict_quantiles"), "Pool.forward"
)


@pytest.mark.parametrize("name", CALLABLES)
def test_every_argument_is_spoken_of_and_no_other(name):
    text = inspect.getdoc(CALLABLES[name])
    if name in SHARED:
        other = SHARED[name].removeprefix("Pool.")
        assert re.search(rf"[Aa]rguments (are those of|as for|as) `{other}`", re.sub(r"\s+", " ", text))
        # Those that have an entry here are its own.
        shared = [value for argument, value in parameters(CALLABLES[name]).items() if argument not in entries(text)]
        assert shared == list(parameters(CALLABLES[SHARED[name]]).values())
        assert set(entries(text)) <= set(parameters(CALLABLES[name]))
        return
    assert set(entries(text)) <= set(parameters(CALLABLES[name])), "an entry for an argument that does not exist"
    for argument in parameters(CALLABLES[name]):
        # Data, and what the one argument of a simple function is, go without saying.
        if argument not in ("X", "y") and len(parameters(CALLABLES[name])) > 1:
            assert re.search(rf"\b{argument}\b", text), argument


@pytest.mark.parametrize("name", FULLY_DOCUMENTED)
def test_documented_defaults_are_the_signatures(name):
    """Wherever an entry says `Default <a value>`, that is the default."""
    checked = 0
    for argument, text in entries(inspect.getdoc(FULLY_DOCUMENTED[name])).items():
        said = re.search(r"Default:? (\([\d, ]*\)|\"[^\"]*\"|True|False|None|\d+(?:\.\d+)?)(?=\.(?: |$)|;)", text)
        if said:
            assert ast.literal_eval(said[1]) == parameters(FULLY_DOCUMENTED[name])[argument].default, argument
            checked += 1
    assert checked > 1 or name.partition(".")[0] in ("MLP", "Ensemble") or name == "Pool.ensemble"


def test_fit_and_partial_fit_share_their_arguments():
    """One definition, which both signatures show; what is no argument is refused in the name of the method."""
    of_fit, of_partial = (list(parameters(method).values()) for method in (pm.Pool.fit, pm.Pool.partial_fit))
    assert of_partial[:-1] == of_fit and of_partial[-1].name == "members" and len(of_fit) == 26
    assert pm.Pool.fit.__doc__ and "epochs: passes over the rows" in pm.Pool.fit.__doc__
    assert (pm.Pool.fit.__name__, pm.Pool.partial_fit.__qualname__) == ("fit", "Pool.partial_fit")
    pool = pm.Pool(pm.Member(hidden=1), 1)
    for wrong, said in [
        (lambda: pool.fit([[0.0]], [0.0], epoch=3), r"^Pool\.fit\(\) got an unexpected keyword argument 'epoch'"),
        (lambda: pool.fit(), r"^Pool\.fit\(\) missing 1 required positional argument: 'X'"),
        (lambda: pool.fit([[0.0]], [0.0], members=[0]), r"^Pool\.fit\(\) got an unexpected keyword argument 'members'"),
        (lambda: pool.partial_fit(*range(13)), r"^Pool\.partial_fit\(\) takes from 2 to 13 positional arguments"),
    ]:
        with pytest.raises(TypeError, match=said):
            wrong()


# What gives members data of their own; y is None where targets are given.
OWN_DATA = ("rows", "features", "targets", "sample_weight", "class_weight", "validation_rows")


def test_the_public_face_is_the_documented_one():
    """The calls that outside checks make."""
    signature = inspect.signature
    assert list(signature(pm.Pool).parameters)[:7] == [
        "specs", "n_features", "n_outputs", "loss", "seed", "backend", "dtype",
    ]  # fmt: skip
    assert list(signature(pm.Pool.fit).parameters) == [
        "self", "X", "y", "epochs", "batch_size", "shuffle", "validation_data", "early_stopping", "patience",
        "min_delta", "time_budget", "progress", "n_threads", "metrics", "monitor", "callbacks", "on_interrupt",
        *OWN_DATA, "validated_weights", "checkpoint", "checkpoint_every", "client",
    ]  # fmt: skip
    defaults = {name: p.default for name, p in signature(pm.Pool.fit).parameters.items() if p.default is not p.empty}
    assert defaults == {
        "epochs": 1, "batch_size": 32, "shuffle": "shared", "validation_data": None, "early_stopping": False,
        "patience": 10, "min_delta": 0.0, "time_budget": None, "progress": "auto", "n_threads": None,
        "metrics": (), "monitor": None, "callbacks": (), "on_interrupt": "keep", "y": None,
        **dict.fromkeys(OWN_DATA), "validated_weights": "last", "checkpoint": None, "checkpoint_every": 60.0,
        "client": None,
    }  # fmt: skip
    assert len(pm.PAPER_ACTIVATIONS) == 10
    for name, cls in OPTIMIZERS.items():
        assert name == cls.__name__.lower() and PUBLIC[cls.__name__] is cls
        assert set(inspect.signature(cls).parameters) <= set(HYPERPARAMETERS)


def code_of(text):
    """A docstring's example: its indented paragraphs after the first."""
    paragraphs = text.split("\n\n")[1:]
    indented = [p for p in paragraphs if all(line.startswith("    ") for line in p.splitlines())]
    return "\n\n".join(inspect.cleandoc("\n" + p) for p in indented)


EXAMPLES = {name: code for name, o in (METHODS | FUNCTIONS | CLASSES).items() if (code := code_of(inspect.getdoc(o)))}


def test_examples_were_found():
    assert {"MLP", "Ensemble", "EpochEnd", "Member", "Specs", "grid", "sample", "register_loss"} <= set(EXAMPLES)
    assert code_of("Do.\n\nx: one.\n    more.\n\n    a = 1\n    b = 2\n\nSo.\n\n    c = 3") == "a = 1\nb = 2\n\nc = 3"


@pytest.mark.usefixtures("own_formulas")
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_docstrings_run(name, tmp_path, monkeypatch):
    """With what a reader takes them to mean: a trained pool, its data, and validation data. A number of members that a
    comment names is right."""
    monkeypatch.chdir(tmp_path)
    if "to_onnx" in EXAMPLES[name]:
        requires("onnx")
    rng = np.random.default_rng()
    X, Xv = rng.normal(size=(40, 3)), rng.normal(size=(20, 3))
    y, yv = X[:, 0], Xv[:, 0]
    pool = pm.Pool(pm.grid(hidden=range(1, 31)), n_features=3).fit(X, y, progress=False)
    namespace = {"pm": pm, "np": np, "pool": pool, "X": X, "y": y, "Xv": Xv, "yv": yv}
    for node in ast.parse(EXAMPLES[name]).body:
        line = ast.unparse(node)
        if not isinstance(node, ast.Expr):
            exec(line, namespace)
            continue
        value = eval(line, namespace)
        said = re.search(r"# ([\d,]+) members", EXAMPLES[name].splitlines()[node.end_lineno - 1])
        if said:
            assert len(value) == int(said[1].replace(",", ""))
