"""Figures as one page that needs no network: any list of sections of any pictures.

    write_page(path, "what the network sees", [Section("worst mistakes", cards), ...])

A card is a picture with its words; whoever has other pictures makes other cards.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from striate.explanation.figures import data_uri, side_by_side
from striate.explanation.result import Explanation
from striate.version import __version__


@dataclass(frozen=True, slots=True)
class Card:
    """One picture: `uri` holds it (`figures.data_uri`), `words` describe it to those who do not see it."""

    uri: str
    title: str
    words: str
    detail: str = ""
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Some cards under a heading."""

    title: str
    cards: Sequence[Card]
    note: str = ""


def gallery_sections(explained: Iterable[Sequence[Explanation]]) -> list[Section]:
    """Cards of explained images, an image a card: mistakes, images of unknown class, right ones, as they come.

    `explaining.worst_first` brings them into the order that shows most.
    """
    cards: dict[str, list[Card]] = {"mistakes": [], "images": [], "right answers": []}
    for one in explained:
        wrong = one[0].wrong_by
        title = "images" if wrong is None else "right answers" if wrong < 0 else "mistakes"
        cards[title].append(card_of(one))
    notes = {"mistakes": "the surest first", "right answers": "the least sure first"}
    return [Section(title, made, notes.get(title, "")) for title, made in cards.items() if made]


def card_of(explanations: Sequence[Explanation]) -> Card:
    """The explanations of one image as a card."""
    first = explanations[0]
    best = first.prediction.labels[0]
    ranks = ", ".join(f"{one.label} {one.probability:.1%}" for one in first.prediction.labels[:3])
    notes = "; ".join(dict.fromkeys(note for one in explanations for note in one.notes))
    words = f"{first.path}: {best.label}. {', '.join(one.title for one in explanations)}"
    known = first.truth is not None
    wrong = known and first.wrong_by != -1
    return Card(
        uri=data_uri(side_by_side(explanations), dpi=100),
        title=f"{Path(first.path).name}: {best.label}{f', is {first.truth}' if wrong else ''}",
        words=words,
        detail=f"{ranks}{'; ' + notes if notes else ''}",
        right=not wrong if known else None,
    )


def write_page(path: Path, title: str, sections: Sequence[Section], note: str = "") -> Path:
    """Write a page that holds all of its pictures; a reader never meets half of it."""
    import jinja2

    source = (resources.files("striate.explanation") / "templates" / "gallery.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(source).render(title=title, note=note, sections=sections, version=__version__)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_bytes(page.encode("utf-8", errors="replace"))  # a file name may be no valid Unicode
    os.replace(scratch, path)
    return path
