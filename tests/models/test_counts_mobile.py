"""SqueezeNet's and MobileNet's parameters and operations: the figures of their papers, and their shares."""

import pytest
import torch
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.models import ConvNet, create_model, find_entry
from striate.models.squeezenet import Fire

SQUEEZENETS = {
    "squeezenet1_0": (1_248_424, 832_667_936),
    "squeezenet1_1": (1_235_496, 387_747_520),
    "squeezenet_simple_bypass": (1_248_424, 832_667_936),
    "squeezenet_complex_bypass": (1_589_672, 1_183_953_184),
}
PARAMETERS = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}
MACS = {
    (1.0, 224): 568_740_352,
    (1.0, 192): 418_121_728,
    (1.0, 160): 290_675_200,
    (1.0, 128): 186_400_768,
    (0.75, 224): 325_400_448,
    (0.75, 192): 239_273_472,
    (0.75, 160): 166_396_800,
    (0.75, 128): 106_770_432,
    (0.5, 224): 149_497_088,
    (0.5, 192): 109_970_432,
    (0.5, 160): 76_524_800,
    (0.5, 128): 49_160_192,
    (0.25, 224): 41_030_272,
    (0.25, 192): 30_212_608,
    (0.25, 160): 21_059_200,
    (0.25, 128): 13_570_048,
}


def built(name: str, **changes) -> ConvNet:
    return create_model(name, start=False, **changes)


@pytest.mark.parametrize("name", SQUEEZENETS)
def test_squeezenet(name):
    model = built(name)
    assert (count_parameters(model), count_macs(model)) == SQUEEZENETS[name]


@pytest.mark.parametrize(("alpha", "side"), MACS)
def test_mobilenet(alpha, side):
    model = built(f"mobilenet_v1_{alpha}_{side}")
    assert model.architecture.input_size == (side, side)
    assert (count_parameters(model), count_macs(model)) == (PARAMETERS[alpha], MACS[alpha, side])


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("squeezenet", "squeezenet1_0"),
        ("mobilenet_v1", "mobilenet_v1_1.0_224"),
        ("mobilenetv1_100", "mobilenet_v1_1.0_224"),
        ("mobilenet_v1_0.5", "mobilenet_v1_0.5_224"),
    ],
)
def test_aliases(alias, name):
    assert find_entry(alias).name == name


@pytest.mark.parametrize(
    ("name", "size", "macs"),
    [("squeezenet1_0", 224, 818_924_576), ("squeezenet1_1", 224, 349_151_936)],
)
def test_squeezenet_at_224_pixels(name, size, macs):
    assert count_macs(built(name, input_size=size)) == macs


def test_the_readmes_operations_come_from_a_padded_conv10():
    macs = count_macs(built("squeezenet1_0", conv10_padding=1))
    assert macs == 832_667_936 + 28_672_000 == 861_339_936
    assert round(2 * macs / 1e9, 2) == 1.72


# Table 1 of SqueezeNet: parameters of each module, output [maps, side, side].
TABLE_1 = {
    "conv1": (14_208, (96, 111, 111)),
    "maxpool1": (0, (96, 55, 55)),
    "fire2": (11_920, (128, 55, 55)),
    "fire3": (12_432, (128, 55, 55)),
    "fire4": (45_344, (256, 55, 55)),
    "maxpool4": (0, (256, 27, 27)),
    "fire5": (49_440, (256, 27, 27)),
    "fire6": (104_880, (384, 27, 27)),
    "fire7": (111_024, (384, 27, 27)),
    "fire8": (188_992, (512, 27, 27)),
    "maxpool8": (0, (512, 13, 13)),
    "fire9": (197_184, (512, 13, 13)),
    "conv10": (513_000, (1000, 13, 13)),
}


def test_squeezenet_reads_like_its_table():
    with torch.device("meta"):
        model = built("squeezenet1_0").eval()
        maps = torch.empty(1, 3, 227, 227)
    found = {}
    for name, layer in (*model.stem.named_children(), *model.stages.named_children()):
        maps = layer(maps)
        found[name] = (count_parameters(layer), tuple(maps.shape[1:]))
    conv10 = model.head.get_submodule("conv10")
    found["conv10"] = (count_parameters(conv10), tuple(conv10(maps).shape[1:]))
    assert found == TABLE_1
    assert list(found) == list(TABLE_1)
    assert sum(parameters for parameters, _ in TABLE_1.values()) == 1_248_424


def test_bypass_goes_round_the_modules_that_keep_the_number_of_maps_or_round_all():
    def bypasses(name: str) -> dict[str, type]:
        modules = built(name).stages.named_children()
        return {key: type(fire.bypass) for key, fire in modules if isinstance(fire, Fire) and fire.bypass is not None}

    identity = dict.fromkeys(("fire3", "fire5", "fire7", "fire9"), nn.Identity)
    projection = dict.fromkeys(("fire2", "fire4", "fire6", "fire8"), nn.Conv2d)
    assert bypasses("squeezenet1_0") == {}
    assert bypasses("squeezenet_simple_bypass") == identity
    assert bypasses("squeezenet_complex_bypass") == identity | projection


def test_a_bypassed_module_that_gives_nothing_is_the_identity():
    fire = Fire(16, 4, 8, bypass="simple")
    for parameter in fire.parameters():
        nn.init.zeros_(parameter)
    maps = torch.randn(2, 16, 5, 5)
    assert torch.equal(fire(maps), maps)


def test_the_networks_that_mobilenet_is_compared_with():
    """Tables 4 and 5; the paper's 4866 million leave out the linear layer."""
    full = built("mobilenet_v1_conv")
    assert (count_parameters(full), count_macs(full)) == (29_294_088, 4_867_293_184)
    linear = full.head.get_submodule("linear")
    assert count_macs(full) - linear.weight.numel() == 4_866_269_184
    assert linear.weight.numel() == 1_024_000
    shallow = built("mobilenet_v1_shallow")
    assert (count_parameters(shallow), count_macs(shallow)) == (2_887_976, 307_323_392)
    names = [name for name, _ in shallow.stages.named_children()]
    assert names == ["block1", "block2", "block3", "block4", "block5", "block6", "block12", "block13"]


def test_cost_of_a_separable_convolution():
    """M033: 1/C_out + 1/K² of a full one; block 7 is 14x14x512 to 512 maps."""
    with torch.device("meta"):
        separable = built("mobilenet_v1").stages.get_submodule("block7")
        full = built("mobilenet_v1_conv").stages.get_submodule("block7")
    assert count_macs(separable, 512, 14) == 52_283_392
    assert count_macs(full, 512, 14) == 462_422_016
    ratio = 52_283_392 / 462_422_016
    assert ratio == pytest.approx(1 / 512 + 1 / 9)


def test_block13_keeps_the_side_where_the_table_prints_stride_2():
    with torch.device("meta"):
        model = built("mobilenet_v1").eval()
        maps = model.stem(torch.empty(1, 3, 224, 224))
    sides = []
    for block in model.stages:
        maps = block(maps)
        sides.append(maps.shape[-1])
    assert sides == [112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7]


def test_every_layer_but_the_last_is_normalised_and_rectified():
    model = built("mobilenet_v1")
    count = {kind: sum(isinstance(module, kind) for module in model.modules()) for kind in (nn.Conv2d, nn.BatchNorm2d)}
    assert count == {nn.Conv2d: 27, nn.BatchNorm2d: 27}
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == 27


def test_alpha_must_be_positive_and_never_leaves_less_than_eight_maps():
    from striate.errors import ModelError

    with pytest.raises(ModelError, match="no alpha 0"):
        built("mobilenet_v1", alpha=0)
    assert built("mobilenet_v1", alpha=0.1).stem.get_submodule("conv").out_channels == 8
