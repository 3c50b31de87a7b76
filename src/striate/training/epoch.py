"""One epoch: batch, loss, backward, clip, step, schedule, average; and what was seen on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from striate.data import Batch
from striate.errors import TrainingError
from striate.layers.regularization import limit_filters, normalise_kernels
from striate.models import Outputs
from striate.progress import Task
from striate.runtime import autocast
from striate.training.freezing import begin_epoch, end_epoch
from striate.training.objective import add_l1_gradient, batch_loss
from striate.training.session import Session

FINITE_CHECK_STEPS = 20  # a GPU is asked for the loss only this often: each look makes it wait


def train_epoch(
    session: Session, task: Task, log: Callable[[dict[str, Any]], None], save: Callable[[], None]
) -> dict[str, Any]:
    """Train from the session's position to the end of its epoch; returns the epoch's figures.

    `log` gets a line every `log_every` steps, `save` is called every `save_minutes`.

    Raises:
        TrainingError: the loss is not finite; the message names epoch and step.
    """
    options, position = session.options, session.position
    begin_epoch(session)
    seen = _Sums(session.device, position.sums)
    started = counted = last_save = time.perf_counter()
    waited = session.batches.wait_seconds
    last_batch = session.batches_per_epoch - 1
    images_here = 0
    for index, batch in enumerate(session.batches.epoch(position.epoch, position.batch), start=position.batch):
        loss, correct = _forward_backward(session, batch, options.optimizer.accumulate)
        seen.add_batch(loss, correct, len(batch.targets))
        images_here += len(batch.targets)
        stepped = (index + 1) % options.optimizer.accumulate == 0 or index == last_batch
        if stepped:
            norm = _step(session)
            seen.add_step(norm)
            position.step += 1
            _check_finite(session, loss, index)
            if options.training.log_every and position.step % options.training.log_every == 0:
                log({"loss": float(loss), "grad_norm": float(norm), "lr": session.schedule.lr})
            session.schedule.after_step()
        position.batch = index + 1
        task.advance(len(batch.targets))
        if index == last_batch:
            break
        if stepped and time.perf_counter() - last_save > 60 * options.training.save_minutes:
            position.sums = seen.values()
            position.seconds += time.perf_counter() - counted
            counted = time.perf_counter()
            save()
            last_save = time.perf_counter()
    end_epoch(session)
    figures = seen.means()  # on a GPU this waits for the work to be done
    seconds = time.perf_counter() - started
    position.seconds += time.perf_counter() - counted
    if not math.isfinite(figures["train_loss"]):
        raise _not_finite(session, last_batch)
    figures["seconds"] = seconds
    figures["images_per_second"] = images_here / seconds
    figures["data_wait_share"] = (session.batches.wait_seconds - waited) / seconds
    return figures


def _forward_backward(session: Session, batch: Batch, accumulate: int) -> tuple[Tensor, Tensor]:
    """Gradients of one batch, in as many parts as fit the memory; returns mean loss and count of right answers."""
    total = torch.zeros((), device=session.device)
    correct = torch.zeros((), device=session.device)
    parts = list(split_batch(batch, session.micro_batches))
    for part in parts:
        share = len(part.targets) / len(batch.targets)
        with autocast(session.device, session.precision):
            outputs = in_single_precision(session.forward(part.images))
        loss = batch_loss(
            session.model, outputs, part, class_weights=session.class_weights,
            label_smoothing=session.options.regularize.label_smoothing or 0.0,
        )  # fmt: skip
        scaled = loss * (share / accumulate)
        (session.scaler.scale(scaled) if session.scaler is not None else scaled).backward()
        total += loss.detach() * share
        logits = outputs.logits if isinstance(outputs, Outputs) else outputs
        correct += _right(logits.detach(), part.targets).sum()
    return total, correct


def _right(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether the likeliest class is the image's, or of several labels one of them, bool [B]."""
    likeliest = logits.argmax(dim=1)
    if targets.is_floating_point():
        return targets.gather(1, likeliest[:, None])[:, 0] > 0.5
    return likeliest == targets


def in_single_precision(outputs: Tensor | Outputs) -> Tensor | Outputs:
    """Logits as float32, in which the loss is computed whatever the network computed in."""
    if isinstance(outputs, Outputs):
        return Outputs(outputs.logits.float(), {name: extra.float() for name, extra in outputs.aux.items()})
    return outputs.float()


def _step(session: Session) -> Tensor:
    """Move the weights by the gathered gradients; returns the gradient's norm before clipping."""
    options = session.options
    if session.scaler is not None:
        session.scaler.unscale_(session.optimizer)
    if options.regularize.l1:
        add_l1_gradient(session.optimizer, options.regularize.l1)
    gradients = [p.grad for group in session.optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if options.optimizer.clip_norm:
        parameters = [p for group in session.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grads_with_norm_(parameters, options.optimizer.clip_norm, norm)
    if session.scaler is not None:
        session.scaler.step(session.optimizer)
        session.scaler.update()
    else:
        session.optimizer.step()
    if options.regularize.max_filter_rms:
        limit_filters(session.model, options.regularize.max_filter_rms)
    if options.regularize.unit_kernels:
        normalise_kernels(session.model)
    session.optimizer.zero_grad(set_to_none=True)
    if session.average is not None:
        session.average.update_parameters(session.model)
    return norm


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """`batch` in `parts` pieces of nearly equal size."""
    if parts == 1:
        return [batch]
    edges = [round(part * len(batch.targets) / parts) for part in range(parts + 1)]
    return [_slice(batch, slice(*pair)) for pair in pairwise(edges) if pair[0] < pair[1]]


def _slice(batch: Batch, part: slice) -> Batch:
    return Batch(
        images=batch.images[part], targets=batch.targets[part], indices=batch.indices[part],
        mixed_targets=None if batch.mixed_targets is None else batch.mixed_targets[part],
        mix_weight=None if batch.mix_weight is None else batch.mix_weight[part],
    )  # fmt: skip


class _Sums:
    """Running sums of an epoch, kept on the device so that no step waits for the processor to read them."""

    NAMES = ("loss", "correct", "images", "norm", "steps")

    def __init__(self, device: torch.device, saved: dict[str, float]) -> None:
        # double precision, which MPS lacks: what was saved and read back adds up to the same bits
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.tensor([saved.get(name, 0.0) for name in self.NAMES], dtype=dtype, device=device)

    def add_batch(self, loss: Tensor, correct: Tensor, images: int) -> None:
        self._sums[0] += loss * images
        self._sums[1] += correct
        self._sums[2] += images

    def add_step(self, norm: Tensor) -> None:
        finite = torch.isfinite(norm)  # a step that fp16 skips has no norm
        self._sums[3] += torch.where(finite, norm, 0.0)
        self._sums[4] += finite

    def values(self) -> dict[str, float]:
        return dict(zip(self.NAMES, self._sums.tolist(), strict=True))

    def means(self) -> dict[str, Any]:
        sums = self.values()
        images, steps = max(sums["images"], 1), max(sums["steps"], 1)
        return {
            "train_loss": sums["loss"] / images,
            "train_top1": sums["correct"] / images,
            "grad_norm": sums["norm"] / steps,
        }


def _check_finite(session: Session, loss: Tensor, index: int) -> None:
    looked_at = session.device.type == "cpu" or session.position.step % FINITE_CHECK_STEPS == 0
    if looked_at and not math.isfinite(float(loss)):
        raise _not_finite(session, index)


def _not_finite(session: Session, index: int) -> TrainingError:
    where = f"epoch {session.position.epoch + 1}, step {index + 1} of {session.batches_per_epoch}"
    precision = "" if session.precision == "fp32" else ", or compute in --precision fp32"
    return TrainingError(
        f"the loss is not finite at {where} (learning rate {session.schedule.lr:g})",
        f"lower --lr, limit the gradient with --clip-norm 1{precision}; the run folder keeps what was reached before",
    )
