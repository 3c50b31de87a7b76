"""Randomness as a pure function: reference values, laws, independence, and the same bits in NumPy and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.draws import Draws, descend, elements, permutation, torch_elements

CPU = torch.device("cpu")
MANY = Draws(seed=0, epoch=0, indices=np.arange(20_000))


def test_streams_are_splitmix64():
    # the published test vector of SplitMix64 with seed 1234567
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert elements(np.uint64(1234567), np.arange(5)).tolist() == expected
    assert [descend(1234567, i) for i in range(5)] == expected


FROZEN_BITS = [[3898758188003824719, 2987841375710870039], [14079091302812010464, 13767556016930389462]]
FROZEN_INTEGERS = [[-3, -3], [2, 2]]
FROZEN_ORDER = [0, 9, 5, 3, 2, 6, 1, 8, 7, 4]
FROZEN_NORMAL = [[-0.6664920236390174, -1.4940442374610072], [0.6275463970281459, 0.25579242447512535]]
FROZEN_BETA = [0.003144877982948589, 1.0554964482652763e-05]


def test_reference_values_are_frozen():
    """A run of an earlier version must see the same images: these numbers may never change."""
    draws = Draws(seed=7, epoch=3, indices=np.array([0, 41]))
    assert draws.bits("shift", 2).tolist() == FROZEN_BITS
    assert draws.integers("shift", -4, 4, 2).tolist() == FROZEN_INTEGERS
    assert permutation(10, seed=7, epoch=3).tolist() == FROZEN_ORDER
    np.testing.assert_allclose(draws.normal("lighting", 2), FROZEN_NORMAL, rtol=1e-12)
    np.testing.assert_allclose(draws.beta("mixup", 0.2), FROZEN_BETA, rtol=1e-9)


def test_torch_gives_the_same_bits():
    states = MANY.states("noise")[:50]
    ours = torch_elements(torch.from_numpy(states.view(np.int64))[:, None], torch.arange(33))
    np.testing.assert_array_equal(ours.numpy().view(np.uint64), elements(states[:, None], np.arange(33)))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 10_000),
    index=st.integers(0, 2**40),
    others=st.lists(st.integers(0, 2**40), max_size=20),
)
def test_draws_of_an_image_do_not_depend_on_its_batch(seed, epoch, index, others):
    alone = Draws(seed, epoch, np.array([index]))
    batch = Draws(seed, epoch, np.array([*others, index]))
    for draw in (
        lambda d: d.uniform("a", count=3),
        lambda d: d.integers("b", -3, 9, 5),
        lambda d: d.normal("c", 3),
        lambda d: d.beta("d", 0.2)[:, None],
        lambda d: d.byte_field("e", 13, CPU).numpy(),
        lambda d: d.normal_field("f", 13, CPU).numpy(),
    ):
        np.testing.assert_array_equal(draw(alone)[0], draw(batch)[-1])


def test_every_part_of_the_key_matters():
    base = Draws(0, 0, np.arange(4)).bits("a", 3)
    for other in (
        Draws(1, 0, np.arange(4)).bits("a", 3),
        Draws(0, 1, np.arange(4)).bits("a", 3),
        Draws(0, 0, np.arange(4, 8)).bits("a", 3),
        Draws(0, 0, np.arange(4)).bits("b", 3),
    ):
        assert not np.isin(other, base).any()
    assert len(np.unique(base)) == base.size
    np.testing.assert_array_equal(Draws(0, 0, np.arange(4)).bits("a", 5)[:, :3], base)  # counters, not call order


def test_uniform_numbers_are_uniform_and_independent():
    numbers = MANY.uniform("u", count=4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    expected = numbers.size / 100
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 58 < chi_square < 149  # 99.9 % of the law with 99 degrees of freedom
    other = Draws(1, 0, MANY.indices).uniform("u")[:, 0]
    named = MANY.uniform("v")[:, 0]
    columns = np.stack([*numbers.T, other, named, np.roll(numbers[:, 0], 1)])
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 5 / np.sqrt(len(MANY.indices))
    assert MANY.uniform("u", -3.0, 5.0).mean() == pytest.approx(1.0, abs=0.1)


def test_integers_take_both_ends_evenly():
    numbers = MANY.integers("i", -2, 4)
    values, counts = np.unique(numbers, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2, 3, 4]
    expected = len(MANY.indices) / 7
    assert ((counts - expected) ** 2 / expected).sum() < 22.5  # 99.9 % with 6 degrees of freedom
    assert (MANY.integers("i", 5, 5) == 5).all()


def test_normal_moments():
    for numbers in (MANY.normal("n", 4), MANY.normal_field("n", 4, CPU).double().numpy()):
        assert np.isfinite(numbers).all()
        assert numbers.mean() == pytest.approx(0, abs=0.02)
        assert numbers.std() == pytest.approx(1, abs=0.02)
        assert (numbers**4).mean() == pytest.approx(3, abs=0.15)
        assert (np.abs(numbers) < 1.96).mean() == pytest.approx(0.95, abs=0.005)


def test_byte_field_is_even():
    counts = np.bincount(MANY.byte_field("f", 20, CPU).numpy().astype(int).ravel() + 128, minlength=256)
    expected = counts.sum() / 256
    assert 182 < ((counts - expected) ** 2 / expected).sum() < 330  # 99.9 % with 255 degrees of freedom


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 4.0])
def test_beta_moments(alpha):
    numbers = MANY.beta("m", alpha)
    assert numbers.min() >= 0
    assert numbers.max() <= 1
    assert numbers.mean() == pytest.approx(0.5, abs=0.015)
    assert numbers.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    if alpha == 1.0:  # the uniform law
        assert np.histogram(numbers, bins=10, range=(0, 1))[0] == pytest.approx(2000, abs=200)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(0, 300), seed=st.integers(0, 2**40), epoch=st.integers(0, 500))
def test_permutation_holds_every_number_once(length, seed, epoch):
    order = permutation(length, seed, epoch)
    assert sorted(order) == list(range(length))
    np.testing.assert_array_equal(order, permutation(length, seed, epoch))


def test_permutations_of_epochs_differ():
    orders = np.stack([permutation(50, 0, epoch) for epoch in range(400)])
    assert len(np.unique(orders, axis=0)) == 400
    assert np.abs(orders.mean(axis=0) - 24.5).max() < 4  # every place sees every number: 5.5 standard errors
    assert not np.array_equal(permutation(50, 0, 0), permutation(50, 0, 0, "other"))
