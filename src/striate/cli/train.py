"""`striate train`: from images to a trained, evaluated and reported network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from striate.cli.common import given_options, json_flag, options_from, print_json, progress_of, say, striate_command
from striate.cli.errors import Interrupted
from striate.errors import UsageError
from striate.options import TrainOptions, merged
from striate.options.transfer import WITHOUT_EPOCHS
from striate.runfolder import RunFolder, is_run
from striate.spec import RunResult, Scores

if TYPE_CHECKING:
    from striate.training import RepeatResult


@striate_command("train")
@click.argument("data", required=False)
@click.option("--resume", metavar="RUN", help="Go on with a stopped run, or with --epochs train a finished one on.")
@options_from(TrainOptions, leave_out=("data",))
@json_flag
def command(data: str | None, resume: str | None, options: TrainOptions, as_json: bool) -> None:
    """Train a network on DATA, evaluate it and write its run folder and report.

    DATA is a named set (digits, mnist, fashion-mnist, cifar10, cifar100), a folder of class folders, IDX or CIFAR
    files, or a CSV or Parquet table. Without DATA: digits.

    \b
    Examples:
      striate train
      striate train photos/ --epochs 20
      striate train photos/ --from squeezenet1_1:imagenet1k_v1 --scenario svm
      striate train mnist --recipe lenet5-1998
      striate train --resume latest
    """
    from striate import api
    from striate.runtime import mark_command

    mark_command()
    started = time.time() - 1  # file times are coarser than the clock
    progress = progress_of()
    try:
        if resume is not None:
            _check_resume(data)
            path = api.run_or_file(resume, options.training.runs)
            result = api.resume(path, epochs=options.schedule.epochs, model=options.model.model, progress=progress)
        else:
            api.check_code_named(options, set(given_options().get("model", {})))
            chosen = merged(options, {"data": {"data": data}} if data else {})
            result = api.train_and_report(chosen, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", _how_to_go_on(resume, options, started)) from None
    if as_json:
        print_json(result)
    else:
        _show(result)


def _check_resume(data: str | None) -> None:
    """A resumed run keeps its data and options: anything else given beside `--resume` is a misunderstanding."""
    refused = ["DATA"] if data is not None else []
    if click.get_current_context().params.get("recipe"):
        refused.append("--recipe")
    from striate.models.sources import names_code

    allowed = {"schedule": {"epochs"}, "training": {"runs"}}
    if (model := given_options().get("model", {}).get("model")) is not None and names_code(model):
        allowed["model"] = {"model"}  # the code of a class of one's own is run where it is named only
    for section, values in given_options().items():
        refused += [f"--{name.replace('_', '-')}" for name in values if name not in allowed.get(section, set())]
    if refused:
        hint = "only --epochs can change; a new run takes the options of an old one by --recipe RUN/recipe.toml"
        raise UsageError(f"--resume goes on with the data and options of its run, not with {', '.join(refused)}", hint)


def _show(result: RunResult | RepeatResult) -> None:
    """The few lines that a person wants to see at the end."""
    if isinstance(result, RunResult):
        _show_run(result)
        return
    for run in result.runs:
        _show_run(run)
    for split, figures in result.summary().items():
        name, one = ("mAP", figures["map"]) if "map" in figures else ("top-1", figures["top1"])
        spread = f"{name} {one['mean']:.2%} ± {one['sd']:.2%}, {one['min']:.2%} to {one['max']:.2%}"
        say(f"{_in_full(split):<11} {spread}, over {len(result.runs)} runs")


def _show_run(result: RunResult) -> None:
    for name in ("val", "test"):
        scores = getattr(result, name)
        if scores is not None:
            say(f"{_in_full(name):<11} {_in_words(scores)}")
    if result.protocol not in (None, "single-crop"):
        say(f"{'scored by':<11} {result.protocol}")
    epochs = f"{result.epochs} epoch{'s' if result.epochs != 1 else ''}" if result.epochs else "without epochs"
    best = f", best {result.best_epoch}" if result.best_epoch else ""
    say(f"{'training':<11} {result.model}, {epochs}{best}, {result.seconds:.1f} s")
    say(f"{'run':<11} {result.run}")
    if result.report is not None:
        say(f"{'report':<11} {result.report}")
    for step in (result.transfer or {}).get("next_steps", []):
        say(f"{'next':<11} {step['text']}")


def _in_full(split: str) -> str:
    return "validation" if split == "val" else split


def _in_words(scores: Scores) -> str:
    top5 = f", top-5 {scores.top5:.2%}" if scores.top5 is not None else ""
    several = f"mAP {scores.map:.2%}, " if scores.map is not None else ""
    return f"{several}top-1 {scores.top1:.2%}{top5}, loss {scores.loss:.4f}, {scores.n} images"


def _how_to_go_on(resumed: str | None, options: TrainOptions, started: float) -> str | None:
    """The command that goes on with the run which was interrupted, if it had come to save a state."""
    from striate.models.sources import code_of, full_name, names_code
    from striate.runfolder import find_run, list_runs

    runs = Path(options.training.runs)
    if resumed is not None:
        candidates = [find_run(resumed, runs)]
    elif options.training.run_dir is not None:
        candidates = [RunFolder(Path(options.training.run_dir)), *list_runs(Path(options.training.run_dir))]
    else:
        candidates = list_runs(runs)
    for run in candidates:
        if _can_go_on(run) and (resumed is not None or run.recipe.stat().st_mtime >= started):
            named = (options.model.model, options.model.from_)
            code = next((one for one in named if isinstance(one, str) and names_code(one)), None)
            beside = f" --model {full_name(code_of(code))}" if code is not None else ""
            return f"`striate train --resume {run.path}{beside}` goes on where it stopped"
    return None


def _can_go_on(run: RunFolder) -> bool:
    """A training by gradients has a state to go on from; what takes no epochs needs none but its recipe."""
    return run.resume.is_dir() or (is_run(run.path) and run.read_recipe().transfer.scenario in WITHOUT_EPOCHS)
