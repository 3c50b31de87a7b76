"""What a source hands over: the images it found, before anything is read, split or left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.dataset import joined
from striate.spec import Labels


@dataclass(slots=True, kw_only=True)
class Found:
    """The n images of a source, either as `pixels` or as `files`."""

    name: str
    class_names: tuple[str, ...]
    targets: np.ndarray  # int64 [n], positions in class_names; of several labels an image uint8 [n, names] of 0 and 1
    paths: Sequence[str]  # n names shown to people
    given: np.ndarray  # [n] of "train", "val", "test": the sides the source itself gives; all "train" where none
    pixels: np.ndarray | None = None  # [n, C, H, W] uint8 or uint16
    files: Sequence[Path] | None = None
    groups: Sequence[str | None] | None = None  # images of one group stay on one side
    fixed: bool = False  # a published set that nobody adds to: it can be split into exact shares
    notes: list[str] = field(default_factory=list)

    @property
    def labels(self) -> Labels:
        """The names, and whether an image has any number of them."""
        return Labels(self.class_names, multi_label=self.targets.ndim == 2)

    def labelled(self, row: int) -> dict[str, Any]:
        """What a `LeftOut` says of the labels of an image."""
        if self.targets.ndim == 1:
            target = int(self.targets[row])
            return {"label": self.class_names[target], "target": target}
        targets = tuple(np.flatnonzero(self.targets[row]).tolist())
        return {"label": joined(self.class_names[one] for one in targets), "targets": targets}


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in their order: by number where all are whole numbers, else by character code."""
    unique = sorted(set(names))
    if all(name.isascii() and name.isdigit() for name in unique):
        unique.sort(key=int)
    return tuple(unique)


def numbered_paths(parts: dict[str, int]) -> list[str]:
    """The names of the images of several array parts, one after the other."""
    return [f"{name}[{number}]" for name, count in parts.items() for number in range(count)]
