"""The head that a network has already, where it knows all the classes: what it answers, and the network as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from striate.checkpoint import SavedModel
from striate.data import Dataset, EvaluationBatches
from striate.data.parts import part_of, thinned
from striate.errors import ModelError, UsageError
from striate.inference import logits_of
from striate.network import refitted
from striate.options import TrainOptions
from striate.progress import Progress, Silent
from striate.runtime import pick_device, resolve_precision
from striate.spec import Labels
from striate.training.defaults import fed_as
from striate.training.finishing import evaluation_batch
from striate.training.start import grows
from striate.training.transferring import code_named, head_is_new
from striate.transfer.ancestry import seen_by
from striate.transfer.made import Job, Made
from striate.transfer.probing import most_images
from striate.transfer.result import Answers

_NAMED = 3  # classes, in an error


def own_answers(start: SavedModel, dataset: Dataset, options: TrainOptions, progress: Progress) -> Answers | None:
    """What the head answers to training images that the network has not seen, as many as probing looks at.

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
    rows = thinned(train, np.flatnonzero(fresh), most_images(options.transfer.probe_images, dataset))
    spec, device = fed_as(start.spec, options, dataset), pick_device(options.runtime.device)
    network = _for_classes(replace(start, spec=spec), dataset.labels, options, Silent()).model
    batches = EvaluationBatches(
        part_of(train, rows), spec, batch_size=evaluation_batch(spec), device=device,
        channels_last=bool(options.runtime.channels_last),
    )  # fmt: skip
    precision = resolve_precision(options.runtime.precision, device)
    logits, targets, answered = logits_of(network.to(device), batches, precision=precision, progress=progress)
    if not len(targets):
        return None
    return Answers(
        rows=rows[answered], targets=targets.numpy().astype(np.int64), probabilities=logits.softmax(dim=1).numpy()
    )


def kept(job: Job, progress: Progress) -> Made:
    """The network of `job` as it is, its head with the classes of the images alone, in their order.

    Raises:
        UsageError: a place to cut at.
        ModelError: the head does not know all the classes.
    """
    options, network, labels = job.options, job.network, job.dataset.labels
    if options.transfer.cut is not None:
        raise UsageError(
            f"--cut {options.transfer.cut} drops the head, and --scenario keep keeps it", "leave one of them out"
        )
    if head_is_new(options, network, labels):
        unknown = [name for name in labels.names if name not in network.labels.names]
        named = ", ".join(unknown[:_NAMED]) + (f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else "")
        what = f"does not know {named}" if unknown else "answers otherwise than these images are labelled"
        hint = "--scenario plan measures what to train"
        if not unknown and any(name.isdecimal() for name in labels.names):
            what = "has classes of these numbers, which may stand for anything in either"
            hint += "; names in words, or all ten digits, are taken for the same classes"
        raise ModelError(f"--scenario keep leaves {options.model.from_} as it is, and its head {what}", hint)
    same = _for_classes(network, labels, options, progress)
    return Made(same.model.eval(), temperature=same.temperature, thresholds=same.thresholds)


def _for_classes(network: SavedModel, labels: Labels, options: TrainOptions, progress: Progress) -> SavedModel:
    return refitted(
        network, labels, in_channels=network.spec.channels, input_size=network.spec.size, code=code_named(options),
        progress=progress,
    )  # fmt: skip
