"""The course of the learning rate: torch's schedulers, counted in steps or epochs, after a linear warm-up."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from typing import Any

from torch.optim import Optimizer
from torch.optim import lr_scheduler as torch_schedulers

from striate.errors import UsageError
from striate.options import ScheduleOptions, TrainOptions

ONECYCLE_START = 1 / 25  # torch's and fastai's first rate of a one-cycle schedule, as part of the peak
USUAL_CYCLES = 5  # Huang et al. 2017 take 5 or 6


class Schedule:
    """Moves the learning rates of an optimiser; told after every step and every epoch."""

    def __init__(self, optimizer: Optimizer, options: ScheduleOptions, steps_per_epoch: int) -> None:
        assert options.epochs is not None
        self._by_step = options.per == "step"
        ticks_per_epoch = steps_per_epoch if self._by_step else 1
        self._total = options.epochs * ticks_per_epoch
        warmup_ticks = round(options.warmup * ticks_per_epoch)
        if warmup_ticks >= self._total:
            raise UsageError(
                f"schedule.warmup = {options.warmup:g} epochs leaves nothing of {options.epochs} epochs of training"
            )
        self._ticks = 0
        self._optimizer = optimizer
        self._on_plateau: torch_schedulers.ReduceLROnPlateau | None = None
        if options.schedule == "plateau":
            self._on_plateau = torch_schedulers.ReduceLROnPlateau(
                optimizer, mode="max", factor=options.gamma, patience=options.patience, threshold=1e-4
            )
        self._ticking = _ticking(optimizer, options, self._total, warmup_ticks, ticks_per_epoch)
        self.taken = [float(group["lr"]) for group in optimizer.param_groups]  # the rates of the last step

    @property
    def lr(self) -> float:
        """The learning rate of the first group now: that of the weights, whatever head and biases have."""
        return float(self._optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """An optimiser step was taken."""
        self.taken = [float(group["lr"]) for group in self._optimizer.param_groups]
        if self._by_step:
            self._tick()

    def after_epoch(self, quality: float | None) -> None:
        """An epoch ended with the validation figure `quality`, of which more is better; None: it was not validated."""
        if not self._by_step:
            self._tick()
        if self._on_plateau is not None and quality is not None:
            self._on_plateau.step(quality)

    def begin_anew(self) -> None:
        """More learns from now on: epochs without improvement before that do not count for a plateau."""
        if self._on_plateau is not None:
            self._on_plateau.num_bad_epochs = 0

    def fast_forward(self, ticks: int) -> None:
        """Go to where `ticks` ticks lead: for a finished run that trains on along a longer schedule."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a schedule that moves before its optimiser
            for _ in range(ticks):
                self._tick()

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which `load_state_dict` goes on exactly."""
        plateau = self._on_plateau.state_dict() if self._on_plateau is not None else None
        return {"ticks": self._ticks, "ticking": _plain(self._ticking), "plateau": plateau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`'s values; the optimiser's own state must have been put back too."""
        self._ticks = state["ticks"]
        _put_back(self._ticking, state["ticking"])
        if self._on_plateau is not None and state["plateau"] is not None:
            self._on_plateau.load_state_dict(state["plateau"])

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks < self._total:  # the rate after the last step belongs to nobody
            self._ticking.step()


def _ticking(
    optimizer: Optimizer, options: ScheduleOptions, total: int, warmup_ticks: int, ticks_per_epoch: int
) -> torch_schedulers.LRScheduler:
    if options.schedule == "onecycle":
        if warmup_ticks:
            raise UsageError("schedule.warmup cannot be combined with onecycle", "onecycle rises by itself: use --rise")
        # final_div_factor counts from the first rate, which is the peak / 25
        last = 1 / (options.final_lr / ONECYCLE_START) if options.final_lr else 1e4
        peaks = [group["lr"] for group in optimizer.param_groups]
        steps = max(total, 2)
        rise = min(1.0, max(options.rise, 2 / steps))  # torch divides by the length of the rise minus one
        return torch_schedulers.OneCycleLR(
            optimizer, peaks, total_steps=steps, pct_start=rise, cycle_momentum=False,
            div_factor=1 / ONECYCLE_START, final_div_factor=last,
        )  # fmt: skip
    if not warmup_ticks:
        return _after_warmup(optimizer, options, total, 0, ticks_per_epoch)
    rising = torch_schedulers.LinearLR(optimizer, start_factor=1 / (warmup_ticks + 1), total_iters=warmup_ticks)
    main = _after_warmup(optimizer, options, total, warmup_ticks, ticks_per_epoch)
    return torch_schedulers.SequentialLR(optimizer, [rising, main], milestones=[warmup_ticks])


def _after_warmup(
    optimizer: Optimizer, options: ScheduleOptions, total: int, warmup_ticks: int, ticks_per_epoch: int
) -> torch_schedulers.LRScheduler:
    rest = total - warmup_ticks
    match options.schedule:
        case "constant" | "plateau":
            return torch_schedulers.ConstantLR(optimizer, factor=1.0, total_iters=0)
        case "step":
            return torch_schedulers.StepLR(
                optimizer, max(1, round(options.step_epochs * ticks_per_epoch)), gamma=options.gamma
            )
        case "multistep":
            at = [round(m * total if m < 1 else m * ticks_per_epoch) - warmup_ticks for m in options.milestones]
            return torch_schedulers.MultiStepLR(optimizer, [max(1, tick) for tick in at], gamma=options.gamma)
        case "polynomial":
            return torch_schedulers.PolynomialLR(optimizer, total_iters=rest, power=options.power)
        case "exponential":
            return torch_schedulers.ExponentialLR(optimizer, gamma=options.gamma ** (1 / ticks_per_epoch))
        case "cosine":
            # a warm-up has lowered the rate already; the peak stays in initial_lr
            peaks = {group.get("initial_lr", group["lr"]) for group in optimizer.param_groups}
            if options.final_lr and len(peaks) > 1:  # torch's has one last rate for all groups
                low = options.final_lr
                return torch_schedulers.LambdaLR(
                    optimizer, lambda tick: low + (1 - low) * (1 + math.cos(math.pi * tick / rest)) / 2
                )
            floor = options.final_lr * max(peaks)
            return torch_schedulers.CosineAnnealingLR(optimizer, T_max=rest, eta_min=floor)
        case "cyclic":
            ends = [end * ticks_per_epoch - warmup_ticks for end in cycle_ends(options)]
            if ends[0] < 1:
                raise UsageError(
                    f"schedule.warmup = {options.warmup:g} epochs leaves nothing of the first cycle, which ends with "
                    f"epoch {cycle_ends(options)[0]}",
                    "give fewer --cycles or a shorter --warmup",
                )
            return torch_schedulers.LambdaLR(optimizer, lambda tick: _cyclic(tick, ends, options.final_lr))
        case other:
            raise UsageError(f"unknown schedule {other!r}")


def cycle_ends(options: ScheduleOptions) -> list[int]:
    """The epochs (counted from 1) with which the cycles of a cyclic schedule end; the last is the last epoch.

    Each cycle is `cycle_growth` times as long as the one before, rounded to epochs, of which each has at least one.
    """
    assert options.epochs is not None
    cycles = min(options.cycles or USUAL_CYCLES, options.epochs)
    lengths = [options.cycle_growth**place for place in range(cycles)]
    ends: list[int] = []
    for place in range(cycles):
        end = round(options.epochs * sum(lengths[: place + 1]) / sum(lengths))
        least, most = (ends[-1] if ends else 0) + 1, options.epochs - (cycles - 1 - place)
        ends.append(min(max(end, least), most))
    return ends


def is_snapshot(epoch: int, options: TrainOptions) -> bool:
    """Whether the weights after `epoch` (counted from 1) are kept; of resolved options."""
    every = options.training.snapshots
    if every is None:
        return options.schedule.schedule == "cyclic" and epoch in cycle_ends(options.schedule)
    return every > 0 and epoch % every == 0


def _cyclic(tick: int, ends: list[int], low: float) -> float:
    """The rate as part of the peak: a cosine from 1 down to `low` in each cycle (Loshchilov & Hutter 2017, eq. 5)."""
    place = min(bisect_right(ends, tick), len(ends) - 1)
    start = ends[place - 1] if place else 0
    return low + (1 - low) * (1 + math.cos(math.pi * (tick - start) / (ends[place] - start))) / 2


def _plain(scheduler: torch_schedulers.LRScheduler) -> dict[str, Any]:
    """A scheduler's state without functions and classes, so that it loads with nothing that can run code."""
    state = {key: value for key, value in scheduler.state_dict().items() if _is_plain(value) and key != "lr_lambdas"}
    if isinstance(scheduler, torch_schedulers.SequentialLR):
        state["_schedulers"] = [_plain(part) for part in scheduler._schedulers]
    if isinstance(scheduler, torch_schedulers.MultiStepLR):
        state["milestones"] = dict(scheduler.milestones)
    return state


def _put_back(scheduler: torch_schedulers.LRScheduler, state: dict[str, Any]) -> None:
    state = dict(state)
    if isinstance(scheduler, torch_schedulers.SequentialLR):
        for part, values in zip(scheduler._schedulers, state.pop("_schedulers"), strict=True):
            _put_back(part, values)
    if "milestones" in state and isinstance(scheduler, torch_schedulers.MultiStepLR):
        scheduler.milestones.clear()
        scheduler.milestones.update(state.pop("milestones"))
    scheduler.__dict__.update(state)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)
