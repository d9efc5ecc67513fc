"""Pictures of docs/own_data.md: a cross-validation of 1,000 architectures as one pool, and bootstrapped replicas.

    python examples/own_data.py            # writes docs/images/cross_validation.png and docs/images/replicas.png

It needs matplotlib besides the library, and takes some seconds.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import pmlp_np as pm

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "images"
N_FOLDS, N_TEST = 5, 206
MEGAPASCALS = "compressive strength (MPa)"


class Concrete:
    """The table, rows shuffled once, features and target standardized on the rows that are trained on."""

    def __init__(self) -> None:
        table = np.genfromtxt(HERE / "data" / "concrete.csv", delimiter=",", skip_header=1)
        table = table[np.random.default_rng(0).permutation(len(table))]
        train = table[:-N_TEST]
        self.mean, self.std = train.mean(axis=0), train.std(axis=0)
        scaled = (table - self.mean) / self.std
        self.X, self.y = scaled[:-N_TEST, :-1], scaled[:-N_TEST, -1]
        self.X_test, self.y_test = scaled[-N_TEST:, :-1], scaled[-N_TEST:, -1]

    def strength(self, y: np.ndarray) -> np.ndarray:
        """In megapascals."""
        return y * self.std[-1] + self.mean[-1]


def cross_validation(data: Concrete, epochs: int) -> Figure:
    specs = pm.grid(hidden=range(1, 51), activation=pm.PAPER_ACTIVATIONS, learning_rate=[3e-3, 1e-2], repeats=N_FOLDS)
    fold_of = np.arange(len(specs)) % N_FOLDS
    architecture = np.arange(len(specs)) // N_FOLDS
    folds = np.arange(len(data.X)) % N_FOLDS
    held_out = [np.flatnonzero(folds == k) for k in range(N_FOLDS)]
    trained_on = [np.flatnonzero(folds != k) for k in range(N_FOLDS)]
    pool = pm.Pool(specs, n_features=data.X.shape[1], seed=0)
    pool.fit(data.X, data.y, epochs=epochs, rows=[trained_on[k] for k in fold_of])
    predicted = pool.out_of_fold(data.X, [held_out[k] for k in fold_of], groups=architecture)
    rmse = data.std[-1] * np.sqrt(np.mean((predicted - data.y) ** 2, axis=1))
    mean_of_folds = pool.predict(data.X_test).reshape(len(rmse), N_FOLDS, -1).mean(axis=1)
    test = data.std[-1] * np.sqrt(np.mean((mean_of_folds - data.y_test) ** 2, axis=1))

    by_kind = rmse.reshape(50, len(pm.PAPER_ACTIVATIONS), 2)
    test_by_kind = test.reshape(by_kind.shape)
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(pm.PAPER_ACTIVATIONS):
        color, dash, _ = pm.plots.ACTIVATION_LOOKS[name]
        left.plot(range(1, 51), by_kind[:, i].min(axis=1), dash, color=color, linewidth=1.4, label=name)
        right.plot(by_kind[:, i].ravel(), test_by_kind[:, i].ravel(), ".", color=color, markersize=4, alpha=0.7)
    left.set(xlabel="hidden units", ylabel="RMSE out of fold (MPa)", ylim=(4.5, 13),
             title="1,000 architectures, five folds, one pool")  # fmt: skip
    left.legend(ncols=2, fontsize=8, frameon=False)
    best = int(rmse.argmin())
    right.plot(rmse[best], test[best], "o", markersize=9, markerfacecolor="none", markeredgecolor="black",
               label=f"chosen by cross-validation: {specs.describe(best * N_FOLDS)}")  # fmt: skip
    low, high = 4.0, 13.0
    right.plot([low, high], [low, high], color="gray", linewidth=0.8, linestyle="--")
    right.set(xlabel="RMSE out of fold (MPa)", ylabel="RMSE on 206 rows set aside (MPa)", xlim=(low, high),
              ylim=(low, high), title="Does the choice hold?")  # fmt: skip
    right.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def replicas(data: Concrete, epochs: int, n_replicas: int = 1000) -> Figure:
    rng = np.random.default_rng(1)
    n = len(data.X)
    bootstraps = [rng.integers(0, n, n) for _ in range(n_replicas)]
    specs = pm.grid(hidden=40, activation="tanh", learning_rate=1e-2, repeats=n_replicas)
    pool = pm.Pool(specs, data.X.shape[1], seed=0)
    pool.fit(data.X, data.y, epochs=epochs, rows=bootstraps)

    # One mix, a day old to a year old; the other columns at their medians.
    days = np.geomspace(1, 365, 120)
    mix = np.tile(np.median(data.X, axis=0), (len(days), 1))
    mix[:, -1] = (days - data.mean[-2]) / data.std[-2]
    curves = data.strength(pool.predict(mix))
    low, middle, high = np.percentile(curves, [5, 50, 95], axis=0)

    # What the mean of those replicas misses that never saw a row, a new measurement is missed by, too.
    predicted = pool.predict(data.X)
    unseen = np.ones((n_replicas, n), bool)
    for i, rows in enumerate(bootstraps):
        unseen[i, rows] = False
    missed = data.y - np.average(predicted, axis=0, weights=unseen)
    at_test = pool.predict(data.X_test).mean(axis=0)
    bounds = at_test + np.percentile(missed, [5, 95])[:, None]
    inside = np.mean((data.y_test >= bounds[0]) & (data.y_test <= bounds[1]))

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve in curves[:40]:
        left.plot(days, curve, color="tab:blue", linewidth=0.5, alpha=0.25)
    left.fill_between(days, low, high, color="tab:blue", alpha=0.25, label="90 % of replicas")
    left.plot(days, middle, color="tab:blue", linewidth=2, label="median")
    left.set(xscale="log", xlabel="age (days)", ylabel=MEGAPASCALS, title=f"{n_replicas:,} bootstrapped replicas")
    left.set_xticks([1, 3, 7, 28, 90, 365], ["1", "3", "7", "28", "90", "365"])
    left.minorticks_off()
    left.legend(frameon=False, loc="upper left")
    order = np.argsort(at_test)
    places = np.arange(len(order))
    right.fill_between(places, *data.strength(bounds[:, order]), color="tab:blue", alpha=0.25, step="mid",
                       label="90 % interval for a new measurement")  # fmt: skip
    right.plot(places, data.strength(data.y_test[order]), ".", color="black", markersize=4,
               label=f"measured: {inside:.0%} inside")  # fmt: skip
    right.set(xlabel="206 rows set aside, by prediction", ylabel=MEGAPASCALS, title="Does the interval hold?")
    right.legend(frameon=False, loc="upper left")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go (default: docs/images)")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = Concrete()
    for name, draw in (("cross_validation", cross_validation), ("replicas", replicas)):
        path = options.folder / f"{name}.png"
        draw(data, options.epochs).savefig(path, dpi=110)
        print(f"written to {path}")


if __name__ == "__main__":
    main()
