"""A picture of each kind: some images at every strength with the answers, and the accuracy; and what fooled most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from striate.anatomy.picture import figure_for, save_figure
from striate.evaluation.robustness.result import Answer, Fooled, Kind, Robustness
from striate.evaluation.trust import spread
from striate.progress import Progress, Silent

_COLUMNS = 7  # strengths shown
_PAIRS = 4  # of pictures in a row of what fooled
_WORD = 18  # letters of a class name
_RIGHT, _WRONG, _LINES, _CLEAN = "#3b6ea8", "#c45430", ("#3b6ea8", "#c4642a"), "#8a8f98"
_UNITS = {"severity": "severity {:g}", "largest change, 255ths": "± {:g}/255"}
_BY_KIND = {
    "translation": "{:g} px",
    "rotation": "{:+g}°",
    "scale": "× {:g}",
    "noise-level": "σ {:g}",
    "negative": "contrast {:g}",
}


def draw_all(result: Robustness, folder: Path, progress: Progress | None = None) -> list[Path]:
    """One PNG for each kind, `corruptions.png` where several of them were asked for, and `fooled.png`."""
    paths = []
    with (progress or Silent()).task("drawing", len(result.kinds) + 2) as task:
        for kind in result.kinds:
            paths.append(folder / f"{kind.name}.png")
            draw_kind(kind, result, paths[-1])
            task.advance()
        if len(result.corruptions) > 1:
            paths.append(folder / "corruptions.png")
            draw_corruptions(result, paths[-1])
        if result.fooled:
            paths.append(folder / "fooled.png")
            draw_fooled(result.fooled, paths[-1])
        task.advance(2)
    return paths


def draw_kind(kind: Kind, result: Robustness, path: Path) -> None:
    """The examples at up to seven strengths, beside accuracy over strength."""
    rows = result.examples.get(kind.name) or []
    shown = _shown(kind)
    count = len(rows[0]) if rows else 0
    figure = figure_for((1.3 * len(shown) + 5.2, max(3.4, 1.48 * count + 0.7)), path)
    left, right = figure.subfigures(1, 2, width_ratios=(1.3 * len(shown), 5.2)) if count else (None, figure)
    if left is not None:
        panels = left.subplots(count, len(shown), squeeze=False)
        for line in range(count):
            for column, place in enumerate(shown):
                _show(panels[line][column], rows[place][line])
                if line == 0:
                    panels[line][column].set_title(strength_words(kind, place), fontsize=9)
    _draw_accuracy(right.subplots(), kind)
    title = f"{kind.name}: {result.model} on {result.data} {result.split}".rstrip()
    figure.suptitle(f"{title}   ({result.clean.n:,} images)", fontsize=11)
    save_figure(figure, path)


def strength_words(kind: Kind, place: int) -> str:
    """The strength of a point with its unit."""
    point = kind.points[place]
    if point.strength == kind.neutral:
        return "as it is"
    words = _BY_KIND.get(kind.name) or _UNITS.get(kind.axis) or "{:g}"
    return _said(words, point.strength, point.direction)


def draw_corruptions(result: Robustness, path: Path) -> None:
    """Accuracy by kind and severity as a table in colours."""
    kinds = result.corruptions
    values = np.array([[100 * point.accuracy for point in kind.points] for kind in kinds])
    figure = figure_for((7.4, 0.34 * len(kinds) + 1.5), path)
    panel = figure.subplots()
    picture = panel.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for line, row in enumerate(values):
        for column, value in enumerate(row):
            shade = "black" if value > 55 else "white"
            panel.text(column, line, f"{value:.1f}", ha="center", va="center", color=shade, fontsize=8.5)
    panel.set_yticks(range(len(kinds)), [kind.name for kind in kinds], fontsize=9)
    panel.set_xticks(range(values.shape[1]), ["as it is", *map(str, range(1, values.shape[1]))], fontsize=9)
    panel.set_xlabel("severity")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    figure.colorbar(picture, ax=panel, label="images answered right, %", fraction=0.05)
    title = f"{result.model} on {result.data} {result.split}".rstrip()
    panel.set_title(f"{title}, {result.clean.n:,} images", fontsize=10)
    save_figure(figure, path)


def draw_fooled(fooled: tuple[Fooled, ...], path: Path) -> None:
    """Pairs of an image answered right and the least change of each kind by which it is not."""
    rows = -(-len(fooled) // _PAIRS)
    wide = min(_PAIRS, len(fooled))
    tall = max(one.before.pixels.shape[1] / one.before.pixels.shape[2] for one in fooled)
    # as high as its pictures, which are 1.63 inches wide, with a line above and one below
    figure = figure_for((3.5 * wide, (1.63 * tall + 0.47) * rows), path)
    figure.set_dpi(90)
    cells = figure.subfigures(rows, wide, squeeze=False)
    for place, cell in enumerate(cells.flat):
        if place >= len(fooled):
            continue
        one = fooled[place]
        before, after = cell.subplots(1, 2)
        _show(before, one.before)
        _show(after, one.after)
        cell.suptitle(f"{one.kind}, {fooled_words(one)}", fontsize=9)
    save_figure(figure, path)


def fooled_words(one: Fooled) -> str:
    """By how much an image was changed."""
    words = _BY_KIND.get(one.kind) or ("± {:g}/255" if one.kind in ("fgsm", "pgd") else "severity {:g}")
    return _said(words, one.strength, one.direction)


def _said(words: str, strength: float, direction: str) -> str:
    if direction:
        return f"{words.format(abs(strength))} {_towards(direction, strength)}"
    return words.format(strength).replace("-", "−")


def _towards(direction: str, strength: float) -> str:
    return {"right": ("left", "right"), "down": ("up", "down")}[direction][strength > 0]


def _shown(kind: Kind) -> list[int]:
    """Places of the points whose examples are shown."""
    first = kind.points[0].direction
    places = [place for place, point in enumerate(kind.points) if point.direction == first]
    if len(places) <= _COLUMNS:
        return places
    neutral = next(place for place in places if kind.points[place].strength == kind.neutral)
    sides = [[place for place in places if place < neutral], [place for place in places if place > neutral]]
    if not sides[0] or not sides[1]:
        (side,) = [one for one in sides if one]
        kept = [side[place] for place in spread(len(side), _COLUMNS - 1)]
    else:
        kept = [side[place] for side in sides for place in spread(len(side), (_COLUMNS - 1) // 2)]
    return sorted([neutral, *kept])


def _draw_accuracy(panel: Any, kind: Kind) -> None:
    """A line for each direction with its 95 % band, and a level for the images as they are."""
    panel.axhline(100 * kind.clean.accuracy, color=_CLEAN, lw=1, ls="--", label="as they are")
    directions = list(dict.fromkeys(point.direction for point in kind.points))
    for direction, colour in zip(directions, _LINES, strict=False):
        points = sorted((one for one in kind.points if one.direction == direction), key=lambda one: one.strength)
        at = [one.strength for one in points]
        low, high = zip(*(one.interval for one in points), strict=True)
        words = {"right": "sideways", "down": "up and down"}.get(direction, "answered right")
        panel.plot(at, [100 * one.accuracy for one in points], color=colour, marker="o", ms=4, lw=1.6, label=words)
        panel.fill_between(at, [100 * one for one in low], [100 * one for one in high], color=colour, alpha=0.15, lw=0)
    if len(directions) == 1:
        points = sorted(kind.points, key=lambda one: one.strength)
        same = [100 * one.same / max(1, one.readable) for one in points]
        panel.plot(
            [one.strength for one in points], same, color=_LINES[1], lw=1.1, ls=":", label="same answer as before"
        )
    panel.set_ylim(0, 101)
    if kind.name == "negative":
        panel.invert_xaxis()
    if kind.axis.startswith("largest"):
        panel.set_xscale("symlog", base=2, linthresh=1)
        panel.set_xticks([one.strength for one in kind.points], [f"{one.strength:g}" for one in kind.points])
        panel.set_xlim(-0.2, 1.1 * kind.points[-1].strength)
    elif all(float(point.strength).is_integer() for point in kind.points):
        panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlabel(kind.axis)
    panel.set_ylabel("images, %")
    panel.grid(axis="y", color="#dddddd", lw=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, framealpha=0.9, edgecolor="white", loc="best")


def _show(panel: Any, answer: Answer) -> None:
    """A picture over its answer, framed by whether that is right."""
    pixels = np.moveaxis(answer.pixels, 0, 2)
    pixels = pixels if pixels.shape[2] == 3 else pixels[..., 0]
    smooth = min(pixels.shape[:2]) > 64
    panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="antialiased" if smooth else "nearest")
    colour = _RIGHT if answer.right else _WRONG
    panel.set_xticks([])
    panel.set_yticks([])
    for side in panel.spines.values():
        side.set(edgecolor=colour, linewidth=1.6)
    name = answer.said if len(answer.said) <= _WORD else f"{answer.said[: _WORD - 1]}…"
    panel.set_xlabel(f"{name} {answer.probability:.0%}", fontsize=8, color=colour, labelpad=2)
