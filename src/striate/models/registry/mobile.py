"""Small networks for small machines: SqueezeNet and MobileNet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from striate.models.registry.inputs import IMAGENET_VAL, INCEPTION, PHOTO, sized
from striate.spec import ModelEntry, PublishedScore

IANDOLA_2016 = "Iandola et al. 2016, arXiv:1602.07360"
HOWARD_2017 = "Howard et al. 2017, arXiv:1704.04861"

SQUEEZENET = "striate.models.squeezenet:SqueezeNet"
MOBILENET = "striate.models.mobilenet:MobileNet"

PHOTO_227 = replace(PHOTO, size=(227, 227), crop_fraction=227 / 256)

V1_1: dict[str, Any] = {"conv1": (64, 3), "pools_after": (3, 5)}


def _squeezenet(
    name: str,
    params: int,
    macs: int,
    *published: tuple[float, float, str],
    title: str,
    paper: str = IANDOLA_2016,
    paper_params: float | None = None,
    min_size: int = 21,
    aliases: tuple[str, ...] = (),
    reference: str = "",
    differs: str = "",
    **config: Any,
) -> ModelEntry:
    """`published`: accuracies (top 1, top 5) in per cent, and where they stand."""
    return ModelEntry(
        name=name,
        family="squeezenet",
        build=SQUEEZENET,
        config=config,
        input=PHOTO_227,
        classes=1000,
        paper=paper,
        year=2016,
        title=title,
        params=params,
        macs=macs,
        min_size=min_size,
        aliases=aliases,
        paper_params=paper_params,
        published=tuple(_accuracy(top1, top5, source) for top1, top5, source in published),
        reference=reference,
        differs=differs,
    )


def _accuracy(top1: float, top5: float | None, source: str, protocol: str = "1 crop") -> PublishedScore:
    """Errors from accuracies in per cent."""
    return PublishedScore(
        dataset=IMAGENET_VAL,
        top1_error=round(100 - top1, 3),
        top5_error=None if top5 is None else round(100 - top5, 3),
        protocol=protocol,
        source=source,
    )


def _mobilenet(
    alpha: float,
    side: int,
    params: int,
    macs: int,
    slim: tuple[float, float],
    *aliases: str,
    paper: tuple[float, float, float, str] | None = None,
    int8: tuple[float, float] | None = None,
    differs: str = "",
) -> ModelEntry:
    """`slim`: accuracies of the authors' checkpoints; `int8`: of those trained to be quantised (Jacob et al. 2017,
    arXiv:1712.05877); `paper`: accuracy, parameters, multiply-accumulates and where."""
    published = [_accuracy(*slim, "TF-Slim, checkpoints of 2018-02-22")]
    if int8 is not None:
        published.append(_accuracy(*int8, "TensorFlow Hub, quantops", "1 crop, 8 bits"))
    if paper is not None:
        published.insert(0, _accuracy(paper[0], None, paper[3]))
    return ModelEntry(
        name=f"mobilenet_v1_{alpha}_{side}",
        family="mobilenet",
        build=MOBILENET,
        config={"alpha": alpha},
        input=sized(INCEPTION, side),
        classes=1000,
        paper=HOWARD_2017,
        year=2017,
        title=f"MobileNet, width {alpha}, {side} pixels",
        params=params,
        macs=macs,
        aliases=aliases,
        paper_params=paper[1] if paper else None,
        paper_macs=paper[2] if paper else None,
        published=tuple(published),
        reference="timm:mobilenetv1_100" if alpha == 1 else "",
        differs="; ".join(filter(None, (RELU6 if alpha == 1 else "", differs))),
    )


def _compared(
    name: str, title: str, params: int, macs: int, paper: tuple[float, float, float, str], differs: str, **config: Any
) -> ModelEntry:
    """The networks that MobileNet is compared with: accuracy, parameters, multiply-accumulates and where."""
    return ModelEntry(
        name=name,
        family="mobilenet",
        build=MOBILENET,
        config=config,
        input=sized(INCEPTION, 224),
        classes=1000,
        paper=HOWARD_2017,
        year=2017,
        title=title,
        params=params,
        macs=macs,
        paper_params=paper[1],
        paper_macs=paper[2],
        published=(_accuracy(paper[0], None, paper[3]),),
        differs=differs,
    )


RELU6 = "the paper has ReLU, timm and TF-Slim have ReLU6"
ROUNDED = "the paper rounds 0.47 million parameters to 0.5"


def _slim(millions: int) -> str:
    return f"TF-Slim's table gives {millions} million operations"


ALPHA_1, ALPHA_3_4, ALPHA_1_2, ALPHA_1_4 = 4_231_976, 2_585_560, 1_331_592, 470_072

# fmt: off
TABLE: tuple[ModelEntry, ...] = (
    _squeezenet("squeezenet1_0", 1_248_424, 832_667_936,
                (57.5, 80.3, "table 2"), (58.092, 80.420, "torchvision IMAGENET1K_V1"),
                title="SqueezeNet 1.0", paper_params=1_248_424, aliases=("squeezenet",),
                reference="torchvision:squeezenet1_0",
                differs="the authors' readme gives 1.72 GFLOPS: their Caffe file pads conv10 to 15x15, 861,339,936 "
                        "multiply-accumulates; table 1 and torchvision do not"),
    _squeezenet("squeezenet1_1", 1_235_496, 387_747_520, (58.178, 80.624, "torchvision IMAGENET1K_V1"),
                title="SqueezeNet 1.1", paper=f"readme of forresti/SqueezeNet, after {IANDOLA_2016}", min_size=17,
                reference="torchvision:squeezenet1_1",
                differs="the readme's 0.72 GFLOPS lie between 224 pixels (0.70) and 227 (0.78)", **V1_1),
    _squeezenet("squeezenet_simple_bypass", 1_248_424, 832_667_936, (60.4, 82.5, "table 3"),
                title="SqueezeNet 1.0 with simple bypass", bypass="simple"),
    _squeezenet("squeezenet_complex_bypass", 1_589_672, 1_183_953_184, (58.8, 82.0, "table 3"),
                title="SqueezeNet 1.0 with complex bypass", bypass="complex",
                differs="table 3 prints 7.7 MB, these weights are 6.36 MB: where the rest comes from is not known"),
    _mobilenet(1.0, 224, ALPHA_1, 568_740_352, (70.9, 89.9), "mobilenet_v1", "mobilenet", "mobilenetv1_100",
               paper=(70.6, 4.2e6, 569e6, "table 6"), int8=(69.7, 89.5)),
    _mobilenet(1.0, 192, ALPHA_1, 418_121_728, (70.0, 89.2), paper=(69.1, 4.2e6, 418e6, "table 7"), int8=(69.0, 88.9)),
    _mobilenet(1.0, 160, ALPHA_1, 290_675_200, (68.0, 87.7), paper=(67.2, 4.2e6, 290e6, "table 7"), int8=(67.3, 87.7)),
    _mobilenet(1.0, 128, ALPHA_1, 186_400_768, (65.2, 85.8), paper=(64.4, 4.2e6, 186e6, "table 7"), int8=(64.0, 85.5)),
    _mobilenet(0.75, 224, ALPHA_3_4, 325_400_448, (68.4, 88.2), "mobilenet_v1_0.75",
               paper=(68.4, 2.6e6, 325e6, "table 6"), differs=_slim(317)),
    _mobilenet(0.75, 192, ALPHA_3_4, 239_273_472, (67.2, 87.3), differs=_slim(233)),
    _mobilenet(0.75, 160, ALPHA_3_4, 166_396_800, (65.3, 86.0), differs=_slim(162)),
    _mobilenet(0.75, 128, ALPHA_3_4, 106_770_432, (62.1, 83.9), differs=_slim(104)),
    _mobilenet(0.5, 224, ALPHA_1_2, 149_497_088, (63.3, 84.9), "mobilenet_v1_0.5",
               paper=(63.7, 1.3e6, 149e6, "table 6")),
    _mobilenet(0.5, 192, ALPHA_1_2, 109_970_432, (61.7, 83.6)),
    _mobilenet(0.5, 160, ALPHA_1_2, 76_524_800, (59.1, 81.9), paper=(60.2, 1.32e6, 76e6, "table 9")),
    _mobilenet(0.5, 128, ALPHA_1_2, 49_160_192, (56.3, 79.4)),
    _mobilenet(0.25, 224, ALPHA_1_4, 41_030_272, (49.8, 74.2), "mobilenet_v1_0.25",
               paper=(50.6, 0.5e6, 41e6, "table 6"), differs=ROUNDED),
    _mobilenet(0.25, 192, ALPHA_1_4, 30_212_608, (47.7, 72.3), differs=_slim(34)),
    _mobilenet(0.25, 160, ALPHA_1_4, 21_059_200, (45.5, 70.3)),
    _mobilenet(0.25, 128, ALPHA_1_4, 13_570_048, (41.5, 66.3)),
    _compared("mobilenet_v1_conv", "MobileNet with full convolutions", 29_294_088, 4_867_293_184,
              (71.7, 29.3e6, 4866e6, "table 4"),
              "the paper's 4866 million operations leave out the linear layer's million", convolution="full"),
    _compared("mobilenet_v1_shallow", "MobileNet without five layers of 14x14x512", 2_887_976, 307_323_392,
              (65.3, 2.9e6, 307e6, "table 5"), "", shallow=True),
)
# fmt: on
