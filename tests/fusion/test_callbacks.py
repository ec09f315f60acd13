"""skorch callbacks of the user, with labels of any kind."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score
from skorch.callbacks import (
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    ProgressBar,
)

from tests.fusion.students import Spy, equal_states, fast_student, state_of

STOPPING = {"early_stopping": True, "validation_fraction": 0.25, "max_epochs": 12}


def best_epoch(student):
    return int(np.argmin(student.history_[:, "valid_loss"]))


def test_balanced_accuracy_is_scored_on_held_out_rows_with_string_labels(
    teacher_features,
):
    X, y, groups = teacher_features
    spy, scoring = Spy(), EpochScoring("balanced_accuracy", lower_is_better=False)
    student = fast_student(callbacks=[spy, scoring], **STOPPING)
    student.fit(X, y, groups=groups)
    rows = spy.held_out
    assert student.history_[
        best_epoch(student), "balanced_accuracy"
    ] == balanced_accuracy_score(y[rows], student.predict(X[rows]))


@pytest.mark.parametrize("labels", [("adenoma", "normal"), (7, 3), (True, False)])
def test_f1_is_scored_for_the_second_of_two_classes(labels, teacher_features):
    X, y, groups = teacher_features
    y = np.where(y == "class-0", *labels)
    spy, scoring = Spy(), EpochScoring("f1", lower_is_better=False)
    student = fast_student(callbacks=[spy, scoring], **STOPPING)
    student.fit(X, y, groups=groups)
    rows, positive = spy.held_out, student.classes_[1]
    expected = f1_score(y[rows], student.predict(X[rows]), pos_label=positive)
    assert student.history_[best_epoch(student), "f1"] == pytest.approx(expected)


@pytest.mark.parametrize("use_caching", [True, False])
def test_scores_on_training_rows_belong_to_the_rows_they_are_given_for(
    use_caching, teacher_features
):
    X, y, _ = teacher_features
    scoring = EpochScoring(
        "accuracy", on_train=True, lower_is_better=False, use_caching=use_caching
    )
    student = fast_student(max_epochs=40, dropout=0.0, callbacks=[scoring]).fit(X, y)
    assert student.score(X, y) > 0.9
    assert student.history_[-1, "accuracy"] > 0.9


def test_scores_see_codes_and_users_see_labels(teacher_features):
    X, y, groups = teacher_features
    seen = []

    def scorer(net, data, targets):
        seen.append((net.classes_.tolist(), set(np.unique(targets))))
        return net.predict_proba(data).shape[1]

    scoring = EpochScoring(scorer, name="n_columns")
    student = fast_student(callbacks=[("columns", scoring)], **STOPPING)
    student.fit(X, y, groups=groups)
    assert seen[0] == ([0, 1, 2], {0, 1, 2})
    assert student.history_[-1, "n_columns"] == 3
    assert student.classes_.tolist() == ["class-0", "class-1", "class-2"]


def test_labels_come_back_after_training_fails(teacher_features):
    X, y, groups = teacher_features

    def failing(net, data, targets):
        raise ZeroDivisionError

    student = fast_student(callbacks=[EpochScoring(failing)], **STOPPING)
    with pytest.raises(ZeroDivisionError):
        student.fit(X, y, groups=groups)
    assert student.classes_.tolist() == ["class-0", "class-1", "class-2"]


def test_a_learning_rate_schedule_is_followed(teacher_features):
    X, y, _ = teacher_features
    schedule = LRScheduler("CosineAnnealingLR", T_max=8)
    student = fast_student(max_epochs=8, callbacks=[schedule]).fit(X, y)
    rates = np.array(student.history_[:, "event_lr"])
    expected = 1e-2 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("callback", [EarlyStopping(), ("stop", EarlyStopping())])
def test_stopping_early_without_held_out_rows_is_refused(
    method, callback, teacher_features
):
    X, y, _ = teacher_features
    student = fast_student(callbacks=[callback])
    with pytest.raises(ValueError, match=r"valid_loss.*early_stopping=True"):
        getattr(student, method)(X, y)
    student.set_params(early_stopping=True).fit(X, y)


def test_stopping_early_on_the_training_loss_needs_no_held_out_rows(teacher_features):
    X, y, _ = teacher_features
    stopping = EarlyStopping(monitor="train_loss", patience=1, threshold=10.0)
    assert fast_student(callbacks=[stopping], max_epochs=9).fit(X, y).n_iter_ == 2


def test_a_checkpoint_brings_its_epoch_back(teacher_features, tmp_path):
    X, y, _ = teacher_features

    def second_epoch(net):
        return len(net.history) == 2

    spy = Spy()
    kept = Checkpoint(second_epoch, dirname=str(tmp_path), load_best=True)
    student = fast_student(callbacks=[spy, kept]).fit(X, y)
    assert equal_states(state_of(student), spy.epochs[1])
    assert not equal_states(state_of(student), spy.epochs[-1])
    assert (tmp_path / "params.pt").exists()


def test_a_progress_bar_counts_the_batches(teacher_features, capsys):
    X, y, _ = teacher_features
    bar = ProgressBar(detect_notebook=False)
    fast_student(callbacks=[bar], batch_size=30, max_epochs=2).fit(X, y)
    assert "0/4" in capsys.readouterr().err  # in the second epoch it knows the total


def test_training_is_silent_unless_asked(teacher_features, capsys):
    X, y, groups = teacher_features
    fast_student(**STOPPING).fit(X, y, groups=groups)
    assert capsys.readouterr().out == ""
    fast_student(verbose=1, **STOPPING).fit(X, y, groups=groups)
    printed = capsys.readouterr().out
    assert "train_loss" in printed
    assert "valid_loss" in printed
