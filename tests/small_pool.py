"""The small pool of the tests of the public face: four members as different as can be, and data for every loss."""

import numpy as np

import pmlp_np as pm

N, F = 50, 4
MEMBERS = [
    pm.Member(hidden=(5, 4), activation=("tanh", "relu"), learning_rate=0.05),
    pm.Member(hidden=(), optimizer=pm.SGD(momentum=0.9)),
    pm.Member(hidden=20, activation="gelu", bias=False, optimizer=pm.AdamW(learning_rate=0.01)),
    pm.Member(hidden=3, activation="sigmoid", optimizer=pm.SGD(learning_rate=0.1), seed=5),
]


def draw_x(n=N, seed=0):
    return np.random.default_rng(seed).normal(size=(n, F)).astype(np.float32)


def draw_y(loss="squared_error", outputs=1, n=N, seed=1):
    draw = np.random.default_rng(seed)
    if loss == "cross_entropy":
        return draw.integers(0, outputs, n)
    shape = n if outputs == 1 else (n, outputs)
    return draw.normal(size=shape) if loss == "squared_error" else draw.integers(0, 2, shape)


X, Y = draw_x(), draw_y()
VALIDATION = draw_x(30, 2), draw_y(n=30, seed=3)


def pool_of(loss="squared_error", outputs=1, dtype="float32", **settings):
    return pm.Pool(MEMBERS, F, n_outputs=outputs, loss=loss, seed=3, ids=[10, 7, 30, 20], dtype=dtype, **settings)


def trained(loss="squared_error", outputs=1, dtype="float32", epochs=3, **settings):
    return pool_of(loss, outputs, dtype).fit(X, draw_y(loss, outputs), epochs=epochs, batch_size=8, **settings)


def bits(pool, weights=None):
    """Everything a pool has learned, as bytes by id."""
    found = {}
    for i in pool.ids_.tolist():
        mlp = pool.extract(i, weights)
        found[i] = b"".join(array.tobytes() for array in mlp.weights + mlp.biases)
    return found


def same_history(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)
