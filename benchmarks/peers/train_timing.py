"""The clock that the peers' training programs share: steps that warm up, then some seconds of steps."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 2  # steps; what they took is kept, since compilation is among it


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that every training program has; it adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--network", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--side", type=int, required=True, help="of the images, in pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured, after the warm-up; two steps at least")
    return parser


def measure(step: Callable[[], object], args: argparse.Namespace) -> dict[str, Any]:
    """Images per second, by the median step of the measured ones, after two steps that warm up."""
    start = time.perf_counter()
    for _ in range(WARM_UP):
        step()
    warm = time.perf_counter() - start
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - begun < args.seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {
        "images_per_second": args.batch_size / statistics.median(times),
        "steps": len(times),
        "warm_up_seconds": warm,
    }


def finish(record: dict[str, Any]) -> None:
    """Print the one JSON line that the driver reads."""
    print(json.dumps(record), flush=True)
