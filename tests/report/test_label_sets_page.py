"""The pages of runs whose images have any number of labels, from real trainings on mosaics of digits."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from striate.cli.main import striate as front_door
from striate.data import load_data
from striate.data.doctor import examine
from striate.metrics.label_table import label_rows
from striate.metrics.multi_label import compare_precisions
from striate.options import DataOptions, TrainOptions, merged
from striate.report import compare_runs, write_report
from striate.report.data_page import write_data_page
from striate.report.label_sets import labels
from striate.report.page import report_values
from striate.report.record import count_manifest, read_record
from striate.training import train


def write_mosaics(folder: Path, count: int) -> Path:
    """PNG files with none to three of the digits 0 to 5 each, and the table of their labels."""
    split = load_data("digits").splits["train"]
    few = np.flatnonzero(split.targets < 6)
    draws = np.random.default_rng(0)
    rows = [("image", "label")]
    for number in range(count):
        canvas = draws.integers(0, 12, (16, 16), dtype=np.uint8)
        seen = draws.choice(few, draws.integers(0, 4), replace=False)
        for cell, digit in zip(draws.permutation(4), seen, strict=False):
            top, left = 8 * (cell // 2), 8 * (cell % 2)
            canvas[top : top + 8, left : left + 8] = split.images.raw(int(digit))[..., 0]
        Image.fromarray(canvas).save(folder / f"{number}.png")
        rows.append((f"{number}.png", "|".join(sorted({str(split.targets[digit]) for digit in seen}))))
    with (folder / "mosaics.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "mosaics.csv"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """A run that learned for three epochs, and one for one."""
    folder = tmp_path_factory.mktemp("several")
    table = write_mosaics(folder, 400)
    found = []
    for name, epochs in (("longer", 3), ("shorter", 1)):
        sections = {
            "data": {"data": str(table), "label_delimiter": "|"},
            "model": {"model": "compact_s"},
            "optimizer": {"batch_size": 32},
            "schedule": {"epochs": epochs},
            "training": {"run_dir": str(folder / "runs" / name), "report": False},
            "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
        }
        found.append(train(merged(TrainOptions(), sections)).run)
    return found


def test_the_page_shows_the_labels_instead_of_a_confusion(runs, tmp_path):
    page = write_report(runs[0], tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("mean average precision", 'id="labels"', "Precision over recall", "Labels together", "Worst"):
        assert words in page
    for words in ('id="confusion"', 'id="classes"', 'id="rejection"', "top-1"):
        assert words not in page.split('id="options"')[0]
    body = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page.split('id="options"')[0], flags=re.DOTALL)
    assert re.search(r"\bclass(es)?\b", body) is None
    assert "Images by label and split" in body
    thresholds = page.split('<section id="thresholds">')[1].split("</section>")[0]
    assert "Each label by itself" in thresholds
    assert re.search(r"\bclass(es)?\b(?!=)", thresholds) is None


def test_its_figures_are_those_of_the_evaluation(runs):
    record = read_record(runs[0])
    values = report_values(record)
    scores = record.scores
    assert values["headline"]["score"] == f"{100 * scores['map']:.1f}\u202f%"
    table = {row["name"]: row for row in values["labels"]["rows"]}
    for row in scores["per_class"]:
        assert table[row["label"]]["area"] == f"{100 * row['average_precision']:.1f}\u202f%"
        assert table[row["label"]]["threshold"] == f"{row['threshold']:.3f}"
        assert table[row["label"]]["support"] == row["support"]
    areas = [row["area_value"] for row in values["labels"]["rows"]]
    assert areas == sorted(areas)
    _, truths = label_rows(record.predictions)
    assert len(truths) == scores["n"]
    listed = {tuple(row[:2]): row[2:4] for row in values["labels"]["together"]["rows"]}
    names = [row["label"] for row in scores["per_class"]]
    for (one, other), (true, said) in listed.items():
        places = [names.index(one), names.index(other)]
        assert true == truths[:, places].all(axis=1).sum()
        chosen = [{one, other} <= set(row or ()) for row in record.predictions["chosen"].to_pylist()]
        assert said == sum(chosen)


def test_images_are_counted_once_and_each_of_their_labels_too(runs):
    record = read_record(runs[0])
    counts = count_manifest(record.manifest, record.labels, multi_label=True)
    rows = [row for row in record.manifest.to_pylist() if row["reason"] is None]
    assert counts.used == len(rows) == 400
    for split, of_labels in counts.splits.items():
        inside = [row["label"] for row in rows if row["split"] == split]
        assert counts.images[split] == len(inside)
        assert of_labels.tolist() == [sum(name in label.split("|") for label in inside) for name in counts.classes]


def test_a_run_of_single_labels_has_no_such_section(runs):
    record = read_record(runs[0])
    for scores in record.evaluation["splits"].values():
        del scores["exact_match"]
    record.model.pop("multi_label")
    assert labels(record, None) is None


def test_two_runs_are_compared_by_their_mean_average_precision(runs, tmp_path):
    compared = compare_runs(runs, tmp_path / "comparison.html")
    (pair,) = compared.pairs
    records = [read_record(run) for run in runs]
    chances, truths = zip(*(label_rows(one.predictions) for one in records), strict=True)
    assert (truths[0] == truths[1]).all()
    expected = compare_precisions(chances[1], chances[0], truths[0])
    better = 0 if expected.difference >= 0 else 1
    assert pair["first"] == runs[better].name
    assert pair["difference"] == pytest.approx(abs(expected.difference))
    assert pair["map"] == pytest.approx([records[place].scores["map"] for place in (better, 1 - better)], abs=1e-4)
    assert pair["n"] == len(truths[0])
    page = compared.path.read_text(encoding="utf-8")
    assert "validation mAP" in page
    assert "McNemar" not in page
    assert "right alone" not in page


def test_commands_name_the_mean_average_precision(runs):
    folder = str(runs[0].parent)
    found = json.loads(CliRunner().invoke(front_door, ["runs", folder, "--json"]).stdout)["runs"]
    scores = {run.name: read_record(run).scores["map"] for run in runs}
    assert {Path(row["run"]).name: row["val_map"] for row in found} == pytest.approx(scores)
    assert "mAP" in CliRunner().invoke(front_door, ["runs", folder]).stdout
    for run in runs:
        limit = (scores[run.name] + read_record(run).scores["top1"]) / 2  # on one side of which either lies
        chosen = CliRunner().invoke(front_door, ["runs", folder, "--json", "--min-top1", str(limit)]).stdout
        expected = {name for name, score in scores.items() if score >= limit}
        assert {Path(row["run"]).name for row in json.loads(chosen)["runs"]} == expected
        pruned = CliRunner().invoke(front_door, ["runs", folder, "--prune", "--below", str(limit), "--json"]).stdout
        assert {Path(one).name for one in json.loads(pruned)["would_remove"]} == {*scores} - expected
    said = CliRunner().invoke(front_door, ["report", *map(str, runs), "-o", str(runs[0].parent / "c.html")])
    assert " mAP on " in said.stdout


def test_later_evaluations_stand_there_by_their_mean_average_precision(runs):
    table = Path(read_record(runs[0]).options["data"]["data"])
    rows = list(csv.reader(table.read_text().splitlines()))
    cameras = table.with_name("cameras.csv")
    with cameras.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*rows[0], "camera"])
        writer.writerows([*row, ("left", "right")[place % 2]] for place, row in enumerate(rows[1:101]))
    words = ["evaluate", str(runs[0]), str(cameras), "--label-delimiter", "|", "--by", "camera", "--device", "cpu"]
    found = CliRunner().invoke(front_door, [*words, "--json"])
    answer = json.loads(found.stdout)
    section = report_values(read_record(runs[0]))["evaluations"]
    assert section["measure"] == "mAP"
    assert [row["score_value"] for row in section["rows"]] == [answer["map"]]
    groups = section["parts"][0]["groups"]
    assert groups["measure"] == "mAP"
    assert [row["value"] for row in groups["rows"]] == [row["map"] for row in answer["groups"]]
    assert "mAP" in write_report(runs[0]).read_text(encoding="utf-8")


def test_the_page_of_the_images_calls_them_labels_too(runs, tmp_path):
    table = read_record(runs[0]).options["data"]["data"]
    dataset = load_data(DataOptions(data=table, label_delimiter="|"))
    page = write_data_page(tmp_path / "data.html", dataset, examine(dataset)).read_text(encoding="utf-8")
    body = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "Labels" in body
    assert re.search(r"\bclass(es)?\b", body, re.IGNORECASE) is None
