"""Processes really killed with SIGKILL, at moments drawn at random: the weights end the same to the bit.

Two kills here; twenty, with their result file, by `benchmarks/resume_kills.py`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from striate.checkpoint import load_model
from striate.runfolder import RunFolder

from .mosaics import write_mosaics

TRAIN = [
    "train", "digits", "--limit", "400", "--epochs", "8", "--model", "compact_s", "--batch-size", "32",
    "--dropout", "0.2", "--ema", "0.9", "--schedule", "cosine", "--mixup", "0.2", "--threads", "1",
    "--save-minutes", "0.002", "--no-report",
]  # fmt: skip


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "striate", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def kill(process: subprocess.Popen, run: RunFolder, seconds: float) -> None:
    """SIGKILL to a training that lives, `seconds` after it wrote its next state."""
    deadline, seen = time.monotonic() + 60, _newest(run)
    while _newest(run) == seen:
        assert time.monotonic() < deadline, "no state was written in a minute"
        assert_alive(process)
        time.sleep(0.005)
    time.sleep(seconds)
    assert_alive(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def assert_alive(process: subprocess.Popen) -> None:
    assert process.poll() is None, f"it ended before it was killed: {process.communicate()[1].decode()}"


def assert_same_end(whole: RunFolder, killed: RunFolder) -> None:
    expected, got = load_file(whole.model), load_file(killed.model)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert killed.read_evaluation()["splits"] == whole.read_evaluation()["splits"]


def assert_kills_change_nothing(
    folder: Path, command: list[str], *, kills: int, longest_pause: float, seed: int
) -> tuple[RunFolder, RunFolder]:
    """Train once whole and once killed `kills` times, each up to `longest_pause` seconds after a state; both runs."""
    whole, killed = RunFolder(folder / "whole"), RunFolder(folder / "killed")
    finish(start(*command, "--run-dir", str(whole.path)))
    process, chance = start(*command, "--run-dir", str(killed.path)), random.Random(seed)
    for _ in range(kills):
        kill(process, killed, chance.uniform(0, longest_pause))
        process = start("train", "--resume", str(killed.path))
    finish(process)
    assert_same_end(whole, killed)
    return whole, killed


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path):
    assert_kills_change_nothing(tmp_path, TRAIN, kills=2, longest_pause=0.3, seed=0)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_transfer_ends_with_the_same_bits(tmp_path: Path):
    """Among epochs of a fitted head alone, of gradual unfreezing and with a frozen stem; a cut gives the new head."""
    source = tmp_path / "source"
    finish(start(*TRAIN, "--run-dir", str(source)))
    transfer = [
        "train", "digits", "--epochs", "16", "--batch-size", "16", "--from", str(source),
        "--cut", "group2", "--freeze-to", "stem", "--head-epochs", "4", "--unfreeze-every", "4", "--layer-decay", "0.7",
        "--ema", "0.9", "--schedule", "cosine", "--final-lr", "0.05", "--mixup", "0.2",
        "--threads", "1", "--save-minutes", "0.002", "--no-report",
    ]  # fmt: skip
    whole, killed = assert_kills_change_nothing(tmp_path, transfer, kills=4, longest_pause=0.1, seed=1)
    assert whole.read_recipe().transfer.head_start == "fitted"
    rows = [[row.get("rates") for row in run.read_metrics()] for run in (whole, killed)]
    assert rows[0] == rows[1]
    started, got = load_file(RunFolder(source).model), load_file(killed.model)
    frozen = [name for name in got if name.startswith("stem.")]
    assert frozen
    assert all(torch.equal(got[name], started[name]) for name in frozen)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_run_of_several_labels_ends_with_the_same_bits(tmp_path: Path):
    table = write_mosaics(tmp_path / "data", 400)
    settings = [
        "train", str(table), "--label-delimiter", "|", "--epochs", "8", "--model", "compact_s", "--batch-size", "32",
        "--dropout", "0.2", "--ema", "0.9", "--schedule", "cosine", "--mixup", "0.2", "--cutmix", "0.5",
        "--class-weights", "balanced", "--sampling", "balanced", "--label-smoothing", "0.05", "--threads", "1",
        "--save-minutes", "0.002", "--no-report",
    ]  # fmt: skip
    whole, killed = assert_kills_change_nothing(tmp_path, settings, kills=3, longest_pause=0.3, seed=0)
    assert load_model(killed.path).thresholds == load_model(whole.path).thresholds


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_run_on_photos_ends_with_the_same_bits_whatever_the_cache_holds(tmp_path: Path, monkeypatch):
    """The cache is deleted after the first kill, damaged after the second, and has room for a part of the images."""
    data = tmp_path / "data"
    random_pixels = np.random.default_rng(0)
    for label in ("left", "right"):
        (data / label).mkdir(parents=True)
        for number in range(40):
            small = random_pixels.integers(0, 256, (8, 9, 3), np.uint8)
            Image.fromarray(small).resize((200, 150)).save(data / label / f"{number}.jpg")
    settings = [
        "train", str(data), "--model", "compact_s", "--from", "scratch", "--input-size", "32", "--epochs", "12",
        "--batch-size", "16", "--threads", "1", "--save-minutes", "0.002", "--no-report", "--schedule", "cosine",
    ]  # fmt: skip
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "none"))
    finish(start(*settings, "--run-dir", str(whole.path), "--cache-limit", "0", "--cache-memory", "0"))
    assert not (tmp_path / "none").exists()
    cache, chance = tmp_path / "cache", random.Random(0)
    monkeypatch.setenv("STRIATE_CACHE", str(cache))
    process = start(*settings, "--run-dir", str(killed.path), "--cache-limit", "1", "--cache-memory", "0")
    for turn in range(2):
        kill(process, killed, chance.uniform(0, 0.2))
        kept = list(cache.rglob("*.pixels"))
        assert kept
        if turn == 0:
            shutil.rmtree(cache)
        else:
            content = bytearray(kept[0].read_bytes())
            content[: len(content) // 2] = bytes(len(content) // 2)
            kept[0].write_bytes(content)
        process = start("train", "--resume", str(killed.path))
    finish(process)
    assert_same_end(whole, killed)


def _newest(run: RunFolder) -> float:
    pointer = run.resume / "latest.json"
    return pointer.stat().st_mtime_ns if pointer.exists() else 0.0
