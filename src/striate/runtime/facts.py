"""What a run should be repeatable on, as plain values."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.runtime.threads import usable_cores

if TYPE_CHECKING:
    import torch

_CONTROL = Path("/sys/fs/cgroup")
_MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2 and version 1; without one: huge


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


def usable_memory() -> int | None:
    """Bytes of memory that this process may use, which in a container is less than the machine has; None: not told."""
    memory = _memory()
    for name in _MEMORY_LIMITS:
        try:
            limit = int((_CONTROL / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or `max`
            continue
        memory = limit if memory is None else min(memory, limit)
    return memory


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _memory_gib() -> float | None:
    memory = _memory()
    return None if memory is None else round(memory / 2**30, 1)


def _revision() -> str | None:
    """The commit of the source tree that Striate runs from; None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
