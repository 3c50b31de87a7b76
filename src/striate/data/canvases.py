"""Decoded photos on disk, by content: decoded once, then mapped by every later epoch and every later run.

What is kept is a canvas: all the image, upright, as `decode` gives it, or reduced by a power of 2 (see
`decode.reduction`). A canvas depends on the file's content, on that factor and on the decoder alone, and so do the
pixels that are cut from it: found here, found here no more, or decoded again, they are equal to the byte. Canvases of
another version of Pillow or of its JPEG library, or of other rules of ours (`RULES`), are never mixed with these.

`$STRIATE_CACHE/photos`, by default `~/.cache/striate/photos`, holds segments (see `segments`) that all runs share; it
may be deleted at any time. Together they stay below the limit. Room for new images is made by deleting the segments
that have not been used for the longest time and that no running process uses. What then finds no room is decoded again
in each epoch: an epoch visits every image once in random order, for which it is best that what is in stays in.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import __version__ as pillow_version
from PIL import features

from striate.data.decode import Decoded, reduction
from striate.data.forked import mind_forks
from striate.data.jpeg import codec_version
from striate.data.segments import ENTRY, INDEX, PIXELS, Exclusive, GrowingSegment, Segment, remove, trim

CACHE_VARIABLE = "STRIATE_CACHE"
RULES = 2  # to be raised whenever `decode` gives other pixels for the same file, or segments are written otherwise
SEGMENT_BYTES = 64 * 2**20  # at most, with limits up to 64 times that
LARGEST_DEFAULT = 32 * 2**30
SPARE_BYTES = 2**30  # of the disk that are never filled
_FACTORS = tuple((2**power, bytes([power + 1])) for power in range(12))  # with the ends of their keys


def canvas_folder() -> Path:
    """Where canvases are kept.

    Raises:
        RuntimeError: nobody says where, and the user has no home.
    """
    root = os.environ.get(CACHE_VARIABLE)
    return (Path(root).expanduser() if root else Path("~/.cache/striate").expanduser()) / "photos"


def open_canvases(
    limit: int | None, owner: str, tell: Callable[[str], None] | None = None
) -> tuple[CanvasCache | None, str | None]:
    """The cache that all runs share, and where there is none, why: nothing is said where `limit` is 0.

    Args:
        limit: bytes; None for `default_limit`.
        owner, tell: as for `CanvasCache`.
    """
    if limit == 0 or not hasattr(os, "pwrite"):
        return None, None
    place = ""
    try:
        folder = canvas_folder()
        place = f"{folder}: "
        return CanvasCache(folder, default_limit(folder) if limit is None else limit, owner, tell), None
    except (OSError, RuntimeError) as error:  # the second: a user without a home
        reason = (getattr(error, "strerror", None) or str(error)).lower().rstrip(".")
        return None, f"decoded photos are not kept on disk: {place}{reason} (another place: {CACHE_VARIABLE})"


def default_limit(folder: Path) -> int:
    """Bytes that canvases may take where nothing is said: a quarter of what is free or theirs, at most 32 GiB."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    used = sum(size for _, size, _ in _all_segments(folder))
    return min(LARGEST_DEFAULT, (shutil.disk_usage(there).free + used) // 4)


class CanvasCache:
    """The canvases in `folder`, of at most `limit` bytes together, other runs' included. Safe to use from many threads.

    Args:
        folder: created where it is missing.
        limit: bytes.
        owner: names the data set. Its segments of earlier runs are spared until `settle` is called, which is when it is
            known which of them are still wanted.
        tell: is given one line, once, from any thread, when nothing more can be kept; what is there is used on.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, limit: int, owner: str = "", tell: Callable[[str], None] | None = None) -> None:
        self.root, self.limit = folder, limit
        self.folder = folder / decoder_version()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.failure: str | None = None  # why nothing more is written, where the disk says so
        self._tell = tell
        self._tag = blake2b(os.fsencode(owner), digest_size=4).hexdigest()
        self._settled = self._full = False
        self._lock = threading.Lock()
        self._segments: dict[str, Segment] = {}
        self._places: dict[bytes, tuple[Segment, int]] = {}
        self._growing: GrowingSegment | None = None
        with Exclusive(self.root / ".lock"):
            for path, _, _ in list(_all_segments(self.root)):
                trim(path)
            self._make_room(0)  # the limit may be lower than it was
        self._read_indices()
        mind_forks(self)
        weakref.finalize(self, _close, self._segments)

    @property
    def accepting(self) -> bool:
        """Whether anything more may find room, as far as that is known."""
        return self.failure is None and not self._full

    def facts(self, digest: bytes, least_side: int | None) -> dict[str, Any] | None:
        """What is known of an image (size, channels, bits, mode, format, orientation) whose canvas is here.

        That canvas is the one that `decode_bytes` would make with `least_side`; None where it is not here.
        """
        for factor, end in _FACTORS:
            place = self._places.get(digest + end)
            if place is not None:
                entry = place[0].entries[place[1]]
                if reduction(tuple(entry["size"].tolist()), least_side) == factor and place[0].hold():
                    return _facts(entry)
        return None

    def get(self, digest: bytes, factor: int) -> np.ndarray | None:
        """[H, W, C] in place and read-only, or None."""
        place = self._places.get(_key(digest, factor))
        if place is None:
            return None
        pixels = place[0].view(place[1])
        if pixels is None:  # damaged, or deleted by another run before this one used it
            with self._lock:
                self._places.pop(_key(digest, factor), None)
        return pixels

    def let_go(self, digest: bytes, factor: int) -> None:
        """The caller has read what it wanted of a canvas."""
        place = self._places.get(_key(digest, factor))
        if place is not None:
            place[0].let_go(place[1])

    def put(self, digest: bytes, factor: int, found: Decoded) -> bool:
        """Keep a canvas where there is room; whether it is kept."""
        key = _key(digest, factor)
        entry = _entry(digest, factor, found)
        with self._lock:
            if key in self._places:
                return True
            place = self._reserve(found.pixels.nbytes) if self.failure is None and entry is not None else None
        if place is None or entry is None:
            return False
        segment, entry["offset"] = place
        try:
            row = segment.write(entry, found.pixels)
        except OSError as error:
            with self._lock:
                self._fail(error)
            return False
        with self._lock:
            self._places[key] = (segment, row)
        return True

    def holds(self, digest: bytes, factor: int, pixels: np.ndarray) -> bool:
        """Whether a canvas reads as `pixels`; one that reads otherwise is found no more."""
        held = self.get(digest, factor)
        same = held is not None and np.array_equal(held, pixels)
        self.let_go(digest, factor)
        if not same:
            with self._lock:
                self._places.pop(_key(digest, factor), None)
        return same

    def forked(self) -> None:
        """A child process reads what was there; it keeps nothing, for two cannot write to one segment."""
        self._lock = threading.Lock()
        self._growing, self.failure, self._tell = None, "in a forked process", None
        for segment in self._segments.values():
            segment.forked()

    def settle(self) -> None:
        """All images of the data set have been looked for: segments that hold none of them may go, too."""
        with self._lock:
            self._settled, self._full = True, False
            with suppress(OSError), Exclusive(self.root / ".lock"):
                self._make_room(0)

    def close(self) -> None:
        """Let others delete what was used here; nothing is found or kept any more."""
        with self._lock:
            _close(self._segments)
            self._segments.clear()
            self._places.clear()
            self._growing, self._full = None, True

    def _reserve(self, length: int) -> tuple[GrowingSegment, int] | None:
        if self._growing is not None:
            start = self._growing.reserve(length)
            if start is not None:
                return self._growing, start
        if self._full:
            return None
        try:
            self._growing = self._new_segment(length)
        except OSError as error:
            self._fail(error)
            return None
        if self._growing is None:
            self._full = True  # looked for once, not for every image
            on_disk = shutil.disk_usage(self.root).free < SPARE_BYTES + length
            self._say("the disk is nearly full" if on_disk else f"the limit of {self.limit // 2**20:,} MiB is reached")
            return None
        start = self._growing.reserve(length)
        return None if start is None else (self._growing, start)

    def _fail(self, error: OSError) -> None:
        self.failure = (error.strerror or str(error)).lower()
        self._say(self.failure)

    def _say(self, why: str) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            rest = "the others are kept in memory as far as --cache-memory goes, or decoded in each epoch"
            tell(f"no more decoded photos are kept on disk ({self.root}): {why}; {rest}")

    def _new_segment(self, length: int) -> GrowingSegment | None:
        """A segment for at least `length` bytes, after making room for it; None where that cannot be had."""
        if self._growing is not None:
            self._growing.finish()
            self._growing = None
        self.folder.mkdir(parents=True, exist_ok=True)  # the user may have deleted all of it
        wanted = max(length, min(max(SEGMENT_BYTES, self.limit // 64), self.limit // 8))
        with Exclusive(self.root / ".lock"):
            room = self._make_room(wanted)
            capacity = min(wanted, room)
            if capacity < length:
                return None
            segment = GrowingSegment(self.folder, self._tag, capacity)
        self._segments[segment.path.name] = segment
        self._read_indices()  # what others have decoded meanwhile
        return segment

    def _make_room(self, wanted: int) -> int:
        """Delete what was not used for longest until `wanted` bytes are free, if that can be; the bytes that are.

        What is spared for now goes only where even without new bytes there is too much.
        """
        found = sorted(_all_segments(self.root), key=lambda one: (self._spared(one[0]), one[2]))
        used = sum(size for _, size, _ in found)
        for path, size, _ in found:
            if used + wanted <= self.limit:
                break
            if self._spared(path) and used <= self.limit:
                break
            if remove(path):
                used -= size
                self._segments.pop(path.name, None)
        on_disk = shutil.disk_usage(self.root).free - SPARE_BYTES
        return min(self.limit - used, on_disk)

    def _spared(self, path: Path) -> bool:
        return path.name.startswith(self._tag) and path.parent == self.folder and not self._settled

    def _read_indices(self) -> None:
        for index in sorted(self.folder.glob(f"*{INDEX}")):
            name = index.with_suffix(PIXELS).name
            segment = self._segments.get(name) or Segment(self.folder / name)
            self._segments[name] = segment
            new = segment.refresh()
            rows = segment.entries[new.start : new.stop]
            for row, digest, factor in zip(new, rows["digest"], rows["factor"].tolist(), strict=True):
                self._places.setdefault(_key(digest.tobytes(), factor), (segment, row))


def decoder_version() -> str:
    """The name of the folder of canvases that this decoder makes."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg") or "0"
    codec = codec_version()
    return f"{RULES}-pillow-{pillow_version}-jpeg-{jpeg}" + (f"-simplejpeg-{codec}" if codec else "")


def _entry(digest: bytes, factor: int, found: Decoded) -> np.ndarray | None:
    """[1] of `ENTRY`, without place and sums; None where something about the image does not go in."""
    mode, form = found.mode.encode(), found.format.encode()
    if len(mode) > ENTRY["mode"].itemsize or len(form) > ENTRY["format"].itemsize:
        return None
    entry = np.zeros(1, ENTRY)
    entry["digest"] = np.void(digest)
    entry["factor"], entry["bits"] = factor, 8 * found.pixels.dtype.itemsize
    entry["shape"], entry["size"] = found.pixels.shape, found.size
    entry["orientation"], entry["mode"], entry["format"] = found.orientation, mode, form
    return entry


def _facts(entry: np.void) -> dict[str, Any]:
    height, width = entry["size"].tolist()
    return {
        "size": (height, width),
        "channels": int(entry["shape"][2]),
        "bits": int(entry["bits"]),
        "mode": entry["mode"].decode(),
        "format": entry["format"].decode(),
        "orientation": int(entry["orientation"]),
    }


def _key(digest: bytes, factor: int) -> bytes:
    """Where a canvas is found; `_FACTORS` has the ends of the keys."""
    return digest + bytes([factor.bit_length()])


def _all_segments(root: Path) -> Iterator[tuple[Path, int, float]]:
    """The pixels, their bytes and the time of the last use of every segment of every decoder."""
    for path in root.glob(f"*/*{PIXELS}"):
        with suppress(OSError):
            size = path.stat().st_size
            with suppress(OSError):
                yield path, size, path.with_suffix(INDEX).stat().st_mtime
                continue
            yield path, size, 0.0  # without an index: nothing leads there


def _close(segments: dict[str, Segment]) -> None:
    for segment in segments.values():
        segment.close()
