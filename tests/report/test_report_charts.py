import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.metrics.confusions import top_confusions
from striate.report.charts import Series, line_chart, nice_ticks, stacked_bar, thinned
from striate.report.confusion import confusion_chart, favourite_mistakes
from striate.report.figures import percent, seconds
from striate.report.pictures import filter_sprite, make_sprite


def parsed(markup):
    return ElementTree.fromstring(str(markup))


def points_of(markup):
    lines = list(parsed(markup).iter("polyline"))
    return [[tuple(map(float, pair.split(","))) for pair in one.get("points").split()] for one in lines]


def test_line_chart_places_points_linearly():
    ((first, middle, last),) = points_of(line_chart("Loss", [Series("a", [(1, 1.0), (2, 0.5), (3, 0.0)], "train")]))
    assert first[0] == 52
    assert last[0] == 528
    assert middle[0] == pytest.approx((first[0] + last[0]) / 2, abs=0.1)
    assert middle[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.1)
    assert first[1] < last[1]  # a larger loss stands higher


def test_line_chart_is_logarithmic_over_a_wide_range():
    ((first, middle, last),) = points_of(line_chart("Loss", [Series("a", [(1, 100.0), (2, 1.0), (3, 0.01)], "train")]))
    assert middle[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.1)


def test_line_chart_without_points_is_nothing():
    assert line_chart("Loss", [Series("a", [], "train")]) == ""


def test_line_chart_of_one_point():
    chart = line_chart("Accuracy", [Series("a", [(1, 0.4)], "val")], form=percent, share=True, log=False)
    assert len(list(parsed(chart).iter("circle"))) == 1


def test_line_chart_escapes_names():
    chart = line_chart('<b>"x"</b>', [Series("<i>", [(1, 1), (2, 2)], "train"), Series("b", [(1, 1)], "val")])
    assert "<i>" not in chart
    assert parsed(chart).tag == "figure"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_line_chart_survives_any_values(values):
    chart = line_chart("Any", [Series("a", list(enumerate(values, start=1)), "train")])
    assert parsed(chart).tag == "figure"
    assert "nan" not in chart
    assert "inf" not in chart


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
@settings(max_examples=80, deadline=None)
def test_nice_ticks_lie_inside_and_are_few(low, span):
    ticks = nice_ticks(low, low + span)
    assert 1 <= len(ticks) <= 8
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in ticks)


def test_thinning_keeps_the_spike():
    points = [(float(place), 1.0) for place in range(10_000)]
    points[4321] = (4321.0, 50.0)
    thin = thinned(points)
    assert len(thin) <= 410
    assert (4321.0, 50.0) in thin
    assert thin[-1] == points[-1]


def test_stacked_bar_shares_the_width():
    widths = [
        float(one.get("width")) for one in parsed(stacked_bar("Time", [("a", 1.0), ("b", 3.0)], seconds)).iter("rect")
    ]
    assert widths == [134.0, 404.0]  # of 540, one unit of gap each


def test_top_confusions_by_hand():
    matrix = np.array([[5, 2, 0], [0, 7, 0], [1, 3, 6]])
    top = top_confusions(matrix, ["a", "b", "c"])
    assert [(one.truth, one.predicted, one.count) for one in top] == [("c", "b", 3), ("a", "b", 2), ("c", "a", 1)]
    assert top[0].share == pytest.approx(0.3)
    assert favourite_mistakes(matrix, ["a", "b", "c"]) == [("b", 2), None, ("b", 3)]


@pytest.mark.parametrize("classes", [2, 10, 20, 21, 60])
def test_small_confusion_is_drawn_cell_by_cell(classes):
    matrix = np.eye(classes, dtype=int) * 9
    matrix[0, 1] = 4
    chart = parsed(confusion_chart(matrix, [f"class {place}" for place in range(classes)]))
    titles = [one.text for one in chart.iter("title")]
    assert "class 0 taken for class 1: 4 images (30.8\u202f% of class 0)" in titles
    numbers = [one for one in chart.iter("text") if "inside" in (one.get("class") or "")]
    assert len(numbers) == (classes + 1 if classes <= 20 else 0)


@pytest.mark.parametrize(("classes", "side"), [(61, 61), (200, 200), (1000, 250)])
def test_large_confusion_is_a_picture_with_titles(classes, side):
    matrix = np.eye(classes, dtype=int) * 9
    matrix[3, classes - 1] = 40
    chart = parsed(confusion_chart(matrix, [f"class {place}" for place in range(classes)]))
    (image,) = chart.iter("image")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.get("href").split(",")[1]))))
    assert pixels.shape == (side, side, 4)
    assert pixels[0, side - 1, 3] > 0 if classes == 1000 else pixels[3, side - 1, 3] > 200
    assert pixels[side // 2, side // 2 + 1, 3] == 0
    assert any("class 3" in one.text or "class 0 … class 3" in one.text for one in chart.iter("title"))


def test_sprite_holds_every_picture_in_its_place():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8) * 50
    sprite = make_sprite("some", images, [{"title": str(place)} for place in range(5)])
    assert sprite is not None
    assert (sprite.columns, sprite.rows, sprite.aspect, sprite.sharp) == (3, 2, "6 / 4", True)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite.uri.split(",")[1]))))
    assert sheet.shape == (8, 18, 3)
    assert sheet[5, 8, 0] == 200  # the fifth picture: second row, second column
    assert sprite.tiles[4].position == "50% 100%"


def test_photos_become_one_jpeg_of_a_sensible_size():
    sprite = make_sprite("some", np.zeros((2, 400, 300, 3), np.uint8), [{"title": ""}] * 2)
    assert sprite is not None
    assert sprite.uri.startswith("data:image/jpeg")
    sheet = Image.open(io.BytesIO(base64.b64decode(sprite.uri.split(",")[1])))
    assert sheet.size == (200, 133)


@pytest.mark.parametrize("inputs", [1, 3, 6])
def test_filters_as_pictures(inputs):
    weight = np.random.default_rng(0).normal(size=(7, inputs, 5, 5)).astype(np.float32)
    sprite = filter_sprite(weight)
    assert sprite is not None
    assert len(sprite.tiles) == 7
    if inputs == 1:  # zero is the middle grey, and the largest weight is black or white
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite.uri.split(",")[1]))))
        largest = np.unravel_index(np.abs(weight).argmax(), weight.shape)
        row, column = divmod(int(largest[0]), sprite.columns)
        value = sheet[row * 5 + largest[2], column * 5 + largest[3]]
        assert value == (255 if weight[largest] > 0 else 0)


def test_filters_of_zeros_are_flat():
    assert filter_sprite(np.zeros((4, 1, 3, 3), np.float32)) is not None


def test_lines_that_lie_close_together_far_from_zero_can_be_told_apart():
    lines = [Series("all", [(1, 0.96), (2, 0.98)], "run0"), Series("one", [(1, 0.96), (2, 0.95)], "run1")]
    near, far = (points_of(line_chart("Together", lines, log=False, close=close)) for close in (True, False))
    assert near[1][1][1] - near[0][1][1] > 5 * (far[1][1][1] - far[0][1][1])
