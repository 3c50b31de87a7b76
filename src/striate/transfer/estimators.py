"""Transfer as scikit-learn knows it: a transformer from images to codes, and a classifier.

Both read images as `handed` does. They print nothing, leave nothing on disk but the cache of codes, and change neither
random state nor threads nor any other setting of the process. What a user should not miss is a Python warning.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from striate.data import EvaluationBatches, Split
from striate.data.parts import digests_of
from striate.data.split import assign
from striate.errors import UnknownNameError, UsageError
from striate.inference import logits_of
from striate.inference.forward import place
from striate.metrics import probabilities
from striate.metrics.multi_label import USUAL_THRESHOLD, chosen_labels
from striate.models.cut import pooled_codes
from striate.network.engines import usual_batch
from striate.options import DataOptions, TrainOptions, merged, options_of, sections_of
from striate.options.transfer import WITHOUT_EPOCHS
from striate.runtime import pick_device
from striate.transfer.features import At, codes_by_place, network_of, places_of
from striate.transfer.handed import as_stack, checked_range, split_of, training_data, value_range_of
from striate.transfer.unseen import Warnings, own_code, save, trained, with_opened_network, with_packed_network

OPTIONS = frozenset(one.name.rstrip("_") for one in options_of(TrainOptions))
# Options that say where images or networks come from, what is written down and how often a training is repeated:
# here that is said by the arguments of the methods, by scikit-learn's own tools, or not at all.
NOT_HERE = frozenset(
    {"data", "data_root", "image_column", "label_column", "split_column", "group", "test_fraction", "fold", "limit"}
    | {"label_delimiter", "split_file", "from", "folds", "seeds", "runs", "run_dir", "report", "tensorboard"}
    | {"snapshots", "save_minutes", "record"}
)
HELD_OUT = 0.1  # of the images, where early stopping asks for some and `val_fraction` does not say how many
_NEVER = 10**9  # epochs


class RefusedError(UsageError, ValueError):
    """A wrong argument, also as scikit-learn's tools expect it."""


class _ReadsImages:
    """What both estimators share: `image_shape`, `value_range`, and what is remembered of the images of `fit`."""

    image_shape: Sequence[int] | None
    value_range: tuple[float, float] | None

    def _split_of(self, X: Any, *, reset: bool, training: DataOptions | None = None) -> Split:
        """X as images; see `_looked_at`."""
        images = self._looked_at(X, reset)
        return split_of(images, image_shape=self.image_shape, value_range=self.value_range_, training=training)

    def _looked_at(self, X: Any, reset: bool) -> Split | list[Any] | np.ndarray:
        """X as one of the kinds that `handed` reads. `fit` (reset) remembers what later images must agree with."""
        if reset:
            self.value_range_: tuple[float, float] | None = None
        if isinstance(X, Split):
            return X
        listed = _listed(X)
        numbers = as_stack(listed) if listed is not None else self._numbers(X, reset)
        if numbers is None:
            assert listed is not None
            return listed
        if reset:
            given = self.value_range
            self.value_range_ = value_range_of(numbers) if given is None else checked_range(given)
        return numbers

    def _numbers(self, X: Any, reset: bool) -> np.ndarray:
        """X as finite numbers, [n, D] or with more axes; `n_features_in_` counts the columns of rows."""
        if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) > 2:
            if reset:
                self.__dict__.pop("n_features_in_", None)
            return check_array(X, allow_nd=True, ensure_2d=False)
        return validate_data(self, X, reset=reset)  # type: ignore[return-value]


class CodesTransformer(_ReadsImages, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Images to the codes of a trained network, float32 [n, D]; see `striate.codes`.

    ``make_pipeline(CodesTransformer("resnet18:imagenet1k_v1"), LinearSVC())`` is the classifier that works with few
    photos. Nothing is learned: `fit` opens the network.

    Args:
        network: any spelling (a run folder, `latest`, a model file, `MODEL:WEIGHTS` …), or what `striate.load` gave.
        at: the place where the network is read, as for `striate.codes`; the codes of several stand side by side.
        image_shape: (H, W) or (H, W, C) of rows of numbers. None: the smallest square that holds a row.
        value_range: the numbers that are black and white. None: in arrays that are neither uint8 nor uint16 nor from 0
            to 1, the smallest and the largest that `fit` sees.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16`, `fp16` (GPU) or `auto`.
        cache: keep the codes of files on disk, by content, so that other folds and searches read them.
        offline: never use the network.

    Attributes:
        network_: the opened network, with its input and class names.
        places_: where it is read.
        value_range_: black and white of arrays of other numbers, else None.
        n_features_in_: numbers in a row; only after rows.
    """

    def __init__(
        self,
        network: Any,
        *,
        at: At = None,
        image_shape: Sequence[int] | None = None,
        value_range: tuple[float, float] | None = None,
        device: str = "auto",
        precision: str = "fp32",
        cache: bool = True,
        offline: bool = False,
    ) -> None:
        self.network = network
        self.at = at
        self.image_shape = image_shape
        self.value_range = value_range
        self.device = device
        self.precision = precision
        self.cache = cache
        self.offline = offline

    def fit(self, X: Any, y: Any = None) -> Self:
        """Open the network; of the images, only their form is looked at.

        Raises:
            ModelError: no such place in the network.
            Also what opening the network and reading the images raise.
        """
        self._looked_at(X, reset=True)
        self.network_ = network_of(self.network, offline=self.offline, progress=Warnings())
        self.places_ = places_of(self.network_, self.at)
        spec, model = self.network_.spec, self.network_.model.eval()
        black = torch.zeros(1, spec.channels, *spec.size, device=next(model.parameters()).device)
        with torch.inference_mode():
            self._n_features_out = sum(one.shape[1] for one in pooled_codes(model, black, self.places_).values())
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The codes of images, float32 [n, D]."""
        check_is_fitted(self)
        split = self._split_of(X, reset=False)
        found = codes_by_place(
            self.network_, split, self.places_, device=self.device, precision=self.precision, cache=self.cache,
            progress=Warnings(),
        )  # fmt: skip
        return np.concatenate([found[name] for name in self.places_], axis=1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> Any:
        return with_packed_network(super().__getstate__())

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(with_opened_network(state, own_code(state.get("network"))))


class StriateClassifier(_ReadsImages, ClassifierMixin, BaseEstimator):
    """A network that is trained, or transferred, by `fit`; everything of `striate.train` with scikit-learn's verbs.

    All images of `fit` train. Where early stopping or `val_fraction` ask for it, a part of them is held out, by
    content. The same seed gives the same network, on the same hardware and with as many threads.

    Args:
        network: what training starts from: `scratch`, any spelling of a network with weights, `auto`, or a list of
            spellings, of which the best is found.
        scenario: what of it learns: `blend`, `svm`, `softmax`, `keep`, `head`, `top`, `all`, or `plan`, which
            measures what is best.
        epochs: passes over the images. None: by their number.
        seed: everything random follows from it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        image_shape: (H, W) or (H, W, C) of rows of numbers. None: the smallest square that holds a row.
        value_range: the numbers that are black and white. None: in arrays that are neither uint8 nor uint16 nor from 0
            to 1, the smallest and the largest that `fit` sees.
        **options: any other option of `striate train` by its name, such as `model`, `lr` or `early_stopping`. As
            scikit-learn wants it, wrong names and values are reported by `fit`. Different from there, `compile` is off,
            and `threads` is what torch uses already: both would otherwise depend on what else the machine does.

    Attributes:
        classes_: the labels in their order, of the type that `fit` was given; of several labels an image their numbers.
        network_: the trained network, with its input and class names.
        history_: the figures of each epoch.
        value_range_: black and white of arrays of other numbers, else None.
        n_features_in_: numbers in a row; only after rows.
    """

    def __init__(
        self,
        network: str | Path | Sequence[str | Path] = "scratch",
        *,
        scenario: str | None = None,
        epochs: int | None = None,
        seed: int = 0,
        device: str = "auto",
        image_shape: Sequence[int] | None = None,
        value_range: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        self.network = network
        self.scenario = scenario
        self.epochs = epochs
        self.seed = seed
        self.device = device
        self.image_shape = image_shape
        self.value_range = value_range
        self._options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments, options that were given included."""
        return {**super().get_params(deep), **self._options}

    def set_params(self, **params: Any) -> Self:
        """Change arguments; any option of `striate train` is one.

        Raises:
            RefusedError: no such argument.
        """
        own = {name: params.pop(name) for name in self._get_param_names() if name in params}
        for name in params:
            if name not in self._options and name not in OPTIONS - NOT_HERE:
                raise _refused(UnknownNameError("parameter", name, {*self.get_params(), *(OPTIONS - NOT_HERE)}))
        self._options = {**self._options, **params}
        return super().set_params(**own)

    def fit(self, X: Any, y: Any) -> Self:
        """Train on images X with labels y of any type that can be sorted; several labels an image are 0 and 1, [n, L].

        Raises:
            RefusedError: an unknown option or a wrong value, fewer than two classes, labels that are no classes.
            Also what reading the images and training raise.
        """
        indicator = _indicator(y)
        y = validate_data(self, y=y) if indicator is None else indicator
        check_classification_targets(y)
        options = self._train_options()
        split = self._split_of(X, reset=True, training=options.data)
        check_consistent_length(split.paths, y)
        if indicator is not None:
            self.classes_, targets = np.arange(y.shape[1]), y
            names = [f"label {number}" for number in range(y.shape[1])]
        else:
            self.classes_, targets = np.unique(y, return_inverse=True)
            names = _class_names(self.classes_)
        if len(self.classes_) < 2:
            raise RefusedError(f"the labels have 1 class ({self.classes_[0]})", "classification needs at least two")
        dataset = training_data(split, targets, names, _held_out(split, targets, options))
        self.network_, self.history_ = trained(options, dataset, own_code(self.network, self._options.get("model")))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each image, [n], of the type that `fit` was given; of several labels 0 and 1, int64 [n, L]."""
        if self._several():
            limits = self.network_.thresholds or (USUAL_THRESHOLD,) * len(self.classes_)
            return chosen_labels(self.predict_proba(X), np.array(limits)).astype(np.int64)
        best = self._logits(X).argmax(dim=1).numpy()
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, float32 [n, classes]."""
        several = self._several()
        return probabilities(self._logits(X), self.network_.temperature, multi_label=several).numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """The logits, float32 [n, classes]; of two classes, by how much the second exceeds the first, [n]."""
        logits = self._logits(X).numpy()
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 and not self._several() else logits

    def save(self, path: str | Path) -> None:
        """Write the trained network as a model file, which `striate predict`, `evaluate` and `export` read.

        Raises:
            CheckpointError: it cannot be written.
        """
        check_is_fitted(self)
        save(self.network_, Path(path))

    def _several(self) -> bool:
        """Whether an image has any number of labels."""
        check_is_fitted(self)
        return self.network_.labels.multi_label

    def _logits(self, X: Any) -> torch.Tensor:
        """float32 [n, classes] on the processor."""
        check_is_fitted(self)
        split, spec = self._split_of(X, reset=False), self.network_.spec
        device = pick_device(self.device)
        place(self.network_.model, device)
        batches = EvaluationBatches(split, spec, batch_size=usual_batch(spec), device=device, channels_last=True)
        return logits_of(self.network_.model, batches)[0]

    def _train_options(self) -> TrainOptions:
        """The arguments as options of a training.

        Raises:
            RefusedError: an option that there is not, or not here, or a value that does not fit.
        """
        networks = list(self.network) if isinstance(self.network, (list, tuple)) else [self.network]
        if not networks or not all(isinstance(one, (str, Path)) for one in networks):
            raise RefusedError(f"network = {self.network!r}", "expected scratch, auto, or how a network is spelt")
        given = {"from": [str(one) for one in networks], "scenario": self.scenario, "epochs": self.epochs}
        given |= {"seed": self.seed, "device": self.device}
        for name in self._options:
            if name in NOT_HERE or name in given:
                raise RefusedError(f"{name} is no option of a StriateClassifier", "striate.train has it")
        stops_early = bool(self._options.get("early_stopping") or self._options.get("val_fraction"))
        ours = {"compile": "off", "threads": torch.get_num_threads()}
        if self.scenario not in WITHOUT_EPOCHS:
            ours["evaluate_every"] = 1 if stops_early else _NEVER
        values = {name: _plain(value) for name, value in {**ours, **self._options, **given}.items()}
        try:
            return merged(TrainOptions(), sections_of(values))
        except UsageError as error:
            raise _refused(error) from error

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.classifier_tags.multi_label = True
        return tags

    def __getstate__(self) -> Any:
        return with_packed_network(super().__getstate__())

    def __setstate__(self, state: Any) -> None:
        code = own_code(state["network"], state["_options"].get("model"))
        super().__setstate__(with_opened_network(state, code))


# arguments ------------------------------------------------------------------------------------------------------------


def _listed(X: Any) -> list[Any] | None:
    """The images of X where it is one, or a list or column of such; None where it is numbers."""
    if _is_named(X):
        return [X]
    if isinstance(X, (list, tuple)):
        return list(X) if len(X) and _is_image(X[0]) else None
    values = np.asarray(X) if hasattr(X, "__array__") else np.empty(0)
    column = values.dtype.kind in "OSU" and values.size and values.shape[1:] in ((), (1,))
    return values.ravel().tolist() if column and _is_image(values.flat[0]) else None


def _is_image(one: Any) -> bool:
    return _is_named(one) or (isinstance(one, np.ndarray) and one.ndim > 1)


def _is_named(one: Any) -> bool:
    """A path, the bytes of a file, or a Pillow image."""
    return isinstance(one, (str, bytes, os.PathLike)) or hasattr(one, "getbands")


def _indicator(y: Any) -> np.ndarray | None:
    """y as 0 and 1, [n, L], where it gives an image any number of labels; None of anything else."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    if len(shape) != 2 or shape[1] < 2:
        return None
    values = check_array(y, input_name="y")
    return values if type_of_target(values) == "multilabel-indicator" else None


def _class_names(classes: np.ndarray) -> list[str]:
    """What labels of any type are called in a model file."""
    names = [str(one) for one in classes.tolist()]
    return names if len(set(names)) == len(names) else [f"{name} ({index})" for index, name in enumerate(names)]


def _held_out(split: Split, targets: np.ndarray, options: TrainOptions) -> np.ndarray:
    """bool [n]: which images are held out, by content; none where nothing asks for it."""
    share = options.data.val_fraction or (HELD_OUT if options.training.early_stopping else 0.0)
    if not share:
        return np.zeros(len(targets), bool)
    sides = assign(digests_of(split), targets, seed=options.data.split_seed, val=(0.0, share), exact=True)
    return sides == "val"


def _plain(value: Any) -> Any:
    """NumPy's numbers, of which the grids of a search are made, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _refused(error: UsageError) -> RefusedError:
    return RefusedError(error.message, error.hint)
