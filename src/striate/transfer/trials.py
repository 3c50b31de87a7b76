"""Short trials of the scenarios that train by gradients: as few, and as short, as the decision needs.

All seconds are measured here: a first, tiny trial of each scenario says what an image costs, and every later trial must
fit what is left of the budget. After each trial the next is the one that tells most for its seconds: longer where the
doubt is what a whole training would add, on another fold where it is the number of held-out images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from striate.data import Split
from striate.data.parts import Rows, folds_of, thinned
from striate.progress import Progress
from striate.training.head_start import MOST_IMAGES
from striate.training.transferring import LEAST_STEPS
from striate.transfer.verdict import (
    USUAL_GAIN,
    BaselineCurve,
    Belief,
    Tried,
    belief_of,
    expected_regret,
    growth,
    longest,
    loss,
    still_to_gain,
)

FOLDS = 4
PRICED_IMAGES = 64  # of the tiny trial that tells what an image costs
LEAST_EPOCHS = 2
LONGER = (1.5, 3)  # times the epochs of a trial that is repeated: at least, for less tells nothing, and at most
FIRST_ROUND = 0.35  # of the budget
USED = 0.95  # of a budget: the rest is kept in reserve, as by training
# The regret on average below which nothing more is tried: within the least seconds of trials, and beyond them, since
# whoever waits longer than that should have something to gain.
ENOUGH, ENOUGH_AFTER = 0.003, 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a trial came to."""

    correct: np.ndarray  # bool [held out]
    seconds: float  # all of it
    seconds_per_image: float  # of training, by image and epoch
    seconds_of_start: float = 0.0  # of fitting a new head, by image


TryOut = Callable[[str, Rows, Rows, int], Outcome]  # (scenario, learn from, held out, epochs)


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Training images to learn from, and others to answer, whose answers by the baseline are known."""

    learn: Rows
    held_out: Rows
    baseline: np.ndarray  # bool [held out]: whether the best without epochs was right
    baseline_usual: float  # how often it is, on all images


@dataclass(slots=True)
class Race:
    """The scenarios, what they cost, and what is known of them so far."""

    epochs: Mapping[str, int]  # of the whole training, by scenario
    images: int
    curve: BaselineCurve
    batches: Mapping[str, int] = field(default_factory=dict)  # of one of its epochs
    gains: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # see `belief_of`, where not as usual
    prices: dict[str, float] = field(default_factory=dict)  # seconds per image and epoch
    starts: dict[str, float] = field(default_factory=dict)  # seconds of fitting a new head, per image
    tried: list[Tried] = field(default_factory=list)
    seconds: float = 0.0  # spent
    budget: float = 0.0
    least: float = 0.0  # of it, what trials may take in any case
    limit: float | None = None  # seconds that the whole training may take, where somebody said

    @property
    def left(self) -> float:
        """Seconds that may still be spent."""
        return self.budget - self.seconds

    @property
    def against(self) -> str:
        """What the curve is of, in words."""
        return "the linear classifier" if self.curve.learns else "the head that is there"

    def whole(self, scenario: str) -> float:
        """Seconds of the whole training."""
        start = self.starts.get(scenario, 0.0) * min(self.images, MOST_IMAGES)
        return self.prices.get(scenario, 0.0) * self.images * self.epochs[scenario] + start

    def belief(self, scenario: str) -> Belief:
        """What to expect of a scenario."""
        gain = self.gains.get(scenario, USUAL_GAIN)
        return belief_of(self.tried, scenario, self.curve, self.images, gain, self.length(scenario))

    def length(self, scenario: str) -> float:
        """Of the whole training, as part of the fewest steps of one that nobody has shortened; at most 1."""
        steps = self.epochs[scenario] * self.batches.get(scenario, LEAST_STEPS)
        return min(1.0, max(1, steps) / LEAST_STEPS)

    def beliefs(self) -> dict[str, Belief]:
        """What to expect of each scenario, and of the baseline that they are compared with."""
        baseline = Belief(1 - self.curve.at(self.images), 1e-3)
        return {"baseline": baseline, **{name: self.belief(name) for name in self.epochs}}


def folds_to_try(train: Split, rows: Rows, correct: np.ndarray) -> list[Fold]:
    """The folds of the training images; held out are only those `rows` that the baseline answered."""
    known = dict(zip(rows.tolist(), correct.tolist(), strict=True))
    folds = []
    for learn, others in folds_of(train, np.arange(len(train)), FOLDS):
        held_out = np.array([row for row in others.tolist() if row in known], dtype=np.int64)
        if len(held_out) and len(learn):
            baseline = np.array([known[row] for row in held_out.tolist()], dtype=bool)
            folds.append(Fold(learn, held_out, baseline, float(correct.mean())))
    return folds


def run_trials(
    race: Race,
    train: Split,
    folds: Sequence[Fold],
    try_out: TryOut,
    *,
    part: float,
    least_seconds: float,
    progress: Progress,
) -> None:
    """Try the scenarios of `race` until the decision is clear or the budget is spent; what is known is not tried again.

    Scenarios of which not one epoch fits `race.limit` are taken out.

    Args:
        race: is filled.
        train: the split that the rows of `folds` are of.
        folds: at least one.
        try_out: does a trial.
        part: of the dearest whole training, which all trials together may cost.
        least_seconds: what they may cost in any case.
        progress: is told each trial.
    """
    first = folds[0]
    for name in [one for one in race.epochs if one not in race.prices]:
        outcome = try_out(name, thinned(train, first.learn, PRICED_IMAGES), first.held_out[:PRICED_IMAGES], 1)
        race.prices[name], race.starts[name] = outcome.seconds_per_image, outcome.seconds_of_start
        race.seconds += outcome.seconds
        if race.limit is not None:  # the budget plans the epochs, more or fewer
            race.epochs = {**race.epochs, name: _epochs_within(race.limit, race.prices[name] * race.images)}
    race.epochs = {name: epochs for name, epochs in race.epochs.items() if epochs >= 1}
    if not race.epochs:
        return
    race.budget = max(least_seconds, part * max(race.whole(name) for name in race.epochs))
    race.least = least_seconds
    if race.limit is not None:
        race.budget = min(race.budget, part * race.limit)
    first_round = min(FIRST_ROUND * max(0.0, race.left), race.least)  # it tells whether more has anything to gain
    share = first_round / len(race.epochs)
    for name in [one for one in race.epochs if not longest(race.tried, one)]:
        per_epoch = max(race.prices[name] * len(first.learn), 1e-9)
        epochs = min(race.epochs[name], max(LEAST_EPOCHS, int(share / per_epoch)))
        _try(race, train, folds, try_out, (name, 0, epochs), share, progress)
    while (step := next_trial(race, len(folds), len(first.learn))) is not None:
        _try(race, train, folds, try_out, step, race.left, progress)


def _epochs_within(limit: float, per_epoch: float) -> int:
    """Epochs that fit a budget; 0 where most of one would be left out, by a price that so far is rough."""
    fit = USED * limit / max(per_epoch, 1e-9)
    return int(fit) if fit >= 1 else round(fit)


def _try(
    race: Race,
    train: Split,
    folds: Sequence[Fold],
    try_out: TryOut,
    step: tuple[str, int, int],
    seconds: float,
    progress: Progress,
) -> None:
    name, number, epochs = step
    fold, learn = folds[number], folds[number].learn
    affordable = max(PRICED_IMAGES, int(seconds / max(race.prices[name] * epochs, 1e-9)))
    if affordable < len(learn):
        learn = thinned(train, learn, affordable)
    progress.say(
        f"trying {name}: {epochs} of {race.epochs[name]} epochs on {len(learn)} images, {len(fold.held_out)} held out"
    )
    outcome = try_out(name, learn, fold.held_out, epochs)
    race.prices[name] = min(race.prices[name], outcome.seconds_per_image)  # more is what others made it wait for
    race.starts[name] = min(race.starts.get(name, outcome.seconds_of_start), outcome.seconds_of_start)
    race.seconds += outcome.seconds
    shown = min(1.0, len(learn) * epochs / (race.images * race.epochs[name]))
    result = Tried(
        scenario=name, fold=number, epochs=epochs, learned=len(learn), shown=shown,
        correct=outcome.correct, baseline=fold.baseline, baseline_learned=race.curve.images,
        baseline_usual=fold.baseline_usual, seconds=outcome.seconds,
    )  # fmt: skip
    race.tried.append(result)


def next_trial(race: Race, folds: int, learn: int) -> tuple[str, int, int] | None:
    """(scenario, fold, epochs) of the trial that tells most for its seconds; None where it is clear, or all too dear.

    What a trial can tell is what is lost on average by a wrong choice about its scenario. `learn` is the number of
    images that a fold has to learn from.
    """
    beliefs = race.beliefs()
    best = max(beliefs, key=lambda name: beliefs[name].top1)
    regret = expected_regret(beliefs, best)
    if regret <= ENOUGH:
        return None
    left = race.left if regret > ENOUGH_AFTER else min(race.left, race.least - race.seconds)
    found: list[tuple[float, tuple[str, int, int]]] = []
    for name in race.epochs:
        at_stake = regret if name == best else loss(beliefs[best], beliefs[name])
        done = longest(race.tried, name)
        error = 1 - float(np.concatenate([one.correct for one in done]).mean())
        by_chance = float(np.sqrt(max(error, 0.01) / sum(len(one.correct) for one in done)))
        not_shown = sum(still_to_gain(error, done[0].shown, growth(race.tried, name, race.curve)))
        fresh = next((fold for fold in range(folds) if fold not in {one.fold for one in done}), None)
        per_epoch = race.prices[name] * learn
        longer = min(race.epochs[name], LONGER[1] * done[0].epochs, int(max(left, 0.0) / max(per_epoch, 1e-9)))
        least = min(race.epochs[name], LONGER[0] * done[0].epochs)
        wider = (name, fresh, done[0].epochs)
        deeper = (name, done[0].fold, longer if longer > done[0].epochs and longer >= least else None)
        for _, fold, epochs in (wider, deeper) if by_chance > not_shown else (deeper, wider):
            if fold is None or epochs is None:
                continue
            seconds = per_epoch * epochs
            if seconds <= left:
                found.append((at_stake / max(seconds, 0.1), (name, fold, epochs)))
                break
    worth = [one for one in found if one[0] > 0]
    return max(worth)[1] if worth else None
