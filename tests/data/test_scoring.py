"""Data that are only scored: every image, in the splits that the data give, without what training demands."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data import Dataset, decode, fit, load_data
from striate.data.decode import decode_bytes
from striate.errors import DataError
from striate.options import DataOptions
from striate.spec import InputSpec

from .image_files import as_bytes, noise


def put(root: Path, *names: str) -> None:
    """Small images, each of its own content, at these paths."""
    for number, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_bytes(Image.fromarray(noise(6, 6, 3, number)), "PNG"))


def counts(dataset: Dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def scored(data: Path | str, **settings) -> Dataset:
    return load_data(DataOptions(data=str(data), **settings), scoring=True)


@pytest.mark.parametrize("names", [("ant/1.png", "bee/2.png", "cat/3.png"), ("ant/1.png",)])
def test_images_too_few_to_train_on(tmp_path, names):
    put(tmp_path, *names)
    with pytest.raises(DataError):
        load_data(str(tmp_path))
    dataset = scored(tmp_path)
    assert counts(dataset) == {"all": len(names)}
    assert dataset.splits["all"].name == "all"
    assert list(dataset.splits["all"].paths) == list(names)
    assert dataset.labels.names == tuple(name[:3] for name in names)
    assert not dataset.official_test
    assert dataset.manifest()["split"].to_pylist() == ["all"] * len(names)


@pytest.mark.parametrize("test", ["test", "val", "validation"])
def test_a_folder_without_images_to_train_on(tmp_path, test):
    put(tmp_path, f"{test}/ant/1.png", f"{test}/bee/2.png")
    with pytest.raises(DataError, match="no train folder"):
        load_data(str(tmp_path))
    dataset = scored(tmp_path)
    assert counts(dataset) == {"test" if test == "test" else "val": 2}
    assert dataset.official_test is (test == "test")


def test_given_splits_stay_and_may_differ_in_their_classes(tmp_path):
    put(tmp_path, "train/ant/1.png", "train/bee/2.png", "val/ant/3.png", "test/cow/4.png", "test/ant/5.png")
    (tmp_path / "test" / "dog").mkdir()
    dataset = scored(tmp_path, val_fraction=0.5, limit=1)
    assert counts(dataset) == {"train": 2, "val": 1, "test": 2}
    assert dataset.labels.names == ("ant", "bee", "cow")
    assert dataset.splits["test"].targets.tolist() == [0, 2]
    assert dataset.notes == ("class folders without images are left out: dog",)
    assert not dataset.beyond_limit


def test_unreadable_images_are_in_the_one_split(tmp_path):
    put(tmp_path, "ant/1.png")
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee" / "2.png").write_bytes(b"no image")
    split = scored(tmp_path).splits["all"]
    assert [(one.path, one.split, one.target) for one in split.unreadable] == [("bee/2.png", "all", 1)]


def test_tables(tmp_path):
    put(tmp_path, "1.png", "2.png")
    (tmp_path / "a.csv").write_text("image,label\n1.png,ant\n2.png,ant\n")
    assert counts(scored(tmp_path / "a.csv")) == {"all": 2}
    (tmp_path / "b.csv").write_text("image,label,split\n1.png,ant,test\n2.png,bee,test\n")
    with pytest.raises(DataError, match="no row to train"):
        load_data(str(tmp_path / "b.csv"))
    assert counts(scored(tmp_path / "b.csv")) == {"test": 2}


def test_the_official_test_files_alone(tmp_path):
    pixels = np.arange(3 * 4 * 4, dtype=np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 3, 4, 4) + pixels.tobytes())
    )
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">4BI3B", 0, 0, 8, 1, 3, 0, 2, 1))
    with pytest.raises(DataError, match="none for training"):
        load_data(str(tmp_path))
    dataset = scored(tmp_path)
    assert counts(dataset) == {"test": 3}
    assert dataset.splits["test"].targets.tolist() == [0, 2, 1]


def test_named_sets_are_whole():
    whole, divided = scored("digits"), load_data("digits")
    assert counts(whole) == {"all": sum(counts(divided).values())}


def test_labels_from_the_names_of_files(tmp_path):
    """Only to be scored, only where every name begins with a synset, and not without a word."""
    put(tmp_path, "n01440764_tench.png", "n02012849_1.png", "n01440764_10026.png")
    with pytest.raises(DataError, match="3 images but no class folders"):
        load_data(str(tmp_path))
    dataset = scored(tmp_path)
    assert dataset.labels.names == ("n01440764", "n02012849")
    labels = [dataset.labels.names[target] for target in dataset.splits["all"].targets]
    assert [path[:9] for path in dataset.splits["all"].paths] == labels
    assert "the synset that each file name begins with is its label" in dataset.notes[0]
    put(tmp_path, "other.png")
    with pytest.raises(DataError, match="4 images but no class folders"):
        scored(tmp_path)


def test_photos_are_decoded_once_and_none_is_kept(tmp_path, monkeypatch):
    for number, label in enumerate("ab"):
        file = tmp_path / "data" / label / "1.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(as_bytes(Image.fromarray(noise(90, 120, 3, number)), "PNG"))
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    decoded = []

    def watched(data, name, side=None):
        decoded.append(name)
        return decode_bytes(data, name, side)

    monkeypatch.setattr("striate.data.scan.decode_bytes", watched)
    monkeypatch.setattr("striate.data.images.decode_bytes", watched)
    for memory, times in ((None, 1), (0, 2)):
        decoded.clear()
        images = scored(tmp_path / "data", input_size=16, cache_memory=memory).splits["all"].images
        batch = images.take(np.arange(2), InputSpec(size=(16, 16), channels=3))
        for row, file in enumerate(images.files):
            assert np.array_equal(batch[row].numpy(), fit(decode(file), InputSpec(size=(16, 16), channels=3)))
        assert len(decoded) == 2 * times
        assert images.store.cache.bytes == 0
        assert not (tmp_path / "cache").exists()


def test_what_memory_does_not_hold_is_known_as_well(tmp_path):
    """It is decoded small in the first pass, for its errors alone."""
    for number, label in enumerate("ab"):
        (tmp_path / label).mkdir()
        for form in ("PNG", "JPEG"):
            image = Image.fromarray(noise(70, 90, 3, number))
            data = as_bytes(image, form)
            (tmp_path / label / f"whole.{form}").write_bytes(data)
            (tmp_path / label / f"grey.{form}").write_bytes(as_bytes(image.convert("L"), form))
            (tmp_path / label / f"cut.{form}").write_bytes(data[: len(data) // 2])
    whole, small = (scored(tmp_path, cache_memory=memory) for memory in (None, 0))
    assert len(whole.left_out) == 4
    assert whole.left_out == small.left_out
    assert whole.splits["all"].images.infos == small.splits["all"].images.infos


@pytest.mark.parametrize(
    ("asked", "memory", "expected"),
    [(None, 2**40, 2**32), (None, 2**30, 2**28), (None, None, 2**32), (8, 2**20, 2**23)],
)
def test_photos_in_memory_take_a_quarter_of_it_at_most(tmp_path, monkeypatch, asked, memory, expected):
    put(tmp_path, "ant/1.png")
    monkeypatch.setattr("striate.data.load.usable_memory", lambda: memory)
    assert scored(tmp_path, cache_memory=asked).splits["all"].images.store.cache.limit == expected
