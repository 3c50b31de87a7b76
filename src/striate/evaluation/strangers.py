"""Out of distribution: how a network's answers tell images of another data set, which need no labels, from its own.

The scores are those of `metrics.strangers`, high for known images; the images just scored stand for the known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from striate.checkpoint import SavedModel
from striate.data.dataset import printable
from striate.data.wording import counted
from striate.errors import UsageError
from striate.evaluation.single_crop import Ask
from striate.evaluation.table import Evaluation
from striate.metrics import predicted
from striate.metrics.strangers import SCORES, histogram, separation
from striate.progress import Progress
from striate.spec import Labels

if TYPE_CHECKING:
    from striate.data import Dataset, Split


@dataclass
class Strangers:
    """What came of it.

    `images` has one row per image, the known before the strangers: path, known, predicted, error (null, or why the
    image could not be read), and each score of `SCORES`, null where there is none.
    """

    data: str
    split: str
    temperature: float
    known: int  # images with an answer
    strangers: int
    unreadable: int  # strangers
    shared: int  # strangers that are among the known, too
    scores: dict[str, dict[str, Any]]  # by name: figures of `Separation`, `histogram`
    images: pa.Table

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("data", "split", "temperature", "known", "strangers", "unreadable", "shared", "scores")
        return {name: getattr(self, name) for name in names}


def strangers_of(
    result: Evaluation,
    known: Sequence[Split],
    dataset: Dataset,
    splits: Sequence[Split],
    ask: Ask,
    saved: SavedModel,
    progress: Progress,
) -> Strangers:
    """Score `splits` of `dataset` as strangers beside the images of `result`.

    Args:
        result: of the known images, with its logits.
        known: the splits it is of.
        dataset: the strangers.
        splits: those of its splits that are looked at.
        ask: the network, as the known were asked.
        saved: the network, for its classes and its temperature, by which all scores go.
        progress: warns where strangers are no strangers.

    Raises:
        UsageError: see `refuse_several`.
        DataError: an image changed since the data were loaded.
    """
    refuse_several(saved.labels)
    labels, temperature = saved.labels, saved.temperature
    assert result.logits is not None
    shared = _shared(known, splits)
    if shared:
        some = counted(shared, "image", "images") if shared < sum(map(len, splits)) else "all images"
        are = "is" if shared == 1 and some != "all images" else "are"
        progress.warn(f"{some} of {dataset.name} {are} among those just scored, and no strangers")
    paths = result.predictions["path"].to_pylist()[: len(result.logits)]
    tables = [_rows(paths, result.logits, labels, temperature, known=True)]
    for split in splits:
        logits, _, indices = ask(split)
        tables.append(_rows([split.paths[int(one)] for one in indices], logits, labels, temperature, known=False))
        tables.append(_unreadable(split))
    images = pa.concat_tables(tables)
    from_known = images["known"].to_numpy()
    scores, rows = {}, {"known": 0, "strangers": 0}
    for name in SCORES:
        values = images[name].to_numpy()  # null becomes NaN
        pair = (values[from_known & ~np.isnan(values)], values[~from_known & ~np.isnan(values)])
        rows = {"known": len(pair[0]), "strangers": len(pair[1])}
        scores[name] = separation(*pair).to_dict() | {"histogram": histogram(*pair)}
    if not rows["strangers"]:
        progress.warn(f"no image of {dataset.name} could be scored: there is nothing to tell apart")
    return Strangers(
        data=dataset.name, split=splits[0].name if len(splits) == 1 else "all", temperature=temperature,
        unreadable=sum(len(split.unreadable) for split in splits), shared=shared, scores=scores, images=images, **rows,
    )  # fmt: skip


def refuse_several(labels: Labels) -> None:
    """Raises:
    UsageError: a network that gives any number of labels to an image, whose logits are no softmax's.
    """
    if labels.multi_label:
        raise UsageError("--ood goes by the probabilities of one class an image; this network gives several labels")


def _shared(known: Sequence[Split], strangers: Sequence[Split]) -> int:
    """How many strangers have the content of a known image."""
    there = {row.tobytes() for split in known for row in split.digests}
    return sum(row.tobytes() in there for split in strangers for row in split.digests)


def _rows(paths: Sequence[str], logits: torch.Tensor, labels: Labels, temperature: float, *, known: bool) -> pa.Table:
    """The rows of images that could be read; an answer that is no number has no score."""
    usable = logits.isfinite().all(dim=1).numpy() if len(paths) else np.zeros(0, bool)
    answers = predicted(logits).numpy() if len(paths) else np.zeros(0, np.int64)
    values = logits.double().numpy()
    names = pa.array([printable(name) for name in labels.names], pa.string())
    columns: dict[str, pa.Array] = {
        "path": pa.array([printable(path) for path in paths], pa.string()),
        "known": pa.array([known] * len(paths), pa.bool_()),
        "predicted": names.take(pa.array(np.where(usable, answers, 0), mask=~usable)),
        "error": pa.nulls(len(paths), pa.string()),
    }
    for name, score in SCORES.items():
        found = np.full(len(paths), np.nan)
        if usable.any():
            found[usable] = score(values[usable], temperature)
        columns[name] = pa.array(found, pa.float64(), mask=~usable)
    return pa.table(columns)


def _unreadable(split: Split) -> pa.Table:
    count = len(split.unreadable)
    columns: dict[str, pa.Array] = {
        "path": pa.array([printable(one.path) for one in split.unreadable], pa.string()),
        "known": pa.array([False] * count, pa.bool_()),
        "predicted": pa.nulls(count, pa.string()),
        "error": pa.array([printable(one.reason) for one in split.unreadable], pa.string()),
    }
    return pa.table(columns | {name: pa.nulls(count, pa.float64()) for name in SCORES})
