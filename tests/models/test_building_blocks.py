"""What the building blocks of the architectures cost and do (section G of the methods)."""

import torch
import torch.nn.functional as F
from torch import nn

from striate.layers.residual import Bottleneck
from striate.models import create_model
from striate.models.xception import SeparableConv2d


def weights_of(module: nn.Module) -> int:
    """Weights of convolutions, without biases and normalisation."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d))


def test_the_classic_layout():
    """M113: LeNet-5 is conv, pool, conv, pool and dense layers, 5x5 at stride 1 and 2x2 at stride 2.

    The first of the dense layers is a 5x5 convolution on 5x5 maps, which leaves one pixel.
    """
    model = create_model("lenet5_dense")
    found = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            found.append(("conv", layer.kernel_size, layer.stride))
        elif isinstance(layer, nn.MaxPool2d):
            found.append(("pool", (layer.kernel_size,) * 2, (layer.stride,) * 2))
        elif isinstance(layer, nn.Linear):
            found.append(("dense", layer.in_features, layer.out_features))
    conv, pool = ("conv", (5, 5), (1, 1)), ("pool", (2, 2), (2, 2))
    assert found == [conv, pool, conv, pool, conv, ("dense", 120, 84), ("dense", 84, 10)]
    assert model.features(torch.zeros(1, 1, 32, 32)).shape == (1, 120, 1, 1)


def test_a_bottleneck_narrows_looks_and_widens_by_four():
    """M118: 256 -> 64 -> 64 -> 256 by 1x1, 3x3, 1x1: 69,632 weights, where two 3x3 on 256 maps have 1,179,648."""
    unit = Bottleneck(256, 64)
    shapes = [tuple(layer.weight.shape) for layer in unit.modules() if isinstance(layer, nn.Conv2d)]
    assert shapes == [(64, 256, 1, 1), (64, 64, 3, 3), (256, 64, 1, 1)]
    assert weights_of(unit) == 69_632
    assert 2 * nn.Conv2d(256, 256, 3).weight.numel() == 1_179_648


def test_an_mlpconv_is_a_small_network_at_every_pixel():
    """M125: a convolution and 1x1 convolutions are the same dense layers applied to each window."""
    torch.manual_seed(0)
    mlpconv = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 1), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.ReLU())
    image = torch.randn(1, 2, 6, 6)
    values = F.unfold(image, 3)[0].T  # [windows, 18]
    for layer in mlpconv:
        values = (
            F.linear(values, layer.weight.flatten(1), layer.bias) if isinstance(layer, nn.Conv2d) else layer(values)
        )
    torch.testing.assert_close(mlpconv(image)[0].flatten(1).T, values)
    sides = [layer.kernel_size[0] for layer in create_model("nin_cifar").modules() if isinstance(layer, nn.Conv2d)]
    assert sides == [5, 1, 1, 5, 1, 1, 3, 1, 1]


def test_a_separable_convolution_treats_space_and_channels_apart():
    """M128: one filter a map and then 1x1, exactly the 3x3 convolution whose filters are those products."""
    torch.manual_seed(0)
    layer = SeparableConv2d(4, 6, bias=False).double()
    depthwise, pointwise = (one for one in layer.modules() if isinstance(one, nn.Conv2d))
    assert weights_of(layer) == 4 * 9 + 4 * 6
    product = pointwise.weight * depthwise.weight[:, 0][None]  # [6, 4, 1, 1] * [1, 4, 3, 3]
    maps = torch.randn(1, 4, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(maps), F.conv2d(maps, product, padding=1))


def test_a_row_and_a_column_in_place_of_a_square():
    """M129: 2n in place of n² weights, 14 for 49; together they are a square of rank one."""
    torch.manual_seed(0)
    row, column = nn.Conv2d(1, 1, (1, 7), bias=False), nn.Conv2d(1, 1, (7, 1), bias=False)
    assert (weights_of(row) + weights_of(column), nn.Conv2d(1, 1, 7).weight.numel()) == (14, 49)
    square = column.weight * row.weight
    assert torch.linalg.matrix_rank(square[0, 0]) == 1
    image = torch.randn(1, 1, 12, 12)
    torch.testing.assert_close(column(row(image)), F.conv2d(image, square), atol=1e-5, rtol=1e-4)
    sides = {
        layer.kernel_size
        for layer in create_model("inception_v3", start=False).modules()
        if isinstance(layer, nn.Conv2d)
    }
    assert {(1, 7), (7, 1)} <= sides
    assert (7, 7) not in sides
