"""Folders of any number of photos, made of hard links to a few real ones: they cost no disk, and each is decoded."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".JPEG", ".JPG", ".png")
PER_FOLDER = 1000


def photos_under(source: Path) -> list[Path]:
    """All photos below a folder, in order."""
    found = sorted(file for file in source.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not found:
        sys.exit(f"error: no photos under {source}\nhint: --photos takes a folder with JPEG or PNG files")
    return found


def photo_folder(source: Path, target: Path, count: int) -> Path:
    """`target` with `count` photos in folders of a thousand; what is there already is kept."""
    if target.is_dir():
        return target
    with _whole_or_not(target) as part:
        for number, file in enumerate(islice(cycle(photos_under(source)), count)):
            _place(file, part / f"{number // PER_FOLDER:03d}" / f"{number:06d}{file.suffix.lower()}")
    return target


def class_folders(source: Path, target: Path, count: int) -> Path:
    """The same with the classes of `source` (FOLDER/class/photo or FOLDER/split/class/photo), in turn."""
    if target.is_dir():
        return target
    with _whole_or_not(target) as part:
        for number, file in enumerate(islice(cycle(photos_under(source)), count)):
            _place(file, part / file.parent.name / f"{number:06d}{file.suffix.lower()}")
    return target


def split_folders(source: Path, target: Path, train: int, val: int) -> Path:
    """The same with train/class and val/class: so many photos altogether, as many of each class, none on both sides."""
    if target.is_dir():
        return target
    by_class = _by_class(source)
    shares = train // len(by_class), val // len(by_class)
    if sum(shares) > min(map(len, by_class.values())):
        sys.exit(f"error: {source} has too few photos for {train} + {val}\nhint: --count takes fewer")
    with _whole_or_not(target) as part:
        for name, files in by_class.items():
            for number, file in enumerate(files[: sum(shares)]):
                _place(
                    file,
                    part / ("train" if number < shares[0] else "val") / name / f"{number:06d}{file.suffix.lower()}",
                )
    return target


def few_to_learn(source: Path, target: Path, train: int, seed: int) -> Path:
    """`target` with `train` photos in train/class, as many of each class, drawn by `seed`; all others in val/class."""
    if target.is_dir():
        return target
    by_class = _by_class(source)
    share, draw = train // len(by_class), random.Random(seed)
    if share >= min(map(len, by_class.values())):
        sys.exit(f"error: {source} has too few photos for {train} to learn from")
    with _whole_or_not(target) as part:
        for name, files in by_class.items():
            draw.shuffle(files)
            for number, file in enumerate(files):
                _place(file, part / ("train" if number < share else "val") / name / file.name)
    return target


def renamed_classes(source: Path, target: Path) -> Path:
    """FOLDER/split/class/photo with classes of no meaning, `class-0` and so on: a network cannot know them by name."""
    if target.is_dir():
        return target
    with _whole_or_not(target) as part:
        names = sorted({file.parent.name for file in photos_under(source)})
        for file in photos_under(source):
            split, name = file.parent.parent.name, file.parent.name
            _place(file, part / split / f"class-{names.index(name)}" / file.name)
    return target


def _by_class(source: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in photos_under(source):
        found.setdefault(file.parent.name, []).append(file)
    return found


@contextlib.contextmanager
def _whole_or_not(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` when it is whole."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(target)


def _place(file: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # another disk, or a file system without links
        os.link(file, link)
        return
    shutil.copyfile(file, link)
