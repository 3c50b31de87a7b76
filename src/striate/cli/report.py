"""`striate report`: the page of a run, or of several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from striate.cli.common import json_flag, print_json, say, striate_command
from striate.cli.ensembles import TWO_QUESTIONS, disagree


@striate_command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Where the page goes.")
@click.option(
    "--runs", "folder", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the run folders [runs]"
)
@json_flag
def command(runs: tuple[str, ...], output: Path | None, folder: Path, as_json: bool) -> None:
    """Write the report of a run again, or compare several runs.

    One RUN: its report.html. Several: one page with their curves overlaid, their scores, a paired test of those that
    scored the same images (at their end, or later by `striate evaluate`), and the options that differ (comparison.html
    in the folder of the runs). RUN is a run folder, its name (or how it begins), or `latest`.

    \b
    Examples:
      striate report latest
      striate report runs/20250101-*-digits -o digits.html
    """
    from striate.report import compare_runs, write_report
    from striate.runfolder import find_run

    found = list({path.resolve(): path for path in (find_run(run, folder).path for run in runs)}.values())
    if len(found) == 1:
        path, pairs = write_report(found[0], output), []
    else:
        compared = compare_runs(found, output or folder / "comparison.html")
        path, pairs = compared.path, compared.pairs
    if as_json:
        print_json({"report": str(path)} | ({"pairs": pairs} if len(found) > 1 else {}))
        return
    for one in pairs:
        say(_pair_line(one))
    if any("map" not in one and disagree(one, one["p_adjusted"]) for one in pairs):
        say(TWO_QUESTIONS)
    say(str(path))


def _pair_line(one: dict[str, Any]) -> str:
    verdict = "more than chance" if one["better"] else "which may be chance"
    first, second = one["map"] if "map" in one else one["top1"]
    scores = f"{one['first']} {first:.2%}, {one['second']} {second:.2%}" + (" mAP" if "map" in one else "")
    return (
        f"{scores} on {one['n']} images ({one['split']}): "
        f"{100 * one['difference']:.2f} points ({100 * one['low']:.2f} to {100 * one['high']:.2f}), "
        f"p = {one['p_adjusted']:.2g}, {verdict}"
    )
