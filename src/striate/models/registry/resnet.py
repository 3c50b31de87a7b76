"""Residual networks."""

from __future__ import annotations

from striate.models.registry.inputs import CIFAR, CIFAR10_TEST, IMAGENET_VAL, PHOTO
from striate.spec import ModelEntry, PublishedScore

HE_2015 = "He, Zhang, Ren & Sun 2015, arXiv:1512.03385"

RESNET = "striate.models.resnet:ResNet"
CIFAR_RESNET = "striate.models.resnet_cifar:CifarResNet"


def _resnet(
    name: str,
    depths: tuple[int, ...],
    shortcut: str,
    params: int,
    macs: int,
    *aliases: str,
    top1: float | None = None,
    top5: float | None = None,
) -> ModelEntry:
    """Errors with ten crops: tables 2 and 3."""
    score = PublishedScore(
        dataset=IMAGENET_VAL, top1_error=top1, top5_error=top5, protocol="10 crops", source="tables 2 and 3"
    )
    return ModelEntry(
        name=name,
        family="resnet",
        build=RESNET,
        config={"depths": depths, "shortcut": shortcut},
        input=PHOTO,
        classes=1000,
        paper=HE_2015,
        year=2015,
        title=f"ResNet-{2 * sum(depths) + 2}, option {shortcut}",
        params=params,
        macs=macs,
        aliases=aliases,
        published=() if top1 is None else (score,),
    )


def _cifar_resnet(depth: int, params: int, macs: int, paper_params: float, error: float) -> ModelEntry:
    return ModelEntry(
        name=f"cifar_resnet{depth}",
        family="resnet_cifar",
        build=CIFAR_RESNET,
        config={"n": (depth - 2) // 6},
        input=CIFAR,
        classes=10,
        paper=f"{HE_2015}, sec. 4.2",
        year=2015,
        title=f"ResNet-{depth}, option A",
        params=params,
        macs=macs,
        aliases=(f"resnet{depth}",),
        paper_params=paper_params,
        published=(PublishedScore(dataset=CIFAR10_TEST, top1_error=error, source="table 6"),),
    )


TABLE: tuple[ModelEntry, ...] = (
    _cifar_resnet(20, 269_722, 40_551_040, 0.27e6, 8.75),
    _cifar_resnet(32, 464_154, 68_862_592, 0.46e6, 7.51),
    _cifar_resnet(44, 658_586, 97_174_144, 0.66e6, 7.17),
    _cifar_resnet(56, 853_018, 125_485_696, 0.85e6, 6.97),
    _cifar_resnet(110, 1_727_962, 252_887_680, 1.7e6, 6.43),
    _resnet("resnet18", (2, 2, 2, 2), "B", 11_689_512, 1_814_073_344),
    _resnet("resnet18_a", (2, 2, 2, 2), "A", 11_515_688, 1_794_805_760, top1=27.88),
    _resnet("resnet34_a", (3, 4, 6, 3), "A", 21_623_848, 3_644_493_824, top1=25.03, top5=7.76),
    _resnet("resnet34_b", (3, 4, 6, 3), "B", 21_797_672, 3_663_761_408, "resnet34", top1=24.52, top5=7.46),
    _resnet("resnet34_c", (3, 4, 6, 3), "C", 22_716_840, 3_830_747_136, top1=24.19, top5=7.40),
)
