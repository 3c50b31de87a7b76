"""VGG: parameters, operations and values, layer by layer: the paper's figures and those that listings of it print."""

import pytest
import torch
from torch import Tensor, nn

from striate.anatomy import count_macs, count_parameters
from striate.models import ConvNet, create_model, find_entry

# name: parameters, multiply-accumulates at 224 pixels, those of the convolutions alone
COUNTS = {
    "vgg_a": (132_863_336, 7_609_090_048, 7_485_456_384),
    "vgg_a_lrn": (132_863_336, 7_609_090_048, 7_485_456_384),
    "vgg_b": (133_047_848, 11_308_466_176, 11_184_832_512),
    "vgg_c": (133_638_952, 11_770_888_192, 11_647_254_528),
    "vgg_d": (138_357_544, 15_470_264_320, 15_346_630_656),
    "vgg_e": (143_667_240, 19_632_062_464, 19_508_428_800),
    "vgg11_bn": (132_868_840, 7_609_090_048, 7_485_456_384),
    "vgg13_bn": (133_053_736, 11_308_466_176, 11_184_832_512),
    "vgg16_bn": (138_365_992, 15_470_264_320, 15_346_630_656),
    "vgg19_bn": (143_678_248, 19_632_062_464, 19_508_428_800),
}
DENSE_MACS = 123_633_664
DENSE_PARAMETERS = 123_642_856


def on_meta(name: str, **changes) -> ConvNet:
    with torch.device("meta"):
        return create_model(name, start=False, **changes).eval()


def outputs(model: ConvNet, kinds: type | tuple[type, ...]) -> list[Tensor]:
    """The output of each layer of these kinds, in order, for one image of the model's size."""
    found: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _m, _i, output: found.append(output))
    model(torch.empty(1, 3, *model.architecture.input_size, device="meta"))
    return found


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    model = on_meta(name)
    parameters, macs, convolutions = COUNTS[name]
    assert count_parameters(model) == parameters
    assert count_macs(model) == macs
    assert macs - convolutions == DENSE_MACS
    assert sum(layer.weight.numel() for layer in model.head if isinstance(layer, nn.Linear)) == DENSE_MACS
    assert count_parameters(model.head) == DENSE_PARAMETERS


@pytest.mark.parametrize(
    ("alias", "name"), [("vgg11", "vgg_a"), ("vgg13", "vgg_b"), ("vgg16", "vgg_d"), ("VGG19", "vgg_e")]
)
def test_aliases(alias, name):
    assert find_entry(alias).name == name


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg_a", 11), ("vgg_a_lrn", 11), ("vgg_b", 13), ("vgg_c", 16), ("vgg_d", 16), ("vgg_e", 19)]
)
def test_weight_layers(name, layers):
    weighted = [module for module in on_meta(name).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers


def test_column_c_has_1x1_convolutions_where_d_has_3x3():
    kernels = {
        name: module.kernel_size[0]
        for name, module in on_meta("vgg_c").stages.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert [name for name, kernel in kernels.items() if kernel == 1] == [
        "conv3.conv3_3",
        "conv4.conv4_3",
        "conv5.conv5_3",
    ]
    assert set(kernels.values()) == {1, 3}
    assert kernels.keys() == {
        name for name, module in on_meta("vgg_d").stages.named_modules() if isinstance(module, nn.Conv2d)
    }


# E62, W9: weights without biases of each layer of VGG-16, and the values that it puts out.
VGG16 = {
    "conv1_1": (1_728, 3_211_264),
    "conv1_2": (36_864, 3_211_264),
    "conv2_1": (73_728, 1_605_632),
    "conv2_2": (147_456, 1_605_632),
    "conv3_1": (294_912, 802_816),
    "conv3_2": (589_824, 802_816),
    "conv3_3": (589_824, 802_816),
    "conv4_1": (1_179_648, 401_408),
    "conv4_2": (2_359_296, 401_408),
    "conv4_3": (2_359_296, 401_408),
    "conv5_1": (2_359_296, 100_352),
    "conv5_2": (2_359_296, 100_352),
    "conv5_3": (2_359_296, 100_352),
    "fc6": (102_760_448, 4_096),
    "fc7": (16_777_216, 4_096),
    "fc8": (4_096_000, 1_000),
}


def test_vgg16_layer_by_layer():
    model = on_meta("vgg16")
    layers = {
        name.rsplit(".", 1)[1]: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    values = [output.numel() for output in outputs(model, (nn.Conv2d, nn.Linear))]
    found = {name: (module.weight.numel(), count) for (name, module), count in zip(layers.items(), values, strict=True)}
    assert found == VGG16
    assert sum(weights for weights, _ in VGG16.values()) == 138_344_128
    assert sum(module.bias.numel() for module in layers.values()) == 13_416
    assert find_entry("vgg16").params == 138_344_128 + 13_416


def test_the_listed_values_of_vgg16_are_15_million_and_not_24():
    """W9, M152: image, convolutions, poolings and dense layers; 61 MB a picture, where the listings print 93."""
    model = on_meta("vgg16")
    listed = [output.numel() for output in outputs(model, (nn.Conv2d, nn.MaxPool2d, nn.Linear))]
    total = 3 * 224 * 224 + sum(listed)
    assert total == 15_237_608
    assert total * 4 / 1e6 == pytest.approx(60.95, abs=0.005)
    rectified = sum(output.numel() for output in outputs(on_meta("vgg16"), nn.ReLU))
    assert total + rectified == 28_793_320


def test_space_shrinks_as_depth_grows():
    """M131."""
    model = on_meta("vgg16")
    shapes = [tuple(output.shape[1:]) for output in outputs(model, nn.MaxPool2d)]
    assert shapes == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]


def test_most_parameters_are_in_the_dense_layers():
    """E57, M132."""
    model = on_meta("vgg19")
    share = count_parameters(model.head) / count_parameters(model)
    assert round(100 * share, 2) == 86.06


@pytest.mark.parametrize(("name", "megabytes", "mebibytes"), [("vgg16", 553.43, 527.79), ("vgg19", 574.67, 548.05)])
def test_size_of_the_weights(name, megabytes, mebibytes):
    """E14: VGG16's 533 MB is a slip for 553, or for 528 MiB."""
    size = 4 * count_parameters(on_meta(name))
    assert round(size / 1e6, 2) == megabytes
    assert round(size / 2**20, 2) == mebibytes


def test_vgg_has_a_little_more_than_twice_the_parameters_of_alexnet():
    """E15: not three times; against the network as published, two towers."""
    alexnet = 60_965_224
    assert round(find_entry("vgg16").params / alexnet, 2) == 2.27
    assert round(find_entry("vgg19").params / alexnet, 2) == 2.36


@pytest.mark.parametrize(
    ("count", "window", "ratio"),
    [(3, 7, 49 / 27), (2, 5, 25 / 18)],  # M036, W13: 1.815; M037: two cost 0.72 of one 5x5
)
def test_stacked_3x3_convolutions_see_as_much_for_less(count, window, ratio):
    channels = 4
    stack = nn.Sequential(*(nn.Conv2d(channels, channels, 3, bias=False) for _ in range(count))).double()
    one = nn.Conv2d(channels, channels, window, bias=False)
    assert count_parameters(stack) == count * 9 * channels**2
    assert count_parameters(one) / count_parameters(stack) == pytest.approx(ratio)
    images = torch.zeros(1, channels, 11, 11, dtype=torch.float64, requires_grad=True)
    centre = (11 - window) // 2
    stack(images)[0, 0, centre, centre].backward()
    assert images.grad is not None
    seen = images.grad[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [window, window]


@pytest.mark.parametrize(
    ("size", "grid", "inputs"),
    [(32, None, 512), (64, None, 512 * 4), ((64, 32), None, 512 * 2), (32, 7, 512 * 49), (384, None, 512 * 49)],
)
def test_the_dense_layers_read_the_papers_grid_or_less(size, grid, inputs):
    model = on_meta("vgg_a", input_size=size, grid=grid)
    assert model.head.get_submodule("fc6").in_features == inputs
    height, width = model.architecture.input_size
    assert model(torch.empty(2, 3, height, width, device="meta")).shape == (2, 1000)


def test_local_response_follows_the_first_activation_alone():
    names = [name for name, module in on_meta("vgg_a_lrn").named_modules() if type(module).__name__ == "LocalResponse"]
    assert names == ["stages.conv1.lrn1_1"]
    assert list(dict(on_meta("vgg_a_lrn").stages[0].named_children())) == ["conv1_1", "act1_1", "lrn1_1", "pool1"]
