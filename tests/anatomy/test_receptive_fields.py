"""Receptive fields in numbers: the recursion, the claims of lectures, and the published sizes of networks."""

import pytest
import torch
from torch import nn

from striate.anatomy import anatomy_of
from striate.models import create_model, entries, find_entry

# Size and stride of the last maps before the classifier. Araujo, Norris & Sim 2019 (distill.pub) have AlexNet 195,
# VGG-16 212, Inception v2 699, v3 1311, v4 2071, Inception-ResNet v2 3039, ResNet-50 483, -101 1027, -152 1507, -200
# 1763, MobileNet 315; the others are counted by another implementation.
PUBLISHED = {
    "lenet_1989_zip": (13, 4),
    "lenet1_1990": (16, 4),
    "lenet5_1998": (32, 4),
    "lenet5_dense": (32, 4),
    **dict.fromkeys(("alexnet_2012", "alexnet_dense", "caffenet", "alexnet_owt"), (195, 32)),
    **dict.fromkeys(("zfnet_fig3", "zfnet_512_1024_512"), (171, 32)),
    **dict.fromkeys(("vgg_a", "vgg_a_lrn", "vgg11_bn"), (150, 32)),
    **dict.fromkeys(("vgg_b", "vgg_c", "vgg13_bn"), (156, 32)),
    **dict.fromkeys(("vgg_d", "vgg16_bn"), (212, 32)),
    **dict.fromkeys(("vgg_e", "vgg19_bn"), (268, 32)),
    "googlenet": (715, 32),
    "googlenet_torchvision": (379, 32),
    **dict.fromkeys(("bn_inception", "bn_inception_fig5"), (699, 32)),
    "inception_v3": (1311, 32),
    "inception_v4": (2071, 32),
    "inception_resnet_v1": (1567, 32),
    "inception_resnet_v2": (3039, 32),
    "xception": (1083, 32),
    **dict.fromkeys(("plain18", "resnet18_a", "resnet18"), (435, 32)),
    **dict.fromkeys(("plain34", "resnet34_a", "resnet34_b", "resnet34_c"), (899, 32)),
    "resnet50": (483, 32),
    "resnet50_v1_5": (427, 32),
    "resnet101": (1027, 32),
    "resnet101_v1_5": (971, 32),
    **dict.fromkeys(("resnet152", "preact_resnet152"), (1507, 32)),
    "resnet152_v1_5": (1451, 32),
    "preact_resnet200": (1763, 32),
    "cifar_resnet20": (81, 4),
    "cifar_resnet32": (137, 4),
    "cifar_resnet44": (193, 4),
    "cifar_resnet56": (249, 4),
    **dict.fromkeys(("cifar_resnet110", "preact_resnet110", "stochdepth_resnet110"), (501, 4)),
    **dict.fromkeys(("cifar_resnet1202", "stochdepth_resnet1202"), (5597, 4)),
    "preact_resnet164": (255, 4),
    "preact_resnet1001": (1557, 4),
    **{
        f"mobilenet_v1_{width}_{side}": (315, 32)
        for width in ("1.0", "0.75", "0.5", "0.25")
        for side in (224, 192, 160, 128)
    },
    "mobilenet_v1_conv": (315, 32),
    "squeezenet1_0": (155, 16),
    "squeezenet1_1": (207, 16),
    **dict.fromkeys(("squeezenet_simple_bypass", "squeezenet_complex_bypass"), (155, 16)),
    "nin_cifar": (27, 4),
    "nin_imagenet": (195, 32),
}
LONG = ("1202", "1001")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if any(one in name for one in LONG) else name for name in PUBLISHED],
)
def test_published_sizes(name):
    with torch.device("meta"):
        model = create_model(name, start=False)
    found = anatomy_of(model, training=False)
    assert (found.receptive_field, found.stride) == PUBLISHED[name]
    assert not [layer.name for layer in found.layers if layer.note]
    assert found.macs == find_entry(name).macs
    assert sum(layer.params for layer in found.layers) == found.params == find_entry(name).params


def test_every_network_with_maps_is_in_the_table():
    # One size of the paper is not published; the comparison of 1989 gives none; the last are our own.
    others = {"inception_v2_rethinking", "inception_resnet_v2_paper", "mobilenet_v1_shallow"}
    others |= {
        entry.name
        for entry in entries()
        if entry.name.startswith(("lecun1989", "compact", "cifar_plain", "stochdepth", "airbench"))
    }
    assert {entry.name for entry in entries()} - set(PUBLISHED) <= others


def test_the_sizes_within_networks():
    """AlexNet conv5 163, ZFNet conv5 139, VGG-16 conv5_3 196 and fc6 404, VGG-19 fc6 460, GoogLeNet after pooling 907,
    LeNet-5 5, 6, 14, 16."""

    def sizes(name):
        return [layer.receptive_field for layer in anatomy_of(create_model(name, start=False), training=False).layers]

    assert 163 in sizes("alexnet_2012")
    assert 139 in sizes("zfnet_fig3")
    assert {196, 404} <= set(sizes("vgg_d"))
    assert {252, 460} <= set(sizes("vgg_e"))
    assert 907 in sizes("googlenet")
    assert list(dict.fromkeys(sizes("lenet5_1998"))) == [5, 6, 14, 16, 32]


def stack(*layers: tuple[int, int, int]) -> int | None:
    """Kernel, stride, dilation of each layer."""
    net = nn.Sequential(*(nn.Conv1d(1, 1, kernel, stride, dilation=step) for kernel, stride, step in layers))
    return anatomy_of(net, (4000,), 1, training=False).receptive_field


@pytest.mark.parametrize(("count", "size"), [(3, 7), (5, 11), (250, 501)])
def test_stacks_of_threes(count, size):
    """M134 and W12: 2L + 1."""
    assert stack(*[(3, 1, 1)] * count) == size


def test_the_recursion():
    """M133: r = r + (k - 1) d j; j = j s."""
    layers = [(7, 2, 1), (3, 2, 1), (3, 1, 2), (5, 1, 1), (2, 2, 3), (3, 1, 1)]
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        size += (kernel - 1) * dilation * jump
        jump *= stride
    assert stack(*layers) == size


def test_claims_about_28_pixels():
    """M135 to M137: five threes see 11, with strides 1, 2, 1, 2, 1 they see 21; with two pools 15."""
    assert stack(*[(3, 1, 1)] * 5) == 11
    assert stack(*[(3, stride, 1) for stride in (1, 2, 1, 2, 1)]) == 21
    two = nn.Sequential(
        nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 3), nn.MaxPool2d(3, 2)
    )
    one = nn.Sequential(nn.Conv2d(1, 1, 5), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 3), nn.MaxPool2d(3, 2))
    for net in (two, one):
        found = [layer.receptive_field for layer in anatomy_of(net, 28, 1).layers]
        assert found[-2:] == [11, 15]


def test_doubling_dilation():
    """M138, M139: 2^(l + 1) - 1; strides of 2 come to the same, a constant dilation of 2 to 4L + 1."""
    sizes = [stack(*[(3, 1, 2**layer) for layer in range(count)]) for count in range(1, 9)]
    assert sizes == [3, 7, 15, 31, 63, 127, 255, 511]
    assert stack(*[(3, 2, 1)] * 8) == 511
    assert stack(*[(3, 1, 2)] * 125) == 501


def test_layers_for_500_pixels():
    """M140: 250 threes, or 8 with doubling dilation."""
    assert stack(*[(3, 1, 1)] * 249) == 499
    assert stack(*[(3, 1, 1)] * 250) == 501


def test_theory_of_upsampled_maps_is_exact():
    """A 4-wide transposed kernel at stride 2 makes each unit of 2 inputs, twice as densely."""
    net = nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.ConvTranspose2d(1, 1, 4, 2), nn.Conv2d(1, 1, 3))
    sizes = [(layer.receptive_field, layer.stride) for layer in anatomy_of(net, 40, 1).layers]
    assert sizes == [(3, 2), (5, 1), (7, 1)]


def test_branches_of_unlike_stride_have_no_theory_but_exact_fields():
    class Unlike(nn.Module):
        def forward(self, maps):
            return maps[:, :, :4, :4] + nn.functional.avg_pool2d(maps, 2)

    found = anatomy_of(Unlike(), 8, 1)
    assert found.receptive_field is None
    assert found.layers[-1].centre == ((2, 5), (2, 5))
