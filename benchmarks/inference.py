"""Predictions of the paper's pool, of ten members, of one, and of the mean, beside the same networks elsewhere.

    python -m benchmarks.inference            # writes benchmarks/results/inference.json
    python -m benchmarks.inference --quick    # few repeats; written only to --output

The same weights in every method: `pool.predict`, the extracted `pm.MLP`, ONNX Runtime (a session per model),
scikit-learn's MLPRegressor and PyTorch, the last three one model after another. Outputs must agree with a float64 NumPy
forward before a method is timed. 10,000 models elsewhere are estimated from a sample; ten and one are a sample of
the pool, too: each is timed alone and the mean is taken. scikit-learn knows four of the ten activations; only these
are in its sample.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pmlp_np as pm
from benchmarks.common import (
    ACTIVATIONS,
    PAPER_REPEATS,
    PAPER_WIDTHS,
    RESULTS,
    Architecture,
    Weights,
    available_cores,
    cpu_seconds_of_others,
    machine,
    regression_data,
    spread,
)
from benchmarks.plain import plain_forward

FEATURES = (10, 100)
ROWS = (1, 1000)
# Float32 against float64, relative to the largest output; a wrong formula makes 1e-3 and more.
TOLERANCE = 2e-5
# A value at hardshrink's kink may round to its other side: half of one weight of the output layer.
_SHARE_AT_KINKS = 1e-3
_ROUND_SECONDS = 0.02
SKLEARN_ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}

Predict = Callable[[np.ndarray], np.ndarray]


class Effort(NamedTuple):
    rounds: int
    sample_widths: int  # of the models elsewhere; all activations of each
    widths: Sequence[int] = PAPER_WIDTHS  # of the pool
    repeats: int = PAPER_REPEATS


FULL = Effort(rounds=9, sample_widths=20)
QUICK = Effort(rounds=3, sample_widths=5)


def median_of_rounds(call: Callable[[], object], rounds: int) -> float:
    """Seconds of a call, the median over rounds of enough calls to be read off a clock."""
    call()
    began = time.perf_counter()
    call()
    count = max(1, int(_ROUND_SECONDS / max(time.perf_counter() - began, 1e-7)))
    values = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count):
            call()
        values.append((time.perf_counter() - start) / count)
    return spread(values)["median"]


def agree(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether outputs are those of the float64 forward, but for rounding."""
    off = np.abs(found - expected) > TOLERANCE * max(1.0, float(np.abs(expected).max()))
    return found.shape == expected.shape and float(off.mean()) <= _SHARE_AT_KINKS


def pytorch_models(architectures: Sequence[Architecture], weights: Sequence[Weights], n_threads: int) -> list[Predict]:
    import torch

    from benchmarks.peers.pytorch_sequential import build

    torch.set_num_threads(n_threads)

    def predict(model: Any) -> Predict:
        def run(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return model(torch.from_numpy(x)).numpy()[:, 0]

        return run

    return [predict(build(name, w).eval()) for (_, name), w in zip(architectures, weights, strict=True)]


def onnx_models(architectures: Sequence[Architecture], weights: Sequence[Weights], n_threads: int) -> list[Predict]:
    from benchmarks.peers.onnx_runtime import session

    sessions = [session(a, w, n_threads) for a, w in zip(architectures, weights, strict=True)]
    return [lambda x, s=s: s.run(None, {"x": x})[0][:, 0] for s in sessions]


def sklearn_models(architectures: Sequence[Architecture], weights: Sequence[Weights], n_threads: int) -> list[Predict]:
    from sklearn.neural_network import MLPRegressor

    found = []
    for (width, name), w in zip(architectures, weights, strict=True):
        model = MLPRegressor(hidden_layer_sizes=(width,), activation=SKLEARN_ACTIVATIONS[name])
        # What a fit would have left behind.
        model.coefs_, model.intercepts_ = w.matrices, w.biases
        model.n_layers_, model.n_outputs_, model.out_activation_ = 3, 1, "identity"
        model.n_features_in_ = len(w.matrices[0])
        found.append(model.predict)
    return found


OTHERS: dict[str, Callable[..., list[Predict]]] = {
    "onnxruntime": onnx_models,
    "pytorch": pytorch_models,
    "sklearn": sklearn_models,
}


class Case(NamedTuple):
    """A pool, and a sample of its members by id."""

    pool: pm.Pool
    architectures: list[Architecture]
    sample: list[int]
    effort: Effort

    def weights(self, id: int) -> Weights:
        mlp = self.pool.extract(id)
        return Weights(mlp.weights, mlp.biases)


def a_case(n_features: int, effort: Effort) -> Case:
    grid = pm.grid(hidden=list(effort.widths), activation=pm.PAPER_ACTIVATIONS, repeats=effort.repeats)
    pool = pm.Pool(grid, n_features)
    widths = np.linspace(effort.widths[0], effort.widths[-1], effort.sample_widths).round().astype(int).tolist()
    architectures = [(w, a) for w in effort.widths for a in ACTIVATIONS for _ in range(effort.repeats)]
    sample = [i for i in range(0, len(pool), effort.repeats) if architectures[i][0] in widths]
    return Case(pool, architectures, sample, effort)


def measure_others(case: Case, x: np.ndarray, expected: dict[int, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Mean seconds of one model, for each method with the number of threads that suits it better."""
    found: dict[str, dict[str, Any]] = {}
    for name, build in OTHERS.items():
        ids = [i for i in case.sample if name != "sklearn" or case.architectures[i][1] in SKLEARN_ACTIVATIONS]
        for n_threads in sorted({1, available_cores()}):
            models = build([case.architectures[i] for i in ids], [case.weights(i) for i in ids], n_threads)
            right = all(agree(model(x), expected[i]) for model, i in zip(models, ids, strict=True))

            def one_after_another(models: list[Predict] = models) -> None:
                for model in models:
                    model(x)

            mean = median_of_rounds(one_after_another, case.effort.rounds) / len(models)
            if name not in found or mean < found[name]["seconds_of_one"]:
                found[name] = {"seconds_of_one": mean, "agrees": right, "n_threads": n_threads, "models": len(ids)}
            if name == "sklearn":
                break  # NumPy's threads are not its to choose
    return found


def measure_own(case: Case, x: np.ndarray, expected: dict[int, np.ndarray]) -> dict[str, Any]:
    """Seconds of the library's ways to predict, and whether they agree."""
    pool, rounds = case.pool, case.effort.rounds
    everything = pool.predict(x)
    mlps = [pool.extract(i) for i in case.sample]
    ones = [pool.subset([i]) for i in case.sample]
    ten = case.sample[:: max(1, len(case.sample) // 10)][:10]
    few = pool.subset(ten)
    agrees = {
        "pool": all(agree(everything[i], expected[i]) for i in case.sample),
        "ten": all(agree(found, expected[i]) for found, i in zip(few.predict(x), ten, strict=True)),
        "one": all(agree(one.predict(x)[0], expected[i]) for one, i in zip(ones, case.sample, strict=True)),
        "mlp": all(agree(mlp.predict(x), expected[i]) for mlp, i in zip(mlps, case.sample, strict=True)),
        "mean": agree(pool.predict(x, reduce="mean"), everything.mean(axis=0, dtype=np.float64)),
    }
    del everything

    def each(models: Sequence[Any]) -> float:
        def one_after_another() -> None:
            for model in models:
                model.predict(x)

        return median_of_rounds(one_after_another, rounds) / len(models)

    return {
        "agrees": agrees,
        "seconds": {
            "pool": median_of_rounds(lambda: pool.predict(x), rounds),
            "mean": median_of_rounds(lambda: pool.predict(x, reduce="mean"), rounds),
            "ten": median_of_rounds(lambda: few.predict(x), rounds),
            "one": each(ones),
            "mlp": each(mlps),
        },
    }


def measure(n_features: int, n_rows: int, effort: Effort) -> dict[str, Any]:
    case = a_case(n_features, effort)
    x = np.ascontiguousarray(regression_data(n_features, n_rows)[0])
    expected = {i: plain_forward(case.architectures[i], case.weights(i), x) for i in case.sample}
    began, by_others = time.perf_counter(), cpu_seconds_of_others()
    own = measure_own(case, x, expected)
    others = measure_others(case, x, expected)
    busy = (cpu_seconds_of_others() - by_others) / (time.perf_counter() - began)
    best = min((name for name in others if others[name]["agrees"]), key=lambda name: others[name]["seconds_of_one"])
    alone = others[best]["seconds_of_one"]
    seconds = own["seconds"]
    return {
        "n_features": n_features,
        "n_rows": n_rows,
        "n_members": len(case.pool),
        "n_threads": available_cores(),
        "cores_busy_with_other_work": busy,
        "own": own,
        "others": others,
        "best_of_others": best,
        "times_as_fast": {
            "pool": len(case.pool) * alone / seconds["pool"],
            "ten": 10 * alone / seconds["ten"],
            "one": alone / min(seconds["one"], seconds["mlp"]),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats; written only to --output")
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/inference.json)")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    output = options.output or (None if options.quick else RESULTS / "inference.json")
    shown = {"rounds": effort.rounds, "sample_widths": effort.sample_widths}
    results: dict[str, Any] = {"what": (__doc__ or "").strip(), "effort": shown, "cells": []}
    results["machine"] = machine() | {"pmlp_np": pm.__version__}
    for n_features in FEATURES:
        for n_rows in ROWS:
            cell = measure(n_features, n_rows, effort)
            results["cells"].append(cell)
            print(json.dumps({k: v for k, v in cell.items() if k != "n_members"}, indent=1), flush=True)
            if output:
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
