"""Engines: equal answers from every back end, int8 near them, kept on the disk and rebuilt where damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from striate.errors import ModelError, UnknownNameError, UsageError
from striate.inference.engine_cache import GRAPH, RECORD, EngineCache, is_kept, known_graph, network_key
from striate.inference.engines import ABLE, installed, open_engine
from striate.inference.foreign_code import foreign_code
from striate.inference.parity import Parity, compare
from striate.metrics import probabilities
from striate.models import create_model
from striate.runtime import processor_has_bf16
from striate.spec import InputSpec, Labels

CPU = torch.device("cpu")
LABELS = Labels(("ant", "bee", "cat", "dog"))
SPEC = InputSpec(size=(32, 32), channels=3)
NEEDED = [name for name in ("onnxruntime", "openvino") if not installed(name, building=True, precision="int8")]
needs_export = pytest.mark.skipif(bool(NEEDED), reason="needs the packages of striate[export]")


def network(seed: int = 0) -> torch.nn.Module:
    """A residual network with norms, as training leaves it."""
    torch.manual_seed(seed)
    model = create_model("cifar_resnet20", classes=4, input_size=32)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(16, 3, 32, 32))
        logits = model.eval()(pictures(64))
        for parameter in model.head.parameters():
            parameter.div_(logits.std())
    return model


def pictures(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 32, 32, generator=generator) * torch.rand(count, 1, 1, 1, generator=generator) * 2


def opened(cache: Path | None, backend: str, precision: str, model: torch.nn.Module | None = None, **given):
    return open_engine(
        model or network(), SPEC, LABELS, backend=backend, precision=precision, device=CPU, threads=1, cache=cache,
        **({"calibration": [pictures(16, 2)]} if precision == "int8" else {}) | given,
    )  # fmt: skip


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """What all tests of this file that do not damage it share."""
    return tmp_path_factory.mktemp("engines")


TOLERANCES = {"fp32": 1e-4, "bf16": 0.15, "int8": 0.6}  # of logits whose deviation is 1


@needs_export
@pytest.mark.parametrize(
    ("backend", "precision"), [(name, kind) for name, kinds in ABLE.items() for kind in kinds if kind != "fp16"]
)
def test_every_engine_answers_as_torch(cache, backend, precision):
    model = network()
    engine = opened(cache, backend, precision, model)
    assert (engine.backend, engine.precision) == (backend, precision)
    with torch.inference_mode():
        expected = model(pictures(40))
    answers = torch.cat([engine(pictures(40)[:1]), engine(pictures(40)[1:8]), engine(pictures(40)[8:])])
    again = engine(pictures(40).contiguous(memory_format=torch.channels_last))
    assert answers.dtype == torch.float32
    assert (answers - expected).abs().max() < TOLERANCES[precision]
    assert (again - expected).abs().max() < TOLERANCES[precision]
    assert (answers.argmax(1) == expected.argmax(1)).double().mean() >= 0.9
    if precision == "int8" or (precision == "bf16" and processor_has_bf16()):
        assert not torch.equal(answers, expected)  # it really is less exact
    assert all(one.requires_grad for one in model.parameters())


@needs_export
def test_answers_stay_when_the_next_come(cache):
    for backend in ("openvino", "onnxruntime"):
        engine = opened(cache, backend, "fp32")
        first = engine(pictures(2))
        kept = first.clone()
        engine(pictures(2, 9))
        assert torch.equal(first, kept)


@needs_export
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_threads_get_the_answers_to_their_own_images(cache, backend):
    engine = opened(cache, backend, "fp32")
    images = pictures(40, 3)
    alone = [engine(image[None]) for image in images]

    def wrong(first: int) -> list[int]:
        rows = [*range(first, len(images)), *range(first)] * 5
        return [row for row in rows if not torch.allclose(engine(images[row][None]), alone[row], atol=1e-4)]

    with ThreadPoolExecutor(4) as pool:
        assert [found for found in pool.map(wrong, (0, 10, 20, 30)) if found] == []


@needs_export
def test_a_graph_is_built_once_for_all_that_read_it(cache):
    engines = [
        opened(cache, *choice) for choice in (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
    ]
    assert len({one.key for one in engines}) == 1
    graph = EngineCache(cache).graph(engines[0].key)
    before = graph.stat().st_mtime_ns
    opened(cache, "openvino", "fp32")
    assert graph.stat().st_mtime_ns == before
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


@needs_export
def test_int8_without_calibration_takes_the_one_that_is_there(cache, tmp_path):
    with pytest.raises(UsageError, match="int8 needs images to calibrate by") as error:
        opened(tmp_path, "openvino", "int8", calibration=None)
    assert "--calibration" in error.value.hint
    built = opened(cache, "openvino", "int8")
    assert opened(cache, "onnxruntime", "int8", calibration=None).key == built.key
    with pytest.raises(UsageError, match="no image"):
        opened(tmp_path, "openvino", "int8", calibration=[])


def test_keys_follow_the_network_its_input_and_the_calibration():
    model, other = network(), network(1)
    key = network_key(model, SPEC)
    assert key == network_key(network(), SPEC)
    wider = InputSpec(size=(32, 32), channels=3, mean=(0.4,))
    assert len({key, network_key(other, SPEC), network_key(model, wider)}) == 3
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert network_key(model, SPEC) != key
    assert known_graph(model, SPEC, "fp32", None, None) == known_graph(model, SPEC, "bf16", None, None)
    assert known_graph(model, SPEC, "int8", None, None).key is None


@needs_export
def test_a_damaged_engine_is_noticed_and_built_again(cache, tmp_path):
    key = opened(cache, "onnxruntime", "fp32").key
    mine, kept = tmp_path / key, EngineCache(tmp_path)
    mine.mkdir()
    graph, record = mine / GRAPH, mine / RECORD
    content, about = EngineCache(cache).graph(key).read_bytes(), (cache / key / RECORD).read_bytes()
    damages = {
        "nothing": (content, about),
        "cut": (content[: len(content) // 2], about),
        "empty": (b"", about),
        "another record": (content, b"[]"),
        "half a record": (content, about[:20]),
        "a bit": (content[:-100] + bytes([content[-100] ^ 1]) + content[-99:], about),
    }
    for name, (first, second) in damages.items():
        graph.write_bytes(first)
        record.write_bytes(second)
        assert is_kept(kept, key) == (name == "nothing"), name
    opened(tmp_path, "onnxruntime", "fp32")(pictures(1))
    assert is_kept(kept, key)
    graph.unlink()
    assert not is_kept(kept, key)
    assert [path.name for path in tmp_path.iterdir()] == [key]


@needs_export
@pytest.mark.slow
def test_without_a_cache_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    engine = opened(None, "openvino", "fp32")
    with torch.inference_mode():
        torch.testing.assert_close(engine(pictures(3)), network()(pictures(3)), rtol=1e-4, atol=1e-4)
    assert not list(tmp_path.glob("striate*"))


_BUILD = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from test_engines import opened, pictures
from pathlib import Path
engine = opened(Path(sys.argv[1]), "onnxruntime", "fp32")
print(engine(pictures(1)).tolist())
"""


@needs_export
@pytest.mark.slow
def test_two_processes_that_build_the_same_engine(tmp_path):
    command = [sys.executable, "-c", _BUILD, str(tmp_path), str(Path(__file__).parent)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [one.communicate(timeout=300)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert answers[0] == answers[1] != ""
    (folder,) = tmp_path.iterdir()
    assert is_kept(EngineCache(tmp_path), folder.name)


_BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
sys.path.insert(0, {folder!r})
from test_engines import network, SPEC, LABELS, CPU
from striate.inference.engines import open_engine
from striate.errors import MissingExtraError
try:
    open_engine(network(), SPEC, LABELS, backend={backend!r}, precision="fp32", device=CPU)
except MissingExtraError as error:
    print(error.message, "|", error.hint)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "blocked", "named"),
    [("openvino", ("openvino",), "openvino"), ("onnxruntime", ("onnxruntime", "onnx"), "onnxruntime"),
     ("openvino", ("onnxscript",), "onnxscript")],
)  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(backend, blocked, named):
    if named == "onnxscript" and NEEDED:
        pytest.skip("needs openvino to come so far")
    code = _BLOCKED.format(blocked=set(blocked), folder=str(Path(__file__).parent), backend=backend)
    given = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert given.stdout.strip() == (
        f"the back end {backend} needs {named}, which is not installed | pip install 'striate[export]'"
    )


def test_what_there_is_not():
    with pytest.raises(UnknownNameError, match="unknown back end 'openvin'") as error:
        opened(None, "openvin", "fp32")
    assert "openvino" in error.value.hint
    with pytest.raises(UnknownNameError, match="unknown precision 'int4'"):
        opened(None, "torch", "int4")
    with pytest.raises(UsageError, match="onnxruntime has no bf16: it has fp32, int8") as usage:
        opened(None, "onnxruntime", "bf16")
    assert "openvino" in usage.value.hint
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        opened(None, "torch", "fp16")
    with pytest.raises(UsageError, match="openvino computes on the processor, not on cuda"):
        open_engine(
            network(), SPEC, LABELS, backend="openvino", precision="fp32", device=torch.device("cuda"), cache=None
        )


def test_parity_by_hand(tmp_path):
    reference = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
    given = reference + torch.tensor([[0.0, 0.25], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    parity = compare(given, reference, probabilities)
    assert (parity.images, parity.top1_agreement, parity.largest_logit_difference) == (4, 0.75, 1.0)
    chances = torch.softmax(given, 1) - torch.softmax(reference, 1)
    assert parity.largest_difference == pytest.approx(chances.abs().max().item(), abs=1e-6)
    assert not parity.alarming  # one of four
    assert Parity(images=64, top1_agreement=0.85, largest_logit_difference=1, largest_difference=0.5).alarming
    broken = compare(torch.full((2, 2), float("nan")), reference[:2], probabilities)
    assert (broken.top1_agreement, broken.largest_difference) == (0.0, float("inf"))
    kept = EngineCache(tmp_path)
    (tmp_path / "k").mkdir()
    kept.write_parity("k", "torch", "bf16", parity)
    assert kept.read_parity("k", "torch", "bf16") == parity
    (report,) = (tmp_path / "k").iterdir()
    report.write_text(json.dumps({"images": 3}))
    assert kept.read_parity("k", "torch", "bf16") is None
    kept.write_parity("none", "torch", "bf16", parity)  # no such folder: nothing is kept, nothing breaks
    assert os.listdir(tmp_path) == ["k"]


@needs_export
def test_the_newest_whole_int8_engine_is_taken(cache, tmp_path):
    built = opened(cache, "openvino", "int8").key
    (tmp_path / built).mkdir()
    for name in (GRAPH, RECORD):
        (tmp_path / built / name).write_bytes((cache / built / name).read_bytes())
    start = built.rpartition("-")[0]
    newer = tmp_path / f"{start}-newer"
    newer.mkdir()
    (newer / GRAPH).write_bytes(b"cut off")
    (newer / RECORD).write_bytes((cache / built / RECORD).read_bytes())
    os.utime(tmp_path / built, (1, 1))
    known = known_graph(network(), SPEC, "int8", None, EngineCache(tmp_path))
    assert (known.key, known.whole) == (built, True)
    assert opened(tmp_path, "onnxruntime", "int8", calibration=None).key == built


@needs_export
@pytest.mark.slow
def test_what_killed_builds_left_goes_after_a_day(tmp_path):
    for name in (".old.1-1.part", ".old.1-1.damaged", ".new.2-2.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / GRAPH).write_bytes(b"half")
    for name in (".old.1-1.part", ".old.1-1.damaged"):
        os.utime(tmp_path / name, (1e9, 1e9))
    key = opened(tmp_path, "onnxruntime", "fp32").key
    assert {path.name for path in tmp_path.iterdir()} == {".new.2-2.part", key}


def test_reports_are_of_processors_with_the_same_arithmetic(tmp_path, monkeypatch):
    kept = EngineCache(tmp_path)
    (tmp_path / "k").mkdir()
    parity = Parity(images=9, top1_agreement=1, largest_logit_difference=0, largest_difference=0)
    for has in (True, False):
        monkeypatch.setattr("striate.inference.engine_cache.processor_has_bf16", lambda has=has: has)
        assert kept.read_parity("k", "openvino", "int8") is None
        kept.write_parity("k", "openvino", "int8", parity)
        assert kept.read_parity("k", "openvino", "int8") == parity
    assert len(list((tmp_path / "k").iterdir())) == 2


def test_the_key_of_ones_own_class_follows_the_files_it_imports(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from .deep import SLOPE\n")
    (tmp_path / "parts" / "deep.py").write_text("SLOPE = 0.1\n")
    (tmp_path / "beside.py").write_text("OTHER = 1\n")
    (tmp_path / "mine.py").write_text(
        "import json\nfrom torch import nn\nfrom parts import SLOPE\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes=4, in_channels=3):\n"
        "        super().__init__()\n"
        "        self.conv, self.head = nn.Conv2d(in_channels, 4, 3), nn.Linear(4, classes)\n"
        "    def forward(self, x):\n"
        "        return self.head(nn.functional.leaky_relu(self.conv(x), SLOPE).mean((2, 3)))\n"
    )
    model = create_model(f"{tmp_path / 'mine.py'}:Net", classes=4, in_channels=3, input_size=32)
    assert set(foreign_code(model)) == {"mine.py", "parts/__init__.py", "parts/deep.py"}
    before = network_key(model, SPEC)
    (tmp_path / "beside.py").write_text("OTHER = 2\n")  # nobody imports it
    assert network_key(model, SPEC) == before
    (tmp_path / "parts" / "deep.py").write_text("SLOPE = 0.2\n")
    assert network_key(model, SPEC) != before


def test_the_key_of_a_network_of_timm_follows_timm(monkeypatch):
    pytest.importorskip("timm")
    model = create_model("timm:test_resnet", classes=4, in_channels=3, input_size=32)
    before = network_key(model, SPEC)
    monkeypatch.setattr("striate.inference.foreign_code.version", lambda name: "0.0.1")
    assert foreign_code(model) == {"timm": "0.0.1"}
    assert network_key(model, SPEC) != before
    assert foreign_code(network()) == {}


@needs_export
@pytest.mark.parametrize(("package", "name"), [("openvino", "OpenVINO"), ("onnxruntime", "ONNX Runtime")])
def test_a_package_that_cannot_be_loaded_is_an_error_of_ours(cache, tmp_path, monkeypatch, package, name):
    opened(cache, package, "fp32")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise ImportError('libgone.so.3: cannot open shared object')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package)
    with pytest.raises(ModelError, match=rf"{name} cannot be loaded: libgone\.so\.3") as error:
        opened(cache, package, "fp32")
    assert "torch" in error.value.hint


@needs_export
def test_distances_keep_their_digits_in_int8(tmp_path):
    """The outputs of LeNet-5 as published are squared distances, large with small differences."""
    import onnx

    torch.manual_seed(0)
    model = create_model("lenet5_1998", classes=10, in_channels=1, input_size=32).eval()
    spec, labels = InputSpec(size=(32, 32), channels=1), Labels(tuple("0123456789"))
    images = torch.randn(32, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    engine = open_engine(
        model, spec, labels, backend="onnxruntime", precision="int8", device=CPU, threads=1, cache=tmp_path,
        calibration=[images],
    )  # fmt: skip
    kinds = [node.op_type for node in onnx.load(EngineCache(tmp_path).graph(engine.key)).graph.node]
    last = max(place for place, kind in enumerate(kinds) if kind in ("Conv", "Gemm", "MatMul"))
    assert kinds[last:].count("QuantizeLinear") <= 1  # of the last layer's output, and nothing of the distances
    with torch.inference_mode():
        expected = model(images)
    assert (engine(images) - expected).abs().max() < 0.05
