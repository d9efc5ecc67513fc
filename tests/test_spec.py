"""Specs: Member refuses what cannot be trained, and the columns of Specs say the same as the members they came from."""

import copy
import dataclasses
import inspect
import pickle
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pmlp_np.base.errors import SpecError
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZER_ALIASES, INITIALIZERS
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, OPTIMIZERS, RULES, SGD, Adam, AdamW, NAdam, RMSprop, rule_name
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.specs.members import Member, Specs, as_specs
from pmlp_np.specs.storage import COLUMNS

ACTIVATION = st.sampled_from(list(ACTIVATIONS))
POSITIVE = st.floats(1e-12, 1e6)
NOT_NEGATIVE = st.floats(0.0, 10.0)
BELOW_ONE = st.floats(0.0, 1.0, exclude_max=True)
ADAMS = (POSITIVE, BELOW_ONE, BELOW_ONE, NOT_NEGATIVE, NOT_NEGATIVE)
OPTIMIZER = st.one_of(
    st.builds(SGD, POSITIVE, st.just(0.0) | BELOW_ONE, st.booleans(), NOT_NEGATIVE),
    st.builds(Adam, *ADAMS),
    st.builds(AdamW, *ADAMS),
    st.builds(RMSprop, POSITIVE, BELOW_ONE, NOT_NEGATIVE, st.just(0.0) | BELOW_ONE, NOT_NEGATIVE),
    st.builds(NAdam, *ADAMS, NOT_NEGATIVE),
)


def values_of(option):
    if option.choices:
        return st.sampled_from(option.choices)
    if option.is_switch:
        return st.booleans()
    limits = option.limits
    high = min(limits.high, 1e6)
    if option.whole:
        return st.integers(int(limits.low), int(high)).map(float)
    return st.floats(limits.low, high, exclude_min=limits.open_low, exclude_max=high == limits.high)


OPTION_VALUES = st.fixed_dictionaries({}, optional={name: values_of(option) for name, option in OPTIONS.items()})


@st.composite
def members(draw):
    hidden = draw(st.lists(st.integers(1, 200), max_size=4).map(tuple))
    return Member(
        hidden=hidden,
        activation=draw(ACTIVATION | st.tuples(*[ACTIVATION] * len(hidden))),
        bias=draw(st.booleans()),
        initializer=draw(st.sampled_from(list(INITIALIZERS))),
        optimizer=draw(OPTIMIZER),
        batch_size=draw(st.none() | st.integers(1, 2**63 - 1)),
        seed=draw(st.none() | st.integers(0, 2**64 - 1)),
        **draw(OPTION_VALUES),
    )


MEMBERS = st.lists(members(), max_size=6)
FEW = [
    Member(hidden=()),
    Member(hidden=(3, 2), activation=("tanh", "relu"), bias=False, seed=0),
    Member(hidden=7, optimizer=SGD(momentum=0.9, nesterov=True), batch_size=16, seed=2**64 - 1),
]


def test_defaults_are_one_relu_layer_trained_by_adam_from_pytorchs_weights():
    member = Member()
    assert (member.hidden, member.activation, member.bias) == ((100,), "relu", True)
    assert member.initializer == "pytorch"
    assert member.optimizer == Adam(learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0)
    assert (member.batch_size, member.seed, member.options) == (None, None, ())
    assert all(getattr(member, name) == option.default for name, option in OPTIONS.items())


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_reads_as_an_attribute_and_a_bad_value_is_refused_by_name(name):
    option = OPTIONS[name]
    other = {True: False, False: True}[option.default] if option.is_switch else None
    if option.choices:
        other = next(choice for choice in option.choices if choice != option.default)
    elif option.limits is not None:
        other = next(v for v in (0.25, 2.0, 3)[option.whole :] if v in option.limits and v != option.default)
    member = Member(**{name: other})
    assert getattr(member, name) == other
    assert member != Member() and member == Member(**{name: other}) and Member(**{name: option.default}) == Member()
    assert f"{name}={other!r}" in repr(member) or f"{name}={float(other)!r}" in repr(member)
    for bad in (None, "no such value", -1e9, float("nan")):
        with pytest.raises(SpecError, match=f"^{name}: expected "):
            Member(**{name: bad})


def test_every_argument_is_kept():
    member = Member((64, 32), ("gelu", "mish"), False, "he_normal", AdamW(weight_decay=0.1), 48, 5)
    assert member.hidden == (64, 32)
    assert member.activation == ("gelu", "mish")
    assert member.bias is False
    assert member.initializer == "he_normal"
    assert member.optimizer == AdamW(weight_decay=0.1)
    assert (member.batch_size, member.seed) == (48, 5)


def test_numpy_numbers_become_pythons():
    member = Member(
        hidden=(np.int8(4), np.uint64(5)),
        bias=np.bool_(False),
        batch_size=np.int32(8),
        seed=np.uint64(2**64 - 1),
        optimizer=SGD(learning_rate=np.float64(0.5), momentum=0, nesterov=np.bool_(True)),
    )
    assert member == Member((4, 5), bias=False, batch_size=8, seed=2**64 - 1, optimizer=SGD(0.5, 0.0, True))
    assert [type(x) for x in member.hidden] == [int, int]
    own = [type(getattr(member.optimizer, field.name)) for field in dataclasses.fields(SGD)]
    assert own == [float, float, bool, float]
    assert type(member.batch_size) is type(member.seed) is int
    assert member.bias is False


@pytest.mark.parametrize(
    ("given_name", "known"),
    [
        ("ReLU", "relu"),
        ("leaky-relu", "leaky_relu"),
        ("LeakyReLU", "leaky_relu"),
        (" Leaky ReLU", "leaky_relu"),
        ("logistic", "sigmoid"),
        ("LINEAR", "identity"),
        ("none", "identity"),
        ("hard_shrink", "hardshrink"),
        *((alias, name) for alias, name in ACTIVATION_ALIASES.items()),
        *((name, name) for name in ACTIVATIONS),
    ],
)
def test_activations_go_by_any_spelling_and_alias(given_name, known):
    assert Member(activation=given_name).activation == known
    assert Member(hidden=(2, 3), activation=("mish", given_name)).activation == (
        ("mish", known) if known != "mish" else "mish"
    )


@pytest.mark.parametrize(
    ("given_name", "known"), [("He-Uniform", "he_uniform"), ("PyTorch", "pytorch"), *INITIALIZER_ALIASES.items()]
)
def test_initializers_go_by_any_spelling_and_alias(given_name, known):
    assert Member(initializer=given_name).initializer == known


@pytest.mark.parametrize(("name", "cls"), [("adam", Adam), ("SGD", SGD), ("AdamW", AdamW), (None, Adam)])
def test_an_optimizers_name_means_its_defaults(name, cls):
    assert Member(optimizer=name).optimizer == cls()


def test_flat_hyperparameters_override_the_optimizers():
    assert Member(learning_rate=1).optimizer == Adam(learning_rate=1.0)
    member = Member(optimizer=SGD(learning_rate=0.5, momentum=0.8), momentum=0.9, nesterov=True)
    assert member.optimizer == SGD(learning_rate=0.5, momentum=0.9, nesterov=True)


def test_equal_layers_share_one_name_and_a_linear_member_has_none():
    assert Member((4, 5), ("relu", "ReLU")) == Member((4, 5), "relu")
    assert Member((4, 5), ("relu", "tanh")) != Member((4, 5), "relu")
    assert Member((), "relu") == Member((), "tanh") == Member((), ())


def test_a_member_is_frozen_hashable_and_readable():
    member = Member((64, 32), "tanh", bias=False, initializer="he_normal", batch_size=8, seed=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        member.hidden = (1,)
    assert len({member, Member((64, 32), "tanh", False, "he_normal", None, 8, 0)}) == 1
    assert repr(Member(5, optimizer="sgd")) == f"Member(hidden=(5,), activation='relu', optimizer={SGD()})"
    assert pickle.loads(pickle.dumps(member)) == member == copy.deepcopy(member)


@given(members())
def test_the_repr_is_the_member(member):
    names = {cls.__name__: cls for cls in (Member, *OPTIMIZERS.values())}
    assert eval(repr(member), names) == member


NAN, INF = float("nan"), float("inf")
WIDTHS = "expected a layer's width, or a tuple of widths, each a whole number from 1 to 16777216, got "
CHOICES = "Lists, ranges and arrays are choices, for pm.grid and pm.sample"
RATE = "learning_rate: expected a finite number, above 0, got "
UNIT = "expected a finite number, at least 0 and below 1, got "
REFUSED = [
    ({"hidden": 0}, f"hidden: {WIDTHS}0. hidden=64 is one layer"),
    ({"hidden": -3}, f"hidden: {WIDTHS}-3. hidden=64 is one layer"),
    ({"hidden": (64, 0)}, f"hidden: {WIDTHS}(64, 0). hidden=64 is one layer"),
    ({"hidden": 2**24 + 1}, f"hidden: {WIDTHS}16777217."),
    ({"hidden": 10**30}, f"hidden: {WIDTHS}{10**30}."),
    ({"hidden": True}, f"hidden: {WIDTHS}True."),
    ({"hidden": (3, np.bool_(True))}, f"hidden: {WIDTHS}(3, "),
    ({"hidden": 64.0}, f"hidden: {WIDTHS}64.0."),
    ({"hidden": "64"}, f"hidden: {WIDTHS}'64'."),
    ({"hidden": None}, f"hidden: {WIDTHS}None."),
    ({"hidden": ((3, 4),)}, f"hidden: {WIDTHS}((3, 4),)."),
    ({"hidden": [64, 32]}, f"hidden: {WIDTHS}[64, 32]. {CHOICES}"),
    ({"hidden": np.array([64, 32])}, f"hidden: {WIDTHS}array([64, 32]). {CHOICES}"),
    ({"activation": "rleu"}, f"activation: expected one of {', '.join(ACTIVATIONS)}, got 'rleu'. Did you mean 'relu'?"),
    ({"activation": "Logistik"}, "got 'Logistik'. Did you mean 'logistic'?"),
    ({"activation": "qqqq"}, "sin, got 'qqqq'."),
    ({"activation": np.tanh}, "activation: expected a name, one of identity, "),
    ({"activation": None}, "sin, got None."),
    ({"activation": ["relu", "tanh"]}, f"got ['relu', 'tanh']. {CHOICES}"),
    ({"hidden": (3, 4), "activation": ("relu", "tahn")}, "got 'tahn'. Did you mean 'tanh'?"),
    (
        {"activation": ("relu", "tanh")},
        "activation: expected one name, or a tuple of one per layer for the 1 hidden layer "
        "of hidden=(100,), got ('relu', 'tanh'). A single name goes for all layers.",
    ),
    ({"hidden": (), "activation": ("relu",)}, "0 hidden layers of hidden=(), got ('relu',)."),
    ({"hidden": (5, 6), "activation": ("relu",)}, "2 hidden layers of hidden=(5, 6), got ('relu',)."),
    ({"bias": 1}, "bias: expected True or False, got 1."),
    ({"bias": None}, "bias: expected True or False, got None."),
    (
        {"initializer": "he_unifrom"},
        "initializer: expected one of pytorch, glorot_uniform, glorot_normal, he_uniform, "
        "he_normal, lecun_normal, got 'he_unifrom'. Did you mean 'he_uniform'?",
    ),
    ({"initializer": 3}, "initializer: expected a name, one of pytorch, "),
    (
        {"optimizer": "adm"},
        "optimizer: expected one of sgd, adam, adamw, rmsprop, nadam, got 'adm'. Did you mean 'adam'?",
    ),
    ({"optimizer": ""}, "optimizer: expected one of sgd, adam, adamw, rmsprop, nadam, got ''."),
    (
        {"optimizer": SGD},
        "optimizer: expected an optimizer (SGD, Adam, AdamW, RMSprop, NAdam) or its name, got <class ",
    ),
    ({"optimizer": SGD}, "Call it: pm.SGD()."),
    ({"optimizer": 0.1}, "or its name, got 0.1. For example pm.SGD()."),
    ({"optimizer": [SGD()]}, CHOICES),
    ({"optimizer": SGD(learning_rate=-1)}, f"optimizer: {RATE}-1. For example learning_rate=0.01."),
    ({"optimizer": SGD(nesterov=1)}, "optimizer: nesterov: expected True or False, got 1."),
    ({"optimizer": Adam(beta2=NAN)}, f"optimizer: beta2: {UNIT}nan."),
    ({"optimizer": SGD(momentum=1.5), "momentum": 0.5}, f"optimizer: momentum: {UNIT}1.5."),
    ({"learning_rate": -1}, f"{RATE}-1. For example learning_rate=0.01."),
    ({"learning_rate": 0}, f"{RATE}0."),
    ({"learning_rate": NAN}, f"{RATE}nan."),
    ({"learning_rate": np.float32(NAN)}, f"{RATE}nan."),
    ({"learning_rate": INF}, f"{RATE}inf."),
    ({"learning_rate": True}, f"{RATE}True."),
    ({"learning_rate": "0.1"}, f"{RATE}'0.1'."),
    ({"learning_rate": None}, f"{RATE}None."),
    ({"learning_rate": 1j}, f"{RATE}1j."),
    ({"learning_rate": 10**400}, f"{RATE}1000"),
    ({"learning_rate": 10**5000}, f"{RATE}some int."),
    ({"learning_rate": [0.1, 0.2]}, f"{RATE}[0.1, 0.2]. {CHOICES}"),
    ({"beta1": 1.0}, f"beta1: {UNIT}1.0."),
    ({"beta2": -0.1}, f"beta2: {UNIT}-0.1."),
    ({"eps": -1e-9}, "eps: expected a finite number, at least 0, got -1e-09."),
    ({"weight_decay": -1.0}, "weight_decay: expected a finite number, at least 0, got -1.0."),
    ({"optimizer": "sgd", "nesterov": 0.5}, "nesterov: expected True or False, got 0.5."),
    (
        {"momentum": 0.9},
        "momentum: expected a hyperparameter of Adam (learning_rate, beta1, beta2, eps, weight_decay), "
        "got 'momentum'. Optimizers with momentum: pm.SGD, pm.RMSprop.",
    ),
    (
        {"optimizer": SGD(), "beta1": 0.9},
        "beta1: expected a hyperparameter of SGD (learning_rate, momentum, nesterov, "
        "weight_decay), got 'beta1'. Optimizers with beta1: pm.Adam, pm.AdamW, pm.NAdam.",
    ),
    ({"hiden": 3}, "hiden: expected a hyperparameter of Adam (learning_rate, "),
    ({"hiden": 3}, "got 'hiden'. Did you mean 'hidden'?"),
    ({"learningrate": 0.1}, "got 'learningrate'. Did you mean 'learning_rate'?"),
    ({"xyzxyz": 0.1}, "got 'xyzxyz'. Other arguments are hidden, activation, bias, initializer, "),
    (
        {"batch_size": 0},
        "batch_size: expected a whole number of rows, at least 1, or None, got 0. None takes the batch_size",
    ),
    ({"batch_size": -4}, "at least 1, or None, got -4."),
    ({"batch_size": 32.0}, "at least 1, or None, got 32.0."),
    ({"batch_size": True}, "at least 1, or None, got True."),
    ({"batch_size": 2**63}, f"at least 1, or None, got {2**63}."),
    (
        {"seed": -1},
        "seed: expected a whole number from 0 to 2**64 - 1, or None, got -1. None draws from the pool's seed",
    ),
    ({"seed": 2**64}, f"or None, got {2**64}."),
    ({"seed": 0.5}, "or None, got 0.5."),
    ({"seed": False}, "or None, got False."),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_a_bad_member_is_refused_by_name_with_what_to_do(arguments, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Member(**arguments)


def test_the_docstring_names_every_argument():
    for name in inspect.signature(Member).parameters:
        assert f"    {name}: " in Member.__doc__
    for name in HYPERPARAMETERS:
        assert name in Member.__doc__


@given(MEMBERS)
@example([])
@example(FEW)
def test_members_survive_columns_and_a_file(given_members):
    specs = Specs.from_members(given_members)
    assert len(specs) == len(given_members)
    assert list(specs) == given_members
    assert [specs[i] for i in range(len(specs))] == given_members
    columns = specs.columns()
    assert all(isinstance(column, np.ndarray) and column.dtype.kind in "biufU" for column in columns.values())
    assert Specs.from_columns(columns) == specs
    assert list(Specs.from_columns(columns)) == given_members
    assert pickle.loads(pickle.dumps(specs)) == specs


def test_columns_hold_what_the_members_say():
    specs = Specs.from_members(FEW)
    activations, optimizers = list(ACTIVATIONS), list(OPTIMIZERS)
    assert specs.width_offsets.tolist() == [0, 0, 2, 3]
    assert specs.widths.tolist() == [3, 2, 7]
    assert specs.depths.tolist() == [0, 2, 1]
    assert [activations[code] for code in specs.activations] == ["tanh", "relu", "relu"]
    assert specs.bias.tolist() == [True, False, True]
    assert [list(INITIALIZERS)[code] for code in specs.initializer] == ["pytorch"] * 3
    assert [optimizers[code] for code in specs.optimizer] == ["adam", "adam", "sgd"]
    assert [list(RULES)[code] for code in specs.rule] == ["adam", "adam", "nesterov"]
    assert specs.batch_size.tolist() == [0, 0, 16]
    assert specs.has_seed.tolist() == [False, True, True]
    assert specs.seed.tolist() == [0, 0, 2**64 - 1]
    assert specs.hyperparameter("learning_rate").tolist() == [1e-3, 1e-3, 0.01]
    assert specs.hyperparameter("momentum").tolist() == [0.0, 0.0, 0.9]
    assert specs.hyperparameter("nesterov").tolist() == [0.0, 0.0, 1.0]
    assert specs.hyperparameter("beta2").tolist() == [0.999, 0.999, 0.0]
    for name, dtype in COLUMNS.items():
        assert getattr(specs, name).dtype == dtype
        with pytest.raises(ValueError, match="read-only"):
            getattr(specs, name)[:1] = 0
    with pytest.raises(ValueError, match="read-only"):
        specs.rule[0] = 0


@given(MEMBERS)
def test_rules_are_those_of_the_formulas(given_members):
    expected = [
        rule_name(
            m.optimizer.name,
            getattr(m.optimizer, "momentum", 0.0),
            getattr(m.optimizer, "nesterov", False),
            m.l1 > 0.0 or m.decoupled_weight_decay > 0.0,
        )
        for m in given_members
    ]
    assert [list(RULES)[code] for code in Specs.from_members(given_members).rule] == expected


@given(MEMBERS, st.data())
def test_any_index_means_what_it_means_for_a_list(given_members, data):
    specs, n = Specs.from_members(given_members), len(given_members)
    part = data.draw(st.slices(n))
    assert list(specs[part]) == given_members[part]
    places = data.draw(st.lists(st.integers(-n, n - 1), max_size=8)) if n else []
    assert list(specs[places]) == [given_members[i] for i in places]
    assert specs[np.array(places, int)] == Specs.from_members([given_members[i] for i in places])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    assert list(specs[mask]) == [m for m, kept in zip(given_members, mask, strict=True) if kept]
    for i in places:
        assert specs[np.int64(i)] == given_members[i]


@pytest.mark.parametrize("index", [3, -4, [0, 3], 0.0, [0.5], "hidden", (0, 1), [[0]], [True]])
def test_an_index_out_of_reach_raises_index_error(index):
    with pytest.raises(IndexError):
        Specs.from_members(FEW)[index]


@given(st.lists(MEMBERS, max_size=4))
def test_tables_join_in_order(lists):
    tables = [Specs.from_members(one) for one in lists]
    everybody = [member for one in lists for member in one]
    joined = Specs.concatenate(tables)
    assert joined == Specs.from_members(everybody)
    assert list(joined) == everybody


def test_plus_takes_specs_members_and_lists():
    specs = Specs.from_members(FEW)
    assert list(specs + specs[:1]) == [*FEW, FEW[0]]
    assert list(specs + FEW[1]) == [*FEW, FEW[1]]
    assert list(specs + FEW[1:]) == FEW + FEW[1:]


@given(members(), members())
def test_tables_are_equal_where_their_members_are(a, b):
    assert (Specs.from_members([a]) == Specs.from_members([b])) == (a == b)
    assert Specs.from_members([a]) != Specs.from_members([a, a])
    assert Specs.from_members([a]) != [a]


@given(MEMBERS, st.integers(1, 100), st.integers(1, 12))
@example(FEW, 5, 2)
def test_parameter_counts(given_members, n_features, n_raw_outputs):
    expected = []
    for member in given_members:
        sizes = [n_features, *member.hidden, n_raw_outputs]
        weights = sum(fan_in * fan_out for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True))
        expected.append(weights + sum(sizes[1:]) * member.bias)
    counts = Specs.from_members(given_members).parameter_counts(n_features, n_raw_outputs)
    assert counts.dtype == np.int64
    assert counts.tolist() == expected


def test_parameter_counts_stay_exact_for_huge_members():
    member = Member((2**24,) * 3)
    expected = 100 * 2**24 + 2 * 2**48 + 3 * 2**24 + 2**24 * 7 + 7
    assert Specs.from_members([member] * 3).parameter_counts(100, 7).tolist() == [expected] * 3


def test_describe_says_the_architecture():
    specs = Specs.from_members([*FEW, Member((64, 32), "tanh"), Member(8, bias=False), Member((), bias=False)])
    said = [specs.describe(i) for i in range(len(specs))]
    assert said == ["linear", "3-2 tanh-relu, no bias", "7 relu", "64-32 tanh", "8 relu, no bias", "linear, no bias"]


def test_repr_sums_up():
    assert repr(Specs.from_members(FEW)) == "3 members: widths 2-7, depth 0-2, 2 activations, sgd, adam"
    assert repr(Specs.from_members([Member(5)])) == "1 member: widths 5, depth 1, relu, adam"
    assert repr(Specs.from_members([Member(())] * 1000)) == "1,000 members: depth 0, adam"
    assert repr(Specs.from_members([])) == "0 members"


def test_as_specs_takes_all_forms_of_specs():
    specs = Specs.from_members(FEW)
    assert as_specs(specs) is specs
    assert list(as_specs(FEW[0])) == FEW[:1]
    assert as_specs(FEW) == as_specs(tuple(FEW)) == as_specs(iter(FEW)) == specs


@pytest.mark.parametrize(
    ("given_specs", "message"),
    [
        ([], "specs: expected at least one member, got none. For example [pm.Member("),
        (Specs.from_members([]), "specs: expected at least one member, got none."),
        ([FEW[0], 3], "member 1: expected a pm.Member, got 3. For example pm.Member(hidden=64)."),
        (
            [FEW[0], Specs.from_members(FEW)],
            "got 3 members: widths 2-7, depth 0-2, 2 activations, sgd, adam. Join tables",
        ),
        (None, "specs: expected pm.grid(...), pm.sample(...), a pm.Member or a list of them, got None. For example ["),
        ("relu", "or a list of them, got 'relu'."),
        ({"hidden": 3}, "or a list of them, got {'hidden': 3}."),
    ],
)
def test_as_specs_refuses_anything_else(given_specs, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        as_specs(given_specs)


def test_an_unknown_hyperparameter_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match=re.escape("got 'beta'. Did you mean 'beta")):
        Specs.from_members(FEW).hyperparameter("beta")
