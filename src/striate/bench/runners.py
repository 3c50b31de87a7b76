"""The work that is timed: the very step of `striate train`, and the forward pass of each back end.

A runner does a number of steps on one batch of random images and says how long they took, the device waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from striate.bench.peaks import wait_for
from striate.bench.settings import Setting
from striate.checkpoint import SavedModel
from striate.data import Batch, Dataset, Split, TensorImages, TrainingBatches
from striate.inference.engines import Engine, open_engine
from striate.inference.forward import forward
from striate.options import TrainOptions, merged
from striate.progress import Task
from striate.runfolder import RunFolder
from striate.spec import InputSpec
from striate.training.compiling import compile_as_recorded
from striate.training.defaults import DEFAULTS, kind_of, resolve, resolve_runtime
from striate.training.epoch import train_epoch
from striate.training.session import Session, open_session

CALIBRATION_BATCHES = 2  # of random images: enough for int8's speed, which does not depend on the values


class Runner(Protocol):
    """One setting, ready to be timed."""

    def run(self, steps: int) -> float:
        """Do `steps` steps; returns their seconds."""
        ...


class Machine:
    """Where a network is measured; `cache` is a folder in which engines of one graph find it again."""

    def __init__(
        self, saved: SavedModel, device: torch.device, threads: int, *, name: str | None = None,
        cache: Path | None = None,
    ) -> None:  # fmt: skip
        self.saved, self.device, self.threads = saved, device, threads
        self.name = name or saved.model.architecture.name  # with its path, if it is a class of one's own
        self._cache = cache

    def open(self, setting: Setting) -> Runner:
        """What measures `setting`, on a copy of the network."""
        return (TrainingRunner if setting.work == "train" else InferenceRunner)(setting, self)

    def engine(self, backend: str, precision: str) -> Engine:
        """A new engine, as `predict` would open it; int8 is calibrated by noise, which tells nothing of its accuracy.

        Each row has its own: one that has seen other batch sizes is not what runs a single one.
        """
        saved = self.saved
        noise = [random_images(saved.spec, 16, seed) for seed in range(CALIBRATION_BATCHES)]
        return open_engine(
            saved.model, saved.spec, saved.labels, backend=backend, precision=precision, device=self.device,
            threads=self.threads, cache=self._cache, calibration=noise if precision == "int8" else None,
        )  # fmt: skip


class TrainingRunner:
    """`train_epoch` on a session whose only batch comes again and again: nothing waits for images."""

    def __init__(self, setting: Setting, machine: Machine) -> None:
        self.session = training_session(setting, machine)
        batch = next(iter(self.session.batches.epoch(0)))
        self._batches = _OneBatch(batch)
        self.session.batches = cast(TrainingBatches, self._batches)

    def run(self, steps: int) -> float:
        """See `Runner`."""
        session, position = self.session, self.session.position
        self._batches.steps_per_epoch = steps
        position.batch, position.sums = 0, {}
        wait_for(session.device)
        start = time.perf_counter()
        train_epoch(session, Task(), log=_ignore, save=_ignore)
        wait_for(session.device)
        return time.perf_counter() - start


def training_session(setting: Setting, machine: Machine) -> Session:
    """The session that `striate train` would open on images of this size, but for what `setting` says otherwise.

    The learning rate is so small that random labels lead nowhere; its value does not change what a step costs.
    """
    asked = {
        "model": {"model": machine.name},
        "augment": {"preset": "none"},
        "optimizer": {"batch_size": setting.batch_size, "lr": 1e-9},
        "schedule": {"schedule": "constant", "epochs": 10**6},
        "training": {"save_minutes": 1e9},
        "runtime": {
            "device": str(machine.device),
            "precision": setting.precision,
            "channels_last": setting.layout == "nhwc",
            "compile": "on" if setting.backend == "compile" else "off",
            "threads": machine.threads,
        },
    }
    model = deepcopy(machine.saved.model)
    dataset = random_dataset(machine.saved, setting.batch_size)
    options, spec = resolve(merged(TrainOptions(), asked), dataset, start=machine.saved)
    session = open_session(resolve_runtime(options), spec, dataset, RunFolder(Path("unwritten")), model)
    compile_as_recorded(session)
    return session


def random_dataset(saved: SavedModel, count: int) -> Dataset:
    """`count` images of noise with random labels, as a data set that was made by hand."""
    generator = np.random.default_rng(0)
    spec = saved.spec
    pixels = generator.integers(0, 256, (count, spec.channels, *spec.size)).astype(np.uint8)
    if saved.labels.multi_label:
        targets = generator.integers(0, 2, (count, len(saved.labels)), np.uint8)
    else:
        targets = generator.integers(0, len(saved.labels), count)
    split = Split("train", targets, [f"train[{index}]" for index in range(count)], TensorImages(pixels))
    return Dataset(
        name="noise", labels=saved.labels, splits={"train": split}, channels=spec.channels, native_size=spec.size
    )


def default_batch_size(saved: SavedModel) -> int:
    """Images in a step of `striate train` on many images of this size."""
    return DEFAULTS[kind_of(random_dataset(saved, 1))]["batch_size"]


class InferenceRunner:
    """One forward pass after another, through a back end or plain PyTorch."""

    def __init__(self, setting: Setting, machine: Machine) -> None:
        saved, self._device = machine.saved, machine.device
        self._images = random_images(saved.spec, setting.batch_size).to(self._device)
        self._answer: Callable[[torch.Tensor], object]
        if setting.layout is None:
            engine = self._answer = machine.engine(setting.backend, setting.precision)
            self.run(engine.settles_after)  # OpenVINO compiles a graph for this batch size by then
            return
        memory = torch.channels_last if setting.layout == "nhwc" else torch.contiguous_format
        self._images = self._images.contiguous(memory_format=memory)
        network: Any = deepcopy(saved.model).eval().to(self._device).to(memory_format=memory)  # type: ignore[call-overload]
        if setting.backend == "compile":
            network = torch.compile(network)
        self._answer = lambda images: forward(network, images, setting.precision)

    @torch.inference_mode()
    def run(self, steps: int) -> float:
        """See `Runner`."""
        wait_for(self._device)
        start = time.perf_counter()
        for _ in range(steps):
            self._answer(self._images)
        wait_for(self._device)
        return time.perf_counter() - start


def random_images(spec: InputSpec, count: int, seed: int = 0) -> torch.Tensor:
    """Normalised images [count, C, H, W] of noise."""
    return torch.randn(count, spec.channels, *spec.size, generator=torch.Generator().manual_seed(seed))


class _OneBatch:
    """Stands in for `TrainingBatches`: the same batch at every step."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.steps_per_epoch = 1
        self.wait_seconds = 0.0

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """`steps_per_epoch` times the batch."""
        for _ in range(first_step, self.steps_per_epoch):
            yield replace(self._batch)


def _ignore(*_: object) -> None:
    pass
