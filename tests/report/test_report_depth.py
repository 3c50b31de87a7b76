"""The section on depth: of what a real run recorded, and of lines that hold little."""

import json
from collections.abc import Sequence
from typing import Any

from striate.report import write_report
from striate.report.depth import depth
from striate.report.record import read_record


def line(epoch: int, gradients: list[float | None], dead: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
    """A line of depth.jsonl with a layer for each gradient and a rectifier behind each of the first."""
    layers = [
        {
            "name": f"odd<{place}>", "mean": -0.1, "deviation": 1.0, "gradient": one, "weight_gradient": one,
            "weight_rms": 0.5, "sparsity": 0.2, "edge": 1.0, "histogram": [1, 3, 1],
        }
        for place, one in enumerate(gradients)
    ]  # fmt: skip
    rectifiers = [
        {"after": f"odd<{place}>", "units": units, "dead": count, "active": 0.5}
        for place, (count, units) in enumerate(dead)
    ]
    return {
        "epoch": epoch, "step": epoch, "images": 64, "layers": layers, "rectifiers": rectifiers, "seconds": 0.1,
    }  # fmt: skip


def section(make_run, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    run = make_run()
    (run / "depth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    assert ('id="depth"' in page) == bool(rows)
    assert "odd<" not in page, "names are escaped"
    return depth(read_record(run))


def test_a_run_that_recorded_nothing_has_no_such_section(make_run):
    assert section(make_run, []) is None


def test_a_vanishing_gradient_is_said(make_run):
    found = section(make_run, [line(epoch, [1e-7, 1e-4, 0.1, 1.0]) for epoch in (0, 1, 2, 3)])
    assert found is not None
    assert "1 part in 1e6 comes down to `odd<0>`" in found["words"]
    assert "vanishes" in found["words"]
    assert "after epoch 3" in found["charts"][0]
    assert len(found["charts"]) == 2, "nothing is dead where nothing rectifies"


def test_a_gradient_that_arrives_is_no_alarm(make_run):
    found = section(make_run, [line(0, [0.5, 1.0, 1.0])])
    assert found is not None
    assert "50\u202f% comes down" in found["words"]
    assert not any(word in found["words"] for word in ("vanishes", "explodes", "dead"))


def test_a_layer_that_died_is_named(make_run):
    rows = [line(0, [1.0, 1.0, 1.0], [(0, 8), (0, 8)]), line(1, [0.0, 1.0, 1.0], [(1, 8), (8, 8)])]
    found = section(make_run, rows)
    assert found is not None
    assert "every unit after `odd<1>` is dead" in found["words"]
    assert ("dead units at the end", "9 of 16") in found["facts"]
    assert "Dead rectifiers" in found["charts"][-1]


def test_frozen_layers_and_numbers_that_are_none_are_passed_over(make_run):
    empty = line(1, [None, None])
    empty["layers"][0] |= {"deviation": None, "mean": None, "edge": None, "histogram": [], "sparsity": None}
    found = section(make_run, [line(0, [None, None]), empty])
    assert found is not None
    assert found["words"] == ""
    assert found["rows"][0]["gradient"] == "–"


def test_an_error_out_of_reach_is_shown(make_run):
    run = make_run()
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    for scores in evaluation["splits"].values():
        if scores:
            scores["rejection"] = {
                "coverage": [0.5, 1.0], "error": [0.4, 0.5], "area": 0.4,
                "for_error": [{"wanted": 0.01, "rejected": None}],
            }  # fmt: skip
    (run / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    assert "not within reach" in write_report(run).read_text(encoding="utf-8")
