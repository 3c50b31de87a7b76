"""Scores that tell known images from strangers: against SciPy's and PyTorch's formulas, scikit-learn's areas, and the
plain bootstrap over images.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.metrics.strangers import SCORES, histogram, separation

seeds = st.integers(0, 2**32 - 1)
examples = settings(max_examples=40, deadline=None)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores of known images and of strangers, with many ties or none, further or less far apart."""
    generator = np.random.default_rng(draw(seeds))
    known = generator.normal(draw(st.sampled_from([-1.0, 0.0, 1.0, 30.0])), 1, draw(st.integers(1, 60)))
    strangers = generator.normal(0, 1, draw(st.integers(1, 60)))
    return (known, strangers) if draw(st.booleans()) else (known.round(), strangers.round())


@examples
@given(scored())
def test_areas_and_rates_equal_scikit_learns(pair):
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    known, strangers = pair
    scores, truth = np.concatenate(pair), np.repeat([1, 0], [len(known), len(strangers)])
    found = separation(known, strangers, draws=20)
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores))
    assert found.aupr_known == pytest.approx(average_precision_score(truth, scores))
    assert found.aupr_strangers == pytest.approx(average_precision_score(1 - truth, -scores))
    false_alarms, recall, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    place = int(np.argmax(recall >= 0.95 - 1e-12))
    assert found.let_in == pytest.approx(false_alarms[place])
    assert found.threshold == pytest.approx(thresholds[place])
    assert found.kept == pytest.approx((known >= found.threshold).mean())
    assert found.let_in == pytest.approx((strangers >= found.threshold).mean())
    assert found.kept is not None
    assert found.kept >= 0.95


@examples
@given(seeds, st.sampled_from([0.3, 1.0, 2.5]), st.sampled_from([1.0, 300.0]))
def test_the_scores_are_their_papers_formulas(seed, temperature, scale):
    logits = scale * np.random.default_rng(seed).normal(size=(7, 5))
    plain = torch.from_numpy(logits)
    found = {name: score(logits, temperature) for name, score in SCORES.items()}
    assert found["max_probability"] == pytest.approx((plain / temperature).softmax(1).amax(1).numpy())
    assert found["max_logit"] == pytest.approx(plain.amax(1).numpy() / temperature)
    assert found["negative_energy"] == pytest.approx(temperature * (plain / temperature).logsumexp(1).numpy())


@pytest.mark.parametrize("known_count", [60, 4000])
def test_intervals_are_those_of_a_bootstrap_over_images(known_count):
    from sklearn.metrics import average_precision_score, roc_auc_score

    generator = np.random.default_rng(3)
    known, strangers = generator.normal(1, 1, known_count), generator.normal(0, 1, known_count // 2)
    truth = np.repeat([1, 0], [len(known), len(strangers)])
    rows = []
    for _ in range(200):
        one, other = generator.choice(known, len(known)), generator.choice(strangers, len(strangers))
        scores = np.concatenate([one, other])
        threshold = np.sort(one)[len(one) - int(np.ceil(0.95 * len(one)))]
        areas = average_precision_score(truth, scores), average_precision_score(1 - truth, -scores)
        rows.append((roc_auc_score(truth, scores), *areas, (other >= threshold).mean()))
    low, high = np.quantile(rows, [0.025, 0.975], axis=0)
    found = separation(known, strangers)
    ours = (found.auroc_interval, found.aupr_known_interval, found.aupr_strangers_interval, found.let_in_interval)
    for place, interval in enumerate(ours):
        assert interval is not None
        width = high[place] - low[place]
        assert interval == pytest.approx((low[place], high[place]), abs=0.2 * width)


def test_without_images_of_one_kind_it_says_nothing():
    for known, strangers in ((np.zeros(0), np.ones(3)), (np.ones(3), np.zeros(0)), (np.zeros(0), np.zeros(0))):
        found = separation(known, strangers)
        assert (found.known, found.strangers) == (len(known), len(strangers))
        assert found.auroc is found.threshold is found.let_in is found.let_in_interval is None
        json.dumps(found.to_dict(), allow_nan=False)
        json.dumps(histogram(known, strangers), allow_nan=False)


def test_scores_all_alike_tell_nothing():
    found = separation(np.ones(5), np.ones(4), draws=10)
    assert (found.auroc, found.let_in, found.kept, found.threshold) == (0.5, 1.0, 1.0, 1.0)


def test_histograms_hold_every_image():
    generator = np.random.default_rng(0)
    known, strangers = generator.random(1000), generator.random(30) - 0.5
    bars = histogram(known, strangers, bins=25)
    assert len(bars["edges"]) == 26
    assert sum(bars["known"]) == pytest.approx(1)
    assert sum(bars["strangers"]) == pytest.approx(1)
    low, high = bars["edges"][3:5]
    assert bars["strangers"][3] == pytest.approx(((strangers >= low) & (strangers < high)).mean())
