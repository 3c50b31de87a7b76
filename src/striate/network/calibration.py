"""The images that int8 is calibrated by: those a run was trained on, or named ones. Never test images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from striate.data import load_data
from striate.data.decode import decode
from striate.data.fit import fit
from striate.data.normalise import normalise
from striate.data.sources.folder import IMAGE_SUFFIXES
from striate.errors import DataError, UnreadableImageError
from striate.inference.quantise import BATCH, IMAGES, Calibration
from striate.options import DataOptions, to_mapping
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.spec import InputSpec

_HELD_OUT = {"test"}


def calibration_for(
    run: Path | None, given: str | Path | None, spec: InputSpec, *, offline: bool, progress: Progress
) -> Calibration | None:
    """The images to calibrate by, not loaded yet; None where there are none: no run, and none given.

    Args:
        run: the run folder of the network, if it has one.
        given: a folder of images (its `train` where it has one, never its `test`), or any data of `load_data`, of
            which the training images are taken.
        spec: how they are framed.
        offline: never use the network.
        progress: shows bars.

    Raises:
        DataError: a folder without images; others once they are loaded.
    """
    if given is not None and Path(given).is_dir():
        return _of_folder(Path(given), spec)
    if given is not None:
        options = DataOptions(data=str(given), offline=offline)
        file = Path(given)
        state = [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else []
        return _of_data(options, [str(given), *state], spec, f"training images of {given}", progress)
    if run is None:
        return None
    options = RunFolder(run).read_recipe().data
    manifest = RunFolder(run).manifest
    content = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""
    about = "training images of the run"
    return _of_data(replace(options, offline=options.offline or offline), [content], spec, about, progress)


def _of_data(options: DataOptions, state: list[object], spec: InputSpec, about: str, progress: Progress) -> Calibration:
    def batches() -> Iterator[torch.Tensor]:
        split = load_data(options, progress=progress).splits["train"]
        spread = _spread(len(split))
        for start in range(0, len(spread), BATCH):
            yield normalise(split.images.take(spread[start : start + BATCH], spec), spec)

    mapping = {key: value for key, value in to_mapping(options).items() if key not in ("offline", "workers")}
    return Calibration(_digest([mapping, spec.to_dict(), state]), batches, about)


def _of_folder(folder: Path, spec: InputSpec) -> Calibration:
    files = sorted(_images_below(folder / "train" if (folder / "train").is_dir() else folder))
    if not files:
        raise DataError(f"{folder} holds no images to calibrate int8 by", "name a folder of 100 or more")
    chosen = [files[i] for i in _spread(len(files))]
    state = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in chosen]

    def batches() -> Iterable[torch.Tensor]:
        readable = False
        for start in range(0, len(chosen), BATCH):
            pixels = [one for path in chosen[start : start + BATCH] if (one := _pixels(path, spec)) is not None]
            if pixels:
                readable = True
                yield normalise(torch.from_numpy(np.stack(pixels)), spec)
        if not readable:
            raise DataError(f"no image of {folder} can be read", f"`striate check {folder}` says why")

    return Calibration(_digest([spec.to_dict(), state]), batches, f"{len(chosen)} images of {folder.name}")


def _images_below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _HELD_OUT]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield Path(root, name)


def _pixels(path: Path, spec: InputSpec) -> np.ndarray | None:
    try:
        return fit(decode(path), spec)
    except (UnreadableImageError, DataError):
        return None


def _spread(count: int) -> np.ndarray:
    """Positions evenly over `count`, which are sorted by class, so that every class has its share."""
    return np.unique(np.linspace(0, count - 1, min(count, IMAGES)).round().astype(np.int64))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
