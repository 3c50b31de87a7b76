"""Intervals, thresholds, rejection, calibration and paired comparison, each against a well-kept library or the plain
definition on random cases.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from striate import metrics
from striate.metrics import calibration, ranking
from striate.metrics.groups import by_group
from striate.metrics.intervals import bootstrap_interval, exact_interval, wilson_interval, with_intervals
from striate.metrics.pairs import compare_pairs, exact_mcnemar, holm
from striate.metrics.rejection import rejection_curve
from striate.metrics.reliability import Reliability, reliability
from striate.metrics.topk import usual_k
from striate.spec import Labels

seeds = st.integers(0, 2**32 - 1)
examples = settings(max_examples=40, deadline=None)


@st.composite
def questions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties or none, and which of the images are positives: some, none or all."""
    n, generator = draw(st.integers(2, 80)), np.random.default_rng(draw(seeds))
    scores = generator.random(n) if draw(st.booleans()) else generator.integers(0, 6, n) / 6
    return scores, generator.random(n) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))


def both_kinds(positive: np.ndarray) -> bool:
    return 0 < positive.sum() < len(positive)


# intervals ------------------------------------------------------------------------------------------------------------


@examples
@given(st.integers(0, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
@example((0, 0), 0.95)
@example((0, 1), 0.95)
@example((1, 1), 0.95)
@example((0, 3000), 0.95)
@example((3000, 3000), 0.95)
@example((2999, 3000), 0.95)
def test_exact_and_wilson_intervals_equal_scipy(pair, level):
    from scipy.stats import binomtest, norm

    right, n = pair
    ours = exact_interval(right, n, level)
    if n == 0:
        assert [*map(float, ours)] == [0.0, 1.0]
        return
    theirs = binomtest(right, n).proportion_ci(level, "exact")
    np.testing.assert_allclose(ours, (theirs.low, theirs.high), atol=1e-9)
    theirs = binomtest(right, n).proportion_ci(level, "wilson")
    np.testing.assert_allclose(wilson_interval(right, n, norm.ppf((1 + level) / 2)), theirs, atol=1e-9)


@pytest.mark.parametrize("images", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_exact_intervals_of_many_shares_and_of_many_images(images):
    from scipy.stats import beta

    n = np.array([[0], [1], [200], [images]])
    right = np.round(n * np.array([0, 1e-5, 0.1, 0.5, 0.999, 1])).astype(int)
    low, high = exact_interval(right, n)
    assert low.shape == high.shape == (4, 6)
    with np.errstate(invalid="ignore"):  # no distribution at the ends
        np.testing.assert_allclose(low, np.where(right > 0, beta.ppf(0.025, right, n - right + 1), 0), rtol=1e-9)
        np.testing.assert_allclose(high, np.where(right < n, beta.ppf(0.975, right + 1, n - right), 1), rtol=1e-9)


def test_the_bootstrap_equals_scipys_within_its_own_noise():
    from scipy.stats import bootstrap

    right = np.repeat([1.0, 0.0], [70, 30])
    theirs = bootstrap((right,), np.mean, n_resamples=9999, method="percentile", rng=0).confidence_interval
    ours = bootstrap_interval(lambda counts: counts[:, 0] / 100, np.array([70, 30]), draws=9999)
    np.testing.assert_allclose(ours, theirs, atol=0.011)  # a hundredth is one image
    assert ours == bootstrap_interval(lambda counts: counts[:, 0] / 100, np.array([70, 30]), draws=9999)
    assert all(map(math.isnan, bootstrap_interval(lambda counts: counts[:, 0], np.zeros(3))))


def test_intervals_of_every_score_hold_it():
    torch.manual_seed(0)
    logits, targets = torch.randn(200, 5) + 2 * torch.eye(5)[torch.arange(200) % 5], torch.arange(200) % 5
    logits[:, 4] -= 100  # a class that is never said, and one more that never occurs
    scores = metrics.score(logits, targets % 4, Labels(tuple("abcde")), unreadable=[0, 1])
    full = with_intervals(scores)
    assert full.top1_interval is not None
    assert full.balanced_accuracy_interval is not None
    assert full.top1_interval[0] < full.top1 < full.top1_interval[1]
    assert full.balanced_accuracy_interval[0] < scores.balanced_accuracy < full.balanced_accuracy_interval[1]
    for row in full.per_class[:4]:
        for name in ("precision", "recall", "f1"):
            low, high = getattr(row, f"{name}_interval")
            assert low < getattr(row, name) < high, (row.label, name)
            assert high - low < 0.5
    assert [full.per_class[4].recall_interval, full.per_class[4].precision_interval] == [None, None]
    assert full.per_class[4].f1_interval is None
    first = full.per_class[0]
    np.testing.assert_allclose(first.recall_interval, exact_interval(first.recall * first.support, first.support))
    assert with_intervals(metrics.score(logits[:0], targets[:0], Labels(tuple("abcde")))).top1_interval is None


@pytest.mark.slow
def test_f1_intervals_cover_the_truth():
    """Of sets drawn from known rates, about 95 % must have an interval that holds the true F1."""
    generator, held = np.random.default_rng(0), 0
    truth = 2 * 0.3 / (2 * 0.3 + 0.2)  # right 30 %, one of the two 20 %, neither 50 %
    for number in range(400):
        cells = generator.multinomial(300, [0.3, 0.2, 0.5])
        low, high = bootstrap_interval(
            lambda counts: 2 * counts[:, 0] / (2 * counts[:, 0] + counts[:, 1]), cells, seed=number
        )
        held += low <= truth <= high
    assert 0.92 < held / 400 < 0.98


# ROC, precision and recall --------------------------------------------------------------------------------------------


@examples
@given(questions())
def test_curves_and_areas_equal_scikit_learn_and_torchmetrics(case):
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
    from torchmetrics.functional.classification import binary_auroc

    scores, positive = case
    points = ranking.operating_points(scores, positive)
    if not both_kinds(positive):
        assert ranking.area_under_roc(points) is None
        assert (ranking.average_precision(points) is None) == (not positive.any())
        return
    alarms, found, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(points.false_positive_rate, alarms)
    np.testing.assert_allclose(points.recall, found)
    np.testing.assert_array_equal(points.thresholds, thresholds)
    precision, recall, thresholds = precision_recall_curve(positive, scores)  # from always to never
    np.testing.assert_allclose(points.precision[::-1], precision)
    np.testing.assert_allclose(points.recall[::-1], recall)
    np.testing.assert_array_equal(points.thresholds[:0:-1], thresholds)
    area = ranking.area_under_roc(points)
    assert area == pytest.approx(roc_auc_score(positive, scores))
    assert area == pytest.approx(float(binary_auroc(torch.tensor(scores), torch.tensor(positive).long())), abs=1e-6)
    assert ranking.average_precision(points) == pytest.approx(average_precision_score(positive, scores))


def plainly(scores: np.ndarray, positive: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Threshold, recall, precision and false-positive rate, by counting at each."""
    rows = []
    for threshold in sorted({math.inf, *scores.tolist()}, reverse=True):
        said = scores >= threshold
        hits, alarms = int((said & positive).sum()), int((said & ~positive).sum())
        precision = hits / (hits + alarms) if said.any() else 1.0
        rows.append((threshold, hits / positive.sum(), precision, alarms / (~positive).sum()))
    return rows


@examples
@given(questions(), st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0]))
def test_operating_thresholds_are_the_best_that_keep_the_wish(case, wanted):
    scores, positive = case
    if not both_kinds(positive):
        return
    points, rows = ranking.operating_points(scores, positive), plainly(scores, positive)

    def figures(chosen: ranking.Chosen | None) -> list[float] | None:
        if chosen is None:
            return None
        return [chosen.threshold, chosen.recall, chosen.precision, chosen.false_positive_rate]

    enough = [row for row in rows if row[1] >= wanted - 1e-12]
    assert figures(ranking.for_recall(points, wanted)) == pytest.approx(min(enough, key=lambda row: row[3]))
    precise = [row for row in rows if row[2] >= wanted and row[1] > 0]
    best = max(precise, key=lambda row: (row[1], row[3])) if precise else None
    chosen = ranking.for_precision(points, wanted)
    assert (chosen is None) == (best is None)
    if chosen is not None and best is not None:
        assert chosen.recall == pytest.approx(best[1])
        assert chosen.precision >= wanted
    quiet = [row for row in rows if row[3] <= wanted + 1e-12]
    most = max(row[1] for row in quiet)
    expected = min((row for row in quiet if row[1] == most), key=lambda row: row[3])
    assert figures(ranking.for_false_positive_rate(points, wanted)) == pytest.approx(expected)


def test_without_positives_or_negatives_there_is_no_threshold():
    none = ranking.operating_points(np.array([0.1, 0.9]), np.array([False, False]))
    assert ranking.for_recall(none, 0.9) is None
    assert ranking.for_precision(none, 0.9) is None
    assert ranking.for_false_positive_rate(none, 0.1) is None
    empty = ranking.operating_points(np.zeros(0), np.zeros(0, dtype=bool))
    assert empty.thresholds.tolist() == [math.inf]


@examples
@given(st.integers(1, 50), st.integers(2, 6), st.booleans(), seeds)
def test_decisions_are_those_of_least_expected_cost(n, classes, may_refuse, seed):
    generator = np.random.default_rng(seed)
    chances = generator.dirichlet(np.ones(classes), n)
    costs = generator.integers(0, 9, (classes, classes + may_refuse)).astype(float)
    decisions = ranking.best_decisions(chances, costs)
    for row, decision in zip(chances, decisions, strict=True):
        expected = [sum(row[c] * costs[c, d] for c in range(classes)) for d in range(costs.shape[1])]
        assert expected[decision] == pytest.approx(min(expected))
    targets = generator.integers(0, classes, n)
    plain = sum(costs[t, d] for t, d in zip(targets, decisions, strict=True)) / n
    assert ranking.mean_cost(targets, decisions, costs) == pytest.approx(plain)


def test_equal_costs_decide_as_the_largest_probability_does():
    chances = np.random.default_rng(0).dirichlet(np.ones(4), 100)
    assert (ranking.best_decisions(chances, 1 - np.eye(4)) == chances.argmax(1)).all()
    with_refusal = np.hstack([1 - np.eye(4), np.full((4, 1), 0.3)])  # Chow: refuse below 70 %
    assert ((ranking.best_decisions(chances, with_refusal) == 4) == (chances.max(1) < 0.7)).all()
    for bad in (np.eye(3), np.ones((4, 6)), np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match="costs"):
            ranking.best_decisions(chances, bad)


# rejection ------------------------------------------------------------------------------------------------------------


@examples
@given(questions(), st.integers(0, 5), st.sampled_from([0.0, 0.01, 0.2, 0.5]))
def test_rejection_by_counting_at_every_threshold(case, unreadable, wanted):
    confidence, correct = case
    curve = rejection_curve(confidence, correct, unreadable)
    n, best, areas = len(correct) + unreadable, None, []
    for place, threshold in enumerate(sorted(set(confidence.tolist()), reverse=True)):
        kept = confidence >= threshold
        wrong = int((~correct[kept]).sum())
        assert curve.thresholds[place] == threshold
        assert curve.coverage[place] == pytest.approx(kept.sum() / n)
        assert curve.error[place] == pytest.approx(wrong / kept.sum())
        areas += [wrong / kept.sum()] * int((confidence == threshold).sum())
        if wrong <= wanted * kept.sum():
            best = (threshold, 1 - kept.sum() / n, int(kept.sum()), wrong)
    assert len(curve.thresholds) == len(set(confidence.tolist()))
    assert curve.area == pytest.approx(np.mean(areas))
    found = curve.for_error(wanted)
    keys = ("threshold", "rejected", "answered", "wrong")
    assert (found and [found[key] for key in keys]) == (pytest.approx(best) if best else None)


def test_rejection_of_nothing():
    curve = rejection_curve(np.zeros(0), np.zeros(0, dtype=bool), unreadable=3)
    assert (curve.area, curve.for_error(0.5), curve.n) == (None, None, 3)


# calibration ----------------------------------------------------------------------------------------------------------


@examples
@given(st.integers(1, 200), st.integers(2, 20), seeds)
def test_reliability_equals_torchmetrics(n, bins, seed):
    from torchmetrics.functional.classification import multiclass_calibration_error

    generator = np.random.default_rng(seed)
    chances, targets = generator.dirichlet(np.ones(3), n).astype(np.float32), generator.integers(0, 3, n)
    ours = reliability(chances.max(1), chances.argmax(1) == targets, bins)
    for norm, value in (("l1", ours.ece), ("max", ours.largest_gap)):
        theirs = multiclass_calibration_error(torch.tensor(chances), torch.tensor(targets), 3, n_bins=bins, norm=norm)
        assert value == pytest.approx(float(theirs), abs=1e-5)
    again = Reliability.from_dict(ours.to_dict())
    assert again.ece == ours.ece
    assert again.counts.tolist() == ours.counts.tolist()


def drawn(n: int, classes: int, seed: int, sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that claim `sharpness` times too much, and targets drawn from what they should claim."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return sharpness * logits, targets


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 8), seeds, st.sampled_from([0.3, 1.0, 2.0, 5.0]))
def test_the_temperature_is_the_likeliest(classes, seed, sharpness):
    from scipy.optimize import minimize_scalar

    logits, targets = drawn(300, classes, seed, sharpness)
    rows, truth = logits.double(), targets
    if (logits.argmax(1) != targets).sum() < calibration.LEAST_WRONG:
        return

    def loss(log: float) -> float:
        return float(torch.nn.functional.cross_entropy(rows / math.exp(log), truth))

    best = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-9})
    fitted = calibration.fit_temperature(logits, targets)
    if fitted.value != 1:
        assert fitted.value == pytest.approx(math.exp(best.x), rel=1e-4)
        assert fitted.loss_after < fitted.loss_before
    else:  # next to 1 it need not help on other images
        assert math.exp(best.x) == pytest.approx(1, abs=0.35)
    assert fitted.loss_before == pytest.approx(loss(0.0))


def test_the_temperature_equals_scikit_learns():
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Given(ClassifierMixin, BaseEstimator):
        def fit(self, rows, targets):
            self.classes_ = np.unique(targets)
            return self

        def decision_function(self, rows):
            return rows

        def predict(self, rows):
            return self.classes_[rows.argmax(axis=1)]

    logits, targets = drawn(500, 4, 3, 2.5)
    rows, truth = logits.double().numpy(), targets.numpy()
    theirs = CalibratedClassifierCV(FrozenEstimator(Given().fit(rows, truth)), method="temperature").fit(rows, truth)
    ours = metrics.probabilities(logits, calibration.fit_temperature(logits, targets).value)
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(rows), atol=1e-3)


def test_a_temperature_is_not_looked_for_where_it_cannot_be_had():
    logits, targets = drawn(300, 4, 0, 3.0)
    few = calibration.fit_temperature(logits[:49], targets[:49])
    assert (few.value, few.images) == (1.0, 49)
    assert "49 images are too few" in few.why
    all_right = calibration.fit_temperature(logits, logits.argmax(1))
    assert all_right.value == 1.0
    assert "0 wrong answers" in all_right.why
    honest = calibration.fit_temperature(*drawn(60, 4, 4, 1.0))  # as it should be: nothing to be gained
    assert honest.value == 1.0 or honest.loss_after < honest.loss_before
    hot = calibration.fit_temperature(logits, targets)
    assert f"negative log-likelihood {hot.loss_before:.3g} before, {hot.loss_after:.3g} after" in hot.in_words()
    assert few.in_words().endswith(few.why)
    logits[5, 1] = math.nan
    logits[6, 0] = -math.inf
    assert calibration.fit_temperature(logits, targets).images == 298
    assert calibration.fit_temperature(logits, targets).value == pytest.approx(3.0, rel=0.3)


def test_a_temperature_moves_the_calibration_alone():
    logits, targets = drawn(400, 6, 1, 4.0)
    labels = Labels(tuple("abcdef"))
    before, after = metrics.score(logits, targets, labels), metrics.score(logits, targets, labels, temperature=4.0)
    assert (after.top1, after.top5, after.loss, after.confusion) == (
        before.top1,
        before.top5,
        before.loss,
        before.confusion,
    )
    assert after.ece < before.ece / 2
    assert [usual_k(classes) for classes in (2, 3, 4, 5, 6, 1000)] == [None, None, 2, 2, 5, 5]


# pairs and groups -----------------------------------------------------------------------------------------------------


@examples
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_binomial_test(only_first, only_second):
    from scipy.stats import binomtest

    tosses = only_first + only_second
    expected = binomtest(only_first, tosses, 0.5).pvalue if tosses else 1.0
    assert exact_mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9)


def test_two_networks_on_the_same_images():
    first, second = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    first[:80], second[:60], second[80:95] = True, True, True
    pair = compare_pairs(first, second)
    assert (pair.n, pair.both_right, pair.only_first, pair.only_second, pair.both_wrong) == (100, 60, 20, 15, 5)
    assert pair.difference == pytest.approx(-0.05)
    spread = 1.96 * math.sqrt(0.35 - 0.05**2) / 10  # of the mean of -1, 0 and 1
    assert (pair.low, pair.high) == pytest.approx((-0.05 - spread, -0.05 + spread), abs=0.015)
    assert pair.p == pytest.approx(0.49955, abs=1e-4)
    same = compare_pairs(first, first)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="same images"):
        compare_pairs(first, second[:50])


@examples
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_by_its_definition(values):
    adjusted = holm(values)
    for alpha in (0.01, 0.05, 0.2):
        rejected: set[int] = set()  # step down: stop at the first that is not small enough
        for rank, place in enumerate(sorted(range(len(values)), key=lambda one: values[one])):
            if values[place] * (len(values) - rank) > alpha:
                break
            rejected.add(place)
        assert {place for place, value in enumerate(adjusted) if value <= alpha} == rejected


@examples
@given(st.integers(1, 60), seeds)
def test_groups_are_scored_as_if_alone(n, seed):
    generator = np.random.default_rng(seed)
    groups = generator.choice(np.array(["old", "new", "", None], dtype=object), n).tolist()
    targets, correct = generator.integers(0, 4, n), generator.random(n) < 0.7
    rows = by_group(groups, targets, correct)
    assert sum(row.n for row in rows) == n
    assert [row.top1 for row in rows] == sorted(row.top1 for row in rows)
    for row in rows:
        inside = np.array([(one or "(none)") == row.group for one in groups])
        assert row.top1 == pytest.approx(correct[inside].mean())
        recalls = [correct[inside & (targets == c)].mean() for c in set(targets[inside].tolist())]
        assert row.balanced_accuracy == pytest.approx(np.mean(recalls))
        assert row.low <= row.top1 <= row.high
