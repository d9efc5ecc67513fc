"""Options of a member: how it trains beside its architecture and its optimizer. One table, one line each.

An option is a number within limits, a switch, or one of some names. Specs keep them all as float64 columns: a switch as
0 or 1, a name as its place among the choices. A default means that the option is not used, and costs nothing.

To add an option, enter it here: specs, search spaces and files know it from then on. What it does is written where it
acts; `docs/knobs.md` is drawn from this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The values that a number may take: low <= x < high, or low < x where `open_low`."""

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
    """One option: its values (`limits` of a number; `choices` of a name; neither: a switch), default, and what it does.

    meaning: a sentence. formula: how it acts, in plain text. source: where it comes from.
    """

    name: str
    default: float | bool | str
    meaning: str
    formula: str = ""
    source: str = ""
    limits: Range | None = None
    choices: tuple[str, ...] = ()

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)

    def encoded(self, value: float | bool | str) -> float:
        """A value as the float64 that columns hold."""
        return float(self.choices.index(value)) if isinstance(value, str) else float(value)

    def decoded(self, number: float) -> float | bool | str:
        """The value that a column's float64 stands for."""
        if self.choices:
            return self.choices[int(number)]
        return bool(number) if self.is_switch else number


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
            "dropout",
            0.0,
            "The share of hidden activations that are zero in training, drawn anew for each row and epoch; the others "
            "are scaled up. Predictions and evaluations use all.",
            "a <- a * m, m = 1 / (1 - dropout) with probability 1 - dropout, else 0",
            "Srivastava et al., JMLR 2014; torch.nn.Dropout",
            Range(0.0, 1.0),
        ),
        Option(
            "input_dropout",
            0.0,
            "The share of features that are zero in training, as dropout of hidden activations.",
            "x <- x * m, m = 1 / (1 - input_dropout) with probability 1 - input_dropout, else 0",
            "Srivastava et al., JMLR 2014; torch.nn.Dropout",
            Range(0.0, 1.0),
        ),
        Option(
            "clip_norm",
            0.0,
            "The largest L2 norm that the gradient of all weights and biases together may have; a longer one is "
            "scaled down before weight decay and the optimizer. 0: no limit.",
            "g <- g * min(1, clip_norm / (norm(g) + 1e-6)), where the norm is finite",
            "Pascanu, Mikolov, Bengio, ICML 2013; torch.nn.utils.clip_grad_norm_",
            Range(0.0),
        ),
        Option(
            "average",
            0.0,
            'The decay of averaged weights, which are kept beside the last ones; weights="average" asks for them. '
            "0: none are kept.",
            "average <- average * average_before + (1 - average) * w after each step; w after the first",
            "Polyak, Juditsky, SIAM 1992; torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn",
            Range(0.0, 1.0),
        ),
    )
}


def default_row() -> list[float]:
    """Every option's default as columns hold it."""
    return [option.encoded(option.default) for option in OPTIONS.values()]
