"""Networks made for the quickest training."""

from __future__ import annotations

from striate.models.registry.inputs import CIFAR, CIFAR10_TEST
from striate.spec import ModelEntry, PublishedScore

TABLE: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="airbench94",
        family="airbench",
        build="striate.models.airbench:Airbench",
        config={},
        input=CIFAR,
        classes=10,
        paper='K. Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498',
        year=2024,
        title="a fitted whitening layer and six convolutions",
        params=1_971_352,
        macs=118_147_360,
        min_size=9,
        published=(
            PublishedScore(
                dataset=CIFAR10_TEST, top1_error=6.0, protocol="6 views averaged, 9.9 epochs", source="abstract"
            ),
        ),
    ),
)
