"""GoogLeNet and its batch-normalised successor."""

from __future__ import annotations

from striate.models.registry.inputs import IMAGENET_VAL, INCEPTION, PHOTO, sized
from striate.spec import ModelEntry, PublishedScore

SZEGEDY_2014 = "Szegedy et al. 2014, arXiv:1409.4842"
IOFFE_2015 = "Ioffe & Szegedy 2015, arXiv:1502.03167"

GOOGLENET = "striate.models.googlenet:GoogLeNet"
BN_INCEPTION = "striate.models.bn_inception:BNInception"


def _table_3(top5: float, protocol: str) -> PublishedScore:
    return PublishedScore(dataset=IMAGENET_VAL, top5_error=top5, protocol=protocol, source="table 3")


BN_SCORES = (  # of the paper's own network; which reading of figure 5 it was, the paper does not tell
    PublishedScore(dataset=IMAGENET_VAL, top1_error=25.2, top5_error=7.82, protocol="1 crop", source="fig. 4"),
    PublishedScore(dataset=IMAGENET_VAL, top1_error=21.99, top5_error=5.82, protocol="144 crops", source="fig. 4"),
    PublishedScore(
        dataset=IMAGENET_VAL, top1_error=20.1, top5_error=4.9, protocol="144 crops, 6 networks", source="fig. 4"
    ),
)

TABLE: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="googlenet",
        family="googlenet",
        build=GOOGLENET,
        config={},
        input=PHOTO,
        classes=1000,
        paper=SZEGEDY_2014,
        year=2014,
        title="GoogLeNet as published",
        params=6_998_552,
        macs=1_582_671_872,
        min_size=31,
        aliases=("inception_v1",),
        paper_params=6_960_000,  # 6797.7K in the sum of table 1, whose K is 1024
        paper_macs=1_502_000_000,
        published=(
            _table_3(10.07, "1 crop"),
            _table_3(9.15, "10 crops"),
            _table_3(7.89, "144 crops"),
            _table_3(8.09, "1 crop, 7 networks"),
            _table_3(7.62, "10 crops, 7 networks"),
            _table_3(6.67, "144 crops, 7 networks"),
            PublishedScore(
                dataset=IMAGENET_VAL,
                top1_error=31.3,
                top5_error=11.1,
                protocol="1 crop",
                source="BVLC Caffe bvlc_googlenet",
            ),
        ),
        differs="the paper's figures are the sums of table 1: its first row (2.7K, 34M) is that of a depthwise 7x7, "
        "eight filters a channel, and a 1x1, where a 7x7 convolution has 9,408 weights and 118,013,952 operations, and "
        "from 3b on it prints other parameters than its own filters have (4c: 463K for 497.5K), in 5a other "
        "operations; the input is normalised as is usual today, the paper only subtracts its mean",
    ),
    ModelEntry(
        name="googlenet_torchvision",
        family="googlenet",
        build=GOOGLENET,
        config={
            "normalization": "batch",
            "wide_kernel": 3,
            "last_pool": 2,
            "auxiliary_pool": "adaptive",
            "dropout": 0.2,
        },
        input=sized(INCEPTION, 224),
        classes=1000,
        paper=f"torchvision, after {SZEGEDY_2014}",
        year=2014,
        title="GoogLeNet as torchvision has it",
        params=6_624_904,
        macs=1_498_376_192,
        min_size=15,
        published=(
            PublishedScore(
                dataset=IMAGENET_VAL,
                top1_error=30.222,
                top5_error=10.47,
                protocol="1 crop",
                source="torchvision IMAGENET1K_V1",
            ),
        ),
        reference="torchvision:googlenet",
        differs="from the paper: batch normalisation and no local response, 3x3 in the 5x5 branch, 2x2 in the last max "
        "pooling, dropout 0.2, adaptive pooling before the auxiliary classifiers",
    ),
    ModelEntry(
        name="bn_inception",
        family="bn_inception",
        build=BN_INCEPTION,
        config={},
        input=sized(INCEPTION, 224),
        classes=1000,
        paper=IOFFE_2015,
        year=2015,
        title="BN-Inception, TensorFlow's Inception V2",
        params=11_188_288,
        macs=1_934_857_216,
        paper_params=13_600_000,
        published=(
            *BN_SCORES,
            PublishedScore(
                dataset=IMAGENET_VAL, top1_error=26.1, top5_error=8.2, protocol="1 crop", source="TF-Slim inception_v2"
            ),
        ),
        differs="the paper says 13.6 million parameters, and also 25 % more than without normalisation; no reading of "
        "its figure 5 has either. TF-Slim trains no scale in its normalisation, 11,178,336",
    ),
    ModelEntry(
        name="bn_inception_fig5",
        family="bn_inception",
        build=BN_INCEPTION,
        config={"pool_4cd": 128, "stem": "dense"},
        input=sized(INCEPTION, 224),
        classes=1000,
        paper=f"{IOFFE_2015}, figure 5",
        year=2015,
        title="BN-Inception with the filters that figure 5 prints",
        params=11_285_224,
        macs=2_032_600_064,
        paper_params=13_600_000,
        published=BN_SCORES,
        differs="figure 5's filters of 4c and 4d add up to 608 maps, and 4e's to 1056, where it says 576 and 1024; its "
        "first convolution is taken as drawn, not separable as the appendix says",
    ),
)
