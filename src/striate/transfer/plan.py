"""`plan_transfer`: which scenario, where to cut, what to freeze, at what rates; measured, priced, and with reasons.

Linear classifiers at every depth come from probing. Against the best of them, or the head that is there, the scenarios
that train by gradients are tried on parts of the training images, shortly (see `trials`), where they could win at all.
The plan is what is expected best, or what is cheaper and as good within the doubt about the difference (see `verdict`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from striate.checkpoint import SavedModel
from striate.data import Dataset
from striate.data.parts import Rows, trial_data
from striate.errors import StriateError, UsageError
from striate.layers.normalization import has_normalization
from striate.options import TrainOptions, TransferOptions
from striate.options.transfer import KEEP, LINEAR, WITHOUT_EPOCHS
from striate.progress import Progress, Silent
from striate.runtime import kept_random_state
from striate.spec import Labels
from striate.training.defaults import kind_of
from striate.training.head_start import RANDOM, why_not_fitted
from striate.training.planning import parse_duration
from striate.training.prepare import prepare, resolved_for
from striate.training.transferring import head_is_new
from striate.training.trial import try_out
from striate.transfer import wording
from striate.transfer.ancestry import seen_by
from striate.transfer.estimates import (
    FEWEST_IMAGES,
    ScenarioEstimate,
    baseline_of,
    carried,
    curve_of,
    doubt_of_other,
    estimates_of,
    flattery,
)
from striate.transfer.result import ProbeResult, SourceProbe
from striate.transfer.trials import Fold, Outcome, Race, folds_to_try, run_trials
from striate.transfer.verdict import PLAIN_GAIN, UNLIKE_GAIN, USUAL_GAIN, WORTH, Belief, choose

PART = 0.6  # of the dearest whole training: what all trials together may cost
LEAST_SECONDS = 40.0  # what they may cost in any case: few images need many of them to tell anything
# Of the baseline on all images that can be held out: fewer leave nothing to be shown, and where nothing is promised
# before anything is tried, nothing to win.
FEWEST_MISTAKES = 5
# Where the last codes make more mistakes than all depths together by this factor, the network is of use, but not for
# what it was made for: its layers have to change. Copied ones then learn so many times as fast as they would otherwise,
# with normalisation and without (figures in docs/results.md).
UNLIKE = 1.1
FASTER = {True: 4.0, False: 2.0}
_LEAST_DOUBT = 1e-3  # about the difference to the baseline of what trials are not compared with
SCRATCH_PER_CLASS = {"digits": 5, "small": 20, "photos": 200}  # images from which learning from nothing is tried
SCRATCH_ERROR = 0.10  # of the baseline, from which photos are learned from nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferPlan:
    """What to do, what it should bring and cost, and why. Options that are None stay with their defaults."""

    source: str  # the network to start from, or scratch
    scenario: str
    expected_top1: float
    low: float
    high: float
    gain: float  # over a linear classifier on the last codes, the customary choice
    seconds: float | None  # of the training
    why: tuple[str, ...]
    scenarios: tuple[ScenarioEstimate, ...]
    cut: str | None = None
    freeze_to: str | None = None
    lr: float | None = None
    pretrained_lr: float | None = None
    layer_decay: float | None = None
    head_epochs: int | None = None
    epochs: int | None = None
    seconds_planning: float = 0.0
    linear_exponent: float | None = None  # by which power of the images the linear classifier's error falls

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"scenarios": [one.to_dict() for one in self.scenarios]}


def plan_transfer(
    probe: ProbeResult | None,
    dataset: Dataset,
    options: TrainOptions,
    *,
    start: SavedModel | None,
    progress: Progress | None = None,
) -> TransferPlan:
    """The plan that measurements on the training images recommend; validation and test images are not looked at.

    Args:
        probe: of the networks that there are to start from.
        dataset: as it was probed.
        options: what is given in them stays: epochs, rates, what is frozen.
        start: the best of the networks, as `open_network` gives it.
        progress: is told each trial.

    Raises:
        UsageError: no probe or no network, without which there is nothing to plan.
    """
    if probe is None or start is None:
        raise UsageError("a transfer is planned from a probe of a network that is there", "`striate probe` makes one")
    progress = progress or Silent()
    source = probe.best
    curve = curve_of(source, probe.folds)
    n = len(dataset.splits["train"])
    budget = options.training.budget
    baseline = baseline_of(source, curve, n)
    race = Race(epochs={}, images=n, curve=baseline.curve, gains=baseline.gains)
    race.limit = None if budget is None else parse_duration(budget)
    notes: list[str] = []
    if source.own_head is not None:
        notes.append(wording.own_head(source.own_head, published=not seen_by(str(options.model.from_)).is_run))
    faster = _faster(source, start, options, dataset.labels)
    if not has_normalization(start.model):
        race.gains = {**race.gains, "all": PLAIN_GAIN, "top": PLAIN_GAIN}
    elif faster is not None:
        race.gains = {**race.gains, "all": UNLIKE_GAIN}
    answers = baseline.answers
    folds = [] if answers is None else folds_to_try(dataset.splits["train"], answers.rows, answers.correct)
    contenders = _contenders(folds, probe, dataset, options, race, notes)
    settled = {name: _settled(options, name, source.source, faster) for name in contenders}
    if contenders:
        if faster is not None:
            notes.append(wording.unlike(source, faster, race.gains.get("all", USUAL_GAIN)[0]))
        whole = {name: _resolved(one, dataset, start) for name, one in settled.items()}
        race.epochs = {name: one.schedule.epochs or 1 for name, one in whole.items()}
        race.batches = {name: max(1, n // (one.optimizer.batch_size or 1)) for name, one in whole.items()}
        _race(race, settled, folds, dataset, start, notes, progress)
    beliefs = {name: race.belief(name) for name in race.epochs}
    estimates = estimates_of(source, probe.images, curve, n, race, beliefs)
    doubts = {name: belief.sd for name, belief in beliefs.items()} | doubt_of_other(source, baseline)
    rows = {one.scenario: Belief(one.expected_top1, doubts.get(one.scenario, _LEAST_DOUBT)) for one in estimates}
    prices = {one.scenario: one.seconds if one.seconds is not None else math.inf for one in estimates}
    allowed = {
        name: belief
        for name, belief in rows.items()
        if (name in (source.best_kind, KEEP) or name in race.epochs) and not math.isnan(belief.top1)
    }
    scenario = choose(allowed, prices) if allowed else source.best_kind
    chosen = next(one for one in estimates if one.scenario == scenario)
    gain = chosen.expected_top1 - carried(curve, source.top.best.top1 - flattery(source), n)
    trained = _as_trained(settled[scenario], dataset, start) if scenario in settled else options
    return TransferPlan(
        source="scratch" if scenario == "scratch" else source.source,
        scenario=scenario,
        cut=chosen.cut if scenario in LINEAR else options.transfer.cut,
        freeze_to=trained.transfer.freeze_to,
        lr=trained.optimizer.lr if scenario not in WITHOUT_EPOCHS and isinstance(trained.optimizer.lr, float) else None,
        pretrained_lr=trained.transfer.pretrained_lr,
        layer_decay=trained.transfer.layer_decay,
        head_epochs=options.transfer.head_epochs,
        epochs=race.epochs.get(scenario),
        expected_top1=chosen.expected_top1,
        low=chosen.low,
        high=chosen.high,
        gain=gain if not math.isnan(gain) else 0.0,
        seconds=chosen.seconds,
        why=wording.reasons(source, race, chosen, estimates, notes),
        scenarios=estimates,
        seconds_planning=race.seconds,
        linear_exponent=curve.exponent,
    )


def options_for(options: TrainOptions, scenario: str, source: str) -> TrainOptions:
    """The options by which a scenario is trained from `source`."""
    if scenario == "scratch":
        own = replace(options.transfer, scenario="scratch", cut=None, freeze_to=None, head_start=None)
        return replace(options, transfer=own, model=replace(options.model, from_="scratch"))
    transfer = replace(options.transfer, scenario=scenario)
    return replace(options, transfer=transfer, model=replace(options.model, from_=source))


# what could win -------------------------------------------------------------------------------------------------------


def _contenders(
    folds: list[Fold],
    probe: ProbeResult,
    dataset: Dataset,
    options: TrainOptions,
    race: Race,
    notes: list[str],
) -> list[str]:
    """The scenarios that train by gradients and that are worth a trial; `notes` hear of those that are not."""
    train = dataset.splits["train"]
    n, classes = len(train), len(dataset.labels)
    answered = sum(len(one.held_out) for one in folds)
    if answered < FEWEST_IMAGES or n < 2 * FEWEST_IMAGES:
        if not folds and n >= 2 * FEWEST_IMAGES and probe.images == n:
            notes.append("Nothing was tried: no training image can be held out.")
        elif n < 2 * FEWEST_IMAGES or probe.images == n:
            notes.append(f"Nothing was tried: {n} training images are too few to hold some out and tell.")
        else:
            notes.append(
                f"Nothing was tried: the {probe.images} of {n} training images that were looked at are too few to hold "
                "some out and tell; --probe-images looks at more."
            )
        return []
    error = race.curve.error
    mistakes = round(error * answered)
    promised = [name for name, (mean, _) in race.gains.items() if mean * error >= WORTH[1]]
    if mistakes < FEWEST_MISTAKES and not promised:
        notes.append(
            f"Nothing was tried: {wording.counted(mistakes, 'mistake')} of {race.against} on "
            f"{answered} images leave nothing to win that so few images could show."
        )
        return []
    if mistakes < FEWEST_MISTAKES:
        return promised
    contenders = ["all"]
    # Seldom ahead of `all` where either is worth training (docs/results.md); a trial would take seconds from that.
    if options.training.budget is not None and len(probe.best.depths) >= 3:
        contenders.append("top")
    kind = kind_of(dataset)
    if n < SCRATCH_PER_CLASS[kind] * classes:
        notes.append(
            f"scratch was not tried: {n / classes:.0f} images of each class are too few to learn from nothing."
        )
    elif kind == "photos" and error < SCRATCH_ERROR:
        notes.append("scratch was not tried: the network knows photos like these well.")
    else:
        contenders.append("scratch")
    return contenders


def _faster(source: SourceProbe, start: SavedModel, options: TrainOptions, labels: Labels) -> float | None:
    """How many times as fast as usual copied layers learn below a new head that is fitted; None: as usual, or asked."""
    last, best = 1 - source.top.best.top1, 1 - source.best_measured.top1
    asked = options.transfer.pretrained_lr is not None or options.optimizer.lr is not None
    if asked or options.transfer.head_start == RANDOM or why_not_fitted(start.model, labels) is not None:
        return None
    if not head_is_new(options, start, labels) or not last >= UNLIKE * best:
        return None
    return FASTER[has_normalization(start.model)]


def _settled(options: TrainOptions, scenario: str, source: str, faster: float | None) -> TrainOptions:
    settled = options_for(options, scenario, source)
    if faster is None or scenario == "scratch":
        return settled
    return replace(settled, transfer=replace(settled.transfer, pretrained_lr=faster))


def _resolved(options: TrainOptions, dataset: Dataset, start: SavedModel) -> TrainOptions:
    """What the whole training goes by, but for what the network decides."""
    scratch = options.transfer.scenario == "scratch"
    return resolved_for(options, dataset, start=None if scratch else start)[0]


def _as_trained(options: TrainOptions, dataset: Dataset, start: SavedModel) -> TrainOptions:
    """What the whole training goes by; rates follow from its batches, which are larger than those of trials."""
    scratch = options.transfer.scenario == "scratch"
    with kept_random_state():
        resolved, spec, copied = resolved_for(options, dataset, start=None if scratch else start)
        return prepare(resolved, spec, dataset, given=None, start=copied, budgeted=False, progress=Silent()).options


def _race(
    race: Race,
    settled: Mapping[str, TrainOptions],
    folds: list[Fold],
    dataset: Dataset,
    start: SavedModel,
    notes: list[str],
    progress: Progress,
) -> None:
    """Fill `race`."""
    train = dataset.splits["train"]
    trying = ""

    def trial(scenario: str, learn: Rows, held_out: Rows, epochs: int) -> Outcome:
        nonlocal trying
        trying = scenario
        begun, one = time.perf_counter(), settled[scenario]
        one = replace(one, schedule=replace(one.schedule, epochs=epochs))
        tried = try_out(
            one, trial_data(dataset, learn, held_out), start=None if scenario == "scratch" else start, progress=Silent()
        )
        seconds = time.perf_counter() - begun
        return Outcome(tried.correct, seconds, tried.seconds_per_image, tried.seconds_of_start / len(learn))

    while race.epochs:
        try:
            planned = tuple(race.epochs)
            run_trials(race, train, folds, trial, part=PART, least_seconds=LEAST_SECONDS, progress=progress)
            notes += [
                f"{name} was left out: an epoch of about {wording.seconds(race.prices[name] * race.images)} does not "
                f"fit the budget of {wording.seconds(race.limit)}."
                for name in planned
                if name not in race.epochs
            ]
            break
        except StriateError as error:  # a scenario that this network or these images do not allow, or that diverges
            notes.append(f"{trying} was left out: {error.message}.")
            race.epochs = {one: count for one, count in race.epochs.items() if one != trying}


def as_options(plan: TransferPlan, options: TrainOptions) -> TrainOptions:
    """`options` with the plan in the place of `plan`: what is written to the recipe and never measured again."""
    settled = options_for(options, plan.scenario, plan.source)
    if plan.scenario == "scratch":
        return settled
    transfer: TransferOptions = replace(
        settled.transfer, cut=plan.cut, freeze_to=plan.freeze_to, pretrained_lr=plan.pretrained_lr,
        layer_decay=plan.layer_decay, head_epochs=plan.head_epochs,
    )  # fmt: skip
    return replace(settled, transfer=transfer)
