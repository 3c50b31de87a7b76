"""`--from auto`: which networks a training may start from, and what is said where there is none."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.transfer.low_digits import quick

from striate.data import load_data
from striate.errors import OfflineError, UsageError
from striate.hub import download
from striate.hub.download import cache_folder, reachable
from striate.hub.published import find_weights
from striate.options import DataOptions, ModelOptions, TransferOptions
from striate.options.transfer import LINEAR
from striate.runfolder import RunFolder
from striate.transfer import auto
from striate.transfer.ancestry import run_of, seen_by
from striate.transfer.auto import LIGHT, find_start
from striate.transfer.by_plan import train_by_plan
from striate.transfer.deciding import decide

SQUEEZENET = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "squeezenet1_1_caffe_rgbnorm.pth"


def photos_options(folder: Path, *, from_: str = "auto", **sections: dict):
    return quick(
        data={"data": str(folder), "input_size": 100}, model={"model": "compact_s", "from": from_},
        schedule={"epochs": 1}, **sections,
    )  # fmt: skip


def other_photos(folder: Path) -> Path:
    random = np.random.default_rng(1)
    for label in ("rough", "smooth"):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            small = random.integers(0, 256, (8 if label == "smooth" else 120, 120, 3), dtype=np.uint8)
            Image.fromarray(small).resize((120, 120)).save(folder / label / f"{number}.png")
    return folder


def test_small_images_start_from_scratch(heard, no_weights):
    start = find_start(quick(), load_data(DataOptions(data="digits")), heard)
    assert start.sources == ()
    assert "small" in start.why


def test_photos_without_anything_to_start_from_start_from_scratch(heard, no_weights, photo_folder):
    dataset = load_data(DataOptions(data=str(photo_folder)))
    start = find_start(quick(data={"data": str(photo_folder)}), dataset, heard)
    assert start.sources == ()
    assert start.why.startswith("offline")
    train_by_plan(photos_options(photo_folder), progress=heard)
    assert any(line.startswith("starting from scratch: ") for line in heard.lines)


def test_a_run_on_other_photos_is_taken_and_one_on_these_is_not(heard, no_weights, photo_folder):
    others = other_photos(no_weights / "others")
    for name, folder in (("others", others), ("these", photo_folder)):
        train_by_plan(photos_options(folder, from_="scratch", training={"run_dir": f"runs/{name}"}))
    dataset = load_data(DataOptions(data=str(photo_folder)))
    options = quick(data={"data": str(photo_folder)})
    assert find_start(options, dataset, heard).sources == (str(Path("runs/others")),)
    # nor is one that started from a run on these
    train_by_plan(
        photos_options(others, from_="runs/these", training={"run_dir": "runs/later"}, transfer={"scenario": "head"})
    )
    train = load_data(DataOptions(data=str(photo_folder))).splits["train"]
    seen = seen_by("runs/later")
    assert seen.among(train).all()
    assert seen.unread is None
    assert find_start(options, dataset, heard).sources == (str(Path("runs/others")),)
    # nor one whose ancestors cannot be told
    os.rename("runs/others", "runs/moved")
    train_by_plan(
        photos_options(others, from_="runs/moved", training={"run_dir": "runs/heir"}, transfer={"scenario": "head"})
    )
    os.rename("runs/moved", "runs/others")
    assert seen_by("runs/heir").unread == str(Path("runs/moved").resolve())
    assert find_start(options, dataset, heard).sources == (str(Path("runs/others")),)
    train_by_plan(photos_options(photo_folder, training={"run_dir": "runs/again"}), progress=heard)
    record = RunFolder(Path("runs/again")).read_transfer()
    assert record["probe"]["best"].endswith("others")
    assert record["start"]["why"]


def test_a_model_file_is_taken_where_its_images_are_known_to_be_others(
    heard, no_weights, photo_folder, tmp_path, monkeypatch
):
    others = other_photos(no_weights / "others")
    for name, folder in (("others", others), ("these", photo_folder)):
        train_by_plan(photos_options(folder, from_="scratch", training={"run_dir": f"runs/{name}", "snapshots": 1}))
    dataset = load_data(DataOptions(data=str(photo_folder)))
    shutil.copy("runs/others/model.safetensors", "copied.safetensors")
    files = {name: tmp_path / "runs" / name / "model.safetensors" for name in ("others", "these")}
    assert [run_of(path).path.name for path in files.values()] == ["others", "these"]
    assert run_of(next((tmp_path / "runs" / "these" / "snapshots").iterdir())).path.name == "these"
    assert run_of(Path("copied.safetensors")) is None
    seen = seen_by(str(files["these"]))
    assert seen.among(dataset.splits["train"]).all()
    assert seen_by("copied.safetensors").unread == "copied.safetensors"
    options = quick(data={"data": str(photo_folder)}, training={"runs": "elsewhere"})
    assert find_start(options, dataset, heard).sources == ()  # a copy: nobody knows of what
    for name, expected in (("others", ("model.safetensors",)), ("these", ())):
        monkeypatch.chdir(tmp_path / "runs" / name)
        assert find_start(options, dataset, heard).sources == expected


@pytest.mark.skipif(not SQUEEZENET.is_file(), reason="the weights of SqueezeNet are not there")
def test_weights_in_the_working_folder_are_recognised_and_used(heard, no_weights, photo_folder):
    (no_weights / "downloaded.pth").symlink_to(SQUEEZENET)
    options = quick(data={"data": str(photo_folder), "input_size": 64}, training={"run_dir": "runs/one"})
    train_by_plan(options, progress=heard)
    run = RunFolder(Path("runs/one"))
    assert run.read_recipe().model.from_.startswith("squeezenet1_1:")
    assert run.read_recipe().transfer.scenario in LINEAR
    assert run.read_evaluation()["splits"]["val"]["top1"] == 1.0
    dataset = load_data(DataOptions(data=str(photo_folder)))
    assert find_start(photos_options(photo_folder), dataset, heard).sources == ()  # another network is wanted


def test_weights_in_the_cache_are_found_by_their_file(heard, no_weights, photo_folder):
    cache_folder().mkdir(parents=True)
    (cache_folder() / find_weights("resnet34", "imagenet1k_v1")[1].file).touch()
    (cache_folder() / find_weights("vgg16", "imagenet1k_v1")[1].file).touch()  # too heavy to be taken unasked
    dataset = load_data(DataOptions(data=str(photo_folder)))
    assert find_start(quick(), dataset, heard).sources == ("resnet34:imagenet1k_v1",)
    wanted = quick(model={"model": "vgg16"})
    assert find_start(wanted, dataset, heard).sources == ("vgg16:imagenet1k_v1",)


def test_what_was_found_but_cannot_be_opened_is_left_out(heard, no_weights, photo_folder):
    cache_folder().mkdir(parents=True)
    (cache_folder() / find_weights("resnet34", "imagenet1k_v1")[1].file).touch()  # a download that broke off
    dataset = load_data(DataOptions(data=str(photo_folder)))
    options = quick(data={"data": str(photo_folder), "offline": True})
    decision = decide(options, dataset, given=False, progress=heard)
    assert decision.options.model.from_ == "scratch"
    assert "cannot be opened" in decision.why
    assert any(line.startswith("resnet34:imagenet1k_v1 is left out: ") for line in heard.warnings)
    named = quick(data={"data": str(photo_folder), "offline": True}, model={"from": "resnet34:imagenet1k_v1"})
    with pytest.raises(OfflineError):
        decide(named, dataset, given=False, progress=heard)


def test_who_says_how_weights_start_starts_from_scratch(heard, no_weights, photo_folder):
    others = other_photos(no_weights / "others")
    train_by_plan(photos_options(others, from_="scratch", training={"run_dir": "runs/others"}))
    dataset = load_data(DataOptions(data=str(photo_folder)))
    assert find_start(quick(), dataset, heard).sources  # there is something to start from
    started = replace(photos_options(photo_folder), model=ModelOptions(model="compact_s", init="he"))
    decision = decide(started, dataset, given=False, progress=heard)
    assert decision.options == replace(started, model=replace(started.model, from_="scratch"))
    assert decision.why == "--init he is how a network starts from scratch"
    assert heard.warnings == []
    linear = replace(started, transfer=TransferOptions(scenario="svm"))
    with pytest.raises(UsageError, match=r"needs weights to start from \(--init he"):
        decide(linear, dataset, given=False, progress=heard)
    shape = replace(started, transfer=TransferOptions(scenario="scratch"))  # of a network that is found
    assert decide(shape, dataset, given=False, progress=heard).start is not None


def test_the_hub_is_asked_last_and_never_offline(heard, no_weights, photo_folder, monkeypatch):
    dataset = load_data(DataOptions(data=str(photo_folder)))
    asked = []
    monkeypatch.setattr(auto, "reachable", lambda url: asked.append(url) or len(asked) > 1)
    monkeypatch.delenv(auto.OFFLINE_VARIABLE)
    assert find_start(quick(data={"offline": True}), dataset, heard).sources == ()
    assert asked == []
    assert "cannot be fetched" in find_start(quick(), dataset, heard).why
    assert find_start(quick(), dataset, heard).sources == (LIGHT,)
    assert asked == [find_weights(*LIGHT.split(":"))[1].url] * 2


def test_a_server_is_reachable_where_it_answers_in_time():
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        root = f"http://127.0.0.1:{server.server_address[1]}"
        assert reachable(f"{root}/there")
        assert not reachable(f"{root}/gone")
        server.shutdown()
        serving.join()
    assert not reachable(f"{root}/there", seconds=1.0)
    assert download.ATTEMPTS > 1  # of a download itself
