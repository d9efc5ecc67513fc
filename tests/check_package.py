"""Build the package, look into what was built, and use it where nothing but its core dependencies is installed.

    make package                                     # or: python tests/check_package.py

Builds the sdist, and the wheel from it; holds their contents to the repository; installs the wheel into a new virtual
environment; trains, saves, loads and predicts there, outside the checkout. It needs `build`, and pip must reach an
index. Exit status 0 if all is well, else 1 and a line that says what is not.

It is used with the newest NumPy and Numba that it allows, and with the oldest: both must train to the same bits.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Tracked, and of no use to those who build from a source archive.
NOT_IN_SDIST = (".ci/", ".github/")
IN_EVERY_SDIST = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml", "docs/index.md",
                  "tests/test_packaging.py", "pmlp_np/py.typed"}  # fmt: skip
INSTALLED = {"pmlp-np", "numpy", "numba", "llvmlite"}
INSTALLERS = {"pip", "setuptools", "wheel"}

USE = """
import hashlib
import sys
from pathlib import Path
import numpy as np
import pmlp_np as pm

assert Path(pm.__file__).is_relative_to(sys.prefix), pm.__file__
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4))
y = X[:, 0] * X[:, 1]
specs = pm.grid(hidden=[(8,), (16, 8)], activation=["tanh", "relu"], learning_rate=0.01)
pool = pm.Pool(specs, n_features=4).fit(X[:200], y[:200], epochs=60, validation_data=(X[200:], y[200:]))
assert pool.leaderboard()[0]["validation_score"] < 0.7 * y[200:].std(), pool.leaderboard()
pool.save("pool.pmlp")
again = pm.load("pool.pmlp")
assert np.array_equal(again.predict(X), pool.predict(X))
best = pool.leaderboard()[0]["id"]
pool.extract(best).save("best.pmlp")
alone = pm.MLP.load("best.pmlp").predict(X)
assert np.allclose(alone, pool.predict(X, members=[best])[0], atol=1e-5)
try:
    pm.plots.loss_curves(pool)
except ImportError as error:
    assert "pip install 'pmlp_np[plots]'" in str(error), error
else:
    raise AssertionError("plots without matplotlib")
print(hashlib.sha256(pool.predict(X).tobytes()).hexdigest())
"""


class Wrong(Exception):
    """What was built is not what it should be."""


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          **options)  # fmt: skip
    if done.returncode:
        raise Wrong(f"{' '.join(str(part) for part in command)[:200]}\n{done.stdout}{done.stderr}")
    return done.stdout


def require_same(what: str, found: set[str], expected: set[str]) -> None:
    if found != expected:
        raise Wrong(f"{what}: too much {sorted(found - expected)}, missing {sorted(expected - found)}")


def tracked() -> set[str] | None:
    """The repository's files; None where this is no checkout."""
    if not (ROOT / ".git").exists():
        return None
    files = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return {file for file in files if file and (ROOT / file).is_file()}


def check_sdist(path: Path, files: set[str] | None) -> None:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    if not names >= IN_EVERY_SDIST:
        raise Wrong(f"{path.name}: missing {sorted(IN_EVERY_SDIST - names)}")
    if files is not None:
        expected = {file for file in files if not file.startswith(NOT_IN_SDIST)}
        require_same(path.name, names - {"PKG-INFO", ".gitignore"}, expected - {".gitignore"})


def check_wheel(path: Path, files: set[str] | None) -> None:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        facts = f"pmlp_np-{PROJECT['version']}.dist-info"
        meta = Parser().parsestr(archive.read(f"{facts}/METADATA").decode())
        license_text = archive.read(f"{facts}/licenses/LICENSE").decode()
    own = {f"{facts}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")}
    own |= {f"{facts}/entry_points.txt"} if "scripts" in PROJECT else set()
    package = {name for name in names if name.startswith("pmlp_np/")}
    require_same(f"{path.name}, beside the package", names - package, own)
    if files is not None:
        require_same(f"{path.name}, the package", package, {file for file in files if file.startswith("pmlp_np/")})
    if "pmlp_np/py.typed" not in names or license_text != (ROOT / "LICENSE").read_text(encoding="utf-8"):
        raise Wrong(f"{path.name}: py.typed or the license is missing")
    core = {line for line in meta.get_all("Requires-Dist") if "extra ==" not in line}
    require_same("core dependencies", {line.split(">")[0].split("<")[0] for line in core}, {"numpy", "numba"})
    require_same("extras", set(meta.get_all("Provides-Extra")), set(PROJECT["optional-dependencies"]))
    require_same("license", {meta["License-Expression"]}, {"BSD-3-Clause"})
    require_same("version", {meta["Version"]}, {PROJECT["version"]})


def oldest() -> list[str]:
    """Return the oldest versions of the core dependencies that are allowed, as pip takes them."""
    bounds = {}
    for line in PROJECT["dependencies"]:
        name, _, least = line.split(",")[0].partition(">=")
        bounds[name] = least + ".0" * (2 - least.count("."))
    return [f"{name}=={least}" for name, least in bounds.items()]


def check_use(wheel: Path, folder: Path, pinned: Sequence[str] = ()) -> str:
    """Install the wheel where nothing else is, with these versions of its dependencies, and use it.

    Returns the versions that were installed, and the hash of what was trained.
    """
    folder.mkdir()
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", folder / "venv")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary",
        ":all:", wheel, *pinned)  # fmt: skip
    run(python, "-m", "pip", "check")
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"))
    names = {entry["name"].lower().replace("_", "-") for entry in listed}
    require_same("installed beside the package", names - INSTALLERS, INSTALLED)
    work = folder / "work"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PMLP_CACHE_DIR"] = str(folder / "cache")
    bits = run(python, "-c", USE, cwd=work, env=environment).split()[-1]
    # A command without the packages that it needs says in a line how to get them.
    for script in PROJECT.get("scripts", {}):
        done = subprocess.run([python.parent / script, "--help"], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, cwd=work, env=environment)  # fmt: skip
        said = done.stdout + done.stderr
        if "Traceback" in said or "pmlp_np[app]" not in said:
            raise Wrong(f"{script} without its extra: {said}")
    core = sorted(f"{entry['name']} {entry['version']}" for entry in listed if entry["name"] in ("numpy", "numba"))
    return f"{' and '.join(core)}: {bits}"


def main() -> None:
    files = tracked()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = folder / "built"
        try:
            run(sys.executable, "-m", "build", "--outdir", built, ROOT, cwd=folder)
            (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
            check_sdist(sdist, files)
            check_wheel(wheel, files)
            print(f"{sdist.name} and {wheel.name} hold what they should")
            with ThreadPoolExecutor() as executor:
                pinned = {"newest": [], "oldest": oldest()}
                found = list(executor.map(lambda name: check_use(wheel, folder / name, pinned[name]), pinned))
            if len({each.rpartition(" ")[2] for each in found}) > 1:
                raise Wrong(f"not the same bits with {found}")
            print(f"{wheel.name} trains, saves, loads and predicts, to the same bits, with")
            print("\n".join(each.rpartition(": ")[0] for each in found))
        except Wrong as wrong:
            sys.exit(f"The package is not as it should be: {wrong}")


if __name__ == "__main__":
    main()
