"""The images that a view looks at, batch by batch, as the network is fed and as people see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from striate.checkpoint import SavedModel
from striate.data.given import pixels_or_reason
from striate.data.normalise import denormalise, normalise
from striate.errors import DataError
from striate.explanation.chosen import Chosen
from striate.network.engines import usual_batch
from striate.progress import Progress


@dataclass(frozen=True, slots=True)
class Read:
    """Some images: their rows among those that were chosen, and normalised, [n, C, H, W], where the network is."""

    rows: list[int]
    images: Tensor


def batches(
    saved: SavedModel,
    chosen: Chosen,
    rows: Iterable[int] | None = None,
    *,
    batch: int | None = None,
    progress: Progress | None = None,
    title: str = "looking",
) -> Iterator[Read]:
    """The images of `rows` (None: all) in their order, each read once; unreadable ones are named and left out.

    Raises:
        DataError: not one could be read.
    """
    progress = progress or Progress()
    device = next((one.device for one in saved.model.parameters()), torch.device("cpu"))
    wanted = list(range(len(chosen.images)) if rows is None else rows)
    left, readable = iter(wanted), 0
    with progress.task(title, len(wanted)) as task:
        while chunk := list(islice(left, batch or usual_batch(saved.spec))):
            kept: list[int] = []
            stored: list[np.ndarray] = []
            for row in chunk:
                pixels = pixels_or_reason(chosen.images[row], saved.spec)
                if isinstance(pixels, str):
                    progress.warn(f"{chosen.names[row]}: {pixels}")
                    continue
                kept.append(row)
                stored.append(pixels)
            if kept:
                readable += len(kept)
                yield Read(kept, normalise(torch.from_numpy(np.stack(stored)).to(device), saved.spec))
            task.advance(len(chunk))
    if not readable:
        raise DataError("there is no image to look at", "name image files, a folder of them, or a data set by --data")


def as_seen(saved: SavedModel, images: Tensor) -> np.ndarray:
    """Normalised images as people see them: float32 [n, H, W, C] from 0 to 1."""
    return denormalise(images, saved.spec).permute(0, 2, 3, 1).cpu().numpy()


def flat_image(image: np.ndarray) -> np.ndarray:
    """[H, W, C] as what is drawn: grey [H, W] unless it is in colour."""
    return image if image.shape[2] == 3 else image[..., 0]


def names_of(chosen: Chosen, rows: Sequence[int]) -> list[str]:
    """What the images of `rows` are called."""
    return [chosen.names[row] for row in rows]
