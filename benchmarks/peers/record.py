"""What every peer script shares: its options, its clock, and the one JSON line it ends with."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

_IMPORTED = time.perf_counter()


def options(description: str | None) -> argparse.ArgumentParser:
    """The options all peers have; a script adds its own to them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", required=True, help="the data as this peer wants it, prepared by the driver")
    parser.add_argument("--target", type=float, default=0.99, help="stop after the first epoch at this test accuracy")
    parser.add_argument("--max-epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use this many training and test images only, to try the script")
    return parser


class Record:
    """Seconds by phase and test accuracy by epoch, counted from the start of the process."""

    def __init__(self, target: float, max_epochs: int) -> None:
        self.target, self.max_epochs = target, max_epochs
        self.accuracies: list[float] = []
        self.epoch_seconds: list[float] = []
        self.phases: dict[str, float] = {}
        self._last = 0.0

    def mark(self, phase: str) -> None:
        """Everything since the last mark belongs to `phase`."""
        now = seconds_since_start()
        self.phases[phase] = round(now - self._last, 3)
        self._last = now

    def epoch(self, accuracy: float) -> bool:
        """Note an epoch's test accuracy; True when it is time to stop."""
        now = seconds_since_start()
        self.accuracies.append(float(accuracy))
        self.epoch_seconds.append(round(now - self._last, 3))
        self._last = now
        print(f"epoch {len(self.accuracies)}: test accuracy {accuracy:.4f} after {now:.1f} s", flush=True)
        return self.reached or len(self.accuracies) >= self.max_epochs

    @property
    def reached(self) -> bool:
        """Whether the last epoch came to the target."""
        return bool(self.accuracies) and self.accuracies[-1] >= self.target

    def finish(self) -> None:
        """Print the JSON line that the driver reads."""
        line = {
            "epochs": len(self.accuracies),
            "accuracies": self.accuracies,
            "reached": self.reached,
            "seconds": {**self.phases, "epochs": self.epoch_seconds, "total": round(seconds_since_start(), 3)},
        }
        print(json.dumps(line), flush=True)


def seconds_since_start() -> float:
    """Seconds since the operating system started this process; elsewhere than on Linux, since this file's import."""
    try:
        # The command name, field 2, is in brackets and may hold spaces; the start time is field 22, in clock ticks.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError):
        return time.perf_counter() - _IMPORTED
