"""Several networks over a split: the scores of their mean probabilities, and what each of them adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.checkpoint import SavedModel
from striate.data import Dataset, Split
from striate.data.sources.sides import ALL
from striate.errors import UsageError
from striate.evaluation.by_column import column_values, scores_by
from striate.evaluation.costs import read_costs
from striate.evaluation.ensembles.averaging import average, tempered, what_each_adds
from striate.evaluation.ensembles.members import Member, knows_the_data, open_members, refuse_seen_images
from striate.evaluation.ensembles.soup import KINDS, check_file, cook
from striate.evaluation.images import images_to_score, matched_and_told
from striate.evaluation.of_run import engine_for, evaluate_run
from striate.evaluation.protocols import Together, answers, check_views, passes_of, takes_any_size
from striate.evaluation.scoring import evaluation_of
from striate.evaluation.single_crop import evaluate
from striate.evaluation.table import Evaluation
from striate.inference.engines import EngineModule
from striate.metrics.pairs import compare_pairs
from striate.models import ConvNet
from striate.network.engines import Ready, check_calibration, usual_batch
from striate.options import RobustnessOptions
from striate.progress import Named, Progress, Silent
from striate.runfolder import RunFolder
from striate.spec import are_characters


def evaluate_ensemble(
    networks: Sequence[str | Path],
    data: str | Path | Dataset | None = None,
    *,
    snapshots: bool = False,
    soup: str | Path | None = None,
    soup_by: str = "greedy",
    split: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str | None = None,
    backend: str = "auto",
    calibration: str | Path | None = None,
    threads: int | None = None,
    views: str = "single",
    by: str | None = None,
    costs: str | Path | None = None,
    runs: str | Path = "runs",
    progress: Progress | None = None,
) -> Evaluation:
    """Score networks that answer together, by the mean of their probabilities; members and what each adds are said.

    Each network has its own preprocessing and temperature, and sees the same `views`; networks that are fed alike see
    an image together, so that it is read once. The result's `ensemble` is what `what_each_adds` gives, with `model`,
    `run`, `temperature` and `engine` of each member, and with `soup` what came of that.

    Args:
        networks: any spellings of networks that know the same classes, in any order; at least two, or `snapshots`.
        data: None for the data of the first run among them.
        snapshots: the networks are the weights that each of these runs kept along its way.
        soup: also write the mean of their weights as this model file, and score it beside them.
        soup_by: `greedy` or `uniform`: see `cook`.
        split: see `evaluate_run`, as all that follows.
        data_options: options of the data that are to differ from the run's.
        batch_size: images passed at once.
        device: where to compute.
        precision: None takes each run's own.
        backend: what computes.
        calibration: images for int8.
        threads: processor threads of back ends other than torch.
        views: of each image.
        by: also score each value of this column apart.
        costs: a table of what mistakes cost.
        runs: the folder that holds the run folders.
        progress: shows bars, and says what the data lack.

    Raises:
        As `evaluate_run`, and
        UsageError: fewer than two networks; runs whose held-out images others learned from; a greedy soup without
            validation images.
        CheckpointError: a soup that cannot be written.
        ModelError: networks of other classes; a soup of networks that differ in more than their weights.
    """
    progress = progress or Silent()
    passes_of(views)
    check_calibration(calibration, precision)
    given = dict(data_options or {})
    offline = bool(given.get("offline"))
    members = open_members(networks, snapshots=snapshots, runs=runs, offline=offline, progress=progress)
    if soup is not None:
        check_file(Path(soup), members)
    labels, usual = members[0].saved.labels, "torch" if backend == "auto" else backend
    said = [check_views(views, one.saved.model, one.saved.spec, backend=usual) for one in members]
    if views != "single" and are_characters(labels):
        progress.warn(f"--views {views} shows digits or letters mirrored, which makes other characters of them")
    first = knows_the_data(members, data)
    dataset, chosen = images_to_score(
        data, first.recipe, given, split=split, trained_on=[one.saved.notes.get("data") for one in members],
        run=first.name, progress=progress,
    )  # fmt: skip
    refuse_seen_images(members, first, dataset, chosen)
    table = read_costs(costs, labels) if costs is not None else None
    values = column_values(by, dataset, chosen) if by is not None else None
    splits = matched_and_told(chosen, dataset, labels, progress)
    cooked = cook(members, first, data=dataset, by=soup_by, device=device, progress=progress) if soup else None
    engines = [
        engine_for(
            one.saved, one.recipe, splits, backend=backend, precision=precision, device=device, threads=threads,
            calibration=calibration, views=views, offline=offline, progress=Named(progress, one.name),
        )
        for one in members
    ]  # fmt: skip
    logs, targets, paths = _asked(members, engines, splits, views, batch_size, progress)
    unreadable = [left_out for one in splits for left_out in one.unreadable]
    stand_in = SavedModel(model=cast(ConvNet, _Likelihood()), spec=members[0].saved.spec, labels=labels)
    result = evaluation_of(stand_in, average(logs), targets, paths, unreadable, costs=table)
    names = [one.name for one in members]
    missing = sum(one.label in labels.names for one in unreadable)
    ensemble = what_each_adds(names, logs, targets, unreadable=missing)
    for row, one, engine in zip(ensemble.get("members", ()), members, engines, strict=True):
        row |= {"model": one.saved.model.architecture.name, "temperature": one.saved.temperature}
        row |= {"run": str(one.run.resolve()) if one.run is not None else None, "engine": engine.to_dict()}
    counts = Counter(one.saved.model.architecture.name for one in members)
    result = replace(
        result,
        protocol=f"the mean probabilities of {len(members)} networks, each by {'; '.join(dict.fromkeys(said))}",
        ensemble=ensemble,
        groups=scores_by(values, result.predictions) if values is not None else None,
        model=" + ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items()),
        data=dataset.name,
        split=splits[0].name if len(splits) == 1 else ALL,
    )
    if cooked is not None and soup is not None:
        cooked.save(Path(soup))
        size = usual_batch(cooked.saved.spec) if batch_size is None else batch_size
        own = evaluate(cooked.saved, splits, batch_size=size, device=device, views=views, progress=progress)
        ensemble["soup"] = {**cooked.to_dict(), "file": str(soup), **_scored(own), **_against(own, result)}
    return result


def evaluate_networks(
    networks: Sequence[str | Path],
    data: str | Path | Dataset | None = None,
    *,
    snapshots: bool = False,
    soup: str | Path | None = None,
    soup_by: str = "greedy",
    ood: str | Path | Dataset | None = None,
    robustness: RobustnessOptions | None = None,
    **settings: Any,
) -> Evaluation:
    """`evaluate_run` of one network, `evaluate_ensemble` of several or of `snapshots`; their other arguments as there.

    Raises:
        UsageError: something that only one network, or only several, can be asked for.
    """
    if not networks:
        raise UsageError("there is no network to evaluate", "name a run, or any other network")
    if soup is None and soup_by != KINDS[0]:
        raise UsageError(f"--soup-by {soup_by} says how a soup is made, and none is asked for", "add --soup FILE")
    if len(networks) > 1 or snapshots:
        if ood is not None:
            raise UsageError("images of something else are told apart by one network", "evaluate each by itself")
        if robustness is not None and robustness.robustness:
            raise UsageError("changed images are asked of one network", "evaluate each by itself")
        return evaluate_ensemble(networks, data, snapshots=snapshots, soup=soup, soup_by=soup_by, **settings)
    if soup is not None:
        raise UsageError("a soup needs several networks", "name several, or the snapshots of one")
    return evaluate_run(networks[0], data, ood=ood, robustness=robustness, **settings)


def place_of(result: Evaluation) -> RunFolder | None:
    """The folder below which the evaluation of an ensemble is kept, where reports find it.

    The run of its snapshots, or the folder that holds the runs; None where no member is of a run.
    """
    folders = [Path(row["run"]) for row in result.ensemble.get("members", ()) if row["run"] is not None]
    if not folders:
        return None
    return RunFolder(folders[0] if len({*folders}) == 1 else folders[0].parent)


class _Likelihood(nn.Module):
    """What scoring needs of a network whose answers are logarithms of probabilities."""

    def loss(self, logits: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
        """Their negative mean at the true classes."""
        return F.cross_entropy(logits, targets, reduction=reduction)


def _asked(
    members: Sequence[Member],
    engines: Sequence[Ready],
    splits: Sequence[Split],
    views: str,
    batch_size: int | None,
    progress: Progress,
) -> tuple[list[Tensor], Tensor, list[str]]:
    """Logarithms of each member's probabilities [n, C], the classes in the order of the first; targets; paths."""
    found: list[list[Tensor]] = [[] for _ in members]
    targets, paths = [torch.zeros(0, dtype=torch.int64)], []
    for split in splits:
        classes, indices = torch.zeros(0, dtype=torch.int64), np.zeros(0, dtype=np.int64)
        for places in _fed_alike(members, engines):
            here, engine = members[places[0]], engines[places[0]]
            models = [members[place].saved.model for place in places]
            any_size = takes_any_size(views)
            together = Together(models, None if any_size else [EngineModule(engines[place]) for place in places])
            spec = here.saved.spec
            given, classes, indices = answers(
                together, split, spec, views, batch_size=batch_size or usual_batch(spec), device=engine.device,
                precision=engine.precision if any_size else "fp32", asked=None if any_size else together,
                channels_last=engine.backend == "torch", progress=progress,
            )  # fmt: skip
            for number, place in enumerate(places):
                one = members[place]
                part = given[:, number] if len(indices) else torch.zeros(0, len(one.order))
                found[place].append(tempered(part, one.saved.temperature, one.order))
        targets.append(classes)
        paths += [split.paths[index] for index in indices.tolist()]
    return [torch.cat(parts) for parts in found], torch.cat(targets), paths


def _fed_alike(members: Sequence[Member], engines: Sequence[Ready]) -> list[list[int]]:
    """The places of members that can look at the same batches."""
    groups: dict[Any, list[int]] = {}
    for place, (one, engine) in enumerate(zip(members, engines, strict=True)):
        own_loss = hasattr(one.saved.model.head, "loss")
        key = (one.saved.spec, own_loss, str(engine.device), engine.precision, engine.backend == "torch")
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _scored(own: Evaluation) -> dict[str, Any]:
    scores = own.scores
    return {**scores.summary(), "top1_interval": scores.top1_interval}


def _against(soup: Evaluation, ensemble: Evaluation) -> dict[str, Any]:
    """What the ensemble has ahead of the soup, paired on the images."""
    first, second = (np.array(one.predictions["correct"].to_pylist(), dtype=bool) for one in (soup, ensemble))
    return {"behind_ensemble": compare_pairs(first, second).to_dict() if len(first) else None}
