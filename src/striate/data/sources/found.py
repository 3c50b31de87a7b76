"""What a source hands over: the images it found, before anything is read, split or left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(slots=True, kw_only=True)
class Found:
    """The n images of a source, either as `pixels` or as `files`."""

    name: str
    class_names: tuple[str, ...]
    targets: np.ndarray  # int64 [n], positions in class_names
    paths: Sequence[str]  # n names shown to people
    given: np.ndarray  # [n] of "train", "val", "test": the sides the source itself gives; all "train" where none
    pixels: np.ndarray | None = None  # [n, C, H, W] uint8 or uint16
    files: Sequence[Path] | None = None
    groups: Sequence[str | None] | None = None  # images of one group stay on one side
    fixed: bool = False  # a published set that nobody adds to: it can be split into exact shares
    notes: list[str] = field(default_factory=list)


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in their order: by number where all are whole numbers, else by character code."""
    unique = sorted(set(names))
    if all(name.isascii() and name.isdigit() for name in unique):
        unique.sort(key=int)
    return tuple(unique)


def numbered_paths(parts: dict[str, int]) -> list[str]:
    """The names of the images of several array parts, one after the other."""
    return [f"{name}[{number}]" for name, count in parts.items() for number in range(count)]
