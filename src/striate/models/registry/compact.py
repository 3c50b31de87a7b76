"""Networks of our own."""

from __future__ import annotations

from striate.models.registry.inputs import CIFAR, MNIST
from striate.spec import ModelEntry

OURS = "no paper: networks of our own"
COMPACT = "striate.models.compact:Compact"

TABLE: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="compact_xs",
        family="compact",
        build=COMPACT,
        config={"stem": 16, "stem_stride": 2, "widths": (32, 64)},
        input=MNIST,
        classes=10,
        paper=OURS,
        year=2026,
        title="smallest, for grey images where seconds count",
        params=70_330,
        macs=2_618_560,
        min_size=7,
    ),
    ModelEntry(
        name="compact_s",
        family="compact",
        build=COMPACT,
        config={"stem": 16, "stem_pool": True, "widths": (32, 64)},
        input=MNIST,
        classes=10,
        paper=OURS,
        year=2026,
        title="small, for grey images of 8 to 32 pixels",
        params=70_330,
        macs=2_703_232,
        min_size=8,
    ),
    ModelEntry(
        name="compact_m",
        family="compact",
        build=COMPACT,
        config={"stem": 32, "widths": (64, 128, 128), "activation": "gelu", "scale": 1 / 9},
        input=CIFAR,
        classes=10,
        paper=OURS,
        year=2026,
        title="medium, for images of 16 to 64 pixels",
        params=574_890,
        macs=69_305_600,
        min_size=8,
    ),
    ModelEntry(
        name="compact_l",
        family="compact",
        build=COMPACT,
        config={"stem": 32, "widths": (64, 256, 256), "activation": "gelu", "scale": 1 / 9},
        input=CIFAR,
        classes=10,
        paper=OURS,
        year=2026,
        title="large, for colour images of 32 to 64 pixels",
        params=1_978_026,
        macs=151_882_240,
        min_size=8,
    ),
)
