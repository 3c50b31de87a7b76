"""Files of decoded pixels: one process appends to a segment, any number map it, and nobody waits.

A segment is two files. `NAME.pixels` holds images one after another, large ones from a page on; `NAME.index` holds an
entry of fixed size for each, appended after its pixels. An entry that is there therefore speaks of pixels that were
written, whenever the writer was killed. What a crash of the machine tore is found out too: entries carry a sum, and
the check of pixels is compared before a process that did not write them uses them first.

Whoever writes or maps a segment holds a shared lock on its pixels, which ends with the process. Whoever gets the lock
alone may delete the segment, or cut off what a killed writer left behind its last entry. Where there are no such locks
(Windows) nothing is deleted or cut but by hand.

A lock may hold on one computer only, where the folder is a share that several use. The name of a segment therefore says
which one wrote it, and the others leave it alone until nothing has happened to it for a week.
"""

from __future__ import annotations

import mmap
import os
import platform
import re
import secrets
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

PIXELS, INDEX = ".pixels", ".index"
PAGE = max(4096, mmap.PAGESIZE)
HOST = re.sub(r"\W", "_", platform.node(), flags=re.ASCII)[:32] or "host"
FOREIGN_SECONDS = 7 * 24 * 3600.0  # for which another computer's segment must have been left as it is
_LARGE, _ALIGNED = 16 * PAGE, 64  # bytes from which an image starts at a page, and at what others start
_FIRST_ROWS = 64
PAGE_WORDS = 512  # of 64 bits, for the check

# One decoded image. `sum` makes the 32-bit words of the entry add up to _SUM.
ENTRY = np.dtype(
    [
        ("digest", "V16"),  # of the file's content
        ("offset", "<u8"),  # of the pixels, in bytes
        ("check", "<u4"),  # of the pixels: `pixel_check`
        ("factor", "<u4"),  # by which they are reduced
        ("shape", "<u4", 3),  # height, width, channels of the pixels
        ("bits", "<u4"),  # of one of them: 8 or 16
        ("size", "<u4", 2),  # height, width of the image, upright and unreduced
        ("orientation", "<u4"),
        ("mode", "S24"),
        ("format", "S12"),
        ("sum", "<u4"),
    ]
)
_SUM = 0x5F3A91C7


class Segment:
    """One segment as this process knows it; see the top of this module. Safe to use from many threads."""

    def __init__(self, pixels: Path) -> None:
        self.path = pixels
        self.entries = np.empty(0, ENTRY)
        self._sound = np.empty(0, bool)  # entries whose pixels were compared with their check, or written here
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        self._descriptor = -1  # holds the lock, once the segment is written or mapped

    @property
    def index(self) -> Path:
        """The file of the entries."""
        return self.path.with_suffix(INDEX)

    def refresh(self) -> range:
        """Read entries that were added since; the numbers of the new ones."""
        try:
            found = read_index(self.index)
        except OSError:
            found = self.entries
        known = len(self.entries)
        if len(found) > known:
            self._sound = np.concatenate([self._sound, np.zeros(len(found) - known, bool)])
            self.entries = found
        return range(known, len(self.entries))

    def view(self, row: int) -> np.ndarray | None:
        """The pixels of an entry, in place and read-only; None where they are damaged or gone."""
        entry = self.entries[row]
        shape, kind = tuple(entry["shape"].tolist()), np.dtype("<u2" if entry["bits"] == 16 else "u1")
        start, count = int(entry["offset"]), int(np.prod(shape, dtype=np.int64))
        with self._lock:
            if not self._mapped(start + count * kind.itemsize):
                return None
            whole = self._map
        assert whole is not None
        pixels = np.frombuffer(whole, kind, count, start)
        if not self._sound[row]:
            if pixel_check(pixels) != entry["check"]:
                return None
            self._sound[row] = True
        return pixels.reshape(shape)

    def hold(self) -> bool:
        """Keep other runs from deleting it from now on; False where it is gone."""
        with self._lock:
            return self._mapped(0)

    def let_go(self, row: int) -> None:
        """Take the pages of an entry out of this process' resident memory; they stay in the system's cache of files."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            entry = self.entries[row]
            first = int(entry["offset"]) // PAGE * PAGE
            length = int(np.prod(entry["shape"], dtype=np.int64)) * int(entry["bits"]) // 8
            self._map.madvise(mmap.MADV_DONTNEED, first, int(entry["offset"]) + length - first)

    def close(self) -> None:
        """Stop using it; views that are still held keep the lock for as long as they are."""
        with self._lock:
            self._map = None
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def forked(self) -> None:
        """A child process reads on; its parent may hold the lock."""
        self._lock = threading.Lock()

    def _mapped(self, end: int) -> bool:
        """Map the file where that has not happened, and say whether it reaches to `end`."""
        if self._map is None:
            try:
                if self._descriptor < 0:
                    self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                    _lock(self._descriptor, alone=False)
                if os.fstat(self._descriptor).st_size < end:
                    return False
                self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                return False
            with suppress(OSError):  # another user's, which is only read
                os.utime(self.index)  # last used now
        return len(self._map) >= end


class GrowingSegment(Segment):
    """A segment that this process appends to, with room for `capacity` bytes.

    Raises:
        OSError: it cannot be created, or what is written to it cannot be mapped.
    """

    def __init__(self, folder: Path, tag: str, capacity: int) -> None:
        super().__init__(folder / f"{tag}-{HOST}-{os.getpid()}-{secrets.token_hex(4)}{PIXELS}")
        self.capacity, self._end, self._written = capacity, 0, 0
        self._pending, self._finished, self._closed = 0, False, False
        self._rows = np.empty(_FIRST_ROWS, ENTRY)  # of which `entries` are the first
        self._sound = np.empty(_FIRST_ROWS, bool)
        self._index = -1
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(self._descriptor, alone=False)
            os.truncate(self._descriptor, capacity)  # takes no space yet, and can be mapped once for all
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
            self._index = os.open(self.index, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        except OSError:
            self.close()
            with suppress(OSError):
                _unlink(self.path)
            raise

    def reserve(self, length: int) -> int | None:
        """Where `length` bytes will go, to be followed by `write`; None where they do not fit."""
        with self._lock:
            step = PAGE if length >= _LARGE else _ALIGNED
            start = -(-self._end // step) * step
            if self._finished or start + length > self.capacity:
                return None
            self._end = start + length
            self._pending += 1
            return start

    def write(self, entry: np.ndarray, pixels: np.ndarray) -> int:
        """Pixels to where `entry["offset"]` says, then the entry ([1] of `ENTRY`), completed; its number.

        Raises:
            OSError: the disk is full, or another of its failures. The segment is finished then, and what was written
                before is compared with its sum again: some file systems find out late that there is no room.
        """
        pixels = np.ascontiguousarray(pixels)
        data = pixels.data.cast("B")
        entry["check"], entry["sum"] = pixel_check(pixels), 0
        entry["sum"] = (_SUM - int(entry.view("<u4").sum(dtype=np.uint64))) % 2**32
        start = int(entry["offset"][0])
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], start + written)
            with self._lock:
                os.write(self._index, entry.tobytes())
                self._written = max(self._written, start + written)
                return self._append(entry)
        except OSError:
            with self._lock:
                self._sound[:] = False
                self._finished = True
            raise
        finally:
            with self._lock:
                self._pending -= 1
                self._close()
                last = self._closed and not self._pending
            if last:
                super().close()

    def _append(self, entry: np.ndarray) -> int:
        number = len(self.entries)
        if number == len(self._rows):  # twice as many, so that a long segment is not copied with each image
            self._rows = np.concatenate([self._rows, np.empty(number, ENTRY)])
            self._sound = np.concatenate([self._sound, np.empty(number, bool)])
        self._rows[number], self._sound[number] = entry[0], True
        self.entries = self._rows[: number + 1]
        return number

    def finish(self) -> None:
        """Give back the room that was not used; only what is being written now is still appended."""
        with self._lock:
            self._finished = True
            self._close()

    def _close(self) -> None:
        """Where nothing will be written any more: cut off the room behind the last image."""
        if not self._finished or self._index < 0:
            return
        if self._descriptor >= 0:
            with suppress(OSError):
                os.truncate(self._descriptor, self._end if self._pending else self._written)
        if not self._pending:
            os.close(self._index)
            self._index = -1

    def close(self) -> None:
        """Finish it, too; the file stays open for what is being written now, and no longer."""
        self.finish()
        with self._lock:
            self._closed = True
            busy = self._pending > 0
        if not busy:
            super().close()

    def refresh(self) -> range:
        """Nothing is new to the writer."""
        return range(0)

    def forked(self) -> None:
        """Only the parent writes, and cuts off what is too much."""
        super().forked()
        self._finished = True
        if self._index >= 0:
            os.close(self._index)
            self._index = -1


def pixel_check(pixels: np.ndarray) -> int:
    """32 bits that tell whether any page of the pixels is another: CRC-32 of what the 64-bit words of each add up to.

    A CRC of all the bytes takes ten times as long, a third of what decoding does. It would also notice words that have
    changed places within a page, which no crash does.
    """
    data = pixels.reshape(-1).view(np.uint8)
    whole = len(data) // PAGE_WORDS // 8 * PAGE_WORDS * 8
    sums = data[:whole].view("<u8").reshape(-1, PAGE_WORDS).sum(axis=1, dtype="<u8")
    return zlib.crc32(data[whole:].data, zlib.crc32(sums.data))


def read_index(path: Path) -> np.ndarray:
    """[n] of `ENTRY`: the entries of an index up to the first that is torn."""
    data = path.read_bytes()
    entries = np.frombuffer(data[: len(data) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
    words = entries.view("<u4").reshape(len(entries), ENTRY.itemsize // 4)
    whole = words.sum(axis=1, dtype=np.uint64) % 2**32 == _SUM
    return entries if whole.all() else entries[: int(whole.argmin())]


def trim(pixels: Path) -> None:
    """Cut off what a writer that is gone left behind its last entry; without any entry, delete the segment."""
    if _in_use_elsewhere(pixels):
        return
    with suppress(OSError), _alone(pixels) as held:
        if held is None:
            return
        index = pixels.with_suffix(INDEX)
        entries = read_index(index) if index.exists() else np.empty(0, ENTRY)
        if not len(entries):
            _unlink(pixels)
            return
        sizes = entries["shape"].astype(np.uint64).prod(axis=1) * (entries["bits"] // 8)
        end = int((entries["offset"] + sizes).max())
        found = os.fstat(held)
        if found.st_size > -(-end // PAGE) * PAGE:
            os.truncate(held, end)
            os.utime(pixels, ns=(found.st_atime_ns, found.st_mtime_ns))  # of the last image, as before


def remove(pixels: Path) -> bool:
    """Delete a segment that nobody uses; whether it is gone."""
    if _in_use_elsewhere(pixels):
        return False
    with suppress(OSError), _alone(pixels) as held:
        if held is not None:
            _unlink(pixels)
            return True
    return not pixels.exists()


def _in_use_elsewhere(pixels: Path) -> bool:
    """Whether another computer wrote the segment and anybody wrote to it or used it lately."""
    _tag, _, rest = pixels.stem.partition("-")
    if rest.rsplit("-", 2)[0] == HOST:
        return False
    last = 0.0
    for path in (pixels, pixels.with_suffix(INDEX)):
        with suppress(OSError):
            last = max(last, path.stat().st_mtime)
    return time.time() - last < FOREIGN_SECONDS


def _unlink(pixels: Path) -> None:
    """First what leads to the pixels, so that no entry speaks of pixels that are gone."""
    pixels.with_suffix(INDEX).unlink(missing_ok=True)
    pixels.unlink(missing_ok=True)


class _alone:
    """A descriptor of the file while nobody else holds a lock on it; None while somebody does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> int | None:
        self._descriptor = os.open(self.path, os.O_RDWR)
        if _lock(self._descriptor, alone=True):
            return self._descriptor
        return None

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _lock(descriptor: int, *, alone: bool) -> bool:
    """Hold a lock on an open file until it is closed; `alone` is given up at once where anybody else has one."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError:
        return False
    return True


class Exclusive:
    """A lock among all processes for as long as the block lasts; `path` is created where it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
