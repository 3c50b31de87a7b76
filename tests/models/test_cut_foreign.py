"""Cutting networks from elsewhere: classes of one's own, and networks of timm."""

import json

import pytest
import torch
from torch import nn

from striate.checkpoint import load_model, save_model
from striate.layers.initialise import initialise
from striate.models import ConvNet, create_model, rebuild
from striate.models.cut import cut_at, depth_of, new_classifier, places, pooled_codes
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


class Twins(nn.Module):
    def __init__(self, classes=5, in_channels=3):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 8, 3)
        self.stages = nn.Sequential()
        self.head = nn.Sequential()
        self.head.add_module("pool", nn.AdaptiveMaxPool2d(1))
        self.head.add_module("flatten", nn.Flatten())
        self.head.add_module("linear", self.hidden())
        self.head.add_module("relu", nn.ReLU())
        self.head.add_module("last", nn.Linear(6, classes))

    def hidden(self):
        return nn.Linear(8, 6)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


class Inside(Twins):
    def hidden(self):
        return nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 6))


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


@pytest.mark.parametrize(
    ("name", "hidden"), [("Twins", ("head.linear",)), ("Inside", ("head.linear.0", "head.linear.2"))]
)
def test_hidden_layers_keep_their_names_whatever_those_are(tmp_path, name, hidden):
    (tmp_path / "net.py").write_text(OWN)
    code = f"{tmp_path / 'net.py'}:{name}"
    torch.manual_seed(0)
    model = create_model(code, input_size=12, classes=4).eval()
    known = places(model)
    assert known == ("stem", "head.pool", *hidden)
    images, before = images_for(model), model.state_dict()
    for place in known:
        cut = cut_at(model, place, 3)
        assert places(cut) == known[: known.index(place) + 1]
        kept = {key for key, depth in depth_of(model).items() if depth <= known.index(place)}
        assert all(torch.equal(before[key], cut.state_dict()[key]) for key in kept)
        for again in (rebuild(cut.architecture, start=False, code=code).eval(), cut_at(cut, place, 3)):
            again.load_state_dict(cut.state_dict())
            with torch.no_grad():
                torch.testing.assert_close(again(images), new_classifier(cut)(pooled_codes(model, images)[place]))
        assert rebuild(cut_at(cut, "stem", 2).architecture, start=False, code=code).architecture.cut == "stem"
        assert isinstance(new_classifier(rebuild(cut.architecture, code=code)), nn.Linear)


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
