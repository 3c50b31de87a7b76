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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from striate.checkpoint import SavedModel, write_atomically
from striate.data import Dataset, load_data
from striate.errors import UsageError
from striate.models import ConvNet
from striate.models.cut import depth_of, places
from striate.network import read_spelling
from striate.options import TrainOptions
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder, is_run
from striate.spec import Labels, RunResult
from striate.training import journal
from striate.training import resume as resume_training
from striate.training import train as train_by_gradients
from striate.training.defaults import DEFAULTS, check_feasible, kind_of
from striate.training.start import AUTO, SCRATCH, open_start
from striate.training.transferring import scenario_of
from striate.transfer.ancestry import seen_by, warn_of_known_images
from striate.transfer.auto import find_start
from striate.transfer.linear_run import is_linear, resume_linear, train_linear
from striate.transfer.next_steps import next_steps
from striate.transfer.picture import draw_probe
from striate.transfer.plan import LINEAR, TransferPlan, as_options, options_for, plan_transfer
from striate.transfer.probing import probe
from striate.transfer.result import ProbeResult

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What is to be done, and what was measured to find out."""

    options: TrainOptions  # one `--from`, no `plan`
    why: str = ""  # of the start
    start: SavedModel | None = None
    probe: ProbeResult | None = None
    plan: TransferPlan | None = None
    seconds: Mapping[str, float] | None = None  # of probing and planning

    def to_dict(self) -> dict[str, Any]:
        """The form of transfer.json."""
        return {
            "start": {"from": self.options.model.from_, "why": self.why},
            "probe": self.probe.to_dict() if self.probe is not None else None,
            "plan": self.plan.to_dict() if self.plan is not None else None,
            "seconds": dict(self.seconds or {}),
            "next_steps": [],
        }


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
        begun = time.perf_counter()
        dataset = dataset if dataset is not None else load_data(options.data, progress=progress)
        loading = {"load": time.perf_counter() - begun}
        key = options.data
        if key in self._decided:
            earlier = self._decided[key]
            decision = replace(earlier, options=_of_seed(earlier.options, options))
        else:
            decision = decide(options, dataset, given=model is not None, progress=progress)
            self._decided[key] = decision
            loading |= decision.seconds or {}
        result = _train(decision, dataset, model, progress)
        return _finished(result, decision, dataset, loading)


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
    if is_linear(options):
        result = resume_linear(run, epochs=epochs, dataset=dataset, progress=progress)
    else:
        result = resume_training(run, epochs=epochs, dataset=dataset, model=model, progress=progress)
    return replace(result, transfer=_short(run.read_transfer()))


# deciding -------------------------------------------------------------------------------------------------------------


def decide(options: TrainOptions, dataset: Dataset, *, given: bool, progress: Progress) -> Decision:
    """Where to start from and how, measured where the options leave it open."""
    check_feasible(dataset)
    asked = options.model.from_
    if given:
        _refuse_linear(options)
        return Decision(options if asked != AUTO else _from(options, SCRATCH))
    why = "as asked for"
    if asked == AUTO:
        found = find_start(options, dataset, progress)
        sources, why = found.sources, found.why
    else:
        sources = (asked,) if isinstance(asked, str) else asked
        sources = () if sources == (SCRATCH,) else sources
    if not sources:
        _refuse_linear(options, why if asked == AUTO else "")
        if asked == AUTO:
            progress.say(f"starting from scratch: {why}")
        return Decision(_from(options, SCRATCH), why)
    absolute = [read_spelling(one, Path(options.training.runs)).absolute for one in sources]
    opened = {one: _opened(_from(options, one)) for one in absolute}
    first, start = absolute[0], opened[absolute[0]]
    scenario = _scenario(_from(options, first), start, dataset)
    measured = scenario == "plan" or len(absolute) > 1 or (scenario in LINEAR and options.transfer.cut is None)
    if not measured:
        return Decision(_from(options, first), why, start)
    return _measured(options, dataset, opened, scenario, why, progress)


def _refuse_linear(options: TrainOptions, why: str = "") -> None:
    if is_linear(options):
        reason = f" ({why})" if why else ""
        raise UsageError(
            f"--scenario {options.transfer.scenario} needs weights to start from{reason}", "name a network with --from"
        )


def _scenario(options: TrainOptions, start: SavedModel, dataset: Dataset) -> str:
    """As training has it, but that other images of the same classes are planned for, too."""
    scenario = scenario_of(options, start, dataset.labels)
    others = Labels(tuple(f"not {name}" for name in dataset.labels.names))
    if scenario == "all" and scenario_of(options, start, others) == "plan":
        seen, train = seen_by(str(options.model.from_)), dataset.splits["train"]
        other = seen.is_run and seen.unread is None and seen.among(train).sum() < len(train) / 2
        return "plan" if other else scenario
    return scenario


def _measured(
    options: TrainOptions,
    dataset: Dataset,
    opened: Mapping[str, SavedModel],
    scenario: str,
    why: str,
    progress: Progress,
) -> Decision:
    for source in opened:
        warn_of_known_images(source, dataset, progress)
    begun = time.perf_counter()
    sources = [_named(saved, source) for source, saved in opened.items()]
    found = probe(dataset, sources, options, images=options.transfer.probe_images, progress=progress)
    probed = time.perf_counter()
    best = found.best
    start, chosen, plan = opened[best.source], _from(options, best.source), None
    if len(opened) > 1:
        scores = ", ".join(f"{one.source} {one.expected.top1:.1%}" for one in found.sources)
        progress.say(f"of the networks to start from, {best.source} knows most about these images: {scores}")
    if scenario == "plan":
        plan = plan_transfer(found, dataset, chosen, start=start, progress=progress)
        chosen = as_options(plan, chosen)
        found = found.with_plan(plan)
        progress.say(plan.why[0])
        progress.say(next(line for line in plan.why if line.startswith("Hence")))
    elif scenario in LINEAR and options.transfer.cut is None:
        depth = max(best.depths, key=lambda one: one.by_kind(scenario).top1)
        if not depth.by_kind(scenario).n:
            depth = best.top
        chosen = options_for(replace(chosen, transfer=replace(chosen.transfer, cut=depth.place)), scenario, best.source)
    else:
        chosen = options_for(chosen, scenario, best.source)
    seconds = {"probe": probed - begun, "plan": time.perf_counter() - probed}
    return Decision(chosen, why, start if chosen.model.from_ != SCRATCH else None, found, plan, seconds)


def _opened(options: TrainOptions) -> SavedModel:
    start = open_start(options, Silent())
    assert start is not None
    return start


def _named(saved: SavedModel, source: str) -> SavedModel:
    """The network under the name that the options will have for it."""
    return replace(saved, notes={**saved.notes, "source": source})


def _from(options: TrainOptions, source: str) -> TrainOptions:
    return replace(options, model=replace(options.model, from_=source))


def _of_seed(decided: TrainOptions, asked: TrainOptions) -> TrainOptions:
    """What was decided, for another seed."""
    return replace(decided, training=asked.training, runtime=asked.runtime)


# training -------------------------------------------------------------------------------------------------------------


def _train(decision: Decision, dataset: Dataset, model: ConvNet | None, progress: Progress) -> RunResult:
    if decision.probe is None and not is_linear(decision.options):
        return train_by_gradients(decision.options, dataset=dataset, model=model, progress=progress)
    options = decision.options
    usual = DEFAULTS[kind_of(dataset)]["model"]
    name = options.model.model or (decision.start.model.architecture.name if decision.start is not None else usual)
    run = journal.create_run(replace(options, model=replace(options.model, model=name)), dataset)
    with _removed_if_no_run_comes_of_it(run):
        _write(run, decision.to_dict())
        if is_linear(options):
            assert decision.start is not None
            return train_linear(options, dataset, start=decision.start, run=run, progress=progress)
        training = replace(options.training, run_dir=str(run.path))
        return train_by_gradients(replace(options, training=training), dataset=dataset, progress=progress)


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


def _finished(result: RunResult, decision: Decision, dataset: Dataset, seconds: Mapping[str, float]) -> RunResult:
    """The result with what to do next; both are written down, and the seconds of what came before the training."""
    run = RunFolder(result.run)
    steps = next_steps(run, dataset, decision.probe, decision.plan)
    record = decision.to_dict() | {"next_steps": [one.to_dict() for one in steps]}
    record["copied"] = _copied(decision.start, run) if decision.start is not None else []
    _write(run, record)
    if decision.probe is not None and decision.options.training.report:
        draw_probe(decision.probe, run.transfer_picture)
    facts = run.read_environment()
    facts["phases"] = {**facts.get("phases", {}), **_added(facts.get("phases", {}), seconds)}
    journal.write_environment(run, facts)
    return replace(result, transfer=_short(record))


def _copied(start: SavedModel, run: RunFolder) -> list[dict[str, str]]:
    """By part of the network how many of its parameters it started with, out of how many."""
    with safe_open(run.model, framework="numpy") as stored:
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        labels = json.loads((stored.metadata() or {}).get("striate", "{}")).get("labels")
    known, depths = len(places(start.model)), depth_of(start.model)
    same_classes = labels == list(start.labels.names)
    theirs = {
        name: tuple(one.shape)
        for name, one in start.model.named_parameters()
        if depths[name] < known or same_classes  # another classifier is a new one
    }
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


def _added(phases: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: phases.get(name, 0.0) + one for name, one in seconds.items() if one > 0}


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
