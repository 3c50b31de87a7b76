"""The one contract: every registered architecture, its variations, and what every tool relies on."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate.errors import ModelError, UnknownNameError
from striate.layers.initialise import initialise
from striate.layers.regularization import StochasticDepth
from striate.models import ConvNet, Outputs, create_model, entries, family_class, find_entry, rebuild

# The everyday suite runs one of each family and of each kind of block, the slow one all the rest.
EVERYDAY = {
    "lenet5_1998",
    "lenet5_dense",
    "lenet_1989_zip",
    "lecun1989_net4",
    "nin_cifar",
    "cifar_plain20",
    "cifar_resnet20",
    "preact_resnet164",
    "resnet18",
    "resnet18_a",
    "vgg_a",
    "squeezenet1_1",
    "squeezenet_complex_bypass",
    "mobilenet_v1_0.25_128",
    "airbench94",
    "compact_xs",
    "compact_s",
    "compact_m",
    "compact_l",
}
NAMES = [
    entry.name if entry.name in EVERYDAY else pytest.param(entry.name, marks=pytest.mark.slow) for entry in entries()
]
every_model = pytest.mark.parametrize("name", NAMES)
# The same layers with fewer units each, where those of the paper would take most of the suite's time.
NARROW = {"vgg": {"widths": (16, 32, 64, 128, 128), "hidden": 64}, "preact_resnet164": {"depths": (2, 2, 2)}}
VERY_DEEP = {"cifar_resnet1202", "stochdepth_resnet1202", "preact_resnet1001"}


def small(name: str, **changes) -> ConvNet:
    """The network at an input small enough for a quick test: the paper's where that is small."""
    torch.manual_seed(0)
    entry = find_entry(name)
    side = max(min(entry.input.size[0], 36), entry.min_size)
    narrow = NARROW.get(name, NARROW.get(entry.family, {}))
    model = create_model(name, **({"input_size": side} | narrow | changes))
    if name in VERY_DEEP and changes.get("start", True):
        settle(model)
    return model


def settle(model: ConvNet) -> None:
    """Running statistics as training would leave them: hundreds of fresh units that each double the signal overflow."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images_for(model, 3))
    for norm in norms:
        norm.momentum = 0.1


def images_for(model: ConvNet, count: int) -> torch.Tensor:
    record = model.architecture
    return torch.randn(count, record.in_channels, *record.input_size, generator=torch.Generator().manual_seed(1))


@every_model
@pytest.mark.parametrize("count", [1, 3])
def test_logits_for_any_batch(name, count):
    model = small(name).eval()
    logits = model(images_for(model, count))
    assert logits.shape == (count, find_entry(name).classes)
    assert logits.isfinite().all()


@every_model
def test_every_parameter_gets_a_gradient_and_the_loss_is_finite(name):
    model = small(name).train()
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.rate = 0.0  # a branch that is dropped gets none
    targets = torch.tensor([0, 1, 2])
    loss = model.loss(model(images_for(model, 3)), targets)
    assert loss.ndim == 0
    assert loss.isfinite()
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@every_model
def test_loss_takes_weights_smoothing_and_reductions(name):
    model = small(name).eval()
    logits, targets = model(images_for(model, 3)), torch.tensor([0, 1, 2])
    classes = logits.shape[1]
    each = model.loss(logits, targets, reduction="none")
    assert each.shape == (3,)
    torch.testing.assert_close(model.loss(logits, targets), each.mean())
    torch.testing.assert_close(model.loss(logits, targets, reduction="sum"), each.sum())
    ones = torch.ones(classes)
    torch.testing.assert_close(model.loss(logits, targets, weight=ones), each.mean())
    ones[0] = 3.0
    torch.testing.assert_close(model.loss(logits, targets, weight=ones), (3 * each[0] + each[1] + each[2]) / 5)
    assert model.loss(logits, targets, label_smoothing=0.1) != each.mean()


@every_model
def test_several_labels_an_image_train_every_parameter_or_are_refused(name):
    model = small(name, classes=5).train()
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.rate = 0.0
    targets = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]])
    outputs = model(images_for(model, 3))
    if hasattr(model.head, "loss"):
        with pytest.raises(ModelError, match="takes one class an image"):
            model.loss(outputs, targets)
        return
    loss = model.loss(outputs, targets)
    logits, aux = outputs if isinstance(outputs, Outputs) else (outputs, {})
    own = functional.binary_cross_entropy_with_logits(logits, targets)
    beside = sum(functional.binary_cross_entropy_with_logits(one, targets) for one in aux.values())
    torch.testing.assert_close(loss, own + model.auxiliary_weight * beside)
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
        assert parameter.isfinite().all(), key


@every_model
def test_evaluation_is_deterministic_and_independent_of_the_batch(name):
    model = small(name).eval()
    images = images_for(model, 3)
    if name in VERY_DEEP:  # a thousand layers magnify rounding
        model, images = model.double(), images.double()
    logits = model(images)
    assert torch.equal(logits, model(images))
    atol = 1e-4 * max(1.0, logits.abs().max().item())
    torch.testing.assert_close(model(images[:1]), logits[:1], rtol=1e-4, atol=atol)


@every_model
def test_stem_stages_and_head_compose_to_the_network(name):
    model = small(name).eval()
    images = images_for(model, 2)
    maps = model.stem(images)
    assert isinstance(model.stages, nn.Sequential)
    for stage_name, stage in model.stages.named_children():
        assert not stage_name.isdigit()
        maps = stage(maps)
        assert maps.ndim == 4
    assert torch.equal(maps, model.features(images))
    assert torch.equal(model.head(maps), model(images))
    parts = {key.split(".")[0] for key in model.state_dict()}
    assert parts <= {"stem", "stages", "head", "auxiliary"}


@every_model
def test_last_side_is_the_side_of_the_features(name):
    model = small(name).eval()
    side = type(model).last_side(type(model).config_type(**model.architecture.config), model.architecture.input_size[0])
    features = model.features(images_for(model, 1))
    # LeNet-5's C5 reads all of S4's maps at once.
    expected = 1 if name.startswith("lenet5") else side
    assert features.shape[-2:] == (expected, expected)


@every_model
def test_rebuilding_from_the_record_gives_the_same_network(name):
    model = small(name, classes=7, in_channels=2).eval()
    record = json.loads(json.dumps(model.architecture.to_dict()))
    again = rebuild(record).eval()
    assert again.architecture == model.architecture
    again.load_state_dict(model.state_dict())
    images = images_for(model, 2)
    assert torch.equal(again(images), model(images))


@every_model
@pytest.mark.parametrize(("in_channels", "classes"), [(1, 2), (3, 11), (5, 1)])
def test_channels_and_classes_can_be_chosen(name, in_channels, classes):
    model = small(name, in_channels=in_channels, classes=classes).eval()
    assert model(images_for(model, 2)).shape == (2, classes)


@every_model
def test_smallest_size_works_and_one_pixel_less_is_refused(name):
    entry = find_entry(name)
    smallest = entry.min_size
    model = create_model(name, input_size=smallest)
    assert type(model).smallest_size(type(model).config_type(**model.architecture.config)) == smallest
    model(images_for(model, 3))
    with pytest.raises(ModelError, match=f"at least {smallest}x{smallest}") as caught:
        create_model(name, input_size=(smallest + 5, smallest - 1))
    assert str(smallest) in (caught.value.hint or "")


@every_model
@pytest.mark.parametrize("more", [(1, 15), (24, 0)])
def test_oblong_and_odd_sizes(name, more):
    smallest = max(find_entry(name).min_size, 20)
    model = create_model(name, input_size=(smallest + more[0], smallest + more[1])).eval()
    assert model(images_for(model, 2)).shape[0] == 2


@every_model
def test_bf16_autocast_trains(name):
    model = small(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(model(images_for(model, 3)), torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_model
def test_channels_last_gives_the_same(name):
    model = small(name).eval()
    images = images_for(model, 2)
    if name in VERY_DEEP:  # a thousand layers magnify rounding
        model, images = model.double(), images.double()
    expected = model(images)
    moved = copy.deepcopy(model).to(memory_format=torch.channels_last)
    logits = moved(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@every_model
def test_starting_again_is_a_pure_function_of_the_generator(name):
    first, second = small(name), small(name, classes=None)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(1)
    for model in (first, second):
        initialise(model, "paper", generator=torch.Generator().manual_seed(9))
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@every_model
def test_stages_freeze_one_by_one(name):
    model = small(name).train()
    parts = [model.stem, *model.stages]
    for depth in {1, len(parts) // 2, len(parts)}:
        model.requires_grad_(True).zero_grad()
        frozen = parts[:depth]
        for part in frozen:
            part.requires_grad_(False)
        model.loss(model(images_for(model, 3)), torch.tensor([0, 1, 2])).backward()
        assert all(parameter.grad is None for part in frozen for parameter in part.parameters())
        after = [model.head, *parts[depth:]]
        assert all(parameter.grad is not None for part in after for parameter in part.parameters())


@every_model
def test_weights_survive_saving_and_loading_and_the_head_is_replaced(name):
    model, again = small(name).eval(), small(name, start=False).eval()
    again.load_state_dict(model.state_dict())
    images = images_for(model, 2)
    assert torch.equal(again(images), model(images))
    other = small(name, classes=model.architecture.classes + 3)
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith(("head.", "auxiliary."))}
    new, unknown = other.load_state_dict(kept, strict=False)
    assert not unknown
    assert all(key.startswith(("head.", "auxiliary.")) for key in new)  # nothing else depends on the classes
    assert torch.equal(other.eval().features(images), model.features(images))
    assert other(images).shape[1] == model.architecture.classes + 3


@every_model
def test_no_activation_works_in_place_and_each_is_used_once(name):
    model = small(name).eval()
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    calls: dict[nn.Module, int] = {}
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda used, _i, _o: calls.update({used: calls.get(used, 0) + 1}))
    model(images_for(model, 1))
    assert set(calls.values()) == {1}


VARIATIONS = {
    "activation": ("leaky_relu", "elu", "gelu", "maxout", "sigmoid", "tanh", "scaled_tanh", "linear"),
    "normalization": ("batch", "group", "local_response", "contrast", "none"),
    "pooling": ("max", "average", "sum", "overlapping_max", "trainable"),
    "dropout": (0.5,),
    "stochastic_depth": (0.5,),
}


@every_model
@pytest.mark.parametrize("field", VARIATIONS)
def test_every_variation_that_the_network_has_trains(name, field):
    entry = find_entry(name)
    if field not in type(small(name, start=False)).config_type.__dataclass_fields__:
        return  # what it lacks is refused: see below
    trained = []
    side = max(8, entry.min_size)
    for value in VARIATIONS[field]:
        try:
            # overlapping windows need larger images than others
            model = small(name, **{field: value, "classes": 3, "input_size": 2 * side if field == "pooling" else side})
        except ModelError as error:
            refusal = error
        else:
            refusal = None
        if refusal is not None:
            assert f"no {field} " in refusal.message  # not offered by this family; the hint says what is
            continue
        trained.append(value)
        assert model.architecture.config[field] == value
        loss = model.loss(model.train()(images_for(model, 3)), torch.tensor([0, 1, 2]))
        loss.backward()
        unnormalised = field == "normalization" and value not in ("batch", "group")
        assert loss.isfinite() or (unnormalised and name in VERY_DEEP), (field, value)
    # A plain network has no branches to drop.
    assert trained or (field == "stochastic_depth" and entry.config.get("shortcut") == "none")


def test_a_variation_that_the_network_lacks_names_those_it_has():
    with pytest.raises(ModelError, match="lenet5_dense has no option 'stochastic_depth'") as caught:
        create_model("lenet5", stochastic_depth=0.2)
    assert "activation" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="no pooling 'median'") as caught:
        create_model("lenet5", pooling="median")
    assert "overlapping_max" in (caught.value.hint or "")
    assert create_model("lenet5", stochastic_depth=None).architecture.name == "lenet5_dense"


def test_stochastic_depth_grows_over_the_units():
    model = create_model("cifar_resnet20", stochastic_depth=0.5)
    rates = [module.rate for module in model.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.5 * unit / 9 for unit in range(1, 10)])


def test_names_and_aliases():
    assert find_entry("LeNet5").name == "lenet5_dense"
    for depth in (20, 32, 44, 56, 110):
        assert find_entry(f"resnet{depth}").name == f"cifar_resnet{depth}"
    assert find_entry("resnet34").name == "resnet34_b"
    with pytest.raises(UnknownNameError) as caught:
        create_model("resnet19")
    assert "resnet18" in caught.value.nearest


@pytest.mark.parametrize("changes", [{"classes": 0}, {"in_channels": 0}])
def test_nothing_has_no_channels_or_classes(changes):
    with pytest.raises(ModelError, match="at least 1"):
        create_model("lenet5", **changes)


def test_a_damaged_record_is_an_error_of_ours():
    record = create_model("lenet5").architecture.to_dict()
    with pytest.raises(ModelError, match="not the record of an architecture"):
        rebuild({key: value for key, value in record.items() if key != "classes"})
    with pytest.raises(ModelError, match="no option 'depth'"):
        rebuild({**record, "config": {"depth": 3}})


def test_registry_entries_name_real_classes_once():
    assert len({entry.name for entry in entries()}) == len(entries())
    for entry in entries():
        assert issubclass(family_class(entry), ConvNet)
        assert entry.name == entry.name.lower()
