"""CIFAR-10 and CIFAR-100: python batches (by an unpickler that can only make arrays) and binary batches, in a folder
or a tar archive, which is unpacked in memory.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and the page of the data set.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from striate.data.sources.found import Found, numbered_paths
from striate.errors import DataError

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the four forms the sets come in."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names_file: str
    names_key: str
    labels_key: str  # python batches
    label_bytes: int  # binary batches; the last one is the label
    binary: bool
    folder: str

    @property
    def wanted(self) -> set[str]:
        return {*self.train, *self.test, self.names_file}


_KINDS = (
    _Kind("cifar10", tuple(f"data_batch_{n}" for n in range(1, 6)), ("test_batch",), "batches.meta", "label_names",
          "labels", 1, False, "cifar-10-batches-py"),
    _Kind("cifar10", tuple(f"data_batch_{n}.bin" for n in range(1, 6)), ("test_batch.bin",), "batches.meta.txt", "",
          "", 1, True, "cifar-10-batches-bin"),
    _Kind("cifar100", ("train",), ("test",), "meta", "fine_label_names", "fine_labels", 1, False,
          "cifar-100-python"),
    _Kind("cifar100", ("train.bin",), ("test.bin",), "fine_label_names.txt", "", "", 2, True, "cifar-100-binary"),
)  # fmt: skip


def cifar_place(path: Path, name: str | None = None) -> Path | None:
    """The folder of batches or the archive that `path` stands for: itself, or what lies in it under its usual name.

    `name` ("cifar10", "cifar100") asks for one of the two.
    """
    kinds = [kind for kind in _KINDS if name in (None, kind.name)]
    if path.is_file():
        return path if path.name.lower().endswith(ARCHIVE_SUFFIXES) else None
    if any(_is_folder_of(kind, path) for kind in kinds):
        return path
    for kind in kinds:
        if _is_folder_of(kind, path / kind.folder):
            return path / kind.folder
        stem = kind.folder.replace("-batches-py", "-python").replace("-batches-bin", "-binary")
        for suffix in ARCHIVE_SUFFIXES:
            if (path / f"{stem}{suffix}").is_file():
                return path / f"{stem}{suffix}"
    return None


def find_cifar(place: Path) -> Found:
    """The training images and the official test images of a folder of batches or of an archive.

    Raises:
        DataError: a batch is missing or damaged, or holds anything but arrays, numbers and text.
    """
    files = _archive_files(place) if place.is_file() else _folder_files(place)
    kind = next((kind for kind in _KINDS if set(kind.train) & set(files)), None)
    if kind is None:
        raise DataError(f"{place} holds no CIFAR batches", f"expected one of {', '.join(k.folder for k in _KINDS)}")
    missing = [name for name in (*kind.train, *kind.test) if name not in files]
    if missing:
        raise DataError(f"{place} lacks {', '.join(missing)}", "the download may be incomplete")
    read = _read_binary if kind.binary else _read_python
    parts = {"train": kind.train, "test": kind.test}
    batches = {part: [read(files[name](), f"{place}/{name}", kind) for name in names] for part, names in parts.items()}
    counts = {part: sum(len(labels) for _, labels in batches[part]) for part in parts}
    targets = np.concatenate([labels for part in parts for _, labels in batches[part]])
    names = _class_names(files, kind, place)
    if targets.size == 0 or targets.min() < 0 or targets.max() >= len(names):
        raise DataError(f"{place}: a batch has labels outside 0..{len(names) - 1}")
    return Found(
        name=kind.name,
        class_names=names,
        targets=targets,
        paths=numbered_paths(counts),
        given=np.repeat(list(counts), list(counts.values())),
        pixels=np.concatenate([pixels for part in parts for pixels, _ in batches[part]]),
        fixed=True,
    )


def _is_folder_of(kind: _Kind, folder: Path) -> bool:
    """Files of these names; a folder called `train` is not a batch."""
    return all((folder / name).is_file() for name in (kind.train[0], *kind.test))


def _folder_files(folder: Path) -> dict[str, Callable[[], bytes]]:
    wanted = set().union(*(kind.wanted for kind in _KINDS))
    return {name: (folder / name).read_bytes for name in wanted if (folder / name).is_file()}


def _archive_files(path: Path) -> dict[str, Callable[[], bytes]]:
    wanted = set().union(*(kind.wanted for kind in _KINDS))
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.isfile() and name in wanted and member.size < 2**29:
                    stream = archive.extractfile(member)
                    contents[name] = stream.read() if stream else b""
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"cannot unpack {path}: {error}", "the file may be incomplete: fetch it again") from error
    except Exception as error:  # lzma.LZMAError, zlib.error: their modules need not be there
        raise DataError(f"cannot unpack {path}: {error}", "the file is damaged: fetch it again") from error
    return {name: (lambda content=content: content) for name, content in contents.items()}


def _read_python(data: bytes, name: str, kind: _Kind) -> tuple[np.ndarray, np.ndarray]:
    batch = unpickle_arrays(data, name)
    try:
        pixels = np.asarray(batch[b"data"])
        labels = np.asarray(batch[kind.labels_key.encode()])
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072) or labels.dtype.kind not in "iu":
            raise ValueError(f"data of shape {pixels.shape} and {len(labels)} labels")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{name} is not a CIFAR batch: {error}") from error
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _read_binary(data: bytes, name: str, kind: _Kind) -> tuple[np.ndarray, np.ndarray]:
    row = kind.label_bytes + 3072
    if not data or len(data) % row:
        raise DataError(
            f"{name} holds {len(data)} bytes, which is no whole number of {row}-byte rows", "fetch it again"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, row)
    return rows[:, kind.label_bytes :].reshape(-1, 3, 32, 32), rows[:, kind.label_bytes - 1].astype(np.int64)


def _class_names(files: Mapping[str, Callable[[], bytes]], kind: _Kind, place: Path) -> tuple[str, ...]:
    """From the file that comes with the batches; without it the known ten, or numbers."""
    if kind.names_file in files:
        data = files[kind.names_file]()
        if kind.binary:
            return tuple(line for line in data.decode("utf-8", "replace").splitlines() if line)
        meta = unpickle_arrays(data, f"{place}/{kind.names_file}")
        names = meta.get(kind.names_key.encode()) if isinstance(meta, dict) else None
        if isinstance(names, list) and names:
            return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)
        raise DataError(f"{place}/{kind.names_file} holds no class names")
    return CIFAR10_NAMES if kind.name == "cifar10" else tuple(str(number) for number in range(100))


def unpickle_arrays(data: bytes, name: str) -> Any:
    """A pickle of arrays, numbers, text, lists and dictionaries, text as bytes; nothing in it can run code.

    Raises:
        DataError: it is damaged, or asks for anything else.
    """
    try:
        return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name}: {error.message}", error.hint) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{name} is damaged: {error}", "fetch it again") from error


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The three callables that a pickled array needs."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return np.ndarray if name == "ndarray" else _plain_dtype
        if module == "_codecs" and name == "encode":
            return _latin1
        raise DataError(
            f"asks for {module}.{name}, which is not an array, a number or text: refused",
            "a pickle can run code when it is read; use batches from the publisher",
        )


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """What `numpy.core.multiarray._reconstruct` does, for plain arrays of bytes."""
    if kind is not np.ndarray:
        raise DataError("asks for an array of another class: refused")
    return np.ndarray((0,), "u1")


def _plain_dtype(code: Any, *_: Any) -> np.dtype:
    dtype = np.dtype(code.decode("ascii") if isinstance(code, bytes) else code)
    if dtype.hasobject:
        raise DataError("asks for an array of Python objects: refused")
    return dtype


def _latin1(text: Any, codec: Any = "latin1") -> bytes:
    """How Python 3 writes bytes in an old pickle."""
    if codec not in ("latin1", b"latin1"):
        raise DataError(f"asks for the codec {codec!r}: refused")
    return text.encode("latin1") if isinstance(text, str) else text
