"""`striate export` as people call it: files that answer as `predict` does, or none at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

import striate
from striate import exporting
from striate.checkpoint import load_model, save_model
from striate.cli.main import striate as front_door
from striate.data import decode, fit, load_data, normalise
from striate.errors import MissingExtraError
from striate.options import DataOptions, ModelOptions, TrainOptions, write_recipe
from striate.progress import Silent

for package in ("onnx", "onnxscript"):
    pytest.importorskip(package, reason=f"exporting needs {package}")
onnxruntime = pytest.importorskip("onnxruntime", reason="checking an export needs onnxruntime")


@pytest.fixture
def run(world, model_file, tmp_path) -> Path:
    """A run folder as training leaves it, as far as this command reads it."""
    photos = world.photo_folder(tmp_path / "photos")
    folder = tmp_path / "runs" / "20260101-resnet20-photos"
    folder.mkdir(parents=True)
    options = TrainOptions(data=DataOptions(data=str(photos)), model=ModelOptions(model="resnet20"))
    write_recipe(options, folder / "recipe.toml")
    (folder / "model.safetensors").write_bytes(model_file.read_bytes())
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def called(*words: object):
        return CliRunner().invoke(front_door, ["export", *map(str, words)])

    return called


def exported(call, *words: object) -> dict:
    result = call(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_run_becomes_onnx_and_answers_as_predict_does(call, run, tmp_path):
    row = exported(call, "latest")
    path = Path(row["path"])
    assert path == Path("runs/20260101-resnet20-photos/model.onnx")
    assert (row["format"], row["model"], row["opset"], row["precision"]) == ("onnx", "cifar_resnet20", 18, "fp32")
    assert row["input"] == {"name": "images", "shape": [None, 3, 32, 32], "dtype": "float32"}
    assert row["outputs"] == [{"name": "logits", "shape": [None, 7], "dtype": "float32"}]
    assert row["bytes"] == path.stat().st_size
    parity = row["parity"]
    assert (parity["top1_agreement"], parity["passed"], parity["source"]) == (1.0, True, "validation images of the run")
    assert parity["largest_difference"] < 1e-4
    names = sorted(file.name for file in run.iterdir())
    assert names == ["model.onnx", "model.onnx.json", "model.safetensors", "recipe.toml"]

    # by the description alone, without Striate's own code but for the resizing
    told = json.loads((run / "model.onnx.json").read_text())
    photo = tmp_path / "photos" / "bee" / "1-0.jpg"
    saved = load_model(run)
    pixels = fit(decode(photo), saved.spec)
    mean, std = told["input"]["mean"], told["input"]["std"]
    images = ((pixels[None] / 255 - np.reshape(mean, (1, -1, 1, 1))) / np.reshape(std, (1, -1, 1, 1))).astype(
        np.float32
    )
    (logits,) = onnxruntime.InferenceSession(path).run(["logits"], {"images": images})
    best = striate.load(run, progress=False).predict(photo)[0].label
    assert told["labels"][int(logits[0].argmax())] == best


def test_what_answers_otherwise_is_not_kept(call, model_file, tmp_path):
    saved = load_model(model_file)
    with torch.no_grad():
        for parameter in saved.model.head.parameters():
            parameter.mul_(1e-9)  # half precision has no numbers that small
    save_model(tmp_path / "faint.safetensors", saved.model, saved.spec, saved.labels)
    result = call("faint.safetensors", "--precision", "fp16")
    assert result.exit_code == 1, result.output
    assert "answers otherwise than predict on 32 images (digits)" in result.stderr
    assert "--precision fp32" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["faint.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--to", "openvino"], ["--to", "openvino", "--precision", "fp16"], ["--to", "pt2"]])
@pytest.mark.parametrize("more", [[], ["--preprocessing", "inside", "--batch", "3"]])
def test_the_other_formats(call, model_file, world, tmp_path, words, more):
    if "openvino" in words:
        pytest.importorskip("openvino", reason="exporting to OpenVINO needs openvino")
    world.photo_folder(tmp_path / "photos")
    row = exported(call, model_file, "-o", tmp_path, "--check", "photos", *words, *more)
    assert (row["parity"]["images"], row["parity"]["source"]) == (28, "the images given")
    assert row["input"]["shape"][0] == (3 if more else None)
    assert row["input"]["dtype"] == ("uint8" if more else "float32")
    there = {file.name for file in tmp_path.iterdir()} - {"photos"}
    assert there == {Path(file).name for file in row["files"]}
    assert str(tmp_path).encode() not in Path(row["files"][0]).read_bytes()


@pytest.mark.slow
def test_a_network_trained_for_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = striate.train("digits", epochs=1, limit=200, report=False, progress=False)
    result = striate.export(trained.run, preprocessing="inside", progress=False)
    assert result.parity.images == 32
    assert result.parity.source == "validation images of the run"
    classifier = striate.load(trained.run, progress=False)
    split = striate.load_data("digits", progress=False).splits["val"]
    pixels = split.images.take(np.arange(len(split)), classifier.spec)
    (logits,) = onnxruntime.InferenceSession(result.path).run(["logits"], {"images": pixels.numpy()})
    with torch.inference_mode():
        expected = classifier.model(normalise(pixels, classifier.spec))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4 * expected.abs().max().item())


def test_foreign_weights_become_one_model_file(call, tmp_path):
    row = exported(call, "cifar_resnet20", "-o", "mine.safetensors")
    assert (row["format"], row["path"], row["files"]) == ("safetensors", "mine.safetensors", ["mine.safetensors"])
    assert row["parity"]["source"] == "digits"
    assert load_model(tmp_path / "mine.safetensors").model.architecture.name == "cifar_resnet20"
    result = call("mine.safetensors", "--to", "safetensors")
    assert result.exit_code == 2
    assert "is a model file already" in result.stderr
    assert call("mine.safetensors", "-o", "mine.safetensors").exit_code == 2


def test_the_weights_that_are_exported_are_never_written_over(call, tmp_path):
    state = striate.models.create_model("mobilenet_v1_0.25_128").state_dict()
    name = "mobilenet_v1_0.25_128.safetensors"
    save_file(state, tmp_path / name)
    before = (tmp_path / name).read_bytes()
    for words in (["--to", "safetensors"], ["-o", name]):
        result = call(f"mobilenet_v1_0.25_128:{name}", *words)
        assert (result.exit_code, "the network that is to be exported" in result.output) == (2, True), result.output
    assert (tmp_path / name).read_bytes() == before


def test_what_a_killed_export_left_goes_after_a_day(call, model_file, tmp_path):
    for name in (".net.safetensors.old.part", ".net.safetensors.new.part", ".other.safetensors.old.part"):
        (tmp_path / name).mkdir()
        if "new" not in name:
            os.utime(tmp_path / name, (1e9, 1e9))
    exported(call, model_file, "-o", "net.safetensors")
    left = {path.name for path in tmp_path.iterdir() if path.suffix == ".part"}
    assert left == {".net.safetensors.new.part", ".other.safetensors.old.part"}


def test_how_logits_become_probabilities_is_said(call, model_file, world, tmp_path):
    saved = load_model(model_file)
    warm = tmp_path / "warm.safetensors"
    save_model(warm, saved.model, saved.spec, saved.labels, temperature=1.25)
    photo = next(world.photo_folder(tmp_path / "photos").rglob("*.png"))
    result = striate.export(warm, check=photo, progress=False)  # one image is as good as a list of them
    assert result.parity.images == 1
    assert result.to_dict()["probabilities"] == "softmax(logits / 1.25)"
    assert json.loads(result.path.with_name("warm.onnx.json").read_text())["probabilities"] == "softmax(logits / 1.25)"
    assert exported(call, model_file, "-o", "plain.onnx", "--check", photo)["probabilities"] == "softmax(logits)"


def test_it_is_checked_on_the_validation_images_that_the_manifest_names(call, run, tmp_path):
    dataset = load_data(DataOptions(data=str(tmp_path / "photos")))
    pq.write_table(dataset.manifest(), run / "data.parquet")
    parity = exported(call, "latest", "-o", "a.safetensors")["parity"]
    assert (parity["source"], parity["images"]) == ("validation images of the run", len(dataset.splits["val"]))
    for path in dataset.splits["train"].paths:  # nothing else than the validation images is looked at
        (tmp_path / "photos" / path).unlink()
    assert exported(call, "latest", "-o", "b.safetensors")["parity"] == parity
    shutil.rmtree(tmp_path / "photos")
    result = call("latest", "-o", "c.safetensors", "--json")
    assert json.loads(result.stdout)["parity"]["source"] == "digits"
    assert "the run's own images cannot be had" in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "torchscript"], "pt2 is its successor"),
        (["--to", "onyx"], "did you mean onnx?"),
        (["-o", "model.tflite"], "no ending of a format"),
        (["--to", "onnx", "-o", "model.xml"], "must end in .onnx"),
        (["--to", "pt2", "--precision", "fp16"], "it has: fp32"),
        (["--to", "safetensors", "--preprocessing", "inside"], "has no graph"),
        (["--to", "safetensors", "--batch", "2"], "has no graph"),
        (["--preprocessing", "insid"], "did you mean inside?"),
    ],
)
def test_wrong_usage_is_said_at_once(call, model_file, tmp_path, words, says):
    result = call(model_file, *words)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert not list(tmp_path.iterdir())


def test_images_and_folders_that_are_not_there(call, model_file, tmp_path):
    (tmp_path / "empty").mkdir()
    result = call(model_file, "-o", "model.safetensors", "--check", "empty")
    assert result.exit_code == 1
    assert "empty: a folder without images" in result.stderr
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = call(model_file, "-o", "model.safetensors", "--check", "good.png", "--check", "bad.png")
    assert result.exit_code == 1
    assert "cannot read bad.png" in result.stderr
    result = call(model_file, "-o", "nowhere/model.safetensors")
    assert result.exit_code == 1
    assert "is there a folder nowhere?" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.png", "empty", "good.png"]


def test_a_missing_package_is_named_before_anything_is_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="onnxruntime") as caught:
        striate.export(tmp_path / "none.safetensors", "onnx", progress=False)
    assert caught.value.hint == "pip install 'striate[export]'"


def test_many_images_to_check_on_are_thinned_out(call, model_file, world, tmp_path, monkeypatch):
    world.photo_folder(tmp_path / "photos")
    assert exporting._CHECKED <= 500
    monkeypatch.setattr(exporting, "_CHECKED", 7)
    sources, where = exporting._sources(
        model_file, "runs", [str(tmp_path / "photos")], load_model(model_file).spec, Silent()
    )
    assert [Path(source).parent.name for source in sources] == ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
    parity = exported(call, model_file, "-o", "a.safetensors", "--check", "photos")["parity"]
    assert (parity["images"], parity["source"], where) == (7, "of 28 images given", "of 28 images given")
