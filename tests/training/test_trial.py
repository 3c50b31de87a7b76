"""Trials: the training itself, with nothing left behind."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from tests.training.small_data import bars, saved, small

from striate.errors import DataError
from striate.training import train, try_out

LAST = {"data": {"limit": None}, "model": {"model": "compact_xs"}, "training": {"best_by": "last"}}


def test_a_trial_ends_as_the_training_does(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = bars([24] * 3, [8] * 3)
    options = quick(schedule={"epochs": 3}, optimizer={"batch_size": 16}, **LAST)
    state = torch.get_rng_state()
    trial = try_out(options, dataset)
    assert torch.equal(state, torch.get_rng_state())
    assert os.listdir(tmp_path) == [], "nothing is written"
    result = train(options, dataset=dataset)
    assert trial.top1 == result.val.top1 == trial.correct.mean()
    assert (trial.n, trial.epochs) == (24, 3)
    assert trial.correct.dtype == np.bool_
    assert trial.seconds_per_image == pytest.approx(trial.seconds / (3 * 64))
    assert trial.options.optimizer.lr is not None


def test_a_trial_from_weights_leaves_them_as_they_were(quick):
    start = saved(small("compact_xs", in_channels=1, input_size=8))
    start.model.fit_start(torch.randn(64, 1, 8, 8))
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    options = quick(**merged_sections(LAST, {"model": {"model": None}, "transfer": {"scenario": "top"}}))
    trial = try_out(options, bars([24] * 3, [8] * 3), start=start)
    assert trial.options.transfer.freeze_to == "group1"
    assert all(torch.equal(before[name], value) for name, value in start.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in start.model.head.parameters())


def test_a_trial_takes_no_longer_than_it_may(quick):
    dataset = bars([200] * 3, [8] * 3)
    whole = try_out(quick(schedule={"epochs": 2}, **LAST), dataset, seconds=600.0)
    assert whole.epochs == 2, "no more than was asked for"
    short = try_out(quick(schedule={"epochs": 500}, **LAST), dataset, seconds=0.5)
    assert short.epochs < 500


def test_a_trial_without_validation_images_is_refused(quick):
    with pytest.raises(DataError, match="validation"):
        try_out(quick(**LAST), bars([24] * 3))


def merged_sections(one: dict, other: dict) -> dict:
    return {key: {**one.get(key, {}), **other.get(key, {})} for key in {*one, *other}}
