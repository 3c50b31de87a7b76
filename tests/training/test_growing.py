"""`--from RUN --model DEEPER`: a run's network grows into a deeper one of its family."""

from dataclasses import replace

import pytest
import torch

from striate.checkpoint import load_model
from striate.data import load_data
from striate.errors import ModelError, UsageError
from striate.options import DataOptions, merged
from striate.runfolder import RunFolder
from striate.spec import Labels
from striate.training import resume, train
from striate.training import run as story

SMALL = {"data": {"limit": 64}, "schedule": {"epochs": 1}, "model": {"model": "cifar_resnet20"}}


@pytest.fixture
def shallow(quick, tmp_path):
    train(quick("shallow", **SMALL))
    return tmp_path / "shallow"


def grow(quick, shallow, heard, name="deep", model="cifar_resnet32", **sections):
    rate = {"optimizer": {"lr": 1e-9}, "regularize": {"weight_decay": 0.0}, "training": {"ema": 0.0}}
    options = quick(name, **{**SMALL, "model": {"model": model, "from": str(shallow)}, **rate, **sections})
    return train(options, progress=heard)


def test_a_run_grows_into_a_deeper_network(quick, shallow, heard, tmp_path):
    result = grow(quick, shallow, heard)
    assert result.model == "cifar_resnet32"
    assert [line for line in heard.lines if line.startswith("cifar_resnet32: ")] == [
        "cifar_resnet32: copied from cifar_resnet20: stem: conv1, norm1; maps32: 0, 1, 2; maps16: 0, 1, 2; "
        "maps8: 0, 1, 2; head: linear",
        "cifar_resnet32: new, started randomly: maps32: 3, 4; maps16: 3, 4; maps8: 3, 4",
    ]
    source, deep = load_model(shallow), load_model(tmp_path / "deep")
    theirs = source.model.state_dict()
    for name, tensor in deep.model.state_dict().items():
        if name in theirs and name.endswith("weight"):
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5)


def test_grown_by_identity_it_begins_as_good_as_it_was(quick, shallow, heard):
    grow(quick, shallow, heard, transfer={"grow": "identity"})
    assert any("it answers as cifar_resnet20 did" in line for line in heard.lines)


def test_what_does_not_grow_is_refused_at_once(quick, shallow, heard, tmp_path):
    with pytest.raises(ModelError, match=r"is a cifar_resnet20, not a compact_s, and .* does not grow into"):
        grow(quick, shallow, heard, model="compact_s")
    assert not (tmp_path / "deep").exists()


def test_a_sibling_is_not_grown_into(quick, heard, tmp_path):
    train(quick("plain", **{**SMALL, "model": {"model": "cifar_plain20"}}))
    with pytest.raises(ModelError, match=r"is a cifar_plain20, not a cifar_resnet20, and .*, which is no deeper"):
        grow(quick, tmp_path / "plain", heard, model="cifar_resnet20")


@pytest.mark.parametrize("transfer", [{"scenario": "head"}, {"scenario": "top"}, {"freeze_to": "maps32"}])
def test_layers_that_start_randomly_are_not_frozen_for_good(quick, shallow, heard, tmp_path, transfer):
    with pytest.raises(UsageError, match=r"cifar_resnet32 that start randomly would stay so: maps32: 3, 4") as caught:
        grow(quick, shallow, heard, transfer=transfer)
    assert "--grow identity" in caught.value.hint
    assert not (tmp_path / "deep").exists()
    grow(quick, shallow, heard, "passing", transfer={**transfer, "grow": "identity"})
    assert any(line.startswith("frozen up to ") for line in heard.lines)
    assert not heard.warnings


def test_layers_that_start_randomly_learn_from_the_start(quick, shallow, heard, tmp_path):
    labels = Labels(tuple(f"new {name}" for name in "0123456789"))
    dataset = replace(load_data(DataOptions(data="digits", limit=64)), labels=labels)
    options = quick("deep", **{**SMALL, "model": {"model": "cifar_resnet32", "from": str(shallow)}})
    short = {"epochs": 3, "steps_per_epoch": 1}
    train(merged(options, {"schedule": short}), dataset=dataset, progress=heard)
    assert RunFolder(tmp_path / "deep").read_recipe().transfer.head_epochs == 0
    assert not heard.warnings
    changes = {"transfer": {"head_epochs": 1}, "training": {"run_dir": str(tmp_path / "asked")}, "schedule": short}
    train(merged(options, changes), dataset=dataset, progress=heard)
    assert heard.warnings[0].startswith("layers that start randomly are frozen at first: maps32: 3, 4; maps16: 3, 4; ")


def test_a_run_that_grew_goes_on_with_the_same_bits(quick, shallow, heard, tmp_path, monkeypatch):
    longer = {"schedule": {"epochs": 2, "steps_per_epoch": 1}}
    grow(quick, shallow, heard, "whole", **longer)
    original = story.save_state

    def save_and_stop(folder, state):
        original(folder, state)
        if state["epoch"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(story, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            grow(quick, shallow, heard, "stopped", **longer)
    resume(tmp_path / "stopped")
    whole, resumed = (load_model(tmp_path / name).model.state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
