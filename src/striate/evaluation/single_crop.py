"""Each image as the network's `InputSpec` frames it: once, or in several views whose logits are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from striate.checkpoint import SavedModel
from striate.data.batches import EvaluationBatches
from striate.evaluation.table import Evaluation, predictions_table, unreadable_table
from striate.evaluation.views import PROTOCOLS, with_views
from striate.inference import logits_of, place
from striate.inference.engines import EngineModule
from striate.metrics import score
from striate.progress import Progress
from striate.runtime import pick_device, resolve_precision
from striate.spec import are_characters

if TYPE_CHECKING:
    from striate.data import LeftOut, Split
    from striate.network.engines import Ready


def evaluate(
    saved: SavedModel,
    split: Split | Sequence[Split],
    *,
    batch_size: int = 256,
    device: str = "auto",
    precision: str = "fp32",
    views: str = "single",
    engine: Ready | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a network on a split, every image once; unreadable ones are wrong answers.

    Args:
        saved: the network; it is moved to `device` and stays there.
        split: its targets number the network's outputs (see `matched` for data that name their classes otherwise).
            Several splits count as one.
        batch_size: images passed at once; the result does not depend on it beyond rounding.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16`, `fp16`, or `auto`.
        views: `single`, or several of each image (see `with_views`); the result's `protocol` says which.
        engine: what computes, instead of torch on `device` in `precision` (see `network.engines`).
        progress: shows a bar, and says where views are doubtful.

    Raises:
        UnknownNameError: no such views.
        UsageError: no such device, or a precision that it does not have.
        DataError: an image changed since the data were loaded.
    """
    if engine is not None:
        on, precision = engine.device, "fp32"  # what the engine gives is not cast again
        network = with_views(EngineModule(engine), views)
    else:
        on = pick_device(device)
        precision = resolve_precision(precision, on)
        place(saved.model, on)
        network = with_views(saved.model, views)
    if progress is not None and views != "single" and are_characters(saved.labels):
        progress.warn(f"--views {views} shows digits or letters mirrored, which makes other characters of them")
    last = engine is None or engine.backend == "torch"
    splits = [split] if not isinstance(split, Sequence) else list(split)
    logits, targets, paths = [torch.zeros(0, len(saved.labels))], [torch.zeros(0, dtype=torch.int64)], []
    for one in splits:
        batches = EvaluationBatches(one, saved.spec, batch_size=batch_size, device=on, channels_last=last)
        answers, classes, indices = logits_of(network, batches, precision=precision, progress=progress)
        if len(indices):
            logits.append(answers)
            targets.append(classes)
            paths += [one.paths[index] for index in indices.tolist()]
    unreadable = [left_out for one in splits for left_out in one.unreadable]
    result = _evaluation(saved, torch.cat(logits), torch.cat(targets), paths, unreadable, on)
    return replace(result, protocol=PROTOCOLS[views], engine=engine.to_dict() if engine is not None else None)


def _evaluation(
    saved: SavedModel,
    logits: torch.Tensor,
    targets: torch.Tensor,
    paths: list[str],
    unreadable: list[LeftOut],
    device: torch.device,
) -> Evaluation:
    with torch.inference_mode():
        losses = saved.model.loss(logits.to(device), targets.to(device), reduction="none").cpu()
    number = {name: index for index, name in enumerate(saved.labels.names)}
    missing = [number[one.label] for one in unreadable if one.label in number]
    scores = score(
        logits,
        targets,
        saved.labels,
        loss=float(losses.double().mean()),
        unreadable=missing,
        temperature=saved.temperature,
    )
    tables = [
        predictions_table(paths, logits, targets, losses, saved.labels, saved.temperature),
        unreadable_table([(one.path, one.label, one.reason) for one in unreadable]),
    ]
    return Evaluation(scores=scores, predictions=pa.concat_tables(tables))
