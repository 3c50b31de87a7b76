"""Images of something else beside those just scored, and where evaluations are kept: whole commands on real files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import striate
from striate.cli.main import striate as front_door
from striate.data import load_data
from striate.errors import CheckpointError, DataError, UsageError
from striate.evaluation import evaluate
from striate.evaluation.keeping import keep
from striate.evaluation.strangers import refuse_several
from striate.runfolder import RunFolder
from striate.spec import Labels


@pytest.fixture
def strangers(tmp_path):
    """Images anyhow in a folder: loose, below folders, in sizes of their own, one of them broken."""
    generator = np.random.default_rng(7)
    (tmp_path / "anything" / "deep" / "er").mkdir(parents=True)
    for number, folder in enumerate(("", "", "deep", "deep/er", "deep")):
        pixels = generator.integers(0, 256, (20 + number, 31, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "anything" / folder / f"{number}.png")
    (tmp_path / "anything" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "anything" / "notes.txt").write_text("no image either")
    return tmp_path / "anything"


@pytest.fixture
def run(tmp_path, world, monkeypatch):
    """A run folder by hand: a recipe that names photos, and a model that knows their classes, tempered."""
    from striate.checkpoint import save_model
    from striate.options import TrainOptions, merged
    from striate.options.recipes import write_recipe

    world.photo_folder(tmp_path / "photos")
    folder = tmp_path / "runs" / "made"
    folder.mkdir(parents=True)
    saved = world.saved_model(folder / "model.safetensors")
    save_model(folder / "model.safetensors", saved.model, saved.spec, saved.labels, temperature=1.7)
    options = merged(TrainOptions(), {"data": {"data": str(tmp_path / "photos")}})
    write_recipe(options, folder / "recipe.toml")
    monkeypatch.chdir(tmp_path)
    return folder


def call(*arguments):
    return CliRunner().invoke(front_door, ["evaluate", *map(str, arguments), "--device", "cpu"])


def test_strangers_are_scored_beside_the_known(run, strangers):
    from sklearn.metrics import average_precision_score, roc_auc_score

    result = striate.evaluate(run, ood=strangers, split="all", device="cpu", precision="fp32", progress=False)
    found = result.strangers
    assert found is not None
    assert (found.known, found.strangers, found.unreadable, found.shared) == (28, 5, 1, 0)
    assert found.temperature == pytest.approx(1.7)
    rows = found.images.to_pylist()
    assert [row["path"] for row in rows if not row["known"]] == [
        "0.png", "1.png", "deep/2.png", "deep/4.png", "deep/er/3.png", "broken.jpg",
    ]  # fmt: skip
    assert result.logits is not None
    tempered = result.logits.double() / 1.7
    known = [row for row in rows if row["known"]]
    assert [row["path"] for row in known] == result.predictions["path"].to_pylist()
    assert [row["predicted"] for row in known] == result.predictions["predicted"].to_pylist()
    assert [row["max_probability"] for row in known] == pytest.approx(tempered.softmax(1).amax(1).tolist())
    assert [row["negative_energy"] for row in known] == pytest.approx((1.7 * tempered.logsumexp(1)).tolist())
    told = [row for row in rows if row["error"] is None]
    for name, one in found.scores.items():
        truth, scores = [row["known"] for row in told], [row[name] for row in told]
        assert one["auroc"] == pytest.approx(roc_auc_score(truth, scores))
        assert one["aupr_known"] == pytest.approx(average_precision_score(truth, scores))
        kept = [row[name] >= one["threshold"] for row in told if row["known"]]
        assert np.mean(kept) == pytest.approx(one["kept"])
        assert one["kept"] >= 0.95
        assert np.mean([row[name] >= one["threshold"] for row in told if not row["known"]]) == one["let_in"]
    json.dumps(result.to_dict()["ood"], allow_nan=False)


def test_strangers_may_be_any_data(run, world):
    data = striate.Dataset(name="made", labels=Labels(("x", "y")), splits={"all": world.tensor_split(12, channels=1)})
    result = striate.evaluate(run, ood=data, split="all", device="cpu", progress=False)
    assert result.strangers is not None
    assert (result.strangers.data, result.strangers.strangers) == ("made", 12)


def test_the_same_images_are_no_strangers(run, tmp_path):
    shown = call(run, "--split", "all", "--ood", tmp_path / "photos")
    assert shown.exit_code == 0, shown.output
    assert "all images of photos are among those just scored" in shown.output
    copy = tmp_path / "copy"
    copy.mkdir()
    first = next(file for file in sorted((tmp_path / "photos").rglob("*")) if file.is_file())
    (copy / first.name).write_bytes(first.read_bytes())
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(copy / "black.png")
    assert "1 image of copy is among those just scored" in call(run, "--split", "all", "--ood", copy).output


def test_what_cannot_be_a_stranger_is_said(run, tmp_path):
    (tmp_path / "empty").mkdir()
    shown = call(run, "--ood", "empty")
    assert shown.exit_code != 0
    assert "empty holds no images" in shown.output
    for words in (("--ood", "nowhere"), ("--by", "nowhere")):
        shown = call(run, *words).output
        assert "nowhere" in shown
        assert "computing with" not in shown, "said before the network is asked for all its answers"
    with pytest.raises(UsageError, match="several labels"):
        refuse_several(Labels(("a", "b"), multi_label=True))
    (tmp_path / "empty" / "broken.png").write_bytes(b"")
    with pytest.raises(DataError):
        striate.evaluate(run, ood=tmp_path / "empty", device="cpu", progress=False)


def test_answers_that_are_no_numbers_are_no_scores(world, tmp_path):
    from striate.evaluation.strangers import strangers_of
    from striate.progress import Silent

    saved = world.saved_model(tmp_path / "model.safetensors")
    split = world.tensor_split(20)
    result = evaluate(saved, split, device="cpu")
    data = striate.Dataset(name="made", labels=world.labels, splits={"all": world.tensor_split(9, seed=1)})

    def ask(one):
        logits = torch.randn(9, 7)
        logits[2, 3] = torch.nan
        return logits, torch.zeros(9, dtype=torch.int64), np.arange(9)

    found = strangers_of(result, [split], data, list(data.splits.values()), ask, saved, Silent())
    assert found.strangers == 8
    assert found.images["max_logit"].null_count == found.images["predicted"].null_count == 1


# where evaluations are kept -------------------------------------------------------------------------------------------


def test_every_evaluation_is_kept_in_its_run(run, strangers, tmp_path):
    (run / "evaluation.json").write_text("{}")
    (run / "predictions.parquet").write_bytes(b"the run's own")
    answer = json.loads(call(run, "--json").stdout)
    table = pq.read_table(answer["predictions"])
    assert (run / "evaluations" / "photos-val.parquet").samefile(answer["predictions"])
    assert table.num_rows == answer["n"]
    record = json.loads((run / "evaluations" / "photos-val.json").read_text())
    assert record["predictions"] == "evaluations/photos-val.parquet"
    assert {name: record[name] for name in ("top1", "n", "data")} == {
        name: answer[name] for name in ("top1", "n", "data")
    }
    before = {file: file.read_bytes() for file in (run / "evaluations").iterdir()}
    assert call(run).exit_code == 0
    assert {file: file.read_bytes() for file in (run / "evaluations").iterdir()} == before, "the same asked again"
    shown = call(run, "--split", "all", "--views", "flip", "--ood", strangers)
    assert "photos-all-flip-ood-anything.ood.parquet" in shown.output
    call(run, "--split", "val")
    call(run, "--offline")
    assert {file.name for file in (run / "evaluations").glob("*.json")} == {
        "photos-val.json", "photos-val-2.json", "photos-all-flip-ood-anything.json",
    }, "what was asked otherwise has another name"  # fmt: skip
    assert (run / "evaluation.json").read_text() == "{}"
    assert (run / "predictions.parquet").read_bytes() == b"the run's own"


def test_predictions_go_where_they_are_asked_to(run, strangers, tmp_path):
    answer = json.loads(
        call(run, "--split", "all", "--predictions", tmp_path / "mine.parquet", "--ood", strangers, "--json").stdout
    )
    assert answer["predictions"] == str(tmp_path / "mine.parquet")
    assert pq.read_table(tmp_path / "mine.parquet").num_rows == answer["n"]
    assert pq.read_table(tmp_path / "mine.ood.parquet").num_rows == answer["n"] + 6
    assert [file.name for file in (run / "evaluations").iterdir()] == ["photos-all-ood-anything.json"]
    record = json.loads((run / "evaluations" / "photos-all-ood-anything.json").read_text())
    assert record["predictions"] == str(tmp_path / "mine.parquet")


def test_a_model_file_writes_only_where_it_is_asked_to(run, tmp_path):
    model = tmp_path / "model.safetensors"
    model.write_bytes((run / "model.safetensors").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    answer = json.loads(call(model, tmp_path / "photos", "--json").stdout)
    assert "predictions" not in answer
    assert sorted(tmp_path.rglob("*")) == before
    call(model, tmp_path / "photos", "--predictions", tmp_path / "mine.parquet")
    assert {*tmp_path.rglob("*")} - {*before} == {tmp_path / "mine.parquet"}


def test_a_folder_that_cannot_be_written_to_costs_no_scores(run):
    (run / "evaluations").write_text("a file in the way")
    shown = call(run)
    assert shown.exit_code == 0, shown.output
    assert "nothing is kept" in shown.output
    assert "top-1" in shown.output
    (run / "robustness").write_text("another one")
    shown = call(run, "--robustness", "negative")
    assert shown.exit_code == 0, shown.output
    assert "no pictures are kept" in shown.output
    assert "negative: contrast" in shown.output
    result = striate.evaluate(run, device="cpu", progress=False)
    with pytest.raises(CheckpointError, match="cannot"):
        keep(result, RunFolder(run), {})


def test_files_of_others_are_left_alone(run):
    (run / "evaluations").mkdir()
    (run / "evaluations" / "photos-val.json").write_text("not ours")
    answer = json.loads(call(run, "--json").stdout)
    assert answer["predictions"].endswith("photos-val-2.parquet")
    assert (run / "evaluations" / "photos-val.json").read_text() == "not ours"


def test_what_differs_in_a_setting_alone_is_kept_beside_it(run):
    call(run, "--robustness", "negative", "--robustness-images", 3)
    call(run, "--robustness", "negative", "--robustness-images", 4)
    there = (run / "evaluations").glob("*.json")
    assert sorted(json.loads(file.read_text())["robustness"]["n"] for file in there) == [3, 4]


def test_places_that_cannot_be_written_to_are_said_before_anything_is_asked(run):
    (run / "file").write_text("")
    for words in (("--predictions", "nowhere/answers.parquet"), ("--predictions", run),
                  ("--robustness", "fgsm", "--robustness-output", run / "file")):  # fmt: skip
        shown = call(run, *words)
        assert shown.exit_code != 0
        assert "cannot write" in shown.output
        assert "computing with" not in shown.output


def test_long_names_in_any_script_are_kept(saved, world, tmp_path):
    """A name is cut by its bytes, of which a character may have three; it must not be looked for for ever."""
    result = replace(evaluate(saved, world.tensor_split(3), device="cpu"), data="写真" * 40, split="val")
    asked = {"by": "撮影場所" * 30}
    first = keep(result, RunFolder(tmp_path), asked)
    assert first.scores is not None
    assert first.scores.name.startswith("写真写真")
    assert keep(result, RunFolder(tmp_path), asked) == first
    assert keep(result, RunFolder(tmp_path), asked | {"views": "flip"}) != first
    assert keep(replace(result, split="test"), RunFolder(tmp_path), asked) != first, "where the split is cut off, too"


def test_a_folder_of_images_needs_no_classes_for_strangers_only(strangers):
    with pytest.raises(DataError):
        load_data(str(strangers / "deep" / "er"))
    assert len(load_data(str(strangers), scoring=True, labelled=False).splits["all"]) == 5


def test_a_table_of_paths_alone_lists_strangers(strangers):
    table = strangers / "list.csv"
    table.write_text("path\n0.png\ndeep/2.png\nbroken.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match="labels"):
        load_data(str(table), scoring=True)
    [split] = load_data(str(table), scoring=True, labelled=False).splits.values()
    assert (list(split.paths), len(split.unreadable)) == (["0.png", "deep/2.png"], 1)
