"""`striate.explain` and `striate explain`: from a network and images to maps, figures and a page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import striate
from striate.checkpoint import SavedModel, load_model, save_model
from striate.cli.main import striate as command
from striate.errors import DataError, MissingExtraError, UnknownNameError, UsageError
from striate.explanation.explaining import folder_truth
from striate.explanation.figures import save_figure, side_by_side
from striate.hub.classes import labels_of
from striate.models import create_model, find_entry
from striate.spec import InputSpec, Labels

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> SavedModel:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("compact_s", classes=4, in_channels=3, input_size=28)
    save_model(path, model.eval(), InputSpec(size=(28, 28), channels=3), Labels(NAMES))
    return load_model(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three images of each of two classes, and a file that is none."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for number in range(3):
            pixels = generator.integers(0, 256, (40, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / "bee" / "broken.png").write_bytes(b"no image")
    return root


def run(*words: str):
    result = CliRunner().invoke(command, ["explain", *map(str, words)])
    return result


def test_one_image_and_method(saved, folder):
    [one] = striate.explain(saved, folder / "ant" / "0.png", progress=False)
    assert (one.method, one.layer) == ("gradcam", "group2")
    assert one.map.shape == (28, 28)
    assert one.image.shape == (28, 28, 3)
    assert one.target == one.prediction.label
    assert one.probability == one.prediction.labels[0].probability
    assert one.truth == "ant"
    classifier = striate.load(saved.path, progress=False)
    expected = classifier.predict(folder / "ant" / "0.png")[0]
    assert one.prediction.label == expected.label
    assert one.probability == pytest.approx(expected.labels[0].probability, abs=1e-5)
    assert json.loads(json.dumps(one.to_dict()))["peak"] == list(one.peak)


def test_several_methods_and_images_follow_one_another(saved):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 30, 30), dtype=np.uint8)[..., None]
    found = striate.explain(saved, pixels, ["gradient", "deconvnet"], target="cat", unit=3, progress=False)
    assert [(one.path, one.method) for one in found[:3]] == [
        ("image[0]", "gradient"),
        ("image[0]", "deconvnet"),
        ("image[1]", "gradient"),
    ]
    assert {one.target for one in found} == {"cat"}
    assert {one.unit.channel for one in found if one.unit} == {3}
    assert found[0].map.shape == (3, 28, 28)


def test_a_class_goes_by_name_or_number(saved, folder):
    image = folder / "bee" / "1.png"
    by_name, by_number = (
        striate.explain(saved, image, "gradient", target=one, progress=False)[0] for one in ("dog", 3)
    )
    assert np.array_equal(by_name.map, by_number.map)
    with pytest.raises(UnknownNameError, match="unknown class 'dgo'"):
        striate.explain(saved, image, target="dgo", progress=False)


def test_what_cannot_be_is_said(saved, folder):
    image = folder / "ant" / "0.png"
    with pytest.raises(UsageError, match="look at no layer"):
        striate.explain(saved, image, "gradient", layer="group1", progress=False)
    with pytest.raises(UsageError, match="no map 64"):
        striate.explain(saved, image, "deconvnet", unit=64, progress=False)
    with pytest.raises(UnknownNameError, match="option of explain"):
        striate.explain(saved, image, windw=3, progress=False)
    with pytest.raises(DataError, match="no image"):
        striate.explain(saved, folder / "bee" / "broken.png", progress=False)


@pytest.mark.parametrize("asked", [{"method": "gradcam,occlusion"}, {"show": "filters,codes"}])
def test_a_map_that_nothing_looks_at_is_refused(saved, folder, asked):
    [(name, words)] = asked.items()
    image = folder / "ant" / "0.png"
    with pytest.raises(UsageError, match="no single map, so that unit 3") as caught:
        striate.explain(saved, image, **{name: words.split(",")}, unit=3, progress=False)
    assert "deconvnet, maps, strongest" in caught.value.hint
    result = run(saved.path, image, f"--{name}", words, "--unit", 3)
    assert result.exit_code == 2
    assert f"{words.replace(',', ', ')} look at no single map" in result.stderr


def test_several_labels_an_image(folder, tmp_path):
    torch.manual_seed(0)
    model = create_model("compact_s", classes=3, in_channels=1, input_size=28).eval()
    spec, labels = InputSpec(size=(28, 28), channels=1), Labels(("one", "two", "three"), multi_label=True)
    saved = SavedModel(model=model, spec=spec, labels=labels)
    found = striate.explain(saved, folder / "ant" / "0.png", target="two", progress=False)[0]
    assert found.target == "two"
    with torch.no_grad():
        logits = model(torch.from_numpy(found.image).permute(2, 0, 1)[None] * 2 - 1)
    assert found.probability == pytest.approx(float(logits[0, 1].sigmoid()), abs=1e-4)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_figure_shows_every_map_with_its_legend(saved, folder, kind, tmp_path):
    methods = ("gradcam", "gradient", "guided-backprop", "occlusion", "deconvnet")
    found = striate.explain(saved, folder / "ant" / "0.png", methods, progress=False)
    figure = side_by_side(found)
    panels = [one for one in figure.axes if one.get_visible()]
    titles = [panel.get_title(loc="left").split("\n")[0] for panel in panels]
    assert titles[1:] == ["Grad-CAM", "gradient", "guided backpropagation", "occlusion", "deconvnet"]
    bars = [child for panel in panels[1:] for child in panel.child_axes]
    assert len(bars) == 5
    assert all(bar.get_xlabel() for bar in bars)
    paths = [save_figure(side_by_side(found), tmp_path / f"{name}.{kind}") for name in ("one", "two")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if kind == "png":
        with Image.open(paths[0]) as picture:
            assert picture.width > 800
    with pytest.raises(UsageError, match="png or svg"):
        save_figure(figure, tmp_path / "one.bmp")
    with pytest.raises(UsageError, match="one image"):
        side_by_side([])
    assert found[0].figure().axes


def test_the_command_writes_a_figure_for_an_image(saved, folder, tmp_path):
    image = folder / "ant" / "0.png"
    result = run(saved.path, image, "--output", tmp_path, "--format", "png", "--format", "svg", "--method", "gradcam")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "0.svg"]
    assert str(image) in result.stdout


def test_the_command_as_json(saved, folder, tmp_path):
    image = folder / "bee" / "2.png"
    result = run(saved.path, image, "--output", tmp_path, "--json", "--method", "gradcam,occlusion", "--target", "cat")
    answer = json.loads(result.stdout)
    assert [one["method"] for one in answer["explanations"]] == ["gradcam", "occlusion"]
    assert {one["target"] for one in answer["explanations"]} == {"cat"}
    assert answer["files"] == [str(tmp_path / "2.png")]
    assert answer["page"] is None


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        if tag == "img":
            assert values["alt"]
            self.pictures.append(values["src"])


def test_a_folder_gives_a_page_with_the_worst_mistakes_first(saved, folder, tmp_path):
    result = run(saved.path, folder, "--output", tmp_path, "--method", "gradcam", "--json")
    answer = json.loads(result.stdout)
    assert "broken.png" in result.stderr
    text = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.pictures) == 6 == len(answer["explanations"])
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"https?://", text)
    shown = [float(one) for one in re.findall(r"<span>\w+ ([\d.]+)%", text.split("right answers")[0])]
    wrong = [one for one in answer["explanations"] if one["labels"][0]["label"] != one["truth"]]
    assert wrong
    assert len(shown) == len(wrong)
    assert shown == sorted(shown, reverse=True)


def test_of_many_images_those_that_tell_most_are_shown(saved, folder, tmp_path):
    answer = json.loads(run(saved.path, folder, "--output", tmp_path, "--json", "--limit", "2").stdout)
    everything = striate.explain(saved, folder, progress=False)
    sure = {one.path: one.probability for one in everything if one.prediction.label != one.truth}
    assert len(sure) >= 2
    assert {one["path"] for one in answer["explanations"]} == set(sorted(sure, key=lambda path: -sure[path])[:2])


def test_without_images_only_a_run_knows_its_own(saved):
    result = run(saved.path)
    assert result.exit_code == 2
    assert "no image is named" in result.stderr


def test_what_holds_no_image_is_said(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(saved.path, tmp_path / "empty", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "a folder without images" in result.stderr
    assert "there is no image to explain" in result.stderr


def test_a_run_shows_images_that_it_held_out(tmp_path):
    settings = {"model": "compact_xs", "epochs": 1, "limit": 200, "threads": 1}
    result = striate.train("digits", runs=tmp_path, report=False, progress=False, **settings)
    answer = json.loads(run("latest", "--runs", tmp_path, "--method", "gradcam", "--limit", "4", "--json").stdout)
    assert answer["page"] == str(result.run / "explain" / "gallery.html")
    assert result.run.name in Path(answer["page"]).read_text(encoding="utf-8")  # and not what it was called today
    assert answer["files"] == []
    paths = {one["path"] for one in answer["explanations"]}
    assert len(paths) == 4
    assert paths <= set(striate.load_data("digits", limit=200, progress=False).splits["val"].paths)
    chances = [
        one["labels"][0]["probability"] for one in answer["explanations"] if one["labels"][0]["label"] != one["truth"]
    ]
    assert chances == sorted(chances, reverse=True)


def test_the_network_is_told_apart_from_its_copy(saved, folder):
    before = {name: value.clone() for name, value in saved.model.state_dict().items()}
    striate.explain(saved, folder / "ant", "all" if _captum() else "gradcam", progress=False)
    assert all(torch.equal(value, before[name]) for name, value in saved.model.state_dict().items())
    assert not saved.model.training


def _captum() -> bool:
    try:
        import captum.attr  # noqa: F401
    except ImportError:
        return False
    return True


def test_without_captum_the_command_says_what_to_install(saved, folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(MissingExtraError):
        striate.explain(saved, folder / "ant" / "0.png", "integrated-gradients", progress=False)


def test_folders_name_classes_as_data_sets_do():
    labels = Labels(tuple(f"class {number}" for number in range(3)))
    assert folder_truth("photos/class 1/a.jpg", labels) == "class 1"
    assert folder_truth("a.jpg", labels) is None
    assert folder_truth("photos/class 1/a.jpg", Labels(labels.names, multi_label=True)) is None
    assert folder_truth("photos/n01440764/a.jpg", labels_of(find_entry("resnet18"), 1000)) == "tench"
