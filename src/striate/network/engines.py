"""A network made ready to run: by which back end, in which precision, built or from the cache, and why.

`auto` takes what answers soonest: torch for a few images, since even reading an engine that was built before takes a
second; such an engine for more; a new one where so many images come that building it pays; else torch. A single image
never waits for an export. What was taken and why is said, and is in `Ready.to_dict`. Any engine but torch in float32 is
compared with that on the first images it is given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from striate.checkpoint import SavedModel
from striate.errors import CheckpointError, MissingExtraError
from striate.hub.download import cache_folder
from striate.inference.engine_cache import EngineCache, graph_key, is_kept
from striate.inference.engines import ABLE, Engine, check_choice, installed, open_engine
from striate.inference.forward import forward, place
from striate.inference.parity import IMAGES, Parity, compare
from striate.metrics import probabilities
from striate.network.calibration import calibration_for
from striate.progress import Progress, Silent
from striate.runfolder import is_run
from striate.runtime import pick_device, resolve_precision
from striate.spec import InputSpec

BACKEND_CHOICES = ("auto", "torch", "onnxruntime", "openvino")
_PREFERRED = ("openvino", "onnxruntime")  # the quicker one first: benchmarks/inference.py
_BUILD_SECONDS = 30.0  # to export, read and compile, imports included; ResNet-50 takes 20 on two cores
_SPARED = 0.4  # of torch's time, by an engine in the same precision; from 1.5 to 2.5 times as fast in the benchmark
_OPENED_FROM = 32  # images: an engine that was built before takes 0.4 to 0.9 s to read, and spares 6 to 20 ms of each
_PROBED_FROM = 256  # images: below, even timing one pass is not worth it
_FOLDED_FROM = 64  # images: folding costs about one pass and saves a few per cent of each


class Ready:
    """A network that is run by some engine. `why` is what `auto` went by, or who asked for it."""

    def __init__(
        self, saved: SavedModel, engine: Engine | None, precision: str, device: torch.device, why: str,
        cache: EngineCache | None, progress: Progress,
    ) -> None:  # fmt: skip
        self.saved, self.engine, self.device, self.why = saved, engine, device, why
        self.backend = engine.backend if engine is not None else "torch"
        self.precision = precision
        self.parity: Parity | None = engine.parity if engine is not None else None
        self._cache, self._progress = cache, progress
        self._compared = self.backend == "torch" and precision == "fp32"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, C, H, W] -> logits float32 [B, classes], on torch's device or the processor."""
        logits = self._logits(images)
        if not self._compared and len(images):
            self._compared = True
            self._compare(images[:IMAGES], logits[:IMAGES])
        return logits

    def to_dict(self) -> dict[str, Any]:
        """The object `engine` of `--json`; the comparison is null for torch in float32, which it is made with."""
        parity = self.parity
        return {
            "backend": self.backend,
            "precision": self.precision,
            "why": self.why,
            "top1_agreement": parity.top1_agreement if parity else None,
            "largest_difference": parity.largest_difference if parity else None,
            "largest_logit_difference": parity.largest_logit_difference if parity else None,
            "images": parity.images if parity else None,
        }

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        if self.engine is not None:
            return self.engine(images)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return forward(self.saved.model, images, self.precision)

    def _compare(self, images: torch.Tensor, logits: torch.Tensor) -> None:
        """Measure parity where it was not yet, or on fewer images, and say it."""
        if self.parity is None or self.parity.images < len(images):
            with torch.inference_mode():
                expected = forward(self.saved.model, images.contiguous(memory_format=torch.channels_last), "fp32")
            self.parity = compare(logits, expected, probabilities)
            if self._cache is not None and self.engine is not None and self.engine.key is not None:
                self._cache.write_parity(self.engine.key, self.backend, self.precision, self.parity)
        words = f"{self.backend} {self.precision}: {self.parity.in_words()}"
        if self.parity.alarming:
            self._progress.warn(f"{words}; --precision fp32 is exact, other --calibration images may do better")
        else:
            self._progress.say(words)


def make_ready(
    saved: SavedModel,
    *,
    backend: str = "auto",
    precision: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    calibration: str | Path | None = None,
    images: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Ready:
    """The network of `saved`, ready to run.

    Args:
        saved: its model is moved to the device that torch would use.
        backend: `auto`, or one of `inference.engines.BACKENDS`.
        precision: `fp32`, `bf16`, `fp16` (GPU), `int8`, or `auto`: the fastest floating-point one of the device.
        device: see `pick_device`; the back ends other than torch have the processor only.
        threads: of back ends other than torch; None for one per core.
        calibration: images for int8; None takes those that the network of a run was trained on.
        images: how many will come, as far as is known; None counts as few.
        offline: never use the network.
        progress: is told what was taken, why, and how it compares.

    Raises:
        UnknownNameError, UsageError, MissingExtraError, ModelError, CheckpointError: see `open_engine`.
        DataError: no image to calibrate by can be read.
    """
    progress = progress or Silent()
    on = pick_device("cpu" if device == "auto" and backend in _PREFERRED else device)
    if precision == "int8" and device == "auto" and backend == "auto":
        on = torch.device("cpu")
    precision = "int8" if precision == "int8" else resolve_precision(precision, on)
    cache = EngineCache(engines_folder(saved))
    place(saved.model, on)
    why = "as asked"
    if backend == "auto":
        backend, why = _chosen(saved, precision, on, cache, images)
        progress.say(f"computing with {backend} in {precision}: {why}")
    check_choice(backend, precision, on)
    engine = None
    if backend != "torch" or why == "as asked" or (images or 0) >= _FOLDED_FROM:
        engine = _opened(saved, backend, precision, on, threads, cache, calibration, offline, progress)
    return Ready(saved, engine, precision, on, why, cache, progress)


def engines_folder(saved: SavedModel) -> Path:
    """Where the engines of a network are kept: in its run folder, else beside the weights that were fetched."""
    run = run_of(saved)
    return (run / "engines") if run is not None else cache_folder().parent / "engines"


def run_of(saved: SavedModel) -> Path | None:
    """The run folder that the model file is in."""
    folder = saved.path.parent
    return folder if saved.path.name and is_run(folder) else None


def usual_batch(spec: InputSpec) -> int:
    """Images passed at once: a power of two from 16 to 256, so that a batch holds about five million numbers.

    Larger ones only fill memory: above 16 photos of 224 pixels the time for each hardly falls.
    """
    values = spec.channels * spec.size[0] * spec.size[1]
    return max(16, min(256, 1 << max(0, (5_000_000 // values).bit_length() - 1)))


def _opened(
    saved: SavedModel, backend: str, precision: str, device: torch.device, threads: int | None, cache: EngineCache,
    calibration: str | Path | None, offline: bool, progress: Progress,
) -> Engine:  # fmt: skip
    given = None
    if precision == "int8":
        given = calibration_for(run_of(saved), calibration, saved.spec, offline=offline, progress=progress)
    able = precision != "int8" or given is not None
    if backend != "torch" and able and not _kept(saved, precision, cache, given):
        progress.say(f"building an engine for {backend} in {precision}: once, half a minute or so")

    def opened(folder: Path | None) -> Engine:
        return open_engine(
            saved.model, saved.spec, saved.labels, backend=backend, precision=precision, device=device,
            threads=threads, cache=folder, calibration=given,
        )  # fmt: skip

    try:
        return opened(cache.folder)
    except CheckpointError as error:  # a folder that cannot be written to: an engine for this time only
        progress.warn(f"{error.message}: it is built anew each time")
        return opened(None)


def _chosen(
    saved: SavedModel, precision: str, device: torch.device, cache: EngineCache, images: int | None
) -> tuple[str, str]:
    """The back end that `auto` takes, and why."""
    able = [name for name in _PREFERRED if precision in ABLE[name]]
    if device.type != "cpu":
        return "torch", f"the others have no {device.type}"
    running = [name for name in able if installed(name, building=False)]
    if precision == "int8":
        if not running:
            raise MissingExtraError("int8", "openvino", "export")
        return running[0], "int8 was asked for"
    if not running:
        return "torch", "openvino and onnxruntime are not installed"
    few = "an unknown number of images" if images is None else f"{images} image{'s' * (images != 1)}"
    if images is not None and images < _OPENED_FROM:
        return "torch", f"for {few} it is ready soonest"
    if _kept(saved, precision, cache, None):
        return running[0], "its engine was built before"
    if images is None or images < _PROBED_FROM:
        return "torch", f"for {few} no engine is built"
    ready = next((name for name in running if installed(name, building=True)), None)
    if ready is None:
        return "torch", "building an engine needs the packages of striate[export]"
    seconds = _seconds_of_one(saved, precision, device)
    would = f"{images:,} images of {1000 * seconds:.3g} ms each"
    if images * seconds * _SPARED > _BUILD_SECONDS:
        return ready, f"{would} pay for building an engine"
    return "torch", f"{would} do not pay for building an engine"


def _kept(saved: SavedModel, precision: str, cache: EngineCache, calibration: Any) -> bool:
    if not cache.folder.is_dir():  # the network's digest takes a while
        return False
    key = graph_key(saved.model, saved.spec, precision, calibration, cache)
    return key is not None and is_kept(cache, key)


def _seconds_of_one(saved: SavedModel, precision: str, device: torch.device) -> float:
    """The quickest of three passes of one image."""
    image = torch.zeros(_shape(saved.spec), device=device).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            forward(saved.model, image, precision)
            times.append(time.perf_counter() - start)
    return min(times)


def _shape(spec: InputSpec) -> Sequence[int]:
    return (1, spec.channels, *spec.size)
