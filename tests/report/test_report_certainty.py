"""The sections on calibration, rejection and thresholds, and runs compared on the same images, from real records."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from striate.cli.ensembles import TWO_QUESTIONS
from striate.cli.main import striate as front_door
from striate.evaluation.table import predictions_table
from striate.evaluation.trust import trust_of
from striate.metrics import score
from striate.metrics.calibration import fit_temperature
from striate.metrics.intervals import exact_interval, with_intervals
from striate.metrics.pairs import exact_mcnemar
from striate.report import compare_runs, write_report
from striate.spec import Labels


class Page:
    """A page's source, and its words without tags."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        self.text = html.unescape(re.sub(r"<[^>]*>", "", self.source[self.source.index("<body>") :]))


def with_answers(run: Path, labels: Labels, *, sharpness: float = 3.0, seed: int = 0, n: int = 400) -> Path:
    """Give a made-up run the record that an evaluation of real logits writes."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, len(labels), generator=generator)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    logits *= sharpness
    fitted = fit_temperature(logits, targets)
    scores = with_intervals(score(logits, targets, labels, temperature=fitted.value))
    trust = trust_of(logits, targets, labels, temperature=fitted.value)
    record = json.loads((run / "evaluation.json").read_text())
    record |= {"splits": {"val": scores.to_dict() | trust}, "temperature": fitted.to_dict()}
    (run / "evaluation.json").write_text(json.dumps(record, allow_nan=False))
    paths, losses = [f"val[{index}]" for index in range(n)], torch.zeros(n)
    table = predictions_table(paths, logits, targets, losses, labels, fitted.value)
    pq.write_table(table.append_column("split", pa.array(["val"] * n)), run / "predictions.parquet")
    return run


def names(count: int) -> Labels:
    return Labels(tuple(f"kind {number}" for number in range(count)))


@pytest.mark.parametrize("classes", [2, 4, 10, 40])
def test_a_page_says_how_far_answers_can_be_trusted(make_run, classes):
    run = with_answers(make_run(labels=names(classes).names), names(classes))
    stored = json.loads((run / "evaluation.json").read_text())
    scores = stored["splits"]["val"]
    page = Page(write_report(run))
    low, high = exact_interval(round(scores["top1"] * 400), 400)
    assert f"{100 * low:.1f}\u202f% to {100 * high:.1f}\u202f%" in page.text
    assert ("top-2" in page.text) == (classes == 4)
    assert "Reliability without temperature" in page.text
    assert f"divided by {stored['temperature']['value']:.3g}" in page.text
    assert "kept in the model file" in page.text
    for row in scores["rejection"]["for_error"]:
        if row["rejected"] is not None and row["wanted"] < scores["rejection"]["error"][-1]:
            assert f"{row['wrong']} of {row['answered']}" in page.text
    assert "ROC: found over false alarms" in page.text if classes <= 20 else "ROC: found" not in page.text
    assert ("threshold for recall 95" in page.text) == (classes <= 20)
    weakest = min(scores["ranking"]["classes"], key=lambda row: row["average_precision"])
    thresholds = page.source[page.source.index('<section id="thresholds">') :]
    assert re.search(r"<tbody>\s*<tr><td>([^<]+)</td>", thresholds).group(1) == weakest["label"]


def test_a_network_that_is_well_calibrated_is_left_alone(make_run):
    run = with_answers(make_run(labels=names(5).names), names(5), sharpness=1.0, seed=6)
    assert json.loads((run / "evaluation.json").read_text())["temperature"]["value"] == 1
    page = Page(write_report(run))
    assert "No temperature: fitted on 4 of 5 parts of 400 images" in page.text
    assert "Reliability without temperature" not in page.text


def test_pairs_of_runs_are_tested_on_what_both_scored(make_run, tmp_path):
    runs = [make_run("weak", accuracy=0.80, seed=1), make_run("strong", accuracy=0.97, seed=2)]
    right = [pq.read_table(run / "predictions.parquet")["correct"].to_numpy() for run in runs]
    comparison = compare_runs(runs, tmp_path / "page.html")
    (pair,) = comparison.pairs
    assert (pair["first"], pair["second"], pair["n"], pair["better"]) == ("strong", "weak", 359, True)
    assert (pair["only_first"], pair["only_second"]) == (
        int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum()),
    )  # fmt: skip
    assert pair["difference"] == pytest.approx(right[1].mean() - right[0].mean())
    assert pair["low"] < pair["difference"] < pair["high"]
    assert pair["p"] == pair["p_adjusted"] == exact_mcnemar(pair["only_first"], pair["only_second"])
    text = Page(comparison.path).text
    assert "more than chance" in text
    assert "below 0.001" in text


def test_an_interval_without_0_beside_a_large_p_is_explained(make_run, tmp_path):
    runs = [make_run("first"), make_run("second")]
    right = np.arange(400) < 380
    later_evaluation(runs[0], right)
    later_evaluation(runs[1], right & (np.arange(400) >= 5))
    comparison = compare_runs(runs, tmp_path / "page.html")
    later = comparison.pairs[1]
    assert later["low"] > 0
    assert later["p"] == pytest.approx(2 / 2**5)  # five tosses of one coin
    assert not later["better"]
    assert "two questions" in Page(comparison.path).text
    said = CliRunner().invoke(front_door, ["report", *map(str, runs), "-o", str(tmp_path / "page.html")])
    assert TWO_QUESTIONS in said.stdout


def test_only_the_same_images_are_compared(make_run, tmp_path):
    first, second = make_run("first", seed=1), make_run("second", seed=2)
    table = pq.read_table(second / "data.parquet")
    hashes = np.array(table["hash"].to_pylist(), dtype=object)
    hashes[np.array(table["path"].to_pylist()) == "val[0]"] = "another picture under this name"
    index = table.column_names.index("hash")
    pq.write_table(table.set_column(index, "hash", pa.array(hashes, pa.string())), second / "data.parquet")
    (pair,) = compare_runs([first, second], tmp_path / "page.html").pairs
    assert (pair["n"], pair["of"]) == (358, 359)
    (second / "predictions.parquet").unlink()
    comparison = compare_runs([first, second], tmp_path / "page.html")
    assert comparison.pairs == []
    assert "Pair by pair" not in Page(comparison.path).text


def test_many_runs_are_compared_with_the_best_and_allow_for_it(make_run, tmp_path):
    runs = [make_run(f"run{seed}", accuracy=0.9, seed=seed) for seed in range(7)]
    best = max(runs, key=lambda run: json.loads((run / "evaluation.json").read_text())["splits"]["val"]["top1"])
    pairs = compare_runs(runs, tmp_path / "page.html").pairs
    assert len(pairs) == 6
    assert {pair["first"] for pair in pairs} == {best.name}
    assert all(pair["p_adjusted"] >= pair["p"] for pair in pairs)
    assert len(compare_runs(runs[:3], tmp_path / "page.html").pairs) == 3


def later_evaluation(
    run, right, *, data="photos", split="test", protocol="single-crop", place="evaluations/photos.parquet"
):
    """What `striate evaluate RUN photos` keeps."""
    (run / "evaluations").mkdir(exist_ok=True)
    count = len(right)
    table = pa.table({"path": [f"{one}.jpg" for one in range(count)], "label": ["a"] * count, "correct": list(right)})
    pq.write_table(table, run / place)
    record = {"data": data, "split": split, "protocol": protocol, "n": count, "top1": sum(right) / count}
    (run / place).with_suffix(".json").write_text(json.dumps(record | {"predictions": place}))


def test_runs_are_compared_on_later_evaluations_too(make_run, tmp_path):
    first, second = make_run("first", accuracy=0.9), make_run("second", accuracy=0.9, seed=3)
    right = np.arange(200) % 10 != 0
    later_evaluation(first, right)
    later_evaluation(second, right & (np.arange(200) % 5 != 1))
    later_evaluation(first, right, protocol="ten-crop", place="evaluations/crops.parquet")
    for run in (first, second):  # what the run's end says already
        later_evaluation(run, right, split="val", protocol=None, data="digits", place="evaluations/again.parquet")
    comparison = compare_runs([second, first], tmp_path / "page.html")
    of_end, later = comparison.pairs
    assert (of_end["split"], later["split"]) == ("val", "photos test, single-crop")
    assert (later["first"], later["second"], later["n"], later["of"]) == ("first", "second", 200, 200)
    assert later["top1"] == pytest.approx([0.9, 0.7])
    assert (later["only_first"], later["only_second"], later["better"]) == (40, 0, True)
    assert later["p"] == exact_mcnemar(40, 0)
    assert later["p_adjusted"] == pytest.approx(min(1.0, 2 * later["p"]))
    assert "photos test, single-crop" in Page(comparison.path).text
    (second / "evaluations" / "photos.parquet").write_bytes(b"no table")
    assert len(compare_runs([second, first], tmp_path / "page.html").pairs) == 1


def test_folds_of_one_training_are_repeats(make_run, tmp_path):
    runs = [
        make_run(f"fold {fold}", accuracy=0.9, options={"data": {"fold": f"{fold}/3"}}) for fold in (1, 2, 3)
    ]  # fmt: skip
    text = Page(compare_runs(runs, tmp_path / "page.html").path).text
    assert "3 runs" in text
