"""For each map of a layer the images of a data set that it answers strongest to, and what its unit sees of them.

Zeiler & Fergus 2013, 1311.2901, fig. 2: the nine strongest, beside what the deconvnet brings back to the pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from striate.checkpoint import SavedModel
from striate.errors import UsageError
from striate.explanation.attribution import reconstruct
from striate.explanation.chosen import Chosen, spread
from striate.explanation.figures import in_rgb
from striate.explanation.places import Place, check_unit, find_place, watched
from striate.explanation.undisturbed import undisturbed
from striate.explanation.views.canvas import BEYOND, FAINT, MARGIN, SMALL, Canvas
from striate.explanation.views.reading import Read, as_seen, batches, names_of
from striate.explanation.views.view import View
from striate.explanation.views.windows import Sight, cut_out, cut_signal, sights_of
from striate.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 16  # maps in a figure, unless asked otherwise


@dataclass(frozen=True, slots=True)
class Found:
    """For each of m maps the k images in which it is strongest, best first; of equal ones the first that came."""

    values: np.ndarray  # float32 [m, k]
    rows: np.ndarray  # int64 [m, k], of the images
    spots: np.ndarray  # int64 [m, k, 2], row and column in the map
    looked_at: int  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class Strongest(View):
    """What each map of a layer answers strongest to.

    `crops[i][j]` is what the unit of map `shown[i]` sees of its j-th image, [h, w, 4]; transparent beyond the image.
    """

    kind: ClassVar[str] = "strongest"
    found: Found
    paths: tuple[tuple[str, ...], ...]  # of each map's images
    about: str  # which images were looked through
    shown: tuple[int, ...]  # the maps in the figure
    crops: list[list[np.ndarray]] = field(repr=False)
    reconstructions: list[list[np.ndarray]] = field(repr=False, default_factory=list)  # by the deconvnet, where asked

    def figure(self) -> Figure:
        """See `View.figure`."""
        return _blocks(self)

    def to_dict(self) -> dict[str, Any]:
        """See `View.to_dict`; every map is in it."""
        rows = [
            {"map": number, "images": [
                {"path": path, "value": float(value), "row": int(spot[0]), "column": int(spot[1])}
                for path, value, spot in zip(paths, values, spots, strict=True)
            ]}
            for number, (paths, values, spots) in enumerate(
                zip(self.paths, self.found.values, self.found.spots, strict=True)
            )
        ]  # fmt: skip
        counts = {"looked_at": self.found.looked_at, "shown": list(self.shown)}
        return View.to_dict(self) | counts | {"maps": rows}


def strongest_images(
    saved: SavedModel,
    chosen: Chosen,
    layer: str | None = None,
    *,
    top: int = 9,
    unit: int | None = None,
    most: int | None = None,
    deconvnet: bool = False,
    network: str = "",
    progress: Progress | None = None,
) -> Strongest:
    """Every map of `layer` on every image, each of which is passed once; an image counts once for a map.

    Of more than `most` maps that are ever positive, as many are shown, evenly spread.

    Raises:
        UnknownNameError: no such layer.
        UsageError: no such map.
        DataError: not one image could be read.
    """
    progress = progress or Progress()
    place = find_place(saved.model, layer)
    read = batches(saved, chosen, progress=progress, title=f"strongest of {place.name}")
    found = search(saved.model, read, place, top)
    check_unit(unit, len(found.values), place.name)
    shown = (unit,) if unit is not None else alive_maps(found.values[:, 0], most or _MOST - deconvnet)
    sight = sights_of(saved, [place])[place.path]
    crops, backs = _cut(saved, chosen, found, shown, place, sight, deconvnet)
    return Strongest(
        network=network, layer=place.name, found=found, about=chosen.about, shown=shown, crops=crops,
        paths=tuple(tuple(names_of(chosen, rows.tolist())) for rows in found.rows), reconstructions=backs,
        notes=_notes(found, chosen),
    )  # fmt: skip


def search(model: nn.Module, read: Iterable[Read], place: Place, top: int) -> Found:
    """The `top` strongest images of each map of `place`, [maps, at most `top`]; the model stays as it was.

    Args:
        model: any network.
        read: the images.
        place: the layer; of one without maps, each unit counts as a map of one place.
        top: images of each map.
    """
    values, rows, spots = torch.empty(0, 0), torch.empty(0, 0), torch.empty(0, 0)
    wide, looked_at = 1, 0
    for one in read:
        with undisturbed(model), torch.no_grad(), watched(model, [place.path]) as seen:
            model(one.images)
        outputs = seen[place.path].float().cpu()
        wide = outputs.shape[3] if outputs.ndim == 4 else 1
        peaks, places = outputs.reshape(len(outputs), outputs.shape[1], -1).max(2)  # [n, maps]
        own = torch.tensor(one.rows)[:, None].expand_as(peaks)
        if looked_at:
            peaks, places, own = torch.cat([values, peaks]), torch.cat([spots, places]), torch.cat([rows, own])
        looked_at += len(one.rows)
        order = peaks.nan_to_num(-torch.inf).sort(stable=True, dim=0, descending=True).indices[:top]
        values, spots, rows = (part.gather(0, order) for part in (peaks, places, own))
    both = torch.stack([spots // wide, spots % wide], 2)
    return Found(values.T.numpy(), rows.T.numpy(), both.transpose(0, 1).numpy(), looked_at)


def _cut(
    saved: SavedModel, chosen: Chosen, found: Found, shown: tuple[int, ...], place: Place, sight: Sight,
    deconvnet: bool,
) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:  # fmt: skip
    """What the units see, and where asked the deconvnet's pictures, of the maps `shown`."""
    pairs = [(number, rank) for number in range(len(shown)) for rank in range(found.rows.shape[1])]
    wanted = [int(found.rows[shown[number], rank]) for number, rank in pairs]
    crops: list[list[np.ndarray]] = [[] for _ in shown]
    backs: list[list[np.ndarray]] = [[] for _ in shown] if deconvnet else []
    done = 0
    for read in batches(saved, chosen, wanted):
        now = pairs[done : done + len(read.rows)]
        done += len(read.rows)
        seen = as_seen(saved, read.images)
        windows = [sight.window(*found.spots[shown[number], rank].tolist()) for number, rank in now]
        for (number, _), image, window in zip(now, seen, windows, strict=True):
            crops[number].append(cut_out(image, window))
        if deconvnet:
            back, _ = reconstructed(saved, read.images, place, [shown[number] for number, _ in now])
            for (number, _), signal, window in zip(now, back, windows, strict=True):
                backs[number].append(cut_signal(signal, window))
    return crops, backs


def reconstructed(
    saved: SavedModel, images: Tensor, place: Place, maps: Sequence[int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """What the deconvnet brings back of map `maps[i]` of image i, [n, C, H, W], colours as RGB; and its notes."""
    with undisturbed(saved.model):
        found = reconstruct(saved.model, images, place, maps)
    return in_rgb(found.maps.detach().float().cpu().numpy(), saved.spec), found.notes


def alive_maps(peaks: np.ndarray, most: int) -> tuple[int, ...]:
    """At most `most` maps, evenly spread over those that are ever positive; over all where none is."""
    alive = np.flatnonzero(peaks > 0)
    alive = alive if len(alive) else np.arange(len(peaks))
    return tuple(alive[spread(len(alive), most)].tolist())


def _notes(found: Found, chosen: Chosen) -> tuple[str, ...]:
    silent = np.flatnonzero(found.values[:, 0] <= 0).tolist()
    if not silent:
        return ()
    first = ", ".join(map(str, silent[:10])) + (" …" if len(silent) > 10 else "")
    return (f"{len(silent)} of {len(found.values)} maps are positive in none of {chosen.about}: {first}",)


_TILE, _GAP = 0.58, 0.04  # inches
_BETWEEN = 0.22  # blocks
_ABOVE = 0.9  # for the heading


def _blocks(view: Strongest) -> Figure:
    """A block of crops for each map, beside it the deconvnet's pictures."""
    if not view.shown:
        raise UsageError(f"{view.layer} has no map to show")
    top = view.found.rows.shape[1]
    high, wide = view.crops[0][0].shape[:2]
    columns = max(1, round(top**0.5))
    rows = -(-top // columns)
    tile = _TILE if len(view.shown) > 2 else 2 * _TILE
    tall = tile * high / wide
    halves = 2 if view.reconstructions else 1
    half = columns * (tile + _GAP)
    block = halves * half + (0.04 if halves == 2 else 0)
    across = max(1, min(len(view.shown), int((12.0 if halves == 2 else 9.2) / (block + _BETWEEN))))
    down = -(-len(view.shown) // across)
    each = 0.2 + rows * (tall + _GAP) + _BETWEEN
    canvas = Canvas(max(across * (block + _BETWEEN) - _BETWEEN + 2 * MARGIN, 7.0), _ABOVE + down * each)
    canvas.title(f"{view.network} · {view.layer}".lstrip(" ·"), _about(view, high, wide))
    for number, unit in enumerate(view.shown):
        row, column = divmod(number, across)
        left, upper = MARGIN + column * (block + _BETWEEN), _ABOVE + row * each
        canvas.text(f"map {unit}", left, upper, SMALL)
        canvas.text(_short(view.found.values[unit, 0]), left + block - _GAP, upper, SMALL, ha="right", color=FAINT)
        for part, tiles in enumerate((view.crops, view.reconstructions)[:halves]):
            for rank, crop in enumerate(tiles[number]):
                down_, along = divmod(rank, columns)
                x = left + part * (half + 0.04) + along * (tile + _GAP)
                y = upper + 0.18 + down_ * (tall + _GAP)
                canvas.frame(x, y, tile, tall, fill=True, facecolor=BEYOND)
                canvas.tile(crop, x, y, tile, tall)
    return canvas.figure


def _about(view: Strongest, high: int, wide: int) -> str:
    maps = len(view.found.values)
    which = f"{len(view.shown)} of {maps} maps" if len(view.shown) < maps else f"{maps} maps"
    beside = ", beside it the deconvnet" if view.reconstructions else ""
    beyond = any(not crop[..., 3].all() for crops in view.crops for crop in crops)
    return (
        f"{which}, the {high} by {wide} pixels that the strongest unit sees{beside}; at the right the activation\n"
        f"{view.about}{'; blue-grey lies beyond the image' if beyond else ''}"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
