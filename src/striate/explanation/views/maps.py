"""The maps that a layer makes of an image, all on one scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.explanation.chosen import Chosen, spread
from striate.explanation.figures import GREY, HEAT, SIGNED
from striate.explanation.places import check_unit, find_place, watched
from striate.explanation.undisturbed import undisturbed
from striate.explanation.views.canvas import FAINT, MARGIN, SMALL, Canvas, grid_of
from striate.explanation.views.reading import as_seen, batches, flat_image
from striate.explanation.views.view import View
from striate.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 64  # maps in a figure, unless asked otherwise
_IMAGES = 4  # of a folder or data set
_ROBUST = 99.5  # percentile of what is shown at full strength
_IMAGE = 2.1  # inches


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMaps(View):
    """What a layer makes of one image: float32 [maps, height, width], or [units] where it has no maps."""

    kind: ClassVar[str] = "maps"
    path: str
    image: np.ndarray = field(repr=False)  # [H, W, C] from 0 to 1
    maps: np.ndarray = field(repr=False)
    shown: tuple[int, ...] = ()  # which maps are in the figure

    @property
    def name(self) -> str:
        """See `View.name`."""
        return f"{Path(self.path).stem}-maps-{self.layer}"

    @property
    def signed(self) -> bool:
        """Whether there are values below 0 to speak of."""
        return bool(self.maps.min() < -0.01 * max(self.maps.max(), 1e-9))

    def figure(self) -> Figure:
        """See `View.figure`."""
        return _maps(self) if self.maps.ndim == 3 else _units(self)

    def to_dict(self) -> dict[str, Any]:
        """See `View.to_dict`."""
        strengths = self.maps.reshape(len(self.maps), -1).max(1)
        rows = {"path": self.path, "shape": list(self.maps.shape), "shown": list(self.shown)}
        return View.to_dict(self) | rows | {"strongest": strengths.tolist()}


def feature_maps(
    saved: SavedModel,
    chosen: Chosen,
    layer: str | None = None,
    *,
    unit: int | None = None,
    most: int | None = None,
    network: str = "",
    progress: Progress | None = None,
) -> Iterator[FeatureMaps]:
    """What `layer` makes of each image; of folders and data sets four are taken, evenly spread.

    Of more than `most` maps those are shown that are strongest somewhere in this image.

    Raises:
        UnknownNameError: no such layer.
        UsageError: no such map.
        ModelError: the layer gives no tensor, or by default: the network has no maps.
        DataError: not one image could be read.
    """
    place = find_place(saved.model, layer)
    rows = spread(len(chosen.images), _IMAGES) if chosen.page else None
    for read in batches(saved, chosen, rows, progress=progress, title=f"maps of {place.name}"):
        with undisturbed(saved.model), torch.no_grad(), watched(saved.model, [place.path]) as seen:
            saved.model(read.images)
        outputs = seen[place.path].float().cpu().numpy()
        outputs = outputs if outputs.ndim in (2, 4) else outputs.reshape(len(outputs), -1)
        outputs = outputs[:, :, 0, 0] if outputs.ndim == 4 and outputs.shape[2:] == (1, 1) else outputs
        check_unit(unit, outputs.shape[1], place.name)
        for row, image, maps in zip(read.rows, as_seen(saved, read.images), outputs, strict=True):
            shown = (unit,) if unit is not None else _strongest(maps, most or _MOST)
            yield FeatureMaps(
                network=network, layer=place.name, path=chosen.names[row], image=image, maps=maps, shown=shown
            )


def _strongest(maps: np.ndarray, most: int) -> tuple[int, ...]:
    peaks = np.abs(maps.reshape(len(maps), -1)).max(1)
    return tuple(sorted(np.argsort(-peaks, kind="stable")[:most].tolist()))


def _maps(view: FeatureMaps) -> Figure:
    count, (height, width) = len(view.shown), view.maps.shape[1:]
    grid = grid_of(count, height / width, width=7.2, most=3.2 if count == 1 else 1.1)
    image_high = _IMAGE * view.image.shape[0] / view.image.shape[1]
    left, top = 2 * MARGIN + _IMAGE, 0.75
    canvas = Canvas(max(left + grid.width + MARGIN, 6.2), top + max(grid.height, image_high + 1.0) + 0.1)
    canvas.title(f"{view.network} · {view.layer}".lstrip(" ·"), _about(view))
    canvas.tile(flat_image(view.image), MARGIN, top + 0.15, _IMAGE, image_high, cmap=GREY, vmin=0, vmax=1)
    canvas.text(Path(view.path).name[:36], MARGIN, top + 0.2 + image_high, SMALL, color=FAINT)
    style, drawn = _scale(view), None
    for number, unit in enumerate(view.shown):
        x, y = grid.place(number)
        canvas.text(
            str(unit), left + x + grid.tile[0] / 2, top + y - 0.02, SMALL - 1, ha="center", va="bottom", color=FAINT
        )
        drawn = canvas.tile(view.maps[unit], left + x, top + y, *grid.tile, **style)
    canvas.bar(drawn, "activation", MARGIN, top + 0.55 + image_high, _IMAGE)
    return canvas.figure


def _units(view: FeatureMaps) -> Figure:
    """A layer without maps: a bar for each unit."""
    image_high = _IMAGE * view.image.shape[0] / view.image.shape[1]
    canvas = Canvas(9.0, 0.75 + max(image_high, 1.6) + 0.65)
    canvas.title(f"{view.network} · {view.layer}".lstrip(" ·"), f"{len(view.maps)} units, without places")
    canvas.tile(flat_image(view.image), MARGIN, 0.9, _IMAGE, image_high, cmap=GREY, vmin=0, vmax=1)
    canvas.text(Path(view.path).name[:36], MARGIN, 0.95 + image_high, SMALL, color=FAINT)
    axes = canvas.axes(_IMAGE + 4.5 * MARGIN, 0.9, 9.0 - _IMAGE - 5.5 * MARGIN, max(image_high, 1.6) - 0.1)
    axes.bar(range(len(view.maps)), view.maps, width=1.0 if len(view.maps) > 150 else 0.8, color="#4477aa")
    for unit in view.shown if len(view.shown) == 1 else ():
        axes.axvline(unit, color="#ee7733", linewidth=1)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    axes.set_xlim(-0.6, len(view.maps) - 0.4)
    axes.set_xlabel("unit", fontsize=SMALL + 0.5)
    axes.set_ylabel("activation", fontsize=SMALL + 0.5)
    return canvas.figure


def _scale(view: FeatureMaps) -> dict[str, Any]:
    """One for all maps, so that a weak one looks weak."""
    values = view.maps[list(view.shown)]
    top = float(np.percentile(np.abs(values), _ROBUST)) or float(np.abs(values).max()) or 1.0
    return {"cmap": SIGNED, "vmin": -top, "vmax": top} if view.signed else {"cmap": HEAT, "vmin": 0, "vmax": top}


def _about(view: FeatureMaps) -> str:
    maps, height, width = view.maps.shape
    if len(view.shown) == maps:
        return f"{maps} maps of {height} by {width}, on one scale"
    if len(view.shown) == 1:
        return f"map {view.shown[0]} of {maps}, {height} by {width}"
    return f"the {len(view.shown)} strongest of {maps} maps of {height} by {width}, on one scale"
