"""`striate.probe`: networks looked at, the best of them found, and the plan that follows.

Torch is imported by the call, not with this module: a tuned process imports it only once there is something to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import UsageError
from striate.options import TrainOptions, merged, sections_of
from striate.progress import Console, Progress, Silent
from striate.runtime import prepare_torch, set_threads

if TYPE_CHECKING:
    from striate.data import Dataset
    from striate.transfer.result import ProbeResult


def probe(
    data: str | Path | Dataset,
    networks: str | Path | Sequence[str | Path] = (),
    *,
    plan: bool = True,
    options: TrainOptions | None = None,
    progress: bool | Progress = True,
    **settings: Any,
) -> ProbeResult:
    """Measure how much each depth of trained networks knows about images, and plan the transfer.

    Only training images are looked at. docs/transfer.md says what is measured and how.

    Args:
        data: a named set, a path, or a `Dataset`.
        networks: trained networks as they are spelt for `--from`; none, or `auto`: those that `--from auto` would start
            from.
        plan: also try short trainings against the best linear classifier, and recommend what to do.
        options: all options at once; keywords are put over them.
        progress: whether to show bars, or a `Progress` of your own.
        **settings: any option by its name, such as ``probe_images=500`` or ``device="cpu"``.

    Raises:
        UsageError: no network to look at, one without weights, or data of one class.
        UnknownNameError, CheckpointError, ModelError, OfflineError: no such network, weights, run or option.
        DataError: the data cannot be used.
    """
    base = merged(options or TrainOptions(), sections_of(settings))
    if isinstance(data, (str, Path)):
        base = merged(base, {"data": {"data": str(data)}})
    prepare_torch()
    from striate.data import load_data
    from striate.network import read_spelling
    from striate.training.defaults import check_feasible, resolve_runtime
    from striate.training.start import AUTO
    from striate.transfer.ancestry import warn_of_known_images
    from striate.transfer.deciding import planned
    from striate.transfer.probing import opened
    from striate.transfer.probing import probe as look

    shown = progress if isinstance(progress, Progress) else Console() if progress else Silent()
    dataset = load_data(base.data, progress=shown) if isinstance(data, (str, Path)) else data
    check_feasible(dataset)
    sources = [networks] if isinstance(networks, (str, Path)) else networks
    names = tuple(dict.fromkeys(str(one) for one in sources if str(one) != AUTO))
    if not names or AUTO in map(str, sources):
        names = tuple(dict.fromkeys((*names, *_found(base, dataset, shown))))
    for name in names:
        warn_of_known_images(read_spelling(name, base.training.runs).absolute, dataset, shown)
    base = resolve_runtime(base, shown)
    set_threads(base.runtime.threads)
    result = look(dataset, names, base, images=base.transfer.probe_images, progress=shown)
    if not plan:
        return result
    start = opened(result.best_source, dataset, base, Silent())
    full = read_spelling(result.best_source, base.training.runs).absolute
    chosen = replace(base, model=replace(base.model, from_=full))
    return planned(result, dataset, chosen, start=start, progress=shown)[0]


def _found(options: TrainOptions, dataset: Dataset, progress: Progress) -> tuple[str, ...]:
    """The networks that there are to start from."""
    from striate.transfer.auto import find_start

    start = find_start(options, dataset, progress)
    if not start.sources:
        raise UsageError(
            f"no network to probe {dataset.name} with: {start.why}",
            "--from NETWORK names one: a run, a model file, MODEL:WEIGHTS or MODEL:FILE",
        )
    progress.say(f"probing {start.why}")
    return start.sources
