"""A run without epochs, like any other for whoever reads it: a linear classifier is fitted, or nothing learns at all.

Nothing is drawn at random and nothing measured on the clock: the network follows from the recipe, the images and the
weights alone. A run that was killed while it was written is finished by doing again what is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, replace

from striate.checkpoint import SavedModel, load_model, save_model, write_atomically
from striate.data import Dataset, load_data
from striate.errors import CheckpointError, ModelError, StriateError, UsageError
from striate.evaluation import check_views
from striate.linear.blending import BLEND
from striate.models import ConvNet
from striate.models.sources import code_of, full_name, is_own, names_code
from striate.options import TrainOptions
from striate.options.transfer import KEEP, WITHOUT_EPOCHS
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder
from striate.runtime import denormals_flushed, environment, pick_device, seed_everything, set_threads
from striate.spec import InputSpec, RunResult
from striate.training import journal
from striate.training.defaults import resolve_runtime
from striate.training.finishing import finish_run, training_batches
from striate.training.prepare import resolved_for
from striate.training.start import locate_start, open_start
from striate.transfer.keeping import kept
from striate.transfer.linear_network import linear_network, unfitted
from striate.transfer.made import Job, Made
from striate.transfer.probing import opened


def takes_no_epochs(options: TrainOptions) -> bool:
    """Whether these options ask for a network without epochs, rather than for a training by gradients."""
    return options.transfer.scenario in WITHOUT_EPOCHS


@denormals_flushed()
def train_without_epochs(
    options: TrainOptions, dataset: Dataset, *, start: SavedModel, run: RunFolder, planned: bool = False,
    phases: Mapping[str, float] | None = None, progress: Progress,
) -> RunResult:  # fmt: skip
    """Fit the network that `options` ask for to all training images and leave a run folder.

    Args:
        options: with a scenario without epochs, for a single classifier a place to cut at, and one `--from`, located.
        dataset: as loaded.
        start: the network, opened.
        run: the folder, which is there.
        planned: whether measurements chose the scenario: trials went by epochs, rates and distortions that were asked
            for. Options that did nothing at all are named.
        phases: seconds that this run took before, by phase.
        progress: is told what is done.

    Raises:
        UsageError: a place to cut at, of a network that is kept.
        ModelError: the network has no such place, or a head that is kept does not know all the classes.
        DataError: images of fewer than two classes, where classifiers are fitted.
    """
    watch = journal.Stopwatch.of_command(phases)
    with watch.phase("prepare"):
        asked = locate_start(options)
        options, spec, _ = resolved_for(_plain(asked), dataset, start=start)
        if idle := _idle(asked, options, _KEPT_FROM_TRIALS if planned else None):
            progress.warn(
                f"without effect where nothing is trained by gradients (--scenario {options.transfer.scenario}): "
                f"{', '.join(idle)}"
            )
        options = resolve_runtime(options, progress)
        device = pick_device(options.runtime.device)
        facts = environment(device)
        facts |= {"precision": options.runtime.precision, "phases": watch.handed_over()}
        network = opened(start, dataset, options, progress)
        job = Job(options, dataset, network, device, progress)
        # what cannot be is no run: a place that is not there, a class that is not known
        keeps = options.transfer.scenario == KEEP
        form = kept(job, Silent()).model if keeps else unfitted(options, network.model, len(dataset.labels))
        check_views(options.evaluate.views, form, spec)
        journal.write_start(run, options, dataset, facts)
    progress.say(f"{_what(options)}, {len(dataset.splits['train'])} images, {len(dataset.labels)} classes → {run.path}")
    return _fit_and_finish(run, spec, job, watch)


@denormals_flushed()
def resume_without_epochs(
    run: RunFolder, *, epochs: int | None = None, dataset: Dataset | None = None,
    model: ConvNet | str | None = None, progress: Progress,
) -> RunResult:  # fmt: skip
    """Finish a run of `train_without_epochs` that was stopped; one that is finished is scored again.

    A run of a class of one's own needs `model` as `FILE.py:CLASS`: a run folder makes no code run.

    Raises:
        ModelError: code that is not named.
        UsageError: `epochs`, which such a run does not have.
        CheckpointError: what it started from is no longer there.
        DataError: the data changed since the run began.
    """
    if epochs is not None:
        scenario = run.read_recipe().transfer.scenario
        raise UsageError(
            f"{run.name} has no epochs: --scenario {scenario} takes none", "train a new run: --scenario all"
        )
    watch = journal.Stopwatch()
    options = run.read_recipe()
    check_code(options, model)
    with watch.phase("load"):
        dataset = dataset if dataset is not None else load_data(options.data, progress=progress)
        journal.check_same_data(run, dataset)
        try:
            start = open_start(options, progress)
        except StriateError as error:
            raise CheckpointError(
                f"{run.name} cannot be finished: {error.message}", error.hint or "start a new run"
            ) from error
        assert start is not None
        options, spec, _ = resolved_for(options, dataset, start=start)
        network = opened(start, dataset, options, progress)
    progress.say(f"finishing {run.name}")
    job = Job(options, dataset, network, pick_device(options.runtime.device), progress)
    return _fit_and_finish(run, spec, job, watch)


def check_code(options: TrainOptions, model: ConvNet | str | None) -> None:
    """Refuse to run code that a run folder's recipe names, unless the caller names the same.

    Raises:
        ModelError: the hint says how.
    """
    named = full_name(model) if isinstance(model, str) else None
    for spelling in (options.model.model, options.model.from_):
        if not isinstance(spelling, str) or not names_code(spelling):
            continue
        code = full_name(code_of(spelling))
        if code != named:
            raise ModelError(f"the recipe names code to be run, which a run folder cannot: {code}", f"--model {code}")


_WITHOUT_EFFECT = {
    "model": ("activation", "normalization", "pooling", "dropout", "stochastic_depth"),
    "transfer": ("freeze_to", "pretrained_lr", "layer_decay", "unfreeze_every", "head_start", "head_epochs"),
    "augment": None,  # the whole section
    "regularize": None,
    "optimizer": None,
    "schedule": None,
    "training": (
        "ema", "best_by", "early_stopping", "evaluate_every", "budget", "snapshots", "save_minutes", "log_every",
        "tensorboard", "record",
    ),
}  # fmt: skip


# Of these not even trials make use, or what they bring is not in the network that is fitted instead.
_KEPT_FROM_TRIALS = (
    "class_weights", "sampling", "ema", "best_by", "early_stopping", "snapshots", "tensorboard", "record",
)  # fmt: skip


def _plain(options: TrainOptions) -> TrainOptions:
    """What has no meaning without gradients is switched off, so that the recipe does not say otherwise."""
    sections = {}
    for name, fields_ in _without_effect():
        section = getattr(options, name)
        usual = type(section)()
        sections[name] = replace(section, **{one: getattr(usual, one) for one in fields_})
    sections["augment"] = replace(sections["augment"], preset="none")
    sections["schedule"] = replace(sections["schedule"], epochs=1)
    sections["training"] = replace(sections["training"], best_by="last")
    return replace(options, **sections)


def _idle(asked: TrainOptions, resolved: TrainOptions, among: Collection[str] | None) -> list[str]:
    """The flags, of those that count, that ask for what has no effect.

    What the recipe of such a run says is what happens anyhow.
    """
    return [
        f"--{name.replace('_', '-')}"
        for section, names in _without_effect()
        for name in names
        if (among is None or name in among)
        and getattr(getattr(asked, section), name)
        not in (getattr(type(getattr(asked, section))(), name), getattr(getattr(resolved, section), name))
    ]


def _without_effect() -> Iterator[tuple[str, tuple[str, ...]]]:
    for section, names in _WITHOUT_EFFECT.items():
        yield section, names or tuple(one.name for one in fields(getattr(TrainOptions(), section)))


def _fit_and_finish(run: RunFolder, spec: InputSpec, job: Job, watch: journal.Stopwatch) -> RunResult:
    options, dataset = job.options, job.dataset
    set_threads(options.runtime.threads)
    seed_everything(options.training.seed, deterministic=options.runtime.deterministic)
    begun = time.perf_counter()
    with watch.phase("train"):
        if not _is_whole(run, options):
            made = kept(job, job.progress) if options.transfer.scenario == KEEP else linear_network(job)
            seconds = time.perf_counter() - begun
            row = {"kind": "epoch", "epoch": 1, "step": 1, "seconds": seconds, "best": True, **made.figures}
            if made.figures:
                row["images_per_second"] = len(dataset.splits["train"]) / seconds
            # the line first: the model file says that the fitting is done
            write_atomically(run.metrics, (json.dumps(row) + "\n").encode())
            _save(run, spec, job, made)
    with watch.phase("evaluate"):
        none = {"selected_by": "last", "selected_on": None, "best_epoch": None, "weights": "raw", "epochs": 0}
        scores, protocol = finish_run(
            run, options, dataset, training_batches(options, spec, dataset, job.device), device=job.device,
            facts=none | {"epochs_planned": 0}, progress=job.progress,
        )  # fmt: skip
    facts = run.read_environment()
    earlier = facts.get("phases", {})
    facts["phases"] = earlier | {name: earlier.get(name, 0.0) + one for name, one in watch.phases.items()}
    facts["training_seconds"] = next((row["seconds"] for row in run.read_metrics()), 0.0)
    journal.write_environment(run, facts)
    return RunResult(
        run=run.path, model=job.network.model.architecture.name, epochs=0, seconds=facts["training_seconds"],
        val=scores.get("val"), test=scores.get("test"), protocol=protocol,
    )  # fmt: skip


def _save(run: RunFolder, spec: InputSpec, job: Job, made: Made) -> None:
    notes = {"epoch": 1, "data": job.dataset.name, "run": run.name, **made.notes}
    adapted = job.network.notes.get("adapted")
    save_model(
        run.model,
        made.model,
        spec,
        job.dataset.labels,
        notes=notes | ({"adapted": adapted} if adapted else {}),
        temperature=made.temperature,
        thresholds=made.thresholds,
    )


def _is_whole(run: RunFolder, options: TrainOptions) -> bool:
    """Whether the model file is there: it is written whole or not at all."""
    if not run.model.is_file():
        return False
    name = options.model.model
    load_model(run.model, code=name if name is not None and is_own(name) else None)
    return True


def _what(options: TrainOptions) -> str:
    scenario, source, cut = options.transfer.scenario, options.model.from_, options.transfer.cut
    if scenario == KEEP:
        return f"{source} as it is"
    where = f"all places up to {cut}" if cut is not None else "all places"
    return f"{scenario} on the codes of {where if scenario == BLEND else cut} of {source}"
