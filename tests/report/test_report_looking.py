import numpy as np
from tests.report.test_report_page import Page

from striate.report import write_report


def with_maps(run, count: int, classes: int, *, names: int | None = None):
    """A made-up run folder that also keeps maps of its worst answers."""
    with np.load(run / "pictures.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    side = arrays["worst"].shape[1:3]
    arrays["looked"] = np.random.default_rng(0).integers(0, 256, (count, classes, *side, 3), dtype=np.uint8)
    arrays["looked_classes"] = np.array([["<b>said</b>", "true"][:classes]] * (names or count))
    arrays["looked_layer"] = np.array("conv4_x")
    np.savez_compressed(run / "pictures.npz", **arrays)
    return run


def test_the_image_beside_its_maps(make_run):
    page = Page(write_report(with_maps(make_run(), 3, 2)))
    assert page.sections.index("looking") == page.sections.index("images") + 1
    labels = [attributes.get("aria-label") for _, attributes in page.tags]
    assert labels.count("Grad-CAM for <b>said</b>") == 3
    assert labels.count("Grad-CAM for true") == 3
    assert "for <b>said</b>" in page.text
    assert "conv4_x" in page.text
    assert ("a", {"href": "#looking"}) in page.tags


def test_one_map_an_image_where_it_has_several_labels(make_run):
    page = Page(write_report(with_maps(make_run(), 2, 1)))
    labels = [attributes.get("aria-label") for _, attributes in page.tags]
    assert sum(str(one).startswith("Grad-CAM") for one in labels) == 2


def test_no_section_without_maps_or_with_damaged_ones(make_run):
    assert "looking" not in Page(write_report(make_run())).sections
    assert "looking" not in Page(write_report(with_maps(make_run(name="other"), 3, 2, names=2))).sections
