"""A linear classifier of codes as a run like any other: the cut network with the classifier as its head.

Of a blend, which reads several places, each adds its own linear layer (see `models.cut`).

Nothing is drawn at random and nothing measured on the clock: codes and classifier follow from the recipe, the images
and the weights alone. A run that was killed while it was written is finished by doing again what is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.checkpoint import SavedModel, load_model, save_model, write_atomically
from striate.data import Dataset, load_data
from striate.data.parts import digests_of, thinned
from striate.errors import CheckpointError, ModelError, StriateError, UsageError
from striate.evaluation import check_views
from striate.linear.blending import BLEND
from striate.linear.by_depth import answers_by_depth, blend_of, fit_blend
from striate.linear.classifiers import Linear, fit_softmax, fit_svm, fold_numbers
from striate.metrics import score
from striate.models import ConvNet
from striate.models.cut import HEAD, cut_at, modules_up_to, new_classifier, places, side_classifiers
from striate.models.sources import code_of, full_name, is_own, names_code
from striate.options import TrainOptions
from striate.options.transfer import LINEAR
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.runtime import denormals_flushed, environment, pick_device, seed_everything, set_threads
from striate.spec import InputSpec, RunResult
from striate.training import journal
from striate.training.defaults import resolve_runtime
from striate.training.finishing import finish_run, training_batches
from striate.training.prepare import resolved_for
from striate.training.start import locate_start, open_start
from striate.transfer.codes import Codes, code_folder, codes_of
from striate.transfer.probing import IMAGES, OF_EACH, opened

Part = tuple[str, Linear]  # a place, and what reads it
FITS: dict[str, Callable[..., Linear]] = {"svm": fit_svm, "softmax": fit_softmax}


def is_linear(options: TrainOptions) -> bool:
    """Whether these options ask for a linear classifier of codes, rather than for a training by gradients."""
    return options.transfer.scenario in LINEAR


@denormals_flushed()
def train_linear(
    options: TrainOptions, dataset: Dataset, *, start: SavedModel, run: RunFolder, planned: bool = False,
    phases: Mapping[str, float] | None = None, progress: Progress,
) -> RunResult:  # fmt: skip
    """Fit the classifier that `options` ask for on all training images and leave a run folder.

    Args:
        options: with a linear scenario, a place to cut at, which a blend need not have, and one `--from`, located.
        dataset: as loaded.
        start: the network, opened.
        run: the folder, which is there.
        planned: whether measurements chose the scenario, so that other options had their effect on them; where it was
            asked for, options that do nothing are named.
        phases: seconds that this run took before, by phase.
        progress: is told what is done.

    Raises:
        ModelError: the network has no such place.
        DataError: images of fewer than two classes.
    """
    watch = journal.Stopwatch.of_command(phases)
    with watch.phase("prepare"):
        asked = locate_start(options)
        options, spec, _ = resolved_for(_plain(asked), dataset, start=start)
        if not planned and (idle := _idle(asked, options)):
            progress.warn(
                f"without effect on a linear classifier of codes (--scenario {options.transfer.scenario}): "
                f"{', '.join(idle)}"
            )
        options = resolve_runtime(options, progress)
        facts = environment(pick_device(options.runtime.device))
        facts |= {"precision": options.runtime.precision, "phases": watch.handed_over()}
        network = opened(start, dataset, options, progress)
        *before, at = _places(options, network)  # a place that is not there is no run
        sides = [place for place in before if not place.startswith(HEAD)]  # of a blend, all that it may read
        check_views(options.evaluate.views, cut_at(network.model, at, len(dataset.labels), sides=sides), spec)
        journal.write_start(run, options, dataset, facts)
    progress.say(
        f"{options.transfer.scenario} on the codes of {_where(options)} of {options.model.from_}, "
        f"{len(dataset.splits['train'])} images, {len(dataset.labels)} classes → {run.path}"
    )
    return _fit_and_finish(_Job(run, options, spec, dataset, network), watch, progress)


@denormals_flushed()
def resume_linear(
    run: RunFolder, *, epochs: int | None = None, dataset: Dataset | None = None,
    model: ConvNet | str | None = None, progress: Progress,
) -> RunResult:  # fmt: skip
    """Finish a run of `train_linear` that was stopped; one that is finished is scored again.

    A run of a class of one's own needs `model` as `FILE.py:CLASS`: a run folder makes no code run.

    Raises:
        ModelError: code that is not named.
        UsageError: `epochs`, which such a run does not have.
        CheckpointError: what it started from is no longer there.
        DataError: the data changed since the run began.
    """
    if epochs is not None:
        raise UsageError(
            f"{run.name} is a linear classifier of codes, which has no epochs", "train a new run: --scenario all"
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
    return _fit_and_finish(_Job(run, options, spec, dataset, network), watch, progress)


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


@dataclass(frozen=True, slots=True)
class _Job:
    run: RunFolder
    options: TrainOptions
    spec: InputSpec
    dataset: Dataset
    network: SavedModel


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


def _idle(asked: TrainOptions, resolved: TrainOptions) -> list[str]:
    """The flags that ask for what has no effect; what the recipe of such a run says is what happens anyhow."""
    return [
        f"--{name.replace('_', '-')}"
        for section, names in _without_effect()
        for name in names
        if getattr(getattr(asked, section), name)
        not in (getattr(type(getattr(asked, section))(), name), getattr(getattr(resolved, section), name))
    ]


def _without_effect() -> Iterator[tuple[str, tuple[str, ...]]]:
    for section, names in _WITHOUT_EFFECT.items():
        yield section, names or tuple(one.name for one in fields(getattr(TrainOptions(), section)))


def _fit_and_finish(job: _Job, watch: journal.Stopwatch, progress: Progress) -> RunResult:
    run, options, dataset = job.run, job.options, job.dataset
    set_threads(options.runtime.threads)
    seed_everything(options.training.seed, deterministic=options.runtime.deterministic)
    device = pick_device(options.runtime.device)
    begun = time.perf_counter()
    with watch.phase("train"):
        if not _is_whole(job):
            parts, figures = _fitted(job, device, progress)
            seconds = time.perf_counter() - begun
            row = {"kind": "epoch", "epoch": 1, "step": 1, "seconds": seconds, "best": True, **figures}
            row["images_per_second"] = len(dataset.splits["train"]) / seconds
            # the line first: the model file says that the fitting is done
            write_atomically(run.metrics, (json.dumps(row) + "\n").encode())
            _save(job, parts)
    with watch.phase("evaluate"):
        last = {"selected_by": "last", "selected_on": None, "best_epoch": 1, "weights": "raw", "epochs": 1}
        scores, protocol = finish_run(
            run, options, dataset, training_batches(options, job.spec, dataset, device), device=device,
            facts=last | {"epochs_planned": 1}, progress=progress,
        )  # fmt: skip
    facts = run.read_environment()
    earlier = facts.get("phases", {})
    facts["phases"] = earlier | {name: earlier.get(name, 0.0) + one for name, one in watch.phases.items()}
    facts["training_seconds"] = next((row["seconds"] for row in run.read_metrics()), 0.0)
    journal.write_environment(run, facts)
    return RunResult(
        run=run.path, model=job.network.model.architecture.name, epochs=1, seconds=facts["training_seconds"],
        val=scores.get("val"), test=scores.get("test"), best_epoch=1, protocol=protocol,
    )  # fmt: skip


def _fitted(job: _Job, device: torch.device, progress: Progress) -> tuple[list[Part], dict[str, Any]]:
    """The classifiers of the places that count, and how they answer the images that they learned from."""
    labels, scenario = job.dataset.labels, job.options.transfer.scenario
    assert scenario is not None
    if scenario == BLEND:
        parts, found = _blended(job, device, progress)
    else:
        found = _codes(job, _places(job.options, job.network), device, progress)
        place = found.places[-1]
        parts = [(place, FITS[scenario](found.by_place[place], found.targets, len(labels)))]
    logits = np.sum([linear.logits(found.by_place[place]) for place, linear in parts], axis=0, dtype=np.float32)
    seen = score(torch.from_numpy(logits), torch.from_numpy(found.targets), labels)
    return parts, {"train_top1": seen.top1, "train_loss": seen.loss}


def _blended(job: _Job, device: torch.device, progress: Progress) -> tuple[list[Part], Codes]:
    """What the classifiers add that `blend_of` weighs; where too few images could choose, the SVM of the last place.

    Weights, C and temperatures are chosen on as many images as probing looks at. The classifiers are fitted to all, of
    which the codes of no other places are held.
    """
    train, classes = job.dataset.splits["train"], len(job.dataset.labels)
    most = job.options.transfer.probe_images or max(IMAGES, OF_EACH * classes)
    rows = thinned(train, np.arange(len(train)), most)
    some = _codes(job, _places(job.options, job.network), device, progress, rows)
    groups = None if train.groups is None else [train.groups[row] for row in rows.tolist()]
    folds = fold_numbers(some.targets, digests=digests_of(train)[rows], groups=groups)
    blend, tried = None, {}
    if len(np.unique(some.targets)) > 1:
        tried = answers_by_depth(some.by_place, some.targets, folds, classes, progress)
        blend = blend_of(some.places, tried)
    wanted = some.places[-1:] if blend is None else [place for place, _ in blend.weights]
    found = some if len(rows) == len(train) else _codes(job, wanted, device, progress)
    if blend is None:
        return [(wanted[0], fit_svm(found.by_place[wanted[0]], found.targets, classes))], found
    fitted = fit_blend(blend, tried, found.by_place, found.targets, classes)
    return [(place, part) for (place, _), part in fitted.items()], found


def _codes(
    job: _Job, wanted: Sequence[str], device: torch.device, progress: Progress, rows: np.ndarray | None = None
) -> Codes:
    return codes_of(
        job.network, job.dataset.splits["train"], places=wanted, precision=job.options.runtime.precision, device=device,
        indices=rows, cache=_folder(progress), progress=progress,
    )  # fmt: skip


def _folder(progress: Progress) -> Path | None:
    try:
        return code_folder()
    except RuntimeError as error:  # nobody's home
        progress.warn(f"codes are not kept: {error}")
        return None


def _save(job: _Job, parts: Sequence[Part]) -> None:
    model = with_classifiers(job.network.model, parts)
    notes = {
        "epoch": 1,
        "data": job.dataset.name,
        "run": job.run.name,
        "classifier": job.options.transfer.scenario,
        "reads": [f"{place} ({linear.kind}, C {linear.regularization:g})" for place, linear in parts],
    }
    adapted = job.network.notes.get("adapted")
    save_model(
        job.run.model, model, job.spec, job.dataset.labels, notes=notes | ({"adapted": adapted} if adapted else {})
    )


def with_classifiers(model: ConvNet, parts: Sequence[Part]) -> ConvNet:
    """A new network: `model` up to the deepest of some places, and linear classifiers there, scaling and all.

    What those of one network give is added up.

    Args:
        model: any network.
        parts: at least one, in any order; several may be of one place.

    Raises:
        ModelError: no such place.
    """
    order = {place: depth for depth, place in enumerate(places(model))}
    read = sorted({place for place, _ in parts}, key=lambda place: order.get(place, -1))
    cut = cut_at(model, read[-1], len(parts[0][1].bias), sides=read[:-1])
    head, sides = new_classifier(cut), side_classifiers(cut)
    with torch.no_grad():
        head.weight.zero_()
        for place, linear in parts:
            sides.get(place, head).weight.add_(torch.from_numpy(linear.weight))
            head.bias.add_(torch.from_numpy(linear.bias))
    return cut.eval()


def _is_whole(job: _Job) -> bool:
    """Whether the model file is there: it is written whole or not at all."""
    if not job.run.model.is_file():
        return False
    name = job.options.model.model
    load_model(job.run.model, code=name if name is not None and is_own(name) else None)
    return True


def _places(options: TrainOptions, network: SavedModel) -> tuple[str, ...]:
    """The places that are read: for a blend all, down to where the network is cut; shallow to deep.

    Raises:
        ModelError: no such place.
    """
    known, cut = places(network.model), options.transfer.cut
    if cut is not None:
        modules_up_to(network.model, cut)
    if options.transfer.scenario != BLEND:
        assert cut is not None
        return (cut,)
    return known if cut is None else known[: known.index(cut) + 1]


def _where(options: TrainOptions) -> str:
    cut = options.transfer.cut
    if options.transfer.scenario != BLEND:
        return str(cut)
    return "all places" if cut is None else f"all places up to {cut}"
