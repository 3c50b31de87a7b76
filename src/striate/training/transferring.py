"""What `--from` leaves open: which scenario, what is frozen, how fast copied layers learn, and for how long.

The usual order of a fine-tuning by hand: a new head is fitted to what the copied layers give it (see `head_start`), or
learns alone for an epoch where it cannot be. Then everything that is not frozen learns, the copied layers as fast as a
fitted head or at a tenth of the rate of one that started randomly, and lower ones slower; a few epochs are enough.
Every default yields to what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from striate.checkpoint import SavedModel
from striate.errors import ModelError, UsageError
from striate.layers.normalization import has_normalization
from striate.models import ConvNet, find_entry
from striate.models.cut import depth_of, places
from striate.models.grow import units_in_words
from striate.models.sources import names_code, short_name
from striate.network import knows_all, read_spelling
from striate.options import TrainOptions, TransferOptions
from striate.progress import Progress
from striate.spec import Labels
from striate.training.freezing import frozen_for_good, frozen_places
from striate.training.head_start import FITTED, RANDOM, why_not_fitted

# Over the rows of `defaults.DEFAULTS`, by the kind of images. Where these are so few that an epoch is a step or two,
# the epochs go on to "least_steps", as far as they would from scratch.
LEAST_STEPS = 150
FEW_EPOCHS: dict[str, dict[str, Any]] = {
    "digits": {"seen": 60_000, "epochs": (3, 20), "least_steps": LEAST_STEPS, "weight_decay": 1e-4},
    "small": {"seen": 100_000, "epochs": (4, 20), "least_steps": LEAST_STEPS, "weight_decay": 1e-4},
    "photos": {"seen": 15_000, "epochs": (4, 15), "least_steps": LEAST_STEPS, "weight_decay": 1e-4},
}
COPIED_RATE = 0.1  # of what was copied, as part of what a new head has that starts randomly
FITTED_RATE = 0.01  # of a fitted head that learns alone, as part of the usual rate
BELOW_FITTED_RATE = 0.3  # of everything, where layers below a fitted head learn, too; at the full rate some diverge
BELOW_FITTED_BY_ADAMW = {  # the same by AdamW
    "digits": {"top": 0.6, "all": 0.6},
    "small": {"top": 0.6, "all": 1.2},
    "photos": {"top": 0.3, "all": 0.6},
}
LAYER_DECAY = 0.8  # where everything learns
SHORTEST_WITH_HEAD_EPOCH = 3  # epochs: shorter trainings have no epoch to spare for the head alone
BY_GRADIENTS = ("head", "top", "all")
BY_HAND = ("cut", "freeze_to", "pretrained_lr", "layer_decay", "unfreeze_every", "head_epochs")


def scenario_of(options: TrainOptions, start: SavedModel | None, labels: Labels) -> str:
    """The scenario that the options ask for, `plan` where they leave it to measurements.

    Args:
        options: as asked for.
        start: the network whose weights are copied; None for none.
        labels: of the data.
    """
    asked = options.transfer
    if asked.scenario is not None:
        return asked.scenario
    if asked.freeze_to is not None:
        return "top"
    if any(getattr(asked, name) not in (None, 0) for name in BY_HAND) or asked.head_epochs == 0:
        return "all"
    if start is None:
        return "scratch"
    return "plan" if _brings_new_classes(options, start, labels) and not _grows(options, start) else "all"


def resolve_transfer(
    options: TrainOptions, model: ConvNet, labels: Labels, *, start: SavedModel | None, given: bool
) -> TrainOptions:
    """`options` with the section `transfer` resolved for `model`, whose weights are those of `start`, or are `given`.

    `head_epochs` is left to `with_head_epochs`, since it depends on how long the training is.

    Raises:
        UsageError: options of transfer without weights to start from, or a scenario that is no training by gradients.
        ModelError: a place that the network does not have.
    """
    asked = options.transfer
    if start is None and not given:
        _refuse_without_start(options)
        return replace(options, transfer=replace(asked, scenario="scratch"))
    scenario = scenario_of(options, start, labels)
    if scenario == "plan" and asked.scenario is None:
        scenario = "all"
    if scenario == "scratch":
        return replace(options, transfer=replace(asked, scenario="scratch"))
    if scenario not in BY_GRADIENTS:
        raise UsageError(
            f"scenario {scenario} is no training by gradients, which {', '.join(BY_GRADIENTS)} are",
            "striate.train chooses and does the others",
        )
    if given and asked.cut is not None:
        raise UsageError("a network that is given is trained as it is", "cut it by striate.models.cut.cut_at")
    known = places(model)
    if asked.freeze_to is not None and asked.freeze_to not in known:
        raise ModelError(f"{model.architecture.name} has no place {asked.freeze_to!r}", f"it has: {', '.join(known)}")
    if scenario == "head":
        _refuse_beside_head(asked, known)
    if asked.head_epochs and not classifier_learns(model):
        raise UsageError(
            f"--head-epochs {asked.head_epochs}: the classifier of {model.architecture.name} has nothing that learns",
            "leave it out",
        )
    freeze_to = {"head": known[-1], "top": _middle(known), "all": None}[scenario]
    resolved = replace(asked, scenario=scenario, freeze_to=freeze_to if asked.freeze_to is None else asked.freeze_to)
    options = _with_head_start(replace(options, transfer=resolved), model, labels, start=start)
    slower = head_is_new(options, start, labels) and not _grows(options, start)
    copied = COPIED_RATE if slower and options.transfer.head_start != FITTED else 1.0
    resolved = replace(
        options.transfer,
        pretrained_lr=_first(asked.pretrained_lr, copied),
        layer_decay=_first(asked.layer_decay, LAYER_DECAY if slower and scenario == "all" else 1.0),
    )
    return replace(options, transfer=resolved)


def check_new_layers(options: TrainOptions, model: ConvNet, started: Sequence[str], progress: Progress) -> None:
    """Refuse to freeze for good what starts randomly below copied layers; say so where it is frozen for a while.

    Args:
        options: resolved.
        model: the network.
        started: paths of its units that start randomly, though they are no part of the classifier.
        progress: is warned.

    Raises:
        UsageError: the message names the units.
    """
    transfer, depths = options.transfer, depth_of(model)

    def within(frozen: Sequence[str]) -> str:
        units = [unit for unit in started if any(n.startswith(f"{unit}.") and depths[n] < len(frozen) for n in depths)]
        return units_in_words(units)

    hint = "--grow identity lets such layers pass on what they get"
    for_good = frozen_for_good(transfer, model)
    if held := within(for_good):
        raise UsageError(
            f"frozen up to {for_good[-1]}, layers of {model.architecture.name} that start randomly would stay so: "
            f"{held}",
            f"{hint}; or freeze less",
        )
    if held := within(frozen_places(transfer, model, 0)):
        progress.warn(f"layers that start randomly are frozen at first: {held}; {hint}")


def classifier_learns(model: ConvNet) -> bool:
    """Whether something learns in the classifier, so that it can learn alone."""
    depths, above = depth_of(model), len(places(model))
    return any(one.requires_grad and depths[name] == above for name, one in model.named_parameters())


def with_head_epochs(options: TrainOptions, new_head: bool) -> TrainOptions:
    """`options` with the epochs in which only the classifier learns, where that was left open.

    `new_head` says whether one was started anew, on copied layers alone, and can learn by itself, and knows nothing.
    """
    transfer = options.transfer
    if transfer.head_epochs is not None or transfer.scenario in (None, "scratch"):
        return options
    epochs, planned = 0, options.schedule.epochs or 0
    if new_head and transfer.scenario != "head" and planned >= SHORTEST_WITH_HEAD_EPOCH:
        epochs = min(max(1, transfer.unfreeze_every), planned - 1)
    return replace(options, transfer=replace(transfer, head_epochs=epochs))


def head_is_new(options: TrainOptions, start: SavedModel | None, labels: Labels) -> bool:
    """Whether a classifier is started anew on top of copied layers."""
    if start is None:
        return False
    return options.transfer.cut is not None or _brings_new_classes(options, start, labels)


def code_named(options: TrainOptions) -> str | None:
    """The class of one's own that `--model` or `--from` names, by which `network.refitted` builds it again."""
    spelt = (options.model.model, options.model.from_)
    own = next((one for one in spelt if isinstance(one, str) and names_code(one)), None)
    return read_spelling(own).model if own is not None else None


def learns_alone(options: TrainOptions, start: SavedModel | None, labels: Labels, model: ConvNet) -> bool:
    """Whether the classifier of `model` is to learn alone at first, where nothing else was asked for.

    Layers that the weights do not have must learn before any classifier can.
    """
    return head_is_new(options, start, labels) and not _grows(options, start) and classifier_learns(model)


def default_rate_share(options: TrainOptions, start: SavedModel | None, labels: Labels, kind: str) -> float:
    """What part of the usual rate is used where none was given: little where everything is copied, head and all.

    Still less for a fitted head that learns alone: gradients hardly better it, and at the usual rate they ruin it.
    """
    if options.transfer.head_start == FITTED:
        if options.transfer.scenario == "head":
            return FITTED_RATE
        if options.optimizer.optimizer == "adamw":
            return BELOW_FITTED_BY_ADAMW[kind]["all" if options.transfer.scenario == "all" else "top"]
        return BELOW_FITTED_RATE
    if start is None or head_is_new(options, start, labels) or _grows(options, start):
        return 1.0
    return COPIED_RATE


def otherwise(options: TrainOptions, start: SavedModel | None, labels: Labels, kind: str) -> dict[str, Any]:
    """What a training from the weights of `start` does otherwise than one from scratch, for this kind of images.

    Without normalisation gradients differ in size by orders of magnitude from layer to layer, and under a new head one
    rate is too high for some and too low for others: AdamW has a step for each weight (figures in docs/transfer.md).
    """
    if start is None or _grows(options, start):
        return {}
    own = {} if has_normalization(start.model) or not head_is_new(options, start, labels) else {"optimizer": "adamw"}
    return FEW_EPOCHS[kind] | own


def _with_head_start(
    options: TrainOptions, model: ConvNet, labels: Labels, *, start: SavedModel | None
) -> TrainOptions:
    """`options` with how the classifier starts, where that was left open and a new one stands on copied layers.

    Raises:
        UsageError: one is to be fitted that cannot be.
    """
    transfer = options.transfer
    if transfer.scenario in (None, "scratch") or transfer.head_start == RANDOM:
        return options
    if transfer.head_start == FITTED:
        if (obstacle := why_not_fitted(model, labels)) is not None:
            raise UsageError(f"--head-start fitted: {obstacle}", "leave it out")
        return options
    if not head_is_new(options, start, labels):
        return options
    fitted = learns_alone(options, start, labels, model) and why_not_fitted(model, labels) is None
    return replace(options, transfer=replace(transfer, head_start=FITTED if fitted else RANDOM))


def _brings_new_classes(options: TrainOptions, start: SavedModel, labels: Labels) -> bool:
    """Whether the head does not know all classes already, or cannot keep what it knows (see `network.refitted`)."""
    return not knows_all(start, labels, code=code_named(options))


def _grows(options: TrainOptions, start: SavedModel | None) -> bool:
    """Whether the network is another than that of the weights, so that some of its layers start anew."""
    wanted = options.model.model
    return start is not None and wanted is not None and (
        short_name(find_entry(wanted).name) != start.model.architecture.name
    )  # fmt: skip


def _middle(known: tuple[str, ...]) -> str | None:
    """The last place of the lower half; at least one place is left to learn."""
    half = min((len(known) + 1) // 2, len(known) - 1)
    return known[half - 1] if half else None


def _refuse_without_start(options: TrainOptions) -> None:
    asked = options.transfer
    given = [name for name in BY_HAND if getattr(asked, name) not in (None, 0)]
    if asked.grow != "random":
        given.append("grow")
    if asked.head_start is not None:
        given.append("head_start")
    if asked.scenario not in (None, "scratch", "plan"):
        given.insert(0, "scenario")
    if not given:
        return
    flag = f"--{given[0].replace('_', '-')} {getattr(asked, given[0])}"
    if asked.scenario == "scratch":
        raise UsageError(
            f"{flag} is about weights that are copied, and --scenario scratch copies none", "leave one out"
        )
    raise UsageError(f"{flag} needs weights to start from", "name a network with --from")


def _refuse_beside_head(asked: TransferOptions, known: tuple[str, ...]) -> None:
    """Where only the classifier learns, nothing else can be asked to."""
    if asked.freeze_to not in (None, known[-1]):
        flag = f"--freeze-to {asked.freeze_to}"
    elif asked.unfreeze_every:
        flag = f"--unfreeze-every {asked.unfreeze_every}"
    else:
        return
    raise UsageError(f"{flag} with --scenario head, in which only the classifier learns", "use --scenario top or all")


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
