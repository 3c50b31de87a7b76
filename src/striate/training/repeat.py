"""The same training several times: with other seeds, or over the folds of a cross-validation; mean and spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Protocol

from striate.options import TrainOptions
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder
from striate.spec import RunResult
from striate.training.run import train

SILENT = Silent()


class TrainOne(Protocol):
    """`train`, or something that decides before it what the options leave open."""

    def __call__(self, options: TrainOptions, *, progress: Progress) -> RunResult:
        """One training."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatResult:
    """Several runs of the same recipe."""

    runs: tuple[RunResult, ...]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """split → figure → mean, standard deviation (n - 1), lowest and highest over the runs."""
        result: dict[str, dict[str, dict[str, float]]] = {}
        for split in ("val", "test"):
            scores = [one for run in self.runs if (one := getattr(run, split)) is not None]
            if scores:
                result[split] = {
                    name: _spread([getattr(one, name) for one in scores])
                    for name in ("map", "top1", "top5", "loss")
                    if all(getattr(one, name) is not None for one in scores)
                }
        return result

    def to_dict(self) -> dict[str, Any]:
        """The form that `striate train --json` prints: the first run's fields, every run, and the summary."""
        return self.runs[0].to_dict() | {"runs": [run.to_dict() for run in self.runs], "summary": self.summary()}


def repeat(options: TrainOptions, *, train: TrainOne = train, progress: Progress = SILENT) -> RepeatResult:
    """Train `--seeds` times or over `--folds`, each into its own run folder; `train` does a single training.

    Folds with `--fold`'s split: every image is validation data exactly once. What the first run measured or found about
    the machine, the later ones take over: they are to differ in their seeds or images alone. Where it turns out that
    nothing is trained by gradients, another seed would give the same network, and one run is all.
    """
    results: list[RunResult] = []
    for index, (title, one) in enumerate(variants(options), start=1):
        progress.say(f"run {index}: {title}")
        if results:
            one = _computed_as(results[0], one)
        results.append(train(one, progress=progress))
        if options.training.seeds > 1 and results[-1].epochs == 0:
            progress.warn(
                f"--seeds {options.training.seeds}: nothing in this network is random, one run is all there is"
            )
            break
    return RepeatResult(runs=tuple(results))


def variants(options: TrainOptions) -> Iterator[tuple[str, TrainOptions]]:
    """The single runs that `--seeds` or `--folds` stand for, with a few words on each."""
    training = options.training
    count = max(training.seeds, training.folds)
    for index in range(count):
        single = replace(training, seeds=1, folds=1)
        if training.run_dir is not None:
            single = replace(single, run_dir=str(Path(training.run_dir) / f"{index + 1}"))
        if training.folds > 1:
            data = replace(options.data, fold=f"{index + 1}/{count}")
            yield f"fold {index + 1} of {count}", replace(options, training=single, data=data)
        else:
            single = replace(single, seed=training.seed + index)
            yield f"seed {single.seed}", replace(options, training=single)


def _computed_as(first: RunResult, options: TrainOptions) -> TrainOptions:
    """`options` with the choices of a run that give other numbers in the last bits: compilation, threads."""
    chosen = RunFolder(first.run).read_recipe().runtime
    return replace(options, runtime=replace(options.runtime, compile=chosen.compile, threads=chosen.threads))


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": mean(values),
        "sd": stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
    }
