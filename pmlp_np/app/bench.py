"""`pmlp bench`: the speed of training on this machine, compared with other installed packages.

All packages train the same networks from the same initial weights on the same minibatches: plain SGD on squared error,
one hidden layer of 1 to 100 units. Other packages train a sample of the networks, one after another. Their times are
comparable only if they end with the same weights, which is checked.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.app.environment import available_threads
from pmlp_np.app.screen import Screen, table

_ROWS, _FEATURES, _BATCH, _RATE = 1000, 10, 32, 0.01
_ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu")
_SAMPLE, _ROUNDS = 20, 5
# Tolerance of weights of magnitude 1 after 32 steps in float32: packages round in different orders.
_AGREES = 1e-4

Weights = tuple[list[np.ndarray], list[np.ndarray]]


def run_bench(n_members: int, threads: int | None, screen: Screen) -> None:
    """Run `pmlp bench`."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(_ROWS, _FEATURES)).astype(np.float32)
    y = np.sin(X.sum(axis=1)).astype(np.float32)
    specs = pm.sample(n_members, hidden=pm.integers(1, 100), activation=list(_ACTIVATIONS),
                      optimizer=pm.SGD(learning_rate=_RATE))  # fmt: skip
    pool = pm.Pool(specs, _FEATURES)
    sample = np.unique(np.linspace(0, n_members - 1, _SAMPLE).astype(int)).tolist()
    initial = [pool.extract(i) for i in sample]

    def fit() -> None:
        pool.fit(X, y, batch_size=_BATCH, shuffle=None, progress=False, n_threads=threads, on_interrupt="raise")

    with screen.busy("Training with pmlp_np"):
        fit()  # compiles
        ours = min(_seconds(fit) for _ in range(_ROUNDS)) / n_members
    trained = [pool.extract(i) for i in sample]
    records: list[dict[str, Any]] = [
        {"method": "pmlp_np", "seconds_per_1000": 1000 * ours, "times": 1.0, "trained": n_members}
    ]
    for name, package, train in _PEERS:
        if importlib.util.find_spec(package) is None:
            records.append({"method": name, "note": "not installed"})
            continue
        with screen.busy(f"Training with {name}"):
            seconds, distance = _peer(train, initial, trained, X, y)
        record = {"method": name, "seconds_per_1000": 1000 * seconds, "times": seconds / ours, "trained": len(sample)}
        records.append(record | ({"note": f"weights differ by {distance:.2g}"} if distance > _AGREES else {}))
    n_threads = threads or available_threads()
    screen.say(
        "Seconds for 1,000 networks (1 to 100 units, four activations, SGD, float32) to pass once over",
        f"{_ROWS:,} rows of {_FEATURES} features in minibatches of {_BATCH}; {n_threads} threads.",
        "",
        table([("", "left"), ("seconds", "right"), ("times as long", "right"), ("", "left")], [*map(_line, records)]),
    )
    same = all("differ" not in r.get("note", "") for r in records)
    if same and len([r for r in records if "times" in r]) > 1:
        screen.say("", "All end with the same weights, to rounding. More: docs/benchmarks.md")
    screen.document(
        {"rows": _ROWS, "features": _FEATURES, "batch_size": _BATCH, "threads": n_threads, "results": records}
    )


def _line(record: dict[str, Any]) -> list[str]:
    if "times" not in record:
        return [record["method"], "-", "-", record["note"]]
    note = record.get("note", f"measured on {record['trained']:,}")
    return [record["method"], f"{record['seconds_per_1000']:.3g}", f"{record['times']:.3g}", note]


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peer(train: Callable[..., tuple[float, Weights]], initial: list[pm.MLP], trained: list[pm.MLP], X: np.ndarray,
          y: np.ndarray) -> tuple[float, float]:  # fmt: skip
    """Return (seconds per network, the largest difference of a trained weight from that of pmlp_np)."""
    train(initial[0], X, y)  # loads the package
    seconds, distance = 0.0, 0.0
    for mlp, expected in zip(initial, trained, strict=True):
        elapsed, (weights, biases) = train(mlp, X, y)
        seconds += elapsed
        pairs = zip(weights + biases, expected.weights + expected.biases, strict=True)
        distance = max(distance, max(float(np.abs(peer - reference).max()) for peer, reference in pairs))
    return seconds / len(initial), distance


def _sklearn(mlp: pm.MLP, X: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
    from sklearn.neural_network import MLPRegressor

    name = {"sigmoid": "logistic"}.get(mlp.activation[0], mlp.activation[0])
    # scikit-learn's loss is half the squared error.
    model = MLPRegressor(
        hidden_layer_sizes=mlp.hidden,
        activation=name,
        solver="sgd",
        learning_rate_init=2 * _RATE,
        batch_size=_BATCH,
        shuffle=False,
        alpha=0.0,
        momentum=0.0,
        nesterovs_momentum=False,
    )
    model.partial_fit(X[:_BATCH], y[:_BATCH])
    for array, values in zip(model.coefs_ + model.intercepts_, mlp.weights + mlp.biases, strict=True):
        array[...] = values
    seconds = _seconds(lambda: model.partial_fit(X, y))
    return seconds, (list(model.coefs_), list(model.intercepts_))


def _torch(mlp: pm.MLP, X: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
    import torch
    from torch import nn

    kinds = {"identity": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
    model = nn.Sequential(nn.Linear(_FEATURES, mlp.hidden[0]), kinds[mlp.activation[0]](), nn.Linear(mlp.hidden[0], 1))
    layers = [model[0], model[2]]
    with torch.no_grad():
        for layer, w, b in zip(layers, mlp.weights, mlp.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)
    x, target = torch.from_numpy(X), torch.from_numpy(y)[:, None]
    loss = nn.MSELoss()

    def epoch() -> None:
        for start in range(0, len(x), _BATCH):
            optimizer.zero_grad()
            loss(model(x[start : start + _BATCH]), target[start : start + _BATCH]).backward()
            optimizer.step()

    # Networks this small are faster on one thread.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _seconds(epoch)
    finally:
        torch.set_num_threads(threads)
    return seconds, (
        [layer.weight.detach().numpy().T for layer in layers],
        [layer.bias.detach().numpy() for layer in layers],
    )


_PEERS: tuple[tuple[str, str, Callable[..., tuple[float, Weights]]], ...] = (
    ("scikit-learn, one after another", "sklearn", _sklearn),
    ("PyTorch, one after another", "torch", _torch),
)
