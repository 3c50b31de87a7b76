"""Scores of several labels an image, each against scikit-learn, torchmetrics or the plain definition on random cases:
with ties, labels that no image or every image has, images without labels, single images.
"""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

from striate.metrics import multi_label as ours
from striate.metrics import score
from striate.metrics.label_summary import score_labels
from striate.spec import Labels

examples = settings(max_examples=40, deadline=None)


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties or none, [n, L], and truths of 0 and 1."""
    n, labels = draw(st.sampled_from([1, 2, 7, 40])), draw(st.integers(2, 7))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = generator.random((n, labels)) if draw(st.booleans()) else generator.integers(0, 5, (n, labels)) / 4
    shares = generator.choice([0.0, 0.1, 0.5, 1.0], labels)
    return scores.astype(np.float32), (generator.random((n, labels)) < shares).astype(np.uint8)


def unanswered(scores: np.ndarray, rows: slice) -> np.ndarray:
    given_up = scores.copy()
    given_up[rows] = np.nan
    return given_up


# average precision ----------------------------------------------------------------------------------------------------


@examples
@given(answers())
def test_average_precision_equals_scikit_learn_and_torchmetrics(case):
    scores, truths = case
    found, occurs = ours.average_precisions(scores, truths), truths.any(axis=0)
    assert np.isnan(found).tolist() == (~occurs).tolist()
    for label in np.flatnonzero(occurs):
        assert found[label] == pytest.approx(sk.average_precision_score(truths[:, label], scores[:, label]), abs=1e-9)
    mean = ours.mean_average_precision(scores, truths)
    if not occurs.any():
        assert mean is None
        return
    assert mean == pytest.approx(found[occurs].mean())
    if occurs.all():  # of others torchmetrics warns
        theirs = multilabel_average_precision(
            torch.from_numpy(scores), torch.from_numpy(truths).long(), len(occurs), average="none"
        )
        np.testing.assert_allclose(found, theirs.numpy(), atol=1e-6)


@examples
@given(answers())
def test_an_image_without_an_answer_is_found_at_no_threshold(case):
    scores, truths = case
    silent = unanswered(scores, slice(0, 1))
    found, rest = ours.average_precisions(silent, truths), ours.average_precisions(scores[1:], truths[1:])
    of_all, of_rest = truths.sum(axis=0), truths[1:].sum(axis=0)
    for label in np.flatnonzero(of_all):  # the same curve, its recall ending sooner
        share = of_rest[label] / of_all[label]
        assert found[label] == pytest.approx(share * np.nan_to_num(rest[label]))


def resampled_precisions(scores: np.ndarray, truths: np.ndarray, draws: int = 1000) -> np.ndarray:
    """The bootstrap as it is written in books: images copied, scores computed anew."""
    generator, found = np.random.default_rng(1), []
    for _ in range(draws):
        rows = generator.integers(0, len(scores), len(scores))
        found.append(ours.mean_average_precision(scores[rows], truths[rows]) or 0.0)
    return np.array(found)


@examples
@given(answers(), st.integers(0, 2**32 - 1))
def test_sets_drawn_by_counts_score_as_copied_images_do(case, seed):
    scores, truths = case
    if seed % 3 == 0:
        scores = unanswered(scores, slice(0, len(scores) // 3))
    counts = np.random.default_rng(seed).multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=3)
    truths, expected = truths.astype(bool), []
    for row in counts:
        rows = np.repeat(np.arange(len(scores)), row)
        found = ours.mean_average_precision(scores[rows], truths[rows])
        expected.append(np.nan if found is None else found)
    np.testing.assert_allclose(ours._drawn_means(scores, truths, counts), expected, atol=1e-9)


def test_the_interval_is_that_of_the_bootstrap():
    generator = np.random.default_rng(0)
    truths = generator.random((150, 3)) < 0.3
    scores = generator.random((150, 3)) + 0.5 * truths
    low, high = ours.precision_interval(scores, truths)
    drawn = resampled_precisions(scores, truths, draws=400)
    np.testing.assert_allclose((low, high), np.quantile(drawn, [0.025, 0.975]), atol=0.015)
    assert low < ours.mean_average_precision(scores, truths) < high
    assert ours.precision_interval(scores, truths) == (low, high)
    assert ours.precision_interval(scores, np.zeros_like(truths)) is None
    alone = np.arange(5)[:, None] == 4  # a third of the sets drawn lack it, and have no average precision
    assert ours.precision_interval(alone.astype(float), alone) == (1.0, 1.0)
    assert ours.precision_interval(np.zeros((0, 3)), np.zeros((0, 3))) is None


# two networks ---------------------------------------------------------------------------------------------------------


def test_two_networks_are_compared_on_the_same_images():
    generator = np.random.default_rng(0)
    truths = generator.random((300, 4)) < 0.2
    noise = generator.random((300, 4))
    weak, strong = noise + 0.3 * truths, noise + 0.9 * truths
    pair = ours.compare_precisions(weak, strong, truths)
    assert pair.n == 300
    assert pair.difference == pytest.approx(pair.second - pair.first)
    assert 0 < pair.low < pair.difference < pair.high
    assert pair.p < 0.01
    back = ours.compare_precisions(strong, weak, truths)
    assert (back.low, back.high) == pytest.approx((-pair.high, -pair.low))
    same = ours.compare_precisions(weak, weak, truths)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_comparing_needs_the_same_images_with_labels():
    with pytest.raises(ValueError, match="must be"):
        ours.compare_precisions(np.zeros((3, 2)), np.zeros((4, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="no image has a label"):
        ours.compare_precisions(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 2)))


def test_the_p_value_of_equal_networks_is_small_as_rarely_as_it_says():
    small = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        truths = generator.random((60, 2)) < 0.4
        scores = [generator.random((60, 2)) + 0.4 * truths for _ in range(2)]
        small += ours.compare_precisions(*scores, truths).p < 0.1
    assert 1 <= small <= 14  # 6 expected


# sets of labels -------------------------------------------------------------------------------------------------------


@examples
@given(answers(), st.sampled_from([0.25, 0.5, 0.6]))
def test_set_scores_equal_scikit_learn_and_torchmetrics(case, threshold):
    scores, truths = case
    chosen = ours.chosen_labels(scores, threshold)
    assert (chosen == (scores >= threshold)).all()
    found = ours.set_scores(scores, truths, threshold)
    assert found.exact_match == pytest.approx(sk.accuracy_score(truths, chosen))
    assert found.hamming_loss == pytest.approx(sk.hamming_loss(truths, chosen))
    assert found.micro_f1 == pytest.approx(sk.f1_score(truths, chosen, average="micro", zero_division=0))
    seen = truths.any(axis=0) | chosen.any(axis=0)
    of_labels = sk.f1_score(truths, chosen, average=None, zero_division=0)
    expected = of_labels[seen].mean() if seen.any() else 0.0
    assert found.macro_f1 == pytest.approx(expected)
    theirs = multilabel_f1_score(
        torch.from_numpy(chosen).long(), torch.from_numpy(truths).long(), truths.shape[1], average="micro"
    )
    assert found.micro_f1 == pytest.approx(float(theirs), abs=1e-6)
    expected = sk.label_ranking_average_precision_score(truths, scores)
    assert found.ranking_precision == pytest.approx(expected)


@examples
@given(answers())
def test_an_image_without_an_answer_has_its_set_wrong_and_its_labels_missed(case):
    scores, truths = case
    silent = unanswered(scores, slice(0, 1))
    found = ours.set_scores(silent, truths, 0.5)
    chosen = scores >= 0.5
    chosen[0] = False
    right = (chosen == truths).all(axis=1)
    right[0] = False
    assert found.exact_match == pytest.approx(right.mean())
    assert found.hamming_loss == pytest.approx(sk.hamming_loss(truths, chosen))
    assert found.ranking_precision <= 1 - 1 / len(scores) + 1e-12
    assert not ours.hits(silent, truths, scores.shape[1])[0]


def test_scores_of_no_images():
    empty = np.zeros((0, 3))
    assert ours.set_scores(empty, empty, 0.5) == ours.SetScores(0, 0, 0, 0, 0)
    assert ours.mean_average_precision(empty, empty) is None
    assert ours.best_thresholds(empty, empty).tolist() == [0.5] * 3
    with pytest.raises(ValueError, match=r"must be \[n, labels\]"):
        ours.average_precisions(np.zeros((2, 3)), np.zeros((2, 2)))


@examples
@given(answers(), st.integers(1, 5))
def test_hits_are_those_of_the_plain_definition(case, k):
    scores, truths = case
    expected = []
    for row, truth in zip(scores, truths, strict=True):
        first = sorted(range(len(row)), key=lambda label: (-row[label], label))[:k]
        expected.append(any(truth[label] for label in first))
    assert ours.hits(scores, truths, k).tolist() == expected


@examples
@given(answers())
def test_labels_are_counted_together(case):
    _, truths = case
    pairs = ours.together(truths)
    for one in range(truths.shape[1]):
        for other in range(truths.shape[1]):
            assert pairs[one, other] == (truths[:, one] & truths[:, other]).sum()


# thresholds -----------------------------------------------------------------------------------------------------------


@examples
@given(answers())
def test_no_threshold_has_a_larger_f1_than_the_chosen_one(case):
    scores, truths = case
    thresholds = ours.best_thresholds(scores, truths)
    chosen = ours.chosen_labels(scores, thresholds)
    for label, threshold in enumerate(thresholds.tolist()):
        column, truth = scores[:, label], truths[:, label]
        assert 0 <= threshold <= 1
        if truth.all() or not truth.any():
            assert threshold == 0.5
            continue
        said = column >= np.unique(column)[:, None]
        f1 = 2 * (said & truth.astype(bool)).sum(axis=1) / (said.sum(axis=1) + truth.sum())
        assert sk.f1_score(truth, chosen[:, label], zero_division=0) == pytest.approx(f1.max())


def test_a_threshold_keeps_its_distance_to_both_sides():
    scores = np.array([[0.9], [0.6], [0.2], [0.1]])
    assert ours.best_thresholds(scores, np.array([[1], [1], [0], [0]])) == pytest.approx([0.4])
    assert ours.best_thresholds(scores, np.array([[0], [1], [0], [1]])) == pytest.approx([0.05])
    neighbours = np.array([[0.5], [np.nextafter(np.float32(0.5), np.float32(0))]], dtype=np.float32)
    truths = np.array([[1], [0]])
    assert (ours.chosen_labels(neighbours, ours.best_thresholds(neighbours, truths)) == truths).all()


def test_fitted_thresholds_are_tried_on_images_that_did_not_decide_them():
    generator = np.random.default_rng(0)
    truths = generator.random((400, 3)) < [0.1, 0.3, 0.0]
    chances = 0.2 * generator.random((400, 3)) + 0.15 * truths
    found = ours.fit_thresholds(chances, truths)
    assert found.values == tuple(ours.best_thresholds(chances, truths))
    assert (found.images, found.unfitted, found.macro_f1_before, found.values[2]) == (400, 1, 0.0, 0.5)
    on_the_same = ours.set_scores(chances, truths, found.values)
    assert 0.5 < found.macro_f1_after <= on_the_same.macro_f1
    assert 0.5 < found.micro_f1_after <= on_the_same.micro_f1
    assert "thresholds of 2 labels, fitted on 400 images: mean F1 0.0% with 0.5" in found.in_words()
    assert ours.fit_thresholds(chances[:3], truths[:3]).images == 3


# all of them ----------------------------------------------------------------------------------------------------------


@examples
@given(answers(), st.booleans())
def test_all_scores_at_once(case, with_unreadable):
    chances, truths = case
    logits = torch.logit(torch.from_numpy(chances).double() * 0.98 + 0.01)
    labels = Labels(tuple(f"label {place}" for place in range(truths.shape[1])), multi_label=True)
    thresholds = [0.3] * len(labels)
    lost = truths[:1] if with_unreadable else None
    found = score_labels(
        logits, torch.from_numpy(truths).float(), labels, thresholds=thresholds, unreadable=lost, intervals=True
    )
    whole = np.concatenate([truths, truths[: int(with_unreadable)]])
    said = np.concatenate([logits.sigmoid().numpy() >= 0.3, np.zeros((int(with_unreadable), len(labels)), bool)])
    precision, recall, f1, support = sk.precision_recall_fscore_support(whole, said, zero_division=0)
    rows = found.per_class
    np.testing.assert_allclose([one.precision for one in rows], precision)
    np.testing.assert_allclose([one.recall for one in rows], recall)
    np.testing.assert_allclose([one.f1 for one in rows], f1)
    assert [one.support for one in rows] == support.tolist()
    assert [one.threshold for one in rows] == thresholds
    assert (found.n, found.unreadable) == (len(whole), int(with_unreadable))
    losses = torch.nn.functional.binary_cross_entropy(logits.sigmoid(), torch.from_numpy(truths).double())
    assert found.loss == pytest.approx(float(losses), rel=1e-5)
    there = [one.average_precision for one in rows if one.average_precision is not None]
    assert len(there) == whole.any(axis=0).sum()
    assert found.map == (pytest.approx(np.mean(there)) if there else None)
    assert (found.top5 is None) == (len(labels) < 6)
    assert found.top1_interval[0] <= found.top1 <= found.top1_interval[1]
    assert "map" in found.summary()
    assert found.confusion == ()
    for one in rows:
        assert (one.recall_interval is None) == (one.support == 0)
    if not with_unreadable:
        assert found.ece == pytest.approx(float(binary_ece(logits, truths)), abs=1e-6)
    assert score(logits, torch.from_numpy(truths), labels).to_dict()["per_class"][0]["threshold"] == 0.5


def binary_ece(logits: torch.Tensor, truths: np.ndarray) -> float:
    """Over all pairs, in bins open below, as they are defined."""
    chances, truth = logits.float().sigmoid().double().numpy().ravel(), truths.ravel()
    bins = np.ceil(chances * 15).astype(int)
    return sum(abs((truth - chances)[bins == one].sum()) for one in np.unique(bins)) / len(truth)


def test_scores_of_single_labels_say_nothing_of_several():
    found = score(torch.eye(2), torch.tensor([0, 1]), Labels(("a", "b")))
    assert found.map is None
    assert "map" not in found.to_dict()
    assert "threshold" not in found.to_dict()["per_class"][0]


def test_answers_that_are_no_numbers_are_none():
    logits = torch.tensor([[4.0, -4.0], [float("inf"), 0.0], [float("nan"), 0.0]])
    found = score_labels(logits, torch.tensor([[1, 0], [1, 0], [0, 0]]), Labels(("a", "b"), multi_label=True), loss=0.0)
    assert (found.n, found.top1, found.exact_match) == (3, 1 / 3, 1 / 3)
    assert found.per_class[0].recall == 0.5
    assert found.map == 0.5
    with pytest.raises(ValueError, match="both must be"):
        score_labels(logits, torch.tensor([0, 1, 1]), Labels(("a", "b"), multi_label=True))
