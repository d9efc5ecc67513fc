"""The picture of docs/own_data.md: a cross-validation of 1,000 architectures as one pool.

    python examples/own_data.py            # writes docs/images/cross_validation.png

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
        color, dash, _ = pm.plots.ACTIVATION_STYLES[name]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the picture goes (default: docs/images)")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = Concrete()
    path = options.folder / "cross_validation.png"
    cross_validation(data, options.epochs).savefig(path, dpi=110)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
