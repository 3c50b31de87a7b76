"""The later Inception networks and Xception: parameters, multiply-accumulates and what their papers say of them."""

import pytest
import torch
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.errors import ModelError
from striate.layers.branches import Branches, Row, numbered_paths, unit_paths
from striate.layers.units import ConvUnit
from striate.models import create_model, find_entry
from striate.models.inception_resnet import ResidualUnit
from striate.models.inception_v3 import STEM_V2, V2, auxiliary_classifier, figure6
from striate.models.inception_v4 import INCEPTION_C
from striate.models.xception import SeparableConv2d, XceptionModule

# parameters and multiply-accumulates at 299x299 pixels; of convolutions, of the linear layer
COUNTS = {
    "inception_v3": (23_834_568, 5_711_168_096, 2_048_000),
    "inception_v4": (42_679_816, 12_252_438_624, 1_536_000),
    "inception_resnet_v1": (22_756_328, 6_206_361_696 - 1_792_000, 1_792_000),
    "inception_resnet_v2": (55_843_464, 13_154_258_016, 1_536_000),
    "xception": (22_855_952, 8_355_355_496, 2_048_000),
    # counted here only: see what `striate models` says of their differences
    "inception_v2_rethinking": (25_493_448, 6_269_100_640, 2_048_000),
    "inception_resnet_v2_paper": (32_433_928, 9_255_809_632, 2_144_000),
}
NAMES = list(COUNTS)


def on_meta(name: str, **changes):
    with torch.device("meta"):
        return create_model(name, start=False, **changes)


@pytest.mark.parametrize("name", NAMES)
def test_counts(name):
    model = on_meta(name)
    parameters, convolutions, linear = COUNTS[name]
    assert count_parameters(model) == parameters
    assert count_macs(model) == convolutions + linear
    assert model.head.linear.weight.numel() == linear
    assert model.architecture.input_size == (299, 299)  # not the 224 of the other photo networks


def test_auxiliary_classifier_of_inception_v3():
    model = on_meta("inception_v3")
    assert sum(parameter.numel() for parameter in model.parameters()) == 27_161_264
    assert not on_meta("inception_v3", auxiliary=False).auxiliary
    # Keras lists 23,851,784: no scales in its normalisation, but running means and variances.
    scales = sum(module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    scales -= sum(module.num_features for module in model.auxiliary.modules() if isinstance(module, nn.BatchNorm2d))
    assert scales == 17_216
    assert count_parameters(model) - scales + 2 * scales == 23_851_784


def test_the_auxiliary_classifier_reads_maps_of_any_size():
    module = auxiliary_classifier(8, 3, ConvUnit).eval()
    maps = torch.randn(2, 8, 17, 17)
    torch.testing.assert_close(module.pool(maps)[..., 0, 4], maps[..., 0:5, 12:17].mean((-2, -1)))
    for size, pooled in (((17, 17), (5, 5)), ((3, 3), (5, 5)), ((1, 20), (5, 5)), ((20, 35), (6, 11))):
        assert module.pool(torch.zeros(1, 8, *size)).shape[-2:] == pooled
        assert module(torch.zeros(1, 8, *size)).shape == (1, 3)


def sides(model) -> dict[str, tuple[int, ...]]:
    """[C, side] of each stage."""
    maps = torch.empty(1, 3, 299, 299, device="meta")
    maps, found = model.eval().stem(maps), {}
    found["stem"] = tuple(maps.shape[1:3])
    for name, stage in model.stages.named_children():
        maps = stage(maps)
        found[name] = tuple(maps.shape[1:3])
    return found


def test_grids_of_inception_v3():
    found = sides(on_meta("inception_v3"))
    assert found["stem"] == (192, 35)
    assert [found[f"Mixed_5{letter}"] for letter in "bcd"] == [(256, 35), (288, 35), (288, 35)]
    assert [found[f"Mixed_6{letter}"] for letter in "abcde"] == [(768, 17)] * 5
    assert [found[f"Mixed_7{letter}"] for letter in "abc"] == [(1280, 8), (2048, 8), (2048, 8)]


def test_table_1_of_the_rethinking_paper():
    model = on_meta("inception_v2_rethinking")
    maps, read = torch.empty(1, 3, 299, 299, device="meta"), []
    model.eval()
    for layer in model.stem.children():
        read.append(tuple(maps.shape[1:3]))
        maps = layer(maps)
    assert read == [(3, 299), (32, 149), (32, 147), (64, 147), (64, 73), (80, 71), (192, 35)]
    found = sides(model)
    assert [found[name] for name in ("stem", "Mixed_5d", "Mixed_6f", "Mixed_7a", "Mixed_7c")] == [
        (288, 35),
        (288, 35),
        (768, 17),
        (1280, 8),
        (2048, 8),
    ]


def test_the_network_of_table_1_has_42_layers():
    def longest(fork) -> int:
        """Convolutions one after the other, 1xn and nx1 counted half each; those side by side stand for one."""
        return max(sum(weigh(step) for step in ((branch,) if isinstance(branch, str) else branch)) for branch in fork)

    def weigh(step) -> float:
        if not isinstance(step, str):
            return 1
        if step.startswith(("max", "average")):
            return 0
        return 0.5 if step.startswith(("1x7", "7x1")) else 1

    assert sum(weigh(step) for step in STEM_V2.values()) + sum(longest(fork) for fork in V2.values()) == 42


def test_asymmetric_convolutions_cost_2n_for_n_squared():
    module = Branches(768, figure6(192), ConvUnit)
    rows = dict(module.named_children())
    pair = rows["branch1"].b_1x7.conv.weight.numel() + rows["branch1"].c_7x1.conv.weight.numel()
    assert pair / (192 * 192 * 7 * 7) == pytest.approx(2 * 7 / 7**2)
    assert pair == 192 * 192 * 14


def test_inception_v4_has_no_residuals_and_inception_resnet_has():
    v4 = on_meta("inception_v4")
    assert not any(isinstance(module, ResidualUnit) for module in v4.modules())
    assert [len(v4.stages.get_submodule(f"inception_{letter}")) for letter in "abc"] == [4, 7, 3]
    assert sides(v4) == {
        "stem": (384, 35),
        "inception_a": (384, 35),
        "reduction_a": (1024, 17),
        "inception_b": (1024, 17),
        "reduction_b": (1536, 8),
        "inception_c": (1536, 8),
    }
    for name, units in (
        ("inception_resnet_v1", 20),
        ("inception_resnet_v2", 40),
        ("inception_resnet_v2_paper", 20),
    ):
        assert sum(isinstance(module, ResidualUnit) for module in on_meta(name).modules()) == units
    many = {name: find_entry(name).published[-1] for name in ("inception_v4", "inception_resnet_v2")}
    assert (many["inception_v4"].top1_error, many["inception_v4"].top5_error) == (17.7, 3.8)
    assert (many["inception_resnet_v2"].top1_error, many["inception_resnet_v2"].top5_error) == (17.8, 3.7)


def test_grids_of_inception_resnet():
    assert sides(on_meta("inception_resnet_v1")) == {
        "stem": (256, 35),
        "inception_resnet_a": (256, 35),
        "reduction_a": (896, 17),
        "inception_resnet_b": (896, 17),
        "reduction_b": (1792, 8),
        "inception_resnet_c": (1792, 8),
    }
    assert list(sides(on_meta("inception_resnet_v2_paper")).values()) == [
        *((384, 35), (384, 35), (1152, 17), (1152, 17), (2144, 8), (2144, 8))
    ]
    assert list(sides(on_meta("inception_resnet_v2")).values()) == [
        *((192, 35), (320, 35), (320, 35), (1088, 17), (1088, 17), (2080, 8), (2080, 8), (1536, 8))
    ]


def test_the_released_inception_resnet_ends_without_activation():
    for name, last in (("inception_resnet_v2", 1.0), ("inception_resnet_v2_paper", 0.2)):
        units = on_meta(name).stages.inception_resnet_c
        assert [unit.scale for unit in units[:-1]] == [0.2] * (len(units) - 1)
        assert units[-1].scale == last
        assert isinstance(units[-1].activation, nn.ReLU) == (last != 1.0)


def test_xception_has_36_convolutional_layers_in_14_modules():
    model = on_meta("xception")
    assert len(model.stages) + 1 == 14
    assert sum(isinstance(module, SeparableConv2d) for module in model.modules()) + 2 == 36
    residual = [isinstance(stage, XceptionModule) for stage in model.stages]
    assert residual == [True] * 12 + [False]
    assert find_entry("xception").paper.startswith("Chollet 2016")
    assert find_entry("xception").paper_params == count_parameters(model)
    assert {name: sides(model)[name] for name in ("stem", "block2", "block3", "block4", "block13", "block14")} == {
        "stem": (64, 147),
        "block2": (128, 74),
        "block3": (256, 37),
        "block4": (728, 19),
        "block13": (1024, 10),
        "block14": (2048, 10),
    }


def test_separable_convolutions_have_nothing_between_their_halves():
    model = on_meta("xception")
    for module in model.modules():
        if isinstance(module, SeparableConv2d):
            assert [type(part) for part in module.children()] == [nn.Conv2d, nn.Conv2d]
            maps, wide = module.depthwise.in_channels, module.pointwise.out_channels
            assert module.depthwise.groups == maps
            assert count_parameters(module) == 9 * maps + maps * wide


def test_border_of_average_pooling():
    ones = torch.ones(1, 4, 5, 5)
    for counts, corner in ((False, 1.0), (True, 4 / 9)):
        row = Row(4, "average 3x3", ConvUnit, pool_counts_padding=counts)
        assert row(ones)[0, 0, 0, 0].item() == pytest.approx(corner)
        assert row(ones)[0, 0, 2, 2].item() == 1


def test_the_table_of_a_module_names_its_convolutions():
    assert unit_paths(INCEPTION_C)[-4:] == [
        *("branch2.c_1x3", "branch2.d_fork.branch0.a_1x3", "branch2.d_fork.branch1.a_3x1", "branch3.b_1x1")
    ]
    fork = ("1x1 8", ("1x1 4", "1x3 8"), ("average 3x3", "1x1 8"))
    assert numbered_paths(fork) == ["branch0", "branch1.0", "branch1.1", "branch2.1"]
    module = Branches(16, fork, ConvUnit)
    for path in unit_paths(fork):
        assert isinstance(module.get_submodule(path), ConvUnit)
    assert module.channels == 24
    assert module.branch1.b_1x3.conv.padding == (0, 1)


@pytest.mark.parametrize("step", ["3x3", "max 3x3 64", "3 x 3 64", "3x3/2v 64"])
def test_a_step_that_nobody_can_read_is_an_error(step):
    with pytest.raises(ModelError, match="not a step of a branch"):
        Row(3, step, ConvUnit)
