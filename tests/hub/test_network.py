"""Every spelling of a network, with real files and a real server."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from striate.checkpoint import save_model
from striate.errors import CheckpointError, ModelError, OfflineError, UnknownNameError, UsageError
from striate.hub import published
from striate.models import create_model
from striate.network import described, open_network, read_spelling
from striate.spec import InputSpec, Labels


def same_logits(model, theirs, side=64, channels=3, tolerance=1e-4):
    images = torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, expected = model(images), theirs.eval()(images)
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def test_published_weights_by_name(publisher, torchvision_file, heard, monkeypatch, cache):
    theirs, path = torchvision_file("resnet18")
    content = path.read_bytes()
    path.unlink()
    name = publisher.publish("resnet18.pth", content)
    entry = published._torchvision("resnet18", "imagenet1k_v1", name, 69.758, 232)
    monkeypatch.setattr(published, "TABLE", (replace(entry, url=publisher.url + name),))
    with pytest.raises(OfflineError, match="--offline forbids"):
        open_network("resnet18:imagenet1k_v1", offline=True)
    saved = open_network("ResNet18:IMAGENET1K_V1", progress=heard)
    same_logits(saved.model, theirs)
    assert saved.spec.crop_fraction == 224 / 232
    assert saved.labels.names[0] == "tench"
    assert saved.notes["weights"] == "torchvision resnet18 imagenet1k_v1"
    assert "adapted" not in saved.notes
    assert any("fetching" in line for line in heard.lines)
    assert open_network("resnet18:default", offline=True).spec == saved.spec
    # the same file under another name, given by hand, is still known for what it is
    copy = cache.parent / "mine.pth"
    copy.write_bytes(content)
    assert open_network(f"resnet18:{copy}").spec.crop_fraction == 224 / 232


@pytest.mark.parametrize(
    ("model", "theirs", "side"),
    [
        ("resnet18", "resnet18", 64),
        ("squeezenet1_1", "squeezenet1_1", 64),
        ("googlenet", "googlenet", 64),
        ("vgg11", "vgg11", 64),
        pytest.param("alexnet", "alexnet", 96, marks=pytest.mark.slow),
        pytest.param("inception_v3", "inception_v3", 96, marks=pytest.mark.slow),
        pytest.param("resnet50_v1_5", "resnet50", 64, marks=pytest.mark.slow),
    ],
)
def test_files_of_torchvision(torchvision_file, model, theirs, side):
    """With fewer classes than ImageNet's and at another size than the paper's, both read off or asked for."""
    reference, path = torchvision_file(theirs, num_classes=7)
    saved = open_network(f"{model}:{path}", input_size=side)
    if hasattr(reference, "transform_input"):
        reference.transform_input = False
    same_logits(saved.model, reference, side)
    assert saved.spec.size == (side, side)
    assert saved.labels.names == tuple(f"class {number}" for number in range(7))


def test_a_file_alone_is_recognised(torchvision_file):
    reference, path = torchvision_file("resnet18", num_classes=5)
    saved = open_network(path)
    assert saved.model.architecture.name == "resnet18"
    same_logits(saved.model, reference)
    _, path = torchvision_file("googlenet", num_classes=5)
    assert open_network(path).model.architecture.name == "googlenet_torchvision"


def test_a_file_that_fits_several_lists_them(torchvision_file):
    _, path = torchvision_file("resnet50", num_classes=3)
    with pytest.raises(ModelError, match=r"fit several networks: .*resnet50.*resnet50_v1_5") as caught:
        open_network(path)
    assert f"resnet50:{path}" in (caught.value.hint or "")
    saved = open_network(f"resnet50:{path}")  # ours first, and what else it may be is said
    assert saved.model.architecture.name == "resnet50"
    assert "resnet50_v1_5" in saved.notes["adapted"][0]


def test_a_file_that_fits_none_names_the_nearest(torchvision_file, tmp_path):
    network, _ = torchvision_file("resnet18", num_classes=3)
    state = network.state_dict()
    del state["layer2.0.conv1.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"nearest is resnet18: they lack stages\.conv3_x\.0\.conv1\.weight"):
        open_network(tmp_path / "w.pth")
    with pytest.raises(ModelError, match="these are not weights of resnet18: they lack"):
        open_network(f"resnet18:{tmp_path / 'w.pth'}")
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="no registered network has these weights"):
        open_network(tmp_path / "w.pth")
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="no tensors"):
        open_network(tmp_path / "w.pth")


def test_other_classes_and_channels_are_said(torchvision_file, heard):
    reference, path = torchvision_file("resnet18", num_classes=5)
    saved = open_network(f"resnet18:{path}", classes=3, in_channels=1, progress=heard)
    assert saved.notes["adapted"] == [
        "new head for 3 classes, started randomly: the weights have 5",
        "first layer for 1 channels from one for 3: its weights summed over the channels",
    ]
    assert [line.removeprefix("resnet18: ") for line in heard.lines] == saved.notes["adapted"]
    assert (len(saved.labels), saved.spec.channels, len(saved.spec.mean)) == (3, 1, 1)
    grey = torch.randn(2, 1, 64, 64)
    reference.fc = torch.nn.Identity()
    with torch.no_grad():
        expected = reference(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(saved.model.features(grey).mean((2, 3)), expected, rtol=1e-4, atol=1e-5)
    five = open_network(f"resnet18:{path}", in_channels=5)
    same = torch.ones(1, 1, 64, 64)
    with torch.no_grad():  # the sum over the inputs keeps its size
        weight, wide = reference.conv1.weight, five.model.stem.conv1.weight
    torch.testing.assert_close(wide[:, 3], weight[:, 0] * 3 / 5)
    assert five.model(same.expand(-1, 5, -1, -1)).isfinite().all()
    assert open_network(f"resnet18:{path}", classes=5).notes.get("adapted") is None


def test_wrappings_of_training_loops(torchvision_file, tmp_path):
    reference, _ = torchvision_file("resnet18", num_classes=3)
    state = {f"module.{key}": value for key, value in reference.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 90, "best_acc1": 70.0}, tmp_path / "a.pth.tar")
    same_logits(open_network(f"resnet18:{tmp_path / 'a.pth.tar'}").model, reference)
    half = {key: value.half() if value.is_floating_point() else value for key, value in reference.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    saved = open_network(f"resnet18:{tmp_path / 'half.safetensors'}")
    assert saved.model.stem.conv1.weight.dtype == torch.float32
    same_logits(saved.model, reference, tolerance=1e-2)


def test_our_own_files_and_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = create_model("lenet5_dense", classes=3)
    run = tmp_path / "runs" / "20260101-lenet5_dense-x"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text("")
    spec = InputSpec(size=(32, 32), channels=1)
    save_model(run / "model.safetensors", model, spec, Labels(("a", "b", "c")), notes={"epoch": 1})
    for text in ("latest", "2026", str(run), run / "model.safetensors", f"lenet5:{run}"):
        saved = open_network(text)
        assert saved.notes["epoch"] == 1
        assert saved.labels.names == ("a", "b", "c")
        assert torch.equal(saved.model.head[-1].weight, model.head[-1].weight)
    other = open_network("latest", classes=4, in_channels=3)
    assert len(other.notes["adapted"]) == 2
    assert len(other.labels) == 4
    with pytest.raises(ModelError, match="holds a lenet5_dense, not a resnet18"):
        open_network(f"resnet18:{run}")


def test_a_name_alone_has_random_weights_and_says_so(heard):
    saved = open_network("resnet20", classes=4, progress=heard)
    assert saved.notes["weights"] == "random"
    assert "random" in heard.warnings[0]
    assert open_network("vgg16", weights=False).notes["weights"] == "none"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("resnt18", UnknownNameError, "resnt18"),
        ("resnet18:none.pth", CheckpointError, "no file none.pth"),
        ("none.safetensors", CheckpointError, "no model file or run"),
        ("latest", CheckpointError, "no run"),
        ("net.py:Net", ModelError, "cannot read net.py"),
        ("resnet18:", UsageError, "names no weights"),
        ("net.py:Net:", UsageError, "names no weights"),
    ],
)
def test_what_is_not_there(text, error, words):
    with pytest.raises(error, match=words) as caught:
        open_network(text)
    assert caught.value.hint


def test_spellings_that_mean_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"x")
    assert read_spelling("resnet18:imagenet1k_v1").absolute == "resnet18:imagenet1k_v1"
    assert read_spelling("resnet18:w.pth").absolute == f"resnet18:{tmp_path / 'w.pth'}"
    assert read_spelling("w.pth").absolute == str(tmp_path / "w.pth")
    assert read_spelling("timm:resnet10t.c3_in1k").absolute == "timm:resnet10t:c3_in1k"
    assert read_spelling("resnet20").absolute == "cifar_resnet20"
    assert read_spelling("net.py:Net:w.pth").absolute == f"{tmp_path / 'net.py'}:Net:{tmp_path / 'w.pth'}"


def test_counts_of_any_network():
    pytest.importorskip("timm", reason="timm builds it")
    assert described("resnet20").params == 269_722
    entry = described("timm:resnet18")
    assert (entry.params, entry.macs) == (11_689_512, 1_814_073_344)
