"""Training from the weights of another run: scenarios, rates by depth, what is said and written, and the same bits.

Facts M162, M170, M172: a new head, smaller rates for what is copied, train top and train all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.training.small_data import bars, saved, small

from striate.checkpoint import load_model
from striate.data import Split, TensorImages, load_data
from striate.errors import ModelError, UsageError
from striate.hub.classes import imagenet_labels
from striate.models.cut import places
from striate.options import DataOptions, TransferOptions
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.spec import Labels
from striate.training import resume, train
from striate.training.defaults import kind_of
from striate.training.optimizers import depths_for, make_optimizer
from striate.training.prepare import prepare, resolved_for
from striate.training.start import open_start
from striate.training.transferring import scenario_of


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A run on four kinds of bars."""
    from tests.training.conftest import QUICK

    from striate.options import TrainOptions, merged

    path = tmp_path_factory.mktemp("source") / "run"
    options = merged(TrainOptions(), QUICK)
    options = merged(options, {"model": {"model": "compact_xs"}, "training": {"run_dir": str(path)}})
    train(merged(options, {"data": {"limit": None}}), dataset=bars([40] * 4, [10] * 4))
    return path


@pytest.fixture
def begun(quick, source):
    """Options of a run that starts there."""

    def make(name: str = "transfer", **sections):
        given = {"from": str(source), "model": None, **sections.pop("model", {})}
        return quick(name, model=given, **{"data": {"limit": None}, **sections})

    return make


def other_bars(*arguments, **settings):
    """The same pictures under other names: new classes."""
    dataset = bars(*arguments, **settings)
    return replace(dataset, labels=Labels(tuple(f"new {name}" for name in dataset.labels.names)))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(run).model)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# rates ----------------------------------------------------------------------------------------------------------------


def groups_of(model, **transfer):
    from striate.options import OptimizerOptions, RegularizeOptions

    options = OptimizerOptions(optimizer="sgd", lr=0.1, momentum=0.9, nesterov=True, bias_lr=0.2)
    depths = depths_for(TransferOptions(**transfer), model)
    return make_optimizer(model, options, RegularizeOptions(weight_decay=0.1), depths).param_groups


def test_a_run_from_scratch_has_the_groups_it_always_had():
    groups = groups_of(small("resnet18", input_size=32), scenario="scratch")
    assert [group["name"] for group in groups] == ["body", "head", "spared"]
    assert [group["lr"] for group in groups] == [0.1, 0.1, 0.2]


def test_copied_layers_learn_slower_the_deeper_they_lie():  # M170
    model = small("resnet18", input_size=32)
    groups = groups_of(model, scenario="all", pretrained_lr=0.1, layer_decay=0.5)
    rates = {(group["place"], group["name"]): group["lr"] for group in groups}
    assert rates[5, "head"] == 0.1
    assert rates[5, "spared"] == 0.2  # the classifier's bias, at the rate that was given for biases
    for depth in range(5):
        assert rates[depth, "body"] == pytest.approx(0.1 * 0.1 * 0.5 ** (4 - depth))
        assert rates[depth, "spared"] == pytest.approx(0.2 * 0.1 * 0.5 ** (4 - depth))
    assert {group["weight_decay"] for group in groups if group["name"] == "spared"} == {0.0}
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())


def test_hidden_layers_of_a_head_count_as_copied():
    model = small("vgg_a")
    groups = groups_of(model, scenario="all", pretrained_lr=0.1, layer_decay=1.0)
    slow = {id(p) for group in groups if group["factor"] < 1 for p in group["params"]}
    assert id(model.head.fc6.weight) in slow
    assert id(model.head.fc8.weight) not in slow


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "multistep"])
def test_at_every_step_the_rates_keep_their_proportions(begun, schedule, monkeypatch):
    from striate.training import epoch as passes

    seen = []
    original = passes._step

    def watched(session):
        seen.append([(group["place"], group["factor"], group["lr"]) for group in session.optimizer.param_groups])
        return original(session)

    monkeypatch.setattr(passes, "_step", watched)
    changes = {
        "transfer": {"scenario": "all", "pretrained_lr": 0.1, "layer_decay": 0.5},
        "schedule": {"epochs": 3, "schedule": schedule, "final_lr": 0.05},
        "optimizer": {"lr": 0.1, "batch_size": 16},
    }
    train(begun(**changes), dataset=other_bars([16] * 2, [4] * 2))
    assert len(seen) == 6
    for groups in seen:
        peak = next(lr for _, factor, lr in groups if factor == 1.0)
        assert all(lr == pytest.approx(factor * peak, rel=1e-9) for _, factor, lr in groups)
    assert len({groups[0][2] for groups in seen}) > 1


# scenarios ------------------------------------------------------------------------------------------------------------


def test_train_head_top_and_all(begun, source, heard):  # M172
    dataset = other_bars([12] * 3, [4] * 3)
    start = weights(source)
    known = places(load_model(source).model)
    for scenario, fixed in (("head", known[-1]), ("top", "group1"), ("all", None)):
        result = train(begun(scenario, transfer={"scenario": scenario}), dataset=dataset, progress=heard)
        options = RunFolder(result.run).read_recipe().transfer
        assert (options.scenario, options.freeze_to) == (scenario, fixed)
        changed = {name.split(".")[0] + "." + name.split(".")[1] for name, value in weights(result.run).items()
                   if name not in start or not torch.equal(value, start[name])}  # fmt: skip
        stages = {"stages.group1", "stages.group2"} & changed
        assert stages == {"head": set(), "top": {"stages.group2"}, "all": {"stages.group1", "stages.group2"}}[scenario]
        rows = RunFolder(result.run).read_metrics()
        assert rows[-1]["frozen_to"] == fixed
        assert rows[-1]["rates"]["classifier"] >= max(rows[-1]["rates"].values())
    said = [line for line in heard.lines if "learn at" in line]
    assert len(said) == 3
    assert said[0].startswith(f"frozen up to {known[-1]}, its batch-norm statistics too; ")
    assert said[2].startswith("nothing is frozen")


def test_cut_drops_what_follows_and_puts_a_new_head_there(begun, source):
    result = train(begun(transfer={"cut": "group1"}), dataset=other_bars([12] * 3, [4] * 3))
    kept = load_model(result.run)
    assert kept.model.architecture.cut == "group1"
    assert places(kept.model) == ("stem", "group1")
    more = resume(result.run, epochs=3, dataset=other_bars([12] * 3, [4] * 3))
    assert load_model(more.run).model.architecture.cut == "group1"


def test_scratch_takes_the_network_and_none_of_its_weights(begun, source, quick):
    dataset = other_bars([12] * 3, [4] * 3)
    result = train(begun("a", transfer={"scenario": "scratch"}), dataset=dataset)
    plain = train(quick("b", model={"model": "compact_xs"}, data={"limit": None}), dataset=dataset)
    assert same(weights(result.run), weights(plain.run))
    assert RunFolder(result.run).read_recipe().model.from_ == "scratch"


def test_what_is_left_open_is_decided_by_the_classes_and_by_what_is_said(begun, source, heard):
    start = open_start(begun(), heard)
    known, new = bars([2] * 4).labels, other_bars([2] * 4).labels
    assert scenario_of(begun(), start, known) == "all"
    assert scenario_of(begun(), start, new) == "plan"
    assert scenario_of(begun(transfer={"freeze_to": "stem"}), start, new) == "top"
    assert scenario_of(begun(transfer={"layer_decay": 0.9}), start, new) == "all"
    assert scenario_of(begun(transfer={"scenario": "svm"}), start, known) == "svm"
    assert scenario_of(begun(), None, known) == "scratch"
    assert scenario_of(begun(), start, Labels(known.names[::-1])) == "all", "the same in another order"
    imagenet = saved(small("compact_xs", classes=1000), imagenet_labels().names)
    assert scenario_of(begun(), imagenet, Labels(("gas_pump", "n01440764"))) == "all", "names and synsets of ImageNet's"
    assert scenario_of(begun(), imagenet, Labels(("gas_pump", "unheard of"))) == "plan"


def test_the_same_classes_go_on_gently_and_new_ones_get_a_head_that_learns_first(begun):
    settings = {"schedule": {"epochs": None, "steps_per_epoch": 1}, "optimizer": {"batch_size": None}}
    settings["training"] = {"evaluate_every": 100}
    known = RunFolder(train(begun("a", **settings), dataset=bars([12] * 4, [3] * 4)).run).read_recipe()
    settings["transfer"] = {"head_start": "random"}
    new = RunFolder(train(begun("b", **settings), dataset=other_bars([12] * 4, [3] * 4)).run).read_recipe()
    assert (known.transfer.head_epochs, known.transfer.pretrained_lr, known.transfer.layer_decay) == (0, 1.0, 1.0)
    assert (new.transfer.head_epochs, new.transfer.pretrained_lr) == (1, 0.1)
    assert known.optimizer.lr == pytest.approx(0.1 * new.optimizer.lr)
    assert known.schedule.epochs == new.schedule.epochs == 25  # of six steps, had they not been shortened


@pytest.mark.parametrize(("images", "epochs"), [(2, 60), (40, 30), (300, 15), (1500, 10), (9000, 4)])
def test_few_images_are_seen_more_often(begun, heard, images, epochs):
    grey = TensorImages(np.zeros((images, 1, 100, 100), np.uint8))
    dataset = other_bars([1, 1], side=100)
    dataset.splits["train"] = Split("train", np.arange(images) % 2, [str(i) for i in range(images)], grey)
    assert kind_of(dataset) == "photos"
    asked = begun(schedule={"epochs": None}, optimizer={"batch_size": None})
    options, _, _ = resolved_for(asked, dataset, start=open_start(asked, heard))
    assert options.schedule.epochs == epochs


def test_a_training_too_short_for_it_has_no_epoch_for_the_head_alone(begun):
    result = train(begun(schedule={"epochs": 2}), dataset=other_bars([12] * 3, [4] * 3))
    assert RunFolder(result.run).read_recipe().transfer.head_epochs == 0


def prepared(start, dataset, progress=None, **sections):
    """What a training from an opened network begins with."""
    from striate.options import TrainOptions, merged

    runtime = {"device": "cpu", "precision": "fp32", "threads": 1}
    options = merged(TrainOptions(), {"model": {"from": "opened"}, "augment": {"preset": "none"}, "runtime": runtime})
    options, spec, start = resolved_for(merged(options, sections), dataset, start=start)
    return prepare(
        options, spec, dataset, given=None, start=start, budgeted=False, progress=progress or Progress()
    )  # fmt: skip


def test_a_classifier_without_parameters_never_learns_alone(begun):
    dataset = bars([8] * 3, side=28)
    start = saved(small("lenet5_1998", classes=4, input_size=28), tuple("wxyz"))
    ready = prepared(start, dataset, schedule={"epochs": 4})
    assert ready.options.transfer.head_epochs == 0
    ready.model.loss(ready.model(torch.zeros(2, 1, 28, 28)), torch.tensor([0, 1])).backward()
    with pytest.raises(UsageError, match="--head-epochs 1: the classifier of lenet5_1998 has nothing that learns"):
        prepared(start, dataset, transfer={"head_epochs": 1})


@pytest.mark.parametrize(("every", "epochs", "alone"), [(5, 4, 3), (2, 8, 2), (0, 3, 1), (0, 2, 0)])
def test_the_head_alone_never_takes_all_epochs(every, epochs, alone):
    start = saved(small("compact_xs", input_size=16), tuple("xyz"))
    transfer = {"scenario": "all", "unfreeze_every": every, "head_start": "random"}
    ready = prepared(start, bars([8] * 3), transfer=transfer, schedule={"epochs": epochs})
    assert ready.options.transfer.head_epochs == alone
    ready = prepared(start, bars([8] * 3), transfer=transfer | {"head_start": None}, schedule={"epochs": epochs})
    assert ready.options.transfer.head_epochs == 0, "a fitted one need not learn alone"
    assert ready.options.transfer.pretrained_lr == 1.0, "nor faster than the layers below it"


def test_a_fitted_head_that_learns_alone_does_so_slowly():
    start, dataset = saved(small("compact_xs", input_size=16), tuple("xyz")), bars([8] * 3)
    alone, random, whole = (
        prepared(start, dataset, transfer=transfer).options.optimizer.lr
        for transfer in ({"scenario": "head"}, {"scenario": "head", "head_start": "random"}, {"scenario": "all"})
    )
    assert alone == pytest.approx(0.01 * random)
    assert whole == pytest.approx(0.3 * random)
    asked = prepared(start, dataset, transfer={"scenario": "head"}, optimizer={"lr": 0.3})
    assert asked.options.optimizer.lr == 0.3


def test_a_new_head_on_layers_without_normalisation_is_trained_by_adamw():
    dataset = bars([8] * 3, side=28)
    for name, brought, optimizer in (
        ("alexnet_owt", "xyz", "adamw"), ("lenet5", "xyz", "adamw"), ("compact_xs", "xyz", "sgd"),
        ("alexnet_owt", dataset.labels.names, "sgd"),  # nothing new: it goes on as it was
    ):  # fmt: skip
        start = saved(small(name, in_channels=1), tuple(brought))
        ready = prepared(start, dataset, transfer={"scenario": "all"}).options
        assert ready.optimizer.optimizer == optimizer, name
        asked = prepared(start, dataset, transfer={"scenario": "all"}, optimizer={"optimizer": "sgd"}).options
        assert asked.optimizer.optimizer == "sgd"
    start = saved(small("alexnet_owt", in_channels=1), tuple("xyz"))
    for side, channels, top, whole in ((28, 1, 0.6, 0.6), (28, 3, 0.6, 1.2), (100, 1, 0.3, 0.6)):
        images = bars([8] * 3, side=side, channels=channels)
        rates = [prepared(start, images, transfer={"scenario": one}).options.optimizer.lr for one in ("top", "all")]
        assert rates == [pytest.approx(top * 2e-3), pytest.approx(whole * 2e-3)]


def test_beside_auxiliary_heads_which_start_randomly_a_fitted_head_waits_an_epoch():
    start = saved(small("googlenet", auxiliary=True, in_channels=1), tuple("xyz"))
    ready = prepared(start, bars([8] * 4), transfer={"scenario": "all"}, schedule={"epochs": 4})
    assert len(ready.model.auxiliary)
    assert (ready.options.transfer.head_start, ready.options.transfer.head_epochs) == ("fitted", 1)


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"freeze_to": "stem"}, "--freeze-to stem with"), ({"unfreeze_every": 1}, "--unfreeze-every 1 with")],
)
def test_what_does_not_go_with_the_head_alone_is_refused(asked, words):
    start = saved(small("compact_xs", input_size=16), tuple("xyz"))
    with pytest.raises(UsageError, match=f"{words} --scenario head"):
        prepared(start, bars([8] * 3), transfer={"scenario": "head", **asked})
    ready = prepared(start, bars([8] * 3), transfer={"scenario": "head"})
    again = {"scenario": "head", "freeze_to": ready.options.transfer.freeze_to}
    assert prepared(start, bars([8] * 3), transfer=again).options.transfer == ready.options.transfer


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"init": "he"}}, "--init he is how a network starts from scratch"),
        ({"transfer": {"grow": "identity"}}, "--grow identity: nothing grows"),
        ({"transfer": {"scenario": "scratch", "head_epochs": 2}}, "--head-epochs 2 .* --scenario scratch copies none"),
        ({"transfer": {"scenario": "scratch", "grow": "identity"}}, "--grow identity .* --scenario scratch"),
    ],
)
def test_what_would_have_no_effect_is_refused(begun, tmp_path, sections, words):
    with pytest.raises(UsageError, match=words):
        train(begun(**sections), dataset=other_bars([12] * 3))
    assert not (tmp_path / "transfer").exists()


def test_a_dropout_that_is_cut_off_is_refused():
    start = saved(small("vgg_a"))
    asked = {"model": {"dropout": 0.3}, "schedule": {"epochs": 1}}
    with pytest.raises(UsageError, match=r"--dropout 0\.3: vgg_a cut at conv5 has no dropout"):
        prepared(start, bars([4] * 3, side=16), transfer={"cut": "conv5"}, **asked)
    kept = prepared(start, bars([4] * 3, side=16), transfer={"cut": "head.fc7"}, **asked).model
    assert [module.p for module in kept.modules() if isinstance(module, torch.nn.Dropout)] == [0.3]


def test_a_budget_of_less_than_an_epoch_is_not_spent_on_the_head_alone(begun):
    result = train(
        begun(training={"budget": "0.01s"}, schedule={"epochs": None}), dataset=other_bars([64] * 3, [4] * 3)
    )
    assert RunFolder(result.run).read_recipe().transfer.head_epochs == 0


@pytest.mark.parametrize(
    ("transfer", "flag"),
    [
        ({"scenario": "head"}, "--scenario head"),
        ({"freeze_to": "stem"}, "--freeze-to stem"),
        ({"cut": "stem"}, "--cut stem"),
        ({"layer_decay": 0.5}, "--layer-decay 0.5"),
        ({"unfreeze_every": 1}, "--unfreeze-every 1"),
    ],
)
def test_transfer_without_weights_is_refused_before_anything_is_written(quick, tmp_path, transfer, flag):
    with pytest.raises(UsageError) as raised:
        train(quick(transfer=transfer))
    assert flag in raised.value.message
    assert "--from" in raised.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["cut", "freeze_to"])
def test_places_that_are_not_there_are_answered_with_those_that_are(begun, tmp_path, option):
    with pytest.raises(ModelError, match="no place 'layer4'") as raised:
        train(begun(transfer={option: "layer4"}), dataset=other_bars([12] * 3))
    assert all(place in raised.value.hint for place in ("stem", "group1", "group2"))
    assert not (tmp_path / "transfer").exists()


@pytest.mark.parametrize("transfer", [{"freeze_to": "stem"}, {"head_epochs": 1}, {"unfreeze_every": 1}])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_network_that_is_given_is_handed_back_as_it_came(quick, heard, transfer, stopped):
    model = small("compact_xs", in_channels=1, input_size=8, classes=10).eval()
    model.stages.train()
    next(model.head.parameters()).requires_grad_(transfer != {"freeze_to": "stem"})
    modes = [module.training for module in model.modules()]
    learning = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.stem.state_dict().items()}
    options = quick(transfer=transfer, schedule={"epochs": 1}, data={"limit": 64})
    if stopped:
        heard.say = lambda text: (_ for _ in ()).throw(PowerCut) if text.startswith("epoch 1") else None
        with pytest.raises(PowerCut):
            train(options, model=model, progress=heard)
    else:
        train(options, model=model)
    if transfer == {"freeze_to": "stem"}:
        after = {name: value for name, value in model.stem.state_dict().items() if name != "whiten.weight"}
        assert all(torch.equal(before[name], value) for name, value in after.items())
    assert [parameter.requires_grad for parameter in model.parameters()] == learning
    assert [module.training for module in model.modules()] == modes


# the same bits --------------------------------------------------------------------------------------------------------

GRADUAL = {
    "transfer": {"unfreeze_every": 1, "head_epochs": 1, "pretrained_lr": 0.3, "layer_decay": 0.7},
    "augment": {"preset": "digits", "mixup": 0.2},
    "training": {"ema": 0.9, "save_minutes": 1e-6},
    "schedule": {"epochs": 4, "schedule": "cosine"},
    "optimizer": {"batch_size": 16},
}


class PowerCut(Exception):
    """Stops a run in the middle."""


@pytest.mark.parametrize(
    "optimizer", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("adamw", "rmsprop")), "sgd", "muon"]
)
def test_resuming_gradual_unfreezing_changes_no_bit(begun, monkeypatch, optimizer):
    from striate.training import run as story

    dataset = other_bars([16] * 3, [4] * 3)
    rate = {"optimizer": optimizer, "batch_size": 16} | ({"lr": 1e-3} if optimizer == "rmsprop" else {})
    changes = GRADUAL | {"optimizer": rate}
    whole = train(begun("whole", **changes), dataset=dataset)
    stopped, folder = begun("stopped", **changes), whole.run.parent / "stopped"
    original, saves = story.save_state, []
    for stop_at in (3, 5, 9):  # while the head learns alone, and among the unfrozen places

        def save_and_stop(*arguments, stop_at=stop_at):
            original(*arguments)
            saves.append(1)
            if len(saves) == stop_at:
                raise PowerCut

        go_on = partial(resume, folder) if saves else partial(train, stopped)
        with monkeypatch.context() as patch:
            patch.setattr(story, "save_state", save_and_stop)
            with pytest.raises(PowerCut):
                go_on(dataset=dataset)
    resumed = resume(folder, dataset=dataset)
    assert same(weights(resumed.run), weights(whole.run))
    rows = [{k: v for k, v in row.items() if k in ("epoch", "frozen_to", "rates", "train_loss")}
            for row in RunFolder(whole.run).read_metrics()]  # fmt: skip
    again = [{k: v for k, v in row.items() if k in ("epoch", "frozen_to", "rates", "train_loss")}
             for row in RunFolder(resumed.run).read_metrics()]  # fmt: skip
    assert rows == again
    assert [row["frozen_to"] for row in rows] == ["head.pool", "group1", "stem", None]


def test_the_recipe_of_a_transfer_repeats_it(begun, tmp_path):
    dataset = other_bars([12] * 3, [4] * 3)
    first = train(begun("first", transfer={"scenario": "top"}), dataset=dataset)
    options = RunFolder(first.run).read_recipe()
    again = replace(options, training=replace(options.training, run_dir=str(tmp_path / "again")))
    assert same(weights(train(again, dataset=dataset).run), weights(first.run))


def test_patience_counts_from_when_all_that_may_learn_does(begun):
    changes = {
        "transfer": {"unfreeze_every": 2, "head_epochs": 2, "pretrained_lr": 1e-6},
        "schedule": {"epochs": 30, "schedule": "constant", "steps_per_epoch": 1},
        "optimizer": {"lr": 1e-9, "momentum": 0.0},
        "training": {"early_stopping": 1},
    }
    result = train(begun(**changes), dataset=other_bars([16] * 3, [4] * 3))
    frozen = [row["frozen_to"] for row in RunFolder(result.run).read_metrics()]
    assert frozen[:7] == [*["head.pool"] * 2, *["group1"] * 2, *["stem"] * 2, None]
    assert len(frozen) == result.epochs < 30


def test_resuming_while_a_plateau_waits_for_more_to_learn_changes_no_bit(begun, monkeypatch):
    from striate.training import run as story

    dataset = other_bars([16] * 3, [4] * 3)
    changes = {
        "transfer": {"unfreeze_every": 2, "head_epochs": 3, "pretrained_lr": 1.0},
        "schedule": {"epochs": 9, "schedule": "plateau", "patience": 0, "gamma": 0.1, "steps_per_epoch": 1},
        "optimizer": {"lr": 1e-6, "momentum": 0.0},
        "training": {"early_stopping": 2, "ema": 0.0, "best_by": "top1"},
    }
    whole = train(begun("whole", **changes), dataset=dataset)
    folder, original, saves = whole.run.parent / "stopped", story.save_state, []
    for stop_at in (3, 4, 6, 8):  # before and after more begins to learn; the first save is that of the start

        def save_and_stop(*arguments, stop_at=stop_at):
            original(*arguments)
            saves.append(1)
            if len(saves) == stop_at:
                raise PowerCut

        go_on = partial(resume, folder) if saves else partial(train, begun("stopped", **changes))
        with monkeypatch.context() as patch:
            patch.setattr(story, "save_state", save_and_stop)
            with pytest.raises(PowerCut):
                go_on(dataset=dataset)
    resumed = resume(folder, dataset=dataset)
    assert (resumed.epochs, resumed.best_epoch) == (whole.epochs, whole.best_epoch)
    assert len({row["lr"] for row in RunFolder(whole.run).read_metrics()}) > 1, "the plateau was never reached"
    rates = [[row["lr"] for row in RunFolder(one.run).read_metrics()] for one in (whole, resumed)]
    assert rates[0] == rates[1]
    assert same(weights(resumed.run), weights(whole.run))


OWN = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=4, in_channels=1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head.add_module("linear", nn.Linear(8, 6))
        self.head.add_module("relu", nn.ReLU())
        self.head.add_module("last", nn.Linear(6, classes))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))
"""


def test_a_network_of_one_s_own_is_cut_frozen_resumed_and_opened_again(quick, tmp_path):
    (tmp_path / "net.py").write_text(OWN)
    code, plain = f"{tmp_path / 'net.py'}:Net", {"data": {"limit": None}, "schedule": {"epochs": 1}}
    source = train(quick("own", model={"model": code}, **plain), dataset=bars([8] * 4, [4] * 4)).run
    given = {"from": f"{code}:{source}", "model": None}
    transfer = {"cut": "head.linear", "freeze_to": "stem", "scenario": "top"}
    dataset = other_bars([8] * 3, [4] * 3)
    options = quick("cut", model=given, transfer=transfer, **plain)
    begun = load_model(source, code=code).model.stem.state_dict()
    run = train(options, dataset=dataset).run
    resume(run, epochs=2, dataset=dataset, model=code)
    kept = load_model(run, code=code).model
    assert places(kept) == ("stem", "head.linear")
    assert all(torch.equal(begun[name], value) for name, value in kept.stem.state_dict().items())
    again = train(quick("again", model={"from": f"{code}:{run}", "model": None}, **plain), dataset=dataset)
    assert load_model(again.run, code=code).model.architecture.cut == "head.linear"


# awkward data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_class", [1, 5, 10])
@pytest.mark.parametrize("scenario", ["head", "top", "all"])
def test_few_images_per_class(begun, per_class, scenario):
    result = train(begun(transfer={"scenario": scenario}, optimizer={"batch_size": None}),
                   dataset=other_bars([per_class] * 3, [4] * 3))  # fmt: skip
    assert result.val is not None
    assert all(np.isfinite(row["train_loss"]) for row in RunFolder(result.run).read_metrics())


def test_classes_out_of_balance_and_missing_from_validation(begun):
    result = train(begun(regularize={"sampling": "balanced"}), dataset=other_bars([30, 1, 3], [6, 0, 1]))
    assert result.val.n == 7
    assert load_model(result.run).model.architecture.classes == 3


def test_no_validation_images_at_all(begun):
    result = train(begun(), dataset=other_bars([8, 8]))
    assert result.val is None


def test_a_single_class_is_refused(begun, tmp_path):
    with pytest.raises(UsageError, match="1 class"):
        train(begun(), dataset=other_bars([8]))
    assert not (tmp_path / "transfer").exists()


@pytest.mark.parametrize(("side", "mode"), [(2, "RGB"), (5, "L"), (40, "L")])
def test_tiny_and_grey_photos_into_a_network_of_colours(quick, tmp_path, side, mode):
    start = tmp_path / "colours"
    train(
        quick("colours", model={"model": "compact_xs"}, data={"limit": None}, schedule={"epochs": 1}),
        dataset=bars([8] * 2, [2] * 2, side=16, channels=3),
    )
    generator = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (side, side) if mode == "L" else (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    dataset = load_data(DataOptions(data=str(tmp_path / "data")))
    options = quick(model={"from": str(start), "model": None}, data={"data": str(tmp_path / "data"), "limit": None})
    result = train(options, dataset=dataset)
    kept = load_model(result.run)
    assert (kept.spec.channels, kept.spec.size) == (3, (16, 16))
    assert kept.model.stem.state_dict().keys() == load_model(start).model.stem.state_dict().keys()
