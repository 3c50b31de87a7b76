"""Reading files of weights: nothing in them runs, and every other kind of file is named."""

import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from striate.checkpoint import save_model
from striate.errors import CheckpointError
from striate.hub.files import is_ours, read_state
from striate.models import create_model
from striate.spec import InputSpec, Labels

STATE = {"conv.weight": torch.arange(6.0).view(1, 1, 2, 3), "conv.bias": torch.ones(1)}


@pytest.mark.parametrize("old", [False, True])
def test_state_dicts_of_torch(tmp_path, old):
    torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    state = read_state(tmp_path / "w.pth")
    assert torch.equal(state["state_dict"]["conv.weight"], STATE["conv.weight"])


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    assert torch.equal(read_state(tmp_path / "w.safetensors")["conv.weight"], STATE["conv.weight"])
    assert not is_ours(tmp_path / "w.safetensors")
    model = create_model("lenet5_dense", classes=2)
    save_model(tmp_path / "ours.safetensors", model, InputSpec(size=(32, 32), channels=1), Labels(("a", "b")))
    assert is_ours(tmp_path / "ours.safetensors")


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("how", ["zip", "old", "pickle", "nested"])
def test_code_in_a_file_is_not_run(tmp_path, how):
    victim, path = tmp_path / "made-by-the-file", tmp_path / "w.pth"
    bad = Malicious(victim)
    if how == "pickle":
        path.write_bytes(pickle.dumps(bad))
    elif how == "nested":
        torch.save({"state_dict": {**STATE, "extra": bad}}, path)
    else:
        torch.save(bad, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"asks for code to be run.*mkdir|not opened") as caught:
        read_state(path)
    assert not victim.exists()
    assert "state_dict()" in (caught.value.hint or "")


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"asks for code to be run.*Linear"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"not found\n" * 20, "is text"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"\x0a\xff\xfe\x01" * 40, "no kind that is known"),
        (b"PK\x03\x04" + b"\0" * 200, "damaged"),
        (b"\x80\x02}q\x00", "damaged"),
    ],
)
def test_other_kinds_of_files(tmp_path, content, words):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", ["pth", "old.pth", "safetensors"])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_truncated_files(tmp_path, kind, part):
    path = tmp_path / f"w.{kind}"
    state = {"weight": torch.randn(64, 64)}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pth")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)


def test_missing_and_other_contents(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read"):
        read_state(tmp_path / "none.pth")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    with pytest.raises(CheckpointError, match="a bare tensor"):
        read_state(tmp_path / "tensor.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="a list"):
        read_state(tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(CheckpointError, match="damaged, or no file of torch"):
        read_state(tmp_path / "photos.zip")


def test_numbers_of_numpy_are_plain_numbers(tmp_path):
    import numpy as np

    notes = {"best": np.float64(91.73), "epoch": np.int64(-4), "half": np.float16(0.5), "done": np.bool_(True)}
    for old in (False, True):
        torch.save({"state_dict": STATE, **notes}, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
        state = read_state(tmp_path / "w.pth")
        assert {key: state[key] for key in notes} == notes
        assert type(state["best"]) is float


def test_objects_of_numpy_are_not_opened(tmp_path):
    """NumPy's own unpickling of such a value would call what the file names."""
    import numpy as np

    victim = tmp_path / "made-by-the-file"

    class Value:
        def __reduce__(self):
            scalar = np.float64(1).__reduce__()[0]
            return scalar, (np.dtype("O"), pickle.dumps(Malicious(victim)))

    torch.save({"state_dict": STATE, "best": Value()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "w.pth")
    torch.save({"state_dict": STATE, "best": np.array([Malicious(victim)], dtype=object)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="asks for code"):
        read_state(tmp_path / "w.pth")
    assert not victim.exists()
