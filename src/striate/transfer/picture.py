"""The picture of a probe: accuracy over depth, beside the map of size by similarity with these images on it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from striate.anatomy.picture import figure_for, save_figure
from striate.transfer.result import ProbeResult, SourceProbe
from striate.transfer.similarity import LARGE, SIMILAR, SMALL

_SVM, _SOFTMAX, _PIXELS, _POINT, _OTHERS = "#4477aa", "#ee7733", "#888888", "#aa3377", "#999999"
_FEWEST, _MOST = 10.0, 1e6  # images on the map
_CELLS = (  # of the rule of thumb: from, to in images; from, to in similarity; colour, words
    (_FEWEST, SMALL, SIMILAR, 1.0, "#ddeaf6", "few, similar\n\nlinear classifier\non the last codes"),
    (SMALL, _MOST, SIMILAR, 1.0, "#dff0df", "many, similar\n\nfine-tune everything"),
    (_FEWEST, SMALL, 0.0, SIMILAR, "#f6e9dd", "few, different\n\nlinear classifier\non earlier codes"),
    (SMALL, LARGE, 0.0, SIMILAR, "#f3e0ee", "medium, different\n\nfine-tune the top,\nkeep the lower layers"),
    (LARGE, _MOST, 0.0, SIMILAR, "#dff0df", "many, different\n\nfine-tune everything"),
)


def draw_probe(result: ProbeResult, path: Path) -> None:
    """Draw it as a PNG or SVG file.

    Raises:
        UsageError: neither of the two.
    """
    figure = figure_for((14, 5.8), path)
    by_depth, by_size = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _draw_depths(by_depth, result)
    _draw_map(by_size, result)
    folds = f"{result.images:,} training images, {result.classes} classes, {result.folds} folds"
    figure.suptitle(f"{result.data}: what trained networks know about it   ({folds})", fontsize=12)
    save_figure(figure, path)


def _draw_depths(panel: Any, result: ProbeResult) -> None:
    """Both classifiers of the best network, and the better one of each of the others."""
    best = result.best
    places = range(len(best.depths))
    for kind, colour, shift in (("svm", _SVM, -0.06), ("softmax", _SOFTMAX, 0.06)):
        found = [one.by_kind(kind) for one in best.depths]
        heights = [100 * one.top1 for one in found]
        whiskers = [[100 * (one.top1 - one.low) for one in found], [100 * (one.high - one.top1) for one in found]]
        panel.errorbar(
            [place + shift for place in places], heights, yerr=whiskers, color=colour, marker="o", ms=4, lw=1.6,
            elinewidth=1, capsize=2.5, label=f"{'linear SVM' if kind == 'svm' else kind}, with 95 % interval",
        )  # fmt: skip
    if best.expected.n:
        place = [one.place for one in best.depths].index(best.best_place)
        height = 100 * best.best.by_kind(best.single_kind).top1
        panel.plot(place, height, marker="o", ms=13, mfc="none", mec=_POINT, mew=1.8, ls="none", label="best place")
        if best.blend is not None:
            panel.axhline(100 * best.expected.top1, color=_POINT, ls="-", lw=1.4, label="all depths as one")
        panel.axhline(100 * best.pixels.best.top1, color=_PIXELS, ls="--", lw=1.2, label="on shrunken pixels")
    lowest = _lowest(result)
    if 100 * result.largest_class >= lowest:
        panel.axhline(100 * result.largest_class, color=_PIXELS, ls=":", lw=1.2, label="always the largest class")
    for number, other in enumerate(one for one in result.sources if one is not best):
        _draw_other(panel, other, len(best.depths), number)
    panel.set_xticks(places, [one.place for one in best.depths], rotation=40, ha="right", fontsize=8)
    panel.set_xlim(-0.5, len(best.depths) - 0.5)
    panel.set_ylim(lowest, 100.5)
    panel.set_ylabel("held-out images answered right, %")
    panel.set_title(f"accuracy over depth: {_short(best)}", fontsize=10)
    panel.grid(axis="y", color="#dddddd", lw=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, framealpha=0.9, edgecolor="white", loc="best")


def _lowest(result: ProbeResult) -> float:
    """Where the axis of per cents begins: at 0, or not far below figures that are all high."""
    shown = [one.pixels.best.top1 for one in result.sources]
    shown += [kind.low for one in result.sources for depth in one.depths for kind in (depth.svm, depth.softmax)]
    least = 100 * min((value for value in shown if not math.isnan(value)), default=0.0)
    return 10 * math.floor((least - 5) / 10) if least > 50 else 0.0


def _draw_other(panel: Any, source: SourceProbe, width: int, number: int) -> None:
    """Another network, its first and last place at those of the best one."""
    step = (width - 1) / max(1, len(source.depths) - 1)
    heights = [100 * one.best.top1 for one in source.depths]
    style = ("-", "--", "-.", ":")[number % 4]
    panel.plot(
        [place * step for place in range(len(heights))], heights, color=_OTHERS, lw=1.2, ls=style, label=_short(source)
    )


def _draw_map(panel: Any, result: ProbeResult) -> None:
    """The rule of thumb as regions, and every network's figure for these images."""
    from matplotlib.patches import Rectangle

    for left, right, low, high, colour, words in _CELLS:
        cell = Rectangle((left, low), right - left, high - low, facecolor=colour, edgecolor="white", lw=2, zorder=0)
        panel.add_patch(cell)
        panel.text(
            math.sqrt(left * right), (low + high) / 2, words, ha="center", va="center", fontsize=8, color="#555555"
        )
    at = min(_MOST, max(_FEWEST, result.available))
    for source in result.sources:
        one, best = source.similarity, source is result.best
        if math.isnan(one.figure):
            panel.axvline(at, color=_POINT, lw=1.5, label="these images (similarity unknown)" if best else None)
            continue
        whiskers = [[max(0.0, one.figure - one.low)], [max(0.0, one.high - one.figure)]]
        panel.errorbar(
            at, one.figure, yerr=whiskers, color=_POINT if best else _OTHERS, marker="*" if best else "o",
            ms=15 if best else 6, elinewidth=1.4, capsize=3, ls="none", zorder=3, label=_short(source),
        )  # fmt: skip
    panel.set_xscale("log")
    panel.set_xlim(_FEWEST, _MOST)
    panel.set_ylim(0, 1)
    panel.set_xlabel("training images")
    panel.set_ylabel("similarity to what the network was trained on")
    panel.set_title("rule of thumb by size and similarity", fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, framealpha=0.9, edgecolor="white", loc="best")


def _short(source: SourceProbe) -> str:
    """A network's name, without the folders of a file."""
    model, colon, weights = source.source.partition(":")
    name = f"{model}{colon}{Path(weights).name}" if colon and "/" in weights else source.source
    return name if len(name) <= 44 else f"{name[:20]}…{name[-23:]}"
