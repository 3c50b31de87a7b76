"""Every registered network has maps of its images: finite, of their size, by a layer that makes sense."""

import pytest
import torch
from torch import nn

from striate.explanation.attribution import METHODS, Question
from striate.explanation.undisturbed import undisturbed
from striate.layers.activations import PLAIN_ACTIVATIONS
from striate.models import create_model, entries, find_entry
from striate.models.towers import place_towers
from striate.options.explain import ExplainOptions

NARROW = {"vgg": {"widths": (4, 4, 8, 8, 8), "hidden": 16}}
VERY_DEEP = {"cifar_resnet1202", "stochdepth_resnet1202", "preact_resnet1001"}
QUICK = ExplainOptions(samples=1, steps=2, window=64, stride=64)
ALWAYS = ("gradcam", "gradient", "deconvnet")


EVERYDAY = {
    "lecun1989_net2",
    "lenet_1989_zip",
    "lenet5_1998",
    "nin_cifar",
    "vgg_a",
    "cifar_resnet20",
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v1_0.25_128",
    "airbench94",
    "compact_s",
    "alexnet_owt",
}
every_model = pytest.mark.parametrize(
    "name",
    [one.name if one.name in EVERYDAY else pytest.param(one.name, marks=pytest.mark.slow) for one in entries()],
)


def small(name: str):
    torch.manual_seed(0)
    entry = find_entry(name)
    side = max(min(entry.input.size[0], 36), entry.min_size)
    model = create_model(name, input_size=side, **NARROW.get(entry.family, {})).eval()
    images = torch.randn(2, model.architecture.in_channels, side, side)
    if name in VERY_DEEP:
        settle(model, images)
    return model, images


def settle(model: nn.Module, images: torch.Tensor) -> None:
    """Running statistics as training would leave them: hundreds of fresh units that each double the signal overflow."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    model.eval()


@every_model
def test_maps_are_finite_and_of_the_images_size(name):
    model, images = small(name)
    with undisturbed(model):
        question = Question(model=model, images=images, targets=torch.tensor([0, 1]), options=QUICK)
        for method in ALWAYS:
            maps = METHODS[method].ask(question).maps
            assert maps.shape in (images.shape, (2, *images.shape[2:])), method
            assert maps.isfinite().all(), method
            assert method == "gradcam" or maps.any(), method


@pytest.mark.parametrize(
    "activation", ["tanh", "maxout", *(pytest.param(one, marks=pytest.mark.slow) for one in PLAIN_ACTIVATIONS)]
)
def test_every_method_with_every_activation(activation):
    pytest.importorskip("captum", reason="integrated gradients are computed by Captum")
    torch.manual_seed(0)
    model = create_model("lenet5_dense", activation=activation).eval()
    images = torch.randn(2, 1, 32, 32)
    with undisturbed(model):
        question = Question(model=model, images=images, targets=torch.tensor([3, 4]), options=QUICK)
        for name, method in METHODS.items():
            maps = method.ask(question).maps
            assert maps.isfinite().all(), name
            assert maps.any(), name


def test_two_towers_have_the_maps_of_the_grouped_network():
    torch.manual_seed(0)
    model = create_model("alexnet_2012", input_size=67, classes=5).eval()
    towers, images = place_towers(model, ["cpu", "cpu"]), torch.randn(1, 3, 67, 67)
    maps = []
    for network in (model, towers):
        with undisturbed(network):
            question = Question(model=network, images=images, targets=torch.tensor([2]), options=QUICK)
            maps.append([METHODS[name].ask(question).maps for name in ("gradient", "guided-backprop", "occlusion")])
    for one, other in zip(*maps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_auxiliary_heads_play_no_part():
    model, images = small("googlenet")
    model.train()
    with undisturbed(model):
        question = Question(model=model, images=images, targets=torch.tensor([0, 1]), options=QUICK)
        with_heads = METHODS["gradient"].ask(question).maps
    model.auxiliary = nn.ModuleDict()
    with undisturbed(model):
        torch.testing.assert_close(METHODS["gradient"].ask(question).maps, with_heads)
    assert model.training
