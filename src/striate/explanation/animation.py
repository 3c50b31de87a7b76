"""Figures one after the other as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SECONDS = 0.6  # of a frame
_LAST = 4  # times as long is the last one shown
_DPI = 84  # less than that of a figure alone: there are many


def save_animation(figures: Sequence[Figure], path: Path, *, seconds: float = _SECONDS) -> Path:
    """Write figures of one size as a GIF that begins anew; the last stays longer.

    Raises:
        UsageError: nothing to show.
    """
    from PIL import Image

    if not figures:
        raise UsageError(f"{path}: an animation needs at least one figure")
    frames = [Image.fromarray(_pixels(one)).quantize(256, Image.Quantize.MEDIANCUT) for one in figures]
    times = [round(1000 * seconds)] * (len(frames) - 1) + [round(1000 * seconds * _LAST)]
    path.parent.mkdir(parents=True, exist_ok=True)
    # a palette of its own for each frame, and no frame merged into an equal one: there are as many as epochs
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, disposal=1, optimize=False)
    return path


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
