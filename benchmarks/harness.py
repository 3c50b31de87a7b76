"""What the benchmark scripts share: running a whole process under the clock, the machine's description, result files.

Nothing here imports Striate: benchmarks treat it as any other program.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
REPOSITORY = BENCHMARKS.parent
RESULTS = BENCHMARKS / "results"

# Whoever runs a benchmark may have tuned their shell; the programs under test get what a fresh shell gives.
TUNING = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "LD_PRELOAD",
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "TF_NUM_INTRAOP_THREADS",
    "PYTHONDONTWRITEBYTECODE",  # with it every import compiles its source again
)


@dataclass(slots=True)
class Finished:
    """A process that has ended, and what it cost."""

    command: list[str]
    returncode: int  # negative: ended by this signal
    seconds: float  # wall clock, from before the start to after the exit
    cpu_seconds: float  # user and system time, its own children included
    peak_mib: float  # resident memory of its largest process
    load_before: float  # one-minute load average of the machine at the start
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any] | None:
        """The JSON object that standard output is, or that its last line is; None when there is none."""
        for text in (self.out, (self.out.strip().splitlines() or [""])[-1]):
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                continue
            if isinstance(value, dict):
                return value
        return None

    def costs(self) -> dict[str, float]:
        """The figures that result files keep of every run."""
        return {
            "wall_seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_mib": round(self.peak_mib),
            "load_before": self.load_before,
        }


def run_process(
    command: Sequence[str],
    *,
    timeout: float | None = None,
    clock_from: Callable[[], bool] | None = None,
    keep_path: bool = False,
    cwd: Path | None = None,
) -> Finished:
    """Run `command` to its end, or until `timeout` seconds, when its whole process group gets SIGKILL.

    With `clock_from` those seconds count from the moment at which it first says True, not from the start.
    `keep_path` leaves PYTHONPATH in place, so that a source tree that is not installed can be measured.
    """
    hidden = TUNING if keep_path else (*TUNING, "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        load_before = round(os.getloadavg()[0], 2)
        start = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
        usage = _reap(process, timeout, clock_from)
        seconds = time.perf_counter() - start
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return Finished(
        command=list(command),
        returncode=process.returncode,
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        load_before=load_before,
        out=texts[0],
        err=texts[1],
    )


def _reap(process: subprocess.Popen, timeout: float | None, clock_from: Callable[[], bool] | None) -> Any:
    """Wait for the process and return its resource usage, which `Popen.wait` would throw away; end it in time."""

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(process.pid, signal.SIGKILL)

    ended = threading.Event()

    def watch() -> None:
        while clock_from is not None and not clock_from():
            if ended.wait(0.005):
                return
        if not ended.wait(timeout):
            kill()

    if timeout is not None:
        threading.Thread(target=watch, daemon=True).start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:  # Ctrl-C: leave nothing running behind
        kill()
        raise
    finally:
        ended.set()
    return usage


def striate_command(python: str = sys.executable) -> list[str]:
    """The program under test: the `striate` beside `python`, or the module where it is not installed."""
    program = Path(python).parent / "striate"
    return [str(program)] if program.exists() else [python, "-m", "striate"]


def versions(python: str, packages: Iterable[str], modules: Iterable[str]) -> dict[str, str]:
    """Versions of Python and `packages`, where all of `modules` can be imported; {"error": ...} otherwise."""
    code = (
        "import importlib, importlib.metadata as m, json, platform\n"
        f"for name in {list(modules)!r}: importlib.import_module(name)\n"
        "found = {'python': platform.python_version()}\n"
        f"for name in {list(packages)!r}:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: found[name] = 'source tree' if name == 'striate' else 'not installed'\n"
        "print(json.dumps(found))"
    )
    try:
        probe = run_process([python, "-c", code], timeout=300, keep_path="striate" in packages)
    except OSError as error:
        return {"error": f"{python}: {error.strerror}"}
    if probe.returncode or probe.json is None:
        return {"error": (probe.err.strip().splitlines() or [f"exit {probe.returncode}"])[-1]}
    return probe.json


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system of this machine."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def source_revision() -> str:
    """The commit under test; "+changes" when the source tree differs from it."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *args], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (
        "+changes" if git("status", "--short", "src") else ""
    )


def provenance(script: str) -> dict[str, Any]:
    """The head of every result file: what ran, when, on what."""
    return {
        "script": script,
        "arguments": [_without_folders(word) for word in sys.argv[1:]],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": source_revision(),
        "machine": machine(),
    }


def _without_folders(word: str) -> str:
    """An argument as others may read it: a path, also after `NAME=`, by its last part (interpreters: three)."""
    name, equals, path = word.rpartition("=")
    if not Path(path).is_absolute():
        return word
    kept = 3 if Path(path).parent.name == "bin" else 1
    return name + equals + "/".join(Path(path).parts[-kept:])


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result file whole or not at all; called after every run, so that an ended benchmark keeps what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Count, mean, standard deviation (of the sample; null for one value), least and greatest."""
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table of `rows` under `head`."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def say(text: str) -> None:
    """One line of progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def tail(text: str, lines: int = 6) -> str:
    """The last lines of a program's output, for a message."""
    return "\n".join(text.strip().splitlines()[-lines:])
