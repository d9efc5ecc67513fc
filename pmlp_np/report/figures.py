"""Numbers as a reader sees them."""

from __future__ import annotations

import math

_DIGITS = 3
_NO_BREAK = "\N{NO-BREAK SPACE}"


def short(value: float | None, digits: int = _DIGITS) -> str:
    """Return a number with a few significant digits: 0.0123, 12.3, 12,345, 1.2e-07; "–" for None."""
    if value is None:
        return "–"
    if value == 0.0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 9:
        return f"{value:.{digits - 1}e}".replace("-", "−", 1) if value < 0.0 else f"{value:.{digits - 1}e}"
    text = f"{value:,.{max(digits - 1 - size, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text.replace("-", "−")


def fixed(value: float | None, decimals: int) -> str:
    """Return a number with so many decimals; "–" for None."""
    if value is None:
        return "–"
    text = f"{value:,.{decimals}f}"
    return (text if float(value) >= 0.0 or text.strip("-0.,") else text.lstrip("-")).replace("-", "−")


def decimals_of(largest: float, digits: int = _DIGITS) -> int:
    """Return the decimals with which a number has so many significant digits, at most 9."""
    size = math.floor(math.log10(abs(largest))) if largest else 0
    return min(max(digits - 1 - size, 0), 9)


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal, as 94.1 %; "–" for None."""
    return "–" if share is None else f"{100.0 * share:.1f}".removesuffix(".0") + f"{_NO_BREAK}%"


def percents(low: float, high: float) -> str:
    """Return a range of shares, as 93.2 to 95.1 %."""
    return f"{percent(low)[:-2]} to {percent(high)}"


def count(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 row, 1,234 rows."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def joined(texts: list[str]) -> str:
    """Return texts as a list in words: a, b and c."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def duration(seconds: float) -> str:
    """Return seconds as < 0.1 s, 8.3 s, 48 s, 2 min 5 s, or 1 h 2 min."""
    if seconds < 9.95:
        return f"{seconds:.1f}{_NO_BREAK}s" if seconds >= 0.05 else f"<{_NO_BREAK}0.1{_NO_BREAK}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{_NO_BREAK}s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
