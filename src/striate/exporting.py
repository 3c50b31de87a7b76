"""A network leaves the house: written, opened again, compared with `predict` on real images, and only then kept.

Everything is done in a folder beside the place where the files will stand; they are moved there once they have proved
to give the same answers. Whatever goes wrong before that leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.checkpoint import SavedModel, load_model, save_model
from striate.data import decode, fit, load_data, normalise
from striate.errors import CheckpointError, DataError, ModelError, StriateError, UsageError
from striate.inference.engine_cache import remove_abandoned
from striate.inference.export import (
    Format,
    Run,
    check_choices,
    find_format,
    format_of,
    reopened,
    run_over,
    write_as,
)
from striate.inference.forward import forward
from striate.inference.packaged import INPUT, OUTPUT, ExportRecord, record_of
from striate.metrics import probabilities
from striate.network import open_network, read_spelling
from striate.options import DataOptions
from striate.prediction import Classifier, expand
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder
from striate.spec import InputSpec

_IMAGES = 32  # looked at where the caller names none
_CHECKED = 256  # at most of those that the caller names, spread over all
# The largest difference that passes: of logits, in parts of the largest one; of probabilities, as they are.
TOLERANCES = {"fp32": (1e-3, 1e-3), "fp16": (2e-2, 5e-2)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """How the exported file compared with `predict`."""

    images: int
    source: str  # which images, in words
    top1_agreement: float  # of the best classes, 0 to 1
    largest_difference: float  # of any probability
    largest_logit_difference: float  # in parts of the largest logit
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """What was written, and how it compared."""

    path: Path
    files: tuple[Path, ...]  # all that belong to it, `path` first
    format: str
    model: str
    precision: str
    batch: int | None  # None: any number
    opset: int | None
    record: ExportRecord
    parity: Parity

    @property
    def bytes(self) -> int:
        """Of all files but the description."""
        return sum(file.stat().st_size for file in self.files if file.suffix != ".json")

    @property
    def input(self) -> dict[str, Any]:
        """Name, shape and type of the input; null stands for any number."""
        spec = self.record.spec
        shape = [self.batch, spec.channels, *spec.size]
        return {"name": INPUT, "shape": shape, "dtype": self.record.input_dtype}

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The same of the outputs."""
        return [{"name": OUTPUT, "shape": [self.batch, len(self.record.labels)], "dtype": "float32"}]

    def description(self) -> dict[str, Any]:
        """What stands in the file beside it: everything that is needed to feed and read it."""
        return {
            "format": self.format,
            "opset": self.opset,
            "precision": self.precision,
            "inputs": [self.input],
            "outputs": self.outputs,
            "parity": asdict(self.parity),
            **self.record.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """The form that `striate export --json` prints."""
        return {
            "path": str(self.path),
            "files": [str(file) for file in self.files],
            "format": self.format,
            "bytes": self.bytes,
            "model": self.model,
            "opset": self.opset,
            "precision": self.precision,
            "preprocessing": self.record.preprocessing,
            "input": self.input,
            "outputs": self.outputs,
            "feed": self.record.feed(),
            "probabilities": self.record.probabilities,
            "classes": len(self.record.labels),
            "parity": asdict(self.parity),
        }


def export_run(
    run: str | Path,
    *,
    to: str | None = None,
    output: str | Path | None = None,
    preprocessing: str = "declared",
    precision: str = "fp32",
    batch: int | None = None,
    check: str | Path | Sequence[str | Path] = (),
    runs: str | Path = "runs",
    offline: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Write the network that `run` spells in another format, and check it against `predict`.

    Args:
        run: any spelling of a network (see `striate.network`).
        to: `onnx`, `openvino`, `pt2` or `safetensors`; None takes what `output` ends in, else `onnx`.
        output: the file, or a folder for it; None puts it beside the model file or into the run folder, and published
            weights into the current folder.
        preprocessing: `declared` (float32, normalised by the caller) or `inside` (stored pixels).
        precision: of the parameters: `fp32`, or `fp16` where the format has it.
        batch: images at once; None for any number.
        check: images, folders or patterns, one or several, to compare on, 256 of them at most, spread over all;
            without any, the run's validation images, else the digits.
        runs: the folder that holds the run folders.
        offline: never use the network.
        progress: is told what is fetched and done.

    Raises:
        UsageError: a choice that the format does not have, or no place for the file.
        MissingExtraError: a package of the extra `export` is not installed.
        CheckpointError, UnknownNameError, ModelError, OfflineError: no usable network, or no place to write to.
        DataError: an image of `check` cannot be read.
        ModelError: the exported network answers otherwise than `predict`.
    """
    progress = progress or Silent()
    format = _format(to, output)
    check_choices(format, preprocessing, precision, batch)
    saved = open_network(run, runs=runs, offline=offline, progress=progress)
    path = _place(run, runs, saved, format, output)
    record = record_of(saved.model, saved.spec, saved.labels, preprocessing, saved.temperature, saved.thresholds)
    sources, where = _sources(run, runs, check, saved.spec, progress)
    with progress.task(f"exporting to {format.name}") as task:
        staging = _staging(path)
        try:
            written = staging / path.name
            _write(format, saved, written, preprocessing, precision, batch)
            task.advance(note="checking")
            parity = _compared(saved, _opened(format, written, record), sources, where, record, precision, batch)
            files = tuple(path.with_name(file.name) for file in _files(staging, written))
            result = ExportResult(
                path=path, files=files, format=format.name, model=record.architecture.name, precision=precision,
                batch=batch, opset=format.opset, record=record, parity=parity,
            )  # fmt: skip
            if not parity.passed:
                raise _differs(result)
            if format.graph:
                result = _described(result, staging)
            for file in result.files[::-1]:  # the file itself last: where it stands, the others do
                os.replace(staging / file.name, file)
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return result


# where to -------------------------------------------------------------------------------------------------------------


def _format(to: str | None, output: str | Path | None) -> Format:
    if to is not None:
        return find_format(to)
    if output is None or Path(output).is_dir() or not Path(output).suffix:
        return find_format("onnx")
    return format_of(Path(output))


def _place(run: str | Path, runs: str | Path, saved: SavedModel, format: Format, output: str | Path | None) -> Path:
    own = read_spelling(run, runs)
    beside = own.kind == "saved"
    stem = saved.path.stem if beside else saved.model.architecture.name.rpartition(":")[2]
    if output is None and not format.graph and beside:
        raise UsageError(f"{saved.path} is a model file already", "-o FILE writes another one")
    path = Path(output) if output is not None else (saved.path.parent if beside else Path())
    if path.is_dir():
        path = path / f"{stem}{format.suffix}"
    if not path.suffix:
        path = path.with_name(f"{path.name}{format.suffix}")
    if path.suffix.lower() != format.suffix:
        raise UsageError(f"{path.name} is not the name of a file for {format.name}", f"it must end in {format.suffix}")
    source = saved.path if beside else own.path
    if source.is_file() and path.exists() and path.samefile(source):
        raise UsageError(f"{path} is the network that is to be exported", "name another file with -o")
    return path


def _staging(path: Path) -> Path:
    remove_abandoned(path.parent, f"{path.name}.")
    try:
        return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(f"cannot write {path}: {reason}", f"is there a folder {path.parent}?") from error


def _files(staging: Path, first: Path) -> list[Path]:
    """All that was written, `first` first."""
    return [first, *sorted(file for file in staging.iterdir() if file != first)]


def _described(result: ExportResult, staging: Path) -> ExportResult:
    """The result with FILE.json beside it."""
    path = result.path.with_name(f"{result.path.name}.json")
    text = json.dumps(result.description(), indent=2, ensure_ascii=True, allow_nan=False)
    (staging / path.name).write_text(text + "\n", encoding="utf-8")
    return replace(result, files=(*result.files, path))


# writing and opening --------------------------------------------------------------------------------------------------


def _write(
    format: Format, saved: SavedModel, path: Path, preprocessing: str, precision: str, batch: int | None
) -> None:
    if format.graph:
        write_as(
            format, saved.model, saved.spec, saved.labels, path,
            preprocessing=preprocessing, precision=precision, batch=batch, temperature=saved.temperature,
            thresholds=saved.thresholds,
        )  # fmt: skip
    else:
        save_model(
            path, saved.model, saved.spec, saved.labels, scores=saved.scores, notes=saved.notes,
            temperature=saved.temperature, thresholds=saved.thresholds,
        )  # fmt: skip


def _opened(format: Format, path: Path, record: ExportRecord) -> Run:
    """What runs the written file, whose record must be what was meant."""
    if format.graph:
        run, found = reopened(format, path)
        same = found == record
    else:
        again = load_model(path, code=_code(record))
        found = (again.spec, again.labels, again.temperature, again.thresholds)
        run, same = _runner(again), found == (record.spec, record.labels, record.temperature, record.thresholds)
    if not same:
        raise ModelError(f"the {format.name} file does not describe the network that was written")
    return run


def _runner(saved: SavedModel) -> Run:
    def run(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return forward(saved.model, images, "fp32")

    return run


def _code(record: ExportRecord) -> str | None:
    source = record.architecture.config.get("source", "")
    return source if ".py:" in str(source) else None


# the check ------------------------------------------------------------------------------------------------------------


def _sources(
    run: str | Path, runs: str | Path, check: str | Path | Sequence[str | Path], spec: InputSpec, progress: Progress
) -> tuple[list[Any], str]:
    """Images to compare on, as `decode` takes them, and what they are in words."""
    names = [str(check)] if isinstance(check, (str, Path)) else [str(one) for one in check]
    if names:
        given = [_usable(name, source) for name, source in expand(names)]
        chosen = [given[index] for index in _spread(len(given), _CHECKED)]
        return chosen, "the images given" if len(chosen) == len(given) else f"of {len(given):,} images given"
    folder = read_spelling(run, runs).run
    if folder is not None:
        try:
            return _validation_images(RunFolder(folder)), "validation images of the run"
        except StriateError as error:
            progress.say(f"the run's own images cannot be had ({error.message}): checked on others")
    if spec.channels in (1, 3):
        split = load_data(DataOptions(data="digits")).splits["val"]
        return [split.images.raw(index) for index in _spread(len(split))], "digits"
    noise = np.random.default_rng(0).integers(0, 2**spec.bits, (_IMAGES, *spec.size, spec.channels))
    return list(noise.astype(np.uint8 if spec.bits <= 8 else np.uint16)), f"noise in {spec.channels} channels"


def _usable(name: str, source: Any) -> str:
    if not isinstance(source, str):  # an empty folder, or a pattern that nothing matches
        raise DataError(f"{name}: {source.reason}", "--check takes image files, folders and patterns")
    return source


def _validation_images(run: RunFolder) -> list[Any]:
    """A few images of the run's validation split, by its manifest where they are files, else by loading the data.

    Raises:
        StriateError: the data cannot be had any more without downloading them.
    """
    options = run.read_recipe().data
    root = Path(options.data).expanduser()
    if run.manifest.is_file() and root.is_dir():
        import pyarrow.parquet as pq

        rows = pq.read_table(run.manifest, columns=["path", "split", "reason"]).to_pylist()
        names = [row["path"] for row in rows if row["split"] == "val" and row["reason"] is None]
        files = [root / names[index] for index in _spread(len(names))]
        if files and all(file.is_file() for file in files):
            return list(map(str, files))
    splits = load_data(replace(options, offline=True)).splits
    split = splits.get("val") or next(iter(splits.values()))
    return [split.images.raw(index) for index in _spread(len(split))]


def _spread(count: int, most: int = _IMAGES) -> list[int]:
    """Up to `most` positions, evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []


def _compared(
    saved: SavedModel, run: Run, sources: list[Any], where: str, record: ExportRecord, precision: str, batch: int | None
) -> Parity:
    """The exported network beside `Classifier` (its probabilities) and beside the network itself (its logits)."""
    if not sources:
        raise UsageError("there are no images to check on", "name some with --check")
    pixels = torch.from_numpy(np.stack([fit(decode(source), saved.spec) for source in sources]))
    images = normalise(pixels, saved.spec)
    given = run_over(run, images if record.preprocessing == "declared" else pixels, batch)
    classifier = Classifier(saved, device="cpu", precision="fp32", backend="torch")
    place = {name: number for number, name in enumerate(saved.labels.names)}
    chances = torch.zeros(len(sources), len(place))
    for row, answer in zip(chances, classifier.predict(sources, top_k=len(place)), strict=True):
        row[[place[one.label] for one in answer.labels]] = torch.tensor([one.probability for one in answer.labels])
    with torch.inference_mode():
        logits = torch.cat([forward(saved.model, part, "fp32") for part in images.split(16)])
    of_logits = float((given - logits).abs().max() / logits.abs().max().clamp_min(1e-12))
    of_chances = float((_probabilities(given, saved) - chances).abs().max())
    most = TOLERANCES[precision]
    return Parity(
        images=len(sources),
        source=where,
        top1_agreement=float((given.argmax(1) == chances.argmax(1)).float().mean()),
        largest_difference=of_chances,
        largest_logit_difference=of_logits,
        passed=of_logits <= most[0] and of_chances <= most[1],  # False for what is no number
    )


def _probabilities(logits: torch.Tensor, saved: SavedModel) -> torch.Tensor:
    return probabilities(logits, saved.temperature, multi_label=saved.labels.multi_label)


def _differs(result: ExportResult) -> ModelError:
    parity, most = result.parity, TOLERANCES[result.precision]
    hint = "--precision fp32 keeps the parameters as they are" if result.precision == "fp16" else None
    return ModelError(
        f"the {result.format} file of {result.model} answers otherwise than predict on {parity.images} images "
        f"({parity.source}): top-1 agrees on {parity.top1_agreement:.1%}, probabilities differ by up to "
        f"{parity.largest_difference:.2g} (at most {most[1]:g} passes), logits by "
        f"{parity.largest_logit_difference:.2g} of the largest (at most {most[0]:g} passes); nothing was kept",
        hint or "export to another format, or a fixed batch (--batch 1); this is worth a report",
    )
