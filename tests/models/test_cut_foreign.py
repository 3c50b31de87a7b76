"""Cutting networks from elsewhere: classes of one's own, and networks of timm."""

import json

import pytest
import torch

from striate.checkpoint import load_model, save_model
from striate.layers.initialise import initialise
from striate.models import ConvNet, create_model, rebuild
from striate.models.cut import cut_at, depth_of, places, pooled_codes
from striate.spec import InputSpec, Labels


def images_for(model: ConvNet) -> torch.Tensor:
    record = model.architecture
    return torch.randn(2, record.in_channels, *record.input_size, generator=torch.Generator().manual_seed(1))


OWN = """
from torch import nn


class Nested(nn.Module):
    def __init__(self, classes=5, in_channels=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3), nn.ReLU())
        self.pool = nn.AdaptiveMaxPool2d(2)
        self.classifier = nn.Sequential(
            nn.Linear(64, 20), nn.Dropout(0.5), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, classes))

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(1))


class Opaque(nn.Module):
    def __init__(self, classes=5, in_channels=3):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 8, 3)
        self.stages = nn.Sequential()
        self.stages.add_module("first", nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3)))
        self.head = Head(classes)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


class Head(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.last, self.linear = nn.Linear(8, classes), nn.Linear(8, 8)  # not in the order of use

    def forward(self, x):
        return self.last(self.linear(x.mean((2, 3))).relu())
"""


@pytest.mark.parametrize(("name", "deepest"), [("Nested", ("head.pool", "head.classifier.0")), ("Opaque", ("first",))])
def test_classes_of_one_s_own(tmp_path, name, deepest):
    (tmp_path / "net.py").write_text(OWN)
    torch.manual_seed(0)
    model = create_model(f"{tmp_path / 'net.py'}:{name}", input_size=24).eval()
    assert places(model)[-len(deepest) :] == deepest
    images = images_for(model)
    spec = InputSpec(size=(24, 24), channels=3)
    for place in places(model):
        cut = cut_at(model, place, 2)
        save_model(tmp_path / "cut.safetensors", cut, spec, Labels(("a", "b")))
        again = load_model(tmp_path / "cut.safetensors", code=f"{tmp_path / 'net.py'}:{name}").model
        with torch.no_grad():
            expected = cut.head.get_submodule("linear")(pooled_codes(model, images)[place])
            torch.testing.assert_close(cut(images), expected)
            assert torch.equal(again(images), cut(images))
        assert places(cut) == places(model)[: places(model).index(place) + 1]
        initialise(cut, "paper", generator=torch.Generator().manual_seed(0))
    if name == "Nested":
        codes = pooled_codes(model, images)
        assert (codes["head.pool"].shape[1], codes["head.classifier.0"].shape[1]) == (64, 20)
        assert (codes["head.classifier.0"] >= 0).all()  # after its normalisation and activation
    else:
        assert {depth for key, depth in depth_of(model).items() if key.startswith("head.")} == {len(places(model))}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "efficientnet_b0", "mobilenetv3_small_050", "convnext_atto", "densenet121"]
)
def test_networks_of_timm_are_cut(name):
    pytest.importorskip("timm", reason="timm builds them")
    torch.manual_seed(0)
    size = {} if name == "test_vit" else {"input_size": 64}
    model = create_model(f"timm:{name}", classes=5, **size).eval()
    images, known = images_for(model), places(model)
    with torch.no_grad():
        codes = pooled_codes(model, images)
    assert tuple(codes) == known
    for place in (known[0], known[-1]):
        cut = cut_at(model, place, 3)
        again = rebuild(json.loads(json.dumps(cut.architecture.to_dict())), start=False).eval()
        again.load_state_dict(cut.state_dict())
        with torch.no_grad():
            expected = cut.head.get_submodule("linear")(codes[place])
            torch.testing.assert_close(again(images), expected, rtol=1e-4, atol=1e-5)
