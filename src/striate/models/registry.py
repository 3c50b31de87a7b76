"""The registered architectures, one literal line of data each. Importing this needs no torch.

Names are the ids of the field's systems in lower case. `params` and `macs` are counts of our own networks, checked by a
test that counts again; `published` holds what the paper states, errors in per cent.
"""

from __future__ import annotations

from functools import cache

from striate.errors import UnknownNameError
from striate.spec import InputSpec, ModelEntry

LECUN_1998 = "LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11)"
HE_2015 = "He, Zhang, Ren & Sun 2015, arXiv:1512.03385"
OURS = "no paper: networks of our own"

# Sec. II.A: background -0.1, ink 1.175, so that mean and variance are about 0 and 1; stored pixels have ink at the top.
_LENET_INPUT = InputSpec(size=(32, 32), channels=1, mean=(0.1 / 1.275,), std=(1 / 1.275,), resize="pad")
_PHOTO_INPUT = InputSpec(
    size=(224, 224), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_fraction=0.875
)
_CIFAR_INPUT = InputSpec(size=(32, 32), channels=3, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
_MNIST_INPUT = InputSpec(size=(28, 28), channels=1, mean=(0.1307,), std=(0.3081,))

_LENET = "striate.models.lenet:LeNet5"
_RESNET = "striate.models.resnet:ResNet"
_CIFAR_RESNET = "striate.models.resnet_cifar:CifarResNet"
_COMPACT = "striate.models.compact:Compact"


def _resnet(
    name: str, depths: tuple[int, ...], shortcut: str, params: int, macs: int, errors: dict[str, float], *aliases: str
) -> ModelEntry:
    return ModelEntry(
        name=name,
        family="resnet",
        build=_RESNET,
        config={"depths": depths, "shortcut": shortcut},
        input=_PHOTO_INPUT,
        classes=1000,
        paper=HE_2015,
        year=2015,
        title=f"ResNet-{2 * sum(depths) + 2}, option {shortcut}",
        params=params,
        macs=macs,
        aliases=aliases,
        published={"errors": errors},
    )


def _cifar_resnet(depth: int, params: int, macs: int, paper_params: float, error: float) -> ModelEntry:
    return ModelEntry(
        name=f"cifar_resnet{depth}",
        family="resnet_cifar",
        build=_CIFAR_RESNET,
        config={"n": (depth - 2) // 6},
        input=_CIFAR_INPUT,
        classes=10,
        paper=f"{HE_2015}, sec. 4.2",
        year=2015,
        title=f"ResNet-{depth}, option A",
        params=params,
        macs=macs,
        aliases=(f"resnet{depth}",),
        published={"params": paper_params, "errors": {"CIFAR-10 test": error}},
    )


# All of them with ten crops: tables 2 and 3.
_TOP1 = "ImageNet top-1"
_TOP5 = "ImageNet top-5"

_TABLE: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="lenet5_1998",
        family="lenet",
        build=_LENET,
        config={"connections": "sparse", "output": "rbf", "activation": "scaled_tanh", "pooling": "trainable"},
        input=_LENET_INPUT,
        classes=10,
        paper=LECUN_1998,
        year=1998,
        title="LeNet-5 as published",
        params=60_000,
        macs=326_520,
        min_size=16,
        published={"params": 60_000, "connections": 340_908, "errors": {"MNIST test": 0.95, "MNIST, distortions": 0.8}},
    ),
    ModelEntry(
        name="lenet5_dense",
        family="lenet",
        build=_LENET,
        config={},
        input=_LENET_INPUT,
        classes=10,
        paper=LECUN_1998,
        year=1998,
        title="LeNet-5 as commonly built: ReLU, max, softmax",
        params=61_706,
        macs=416_520,
        min_size=16,
        aliases=("lenet5", "lenet"),
    ),
    _cifar_resnet(20, 269_722, 40_551_040, 0.27e6, 8.75),
    _cifar_resnet(32, 464_154, 68_862_592, 0.46e6, 7.51),
    _cifar_resnet(44, 658_586, 97_174_144, 0.66e6, 7.17),
    _cifar_resnet(56, 853_018, 125_485_696, 0.85e6, 6.97),
    _cifar_resnet(110, 1_727_962, 252_887_680, 1.7e6, 6.43),
    _resnet("resnet18", (2, 2, 2, 2), "B", 11_689_512, 1_814_073_344, {}),
    _resnet("resnet18_a", (2, 2, 2, 2), "A", 11_515_688, 1_794_805_760, {_TOP1: 27.88}),
    _resnet("resnet34_a", (3, 4, 6, 3), "A", 21_623_848, 3_644_493_824, {_TOP1: 25.03, _TOP5: 7.76}),
    _resnet(
        "resnet34_b",
        (3, 4, 6, 3),
        "B",
        21_797_672,
        3_663_761_408,
        {_TOP1: 24.52, _TOP5: 7.46},
        "resnet34",
    ),
    _resnet("resnet34_c", (3, 4, 6, 3), "C", 22_716_840, 3_830_747_136, {_TOP1: 24.19, _TOP5: 7.40}),
    ModelEntry(
        name="compact_s",
        family="compact",
        build=_COMPACT,
        config={"stem": 16, "stem_pool": True, "widths": (32, 64)},
        input=_MNIST_INPUT,
        classes=10,
        paper=OURS,
        year=2026,
        title="small, for grey images of 8 to 32 pixels",
        params=70_330,
        macs=2_703_232,
        min_size=8,
    ),
    ModelEntry(
        name="compact_m",
        family="compact",
        build=_COMPACT,
        config={"stem": 32, "widths": (64, 128, 128), "activation": "gelu", "scale": 1 / 9},
        input=_CIFAR_INPUT,
        classes=10,
        paper=OURS,
        year=2026,
        title="medium, for images of 16 to 64 pixels",
        params=574_890,
        macs=69_305_600,
        min_size=8,
    ),
    ModelEntry(
        name="compact_l",
        family="compact",
        build=_COMPACT,
        config={"stem": 32, "widths": (64, 256, 256), "activation": "gelu", "scale": 1 / 9},
        input=_CIFAR_INPUT,
        classes=10,
        paper=OURS,
        year=2026,
        title="large, for colour images of 32 to 64 pixels",
        params=1_978_026,
        macs=151_882_240,
        min_size=8,
    ),
)


def entries() -> tuple[ModelEntry, ...]:
    """Every registered architecture, in the table's order."""
    return _TABLE


def find_entry(name: str) -> ModelEntry:
    """The architecture called `name`, or having it as alias; letter case does not matter.

    Raises:
        UnknownNameError: answered with the nearest names.
    """
    known = _by_name()
    if name.lower() not in known:
        raise UnknownNameError("model", name, known)
    return known[name.lower()]


@cache
def _by_name() -> dict[str, ModelEntry]:
    """Names and aliases; a name wins over an alias, two of a kind are a mistake in the table."""
    names = {entry.name: entry for entry in _TABLE}
    aliases = {alias: entry for entry in _TABLE for alias in entry.aliases}
    assert len(names) == len(_TABLE), "a name is registered twice"
    assert len(aliases) == sum(len(entry.aliases) for entry in _TABLE), "an alias is registered twice"
    return aliases | names
