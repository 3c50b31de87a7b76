"""A split that was written down for data in arrays: the side and the group of every image, known by its content."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from striate.data.scan import array_digests
from striate.data.sources.folder import SPLIT_NAMES
from striate.data.sources.found import Found
from striate.data.wording import counted
from striate.errors import DataError, UsageError

COLUMNS = ("path", "hash", "label", "split", "group")  # of which hash, split and group are read


def use_split_file(found: Found, path: Path) -> None:
    """Give the images of `found` the sides and groups of a table. Rows of images that are not there are passed over.

    Raises:
        UsageError: image files, which a table lists by their paths.
        DataError: the table cannot be read, or does not have every image.
    """
    if found.pixels is None:
        raise UsageError(
            f"--split-file divides data in arrays; {found.name} has image files",
            "a table of image files with their splits is data itself: striate train SPLIT.csv",
        )
    sides, groups = _read(path)
    hashes = [row.tobytes().hex() for row in array_digests(found.pixels)]
    missing = [name for name, one in zip(found.paths, hashes, strict=True) if one not in sides]
    if missing:
        lacking = counted(len(missing), "image", "images")
        raise DataError(
            f"{path} lacks {lacking} of {found.name}, the first is {missing[0]}",
            f"it was written for other data; `striate check {found.name} --fix-split` writes another",
        )
    found.given = np.array([sides[one] for one in hashes])
    found.groups = [groups[one] for one in hashes] if any(groups.values()) else None
    if "train" not in found.given:
        raise DataError(f"{path} gives no image to train on")
    found.notes.append(f"the split is that of {path.name}")


def _read(path: Path) -> tuple[dict[str, str], dict[str, str | None]]:
    """The side and the group of each content; equal content lies on one side."""
    sides: dict[str, str] = {}
    groups: dict[str, str | None] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, strict=True):
                side, content = SPLIT_NAMES[row["split"].strip().lower()], row["hash"].strip().lower()
                if sides.setdefault(content, side) != side:
                    raise DataError(f"{path}: images of one content ({row.get('path') or content}) are on two sides")
                groups[content] = (row.get("group") or "").strip() or None
    except OSError as error:
        hint = f"`striate check DATA --fix-split {path}` writes one"
        raise DataError(f"cannot read the split file {path}: {(error.strerror or str(error)).lower()}", hint) from error
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"cannot read the split file {path}: {error}") from error
    except (KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is no split file: columns hash and split are needed, split being train, val or test",
            "`striate check DATA --fix-split` writes one",
        ) from error
    return sides, groups
