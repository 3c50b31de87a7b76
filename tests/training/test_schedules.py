"""Schedules against closed forms, warm-up, exact restoring. Facts M095, M096."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import pytest
import torch

from striate.errors import UsageError
from striate.options import ScheduleOptions, TrainOptions
from striate.options.sections import TrainingOptions
from striate.training.schedules import Schedule, cycle_ends, is_snapshot

PEAK, EPOCHS, STEPS = 0.4, 8, 5
TOTAL = EPOCHS * STEPS


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)


def rates(options: ScheduleOptions, qualities: list[float] | None = None) -> list[float]:
    """The rate of every step of the training."""
    moving = optimizer()
    schedule = Schedule(moving, options, STEPS)
    seen = []
    for epoch in range(options.epochs or 0):
        for _ in range(STEPS):
            seen.append(schedule.lr)
            moving.step()
            schedule.after_step()
        schedule.after_epoch(qualities[epoch] if qualities else 0.0)
    return seen


def options(schedule: str, **changes) -> ScheduleOptions:
    return ScheduleOptions(**({"epochs": EPOCHS, "schedule": schedule} | changes))


CLOSED_FORMS = {
    "constant": lambda t: PEAK,
    "step": lambda t: PEAK * 0.1 ** (t // (2 * STEPS)),
    "multistep": lambda t: PEAK * 0.1 ** ((t >= TOTAL // 2) + (t >= TOTAL * 3 // 4)),
    "polynomial": lambda t: PEAK * (1 - t / TOTAL) ** 2,
    "exponential": lambda t: PEAK * 0.5 ** (t / STEPS),
    "cosine": lambda t: PEAK * (0.1 + 0.9 * (1 + math.cos(math.pi * t / TOTAL)) / 2),
    "cyclic": lambda t: PEAK * (0.1 + 0.9 * (1 + math.cos(math.pi * (t % (TOTAL // 2)) / (TOTAL // 2))) / 2),
}
CHANGES = {
    "step": {"step_epochs": 2.0},
    "polynomial": {"power": 2.0},
    "exponential": {"gamma": 0.5},
    "cosine": {"final_lr": 0.1},
    "cyclic": {"final_lr": 0.1, "cycles": 2},
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_each_step_has_the_rate_of_the_closed_form(name):
    seen = rates(options(name, **CHANGES.get(name, {})))
    assert seen == pytest.approx([CLOSED_FORMS[name](t) for t in range(TOTAL)], rel=1e-6)


def test_per_epoch_holds_the_rate_within_an_epoch():
    seen = rates(options("cosine", per="epoch"))
    expected = [PEAK * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2 for epoch in range(EPOCHS) for _ in range(STEPS)]
    assert seen == pytest.approx(expected, rel=1e-6)


def test_onecycle_rises_to_the_peak_and_ends_at_the_final_rate():
    seen = rates(options("onecycle", rise=0.25, final_lr=0.01))
    assert seen[0] == pytest.approx(PEAK / 25)
    assert max(seen) == pytest.approx(PEAK)
    assert 0.2 * TOTAL <= seen.index(max(seen)) <= 0.3 * TOTAL
    assert seen[-1] == pytest.approx(PEAK * 0.01, rel=1e-6)


def test_warmup_rises_linearly_and_then_the_schedule_begins():
    seen = rates(options("cosine", warmup=2.0))
    warm = 2 * STEPS
    assert seen[0] == pytest.approx(PEAK / (warm + 1))
    assert all(earlier < later for earlier, later in pairwise(seen[: warm + 1]))
    assert seen[warm] == pytest.approx(PEAK)
    rest = TOTAL - warm
    assert seen[warm:] == pytest.approx([PEAK * (1 + math.cos(math.pi * t / rest)) / 2 for t in range(rest)], rel=1e-6)


def test_the_floor_of_a_cosine_does_not_depend_on_the_warmup():
    seen = rates(options("cosine", warmup=2.0, final_lr=0.1, epochs=40))
    assert seen[-1] == pytest.approx(0.1 * PEAK, rel=0.02)


def two_rates() -> torch.optim.Optimizer:
    fast, slow = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    return torch.optim.SGD([{"params": [fast], "lr": PEAK}, {"params": [slow], "lr": 0.1 * PEAK}], lr=PEAK)


@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_a_cosine_of_several_rates_lowers_each_to_its_own_floor_and_is_restored_to_the_bit(warmup):
    chosen = options("cosine", final_lr=0.1, warmup=warmup)
    whole = two_rates()
    schedule, state, seen = Schedule(whole, chosen, STEPS), None, []
    warm = round(warmup * STEPS)
    for tick in range(TOTAL):
        if tick == 17:
            state = (schedule.state_dict(), whole.state_dict())
        seen.append([group["lr"] for group in whole.param_groups])
        assert seen[-1][1] == pytest.approx(0.1 * seen[-1][0])
        if tick >= warm:
            part = (tick - warm) / (TOTAL - warm)
            assert seen[-1][0] == pytest.approx(PEAK * (0.1 + 0.9 * (1 + math.cos(math.pi * part)) / 2))
        whole.step()
        schedule.after_step()
    restored = two_rates()
    again = Schedule(restored, chosen, STEPS)
    restored.load_state_dict(state[1])
    again.load_state_dict(state[0])
    for tick in range(17, TOTAL):
        assert [group["lr"] for group in restored.param_groups] == seen[tick]
        restored.step()
        again.after_step()


def test_plateau_divides_by_ten_when_validation_stalls():  # M096
    qualities = [0.1, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3]
    seen = rates(options("plateau", patience=1), qualities)
    by_epoch = seen[::STEPS]
    assert by_epoch == pytest.approx([PEAK, PEAK, PEAK, PEAK, PEAK / 10, PEAK / 10, PEAK / 10, PEAK / 10])


RESTORED = [(name, warmup) for name in (*CLOSED_FORMS, "plateau") for warmup in (0.0, 1.5)] + [("onecycle", 0.0)]


@pytest.mark.parametrize(("name", "warmup"), RESTORED)
def test_a_restored_schedule_goes_on_to_the_bit(name, warmup):
    chosen = options(name, warmup=warmup, patience=0)
    whole = optimizer()
    schedule = Schedule(whole, chosen, STEPS)
    state = None
    seen = []
    for tick in range(TOTAL):
        if tick == 17:
            state = (schedule.state_dict(), whole.state_dict())
        seen.append(schedule.lr)
        whole.step()
        schedule.after_step()
        if (tick + 1) % STEPS == 0:
            schedule.after_epoch(0.5)
    restored = optimizer()
    again = Schedule(restored, chosen, STEPS)
    restored.load_state_dict(state[1])
    again.load_state_dict(state[0])
    for tick in range(17, TOTAL):
        assert again.lr == seen[tick]
        restored.step()
        again.after_step()
        if (tick + 1) % STEPS == 0:
            again.after_epoch(0.5)


def test_a_schedules_state_is_plain_values_only():
    for name in (*CLOSED_FORMS, "onecycle"):
        state = Schedule(optimizer(), options(name, **CHANGES.get(name, {})), STEPS).state_dict()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        assert torch.load(buffer, weights_only=True) == state


def test_a_longer_schedule_is_reached_by_going_forward():
    moving = optimizer()
    schedule = Schedule(moving, options("cosine", epochs=16), STEPS)
    schedule.fast_forward(TOTAL)
    assert schedule.lr == pytest.approx(PEAK / 2, rel=1e-6)


def test_impossible_warmups_are_refused():
    with pytest.raises(UsageError, match="warmup"):
        Schedule(optimizer(), options("cosine", warmup=8.0), STEPS)
    with pytest.raises(UsageError, match="onecycle"):
        Schedule(optimizer(), options("onecycle", warmup=1.0), STEPS)


def test_cycles_are_torchs_warm_restarts():
    """Loshchilov & Hutter 2017: of equal length, and each twice as long as the one before."""
    for cycles, growth, first in ((4, 1.0, 2), (3, 2.0, 2)):
        epochs = 8 if growth == 1 else 14
        seen = rates(options("cyclic", epochs=epochs, cycles=cycles, cycle_growth=growth, final_lr=0.1))
        moving = optimizer()
        theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            moving, T_0=first * STEPS, T_mult=int(growth), eta_min=0.1 * PEAK
        )
        for rate in seen:
            assert rate == pytest.approx(moving.param_groups[0]["lr"])
            moving.step()
            theirs.step()


def test_every_cycle_ends_with_an_epoch():
    for epochs in range(1, 20):
        for cycles in range(1, epochs + 1):
            for growth in (1.0, 1.5, 3.0):
                ends = cycle_ends(options("cyclic", epochs=epochs, cycles=cycles, cycle_growth=growth))
                assert len(ends) == cycles
                assert ends[-1] == epochs
                assert all(later > earlier for earlier, later in pairwise([0, *ends]))
    assert cycle_ends(options("cyclic", epochs=3)) == [1, 2, 3]
    with pytest.raises(UsageError, match="do not fit 3 epochs"):
        options("cyclic", epochs=3, cycles=4)


def test_the_rates_of_the_last_step_are_not_those_of_the_next():
    """At the end of a cycle the next step starts from the peak again."""
    moving = optimizer()
    schedule = Schedule(moving, options("cyclic", cycles=2, final_lr=0.1), STEPS)
    for _ in range(TOTAL // 2):
        moving.step()
        schedule.after_step()
    assert schedule.lr == pytest.approx(PEAK)
    assert schedule.taken == pytest.approx([CLOSED_FORMS["cyclic"](TOTAL // 2 - 1)])


def test_a_warm_up_is_part_of_the_first_cycle():
    seen = rates(options("cyclic", cycles=2, warmup=1.0))
    assert seen[0] < seen[STEPS - 1] < PEAK
    assert seen[STEPS] == seen[4 * STEPS] == PEAK
    assert seen[4 * STEPS - 1] < PEAK / 10
    with pytest.raises(UsageError, match="leaves nothing of the first cycle"):
        rates(options("cyclic", cycles=8, warmup=1.0))


def test_snapshots_are_taken_where_cycles_end():
    def kept(**training) -> list[int]:
        chosen = TrainOptions(schedule=options("cyclic", cycles=3), training=TrainingOptions(**training))
        return [epoch for epoch in range(1, EPOCHS + 1) if is_snapshot(epoch, chosen)]

    assert kept() == cycle_ends(options("cyclic", cycles=3)) == [3, 5, 8]
    assert kept(snapshots=4) == [4, 8]
    assert kept(snapshots=0) == []
    plain = TrainOptions(schedule=options("cosine"))
    assert not any(is_snapshot(epoch, plain) for epoch in range(1, EPOCHS + 1))
