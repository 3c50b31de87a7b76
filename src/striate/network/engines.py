"""A network made ready to run: by which back end, in which precision, built or from the cache, and why.

`auto` takes what answers soonest: torch for a few images, since even reading an engine that was built before takes a
while; such an engine for more; a new one where so many images come that building it pays; else torch. A single image
never waits for an export. A back end that `auto` took makes way for torch where it fails, at once or later. What was
taken and why is said, and is in `Ready.to_dict`. Any engine but torch in float32 is compared with that, on images
spread over a split or on the first ones it is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from striate.checkpoint import SavedModel
from striate.errors import CheckpointError, MissingExtraError, ModelError, StriateError, UsageError
from striate.hub.download import cache_folder
from striate.inference.engine_cache import EngineCache, Known, known_graph
from striate.inference.engines import ABLE, Engine, check_choice, installed, open_engine
from striate.inference.forward import forward, place
from striate.inference.parity import IMAGES, Parity, compare
from striate.inference.quantise import Calibration
from striate.metrics import probabilities
from striate.network.calibration import calibration_for
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder, is_run
from striate.runtime import pick_device, resolve_precision
from striate.spec import InputSpec

BACKEND_CHOICES = ("auto", "torch", "onnxruntime", "openvino")
_PREFERRED = ("openvino", "onnxruntime")  # the quicker one first: benchmarks/inference.py
_BUILD_SECONDS = 30.0  # assumed for exporting, reading and compiling it, imports included
_SPARED = 0.4  # of torch's time, assumed of an engine in the same precision
_OPENED_FROM = 32  # images: below, reading an engine that was built before takes longer than it spares
_PROBED_FROM = 256  # images: below, even timing one pass is not worth it
_FOLDED_FROM = 64  # images: folding costs about one pass and saves a little of each
_FAILURES = (ModelError, MissingExtraError, ImportError, RuntimeError)  # of a back end, to which `auto` has an answer


class Ready:
    """A network that is run by some engine. `why` is what `auto` went by, or who asked for it.

    With `may_change`, torch takes over where the engine fails on the way.
    """

    def __init__(
        self, saved: SavedModel, engine: Engine | None, precision: str, device: torch.device, why: str,
        cache: EngineCache | None, progress: Progress, *, may_change: bool = False,
    ) -> None:  # fmt: skip
        self.saved, self.engine, self.device, self.why = saved, engine, device, why
        self.backend = engine.backend if engine is not None else "torch"
        self.precision = precision
        self.parity: Parity | None = engine.parity if engine is not None else None
        self.measured = "earlier" if self.parity is not None else None  # when the parity was: or "now"
        self._cache, self._progress = cache, progress
        self._compared = self.backend == "torch" and precision == "fp32"
        self._may_change = may_change and self.backend != "torch"
        self._answered = 0  # images

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, C, H, W] -> logits float32 [B, classes], on torch's device or the processor."""
        logits = self._logits(images)
        if not self._compared and len(images):
            self._compared = True
            if self._wants(min(len(images), IMAGES)):
                self._compare(logits[:IMAGES], self._expected(images[:IMAGES]))
            self._report()
        return logits

    def compare_on(self, count: int, take: Callable[[Sequence[int]], torch.Tensor]) -> None:
        """Compare on images spread evenly over `count` of them, instead of on the first that come.

        `take` gives normalised images [B, C, H, W] at positions below `count`, on the device of the network; it is
        only asked where a comparison is due.
        """
        if self._compared or not count:
            return
        self._compared = True
        most = min(count, IMAGES)
        if self._wants(most):
            positions = [number * count // most for number in range(most)]
            step = usual_batch(self.saved.spec)
            parts = [take(positions[start : start + step]) for start in range(0, most, step)]
            backend = self.backend
            given, expected = [self._logits(part) for part in parts], [self._expected(part) for part in parts]
            if self.backend != backend:  # some of the answers are those of the engine that failed
                self.compare_on(count, take)
                return
            self._compare(torch.cat(given), torch.cat(expected))
        self._report()

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
            "measured": self.measured,
        }

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        if self.engine is not None:
            try:
                logits = self.engine(images)
            except ModelError as error:
                if not self._may_change:
                    raise
                self._change_to_torch(error)
                return self._logits(images)
            self._answered += len(images)
            return logits
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return forward(self.saved.model, images, self.precision)

    def _change_to_torch(self, error: ModelError) -> None:
        """Torch takes over, in the same precision; whether it has to be compared is open again."""
        self.why = f"{self.backend} failed after {self._answered:,} images: {error.message}"
        self._progress.warn(f"going on with torch in {self.precision}: {self.why}")
        self.engine, self.backend, self._may_change = None, "torch", False
        self.parity, self.measured, self._compared = None, None, self.precision == "fp32"

    def _expected(self, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return forward(self.saved.model, images.contiguous(memory_format=torch.channels_last), "fp32")

    def _wants(self, images: int) -> bool:
        """Whether there is no comparison yet, or one on fewer images."""
        return self.parity is None or self.parity.images < images

    def _compare(self, given: torch.Tensor, expected: torch.Tensor) -> None:
        """Measure the parity and keep it with the engine."""
        saved = self.saved
        chances = partial(probabilities, temperature=saved.temperature, multi_label=saved.labels.multi_label)
        self.parity, self.measured = compare(given, expected, chances), "now"
        if self._cache is not None and self.engine is not None and self.engine.key is not None:
            self._cache.write_parity(self.engine.key, self.backend, self.precision, self.parity)

    def _report(self) -> None:
        if self.parity is None:
            return
        words = f"{self.backend} {self.precision}: {self.parity.in_words()}"
        if self.parity.alarming:
            self._progress.warn(f"{words}; --precision fp32 is exact, other --calibration images may do better")
        else:
            self._progress.say(words)


def make_ready(
    saved: SavedModel,
    *,
    backend: str = "auto",
    precision: str | None = "fp32",
    recorded: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    calibration: str | Path | None = None,
    images: int | None = None,
    views: int = 1,
    offline: bool = False,
    progress: Progress | None = None,
) -> Ready:
    """The network of `saved`, ready to run.

    Args:
        saved: its model is moved to the device that torch would use.
        backend: `auto`, or one of `inference.engines.BACKENDS`.
        precision: `fp32`, `bf16`, `fp16` (GPU), `int8`, or `auto`: the fastest floating-point one that device and back
            end have. None takes `recorded`.
        recorded: the precision of the run, which gives way to `fp32` where device or back end do not have it.
        device: see `pick_device`; the back ends other than torch have the processor only.
        threads: of back ends other than torch; None for `thread_limit`.
        calibration: images for int8; None takes those that the network of a run was trained on.
        images: how many will come; where that is not known (None), an engine that was built before is taken, but none
            is built.
        views: passes for each image.
        offline: never use the network.
        progress: is told what was taken, why, and how it compares.

    Raises:
        UnknownNameError, UsageError, MissingExtraError, ModelError, CheckpointError: see `open_engine`; where `auto`
            took the back end, torch takes the place of one that cannot be built or opened, but not in int8.
        DataError: no image to calibrate by can be read.
    """
    progress = progress or Silent()
    check_calibration(calibration, precision)
    on = pick_device("cpu" if device == "auto" and backend in _PREFERRED else device)
    if precision == "int8" and device == "auto" and backend == "auto":
        on = torch.device("cpu")
    precision = _precision(precision, recorded, backend, on, progress)
    cache = EngineCache(engines_folder(saved))
    place(saved.model, on)
    graph = _Graph(saved, precision, cache)
    chosen, why = backend, "as asked"
    if backend == "auto":
        chosen, why = _chosen(saved, precision, on, graph, images, views)
        progress.say(f"computing with {chosen} in {precision}: {why}")
    check_choice(chosen, precision, on)

    def opened(name: str) -> Engine | None:
        if name == "torch" and backend == "auto" and (images or 0) * views < _FOLDED_FROM:
            return None
        return _opened(saved, name, precision, on, threads, graph, calibration, offline, progress)

    try:
        engine = opened(chosen)
    except _FAILURES as error:
        if backend != "auto" or precision == "int8" or chosen == "torch":
            raise
        why = f"{chosen} failed: {_in_words(error)}"
        progress.warn(f"computing with torch in {precision}: {why}")
        engine = opened("torch")
    may_change = backend == "auto" and precision != "int8"  # which torch does not have
    return Ready(saved, engine, precision, on, why, cache, progress, may_change=may_change)


def check_calibration(calibration: str | Path | None, precision: str | None) -> None:
    """Images to calibrate by have a use in int8 alone.

    Raises:
        UsageError: they are given for another precision.
    """
    if calibration is not None and precision != "int8":
        raise UsageError(
            f"--calibration {calibration} is for int8, and int8 was not asked for", "add --precision int8, or leave it"
        )


def engines_folder(saved: SavedModel) -> Path:
    """Where the engines of a network are kept: in its run folder, else beside the weights that were fetched."""
    run = run_of(saved)
    return (run / "engines") if run is not None else cache_folder().parent / "engines"


def run_of(saved: SavedModel) -> Path | None:
    """The run folder that the model file is in, as its model or as a snapshot."""
    folder = saved.path.parent
    if folder.name == RunFolder(folder).snapshots.name:
        folder = folder.parent
    return folder if saved.path.name and is_run(folder) else None


def usual_batch(spec: InputSpec) -> int:
    """Images passed at once: a power of two from 16 to 256, so that a batch holds about five million numbers.

    Larger ones only fill memory: above 16 photos of 224 pixels the time for each hardly falls.
    """
    values = spec.channels * spec.size[0] * spec.size[1]
    return max(16, min(256, 1 << max(0, (5_000_000 // values).bit_length() - 1)))


class _Graph:
    """What the cache has of a network in one precision, looked up once: that reads and hashes both."""

    def __init__(self, saved: SavedModel, precision: str, cache: EngineCache) -> None:
        self.cache = cache
        self._saved, self._precision = saved, precision
        self._known: Known | None = None

    def known(self, calibration: Calibration | None) -> Known:
        """`known_graph`; only in int8 does the calibration matter, and then it is the same every time."""
        if self._known is None:
            saved = self._saved
            self._known = known_graph(saved.model, saved.spec, self._precision, calibration, self.cache)
        return self._known

    def is_kept(self, calibration: Calibration | None = None) -> bool:
        """Whether an engine needs no building."""
        return self.cache.folder.is_dir() and self.known(calibration).whole  # the network's digest takes a while


def _precision(asked: str | None, recorded: str, backend: str, device: torch.device, progress: Progress) -> str:
    """The precision to compute in: only one that was asked for by name may turn out to be an error."""
    if asked == "int8":
        return asked
    if asked is not None and asked != "auto":
        return resolve_precision(asked, device)
    wanted = asked or recorded
    whose = "" if wanted == "auto" else ", in which the network was trained"
    if wanted == "auto":
        wanted = resolve_precision(wanted, device)
    reason = None
    if not _in_hardware(wanted, device):
        reason = f"this {'processor' if device.type == 'cpu' else device.type} has no hardware for {wanted}"
    elif wanted not in ABLE.get(backend, ABLE["torch"]):  # `auto` can always take torch
        reason = f"{backend} has no {wanted}"
    if reason is None:
        return wanted
    progress.say(f"{reason}{whose}: computing in fp32")
    return "fp32"


def _in_hardware(precision: str, device: torch.device) -> bool:
    if precision == "bf16" and device.type in ("cpu", "cuda"):
        return resolve_precision("auto", device) == "bf16"
    return precision != "fp16" or device.type != "cpu"


def _opened(
    saved: SavedModel, backend: str, precision: str, device: torch.device, threads: int | None, graph: _Graph,
    calibration: str | Path | None, offline: bool, progress: Progress,
) -> Engine:  # fmt: skip
    given = None
    if precision == "int8":
        given = calibration_for(run_of(saved), calibration, saved.spec, offline=offline, progress=progress)
    able = precision != "int8" or given is not None
    if backend != "torch" and able and not graph.is_kept(given):
        progress.say(f"building an engine for {backend} in {precision}: once, half a minute or so")

    def opened(folder: Path | None) -> Engine:
        return open_engine(
            saved.model, saved.spec, saved.labels, backend=backend, precision=precision, device=device,
            threads=threads, cache=folder, calibration=given, known=graph.known(given) if backend != "torch" else None,
        )  # fmt: skip

    try:
        return opened(graph.cache.folder)
    except CheckpointError as error:  # a folder that cannot be written to: an engine for this time only
        progress.warn(f"{error.message}: it is built anew each time")
        return opened(None)


def _chosen(
    saved: SavedModel, precision: str, device: torch.device, graph: _Graph, images: int | None, views: int
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
        missing = " and ".join(able) + (" are" if len(able) > 1 else " is")
        others = "" if len(able) == len(_PREFERRED) else f", and no other has {precision}"
        return "torch", f"{missing} not installed{others}"
    if precision != "fp32" and hasattr(saved.model.head, "loss"):
        return "torch", "its outputs are no plain logits and stay in fp32, which the others do not promise"
    many = None if images is None else images * views
    few = "an unknown number of images" if images is None else f"{images:,} image{'s' * (images != 1)}"
    few += f" in {views} views" if views > 1 else ""
    if many is not None and many < _OPENED_FROM:
        return "torch", f"for {few} it is ready soonest"
    if graph.is_kept():
        return running[0], "its engine was built before"
    if many is None or many < _PROBED_FROM:
        return "torch", f"for {few} no engine is built"
    ready = next((name for name in running if installed(name, building=True)), None)
    if ready is None:
        return "torch", "building an engine needs the packages of striate[export]"
    seconds = _seconds_of_one(saved, precision, device) * views
    would = f"{few} of {1000 * seconds:.3g} ms each"
    if (images or 0) * seconds * _SPARED > _BUILD_SECONDS:
        return ready, f"{would} pay for building an engine"
    return "torch", f"{would} do not pay for building an engine"


def _in_words(error: Exception) -> str:
    text = error.message if isinstance(error, StriateError) else str(error)
    return next(iter(text.strip().splitlines()), type(error).__name__)


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
