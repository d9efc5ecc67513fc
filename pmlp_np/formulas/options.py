"""Options of a member: training settings apart from architecture and optimizer, in one table.

An option is a number within limits, a switch, or a name. Specs store options as float64 columns: a switch as 0 or 1, a
name as its index among the choices. An option at its default is not used and costs nothing.

To add an option, enter it here: specs, search spaces and files use this table. Write its effect in the code that it
changes; `docs/knobs.md` is drawn from this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from pmlp_np.formulas.schedules import SCHEDULES


@dataclass(frozen=True)
class Range:
    """The range of a number: low <= x < high, or low < x if `open_low`."""

    low: float
    high: float = float("inf")
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.open_low else value >= self.low) and value < self.high

    def __str__(self) -> str:
        left = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return left if self.high == float("inf") else f"{left} and below {self.high:g}"


@dataclass(frozen=True)
class Option:
    """An option: its values, default and effect.

    limits: of a number. whole: whether it is a whole number. choices: of a name. Neither limits nor choices: a switch.
    meaning: one sentence. formula: plain text. source: the publication.
    """

    name: str
    default: float | bool | str
    meaning: str
    formula: str = ""
    source: str = ""
    limits: Range | None = None
    choices: tuple[str, ...] = ()
    whole: bool = False

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)

    def encoded(self, value: float | bool | str) -> float:
        """Return the float64 that columns store for a value."""
        return float(self.choices.index(value)) if isinstance(value, str) else float(value)

    def decoded(self, number: float) -> float | bool | str:
        """Return the value of a column's float64."""
        if self.choices:
            return self.choices[int(number)]
        return bool(number) if self.is_switch else number


SCHEDULE_NAMES = tuple(SCHEDULES)

OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "zero_last",
            False,
            "The output layer starts with weights and biases of zero, so that the first predictions are zero.",
            "W_out = 0, b_out = 0 before the first step",
            "Zhang, Dauphin, Ma, ICLR 2019; RealMLP, arXiv 2407.04491",
        ),
        Option(
            "l1",
            0.0,
            "L1 penalty on weights: its derivative is added to the gradient.",
            "g = g + l1 sign(w), sign(0) = 0",
            "Tibshirani, J. R. Stat. Soc. B 58 (1996)",
            Range(0.0),
        ),
        Option(
            "decoupled_weight_decay",
            0.0,
            "Weights shrink separately from the optimizer's step, as in AdamW, with any optimizer.",
            "w = w - rate decoupled_weight_decay w - step(w)",
            "Loshchilov and Hutter, ICLR 2019",
            Range(0.0),
        ),
        Option(
            "decay_biases",
            False,
            "Whether weight_decay, l1 and decoupled_weight_decay act on biases too.",
        ),
        Option(
            "bias_rate_factor",
            1.0,
            "The learning rate of biases, as a multiple of the learning rate of weights.",
            "rate of b = bias_rate_factor rate",
            "RealMLP, arXiv 2407.04491, section 3",
            Range(0.0),
        ),
        Option(
            "first_layer_rate_factor",
            1.0,
            "The learning rate of the first hidden layer as a multiple of the others'. A linear member has none.",
            "rate of W_1, b_1 = first_layer_rate_factor rate",
            "RealMLP, arXiv 2407.04491, section 3",
            Range(0.0),
        ),
        Option(
            "last_layer_rate_factor",
            1.0,
            "The learning rate of the output layer (a linear member's only one) as a multiple of the others'.",
            "rate of W_out, b_out = last_layer_rate_factor rate",
            "RealMLP, arXiv 2407.04491, section 3",
            Range(0.0),
        ),
        Option(
            "parametrization",
            "standard",
            "Whether training changes the weights, or weights that a layer divides by sqrt(fan_in). The latter are "
            "initialized from N(0, 1) (biases: 0), with any initializer. Extracted weights are divided.",
            "standard: z = W x + b. ntk: z = W x / sqrt(fan_in) + b",
            "Jacot, Gabriel, Hongler, NeurIPS 2018, section 3 (with beta = 1); RealMLP, arXiv 2407.04491, section 3",
            choices=("standard", "ntk"),
        ),
        Option(
            "feature_scale",
            False,
            "Whether each feature is multiplied by a factor that is trained with the weights and starts at 1. Weight "
            "decay and l1 don't act on it. Extracted weights of the first layer are multiplied by it.",
            "z_1 = W_1 (s * x) + b_1, s = 1 before the first step",
            "RealMLP, arXiv 2407.04491, section 3",
        ),
        Option(
            "feature_scale_rate_factor",
            1.0,
            "The learning rate of feature scales, as a multiple of the learning rate of weights.",
            "rate of s = feature_scale_rate_factor rate",
            "RealMLP, arXiv 2407.04491, section 3, with 6",
            Range(0.0),
        ),
        Option(
            "schedule",
            "constant",
            "How the learning rate changes over time, see formulas.schedules.",
            "rate = learning_rate f(t), for each minibatch",
            "PyTorch's schedulers of these names; coslog4: RealMLP, arXiv 2407.04491, section 3",
            choices=SCHEDULE_NAMES,
        ),
        Option(
            "schedule_epochs",
            0.0,
            "Epochs after which a schedule ends (cosine: starts again), counted from the end of the warm-up. "
            "0: the epochs of the first fit minus the warm-up; partial_fit then continues at the schedule's end.",
            "t = epochs since the warm-up / schedule_epochs",
            limits=Range(0.0),
        ),
        Option(
            "max_epochs",
            0.0,
            "Epochs in all after which the member is done, where `fit` and `partial_fit` ask for more. Its schedule is "
            "as long. 0: no limit.",
            limits=Range(0.0, 2.0**31),
            whole=True,
        ),
        Option(
            "schedule_interval",
            1.0,
            "Schedules step and exponential: the rate is multiplied by schedule_factor once in this many epochs.",
            limits=Range(0.0, open_low=True),
        ),
        Option(
            "schedule_factor",
            0.1,
            "Schedules step and exponential: factor of the rate every schedule_interval epochs.",
            "step: f = schedule_factor^floor(e / schedule_interval); exponential: without floor",
            limits=Range(0.0, open_low=True),
        ),
        Option(
            "final_rate_factor",
            0.0,
            "Schedules cosine, linear and one_cycle: the rate at their end, as a multiple of learning_rate.",
            limits=Range(0.0),
        ),
        Option(
            "one_cycle_start",
            0.04,
            "Schedule one_cycle: the rate at its start, as a multiple of learning_rate.",
            limits=Range(0.0),
        ),
        Option(
            "one_cycle_peak",
            0.3,
            "Schedule one_cycle: the fraction of the schedule after which the rate is learning_rate.",
            limits=Range(0.0, 1.0),
        ),
        Option(
            "warmup_epochs",
            0.0,
            "Epochs in which the rate grows linearly to the schedule's first rate.",
            "rate = learning_rate f(0) (steps done, with this one) / steps of warmup_epochs, up to 1",
            limits=Range(0.0),
        ),
        Option(
            "plateau_patience",
            0.0,
            "Epochs in a row without a validation loss (without validation data: training loss) lower than any before, "
            "after which the rate is multiplied by plateau_factor. 0: never.",
            source="torch.optim.lr_scheduler.ReduceLROnPlateau",
            limits=Range(0.0),
        ),
        Option(
            "plateau_factor",
            0.1,
            "Factor of the rate when the loss has stopped decreasing, see plateau_patience.",
            limits=Range(0.0, 1.0, open_low=True),
        ),
        Option(
            "dropout",
            0.0,
            "The fraction of hidden activations that are zero in training, drawn for each row and epoch; the others "
            "are scaled up. Predictions and evaluations use all activations.",
            "a <- a * m, m = 1 / (1 - dropout) with probability 1 - dropout, else 0",
            "Srivastava et al., JMLR 2014; torch.nn.Dropout",
            Range(0.0, 1.0),
        ),
        Option(
            "input_dropout",
            0.0,
            "The fraction of features that are zero in training, as dropout of hidden activations.",
            "x <- x * m, m = 1 / (1 - input_dropout) with probability 1 - input_dropout, else 0",
            "Srivastava et al., JMLR 2014; torch.nn.Dropout",
            Range(0.0, 1.0),
        ),
        Option(
            "clip_norm",
            0.0,
            "The largest L2 norm of the member's whole gradient; a larger gradient is scaled down before weight decay "
            "and the optimizer. 0: no limit.",
            "g <- g * min(1, clip_norm / (norm(g) + 1e-6)), where the norm is finite",
            "Pascanu, Mikolov, Bengio, ICML 2013; torch.nn.utils.clip_grad_norm_",
            Range(0.0),
        ),
        Option(
            "average",
            0.0,
            'The decay of averaged weights, which are stored beside the last weights; weights="average" selects them. '
            "0: no averaged weights.",
            "average <- average * average_before + (1 - average) * w after each step; w after the first",
            "Polyak, Juditsky, SIAM 1992; torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn",
            Range(0.0, 1.0),
        ),
    )
}

SCHEDULE_AT, WARMUP_AT = (list(OPTIONS).index(name) for name in ("schedule", "warmup_epochs"))


def default_row() -> list[float]:
    """Return every option's default as columns store it."""
    return [option.encoded(option.default) for option in OPTIONS.values()]
