"""Linear classifiers of codes: the same answers as scikit-learn's, folded exactly, and never flattered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from striate.errors import DataError, UsageError
from striate.linear import classifiers, solver
from striate.linear.classifiers import (
    NEVER,
    fit_softmax,
    fit_svm,
    fitted_temperature,
    fold_numbers,
    out_of_fold,
    softmax,
)
from striate.linear.solver import INTERCEPT, axes_of, outputs, solve
from striate.transfer.result import KINDS


def clouds(
    n: int = 120, features: int = 30, classes: int = 4, apart: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rectified codes of overlapping classes, and the classes."""
    random = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    codes = random.normal(size=(classes, features))[targets] * apart + random.normal(size=(n, features))
    return np.maximum(codes, 0).astype(np.float32), targets


@pytest.mark.parametrize("strength", [0.1, 1.0, 30.0])
@pytest.mark.parametrize(("n", "features"), [(120, 30), (60, 90)])
def test_svms_are_liblinears(strength, n, features, monkeypatch):
    codes, targets = clouds(n, features)
    axes = axes_of(codes)
    problem = ("svm", axes, targets, 4, np.ones((1, n)), np.array([strength]))
    quick = outputs(axes, solve(*problem))[0]
    monkeypatch.setattr(solver, "_TOLERANCE", 1e-6)
    monkeypatch.setattr(solver, "_STEPS", 500)
    ours = outputs(axes, solve(*problem))[0]
    machine = LinearSVC(C=strength, dual=False, tol=1e-7, intercept_scaling=INTERCEPT, max_iter=10_000)
    theirs = machine.fit(axes.values.double().numpy(), targets).decision_function(axes.values.double().numpy())
    assert np.abs(ours - theirs).max() < 0.01 * np.abs(theirs).max()
    assert np.abs(quick - theirs).max() < 0.15 * np.abs(theirs).max()
    assert (quick.argmax(1) == theirs.argmax(1)).mean() > 0.98


@pytest.mark.parametrize("repeated", [False, True])
def test_codes_of_which_most_are_constant_have_axes(repeated):
    """In single precision LAPACK finds no eigenvectors of some of them, or NaN, and does not say so."""
    for seed in range(6):
        random, targets = np.random.default_rng(seed), np.arange(1437) % 10
        seen = np.maximum(
            (random.normal(size=(10, 64))[targets] + random.normal(size=(1437, 64))) @ random.normal(size=(64, 64)), 0
        )
        codes = np.zeros((1437, 256), np.float32)
        codes[:, ::4] = np.repeat(seen[:, :16], 4, axis=1) if repeated else seen
        axes = axes_of(codes)
        assert np.isfinite(axes.values.numpy()).all()
        assert np.isfinite(axes.basis).all()
        length = (axes.values.numpy() ** 2).sum(1).mean()
        assert length == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_softmax_classifiers_are_scikit_learns(strength):
    codes, targets = clouds()
    axes = axes_of(codes)
    ours = outputs(axes, solve("softmax", axes, targets, 4, np.ones((1, 120)), np.array([strength])))[0]
    model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(axes.values.numpy(), targets)
    theirs = model.decision_function(axes.values.numpy())
    ours, theirs = (one - one.mean(1, keepdims=True) for one in (ours, theirs))
    assert np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()


@pytest.mark.parametrize("kind", KINDS)
def test_many_problems_at_once_are_the_problems_one_by_one(kind):
    codes, targets = clouds(60, 12, 3)
    axes = axes_of(codes)
    trains, strengths = np.random.default_rng(1).random((5, 60)) < 0.7, np.array([0.1, 1.0, 1.0, 10.0, 30.0])
    together = outputs(axes, solve(kind, axes, targets, 3, trains, strengths))
    for number in range(5):
        alone = solve(kind, axes, targets, 3, trains[[number]], strengths[[number]])
        assert np.abs(outputs(axes, alone)[0] - together[number]).max() < 0.02 * np.abs(together[number]).max()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_weights_on_the_axes_unfold_to_weights_on_plain_codes(n, features, seed):
    random = np.random.default_rng(seed)
    codes = (random.normal(size=(n, features)) * 10 ** random.uniform(-3, 3, features)).astype(np.float32)
    codes[:, random.random(features) < 0.3] = random.normal()  # dead features
    codes[0] += 1  # not all of them
    axes = axes_of(codes)
    rank = axes.values.shape[1]
    assert rank <= min(n, features)
    weight, bias = random.normal(size=(3, rank)).astype(np.float32), random.normal(size=3).astype(np.float32)
    plain, offset = axes.unfolded(weight, bias)
    expected = axes.values.numpy() @ weight.T + bias
    found = codes.astype(np.float64) @ plain.T.astype(np.float64) + offset
    # float32 weights of features that are far from zero beside their deviation lose digits
    rough = 1e-4 + 1e-6 * np.abs(codes).max() * np.abs(plain).max()
    np.testing.assert_allclose(found, expected, atol=rough * features, rtol=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(KINDS), st.floats(0.05, 10.0), st.integers(0, 100))
def test_the_temperature_is_folded_in(kind, temperature, seed):
    codes, targets = clouds(40, 8, 3, seed=seed)
    known = replace(out_of_fold(codes, targets, 3, kind=kind, regularization=1.0), temperature=1.0)
    fit = fit_svm if kind == "svm" else fit_softmax
    plain = fit(codes, targets, 3, known=known)
    cooled = fit(codes, targets, 3, known=replace(known, temperature=temperature))
    np.testing.assert_allclose(cooled.logits(codes) * temperature, plain.logits(codes), rtol=1e-3, atol=1e-3)
    assert (cooled.predict(codes) == plain.predict(codes)).mean() > 0.97  # ties may fall otherwise
    np.testing.assert_allclose(cooled.probabilities(codes).sum(1), 1, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100))
def test_the_scale_of_features_does_not_matter(seed):
    codes, targets = clouds(60, 10, 3, seed=seed)
    random = np.random.default_rng(seed)
    other = (codes * 10 ** random.uniform(-2, 2, 10) + random.normal(size=10)).astype(np.float32)
    one, two = (fit_svm(x, targets, 3, regularization=1.0).probabilities(x) for x in (codes, other))
    np.testing.assert_allclose(one, two, atol=0.02)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 59), st.integers(1, 2), st.integers(3, 6), st.integers(0, 100))
def test_nothing_of_an_images_label_is_in_its_own_answer(kind, image, shift, count, seed):
    codes, targets = clouds(60, 10, 3, apart=0.5, seed=seed)
    folds = fold_numbers(targets, most=count, seed=seed)
    other = targets.copy()
    other[image] = (targets[image] + shift) % 3
    before, after = (out_of_fold(codes, labels, 3, kind=kind, folds=folds) for labels in (targets, other))
    fold = folds[image]
    assert before.by_fold[fold] == after.by_fold[fold], "C of its fold"
    rows = folds == fold  # nor in those of its fold
    np.testing.assert_allclose(
        before.logits[rows] * before.temperature, after.logits[rows] * after.temperature, rtol=1e-4, atol=1e-5
    )
    mine = np.delete(np.arange(60), image)
    assert np.allclose(before.choosing[fold, mine], after.choosing[fold, mine], atol=1e-5), (
        "which place is best for its fold"
    )


def test_no_choice_looks_at_the_images_it_is_scored_on():
    codes, targets = clouds()
    found = out_of_fold(codes, targets, 4)
    for fold in range(5):
        assert not found.looked_at[fold, found.folds == fold].any()
        assert found.looked_at[fold].any()
    assert not found.choosing[~found.looked_at].any()
    assert found.choosing[found.looked_at].mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_pure_chance_is_not_flattered(kind):
    random = np.random.default_rng(3)
    codes, targets = random.normal(size=(400, 300)).astype(np.float32), random.integers(0, 2, 400)
    right = out_of_fold(codes, targets, 2, kind=kind).correct.sum()
    assert 150 < right < 250, "five deviations of a fair coin"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=80), st.integers(2, 8), st.integers(0, 1000))
def test_folds_share_out_every_class_and_keep_twins_together(labels, most, seed):
    targets = np.array(labels)
    random = np.random.default_rng(seed)
    digests = random.integers(0, 256, (len(targets), 16)).astype(np.uint8)
    twins = [row for row in range(1, len(targets)) if targets[row] == targets[row - 1] and random.random() < 0.2]
    for row in twins:
        digests[row] = digests[row - 1]
    folds = fold_numbers(targets, digests=digests, most=most, seed=seed)
    assert (folds[twins] == folds[np.array(twins, int) - 1]).all()
    assert (folds < most).all()
    for target in np.unique(targets):
        mine = folds[targets == target]
        units = len(np.unique(digests[targets == target], axis=0))
        assert (mine == NEVER).all() or (units >= 2 and len(np.unique(mine)) >= 2)
        if len(mine) == units and not (mine == NEVER).all():
            counts = np.bincount(mine, minlength=max(2, folds.max() + 1))
            assert counts.max() <= counts.min() + 2


def test_groups_share_a_fold():
    groups = [f"patient {row // 4}" for row in range(80)]
    folds = fold_numbers(np.arange(80) // 4 % 2, groups=groups)
    assert all(len(set(folds[row : row + 4].tolist())) == 1 for row in range(0, 80, 4))
    assert len(set(folds.tolist())) == 5


def test_groups_of_several_classes_leave_an_image_of_each_to_learn_from():
    """Patient 0 has all images of class 2, beside some of class 0: held out, nothing would know the class."""
    targets = np.array([0, 2, 2] + [0, 1] * 20)
    groups = ["patient 0"] * 3 + [f"patient {row // 4 + 1}" for row in range(40)]
    folds = fold_numbers(targets, groups=groups)
    assert (folds[:3] == NEVER).all()
    assert (folds[3:] != NEVER).all()
    assert (fold_numbers(np.array([0, 1, 0, 1]), groups=["a", "a", "b", "b"]) != NEVER).all()


def test_large_problems_are_solved_in_parts(monkeypatch):
    codes, targets = clouds(200, 12, 4)
    axes = axes_of(codes)
    for kind in KINDS:
        problem = (kind, axes, targets, 4, np.ones((1, 200)), np.array([10.0]))
        whole = outputs(axes, solve(*problem))
        with monkeypatch.context() as small:
            small.setattr(solver, "_MOST_VALUES", 100)
            assert np.abs(outputs(axes, solve(*problem)) - whole).max() < 0.02 * np.abs(whole).max()


@pytest.mark.parametrize("kind", KINDS)
def test_of_many_images_part_choose_and_all_are_learned_from(kind, monkeypatch):
    codes, targets = clouds(400, 12, 4)
    fit = {"svm": fit_svm, "softmax": fit_softmax}[kind]
    chosen = fit(codes, targets, 4)
    asked, plain = [], classifiers.out_of_fold

    def heard(axes, some, *rest, **named):
        asked.append(some)
        return plain(axes, some, *rest, **named)

    monkeypatch.setattr(classifiers, "out_of_fold", heard)
    monkeypatch.setattr(classifiers, "_MANY_ANSWERS", 400)
    found = fit(codes, targets, 4)
    assert np.bincount(asked[0]).tolist() == [25] * 4
    assert (found.predict(codes) == chosen.predict(codes)).mean() > 0.97


def test_classes_without_images_are_never_predicted():
    codes, targets = clouds(60, 10, 3)
    for fit in (fit_svm, fit_softmax):
        found = fit(codes, targets * 2, 6)
        assert found.weight.shape == (6, 10)
        assert set(found.predict(codes).tolist()) == {0, 2, 4}
        assert found.probabilities(codes)[:, [1, 3, 5]].max() < 1e-6


def test_probabilities_are_about_as_often_right_as_they_say():
    codes, targets = clouds(400, 20, 4, apart=0.5)
    for kind in KINDS:
        found = out_of_fold(codes, targets, 4, kind=kind)
        confidence = found.probabilities.max(axis=1)
        assert abs(confidence.mean() - found.correct.mean()) < 0.06


def test_few_right_answers_are_no_certainty():
    margins = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]] * 2 - 1
    targets = np.array([0, 1, 2, 0, 1])
    few, many = (
        fitted_temperature(margins, targets),
        fitted_temperature(np.tile(margins, (200, 1)), np.tile(targets, 200)),
    )
    assert many < few
    assert 0.7 < softmax(margins / few).max() < 0.98
    assert fitted_temperature(margins[:0], targets[:0]) == 1.0


def test_a_single_image_of_each_class_can_be_learned_from():
    codes, targets = clouds(4, 30, 4)
    assert (fold_numbers(targets) == NEVER).all()
    found = out_of_fold(codes, targets, 4)
    assert len(found.correct) == 0
    assert (fit_svm(codes, targets, 4).predict(codes) == targets).all()


def test_two_classes_are_two_hyperplanes():
    codes, targets = clouds(60, 8, 2, apart=2.0)
    found = fit_svm(codes, targets, 2)
    np.testing.assert_allclose(found.weight[0], -found.weight[1], rtol=1e-5)
    assert (found.predict(codes) == targets).mean() > 0.95


def test_what_cannot_be_is_refused():
    codes, targets = clouds(20, 5, 2)
    with pytest.raises(DataError, match="of one class"):
        fit_svm(codes, np.zeros(20, int), 2)
    with pytest.raises(UsageError, match="unknown classifier"):
        out_of_fold(codes, targets, 2, kind="forest")
    with pytest.raises(UsageError, match="20 classes for 19 codes"):
        fit_softmax(codes[:19], targets, 2)
    with pytest.raises(UsageError, match="targets from 0 to 1 for 1"):
        fit_svm(codes, targets, 1)
    with pytest.raises(UsageError, match="above 0"):
        fit_svm(codes, targets, 2, regularization=0.0)
