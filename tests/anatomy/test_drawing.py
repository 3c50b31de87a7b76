"""Drawings of architectures: everything is there, to scale, and readable."""

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from striate.anatomy import Anatomy, anatomy_of
from striate.anatomy.drawing import draw_architecture
from striate.anatomy.drawing.canvas import Polygon, Text
from striate.anatomy.drawing.picture import shapes_of
from striate.anatomy.drawing.plan import Node, Split, plan_of
from striate.cli.anatomy import command
from striate.errors import UsageError
from striate.models.registry import entries
from striate.network import open_network

QUICK = ["lecun1989_net4", "lenet5_dense", "alexnet_owt", "vgg_a", "nin_cifar", "googlenet", "cifar_resnet20",
         "cifar_plain20", "resnet18", "squeezenet_complex_bypass", "mobilenet_v1_0.25_128", "compact_s"]  # fmt: skip
REST = sorted({entry.name for entry in entries()} - set(QUICK))
SVG = "{http://www.w3.org/2000/svg}"


def anatomy(name: str) -> Anatomy:
    return replace(anatomy_of(open_network(name, weights=False).model, training=False), model=name)


def nodes_in(chain) -> list[Node]:
    found = []
    for part in chain:
        found += [part] if isinstance(part, Node) else [node for branch in part.branches for node in nodes_in(branch)]
    return found


def splits_in(chain) -> list[Split]:
    return [part for part in chain if isinstance(part, Split)]


def proportional(pairs) -> None:
    """What is drawn is one factor times what it stands for, up to the decimals of the file."""
    factor = sum(drawn for drawn, _ in pairs) / sum(meant for _, meant in pairs)
    assert all(abs(drawn - factor * meant) < 0.003 for drawn, meant in pairs), (factor, pairs)


def check(found: Anatomy, folder) -> None:
    groups = plan_of(found)
    counted = sum(
        group.times * sum(node.macs for node in (*nodes_in(item.inside), item.node))
        for group in groups
        for item in group.items
    )
    assert counted == found.macs  # nothing is missing, and folded blocks stand for their like

    path = folder / "drawing.svg"
    draw_architecture(found, path)
    page = ElementTree.parse(path).getroot()
    by_name = {layer.name: layer for layer in found.layers}
    sides, channels = [], []
    for polygon in page.iter(f"{SVG}polygon"):
        corners = [tuple(map(float, pair.split(","))) for pair in polygon.get("points", "").split()]
        wide, tall = (max(one[i] for one in corners) - min(one[i] for one in corners) for i in (0, 1))
        if polygon.get("data-output"):
            shape = by_name[polygon.get("data-name")].output
            assert polygon.get("data-output") == "x".join(map(str, shape))
            if max((1, *shape[1:])) == 1:
                channels.append((tall, shape[0]))
            else:
                sides.append((tall, shape[1]))
                channels.append((wide, shape[0]))
    assert len(channels) == sum(len(group.items) for group in groups)
    proportional(channels)
    assert bool(sides) == any(max((1, *item.output[1:])) > 1 for group in groups for item in group.items)
    if sides:  # not dense layers alone
        proportional(sides)
    bars = [
        (max(p[0] for p in shape.points) - min(p[0] for p in shape.points), shape.about["channels"])
        for shape in shapes_of(found)[0]
        if isinstance(shape, Polygon) and "channels" in shape.about
    ]
    assert bool(bars) == any(item.inside for group in groups for item in group.items)
    if bars:
        proportional(bars)
    readable(found)


def readable(found: Anatomy) -> None:
    """No words lie on others, and all on the page."""
    shapes, wide, tall = shapes_of(found)
    boxes = [(shape.box, shape.words) for shape in shapes if isinstance(shape, Text)]
    for place, ((left, top, right, bottom), words) in enumerate(boxes):
        assert left >= 0, words
        assert top >= 0, words
        assert right <= wide, words
        assert bottom <= tall, words
        for other, others_words in boxes[place + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] + 1 or other[3] <= top + 1
            assert apart, (words, others_words)


@pytest.mark.parametrize("name", QUICK)
def test_drawings_show_everything_to_scale(name, tmp_path):
    check(anatomy(name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", REST)
def test_every_architecture_is_drawn_to_scale(name, tmp_path):
    check(anatomy(name), tmp_path)


def test_repeated_blocks_are_folded():
    found = anatomy("resnet152")
    assert [group.times for group in plan_of(found) if group.times > 1] == [2, 7, 35, 2]
    words = [shape.words for shape in shapes_of(found)[0] if isinstance(shape, Text)]
    assert {"×2", "×7", "×35", "conv4_x.1–35"} <= set(words)


def test_branches_stand_side_by_side():
    modules = [group.items[0] for group in plan_of(anatomy("googlenet")) if group.items[0].inside]
    assert len(modules) == 9
    for module in modules:
        (split,) = splits_in(module.inside)
        assert [len(branch) for branch in split.branches] == [1, 2, 2, 2]
        assert module.node.op == "concat"
    first = next(group.items[0] for group in plan_of(anatomy("resnet18")) if group.items[0].inside)
    (split,) = splits_in(first.inside)
    assert sorted(len(branch) for branch in split.branches) == [0, 2]  # two convolutions and the shortcut


class Tangled(nn.Module):
    """What only a trace sees: halves of a tensor, writing in place, a branch within a branch, no modules for sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 1)
        self.inner, self.last = nn.Conv2d(6, 6, 1), nn.Linear(10, 2)

    def forward(self, image):
        whole = torch.relu_(self.first(image))
        a, b = whole.chunk(2, dim=1)
        b = self.right(b)
        b += self.inner(b)
        return self.last(torch.cat([self.left(a), b], dim=1).mean((2, 3)))


def test_rows_know_what_they_read():
    found = anatomy_of(Tangled(), 8, 3)
    reads = {layer.name: {found.layers[i].name if i >= 0 else "image" for i in layer.inputs} for layer in found.layers}
    assert reads["first"] == {"image"}
    assert reads["left"] == reads["right"] == {"relu"}
    assert reads["inner"] == {"right"}
    assert reads["add"] == {"right", "inner"}
    assert reads["concat"] == {"left", "add"}
    assert reads["last"] == {"global"}
    (module,) = [group.items[0] for group in plan_of(found) if group.items[0].inside]
    (outer,) = splits_in(module.inside)
    deep = max(outer.branches, key=len)
    assert [len(one.branches) for one in splits_in(deep)] == [2]
    assert {node.name for node in nodes_in(outer.branches[0] + outer.branches[1])} == {"left", "right", "inner", "add"}
    readable(found)


def test_networks_of_ones_own_are_drawn(tmp_path):
    plain = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(5 * 15, 3))
    draw_architecture(anatomy_of(plain, (32,), 2), tmp_path / "line.svg")
    readable(anatomy_of(plain, (32,), 2))


def test_png_and_svg_show_the_same_page(tmp_path):
    found = anatomy("lenet5_dense")
    _, wide, tall = shapes_of(found)
    draw_architecture(found, tmp_path / "one.png")
    draw_architecture(found, tmp_path / "one.svg")
    with Image.open(tmp_path / "one.png") as image:
        assert math.isclose(image.width / image.height, wide / tall, rel_tol=0.01)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50
    first = (tmp_path / "one.svg").read_bytes()
    draw_architecture(found, tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_bytes() == first
    with pytest.raises(UsageError):
        draw_architecture(found, tmp_path / "one.pdf")


def test_the_command_draws(tmp_path):
    path = tmp_path / "lenet.svg"
    result = CliRunner().invoke(command, ["lenet5", "--drawing", str(path), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["drawing"] == str(path)
    words = {text.text for text in ElementTree.parse(path).getroot().iter(f"{SVG}text")}
    assert {"conv 5×5", "6×28×28", "max 2×2/2", "16×5×5", "120×1×1", "dense"} <= words
