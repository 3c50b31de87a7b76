"""Every metric against scikit-learn or torchmetrics on random cases, and by hand on the cases they do not have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from striate import metrics
from striate.spec import Labels


@st.composite
def cases(draw: st.DrawFn, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    n, classes = draw(st.integers(1, 60)), draw(st.integers(2, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = generator.integers(-2, 3, (n, classes)) if ties else generator.normal(0, 3, (n, classes))
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(generator.integers(0, classes, n))


def names(count: int) -> Labels:
    return Labels(tuple(f"class {number}" for number in range(count)))


@settings(max_examples=40, deadline=None)
@given(cases())
def test_scores_equal_scikit_learn(case):
    from sklearn.metrics import (
        accuracy_score,
        confusion_matrix,
        log_loss,
        precision_recall_fscore_support,
        recall_score,
        top_k_accuracy_score,
    )

    logits, targets = case
    classes = list(range(logits.shape[1]))
    scores = metrics.score(logits, targets, names(len(classes)))
    truth, answers = targets.numpy(), logits.argmax(1).numpy()
    assert scores.n == len(truth)
    assert scores.top1 == pytest.approx(accuracy_score(truth, answers), abs=1e-12)
    assert scores.confusion == tuple(map(tuple, confusion_matrix(truth, answers, labels=classes).tolist()))
    ours = [(row.precision, row.recall, row.f1, row.support) for row in scores.per_class]
    theirs = precision_recall_fscore_support(truth, answers, labels=classes, zero_division=0)
    np.testing.assert_allclose(ours, np.transpose(theirs), atol=1e-12)
    occurring = np.unique(truth)  # scikit-learn's balanced accuracy leaves absent classes out, with a warning
    expected = recall_score(truth, answers, labels=occurring, average="macro", zero_division=0)
    assert scores.balanced_accuracy == pytest.approx(expected, abs=1e-12)
    chances = functional.softmax(logits.double(), dim=1).numpy()
    assert scores.loss == pytest.approx(log_loss(truth, chances, labels=classes), rel=1e-5, abs=1e-6)
    if len(classes) >= 6:
        assert scores.top5 == pytest.approx(top_k_accuracy_score(truth, logits.numpy(), k=5, labels=classes))
    else:
        assert scores.top5 is None


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from([1, 7, 15]))
def test_calibration_error_equals_torchmetrics(case, bins):
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, targets = case
    chances = metrics.probabilities(logits)
    confidence, answers = chances.max(dim=1)
    confidence = confidence.clamp(max=1 - 1e-6)  # theirs gives a confidence of exactly 1 a bin of its own
    ours = metrics.calibration_error(confidence, answers == targets, bins)
    spread = chances.scatter(1, answers[:, None], confidence[:, None])
    theirs = multiclass_calibration_error(spread, targets, num_classes=logits.shape[1], n_bins=bins, norm="l1")
    assert ours == pytest.approx(float(theirs), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(cases(ties=True), st.integers(1, 12))
def test_top_k_gives_ties_to_the_lower_class(case, k):
    logits, targets = case
    hits = 0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda number: (-row[number], number))
        hits += target in order[:k]
    assert metrics.top_k(logits, targets, k) == hits / len(targets)
    order = metrics.ranked(logits, k)[1]
    assert hits == int((order == targets[:, None]).any(dim=1).sum())
    assert torch.equal(metrics.predicted(logits), order[:, 0])


def test_ranks_by_hand():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0]]).repeat(4, 1)
    assert metrics.ranks(logits, torch.arange(4)).tolist() == [2, 0, 1, 3]


def test_unreadable_images_are_wrong_answers():
    logits = torch.eye(6) * 10
    targets = torch.arange(6)
    scores = metrics.score(logits, targets, names(6), unreadable=[0, 0])
    assert (scores.n, scores.unreadable) == (8, 2)
    assert scores.top1 == scores.top5 == 6 / 8
    first = scores.per_class[0]
    assert (first.precision, first.support) == (1.0, 3)
    assert first.recall == pytest.approx(1 / 3)
    assert first.f1 == pytest.approx(2 / (1 + 3))
    assert scores.balanced_accuracy == pytest.approx((1 / 3 + 5) / 6)
    assert sum(map(sum, scores.confusion)) == 6


def test_a_row_with_a_nan_gives_no_answer():
    logits = torch.tensor([[math.nan, 0.0], [5.0, math.nan], [2.0, 1.0], [math.nan, math.nan]])
    scores = metrics.score(logits, torch.tensor([0, 0, 0, 0]), names(2))
    assert scores.top1 == 0.25
    assert scores.confusion == ((1, 0), (0, 0))
    assert math.isnan(scores.loss)
    assert scores.per_class[0].recall == 0.25
    assert metrics.top_k(logits, torch.zeros(4, dtype=torch.int64), 2) == 0.25


def test_no_images_at_all():
    scores = metrics.score(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), names(3))
    assert (scores.n, scores.top1, scores.balanced_accuracy, scores.ece) == (0, 0.0, None, None)
    scores = metrics.score(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), names(3), unreadable=[1])
    assert (scores.n, scores.top1, scores.balanced_accuracy) == (1, 0.0, 0.0)


def test_infinite_logits_do_not_disturb():
    logits = torch.tensor([[-math.inf, 0.0, 1.0], [0.0, -math.inf, -math.inf]])
    scores = metrics.score(logits, torch.tensor([2, 0]), names(3))
    assert scores.top1 == 1.0
    assert scores.ece is not None
    assert not math.isnan(scores.ece)


def test_the_loss_of_a_head_is_taken_over():
    assert metrics.score(torch.eye(2), torch.tensor([0, 1]), names(2), loss=7.5).loss == 7.5


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected \(2, 3\)"):
        metrics.score(torch.eye(2), torch.tensor([0, 1]), names(3))


def test_a_thousand_classes_take_no_python_loop_over_images():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5000, 1000, generator=generator)
    targets = torch.randint(1000, (5000,), generator=generator)
    scores = metrics.score(logits, targets, names(1000))
    assert len(scores.confusion) == 1000
    assert sum(map(sum, scores.confusion)) == 5000
    best = logits.topk(5, dim=1).indices  # no ties among random floats
    assert scores.top5 == pytest.approx((best == targets[:, None]).any(dim=1).double().mean().item())
