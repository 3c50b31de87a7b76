"""Evaluations where an image has any number of labels, against scikit-learn and plain definitions."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
import torch
from click.testing import CliRunner

from striate.checkpoint import load_model, save_model
from striate.cli.main import striate as front_door
from striate.data import LeftOut, Split
from striate.errors import DataError, UsageError
from striate.evaluation import evaluate, evaluate_run, matched
from striate.evaluation.costs import read_costs
from striate.evaluation.protocols.averages import Averages
from striate.metrics.label_table import label_names, label_rows
from striate.spec import Labels

THRESHOLDS = (0.5, 0.4, 0.3, 0.6, 0.5, 0.5, 0.45)


@pytest.fixture
def several(tmp_path, world):
    """A network of seven labels, and images that have none to seven of them, two of which cannot be read."""
    labels = Labels(world.labels.names, multi_label=True)
    saved = world.saved_model(tmp_path / "single.safetensors", n=1)
    path = tmp_path / "model.safetensors"
    save_model(path, saved.model, saved.spec, labels, thresholds=THRESHOLDS)
    split = world.tensor_split(90)
    generator = np.random.default_rng(3)
    targets = (generator.random((90, 7)) < [0.1, 0.3, 0.5, 0.3, 0.3, 0.2, 0.0]).astype(np.uint8)
    lost = (
        LeftOut("bad/0.png", "empty", "val", "ant|bee", targets=(0, 1)),
        LeftOut("bad/1.png", "empty", "val", "", targets=()),
    )
    return load_model(path), replace(split, targets=targets, unreadable=lost)


def truths_of(split: Split) -> np.ndarray:
    return np.concatenate([split.targets, split.unreadable_labels]).astype(bool)


def test_scores_equal_scikit_learns_of_the_probabilities_handed_out(several):
    saved, split = several
    result = evaluate(saved, split, device="cpu")
    chances, truths = label_rows(result.predictions)
    assert label_names(result.predictions) == list(saved.labels.names)
    assert (truths == truths_of(split)).all()
    assert np.isnan(chances[90:]).all()
    said = np.concatenate([chances[:90] >= np.array(THRESHOLDS), np.zeros((2, 7), bool)])
    f1 = sk.f1_score(truths, said, average=None, zero_division=0)
    scores = result.scores
    np.testing.assert_allclose([one.f1 for one in scores.per_class], f1)
    assert scores.micro_f1 == pytest.approx(sk.f1_score(truths, said, average="micro"))
    assert scores.macro_f1 == pytest.approx(f1[truths.any(axis=0) | said.any(axis=0)].mean())
    assert result.trust["hamming_loss"] == pytest.approx((said != truths).mean())
    assert scores.exact_match == pytest.approx((said == truths)[:90].all(axis=1).sum() / 92)
    assert (scores.n, scores.unreadable, scores.confusion) == (92, 2, ())
    assert result.trust["without_images"] == ["gnu"]
    areas = [sk.average_precision_score(truths[:90, one], chances[:90, one]) for one in range(6)]
    kept = [truths[:90, one].sum() / truths[:, one].sum() for one in range(6)]  # what cannot be read is never found
    expected = [area * share for area, share in zip(areas, kept, strict=True)]
    np.testing.assert_allclose([one.average_precision for one in scores.per_class[:6]], expected, atol=1e-6)
    assert scores.map == pytest.approx(np.mean(expected), abs=1e-6)
    assert scores.map_interval[0] < scores.map < scores.map_interval[1]
    first = chances[:90].argmax(axis=1)
    assert scores.top1 == pytest.approx(split.targets[np.arange(90), first].sum() / 92)


def test_the_table_has_a_row_an_image(several, tmp_path):
    saved, split = several
    result = evaluate(saved, split, device="cpu")
    result.write_predictions(tmp_path / "answers.parquet")
    table = pq.read_table(tmp_path / "answers.parquet")
    assert label_names(table) == list(saved.labels.names)
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == [*split.paths, "bad/0.png", "bad/1.png"]
    assert (rows[90]["labels"], rows[90]["label"], rows[90]["chosen"]) == (["ant", "bee"], "ant|bee", None)
    assert (rows[91]["labels"], rows[91]["correct"], rows[91]["error"]) == ([], False, "empty")
    names = saved.labels.names
    for row, truth in zip(rows, split.targets, strict=False):
        above = [n for n, p, limit in zip(names, row["probabilities"], THRESHOLDS, strict=True) if p >= limit]
        assert row["chosen"] == above
        assert row["labels"] == [names[place] for place in np.flatnonzero(truth)]
        assert row["correct"] == (row["chosen"] == row["labels"])
        chances = torch.tensor(row["probabilities"], dtype=torch.float64)
        loss = torch.nn.functional.binary_cross_entropy(chances, torch.from_numpy(truth).double())
        assert row["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert result.scores.loss == pytest.approx(np.mean([row["loss"] for row in rows[:90]]), rel=1e-5)


def test_the_record_is_json(several):
    saved, split = several
    row = json.loads(json.dumps(evaluate(saved, split, device="cpu").to_dict(), allow_nan=False))
    assert {"map", "top1", "top5", "loss", "n", "per_class", "micro_f1", "exact_match", "map_interval"} <= set(row)
    assert row["per_class"][1]["threshold"] == 0.4
    assert row["per_class"][6]["average_precision"] is None
    assert row["confusions"] == []
    classes = row["ranking"]["classes"]
    curve = classes[2]["precision_recall"]
    assert np.diff(curve["recall"]).min() > 0
    assert {one["wanted"] for one in classes[2]["thresholds"]} == {"recall", "precision", "false_positive_rate"}
    truths = truths_of(split)
    assert row["together"]["true"] == (truths.T.astype(int) @ truths).tolist()
    bins = row["calibration"]["bins"]
    assert sum(bins["counts"]) == 90 * 7
    assert row["ece"] == pytest.approx(row["calibration"]["ece_after"])


def test_thresholds_are_fitted_where_they_are_asked_for(several):
    saved, split = several
    result = evaluate(saved, split, device="cpu", calibrate=True)
    assert saved.thresholds == result.fitted.values
    assert saved.thresholds[6] == 0.5
    assert saved.temperature == 1
    assert tuple(one.threshold for one in result.scores.per_class) == saved.thresholds
    usual = evaluate(replace(saved, thresholds=None), split, device="cpu").scores
    assert [one.threshold for one in usual.per_class] == [0.5] * 7
    assert result.scores.macro_f1 >= usual.macro_f1
    assert result.scores.map == usual.map


def test_it_does_not_depend_on_the_batch_size(several):
    saved, split = several
    whole, pieces = (evaluate(saved, split, device="cpu", batch_size=size) for size in (90, 7))
    np.testing.assert_allclose(*(label_rows(one.predictions)[0] for one in (whole, pieces)), atol=1e-5)


def test_views_average_the_probabilities_of_each_label(several):
    saved, split = several
    few = replace(split, targets=split.targets[:3], paths=split.paths[:3], images=split.images, unreadable=())
    few = replace(few, images=type(split.images)(split.images.take(np.arange(3), saved.spec).numpy()))
    result = evaluate(saved, few, device="cpu", views="ten-crop")
    chances, _ = label_rows(result.predictions)
    crops = Averages(1, of_probabilities=True, multi_label=True)
    logits = torch.tensor([[3.0, -100.0], [-1.0, -80.0], [200.0, 0.0]])
    crops.add(logits[:2], [0, 0], [1, 2])
    crops.add(logits[2:], [0], [1])
    expected = (torch.tensor([1.0, 2.0, 1.0])[:, None] * logits.double().sigmoid()).sum(0) / 4
    torch.testing.assert_close(crops.result().double().sigmoid()[0], expected, atol=1e-6, rtol=1e-5)
    assert chances.shape == (3, 7)
    assert ((chances > 0) & (chances < 1)).all()
    assert "probabilities averaged" in result.protocol


def test_no_images_are_scored_without_complaint(several):
    saved, split = several
    none = replace(
        split, targets=split.targets[:0], paths=[], images=type(split.images)(np.zeros((0, 3, 32, 32), "u1"))
    )
    result = evaluate(saved, none, device="cpu", calibrate=True)
    assert (result.scores.n, result.scores.map, result.scores.unreadable) == (2, 0.0, 2)
    assert result.fitted is None
    assert np.isnan(result.scores.loss)
    alone = evaluate(saved, replace(none, unreadable=()), device="cpu")
    assert alone.scores.map is None
    assert "map" in alone.scores.to_dict()


# other data -----------------------------------------------------------------------------------------------------------


def test_labels_are_matched_by_name(several):
    saved, split = several
    theirs = Labels(("fox", "ant"), multi_label=True)
    few = replace(split, targets=np.array([[1, 0], [1, 1], [0, 0]], np.uint8), unreadable=split.unreadable[1:])
    few = replace(few, unreadable=(replace(few.unreadable[0], targets=(0,), label="fox"),))
    found = matched(few, theirs, saved.labels)
    assert found.targets[:, [0, 5]].tolist() == [[0, 1], [1, 1], [0, 0]]
    assert found.targets.sum() == 3
    assert found.unreadable[0].targets == (5,)
    with pytest.raises(DataError, match="any number of labels"):
        matched(few, theirs, Labels(saved.labels.names))
    with pytest.raises(DataError, match="one class an image"):
        matched(replace(split, targets=np.zeros(90, int)), Labels(saved.labels.names), saved.labels)


@pytest.fixture
def photos(tmp_path, world):
    """A table of photos of none to two labels, with the camera that took them."""
    folder = world.photo_folder(tmp_path / "photos", names=("ant", "bee", "cat"))
    rows = [
        {"file": str(path.relative_to(folder)), "seen": seen, "camera": camera}
        for path, seen, camera in zip(
            sorted(folder.rglob("*.*")),
            ["ant", "ant;bee", "", "bee", "cat;ant", "ant", "bee", "cat", "cat;bee", "ant;cat", "", "bee"],
            ["left", "right", "left"] * 4,
            strict=True,
        )
    ]
    table = folder / "photos.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


def evaluated(saved, table, **options):
    columns = {"image_column": "file", "label_column": "seen", "label_delimiter": ";"}
    return evaluate_run(saved.path, table, data_options=columns, device="cpu", **options)


def test_a_table_with_several_labels_a_row_is_evaluated_at_the_stored_thresholds(several, photos):
    saved, _ = several
    result = evaluated(saved, photos, by="camera")
    assert result.scores.n == 12
    assert [one.threshold for one in result.scores.per_class] == list(THRESHOLDS)
    assert result.scores.per_class[6].average_precision is None
    left, right = sorted(result.groups, key=lambda one: one.group)
    assert (left.n, right.n) == (8, 4)
    chances, truths = label_rows(result.predictions)
    camera = np.array(["left", "right", "left"] * 4)
    for one in (left, right):
        inside = camera == one.group
        there = truths[inside].any(axis=0)
        areas = sk.average_precision_score(truths[inside][:, there], chances[inside][:, there], average=None)
        assert one.map == pytest.approx(np.mean(areas))
        assert "balanced_accuracy" not in one.to_dict()
    assert left.map <= right.map or result.groups[0] is right


def test_costs_and_single_labels_are_refused(several, photos, tmp_path, world):
    saved, _ = several
    with pytest.raises(UsageError, match="one class against another"):
        evaluated(saved, photos, costs=tmp_path / "costs.csv")
    with pytest.raises(UsageError, match="--costs"):
        read_costs(tmp_path / "costs.csv", saved.labels)
    single = world.saved_model(tmp_path / "other.safetensors", n=1)
    with pytest.raises(DataError, match="any number of labels"):
        evaluated(single, photos)


def test_the_command_prints_the_labels_and_the_groups(several, photos, tmp_path):
    saved, _ = several
    columns = ["--image-column", "file", "--label-column", "seen", "--label-delimiter", ";"]
    words = ["evaluate", str(saved.path), str(photos), *columns, "--by", "camera", "--device", "cpu"]
    said = CliRunner().invoke(front_door, [*words, "--runs", str(tmp_path / "runs")])
    assert said.exit_code == 0, said.output
    expected = evaluated(saved, photos, by="camera")
    scores = expected.scores
    assert f"mAP {scores.map:.2%}   exactly right {scores.exact_match:.2%}" in said.stdout
    assert "no image has dog, eel, fox, gnu: left out of the mean" in said.stdout
    bee = next(line for line in said.stdout.splitlines() if line.startswith("bee "))
    one = scores.per_class[1]
    assert bee.split() == [
        "bee", f"{one.average_precision:.1%}", f"{one.threshold:.3f}", f"{one.precision:.1%}", f"{one.recall:.1%}",
        f"{one.f1:.1%}", str(one.support),
    ]  # fmt: skip
    for group in expected.groups:
        line = next(line for line in said.stdout.splitlines() if line.startswith(f"{group.group} "))
        assert line.split() == [group.group, f"{group.map:.1%}", f"{group.exact_match:.1%}", str(group.n)]
