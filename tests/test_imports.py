"""Imports: what `import pmlp_np` loads, and who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pmlp_np

PACKAGE = Path(pmlp_np.__file__).parent

# From the foundation up: a module imports, at its top, only from its own folder and from those before it. Within a
# folder, and all in all, no circle of imports is allowed.
FLOORS = (
    "base", "formulas", "specs", "data", "models", "state", "backends", "training", "pool", "model_selection",
    "estimators", "plots", "report", "", "app", "__main__",
)  # fmt: skip
CONCRETE = ("backends.numba", "backends.cupy", "backends.reference")
OPTIONAL = (
    "torch", "sklearn", "pandas", "matplotlib", "tqdm", "rich", "scipy", "cupy", "dask", "onnx", "typer", "pyarrow",
    "skops", "onnxruntime",
)  # fmt: skip
# The command line's own, which nothing but it imports, and app.main itself late.
OF_THE_APP = {"app.cli": {"typer"}, "app.screen": {"rich"}}
# Files that an optional package can't do without; nobody imports them at its top.
LATE = {"models.export.torch_module": "torch", "estimators.pool_estimators": "sklearn"}


def name_of(path):
    """Nothing for the package, "backends.numba" for its __init__.py, "backends.contract" for backends/contract.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def inside(name, folder):
    return name == folder or name.startswith(folder + ".")


def own_imports(name, path):
    """(module of this package, whether at the module's top) for each import in a file."""
    tree = ast.parse(path.read_text())
    late = {
        node for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in ast.walk(f)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            # `from package import module` imports the module, `from module import thing` its parent.
            targets = [
                f"{node.module}.{alias.name}" if own(f"{node.module}.{alias.name}") in MODULES else node.module
                for alias in node.names
            ]
        else:
            continue
        found += [(own(target), node not in late) for target in targets if own(target) is not None]
    return found


def own(target):
    """A dotted name without the package's own, or None for other packages."""
    package, _, rest = target.partition(".")
    return rest if package == "pmlp_np" else None


IMPORTS = {name: own_imports(name, path) for name, path in MODULES.items()}


def floor_of(name):
    """The place in FLOORS of a module's folder; the package's own face has the name ""."""
    folder = name.partition(".")[0]
    assert folder in FLOORS, f"{name!r} is in no folder that FLOORS lists: give it one"
    return FLOORS.index(folder)


def violations():
    """Imports at a module's top of a module of a later folder."""
    for name, found in IMPORTS.items():
        for target, at_top in found:
            if at_top and floor_of(target) > floor_of(name):
                yield f"{name} imports {target}"


def circle(graph):
    """The modules of a circle of imports, in order; an empty list where there is none."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        path.append(name)
        for target in graph[name]:
            found = visit(target)
            if found:
                return found
        done.add(path.pop())
        return []

    return next((found for found in map(visit, graph) if found), [])


def test_imports_were_found():
    assert ("base.errors", True) in IMPORTS["pool.pool"]
    assert ("backends", True) in IMPORTS["pool.pool"]
    assert ("backends.numba.backend", False) in IMPORTS["backends"]
    assert all(target in MODULES for found in IMPORTS.values() for target, _ in found)
    assert len(MODULES) > 30


def test_modules_import_only_from_their_own_folder_and_those_before_it():
    assert list(violations()) == []


def test_another_order_would_be_noticed(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "FLOORS", FLOORS[::-1])
    assert len(set(violations())) >= len(FLOORS)


def test_no_imports_go_in_a_circle():
    """Late ones included: they are for optional packages and for a quick start, not for undoing knots."""
    # `from package import module` within a package is that module's import, which stands beside it.
    graph = {name: [target for target, _ in found if target != name] for name, found in IMPORTS.items()}
    assert circle(graph) == []
    assert "app.fitting" in graph["app.cli"], "late imports are in the graph"
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c"]
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_no_two_files_have_one_name():
    """But for a folder's own file, and those parts of a backend that each of them has."""
    names = [path.stem for path in MODULES.values() if path.stem not in ("__init__", "backend")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_concrete_backends_never_import_each_other():
    for name, found in IMPORTS.items():
        for backend in CONCRETE:
            if inside(name, backend):
                others = [
                    target for target, _ in found for other in CONCRETE if other != backend and inside(target, other)
                ]
                assert not others, f"{name} imports {others}"


def test_concrete_backends_are_known_to_nobody_but_the_factory():
    for name, found in IMPORTS.items():
        for target, at_top in found:
            for backend in CONCRETE:
                if inside(target, backend) and not inside(name, backend):
                    assert name == "backends" and not at_top, f"{name} imports {target}"


def test_formulas_know_no_backend_and_no_pool():
    for name, found in IMPORTS.items():
        if inside(name, "formulas"):
            assert {target.partition(".")[0] for target, _ in found} <= {"formulas", "base"}, name


def test_only_the_numba_backend_imports_numba():
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            if {module.partition(".")[0] for module in modules} & {"numba", "llvmlite"}:
                assert inside(name, "backends.numba"), name


def test_optional_packages_are_imported_late():
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            found = {module.partition(".")[0] for module in modules} & set(OPTIONAL)
            assert found <= OF_THE_APP.get(name, {LATE.get(name)}), name


def test_files_that_need_an_optional_package_are_imported_late():
    for late in LATE:
        importers = [(name, at_top) for name, found in IMPORTS.items() for target, at_top in found if target == late]
        assert importers and not any(at_top for _, at_top in importers), importers


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_app_is_known_to_nobody():
    for name, found in IMPORTS.items():
        if not inside(name, "app") and name != "__main__":
            assert not [target for target, _ in found if inside(target, "app")], name
    assert {target for target, at_top in IMPORTS["app.main"] if at_top} == {"app.exit_codes"}
    assert not IMPORTS["app.exit_codes"], "without Typer, app.main must load"


def test_import_loads_neither_numba_nor_any_optional_package():
    script = "import sys; before = set(sys.modules); import pmlp_np; print(*sorted(set(sys.modules) - before))"
    loaded = {module.partition(".")[0] for module in run(script)}
    assert "pmlp_np" in loaded and "numpy" in loaded
    assert not loaded & {"numba", "llvmlite", *OPTIONAL}
    # Beside NumPy nothing but the standard library.
    assert {module for module in loaded if not module.startswith("_")} - set(sys.stdlib_module_names) == {
        "numpy",
        "pmlp_np",
    }


def test_making_a_pool_loads_no_numba_and_training_no_optional_package():
    script = f"""
import sys
import numpy as np
import pmlp_np as pm
pool = pm.Pool(pm.grid(hidden=[2, 3]) + pm.sample(2), 3)
pool.leaderboard(); repr(pool); pool.subset([0]); pm.concat([pool, pool])
assert "numba" not in sys.modules, "a pool that computes nothing needs no Numba"
pool.fit(np.zeros((4, 3)), np.zeros(4), validation_data=(np.ones((2, 3)), np.ones(2))).predict(np.zeros((4, 3)))
str(pool.leaderboard())
assert "numba" in sys.modules
print(*[name for name in {OPTIONAL!r} if name in sys.modules])
"""
    # Where SciPy is installed, Numba loads it for its linear algebra.
    assert set(run(script)) <= {"scipy"}
