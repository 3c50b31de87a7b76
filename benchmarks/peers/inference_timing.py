"""The clock that all inference programs share, ours and the peers': warm up, then measure for some seconds."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[int], None]  # passes so many batches, and returns when the last answer is there


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that every inference program has; it adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", required=True, help="what inference_prepare.py wrote")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured, after the warm-up")
    parser.add_argument("--warm", type=float, default=1.5, help="seconds of warm-up; at least six batches")
    parser.add_argument("--threads", type=int, help="[the library's default]")
    parser.add_argument("--answers", help="write the logits of the batch there, float32 .npy")
    return parser


def measure(run: Run, warm: float, seconds: float, chunk: int = 1) -> dict[str, Any]:
    """Milliseconds a batch: median, tenth and ninetieth percentile over the timed chunks of `chunk` batches."""
    begun, passes = time.perf_counter(), 0
    while passes < 6 or time.perf_counter() - begun < warm:
        run(chunk)
        passes += 1
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run(chunk)
        times.append(1000 * (time.perf_counter() - start) / chunk)
    times.sort()
    last = len(times) - 1
    return {
        "ms": statistics.median(times),
        "ms_p10": times[last // 10],
        "ms_p90": times[last - last // 10],
        "batches": len(times) * chunk,
    }


def finish(record: dict[str, Any]) -> None:
    """Print the one JSON line that the driver reads."""
    print(json.dumps(record), flush=True)
