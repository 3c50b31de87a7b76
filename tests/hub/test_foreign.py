"""Networks of timm and of one's own: taken apart, saved, loaded, and never run unasked."""

import json
import os
import sys

import pytest
import torch
from safetensors.torch import save_file

from striate.checkpoint import load_model, save_model
from striate.errors import CheckpointError, MissingExtraError, ModelError, UnknownNameError
from striate.models import create_model, find_entry, rebuild, sources
from striate.models.reference import load_reference
from striate.network import open_network
from striate.spec import InputSpec, Labels

OWN = '''
import torch, pathlib
from torch import nn
import torch.nn.functional as F

pathlib.Path(__file__).with_suffix(".ran").write_text("ran")


class Chain(nn.Module):
    """Modules in a row, flattened in forward."""

    def __init__(self, num_classes=4, in_chans=3):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 8, 3, padding=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool2 = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        for part in (self.conv1, self.relu1, self.pool1, self.conv2, self.bn2, self.relu2, self.pool2):
            x = part(x)
        return self.fc(self.drop(torch.flatten(x, 1)))


class Functional(nn.Module):
    """What is between the layers is not modules."""

    def __init__(self, classes, input_size):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc1 = nn.Linear(8 * (input_size // 4) ** 2, 16)
        self.fc2 = nn.Linear(16, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 4)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class HiddenDropout(nn.Module):
    """A chain in evaluation, but not in training."""

    def __init__(self, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(F.dropout(self.pool(self.conv(x)).flatten(1), 0.5, self.training))


class Anatomy(nn.Module):
    """Has the anatomy by itself."""

    def __init__(self, classes=4, in_channels=3):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 8, 3)
        self.stages = nn.Sequential()
        self.stages.add_module("first", nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


class Scaled(nn.Module):
    """Nothing can be split off."""

    def __init__(self, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 3)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * self.conv(x).mean((2, 3))


class Fixed(nn.Sequential):
    """Takes nothing."""

    def __init__(self):
        convs = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)
        super().__init__(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))


class Auxiliary(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.fc = nn.Linear(3, classes)

    def forward(self, x):
        y = self.fc(x.mean((2, 3)))
        return (y, y) if self.training else y


class Demanding(nn.Module):
    def __init__(self, classes, secret):
        super().__init__()
'''


@pytest.fixture
def own(tmp_path):
    (tmp_path / "net.py").write_text(OWN)
    return lambda name: f"{tmp_path / 'net.py'}:{name}"


def reference(own, name, **settings):
    return sources.own_class(own(name))(**settings)


@pytest.mark.parametrize(
    ("name", "kind", "stages"),
    [
        ("Chain", "chain", ["conv2"]),
        ("Functional", "body", ["body"]),
        ("HiddenDropout", "body", ["body"]),
        ("Anatomy", "own", ["first"]),
        ("Scaled", "whole", ["body"]),
    ],
)
def test_how_a_class_comes_apart(own, name, kind, stages):
    model = create_model(own(name), classes=5, input_size=32)
    assert model._plan.kind == kind
    assert [key for key, _ in model.stages.named_children()] == stages
    settings = {"classes": 5, "input_size": 32} if name == "Functional" else {"classes": 5}
    theirs = reference(own, name, **({"num_classes": 5} if name == "Chain" else settings))
    load_reference(model, theirs.state_dict())
    images = torch.randn(3, 3, 32, 32)
    for training in (False, True):
        model.train(training)
        theirs.train(training)
        torch.manual_seed(1)
        expected = theirs(images)
        torch.manual_seed(1)
        torch.testing.assert_close(model(images), expected)
    model.eval()
    maps = model.features(images)
    assert maps.ndim == 4
    assert torch.equal(model.head(maps), model(images))
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    assert {key.split(".")[0] for key in model.state_dict()} <= {"stem", "stages", "head"}


def test_what_a_class_takes_by_itself(own):
    assert create_model(own("Chain")).architecture.classes == 4
    fixed = create_model(own("Fixed"))
    assert (fixed.architecture.classes, fixed.architecture.in_channels) == (7, 1)
    assert [name for name, _ in fixed.stages.named_children()] == ["stage2"]
    with pytest.raises(ModelError, match=r"gives \[7\].*logits of 3 classes"):
        create_model(own("Fixed"), classes=3)
    with pytest.raises(ModelError, match="cannot take images of 3x32x32"):
        create_model(own("Fixed"), in_channels=3, input_size=32)
    with pytest.raises(ModelError, match="returns a tuple in training"):
        create_model(own("Auxiliary"), input_size=16)
    with pytest.raises(ModelError, match=r"cannot be constructed.*secret"):
        create_model(own("Demanding"), classes=3)


def test_the_start_follows_the_generator_and_nothing_else(own):
    model = create_model(own("Chain"), input_size=16)
    before = torch.random.get_rng_state()
    model.reset_parameters(torch.Generator().manual_seed(4))
    first = {key: value.clone() for key, value in model.state_dict().items()}
    model.reset_parameters(torch.Generator().manual_seed(4))
    assert all(torch.equal(value, first[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_errors_in_the_file_are_named(tmp_path, own):
    with pytest.raises(UnknownNameError, match=r"class of net\.py 'Chian'") as caught:
        create_model(own("Chian"))
    assert "Chain" in (caught.value.hint or "")
    with pytest.raises(ModelError, match=r"F in net\.py is no torch\.nn\.Module"):
        create_model(own("F"))
    (tmp_path / "broken.py").write_text("import nosuchmodule_at_all\nclass Net: pass\n")
    with pytest.raises(ModelError, match="cannot be run: ModuleNotFoundError"):
        create_model(f"{tmp_path / 'broken.py'}:Net")
    (tmp_path / "syntax.py").write_text("class Net(:\n")
    with pytest.raises(ModelError, match="SyntaxError"):
        create_model(f"{tmp_path / 'syntax.py'}:Net")


def test_a_file_beside_it_can_be_imported(tmp_path):
    (tmp_path / "striate_test_blocks.py").write_text("WIDTH = 6\n")
    (tmp_path / "user.py").write_text(
        "from striate_test_blocks import WIDTH\nfrom torch import nn\n\n\n"
        "class Net(nn.Sequential):\n    def __init__(self, classes=2):\n"
        "        conv, pool = nn.Conv2d(3, WIDTH, 3), nn.AdaptiveAvgPool2d(1)\n"
        "        super().__init__(conv, pool, nn.Flatten(), nn.Linear(WIDTH, classes))\n"
    )
    assert create_model(f"{tmp_path / 'user.py'}:Net").architecture.classes == 2


def test_a_model_file_runs_no_code(tmp_path, own):
    name = own("Chain")
    model = create_model(name, classes=3, input_size=16).eval()
    path = tmp_path / "model.safetensors"
    save_model(path, model, InputSpec(size=(16, 16), channels=3), Labels(("a", "b", "c")))
    assert str(tmp_path) not in json.dumps(model.architecture.to_dict())  # no folders of this machine
    ran = tmp_path / "net.ran"
    os.unlink(ran)
    os.chdir(tmp_path)
    for key in [key for key in sys.modules if key.startswith("striate_own_")]:
        del sys.modules[key]
    for read in (load_model, open_network):
        with pytest.raises(CheckpointError, match=r"class net\.py:Chain, whose code is not part") as caught:
            read(path)
        assert "net.py:Chain:RUN" in (caught.value.hint or "")
    find_entry(name)
    with pytest.raises(ModelError):
        rebuild(model.architecture, code=own("Anatomy"))
    assert not ran.exists()
    again = open_network(f"net.py:Chain:{path}")
    assert ran.exists()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(again.model(images), model(images))
    assert "adapted" not in again.notes
    (tmp_path / "net.py").write_text(OWN + "\n# changed\n")
    changed = open_network(f"net.py:Chain:{path}", classes=2)
    assert "has changed" in changed.notes["adapted"][0]
    assert "new head for 2 classes" in changed.notes["adapted"][1]


def test_a_state_dict_of_one_s_own(tmp_path, own):
    theirs = reference(own, "Chain", num_classes=6, in_chans=1)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    saved = open_network(f"{own('Chain')}:{tmp_path / 'w.pth'}", input_size=20)
    record = saved.model.architecture
    assert (record.classes, record.in_channels, record.input_size) == (6, 1, (20, 20))
    images = torch.randn(2, 1, 20, 20)
    torch.testing.assert_close(saved.model(images), theirs.eval()(images))


timm_is_there = pytest.mark.skipif(sources.find_spec("timm") is None, reason="timm is not installed")


@timm_is_there
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("test_resnet", "chain"),
        ("test_vit", "body"),
        pytest.param("resnet10t", "chain", marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", "chain", marks=pytest.mark.slow),
        pytest.param("densenet121", "chain", marks=pytest.mark.slow),
        pytest.param("regnetx_002", "chain", marks=pytest.mark.slow),
        pytest.param("convnext_atto", "chain", marks=pytest.mark.slow),
    ],
)
def test_networks_of_timm(tmp_path, name, kind):
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=6).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    saved = open_network(f"timm:{name}:{tmp_path / 'model.safetensors'}")
    assert saved.model._plan.kind == kind
    assert len(saved.labels) == 6
    images = torch.randn(2, 3, *saved.spec.size)
    with torch.no_grad():
        torch.testing.assert_close(saved.model(images), theirs(images), rtol=1e-4, atol=1e-5)
    save_model(tmp_path / "ours.safetensors", saved.model, saved.spec, saved.labels)
    again = open_network(tmp_path / "ours.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again.model(images), theirs(images), rtol=1e-4, atol=1e-5)


@timm_is_there
def test_errors_about_timm(monkeypatch):
    with pytest.raises(UnknownNameError, match="unknown network of timm 'resnet19'") as caught:
        create_model("timm:resnet19")
    assert "resnet1" in (caught.value.hint or "")
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"timm:resnet18 needs timm") as extra:
        create_model("timm:resnet18")
    assert "striate[timm]" in (extra.value.hint or "")
