"""Optimisers: torch's own numbers, in the groups we say, without the compiler. Facts M067-M070, M091, M092, M098."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from striate.options import OptimizerOptions, RegularizeOptions
from striate.training.objective import add_l1_gradient
from striate.training.optimizers import make_optimizer, parameter_groups


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Module()
    model.stem = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    model.head = nn.Linear(3, 2)
    return model


def options(**changes) -> OptimizerOptions:
    return OptimizerOptions(**({"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False} | changes))


def set_gradients(model: nn.Module, value: float) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (
            options(momentum=0.9, nesterov=True),
            lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True),
        ),
        (
            options(optimizer="rmsprop", momentum=0.5),
            lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.5, weight_decay=0.01),
        ),
        (options(optimizer="adamw", lr=0.01), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.01)),
    ],
)
def test_updates_equal_torchs(ours, reference):
    model, copy = network(), network()
    everything = RegularizeOptions(weight_decay=0.01, decay_norms_and_biases=True)
    optimizer, expected = make_optimizer(model, ours, everything), reference(copy.parameters())
    torch.manual_seed(1)
    for _ in range(5):
        for mine, theirs in zip(model.parameters(), copy.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            theirs.grad = mine.grad.clone()
        optimizer.step()
        expected.step()
    for mine, theirs in zip(model.parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_an_optimiser_does_not_import_the_compiler():
    code = (
        "import sys, torch; from torch import nn\n"
        "from striate.options import OptimizerOptions, RegularizeOptions\n"
        "from striate.training.optimizers import make_optimizer\n"
        "for name in ('sgd', 'rmsprop', 'adamw', 'muon'):\n"
        "    model = nn.Linear(2, 2)\n"
        "    o = make_optimizer(model, OptimizerOptions(optimizer=name, lr=0.1, momentum=0.9, nesterov=False),"
        " RegularizeOptions(weight_decay=0.1))\n"
        "    model(torch.ones(1, 2)).sum().backward(); o.step(); o.zero_grad(); o.load_state_dict(o.state_dict())\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_norms_and_biases_are_spared_by_default():
    groups = {group["name"]: group for group in parameter_groups(network(), RegularizeOptions(weight_decay=0.1))}
    assert [tuple(p.shape) for p in groups["body"]["params"]] == [(3, 1, 3, 3)]
    assert [tuple(p.shape) for p in groups["head"]["params"]] == [(2, 3)]
    assert len(groups["spared"]["params"]) == 4
    assert groups["spared"]["weight_decay"] == 0.0
    assert groups["body"]["weight_decay"] == groups["head"]["weight_decay"] == 0.1


def test_two_decay_groups():  # M068
    regularize = RegularizeOptions(weight_decay=0.1, head_weight_decay=0.3)
    groups = {group["name"]: group["weight_decay"] for group in parameter_groups(network(), regularize)}
    assert groups == {"body": 0.1, "head": 0.3, "spared": 0.0}


def test_one_step_without_gradient_shrinks_weights_by_one_minus_rate_times_decay():  # M067
    model = network()
    before = model.head.weight.detach().clone()
    set_gradients(model, 0.0)
    make_optimizer(model, options(lr=0.1), RegularizeOptions(weight_decay=0.5)).step()
    torch.testing.assert_close(model.head.weight.detach(), before * (1 - 0.1 * 0.5))


def test_momentum_by_hand():  # M092: constant gradient 1, rate 0.1, momentum 0.9
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = make_optimizer(model, options(momentum=0.9), RegularizeOptions(weight_decay=0.0))
    positions = []
    for _ in range(4):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
        positions.append(round(float(model.weight.detach()), 6))
    assert positions == [-0.1, -0.29, -0.561, -0.9049]
    for _ in range(400):
        before = float(model.weight.detach())
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
    assert before - float(model.weight.detach()) == pytest.approx(
        1.0, rel=1e-3
    )  # the limit step: rate / (1 - momentum)


def test_momentum_carries_across_a_plateau():  # M093: displacement up to 10 times plain SGD's for momentum 0.9
    moved = {}
    for momentum in (0.0, 0.9):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        optimizer = make_optimizer(model, options(momentum=momentum), RegularizeOptions(weight_decay=0.0))
        for _ in range(200):
            model.weight.grad = torch.full_like(model.weight, 1e-3)
            optimizer.step()
        moved[momentum] = abs(float(model.weight.detach()))
    assert 9 < moved[0.9] / moved[0.0] <= 10


def test_alexnets_update_rule_is_sgd_with_momentum_and_decay_at_a_constant_rate():  # M098
    rate, decay = 0.01, 0.0005
    model = nn.Linear(3, 1, bias=False)
    weight = model.weight.detach().clone()
    velocity = torch.zeros_like(weight)
    optimizer = make_optimizer(model, options(lr=rate, momentum=0.9), RegularizeOptions(weight_decay=decay))
    torch.manual_seed(2)
    for _ in range(6):
        gradient = torch.randn_like(weight)
        velocity = 0.9 * velocity - decay * rate * weight - rate * gradient
        weight = weight + velocity
        model.weight.grad = gradient
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), weight, rtol=1e-5, atol=1e-7)


def test_l1_gradient_is_the_sign_and_spares_what_decay_spares():  # M070
    model = network()
    optimizer = make_optimizer(model, options(), RegularizeOptions(weight_decay=0.0))
    set_gradients(model, 0.0)
    add_l1_gradient(optimizer, 0.25)
    torch.testing.assert_close(model.head.weight.grad, 0.25 * model.head.weight.detach().sign())
    assert not model.head.bias.grad.any()


def test_l1_makes_weights_sparse_and_l2_small():  # M069, M070: R(W) for W = [[1, -2], [3, 0]] and what each does
    matrix = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    assert float((matrix**2).sum()) == 14.0
    assert float(matrix.abs().sum()) == 6.0
    ends = {}
    for l1, l2 in ((0.5, 0.0), (0.0, 0.5)):
        model = nn.Linear(2, 2, bias=False)
        model.weight.data.copy_(matrix * 0.1)
        optimizer = make_optimizer(model, options(lr=0.01), RegularizeOptions(weight_decay=l2, l1=l1))
        for _ in range(100):
            set_gradients(model, 0.0)
            add_l1_gradient(optimizer, l1)
            optimizer.step()
        ends[l1] = model.weight.detach()
    assert float(ends[0.5].abs().max()) <= 0.005  # at zero, up to the last sub-gradient step
    assert float(ends[0.0].abs().max()) > 0.1  # shrunk, not zero
