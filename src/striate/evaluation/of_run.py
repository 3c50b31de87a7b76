"""A trained network on its own data, or on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.data import Dataset, Split, normalise
from striate.data.sources.sides import ALL
from striate.evaluation.by_column import column_values, scores_by
from striate.evaluation.costs import read_costs
from striate.evaluation.images import images_to_score, matched_and_told, strangers_to_score
from striate.evaluation.protocols import check_views, passes_of, takes_any_size
from striate.evaluation.single_crop import asking, evaluate
from striate.evaluation.strangers import refuse_several, strangers_of
from striate.evaluation.table import Evaluation
from striate.network import open_network
from striate.network.engines import Ready, make_ready, run_of, usual_batch
from striate.options import RobustnessOptions, TrainOptions
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder
from striate.spec import InputSpec


def evaluate_run(
    run: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    split: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str | None = None,
    backend: str = "auto",
    calibration: str | Path | None = None,
    threads: int | None = None,
    views: str = "single",
    by: str | None = None,
    costs: str | Path | None = None,
    ood: str | Path | Dataset | None = None,
    robustness: RobustnessOptions | None = None,
    runs: str | Path = "runs",
    progress: Progress | None = None,
) -> Evaluation:
    """Score the network of a run folder, of a model file, or of published weights.

    On the data it was trained on (`data` None, or the same again) that is the test split, or val where there is none.
    On others it is their test split where they bring one of their own, otherwise every image of theirs: they are only
    scored, so that nothing is held out of them, and no number of images is too small.

    Args:
        run: any spelling of a network (see `striate.network`); only a run folder, and a file in one, knows its data.
        data: what `load_data` takes, or a loaded `Dataset`; its classes are matched with the network's by name.
        split: `train`, `val` or `test`, one that the data have, or `all` instead.
        data_options: options of the data that are to differ from the run's, by name.
        batch_size: images passed at once; None takes `usual_batch`: 32 photos of 224 pixels, 256 small images.
        device: see `pick_device`.
        precision: None takes the run's own where device and back end have it, else fp32; for the others see
            `make_ready`.
        backend: what computes; see `make_ready`.
        calibration: images for int8; None takes those that the run was trained on.
        threads: processor threads of back ends other than torch; None for `thread_limit`.
        views: `single`, or several of each image, whose answers are averaged: one of `protocols.VIEWS`.
        by: also score each value of this column apart (see `column_values`).
        costs: a table of what mistakes cost (see `read_costs`): also say what the cheapest decisions come to.
        ood: images of something else, labels or not: also say how the network's answers tell them from the images just
            scored (see `strangers_of`).
        robustness: also score images that are changed (see `robustness_of`); each is then looked at once.
        runs: the folder that holds the run folders.
        progress: shows bars, and says what the data lack.

    Raises:
        CheckpointError, UnknownNameError, ModelError, OfflineError: no usable network, or views that it does not allow.
        UsageError: a model file without data, a split that the data do not have, options that split other data, or
            views that the back end cannot compute.
        DataError: the data cannot be used, or have classes that the network does not know.
        MissingExtraError: a package of the extra `export` is not installed, and the back end needs it.
    """
    progress = progress or Silent()
    passes_of(views)  # known, before anything is opened
    given = dict(data_options or {})
    saved = open_network(run, runs=runs, offline=bool(given.get("offline")), progress=progress)
    check_views(views, saved.model, saved.spec, backend="torch" if backend == "auto" else backend)
    if ood is not None:
        refuse_several(saved.labels)
    changes = robustness.robustness if robustness is not None else None
    if changes:
        from striate.evaluation.robustness import check_robustness

        check_robustness(saved, views)
    folder = run_of(saved)
    recipe = RunFolder(folder).read_recipe() if folder is not None else None
    about = [saved.notes.get("data")]
    dataset, splits = images_to_score(data, recipe, given, split=split, trained_on=about, run=run, progress=progress)
    table = read_costs(costs, saved.labels) if costs is not None else None
    values = column_values(by, dataset, splits) if by is not None else None
    others, theirs = strangers_to_score(ood, recipe, given, progress) if ood is not None else (None, [])
    splits = matched_and_told(splits, dataset, saved.labels, progress)
    engine = engine_for(
        saved, recipe, splits, backend=backend, precision=precision, device=device, threads=threads,
        calibration=calibration, views=views, offline=bool(given.get("offline")), progress=progress,
    )  # fmt: skip
    batch_size = usual_batch(saved.spec) if batch_size is None else batch_size
    result = evaluate(saved, splits, batch_size=batch_size, views=views, engine=engine, costs=table, progress=progress)
    if others is not None:
        ask, _ = asking(saved, views, batch_size=batch_size, engine=engine, progress=progress)
        found = strangers_of(result, splits, others, theirs, ask, saved, progress)
        result = replace(result, strangers=found)
    names = [one.name for one in splits]
    what = {"model": saved.model.architecture.name, "data": dataset.name, "split": names[0] if len(names) == 1 else ALL}
    if changes and robustness is not None:
        from striate.evaluation.robustness import robustness_of

        borne = robustness_of(
            saved, splits, changes, images=robustness.robustness_images, batch_size=batch_size, ask=engine,
            progress=progress,
        )  # fmt: skip
        result = replace(result, robustness=replace(borne, **what))
    return replace(result, groups=scores_by(values, result.predictions) if values is not None else None, **what)


def engine_for(
    saved: SavedModel,
    recipe: TrainOptions | None,
    splits: list[Split],
    *,
    backend: str,
    precision: str | None,
    device: str,
    threads: int | None,
    calibration: str | Path | None,
    views: str,
    offline: bool,
    progress: Progress,
) -> Ready:
    """What computes the network's answers to these images: see `make_ready`, and `evaluate_run` for the arguments.

    Raises:
        As `make_ready`.
    """
    count = sum(map(len, splits))
    chosen = "torch" if backend == "auto" and takes_any_size(views) else backend
    engine = make_ready(
        saved, backend=chosen, precision=precision,
        recorded=recipe.runtime.precision if recipe is not None else "fp32", device=device, threads=threads,
        calibration=calibration, images=count, views=passes_of(views), offline=offline, progress=progress,
    )  # fmt: skip
    if chosen != backend:
        engine.why = f"the others have the network for its own input size only, {views} views for any"
    engine.compare_on(count, partial(_images_at, splits, saved.spec, engine.device))
    return engine


def _images_at(splits: list[Split], spec: InputSpec, device: torch.device, positions: Sequence[int]) -> torch.Tensor:
    """Normalised images [B, C, H, W] at positions in all splits one after the other, in order."""
    parts, start = [], 0
    for split in splits:
        here = [position - start for position in positions if start <= position < start + len(split)]
        if here:
            parts.append(normalise(split.images.take(np.array(here), spec).to(device), spec))
        start += len(split)
    return torch.cat(parts)
