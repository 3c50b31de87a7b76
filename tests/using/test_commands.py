"""`striate evaluate` and `striate predict` as people call them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from striate.checkpoint import save_model
from striate.cli.main import striate
from striate.cli.predict import _from_stdin
from striate.data import load_data
from striate.options import DataOptions, ModelOptions, RuntimeOptions, TrainOptions, write_recipe
from striate.spec import Labels


@pytest.fixture
def run(world, model_file, tmp_path) -> Path:
    """A run folder as training leaves it, as far as these commands read it."""
    photos = world.photo_folder(tmp_path / "photos")
    (photos / "ant" / "broken.jpg").write_bytes(b"no image")
    folder = tmp_path / "runs" / "20260101-resnet20-photos"
    folder.mkdir(parents=True)
    options = TrainOptions(
        data=DataOptions(data=str(photos), split_seed=3, val_fraction=0.3),
        model=ModelOptions(model="resnet20"),
        runtime=RuntimeOptions(precision="fp32"),
    )
    write_recipe(options, folder / "recipe.toml")
    (folder / "model.safetensors").write_bytes(model_file.read_bytes())
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def called(*words: object, stdin: bytes | None = None):
        return CliRunner().invoke(striate, [*map(str, words)], input=stdin)

    return called


def evaluated(call, *words: object) -> dict:
    result = call("evaluate", *words, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_evaluate_takes_the_run_s_own_split(call, run, tmp_path):
    row = evaluated(call, "latest")
    assert (row["protocol"], row["split"], row["data"], row["model"]) == (
        "single-crop",
        "val",
        "photos",
        "cifar_resnet20",
    )
    for again in (tmp_path / "photos", "photos/"):  # the same data under another spelling: still not its training part
        other = evaluated(call, run, again)
        assert (other["n"], other["top1"], other["split"]) == (row["n"], row["top1"], "val")
    whole = evaluated(call, run, "--split", "all")
    assert whole["n"] == 29
    assert evaluated(call, run, "--split", "train")["n"] == 29 - row["n"]
    assert {"top1", "top5", "loss", "n", "per_class", "balanced_accuracy", "ece"} <= set(whole)
    assert sum(one["support"] for one in whole["per_class"]) == 29
    assert whole["unreadable"] == 1
    assert [one["path"] for one in whole["unreadable_files"]] == ["ant/broken.jpg"]


def test_evaluate_on_other_data_matches_classes_by_name(call, run, world, tmp_path):
    world.photo_folder(tmp_path / "others", names=("fox", "bee", "zoo"))
    result = call("evaluate", run, "others", "--device", "cpu")
    assert result.exit_code == 1
    assert "does not know zoo" in result.stderr
    (tmp_path / "others" / "zoo").rename(tmp_path / "others" / "dog")
    row = evaluated(call, run, "others")
    assert (row["n"], row["split"]) == (12, "all")
    supports = {one["label"]: one["support"] for one in row["per_class"]}
    assert supports == {"ant": 0, "bee": 4, "cat": 0, "dog": 4, "eel": 0, "fox": 4, "gnu": 0}


@pytest.mark.parametrize("words", [(), ("--split", "all")])
def test_evaluate_on_a_few_other_images(call, run, model_file, world, tmp_path, words):
    """They are only scored: nothing is held out, one image of a class is enough, and so is a test folder."""
    world.photo_folder(tmp_path / "few", names=("fox", "bee"), per_class=1)
    world.photo_folder(tmp_path / "only" / "test", names=("fox", "bee"), per_class=1)
    world.photo_folder(tmp_path / "held" / "val", names=("fox",), per_class=1)
    for network in (run, model_file):
        row = evaluated(call, network, "few", *words)
        assert (row["n"], row["split"]) == (2, "all")
        row = evaluated(call, network, "only", *words)
        assert (row["n"], row["split"]) == (2, "test")
        row = evaluated(call, network, "held", *words)
        assert (row["n"], row["split"]) == (1, "val")


def test_other_data_are_not_split(call, run, world, tmp_path):
    world.photo_folder(tmp_path / "others", names=("fox", "bee"))
    result = call("evaluate", run, "others", "--split", "val")
    assert result.exit_code == 2
    assert "others has no val split" in result.stderr
    result = call("evaluate", run, "others", "--val-fraction", "0.5")
    assert result.exit_code == 2
    assert "others is only scored, not split: val_fraction would change nothing" in result.stderr


def test_a_model_file_knows_its_data_by_name(call, world, tmp_path):
    """Without a recipe too, the images that it was trained on are not scored with those held out."""
    world.photo_folder(tmp_path / "photos")
    saved = world.saved_model(tmp_path / "net.safetensors", n=1)
    save_model(tmp_path / "named.safetensors", saved.model, saved.spec, saved.labels, notes={"data": "photos"})
    row = evaluated(call, "named.safetensors", "photos")
    held_out = len(load_data(str(tmp_path / "photos")).splits["val"])
    assert (row["n"], row["split"]) == (held_out, "val")
    assert evaluated(call, "net.safetensors", "photos")["n"] == 28


@pytest.mark.parametrize(
    ("classes", "present", "said"),
    [
        (40, 3, "others has no images of 37 of the network's 40 classes\n"),
        (40, 28, "others has no images of c28, c29, c30, c31, c32, c33, c34, c35, c36, c37 and 2 more classes\n"),
        (7, 2, "others has no images of c2, c3, c4, c5, c6\n"),
    ],
)
def test_absent_classes_are_counted_where_they_are_most(call, world, tmp_path, classes, present, said):
    names = tuple(f"c{number}" for number in range(classes))
    world.saved_model(tmp_path / "net.safetensors", n=1, labels=Labels(names))
    world.photo_folder(tmp_path / "others", names=names[:present], per_class=1)
    assert said in call("evaluate", "net.safetensors", "others", "--device", "cpu").stderr


def test_labels_from_the_names_of_files_are_not_taken_in_silence(call, world, tmp_path):
    world.saved_model(tmp_path / "net.safetensors", n=1, labels=Labels(("n01440764", "n02012849")))
    photos = world.photo_folder(tmp_path / "photos", names=("a", "b"), per_class=1)
    (tmp_path / "flat").mkdir()
    for synset, file in zip(("n01440764", "n02012849"), sorted(photos.rglob("*.jpg")), strict=True):
        file.rename(tmp_path / "flat" / f"{synset}_{file.name}")
    result = call("evaluate", "net.safetensors", "flat", "--device", "cpu", "--json")
    assert [one["support"] for one in json.loads(result.stdout)["per_class"]] == [1, 1]
    assert "the synset that each file name begins with is its label" in result.stderr


def test_evaluate_prefers_a_test_set_that_the_data_bring(call, run, world, tmp_path):
    world.photo_folder(tmp_path / "official" / "train", names=("fox", "bee"))
    world.photo_folder(tmp_path / "official" / "test", names=("fox", "bee"), per_class=2)
    row = evaluated(call, run, "official")
    assert (row["n"], row["split"]) == (4, "test")


def test_evaluate_a_model_file_needs_data(call, model_file, run):
    result = call("evaluate", model_file)
    assert result.exit_code == 2
    assert "does not know its data" in result.stderr
    assert evaluated(call, model_file, "photos")["n"] == 29


def test_evaluate_says_which_splits_there_are(call, run):
    result = call("evaluate", run, "--split", "test")
    assert result.exit_code == 2
    assert "has no test split" in result.stderr
    assert "train, val" in result.stderr


def test_evaluate_for_people(call, run, tmp_path):
    result = call("evaluate", run, "--split", "all", "--device", "cpu", "--predictions", "answers.parquet")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "cifar_resnet20 on photos all: 29 images, single-crop"
    assert lines[1].startswith("top-1 ")
    assert any(line.startswith("gnu ") for line in lines)
    assert "1 image could not be read and counts as wrong:" in lines
    table = pq.read_table(tmp_path / "answers.parquet")
    assert len(table) == 29


def test_evaluate_without_a_run(call):
    result = call("evaluate", "latest")
    assert result.exit_code == 1
    assert "there is no run" in result.stderr
    assert "hint:" in result.stderr


def predictions(result) -> list[dict]:
    return json.loads(result.stdout)["predictions"]


def test_predict_json(call, run):
    result = call("predict", "latest", "photos/bee", "photos/cat/*.png", "--top-k", 2, "--json", "--device", "cpu")
    assert result.exit_code == 0, result.output
    rows = predictions(result)
    assert [Path(row["path"]).name for row in rows] == [
        "1-0.jpg",
        "1-1.png",
        "1-2.jpg",
        "1-3.png",
        "2-1.png",
        "2-3.png",
    ]
    assert all(len(row["labels"]) == 2 for row in rows)
    assert 0 <= rows[0]["labels"][0]["probability"] <= 1


def test_predict_goes_on_after_an_unreadable_image_and_exits_with_1(call, run):
    result = call(
        "predict", run, "photos/ant/broken.jpg", "none.jpg", "photos/ant/0-0.jpg", "--json", "--device", "cpu"
    )
    assert result.exit_code == 1
    first, second, third = predictions(result)
    assert first["error"]
    assert second["error"]
    assert third["labels"]
    plain = call("predict", run, "photos/ant", "--device", "cpu")
    assert plain.exit_code == 1
    assert len(plain.stdout.splitlines()) == 5
    assert "error: " in plain.stdout.splitlines()[-1]


def test_predict_reads_paths_or_one_image_from_standard_input(call, run, tmp_path):
    file = tmp_path / "photos" / "ant" / "0-0.jpg"
    expected = predictions(call("predict", run, file, "--json", "--device", "cpu"))[0]["labels"]
    paths = predictions(
        call("predict", run, "-", "--json", "--device", "cpu", stdin=f"{file}\n\nx.png\r\n{file}".encode())
    )
    assert [row["path"] for row in paths] == [str(file), "x.png", str(file)]
    assert [one["label"] for one in paths[0]["labels"]] == [one["label"] for one in expected]
    for name, saved_as in (("a.png", "PNG"), ("a.bmp", "BMP"), ("a.gif", "GIF"), ("a.tif", "TIFF"), ("a.webp", "WEBP")):
        Image.open(file).save(tmp_path / name, saved_as)
    np.save(tmp_path / "a.npy", np.asarray(Image.open(file)))
    for name in ("a.png", "a.bmp", "a.gif", "a.tif", "a.webp", "a.npy"):
        content = (tmp_path / name).read_bytes()
        (row,) = predictions(call("predict", run, "-", "--json", "--device", "cpu", stdin=content))
        (direct,) = predictions(call("predict", run, tmp_path / name, "--json", "--device", "cpu"))
        assert (row["path"], row["labels"]) == ("image[0]", direct["labels"]), name
    assert predictions(call("predict", run, "-", "--json", "--device", "cpu", stdin=b"")) == []


def test_predict_prints_names_that_are_not_unicode(call, run, tmp_path):
    odd = b"caf\xe9.jpg"
    (tmp_path / "photos" / "ant" / "0-0.jpg").rename(tmp_path / odd.decode("utf-8", "surrogateescape"))
    plain = call("predict", run, "-", "--device", "cpu", stdin=odd + b"\n")
    assert plain.exit_code == 0, plain.output
    assert plain.stdout.startswith("caf")
    result = call("predict", run, "-", "--device", "cpu", "--json", stdin=odd + b"\n")
    assert result.exit_code == 0, result.output
    assert predictions(result)[0]["labels"]


def test_predict_wants_images(call, run):
    assert call("predict", run).exit_code == 2
    assert call("predict", run, "x.jpg", "--top-k", "0").exit_code == 2


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_help(call, name):
    result = call(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout


@pytest.mark.parametrize(
    "first", ["BMW/1.jpg", "BM", "GIF8/cat.png", "GIF89/a.png", "RIFF", "box/ftyp/1.png", "RIFFRAFF/1234.webp"]
)
def test_paths_that_begin_like_images_are_paths(first):
    for more in ("", "\nphotos/2.jpg\n", "\nb\n\nphotos/3.jpg"):
        wanted = [line for line in f"{first}{more}".split("\n") if line]
        assert list(_from_stdin(io.BytesIO(f"{first}{more}".encode()))) == wanted


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\x0a\x0a\x00\x00WEBPVP8 and more",
        b"BM\x0a\x0a\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00(and more",
        b"GIF87a and more",
        b"\x00\x00\x00\x0aftypavif and more",
    ],
)
def test_images_with_the_end_of_a_line_in_their_sizes_are_images(content):
    assert list(_from_stdin(io.BytesIO(content))) == [content]


def test_a_path_is_not_kept_waiting_for_the_next():
    """A pipe that stays open: the first line is answered before anything else comes."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stream, os.fdopen(writing, "wb", buffering=0) as sender:
        sender.write(b"a.jpg\n")
        assert next(_from_stdin(stream)) == "a.jpg"
