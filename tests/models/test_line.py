"""Every architecture of the field's line by its name, with its counts and receptive field, as literal figures.

The figures were counted from the papers' tables by another implementation, so that two independent counts must agree.
None: no figure was given (the text says why).
"""

import pytest

from striate.anatomy import anatomy_of
from striate.models import create_model, entries, find_entry

# name: parameters, multiply-accumulates, receptive field of the last layer before flattening or pooling, its stride
LINE: dict[str, tuple[int | None, int | None, int | None, int | None]] = {
    "lecun1989_net1": (2_570, None, None, None),
    "lecun1989_net2": (3_214, None, None, None),
    "lecun1989_net3": (1_226, None, None, None),
    "lecun1989_net4": (1_132, None, None, None),
    "lecun1989_net5": (1_060, None, None, None),
    "lenet_1989_zip": (9_760, 63_660, 13, 4),
    "lenet1_1990": (2_578, None, 16, 4),
    "lenet5_1998": (60_000, 326_520, 32, 4),
    "lenet5_dense": (61_706, 416_520, 32, 4),
    "alexnet_2012": (60_965_224, 724_406_816, 195, 32),
    "alexnet_dense": (62_378_344, 1_135_256_096, 195, 32),
    "caffenet": (60_965_224, 724_406_816, 195, 32),
    "alexnet_owt": (61_100_840, 714_188_480, 195, 32),
    "zfnet_fig3": (62_357_608, 1_168_032_896, 171, 32),
    "zfnet_512_1024_512": (107_627_624, 2_476_704_896, 171, 32),
    "vgg_a": (132_863_336, 7_609_090_048, 150, 32),
    "vgg_a_lrn": (132_863_336, 7_609_090_048, 150, 32),
    "vgg_b": (133_047_848, 11_308_466_176, 156, 32),
    "vgg_c": (133_638_952, 11_770_888_192, 156, 32),
    "vgg_d": (138_357_544, 15_470_264_320, 212, 32),
    "vgg_e": (143_667_240, 19_632_062_464, 268, 32),
    "vgg11_bn": (132_868_840, 7_609_090_048, None, None),
    "vgg13_bn": (133_053_736, 11_308_466_176, None, None),
    "vgg16_bn": (138_365_992, 15_470_264_320, None, None),
    "vgg19_bn": (143_678_248, 19_632_062_464, None, None),
    "googlenet": (6_998_552, 1_582_671_872, 715, 32),
    "googlenet_torchvision": (6_624_904, 1_498_376_192, 379, 32),
    "bn_inception": (11_188_288, 1_934_857_216, 699, 32),
    "bn_inception_fig5": (11_285_224, 2_032_600_064, 699, 32),
    "inception_v2_rethinking": (None, None, None, None),
    "inception_v3": (23_834_568, 5_713_216_096, 1_311, 32),
    "inception_v4": (42_679_816, 12_253_974_624, 2_071, 32),
    "inception_resnet_v1": (22_756_328, 6_206_361_696, 1_567, 32),
    "inception_resnet_v2": (55_843_464, 13_155_794_016, 3_039, 32),
    "xception": (22_855_952, 8_357_403_496, 1_083, 32),
    "plain18": (11_515_688, 1_794_805_760, 435, 32),
    "resnet18_a": (11_515_688, 1_794_805_760, 435, 32),
    "resnet18": (11_689_512, 1_814_073_344, 435, 32),
    "plain34": (21_623_848, 3_644_493_824, 899, 32),
    "resnet34_a": (21_623_848, 3_644_493_824, 899, 32),
    "resnet34_b": (21_797_672, 3_663_761_408, 899, 32),
    "resnet34_c": (22_716_840, 3_830_747_136, 899, 32),
    "resnet50": (25_557_032, 3_857_973_248, 483, 32),
    "resnet50_v1_5": (25_557_032, 4_089_184_256, 427, 32),
    "resnet101": (44_549_160, 7_570_194_432, 1_027, 32),
    "resnet101_v1_5": (44_549_160, 7_801_405_440, 971, 32),
    "resnet152": (60_192_808, 11_282_415_616, 1_507, 32),
    "resnet152_v1_5": (60_192_808, 11_513_626_624, 1_451, 32),
    "cifar_resnet20": (269_722, 40_551_040, 81, 4),
    "cifar_resnet32": (464_154, 68_862_592, 137, 4),
    "cifar_resnet44": (658_586, 97_174_144, 193, 4),
    "cifar_resnet56": (853_018, 125_485_696, 249, 4),
    "cifar_resnet110": (1_727_962, 252_887_680, 501, 4),
    "cifar_resnet1202": (19_421_274, 2_829_238_912, 5_597, 4),
    "preact_resnet110": (1_727_962, 252_887_680, 501, 4),
    "preact_resnet164": (1_703_258, 244_500_992, 255, 4),
    "preact_resnet1001": (10_327_706, 1_487_849_984, 1_557, 4),
    "preact_resnet152": (60_185_128, 11_282_415_616, 1_507, 32),
    "preact_resnet200": (64_666_152, 14_776_270_848, 1_763, 32),
    "stochdepth_resnet110": (1_727_962, 252_887_680, 501, 4),
    "stochdepth_resnet152_svhn": (2_408_474, 351_978_112, None, None),
    "stochdepth_resnet1202": (19_421_274, 2_829_238_912, 5_597, 4),
    "stochdepth_resnet152_imagenet": (60_192_808, 11_282_415_616, None, None),
    "mobilenet_v1_1.0_224": (4_231_976, 568_740_352, 315, 32),
    "mobilenet_v1_1.0_192": (4_231_976, 418_121_728, 315, 32),
    "mobilenet_v1_1.0_160": (4_231_976, 290_675_200, 315, 32),
    "mobilenet_v1_1.0_128": (4_231_976, 186_400_768, 315, 32),
    "mobilenet_v1_0.75_224": (2_585_560, 325_400_448, 315, 32),
    "mobilenet_v1_0.75_192": (2_585_560, 239_273_472, 315, 32),
    "mobilenet_v1_0.75_160": (2_585_560, 166_396_800, 315, 32),
    "mobilenet_v1_0.75_128": (2_585_560, 106_770_432, 315, 32),
    "mobilenet_v1_0.5_224": (1_331_592, 149_497_088, 315, 32),
    "mobilenet_v1_0.5_192": (1_331_592, 109_970_432, 315, 32),
    "mobilenet_v1_0.5_160": (1_331_592, 76_524_800, 315, 32),
    "mobilenet_v1_0.5_128": (1_331_592, 49_160_192, 315, 32),
    "mobilenet_v1_0.25_224": (470_072, 41_030_272, 315, 32),
    "mobilenet_v1_0.25_192": (470_072, 30_212_608, 315, 32),
    "mobilenet_v1_0.25_160": (470_072, 21_059_200, 315, 32),
    "mobilenet_v1_0.25_128": (470_072, 13_570_048, 315, 32),
    "mobilenet_v1_conv": (29_294_088, 4_867_293_184, 315, 32),
    "mobilenet_v1_shallow": (2_887_976, 307_323_392, None, None),
    "squeezenet1_0": (1_248_424, 832_667_936, 155, 16),
    "squeezenet1_1": (1_235_496, 387_747_520, 207, 16),
    "squeezenet_simple_bypass": (1_248_424, 832_667_936, 155, 16),
    "squeezenet_complex_bypass": (1_589_672, 1_183_953_184, 155, 16),
    "nin_cifar": (966_986, 222_486_528, 27, 4),
    "nin_imagenet": (7_595_176, 1_105_996_320, 195, 32),
}
ALIASES = {
    "lenet5": "lenet5_dense",
    "alexnet": "alexnet_owt",
    "vgg11": "vgg_a",
    "vgg13": "vgg_b",
    "vgg16": "vgg_d",
    "vgg19": "vgg_e",
    "resnet34": "resnet34_b",
    "resnet20": "cifar_resnet20",
    "resnet110": "cifar_resnet110",
}


@pytest.mark.parametrize("name", LINE)
def test_registered_counts_and_receptive_field(name):
    entry = find_entry(name)
    params, macs, size, stride = LINE[name]
    assert entry.name == name
    assert entry.paper
    if params is not None:
        assert entry.params == params
    if macs is not None:
        assert entry.macs == macs
    if size is not None:
        found = anatomy_of(create_model(name, start=False), training=False)
        assert (found.receptive_field, found.stride) == (size, stride)


def test_aliases():
    for alias, name in ALIASES.items():
        assert find_entry(alias).name == name


def test_whatever_is_registered_besides_says_what_it_is():
    for entry in entries():
        if entry.name not in LINE:
            assert entry.family == "compact" or entry.title, entry.name
