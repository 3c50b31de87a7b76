"""Materials: where images come from, and how they are checked, decoded, split, augmented and put into batches.

What computes with torch is resolved on first use, so that looking at data (`striate check`) does not load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from striate.data.dataset import Dataset as Dataset
from striate.data.dataset import LeftOut as LeftOut
from striate.data.dataset import Split as Split
from striate.data.decode import decode as decode
from striate.data.doctor import CheckReport as CheckReport
from striate.data.doctor import check as check
from striate.data.doctor import examine as examine
from striate.data.fit import fit as fit
from striate.data.images import Images as Images
from striate.data.images import PhotoImages as PhotoImages
from striate.data.images import TensorImages as TensorImages
from striate.data.load import load_data as load_data
from striate.data.normalise import normalise as normalise
from striate.data.statistics import channel_statistics as channel_statistics

if TYPE_CHECKING:
    from striate.data.augment.presets import resolve_augment as resolve_augment
    from striate.data.batches import Batch as Batch
    from striate.data.batches import EvaluationBatches as EvaluationBatches
    from striate.data.batches import TrainingBatches as TrainingBatches

_WITH_TORCH = {
    "resolve_augment": "striate.data.augment.presets",
    "Batch": "striate.data.batches",
    "EvaluationBatches": "striate.data.batches",
    "TrainingBatches": "striate.data.batches",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module 'striate.data' has no attribute {name!r}")
    return getattr(import_module(_WITH_TORCH[name]), name)
