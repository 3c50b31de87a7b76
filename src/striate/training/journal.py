"""What a run writes down as it goes: its folder, the metrics lines, the environment with the seconds of each phase."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from striate.checkpoint import write_atomically
from striate.data import Dataset
from striate.errors import DataError, MissingExtraError, UsageError
from striate.models.sources import short_name
from striate.options import TrainOptions, write_recipe
from striate.runfolder import RunFolder, is_run
from striate.runtime import seconds_of_start


def create_run(options: TrainOptions, dataset: Dataset) -> RunFolder:
    """A new, empty run folder: `--run-dir`, or one named after time, network and data.

    Raises:
        UsageError: `--run-dir` is a run already; the hint says how to go on with it.
    """
    if options.training.run_dir is not None:
        path = Path(options.training.run_dir)
        if is_run(path):
            raise UsageError(f"{path} is a run already", f"go on with it by --resume {path}, or name another --run-dir")
        path.mkdir(parents=True, exist_ok=True)
        return RunFolder(path)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    words = (short_name(options.model.model or ""), dataset.name)
    name = "-".join([stamp, *(re.sub(r"[^0-9A-Za-z._-]+", "-", word) for word in words)])
    for attempt in range(1, 1000):
        path = Path(options.training.runs) / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue  # another run began within the same second
        return RunFolder(path)
    raise UsageError(f"there are a thousand runs named {name}", "name this one with --run-dir")


@contextmanager
def removed_if_nothing_comes_of_it(run: RunFolder) -> Iterator[None]:
    """Take an empty run folder away again where what happens inside fails."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            run.path.rmdir()
        raise


def write_start(run: RunFolder, options: TrainOptions, dataset: Dataset, environment: dict[str, Any]) -> None:
    """Manifest, environment and, last, since it makes the folder a run, the resolved recipe."""
    buffer = io.BytesIO()
    pq.write_table(dataset.manifest(), buffer, compression="zstd")
    write_atomically(run.manifest, buffer.getvalue())
    write_environment(run, environment)
    # where the run lies belongs to the folder and the budget's plan is in the epochs: repeating needs neither
    training = replace(options.training, run_dir=None, budget=None)
    write_recipe(replace(options, training=training), run.recipe, "Every option of this run, resolved.")


def write_environment(run: RunFolder, environment: dict[str, Any]) -> None:
    """environment.json, replaced as a whole."""
    write_atomically(run.environment, (json.dumps(environment, indent=1) + "\n").encode())


def append_metrics(run: RunFolder, row: dict[str, Any]) -> None:
    """One more line of metrics.jsonl."""
    _append(run.metrics, row)


def append_depth(run: RunFolder, row: dict[str, Any]) -> None:
    """One more line of depth.jsonl."""
    _append(run.depth, row)


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def require_tensorboard() -> None:
    """Refuse `--tensorboard` before anything is written where it cannot be had.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise MissingExtraError("--tensorboard", "tensorboard", "track")


def open_events(run: RunFolder, step: int) -> Any:
    """A writer of TensorBoard events for the run, which drops events after `step` as `rewind_metrics` does."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.path / "tensorboard"), purge_step=step)


def add_events(events: Any, row: dict[str, Any]) -> None:
    """The numbers of a metrics line as TensorBoard scalars, `val/top1` and so on."""
    flat = {key: value for key, value in row.items() if isinstance(value, float)}
    for name in ("val", "val_ema"):
        flat |= {f"{name}/{key}": value for key, value in row.get(name, {}).items() if value is not None}
    for key, value in flat.items():
        events.add_scalar(key, value, row["step"])
    events.flush()


def rewind_metrics(run: RunFolder, epoch: int, step: int) -> None:
    """Drop the lines written after the state that training goes on from: they will be written again."""
    kept = [
        row for row in run.read_metrics() if (row["epoch"] <= epoch if row["kind"] == "epoch" else row["step"] <= step)
    ]
    _rewrite(run.metrics, kept)
    _rewrite(run.depth, [row for row in run.read_depth() if row["epoch"] <= epoch])


def _rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.is_file():
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def check_same_data(run: RunFolder, dataset: Dataset) -> None:
    """Refuse to go on with other images, labels or splits than the run began with.

    Raises:
        DataError: the data changed (the message counts how), or what they were cannot be read.
    """
    if not run.manifest.is_file():
        raise DataError(f"{run.path} has no data.parquet to compare the data with", "start a new run")
    columns = ["path", "hash", "label", "split", "reason"]
    try:
        before = _rows(pq.read_table(run.manifest), columns)
    except (pa.ArrowInvalid, KeyError) as error:
        reason = " ".join(str(error.args[0]).split())[:200]
        raise DataError(
            f"{run.manifest} is damaged, or of another version of Striate: {reason}",
            "start from the weights so far: striate train --from RUN",
        ) from error
    now = _rows(dataset.manifest(), columns)
    if before != now:
        gone, added = len(set(before) - set(now)), len(set(now) - set(before))
        if not gone + added:
            raise DataError(f"the images are in another order than when {run.name} began", "put the table's rows back")
        raise DataError(
            f"the data changed since {run.name} began: {gone} images gone or changed, {added} new or changed",
            "put them back, or start a new run",
        )


def _rows(table: pa.Table, columns: list[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


class Stopwatch:
    """Seconds by phase of a run."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    @classmethod
    def of_command(cls, before: Mapping[str, float] | None = None) -> Stopwatch:
        """One that counts the time since the process started as phase `import`, for a command's first run.

        `before` are the seconds of phases that came before; who counted them knows the start, too.
        """
        watch = cls()
        watch.phases |= before or {}
        seconds = seconds_of_start()
        if seconds is not None:
            watch.phases["import"] = seconds
        return watch

    def handed_over(self) -> dict[str, float]:
        """The seconds so far, which a file keeps from now on: what is counted later is to be added to them."""
        phases, self.phases = self.phases, {}
        return phases

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what happens inside to phase `name`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - begun
