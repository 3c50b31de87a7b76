"""The story end to end on real digits: what a run leaves, which weights it keeps, and what stops it."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.training.conftest import QUICK

from striate.checkpoint import load_model, load_state, save_state
from striate.data import Dataset, Split, TensorImages, load_data
from striate.errors import CheckpointError, DataError, MissingExtraError, ModelError, TrainingError, UsageError
from striate.models import create_model
from striate.options import DataOptions, TrainOptions, merged
from striate.runfolder import RunFolder
from striate.spec import Labels
from striate.training import repeat, resume, train
from striate.training.planning import parse_duration
from striate.training.state import PARTS


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(run).model)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_leaves_every_file_of_its_folder(quick, heard):
    begun = time.perf_counter()
    result = train(quick(schedule={"epochs": 3}), progress=heard)
    elapsed = time.perf_counter() - begun
    run = RunFolder(result.run)
    assert run.finished
    epochs = [row for row in run.read_metrics() if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert all(math.isfinite(row["train_loss"]) and row["images_per_second"] > 0 for row in epochs)
    evaluation = run.read_evaluation()
    assert evaluation["splits"]["val"]["top1"] == result.val.top1
    manifest = pq.read_table(run.manifest)
    assert sorted(set(manifest["split"].to_pylist()) - {None}) >= ["train", "val"]
    assert len(pq.read_table(run.predictions)) == result.val.n
    with np.load(run.pictures) as pictures:
        assert pictures["augmented"].shape[1:] == (8, 8, 1)
    facts = run.read_environment()
    assert {"load", "prepare", "train", "evaluate"} <= set(facts["phases"])
    assert 0.0 < sum(facts["phases"].values()) <= elapsed, "no second is counted twice"
    saved = load_model(run.model)
    assert saved.labels.names == tuple("0123456789")
    assert saved.scores["val"]["top1"] == result.val.top1
    assert json.dumps(result.to_dict())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(quick):
    changes = {"augment": {"preset": "digits"}, "model": {"dropout": 0.2}}
    first, second = train(quick("a", **changes)), train(quick("b", **changes))
    assert same(weights(first.run), weights(second.run))
    other = train(quick("c", **changes, training={"seed": 1}))
    assert not same(weights(first.run), weights(other.run))


def test_the_recipe_of_a_run_repeats_it(quick, tmp_path):
    first = train(quick("a", augment={"preset": "auto"}))
    options = RunFolder(first.run).read_recipe()
    again = train(replace(options, training=replace(options.training, run_dir=str(tmp_path / "b"))))
    assert same(weights(first.run), weights(again.run))


def test_the_kept_weights_are_those_of_the_best_epoch(quick):
    result = train(quick(schedule={"epochs": 4}, optimizer={"lr": 0.2}, training={"snapshots": 1}))
    run = RunFolder(result.run)
    rows = [row for row in run.read_metrics() if row["kind"] == "epoch"]
    best = max(rows, key=lambda row: (row["val"]["top1"], -row["val"]["loss"]))
    assert result.best_epoch == best["epoch"]
    assert result.val.top1 == pytest.approx(best["val"]["top1"])
    assert same(weights(result.run), load_file(run.snapshots / f"epoch-{best['epoch']:04d}.safetensors"))


def test_early_stopping_ends_the_run_and_keeps_the_best(quick, heard):  # M077
    constant = {"schedule": "constant", "epochs": 30}
    result = train(
        quick(schedule=constant, optimizer={"lr": 1e-9, "momentum": 0.0}, training={"early_stopping": 2}),
        progress=heard,
    )
    assert result.epochs < 30
    assert result.epochs - result.best_epoch == 2
    assert any("stopped early" in line for line in heard.lines)


def test_the_average_is_scored_beside_the_raw_weights(quick):
    result = train(quick(training={"ema": 0.9}, schedule={"epochs": 3}))
    rows = [row for row in RunFolder(result.run).read_metrics() if row["kind"] == "epoch"]
    assert all({"val", "val_ema"} <= set(row) for row in rows)
    best = max(max(row[key]["top1"] for key in ("val", "val_ema")) for row in rows)
    assert result.val.top1 == pytest.approx(best)
    of_best = next(row for row in rows if row["epoch"] == result.best_epoch)
    said = RunFolder(result.run).read_evaluation()
    assert said["validated"] == {"raw": of_best["val"], "ema": of_best["val_ema"]}
    assert said["validated"][said["weights"]]["top1"] == pytest.approx(best)
    assert load_model(result.run).notes["weights"] == said["weights"]


def test_filters_are_kept_within_their_limit_and_resuming_changes_no_bit(quick):
    changes = {
        "optimizer": {"optimizer": "sgd", "lr": 0.5},
        "schedule": {"epochs": 2, "steps_per_epoch": 1, "schedule": "constant"},
        "model": {"normalization": "none"},
    }
    limited = {"regularize": {"max_filter_rms": 0.05}}

    def largest(run: Path) -> torch.Tensor:
        filters = [value for value in weights(run).values() if value.ndim == 4]
        return torch.cat([value.square().mean((1, 2, 3)).sqrt() for value in filters]).max()

    free, held = train(quick("free", **changes)), train(quick("held", **changes, **limited))
    assert RunFolder(held.run).read_metrics()[-1]["step"] == 2
    assert largest(free.run) > 0.06
    assert largest(held.run) == pytest.approx(0.05, rel=1e-5)
    changes["schedule"]["epochs"] = 1
    resumed = resume(train(quick("stopped", **changes, **limited)).run, epochs=2)
    assert same(weights(resumed.run), weights(held.run))


def test_resuming_in_the_middle_of_an_epoch_changes_no_bit(quick):
    changes = {
        "augment": {"preset": "digits", "mixup": 0.2},
        "model": {"dropout": 0.3},
        "training": {"ema": 0.9, "save_minutes": 1e-6},
        "schedule": {"epochs": 2, "schedule": "cyclic"},
    }
    whole = train(quick("whole", **changes))
    stopped = quick("stopped", **changes)

    class PowerCut(BaseException):
        pass

    from striate.training import run as story

    saves = 0
    original = story.save_state

    def save_and_stop(*arguments, **settings):
        nonlocal saves
        original(*arguments, **settings)
        saves += 1
        if saves == 4:  # within the first epoch
            raise PowerCut

    story.save_state = save_and_stop
    try:
        with pytest.raises(PowerCut):
            train(stopped)
    finally:
        story.save_state = original
    run = RunFolder(Path(stopped.training.run_dir))
    assert not run.finished
    resumed = resume(run)
    assert same(weights(whole.run), weights(resumed.run))
    kept = [{path.name: load_file(path) for path in RunFolder(one.run).snapshots.iterdir()} for one in (whole, resumed)]
    assert sorted(kept[0]) == sorted(f"epoch-000{epoch}{of}.safetensors" for epoch in (1, 2) for of in ("", "-ema"))
    assert all(same(kept[0][name], kept[1][name]) for name in kept[0])
    drop = ("seconds", "images_per_second", "data_wait_share")
    figures = [
        [{k: v for k, v in row.items() if k not in drop} for row in RunFolder(one.run).read_metrics()]
        for one in (whole, resumed)
    ]
    assert figures[0] == figures[1]


def test_muon_with_rates_of_its_own_resumes_without_changing_a_bit(quick):
    changes = {
        "optimizer": {"optimizer": "muon", "lr": 0.1, "head_lr": 0.2, "bias_lr": 0.5},
        "regularize": {"unit_kernels": True, "decay_norms_and_biases": True},
        "augment": {"flip": 0.5, "flip_by": "turns", "shift": 1, "shift_border": "mirrored"},
        "schedule": {"schedule": "constant"},
        "model": {"model": "airbench94"},
        "data": {"limit": 128, "input_size": 9},
        "training": {"save_minutes": 1e-6, "snapshots": 1},
    }
    whole = train(quick("whole", **changes))
    changes["schedule"]["epochs"] = 1
    resumed = resume(train(quick("stopped", **changes)).run, epochs=2)
    assert same(weights(whole.run), weights(resumed.run))
    first, second = (
        load_file(whole.run / "snapshots" / f"epoch-{epoch:04d}.safetensors")["stem.whiten.weight"] for epoch in (1, 2)
    )
    assert torch.equal(first, second)  # fitted before the first step, never trained
    kernels = [value for name, value in weights(whole.run).items() if value.ndim == 4 and "stages" in name]
    assert [float(one.norm() ** 2 / len(one)) for one in kernels] == pytest.approx([1.0] * 6, rel=1e-4)


def test_a_network_made_elsewhere_keeps_its_fitted_layer(quick):
    mine = create_model("airbench94", in_channels=1, input_size=9)
    mine.fit_start(torch.rand(64, 1, 9, 9))
    before = mine.stem.whiten.weight.clone()
    changes = {"data": {"limit": 128, "input_size": 9}, "schedule": {"epochs": 1}}
    result = train(quick(**changes, model={"model": "airbench94"}), model=mine)
    assert torch.equal(weights(result.run)["stem.whiten.weight"], before)


@pytest.mark.parametrize(("init", "given"), [("paper", True), ("he", False), ("lsuv", False)])
def test_a_first_layer_that_is_not_trained_is_always_fitted(quick, init, given):
    mine = create_model("airbench94", in_channels=1, input_size=9) if given else None
    changes = {"data": {"limit": 128, "input_size": 9}, "schedule": {"epochs": 1, "steps_per_epoch": 1}}
    result = train(quick(**changes, model={"model": "airbench94", "init": init}), model=mine)
    filters = weights(result.run)["stem.whiten.weight"]
    assert torch.equal(filters[:12], -filters[12:])
    fitted = train(quick("other", **changes, model={"model": "airbench94"})).run
    assert torch.allclose(filters, weights(fitted)["stem.whiten.weight"])  # from the same images


def test_a_finished_run_trains_on_to_more_epochs(quick, heard):
    first = train(quick(schedule={"epochs": 2, "schedule": "constant"}))
    more = resume(first.run, epochs=4, progress=heard)
    assert more.epochs == 4
    assert [row["epoch"] for row in RunFolder(more.run).read_metrics()] == [1, 2, 3, 4]
    whole = train(quick("whole", schedule={"epochs": 4, "schedule": "constant"}))
    assert same(weights(more.run), weights(whole.run))
    with pytest.raises(UsageError, match="4 epochs already"):
        resume(first.run, epochs=3)


@pytest.mark.parametrize("schedule", ["step", "exponential", "onecycle", "cosine"])
def test_training_on_follows_the_longer_schedule(quick, schedule):
    chosen = {"schedule": schedule, "step_epochs": 1.0, "gamma": 0.5}
    first = train(quick(schedule={"epochs": 2, **chosen}))
    more = resume(first.run, epochs=4)
    whole = train(quick("whole", schedule={"epochs": 4, **chosen}))
    rates = [[row["lr"] for row in RunFolder(one.run).read_metrics()][2:] for one in (more, whole)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-5)


def test_training_on_that_is_stopped_at_once_goes_on_as_if_it_was_not(quick, monkeypatch):
    first = train(quick(schedule={"epochs": 2, "schedule": "onecycle"}))
    undisturbed = train(quick("other", schedule={"epochs": 2, "schedule": "onecycle"}))
    expected = resume(undisturbed.run, epochs=4)

    class PowerCut(BaseException):
        pass

    def stop(*arguments, **settings):
        raise PowerCut

    from striate.training import run as story

    for name in ("save_state", "_train_epochs"):  # before and after the longer plan is saved
        with monkeypatch.context() as patch:
            patch.setattr(story, name, stop)
            with pytest.raises(PowerCut):
                resume(first.run, epochs=4)
    assert same(weights(resume(first.run).run), weights(expected.run))


def test_resuming_a_finished_run_changes_nothing(quick):
    result = train(quick())
    before = weights(result.run)
    assert resume(result.run).val == result.val
    assert same(before, weights(result.run))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of one epoch, to be copied and changed."""
    options = merged(merged(TrainOptions(), QUICK), {"schedule": {"epochs": 1}})
    run_dir = str(tmp_path_factory.mktemp("finished") / "run")
    return train(merged(options, {"training": {"run_dir": run_dir}})).run


def copied(finished: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(finished, tmp_path / "run")))


def rewrite_state(run: RunFolder, change) -> None:
    """The newest state read, changed, and written as another version of Striate would have written it."""
    state, _ = load_state(run.resume)
    change(state)
    save_state(run.resume, state, keep=1)


@pytest.mark.parametrize("part", PARTS)
def test_a_state_without_a_part_is_refused_in_plain_words(finished, tmp_path, part):
    run = copied(finished, tmp_path)
    rewrite_state(run, lambda state: state.pop(part))
    before = sorted((file.name, file.read_bytes()) for file in run.path.rglob("*") if file.is_file())
    with pytest.raises(CheckpointError, match=rf"another version of Striate: it lacks {part}$") as raised:
        resume(run, epochs=2)
    assert "--from RUN" in raised.value.hint
    assert before == sorted((file.name, file.read_bytes()) for file in run.path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("part", "name"), [("position", "step"), ("position", "best"), ("architecture", "config"), ("architecture", "name")]
)
def test_a_state_with_half_a_part_is_refused_in_plain_words(finished, tmp_path, part, name):
    run = copied(finished, tmp_path)
    rewrite_state(run, lambda state: state[part].pop(name))
    with pytest.raises(CheckpointError, match=rf"it lacks {part}\.{name}$"):
        resume(run, epochs=2)


def test_a_state_of_before_networks_could_be_cut_goes_on(finished, tmp_path):
    run = copied(finished, tmp_path)
    rewrite_state(run, lambda state: [state["architecture"].pop(name) for name in ("cut", "cut_grid", "cut_features")])
    assert resume(run, epochs=2).epochs == 2


def test_the_parts_of_a_state_are_those_that_are_written(finished):
    assert tuple(load_state(RunFolder(finished).resume)[0]) == PARTS


@pytest.mark.parametrize("part", ["model", "optimizer", "schedule", "random", "position"])
def test_a_state_whose_parts_do_not_fit_is_refused_in_plain_words(finished, tmp_path, part):
    run = copied(finished, tmp_path)

    def change(state):
        if part == "position":
            state[part]["mood"] = 1.0  # of a later version
        else:
            state[part].popitem() if part == "model" else state[part].clear()

    rewrite_state(run, change)
    with pytest.raises(CheckpointError, match="does not fit this run") as raised:
        resume(run, epochs=2)
    assert "--from RUN" in raised.value.hint


def test_a_manifest_that_cannot_be_compared_is_refused_in_plain_words(finished, tmp_path):
    run = copied(finished, tmp_path)
    pq.write_table(pq.read_table(run.manifest).drop_columns(["reason"]), run.manifest)
    with pytest.raises(DataError, match="damaged, or of another version") as raised:
        resume(run, epochs=2)
    assert "reason" in raised.value.message
    run.manifest.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="damaged, or of another version"):
        resume(run, epochs=2)


def test_other_data_are_refused_when_resuming(quick):
    result = train(quick())
    fewer = load_data(DataOptions(data="digits", limit=200))
    with pytest.raises(DataError, match="the data changed"):
        resume(result.run, dataset=fewer)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(quick):
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+") as raised:
        train(quick(optimizer={"lr": 1e30}, schedule={"schedule": "constant"}, model={"normalization": "none"}))
    assert "--lr" in raised.value.hint


def test_images_that_are_not_square_keep_their_shape(quick, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 1, 8, 12), dtype=np.uint8)
    splits = {
        name: Split(name, np.arange(count) % 3, [f"{name}[{i}]" for i in range(count)], TensorImages(pixels[:count]))
        for name, count in (("train", 120), ("val", 30))
    }
    dataset = Dataset(name="oblong", labels=Labels(("a", "b", "c")), splits=splits, native_size=(8, 12))
    result = train(quick(data={"limit": None}, schedule={"epochs": 1}), dataset=dataset)
    assert load_model(result.run).spec.size == (8, 12)
    again = resume(result.run, epochs=2, dataset=dataset)
    assert load_model(again.run).spec.size == (8, 12)
    with pytest.raises(UsageError, match="in memory"):  # a set made by hand is not mistaken for another one
        resume(result.run)


def test_a_loaded_data_set_is_recorded_as_what_it_was_loaded_from(quick):
    dataset = load_data(DataOptions(data="digits", limit=200))
    result = train(quick(data={"data": "mnist"}), dataset=dataset)
    recorded = RunFolder(result.run).read_recipe().data
    assert (recorded.data, recorded.limit) == ("digits", 200)


def test_a_named_set_stays_one_beside_a_folder_of_its_name(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    result = train(quick(schedule={"epochs": 1}))
    assert RunFolder(result.run).read_recipe().data.data == "digits"


def test_the_start_is_recorded_as_a_path(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = train(quick("first"))
    second = train(quick("second", model={"from": "first"}, schedule={"epochs": 1}))
    assert RunFolder(second.run).read_recipe().model.from_ == str(first.run.resolve())


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_file_names_that_are_not_text_do_not_stop_a_run(quick, tmp_path):
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        folder = tmp_path / "pets" / label
        folder.mkdir(parents=True)
        for index in range(12):
            name = os.fsdecode(b"\xff%d.png" % index)
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name)
    result = train(quick(data={"data": str(tmp_path / "pets"), "limit": None}, schedule={"epochs": 1}))
    assert any("\\" in path for path in pq.read_table(RunFolder(result.run).manifest)["path"].to_pylist())
    assert resume(result.run, epochs=2).epochs == 2


def test_a_network_for_other_classes_is_refused_before_anything_is_written(quick, tmp_path):
    with pytest.raises(ModelError, match="1000 classes"):
        train(quick(), model=create_model("resnet18"))
    assert not (tmp_path / "run").exists()


def test_a_network_made_elsewhere_is_trained(quick):
    model = create_model("compact_s", in_channels=1, input_size=8, stem=8)
    result = train(quick(), model=model)
    assert load_model(result.run).model.architecture.config["stem"] == 8


def test_a_failed_start_leaves_no_empty_folder(quick, tmp_path):
    with pytest.raises(UsageError, match="warmup"):
        train(quick(schedule={"schedule": "cosine", "warmup": 9.0}))
    with pytest.raises(UsageError, match="duration"):
        train(quick(training={"budget": "soon"}))
    assert not (tmp_path / "run").exists()


def test_a_plateau_is_not_lowered_by_epochs_that_were_not_validated(quick):
    plateau = {"schedule": "plateau", "patience": 2, "epochs": 6}
    result = train(quick(schedule=plateau, training={"evaluate_every": 6}))
    rates = {row["lr"] for row in RunFolder(result.run).read_metrics()}
    assert len(rates) == 1


def test_the_last_epoch_is_kept_where_that_is_asked_for(quick):
    result = train(quick(training={"best_by": "last"}, optimizer={"lr": 0.5}, schedule={"epochs": 4}))
    assert result.best_epoch == 4


def test_a_run_folder_is_not_overwritten(quick):
    train(quick())
    with pytest.raises(UsageError, match="is a run already") as raised:
        train(quick())
    assert "--resume" in raised.value.hint


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_batches_make_the_steps_of_larger_ones(quick, accumulate):
    result = train(quick(optimizer={"batch_size": 32, "accumulate": accumulate}, schedule={"epochs": 1}))
    row = RunFolder(result.run).read_metrics()[-1]
    batches = len(load_data(DataOptions(data="digits", limit=320)).splits["train"]) // 32
    assert row["step"] == math.ceil(batches / accumulate)


def test_a_batch_that_does_not_fit_is_computed_in_parts(quick, heard):
    class Narrow(torch.nn.Module):
        """Passes at most 20 images at once, as a full memory would."""

        def forward(self, images):
            if len(images) > 20 and torch.is_grad_enabled():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return images

    from striate.training import planning
    from striate.training.defaults import resolve, resolve_rate, resolve_runtime
    from striate.training.journal import create_run
    from striate.training.session import open_session

    options = quick(model={"normalization": "none"})
    dataset = load_data(options.data)
    options, spec = resolve(options, dataset)
    model = create_model("compact_s", in_channels=1, input_size=8, normalization="none")
    options = resolve_runtime(resolve_rate(options, dataset, model))
    model.stem = torch.nn.Sequential(Narrow(), model.stem)
    session = open_session(options, spec, dataset, create_run(options, dataset), model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert planning.fit_batch(session, heard) == 4  # 64 images in parts of 16
    assert "4 parts" in heard.warnings[0]
    assert same(before, model.state_dict())


def test_the_range_test_finds_a_rate_that_trains_and_writes_it_down(quick, heard):
    result = train(quick(optimizer={"lr": "auto"}), progress=heard)
    rate = RunFolder(result.run).read_recipe().optimizer.lr
    assert 1e-4 < rate < 5
    assert any("range test" in line for line in heard.lines)
    assert result.val.top1 > 0.3


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2h30m", 9000), ("45", 45)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


def test_a_duration_that_is_none_is_refused():
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration("soon")


def test_tensorboard_is_refused_before_anything_is_written_where_it_is_missing(quick, tmp_path, monkeypatch):
    monkeypatch.setattr("striate.training.journal.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="tensorboard") as raised:
        train(quick(training={"tensorboard": True}))
    assert "striate[track]" in raised.value.hint
    assert not (tmp_path / "run").exists()


def test_tensorboard_events_hold_the_figures_of_every_epoch(quick):
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    result = train(quick(training={"tensorboard": True}))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(result.run / "tensorboard")).Reload()
    rows = RunFolder(result.run).read_metrics()
    assert [event.value for event in events.Scalars("val/top1")] == pytest.approx([row["val"]["top1"] for row in rows])


def test_seeds_repeat_and_report_mean_and_spread(quick):
    result = repeat(quick(training={"seeds": 2}, schedule={"epochs": 1}))
    assert [one.run.name for one in result.runs] == ["1", "2"]
    top1 = result.summary()["val"]["top1"]
    assert top1["min"] <= top1["mean"] <= top1["max"]
    values = [one.val.top1 for one in result.runs]
    assert top1["mean"] == pytest.approx(sum(values) / 2)
    assert top1["sd"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))


def test_later_seeds_compute_as_the_first(quick, monkeypatch):
    monkeypatch.setattr("striate.runtime.threads.free_cores", iter([(1, 1.0), (2, 0.0)]).__next__)
    result = repeat(quick(training={"seeds": 2}, schedule={"epochs": 1}, runtime={"threads": None}))
    first, second = (RunFolder(one.run) for one in result.runs)
    assert second.read_recipe().runtime == first.read_recipe().runtime
    assert [one.read_environment()["compile"]["reason"] for one in (first, second)] == [
        "fewer than 500 steps",
        "asked for",
    ]


def test_folds_validate_every_image_once(quick):
    result = repeat(quick(data={"limit": None}, training={"folds": 3}, schedule={"epochs": 1, "steps_per_epoch": 3}))
    seen = []
    for one in result.runs:
        table = pq.read_table(RunFolder(one.run).manifest)
        seen += [h for h, s in zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True) if s == "val"]
    assert sorted(seen) == sorted(pq.read_table(RunFolder(result.runs[0].run).manifest)["path"].to_pylist())


def test_weights_of_another_run_start_this_one(quick, heard):
    first = train(quick("a"))
    still = {"lr": 1e-12, "momentum": 0.0}
    second = train(quick("b", model={"from": str(first.run)}, optimizer=still, schedule={"epochs": 1}), progress=heard)
    assert any(line.startswith("starting from") for line in heard.lines)
    ours, theirs = weights(second.run), weights(first.run)
    for name in (name for name in ours if "running" not in name and "num_batches" not in name):
        torch.testing.assert_close(ours[name], theirs[name])


def test_weights_that_fit_nothing_are_refused(quick):
    first = train(quick("a"))
    with pytest.raises(ModelError, match="is a compact_s, not a lenet5_dense"):
        train(quick("b", model={"from": str(first.run), "model": "lenet5_dense"}))


@pytest.mark.parametrize(
    "sections",
    [
        {"optimizer": {"optimizer": "adamw"}},
        {"optimizer": {"optimizer": "rmsprop", "lr": 1e-3}},
        {"optimizer": {"optimizer": "muon"}},
        {"optimizer": {"clip_norm": 0.5}},
        {"regularize": {"l1": 1e-4, "label_smoothing": 0.1, "class_weights": "balanced", "sampling": "balanced"}},
        {"augment": {"preset": "small", "mixup": 0.4, "cutmix": 1.0}},
        {"runtime": {"precision": "bf16", "channels_last": True}},
        {"model": {"init": "lsuv"}},
        {"model": {"init": "xavier", "activation": "elu", "normalization": "group", "pooling": "average"}},
        {"schedule": {"schedule": "plateau", "warmup": 0.5}},
        {"training": {"best_by": "loss", "evaluate_every": 2, "log_every": 1}},
    ],
    ids=str,
)
def test_every_switch_trains(quick, sections):
    result = train(quick(**sections))
    assert math.isfinite(result.val.loss)
    assert result.epochs == 2
