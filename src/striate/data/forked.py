"""What happens to objects with locks, threads and open files where the process is forked."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that a child process must not use as its parent left it."""

    def forked(self) -> None:
        """Called in the child: no thread of the parent is there, and any lock may be held by one of them."""
        ...


_LIVING: weakref.WeakSet[Forkable] = weakref.WeakSet()


def mind_forks(thing: Forkable) -> None:
    """Call `thing.forked()` in every child process that is forked while it lives."""
    _LIVING.add(thing)


def _in_child() -> None:
    for thing in list(_LIVING):
        thing.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
