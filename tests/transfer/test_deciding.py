"""What is decided before a training: from which network, by which scenario, and what is said of images seen before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.transfer.low_digits import quick, some_digits

from striate.checkpoint import load_model, save_model
from striate.data import Dataset
from striate.data.parts import part_of
from striate.data.sources.cifar import CIFAR10_NAMES
from striate.errors import ModelError, UsageError
from striate.models import create_model
from striate.models.cut import places
from striate.network import open_network
from striate.progress import Silent
from striate.runfolder import RunFolder
from striate.spec import Labels
from striate.transfer.ancestry import seen_by
from striate.transfer.by_plan import resume_by_plan, train_by_plan
from striate.transfer.deciding import cut_off, decide
from striate.transfer.keeping import own_answers
from striate.transfer.probing import probe
from striate.transfer.result import KINDS


def _with_train(dataset: Dataset, rows: np.ndarray) -> Dataset:
    return replace(dataset, splits={**dataset.splits, "train": part_of(dataset.splits["train"], rows)})


def test_a_head_that_knows_the_classes_is_weighed_against_linear_classifiers(tmp_path: Path, heard):
    whole = some_digits((0, 1, 2, 3, 4))
    count = len(whole.splits["train"])
    few = np.flatnonzero(np.arange(count) % (count // 15) == 0)
    options = quick(model={"model": "compact_s"}, schedule={"epochs": 3}, optimizer={"batch_size": 64})
    begun = replace(options, model=replace(options.model, from_="scratch"))
    before = train_by_plan(
        replace(begun, training=replace(begun.training, run_dir=str(tmp_path / "before"))),
        dataset=_with_train(whole, np.setdiff1d(np.arange(count), few)),
    )
    assert before.val.top1 > 0.9
    again = quick(model={"from": str(tmp_path / "before")}, training={"run_dir": str(tmp_path / "after")})
    after = train_by_plan(again, dataset=_with_train(whole, few), progress=heard)
    record = RunFolder(after.run).read_transfer()
    own = record["probe"]["sources"][0]["own_head"]
    assert own["n"] == len(few)
    assert own["top1"] > 0.8
    assert record["plan"]["scenario"] == "keep"
    assert any(line.startswith("The head that the network has") for line in record["plan"]["why"])
    assert after.val.top1 == before.val.top1
    one, other = (load_model(tmp_path / name).model.state_dict() for name in ("before", "after"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not [step for step in record["next_steps"] if step["kind"] in ("class", "images")], "it learns from none"
    # on images that the network has learned from, its head would be flattered
    known = quick(model={"from": str(tmp_path / "before")}, transfer={"scenario": "plan"})
    start = open_network(tmp_path / "before")
    learned = _with_train(whole, np.setdiff1d(np.arange(count), few)[:20])
    assert own_answers(start, learned, known, Silent()) is None
    assert own_answers(start, some_digits((0, 1, 5), per_class=4), known, Silent()) is None


def test_a_network_that_is_kept_is_a_run_with_the_classes_of_the_images(source: Path, tmp_path: Path, heard):
    """The source knows 0 to 4; of these the images show three, in another order."""
    dataset = some_digits((0, 2, 4), per_class=5)
    splits = {name: replace(one, targets=2 - one.targets) for name, one in dataset.splits.items()}
    dataset = replace(dataset, splits=splits, labels=Labels(dataset.labels.names[::-1]))
    options = quick(
        model={"from": str(source)}, transfer={"scenario": "keep"}, schedule={"epochs": 3},
        training={"run_dir": str(tmp_path / "run")},
    )  # fmt: skip
    kept = train_by_plan(options, dataset=dataset, progress=heard)
    assert any("without effect" in line and "--epochs" in line for line in heard.warnings)
    assert kept.epochs == 0
    assert kept.val.top1 > 0.9
    run = RunFolder(tmp_path / "run")
    assert run.read_recipe().transfer.scenario == "keep"
    before, after = load_model(source), load_model(run.model)
    assert after.labels == dataset.labels
    rows = [before.labels.names.index(name) for name in dataset.labels.names]
    *below, weight, bias = after.model.state_dict()
    assert torch.equal(after.model.state_dict()[weight], before.model.state_dict()[weight][rows])
    assert torch.equal(after.model.state_dict()[bias], before.model.state_dict()[bias][rows])
    assert all(torch.equal(after.model.state_dict()[name], before.model.state_dict()[name]) for name in below)
    copied = [one["words"].removesuffix(" parameters").split(" of ") for one in run.read_transfer()["copied"]]
    assert copied
    assert all(theirs == ours for theirs, ours in copied)
    answers = run.read_evaluation()["splits"]["val"]["top1"]
    run.model.unlink()  # killed while it was written
    again = resume_by_plan(run, epochs=None, dataset=dataset, model=None, progress=Silent())
    assert again.val.top1 == answers
    with pytest.raises(UsageError, match="has no epochs"):
        resume_by_plan(run, epochs=5, dataset=dataset, model=None, progress=Silent())


def test_what_is_kept_is_as_sure_as_it_was_and_has_seen_what_it_had(source: Path, tmp_path: Path):
    saved = load_model(source)
    save_model(tmp_path / "sure.safetensors", saved.model, saved.spec, saved.labels, temperature=2.5)
    train = some_digits((0, 1, 2, 3, 4)).splits["train"]
    dataset = some_digits((0, 1, 2, 3, 4), per_class=5)
    dataset = replace(dataset, splits={"train": dataset.splits["train"]})  # nothing to fit a temperature to
    for name, start in (("of-file", tmp_path / "sure.safetensors"), ("of-run", source), ("again", tmp_path / "of-run")):
        options = quick(
            model={"from": str(start)}, transfer={"scenario": "keep"}, training={"run_dir": str(tmp_path / name)}
        )
        train_by_plan(options, dataset=dataset)
    assert load_model(tmp_path / "of-file").temperature == 2.5
    assert seen_by(str(tmp_path / "of-file")).images == frozenset(), "it has learned from none of these"
    for name in ("of-run", "again"):
        seen = seen_by(str(tmp_path / name))
        assert seen.images == seen_by(str(source)).images
        assert seen.among(train).sum() == len(train)


OWN = """
from torch import nn


class Own(nn.Sequential):
    def __init__(self, classes=2, in_channels=1):
        body = nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(*body, nn.Linear(8, classes))
"""


def test_a_class_of_one_s_own_is_kept_and_asked_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    dataset = some_digits((0, 1), per_class=10)
    first = quick(
        model={"model": "own.py:Own", "from": "scratch"}, schedule={"epochs": 1}, training={"run_dir": "first"}
    )
    train_by_plan(first, dataset=dataset)
    options = quick(model={"from": "own.py:Own:first"}, transfer={"scenario": "plan"})
    others = _with_train(some_digits((0, 1)), np.arange(200, 220))
    found = decide(options, others, given=False, progress=Silent()).probe
    assert found.best.own_head.n == 20
    kept = quick(model={"from": "own.py:Own:first"}, transfer={"scenario": "keep"}, training={"run_dir": "second"})
    assert (
        train_by_plan(kept, dataset=dataset).val.top1
        == RunFolder(tmp_path / "first").read_evaluation()["splits"]["val"]["top1"]
    )


@pytest.mark.parametrize("several", [True, False])
def test_one_network_is_kept_that_is_named(source: Path, several: bool):
    options = quick(model={"from": (str(source), str(source)) if several else "auto"}, transfer={"scenario": "keep"})
    with pytest.raises(UsageError, match="one network that is named"):
        decide(options, some_digits((0, 1), per_class=5), given=False, progress=Silent())


@pytest.mark.parametrize(
    ("digits", "transfer", "error", "said"),
    [
        ((0, 5, 6), {}, ModelError, "does not know five, six"),
        ((0, 1), {"cut": "stem"}, UsageError, "--cut stem drops the head"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_there_is_a_run(source, tmp_path, digits, transfer, error, said):
    options = quick(
        model={"from": str(source)}, transfer={"scenario": "keep", **transfer},
        training={"run_dir": str(tmp_path / "run")},
    )  # fmt: skip
    with pytest.raises(error, match=said):
        train_by_plan(options, dataset=some_digits(digits, per_class=5))
    assert not (tmp_path / "run").exists()


def test_published_weights_that_know_the_classes_are_measured_on_these_images(source: Path, tmp_path: Path):
    """A run goes on with its images; of a state dict nobody knows what it has seen."""
    torch.manual_seed(0)
    torch.save(create_model("cifar_resnet20").state_dict(), tmp_path / "published.pth")
    digits = some_digits(tuple(range(10)), per_class=3)
    dataset = replace(digits, labels=Labels(CIFAR10_NAMES))
    options = quick(model={"from": f"cifar_resnet20:{tmp_path / 'published.pth'}"}, data={"input_size": 32})
    decision = decide(options, dataset, given=False, progress=Silent())
    assert decision.plan is not None
    assert decision.probe.best.own_head.n == 30
    assert any("published weights" in line for line in decision.plan.why)
    assert "keep" in {one.scenario for one in decision.plan.scenarios}
    # nothing can be held out of one group a class, so that nothing but the head's own answers is known
    more = some_digits(tuple(range(10)), per_class=4)
    train = more.splits["train"]
    grouped = replace(train, groups=tuple(str(target) for target in train.targets))
    dataset = replace(dataset, splits={**more.splits, "train": grouped})
    plan = decide(options, dataset, given=False, progress=Silent()).plan
    assert plan.scenario == "keep"
    assert any("no training image can be held out" in line for line in plan.why)
    assert "nan" not in " ".join(plan.why)
    own = quick(model={"from": str(source)})
    known = some_digits((0, 1, 2, 3, 4), per_class=6)
    assert decide(own, known, given=False, progress=Silent()).plan is None


def test_the_winner_of_several_networks_decides_the_scenario(source: Path, tmp_path: Path):
    dataset = some_digits((5, 6, 7), per_class=4)
    saved = load_model(source)
    torch.manual_seed(0)
    blank = create_model("compact_s", classes=3, in_channels=saved.spec.channels, input_size=saved.spec.size)
    torch.nn.init.zeros_(next(blank.stem.parameters()))
    save_model(tmp_path / "blank.safetensors", blank, saved.spec, dataset.labels)  # knows the classes by name
    options = quick(model={"from": (str(tmp_path / "blank.safetensors"), str(source))})
    decision = decide(options, dataset, given=False, progress=Silent())
    assert decision.options.model.from_ == str(source.resolve())
    assert decision.plan is not None


def test_with_a_cut_trials_are_compared_with_the_classifier_there(source: Path, other_digits: Dataset):
    found = probe(other_digits, [str(source)], quick(transfer={"cut": "stem"}), cache=None)
    assert found.best.blend is not None, "of all depths, which answers otherwise"
    held = cut_off(found, "stem").best
    assert held.answers.correct.mean() == pytest.approx(held.single.top1)
    assert not np.array_equal(held.answers.probabilities, found.best.answers.probabilities)
    assert [held.best_by_kind(kind).place for kind in KINDS] == ["stem", "stem"]


def test_classes_that_are_mere_numbers_are_said_to_tell_nothing(source: Path, tmp_path: Path):
    dataset, saved = some_digits((0, 1, 2)), load_model(source)
    numbered = tmp_path / "numbered.safetensors"
    save_model(numbered, saved.model, saved.spec, Labels(tuple("01234")))
    options = quick(
        model={"from": str(numbered)}, transfer={"scenario": "keep"}, training={"run_dir": str(tmp_path / "run")}
    )
    with pytest.raises(ModelError, match="may stand for anything") as refused:
        train_by_plan(options, dataset=replace(dataset, labels=Labels(tuple("012"))))
    assert "names in words" in refused.value.hint


def test_a_plan_keeps_to_the_cut_that_was_asked_for(source: Path):
    dataset = some_digits((5, 6, 7), per_class=4)
    for place in ("stem", places(load_model(source).model)[1]):
        options = quick(model={"from": str(source)}, transfer={"scenario": "plan", "cut": place})
        decision = decide(options, dataset, given=False, progress=Silent())
        assert decision.options.transfer.scenario in ("svm", "softmax")
        assert decision.options.transfer.cut == place
        assert {one.cut for one in decision.plan.scenarios if one.scenario in KINDS} == {place}
        assert f"on the codes of {place} of" in decision.plan.why[0]
    with pytest.raises(ModelError, match="no place 'layer9'"):
        decide(
            quick(model={"from": str(source)}, transfer={"scenario": "plan", "cut": "layer9"}), dataset, given=False,
            progress=Silent(),
        )  # fmt: skip


def test_images_of_validation_that_were_learned_from_are_said_though_nothing_is_measured(source: Path, heard):
    dataset = some_digits((0, 1, 2, 3, 4))
    swapped = replace(dataset, splits={"train": dataset.splits["val"], "val": dataset.splits["train"]})
    count = len(dataset.splits["train"])
    for scenario, cut in (("head", None), ("svm", "stem"), (None, None)):
        options = quick(model={"from": str(source)}, transfer={"scenario": scenario, "cut": cut})
        heard.warnings.clear()
        assert decide(options, dataset, given=False, progress=heard).probe is None
        assert heard.warnings == []  # that it goes on with its own training images is as it should be
        decide(
            replace(options, transfer=replace(options.transfer, scenario=scenario or "all")),
            swapped,
            given=False,
            progress=heard,
        )
        assert any(f"{count} of the {count} val images" in line for line in heard.warnings)
