"""What an evaluation says beyond its scores: equal to scikit-learn's figures of the probabilities it hands out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import striate
from striate.cli.main import striate as front_door
from striate.data import Split
from striate.errors import DataError, UnknownNameError, UsageError
from striate.evaluation import evaluate, evaluate_run
from striate.evaluation.costs import read_costs
from striate.evaluation.trust import trust_of
from striate.spec import Labels


@pytest.fixture
def result(tmp_path, world):
    saved = world.saved_model(tmp_path / "model.safetensors")
    saved.temperature = 0.5
    return evaluate(saved, world.tensor_split(150, unreadable=3), device="cpu")


def test_areas_and_curves_equal_scikit_learns(result, world):
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = [row for row in result.predictions.to_pylist() if row["error"] is None]
    labels, trust = world.labels, result.trust
    generator = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(300, 7, generator=generator), torch.randint(0, 7, (300,), generator=generator)
    ranking = trust_of(logits, targets, labels, temperature=2.0)["ranking"]
    chances, truth = (logits.double() / 2).softmax(1).numpy(), targets.numpy()
    assert ranking["macro_auc"] == pytest.approx(roc_auc_score(truth, chances, multi_class="ovr"), abs=1e-6)
    for number, row in enumerate(ranking["classes"]):
        assert row["label"] == labels.names[number]
        assert row["auc"] == pytest.approx(roc_auc_score(truth == number, chances[:, number]), abs=1e-6)
        assert row["average_precision"] == pytest.approx(
            average_precision_score(truth == number, chances[:, number]), abs=1e-6
        )
        area = np.trapezoid(row["roc"]["recall"], row["roc"]["false_positive_rate"])
        assert area == pytest.approx(row["auc"], abs=0.005)  # of at most 200 of its corners
        for wish in row["thresholds"]:
            said = chances[:, number] >= (wish["threshold"] or np.inf) - 1e-7
            assert wish["recall"] is None or said[truth == number].mean() == pytest.approx(wish["recall"])

    curve = trust["rejection"]
    assert curve["n"] == 153
    assert curve["coverage"][-1] == pytest.approx(150 / 153)
    wrong = sum(not row["correct"] for row in rows)
    assert curve["error"][-1] == pytest.approx(wrong / 150)
    for one in curve["for_error"]:
        if one["rejected"] is None:
            continue
        kept = [row["correct"] for row in rows if row["probability"] >= np.float32(one["threshold"])]
        assert (len(kept), kept.count(False)) == (one["answered"], one["wrong"])
        assert one["wrong"] <= one["wanted"] * one["answered"]
        assert one["rejected"] == pytest.approx(1 - len(kept) / 153)
    assert trust["top_k"]["k"] == 5
    assert trust["calibration"]["ece_after"] == pytest.approx(result.scores.ece)
    assert trust["calibration"]["ece_before"] != pytest.approx(result.scores.ece)


def test_the_record_is_json_and_holds_no_infinity(result):
    row = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert {"top_k", "calibration", "rejection", "ranking", "top1_interval"} <= set(row)
    assert {"protocol", "top1", "top5", "loss", "n", "per_class"} <= set(row)
    matrix, names = np.array(result.scores.confusion), [one.label for one in result.scores.per_class]
    for one in row["confusions"]:
        assert matrix[names.index(one["truth"]), names.index(one["predicted"])] == one["count"]
    wrong = sorted(matrix[~np.eye(7, dtype=bool)].tolist(), reverse=True)
    assert [one["count"] for one in row["confusions"]] == [count for count in wrong if count][:30]
    low, high = row["per_class"][0]["recall_interval"]
    assert low <= row["per_class"][0]["recall"] <= high


@pytest.mark.parametrize("count", [0, 1])
def test_of_hardly_any_images_it_says_nothing(count):
    labels = Labels(("a", "b"))
    trust = trust_of(torch.randn(count, 2), torch.zeros(count, dtype=torch.int64), labels)
    assert trust["top_k"] is None
    assert trust["ranking"]["macro_auc"] is None
    assert len(trust["rejection"]["coverage"]) == count
    json.dumps(trust, allow_nan=False)


def test_answers_that_are_no_numbers_are_rejected():
    logits = torch.tensor([[1.0, 0.0], [np.nan, 0.0], [np.inf, 0.0], [0.0, 2.0]])
    trust = trust_of(logits, torch.tensor([0, 0, 0, 0]), Labels(("a", "b")))
    assert trust["rejection"]["coverage"] == [0.25, 0.5]
    assert trust["rejection"]["error"] == [1.0, 0.5]
    json.dumps(trust, allow_nan=False)


def test_thousand_classes_keep_the_areas_alone():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(200, 1000, generator=generator), torch.arange(200)
    trust = trust_of(logits, targets, Labels(tuple(f"class {number}" for number in range(1000))))
    assert len(trust["ranking"]["classes"]) == 1000
    assert all("roc" not in row for row in trust["ranking"]["classes"])
    assert trust["ranking"]["classes"][500]["auc"] is None  # without images
    assert len(json.dumps(trust)) < 150_000


@pytest.fixture
def table(tmp_path, world):
    """Photos listed in a table that says which camera took them, and a network that knows their classes."""
    world.photo_folder(tmp_path / "photos")
    files = sorted(file for file in (tmp_path / "photos").rglob("*") if file.is_file())
    lines = [
        f"{file.relative_to(tmp_path).as_posix()},{file.parent.name},{'old' if index % 3 == 0 else 'new'}"
        for index, file in enumerate(files)
    ]
    (tmp_path / "photos.csv").write_text("\n".join(["path,label,camera", *lines]) + "\n", encoding="utf-8")
    world.saved_model(tmp_path / "model.safetensors")
    return tmp_path / "photos.csv"


def test_scores_by_a_column_of_the_table(table):
    model = table.parent / "model.safetensors"
    result = striate.evaluate(model, table, by="camera", device="cpu", progress=False)
    cameras = {line.split(",")[0]: line.strip().split(",")[2] for line in table.read_text().splitlines()[1:]}
    assert result.groups is not None
    assert {one.group for one in result.groups} == {"old", "new"}
    for one in result.groups:
        rows = [row for row in result.predictions.to_pylist() if cameras[row["path"]] == one.group]
        assert one.n == len(rows)
        assert one.top1 == pytest.approx(np.mean([row["correct"] for row in rows]))
    assert sum(one.n for one in result.groups) == result.scores.n
    command = [str(model), str(table), "--by", "camera", "--device", "cpu"]
    shown = CliRunner().invoke(front_door, ["evaluate", *command])
    assert shown.exit_code == 0, shown.output
    assert "95 % interval of top-1" in shown.output
    assert "old" in shown.output
    assert "\ncamera  top-1" in shown.output
    assert "group" not in shown.output
    row = json.loads(CliRunner().invoke(front_door, ["evaluate", *command, "--json"]).stdout)
    assert row["groups"] == [one.to_dict() for one in result.groups]
    with pytest.raises(UnknownNameError, match="camra"):
        evaluate_run(model, table, by="camra", device="cpu")
    with pytest.raises(UsageError, match="from no table"):
        evaluate_run(model, table.parent / "photos", by="camera", device="cpu")


def test_scores_by_the_groups_of_a_split(world, tmp_path):
    from striate.evaluation.by_column import column_values, scores_by

    saved = world.saved_model(tmp_path / "model.safetensors")
    plain = world.tensor_split(30)
    groups = [f"patient {number % 4}" for number in range(30)]
    split = Split("val", plain.targets, plain.paths, plain.images, groups=groups)
    result = evaluate(saved, split, device="cpu")
    data = striate.Dataset(name="made", labels=world.labels, splits={"val": split})
    rows = scores_by(column_values("group", data, [split]), result.predictions)
    assert sorted(row.group for row in rows) == [f"patient {number}" for number in range(4)]
    assert sum(row.n * row.top1 for row in rows) == pytest.approx(30 * result.scores.top1)


def test_costs_decide(table):
    model, labels = table.parent / "model.safetensors", ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
    order = labels[::-1]  # of rows and columns alike any order
    lines = [",".join(["truth", *order, "reject"])]
    lines += [",".join([truth, *("0" if one == truth else "10" for one in order), "4"]) for truth in order]
    costs = table.parent / "costs.csv"
    costs.write_text("\n".join(lines) + "\n", encoding="utf-8")
    matrix = read_costs(costs, Labels(labels))
    assert (matrix == np.hstack([10 - 10 * np.eye(7), np.full((7, 1), 4)])).all()
    result = striate.evaluate(model, table, costs=costs, device="cpu", progress=False)
    rows, found = result.predictions.to_pylist(), result.trust["costs"]
    assert found["rejected"] == found["changed"] == sum(row["probability"] < 0.6 for row in rows)
    assert found["mean_likeliest"] == pytest.approx(np.mean([0 if row["correct"] else 10 for row in rows]))
    cheapest = [4 if row["probability"] < 0.6 else 0 if row["correct"] else 10 for row in rows]
    assert found["mean_cheapest"] == pytest.approx(np.mean(cheapest))
    command = ["evaluate", str(model), str(table), "--costs", str(costs), "--device", "cpu"]
    assert "for the cheapest decision" in CliRunner().invoke(front_door, command).output
    for bad, words in (
        ("truth,ant\nant,0\n", "lack bee"),
        ("\n".join(lines).replace("reject", "whale"), "have whale"),
        ("\n".join(lines).replace("4", "nan"), "not all finite"),
        ("\n".join(lines).replace("4", "four"), "cannot read"),
        ("", "cannot read"),
    ):
        costs.write_text(bad, encoding="utf-8")
        with pytest.raises(DataError, match=words):
            read_costs(costs, Labels(labels))
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        read_costs(table.parent / "nowhere.csv", Labels(labels))
