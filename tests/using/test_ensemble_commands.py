"""`striate evaluate` with several networks, as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from striate.checkpoint import load_model, save_model
from striate.cli.ensembles import TWO_QUESTIONS, ensemble_lines
from striate.cli.main import striate
from striate.options import DataOptions, ModelOptions, RuntimeOptions, TrainOptions, write_recipe


@pytest.fixture
def call(world, model_file, tmp_path, monkeypatch):
    """`striate evaluate` beside two runs on the same photos, the first with snapshots, and a third that divided them
    otherwise."""
    monkeypatch.chdir(tmp_path)
    photos = world.photo_folder(tmp_path / "photos")
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        folder = tmp_path / "runs" / name
        (folder / "snapshots").mkdir(parents=True)
        options = TrainOptions(
            data=DataOptions(data=str(photos), split_seed=seed, val_fraction=0.3),
            model=ModelOptions(model="resnet20"),
            runtime=RuntimeOptions(precision="fp32"),
        )
        write_recipe(options, folder / "recipe.toml")
        (folder / "model.safetensors").write_bytes(model_file.read_bytes())
    for ending in ("0001", "0002", "0002-ema"):
        (tmp_path / "runs" / "one" / "snapshots" / f"epoch-{ending}.safetensors").write_bytes(model_file.read_bytes())

    def called(*words: object, fails: int = 0):
        result = CliRunner().invoke(striate, ["evaluate", *map(str, words), "--device", "cpu"])
        assert result.exit_code == fails, result.output
        return json.loads(result.stdout) if "--json" in words else result.output

    return called


def test_runs_are_scored_on_their_own_images_and_kept_beside_them(call, tmp_path):
    row = call("one", "two", "--json")
    assert (row["data"], row["split"], row["run"]) == ("photos", "val", ["one", "two"])
    alone = call("one", "--json")
    assert (row["n"], row["top1"]) == (alone["n"], alone["top1"])  # two copies of one network
    assert [one["name"] for one in row["members"]] == ["one", "two"]
    assert row["members"][0]["adds"]["difference"] == 0
    kept = json.loads((tmp_path / "runs" / "evaluations" / "photos-val-networks.json").read_text())
    assert kept["members"] == row["members"]
    assert Path(row["predictions"]).is_file()


def test_data_may_follow_the_networks(call, world, tmp_path):
    world.photo_folder(tmp_path / "others", names=("fox", "bee"))
    for words in (("one", "two", "others"), ("one", "two", "--data", "others")):
        row = call(*words, "--json")
        assert (row["data"], row["n"], len(row["members"])) == ("others", 8, 2)


def test_snapshots_of_a_run_and_their_soup(call, tmp_path):
    row = call("one", "--snapshots", "--soup", "soup.safetensors", "--json")
    assert [one["name"] for one in row["members"]] == ["epoch-0001", "epoch-0002"]  # not the average
    assert row["soup"]["kept"] == ["epoch-0001", "epoch-0002"]
    assert (tmp_path / "runs" / "one" / "evaluations" / "photos-val-snapshots.json").is_file()
    assert load_model("soup.safetensors").notes["data"] == load_model("runs/one").notes.get("data")
    text = call("one", "--snapshots")
    assert "one after the other" in text
    assert "runs/two has kept no snapshots" in call("runs/two", "--snapshots", fails=2)


def test_what_cannot_be_asked_of_them(call):
    assert "divide their data differently (split_seed)" in call("one", "three", fails=2)
    assert "a soup needs several networks" in call("one", "--soup", "soup.safetensors", fails=2)
    assert "told apart by one network" in call("one", "two", "--ood", "photos", fails=2)
    assert "nowhere is neither a run or another network nor data" in call("one", "nowhere", fails=2)
    assert "named twice" in call("one", "runs/one", fails=2)
    assert "named twice as one and as runs/one/model" in call("one", "runs/one/model.safetensors", fails=2)


def test_what_is_said_of_one_network_names_it(call):
    text = call("one", "two", "--backend", "torch", "--precision", "bf16")
    for name in ("one", "two"):
        assert f"{name}: torch bf16: top class as torch fp32 on " in text
    assert ": torch bf16: " not in call("one", "--backend", "torch", "--precision", "bf16")


def test_images_to_calibrate_by_are_refused_where_nothing_is_calibrated(call):
    for networks in (["one"], ["one", "two"]):
        text = call(*networks, "--calibration", "photos", fails=2)
        assert "--calibration photos is for int8, and int8 was not asked for" in text
    predicted = CliRunner().invoke(striate, ["predict", "one", "photos", "--calibration", "photos"])
    assert predicted.exit_code == 2
    assert "add --precision int8" in predicted.output


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [(0.001, 0.02, 0.12, True), (-0.001, 0.02, 0.01, True), (0.001, 0.02, 0.01, False), (-0.01, 0.02, 0.5, False)],
)
def test_an_interval_and_a_p_that_disagree_are_explained(low, high, p, said):
    adds = {"difference": 0.01, "low": low, "high": high, "p": p, "p_adjusted": p}
    calm = {**adds, "low": -0.01, "p": 0.5, "p_adjusted": 0.5}
    member = {"name": "one", "top1": 0.5, "loss": 1.0, "without": {"top1": 0.4}}
    for row, over in ((adds, calm), (calm, adds)):
        ensemble = {"members": [{**member, "adds": row}], "over_best": over, "best_member": "one", "greedy": []}
        assert (TWO_QUESTIONS in ensemble_lines(ensemble)) == said


def test_copies_are_told_from_networks_of_one_name(call, tmp_path):
    text = call("one", "runs/two")
    assert "two and one have the same weights: that network counts twice" in text
    (tmp_path / "others").mkdir()
    (tmp_path / "runs" / "two").rename(tmp_path / "others" / "one")
    row = call("one", "others/one", "--json")
    assert [one["name"] for one in row["members"]] == [str(tmp_path / folder / "one") for folder in ("runs", "others")]


def test_a_file_in_a_run_folder_is_of_that_run(call, tmp_path):
    """Its data are divided as for its training: else images it learned from would be taken for held-out ones."""
    held_out = {row["path"] for row in read_table("runs/three", call)}
    assert {row["path"] for row in read_table("runs/three/model.safetensors", call, "photos")} == held_out
    assert {row["path"] for row in read_table("runs/one", call)} != held_out
    assert "divide their data differently (split_seed)" in call("one", "runs/three/model.safetensors", fails=2)
    snapshot = "runs/one/snapshots/epoch-0001.safetensors"
    assert "divide their data differently (split_seed)" in call("three", snapshot, fails=2)


def test_a_file_that_is_of_no_run_may_have_learned_from_any_image(call, world, tmp_path):
    saved = load_model("runs/three")
    notes = {"data": "photos"}
    save_model(tmp_path / "moved.safetensors", saved.model, saved.spec, saved.labels, notes=notes)
    assert "does not say how photos was divided" in call("moved.safetensors", "photos")
    assert "does not say how" not in call("moved.safetensors", "photos", "--split", "all")


def test_a_soup_takes_no_place_of_a_runs_network_and_goes_by_images_nobody_learned_from(call, tmp_path):
    for place in ("three/model.safetensors", "one/snapshots/epoch-0001.safetensors"):
        words = ("one", "two", "--soup", f"runs/{place}")
        assert "would take the place of the network" in call(*words, fails=2)
    words = ("one", "three", "photos", "--split", "all", "--soup", "soup.safetensors")
    assert "what one held out, the other learned from" in call(*words, fails=2)
    assert call(*words, "--soup-by", "uniform", "--json")["soup"]["validation"] is None


def read_table(run: str, call, *data: str) -> list[dict]:
    call(run, *data, "--predictions", "answers.parquet")
    return pq.read_table("answers.parquet").to_pylist()
