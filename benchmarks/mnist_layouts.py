"""MNIST laid out on disk as each peer of time_to_accuracy.py expects to find it: nothing here is timed."""

from __future__ import annotations

import gzip
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

from harness import say

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def prepare(source: Path, work: Path, forms: set[str]) -> None:
    """Lay out MNIST as each peer expects to find it; none of this is timed. What is there already is kept."""
    work.mkdir(parents=True, exist_ok=True)
    raw = work / "raw" / "MNIST" / "raw"
    if not raw.is_dir():
        part = work / "raw.part"
        part.mkdir(exist_ok=True)
        for name in IDX_FILES:
            (part / name).write_bytes(idx_bytes(source, name))
        raw.parent.mkdir(parents=True)
        part.rename(raw)
    if "mnist.npz" in forms and not (work / "mnist.npz").exists():
        prepare_npz(raw, work / "mnist.npz")
    if "png" in forms and not (work / "png").is_dir():
        say("writing 70,000 PNG files for fastai (not timed)")
        prepare_png(raw, work / "png")


def idx_bytes(source: Path, name: str) -> bytes:
    """An IDX file under `source`: gzipped or not, bare or in torchvision's folder layout."""
    for folder in (source, source / "mnist", source / "MNIST" / "raw"):
        if (folder / name).is_file():
            return (folder / name).read_bytes()
        if (folder / f"{name}.gz").is_file():
            return gzip.decompress((folder / f"{name}.gz").read_bytes())
    sys.exit(f"error: {name}(.gz) is not under {source}\nhint: --data-root takes the folder with the MNIST files")


def read_idx(path: Path) -> Any:
    """The array of an IDX file of bytes."""
    import numpy as np

    data = path.read_bytes()
    dimensions = data[3]
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def prepare_npz(raw: Path, target: Path) -> None:
    """The mnist.npz that Keras would download."""
    import numpy as np

    keys = ("x_train", "y_train", "x_test", "y_test")
    arrays = dict(zip(keys, (read_idx(raw / name) for name in IDX_FILES), strict=True))
    part = target.with_name("part.npz")
    np.savez(part, **arrays)
    part.rename(target)


def prepare_png(raw: Path, target: Path) -> None:
    """training/<digit>/<n>.png and testing/<digit>/<n>.png, as fastai's own MNIST archive has them."""
    from PIL import Image

    part = target.with_name("png.part")
    shutil.rmtree(part, ignore_errors=True)
    for split, images, labels in (("training", *IDX_FILES[:2]), ("testing", *IDX_FILES[2:])):
        for digit in range(10):
            (part / split / str(digit)).mkdir(parents=True)
        pairs = zip(read_idx(raw / images), read_idx(raw / labels), strict=True)
        for number, (pixels, label) in enumerate(pairs):
            Image.fromarray(pixels).save(part / split / str(label) / f"{number}.png")
    part.rename(target)
