"""Data sets by name: looked for under the data root in every usual layout, else downloaded by torchvision.

torchvision checks the publisher's checksums; it is imported only to download.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from striate.data.sources.cifar import cifar_place, find_cifar
from striate.data.sources.digits import find_digits
from striate.data.sources.found import Found
from striate.data.sources.idx import find_idx, idx_files
from striate.errors import DataError, OfflineError
from striate.progress import Progress

DEFAULT_ROOT = Path("~/.cache/striate/data")


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set and how torchvision calls it; its IDX files or CIFAR batches may lie in a folder of any of these names."""

    name: str
    torchvision: str
    idx: bool
    folders: tuple[str, ...]


NAMED = {
    one.name: one
    for one in (
        NamedSet("mnist", "MNIST", True, ("mnist", "MNIST")),
        NamedSet("fashion-mnist", "FashionMNIST", True, ("fashion-mnist", "fashion_mnist", "FashionMNIST")),
        NamedSet("kmnist", "KMNIST", True, ("kmnist", "KMNIST")),
        NamedSet("cifar10", "CIFAR10", False, ("cifar10", "cifar-10", "CIFAR10")),
        NamedSet("cifar100", "CIFAR100", False, ("cifar100", "cifar-100", "CIFAR100")),
    )
}
ALIASES = {
    "fashionmnist": "fashion-mnist",
    "fashion_mnist": "fashion-mnist",
    "cifar-10": "cifar10",
    "cifar-100": "cifar100",
}
NAMES = ("digits", *NAMED)


def canonical_name(text: str) -> str | None:
    """The set that `text` names, in any letter case, or None."""
    name = ALIASES.get(text.lower(), text.lower())
    return name if name in NAMES else None


def find_named(name: str, data_root: str | None, *, offline: bool, progress: Progress) -> Found:
    """A named set, from the data root or the network.

    Raises:
        OfflineError: it is not under the data root, and the network may not be used or fails.
        DataError: what lies there is damaged.
    """
    if name == "digits":
        return find_digits()
    entry = NAMED[name]
    root = (Path(data_root) if data_root is not None else DEFAULT_ROOT).expanduser()
    if data_root is not None and not root.is_dir() and offline:
        raise OfflineError(f"there is no folder {root} to look for {name} in", "see --data-root")
    find = _find_idx if entry.idx else _find_cifar
    found = find(entry, root)
    if found is None:
        _download(entry, root, offline, progress)
        found = find(entry, root)
    if found is None:
        raise DataError(f"torchvision downloaded {name}, but {root} does not hold it in a known layout")
    return found


def _find_idx(entry: NamedSet, root: Path) -> Found | None:
    for folder in _idx_folders(entry, root):
        if folder.is_dir() and "train" in {part for part, _ in idx_files(folder)}:
            return find_idx(folder, entry.name)
    return None


def _find_cifar(entry: NamedSet, root: Path) -> Found | None:
    for folder in _cifar_folders(entry, root):
        place = cifar_place(folder, entry.name) if folder.is_dir() else None
        if place is not None:
            return find_cifar(place)
    return None


def _idx_folders(entry: NamedSet, root: Path) -> list[Path]:
    """Bare files count as this set only in a folder of its name."""
    named = [root / folder for folder in entry.folders]
    if root.name in entry.folders:
        named.append(root)
    return [place for folder in named for place in (folder, folder / "raw", folder / entry.torchvision / "raw")]


def _cifar_folders(entry: NamedSet, root: Path) -> list[Path]:
    return [root, *(root / folder for folder in entry.folders)]


def _download(entry: NamedSet, root: Path, offline: bool, progress: Progress) -> None:
    looked = _idx_folders(entry, root) if entry.idx else _cifar_folders(entry, root)
    places = "looked in " + ", ".join(str(place) for place in looked)
    if offline:
        raise OfflineError(
            f"{entry.name} is not on this machine and --offline forbids the download; {places}",
            "put its files there, or name their folder with --data-root",
        )
    progress.say(f"downloading {entry.name} to {root}")
    try:
        _torchvision_download(entry.torchvision)(root)
    except Exception as error:  # no network, a server that is down, a checksum that differs, a full disk
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OfflineError(
            f"{entry.name} could not be downloaded: {reason}; {places}",
            "put its files there, or name their folder with --data-root",
        ) from error


def _torchvision_download(name: str) -> Callable[[Path], None]:
    """How torchvision fetches and verifies a set, without the bars that it prints."""

    def download(root: Path) -> None:
        import torchvision.datasets

        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            getattr(torchvision.datasets, name)(str(root), download=True)

    return download
