"""Cutting networks: places, the codes there, and networks that end there, for every family."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from striate.anatomy import anatomy_of, count_parameters
from striate.checkpoint import SavedModel, load_model, save_model
from striate.errors import ModelError
from striate.hub.classes import numbered
from striate.inference.folding import fold_batch_norms
from striate.layers.initialise import initialise
from striate.models import ConvNet, create_model, entries, family_class, find_entry, rebuild
from striate.models.cut import (
    code_grid,
    cut_at,
    depth_of,
    modules_up_to,
    new_classifier,
    places,
    pooled_codes,
    side_classifiers,
)
from striate.network import refitted
from striate.spec import InputSpec, Labels, ModelEntry


def smallest_of_each_family() -> set[str]:
    chosen: dict[str, ModelEntry] = {}
    for entry in sorted(entries(), key=lambda entry: entry.params):
        chosen.setdefault(entry.build, entry)
    return {entry.name for entry in chosen.values()}


EVERYDAY = smallest_of_each_family() | {"lenet5_1998", "lenet_1989_zip", "vgg_a", "squeezenet1_1", "compact_m"}
# Of these, what copies, saves and trains whole networks takes the time of all others together.
HEAVY = {"inception_v3", "inception_v4", "inception_resnet_v1", "xception", "bn_inception", "googlenet_torchvision"}
# The same layers with fewer units, or fewer of the same layers.
NARROW = {
    "vgg": {"widths": (16, 32, 64, 128, 128), "hidden": 64},
    "alexnet": {"hidden": 64},
    "zfnet": {"hidden": 64},
    "preact_resnet164": {"depths": (1, 2, 2)},
    "preact_resnet1001": {"depths": (2, 2, 2)},  # untrained, a thousand layers overflow
    "cifar_resnet1202": {"n": 9},
    "stochdepth_resnet1202": {"n": 9},
    "plain18": {"widths": (16, 32, 64, 128)},
}


def of_models(everyday: set[str]) -> pytest.MarkDecorator:
    names = [entry.name for entry in entries()]
    return pytest.mark.parametrize(
        "name", [name if name in everyday else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


every_model = of_models(EVERYDAY)
every_model_lightly = of_models(EVERYDAY - HEAVY)


def small(name: str, **changes) -> ConvNet:
    entry = find_entry(name)
    torch.manual_seed(0)
    known = family_class(entry).config_type.__dataclass_fields__
    fewer = NARROW.get(name, NARROW.get(entry.family, {}))
    narrow = {key: value for key, value in fewer.items() if key in known}
    side = max(min(entry.input.size[0], 32), entry.min_size)
    return create_model(name, **({"classes": 6, "input_size": side} | narrow | changes)).eval()


def images_for(model: ConvNet, count: int = 2) -> Tensor:
    record = model.architecture
    return torch.randn(count, record.in_channels, *record.input_size, generator=torch.Generator().manual_seed(1))


def cells(maps: Tensor, grid: int) -> Tensor:
    """Maps [B, C, H, W] averaged by hand; cell i of a side begins at floor(i side / grid) and may overlap the next."""
    height, width = maps.shape[2:]

    def bounds(side: int) -> list[slice]:
        return [slice(i * side // grid, -(-(i + 1) * side // grid)) for i in range(grid)]

    means = [[maps[:, :, rows, columns].mean((2, 3)) for columns in bounds(width)] for rows in bounds(height)]
    return torch.stack([torch.stack(row, -1) for row in means], -2).flatten(1)


HIDDEN = {
    "vgg_a": ("head.fc6", "head.fc7"),
    "lenet5_dense": ("head.f6",),
    "lenet5_1998": ("head.f6",),
    "lenet_1989_zip": ("head.h3",),
    "compact_m": ("head.pool",),
    "airbench94": ("head.pool",),
    "nin_cifar": (),
    "squeezenet1_1": (),
    "resnet18": (),
    "lecun1989_net1": (),
}


@every_model
def test_places_run_from_shallow_to_deep(name):
    with torch.device("meta"):
        model, other = small(name, start=False), small(name, start=False, classes=7)
    found = places(model)
    stages = [stage for stage, _ in model.stages.named_children()]
    assert found[: 1 + len(stages)] == ("stem", *stages)
    assert all(place.startswith("head.") for place in found[1 + len(stages) :])
    if name in HIDDEN:
        assert found[1 + len(stages) :] == HIDDEN[name]
    depths = depth_of(model)
    assert list(depths) == [key for key, _ in model.named_parameters()]
    own = [depth for key, depth in depths.items() if not key.startswith("auxiliary.")]
    assert own == sorted(own)
    names = {parameter: key for key, parameter in model.named_parameters()}
    for depth, place in enumerate(found):
        before = {names[one] for module in modules_up_to(model, place) for one in module.parameters()}
        assert before == {key for key, value in depths.items() if value <= depth}
    # What follows the classes is the classifier.
    theirs = dict(other.named_parameters())
    for key, parameter in model.named_parameters():
        if theirs[key].shape != parameter.shape or key.startswith("auxiliary."):
            assert depths[key] == len(found), key


@every_model_lightly
def test_codes_are_what_the_parts_give_one_after_the_other(name):
    model = small(name)
    images = images_for(model)
    with torch.no_grad():
        codes = pooled_codes(model, images)
        assert tuple(codes) == places(model)
        assert all(code.dtype == torch.float32 and code.shape[0] == 2 for code in codes.values())
        maps, read = images, []
        for place, part in [("stem", model.stem), *model.stages.named_children()]:
            maps = part(maps)
            grid = code_grid(*maps.shape[1:])
            torch.testing.assert_close(codes[place], cells(maps, grid), rtol=1e-4, atol=1e-5 * float(maps.abs().max()))
        # The classifier reads what the last place gives, averaged where its head averages.
        known = {part for place in places(model) for module in modules_up_to(model, place) for part in module.modules()}
        rest = [layer for layer in model.head.modules() if layer not in known and not list(layer.children())]
        classifier = next(layer for layer in rest if any(one.ndim > 1 for one in layer.state_dict().values()))
        handle = classifier.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0]))
        model(images)
        handle.remove()
        last, given = codes[places(model)[-1]], read[0]
        if not places(model)[-1].startswith("head."):
            last, given = cells(maps, 1), given.reshape(2, maps.shape[1], -1).mean(2)
        torch.testing.assert_close(last, given, rtol=1e-4, atol=1e-5 * float(given.abs().max()))
        some = [places(model)[-1], places(model)[0]]
        asked = pooled_codes(model, images, some)
        assert list(asked) == list(dict.fromkeys(some))
        assert all(torch.equal(asked[place], codes[place]) for place in some)


def is_saved_and_folded(cut: ConvNet, images: Tensor, logits: Tensor, file: Path) -> None:
    record = cut.architecture
    spec = InputSpec(size=record.input_size, channels=record.in_channels)
    save_model(file, cut, spec, numbered(record.classes))
    again = load_model(file).model
    assert again.architecture == record
    with torch.no_grad():
        assert torch.equal(again(images), logits)
        folded = fold_batch_norms(cut)(images)
    torch.testing.assert_close(folded, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))


@every_model_lightly
def test_a_cut_network_keeps_its_weights_to_the_bit_and_reads_the_codes(name, tmp_path):
    model = small(name)
    images, known = images_for(model), places(model)
    theirs = model.state_dict()
    before = {key: tensor.clone() for key, tensor in theirs.items()}
    with torch.no_grad():
        codes = pooled_codes(model, images)
    middle = known[len(known) // 2]
    for place in dict.fromkeys([known[0], middle, known[-1]]):
        cut = cut_at(model, place, 4)
        assert type(cut) is type(model)
        assert not any(module.training for module in cut.modules())
        assert (cut.architecture.cut, cut.architecture.classes) == (place, 4)
        assert places(cut) == known[: known.index(place) + 1]
        wanted = {key for key, depth in depth_of(model).items() if depth <= known.index(place)}
        assert {key for key, _ in cut.named_parameters()} == {*wanted, "head.linear.weight", "head.linear.bias"}
        for key, tensor in cut.state_dict().items():
            if not key.startswith("head.linear."):
                assert torch.equal(tensor, before[key]), key
                assert tensor.data_ptr() != theirs[key].data_ptr(), key
        head = cut.head.get_submodule("linear")
        with torch.no_grad():
            logits, expected = cut(images), head(codes[place])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        if place == middle:
            is_saved_and_folded(cut, images, logits, tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, before[key]) for key, tensor in theirs.items())


@every_model_lightly
def test_linear_layers_of_earlier_stages_add_to_the_logits(name, tmp_path):
    model = small(name)
    images, known = images_for(model), places(model)
    stages = [place for place in known[:-1] if not place.startswith("head.")]
    if not stages:
        pytest.skip("there is one place alone")
    cut = cut_at(model, known[-1], 4, sides=stages[::2])
    sides, head = side_classifiers(cut), new_classifier(cut)
    assert tuple(sides) == tuple(stages[::2])
    assert [place for place, _, _ in cut.architecture.sides] == stages[::2]
    with torch.no_grad():
        codes = pooled_codes(model, images)
        torch.testing.assert_close(cut(images), cut_logits(cut, codes), rtol=1e-4, atol=1e-4)  # sides start at zero
        for side in sides.values():
            side.weight.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(2))
        logits = cut(images)
        expected = head(codes[known[-1]]) + sum(side(codes[place]) for place, side in sides.items())
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert places(cut) == known
    depths = depth_of(cut)
    assert all(depths[key] == len(known) for key, _ in cut.named_parameters() if key.startswith("sides."))
    found = anatomy_of(cut, training=False)
    assert found.params == sum(one.numel() for one in cut.parameters())
    assert found.layers[-1].output == (4,)
    is_saved_and_folded(cut, images, logits, tmp_path / "model.safetensors")
    with torch.no_grad():
        again = cut_at(cut, known[-1], 3)
        assert (again.architecture.sides, len(again.sides)) == ((), 0)
        assert again(images).shape == (2, 3)
    cut.train()
    cut.loss(cut(images_for(cut, 3)), torch.tensor([0, 1, 2])).backward()
    assert all(one.grad is not None for one in cut.parameters() if one.requires_grad)


def cut_logits(cut: ConvNet, codes: dict[str, Tensor]) -> Tensor:
    assert cut.architecture.cut is not None
    return new_classifier(cut)(codes[cut.architecture.cut])


def test_only_earlier_stages_are_read_beside_the_place_of_the_cut():
    model = create_model("vgg_a", input_size=32, classes=2, **NARROW["vgg"]).eval()
    for place, side in (("conv3", "conv3"), ("conv3", "conv4"), ("head.fc7", "head.fc6"), ("conv3", "layer1")):
        with pytest.raises(ModelError, match=f"cannot read '{side}', too") as caught:
            cut_at(model, place, 3, sides=("stem", side))
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("earlier stages: stem, conv1, conv2")


class Flat(ConvNet):
    """Its second stage gives rows, and bears a name that containers of modules use for something else."""

    @dataclass(frozen=True)
    class Config:
        pass

    config_type = Config

    def __init__(self) -> None:
        super().__init__("flat", self.Config(), 1, 5, (8, 8))
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        stages = {"maps": nn.ReLU(), "values": nn.Sequential(nn.Flatten(), nn.Linear(256, 7)), "last": nn.ReLU()}
        self.stages, self.head = nn.Sequential(OrderedDict(stages)), nn.Linear(7, 5)

    @classmethod
    def last_side(cls, config, side):
        return side


def test_a_stage_that_gives_no_maps_is_read_as_it_is():
    model = Flat().eval()
    cut = cut_at(model, "last", 3, sides=("stem", "maps", "values")).eval()
    for side in side_classifiers(cut).values():
        torch.nn.init.normal_(side.weight)
    images = images_for(model)
    with torch.no_grad():
        codes = pooled_codes(model, images)
        expected = new_classifier(cut)(codes["last"]) + sum(
            side(codes[place]) for place, side in side_classifiers(cut).items()
        )
        torch.testing.assert_close(cut(images), expected)
    assert list(side_classifiers(cut)) == ["stem", "maps", "values"]


def test_classes_that_earlier_stages_know_are_kept_when_others_join():
    model = small("cifar_resnet20")
    cut = cut_at(model, "maps8", 2, sides=("stem", "maps16"))
    for side in side_classifiers(cut).values():
        torch.nn.init.normal_(side.weight)
    spec = InputSpec(size=cut.architecture.input_size, channels=cut.architecture.in_channels)
    saved = SavedModel(model=cut.eval(), spec=spec, labels=Labels(("a", "b")))
    grown = refitted(saved, Labels(("b", "new", "a"))).model.eval()
    images = images_for(cut)
    with torch.no_grad():
        torch.testing.assert_close(grown(images)[:, [2, 0]], cut(images))
    assert not side_classifiers(grown)["stem"].weight[1].any()  # of what is new they know nothing


@every_model_lightly
def test_a_cut_network_is_counted_trained_and_started_again(name):
    model = small(name)
    known = places(model)
    place = known[max(1, len(known) - 2)] if len(known) > 1 else known[0]
    cut = cut_at(model, place, 3)
    found = anatomy_of(cut, training=False)
    assert found.params == count_parameters(cut) == sum(one.numel() for one in cut.parameters())
    assert found.layers[-1].output == (3,)
    assert sum(layer.params for layer in found.layers) == found.params
    cut.train()
    targets = torch.tensor([0, 1, 2])
    outputs = cut(images_for(cut, 3))
    cut.loss(outputs, targets).backward()
    assert all(one.grad is not None for one in cut.parameters() if one.requires_grad)
    initialise(cut, "paper", generator=torch.Generator().manual_seed(3))
    again = cut_at(small(name), place, 3)
    initialise(again, "paper", generator=torch.Generator().manual_seed(3))
    expected = again.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in cut.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((64, 56, 56), 4),
        ((65, 56, 56), 3),
        ((128, 28, 28), 2),
        ((256, 14, 14), 2),
        ((257, 14, 14), 1),
        ((2048, 7, 7), 1),
        ((16, 2, 9), 2),
        ((3, 1, 1), 1),
    ],
)
def test_grids_of_codes(shape, grid):
    assert code_grid(*shape) == grid


def test_places_that_are_not_there_are_answered_with_those_that_are():
    model = create_model("cifar_resnet20", start=False)
    for call in (modules_up_to, lambda model, place: cut_at(model, place, 2)):
        with pytest.raises(ModelError, match=r"cifar_resnet20 has no place 'layer4'") as caught:
            call(model, "layer4")
        assert caught.value.hint == "it has: stem, maps32, maps16, maps8"
    with pytest.raises(ModelError, match="no place 'head'"):
        pooled_codes(model, images_for(model), ["stem", "head"])
    with pytest.raises(ModelError, match="0 classes"):
        cut_at(model, "stem", 0)


def test_a_cut_network_is_cut_again_and_its_record_survives_json():
    model = create_model("vgg_a", input_size=32, widths=(8, 8, 8, 8, 8), hidden=16, classes=5).eval()
    once = cut_at(model, "head.fc7", 4)
    twice = cut_at(once, "conv3", 3)
    assert places(twice) == ("stem", "conv1", "conv2", "conv3")
    straight = cut_at(model, "conv3", 3)
    assert twice.architecture == straight.architecture
    again = rebuild(json.loads(json.dumps(twice.architecture.to_dict()))).eval()
    assert again.architecture == twice.architecture
    again.load_state_dict(twice.state_dict())
    assert torch.equal(again(images_for(again)), twice(images_for(again)))
    fresh = rebuild(once.architecture).head.get_submodule("linear")
    assert 0.005 < float(fresh.weight.detach().std()) < 0.02
    assert not fresh.bias.detach().any()


def test_looking_for_codes_runs_no_deeper_than_asked_and_moves_no_statistics():
    model = create_model("cifar_resnet20")
    ran = []
    for name, stage in model.stages.named_children():
        stage.register_forward_hook(lambda _m, _i, _o, name=name: ran.append(name))
    statistics = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.train()
    cut_at(model, "maps16", 3)
    assert model.training
    assert all(torch.equal(tensor, statistics[key]) for key, tensor in model.state_dict().items())
    ran.clear()
    model.eval()
    pooled_codes(model, images_for(model), ["maps16", "stem"])
    assert ran == ["maps32", "maps16"]


def test_half_precision_gives_single_precision_codes():
    model = create_model("cifar_resnet20").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        codes = pooled_codes(model, images_for(model))
    assert {code.dtype for code in codes.values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EVERYDAY))
def test_a_cut_network_is_exported_and_compiled(name, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="checking an export needs onnxruntime")
    model = small(name)
    known = places(model)
    middle = known[len(known) // 2]
    cut = cut_at(model, middle, 4, sides=("stem",) if middle != "stem" else ())
    for side in side_classifiers(cut).values():
        torch.nn.init.normal_(side.weight, std=0.1)
    images = images_for(cut)
    with torch.inference_mode():
        expected = cut(images)
    file = tmp_path / "model.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(cut, (images,), file, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {session.get_inputs()[0].name: images[:1].numpy()})
    torch.testing.assert_close(
        torch.from_numpy(given), expected[:1], rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )
    pytest.importorskip("torch._inductor")
    with torch.inference_mode():
        torch.compiler.reset()
        compiled = torch.compile(cut, fullgraph=True)(images)
    torch.testing.assert_close(compiled, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_cut_network_is_made_to_measure_for_other_sizes_and_channels():
    model = create_model("vgg_a", input_size=64, classes=2, **NARROW["vgg"])
    spec, labels = InputSpec(size=(64, 64), channels=3), Labels(("a", "b"))
    saved = SavedModel(model=cut_at(model, "head.fc6", 2).eval(), spec=spec, labels=labels)
    larger = refitted(saved, labels, input_size=(96, 64)).model  # fc6 reads as many places as before
    assert (larger.architecture.cut, larger.architecture.config["grid"]) == ("head.fc6", 2)
    assert torch.equal(larger.state_dict()["head.fc6.weight"], model.state_dict()["head.fc6.weight"])
    saved = SavedModel(model=cut_at(model, "conv3", 2).eval(), spec=spec, labels=labels)
    grey = refitted(saved, labels, input_size=(32, 48), in_channels=1).model
    assert grey(images_for(grey)).shape == (2, 2)
