"""What a unit sees of the image: in theory, in fact, and how both grow from layer to layer.

The theoretical field is read off the anatomy. Inside it pixels count differently: the effective field is the gradient
of the unit with respect to each pixel. Luo et al. 2016, 1701.04128, sec. 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from striate.anatomy import Layer, anatomy_of
from striate.checkpoint import SavedModel
from striate.errors import ModelError, UsageError
from striate.explanation.chosen import Chosen, spread
from striate.explanation.places import Place, check_unit, find_place, map_places, watched
from striate.explanation.undisturbed import undisturbed
from striate.explanation.views.reading import Read, as_seen, batches
from striate.explanation.views.view import View
from striate.explanation.views.windows import Sight, Window, sights_of
from striate.progress import Progress

_IMAGES, _BATCH = 16, 4  # over which the effective field is averaged; passed at once
_GROWING, _PLACES = (
    2,
    8,
)  # images and places by which the growth of the effective field is measured: a backward pass each
_COUNTS = 1 - 0.9545  # of the strongest pixel's gradient: what lies above is the effective field (Luo et al., sec. 3)


@dataclass(frozen=True, slots=True)
class Step:
    """A layer at which the field grows, or the units move apart."""

    layer: str
    op: str  # "conv 3x3/2", "max 3x3/2" ...
    size: int  # theoretical, pixels
    stride: float | None  # pixels between neighbouring units


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptiveField(View):
    """What one unit of a layer sees."""

    kind: ClassVar[str] = "field"
    unit: int | None  # the map; None: all maps together
    at: tuple[int, int]  # row and column of the unit
    image: np.ndarray = field(repr=False)  # [H, W, C] from 0 to 1
    theoretical: Window | None  # as if the image went on; None where units differ without a pattern
    exact: Window  # what is there of it
    effective: np.ndarray = field(repr=False)  # float32 [H, W], root mean square of the gradient
    averaged: int  # over how many images
    steps: tuple[Step, ...]
    sizes: Mapping[str, tuple[int, float]]  # by place: theoretical and effective size of the unit in the middle

    @property
    def name(self) -> str:
        """See `View.name`."""
        where = "" if self.unit is None else f"-map{self.unit}"
        return f"field-{self.layer}{where}"

    @property
    def effective_size(self) -> float:
        """Side in pixels of a square as large as the effective field."""
        return effective_size(self.effective)

    def figure(self) -> Any:
        """See `View.figure`."""
        from striate.explanation.views.receptive_figure import draw_field

        return draw_field(self)

    def to_dict(self) -> dict[str, Any]:
        """See `View.to_dict`."""
        rows = {
            "unit": self.unit, "at": list(self.at), "exact": list(self.exact), "effective_size": self.effective_size,
            "theoretical": None if self.theoretical is None else list(self.theoretical), "images": self.averaged,
            "growth": [asdict(one) for one in self.steps],
            "places": [
                {"layer": name, "size": size, "effective_size": effective}
                for name, (size, effective) in self.sizes.items()
            ],
        }  # fmt: skip
        return View.to_dict(self) | rows


def receptive_field(
    saved: SavedModel,
    chosen: Chosen | None = None,
    layer: str | None = None,
    *,
    unit: int | None = None,
    at: tuple[int, int] | None = None,
    seed: int = 0,
    network: str = "",
    progress: Progress | None = None,
) -> ReceptiveField:
    """What the unit of map `unit` (None: of any) at row and column `at` of a layer sees.

    Without `at` it is the unit in the middle, or that at which map `unit` is strongest in the first image. The gradient
    is averaged over up to 16 images, or over noise where there are none; that of all maps together is the root mean
    square over them, estimated by random signs.

    Raises:
        UnknownNameError: no such layer.
        UsageError: no such unit.
        ModelError: the layer has no maps, and so no units with places.
        DataError: not one image could be read.
    """
    progress = progress or Progress()
    place = find_place(saved.model, layer)
    others = [one.place for one in map_places(saved.model)]
    others = [others[number] for number in spread(len(others), _PLACES)]
    places = list({one.path: one for one in (*others, place)}.values())
    sights = sights_of(saved, places)
    sight = sights[place.path]
    images = list(_images(saved, chosen, seed, progress))
    first = images[0].images[:1]
    shape = _shape(saved.model, first, place)
    check_unit(unit, shape[0], place.name)
    at = at or (sight.middle if unit is None or chosen is None else _strongest(saved.model, first, place, unit))
    if at[0] >= shape[1] or at[1] >= shape[2]:
        raise UsageError(f"{place.name} has no unit at {at[0]},{at[1]}", f"its maps are {shape[1]} by {shape[2]}")
    spots = {one.path: sights[one.path].middle for one in others}
    generator = torch.Generator().manual_seed(seed)
    few = [Read(images[0].rows[:_GROWING], images[0].images[:_GROWING])]
    growing = effective_fields(saved.model, few, spots, generator=generator, progress=progress)
    own = effective_fields(saved.model, images, {place.path: at}, unit=unit, generator=generator, progress=progress)
    anatomy = anatomy_of(saved.model, training=False)
    notes = () if chosen is not None else ("there are no images: the gradient is that for noise",)
    if not own[place.path].any():
        notes += ("the unit is silent for every image, and has no gradient; another place or map may have one",)
    return ReceptiveField(
        network=network, layer=place.name, unit=unit, at=at, image=as_seen(saved, first)[0],
        theoretical=sight.theoretical(*at), exact=sight.exact(*at), effective=own[place.path],
        averaged=sum(len(one.rows) for one in images), steps=_steps(anatomy.layers),
        sizes={one.name: _sizes(sights[one.path], growing[one.path]) for one in others},
        notes=notes,
    )  # fmt: skip


def effective_fields(
    model: nn.Module,
    read: Sequence[Read],
    spots: Mapping[str, tuple[int, int]],
    *,
    unit: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """For each layer, by path, the root mean square [H, W] of the gradient of its unit at a place, over images.

    Colours are added up as squares. Of all maps (`unit` None) the mean square is that of a sum with random signs.

    Args:
        model: any network; it stays as it was.
        read: normalised images.
        spots: row and column of the unit, for the path of each layer.
        unit: the map.
        generator: of the signs.
        progress: shows how far it is.
    """
    squares: dict[str, Tensor] = {}
    count = sum(len(one.rows) for one in read)
    with (progress or Progress()).task("effective fields", count * len(spots)) as task:
        for one in read:
            with undisturbed(model), watched(model, list(spots)) as seen:
                leaf = one.images.detach().clone().requires_grad_()
                model(leaf.clone())
                for path, (row, column) in spots.items():
                    outputs = seen[path]
                    signal = torch.zeros_like(outputs)
                    if unit is None:
                        shape = outputs.shape[:2]
                        signs = torch.randint(0, 2, shape, generator=generator).to(outputs) * 2 - 1
                        signal[:, :, row, column] = signs / sqrt(shape[1])
                    else:
                        signal[:, unit, row, column] = 1
                    found = torch.autograd.grad(outputs, leaf, signal, retain_graph=True)[0]
                    part = found.double().pow(2).sum((0, 1)).cpu() / count
                    squares[path] = squares[path] + part if path in squares else part
                    task.advance(len(one.rows))
    return {path: found.sqrt().float().numpy() for path, found in squares.items()}


def effective_size(gradient: np.ndarray) -> float:
    """Side of a square of as many pixels as lie above 4.55 % of the strongest; 0 where nothing has an effect."""
    top = float(gradient.max())
    return sqrt(int((gradient > _COUNTS * top).sum())) if top > 0 else 0.0


def _images(saved: SavedModel, chosen: Chosen | None, seed: int, progress: Progress) -> Iterator[Read]:
    if chosen is not None:
        rows = spread(len(chosen.images), _IMAGES)
        yield from batches(saved, chosen, rows, batch=_BATCH, progress=progress, title="reading")
        return
    generator = torch.Generator().manual_seed(seed)
    like = next((one for one in saved.model.parameters()), torch.zeros(1))
    for start in range(0, _IMAGES, _BATCH):
        shape = (_BATCH, saved.spec.channels, *saved.spec.size)
        yield Read(list(range(start, start + _BATCH)), torch.randn(shape, generator=generator).to(like.device))


def _shape(model: nn.Module, image: Tensor, place: Place) -> tuple[int, int, int]:
    outputs = _outputs(model, image, place)
    if outputs.ndim != 4:
        raise ModelError(
            f"{place.name} has no maps: each of its units sees the whole image", "name a layer that has maps"
        )
    return outputs.shape[1], outputs.shape[2], outputs.shape[3]


def _strongest(model: nn.Module, image: Tensor, place: Place, unit: int) -> tuple[int, int]:
    found = _outputs(model, image, place)[0, unit]
    row, column = divmod(int(found.argmax()), found.shape[1])
    return row, column


def _outputs(model: nn.Module, image: Tensor, place: Place) -> Tensor:
    with undisturbed(model), torch.no_grad(), watched(model, [place.path]) as seen:
        model(image)
    return seen[place.path]


def _sizes(sight: Sight, effective: np.ndarray) -> tuple[int, float]:
    size = sight.size
    return (max(size) if size else max(sight.image)), effective_size(effective)


def _steps(layers: Sequence[Layer]) -> tuple[Step, ...]:
    """The rows at which the field gets larger than it ever was, or the units further apart."""
    steps: list[Step] = []
    size, apart = 1, 1.0
    for one in layers:
        if one.field is None or not one.field.is_map or one.receptive_field is None:
            continue
        stride = float(one.stride) if one.stride is not None else None
        if one.receptive_field > size or (stride is not None and stride > apart):
            size, apart = max(size, one.receptive_field), max(apart, stride or apart)
            steps.append(Step(one.name, one.op, one.receptive_field, stride))
    return tuple(steps)
