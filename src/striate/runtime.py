"""The machine and how it is used: allocator, threads, device, precision, seeds.

Importing this costs nothing: torch is imported by the functions that need it, since `tune_allocator` only helps when
it runs before torch does.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import UsageError

if TYPE_CHECKING:
    import torch

# glibc's mallopt parameters, from malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_is_command = False  # see `mark_command`


def mark_command() -> None:
    """This process is a command that begins now: its start is part of the time that people wait."""
    global _is_command
    _is_command = True


def seconds_of_start() -> float | None:
    """Seconds since this process started, once and for a command only (Linux): the imports, which no stopwatch sees."""
    global _is_command
    if not _is_command:
        return None
    _is_command = False
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii")
        started = float(stat.rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0]) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def tune_allocator() -> bool:
    """Keep freed memory in the process instead of handing it back to the kernel and faulting it in again each step.

    A training step frees and asks again for the same large activations; by glibc's defaults every one of them is
    unmapped and mapped anew. Must run before torch is imported. Returns whether it was done (glibc only).
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    accepted = [mallopt(name, value) == 1 for name, value in settings]  # a list: every one is tried
    return all(accepted)


def set_threads(count: int | None) -> int:
    """Use `count` processor threads (None: all cores this process may use); returns the count."""
    import torch

    count = count or usable_cores()
    torch.set_num_threads(count)
    return count


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers too small for the normal range count as zero inside, which spares the processor their slow handling.

    The processor's setting is put back afterwards: other code of the same process may need such numbers.
    """
    import torch

    flushed_before = float(torch.tensor(1e-40) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)


def usable_cores() -> int:
    """The cores that this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UsageError: no such device here; the message lists those there are.
    """
    import torch

    there = ["cpu"]
    if torch.cuda.is_available():
        there = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *there]
    if torch.backends.mps.is_available():
        there = ["mps", *there]
    if name == "auto":
        return torch.device(there[0])
    if name not in there:
        raise UsageError(f"no device {name!r} here", f"there is: {', '.join(there)}, or auto")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto` as the precision this device does fastest; the others are checked and returned as they are.

    Raises:
        UsageError: fp16 on a processor, which has no fast half-precision convolutions.
    """
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 needs a GPU", "use --precision bf16 or fp32 on the processor")
    if name != "auto":
        return name
    if device.type == "cpu":
        return "bf16" if processor_has_bf16() else "fp32"
    if device.type == "cuda":
        import torch

        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "fp32"


@cache
def processor_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX; elsewhere torch emulates it)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> Any:
    """The context in which a network computes: torch's autocast for bf16 and fp16, nothing for fp32."""
    import torch

    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def seed_everything(seed: int, *, deterministic: bool = True) -> None:
    """Seed torch's generators (initial weights, dropout, stochastic depth) and, on a GPU, choose repeatable kernels.

    The order of images and their augmentation do not depend on generators (see `data/draws.py`).
    """
    import torch

    torch.manual_seed(seed)
    if deterministic and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def random_state() -> dict[str, Any]:
    """The state of torch's generators, as tensors."""
    import torch

    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` took."""
    import torch

    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """What happens inside draws from torch's generators without anybody outside noticing."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """What a run should be repeatable on: versions, processor, device, threads, source revision, command."""
    import numpy
    import PIL
    import torch

    from striate.version import __version__

    facts: dict[str, Any] = {
        "striate": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "revision": _revision(),
        "command": " ".join(sys.argv),
    }
    if device is not None:
        facts["device"] = str(device)
        if device.type == "cuda":
            facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _revision() -> str | None:
    """The commit of the source tree that Striate runs from; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
