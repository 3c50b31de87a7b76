"""VGG against torchvision and timm: their random weights copied over, outputs and gradients equal in float64."""

import pytest
import torch
from torch import nn

from striate.models import ConvNet, create_model, load_reference
from striate.models.reference import fit_state
from striate.models.registry import entries, find_entry

from .agreement import assert_equal_in_float64

torchvision = pytest.importorskip("torchvision", reason="torchvision is the reference")

NETWORKS = [
    entry.name if entry.name in ("vgg_a", "vgg11_bn") else pytest.param(entry.name, marks=pytest.mark.slow)
    for entry in entries()
    if entry.family == "vgg" and entry.reference
]
HIDDEN = 32  # narrow dense layers: their weights would be nine tenths of the work and show nothing more


def ours(name: str) -> ConvNet:
    return create_model(name, classes=5, input_size=64, grid=7, hidden=HIDDEN, start=False)


def torchvisions(reference: str) -> nn.Module:
    with torch.device("meta"):
        model = getattr(torchvision.models, reference)(init_weights=False)
    model.classifier[0] = nn.Linear(512 * 7 * 7, HIDDEN)
    model.classifier[3] = nn.Linear(HIDDEN, HIDDEN)
    model.classifier[6] = nn.Linear(HIDDEN, 5)
    return with_random_features(model)


def timms(reference: str) -> nn.Module:
    timm = pytest.importorskip("timm", reason="timm is the reference")
    with torch.device("meta"):
        model = timm.create_model(reference)
    model.pre_logits.fc1 = nn.Conv2d(512, HIDDEN, 7)
    model.pre_logits.fc2 = nn.Conv2d(HIDDEN, HIDDEN, 1)
    model.head.fc = nn.Linear(HIDDEN, 5)
    return with_random_features(model)


def with_random_features(model: nn.Module) -> nn.Module:
    model.features.to_empty(device="cpu")
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, 0.0, 0.1)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return model


@pytest.mark.parametrize("publisher", [torchvisions, timms])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_equal_the_reference(name, publisher):
    torch.manual_seed(0)
    theirs = publisher(find_entry(name).reference.split(":")[1])
    assert_equal_in_float64(ours(name), theirs, torch.randn(3, 3, 64, 64))


@pytest.mark.slow
def test_the_whole_network_at_the_papers_size_equals_torchvision():
    torch.manual_seed(0)
    theirs = torchvision.models.vgg11().eval()
    whole = create_model("vgg11", start=False).eval()
    load_reference(whole, theirs.state_dict())
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(whole(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_published_keys_and_shapes_fit(name):
    timm = pytest.importorskip("timm", reason="timm is another publisher")
    reference = find_entry(name).reference.split(":")[1]
    with torch.device("meta"):
        model = create_model(name, start=False)
        published = {
            "torchvision": getattr(torchvision.models, reference)(init_weights=False).state_dict(),
            "timm": timm.create_model(reference).state_dict(),
        }
    for publisher, state in published.items():
        fit = fit_state(model, state)
        assert fit.complete
        assert fit.naming.publisher == publisher
        assert fit.naming.variations == {"grid": 7}


def test_the_authors_release_is_named_by_layer_and_fed_blue_first():
    names = ("conv1_1", "conv1_2", "conv2_1", "conv2_2")
    names += tuple(f"conv{stage}_{number}" for stage in (3, 4, 5) for number in (1, 2, 3))
    names += ("fc6", "fc7", "fc8")
    with torch.device("meta"):
        model = create_model("vgg16", start=False)
        shapes = dict(model.named_parameters())
        state = {}
        for name in names:
            ours = f"head.{name}" if name.startswith("fc") else f"stages.{name[:5]}.{name}"
            for part in ("weight", "bias"):
                state[f"{name}.{part}"] = torch.empty(shapes[f"{ours}.{part}"].shape)
    fit = fit_state(model, state)
    assert fit.complete
    assert fit.naming.publisher == "caffe"
    assert fit.naming.input is not None
    assert fit.naming.input.channel_order == "BGR"
    assert [255 * value for value in fit.naming.input.mean] == pytest.approx([103.939, 116.779, 123.68])
    assert 255 * fit.naming.input.std[0] == pytest.approx(1)
