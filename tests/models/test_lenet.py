"""LeNet-5 as published: its output units, its criterion, its start."""

import math

import pytest
import torch
from torch import nn

from striate.layers.activations import ScaledTanh
from striate.layers.pooling import TrainableSubsampling
from striate.layers.sparse import SparseConv2d
from striate.models import create_model
from striate.models.digit_bitmaps import class_codes
from striate.models.lenet import C3_TABLE


def test_codes_are_distinct_bitmaps_of_ink_and_paper():
    codes = torch.tensor(class_codes(10))
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1, 1}
    differing = (codes[:, None] != codes[None]).sum(-1) + 84 * torch.eye(10, dtype=torch.long)
    assert differing.min() >= 6  # digits that look alike (3 and 8) have codes that are alike
    assert torch.equal(codes.view(10, 12, 7)[:, 0], -torch.ones(10, 7, dtype=torch.long))  # a margin above


def test_codes_beyond_the_digits_depend_on_the_class_alone_and_lie_far_apart():
    codes = torch.tensor(class_codes(40))
    assert class_codes(12)[11] == class_codes(40)[11]
    assert class_codes(3) == class_codes(10)[:3]
    differing = (codes[10:, None] != codes[None, 10:]).sum(-1) + 84 * torch.eye(30, dtype=torch.long)
    assert differing.min() >= 20


def test_logits_are_minus_the_squared_distances():
    output = create_model("lenet5_1998").head.output
    units = output.codes.clone()
    logits = output(units)
    assert torch.equal(logits.diagonal(), torch.zeros(10))
    differing = (output.codes[0] != output.codes[1]).sum().item()
    assert logits[0, 1].item() == -4 * differing  # two codes differ by 2 in each such place
    assert not list(output.parameters())


def test_criterion_is_equation_nine():
    """y_D + log(e^-j + sum e^-y) by hand for one image with distances 1, 2 and 3, class 1, j = 0.1."""
    model = create_model("lenet5_1998", classes=3)
    logits, target = torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([1])
    expected = 2 + math.log(math.exp(-0.1) + math.exp(-1) + math.exp(-2) + math.exp(-3))
    assert model.loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_criterion_stops_pushing_classes_that_are_far():
    model = create_model("lenet5_1998", classes=2)
    near = torch.tensor([[-1.0, -1.0]], requires_grad=True)
    far = torch.tensor([[-1.0, -30.0]], requires_grad=True)
    for logits in (near, far):
        model.loss(logits, torch.tensor([0])).backward()
    assert near.grad is not None
    assert far.grad is not None
    assert near.grad[0, 1] > 0.1
    assert far.grad[0, 1] < 1e-9
    # Unlike cross-entropy, the right class is drawn in even when every other is far.
    assert far.grad[0, 0] < -0.5


def test_layers_are_the_papers():
    model = create_model("lenet5_1998").eval()
    shapes = {}
    for name, module in [("c1", model.stem.c1), *model.stages.named_children(), ("f6", model.head.f6)]:
        module.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    model(torch.randn(1, 1, 32, 32))
    assert shapes == {
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120, 1, 1),
        "f6": (84,),
    }
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(ScaledTanh) == 6  # C1, S2, C3, S4, C5, F6
    assert kinds.count(TrainableSubsampling) == 2
    assert model.stages.c3.conv.table == C3_TABLE


def test_start_is_uniform_within_the_papers_bound():
    """±2.4/F_in: 25 inputs for C1, 75 to 150 for C3, 4 for S2."""
    torch.manual_seed(0)
    model = create_model("lenet5_1998")
    assert model.stem.c1.conv.weight.abs().max().item() == pytest.approx(2.4 / 25, rel=0.05)
    for weight, fan_in, _ in model.stages.c3.conv.units():
        assert weight.abs().max().item() == pytest.approx(2.4 / fan_in, rel=0.1)
    assert model.stages.s2.pool.coefficient.abs().max().item() <= 0.6


def test_dense_reading_is_what_people_expect():
    kinds = [type(module) for module in create_model("lenet5").modules()]
    assert kinds.count(nn.ReLU) == 4
    assert kinds.count(nn.MaxPool2d) == 2
    assert SparseConv2d not in kinds
    assert isinstance(create_model("lenet5", activation="tanh").stem.c1.activation, nn.Tanh)
