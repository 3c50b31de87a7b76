"""The end of a run, however its weights came about: scores, predictions, pictures, and what the model file says."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from striate.checkpoint import load_model, save_model, write_atomically
from striate.data import Dataset, TrainingBatches
from striate.evaluation import evaluate
from striate.models.sources import is_own
from striate.options import TrainOptions
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.spec import InputSpec, Scores
from striate.training.pictures import save_pictures

EVALUATION_PIXELS = 2**21  # of a validation batch: 500 images of 64 pixels a side, 41 of 224


def evaluation_batch(spec: InputSpec) -> int:
    """Images that are validated at once: many small ones, few large ones."""
    return max(1, min(500, EVALUATION_PIXELS // (spec.size[0] * spec.size[1])))


def finish_run(
    run: RunFolder,
    options: TrainOptions,
    dataset: Dataset,
    batches: TrainingBatches,
    *,
    device: torch.device,
    facts: dict[str, Any],
    progress: Progress,
) -> tuple[dict[str, Scores], str | None]:
    """Score the weights in `run.model` on validation and, once, on the test split; write scores, predictions, pictures.

    The temperature of the probabilities is fitted on the validation images, where there are enough, and kept in the
    model file; of several labels an image so are their thresholds.

    Args:
        run: a run folder with recipe and model file.
        options: resolved.
        dataset: what the run was trained on.
        batches: the training images as they were shown, some of which are pictured (see `training_batches`).
        device: where to compute; in the precision of the options.
        facts: how the weights came about, for evaluation.json: `selected_by`, `selected_on`, `best_epoch`, `weights`,
            `epochs`, `epochs_planned`, and what else there is to say.
        progress: shows bars.

    Returns:
        The scores by split, and the protocol by which they came about (None where nothing was scored).
    """
    name = options.model.model
    saved = load_model(run.model, code=name if name is not None and is_own(name) else None)
    scores: dict[str, Scores] = {}
    trust: dict[str, dict[str, Any]] = {}
    protocol, fitted = None, None
    tables, row_splits = [], []
    for name in ("val", "test"):
        split = dataset.splits.get(name)
        if split is None or not len(split) + len(split.unreadable):
            continue
        result = evaluate(
            saved, split, batch_size=evaluation_batch(saved.spec), device=str(device),
            precision=options.runtime.precision, views=options.evaluate.views, calibrate=name == "val",
            progress=progress,
        )  # fmt: skip
        if result.fitted is not None:
            fitted = result.fitted
            progress.say(fitted.in_words())
        scores[name], trust[name], protocol = result.scores, result.trust, result.protocol
        tables.append(result.predictions.append_column("split", pa.array([name] * len(result.predictions))))
        row_splits += [name] * len(result.predictions)
    if tables:
        predictions = pa.concat_tables(tables)
        buffer = io.BytesIO()
        pq.write_table(predictions, buffer, compression="zstd")
        write_atomically(run.predictions, buffer.getvalue())
        save_pictures(
            run.pictures, batches, dataset, saved, predictions, row_splits, progress, looked=options.training.report
        )
    summaries = {name: one.summary() for name, one in scores.items()}
    notes = saved.notes | ({"protocol": protocol} if protocol else {})
    save_model(
        run.model, saved.model, saved.spec, saved.labels, scores=summaries, notes=notes,
        temperature=saved.temperature, thresholds=saved.thresholds,
    )  # fmt: skip
    record = {
        "model": saved.model.architecture.name,
        "protocol": protocol,
        **facts,
        "params": sum(parameter.numel() for parameter in saved.model.parameters()),
        "splits": {name: one.to_dict() | trust[name] for name, one in scores.items()},
        "thresholds" if saved.labels.multi_label else "temperature": fitted.to_dict() if fitted is not None else None,
        "train": None,
    }
    write_atomically(run.evaluation, json.dumps(record, indent=1).encode())
    return scores, protocol


def training_batches(options: TrainOptions, spec: InputSpec, dataset: Dataset, device: torch.device) -> TrainingBatches:
    """The training images as the epochs show them; `options` must be resolved."""
    assert options.optimizer.batch_size is not None
    return TrainingBatches(
        dataset.splits["train"], spec, options.augment, batch_size=options.optimizer.batch_size,
        seed=options.training.seed, sampling=options.regularize.sampling, device=device,
        channels_last=bool(options.runtime.channels_last),
    )  # fmt: skip
