"""One first fit of the paper's pool in this process, as one line of JSON: how long, how long again, how much memory.

    python -m benchmarks.fresh_process N_FEATURES

Started by `core_speed` in a new process each time: compilation and peak memory can be seen nowhere else.
"""

import json
import sys

import pmlp_np as pm
from benchmarks.common import PAPER_REPEATS, PAPER_WIDTHS, peak_memory, regression_data, seconds


def main() -> None:
    n_features = int(sys.argv[1])
    specs = pm.grid(
        hidden=[(width,) for width in PAPER_WIDTHS],
        activation=pm.PAPER_ACTIVATIONS,
        repeats=PAPER_REPEATS,
        optimizer=pm.SGD(learning_rate=1e-3),
    )
    x, y = regression_data(n_features, 1000)
    pool = pm.Pool(specs, n_features=n_features)

    def fit() -> None:
        pool.fit(x, y, epochs=1, batch_size=32, shuffle=None, progress=False)

    first = seconds(fit)
    memory = peak_memory()
    print(json.dumps({"first_fit_seconds": first, "second_fit_seconds": seconds(fit), "peak_memory_bytes": memory}))


if __name__ == "__main__":
    main()
