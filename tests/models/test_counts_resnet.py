"""Parameters and multiply-accumulates of the residual line, exactly, and what the papers say of their size."""

import pytest
import torch
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.models import create_model, find_entry
from striate.models.build import family_class

# name: parameters, multiply-accumulates of one image at the paper's input size
COUNTS = {
    "plain18": (11_515_688, 1_794_805_760),
    "resnet18_a": (11_515_688, 1_794_805_760),
    "resnet18": (11_689_512, 1_814_073_344),
    "plain34": (21_623_848, 3_644_493_824),
    "resnet34_a": (21_623_848, 3_644_493_824),
    "resnet34_b": (21_797_672, 3_663_761_408),
    "resnet34_c": (22_716_840, 3_830_747_136),
    "resnet50": (25_557_032, 3_857_973_248),
    "resnet50_v1_5": (25_557_032, 4_089_184_256),
    "resnet101": (44_549_160, 7_570_194_432),
    "resnet101_v1_5": (44_549_160, 7_801_405_440),
    "resnet152": (60_192_808, 11_282_415_616),
    "resnet152_v1_5": (60_192_808, 11_513_626_624),
    "cifar_plain20": (269_722, 40_551_040),
    "cifar_plain32": (464_154, 68_862_592),
    "cifar_plain44": (658_586, 97_174_144),
    "cifar_plain56": (853_018, 125_485_696),
    "cifar_resnet20": (269_722, 40_551_040),
    "cifar_resnet32": (464_154, 68_862_592),
    "cifar_resnet44": (658_586, 97_174_144),
    "cifar_resnet56": (853_018, 125_485_696),
    "cifar_resnet110": (1_727_962, 252_887_680),
    "cifar_resnet1202": (19_421_274, 2_829_238_912),
    "preact_resnet110": (1_727_962, 252_887_680),
    "preact_resnet164": (1_703_258, 244_500_992),
    "preact_resnet1001": (10_327_706, 1_487_849_984),
    "preact_resnet152": (60_185_128, 11_282_415_616),
    "preact_resnet200": (64_666_152, 14_776_270_848),
    "stochdepth_resnet110": (1_727_962, 252_887_680),
    "stochdepth_resnet152_svhn": (2_408_474, 351_978_112),
    "stochdepth_resnet1202": (19_421_274, 2_829_238_912),
    "stochdepth_resnet152_imagenet": (60_192_808, 11_282_415_616),
}
DEEP = ("1001", "1202")  # a second or more each; the registry's own test counts them too


def built(name: str, **variations) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, start=False, **variations)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name[-4:] in DEEP else name for name in COUNTS]
)
def test_counts(name):
    model = built(name)
    assert (count_parameters(model), count_macs(model)) == COUNTS[name]
    entry = find_entry(name)
    if entry.paper_macs is not None:  # two digits of table 1
        assert count_macs(model) == pytest.approx(entry.paper_macs, rel=0.03)


@pytest.mark.parametrize(
    ("name", "variations", "parameters"),
    [
        ("resnet18", {"shortcut": "C"}, 12_043_816),
        ("cifar_resnet20", {"shortcut": "B"}, 272_474),
        ("cifar_resnet32", {"shortcut": "B"}, 466_906),
        ("cifar_resnet110", {"shortcut": "B"}, 1_730_714),
        ("preact_resnet164", {"arrangement": "original"}, 1_704_154),
        ("preact_resnet1001", {"arrangement": "original"}, 10_328_602),
        ("preact_resnet200", {"arrangement": "original"}, 64_673_832),  # timm's resnet200
        ("resnet152_v1_5", {"depths": (3, 24, 36, 3)}, 64_673_832),
        ("preact_resnet164", {"classes": 100}, 1_726_388),
        ("preact_resnet1001", {"classes": 100}, 10_350_836),
        ("stochdepth_resnet110", {"classes": 100}, 1_733_812),
    ],
)
def test_other_readings(name, variations, parameters):
    assert count_parameters(built(name, **variations)) == parameters


def test_operations_at_other_sizes():
    assert count_macs(built("preact_resnet200"), size=320) == 30_153_523_200


def test_shortcuts_of_the_34_layers():
    """Options A, B and C cost nothing, a little and more; a plain network costs as much as A."""
    counts = {name: count_parameters(built(f"resnet34_{name}")) for name in "abc"}
    assert counts == {"a": 21_623_848, "b": 21_797_672, "c": 22_716_840}
    assert count_parameters(built("plain34")) == counts["a"]
    assert count_macs(built("plain34")) == count_macs(built("resnet34_a"))
    assert count_macs(built("resnet34_a")) == pytest.approx(3.6e9, rel=0.02)  # "3.6 billion" are multiply-adds


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnet18", 18),
        ("plain34", 34),
        ("resnet50", 50),
        ("resnet101_v1_5", 101),
        ("resnet152", 152),
        ("cifar_plain56", 56),
        ("cifar_resnet1202", 1202),
        ("preact_resnet164", 164),
        ("preact_resnet1001", 1001),
        ("preact_resnet200", 200),
    ],
)
def test_the_name_counts_the_layers_with_weights(name, depth):
    """Convolutions outside shortcuts, and the one linear layer at the end."""
    layers = [
        key
        for key, module in built(name).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and ".shortcut." not in key
    ]
    assert len(layers) == depth
    assert layers[-1] == "head.linear"


@pytest.mark.parametrize(("name", "inputs"), [("resnet18", 512), ("resnet34_b", 512), ("resnet50", 2048)])
def test_one_linear_layer_follows_the_global_mean(name, inputs):
    model = built(name)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [(one.in_features, one.out_features) for one in linear] == [(inputs, 1000)]


def test_size_on_disk():
    """Four bytes a parameter: 102.23 MB, which are 97.49 MiB."""
    size = 4 * count_parameters(built("resnet50"))
    assert size / 1e6 == pytest.approx(102.23, abs=0.005)
    assert size / 2**20 == pytest.approx(97.49, abs=0.005)


def test_deeper_plain_networks_were_worse_and_deeper_residual_ones_better():
    """The degradation problem, table 2: 27.94 and 28.54 % plain, 27.88 and 25.03 % residual."""
    error = {name: find_entry(name).published[0].top1_error for name in COUNTS if find_entry(name).published}
    assert (error["plain18"], error["plain34"]) == (27.94, 28.54)
    assert (error["resnet18_a"], error["resnet34_a"]) == (27.88, 25.03)


@pytest.mark.parametrize("name", ["cifar_plain20", "cifar_resnet56", "plain18", "resnet50", "resnet152_v1_5"])
def test_stages_are_named_after_the_papers_table(name):
    model = built(name)
    small = family_class(find_entry(name)).__name__ == "CifarResNet"
    expected = ["maps32", "maps16", "maps8"] if small else ["conv2_x", "conv3_x", "conv4_x", "conv5_x"]
    assert [stage for stage, _ in model.stages.named_children()] == expected


def test_bottleneck_goes_down_and_up_again():
    """256 maps in, 64 inside, 256 out: as cheap as a basic unit of 64 maps."""
    unit = built("resnet50").stages.conv2_x[1]
    shapes = [tuple(conv.weight.shape) for conv in (unit.conv1, unit.conv2, unit.conv3)]
    assert shapes == [(64, 256, 1, 1), (64, 64, 3, 3), (256, 64, 1, 1)]
    weights = sum(conv.weight.numel() for conv in (unit.conv1, unit.conv2, unit.conv3))
    basic = built("resnet34_b").stages.conv2_x[1]
    assert weights == 69_632
    assert basic.conv1.weight.numel() + basic.conv2.weight.numel() == 73_728


@pytest.mark.parametrize(("name", "strides"), [("resnet50", (2, 1)), ("resnet50_v1_5", (1, 2))])
def test_where_the_stride_is(name, strides):
    for stage in list(built(name).stages)[1:]:
        assert (stage[0].conv1.stride[0], stage[0].conv2.stride[0]) == strides
        assert stage[0].shortcut.conv.stride == (2, 2)
        assert all(conv.stride == (1, 1) for conv in stage[1].modules() if isinstance(conv, nn.Conv2d))


def test_preactivation_normalises_once_after_conv1_and_once_after_the_last_addition():
    model = built("preact_resnet164")
    first, second, last = model.stages.maps32[0], model.stages.maps32[1], model.stages.maps8[-1]
    assert len(first.before) == 0
    assert [key for key, _ in second.before.named_children()] == ["norm1", "act1"]
    assert len(second.after) == 0
    assert [type(layer) for layer in last.after] == [nn.BatchNorm2d, nn.ReLU]
    twice = count_parameters(built("preact_resnet152")) + 2 * 64
    assert twice == 60_185_256  # had the first unit a norm of its own as well


def test_stochastic_depth_keeps_40_of_54_units_on_average():
    """Survival 1 - l/L (1 - p_L) with p_L = 0.5: (3L - 1) / 4."""
    model = built("stochdepth_resnet110")
    rates = [module.rate for module in model.modules() if type(module).__name__ == "StochasticDepth"]
    assert len(rates) == 54
    assert rates[-1] == 0.5
    assert rates[0] == pytest.approx(0.5 / 54)
    assert sum(1 - rate for rate in rates) == pytest.approx(40.25)
