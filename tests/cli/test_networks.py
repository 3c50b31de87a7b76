"""Spellings of networks on the command line, with the real weights where they are there."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from striate.checkpoint import load_model
from striate.cli.main import striate
from striate.hub.classes import imagenet_labels, other_names

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RESNET20 = DATA / "weights" / "resnet20-12fca82f.th"
SQUEEZENET = DATA / "weights" / "squeezenet1_1_caffe_rgbnorm.pth"
CIFAR = DATA / "cifar-10-python.tar.xz"
SAMPLES = DATA / "imagenet_samples"
QUICK = ("--epochs", "1", "--limit", "160", "--preset", "none", "--precision", "fp32", "--device", "cpu", "--no-report")

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=10, in_channels=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        return self.fc(self.bn2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3)))
"""


def needs(*paths: Path):
    missing = [path.name for path in paths if not path.exists()]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not there")


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))

    def called(*words: object, fails: bool = False):
        result = CliRunner().invoke(striate, [*map(str, words)])
        assert (result.exit_code != 0) == fails, result.output
        return result

    return called


@pytest.mark.slow
@needs(RESNET20, CIFAR)
def test_the_published_accuracy_of_resnet20(call, tmp_path):
    with tarfile.open(CIFAR) as archive:
        archive.extractall(tmp_path, filter="data")
    result = call("evaluate", f"cifar_resnet20:{RESNET20}", "cifar10", "--data-root", tmp_path, "--json")
    row = json.loads(result.stdout)
    assert (row["top1"], row["n"], row["split"]) == (0.9173, 10_000, "test")


@needs(SQUEEZENET, SAMPLES)
def test_squeezenet_knows_the_samples(call):
    """A file that is recognised by its keys, and classes that are found by their synsets."""
    rows = json.loads(call("predict", SQUEEZENET, SAMPLES, "--json", "--device", "cpu").stdout)["predictions"]
    numbers, names = other_names(imagenet_labels()), imagenet_labels().names
    right = sum(
        names[numbers[Path(row["path"]).name.partition("_")[0]]] in [one["label"] for one in row["labels"]]
        for row in rows
    )
    assert len(rows) == 25
    assert right >= 23


@needs(SQUEEZENET, SAMPLES)
def test_folders_named_by_synsets_and_by_names(call, tmp_path):
    for file in sorted(SAMPLES.glob("*.JPEG"))[:4]:
        synset, _, name = file.stem.partition("_")
        for root, folder in (("synsets", synset), ("names", name), ("both", file.stem)):
            (tmp_path / root / folder).mkdir(parents=True)
            for copy in range(2):
                (tmp_path / root / folder / f"{copy}.jpg").write_bytes(file.read_bytes() + bytes(copy))
    rows = [
        json.loads(call("evaluate", f"squeezenet1_1:{SQUEEZENET}", root, "--json", "--device", "cpu").stdout)
        for root in ("synsets", "names", "both")
    ]
    assert rows[0]["n"] == 8
    assert rows[0]["top5"] >= 0.75
    assert rows[0]["loss"] == rows[1]["loss"] == rows[2]["loss"]


def test_no_network_is_said_in_plain_words(call, tmp_path):
    result = call("predict", "resnet18:imagenet1k_v1", "x.jpg", "--offline", fails=True)
    assert result.exit_code == 1
    assert "error: the weights resnet18:imagenet1k_v1 are not on this machine" in result.stderr
    assert str(tmp_path / "cache" / "weights" / "resnet18-f37072fd.pth") in result.stderr
    assert "resnet18:FILE" in result.stderr
    assert "Traceback" not in result.output


def test_training_a_class_of_one_s_own(call, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    call("train", "digits", "--model", "net.py:Net", *QUICK)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.endswith("-net.py-Net-digits")
    # the run names its code, but only the caller can have it run
    for words in (("evaluate", "latest"), ("train", "--resume", "latest", "--epochs", "2")):
        result = call(*words, fails=True)
        assert "whose code is not part of" in result.stderr
        assert "net.py:Net" in result.stderr.splitlines()[-1]
    result = call("train", "digits", "--recipe", run / "recipe.toml", fails=True)
    assert "which a recipe cannot" in result.stderr
    row = json.loads(call("evaluate", "net.py:Net:latest", "--json").stdout)
    assert (row["model"], row["split"]) == ("net.py:Net", "val")
    call("train", "--resume", "latest", "--epochs", "2", "--model", "net.py:Net")
    assert "starting from" in call("train", "digits", "--from", f"net.py:Net:{run}", *QUICK).stderr
    # a linear classifier of its codes can be done again, too, and its code is no more run unasked
    call("train", "digits", "--from", f"net.py:Net:{run}", "--scenario", "svm", *QUICK, "--run-dir", "linear")
    (tmp_path / "linear" / "model.safetensors").unlink()
    result = call("train", "--resume", "linear", fails=True)
    assert "the recipe names code to be run" in result.stderr
    assert not (tmp_path / "linear" / "model.safetensors").exists()
    call("train", "--resume", "linear", "--model", "net.py:Net")
    assert (tmp_path / "linear" / "model.safetensors").exists()


def test_from_weights_takes_their_input_and_says_what_is_new(call, tmp_path):
    torchvision = pytest.importorskip("torchvision.models", reason="torchvision makes the weights")
    torch.manual_seed(0)
    theirs = torchvision.squeezenet1_1(num_classes=7)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    words = ("--from", "squeezenet1_1:w.pth", "--scenario", "all", "--input-size", "40", "--lr", "1e-9", *QUICK)
    result = call("train", "digits", *words)
    assert "squeezenet1_1: new head for 10 classes, started randomly: the weights have 7" in result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    saved = load_model(run)
    assert saved.spec.mean == (0.485, 0.456, 0.406)
    assert (saved.spec.size, saved.spec.channels) == ((40, 40), 3)
    first = next(saved.model.stem.parameters())
    torch.testing.assert_close(first, next(theirs.parameters()), rtol=1e-3, atol=1e-4)
    refused = call("train", "digits", "--from", "squeezenet1_1:w.pth", "--model", "resnet18", *QUICK, fails=True)
    assert "not a resnet18" in refused.stderr
    assert "names no weights" in call("train", "digits", "--from", "resnet18", *QUICK, fails=True).stderr


def test_classes_of_other_names_get_a_new_head(call, tmp_path):
    call("train", "digits", "--model", "compact_s", *QUICK)
    (first,) = (tmp_path / "runs").iterdir()
    again = call("train", "digits", "--from", first, *QUICK)
    assert "new head" not in again.stderr
    folder = tmp_path / "shapes"
    generator = torch.Generator().manual_seed(0)
    from PIL import Image

    for name in "abcdefghij":
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = torch.randint(0, 255, (8, 8), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    other = call("train", folder, "--from", first, *QUICK)
    assert "new head for 10 classes, started randomly: the weights have others" in other.stderr


def test_training_a_network_of_timm(call, tmp_path):
    pytest.importorskip("timm", reason="timm builds it")
    call("train", "digits", "--model", "timm:test_resnet", "--input-size", "32", *QUICK)
    row = json.loads(call("evaluate", "latest", "--json").stdout)
    assert row["model"] == "timm:test_resnet"
    call("train", "--resume", "latest", "--epochs", "2")
