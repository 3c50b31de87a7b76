"""The verbs of the library, as `striate.train(...)` and so on; the command line calls the same ones.

Options are keywords here, by the names they have on the command line: ``train("digits", epochs=3, weight_decay=1e-4)``
is ``striate train digits --epochs 3 --weight-decay 1e-4``. Rooms are imported inside the functions, since torch is
only worth loading once there is something to do, and its allocator can only be tuned before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

from striate.errors import UnknownNameError, UsageError
from striate.options import DataOptions, TrainOptions, load_recipe, merged, options_of, sections_of
from striate.options.bench import BenchOptions
from striate.options.robustness import changes_asked
from striate.progress import Console, Progress

if TYPE_CHECKING:
    from striate.bench import BenchResult
    from striate.data import CheckReport, Dataset
    from striate.evaluation import Evaluation
    from striate.exporting import ExportResult
    from striate.models import ConvNet
    from striate.prediction import Classifier
    from striate.spec import RunResult
    from striate.training import RepeatResult


def train(
    data: str | Path | Dataset | None = None,
    *,
    recipe: str | Path | None = None,
    options: TrainOptions | None = None,
    progress: bool | Progress = True,
    **settings: Any,
) -> RunResult | RepeatResult:
    """Train a network, evaluate it, and write its run folder and report.

    Args:
        data: A named set (`digits`, `mnist` …), a path, or a `Dataset`; `digits` where nothing else is said.
        recipe: The name of a shipped recipe or a TOML file.
        options: All options at once; `recipe` and keywords are put over them.
        progress: Whether to show bars (also in a notebook), or a `Progress` of your own.
        **settings: Any option by its name, such as ``epochs=3``; `model` may also be a `ConvNet`.

    Raises:
        UnknownNameError: an option, recipe, data set or model of that name does not exist.
        UsageError: a value does not fit its declaration.
        DataError, ModelError, TrainingError: the data or the network cannot be used, or training failed.
    """
    base = options or TrainOptions()
    if recipe is not None:
        base = load_recipe(recipe, base)
    dataset = None
    if isinstance(data, (str, Path)):
        settings["data"] = str(data)
    elif data is not None:
        dataset = data
    network = settings.pop("model") if "model" in settings and not _is_text(settings["model"]) else None
    chosen = merged(base, sections_of(settings))
    if recipe is not None:
        check_code_named(chosen, {name.rstrip("_") for name in settings})
    return train_and_report(chosen, dataset=dataset, model=network, progress=progress_of(progress))


def train_and_report(
    options: TrainOptions,
    *,
    dataset: Dataset | None = None,
    model: ConvNet | None = None,
    progress: Progress,
) -> RunResult | RepeatResult:
    """Train by these options (several times for `seeds` and `folds`), then write the report unless switched off.

    Raises:
        UsageError: `seeds` or `folds` together with a ready-made data set or network, or `seeds` of what is not random.
    """
    _before_torch()
    from striate.training import repeat
    from striate.transfer.by_plan import Trainer
    from striate.transfer.without_epochs import takes_no_epochs

    train_network = Trainer()
    if max(options.training.seeds, options.training.folds) > 1:
        if dataset is not None or model is not None:
            raise UsageError("seeds and folds need the data and the network by name", "loop over seed= yourself")
        if options.training.seeds > 1 and takes_no_epochs(options):
            raise UsageError(
                f"nothing in --scenario {options.transfer.scenario} is random: --seeds {options.training.seeds} would "
                "give the same run again and again",
                f"--folds {options.training.seeds} varies the images",
            )
        repeated = repeat(options, train=train_network, progress=progress)
        runs = tuple(_with_report(result) for result in repeated.runs) if options.training.report else repeated.runs
        return replace(repeated, runs=runs)
    result = train_network(options, dataset=dataset, model=model, progress=progress)
    return _with_report(result) if options.training.report else result


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    dataset: Dataset | None = None,
    model: ConvNet | str | None = None,
    progress: bool | Progress = True,
) -> RunResult:
    """Go on with a run that was stopped, to the bit; or train a finished one on to a larger number of `epochs`.

    Args:
        run: A run folder, its name, or `latest`.
        epochs: The new total; what the run was planned for where nothing is said.
        dataset: The data set that the run was given, where it was given one.
        model: Likewise its network; `FILE.py:CLASS` for a run of a class of your own, whose file is run.
        progress: Whether to show bars, or a `Progress` of your own.

    Raises:
        CheckpointError: no such run, or its resume state is missing or damaged; what is there stays untouched.
        DataError: the data changed since the run began.
    """
    from striate.runfolder import find_run

    folder = find_run(str(run))
    _before_torch()
    from striate.transfer.by_plan import resume_by_plan

    shown = progress_of(progress)
    result = resume_by_plan(folder, epochs=epochs, dataset=dataset, model=model, progress=shown)
    return _with_report(result) if folder.read_recipe().training.report else result


def evaluate(
    run: str | Path | Sequence[str | Path], data: str | Path | Dataset | None = None, *, split: str | None = None,
    batch_size: int | None = None, device: str = "auto", precision: str | None = None, backend: str = "auto",
    calibration: str | Path | None = None, views: str = "single", by: str | None = None,
    costs: str | Path | None = None, ood: str | Path | Dataset | None = None, snapshots: bool = False,
    soup: str | Path | None = None, soup_by: str = "greedy", robustness: str | Sequence[str] | None = None,
    robustness_images: int | None = None, progress: bool | Progress = True, **settings: Any,
) -> Evaluation:  # fmt: skip
    """Score a trained network: on the test split of its own data (`val` where there is none), or on other data.

    Args:
        run: A run folder, its name, `latest`, a model file, `MODEL:WEIGHTS` … (see `striate.network`). Several answer
            together, and `result.ensemble` says what each adds.
        data: Other data than the network was trained on; all but run folders need them.
        split: `train`, `val`, `test` or `all`.
        batch_size: Images passed at once; 16 to 256 by their size where nothing is said.
        device: `auto`, `cpu`, `cuda` …
        precision: `fp32`, `bf16`, `fp16`, `int8`, `auto`; the run's own where nothing is said.
        backend: `torch`, `onnxruntime`, `openvino`, or `auto`: what `result.engine` says, and why.
        calibration: Images for int8; a run takes those it was trained on.
        views: `single`, or the averaged answers to several views of each image: `flip`, `flip+shift`, `ten-crop`,
            `multi-scale`, `144-crop`, `dense` (`docs/evaluation.md`).
        by: Also score the images of each value of this column apart: `result.groups`.
        costs: A table of what mistakes cost, to say what the cheapest decisions come to: `result.trust["costs"]`.
        ood: Images of something else, labelled or not, to tell from those just scored: `result.strangers`.
        snapshots: Average the weights that each run kept along its way (``train(schedule="cyclic")``).
        soup: Also write a model file of the mean weights: of the networks that do not lower its validation score
            (`soup_by` `greedy`), or of all (`uniform`).
        robustness: Also score so many (`robustness_images`) images changed by these kinds (`docs/robustness.md`):
            `result.robustness`.
        progress: Whether to show bars, or a `Progress` of your own.
        **settings: Options of the data that differ from the run's, such as ``data_root=``.

    Raises:
        UnknownNameError, CheckpointError: no such run, file, network or weights, or it is damaged.
        ModelError, OfflineError: weights that do not fit, or cannot be fetched.
        DataError: the data cannot be used, or have classes that the network does not know.
    """
    options = _data_settings(settings)
    _before_torch()
    from striate.evaluation.ensembles import evaluate_networks

    return evaluate_networks(
        [run] if isinstance(run, (str, Path)) else run, data, snapshots=snapshots, soup=soup, soup_by=soup_by, ood=ood,
        split=split, data_options=options, batch_size=batch_size, device=device, precision=precision, backend=backend,
        calibration=calibration, views=views, by=by, costs=costs,
        robustness=changes_asked(robustness, robustness_images), progress=progress_of(progress),
    )  # fmt: skip


def load(
    run: str | Path, *, device: str = "auto", precision: str = "fp32", backend: str = "auto",
    calibration: str | Path | None = None, offline: bool = False, progress: bool | Progress = True,
) -> Classifier:  # fmt: skip
    """A classifier that is ready to predict.

    Args:
        run: A run folder, its name, `latest`, a model file, `MODEL:WEIGHTS` such as `resnet18:imagenet1k_v1`,
            `MODEL:FILE`, or a file of weights alone (see `striate.network`).
        device: `auto`, `cpu`, `cuda` …
        precision: `fp32`, `bf16`, `fp16` (GPU), `int8`, or `auto`.
        backend: `torch`, `onnxruntime`, `openvino`, or `auto`: an engine that was built before, else torch.
        calibration: Images for int8; a run takes those it was trained on.
        offline: Never use the network.
        progress: Whether to say what is fetched and adapted, or a `Progress` of your own.

    Raises:
        UnknownNameError, CheckpointError: no such run, file, network or weights, or it is damaged.
        ModelError, OfflineError: weights that do not fit, or cannot be fetched.
    """
    _before_torch()
    from striate.prediction import Classifier

    return Classifier.load(
        run, device=device, precision=precision, backend=backend, calibration=calibration, offline=offline,
        progress=progress_of(progress),
    )  # fmt: skip


def export(
    run: str | Path,
    to: str | None = None,
    output: str | Path | None = None,
    *,
    preprocessing: str = "declared",
    precision: str = "fp32",
    batch: int | None = None,
    check: str | Path | Sequence[str | Path] = (),
    offline: bool = False,
    progress: bool | Progress = True,
) -> ExportResult:
    """Write a network in another format, with its preprocessing, and check it against `predict` on real images.

    Args:
        run: A run folder, its name, `latest`, a model file, `MODEL:WEIGHTS` … (see `striate.network`).
        to: `onnx`, `openvino`, `pt2` (PyTorch's exported program) or `safetensors`; None goes by the ending of
            `output`, else `onnx`.
        output: The file, or a folder for it; None puts it beside the model file or into the run folder.
        preprocessing: `declared`: float32 input, normalised by the caller as the file's record says; `inside`: stored
            pixels, normalised by the network.
        precision: Of the parameters: `fp32`, or `fp16` for `onnx` and `openvino`.
        batch: Images at once; None for any number.
        check: Images, folders or patterns, one or several, to compare on; without any, the run's validation images,
            else the digits.
        offline: Never use the network.
        progress: Whether to say what is done, or a `Progress` of your own.

    Raises:
        UsageError: a choice that the format does not have, or no place for the file.
        MissingExtraError: a package of `striate[export]` is not installed.
        UnknownNameError, CheckpointError, ModelError, OfflineError: no usable network, or no place to write to.
        ModelError: the exported network answers otherwise than `predict`; nothing is kept.
        DataError: an image of `check` cannot be read.
    """
    _before_torch()
    from striate.exporting import export_run

    return export_run(
        run, to=to, output=output, preprocessing=preprocessing, precision=precision, batch=batch, check=check,
        offline=offline, progress=progress_of(progress),
    )  # fmt: skip


def load_data(data: str | Path | DataOptions, *, progress: bool | Progress = True, **settings: Any) -> Dataset:
    """Find, read and split a data set; keywords are the options of the section `data`.

    Raises:
        DataError: the data cannot be used as they are.
        OfflineError: they would have to be downloaded.
    """
    options = data if isinstance(data, DataOptions) else DataOptions(data=str(data))
    options = merged(options, _data_settings(settings), "data")
    _before_torch()
    from striate.data import load_data as read

    return read(options, progress=progress_of(progress))


def check(data: str | Path | Dataset, *, progress: bool | Progress = True, **settings: Any) -> CheckReport:
    """Examine a data set: counts, sizes, unreadable files, duplicates, leaks, imbalance. Changes nothing.

    What can be scored but not trained on is examined too; `trainable` is False then, and the first warning says why.

    Raises:
        DataError: the data can be neither trained on nor scored.
        OfflineError: they would have to be downloaded.
    """
    shown = progress_of(progress)
    if isinstance(data, (str, Path)):
        options = merged(DataOptions(data=str(data)), _data_settings(settings), "data")
        _before_torch()
        from striate.data import check as check_data

        return check_data(options, progress=shown)
    from striate.data import examine

    return examine(data, progress=shown)


def _with_report(result: RunResult) -> RunResult:
    """Write the run's report, put its path into the result and its seconds beside those of the other phases."""
    from striate.report import write_report
    from striate.runfolder import RunFolder
    from striate.training.journal import write_environment

    started = time.perf_counter()
    result = replace(result, report=write_report(result.run))
    run = RunFolder(result.run)
    facts = run.read_environment()
    facts["phases"] = facts.get("phases", {}) | {"report": time.perf_counter() - started}
    write_environment(run, facts)
    return result


def benchmark(
    model: str | Path,
    *,
    runs: str | Path = "runs",
    offline: bool = False,
    progress: bool | Progress = True,
    **settings: Any,
) -> BenchResult:
    """Time the training and inference of a network here, beside what the machine can do at most.

    Args:
        model: Every spelling of a network (see `striate.network`); a bare name has random weights, which serve as well.
        runs: The folder that holds the run folders.
        offline: Never use the network.
        progress: Whether to show a bar, or a `Progress` of your own.
        **settings: Options of `striate bench` by their names, such as ``train=True, batch_size=64`` or
            ``precision=("fp32", "bf16")``.

    Raises:
        UsageError: a combination that cannot be, such as fp16 on a processor.
        UnknownNameError, CheckpointError, ModelError, OfflineError: no usable network.
        StriateError: nothing could be measured.
    """
    known = {one.name: one.type for one in options_of(BenchOptions)}
    for name, value in settings.items():
        if name not in known:
            raise UnknownNameError("option of the benchmark", name, known)
        if get_origin(known[name]) is tuple and isinstance(value, (str, int)):
            settings[name] = (value,)
    options = merged(BenchOptions(), settings, "bench")
    _before_torch()
    from striate.bench import benchmark as measure

    return measure(model, options, runs=runs, offline=offline, progress=progress_of(progress))


def run_or_file(text: str | Path, runs: str | Path = "runs") -> Path:
    """The path that `RUN` names: a model file, or a run folder by path, name or `latest`.

    Raises:
        UnknownNameError, CheckpointError: no such run.
    """
    from striate.runfolder import find_run

    path = Path(text)
    if path.is_file() or path.suffix == ".safetensors":  # a missing one is reported by who opens it
        return path
    return find_run(str(text), Path(runs)).path


def check_code_named(options: TrainOptions, named: set[str]) -> None:
    """A recipe, which may come from anywhere, makes no code run: a class of one's own is named by the caller.

    Raises:
        UsageError: `FILE.py:CLASS` in an option that is not among those `named`.
    """
    from striate.models.sources import names_code

    sources = options.model.from_ if isinstance(options.model.from_, tuple) else (options.model.from_,)
    for name, value in (("model", options.model.model), *(("from", source) for source in sources)):
        if value is not None and name not in named and names_code(value):
            raise UsageError(
                f"the recipe names code to be run ({value}), which a recipe cannot", f"give it as --{name} {value}"
            )


def progress_of(progress: bool | Progress) -> Progress:
    """A `Progress` from the switch that the verbs take."""
    if isinstance(progress, Progress):
        return progress
    return Console() if progress else Progress()


def _data_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in (known := [one.name for one in options_of(DataOptions)]):
            raise UnknownNameError("option of the data", name, known)
    return sections_of(settings).get("data", {})


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _before_torch() -> None:
    from striate.runtime import prepare_torch

    prepare_torch()
