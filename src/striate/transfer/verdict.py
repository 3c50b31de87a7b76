"""What short trials let one expect of whole trainings, and when more of them are worth their seconds.

Every scenario is judged by its difference to a baseline, which answered the same images: most of the luck of the draw
is common to both and cancels. The baseline is the best that takes no epochs: a linear classifier, or the head that the
network has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from striate.transfer.result import PowerLaw

# The error of a training falls with what it is shown, images times epochs, about as a power, and steeply where that of
# a linear classifier falls steeply with images: between the plans' trials and whole trainings
# `benchmarks/transfer_plan.py` finds exponents of 0.1 to 0.3 for CIFAR-10 and photos, where the linear classifier's are
# 0.1 to 0.2, and of 0.5 to 1 for digits, where they are 0.3 to 0.7. So much of its exponent counts until a scenario's
# own trials tell (see `growth`); without a learning curve, what is usual.
OF_LINEAR = {"scratch": 1.75, "all": 1.25, "top": 1.25, "head": 0.5}
GROWTH = {"scratch": 0.30, "all": 0.15, "top": 0.15, "head": 0.06}
STEEPEST = 1.0
# How much exponents differ from what is usual, as a standard deviation from case to case: this, and this part of the
# usual one. In the cases of `benchmarks/transfer_plan.py` (its result file of b41547f) they do by 0.2 for photos and
# CIFAR-10, by 0.5 for digits, with the chance of the trials' few held-out images in it.
EXPONENTS = (0.1, 0.5)
# Before anything is tried: by which part of its error a training is ahead of the linear classifier, and the standard
# deviation of that. Usually by none: of what `all` and `top` come to in the cases of `benchmarks/transfer_plan.py` 28
# of 40 lie within 0.3 of it. Where a network with normalisation was made for other images and its copied layers learn
# faster for it, `all` takes a half to a seventh of the mistakes (docs/results.md, How fast copied layers learn).
USUAL_GAIN = (0.0, 0.3)
# Of networks without normalisation, which more often lose by training: in ten such cases, all of them SqueezeNet's,
# `all` comes to between 0.43 behind the best linear classifier and 0.04 ahead of it (`gains` of the result file).
PLAIN_GAIN = (0.0, 0.15)
UNLIKE_GAIN = (0.3, 0.2)
# Standard deviations from what is usual beyond which a measurement is no case of it: the usual then counts as much less
# sure (by as much as brings it to so many), since a normal prior would hold against any number of wrong answers.
SURPRISING = 3.0
FURTHEST = 3.0  # no learning curve is trusted to change an error by more than this factor
LEAST_DOUBT = 0.005  # nothing is known better than to half a point
WORTH = (0.0025, 0.005)  # a dearer scenario must promise at least the first; a doubtful one at most the second, more


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """One scenario on one fold: its answers to the held-out images, and those of the baseline."""

    scenario: str
    fold: int
    epochs: int
    learned: int  # images
    shown: float  # images times epochs, as part of the whole training's
    correct: np.ndarray  # bool [held out]
    baseline: np.ndarray  # bool [held out]
    baseline_learned: int  # images that the baseline learned from
    baseline_usual: float  # share of right answers among all that it gave: how hard the held-out images are
    seconds: float


@dataclass(frozen=True, slots=True)
class Belief:
    """The accuracy to expect of a whole training on all images: a fraction, and its standard deviation."""

    top1: float
    sd: float

    @property
    def low(self) -> float:
        """The lower end of what is likely (95 %)."""
        return max(0.0, self.top1 - 1.96 * self.sd)

    @property
    def high(self) -> float:
        """The upper end."""
        return min(1.0, self.top1 + 1.96 * self.sd)


@dataclass(frozen=True, slots=True)
class BaselineCurve:
    """The error of the baseline with `images` to learn from, and how it falls with more; that of a kept head stays."""

    error: float
    images: int
    law: PowerLaw | None = None
    learns: bool = True  # False: a head that is there, with which all but `scratch` begin; the law is linear's

    def at(self, images: int) -> float:
        """Its error with that many images."""
        if self.law is None or images == self.images or not self.learns:
            return self.error
        here, there = 1 - self.law.top1(self.images), 1 - self.law.top1(images)
        return self.error * min(max(there / max(here, 1e-9), 1 / FURTHEST), FURTHEST)

    @property
    def exponent(self) -> float | None:
        """By which power of the images its error falls from half of them to all; None without a law."""
        if self.law is None:
            return None
        half, whole = 1 - self.law.top1(self.images / 2), 1 - self.law.top1(self.images)
        return max(0.0, math.log2(max(half, 1e-9) / max(whole, 1e-9)))


def belief_of(
    trials: Sequence[Tried],
    scenario: str,
    curve: BaselineCurve,
    images: int,
    gain: tuple[float, float] = USUAL_GAIN,
    length: float = 1.0,
) -> Belief:
    """What to expect of `scenario` with all `images`, from its trials (the longest of each fold counts) or none.

    The measured difference to the baseline, carried on to the whole training of both, is drawn towards what is
    usual by as much as chance could have made it (the mean of a normal prior and a normal measurement). A training
    that is shorter than usual is ahead by less, and makes as many more mistakes as errors grow by.

    Args:
        trials: of all scenarios.
        scenario: whose training is asked about.
        curve: of the baseline.
        images: to learn from, in the whole training.
        gain: by which part of the baseline's error the scenario is usually ahead of it, and the standard
            deviation of that.
        length: of the whole training, as part of one of usual length; at most 1.
    """
    linear, exponent = 1 - curve.at(images), _usual_growth(scenario, curve)
    error = curve.at(images) * (1 - gain[0] * length) * length**-exponent
    usual, shorter = curve.at(images) - error, error * abs(math.log(length)) * _apart(exponent)
    prior = (gain[1] * curve.at(images) + LEAST_DOUBT) ** 2 + shorter**2
    counted = longest(trials, scenario)
    if not counted:
        return Belief(_fraction(linear + usual), math.sqrt(prior))
    correct, baseline = (np.concatenate([getattr(one, name) for one in counted]) for name in ("correct", "baseline"))
    shown = float(np.average([one.shown for one in counted], weights=[len(one.correct) for one in counted]))
    learned = round(float(np.mean([one.baseline_learned for one in counted])))
    wrong, n = 1 - float(correct.mean()), len(correct)
    gained, doubt = still_to_gain(wrong, shown, growth(trials, scenario, curve))
    baseline_growth = curve.at(learned) - curve.at(images)
    # a linear classifier that answers was chosen by its answers, which flatters it; the curve's error does not
    flattery = np.mean([one.baseline_usual for one in counted]) - (1 - curve.error)
    measured = float(correct.mean() - baseline.mean() + flattery) + gained - baseline_growth
    noise = (int((correct != baseline).sum()) + 1) / n**2  # McNemar's, with one more so that none is not certainty
    noise += doubt**2 + (baseline_growth / 2) ** 2
    prior = max(prior, ((measured - usual) / SURPRISING) ** 2 - noise)
    weight = prior / (prior + noise)
    expected = linear + usual + weight * (measured - usual)
    return Belief(_fraction(expected), max(math.sqrt(prior * noise / (prior + noise)), 1e-6))


def growth(trials: Sequence[Tried], scenario: str, curve: BaselineCurve) -> tuple[float, float]:
    """The exponent by which a scenario's error falls with what is shown, and its standard deviation.

    It is measured where one fold was tried twice, and counts by how much surer that is than what is usual (the mean of
    a normal prior and a normal measurement), for half at most: over longer trainings errors fall more slowly.
    """
    usual, found, doubts = _usual_growth(scenario, curve), [], []
    apart = _apart(usual)
    for last in longest(trials, scenario):
        for one in trials:
            if (one.scenario, one.fold) == (scenario, last.fold) and one.shown < 0.8 * last.shown:
                before, after = ((1 - float(tried.correct.mean())) + 0.5 / len(tried.correct) for tried in (one, last))
                longer = math.log(last.shown / one.shown)
                found.append(math.log(before / after) / longer)
                by_chance = sum(max(0.0, 1 - error) / (error * len(one.correct)) for error in (before, after))
                doubts.append(by_chance / longer**2)
    if not found:
        return usual, apart
    weight = min(0.5, apart**2 / (apart**2 + float(np.mean(doubts)) / len(doubts)))
    measured = min(max(float(np.mean(found)), 0.0), 1.0)
    return usual + weight * (measured - usual), apart * math.sqrt(1 - weight)


def _usual_growth(scenario: str, curve: BaselineCurve) -> float:
    if not curve.learns and scenario != "scratch":
        return 0.0  # it begins with what answers that well: images shown may as well make it worse
    exponent = curve.exponent
    return GROWTH[scenario] if exponent is None else min(STEEPEST, OF_LINEAR[scenario] * exponent)


def _apart(exponent: float) -> float:
    """How much exponents differ from what is usual, as a standard deviation."""
    return EXPONENTS[0] + EXPONENTS[1] * exponent


def _fraction(value: float) -> float:
    return min(1.0, max(0.0, value))


def still_to_gain(error: float, shown: float, exponent: tuple[float, float]) -> tuple[float, float]:
    """By how much the rest of a training lowers an error, and the standard deviation of that, by that of `growth`."""
    left = error * min(1.0, shown) ** exponent[0]
    return error - left, left * abs(math.log(min(1.0, shown))) * exponent[1]


def longest(trials: Sequence[Tried], scenario: str) -> list[Tried]:
    """Of every fold the trial with the most epochs."""
    best: dict[int, Tried] = {}
    for one in trials:
        if one.scenario == scenario and (one.fold not in best or one.epochs > best[one.fold].epochs):
            best[one.fold] = one
    return [best[fold] for fold in sorted(best)]


def expected_regret(beliefs: Mapping[str, Belief], chosen: str) -> float:
    """What the choice costs on average against the best of the others, taken one at a time."""
    return max((loss(beliefs[chosen], one) for name, one in beliefs.items() if name != chosen), default=0.0)


def loss(chosen: Belief, other: Belief) -> float:
    """E[max(0, other - chosen)] of two independent normal variables."""
    sd = math.hypot(chosen.sd, other.sd)
    lead = (chosen.top1 - other.top1) / sd
    density, tail = math.exp(-lead * lead / 2) / math.sqrt(2 * math.pi), math.erfc(lead / math.sqrt(2)) / 2
    return sd * (density - lead * tail)


def choose(beliefs: Mapping[str, Belief], prices: Mapping[str, float]) -> str:
    """The scenario expected best, or a cheaper one that is as good within the doubt about the difference."""
    best = max(beliefs, key=lambda name: beliefs[name].top1)
    chosen = best
    for name in sorted(beliefs, key=lambda name: prices[name]):
        doubt = math.hypot(beliefs[best].sd, beliefs[name].sd) / 3
        if beliefs[name].top1 >= beliefs[best].top1 - min(max(doubt, WORTH[0]), WORTH[1]):
            chosen = name
            break
    return chosen
