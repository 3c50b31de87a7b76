"""Muon: orthogonal steps for kernels and matrices, torch's own SGD for the rest, rates by group."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from striate.options import OptimizerOptions, RegularizeOptions
from striate.training.muon import orthogonalised
from striate.training.optimizers import make_optimizer


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Module()
    model.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model.stages = nn.Sequential(nn.Linear(12, 6, bias=False))
    model.head = nn.Linear(6, 2)
    return model


def options(**changes) -> OptimizerOptions:
    given = {"optimizer": "muon", "lr": 0.1, "head_lr": 0.3, "bias_lr": 0.7, "momentum": 0.8, "nesterov": True}
    return OptimizerOptions(**(given | changes))


def random_gradients(*models: nn.Module) -> None:
    for same in zip(*(model.parameters() for model in models), strict=True):
        gradient = torch.randn_like(same[0])
        for parameter in same:
            parameter.grad = gradient.clone()


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (16, 3, 3, 3), (64, 2, 2, 2)])
def test_a_step_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    torch.manual_seed(1)
    direction = torch.randn(shape)
    left, values, right = torch.linalg.svd(direction.flatten(1), full_matrices=False)
    left, right = left[:, values > 0.1 * values[0]], right[values > 0.1 * values[0]]
    found = left.T @ orthogonalised(direction).flatten(1) @ right.T
    factor = max(1.0, direction.flatten(1).shape[0] / direction.flatten(1).shape[1]) ** 0.5
    assert (found.diagonal() / factor).min() > 0.65
    assert (found.diagonal() / factor).max() < 1.25
    assert (found - found.diagonal().diag()).abs().max() < 1e-4  # the singular vectors are those of the direction


def test_a_matrix_moves_as_with_torchs_muon():
    """torch's iterates in bfloat16, hence the tolerance; its decay and its scaling are the same."""
    torch.manual_seed(2)
    mine, theirs = network(), network()
    ours = make_optimizer(mine, options(lr=0.05), RegularizeOptions(weight_decay=0.1))
    weight = theirs.stages[0].weight
    reference = torch.optim.Muon([weight], lr=0.05, weight_decay=0.1, momentum=0.8, nesterov=True)
    for _ in range(4):
        random_gradients(mine, theirs)
        ours.step()
        reference.step()
    torch.testing.assert_close(mine.stages[0].weight, weight, rtol=0, atol=6e-3)
    moved = (mine.stages[0].weight - network().stages[0].weight).abs().max()
    assert moved > 0.05  # well above the tolerance


def test_head_and_vectors_move_as_with_torchs_sgd_at_their_own_rates():
    mine, theirs = network(), network()
    decaying = RegularizeOptions(weight_decay=0.01, head_weight_decay=0.02, decay_norms_and_biases=True)
    ours = make_optimizer(mine, options(), decaying)
    vectors = [parameter for parameter in theirs.parameters() if parameter.ndim < 2]
    common = {"momentum": 0.8, "nesterov": True}
    references = [
        torch.optim.SGD([theirs.head.weight], 0.3, weight_decay=0.02, **common),
        torch.optim.SGD(vectors, 0.7, weight_decay=0.01, **common),
    ]
    for _ in range(4):
        random_gradients(mine, theirs)
        for optimizer in (ours, *references):
            optimizer.step()
    torch.testing.assert_close(mine.head.weight, theirs.head.weight)
    got = [parameter for parameter in mine.parameters() if parameter.ndim < 2]
    torch.testing.assert_close(got, vectors)


def test_rates_by_group_hold_for_any_optimiser():
    ours = make_optimizer(network(), options(optimizer="sgd"), RegularizeOptions(weight_decay=0.1))
    assert {group["name"]: group["lr"] for group in ours.param_groups} == {"body": 0.1, "head": 0.3, "spared": 0.7}
    plain = options(optimizer="sgd", head_lr=None, bias_lr=None)
    ours = make_optimizer(network(), plain, RegularizeOptions(weight_decay=0.1))
    assert {group["lr"] for group in ours.param_groups} == {0.1}


def test_a_loaded_state_goes_on_to_the_bit():
    first = network()
    ours = make_optimizer(first, options(), RegularizeOptions(weight_decay=0.1))
    random_gradients(first)
    ours.step()
    second = network()
    second.load_state_dict(first.state_dict())
    other = make_optimizer(second, options(), RegularizeOptions(weight_decay=0.1))
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    random_gradients(first, second)
    ours.step()
    other.step()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
