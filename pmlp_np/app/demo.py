"""`pmlp demo`: a fit of a small table that comes with scikit-learn."""

from __future__ import annotations

from pathlib import Path

from pmlp_np.app import folder, target_scores
from pmlp_np.app.choices import Choices
from pmlp_np.app.fitting import fit_table
from pmlp_np.app.problem import Source
from pmlp_np.app.screen import Screen, bars

# A pool that is trained in some seconds on two cores.
_CHOICES = Choices(widths=(4, 16, 64), depths=(1, 2), activations=("identity", "tanh", "relu", "silu"),
                   learning_rates=(0.003, 0.01), repeats=2, epochs=150, patience=20, time_budget=10.0)  # fmt: skip
_TARGET = "progression"


def run_demo(out: Path, overwrite: bool, screen: Screen) -> str:
    """Run `pmlp demo`. Returns how training ended."""
    try:
        from sklearn.datasets import load_diabetes
    except ImportError as error:
        raise ImportError("the demo's table comes with scikit-learn: pip install 'pmlp_np[app]'") from error
    folder.check_target(out, overwrite)
    table = out.with_name(out.name + ".csv")
    data = load_diabetes(as_frame=True, scaled=False)
    frame = data.frame.rename(columns={"target": _TARGET})
    text = frame.to_csv(index=False, lineterminator="\n")
    # The table may be there from an earlier demo that was interrupted.
    if not (table.is_file() and table.read_bytes() == text.encode()):
        with folder.whole_file(table, overwrite) as draft:
            folder.write_text(draft, text)
    screen.say(
        f"Of {len(frame)} people with diabetes: how the disease progresses within a year, from ten measurements.",
        f"The table is {table}; the command is pmlp fit {table} --target {_TARGET} --out {out}", "",
    )  # fmt: skip
    ending = fit_table(Source(str(table), _TARGET), _CHOICES, out, overwrite, screen)
    if screen.json or not (out / folder.RUN).exists():
        return ending
    best: dict[str, float] = {}
    for record in folder.Result(out).records:
        best[record["activation"]] = max(best.get(record["activation"], 0.0), record["validation_r2"])
    rows = sorted(best.items(), key=lambda item: -item[1])
    shown = [target_scores.shown("r2", value) for _, value in rows]
    screen.say("", bars("Validation R², the best member of each activation", rows, shown, min(screen.out.width, 80)))
    screen.say("", f"Plots: {', '.join(str(path) for path in sorted((out / folder.PLOTS).glob('*.png')))}")
    return ending
