"""AlexNet, ZFNet and Network in Network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from striate.models.registry.inputs import CAFFE_227, CIFAR, CIFAR10_TEST, IMAGENET_VAL, PHOTO
from striate.spec import InputSpec, ModelEntry, PublishedScore

KRIZHEVSKY_2012 = "Krizhevsky, Sutskever & Hinton 2012, NIPS 25"
KRIZHEVSKY_2014 = "Krizhevsky 2014, arXiv:1404.5997"
ZEILER_2013 = "Zeiler & Fergus 2013, arXiv:1311.2901"
LIN_2013 = "Lin, Chen & Yan 2013, arXiv:1312.4400"

ALEXNET = "striate.models.alexnet:AlexNet"
ZFNET = "striate.models.zfnet:ZFNet"
NIN = "striate.models.nin:NiN"

# AlexNet and ZFNet: short side 256, values of 0 to 255 less the mean; theirs is that of each pixel, ours of a channel.
CENTRED = replace(PHOTO, std=(1 / 255,))
CENTRED_227 = replace(CENTRED, size=(227, 227), crop_fraction=227 / 256)

CAFFE_READING = {"lrn_k": 1.0, "lrn_alpha": 1e-4 / 5, "ceil": True}


def _alexnet(name: str, config: dict[str, Any], spec: InputSpec, params: int, macs: int, **rest: Any) -> ModelEntry:
    common = {"paper": KRIZHEVSKY_2012, "year": 2012, "min_size": 67} | rest
    return ModelEntry(
        name=name,
        family="alexnet",
        build=ALEXNET,
        config=config,
        input=spec,
        classes=1000,
        params=params,
        macs=macs,
        **common,
    )


def _zfnet(name: str, config: dict[str, Any], params: int, macs: int, **rest: Any) -> ModelEntry:
    return ModelEntry(
        name=name,
        family="zfnet",
        build=ZFNET,
        config=config,
        input=CENTRED,
        classes=1000,
        paper=ZEILER_2013,
        year=2013,
        params=params,
        macs=macs,
        min_size=47,
        **rest,
    )


def _score(top1: float | None, top5: float | None, protocol: str, source: str, data: str = IMAGENET_VAL):
    return PublishedScore(dataset=data, top1_error=top1, top5_error=top5, protocol=protocol, source=source)


TABLE: tuple[ModelEntry, ...] = (
    _alexnet(
        "alexnet_2012",
        {},
        CENTRED_227,
        60_965_224,
        724_406_816,
        title="AlexNet as published, two towers",
        aliases=("bvlc_alexnet",),
        paper_params=60e6,
        published=(
            _score(40.7, 18.2, "10 crops", "table 2"),
            _score(38.1, 16.4, "10 crops, 5 networks", "table 2"),
            _score(39.0, 16.6, "10 crops, sixth convolution, trained on ImageNet Fall 2011 first", "table 2"),
            _score(36.7, 15.4, "10 crops, 7 networks, 2 of them trained on ImageNet Fall 2011 first", "table 2"),
            _score(37.5, 17.0, "10 crops", "table 1", "ILSVRC-2010 test"),
        ),
        differs="the paper says 224 pixels, its 55x55 maps need 227; it counts 253,440 outputs of conv1, which are "
        "290,400; BVLC's bvlc_alexnet has other constants of normalisation (k 1, alpha/5), no noise of colour and "
        "starts biases at 0.1",
    ),
    _alexnet(
        "alexnet_dense",
        {"towers": 1, "pool_first": True},
        CENTRED_227,
        62_378_344,
        1_135_256_096,
        title="AlexNet as lectures list it: one tower, pooling before normalisation",
        differs="the paper has two towers and normalises before it pools",
    ),
    _alexnet(
        "caffenet",
        {"pool_first": True, **CAFFE_READING},
        CAFFE_227,
        60_965_224,
        724_406_816,
        paper="Jia et al. 2014, arXiv:1408.5093",
        year=2014,
        title="CaffeNet: AlexNet with pooling before normalisation",
        min_size=39,
        aliases=("bvlc_reference_caffenet",),
        published=(_score(42.6, 19.6, "1 crop", "BVLC reference CaffeNet, iteration 310,000"),),
        differs="as AlexNet, but pooling comes before normalisation and counts windows that the border cuts; it starts "
        "as the paper's AlexNet, BVLC's with smaller weights in fc6 and fc7",
    ),
    _alexnet(
        "alexnet_owt",
        {
            "widths": (64, 192, 384, 256, 256),
            "towers": 1,
            "padding": 2,
            "normalization": "none",
            "dropout_at": "inputs",
        },
        PHOTO,
        61_100_840,
        714_188_480,
        paper=KRIZHEVSKY_2014,
        year=2014,
        title="AlexNet of one tower, as torchvision ships it",
        min_size=63,
        aliases=("alexnet",),
        published=(_score(43.478, 20.934, "1 crop", "torchvision IMAGENET1K_V1"),),
        reference="torchvision:alexnet",
        differs="as torchvision; cuda-convnet2's one-GPU network has local response normalisation, conv1 without "
        "padding, 8192 units in fc7 and dropout on the outputs of fc6 and fc7; ours starts as the AlexNet of 2012",
    ),
    _zfnet(
        "zfnet_fig3",
        {},
        62_357_608,
        1_168_032_896,
        title="ZFNet, figure 3",
        aliases=("zfnet",),
        published=(
            _score(38.4, 16.5, "10 crops", "table 2"),
            _score(36.7, 15.3, "10 crops, 5 networks", "table 2"),
        ),
        differs="figure 3 gives 110, 55, 26, 13 and 6 pixels; 55 needs pooling windows that the border cuts",
    ),
    _zfnet(
        "zfnet_512_1024_512",
        {"widths": (96, 256, 512, 1024, 512)},
        107_627_624,
        2_476_704_896,
        title="ZFNet with 512, 1024 and 512 maps in conv3, conv4 and conv5",
        published=(
            _score(37.5, 16.0, "10 crops", "table 2, row (b)"),
            _score(36.0, 14.7, "10 crops, 6 networks, those of figure 3 among them", "table 2"),
        ),
        differs="11.7 % of ILSVRC-2013, often given for this network, is Clarifai's, with several other networks",
    ),
    ModelEntry(
        name="nin_cifar",
        family="nin",
        build=NIN,
        config={
            "kernels": (5, 5, 3),
            "strides": (1, 1, 1),
            "paddings": (2, 2, 1),
            "widths": ((192, 160, 96), (192, 192, 192), (192, 192)),
            "poolings": ("max", "average"),
            "dropped": (1, 2),
        },
        input=CIFAR,
        classes=10,
        paper=LIN_2013,
        year=2013,
        title="Network in Network for CIFAR-10",
        params=966_986,
        macs=222_486_528,
        min_size=4,
        aliases=("nin",),
        published=(
            _score(8.81, None, "augmentation", "table 1", CIFAR10_TEST),
            _score(10.41, None, "no augmentation", "table 1", CIFAR10_TEST),
            _score(35.68, None, "", "table 2", "CIFAR-100 test"),
            _score(2.35, None, "", "table 3", "SVHN test"),
        ),
        differs="the paper gives no widths: these are of its authors' Caffe files",
    ),
    ModelEntry(
        name="nin_imagenet",
        family="nin",
        build=NIN,
        config={
            "kernels": (11, 5, 3, 3),
            "strides": (4, 1, 1, 1),
            "paddings": (0, 2, 1, 1),
            "widths": ((96, 96, 96), (256, 256, 256), (384, 384, 384), (1024, 1024)),
            "poolings": ("max", "max", "max"),
            "dropped": (3,),
            "small_start": ("conv1", "conv3", "cccp8"),
        },
        input=CAFFE_227,
        classes=1000,
        paper=LIN_2013,
        year=2014,
        title="Network in Network for ImageNet, of the Caffe model zoo",
        params=7_595_176,
        macs=1_105_996_320,
        min_size=39,
        paper_params=7.6e6,
        published=(_score(40.64, None, "1 crop", "Caffe model zoo"),),
        differs="the zoo trained it on 224 pixels, where the first mlpconv has 54x54 maps instead of 55x55",
    ),
)
