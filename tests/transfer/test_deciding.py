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
from striate.errors import ModelError
from striate.models import create_model
from striate.models.cut import places
from striate.network import open_network
from striate.progress import Silent
from striate.runfolder import RunFolder
from striate.transfer.by_plan import train_by_plan
from striate.transfer.deciding import decide
from striate.transfer.own_head import own_head_of


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
    assert record["plan"]["scenario"] == "all"
    assert any(line.startswith("The head that the network has") for line in record["plan"]["why"])
    assert after.val.top1 >= before.val.top1 - 0.02
    # on images that the network has learned from, its head would be flattered
    known = quick(model={"from": str(tmp_path / "before")}, transfer={"scenario": "plan"})
    start = open_network(tmp_path / "before")
    learned = _with_train(whole, np.setdiff1d(np.arange(count), few)[:20])
    assert own_head_of(start, learned, known, Silent()) is None
    assert own_head_of(start, some_digits((0, 1, 5), per_class=4), known, Silent()) is None


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


def test_a_plan_keeps_to_the_cut_that_was_asked_for(source: Path):
    dataset = some_digits((5, 6, 7), per_class=4)
    for place in ("stem", places(load_model(source).model)[1]):
        options = quick(model={"from": str(source)}, transfer={"scenario": "plan", "cut": place})
        decision = decide(options, dataset, given=False, progress=Silent())
        assert decision.options.transfer.scenario in ("svm", "softmax")
        assert decision.options.transfer.cut == place
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
