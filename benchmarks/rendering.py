"""What pages drawn from committed results share: numbers in words, text between markers, pictures that name their data.

A page holds `<!-- NAME:begin -->` and `<!-- NAME:end -->`; what lies between is written by a script, never by hand. A
picture carries the SHA-256 of the results it was drawn from, so that a test sees when it is out of date.
"""

import hashlib
from pathlib import Path
from typing import Any

_DIGEST = "Source SHA-256"


def count(number: int) -> str:
    return f"{number:,}"


def seconds(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f} s"
    if value >= 10:
        return f"{value:.1f} s"
    return f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.2g} ms"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if ratio >= 1.95 else f"{ratio:.2f}×"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def source(machine: dict[str, Any]) -> str:
    """Where and when the figures were measured, in a sentence, from `common.machine()`."""
    names = {"numpy": "NumPy", "numba": "Numba", "torch": "PyTorch", "jax": "JAX", "scikit-learn": "scikit-learn",
             "onnxruntime": "ONNX Runtime"}  # fmt: skip
    software = [
        f"{title} {machine['versions'][name]}" for name, title in names.items() if machine["versions"].get(name)
    ]
    return (
        f"Measured on {machine['date'][:10]}: {machine['processor']}, {machine['cores']} cores; "
        f"Python {machine['python']}, {', '.join(software)}."
    )


def between_markers(page: str, name: str, text: str) -> str:
    """The page with `text` between the markers of `name`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise ValueError(f"expected {begin} and then {end} in the page, each once")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def digest(results: Path) -> str:
    """SHA-256 of a results file."""
    return hashlib.sha256(results.read_bytes()).hexdigest()


def save_picture(figure: Any, path: Path, results: Path) -> None:
    """Save a Matplotlib figure as PNG that names the results it was drawn from."""
    figure.savefig(path, dpi=140, metadata={_DIGEST: digest(results)})


def is_drawn_from(picture: Path, results: Path) -> bool:
    """Whether the picture carries the digest of these results (in a PNG text chunk, which is not compressed)."""
    return f"{_DIGEST}\0{digest(results)}".encode("latin-1") in picture.read_bytes()
