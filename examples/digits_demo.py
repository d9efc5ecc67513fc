"""Train the paper's pool, 10,000 different networks, on handwritten digits; rank them and plot score against width.

Run `make demo`, or this file where pmlp_np[demo] is installed. The pool is that of the ParallelMLPs paper
(arXiv 2206.08369): one hidden layer of 1 to 100 units, ten activations, ten repeats of each.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from activation_lines import ACTIVATION_LINES
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pmlp_np as pm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("demo/digits.png"), help="where the plot goes")
    parser.add_argument("--members-quick", action="store_true", help="a pool of 100 members instead of 10,000")
    args = parser.parse_args()

    # Training rows fit the weights, validation rows choose the member, test rows judge the choice.
    X, y = load_digits(return_X_y=True)
    X = X / 16  # gray levels 0...16
    X_rest, X_test, y_rest, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    X_train, X_val, y_train, y_val = train_test_split(X_rest, y_rest, test_size=0.25, stratify=y_rest, random_state=0)
    print(f"Digits: {len(X_train)} training, {len(X_val)} validation and {len(X_test)} test images of 8 x 8 pixels.")

    widths, repeats = ([1, 2, 3, 5, 8, 13, 21, 35, 60, 100], 1) if args.members_quick else (range(1, 101), 10)
    specs = pm.grid(
        hidden=[(width,) for width in widths],  # a tuple is one network's hidden layers, a list the choices
        activation=pm.PAPER_ACTIVATIONS,
        optimizer=pm.Adam(learning_rate=0.01),
        repeats=repeats,
    )
    pool = pm.Pool(specs, n_features=64, n_outputs=10, loss="cross_entropy", seed=0)
    print(f"Training {len(specs):,} different networks for {args.epochs} epochs, each as if it were alone.")
    started = time.perf_counter()
    pool.fit(X_train, y_train, epochs=args.epochs, batch_size=32, validation_data=(X_val, y_val), progress=True)
    seconds = time.perf_counter() - started
    print(f"Trained in {seconds:.1f} s, {len(specs) / seconds:,.0f} networks a second.\n")

    leaderboard = pool.leaderboard()
    print("rank      id  width  activation  parameters  validation loss  validation accuracy")
    for record in leaderboard[:10]:
        print(
            f"{record['rank']:4d}  {record['id']:6d}  {record['hidden'][0]:5d}  {record['activation']:<10}"
            f"  {record['parameters']:10,d}  {record['validation_loss']:15.4f}  {record['validation_score']:19.2%}"
        )

    best = leaderboard[0]
    validation_accuracy = best["validation_score"]
    mlp = pool.extract(best["id"])  # stands alone: NumPy only
    test_accuracy = np.mean(mlp.predict(X_test) == y_test)
    print(f"\nThe best member: id {best['id']}, {best['hidden'][0]} {best['activation']} units")
    print(f"  validation accuracy {validation_accuracy:7.2%}  optimistic: chosen from {len(specs):,} by this score")
    print(f"  test accuracy       {test_accuracy:7.2%}  fair: these images had no part in training or choosing")

    plot_scores(
        [record["hidden"][0] for record in leaderboard],
        [record["activation"] for record in leaderboard],
        [record["validation_score"] for record in leaderboard],
        args.out,
    )
    print(f"\nThe plot, score against width: {args.out}")


def plot_scores(widths: Sequence[int], activations: Sequence[str], scores: Sequence[float], path: Path) -> None:
    """Save a picture of score against width: a dot per member, a line per activation through the mean."""
    all_widths, all_activations, all_scores = np.array(widths), np.array(activations), np.array(scores)
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.add_subplot()
    means_at_widest = {}
    for position, (name, (color, dash)) in enumerate(ACTIVATION_LINES.items()):
        of_name = all_activations == name
        x, y = all_widths[of_name], all_scores[of_name]
        beside = 1 + 0.012 * (position - 4.5)  # dots of one width stand side by side, not on top of each other
        axes.scatter(x * beside, y, s=5, color=color, alpha=0.2, linewidths=0)
        steps = np.unique(x)
        # Neighbors within a tenth count too: one image more or less would make the line of ten repeats jagged.
        means = [y[np.abs(x - step) <= 0.1 * step].mean() for step in steps]
        axes.plot(steps, means, color=color, linestyle=dash, linewidth=2, label=name)
        means_at_widest[name] = means[-1]

    # Logarithms of the width and of the odds: 1 to 2 units and 98 to 99 % are as visible as 10 to 50 %.
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_yscale("logit")
    axes.set_ylim(0.05, 0.995)
    axes.set_yticks([0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99])
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("units in the hidden layer")
    axes.set_ylabel("validation accuracy")
    axes.set_title(f"{len(scores):,} networks trained at once on handwritten digits", loc="left", weight="bold")
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    ranked = sorted(lines, key=lambda name: means_at_widest[name], reverse=True)
    axes.legend(
        [lines[name] for name in ranked],
        [f"{name}  {means_at_widest[name]:.1%}" for name in ranked],
        title=f"activation, and the mean\nnear {max(widths)} units",
        alignment="left",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
