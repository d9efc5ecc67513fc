"""Spaces of a search: grids, draws, conditional choices, and what is refused."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from pmlp_np.model_selection.configurations import portfolio
from pmlp_np.model_selection.space import NAMES, Space

FIRST = portfolio(True, 100)[0]
LISTS = {
    "hidden": [(4,), (3, 2), ()], "learning_rate": [0.001, 0.01], "view": ["raw", "quant+ple"], "epochs": [0.5, 1.0],
    "dropout": [0.0, 0.1, 0.2], "activation": ["relu", "tanh"],
}  # fmt: skip


def values_of(configuration):
    return configuration.member | {"view": configuration.view, "epochs": configuration.epochs}


@given(names=st.lists(st.sampled_from(sorted(LISTS)), unique=True, min_size=1), seed=st.integers(0, 2**32))
def test_lists_are_a_grid(names, seed):
    space = {name: LISTS[name] for name in names}
    found = [values_of(each) for each in Space.of(space).candidates(FIRST, seed, 3)]
    assert [tuple(each[name] for name in names) for each in found] == list(product(*space.values()))
    # What is not named is as in the first configuration; a linear member has no hidden unit to drop.
    for each in found:
        others = {name: value for name, value in values_of(FIRST).items() if name not in names}
        if each["hidden"] == () and "dropout" not in names:
            others["dropout"] = 0.0
        assert {name: each[name] for name in others} == others


def test_a_large_grid_is_drawn_without_repeats():
    space = {"learning_rate": np.linspace(0.001, 0.1, 1000), "dropout": np.linspace(0.0, 0.5, 1000)}
    found = Space.of(space).candidates(FIRST, 5, 10)
    pairs = {(each.member["learning_rate"], each.member["dropout"]) for each in found}
    assert len(found) == len(pairs) == 256 and len({rate for rate, _ in pairs}) > 150
    again = Space.of(space).candidates(FIRST, 5, 10)
    assert found == again != Space.of(space).candidates(FIRST, 6, 10)
    assert type(found[0].member["dropout"]) is float


@given(seed=st.integers(0, 2**32), n=st.integers(1, 40))
def test_distributions_are_sampled_as_by_pm_sample(seed, n):
    space = {
        "hidden": [(pm.integers(2, 9),), (pm.integers(2, 9), 4)], "learning_rate": pm.log_uniform(1e-3, 1e-1),
        "dropout": pm.uniform(0.0, 0.3), "activation": ["relu", "mish"], "optimizer": "adam",
    }  # fmt: skip
    found = Space.of(space | {"epochs": pm.uniform(0.2, 0.4), "view": ["raw", "ple"]}).candidates(FIRST, seed, n)
    expected = pm.sample(n, seed=seed, **space)
    assert len(found) == n
    for each, member in zip(found, expected, strict=True):
        spec = pm.Member(**each.member)
        assert (spec.hidden, spec.activation, spec.dropout) == (member.hidden, member.activation, member.dropout)
        assert spec.optimizer == member.optimizer and 0.2 <= each.epochs < 0.4 and each.view in ("raw", "ple")


def test_choices_beside_others_alone():
    parts = [{"optimizer": ["adam"]}, {"optimizer": ["sgd"], "momentum": [0.5, 0.9]}]
    found = [each.member for each in Space.of(parts).candidates(FIRST, 0, 9)]
    assert [each["optimizer"] for each in found] == ["adam", "sgd", "sgd"]
    assert [each.get("momentum") for each in found] == [None, 0.5, 0.9]
    # Rates are those of the optimizer that is named.
    assert not any({"learning_rate", "beta2"} & set(each) for each in found) and "beta2" in FIRST.member
    drawn = Space.of([parts[0] | {"learning_rate": pm.log_uniform(1e-3, 1e-2)}, parts[1]]).candidates(FIRST, 0, 7)
    assert [each.member["optimizer"] for each in drawn] == ["adam", "sgd", "adam", "sgd", "adam", "adam", "adam"]


def table(n=60):
    draw = np.random.default_rng()
    X = draw.normal(size=(n, 2))
    return X, X[:, 0] + 0.1 * draw.normal(size=n)


SHORT = {"time_budget": None, "max_epochs": 2, "cv": 2, "progress": False}


def test_a_search_tries_a_space():
    X, y = table()
    space = {"hidden": [(2,), 3, (3, 2)], "learning_rate": [0.01, 0.02], "batch_size": [8, None]}
    result = pm.search(X, y, space, **SHORT, max_members=100)
    tried = [
        (each.configuration.member["hidden"], each.configuration.member["learning_rate"]) for each in result.trials
    ]
    assert tried == [pair for pair in product(space["hidden"], space["learning_rate"]) for _ in range(2)]
    assert np.isfinite(result.ensemble.predict(X)).all() and "3 relu" in str(result.records())
    # In random order where not all of it fits.
    orders = {
        tuple(repr(each.configuration) for each in pm.search(X, y, space, **SHORT, max_members=6, seed=seed).trials)
        for seed in range(4)
    }
    assert len(orders) > 1 and {len(order) for order in orders} == {3}
    sampled = pm.search(X, y, {"learning_rate": pm.log_uniform(1e-3, 1e-1)}, **SHORT, max_members=8)
    assert len({each.configuration.member["learning_rate"] for each in sampled.trials}) == 4


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"hiden": [4]}, r"space: expected one of view, epochs, .*got 'hiden'. Did you mean 'hidden'\?"),
        ([{"hidden": [4]}, {"learning_rat": [1.0]}], r"space\[1\]: .*Did you mean 'learning_rate'\?"),
        ({"max_epochs": [4]}, "space: expected one of view, epochs"),
        ({"seed": [4]}, "space: expected one of view, epochs"),
        ({"hidden": []}, "hidden: expected at least one choice, got none"),
        ({"hidden": {4, 5}}, "hidden: expected one value, or a list"),
        ({"hidden": [0]}, r"space at \{'hidden': 0\}: hidden: expected a layer's width"),
        ({"view": ["raw+pl"]}, r"view of space at .*got 'pl'. Did you mean 'ple'\?"),
        ({"view": [3]}, "view of space at .*expected names of encodings"),
        ({"epochs": [0]}, "epochs of space at .*expected a share of the planned epochs"),
        ({"momentum": [0.5]}, "momentum: expected a hyperparameter of Adam"),
        ([], "space: expected a mapping of names to choices, or a list"),
        ("all", "space: expected a mapping of names to choices, or a list"),
        ([pm.Configuration(), {"hidden": [4]}], r"space\[1\]: expected a pm.Configuration"),
        ([pm.Configuration({"hiden": 4})], r"space\[0\]: hiden: expected a hyperparameter.*Did you mean 'hidden'"),
        ([pm.Configuration({"max_epochs": 4})], r"member of space\[0\]: expected no argument that a search sets"),
        ([pm.Configuration(4)], r"member of space\[0\]: expected arguments of pm.Member"),
    ],
)
def test_what_no_search_can_try_is_refused(space, said):
    X, y = table(30)
    with pytest.raises((pm.DataError, pm.SpecError), match=said):
        pm.search(X, y, space, **SHORT, max_members=4)


def test_names_are_what_members_have():
    pm.Member(**{name: getattr(pm.Member(), name) for name in NAMES if hasattr(pm.Member(), name)})
    assert {"hidden", "learning_rate", "dropout", "view", "epochs", "schedule"} < set(NAMES)


def test_configurations_without_arguments_are_members_by_default():
    configuration = pm.Configuration()
    assert configuration.hidden == (100,) and configuration.multiply_adds(3, 2) == 3.0 * (300 + 200)
    assert (
        pm.Configuration({"hidden": 7}).hidden == (7,) and pm.Configuration({"hidden": ()}).text() == "linear raw+ple"
    )


def test_averages_look_back_by_the_members_own_minibatches():
    X, y = table()
    configurations = [
        pm.Configuration({"hidden": (2,), "average": 0.99, "batch_size": size}, "raw") for size in (2, 30)
    ]
    result = pm.search(X, y, configurations, **SHORT | {"max_epochs": 20}, max_members=4)
    # 15 minibatches and one of 30 rows, in 20 epochs.
    for trial, steps in zip(result.trials, (300, 20), strict=True):
        positions = [trial.pool.ids_.tolist().index(id) for id in trial.ids.tolist()]
        assert trial.pool.specs.option("average")[positions] == pytest.approx([1.0 - 10.0 / steps] * 2)
