"""`--budget`: how many epochs and steps are planned for so many seconds, and that a plan once made is kept.

What a step takes is the machine's affair and never asserted here: the arithmetic is checked on given seconds, the
measuring and the training on a budget that is too short on any machine.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from striate.data import load_data
from striate.models import create_model
from striate.runfolder import RunFolder
from striate.training import planning, resume, train
from striate.training import run as story
from striate.training.defaults import resolve, resolve_rate, resolve_runtime
from striate.training.journal import create_run
from striate.training.session import open_session


@pytest.fixture
def session(quick):
    """Five steps an epoch, before the first."""
    options = quick()
    dataset = load_data(options.data)
    options, spec = resolve(options, dataset)
    model = create_model("compact_s", in_channels=1, input_size=8)
    options = resolve_runtime(resolve_rate(options, dataset, model))
    opened = open_session(options, spec, dataset, create_run(options, dataset), model)
    assert opened.batches.steps_per_epoch == 5
    return opened


@pytest.mark.parametrize(
    ("budget", "epochs", "steps", "said"),
    [  # a step takes 2 s and a validation 10 s, so an epoch 20 s; a twentieth of the budget is kept in reserve
        (100.0, 4, None, "4 epochs of 20.0 s"),
        (106.0, 5, None, "5 epochs of 20.0 s"),
        (22.0, 1, None, "1 epoch of 20.0 s"),
        (20.0, 1, 4, "4 of 5 steps"),
        (15.0, 1, 2, "2 of 5 steps"),
        (1.0, 1, 1, "1 of 5 steps"),
    ],
)
def test_a_plan_is_what_fits_at_the_speed_measured(session, heard, monkeypatch, budget, epochs, steps, said):
    monkeypatch.setattr(planning, "_seconds_per_batch", lambda trial: 2.0)
    monkeypatch.setattr(planning, "_validation_seconds", lambda session: 10.0)
    plan = planning.plan_for_budget(session, budget, heard)
    assert (plan.epochs, plan.steps_per_epoch) == (epochs, steps)
    assert heard.lines[-1].startswith(f"budget {budget:.0f} s: {said}")


def test_an_epoch_of_one_batch_is_timed_over_several(session, monkeypatch):
    """The first batches warm up; of an epoch of one they would be all that is timed."""
    asked, now = [], iter([0.0, 9.0, 12.0, *(12.0 + 0.5 * step for step in range(1, 4))])

    def epoch(number: int):
        asked.append(number)
        return iter(["batch"])

    trial = SimpleNamespace(batches=SimpleNamespace(epoch=epoch, steps_per_epoch=1))
    monkeypatch.setattr(planning, "_forward_backward", lambda *_: (0.0, None))
    monkeypatch.setattr(planning, "_step", lambda _: None)
    monkeypatch.setattr(planning.time, "perf_counter", lambda: next(now))
    assert planning._seconds_per_batch(trial) == 0.5
    assert asked == [0, 1, 2, 3, 4]


def test_measuring_leaves_no_trace_and_more_time_gives_no_fewer_epochs(session, heard):
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    short, long = (planning.plan_for_budget(session, seconds, heard) for seconds in (1e-6, 1e9))
    assert (short.epochs, short.steps_per_epoch) == (1, 1)
    assert long.steps_per_epoch is None
    assert long.epochs is not None
    assert long.epochs > 1
    assert all((before[name] == value).all() for name, value in session.model.state_dict().items())


def test_a_run_keeps_its_plan_when_it_goes_on(quick, heard, monkeypatch):
    options = quick(training={"budget": "0.001s"}, schedule={"epochs": None})

    class PowerCut(BaseException):
        pass

    def stop(*arguments):
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(story, "_train_epochs", stop)  # after the plan was written, before the first step
        with pytest.raises(PowerCut):
            train(options, progress=heard)
    assert any(line.startswith("budget 0 s: 1 of 5 steps") for line in heard.lines)
    run = RunFolder(Path(str(options.training.run_dir)))
    planned = run.read_recipe()
    assert planned.training.budget is None  # repeating the recipe repeats the plan, whatever the machine
    assert (planned.schedule.epochs, planned.schedule.steps_per_epoch) == (1, 1)

    def measured_again(*arguments):
        raise AssertionError("a plan is made once")

    monkeypatch.setattr("striate.training.prepare.plan_for_budget", measured_again)
    result = resume(run)
    assert (result.epochs, run.read_metrics()[-1]["step"]) == (1, 1)
    assert run.read_recipe() == planned
