"""The first networks, 1989 to 1998."""

from __future__ import annotations

from striate.models.registry.inputs import MNIST_TEST
from striate.spec import InputSpec, ModelEntry, PublishedScore

LECUN_1998 = "LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11)"

LENET = "striate.models.lenet:LeNet5"

# Sec. II.A: background -0.1, ink 1.175, so that mean and variance are about 0 and 1; stored pixels have ink at the top.
INPUT = InputSpec(size=(32, 32), channels=1, mean=(0.1 / 1.275,), std=(1 / 1.275,), resize="pad")

TABLE: tuple[ModelEntry, ...] = (
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
