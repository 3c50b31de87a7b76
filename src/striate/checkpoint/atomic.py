"""Files that appear whole or not at all.

A file is written beside its place under a name of its own (``.NAME.<process>-<thread>.part``), synchronised to the
disk, and only then renamed over what was there. A full disk or a kill leaves the old file as it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from striate.errors import CheckpointError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class NewFile:
    """A file that is being written; `publish` gives it its name. `sha256` and `bytes` follow what is written."""

    def __init__(self, part: Path, descriptor: int) -> None:
        self._part, self._descriptor = part, descriptor
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self.published = False
        self.error: OSError | None = None  # kept because torch.save replaces it by a RuntimeError without a number

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`, however many calls that takes."""
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self.bytes += len(view)
        rest = view
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                self.error = error
                raise
        return len(view)

    def flush(self) -> None:
        """Nothing waits in a buffer; there because writers of archives call it."""

    def publish(self, path: Path) -> None:
        """Bring the bytes to the disk and the file under its name, in place of what was there."""
        os.fsync(self._descriptor)
        os.replace(self._part, path)
        self.published = True
        sync_folder(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[NewFile]:
    """A `NewFile` beside `path`; without `publish`, and after any error, nothing of it stays.

    Raises:
        CheckpointError: in place of any OSError (disk full, folder missing or not writable); what was there stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.part")
    file: NewFile | None = None
    try:
        _sweep(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        descriptor = os.open(part, flags, 0o666)
        file = NewFile(part, descriptor)
        try:
            yield file
        finally:
            os.close(descriptor)
    except BaseException as error:
        cause = error if isinstance(error, OSError) else file.error if file else None
        if cause is not None:
            raise _cannot_write(path, cause) from error
        raise
    finally:
        if file is not None and not file.published:
            with suppress(OSError):
                os.unlink(part)


def check_writable(path: Path) -> None:
    """Whether a file could be written there as things are, for those who know its content only much later.

    Raises:
        CheckpointError: the folder is missing or not writable, or it is a folder itself.
    """
    number = None
    if path.is_dir():
        number = errno.EISDIR
    elif not path.parent.is_dir():
        number = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        number = errno.EACCES
    if number is not None:
        raise _cannot_write(path, OSError(number, os.strerror(number)))


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, now or after a crash, sees all of the old or all of the new.

    Raises:
        CheckpointError: the disk is full, or the folder is missing or not writable; what was there stays.
    """
    with new_file(path) as file:
        file.write(data)
        file.publish(path)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system lets folders be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot; the rename itself has been done
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove what killed processes left of earlier attempts at `path`."""
    start = f".{path.name}."
    for name in os.listdir(path.parent):
        if name.startswith(start) and name.endswith(".part") and not _alive(name[len(start) :]):
            with suppress(OSError):
                os.unlink(path.with_name(name))


def _alive(owner: str) -> bool:
    """Whether the process that a part file is named after runs. In doubt, yes: a leftover only costs space."""
    number = owner.partition("-")[0]
    if not number.isdigit() or os.name != "posix":
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _cannot_write(path: Path, error: OSError) -> CheckpointError:
    reason = (error.strerror or str(error)).lower()
    if error.errno in _FULL:
        hint = "free some space and try again; what was there before is untouched"
    elif isinstance(error, FileNotFoundError):
        hint = f"is there a folder {path.parent}?"
    else:
        hint = f"check the permissions of {path.parent}, or name another place"
    return CheckpointError(f"cannot write {path}: {reason}", hint)
