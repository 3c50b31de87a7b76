"""What trials let one expect, and when they are enough: the arithmetic of the plan."""

from __future__ import annotations

import numpy as np
import pytest

from striate.data import Dataset
from striate.progress import Progress
from striate.transfer.parts import folds_of, part_of, thinned, trial_data
from striate.transfer.result import PowerLaw
from striate.transfer.trials import Outcome, Race, folds_to_try, next_trial, run_trials
from striate.transfer.verdict import Belief, LinearCurve, Tried, belief_of, choose, expected_regret, growth


def tried(right: int, linear: int, n: int = 200, shown: float = 1.0, epochs: int = 10, scenario: str = "all") -> Tried:
    """A trial with so many right answers, the linear classifier with so many others."""
    correct, baseline = np.arange(n) < right, np.arange(n) < linear
    return Tried(
        scenario=scenario, fold=0, epochs=epochs, learned=600, shown=shown, steps=100 * epochs, correct=correct,
        linear=baseline, linear_learned=800, linear_usual=linear / n, seconds=1.0,
    )  # fmt: skip


CURVE = LinearCurve(error=0.1, images=800)


def test_without_a_trial_a_scenario_is_as_good_as_the_linear_classifier_give_or_take():
    belief = belief_of([], "all", CURVE, 800)
    assert belief.top1 == pytest.approx(0.9)
    assert belief.low < 0.82
    assert belief.high > 0.98


def test_a_difference_counts_the_more_the_more_images_show_it():
    few, many = (belief_of([tried(round(0.95 * n), round(0.9 * n), n)], "all", CURVE, 800) for n in (40, 4000))
    assert 0.9 < few.top1 < many.top1 <= 0.951
    assert many.sd < few.sd


def test_a_short_trial_is_carried_on_to_the_whole_training():
    short, whole = (belief_of([tried(170, 180, shown=share)], "all", CURVE, 800) for share in (0.1, 1.0))
    assert short.top1 > whole.top1
    assert short.sd > whole.sd


def test_the_exponent_of_growth_is_measured_where_a_fold_was_tried_twice():
    slow = [tried(160, 180, shown=0.1, epochs=1), tried(162, 180, shown=0.9, epochs=9)]
    fast = [tried(100, 180, shown=0.1, epochs=1), tried(190, 180, shown=0.9, epochs=9)]
    assert growth(slow, "all") < growth([], "all") < growth(fast, "all")
    assert growth(fast, "scratch") == growth([], "scratch")  # of which there is no trial here
    assert growth(fast[:1], "all") == growth([], "all")


def test_the_linear_classifier_is_carried_along_its_learning_curve():
    curve = LinearCurve(error=0.1, images=800, law=PowerLaw(floor=0.0, scale=1.0, exponent=0.5))
    assert curve.at(800) == pytest.approx(0.1)
    assert curve.at(3200) == pytest.approx(0.05)
    assert curve.at(10**9) == pytest.approx(0.1 / 3)  # no curve is believed that far


def test_of_equals_the_cheaper_is_chosen_and_a_clear_winner_whatever_it_costs():
    prices = {"linear": 1.0, "all": 100.0}
    assert choose({"linear": Belief(0.95, 1e-3), "all": Belief(0.953, 0.01)}, prices) == "linear"
    assert choose({"linear": Belief(0.95, 1e-3), "all": Belief(0.97, 0.01)}, prices) == "all"
    assert choose({"linear": Belief(0.95, 1e-3), "all": Belief(0.954, 1e-3)}, prices) == "all"  # little, but certain


def test_regret_falls_with_the_lead_and_grows_with_the_doubt():
    def regret(lead: float, sd: float) -> float:
        return expected_regret({"linear": Belief(0.9 + lead, 1e-3), "all": Belief(0.9, sd)}, "linear")

    assert regret(0.0, 0.02) > regret(0.02, 0.02) > regret(0.04, 0.02)
    assert regret(0.02, 0.04) > regret(0.02, 0.02)
    assert regret(0.1, 0.01) < 1e-6


# the race -------------------------------------------------------------------------------------------------------------


class Known:
    """Trials of scenarios whose accuracy after each number of epochs is known; an image costs a millisecond."""

    def __init__(self, accuracy: dict[str, float]) -> None:
        self.accuracy, self.asked = accuracy, []

    def __call__(self, scenario, learn, held_out, epochs):
        self.asked.append((scenario, len(learn), len(held_out), epochs))
        right = round(self.accuracy[scenario] * len(held_out))
        return Outcome(np.arange(len(held_out)) < right, 1e-3 * len(learn) * epochs, 1e-3, 10 * epochs)


def raced(dataset: Dataset, accuracy: dict[str, float], linear: float, *, seconds: float = 10.0) -> tuple[Race, Known]:
    train = dataset.splits["train"]
    rows = np.arange(len(train))
    correct = np.random.default_rng(0).permutation(len(rows)) < linear * len(rows)
    race = Race(epochs=dict.fromkeys(accuracy, 20), images=len(rows), curve=LinearCurve(1 - linear, len(rows)))
    known = Known(accuracy)
    run_trials(
        race, train, folds_to_try(train, rows, correct), known, part=0.3, least_seconds=seconds, progress=Progress()
    )
    return race, known


def test_a_clear_winner_ends_the_race_early(other_digits):
    race, known = raced(other_digits, {"all": 0.99, "top": 0.55}, linear=0.6, seconds=1.0)
    assert race.seconds < 2.0
    assert race.beliefs()["all"].low > 0.7
    assert len(known.asked) <= 6
    assert next_trial(race, 4, 150) is None


def test_trials_stay_within_their_budget(other_digits):
    race, known = raced(other_digits, {"all": 0.9, "top": 0.9, "scratch": 0.9}, linear=0.9, seconds=2.0)
    assert race.seconds <= race.budget + 0.5
    assert {name for name, *_ in known.asked} == {"all", "top", "scratch"}


def test_where_the_doubt_is_chance_more_folds_are_tried(other_digits):
    race, _ = raced(other_digits, {"all": 0.84}, linear=0.8, seconds=1000.0)
    assert len({one.fold for one in race.tried}) > 1


# parts ----------------------------------------------------------------------------------------------------------------


def test_folds_divide_the_images_and_never_a_group(other_digits):
    train = other_digits.splits["train"]
    rows = np.arange(len(train))
    held = [held_out for _, held_out in folds_of(train, rows, 4)]
    assert sorted(np.concatenate(held).tolist()) == rows.tolist()
    from dataclasses import replace

    grouped = replace(train, groups=[str(row // 10) for row in rows])
    for learn, held_out in folds_of(grouped, rows, 4):
        assert not {row // 10 for row in learn} & {row // 10 for row in held_out}


def test_a_trial_has_no_other_images_than_those_of_training(other_digits):
    train = other_digits.splits["train"]
    learn, held_out = next(iter(folds_of(train, np.arange(len(train)), 4)))
    part = trial_data(other_digits, thinned(train, learn, 50), held_out)
    assert set(part.splits) == {"train", "val"}
    assert len(part.splits["train"]) == 50
    assert set(part.splits["train"].paths) | set(part.splits["val"].paths) <= set(train.paths)
    assert not set(part.splits["train"].paths) & set(part.splits["val"].paths)
    again = part_of(train, learn).images.raw(3)
    assert (again == train.images.raw(int(learn[3]))).all()
