"""What a run records of each depth: it disturbs nothing, goes on where the run does, and shows what theory says."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from striate.data import load_data
from striate.layers.normalization import Contrast
from striate.models import ConvNet, create_model
from striate.runfolder import RunFolder
from striate.training import resume, train
from striate.training.defaults import resolve
from striate.training.depth import BINS, DepthProbe, hoyer_sparsity, seen_in
from striate.training.session import open_session

RECORD = {"record": "depth"}
ONE_STEP = {"epochs": 1, "steps_per_epoch": 1}


def rows_of(result) -> list[dict[str, Any]]:
    """All but the seconds, which differ from run to run."""
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in RunFolder(result.run).read_depth()
    ]


def weights(result) -> dict[str, Tensor]:
    return load_file(RunFolder(result.run).model)


def of(row: dict[str, Any], key: str) -> list[float]:
    return [one[key] for one in row["layers"]]


def test_recording_changes_no_bit_of_the_training(quick):
    changes = {
        "model": {"dropout": 0.3}, "augment": {"preset": "digits", "mixup": 0.2}, "optimizer": {"optimizer": "adamw"},
    }  # fmt: skip
    silent = train(quick("silent", training={"ema": 0.9, "save_minutes": 1e-6}, **changes))
    watched = train(quick("watched", training={"ema": 0.9, "save_minutes": 1e-6} | RECORD, **changes))
    one, other = weights(silent), weights(watched)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    figures = [[row["train_loss"] for row in RunFolder(run.run).read_metrics()] for run in (silent, watched)]
    assert figures[0] == figures[1]
    assert not RunFolder(silent.run).depth.exists()
    assert [row["epoch"] for row in rows_of(watched)] == [0, 1, 2]


def test_a_resumed_run_goes_on_with_its_record(quick):
    changes = {"augment": {"preset": "digits"}, "schedule": {"epochs": 1, "schedule": "constant"}}
    whole = train(quick("whole", training=RECORD, **changes | {"schedule": {"epochs": 3, "schedule": "constant"}}))
    stopped = train(quick("stopped", training=RECORD, **changes))
    run = RunFolder(stopped.run)
    with run.depth.open("a", encoding="utf-8") as file:  # killed after a line that its last state does not know of
        file.write(json.dumps({"epoch": 2, "layers": []}) + '\n{"epoch": 3, "lay')
    resumed = resume(stopped.run, epochs=3)
    assert rows_of(resumed) == rows_of(whole)
    assert [row["epoch"] for row in rows_of(resumed)] == [0, 1, 2, 3]


def test_gradients_are_those_of_the_loss(quick):
    torch.manual_seed(0)
    model = create_model("compact_s", classes=10, in_channels=1, input_size=8, normalization="none")
    assert isinstance(model, ConvNet)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    result = train(quick(schedule=ONE_STEP, training=RECORD, optimizer={"lr": 1e-9}), model=model)
    first = rows_of(result)[0]
    model.load_state_dict(start)
    options = RunFolder(result.run).read_recipe()
    dataset = load_data(options.data)
    options, spec = resolve(options, dataset, given=model)
    session = open_session(options, spec, dataset, RunFolder(result.run), model)
    batch = DepthProbe(session).batch
    images = batch.images
    found: dict[str, Tensor] = {}
    model.eval()
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(
                lambda _m, _i, out, name=name: found.setdefault(name, out.clone()).view_as(out)
            )
    nn.functional.cross_entropy(model(images), batch.targets, reduction="sum").backward(inputs=list(found.values()))
    assert list(found) == [one["name"] for one in first["layers"]]
    for one in first["layers"]:
        by_image = found[one["name"]].grad.flatten(1).norm(dim=1)
        assert one["gradient"] == pytest.approx(float(by_image.square().mean().sqrt()), rel=1e-4)
        assert one["deviation"] == pytest.approx(float(found[one["name"]].detach().std(correction=0)), rel=1e-4)


def residual(shortcut: str, activation: str, normalization: str = "none", depths: tuple[int, ...] = (4, 4)) -> ConvNet:
    """Pre-activation units, whose sums are left as they are; without shortcuts a plain stack of the same layers."""
    torch.manual_seed(0)
    return create_model(
        "preact_resnet110", classes=10, in_channels=1, input_size=8, widths=(16, 16), depths=depths,
        unit="basic", shortcut=shortcut, activation=activation, normalization=normalization,
    )  # fmt: skip


def steepness(row: dict[str, Any]) -> float:
    """By how much the gradient shrinks from the deepest convolution to the first."""
    norms = of(row, "gradient")[:-1]
    return norms[-1] / norms[0]


def test_sigmoids_starve_the_first_layers_of_a_plain_stack_and_not_of_a_residual_one(quick):
    changes = {"data": {"data": "digits", "limit": 128}, "schedule": {"epochs": 2}, "optimizer": {"lr": 0.01}}
    plain, summed, relu = (
        rows_of(train(quick(name, training=RECORD, **changes), model=residual(*kind)))
        for name, kind in {
            "plain": ("none", "sigmoid"), "residual": ("A", "sigmoid"), "relu": ("none", "relu"),
        }.items()
    )  # fmt: skip
    for row in (plain[0], plain[-1]):
        assert steepness(row) > 1e6, "a product of 16 factors below 1"
        falls = np.diff(np.log(of(row, "gradient")[:-1]))
        assert (falls > 0).mean() > 0.9, "less with every layer"
    for row in (summed[0], summed[-1], relu[0]):
        assert 0.02 < steepness(row) < 50


def test_a_planted_dead_rectifier_is_counted_and_stays_dead(quick):
    torch.manual_seed(0)
    model = create_model("compact_s", classes=10, in_channels=1, input_size=8, normalization="none")
    convolution = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        convolution.bias[[2, 5, 11]] = -1e4
    rows = rows_of(train(quick(training=RECORD, regularize={"weight_decay": 0.0}), model=model))
    for row in rows:
        first = row["rectifiers"][0]
        assert first["after"] == row["layers"][0]["name"]
        assert first["dead"] == 3 < first["units"]
        assert 0.0 < first["active"] < 1.0


class Clamp(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.clamp(min=0)


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(0, 1), Clamp()])
def test_a_rectifier_is_found_in_every_guise_and_nothing_else_is_one(rectifier):
    layers = [nn.Conv2d(1, 4, 3), rectifier, Contrast(), nn.Conv2d(4, 2, 3), nn.Sigmoid()]
    with torch.no_grad():
        layers[0].bias.copy_(torch.tensor([-1e3, 0.0, 0.0, 0.0]))
    model = nn.Sequential(*layers)
    with seen_in(model) as (found, rectifiers):
        model(torch.randn(8, 1, 9, 9, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert [one.name for one in found] == ["0", "3"]
    assert all(one.gradient is not None for one in found), "also of an output that is changed in place"
    assert [(one.after, one.silent.tolist()) for one in rectifiers] == [("0", [True, False, False, False])]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_l1_leaves_fewer_weights_than_l2(quick):  # M073
    changes = {"schedule": {"epochs": 5, "schedule": "constant"}, "optimizer": {"lr": 0.1, "optimizer": "sgd"}}
    sparse, dense = (
        rows_of(
            train(
                quick(name, training=RECORD, regularize=pull, **changes), model=residual("A", "relu", "batch", (1, 1))
            )
        )
        for name, pull in {"l1": {"l1": 4e-3, "weight_decay": 0.0}, "l2": {"weight_decay": 1e-2}}.items()
    )
    assert sparse[0] == dense[0]
    assert all(np.subtract(of(sparse[-1], "sparsity"), of(dense[-1], "sparsity"))[1:-1] > 0.05)


def test_the_histogram_counts_every_weight_about_zero(quick):
    result = train(quick(training=RECORD, schedule=ONE_STEP))
    stored = weights(result)
    for one in rows_of(result)[-1]["layers"]:
        values = stored[f"{one['name']}.weight"].flatten()
        assert len(one["histogram"]) == BINS
        assert sum(one["histogram"]) == values.numel()
        assert one["edge"] == pytest.approx(float(values.abs().max()), rel=1e-5)
        width = 2 * one["edge"] / BINS
        middle = int((values.abs() < width / 2).sum())
        assert abs(one["histogram"][BINS // 2] - middle) <= 2


def test_hoyers_sparsity_at_its_ends():
    assert hoyer_sparsity(torch.ones(100)) == pytest.approx(0.0, abs=1e-6)
    assert hoyer_sparsity(torch.eye(1, 100).flatten()) == pytest.approx(1.0)
    gaussian = hoyer_sparsity(torch.randn(100_000, generator=torch.Generator().manual_seed(0)))
    assert gaussian == pytest.approx(1 - math.sqrt(2 / math.pi), abs=0.01)


def test_frozen_layers_have_no_gradient(quick):
    source = train(quick("source"))
    result = train(
        quick("tuned", training=RECORD, model={"from": str(source.run)},
              transfer={"freeze_to": "group1"})
    )  # fmt: skip
    layers = rows_of(result)[-1]["layers"]
    learning = [one["name"] for one in layers if one["weight_gradient"] is not None]
    assert learning
    assert all(one["name"].startswith(("stages.group2", "head")) for one in layers if one["name"] in learning)
    assert layers[0]["gradient"] is None
