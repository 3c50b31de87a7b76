"""A deeper network from a shallower trained one, as VGG was first trained.  Simonyan & Zisserman 2014, 1409.1556, 3.1

Stage by stage the layers that both networks have are copied, by name, and so are stem and head; what only the deeper
one has starts as that network starts, or as identity: a convolution that passes its maps on, a residual unit whose
branch adds nothing. Then the deeper network first answers as the shallower one did, where the layers allow it: after
ReLU, whose outputs another ReLU leaves alone, and with normalisation in evaluation only. Whether it does is tried.
Departs from the paper: it copies the first four convolutions of its column A and the dense layers; here the other
convolutions are copied too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from striate.errors import ModelError
from striate.models.base import ConvNet
from striate.models.build import create_model, rebuild
from striate.models.registry import find_entry
from striate.models.sources import is_own, short_name
from striate.spec import ModelEntry

_CLOSE = 1e-4  # of the largest logit: rounding
_SHOWN = 3  # names of a part that are listed one by one
_BESIDE = ("shortcut", "before", "after")  # parts of a residual unit beside its branch
_IN_TRAINING_ONLY = ("dropout", "stochastic_depth")  # fields of a config that do not change what a network computes


@dataclass(frozen=True, slots=True)
class Grown:
    """A network with what it took over from a shallower one, and lines that say so."""

    model: ConvNet
    copied: frozenset[str]  # names in its state dict
    lines: tuple[str, ...]
    new: tuple[str, ...]  # paths of the units that were started


def grown_to(name: str, source: ConvNet, *, identity: bool = False, **variations: Any) -> Grown:
    """The network called `name` with all that it can take over from `source`, whose channels, classes and size it has.

    `source` is left as it is; what was varied of it is varied here too, and `variations` besides. With `identity` the
    layers that are new pass on what they get; the last line says whether the answers are those of `source`.

    Raises:
        UnknownNameError: no such network.
        ModelError: `name` is of another family, or no deeper, or differs in more than that, or nothing of a stage fits.
    """
    _check_family(name, source)
    record = source.architecture
    model = create_model(
        name, classes=record.classes, in_channels=record.in_channels, input_size=record.input_size,
        **{**_varied(source, find_entry(name)), **variations},
    )  # fmt: skip
    _check_deeper(source, model, _matched(source, model), varied=tuple(variations))
    return _grown(source, model.train(source.training), identity)


def insert_identity(model: ConvNet, **deeper: Any) -> Grown:
    """`model` with more layers, which pass on what they get: its answers stay the same.

    `deeper` are the fields of its config that say how deep it is: `depths=(3, 4, 6, 3)` for a ResNet,
    `kernels=((3, 3), …)` for a VGG. `model` is left as it is.

    Raises:
        ModelError: a field that the network does not have, or one that makes another network of it, not a deeper one.
    """
    record = model.architecture
    other = rebuild(replace(record, config={**record.config, **deeper}))
    _check_nothing_else(model, other)
    return _grown(model, other.train(model.training), True)


def check_growth(name: str, source: ConvNet) -> None:
    """Whether `grown_to(name, source)` will do, without memory for it.

    Raises:
        UnknownNameError, ModelError: as `grown_to`.
    """
    _check_family(name, source)
    record = source.architecture
    with torch.device("meta"):
        model = create_model(
            name, classes=record.classes, in_channels=record.in_channels, input_size=record.input_size, start=False,
            **_varied(source, find_entry(name)),
        )  # fmt: skip
    _check_deeper(source, model, _matched(source, model))


def _check_deeper(source: ConvNet, model: ConvNet, match: _Match, *, varied: Sequence[str] = ()) -> None:
    """Refuse a sibling, which has the same layers, and a network that uses them otherwise.

    Args:
        source: the shallower network.
        model: the deeper one.
        match: of the two.
        varied: fields of the config of which a difference was asked for.

    Raises:
        ModelError: as said.
    """
    if not match.new:
        raise ModelError(
            f"a {source.architecture.title} does not grow into a {model.architecture.name}, which is no deeper",
            "a network of the same layers starts from its weights as they are: name no other one",
        )
    _check_nothing_else(source, model, varied)


def _check_nothing_else(source: ConvNet, model: ConvNet, varied: Sequence[str] = ()) -> None:
    record, theirs = source.architecture, model.architecture.config
    for field, value in record.config.items():
        alike = field in _IN_TRAINING_ONLY or field in varied or theirs.get(field) == value
        if not alike and not _is_of_depth(source, field, theirs.get(field)):
            raise ModelError(
                f"a {record.title} does not grow into a {model.architecture.name}, "
                f"whose {field} is {theirs.get(field)} instead of {value}",
                "the deeper network differs in nothing but its depth",
            )


def _is_of_depth(source: ConvNet, field: str, value: Any) -> bool:
    """Whether that field alone, with this value, gives the network more layers, or layers of other sizes."""
    record = source.architecture
    try:
        with torch.device("meta"):
            other = rebuild(replace(record, config={**record.config, field: value}), start=False)
    except ModelError:
        return False
    units, more = ({unit for part in _units(one).values() for unit in part} for one in (source, other))
    before, after = source.state_dict(), other.state_dict()
    return units < more or (before.keys() == after.keys() and any(before[k].shape != after[k].shape for k in before))


def _check_family(name: str, source: ConvNet) -> None:
    record = source.architecture
    if not (is_own(name) or is_own(record.name) or record.cut):
        entry = find_entry(name)
        if find_entry(record.name).build == entry.build:
            return
        name = entry.name
    raise ModelError(
        f"a {record.title} does not grow into a {short_name(name)}",
        "a deeper network of the same family takes over its layers: vgg_a grows into vgg_d, resnet18 into resnet34",
    )


def _varied(source: ConvNet, target: ModelEntry) -> dict[str, Any]:
    """Fields of the source's config that are not as registered, those apart that tell the two networks from another."""
    entry = find_entry(source.architecture.name)
    own, theirs = (asdict(source.config_type(**one.config)) for one in (entry, target))
    config = source.architecture.config
    return {field: config[field] for field in own if own[field] == theirs[field] != config[field]}


def _grown(source: ConvNet, model: ConvNet, identity: bool) -> Grown:
    match = _matched(source, model)
    theirs, own = source.state_dict(), model.state_dict()
    model.load_state_dict({**own, **{name: theirs[source_name] for name, source_name in match.tensors.items()}})
    name = source.architecture.name
    every = [unit for units in _units(model).values() for unit in units]
    lines = [f"copied from {name}: {units_in_words(match.copied, every)}"]
    if match.new:
        how = "started as identity" if identity else "started randomly"
        lines.append(f"new, {how}: {units_in_words(match.new, every)}")
    if identity:
        images = _images(source)
        for unit, maps in _inputs_of(match.new, model, images).items():
            _start_as_identity(model.get_submodule(unit), maps)
        before, after = _evaluated(source, images), _evaluated(model, images)
        apart = float((after - before).abs().max() / before.abs().max().clamp_min(1e-30))
        does = "answers" if apart < _CLOSE else "does not answer"
        lines.append(f"it {does} as {name} did: on random images {apart:.1g} of the largest logit apart")
    return Grown(model, frozenset(match.tensors), tuple(lines), match.new)


# what fits ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Match:
    tensors: dict[str, str]  # names in the deeper network by names in the shallower one
    copied: tuple[str, ...]  # paths of units of the deeper network
    new: tuple[str, ...]


def _matched(source: ConvNet, model: ConvNet) -> _Match:
    """Which units of `model` have their like in `source`.

    Raises:
        ModelError: `model` lacks a stage or a layer, or nothing of a stage of `source` fits.
    """
    theirs, own = source.state_dict(), model.state_dict()
    mine, wanted = _units(model), _units(source)
    tensors: dict[str, str] = {}
    copied = []
    for part, units in wanted.items():
        fitting = 0
        for number, unit in enumerate(units):
            names = _names(theirs, unit)
            pairs = {name: name for name in names if name in own and own[name].shape == theirs[name].shape}
            if moved := _moved_to_last(names, units, number, mine.get(part, []), theirs, own):
                pairs |= moved
            if len(pairs) == len(names) and set(_names(own, unit)) <= set(pairs):
                tensors |= pairs
                copied.append(unit)
                fitting += 1
        if part != "head" and ((units and not fitting) or len(units) > len(mine.get(part, []))):
            raise ModelError(
                f"a {source.architecture.title} does not grow into a {model.architecture.name}: "
                f"{_misfit(part, units, mine.get(part, []))}",
                "the deeper network has at least the same layers in each stage, with the same numbers of maps",
            )
    heads = {name: name for name in theirs if name.startswith("auxiliary.") and _same(theirs, own, name)}
    new = [unit for units in mine.values() for unit in units if unit not in copied]
    return _Match({**tensors, **heads}, tuple(copied), tuple(new))


def _misfit(part: str, units: Sequence[str], mine: Sequence[str]) -> str:
    place = part.removeprefix("stages.")
    if not mine:
        return f"that has no {place}"
    if len(mine) < len(units):
        return f"{place} has {len(units)} layers in the one and {len(mine)} in the other"
    return f"nothing of {place} fits"


def _units(model: ConvNet) -> dict[str, list[str]]:
    """The paths of what is copied as a whole, with weights, by part: stem, each stage, head."""
    parts = {"stem": model.stem, **{f"stages.{name}": stage for name, stage in model.stages.named_children()}}
    parts["head"] = model.head
    found = {}
    for part, module in parts.items():
        inside = [f"{part}.{name}" for name, child in module.named_children() if _holds(child)]
        whole = [part] if _holds(module) else []
        found[part] = inside if isinstance(module, nn.Sequential) else whole
    return found


def _moved_to_last(
    names: Sequence[str], units: Sequence[str], number: int, mine: Sequence[str],
    theirs: dict[str, Tensor], own: dict[str, Tensor],
) -> dict[str, str]:  # fmt: skip
    """What the last unit of a stage has besides, where the deeper network has it in its last one."""
    if number + 1 < len(units) or not mine or mine[-1] == units[number]:
        return {}
    there = {f"{mine[-1]}{name.removeprefix(units[number])}": name for name in names if name not in own}
    return {ours: name for ours, name in there.items() if ours in own and own[ours].shape == theirs[name].shape}


def _names(state: dict[str, Tensor], unit: str) -> list[str]:
    return [name for name in state if name.startswith(f"{unit}.")]


def _same(theirs: dict[str, Tensor], own: dict[str, Tensor], name: str) -> bool:
    return name in own and own[name].shape == theirs[name].shape


def _holds(module: nn.Module) -> bool:
    return bool(module.state_dict())


def units_in_words(units: Sequence[str], every: Sequence[str] | None = None) -> str:
    """`conv1: conv1_1; conv2: conv2_1; head: fc6, fc7`: the units by part.

    Long rows are written as `0 to 17`, where they have no gap among `every` unit of the network.
    """
    numbers = {unit: number for number, unit in enumerate(every or ())}
    parts: dict[str, list[list[str]]] = {}
    before: str | None = None
    for unit in units:
        part, _, name = unit.removeprefix("stages.").partition(".")
        follows = before is not None and every is not None and numbers[unit] == numbers[before] + 1
        runs = parts.setdefault(part, [])
        if runs and follows:
            runs[-1].append(name)
        else:
            runs.append([name])
        before = unit
    rows = []
    for part, runs in parts.items():
        words = [", ".join(run) if len(run) <= _SHOWN else f"{run[0]} to {run[-1]}" for run in runs]
        rows.append(f"{part}: {', '.join(words)}" if any(words) else part)
    return "; ".join(rows)


# identity -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _start_as_identity(unit: nn.Module, maps: Tensor) -> None:
    """Let `unit` pass on what it gets, such as `maps`; where its layers cannot, it stays as it started."""
    ours = isinstance(getattr(unit, "shortcut", None), nn.Identity)
    start = {name: tensor.clone() for name, tensor in unit.state_dict().items()}
    for way in (_silence_branch,) if ours else (_silence_branch, _pass_on):
        way(unit)
        if ours:  # whose last one of a network may do more after the addition
            return
        given = _evaluated(unit, maps)
        if given.shape == maps.shape and (given - maps).abs().max() <= _CLOSE * maps.abs().max():
            return
        unit.load_state_dict(start)


def _silence_branch(unit: nn.Module) -> None:
    """Zero the last layer of a residual branch: it adds nothing, and learns from the first step on."""
    layers = [layer for name, layer in unit.named_modules() if name.split(".")[0] not in _BESIDE]
    weighted = [layer for layer in layers if isinstance(getattr(layer, "weight", None), nn.Parameter)]
    for parameter in weighted[-1].parameters() if weighted else ():
        parameter.zero_()


def _pass_on(unit: nn.Module) -> None:
    for layer in unit.modules():
        if type(layer) is nn.Conv2d:
            _pass_maps(layer)
        elif isinstance(layer, nn.BatchNorm2d):
            _pass_values(layer)


def _pass_maps(convolution: nn.Conv2d) -> None:
    if convolution.in_channels == convolution.out_channels:
        nn.init.dirac_(convolution.weight, groups=convolution.groups)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def _pass_values(norm: nn.BatchNorm2d) -> None:
    """Undo what the running statistics do; those of a batch are others."""
    if norm.affine and norm.running_var is not None and norm.running_mean is not None:
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)


def _images(network: ConvNet) -> Tensor:
    """Two random images for a network."""
    record, like = network.architecture, next(network.parameters())
    generator = Generator().manual_seed(0)
    return torch.randn(2, record.in_channels, *record.input_size, generator=generator).to(like)


def _inputs_of(units: Sequence[str], model: ConvNet, images: Tensor) -> dict[str, Tensor]:
    """What each unit gets where the network is shown `images`."""
    found: dict[str, Tensor] = {}
    paths = {model.get_submodule(unit): unit for unit in units}

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found[paths[module]] = given[0]

    handles = [module.register_forward_pre_hook(keep) for module in paths]
    try:
        _evaluated(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def _evaluated(network: nn.Module, values: Tensor) -> Tensor:
    """What a network or layer makes of `values` in evaluation mode; its own mode stays."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        return network(values)
    finally:
        for module, was in modes.items():
            module.training = was
