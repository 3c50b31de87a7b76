"""`striate bench`: how fast a network trains and answers here, and how close to the machine's limits that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from striate.cli.common import json_flag, options_from, prepare_torch, print_json, progress_of, say, striate_command
from striate.cli.errors import Interrupted
from striate.cli.models import short
from striate.cli.tables import Column, as_text
from striate.errors import StriateError
from striate.options.bench import BenchOptions

if TYPE_CHECKING:
    from striate.bench import BenchResult, Row


@striate_command("bench")
@click.argument("model")
@options_from(BenchOptions)
@click.option("--offline", is_flag=True, help="Never use the network.")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(model: str, options: BenchOptions, offline: bool, runs: str, as_json: bool) -> None:
    """Measure training and inference of MODEL, beside what this machine can do at most.

    MODEL is a registered name, timm:NAME, FILE.py:CLASS, a run, a model file or MODEL:WEIGHTS. The images are noise.
    The first row of each kind is what `striate train` and `striate predict` do by default. Rows take turns, and the
    machine's peaks are measured between them. Ctrl-C ends it and shows what there is.

    \b
    Examples:
      striate bench resnet18
      striate bench resnet18 --train --batch-size 64 --json
      striate bench timm:mobilenetv2_100 --infer --batch-size 1,32 --backend torch,openvino
      striate bench latest --train --precision fp32,bf16 --layout nhwc
    """
    prepare_torch()
    from striate.bench import benchmark

    result = benchmark(model, options, runs=runs, offline=offline, progress=progress_of())
    if as_json:
        print_json(result.to_dict())
    else:
        for line in lines_of(result):
            say(line)
    if result.interrupted:
        raise Interrupted("interrupted: what was measured until then is above")
    for work in ("train", "infer"):
        row = result.default(work)
        if row is not None and row.images_per_second is None:
            raise StriateError(f"no figures for {row.setting}, the default: {row.error}", "what was measured is above")


def lines_of(result: BenchResult) -> list[str]:
    """The result as a person reads it."""
    machine, peak = result.environment, result.peak
    where = machine.get("gpu") or machine["processor"]
    matrix = ", ".join(
        f"{name} {peak[f'{name}_gflops']:,.0f} GFLOP/s"
        for name in ("fp32", "bf16", "fp16")
        if peak[f"{name}_gflops"] is not None
    )
    lines = [
        f"network   {result.model}, input {'x'.join(map(str, result.input))}, {short(result.params)} parameters, "
        f"{short(result.macs)} MACs",
        f"machine   {where}, {machine['threads']} threads, torch {machine['torch']}",
        f"peaks     matrix products {matrix}; memory copy {peak['copy_gb_per_second']:.1f} GB/s read and written",
    ]
    for work, title in (("train", "training"), ("infer", "inference")):
        rows = [row for row in result.rows if row.setting.work == work]
        if rows:
            lines += ["", title, as_text([_cells(row) for row in rows], COLUMNS), *_explained(rows)]
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


COLUMNS = (
    Column("back end", "backend", left=True),
    Column("layout", "layout", left=True, text=lambda value: value or "own"),
    Column("precision", "precision", left=True),
    Column("batch", "batch_size"),
    Column("images/s", "images_per_second", text=_number),
    Column("least-greatest", "range"),
    Column("ms/batch", "ms_per_batch", text=_number),
    Column("GFLOP/s", "gflops", text=_number),
    Column("of peak", "share_of_peak", text=_per_cent),
    Column("at most", "limit", text=_number),
    Column("of that", "share_of_limit", text=_per_cent),
)


def _cells(row: Row) -> dict[str, Any]:
    figures = row.figures
    spread = f"{_number(min(figures))}-{_number(max(figures))}" if figures else "-"
    return {**row.to_dict(), "range": spread, "limit": row.limit and row.limit.images_per_second}


def _explained(rows: list[Row]) -> list[str]:
    """What binds the first row, and why others have no figures."""
    lines, first = [], rows[0]
    if first.limit is not None and first.images_per_second is not None:
        limit = first.limit
        parts = [f"memory traffic alone {_number(limit.memory)}"]
        if limit.arithmetic is not None:
            parts.insert(0, f"arithmetic alone {_number(limit.arithmetic)}")
        lines.append(
            f"first row bound by {limit.bound_by}: at most {_number(limit.images_per_second)} images/s layer by layer "
            f"({', '.join(parts)})"
        )
    return lines + [f"no figures for {row.setting}: {row.error}" for row in rows if row.error is not None]
