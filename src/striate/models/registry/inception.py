"""The later Inception networks and Xception."""

from __future__ import annotations

from striate.models.registry.inputs import IMAGENET_VAL, INCEPTION
from striate.spec import ModelEntry, PublishedScore

RETHINKING = "Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2015, arXiv:1512.00567"
SZEGEDY_2016 = "Szegedy, Ioffe, Vanhoucke & Alemi 2016, arXiv:1602.07261"
CHOLLET_2016 = "Chollet 2016, arXiv:1610.02357"

INCEPTION_V3 = "striate.models.inception_v3:InceptionV3"
INCEPTION_V4 = "striate.models.inception_v4:InceptionV4"
INCEPTION_RESNET = "striate.models.inception_resnet:InceptionResNet"
XCEPTION = "striate.models.xception:Xception"

SMALLEST = 75


def _score(top1: float, top5: float | None, protocol: str, source: str) -> PublishedScore:
    return PublishedScore(dataset=IMAGENET_VAL, top1_error=top1, top5_error=top5, protocol=protocol, source=source)


def _crops(
    one: tuple[float, float], twelve: tuple[float, float], many: tuple[float, float]
) -> tuple[PublishedScore, ...]:
    """Of arXiv:1602.07261, on the 48,238 images of the validation set that its authors did not leave out."""
    return (
        _score(*one, "1 crop", "table 2"),
        _score(*twelve, "12 crops", "table 3"),
        _score(*many, "144 crops", "table 4"),
    )


TABLE: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="inception_v2_rethinking",
        family="inception_v3",
        build=INCEPTION_V3,
        config={"plan": "v2"},
        input=INCEPTION,
        classes=1000,
        paper=f"{RETHINKING}, table 1",
        year=2015,
        title='Inception-v2 of "Rethinking the Inception architecture"',
        params=25_493_448,
        macs=6_271_148_640,
        min_size=SMALLEST,
        published=(
            _score(21.6, 5.8, "1 crop", "table 3, with RMSProp, label smoothing and factorised 7x7"),
            _score(23.4, None, "1 crop", "table 3, first row of Inception-v2"),
        ),
        differs="table 1 gives no widths inside the modules: those of the released v3, its middle 17x17 module once "
        "more, and figure 10 for the reductions, which makes the 42 layers of the text; the paper says about 2.5 times "
        "GoogLeNet's cost, this is 4 times",
    ),
    ModelEntry(
        name="inception_v3",
        family="inception_v3",
        build=INCEPTION_V3,
        config={},
        input=INCEPTION,
        classes=1000,
        paper=RETHINKING,
        year=2015,
        title="Inception v3",
        params=23_834_568,
        macs=5_713_216_096,
        min_size=SMALLEST,
        paper_macs=5e9,
        published=(
            _score(21.2, 5.6, "1 crop", "table 3, with BN-auxiliary"),
            _score(19.47, 4.48, "12 crops", "table 4"),
            _score(18.77, 4.2, "144 crops", "table 4"),
            _score(22.706, 6.55, "1 crop", "torchvision IMAGENET1K_V1"),
            _score(22.0, 6.1, "1 crop", "TF-Slim"),
        ),
        reference="torchvision:inception_v3, timm:inception_v3",
        differs="the paper says 5 billion multiply-adds (4.8 in table 3) and under 25 million parameters; the network "
        "that its authors released, counted here, has 5.71 billion. torchvision and timm count padding in average "
        "pooling (option pool_counts_padding)",
    ),
    ModelEntry(
        name="inception_v4",
        family="inception_v4",
        build=INCEPTION_V4,
        config={},
        input=INCEPTION,
        classes=1000,
        paper=SZEGEDY_2016,
        year=2016,
        title="Inception v4",
        params=42_679_816,
        macs=12_253_974_624,
        min_size=SMALLEST,
        published=_crops((20.0, 5.0), (18.7, 4.2), (17.7, 3.8)),
        reference="timm:inception_v4",
    ),
    ModelEntry(
        name="inception_resnet_v1",
        family="inception_resnet",
        build=INCEPTION_RESNET,
        config={"plan": "v1"},
        input=INCEPTION,
        classes=1000,
        paper=SZEGEDY_2016,
        year=2016,
        title="Inception-ResNet-v1",
        params=22_756_328,
        macs=6_206_361_696,
        min_size=SMALLEST,
        published=_crops((21.3, 5.5), (19.8, 4.6), (18.8, 4.3)),
    ),
    ModelEntry(
        name="inception_resnet_v2",
        family="inception_resnet",
        build=INCEPTION_RESNET,
        config={"plan": "v2_released"},
        input=INCEPTION,
        classes=1000,
        paper=SZEGEDY_2016,
        year=2016,
        title="Inception-ResNet-v2 as its authors released it",
        params=55_843_464,
        macs=13_155_794_016,
        min_size=SMALLEST,
        published=_crops((19.9, 4.9), (18.7, 4.1), (17.8, 3.7)),
        reference="timm:inception_resnet_v2",
        differs="from the paper's figures: v3's stem and an Inception module in place of the stem of v4, 10, 20 and 10 "
        "units in place of 5, 10 and 5, no ReLU after the last, a 1x1 convolution to 1536 maps at the end; "
        "inception_resnet_v2_paper is the network as drawn",
    ),
    ModelEntry(
        name="inception_resnet_v2_paper",
        family="inception_resnet",
        build=INCEPTION_RESNET,
        config={"plan": "v2"},
        input=INCEPTION,
        classes=1000,
        paper=SZEGEDY_2016,
        year=2016,
        title="Inception-ResNet-v2 as the paper draws it",
        params=32_433_928,
        macs=9_257_953_632,
        min_size=SMALLEST,
        differs="figures 17 and 19 print 1154 and 2048 maps, which do not add up with the other figures: 1152 and 2144 "
        "here; the paper's scores are listed with inception_resnet_v2",
    ),
    ModelEntry(
        name="xception",
        family="xception",
        build=XCEPTION,
        config={},
        input=INCEPTION,
        classes=1000,
        paper=CHOLLET_2016,
        year=2016,
        title="Xception",
        params=22_855_952,
        macs=8_357_403_496,
        min_size=7,
        paper_params=22_855_952,
        published=(
            _score(21.0, 5.5, "1 crop", "table 1"),
            _score(21.108, 5.708, "1 crop", "timm legacy_xception"),
        ),
        reference="timm:legacy_xception",
    ),
)
