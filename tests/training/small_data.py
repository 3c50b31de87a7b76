"""Data sets and networks as small as they come, for the tests of transfer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.data import Dataset, Split, TensorImages
from striate.models import ConvNet, create_model, entries, family_class, find_entry
from striate.spec import InputSpec, Labels, ModelEntry

# The same layers with fewer units, where those of the paper are what takes the time.
NARROW = {"vgg": {"widths": (16, 32, 64, 128, 128), "hidden": 64}, "alexnet": {"hidden": 64}, "zfnet": {"hidden": 64}}


def bars(counts: Sequence[int], held_out: Sequence[int] = (), *, side: int = 8, channels: int = 1) -> Dataset:
    """Class i has bars of its own period and direction, in noise: `counts` to train on, `held_out` to validate."""
    generator = np.random.default_rng(0)
    splits = {}
    for name, many in (("train", counts), ("val", held_out)):
        targets = np.repeat(np.arange(len(many)), many)
        if not len(targets):
            continue
        pixels = np.stack([_bars_of(int(one), side, channels, generator) for one in targets])
        splits[name] = Split(name, targets, [f"{name}[{i}]" for i in range(len(targets))], TensorImages(pixels))
    labels = Labels(tuple(f"bars {i}" for i in range(len(counts))))
    return Dataset(name="bars", labels=labels, splits=splits, channels=channels, native_size=(side, side))


def _bars_of(label: int, side: int, channels: int, generator: np.random.Generator) -> np.ndarray:
    place = np.add.outer(np.arange(side) * (label % 2), np.arange(side) * ((label + 1) % 2))
    wave = 90 * np.sin(2 * np.pi * (place + generator.integers(side)) / (2 + label)) + 128
    noise = generator.normal(0, 10, (channels, side, side))
    return np.clip(wave + noise, 0, 255).astype(np.uint8)


def smallest_of_each_family() -> list[str]:
    """Names, one for each family."""
    chosen: dict[str, ModelEntry] = {}
    for entry in sorted(entries(), key=lambda entry: entry.params):
        chosen.setdefault(entry.family, entry)
    return sorted(entry.name for entry in chosen.values())


def small(name: str, **changes) -> ConvNet:
    """The network at its smallest input, with few classes and narrow hidden layers."""
    entry = find_entry(name)
    torch.manual_seed(0)
    known = family_class(entry).config_type.__dataclass_fields__
    narrow = {key: value for key, value in NARROW.get(entry.family, {}).items() if key in known}
    side = max(min(entry.input.size[0], 16), entry.min_size)
    return create_model(name, **({"classes": 3, "input_size": side} | narrow | changes))


def saved(model: ConvNet, classes: Sequence[str] = ("x", "y", "z")) -> SavedModel:
    """`model` as if it had been opened, trained for `classes`."""
    record = model.architecture
    spec = InputSpec(
        size=record.input_size, channels=record.in_channels, mean=(0.5,) * record.in_channels,
        std=(0.25,) * record.in_channels, bits=8,
    )  # fmt: skip
    return SavedModel(model=model.eval(), spec=spec, labels=Labels(tuple(classes)))
