"""Facts of regularisation and optimisation that need no training: M071, M072, M075, M105, M108, M111, M112."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.models import create_model


def test_dropout_as_first_published_equals_the_inverted_form_up_to_scale():  # M071, M072
    keep = 0.5
    mask = (torch.rand(4000, generator=torch.Generator().manual_seed(0)) < keep).float()
    activation = torch.full((4000,), 3.0)
    original_training, original_test = mask * activation, keep * activation
    inverted_training, inverted_test = mask * activation / keep, activation
    torch.testing.assert_close(inverted_training * keep, original_training)
    torch.testing.assert_close(inverted_test * keep, original_test)
    assert float(original_training.mean()) == pytest.approx(float(original_test.mean()), rel=0.05)


def test_dropout_sits_before_the_linear_layer_and_nowhere_else():  # M075
    model = create_model("compact_s", in_channels=1, input_size=8, dropout=0.5)
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    assert places == ["head.dropout"]


def test_copying_layers_of_a_shallow_net_starts_a_deeper_one():  # M105: what VGG's A gave to its deeper nets
    shallow = create_model("cifar_resnet20")
    deeper = create_model("cifar_resnet32")
    ours = deeper.state_dict()
    fitting = {k: v for k, v in shallow.state_dict().items() if k in ours and ours[k].shape == v.shape}
    deeper.load_state_dict(fitting, strict=False)
    assert len(fitting) > len(shallow.state_dict()) // 2
    assert all(torch.equal(deeper.state_dict()[name], value) for name, value in fitting.items())


def test_two_towers_equal_one_grouped_convolution():  # M108
    torch.manual_seed(0)
    whole = nn.Conv2d(8, 12, 5, padding=2, groups=2)
    images = torch.randn(2, 8, 9, 9)
    towers = []
    for half in range(2):
        tower = nn.Conv2d(4, 6, 5, padding=2)
        tower.load_state_dict(
            {"weight": whole.weight[6 * half : 6 * half + 6], "bias": whole.bias[6 * half : 6 * half + 6]}
        )
        towers.append(tower(images[:, 4 * half : 4 * half + 4]))
    torch.testing.assert_close(torch.cat(towers, dim=1), whole(images))


def test_a_residual_stack_adds_and_its_gradient_has_a_direct_path():  # M111
    torch.manual_seed(0)
    branches = [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).double() for _ in range(5)]
    start = torch.randn(6, dtype=torch.float64, requires_grad=True)
    value, residuals = start, []
    for branch in branches:
        residuals.append(branch(value))
        value = value + residuals[-1]
    torch.testing.assert_close(value, start + torch.stack(residuals).sum(dim=0))
    outer = torch.randn(6, dtype=torch.float64)
    (whole,) = torch.autograd.grad(value @ outer, start, retain_graph=True)
    (through_branches,) = torch.autograd.grad(torch.stack(residuals).sum(dim=0) @ outer, start)
    torch.testing.assert_close(whole, outer + through_branches)


def test_a_plain_linear_stack_multiplies_its_gradients():  # M112
    torch.manual_seed(0)
    layers = [torch.randn(4, 4, dtype=torch.float64) for _ in range(6)]
    start = torch.randn(4, dtype=torch.float64, requires_grad=True)
    value = start
    for layer in layers:
        value = layer @ value
    outer = torch.randn(4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(value @ outer, start)
    expected = outer
    for layer in reversed(layers):
        expected = layer.T @ expected
    torch.testing.assert_close(gradient, expected)
