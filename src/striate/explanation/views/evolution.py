"""How features come about: filters and strongest activations of a run at each of its snapshots.

Zeiler & Fergus 2013, 1311.2901, fig. 4: of each map the strongest activation among all images, by the deconvnet back to
the pixels, over the epochs; low layers settle within a few, high ones late. Where another image becomes the strongest,
the picture jumps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from striate.checkpoint import SavedModel
from striate.errors import UsageError
from striate.explanation.chosen import Chosen, spread
from striate.explanation.places import Place, check_unit, find_place, map_places
from striate.explanation.views.canvas import BEYOND, FAINT, MARGIN, SMALL, Canvas, grid_of
from striate.explanation.views.filters import Filters, filters_of
from striate.explanation.views.reading import Read, batches
from striate.explanation.views.strongest import alive_maps, reconstructed, search
from striate.explanation.views.view import View
from striate.explanation.views.windows import cut_signal, sights_of
from striate.network.engines import run_of
from striate.progress import Progress
from striate.runfolder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SNAPSHOTS = "epoch-????.safetensors"  # the raw weights
_LAYERS = 4  # that are followed, unless one is named
_ROWS, _COLUMNS = 8, 10  # maps and epochs of a strip
_LOOKED_AT = 256  # images: each snapshot passes them all
_FRAMES = 60  # of an animation


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution(View):
    """Some maps of a layer at each snapshot: `pictures[epoch][map]`, [h, w], [h, w, 3] or [h, w, 4] from 0 to 1."""

    kind: ClassVar[str] = "evolution"
    what: str  # filters, or deconvnet
    epochs: tuple[int, ...]
    shown: tuple[int, ...]  # the maps
    likeness: tuple[float, ...]  # of each epoch to the last, 1 for the same; see `likeness_means`
    about: str
    pictures: list[list[np.ndarray]] = field(repr=False)
    jumps: list[list[bool]] = field(repr=False)  # [epoch][map]: another image is the strongest than before

    @property
    def name(self) -> str:
        """See `View.name`."""
        return "evolution-filters" if self.what == "filters" else f"evolution-{self.layer}"

    @property
    def likeness_means(self) -> str:
        """What `likeness` is, in words."""
        if self.what == "filters":
            return "likeness: cosine between all kernels and those of the last epoch"
        return "likeness: share of all maps that the same image is strongest of as at the last epoch"

    def figure(self) -> Figure:
        """See `View.figure`: a row for each map, a column for each epoch, of many more of the early ones."""
        return _strip(self, _columns(len(self.epochs)))

    def frames(self) -> list[Figure]:
        """See `View.frames`: a figure for each epoch, with all maps."""
        return [_frame(self, one) for one in spread(len(self.epochs), _FRAMES)]

    def to_dict(self) -> dict[str, Any]:
        """See `View.to_dict`."""
        rows = {"what": self.what, "epochs": list(self.epochs), "maps": list(self.shown)}
        return View.to_dict(self) | rows | {"likeness": [round(one, 6) for one in self.likeness]}


def evolution_of(
    saved: SavedModel,
    chosen: Chosen | None,
    layer: str | None = None,
    *,
    unit: int | None = None,
    most: int | None = None,
    network: str = "",
    progress: Progress | None = None,
) -> Iterator[Evolution]:
    """The filters of the first layer over the snapshots of a run, then the strongest activations of several layers.

    Args:
        saved: the network of a run that kept snapshots.
        chosen: the images that are looked through, of many `_LOOKED_AT`, evenly spread; None shows filters alone.
        layer: follow this one alone, by the deconvnet.
        unit: this map alone.
        most: maps in a figure; they are spread evenly over those that are positive somewhere at the last snapshot.
        network: what to call it.
        progress: shows how far it is.

    Raises:
        UsageError: no run, no snapshots, or no such map.
        UnknownNameError: no such layer.
        DataError: not one image could be read.
    """
    progress = progress or Progress()
    files = snapshots_of(saved)
    epochs = tuple(int(path.stem.split("-")[1]) for path in files)
    last = _with(saved, files[-1])
    if layer is None and unit is None:
        first = filters_of(last.model, spec=saved.spec)
        if first.of_pixels:
            yield _of_filters(saved, files, epochs, first, most or _ROWS, network)
    if chosen is None:
        return
    rows = spread(len(chosen.images), _LOOKED_AT)
    images = list(batches(saved, chosen, rows, progress=progress, title="images"))
    about = chosen.about + (f" ({len(rows)} of {len(chosen.images)})" if len(rows) < len(chosen.images) else "")
    for place in [find_place(saved.model, layer)] if layer is not None else _places(saved.model):
        yield _of_place(saved, files, epochs, place, images, about, unit, most or _ROWS, network, progress)


def snapshots_of(saved: SavedModel) -> list[Path]:
    """The weights that the run of `saved` kept along its way, in the order of their epochs.

    Raises:
        UsageError: it is not the network of a run, or that kept none.
    """
    folder = run_of(saved)
    if folder is None:
        raise UsageError("only a run has an evolution to show", "name a run that was trained with --snapshots N")
    run = RunFolder(folder)
    files = sorted(run.snapshots.glob(_SNAPSHOTS))
    if not files:
        raise UsageError(f"{run.name} has kept no snapshots", "train with --snapshots N")
    return files


def _with(saved: SavedModel, path: Path) -> SavedModel:
    """The same network with the weights of a snapshot, in memory of its own."""
    model = copy.deepcopy(saved.model)
    model.load_state_dict(load_file(path))
    return replace(saved, model=model)


def _places(model: nn.Module) -> list[Place]:
    found = [one.place for one in map_places(model)]
    return [found[one] for one in spread(len(found), _LAYERS)]


def _of_filters(
    saved: SavedModel, files: Sequence[Path], epochs: tuple[int, ...], last: Filters, most: int, network: str
) -> Evolution:
    """The contrast of a filter is one over all epochs, so that its growth shows."""
    kernels = [filters_of(_with(saved, path).model, last.layer, spec=saved.spec).weights for path in files]
    shown = tuple(spread(len(last.weights), most))
    tops = np.abs(np.stack(kernels)).max((0, 2, 3, 4))
    pictures = []
    for weights in kernels:
        scaled = 0.5 + weights / np.where(tops > 0, 2 * tops, 1)[:, None, None, None]
        pictures.append([_flat(scaled[one].transpose(1, 2, 0)) for one in shown])
    return Evolution(
        network=network, layer=last.layer, what="filters", epochs=epochs, shown=shown, pictures=pictures,
        likeness=tuple(_cosine(one, kernels[-1]) for one in kernels), about="grey is 0; a filter has one contrast",
        jumps=[[False] * len(shown) for _ in files],
    )  # fmt: skip


def _of_place(
    saved: SavedModel, files: Sequence[Path], epochs: tuple[int, ...], place: Place, images: list[Read], about: str,
    unit: int | None, most: int, network: str, progress: Progress,
) -> Evolution:  # fmt: skip
    pixels = {row: image for read in images for row, image in zip(read.rows, read.images, strict=True)}
    sight = sights_of(saved, [place])[place.path]
    shown: tuple[int, ...] = ()
    pictures: list[list[np.ndarray]] = []
    strongest: list[np.ndarray] = []
    notes: tuple[str, ...] = ()
    with progress.task(f"evolution of {place.name}", len(files)) as task:
        for path in reversed(files):  # the last says which maps are worth following
            then = _with(saved, path)
            found = search(then.model, images, place, 1)
            if not shown:
                check_unit(unit, len(found.values), place.name)
                shown = (unit,) if unit is not None else alive_maps(found.values[:, 0], most)
            wanted = torch.stack([pixels[int(found.rows[one, 0])] for one in shown])
            signals, notes = reconstructed(then, wanted, place, shown)
            spots = [found.spots[one, 0].tolist() for one in shown]
            pictures.append([cut_signal(one, sight.window(*spot)) for one, spot in zip(signals, spots, strict=True)])
            strongest.append(found.rows[:, 0])
            task.advance(1)
    pictures.reverse()
    strongest.reverse()
    jumps = [[False] * len(shown)]
    jumps += [[bool(now[one] != before[one]) for one in shown] for before, now in pairwise(strongest)]
    return Evolution(
        network=network, layer=place.name, what="deconvnet", epochs=epochs, shown=shown, pictures=pictures,
        likeness=tuple(float((one == strongest[-1]).mean()) for one in strongest), jumps=jumps, about=about,
        notes=notes,
    )  # fmt: skip


def _flat(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] if picture.shape[2] == 1 else picture


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / size if size else 0.0


def _columns(count: int) -> list[int]:
    """Which of `count` epochs a strip shows: by equal ratios, since most happens early; always the last."""
    wanted = min(count, _COLUMNS)
    chosen: list[int] = []
    for place in range(wanted):
        ideal = round(count ** (place / max(wanted - 1, 1))) - 1
        least = chosen[-1] + 1 if chosen else 0
        chosen.append(min(max(ideal, least), count - wanted + place))
    return chosen


_TILE, _GAP, _ABOVE, _LEFT = 0.78, 0.06, 0.98, 0.72  # inches
_JUMP = "#d9792b"  # a frame where another image is the strongest


def _strip(view: Evolution, columns: list[int]) -> Figure:
    high, wide = view.pictures[0][0].shape[:2]
    tall = _TILE * high / wide
    across = len(columns) * (_TILE + _GAP)
    canvas = Canvas(max(_LEFT + across + MARGIN, 6.8), _ABOVE + len(view.shown) * (tall + _GAP) + 0.5)
    canvas.title(f"{view.network} · {view.layer} over the epochs".lstrip(" ·"), _about(view))
    for column, epoch in enumerate(columns):
        left = _LEFT + column * (_TILE + _GAP)
        words = f"epoch {view.epochs[epoch]}" if column == 0 else str(view.epochs[epoch])
        canvas.text(words, left + _TILE / 2, _ABOVE - 0.04, SMALL, ha="center", va="bottom", color=FAINT)
        for row, picture in enumerate(view.pictures[epoch]):
            before = columns[column - 1] if column else epoch
            jumped = any(view.jumps[one][row] for one in range(before + 1, epoch + 1))
            _tile(canvas, picture, left, _ABOVE + row * (tall + _GAP), tall, _TILE, jumped)
        below = _ABOVE + len(view.shown) * (tall + _GAP) + 0.02
        canvas.text(f"{view.likeness[epoch]:.2f}", left + _TILE / 2, below, SMALL, ha="center", color=FAINT)
    word = "filter" if view.what == "filters" else "map"
    for row, number in enumerate(view.shown):
        y = _ABOVE + row * (tall + _GAP) + tall / 2
        canvas.text(f"{word} {number}", _LEFT - 0.08, y, SMALL, ha="right", va="center", color=FAINT)
    canvas.text(view.likeness_means, MARGIN, canvas.height - 0.2, SMALL, color=FAINT, va="center")
    return canvas.figure


def _frame(view: Evolution, epoch: int) -> Figure:
    high, wide = view.pictures[0][0].shape[:2]
    grid = grid_of(len(view.shown), high / wide, width=5.4, most=1.3)
    canvas = Canvas(max(grid.width + 2 * MARGIN, 4.6), _ABOVE + grid.height + 0.5)
    canvas.title(f"{view.layer} · epoch {view.epochs[epoch]}", view.network)
    for number, picture in enumerate(view.pictures[epoch]):
        left, top = grid.place(number)
        x, y = left + MARGIN, top + _ABOVE - 0.2
        canvas.text(
            str(view.shown[number]), x + grid.tile[0] / 2, y - 0.02, SMALL - 1, ha="center", va="bottom", color=FAINT
        )
        _tile(canvas, picture, x, y, grid.tile[1], grid.tile[0], view.jumps[epoch][number])
    # how far the training is
    y, length = canvas.height - 0.22, canvas.width - 2 * MARGIN
    canvas.frame(MARGIN, y, length, 0.06, fill=True, facecolor="#e4e4e4", edgecolor="none")
    done = view.epochs[epoch] / view.epochs[-1]
    canvas.frame(MARGIN, y, length * done, 0.06, fill=True, facecolor="#4477aa", edgecolor="none", zorder=2)
    return canvas.figure


def _tile(canvas: Canvas, picture: np.ndarray, x: float, y: float, tall: float, wide: float, jumped: bool) -> None:
    canvas.frame(x, y, wide, tall, fill=True, facecolor=BEYOND)
    canvas.tile(picture, x, y, wide, tall, cmap="gray", vmin=0, vmax=1)
    canvas.frame(x, y, wide, tall, **({"edgecolor": _JUMP, "linewidth": 1.2} if jumped else {}))


def _about(view: Evolution) -> str:
    if view.what == "filters":
        return f"filters of the first layer; {view.about} over all epochs"
    return (
        f"the strongest activation of each map among {view.about},\nby the deconvnet; orange frame: another image than "
        "before; plain grey: positive for none"
    )
