"""The small statistics that a report states, and how figures are written. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.metrics.intervals import wilson_interval


def interval_of(scores: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % interval of `measure_of`: as it was stored, or Wilson's of top-1 in a run that has none."""
    measure = measure_of(scores)
    stored = scores.get(f"{measure}_interval")
    if stored or measure != "top1":
        return tuple(stored) if stored else (0.0, 1.0)
    return wilson_interval(scores["top1"] * scores["n"], int(scores["n"]))


def measure_of(scores: Mapping[str, Any]) -> str:
    """What is called the score: `top1`, or `map` where an image has any number of labels."""
    return "map" if scores.get("exact_match") is not None else "top1"


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of absolute differences of two distributions given as counts: the share that would have to move."""
    if first.sum() == 0 or second.sum() == 0:
        return 0.0
    return float(np.abs(first / first.sum() - second / second.sum()).sum() / 2)


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Pearson's test that two rows of counts come from one distribution."""

    statistic: float
    degrees: int
    p: float


def chi_square(first: np.ndarray, second: np.ndarray) -> ChiSquare:
    """Chi-square test of homogeneity of two rows of counts; classes that are empty in both are passed over.

    The p-value is exact and needs no SciPy, whose import would cost more than the rest of a report: from k - 2 to k
    degrees of freedom the upper tail grows by ``(x/2)^(k/2 - 1) exp(-x/2) / gamma(k/2)``.
    """
    table = np.stack([first, second]).astype(float)
    table = table[:, table.sum(0) > 0]
    degrees = table.shape[1] - 1
    if degrees < 1 or (table.sum(1) == 0).any():
        return ChiSquare(0.0, max(degrees, 0), 1.0)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return ChiSquare(statistic, degrees, _upper_tail(statistic, degrees))


def _upper_tail(statistic: float, degrees: int) -> float:
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    tail = math.erfc(math.sqrt(half)) if degrees % 2 else math.exp(-half)
    for k in range(3 if degrees % 2 else 4, degrees + 1, 2):
        tail += math.exp((k / 2 - 1) * math.log(half) - half - math.lgamma(k / 2))
    return min(tail, 1.0)


def finite(value: object) -> float | None:
    """`value` as a float where it is a finite number, else None: metrics may hold null, NaN and infinity."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def confusion_of(scores: Mapping[str, Any]) -> np.ndarray:
    """The confusion matrix of a split's scores, int64 [classes, classes]; empty where there is none."""
    stored = scores.get("confusion")
    matrix = np.zeros((0, 0), dtype=np.int64) if stored is None else np.asarray(stored, dtype=np.int64)
    return matrix if matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] else np.zeros((0, 0), dtype=np.int64)


def median(values: Sequence[float]) -> float | None:
    """The middle value, or None of nothing."""
    return float(np.median(values)) if len(values) else None


# How figures are written. A thin no-break space stands before the per cent sign and between thousands.


def percent(share: float | None, digits: int = 1) -> str:
    """0.9812 as "98.1 %"; "–" for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u202f%"


def points(difference: float, digits: int = 1) -> str:
    """A difference of two shares: 0.0123 as "1.2 points"."""
    return f"{100 * difference:.{digits}f} points".replace("-", "−")


def digits_for(n: int) -> int:
    """Decimals of a percentage that `n` images can carry."""
    return 2 if n >= 2000 else 1


def thousands(number: float) -> str:
    """1797 as "1 797" with a narrow no-break space; counts below 10,000 as they are."""
    return f"{number:.0f}" if abs(number) < 10_000 else f"{number:,.0f}".replace(",", "\u202f")


def number(value: float | None, digits: int = 3, *, zeros: bool = False) -> str:
    """A plain number of `digits` significant digits, with its last zeros where it was measured; "–" for None."""
    if value is None:
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) >= 1000:
        return thousands(value)
    return f"{value:#.{digits}g}".rstrip(".") if zeros else f"{value:.{digits}g}"


def seconds(value: float | None) -> str:
    """12.34 as "12.3 s", 200 as "3 min 20 s", 7500 as "2 h 5 min"."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes as "1.2 MB" (decimal)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
