"""Two networks on the same images: is one better, or was it chance? NumPy only, until called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.metrics.intervals import LEVEL, bootstrap_interval


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """What two networks made of the same n images."""

    n: int
    both_right: int
    only_first: int  # right by the first alone
    only_second: int
    both_wrong: int
    difference: float  # top-1 of the second less that of the first
    low: float  # the 95 % interval of the difference
    high: float
    p: float  # of a difference at least as large between networks that are equally good

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare_pairs(first: np.ndarray, second: np.ndarray, *, level: float = LEVEL, seed: int = 0) -> PairedComparison:
    """Compare two networks by whether each answered each image right, bool [n] both, n at least 1.

    The p-value is that of McNemar's exact test (McNemar 1947, Psychometrika 12; Dietterich 1998, Neural Computation
    10, sec. 3.1), the interval the percentile bootstrap's over images, which are drawn in pairs.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"answers are {first.shape} and {second.shape}: both must be [n] of the same images")
    n, only_first, only_second = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    low, high = bootstrap_interval(
        lambda counts: (counts[:, 1] - counts[:, 0]) / n,
        np.array([only_first, only_second, n - only_first - only_second]), draws=10_000, level=level, seed=seed,
    )  # fmt: skip
    return PairedComparison(
        n=n,
        both_right=int((first & second).sum()),
        only_first=only_first,
        only_second=only_second,
        both_wrong=int((~first & ~second).sum()),
        difference=(only_second - only_first) / n,
        low=low,
        high=high,
        p=exact_mcnemar(only_first, only_second),
    )


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test: the images that one alone gets right are tosses of a fair coin."""
    from scipy.special import bdtr

    tosses = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), tosses, 0.5))) if tosses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, each made larger so that one chance in all is not taken for a finding.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, most = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = most
    return adjusted
