"""What every scenario is expected to come to, and its price: by the probe, the head that is there and the trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.linear import KINDS
from striate.linear.blending import BLEND
from striate.options.transfer import KEEP
from striate.transfer import wording
from striate.transfer.result import Answers, SourceProbe
from striate.transfer.trials import Race
from striate.transfer.verdict import USUAL_GAIN, BaselineCurve, Belief

FEWEST_IMAGES = 16  # to learn from and to answer, in trials


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenarioEstimate:
    """What one scenario is expected to come to, and how that is known."""

    scenario: str
    expected_top1: float
    low: float  # 95 %
    high: float
    seconds: float | None  # of the whole training; None where nothing told
    measured: str  # how, in a few words
    cut: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The best that takes no epochs, with which trials are compared."""

    scenario: str
    curve: BaselineCurve
    answers: Answers | None
    gains: Mapping[str, tuple[float, float]]  # see `belief_of`: of what is not as usual


def baseline_of(source: SourceProbe, curve: BaselineCurve, images: int) -> Baseline:
    """The linear classifier, or the head that is there, where that is expected to do better."""
    kept, linear = kept_top1(source), 1 - curve.at(images)
    if kept is None or kept < linear:
        return Baseline(source.best_kind, curve, source.answers, {})
    if math.isnan(linear):
        return Baseline(KEEP, BaselineCurve(1 - kept, images, learns=False), source.own_answers, {})
    error = max(1 - kept, 1e-9)  # learning from nothing begins with nothing of that head: it is judged as it always is
    gains = {"scratch": ((linear - kept) / error, USUAL_GAIN[1] * (1 - linear) / error)}
    curve = BaselineCurve(1 - kept, images, curve.law, learns=False)
    return Baseline(KEEP, curve, source.own_answers, gains)


def kept_top1(source: SourceProbe) -> float | None:
    """What the head that is there comes to on the images that the linear classifier answered; None: too few to tell.

    Where it was shown some of these alone, its difference to the linear classifier on them is what counts.
    """
    own, linear = source.own_answers, source.answers
    if own is None:
        return None
    if linear is None or not len(linear.rows):
        return float(own.correct.mean())
    common, of_own, of_linear = np.intersect1d(own.rows, linear.rows, return_indices=True)
    if len(common) < min(FEWEST_IMAGES, len(linear.rows)):
        return None
    ahead = float(own.correct[of_own].mean() - linear.correct[of_linear].mean())
    return min(1.0, max(0.0, float(linear.correct.mean()) + ahead))


def curve_of(source: SourceProbe, folds: int) -> BaselineCurve:
    """Of the best linear classifier, which answered images of a fold and learned from the others."""
    learned = max(1, round(source.expected.n * (folds - 1) / max(1, folds)))
    return BaselineCurve(1 - _linear(source), learned, source.power_law)


def _linear(source: SourceProbe) -> float:
    """The accuracy of the best linear classifier, learned from all folds but one.

    The row of the best place was chosen by its own figure, which flatters it; the whole procedure of choosing, on parts
    of the images, is worse at choosing than it will be on all. Over sets of 40 to 300 images the truth lay between.
    """
    return (source.best_measured.top1 + source.expected.top1) / 2


def flattery(source: SourceProbe) -> float:
    """By how much the row of the best place is better than the choice is in truth."""
    return (source.best.by_kind(source.single_kind).top1 - source.single.top1) / 2


def carried(curve: BaselineCurve, top1: float, images: int) -> float:
    """An accuracy that was measured with as many images as the curve, carried on to `images`."""
    return 1 - (1 - top1) * (curve.at(images) / curve.error if curve.error > 0 else 1.0)


def estimates_of(
    source: SourceProbe, looked_at: int, curve: BaselineCurve, n: int, race: Race, beliefs: Mapping[str, Belief]
) -> tuple[ScenarioEstimate, ...]:
    """Every scenario: those without epochs as probing measured them, those that were tried by their `beliefs`.

    Args:
        source: the probe.
        looked_at: images that it looked at.
        curve: of the best linear classifier.
        n: images to learn from.
        race: the trials.
        beliefs: what they let one expect.
    """
    known = (source.expected.high - source.expected.low) / 2 / 1.96
    doubt = math.hypot(known, (curve.error - curve.at(n)) / 2)  # half of what the learning curve adds
    seconds = _linear_seconds(source, looked_at, n)
    how, rows = f"cross-validation on {source.expected.n} images", []
    if source.blend is not None:
        every = source.seconds_fitting * n / max(1, looked_at)  # it is made of all places' classifiers
        rows.append(_estimate(BLEND, Belief(1 - curve.at(n), doubt), 0.0, seconds + every, how, None))
    for kind in KINDS:
        place = source.best_by_kind(kind)
        top1 = 1 - curve.at(n)
        if kind != source.best_kind and not math.isnan(top1):
            top1 = min(top1, carried(curve, place.by_kind(kind).top1 - flattery(source), n))
        rows.append(_estimate(kind, Belief(top1, doubt), 0.0, seconds, how, place.place))
    last = carried(curve, source.top.softmax.top1 - flattery(source), n)
    rows.append(_estimate("head", Belief(last, doubt), doubt / 2, None, "as softmax on the last codes", None))
    own, kept = source.own_head, kept_top1(source)
    if own is not None and kept is not None:
        how = f"its answers to {own.n} images"
        rows.append(
            ScenarioEstimate(
                scenario=KEEP, expected_top1=kept, low=min(own.low, kept), high=max(own.high, kept), seconds=0.0,
                measured=how,
            )
        )  # fmt: skip
        if not race.curve.learns:
            known = (own.high - own.low) / 2 / 1.96
    for name in race.epochs:
        how = wording.how_tried(race, name)
        rows.append(_estimate(name, beliefs[name], known, race.whole(name), how, None))
    return tuple(rows)


def _linear_seconds(source: SourceProbe, looked_at: int, n: int) -> float:
    """What one linear classifier of all images takes: the codes that probing has not computed, and the fitting."""
    fitted = len(KINDS) * (len(source.depths) + 1)  # with that of the pixels
    return max(0, n - looked_at) * source.seconds_per_image + source.seconds_fitting / fitted * n / max(1, looked_at)


def _estimate(
    scenario: str, belief: Belief, doubt: float, seconds: float | None, how: str, cut: str | None
) -> ScenarioEstimate:
    whole = Belief(belief.top1, math.hypot(belief.sd, doubt))
    return ScenarioEstimate(
        scenario=scenario, expected_top1=whole.top1, low=whole.low, high=whole.high, seconds=seconds, measured=how,
        cut=cut,
    )  # fmt: skip


def doubt_of_other(source: SourceProbe, baseline: Baseline) -> dict[str, float]:
    """Of the linear classifier and the head that is there, how sure the difference of the other to the baseline is."""
    own, linear = source.own_answers, source.answers
    if own is None or linear is None:
        return {}
    common, of_own, of_linear = np.intersect1d(own.rows, linear.rows, return_indices=True)
    apart = int((own.correct[of_own] != linear.correct[of_linear]).sum())
    doubt = math.sqrt(apart + 1) / max(1, len(common))  # McNemar's, with one more so that none is not certainty
    return {source.best_kind if baseline.scenario == KEEP else KEEP: doubt}
