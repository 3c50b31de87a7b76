"""Blends: what several classifiers answer together, and what each of them counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.linear import blending
from striate.linear.blending import blended, summed
from striate.linear.classifiers import (
    NEVER,
    Linear,
    OutOfFold,
    fit_softmax,
    fit_svm,
    fold_numbers,
    out_of_fold,
    softmax,
)


def answers(logits: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> OutOfFold:
    looked_at = np.zeros((2, len(targets)), bool)
    return OutOfFold(
        kind="svm", logits=logits.astype(np.float32), targets=targets, folds=folds, regularization=1.0, by_fold=(),
        temperature=1.0, choosing=looked_at.astype(np.float32), looked_at=looked_at,
    )  # fmt: skip


def drawn(n: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    random = np.random.default_rng(seed)
    return np.arange(n) % classes, np.arange(n) // classes % 5, random


def test_weights_by_hand():
    """One classifier gives the true class 1/2 or 1/4 by turns, the other 1/4 always: half of log 2 behind on average.

    It is behind by log 2 and 0 by turns: a standard deviation of half of log 2, over the root of 16 images an eighth of
    log 2. So it is 4 standard errors behind, and e^-4 is less than what counts.
    """
    surprise = np.log(np.array([[2.0, 4.0] * 8, [4.0, 4.0] * 8]))
    assert blending._weights(surprise).tolist() == [1.0, 0.0]
    few = surprise[:, :4]  # twice the standard error: 2 of them behind
    assert blending._weights(few) == pytest.approx([1 / (1 + np.exp(-2)), np.exp(-2) / (1 + np.exp(-2))])


def test_equal_classifiers_count_the_same_and_answer_as_one():
    targets, folds, random = drawn()
    one = answers(random.normal(size=(60, 3)) + 2 * np.eye(3)[targets], targets, folds)
    found = blended({"first": one, "second": one})
    assert dict(found.weights) == {"first": 0.5, "second": 0.5}
    assert (found.answers.predicted == one.predicted).all()
    apart = found.answers.logits * found.answers.temperature - np.log(softmax(one.logits))
    assert np.abs(apart).max() < 1e-5


def test_who_knows_nothing_does_not_count():
    targets, folds, random = drawn(300)
    knows = answers(random.normal(size=(300, 3)) + 3 * np.eye(3)[targets], targets, folds)
    guesses = answers(random.normal(size=(300, 3)), targets, folds)
    assert dict(blended({"guesses": guesses, "knows": knows}).weights) == {"knows": 1.0}


def test_groups_count_the_same_whatever_they_know():
    targets, folds, random = drawn(300)
    knows = answers(random.normal(size=(300, 3)) + 3 * np.eye(3)[targets], targets, folds)
    guesses = [answers(random.normal(size=(300, 3)), targets, folds) for _ in range(2)]
    weights = blended({"knows": knows}, dict(enumerate(guesses))).weights
    assert weights["knows"] == 0.5
    assert sum(weights.values()) == pytest.approx(1)


def test_two_that_know_different_things_know_more_together():
    targets, folds, random = drawn(600)
    both = [answers(random.normal(size=(600, 3)) + 1.5 * np.eye(3)[targets], targets, folds) for _ in range(2)]
    found = blended(dict(enumerate(both)))
    assert found.answers.correct.mean() > max(one.correct.mean() for one in both) + 0.05
    assert len(found.weights) == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_no_image_is_answered_with_weights_that_its_own_fold_has_found(seed, fold):
    """With other targets in one fold the blend says the same of its images, as far as it is not the temperature's."""
    targets, folds, random = drawn(seed=seed)
    logits = [random.normal(size=(60, 3)) + strength * np.eye(3)[targets] for strength in (0.5, 1.0, 2.0)]
    own, others = folds == fold, targets.copy()
    others[own] = random.permutation(others[own])
    before, after = (
        blended({number: answers(one, truth, folds) for number, one in enumerate(logits)}).answers
        for truth in (targets, others)
    )
    mixed = [one.logits[own] * one.temperature for one in (before, after)]
    assert np.abs(mixed[0] - mixed[1]).max() < 1e-4


def test_images_that_are_never_held_out_are_not_answered():
    targets, folds, random = drawn()
    folds = np.where(np.arange(60) < 5, NEVER, folds)
    logits = np.where((folds == NEVER)[:, None], np.nan, random.normal(size=(60, 3)) + np.eye(3)[targets])
    found = blended({"one": answers(logits, targets, folds), "other": answers(2 * logits, targets, folds)})
    assert np.isnan(found.answers.logits[:5]).all()
    assert np.isfinite(found.answers.logits[5:]).all()
    assert len(found.answers.correct) == 55


def test_the_parts_add_up_to_the_blend():
    """Logits of the parts are those of the weighed classifiers over the temperature, but for one number an image."""
    random, targets = np.random.default_rng(3), np.arange(90) % 3
    codes = {
        name: (random.normal(size=(3, width))[targets] + 1.5 * random.normal(size=(90, width))).astype(np.float32)
        for name, width in (("narrow", 30), ("wide", 40))
    }
    folds = fold_numbers(targets)
    fits = {"narrow": fit_svm, "wide": fit_softmax}
    known = {
        name: out_of_fold(codes[name], targets, 3, kind=kind, folds=folds)
        for name, kind in (("narrow", "svm"), ("wide", "softmax"))
    }
    blend = blended(known)
    assert len(blend.weights) == 2
    linear = {name: fits[name](codes[name], targets, 3, known=known[name]) for name in codes}
    parts = summed(linear, blend)
    ours = sum(part.logits(codes[name]) for name, part in parts.items())
    mixed = sum(weight * np.log(linear[name].probabilities(codes[name])) for name, weight in blend.weights.items())
    assert np.abs(softmax(ours) - softmax(mixed / blend.answers.temperature)).max() < 1e-4
    assert all(isinstance(part, Linear) and part.kind == linear[name].kind for name, part in parts.items())
