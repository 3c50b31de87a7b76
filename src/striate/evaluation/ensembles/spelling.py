"""Which of several words name networks, and whether the last one names the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from striate.checkpoint.model_file import FILE_NAME
from striate.data.sources.named import canonical_name
from striate.errors import CheckpointError, UnknownNameError, UsageError
from striate.hub.files import SUFFIXES, is_ours
from striate.network import read_spelling
from striate.runfolder import is_run


def told_apart(words: Sequence[str], runs: str | Path = "runs") -> tuple[list[str], str | None]:
    """RUN… [DATA] as the networks and the data: the last of several words is DATA where it names no network.

    What exists as data is not taken for a run whose name merely begins so, nor for an architecture without weights.

    Args:
        words: at least one; the first is always a network.
        runs: the folder that holds the run folders.

    Raises:
        UsageError: the last word names a run as well as data, or neither, or data stand before a network.
    """
    first, last = list(words[:-1]), words[-1]
    if not first:
        return [last], None
    for word in first[1:]:
        if _names_data(word) and _network(word, runs) in ("", "loosely"):
            raise UsageError(f"{word} is data, not a network", "DATA comes last: RUN RUN DATA")
    network, data = _network(last, runs), _names_data(last)
    if network == "surely" and data:
        raise UsageError(
            f"{last} is a run as well as data",
            f"{Path(runs) / last} is the run; --data {last} the data, with networks alone before it",
        )
    if not network and not data:
        raise UsageError(
            f"{last} is neither a run or another network nor data",
            "`striate runs` lists the runs; DATA is a named set, or the path of a folder or table",
        )
    if network and not data:
        return [*first, last], None
    return first, last


def _names_data(text: str) -> bool:
    """Whether there are data of that name or path; neither a run folder nor a file of weights is data."""
    if canonical_name(text) is not None:
        return True
    path = Path(text).expanduser()
    return path.exists() and not _is_network_at(path)


def _network(text: str, runs: str | Path) -> str:
    """`surely` a network, `loosely` one (the beginning of a run's name, or an architecture alone), or "" for none."""
    path = Path(text).expanduser()
    if path.exists() and _is_network_at(path):
        return "surely"
    if path.is_file():
        return ""
    try:
        read = read_spelling(text, runs)
    except (CheckpointError, UnknownNameError):
        return ""
    begins = read.kind == "saved" and not read.model and text != "latest" and read.path.name != text
    return "loosely" if begins or read.kind == "model" else "surely"


def _is_network_at(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in SUFFIXES or is_ours(path)
    return is_run(path) or (path / FILE_NAME).is_file()
