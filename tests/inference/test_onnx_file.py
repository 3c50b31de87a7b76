"""A network as an ONNX file: what it answers in ONNX Runtime, and what it says about itself."""

import sys

import pytest
import torch

from striate.data import normalise
from striate.errors import CheckpointError, MissingExtraError, ModelError, UnknownNameError, UsageError
from striate.inference import onnx_file
from striate.inference.onnx_file import OPSET, read_onnx_record, write_onnx
from striate.models import create_model, entries
from striate.spec import InputSpec, Labels

onnx = pytest.importorskip("onnx", reason="exporting needs onnx")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
onnxruntime = pytest.importorskip("onnxruntime", reason="checking an export needs onnxruntime")

LABELS = Labels(("ant", "bee", "Möwe", '"q"', "eel", "fox", "gnu"))
# Caffe's: 0 to 255 less the mean, blue first
CAFFE = {"mean": (104 / 255, 117 / 255, 123 / 255), "std": (1 / 255,), "channel_order": "BGR"}


def network(name: str, side: int, **changes):
    torch.manual_seed(0)
    model = create_model(name, classes=len(LABELS), input_size=side, **changes)
    with torch.no_grad():  # statistics that are not those of the start, so that folding has something to do
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.7, 1.4)
    return model.eval()


def spec_of(model, **values) -> InputSpec:
    record = model.architecture
    return InputSpec(size=record.input_size, channels=record.in_channels, **values)


def pixels_for(spec: InputSpec, count: int) -> torch.Tensor:
    dtype = torch.uint8 if spec.bits <= 8 else torch.int32
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 2**spec.bits, (count, spec.channels, *spec.size), generator=generator, dtype=dtype)


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_answers_alike(model, spec, path, preprocessing, counts=(1, 2, 5), tolerance=1e-4):
    session = session_of(path)
    for count in counts:
        pixels = pixels_for(spec, count)
        images = normalise(pixels, spec)
        with torch.inference_mode():
            expected = model(images)
        fed = pixels if preprocessing == "inside" else images
        (given,) = session.run(["logits"], {"images": fed.numpy()})
        atol = tolerance * expected.abs().max().item()
        torch.testing.assert_close(torch.from_numpy(given), expected, rtol=tolerance, atol=atol)


def test_blue_first_inside_any_batch_and_the_record_comes_back(tmp_path):
    model = network("cifar_resnet20", 20, n=1).train()
    spec = spec_of(model, **CAFFE)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / "model.onnx"
    write_onnx(model, spec, LABELS, path, preprocessing="inside")
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert_answers_alike(model.eval(), spec, path, "inside")

    session = session_of(path)
    assert [(one.name, one.type) for one in session.get_inputs()] == [("images", "tensor(uint8)")]
    assert [(one.name, one.type) for one in session.get_outputs()] == [("logits", "tensor(float)")]
    assert session.get_inputs()[0].shape[1:] == [3, 20, 20]
    record = read_onnx_record(path)
    assert (record.spec, record.labels, record.preprocessing) == (spec, LABELS, "inside")
    assert record.architecture == model.architecture
    assert record.feed()["channels"] == "RGB"  # as stored: the turn to blue first is inside

    proto = onnx.load(path)
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", OPSET)]
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert str(onnx_file.__file__).encode() not in path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def one_of_each_family() -> list:
    chosen: dict = {}
    for entry in sorted(entries(), key=lambda entry: entry.params):
        chosen.setdefault(entry.build, entry)
    return [pytest.param(entry, id=entry.name) for entry in chosen.values()]


@pytest.mark.slow
@pytest.mark.parametrize("entry", one_of_each_family())
def test_every_family_declared_and_inside(entry, tmp_path):
    model = network(entry.name, max(min(entry.input.size[0], 36), entry.min_size))
    spec = spec_of(model, mean=(0.45,), std=(0.25,))
    for preprocessing in ("declared", "inside"):
        path = tmp_path / f"{preprocessing}.onnx"
        write_onnx(model, spec, LABELS, path, preprocessing=preprocessing)
        assert_answers_alike(model, spec, path, preprocessing, counts=(1, 3), tolerance=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_pixels_of_sixteen_bits_in_any_number_of_channels(channels, tmp_path):
    model = network("compact_s", 12, in_channels=channels)
    spec = spec_of(model, mean=(0.4,), std=(0.3,), bits=16)
    path = tmp_path / "model.onnx"
    write_onnx(model, spec, LABELS, path, preprocessing="inside")
    assert session_of(path).get_inputs()[0].type == "tensor(int32)"
    assert_answers_alike(model, spec, path, "inside")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "lenet5_1998"])
def test_auxiliary_heads_stay_behind_and_a_head_of_distances_goes_along(name, tmp_path):
    model = network(name, 96 if name == "googlenet" else 32)
    spec = spec_of(model)
    write_onnx(model, spec, LABELS, tmp_path / "model.onnx")
    assert_answers_alike(model, spec, tmp_path / "model.onnx", "declared")
    assert not [one.name for one in onnx.load(tmp_path / "model.onnx").graph.initializer if "auxiliary" in one.name]


@pytest.mark.slow
def test_half_precision_fixed_batch_two_files_and_equal_bytes(tmp_path, monkeypatch):
    model = network("cifar_resnet20", 20, n=1)
    spec = spec_of(model)
    for name in ("first", "second"):
        write_onnx(model, spec, LABELS, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()

    write_onnx(model, spec, LABELS, tmp_path / "half", weights="fp16", batch=2)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "first").stat().st_size
    assert session_of(tmp_path / "half").get_inputs()[0].shape == [2, 3, 20, 20]
    assert_answers_alike(model, spec, tmp_path / "half", "declared", counts=(2,), tolerance=1e-2)

    monkeypatch.setattr(onnx_file, "_ONE_FILE", 1000)
    write_onnx(model, spec, LABELS, tmp_path / "large.onnx")
    assert (tmp_path / "large.onnx.data").stat().st_size > 4 * sum(one.numel() for one in model.parameters()) * 0.9
    assert read_onnx_record(tmp_path / "large.onnx").labels == LABELS
    assert_answers_alike(model, spec, tmp_path / "large.onnx", "declared")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"preprocessing": "outside"}, UnknownNameError),
        ({"weights": "int8"}, UsageError),
        ({"batch": 0}, UsageError),
    ],
)
def test_unknown_choices_are_refused(values, error, tmp_path):
    model = network("lenet5_dense", 28)
    with pytest.raises(error):
        write_onnx(model, spec_of(model), LABELS, tmp_path / "model.onnx", **values)
    assert not list(tmp_path.iterdir())


def test_class_names_must_fit_the_network(tmp_path):
    model = network("lenet5_dense", 28)
    with pytest.raises(ModelError, match="2 class names for a network of 7"):
        write_onnx(model, spec_of(model), Labels(("a", "b")), tmp_path / "model.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_names_the_extra(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    model = network("lenet5_dense", 28)
    with pytest.raises(MissingExtraError, match=package) as caught:
        write_onnx(model, spec_of(model), LABELS, tmp_path / "model.onnx")
    assert caught.value.hint == "pip install 'striate[export]'"


def test_files_of_others_are_refused_in_plain_words(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_onnx_record(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model at all" * 9)
    with pytest.raises(CheckpointError, match="is no ONNX file"):
        read_onnx_record(tmp_path / "bad.onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="not written by Striate"):
        read_onnx_record(tmp_path / "other.onnx")
    model.metadata_props.add(key="striate", value='{"format_version": 99, "versions": {"striate": "7.0"}}')
    (tmp_path / "newer.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="newer") as caught:
        read_onnx_record(tmp_path / "newer.onnx")
    assert caught.value.hint is not None
    assert "7.0" in caught.value.hint
