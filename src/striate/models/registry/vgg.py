"""VGG: the columns of the paper's table 1, and what became of them with batch normalisation."""

from __future__ import annotations

from typing import Any

from striate.models.registry.inputs import IMAGENET_VAL, PHOTO
from striate.spec import ModelEntry, PublishedScore

SIMONYAN_2014 = "Simonyan & Zisserman 2014, arXiv:1409.1556"

VGG = "striate.models.vgg:VGG"

# Table 1: the kernels of each stage's convolutions.
A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))

STARTS = "our start is Glorot's rule, which the paper recommends afterwards; torchvision's is He's"


def _single(top1: float, top5: float) -> PublishedScore:
    """Table 3: the first row of each column, short side 256 in training and in testing."""
    protocol = "dense, short side 256"
    return PublishedScore(dataset=IMAGENET_VAL, top1_error=top1, top5_error=top5, protocol=protocol, source="table 3")


def _jittered(top1: float, top5: float) -> PublishedScore:
    """Table 3: trained with short sides of 256 to 512."""
    protocol = "dense, short side 384, trained with 256 to 512"
    return PublishedScore(dataset=IMAGENET_VAL, top1_error=top1, top5_error=top5, protocol=protocol, source="table 3")


def _scales(top1: float, top5: float) -> PublishedScore:
    """Table 4: the best row of each column."""
    protocol = "dense, three scales"
    return PublishedScore(dataset=IMAGENET_VAL, top1_error=top1, top5_error=top5, protocol=protocol, source="table 4")


def _torchvision(top1: float, top5: float) -> PublishedScore:
    source = "torchvision IMAGENET1K_V1"
    return PublishedScore(dataset=IMAGENET_VAL, top1_error=top1, top5_error=top5, protocol="1 crop", source=source)


def _column(
    column: str,
    kernels: tuple[tuple[int, ...], ...],
    params: int,
    macs: int,
    *published: PublishedScore,
    title: str,
    paper_params: float,
    alias: str = "",
    **config: Any,
) -> ModelEntry:
    """`paper_params`: table 2."""
    return ModelEntry(
        name=f"vgg_{column}",
        family="vgg",
        build=VGG,
        config={"kernels": kernels, **config},
        input=PHOTO,
        classes=1000,
        paper=SIMONYAN_2014,
        year=2014,
        title=title,
        params=params,
        macs=macs,
        min_size=32,
        aliases=(alias,) if alias else (),
        paper_params=paper_params,
        published=published,
        reference=f"torchvision:{alias}" if alias else "",
        differs=STARTS if alias else "",
    )


def _bn(
    depth: int, kernels: tuple[tuple[int, ...], ...], params: int, macs: int, *published: PublishedScore
) -> ModelEntry:
    return ModelEntry(
        name=f"vgg{depth}_bn",
        family="vgg",
        build=VGG,
        config={"kernels": kernels, "normalization": "batch"},
        input=PHOTO,
        classes=1000,
        paper=f"torchvision, after {SIMONYAN_2014}",
        year=2016,
        title=f"VGG-{depth} with batch normalisation",
        params=params,
        macs=macs,
        min_size=32,
        published=published,
        reference=f"torchvision:vgg{depth}_bn",
        differs=f"no paper; the convolutions keep biases that the normalisation takes away again; {STARTS}",
    )


A_MACS, B_MACS, D_MACS, E_MACS = 7_609_090_048, 11_308_466_176, 15_470_264_320, 19_632_062_464

# fmt: off
TABLE: tuple[ModelEntry, ...] = (
    _column("a", A, 132_863_336, A_MACS, _single(29.6, 10.4), _torchvision(30.980, 11.372),
            title="VGG A, 11 layers", paper_params=133e6, alias="vgg11"),
    _column("a_lrn", A, 132_863_336, A_MACS, _single(29.7, 10.5),
            title="VGG A with local response normalisation", paper_params=133e6, local_response=True),
    _column("b", B, 133_047_848, B_MACS, _single(28.7, 9.9), _scales(28.2, 9.6), _torchvision(30.072, 10.754),
            title="VGG B, 13 layers", paper_params=133e6, alias="vgg13"),
    _column("c", C, 133_638_952, 11_770_888_192, _single(28.1, 9.4), _jittered(27.3, 8.8), _scales(26.3, 8.2),
            title="VGG C, 16 layers, three of them 1x1", paper_params=134e6),
    _column("d", D, 138_357_544, D_MACS, _single(27.0, 8.8), _jittered(25.6, 8.1), _scales(24.8, 7.5),
            _torchvision(28.408, 9.618),
            title="VGG D, 16 layers", paper_params=138e6, alias="vgg16"),
    _column("e", E, 143_667_240, E_MACS, _single(27.3, 9.0), _jittered(25.5, 8.0), _scales(24.8, 7.5),
            _torchvision(27.624, 9.124),
            title="VGG E, 19 layers", paper_params=144e6, alias="vgg19"),
    _bn(11, A, 132_868_840, A_MACS, _torchvision(29.630, 10.190)),
    _bn(13, B, 133_053_736, B_MACS, _torchvision(28.414, 9.626)),
    _bn(16, D, 138_365_992, D_MACS, _torchvision(26.640, 8.484)),
    _bn(19, E, 143_678_248, E_MACS, _torchvision(25.782, 8.158)),
)
# fmt: on
