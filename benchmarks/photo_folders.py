"""Folders of any number of photos, made of hard links to a few real ones: they cost no disk, and each is decoded."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
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
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for number, file in enumerate(islice(cycle(photos_under(source)), count)):
        _place(file, part / f"{number // PER_FOLDER:03d}" / f"{number:06d}{file.suffix.lower()}")
    part.rename(target)
    return target


def class_folders(source: Path, target: Path, count: int) -> Path:
    """The same with the classes of `source` (FOLDER/class/photo or FOLDER/split/class/photo), in turn."""
    if target.is_dir():
        return target
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for number, file in enumerate(islice(cycle(photos_under(source)), count)):
        _place(file, part / file.parent.name / f"{number:06d}{file.suffix.lower()}")
    part.rename(target)
    return target


def _place(file: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # another disk, or a file system without links
        os.link(file, link)
        return
    shutil.copyfile(file, link)
