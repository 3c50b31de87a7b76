"""GoogLeNet, BN-Inception and the Inception modules on their own: parameters and multiply-accumulates, exactly."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.errors import ModelError, UnknownNameError
from striate.layers.residual import BasicBlock
from striate.models import ConvNet, create_model
from striate.models.blocks import BLOCKS, make_block
from striate.models.googlenet import Inception


def on_meta(name: str, **changes) -> ConvNet:
    with torch.device("meta"):
        return create_model(name, start=False, **changes)


def weights(model: nn.Module) -> int:
    """Those of convolutions and linear layers, without biases."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize(
    ("name", "changes", "parameters", "macs"),
    [
        ("googlenet", {}, 6_998_552, 1_582_671_872),
        ("googlenet_torchvision", {}, 6_624_904, 1_498_376_192),
        ("googlenet_torchvision", {"wide_kernel": 5}, 7_005_832, 1_582_671_872),
        ("bn_inception", {}, 11_188_288, 1_934_857_216),
        ("bn_inception", {"stem": "dense"}, 11_194_984, 2_018_851_840),
        ("bn_inception", {"stem": "dense", "bias": True}, 11_204_936, 2_018_851_840),
        ("bn_inception_fig5", {}, 11_285_224, 2_032_600_064),
        ("bn_inception_fig5", {"bias": True}, 11_295_240, 2_032_600_064),  # the Caffe version
    ],
)
def test_totals(name, changes, parameters, macs):
    model = on_meta(name, **changes)
    assert (count_parameters(model), count_macs(model)) == (parameters, macs)
    assert count_macs(model.head, 1024, 7) == 1_024_000  # the rest are convolutions


@pytest.mark.parametrize(
    ("name", "changes", "everything"),
    [
        ("googlenet", {}, 13_378_280),
        ("googlenet", {"auxiliary": False}, 6_998_552),
        ("googlenet_torchvision", {}, 13_004_888),
        ("googlenet_torchvision", {"wide_kernel": 5}, 13_385_816),
    ],
)
def test_with_auxiliary_classifiers(name, changes, everything):
    assert sum(parameter.numel() for parameter in on_meta(name, **changes).parameters()) == everything


def test_weights_without_biases():
    assert weights(on_meta("googlenet", auxiliary=False)) == 6_990_272
    assert weights(on_meta("bn_inception_fig5")) == 11_264_192


def test_the_auxiliary_classifiers_layer_by_layer():
    model = on_meta("googlenet")
    found = {
        stage: [sum(p.numel() for p in part.parameters()) for part in (head.conv, head.fc, head.classifier)]
        for stage, head in model.auxiliary.items()
    }
    assert found == {
        "inception_4a": [65_664, 2_098_176, 1_025_000],
        "inception_4d": [67_712, 2_098_176, 1_025_000],
    }


def test_layers():
    """E18: 57 convolutions and one linear layer, 64 layers with the auxiliary classifiers, 22 on the longest path.

    E25: that there are no fully connected layers is wrong, and they hold 54.4 % of the parameters that are trained.
    """
    model = on_meta("googlenet")
    main = [module for name, module in layers(model) if not name.startswith("auxiliary.")]
    assert sum(isinstance(module, nn.Conv2d) for module in main) == 57
    assert sum(isinstance(module, nn.Linear) for module in main) == 1
    assert len(layers(model)) == 64
    modules = [stage for stage in model.stages if isinstance(stage, Inception)]
    longest = [max(len(layers(branch)) for branch in module.children()) for module in modules]
    assert longest == [2] * 9
    assert len(layers(model.stem)) + sum(longest) + len(layers(model.head)) == 22
    dense = sum(
        parameter.numel()
        for _, module in layers(model)
        if isinstance(module, nn.Linear)
        for parameter in module.parameters()
    )
    assert dense == 7_271_352  # E17
    assert round(100 * dense / 13_378_280, 1) == 54.4
    assert round(100 * 1_025_000 / 6_998_552, 1) == 14.6


def test_smaller_than_alexnet():
    """E16: 8.7 times fewer parameters than AlexNet's 60,965,224, not twelve."""
    assert round(60_965_224 / count_parameters(on_meta("googlenet")), 1) == 8.7


@pytest.mark.parametrize("name", ["googlenet", "googlenet_torchvision"])
def test_output_values(name):
    model = on_meta(name, auxiliary=False).eval()
    values: list[int] = []
    for _, module in layers(model):
        module.register_forward_hook(lambda _m, _i, output: values.append(output[0].numel()))
    model(torch.empty(1, 3, 224, 224, device="meta"))
    assert sum(values) == 3_227_160


# The paper's table 1: parameters in K (1024 weights) and operations in M as printed, and our weights in K.
TABLE_1 = {
    "conv2": (112, 360, 112.0),
    "inception_3a": (159, 128, 159.5),
    "inception_3b": (380, 304, 379.0),
    "inception_4a": (364, 73, 366.75),
    "inception_4b": (437, 88, 438.0),
    "inception_4c": (463, 100, 497.5),
    "inception_4d": (580, 119, 590.5),
    "inception_4e": (840, 170, 847.0),
    "inception_5a": (1072, 54, 1018.0),
    "inception_5b": (1388, 71, 1409.0),
    "linear": (1000, 1, 1000.0),
}


def test_table_1():
    """Operations agree with the filters but for 5a, parameters only up to 3a and in the linear layer."""
    model = on_meta("googlenet")
    side = {"3": 28, "4": 14, "5": 7}
    for row, (_, millions, thousands) in TABLE_1.items():
        match row:
            case "conv2":
                stem = nn.Sequential(model.stem.reduce2, model.stem.conv2)
                found, macs = weights(stem), count_macs(stem, 64, 56)
            case "linear":
                found, macs = weights(model.head), count_macs(model.head, 1024, 7)
            case _:
                stage = model.stages.get_submodule(row)
                channels = next(module for _, module in layers(stage)).in_channels
                found, macs = weights(stage), count_macs(stage, channels, side[row[10]])
        assert found == 1024 * thousands, row
        assert (abs(macs / 1e6 - millions) < 1) == (row != "inception_5a"), row
    exact = [row for row, (printed, _, thousands) in TABLE_1.items() if printed == int(thousands)]
    assert exact == ["conv2", "inception_3a", "linear"]
    # Its first row is that of a separable convolution, which BN-Inception has.
    assert weights(model.stem.conv1) == 9_408
    assert count_macs(model.stem.conv1, 3, 224) == 118_013_952
    separable = on_meta("bn_inception").stem.conv1
    assert weights(separable) == 2_712
    assert count_macs(separable, 3, 224) == 34_019_328
    assert 2.7 + sum(row[0] for row in TABLE_1.values()) == pytest.approx(6797.7)
    assert 34 + sum(row[1] for row in TABLE_1.values()) == 1502


def test_maps_of_bn_inception():
    """Figure 5's column of output sizes is kept by `bn_inception`; its filters by `bn_inception_fig5`."""
    images = torch.empty(1, 3, 224, 224, device="meta")
    expected = {
        "bn_inception": [256, 320, 576, 576, 576, 576, 576, 1024, 1024, 1024],
        "bn_inception_fig5": [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024],
    }
    for name, channels in expected.items():
        model = on_meta(name).eval()
        maps, found = model.stem(images), []
        for stage in model.stages:
            maps = stage(maps)
            found.append(tuple(maps.shape[1:]))
        sides = [28] * 2 + [14] * 5 + [7] * 3
        assert found == [(count, side, side) for count, side in zip(channels, sides, strict=True)]


def branch_macs(name: str) -> list[int]:
    block = make_block(name)
    return [count_macs(branch, 256, 28) for branch in block.children()]


def test_the_naive_module():
    """M115, W5, E21: 672 maps, 854,196,224 multiply-accumulates, and depth that can only grow."""
    block = make_block("inception_naive")
    assert block(torch.zeros(1, 256, 28, 28)).shape == (1, 672, 28, 28)
    assert branch_macs("inception_naive") == [25_690_112, 346_816_512, 481_689_600, 0]
    assert count_macs(block, 256, 28) == 854_196_224
    assert weights(block) == 1_089_536
    for channels in (1, 480, 1000):
        assert make_block("inception_naive", channels).channels > channels


def test_the_reduced_module():
    """M116, W6, E19, E20: 480 maps; 68.2 % saved. The 358 M of lectures count the 3x3 of one branch twice."""
    block = make_block("inception_reduced")
    assert isinstance(block, Inception)  # what GoogLeNet is made of
    assert type(create_model("googlenet", start=False).stages.inception_3a) is type(block)
    assert block(torch.zeros(1, 256, 28, 28)).shape == (1, 480, 28, 28)
    reduction, c3x3, c5x5 = 12_845_056, 86_704_128, 120_422_400
    assert branch_macs("inception_reduced") == [25_690_112, reduction + c3x3, reduction + c5x5, reduction]
    assert count_macs(block, 256, 28) == 271_351_808
    assert weights(block) == 346_112
    assert round(100 * (1 - 271_351_808 / 854_196_224), 1) == 68.2
    assert 271_351_808 + c3x3 == 358_055_936


def test_two_3x3_for_a_5x5():
    """25/9 = 2.78 for one, 18/25 = 0.72 for two with the same maps throughout."""
    one, wide = (nn.Conv2d(32, 32, kernel, padding=kernel // 2, bias=False) for kernel in (3, 5))
    assert round(weights(wide) / weights(one), 2) == 2.78
    assert weights(nn.Sequential(one, one.__class__(32, 32, 3, bias=False))) / weights(wide) == 0.72


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_runs_with_its_own_input_and_another(name):
    entry = BLOCKS[name]
    assert entry.name == name
    assert entry.title
    assert entry.source
    channels, height, width = entry.input
    with torch.device("meta"):
        assert make_block(name)(torch.empty(2, channels, height, width)).shape[2:] == (height, width)
        assert make_block(name, 12)(torch.empty(2, 12, 9, 7)).shape[2:] == (9, 7)


def test_blocks_by_wrong_names():
    assert isinstance(make_block("residual_basic"), BasicBlock)
    with pytest.raises(UnknownNameError) as caught:
        make_block("inception_reduce")
    assert "inception_reduced" in caught.value.nearest
    with pytest.raises(ModelError, match="at least 1"):
        make_block("inception_naive", 0)


def test_listing_blocks_needs_no_torch():
    code = "import sys; from striate.models.blocks import BLOCKS; assert BLOCKS and 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
