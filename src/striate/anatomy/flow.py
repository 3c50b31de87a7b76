"""Who reads whom: which row of the anatomy made a tensor, and so which rows every row reads."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor

IMAGE = -1  # the place of the image among the rows


class Source:
    """Something that makes tensors: a row, or an operation that gets no row and only hands on what it reads."""

    def __init__(self, place: int | None = None) -> None:
        self.place = place  # among the rows, once it is one
        self.reads: dict[Source, None] = {}

    def places(self) -> tuple[int, ...]:
        """The rows that are read, those without a row of their own seen through."""
        found: dict[int, None] = {}
        seen: set[Source] = {self}
        open_ones = list(self.reads)
        while open_ones:
            one = open_ones.pop()
            if one.place is not None:
                found[one.place] = None
            elif one not in seen:
                open_ones.extend(one.reads)
            seen.add(one)
        return tuple(sorted(found))


class Flow:
    """The source of every tensor that is alive, by its storage."""

    def __init__(self) -> None:
        self.made: dict[int, Source] = {}

    def note(self, source: Source, reads: Iterable[Any], makes: Iterable[Tensor], *, written: bool) -> None:
        """`source` reads some tensors and makes others; a view of what it reads is not made anew unless written to."""
        for tensor in reads:
            maker = self.made.get(tensor.untyped_storage()._cdata)
            if maker is not None and maker is not source:
                source.reads[maker] = None
        for tensor in makes:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.made:
                weakref.finalize(storage, self.made.pop, key, None).atexit = False
            elif not written:
                continue
            self.made[key] = source
