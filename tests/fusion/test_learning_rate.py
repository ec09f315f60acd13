"""The learning rate of every step."""

import math
from typing import ClassVar

import numpy as np
import pytest
from skorch.callbacks import Callback, LRScheduler

from skshazam.fusion._epochs import resolve_max_epochs
from skshazam.fusion._learning_rate import cosine_rate
from tests.fusion.students import equal_states, fast_student, state_of


class Rates(Callback):
    """Note the rate of every step of the optimizer, fit after fit."""

    seen: ClassVar[list] = []

    def on_train_begin(self, net, **kwargs):
        type(self).seen = []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.seen.append(net.optimizer_.param_groups[0]["lr"])


def rates(student, X, y, method="fit"):
    getattr(student, method)(X, y)
    return np.array(Rates.seen)


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine(teacher_features):
    X, y, _ = teacher_features
    # 120 rows in batches of 30 are 4 steps an epoch, 60 in all: 3 of them warm up.
    student = fast_student(lr=0.03, batch_size=30, max_epochs=15, callbacks=[Rates()])
    found = rates(student, X, y)
    expected = [0.01, 0.02, 0.03]
    expected += [0.015 * (1 + math.cos(math.pi * i / 57)) for i in range(57)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_schedule_counts_the_steps_of_the_rows_that_are_trained_on(
    teacher_features,
):
    X, y, _ = teacher_features
    student = fast_student(
        batch_size=30,
        max_epochs=15,
        early_stopping=True,
        patience=15,
        validation_fraction=0.5,
        callbacks=[Rates()],
    )
    found = rates(student, X, y)
    assert len(found) == 15 * 2
    np.testing.assert_allclose(
        found, 0.01 * np.array([cosine_rate(i, 30) for i in range(30)])
    )


@pytest.mark.parametrize("n_steps", [1, 2, 19, 20, 21, 1000])
def test_the_highest_rate_comes_at_the_end_of_the_warm_up(n_steps):
    shares = [cosine_rate(step, n_steps) for step in range(n_steps)]
    n_warm = -(-n_steps // 20)
    assert max(shares) == shares[n_warm - 1] == 1
    assert (np.diff(shares[n_warm:]) < 0).all()
    assert min(shares) > 0


def test_a_constant_rate_is_the_parameter(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(lr_schedule="constant", lr=0.02, callbacks=[Rates()])
    assert set(rates(student, X, y)) == {0.02}


def test_a_warm_start_begins_the_schedule_anew_and_partial_fit_has_none(
    teacher_features,
):
    X, y, _ = teacher_features
    student = fast_student(warm_start=True, max_epochs=10, callbacks=[Rates()])
    first = rates(student, X, y)
    assert first[-1] < 0.01 * first.max()
    assert set(rates(student, X, y, "partial_fit")) == {1e-2}
    np.testing.assert_array_equal(rates(student, X, y), first)


def test_a_scheduler_of_the_user_replaces_the_cosine(teacher_features):
    X, y, _ = teacher_features
    for named in (False, True):
        scheduler = LRScheduler("StepLR", step_size=2, gamma=0.1)
        given = ("schedule", scheduler) if named else scheduler
        student = fast_student(batch_size=120, callbacks=[Rates(), given])
        np.testing.assert_allclose(rates(student, X, y), [1e-2, 1e-2, 1e-3, 1e-3])


def test_both_schedules_are_reproducible_and_differ(teacher_features):
    X, y, _ = teacher_features
    cosine, again, constant = (
        state_of(fast_student(lr_schedule=schedule).fit(X, y))
        for schedule in ("cosine", "cosine", "constant")
    )
    assert equal_states(cosine, again)
    assert not equal_states(cosine, constant)


@pytest.mark.parametrize(
    ("n_rows", "n_epochs"),
    [(60, 200), (320, 200), (640, 100), (6270, 10), (10**6, 10)],
)
def test_auto_makes_about_1000_steps_within_bounds(n_rows, n_epochs):
    assert resolve_max_epochs("auto", n_rows, 64) == n_epochs
    assert resolve_max_epochs(7, n_rows, 64) == 7


def test_auto_counts_the_rows_that_are_trained_on(teacher_features, monkeypatch):
    monkeypatch.setattr("skshazam.fusion._epochs.N_STEPS", 120)
    X, y, _ = teacher_features
    student = fast_student(max_epochs="auto", batch_size=15).fit(X, y)
    assert student.n_iter_ == 120 / 8
    weights = np.arange(120) % 2
    assert student.fit(X, y, sample_weight=weights).n_iter_ == 120 / 4
