"""The one anatomy that every tool relies on: `stem`, `stages`, `head`; and the record to build a network from again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Generator, Tensor, nn

from striate.errors import ModelError
from striate.layers.heads import classification_loss
from striate.models.naming import Naming


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Everything that is needed to build a network again, as plain values; it is part of every model file."""

    name: str  # in the registry
    config: Mapping[str, Any]  # every field of the family's config, resolved
    in_channels: int
    classes: int
    input_size: tuple[int, int]  # height, width in pixels
    # Where the network was cut (`models.cut`): a linear head reads `cut_features` numbers there, maps being averaged to
    # `cut_grid` by `cut_grid` cells, 0 where there are none.
    cut: str | None = None
    cut_grid: int = 1
    cut_features: int = 0
    sides: tuple[tuple[str, int, int], ...] = ()  # earlier places that are read likewise: (place, grid, features)

    @property
    def title(self) -> str:
        """What to call it where its layers are shown."""
        return self.name if self.cut is None else f"{self.name} cut at {self.cut}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "config": dict(self.config)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The reverse of `to_dict`; lists become tuples.

        Raises:
            ModelError: fields missing or unknown.
        """
        try:
            return cls(**{key: _frozen(value) for key, value in values.items()})
        except TypeError as error:
            raise ModelError(f"not the record of an architecture: {error}") from error


class Outputs(NamedTuple):
    """What a network with auxiliary heads returns in training: the logits [B, classes] of each of its heads."""

    logits: Tensor
    aux: dict[str, Tensor]  # by the stage that the auxiliary head reads


class ConvNet(nn.Module):
    """A classifier [B, in_channels, H, W] -> logits [B, classes].

    A family sets `config_type`, builds `stem`, `stages` (named blocks in order, possibly none) and `head` in its
    constructor, and optionally `auxiliary` heads by the name of the stage they read. How the weights start is said in
    `reset_parameters()`, which `create_model` calls.
    """

    config_type: ClassVar[type]
    auxiliary_weight: ClassVar[float] = 0.3  # of each auxiliary head's loss: Szegedy et al. 2014, 1409.4842, sec. 5

    stem: nn.Module
    stages: nn.Sequential
    head: nn.Module
    auxiliary: nn.ModuleDict
    sides: nn.Sequential  # of a network that was cut, by place: linear layers that read it and add to the logits

    def __init__(self, name: str, config: Any, in_channels: int, classes: int, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.architecture = Architecture(
            name=name, config=asdict(config), in_channels=in_channels, classes=classes, input_size=input_size
        )
        self.auxiliary, self.sides = nn.ModuleDict(), nn.Sequential()
        smallest = self.smallest_size(config)
        if min(input_size) < smallest:
            raise ModelError(
                f"{name} needs images of at least {smallest}x{smallest} pixels, got {input_size[0]}x{input_size[1]}",
                f"use an input size of {smallest} or more, or another network",
            )

    @classmethod
    def last_side(cls, config: Any, side: int) -> int:
        """Side in pixels of the last feature map for an image of `side` pixels; below 1 where that is too small."""
        raise NotImplementedError

    @classmethod
    def smallest_size(cls, config: Any) -> int:
        """The smallest side of an image, in pixels, whose geometry works out."""
        return next(side for side in range(1, 4096) if cls.last_side(config, side) >= 1)

    @classmethod
    def namings(cls, config: Any) -> tuple[Naming, ...]:
        """The names that publishers of weights give the parameters of the network with this config."""
        return ()

    def published_names(self) -> tuple[Naming, ...]:
        """`namings` of this very network."""
        return self.namings(self.config_type(**self.architecture.config))

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Start every parameter as the paper says."""
        raise NotImplementedError

    @property
    def starts_from_images(self) -> bool:
        """Whether `fit_start` has something to do that it has not done."""
        return False

    def fit_start(self, images: Tensor) -> None:
        """Set what the paper's start takes from normalised training images [B, in_channels, H, W]: mostly nothing."""

    def features(self, images: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> the last feature maps, [B, C, h, w]."""
        return self.stages(self.stem(images))

    def forward(self, images: Tensor) -> Tensor | Outputs:
        """[B, in_channels, H, W] -> logits [B, classes]; `Outputs` in training where there are auxiliary heads."""
        with_auxiliary = self.training and len(self.auxiliary) > 0
        if not with_auxiliary and not len(self.sides):
            return self.head(self.features(images))
        maps, extra, sides = self.stem(images), {}, dict(self.sides.named_children())
        added: list[Tensor] = [sides["stem"](maps)] if "stem" in sides else []
        for name, stage in self.stages.named_children():
            maps = stage(maps)
            if name in sides:
                added.append(sides[name](maps))
            if with_auxiliary and name in self.auxiliary:
                extra[name] = self.auxiliary[name](maps)
        logits: Tensor = sum(added, self.head(maps))  # type: ignore[assignment]
        return Outputs(logits, extra) if with_auxiliary else logits

    def loss(
        self,
        outputs: Tensor | Outputs,
        targets: Tensor,
        *,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """The loss of logits [B, classes] against classes [B]: the head's own where it has one, else cross-entropy.

        Against several labels an image, float [B, classes], it is the binary cross-entropy (`classification_loss`).
        `weight` [classes], `label_smoothing` and `reduction` (mean, sum, none) as in
        `torch.nn.functional.cross_entropy`. Auxiliary heads, in training, add `auxiliary_weight` of
        each of their losses.

        Raises:
            ModelError: several labels an image for a head with a loss of its own.
        """
        if targets.is_floating_point():
            self.check_labels(multi_label=True)
        criterion = getattr(self.head, "loss", classification_loss)
        settings: dict[str, Any] = {"weight": weight, "label_smoothing": label_smoothing, "reduction": reduction}
        if not isinstance(outputs, Outputs):
            return criterion(outputs, targets, **settings)
        extra = [classification_loss(logits, targets, **settings) for logits in outputs.aux.values()]
        return criterion(outputs.logits, targets, **settings) + self.auxiliary_weight * sum(extra)

    def check_labels(self, *, multi_label: bool) -> None:
        """Whether the head can learn several labels an image, where it is to.

        Raises:
            ModelError: it has a loss of its own, which is made for one class an image.
        """
        if multi_label and hasattr(self.head, "loss"):
            raise ModelError(
                f"the head of {self.architecture.name} has a loss of its own, which takes one class an image",
                "several labels an image need another network, such as compact_s or resnet18",
            )


def require(family: str, what: str, value: object, known: Iterable[object]) -> None:
    """Check a config's choice.

    Raises:
        ModelError: `value` is not among `known`; the message lists them.
    """
    if value not in (choices := list(known)):
        raise ModelError(f"{family} has no {what} {value!r}", f"it has: {', '.join(map(str, choices))}")


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return value
