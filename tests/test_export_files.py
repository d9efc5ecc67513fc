"""Models out, what each target has beside its numbers: names, metadata, files, command lines, further training."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from exported import N_FEATURES, RUNNERS, assert_alike, by_onnx, by_python, random_mlp, rows, run_onnx
from loss_variants import VARIANTS

NAMES = ["age", "height", 'weight of\na "person"', "ärger", "e", "f"]


def models(loss, n_outputs=1, **settings):
    """A network, and an ensemble of two."""
    rng = np.random.default_rng()
    mlps = [random_mlp(rng, loss, n_outputs, **settings) for _ in range(2)]
    return mlps[0], pm.Ensemble(mlps, [1, 2])


# ONNX.


def test_onnx_says_what_it_is():
    onnx = requires("onnx")
    for model in models("cross_entropy", 3, dtype=np.float32):
        found = model.to_onnx(input_names=NAMES, class_names=["a", "b", "c"])
        onnx.checker.check_model(found, full_check=True)
        assert [(each.domain, each.version) for each in found.opset_import] == [("", 13)] and found.ir_version == 7
        facts = {each.key: each.value for each in found.metadata_props}
        assert facts.pop("model") == repr(model) and facts.pop("loss") == "cross_entropy"
        assert json.loads(facts.pop("feature_names")) == NAMES and json.loads(facts.pop("class_names")) == list("abc")
        assert facts == {"pmlp_np_version": pm.__version__}
        assert (found.producer_name, found.producer_version) == ("pmlp_np", pm.__version__)
        (x,) = found.graph.input
        dims = x.type.tensor_type.shape.dim
        assert (x.name, dims[0].dim_param, dims[1].dim_value) == ("X", "n_samples", N_FEATURES)
        assert {each.key for each in model.to_onnx().metadata_props} == {"model", "loss", "pmlp_np_version"}


@pytest.mark.parametrize("loss", VARIANTS)
def test_onnx_outputs_are_named_for_what_they_are(loss):
    requires("onnx")
    expected = {"cross_entropy": ["label", "probabilities"], "binary_cross_entropy": ["label", "probabilities"],
                "gaussian_nll": ["prediction", "std"], "quantile": ["prediction", "quantiles"]}  # fmt: skip
    for model in models(loss, 2):
        outputs = [output.name for output in model.to_onnx().graph.output]
        assert outputs == expected.get(VARIANTS[loss][0], ["prediction"])


def test_onnx_keeps_no_constant_that_nothing_uses():
    requires("onnx")
    for model in models("gaussian_nll", 2, activation="gelu", dtype=np.float64, hidden=(3,)):
        graph = model.to_onnx().graph
        used = {name for node in graph.node for name in node.input}
        assert {constant.name for constant in graph.initializer} <= used


def test_onnx_files(tmp_path):
    requires("onnx")
    mlp, ensemble = models("squared_error", dtype=np.float32)
    X = rows(np.random.default_rng(), 10, np.float32)
    for model in (mlp, ensemble):
        found = model.to_onnx(tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx").read_bytes() == found.SerializeToString()
        run_onnx((tmp_path / "model.onnx").read_bytes(), X)
    assert os.listdir(tmp_path) == ["model.onnx"]


# Names of classes, in ONNX and in the NumPy file.


@pytest.mark.parametrize("runner", [by_onnx, by_python])
@pytest.mark.parametrize(
    ("loss", "names"),
    [
        ("cross_entropy", ["apple", "fig", "pear \"'\\ß"]),
        ("cross_entropy", [7, -3, 40]),
        ("cross_entropy", np.array(["x", "y", "z"])),
        ("binary_cross_entropy", ("no", "yes")),
        ("binary_cross_entropy", np.array([1, 2])),
    ],
)
def test_labels_can_have_names(loss, names, runner):
    requires("onnx")
    X = rows(np.random.default_rng(), 50, np.float32)
    for model in models(loss, 3 if loss == "cross_entropy" else 1, dtype=np.float32, hidden=(8,), activation="tanh"):
        plain, named = runner(model, X), runner(model, X, class_names=names)
        assert named["predict"].tolist() == [np.asarray(names).tolist()[label] for label in plain["predict"]]
        assert np.array_equal(named["predict_proba"], plain["predict_proba"])


@pytest.mark.parametrize("method", ["to_onnx", "to_python"])
@pytest.mark.parametrize(
    ("loss", "n_outputs", "names", "text"),
    [
        ("squared_error", 1, {"input_names": ["a"]}, "^input_names: expected a name for each of 6 columns, got 1"),
        ("squared_error", 1, {"input_names": "abcdef"}, "^input_names: expected a name for each of 6 columns, got 'ab"),
        ("squared_error", 1, {"input_names": [*"abcde", 5]}, r"^input_names\[5\]: expected a string, got 5"),
        ("squared_error", 1, {"input_names": [*"abcdea"]}, r"^input_names\[5\]: expected a name that no other column"),
        ("squared_error", 1, {"class_names": ["a"]}, "^class_names: expected None for a model that predicts values"),
        ("binary_cross_entropy", 2, {"class_names": ["a", "b"]}, "^class_names: expected None for a model of 2 labels"),
        ("cross_entropy", 3, {"class_names": ["a", "b"]}, "^class_names: expected a name for each of 3 classes, got 2"),
        ("cross_entropy", 3, {"class_names": "abc"}, "^class_names: expected a name for each of 3 classes, got 'abc'"),
        ("cross_entropy", 3, {"class_names": ["a", 1, "c"]}, r"^class_names\[1\]: expected all strings, or all whole"),
        ("cross_entropy", 3, {"class_names": [0.5, 1, 2]}, r"^class_names\[0\]: expected all strings, or all whole"),
        ("cross_entropy", 2, {"class_names": [True, False]}, r"^class_names\[0\]: expected all strings, or all whole"),
        ("cross_entropy", 3, {"class_names": ["a", "b", "a"]}, r"^class_names\[2\]: expected a name that no other cla"),
    ],
)
def test_names_that_do_not_fit_are_refused(method, loss, n_outputs, names, text):
    requires("onnx")
    for model in models(loss, n_outputs):
        with pytest.raises(pm.DataError, match=text):
            getattr(model, method)(**names)


# The NumPy file.

ALONE = """
import runpy, sys
for name in ("pmlp_np", "numba", "llvmlite"):
    sys.modules[name] = None
import numpy as np
folder, count = sys.argv[1], int(sys.argv[2])
X = np.load(folder + "/x.npy")
for i in range(count):
    model = runpy.run_path(f"{folder}/model_{i}.py")
    np.savez(f"{folder}/said_{i}.npz", **{name: model[name](X) for name in model if name in sys.argv[3:]})
third = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
assert not {"scipy", "torch", "sklearn"} & third, third
"""
METHODS = ("forward", "predict", "predict_proba", "predict_std", "predict_quantiles")


def test_the_file_runs_where_pmlp_np_is_not(tmp_path):
    """In an isolated interpreter, in which pmlp_np and Numba can't be imported. Not to the last bit: NumPy's products
    round by where arrays happen to lie in memory."""
    rng = np.random.default_rng()
    X = rows(rng, 20, np.float64)
    np.save(tmp_path / "x.npy", X)
    chosen = [model for loss in VARIANTS for model in models(loss, 2)]
    for i, model in enumerate(chosen):
        assert model.to_python(tmp_path / f"model_{i}.py") == (tmp_path / f"model_{i}.py").read_text("utf-8")
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path), str(len(chosen)), *METHODS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for i, model in enumerate(chosen):
        with np.load(tmp_path / f"said_{i}.npz") as said:
            assert set(said) == set(by_python(model, X))
            assert_alike(model, X, dict(said))


def by_command_line(path, table, folder):
    """What the file prints about a CSV file of these lines."""
    with open(folder / "rows.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(table)
    command = [sys.executable, "-I", str(path), str(folder / "rows.csv")]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_its_command_line_prints_predictions(tmp_path):
    X = rows(np.random.default_rng(), 12, np.float32)
    mlp, ensemble = models("squared_error", 2, dtype=np.float32)
    for model in (mlp, ensemble):
        model.to_python(tmp_path / "mine.py", input_names=NAMES)
        text = (tmp_path / "mine.py").read_text("utf-8")
        assert "from mine import predict" in text and "python mine.py rows.csv" in text
        # Columns by name, in any order, others among them; then by place.
        order = np.random.default_rng().permutation(N_FEATURES)
        named = [["id", *(NAMES[i] for i in order)], *([f"row {k}", *x[order]] for k, x in enumerate(X))]
        for table in (named, X.tolist()):
            done = by_command_line(tmp_path / "mine.py", table, tmp_path)
            assert done.returncode == 0, done.stderr
            printed = np.array([[np.float32(value) for value in line.split(",")] for line in done.stdout.split()])
            assert_alike(model, X, {"predict": printed})


def test_its_command_line_prints_names(tmp_path):
    X = rows(np.random.default_rng(), 12, np.float64)
    mlp, _ = models("cross_entropy", 3)
    mlp.to_python(tmp_path / "mine.py", class_names=["a", "b b", "c"])
    done = by_command_line(tmp_path / "mine.py", [["h"] * N_FEATURES, *X.tolist()], tmp_path)
    assert done.stdout.splitlines() == by_python(mlp, X, class_names=["a", "b b", "c"])["predict"].tolist()


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ([["a"], ["1"]], "expected columns age, height, weight, d, e, f; missing: age, height, weight, d, e, f"),
        ([["age", "height", "weight", "d", "e", "f"], [1] * 6, [1, 2, "", 4, 5, 6]], "line 3: expected 6 numbers, got"),
        ([[1, 2, 3]], "line 1: expected 6 numbers, got 1, 2, 3"),
    ],
)
def test_its_command_line_refuses_in_one_line(tmp_path, table, text):
    mlp, _ = models("squared_error")
    mlp.to_python(tmp_path / "mine.py", input_names=["age", "height", "weight", "d", "e", "f"])
    done = by_command_line(tmp_path / "mine.py", table, tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert text in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_its_command_line_says_how_to_be_called_and_what_is_missing(tmp_path):
    models("squared_error")[0].to_python(tmp_path / "mine.py")
    for arguments, text in (([], "usage: python "), (["none.csv"], "none.csv: [Errno 2] No such file")):
        command = [sys.executable, "-I", str(tmp_path / "mine.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 1 and done.stderr.startswith(text) and done.stderr.count("\n") == 1


def test_only_what_the_model_needs_is_written():
    functions = {}
    for activation in ("relu", "gelu", "tanh"):
        mlp = random_mlp(np.random.default_rng(0), activation=activation, hidden=(3, 2))
        text = mlp.to_python()
        assert "pmlp_np" not in text.split('"""', 2)[2]
        functions[activation] = {line.split("(")[0][4:] for line in text.splitlines() if line.startswith("def ")}
        assert max(map(len, text.splitlines())) <= 120
    common = {"forward", "predict", "checked", "array", "is_number", "read"}
    assert functions == {"relu": common | {"relu"}, "gelu": common | {"gelu"}, "tanh": common}


def test_its_forward_is_there_where_raw_outputs_are_averaged():
    for loss in VARIANTS:
        mlp, ensemble = models(loss, 2)
        averaged = VARIANTS[loss][0] in ("squared_error", "absolute_error", "huber", "quantile")
        assert "def forward(" in mlp.to_python()
        assert ("def forward(" in ensemble.to_python()) == averaged


# PyTorch.


def test_torch_trains_on(loss="cross_entropy"):
    torch = requires("torch")
    X, y = rows(np.random.default_rng(), 60, np.float32), np.random.default_rng().integers(0, 3, 60)
    for model in models(loss, 3, dtype=np.float32, hidden=(8,), activation="tanh"):
        before = model.forward(X)
        module = model.to_torch()
        optimizer = torch.optim.Adam(module.parameters(), 0.02)
        losses = []
        for _ in range(40):
            found = torch.nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y))
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            losses.append(found.item())
        assert losses[-1] < 0.9 * losses[0]
        # The first is the mean loss of what the library predicts, for ensembles too; the library's model has not moved.
        proba = model.predict_proba(X)[np.arange(60), y]
        np.testing.assert_allclose(losses[0], -np.log(proba).mean(), rtol=1e-4)
        assert np.array_equal(model.forward(X), before)


LOADED_ALONE = """
import sys
sys.modules["pmlp_np"] = sys.modules["numpy"] = None
sys.path.insert(0, sys.argv[1])
import warnings
warnings.simplefilter("ignore")  # PyTorch misses NumPy
import torch, torch_module
saved = torch.load(sys.argv[1] + "/model.pt", weights_only=True)
module = torch_module.Model(**saved["settings"])
module.load_state_dict(saved["state"])
said = module(torch.load(sys.argv[1] + "/x.pt", weights_only=True))
torch.save(said.detach(), sys.argv[1] + "/said.pt")
"""


def test_torch_loads_where_pmlp_np_is_not(tmp_path):
    """The file with the class, copied beside a saved state, needs PyTorch alone."""
    torch = requires("torch")
    from pmlp_np.models.export import torch_module

    shutil.copy(torch_module.__file__, tmp_path)
    _, model = models("gaussian_nll", 2)
    module, x = model.to_torch(), torch.from_numpy(rows(np.random.default_rng(), 10, np.float64))
    torch.save({"settings": module.settings, "state": module.state_dict()}, tmp_path / "model.pt")
    torch.save(x, tmp_path / "x.pt")
    command = [sys.executable, "-I", "-c", LOADED_ALONE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "said.pt", weights_only=True), module(x))


@pytest.mark.usefixtures("own_formulas")
def test_torch_exports_programs_for_any_number_of_rows():
    torch = requires("torch")
    v = pm.formulas.vocabulary
    pm.register_activation("square_plus", lambda z: (0.5 * (z + v.sqrt(z * z + 1.0)),
                                                     0.5 + 0.5 * z / v.sqrt(z * z + 1.0)))  # fmt: skip
    _, model = models("cross_entropy", 3, dtype=np.float32, hidden=(4, 3), activation=("square_plus", "gelu"))
    module, rng = model.to_torch(), np.random.default_rng()
    x = torch.from_numpy(rows(rng, 5, np.float32))
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("n_samples", min=1)},))
    x = torch.from_numpy(rows(rng, 9, np.float32))
    torch.testing.assert_close(program.module()(x), module(x))


def test_torch_says_what_it_is_and_what_it_is_not():
    torch = requires("torch")
    mlp, ensemble = models("squared_error")
    assert repr(mlp) in repr(mlp.to_torch()) and repr(ensemble) in repr(ensemble.to_torch())
    x = torch.zeros(1, N_FEATURES, dtype=torch.float64)
    for method in ("predict_proba", "predict_std", "predict_quantiles"):
        with pytest.raises(ValueError, match="^this model predicts .*: use predict$"):
            getattr(mlp.to_torch(), method)(x)


# What may be missing.


@pytest.mark.parametrize(("method", "package"), [("to_onnx", "onnx"), ("to_torch", "torch"), ("to_sklearn", "sklearn")])
def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch, method, package):
    mlp, ensemble = models("squared_error", activation="tanh")
    monkeypatch.setitem(sys.modules, package, None)
    install = "pip install torch" if package == "torch" else r"pip install 'pmlp_np\[export\]'"
    for model in (mlp, ensemble):
        with pytest.raises(ImportError, match=f"^package {package}: expected one .*, got none. Run: {install}"):
            getattr(model, method)()


@pytest.mark.parametrize("target", RUNNERS)
@pytest.mark.usefixtures("own_formulas")
def test_an_activation_that_is_no_formula_is_refused(target):
    requires({"onnx": "onnx", "torch": "torch"}.get(target, "numpy"))
    pm.register_activation("by_numpy", lambda z: (np.sinh(z) * 0.0 + z, z * 0.0 + 1.0))
    mlp = random_mlp(np.random.default_rng(0), activation="by_numpy", hidden=(2,))
    message = "^activation 'by_numpy': expected a formula of operators and the vocabulary's words, "
    with pytest.raises(pm.DataError, match=message):
        RUNNERS[target](mlp, np.zeros((1, N_FEATURES)))
