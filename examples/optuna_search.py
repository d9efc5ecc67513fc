"""Optuna's sampler asks for many trials at once, and one pool trains and scores them all.

    python examples/optuna_search.py            # 4 rounds of 256 trials on the concrete table

It needs optuna besides the library. A sampler that learns from trials learns once a round: a round is a pool, whose
members train side by side, so that 256 of them take little longer than one takes elsewhere.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import optuna

import pmlp_np as pm

HERE = Path(__file__).resolve().parent
N_TEST = 206


def proposed(trial: optuna.Trial) -> pm.Member:
    """The member that a trial stands for."""
    layers = trial.suggest_int("layers", 1, 2)
    optimizer = trial.suggest_categorical("optimizer", ["adam", "sgd"])
    more: dict[str, Any] = {"schedule": "cosine"}
    if optimizer == "sgd":
        more["momentum"] = trial.suggest_float("momentum", 0.0, 0.95)
    return pm.Member(
        hidden=(trial.suggest_int("width", 4, 64, log=True),) * layers,
        activation=trial.suggest_categorical("activation", ["relu", "tanh", "mish"]),
        optimizer=optimizer,
        learning_rate=trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True),
        **more,
    )


def search(
    X: np.ndarray, y: np.ndarray, rounds: int, trials: int, epochs: int, progress: bool | str = "auto"
) -> optuna.Study:
    """The study of rounds of trials, each scored by R² on a quarter of the rows."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    validation = np.arange(len(X)) % 4 == 0
    for number in range(rounds):
        asked = [study.ask() for _ in range(trials)]
        pool = pm.Pool([proposed(trial) for trial in asked], X.shape[1], seed=number)
        pool.fit(X[~validation], y[~validation], epochs=epochs, progress=progress)
        for trial, score in zip(asked, pool.score(X[validation], y[validation], "r2"), strict=True):
            # A member that diverged has no score, and Optuna keeps it as a failed trial.
            if np.isnan(score):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, score)
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=256, help="of a round")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = np.genfromtxt(HERE / "data" / "concrete.csv", delimiter=",", skip_header=1)
    table = table[np.random.default_rng(0).permutation(len(table))]
    train, test = table[:-N_TEST], table[-N_TEST:]
    mean, std = train.mean(axis=0), train.std(axis=0)
    scaled = (train - mean) / std
    study = search(scaled[:, :-1], scaled[:, -1], arguments.rounds, arguments.trials, arguments.epochs)
    best = proposed(optuna.trial.FixedTrial(study.best_params))
    print(f"{len(study.trials)} trials, best R² {study.best_value:.3f}: {best}")
    pool = pm.Pool([best] * 10, scaled.shape[1] - 1, seed=1)
    pool.fit(scaled[:, :-1], scaled[:, -1], epochs=arguments.epochs)
    scaled = (test - mean) / std
    predicted = pool.predict(scaled[:, :-1], reduce="mean")
    r2 = 1.0 - np.mean((predicted - scaled[:, -1]) ** 2) / scaled[:, -1].var()
    print(f"R² of the mean of ten such members on other rows: {r2:.3f}")


if __name__ == "__main__":
    main()
