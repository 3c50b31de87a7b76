"""`striate export`: a network in the format of those who will run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from striate.cli.common import OneOf, json_flag, prepare_torch, print_json, progress_of, say, striate_command

if TYPE_CHECKING:
    from striate.exporting import ExportResult


@striate_command("export")
@click.argument("run")
@click.option("--to", metavar="FORMAT", help="onnx, openvino, pt2 or safetensors; else by the ending of FILE. [onnx]")
@click.option("-o", "--output", metavar="FILE", help="The file, or a folder for it; else beside the model file.")
@click.option(
    "--preprocessing",
    type=OneOf(("declared", "inside")),
    default="declared",
    show_default=True,
    metavar="WHERE",
    help="Who normalises: declared (you, as the file says) or inside (the network, from stored pixels).",
)
@click.option(
    "--precision",
    type=OneOf(("fp32", "fp16")),
    default="fp32",
    show_default=True,
    metavar="TYPE",
    help="Of the stored parameters: fp32, or fp16 for onnx and openvino.",
)
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Always N images at once; else any number.")
@click.option(
    "--check", multiple=True, metavar="IMAGE", help="Image, folder or pattern to compare on; may be given repeatedly."
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(
    run: str,
    to: str | None,
    output: str | None,
    preprocessing: str,
    precision: str,
    batch: int | None,
    check: tuple[str, ...],
    offline: bool,
    runs: str,
    as_json: bool,
) -> None:
    """Write the network of RUN for other programs to run, checked against `striate predict`.

    RUN is a run folder, its name, `latest`, a model file, published weights (MODEL:WEIGHTS), or a file of weights,
    alone or as MODEL:FILE. The file carries input, preprocessing and class names; FILE.json beside it says the same.
    It is opened again and must answer as `predict` does on the images of --check, the run's validation images or the
    digits; otherwise nothing is kept and the exit code is 1.

    \b
    Examples:
      striate export latest
      striate export latest --to openvino --precision fp16
      striate export resnet18:imagenet1k_v1 -o resnet18.onnx --preprocessing inside --check photos/
      striate export latest --to pt2 --batch 1
    """
    prepare_torch()
    from striate.exporting import export_run

    result = export_run(
        run, to=to, output=output, preprocessing=preprocessing, precision=precision, batch=batch, check=check,
        runs=runs, offline=offline, progress=progress_of(),
    )  # fmt: skip
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result)


def _show(result: ExportResult) -> None:
    from striate.inference.export import find_format

    parity, format = result.parity, find_format(result.format)
    opset = f", opset {result.opset}" if result.opset else ""
    files = ", ".join(click.format_filename(file.name) for file in result.files[1:])
    say(f"written  {click.format_filename(result.path)}{f' (and {files})' if files else ''}")
    say(f"         {result.model}, {result.format}{opset}, {result.precision}, {result.bytes:,} bytes")
    if format.graph:
        feed = result.record.feed()
        say(f"input    {result.input['name']}: {_shape(result.input)}")
        say(f"         {'; '.join(f'{step}: {feed[step]}' for step in feed if step != 'layout')}")
        for one in result.outputs:
            say(f"output   {one['name']}: {_shape(one)}")
        also = "; the threshold of each label is in the description" if result.record.labels.multi_label else ""
        say(f"         probabilities: {result.record.probabilities}{also}")
    say(
        f"checked  on {parity.images} images ({parity.source}) against predict: top-1 agrees on "
        f"{parity.top1_agreement:.1%}, probabilities differ by up to {parity.largest_difference:.1g}"
    )
    say()
    for line in format.loading:
        say(line.format(path=click.format_filename(result.path)))


def _shape(tensor: dict) -> str:
    sides = ", ".join("N" if side is None else str(side) for side in tensor["shape"])
    return f"{tensor['dtype']} [{sides}]"
