"""What an evaluation comes to: scores, and one row per image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from striate.checkpoint import write_atomically
from striate.data.dataset import printable
from striate.metrics import predicted, probabilities, ranked
from striate.metrics.calibration import Temperature
from striate.metrics.confusions import Confusion, top_confusions
from striate.metrics.groups import GroupScores
from striate.metrics.multi_label import FittedThresholds
from striate.spec import Labels, Scores

if TYPE_CHECKING:
    from striate.evaluation.robustness import Robustness
    from striate.evaluation.strangers import Strangers

TOP = 5  # ranked classes kept per image
CONFUSIONS = 30  # listed


@dataclass
class Evaluation:
    """A network over a split.

    `predictions` has one row per image, in the order of the split: path, label, predicted, probability (of the
    predicted class), label_probability, loss, correct, error (null, or why the image could not be read; then all that
    the network would have said is null too), and top: the best 5 as (label, probability). Where an image has any number
    of labels the columns are those of `label_sets.SCHEMA`.
    """

    scores: Scores
    predictions: pa.Table
    protocol: str = "single-crop"
    model: str = ""  # what was evaluated on what, where it is known
    data: str = ""
    split: str = ""
    engine: dict[str, Any] | None = None  # what computed, why, and how it compares with torch in float32
    trust: dict[str, Any] = field(default_factory=dict)  # top-k, calibration, rejection, ranking: see `trust_of`
    groups: list[GroupScores] | None = None  # the scores of each value of a column, where they were asked for
    ensemble: dict[str, Any] = field(default_factory=dict)  # members and what each adds, of several networks
    fitted: Temperature | FittedThresholds | None = None  # where one or the other was fitted on these images
    logits: torch.Tensor | None = field(default=None, repr=False)  # [n, C] of the first n predictions, those with any
    strangers: Strangers | None = None  # how images of another set were told from these, where that was asked for
    robustness: Robustness | None = None  # the scores of images that were changed, where that was asked for

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """Path and error of every image that could not be read."""
        chosen = self.predictions.filter(self.predictions["error"].is_valid())
        return chosen.select(["path", "error"]).to_pylist()

    def confusions(self, most: int = CONFUSIONS) -> list[Confusion]:
        """The most frequent mistakes, by count."""
        matrix = np.array(self.scores.confusion, dtype=np.int64)
        names = [one.label for one in self.scores.per_class]
        return top_confusions(matrix, names, most) if len(matrix) else []

    def to_dict(self) -> dict[str, Any]:
        """The form that `striate evaluate --json` prints; of the confusion matrix the largest entries."""
        scores = self.scores.to_dict()
        del scores["confusion"]
        what = {"model": self.model, "data": self.data, "split": self.split}
        computed = {"engine": self.engine} if self.engine is not None else {}
        return {
            "protocol": self.protocol,
            **scores,
            "confusions": [one.to_dict() for one in self.confusions()],
            **self.trust,
            **self.ensemble,
            **what,
            **computed,
            **({"groups": [one.to_dict() for one in self.groups]} if self.groups is not None else {}),
            **({"ood": self.strangers.to_dict()} if self.strangers is not None else {}),
            **({"robustness": self.robustness.to_dict()} if self.robustness is not None else {}),
            "unreadable_files": self.unreadable,
        }

    def write_predictions(self, path: Path) -> None:
        """The table as a Parquet file, whole or not at all.

        Raises:
            CheckpointError: it cannot be written.
        """
        write_table(path, self.predictions)


def write_table(path: Path, table: pa.Table) -> None:
    """A Parquet file, whole or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def predictions_table(
    paths: Sequence[str],
    logits: torch.Tensor,
    targets: torch.Tensor,
    losses: torch.Tensor,
    labels: Labels,
    temperature: float = 1.0,
) -> pa.Table:
    """The rows of n images that could be read: logits [n, C], targets [n], losses [n]."""
    names = pa.array([printable(name) for name in labels.names], pa.string())
    chances = probabilities(logits, temperature)
    best, classes = ranked(chances, TOP)
    answers = predicted(logits)
    own = chances.gather(1, targets[:, None])[:, 0]
    said = chances.gather(1, answers.clamp(min=0)[:, None])[:, 0]
    places = pa.array(np.where(answers.numpy() < 0, 0, answers.numpy()), mask=answers.numpy() < 0)
    offsets = pa.array(np.arange(len(paths) + 1, dtype=np.int32) * best.shape[1])
    pairs = pa.StructArray.from_arrays(
        [names.take(pa.array(classes.flatten().numpy())), pa.array(best.flatten().numpy())], ["label", "probability"]
    )
    columns = {
        "path": pa.array([printable(path) for path in paths], pa.string()),
        "label": names.take(pa.array(targets.numpy())),
        "predicted": names.take(places),
        "probability": pa.array(said.numpy(), pa.float32()),
        "label_probability": pa.array(own.numpy(), pa.float32()),
        "loss": pa.array(losses.float().numpy(), pa.float32()),
        "correct": pa.array((answers == targets).numpy()),
        "error": pa.nulls(len(paths), pa.string()),
        "top": pa.ListArray.from_arrays(offsets, pairs),
    }
    return pa.table(columns, schema=SCHEMA)


def unreadable_table(rows: Sequence[tuple[str, str | None, str]]) -> pa.Table:
    """The rows of images that could not be read: path, label and error of each."""
    count = len(rows)
    columns = {
        "path": pa.array([printable(path) for path, _, _ in rows], pa.string()),
        "label": pa.array([None if label is None else printable(label) for _, label, _ in rows], pa.string()),
        "predicted": pa.nulls(count, pa.string()),
        "probability": pa.nulls(count, pa.float32()),
        "label_probability": pa.nulls(count, pa.float32()),
        "loss": pa.nulls(count, pa.float32()),
        "correct": pa.array([False] * count, pa.bool_()),
        "error": pa.array([printable(error) for _, _, error in rows], pa.string()),
        "top": pa.nulls(count, SCHEMA.field("top").type),
    }
    return pa.table(columns, schema=SCHEMA)


SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "label": pa.string(),
        "predicted": pa.string(),
        "probability": pa.float32(),
        "label_probability": pa.float32(),
        "loss": pa.float32(),
        "correct": pa.bool_(),
        "error": pa.string(),
        "top": pa.list_(pa.struct({"label": pa.string(), "probability": pa.float32()})),
    }
)
