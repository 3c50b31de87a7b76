"""The exact state of a run, so that it can go on as if it had never stopped.

The folder holds ``state-<number>-<start of its SHA-256>.pt`` files (`torch.save` archives) and ``latest.json``::

    {"version": 1, "file": ..., "sha256": ..., "bytes": ..., "epoch": ..., "step": ..., "older": [{...}, ...]}

Saving goes: write a new state beside the others, sync, rename; rewrite the pointer atomically; remove what is no
longer pointed at. Whichever of these steps a kill comes after, a whole state can be found.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import torch

from striate.checkpoint.atomic import new_file, sync_folder, write_atomically
from striate.errors import CheckpointError

STATE_VERSION = 1
POINTER_NAME = "latest.json"
_STATE_NAME = re.compile(r"state-(\d{6,})-([0-9a-f]{16})\.pt")
_CONTAINERS = (list, tuple, set, torch.Size)
_MAPPINGS = (dict, OrderedDict, Counter)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.nn.Parameter, torch.dtype)


def save_state(folder: Path, state: Mapping[str, Any], *, keep: int = 2) -> None:
    """Write `state` as the folder's newest; the `keep` newest stay.

    Args:
        folder: made if it is not there. One process writes to it.
        state: nested dictionaries, lists and tuples of tensors and plain values. Its ``epoch`` and ``step``, where
            there, are repeated in the pointer.
        keep: states to hold on to, at least 1. The disk needs room for one more while writing.

    Raises:
        CheckpointError: it cannot be written (disk full, no permission); the states that were there stay.
        TypeError: something in `state` could not be read back without running code; the message says where.
    """
    if keep < 1:
        raise ValueError(f"keep = {keep}: at least one state is kept")
    _check_plain(state, "state")
    _make(folder)
    _tidy(folder)  # a kill may have left a state that nothing points at: its room is needed now
    with new_file(folder / "state.pt") as file:
        torch.save(state, cast("IO[bytes]", file))
        digest = file.sha256.hexdigest()
        name = f"state-{_newest_number(folder) + 1:06d}-{digest[:16]}.pt"
        file.publish(folder / name)
    entry = {
        "file": name,
        "sha256": digest,
        "bytes": file.bytes,
        "epoch": state.get("epoch"),
        "step": state.get("step"),
    }
    older = [one for one in _entries(folder)[0] if _looks_whole(folder, one)][: keep - 1]
    pointer = {"version": STATE_VERSION, **entry, "older": older}
    write_atomically(folder / POINTER_NAME, json.dumps(pointer, indent=1).encode())
    _tidy(folder)


def load_state(folder: Path) -> tuple[dict[str, Any], str | None]:
    """The newest state that is whole, its tensors on the processor; and a warning where a newer one was not usable.

    Raises:
        CheckpointError: no state is usable, or it was written by a newer Striate; the message says what was found.
    """
    if not folder.is_dir() or not (_state_names(folder) or (folder / POINTER_NAME).exists()):
        raise CheckpointError(
            f"there is no resume state in {folder}",
            "the run was stopped before it wrote its first one: start it again with --recipe and its recipe.toml",
        )
    candidates, findings = _entries(folder)
    for entry in candidates:
        try:
            state = _read(folder, entry)
        except _UnusableError as error:
            findings.append(f"{entry['file']} {error}")
            continue
        if not findings:
            return state, None
        return state, f"{'; '.join(findings)}: going on from {_position(state)}, the newest state that is whole"
    raise CheckpointError(
        f"no usable resume state in {folder}: {'; '.join(findings)}",
        "bring the folder back from a backup, or start from the weights so far: striate train --from RUN",
    )


class _UnusableError(Exception):
    """Why one state cannot be used, to be read after its file name."""


def _read(folder: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with open(folder / entry["file"], "rb") as file:
            _check_bytes(file, entry)
            file.seek(0)
            return _decoded(file)
    except FileNotFoundError:
        raise _UnusableError("is missing") from None
    except OSError as error:
        raise _UnusableError(f"cannot be read ({(error.strerror or str(error)).lower()})") from error


def _check_bytes(file: BufferedReader, entry: Mapping[str, Any]) -> None:
    size = os.fstat(file.fileno()).st_size
    if entry["bytes"] is not None and size != entry["bytes"]:
        raise _UnusableError(f"has {size:,} bytes instead of {entry['bytes']:,}")
    if not hashlib.file_digest(file, "sha256").hexdigest().startswith(entry["sha256"]):
        raise _UnusableError("does not match its checksum")


def _decoded(file: BufferedReader) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # UnpicklingError, RuntimeError, and whatever else a foreign file provokes
        raise _UnusableError(f"is not a state of ours ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise _UnusableError("is not a state of ours")
    return state


def _entries(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """States to try, best first: those the pointer names, then any other file by its number; and what is odd."""
    findings: list[str] = []
    entries: list[dict[str, Any]] = []
    try:
        entries = _pointed_at(json.loads((folder / POINTER_NAME).read_bytes()))
    except FileNotFoundError:
        pass  # killed before the first pointer was written
    except OSError as error:
        findings.append(f"{POINTER_NAME} cannot be read ({(error.strerror or str(error)).lower()})")
    except (ValueError, KeyError, TypeError, AttributeError):
        findings.append(f"{POINTER_NAME} is damaged")
    named = {entry["file"] for entry in entries}
    for name in sorted(set(_state_names(folder)) - named, key=_number, reverse=True):
        match = _STATE_NAME.fullmatch(name)
        assert match is not None
        entries.append({"file": name, "sha256": match[2], "bytes": None, "epoch": None, "step": None})
    return entries, findings


def _pointed_at(pointer: Any) -> list[dict[str, Any]]:
    version = pointer["version"]
    if isinstance(version, int) and version > STATE_VERSION:
        raise CheckpointError(
            f"the resume state has format version {version}; this Striate reads up to {STATE_VERSION}",
            "go on with the Striate that wrote it, or upgrade",
        )
    entries = [
        {key: one[key] for key in ("file", "sha256", "bytes", "epoch", "step")} for one in (pointer, *pointer["older"])
    ]
    for entry in entries:  # a name from a file is used as a path only if it is one of ours
        if not (_STATE_NAME.fullmatch(entry["file"]) and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])):
            raise ValueError(entry["file"])
        if not isinstance(entry["bytes"], int):
            raise ValueError(entry["bytes"])
    return entries


def _tidy(folder: Path) -> None:
    """Remove the states that the pointer does not name, provided that it names a newest one that is there."""
    entries, findings = _entries(folder)
    named = {entry["file"] for entry in entries if entry["bytes"] is not None}
    if findings or not (named and _looks_whole(folder, entries[0])):
        return
    for name in set(_state_names(folder)) - named:
        with suppress(OSError):
            os.unlink(folder / name)


def _looks_whole(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether an older state is worth keeping: there, and of the size it should have. Checksums wait until loading."""
    with suppress(OSError):
        return entry["bytes"] is not None and (folder / entry["file"]).stat().st_size == entry["bytes"]
    return False


def _state_names(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if _STATE_NAME.fullmatch(name)]


def _number(name: str) -> int:
    match = _STATE_NAME.fullmatch(name)
    return int(match[1]) if match else 0


def _newest_number(folder: Path) -> int:
    return max(map(_number, _state_names(folder)), default=0)


def _position(state: Mapping[str, Any]) -> str:
    return f"epoch {state.get('epoch', '?')}, step {state.get('step', '?')}"


def _make(folder: Path) -> None:
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_folder(folder.parent)
    except OSError as error:
        raise CheckpointError(f"cannot make {folder}: {(error.strerror or str(error)).lower()}") from error


def _check_plain(value: Any, where: str) -> None:
    """Refuse now what `torch.load(weights_only=True)` would refuse when the run is to go on.

    Exact types: a NumPy float is a float to isinstance, but is pickled as a call into NumPy.
    """
    if type(value) in _PLAIN:
        return
    if type(value) in _MAPPINGS:
        for key, one in value.items():
            _check_plain(key, f"key of {where}")
            _check_plain(one, f"{where}[{key!r}]")
    elif type(value) in _CONTAINERS:
        for index, one in enumerate(value):
            _check_plain(one, f"{where}[{index}]")
    else:
        raise TypeError(f"{where} is a {type(value).__name__}: a state holds tensors and plain values")
