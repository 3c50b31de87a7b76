"""The confusion matrix as a picture that stays readable from 2 to 1,000 classes, and its largest entries as a list."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from striate.report.charts import figure, svg
from striate.report.figures import percent, thousands
from striate.report.pictures import data_uri

WITH_NUMBERS = 20  # up to this many classes every cell carries its count
WITH_CELLS = 60  # up to this many, cells are drawn one by one; above, the matrix is a picture
MOST_BLOCKS = 250  # cells of the picture per side: more classes are put together in blocks
MOST_TITLES = 1200  # hover targets over the picture
RIGHT_COLOUR, WRONG_COLOUR = (59, 110, 168), (196, 84, 48)  # read on white and on black


def favourite_mistakes(matrix: np.ndarray, names: Sequence[str]) -> list[tuple[str, int] | None]:
    """For each class the class that it is most often taken for, and how often; None without mistakes."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    favourites: list[int] = wrong.argmax(1).tolist() if len(wrong) else []
    return [
        (names[other], int(wrong[place, other])) if wrong[place, other] else None
        for place, other in enumerate(favourites)
    ]


def confusion_chart(matrix: np.ndarray, names: Sequence[str]) -> Markup:
    """The matrix as a figure, in the form that its size allows."""
    if len(matrix) <= WITH_CELLS:
        return _cells(matrix, names)
    return _picture(matrix, names)


def _cells(matrix: np.ndarray, names: Sequence[str]) -> Markup:
    count = len(matrix)
    cell = 56 if count <= 4 else 42 if count <= 12 else 30 if count <= WITH_NUMBERS else max(9, 560 // count)
    longest = max(len(name) for name in names)
    letters = 18 if count <= WITH_NUMBERS else 12
    margin = 14 + 6.4 * min(longest, letters) * (1 if cell >= 12 else 0.8)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    parts: list[str] = []
    for row in range(count):
        middle = margin + (row + 0.5) * cell
        label = shortened(names[row], letters)
        parts.append(label_text(margin - 6, middle, label, names[row], "end", small=cell < 12))
        parts.append(label_text(middle, margin - 6, label, names[row], "start", turned=True, small=cell < 12))
        for column in range(count):
            value = int(matrix[row, column])
            if value or row == column:
                parts.append(_cell(matrix, shares, names, row, column, margin, cell, value))
    side = margin + count * cell
    frame = f'<rect class="frame" x="{margin:.1f}" y="{margin:.1f}" width="{count * cell}" height="{count * cell}"/>'
    right = int(np.trace(matrix))
    words = f"{thousands(right)} of {thousands(matrix.sum())} right"
    drawing = svg(frame + "".join(parts), "Confusion matrix", words, side + 4, side + 4)
    styled = Markup('<div class="matrix" style="max-width:{}px">{}</div>').format(round(side * 1.05) + 4, drawing)
    return figure("Confusion matrix", styled, note="rows: truth, columns: prediction")


def _cell(
    matrix: np.ndarray,
    shares: np.ndarray,
    names: Sequence[str],
    row: int,
    column: int,
    margin: float,
    cell: int,
    value: int,
) -> str:
    right = row == column
    share = float(shares[row, column])
    strength = 0.1 + 0.75 * share if right else min(0.16 + 0.84 * math.sqrt(share), 1)
    x, y = margin + column * cell, margin + row * cell
    words = _cell_words(names[row], names[column], value, share)
    drawn = Markup(
        '<rect class="{}" fill-opacity="{:.2f}" x="{:.1f}" y="{:.1f}" width="{}" height="{}"><title>{}</title></rect>'
    ).format("right" if right else "wrong", strength if value else 0, x + 0.5, y + 0.5, cell - 1, cell - 1, words)
    if len(matrix) > WITH_NUMBERS or not value:
        return str(drawn)
    shown = thousands(value) if value < 10_000 else f"{value / 1000:.0f}k"
    return str(drawn) + str(
        Markup('<text class="inside{}" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
            " strong" if strength > 0.5 else "", x + cell / 2, y + cell / 2 + 4, shown
        )
    )


def _picture(matrix: np.ndarray, names: Sequence[str]) -> Markup:
    """The matrix as one RGBA picture whose alpha is the share: it reads on light and dark paper alike."""
    block = math.ceil(len(matrix) / MOST_BLOCKS)
    blocks = _blocked(matrix, block)
    totals = np.maximum(blocks.sum(1, keepdims=True), 1)
    shares = blocks / totals
    count = len(blocks)
    strength = np.clip(0.25 + 1.6 * np.sqrt(shares), 0, 1) * (blocks > 0)
    pixels = np.zeros((count, count, 4), dtype=np.uint8)
    pixels[..., :3] = WRONG_COLOUR
    pixels[..., 3] = (255 * strength).astype(np.uint8)
    diagonal = np.arange(count)
    pixels[diagonal, diagonal, :3] = RIGHT_COLOUR
    pixels[diagonal, diagonal, 3] = (40 + 200 * np.diagonal(shares)).astype(np.uint8)
    side, margin = 600, 20
    cell = side / count
    image = Markup('<image href="{}" x="{}" y="{}" width="{}" height="{}" class="pixels"/>').format(
        data_uri(pixels), margin, margin, side, side
    )
    frame = f'<rect class="frame" x="{margin}" y="{margin}" width="{side}" height="{side}"/>'
    axes = (
        f'<text x="{margin}" y="13">predicted →</text><text transform="translate(4 {margin}) rotate(90)">truth →</text>'
    )
    body = frame + str(image) + axes + _hover(blocks, shares, names, block, margin, cell)
    words = f"{thousands(int(np.trace(matrix)))} of {thousands(int(matrix.sum()))} right"
    note = f"{len(matrix)} classes in their order; rows: truth, columns: prediction"
    if block > 1:
        note += f"; each cell stands for {block} × {block} classes"
    drawing = svg(body, "Confusion matrix", words, side + margin + 4, side + margin + 4)
    return figure("Confusion matrix", Markup('<div class="matrix">{}</div>').format(drawing), note=note)


def _hover(blocks: np.ndarray, shares: np.ndarray, names: Sequence[str], block: int, margin: float, cell: float) -> str:
    """Titles over the heaviest cells off the diagonal."""
    wrong = blocks.copy()
    np.fill_diagonal(wrong, 0)
    flat = np.flatnonzero(wrong)
    order = flat[np.argsort(-wrong.reshape(-1)[flat], kind="stable")][:MOST_TITLES]
    template = Markup(
        '<rect class="hover" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.2f}"><title>{}</title></rect>'
    )
    parts = []
    for place in order.tolist():
        row, column = divmod(int(place), len(wrong))
        words = _cell_words(
            _span(names, row, block), _span(names, column, block), int(wrong[row, column]), float(shares[row, column])
        )
        parts.append(template.format(margin + column * cell, margin + row * cell, cell, cell, words))
    return "".join(parts)


def _blocked(matrix: np.ndarray, block: int) -> np.ndarray:
    if block == 1:
        return matrix
    starts = np.arange(0, len(matrix), block)
    return np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)


def _span(names: Sequence[str], place: int, block: int) -> str:
    first, last = names[place * block], names[min((place + 1) * block, len(names)) - 1]
    return first if block == 1 else f"{first} … {last}"


def _cell_words(truth: str, predicted: str, value: int, share: float) -> str:
    images = "image" if value == 1 else "images"
    if truth == predicted:
        return f"{truth}: {thousands(value)} {images} right ({percent(share)})"
    return f"{truth} taken for {predicted}: {thousands(value)} {images} ({percent(share)} of {truth})"


def label_text(
    x: float, y: float, text: str, whole: str, anchor: str, *, turned: bool = False, small: bool = False
) -> str:
    """The name of a row or a column, its whole form on hovering."""
    place = f"translate({x + 4:.1f} {y:.1f}) rotate(-90)" if turned else f"translate({x:.1f} {y + 4:.1f})"
    return str(
        Markup('<text transform="{}" text-anchor="{}" class="{}">{}<title>{}</title></text>').format(
            place, anchor, "small" if small else "", text, whole
        )
    )


def shortened(text: str, letters: int) -> str:
    """At most that many letters."""
    return text if len(text) <= letters else text[: letters - 1] + "…"
