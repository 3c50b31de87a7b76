"""Striate: convolutional networks, from the landmark papers to your own photos.

    import striate

    result = striate.train("digits", epochs=3)
    print(result.val.top1)
    print(striate.load(result.run).predict("seven.png"))

Names are resolved on first use, so that `import striate` loads neither torch nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from striate.version import __version__ as __version__

if TYPE_CHECKING:
    from striate.anatomy import Anatomy as Anatomy
    from striate.anatomy import anatomy_of as anatomy_of
    from striate.api import benchmark as benchmark
    from striate.api import check as check
    from striate.api import evaluate as evaluate
    from striate.api import export as export
    from striate.api import load as load
    from striate.api import load_data as load_data
    from striate.api import resume as resume
    from striate.api import train as train
    from striate.bench import BenchResult as BenchResult
    from striate.data import CheckReport as CheckReport
    from striate.data import Dataset as Dataset
    from striate.errors import CheckpointError as CheckpointError
    from striate.errors import DataError as DataError
    from striate.errors import MissingExtraError as MissingExtraError
    from striate.errors import ModelError as ModelError
    from striate.errors import OfflineError as OfflineError
    from striate.errors import StriateError as StriateError
    from striate.errors import TrainingError as TrainingError
    from striate.errors import UnknownNameError as UnknownNameError
    from striate.errors import UnreadableImageError as UnreadableImageError
    from striate.errors import UsageError as UsageError
    from striate.evaluation import Evaluation as Evaluation
    from striate.explanation.asking import explain as explain
    from striate.explanation.result import Explanation as Explanation
    from striate.exporting import ExportResult as ExportResult
    from striate.models import ConvNet as ConvNet
    from striate.models import create_model as create_model
    from striate.options import AugmentOptions as AugmentOptions
    from striate.options import DataOptions as DataOptions
    from striate.options import ModelOptions as ModelOptions
    from striate.options import OptimizerOptions as OptimizerOptions
    from striate.options import RegularizeOptions as RegularizeOptions
    from striate.options import RuntimeOptions as RuntimeOptions
    from striate.options import ScheduleOptions as ScheduleOptions
    from striate.options import TrainingOptions as TrainingOptions
    from striate.options import TrainOptions as TrainOptions
    from striate.prediction import Classifier as Classifier
    from striate.progress import Progress as Progress
    from striate.spec import InputSpec as InputSpec
    from striate.spec import Labels as Labels
    from striate.spec import Prediction as Prediction
    from striate.spec import RunResult as RunResult
    from striate.spec import Scores as Scores
    from striate.transfer.advice import probe as probe
    from striate.transfer.estimators import CodesTransformer as CodesTransformer
    from striate.transfer.estimators import StriateClassifier as StriateClassifier
    from striate.transfer.features import codes as codes

_PUBLIC: dict[str, tuple[str, ...]] = {
    "striate.anatomy": ("Anatomy", "anatomy_of"),
    "striate.api": ("benchmark", "check", "evaluate", "export", "load", "load_data", "resume", "train"),
    "striate.bench": ("BenchResult",),
    "striate.data": ("CheckReport", "Dataset"),
    "striate.errors": (
        "CheckpointError",
        "DataError",
        "MissingExtraError",
        "ModelError",
        "OfflineError",
        "StriateError",
        "TrainingError",
        "UnknownNameError",
        "UnreadableImageError",
        "UsageError",
    ),
    "striate.evaluation": ("Evaluation",),
    "striate.explanation.asking": ("explain",),
    "striate.explanation.result": ("Explanation",),
    "striate.exporting": ("ExportResult",),
    "striate.models": ("ConvNet", "create_model"),
    "striate.options": (
        "AugmentOptions",
        "DataOptions",
        "ModelOptions",
        "OptimizerOptions",
        "RegularizeOptions",
        "RuntimeOptions",
        "ScheduleOptions",
        "TrainOptions",
        "TrainingOptions",
    ),
    "striate.prediction": ("Classifier",),
    "striate.progress": ("Progress",),
    "striate.spec": ("InputSpec", "Labels", "Prediction", "RunResult", "Scores"),
    "striate.transfer.advice": ("probe",),
    "striate.transfer.estimators": ("CodesTransformer", "StriateClassifier"),
    "striate.transfer.features": ("codes",),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'striate' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
