"""Tables with several labels an image: how they are said, what is refused, how they are split, drawn and checked."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from striate.data import Dataset, check, load_data
from striate.data.batches import EvaluationBatches, TrainingBatches
from striate.data.sampling import balanced_order, balanced_quota
from striate.data.split import assign, ranked_numbers, shares, strata
from striate.data.split_file import write_split_file
from striate.errors import DataError, UnknownNameError, UsageError
from striate.options import AugmentOptions, DataOptions
from striate.spec import InputSpec

from .image_files import as_bytes, noise

WORDS = ("cat", "cat|dog", "", "dog|owl", "owl|cat|dog", "dog")


def put(folder: Path, count: int, *, seed: int = 0) -> list[str]:
    names = [f"{number:03d}.png" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(as_bytes(Image.fromarray(noise(6, 6, 1, 1000 * seed + number)[..., 0]), "PNG"))
    return names


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return file


@pytest.fixture
def table(tmp_path) -> Path:
    """60 images with the labels of WORDS in turn."""
    names = put(tmp_path, 60)
    return write(
        tmp_path / "animals.csv",
        [{"image": name, "label": WORDS[number % 6]} for number, name in enumerate(names)],
    )


def load(data: Path, **settings) -> Dataset:
    return load_data(DataOptions(data=str(data), **settings))


def labels_by_path(dataset: Dataset) -> dict[str, str]:
    return {
        path: text
        for split in dataset.splits.values()
        for path, text in zip(split.paths, split.label_texts(dataset.labels), strict=True)
    }


def test_a_column_with_a_delimiter(table):
    dataset = load(table, label_delimiter="|")
    assert dataset.labels.multi_label
    assert dataset.labels.names == ("cat", "dog", "owl")
    train = dataset.splits["train"]
    assert train.multi_label
    assert train.targets.dtype == np.uint8
    assert train.targets.shape == (len(train), 3)
    said = labels_by_path(dataset)
    assert said == {f"{number:03d}.png": "|".join(sorted(WORDS[number % 6].split("|"))) for number in range(60)}
    assert train.class_counts(3).tolist() == train.targets.sum(axis=0).tolist()
    assert any("10 images have none of the labels" in note for note in dataset.notes)
    assert {row["path"]: row["label"] for row in dataset.manifest().to_pylist()} == said


def test_without_the_delimiter_each_text_is_a_class(table):
    with pytest.raises(DataError, match="column label is empty in 10 rows") as raised:
        load(table)
    assert "'cat|dog' is taken for one class: where it is 2, give --label-delimiter '|'" in raised.value.hint


def test_a_forgotten_delimiter_is_asked_about_where_parts_are_seen_again(tmp_path):
    names = put(tmp_path, 40)
    for texts, said in (("a;b", "b;c", "a;c"), True), (("x, y", "x", "z"), False), (("one", "two", "two"), False):
        rows = [{"path": name, "labels": texts[place % 3]} for place, name in enumerate(names)]
        notes = load(write(tmp_path / "t.csv", rows)).notes
        assert any("'a;b' is taken for one class" in note for note in notes) is said


def test_blanks_empty_places_and_labels_said_twice(tmp_path):
    names = put(tmp_path, 40)
    texts = (" a ; b", "b;;a;", "c;c", "a")
    file = write(tmp_path / "t.csv", [{"path": name, "class": texts[i % 4]} for i, name in enumerate(names)])
    dataset = load(file, label_delimiter=";")
    assert dataset.labels.names == ("a", "b", "c")
    assert set(labels_by_path(dataset).values()) == {"a|b", "c", "a"}
    assert any("10 rows name a label twice" in note for note in dataset.notes)


def test_lists_and_columns_of_0_and_1_say_the_same(table):
    expected = load(table, label_delimiter="|")
    names = [f"{number:03d}.png" for number in range(60)]
    cells = [[one for one in WORDS[number % 6].split("|") if one] for number in range(60)]
    lists = table.with_name("animals.parquet")
    pq.write_table(pa.table({"image": names, "label": [cell or None for cell in cells]}), lists)
    columns = write(
        table.with_name("columns.csv"),
        [
            {"image": name} | {one: int(one in cell) for one in ("cat", "dog", "owl")}
            for name, cell in zip(names, cells, strict=True)
        ],
    )
    for dataset in (load(lists), load(columns, label_column="cat, dog,owl")):
        assert dataset.labels == expected.labels
        assert labels_by_path(dataset) == labels_by_path(expected)
        assert dataset.splits["val"].paths == expected.splits["val"].paths


def test_columns_keep_their_order(tmp_path):
    rows = [{"image": name, "z": "TRUE", "a": 1 - i % 2} for i, name in enumerate(put(tmp_path, 20))]
    assert load(write(tmp_path / "t.csv", rows), label_column="z,a").labels.names == ("z", "a")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"label_delimiter": ";"}, DataError, "no cell of column label holds the delimiter ';'"),
        ({"label_delimiter": "|", "label_column": "a,b"}, UsageError, "nothing for --label-delimiter to divide"),
        ({"label_column": "image,wing"}, UnknownNameError, "wing"),
        ({"label_column": "label,label"}, UsageError, "names a column twice"),
        ({"label_column": "image,label"}, DataError, "column image says '000.png' in row 1"),
        ({"label_delimiter": "o"}, DataError, r"the label 'cat\|d' holds '\|'"),
    ],
)
def test_what_cannot_be_is_refused(table, settings, error, words):
    with pytest.raises(error, match=words) as caught:
        load(table, **settings)
    assert caught.value.hint


def test_the_hint_names_the_delimiter_that_is_there(table):
    with pytest.raises(DataError) as caught:
        load(table, label_delimiter=";")
    assert caught.value.hint == "the cells have '|'"


def test_only_tables_have_delimiters(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        put(tmp_path / label, 5, seed=ord(label))
    with pytest.raises(UsageError, match="has one label to an image"):
        load(tmp_path, label_delimiter="|")


def test_a_list_is_not_divided_again_and_has_no_empty_label(tmp_path):
    names = put(tmp_path, 4)
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": names, "label": [["a"], ["b"], ["a", ""], []]}), file)
    with pytest.raises(UsageError, match="holds lists"):
        load(file, label_delimiter="|")
    with pytest.raises(DataError, match="an empty label in row 3"):
        load(file)


def test_an_image_with_other_labels_in_another_row(table):
    text = table.read_text()
    table.write_text(text + "000.png,cat\n")
    assert any("1 row repeats" in note for note in load(table, label_delimiter="|").notes)
    table.write_text(text + "000.png,dog|cat\n002.png,owl\n")
    with pytest.raises(DataError, match=r"000.png is labelled both cat and cat\|dog"):
        load(table, label_delimiter="|")


def test_a_label_of_the_test_images_alone_cannot_be_learned(tmp_path):
    rows = [
        {"image": name, "label": "a|b" if i % 2 else "b|c" if i == 38 else "b", "split": "test" if i > 30 else "train"}
        for i, name in enumerate(put(tmp_path, 40))
    ]
    file = write(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match="no training image of c"):
        load(file, label_delimiter="|")
    scored = load_data(DataOptions(data=str(file), label_delimiter="|"), scoring=True)
    assert scored.labels.names == ("a", "b", "c")


def test_a_table_to_score_may_have_no_cell_with_two_labels(tmp_path):
    rows = [{"image": name, "label": "dog"} for name in put(tmp_path, 3)]
    dataset = load_data(DataOptions(data=str(write(tmp_path / "t.csv", rows)), label_delimiter="|"), scoring=True)
    assert dataset.labels.multi_label
    assert dataset.splits["all"].targets.tolist() == [[1]] * 3


# splits ---------------------------------------------------------------------------------------------------------------


def test_splits_follow_content_and_every_label_trains(table):
    before = load(table, label_delimiter="|")
    sides = {path: split.name for split in before.splits.values() for path in split.paths}
    names = put(table.parent, 90)[60:]
    text = table.read_text()
    table.write_text(text + "".join(f"{name},bee|cat\n" for name in names))
    after = load(table, label_delimiter="|")
    assert sides.items() <= {path: split.name for split in after.splits.values() for path in split.paths}.items()
    assert (after.splits["train"].class_counts(4) > 0).all()


def test_of_a_rare_label_an_image_trains_whatever_its_number():
    digests = np.random.default_rng(0).integers(0, 256, (40, 16), np.uint8)
    targets = np.zeros((40, 3), np.uint8)
    targets[:, 0] = 1
    for rare in range(40):
        targets[:, 1:] = 0
        targets[rare, 1] = 1
        sides = assign(digests, targets, val=(0.0, 0.6))
        assert sides[rare] == "train"
        assert (sides == "val").any()


def test_folds_and_groups(table):
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    write(table, [row | {"film": str(number // 5)} for number, row in enumerate(rows)])
    seen: list[str] = []
    for fold in range(1, 4):
        dataset = load(table, label_delimiter="|", group="film", fold=f"{fold}/3")
        sides: dict[str | None, set[str]] = {}
        for split in dataset.splits.values():
            for group in split.groups or ():
                sides.setdefault(group, set()).add(split.name)
        assert all(len(one) == 1 for one in sides.values())
        seen += dataset.splits["val"].paths
    assert len(seen) == len(set(seen))


def test_an_image_counts_for_its_rarest_label():
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 0, 1]], np.uint8)
    assert strata(targets).tolist() == [1, 0, 3, 1, 2]
    assert strata(np.array([2, 0])).tolist() == [2, 0]
    digests = np.random.default_rng(1).integers(0, 256, (5, 16), np.uint8)
    numbers = np.linspace(0, 1, 5)
    assert (
        ranked_numbers(numbers, digests, targets).tolist() == ranked_numbers(numbers, digests, strata(targets)).tolist()
    )


@pytest.mark.parametrize("limit", [4, 9, 30])
def test_a_limit_keeps_every_label_and_about_its_share(limit):
    draws = np.random.default_rng(3)
    digests = draws.integers(0, 256, (60, 16), np.uint8)
    targets = (draws.random((60, 4)) < (0.5, 0.3, 0.3, 0.02)).astype(np.uint8)
    targets[7] = (0, 0, 0, 1)
    kept = shares(targets, digests, limit, seed=0)
    assert len(set(kept.tolist())) == limit
    assert targets[kept].any(axis=0).all()
    assert np.array_equal(kept, shares(targets, digests, limit, seed=0))
    if limit == 30:
        assert targets[kept, :3].mean(axis=0) == pytest.approx(targets[:, :3].mean(axis=0), abs=0.12)


def test_limit_by_option(table):
    dataset = load(table, label_delimiter="|", limit=7)
    assert len(dataset.splits["train"]) == 7
    assert (dataset.splits["train"].class_counts(3) > 0).all()
    beyond = dataset.beyond_limit[0]
    assert beyond.target is None
    assert beyond.targets is not None
    assert beyond.label == "|".join(dataset.labels.names[place] for place in beyond.targets)


def test_unreadable_images_keep_their_labels(table):
    for number in (1, 2):
        (table.parent / f"{number:03d}.png").write_bytes(b"no image")
    dataset = load(table, label_delimiter="|")
    assert {(one.path, one.label, one.targets, one.target) for one in dataset.left_out} == {
        ("001.png", "cat|dog", (0, 1), None),
        ("002.png", "", (), None),
    }
    rows = np.concatenate([split.unreadable_labels for split in dataset.splits.values()])
    assert sorted(rows.tolist()) == [[0, 0, 0], [1, 1, 0]]


# batches --------------------------------------------------------------------------------------------------------------


def test_batches_carry_the_labels_of_their_images(table):
    split = load(table, label_delimiter="|").splits["train"]
    spec = InputSpec(size=(6, 6), channels=1, mean=(0.5,), std=(0.5,))
    settings = {"batch_size": 8, "device": torch.device("cpu")}
    batch = next(
        iter(TrainingBatches(split, spec, AugmentOptions(preset="none", mixup=0.4), seed=0, **settings).epoch(0))
    )
    expected = torch.from_numpy(split.targets[batch.indices]).float()
    assert torch.equal(batch.targets, expected)
    assert torch.equal(batch.mixed_targets, expected.roll(-1, 0))
    rows = [(one.targets, one.indices) for one in EvaluationBatches(split, spec, **settings)]
    assert torch.equal(torch.cat([targets for targets, _ in rows]), torch.from_numpy(split.targets).float())


def test_balanced_draws_show_each_rarest_label_as_often():
    targets = np.zeros((50, 3), np.uint8)
    targets[:40, 0] = 1
    targets[:6, 1] = 1
    targets[2, 2] = 1
    order = balanced_order(targets, 0, 0)
    counts = np.bincount(strata(targets)[order % 50], minlength=4)
    assert counts.tolist() == [balanced_quota(targets)] * 4
    assert len(set(order.tolist())) == len(order)  # every showing has draws of its own


# the check ------------------------------------------------------------------------------------------------------------


def test_the_check_counts_by_label_and_finds_copies_under_other_labels(table):
    content = (table.parent / "001.png").read_bytes()
    (table.parent / "copy.png").write_bytes(content)
    table.write_text(table.read_text() + "copy.png,owl\n")
    report = check(DataOptions(data=str(table), label_delimiter="|"))
    assert {one.label: one.train + one.val for one in report.per_class} == {"cat": 30, "dog": 40, "owl": 21}
    assert report.labels_per_image == {0: 10, 1: 21, 2: 20, 3: 10}
    assert report.label_conflicts == 1
    assert set(report.conflicting_groups[0].labels) == {"cat|dog", "owl"}
    assert any("10 images have no label" in one for one in report.warnings)
    assert any("1 image occurs under different labels" in one for one in report.warnings)
    assert report.to_dict()["labels_per_image"] == report.labels_per_image


def test_a_split_file_says_the_same_labels(table):
    dataset = load(table, label_delimiter="|")
    report = check(DataOptions(data=str(table), label_delimiter="|"))
    file = table.with_name("split.csv")
    write_split_file(dataset, report, file)
    again = load(file, label_delimiter="|")
    assert labels_by_path(again) == labels_by_path(dataset)
    assert sorted(again.splits["val"].paths) == sorted(dataset.splits["val"].paths)
