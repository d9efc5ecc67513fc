"""What encoded columns bring: an epoch of members of the searches' portfolio, on an encoded table and on its inputs.

    python -m benchmarks.encoded_columns            # writes benchmarks/results/encoded_columns.json
    python -m benchmarks.encoded_columns --quick    # few repeats; printed only, or written to --output

"plain" is the same table without the encoded columns: what the rest of a member takes. The three take turns.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pmlp_np as pm
from benchmarks.common import RESULTS, machine, seconds, spread
from pmlp_np.data.encoded import EncodedTable, Encoding

_MEMBERS, _ROWS = 8, 8192
_OPTIONS: dict[str, Any] = {
    "activation": "relu", "optimizer": "adam", "learning_rate": 4e-3, "beta2": 0.95, "decoupled_weight_decay": 0.2,
    "dropout": 0.1, "average": 0.99, "schedule": "cosine", "max_epochs": 10000,
}  # fmt: skip


class Case(NamedTuple):
    """Members with hidden layers of one width, on so many columns of so many bins, and as many plain ones."""

    columns: int
    bins: int
    hidden: tuple[int, ...]
    batch_size: int = 64
    feature_scale: bool = False

    def name(self) -> str:
        hidden = "-".join(map(str, self.hidden))
        return f"{self.columns} columns of {self.bins} bins, {hidden}, batch {self.batch_size}" + (
            ", scales" if self.feature_scale else ""
        )


CASES = (
    Case(8, 48, (128, 128)),
    Case(8, 48, (128, 128), feature_scale=True),
    Case(8, 48, (128, 128), batch_size=256),
    Case(8, 48, (256, 256)),
    Case(8, 16, (128, 128)),
    Case(20, 24, (128, 128)),
    Case(20, 8, (64, 64)),
    Case(5, 48, (128,)),
)


def table(case: Case, draw: np.random.Generator) -> EncodedTable:
    encoding = Encoding(case.columns, tuple(draw.uniform(size=case.bins) for _ in range(case.columns)))
    numbers = draw.normal(size=(_ROWS, encoding.n_numbers))
    numbers[:, case.columns :: 2] = draw.integers(0, case.bins, (_ROWS, case.columns))
    numbers[:, case.columns + 1 :: 2] = draw.uniform(size=(_ROWS, case.columns))
    return EncodedTable.checked(numbers.astype(np.float32), encoding)


def measured(case: Case, repeats: int) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    encoded = table(case, draw)
    y = draw.normal(size=_ROWS).astype(np.float32)
    forms: dict[str, Any] = {
        "plain": np.ascontiguousarray(encoded.plain), "inputs": encoded.expanded(), "encoded": encoded,
    }  # fmt: skip
    member = pm.Member(hidden=case.hidden, feature_scale=case.feature_scale, **_OPTIONS)
    how = {"epochs": 1, "batch_size": case.batch_size, "progress": False}
    pools = {name: pm.Pool([member] * _MEMBERS, X.shape[1]).fit(X, y, **how) for name, X in forms.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, X in forms.items():
            times[name].append(seconds(lambda pool=pools[name], X=X: pool.partial_fit(X, y, **how)))
    found = {name: spread(values) for name, values in times.items()}
    ratios = [a / b for a, b in zip(times["inputs"], times["encoded"], strict=True)]
    return {"case": case.name(), **case._asdict(), **found, "gain": spread(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description="An epoch on encoded tables, and on their inputs.")
    parser.add_argument("--quick", action="store_true", help="few repeats; written only to --output")
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/encoded_columns.json)")
    options = parser.parse_args()
    output = options.output or (None if options.quick else RESULTS / "encoded_columns.json")
    found = []
    for case in CASES[:2] if options.quick else CASES:
        found.append(line := measured(case, 2 if options.quick else 9))
        times = ", ".join(f"{name} {1e3 * line[name]['median']:.0f} ms" for name in ("plain", "inputs", "encoded"))
        print(f"{line['case']}: {times}: {line['gain']['median']:.2f} times as fast", flush=True)
    if output:
        facts = {"members": _MEMBERS, "rows": _ROWS, "machine": machine() | {"pmlp_np": pm.__version__}}
        output.write_text(json.dumps({"what": (__doc__ or "").strip(), "cases": found, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
