"""What is drawn: the rows of an anatomy as a line of layers and modules, repeated ones folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.anatomy.flow import IMAGE
from striate.anatomy.table import Anatomy, Layer

_MOST = 24  # items on the line before repeated layers are folded, too
_LONGEST = 4  # layers of a repeated group
_PARTS = ("stem", "stages", "head")
_PLAIN = ("conv", "concat", "add", "linear", "depthwise", "pointwise")  # names that say no more than the operation


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A layer worth a box: one that has a geometry or weights, or that joins others."""

    place: int  # among the anatomy's rows
    name: str
    op: str
    output: tuple[int, ...]
    reads: tuple[int, ...]  # places of nodes
    macs: int

    @property
    def channels(self) -> int:
        """Channels of a map, units of a vector."""
        return self.output[0]

    @property
    def kind(self) -> str:
        """What colours it."""
        words = self.op
        if "depthwise" in words:
            return "depthwise"
        if "conv" in words:
            return "conv"
        if "pool" in words or "subsampling" in words or words.startswith(("max", "average", "global", "adaptive")):
            return "pool"
        if len(self.reads) > 1:
            return "concat" if words == "concat" else "add"
        return "dense" if len(self.output) == 1 else "other"


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Branches side by side; an empty one is the shortcut."""

    branches: tuple[Chain, ...]


Chain = tuple["Node | Split", ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One thing on the line: a layer, or a module of branches that ends in `node`."""

    node: Node
    inside: Chain = ()  # of a module, without the node that ends it
    name: str = ""

    @property
    def output(self) -> tuple[int, ...]:
        """Channels, height, width; units of a vector."""
        return self.node.output


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Neighbouring items that come `times` times."""

    items: tuple[Item, ...]
    times: int = 1
    until: str = ""  # name of the last one that it stands for


def plan_of(found: Anatomy) -> list[Group]:
    """The line from the image to the last layer."""
    nodes = _nodes(found.layers, found.input)
    line = _line(nodes)
    groups = _folded([Group(items=(item,)) for item in line], 1, modules_only=True)
    length = 1
    while sum(len(group.items) for group in groups) > _MOST and length <= _LONGEST:
        groups = _folded(groups, length, modules_only=False)
        length += 1
    return groups


def likeness(item: Item | Node | Split) -> object:
    """Equal for what looks and works alike."""
    match item:
        case Node():
            return (item.op, item.output, item.macs)  # the last says from how many channels
        case Split():
            return tuple(tuple(map(likeness, branch)) for branch in item.branches)
        case Item():
            return (likeness(item.node), tuple(map(likeness, item.inside)))


def _nodes(rows: Sequence[Layer], image: tuple[int, ...]) -> list[Node]:
    """The rows that are worth a box and lead to the last one; the others belong to the one that they read."""
    stands_for: dict[int, int] = {IMAGE: IMAGE}
    nodes: dict[int, Node] = {}
    for place, row in enumerate(rows):
        reads = tuple(dict.fromkeys(stands_for[one] for one in row.inputs if one in stands_for))
        if not reads:
            continue  # does nothing to the image
        shape = nodes[reads[0]].output if reads[0] in nodes else image
        if len(reads) == 1 and not _counts(row, shape):
            stands_for[place] = reads[0]
            continue
        stands_for[place] = place
        nodes[place] = Node(place=place, name=row.name, op=row.op, output=row.output, reads=reads, macs=row.macs)
    wanted, used = [max(nodes)], set()
    while wanted:
        one = wanted.pop()
        if one not in used and one != IMAGE:
            used.add(one)
            wanted.extend(nodes[one].reads)
    return [node for place, node in nodes.items() if place in used]


def _counts(row: Layer, before: tuple[int, ...]) -> bool:
    """Whether a row that reads one other is a box of its own."""
    if row.macs or row.op.startswith(("max ", "average ")):
        return True
    return row.op not in ("pad", "flatten", "write") and row.output != before and row.activation_bytes > 0


def _line(nodes: Sequence[Node]) -> list[Item]:
    """Cut where every path goes through one node; what lies between two cuts is a module."""
    items = []
    last = IMAGE
    inner: list[Node] = []
    for node, end in zip(nodes, _ends(nodes), strict=True):
        if not end:
            inner.append(node)
            continue
        inside = _branches(inner, last, node) if inner else ()
        items.append(Item(node=node, inside=inside, name=_name([*inner, node])))
        last, inner = node.place, []
    return items


def _ends(nodes: Sequence[Node]) -> list[bool]:
    """Of nodes in order: which ones no connection passes by."""
    last_reader: dict[int, int] = {}
    for node in nodes:
        for one in node.reads:
            last_reader[one] = node.place
    ends, furthest = [], last_reader.get(IMAGE, IMAGE)
    for node in nodes:
        ends.append(furthest <= node.place)
        furthest = max(furthest, last_reader.get(node.place, node.place))
    return ends


def _branches(inner: Sequence[Node], source: int, end: Node) -> Chain:
    """The branches between `source` and `end`, each in turn a chain of nodes and splits."""
    inside = {node.place: node for node in inner}
    root = {place: place for place in inside}

    def find(place: int) -> int:
        while root[place] != place:
            place = root[place]
        return place

    for node in inner:
        for one in node.reads:
            if one in inside:
                root[find(one)] = find(node.place)
    parts: dict[int, list[Node]] = {}
    for node in inner:
        parts.setdefault(find(node.place), []).append(node)
    branches = [_chain(part, source, end) for part in parts.values()]
    if source in end.reads:
        branches.append(())  # the shortcut
    return (Split(branches=tuple(branches)),)


def _chain(part: Sequence[Node], source: int, end: Node) -> Chain:
    """One branch, cut where all of it goes through one node."""
    places = {node.place for node in part}
    stops = [node for node in part if _all_pass(part, node, places, source, end)]
    if len(part) == 1 or (not stops and len(part) > 1):
        return tuple(part)
    chain: list[Node | Split] = []
    before = source
    rest = list(part)
    for stop in stops:
        between = [node for node in rest if node.place < stop.place]
        if between:
            chain.extend(_branches(between, before, stop))
        chain.append(stop)
        rest = [node for node in rest if node.place > stop.place]
        before = stop.place
    if rest:
        chain.extend(_branches(rest, before, end))
    return tuple(chain)


def _all_pass(part: Sequence[Node], stop: Node, places: set[int], source: int, end: Node) -> bool:
    """Whether no connection of the branch passes by `stop`."""
    crossing = any(one < stop.place < node.place for node in part for one in node.reads if one in (*places, source))
    leaving = any(one in places and one < stop.place for one in end.reads)
    return not crossing and not leaving


def _name(members: Sequence[Node]) -> str:
    """What the names of some nodes have in common, without the network's own division."""
    parts = [node.name.split(".") for node in members]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    if len(members) > 1 and common == parts[-1]:
        common = common[:-1]
    if len(common) > 1 and common[0] in _PARTS:
        common = common[1:]
    while len(common) > 1 and common[-1] in _PLAIN:
        common = common[:-1]
    if len(members) == 1 and len(common) == 2 and any(letter.isdigit() for letter in common[-1]):
        common = common[-1:]  # conv2.conv2_1
    return "" if common and common[0] in (*_PLAIN, "pool") and len(common) == 1 else ".".join(common)


def _folded(groups: Sequence[Group], length: int, *, modules_only: bool) -> list[Group]:
    """Runs of `length` neighbouring groups that come again and again, as one group each."""
    done: list[Group] = []
    place = 0
    while place < len(groups):
        first = groups[place : place + length]
        times = 1
        foldable = all(group.times == 1 and (not modules_only or group.items[0].inside) for group in first)
        while foldable and _alike(first, groups[place + times * length : place + (times + 1) * length]):
            times += 1
        if times > 1:
            items = tuple(item for group in first for item in group.items)
            until = groups[place + times * length - 1].items[-1].name
            done.append(Group(items=items, times=times, until=until))
            place += times * length
        else:
            done.append(groups[place])
            place += 1
    return done


def _alike(first: Sequence[Group], others: Sequence[Group]) -> bool:
    if len(first) != len(others) or any(group.times > 1 for group in others):
        return False
    pairs = zip(first, others, strict=True)
    return all([likeness(one) for one in a.items] == [likeness(one) for one in b.items] for a, b in pairs)
