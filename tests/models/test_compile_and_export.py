"""One network of each family through the compiler and out as ONNX, run by another engine."""

import pytest
import torch

from striate.models import create_model, entries
from striate.spec import ModelEntry

pytestmark = pytest.mark.slow


def one_of_each_family() -> list[ModelEntry]:
    """The smallest of each family, and of those with auxiliary heads or towers the ones that differ in kind."""
    chosen: dict[str, ModelEntry] = {}
    for entry in sorted(entries(), key=lambda entry: entry.params):
        chosen.setdefault(entry.build, entry)
    return list(chosen.values())


FAMILIES = pytest.mark.parametrize("entry", one_of_each_family(), ids=lambda entry: entry.name)


def network(entry: ModelEntry) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    side = max(min(entry.input.size[0], 36), entry.min_size)
    model = create_model(entry.name, classes=10, input_size=side).eval()
    return model, torch.randn(2, model.architecture.in_channels, side, side)


@FAMILIES
def test_compiled_gives_the_same(entry):
    pytest.importorskip("torch._inductor")
    model, images = network(entry)
    with torch.inference_mode():
        expected = model(images)
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True)
        torch.testing.assert_close(compiled(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@FAMILIES
def test_exported_gives_the_same(entry, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="checking an export needs onnxruntime")
    model, images = network(entry)
    with torch.inference_mode():
        expected = model(images)
    file = tmp_path / "model.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(model, (images,), file, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for count in (1, 2):
        (given,) = session.run(None, {name: images[:count].numpy()})
        torch.testing.assert_close(
            torch.from_numpy(given), expected[:count], rtol=1e-3, atol=1e-4 * expected.abs().max().item()
        )
