"""Frozen means frozen: weights and statistics bit for bit, for every family, whatever else acts on weights.

Fact M163: requires_grad off and batch normalisation in evaluation mode.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from tests.training.small_data import bars, small, smallest_of_each_family
from torch import nn

from striate.errors import ModelError, UsageError
from striate.models import ConvNet, create_model, entries
from striate.models.cut import modules_up_to, places
from striate.options import TrainOptions, TransferOptions, merged
from striate.progress import Progress, Task
from striate.runfolder import RunFolder
from striate.training import freezing, train
from striate.training.epoch import train_epoch
from striate.training.freezing import frozen_places
from striate.training.planning import range_test, replace_model
from striate.training.prepare import prepare, resolved_for
from striate.training.session import Session, open_session
from striate.training.start import start_weights

SMALLEST = smallest_of_each_family()
every_family = pytest.mark.parametrize(
    "name",
    [entry.name if entry.name in SMALLEST else pytest.param(entry.name, marks=pytest.mark.slow) for entry in entries()],
)
EVERYTHING_THAT_MOVES = {
    "regularize": {"max_filter_rms": 1e-3, "weight_decay": 0.1, "l1": 0.1, "decay_norms_and_biases": True},
    "training": {"ema": 0.5},
    "optimizer": {"lr": 0.1, "clip_norm": 1.0},
}


def session_of(model: ConvNet, **sections: dict) -> Session:
    """A session over a given network, one batch an epoch, as `train` opens it."""
    record = model.architecture
    dataset = bars([2] * record.classes, [1] * record.classes, side=record.input_size[0], channels=record.in_channels)
    options = merged(
        TrainOptions(),
        {
            "augment": {"preset": "none"},
            "schedule": {"epochs": 2, "schedule": "constant"},
            "runtime": {"device": "cpu", "precision": "fp32", "threads": 1, "compile": "off"},
        },
    )
    options, spec, _ = resolved_for(merged(options, sections), dataset, given=model)
    prepared = prepare(options, spec, dataset, given=model, start=None, budgeted=False, progress=Progress())
    session = open_session(prepared.options, spec, dataset, RunFolder(Path("nowhere")), model)
    start_weights(session, Progress())
    return session


def epoch(session: Session) -> None:
    train_epoch(session, Task(), lambda row: None, lambda: None)
    session.position.epoch += 1
    session.position.batch, session.position.sums = 0, {}


def state_of(modules: list[nn.Module]) -> list[torch.Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def middle_of(model: ConvNet) -> str:
    return places(model)[(len(places(model)) - 1) // 2]


@every_family
def test_frozen_parts_stay_as_they_are_to_the_bit_and_the_rest_learns(name):
    model = small(name)
    place = middle_of(model)
    session = session_of(model, transfer={"freeze_to": place}, **EVERYTHING_THAT_MOVES)
    frozen = modules_up_to(model, place)
    before, head = state_of(frozen), state_of([model.head])
    epoch(session)
    assert same(before, state_of(frozen))
    averaged = session.average.module  # type: ignore[union-attr]
    assert same(before, state_of(modules_up_to(averaged, place)))  # type: ignore[arg-type]
    assert not same(head, state_of([model.head])), "nothing learnt at all"
    assert not any(module.training for part in frozen for module in part.modules())
    held = {id(parameter) for part in frozen for parameter in part.parameters()}
    for group in session.optimizer.param_groups:
        assert not held & {id(parameter) for parameter in group["params"]}


OWN = """
from torch import nn


class Own(nn.Module):
    def __init__(self, classes=3, in_channels=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential()
        self.stages.add_module("deep", nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.ReLU())
        self.head.append(nn.Linear(6, classes))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))
"""


@pytest.mark.parametrize("name", ["own.py:Own", pytest.param("timm:resnet10t", marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_frozen_parts_of_networks_from_elsewhere_stay_too(tmp_path, monkeypatch, name, place):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="timm builds them")
    model = create_model(name, classes=3, input_size=32, in_channels=3)
    known = places(model)
    to = {"first": known[0], "middle": middle_of(model), "last": known[-1]}[place]
    session = session_of(model, transfer={"freeze_to": to}, **EVERYTHING_THAT_MOVES)
    before, head = state_of(modules_up_to(model, to)), state_of([model.head])
    epoch(session)
    assert same(before, state_of(modules_up_to(model, to)))
    assert not same(head, state_of([model.head])), "nothing learnt at all"


@pytest.mark.parametrize(
    "sections",
    [
        {"optimizer": {"optimizer": "muon", "lr": 0.1}, "regularize": {"unit_kernels": True}},
        {"optimizer": {"optimizer": "adamw", "lr": 0.1}},
        {"optimizer": {"optimizer": "rmsprop", "lr": 0.1, "momentum": 0.9}},
        {"optimizer": {"lr": 0.1, "micro_batches": 2}, "runtime": {"precision": "bf16", "channels_last": True}},
    ],
    ids=["muon", "adamw", "rmsprop", "micro-batches"],
)
def test_no_optimiser_and_no_layout_touches_what_is_frozen(sections):
    model = small("cifar_plain20", input_size=8)
    place = places(model)[1]
    before = state_of(modules_up_to(model, place))
    session = session_of(model, transfer={"freeze_to": place}, **sections)
    for _ in range(2):
        epoch(session)
    assert same(before, state_of(modules_up_to(model, place)))


def test_no_gradient_is_computed_for_a_frozen_beginning():
    model = small("cifar_plain20", input_size=8)
    session = session_of(model, transfer={"freeze_to": places(model)[1]})
    seen = []
    model.stages[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].requires_grad))
    epoch(session)
    assert seen
    assert not any(seen)


def test_measuring_beforehand_moves_nothing_that_is_frozen():
    model = small("cifar_plain20", input_size=8)
    before = state_of([model])
    session = session_of(model, transfer={"freeze_to": places(model)[1]})
    trial = replace_model(session)
    assert not trial.model.stem.training
    assert trial.model.head.training
    range_test(session, Progress())
    assert same(before, state_of([model]))


def test_a_tiny_number_survives_in_the_average():
    model = small("cifar_plain20", input_size=8)
    norm = next(module for module in model.stem.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_mean.fill_(1e-40)  # below what processors keep where they flush such numbers to zero
    session = session_of(model, transfer={"freeze_to": "stem"}, training={"ema": 0.9})
    flushing = torch.set_flush_denormal(True)
    try:
        epoch(session)
        epoch(session)
    finally:
        torch.set_flush_denormal(False)
    averaged = session.average.module  # type: ignore[union-attr]
    assert flushing in (True, False)
    assert same(state_of([model.stem]), state_of([averaged.stem]))  # type: ignore[list-item]


# course ---------------------------------------------------------------------------------------------------------------


def course(model: ConvNet, epochs: int, **options) -> list[int]:
    """How many places are frozen in each epoch."""
    return [len(frozen_places(TransferOptions(**options), model, one)) for one in range(epochs)]


def test_what_is_frozen_follows_from_options_and_epoch():
    model = small("resnet18", input_size=32)
    assert places(model) == ("stem", "conv2_x", "conv3_x", "conv4_x", "conv5_x")
    assert course(model, 3) == [0, 0, 0]
    assert course(model, 3, freeze_to="conv3_x") == [3, 3, 3]
    assert course(model, 3, freeze_to="conv3_x", head_epochs=1) == [5, 3, 3]
    assert course(model, 8, unfreeze_every=1, head_epochs=1) == [5, 4, 3, 2, 1, 0, 0, 0]
    assert course(model, 8, unfreeze_every=2, head_epochs=0) == [4, 4, 3, 3, 2, 2, 1, 1]
    assert course(model, 6, unfreeze_every=1, head_epochs=1, freeze_to="conv2_x") == [5, 4, 3, 2, 2, 2]


def test_places_without_weights_take_no_turn_in_unfreezing():
    model = small("compact_xs", input_size=16)
    known = places(model)
    assert known[-1].startswith("head.")  # a pooling
    frozen = course(model, len(known), unfreeze_every=1, head_epochs=1)
    assert frozen[0] == len(known)
    assert frozen[1] == len(known) - 2
    pooled = small("compact_xs", input_size=16)
    pooled.stem = nn.Sequential(nn.Identity())
    assert places(pooled)[:2] == ("stem", "group1")
    assert course(pooled, 3, unfreeze_every=1, head_epochs=0) == [2, 0, 0]


def test_gradual_unfreezing_lets_one_place_more_learn_each_time():
    model = small("resnet18", input_size=32, classes=2)
    session = session_of(model, transfer={"unfreeze_every": 1, "head_epochs": 1}, schedule={"epochs": 4})
    parts = {place: [modules_up_to(model, place)[-1]] for place in places(model)}
    for expected in ([], ["conv5_x"], ["conv4_x", "conv5_x"], ["conv3_x", "conv4_x", "conv5_x"]):
        before = {place: state_of(modules) for place, modules in parts.items()}
        head = state_of([model.head])
        epoch(session)
        changed = [place for place, modules in parts.items() if not same(before[place], state_of(modules))]
        assert changed == expected
        assert not same(head, state_of([model.head]))


@pytest.mark.parametrize("name", ["compact_xs", "resnet18", "squeezenet1_1", "vgg_a"])
def test_a_place_that_is_not_there_is_refused_with_those_that_are(name):
    model = small(name)
    with pytest.raises(ModelError, match="no place 'stage99'") as raised:
        session_of(model, transfer={"freeze_to": "stage99"})
    assert all(place in raised.value.hint for place in places(model))


def test_a_network_of_which_nothing_learns_is_refused():
    model = small("resnet18", input_size=32)
    for parameter in model.head.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(UsageError, match="nothing learns"):
        session_of(model, transfer={"freeze_to": "conv5_x"})
    assert model.stem[0].weight.requires_grad, "what was asked for in vain is taken back"


# patience -------------------------------------------------------------------------------------------------------------


def lesson(epochs: int, *, lr: float = 1e-30, evaluate_every: int = 1, **sections) -> list[dict]:
    """What a training notes of each epoch whose scores cannot improve: no weight moves, and no statistics are there."""
    model = small("lenet5_dense", in_channels=1, input_size=28, classes=2)
    rate = {"optimizer": {"lr": lr, "momentum": 0.0, "optimizer": "sgd", "batch_size": 8}}
    transfer = {"scenario": "all", "unfreeze_every": 0, "pretrained_lr": 1.0, "layer_decay": 1.0}
    sections["transfer"] = transfer | sections["transfer"]
    sections["training"] = {"evaluate_every": evaluate_every, **sections.get("training", {})}
    sections["schedule"] = {"epochs": epochs, "schedule": "constant", **sections.get("schedule", {})}
    with TemporaryDirectory() as folder:
        sections["training"]["run_dir"] = folder
        plain = {"augment": {"preset": "none"}, "runtime": {"device": "cpu", "precision": "fp32", "threads": 1}}
        options = merged(merged(TrainOptions(), plain | rate), sections)
        result = train(options, dataset=bars([8] * 2, [4] * 2, side=28), model=model)
        return RunFolder(result.run).read_metrics()


def test_a_training_does_not_stop_where_the_rest_begins_to_learn():
    rows = lesson(6, transfer={"head_epochs": 2}, training={"early_stopping": 1})
    assert [row["frozen_to"] is None for row in rows] == [False, False, True]


def test_patience_does_not_count_epochs_before_more_began_to_learn():
    rows = lesson(8, evaluate_every=2, transfer={"head_epochs": 3}, training={"early_stopping": 2})
    assert len(rows) == 6, "stopped two validated epochs or more after the fourth"


def test_a_plateau_does_not_count_epochs_before_more_began_to_learn():
    schedule = {"schedule": "plateau", "patience": 1, "gamma": 0.1}
    rates = [row["lr"] for row in lesson(5, lr=1e-6, transfer={"head_epochs": 2}, schedule=schedule)]
    assert rates == pytest.approx([1e-6] * 4 + [1e-7], rel=1e-6, abs=0.0)


def test_a_training_that_is_too_short_to_let_all_learn_says_so():
    model = small("resnet18", input_size=32)
    short = session_of(model, transfer={"unfreeze_every": 2, "head_epochs": 1}, schedule={"epochs": 4})
    assert freezing.unfinished_in_words(short) == (
        "4 epochs end with all up to conv3_x frozen: by --head-epochs and --unfreeze-every the last of it learns in "
        "epoch 10"
    )
    assert course(model, 10, unfreeze_every=2, head_epochs=1)[-2:] == [1, 0]
    assert freezing.settings_in(short) == 3
    assert freezing.unfinished_in_words(session_of(model, transfer={"freeze_to": "conv2_x"})) is None


# words ----------------------------------------------------------------------------------------------------------------


def test_the_headline_says_what_is_frozen():
    model = small("resnet18", input_size=32)
    asked = {"freeze_to": "conv4_x", "pretrained_lr": 0.1, "head_epochs": 1}
    line = freezing.in_words(session_of(model, transfer=asked, optimizer={"lr": 0.05}))
    learning = sum(p.numel() for part in (model.stages[3], model.head) for p in part.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert line == (
        f"frozen up to conv4_x, its batch-norm statistics too; {learning / 1e6:.1f} of {total / 1e6:.1f} million "
        "parameters learn at 0.005 to 0.05; in the first epoch frozen up to conv5_x, its batch-norm statistics too: "
        "only the classifier learns"
    )
    slow = session_of(model, transfer={"unfreeze_every": 1, "head_epochs": 0}, schedule={"epochs": 3})
    assert "; at first frozen up to conv4_x, its batch-norm statistics too; then one" in freezing.in_words(slow)
    plain = small("squeezenet1_1")
    assert "batch-norm" not in freezing.in_words(session_of(plain, transfer={"freeze_to": places(plain)[1]}))
    assert freezing.in_words(session_of(small("resnet18", input_size=32))) is None
