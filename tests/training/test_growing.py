"""`--from RUN --model DEEPER`: a run's network grows into a deeper one of its family."""

import pytest
import torch

from striate.checkpoint import load_model
from striate.errors import ModelError
from striate.training import train

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
