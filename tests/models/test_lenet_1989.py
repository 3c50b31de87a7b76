"""The networks of 1989 and 1990: their borders, tables, private biases, targets, and that they learn."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from striate.errors import ModelError
from striate.layers.activations import ScaledTanh
from striate.layers.local import LocalConv2d
from striate.layers.sparse import SparseConv2d
from striate.models import create_model
from striate.models.lenet_1989 import H2_TABLE

NETS = [f"lecun1989_net{number}" for number in range(1, 6)]
OF_1989 = [*NETS, "lenet_1989_zip"]


def test_the_zip_code_network_by_hand():
    """The same from plain operations: borders of -1, shared weights, a bias for each unit, maps by the table."""
    torch.manual_seed(0)
    model = create_model("lenet_1989_zip").double().eval()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64) * 2 - 1

    def squash(x):
        return 1.7159 * torch.tanh(2 / 3 * x)

    h1, h2 = model.stem.h1.conv, model.stages.h2.conv
    x = F.conv2d(F.pad(images, (2, 2, 2, 2), value=-1.0), h1.weight[:, None], stride=2)
    x = F.pad(squash(x + h1.bias), (2, 2, 2, 2), value=-1.0)
    maps = [
        F.conv2d(x[:, list(inputs)], h2.weight[8 * row : 8 * row + 8][None], stride=2)
        for row, inputs in enumerate(H2_TABLE)
    ]
    x = squash(torch.cat(maps, 1) + h2.bias).flatten(1)
    x = squash(F.linear(x, model.head.h3.weight, model.head.h3.bias))
    expected = squash(F.linear(x, model.head.output.weight, model.head.output.bias))
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("name", OF_1989)
def test_white_paper_has_no_border(name):
    """With every bias of a layer equal, the units of a map that see only -1 agree, at the border and inside."""
    model = create_model(name).eval()
    with torch.no_grad():
        for module in model.stem.modules():
            if isinstance(module, LocalConv2d | SparseConv2d):
                module.weight.fill_(0.1)
                module.bias.fill_(0.3)
    maps = model.stem(torch.full((1, 1, 16, 16), -1.0))
    torch.testing.assert_close(maps, maps[:, :, :1, :1].expand_as(maps))


def test_what_tells_the_five_apart():
    def kinds(name):
        layers = [module for module in create_model(name).modules() if isinstance(module, LocalConv2d | SparseConv2d)]
        return [(type(layer).__name__, layer.bias.shape[0]) for layer in layers]

    assert [kinds(name) for name in NETS] == [
        [],
        [],
        [("LocalConv2d", 1), ("LocalConv2d", 1)],
        [("SparseConv2d", 2), ("LocalConv2d", 1)],
        [("SparseConv2d", 2), ("SparseConv2d", 4)],
    ]
    assert [create_model(name).head.output.in_features for name in NETS] == [256, 12, 16, 16, 64]
    assert [len(create_model(name).stages) for name in NETS] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", [*OF_1989, "lenet1_1990"])
def test_every_unit_is_squashed_the_outputs_too(name):
    model = create_model(name)
    kinds = [type(module) for module in model.modules()]
    units = {"lecun1989_net1": 1, "lecun1989_net2": 2, "lenet_1989_zip": 4, "lenet1_1990": 5}.get(name, 3)
    assert kinds.count(ScaledTanh) == units
    outputs = model(100 * torch.randn(4, *(1, *model.architecture.input_size)))
    assert outputs.abs().max() <= 1.7159


def test_h2_needs_maps_to_read():
    with pytest.raises(ModelError, match="no H2 'shared'"):
        create_model("lecun1989_net2", h2="shared")
    with pytest.raises(ModelError, match="no activation 'maxout'"):
        create_model("lenet_1989_zip", activation="maxout")


def test_the_squared_error_against_plus_and_minus_one():
    model = create_model("lenet_1989_zip", classes=3)
    outputs, target = torch.tensor([[0.5, -1.0, 1.0]]), torch.tensor([2])
    assert model.loss(outputs, target).item() == pytest.approx((1.5**2 + 0 + 0) / 3)
    best = torch.tensor([[-1.0, -1.0, 1.0]])
    assert model.loss(best, target).item() == 0
    # a tenth of the target spread over three classes: 2 (0.9 + 0.1/3) - 1 and twice 2 (0.1/3) - 1
    smooth = ((1 - (2 * (0.9 + 0.1 / 3) - 1)) ** 2 + 2 * (-1 - (2 * 0.1 / 3 - 1)) ** 2) / 3
    assert model.loss(best, target, label_smoothing=0.1).item() == pytest.approx(smooth)


@pytest.mark.parametrize("name", [*OF_1989, "lenet1_1990"])
def test_start_is_uniform_within_the_papers_bound(name):
    torch.manual_seed(0)
    model = create_model(name)
    for module in model.modules():
        if isinstance(module, SparseConv2d | LocalConv2d):
            for weight, fan_in, _ in module.units():
                assert 0.6 < weight.abs().max().item() * fan_in / 2.4 <= 1
            assert module.bias.any()
        elif isinstance(module, nn.Linear):
            assert 0.8 < module.weight.abs().max().item() * module.in_features / 2.4 <= 1


@pytest.mark.parametrize(("name", "rate"), [("lenet_1989_zip", 0.1), ("lenet1_1990", 0.05)])
def test_learns_digits(name, rate):
    """400 of scikit-learn's 8x8 digits, enlarged to 16x16, and 400 others to test, in a few seconds."""
    torch.manual_seed(0)
    model = create_model(name)
    bunch = load_digits()
    chosen = torch.randperm(len(bunch.target))[:800]
    digits = torch.tensor(bunch.images, dtype=torch.float32)[chosen, None] / 8 - 1
    labels = torch.tensor(bunch.target)[chosen]
    border = (model.architecture.input_size[0] - 16) // 2  # LeNet-1: a digit of 16x16 in the middle
    images = F.pad(F.interpolate(digits, size=(16, 16), mode="bilinear"), (border,) * 4, value=-1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(20):
        for batch in torch.randperm(400).split(8 if name == "lenet1_1990" else 16):
            optimizer.zero_grad()
            model.loss(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    assert right[:400].float().mean() >= 0.95
    assert right[400:].float().mean() >= 0.92
