"""The data doctor: what it finds, and that it changes nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

import striate
from striate.data import CheckReport, examine, load_data
from striate.data.near import MAX_DISTANCE, _close_pairs, groups_of_pairs, near_pairs, perceptual_hashes
from striate.errors import DataError
from striate.options import DataOptions

from .image_files import SHARED_DATA, as_bytes, noise, smooth


def put(root: Path, name: str, seed: int, size: tuple[int, int] = (60, 80), **settings) -> bytes:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    content = as_bytes(Image.fromarray(smooth(*size, seed)), "JPEG", quality=95, **settings)
    file.write_bytes(content)
    return content


@pytest.fixture
def clean(tmp_path) -> Path:
    """Two classes with 20 images to train on and 10 held out, all different."""
    seed = 0
    for split, count in (("train", 20), ("val", 10)):
        for label in ("cat", "dog"):
            for number in range(count):
                put(tmp_path, f"{split}/{label}/{number}.jpg", seed)
                seed += 1
    return tmp_path


def check(root: Path) -> CheckReport:
    return examine(load_data(str(root)))


def test_a_clean_set_has_nothing_to_report(clean):
    report = check(clean)
    assert (report.images, report.classes, report.splits) == (60, 2, {"train": 40, "val": 20})
    counts = (report.unreadable, report.duplicates, report.near_duplicates, report.leaks, report.label_conflicts)
    assert counts == (0, 0, 0, 0, 0)
    assert report.warnings == ()
    assert report.sizes["distinct"] == 1
    assert report.sizes["median"] == [60, 80]
    assert (report.modes, report.formats, report.exif_rotated) == ({"RGB": 60}, {"JPEG": 60}, 0)
    assert report.imbalance == 1.0


def test_exact_copies_leaks_and_conflicts(clean):
    content = (clean / "train/cat/3.jpg").read_bytes()
    for name in ("train/cat/again.jpg", "val/dog/leak.jpg"):
        (clean / name).write_bytes(content)
    report = check(clean)
    assert (report.duplicates, report.leaks, report.label_conflicts) == (2, 1, 1)
    (group,) = report.duplicate_groups
    assert set(group.paths) == {"train/cat/3.jpg", "train/cat/again.jpg", "val/dog/leak.jpg"}
    assert report.leaking_groups == report.conflicting_groups == (group,)
    assert report.warnings == (
        "1 image is held out but has a copy in another split: scores will flatter the network",
        "1 image occurs under more than one label",
        "2 images are exact copies of others",
    )


def test_near_copies_are_found_and_leaks_among_them(clean):
    source = Image.open(clean / "train/dog/5.jpg")
    source.resize((200, 150)).save(clean / "val/dog/larger.png")
    source.convert("L").save(clean / "val/dog/grey.jpg", quality=40)
    report = check(clean)
    assert (report.duplicates, report.near_duplicates, report.leaks) == (0, 2, 2)
    assert report.warnings == (
        "2 images are held out but have a copy in another split: scores will flatter the network",
        "2 images are nearly the same as others",
    )
    (group,) = report.near_duplicate_groups
    assert group.kind == "near"
    assert set(group.paths) == {"train/dog/5.jpg", "val/dog/larger.png", "val/dog/grey.jpg"}


def test_unreadable_rotated_few_and_unequal(clean):
    exif = Image.Exif()
    exif[0x0112] = 6
    put(clean, "train/cat/turned.jpg", 500, exif=exif)
    (clean / "train/cat/bad.jpg").write_bytes(b"text")
    for number in range(4, 20):
        (clean / f"train/dog/{number}.jpg").unlink()
    report = check(clean)
    assert (report.images, report.unreadable, report.exif_rotated) == (46, 1, 1)
    assert [(one.path, one.reason) for one in report.unreadable_files] == [
        ("train/cat/bad.jpg", "not an image but text")
    ]
    cat, dog = report.per_class
    assert (cat.label, cat.train, cat.val, cat.test, cat.unreadable) == ("cat", 21, 10, 0, 1)
    assert report.imbalance == 21 / 4
    text = " | ".join(report.warnings)
    for words in ("1 image cannot be read: left out", "dog (4)", "5.2 times", "other shares in val"):
        assert words in text
    assert dog.train == 4


def test_nothing_is_changed(clean):
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in clean.rglob("*.jpg")}
    check(clean)
    assert before == {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in clean.rglob("*") if file.is_file()}


def test_the_report_is_plain_json(clean):
    (clean / "train/cat/bad.jpg").write_bytes(b"text")
    (clean / "val/cat/copy.jpg").write_bytes((clean / "train/cat/3.jpg").read_bytes())
    row = json.loads(json.dumps(check(clean).to_dict()))
    assert row["unreadable_files"] == [
        {"path": "train/cat/bad.jpg", "reason": "not an image but text", "split": "train", "label": "cat"}
    ]
    assert row["leaking_groups"][0]["splits"] == ["train", "val"]
    assert {"images", "classes", "unreadable", "duplicates", "leaks", "warnings"} <= row.keys()


def test_digits_and_one_colour_images():
    report = examine(load_data("digits"))
    assert (report.images, report.classes, report.duplicates, report.leaks) == (1797, 10, 0, 0)
    assert report.modes == {"uint8 × 1": 1797}


# near duplicates ------------------------------------------------------------------------------------------------------


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BILINEAR))


@pytest.mark.skipif(not (SHARED_DATA / "photos_fullsize").is_dir(), reason="needs the real photos")
def test_real_photos_are_found_again_after_usual_changes_and_not_confused():
    originals = [Image.open(file).convert("RGB") for file in sorted((SHARED_DATA / "photos_fullsize").rglob("*.jpg"))]
    changed = []
    for image in originals:
        stream = io.BytesIO()
        image.resize((image.width // 2, image.height // 2)).save(stream, "JPEG", quality=50)
        changed.append(ImageEnhance.Contrast(Image.open(stream)).enhance(1.02))
    images = np.stack([grey(image) for image in (*originals, *changed)])
    pairs = near_pairs(images, perceptual_hashes(images)).tolist()
    count = len(originals)
    assert all(second - first == count for first, second in pairs)
    assert len(pairs) >= 0.9 * count


def test_even_images_resemble_nothing():
    images = np.stack([np.full((32, 32), value, np.uint8) for value in (0, 0, 200, 255)])
    assert len(near_pairs(images, perceptual_hashes(images))) == 0


def test_brightness_and_size_leave_the_hash_nearly_alone():
    image = Image.fromarray(smooth(120, 90, 3)).convert("L")
    dimmer = image.point(lambda value: value * 0.8)
    images = np.stack([grey(image), grey(dimmer), grey(image.resize((45, 60)))])
    hashes = perceptual_hashes(images)
    assert int(np.bitwise_count(hashes[0] ^ hashes[1])) <= MAX_DISTANCE
    assert int(np.bitwise_count(hashes[0] ^ hashes[2])) <= MAX_DISTANCE


@settings(max_examples=50, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=12),
    flips=st.lists(st.tuples(st.integers(0, 11), st.lists(st.integers(0, 63), max_size=5)), max_size=12),
)
def test_the_search_finds_exactly_the_close_pairs(seeds, flips):
    numbers = list(seeds)
    for which, bits in flips:
        number = seeds[which % len(seeds)]
        for bit in bits:
            number ^= 1 << bit
        numbers.append(number)
    hashes = np.array(numbers, np.uint64)
    expected = {
        (i, j) for i in range(len(numbers)) for j in range(i) if (numbers[i] ^ numbers[j]).bit_count() <= MAX_DISTANCE
    }
    found = [(max(pair), min(pair)) for pair in _close_pairs(hashes).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_groups_are_the_connected_pairs():
    assert groups_of_pairs(np.array([[4, 1], [7, 9], [1, 2], [9, 8]])) == [[1, 2, 4], [7, 8, 9]]
    assert groups_of_pairs(np.empty((0, 2), np.int64)) == []


# the command ----------------------------------------------------------------------------------------------------------


def test_check_prints_a_report_for_people(clean):
    from striate.cli.check import command

    (clean / "train/cat/bad.jpg").write_bytes(b"text")
    (clean / "val/cat/copy.jpg").write_bytes((clean / "train/cat/3.jpg").read_bytes())
    result = CliRunner().invoke(command, [str(clean)])
    assert result.exit_code == 0, result.output
    for words in (
        "62 images, 2 classes (train 40, val 21)",
        "all 80 × 60 pixels",
        "train/cat/bad.jpg: not an image but text",
        "train/cat/3.jpg (train) = val/cat/copy.jpg (val)",
        "warning",
    ):
        assert words in result.output


def test_check_prints_json(clean):
    from striate.cli.check import command

    result = CliRunner().invoke(command, [str(clean), "--json"])
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert (row["images"], row["classes"], row["unreadable"], row["leaks"], row["warnings"]) == (60, 2, 0, 0, [])


def test_checking_does_not_load_torch():
    import subprocess
    import sys

    code = "import sys; from striate.data import examine, load_data; examine(load_data('digits'))"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_sixty_thousand_images_take_seconds():
    images = noise(28, 28, 20_000).transpose(2, 0, 1)
    assert len(near_pairs(images, perceptual_hashes(images))) == 0


# data that can be scored but not trained on ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["test", "val"])
def test_held_out_images_alone_are_examined_with_a_warning(tmp_path, side):
    content = put(tmp_path, f"{side}/cat/1.jpg", 1)
    (tmp_path / side / "cat" / "again.jpg").write_bytes(content)
    put(tmp_path, f"{side}/dog/3.jpg", 3)
    report = striate.check(tmp_path, progress=False)
    assert not report.trainable
    assert (report.images, report.classes, report.splits) == (3, 2, {side: 3})
    assert (report.duplicates, report.leaks, report.imbalance) == (1, 0, None)
    counts = [(one.label, one.train, getattr(one, side), one.all) for one in report.per_class]
    assert counts == [("cat", 0, 2, 0), ("dog", 0, 1, 0)]
    first, second = report.warnings
    assert "can be scored (striate evaluate) but not trained on" in first
    assert f"has {side} but no train folder" in first
    assert "add train" in first
    assert second == "1 image is an exact copy of another"


def test_an_image_a_class_is_examined_with_a_warning(tmp_path):
    for seed, label in enumerate(("cat", "dog")):
        put(tmp_path, f"{label}/1.jpg", seed)
    report = striate.check(tmp_path, progress=False)
    assert (report.images, report.splits, report.trainable) == (2, {"all": 2}, False)
    assert [(one.label, one.train, one.all) for one in report.per_class] == [("cat", 0, 1), ("dog", 0, 1)]
    (warning,) = report.warnings
    assert "not trained on" in warning


def test_splits_of_different_classes_keep_their_other_findings(clean):
    content = (clean / "train/cat/3.jpg").read_bytes()
    (clean / "test/cow").mkdir(parents=True)
    (clean / "test/cow/leak.jpg").write_bytes(content)
    report = striate.check(clean, progress=False)
    assert (report.trainable, report.leaks, report.splits) == (False, 1, {"train": 40, "val": 20, "test": 1})
    assert "train and test have different classes" in report.warnings[0]
    assert any("more than one label" in warning for warning in report.warnings[1:])


def test_a_data_set_loaded_for_scoring_is_examined_too():
    report = striate.check(load_data("digits", scoring=True), progress=False)
    assert (report.images, report.trainable) == (1797, False)
    assert "digits gives no training images" in report.warnings[0]
    assert striate.check("digits", progress=False).trainable


def test_what_can_be_neither_trained_on_nor_scored_is_refused_as_for_training(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        striate.check(tmp_path, progress=False)
    (tmp_path / "cat" / "1.jpg").write_bytes(b"text")
    with pytest.raises(DataError, match="only one class, cat"):
        striate.check(tmp_path, progress=False)


def test_the_command_says_why_and_goes_on(tmp_path):
    from striate.cli.check import command

    put(tmp_path, "test/cat/1.jpg", 1)
    put(tmp_path, "test/dog/2.jpg", 2)
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert result.exit_code == 0, result.output
    for words in ("2 images, 2 classes (test 2)", "1 to 1 images", "but not trained on", "no train folder"):
        assert words in result.output
    assert "training images" not in result.output
    row = json.loads(CliRunner().invoke(command, [str(tmp_path), "--json"]).stdout)
    assert (row["images"], row["classes"], row["trainable"], row["unreadable"]) == (2, 2, False, 0)
    assert row["per_class"][0] == {"label": "cat", "train": 0, "val": 0, "test": 1, "unreadable": 0, "all": 0}
    assert len(row["warnings"]) == 1


def test_limits_do_not_confuse_the_doctor(clean):
    report = examine(load_data(DataOptions(data=str(clean), limit=10)))
    assert report.images == 30
