"""The exception tree. Every error a user can cause is one of these, and none of them needs a traceback.

StriateError            something could not be done            (exit code 1)
├── UsageError          the call itself is wrong               (exit code 2)
│   └── UnknownNameError    a name that no table holds; answered with its nearest neighbours
├── DataError           the data cannot be used as they are
│   └── UnreadableImageError    one file that cannot be decoded
├── ModelError          a network cannot be built or does not fit
├── CheckpointError     a file of ours is missing, damaged or of another kind
├── OfflineError        something would have to be downloaded and may not or cannot be
├── MissingExtraError   an optional dependency is not installed
└── TrainingError       training stopped, for example at a non-finite loss
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class StriateError(Exception):
    """An error with the thing, the value and, in `hint`, the next step."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(StriateError):
    """The call itself is wrong: an unknown option, a value of the wrong type or out of range."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that a table does not hold; the message lists the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str | None = None) -> None:
        names = sorted(known)
        near = nearest(name, names)
        if hint is None:
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names[:20])}"
        super().__init__(f"unknown {kind} {name!r}", hint)
        self.nearest = near


class DataError(StriateError):
    """The data cannot be used as they are."""


class UnreadableImageError(DataError):
    """One image file that cannot be decoded; `reason` is a few plain words."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}", "`striate check` lists every unreadable file of a data set")
        self.path = path
        self.reason = reason


class ModelError(StriateError):
    """A network cannot be built as asked, or does not fit the input."""


class CheckpointError(StriateError):
    """A model file or resume state is missing, damaged, or of another kind."""


class OfflineError(StriateError):
    """Something would have to be downloaded, and may not or cannot be."""


class MissingExtraError(StriateError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed", f"pip install 'striate[{extra}]'")


class TrainingError(StriateError):
    """Training stopped before its end."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The up to `count` names of `known` most like `name`, best first; letter case is ignored."""
    by_lower = {item.lower(): item for item in known}
    return [by_lower[match] for match in get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.55)]
