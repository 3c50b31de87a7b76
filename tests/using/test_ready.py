"""What computes a prediction: the choice of `auto` and its reasons, calibration by training images, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from striate.checkpoint import save_model
from striate.cli.main import striate
from striate.data import load_data
from striate.errors import DataError, MissingExtraError, UsageError
from striate.evaluation import evaluate_run
from striate.inference.engines import installed
from striate.inference.quantise import IMAGES
from striate.models import create_model
from striate.network.calibration import calibration_for
from striate.network.engines import engines_folder, make_ready, usual_batch
from striate.options import DataOptions, RuntimeOptions, TrainOptions, write_recipe
from striate.prediction import Classifier, count_paths
from striate.progress import Silent
from striate.spec import InputSpec

needs_export = pytest.mark.skipif(
    not all(installed(name, building=True, precision="int8") for name in ("openvino", "onnxruntime")),
    reason="needs the packages of striate[export]",
)


class Notes(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A run folder whose network was not trained for long: its data are the digits that come with Striate."""
    folder = tmp_path_factory.mktemp("runs") / "20260101-lenet-digits"
    folder.mkdir()
    write_recipe(TrainOptions(runtime=RuntimeOptions(precision="fp32")), folder / "recipe.toml")
    torch.manual_seed(0)
    data = load_data(DataOptions())
    model = create_model("lenet5_dense", classes=10, in_channels=1, input_size=32).eval()
    spec = InputSpec(size=(32, 32), channels=1, resize="squash")
    save_model(folder / "model.safetensors", model, spec, data.labels)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))


def digits(count: int) -> list[np.ndarray]:
    data = load_data(DataOptions()).splits["val"]
    return [data.images.raw(index) for index in range(count)]


def test_a_single_image_never_waits_for_an_export(saved):
    notes = Notes()
    classifier = Classifier(saved, images=1, progress=notes)
    assert (classifier.engine.backend, classifier.engine.precision) == ("torch", "fp32")
    assert len(notes.said) == 1
    if installed("openvino", building=False):
        assert notes.said == ["computing with torch in fp32: for 1 image it is ready soonest"]
    assert classifier.engine.to_dict()["top1_agreement"] is None
    assert not engines_folder(saved).exists()


def test_few_quick_images_do_not_pay_for_an_engine(saved):
    notes = Notes()
    ready = make_ready(saved, images=300, progress=notes)
    assert ready.backend == "torch"
    if installed("openvino", building=True):
        assert ready.why.startswith("300 images of ")
        assert ready.why.endswith(" ms each do not pay for building an engine")


def test_folded_torch_answers_as_the_network(saved, world):
    images = torch.randn(5, 3, 32, 32)
    plain, folded = make_ready(saved), make_ready(saved, backend="torch")
    assert (plain.engine, folded.why) == (None, "as asked")
    torch.testing.assert_close(folded(images), plain(images), rtol=1e-4, atol=1e-5)


def test_bf16_is_compared_with_fp32(saved):
    notes = Notes()
    ready = make_ready(saved, backend="torch", precision="bf16", progress=notes)
    assert ready.to_dict()["images"] is None
    ready(torch.randn(100, 3, 32, 32))
    report = ready.to_dict()
    assert report["images"] == 64
    assert 0 < report["largest_difference"] < 0.2
    assert report["top1_agreement"] >= 0.9
    (line,) = notes.said
    assert line.startswith("torch bf16: top class as torch fp32 on ")


@needs_export
def test_int8_is_calibrated_by_the_runs_own_training_images(run):
    notes = Notes()
    classifier = Classifier.load(run, precision="int8", backend="openvino", progress=notes)
    assert notes.said[0].startswith("building an engine for openvino in int8")
    predictions = classifier.predict(digits(70))
    assert len(predictions) == 70
    assert (run / "engines").is_dir()
    report = classifier.engine.to_dict()
    assert (report["backend"], report["precision"], report["images"]) == ("openvino", "int8", 64)
    assert any(line.startswith("openvino int8: top class as torch fp32 on ") for line in (*notes.said, *notes.warned))
    (record,) = (run / "engines").glob("*-int8-*/engine.json")
    assert json.loads(record.read_text())["calibration"] == "training images of the run"
    later = Classifier.load(run, precision="int8")  # auto: from the cache, with the report that was made
    assert later.engine.backend == "openvino"
    assert later.engine.to_dict()["images"] == 64
    given = CliRunner().invoke(striate, ["evaluate", str(run), "--precision", "int8", "--json"])
    assert given.exit_code == 0, given.output
    scores = json.loads(given.stdout)
    assert (scores["engine"]["precision"], scores["n"]) == ("int8", len(load_data(DataOptions()).splits["val"]))
    exact = evaluate_run(run, backend="torch")
    assert abs(scores["loss"] - exact.scores.loss) < 0.05
    assert exact.to_dict()["engine"]["backend"] == "torch"


@needs_export
def test_auto_takes_an_engine_that_was_built_before(run):
    image = digits(1)
    before = Classifier.load(run, backend="openvino").predict(image)
    notes = Notes()
    classifier = Classifier.load(run, progress=notes)
    assert notes.said == ["computing with openvino in fp32: its engine was built before"]
    assert classifier.predict(image) == before
    assert make_ready(classifier.saved, images=31).backend == "torch"  # even reading the engine would take longer
    assert make_ready(classifier.saved, images=32).backend == "openvino"
    plain = Classifier.load(run, backend="torch").predict(image)[0]
    assert [one.label for one in plain.labels] == [one.label for one in before[0].labels]
    assert [one.probability for one in plain.labels] == pytest.approx(
        [one.probability for one in before[0].labels], abs=1e-5
    )


@needs_export
def test_int8_without_images_to_calibrate_by(saved):
    notes = Notes()
    with pytest.raises(UsageError, match="int8 needs images to calibrate by") as error:
        make_ready(saved, precision="int8", progress=notes)
    assert "--calibration FOLDER" in error.value.hint
    assert not any("building" in line for line in notes.said)


def test_calibration_never_takes_test_images(world, tmp_path, saved):
    for side in ("train", "test"):
        world.photo_folder(tmp_path / "sides" / side, per_class=2)
    sides = calibration_for(None, tmp_path / "sides", saved.spec, offline=True, progress=Silent())
    assert sum(map(len, sides.batches())) == 14
    flat = tmp_path / "flat"
    world.photo_folder(flat, per_class=1)
    world.photo_folder(flat / "test", per_class=3)
    (flat / "bee" / "broken.jpg").write_bytes(b"no image")
    given = calibration_for(None, flat, saved.spec, offline=True, progress=Silent())
    batches = list(given.batches())
    assert sum(map(len, batches)) == 7
    assert batches[0].shape[1:] == (3, 32, 32)
    assert given.identity != sides.identity
    assert calibration_for(None, None, saved.spec, offline=True, progress=Silent()) is None
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no images to calibrate"):
        calibration_for(None, tmp_path / "none", saved.spec, offline=True, progress=Silent())
    (tmp_path / "none" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="can be read"):
        list(calibration_for(None, tmp_path / "none", saved.spec, offline=True, progress=Silent()).batches())


def test_calibration_by_a_run_is_of_its_training_split(run):
    given = calibration_for(run, None, InputSpec(size=(32, 32), channels=1), offline=True, progress=Silent())
    images = torch.cat(list(given.batches()))
    assert len(images) == IMAGES
    again = calibration_for(run, None, InputSpec(size=(32, 32), channels=1), offline=True, progress=Silent())
    assert again.identity == given.identity
    assert torch.equal(torch.cat(list(again.batches())), images)


def test_predict_says_what_computed(run, tmp_path):
    image = tmp_path / "digit.npy"
    np.save(image, digits(1)[0])
    given = CliRunner().invoke(striate, ["predict", str(run), str(image), "--backend", "torch", "--json"])
    assert given.exit_code == 0, given.output
    engine = json.loads(given.stdout)["engine"]
    assert (engine["backend"], engine["precision"], engine["why"]) == ("torch", "fp32", "as asked")
    wrong = CliRunner().invoke(
        striate, ["predict", str(run), str(image), "--backend", "onnxruntime", "--precision", "bf16"]
    )
    assert wrong.exit_code == 2
    assert "onnxruntime has no bf16: it has fp32, int8" in wrong.output


def test_missing_packages(saved, monkeypatch):
    monkeypatch.setattr("striate.network.engines.installed", lambda *_, **__: False)
    assert make_ready(saved, images=10**6).why == "openvino and onnxruntime are not installed"
    with pytest.raises(MissingExtraError, match="int8 needs openvino"):
        make_ready(saved, precision="int8")


def test_batches_by_the_size_of_images():
    sizes = {32: 256, 224: 32, 299: 16, 512: 16}
    assert {side: usual_batch(InputSpec(size=(side, side), channels=3)) for side in sizes} == sizes


def test_counting_paths(world, tmp_path):
    photos = world.photo_folder(tmp_path / "photos")
    assert count_paths([str(photos), str(photos / "ant" / "0-0.jpg")]) == 29
    assert count_paths([str(photos)], at_most=5) == 5
