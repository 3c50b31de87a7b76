"""The few images that the report shows: training images as the network sees them, the worst and the best answers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from striate.checkpoint import SavedModel, write_atomically
from striate.data import Dataset, TrainingBatches
from striate.data.normalise import denormalise
from striate.progress import Progress
from striate.spec import InputSpec

AUGMENTED, EXTREMES = 24, 18
SHOWN_SIDE = 160  # pixels: larger images are thinned out


def save_pictures(
    path: Path,
    batches: TrainingBatches,
    dataset: Dataset,
    saved: SavedModel,
    predictions: pa.Table,
    row_splits: list[str],
    progress: Progress,
    *,
    looked: bool = True,
) -> None:
    """Write `pictures.npz`; `predictions` are all rows that `saved` answered, `row_splits` the split of each.

    `looked` adds where the network looked at its worst mistakes, which takes colour maps and passes of the network.
    """
    spec = saved.spec
    first = next(iter(batches.epoch(0)))
    augmented = to_pixels(first.images[:AUGMENTED].float().cpu(), spec)
    arrays = {
        "augmented": augmented,
        "augmented_labels": np.array(dataset.splits["train"].label_texts(dataset.labels, first.indices[:AUGMENTED])),
    }
    for name, rows in extreme_rows(predictions).items():
        stored = _stored(rows, dataset, spec, row_splits)
        arrays[f"{name}_rows"] = rows
        arrays[name] = _shown((stored.long() >> (spec.bits - 8)).to(torch.uint8))
        if looked and name == "worst":
            from striate.training.looking import where_it_looked

            maps = where_it_looked(saved, stored, predictions.take(rows).to_pylist(), progress)
            arrays |= {key: _thinned(value) if value.ndim == 5 else value for key, value in maps.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def extreme_rows(predictions: pa.Table) -> dict[str, np.ndarray]:
    """Rows of the wrong answers that were surest (highest loss first) and of the surest right ones."""
    loss = np.array(predictions["loss"].to_numpy(zero_copy_only=False), dtype=float)
    readable = np.isfinite(loss)
    correct = predictions["correct"].to_numpy(zero_copy_only=False).astype(bool)
    wrong = np.flatnonzero(~correct & readable)
    if "labels" in predictions.column_names:  # surest are images without any label, which show little
        readable &= np.array([bool(names) for names in predictions["labels"].to_pylist()], dtype=bool)
    right = np.flatnonzero(correct & readable)
    return {
        "worst": wrong[np.argsort(-loss[wrong], kind="stable")][:EXTREMES].astype(np.int64),
        "best": right[np.argsort(loss[right], kind="stable")][:EXTREMES].astype(np.int64),
    }


def to_pixels(images: torch.Tensor, spec: InputSpec) -> np.ndarray:
    """Normalised [n, C, H, W] back to uint8 [n, H, W, 1 or 3] for showing."""
    return _shown(denormalise(images, spec).mul(255).round().to(torch.uint8))


def _stored(rows: np.ndarray, dataset: Dataset, spec: InputSpec, row_splits: list[str]) -> torch.Tensor:
    """The pixels [n, C, H, W] of evaluated rows, fitted as the network sees them; rows count on from split to split."""
    starts: dict[str, int] = {}
    for row, split in enumerate(row_splits):
        starts.setdefault(split, row)
    found = [torch.zeros((0, spec.channels, *spec.size), dtype=torch.uint8)]
    for row in rows:
        split = row_splits[int(row)]
        found.append(dataset.splits[split].images.take(np.array([int(row) - starts[split]]), spec))
    return torch.cat(found[1:] or found)


def _shown(pixels: torch.Tensor) -> np.ndarray:
    """uint8 [n, C, H, W] → [n, h, w, 1 or 3]: the first channel where they are not colours, thinned to a small side."""
    pixels = pixels if pixels.shape[1] == 3 else pixels[:, :1]
    return _thinned(pixels.permute(0, 2, 3, 1).numpy())


def _thinned(pictures: np.ndarray) -> np.ndarray:
    """[..., H, W, C] with every second, third … row and column, down to a small side."""
    step = -(-max(pictures.shape[-3:-1]) // SHOWN_SIDE)
    return np.ascontiguousarray(pictures[..., ::step, ::step, :])
