"""Which rows early stopping holds out, and what it returns to."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from skshazam.fusion._validation_split import validation_rows
from tests.fusion.students import Spy, equal_states, fast_student, seeded_like, state_of


def codes_and_groups(seed, n_groups=30):
    """Return classes of unequal size in groups of unequal size and mixture."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(n_groups, 400, p=rng.dirichlet(np.full(n_groups, 2)))
    leaning = rng.dirichlet([6, 3, 1], n_groups)
    codes = np.array([rng.choice(3, p=leaning[group]) for group in groups])
    return codes, groups


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides(seed):
    codes, groups = codes_and_groups(seed)
    held_out = validation_rows(codes, groups, 0.2, seed)
    assert held_out.dtype == bool
    assert held_out.any()
    assert set(groups[held_out]).isdisjoint(groups[~held_out])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grouped", [False, True])
def test_every_class_stays_in_training_and_shares_are_kept(seed, grouped):
    codes, groups = codes_and_groups(seed)
    held_out = validation_rows(codes, groups if grouped else None, 0.2, seed)
    assert set(codes[~held_out]) == {0, 1, 2}
    difference = np.bincount(codes[held_out], minlength=3) / held_out.sum()
    difference -= np.bincount(codes) / len(codes)
    assert np.abs(difference).max() < 0.07


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3])
def test_the_fraction_counts_groups_or_without_groups_rows(fraction):
    codes, groups = codes_and_groups(0)
    held_out = validation_rows(codes, groups, fraction, 0)
    n_groups = len(set(groups))
    assert len(set(groups[held_out])) == max(1, round(fraction * n_groups))
    assert validation_rows(codes, None, fraction, 0).sum() == fraction * 400


def test_a_seed_fixes_the_rows_and_another_changes_them():
    codes, groups = codes_and_groups(0)
    first, again, other = (
        validation_rows(codes, groups, 0.2, seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_only_group_of_a_class_is_never_held_out():
    groups = np.repeat(np.arange(10), 8)
    codes = np.tile([0, 1], 40)
    codes[groups == 4] = 2
    for seed in range(20):
        held_out = validation_rows(codes, groups, 0.3, seed)
        assert not held_out[groups == 4].any()


@pytest.mark.parametrize("labels", [[0, 10], ["a", "b"]])
def test_two_groups_are_enough(labels):
    groups = np.repeat(labels, 6)
    held_out = validation_rows(np.arange(12) % 2, groups, 0.1, 0)
    assert held_out.sum() == 6


IMPOSSIBLE = {
    "one group": (np.zeros(12), 0.1, "at least 2 groups.*got 1"),
    "a class per group": (np.arange(12) % 3, 0.1, "every row of some class"),
    "nearly all groups": (np.arange(12) // 2, 0.99, "validation_fraction"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_split_is_an_error_that_says_why(case):
    groups, fraction, message = IMPOSSIBLE[case]
    X, codes = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
    student = fast_student(
        teacher_dims=(4,), early_stopping=True, validation_fraction=fraction
    )
    with pytest.raises(ValueError, match=message):
        student.fit(X, codes, groups=groups)


def stopped_early(teacher_features, **changes):
    """Return a student that overfits, its spy and its held-out rows."""
    X, y, groups = teacher_features
    spy = Spy()
    student = fast_student(
        early_stopping=True,
        validation_fraction=0.25,
        patience=4,
        max_epochs=60,
        lr=0.05,
        distillation_weight=0.0,
        callbacks=[spy],
        **changes,
    ).fit(X, y, groups=groups)
    return student, spy


def test_fit_holds_out_the_rows_of_its_first_seed(teacher_features):
    _, y, groups = teacher_features
    _, spy = stopped_early(teacher_features)
    codes = np.unique(y, return_inverse=True)[1]
    expected = validation_rows(codes, groups, 0.25, seeded_like(0))
    assert np.array_equal(spy.held_out, expected)
    assert set(groups[spy.held_out]).isdisjoint(groups[~spy.held_out])


def test_early_stopping_returns_to_a_copy_of_the_best_epoch(teacher_features):
    student, spy = stopped_early(teacher_features)
    losses = student.history_[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1 < 59
    assert equal_states(state_of(student), spy.epochs[best])
    assert not equal_states(state_of(student), spy.epochs[-1])


def test_the_restored_weights_have_the_best_validation_loss(teacher_features):
    X, y, _ = teacher_features
    student, spy = stopped_early(teacher_features)
    rows = spy.held_out
    loss = log_loss(y[rows], student.predict_proba(X[rows]))
    assert loss == pytest.approx(min(student.history_[:, "valid_loss"]), rel=1e-5)


def test_the_validation_loss_is_cross_entropy_whatever_the_distillation(
    teacher_features,
):
    X, y, groups = teacher_features
    spy = Spy()
    student = fast_student(
        early_stopping=True, distillation_weight=9.0, max_epochs=1, callbacks=[spy]
    ).fit(X, y, groups=groups)
    rows = spy.held_out
    probabilities = student.predict_proba(X[rows])
    expected = log_loss(y[rows], probabilities, labels=student.classes_)
    assert student.history_[0, "valid_loss"] == pytest.approx(expected, rel=1e-5)


def test_training_stops_after_patience_epochs_without_improvement(teacher_features):
    student, _ = stopped_early(teacher_features)
    losses = student.history_[:, "valid_loss"]
    assert student.n_iter_ == len(losses) == np.argmin(losses) + 1 + 4


def test_held_out_rows_teach_nothing(teacher_features):
    X, y, groups = teacher_features
    spy = Spy()
    student = fast_student(early_stopping=True, max_epochs=1, callbacks=[spy])
    expected = state_of(student.fit(X, y, groups=groups))
    changed = X.copy()
    changed[spy.held_out] = 1e3
    assert equal_states(expected, state_of(student.fit(changed, y, groups=groups)))
    changed[~spy.held_out] += 1
    assert not equal_states(expected, state_of(student.fit(changed, y, groups=groups)))


def test_patients_who_alone_hold_a_class_stay_in_training():
    codes = np.concatenate([np.arange(40), np.full(50, 40), np.full(50, 41)])
    for seed in range(20):
        held_out = validation_rows(codes, None, 0.2, seed)
        assert held_out.any()
        assert not held_out[:40].any()
        assert set(codes[~held_out]) == set(codes)


def test_weights_are_scaled_apart_in_both_parts(teacher_features):
    X, y, groups = teacher_features
    weights = np.random.default_rng(0).lognormal(sigma=2, size=len(y))
    spy = Spy()
    student = fast_student(
        early_stopping=True, validation_fraction=0.4, callbacks=[spy]
    )
    student.fit(X, y, sample_weight=weights, groups=groups)
    held_out, scaled = spy.held_out, spy.data["sample_weight"].numpy()
    for part in (held_out, ~held_out):
        expected = weights[part] / weights[part].mean()
        np.testing.assert_allclose(scaled[part], expected, rtol=1e-5)
