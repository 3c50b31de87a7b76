"""CNN codes: what a frozen network makes of images at every place it can be cut, kept on disk by content.

One forward pass gives the codes of all places. `$STRIATE_CACHE/codes`, by default `~/.cache/striate/codes`, has a
folder for each network (parameters, input, precision, kind of device, versions); its files hold the codes of images by
the digest of their content. So a second probe, one of other folds, and one of the same images with a few more compute
what is new. Files are written under a name of their own and renamed once they are whole; they are never changed, so
that runs side by side at worst keep the same codes twice. What has not been used for the longest time makes room.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as as_safetensors

from striate.checkpoint import SavedModel
from striate.checkpoint.atomic import new_file
from striate.data import EvaluationBatches, Split, TensorImages
from striate.data.canvases import CACHE_VARIABLE, decoder_version
from striate.data.parts import part_of
from striate.data.scan import array_digests
from striate.errors import CheckpointError, ModelError
from striate.inference import place as put_on
from striate.inference.engine_cache import network_key
from striate.models import cut
from striate.network.engines import usual_batch
from striate.progress import Progress, Silent, Task
from striate.runtime import autocast, pick_device, resolve_precision
from striate.transfer.similarity import StatisticsWatch

RULES = 1  # to be raised whenever the same network gives other codes for the same image
PIXELS = "pixels"  # the shrunken image itself, beside the places of the network
LARGEST_CACHE = 4 * 2**30  # bytes, or a tenth of what is free
_SUFFIX, _DIGESTS, _RECORD = ".codes", "digests", "striate"
_ABANDONED = 24 * 3600.0  # seconds after which what a killed writer left behind goes
_PART = 8192  # images that are computed and written down at a time
_TELLING = 32  # images that tell what one costs
_MOST_PIXELS = 1024  # values of a shrunken image


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """The codes of n images at every place."""

    places: tuple[str, ...]  # shallow to deep
    by_place: dict[str, np.ndarray]  # float32 [n, D]
    pixels: np.ndarray  # float32 [n, P]: the normalised images, averaged over the cells of a grid
    targets: np.ndarray  # int64 [n]
    indices: np.ndarray  # int64 [n]: positions in the split
    statistics: float | None  # closeness of what batch norms saw to their training, 0 to 1; None where there are none
    seconds_forward: float
    seconds_per_image: float  # what one costs that is not in the cache, now or when they were computed
    from_cache: bool  # nothing had to be computed

    def __len__(self) -> int:
        return len(self.targets)


def code_folder() -> Path:
    """Where codes are kept.

    Raises:
        RuntimeError: nobody says where, and the user has no home.
    """
    root = os.environ.get(CACHE_VARIABLE)
    return (Path(root).expanduser() if root else Path("~/.cache/striate").expanduser()) / "codes"


def codes_of(
    saved: SavedModel,
    split: Split,
    *,
    places: Sequence[str] | None = None,
    precision: str = "auto",
    device: str | torch.device = "auto",
    indices: np.ndarray | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Codes:
    """The codes of images, from the cache or by one forward pass in evaluation mode.

    Args:
        saved: the network and what it is fed; it is moved to `device` and stays there.
        split: where the images are.
        places: see `models.cut.places`; None: all.
        precision: `fp32`, `bf16`, `fp16`, or `auto`.
        device: see `pick_device`.
        indices: int [n], positions in the split; None: all.
        cache: a folder such as `code_folder()`; None keeps nothing. One that cannot be written to is said to
            `progress`, and the codes are computed all the same.
        progress: shows a bar over the images.

    Raises:
        ModelError: no such place, or codes that are no finite numbers.
        UsageError: no such device, or a precision that it does not have.
        DataError: an image changed since the data were loaded.
    """
    progress = progress or Silent()
    on = pick_device(device) if isinstance(device, str) else device
    precision = resolve_precision(precision, on)
    there = cut.places(saved.model)
    wanted = there if places is None else tuple(place for place in there if place in set(places))
    if places is not None and (unknown := set(places) - set(there)):
        name = saved.model.architecture.name
        raise ModelError(f"{name} has no place {min(unknown)!r}", f"it has: {', '.join(there)}")
    rows = np.arange(len(split)) if indices is None else np.asarray(indices, dtype=np.int64)
    digests = _digests(split, rows) if cache is not None else None
    kept: _Kept | None = None
    if cache is not None and digests is not None:
        kept = _Kept(cache / _key(saved, precision, on), (*wanted, PIXELS), [one.tobytes() for one in digests])
    missing = kept.missing if kept is not None else np.arange(len(rows))
    statistics = kept.statistics if kept is not None else None
    per_image = kept.seconds_per_image if kept is not None else None
    found = kept.found if kept is not None else {}
    seconds = 0.0
    if len(missing):
        # so that the first images are of all classes
        order = missing[np.random.default_rng(0).permutation(len(missing))]
        room = _Room(cache, progress) if cache is not None else None
        with progress.task(f"codes of {saved.model.architecture.name}", len(missing)) as task:
            for some in np.split(order, range(_PART, len(order), _PART)):
                started = time.perf_counter()
                fresh, seen = _computed(saved, split, rows[some], wanted, precision, on, task)
                took = time.perf_counter() - started
                seconds += took
                statistics = seen if statistics is None else statistics
                _put(found, some, fresh, len(rows))
                if kept is not None and room is not None:
                    room.keep(kept, some, fresh, statistics, took / len(some))
        if per_image is None or len(missing) >= _TELLING:
            per_image = seconds / len(missing)
    joined = {place: found.get(place, np.zeros((len(rows), 0), np.float32)) for place in (*wanted, PIXELS)}
    _require_finite(saved, joined, precision)
    return Codes(
        places=wanted, by_place={place: joined[place] for place in wanted}, pixels=joined[PIXELS],
        targets=np.asarray(split.targets, dtype=np.int64)[rows], indices=rows, statistics=statistics,
        seconds_forward=seconds, seconds_per_image=per_image or 0.0, from_cache=not len(missing) and bool(len(rows)),
    )  # fmt: skip


def pixel_codes(images: torch.Tensor) -> torch.Tensor:
    """Images [B, C, H, W] averaged over the cells of a grid that gives at most 1024 values: float32 [B, C*g*g]."""
    channels, height, width = images.shape[1:]
    grid = max(1, min(int((_MOST_PIXELS / channels) ** 0.5), height, width))
    return F.adaptive_avg_pool2d(images.float().contiguous(), grid).flatten(1)


# computing ------------------------------------------------------------------------------------------------------------


def _computed(
    saved: SavedModel, split: Split, rows: np.ndarray, places: Sequence[str], precision: str, on: torch.device,
    task: Task,
) -> tuple[dict[str, np.ndarray], float | None]:  # fmt: skip
    """Codes by place, in the order of `rows`, and how close the statistics of batch norms are to their training's."""
    batches = EvaluationBatches(
        part_of(split, rows), saved.spec, batch_size=usual_batch(saved.spec), device=on, channels_last=True
    )  # fmt: skip
    put_on(saved.model, on)
    found: dict[str, np.ndarray] = {}
    watch = StatisticsWatch(saved.model)
    with _evaluating(saved.model), watch, torch.inference_mode():
        for batch in batches:
            with autocast(on, precision):
                codes = cut.pooled_codes(saved.model, batch.images, places)
            watch.batch_done(len(batch.indices))
            for place, values in {**codes, PIXELS: pixel_codes(batch.images)}.items():
                if place not in found:
                    found[place] = np.empty((len(rows), values.shape[1]), np.float32)
                found[place][batch.indices] = values.float().cpu().numpy()
            task.advance(len(batch.indices))
    return found, watch.closeness


def _put(found: dict[str, np.ndarray], at: np.ndarray, values: dict[str, np.ndarray], count: int) -> None:
    """Write codes to their positions among those of `count` images."""
    for place, some in values.items():
        if place not in found:
            found[place] = np.empty((count, some.shape[1]), np.float32)
        found[place][at] = some


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """In evaluation mode inside, as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _require_finite(saved: SavedModel, codes: dict[str, np.ndarray], precision: str) -> None:
    for place, values in codes.items():
        if not np.isfinite(values).all():
            hint = (
                "--precision fp32 has a wider range" if precision == "fp16" else "are its weights what they should be?"
            )
            raise ModelError(f"{saved.model.architecture.name} gives no finite numbers at {place}", hint)


# the cache ------------------------------------------------------------------------------------------------------------


class _Kept:
    """The codes that one network's folder has of images with `digests`; read once, when it is made."""

    def __init__(self, folder: Path, places: Sequence[str], digests: list[bytes]) -> None:
        self.folder, self.places, self.digests = folder, places, digests
        self.statistics: float | None = None
        self.seconds_per_image: float | None = None
        self.found: dict[str, np.ndarray] = {}  # by place, float32 [n, D]; what is missing is not filled in
        at: dict[bytes, list[int]] = {}
        for position, digest in enumerate(digests):
            at.setdefault(digest, []).append(position)
        for path in _files(folder):
            if not at:
                break
            self._read(path, at)
        self.missing = np.array(sorted(one for positions in at.values() for one in positions), dtype=np.int64)

    def _read(self, path: Path, wanted: dict[bytes, list[int]]) -> None:
        """Take what `path` has of `wanted`; a file that is gone, damaged or of other places has nothing."""
        try:
            with safe_open(path, framework="numpy") as file:
                record = json.loads(file.metadata()[_RECORD])
                if not set(self.places) <= set(record["crc"]):
                    return
                digests = _checked(file.get_tensor(_DIGESTS), record["crc"][_DIGESTS])
                rows = {row.tobytes(): number for number, row in enumerate(digests)}
                found = [digest for digest in wanted if digest in rows]
                if not found:
                    return
                values = {place: _checked(file.get_tensor(place), record["crc"][place]) for place in self.places}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return
        positions = np.array([position for digest in found for position in wanted[digest]], dtype=np.int64)
        taken = np.array([rows[digest] for digest in found for _ in wanted[digest]], dtype=np.int64)
        _put(self.found, positions, {place: values[place][taken] for place in self.places}, len(self.digests))
        if self.statistics is None:
            self.statistics = record["statistics"]
        if self.seconds_per_image is None:
            self.seconds_per_image = record.get("seconds_per_image")
        for digest in found:
            del wanted[digest]
        with suppress(OSError):
            os.utime(path)  # what was used lately stays longest

    def add(
        self, missing: np.ndarray, fresh: dict[str, np.ndarray], statistics: float | None, per_image: float = 0.0
    ) -> None:
        """Keep new codes: a file of its own, named after the images and places.

        Raises:
            CheckpointError, OSError: it cannot be written.
        """
        digests = np.frombuffer(b"".join(self.digests[one] for one in missing), np.uint8).reshape(len(missing), -1)
        tensors = {_DIGESTS: digests, **{place: np.ascontiguousarray(fresh[place]) for place in self.places}}
        name = hashlib.sha256(digests.tobytes() + json.dumps(list(self.places)).encode()).hexdigest()[:16]
        checks = {key: zlib.crc32(values.data) for key, values in tensors.items()}
        record = {"crc": checks, "statistics": statistics, "seconds_per_image": per_image or None}
        self.folder.mkdir(parents=True, exist_ok=True)
        with new_file(self.folder / f"{name}{_SUFFIX}") as file:
            file.write(as_safetensors(tensors, {_RECORD: json.dumps(record)}))
            file.publish(self.folder / f"{name}{_SUFFIX}")


class _Room:
    """The room that the codes of one pass may take: half of all there is, so that other codes stay."""

    def __init__(self, cache: Path, progress: Progress) -> None:
        self.cache, self.progress = cache, progress
        self._left: int | None = None  # not known yet
        self._full = False

    def keep(
        self, kept: _Kept, at: np.ndarray, fresh: dict[str, np.ndarray], statistics: float | None, per_image: float
    ) -> None:
        """Write codes down, where there is room for them."""
        if self._full:
            return
        try:
            kept.folder.mkdir(parents=True, exist_ok=True)
            limit = _limit(self.cache)
            self._left = limit // 2 if self._left is None else self._left
            self._left -= sum(values.nbytes for values in fresh.values())
            if self._left < 0:
                self._full = True
                self.progress.say(f"from here codes are not kept: half the cache is {limit / 2**31:.1f} GiB")
                return
            kept.add(at, fresh, statistics, per_image)
            _make_room(self.cache, limit)
        except (OSError, CheckpointError) as error:
            self._full = True
            self.progress.warn(f"codes are not kept: {error}")


def _key(saved: SavedModel, precision: str, on: torch.device) -> str:
    about = [RULES, network_key(saved.model, saved.spec), precision, on.type, decoder_version()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _digests(split: Split, rows: np.ndarray) -> np.ndarray | None:
    """uint8 [n, 16] of the images' content; None where that is not known."""
    known = len(split.digests) == len(split)
    if not isinstance(split.images, TensorImages):
        return split.digests[rows] if known else None
    pixels = split.images.pixels
    found = split.digests[rows] if known else array_digests(pixels[rows])
    # the same bytes in another shape are another image
    shape = np.frombuffer(np.array(pixels.shape[1:], "<i8").tobytes(), np.uint8)
    return array_digests(np.concatenate([found, np.tile(shape, (len(found), 1))], axis=1))


def _checked(values: np.ndarray, crc: int) -> np.ndarray:
    if zlib.crc32(np.ascontiguousarray(values).data) != crc:
        raise ValueError("damaged")
    return values


def _files(folder: Path) -> list[Path]:
    """The files of a network, the ones used last first."""
    return [path for _, _, path in sorted(_listed(folder.glob(f"*{_SUFFIX}")), reverse=True)]


def _listed(paths: Iterator[Path]) -> Iterator[tuple[float, int, Path]]:
    """Time of the last use, bytes and path of each that is there."""
    for path in paths:
        with suppress(OSError):
            facts = path.stat()
            yield facts.st_mtime, facts.st_size, path


def _limit(cache: Path) -> int:
    used = sum(size for _, size, _ in _listed(cache.glob(f"*/*{_SUFFIX}")))
    return min(LARGEST_CACHE, (shutil.disk_usage(cache).free + used) // 10)


def _make_room(cache: Path, limit: int) -> None:
    """Delete what was used longest ago until the rest is within `limit`, and what killed writers have left."""
    for used, _, path in _listed(cache.glob("*/.*.part")):
        if time.time() - used > _ABANDONED:
            path.unlink(missing_ok=True)
    total = 0
    for _, size, path in sorted(_listed(cache.glob(f"*/*{_SUFFIX}")), reverse=True):
        total += size
        if total > limit:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it
                path.parent.rmdir()
