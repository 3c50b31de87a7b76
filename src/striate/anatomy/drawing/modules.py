"""The modules that the line names by letters: boxes from top to bottom, branches side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.anatomy.drawing.canvas import LINE, SOFT, Path_, Polygon, Shape, Text, rectangle, text_width
from striate.anatomy.drawing.plan import Chain, Item, Node, Split
from striate.anatomy.drawing.slabs import COLOURS, mixed, short_op, size_text

_BOX, _STEP, _BETWEEN, _SPLIT = 31.0, 47.0, 12.0, 16.0  # height of a box, from box to box, between branches, of a fork
_SHORTCUT, _IDENTITY = 56.0, "identity"
_SIZE = 10.0
_JOIN = 24.0


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One module with its heading, as large as it is drawn."""

    letter: str
    item: Item
    heading: str
    wide: float
    tall: float


def panel_for(letter: str, item: Item, heading: str) -> Panel:
    """Its size."""
    wide = max(_wide(item.inside), text_width(_label(item), _SIZE) + 20, text_width(heading, 11, True) + 26)
    return Panel(letter=letter, item=item, heading=heading, wide=wide, tall=40 + _tall(item.inside) + _JOIN + 34)


def draw_panel(panel: Panel, x: float, y: float, per_channel: float) -> list[Shape]:
    """The module below its heading; bars in the boxes have `per_channel` pixels for a channel."""
    shapes: list[Shape] = [
        Text(x=x, y=y + 11, words=panel.letter, size=13, bold=True),
        Text(x=x + 20, y=y + 11, words=panel.heading, size=11, colour=SOFT),
    ]
    centre = x + panel.wide / 2
    top = y + 26
    shapes += _chain(panel.item.inside, centre, top, per_channel)
    bottom = top + _tall(panel.item.inside)
    words = _label(panel.item)
    wide = text_width(words, _SIZE) + 20
    fill = COLOURS[panel.item.node.kind]
    shapes.append(Polygon(points=rectangle(centre - wide / 2, bottom, wide, _JOIN), fill=fill, width=1))
    shapes.append(Text(x=centre, y=bottom + 16, words=words, size=_SIZE, anchor="middle"))
    shapes.append(Path_(points=((centre, bottom + _JOIN), (centre, bottom + _JOIN + 18)), arrow=True))
    return shapes


def _label(item: Item) -> str:
    return f"{short_op(item.node.op)}: {size_text(item.output)}"


def words_of(node: Node) -> str:
    """What stands in a box."""
    return f"{short_op(node.op)}, {node.channels}"


def _box_width(node: Node) -> float:
    return max(64.0, text_width(words_of(node), _SIZE) + 14)


def _wide(chain: Chain) -> float:
    if not chain:
        return _SHORTCUT
    return max(_box_width(part) if isinstance(part, Node) else _split_width(part) for part in chain)


def _split_width(split: Split) -> float:
    return sum(map(_wide, split.branches)) + _BETWEEN * (len(split.branches) - 1)


def _tall(chain: Chain) -> float:
    return sum(_STEP if isinstance(part, Node) else _split_height(part) for part in chain)


def _split_height(split: Split) -> float:
    return 3 * _SPLIT + max(map(_tall, split.branches))


def _chain(chain: Sequence[Node | Split], centre: float, top: float, per_channel: float) -> list[Shape]:
    shapes: list[Shape] = []
    y = top
    wide = max((_box_width(part) for part in chain if isinstance(part, Node)), default=0.0)
    for part in chain:
        if isinstance(part, Node):
            shapes += _boxed(part, centre, y, wide, per_channel)
            y += _STEP
        else:
            shapes += _split(part, centre, y, per_channel)
            y += _split_height(part)
    return shapes


def _boxed(node: Node, centre: float, y: float, wide: float, per_channel: float) -> list[Shape]:
    """An arrow from above, the box, and in it a bar as long as it has channels."""
    left, top = centre - wide / 2, y + _STEP - _BOX
    colour = COLOURS[node.kind]
    about = {"module-name": node.name, "channels": node.channels}
    return [
        Path_(points=((centre, y), (centre, top)), arrow=True),
        Polygon(points=rectangle(left, top, wide, _BOX), fill=mixed(colour, 0.5), width=0.8),
        Text(x=centre, y=top + 14, words=words_of(node), size=_SIZE, anchor="middle"),
        Polygon(
            points=rectangle(centre - node.channels * per_channel / 2, top + 20, node.channels * per_channel, 5),
            fill=mixed(colour, -0.4),
            stroke="none",
            width=0,
            about=about,
        ),
    ]


def _split(split: Split, centre: float, top: float, per_channel: float) -> list[Shape]:
    """Lines fan out, the branches, lines come together."""
    shapes: list[Shape] = []
    left = centre - _split_width(split) / 2
    bottom = top + _split_height(split)
    middles = []
    for branch in split.branches:
        wide = _wide(branch)
        x = left + wide / 2
        middles.append(x)
        shapes += _chain(branch, x, top + _SPLIT, per_channel)
        end = top + _SPLIT + _tall(branch)
        if branch:
            shapes.append(Path_(points=((x, end), (x, bottom - _SPLIT))))
        else:  # the line leaves room for its word
            half = (top + bottom) / 2
            shapes.append(Path_(points=((x, end), (x, half - 9))))
            shapes.append(Path_(points=((x, half + 7), (x, bottom - _SPLIT))))
            shapes.append(Text(x=x, y=half + 3, words=_IDENTITY, size=_SIZE, anchor="middle", colour=SOFT))
        left += wide + _BETWEEN
    for y, ends in ((top + _SPLIT, top), (bottom - _SPLIT, bottom)):
        shapes.append(Path_(points=((min(middles), y), (max(middles), y)), colour=LINE))
        shapes.append(Path_(points=((centre, ends), (centre, y)), colour=LINE))
    return shapes


def largest_bar(panels: Sequence[Panel]) -> float:
    """Pixels for one channel so that every bar lies in its box."""
    nodes = [node for panel in panels for node in _nodes(panel.item.inside)]
    return min((0.92 * _box_width(node) / node.channels for node in nodes), default=1.0)


def _nodes(chain: Chain) -> list[Node]:
    found = []
    for part in chain:
        if isinstance(part, Node):
            found.append(part)
        else:
            found += [node for branch in part.branches for node in _nodes(branch)]
    return found


def kinds_in(panels: Sequence[Panel]) -> list[str]:
    """For the legend."""
    return [node.kind for panel in panels for node in _nodes(panel.item.inside)]
