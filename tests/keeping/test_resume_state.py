"""Resume states: exact, checked, and there whatever moment the process is killed at."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.checkpoint import load_state, save_state
from striate.errors import CheckpointError

TOOL = Path(__file__).with_name("kill_while_saving.py")


def state_at(step: int) -> dict:
    return {"epoch": step // 10, "step": step, "weights": torch.full((500,), float(step))}


def saved_states(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".pt"))


def test_everything_comes_back_exactly(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.PReLU())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    schedule_state = schedule.state_dict()
    state = {
        "epoch": 2,
        "step": 17,
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule_state,
        "random": {"torch": torch.get_rng_state(), "python": random.Random(1).getstate()},
        "plain": [None, True, 1.5, float("nan"), "é", b"\0", (1, (2,)), {3: "x"}, OrderedDict(a=1), Counter("aa")],
        "half": torch.randn(3).bfloat16(),
        "scalar": torch.tensor(3),
    }
    save_state(tmp_path, state)
    loaded, warning = load_state(tmp_path)
    assert warning is None
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded["model"][name], tensor) for name, tensor in state["model"].items())
    momentum = [one["momentum_buffer"] for one in loaded["optimizer"]["state"].values()]
    expected = [one["momentum_buffer"] for one in state["optimizer"]["state"].values()]
    assert all(map(torch.equal, momentum, expected))
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    assert loaded["schedule"] == schedule_state
    assert loaded["random"]["python"] == state["random"]["python"]
    assert torch.equal(loaded["random"]["torch"], state["random"]["torch"])
    assert repr(loaded["plain"]) == repr(state["plain"])
    assert torch.equal(loaded["half"], state["half"])
    assert loaded["scalar"].item() == 3


def test_the_pointer_says_what_is_there(tmp_path):
    for step in range(4):
        save_state(tmp_path / "resume", state_at(step * 10))
    pointer = json.loads((tmp_path / "resume" / "latest.json").read_text())
    assert (pointer["epoch"], pointer["step"]) == (3, 30)
    assert (tmp_path / "resume" / pointer["file"]).stat().st_size == pointer["bytes"]
    assert [one["step"] for one in pointer["older"]] == [20]
    assert saved_states(tmp_path / "resume") == sorted([pointer["file"], pointer["older"][0]["file"]])
    assert len(os.listdir(tmp_path / "resume")) == 3
    assert load_state(tmp_path / "resume")[0]["step"] == 30


@pytest.mark.parametrize("keep", [1, 3])
def test_keep_says_how_many(tmp_path, keep):
    for step in range(5):
        save_state(tmp_path, state_at(step), keep=keep)
    assert len(saved_states(tmp_path)) == keep
    with pytest.raises(ValueError, match="at least one"):
        save_state(tmp_path, state_at(6), keep=0)


@pytest.mark.parametrize("value", [np.float64(1), np.zeros(2), Path("a"), object(), {"deep": [np.int64(3)]}, print])
def test_what_could_not_be_read_back_is_refused_when_saving(tmp_path, value):
    with pytest.raises(TypeError, match=r"state\['epoch'\]\['inner'\].* is a "):
        save_state(tmp_path, {"epoch": {"inner": value}})
    assert os.listdir(tmp_path) == []


def damage_truncate(file: Path) -> str:
    os.truncate(file, file.stat().st_size // 2)
    return "bytes"


def damage_flip(file: Path) -> str:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)
    return "checksum"


def damage_empty(file: Path) -> str:
    file.write_bytes(b"")
    return "has 0 bytes"


def damage_remove(file: Path) -> str:
    file.unlink()
    return "is missing"


DAMAGES = [damage_truncate, damage_flip, damage_empty, damage_remove]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (10, 20):
        save_state(tmp_path / "resume", state_at(step))
    return tmp_path / "resume"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_latest_gives_the_one_before_and_says_so(folder, damage):
    word = damage(folder / saved_states(folder)[-1])
    loaded, warning = load_state(folder)
    assert torch.equal(loaded["weights"], torch.full((500,), 10.0))
    assert word in (warning or "")
    assert "going on from epoch 1, step 10" in (warning or "")
    save_state(folder, state_at(30))
    assert load_state(folder)[0]["step"] == 30


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_usable_is_an_error_that_changes_nothing(folder, damage):
    for name in saved_states(folder):
        damage(folder / name)
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    with pytest.raises(CheckpointError) as caught:
        load_state(folder)
    assert caught.value.message.count("state-00000") == 2
    assert "--from" in (caught.value.hint or "")
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"version": 1}'])
def test_a_damaged_pointer_gives_the_newest_state(folder, content):
    (folder / "latest.json").write_bytes(content)
    loaded, warning = load_state(folder)
    assert loaded["step"] == 20
    assert "latest.json is damaged" in (warning or "")
    save_state(folder, state_at(30))
    assert load_state(folder)[1] is None


def test_a_pointer_leads_nowhere_else(folder):
    outside = folder.parent / "state-000009-0123456789abcdef.pt"
    shutil.copy(folder / saved_states(folder)[0], outside)
    pointer = json.loads((folder / "latest.json").read_text())
    pointer["file"] = f"../{outside.name}"
    (folder / "latest.json").write_text(json.dumps(pointer))
    assert load_state(folder)[0]["step"] == 20


def test_a_missing_pointer_is_no_fault(folder):
    """Killed after the first state and before the first pointer."""
    (folder / "latest.json").unlink()
    loaded, warning = load_state(folder)
    assert loaded["step"] == 20
    assert warning is None


def test_states_of_a_newer_striate(folder):
    pointer = json.loads((folder / "latest.json").read_text()) | {"version": 2}
    (folder / "latest.json").write_text(json.dumps(pointer))
    with pytest.raises(CheckpointError, match="format version 2"):
        load_state(folder)


def test_no_state_at_all(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match="there is no resume state") as caught:
            load_state(folder)
        assert caught.value.hint


def test_a_state_cannot_run_code(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    import hashlib

    torch.save({"x": Trap()}, tmp_path / "trap.pt")
    digest = hashlib.sha256((tmp_path / "trap.pt").read_bytes()).hexdigest()
    (tmp_path / "trap.pt").rename(folder / f"state-000077-{digest[:16]}.pt")
    (folder / "latest.json").unlink()
    loaded, warning = load_state(folder)
    assert loaded["step"] == 20
    assert "is not a state of ours" in (warning or "")
    assert not (tmp_path / "sprung").exists()


def test_a_full_disk_loses_no_state(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        save_state(disk, state_at(1))
        save_state(disk, state_at(2))
        before = {name: (disk / name).read_bytes() for name in os.listdir(disk)}
        with pytest.raises(CheckpointError, match="no space left") as caught:
            save_state(disk, {"big": torch.randn(50_000)})
        assert "untouched" in (caught.value.hint or "")
        assert {name: (disk / name).read_bytes() for name in os.listdir(disk)} == before
        assert load_state(disk)[0]["step"] == 2
        save_state(disk, state_at(3))
        assert load_state(disk)[0]["step"] == 3
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["between-calls", "at-random"])
def test_killed_at_any_moment(tmp_path, how):
    """The tool forks, really kills the child while it saves, and checks what is left; see there."""
    done = subprocess.run([sys.executable, TOOL, how, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout.split()[-1])
    assert kills >= 25, done.stdout
