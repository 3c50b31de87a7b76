"""AlexNet, ZFNet and Network in Network: what each layer does and in which order, how they start and learn."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.layers.initialise import initialise
from striate.layers.normalization import Contrast, LocalResponse
from striate.models import ConvNet, create_model

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def alexnet(name: str = "alexnet_2012", **changes) -> ConvNet:
    """At its smallest input and with narrow hidden layers."""
    torch.manual_seed(0)
    return create_model(name, **({"input_size": 67, "hidden": 32, "classes": 5} | changes))


@pytest.mark.parametrize(
    ("name", "order", "k", "alpha"),
    [
        ("alexnet_2012", ["conv", "activation", "norm", "pool"], 2.0, 1e-4),  # sec. 3.5
        ("alexnet_dense", ["conv", "activation", "pool", "norm"], 2.0, 1e-4),
        ("caffenet", ["conv", "activation", "pool", "norm"], 1.0, 2e-5),
    ],
)
def test_order_and_constants_of_normalisation(name, order, k, alpha):
    """M057, E04."""
    model = alexnet(name)
    for unit in (model.stem, model.stages.conv2):
        assert [child for child, _ in unit.named_children()] == order
        assert isinstance(unit.norm, LocalResponse)
        assert (unit.norm.k, unit.norm.alpha, unit.norm.window, unit.norm.beta) == (k, pytest.approx(alpha), 5, 0.75)
    norms = [module for module in model.modules() if isinstance(module, LocalResponse)]
    assert len(norms) == 2


def test_conv2_is_two_convolutions_that_know_nothing_of_each_other():
    """M035."""
    conv = alexnet().double().stages.conv2.conv
    maps = torch.randn(2, 96, 9, 9, dtype=torch.float64)
    halves = [
        F.conv2d(own, weight, bias, padding=2)
        for own, weight, bias in zip(maps.chunk(2, 1), conv.weight.chunk(2), conv.bias.chunk(2), strict=True)
    ]
    torch.testing.assert_close(conv(maps), torch.cat(halves, dim=1), rtol=1e-12, atol=1e-12)


def test_pooling_windows_overlap():
    """M043: 3x3 with stride 2, so that neighbouring windows share a row or column of pixels."""
    pools = [module for module in alexnet().modules() if isinstance(module, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [(3, 2, 0)] * 3
    one = torch.zeros(1, 1, 7, 7)
    one[..., 2, 2] = 1  # the corner that four windows share
    assert pools[0](one).flatten().tolist() == [1, 1, 0, 1, 1, 0, 0, 0, 0]
    assert nn.MaxPool2d(2)(one).sum() == 1


def test_dropout_acts_on_the_outputs_of_fc6_and_fc7_and_in_torchvision_on_their_inputs():
    published = [name for name, _ in alexnet().head.named_children()]
    shipped = [name for name, _ in alexnet("alexnet_owt").head.named_children()]
    assert published == ["grid", "flatten", "fc6", "act6", "drop6", "fc7", "act7", "drop7", "fc8"]
    assert shipped == ["grid", "flatten", "drop6", "fc6", "act6", "drop7", "fc7", "act7", "fc8"]
    assert alexnet().head.drop6.p == 0.5


def test_alexnet_starts_as_published():
    model = alexnet()
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            assert parameter.std().item() == pytest.approx(0.01, rel=0.2), name
        else:
            ones = any(f"{layer}." in name for layer in ("conv2", "conv4", "conv5", "fc6", "fc7"))
            assert (parameter == float(ones)).all(), name


@pytest.mark.parametrize("name", ["alexnet_2012", "alexnet_owt", "zfnet_fig3"])
def test_the_classifier_reads_six_by_six_places_at_most(name):
    assert alexnet(name, input_size=67).head.fc6.in_features == 256
    paper = alexnet(name, input_size=227)
    larger = alexnet(name, input_size=300)
    assert paper.head.fc6.in_features == larger.head.fc6.in_features == 256 * 36
    forced = alexnet(name, input_size=67, grid=6)
    assert forced.head.fc6.in_features == 256 * 36
    maps = torch.randn(2, 256, 6, 6)
    assert torch.equal(paper.head.grid(maps), maps)  # nothing happens at the paper's size
    oblong = alexnet(name, input_size=(67, 131)).eval()
    assert oblong(torch.randn(2, 3, 67, 131)).shape == (2, 5)


def test_zfnet_pools_before_it_normalises():
    model = alexnet("zfnet_fig3")
    for unit in (model.stem, model.stages.conv2):
        assert [child for child, _ in unit.named_children()] == ["conv", "activation", "pool", "norm"]
        assert isinstance(unit.norm, Contrast)
    assert all((value == 0).all() for key, value in model.named_parameters() if key.endswith("bias"))


def test_nin_has_no_dense_layer_and_one_map_for_each_class():
    model = create_model("nin_cifar", classes=7, input_size=12).eval()
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    images = torch.randn(2, 3, 12, 12)
    maps = F.relu(F.conv2d(model.features(images), model.head.cccp6.conv.weight, model.head.cccp6.conv.bias))
    assert maps.shape[1] == 7
    torch.testing.assert_close(model(images), maps.mean((2, 3)))


def test_nin_starts_as_its_authors_files():
    model = create_model("nin_imagenet", input_size=67)
    for key, small in (("stem.conv1", True), ("stem.cccp1", False), ("stages.mlpconv3.conv3", True)):
        assert model.get_submodule(key).conv.weight.std().item() == pytest.approx(0.01 if small else 0.05, rel=0.1)
    assert model.head.cccp8.conv.weight.std().item() == pytest.approx(0.01, rel=0.1)


def digits(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """MNIST's first `count` training images, [count, 1, side, side] from 0 to 1, and their classes."""
    folder = DATA / "mnist"
    if not folder.exists():
        pytest.skip("no MNIST here")
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + count * 784)[16:], np.uint8).reshape(count, 1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(8 + count)[8:], np.uint8)
    images = torch.from_numpy(pixels.copy()).float() / 255
    return F.interpolate(images, (side, side), mode="bilinear"), torch.from_numpy(classes.astype(np.int64))


def accuracy_after_training(
    model: ConvNet, images: torch.Tensor, targets: torch.Tensor, steps: int, lr: float
) -> float:
    """SGD as in the papers, batches of 50."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        chosen = torch.randperm(len(images), generator=generator)[:50]
        optimizer.zero_grad()
        model.loss(model(images[chosen]), targets[chosen]).backward()
        optimizer.step()
    with torch.no_grad():
        return (model.eval()(images).argmax(1) == targets).double().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "changes"),
    [("alexnet_2012", 67, {"hidden": 256}), ("zfnet_fig3", 47, {"hidden": 256})],
)
def test_it_learns_two_hundred_digits_by_heart(name, side, changes):
    """From He's start: with the paper's N(0, 0.01²) AlexNet was still at chance after 300 such steps."""
    torch.manual_seed(0)
    images, targets = digits(200, side)
    model = create_model(name, input_size=side, in_channels=1, classes=10, **changes)
    initialise(model, "he")
    assert accuracy_after_training(model, (images - images.mean()) / images.std(), targets, 150, 0.01) > 0.9
