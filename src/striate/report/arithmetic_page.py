"""`striate anatomy --conv … --html`: one page on which a window slides over numbers that one can change.

The lectures' worked examples come with it: `templates/arithmetic/examples.json` is read by the page and by its tests.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from striate.report.page import write_page

if TYPE_CHECKING:
    from striate.anatomy.arithmetic import LayerArithmetic, Side

_SCRIPTS = ("arithmetic/numbers.js", "arithmetic/page.js", "arithmetic/stack.js")


def write_arithmetic(path: Path, layer: LayerArithmetic | None = None) -> Path:
    """Write the page, opened at `layer`, else at the first example. One file that needs no network.

    Raises:
        OSError: the page cannot be written.
    """
    examples = examples_of_lectures()
    if layer is not None:
        examples["layers"].insert(0, _opened_at(layer))
    data = json.dumps(examples, ensure_ascii=False).replace("<", "\\u003c")
    values = {"title": "Convolution arithmetic", "data": Markup(data)}
    return write_page(path, "arithmetic.html", values, _SCRIPTS)


def examples_of_lectures() -> dict[str, Any]:
    """`layers`, each with what comes out, and `stacks`, each with its receptive field."""
    folder = resources.files("striate.report") / "templates" / "arithmetic"
    return json.loads((folder / "examples.json").read_text(encoding="utf-8"))


def _opened_at(layer: LayerArithmetic) -> dict[str, Any]:
    """A layer of the command line as an example of the page, which fills in the numbers."""
    height, width = layer.sides
    line = height.input == height.kernel == height.output == 1  # not even padded
    return {
        "id": "yours",
        "title": "the layer of the command line",
        "say": "The sizes of the command line; one channel and one filter are shown.",
        "size": [height.output, width.output],
        "layer": {
            "kind": layer.kind,
            "dims": 1 if line else 2,
            "inputSize": [side.input for side in layer.sides],
            "kernelSize": [side.kernel for side in layer.sides],
            "stride": [side.stride for side in layer.sides],
            "dilation": [side.dilation for side in layer.sides],
            "padding": _padding(layer),
            "extra": [_extra(side) if layer.kind == "transposed" else 0 for side in layer.sides],
            "ceil": any(side.output > side.exact for side in layer.sides),
        },
    }


def _padding(layer: LayerArithmetic) -> str | list[int]:
    """As a word where only the word gives it: pixels that come to "same" may lie otherwise than the word has them."""
    alike = all(side.before == side.after for side in layer.sides)
    if alike and layer.padding == "same" and any(side.stride > 1 for side in layer.sides):
        return [side.before for side in layer.sides]
    return [side.before for side in layer.sides] if layer.padding == "explicit" else layer.padding


def _extra(side: Side) -> int:
    return side.output - ((side.input - 1) * side.stride - side.before - side.after + side.extent)
