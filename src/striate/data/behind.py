"""Decoded photos on their way to the disk: decoders go on, and one thread writes what they made while they rest.

Writing a canvas costs about as much as decoding it. In the first epoch canvases therefore wait in memory, from which
they are served meanwhile, and a thread of the lowest priority writes them: while the network trains and nobody waits
for images, for a small part of the time where images are what everybody waits for, and for a few seconds at the end of
the process. What was written and reads back as it should leaves the memory. What does not get that far, because the
process was killed or the seconds were over, is decoded again by the next run; pixels are the same either way.

Canvases that wait count as part of the cache in memory and take at most half of it: the other half is for what an
evaluation keeps. What finds no room there is written by the thread that decoded it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np

from striate.data.cache import PixelCache
from striate.data.canvases import CanvasCache
from striate.data.decode import Decoded
from striate.data.forked import mind_forks

REST_SECONDS = 0.02  # without work, after which the threads that read images count as resting
BUSY_PAUSE = 30  # while they work, the writer rests for so many times as long as it works
EXIT_SECONDS = 5.0  # that the end of a process may take for what still waits
_LAST_SECONDS = 0.2  # for the canvas that is being written when they are over
_SHARE = 2  # canvases that wait take at most one part in so many of the memory
_NO_PIXELS = np.empty((0, 0, 0), np.uint8)

Waiting = tuple[bytes, int, Decoded, int]  # digest, factor, all but the pixels, their bytes


class WriteBehind:
    """Writes canvases that wait in `memory` to `canvases`. Safe to use from many threads.

    A thread runs while anything waits, and keeps this object alive for so long.
    """

    def __init__(self, canvases: CanvasCache, memory: PixelCache) -> None:
        self.limit = memory.limit // _SHARE
        self.bytes = 0  # that wait
        self._canvases, self._memory = canvases, memory
        self._waiting: deque[Waiting] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._readers = 0  # that are at work
        self._resting_since = 0.0
        self._hurry = self._ended = False
        mind_forks(self)
        _LIVING.add(self)
        atexit.unregister(_finish_all)
        atexit.register(_finish_all)  # anew, so that it runs before `canvases` is closed

    def put(self, digest: bytes, factor: int, found: Decoded) -> bool:
        """Take a canvas over; False where it has no room among those that wait, or nothing is written any more."""
        size = found.pixels.nbytes
        if not self._canvases.accepting:
            return False
        with self._lock:
            if self._ended or self.bytes + size > self.limit:
                return False
            self.bytes += size
        if not self._memory.put(digest, ("canvas", factor), found.pixels):
            with self._lock:
                self.bytes -= size
            return False
        with self._lock:
            self._waiting.append((digest, factor, replace(found, pixels=_NO_PIXELS), size))
            if self._thread is None and not self._ended:
                self._thread = _started(self._run)
        return True

    @contextmanager
    def reading(self) -> Generator[None, None, None]:
        """While the block lasts, somebody waits for images."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                self._resting_since = time.monotonic()

    def finish(self, seconds: float) -> None:
        """Write what waits without a pause, for so many seconds at most, and nothing afterwards."""
        end = time.monotonic() + seconds
        self._hurry = True
        thread = self._thread
        try:
            if thread is not None:
                thread.join(seconds)
        finally:
            self._ended = True
        if thread is not None:  # in the middle of a canvas; where the disk hangs it is left behind
            thread.join(max(_LAST_SECONDS, end - time.monotonic()))

    def forked(self) -> None:
        """The parent writes; a child only reads."""
        self._lock = threading.Lock()
        self._waiting.clear()
        self._thread, self._ended = None, True
        self._readers = 0

    def _run(self) -> None:
        _lowest_priority()
        allowed = 0.0  # from when on something may be written although somebody waits for images
        while True:
            with self._lock:
                if self._ended or not self._waiting:
                    self._thread = None
                    return
                resting = 0.0 if self._readers else time.monotonic() - self._resting_since
            start = time.monotonic()
            if resting < REST_SECONDS and start < allowed and not self._hurry:
                time.sleep(min(REST_SECONDS, allowed - start))
                continue
            self._write_one()
            allowed = time.monotonic() + BUSY_PAUSE * (time.monotonic() - start)

    def _write_one(self) -> None:
        digest, factor, rest, size = self._waiting.popleft()
        pixels = self._memory.get(digest, ("canvas", factor))
        if pixels is not None:  # else another form of the image took its place: decoded again, it comes again
            written = self._canvases.put(digest, factor, replace(rest, pixels=pixels))
            if written and self._canvases.holds(digest, factor, pixels):
                self._memory.drop(digest, ("canvas", factor))
        with self._lock:
            self.bytes -= size


_LIVING: weakref.WeakSet[WriteBehind] = weakref.WeakSet()


def _finish_all() -> None:
    """At the end of the process; whoever interrupts it has waited long enough."""
    end = time.monotonic() + EXIT_SECONDS
    with suppress(KeyboardInterrupt):
        for one in list(_LIVING):
            one.finish(max(0.0, end - time.monotonic()))


def _started(work: Callable[[], None]) -> threading.Thread | None:
    thread = threading.Thread(target=work, name="striate-write", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending, or the system has no more threads
        return None
    return thread


def _lowest_priority() -> None:
    """Leave the cores to all other threads, where threads have a priority of their own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
