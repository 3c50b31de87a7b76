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

if TYPE_CHECKING:
    from striate.spec import RunResult, Scores


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
      striate train mnist --recipe lenet5-1998
      striate train --resume latest
    """
    from striate import api

    started = time.time()
    progress = progress_of(as_json)
    try:
        if resume is not None:
            _refuse_with_resume(DATA=data, **{"--recipe": click.get_current_context().params.get("recipe")})
            result = api.resume_and_report(resume, given_options(), progress=progress)
        else:
            chosen = merged(options, {"data": {"data": data}} if data else {})
            result = api.train_and_report(chosen, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", _how_to_go_on(options, started)) from None
    if as_json:
        print_json(result)
    else:
        _show(result)


def _refuse_with_resume(**settings: str | None) -> None:
    for name, value in settings.items():
        if value is not None:
            raise UsageError(f"--resume goes on with the data and options of its run: leave {name} out")


def _show(result: RunResult) -> None:
    """The few lines that a person wants to see at the end."""
    for name, scores in (("validation", result.val), ("test", result.test)):
        if scores is not None:
            say(f"{name:<11} {_in_words(scores)}")
    epochs = f"{result.epochs} epoch{'s' if result.epochs != 1 else ''}"
    best = f", best {result.best_epoch}" if result.best_epoch else ""
    say(f"{'training':<11} {result.model}, {epochs}{best}, {result.seconds:.1f} s")
    say(f"{'run':<11} {result.run}")
    if result.report is not None:
        say(f"{'report':<11} {result.report}")


def _in_words(scores: Scores) -> str:
    top5 = f", top-5 {scores.top5:.2%}" if scores.top5 is not None else ""
    return f"top-1 {scores.top1:.2%}{top5}, loss {scores.loss:.4f}, {scores.n} images"


def _how_to_go_on(options: TrainOptions, started: float) -> str | None:
    """The command that resumes the run which this call began or went on with, if it wrote a resume state."""
    from striate.runfolder import RunFolder, list_runs

    if options.training.run_dir:
        there = [RunFolder(Path(options.training.run_dir))]
    else:
        there = list_runs(Path(options.training.runs))[:1]
    for run in there:
        if run.resume.is_dir() and run.resume.stat().st_mtime >= started - 600:
            return f"`striate train --resume {run.path}` goes on where it stopped"
    return None
