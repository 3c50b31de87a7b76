"""What a convolutional layer is, and where it is worth having (section A of the methods)."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from striate.anatomy.arithmetic import layer_arithmetic
from striate.data import TensorImages, load_data
from striate.layers.initialise import caffe_xavier
from striate.layers.local import LocalConv2d
from striate.layers.sparse import SparseConv2d, every_map
from striate.layers.units import ConvUnit
from striate.models import create_model

LAYERS = {
    "conv": lambda: nn.Conv2d(2, 4, 3),
    "local": lambda: LocalConv2d(2, 4, 3, (7, 7)),
    "sparse": lambda: SparseConv2d(2, every_map(4, 2), 3),
}


def double(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def descended(
    network: nn.Module, images: Tensor, rate: float, steps: int, loss: Callable[[Tensor], Tensor]
) -> nn.Module:
    """`network` after so many steps of plain gradient descent with momentum on all images."""
    parameters = list(network.parameters())
    speeds = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(network(images)), parameters)
        with torch.no_grad():
            for parameter, speed, gradient in zip(parameters, speeds, gradients, strict=True):
                parameter -= rate * speed.mul_(0.9).add_(gradient)
    return network.eval()


@pytest.mark.parametrize("kind", LAYERS)
def test_the_depth_of_the_maps_is_the_number_of_filters(kind):
    """M015."""
    assert LAYERS[kind]()(torch.randn(1, 2, 7, 7)).shape == (1, 4, 5, 5)
    assert layer_arithmetic(7, 3, channels=2, filters=4).output == (4, 5, 5)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_unit_is_the_sum_over_channels_and_window_then_the_activation(side):
    """M017: h[z,i,j] = relu(sum over c, m, n of w[c,z,m,n] x[i+m-M//2, j+n-M//2, c] + b[z]), zero outside the image."""
    unit = ConvUnit(2, 3, side, normalization="none", activation="relu").double()
    image, half = double(2, 4, 5), side // 2
    weight, bias = unit.conv.weight.tolist(), unit.conv.bias.tolist()
    found = unit(image[None])[0].tolist()
    for z in range(3):
        for i in range(4):
            for j in range(5):
                total = bias[z]
                for c in range(2):
                    for m in range(side):
                        for n in range(side):
                            row, column = i + m - half, j + n - half
                            if 0 <= row < 4 and 0 <= column < 5:
                                total += weight[z][c][m][n] * float(image[c, row, column])
                assert found[z][i][j] == pytest.approx(max(0.0, total), abs=1e-12)


def test_one_unit_by_hand():
    """M017: two channels, a corner and the centre."""
    unit = ConvUnit(2, 1, 3, normalization="none", activation="relu")
    with torch.no_grad():
        unit.conv.weight.copy_(torch.arange(18.0).reshape(1, 2, 3, 3))
        unit.conv.bias.fill_(-100.0)
    maps = unit(torch.stack([torch.ones(3, 3), 2 * torch.ones(3, 3)])[None])[0, 0]
    assert maps[1, 1] == 36 + 234 - 100  # 0 + ... + 8 = 36, and 2 (9 + ... + 17) = 234
    assert maps[0, 0] == 24 + 120 - 100  # 4 + 5 + 7 + 8 = 24, and 2 (13 + 14 + 16 + 17) = 120
    assert maps[2, 2] == 0  # 0 + 1 + 3 + 4 = 8, and 2 (9 + 10 + 12 + 13) = 88: below the threshold


def test_without_an_activation_a_layer_is_linear_and_has_a_bias_for_each_filter():
    """M018: a(x) = x; and weights and biases start each in their own way."""
    torch.manual_seed(0)
    unit = ConvUnit(3, 5, 3, normalization="none", activation="linear").double()
    assert unit.conv.bias.shape == (5,)
    one, other = double(1, 3, 6, 6), double(1, 3, 6, 6)
    at_zero = unit(torch.zeros_like(one))
    torch.testing.assert_close(at_zero, unit.conv.bias[None, :, None, None].expand(1, 5, 6, 6))
    torch.testing.assert_close(
        unit(2 * one - 3 * other) - at_zero, 2 * (unit(one) - at_zero) - 3 * (unit(other) - at_zero)
    )
    bent = nn.Sequential(unit, nn.ReLU())
    assert not torch.allclose(bent(-one), 2 * bent(torch.zeros_like(one)) - bent(one))
    caffe_xavier(unit, torch.Generator().manual_seed(0), bias=0.2)
    assert (unit.conv.bias == 0.2).all()
    assert 0.9 * math.sqrt(3 / 27) < unit.conv.weight.abs().max() <= math.sqrt(3 / 27)


def test_a_kernel_is_learned_from_what_it_should_answer():
    """M021: back-propagation turns a random kernel into the one that made the targets."""
    torch.manual_seed(0)
    edges = torch.tensor([[[[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]]])
    images = torch.randn(8, 1, 12, 12)
    wanted = F.conv2d(images, edges) + 0.5
    layer = descended(nn.Conv2d(1, 1, 3), images, 0.05, 250, lambda answer: F.mse_loss(answer, wanted))
    torch.testing.assert_close(layer.weight.detach(), edges, atol=1e-3, rtol=0)
    assert layer.bias.item() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("kind", LAYERS)
def test_each_output_depends_on_its_window_alone(kind):
    """M022, M024: on K² C inputs, 18 of 98, in rows i to i + K - 1 and columns j to j + K - 1."""
    torch.manual_seed(0)
    layer = LAYERS[kind]().double()
    slopes = jacobian(lambda image: layer(image[None])[0], double(2, 7, 7))
    for i, j in ((0, 0), (2, 3), (4, 4)):
        for z in range(4):
            support = slopes[z, i, j] != 0
            assert support.sum() == 3 * 3 * 2
            assert support[:, i : i + 3, j : j + 3].all()


def test_a_map_that_reads_one_map_depends_on_one():
    """M022 for a connection table: K² times the maps that are read."""
    layer = SparseConv2d(3, [[0], [0, 2], [0, 1, 2]], 3).double()
    slopes = jacobian(lambda image: layer(image[None])[0], double(3, 5, 5))
    assert [int((slopes[z, 1, 1] != 0).sum()) for z in range(3)] == [9, 18, 27]


def test_shared_parameters_do_not_grow_with_the_image():
    """M023; those of a locally connected and of a fully connected layer do."""
    small, large = (create_model("cifar_resnet20", input_size=side, start=False) for side in (32, 64))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (small, large)]
    assert counts == [269_722, 269_722]
    assert [layer_arithmetic(side, 3, channels=2, filters=4).weights for side in (7, 700)] == [72, 72]
    # (7 - 3 + 1)² = 25 and (9 - 3 + 1)² = 49 places, each with 72 weights of its own
    assert [LocalConv2d(2, 4, 3, (side, side)).weight.numel() for side in (7, 9)] == [25 * 72, 49 * 72]
    same = nn.Conv2d(1, 1, 3)
    image = torch.zeros(1, 1, 9, 9)
    image[..., 1:4, 1:4] = image[..., 5:8, 5:8] = torch.randn(3, 3)
    maps = same(image)
    torch.testing.assert_close(maps[..., 1, 1], maps[..., 5, 5])  # one kernel at every place


def test_a_shifted_image_gives_a_dense_layer_an_unrelated_pattern():
    """M027: for a shifted image a convolution gives the same values elsewhere, a dense layer others."""
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 12, 12)
    image[..., 3:7, 3:7] = torch.rand(4, 4)
    shifted = image.roll((2, 2), (2, 3))
    conv, dense = nn.Conv2d(1, 1, 3), nn.Sequential(nn.Flatten(), nn.Linear(144, 100))
    torch.testing.assert_close(conv(shifted).flatten().sort().values, conv(image).flatten().sort().values)
    patterns = [dense(one)[0] - dense[1].bias for one in (image, shifted)]
    assert F.cosine_similarity(*patterns, dim=0).abs() < 0.8
    assert not torch.allclose(patterns[0].sort().values, patterns[1].sort().values, atol=1e-2)


def accuracy(network: nn.Module, images: Tensor, targets: Tensor) -> float:
    return float((network(images).argmax(1) == targets).float().mean())


def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    splits = load_data("digits").splits
    pairs = []
    for name in ("train", "val"):
        images = splits[name].images
        assert isinstance(images, TensorImages)
        pairs.append((images.tensor.float() / 127.5 - 1, torch.from_numpy(splits[name].targets)))
    return pairs[0], pairs[1]


def test_pixels_in_another_order_are_the_same_to_a_dense_network_and_ruin_a_convolutional_one():
    """M027, M031: a convolution is worth having only where neighbours mean something."""
    (images, targets), (others, wanted) = digits()
    images, targets = images[:400], targets[:400]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))

    def mixed(values: Tensor) -> Tensor:
        return values.flatten(2)[..., order].unflatten(2, (8, 8))

    def trained(network: nn.Module, values: Tensor, steps: int) -> nn.Module:
        return descended(network, values, 0.1, steps, lambda answer: F.cross_entropy(answer, targets))

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
    moved = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
    moved.load_state_dict({**plain.state_dict(), "1.weight": plain[1].weight[:, order]})
    trained(plain, images.double(), 10)
    trained(moved, mixed(images.double()), 10)
    torch.testing.assert_close(moved(mixed(others.double())), plain(others.double()))

    def convolutional() -> nn.Module:
        torch.manual_seed(0)
        units = (ConvUnit(1, 16, 3, padding=0), ConvUnit(16, 32, 3, padding=0), nn.AdaptiveAvgPool2d(1))
        return nn.Sequential(*units, nn.Flatten(), nn.Linear(32, 10))  # nothing that could tell one place from another

    ordered = accuracy(trained(convolutional(), images, 30), others, wanted)
    ruined = accuracy(trained(convolutional(), mixed(images), 30), mixed(others), wanted)
    assert ordered > 0.75
    assert ruined < ordered - 0.2


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_cropping_takes_zero_padding_back(dimensions):
    """M034: on a line, a plane and in space, as many on each side as were put there."""
    values = torch.randn(2, 3, *(4, 5, 6)[:dimensions])
    amounts = (1, 2, 0, 3, 4, 1)[: 2 * dimensions]
    pad = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)[dimensions - 1]
    padded = pad(amounts)(values)
    assert padded.shape[-1] == values.shape[-1] + 3
    assert padded.abs().sum() == pytest.approx(float(values.abs().sum()), rel=1e-5)
    assert torch.equal(pad(tuple(-amount for amount in amounts))(padded), values)
