"""Copies planted in clean photos are found, and the split file that is written has no leak left."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from striate.data import CheckReport, Dataset, examine, load_data
from striate.data.near import mirrored_pairs, perceptual_hashes
from striate.data.odd import odd_images
from striate.data.split_file import units, write_split_file
from striate.errors import DataError, UsageError
from striate.options import DataOptions

from .image_files import smooth


def photo(seed: int, size: tuple[int, int] = (60, 80)) -> Image.Image:
    return Image.fromarray(smooth(*size, seed))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes, 12 to train on and 6 held out of each, all different."""
    for split, count, first in (("train", 12, 0), ("val", 6, 100)):
        for label in ("cat", "dog"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                photo(first + number + 1000 * (label == "dog")).save(folder / f"{number}.jpg", quality=95)
    return tmp_path / "photos"


def checked(data: Path, **settings) -> tuple[Dataset, CheckReport]:
    dataset = load_data(DataOptions(data=str(data), **settings))
    return dataset, examine(dataset)


def plant_leaks(photos: Path) -> dict[str, str]:
    """Copies of training images in val, each in another way: the copy by its original."""
    source = Image.open(photos / "train/cat/0.jpg")
    (photos / "val/cat/exact.jpg").write_bytes((photos / "train/cat/0.jpg").read_bytes())
    source.save(photos / "val/cat/again.jpg", quality=60)
    photo(1).resize((160, 120)).save(photos / "val/cat/large.png")
    ImageOps.mirror(photo(1002)).save(photos / "val/dog/mirrored.jpg", quality=90)
    return {
        "val/cat/exact.jpg": "train/cat/0.jpg", "val/cat/again.jpg": "train/cat/0.jpg",
        "val/cat/large.png": "train/cat/1.jpg", "val/dog/mirrored.jpg": "train/dog/2.jpg",
    }  # fmt: skip


def test_every_planted_leak_is_found_and_nothing_else(photos):
    planted = plant_leaks(photos)
    _, report = checked(photos)
    assert report.leaks == len(planted)
    together = [set(group.paths) for group in (*report.duplicate_groups, *report.near_duplicate_groups)]
    assert all(any({copy, source} <= group for group in together) for copy, source in planted.items())
    assert set().union(*together) == {*planted, *planted.values()}
    assert {group.kind for group in report.near_duplicate_groups if "val/dog/mirrored.jpg" in group.paths} == {
        "mirrored"
    }


def test_the_split_file_has_no_leak_and_all_images(photos, tmp_path):
    planted = plant_leaks(photos)
    (photos / "train/cat/bad.jpg").write_bytes(b"text")
    before = {file: file.read_bytes() for file in photos.rglob("*.*")}
    dataset, report = checked(photos)
    (tmp_path / "tables").mkdir()
    written = write_split_file(dataset, report, tmp_path / "tables" / "split.csv")
    moved = {one.path for one in written.moved}
    assert {"val/cat/large.png", "val/dog/mirrored.jpg"} <= moved | set(planted.values())
    assert "train/cat/0.jpg" in moved, "two of its three copies are held out: the fewest images move"
    again, repaired = checked(written.file)
    assert (repaired.leaks, repaired.images, repaired.unreadable) == (0, report.images, 1)
    assert repaired.splits == {"train": report.splits["train"] + 1, "val": report.splits["val"] - 1}
    assert again.labels == dataset.labels
    assert before == {file: file.read_bytes() for file in photos.rglob("*.*")}
    # what it says of groups holds in cross-validation, too
    for fold in range(1, 4):
        folded, report_of_fold = checked(written.file, group="group", fold=f"{fold}/3")
        assert report_of_fold.leaks == 0
        assert len(folded.splits["val"])


def test_groups_stay_whole_and_copies_tie_them_together(photos, tmp_path):
    rows = [
        (f"photos/{split}/{label}/{number}.jpg", label, split, f"{label}{number % 3}" if number < 9 else "")
        for split, count in (("train", 12), ("val", 6))
        for label in ("cat", "dog")
        for number in range(count)
    ]
    table = tmp_path / "all.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "patient"), *rows])
    (photos / "val/cat/0.jpg").write_bytes((photos / "train/dog/10.jpg").read_bytes())  # a label conflict as well
    dataset, report = checked(table, group="patient")
    assert report.label_conflicts == 1
    written = write_split_file(dataset, report, tmp_path / "split.csv")
    with written.file.open(newline="") as file:
        found = {row["path"]: row for row in csv.DictReader(file)}
    sides: dict[str, set[str]] = {}
    for path, _, _, patient in rows:
        if patient:
            sides.setdefault(patient, set()).add(found[path]["split"])
    assert all(len(one) == 1 for one in sides.values())
    assert found["photos/val/cat/0.jpg"]["split"] == found["photos/train/dog/10.jpg"]["split"]
    assert found["photos/val/cat/0.jpg"]["group"] == found["photos/train/dog/10.jpg"]["group"] != ""
    assert found["photos/train/dog/11.jpg"]["group"] == ""
    assert checked(written.file)[1].leaks == 0


def test_a_class_keeps_images_to_train_on(tmp_path):
    for number in range(3):
        for split, label, seed in (("train", "cat", 0), ("val", "cat", 0), ("train", "dog", 50), ("val", "dog", 60)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            if label == "dog" or split == "val" or number == 0:  # one cat to train on, the same that is held out thrice
                photo(seed + number * (label == "dog")).save(folder / f"{number}.png")
    dataset, report = checked(tmp_path / "photos")
    written = write_split_file(dataset, report, tmp_path / "split.csv")
    again, repaired = checked(written.file)
    assert repaired.leaks == 0
    assert again.splits["train"].class_counts(2).tolist() == [4, 3]


def test_what_cannot_be_written_is_said(photos, tmp_path):
    dataset, report = checked(photos)
    for file, words in (("split.txt", "CSV"), ("none/split.csv", "no folder")):
        with pytest.raises(UsageError, match=words):
            write_split_file(dataset, report, tmp_path / file)
    with pytest.raises(UsageError, match="made by hand"):
        write_split_file(replace(dataset, options=None), report, tmp_path / "split.csv")
    limited, _ = checked(photos, limit=10)
    with pytest.raises(UsageError, match="--limit"):
        write_split_file(limited, report, tmp_path / "split.csv")
    (photos / "train/cat/0.jpg").rename(photos / "train/cat" / " 0.jpg")
    (photos / "train/cat").rename(photos / "train/ cat")
    (photos / "val/cat").rename(photos / "val/ cat")
    with pytest.raises(DataError, match="spaces at the ends"):
        write_split_file(*checked(photos), tmp_path / "split.csv")
    assert not list(tmp_path.glob("*.part"))


def test_units_are_chains_of_copies_and_groups(photos):
    plant_leaks(photos)
    dataset, report = checked(photos)
    alike = (*report.duplicate_groups, *report.near_duplicate_groups)
    unit_of = units(dataset, alike)
    assert unit_of["val/cat/exact.jpg"] == unit_of["val/cat/again.jpg"] == unit_of["train/cat/0.jpg"]
    assert len(set(unit_of.values())) == 3
    assert len(unit_of) == 7


# mirrored copies and odd images ---------------------------------------------------------------------------------------


def test_mirror_images_are_found_once_and_their_own_mirror_images_are_not():
    images = np.stack([np.asarray(photo(seed, (32, 32)).convert("L")) for seed in range(6)])
    symmetric = np.concatenate([images[5][:, :16], images[5][:, 15::-1]], axis=1)
    images = np.stack([*images, images[2][:, ::-1], symmetric])
    assert mirrored_pairs(images, perceptual_hashes(images)).tolist() == [[2, 6]]


def test_odd_images_are_told_apart():
    usual = [np.asarray(photo(seed, (32, 32)).convert("L")) for seed in range(8)]
    paper = np.random.default_rng(0).normal(240, 1, (32, 32)).astype(np.uint8)
    images = np.stack([*usual, np.full((32, 32), 7, np.uint8), paper])
    sizes = np.array([[200, 300]] * 6 + [[12, 14], [100, 900]] + [[200, 300]] * 2)
    assert [(row, kind) for row, kind, _ in odd_images(images, sizes)] == [
        (6, "tiny"), (7, "long"), (8, "uniform"), (9, "blank")
    ]  # fmt: skip
    assert not list(odd_images(np.stack(usual), np.full((8, 2), 14))), "a set of small images has no tiny ones"
    assert not list(odd_images(np.stack(usual) // 64, np.full((8, 2), 200))), "nor one of little range blank ones"
    assert not list(odd_images(np.zeros((0, 32, 32), np.uint8), np.zeros((0, 2), int)))


def test_the_doctor_tells_of_odd_images(photos):
    Image.new("RGB", (80, 60), (200, 10, 10)).save(photos / "train/cat/red.png")
    _, report = checked(photos)
    (one,) = report.odd_images
    assert (one.kind, one.path, one.split, one.label) == ("uniform", "train/cat/red.png", "train", "cat")
    assert report.warnings == ("1 image is odd: uniform, blank, tiny or very long",)
    assert report.to_dict()["odd_images"][0]["detail"] == "one colour throughout"


def test_an_empty_cell_of_a_table_names_no_group(photos, tmp_path):
    table = tmp_path / "all.csv"
    rows = [f"photos/train/{label}/{number}.jpg,{label},\n" for label in ("cat", "dog") for number in range(12)]
    table.write_text("path,label,group\n" + "".join(rows))
    assert set(load_data(DataOptions(data=str(table), group="group")).splits["train"].groups or ()) == {None}


@pytest.fixture
def arrays(tmp_path) -> Path:
    """IDX files of 120 and 30 images of three classes; copies of images to train on lie in the test part."""
    generator = np.random.default_rng(4)
    pixels = np.stack([smooth(24, 24, seed)[:, :, 0] for seed in range(150)])
    labels = generator.permutation(np.arange(150) % 3)
    pixels[120:124], labels[120:124] = pixels[:4], labels[:4]
    pixels[124], labels[124] = pixels[5], labels[5]
    pixels[125], labels[125] = pixels[5], labels[5]
    write_idx(tmp_path / "digits", {"train": (pixels[:120], labels[:120]), "t10k": (pixels[120:], labels[120:])})
    return tmp_path / "digits"


def write_idx(folder: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    folder.mkdir()
    for part, (pixels, labels) in parts.items():
        for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            shape = b"".join(side.to_bytes(4, "big") for side in values.shape)
            content = bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)


def test_arrays_are_split_by_a_file_too(arrays, tmp_path):
    dataset, report = checked(arrays)
    assert report.leaks >= 6
    written = write_split_file(dataset, report, tmp_path / "split.csv")
    assert written.images == 150
    again, repaired = checked(arrays, split_file=str(written.file))
    assert (repaired.leaks, repaired.images, repaired.splits) == (0, 150, written.splits)
    with written.file.open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    sides = {path: name for name, split in again.splits.items() for path in split.paths}
    assert sides == {path: row["split"] for path, row in rows.items()}
    assert {one.path for one in written.moved} == {
        path for name, split in dataset.splits.items() for path in split.paths if sides[path] != name
    }
    for fold in range(1, 4):  # copies stay together in cross-validation as well
        folded, report_of_fold = checked(arrays, split_file=str(written.file), fold=f"{fold}/3")
        assert report_of_fold.leaks == 0
        assert len(folded.splits["val"]) > 10


def test_a_split_file_goes_by_content(arrays, tmp_path):
    """Images in another order have the same sides; images that the file does not have are an error."""
    from striate.data.sources.idx import read_idx

    written = write_split_file(*checked(arrays), tmp_path / "split.csv")
    parts = {}
    for part in ("train", "t10k"):
        pixels, labels = (read_idx(arrays / f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        order = np.random.default_rng(0).permutation(len(labels))
        parts[part] = pixels[order], labels[order]
    write_idx(tmp_path / "shuffled", parts)
    first, _ = checked(arrays, split_file=str(written.file))
    second, _ = checked(tmp_path / "shuffled", split_file=str(written.file))
    for name, split in first.splits.items():
        assert sorted(map(bytes, split.digests)) == sorted(map(bytes, second.splits[name].digests))
    with pytest.raises(DataError, match=r"lacks 1,797 images of digits.*digits\[0\]"):
        load_data(DataOptions(data="digits", split_file=str(written.file)))
    with pytest.raises(DataError, match=r"none\.csv: no such file") as raised:
        load_data(DataOptions(data="digits", split_file="none.csv"))
    assert "--fix-split none.csv" in raised.value.hint
    assert len(load_data(DataOptions(data=str(arrays), split_file="none.csv"), scoring=True).splits["test"]) == 30


def test_what_is_no_split_file_is_said(arrays, photos, tmp_path):
    file = tmp_path / "split.csv"
    for text, words in (
        ("path,label\na,b\n", "columns hash and split"),
        ("hash,split\n00,nowhere\n", "split being train"),
        ("hash,split\n00\n", "columns hash and split"),
        ("hash,split\n00,train\n00,val\n", "on two sides"),
        ("hash,split\n00,train\n", "lacks 150 images"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=words):
            load_data(DataOptions(data=str(arrays), split_file=str(file)))
    with pytest.raises(DataError, match="cannot read"):
        load_data(DataOptions(data=str(arrays), split_file=str(tmp_path / "none.csv")))
    with pytest.raises(UsageError, match="image files"):
        load_data(DataOptions(data=str(photos), split_file=str(file)))
