"""Folders and tables: splits, groups, limits, folds, columns."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from striate.data import Dataset, load_data
from striate.errors import DataError, StriateError, UnknownNameError, UsageError
from striate.options import DataOptions
from striate.spec import InputSpec

from .image_files import SHARED_DATA, as_bytes, noise, npy


def load(data: Path | str, **settings) -> Dataset:
    return load_data(DataOptions(data=str(data), **settings))


def put(root: Path, *names: str, seed: int = 0) -> None:
    """Small images, each of its own content, at these paths."""
    for number, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_bytes(Image.fromarray(noise(6, 6, 3, 1000 * seed + number)), "PNG"))


def sides(dataset: Dataset) -> dict[str, str]:
    """path → split of every image used."""
    return {path: split.name for split in dataset.splits.values() for path in split.paths}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes of 50 images, taken from 10 films of 5 frames each."""
    root = tmp_path / "films"
    put(root, *(f"{label}/film{n // 5}/frame{n % 5}.png" for label in ("cat", "dog") for n in range(50)))
    return root


def test_a_folder_becomes_a_data_set(folder):
    dataset = load(folder)
    assert (dataset.name, dataset.kind, dataset.channels, dataset.native_size) == ("films", "photos", 3, (6, 6))
    assert dataset.labels.names == ("cat", "dog")
    assert not dataset.official_test
    assert set(dataset.splits) == {"train", "val"}
    for split in dataset.splits.values():
        for path, target in zip(split.paths, split.targets, strict=True):
            assert path.startswith(dataset.labels.names[target])
    assert any("val is 20 %" in note for note in dataset.notes)


def test_files_added_later_move_no_old_one(folder):
    before = sides(load(folder))
    put(folder, *(f"{label}/new/{n}.png" for label in ("ant", "cat", "dog") for n in range(25)), seed=7)
    after = sides(load(folder))
    assert len(after) == len(before) + 75
    assert {path: after[path] for path in before} == before


def test_a_renamed_file_and_its_copies_keep_their_side(folder):
    before = sides(load(folder))
    path = next(path for path, side in before.items() if side == "val")
    content = (folder / path).read_bytes()
    (folder / path).rename(folder / "cat" / "renamed.png")
    (folder / "dog" / "copy.png").write_bytes(content)
    after = sides(load(folder))
    assert after["cat/renamed.png"] == after["dog/copy.png"] == "val"


@pytest.mark.parametrize("group", ["parent", r"(\w+/film\d+)/"])
def test_groups_stay_together(folder, group):
    dataset = load(folder, group=group)
    by_film: dict[str, set[str]] = {}
    for path, side in sides(dataset).items():
        by_film.setdefault(path.rpartition("/")[0], set()).add(side)
    assert all(len(found) == 1 for found in by_film.values())
    assert {side for found in by_film.values() for side in found} == {"train", "val"}
    rows = dataset.manifest().to_pylist()
    assert {row["group"] for row in rows} == {f"{label}/film{n}" for label in ("cat", "dog") for n in range(10)}


@pytest.mark.parametrize(
    ("group", "reason"), [("film", "no bracket"), ("(", "not a regular expression"), ("(reel)", "matches no path")]
)
def test_group_patterns_are_checked(folder, group, reason):
    with pytest.raises(UsageError, match=reason):
        load(folder, group=group)


def test_another_seed_another_split_and_fractions_are_kept(folder):
    assert sides(load(folder)) != sides(load(folder, split_seed=1))
    smaller, larger = sides(load(folder, val_fraction=0.1)), sides(load(folder, val_fraction=0.4))
    assert all(larger[path] == "val" for path, side in smaller.items() if side == "val")
    both = load(folder, val_fraction=0.2, test_fraction=0.3)
    assert set(both.splits) == {"train", "val", "test"}
    assert not both.official_test
    same = {path for path, side in sides(load(folder)).items() if side == "val"}
    assert {path for path, side in sides(both).items() if side == "val"} == same
    with pytest.raises(UsageError, match="leave nothing"):
        load(folder, val_fraction=0.6, test_fraction=0.4)


def test_folds_hold_out_every_image_once(folder):
    held = [{path for path, side in sides(load(folder, fold=f"{k}/4")).items() if side == "val"} for k in range(1, 5)]
    assert sum(map(len, held)) == 100
    assert len(set().union(*held)) == 100
    for text in ("0/4", "5/4", "1", "a/b", "1/1"):
        with pytest.raises(UsageError, match=r"data\.fold"):
            load(folder, fold=text)


def test_a_limit_keeps_shares_and_leaves_validation_alone(folder):
    whole, limited = load(folder), load(folder, limit=20)
    assert len(limited.splits["train"]) == 20
    assert np.abs(limited.splits["train"].class_counts(2) - 10).max() <= 1
    assert limited.splits["val"].paths == whole.splits["val"].paths
    rows = limited.manifest().to_pylist()
    assert sum(row["reason"] == "beyond the limit" for row in rows) == len(whole.splits["train"]) - 20
    assert len(rows) == 100


def test_given_splits_are_kept(tmp_path):
    put(
        tmp_path,
        *(f"{split}/{label}/{n}.png" for split in ("train", "valid", "test") for label in "ab" for n in range(20)),
    )
    dataset = load(tmp_path, val_fraction=0.5, test_fraction=0.1)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 40, "val": 40, "test": 40}
    assert dataset.official_test
    assert sum("not used" in note for note in dataset.notes) == 2
    folded = load(tmp_path, fold="1/4")
    assert len(folded.splits["train"]) + len(folded.splits["val"]) == 80
    assert len(folded.splits["test"]) == 40


def test_validation_is_a_tenth_where_there_is_a_test_folder(tmp_path):
    put(tmp_path, *(f"{split}/{label}/{n}.png" for split in ("train", "test") for label in "ab" for n in range(60)))
    dataset = load(tmp_path)
    assert any("val is 10 %" in note for note in dataset.notes)
    assert 4 <= len(dataset.splits["val"]) <= 22
    assert len(dataset.splits["test"]) == 120


def test_unreadable_images_belong_to_a_split_and_a_class(folder):
    for number in range(20):
        (folder / "dog" / f"bad{number}.jpg").write_bytes(b"no image %d" % number)
    dataset = load(folder)
    assert len(dataset.left_out) == 20
    found = [one for split in dataset.splits.values() for one in split.unreadable]
    assert {one.split for one in found} == {"train", "val"}
    assert dataset.splits["val"].unreadable_targets == [1] * len(dataset.splits["val"].unreadable)
    assert all(one.label == "dog" and one.digest for one in found)
    assert len(dataset.splits["train"].paths) + len(dataset.splits["val"].paths) == 100


def test_grey_and_colour_mix_and_deep_with_ordinary(tmp_path):
    put(tmp_path, *(f"a/{n}.png" for n in range(10)))
    (tmp_path / "b").mkdir()
    for number in range(10):
        (tmp_path / "b" / f"{number}.npy").write_bytes(npy(noise(6, 6, 1, number, np.uint16)))
    dataset = load(tmp_path)
    assert (dataset.channels, dataset.bits) == (3, 16)
    assert sum("among" in note for note in dataset.notes) == 2
    split = dataset.splits["train"]
    assert split.images.take(np.arange(len(split)), InputSpec(size=(6, 6), channels=3, bits=16)).max() > 255


def test_class_names_that_are_numbers_are_in_their_order(tmp_path):
    put(tmp_path, *(f"{label}/{n}.png" for label in range(11) for n in range(3)))
    assert load(tmp_path).labels.names == tuple(map(str, range(11)))


# tables ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path) -> list[dict[str, str]]:
    """40 images below `images/`, as rows with path, label, patient and split."""
    paths = [f"images/{n}.png" for n in range(40)]
    put(tmp_path, *paths)
    return [
        {
            "path": path,
            "label": f"00{n % 2}",
            "patient": f"p{n // 4}",
            "split": ["train", "train", "val", "test"][n % 4],
        }
        for n, path in enumerate(paths)
    ]


def write_csv(file: Path, rows: list[dict[str, str]], columns: list[str] | None = None, delimiter: str = ",") -> Path:
    columns = columns or list(rows[0])
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_of_every_kind(tmp_path, rows, ending):
    file = tmp_path / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        write_csv(file, rows, delimiter="\t" if ending == "tsv" else ",")
    dataset = load(file, group="patient")
    assert (dataset.name, dataset.labels.names) == ("list", ("000", "001"))  # text, not numbers
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 20, "val": 10, "test": 10}
    assert dataset.official_test
    assert set(dataset.splits["val"].groups or ()) == {f"p{n}" for n in range(10)}


def test_a_table_without_splits_is_split_by_group(tmp_path, rows):
    dataset = load(write_csv(tmp_path / "a.csv", rows, ["path", "label", "patient"]), group="patient", val_fraction=0.4)
    by_patient: dict[str, set[str]] = {}
    for row in dataset.manifest().to_pylist():
        by_patient.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in by_patient.values())
    assert set(sides(dataset).values()) == {"train", "val"}


def test_columns_by_name(tmp_path, rows):
    renamed = [{"Bild": row["path"], "Art": row["label"], "Teil": row["split"]} for row in rows]
    file = write_csv(tmp_path / "a.csv", renamed)
    with pytest.raises(DataError, match="no column of image paths") as caught:
        load(file)
    assert "Bild, Art, Teil" in (caught.value.hint or "")
    dataset = load(file, image_column="Bild", label_column="Art", split_column="Teil")
    assert len(dataset.splits["test"]) == 10
    with pytest.raises(UnknownNameError) as unknown:
        load(file, image_column="Bld", label_column="Art")
    assert unknown.value.nearest == ["Bild"]


def test_usual_columns_in_any_letter_case(tmp_path, rows):
    file = write_csv(tmp_path / "a.csv", [{"FileName": row["path"], "Class": row["label"]} for row in rows])
    assert sum(map(len, load(file).splits.values())) == 40


def test_missing_files_are_listed(tmp_path, rows):
    dataset = load(write_csv(tmp_path / "a.csv", [*rows, {**rows[0], "path": "images/gone.png"}]))
    assert [(one.path, one.reason, one.split) for one in dataset.left_out] == [
        ("images/gone.png", "file not found", "train")
    ]


def test_repeated_rows_count_once(tmp_path, rows):
    dataset = load(write_csv(tmp_path / "a.csv", [*rows, rows[3]]))
    assert sum(map(len, dataset.splits.values())) == 40
    assert any("1 row repeats an earlier one" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": ""}, "column label is empty in row 41"),
        ({"path": ""}, "column path is empty"),
        ({"split": "holdout"}, "says holdout"),
        ({"label": "other"}, "labelled both 000 and other"),
    ],
)
def test_faulty_rows_are_named(tmp_path, rows, change, reason):
    with pytest.raises(DataError, match=reason):
        load(write_csv(tmp_path / "a.csv", [*rows, {**rows[0], **change}]))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "cannot read the table"),
        ("a.csv", b"path,label\n", "no rows"),
        ("a.csv", b"path,label\nx.png,1\ny.png,2\n", "no image found"),
        ("a.csv", b"path,label\nx.png,1\n", "only one class, 1"),
        ("a.csv", "path,label\nx.png,größe\n".encode("latin-1"), "UTF-8|utf-8|UTF8"),
        ("a.csv", b"path,label\nx.png,1,2,3\n", "cannot read the table"),
        ("a.parquet", b"PAR1 but not really", "cannot read the table"),
    ],
)
def test_faulty_tables_are_named(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StriateError, match=reason):
        load(tmp_path / name)


# real photos ----------------------------------------------------------------------------------------------------------

REAL = pytest.mark.skipif(not (SHARED_DATA / "photos").is_dir(), reason="needs the real photos")


@REAL
def test_the_real_photos_with_their_own_splits():
    dataset = load(SHARED_DATA / "photos")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 900, "val": 400}
    assert dataset.splits["train"].class_counts(10).tolist() == [90] * 10
    assert dataset.splits["val"].class_counts(10).tolist() == [40] * 10
    assert (dataset.channels, dataset.native_size, dataset.left_out) == (3, (224, 224), ())


@REAL
def test_the_real_photos_in_their_own_sizes():
    dataset = load(SHARED_DATA / "photos_fullsize")
    assert dataset.labels.names == ("ants", "bees")
    assert sum(map(len, dataset.splits.values())) == 40
    assert dataset.native_size is None
    batch = dataset.splits["train"].images.take(np.arange(4), InputSpec(size=(64, 48), channels=3))
    assert tuple(batch.shape) == (4, 3, 64, 48)
