"""The names of the classes that published weights know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from striate.data.sources.cifar import CIFAR10_NAMES
from striate.spec import Labels, ModelEntry

_IMAGENET = 1000
_SYNSET = re.compile(r"n\d{8}")
_UNNAMED = re.compile(r"class \d+")  # see `numbered`
_DIGITS = frozenset("0123456789")
# what ImageNet itself calls two of its classes each; `imagenet.txt` tells them apart
_SHARED = {"crane": ("n02012849", "n03126707"), "maillot": ("n03710637", "n03710721")}


def labels_of(entry: ModelEntry, classes: int) -> Labels:
    """The class names of weights of `classes` classes for a network: those of the set that its paper trains on.

    ImageNet's thousand for a network of as many, CIFAR-10's for one that takes its images, else `class 0` and so on.
    """
    if classes == entry.classes == _IMAGENET:
        return imagenet_labels()
    if classes == entry.classes == len(CIFAR10_NAMES) and (entry.input.size, entry.input.channels) == ((32, 32), 3):
        return Labels(CIFAR10_NAMES)
    return numbered(classes)


def rows_by_name(wanted: Labels, known: Labels) -> list[int | None]:
    """For each class that is wanted which of the `known` it is, None for a new one.

    Names that stand for no more than a number say nothing: `class 3`, nor `3` by itself, unless both are the digits.
    ImageNet's are known under their other spellings too.
    """
    found = meanings(wanted.names, known)
    digits = _has_digits(wanted) and _has_digits(known)
    rows: dict[str, int | None] = {}
    taken: set[int | None] = set()
    for name in wanted.names:
        says_nothing = _UNNAMED.fullmatch(name) or (name.isdecimal() and not digits)
        numbers = () if says_nothing else found[name]
        rows[name] = numbers[0] if len(numbers) == 1 and numbers[0] not in taken else None
        taken |= {rows[name]}
    return list(rows.values())


def _has_digits(labels: Labels) -> bool:
    """Whether the classes are single characters, the ten digits among them: images of digits, not numbered folders."""
    return set(labels.names) >= _DIGITS and all(len(name) == 1 for name in labels.names)


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


def meanings(names: Iterable[str], labels: Labels) -> dict[str, tuple[int, ...]]:
    """The numbers of the classes that each name may stand for: none where it is unknown, two where they share it.

    Of ImageNet's classes a synset decides by itself, whatever name follows it.
    """
    others, own = other_names(labels), {name: number for number, name in enumerate(labels.names)}

    def of(name: str) -> tuple[int, ...]:
        plain = plain_name(name)
        first = plain.partition(" ")[0]
        if _SYNSET.fullmatch(first) and first in others:
            return (others[first],)
        if others and plain in _SHARED:
            return tuple(others[synset] for synset in _SHARED[plain])
        number = own.get(name, others.get(plain))
        return () if number is None else (number,)

    return {name: of(name) for name in names}


def synset_of(number: int) -> str:
    """The WordNet synset of an ImageNet class, such as n01440764."""
    return _imagenet()[number][0]


def plain_name(name: str) -> str:
    """A class name without letter case, underscores and hyphens: `Gila_monster` and `gila monster` are the same."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


@cache
def _imagenet() -> tuple[tuple[str, str], ...]:
    """(synset, name) of each class."""
    lines = files("striate.hub").joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines()
    return tuple((line.partition(" ")[0], line.partition(" ")[2]) for line in lines)
