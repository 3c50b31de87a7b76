"""Doubtful labels and far images, by confident learning and codes, and the page that shows them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from tests.transfer.low_digits import Heard, quick, some_digits

from striate.cli.check import command
from striate.data import Dataset, TensorImages, examine
from striate.data.scan import array_digests
from striate.errors import DataError, UsageError
from striate.metrics.confident import confident_labels
from striate.transfer.suspects import find_suspects, neighbour_distances


def spoilt(dataset: Dataset, share: float) -> tuple[Dataset, dict[str, str]]:
    """Labels moved to the next class, and the true ones by path."""
    draw, truth, splits = np.random.default_rng(0), {}, {}
    names = dataset.labels.names
    for name, split in dataset.splits.items():
        targets = split.targets.copy()
        for row in draw.choice(len(split), round(share * len(split)), replace=False).tolist():
            truth[split.paths[row]] = names[targets[row]]
            targets[row] = (targets[row] + 1) % len(names)
        splits[name] = replace(split, targets=targets)
    return replace(dataset, splits=splits), truth


def test_planted_wrong_labels_are_found_and_few_others(source):
    dataset, truth = spoilt(some_digits((5, 6, 7, 8, 9)), 0.03)
    found = find_suspects(dataset, examine(dataset), str(source), quick(), cache=None)
    right = [one for one in found.labels if one.path in truth]
    assert len(right) >= 0.5 * len(truth)
    assert len(right) >= 0.9 * len(found.labels)
    assert sum(one.suggested == truth[one.path] for one in right) >= 0.9 * len(right)
    surest = [one.path in truth for one in found.labels[: len(truth) // 2]]
    assert sum(surest) >= 0.9 * len(surest), "the surest come first"
    assert found.images == sum(map(len, dataset.splits.values()))
    assert found.accuracy > 0.9


def test_a_stray_is_far_and_its_copies_do_not_hide_it(source, other_digits):
    train = other_digits.splits["train"]
    assert isinstance(train.images, TensorImages)
    pixels = train.images.pixels.copy()
    draw = np.random.default_rng(1)
    pixels[3] = draw.integers(0, 2, pixels[3].shape) * pixels.max()
    pixels[4:10] = pixels[3]
    changed = replace(train, images=TensorImages(pixels), digests=array_digests(pixels))
    dataset = replace(other_digits, splits={**other_digits.splits, "train": changed})
    found = find_suspects(dataset, examine(dataset), str(source), quick(), cache=None)
    assert {one.path for one in found.far[:7]} == {train.paths[row] for row in range(3, 10)}


def test_what_cannot_be_asked_is_said(source, other_digits):
    train = other_digits.splits["train"]
    one_class = replace(train, targets=np.zeros_like(train.targets))
    dataset = replace(other_digits, splits={**other_digits.splits, "train": one_class, "val": one_class})
    with pytest.raises(DataError, match="one class"):
        find_suspects(dataset, examine(other_digits), str(source), quick(), cache=None)
    with pytest.raises(UsageError, match="names no weights"):
        find_suspects(other_digits, examine(other_digits), "lenet5", quick(), cache=None, progress=Heard())


# confident learning, by a plain loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_confident_learning_agrees_with_a_plain_loop(seed):
    draw = np.random.default_rng(seed)
    n, classes = 60, 4
    chances = draw.dirichlet(np.full(classes, 0.5), n)
    labels = draw.integers(0, classes - (seed % 2), n)  # every other time a class has no image
    found = confident_labels(chances, labels)
    thresholds = {c: chances[labels == c, c].mean() for c in range(classes) if (labels == c).any()}
    suspects = []
    for row in range(n):
        passed = [c for c, threshold in thresholds.items() if chances[row, c] >= threshold]
        best = max(passed, key=lambda c: chances[row, c]) if passed else -1
        assert found.counted[row] == best
        if passed and best != labels[row]:
            suspects.append((chances[row, labels[row]], row))
    assert found.suspects.tolist() == [row for _, row in sorted(suspects)]


def test_right_labels_that_are_surely_known_leave_no_suspects():
    labels = np.arange(30) % 3
    chances = np.where(np.eye(3)[labels] > 0, 0.98, 0.01)
    found = confident_labels(chances, labels)
    assert len(found.suspects) == 0
    labels[7] = (labels[7] + 1) % 3
    found = confident_labels(chances, labels)
    assert found.suspects.tolist() == [7]
    assert found.counted[7] == 7 % 3


def test_distances_are_those_of_a_plain_search():
    codes = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) + 1
    codes[11] = -5 * codes.mean(axis=0)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    plain = np.array([np.sort(np.linalg.norm(unit - one, axis=1))[5] for one in unit])
    np.testing.assert_allclose(neighbour_distances(codes), plain / np.median(plain), rtol=1e-3)
    assert neighbour_distances(codes).argmax() == 11
    assert neighbour_distances(codes[:1]).tolist() == [1.0]


# the command and its page ---------------------------------------------------------------------------------------------


def test_the_command_asks_a_network_and_writes_a_page_and_a_split(source, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    (photo_folder / "dark" / "light-really.png").write_bytes((photo_folder / "light" / "3.png").read_bytes())
    (photo_folder / "dark" / "bad <b>.png").write_bytes(b"text")
    page, table = tmp_path / "page.html", tmp_path / "split.csv"
    words = [str(photo_folder), "--from", str(source), "--html", str(page), "--fix-split", str(table)]
    words += ["--device", "cpu", "--precision", "fp32", "--threads", "1"]
    result = CliRunner().invoke(command, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["html"] == str(page)
    assert found["fixed_split"]["images"] == found["images"] == 22
    assert found["suspects"]["images"] == 21
    text = page.read_text()
    for part in ("Leaks", "Doubtful labels", "Unreadable files", "several labels", "bad &lt;b&gt;.png", "data:image/"):
        assert part in text or (part == "Leaks" and not found["leaks"])
    assert "<b>.png" not in text
    assert "http" not in text.replace("http-equiv", "")
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    for part in ("asked", "doubtful", "least like the others", "fixed split", f"striate train {table}"):
        assert part in result.stdout


def test_the_page_of_a_clean_set_says_so_and_of_digits_shows_classes(tmp_path):
    page = tmp_path / "digits.html"
    result = CliRunner().invoke(command, ["digits", "--html", str(page)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Nothing to worry about" in page.read_text()


def test_a_page_and_a_split_file_have_their_endings(tmp_path):
    assert "HTML file" in CliRunner().invoke(command, ["digits", "--html", str(tmp_path / "page.txt")]).stderr
    result = CliRunner().invoke(command, ["digits", "--fix-split", str(tmp_path / "split.txt")])
    assert result.exit_code == 2
    assert "split.txt" in result.stderr
