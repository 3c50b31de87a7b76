"""`striate train`: where to start is found, measured and planned; then the training, and what to do next.

What was decided goes into the run's recipe, so that repeating the run never measures again; what was measured for it,
into transfer.json beside it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from safetensors import safe_open

from striate.checkpoint import SavedModel, write_atomically
from striate.data import Dataset, load_data
from striate.errors import StriateError
from striate.models import ConvNet
from striate.models.cut import depth_of, places
from striate.options import TrainOptions
from striate.options.transfer import KEEP
from striate.progress import Bars, Progress, Silent
from striate.runfolder import RunFolder, is_run
from striate.runtime import seconds_of_start
from striate.spec import RunResult
from striate.training import journal
from striate.training import resume as resume_training
from striate.training import train as train_by_gradients
from striate.training.defaults import DEFAULTS, kind_of
from striate.training.start import SCRATCH, open_start
from striate.transfer.deciding import Decision, decide
from striate.transfer.estimates import ScenarioEstimate
from striate.transfer.next_steps import next_steps
from striate.transfer.picture import draw_probe
from striate.transfer.plan import TransferPlan
from striate.transfer.probing import probe
from striate.transfer.result import ProbeResult
from striate.transfer.without_epochs import check_code, resume_without_epochs, takes_no_epochs, train_without_epochs

_FIGURES = ("expected_top1", "low", "high")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Trainer:
    """Trains by plan. For several seeds of the same images one plan serves; every fold has its own."""

    def __init__(self) -> None:
        self._decided: dict[Any, Decision] = {}

    def __call__(
        self,
        options: TrainOptions,
        *,
        dataset: Dataset | None = None,
        model: ConvNet | None = None,
        progress: Progress | None = None,
    ) -> RunResult:
        """Train as `options` say, planned where they leave it open, and say what would help next."""
        progress = progress or Silent()
        phases = {"import": seconds_of_start() or 0.0}  # first of all: it is what lies behind this moment
        begun = time.perf_counter()
        dataset = dataset if dataset is not None else load_data(options.data, progress=progress)
        phases["load"] = time.perf_counter() - begun
        key = options.data
        if key in self._decided:
            earlier = self._decided[key]
            decision = replace(earlier, options=_of_seed(earlier.options, options))
        else:
            decision = decide(options, dataset, given=model is not None, progress=progress)
            self._decided[key] = decision
            phases |= decision.seconds or {}
        phases = {name: seconds for name, seconds in phases.items() if seconds > 0}
        result = _train(decision, dataset, model, phases, progress)
        return _finished(result, decision, dataset)


def train_by_plan(
    options: TrainOptions,
    *,
    dataset: Dataset | None = None,
    model: ConvNet | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """`training.train`, with the start and the scenario found and measured where the options leave them open.

    Args:
        options: as asked for; `--from auto`, several networks and the scenario `plan` are for this to resolve.
        dataset: instead of loading `options.data.data`.
        model: a network that is there, which is trained as it is.
        progress: is told what was measured and decided.

    Raises:
        What `training.train`, `probe` and `open_network` raise.
    """
    return Trainer()(options, dataset=dataset, model=model, progress=progress)


def resume_by_plan(
    run: RunFolder, *, epochs: int | None, dataset: Dataset | None, model: ConvNet | str | None, progress: Progress
) -> RunResult:
    """Go on with a run of either kind; see `training.resume`."""
    options = run.read_recipe()
    if takes_no_epochs(options):
        result = resume_without_epochs(run, epochs=epochs, dataset=dataset, model=model, progress=progress)
    else:
        result = resume_training(run, epochs=epochs, dataset=dataset, model=model, progress=progress)
    record = run.read_transfer()
    if record and "copied" not in record:  # it was stopped before its end
        record = _completed(run, record, dataset, model, progress)
    return replace(result, transfer=_short(record))


def _completed(
    run: RunFolder, record: Mapping[str, Any], dataset: Dataset | None, model: ConvNet | str | None, progress: Progress
) -> dict[str, Any]:
    """The record of a planned run with what belongs to its end.

    What was probed is fitted again, from the codes in the cache: the record has its figures, but not its answers.
    """
    options, plan = run.read_recipe(), _plan_of(record.get("plan"))
    dataset = dataset if dataset is not None else load_data(options.data, progress=progress)
    start = found = None
    try:
        check_code(options, model)
        source = record["probe"]["best"] if record.get("probe") else options.model.from_
        named = replace(options, model=replace(options.model, from_=source))
        start = open_start(named, Bars(progress))
        if start is not None and record.get("probe"):
            known = replace(start, notes={**start.notes, "source": source})
            found = probe(dataset, [known], named, images=options.transfer.probe_images, progress=progress)
    except StriateError as error:
        progress.say(f"what would help next is told without the probe: {error.message}")
    return _recorded(run, record, dataset, start if options.model.from_ != SCRATCH else None, found, plan)


def _of_seed(decided: TrainOptions, asked: TrainOptions) -> TrainOptions:
    """What was decided, for another seed."""
    return replace(decided, training=asked.training, runtime=asked.runtime)


# training -------------------------------------------------------------------------------------------------------------


def _train(
    decision: Decision, dataset: Dataset, model: ConvNet | None, phases: Mapping[str, float], progress: Progress
) -> RunResult:
    if decision.probe is None and not takes_no_epochs(decision.options):
        return train_by_gradients(decision.options, dataset=dataset, model=model, phases=phases, progress=progress)
    options, start = decision.options, decision.start
    network = start.model.architecture.name if start is not None else DEFAULTS[kind_of(dataset)]["model"]
    name = network if takes_no_epochs(options) else options.model.model or network
    run = journal.create_run(replace(options, model=replace(options.model, model=name)), dataset)
    with _removed_if_no_run_comes_of_it(run):
        _write(run, decision.to_dict())
        if takes_no_epochs(options):
            assert start is not None
            planned = decision.plan is not None
            return train_without_epochs(
                options, dataset, start=start, run=run, planned=planned, phases=phases, progress=progress
            )
        training = replace(options.training, run_dir=str(run.path))
        return train_by_gradients(
            replace(options, training=training), dataset=dataset, phases=phases, progress=progress
        )


@contextmanager
def _removed_if_no_run_comes_of_it(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if not is_run(run.path):
            run.transfer.unlink(missing_ok=True)
            with suppress(OSError):
                run.path.rmdir()
        raise


def _finished(result: RunResult, decision: Decision, dataset: Dataset) -> RunResult:
    """The result with what to do next, which is written down."""
    run = RunFolder(result.run)
    record = _recorded(run, decision.to_dict(), dataset, decision.start, decision.probe, decision.plan)
    return replace(result, transfer=_short(record))


def _recorded(
    run: RunFolder,
    record: Mapping[str, Any],
    dataset: Dataset,
    start: SavedModel | None,
    found: ProbeResult | None,
    plan: TransferPlan | None,
) -> dict[str, Any]:
    """What is known at the end of a run beside what was decided before it; written, and drawn."""
    steps = next_steps(run, dataset, found, plan)
    whole = dict(record) | {
        "next_steps": [one.to_dict() for one in steps],
        "copied": _copied(start, run) if start is not None else [],
    }
    _write(run, whole)
    if found is not None and run.read_recipe().training.report:
        draw_probe(found, run.transfer_picture)
    return whole


def _copied(start: SavedModel, run: RunFolder) -> list[dict[str, str]]:
    """By part of the network how many of its parameters it started with, out of how many."""
    with safe_open(run.model, framework="numpy") as stored:
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        record = json.loads((stored.metadata() or {}).get("striate", "{}"))
    known, depths = len(places(start.model)), depth_of(start.model)
    same_classes = (record.get("labels"), record.get("multi_label", False)) == (
        list(start.labels.names), start.labels.multi_label,
    )  # fmt: skip
    theirs = {
        name: tuple(one.shape)
        for name, one in start.model.named_parameters()
        if depths[name] < known or same_classes  # another classifier is a new one
    }
    if run.read_recipe().transfer.scenario == KEEP:  # of its classifier the rows of the classes that are there
        theirs = shapes
    parts: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        if name.endswith(_STATISTICS):
            continue
        pieces = name.split(".")
        counts = parts.setdefault(".".join(pieces[:2]) if pieces[0] == "stages" else pieces[0], [0, 0])
        size = math.prod(shape)
        counts[0] += size if theirs.get(name) == shape else 0
        counts[1] += size
    rank = {"stem": 0, "stages": 1, "head": 2}
    order = sorted(parts, key=lambda part: rank.get(part.split(".")[0], 3))
    return [{"part": part, "words": f"{parts[part][0]:,} of {parts[part][1]:,} parameters"} for part in order]


def _plan_of(record: Mapping[str, Any] | None) -> TransferPlan | None:
    """A plan as transfer.json has it, without scenarios of which nothing is known."""
    if record is None:
        return None
    known = [one for one in record["scenarios"] if one["expected_top1"] is not None]
    whole: dict[str, Any] = {
        name: math.nan if value is None and name in _FIGURES else value for name, value in record.items()
    }
    whole |= {"why": tuple(record["why"]), "scenarios": tuple(ScenarioEstimate(**one) for one in known)}
    return TransferPlan(**whole)


def _short(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `striate train --json` prints of it."""
    if not record:
        return None
    kept = {name: record.get(name) for name in ("start", "plan", "next_steps")}
    probed = record.get("probe")
    return kept | {"best": probed["best"] if probed else None}


def _write(run: RunFolder, record: Mapping[str, Any]) -> None:
    write_atomically(run.transfer, (json.dumps(_plain(record), indent=1) + "\n").encode())


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
