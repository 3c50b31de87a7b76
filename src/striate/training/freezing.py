"""Which parts of a network stay as they are, epoch by epoch: weights, batch-norm statistics, dropout and all.

Frozen parts are always a beginning of the network. Their parameters take no gradient (so none is computed below the
first part that learns), and their modules stay in evaluation mode: batch normalisation neither moves its statistics nor
uses those of the batch, dropout and stochastic depth do nothing. What is frozen follows from the resolved options and
the epoch alone, so that a resumed run does as the first would have done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from striate.errors import ModelError, UsageError
from striate.models import ConvNet
from striate.models.cut import depth_of, modules_up_to, places
from striate.options import TransferOptions
from striate.runtime import compiled
from striate.training.optimizers import peak_rate

if TYPE_CHECKING:
    from striate.training.session import Session

_WITH_STATISTICS = (nn.modules.batchnorm._NormBase,)


def frozen_places(options: TransferOptions, model: ConvNet, epoch: int) -> tuple[str, ...]:
    """The places up to the last of which `model` stays as it is in `epoch`, counted from 0; shallow to deep.

    Raises:
        ModelError: `freeze_to` is no place of the network; the hint lists those there are.
    """
    known = places(model)
    for_good = frozen_for_good(options, model)
    since = epoch - (options.head_epochs or 0)
    if since < 0:
        return known
    if not options.unfreeze_every:
        return for_good
    held = set(depth_of(model).values())
    from_the_top = [depth for depth in reversed(range(len(known))) if depth in held]
    learning = since // options.unfreeze_every + 1  # places beside the classifier
    if learning >= len(from_the_top):
        return for_good
    return known[: max(len(for_good), from_the_top[learning - 1])]


def frozen_for_good(options: TransferOptions, model: ConvNet) -> tuple[str, ...]:
    """The places that never learn.

    Raises:
        ModelError: as `frozen_places`.
    """
    known = places(model)
    if options.freeze_to is None:
        return ()
    if options.freeze_to not in known:
        raise ModelError(
            f"{model.architecture.name} has no place {options.freeze_to!r} to freeze to",
            f"it has: {', '.join(known)}",
        )
    return known[: known.index(options.freeze_to) + 1]


def take_out(model: ConvNet, frozen: Sequence[str]) -> list[nn.Parameter]:
    """Switch the gradients of everything up to the last of the places `frozen` off; returns the parameters it was on
    for, to be switched on again when all is done.

    Raises:
        UsageError: nothing is left to learn.
    """
    taken = [parameter for parameter in _parameters_of(model, frozen) if parameter.requires_grad]
    for parameter in taken:
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        for parameter in taken:
            parameter.requires_grad_(True)
        raise UsageError(
            f"with {model.architecture.name} frozen up to {frozen[-1] if frozen else 'nowhere'} nothing learns",
            f"freeze less: its places are {', '.join(places(model))}",
        )
    return taken


def set_learning(model: ConvNet, optimizer: torch.optim.Optimizer, frozen: Sequence[str]) -> None:
    """Put `model` into training mode with the parts up to the last of `frozen` as they are.

    Of the parameters that `optimizer` moves, those of frozen parts take no gradient for now; it passes over them,
    weight decay included.
    """
    still = {id(parameter) for parameter in _parameters_of(model, frozen)}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(id(parameter) not in still)
    model.train()
    for module in _modules_of(model, frozen):
        module.eval()


def begin_epoch(session: Session) -> None:
    """Freeze what is frozen in the epoch where the session stands, and put all else into training mode.

    Where more learns than in the epoch before, the patience of early stopping and of a plateau begins anew.
    """
    position = session.position
    frozen = frozen_places(session.options.transfer, session.model, position.epoch)
    if position.batch == 0 and frozen != _frozen_before(session):
        position.epochs_without_improvement, position.validated_epoch = 0, position.epoch
        session.schedule.begin_anew()
    set_learning(session.model, session.optimizer, frozen)
    if session.frozen not in (None, frozen) and session.forward is not session.model:
        # what was compiled for other frozen parts is of no use; torch keeps only so many
        torch._dynamo.reset()
        session.forward = compiled(session.model, session.device)
    session.frozen = frozen


def end_epoch(session: Session) -> None:
    """Put the frozen parts into the average to the bit: averaging equal numbers may lose the very smallest of them."""
    if session.average is None or not session.frozen:
        return
    averaged = session.average.module
    assert isinstance(averaged, ConvNet)
    own = _modules_of(session.model, session.frozen)
    for part, average in zip(own, _modules_of(averaged, session.frozen), strict=True):
        average.load_state_dict(part.state_dict())


def figures(session: Session) -> dict[str, Any]:
    """For the metrics line of an epoch that was trained: the last frozen place, and the rate of each that learnt."""
    if not _is_transfer(session):
        return {}
    frozen = session.frozen or ()
    known = (*places(session.model), "classifier")
    rates: dict[str, float] = {}
    groups = zip(session.optimizer.param_groups, session.schedule.taken, strict=True)
    for group, rate in reversed(list(groups)):  # weights before vectors, which come last
        if group["place"] >= len(frozen):
            rates[known[group["place"]]] = rate
    return {"frozen_to": frozen[-1] if frozen else None, "rates": rates}


def in_words(session: Session) -> str | None:
    """One line on what is frozen and how fast the rest learns; None for a run that is no transfer."""
    if not _is_transfer(session):
        return None
    transfer, model, groups = session.options.transfer, session.model, session.optimizer.param_groups
    for_good = frozen_for_good(transfer, model)
    params = sum(parameter.numel() for parameter in model.parameters())
    learn = sum(parameter.numel() for group in groups for parameter in group["params"])
    rates = sorted({peak_rate(session.options.optimizer, group) for group in groups})
    at = f"{rates[0]:.2g}" + (f" to {rates[-1]:.2g}" if len(rates) > 1 else "")
    if for_good:
        line = f"frozen up to {for_good[-1]}{_statistics_too(model, for_good)}; "
        line += f"{_counted(learn, params)} learn at {at}"
    else:
        line = f"nothing is frozen: {_counted(params)} learn at {at}"
    if (at_first := frozen_places(transfer, model, 0)) != for_good:
        line += f"; {f'in the first {_epochs(transfer.head_epochs)}' if transfer.head_epochs else 'at first'} "
        line += f"frozen up to {at_first[-1]}{_statistics_too(model, at_first)}"
        line += ": only the classifier learns" if transfer.head_epochs else ""
    if transfer.unfreeze_every:
        at_last = frozen_places(transfer, model, (session.options.schedule.epochs or 1) - 1)
        line += f"; then one place more every {_epochs(transfer.unfreeze_every)}"
        line += "".join(f", down to {place}" for place in places(model)[len(at_last) :][:1])
    return line


def change_in_words(session: Session) -> str | None:
    """What learns from the coming epoch on that did not before; None where all stays as it is."""
    coming = frozen_places(session.options.transfer, session.model, session.position.epoch)
    if coming == _frozen_before(session):
        return None
    return f"learning down to {places(session.model)[len(coming)]}"


def all_learn(session: Session) -> bool:
    """Whether, in the epoch that ended last, nothing was frozen that is not frozen for good."""
    return _frozen_before(session) == frozen_for_good(session.options.transfer, session.model)


def unfinished_in_words(session: Session) -> str | None:
    """What a training is too short to let learn; None where all does in the end that is not frozen for good."""
    transfer, model, epochs = session.options.transfer, session.model, session.options.schedule.epochs or 1
    at_last = frozen_places(transfer, model, epochs - 1)
    if at_last == (for_good := frozen_for_good(transfer, model)):
        return None
    turns = (transfer.unfreeze_every * turn for turn in range(len(places(model)) + 1))
    begun = ((transfer.head_epochs or 0) + since for since in turns)
    needed = 1 + next(epoch for epoch in begun if frozen_places(transfer, model, epoch) == for_good)
    return (
        f"{_epochs(epochs)} end with all up to {at_last[-1]} frozen: "
        f"by --head-epochs and --unfreeze-every the last of it learns in epoch {needed}"
    )


def settings_in(session: Session) -> int:
    """How many times over the training something else is frozen, the first time included."""
    transfer, model = session.options.transfer, session.model
    return len({frozen_places(transfer, model, epoch) for epoch in range(session.options.schedule.epochs or 1)})


def _frozen_before(session: Session) -> tuple[str, ...]:
    """What was frozen in the epoch before the one where the session stands; in the first one, what is frozen there."""
    return frozen_places(session.options.transfer, session.model, max(0, session.position.epoch - 1))


def _is_transfer(session: Session) -> bool:
    return session.options.transfer.scenario not in (None, "scratch")


def _epochs(count: int) -> str:
    return "epoch" if count == 1 else f"{count} epochs"


def _statistics_too(model: ConvNet, frozen: Sequence[str]) -> str:
    held = any(isinstance(one, _WITH_STATISTICS) for part in _modules_of(model, frozen) for one in part.modules())
    return ", its batch-norm statistics too" if held else ""


def _counted(*counts: int) -> str:
    if counts[-1] < 1e6:
        return " of ".join(f"{count:,}" for count in counts) + " parameters"
    return " of ".join(f"{count / 1e6:.1f}" if count >= 1e5 else f"{count / 1e6:.2g}" for count in counts) + (
        " million parameters"
    )


def _modules_of(model: ConvNet, frozen: Sequence[str]) -> list[nn.Module]:
    return modules_up_to(model, frozen[-1]) if frozen else []


def _parameters_of(model: ConvNet, frozen: Sequence[str]) -> list[nn.Parameter]:
    return [parameter for module in _modules_of(model, frozen) for parameter in module.parameters()]
