"""What the machine can do at most: matrix products in each precision, and copying memory.

Peaks are measured again in every repeat, between the rows: the clock of a processor that others share moves, and a
share of the peak means something only where both were measured under the same clock.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MATRIX_SIDES = (256, 512, 1024, 2048, 4096, 8192)
COPIED_MIB = (1, 8, 64, 512)
COPY_SECONDS = 0.1  # for each size in each repeat


def wait_for(device: torch.device) -> None:
    """Return when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Peaks:
    """GFLOP/s by precision and GB/s by size, as medians over the repeats of each repeat's fastest."""

    def __init__(self, precisions: Sequence[str], device: torch.device, seconds: float) -> None:
        self._precisions = [name for name in DTYPES if name in {"fp32", "bf16", *precisions}]
        if device.type == "mps":
            self._precisions = ["fp32"]
        self._device, self._seconds = device, seconds
        self._longest = min(max(seconds, 0.02), 1.0)  # seconds that one product or copy may take
        self._sides: dict[str, int] = {}  # the matrices that were fastest in the first repeat, to which the others keep
        self._flops: dict[str, list[float]] = defaultdict(list)
        self._copies: dict[int, list[float]] = defaultdict(list)

    def measure(self) -> None:
        """One repeat."""
        for precision in self._precisions:
            if precision in self._sides:
                figure = self._product(precision, self._sides[precision])[0]
            else:
                figure, self._sides[precision] = self._fastest_side(precision)
            self._flops[precision].append(figure)
        for size in list(self._copies) or [mib << 20 for mib in COPIED_MIB]:
            seconds = self._copy(size)
            self._copies[size].append(2 * size / seconds)
            if 8 * seconds > self._longest and len(self._copies[size]) == 1:  # the next is eight times as large
                break

    def gflops(self, precision: str) -> float | None:
        """The peak of matrix products; None for a precision without one (int8)."""
        return statistics.median(self._flops[precision]) if self._flops.get(precision) else None

    def copy_bandwidth(self, size: float | None = None) -> float:
        """Bytes per second, read and written both counted, of copying `size` bytes; None: more than caches hold.

        Of the sizes measured it is that nearest to `size`: what fits a cache is not bound by memory.
        """
        known = {one: statistics.median(values) for one, values in self._copies.items()}
        nearest = max(known) if size is None else min(known, key=lambda one: abs(one - size))
        return known[nearest]

    def to_dict(self) -> dict[str, object]:
        """What JSON shows."""
        shown: dict[str, object] = {}
        for precision in DTYPES:
            values = self._flops.get(precision)
            shown[f"{precision}_gflops"] = statistics.median(values) if values else None
            if values:
                shown[f"{precision}_gflops_range"] = [min(values), max(values)]
                shown[f"{precision}_matrix"] = self._sides[precision]
        shown["copy_gb_per_second"] = self.copy_bandwidth() / 1e9
        shown["copy_gb_per_second_by_mib"] = {str(one >> 20): self.copy_bandwidth(one) / 1e9 for one in self._copies}
        return shown

    def _fastest_side(self, precision: str) -> tuple[float, int]:
        """GFLOP/s and side of the best of the sizes; larger ones are left out where one product would take too long."""
        best, chosen = 0.0, MATRIX_SIDES[0]
        for side in MATRIX_SIDES:
            figure, seconds = self._product(precision, side)
            if figure > best:
                best, chosen = figure, side
            if 8 * seconds > self._longest:  # twice the side is eight times the work
                break
        return best, chosen

    def _product(self, precision: str, side: int) -> tuple[float, float]:
        """GFLOP/s and seconds of the fastest product of two square matrices."""
        left = torch.randn(side, side, device=self._device).to(DTYPES[precision])
        right, out = left.t().contiguous(), torch.empty_like(left)
        fastest = self._fastest(lambda: torch.mm(left, right, out=out), min(self._seconds, 0.3))
        return 2 * side**3 / fastest / 1e9, fastest

    def _copy(self, size: int) -> float:
        """Seconds of the fastest copy of `size` bytes."""
        source = torch.ones(size // 4, device=self._device)
        target = torch.zeros_like(source)
        return self._fastest(lambda: target.copy_(source), min(self._seconds, COPY_SECONDS))

    def _fastest(self, work: Callable[[], object], seconds: float) -> float:
        """Seconds of the fastest of at least two calls, after one that warms up."""
        work()
        wait_for(self._device)
        fastest, count, begun = float("inf"), 0, time.perf_counter()
        while count < 2 or time.perf_counter() - begun < seconds:
            start = time.perf_counter()
            work()
            wait_for(self._device)
            fastest = min(fastest, time.perf_counter() - start)
            count += 1
        return fastest
