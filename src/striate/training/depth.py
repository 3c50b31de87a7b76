"""What reaches each depth of a network while it learns: activations, gradients, dead rectifiers, the spread of weights.

The same images are asked before the first and after each epoch, as in training but for dropout, stochastic depth and
auxiliary heads, which are off. Nothing of the training is touched: gradients are not gathered in `.grad`, running
statistics and random states are put back.

Glorot & Bengio 2010 (Understanding the difficulty of training deep feedforward neural networks) look at activations and
back-propagated gradients by layer; a product of factors along a plain stack, they vanish or explode with its depth, and
a residual sum adds 1 to each factor (He et al. 2016, arXiv:1603.05027, eq. 5).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.explanation.attribution.rectified import Pausing, limits_at_zero, paused_in_contrasts
from striate.explanation.undisturbed import undisturbed
from striate.runtime import autocast
from striate.training.epoch import in_single_precision, split_batch
from striate.training.objective import batch_loss
from striate.training.session import Session

PROBED = 128  # images at most: the first training batch has them
BINS = 41  # of a histogram of weights, from minus the largest magnitude to plus; 0 lies in the middle of one
_ZEROING = frozenset({F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.threshold})


@dataclass
class Layer:
    """One call of a module with weights."""

    name: str
    weight: nn.Parameter
    output: Tensor  # mean and standard deviation
    gradient: Tensor | None = None  # norm over all images of the mean loss's gradient by the output


@dataclass
class Rectifier:
    """One call of a function that sets what is negative to zero."""

    after: str  # the layer that was called last
    silent: Tensor  # bool [units]: zero for every image, everywhere
    active: Tensor  # share of outputs above zero


class DepthProbe:
    """Looks at a session's network with the first images of its first epoch."""

    def __init__(self, session: Session) -> None:
        batch = next(iter(session.batches.epoch(0)))
        parts = max(session.micro_batches, -(-len(batch.targets) // PROBED))
        first = split_batch(batch, parts)[0]
        self.batch = replace(first, images=first.images.clone())  # the batches may write into theirs again

    def look(self, session: Session) -> dict[str, Any]:
        """A line of depth.jsonl for the network as it is now.

        `layers` in the order in which they are called: `mean` and `deviation` of the outputs; `gradient`, the root mean
        square over the images of the norm of the gradient of an image's loss by the layer's output; `weight_rms`,
        `weight_gradient` (the root mean square of the mean loss's gradient), Hoyer's `sparsity` of the weights (0: all
        of one magnitude, 1: a single one is not zero; Hoyer 2004, JMLR 5, sec. 3.1) and their `histogram` up to `edge`.
        `rectifiers`: the layer that each comes `after`, its `units`, of which `dead` are zero for every image, and the
        share of `active` outputs. None stands for what is not finite, or does not learn.
        """
        begun = time.perf_counter()
        layers, rectifiers, gradients = self._run(session)
        count = len(self.batch.targets)
        rows = []
        for layer in layers:
            mean, deviation = layer.output.tolist()
            gradient = None if layer.gradient is None else math.sqrt(count) * float(layer.gradient)
            by_weight = gradients.get(layer.weight)
            rows.append(
                {
                    "name": layer.name,
                    "mean": _plain(mean),
                    "deviation": _plain(deviation),
                    "gradient": _plain(gradient),
                    "weight_gradient": None if by_weight is None else _plain(_rms(by_weight)),
                    **_spread(layer.weight.detach()),
                }
            )
        return {
            "epoch": session.position.epoch,
            "step": session.position.step,
            "images": count,
            "layers": rows,
            "rectifiers": [
                {
                    "after": one.after, "units": len(one.silent), "dead": int(one.silent.sum()),
                    "active": _plain(float(one.active)),
                }
                for one in rectifiers
            ],
            "seconds": round(time.perf_counter() - begun, 4),
        }  # fmt: skip

    def _run(self, session: Session) -> tuple[list[Layer], list[Rectifier], dict[nn.Parameter, Tensor]]:
        """Forwards and backwards once; the gradients of what learns come with it."""
        model = session.model
        learning = [one for one in model.parameters() if one.requires_grad]
        # batch normalisation as in training: by the batch, where its running statistics move
        moving = [one for one in model.modules() if one.training and getattr(one, "running_mean", None) is not None]
        precision = "fp32" if session.scaler is not None else session.precision  # small gradients are lost in fp16
        with undisturbed(model):
            for parameter in learning:
                parameter.requires_grad_(True)
            for module in moving:
                module.training = True
            with seen_in(model) as (layers, rectifiers), autocast(session.device, precision):
                outputs = in_single_precision(model(self.batch.images))
            loss = batch_loss(
                model, outputs, self.batch, class_weights=session.class_weights,
                label_smoothing=session.options.regularize.label_smoothing or 0.0,
            )  # fmt: skip
            found = torch.autograd.grad(loss, learning, allow_unused=True)
        pairs = zip(learning, found, strict=True)
        return layers, rectifiers, {parameter: one for parameter, one in pairs if one is not None}


class _Watched(Pausing):
    """Sees every rectifier that is called, whatever the way: module, function, method, in place."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = layers
        self.rectifiers: list[Rectifier] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, and look at what a rectifier gives."""
        outputs = func(*args, **(kwargs or {}))
        if (
            not self.paused
            and (func in _ZEROING or limits_at_zero(func, args, kwargs or {}))
            and isinstance(outputs, Tensor)
            and outputs.ndim > 1
        ):
            values = outputs.detach()
            silent = values.transpose(0, 1).flatten(1).amax(1) <= 0
            after = self.layers[-1].name if self.layers else "the image"
            self.rectifiers.append(Rectifier(after, silent, (values > 0).float().mean()))
        return outputs


@contextmanager
def seen_in(model: nn.Module) -> Iterator[tuple[list[Layer], list[Rectifier]]]:
    """The layers with weights and the rectifiers that run inside, in their order."""
    layers: list[Layer] = []
    handles = []

    def watch(path: str, weight: nn.Parameter) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return
            values = output.detach().float()
            calls = sum(one.weight is weight for one in layers)
            name = f"{path} ({calls + 1})" if calls else path
            layer = Layer(name, weight, torch.stack([values.mean(), values.std(correction=0)]))
            layers.append(layer)
            if output.requires_grad:
                output.register_hook(lambda gradient: setattr(layer, "gradient", gradient.float().norm()))

        return hook

    with _Watched(layers) as mode, paused_in_contrasts(model, mode):
        try:
            for path, module in model.named_modules():
                weight = next((one for one in module.parameters(recurse=False) if one.ndim > 1), None)
                if weight is not None:
                    handles.append(module.register_forward_hook(watch(path, weight)))
            yield layers, mode.rectifiers
        finally:
            for handle in handles:
                handle.remove()


def _spread(weight: Tensor) -> dict[str, Any]:
    """How the numbers of a layer are spread."""
    values = weight.float().cpu().flatten()
    edge = float(values.abs().max()) if values.isfinite().all() else math.inf
    known = 0 < edge < math.inf
    counts = torch.histc(values, BINS, -edge, edge).int().tolist() if known else []
    return {
        "weight_rms": _plain(_rms(values)),
        "sparsity": _plain(hoyer_sparsity(values)) if known else None,
        "edge": _plain(edge),
        "histogram": counts,
    }


def hoyer_sparsity(values: Tensor) -> float:
    """``(sqrt(n) - sum |x| / sqrt(sum x²)) / (sqrt(n) - 1)``: 0.2 for many Gaussian numbers; 0 for a single one."""
    root = math.sqrt(values.numel())
    return (root - float(values.abs().sum() / values.norm())) / (root - 1) if root > 1 else 0.0


def _rms(values: Tensor) -> float:
    return float(values.float().norm()) / math.sqrt(values.numel())


def _plain(value: float | None) -> float | None:
    """Six digits, which keep the file small, and nothing that JSON does not know."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
