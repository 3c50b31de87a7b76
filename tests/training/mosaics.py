"""Images with several labels: some of the embedded digits on a canvas of four cells, as PNG files and a table."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from striate.data import Split, load_data


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All embedded digits, uint8 [n, 8, 8], and what they are."""
    splits: list[Split] = list(load_data("digits").splits.values())
    pixels = [np.stack([split.images.raw(index)[..., 0] for index in range(len(split))]) for split in splits]
    return np.concatenate(pixels), np.concatenate([split.targets for split in splits])


def mosaics(count: int, seed: int = 0, kinds: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, 16, 16] with none to three digits each, and which digits they are, uint8 [count, kinds]."""
    pixels, targets = digits()
    pixels, targets = pixels[targets < kinds], targets[targets < kinds]
    draws = np.random.default_rng(seed)
    canvases = draws.integers(0, 12, (count, 16, 16), dtype=np.uint8)  # no two are the same, without digits neither
    labels = np.zeros((count, kinds), np.uint8)
    for canvas, row in zip(canvases, labels, strict=True):
        cells = draws.permutation(4)[: draws.integers(0, 4)]
        for cell in cells:
            one = draws.integers(len(pixels))
            top, left = 8 * (cell // 2), 8 * (cell % 2)
            canvas[top : top + 8, left : left + 8] = pixels[one]
            row[targets[one]] = 1
    return canvases, labels


def write_mosaics(folder: Path, count: int, *, seed: int = 0, kinds: int = 10, delimiter: str = "|") -> Path:
    """`count` PNG files below `folder`, and the table of their labels, whose path is returned."""
    (folder / "images").mkdir(parents=True)
    table = folder / "mosaics.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label"])
        for number, (canvas, labels) in enumerate(zip(*mosaics(count, seed, kinds), strict=True)):
            name = f"images/{number:04d}.png"
            Image.fromarray(canvas).save(folder / name)
            rows.writerow([name, delimiter.join(str(label) for label in np.flatnonzero(labels))])
    return table
