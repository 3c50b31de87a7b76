"""Scores as pure functions of logits and labels.

Conventions, the same everywhere:

- A prediction is the class of the largest logit; **of equal logits the class with the lower number comes first**, so
  that top-1 is `argmax` and top-k never depends on the sorting routine.
- A row that holds a NaN gives no answer: it is wrong at every k and stands in no column of the confusion matrix.
- An image that could not be read is a wrong answer of its class: it counts in n, top-1, top-5 and recall, but has no
  column in the confusion matrix, no confidence (calibration) and no loss.
- A quotient 0 / 0 is 0, as in scikit-learn with ``zero_division=0``.

Of the modules, those that read torch's tensors are loaded on first use: a report needs only NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.metrics.calibration import CALIBRATION_BINS as CALIBRATION_BINS
    from striate.metrics.calibration import calibration_error as calibration_error
    from striate.metrics.classes import balanced_accuracy as balanced_accuracy
    from striate.metrics.classes import confusion as confusion
    from striate.metrics.classes import per_class as per_class
    from striate.metrics.classes import support as support
    from striate.metrics.summary import score as score
    from striate.metrics.topk import TOP5_FROM_CLASSES as TOP5_FROM_CLASSES
    from striate.metrics.topk import predicted as predicted
    from striate.metrics.topk import probabilities as probabilities
    from striate.metrics.topk import ranked as ranked
    from striate.metrics.topk import ranks as ranks
    from striate.metrics.topk import top_k as top_k

_PUBLIC: dict[str, tuple[str, ...]] = {
    "calibration": ("CALIBRATION_BINS", "calibration_error"),
    "classes": ("balanced_accuracy", "confusion", "per_class", "support"),
    "summary": ("score",),
    "topk": ("TOP5_FROM_CLASSES", "predicted", "probabilities", "ranked", "ranks", "top_k"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'striate.metrics' has no attribute {name!r}")
    value = getattr(import_module(f"striate.metrics.{_HOME[name]}"), name)
    globals()[name] = value
    return value
