"""A small network that knows five of the digits, and the other five as the set that it has never seen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.transfer.low_digits import Heard, quick, some_digits

from striate.data import Dataset
from striate.training import train


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a network that tells the digits 0 to 4 apart."""
    folder = tmp_path_factory.mktemp("source") / "runs" / "low-digits"
    options = quick(
        model={"model": "compact_s", "from": "scratch"}, schedule={"epochs": 3}, optimizer={"batch_size": 64},
        training={"run_dir": str(folder)},
    )  # fmt: skip
    train(options, dataset=some_digits((0, 1, 2, 3, 4)))
    return folder


@pytest.fixture(scope="session")
def other_digits() -> Dataset:
    """The digits 5 to 9, forty training images of each."""
    return some_digits((5, 6, 7, 8, 9), per_class=40)


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Two classes of files of 120 pixels a side, that anybody can tell apart: light and dark noise."""
    random = np.random.default_rng(0)
    for label, (low, high) in {"dark": (0, 120), "light": (100, 256)}.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(low, high, (120, 120, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights and an empty working folder."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert os.environ["STRIATE_OFFLINE"]
    return tmp_path
