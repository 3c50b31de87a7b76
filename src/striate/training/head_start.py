"""A new classifier that begins where a softmax classifier of its inputs ends, rather than at random.

Linear probing, then fine-tuning (Kumar et al. 2022, arXiv:2202.10054): a classifier that knows nothing sends the layers
below it gradients that mean nothing, and bends what they know. So its inputs are read for some training images, through
the network as it is, and a softmax classifier of them is solved for; its C and its temperature come from
cross-validation, so that its logits are as sure as held-out images allow, and no surer than dropout does: a solution
that hangs on inputs that dropout takes away, or doubles, begins the training with losses in the hundreds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.data import EvaluationBatches, Split
from striate.data.parts import Rows, digests_of, part_of, thinned
from striate.errors import ModelError
from striate.inference.forward import evaluating
from striate.layers.regularization import GaussianDropout
from striate.linear.classifiers import (
    USUAL,
    Linear,
    OutOfFold,
    fit_softmax,
    fitted_temperature,
    fold_numbers,
    out_of_fold,
)
from striate.linear.solver import axes_of
from striate.models import ConvNet
from striate.models.cut import side_classifiers
from striate.progress import Progress, Silent
from striate.runtime import autocast, kept_random_state
from striate.spec import Labels
from striate.training.finishing import evaluation_batch
from striate.training.objective import balanced_class_weights
from striate.training.session import Session

FITTED, RANDOM = "fitted", "random"
MOST_IMAGES, OF_EACH = 4000, 5  # that are read at most, and of each class in any case
_MOST_VALUES = 50_000_000  # of all inputs together
_MANY_ANSWERS = 1_000_000  # images times classes from which C is not chosen
_SHIFTED_BY = 256  # images that tell how far a rectified layer must be lifted
_DROPPED_BY = 512  # images that tell how sure dropout lets a classifier be
_CLOSE = 1e-3  # of the largest value: rounding of single precision, many layers deep


@dataclass(frozen=True, slots=True)
class LastLayer:
    """The layer whose outputs are the logits, but for their mean over places and a factor.

    logits = gain * weight · (mean of its inputs) + share * bias
    """

    layer: nn.Linear | nn.Conv2d
    gain: float
    share: float
    rectified: bool  # its outputs are: the above holds where they are positive


def last_layer(model: ConvNet) -> LastLayer | None:
    """The last layer of `model` that learns, where the logits are linear in its inputs; None for another head.

    Found by trying: a random image passes through the network, and the head is asked again with other biases. So it
    holds for any head, sequence or not, with an average behind the layer (network in network), a fixed factor or a
    rectification.
    """
    learning = [one for one in model.head.modules() if next(one.parameters(recurse=False), None) is not None]
    if not learning or hasattr(model.head, "loss"):
        return None
    layer = learning[-1]
    if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.bias is None or not _is_plain(layer, model):
        return None
    bias, weight = layer.bias, layer.weight.detach().flatten(1)
    kept = bias.detach().clone()
    record, like = model.architecture, {"device": bias.device, "dtype": bias.dtype}
    image = torch.randn(1, record.in_channels, *record.input_size, generator=torch.Generator().manual_seed(0))
    answers: list[Tensor] = []
    with evaluating(model), _heard(layer) as inputs:
        try:
            maps = model.features(image.to(**like))
            bias.zero_()
            answers.append(model.head(maps))
            if len(inputs) != 1:  # something else calls it, or nothing does
                return None
            scores = F.linear(_rows(inputs[0]).to(weight.dtype), weight)
            lift = 2 * float(scores.abs().max())
            for times in (1, 2):
                bias.fill_(times * lift)
                answers.append(model.head(maps))
        finally:
            bias.copy_(kept)
        mean = F.linear(_codes(inputs[0]).to(weight.dtype), weight)
    return _read_off(layer, mean, lift, answers)


def why_not_fitted(model: ConvNet, labels: Labels) -> str | None:
    """What keeps the classifier of `model` from being fitted; None where nothing does."""
    if labels.multi_label:
        return "images have any number of labels, and a softmax classifier gives them one"
    if last_layer(model) is None:
        return f"the head of {model.architecture.name} does not end in a linear layer for softmax"
    return None


def fit_head(session: Session, progress: Progress) -> float:
    """Set the last layer of the session's network to the softmax classifier of its inputs; returns the seconds it took.

    Only training images are looked at, undistorted, at most `MOST_IMAGES` or `OF_EACH` of every class. With balanced
    class weights or balanced sampling every class counts the same. A class without an image is never the answer.

    Raises:
        ModelError: the network gives no finite numbers.
    """
    begun = time.perf_counter()
    found, train = last_layer(session.model), session.dataset.splits["train"]
    if found is None or train.multi_label or len(np.unique(train.targets)) < 2:
        return 0.0
    layer, classes = found.layer, len(session.dataset.labels)
    most = max(MOST_IMAGES, OF_EACH * classes)
    rows = thinned(train, np.arange(len(train)), min(most, _MOST_VALUES // layer.weight[0].numel()))
    codes = _read(session, layer, train, rows, progress)
    linear, known = _solved(session, codes, train, rows, classes)
    doubt = _doubt_by_dropout(session, layer, linear, train, thinned(train, rows, _DROPPED_BY))
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(linear.weight).view_as(layer.weight) / (found.gain * doubt))
        layer.bias.copy_(torch.from_numpy(linear.bias) / (found.share * doubt))
        for side in side_classifiers(session.model).values():  # of other classes, or of some of these alone
            side.weight.zero_()
        if found.rectified:
            layer.bias.add_(_lift(session, layer, train, rows))
    right = f", {known.correct.mean():.1%} of them right when held out" if len(known.correct) else ""
    progress.say(f"new head fitted to {len(rows)} images instead{right}")
    return time.perf_counter() - begun


# inside ---------------------------------------------------------------------------------------------------------------


def _is_plain(layer: nn.Linear | nn.Conv2d, model: ConvNet) -> bool:
    """Whether it maps one vector, or each place of a map, to a number for each class, and learns."""
    if isinstance(layer, nn.Conv2d) and not (layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1):
        return False
    learns = all(one.requires_grad for one in layer.parameters())
    return learns and len(layer.weight) == model.architecture.classes > 1


def _read_off(layer: nn.Linear | nn.Conv2d, mean: Tensor, lift: float, answers: list[Tensor]) -> LastLayer | None:
    """What the logits are of `mean`, [1, classes], from the head's answers with biases of 0, `lift` and twice that."""
    plain, lifted, twice = answers
    if plain.shape != mean.shape or not bool(torch.isfinite(twice).all()):
        return None
    share = float((twice - lifted).mean()) / max(lift, 1e-30)
    base = lifted - share * lift
    gain = float((base * mean).sum() / (mean * mean).sum().clamp_min(1e-30))
    gain, share = (1.0 if abs(one - 1) < _CLOSE else one for one in (gain, share))
    if not (gain > 0 and share > 0):  # also where nothing came through
        return None
    close = _CLOSE * lift * max(gain, share)
    linear = float((base - gain * mean).abs().max()) <= close * 0.1 + _CLOSE * gain * float(mean.abs().max())
    even = float((twice - lifted - share * lift).abs().max()) <= close
    if not (linear and even):
        return None
    return LastLayer(layer, gain, share, rectified=float((plain - base).abs().max()) > close)


def _read(
    session: Session, layer: nn.Linear | nn.Conv2d, train: Split, rows: Rows, progress: Progress,
    *, awake: Iterable[nn.Module] = (),
) -> np.ndarray:  # fmt: skip
    """The mean inputs of `layer` for training images, float32 [n, D], in the session's precision.

    The modules `awake` do as in training, all others as in evaluation.
    """
    codes = np.empty((len(rows), layer.weight[0].numel()), np.float32)
    batches = _batches(session, train, rows)
    with evaluating(session.model), _heard(layer) as inputs, progress.task("fitting the new head", len(rows)) as task:
        for module in awake:
            module.train()
        for batch in batches:
            with autocast(session.device, session.precision):
                session.model(batch.images)
            codes[batch.indices] = _codes(inputs.pop()).cpu().numpy()
            task.advance(len(batch.indices))
    if not np.isfinite(codes).all():
        name = session.model.architecture.name
        raise ModelError(f"{name} gives its classifier no finite numbers", "--head-start random does not look at them")
    return codes


def _solved(session: Session, codes: np.ndarray, train: Split, rows: Rows, classes: int) -> tuple[Linear, OutOfFold]:
    targets = np.asarray(train.targets, np.int64)[rows]
    groups = None if train.groups is None else [train.groups[row] for row in rows.tolist()]
    folds = fold_numbers(targets, digests=digests_of(train)[rows], groups=groups)
    axes = axes_of(codes)
    strength = USUAL["softmax"] if len(rows) * classes > _MANY_ANSWERS else None
    known = out_of_fold(axes, targets, classes, kind="softmax", folds=folds, regularization=strength)
    counts, wanted = None, session.options.regularize
    if wanted.class_weights == "balanced" or wanted.sampling == "balanced":
        counts = balanced_class_weights(targets, classes).numpy()[targets]
    return fit_softmax(axes, targets, classes, known=known, counts=counts), known


def _doubt_by_dropout(
    session: Session, layer: nn.Linear | nn.Conv2d, linear: Linear, train: Split, rows: Rows
) -> float:
    """What logits are divided by so that they are no surer than they are right under dropout; 1 without any."""
    dropout = [one for one in session.model.modules() if _drops(one)]
    if not dropout:
        return 1.0
    with kept_random_state():
        torch.manual_seed(0)
        codes = _read(session, layer, train, rows, Silent(), awake=dropout)
    margins = codes @ linear.weight.T + linear.bias
    return max(1.0, fitted_temperature(margins, np.asarray(train.targets, np.int64)[rows]))


def _drops(module: nn.Module) -> bool:
    if isinstance(module, GaussianDropout):
        return module.rate > 0
    return isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0


def _lift(session: Session, layer: nn.Linear | nn.Conv2d, train: Split, rows: Rows) -> float:
    """What, added to every bias, leaves the outputs of `layer` positive; softmax does not see it.

    Twice what these images need: dropout doubles some inputs in training.
    """
    least = 0.0

    def look(_module: nn.Module, _inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        nonlocal least
        least = min(least, float(outputs.min()))

    handle = layer.register_forward_hook(look)
    try:
        with evaluating(session.model):
            for batch in _batches(session, train, thinned(train, rows, _SHIFTED_BY)):
                with autocast(session.device, session.precision):
                    session.model(batch.images)
    finally:
        handle.remove()
    return -2 * least


def _batches(session: Session, train: Split, rows: Rows) -> EvaluationBatches:
    return EvaluationBatches(
        part_of(train, rows), session.spec, batch_size=evaluation_batch(session.spec), device=session.device,
        channels_last=bool(session.options.runtime.channels_last),
    )  # fmt: skip


@contextmanager
def _heard(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What `layer` is given inside, one tensor a call."""
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        yield inputs
    finally:
        handle.remove()


def _rows(inputs: Tensor) -> Tensor:
    """Inputs [B, D] or [B, D, H, W] as rows, [n, D]."""
    return inputs if inputs.ndim == 2 else inputs.flatten(2).transpose(1, 2).flatten(0, 1)


def _codes(inputs: Tensor) -> Tensor:
    """Inputs [B, D] or [B, D, H, W] as float32 [B, D], averaged over places."""
    return inputs.float() if inputs.ndim == 2 else inputs.mean((2, 3), dtype=torch.float32)
