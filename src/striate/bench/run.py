"""The measurement: every row in every repeat, in turn, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from striate.anatomy import Anatomy, anatomy_of
from striate.bench.limits import limit_of, memory_needed, operations
from striate.bench.peaks import Peaks
from striate.bench.result import BenchResult, Row
from striate.bench.runners import Machine, Runner, default_batch_size
from striate.bench.settings import EXTRAS, Setting, settings_of
from striate.errors import StriateError
from striate.models.sources import full_name, is_own
from striate.network import open_network, read_spelling
from striate.options.bench import BenchOptions
from striate.progress import Progress, Silent, Task
from striate.runtime import allowed_cores, denormals_flushed, environment, free_cores, pick_device, set_threads

KEPT_SHARE = 0.25  # of the memory: rows that need more in all are opened again for every turn


@denormals_flushed()
def benchmark(
    model: str | Path,
    options: BenchOptions,
    *,
    runs: str | Path = "runs",
    offline: bool = False,
    progress: Progress | None = None,
) -> BenchResult:
    """Time the training and inference of `model` as `options` say, between measurements of the machine's peaks.

    Ctrl-C ends the measurement; what was measured until then is the result, if there is any.

    Args:
        model: every spelling of a network; random weights serve.
        options: what to measure.
        runs: the folder that holds the run folders.
        offline: never use the network.
        progress: where to report.

    Raises:
        UsageError: a combination that cannot be; before anything is measured.
        StriateError: no row could be measured; with the reason of the first.
        Also what `open_network` raises.
    """
    progress = progress or Silent()
    device = pick_device(options.device)
    threads = set_threads(options.threads)
    if device.type == "cpu":
        _warn_of_others(threads, progress)
    read = read_spelling(model, runs)
    told = Silent() if read.kind == "model" else progress  # that its weights are random would be beside the point
    saved = open_network(model, input_size=options.input_size, runs=runs, offline=offline, progress=told)
    anatomy = anatomy_of(saved.model, saved.spec.size, saved.spec.channels)
    settings = settings_of(options, device, default_batch_size(saved))
    free = free_memory(device)
    kept = free is None or sum(2 * 4 * anatomy.params for _ in settings) < KEPT_SHARE * free
    peaks = Peaks([one.precision for one in settings], device, options.seconds)
    with TemporaryDirectory(prefix="striate-bench-", ignore_cleanup_errors=True) as folder:
        name = full_name(read.model) if is_own(read.model) else None
        machine = Machine(saved, device, threads, name=name, cache=Path(folder))
        rows = [_Measured(one, opener=partial(machine.open, one), kept=kept) for one in settings]
        for row in rows:
            row.check_memory(anatomy, free)
        with progress.task(f"measuring {saved.model.architecture.name}", options.repeats * len(rows)) as task:
            interrupted = measure_in_turn(rows, peaks, options, task)
    if not any(row.figures for row in rows):
        if interrupted:
            raise KeyboardInterrupt
        raise StriateError(f"{rows[0].setting}: {rows[0].error}", "other --backend, --precision or --batch-size?")
    return BenchResult(
        model=saved.model.architecture.name,
        input=(saved.spec.channels, *saved.spec.size),
        params=anatomy.params,
        macs=anatomy.macs,
        rows=tuple(row.row(anatomy, peaks) for row in rows),
        peak=peaks.to_dict(),
        environment=environment(device) | {name: metadata.version(name) for name in EXTRAS if _is_there(name)},
        interrupted=interrupted,
        settings={"seconds": options.seconds, "repeats": options.repeats},
    )


def _warn_of_others(threads: int, progress: Progress) -> None:
    """Say so where threads will have to wait for a core: that makes rows slower by factors, and not all alike."""
    free, busy = free_cores()
    if free < threads:
        cores = f"{busy:.1f} of {allowed_cores()} cores"
        progress.warn(
            f"other processes keep {cores} busy: these are no figures of the machine; --threads {free}, or later"
        )


def measure_in_turn(rows: list[_Measured], peaks: Peaks, options: BenchOptions, task: Task) -> bool:
    """All repeats, another row first in each; returns whether Ctrl-C ended it."""
    try:
        for repeat in range(options.repeats):
            peaks.measure()
            start = repeat % len(rows)
            for row in rows[start:] + rows[:start]:
                task.advance(0, note=str(row.setting))
                row.measure(options.seconds)
                task.advance()
    except KeyboardInterrupt:
        return True
    return False


@dataclass
class _Measured:
    """A row while it is measured."""

    setting: Setting
    opener: Callable[[], Runner]
    kept: bool  # between turns; else opened again for each
    figures: list[float] = field(default_factory=list)
    error: str | None = None
    _runner: Runner | None = None
    _steps: int = 0  # in a turn; 0: not known yet

    def check_memory(self, anatomy: Anatomy, free: int | None) -> None:
        """Leave the row out where it cannot fit: a system that overcommits memory would kill the process."""
        needed = memory_needed(anatomy, self.setting)
        if free is not None and needed > free:
            self.error = f"needs {needed / 2**30:.1f} GiB at least, {free / 2**30:.1f} GiB are free"

    def measure(self, seconds: float) -> None:
        """One turn of about `seconds`, after steps that warm up; what goes wrong becomes the row's error."""
        if self.error is not None:
            return
        try:
            runner = self._runner
            if runner is None:
                runner = self._runner = self.opener()
                runner.run(1)
            warm = runner.run(1)
            self._steps = self._steps or max(1, round(seconds / warm))
            taken = runner.run(self._steps)
            self.figures.append(self.setting.batch_size * self._steps / taken)
            self._steps = max(1, round(self._steps * seconds / taken))
        except Exception as error:  # whatever a back end does not like, the other rows go on
            self.error, self._runner = in_words(error), None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if not self.kept and self.setting.backend == "torch":
            self._runner = None

    def row(self, anatomy: Anatomy, peaks: Peaks) -> Row:
        """The row as a result."""
        one = self.setting
        return Row(
            setting=one,
            figures=tuple(self.figures),
            operations=operations(anatomy, one.work),
            peak_gflops=peaks.gflops(one.precision),
            limit=limit_of(anatomy, one, peaks),
            error=self.error,
        )


def in_words(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, StriateError):
        return error.message
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in text:
        return "not enough memory"
    return f"{type(error).__name__}: {text[:200]}"


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had, as far as the system says it: the machine's, or less in a container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        known += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        known.append(int(limit) - int(used))
    except (OSError, ValueError):  # no container, or "max": no limit
        pass
    return min(known, default=None)


def _is_there(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
