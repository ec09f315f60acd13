"""Intervals over patients."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from skshazam.benchmark import patient_bootstrap_interval


def clustered(rng, n_patients=20, n_tiles=30):
    """Two classes; each patient has a success probability of its own."""
    patients = np.repeat(np.arange(n_patients), n_tiles)
    y = patients % 2
    right = rng.random(len(y)) < rng.beta(2, 1, n_patients)[patients]
    return y, np.where(right, y, 1 - y), patients


def test_interval_equals_a_bootstrap_written_out_by_hand(rng=None):
    y, predicted, patients = clustered(np.random.default_rng(0))
    draws = np.random.RandomState(3).multinomial(20, np.full(20, 1 / 20), size=200)
    scores = []
    for times in draws:
        rows = np.concatenate(
            [np.flatnonzero(patients == p) for p in range(20) for _ in range(times[p])]
        )
        scores.append(balanced_accuracy_score(y[rows], predicted[rows]))
    expected = np.quantile(scores, (0.025, 0.975))
    found = patient_bootstrap_interval(
        y, predicted, patients, n_resamples=200, random_state=3
    )
    assert found == pytest.approx(tuple(expected), abs=1e-12)


def test_resampling_patients_is_wider_than_resampling_tiles():
    y, predicted, patients = clustered(np.random.default_rng(1))
    by_patient = patient_bootstrap_interval(y, predicted, patients, random_state=0)
    by_tile = patient_bootstrap_interval(
        y, predicted, np.arange(len(y)), random_state=0
    )
    assert np.diff(by_patient)[0] > 1.5 * np.diff(by_tile)[0]


def test_a_higher_level_is_wider_and_the_seed_decides():
    y, predicted, patients = clustered(np.random.default_rng(2))
    narrow = patient_bootstrap_interval(
        y, predicted, patients, level=0.5, random_state=0
    )
    wide = patient_bootstrap_interval(
        y, predicted, patients, level=0.99, random_state=0
    )
    assert wide[0] < narrow[0] <= narrow[1] < wide[1]
    again = patient_bootstrap_interval(
        y, predicted, patients, level=0.5, random_state=0
    )
    assert again == narrow


def test_a_class_held_by_one_patient_may_be_missing_from_a_resample():
    low, high = patient_bootstrap_interval(
        ["a", "a", "b"], ["a", "a", "b"], ["p", "q", "r"], random_state=0
    )
    assert (low, high) == (1.0, 1.0)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        patient_bootstrap_interval(["a"], ["a", "b"], ["p"])


def test_one_patient_has_no_interval():
    with pytest.raises(ValueError, match="single patient"):
        patient_bootstrap_interval(["a", "b"], ["a", "b"], ["p", "p"])
