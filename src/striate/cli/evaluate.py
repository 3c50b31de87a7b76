"""`striate evaluate`: the scores of a trained network."""

from __future__ import annotations

from pathlib import Path
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
from striate.cli.ensembles import ensemble_lines
from striate.cli.label_sets import show_labels
from striate.cli.robustness import keep_robustness, show_robustness
from striate.errors import CheckpointError
from striate.options import InferenceOptions, RobustnessOptions, TrainOptions

if TYPE_CHECKING:
    from striate.evaluation import Evaluation
    from striate.evaluation.keeping import Kept
    from striate.progress import Progress
    from striate.spec import ClassScores

_CLASSES_SHOWN = 30
_FILES_SHOWN = 20
_GROUPS_SHOWN = 30
_REJECTIONS_SHOWN = 2
_CONFUSIONS_SHOWN = 10
# what the network is fed is in its file, and what only training does has no meaning here
_NOT_HERE = (
    "data", "input_size", "channels", "resize", "crop_fraction", "interpolation", "mean", "std",
    "channel_order", "limit",
)  # fmt: skip


@striate_command("evaluate")
@click.argument("words", nargs=-1, required=True, metavar="RUN... [DATA]")
@click.option("--data", "named_data", metavar="DATA", help="The data, where the last word might also be a run's name.")
@click.option("--snapshots", is_flag=True, help="Average the weights that each RUN kept along its way.")
@click.option(
    "--soup", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Also write a network of the mean weights of all these networks, which must have begun alike.",
)  # fmt: skip
@click.option(
    "--soup-by", type=click.Choice(("greedy", "uniform")), default="greedy", show_default=True,
    help="Of the networks that do not lower its score on validation images, or of all.",
)  # fmt: skip
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test", "all")),
    help="What to score [test where there is one, else val; all of other data without a test split].",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Images passed at once [by their size: 32 of 224 pixels]."
)
@click.option(
    "--predictions", type=click.Path(path_type=Path), metavar="FILE",
    help="The Parquet table of all answers, a row per image [in the run folder, below `evaluations`].",
)  # fmt: skip
@click.option("--by", metavar="COLUMN", help="Also score each value of a column of the table apart, or each `group`.")
@click.option(
    "--costs", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="A CSV table, truths down, decisions across: what the cheapest decisions by the probabilities come to.",
)  # fmt: skip
@click.option(
    "--ood",
    metavar="DATA2",
    help="Images of something else, in any folder or data set: how surely answers tell them from those just scored.",
)
@options_from(TrainOptions, sections=("data", "evaluate"), leave_out=_NOT_HERE, recipe=False)
@options_from(InferenceOptions, into="inference")
@options_from(RobustnessOptions, into="robustness")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(
    words: tuple[str, ...],
    named_data: str | None,
    snapshots: bool,
    soup: Path | None,
    soup_by: str,
    split: str | None,
    batch_size: int | None,
    predictions: Path | None,
    by: str | None,
    costs: Path | None,
    ood: str | None,
    options: TrainOptions,
    inference: InferenceOptions,
    robustness: RobustnessOptions,
    runs: str,
    as_json: bool,
) -> None:
    """Score the network of RUN, on the data it was trained on or on DATA; several by the mean of their probabilities.

    RUN is a run folder, its name, `latest`, a model file, published weights (MODEL:WEIGHTS), or a file of weights,
    alone or as MODEL:FILE. The classes of DATA are matched with the network's by name. Images that cannot be read count
    as wrong and are listed. The last of several words is DATA where it names no network.

    Of several networks, or the --snapshots of a run, it also says how each fares alone, what it adds to the others, and
    in which order one would take them.

    Beside the scores stand their 95 % intervals, how far the probabilities can be taken at their word, and what must be
    rejected for fewer errors; --json has the curves and thresholds, too. What a run came to is kept in its folder below
    `evaluations`, with a row for each image, and `striate report RUN` shows it.

    \b
    Examples:
      striate evaluate latest
      striate evaluate runs/photos new_photos/ --json
      striate evaluate cifar_resnet20:resnet20-12fca82f.th cifar10
      striate evaluate latest --backend openvino --precision int8
      striate evaluate latest new_photos.csv --by camera
      striate evaluate latest --ood holiday_photos/
      striate evaluate latest --robustness corruptions,translation,fgsm
      striate evaluate runs/seed-0 runs/seed-1 runs/seed-2 photos/
      striate evaluate latest --snapshots --soup soup.safetensors
      striate evaluate model.safetensors mnist --split test --predictions answers.parquet
    """
    prepare_torch()
    from striate.evaluation.ensembles import evaluate_networks, told_apart
    from striate.runtime import pick_threads, set_threads

    progress = progress_of()
    threads = set_threads(pick_threads(inference.threads, progress.say))
    given = given_options()
    networks, data = (list(words), named_data) if named_data is not None else told_apart(words, runs)
    several = len(networks) > 1 or snapshots
    _check_places(predictions, robustness.robustness_output)
    result = evaluate_networks(
        networks,
        data,
        snapshots=snapshots,
        soup=soup,
        soup_by=soup_by,
        split=split,
        data_options=given.get("data"),
        batch_size=batch_size,
        device=inference.device,
        precision=inference.precision,
        backend=inference.backend,
        calibration=inference.calibration,
        threads=threads,
        views=options.evaluate.views,
        by=by,
        costs=costs,
        ood=ood,
        robustness=robustness,
        runs=runs,
        progress=progress,
    )
    asked = {
        "data": data, "views": options.evaluate.views if options.evaluate.views != "single" else None,
        "backend": inference.backend if inference.backend != "auto" else None, "precision": inference.precision,
        "by": by, "costs": costs, "ood": ood, "snapshots": snapshots or None, "soup": soup,
        "soup_by": soup_by if soup is not None else None, "calibration": inference.calibration,
        "robustness": ",".join(robustness.robustness or ()) or None,
        "robustness_images": robustness.robustness_images,
        "networks": networks if len(networks) > 1 else None, **(given.get("data") or {}),
    }  # fmt: skip
    run = networks[0]
    kept = _kept(result, None if several else run, runs, asked, predictions, progress)
    result, changed = keep_robustness(result, run, runs, robustness.robustness_output, progress)
    if as_json:
        print_json({**result.to_dict(), "run": run if len(networks) == 1 else networks, **kept.to_dict()})
        return
    _show(result, by)
    show_robustness(result.robustness, changed)
    if kept.predictions is not None:
        say()
        files = [path for path in (kept.predictions, kept.ood_images) if path is not None]
        say(f"kept: {', '.join(map(_from_here, files))}")


def _check_places(predictions: Path | None, robustness: str | None) -> None:
    """Places that cannot be written to are said before images are asked about, not after."""
    from striate.checkpoint import check_writable

    if predictions is not None:
        check_writable(predictions)
    if robustness is not None and Path(robustness).exists() and not Path(robustness).is_dir():
        raise CheckpointError(f"cannot write into {robustness}: it is a file", "name a folder")


def _from_here(path: Path) -> str:
    """A path as it can be typed here: without the working folder before it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _kept(
    result: Evaluation, run: str | None, runs: str, asked: dict[str, Any], predictions: Path | None, progress: Progress
) -> Kept:
    """In the run's folder (of several: beside them), where it can be written to, and where the user says."""
    from striate.evaluation.ensembles import place_of
    from striate.evaluation.keeping import keep
    from striate.network import read_spelling
    from striate.runfolder import RunFolder

    folder = read_spelling(run, runs).run if run is not None else None
    place = RunFolder(folder) if folder is not None else place_of(result)
    try:
        return keep(result, place, asked, predictions)
    except CheckpointError as error:
        if place is None or predictions is not None:
            raise
        progress.warn(f"{error.message}: nothing is kept of this evaluation")
        return keep(result, None, asked)


def _show(result: Evaluation, by: str | None) -> None:
    scores = result.scores
    say(f"{result.model} on {result.data} {result.split}: {scores.n} images, {result.protocol}")
    if scores.exact_match is not None:
        show_labels(result, by)
        _show_unreadable(result.unreadable)
        return
    few = result.trust.get("top_k") or {"k": 5, "accuracy": None}
    figures = {
        "top-1": _percent(scores.top1),
        f"top-{few['k']}": _percent(few["accuracy"]),
        "balanced": _percent(scores.balanced_accuracy),
        "loss": f"{scores.loss:.4f}",
        "calibration error": _percent(scores.ece),
    }
    say("   ".join(f"{name} {value}" for name, value in figures.items() if value is not None))
    for line in _trust_lines(result):
        say(line)
    for line in ensemble_lines(result.ensemble):
        say(line)
    say()
    _show_classes(scores.per_class)
    if len(scores.per_class) > _CLASSES_SHOWN:
        _show_confusions(result)
    _show_groups(result, by)
    _show_strangers(result)
    _show_unreadable(result.unreadable)


def _trust_lines(result: Evaluation) -> list[str]:
    """The interval, what the temperature did, and the rejection that halves the error or better."""
    lines, scores, trust = [], result.scores, result.trust
    if scores.top1_interval is not None:
        low, high = scores.top1_interval
        lines.append(f"95 % interval of top-1: {low:.2%} to {high:.2%}")
    calibration = trust.get("calibration") or {}
    if calibration.get("temperature", 1.0) != 1 and calibration["ece_before"] is not None:
        lines.append(
            f"temperature {calibration['temperature']:.2f}: without it the calibration error is "
            f"{calibration['ece_before']:.2%}"
        )
    rejection = trust.get("rejection") or {}
    full = rejection["error"][-1] if rejection.get("error") else 0.0
    wanted = [row for row in rejection.get("for_error", ()) if row["wanted"] < full and row["rejected"] is not None]
    lines += [
        f"for an error of {row['wanted']:.1%} reject {row['rejected']:.1%}, all below a probability of "
        f"{row['threshold']:.2%}: {row['wrong']} of {row['answered']} answers are wrong"
        for row in wanted[:_REJECTIONS_SHOWN]
    ]
    if (costs := trust.get("costs")) and costs["n"]:
        lines.append(
            f"mean cost {costs['mean_likeliest']:.4g} for the likeliest class, {costs['mean_cheapest']:.4g} for the "
            f"cheapest decision, another one on {costs['changed']} of {costs['n']} images, none on {costs['rejected']}"
        )
    return lines


def _show_confusions(result: Evaluation) -> None:
    """What is most often taken for what, where there are too many classes to see it from the table."""
    found = result.confusions()[:_CONFUSIONS_SHOWN]
    if found:
        say()
        say("most often taken for another class:")
    for one in found:
        names = (click.format_filename(one.truth), click.format_filename(one.predicted))
        say(f"  {names[0]} for {names[1]}: {one.count}, {one.share:.0%} of its images")


def _show_groups(result: Evaluation, by: str | None) -> None:
    if not result.groups:
        return
    say()
    heading = by or "group"
    width = max(len(heading), *(len(one.group) for one in result.groups))
    say(f"{heading:<{width}}  top-1  95 % interval  balanced  images")
    for one in result.groups[:_GROUPS_SHOWN]:
        label = click.format_filename(one.group)
        interval = f"{100 * one.low:.1f} - {one.high:.1%}"
        say(f"{label:<{width}} {one.top1:6.1%} {interval:>14} {one.balanced_accuracy:9.1%} {one.n:7d}")
    if len(result.groups) > _GROUPS_SHOWN:
        say(f"and {len(result.groups) - _GROUPS_SHOWN} more (--json has all)")


def _show_strangers(result: Evaluation) -> None:
    """How strangers are told from the images just scored, by each score."""
    found = result.strangers
    if found is None:
        return
    say()
    lost = f", {found.unreadable} unreadable" if found.unreadable else ""
    say(f"strangers: {found.strangers} images of {found.data}{lost}, beside {found.known} known ones")
    width = max(len(name) for name in found.scores)
    say(f"{'score':<{width}}   AUROC  95 % interval  AUPR known  strangers  let in at 95 % kept  threshold")
    for name, one in found.scores.items():
        if one["auroc"] is None:
            continue
        low, high = one["auroc_interval"]
        interval = f"{100 * low:.1f} - {high:.1%}"
        say(
            f"{name:<{width}} {one['auroc']:7.2%} {interval:>14} {one['aupr_known']:11.2%} "
            f"{one['aupr_strangers']:10.2%} {one['let_in']:20.1%} {one['threshold']:10.4g}"
        )


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
