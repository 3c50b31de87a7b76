"""The one pass over the files of a photo folder: read, hash and decode each, in threads.

The decoders and the hash release the interpreter, so that threads use all cores. The pass finds every unreadable file
and leaves in the cache the canvases that training will cut from; files whose canvas is there already are not decoded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np

from striate.data.behind import WriteBehind
from striate.data.cache import PixelCache
from striate.data.canvases import CanvasCache
from striate.data.decode import Decoded, decode_bytes, read_bytes, reduction
from striate.data.forked import mind_forks
from striate.errors import UnreadableImageError
from striate.progress import Progress, Silent
from striate.runtime import thread_limit

DIGEST_BYTES = 16
_AHEAD = 8  # results per thread that may wait to be collected
_PART = 8  # images that a thread does in one go, at most

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What one file turned out to be. `error` says why it cannot be read; the fields before it then mean nothing."""

    digest: bytes  # blake2b of the content, 16 bytes; of the path where the content cannot be read
    size: tuple[int, int] = (0, 0)  # height, width, upright
    channels: int = 0
    bits: int = 8
    mode: str = ""
    format: str = ""
    orientation: int = 1
    error: str | None = None


class PhotoStore:
    """What all splits of a photo data set share: the threads that decode and the caches.

    Args:
        cache_bytes: limit of the cache in memory: of images fitted for an evaluation, and of canvases that are not kept
            on disk.
        workers: threads; None for one per core, or fewer by OMP_NUM_THREADS, 0 for none beside the caller.
        canvases: the cache on disk.
        once: every image is looked at once, as the network of an evaluation sees it: images found while the files are
            read wait for that whole, as far as the memory goes, and nothing is kept for later.
    """

    def __init__(
        self, cache_bytes: int, workers: int | None = None, canvases: CanvasCache | None = None, *, once: bool = False
    ) -> None:
        self.cache, self.canvases = PixelCache(cache_bytes), canvases
        self.once = once
        self._behind = WriteBehind(canvases, self.cache) if canvases is not None and not once else None
        self.workers = thread_limit() if workers is None else workers
        self._pool = self._new_pool()
        mind_forks(self)

    @property
    def has_room(self) -> bool:
        """Whether a canvas may still be kept somewhere."""
        return not self.cache.full or (self.canvases is not None and self.canvases.accepting)

    def canvas(self, digest: bytes, factor: int) -> np.ndarray | None:
        """[H, W, C], the image of this content reduced by `factor`, read-only; None where no cache has it."""
        # the memory first: what goes from there to the disk is on the disk before it is gone
        found = self.cache.get(digest, ("canvas", factor))
        return found if found is not None or self.canvases is None else self.canvases.get(digest, factor)

    def keep(self, digest: bytes, factor: int, found: Decoded) -> None:
        """Keep a canvas: on disk, at once or later, else in memory, where there is room."""
        if self._behind is not None and self._behind.put(digest, factor, found):
            return  # later
        if self.canvases is None or not self.canvases.put(digest, factor, found):
            self.cache.put(digest, ("canvas", factor), found.pixels)

    def let_go(self, digest: bytes, factor: int) -> None:
        """The caller has read what it wanted of a canvas."""
        if self.canvases is not None:
            self.canvases.let_go(digest, factor)

    def forked(self) -> None:
        """A child process has none of the threads."""
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPoolExecutor | None:
        return ThreadPoolExecutor(self.workers, thread_name_prefix="striate-decode") if self.workers else None

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """`function` of every item, in order, in the threads; only a few results wait at any time."""
        with self._behind.reading() if self._behind is not None else nullcontext():
            yield from map(function, items) if self._pool is None else self._map(self._pool, function, items)

    def _map(
        self, pool: ThreadPoolExecutor, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]
    ) -> Iterator[ResultT]:
        waiting: list[Future[ResultT]] = []
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _AHEAD * self.workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()

    def in_parts(self, function: Callable[[range], ResultT], count: int) -> Iterator[ResultT]:
        """`function` of parts of 0..count-1, in order, in the threads.

        Several images at a time, so that threads seldom wait for the interpreter; few enough for every thread to have
        a fair share of slow ones.
        """
        step = max(1, min(_PART, count // (4 * max(1, self.workers))))
        return self.map(function, (range(start, min(start + step, count)) for start in range(0, count, step)))


def content_digest(data: bytes) -> bytes:
    """What stands for a file's content everywhere: splits, the cache, duplicates, the manifest."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def array_digests(pixels: np.ndarray) -> np.ndarray:
    """uint8 [n, 16]: the digest of each of n equally sized arrays."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    joined = b"".join(blake2b(row.data, digest_size=DIGEST_BYTES).digest() for row in rows)
    return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES)


def canvas_side(input_size: int) -> int:
    """Least short side of the canvases for a network of this input side: 8/7 of it, the usual 256 for 224."""
    return math.ceil(input_size * 8 / 7)


def scan(
    files: Sequence[Path],
    names: Sequence[str],
    store: PhotoStore,
    least_side: int | None,
    progress: Progress | None = None,
) -> list[FileInfo]:
    """Look into every file, and leave its canvas for `least_side` (None: whole) in a cache.

    `names` are what errors call the files.
    """

    def look(positions: range) -> list[FileInfo]:
        return [_look(files[position], names[position], store, least_side) for position in positions]

    infos: list[FileInfo] = []
    with (progress or Silent()).task("reading images", len(files)) as task:
        for some in store.in_parts(look, len(files)):
            infos += some
            task.advance(len(some))
    if store.canvases is not None:
        store.canvases.settle()
    return infos


def _look(file: Path, name: str, store: PhotoStore, least_side: int | None) -> FileInfo:
    try:
        data = read_bytes(file)
    except UnreadableImageError as error:
        return FileInfo(content_digest(os.fsencode(name)), error=error.reason)
    digest = content_digest(data)
    known = store.canvases.facts(digest, least_side) if store.canvases is not None else None
    if known is not None:
        return FileInfo(digest, **known)
    kept = store.has_room
    if not kept:  # what cannot wait is decoded for its errors alone, as small as the codec can
        least_side = 1
    elif store.once:
        least_side = None
    try:
        found = decode_bytes(data, name, least_side)
    except UnreadableImageError as error:
        return FileInfo(digest, error=error.reason)
    factor = reduction(found.size, least_side)
    if factor == 1 or (kept and not store.once):
        store.keep(digest, factor, found)
    bits = 8 * found.pixels.dtype.itemsize
    return FileInfo(digest, found.size, found.pixels.shape[2], bits, found.mode, found.format, found.orientation)
