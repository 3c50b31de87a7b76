"""Networks from elsewhere in the house's anatomy: any network of timm (`timm:NAME`), and one's own (`FILE.py:CLASS`).

How a network is taken apart is found out by running it. In this order, and each only where it repeats the network's
own answers in evaluation and in training:

1. its own `stem`, `stages` and `head`;
2. its children as a chain: each convolution or block with what follows it is a stage, the first one the stem, and all
   that comes after the last maps the head;
3. all of it as one stage `body`, whose last linear layer is the head;
4. all of it as one stage `body`, and a head without parameters.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Generator, Tensor, nn

from striate.errors import ModelError
from striate.models.base import ConvNet
from striate.models.cut import start_classifier
from striate.models.naming import Naming
from striate.models.sources import TIMM, construct, own_parts, short_name, source_hash

_PROBE_SIDE = 64  # pixels a side at which the ways of taking a network apart are first compared
_CLOSE = 1e-4  # of the largest logit: rounding, where the same numbers are added in another order
_MARK = "\0"  # keeps a key that has been renamed from being renamed again


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignConfig:
    """Where the network is from."""

    source: str  # "timm:NAME" or "FILE.py:CLASS"
    sha256: str = ""  # of the file with the class, as it was when the network was built


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which modules, by their paths, become which part."""

    kind: str  # "own", "chain", "body" or "whole"
    groups: tuple[tuple[str, ...], ...] = ()  # the first is the stem, the others are stages
    head: tuple[str, ...] = ()
    bridge: str = ""  # what the network does between the last maps and the head: "", "flatten" or "mean"


class Foreign(ConvNet):
    """A network from elsewhere, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = ForeignConfig

    def __init__(
        self,
        config: ForeignConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
        name: str = "foreign",
    ) -> None:
        source = config.source
        digest = source_hash(source)
        record = replace(config, source=short_name(source), sha256=digest)
        super().__init__(short_name(name), record, in_channels, classes, input_size)
        self._source = source
        self._plan = _plan(source, digest, in_channels, classes, input_size)
        self.stem, self.stages, self.head = _arranged(self._construct(), self._plan)

    @classmethod
    def smallest_size(cls, config: ForeignConfig) -> int:
        """Unknown: whether the input size works is seen when the network is built."""
        return 1

    def published_names(self) -> tuple[Naming, ...]:
        """The network's own names, before it was taken apart."""
        publisher = "timm" if self._source.startswith(TIMM) else "its class"
        return (Naming(publisher=publisher, patterns=_patterns(self._plan)),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Construct the network once more: its constructor is what says how it starts."""
        with _seeded_by(generator):
            parts = _arranged(self._construct(), self._plan)
        for mine, fresh in zip((self.stem, self.stages, self.head), parts, strict=True):
            wanted = {name: tensor.shape for name, tensor in mine.state_dict().items()}
            started = {name: tensor for name, tensor in fresh.state_dict().items() if wanted.get(name) == tensor.shape}
            mine.load_state_dict(started, strict=self.architecture.cut is None)
        if self.architecture.cut is not None:
            start_classifier(self, generator)

    def _construct(self) -> nn.Module:
        record = self.architecture
        return construct(self._source, record.in_channels, record.classes, record.input_size)


class Whole(nn.Module):
    """A network whose answer [B, F] is given on as maps of one pixel, [B, F, 1, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, F, 1, 1]."""
        return self.network(images)[:, :, None, None]


class Mean(nn.Module):
    """The mean of each map, [B, C, H, W] -> [B, C]."""

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return maps.mean((2, 3))


_BRIDGES = {"flatten": nn.Flatten, "mean": Mean}


# taking apart ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _plan(source: str, digest: str, in_channels: int, classes: int, input_size: tuple[int, int]) -> Plan:
    """How the network comes apart; tried on random weights, in memory of its own."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("cpu"), torch.no_grad(), _seeded_by(generator):
        network = construct(source, in_channels, classes, input_size)
        _fill(network, generator)
        images = torch.rand(2, in_channels, *input_size, generator=generator) - 0.5
        _check_answer(source, network, images[:1], classes)
        sides = tuple(min(side, _PROBE_SIDE) for side in input_size)
        small = images[:, :, : sides[0], : sides[1]]
        try:
            network.eval()(small)
            sample = small
        except Exception:  # a network for one size only
            sample = images
        for plan in _candidates(network, sample, classes):
            if _repeats(source, plan, network, sample):
                return plan
    return Plan(kind="whole")


def _check_answer(source: str, network: nn.Module, images: Tensor, classes: int) -> None:
    name = short_name(source)
    height, width = images.shape[2:]
    try:
        answer = network.eval()(images)
    except Exception as error:  # whatever somebody's code may raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{name} cannot take images of {images.shape[1]}x{height}x{width}: {type(error).__name__}: {reason}",
            "give it another --input-size or other channels, or let its constructor take input_size and in_channels",
        ) from error
    if not isinstance(answer, Tensor) or answer.shape != (1, classes):
        what = list(answer.shape[1:]) if isinstance(answer, Tensor) else type(answer).__name__
        raise ModelError(
            f"{name} gives {what} for an image where logits of {classes} classes are wanted",
            "let its constructor take `classes`, and its forward return logits [B, classes]",
        )


def _candidates(network: nn.Module, sample: Tensor, classes: int) -> Iterator[Plan]:
    if own_parts(network):
        yield Plan(kind="own")
    for bridge in ("", *_BRIDGES):
        yield from _chains(network, sample, bridge)
    for path, module in reversed(list(network.named_modules())):
        if isinstance(module, nn.Linear) and module.out_features == classes:
            yield Plan(kind="body", head=(path,))
            break
    yield Plan(kind="whole")


def _chains(network: nn.Module, sample: Tensor, bridge: str) -> Iterator[Plan]:
    """The children in a row; where that makes less than three stages, the largest sequence among them opened."""
    paths = [name for name, _ in network.named_children()]
    plan = _chain(network, paths, sample, bridge)
    for _ in range(2):
        if plan is None or len(plan.groups) > 3:
            break
        there = [(path, network.get_submodule(path)) for group in plan.groups for path in group]
        sequences = [(path, module) for path, module in there if type(module) is nn.Sequential]
        if not sequences:
            break
        largest, module = max(sequences, key=lambda one: _size(one[1]))
        where = paths.index(largest)
        inside = [f"{largest}.{name}" for name, _ in module.named_children()]
        paths = [*paths[:where], *inside, *paths[where + 1 :]]
        plan = _chain(network, paths, sample, bridge) or plan
    if plan is not None and len(plan.groups) > 1:
        yield plan


def _chain(network: nn.Module, paths: list[str], sample: Tensor, bridge: str) -> Plan | None:
    """Run the modules one after the other and part them where maps [B, C, H, W] end; None where they do not go on."""
    maps, values = 0, sample
    sizes: list[tuple[int, ...]] = []
    try:
        for position, path in enumerate(paths):
            module = network.get_submodule(path)
            if bridge and values.ndim == 4 and isinstance(_first_layer(module), nn.Linear):
                values = _BRIDGES[bridge]()(values)
            values = module(values)
            sizes.append(tuple(values.shape))
            if values.ndim == 4:
                maps = position + 1
    except Exception:  # not a chain: whatever does not fit raises what it likes
        return None
    # pooling of whole maps, and what has no weights after it, belongs to the head
    while maps > 1 and not _size(network.get_submodule(paths[maps - 1])) and _pools_all(network, paths, sizes, maps):
        maps -= 1
    groups: list[list[str]] = []
    for path in paths[:maps]:
        filters = _has_filters(network.get_submodule(path))
        if not groups or (filters and any(_has_filters(network.get_submodule(other)) for other in groups[-1])):
            groups.append([])
        groups[-1].append(path)
    if not groups or maps == len(paths):
        return None
    return Plan(kind="chain", groups=tuple(map(tuple, groups)), head=tuple(paths[maps:]), bridge=bridge)


def _pools_all(network: nn.Module, paths: list[str], sizes: list[tuple[int, ...]], maps: int) -> bool:
    module = network.get_submodule(paths[maps - 1])
    if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d | nn.Dropout | nn.Dropout2d):
        return True
    return sizes[maps - 1][2:] == (1, 1) and sizes[maps - 2][2:] != (1, 1)


def _repeats(source: str, plan: Plan, network: nn.Module, sample: Tensor) -> bool:
    """Whether the parts give the network's answers, in evaluation and in training, and no parameter is left over."""
    parts = _arranged(deepcopy(network), plan)
    if sum(map(_size, parts)) != _size(network):
        return False
    for training in (False, True):
        expected = _answer(source, network, sample, training)
        with _seeded_by(torch.Generator().manual_seed(1)):
            answer = sample
            try:
                for part in parts:
                    answer = part.train(training)(answer)
            except Exception:  # this is not how the network works
                return False
        if answer.shape != expected.shape or not (answer - expected).abs().max() <= _CLOSE * expected.abs().max():
            return False
        if not expected.std() > 0:  # answers that are all the same prove nothing
            return plan.kind == "whole"
    return True


def _answer(source: str, network: nn.Module, sample: Tensor, training: bool) -> Tensor:
    with _seeded_by(torch.Generator().manual_seed(1)):
        try:
            answer = network.train(training)(sample)
        except Exception as error:
            raise ModelError(f"{short_name(source)} cannot be trained: {error}") from error
    if not isinstance(answer, Tensor):
        raise ModelError(
            f"{short_name(source)} returns a {type(answer).__name__} in training, where logits are wanted",
            "let its forward return the logits [B, classes] alone",
        )
    return answer


def _arranged(network: nn.Module, plan: Plan) -> tuple[nn.Module, nn.Sequential, nn.Module]:
    """Stem, stages and head out of the network's own modules."""
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment] - the maps that a stage gives must stay as they were
    if plan.kind == "own":
        return network.stem, network.stages, network.head  # type: ignore[return-value]
    if plan.kind == "chain":
        stages = nn.Sequential()
        for group in plan.groups[1:]:
            stages.add_module(_stage_name(group), _joined(network, group))
        return _joined(network, plan.groups[0]), stages, _chain_head(network, plan)
    head = nn.Sequential(OrderedDict(flatten=nn.Flatten()))
    if plan.kind == "body":
        path = plan.head[0]
        head.add_module("linear", network.get_submodule(path))
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
    return nn.Identity(), nn.Sequential(OrderedDict(body=Whole(network))), head


def _chain_head(network: nn.Module, plan: Plan) -> nn.Module:
    modules = {_flat(path): network.get_submodule(path) for path in plan.head}
    if not plan.bridge:
        return _joined(network, plan.head)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in modules.items():
        if isinstance(_first_layer(module), nn.Linear) and plan.bridge not in parts:
            parts[plan.bridge] = _BRIDGES[plan.bridge]()
        parts[name] = module
    return nn.Sequential(parts)


def _joined(network: nn.Module, paths: tuple[str, ...]) -> nn.Module:
    """The module itself where there is one, else all of them in a row."""
    if len(paths) == 1:
        return network.get_submodule(paths[0])
    return nn.Sequential(OrderedDict((_flat(path), network.get_submodule(path)) for path in paths))


def _patterns(plan: Plan) -> tuple[tuple[str, str], ...]:
    """From the network's own keys to those of its parts; what has been renamed carries a mark until all are."""
    if plan.kind == "own":
        return ()
    moves: list[tuple[str, str]] = []
    if plan.kind == "chain":
        for number, group in enumerate(plan.groups):
            part = "stem" if number == 0 else f"stages.{_stage_name(group)}"
            moves += [(path, part if len(group) == 1 else f"{part}.{_flat(path)}") for path in group]
        alone = len(plan.head) == 1 and not plan.bridge
        moves += [(path, "head" if alone else f"head.{_flat(path)}") for path in plan.head]
    elif plan.kind == "body":
        moves.append((plan.head[0], "head.linear"))
    # the longest paths first: `features.1` is not to be caught by `features`
    moves.sort(key=lambda move: -len(move[0]))
    patterns = [(rf"^{re.escape(path)}\.", f"{_MARK}{target}.") for path, target in moves]
    if plan.kind in ("body", "whole"):
        patterns.append((rf"^(?!{_MARK})", f"{_MARK}stages.body.network."))
    return (*patterns, (rf"^{_MARK}", ""))


def _stage_name(group: tuple[str, ...]) -> str:
    name = _flat(group[0])
    return f"stage{name}" if name[0].isdigit() or hasattr(nn.Sequential, name) else name


def _flat(path: str) -> str:
    """A path as a name."""
    return path.replace(".", "_")


# small words ----------------------------------------------------------------------------------------------------------


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _has_filters(module: nn.Module) -> bool:
    """Whether anything in it mixes its inputs by weights, as a convolution does and a normalisation does not."""
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _first_layer(module: nn.Module) -> nn.Module | None:
    """The first layer in it that has weights."""
    return next((leaf for leaf in module.modules() if not list(leaf.children()) and _size(leaf)), None)


@contextmanager
def _seeded_by(generator: Generator | None) -> Iterator[None]:
    """Inside, torch's global generator goes on from a seed drawn from `generator`; None leaves it alone."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _fill(network: nn.Module, generator: Generator) -> None:
    """Weights that keep a signal alive, whatever the constructor left: He's variance, scales around one."""
    for parameter in network.parameters():
        values = torch.rand(parameter.shape, generator=generator)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
        parameter.copy_((2 * values - 1) * (6 / fan_in) ** 0.5 if fan_in else 0.5 + values)
