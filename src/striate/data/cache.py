"""Decoded photos kept in memory up to a limit, by content.

What is asked for is a pure function of the file's content and a recipe (reduced canvas, fitted to an input), so that a
hit, a miss and an eviction give equal bytes. An epoch visits every image once in random order, for which the best rule
is also the simplest: what is in stays. Only another form of the same image makes room for a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

import numpy as np

from striate.data.forked import mind_forks


class PixelCache:
    """Arrays by (content, recipe), of at most `limit` bytes together. Safe to use from many threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self.hits = self.misses = 0
        self.full = limit <= 0  # whether any array found no room
        self._held: dict[bytes, dict[Hashable, np.ndarray]] = {}
        self._lock = threading.Lock()
        mind_forks(self)

    def get(self, content: bytes, recipe: Hashable) -> np.ndarray | None:
        """The array, or None."""
        with self._lock:
            found = self._held.get(content, {}).get(recipe)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def put(self, content: bytes, recipe: Hashable, pixels: np.ndarray) -> bool:
        """Keep `pixels` where there is room, or room can be made by dropping other forms of the same image.

        Returns whether these or equal ones are kept.
        """
        with self._lock:
            forms = self._held.get(content, {})
            if recipe in forms:
                return True
            others = sum(array.nbytes for array in forms.values())
            if self.bytes + pixels.nbytes > self.limit:
                if self.bytes - others + pixels.nbytes > self.limit:
                    self.full = True
                    return False
                forms.clear()
                self.bytes -= others
            pixels.flags.writeable = False
            self._held.setdefault(content, forms)[recipe] = pixels
            self.bytes += pixels.nbytes
            return True

    def drop(self, content: bytes, recipe: Hashable | None = None) -> None:
        """Do not keep this form of the image any longer; None for all of them."""
        with self._lock:
            forms = self._held.get(content, {})
            for gone in list(forms) if recipe is None else [recipe]:
                pixels = forms.pop(gone, None)
                self.bytes -= 0 if pixels is None else pixels.nbytes
            if not forms:
                self._held.pop(content, None)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._held.clear()
            self.bytes = 0
            self.full = self.limit <= 0

    def forked(self) -> None:
        """A child process goes on with what is held; the lock may be held by a thread that it does not have."""
        self._lock = threading.Lock()
