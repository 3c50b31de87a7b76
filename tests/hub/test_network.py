"""Every spelling of a network, with real files and a real server."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from striate.checkpoint import save_model
from striate.errors import CheckpointError, ModelError, OfflineError, UnknownNameError, UsageError
from striate.hub import published
from striate.models import create_model
from striate.models.adapt import adapted
from striate.models.reference import their_name
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
    with pytest.raises(ModelError, match=r"nearest is resnet18: they lack layer2\.0\.conv1\.weight"):
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


def published_names(name, publisher, tmp_path, **config):
    """A file of random weights under the publisher's keys."""
    model = create_model(name, classes=3, **config)
    naming = next(one for one in model.published_names() if one.publisher == publisher)
    theirs = {key: their_name(naming, key) for key in model.state_dict()}
    assert None not in theirs.values(), theirs
    path = tmp_path / f"{name}-{publisher}.pth"
    torch.save({theirs[key]: value for key, value in model.state_dict().items()}, path)
    return path


def test_networks_that_a_file_cannot_tell_apart_are_all_named(tmp_path):
    """bvlc_alexnet and CaffeNet: the same keys and shapes, another order of pooling and normalisation."""
    path = published_names("caffenet", "caffe", tmp_path)
    with pytest.raises(ModelError, match=r"fit several networks: caffenet, alexnet_2012$"):
        open_network(path)
    assert open_network(f"alexnet_2012:{path}").model.architecture.config["pool_first"] is False


@pytest.mark.parametrize(
    ("name", "publisher", "other"),
    [
        ("cifar_resnet20", "akamaster", "cifar_plain20"),
        ("squeezenet1_0", "torchvision", "squeezenet_simple_bypass"),
        ("squeezenet1_0", "caffe", "squeezenet_simple_bypass"),
    ],
)
def test_a_file_alone_is_of_what_its_publisher_ships(tmp_path, name, publisher, other):
    path = published_names(name, publisher, tmp_path)
    assert open_network(path).model.architecture.name == name
    assert open_network(f"{other}:{path}").model.architecture.name == other


def test_no_publisher_says_so(tmp_path):
    torch.save(create_model("cifar_plain20").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"fit several networks: cifar_resnet20, cifar_plain20"):
        open_network(tmp_path / "w.pth")


@pytest.mark.parametrize("side", [224, 192, 160, 128])
def test_the_size_is_that_of_the_name(tmp_path, side):
    path = published_names("mobilenet_v1_1.0_224", "timm", tmp_path)
    saved = open_network(f"mobilenet_v1_1.0_{side}:{path}")
    assert saved.spec.size == saved.model.architecture.input_size == (side, side)
    assert (saved.spec.mean, saved.spec.interpolation) == ((0.5,), "bicubic")
    if side == 224:
        for text in (path, f"mobilenetv1_100:{path}"):
            saved = open_network(text)
            assert (saved.model.architecture.name, saved.spec.size) == ("mobilenet_v1_1.0_224", (224, 224))
            assert "adapted" not in saved.notes


def test_another_meaning_is_told_only_where_the_file_may_have_it(tmp_path):
    path = published_names("googlenet", "caffe", tmp_path, auxiliary=False)
    saved = open_network(f"googlenet:{path}")
    assert saved.model.architecture.name == "googlenet"
    assert not any("publisher" in line for line in saved.notes["adapted"])


def test_misfits_go_by_the_names_of_the_file(tmp_path):
    state = torch.load(published_names("cifar_resnet20", "akamaster", tmp_path), weights_only=True)
    bn = state.pop("layer3.2.bn2.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"they lack layer3\.2\.bn2\.weight$"):
        open_network(f"cifar_resnet20:{tmp_path / 'w.pth'}")
    state |= {"layer3.2.bn2.weight": bn, "layer1.0.conv2.weight": torch.zeros(16, 16, 5, 5)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"another shape layer1\.0\.conv2\.weight \(16x16x5x5, not 16x16x3x3\)"):
        open_network(f"cifar_resnet20:{tmp_path / 'w.pth'}")


def test_blue_first_filters_are_turned_for_other_channels(tmp_path):
    path = published_names("squeezenet1_1", "caffe", tmp_path)
    three = open_network(f"squeezenet1_1:{path}")
    saved = open_network(f"squeezenet1_1:{path}", in_channels=4)
    assert three.spec.channel_order == "BGR"
    assert saved.spec.channel_order == "RGB"
    blue_first = three.model.stem.conv1.conv.weight
    expected = blue_first[:, [2, 1, 0, 2]] * 3 / 4
    torch.testing.assert_close(saved.model.stem.conv1.conv.weight, expected)
    save_model(tmp_path / "ours.safetensors", three.model, three.spec, three.labels)
    again = open_network(tmp_path / "ours.safetensors", in_channels=4)
    torch.testing.assert_close(again.model.stem.conv1.conv.weight, expected)
    assert "red first" in again.notes["adapted"][0]


@pytest.mark.parametrize("wanted", [{"classes": 0}, {"in_channels": 0}])
def test_nothing_at_all_is_no_network(tmp_path, wanted):
    torch.save(create_model("cifar_resnet20").state_dict(), tmp_path / "w.pth")
    for text in ("cifar_resnet20", f"cifar_resnet20:{tmp_path / 'w.pth'}"):
        with pytest.raises(UsageError, match="a network of 0"):
            open_network(text, **wanted)
    with pytest.raises(ModelError, match="at least 1"):
        adapted(
            lambda **figures: create_model("cifar_resnet20", **figures),
            torch.load(tmp_path / "w.pth", weights_only=True),
            **wanted,
        )


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"model": {"state_dict": state}, "epoch": 3},
        lambda state: {"weights": state},
        lambda state: {"model_state": state, "optimizer_state": {"state": {}, "param_groups": []}},
        lambda state: {"ema": state, "epoch": 3},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {f"model.module.{key}": value for key, value in state.items()}},
    ],
)
def test_wrappings_of_other_training_loops(tmp_path, wrapped):
    state = torch.load(published_names("cifar_resnet20", "akamaster", tmp_path), weights_only=True)
    torch.save(wrapped(state), tmp_path / "w.pth")
    for text in (tmp_path / "w.pth", f"cifar_resnet20:{tmp_path / 'w.pth'}"):
        model = open_network(text).model
        assert torch.equal(model.stem.conv1.weight, state["conv1.weight"])


def test_a_file_without_weights_says_what_it_has(tmp_path):
    torch.save({"epoch": 3, "scores": {"top1": 0.5}}, tmp_path / "w.pth")
    for text in (tmp_path / "w.pth", f"cifar_resnet20:{tmp_path / 'w.pth'}"):
        with pytest.raises(ModelError, match=r"no tensors where .*but epoch, scores \{top1\}"):
            open_network(text)
