"""What computes a prediction: the choice of `auto` and its reasons, calibration by training images, and the report."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from striate.checkpoint import save_model
from striate.cli.main import striate
from striate.data import load_data, normalise
from striate.errors import DataError, MissingExtraError, ModelError, UsageError
from striate.evaluation import evaluate, evaluate_run
from striate.evaluation.of_run import _images_at
from striate.inference import engine_cache
from striate.inference.engines import installed
from striate.inference.parity import compare
from striate.inference.quantise import IMAGES
from striate.metrics import probabilities
from striate.models import create_model
from striate.network import open_network
from striate.network.calibration import calibration_for, same_data
from striate.network.engines import engines_folder, make_ready, usual_batch
from striate.options import DataOptions, RuntimeOptions, TrainOptions, write_recipe
from striate.prediction import Classifier, count_paths
from striate.progress import Silent
from striate.spec import InputSpec, Labels

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


@needs_export
@pytest.mark.parametrize("asked", [{"precision": "auto"}, {"precision": None, "recorded": "bf16"}])
def test_only_a_precision_by_name_can_be_wrong(saved, monkeypatch, asked):
    monkeypatch.setattr("striate.runtime.hardware.processor_has_bf16", lambda: True)
    notes = Notes()
    ready = make_ready(saved, backend="onnxruntime", device="cpu", progress=notes, **asked)
    assert (ready.backend, ready.precision) == ("onnxruntime", "fp32")
    assert notes.said[0].startswith("onnxruntime has no bf16")
    assert notes.said[0].endswith(": computing in fp32")
    assert make_ready(saved, backend="torch", device="cpu", **asked).precision == "bf16"
    with pytest.raises(UsageError, match="onnxruntime has no bf16"):
        make_ready(saved, backend="onnxruntime", precision="bf16")


@pytest.mark.parametrize("recorded", ["bf16", "fp16"])
def test_the_precision_of_the_run_needs_hardware(saved, monkeypatch, recorded):
    monkeypatch.setattr("striate.runtime.hardware.processor_has_bf16", lambda: False)
    notes = Notes()
    ready = make_ready(saved, device="cpu", precision=None, recorded=recorded, progress=notes)
    assert ready.precision == "fp32"
    assert notes.said[0] == (
        f"this processor has no hardware for {recorded}, in which the network was trained: computing in fp32"
    )


@needs_export
def test_a_run_in_half_precision_is_evaluated_by_any_back_end(run, tmp_path):
    for recorded, backend in (("bf16", "onnxruntime"), ("fp16", "openvino")):
        other = tmp_path / recorded
        other.mkdir()
        write_recipe(TrainOptions(runtime=RuntimeOptions(precision=recorded)), other / "recipe.toml")
        (other / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
        given = CliRunner().invoke(striate, ["evaluate", str(other), "--backend", backend, "--json"])
        assert given.exit_code == 0, given.output
        assert json.loads(given.stdout)["engine"]["precision"] == "fp32"
        assert "in which the network was trained: computing in fp32" in given.stderr


@needs_export
def test_auto_answers_a_broken_back_end_with_torch(run, tmp_path, monkeypatch):
    saved = Classifier.load(run, backend="onnxruntime").saved
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('libgone.so.3: cannot open shared object')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    notes = Notes()
    ready = make_ready(saved, images=32, progress=notes)
    reason = "openvino failed: OpenVINO cannot be loaded: libgone.so.3: cannot open shared object"
    assert (ready.backend, ready.why, ready.to_dict()["why"]) == ("torch", reason, reason)
    assert notes.warned == [f"computing with torch in fp32: {reason}"]
    assert ready(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    with pytest.raises(ModelError, match="cannot be loaded"):
        make_ready(saved, backend="openvino")


LARGER = torch.randn(4, 3, 40, 40)  # the graph has 32 x 32 for good, the network takes any size


@needs_export
@pytest.mark.parametrize(("backend", "name"), [("openvino", "OpenVINO"), ("onnxruntime", "ONNX Runtime")])
def test_a_back_end_by_name_that_fails_on_the_way_is_an_error(saved, backend, name):
    ready = make_ready(saved, backend=backend)
    assert ready(torch.randn(3, 3, 32, 32)).shape == (3, 7)
    with pytest.raises(
        ModelError, match=rf"{name} failed on images \[4, 3, 40, 40\]: .*(dimensions|incompat)"
    ) as error:
        ready(LARGER)
    assert "--backend" in (error.value.hint or "")
    assert ready.backend == backend


@needs_export
def test_torch_takes_over_where_the_back_end_of_auto_fails_on_the_way(saved):
    make_ready(saved, backend="openvino")
    notes = Notes()
    ready = make_ready(saved, images=32, progress=notes)
    before = ready(torch.randn(3, 3, 32, 32))
    assert (ready.backend, len(before), notes.warned) == ("openvino", 3, [])
    torch.testing.assert_close(ready(LARGER), make_ready(saved, backend="torch")(LARGER), rtol=1e-4, atol=1e-4)
    report = ready.to_dict()
    assert (report["backend"], report["precision"], report["top1_agreement"]) == ("torch", "fp32", None)
    assert report["why"].startswith("openvino failed after 3 images: OpenVINO failed on images [4, 3, 40, 40]: ")
    assert notes.warned == [f"going on with torch in fp32: {report['why']}"]
    ready(LARGER)
    assert len(notes.warned) == 1


@needs_export
def test_a_comparison_is_of_one_back_end_alone(saved, monkeypatch):
    monkeypatch.setattr("striate.network.engines.usual_batch", lambda spec: 32)
    make_ready(saved, backend="openvino", precision="bf16")
    ready = make_ready(saved, images=64, precision="bf16", device="cpu")
    assert ready.backend == "openvino"
    batches = [torch.randn(32, 3, size, size) for size in (32, 40)]  # the second is too much for the graph
    ready.compare_on(64, lambda positions: batches[positions[0] // 32])
    report = ready.to_dict()
    assert (report["backend"], report["precision"], report["images"]) == ("torch", "bf16", 64)
    expected = torch.cat([saved.model(batch) for batch in batches])
    exact = compare(torch.cat([ready(batch) for batch in batches]), expected, probabilities)
    assert report["largest_difference"] == pytest.approx(exact.largest_difference, rel=1e-3)


@needs_export
def test_auto_answers_a_network_that_cannot_be_exported_with_torch(tmp_path, monkeypatch):
    (tmp_path / "fickle.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes=3, in_channels=3):\n"
        "        super().__init__()\n"
        "        self.conv, self.head = nn.Conv2d(in_channels, 4, 3), nn.Linear(4, classes)\n"
        "    def forward(self, x):\n"
        "        maps = self.conv(x)\n"
        "        return self.head((maps.relu() if maps.sum() > 0 else maps).mean((2, 3)))\n"
    )
    monkeypatch.setattr("striate.network.engines._BUILD_SECONDS", 0.0)
    saved = open_network(f"{tmp_path / 'fickle.py'}:Net", input_size=16)
    notes = Notes()
    ready = make_ready(saved, images=10**6, progress=notes)
    assert ready.backend == "torch"
    assert ready.why.startswith("openvino failed: torch cannot export fickle.py:Net")
    assert ready(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


@needs_export
def test_the_network_and_its_engine_are_hashed_once(run, monkeypatch):
    saved = Classifier.load(run, backend="openvino").saved
    calls: list[str] = []
    for name in ("network_key", "is_kept"):
        real = getattr(engine_cache, name)
        monkeypatch.setattr(engine_cache, name, lambda *given, name=name, real=real: calls.append(name) or real(*given))
    assert make_ready(saved, images=32).backend == "openvino"
    assert calls == ["network_key", "is_kept"]


def test_the_words_of_auto_are_true(saved, monkeypatch):
    monkeypatch.setattr("striate.network.engines.installed", lambda name, **_: name == "onnxruntime")
    assert make_ready(saved, images=5, views=6).why == "for 5 images in 6 views it is ready soonest"
    assert make_ready(saved, images=20, views=6).why == "for 20 images in 6 views no engine is built"
    ready = make_ready(saved, precision="bf16", device="cpu", images=10**6)
    assert ready.why == "openvino is not installed, and no other has bf16"


@needs_export
def test_auto_keeps_distances_in_fp32(world, tmp_path):
    """LeNet-5 as published answers with distances, which lose their meaning in half precision."""
    published = world.saved_model(
        tmp_path / "a.safetensors", "lenet5_1998", channels=1, labels=Labels(tuple("0123456789"))
    )
    make_ready(published, backend="openvino")  # now there is an engine
    assert make_ready(published, images=10**6).backend == "openvino"
    ready = make_ready(published, images=10**6, precision="bf16", device="cpu")
    assert (ready.backend, ready.why[:29]) == ("torch", "its outputs are no plain logi")


def test_the_comparison_is_spread_over_the_images(saved):
    asked: list[int] = []

    def take(positions):
        asked.extend(positions)
        return torch.randn(len(positions), 3, 32, 32)

    ready = make_ready(saved, backend="torch", precision="bf16", device="cpu")
    ready.compare_on(640, take)
    assert asked == list(range(0, 640, 10))
    assert (ready.to_dict()["images"], ready.to_dict()["measured"]) == (64, "now")
    before = ready.parity
    ready(torch.randn(100, 3, 32, 32))
    assert ready.parity is before
    exact = make_ready(saved, backend="torch", device="cpu")
    exact.compare_on(640, lambda positions: pytest.fail("nothing to compare"))
    assert exact.to_dict()["measured"] is None


def test_the_comparison_is_of_the_probabilities_that_predict_shows(saved):
    images = torch.randn(8, 3, 32, 32)

    def difference(temperature: float) -> float:
        warm = replace(saved, temperature=temperature)
        ready = make_ready(warm, backend="torch", precision="bf16", device="cpu")
        given = ready(images)
        with torch.inference_mode():
            exact = warm.model(images.contiguous(memory_format=torch.channels_last))
        shown = [torch.softmax(logits / temperature, 1) for logits in (given, exact)]
        assert ready.parity.largest_difference == pytest.approx(float((shown[0] - shown[1]).abs().max()), rel=1e-3)
        return ready.parity.largest_difference

    assert difference(8.0) < difference(1.0)


@needs_export
def test_a_comparison_on_enough_images_is_kept(run, tmp_path):
    fresh = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("engines"))
    evaluate_run(fresh, backend="openvino")
    later = Classifier.load(fresh, backend="openvino")
    before = later.engine.parity
    later.predict(digits(100))  # more than a comparison looks at
    assert (later.engine.parity, later.engine.to_dict()["measured"]) == (before, "earlier")


@needs_export
def test_a_kept_comparison_is_not_passed_off_as_new(run, tmp_path):
    fresh = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("engines"))  # as other tests left some
    measured = [evaluate_run(fresh, backend="openvino").to_dict()["engine"]["measured"] for _ in range(2)]
    assert measured == ["now", "earlier"]


def test_evaluation_takes_images_of_all_splits_and_as_many_as_prediction(run, world, saved, monkeypatch):
    splits = [world.tensor_split(4), world.tensor_split(3, seed=1)]
    images = _images_at(splits, saved.spec, torch.device("cpu"), [0, 3, 4, 6])
    for image, (split, index) in zip(images, ((0, 0), (0, 3), (1, 0), (1, 2)), strict=True):
        pixels = splits[split].images.take(np.array([index]), saved.spec)
        assert torch.equal(image, normalise(pixels, saved.spec)[0])
    batches: list[int] = []

    def spied(*given, batch_size, **more):
        batches.append(batch_size)
        return evaluate(*given, batch_size=batch_size, **more)

    monkeypatch.setattr("striate.evaluation.of_run.evaluate", spied)
    evaluate_run(run)
    monkeypatch.setattr("striate.evaluation.of_run.usual_batch", lambda spec: 32)
    evaluate_run(run)
    assert batches == [256, 32]


def test_calibration_by_folders_in_any_letter_case(world, tmp_path, saved):
    world.photo_folder(tmp_path / "sides" / "Train", per_class=2)
    world.photo_folder(tmp_path / "sides" / "TEST", per_class=3)
    world.photo_folder(tmp_path / "flat", per_class=1)
    world.photo_folder(tmp_path / "flat" / "Test", per_class=3)
    for name, count in (("sides", 14), ("flat", 7)):
        given = calibration_for(None, tmp_path / name, saved.spec, offline=True, progress=Silent())
        assert sum(map(len, given.batches())) == count


def test_calibration_by_the_runs_own_data_leaves_out_what_was_held_out(world, tmp_path, saved):
    photos = world.photo_folder(tmp_path / "photos" / "train", per_class=5).parent
    run = tmp_path / "run"
    run.mkdir()
    write_recipe(TrainOptions(data=DataOptions(data=str(photos), val_fraction=0.4)), run / "recipe.toml")
    own = calibration_for(run, None, saved.spec, offline=True, progress=Silent())
    count = sum(map(len, own.batches()))
    assert 0 < count < 35
    for spelling in (photos, f"{photos}/", photos / "train", photos / ".." / "photos"):
        given = calibration_for(run, spelling, saved.spec, offline=True, progress=Silent())
        assert given.identity == own.identity
        assert sum(map(len, given.batches())) == count


def test_calibration_by_sets_in_files_and_by_name(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    idx = tmp_path / "mine" / "raw"
    idx.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 30)):
        pixels = generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        (idx / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + pixels.tobytes())
        labels = (np.arange(count) % 2).astype(np.uint8)
        (idx / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    spec = InputSpec(size=(28, 28), channels=1)
    given = calibration_for(None, tmp_path / "mine", spec, offline=True, progress=Silent())
    assert 0 < sum(map(len, given.batches())) < 40  # training images, less those held out
    os.utime(idx / "train-images-idx3-ubyte", (1, 1))
    assert calibration_for(None, tmp_path / "mine", spec, offline=True, progress=Silent()).identity != given.identity
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # a folder of that name is not what `digits` means elsewhere
    named = calibration_for(None, "digits", spec, offline=True, progress=Silent())
    assert named.about == "training images of digits"
    assert sum(map(len, named.batches())) == IMAGES
    assert same_data("MNIST", "mnist")
    assert not same_data("mnist", "kmnist")
