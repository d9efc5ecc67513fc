"""Train the paper's pool, 10,000 different networks, on handwritten digits; rank them and plot score against width.

Run `make demo`, or this file where pmlp_np[demo] is installed. The pool is that of the ParallelMLPs paper
(arXiv 2206.08369): one hidden layer of 1 to 100 units, ten activations, ten repeats of each.
"""

import argparse
import time
from pathlib import Path

import numpy as np
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

    figure = Figure(figsize=(10, 6), layout="constrained")
    title = f"{len(specs):,} networks trained at once on handwritten digits"
    pm.plots.score_by_size(pool, size="width", ax=figure.add_subplot(), title=title)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)
    print(f"\nThe plot, score against width: {args.out}")


if __name__ == "__main__":
    main()
