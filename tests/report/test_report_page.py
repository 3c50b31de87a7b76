import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.report.conftest import CIFAR, MadeRun, photo_labels

from striate.errors import StriateError, UsageError
from striate.report import write_comparison, write_report

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: its text, its tags, and whether they are balanced."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n\t]+", " ", " ".join(self.words))

    @property
    def sections(self) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.tags if tag == "section"]


CASES = {
    "digits": {},
    "cifar with average": {
        "model": "resnet20",
        "data": "cifar10",
        "labels": CIFAR,
        "size": 32,
        "channels": 3,
        "sizes": {"train": 4500, "val": 500, "test": 1000},
        "ema": True,
        "steps": True,
    },
    "200 kinds of photos": {
        "labels": photo_labels(200),
        "size": 64,
        "channels": 3,
        "sizes": {"train": 2000, "val": 800},
    },
    "two classes": {"labels": ("no", "yes"), "sizes": {"train": 80, "val": 20}, "epochs": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_every_section_is_there(make_run, case):
    path = write_report(make_run(**CASES[case]))
    assert path.name == "report.html"
    page = Page(path)
    assert page.sections == [
        "diagnosis",
        "data",
        "curves",
        "confusion",
        "classes",
        "images",
        "calibration",
        "time",
        "network",
        "options",
        "environment",
    ]


@pytest.mark.parametrize("case", ["digits", "cifar with average"])
def test_the_page_needs_no_network(make_run, case):
    page = Page(write_report(make_run(**CASES[case])))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "img", "base")
        for name in ("src", "href", "xlink:href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, value)
    assert not re.search(r"url\((?!data:|#)", page.source)
    assert "@import" not in page.source
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_policy_allows_exactly_our_script(make_run):
    import base64
    import hashlib

    source = write_report(make_run()).read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in source.replace("&#43;", "+")


def test_text_from_outside_is_escaped(make_run):
    nasty = ("<script>alert(1)</script>", "\"quoted\" & 'single'", "größer → 猫", "`code`", "{{ 7 * 7 }}", "</title>")
    run = make_run(labels=nasty, data="<img src=x onerror=alert(2)>", sizes={"train": 60, "val": 60}, accuracy=0.5)
    page = Page(write_report(run))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert all(tag != "img" for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "größer → 猫" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_score_interval_and_selection_are_said(make_run):
    run = make_run()
    evaluation = json.loads((run / "evaluation.json").read_text())
    top1 = evaluation["splits"]["val"]["top1"]
    text = Page(write_report(run)).text
    assert f"{100 * top1:.1f}\u202f%" in text
    assert "95 % confidence interval" in text
    assert "validation score" in text
    assert "selected out of 20 by top-1 on these very images" in text


def test_a_test_score_comes_first_and_is_called_one(make_run):
    run = make_run(**CASES["cifar with average"])
    text = Page(write_report(run)).text
    assert "on 1000 test images" in text
    assert "played no part in training or in choosing weights" in text
    assert "averaged weights (EMA) of epoch 20 were picked by top-1 on validation" in text


def test_nothing_selected_is_said(make_run):
    run = make_run()
    evaluation = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps(evaluation | {"selected_by": "last"}))
    assert "nothing was selected on these images" in Page(write_report(run)).text
    of_one = Page(write_report(make_run("of one epoch", epochs=1))).text
    assert "nothing was selected on these images" in of_one
    assert "best 1" not in of_one


def test_a_single_epoch_has_no_curves(make_run):
    assert "curves" not in Page(write_report(make_run(epochs=1))).sections


def test_an_aborted_run_gets_what_there_is(make_run):
    run = make_run(epochs=1, planned=30, finished=False, with_model=False)
    page = Page(write_report(run))
    assert "1 of 30 epochs" in page.text
    assert "no score yet" in page.text
    assert "confusion" not in page.sections
    assert "curves" in page.sections


def test_without_pictures(make_run):
    page = Page(write_report(make_run(pictures=False)))
    assert "images" not in page.sections
    assert "data" in page.sections


def test_a_recipe_alone(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text('[data]\ndata = "digits"\n')
    assert "no score yet" in Page(write_report(run)).text


@pytest.mark.parametrize(
    "name",
    [
        "evaluation.json",
        "metrics.jsonl",
        "environment.json",
        "data.parquet",
        "predictions.parquet",
        "pictures.npz",
        "model.safetensors",
    ],
)
def test_a_damaged_file_costs_its_section_only(make_run, name):
    run = make_run()
    (run / name).write_bytes(b"\x00\xffnot what it should be")
    page = Page(write_report(run))
    assert "options" in page.sections
    if name != "metrics.jsonl":  # a half-written line is passed over, as after a power loss
        assert f"{name} could not be read" in page.text


def test_no_run_folder_is_an_error(tmp_path):
    with pytest.raises(StriateError, match="not a run folder"):
        write_report(tmp_path)


def test_numbers_that_are_none(make_run):
    run = make_run()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[3]["train_loss"] = None
    rows[4]["val"] = {}
    rows[5]["grad_norm"] = float("nan")
    del rows[6]["val"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_report(run))
    assert "Training diverged" in page.text
    assert "nan" not in re.sub(r"base64,[^)\"]*", "", page.source).lower().replace("finance", "")


def test_left_out_files_are_listed_with_reasons(make_run):
    import pyarrow as pa

    run = make_run()
    table = pq.read_table(run / "data.parquet")
    row = {
        "path": "train/3/broken <1>.png",
        "hash": None,
        "label": "3",
        "group": None,
        "split": "train",
        "reason": "truncated",
    }
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([row], schema=table.schema)]), run / "data.parquet")
    text = Page(write_report(run)).text
    assert "1 left out" in text
    assert "broken <1>.png" in text
    assert "truncated" in text


def test_what_differs_from_the_defaults_comes_first(make_run):
    run = make_run(options={"training": {"seed": 3}, "regularize": {"sampling": "balanced"}})
    text = Page(write_report(run)).text
    changed = text[text.index("Different from the default") : text.index("Given, or decided")]
    assert "regularize.sampling" in changed
    assert "training.seed" in changed
    assert "optimizer.lr" not in changed  # decided from the data: it has no default


def test_filters_of_the_stem_are_shown(make_run):
    page = Page(write_report(make_run()))
    assert "stem.conv.weight, 32 × 1 × 3 × 3" in page.text
    parts = re.findall(r"<td><code>([^<]*)</code></td><td class=\"n barred\"", page.source)
    assert parts == ["stem", "stages.block1", "stages.block2", "stages.block10", "head"]


def test_another_place_for_the_page(make_run, tmp_path):
    run = make_run()
    path = write_report(run, tmp_path / "elsewhere" / "page.html")
    assert path.is_file()
    assert not (run / "report.html").exists()


def test_writing_is_quick(make_run):
    """No limit on a clock: that the work does not grow with the images shown is what counts."""
    run = make_run(**CASES["cifar with average"])
    write_report(run)
    started = time.process_time()
    size = write_report(run).stat().st_size
    assert size < 1_500_000
    assert time.process_time() - started < 5


def test_comparison(make_run, tmp_path):
    runs = [make_run(f"run-{seed}", seed=seed) for seed in range(2)]
    runs.append(make_run("other", epochs=30, options={"optimizer": {"lr": 0.2}}))
    page = Page(write_comparison(runs, tmp_path / "comparison.html"))
    text = page.text
    assert "3 runs compared" in text
    assert "optimizer.lr" in text
    assert "optimizer.momentum" not in text
    tops = [json.loads((run / "evaluation.json").read_text())["splits"]["val"]["top1"] for run in runs[:2]]
    assert f"{100 * float(np.mean(tops)):.1f}\u202f%" in text
    assert f"{100 * float(np.std(tops, ddof=1)):.1f} points" in text
    lines = re.findall(r'<polyline class="line (run\d)"', page.source)
    assert {"run0", "run1", "run2"} == set(lines)


def test_comparison_warns_of_different_data(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", data="mnist"), make_run("c", finished=False)]
    text = Page(write_comparison(runs, tmp_path / "comparison.html")).text
    assert "learned from different data (digits, mnist)" in text
    assert "Not finished: c" in text


def test_comparison_of_one_run_is_refused(make_run, tmp_path):
    with pytest.raises(UsageError):
        write_comparison([make_run()], tmp_path / "comparison.html")


def test_labels_as_numbers_are_named(make_run):
    run = make_run(labels=tuple("abcdefghij"))
    with np.load(run / "pictures.npz") as stored:
        arrays = dict(stored)
    arrays["augmented_labels"] = np.array([2] * 24)
    np.savez_compressed(run / "pictures.npz", **arrays)
    assert "training image of class c" in write_report(run).read_text(encoding="utf-8")


def test_made_runs_differ_by_seed():
    assert MadeRun(seed=1).metrics != MadeRun(seed=2).metrics
