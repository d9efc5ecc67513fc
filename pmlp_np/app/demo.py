"""`pmlp demo`: a fit of a small table that comes with scikit-learn."""

from __future__ import annotations

from pathlib import Path

from pmlp_np.app import folder, target_scores
from pmlp_np.app.choices import Choices
from pmlp_np.app.fitting import fit_table
from pmlp_np.app.problem import Source
from pmlp_np.app.screen import Screen, bars

# Some seconds on two cores, with the same result on any machine.
_CHOICES = Choices(cv=5, max_members=40, max_epochs=30)
_TARGET = "progression"


def run_demo(out: Path, overwrite: bool, screen: Screen) -> str:
    """Run `pmlp demo`. Returns how the search ended."""
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
    records = [record for record in folder.Result(out).records if record["validation_r2"] > 0.0]
    rows = [(record["configuration"], record["validation_r2"]) for record in records]
    shown = [target_scores.shown("r2", value) for _, value in rows]
    screen.say("", bars("R² out of fold of each configuration", rows, shown, min(screen.out.width, 80)))
    screen.say("", f"Plots: {', '.join(str(path) for path in sorted((out / folder.PLOTS).glob('*.png')))}")
    return ending
