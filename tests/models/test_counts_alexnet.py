"""AlexNet, ZFNet and Network in Network: parameters, multiply-accumulates and outputs, exactly, layer by layer."""

import pytest
import torch
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.models import ConvNet, create_model, find_entry

# name: parameters, multiply-accumulates of one image at the input size of the registry, those of fc6 to fc8
COUNTS = {
    "alexnet_2012": (60_965_224, 724_406_816, 58_621_952),
    "alexnet_dense": (62_378_344, 1_135_256_096, 58_621_952),
    "caffenet": (60_965_224, 724_406_816, 58_621_952),
    "alexnet_owt": (61_100_840, 714_188_480, 58_621_952),
    "zfnet_fig3": (62_357_608, 1_168_032_896, 58_621_952),
    "zfnet_512_1024_512": (107_627_624, 2_476_704_896, 96_370_688),
    "nin_cifar": (966_986, 222_486_528, None),
    "nin_imagenet": (7_595_176, 1_105_996_320, None),
}
FULLY_CONNECTED = {"fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000}
LAYERS = {
    "alexnet_2012": {"conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624},
    "zfnet_fig3": {"conv1": 14_208, "conv2": 614_656, "conv3": 885_120, "conv4": 1_327_488, "conv5": 884_992},
}


def unborn(name: str, **changes) -> ConvNet:
    """The network without memory for its weights: only shapes."""
    with torch.device("meta"):
        return create_model(name, start=False, **changes)


def outputs(model: ConvNet, kinds: tuple[type[nn.Module], ...]) -> list[tuple[int, ...]]:
    """Shapes, without the batch, of what the layers of these kinds give, in the order of execution."""
    shapes: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[1:])))
    record = model.architecture
    model.eval()(torch.empty(1, record.in_channels, *record.input_size, device="meta"))
    return shapes


def sizes(shapes: list[tuple[int, ...]]) -> list[int]:
    return [torch.Size(shape).numel() for shape in shapes]


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    model = unborn(name)
    parameters, macs, dense = COUNTS[name]
    assert (count_parameters(model), count_macs(model)) == (parameters, macs)
    assert (find_entry(name).params, find_entry(name).macs) == (parameters, macs)
    if dense is not None:
        last = model.head.fc6.in_features // 36
        assert count_macs(model.head, last, 6) == dense


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_layer_by_layer(name):
    model = unborn(name)
    found = {"conv1": count_parameters(model.stem)}
    found |= {stage: count_parameters(layers) for stage, layers in model.stages.named_children()}
    assert found == LAYERS[name]
    assert {key: count_parameters(model.head.get_submodule(key)) for key in FULLY_CONNECTED} == FULLY_CONNECTED


def test_alexnets_weights_and_biases():
    named = dict(unborn("alexnet_2012").named_parameters())
    biases = sum(value.numel() for key, value in named.items() if key.endswith("bias"))
    assert biases == 10_568
    assert sum(value.numel() for value in named.values()) - biases == 60_954_656


def test_zfnet_with_wider_layers():
    """fc6 alone, and 1.73 times the network of figure 3."""
    model = unborn("zfnet_512_1024_512")
    assert count_parameters(model.head.fc6) == 75_501_568
    assert count_parameters(model) / COUNTS["zfnet_fig3"][0] == pytest.approx(1.73, abs=0.005)


def test_alexnets_first_two_layers():
    """W8: conv1 55x55x96 with 34,848 weights; pooled 27x27x96 without any."""
    model = unborn("alexnet_2012")
    assert model.stem.conv.weight.numel() == 34_848
    maps = model.stem.conv(torch.empty(1, 3, 227, 227, device="meta"))
    assert maps.shape[1:] == (96, 55, 55)
    assert model.stem.pool(maps).shape[1:] == (96, 27, 27)
    assert count_parameters(model.stem.pool) == 0


@pytest.mark.parametrize("name", ["alexnet_2012", "alexnet_dense", "caffenet"])
def test_alexnets_neurons(name):
    """W15, E02: the paper prints 253,440 for conv1, which has 290,400; its list adds up to 622,312."""
    counted = sizes(outputs(unborn(name), (nn.Conv2d, nn.Linear)))
    assert counted == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert sum(counted) == 659_272
    assert 55 * 48 * 96 == 253_440
    assert sum([253_440, *counted[1:]]) == 622_312
    assert (224 * 224 * 3, 227 * 227 * 3) == (150_528, 154_587)


@pytest.mark.parametrize(("name", "total"), [("alexnet_owt", 494_184), ("zfnet_fig3", 1_516_904)])
def test_neurons_of_the_others(name, total):
    assert sum(sizes(outputs(unborn(name), (nn.Conv2d, nn.Linear)))) == total


@pytest.mark.parametrize(
    ("size", "padding", "conv1", "exact"), [(227, 0, 55, 55), (224, 0, 54, 54.25), (224, 2, 55, 55.25)]
)
def test_output_sizes_of_conv1(size, padding, conv1, exact):
    """M016, E03: (n + 2p - 11) / 4 + 1, rounded down; 224 pixels need a padding of 2 to give 55."""
    assert (size + 2 * padding - 11) / 4 + 1 == exact
    model = unborn("alexnet_2012", input_size=size, padding=padding)
    assert model.stem.conv(torch.empty(1, 3, size, size, device="meta")).shape[-1] == conv1


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("alexnet_2012", [55, 27, 27, 13, 13, 13, 13, 6]),
        ("alexnet_owt", [55, 27, 27, 13, 13, 13, 13, 6]),
        ("zfnet_fig3", [110, 55, 26, 13, 13, 13, 13, 6]),
        ("nin_cifar", [32, 32, 32, 16, 16, 16, 16, 8, 8, 8, 8]),
        ("nin_imagenet", [55, 55, 55, 27, 27, 27, 27, 13, 13, 13, 13, 6, 6, 6, 6]),
    ],
)
def test_sides_of_the_maps(name, sides):
    shapes = outputs(unborn(name), (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))
    assert [shape[-1] for shape in shapes] == sides


def test_two_groups_halve_the_weights():
    """M035: conv2 has 256 * 96/2 * 25 + 256 parameters instead of 256 * 96 * 25 + 256."""
    two, one = (count_parameters(unborn(name).stages.conv2) for name in ("alexnet_2012", "alexnet_dense"))
    assert (two, one) == (307_456, 614_656)
