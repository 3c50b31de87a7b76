"""Charts as inline SVG. Colours are classes that the page's style sheet fills in, so that one drawing serves light,
dark and print; every text that comes from outside is escaped here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from striate.metrics.reliability import Reliability
from striate.report.figures import number, percent, thousands

Point = tuple[float, float]
WIDTH, HEIGHT = 540, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
MOST_POINTS = 400  # more than this is thinned out: a chart is 476 units wide
MOST_DOTS = 120  # hover targets of one line


@dataclass(frozen=True)
class Series:
    """One line: `colour` is the CSS class that strokes it."""

    name: str
    points: Sequence[Point]
    colour: str
    faint: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """From data to drawing, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies in the drawing."""
        if self.log:
            share = (math.log10(max(value, 1e-300)) - math.log10(self.low)) / (
                math.log10(self.high) - math.log10(self.low)
            )
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "epoch",
    form: Callable[[float], str] = number,
    log: bool | None = None,
    share: bool = False,
    close: bool = False,
    band: tuple[str, str] | None = None,
    mark: tuple[float, str] | None = None,
    note: str = "",
    keys: bool = True,
) -> Markup:
    """Lines over a common axis, as a figure with its legend.

    Args:
        title: what the chart shows.
        series: the lines; those without points are left out.
        x_label: the horizontal axis.
        form: how a value is written on the axis and in hover titles.
        log: logarithmic vertical axis; None decides by the range (30 and more).
        share: values are fractions: the axis ends at 1 and leaves out the first, steep part.
        close: the axis begins below the lowest value instead of at 0.
        band: names of two lines whose distance is shaded.
        mark: (x, words) of a vertical line.
        note: a few words under the title.
        keys: whether the legend stands with the chart.
    """
    drawn = [Series(one.name, thinned(one.points), one.colour, one.faint, one.dashed) for one in series if one.points]
    if not drawn:
        return Markup("")
    values = [y for one in drawn for _, y in one.points]
    positive = min(values) > 0
    log = positive and (max(values) / min(values) >= 30 if log is None else log)
    x_axis = _x_axis([x for one in drawn for x, _ in one.points])
    y_axis, y_ticks = _y_axis(drawn, share=share, close=close, log=log)
    clip = f"clip-{re.sub('[^a-z0-9]+', '-', title.lower())}"
    parts = [_grid(y_axis, y_ticks, form), _x_ticks(x_axis, x_label)]
    parts.append(
        Markup('<clipPath id="{}"><rect x="{}" y="{}" width="{}" height="{}"/></clipPath>').format(
            clip, LEFT - 4, TOP - 4, WIDTH - LEFT - RIGHT + 8, HEIGHT - TOP - BOTTOM + 8
        )
    )
    parts.append(Markup('<g clip-path="url(#{})">').format(clip))
    if band:
        parts.append(_band(drawn, band, x_axis, y_axis))
    parts.extend(_line(one, x_axis, y_axis) for one in drawn)
    parts.extend(_dots(one, x_axis, y_axis, x_label, form) for one in drawn if not one.faint)
    parts.append(Markup("</g>"))
    if mark and x_axis.low <= mark[0] <= x_axis.high:
        parts.append(_mark(mark, x_axis, high=not share))
    described = "; ".join(f"{one.name} ends at {form(one.points[-1][1])}" for one in drawn if not one.faint)
    return figure(title, svg("".join(parts), title, described), legend(drawn, band) if keys else "", note)


def figure(title: str, drawing: Markup, below: Markup | str = "", note: str = "") -> Markup:
    """A drawing under its title."""
    words = Markup('<span class="note">{}</span>').format(note) if note else ""
    return Markup('<figure class="chart"><figcaption><b>{}</b>{}{}</figcaption>{}</figure>').format(
        title, words, below, drawing
    )


def svg(body: str, title: str, described: str = "", width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """A drawing that scales with its column and says in words what it shows. `body` is trusted."""
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">{}</svg>'
    ).format(_short(width), _short(height), f"{title}. {described}".strip(), Markup(body))


def legend(series: Sequence[Series], band: tuple[str, str] | None = None) -> Markup:
    """Which colour is which line."""
    items = [
        Markup('<span class="key {}{}">{}</span>').format(one.colour, " dashed" if one.dashed else "", one.name)
        for one in series
        if one.name and not one.faint
    ]
    if band and set(band) <= {one.name for one in series}:
        items.append(Markup('<span class="key gap">gap</span>'))
    return Markup('<span class="legend">{}</span>').format(Markup("").join(items)) if len(items) > 1 else Markup("")


def reliability_diagram(bins: Reliability, title: str = "Reliability") -> Markup:
    """Share correct over claimed probability, with how many predictions stand behind each bar."""
    size, base, foot = 300, 262, 44
    width = len(bins.counts)
    x_axis, y_axis = Axis(0, 1, LEFT, LEFT + size), Axis(0, 1, base, TOP)
    column = size / width
    parts: list[str] = [_grid(y_axis, [0, 0.25, 0.5, 0.75, 1], lambda value: percent(value, 0), LEFT + size)]
    most = max(int(bins.counts.max()), 1)
    for place, count in enumerate(bins.counts.tolist()):
        if not count:
            continue
        left, accuracy, claimed = LEFT + place * column, bins.accuracy[place], bins.confidence[place]
        words = (
            f"claimed {percent(claimed)}, correct {percent(accuracy)} of {thousands(count)} image"
            f"{'s' if count > 1 else ''}"
        )
        height = max(foot * count / most, 1)
        fields = {"x": _short(left + 1), "w": _short(column - 2)}
        parts.append(
            Markup(
                '<g><title>{words}</title><rect class="bar" x="{x}" y="{y}" width="{w}" height="{h}"/>'
                '<line class="claim" x1="{x}" x2="{x2}" y1="{c}" y2="{c}"/>'
                '<rect class="count" x="{x}" y="{f}" width="{w}" height="{k}"/></g>'
            ).format(
                words=words,
                y=_short(y_axis.place(accuracy)),
                h=_short(base - y_axis.place(accuracy)),
                x2=_short(left + column - 1),
                c=_short(y_axis.place(claimed)),
                f=_short(base + 34 + foot - height),
                k=_short(height),
                **fields,
            )
        )
    parts.append(f'<line class="ideal" x1="{LEFT}" y1="{base}" x2="{LEFT + size}" y2="{TOP}"/>')
    ticks = (0, 0.25, 0.5, 0.75, 1)
    parts.extend(_text(x_axis.place(tick), base + 16, percent(tick, 0), "middle") for tick in ticks)
    parts.append(_text(LEFT - 6, base + 34 + foot, "count", "end"))
    parts.append(_text(LEFT + size / 2, base + 34 + foot + 18, "claimed probability", "middle"))
    words = f"expected calibration error {percent(bins.ece)}"
    drawing = svg("".join(parts), title, words, LEFT + size + RIGHT, base + 34 + foot + 24)
    keys = Markup(
        '<span class="legend"><span class="key bars">share correct</span><span class="key claims">claimed</span></span>'
    )
    return figure(title, drawing, keys)


def stacked_bar(title: str, parts: Sequence[tuple[str, float]], form: Callable[[float], str]) -> Markup:
    """Parts of a whole as one bar with its legend."""
    total = sum(value for _, value in parts)
    if total <= 0:
        return Markup("")
    left, drawn, keys = 0.0, [], []
    for place, (name, value) in enumerate(parts):
        width = WIDTH * value / total
        words = f"{name}: {form(value)} ({percent(value / total, 0)})"
        colour = f"tone{place % 6}"
        drawn.append(
            Markup('<rect class="{}" x="{}" y="0" width="{}" height="22"><title>{}</title></rect>').format(
                colour, _short(left), _short(max(width - 1, 0.5)), words
            )
        )
        keys.append(Markup('<span class="key {}">{} <b>{}</b></span>').format(colour, name, form(value)))
        left += width
    described = ", ".join(f"{name} {form(value)}" for name, value in parts)
    drawing = svg("".join(drawn), title, described, WIDTH, 22)
    return figure(title, drawing, Markup('<span class="legend">{}</span>').format(Markup("").join(keys)))


def silhouette(title: str, counts: np.ndarray, note: str) -> Markup:
    """Many counts, sorted, as one filled shape: for data with more classes than rows one would read."""
    heights = np.sort(counts)[::-1]
    axis = Axis(0, max(float(heights.max()), 1), 130, 8)
    ticks = nice_ticks(0, axis.high, 3)
    step = (WIDTH - LEFT - RIGHT) / len(heights)
    points = [f"{LEFT},130"]
    for place, height in enumerate(heights.tolist()):
        y = _short(axis.place(height))
        points += [f"{_short(LEFT + place * step)},{y}", f"{_short(LEFT + (place + 1) * step)},{y}"]
    points.append(f"{WIDTH - RIGHT},130")
    body = _grid(axis, ticks, thousands) + f'<polygon class="bar" points="{" ".join(points)}"/>'
    body += _text(LEFT, 146, "largest class", "start") + _text(WIDTH - RIGHT, 146, "smallest", "end")
    return figure(title, svg(body, title, note, WIDTH, 152), note=note)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers inside [low, high], about `count` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks = []
    while first * step <= high + 1e-9 * step:
        ticks.append(round(first * step, 12))
        first += 1
    return ticks


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` points: of each stretch the lowest and the highest, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    stretch = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        extremes = {min(range(len(part)), key=lambda i: part[i][1]), max(range(len(part)), key=lambda i: part[i][1])}
        kept += [part[i] for i in sorted(extremes)]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _x_axis(values: list[float]) -> Axis:
    low, high = min(values), max(values)
    if high == low:
        low, high = low - 0.5, high + 0.5
    return Axis(low, high, LEFT, WIDTH - RIGHT)


def _y_axis(series: Sequence[Series], *, share: bool, close: bool, log: bool) -> tuple[Axis, list[float]]:
    values = [y for one in series for _, y in one.points]
    low, high = min(values), max(values)
    if log:
        low, high = low / 1.15, high * 1.15
        return Axis(low, high, HEIGHT - BOTTOM, TOP, log=True), _log_ticks(low, high)
    if share:
        later = [y for one in series for _, y in one.points[len(one.points) // 8 :]]
        low, high = min(later), 1.0
        low = max(0.0, min(low - 0.08 * (high - low), 0.99))
    elif close:
        margin = max(0.15 * (high - low), 0.005)
        low, high = max(0.0, low - margin), high + margin
    else:
        low = 0.0 if low >= 0 else low
        high = high * 1.05 if high > 0 else high + 1e-9
    if high <= low:
        high = low + 1
    return Axis(low, high, HEIGHT - BOTTOM, TOP), nice_ticks(low, high)


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(wide) > 6:
        return wide[:: math.ceil(len(wide) / 6)]
    if len(wide) >= 3:
        return wide
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def _grid(axis: Axis, ticks: Sequence[float], form: Callable[[float], str], right: float = WIDTH - RIGHT) -> str:
    parts = []
    for tick in ticks:
        y = _short(axis.place(tick))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{_short(right)}" y1="{y}" y2="{y}"/>')
        parts.append(_text(LEFT - 6, axis.place(tick) + 4, _tick_text(tick, ticks, form), "end"))
    return "".join(parts)


def _tick_text(tick: float, ticks: Sequence[float], form: Callable[[float], str]) -> str:
    """As short as keeps neighbours apart: 90 %, not 90.0 %."""
    if form is number and len(ticks) > 1:
        return f"{tick:g}" if 1e-4 <= abs(tick) < 1e4 or tick == 0 else number(tick, 1)
    text = form(tick)
    shorter = text.replace(".00\u202f", "\u202f").replace(".0\u202f", "\u202f")
    return shorter if all(".0" in form(one) for one in ticks) else text


def _x_ticks(axis: Axis, label: str) -> str:
    ticks = nice_ticks(axis.low, axis.high, 6)
    if label.startswith(("epoch", "layer", "rectifier", "networks")):
        ticks = sorted({tick for tick in ticks if tick == int(tick)} | ({axis.low} if axis.low == 1 else set()))
        ticks = [tick for tick in ticks if tick == axis.low or axis.place(tick) - axis.place(axis.low) > 24]
    parts = [_text(axis.place(tick), HEIGHT - BOTTOM + 17, f"{tick:g}", "middle") for tick in ticks]
    parts.append(_text((axis.start + axis.end) / 2, HEIGHT - 4, label, "middle"))
    return "".join(parts)


def _line(one: Series, x_axis: Axis, y_axis: Axis) -> str:
    points = " ".join(f"{_short(x_axis.place(x))},{_short(y_axis.place(y))}" for x, y in one.points)
    classes = f"line {one.colour}" + (" faint" if one.faint else "") + (" dashed" if one.dashed else "")
    return f'<polyline class="{escape(classes)}" points="{points}"/>'


def _dots(one: Series, x_axis: Axis, y_axis: Axis, x_label: str, form: Callable[[float], str]) -> str:
    """What the pointer finds; the dots themselves show on lines of few points only."""
    points = list(one.points)[:: max(1, math.ceil(len(one.points) / MOST_DOTS))]
    radius = 2.5 if len(points) <= 40 else 1.2
    name = f"{one.name}, " if one.name else ""
    mark = Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    return "".join(
        mark.format(
            one.colour, _short(x_axis.place(x)), _short(y_axis.place(y)), radius, f"{name}{x_label} {x:g}: {form(y)}"
        )
        for x, y in points
    )


def _band(series: Sequence[Series], names: tuple[str, str], x_axis: Axis, y_axis: Axis) -> str:
    lines = {one.name: dict(one.points) for one in series if one.name in names}
    if len(lines) < 2:
        return ""
    first, second = (lines[name] for name in names)
    common = sorted(first.keys() & second.keys())
    there = [(x, first[x]) for x in common] + [(x, second[x]) for x in reversed(common)]
    points = " ".join(f"{_short(x_axis.place(x))},{_short(y_axis.place(y))}" for x, y in there)
    return f'<polygon class="band" points="{points}"/>'


def _mark(mark: tuple[float, str], axis: Axis, *, high: bool) -> str:
    """A vertical line; its words stand where falling (`high`) or rising curves leave room on the right."""
    x = axis.place(mark[0])
    right = x > (axis.start + axis.end) / 2
    y = TOP + 10 if high else HEIGHT - BOTTOM - 6
    words = _text(x + (-5 if right else 5), y, mark[1], "end" if right else "start")
    return f'<line class="mark" x1="{_short(x)}" x2="{_short(x)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>{words}'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return str(Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(_short(x), _short(y), anchor, words))


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
