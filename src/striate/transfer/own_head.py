"""The head that a network has already, where it knows all the classes: how well it does, and whether it is kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from striate.checkpoint import SavedModel
from striate.data import Dataset, EvaluationBatches
from striate.data.parts import part_of, thinned
from striate.inference import logits_of
from striate.network import refitted
from striate.options import TrainOptions
from striate.options.transfer import LINEAR
from striate.progress import Progress
from striate.runtime import pick_device, resolve_precision
from striate.training.defaults import fed_as
from striate.training.finishing import evaluation_batch
from striate.training.start import grows
from striate.training.transferring import head_is_new
from striate.transfer.ancestry import seen_by
from striate.transfer.plan import ScenarioEstimate, TransferPlan
from striate.transfer.probing import IMAGES
from striate.transfer.result import Accuracy, SourceProbe
from striate.transfer.wording import percent


def own_head_of(start: SavedModel, dataset: Dataset, options: TrainOptions, progress: Progress) -> Accuracy | None:
    """How the head answers training images that the network has not seen, as many as probing looks at.

    None where it does not know all the classes, or there are no images of which it is certain that they are new to it.

    Args:
        start: the network, opened.
        dataset: whose training images are shown.
        options: with the one `--from` by which the network is spelt.
        progress: shows a bar.
    """
    if head_is_new(options, start, dataset.labels) or grows(options, start):
        return None
    train, seen = dataset.splits["train"], seen_by(str(options.model.from_))
    fresh = np.ones(len(train), bool) if len(train.digests) != len(train) else ~seen.among(train)
    if seen.unread is not None or not fresh.any():
        return None
    shown = part_of(train, thinned(train, np.flatnonzero(fresh), options.transfer.probe_images or IMAGES))
    spec, device = fed_as(start.spec, options, dataset), pick_device(options.runtime.device)
    network = refitted(start, dataset.labels, in_channels=spec.channels, input_size=spec.size).model
    batches = EvaluationBatches(
        shown, spec, batch_size=evaluation_batch(spec), device=device,
        channels_last=bool(options.runtime.channels_last),
    )  # fmt: skip
    precision = resolve_precision(options.runtime.precision, device)
    logits, targets, _ = logits_of(network.to(device), batches, precision=precision, progress=progress)
    network.cpu()
    return Accuracy.of((logits.argmax(dim=1) == targets).numpy()) if len(targets) else None


def with_own_head(plan: TransferPlan, source: SourceProbe) -> TransferPlan:
    """The plan, or scenario `all`, which begins with the head that is there, where that is the better one.

    Where `all` was tried, its trials began with that head, too, and the plan has judged it by them.
    """
    own = source.own_head
    if own is None:
        return plan
    said = (
        f"The head that the network has for these classes answers {percent(own.top1)} ({percent(own.low)} to "
        f"{percent(own.high)}) of {own.n} training images right that it had not seen."
    )
    hence = next(number for number, line in enumerate(plan.why) if line.startswith("Hence"))
    tried = any(one.scenario == "all" for one in plan.scenarios)
    behind = not math.isnan(plan.expected_top1) and own.top1 < plan.expected_top1
    if plan.scenario not in LINEAR or tried or behind:
        return replace(plan, why=(*plan.why[:hence], said, *plan.why[hence:]))
    row = ScenarioEstimate(
        scenario="all", expected_top1=own.top1, low=own.low, high=own.high, seconds=None,
        measured=f"the head that is there, on {own.n} images",
    )  # fmt: skip
    usual = source.top.best.top1
    return replace(
        plan, scenario="all", cut=None, expected_top1=own.top1, low=own.low, high=own.high, seconds=None,
        gain=0.0 if math.isnan(usual) else own.top1 - usual, scenarios=(*plan.scenarios, row),
        why=(
            *plan.why[:hence], said, "Hence all: training everything slowly, which begins with that head.",
            *plan.why[hence + 1 :],
        ),
    )  # fmt: skip
