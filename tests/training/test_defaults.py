"""What is decided from the data, and that a decided recipe decides nothing anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data import Dataset, Split, TensorImages, load_data
from striate.errors import UsageError
from striate.models import create_model
from striate.options import DataOptions, TrainOptions, merged
from striate.spec import Labels, are_characters
from striate.training.defaults import check_feasible, kind_of, resolve, resolve_rate


def arrays(side: int, channels: int, names: tuple[str, ...] = tuple("0123456789"), count: int = 400) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    targets = np.arange(count) % len(names)
    split = Split("train", targets, [f"train[{i}]" for i in range(count)], TensorImages(pixels))
    return Dataset(
        name="made", labels=Labels(names), splits={"train": split}, channels=channels, native_size=(side, side)
    )


def test_resolved_options_resolve_to_themselves():
    dataset = load_data(DataOptions(data="digits"))
    for start in ({}, {"model": {"model": "lenet5"}}, {"augment": {"preset": "photos", "flip": 0.1}}):
        once, spec = resolve(merged(TrainOptions(), start), dataset)
        again, same_spec = resolve(once, dataset)
        assert again == once
        assert same_spec == spec


@pytest.mark.parametrize(
    ("side", "channels", "kind", "model"),
    [
        (8, 1, "digits", "compact_s"),
        (28, 1, "digits", "compact_s"),
        (32, 3, "small", "compact_l"),
        (128, 3, "photos", "resnet18"),
    ],
)
def test_the_network_follows_from_the_images(side, channels, kind, model):
    dataset = arrays(side, channels)
    assert kind_of(dataset) == kind
    options, spec = resolve(TrainOptions(), dataset)
    assert options.model.model == model
    assert spec.channels == channels


def test_lenet_pads_28_pixels_to_32_as_its_paper_does():
    _, spec = resolve(merged(TrainOptions(), {"model": {"model": "lenet5"}}), arrays(28, 1))
    assert (spec.size, spec.resize) == ((32, 32), "pad")


def test_characters_are_not_mirrored_and_other_things_are():
    assert are_characters(Labels(("0", "1", "12", "a", "seven")))
    assert not are_characters(Labels(("shirt", "boot")))
    digits, _ = resolve(TrainOptions(), arrays(28, 1))
    clothes, _ = resolve(TrainOptions(), arrays(28, 1, ("shirt", "boot")))
    assert digits.augment.flip == 0.0
    assert clothes.augment.flip == 0.5


def test_a_folder_of_small_images_is_treated_as_small(tmp_path: Path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(12):
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                tmp_path / name / f"{index}.png"
            )
    dataset = load_data(DataOptions(data=str(tmp_path)))
    options, spec = resolve(TrainOptions(), dataset)
    assert kind_of(dataset) == "small"
    assert spec.size == (32, 32)
    assert spec.crop_fraction == 1.0
    assert options.augment.crop_scale is None


def test_networks_without_normalisation_get_a_smaller_rate():
    dataset = arrays(28, 1)
    options, _ = resolve(TrainOptions(), dataset)
    plain = create_model("compact_s", in_channels=1, input_size=28, normalization="none")
    normalised = create_model("compact_s", in_channels=1, input_size=28)
    small = resolve_rate(options, dataset, plain).optimizer.lr
    large = resolve_rate(options, dataset, normalised).optimizer.lr
    assert small == pytest.approx(large / 3)
    given = replace(options, optimizer=replace(options.optimizer, lr=0.7))
    assert resolve_rate(given, dataset, plain).optimizer.lr == 0.7


def test_one_class_is_refused():
    with pytest.raises(UsageError, match="1 class"):
        check_feasible(arrays(28, 1, ("only",)))


def test_seeds_and_folds_exclude_each_other():
    with pytest.raises(UsageError, match="combined"):
        merged(TrainOptions(), {"training": {"seeds": 2, "folds": 2}})


def test_cycles_ask_for_the_schedule_that_has_them():
    dataset = load_data(DataOptions(data="digits"))
    chosen, _ = resolve(merged(TrainOptions(), {"schedule": {"cycles": 3}}), dataset)
    assert chosen.schedule.schedule == "cyclic"
    with pytest.raises(UsageError, match="and cosine was asked for"):
        resolve(merged(TrainOptions(), {"schedule": {"cycles": 3, "schedule": "cosine"}}), dataset)
