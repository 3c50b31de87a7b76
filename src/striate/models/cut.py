"""Where a network can be cut, what it knows there, and the network that ends there.

The places of a network run from shallow to deep: `stem`, its stages by name, then `head.NAME` for every hidden layer of
the head (VGG: `head.fc6` and `head.fc7`, after their activation) and for a pooling of the head that is no average. All
of it is read off the anatomy, so that it holds for every family and for networks from elsewhere. The classifier is the
last layer of the head that has weights; a head that is no plain sequence of layers is all classifier.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from striate.errors import ModelError
from striate.layers.initialise import without_random_start
from striate.layers.pooling import GlobalPool
from striate.models.base import Architecture, ConvNet

MOST_FEATURES = 1024  # of a place whose maps are averaged over a grid
GRIDS = (1, 2, 3, 4)
HEAD = "head."
_AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_DROPOUTS = (nn.modules.dropout._DropoutNd,)
_DEVIATION = 0.01  # of a new classifier's weights: no class is preferred at first, whatever the size of the codes


def places(model: ConvNet) -> tuple[str, ...]:
    """Where `model` can be cut, shallow to deep; the classifier reads what the last of them gives."""
    return tuple(segment.place for segment in _segments(model))


def modules_up_to(model: ConvNet, place: str) -> list[nn.Module]:
    """The parts that lie before the cut, in the order in which they run.

    Raises:
        ModelError: no such place; the hint lists those there are.
    """
    wanted = _require(model, place)
    found: list[nn.Module] = []
    for segment in _segments(model):
        found += [module for _, module in segment.modules]
        if segment.place == wanted:
            break
    return found


def depth_of(model: ConvNet) -> dict[str, int]:
    """Parameter names by the index of the place that they belong to.

    The classifier, whatever follows it and auxiliary heads have the number of places.
    """
    segments = _segments(model)
    depths = {
        f"{path}.{name}": depth
        for depth, segment in enumerate(segments)
        for path, module in segment.modules
        for name, _ in module.named_parameters()
    }
    return {name: depths.get(name, len(segments)) for name, _ in model.named_parameters()}


def code_grid(channels: int, height: int, width: int) -> int:
    """Side of the grid that maps are averaged to: as fine as `MOST_FEATURES` allows, at most 4 and the maps' side."""
    fitting = [side for side in GRIDS if channels * side**2 <= MOST_FEATURES and side <= min(height, width)]
    return max(fitting, default=1)


def pooled_codes(model: ConvNet, images: Tensor, at: Sequence[str] | None = None) -> dict[str, Tensor]:
    """What the network makes of `images` at each place `at` (None: all), float32 [B, D], by one forward pass.

    Maps [B, C, H, W] are averaged over the cells of `code_grid`, vectors are taken as they are. The network runs in the
    mode that it is in, no deeper than it has to.

    Args:
        model: any network.
        images: normalised, [B, in_channels, H, W].
        at: places, in any order.

    Raises:
        ModelError: no such place; the hint lists those there are.
    """
    wanted = None if at is None else {_require(model, place) for place in at}
    codes: dict[str, Tensor] = {}
    for place, values in _passing(model, images):
        if wanted is None or place in wanted:
            codes[place] = _code(values)
        if wanted is not None and len(codes) == len(wanted):
            break
    return codes if at is None else {place: codes[place] for place in at}


def cut_at(model: ConvNet, place: str, classes: int, *, sides: Sequence[str] = ()) -> ConvNet:
    """A new network that ends at `place`: all up to there with its weights, then a linear layer for `classes`.

    Its `head` has the kept layers of the old one, then `pool`, `flatten` and `linear`, under names that are free: the
    linear layer, last of them (`new_classifier`), reads what
    `pooled_codes` gives there for images of the network's input size. It starts near zero. Nothing is shared with
    `model`, which stays as it was.

    Linear layers of their own may read earlier places, too (`side_classifiers`); what they give is added to what the
    head gives. They start at zero, without biases: those of the head serve for all.

    Args:
        model: any network.
        place: where the head reads.
        classes: how many.
        sides: `stem` and stages before `place`.

    Raises:
        ModelError: no such place; the hint lists those there are. A side that is no stage before `place`.
    """
    record = _record_of_cut(model, _require(model, place), classes, sides)
    with without_random_start():
        (stages, head), beside = _parts(model, record), _sides(record)
    # The copy finds the new parts where it would copy the old ones.
    instead = {id(model.stages): copy.deepcopy(stages), id(model.head): copy.deepcopy(head)}
    instead |= {id(model.auxiliary): nn.ModuleDict(), id(model.sides): beside.train(model.head.training)}
    cut = copy.deepcopy(model, instead)
    start_classifier(cut)
    cut.architecture = record
    cut.head.train(model.head.training)
    cut.stages.training, cut.auxiliary.training = model.stages.training, model.training
    return cut


def end_at(model: ConvNet, record: Architecture) -> None:
    """Cut a whole network in place as `record` says; the new classifier's weights are what memory happens to hold.

    Raises:
        ModelError: the network has no such place.
    """
    assert record.cut is not None
    _require(model, record.cut)
    model.stages, model.head = _parts(model, record)
    model.auxiliary, model.sides = nn.ModuleDict(), _sides(record)
    model.architecture = record


def new_classifier(cut: ConvNet) -> nn.Linear:
    """The linear layer that the head of a cut network ends with."""
    linear = list(cut.head.children())[-1]
    assert isinstance(linear, nn.Linear)
    return linear


def side_classifiers(cut: ConvNet) -> dict[str, nn.Linear]:
    """The linear layers that read earlier places of a cut network, by place, shallow to deep."""
    return {place: side[-1] for place, side in cut.sides.named_children()}  # type: ignore[misc]


@torch.no_grad()
def start_classifier(cut: ConvNet, generator: Generator | None = None) -> None:
    """Weights of a cut network's linear layer from N(0, 0.01²), all others, of earlier places, and biases zero."""
    linear = new_classifier(cut)
    linear.weight.normal_(0.0, _DEVIATION, generator=generator)
    linear.bias.zero_()
    for side in side_classifiers(cut).values():
        side.weight.zero_()


# places ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Segment:
    """What lies between one place and the next: modules by their paths in the network."""

    place: str
    modules: tuple[tuple[str, nn.Module], ...]


def _segments(model: ConvNet) -> list[_Segment]:
    stages = model.stages.named_children()
    found = [_Segment("stem", (("stem", model.stem),))]
    found += [_Segment(name, ((f"stages.{name}", stage),)) for name, stage in stages]
    layers = _head_layers(model.head)
    ends = _head_ends(layers)
    for begin, end in zip([0, *ends], ends, strict=False):
        # the place is called after the layer that makes it one: the first with weights, or the pooling
        name = next(path for path, layer in layers[begin:end] if _counts(layer))
        found.append(_Segment(HEAD + name, tuple((HEAD + path, layer) for path, layer in layers[begin:end])))
    return found


def _head_layers(head: nn.Module, path: str = "") -> list[tuple[str, nn.Module]]:
    """The layers of a head in the order in which they run, by path; none where that is not known."""
    if type(head).forward is not nn.Sequential.forward:
        return []
    found: list[tuple[str, nn.Module]] = []
    for name, child in head.named_children():
        inner = _head_layers(child, f"{path}{name}.") if type(child) is nn.Sequential else []
        found += inner or [(f"{path}{name}", child)]
    return found


def _head_ends(layers: Sequence[tuple[str, nn.Module]]) -> list[int]:
    """After how many layers of the head each of its places lies."""
    classifier = max((index for index, (_, layer) in enumerate(layers) if _mixes(layer)), default=0)
    begins: list[int] = []
    for index, (_, layer) in enumerate(layers[:classifier]):
        # a normalisation belongs to the layer before it, but makes a place of its own where there is none
        if _mixes(layer) or _pools_otherwise(layer) or (_has_weights(layer) and not begins):
            begins.append(index)
    ends = []
    for end in [*begins[1:], classifier][: len(begins)]:
        while isinstance(layers[end - 1][1], _DROPOUTS):
            end -= 1
        ends.append(end)
    return ends


def _counts(layer: nn.Module) -> bool:
    return _has_weights(layer) or _pools_otherwise(layer)


def _has_weights(layer: nn.Module) -> bool:
    return next(layer.parameters(), None) is not None


def _mixes(layer: nn.Module) -> bool:
    """Whether it weighs several inputs for each output, as linear layers do; fixed weights are buffers."""
    return any(tensor.ndim > 1 for tensor in (*layer.parameters(), *layer.buffers()))


def _pools_otherwise(layer: nn.Module) -> bool:
    """Whether it pools, but does not average: an average is what a code is made with anyway."""
    if "pool" not in type(layer).__name__.lower() or _has_weights(layer):
        return False
    kind = getattr(layer, "kind", None) or getattr(layer, "pool_type", None) or ""  # ours, timm's
    return not (isinstance(layer, _AVERAGES) or kind in ("average", "avg", "fast", "fastavg"))


def _require(model: ConvNet, place: str) -> str:
    known = places(model)
    if place not in known:
        raise ModelError(f"{model.architecture.name} has no place {place!r}", f"it has: {', '.join(known)}")
    return place


# codes ----------------------------------------------------------------------------------------------------------------


def _passing(model: ConvNet, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What each place gives, as the images pass through."""
    values = images
    for segment in _segments(model):
        for _, module in segment.modules:
            values = module(values)
        yield segment.place, values


def _code(values: Tensor) -> Tensor:
    if values.ndim != 4:
        return values.flatten(1).float()
    grid = code_grid(*values.shape[1:])
    if grid == 1:
        return values.mean((2, 3), dtype=torch.float32)
    # The cells of torch's adaptive pooling, which takes twice as long where the channels lie innermost.
    rows, columns = (_cells(side, grid) for side in values.shape[2:])
    cells = [values[:, :, row, column].mean((2, 3), dtype=torch.float32) for row in rows for column in columns]
    return torch.stack(cells, dim=2).flatten(1)


def _cells(side: int, grid: int) -> list[slice]:
    return [slice(cell * side // grid, -(-(cell + 1) * side // grid)) for cell in range(grid)]


# cutting --------------------------------------------------------------------------------------------------------------


def _record_of_cut(model: ConvNet, place: str, classes: int, sides: Sequence[str] = ()) -> Architecture:
    name, before = model.architecture.name, places(model)[: places(model).index(place)]
    if classes < 1:
        raise ModelError(f"{name}: {classes} classes: there must be at least 1")
    for side in sides:
        if side not in before or side.startswith(HEAD):
            known = ", ".join(one for one in before if not one.startswith(HEAD))
            raise ModelError(f"{name} cut at {place} cannot read {side!r}, too", f"earlier stages: {known or 'none'}")
    shapes = _shapes(model, (place, *sides))
    sizes = {one: _code_size(shape) for one, shape in shapes.items()}
    return replace(
        model.architecture, classes=classes, cut=place, cut_grid=sizes[place][0], cut_features=sizes[place][1],
        sides=tuple((side, *sizes[side]) for side in before if side in sides),
    )  # fmt: skip


def _code_size(shape: Sequence[int]) -> tuple[int, int]:
    """Side of the grid that maps [C, H, W] are averaged to, 0 for what is no maps, and the numbers of a code."""
    grid = code_grid(*shape) if len(shape) == 3 else 0
    return grid, shape[0] * grid**2 if grid else int(torch.Size(shape).numel())


def _shapes(model: ConvNet, wanted: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """What places give for one image of the network's input size, by trying it."""
    record, parameter = model.architecture, next(model.parameters(), None)
    like = {} if parameter is None else {"device": parameter.device, "dtype": parameter.dtype}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            found: dict[str, tuple[int, ...]] = {}
            for place, values in _passing(model, torch.zeros(1, record.in_channels, *record.input_size, **like)):
                if place in wanted:
                    found[place] = tuple(values.shape[1:])
                if len(found) == len(set(wanted)):
                    break
            return found
    finally:
        for module, was in modes.items():
            module.training = was


def _parts(model: ConvNet, record: Architecture) -> tuple[nn.Sequential, nn.Sequential]:
    """Stages and head of the network that ends where `record` says, out of the modules of `model`."""
    stages, layers = nn.Sequential(), OrderedDict[str, nn.Module]()
    for segment in _segments(model):
        for path, module in segment.modules:
            part, _, name = path.partition(".")
            if part == "stages":
                stages.add_module(name, module)
            elif part == "head":
                layers[name] = module
        if segment.place == record.cut:
            break
    head = _nested(layers)
    if record.cut_grid:
        head.add_module(_free(head, "pool"), _pool(record.cut_grid))
    head.add_module(_free(head, "flatten"), nn.Flatten())
    head.add_module(_free(head, "linear"), nn.Linear(record.cut_features, record.classes))
    return stages, head


def _pool(grid: int) -> nn.Module:
    return GlobalPool() if grid == 1 else nn.AdaptiveAvgPool2d(grid)


def _sides(record: Architecture) -> nn.Sequential:
    """What reads earlier places, by their names: no sequence, but whatever names a stage may name a part of one."""
    found = nn.Sequential()
    for place, grid, features in record.sides:
        layers: dict[str, nn.Module] = {"pool": _pool(grid)} if grid else {}
        layers |= {"flatten": nn.Flatten(), "linear": nn.Linear(features, record.classes, bias=False)}
        found.add_module(place, nn.Sequential(OrderedDict(layers)))
    return found


def _nested(layers: OrderedDict[str, nn.Module]) -> nn.Sequential:
    """Sequences in sequences as the paths of `layers` say."""
    head = nn.Sequential()
    for path, layer in layers.items():
        *outer, name = path.split(".")
        where = head
        for one in outer:
            if one not in dict(where.named_children()):
                where.add_module(one, nn.Sequential())
            where = where.get_submodule(one)
            assert isinstance(where, nn.Sequential)
        where.add_module(name, layer)
    return head


def _free(head: nn.Sequential, name: str) -> str:
    while name in dict(head.named_children()):
        name += "_"
    return name
