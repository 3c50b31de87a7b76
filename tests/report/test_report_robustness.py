"""The section on changed images: there where a run has them, with a chart of each sweep and what fooled."""

import json

from striate.report import write_report


def kind(name, group, axis, points):
    rows = [
        {"strength": at, "accuracy": share, "interval": [0, 1], "unchanged": share, "n": 50, **more}
        for at, share, more in points
    ]
    mean = sum(row["accuracy"] for row in rows[1:]) / (len(rows) - 1)
    return {"kind": name, "group": group, "axis": axis, "points": rows, "mean_accuracy": mean, "seconds": 1.0}


def test_a_run_with_changed_images_shows_them(make_run):
    from PIL import Image

    run = make_run()
    assert "Robustness" not in write_report(run).read_text(encoding="utf-8")
    fog = kind("fog", "weather", "severity", [(at, 0.9 - at / 10, {}) for at in range(6)])
    both = [(at, 0.9 - abs(at) / 20, {"direction": way}) for way in ("right", "down") for at in (-2, 0, 2)]
    stored = {
        "n": 50, "of": 359, "data": "<digits>", "split": "val", "seconds": 3.0, "mean_corruption_error": 0.4,
        "mean_corruption_error_above_clean": 0.3, "clean": {"accuracy": 0.9, "interval": [0.8, 0.95]},
        "kinds": [fog, kind("translation", "sweeps", "shift in pixels", both)],
    }  # fmt: skip
    (run / "robustness").mkdir()
    (run / "robustness" / "robustness.json").write_text(json.dumps(stored), encoding="utf-8")
    Image.new("RGB", (40, 30)).save(run / "robustness" / "fooled.png")
    page = write_report(run).read_text(encoding="utf-8")
    assert 'id="robustness"' in page
    assert "50 of 359 images of &lt;digits&gt; val" in page
    for words in ("Translation", "sideways", "up and down", "mean corruption error", "What fools it", "40.0"):
        assert words in page
    (run / "robustness" / "robustness.json").write_text("{", encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    assert 'id="robustness"' not in page
    assert "robustness.json could not be read" in page
