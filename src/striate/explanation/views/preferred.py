"""What classes or maps respond to most, side by side: see `striate.explanation.preferred`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from striate.checkpoint import SavedModel
from striate.errors import UsageError
from striate.explanation.explaining import target_number
from striate.explanation.figures import GREY
from striate.explanation.preferred import PreferredInput, preferred_inputs
from striate.explanation.views.canvas import FAINT, MARGIN, SMALL, Canvas
from striate.explanation.views.view import View
from striate.options.explain import ExplainOptions
from striate.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES = "classes"  # what the outputs are called where a layer would be
_WIDTH = 9.6  # inches of a row of many
_GAP, _BELOW = 0.12, 0.4  # inches between tiles, and for the words below each
_SMALL = 64  # pixels a side, up to which they are shown as squares, and smaller
_LETTERS = 11  # of a class name for each inch


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferred(View):
    """The preferred inputs of some classes, or of some maps of one layer."""

    kind: ClassVar[str] = "preferred"
    inputs: tuple[PreferredInput, ...] = field(repr=False)

    def figure(self) -> Figure:
        """See `View.figure`."""
        first = self.inputs[0]
        aspect = first.image.shape[0] / first.image.shape[1]
        large = max(first.image.shape[:2]) > _SMALL
        columns = columns_for(len(self.inputs), 4 if large else 8)
        pitch = min(2.4 if large else 1.9, _WIDTH / columns)
        wide, high = pitch - _GAP, (pitch - _GAP) * aspect
        rows = -(-len(self.inputs) // columns)
        canvas = Canvas(max(4.2, 2 * MARGIN + columns * pitch - _GAP), 0.72 + rows * (high + _BELOW) + MARGIN / 2)
        of = "each class" if first.layer is None else f"each map of {first.layer}"
        canvas.title(
            self.network, f"the image that {of} responds to most; its activation, and the most that noise gets"
        )
        for number, one in enumerate(self.inputs):
            row, column = divmod(number, columns)
            left, top = MARGIN + column * pitch, 0.72 + row * (high + _BELOW)
            show_tile(canvas, one.image, left, top, wide, high)
            canvas.text(_short(one.label, wide), left, top + high + 0.04, SMALL + 0.5)
            canvas.text(_activations(one), left, top + high + 0.19, SMALL, color=FAINT)
        return canvas.figure

    def to_dict(self) -> dict[str, Any]:
        """See `View.to_dict`."""
        return View.to_dict(self) | {"inputs": [one.to_dict() for one in self.inputs]}


def preferred(saved: SavedModel, options: ExplainOptions, *, network: str = "", progress: Progress) -> Preferred:
    """The preferred inputs of the classes (of `options.target` alone), or of the maps of `options.layer`
    (of `options.unit` alone); of many the first `options.most`.

    Raises:
        UnknownNameError: no such class or layer.
        UsageError: no such map; a class of a layer, a map of the classes.
        ModelError: the layer gives neither maps nor a vector.
    """
    if options.layer is not None and options.target is not None:
        raise UsageError("a layer has no classes", "--target asks for a class, --layer with --unit for a map")
    if options.layer is None and options.unit is not None:
        raise UsageError("a map is one of a layer", "name it by --layer")
    asked = options.unit if options.layer is not None else target_number(options.target, saved.labels)
    numbers = None if asked is None else [asked]
    found = tuple(preferred_inputs(saved, options.layer, numbers, options, progress=progress))
    return view_of(found, network)


def view_of(inputs: Sequence[PreferredInput], network: str = "") -> Preferred:
    """Preferred inputs, all of classes or all of one layer, as a picture."""
    silent = [str(one.number) for one in inputs if one.silent]
    notes = (f"silent whatever was tried: map {', '.join(silent)}",) if silent else ()
    return Preferred(network=network, layer=inputs[0].layer or CLASSES, notes=notes, inputs=tuple(inputs))


def columns_for(count: int, most: int) -> int:
    """Rows as long as each other where that can be: of 10 with at most 8 there are 5 and 5, of 12 there are 6 and 6."""
    if count <= min(most, 6):
        return count
    return min(range(most // 2 + 1, most + 1), key=lambda columns: (-count % columns, -columns))


def show_tile(canvas: Canvas, image: np.ndarray, left: float, top: float, wide: float, high: float) -> None:
    """An image [H, W, C] from 0 to 1; of other channels than grey and colour their mean."""
    pixels = image if image.shape[2] == 3 else image.mean(2)
    smooth = "antialiased" if max(image.shape[:2]) > _SMALL else "nearest"
    canvas.tile(pixels, left, top, wide, high, cmap=GREY, vmin=0, vmax=1, interpolation=smooth)


def _activations(one: PreferredInput) -> str:
    return f"{one.activation:.3g},  noise {one.noise:.3g}".replace("-", "−")


def _short(label: str, wide: float) -> str:
    most = max(6, int(_LETTERS * wide))
    return label if len(label) <= most else f"{label[: most - 1]}…"
