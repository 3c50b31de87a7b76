"""Members of an ensemble stand on the page of their run, or of the comparison of their runs."""

from __future__ import annotations

import json

import numpy as np
import torch

from striate.evaluation.ensembles.averaging import what_each_adds
from striate.report import write_comparison, write_report


def kept(names, runs):
    """An evaluation of networks of which the first alone is good, as `striate evaluate` keeps it."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 10, 300)
    answers = [generator.normal(size=(300, 10)) * 0.3 for _ in names]
    answers[0][np.arange(300), targets] += 1.0
    parts = [torch.from_numpy(one).log_softmax(1) for one in answers]
    found = what_each_adds(names, parts, torch.from_numpy(targets))
    for row, run in zip(found["members"], runs, strict=True):
        row |= {"run": str(run), "model": "resnet20", "temperature": 1.0, "engine": {}}
    soup = {"by": "greedy", "kept": names[:2], "left_out": names[2:], "top1": 0.5, "top1_interval": [0.4, 0.6]}
    return {
        "asked": {"snapshots": "True"}, "data": "digits", "split": "val", "n": 300, "unreadable": 0,
        "protocol": "the mean probabilities of 3 networks", "top1": found["greedy"][-1]["top1"],
        "top1_interval": [0.5, 0.6], "loss": 1.0, **found, "soup": soup,
    }  # fmt: skip


def section(page: str, name: str) -> str:
    text = page[page.index(f'<section id="{name}">') :]
    return text[: text.index("</section>")]


def test_snapshots_stand_on_the_page_of_their_run(make_run):
    run = make_run()
    (run / "evaluations").mkdir()
    names = ["epoch-0001", "<i>epoch-0002</i>", "epoch-0003"]
    one = kept(names, [run] * 3)
    (run / "evaluations" / "digits-val-snapshots.json").write_text(json.dumps(one))
    alone = {"asked": {}, "data": "digits", "split": "val", "n": 300, "protocol": "single-crop", "top1": 0.5}
    (run / "evaluations" / "digits-val.json").write_text(json.dumps(alone))
    text = section(write_report(run).read_text(encoding="utf-8"), "evaluations")
    assert "3 networks together" in text
    assert "digits val (snapshots)" in text
    assert "<i>epoch" not in text
    best = one["members"][0]
    assert f"{100 * best['top1']:.1f}" in text
    assert f"<b>{100 * best['adds']['difference']:.1f} points</b>" in text  # the one that is surely missed
    assert "Together the networks are" in text
    assert "behind epoch-0001 alone" in text
    assert "The others fare better without &lt;i&gt;epoch-0002&lt;/i&gt;, epoch-0003." in text
    assert "Soup, greedy" in text
    assert "two questions" in text
    assert "<svg" in text
    assert str(run.parent) not in text


def test_ensembles_of_compared_runs_stand_beside_them(make_run, tmp_path):
    runs = [make_run(name) for name in ("one", "two", "three")]
    (tmp_path / "runs" / "evaluations").mkdir()
    one = kept(["one", "two", "three"], runs)
    (tmp_path / "runs" / "evaluations" / "digits-val-networks.json").write_text(json.dumps(one))
    (tmp_path / "runs" / "evaluations" / "broken.json").write_text("{")
    page = write_comparison(runs, tmp_path / "all.html").read_text(encoding="utf-8")
    assert "3 networks" in section(page, "ensembles")
    assert "digits val (digits-val-networks)" in section(page, "ensembles")
    other = write_comparison(runs[:2], tmp_path / "two.html").read_text(encoding="utf-8")
    assert 'id="ensembles"' not in other  # of which a third is part
