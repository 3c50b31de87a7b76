"""The names of the classes that published weights know."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from striate.data.sources.cifar import CIFAR10_NAMES
from striate.spec import Labels, ModelEntry

_IMAGENET = 1000


def labels_of(entry: ModelEntry, classes: int) -> Labels:
    """The class names of weights of `classes` classes for a network: those of the set that its paper trains on.

    ImageNet's thousand for a network of as many, CIFAR-10's for one that takes its images, else `class 0` and so on.
    """
    if classes == entry.classes == _IMAGENET:
        return imagenet_labels()
    if classes == entry.classes == len(CIFAR10_NAMES) and (entry.input.size, entry.input.channels) == ((32, 32), 3):
        return Labels(CIFAR10_NAMES)
    return numbered(classes)


def numbered(classes: int) -> Labels:
    """`class 0`, `class 1` …, where no names are known."""
    return Labels(tuple(f"class {number}" for number in range(classes)))


@cache
def imagenet_labels() -> Labels:
    """The thousand classes of ILSVRC 2012 to 2017 in the order of every publisher's outputs."""
    return Labels(tuple(name for _, name in _imagenet()))


def other_names(labels: Labels) -> dict[str, int]:
    """Other spellings of these classes, by `plain_name`, with their numbers: the synsets of ImageNet's.

    Empty for classes whose names say all.
    """
    if labels != imagenet_labels():
        return {}
    names: dict[str, int] = {}
    for number, (synset, name) in enumerate(_imagenet()):
        names |= {synset: number, plain_name(name): number, plain_name(f"{synset} {name}"): number}
    return names


def plain_name(name: str) -> str:
    """A class name without letter case, underscores and hyphens: `Gila_monster` and `gila monster` are the same."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


@cache
def _imagenet() -> tuple[tuple[str, str], ...]:
    """(synset, name) of each class."""
    lines = files("striate.hub").joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines()
    return tuple((line.partition(" ")[0], line.partition(" ")[2]) for line in lines)
