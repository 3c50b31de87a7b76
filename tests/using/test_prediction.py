"""Predictions: from anything that is an image, the same as an evaluation, a few batches at a time."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data import load_data
from striate.errors import CheckpointError, UnknownNameError
from striate.evaluation import evaluate, matched
from striate.prediction import Classifier, expand


@pytest.fixture
def classifier(model_file):
    return Classifier.load(model_file, device="cpu")


@pytest.fixture
def photos(world, tmp_path) -> Path:
    return world.photo_folder(tmp_path / "photos")


def pairs(prediction):
    return [(one.label, one.probability) for one in prediction.labels]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predictions_equal_the_evaluation_of_the_same_files(classifier, saved, world, photos, batch_size):
    dataset = load_data(str(photos))
    splits = [matched(one, dataset.labels, saved.labels) for one in dataset.splits.values()]
    rows = {row["path"]: row for row in evaluate(saved, splits, batch_size=5, device="cpu").predictions.to_pylist()}
    predictions = classifier.predict(photos, batch_size=batch_size)
    assert len(predictions) == len(rows) == 28
    for one in predictions:
        row = rows[str(Path(one.path).relative_to(photos))]
        assert one.label == row["predicted"]
        assert [label for label, _ in pairs(one)] == [ranked["label"] for ranked in row["top"]]
        expected = [ranked["probability"] for ranked in row["top"]]
        np.testing.assert_allclose([chance for _, chance in pairs(one)], expected, atol=1e-6)


def test_at_one_batch_size_they_are_equal_to_the_bit(classifier, saved, world, photos):
    dataset = load_data(str(photos))
    split = matched(dataset.splits["train"], dataset.labels, saved.labels)
    rows = evaluate(saved, split, batch_size=64, device="cpu").predictions.to_pylist()
    predictions = classifier.predict([photos / path for path in split.paths])
    assert [one.labels[0].probability for one in predictions] == [row["probability"] for row in rows]


def test_every_kind_of_source_gives_the_same(classifier, photos):
    file = photos / "ant" / "0-0.jpg"
    picture = Image.open(io.BytesIO(file.read_bytes()))
    pixels = np.asarray(picture)
    expected = pairs(classifier.predict(file)[0])
    for source in (
        str(file),
        file.read_bytes(),
        pixels,
        picture,
        [file],
        pixels[None],
        iter([pixels]),
        io.BytesIO(file.read_bytes()),
    ):
        (one,) = classifier.predict(source)
        assert pairs(one) == expected, type(source)


def test_names(classifier, photos):
    file = photos / "ant" / "0-0.jpg"
    pixels = np.zeros((8, 8), np.uint8)
    with Image.open(file) as picture:
        picture.load()
    sources = [str(file), pixels, picture, Image.fromarray(pixels), np.zeros((2, 8, 8, 3), np.uint8), b"x"]
    names = [one.path for one in classifier.predict(sources)]
    assert names == [str(file), "image[0]", str(file), "image[1]", "image[2]", "image[3]", "image[4]"]


def test_folders_patterns_and_what_is_not_there(photos):
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "a.jpg").touch()
    (photos / "ant" / "notes.txt").touch()
    (photos / "empty").mkdir()
    (photos / "ant" / "[1].jpg").touch()
    everything = [Path(name).relative_to(photos).as_posix() for name, _ in expand(photos)]
    assert len(everything) == 29
    assert everything == sorted(everything)
    assert [Path(name).name for name, _ in expand(f"{photos}/b*/*.jpg")] == ["1-0.jpg", "1-2.jpg"]
    assert len(list(expand(f"{photos}/**/*.png"))) == 14
    assert [name for name, _ in expand(str(photos / "ant" / "[1].jpg"))] == [str(photos / "ant" / "[1].jpg")]
    for text in (f"{photos}/x*.jpg", str(photos / "empty")):
        ((name, source),) = expand(text)
        assert name == text
        assert source.reason


def test_an_unreadable_image_does_not_stop_the_others(classifier, photos):
    broken = photos / "ant" / "0-1.png"
    broken.write_bytes(broken.read_bytes()[:50])
    missing = photos / "none.jpg"
    good = photos / "bee" / "1-0.jpg"
    first, second, third, fourth, fifth = classifier.predict([broken, good, missing, photos / "*.gif", b""])
    assert (first.label, second.error, third.labels) == (None, None, ())
    assert second.label is not None
    assert all(one.error for one in (first, third, fourth, fifth))
    assert fourth.error == "no file matches"
    assert first.to_dict() == {"path": str(broken), "labels": [], "error": first.error}
    six_channels = np.zeros((9, 9, 6), np.uint8)
    (odd,) = classifier.predict(six_channels)
    assert "6 channels" in (odd.error or "")
    assert all(one.error for one in classifier.predict([b"a", b"b"]))


def test_what_is_no_image_is_a_mistake_of_the_caller(classifier):
    with pytest.raises(TypeError, match="cannot predict on a int"):
        classifier.predict([3])
    with pytest.raises(TypeError, match="cannot predict on a Tensor"):
        classifier.predict(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="at least 1"):
        classifier.predict([], top_k=0)
    assert classifier.predict([]) == []


def test_top_k(classifier, photos):
    file = photos / "ant" / "0-0.jpg"
    all_of_them = classifier.predict(file, top_k=100)[0]
    assert len(all_of_them.labels) == 7
    assert sum(one.probability for one in all_of_them.labels) == pytest.approx(1, abs=1e-6)
    chances = [one.probability for one in all_of_them.labels]
    assert chances == sorted(chances, reverse=True)
    assert classifier.predict(file, top_k=2)[0].labels == all_of_them.labels[:2]


def test_only_a_few_batches_are_held(classifier):
    """The source is read at most two batches ahead of what has been handed over."""
    taken = 0

    def images():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield np.zeros((16, 16, 3), np.uint8)

    for given, _ in enumerate(classifier.iter_predict(images(), batch_size=8, workers=2)):
        assert taken <= given + 1 + 3 * 8
    assert taken == 100


def test_stopping_early_leaves_no_threads(classifier):
    before = threading.active_count()
    stream = classifier.iter_predict((np.zeros((16, 16, 3), np.uint8) for _ in range(1000)), batch_size=4)
    next(stream)
    stream.close()
    for thread in threading.enumerate():
        if thread.name.startswith("striate-decode"):
            thread.join(5)
    assert threading.active_count() <= before


def test_grey_and_deeper_images_by_the_same_rules(world, tmp_path):
    classifier = Classifier(world.saved_model(tmp_path / "grey.safetensors", "lenet5_dense", channels=1), device="cpu")
    grey = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    expected = pairs(classifier.predict(grey)[0])
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    deep = grey.astype(np.uint16) * 257
    stream = io.BytesIO()
    Image.fromarray(deep).save(stream, "PNG")
    for source in (colour, deep, stream.getvalue()):
        assert pairs(classifier.predict(source)[0]) == expected


def test_load_finds_runs(model_file, tmp_path, monkeypatch):
    run = tmp_path / "runs" / "20260101-net-photos"
    run.mkdir(parents=True)
    (run / "recipe.toml").touch()
    (run / "model.safetensors").write_bytes(model_file.read_bytes())
    monkeypatch.chdir(tmp_path)
    for name in ("latest", "20260101", run.name, run, run / "model.safetensors"):
        loaded = Classifier.load(name, device="cpu")
        assert loaded.saved.path.samefile(run / "model.safetensors")
    assert (loaded.labels.names[0], loaded.spec.size, loaded.model.training) == ("ant", (32, 32), False)
    with pytest.raises(UnknownNameError):
        Classifier.load("2027")
    with pytest.raises(CheckpointError, match="there is no model file"):
        Classifier.load("none.safetensors")
    os.remove(run / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        Classifier.load("latest")
