"""Residual networks."""

from __future__ import annotations

from typing import Any

from striate.models.registry.inputs import CIFAR, CIFAR10_TEST, IMAGENET_VAL, PHOTO
from striate.spec import InputSpec, ModelEntry, PublishedScore

HE_2015 = "He, Zhang, Ren & Sun 2015, arXiv:1512.03385"
HE_2016 = "He, Zhang, Ren & Sun 2016, arXiv:1603.05027"
HUANG_2016 = "Huang, Sun, Liu, Sedra & Weinberger 2016, arXiv:1603.09382"

RESNET = "striate.models.resnet:ResNet"
CIFAR_RESNET = "striate.models.resnet_cifar:CifarResNet"
PREACT_RESNET = "striate.models.resnet_preact:PreActResNet"

# Mean and deviation of the training images, as for CIFAR.
SVHN = InputSpec(size=(32, 32), channels=3, mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970))

TEN_CROPS, MULTI_SCALE = "10 crops", "fully convolutional, mean of 5 scales"
TABLE_2, TABLE_3, TABLE_4 = "table 2", "table 3", "table 4"
AUTHORS = "github.com/KaimingHe/deep-residual-networks"

DEPTHS = {  # table 1 of 1512.03385: units in conv2_x, conv3_x, ...
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),  # 1603.05027
}


def _photos(top1: float | None, top5: float | None, protocol: str, source: str) -> PublishedScore:
    return PublishedScore(dataset=IMAGENET_VAL, top1_error=top1, top5_error=top5, protocol=protocol, source=source)


def _torchvision(version: int, top1: float, top5: float) -> PublishedScore:
    """Their accuracies as errors."""
    source = f"torchvision IMAGENET1K_V{version}"
    return _photos(round(100 - top1, 3), round(100 - top5, 3), "1 crop", source)


def _resnet(
    name: str,
    depth: int,
    title: str,
    params: int,
    macs: int,
    paper_macs: float | None,
    *published: PublishedScore,
    aliases: tuple[str, ...] = (),
    reference: str = "",
    differs: str = "",
    **config: Any,
) -> ModelEntry:
    unit = {"unit": "bottleneck"} if depth >= 50 else {}
    return ModelEntry(
        name=name,
        family="resnet",
        build=RESNET,
        config={"depths": DEPTHS[depth], **unit, **config},
        input=PHOTO,
        classes=1000,
        paper=HE_2015,
        year=2015,
        title=title,
        params=params,
        macs=macs,
        aliases=aliases,
        paper_macs=paper_macs,
        published=published,
        reference=reference,
        differs=differs,
    )


_V1_5 = "not in the paper: stride on the 3x3 convolution instead of the first 1x1, as torchvision and timm have it"
_V1 = "torchvision and timm have the stride on the 3x3 convolution (v1.5: same parameters, 231,211,008 more operations)"
_NOT_A = "torchvision and timm; tables 2 and 3 have this depth with option A (see resnet18_a)"


def _v1(depth: int, params: int, macs: int, paper_macs: float, *published: PublishedScore) -> ModelEntry:
    return _resnet(
        f"resnet{depth}",
        depth,
        f"ResNet-{depth}, stride in the first 1x1",
        params,
        macs,
        paper_macs,
        *published,
        differs=_V1,
    )


def _v1_5(depth: int, params: int, macs: int, *published: PublishedScore) -> ModelEntry:
    return _resnet(
        f"resnet{depth}_v1_5",
        depth,
        f"ResNet-{depth}, stride in the 3x3",
        params,
        macs,
        None,
        *published,
        reference=f"torchvision:resnet{depth}",
        differs=_V1_5,
        stride_on="3x3",
    )


def _cifar(
    name: str,
    depth: int,
    title: str,
    params: int,
    macs: int,
    *published: PublishedScore,
    paper: str = f"{HE_2015}, sec. 4.2",
    year: int = 2015,
    input: InputSpec = CIFAR,
    aliases: tuple[str, ...] = (),
    paper_params: float | None = None,
    **config: Any,
) -> ModelEntry:
    return ModelEntry(
        name=name,
        family="resnet_cifar",
        build=CIFAR_RESNET,
        config={"n": (depth - 2) // 6, **config},
        input=input,
        classes=10,
        paper=paper,
        year=year,
        title=title,
        params=params,
        macs=macs,
        aliases=aliases,
        paper_params=paper_params,
        published=published,
    )


def _cifar_resnet(
    depth: int, params: int, macs: int, paper_params: float, error: float, protocol: str = ""
) -> ModelEntry:
    return _cifar(
        f"cifar_resnet{depth}",
        depth,
        f"ResNet-{depth}, option A",
        params,
        macs,
        PublishedScore(dataset=CIFAR10_TEST, top1_error=error, protocol=protocol, source="table 6"),
        aliases=(f"resnet{depth}",),
        paper_params=paper_params,
    )


def _cifar_plain(depth: int, params: int, macs: int) -> ModelEntry:
    """The paper shows their errors only as curves (fig. 6, left)."""
    return _cifar(
        f"cifar_plain{depth}",
        depth,
        f"plain-{depth}: no shortcuts",
        params,
        macs,
        aliases=(f"plain{depth}",),
        shortcut="none",
    )


def _stochastic_depth(
    name: str,
    depth: int,
    params: int,
    macs: int,
    *published: PublishedScore,
    input: InputSpec = CIFAR,
) -> ModelEntry:
    return _cifar(
        f"stochdepth_resnet{name}",
        depth,
        f"ResNet-{depth} with stochastic depth",
        params,
        macs,
        *published,
        paper=HUANG_2016,
        year=2016,
        input=input,
        shortcut="A_average",
        stochastic_depth=0.5,
    )


def _preact(
    depth: int,
    params: int,
    macs: int,
    *published: PublishedScore,
    differs: str = "",
    paper_params: float | None = None,
    photos: bool = False,
    **config: Any,
) -> ModelEntry:
    return ModelEntry(
        name=f"preact_resnet{depth}",
        family="resnet_preact",
        build=PREACT_RESNET,
        config=config,
        input=PHOTO if photos else CIFAR,
        classes=1000 if photos else 10,
        paper=HE_2016,
        year=2016,
        title=f"ResNet-{depth} with pre-activation",
        params=params,
        macs=macs,
        paper_params=paper_params,
        published=published,
        differs=differs,
    )


def _cifar10(error: float, protocol: str, source: str) -> PublishedScore:
    return PublishedScore(dataset=CIFAR10_TEST, top1_error=error, protocol=protocol, source=source)


def _cifar100(error: float, protocol: str, source: str) -> PublishedScore:
    return PublishedScore(dataset="CIFAR-100 test", top1_error=error, protocol=protocol, source=source)


_MEDIAN = "median of 5 runs"
_TIMM_V2 = "timm's resnetv2_152 strides in the 3x3 convolution and pools before the first norm; tested at 320 pixels"

TABLE: tuple[ModelEntry, ...] = (
    _cifar_plain(20, 269_722, 40_551_040),
    _cifar_plain(32, 464_154, 68_862_592),
    _cifar_plain(44, 658_586, 97_174_144),
    _cifar_plain(56, 853_018, 125_485_696),
    _cifar_resnet(20, 269_722, 40_551_040, 0.27e6, 8.75),
    _cifar_resnet(32, 464_154, 68_862_592, 0.46e6, 7.51),
    _cifar_resnet(44, 658_586, 97_174_144, 0.66e6, 7.17),
    _cifar_resnet(56, 853_018, 125_485_696, 0.85e6, 6.97),
    _cifar_resnet(110, 1_727_962, 252_887_680, 1.7e6, 6.43, "best of 5 runs; mean 6.61"),
    _cifar_resnet(1202, 19_421_274, 2_829_238_912, 19.4e6, 7.93),
    _resnet(
        "plain18", 18, "plain-18: no shortcuts", 11_515_688, 1_794_805_760, 1.8e9,
        _photos(27.94, None, TEN_CROPS, TABLE_2), shortcut="none",
    ),
    _resnet(
        "plain34", 34, "plain-34: no shortcuts", 21_623_848, 3_644_493_824, 3.6e9,
        _photos(28.54, 10.02, TEN_CROPS, "tables 2 and 3"), shortcut="none",
    ),
    _resnet(
        "resnet18", 18, "ResNet-18, option B", 11_689_512, 1_814_073_344, 1.8e9,
        _torchvision(1, 69.758, 89.078), reference="torchvision:resnet18", differs=_NOT_A,
    ),
    _resnet(
        "resnet18_a", 18, "ResNet-18, option A", 11_515_688, 1_794_805_760, 1.8e9,
        _photos(27.88, None, TEN_CROPS, TABLE_2), shortcut="A",
    ),
    _resnet(
        "resnet34_a", 34, "ResNet-34, option A", 21_623_848, 3_644_493_824, 3.6e9,
        _photos(25.03, 7.76, TEN_CROPS, "tables 2 and 3"), shortcut="A",
    ),
    _resnet(
        "resnet34_b", 34, "ResNet-34, option B", 21_797_672, 3_663_761_408, 3.6e9,
        _photos(24.52, 7.46, TEN_CROPS, TABLE_3), _photos(21.84, 5.71, MULTI_SCALE, TABLE_4),
        _torchvision(1, 73.314, 91.420), aliases=("resnet34",), reference="torchvision:resnet34",
    ),
    _resnet(
        "resnet34_c", 34, "ResNet-34, option C", 22_716_840, 3_830_747_136, None,
        _photos(24.19, 7.40, TEN_CROPS, TABLE_3), _photos(21.53, 5.60, MULTI_SCALE, TABLE_4), shortcut="C",
    ),
    _v1(
        50, 25_557_032, 3_857_973_248, 3.8e9,
        _photos(22.85, 6.71, TEN_CROPS, TABLE_3), _photos(20.74, 5.25, MULTI_SCALE, TABLE_4),
        _photos(24.7, 7.8, "1 crop", AUTHORS),
    ),
    _v1(
        101, 44_549_160, 7_570_194_432, 7.6e9,
        _photos(21.75, 6.05, TEN_CROPS, TABLE_3), _photos(19.87, 4.60, MULTI_SCALE, TABLE_4),
        _photos(23.6, 7.1, "1 crop", AUTHORS),
    ),
    _v1(
        152, 60_192_808, 11_282_415_616, 11.3e9,
        _photos(21.43, 5.71, TEN_CROPS, TABLE_3), _photos(19.38, 4.49, MULTI_SCALE, TABLE_4),
        _photos(23.0, 6.7, "1 crop", AUTHORS),
        PublishedScore(
            dataset="ILSVRC 2015 test", top5_error=3.57, protocol="6 networks, 2 of this depth", source="table 5"
        ),
    ),
    _v1_5(50, 25_557_032, 4_089_184_256, _torchvision(1, 76.130, 92.862), _torchvision(2, 80.858, 95.434)),
    _v1_5(101, 44_549_160, 7_801_405_440, _torchvision(1, 77.374, 93.546), _torchvision(2, 81.886, 95.780)),
    _v1_5(152, 60_192_808, 11_513_626_624, _torchvision(1, 78.312, 94.046), _torchvision(2, 82.284, 96.002)),
    _preact(
        110, 1_727_962, 252_887_680, _cifar10(6.37, _MEDIAN, TABLE_2),
        depths=(18, 18, 18), unit="basic", shortcut="A", paper_params=1.7e6,
    ),
    _preact(
        164, 1_703_258, 244_500_992, _cifar10(5.46, _MEDIAN, TABLE_2), _cifar100(24.33, _MEDIAN, TABLE_3),
        depths=(18, 18, 18), paper_params=1.7e6,
    ),
    _preact(
        1001, 10_327_706, 1_487_849_984, _cifar10(4.92, "median of 5 runs; mean 4.89", TABLE_4),
        _cifar10(4.62, "batches of 64, median of 5 runs; mean 4.69", TABLE_4),
        _cifar100(22.71, "median of 5 runs; mean 22.68", TABLE_4),
        depths=(111, 111, 111), paper_params=10.2e6,
        differs="the paper prints 10.2 million parameters, its original units have 10,328,602",
    ),
    _preact(
        152, 60_185_128, 11_282_415_616, _photos(21.1, 5.5, "1 crop of 320 pixels", "table 5"),
        photos=True, stem="7x7", depths=DEPTHS[152], widths=(64, 128, 256, 512),
        differs=_TIMM_V2,
    ),
    _preact(
        200, 64_666_152, 14_776_270_848, _photos(20.7, 5.3, "1 crop of 320 pixels", "table 5"),
        _photos(20.1, 4.8, "1 crop of 320 pixels, trained with scale and aspect ratio", "table 5"),
        photos=True, stem="7x7", depths=DEPTHS[200], widths=(64, 128, 256, 512),
        differs="timm's resnet200 has the original units (64,673,832 parameters); tested at 320 pixels",
    ),
    _stochastic_depth(
        "110", 110, 1_727_962, 252_887_680, _cifar10(5.23, "500 epochs; 6.41 without", "table 1"),
        _cifar100(24.58, "500 epochs", "table 1"),
    ),
    _stochastic_depth(
        "152_svhn", 152, 2_408_474, 351_978_112,
        PublishedScore(dataset="SVHN test", top1_error=1.75, protocol="50 epochs", source="table 1"), input=SVHN,
    ),
    _stochastic_depth("1202", 1202, 19_421_274, 2_829_238_912, _cifar10(4.91, "", "abstract")),
    ModelEntry(
        name="stochdepth_resnet152_imagenet",
        family="resnet",
        build=RESNET,
        config={"depths": DEPTHS[152], "unit": "bottleneck", "stochastic_depth": 0.5},
        input=PHOTO,
        classes=1000,
        paper=HUANG_2016,
        year=2016,
        title="ResNet-152 with stochastic depth",
        params=60_192_808,
        macs=11_282_415_616,
        published=(_photos(21.98, None, "1 crop; 21.78 without", "table 1"),),
    ),
)  # fmt: skip
