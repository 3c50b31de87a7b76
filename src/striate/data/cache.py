"""Decoded photos kept in memory up to a limit, by content.

What is asked for is a pure function of the file's content and a recipe (reduced canvas, fitted to an input), so that a
hit, a miss and an eviction give equal bytes. An epoch visits every image once in random order, for which the best rule
is also the simplest: what is in stays. Only another form of the same image makes room for a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

import numpy as np


class PixelCache:
    """Arrays by (content, recipe), of at most `limit` bytes together. Safe to use from many threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self.hits = self.misses = 0
        self.full = limit <= 0  # whether any array found no room
        self._held: dict[bytes, dict[Hashable, np.ndarray]] = {}
        self._lock = threading.Lock()

    def get(self, content: bytes, recipe: Hashable) -> np.ndarray | None:
        """The array, or None."""
        with self._lock:
            found = self._held.get(content, {}).get(recipe)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def put(self, content: bytes, recipe: Hashable, pixels: np.ndarray) -> None:
        """Keep `pixels` where there is room, or room can be made by dropping other forms of the same image."""
        with self._lock:
            forms = self._held.get(content, {})
            if recipe in forms:
                return
            others = sum(array.nbytes for array in forms.values())
            if self.bytes + pixels.nbytes > self.limit:
                if self.bytes - others + pixels.nbytes > self.limit:
                    self.full = True
                    return
                forms.clear()
                self.bytes -= others
            pixels.flags.writeable = False
            self._held.setdefault(content, forms)[recipe] = pixels
            self.bytes += pixels.nbytes

    def drop(self, content: bytes) -> None:
        """Keep no form of this image any longer."""
        with self._lock:
            self.bytes -= sum(array.nbytes for array in self._held.pop(content, {}).values())

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._held.clear()
            self.bytes = 0
            self.full = self.limit <= 0
