"""The training story: seed → data → model → optimiser and schedule → epoch, evaluate, record, save → result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from striate.checkpoint import load_state, save_model, save_state
from striate.data import Dataset, load_data
from striate.data.wording import counted
from striate.errors import UsageError
from striate.inference import logits_of
from striate.metrics import score
from striate.metrics.label_summary import score_labels
from striate.models import ConvNet, rebuild
from striate.models.sources import full_name
from striate.options import TrainOptions, write_recipe
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder
from striate.runtime import denormals_flushed, environment, pick_device, seed_everything, why_not_compiled
from striate.spec import RunResult, Scores
from striate.training import freezing, journal
from striate.training.compiling import compile_as_recorded, decide_compile, with_choice
from striate.training.defaults import check_feasible, data_options, resolve
from striate.training.epoch import train_epoch
from striate.training.finishing import finish_run
from striate.training.planning import parse_duration
from striate.training.prepare import measure_once, prepare, provisional, resolved_for
from striate.training.schedules import is_snapshot
from striate.training.session import Session, handed_back, lengthen_schedule, open_session
from striate.training.start import SCRATCH, locate_start, open_start, start_weights
from striate.training.state import check_state, gather_state, restore_state

SILENT = Silent()
NOTHING: Mapping[str, float] = MappingProxyType({})


@denormals_flushed()
def train(
    options: TrainOptions, *, dataset: Dataset | None = None, model: ConvNet | None = None, resumable: bool = True,
    phases: Mapping[str, float] = NOTHING, progress: Progress = SILENT,
) -> RunResult:  # fmt: skip
    """Train a network as `options` say and leave a run folder.

    Args:
        options: what is left open in them is decided from the data.
        dataset: instead of loading `options.data.data`.
        model: instead of building `options.model.model`; such a run cannot be resumed without it.
        resumable: False leaves out the states that a stopped run goes on from.
        phases: seconds that this training took before, by phase.
        progress: where to report.

    Raises:
        UsageError, DataError, ModelError: before anything is written.
        TrainingError: the loss is not finite.
    """
    with handed_back(model):
        watch = journal.Stopwatch.of_command(phases)
        return _train(options, dataset, model, resumable, watch, progress)


def _train(
    options: TrainOptions, dataset: Dataset | None, model: ConvNet | None, resumable: bool, watch: journal.Stopwatch,
    progress: Progress,
) -> RunResult:  # fmt: skip
    if options.training.tensorboard:
        journal.require_tensorboard()
    with watch.phase("load"):
        dataset = dataset if dataset is not None else load_data(options.data, progress=progress)
        for note in dataset.notes:
            progress.say(note)
        check_feasible(dataset, model)
        options = locate_start(replace(options, data=data_options(dataset, options.data)))
        if model is not None and options.model.from_ != SCRATCH:
            raise UsageError("a network that is given has its weights: --from goes with --model by name")
        start = open_start(options, progress)
        options, spec, start = resolved_for(options, dataset, given=model, start=start)
        budget = parse_duration(options.training.budget) if options.training.budget is not None else None
    with watch.phase("prepare"):
        prepared = prepare(
            options, spec, dataset, given=model, start=start, budgeted=budget is not None, progress=progress
        )
        run = journal.create_run(prepared.options, dataset)
        with journal.removed_if_nothing_comes_of_it(run):
            session = open_session(provisional(prepared.options), spec, dataset, run, prepared.model)
            spent = start_weights(session, progress)
            session = measure_once(prepared, session, budget, progress, spent=spent)
            choice = decide_compile(session, progress)
        facts = environment(session.device)
        facts |= {"precision": session.precision, "compile": choice, "phases": watch.handed_over()}
        journal.write_start(run, session.options, dataset, facts)
        if resumable:
            save_state(run.resume, gather_state(session))
    progress.say(_headline(session))
    if (line := freezing.in_words(session)) is not None:
        progress.say(line)
    if (line := freezing.unfinished_in_words(session)) is not None:
        progress.warn(line)
    return _train_and_finish(session, watch, resumable, progress)


@denormals_flushed()
def resume(
    run: RunFolder | Path | str, *, epochs: int | None = None, dataset: Dataset | None = None,
    model: ConvNet | str | None = None, progress: Progress = SILENT,
) -> RunResult:  # fmt: skip
    """Go on with a run exactly where its last saved state stands, or train a finished run on to `epochs`.

    A run of a class of one's own needs `model` as `FILE.py:CLASS`: a run folder makes no code run.

    Raises:
        ModelError: a network that cannot be built again, or code that is not named.
        CheckpointError: no usable state, or one of another version; what is there stays untouched.
        DataError: the data changed since the run began.
    """
    with handed_back(model if isinstance(model, ConvNet) else None):
        run = run if isinstance(run, RunFolder) else RunFolder(Path(run))
        return _resume(run, epochs, dataset, model, progress)


def _resume(
    run: RunFolder, epochs: int | None, dataset: Dataset | None, model: ConvNet | str | None, progress: Progress
) -> RunResult:
    watch = journal.Stopwatch()
    with watch.phase("load"):
        options = run.read_recipe()
        code = full_name(model) if isinstance(model, str) else None
        if code is not None:
            options = replace(options, model=replace(options.model, model=code))
        state, warning = load_state(run.resume)
        if warning:
            progress.warn(warning)
        check_state(state, run.resume)
        dataset = dataset if dataset is not None else load_data(options.data, progress=progress)
        journal.check_same_data(run, dataset)
        if epochs is not None and epochs != options.schedule.epochs:
            options = _train_on(options, epochs, state["epoch"], run)
        given = model if isinstance(model, ConvNet) else None
        network = given if given is not None else rebuild(state["architecture"], start=False, code=code)
        if code and network.architecture.config.get("sha256") != state["architecture"]["config"].get("sha256"):
            progress.warn(f"the file of {network.architecture.name} has changed since {run.name} began")
        options, spec = resolve(options, dataset, given=given)
        options = _as_compiled_here(options, progress)
    seed_everything(options.training.seed, deterministic=options.runtime.deterministic)
    session = open_session(options, spec, dataset, run, network)
    compile_as_recorded(session)
    restore_state(session, state)
    if state["planned_epochs"] != options.schedule.epochs:
        session.position.stopped_early = False
        session.position.epochs_without_improvement = 0
        lengthen_schedule(session)
        # the recipe first: killed between the two, the next try finds them to differ and lengthens again
        write_recipe(
            options, run.recipe, f"Every option of this run, resolved; trained on after epoch {state['epoch']}."
        )
        save_state(run.resume, gather_state(session))
    journal.rewind_metrics(run, session.position.epoch, session.position.step)
    done = session.position
    progress.say(f"resuming {run.name} after epoch {done.epoch} of {options.schedule.epochs}, batch {done.batch}")
    return _train_and_finish(session, watch, True, progress)


def _train_and_finish(session: Session, watch: journal.Stopwatch, resumable: bool, progress: Progress) -> RunResult:
    with watch.phase("train"):
        _train_epochs(session, resumable, progress)
    with watch.phase("evaluate"):
        scores, protocol = _finish(session, progress)
    facts = session.run.read_environment()
    earlier = facts.get("phases", {})  # of the same run, before it was stopped
    facts["phases"] = earlier | {name: earlier.get(name, 0.0) + one for name, one in watch.phases.items()}
    facts["training_seconds"] = session.position.seconds
    journal.write_environment(session.run, facts)
    assert session.options.model.model is not None
    return RunResult(
        run=session.run.path, model=session.model.architecture.name, epochs=session.position.epoch,
        seconds=session.position.seconds, val=scores.get("val"), test=scores.get("test"),
        best_epoch=session.position.best_epoch, protocol=protocol,
    )  # fmt: skip


def _train_epochs(session: Session, resumable: bool, progress: Progress) -> None:
    options, position, run = session.options, session.position, session.run
    epochs = options.schedule.epochs or 0

    def save() -> None:
        if resumable:
            save_state(run.resume, gather_state(session))

    def log(row: dict[str, Any]) -> None:
        journal.append_metrics(run, {"kind": "step", "epoch": position.epoch + 1, "step": position.step, **row})

    events = journal.open_events(run, position.step) if options.training.tensorboard else None
    images = session.batches_per_epoch * (options.optimizer.batch_size or 1)
    probe = None
    if options.training.record == "depth":
        from striate.training.depth import DepthProbe  # follows rectifiers, which no other training asks for

        probe = DepthProbe(session)
        if not run.read_depth():
            journal.append_depth(run, probe.look(session))
    while position.epoch < epochs and not position.stopped_early:
        title = f"epoch {position.epoch + 1}/{epochs}"
        if (line := freezing.change_in_words(session)) is not None:
            progress.say(f"{title}: {line}")
        with progress.task(title, images) as task:
            figures = train_epoch(session, task, log, save)
        position.epoch += 1
        position.batch, position.sums = 0, {}
        if probe is not None:
            journal.append_depth(run, probe.look(session))
        row = {
            "kind": "epoch",
            "epoch": position.epoch,
            "step": position.step,
            "lr": session.schedule.taken[0],
            **figures,
        }
        row |= freezing.figures(session)
        if position.epoch == epochs or position.epoch % options.training.evaluate_every == 0:
            row |= _validate_and_keep_best(session)
        session.schedule.after_epoch(_quality(row["val"], "last")[0] if "val" in row else None)
        journal.append_metrics(run, row)
        if events is not None:
            journal.add_events(events, row)
        progress.say(_epoch_line(row, epochs))
        if is_snapshot(position.epoch, options):
            _save_snapshot(session, row)
        patience = options.training.early_stopping
        waited = position.epochs_without_improvement >= patience and freezing.all_learn(session)
        if patience and waited and position.epoch < epochs:
            position.stopped_early = True
            progress.say(f"no better for {patience} epochs: stopped early, keeping epoch {position.best_epoch}")
        save()


def _validate_and_keep_best(session: Session) -> dict[str, Any]:
    """Score the raw and the averaged weights on the validation split; save the better if it is the best so far."""
    position, by = session.position, session.options.training.best_by
    assert by is not None  # resolved
    candidates: list[tuple[str, torch.nn.Module]] = [("raw", session.model)]
    if session.average is not None:
        candidates.append(("ema", session.average.module))
    figures = {name: validate(session, network) for name, network in candidates}
    # of this epoch's two the better; the average where there are no validation images to tell
    name, network = max(candidates, key=lambda one: _quality(figures[one[0]], by))
    if figures[name] is None:
        name, network = candidates[-1]
    quality = list(_quality(figures[name], by))
    # without validation images, or by wish, the last epoch is the best; of equals, the first
    best = position.best is None or by == "last" or figures[name] is None or quality > position.best
    if best:
        position.best, position.best_epoch, position.best_weights = quality, position.epoch, name
        _save_weights(session, session.run.model, network, {"val": figures[name]} if figures[name] else {})
        position.epochs_without_improvement = 0
    else:
        position.epochs_without_improvement += position.epoch - position.validated_epoch
    position.validated_epoch = position.epoch
    row = {"val": figures["raw"], "val_ema": figures.get("ema")}
    return {key: value for key, value in row.items() if value is not None} | {"best": best}


def validate(session: Session, network: torch.nn.Module) -> dict[str, Any] | None:
    """top1, top5, loss and balanced_accuracy of `network` on the validation split, or None where there is none.

    Of several labels an image map, top1, top5 and loss.
    """
    if session.validation is None:
        return None
    logits, targets, _ = logits_of(network, session.validation, precision=session.precision)
    loss = float(session.model.loss(logits.to(session.device), targets.to(session.device)))
    split, labels = session.dataset.splits["val"], session.dataset.labels
    if labels.multi_label:
        scores = score_labels(logits, targets, labels, loss=loss, unreadable=split.unreadable_labels)
        return {"map": scores.map, "top1": scores.top1, "top5": scores.top5, "loss": loss}
    scores = score(logits, targets, labels, loss=loss, unreadable=split.unreadable_targets)
    return {"top1": scores.top1, "top5": scores.top5, "loss": loss, "balanced_accuracy": scores.balanced_accuracy}


def _quality(figures: dict[str, Any] | None, by: str) -> tuple[float, float]:
    """What is compared: the chosen figure, then the loss, both so that more is better.

    `last` is the usual figure: the mean average precision of several labels an image, else top-1.
    """
    if figures is None:
        return (0.0, 0.0)
    name = ("map" if "map" in figures else "top1") if by == "last" else by
    if by == "loss" or figures[name] is None:  # no validation image has a label
        return (-figures["loss"], -figures["loss"])
    return (figures[name], -figures["loss"])


def _save_weights(session: Session, path: Path, network: torch.nn.Module, scores: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    averaged = session.average is not None and network is session.average.module
    notes = {
        "epoch": session.position.epoch, "data": session.dataset.name, "run": session.run.name,
        "weights": "ema" if averaged else "raw",
    }  # fmt: skip
    assert isinstance(network, ConvNet)
    save_model(path, network, session.spec, session.dataset.labels, scores=scores, notes=notes)


def _save_snapshot(session: Session, row: dict[str, Any]) -> None:
    """The weights after this epoch, and beside them their Polyak average where there is one."""
    networks: dict[str, tuple[torch.nn.Module, str]] = {"": (session.model, "val")}
    if session.average is not None:
        networks["-ema"] = (session.average.module, "val_ema")
    for ending, (network, key) in networks.items():
        path = session.run.snapshots / f"epoch-{session.position.epoch:04d}{ending}.safetensors"
        _save_weights(session, path, network, {"val": row[key]} if key in row else {})


def _finish(session: Session, progress: Progress) -> tuple[dict[str, Scores], str | None]:
    """Score the best weights and write down how they came about."""
    position = session.position
    facts: dict[str, Any] = {
        "selected_by": session.options.training.best_by,
        "selected_on": "val" if session.validation is not None else None,
        "best_epoch": position.best_epoch,
        "weights": position.best_weights,
        "validated": _both(session),
        "epochs": position.epoch,
        "epochs_planned": session.options.schedule.epochs,
    }
    return finish_run(
        session.run, session.options, session.dataset, session.batches, device=session.device, facts=facts,
        progress=progress,
    )  # fmt: skip


def _both(session: Session) -> dict[str, Any] | None:
    """The validation figures of the best epoch's raw weights and of their Polyak average; None without an average."""
    if session.average is None:
        return None
    rows = {row.get("epoch"): row for row in session.run.read_metrics() if row.get("kind") == "epoch"}
    row = rows.get(session.position.best_epoch, {})
    return {"raw": row.get("val"), "ema": row.get("val_ema")}


def _as_compiled_here(options: TrainOptions, progress: Progress) -> TrainOptions:
    """The options of a run that goes on, without compilation where it is no longer possible."""
    if options.runtime.compile != "on":  # recorded before there was a choice to be made: never measured later
        return with_choice(options, "off")
    if (obstacle := why_not_compiled(pick_device(options.runtime.device))) is None:
        return options
    progress.warn(f"the run was compiled, and {obstacle}: it goes on without, which differs in the last bits")
    return with_choice(options, "off")


def _train_on(options: TrainOptions, epochs: int, done: int, run: RunFolder) -> TrainOptions:
    """The options of a run that goes on to `epochs`."""
    if epochs <= done:
        raise UsageError(f"{run.name} has trained {done} epochs already", f"--epochs must be more than {done}")
    return replace(options, schedule=replace(options.schedule, epochs=epochs))


def _headline(session: Session) -> str:
    options, splits, name = session.options, session.dataset.splits, session.model.architecture.name
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    epochs = counted(options.schedule.epochs or 0, "epoch", "epochs")
    batches = counted(session.batches_per_epoch, "batch", "batches")
    classes = counted(len(session.dataset.labels), "class", "classes")
    if session.dataset.labels.multi_label:
        classes = f"{counted(len(session.dataset.labels), 'label', 'labels')}, any number to an image"
    return (
        f"{name} on {session.dataset.name} ({counts}; {classes}), "
        f"{epochs} of {batches} of {options.optimizer.batch_size}, "
        f"{session.device} {session.precision} → {session.run.path}"
    )


def _epoch_line(row: dict[str, Any], epochs: int) -> str:
    parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['train_loss']:.4f}"]
    for key, name in (("val", "val"), ("val_ema", "averaged")):
        if key in row:
            figures = row[key]
            what, value = ("mAP", figures["map"]) if figures.get("map") is not None else ("top1", figures["top1"])
            parts.append(f"{name} {what} {value:.2%} loss {figures['loss']:.4f}")
    parts.append(f"{row['seconds']:.1f} s  {row['images_per_second']:,.0f} images/s")
    return "  ".join(parts) + ("  *" if row.get("best") else "")
