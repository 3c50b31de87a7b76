"""A new head that is fitted before the first step: to what, how exactly, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from tests.training.small_data import bars, saved, small
from torch import nn

from striate.checkpoint import load_model
from striate.data import Dataset, Split, TensorImages
from striate.data.normalise import normalise
from striate.data.parts import trial_data
from striate.errors import UsageError
from striate.linear.classifiers import fold_numbers, out_of_fold
from striate.models.cut import depth_of, places
from striate.progress import Silent
from striate.runfolder import RunFolder
from striate.spec import Labels
from striate.training import head_start, train, try_out
from striate.training.head_start import fit_head, last_layer
from striate.training.prepare import prepare, provisional, resolved_for
from striate.training.session import Session, open_session
from striate.training.trial import _NOWHERE


@pytest.fixture
def opened(quick):
    """The session of a training from an opened network of three other classes, before any start."""

    def make(start, dataset: Dataset, **sections) -> Session:
        asked = quick(model={"model": None, "from": "opened"}, data={"limit": None}, **sections)
        options, spec, start = resolved_for(asked, dataset, start=start)
        ready = prepare(options, spec, dataset, given=None, start=start, budgeted=False, progress=Silent())
        return open_session(provisional(ready.options), spec, dataset, _NOWHERE, ready.model)

    return make


def network(name: str = "compact_xs", **changes):
    """A network that knows other classes; its batch norms have seen something."""
    return saved(small(name, **{"in_channels": 1, "input_size": 16} | changes), tuple("xyz"))


def noisy(counts: list[int], seed: int = 0) -> Dataset:
    """Bars so noisy that no classifier tells all of them apart."""
    dataset, random = bars(counts, [20] * len(counts), side=16), np.random.default_rng(seed)
    splits = {}
    for name, split in dataset.splits.items():
        assert isinstance(split.images, TensorImages)
        pixels = split.images.pixels + random.normal(0, 120, split.images.pixels.shape)
        splits[name] = replace(split, images=TensorImages(np.clip(pixels, 0, 255).astype(np.uint8)))
    return replace(dataset, splits=splits)


def logits(session: Session, split: Split) -> np.ndarray:
    assert isinstance(split.images, TensorImages)
    images = normalise(split.images.take(np.arange(len(split)), session.spec), session.spec)
    with torch.no_grad():
        return session.model.eval()(images).numpy()


def without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def inputs(session: Session, split: Split) -> np.ndarray:
    """What the last layer is given, averaged over places."""
    heard = []
    found = last_layer(session.model)
    assert found is not None
    handle = found.layer.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    logits(session, split)
    handle.remove()
    return heard[0].numpy() if heard[0].ndim == 2 else heard[0].mean((2, 3)).numpy()


@pytest.mark.parametrize("name", ["compact_xs", "squeezenet1_1", "lenet5"])
def test_a_fitted_head_answers_as_logistic_regression_does(opened, name):
    size = {"input_size": 32} if name == "squeezenet1_1" else {}
    session = opened(network(name, **size), noisy([40, 30, 20, 10]), transfer={"scenario": "all"})
    without_dropout(session.model)
    train_split, held_out = session.dataset.splits["train"], session.dataset.splits["val"]
    known = out_of_fold(
        inputs(session, train_split), train_split.targets, 4, kind="softmax", folds=fold_numbers(train_split.targets)
    )
    assert session.options.transfer.head_start == "fitted"
    fit_head(session, Silent())
    codes, others = inputs(session, train_split), inputs(session, held_out)
    deviation = codes.std(axis=0)
    scale = np.where(deviation > 1e-6 * deviation.max(), 1 / np.maximum(deviation, 1e-30), 0)
    scale /= np.sqrt((scale > 0).sum())
    machine = LogisticRegression(C=known.regularization, max_iter=5000, tol=1e-6)
    machine.fit((codes - codes.mean(axis=0)) * scale, train_split.targets)
    theirs = machine.decision_function((others - codes.mean(axis=0)) * scale) / known.temperature
    expected = torch.from_numpy(theirs).softmax(1).numpy()
    found = torch.from_numpy(logits(session, held_out)).softmax(1).numpy()
    assert np.abs(found - expected).max() < 0.02
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.97


def test_under_dropout_a_fitted_head_answers_the_same_and_is_less_sure(opened):
    """Codes that are nearly constant need weights so large that an input taken away is a logit in the hundreds."""
    dataset, answers, losses = noisy([40, 30, 20, 10]), [], []
    for dropout in (0.0, 0.5):
        start = network("alexnet_owt", input_size=63)
        for weight in (one for one in start.model.parameters() if one.ndim > 1):
            nn.init.kaiming_normal_(weight, generator=torch.Generator().manual_seed(0))
        session = opened(start, dataset, transfer={"scenario": "all"})
        split = session.dataset.splits["train"]
        if not dropout:
            without_dropout(session.model)
        state = torch.get_rng_state()
        fit_head(session, Silent())
        assert torch.equal(state, torch.get_rng_state())
        answers.append(logits(session, split))
        images = normalise(split.images.take(np.arange(len(split)), session.spec), session.spec)
        for module in session.model.modules():
            if isinstance(module, nn.Dropout):
                module.train().p = 0.5
        with torch.no_grad():
            losses.append(float(F.cross_entropy(session.model(images), torch.from_numpy(split.targets))))
    plain, doubting = (one - one.mean(axis=1, keepdims=True) for one in answers)
    factor = float((plain * doubting).sum() / (plain * plain).sum())
    assert factor < 0.5
    assert np.abs(doubting - factor * plain).max() < 1e-3 * np.abs(plain).max()
    assert losses[0] > 2 * np.log(4)
    assert losses[1] < 1.1 * np.log(4)


def test_a_rectified_classifier_is_lifted_so_that_no_logit_is_cut_off(opened):
    session = opened(network("squeezenet1_1", input_size=32), noisy([20, 20]), transfer={"scenario": "head"})
    found = last_layer(session.model)
    assert found is not None
    assert found.rectified
    fit_head(session, Silent())
    heard = []
    handle = found.layer.register_forward_hook(lambda _, given, out: heard.append(out))
    logits(session, session.dataset.splits["train"])
    handle.remove()
    assert float(heard[0].min()) >= 0


def test_heads_that_are_not_linear_for_softmax_start_randomly(opened):
    assert last_layer(small("lenet5_1998", input_size=28)) is None, "radial basis units"
    assert last_layer(small("lecun1989_net1", input_size=16)) is None, "squared errors"
    assert last_layer(small("airbench94", input_size=32)) is None, "no biases"
    rbf = saved(small("lenet5_1998", classes=4, input_size=28), tuple("wxyz"))
    session = opened(rbf, bars([8] * 3, side=28), transfer={"scenario": "all"})
    assert session.options.transfer.head_start == "random"
    with pytest.raises(UsageError, match=r"--head-start fitted: the head of lenet5_1998 does not end in a linear"):
        opened(rbf, bars([8] * 3, side=28), transfer={"scenario": "all", "head_start": "fitted"})


def test_trying_what_a_head_does_leaves_it_as_it_was():
    model = small("nin_cifar", input_size=32).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert last_layer(model) is not None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_only_the_last_layer_is_set(opened):
    session = opened(network("lenet5"), bars([6] * 4, side=16), transfer={"scenario": "all"})
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    fit_head(session, Silent())
    changed = {name for name, value in session.model.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"head.output.weight", "head.output.bias"}


def test_what_is_frozen_stays_so_to_the_bit(quick):
    start = network()
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    asked = quick(
        model={"model": None, "from": "opened"}, data={"limit": None}, transfer={"scenario": "top"},
        training={"best_by": "last"},
    )  # fmt: skip
    dataset, after = noisy([20, 20]), {}
    watched = head_start.fit_head

    def remembered(session, progress):
        after["model"] = session.model
        return watched(session, progress)

    from striate.training import start as starting

    patched = pytest.MonkeyPatch()
    patched.setattr(starting, "fit_head", remembered)
    try:
        trial = try_out(asked, dataset, start=start)
    finally:
        patched.undo()
    model = after["model"]
    frozen = places(model).index(trial.options.transfer.freeze_to)
    held = [name for name, depth in depth_of(model).items() if depth <= frozen]
    assert held
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in held)


def test_a_trial_fits_without_its_held_out_images(quick):
    """Other labels, and other pixels, of held-out images leave the head and so the training as they are."""
    dataset = noisy([30, 30])
    rows = np.arange(60)
    learn, held = rows[rows % 3 > 0], rows[rows % 3 == 0]
    asked = quick(
        model={"model": None, "from": "opened"}, data={"limit": None}, transfer={"scenario": "head"},
        training={"best_by": "last"},
    )  # fmt: skip
    plain = trial_data(dataset, learn, held)
    spoilt = replace(
        plain, splits=plain.splits | {"val": replace(plain.splits["val"], targets=1 - plain.splits["val"].targets)}
    )
    one, other = (try_out(asked, data, start=network()) for data in (plain, spoilt))
    assert one.seconds_of_start > 0
    assert (one.correct == ~other.correct).all(), "the same answers"


def test_a_class_without_images_is_never_the_answer_and_one_image_of_each_is_enough(opened):
    few = bars([1, 1, 1], side=16)
    session = opened(network(), few, transfer={"scenario": "head"})
    fit_head(session, Silent())
    assert (logits(session, few.splits["train"]).argmax(1) == np.arange(3)).all()
    lacking = replace(few, labels=Labels((*few.labels.names, "never seen")))
    session = opened(network(), lacking, transfer={"scenario": "head"})
    fit_head(session, Silent())
    answers = logits(session, few.splits["train"])
    assert answers.shape == (3, 4)
    assert np.isfinite(answers).all()
    assert (answers.argmax(1) == np.arange(3)).all()


def test_balanced_class_weights_let_rare_classes_count_as_much(opened):
    dataset = noisy([90, 10])
    usual = opened(network(), dataset, transfer={"scenario": "head"})
    even = opened(network(), dataset, transfer={"scenario": "head"}, regularize={"class_weights": "balanced"})
    for session in (usual, even):
        fit_head(session, Silent())
    rare = [(logits(one, dataset.splits["val"]).argmax(1) == 1).mean() for one in (usual, even)]
    assert rare[1] > rare[0]


def test_the_option_is_resolved_recorded_and_refused_without_weights(quick, heard, tmp_path):
    dataset = bars([12] * 4, [4] * 4, side=16)
    source = train(quick("source", model={"model": "compact_xs"}, data={"limit": None}), dataset=dataset)
    others = replace(dataset, labels=Labels(tuple("stuv")))
    asked = {"model": {"model": None, "from": str(source.run)}, "data": {"limit": None}}

    def recipe(name: str, data: Dataset, **transfer):
        run = train(quick(name, **asked, transfer={"scenario": "all", **transfer}), dataset=data, progress=heard).run
        return RunFolder(run).read_recipe().transfer

    fitted, random = recipe("a", others), recipe("b", others, head_start="random")
    assert (fitted.head_start, fitted.head_epochs, random.head_start) == ("fitted", 0, "random")
    assert any(line.startswith("new head fitted to 48 images instead, ") for line in heard.lines)
    assert recipe("c", dataset).head_start is None, "the head is copied"
    again = recipe("d", others, head_start="fitted")
    assert again == fitted
    assert _same(tmp_path / "a", tmp_path / "d")
    assert not _same(tmp_path / "a", tmp_path / "b")
    with pytest.raises(UsageError, match="--head-start fitted needs weights to start from"):
        train(quick("e", transfer={"head_start": "fitted"}), dataset=dataset)


def _same(one, other) -> bool:
    mine, theirs = (load_model(RunFolder(path).model).model.state_dict() for path in (one, other))
    return all(torch.equal(mine[name], theirs[name]) for name in mine)
