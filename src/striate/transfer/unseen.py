"""A training that leaves nothing behind: no run folder, no other random state or threads; and networks as bytes."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from striate.checkpoint import SavedModel, load_model, save_model
from striate.checkpoint.model_file import FILE_NAME
from striate.data import Dataset
from striate.options import TrainOptions
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.runtime import kept_random_state
from striate.training import train
from striate.training.start import SCRATCH
from striate.transfer.by_plan import train_by_plan

_ONE_AT_A_TIME = threading.Lock()  # torch has one random state and one number of threads
_PREFIX = "striate-"  # of temporary folders
_OWN = re.compile(r".+?\.py:[A-Za-z_]\w*")


class Warnings(Progress):
    """Says nothing, but for what a user should not miss: that becomes a warning as Python has them."""

    def warn(self, text: str) -> None:
        """A `UserWarning`."""
        warnings.warn(text, stacklevel=2)


def trained(
    options: TrainOptions, dataset: Dataset, code: str | None = None
) -> tuple[SavedModel, list[dict[str, Any]]]:
    """The network that `options` make of `dataset`, and the figures of each epoch.

    `code` is the class of the user's own, `FILE.py:CLASS`, where the network is one.

    Raises:
        What `training.train` and `train_by_plan` raise.
    """
    with _unnoticed(), TemporaryDirectory(prefix=_PREFIX) as folder:
        run = RunFolder(Path(folder) / "run")
        quiet = replace(options, training=replace(options.training, run_dir=str(run.path), report=False))
        if options.model.from_ == SCRATCH:
            train(quiet, dataset=dataset, resumable=False, progress=Warnings())
        else:
            train_by_plan(quiet, dataset=dataset, progress=Warnings())
        saved = load_model(run.model, code=code)
        saved.path = Path()
        return saved, [row for row in run.read_metrics() if row["kind"] == "epoch"]


@contextmanager
def _unnoticed() -> Iterator[None]:
    """One training at a time, after which torch is set as it was before."""
    with _ONE_AT_A_TIME, kept_random_state():
        threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
        deterministic = torch.are_deterministic_algorithms_enabled()
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
            torch.backends.cudnn.benchmark = benchmark


def save(saved: SavedModel, path: Path) -> None:
    """Write a network with all that belongs to it.

    Raises:
        CheckpointError: it cannot be written.
    """
    save_model(
        path, saved.model, saved.spec, saved.labels, scores=saved.scores, notes=saved.notes,
        temperature=saved.temperature, thresholds=saved.thresholds,
    )  # fmt: skip


def with_packed_network(state: Any) -> dict[str, Any]:
    """The attributes of an estimator with its network as the bytes of a model file, which later versions read too."""
    if "network_" not in state:
        return state
    with TemporaryDirectory(prefix=_PREFIX) as folder:
        file = Path(folder) / FILE_NAME
        save(state["network_"], file)
        return {**state, "network_": file.read_bytes()}


def with_opened_network(state: dict[str, Any], code: str | None) -> dict[str, Any]:
    """The reverse of `with_packed_network`.

    Raises:
        CheckpointError: a network that cannot be built here.
    """
    if "network_" not in state:
        return state
    with TemporaryDirectory(prefix=_PREFIX) as folder:
        file = Path(folder) / FILE_NAME
        file.write_bytes(state["network_"])
        saved = load_model(file, code=code)
    saved.path = Path()
    return {**state, "network_": saved}


def own_code(*spellings: Any) -> str | None:
    """The class of the user's own, `FILE.py:CLASS`, that one of these spellings begins with: its file may be run."""
    found = (_OWN.match(one) for one in spellings if isinstance(one, str))
    return next((match[0] for match in found if match), None)
