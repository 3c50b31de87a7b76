"""Each image as the network's `InputSpec` frames it: once, or in several views whose answers are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.data.batches import as_targets
from striate.evaluation.protocols import answers, check_views, takes_any_size
from striate.evaluation.scoring import evaluation_of
from striate.evaluation.table import Evaluation
from striate.inference import place
from striate.inference.engines import EngineModule
from striate.progress import Progress
from striate.runtime import pick_device, resolve_precision
from striate.spec import are_characters

if TYPE_CHECKING:
    from striate.data import Split
    from striate.network.engines import Ready

# the logits [n, C] of a split, the targets [n], and the positions [n] of the images they belong to (see `answers`)
Ask = Callable[["Split"], tuple[torch.Tensor, torch.Tensor, np.ndarray]]


def evaluate(
    saved: SavedModel,
    split: Split | Sequence[Split],
    *,
    batch_size: int = 256,
    device: str = "auto",
    precision: str = "fp32",
    views: str = "single",
    engine: Ready | None = None,
    calibrate: bool = False,
    costs: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a network on a split, every image once; unreadable ones are wrong answers.

    Args:
        saved: the network; it is moved to `device` and stays there.
        split: its targets number the network's outputs (see `matched` for data that name their classes otherwise).
            Several splits count as one.
        batch_size: images or crops passed at once; the result does not depend on it beyond rounding.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16`, `fp16`, or `auto`.
        views: `single`, or several of each image (see `protocols`); the result's `protocol` says which.
        engine: what computes, instead of torch on `device` in `precision` (see `network.engines`).
        calibrate: fit the temperature of `saved`, or its thresholds, on these images first.
        costs: what decisions cost (see `read_costs`): the result then says what the cheapest come to.
        progress: shows a bar, and says where views are doubtful.

    Raises:
        UnknownNameError: no such views.
        UsageError: no such device, a precision that it does not have, or an engine that cannot compute the views.
        ModelError: views that the network's layers do not allow.
        DataError: an image changed since the data were loaded.
    """
    if progress is not None and views != "single" and are_characters(saved.labels):
        progress.warn(f"--views {views} shows digits or letters mirrored, which makes other characters of them")
    protocol = check_views(views, saved.model, saved.spec, backend=engine.backend if engine is not None else "torch")
    ask, on = asking(
        saved, views, batch_size=batch_size, device=device, precision=precision, engine=engine, progress=progress
    )
    splits = [split] if not isinstance(split, Sequence) else list(split)
    logits, targets, paths = [torch.zeros(0, len(saved.labels))], [as_targets(one.targets[:0]) for one in splits], []
    for one in splits:
        given, classes, indices = ask(one)
        if len(indices):
            logits.append(given)
            targets.append(classes)
            paths += [one.paths[index] for index in indices.tolist()]
    unreadable = [left_out for one in splits for left_out in one.unreadable]
    given = torch.cat(logits)
    result = evaluation_of(
        saved, given, torch.cat(targets), paths, unreadable, device=on, calibrate=calibrate, costs=costs
    )
    return replace(result, logits=given, protocol=protocol, engine=engine.to_dict() if engine is not None else None)


def asking(
    saved: SavedModel,
    views: str,
    *,
    batch_size: int,
    device: str = "auto",
    precision: str = "fp32",
    engine: Ready | None = None,
    progress: Progress | None = None,
) -> tuple[Ask, torch.device]:
    """What asks the network about the images of a split, and where it computes; the arguments as for `evaluate`.

    Raises:
        UsageError: no such device, or a precision that it does not have.
    """
    if engine is not None:
        # what the engine gives is not cast again; views that it cannot compute are torch's in its precision
        on, precision = engine.device, engine.precision if takes_any_size(views) else "fp32"
        asked = EngineModule(engine)
    else:
        on = pick_device(device)
        precision = resolve_precision(precision, on)
        place(saved.model, on)
        asked = None
    last = engine is None or engine.backend == "torch"

    def ask(split: Split) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        return answers(
            saved.model, split, saved.spec, views, batch_size=batch_size, device=on, precision=precision, asked=asked,
            channels_last=last, progress=progress,
        )  # fmt: skip

    return ask, on
