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
from striate.data.sources.cifar import cifar_place
from striate.data.sources.folder import IMAGE_SUFFIXES, SPLIT_NAMES
from striate.data.sources.idx import idx_folder
from striate.data.sources.named import canonical_name
from striate.errors import DataError, UnreadableImageError
from striate.inference.quantise import BATCH, IMAGES, Calibration
from striate.options import DataOptions, to_mapping
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.spec import InputSpec


def calibration_for(
    run: Path | None, given: str | Path | None, spec: InputSpec, *, offline: bool, progress: Progress
) -> Calibration | None:
    """The images to calibrate by, not loaded yet; None where there are none: no run, and none given.

    Args:
        run: the run folder of the network, if it has one.
        given: a folder of images (its `train` where it has one, never its `test`), or any data of `load_data`, of
            which the training images are taken. Where these are the data of the run, they are divided as for training,
            so that nothing that was held out is taken.
        spec: how they are framed.
        offline: never use the network.
        progress: shows bars.

    Raises:
        DataError: a folder without images, or with several sets; others once they are loaded.
    """
    own = RunFolder(run).read_recipe().data if run is not None else None
    if run is not None and own is not None and (given is None or _is_of(given, own.data)):
        manifest = RunFolder(run).manifest
        content = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""
        options = replace(own, offline=own.offline or offline)
        return _of_data(options, [content], spec, "training images of the run", progress)
    if given is None:
        return None
    path = Path(given).expanduser()
    named = canonical_name(str(given)) is not None
    if not named and path.is_dir() and _set_in(path) is None:
        return _of_folder(path, spec)
    root = own.data_root if own is not None else None
    options = DataOptions(data=str(given), data_root=root, offline=offline or (own is not None and own.offline))
    state = [] if named else _state(path)
    return _of_data(options, [str(given), *state], spec, f"training images of {given}", progress)


def same_data(one: str | Path, other: str | Path) -> bool:
    """Whether two spellings are the same data: one path, or one named set."""
    first, second = str(one), str(other)
    names = canonical_name(first), canonical_name(second)
    if names != (None, None):
        return names[0] == names[1]
    return first == second or Path(first).expanduser().resolve() == Path(second).expanduser().resolve()


def _is_of(given: str | Path, own: str) -> bool:
    """Whether `given` is the data of the run, or their folder of training images, some of which were held out."""
    path = Path(given).expanduser().resolve()
    in_train = SPLIT_NAMES.get(path.name.lower()) == "train" and path.is_dir()
    return same_data(given, own) or (in_train and same_data(path.parent, own))


def _set_in(folder: Path) -> Path | None:
    """The IDX files or CIFAR batches of a folder that holds such a set."""
    return idx_folder(folder) or cifar_place(folder)


def _state(path: Path) -> list[list[object]]:
    """Names, sizes and times of the files of data in files, by which a change is noticed."""
    place = (_set_in(path) or path) if path.is_dir() else path
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def _of_data(options: DataOptions, state: list[object], spec: InputSpec, about: str, progress: Progress) -> Calibration:
    def batches() -> Iterator[torch.Tensor]:
        split = load_data(options, progress=progress).splits["train"]
        spread = _spread(len(split))
        for start in range(0, len(spread), BATCH):
            yield normalise(split.images.take(spread[start : start + BATCH], spec), spec)

    mapping = {key: value for key, value in to_mapping(options).items() if key not in ("offline", "workers")}
    return Calibration(_digest([mapping, spec.to_dict(), state]), batches, about)


def _of_folder(folder: Path, spec: InputSpec) -> Calibration:
    train = [one for one in sorted(folder.iterdir()) if SPLIT_NAMES.get(one.name.lower()) == "train" and one.is_dir()]
    files = sorted(_images_below(train[0] if train else folder))
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
        folders[:] = [name for name in folders if not name.startswith(".") and SPLIT_NAMES.get(name.lower()) != "test"]
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
