"""The C header, beside its numbers: compilers and standards, names, memory, and outputs that are no numbers."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import c_header
import pmlp_np as pm
from c_header import compiled
from exported import N_FEATURES, random_mlp, rows
from page_blocks import FENCE, printed_by, python_blocks

NAMES = ["age", 'weight of\na "person"', "ärger", "what??/", "*/ end", "%d"]


def models(loss, n_outputs=1, **settings):
    """A network, and an ensemble of two."""
    rng = np.random.default_rng()
    mlps = [random_mlp(rng, loss, n_outputs, **settings) for _ in range(2)]
    return mlps[0], pm.Ensemble(mlps, [1, 2])


def build(folder, source, *options, names=("cc", "gcc", "clang")):
    """Compile a program beside a header; its output."""
    (folder / "main.c").write_text(source)
    command = [c_header.compiler(names), *options, "main.c", "-o", "main", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return subprocess.run([str(folder / "main")], capture_output=True, timeout=100, check=True).stdout


@pytest.mark.parametrize("loss", ["gaussian_nll", "quantile", "cross_entropy", "binary_cross_entropy"])
def test_it_compiles_as_cpp_too(tmp_path, loss):
    for model in models(loss, 2, dtype=np.float32):
        model.to_c(tmp_path / "net.h", input_names=NAMES)
        source = '#include "net.h"\n#include <cstdio>\nint main() { float x[6] = {}, raw[9]; (void)raw; net_'
        call = "predict(x);" if loss == "cross_entropy" else (
            "predict_proba(x, raw);" if loss == "binary_cross_entropy" else "predict_values(x, raw);")  # fmt: skip
        build(tmp_path, f'{source}{call} puts("fine"); }}', "-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror",
              names=("c++", "g++", "clang++"))  # fmt: skip


@pytest.mark.parametrize("names", [NAMES, [f"{name}, a  name of several words" for name in NAMES]])
def test_names_come_out_as_they_went_in(tmp_path, names):
    model = models("cross_entropy", 3, dtype=np.float32)[0]
    model.to_c(tmp_path / "net.h", input_names=names, class_names=["a", "ü\t", '"'])
    source = """#include "net.h"
#include <stdio.h>
int main(void) { int i;
    for (i = 0; i < NET_N_FEATURES; ++i) { fputs(net_feature_names[i], stdout); putchar(0); }
    for (i = 0; i < NET_N_OUTPUTS; ++i) { fputs(net_class_names[i], stdout); putchar(0); }
    return 0; }"""
    for more in ([], ["-trigraphs"]):
        said = build(tmp_path, source, "-std=c99", *more).decode().split("\0")
        assert said == [*names, "a", "ü\t", '"', ""]
    numbered = model.to_c(class_names=[-7, 2**40, 0])
    assert "static const long long model_class_names[3] = {\n    -7LL, 1099511627776LL, 0LL\n};" in numbered
    smallest = model.to_c(class_names=[-(2**63), 2**63 - 1, 0])
    assert "(-9223372036854775807LL - 1), 9223372036854775807LL, 0LL" in smallest
    c_header.compiled(smallest, "model")


@pytest.mark.parametrize(("file", "prefix"), [
    ("net.h", "net"), ("my net.h", "model"), ("3d.h", "model"), ("_x.h", "model"), ("double.h", "double"),
    ("ärger.h", "model"), ("a_1", "a_1"),
])  # fmt: skip
def test_functions_are_called_as_the_file_is(tmp_path, file, prefix):
    model = models("squared_error", dtype=np.float32)[1]
    text = model.to_c(tmp_path / file)
    assert (tmp_path / file).read_text(encoding="utf-8") == text
    assert model.to_c(prefix=prefix) == text
    X = rows(np.random.default_rng(), 5, np.float32)
    found = compiled(text, prefix).rows("predict", X, ())
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-4, atol=1e-4)
    assert set(re.findall(r"static (?:const|inline) [\w *]*?\b(\w+?)_\w+[\[(]", text)) <= {prefix, prefix.split("_")[0]}


def test_it_says_how_much_memory_it_takes(tmp_path):
    """Constants and buffers are what the compiled file holds, and nothing is allocated."""
    w = [np.ones((4, 50), np.float32), np.ones((50, 20), np.float32), np.ones((20, 1), np.float32)]
    mlp = pm.MLP(w, [np.ones(50, np.float32), np.ones(20, np.float32), np.ones(1, np.float32)], "tanh")
    text = mlp.to_c(tmp_path / "net.h")
    assert f"{4 * (200 + 1000 + 20 + 71) / 1000:.1f} kB of constants, 400 bytes of buffers" in text
    for word in ("malloc(", "calloc(", "alloca(", "stdlib"):
        assert word not in text
    assert re.findall("#include.*", text) == ["#include <math.h>"]
    assert text.count("NET_BUFFER float one[50];") == text.count("NET_BUFFER float two[50];") == 1


def test_buffers_may_lie_on_the_stack(tmp_path):
    """Then calls may meet: a function that is called in the middle of another changes nothing there."""
    model = models("squared_error", dtype=np.float32, hidden=(5, 4), activation="tanh", chosen=True)[0]
    text = model.to_c()
    X = rows(np.random.default_rng(), 8, np.float32)
    found = compiled("#define MODEL_BUFFER\n" + text).rows("predict", X, ())
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_outputs", [1, 2, 3])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_no_label_is_made_of_what_is_no_number(loss, n_outputs):
    if loss == "cross_entropy" and n_outputs == 1:
        n_outputs = 4
    X = np.zeros((3, N_FEATURES), np.float32)
    X[1], X[2] = np.nan, np.inf
    for model in models(loss, n_outputs, dtype=np.float32, hidden=(5,), activation="identity", chosen=False):
        functions = compiled(model.to_c())
        name = "predict" if "predict_labels" not in functions.names else "predict_labels"
        found = functions.rows(name, X, () if name == "predict" else (n_outputs,))
        probabilities = functions.rows("predict_proba", X, (n_outputs,))
        assert (found[0] >= 0).all() and (found[1] == -1).all()
        assert np.isnan(probabilities[1]).all() and np.isfinite(probabilities[0]).all()
        # Infinities of both signs meet in the second row's sums.
        undefined = np.isnan(probabilities[2]).any() if loss == "cross_entropy" else np.isnan(probabilities[2])
        assert np.array_equal(found[2] == -1, undefined)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"input_names": ["a"]}, "^input_names: expected a name for each of 6 columns, got 1"),
    ({"input_names": ["a", "b", "c", "d", "e", "e"]}, r"^input_names\[5\]: expected a name that no other column has"),
    ({"prefix": "a b"}, "^prefix: expected ASCII letters, .* got 'a b'"),
    *(({"prefix": odd}, "^prefix: ") for odd in ("", 3, "_a", "ä", "a-b", "9a", "a\n")),
    ({"class_names": ["a", "b"]}, "^class_names: expected a name for each of 3 classes, got 2"),
])  # fmt: skip
def test_names_that_do_not_fit_are_refused(arguments, message):
    for model in models("cross_entropy", 3):
        with pytest.raises(pm.DataError, match=message):
            model.to_c(**arguments)


def test_the_pages_program_runs(tmp_path, monkeypatch):
    """That of docs/models_out.md: with buffers as they are, on the stack, and one for each thread."""
    page = (Path(__file__).parents[1] / "docs" / "models_out.md").read_text(encoding="utf-8")
    (block,) = (block for block in python_blocks(page, "models_out.md") if "to_c(" in block.code)
    (source,) = (fence[2] for fence in FENCE.finditer(page) if fence[1] == "c")
    monkeypatch.chdir(tmp_path)
    printed_by(block, {"__name__": "__main__"})
    for buffer in (None, "", "static _Thread_local"):
        define = "" if buffer is None else f"#define QUADRANT_BUFFER {buffer}\n"
        said = build(tmp_path, define + source, "-std=c11", *c_header.WARNINGS)
        assert said == b"inside\n"
