"""The first networks, 1989 to 1998."""

from __future__ import annotations

from striate.models.registry.inputs import MNIST_TEST
from striate.spec import InputSpec, ModelEntry, PublishedScore

LECUN_1989 = "LeCun 1989, Generalization and Network Design Strategies, CRG-TR-89-4"
LECUN_1989_ZIP = "LeCun et al. 1989, Neural Computation 1(4)"
LECUN_1990 = "LeCun et al. 1990, NIPS 2"
LECUN_1998 = "LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11)"

COMPARISON = "striate.models.lecun_1989_nets:ComparisonNet"
LENET = "striate.models.lenet:LeNet5"

# Sec. 2.2 of the zip-code paper: -1 for paper to 1 for ink, the digit made to fit 16x16 pixels.
INPUT_1989 = InputSpec(size=(16, 16), channels=1, resize="pad")

# Sec. II.A: background -0.1, ink 1.175, so that mean and variance are about 0 and 1; stored pixels have ink at the top.
INPUT = InputSpec(size=(32, 32), channels=1, mean=(0.1 / 1.275,), std=(1 / 1.275,), resize="pad")


def _compared(
    number: int, title: str, config: dict[str, str], *, params: int, macs: int, links: int, error: float
) -> ModelEntry:
    """One of the five networks that the report of 1989 compares on 480 digits."""
    return ModelEntry(
        name=f"lecun1989_net{number}",
        family="lenet",
        build=COMPARISON,
        config=config,
        input=INPUT_1989,
        classes=10,
        paper=LECUN_1989,
        year=1989,
        title=f"Net-{number}: {title}",
        params=params,
        macs=macs,
        paper_params=params,
        published=(PublishedScore(dataset="160 of 480 digits", top1_error=error, protocol="320 to learn from"),),
        differs=f"the report counts {links:,} connections: multiply-accumulates, and a bias for each unit",
    )


TABLE: tuple[ModelEntry, ...] = (
    _compared(1, "no hidden layer", {}, params=2570, macs=2560, links=2570, error=20.0),
    _compared(2, "12 hidden units", {"h1": "dense"}, params=3214, macs=3192, links=3214, error=13.0),
    _compared(3, "local", {"h1": "local", "h2": "local"}, params=1226, macs=1136, links=1226, error=11.5),
    _compared(4, "shared, local", {"h1": "shared", "h2": "local"}, params=1132, macs=2112, links=2266, error=6.0),
    _compared(5, "shared twice", {"h1": "shared", "h2": "shared"}, params=1060, macs=4992, links=5194, error=1.6),
    ModelEntry(
        name="lenet_1989_zip",
        family="lenet",
        build="striate.models.lenet_1989:ZipCodeNet",
        config={},
        input=INPUT_1989,
        classes=10,
        paper=LECUN_1989_ZIP,
        year=1989,
        title="the zip-code network",
        params=9760,
        macs=63_660,
        paper_params=9760,
        published=(
            PublishedScore(dataset="USPS test", top1_error=5.0, protocol="2,007 digits, 102 wrong", source="sec. 5"),
            PublishedScore(dataset="USPS train", top1_error=0.14, protocol="7,291 digits, 10 wrong", source="sec. 5"),
        ),
        differs="the paper counts 64,660 connections: multiply-accumulates, and a bias for each of 1,000 units; which "
        "8 of the 12 maps of H1 a map of H2 reads is assumed",
    ),
    ModelEntry(
        name="lenet1_1990",
        family="lenet",
        build="striate.models.lenet_1989:LeNet1",
        config={},
        input=InputSpec(size=(28, 28), channels=1, resize="pad"),  # a digit of 16x16 in the middle
        classes=10,
        paper=LECUN_1990,
        year=1990,
        title="LeNet-1",
        params=2578,
        macs=91_520,
        min_size=16,
        aliases=("lenet1",),
        paper_params=2578,
        published=(
            PublishedScore(dataset="USPS and printed digits test", top1_error=3.4, protocol="2,007 and 700 digits"),
            PublishedScore(dataset="USPS and printed digits train", top1_error=1.1, protocol="7,291 and 2,549 digits"),
        ),
        differs="the paper counts 98,442 connections, which are multiply-accumulates, biases and subsampling's inputs",
    ),
    ModelEntry(
        name="lenet5_1998",
        family="lenet",
        build=LENET,
        config={"connections": "sparse", "output": "rbf", "activation": "scaled_tanh", "pooling": "trainable"},
        input=INPUT,
        classes=10,
        paper=LECUN_1998,
        year=1998,
        title="LeNet-5 as published",
        params=60_000,
        macs=326_520,
        min_size=16,
        paper_params=60_000,
        published=(
            PublishedScore(dataset=MNIST_TEST, top1_error=0.95, protocol="no distortions", source="sec. III.B"),
            PublishedScore(dataset=MNIST_TEST, top1_error=0.8, protocol="distortions", source="sec. III.B"),
        ),
        differs="the paper counts 340,908 connections, which are multiply-accumulates, biases and subsampling's inputs",
    ),
    ModelEntry(
        name="lenet5_dense",
        family="lenet",
        build=LENET,
        config={},
        input=INPUT,
        classes=10,
        paper=LECUN_1998,
        year=1998,
        title="LeNet-5 as commonly built: ReLU, max, softmax",
        params=61_706,
        macs=416_520,
        min_size=16,
        aliases=("lenet5", "lenet"),
    ),
)
