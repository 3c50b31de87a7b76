"""SqueezeNet against torchvision in float64, and with published weights on real photos."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from striate.models import ConvNet, create_model, find_entry, load_reference
from striate.models.reference import fit_state
from striate.models.registry.inputs import CAFFE_227

from .agreement import assert_equal_in_float64, relative

torchvision = pytest.importorskip("torchvision", reason="torchvision is the reference")

VERSIONS = ("squeezenet1_0", "squeezenet1_1")
SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
WEIGHTS = SHARED_DATA / "weights" / "squeezenet1_1_caffe_rgbnorm.pth"
SAMPLES = SHARED_DATA / "imagenet_samples"


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("size", [(64, 64), (53, 70)])
def test_outputs_and_gradients_equal_torchvision(name, size):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=5)
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(0, 0.1)  # zero at the start: nothing would show if they were mixed up
    ours = create_model(name, classes=5, input_size=size, start=False)
    assert_equal_in_float64(ours, theirs, torch.randn(3, 3, *size))


@pytest.mark.parametrize("name", VERSIONS)
def test_the_authors_files_are_named_by_fire_module_and_fed_blue_first(name):
    model = create_model(name, start=False)
    fit = fit_state(model, as_caffe(model))
    assert fit.complete
    assert fit.naming.publisher == "caffe"
    assert fit.naming.input == CAFFE_227
    # Only the file of 1.0 pads conv10.
    assert fit.naming.variations == ({"conv10_padding": 1} if name == "squeezenet1_0" else {})


def test_the_padded_conv10_of_the_authors_sees_a_border_of_biases():
    plain = create_model("squeezenet1_0", classes=5, input_size=64).eval()
    padded = create_model("squeezenet1_0", classes=5, input_size=64, conv10_padding=1).eval()
    nn.init.normal_(plain.head.get_submodule("conv10").bias)
    padded.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    side = type(plain).last_side(type(plain).config_type(), 64)
    border = (side + 2) ** 2 - side**2
    with torch.no_grad():
        expected = (plain(images) * side**2 + border * plain.head.get_submodule("conv10").bias.relu()) / (side + 2) ** 2
        torch.testing.assert_close(padded(images), expected)


@pytest.mark.skipif(not WEIGHTS.exists(), reason="needs the published weights")
def test_published_weights_give_torchvisions_logits_and_know_the_photos():
    state = torch.load(WEIGHTS, weights_only=True)
    theirs = torchvision.models.squeezenet1_1().eval()
    theirs.load_state_dict(state)
    ours = create_model("squeezenet1_1", start=False).eval()
    assert load_reference(ours, state).naming.publisher == "torchvision"
    images, truth = samples()
    with torch.inference_mode():
        logits, expected = ours(images), theirs(images)
    assert relative(logits, expected) < 1e-6
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    found = logits.topk(5).indices.eq(truth[:, None]).any(1)
    assert int(found.sum()) >= 23

    # The same weights by the names of the Caffe files.
    again = create_model("squeezenet1_1", start=False).eval()
    load_reference(again, as_caffe(ours))
    with torch.inference_mode():
        assert torch.equal(again(images[:1]), ours(images[:1]))


def as_caffe(model: ConvNet) -> dict[str, Tensor]:
    """The parameters by the names of the authors' Caffe files."""
    names = {}
    for key, parameter in model.named_parameters():
        part = key.rsplit(".", 1)[1]
        if key.startswith("stem."):
            names[f"conv1.{part}"] = parameter
        elif key.startswith("head."):
            names[f"conv10.{part}"] = parameter
        else:
            _, fire, layer, *_ = key.split(".")
            names[f"{fire}/{'squeeze1x1' if layer == 'squeeze' else layer}.{part}"] = parameter
    return names


def samples() -> tuple[Tensor, Tensor]:
    """The photos [25, 3, 227, 227] as the registry says that the network is fed, and their classes [25]."""
    from torchvision import transforms

    spec = find_entry("squeezenet1_1").input
    assert spec == replace(find_entry("vgg16").input, size=(227, 227), crop_fraction=227 / 256)
    prepare = transforms.Compose(
        [
            transforms.Resize(round(spec.size[0] / spec.crop_fraction)),
            transforms.CenterCrop(spec.size),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    index = json.loads((SAMPLES / "imagenet_class_index.json").read_text())
    number = {synset: int(key) for key, (synset, _) in index.items()}
    files = sorted(SAMPLES.glob("*.JPEG"))
    assert len(files) == 25
    images = torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])
    return images, torch.tensor([number[file.name.split("_")[0]] for file in files])
