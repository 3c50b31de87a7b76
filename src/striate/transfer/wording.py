"""The reasons of a plan in plain sentences, with the figures that they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from striate.options.transfer import LINEAR
from striate.transfer.result import Accuracy, SourceProbe
from striate.transfer.trials import Race
from striate.transfer.verdict import longest

if TYPE_CHECKING:
    from striate.transfer.estimates import ScenarioEstimate

KINDS = {"svm": "a linear SVM", "softmax": "a softmax classifier"}
SCENARIOS = {
    "blend": "linear classifiers of all depths as one",
    "svm": "a linear SVM on the codes of {cut}",
    "softmax": "a softmax classifier on the codes of {cut}",
    "keep": "the network as it is",
    "head": "training the head alone",
    "top": "training the head and the upper half",
    "all": "training everything, lower layers more slowly",
    "scratch": "training from nothing",
}


def reasons(
    source: SourceProbe,
    race: Race,
    chosen: ScenarioEstimate,
    estimates: Sequence[ScenarioEstimate],
    notes: Sequence[str],
) -> tuple[str, ...]:
    """Why the plan is what it is: what was measured, what was left out, what decided."""
    found = [_linear(source)]
    found += [_tried(race, one) for one in estimates if one.scenario in race.epochs]
    found += notes
    found.append(_decision(chosen, estimates))
    dearest = max((race.whole(name) for name in race.epochs), default=0.0)
    if race.seconds and dearest:
        found.append(
            f"The trials took {seconds(race.seconds)}; the longest whole training would take {seconds(dearest)}."
        )
    return tuple(found)


def in_words(estimate: ScenarioEstimate) -> str:
    """A scenario in a few words."""
    return SCENARIOS[estimate.scenario].format(cut=estimate.cut)


def unlike(source: SourceProbe, faster: float, gain: float) -> str:
    """Why copied layers learn faster than usual, and what is expected of that before anything is tried."""
    last, best = 1 - source.top.best.top1, 1 - source.best_measured.top1
    return (
        f"On the last codes {percent(last)} are mistaken, at best {percent(best)}: what the network was made for is "
        f"something else, and copied layers learn {faster:g} times as fast as they would otherwise"
        + (f", which usually takes {100 * gain:.0f} % of the linear classifier's mistakes." if gain > 0 else ".")
    )


def own_head(answered: Accuracy, *, published: bool) -> str:
    """What the head answers that a network has already."""
    new = "; whether published weights have seen them is nowhere written" if published else " that it had not seen"
    return (
        f"The head that the network has for these classes answers {percent(answered.top1)} ({percent(answered.low)} to "
        f"{percent(answered.high)}) of {answered.n} training images right{new}."
    )


def how_tried(race: Race, name: str) -> str:
    """How a scenario was tried, in a few words."""
    done = longest(race.tried, name)
    held_out = sum(len(one.correct) for one in done)
    return (
        f"{counted(len(done), 'trial')} of {done[0].epochs} of {race.epochs[name]} epochs on {done[0].learned} images, "
        f"{held_out} held out"
    )


def _linear(source: SourceProbe) -> str:
    best, last = source.expected, source.top
    if not best.n:
        return (
            f"How well linear classifiers on the codes of {short(source.source)} answer is not known: to hold images "
            "out takes two different ones each of two classes."
        )
    right = (
        f"{percent(best.top1)} ({percent(best.low)} to {percent(best.high)}) of {best.n} training images right that "
    )
    if source.blend is not None:
        line = f"Linear classifiers of {_depths(source)} of {short(source.source)} as one answer {right}they"
        one = source.best
        alone = f"; at the best place alone, {one.place}, the better of both kinds answers {percent(one.best.top1)}"
    else:
        kind = _sentence(KINDS[source.best_kind])
        line = f"{kind} on the codes of {source.best_place} of {short(source.source)} answers {right}it"
        alone = ""
    if source.best_place != last.place:
        alone += f"; on the last codes, {last.place}, the better of both answers {percent(last.best.top1)}"
    return f"{line} did not learn from{alone}."


def _depths(source: SourceProbe) -> str:
    """The places that a blend reads, those first that count most."""
    assert source.blend is not None
    shares: dict[str, float] = {}
    for one in source.blend.members:
        shares[one.place] = shares.get(one.place, 0.0) + one.weight
    named = [f"{place} ({share:.0%})" for place, share in sorted(shares.items(), key=lambda item: -item[1])]
    return ", ".join(named[:4]) + (f" and {counted(len(named) - 4, 'place')} more" if len(named) > 4 else "")


def _tried(race: Race, estimate: ScenarioEstimate) -> str:
    done = longest(race.tried, estimate.scenario)
    right = np.concatenate([one.correct for one in done])
    baseline = np.concatenate([one.baseline for one in done])
    return (
        f"{_sentence(in_words(estimate))} ({estimate.scenario}), in {how_tried(race, estimate.scenario)}, answers "
        f"{percent(float(right.mean()))} right, {race.against} {percent(float(baseline.mean()))} of the same; "
        f"the whole of {seconds(estimate.seconds)} should reach {percent(estimate.expected_top1)} "
        f"({percent(estimate.low)} to {percent(estimate.high)})."
    )


def _decision(chosen: ScenarioEstimate, estimates: Sequence[ScenarioEstimate]) -> str:
    alike = LINEAR if chosen.scenario in LINEAR else (chosen.scenario,)
    others = [one for one in estimates if one.scenario not in (*alike, "head") and not math.isnan(one.expected_top1)]
    best = max(others, key=lambda one: one.expected_top1, default=None)
    name = f"{chosen.scenario}: {in_words(chosen)}"
    if best is None:
        return f"Hence {name}."
    difference = chosen.expected_top1 - best.expected_top1
    if difference >= 0:
        return f"Hence {name}: expected {points(difference)} ahead of {best.scenario}, the next best."
    ahead = f"{best.scenario} is expected {points(-difference)} ahead"
    return f"Hence {name}: {ahead}, less than is certain or worth its time."


def short(source: str) -> str:
    """A network's spelling without folders."""
    model, colon, rest = source.rpartition(":")
    return f"{model}{colon}{Path(rest).name}" if model.count("/") == 0 else Path(source).name


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def counted(number: int, what: str) -> str:
    """1 trial, 2 trials."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """0.962 as 96.2 %."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """0.012 as 1.2 points."""
    return f"{100 * difference:.1f} points"


def seconds(value: float | None) -> str:
    """12.3 s, 4 min."""
    if value is None:
        return "an unknown time"
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"
