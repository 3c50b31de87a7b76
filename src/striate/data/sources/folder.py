"""A folder of class folders, with or without `train/`, `val/` (or `valid/`, `validation/`) and `test/` above them.

- A class is a folder at the top; everything below it, at any depth, belongs to it. Links are followed, loops are not.
- Hidden folders and files (`.*`, `__MACOSX`, `Thumbs.db`, ...) do not exist for us.
- Files whose ending is that of an image or of an NPY array are images, whatever is in them. Others, and images beside
  the class folders, are ignored and noted.
- A class folder without images is dropped and noted. Classes are matched by name (Unicode NFC) across the splits.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from striate.data.sources.found import Found, class_order
from striate.data.wording import counted
from striate.errors import DataError, UsageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"}
    | {".avif", ".jp2", ".j2k", ".jpx", ".ico", ".pbm", ".pgm", ".ppm", ".pnm", ".npy", ".heic", ".heif"}
)  # fmt: skip
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SYNSET = re.compile(r"(n\d{8})_")  # what ImageNet's files begin with: n01440764_10026.JPEG
UNLABELLED = "unlabelled"  # the one class of images whose labels nobody asks for
_HIDDEN = frozenset({"__macosx", "thumbs.db", "desktop.ini", "lost+found", "@eadir"})


def find_folder(root: Path, group: str | None = None, *, scoring: bool = False) -> Found:
    """The images of a folder.

    Args:
        root: the folder.
        group: None, `parent`, or a regular expression whose first bracket in the path below `root` names the group.
        scoring: the images are only scored: any of the splits may be missing, classes may differ between them, one
            class is enough, and where there are no class folders but every file name begins with a synset of ImageNet,
            that is the class.

    Raises:
        DataError: no class folders, fewer than two classes, splits with different classes, an unreadable folder.
        UsageError: `group` is not a usable pattern.
    """
    sides = _split_folders(root, scoring)
    notes: list[str] = []
    trees = {split: _Tree(folder, root) for split, folder in (sides or {"train": root}).items()}
    if sides:
        if not scoring:
            _match_classes(trees, root)
        beside = [entry.name for entry in _entries(root) if entry.name.lower() not in SPLIT_NAMES]
        if beside:
            notes.append(f"beside the split folders, ignored: {_listed(beside)}")
    notes += [
        counted(len(tree.ignored), "file is", "files are") + f" ignored in {tree.folder.name}: {_listed(tree.ignored)}"
        for tree in trees.values()
        if tree.ignored
    ]
    if scoring:
        notes += [
            f"{tree.folder.name} has no class folders: the synset that each file name begins with is its label"
            for tree in trees.values()
            if tree.sorted_by_synset()
        ]
    names = class_order(name for tree in trees.values() for name, files in tree.classes.items() if files)
    if not scoring:
        _refuse_empty_training(trees)
    empty = sorted({name for tree in trees.values() for name in tree.classes} - set(names))
    if empty:
        notes.append(f"class folders without images are left out: {_listed(empty)}")
    _check_class_count(root, next(iter(trees.values())), names, least=1 if scoring else 2)
    files, targets, given = [], [], []
    for split, tree in trees.items():
        for target, name in enumerate(names):
            images = tree.classes.get(name, [])
            files += images
            targets += [target] * len(images)
            given += [split] * len(images)
    paths = [_shown(file, root) for file in files]
    return Found(
        name=root.resolve().name or "data",
        class_names=names,
        targets=np.array(targets, np.int64),
        paths=paths,
        given=np.array(given),
        files=files,
        groups=groups_of(paths, group),
        notes=notes,
    )


def find_images(root: Path) -> Found:
    """All images of a folder, at any depth and whatever folders they lie in, as if of one class.

    Raises:
        DataError: there is none, or the folder cannot be read.
    """
    tree = _Tree(root, root)
    files = [root / name for name in tree.loose] + [file for files in tree.classes.values() for file in files]
    if not files:
        raise DataError(f"{root} holds no images")
    return Found(
        name=root.resolve().name or "data",
        class_names=(UNLABELLED,),
        targets=np.zeros(len(files), np.int64),
        paths=[_shown(file, root) for file in files],
        given=np.full(len(files), "train"),
        files=files,
    )


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image, by its ending in any letter case."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Files and folders that systems and tools leave about."""
    return name.startswith(".") or name.lower() in _HIDDEN


def groups_of(paths: list[str], group: str | None) -> list[str | None] | None:
    """The group of each path by `parent` or by a regular expression; None for a path that the pattern does not match.

    Raises:
        UsageError: the pattern is not a regular expression, has no bracket, or matches no path.
    """
    if group is None:
        return None
    if group == "parent":
        return [path.rpartition("/")[0] for path in paths]
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UsageError(f"data.group = {group!r} is not a regular expression: {error}") from error
    if not pattern.groups:
        raise UsageError(
            f"data.group = {group!r} has no bracket", "put brackets around the part of the path that names the group"
        )
    matches = [pattern.search(path) for path in paths]
    if not any(matches):
        raise UsageError(f"data.group = {group!r} matches no path", f"a path looks like this: {paths[0]}")
    return [match[1] if match else None for match in matches]


class _Tree:
    """The class folders below one folder: `classes` maps a name to its image files, in order."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.classes: dict[str, list[Path]] = {}
        self.loose: list[str] = []  # images beside the class folders
        self.ignored: list[str] = []
        for entry in _entries(folder):
            if _is_folder(entry):
                if Path(os.path.realpath(entry.path)) in Path(os.path.realpath(folder), "_").parents:
                    continue  # a link back up is no class
                name = unicodedata.normalize("NFC", entry.name)
                self.classes.setdefault(name, []).extend(self._images(Path(entry.path), root))
            elif is_image_name(entry.name):
                self.loose.append(entry.name)
            else:
                self.ignored.append(entry.name)
        self.ignored += self.loose if self.classes else []

    def sorted_by_synset(self) -> bool:
        """Make classes of images without class folders by the synset in their names; not where one lacks it."""
        matches = [_SYNSET.match(name) for name in self.loose]
        if self.classes or not matches or None in matches:
            return False
        for name, match in zip(self.loose, matches, strict=True):
            self.classes.setdefault(match[1] if match else "", []).append(self.folder / name)
        return True

    def _images(self, folder: Path, root: Path) -> Iterator[Path]:
        start = Path(os.path.realpath(folder))
        seen = {str(start), *map(str, start.parents)}  # a link may lead back up
        waiting = [folder]
        while waiting:
            here = waiting.pop(0)
            for entry in _entries(here):
                if _is_folder(entry):
                    real = os.path.realpath(entry.path)
                    if real not in seen:
                        seen.add(real)
                        waiting.append(Path(entry.path))
                elif is_image_name(entry.name):
                    yield Path(entry.path)
                else:
                    self.ignored.append(_shown(Path(entry.path), root))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, by name.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {(error.strerror or str(error)).lower()}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _split_folders(root: Path, scoring: bool) -> dict[str, Path] | None:
    """The split folders of `root` by split, or None where the class folders lie directly in it."""
    found: dict[str, Path] = {}
    for entry in _entries(root):
        split = SPLIT_NAMES.get(entry.name.lower())
        if split is None or not _is_folder(entry):
            continue
        if split in found:
            raise DataError(f"{root} has both {found[split].name} and {entry.name}", "keep one of them")
        found[split] = Path(entry.path)
    if not found:
        return None
    if "train" not in found and not scoring:
        names = " and ".join(folder.name for folder in found.values())
        raise DataError(f"{root} has {names} but no train folder", "add train, or give the folder of classes itself")
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _match_classes(trees: dict[str, _Tree], root: Path) -> None:
    train = trees["train"].classes.keys()
    for split, tree in trees.items():
        missing, extra = sorted(train - tree.classes.keys()), sorted(tree.classes.keys() - train)
        if missing or extra:
            difference = [f"only in train: {_listed(missing)}"] if missing else []
            difference += [f"only in {split}: {_listed(extra)}"] if extra else []
            raise DataError(
                f"{root}: train and {split} have different classes; {'; '.join(difference)}",
                "class folders are matched by name: rename, add or remove folders until they agree",
            )


def _refuse_empty_training(trees: dict[str, _Tree]) -> None:
    empty = sorted(name for name, files in trees["train"].classes.items() if not files)
    for split, tree in trees.items():
        held = [name for name in empty if tree.classes.get(name)]
        if held:
            raise DataError(f"classes with images in {split} but none in train: {_listed(held)}")


def _check_class_count(root: Path, tree: _Tree, names: tuple[str, ...], least: int) -> None:
    if len(names) >= least:
        return
    how = "one folder per class is expected: FOLDER/cat/1.jpg, FOLDER/dog/2.jpg, ..."
    if names:
        raise DataError(f"{tree.folder} has only one class, {names[0]}; at least two are needed", how)
    if tree.loose:
        loose = counted(len(tree.loose), "image", "images")
        raise DataError(f"{tree.folder} has {loose} but no class folders", how)
    raise DataError(f"{root} holds no images", how)


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
