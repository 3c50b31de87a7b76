"""The spellings of the classes that published weights know."""

from __future__ import annotations

import pytest

from striate.hub.classes import imagenet_labels, meanings, synset_of
from striate.spec import Labels

NAMES = imagenet_labels().names


def meant_by(name: str, labels: Labels) -> tuple[int, ...]:
    return meanings([name], labels)[name]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("n02012849_crane", 134),
        ("n03126707_crane", 517),
        ("n03710637_maillot", 638),
        ("n03710721_maillot", 639),
        ("n03710721", 639),
        ("n03710721-maillot, tank suit", 639),
        ("crane_bird", 134),
        ("maillot tank suit", 639),
        ("Gila_monster", 45),
    ],
)
def test_spellings_of_one_class(name, number):
    assert meant_by(name, imagenet_labels()) == (number,)


def test_every_class_by_synset_with_any_name_and_by_its_own_name():
    synsets = meanings([f"{synset_of(number)}_anything" for number in range(1000)], imagenet_labels())
    assert list(synsets.values()) == [(number,) for number in range(1000)]
    own = meanings(NAMES, imagenet_labels())
    assert {name: numbers for number, (name, numbers) in enumerate(own.items()) if numbers != (number,)} == {
        "crane": (134, 517),
        "maillot": (638, 639),
    }


@pytest.mark.parametrize(("name", "numbers"), [("crane", (134, 517)), ("Maillot", (638, 639))])
def test_names_that_two_classes_share(name, numbers):
    assert meant_by(name, imagenet_labels()) == numbers


def test_other_networks_know_only_their_own_names():
    labels = Labels(("crane", "n01440764"))
    assert meant_by("crane", labels) == (0,)
    assert meant_by("n01440764", labels) == (1,)
    assert meant_by("n01440764_tench", labels) == meant_by("Crane", labels) == ()
    assert meant_by("n99999999_nothing", imagenet_labels()) == ()
