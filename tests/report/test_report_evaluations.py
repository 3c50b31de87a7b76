"""Evaluations made after a run stand on its page: scores by column, costs, strangers."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from striate.metrics.strangers import histogram, separation
from striate.report import write_report
from striate.report.evaluations import evaluations
from striate.report.record import read_record


def kept(**changes):
    return {
        "asked": {}, "data": "photos", "split": "test", "protocol": "single-crop", "n": 400, "unreadable": 2,
        "top1": 0.8, "top1_interval": [0.757, 0.838], "balanced_accuracy": 0.79, "ece": 0.05,
        "predictions": "evaluations/photos-test.parquet",
    } | changes  # fmt: skip


def group(name, n, top1, low, high):
    return {"group": name, "n": n, "top1": top1, "low": low, "high": high, "balanced_accuracy": top1}


@pytest.fixture
def run(make_run):
    """A run with two evaluations of one split, of which one has everything."""
    folder = make_run()
    (folder / "evaluations").mkdir()
    generator = np.random.default_rng(0)
    known, strangers = generator.normal(3, 1, 300), generator.normal(0, 1, 200)
    ood = {
        "data": "<b>clouds</b>", "split": "all", "temperature": 1.25, "known": 300, "strangers": 200, "unreadable": 3,
        "shared": 7, "scores": {
            name: separation(known, strangers, draws=50).to_dict() | {"histogram": histogram(known, strangers)}
            for name in ("max_probability", "max_logit", "negative_energy")
        },
    }  # fmt: skip
    full = kept(
        asked={"by": "camera", "costs": "/somewhere/costs.csv", "ood": "/somewhere/clouds"},
        groups=[group("old <i>one</i>", 150, 0.6, 0.52, 0.68), group("new", 250, 0.92, 0.88, 0.95)],
        costs={"n": 400, "mean_likeliest": 2.0, "mean_cheapest": 1.5, "changed": 40, "rejected": 12},
        ood=ood,
    )
    (folder / "evaluations" / "photos-test.json").write_text(json.dumps(kept()))
    (folder / "evaluations" / "photos-test-by-camera.json").write_text(json.dumps(full))
    (folder / "evaluations" / "photos-damaged.json").write_text("{")
    (folder / "evaluations" / "photos-list.json").write_text("[1]")
    return folder


def test_every_evaluation_of_a_run_is_on_its_page(run):
    page = write_report(run).read_text(encoding="utf-8")
    section = page[page.index('<section id="evaluations">') :]
    section = section[: section.index("</section>")]
    assert 'href="#evaluations"' in page
    assert "By camera" in section
    assert "By what mistakes cost" in section
    assert "costs.csv" in section
    assert "Strangers: &lt;b&gt;clouds" in section
    assert "<i>one</i>" not in section
    assert "/somewhere" not in section
    assert section.count("<svg") == 3
    assert "do not meet" in section
    assert "saves 25\u202f%" in section
    assert "7 of these are among the known" in section
    assert "photos-damaged.json could not be read" in page


def test_what_stands_there_is_what_was_found(run):
    found = evaluations(read_record(run))
    assert found is not None
    assert [row["name"] for row in found["rows"]] == [
        "photos test (by camera, costs costs.csv, ood clouds)", "photos test",
    ]  # fmt: skip
    assert [row["score"] for row in found["rows"]] == ["80.0\u202f%"] * 2
    assert found["rows"][0]["n"] == "400, 2 unreadable"
    [part] = found["parts"]
    assert [row["name"] for row in part["groups"]["rows"]] == ["old <i>one</i>", "new"]
    let_in = float(re.sub(r"\D*$", "", part["ood"]["rows"][0]["cells"][3][0]))
    assert let_in == pytest.approx(100 * part["ood"]["rows"][0]["cells"][3][2], abs=0.06)
    assert f"lets in {part['ood']['rows'][0]['cells'][3][0]}" in part["ood"]["words"]


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.55, 0.9, "overlap"), (0.1, 0.2, "do not meet")], ids=["overlap", "apart"]
)
def test_groups_are_told_apart_by_their_intervals(make_run, low, high, words):
    run = make_run()
    (run / "evaluations").mkdir()
    rows = [group("worst", 9, (low + high) / 2, low, high), group("best", 90, 0.85, 0.8, 0.9)]
    (run / "evaluations" / "one.json").write_text(json.dumps(kept(groups=rows)))
    found = evaluations(read_record(run))
    assert found is not None
    assert words in found["parts"][0]["groups"]["apart"]


def test_a_run_without_later_evaluations_has_no_such_section(make_run):
    run = make_run()
    assert evaluations(read_record(run)) is None
    assert "Later evaluations" not in write_report(run).read_text(encoding="utf-8")


def test_strangers_that_could_not_be_scored_say_so_little(make_run):
    run = make_run()
    (run / "evaluations").mkdir()
    none = separation(np.ones(3), np.zeros(0)).to_dict() | {"histogram": histogram(np.ones(3), np.zeros(0))}
    ood = {
        "data": "clouds", "split": "all", "temperature": 1.0, "known": 3, "strangers": 0, "unreadable": 5, "shared": 0,
        "scores": {"max_logit": none},
    }  # fmt: skip
    (run / "evaluations" / "one.json").write_text(json.dumps(kept(ood=ood)))
    page = write_report(run).read_text(encoding="utf-8")
    assert "Strangers: clouds" in page
    assert "A threshold of" not in page
