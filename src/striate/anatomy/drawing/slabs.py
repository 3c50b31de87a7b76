"""The line of slabs: height and depth by the sides of the map, thickness by its channels; vectors as columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from striate.anatomy.drawing.canvas import INK, LINE, SOFT, Path_, Polygon, Shape, Text, rectangle, text_width
from striate.anatomy.drawing.plan import Group, Item

# Fill of the front by kind: light enough for dark words, told apart by their lightness, too (after Paul Tol).
COLOURS = {
    "input": "#dddddd", "conv": "#77aadd", "depthwise": "#99ddff", "pool": "#ee8866", "add": "#eedd88",
    "concat": "#bbcc33", "dense": "#ffaabb", "other": "#cccccc",
}  # fmt: skip
_DEPTH = (0.36, -0.24)  # how far one pixel of the map's width goes back, to the right and up
_TALLEST, _THICKEST, _LONGEST, _PLAINEST = 190.0, 90.0, 220.0, 2.0  # pixels: of a map, a slab, a vector; of a channel
_COLUMN = 9.0  # width and depth of a vector's column
_GAP = 15.0
_SMALL = 10.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Pixels of the drawing for one pixel of a map and for one channel or unit."""

    side: float
    channel: float


def scale_for(image: Sequence[int], groups: Sequence[Group]) -> Scale:
    """As large as the page bears."""
    shapes = [tuple(image), *(item.output for group in groups for item in group.items)]
    sides = max((max(shape[1:]) for shape in shapes if len(shape) > 1), default=1)
    maps = max((shape[0] for shape in shapes if not _is_vector(shape)), default=1)
    units = max((shape[0] for shape in shapes if _is_vector(shape)), default=1)
    return Scale(side=_TALLEST / sides, channel=min(_PLAINEST, _THICKEST / maps, _LONGEST / units))


def _is_vector(shape: Sequence[int]) -> bool:
    return all(side == 1 for side in shape[1:])


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place on the line: what stands there, its words, its width."""

    shape: tuple[int, ...]
    kind: str
    words: tuple[str, ...]
    group: int
    about: Mapping[str, Any]


def slots_of(image: Sequence[int], groups: Sequence[Group], letters: Mapping[Item, str]) -> list[Slot]:
    """The image and every item."""
    slots = [Slot(shape=tuple(image), kind="input", words=("input", size_text(image)), group=-1, about={})]
    for place, group in enumerate(groups):
        for item in group.items:
            letter = letters.get(item)
            first = f"module {letter}" if letter else short_op(item.node.op)
            name = name_of(item, group)
            about = {"name": item.node.name, "output": "x".join(map(str, item.output)), "times": group.times}
            words = (first, size_text(item.output), *([name] if name else []))
            slots.append(Slot(shape=item.output, kind=item.node.kind, words=words, group=place, about=about))
    return slots


def name_of(item: Item, group: Group) -> str:
    """Its name; of one that stands for several with numbers, from the first to the last."""
    first, last = (re.fullmatch(r"(.*?)(\d+)", name) for name in (item.name, group.until))
    if len(group.items) > 1 or not first or not last or first[1] != last[1]:
        return item.name
    return f"{item.name}–{last[2]}"


def size_text(shape: Sequence[int]) -> str:
    """Channels first, as everywhere."""
    return "×".join(map(str, shape))


def short_op(op: str) -> str:
    """An operation in the words of the papers' tables."""
    words = (
        op.replace("depthwise conv", "depthwise").replace("linear", "dense").replace("trainable subsampling", "subs.")
    )
    words = words.replace("global average", "global avg").replace("average", "avg")
    kind, *rest = words.split(" ")
    for i, word in enumerate(rest):
        sides = word.split("/")[0].rstrip(",").split("x")
        if len(sides) == 2 and all(side.isdigit() for side in sides):
            rest[i] = word.replace("x", "×")
    return " ".join([kind, *rest])


def extent_of(slot: Slot, scale: Scale) -> tuple[float, float, float, float]:
    """Thickness and height of the front, and how far the depth goes to the right and up."""
    channels, *sides = slot.shape
    if _is_vector(slot.shape):
        return _COLUMN, channels * scale.channel, _COLUMN * _DEPTH[0], _COLUMN * _DEPTH[1]
    tall, deep = (scale.side * side for side in (*sides, 1)[:2])  # a line of values is as deep as one pixel
    return channels * scale.channel, tall, deep * _DEPTH[0], deep * _DEPTH[1]


def width_of(slot: Slot, scale: Scale) -> float:
    """What a slot takes on the line."""
    thick, _, right, _ = extent_of(slot, scale)
    return max(thick + right, *(text_width(words, _SMALL) for words in slot.words)) + _GAP


def draw_line(
    slots: Sequence[Slot], groups: Sequence[Group], scale: Scale, left: float, top: float, wide: float
) -> tuple[list[Shape], float]:
    """The slabs in rows no wider than `wide`, and where they end below."""
    rows = _rows(slots, scale, wide)
    shapes: list[Shape] = []
    y = top
    for place, row in enumerate(rows):
        drawn, y = _row(row, groups, scale, left, y, goes_on=place + 1 < len(rows), came=place > 0)
        shapes += drawn
    return shapes, y


def _rows(slots: Sequence[Slot], scale: Scale, wide: float) -> list[list[Slot]]:
    """As few rows as will do, about equally long."""
    needs = [width_of(slot, scale) for slot in slots]
    count = ceil(sum(needs) / wide - 1e-9)
    while True:
        share = sum(needs) / count
        rows: list[list[Slot]] = [[] for _ in range(count)]
        lengths = [0.0] * count
        done, row, before = 0.0, 0, -1
        for slot, need in zip(slots, needs, strict=True):
            if slot.group != before or slot.group < 0:  # a bracket stays in one row
                row = min(int((done + need / 2) / share), count - 1)
            before = slot.group
            rows[row].append(slot)
            lengths[row] += need
            done += need
        if max(lengths) <= wide + 1e-6 or count == len(slots):
            return [row for row in rows if row]
        count += 1


def _row(
    row: Sequence[Slot], groups: Sequence[Group], scale: Scale, left: float, top: float, *, goes_on: bool, came: bool
) -> tuple[list[Shape], float]:
    extents = [extent_of(slot, scale) for slot in row]
    tallest = max(tall - up for _, tall, _, up in extents)
    middle = top + tallest / 2
    words_at = top + tallest + 20
    shapes: list[Shape] = []
    spans: dict[int, list[float]] = {}
    x, before = left, left if came else None
    for slot, (thick, tall, right, up) in zip(row, extents, strict=True):
        need = width_of(slot, scale)
        x0 = x + (need - _GAP - thick - right) / 2
        y0 = middle - (tall - up) / 2 - up
        if before is not None:
            shapes.append(Path_(points=((before + 2, middle), (x0 - 2, middle)), arrow=x0 - before > 12))
        shapes += slab(x0, y0, thick, tall, right, up, COLOURS[slot.kind], slot.about)
        before = x0 + thick + right
        centre = x + (need - _GAP) / 2
        for i, words in enumerate(slot.words):
            colour = INK if i == 0 else SOFT
            text = Text(
                x=centre, y=words_at + 13 * i, words=words, size=_SMALL, anchor="middle", bold=not i, colour=colour
            )
            bold_fits = text_width(words, _SMALL, True) <= need - 4
            shapes.append(text if bold_fits else Text(x=text.x, y=text.y, words=words, size=_SMALL, anchor="middle"))
        spans.setdefault(slot.group, []).extend((x, x + need - _GAP))
        x += need
    if goes_on and before is not None:
        shapes.append(Path_(points=((before + 2, middle), (before + 24, middle)), arrow=True))
    bottom = words_at + 13 * max(len(slot.words) for slot in row)
    folded = {group: span for group, span in spans.items() if group >= 0 and groups[group].times > 1}
    for group, span in folded.items():
        a, b = min(span), max(span)
        shapes.append(Path_(points=((a, bottom - 4), (a, bottom), (b, bottom), (b, bottom - 4)), colour=INK, width=1))
        times = f"×{groups[group].times}"
        shapes.append(Text(x=(a + b) / 2, y=bottom + 14, words=times, size=12, anchor="middle", bold=True))
    return shapes, bottom + (26 if folded else 8)


def slab(
    x: float, y: float, thick: float, tall: float, right: float, up: float, colour: str, about: Mapping[str, Any]
) -> list[Shape]:
    """A box: the front with what it stands for, its upper side, its right side."""
    x1, y1 = x + thick, y + tall
    return [
        Polygon(points=((x, y), (x + right, y + up), (x1 + right, y + up), (x1, y)), fill=mixed(colour, 0.4)),
        Polygon(points=((x1, y), (x1 + right, y + up), (x1 + right, y1 + up), (x1, y1)), fill=mixed(colour, -0.16)),
        Polygon(points=rectangle(x, y, thick, tall), fill=colour, about=about),
    ]


def mixed(colour: str, share: float) -> str:
    """With that share of white; of black where it is negative."""
    towards = 255 if share > 0 else 0
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(share) * (towards - part)):02x}" for part in parts)


def draw_legend(scale: Scale, kinds: Sequence[str], x: float, y: float) -> list[Shape]:
    """What the colours mean, and bars of round length for both scales."""
    words = {
        "input": "image", "conv": "convolution", "depthwise": "depthwise convolution", "pool": "pooling",
        "add": "sum of branches", "concat": "branches joined (concat)", "dense": "dense layer: height by its units",
        "other": "other layer",
    }  # fmt: skip
    shapes: list[Shape] = []
    side, channels = _round(44 / scale.side), _round(44 / scale.channel)
    for number, per, what in ((side, scale.side, "pixels of a map"), (channels, scale.channel, "channels or units")):
        shapes.append(Polygon(points=rectangle(x, y - 6, number * per, 5), fill=LINE, stroke=INK, width=0.6))
        shapes.append(Text(x=x + number * per + 7, y=y, words=f"{number} {what}", size=_SMALL, colour=SOFT))
        x += number * per + 7 + text_width(f"{number} {what}", _SMALL) + 26
    for kind in kinds:
        shapes.append(Polygon(points=rectangle(x, y - 9, 11, 11), fill=COLOURS[kind], width=0.6))
        shapes.append(Text(x=x + 16, y=y, words=words[kind], size=_SMALL, colour=SOFT))
        x += 16 + text_width(words[kind], _SMALL) + 20
    return shapes


def _round(value: float) -> int:
    """The nearest of 1, 2, 5, 10, 20, 50 … below."""
    best = 1
    for power in range(6):
        for digit in (1, 2, 5):
            if digit * 10**power <= value:
                best = digit * 10**power
    return best
