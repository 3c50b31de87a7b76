"""What commands load, in processes of their own: predicting or training must not wait for what it does not use."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from striate.checkpoint import save_model
from striate.models import create_model
from striate.spec import InputSpec, Labels

UNUSED = (
    "torch._dynamo", "torch._inductor", "torchvision", "sklearn", "matplotlib", "scipy", "pandas", "sympy", "timm",
    "torchmetrics", "onnx", "onnxruntime", "openvino", "IPython",
)  # fmt: skip


def run(*words: object) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """A finished command, and the modules that it has loaded."""
    command = [sys.executable, "-X", "importtime", "-m", "striate", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done, {line.rpartition("|")[2].strip() for line in lines}


@pytest.fixture
def network(tmp_path):
    model = create_model("compact_s", classes=10, in_channels=1, input_size=(28, 28))
    path = tmp_path / "model.safetensors"
    spec = InputSpec(size=(28, 28), channels=1, mean=(0.5,), std=(0.5,))
    save_model(path, model, spec, Labels(tuple("0123456789")))
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "one.jpg"
    Image.new("L", (60, 40), 90).save(path)
    return path


def test_predicting_loads_torch_and_little_else_and_ends_as_it_should(network, image, tmp_path):
    done, modules = run("predict", network, image, tmp_path / "none.jpg", "--json", "--device", "cpu")
    assert "torch" in modules
    assert not modules & {*UNUSED, "pyarrow", "jinja2"}
    assert done.returncode == 1, "one image could not be read"
    good, bad = json.loads(done.stdout)["predictions"]
    assert good["labels"]
    assert bad["error"]


def test_training_loads_neither_compiler_nor_plots(tmp_path):
    words = ("train", "digits", "--limit", 200, "--epochs", 1, "--run-dir", tmp_path / "run", "--device", "cpu")
    done, modules = run(*words, "--no-report", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "torch" in modules
    assert not modules & set(UNUSED) - {"pandas"}, "pandas is for pyarrow, which asks for it whenever it takes a list"
    assert (tmp_path / "run" / "evaluation.json").is_file()
