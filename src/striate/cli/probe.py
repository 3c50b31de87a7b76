"""`striate probe`: what trained networks know about your images, depth by depth, and how to go on from there."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from striate.cli.common import (
    given_options,
    json_flag,
    options_from,
    prepare_torch,
    print_json,
    progress_of,
    say,
    striate_command,
)
from striate.cli.errors import Interrupted
from striate.cli.tables import Column, as_text
from striate.errors import UsageError
from striate.options import TrainOptions, merged

if TYPE_CHECKING:
    from striate.transfer.plan import TransferPlan
    from striate.transfer.result import Accuracy, DepthProbe, ProbeResult, SourceProbe

_OTHERS = (
    "scenario", "cut", "freeze_to", "pretrained_lr", "layer_decay", "unfreeze_every", "head_start", "head_epochs",
    "grow",
)  # fmt: skip
_BAR = 20  # characters of the widest bar


@striate_command("probe")
@click.argument("data")
@click.option(
    "--from", "sources", multiple=True, metavar="NETWORK",
    help="A trained network, spelt as for `striate train`; several are compared [those that are on this machine].",
)  # fmt: skip
@click.option("--plan/--no-plan", default=True, help="Also try short trainings and recommend what to do [on].")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it: PNG or SVG.")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@options_from(TrainOptions, sections=("data", "transfer", "runtime"), leave_out=("data", *_OTHERS), recipe=False)
@json_flag
def command(
    data: str,
    sources: tuple[str, ...],
    plan: bool,
    picture: Path | None,
    runs: str,
    options: TrainOptions,
    as_json: bool,
) -> None:
    """Measure how much each depth of a trained network knows about DATA, and plan the transfer.

    The training images pass through the frozen network once. At every place where it can be cut, a linear SVM and a
    softmax classifier are trained on what it gives there; all figures are of images that the classifiers had not
    seen. Validation and test images are not looked at. A second probe reads the codes from the cache. How it is
    measured: docs/transfer.md.

    \b
    Examples:
      striate probe photos/ --from squeezenet1_1:weights.pth --picture probe.png
      striate probe photos/ --from resnet18:imagenet1k_v1 --from runs/birds --json
      striate probe photos/ --from latest --no-plan
    """
    if picture is not None and (picture.suffix.lower() not in (".png", ".svg") or not picture.parent.is_dir()):
        raise UsageError(f"{picture}: a picture is a PNG or an SVG file in a folder that is there")
    prepare_torch()
    from striate.transfer.advice import probe

    chosen = merged(options, {"training": {"runs": runs}})
    try:
        result = probe(data, sources, plan=plan, options=chosen, progress=progress_of())
    except KeyboardInterrupt:
        raise Interrupted("interrupted: codes that were whole are kept for the next time") from None
    if picture is not None:
        from striate.transfer.picture import draw_probe

        draw_probe(result, picture)
    if as_json:
        print_json(result.to_dict() | ({"picture": picture} if picture else {}))
    else:
        names = [name for section in given_options().values() for name in section]
        if click.get_current_context().get_parameter_source("runs") == click.core.ParameterSource.COMMANDLINE:
            names.append("runs")
        given = tuple(f"--{name.rstrip('_').replace('_', '-')}" for name in names)
        for line in lines_of(result, data, given):
            say(line)
    if picture is not None and not as_json:
        click.echo(f"wrote {picture}", err=True)


def lines_of(result: ProbeResult, data: str = "DATA", given: tuple[str, ...] = ()) -> list[str]:
    """The result as a person reads it; `data` as it was named, and the flags that were `given` beside it."""
    folds = f"{result.folds} folds" if result.folds else "none can be held out"
    lines = [
        f"{'data':<11} {result.data}: {result.images:,} training images, {result.classes} classes, {folds}; the "
        f"largest class is {result.largest_class:.0%}"
    ]
    lines += [f"{'note':<11} {note}" for note in result.notes]
    for source in result.sources:
        lines += ["", *_of_source(source)]
    if len(result.sources) > 1:
        lines += ["", f"{'best':<11} {result.best_source}"]
    lines += ["", f"{'rule':<11} {result.rule} (the rule of thumb by size and similarity)"]
    if result.plan is not None:
        also = f", with {' '.join(given)} as here" if given else ""
        lines += _of_plan(result.plan)  # type: ignore[arg-type]
        lines += ["", f"{'next':<11} {command_of(result.plan, data)}{also}"]  # type: ignore[arg-type]
    return lines


def command_of(plan: TransferPlan, data: str) -> str:
    """What does what a plan recommends, without measuring anything again."""
    words = ["striate", "train", data, "--from", plan.source]
    if plan.scenario != "scratch":
        chosen = {
            "scenario": plan.scenario, "cut": plan.cut, "freeze-to": plan.freeze_to,
            "pretrained-lr": plan.pretrained_lr, "layer-decay": plan.layer_decay, "head-epochs": plan.head_epochs,
        }  # fmt: skip
        words += [part for name, value in chosen.items() if value is not None for part in (f"--{name}", str(value))]
    return shlex.join(words)


def _of_source(source: SourceProbe) -> list[str]:
    lines = [f"{'network':<11} {source.source}", ""]
    lines += [as_text([_cells(one, source) for one in (source.pixels, *source.depths)], COLUMNS), ""]
    best = source.expected
    if best.n:
        what = f"{source.best_place}, {source.best_kind}" if source.blend is None else "blend of all depths"
        lines.append(f"{'best':<11} {what}: {_with_interval(best)}, chosen and measured on different images")
    if source.blend is not None:
        counts = [f"{one.place} {one.kind} {one.weight:.0%}" for one in source.blend.members]
        lines += wrap(f"{'blend of':<11} {', '.join(counts)}", 118, subsequent_indent=" " * 12)
    lines += _of_similarity(source)
    if source.learning_curve:
        points = [f"{one.images:,}: {one.top1:.1%}" for one in source.learning_curve]
        lines.append(f"{'by images':<11} {', '.join(points)}")
    if source.forecast:
        more = [f"{one.images:,}: {one.top1:.1%} ({one.low:.0%}-{one.high:.0%})" for one in source.forecast]
        lines.append(f"{'with more':<11} {', '.join(more)}")
    seconds = "codes from the cache" if source.from_cache else f"one forward pass {source.seconds_forward:.1f} s"
    lines.append(f"{'time':<11} {seconds}, classifiers {source.seconds_fitting:.1f} s")
    return lines


def _of_similarity(source: SourceProbe) -> list[str]:
    one = source.similarity
    if math.isnan(one.figure):
        return []
    lines = [
        f"{'similarity':<11} {one.figure:.2f} ({one.low:.2f}-{one.high:.2f}): depth avoids {one.climb:.0%} of the "
        f"mistakes on pixels or first codes, the last codes keep {one.kept:.0%} of that"
    ]
    if one.statistics is not None:
        lines.append(f"{'':<11} without labels {one.statistics:.2f}: batch norms beside what they saw in training")
    return lines


def _of_plan(plan: TransferPlan) -> list[str]:
    """What to do, what it should bring, and why."""
    settings = {
        "cut": plan.cut, "freeze to": plan.freeze_to, "lr": plan.lr, "pretrained lr": plan.pretrained_lr,
        "layer decay": plan.layer_decay, "head epochs": plan.head_epochs, "epochs": plan.epochs,
    }  # fmt: skip
    chosen = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
        if value is not None
    )
    time = f", about {plan.seconds:.0f} s" if plan.seconds is not None else ""
    lines = ["", f"{'plan':<11} {plan.scenario}" + (f" from {plan.source}" if plan.source != "scratch" else "")]
    if chosen:
        lines.append(f"{'':<11} {chosen}")
    if not math.isnan(plan.expected_top1):
        lines.append(
            f"{'expected':<11} {plan.expected_top1:.1%} ({plan.low:.1%}-{plan.high:.1%}), {100 * plan.gain:+.1f} "
            f"points over a linear classifier on the last codes{time}"
        )
    return lines + [f"{'why' if not number else '':<11} {text}" for number, text in enumerate(plan.why)]


def _with_interval(one: Accuracy) -> str:
    return f"{one.top1:.1%} ({one.low:.1%}-{one.high:.1%})"


def _bar(share: float) -> str:
    return "" if math.isnan(share) else "█" * round(share * _BAR)


COLUMNS = (
    Column("depth", "place", left=True),
    Column("features", "features"),
    Column("SVM", "svm"),
    Column("95 %", "svm_interval"),
    Column("C", "svm_c"),
    Column("softmax", "softmax"),
    Column("95 %", "softmax_interval"),
    Column("C", "softmax_c"),
    Column("", "bar", left=True),
)


def _cells(one: DepthProbe, source: SourceProbe) -> dict[str, Any]:
    row: dict[str, Any] = {"place": one.place, "features": f"{one.features:,}"}
    for kind in ("svm", "softmax"):
        found = one.by_kind(kind)
        row[kind] = "-" if math.isnan(found.top1) else f"{found.top1:.1%}"
        row[f"{kind}_interval"] = "-" if not found.n else f"{100 * found.low:.1f}-{100 * found.high:.1f}"
        row[f"{kind}_c"] = f"{found.regularization:g}" if found.regularization is not None else "-"
    row["bar"] = _bar(one.best.top1) + (" best" if one.place == source.best_place else "")
    return row
