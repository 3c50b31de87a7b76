"""Probing: figures by depth, similarity, learning curves, and data of which there is hardly any."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transfer.low_digits import quick, some_digits

from striate.data import Dataset
from striate.data.parts import part_of
from striate.errors import UsageError
from striate.linear.classifiers import OutOfFold, out_of_fold
from striate.linear.solver import axes_of
from striate.models.cut import places
from striate.network import open_network
from striate.spec import Labels
from striate.transfer import probing
from striate.transfer.curve import fitted_power_law, forecasts, learning_curve
from striate.transfer.probing import _best, _best_of, probe
from striate.transfer.result import Accuracy, Answers, PowerLaw, ProbeResult, wilson
from striate.transfer.similarity import rule_of_thumb, similarity_of


@pytest.fixture(scope="module")
def found(source, other_digits, tmp_path_factory) -> ProbeResult:
    return probe(other_digits, [str(source)], quick(), cache=tmp_path_factory.mktemp("codes"))


def with_counts(dataset: Dataset, counts: tuple[int, ...]) -> Dataset:
    """So many training images of each class."""
    train = dataset.splits["train"]
    rows = [np.flatnonzero(train.targets == target)[:count] for target, count in enumerate(counts)]
    return replace(dataset, splits={**dataset.splits, "train": part_of(train, np.sort(np.concatenate(rows)))})


def test_every_depth_is_measured_on_images_that_classifiers_had_not_seen(found, source):
    one = found.best
    assert tuple(depth.place for depth in one.depths) == places(open_network(source).model)
    for depth in (one.pixels, *one.depths):
        for kind in ("svm", "softmax"):
            score = depth.by_kind(kind)
            assert score.n == 200
            assert 0 <= score.low < score.top1 < score.high <= 1
            assert score.regularization
    assert one.best.best.top1 > 0.9, "a network of other digits knows most of these"
    assert one.best.by_kind(one.best_kind).top1 > max(depth.best.top1 for depth in one.depths) - 0.03
    assert one.expected.n == 200
    assert abs(one.expected.top1 - one.best.best.top1) < 0.05
    assert one.answers is not None
    assert one.answers.correct.mean() == one.best.by_kind(one.best_kind).top1
    assert found.folds == 5


def test_the_json_has_what_is_promised(found):
    plain = json.loads(json.dumps(found.to_dict()))
    (one,) = plain["sources"]
    assert {"place", "features", "svm", "softmax"} == set(one["depths"][0])
    assert {"top1", "low", "high", "n", "regularization"} == set(one["depths"][0]["svm"])
    assert {"images", "top1", "low", "high"} == set(one["learning_curve"][0])
    assert 0 <= one["similarity"]["figure"] <= 1
    assert plain["best"] == one["source"]
    assert plain["plan"] is None


def test_a_second_probe_reads_the_cache_and_says_the_same(source, other_digits, tmp_path):
    first, second = (probe(other_digits, [str(source)], quick(), cache=tmp_path) for _ in range(2))
    assert [one.best.from_cache for one in (first, second)] == [False, True]
    assert [depth.to_dict() for depth in first.best.depths] == [depth.to_dict() for depth in second.best.depths]
    assert first.best.learning_curve == second.best.learning_curve


def test_only_so_many_training_images_and_no_others_are_looked_at(source, other_digits):
    broken = {name: split for name, split in other_digits.splits.items() if name == "train"}
    result = probe(replace(other_digits, splits=broken), [str(source)], quick(), images=60, cache=None)
    assert (result.images, result.available) == (60, 200)
    assert any("looked at 60 of 200" in note for note in result.notes)
    assert result.best.answers is not None
    assert np.bincount(result.best.answers.targets).tolist() == [12] * 5


def test_the_best_of_several_networks_is_found(source, other_digits):
    blunt = open_network("compact_s", in_channels=1, input_size=8, classes=5)
    with torch.no_grad():
        for parameter in blunt.model.parameters():
            parameter.fill_(0.1)  # all filters see how bright it is, and nothing else
    blunt = replace(blunt, notes={"source": "one filter"})
    result = probe(other_digits, [blunt, str(source)], quick(), cache=None)
    assert result.best_source == str(source)
    assert [one.source for one in result.sources] == ["one filter", str(source)]


def test_of_networks_as_good_within_chance_the_one_that_trusts_the_truth_is_best(found):
    def known(wrong: int, trust: float, name: str):
        targets, right = np.zeros(200, np.int64), np.roll(np.arange(200) >= wrong, wrong)  # others for each network
        true = np.where(right, trust, 0.4)
        probabilities = np.stack([true, 1 - true], axis=1)
        answers = Answers(rows=np.arange(200), targets=targets, probabilities=probabilities)
        return replace(found.best, source=name, single=Accuracy.of(right), blend=None, answers=answers)

    first, second, worse = known(20, 0.6, "first"), known(22, 0.9, "second"), known(60, 0.99, "worse")
    assert _best_of([first, second, worse]).source == "second"
    assert _best_of([first, worse]).source == "first"


def test_the_place_goes_by_probabilities_and_the_classifier_by_right_answers():
    def answers(kind: str, right: int, trust: float) -> OutOfFold:
        """Of 40 images of two classes so many right; the true class gets `trust`, or as much less than a half."""
        targets = np.zeros(40, np.int64)
        true = np.where(np.arange(40) < right, trust, 1 - trust)
        looked_at = ~np.eye(4, dtype=bool).repeat(10, axis=1)
        return OutOfFold(
            kind=kind, logits=np.log(np.stack([true, 1 - true], axis=1)).astype(np.float32), targets=targets,
            folds=np.arange(40) // 10, regularization=1.0, by_fold=(1.0,) * 4, temperature=1.0,
            choosing=(looked_at * true).astype(np.float32), looked_at=looked_at,
        )  # fmt: skip

    sure_softmax = {("low", "softmax"): answers("softmax", 38, 0.7), ("top", "softmax"): answers("softmax", 36, 0.99)}
    unsure_svm = {("low", "svm"): answers("svm", 37, 0.6), ("top", "svm"): answers("svm", 37, 0.65)}
    assert _best(("low", "top"), sure_softmax | unsure_svm) == ("top", "svm")
    better = {("low", "svm"): answers("svm", 35, 0.6), ("top", "svm"): answers("svm", 35, 0.65)}
    assert _best(("low", "top"), sure_softmax | better) == ("top", "softmax")
    equal = {("low", "svm"): answers("svm", 36, 0.6), ("top", "svm"): answers("svm", 36, 0.6)}
    assert _best(("low", "top"), sure_softmax | equal) == ("top", "svm")  # of equals the SVM, and the deeper place


def test_of_many_classes_more_images_are_looked_at(source, other_digits, monkeypatch):
    monkeypatch.setattr(probing, "IMAGES", 10)
    assert probe(other_digits, [str(source)], quick(), cache=None).images == 25
    assert probe(other_digits, [str(source)], quick(), images=10, cache=None).images == 10


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_hardly_any_images(source, other_digits, count):
    result = probe(with_counts(other_digits, (count,) * 5), [str(source)], quick(), cache=None)
    one = result.best
    json.dumps(result.to_dict())
    if count == 1:
        assert result.folds == 0
        assert math.isnan(one.expected.top1)
        assert "no accuracy can be measured" in result.notes[0]
        assert one.best_place == one.depths[-1].place
        assert one.learning_curve == ()
    else:
        assert one.expected.n == 5 * count
        assert one.expected.high - one.expected.low > 0.1
        assert one.learning_curve[-1].top1 == one.best.by_kind(one.best_kind).top1
        assert any("figures are rough" in note for note in result.notes) == (count < 10)


def test_unbalanced_single_and_missing_classes(source, other_digits):
    result = probe(with_counts(other_digits, (40, 20, 1, 0, 3)), [str(source)], quick(), cache=None)
    assert result.best.expected.n == 63, "the single image is not held out"
    assert result.largest_class == pytest.approx(40 / 64)
    notes = " ".join(result.notes)
    assert "no training images of eight" in notes
    assert "a single image, or group, of seven" in notes
    only = replace(with_counts(other_digits, (9,)), labels=Labels(("five",)))
    with pytest.raises(UsageError, match="has 1 class"):
        probe(only, [str(source)], quick())


def test_grey_images_through_a_network_of_colours_and_the_other_way_round(source):
    digits = some_digits((0, 1), per_class=6)
    colour = open_network("resnet20", in_channels=3, classes=4)
    result = probe(digits, [colour], quick(), cache=None)
    assert result.best.pixels.features == 3 * 18 * 18
    from striate.data import TensorImages

    train = digits.splits["train"]
    tinted = replace(train, images=TensorImages(np.repeat(train.images.pixels, 3, axis=1)), digests=train.digests)
    result = probe(replace(digits, splits={"train": tinted}, channels=3), [str(source)], quick(), cache=None)
    assert result.best.pixels.features <= 64


def test_no_network_and_no_weights(other_digits):
    with pytest.raises(UsageError, match="no network to probe with"):
        probe(other_digits, [])
    with pytest.raises(UsageError, match="names no weights"):
        probe(other_digits, ["compact_s"], quick())


# figures --------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1))
def test_intervals_hold_what_was_seen(n, share):
    right = round(n * share)
    low, high = wilson(right, n)
    assert 0 <= low <= right / n + 1e-12
    assert right / n - 1e-12 <= high <= 1
    assert high - low < 4 / math.sqrt(n)


def test_intervals_are_wilsons():
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert wilson(0, 0) == (0.0, 1.0)
    assert math.isnan(Accuracy.of(np.zeros(0, bool)).top1)


def test_similarity_is_high_where_the_last_codes_are_best_by_far():
    m = 1000
    right = {share: np.arange(m) < share * m for share in (0.5, 0.9, 0.95, 0.98)}
    similar = similarity_of(right[0.5], [right[0.5], right[0.9], right[0.98]], 2, None)
    different = similarity_of(right[0.5], [right[0.9], right[0.98], right[0.9]], 1, None)
    between = similarity_of(right[0.5], [right[0.5], right[0.95], right[0.9]], 1, 0.7)
    assert similar.figure > 0.9
    assert (similar.kept, similar.best_depth) == (1.0, 1.0)
    assert different.figure == 0
    assert different.climb > 0.7
    assert 0.5 < between.figure < similar.figure
    assert between.statistics == 0.7
    for one in (similar, different, between):
        assert 0 <= one.low <= one.figure <= one.high <= 1
        assert one.figure == pytest.approx(one.climb * one.kept)


def test_the_rule_of_thumb_of_the_lectures():
    said = {(images, figure): rule_of_thumb(images, figure) for images in (100, 5_000, 10**6) for figure in (0.1, 0.9)}
    assert said[100, 0.9].endswith("a linear classifier on the last codes")
    assert said[100, 0.1].endswith("a linear classifier on earlier codes")
    assert "fine-tune the upper layers" in said[5_000, 0.1]
    assert all("fine-tune everything" in said[where] for where in ((5_000, 0.9), (10**6, 0.1), (10**6, 0.9)))
    assert "hardly any" in rule_of_thumb(5, math.nan)


# learning curves ------------------------------------------------------------------------------------------------------


def test_learning_curves_rise_and_end_at_the_cross_validation():
    random = np.random.default_rng(0)
    targets = np.arange(400) % 4
    codes = (random.normal(size=(4, 20))[targets] * 0.7 + random.normal(size=(400, 20))).astype(np.float32)
    known = out_of_fold(codes, targets, 4)
    points, sizes, shares = learning_curve(axes_of(codes), known)
    assert [point.images for point in points] == sizes.tolist() == [10, 20, 40, 80, 160, 320]
    assert shares.shape == (6, 400)
    assert points[-1].top1 == known.correct.mean()
    assert points[0].top1 + 0.1 < points[-1].top1
    assert len(points[0].by_class) == 4
    assert np.mean(points[0].by_class) == pytest.approx(points[0].top1)
    law = fitted_power_law(sizes, shares)
    assert law is not None
    assert law.top1(10_000) > points[-1].top1 - 0.01
    more = forecasts(law, 400)
    assert [one.images for one in more] == [500, 800, 2000, 4000]
    assert all(one.low <= one.high and one.gain >= 0 for one in more)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.3), st.floats(0.2, 2), st.floats(0.2, 0.9))
def test_power_laws_are_recovered(floor, scale, exponent):
    sizes = np.array([20, 40, 80, 160, 320, 640])
    errors = floor + scale * sizes**-exponent
    shares = np.repeat(np.clip(1 - errors, 0, 1)[:, None], 50, axis=1)
    law = fitted_power_law(sizes, shares)
    assert law is not None
    if errors.max() < 1:
        assert law.top1(2000) == pytest.approx(1 - floor - scale * 2000**-exponent, abs=0.02)
    assert all(0 <= law.top1(count) <= law.top1(2 * count) <= 1 for count in (1, 10, 100, 10_000))


def test_two_sizes_are_no_curve():
    assert fitted_power_law(np.array([10, 20]), np.ones((2, 5))) is None
    assert forecasts(None, 100) == ()
    assert math.isnan(PowerLaw(floor=0.1, scale=1.0, exponent=0.5).interval(100)[0])
