import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.metrics.intervals import wilson_interval
from striate.metrics.reliability import reliability
from striate.report.figures import (
    chi_square,
    finite,
    number,
    percent,
    seconds,
    size,
    thousands,
    total_variation,
)


def test_wilson_interval_by_hand():
    # n = 10, 8 right, z = 1.96: centre (0.8 + 0.19208) / 1.38416, half-width from sqrt(0.016 + 0.0096040)
    low, high = wilson_interval(8, 10, z=1.96)
    assert low == pytest.approx(0.49016, abs=1e-5)
    assert high == pytest.approx(0.94331, abs=1e-4)


def test_wilson_interval_at_the_ends():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    low, high = wilson_interval(100, 100)
    assert high == 1.0
    assert 0.96 < low < 0.97  # 100 / (100 + z**2)
    assert low == pytest.approx(100 / (100 + 1.959963984540054**2))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_wilson_interval_holds_the_share(pair):
    correct, n = pair
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1


def test_total_variation_by_hand():
    assert total_variation(np.array([1, 1]), np.array([3, 1])) == pytest.approx(0.25)
    assert total_variation(np.array([5, 0]), np.array([0, 9])) == pytest.approx(1.0)
    assert total_variation(np.array([2, 6]), np.array([1, 3])) == 0
    assert total_variation(np.array([0, 0]), np.array([1, 3])) == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([10, 20, 30], [30, 20, 10]),
        ([500, 480], [510, 490]),
        ([100] * 10, [60, 140] * 5),
        ([5, 0, 3], [4, 0, 9]),
        ([3] * 500, [5, 2] * 250),
    ],
)
def test_chi_square_agrees_with_scipy(first, second):
    stats = pytest.importorskip("scipy.stats")
    table = np.array([first, second])
    table = table[:, table.sum(0) > 0]
    expected = stats.chi2_contingency(table, correction=False)
    ours = chi_square(np.array(first), np.array(second))
    assert ours.statistic == pytest.approx(expected.statistic)
    assert ours.degrees == expected.dof
    assert ours.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_chi_square_of_nothing():
    assert chi_square(np.array([3]), np.array([5])).p == 1.0
    assert chi_square(np.array([0, 0]), np.array([5, 1])).p == 1.0


def test_reliability_by_hand():
    bins = reliability(np.array([0.95, 0.85, 0.85, 0.15]), np.array([True, True, False, False]), bins=10)
    assert bins.counts.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 2, 1]
    assert bins.accuracy[8] == 0.5
    # gaps: 0.05 once, |0.5 - 0.85| twice, 0.15 once
    assert bins.ece == pytest.approx((0.05 + 2 * 0.35 + 0.15) / 4)
    assert bins.overconfidence == pytest.approx((0.95 + 0.85 + 0.85 + 0.15) / 4 - 0.5)


def test_reliability_puts_the_edge_into_the_lower_bin():
    assert reliability(np.array([0.0, 0.5, 1.0]), np.array([True] * 3), bins=2).counts.tolist() == [2, 1]


def test_numbers_as_people_write_them():
    assert percent(0.98123) == "98.1\u202f%"
    assert percent(None) == "–"
    assert thousands(1797) == "1797"
    assert thousands(45_000) == "45\u202f000"
    assert number(0.012345) == "0.0123"
    assert number(1.5e-5) == "1.50e-5"
    assert number(None) == "–"
    assert [number(value, zeros=True) for value in (0.40041, 0.4, 0.0, 12.0, 123.4)] == [
        "0.400", "0.400", "0.00", "12.0", "123",
    ]  # fmt: skip
    assert seconds(0.5) == "0.50 s"
    assert seconds(200) == "3 min 20 s"
    assert seconds(7500) == "2 h 5 min"
    assert size(999) == "999 B"
    assert size(1_234_000) == "1.2 MB"


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "nan", True])
def test_finite_refuses_what_is_no_number(value):
    assert finite(value) is None
