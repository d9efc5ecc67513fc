"""Search spaces: a grid is the product of its choices, member by member; a sample is drawn as it says, repeatably."""

import inspect
import itertools
import math
import re
from decimal import Context, Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import requires
from pmlp_np.base.errors import MemoryNeededError, SpecError
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, SGD, Adam, AdamW
from pmlp_np.specs.members import Member, Specs
from pmlp_np.specs.search_space import PAPER_ACTIVATIONS, grid, integers, log_uniform, sample, uniform

ACTIVATION = st.sampled_from(list(ACTIVATIONS))


def several(values):
    return st.lists(values, min_size=1, max_size=3)


@st.composite
def spaces(draw):
    """Arguments of grid, each one value or a list of choices, in any order."""
    depth = draw(st.integers(0, 3))
    hidden = st.tuples(*[st.integers(1, 9)] * depth)
    if depth == 1:
        hidden |= st.integers(1, 9)
    rate, decay = st.sampled_from([1e-3, 0.1, 1]), st.sampled_from([0.0, 0.5])
    fields = {
        "hidden": hidden,
        "activation": ACTIVATION | st.tuples(*[ACTIVATION] * depth),
        "bias": st.booleans(),
        "initializer": st.sampled_from(list(INITIALIZERS)),
        "optimizer": st.sampled_from([None, "adam", Adam(beta1=0.5), AdamW(), "AdamW"])
        if draw(st.booleans())
        else st.sampled_from([SGD(), SGD(0.5, 0.9, True), "sgd", Adam()]),
        "batch_size": st.none() | st.integers(1, 64),
        "seed": st.none() | st.integers(0, 2**64 - 1),
        "learning_rate": rate,
        "weight_decay": decay,
    }
    names = draw(st.permutations(list(fields)))
    chosen = names[: draw(st.integers(0, len(names)))]
    if "hidden" not in chosen:
        chosen = [name for name in chosen if name != "activation"]
    return {name: draw(fields[name] | several(fields[name])) for name in chosen}


def product_of_members(space, repeats):
    hyperparameters = [name for name in space if name in HYPERPARAMETERS]
    order = ["hidden", "activation", "bias", "initializer", "optimizer", *hyperparameters, "batch_size", "seed"]
    names = [name for name in order if name in space]
    choices = [space[name] if isinstance(space[name], list) else [space[name]] for name in names]
    return [
        Member(**dict(zip(names, values, strict=True))) for *values, _ in itertools.product(*choices, range(repeats))
    ]


@given(spaces(), st.integers(1, 3))
@example({}, 1)
@example({"hidden": [(), (3,), (4, 5)], "bias": [True, False], "learning_rate": [0.1, 0.2], "activation": ["relu"]}, 2)
def test_a_grid_is_the_product_of_members(space, repeats):
    specs = grid(**space, repeats=repeats)
    expected = product_of_members(space, repeats)
    assert list(specs) == expected
    assert specs == Specs.from_members(expected)


def test_the_papers_pool():
    assert PAPER_ACTIVATIONS == [
        "identity",
        "sigmoid",
        "tanh",
        "relu",
        "leaky_relu",
        "elu",
        "gelu",
        "selu",
        "hardshrink",
        "mish",
    ]
    specs = grid(hidden=[(h,) for h in range(1, 101)], activation=PAPER_ACTIVATIONS, repeats=10)
    assert repr(specs) == "10,000 members: widths 1-100, depth 1, 10 activations, adam"
    assert specs == grid(hidden=range(1, 101), activation=PAPER_ACTIVATIONS, repeats=10)
    assert specs[0] == specs[9] == Member(1, "identity")
    assert specs[10] == Member(1, "sigmoid")
    assert specs[9_999] == Member(100, "mish")


def test_lists_ranges_and_arrays_are_choices_and_a_tuple_is_one_value():
    assert [m.hidden for m in grid(hidden=(64, 32))] == [(64, 32)]
    assert [m.hidden for m in grid(hidden=[64, 32])] == [(64,), (32,)]
    assert [m.hidden for m in grid(hidden=[(64, 32), 8, ()])] == [(64, 32), (8,), ()]
    assert [m.hidden for m in grid(hidden=range(1, 4))] == [(1,), (2,), (3,)]
    assert [m.hidden for m in grid(hidden=np.array([4, 2], np.uint8))] == [(4,), (2,)]
    assert [m.hidden for m in grid(hidden=np.array([[4, 2], [3, 1]]))] == [(4, 2), (3, 1)]
    assert [m.hidden for m in grid(hidden=np.array(4))] == [(4,)]
    assert [m.activation for m in grid(hidden=(3, 4), activation=("relu", "tanh"))] == [("relu", "tanh")]
    assert [m.activation for m in grid(activation=np.array(["relu", "tanh"]))] == ["relu", "tanh"]
    assert [m.bias for m in grid(bias=np.array([False, True]))] == [False, True]
    assert [m.batch_size for m in grid(batch_size=np.array([8, 16]))] == [8, 16]
    assert [m.seed for m in grid(seed=range(3))] == [0, 1, 2]
    assert [m.optimizer.learning_rate for m in grid(learning_rate=np.array([0.1, 0.2]))] == [0.1, 0.2]
    assert [m.optimizer.learning_rate for m in grid(learning_rate=range(1, 3))] == [1.0, 2.0]
    assert [m.optimizer for m in grid(optimizer=np.array([SGD(), Adam()]))] == [SGD(), Adam()]


def test_data_frames_columns_are_choices():
    pandas = requires("pandas")
    table = pandas.DataFrame({"width": [3, 5], "name": ["relu", "tanh"]})
    assert list(grid(hidden=table["width"])) == [Member(3), Member(5)]
    assert list(grid(activation=table["name"])) == [Member(activation="relu"), Member(activation="tanh")]


def test_a_million_members_are_columns_not_objects():
    specs = grid(hidden=range(1, 101), activation=PAPER_ACTIVATIONS, learning_rate=np.logspace(-4, -1, 10), repeats=100)
    assert len(specs) == 1_000_000
    assert specs.nbytes < 300 * len(specs)
    assert specs[-1] == Member(100, "mish", learning_rate=np.logspace(-4, -1, 10)[-1])
    assert specs.parameter_counts(10, 1).sum() == 10_000 * (sum(range(1, 101)) * 12 + 100)
    drawn = sample(1_000_000, hidden=integers(1, 100), learning_rate=log_uniform(1e-4, 1e-1))
    assert drawn.nbytes < 300 * len(drawn)


REFUSED_GRIDS = [
    ({"hidden": [3, (4, 0)], "repeats": 5}, "member 5: hidden[1]: expected a layer's width, or a tuple of widths"),
    ({"hidden": [3, (4, 0)], "repeats": 5}, "got (4, 0). hidden=64 is one layer"),
    ({"hidden": np.array([3, -3]), "activation": ["relu", "tanh"]}, "member 2: hidden[1]: expected "),
    ({"hidden": range(3)}, "member 0: hidden[0]: expected "),
    (
        {"hidden": [[64, 32]]},
        "got [64, 32]. Lists, ranges and arrays are choices, for pm.grid and pm.sample; a tuple is one",
    ),
    ({"hidden": np.array([1.0, 2.0])}, "each a whole number from 1 to 16777216, got 1.0."),
    ({"hidden": []}, "hidden: expected at least one choice, got none. Leave hidden out for its default."),
    ({"hidden": {3, 4}}, "hidden: expected one value, or a list, range or array of choices, got {3, 4}. Make a list"),
    ({"activation": dict(relu=1)}, "activation: expected one value, or a list, range or array of choices"),
    ({"learning_rate": iter([1, 2])}, "learning_rate: expected one value, or a list, range or array of choices"),
    (
        {"learning_rate": np.ones((2, 2))},
        "learning_rate: expected choices in one dimension, got an array of shape (2, 2).",
    ),
    (
        {"hidden": np.ones((2, 2, 2), int)},
        "hidden: expected choices in one dimension, got an array of shape (2, 2, 2).",
    ),
    ({"hidden": [3, 4], "activation": ["relu", "rleu"]}, "member 1: activation[1]: expected one of identity, "),
    ({"hidden": [3, 4], "activation": ["relu", "rleu"]}, "got 'rleu'. Did you mean 'relu'?"),
    (
        {"hidden": [(3, 4), 5], "activation": [("relu", "tanh")]},
        "member 1: activation: expected one name, or a tuple of "
        "one per layer for the 1 hidden layer of hidden=(5,), got ('relu', 'tanh').",
    ),
    (
        {"learning_rate": [0.1, -1], "batch_size": [1, 2]},
        "member 2: learning_rate[1]: expected a finite number, above 0, got -1. For example learning_rate=0.01.",
    ),
    (
        {"learning_rate": np.array([0.1, np.nan])},
        "member 1: learning_rate[1]: expected a finite number, above 0, got nan.",
    ),
    ({"learning_rate": np.array([True])}, "above 0, got True."),
    ({"learning_rate": -1}, "learning_rate: expected a finite number, above 0, got -1."),
    ({"learning_rate": uniform(0.1, 0.2)}, "got uniform(0.1, 0.2). A distribution belongs to pm.sample"),
    ({"hidden": (integers(1, 3), 4)}, "got (integers(1, 3), 4)."),
    ({"optimizer": ["adam", SGD(), SGD(learning_rate=-1)], "seed": [1, 2]}, "member 4: optimizer[2]: learning_rate: "),
    (
        {"optimizer": ["adam", "sdg"]},
        "member 1: optimizer[1]: expected one of sgd, adam, adamw, rmsprop, nadam, got 'sdg'. Did you mean",
    ),
    (
        {"optimizer": [SGD(), Adam()], "momentum": [0.1]},
        "momentum: expected a hyperparameter of Adam (learning_rate, beta1, "
        "beta2, eps, weight_decay), got 'momentum'. Optimizers with momentum: pm.SGD, pm.RMSprop.",
    ),
    ({"bias": [True, 0]}, "member 1: bias[1]: expected True or False, got 0."),
    ({"bias": np.array([0, 1])}, "member 0: bias[0]: expected True or False, got 0."),
    ({"initializer": ["pytorch", "he"]}, "member 1: initializer[1]: expected one of pytorch, "),
    (
        {"batch_size": [None, 0]},
        "member 1: batch_size[1]: expected a whole number of rows, at least 1, or None, got 0.",
    ),
    (
        {"seed": [0, -1], "repeats": 3},
        "member 3: seed[1]: expected a whole number from 0 to 2**64 - 1, or None, got -1.",
    ),
    ({"repeats": 0}, "repeats: expected a whole number, at least 1, got 0. For example repeats=10."),
    ({"repeats": 2.0}, "repeats: expected a whole number, at least 1, got 2.0."),
    ({"repeats": True}, "repeats: expected a whole number, at least 1, got True."),
    (
        {"repeat": 3},
        "repeat: expected a hyperparameter of Adam (learning_rate, beta1, beta2, eps, weight_decay), got "
        "'repeat'. Did you mean 'repeats'?",
    ),
]


@pytest.mark.parametrize(("space", "message"), REFUSED_GRIDS)
def test_a_bad_grid_is_refused_by_member_argument_and_choice(space, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        grid(**space)


def test_a_grid_that_would_not_fit_is_refused_before_it_is_built():
    with pytest.raises(MemoryNeededError, match="a need of .* TB. It has 1,000,000,000,000 members: give fewer"):
        grid(hidden=range(1, 10**9 + 1), repeats=1000)
    with pytest.raises(MemoryNeededError, match="sample: .* It has 1,000,000,000,000 members: draw fewer."):
        sample(10**12)


def test_a_sample_without_choices_is_copies_of_the_default():
    assert list(sample(3)) == list(sample(np.int8(3))) == [Member()] * 3
    assert (
        list(sample(2, hidden=(3, 4), activation=("relu", "tanh"), bias=False, momentum=0.5, optimizer="sgd"))
        == [Member((3, 4), ("relu", "tanh"), False, optimizer=SGD(momentum=0.5))] * 2
    )


@given(spaces(), st.integers(0, 2**70))
def test_a_sample_has_only_members_of_the_grid(space, seed):
    space.pop("seed", None)
    specs = sample(30, seed=seed, **space)
    assert len(specs) == 30
    assert set(specs) <= set(grid(**space))


def test_choices_are_equally_likely_and_independent():
    n = 40_000
    specs = sample(n, hidden=[1, 2, 3], activation=["relu", "tanh"])
    is_tanh = specs.activations == list(ACTIVATIONS).index("tanh")
    counts = np.bincount(2 * (specs.widths - 1) + is_tanh, minlength=6)
    # Six cells, each binomial: five standard deviations.
    assert np.abs(counts - n / 6).max() < 5 * math.sqrt(n / 6 * 5 / 6)


def test_the_seed_decides_and_arguments_and_n_do_not_disturb_each_other():
    space = {"hidden": integers(1, 100), "activation": PAPER_ACTIVATIONS, "learning_rate": log_uniform(1e-4, 1e-1)}
    specs = sample(200, seed=3, **space)
    assert specs == sample(200, seed=3, **dict(reversed(space.items())))
    assert specs[:50] == sample(50, seed=3, **space)
    assert specs != sample(200, seed=4, **space)
    with_more = sample(200, seed=3, **space, beta1=uniform(0.5, 1.0), batch_size=[16, None])
    assert np.array_equal(with_more.widths, specs.widths)
    assert np.array_equal(with_more.hyperparameter("learning_rate"), specs.hyperparameter("learning_rate"))
    assert not np.array_equal(with_more.hyperparameter("beta1"), specs.hyperparameter("beta1"))


def test_a_draw_is_the_same_on_every_machine():
    specs = sample(3, seed=7, hidden=integers(1, 100), learning_rate=log_uniform(1e-4, 1e-1), beta1=uniform(0.0, 1.0))
    rates, betas = specs.hyperparameter("learning_rate"), specs.hyperparameter("beta1")
    assert specs.widths.tolist() == [99, 100, 92]
    assert [rate.hex() for rate in rates] == ["0x1.6e1ab0687ce99p-13", "0x1.a9a9d66799092p-10", "0x1.33c127f430794p-8"]
    assert [beta.hex() for beta in betas] == ["0x1.9dfa2afa72ffap-1", "0x1.9597b9f419091p-1", "0x1.68b7475615028p-2"]


@given(st.floats(1e-12, 1e6), st.floats(1.0 + 1e-9, 1e12), st.integers(0, 2**32))
@example(1e-300, 1e300, 0)
def test_log_uniform_is_exp_of_a_uniform_logarithm(low, ratio, seed):
    high = low * ratio
    draws = log_uniform(low, high).rvs(50, seed)
    assert (low <= draws).all() and (draws < high).all()
    # Forty digits: a difference of logarithms in floats would be further off than the draws.
    exact = Context(prec=40)
    log_ratio = exact.ln(exact.divide(Decimal(high), Decimal(low)))
    u = np.random.default_rng(seed).random(50)
    expected = [float(Decimal(low) * exact.exp(exact.multiply(Decimal(float(x)), log_ratio))) for x in u]
    # The power's exponent is rounded, and an error in it becomes as many times larger as the exponent is.
    np.testing.assert_allclose(draws, expected, rtol=np.finfo(float).eps * (4 + float(log_ratio)))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(0, 2**32))
def test_uniform_stays_within_its_bounds_and_fills_them(low, span, seed):
    high = low + span
    draws = uniform(low, high).rvs(1000, seed)
    assert (low <= draws).all() and (draws < high).all()
    assert draws.min() < low + 0.05 * span and draws.max() > high - 0.05 * span


def with_draws(distribution, u):
    """What the distribution makes of one draw u from [0, 1)."""

    class Fixed(np.random.Generator):
        def random(self, size=None):
            return u

    return distribution.rvs(random_state=Fixed(np.random.PCG64()))


def test_uniform_never_reaches_its_upper_bound():
    largest = 1.0 - 2.0**-53
    assert 0.5 + (1.0 - 0.5) * largest == 1.0
    assert 7.0 + np.floor(largest * 3.0) == 9.0
    for make in (uniform, log_uniform):
        assert with_draws(make(0.5, 1.0), largest) < 1.0
        assert with_draws(make(0.5, 1.0), 0.0) == 0.5
    for span in (3, 2**53 - 1):
        assert with_draws(integers(7 - span, 6), largest) == 6


@given(st.integers(-50, 50), st.integers(1, 20), st.integers(0, 2**32))
def test_integers_include_both_bounds(low, span, seed):
    draws = integers(low, low + span).rvs(2000, seed)
    assert draws.dtype == np.int64
    assert np.unique(draws).tolist() == list(range(low, low + span + 1))


def test_distributions_draw_as_scipys_do():
    assert np.shape(uniform(0.0, 1.0).rvs()) == ()
    assert uniform(0.0, 1.0).rvs(size=(2, 3), random_state=0).shape == (2, 3)
    assert uniform(0.0, 1.0).rvs(random_state=0) == uniform(0.0, 1.0).rvs(random_state=np.random.default_rng(0))
    assert integers(1, 9).rvs(random_state=5) == integers(1, 9).rvs(1, 5)[0]
    assert repr(log_uniform(1e-4, 1)) == "log_uniform(0.0001, 1.0)"
    assert repr(integers(1, np.int64(9))) == "integers(1, 9)"


def test_scipys_distributions_are_drawn_from():
    stats = requires("scipy.stats")
    specs = sample(500, hidden=stats.randint(1, 5), learning_rate=stats.loguniform(1e-3, 1e-1), seed=1)
    assert set(specs.widths.tolist()) == {1, 2, 3, 4}
    rates = specs.hyperparameter("learning_rate")
    assert (rates >= 1e-3).all() and (rates <= 1e-1).all() and len(set(rates.tolist())) == 500
    assert specs == sample(500, hidden=stats.randint(1, 5), learning_rate=stats.loguniform(1e-3, 1e-1), seed=1)


def test_scikit_learns_search_draws_from_ours():
    search = requires("sklearn.model_selection")
    drawn = list(search.ParameterSampler({"alpha": log_uniform(1e-3, 1.0), "n": integers(1, 3)}, 20, random_state=0))
    assert all(1e-3 <= one["alpha"] < 1.0 and 1 <= one["n"] <= 3 for one in drawn)


def test_each_width_of_a_tuple_may_be_a_distribution():
    hidden = [(integers(1, 9), 4), 50, (integers(10, 19), integers(20, 29), integers(20, 29))]
    specs = sample(600, hidden=hidden, seed=2)
    by_depth = {depth: [m.hidden for m in specs if len(m.hidden) == depth] for depth in (1, 2, 3)}
    assert sum(map(len, by_depth.values())) == 600
    assert min(map(len, by_depth.values())) > 120
    assert set(by_depth[1]) == {(50,)}
    assert {first for first, _ in by_depth[2]} == set(range(1, 10)) and {second for _, second in by_depth[2]} == {4}
    assert {first for first, *_ in by_depth[3]} == set(range(10, 20))
    assert {second for _, second, _ in by_depth[3]} == {third for *_, third in by_depth[3]} == set(range(20, 30))
    assert any(second != third for _, second, third in by_depth[3])
    assert specs[:100] == sample(100, hidden=hidden, seed=2)
    alone = sample(50, hidden=(integers(1, 9), integers(1, 9)))
    assert set(alone.depths.tolist()) == {2}


class Odd:
    def rvs(self, size, random_state):
        return np.zeros((size, 2))

    def __repr__(self):
        return "Odd()"


REFUSED_SAMPLES = [
    ({"n": 0}, "n: expected a whole number of members, at least 1, got 0. For example pm.sample(100)."),
    ({"n": 2.0}, "n: expected a whole number of members, at least 1, got 2.0."),
    ({"seed": -1}, "seed: expected a whole number, at least 0, got -1. For example seed=0."),
    ({"seed": None}, "seed: expected a whole number, at least 0, got None."),
    ({"hidden": uniform(1, 5)}, "member 0: hidden: expected a layer's width, or a tuple of widths"),
    ({"hidden": (3, uniform(1, 5))}, "member 0: hidden: expected a layer's width, or a tuple of widths"),
    ({"hidden": [4, 0]}, "hidden[1]: expected a layer's width, or a tuple of widths"),
    ({"hidden": []}, "hidden: expected at least one choice, got none."),
    (
        {"hidden": Odd()},
        "hidden: expected a distribution whose rvs(size=20) gives 20 numbers, got shape (20, 2) from Odd().",
    ),
    ({"hidden": (3, Odd())}, "gives 20 numbers, got shape (20, 2) from Odd(). Take one with scalar parameters."),
    (
        {"learning_rate": [0.1, uniform(0.1, 0.2)]},
        "learning_rate[1]: expected a finite number, above 0, got uniform(0.1, "
        "0.2). A distribution belongs to pm.sample, alone or as a width in a tuple.",
    ),
    ({"learning_rate": uniform(-2, -1)}, "member 0: learning_rate: expected a finite number, above 0, got -1."),
    ({"momentum": uniform(0.1, 0.2)}, "momentum: expected a hyperparameter of Adam"),
    ({"activation": uniform(0, 1)}, "member 0: activation: expected a name, one of identity, "),
    ({"bias": integers(0, 1)}, "member 0: bias: expected True or False, got "),
    (
        {"optimizer": integers(0, 1)},
        "member 0: optimizer: expected an optimizer (SGD, Adam, AdamW, RMSprop, NAdam) or its name, got ",
    ),
    (
        {"batch_size": integers(-9, -8)},
        "member 0: batch_size: expected a whole number of rows, at least 1, or None, got -",
    ),
    (
        {"hidden": [(3, 4)], "activation": [("relu", "tanh", "elu")]},
        "member 0: activation: expected one name, or a tuple ",
    ),
    ({"actvation": "relu"}, "got 'actvation'. Did you mean 'activation'?"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED_SAMPLES)
def test_a_bad_sample_is_refused_by_name(arguments, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        sample(**({"n": 20} | arguments))


@pytest.mark.parametrize(
    ("make", "bounds", "message"),
    [
        (
            uniform,
            (1, 1),
            "uniform: expected finite numbers with low < high, got low=1, high=1. For example pm.uniform(",
        ),
        (uniform, (0, math.inf), "finite numbers with low < high, got low=0, high=inf."),
        (uniform, (-math.inf, 0), "got low=-inf, high=0."),
        (uniform, (math.nan, 1), "got low=nan, high=1."),
        (uniform, ("0", 1), "got low='0', high=1."),
        (uniform, (False, True), "got low=False, high=True."),
        (
            log_uniform,
            (0, 1),
            "log_uniform: expected finite numbers with 0 < low < high, got low=0, high=1. For example",
        ),
        (integers, (1, 2.5), "integers: expected whole numbers with low < high, got low=1, high=2.5. For example"),
        (integers, (5, 4), "got low=5, high=4."),
        (integers, (0, 2**53), f"got low=0, high={2**53}."),
    ],
)
def test_bad_bounds_are_refused(make, bounds, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        make(*bounds)


@pytest.mark.parametrize("function", [grid, sample])
def test_the_docstring_names_every_argument(function):
    for name in inspect.signature(function).parameters:
        assert f"    {name}: " in function.__doc__
