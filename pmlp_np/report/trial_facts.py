"""What was tried: leaderboard, learning curves, sizes, and what the ensemble is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pmlp_np.model_selection.trials import Trial
from pmlp_np.report.evidence import Found

_MOST_CURVES, _MOST_POINTS = 6, 60


def trial_facts(result: Found) -> list[dict[str, Any]]:
    """Return a record of each trial, best first.

    trial, configuration, loss, loss_spread (None where a number is not finite), weight, parameters (of a member),
    epochs, seconds, status.
    """
    return [
        {
            "trial": int(record["trial"]), "configuration": str(record["configuration"]),
            "loss": finite(record["loss"]), "loss_spread": finite(record["loss_spread"]),
            "weight": float(record["weight"]), "parameters": int(record["parameters"]),
            "epochs": int(record["epochs"]), "seconds": float(record["seconds"]), "status": str(record["status"]),
        }
        for record in result.records()
    ]  # fmt: skip


def finite(value: float) -> float | None:
    """Return a number, None for NaN and infinity, which JSON has not."""
    return float(value) if math.isfinite(value) else None


def learning_curves(result: Found) -> list[dict[str, Any]]:
    """Return the training loss of the configurations with the largest weights, mean over folds.

    Records: configuration, points [epoch, loss] (at most 60). [] where pools have no history.
    """
    order = [int(i) for i in np.argsort(-result.weights, kind="stable") if result.weights[i] > 0.0]
    curves = []
    for i in order[:_MOST_CURVES]:
        trial = result.trials[i]
        losses = trial.pool.history_.get("loss", np.zeros((len(trial.pool), 0)))
        of_folds = losses[_positions(trial)]
        of_folds = of_folds[:, np.isfinite(of_folds).all(axis=0)]
        if of_folds.shape[1]:
            mean = of_folds.mean(axis=0, dtype=np.float64)
            epochs = np.unique(np.linspace(0, len(mean) - 1, min(len(mean), _MOST_POINTS)).round().astype(int))
            points = [[int(epoch) + 1, float(mean[epoch])] for epoch in epochs]
            curves.append({"configuration": trial.configuration.text(), "points": points})
    return curves


def composition(result: Found) -> dict[str, Any]:
    """Return what the ensemble is made of.

    configurations, networks, parameters: how many. shares: by "view", "activation" and "hidden" pairs [value, share of
    the weight], largest first.
    """
    used = [int(i) for i in np.flatnonzero(result.weights)]
    parameters = {record["trial"]: int(record["parameters"]) for record in result.records()}
    networks = [len(result.trials[i].ids) for i in used]
    shares = {name: _shares(result, used, name) for name in ("hidden", "activation", "view")}
    return {
        "configurations": len(used), "networks": sum(networks),
        "parameters": sum(parameters[i] * n for i, n in zip(used, networks, strict=True)), "shares": shares,
    }  # fmt: skip


def _shares(result: Found, used: list[int], name: str) -> list[list[Any]]:
    found: dict[str, float] = {}
    for i in used:
        text = _text(result.trials[i], name)
        found[text] = found.get(text, 0.0) + float(result.weights[i])
    return [[text, found[text]] for text in sorted(found, key=lambda text: (-found[text], text))]


def _text(trial: Trial, name: str) -> str:
    if name == "view":
        return trial.configuration.view
    member = trial.pool.specs[int(_positions(trial)[0])]
    if not member.hidden:
        return "linear"
    if name == "hidden":
        return "-".join(map(str, member.hidden))
    return member.activation if isinstance(member.activation, str) else "-".join(member.activation)


def _positions(trial: Trial) -> np.ndarray:
    """Return where a trial's members stand in their pool."""
    return np.flatnonzero(np.isin(trial.pool.ids_, trial.ids))
