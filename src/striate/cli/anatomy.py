"""`striate anatomy`: a network layer by layer, or the arithmetic of one layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from striate.cli.common import OneOf, json_flag, prepare_torch, print_json, say, striate_command
from striate.cli.models import short
from striate.cli.tables import FORMATS, Column, byte_size, written
from striate.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from striate.anatomy import Anatomy
    from striate.anatomy.arithmetic import LayerArithmetic
    from striate.spec import ModelEntry

_FOR_ONE_LAYER = {"model", "conv", "html", "as_json"}  # options that go with --conv
_ROWS_SHOWN = 70  # longer tables are folded unless asked otherwise


class Size(click.ParamType):
    """N, or HxW, in pixels."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Height and width."""
        if isinstance(value, tuple):
            return value
        try:
            sides = [int(part) for part in value.lower().split("x")]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2) or min(sides) < 1:
            self.fail(f"{value!r} is not a size such as 224 or 224x160", param)
        return sides[0], sides[-1]


@striate_command("anatomy")
@click.argument("model", required=False)
@click.option("--conv", metavar="TEXT", help='One layer instead of a network: "input 227 kernel 11 stride 4".')
@click.option("--input-size", type=Size(), metavar="N|HxW", help="Size of the image [the paper's].")
@click.option("--channels", type=click.IntRange(min=1), metavar="N", help="Channels of the image [the paper's].")
@click.option("--classes", type=click.IntRange(min=1), metavar="N", help="Outputs [the paper's].")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Fold rows to the first N parts of their names.")
@click.option("--all", "every", is_flag=True, help="A row for every layer, however many.")
@click.option("--format", "form", type=OneOf(FORMATS), default="text", help=f"{', '.join(FORMATS)} [text]")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write the table there.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Chart of the figures: PNG or SVG.",
)
@click.option(
    "--drawing",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The architecture drawn to scale, as in the papers: PNG or SVG.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PAGE",
    help="With --conv: a page on which the window slides over numbers to change.",
)
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(
    model: str | None,
    conv: str | None,
    input_size: tuple[int, int] | None,
    channels: int | None,
    classes: int | None,
    depth: int | None,
    every: bool,
    form: str,
    output: Path | None,
    picture: Path | None,
    drawing: Path | None,
    html: Path | None,
    runs: str,
    as_json: bool,
) -> None:
    """Layer by layer: operation, shape, parameters, multiply-accumulates, memory, stride, receptive field.

    MODEL is a registered name, a block such as inception_naive, timm:NAME, FILE.py:CLASS, a run or a model file.
    Nothing is computed: the network is followed on shapes alone. Long tables are folded; --all shows every row.
    Receptive fields are theoretical (padding ignored); --json adds what the unit in the middle really sees.

    \b
    Examples:
      striate anatomy alexnet_2012
      striate anatomy resnet50 --input-size 320 --all --picture resnet50.png
      striate anatomy googlenet --drawing googlenet.svg
      striate anatomy inception_v3 --format csv -o inception.csv
      striate anatomy --conv "input 227 kernel 11 stride 4 channels 3 filters 96"
      striate anatomy --conv "pool input 56 kernel 3 stride 2 ceil"
      striate anatomy --conv "input 5 kernel 3 padding same" --html conv.html
    """
    if (model is None) == (conv is None):
        raise UsageError("give a MODEL or --conv", "`striate models` lists the networks; --conv describes one layer")
    if conv is not None:
        _only(_FOR_ONE_LAYER, "--conv describes one layer")
        _one_layer(conv, html, as_json)
        return
    if html is not None:
        raise UsageError("--html: the page is of one layer", 'striate anatomy --conv "input 5 kernel 3" --html PAGE')
    prepare_torch()
    from striate.anatomy import anatomy_of

    assert model is not None
    network, name, entry, size, planes = _open(model, input_size, channels, classes, runs)
    found = replace(anatomy_of(network, size, planes), model=name)
    if picture is not None:
        from striate.anatomy.picture import draw_anatomy

        draw_anatomy(found, picture)
    if drawing is not None:
        from striate.anatomy.drawing import draw_architecture

        draw_architecture(found, drawing)
    if as_json:
        written_to = {name: path for name, path in (("picture", picture), ("drawing", drawing)) if path}
        print_json(found.to_dict() | {"published": published_figures(entry)} | written_to)
        if output is None:
            return
    rows, folded = _rows(found, depth, every or (form != "text" and depth is None))
    text = written(rows, COLUMNS, form)
    if form == "text":
        text = "\n".join([*_heading(found), "", text, "", *_totals(found, entry), *folded, *_notes(found)])
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    elif not as_json:
        say(text)
    if not as_json:
        for path in filter(None, (output, picture, drawing)):
            click.echo(f"wrote {path}", err=True)


COLUMNS = (
    Column("layer", "name", left=True),
    Column("operation", "op", left=True),
    Column("output", "output"),
    Column("params", "params", text=lambda count: f"{count:,}" if count else "-"),
    Column("MACs", "macs", text=lambda count: short(count) if count else "-"),
    Column("memory", "activation_bytes", text=byte_size),
    Column("training", "training_bytes", text=byte_size),
    Column("stride", "stride", text=lambda value: "-" if value is None else f"{value:g}"),
    Column("field", "receptive_field", text=lambda value: "-" if value is None else str(value)),
    Column("weights", "weights", wide=True),
    Column("flops", "flops", wide=True),
    Column("other operations", "other_ops", wide=True),
)


def published_figures(entry: ModelEntry | None) -> dict[str, Any] | None:
    """What the paper prints beside what is registered, for JSON."""
    if entry is None:
        return None
    return {
        "paper": entry.paper,
        "params": entry.paper_params,
        "macs": entry.paper_macs,
        "registered_params": entry.params,
        "registered_macs": entry.macs,
        "differs": entry.differs,
    }


def _only(allowed: set[str], why: str) -> None:
    """Raise UsageError if any option outside `allowed` was given."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in allowed and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"{parameter.opts[0]}: {why}, which this does not go with", f"leave {parameter.opts[0]} away"
            )


def _open(
    text: str, size: tuple[int, int] | None, channels: int | None, classes: int | None, runs: str
) -> tuple[Any, str, ModelEntry | None, Any, int | None]:
    """The network or block, its name, its entry in the registry, and the size and channels to follow it with."""
    from striate.models.blocks import BLOCKS, make_block
    from striate.models.registry import find_entry
    from striate.network import open_network

    block = next((one for one in BLOCKS.values() if one.name == text.lower()), None)
    if block is not None:
        if classes is not None:
            raise UsageError(f"--classes: {block.name} is a block and has no classes", "leave --classes away")
        made = make_block(block.name) if channels is None else make_block(block.name, in_channels=channels)
        return made, block.name, None, size or block.input[1:], channels or block.input[0]
    saved = open_network(text, weights=False, classes=classes, in_channels=channels, input_size=size, runs=runs)
    record = saved.model.architecture
    try:
        entry = None if record.cut else find_entry(record.name)  # the paper's figures are of the whole network
    except UnknownNameError:
        entry = None
    return saved.model, record.title, entry, size, channels


def _rows(found: Anatomy, depth: int | None, every: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows to show, and a line that says whether they were folded."""
    from striate.anatomy.folding import fold, folded_to

    rows = [layer.to_dict() for layer in (*found.layers, *found.auxiliary_layers)]
    shown = rows if every else folded_to(rows, _ROWS_SHOWN) if depth is None else fold(rows, depth)
    for row in shown:
        row["output"] = "x".join(map(str, row["output"])) or "1"
    if len(shown) == len(rows):
        return shown, []
    return shown, ["", f"{len(rows)} layers in {len(shown)} rows; --all shows every one, --depth N folds more or less"]


def _heading(found: Anatomy) -> list[str]:
    return [f"{found.model}, input {'x'.join(map(str, found.input))}"]


def _totals(found: Anatomy, entry: ModelEntry | None) -> list[str]:
    """Totals beside the paper's figures."""
    paper = {} if entry is None else {"params": entry.paper_params, "macs": entry.paper_macs}
    aux = f", auxiliary heads {found.params_aux:,} more" if found.params_aux else ""
    aux_macs = f", auxiliary heads {short(found.macs_aux)} more" if found.macs_aux else ""
    last = found.last_map
    field = "-"
    if last is not None:
        sides = " x ".join("?" if side is None else str(side) for side in last.receptive_field_hw)
        field = f"{sides} pixels, stride {last.stride if last.stride is not None else '-'}, at {last.name}"
    lines = [
        f"parameters       {found.params:,} ({found.weights:,} without biases and scales{aux})"
        f"{_paper(paper.get('params'))}",
        f"MACs             {found.macs:,} (FLOPs {found.flops:,}{aux_macs}){_paper(paper.get('macs'))}",
        f"other operations {found.other_ops:,} (biases, normalisation, activations, pooling, additions)",
        f"memory, fp32     {byte_size(found.activation_bytes)} all layer outputs of one image; at most "
        f"{byte_size(found.peak_bytes)} at a time at inference; {byte_size(found.training_bytes)} kept for training",
        f"receptive field  {field}",
    ]
    for word, text in (("paper", entry.paper), ("differs", entry.differs)) if entry is not None else ():
        if text:
            lines.append(f"{word:16} {text}")
    return [part for line in lines for part in _wrapped(line)]


def _wrapped(line: str) -> list[str]:
    import textwrap

    return textwrap.wrap(line, 118, subsequent_indent=" " * 17)


def _paper(value: float | None) -> str:
    return "" if value is None else f"; the paper says {short(int(value))}"


def _notes(found: Anatomy) -> list[str]:
    noted = [layer for layer in (*found.layers, *found.auxiliary_layers) if layer.note]
    return ["", *(f"note: {layer.name}: {layer.note}" for layer in noted[:5])] if noted else []


def _one_layer(text: str, html: Path | None, as_json: bool) -> None:
    from striate.anatomy.arithmetic import parse

    layer = parse(text)
    if html is not None:
        from striate.report.arithmetic_page import write_arithmetic

        write_arithmetic(html, layer)
        click.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(layer.to_dict() | ({"html": html} if html else {}))
        return
    for line in _explained(layer):
        say(line)


def _explained(layer: LayerArithmetic) -> list[str]:
    """The arithmetic in lines."""
    sides = layer.sides
    alike = sides[0] == sides[1]
    shown = [("", sides[0])] if alike else [("height ", sides[0]), ("width ", sides[1])]
    channels, kernel = layer.channels, f"{sides[0].kernel}x{sides[1].kernel}"
    lines = [f"output           {'x'.join(map(str, layer.output))} (channels, height, width)"]
    lines += [f"{name + 'side':16} {side.formula}" for name, side in shown]
    pads = " and ".join(f"{name}{side.before} before, {side.after} after" for name, side in shown)
    lines.append(f"padding          {layer.padding} ({pads})")
    for name, side in shown:
        if side.unused:
            pixels = f"{side.unused} pixel{'s' if side.unused > 1 else ''}"
            lines.append(f"{name + 'unused':16} the stride leaves the last {pixels} of the padded image unread")
    if layer.kind == "pool":
        lines.append("parameters       0: pooling learns nothing; its operations are comparisons or additions")
    else:
        share = f" / {layer.groups} groups" if layer.groups > 1 else ""
        lines += [
            f"weights          {kernel} x {channels} channels x {layer.filters} filters{share} = {layer.weights:,}",
            f"parameters       {layer.weights + layer.biases:,} with {layer.biases:,} biases"
            if layer.biases
            else f"parameters       {layer.weights:,} without biases",
        ]
        places = (
            f"{sides[0].input}x{sides[1].input} inputs"
            if layer.kind == "transposed"
            else (f"{sides[0].output}x{sides[1].output} outputs")
        )
        lines.append(f"MACs             {layer.weights:,} x {places} = {layer.macs:,}")
        lines.append(f"FLOPs            2 x MACs = {layer.flops:,}")
    most = "at most " if layer.kind == "transposed" else ""
    height, width = layer.receptive_field_hw
    lines.append(f"receptive field  {most}{height}x{width} pixels of the layer's input")
    return lines
