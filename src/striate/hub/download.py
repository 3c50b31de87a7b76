"""Fetching a file of weights once: into torch's own cache, whole, and checked every time it is used."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from striate.errors import CheckpointError, OfflineError
from striate.progress import Progress, Silent
from striate.version import __version__

CACHE_VARIABLE = "STRIATE_CACHE"
ATTEMPTS = 3  # of a download that breaks off; each goes on where the last one stopped
_PAUSE = 1.0  # seconds before another attempt
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 2**20
_WHOLE = 64  # hexadecimal digits of a sha256
_POINTED = "/resolve/"  # in the addresses of Hugging Face
_MEGABYTE = 10**6


def cache_folder() -> Path:
    """Where weights are kept: `$STRIATE_CACHE/weights`, else where torch.hub keeps them, so that both share files."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser() / "weights"
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def fetched(
    url: str, name: str, sha256: str = "", *, spelling: str, offline: bool = False, progress: Progress | None = None
) -> Path:
    """The file behind `url`, from the cache or the network.

    Args:
        url: where it is published.
        name: of the file in the cache.
        sha256: its checksum, or the beginning of it; checked whether the file is new or not.
        spelling: `MODEL:WEIGHTS` as the user wrote it, for the messages.
        offline: never use the network.
        progress: is told of the download in megabytes.

    Raises:
        OfflineError: it is not in the cache, or damaged there, and the network may not be used or fails.
        CheckpointError: what came is not what was published, or cannot be written.
    """
    progress = progress or Silent()
    place = cache_folder() / name
    beside = place.with_name(f"{place.name}.sha256")  # for publishers that give checksums apart from names
    if not sha256 and beside.is_file():
        sha256 = beside.read_text(encoding="ascii").strip()
    if place.is_file():
        if _matches(place, sha256):
            return place
        differs = f"its checksum is {_digest(place)[: len(sha256)]} instead of {sha256}" if sha256 else "it is empty"
        if offline:
            raise OfflineError(
                f"the file {place} is damaged ({differs}); --offline forbids fetching it again",
                _by_hand(url, place, spelling),
            )
        progress.warn(f"{place} is not what was published ({differs}): fetching it again")
    if offline:
        raise OfflineError(
            f"the weights {spelling} are not on this machine, and --offline forbids fetching them",
            _by_hand(url, place, spelling),
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _part(place) as part:
            progress.say(f"fetching {url} to {place}")
            if not sha256 and _POINTED in url:
                sha256 = _checksum_of(url, place, spelling)
            _download(url, part, place, spelling, progress)
            if not _matches(part, sha256):
                part.unlink()
                raise CheckpointError(
                    f"what {url} sent is not the published file: its checksum differs",
                    "something between here and there changed it, such as a proxy's page; "
                    + _by_hand(url, place, spelling),
                )
            if len(sha256) == _WHOLE:
                beside.write_text(sha256 + "\n", encoding="ascii")
            os.replace(part, place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(
            f"cannot keep the weights in {place.parent}: {reason}",
            f"free some space, or name another folder in {CACHE_VARIABLE}",
        ) from error
    return place


def reachable(url: str, seconds: float = 3.0) -> bool:
    """Whether `url` answers within `seconds`, of which the search for its address is part."""
    answers: list[bool] = []

    def ask() -> None:
        request = Request(url, headers={"User-Agent": f"striate/{__version__}"}, method="HEAD")
        with suppress(OSError, HTTPException), urlopen(request, timeout=seconds) as answer:
            answers.append(answer.status == 200)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return bool(answers and answers[0])


def _by_hand(url: str, place: Path, spelling: str) -> str:
    model = spelling.rpartition(":")[0]
    return f"fetch {url} on a machine with a network and put it at {place}, or give the file itself: {model}:FILE"


def _matches(path: Path, sha256: str) -> bool:
    if not sha256:
        return path.stat().st_size > 0
    return _digest(path).startswith(sha256)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Broken(Exception):
    """The connection ended early; what came is kept."""


def _checksum_of(url: str, place: Path, spelling: str) -> str:
    """Hugging Face keeps large files by their sha256, and shows it in place of the raw file."""

    def read() -> str:
        request = Request(url.replace(_POINTED, "/raw/"), headers={"User-Agent": f"striate/{__version__}"})
        with urlopen(request, timeout=_TIMEOUT) as answer:
            return answer.read(1024).decode("ascii", "replace")

    found = re.search(rf"sha256:([0-9a-f]{{{_WHOLE}}})", _tried(read, url, place, spelling))
    return found[1] if found else ""


def _download(url: str, part: Path, place: Path, spelling: str, progress: Progress) -> None:
    _tried(lambda: _attempt(url, part, progress), url, place, spelling)


def _tried(step: Callable[[], Any], url: str, place: Path, spelling: str) -> Any:
    """Do something that needs the network, a few times if need be.

    Raises:
        OfflineError: it fails all the same.
    """
    reason = ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return step()
        except HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}".strip()
            if error.code < 500 and error.code not in (408, 429):  # asking again would not help
                break
        except (_Broken, HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        except OSError as error:  # urllib's own errors: no such host, no route
            if type(error).__module__.startswith("urllib") or type(error).__name__ in ("gaierror", "SSLError"):
                reason = str(getattr(error, "reason", error))
            else:  # the disk's
                raise
        if attempt < ATTEMPTS:
            time.sleep(_PAUSE * attempt)
    raise OfflineError(
        f"the weights {spelling} could not be fetched: {reason}",
        _by_hand(url, place, spelling),
    )


def _attempt(url: str, part: Path, progress: Progress) -> None:
    """Fetch what is still missing of the file; a server that cannot start in the middle sends all of it again."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"striate/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and have:  # nothing after that: it was whole, or another file's
            part.unlink()
            raise _Broken("what was kept of an earlier download did not fit") from error
        raise
    with answer, open(part, "ab" if answer.status == 206 else "wb") as file:
        start = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        title = f"fetching {url.rsplit('/', 1)[1]} (MB)"
        with progress.task(title, -(-total // _MEGABYTE) if total else None) as task:
            got = _copied(answer, file, start, task)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and got != total:
        raise _Broken(f"the connection ended after {got:,} of {total:,} bytes")


def _copied(answer: Any, file: IO[bytes], start: int, task: Any) -> int:
    got = start
    task.advance(start // _MEGABYTE)
    while block := answer.read(_BLOCK):
        file.write(block)
        task.advance((got + len(block)) // _MEGABYTE - got // _MEGABYTE)
        got += len(block)
    return got


@contextmanager
def _part(place: Path) -> Iterator[Path]:
    """Where the download grows: one name that a later attempt goes on with, or a private one while another is at it."""
    shared = place.with_name(f".{place.name}.part")
    lock = _locked(place.with_name(f".{place.name}.lock"))
    if lock is not None:
        try:
            yield shared
        finally:
            with suppress(OSError):
                os.unlink(place.with_name(f".{place.name}.lock"))
            os.close(lock)
        return
    private = place.with_name(f".{place.name}.{os.getpid()}-{threading.get_native_id()}.part")
    try:
        yield private
    finally:
        with suppress(OSError):
            os.unlink(private)


def _locked(path: Path) -> int | None:
    """A lock that ends with the process, or None where somebody else has it or the system has none."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
