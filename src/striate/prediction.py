"""Images to ranked classes, by the same decoding, resizing and arithmetic as an evaluation.

Threads decode ahead while the network computes; only a few batches are held at any time, so that a folder of a
million images needs no more memory than one of a hundred.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.data.given import count_paths as count_paths
from striate.data.given import expand, pixels_or_reason
from striate.data.normalise import normalise
from striate.metrics import probabilities, ranked
from striate.metrics.multi_label import USUAL_THRESHOLD
from striate.network import open_network
from striate.network.engines import make_ready, usual_batch
from striate.progress import Progress
from striate.runtime import thread_limit
from striate.spec import InputSpec, Labels, Prediction, RankedLabel

if TYPE_CHECKING:
    from PIL.Image import Image

    from striate.models import ConvNet

    Source = str | Path | bytes | np.ndarray | Image

_AHEAD = 2  # batches that may be decoded before they are needed


class Classifier:
    """A trained network, ready to be asked.

    Args:
        saved: the network with what belongs to it; it is moved to `device`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16`, `fp16` (GPU), `int8`, or `auto`: the fastest floating-point one of the device.
        backend: `torch`, `onnxruntime` or `openvino`; `auto` takes an engine that was built before, or builds one
            where so many images come that it pays, else torch. `engine.to_dict()` says what it came to, and why.
        calibration: images for int8: a folder or other data; None takes those that a run was trained on.
        threads: that decode, and of back ends other than torch; None for one per core, or fewer by OMP_NUM_THREADS.
        images: how many are expected, which `auto` goes by; None: not known (see `make_ready`).
        offline: never use the network.
        progress: is told what computes, and how its answers compare with those of torch in float32.

    Raises:
        UsageError: no such device, a precision that device or back end do not have, or nothing to calibrate by.
        UnknownNameError: no such back end.
        MissingExtraError: a package of the extra `export` is not installed.
        ModelError: a network that cannot be exported to the back end.
    """

    def __init__(
        self,
        saved: SavedModel,
        *,
        device: str = "auto",
        precision: str = "fp32",
        backend: str = "auto",
        calibration: str | Path | None = None,
        threads: int | None = None,
        images: int | None = None,
        offline: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.saved, self.threads = saved, threads
        self.engine = make_ready(
            saved, backend=backend, precision=precision, device=device, threads=threads, calibration=calibration,
            images=images, offline=offline, progress=progress,
        )  # fmt: skip
        self.device, self.precision = self.engine.device, self.engine.precision

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        device: str = "auto",
        precision: str = "fp32",
        backend: str = "auto",
        calibration: str | Path | None = None,
        threads: int | None = None,
        images: int | None = None,
        runs: str | Path = "runs",
        offline: bool = False,
        progress: Progress | None = None,
    ) -> Classifier:
        """The network that `run` spells: a run folder, its name or `latest`, a model file, `MODEL:WEIGHTS` and so on.

        `striate.network` has all spellings; `progress` is told what is fetched and what had to be changed.
        The other arguments are the class's.

        Raises:
            CheckpointError, UnknownNameError: no such run, file, network or weights, or it is damaged.
            ModelError, OfflineError: weights that do not fit, or cannot be fetched.
        """
        return cls(
            open_network(run, runs=runs, offline=offline, progress=progress), device=device, precision=precision,
            backend=backend, calibration=calibration, threads=threads, images=images, offline=offline,
            progress=progress,
        )  # fmt: skip

    @property
    def labels(self) -> Labels:
        """The class names in the order of the network's outputs."""
        return self.saved.labels

    @property
    def spec(self) -> InputSpec:
        """What the network is fed."""
        return self.saved.spec

    @property
    def model(self) -> ConvNet:
        """The network itself."""
        return self.saved.model

    def predict(
        self, images: Source | Iterable[Source], top_k: int = 5, batch_size: int | None = None
    ) -> list[Prediction]:
        """The `top_k` best classes of each image, in order; of several labels an image all that are chosen, too.

        Args:
            images: a path, a folder (all images below it), a pattern such as ``photos/**/*.jpg``, the bytes of a file,
                an array ([H, W], [H, W, C], or a stack [N, H, W, C]), a Pillow image, or any iterable of these.
            top_k: classes per image; fewer where the network has fewer.
            batch_size: images passed at once; None takes `usual_batch`: 32 photos of 224 pixels, 256 small images.

        An image that cannot be read gives a `Prediction` with its `error`; the others go on.
        """
        return list(self.iter_predict(images, top_k, batch_size))

    def iter_predict(
        self,
        images: Source | Iterable[Source],
        top_k: int = 5,
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """As `predict`, one by one and lazily: `images` is read only a few batches ahead.

        Args:
            images: see `predict`.
            top_k: see `predict`.
            batch_size: see `predict`.
            workers: threads that decode; None for the class's `threads`.
        """
        batch_size = usual_batch(self.spec) if batch_size is None else batch_size
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k = {top_k}, batch_size = {batch_size}: both must be at least 1")
        pool = ThreadPoolExecutor(workers or self.threads or thread_limit(), thread_name_prefix="striate-decode")
        try:
            waiting: deque[tuple[str, Future[np.ndarray | str]]] = deque()
            named = ((name, pool.submit(pixels_or_reason, source, self.spec)) for name, source in expand(images))
            waiting.extend(islice(named, _AHEAD * batch_size))
            while waiting:
                chunk = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                results = [(name, future.result()) for name, future in chunk]
                waiting.extend(islice(named, _AHEAD * batch_size - len(waiting)))  # decoded while the network computes
                yield from self._ranked(results, top_k)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ranked(self, results: list[tuple[str, np.ndarray | str]], top_k: int) -> Iterator[Prediction]:
        readable = [pixels for _, pixels in results if not isinstance(pixels, str)]
        rows = iter(self._answers(np.stack(readable), top_k) if readable else ())
        for name, pixels in results:
            if isinstance(pixels, str):
                yield Prediction(path=name, labels=(), error=pixels)
            else:
                yield Prediction(path=name, labels=next(rows))

    def _answers(self, pixels: np.ndarray, top_k: int) -> list[tuple[RankedLabel, ...]]:
        """The ranked labels of each image of [B, C, H, W] stored pixels."""
        stored = torch.from_numpy(pixels).to(self.device)
        if self.engine.backend == "torch":  # the others take rows of one map after another, as pixels come
            stored = stored.contiguous(memory_format=torch.channels_last)
        labels = self.labels
        with torch.inference_mode():
            logits = self.engine(normalise(stored, self.spec)).cpu()
            chances = probabilities(logits, self.saved.temperature, multi_label=labels.multi_label)
            chances, classes = ranked(chances, len(labels) if labels.multi_label else top_k)
        rows = zip(classes.tolist(), chances.tolist(), strict=True)
        if labels.multi_label:
            return [self._with_chosen(zip(*row, strict=True), top_k) for row in rows]
        return [
            tuple(RankedLabel(labels.names[number], chance) for number, chance in zip(*row, strict=True))
            for row in rows
        ]

    def _with_chosen(self, row: Iterable[tuple[int, float]], top_k: int) -> tuple[RankedLabel, ...]:
        """Of all labels with their probabilities, best first, the `top_k` best and whatever else is chosen."""
        names = self.labels.names
        limits = self.saved.thresholds or (USUAL_THRESHOLD,) * len(names)
        every = [RankedLabel(names[number], chance, chance >= limits[number]) for number, chance in row]
        return tuple(one for place, one in enumerate(every) if place < top_k or one.chosen)
