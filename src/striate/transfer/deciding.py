"""Where a training starts from and which scenario it follows: found and measured where the options leave it open."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from striate.checkpoint import SavedModel
from striate.data import Dataset
from striate.errors import ModelError, StriateError, UsageError
from striate.network import read_spelling
from striate.options import TrainOptions
from striate.options.transfer import KEEP, LINEAR
from striate.progress import Bars, Progress
from striate.runtime import set_threads
from striate.spec import Labels
from striate.training.defaults import check_feasible, resolve_runtime
from striate.training.start import AUTO, SCRATCH, grows, open_start
from striate.training.transferring import scenario_of
from striate.transfer.ancestry import seen_by, warn_of_known_images
from striate.transfer.auto import find_start
from striate.transfer.keeping import own_answers
from striate.transfer.plan import TransferPlan, as_options, options_for, plan_transfer
from striate.transfer.probing import probe
from striate.transfer.result import KINDS, ProbeResult
from striate.transfer.without_epochs import takes_no_epochs

_SCORED = ("val", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What is to be done, and what was measured to find out."""

    options: TrainOptions  # one `--from`, no `plan`
    why: str = ""  # of the start
    start: SavedModel | None = None
    probe: ProbeResult | None = None
    plan: TransferPlan | None = None
    seconds: Mapping[str, float] | None = None  # of probing and planning

    def to_dict(self) -> dict[str, Any]:
        """The form of transfer.json."""
        return {
            "start": {"from": self.options.model.from_, "why": self.why},
            "probe": self.probe.to_dict() if self.probe is not None else None,
            "plan": self.plan.to_dict() if self.plan is not None else None,
            "seconds": dict(self.seconds or {}),
            "next_steps": [],
        }


def decide(options: TrainOptions, dataset: Dataset, *, given: bool, progress: Progress) -> Decision:
    """Where to start from and how, measured where the options leave it open.

    Args:
        options: as asked for.
        dataset: of which training images are looked at.
        given: whether there is a network already, which is trained as it is.
        progress: is told what is found, measured and decided.

    Raises:
        UsageError, DataError, ModelError: what cannot be.
        Also what `open_network` raises, for networks that were named.
    """
    check_feasible(dataset)
    if dataset.labels.multi_label:
        _refuse_probing(options)
    asked = options.model.from_
    if options.transfer.scenario == KEEP and (asked == AUTO or isinstance(asked, tuple)):
        raise UsageError(f"--scenario {KEEP} takes one network that is named", "name it with --from")
    if given:
        _refuse_linear(options)
        return Decision(options if asked != AUTO else _from(options, SCRATCH))
    why = "as asked for"
    if asked == AUTO:
        found = find_start(options, dataset, progress)
        sources, why = found.sources, found.why
    else:
        sources = (asked,) if isinstance(asked, str) else asked
        sources = () if sources == (SCRATCH,) else sources
    opened = _opened(options, sources, progress)
    if not opened:
        why = f"{why}, but cannot be opened" if sources else why
        _refuse_linear(options, why if asked == AUTO else "")
        if asked == AUTO:
            progress.say(f"starting from scratch: {why}")
        return Decision(_from(options, SCRATCH), why)
    first, start = next(iter(opened.items()))
    chosen = _from(options, first)
    scenario = _scenario(chosen, start, dataset)
    if dataset.labels.multi_label:
        if scenario == "plan":
            progress.say("several labels an image cannot be probed by linear classifiers: training all layers")
            chosen = replace(chosen, transfer=replace(chosen.transfer, scenario="all"))
        warn_of_known_images(first, dataset, progress, _SCORED)
        return Decision(chosen, why, start)
    if len(opened) > 1 or scenario == "plan" or (scenario in KINDS and options.transfer.cut is None):
        return _measured(options, dataset, opened, why, progress)
    warn_of_known_images(first, dataset, progress, _SCORED)
    return Decision(chosen, why, start)


def _refuse_probing(options: TrainOptions) -> None:
    """Linear classifiers of codes, which also measure what networks know, take one class an image."""
    if options.transfer.scenario in LINEAR:
        raise UsageError(
            f"--scenario {options.transfer.scenario} fits one class to an image, and these images have several labels",
            "--scenario head trains the classifier alone, by gradients",
        )
    if isinstance(options.model.from_, tuple):
        raise UsageError(
            "networks to start from are compared by probing, which takes one class an image; these have several labels",
            "name one network with --from",
        )


def _refuse_linear(options: TrainOptions, why: str = "") -> None:
    if takes_no_epochs(options):
        reason = f" ({why})" if why else ""
        raise UsageError(
            f"--scenario {options.transfer.scenario} needs weights to start from{reason}", "name a network with --from"
        )


def _opened(options: TrainOptions, sources: Sequence[str], progress: Progress) -> dict[str, SavedModel]:
    """The networks by the spelling that means the same everywhere; of those that were found, the ones that open."""
    opened: dict[str, SavedModel] = {}
    for source in sources:
        try:
            name = read_spelling(source, Path(options.training.runs)).absolute
            start = open_start(_from(options, name), Bars(progress))
        except StriateError as error:
            if options.model.from_ != AUTO:
                raise
            progress.warn(f"{source} is left out: {error.message}")
            continue
        assert start is not None
        if takes_no_epochs(options) and grows(options, start):
            raise UsageError(
                f"--scenario {options.transfer.scenario} takes {source} as it is, not another network",
                "leave --model out, or train by gradients: --scenario all",
            )
        opened[name] = start
    return opened


def _scenario(options: TrainOptions, start: SavedModel, dataset: Dataset) -> str:
    """As training has it, but that other images of the same classes are planned for, too.

    A run goes on with the images that it has seen. What published weights have seen is nowhere written: they are
    measured on these images like any other network.
    """
    scenario = scenario_of(options, start, dataset.labels)
    others = Labels(tuple(f"not {name}" for name in dataset.labels.names))
    if scenario == "all" and scenario_of(options, start, others) == "plan":
        seen, train = seen_by(str(options.model.from_)), dataset.splits["train"]
        other = seen.unread is None and seen.among(train).sum() < len(train) / 2
        return "plan" if other else scenario
    return scenario


def _measured(
    options: TrainOptions, dataset: Dataset, opened: Mapping[str, SavedModel], why: str, progress: Progress
) -> Decision:
    for source in opened:
        warn_of_known_images(source, dataset, progress)
    begun = time.perf_counter()
    options = resolve_runtime(options, progress)
    set_threads(options.runtime.threads)
    named = [replace(saved, notes={**saved.notes, "source": source}) for source, saved in opened.items()]
    found = probe(dataset, named, options, images=options.transfer.probe_images, progress=progress)
    best, plan = found.best, None
    start, chosen = opened[best.source], _from(options, best.source)
    if len(opened) > 1:
        scores = ", ".join(f"{one.source} {one.expected.top1:.1%}" for one in found.sources)
        progress.say(f"of the networks to start from, {best.source} knows most about these images: {scores}")
    scenario = _scenario(chosen, start, dataset)
    probed = time.perf_counter()
    if scenario == "plan":
        found, plan = planned(found, dataset, chosen, start=start, progress=progress)
        chosen = as_options(plan, chosen)
        progress.say(plan.why[0])
        for line in plan.why:
            if line.startswith("The head that"):
                progress.say(line)
        progress.say(next(line for line in plan.why if line.startswith("Hence")))
    elif scenario in KINDS and options.transfer.cut is None:
        own = replace(chosen.transfer, cut=best.best_by_kind(scenario).place)
        chosen = options_for(replace(chosen, transfer=own), scenario, best.source)
    else:
        chosen = options_for(chosen, scenario, best.source)
    if takes_no_epochs(chosen) and grows(chosen, start):  # of the network that is there
        chosen = replace(chosen, model=replace(chosen.model, model=None))
    seconds = {"probe": probed - begun, "plan": time.perf_counter() - probed}
    return Decision(chosen, why, start if chosen.model.from_ != SCRATCH else None, found, plan, seconds)


def planned(
    found: ProbeResult, dataset: Dataset, options: TrainOptions, *, start: SavedModel, progress: Progress
) -> tuple[ProbeResult, TransferPlan]:
    """The plan that follows from a probe, and the probe with it and with how the best network's own head does.

    Args:
        found: the probe.
        dataset: as it was probed.
        options: with `--from` the best of the networks, spelt in full; what else is given in them stays.
        start: that network, opened.
        progress: is told each trial.
    """
    best = replace(found.best, own_answers=own_answers(start, dataset, options, progress))
    found = replace(found, sources=tuple(best if one.source == best.source else one for one in found.sources))
    place = options.transfer.cut
    held = found if place is None else cut_off(found, place)
    plan = plan_transfer(held, dataset, options, start=start, progress=progress)
    return found.with_plan(plan), plan


def cut_off(found: ProbeResult, place: str) -> ProbeResult:
    """The probe as it is for who looks at `place` alone: the last place of a network that is cut there.

    Raises:
        ModelError: the best network has no such place.
    """
    source = found.best
    known = [one.place for one in source.depths]
    if place not in known:
        raise ModelError(f"{source.model} has no place {place!r}", f"it has: {', '.join(known)}")
    here = source.depths[known.index(place)]
    held = replace(
        source, depths=(here,), best_place=place, single_kind=here.best_kind, single=here.best, blend=None,
        answers=source.answers_at_cut,
    )  # fmt: skip
    return replace(found, sources=tuple(held if one.source == held.source else one for one in found.sources))


def _from(options: TrainOptions, source: str) -> TrainOptions:
    return replace(options, model=replace(options.model, from_=source))
