"""Model files: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from striate.checkpoint import load_model, save_model, write_atomically
from striate.errors import CheckpointError
from striate.hub.files import read_state
from striate.models import create_model
from striate.spec import InputSpec, Labels

SPEC = InputSpec(size=(32, 32), channels=1, mean=(0.25,), std=(0.5,), resize="pad", bits=16)
LABELS = Labels(("été", "日本", "caf\udce9"))  # the last: a folder name in Latin-1, as Python gives it


@pytest.fixture(params=["lenet5_dense", "resnet20"])
def model(request):
    torch.manual_seed(3)
    made = create_model(request.param, classes=3, in_channels=1, input_size=32)
    for buffer in made.buffers():  # batch-norm statistics must not be at their start
        if buffer.is_floating_point() and buffer.requires_grad is False and buffer.ndim == 1:
            buffer.add_(torch.rand_like(buffer))
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    model = create_model("lenet5_dense", classes=3, in_channels=1, input_size=32)
    save_model(tmp_path / "model.safetensors", model, SPEC, LABELS, scores={"top1": 0.5}, notes={"epoch": 4})
    return tmp_path / "model.safetensors"


def test_everything_comes_back(model, tmp_path):
    scores = {"val": {"top1": np.float64(0.75), "top5": None}}
    save_model(tmp_path / "a.safetensors", model.train(), SPEC, LABELS, scores=scores, notes={"from": tmp_path})
    loaded = load_model(str(tmp_path / "a.safetensors"))
    assert (loaded.spec, loaded.labels, loaded.path) == (SPEC, LABELS, tmp_path / "a.safetensors")
    assert loaded.scores == {"val": {"top1": 0.75, "top5": None}}
    assert loaded.notes == {"from": str(tmp_path)}
    assert not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    images = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.model(images), model.eval()(images))


def test_the_memory_layout_does_not_matter_and_equal_networks_give_equal_bytes(model, tmp_path):
    save_model(tmp_path / "a", model, SPEC, LABELS)
    save_model(tmp_path / "b", model.to(memory_format=torch.channels_last), SPEC, LABELS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_that_share_memory_are_kept(tmp_path):
    model = create_model("lenet5_dense", classes=3, in_channels=1, input_size=32)
    biases = [module for module in model.modules() if getattr(module, "bias", None) is not None]
    shared = torch.arange(200.0)
    for module in biases:
        module.bias.data = shared[: len(module.bias)]
    save_model(tmp_path / "a", model, SPEC, LABELS)
    loaded = load_model(tmp_path / "a").model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_loading_moves_no_random_state(saved):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_model(saved)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_folder_stands_for_its_model(saved):
    assert load_model(saved.parent).notes == {"epoch": 4}


def test_other_tools_can_read_the_parameters(saved):
    expected = load_model(saved).model.state_dict()
    tensors = load_file(saved)
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_label_count_must_fit(tmp_path, model):
    with pytest.raises(ValueError, match="2 class names for a network of 3"):
        save_model(tmp_path / "a", model, SPEC, Labels(("a", "b")))


def refuse(path: Path, *words: str) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert caught.value.hint
    for word in words:
        assert word in caught.value.message, caught.value.message
    return caught.value


def test_missing_files(tmp_path):
    refuse(tmp_path / "none.safetensors", "there is no model file")
    refuse(tmp_path, "holds no model.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am no model", "damaged"),
        (b"\0" * 4096, "damaged"),
        (b"\xff" * 4096, "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged"),
    ],
)
def test_other_files(tmp_path, content, words):
    (tmp_path / "x.safetensors").write_bytes(content)
    refuse(tmp_path / "x.safetensors", words)


def test_pickles_are_refused_unopened(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "bare.safetensors").write_bytes(pickle.dumps(Trap()))
    torch.save({"x": Trap()}, tmp_path / "archive.safetensors")
    refuse(tmp_path / "bare.safetensors", "pickled")
    refuse(tmp_path / "archive.safetensors", "pickled")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("length", [b"\x80\x02", b"\x80\x04", b"\x80\x05"])
def test_a_header_whose_length_begins_as_a_pickle_does_is_no_pickle(tmp_path, length):
    """640, 1152 and 1408 bytes are written 80 02, 80 04 and 80 05, which are the first bytes of pickles too."""
    path = tmp_path / "model.safetensors"
    for spaces in range(0, 1400, 4):
        save_file({"weight": torch.ones(3)}, path, metadata={"note": " " * spaces})
        if path.read_bytes()[:2] == length:
            break
    else:
        raise AssertionError("no such header came up")
    assert torch.equal(read_state(path)["weight"], torch.ones(3))
    error = refuse(path)  # it is no model file, and that is what is said
    assert "pickled" not in error.message


def test_foreign_safetensors(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    refuse(tmp_path / "x.safetensors", "not written by Striate")


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_files(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * keep)])
    refuse(saved, "damaged")


def test_no_flipped_bit_goes_unnoticed(saved):
    """Any bit of header or parameters: refused, or (in what the header holds beside ours) without effect."""
    content = saved.read_bytes()
    header = int.from_bytes(content[:8], "little") + 8
    expected = load_model(saved)
    draw = random.Random(0)
    places = [*range(8), *draw.sample(range(8, header), 150), *draw.sample(range(header, len(content)), 40)]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        saved.write_bytes(flipped)
        try:
            loaded = load_model(saved)
        except CheckpointError:
            continue
        assert place < header, f"a flipped parameter at byte {place} was not noticed"
        assert (loaded.spec, loaded.labels, loaded.scores) == (expected.spec, expected.labels, expected.scores)
        theirs = expected.model.state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in loaded.model.state_dict().items())


def without(record: dict, *path: str) -> dict:
    """A copy of a nested record that lacks one key."""
    name, *rest = path
    if rest:
        return record | {name: without(record[name], *rest)}
    return {key: value for key, value in record.items() if key != name}


def rewritten(path: Path, change: Callable[[dict], dict] = dict, **changes: object) -> Path:
    """The file with its record changed and a checksum that fits, as another version of Striate might write it."""
    from safetensors import safe_open

    from striate.checkpoint import model_file

    with safe_open(path, framework="pt") as archive:
        record = change(without(json.loads(archive.metadata()["striate"]), "sha256") | changes)
    tensors = load_file(path)
    record["sha256"] = model_file._checksum(record, tensors)
    save_file(tensors, path, {"striate": json.dumps(record)})
    return path


def test_unknown_versions(saved):
    error = refuse(rewritten(saved, format_version=7, versions={"striate": "9.1"}), "format version 7", "up to 4")
    assert error.hint == "it was written by Striate 9.1: upgrade Striate"
    refuse(rewritten(saved, format_version="one"), "damaged")
    refuse(rewritten(saved, format_version=0), "damaged")


def test_files_of_the_first_version_are_read(saved):
    expected = load_model(saved).model
    later = [field for field in asdict(expected.architecture) if field.startswith(("cut", "sides"))]
    assert later

    def as_then(record: dict) -> dict:
        for field in later:
            record = without(record, "architecture", field)
        return record | {"format_version": 1}

    model = load_model(rewritten(saved, as_then)).model
    assert model.architecture == expected.architecture
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_networks_that_this_striate_does_not_have(saved):
    model = load_model(saved).model
    refuse(rewritten(saved, architecture=asdict(model.architecture) | {"name": "lenet9"}), "cannot be built", "lenet9")
    refuse(rewritten(saved, architecture={"name": "lenet5_dense"}), "cannot be built")
    refuse(rewritten(saved, architecture=asdict(model.architecture) | {"classes": 4}), "cannot be built")


def test_records_that_do_not_fit(saved):
    refuse(rewritten(saved, labels=["a", "a", "b"]), "occur twice")
    refuse(rewritten(saved, input={"size": [3, 3]}), "cannot be built")
    refuse(rewritten(saved, input=None), "cannot be built")


REQUIRED = [
    *[(name,) for name in ("format_version", "architecture", "input", "labels")],
    *[("architecture", name) for name in ("name", "config", "in_channels", "classes", "input_size")],
    *[("input", name) for name in ("size", "channels")],
]


@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
def test_a_record_that_lacks_something_is_refused_in_plain_words(saved, path):
    error = refuse(rewritten(saved, lambda record: without(record, *path)))
    assert error.hint


@pytest.mark.parametrize("name", ["scores", "notes", "versions"])
def test_what_is_only_told_may_be_missing(saved, name):
    rewritten(saved, lambda record: without(record, name))
    assert load_model(saved).labels == LABELS


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 256 KiB, really full after that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_nothing(small_disk):
    write_atomically(small_disk / "metrics.json", b"old" * 1000)
    before = (small_disk / "metrics.json").read_bytes()
    with pytest.raises(CheckpointError, match="no space left") as caught:
        write_atomically(small_disk / "metrics.json", os.urandom(2**20))
    assert "free some space" in (caught.value.hint or "")
    assert os.listdir(small_disk) == ["metrics.json"]
    assert (small_disk / "metrics.json").read_bytes() == before
    big = create_model("resnet20", classes=3, in_channels=1, input_size=32)
    big.extra = torch.nn.Parameter(torch.zeros(2**18))
    with pytest.raises(CheckpointError, match="no space left"):
        save_model(small_disk / "model.safetensors", big, SPEC, LABELS)
    assert os.listdir(small_disk) == ["metrics.json"]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match="cannot write") as caught:
        write_atomically(tmp_path / "none" / "a.json", b"x")
    assert str(tmp_path / "none") in (caught.value.hint or "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="cannot write"):
        write_atomically(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]


def test_leftovers_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path):
    finished = subprocess.Popen(["true"])
    finished.wait()
    (tmp_path / f".a.json.{finished.pid}-1.part").touch()
    (tmp_path / f".a.json.{os.getppid()}-1.part").touch()
    write_atomically(tmp_path / "a.json", b"x")
    assert sorted(os.listdir(tmp_path)) == [f".a.json.{os.getppid()}-1.part", "a.json"]
