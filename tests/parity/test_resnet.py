"""ResNets against torchvision and timm: random weights copied over, outputs and gradients equal in float64."""

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.models import create_model, load_reference

torchvision = pytest.importorskip("torchvision", reason="torchvision is the reference")

SIDE = 40  # the last maps are 2x2


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("resnet18", "resnet18"),
        pytest.param("resnet34_b", "resnet34", marks=pytest.mark.slow),
        pytest.param("resnet50_v1_5", "resnet50", marks=pytest.mark.slow),
        pytest.param("resnet101_v1_5", "resnet101", marks=pytest.mark.slow),
        pytest.param("resnet152_v1_5", "resnet152", marks=pytest.mark.slow),
    ],
)
def test_outputs_and_gradients_equal_torchvision(name, reference):
    theirs = getattr(torchvision.models, reference)(num_classes=10)
    assert_equal(create_model(name, classes=10, input_size=SIDE, start=False), theirs)


@pytest.mark.slow
def test_the_published_stride_equals_torchvision_with_its_stride_moved():
    theirs = torchvision.models.resnet50(num_classes=10)
    for module in theirs.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    assert_equal(create_model("resnet50", classes=10, input_size=SIDE, start=False), theirs)


def test_bottleneck_units_equal_torchvision():
    """The everyday size of the above: a unit in each stage."""
    theirs = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10)
    ours = create_model("resnet50_v1_5", depths=(1, 1, 1, 1), classes=10, input_size=SIDE, start=False)
    assert_equal(ours, theirs)


@pytest.mark.slow
def test_200_layers_equal_timm():
    """timm's resnet200 has the units of 2015, with the stride on the 3x3 convolution."""
    timm = pytest.importorskip("timm", reason="timm is the reference")
    theirs = timm.create_model("resnet200", num_classes=10)
    ours = create_model("resnet152_v1_5", depths=(3, 24, 36, 3), classes=10, input_size=SIDE, start=False)
    assert_equal(ours, theirs)


def test_weights_of_another_network_are_refused_and_nothing_is_loaded():
    ours = create_model("resnet18", classes=10, input_size=32)
    before = ours.stem.conv1.weight.clone()
    theirs = torchvision.models.resnet18(num_classes=7).state_dict()
    with pytest.raises(ModelError, match=r"another shape fc\.weight \(7x512, not 10x512\)") as caught:
        load_reference(ours, theirs)
    assert "classes" in (caught.value.hint or "")
    with pytest.raises(ModelError, match=r"lack fc\.weight"):
        load_reference(ours, {key: value for key, value in theirs.items() if not key.startswith("fc")})
    with pytest.raises(ModelError, match="have besides"):
        load_reference(ours, {**theirs, "layer5.0.conv1.weight": torch.zeros(1)})
    assert torch.equal(ours.stem.conv1.weight, before)


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    """Outputs in evaluation, gradients and running statistics in training, to 1e-10 of each tensor's norm."""
    torch.manual_seed(0)
    ours, theirs = ours.double(), theirs.double()
    nothing_hides(theirs)
    load_reference(ours, theirs.state_dict())
    images = torch.randn(4, 3, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 5, 9])

    theirs.eval()
    ours.eval()
    assert relative(ours(images), theirs(images)) < 1e-10

    theirs.train()
    ours.train()
    nn.functional.cross_entropy(theirs(images), targets).backward()
    expected = images.grad
    assert expected is not None
    images.grad = None
    ours.loss(ours(images), targets).backward()
    assert images.grad is not None
    assert relative(images.grad, expected) < 1e-10

    # Gradients travel through the same renaming as weights.
    gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    own = {key: parameter.grad for key, parameter in ours.named_parameters()}
    statistics = {key: value.clone() for key, value in ours.named_buffers() if "running" in key}
    load_reference(ours, {**theirs.state_dict(), **gradients})
    for key, value in ours.named_parameters():
        gradient = own[key]
        assert gradient is not None
        assert relative(gradient, value) < 1e-10, key
    # Training mode moved the running statistics alike; those just loaded are theirs.
    buffers = dict(ours.named_buffers())
    for key, value in statistics.items():
        assert relative(value, buffers[key]) < 1e-10, key


def nothing_hides(model: nn.Module) -> None:
    """Scales, shifts and running statistics that a fresh network would have as ones and zeros."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()
