"""IDX files, the format of MNIST: `train-images-idx3-ubyte` and its kin, gzipped or not.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from striate.data.arrays import NotPixelsError, to_unsigned
from striate.data.sources.found import Found, numbered_paths
from striate.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_FILE = re.compile(
    r"(?P<before>.*?)(?P<part>train|t10k|test)[-_.](?P<what>images|labels)[-_.]idx\d[-_.]u?byte(\.gz)?", re.IGNORECASE
)
FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def idx_files(folder: Path) -> dict[tuple[str, str], Path]:
    """The IDX files of a folder, by (part, images or labels); part is train or test. Unzipped ones win.

    Raises:
        DataError: two different sets in one folder.
    """
    files: dict[tuple[str, str], Path] = {}
    before: dict[tuple[str, str], str] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix == ".gz", path.name)):
        match = _FILE.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        key = ("train" if match["part"].lower() == "train" else "test", match["what"].lower())
        if before.setdefault(key, match["before"]) != match["before"]:
            raise DataError(f"{folder} holds more than one set of IDX files", f"see {files[key].name} and {path.name}")
        files.setdefault(key, path)
    return files


def idx_folder(path: Path) -> Path | None:
    """The folder with IDX files that `path` stands for: itself, its `raw`, `NAME/raw`, or the folder of an IDX file."""
    if path.is_file():
        return path.parent if _FILE.fullmatch(path.name) else None
    candidates = [path, path / "raw", *sorted(path.glob("*/raw"))]
    found = [folder for folder in candidates if folder.is_dir() and idx_files(folder)]
    if len(found) > 1:
        raise DataError(
            f"{path} holds several sets of IDX files", f"choose one of {', '.join(str(folder) for folder in found)}"
        )
    return found[0] if found else None


def find_idx(folder: Path, name: str, *, scoring: bool = False) -> Found:
    """The training part and, where it lies there, the official test part; for `scoring` either is enough.

    Raises:
        DataError: a file is missing, damaged, or images and labels do not belong together.
    """
    files = idx_files(folder)
    parts = [part for part in ("train", "test") if (part, "images") in files or (part, "labels") in files]
    if "train" not in parts and not scoring:
        raise DataError(f"{folder} has IDX files, but none for training", "expected train-images-idx3-ubyte[.gz]")
    for part in parts:
        for what in ("images", "labels"):
            if (part, what) not in files:
                raise DataError(f"{folder} lacks the IDX file with the {what} of the {part} part")
    with ThreadPoolExecutor() as pool:  # unpacking releases the interpreter
        arrays = dict(zip(files, pool.map(read_idx, files.values()), strict=True))
    images = {part: _as_images(arrays[part, "images"], files[part, "images"]) for part in parts}
    labels = {part: _as_labels(arrays[part, "labels"], images[part], files, part) for part in parts}
    shapes = {part: images[part].shape[1:] for part in parts}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{folder}: training and test images differ in size", f"{shapes['train']}, {shapes['test']}")
    targets = np.concatenate([labels[part] for part in parts])
    return Found(
        name=name,
        class_names=_class_names(name, int(targets.max()) + 1),
        targets=targets,
        paths=numbered_paths({part: len(images[part]) for part in parts}),
        given=np.repeat(parts, [len(images[part]) for part in parts]),
        pixels=images[parts[0]] if len(parts) == 1 else np.concatenate([images[part] for part in parts]),
        fixed=True,
    )


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file.

    Raises:
        DataError: not IDX, truncated, or with bytes to spare.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            size = struct.unpack("<I", data[-4:])[0]  # as the file's end says; a hint that spares growing the buffer
            data = zlib.decompress(data, wbits=31, bufsize=min(size, 2**30))
    except (OSError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}", "the file may be incomplete: fetch it again") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES or not data[3]:
        raise DataError(f"{path} is not an IDX file", "it should begin with two zero bytes, a type and a dimension")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{path} is truncated", "fetch it again")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    dtype = np.dtype(_DTYPES[data[2]])
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) - start != expected:
        raise DataError(f"{path} holds {len(data) - start} bytes of data, its header says {expected}", "fetch it again")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _as_images(values: np.ndarray, path: Path) -> np.ndarray:
    """[n, H, W] or [n, H, W, C] numbers as [n, C, H, W] pixels."""
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise DataError(f"{path} holds no images: its shape is {values.shape}")
    try:
        pixels = to_unsigned(values, wide_integers=True)
    except NotPixelsError as error:
        raise DataError(f"{path}: {error.message}") from error
    return pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(np.moveaxis(pixels, 3, 1))


def _as_labels(values: np.ndarray, images: np.ndarray, files: Mapping[tuple[str, str], Path], part: str) -> np.ndarray:
    path = files[part, "labels"]
    if values.ndim != 1 or values.dtype.kind not in "iu" or (values.size and values.min() < 0):
        raise DataError(f"{path} holds no labels: expected one whole number per image")
    if len(values) != len(images):
        raise DataError(f"{path} holds {len(values)} labels for {len(images)} images", "files of two sets were mixed")
    return values.astype(np.int64)


def _class_names(name: str, count: int) -> tuple[str, ...]:
    if name.lower().replace("-", "").replace("_", "") == "fashionmnist" and count == 10:
        return FASHION_NAMES
    return tuple(str(number) for number in range(count))
