"""`draw_architecture`: heading, slabs, modules, legend."""

from __future__ import annotations

import string
from pathlib import Path

from striate.anatomy.drawing.canvas import SOFT, Shape, Text, save, text_width
from striate.anatomy.drawing.modules import Panel, draw_panel, kinds_in, largest_bar, panel_for
from striate.anatomy.drawing.plan import Group, Item, likeness, plan_of
from striate.anatomy.drawing.slabs import COLOURS, draw_legend, draw_line, name_of, scale_for, slots_of, width_of
from striate.anatomy.table import Anatomy

_MARGIN, _WIDEST = 26.0, 1560.0
_LEAST = 1200.0  # room for modules
_APART = 34.0


def draw_architecture(found: Anatomy, path: Path) -> None:
    """The network from the image to its last layer, to scale, and below it what its modules are made of.

    A slab's height and depth follow the sides of the map that the layer gives, its thickness the channels; a vector's
    column is as high as it has units, on the scale of the channels. Layers that change neither (normalisation,
    activation, dropout) are part of the one before. Auxiliary heads are left out.

    Raises:
        UsageError: neither a PNG nor an SVG file.
    """
    shapes, wide, tall = shapes_of(found)
    save(shapes, wide, tall, path, f"{found.model}: architecture")


def shapes_of(found: Anatomy) -> tuple[list[Shape], float, float]:
    """Everything that is drawn, and the size of the page."""
    groups = plan_of(found)
    letters, panels = _lettered(groups)
    scale = scale_for(found.input, groups)
    slots = slots_of(found.input, groups, letters)
    natural = sum(width_of(slot, scale) for slot in slots)
    heading = f"{found.params:,} parameters, {found.macs:,} multiply-accumulates for one image of " + "×".join(
        map(str, found.input)
    )
    kinds = ["input", *(slot.kind for slot in slots), *kinds_in(panels)]
    legend = draw_legend(scale, [kind for kind in COLOURS if kind in kinds], _MARGIN, 0)
    least = max(text.box[2] for text in legend if isinstance(text, Text))
    least = max(least, _MARGIN + text_width(heading, 11))
    content = max(min(natural, _WIDEST), least - _MARGIN)
    shapes: list[Shape] = [
        Text(x=_MARGIN, y=40, words=found.model, size=20, bold=True),
        Text(x=_MARGIN, y=60, words=heading, size=11, colour=SOFT),
    ]
    shapes += draw_legend(scale, [kind for kind in COLOURS if kind in kinds], _MARGIN, 86)
    drawn, y = draw_line(slots, groups, scale, _MARGIN, 112, content)
    shapes += drawn
    if panels:
        drawn, y = _modules(panels, y + 30, max(content, _LEAST))
        shapes += drawn
    return shapes, _right_end(shapes) + _MARGIN, y + _MARGIN


def _right_end(shapes: list[Shape]) -> float:
    """Where the drawing ends on the right."""
    return max(shape.box[2] if isinstance(shape, Text) else max(x for x, _ in shape.points) for shape in shapes)


def _lettered(groups: list[Group]) -> tuple[dict[Item, str], list[Panel]]:
    """A letter for every module on the line, the same for modules that are alike; and one panel for each letter."""
    letters: dict[Item, str] = {}
    known: dict[object, str] = {}
    names: dict[str, list[str]] = {}
    first: dict[str, Item] = {}
    for group in groups:
        for item in group.items:
            if not item.inside:
                continue
            letter = known.setdefault(likeness(item), _letter(len(known)))
            letters[item] = letter
            first.setdefault(letter, item)
            names.setdefault(letter, []).append(name_of(item, group))
    return letters, [panel_for(letter, item, ", ".join(names[letter])) for letter, item in first.items()]


def _letter(place: int) -> str:
    """A to Z, then AA, AB …"""
    letters = string.ascii_uppercase
    return letters[place] if place < 26 else letters[place // 26 - 1] + letters[place % 26]


def _modules(panels: list[Panel], top: float, wide: float) -> tuple[list[Shape], float]:
    """Panels from left to right in as many rows as it takes."""
    per_channel = largest_bar(panels)
    shapes: list[Shape] = []
    x, y, tallest = _MARGIN, top, 0.0
    for panel in panels:
        if x > _MARGIN and x + panel.wide > _MARGIN + wide:
            x, y, tallest = _MARGIN, y + tallest + 14, 0.0
        shapes += draw_panel(panel, x, y, per_channel)
        x += panel.wide + _APART
        tallest = max(tallest, panel.tall)
    return shapes, y + tallest
