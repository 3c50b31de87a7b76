"""AlexNet against torchvision; AlexNet, CaffeNet and Network in Network against Caffe's layers written out by hand.

Caffe cannot be installed, so what its layers compute is spelt out here by their formulas, with loops.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.normalization import LocalResponse
from striate.models import create_model
from striate.models.reference import fit_state, load_reference
from striate.models.registry.inputs import CAFFE, CAFFE_227

from .agreement import assert_equal_in_float64


@pytest.mark.parametrize("size", [(63, 63), (70, 101), pytest.param((300, 231), marks=pytest.mark.slow)])
def test_torchvision(size):
    """Also where its classifier stretches small maps to 6x6, or averages larger ones."""
    torchvision = pytest.importorskip("torchvision", reason="torchvision is the reference")
    torch.manual_seed(0)
    with torch.device("meta"):
        theirs = torchvision.models.alexnet()
    theirs.classifier[1] = nn.Linear(256 * 36, 32)  # narrow: nine tenths of the work would show nothing more
    theirs.classifier[4] = nn.Linear(32, 32)
    theirs.classifier[6] = nn.Linear(32, 5)
    theirs.features.to_empty(device="cpu")
    for module in theirs.features:
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    ours = create_model("alexnet", classes=5, input_size=size, grid=6, hidden=32, start=False)
    assert_equal_in_float64(ours, theirs, torch.randn(3, 3, *size))


def test_torchvisions_own_state_dict_fits_at_any_size():
    torchvision = pytest.importorskip("torchvision", reason="torchvision is the reference")
    with torch.device("meta"):
        state = torchvision.models.alexnet().state_dict()
        for size, grid in ((224, None), (67, 6), (500, None)):
            fit = fit_state(create_model("alexnet", input_size=size, grid=grid, start=False), state)
            assert fit.complete
            assert fit.naming.publisher == "torchvision"
            assert fit.naming.variations == {"grid": 6}


def caffe_pool(maps: Tensor, kind: str, window: int = 3, stride: int = 2) -> Tensor:
    """The number of windows is rounded up; one that the border cuts takes, or averages, the pixels that it has."""
    height, width = (math.ceil((side - window) / stride) + 1 for side in maps.shape[-2:])
    rows = []
    for row in range(height):
        for column in range(width):
            piece = maps[..., stride * row : stride * row + window, stride * column : stride * column + window]
            rows.append(piece.amax((-2, -1)) if kind == "max" else piece.sum((-2, -1)) / piece[0, 0].numel())
    return torch.stack(rows, dim=-1).unflatten(-1, (height, width))


def caffe_lrn(maps: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x_i (k + alpha / size * sum of x_j² over `size` maps around i)^-beta."""
    squares = maps.square()
    scales = [
        k + alpha / size * squares[:, max(0, i - size // 2) : i + size // 2 + 1].sum(1) for i in range(maps.shape[1])
    ]
    return maps * torch.stack(scales, dim=1) ** -beta


class Layers(nn.Module):
    """Weights by Caffe's names of layers."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name.replace("_1024", "-1024"), layer)

    def do(self, name: str, maps: Tensor) -> Tensor:
        return self.get_submodule(name)(maps)


class CaffeAlexNet(Layers):
    """bvlc_alexnet, or with pooling first bvlc_reference_caffenet: their train_val.prototxt, without dropout."""

    def __init__(self, pool_first: bool, places: int, hidden: int, classes: int) -> None:
        super().__init__(
            conv1=nn.Conv2d(3, 96, 11, 4),
            conv2=nn.Conv2d(96, 256, 5, padding=2, groups=2),
            conv3=nn.Conv2d(256, 384, 3, padding=1),
            conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2),
            conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2),
            fc6=nn.Linear(256 * places, hidden),
            fc7=nn.Linear(hidden, hidden),
            fc8=nn.Linear(hidden, classes),
        )
        self.pool_first = pool_first

    def forward(self, maps: Tensor) -> Tensor:
        for name in ("conv1", "conv2"):
            maps = self.do(name, maps).relu()
            maps = caffe_lrn(caffe_pool(maps, "max")) if self.pool_first else caffe_pool(caffe_lrn(maps), "max")
        for name in ("conv3", "conv4", "conv5"):
            maps = self.do(name, maps).relu()
        units = caffe_pool(maps, "max").flatten(1)
        for name in ("fc6", "fc7"):
            units = self.do(name, units).relu()
        return self.do("fc8", units)


@pytest.mark.parametrize(("name", "pool_first"), [("alexnet_2012", False), ("caffenet", True)])
@pytest.mark.parametrize(("size", "places"), [((67, 67), 1), ((74, 106), 6)])
def test_caffes_alexnet_and_caffenet(name, pool_first, size, places):
    """On 74x106 pixels every pooling cuts windows: 16x24, 8x12, 4x6, 2x3. Values as Caffe's, up to 255."""
    torch.manual_seed(0)
    theirs = CaffeAlexNet(pool_first, places, 32, 5)
    fits = {"lrn_k": 1.0, "lrn_alpha": 1e-4 / 5, "ceil": True}
    ours = create_model(name, classes=5, input_size=size, hidden=32, start=False, **fits)
    assert_equal_in_float64(ours, theirs, 100 * torch.randn(2, 3, *size))
    naming = fit_state(ours, theirs.state_dict()).naming
    assert naming.publisher == "caffe"
    assert naming.input == CAFFE_227
    assert dict(naming.variations) == {"grid": 6, **fits}
    assert (CAFFE_227.size, CAFFE_227.channel_order) == ((227, 227), "BGR")


def test_caffes_normalisation_is_another_one_than_the_papers():
    maps = 50 * torch.randn(2, 7, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(LocalResponse(k=1.0, alpha=1e-4 / 5)(maps), caffe_lrn(maps), rtol=1e-13, atol=0)
    by_paper = caffe_lrn(maps, alpha=5e-4, k=2.0)
    torch.testing.assert_close(LocalResponse()(maps), by_paper, rtol=1e-13, atol=0)
    assert (by_paper - caffe_lrn(maps)).abs().max() > 1


@pytest.mark.parametrize("side", [2, 4, 7, 12, 13, 110])
def test_pooling_with_cut_windows(side):
    """Caffe's count of windows, and the mean of the pixels that a cut window has."""
    maps = torch.randn(2, 3, side, side + 3, dtype=torch.float64)
    torch.testing.assert_close(nn.MaxPool2d(3, 2, ceil_mode=True)(maps), caffe_pool(maps, "max"))
    torch.testing.assert_close(nn.AvgPool2d(3, 2, ceil_mode=True)(maps), caffe_pool(maps, "average"))


class CaffeNiN(Layers):
    """The authors' train_val.prototxt for CIFAR-10 and for ImageNet, without dropout."""

    def __init__(self, kernels: str, classes: int) -> None:
        if kernels == "cifar":
            super().__init__(
                conv1=nn.Conv2d(3, 192, 5, padding=2), cccp1=nn.Conv2d(192, 160, 1), cccp2=nn.Conv2d(160, 96, 1),
                conv2=nn.Conv2d(96, 192, 5, padding=2), cccp3=nn.Conv2d(192, 192, 1), cccp4=nn.Conv2d(192, 192, 1),
                conv3=nn.Conv2d(192, 192, 3, padding=1), cccp5=nn.Conv2d(192, 192, 1), cccp6=nn.Conv2d(192, classes, 1),
            )  # fmt: skip
            self.pools = {"cccp2": "max", "cccp4": "average"}
        else:
            super().__init__(
                conv1=nn.Conv2d(3, 96, 11, 4), cccp1=nn.Conv2d(96, 96, 1), cccp2=nn.Conv2d(96, 96, 1),
                conv2=nn.Conv2d(96, 256, 5, padding=2), cccp3=nn.Conv2d(256, 256, 1), cccp4=nn.Conv2d(256, 256, 1),
                conv3=nn.Conv2d(256, 384, 3, padding=1), cccp5=nn.Conv2d(384, 384, 1), cccp6=nn.Conv2d(384, 384, 1),
                conv4_1024=nn.Conv2d(384, 1024, 3, padding=1), cccp7_1024=nn.Conv2d(1024, 1024, 1),
                cccp8_1024=nn.Conv2d(1024, classes, 1),
            )  # fmt: skip
            self.pools = {"cccp2": "max", "cccp4": "max", "cccp6": "max"}

    def forward(self, maps: Tensor) -> Tensor:
        for name, layer in self.named_children():
            maps = F.relu(layer(maps))
            if name in self.pools:
                maps = caffe_pool(maps, self.pools[name])
        return maps.mean((2, 3))


@pytest.mark.parametrize(("name", "kernels", "size"), [("nin_cifar", "cifar", 12), ("nin_imagenet", "imagenet", 67)])
def test_network_in_network(name, kernels, size):
    torch.manual_seed(0)
    theirs = CaffeNiN(kernels, 5)
    for layer in theirs.children():
        nn.init.kaiming_normal_(layer.weight)
    ours = create_model(name, classes=5, input_size=size, start=False)
    assert_equal_in_float64(ours, theirs, torch.randn(2, 3, size, size))
    naming = fit_state(ours, theirs.state_dict()).naming
    assert naming.publisher == "caffe"
    assert naming.input == (CAFFE if kernels == "imagenet" else None)


def test_old_caffe_files_keep_biases_in_four_dimensions():
    theirs = CaffeNiN("cifar", 5).state_dict()
    old = {key: value.view(1, 1, 1, -1) if key.endswith("bias") else value for key, value in theirs.items()}
    ours = create_model("nin_cifar", classes=5, input_size=12, start=False)
    load_reference(ours, old)
    assert torch.equal(ours.head.cccp6.conv.bias, theirs["cccp6.bias"])
