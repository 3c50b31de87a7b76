"""What was measured: one row for each setting, the peaks, and the machine."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from striate.bench.limits import Limit
from striate.bench.settings import Setting


@dataclass(frozen=True, slots=True)
class Row:
    """One setting over the repeats; without figures where `error` says why."""

    setting: Setting
    figures: tuple[float, ...]  # images per second, one for each repeat
    operations: int  # floating-point operations for one image
    peak_gflops: float | None  # of matrix products in this precision
    limit: Limit | None
    error: str | None = None

    @property
    def images_per_second(self) -> float | None:
        """The median over the repeats."""
        return statistics.median(self.figures) if self.figures else None

    @property
    def gflops(self) -> float | None:
        """Floating-point operations done in a second, in units of 10⁹."""
        speed = self.images_per_second
        return None if speed is None else speed * self.operations / 1e9

    @property
    def share_of_peak(self) -> float | None:
        """`gflops` over the peak of matrix products in this precision."""
        return self.gflops / self.peak_gflops if self.gflops is not None and self.peak_gflops else None

    @property
    def share_of_limit(self) -> float | None:
        """Images per second over the most that arithmetic and memory allow."""
        speed = self.images_per_second
        return None if speed is None or self.limit is None else speed / self.limit.images_per_second

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON shows it."""
        one, speed = self.setting, self.images_per_second
        return {
            "work": one.work,
            "backend": one.backend,
            "layout": one.layout,
            "precision": one.precision,
            "batch_size": one.batch_size,
            "images_per_second": speed,
            "least": min(self.figures, default=None),
            "greatest": max(self.figures, default=None),
            "sd": statistics.stdev(self.figures) if len(self.figures) > 1 else None,
            "repeats": len(self.figures),
            "ms_per_batch": 1000 * one.batch_size / speed if speed else None,
            "gflops": self.gflops,
            "share_of_peak": self.share_of_peak,
            "limit": self.limit and {
                "images_per_second": self.limit.images_per_second,
                "arithmetic": self.limit.arithmetic,
                "memory": self.limit.memory,
                "bound_by": self.limit.bound_by,
                "bytes_per_image": self.limit.bytes_per_image,
            },
            "share_of_limit": self.share_of_limit,
            "error": self.error,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class BenchResult:
    """A network on a machine: the rows in the order of `settings_of`, so that what users get by default is first."""

    model: str
    input: tuple[int, ...]  # channels, height, width
    params: int
    macs: int
    rows: tuple[Row, ...]
    peak: dict[str, Any]
    environment: dict[str, Any]  # machine, device, threads, versions
    interrupted: bool = False
    settings: dict[str, Any] = field(default_factory=dict)  # seconds, repeats

    def default(self, work: str) -> Row | None:
        """The first row of `train` or `infer`: what users get by default, as far as it was asked for."""
        return next((row for row in self.rows if row.setting.work == work), None)

    def to_dict(self) -> dict[str, Any]:
        """What `striate bench --json` prints."""
        found: dict[str, Any] = {
            "model": self.model,
            "input": list(self.input),
            "params": self.params,
            "macs": self.macs,
            "peak": self.peak,
        }
        for work in ("train", "infer"):
            if (row := self.default(work)) is not None:
                found[work] = row.to_dict()
        found |= {"rows": [row.to_dict() for row in self.rows], "interrupted": self.interrupted}
        return found | self.settings | {"environment": self.environment}
