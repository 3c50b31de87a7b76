"""The kernels of a convolution as pictures; those of the first layer look at pixels and can be looked at as such.

Krizhevsky et al. 2012, fig. 3; Zeiler & Fergus 2013, 1311.2901, fig. 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import nn

from striate.anatomy import anatomy_of
from striate.errors import ModelError
from striate.explanation.figures import SIGNED, in_rgb
from striate.explanation.places import find_place
from striate.explanation.views.canvas import FAINT, MARGIN, SMALL, Canvas, Grid, grid_of
from striate.explanation.views.view import View
from striate.spec import InputSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KERNEL = 4  # dimensions of a convolution's weights: [filters, channels, height, width]
_MOST = 64  # filters in a figure, unless asked otherwise
_CHANNELS = 12  # of a deeper layer's filters


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters(View):
    """The kernels of one convolution, float32 [filters, channels, height, width], colours as RGB."""

    kind: ClassVar[str] = "filters"
    weights: np.ndarray = field(repr=False)
    most: int = _MOST  # filters in the figure

    @property
    def norms(self) -> np.ndarray:
        """The Euclidean norm of each filter, float32 [filters]: 0 is a dead one."""
        return np.sqrt((self.weights.astype(np.float64) ** 2).sum((1, 2, 3))).astype(np.float32)

    @property
    def of_pixels(self) -> bool:
        """Whether each filter is a picture itself, grey or in colour."""
        return self.weights.shape[1] in (1, 3)

    def tiles(self) -> np.ndarray:
        """Each filter as a picture [filters, H, W, 1 or 3] from 0 to 1, grey for 0, at its own full contrast."""
        tops = np.abs(self.weights).max((1, 2, 3), keepdims=True)
        return 0.5 + (self.weights / np.where(tops > 0, 2 * tops, 1)).transpose(0, 2, 3, 1)

    def figure(self) -> Figure:
        """See `View.figure`."""
        return _pictures(self) if self.of_pixels else _matrix(self)

    def to_dict(self) -> dict[str, Any]:
        """See `View.to_dict`."""
        return View.to_dict(self) | {"shape": list(self.weights.shape), "norms": self.norms.tolist()}


def filters_of(
    model: nn.Module,
    layer: str | None = None,
    *,
    spec: InputSpec | None = None,
    network: str = "",
    most: int | None = None,
) -> Filters:
    """The kernels of the convolution that is, or comes first in, `layer`; None takes the network's first.

    Args:
        model: any network.
        layer: a place or the path of a module.
        spec: in which order its colours are; None is RGB.
        network: what to call it.
        most: filters in the figure.

    Raises:
        UnknownNameError: no such layer.
        ModelError: no convolution there.
    """
    path = _convolution_in(model, layer)
    weights: Any = model.get_submodule(path).weight
    values = weights.detach().float().cpu().numpy()
    values = values if spec is None else in_rgb(values, spec)
    return Filters(network=network, layer=path, weights=np.ascontiguousarray(values), most=most or _MOST)


def _convolution_in(model: nn.Module, layer: str | None) -> str:
    """The path of the first module with kernels in order of execution."""
    paths = [path for path, module in model.named_modules() if _has_kernels(module)]
    if layer is not None:
        inside = find_place(model, layer).path
        paths = [path for path in paths if path == inside or path.startswith(f"{inside}.")]
    elif len(paths) > 1:  # as they run, not as they are listed
        runs = [one.name for one in anatomy_of(model, training=False).layers]
        paths = [path for path in runs if path in paths] or paths
    if not paths:
        where = f"the layer {layer}" if layer is not None else type(model).__name__
        raise ModelError(
            f"{where} has no kernels to show", "kernels are those of convolutions that share them between all places"
        )
    return paths[0]


def _has_kernels(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and getattr(weight, "ndim", 0) == _KERNEL


def _pictures(shown: Filters) -> Figure:
    tiles, norms = shown.tiles()[: shown.most], shown.norms
    count, height, width = tiles.shape[:3]
    grid = grid_of(count, height / width)
    wide = max(grid.width, 5.2) + 2 * MARGIN
    canvas = Canvas(wide, 0.72 + grid.height + 1.25)
    _heading(canvas, shown, f"{'grey' if tiles.shape[3] == 1 else 'mid-grey'} is 0, each at its own full contrast")
    for number, tile in enumerate(tiles):
        left, top = grid.place(number)
        _numbered(canvas, grid, number, left + MARGIN, top + 0.72)
        flat = tile[..., 0] if tile.shape[2] == 1 else tile
        canvas.tile(flat, left + MARGIN, top + 0.72, *grid.tile, cmap="gray", vmin=0, vmax=1)
        canvas.frame(left + MARGIN, top + 0.72, *grid.tile)
    axes = canvas.axes(MARGIN + 0.45, 0.72 + grid.height + 0.22, wide - 2 * MARGIN - 0.45, 0.55)
    axes.bar(range(len(norms)), norms, width=0.8, color="#4477aa")
    axes.set_xlim(-0.6, len(norms) - 0.4)
    axes.locator_params(axis="y", nbins=3)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("filter", fontsize=SMALL + 0.5)
    axes.set_ylabel("norm", fontsize=SMALL + 0.5)
    return canvas.figure


def _matrix(shown: Filters) -> Figure:
    """Deeper kernels: a row for each filter, a column for each channel that it reads, one scale for all."""
    rows = shown.weights[: min(shown.most, 16), :_CHANNELS]
    filters, channels, height, width = rows.shape
    top = float(np.abs(rows).max()) or 1.0
    pitch = 0.5
    side = pitch - 0.05
    tall = side * height / width
    canvas = Canvas(max(5.2, channels * pitch + 0.5) + 2 * MARGIN, 1.0 + filters * (tall + 0.05) + 0.75)
    _heading(canvas, shown, f"{filters} filters (rows) and {channels} of the channels that each reads")
    drawn = None
    for row in range(filters):
        y = 0.95 + row * (tall + 0.05)
        canvas.text(str(row), MARGIN + 0.3, y + tall / 2, SMALL, ha="right", va="center", color=FAINT)
        for column in range(channels):
            x = MARGIN + 0.4 + column * pitch
            if row == 0:
                canvas.text(str(column), x + side / 2, 0.92, SMALL, ha="center", va="bottom", color=FAINT)
            drawn = canvas.tile(rows[row, column], x, y, side, tall, cmap=SIGNED, vmin=-top, vmax=top)
    canvas.bar(drawn, "weight", MARGIN + 0.4, canvas.height - 0.6, min(3.0, channels * pitch))
    return canvas.figure


def _heading(canvas: Canvas, shown: Filters, words: str) -> None:
    filters, channels, height, width = shown.weights.shape
    count = f"{min(filters, shown.most)} of {filters}" if filters > shown.most else str(filters)
    size = f"{height} by {width}" + (f" by {channels}" if channels > 1 else "")
    canvas.title(f"{shown.network} · {shown.layer}".lstrip(" ·"), f"{count} filters of {size}; {words}")


def _numbered(canvas: Canvas, grid: Grid, number: int, left: float, top: float) -> None:
    canvas.text(str(number), left + grid.tile[0] / 2, top - 0.02, SMALL - 1, ha="center", va="bottom", color=FAINT)
