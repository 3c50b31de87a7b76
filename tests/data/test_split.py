"""The split: stable when files are added, undivided groups, shares of each class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.split import assign, quotas, shares, unit_digests, unit_numbers

FRACTION = (0.0, 0.2)


def digests_of(numbers) -> np.ndarray:
    """A digest for each number; equal numbers are equal content."""
    rows = [np.random.default_rng(int(number)).integers(0, 256, 16, np.uint8) for number in numbers]
    return np.array(rows, np.uint8).reshape(-1, 16)


def test_numbers_are_uniform_and_change_with_the_seed():
    digests = digests_of(range(4000))
    numbers, others = unit_numbers(digests, 0), unit_numbers(digests, 1)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] - 400).max() < 80  # four standard deviations
    assert abs(np.corrcoef(numbers, others)[0, 1]) < 0.06


def test_the_rule_is_fixed_for_ever():
    """These numbers decide the sides of people's images: they must not change between versions."""
    digests = np.arange(32, dtype=np.uint8).reshape(2, 16)
    # SplitMix64's finaliser of 0x0706050403020100 + 0x9E3779B97F4A7C15, and of the next word, by integers
    expected = []
    for row in digests:
        word = (int.from_bytes(row[:8].tobytes(), "little") + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        expected.append(((word ^ (word >> 31)) >> 11) / 2**53)
    assert unit_numbers(digests, 0).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(12, 30), min_size=1, max_size=4),
    new=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 5)), max_size=60),
    seed=st.integers(0, 5),
)
def test_added_files_move_no_old_one(counts, new, seed):
    """Any files may come to the classes, copies of old ones under other labels too. (Tiny classes: see below.)"""
    old = np.repeat(np.arange(len(counts)), counts)
    before = assign(digests_of(range(len(old))), old, seed=seed, val=FRACTION)
    content = [*range(len(old)), *(number for number, _ in new)]
    targets = np.array([*old, *(target % len(counts) for _, target in new)])
    after = assign(digests_of(content), targets, seed=seed, val=FRACTION)
    assert (after[: len(old)] == before).all()


def test_added_files_move_no_old_one_in_ordinary_sets():
    targets = np.repeat(np.arange(5), 60)
    digests = digests_of(range(300))
    order = np.random.default_rng(0).permutation(300)
    for count in (100, 150, 299):
        some = order[:count]
        assert (assign(digests[some], targets[some]) == assign(digests, targets)[some]).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=80),
    exact=st.booleans(),
    seed=st.integers(0, 3),
)
def test_groups_and_copies_are_never_divided_and_every_class_trains(rows, exact, seed):
    content, targets, groups = (np.array(column) for column in zip(*rows, strict=True))
    digests = digests_of(content)
    names = [f"g{group}" for group in groups]
    grouped = assign(digests, targets, groups=names, seed=seed, val=(0.0, 0.5), test=(0.5, 0.7), exact=exact)
    for group in set(names):
        assert len(set(grouped[np.array(names) == group])) == 1
    plain = assign(digests, targets, seed=seed, val=(0.0, 0.5), test=(0.5, 0.7), exact=exact)
    for number in set(content.tolist()):
        assert len(set(plain[content == number])) == 1
    for sides in (grouped, plain):
        assert set(targets[sides == "train"]) == set(targets.tolist())


def test_images_without_a_group_go_by_their_content():
    digests = digests_of(range(30))
    mixed = unit_digests(digests, ["a"] * 10 + [None] * 20)
    assert np.array_equal(mixed[10:], digests[10:])
    assert (mixed[:10] == mixed[0]).all()


def test_shares_of_each_class_agree_up_to_chance():
    targets = np.repeat(np.arange(4), 500)
    sides = assign(digests_of(range(2000)), targets)
    held_out = np.bincount(targets[sides == "val"], minlength=4)
    deviation = np.sqrt(500 * 0.2 * 0.8)
    assert np.abs(held_out - 100).max() < 3.5 * deviation


def test_sets_that_do_not_grow_are_shared_out_exactly():
    targets = np.repeat([0, 1, 2], [500, 100, 35])
    sides = assign(digests_of(range(635)), targets, exact=True, val=(0.0, 0.2), test=(0.2, 0.4))
    for side in ("val", "test"):
        assert np.bincount(targets[sides == side]).tolist() == [100, 20, 7]


def test_folds_cover_every_image_once():
    targets = np.repeat([0, 1], 50)
    for exact in (True, False):
        held = [
            assign(digests_of(range(100)), targets, val=(k / 5, (k + 1) / 5), exact=exact) == "val" for k in range(5)
        ]
        assert (np.sum(held, axis=0) == 1).all()


def test_small_sets_keep_something_on_each_side():
    for seed in range(30):
        sides = assign(digests_of(range(4)), np.array([0, 0, 1, 1]), seed=seed)
        assert "val" in sides
        assert {0, 1} == set(np.array([0, 0, 1, 1])[sides == "train"])
    alone = assign(digests_of(range(2)), np.array([0, 1]))
    assert alone.tolist() == ["train", "train"]  # nothing can be spared


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=6), part=st.floats(0.02, 1.0))
def test_a_limit_keeps_the_shares(counts, part):
    targets = np.repeat(np.arange(len(counts)), counts)
    limit = max(1, int(part * len(targets)))
    chosen = shares(targets, digests_of(range(len(targets))), limit, 0)
    assert len(chosen) == len(set(chosen.tolist())) == limit
    kept = np.bincount(targets[chosen], minlength=len(counts))
    exact = np.array(counts) * limit / len(targets)
    if limit >= len(counts):
        assert kept.min() >= 1
        assert np.abs(kept - exact).max() <= len(counts)


def test_quotas_are_whole_and_keep_one_of_each_class_where_that_is_asked():
    assert quotas(np.array([95, 0, 3, 2]), 10).tolist() == [10, 0, 0, 0]
    assert quotas(np.array([95, 3, 2]), 10, least=1).tolist() == [8, 1, 1]
    assert quotas(np.array([5, 5, 5]), 7).tolist() == [3, 2, 2]


def test_a_limit_that_all_meet_is_exact():
    chosen = shares(np.repeat([0, 1, 2], [60, 30, 10]), digests_of(range(100)), 20, 0)
    assert np.bincount(np.repeat([0, 1, 2], [60, 30, 10])[chosen]).tolist() == [12, 6, 2]


@pytest.mark.parametrize("exact", [True, False])
def test_the_order_of_the_files_does_not_matter(exact):
    targets = np.repeat([0, 1, 2], 40)
    digests = digests_of(range(120))
    order = np.random.default_rng(3).permutation(120)
    assert (assign(digests, targets, exact=exact)[order] == assign(digests[order], targets[order], exact=exact)).all()
