"""A small network and small data that the tests of this folder share: real files, real room code, no training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from striate.checkpoint import SavedModel, load_model, save_model
from striate.data import LeftOut, Split, TensorImages
from striate.models import create_model
from striate.spec import InputSpec, Labels

LABELS = Labels(("ant", "bee", "cat", "dog", "eel", "fox", "gnu"))


def saved_model(
    path: Path, name: str = "resnet20", channels: int = 3, labels: Labels = LABELS, **variations: object
) -> SavedModel:
    """A network with random weights and batch-norm statistics that are not those of the start, written to `path`."""
    torch.manual_seed(5)
    model = create_model(name, classes=len(labels), in_channels=channels, input_size=32, **variations)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(16, channels, 32, 32))
        logits = model.eval()(torch.randn(64, channels, 32, 32))
        for parameter in model.head.parameters():
            parameter.div_(logits.std())  # so that answers differ from image to image, and none is certain
    spec = InputSpec(size=(32, 32), channels=channels, mean=(0.4,), std=(0.3,))
    save_model(path, model, spec, labels)
    return load_model(path)


def tensor_split(count: int, channels: int = 3, unreadable: int = 0, seed: int = 0) -> Split:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, channels, 32, 32)).astype(np.uint8)
    pixels //= generator.integers(1, 6, (count, 1, 1, 1)).astype(np.uint8)  # images of different brightness
    targets = generator.integers(0, len(LABELS), count)
    broken = tuple(
        LeftOut(f"bad/{number}.png", "the file is empty (0 bytes)", "val", LABELS.names[number % 2])
        for number in range(unreadable)
    )
    return Split("val", targets, [f"val[{i}]" for i in range(count)], TensorImages(pixels), broken)


def photo_folder(root: Path, per_class: int = 4, names: tuple[str, ...] = LABELS.names) -> Path:
    """Class folders of JPEG and PNG files of different sizes, one of them grey."""
    generator = np.random.default_rng(1)
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            height, width = generator.integers(24, 90, 2)
            coarse = generator.integers(0, 256, (4, 4, 3)).astype(np.uint8)
            image = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC)
            if index == 1:
                image = image.convert("L")
            image.save(root / name / f"{number}-{index}.{'png' if index % 2 else 'jpg'}")
    return root


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """The functions of this file."""
    return SimpleNamespace(labels=LABELS, saved_model=saved_model, tensor_split=tensor_split, photo_folder=photo_folder)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour network of seven classes."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    saved_model(path, n=1)
    return path


@pytest.fixture
def saved(model_file: Path) -> SavedModel:
    """What `model_file` holds."""
    return load_model(model_file)
