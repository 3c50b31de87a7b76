"""The cores that commands compute on: those that others leave free, and no more than were asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from striate.cli.main import striate
from striate.data.scan import PhotoStore
from striate.inference.engines import installed
from striate.network.engines import make_ready
from striate.prediction import Classifier
from striate.runtime import allowed_cores, usable_cores

several = pytest.mark.skipif(not 2 <= usable_cores() == allowed_cores(), reason="needs two cores without a quota")
linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells what others use")
needs_export = pytest.mark.skipif(
    not all(installed(name, building=True) for name in ("openvino", "onnxruntime")),
    reason="needs the packages of striate[export]",
)


@pytest.fixture
def torch_threads(monkeypatch) -> Iterator[None]:
    """Nothing said in the environment; what commands set for the whole process is put back."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def busy_core() -> Iterator[None]:
    """Another process keeps one of the cores busy."""
    spin = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", spin])
    time.sleep(0.3)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@linux
@several
def test_predict_and_evaluate_leave_busy_cores_to_others(world, model_file, tmp_path, torch_threads, busy_core):
    photos = world.photo_folder(tmp_path / "photos", per_class=2)
    for words in (["predict", str(model_file), str(photos)], ["evaluate", str(model_file), str(photos)]):
        torch.set_num_threads(usable_cores())
        given = CliRunner().invoke(striate, [*words, "--device", "cpu"])
        assert given.exit_code == 0, given.output
        said = [line for line in given.stderr.splitlines() if line.startswith("other processes keep")]
        assert len(said) == 1
        assert f"of {allowed_cores()} cores busy" in said[0]
        assert said[0].endswith(f"--threads {usable_cores()} takes all")
        assert torch.get_num_threads() < usable_cores()
        asked = CliRunner().invoke(striate, [*words, "--device", "cpu", "--threads", str(usable_cores())])
        assert "other processes" not in asked.stderr
        assert torch.get_num_threads() == usable_cores()


@linux
@several
def test_bench_warns_of_busy_cores(torch_threads, busy_core):
    words = ["bench", "compact_s", "--input-size", "8", "--batch-size", "2", "--infer", "--backend", "eager"]
    words += ["--layout", "nhwc", "--precision", "fp32", "--device", "cpu", "--seconds", "0.02", "--repeats", "1"]
    given = CliRunner().invoke(striate, words)
    assert given.exit_code == 0, given.output
    (warning,) = [line for line in given.stderr.splitlines() if "other processes keep" in line]
    assert warning.startswith("warning: ")
    assert f"of {allowed_cores()} cores busy" in warning


def decoders(classifier: Classifier) -> int:
    """The most threads that decode at once."""
    most = 0
    for _ in classifier.iter_predict((np.zeros((16, 16, 3), np.uint8) for _ in range(64)), batch_size=8):
        names = [thread.name for thread in threading.enumerate()]
        most = max(most, sum(name.startswith("striate-decode") for name in names))
    return most


@several
def test_threads_that_decode_are_those_asked_for(saved, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert decoders(Classifier(saved, device="cpu", backend="torch", threads=1)) == 1
    assert PhotoStore(0).workers == usable_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert decoders(Classifier(saved, device="cpu", backend="torch")) == 1
    assert PhotoStore(0).workers == 1


@needs_export
@several
def test_engines_take_no_more_threads_than_the_environment_says(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))

    def used(backend: str) -> int:
        engine: Any = make_ready(saved, backend=backend).engine
        if backend == "openvino":
            return engine._requests[0].get_compiled_model().get_property("INFERENCE_NUM_THREADS")
        return engine._session.get_session_options().intra_op_num_threads

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert [used(backend) for backend in ("openvino", "onnxruntime")] == [1, 1]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [used(backend) for backend in ("openvino", "onnxruntime")] == [usable_cores()] * 2
