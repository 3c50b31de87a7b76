"""What trials let one expect, and when they are enough: the arithmetic of the plan."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.transfer.low_digits import some_digits

from striate.checkpoint import SavedModel
from striate.data import Dataset
from striate.data.parts import folds_of, part_of, thinned, trial_data
from striate.errors import TrainingError
from striate.hub.classes import numbered
from striate.models import create_model
from striate.options import TrainOptions, merged
from striate.progress import Progress
from striate.spec import InputSpec, Labels
from striate.transfer import wording
from striate.transfer.estimates import baseline_of, estimates_of, kept_top1
from striate.transfer.plan import FASTER, _contenders, _faster
from striate.transfer.result import Accuracy, Answers, DepthProbe, PowerLaw, ProbeResult, Similarity, SourceProbe
from striate.transfer.trials import Outcome, Race, folds_to_try, next_trial, run_trials
from striate.transfer.verdict import (
    EXPONENTS,
    GROWTH,
    LEAST_DOUBT,
    UNLIKE_GAIN,
    USUAL_GAIN,
    BaselineCurve,
    Belief,
    Tried,
    belief_of,
    choose,
    expected_regret,
    growth,
    still_to_gain,
)


def tried(right: int, linear: int, n: int = 200, shown: float = 1.0, epochs: int = 10, scenario: str = "all") -> Tried:
    """A trial with so many right answers, the linear classifier with so many others."""
    correct, baseline = np.arange(n) < right, np.arange(n) < linear
    return Tried(
        scenario=scenario, fold=0, epochs=epochs, learned=600, shown=shown, correct=correct,
        baseline=baseline, baseline_learned=800, baseline_usual=linear / n, seconds=1.0,
    )  # fmt: skip


CURVE = BaselineCurve(error=0.1, images=800)


def test_without_a_trial_a_scenario_is_as_good_as_the_linear_classifier_give_or_take():
    belief = belief_of([], "all", CURVE, 800)
    assert belief.top1 == pytest.approx(0.9)
    spread = 1.96 * (USUAL_GAIN[1] * CURVE.error + LEAST_DOUBT)
    assert (belief.low, belief.high) == pytest.approx((0.9 - spread, 0.9 + spread))


def test_where_trainings_usually_gain_trials_have_to_say_otherwise():
    gain = (0.4, 0.2)
    assert belief_of([], "all", CURVE, 800, gain=gain).top1 == pytest.approx(0.94)
    even = [[tried(round(0.9 * n), round(0.9 * n), n)] for n in (20, 40_000)]
    few, many = (belief_of(one, "all", CURVE, 800, gain=gain).top1 for one in even)
    assert 0.92 < few < 0.94
    assert many == pytest.approx(0.9, abs=0.002)


def knowing(right: int, shown: np.ndarray | None = None) -> SourceProbe:
    """A network whose head has so many of the images right that it was shown; the linear classifier 90 of 100."""
    n = 100
    targets = np.arange(n) % 2
    rows = np.arange(n) if shown is None else shown

    def answers(rows: np.ndarray, right: np.ndarray) -> Answers:
        answered = np.where(right, targets[rows], 1 - targets[rows])
        return Answers(rows=rows, targets=targets[rows], probabilities=np.eye(2)[answered])

    linear = answers(np.arange(n), np.arange(n) < 90)
    return seen(own_answers=answers(rows, np.arange(len(rows)) < right), answers=linear)


def test_the_head_that_is_there_is_the_baseline_where_it_does_better():
    better = baseline_of(knowing(96), CURVE, 800)
    assert (better.scenario, better.curve.error) == ("keep", pytest.approx(0.04))
    assert better.curve.at(80) == better.curve.at(80_000), "it learns from no image"
    assert growth([], "all", better.curve)[0] == 0 < growth([], "scratch", better.curve)[0]
    assert belief_of([], "all", better.curve, 800).top1 == pytest.approx(0.96), "trainings begin with it"
    few, many = (
        belief_of([tried(round(0.85 * n), round(0.96 * n), n)], "all", better.curve, 800).top1 for n in (20, 2000)
    )
    assert many < 0.88 < few, "three of twenty wrong say little"
    for source in (knowing(80), seen()):
        assert baseline_of(source, CURVE, 800).scenario == "svm"
    growing = BaselineCurve(0.1, 80, PowerLaw(floor=0.0, scale=1.0, exponent=0.5))
    assert baseline_of(knowing(93), growing, 80).scenario == "keep"
    assert baseline_of(knowing(93), growing, 800).scenario == "svm", "of so many images the linear classifier learns"


def test_learning_from_nothing_begins_with_no_head():
    kept = baseline_of(knowing(96), CURVE, 800)
    alone = belief_of([], "scratch", kept.curve, 800, kept.gains["scratch"])
    usual = belief_of([], "scratch", CURVE, 800)
    assert alone.top1 == pytest.approx(usual.top1)
    assert alone.sd == pytest.approx(usual.sd)
    curve = BaselineCurve(0.1, 800, PowerLaw(floor=0.0, scale=1.0, exponent=0.4))
    assert growth([], "scratch", baseline_of(knowing(99), curve, 800).curve) == growth([], "scratch", curve)


def test_a_head_is_compared_on_the_images_that_both_answered():
    """Ten right of ten are the easy ones: the linear classifier has all of them right, too."""
    assert kept_top1(knowing(16, shown=np.arange(20))) == pytest.approx(0.9 - 4 / 20)
    assert kept_top1(knowing(10, shown=np.arange(10))) is None, "too few to tell"
    assert baseline_of(knowing(10, shown=np.arange(10)), CURVE, 800).scenario == "svm"


def test_a_difference_counts_the_more_the_more_images_show_it():
    few, many = (belief_of([tried(round(0.95 * n), round(0.9 * n), n)], "all", CURVE, 800) for n in (40, 4000))
    assert 0.9 < few.top1 < many.top1 <= 0.951
    assert many.sd < few.sd


def test_a_short_trial_is_carried_on_to_the_whole_training():
    short, whole = (belief_of([tried(170, 180, shown=share)], "all", CURVE, 800) for share in (0.1, 1.0))
    assert short.top1 > whole.top1
    assert short.sd > whole.sd


def test_a_training_of_few_steps_is_not_expected_to_gain_what_whole_ones_do():
    gain = (0.3, 0.2)
    whole, half, tenth = (belief_of([], "all", CURVE, 800, gain, length) for length in (1.0, 0.5, 0.1))
    assert whole.top1 == pytest.approx(0.93)
    assert whole.top1 > half.top1 > 0.9 > tenth.top1
    assert whole.sd < half.sd < tenth.sd
    error = 0.1 * (1 - 0.3 * 0.5) * 2 ** GROWTH["all"]  # by hand
    assert half.top1 == pytest.approx(1 - error)
    race = Race(epochs={"all": 3}, images=270, curve=CURVE, batches={"all": 16}, gains={"all": gain})
    assert race.length("all") == pytest.approx(48 / 150)
    assert race.belief("all") == belief_of([], "all", CURVE, 270, gain, 48 / 150)
    assert Race(epochs={"all": 30}, images=270, curve=CURVE, batches={"all": 16}).length("all") == 1


def test_no_expectation_holds_against_what_is_measured_beyond_all_doubt():
    """Where 20 and 80 of 100 are right, what trainings usually come to says nothing about this one."""
    gain = (0.3, 0.2)
    ruined = belief_of([tried(20, 90, 100)], "all", CURVE, 800, gain)
    assert ruined.top1 < 0.4
    worse = belief_of([tried(86, 90, 100)], "all", CURVE, 800, gain)
    assert worse.top1 > 0.88, "which chance may have done"
    rescued = belief_of([tried(1990, 1000, 2000)], "all", BaselineCurve(0.5, 800), 800, (0.0, 0.05))
    assert rescued.top1 > 0.9


def test_the_exponent_of_growth_is_measured_where_a_fold_was_tried_twice():
    slow = [tried(160, 180, shown=0.1, epochs=1), tried(162, 180, shown=0.9, epochs=9)]
    fast = [tried(100, 180, shown=0.1, epochs=1), tried(190, 180, shown=0.9, epochs=9)]
    assert growth(slow, "all", CURVE)[0] < growth([], "all", CURVE)[0] < growth(fast, "all", CURVE)[0]
    assert growth(slow, "all", CURVE)[1] < growth([], "all", CURVE)[1]  # and is surer
    assert growth(fast, "scratch", CURVE) == growth([], "scratch", CURVE)  # of which there is no trial here
    assert growth(fast[:1], "all", CURVE) == growth([], "all", CURVE)


def test_errors_fall_as_steeply_as_the_linear_classifier_s_until_trials_tell():
    for exponent, floor in ((0.2, 0.0), (0.5, 0.0), (1.0, 0.0), (0.5, 0.05)):
        curve = replace(CURVE, law=PowerLaw(floor=floor, scale=2.0, exponent=exponent))
        here, half = (floor + 2.0 * images**-exponent for images in (800, 400))
        own = math.log(min(half, 1.0) / here) / math.log(2)
        assert curve.exponent == pytest.approx(own)
        assert growth([], "all", curve)[0] == pytest.approx(min(1.0, 1.25 * own))
        assert growth([], "scratch", curve)[0] == pytest.approx(min(1.0, 1.75 * own))
    assert CURVE.exponent is None


def test_an_exponent_that_few_images_show_counts_little():
    def steep(n: int) -> float:
        shares = ((0.4, 0.1, 6), (0.75, 0.3, 19))
        return growth([tried(round(r * n), n // 2, n, shown=s, epochs=e) for r, s, e in shares], "all", CURVE)[0]

    usual = growth([], "all", CURVE)[0]
    assert usual < steep(4) < steep(20) < steep(2000)
    # by hand, of 20: errors of 0.625 and 0.275 (half an image more), three times as much shown
    measured = math.log(0.625 / 0.275) / math.log(3)
    by_chance = (0.375 / (0.625 * 20) + 0.725 / (0.275 * 20)) / math.log(3) ** 2
    apart = EXPONENTS[0] + EXPONENTS[1] * usual
    weight = apart**2 / (apart**2 + by_chance)
    assert steep(20) == pytest.approx(usual + weight * (measured - usual))
    assert steep(2000) < usual + (measured - usual + 0.05) / 2  # for half at most, whatever shows it


def test_what_is_left_to_gain_and_how_sure_that_is():
    gained, doubt = still_to_gain(0.4, 0.25, (0.5, 0.1))
    assert gained == pytest.approx(0.2)
    steeper, _ = still_to_gain(0.4, 0.25, (0.501, 0.1))
    assert doubt == pytest.approx(0.1 * (steeper - gained) / 0.001, rel=1e-3)  # by the slope
    assert still_to_gain(0.4, 1.0, (0.5, 0.1)) == (0.0, 0.0)


def test_the_linear_classifier_is_carried_along_its_learning_curve():
    curve = BaselineCurve(error=0.1, images=800, law=PowerLaw(floor=0.0, scale=1.0, exponent=0.5))
    assert curve.at(800) == pytest.approx(0.1)
    assert curve.at(3200) == pytest.approx(0.05)
    assert curve.at(10**9) == pytest.approx(0.1 / 3)  # no curve is believed that far


def test_of_equals_the_cheaper_is_chosen_and_a_clear_winner_whatever_it_costs():
    prices = {"linear": 1.0, "all": 100.0}
    assert choose({"linear": Belief(0.95, 1e-3), "all": Belief(0.953, 0.01)}, prices) == "linear"
    assert choose({"linear": Belief(0.95, 1e-3), "all": Belief(0.97, 0.01)}, prices) == "all"
    assert choose({"linear": Belief(0.95, 1e-3), "all": Belief(0.954, 1e-3)}, prices) == "all"  # little, but certain
    assert choose({"linear": Belief(0.90, 1e-3), "all": Belief(0.904, 0.06)}, prices) == "linear"  # hardly tried
    assert choose({"linear": Belief(0.90, 1e-3), "all": Belief(0.908, 0.06)}, prices) == "all"  # but not worth little


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
        return Outcome(np.arange(len(held_out)) < right, 1e-3 * len(learn) * epochs, 1e-3)


def raced(dataset: Dataset, accuracy: dict[str, float], linear: float, *, seconds: float = 10.0) -> tuple[Race, Known]:
    train = dataset.splits["train"]
    rows = np.arange(len(train))
    correct = np.random.default_rng(0).permutation(len(rows)) < linear * len(rows)
    race = Race(epochs=dict.fromkeys(accuracy, 20), images=len(rows), curve=BaselineCurve(1 - linear, len(rows)))
    known = Known(accuracy)
    run_trials(
        race, train, folds_to_try(train, rows, correct), known, part=0.3, least_seconds=seconds, progress=Progress()
    )
    return race, known


def test_a_clear_winner_ends_the_race_early(other_digits):
    race, known = raced(other_digits, {"all": 0.99, "top": 0.55}, linear=0.6, seconds=1.0)
    assert race.seconds < 2.0
    beliefs = race.beliefs()
    assert beliefs["all"].low > max(beliefs["baseline"].top1, beliefs["top"].top1)
    assert len(known.asked) <= 6
    assert next_trial(race, 4, 150) is None


def test_trials_stay_within_their_budget(other_digits):
    race, known = raced(other_digits, {"all": 0.9, "top": 0.9, "scratch": 0.9}, linear=0.9, seconds=2.0)
    assert race.seconds <= race.budget + 0.5
    assert {name for name, *_ in known.asked} == {"all", "top", "scratch"}


def test_the_first_round_of_long_trainings_takes_no_more_than_the_least_seconds(other_digits):
    train = other_digits.splits["train"]
    rows = np.arange(len(train))
    race = Race(epochs=dict.fromkeys(("all", "top"), 20_000), images=len(rows), curve=BaselineCurve(0.02, len(rows)))
    known = Known({"all": 0.7, "top": 0.7})  # which is clear at once
    folds = folds_to_try(train, rows, rows % 50 > 0)
    run_trials(race, train, folds, known, part=0.6, least_seconds=4.0, progress=Progress())
    assert race.budget > 1000
    assert sorted(name for name, *_ in known.asked) == ["all", "all", "top", "top"]  # the tiny trial, and another
    assert race.seconds < 4.5


def test_where_the_doubt_is_chance_more_folds_are_tried(other_digits):
    race, _ = raced(other_digits, {"all": 0.84}, linear=0.8, seconds=1000.0)
    assert len({one.fold for one in race.tried}) > 1


def test_after_the_least_seconds_only_what_may_gain_a_point_is_tried():
    def race(seconds: float, n: int, price: float = 1e-6) -> Race:
        one = tried(round(0.9 * n), round(0.9 * n), n)
        begun = Race(epochs={"all": 10}, images=800, curve=CURVE, prices={"all": price}, tried=[one], seconds=seconds)
        begun.budget, begun.least = 1000.0, 40.0
        return begun

    beliefs = race(0.0, 80).beliefs()
    assert 0.004 < expected_regret(beliefs, max(beliefs, key=lambda name: beliefs[name].top1)) < 0.01
    assert next_trial(race(39.0, 80), 4, 600) is not None
    assert next_trial(race(41.0, 80), 4, 600) is None
    assert next_trial(race(41.0, 20), 4, 600) is not None  # where more is in doubt
    ten_seconds = 10 / (600 * 10)  # of the next trial
    assert next_trial(race(29.0, 80, ten_seconds), 4, 600) is not None
    assert next_trial(race(31.0, 80, ten_seconds), 4, 600) is None, "it would end later"


def test_a_budget_plans_the_epochs_and_takes_out_what_does_not_fit(other_digits):
    train = other_digits.splits["train"]
    rows = np.arange(len(train))
    folds = folds_to_try(train, rows, rows % 5 > 0)
    settings = {"part": 0.3, "least_seconds": 5.0, "progress": Progress()}
    for limit, epochs in ((2.0, {"all": 9, "top": 9}), (50.0, {"all": 237, "top": 237}), (0.05, {})):
        race = Race(epochs={"all": 20, "top": 20}, images=200, curve=BaselineCurve(0.2, 200), limit=limit)
        run_trials(race, train, folds, Known({"all": 0.8, "top": 0.8}), **settings)
        assert race.epochs == epochs
        assert race.budget <= 0.3 * limit or not epochs
        assert bool(race.tried) == bool(epochs)


def test_after_a_scenario_failed_the_others_are_not_tried_again(other_digits):
    train = other_digits.splits["train"]
    rows = np.arange(len(train))
    folds = folds_to_try(train, rows, rows % 5 > 0)
    known = Known({"all": 0.9, "top": 0.9, "scratch": 0.5})

    def trial(scenario, learn, held_out, epochs):
        if scenario == "scratch" and epochs > 1:
            raise TrainingError("the loss is not finite")
        return known(scenario, learn, held_out, epochs)

    race = Race(epochs=dict.fromkeys(known.accuracy, 20), images=200, curve=BaselineCurve(0.2, 200))
    settings = {"part": 0.3, "least_seconds": 5.0, "progress": Progress()}
    with pytest.raises(TrainingError):
        run_trials(race, train, folds, trial, **settings)
    del race.epochs["scratch"]
    before = list(known.asked)
    run_trials(race, train, folds, trial, **settings)
    assert all(epochs > 1 for *_, epochs in known.asked[len(before) :]), "prices are known"
    tries = [(one.scenario, one.fold, one.epochs) for one in race.tried]
    assert len(tries) == len(set(tries))
    assert race.seconds <= race.budget + 0.5


# the estimates of a plan ----------------------------------------------------------------------------------------------


def seen(**changes) -> SourceProbe:
    """A network whose last two places are equally good."""
    right = np.arange(100) < 90
    depths = tuple(
        DepthProbe(place=place, features=8, svm=Accuracy.of(right), softmax=Accuracy.of(right))
        for place in ("stem", "middle", "last")
    )
    worse = DepthProbe(place="stem", features=8, svm=Accuracy.of(~right), softmax=Accuracy.of(~right))
    nothing = Similarity(figure=0.5, low=0.4, high=0.6, climb=0.5, kept=1.0, best_depth=1.0, statistics=None)
    usual = SourceProbe(
        source="net", model="net", depths=(worse, *depths[1:]), pixels=worse, best_place="last",
        single_kind="svm", single=Accuracy.of(right), similarity=nothing,
        seconds_per_image=0.1, seconds_fitting=8.0, from_cache=True,
    )  # fmt: skip
    return replace(usual, **changes)


def rows_of(source: SourceProbe, images: int):
    curve = BaselineCurve(0.1, 80, source.power_law)
    return {one.scenario: one for one in estimates_of(source, 100, curve, images, Race({}, images, curve), {})}


@pytest.mark.parametrize(("model", "faster"), [("cifar_resnet20", FASTER[True]), ("squeezenet1_1", FASTER[False])])
def test_of_images_unlike_those_it_was_made_for_copied_layers_learn_faster(model, faster):
    network, options = create_model(model, input_size=(64, 64)), merged(TrainOptions(), {"model": {"from": "net.pth"}})
    others = Labels(("cat", "dog"))
    start = SavedModel(
        model=network, spec=InputSpec(size=(32, 32), channels=3), labels=numbered(network.architecture.classes)
    )

    def places(*wrong: int) -> tuple[DepthProbe, ...]:
        measured = [Accuracy.of(np.arange(100) >= count) for count in wrong]
        return tuple(
            DepthProbe(place=f"place{number}", features=8, svm=one, softmax=one) for number, one in enumerate(measured)
        )

    unlike = seen(depths=places(30, 10, 20), best_place="place1")
    assert _faster(unlike, start, options, others) == faster
    alike = seen(depths=places(30, 20, 10), best_place="place2")
    assert _faster(alike, start, options, others) is None
    for section, asked in (("transfer", {"pretrained_lr": 1.0}), ("optimizer", {"lr": 0.1})):
        assert _faster(unlike, start, merged(options, {section: asked}), others) is None, "what is asked for stays"
    random = merged(options, {"transfer": {"head_start": "random"}})
    assert _faster(unlike, start, random, others) is None, "a head that knows nothing would bend them"
    assert _faster(unlike, start, options, start.labels) is None, "the head knows these classes"
    said = wording.unlike(unlike, faster, 0.4)
    assert all(part in said for part in ("20.0 %", "10.0 %", f"{faster:g} times", "40 %"))


def figure_of(wrong: int, n: int) -> np.ndarray:
    """Answers to n images, so many of them wrong."""
    return np.arange(n) >= wrong


@pytest.mark.parametrize(
    ("wrong", "gain", "contenders"), [(3, UNLIKE_GAIN[0], ["all"]), (1, UNLIKE_GAIN[0], []), (3, 0.0, [])]
)
def test_few_mistakes_are_questioned_where_a_training_usually_takes_some(wrong, gain, contenders):
    """Of 80 images three are mistaken: a third of them is worth a training, a third of one is not."""
    dataset = some_digits((0, 1), per_class=40)
    n, targets = len(dataset.splits["train"]), dataset.splits["train"].targets
    figure = Accuracy.of(figure_of(wrong, n))
    answers = Answers(rows=np.arange(n), targets=targets, probabilities=np.full((n, 2), 0.5, np.float32))
    source = seen(
        depths=(DepthProbe(place="stem", features=8, svm=figure, softmax=figure),), best_place="stem", single=figure,
        answers=answers,
    )  # fmt: skip
    found = ProbeResult(
        data="digits", images=n, available=n, classes=2, largest_class=0.5, folds=5, sources=(source,),
        best_source=source.source, rule="",
    )  # fmt: skip
    notes: list[str] = []
    curve = BaselineCurve(wrong / n, n)
    race = Race({}, n, curve, gains={"all": (gain, 0.2)} if gain else {})
    folds = folds_to_try(dataset.splits["train"], answers.rows, figure_of(wrong, n))
    assert _contenders(folds, found, dataset, TrainOptions(), race, notes) == contenders
    assert any("Nothing was tried" in one for one in notes) == (not contenders)


def test_linear_classifiers_are_priced_whatever_is_in_the_cache():
    few, many = (rows_of(seen(), images)["softmax"].seconds for images in (100, 1000))
    assert few == pytest.approx(1.0)  # one of eight fits
    assert many == pytest.approx(900 * 0.1 + 10.0)


def test_of_places_that_are_equal_the_deeper_is_cut_at():
    assert rows_of(seen(), 100)["softmax"].cut == "last"


def test_what_a_learning_curve_adds_is_in_doubt():
    law = PowerLaw(floor=0.0, scale=1.0, exponent=0.5)
    near, far = (rows_of(seen(power_law=law), images)["svm"] for images in (80, 800))
    assert far.high - far.low > near.high - near.low
    assert near.high - near.low == pytest.approx(seen().expected.high - seen().expected.low, abs=0.02)


def test_nothing_held_out_is_said_without_figures():
    source = seen(single=Accuracy.of(np.zeros(0, bool)))
    rows = tuple(rows_of(seen(), 100).values())
    text = " ".join(wording.reasons(source, Race({}, 100, CURVE), rows[0], rows, ()))
    assert "nan" not in text
    assert "is not known" in text


# parts ----------------------------------------------------------------------------------------------------------------


def test_folds_divide_the_images_and_never_a_group(other_digits):
    train = other_digits.splits["train"]
    rows = np.arange(len(train))
    held = [held_out for _, held_out in folds_of(train, rows, 4)]
    assert sorted(np.concatenate(held).tolist()) == rows.tolist()
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
