"""`train` by plan: linear runs are like any other, what is decided is in the recipe, what is measured beside it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.transfer.low_digits import quick, some_digits

from striate import api
from striate.checkpoint import load_model, save_model
from striate.data import Dataset, load_data
from striate.data.parts import part_of
from striate.errors import CheckpointError, ModelError, UsageError
from striate.linear.classifiers import fit_softmax, fit_svm
from striate.models import create_model
from striate.models.cut import new_classifier, places, side_classifiers
from striate.network import open_network
from striate.options import DataOptions, merged
from striate.options.transfer import LINEAR
from striate.progress import Silent
from striate.runfolder import RunFolder
from striate.runtime import mark_command, seconds_of_start
from striate.transfer import linear_network, probing, wording
from striate.transfer import plan as planning
from striate.transfer.by_plan import resume_by_plan, train_by_plan
from striate.transfer.codes import codes_of
from striate.transfer.deciding import decide
from striate.transfer.linear_network import with_classifiers
from striate.transfer.made import Job
from striate.transfer.plan import as_options
from striate.transfer.probing import opened, probe
from striate.transfer.result import KINDS
from striate.transfer.verdict import PLAIN_GAIN, UNLIKE_GAIN
from striate.transfer.without_epochs import train_without_epochs

FILES = (
    "recipe.toml", "data.parquet", "environment.json", "metrics.jsonl", "model.safetensors", "evaluation.json",
    "predictions.parquet", "pictures.npz", "transfer.json",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LEAST_SECONDS", 1.0)
    monkeypatch.setattr(planning, "PART", 0.1)


def linear(source: Path, run: Path, scenario: str = "svm", **transfer: object):
    return quick(
        model={"from": str(source)}, transfer={"scenario": scenario, **transfer}, training={"run_dir": str(run)}
    )


@pytest.fixture(scope="module")
def svm_run(source: Path, other_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("linear") / "svm"
    train_by_plan(linear(source, folder), dataset=other_digits)
    return RunFolder(folder)


@pytest.fixture(scope="module")
def blend_run(source: Path, other_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("linear") / "blend"
    train_by_plan(linear(source, folder, "blend"), dataset=other_digits)
    return RunFolder(folder)


def test_a_linear_run_has_all_that_a_run_has(svm_run: RunFolder, other_digits: Dataset):
    assert [name for name in FILES if not (svm_run.path / name).is_file()] == []
    recipe = svm_run.read_recipe()
    assert recipe.transfer.scenario == "svm"
    assert recipe.transfer.cut in [one["place"] for one in svm_run.read_transfer()["probe"]["sources"][0]["depths"]]
    (line,) = svm_run.read_metrics()
    assert line["kind"] == "epoch"
    assert line["train_top1"] > 0.9
    evaluation = svm_run.read_evaluation()
    assert evaluation["splits"]["val"]["top1"] > 0.8
    assert evaluation["splits"]["val"]["n"] == len(other_digits.splits["val"])
    assert evaluation["selected_on"] is None


@pytest.mark.parametrize("fit", [fit_svm, fit_softmax])
def test_the_folded_head_answers_as_the_classifier_on_codes_does(source: Path, other_digits: Dataset, fit):
    saved = opened(str(source), other_digits, quick())
    codes = codes_of(saved, other_digits.splits["train"], precision="fp32")
    place = codes.places[1]
    classifier = fit(codes.by_place[place], codes.targets, 5)
    network = with_classifiers(saved.model, [(place, classifier)])
    images = torch.randn(6, saved.spec.channels, *saved.spec.size)
    with torch.inference_mode():
        from striate.models.cut import pooled_codes

        on_codes = classifier.logits(pooled_codes(saved.model.eval(), images, [place])[place].numpy())
        assert np.allclose(network(images).numpy(), on_codes, atol=1e-3)


@pytest.mark.parametrize("kind", ["svm_run", "blend_run"])
def test_what_is_below_the_classifier_is_the_source_bit_for_bit(kind: str, source: Path, request):
    run = request.getfixturevalue(kind)
    before, after = load_model(source).model.state_dict(), load_model(run.path).model.state_dict()
    kept = [name for name in after if not name.startswith(("head", "sides"))]
    assert kept
    assert all(torch.equal(after[name], before[name]) for name in kept)


def test_a_blend_reads_several_places_and_answers_as_its_parts_do(
    blend_run: RunFolder, svm_run: RunFolder, source: Path, other_digits: Dataset
):
    saved, recipe = load_model(blend_run.path), blend_run.read_recipe()
    assert (recipe.transfer.scenario, recipe.transfer.cut) == ("blend", None)
    assert saved.notes["classifier"] == "blend"
    sides = side_classifiers(saved.model)
    assert sides  # digits are not told apart by one place alone
    read = {line.split(" ")[0] for line in saved.notes["reads"]}
    assert read == {*sides, saved.model.architecture.cut}
    start = opened(str(source), other_digits, quick())
    codes = codes_of(start, other_digits.splits["val"], precision="fp32")
    expected = sum(codes.by_place[place] @ one.weight.detach().numpy().T for place, one in sides.items())
    head = new_classifier(saved.model)
    expected = expected + codes.by_place[saved.model.architecture.cut] @ head.weight.detach().numpy().T
    expected += head.bias.detach().numpy()
    classifier = api.load(blend_run.path, device="cpu", progress=False)
    pixels = [other_digits.splits["val"].images.raw(index)[..., 0] for index in range(40)]
    said = [one.label for one in classifier.predict(pixels)]
    assert said == [other_digits.labels.names[number] for number in expected[:40].argmax(1)]
    scores = [run.read_evaluation()["splits"]["val"]["top1"] for run in (blend_run, svm_run)]
    assert scores[0] == (expected.argmax(1) == codes.targets).mean()
    assert scores[0] >= scores[1] - 0.02


def test_dense_views_of_a_blend_are_refused_before_anything_is_done(
    source: Path, other_digits: Dataset, tmp_path: Path
):
    options = merged(linear(source, tmp_path / "run", "blend"), {"evaluate": {"views": "dense"}})
    with pytest.raises(ModelError, match="reads earlier stages, too"):
        train_by_plan(options, dataset=other_digits)
    assert not (tmp_path / "run").exists()


def test_the_best_place_alone_is_what_a_single_classifier_reads(
    source: Path, other_digits: Dataset, svm_run: RunFolder
):
    (looked_at,) = svm_run.read_transfer()["probe"]["sources"]
    assert looked_at["best"]["kind"] == "blend"
    assert looked_at["best"]["place"] is None
    found = probe(other_digits, [str(source)], quick(), cache=None).best
    assert looked_at["best_place"] == found.best_place
    for place in (one.place for one in found.depths):
        for kind in KINDS:  # it was chosen by more than the count of right answers
            assert replace(found, best_place=place, single_kind=kind).best_by_kind(kind).place == place
    assert svm_run.read_recipe().transfer.cut == found.best_by_kind("svm").place


def test_a_blend_may_be_held_to_the_first_places(source: Path, other_digits: Dataset, tmp_path: Path):
    place = places(open_network(source).model)[1]
    train_by_plan(linear(source, tmp_path / "run", "blend", cut=place), dataset=other_digits)
    record = load_model(tmp_path / "run").model.architecture
    assert {record.cut, *(side for side, _, _ in record.sides)} <= set(places(open_network(source).model)[:2])
    with pytest.raises(ModelError, match="no place 'layer9'"):
        train_by_plan(linear(source, tmp_path / "other", "blend", cut="layer9"), dataset=other_digits)
    assert not (tmp_path / "other").exists()


def test_of_many_images_some_weigh_a_blend_and_all_are_learned_from(
    source: Path, other_digits: Dataset, blend_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def remembered(saved, split, *, places, indices, **settings):
        found = codes_of(saved, split, places=places, indices=indices, **settings)
        asked.append((len(found), found.places))
        return found

    monkeypatch.setattr(probing, "IMAGES", 60)
    monkeypatch.setattr(linear_network, "codes_of", remembered)
    train_by_plan(linear(source, tmp_path / "run", "blend"), dataset=other_digits)
    saved = load_model(tmp_path / "run")
    every, read = places(open_network(source).model), {line.split(" ")[0] for line in saved.notes["reads"]}
    count = len(other_digits.splits["train"])
    assert asked == [(60, every), (count, tuple(place for place in every if place in read))]
    scores = [run.read_evaluation()["splits"]["val"]["top1"] for run in (RunFolder(tmp_path / "run"), blend_run)]
    assert scores[0] > scores[1] - 0.05


def test_what_a_blend_knows_is_the_start_of_a_training(blend_run: RunFolder, other_digits: Dataset, tmp_path: Path):
    before = blend_run.read_evaluation()["splits"]["val"]["top1"]
    options = quick(
        model={"from": str(blend_run.path)}, transfer={"scenario": "all"}, schedule={"epochs": 1},
        optimizer={"lr": 1e-6}, training={"run_dir": str(tmp_path / "run")},
    )  # fmt: skip
    result = train_by_plan(options, dataset=other_digits)
    assert result.val is not None
    assert abs(result.val.top1 - before) < 0.03
    assert load_model(tmp_path / "run").model.architecture.sides == load_model(blend_run.path).model.architecture.sides
    fewer = some_digits((5, 6, 1))  # two that it knows
    options = replace(options, transfer=replace(options.transfer, scenario="head"))
    options = replace(options, training=replace(options.training, run_dir=str(tmp_path / "other")))
    result = train_by_plan(options, dataset=fewer)
    assert result.val is not None
    assert result.val.top1 > 0.9
    sides = list(load_model(tmp_path / "other").model.sides.parameters())
    assert {one.shape[0] for one in sides} == {3}
    assert max(float(one.detach().abs().max()) for one in sides) < 1e-3, (
        "a head that is fitted anew says all there is to say"
    )


def test_a_linear_run_predicts_and_reports(svm_run: RunFolder, other_digits: Dataset):
    classifier = api.load(svm_run.path, device="cpu", progress=False)
    val = other_digits.splits["val"]
    pixels = [val.images.raw(index)[..., 0] for index in range(40)]
    said = [one.label for one in classifier.predict(pixels)]
    names = other_digits.labels.names
    assert np.mean([name == names[target] for name, target in zip(said, val.targets[:40], strict=True)]) > 0.7
    from striate.report import write_report

    plain = write_report(svm_run.path, svm_run.path / "plain.html").read_text(encoding="utf-8")
    assert "Accuracy over depth" in plain
    svm_run.transfer_picture.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    page = write_report(svm_run.path, svm_run.path / "again.html").read_text(encoding="utf-8")
    assert 'id="transfer"' in page
    assert "What was copied" in page
    assert "a linear SVM" in page
    assert "data:image/svg+xml;base64," in page


@pytest.mark.parametrize("last", ["data.parquet", "environment.json", "metrics.jsonl", "model.safetensors"])
@pytest.mark.parametrize("kind", ["svm_run", "blend_run"])
def test_a_linear_run_that_was_killed_is_finished_to_the_bit(
    kind: str, other_digits: Dataset, tmp_path: Path, last: str, request
):
    """Files are written one after another, each whole: what a kill leaves is the first few of them."""
    killed = request.getfixturevalue(kind)
    order = ("data.parquet", "environment.json", "recipe.toml", "metrics.jsonl", "model.safetensors")
    whole = load_model(killed.path).model.state_dict()
    copy = RunFolder(tmp_path / "killed")
    copy.path.mkdir()
    for name in ("recipe.toml", *order[: order.index(last) + 1]):
        (copy.path / name).write_bytes((killed.path / name).read_bytes())
    if last == "data.parquet":
        (copy.path / "environment.json").write_bytes((killed.path / "environment.json").read_bytes())
    result = resume_by_plan(copy, epochs=None, dataset=other_digits, model=None, progress=Silent())
    again = load_model(copy.path).model.state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert result.val is not None
    assert result.val.top1 == killed.read_evaluation()["splits"]["val"]["top1"]
    assert len(copy.read_metrics()) == 1


def test_a_planned_run_that_was_stopped_ends_as_one_that_was_not(source: Path, tmp_path: Path):
    options = quick(
        data={"data": "digits", "limit": 60}, model={"from": str(source)}, transfer={"scenario": "plan"},
        schedule={"epochs": 1}, training={"run_dir": str(tmp_path / "run"), "report": True},
    )  # fmt: skip
    train_by_plan(options)
    run = RunFolder(tmp_path / "run")
    whole = run.read_transfer()
    assert whole["copied"]
    begun = {name: value for name, value in whole.items() if name != "copied"} | {"next_steps": []}
    run.transfer.write_text(json.dumps(begun))
    run.transfer_picture.unlink()
    if run.read_recipe().transfer.scenario in ("svm", "softmax"):
        run.model.unlink()
    result = resume_by_plan(run, epochs=None, dataset=None, model=None, progress=Silent())
    again = run.read_transfer()
    assert [one["kind"] for one in again["next_steps"]] == [one["kind"] for one in whole["next_steps"]]
    assert [one["gain"] for one in again["next_steps"]] == [one["gain"] for one in whole["next_steps"]]
    assert again["copied"] == whole["copied"]
    assert again["plan"] == whole["plan"]
    assert result.transfer is not None
    assert [one["text"] for one in result.transfer["next_steps"]] == [one["text"] for one in again["next_steps"]]
    assert run.transfer_picture.is_file()


def test_a_linear_run_has_no_epochs_to_go_on_to(svm_run: RunFolder, other_digits: Dataset):
    with pytest.raises(UsageError, match="no epochs"):
        resume_by_plan(svm_run, epochs=5, dataset=other_digits, model=None, progress=Silent())


def test_a_linear_run_whose_source_is_gone_says_so(source: Path, other_digits: Dataset, tmp_path: Path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.toml", "model.safetensors", "data.parquet"):
        (moved / name).write_bytes((source / name).read_bytes())
    train_by_plan(linear(moved, tmp_path / "run", cut="stem"), dataset=other_digits)
    (tmp_path / "run" / "model.safetensors").unlink()
    (moved / "model.safetensors").unlink()
    (moved / "recipe.toml").unlink()
    with pytest.raises(CheckpointError, match="cannot be finished"):
        resume_by_plan(RunFolder(tmp_path / "run"), epochs=None, dataset=other_digits, model=None, progress=Silent())


def test_what_a_linear_classifier_has_no_use_for_is_named(
    svm_run: RunFolder, source: Path, other_digits: Dataset, tmp_path: Path, heard
):
    options = merged(
        linear(source, tmp_path / "run", cut="stem", freeze_to="stem", layer_decay=0.5),
        {"schedule": {"epochs": 7}, "optimizer": {"lr": 0.5}, "regularize": {"class_weights": "balanced"},
         "training": {"budget": "1h"}, "augment": {"preset": "digits"}},
    )  # fmt: skip
    train_by_plan(options, dataset=other_digits, progress=heard)
    (warning,) = [line for line in heard.warnings if line.startswith("without effect")]
    flags = ("freeze-to", "layer-decay", "preset", "class-weights", "lr", "epochs", "budget")
    assert warning.partition("): ")[2].split(", ") == [f"--{one}" for one in flags]
    recipe = RunFolder(tmp_path / "run").read_recipe()
    assert (recipe.transfer.freeze_to, recipe.optimizer.lr, recipe.regularize.class_weights) == (None, None, "none")
    # the recipe of such a run asks for nothing else than what happens
    heard.warnings.clear()
    again = svm_run.read_recipe()
    again = replace(again, training=replace(again.training, run_dir=str(tmp_path / "again"), report=False))
    train_by_plan(again, dataset=other_digits, progress=heard)
    assert heard.warnings == []


def test_of_a_plan_those_are_named_that_not_even_trials_used(source: Path, other_digits: Dataset, tmp_path, heard):
    options = merged(
        linear(source, tmp_path / "run", scenario="plan"),
        {"schedule": {"epochs": 7}, "regularize": {"class_weights": "balanced"}, "training": {"snapshots": 1}},
    )
    decision = replace(decide(options, other_digits, given=False, progress=Silent()), options=None)
    plan = replace(decision.plan, scenario="blend", cut=None, freeze_to=None, pretrained_lr=None)
    (tmp_path / "run").mkdir()
    train_without_epochs(
        as_options(plan, options), other_digits, start=decision.start, run=RunFolder(tmp_path / "run"), planned=True,
        progress=heard,
    )  # fmt: skip
    (warning,) = [line for line in heard.warnings if line.startswith("without effect")]
    assert warning.partition("): ")[2].split(", ") == ["--class-weights", "--snapshots"]


def test_several_seeds_of_a_plan_that_trains_nothing_are_one_run(source: Path, tmp_path: Path, monkeypatch, heard):
    monkeypatch.setattr(planning, "_contenders", lambda *_: [])
    options = merged(
        linear(source, tmp_path / "runs", scenario="plan"), {"training": {"seeds": 3}, "data": {"limit": 200}}
    )
    repeated = api.train_and_report(options, progress=heard)
    assert [one.epochs for one in repeated.runs] == [0]
    assert any(line.startswith("--seeds 3: nothing in this network is random") for line in heard.warnings)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_stay_together_where_strength_is_chosen(kind: str, source: Path, other_digits: Dataset, monkeypatch):
    """Five copies of each image in one group: on folds that part them the weakest regularisation would look best."""
    train = other_digits.splits["train"]
    rows = np.tile(np.arange(60), 5)
    five = replace(part_of(train, rows), groups=[f"image {row}" for row in rows.tolist()])
    dealt = []
    monkeypatch.setitem(linear_network.FITS, kind, lambda *args, folds, **_: dealt.append(folds) or fit_svm(*args))
    saved = opened(str(source), other_digits, quick())
    dataset = replace(other_digits, splits={"train": five})
    job = Job(linear(source, Path("run"), kind, cut="stem"), dataset, saved, torch.device("cpu"), Silent())
    linear_network.linear_network(job)
    (folds,) = dealt
    assert all(len(set(folds[rows == row].tolist())) == 1 for row in range(60))


def test_a_linear_classifier_refuses_another_network_and_several_seeds(source: Path, other_digits: Dataset, tmp_path):
    deeper = merged(linear(source, tmp_path / "run", cut="stem"), {"model": {"model": "compact_l"}})
    with pytest.raises((UsageError, ModelError)):
        train_by_plan(deeper, dataset=other_digits)
    assert not (tmp_path / "run").exists()
    seeds = merged(linear(source, tmp_path / "run"), {"training": {"seeds": 3}})
    with pytest.raises(UsageError, match="nothing in --scenario svm is random") as refused:
        api.train_and_report(seeds, progress=Silent())
    assert "--folds 3" in refused.value.hint


def test_a_place_that_is_not_there_leaves_no_folder(source: Path, other_digits: Dataset, tmp_path: Path):
    with pytest.raises(ModelError, match="no place 'layer9'"):
        train_by_plan(linear(source, tmp_path / "run", cut="layer9"), dataset=other_digits)
    assert not (tmp_path / "run").exists()


def test_the_plan_is_resolved_in_the_recipe_and_never_measured_again(source: Path, tmp_path: Path, heard):
    """Digits by name, so that the recipe alone repeats the run."""
    options = quick(
        data={"data": "digits", "limit": 200}, model={"from": str(source)}, transfer={"scenario": "plan"},
        schedule={"epochs": 2}, training={"run_dir": str(tmp_path / "first")},
    )  # fmt: skip
    result = train_by_plan(options, progress=heard)
    first = RunFolder(tmp_path / "first")
    plan = first.read_transfer()["plan"]
    recipe = first.read_recipe()
    assert recipe.transfer.scenario == plan["scenario"] != "plan"
    assert recipe.transfer.cut == plan["cut"]
    assert plan["why"]
    assert {"svm", "softmax", "head"} <= {one["scenario"] for one in plan["scenarios"]}
    assert any(line.startswith("Hence") for line in heard.lines)
    assert result.to_dict()["transfer"]["plan"]["scenario"] == plan["scenario"]
    # the source saw some of these very images
    assert any("flattered" in line for line in heard.warnings)
    json.dumps(result.to_dict())

    def never(*arguments: object, **settings: object) -> None:
        raise AssertionError("measured again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("striate.transfer.deciding.probe", never)
        patch.setattr("striate.transfer.deciding.plan_transfer", never)
        again = replace(recipe, training=replace(recipe.training, run_dir=str(tmp_path / "second"), report=False))
        train_by_plan(again)
    one, other = (load_model(tmp_path / name).model.state_dict() for name in ("first", "second"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_plan_looks_at_no_validation_image(source: Path, other_digits: Dataset):
    class Untouchable(Exception):
        pass

    class Images(type(other_digits.splits["val"].images)):
        def take(self, *arguments: object, **settings: object):
            raise Untouchable

        @property
        def tensor(self):
            raise Untouchable

    val = other_digits.splits["val"]
    untouchable = replace(val, images=Images(val.images.pixels))
    dataset = replace(other_digits, splits={**other_digits.splits, "val": untouchable})
    options = quick(model={"from": str(source)}, schedule={"epochs": 2})
    found = probe(dataset, [str(source)], options, cache=None)
    plan = planning.plan_transfer(found, dataset, options, start=open_network(source))
    assert plan.scenario in (*LINEAR, "top", "all", "scratch")
    assert 0 <= plan.low <= plan.expected_top1 <= plan.high <= 1
    assert plan.seconds_planning >= 0


def test_a_network_made_for_other_images_is_expected_to_gain_by_training(
    source: Path, other_digits: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(planning, "_faster", lambda *arguments: 3.0)
    gains: list[dict[str, tuple[float, float]]] = []
    monkeypatch.setattr(planning, "run_trials", lambda race, *arguments, **settings: gains.append(race.gains))
    monkeypatch.setattr(wording, "_tried", lambda *arguments: "")
    monkeypatch.setattr(wording, "how_tried", lambda *arguments: "")
    options = quick(model={"from": str(source)}, schedule={"epochs": 2})
    found = probe(other_digits, [str(source)], options, cache=None)
    plan = planning.plan_transfer(found, other_digits, options, start=open_network(source))
    monkeypatch.setattr(planning, "has_normalization", lambda model: False)
    planning.plan_transfer(found, other_digits, options, start=open_network(source))
    assert gains == [{"all": UNLIKE_GAIN}, {"all": PLAIN_GAIN, "top": PLAIN_GAIN}]
    assert any("3 times as fast" in line and f"{100 * UNLIKE_GAIN[0]:.0f} % of" in line for line in plan.why)


def test_few_images_are_planned_for_without_trials(source: Path, tmp_path: Path):
    dataset = some_digits((5, 6, 7), per_class=4)
    options = quick(model={"from": str(source)}, training={"run_dir": str(tmp_path / "run")})
    train_by_plan(options, dataset=dataset)
    plan = RunFolder(tmp_path / "run").read_transfer()["plan"]
    assert plan["scenario"] in LINEAR
    assert plan["seconds_planning"] == 0
    assert any("too few" in line for line in plan["why"])


def test_seconds_before_the_training_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mark_command()
    started = seconds_of_start()
    if started is None:
        pytest.skip("this system does not tell when a process started")

    def slow(*arguments: object, **settings: object) -> Dataset:
        time.sleep(0.5)
        return some_digits((0, 1), per_class=10)

    monkeypatch.setattr("striate.transfer.by_plan.load_data", slow)
    options = quick(schedule={"epochs": 1}, model={"from": "scratch"}, training={"run_dir": str(tmp_path / "run")})
    mark_command()
    train_by_plan(options)
    phases = RunFolder(tmp_path / "run").read_environment()["phases"]
    assert phases["load"] >= 0.5
    assert phases["import"] - started < 0.4


def test_of_several_networks_the_one_that_knows_most_is_taken(
    source: Path, other_digits: Dataset, tmp_path: Path, heard
):
    saved = load_model(source)
    torch.manual_seed(0)
    blank = create_model("compact_s", classes=5, in_channels=saved.spec.channels, input_size=saved.spec.size)
    torch.nn.init.zeros_(next(blank.stem.parameters()))
    save_model(tmp_path / "blank.safetensors", blank, saved.spec, saved.labels)
    options = quick(
        model={"from": (str(tmp_path / "blank.safetensors"), str(source))}, transfer={"scenario": "svm"},
        training={"run_dir": str(tmp_path / "run")},
    )  # fmt: skip
    train_by_plan(options, dataset=other_digits, progress=heard)
    assert RunFolder(tmp_path / "run").read_recipe().model.from_ == str(source.resolve())
    assert any("knows most" in line for line in heard.lines)


def test_doubtful_labels_and_the_weakest_class_are_named(source: Path, other_digits: Dataset, tmp_path: Path):
    train = other_digits.splits["train"]
    targets = train.targets.copy()
    wrong = np.flatnonzero(targets == 0)[:3]
    targets[wrong] = 3
    dataset = replace(other_digits, splits={**other_digits.splits, "train": replace(train, targets=targets)})
    train_by_plan(linear(source, tmp_path / "run"), dataset=dataset)
    steps = RunFolder(tmp_path / "run").read_transfer()["next_steps"]
    (labels,) = [one for one in steps if one["kind"] == "labels"]
    doubted = {one["path"] for one in labels["doubts"] if one["split"] == "train"}
    assert len(doubted & {train.paths[row] for row in wrong}) >= 2
    for step in steps:
        assert step["text"]
        assert step["kind"] == "labels" or step["gain"] > 0


def test_seeds_share_one_plan(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    real = planning.plan_transfer

    def counted(*arguments: object, **settings: object):
        calls.append(1)
        return real(*arguments, **settings)

    monkeypatch.setattr("striate.transfer.deciding.plan_transfer", counted)
    options = quick(
        data={"data": "digits", "limit": 60}, model={"from": str(source)}, transfer={"scenario": "plan"},
        schedule={"epochs": 1}, training={"seeds": 2, "run_dir": str(tmp_path / "runs")},
    )  # fmt: skip
    result = api.train_and_report(options, progress=Silent())
    assert len(calls) == 1
    assert [run.run.name for run in result.runs] == ["1", "2"]
    assert all(run.val is not None for run in result.runs)


def test_a_network_that_is_given_is_trained_as_it_is(tmp_path: Path):
    dataset = some_digits((0, 1), per_class=10)
    model = create_model("compact_s", classes=2, in_channels=1, input_size=(8, 8))
    result = train_by_plan(
        quick(schedule={"epochs": 1}, training={"run_dir": str(tmp_path / "run")}), dataset=dataset, model=model
    )
    assert RunFolder(result.run).read_recipe().model.from_ == "scratch"


def test_a_linear_classifier_needs_a_network(tmp_path: Path):
    dataset = some_digits((0, 1), per_class=10)
    options = quick(transfer={"scenario": "svm"}, training={"run_dir": str(tmp_path / "run")})
    with pytest.raises(UsageError, match="needs weights to start from"):
        train_by_plan(options, dataset=dataset)
    model = create_model("compact_s", classes=2, in_channels=1, input_size=(8, 8))
    with pytest.raises(UsageError, match="needs weights to start from"):
        train_by_plan(options, dataset=dataset, model=model)
    assert not (tmp_path / "run").exists()


def test_digits_by_name_start_from_scratch(tmp_path: Path, heard):
    options = quick(
        data={"data": "digits", "limit": 50}, schedule={"epochs": 1}, training={"run_dir": str(tmp_path / "run")}
    )
    assert options.model.from_ == "auto"
    train_by_plan(options, progress=heard)
    assert any("from scratch" in line for line in heard.lines)
    assert any(", 1 epoch of " in line for line in heard.lines)
    recipe = RunFolder(tmp_path / "run").read_recipe()
    assert (recipe.model.from_, recipe.transfer.scenario) == ("scratch", "scratch")
    assert load_data(DataOptions(data="digits")).name == "digits"
