"""`striate evaluate`: the scores of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
from striate.options import InferenceOptions, TrainOptions

if TYPE_CHECKING:
    from striate.evaluation import Evaluation
    from striate.spec import ClassScores

_CLASSES_SHOWN = 30
_FILES_SHOWN = 20
# what the network is fed is in its file, and what only training does has no meaning here
_NOT_HERE = (
    "data", "input_size", "channels", "resize", "crop_fraction", "interpolation", "mean", "std",
    "channel_order", "limit",
)  # fmt: skip


@striate_command("evaluate")
@click.argument("run")
@click.argument("data", required=False)
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test", "all")),
    help="What to score [test where there is one, else val; all of other data without a test split].",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Images passed at once [by their size: 32 of 224 pixels]."
)
@click.option(
    "--predictions", type=click.Path(path_type=Path), metavar="FILE", help="Write a Parquet table, a row per image."
)
@options_from(TrainOptions, sections=("data", "evaluate"), leave_out=_NOT_HERE, recipe=False)
@options_from(InferenceOptions, into="inference")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(
    run: str,
    data: str | None,
    split: str | None,
    batch_size: int | None,
    predictions: Path | None,
    options: TrainOptions,
    inference: InferenceOptions,
    runs: str,
    as_json: bool,
) -> None:
    """Score the network of RUN, on the data it was trained on or on DATA.

    RUN is a run folder, its name, `latest`, a model file, published weights (MODEL:WEIGHTS), or a file of weights,
    alone or as MODEL:FILE. The classes of DATA are matched with the network's by name. Images that cannot be read count
    as wrong and are listed.

    \b
    Examples:
      striate evaluate latest
      striate evaluate runs/photos new_photos/ --json
      striate evaluate cifar_resnet20:resnet20-12fca82f.th cifar10
      striate evaluate latest --backend openvino --precision int8
      striate evaluate model.safetensors mnist --split test --predictions answers.parquet
    """
    prepare_torch()
    from striate.evaluation import evaluate_run
    from striate.runtime import pick_threads, set_threads

    progress = progress_of()
    threads = set_threads(pick_threads(inference.threads, progress.say))
    given = given_options()
    result = evaluate_run(
        run,
        data,
        split=split,
        data_options=given.get("data"),
        batch_size=batch_size,
        device=inference.device,
        precision=inference.precision,
        backend=inference.backend,
        calibration=inference.calibration,
        threads=threads,
        views=options.evaluate.views,
        runs=runs,
        progress=progress,
    )
    if predictions is not None:
        result.write_predictions(predictions)
    if as_json:
        print_json({**result.to_dict(), "run": run})
    else:
        _show(result)


def _show(result: Evaluation) -> None:
    scores = result.scores
    say(f"{result.model} on {result.data} {result.split}: {scores.n} images, {result.protocol}")
    figures = {
        "top-1": _percent(scores.top1),
        "top-5": _percent(scores.top5),
        "balanced": _percent(scores.balanced_accuracy),
        "loss": f"{scores.loss:.4f}",
        "calibration error": _percent(scores.ece),
    }
    say("   ".join(f"{name} {value}" for name, value in figures.items() if value is not None))
    say()
    _show_classes(scores.per_class)
    _show_unreadable(result.unreadable)


def _show_classes(classes: tuple[ClassScores, ...]) -> None:
    """The table; of many classes those that fare worst."""
    shown = list(classes)
    if len(classes) > _CLASSES_SHOWN:
        shown = sorted((one for one in classes if one.support), key=lambda one: one.f1)[:_CLASSES_SHOWN]
        say(f"the {len(shown)} classes with the lowest F1 of {len(classes)} (--json has all):")
    width = max((len(one.label) for one in shown), default=5)
    say(f"{'class':<{width}}  precision  recall     F1  images")
    for one in shown:
        label = click.format_filename(one.label)
        say(f"{label:<{width}}  {one.precision:9.1%} {one.recall:7.1%} {one.f1:6.1%} {one.support:7d}")


def _show_unreadable(files: list[dict[str, str]]) -> None:
    if not files:
        return
    say()
    one_or_more = (
        "1 image could not be read and counts"
        if len(files) == 1
        else f"{len(files)} images could not be read and count"
    )
    say(f"{one_or_more} as wrong:")
    for one in files[:_FILES_SHOWN]:
        say(f"  {one['path']}: {one['error']}")
    if len(files) > _FILES_SHOWN:
        say(f"  and {len(files) - _FILES_SHOWN} more (--json has all)")


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.2%}"
