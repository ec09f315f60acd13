"""One teacher alone: which one it is, and that test data have no say in it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from skorch.callbacks import EpochScoring

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import UndeclaredBlocksWarning, UnknownTeacherError
from skshazam.fusion import SingleTeacherClassifier, SumClassifier
from tests.fusion.students import equal_states, state_of

FAST = {
    "token_dim": 8,
    "n_members": 1,
    "projection": "linear",
    "dropout": 0.2,
    "max_epochs": 4,
    "lr": 1e-2,
    "device": "cpu",
    "random_state": 0,
}


def make(**changes):
    return SingleTeacherClassifier(**{**FAST, "cv": 3, **changes})


def seed_of_comparison(random_state=0):
    return int(np.random.RandomState(random_state).randint(2**31 - 1))


def scores_by_hand(X, y, folds, weights=None, groups=None):
    """Train and score a student on each teacher's columns, fold by fold."""
    scores = {}
    for name, block in X.teacher_blocks.split(np.asarray(X)).items():
        of_folds = []
        for training, test in folds:
            student = SumClassifier(
                **{**FAST, "random_state": seed_of_comparison()},
                teacher_dims=(block.shape[1],),
            )
            student.fit(
                block[training],
                y[training],
                sample_weight=None if weights is None else weights[training],
            )
            of_folds.append(
                balanced_accuracy_score(
                    y[test],
                    student.predict(block[test]),
                    sample_weight=None if weights is None else weights[test],
                )
            )
        scores[name] = np.mean(of_folds)
    return scores


def test_the_teacher_with_the_best_mean_score_is_chosen(teacher_features):
    X, y, _ = teacher_features
    rival = make().fit(X, y)
    expected = scores_by_hand(X, y, list(StratifiedKFold(3).split(X, y)))
    assert rival.teacher_scores_ == expected
    assert rival.teacher_ == max(expected, key=expected.get)
    assert len(set(expected.values())) == 3


def test_folds_are_stratified_and_keep_patients_together(teacher_features):
    X, y, groups = teacher_features
    folds = list(StratifiedGroupKFold(3).split(X, y, groups))
    rival = make().fit(X, y, groups=groups)
    assert rival.teacher_scores_ == scores_by_hand(X, y, folds)


def test_a_splitter_is_used_as_it_is(teacher_features):
    X, y, groups = teacher_features
    folds = list(GroupKFold(2).split(X, y, groups))
    rival = make(cv=GroupKFold(2)).fit(X, y, groups=groups)
    assert rival.teacher_scores_ == scores_by_hand(X, y, folds)


def test_a_splitter_that_shares_patients_is_refused(teacher_features):
    X, y, groups = teacher_features
    with pytest.raises(ValueError, match="training and in the held-out part"):
        make(cv=KFold(3)).fit(X, y, groups=groups)


def test_a_class_in_one_patient_each_cannot_be_compared(teacher_features):
    X, _, _ = teacher_features
    patients = np.arange(len(X)) % 2
    with pytest.raises(ValueError, match=r"cv=2.*one class.*the name of a teacher"):
        make(cv=2).fit(X, patients, groups=patients)


def test_sample_weights_count_in_training_and_in_scores(teacher_features):
    X, y, _ = teacher_features
    weights = np.random.default_rng(0).uniform(0.2, 5, len(y))
    folds = list(StratifiedKFold(3).split(X, y))
    rival = make().fit(X, y, sample_weight=weights)
    assert rival.teacher_scores_ == scores_by_hand(X, y, folds, weights)
    assert rival.teacher_scores_ != make().fit(X, y).teacher_scores_


def test_rows_of_weight_0_have_no_say(teacher_features):
    X, y, groups = teacher_features
    weights = np.ones(len(y))
    weights[::3] = 0
    kept = weights > 0
    rival = make().fit(X, y, sample_weight=weights, groups=groups)
    expected = make().fit(X[kept], y[kept], groups=groups[kept])
    assert rival.teacher_scores_ == expected.teacher_scores_
    assert equal_states(state_of(rival), state_of(expected))


def one_that_knows_patients(n_patients=24, n_tiles=6):
    """Return a teacher of the class, and one that only tells patients apart."""
    rng = np.random.default_rng(0)
    patients = rng.permutation(np.repeat(np.arange(n_patients), n_tiles))
    y = patients % 2
    honest = rng.normal(size=(len(y), 8)) + 0.3 * (2 * y[:, None] - 1)
    faces = rng.normal(size=(n_patients, 32))
    memory = faces[patients] + 0.01 * rng.normal(size=(len(y), 32))
    blocks = TeacherBlocks(("memory", "honest"), (32, 8))
    X = TeacherFeatures(np.hstack([memory, honest]).astype(np.float32), blocks)
    return X, y, patients


def test_a_teacher_that_remembers_patients_is_not_chosen_if_groups_are_given():
    X, y, patients = one_that_knows_patients()
    rival = make(max_epochs=15, batch_size=16, dropout=0.0)
    assert rival.fit(X, y).teacher_ == "memory"
    assert rival.teacher_scores_["memory"] > 0.95
    assert rival.fit(X, y, groups=patients).teacher_ == "honest"
    assert rival.teacher_scores_["memory"] < 0.7


@pytest.mark.parametrize("teacher", [1, "teacher1"])
def test_a_given_teacher_is_the_student_of_its_columns(teacher, teacher_features):
    X, y, _ = teacher_features
    block = np.asarray(X)[:, 8:20]
    rival = make(teacher=teacher).fit(X, y)
    expected = SumClassifier(**FAST, teacher_dims=(12,)).fit(block, y)
    assert rival.teacher_ == "teacher1"
    assert rival.teacher_scores_ == {}
    assert equal_states(state_of(rival), state_of(expected))
    np.testing.assert_array_equal(rival.predict_proba(X), expected.predict_proba(block))
    np.testing.assert_array_equal(rival.transform(X), expected.transform(block))


def test_the_other_teachers_are_checked_and_not_seen(teacher_features):
    X, y, _ = teacher_features
    rival = make(teacher=1).fit(X, y)
    changed = X.copy()
    changed[:, :8] += 1
    changed[:, 20:] = 0
    np.testing.assert_array_equal(rival.predict_proba(X), rival.predict_proba(changed))
    assert rival.n_features_in_ == 36
    with pytest.raises(ValueError, match=r"12 features.*expecting 36"):
        rival.predict(np.asarray(X)[:, 8:20])


def test_names_come_from_columns_too(teacher_features):
    X, y, _ = teacher_features
    blocks = TeacherBlocks(("uni", "phikon-v2", "virchow"), (8, 12, 16))
    frame = pd.DataFrame(np.asarray(X), columns=blocks.get_feature_names())
    rival = make(teacher="virchow").fit(frame, y)
    expected = make(teacher=2).fit(X, y)
    assert equal_states(state_of(rival), state_of(expected))


def test_half_precision_gives_the_same_choice(teacher_features):
    X, y, _ = teacher_features
    half = X.astype(np.float16)
    full = half.astype(np.float32)
    rival, expected = make().fit(half, y), make().fit(full, y)
    assert rival.teacher_scores_ == expected.teacher_scores_
    np.testing.assert_array_equal(
        rival.predict_proba(half), expected.predict_proba(full)
    )


@pytest.mark.filterwarnings("ignore::skshazam.exceptions.UndeclaredBlocksWarning")
def test_one_teacher_needs_no_comparison(teacher_features):
    X, y, _ = teacher_features
    rival = make(cv=100).fit(np.asarray(X), y)
    assert rival.teacher_ == "teacher0"
    assert rival.teacher_scores_ == {}


def test_the_first_of_equals_is_chosen(teacher_features):
    X, y, _ = teacher_features
    rival = make(scoring=lambda student, X, y: -1.0, max_epochs=1).fit(X, y)
    assert rival.teacher_ == "teacher0"


def test_scoring_decides(teacher_features):
    X, y, _ = teacher_features
    narrow = make(scoring=lambda student, X, y: -X.shape[1], max_epochs=1)
    assert narrow.fit(X, y).teacher_ == "teacher0"
    wide = make(scoring=lambda student, X, y: X.shape[1], max_epochs=1)
    assert wide.fit(X, y).teacher_ == "teacher2"
    assert wide.teacher_scores_ == {"teacher0": 8, "teacher1": 12, "teacher2": 16}


def test_a_score_that_is_no_number_is_refused(teacher_features):
    X, y, _ = teacher_features
    rival = make(scoring=lambda student, X, y: np.nan, max_epochs=1)
    with pytest.raises(ValueError, match=r"scoring=.*no number.*pass fewer folds"):
        rival.fit(X, y)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("techer1", r"teacher='techer1'.*'teacher0'.*Did you mean 'teacher1'\?"),
        ("gigapath", r"teacher='gigapath'.*Pass one of these names"),
        (3, r"teacher=3.*3 teachers.*from 0 to 2"),
    ],
)
def test_an_unknown_teacher_is_refused(teacher, message, teacher_features):
    X, y, _ = teacher_features
    with pytest.raises(UnknownTeacherError, match=message):
        make(teacher=teacher).fit(X, y)


def test_a_choice_is_kept_by_partial_fit_and_warm_start(teacher_features):
    X, y, _ = teacher_features

    def only(name):
        """Return features in which one teacher alone is left as it is."""
        blanked = X.copy()
        for other, block in blanked.teacher_blocks.split(blanked).items():
            if other != name:
                block[:] = np.random.default_rng(0).normal(size=block.shape)
        return blanked

    chunked = make(max_epochs=10).fit(only("teacher1"), y)
    assert chunked.teacher_ == "teacher1"
    scores = chunked.teacher_scores_
    chunked.partial_fit(only("teacher2"), y)
    assert (chunked.teacher_, chunked.n_iter_) == ("teacher1", 11)
    warm = make(max_epochs=10, warm_start=True).fit(only("teacher1"), y)
    assert warm.teacher_scores_ == scores
    assert warm.fit(only("teacher2"), y).teacher_ == "teacher1"
    assert warm.set_params(warm_start=False).fit(only("teacher2"), y).teacher_ == (
        "teacher2"
    )


def test_the_comparison_does_not_touch_the_seed_of_training(teacher_features):
    X, y, _ = teacher_features
    chosen = make().fit(X, y)
    given = make(teacher=chosen.teacher_).fit(X, y)
    assert equal_states(state_of(chosen), state_of(given))


def test_a_generator_as_seed_gives_the_same_choice_again(teacher_features):
    X, y, _ = teacher_features
    first, second = (
        make(random_state=np.random.RandomState(3)).fit(X, y) for _ in range(2)
    )
    assert first.teacher_scores_ == second.teacher_scores_
    assert equal_states(state_of(first), state_of(second))


def test_callbacks_score_the_columns_in_use(teacher_features):
    X, y, _ = teacher_features
    scoring = EpochScoring("accuracy", on_train=True, name="seen", use_caching=False)
    rival = make(teacher=2, callbacks=[scoring], dropout=0.0).fit(X, y)
    assert rival.history_[-1]["seen"] == pytest.approx(rival.score(X, y))


def test_early_stopping_holds_out_patients_in_the_comparison_too(teacher_features):
    X, y, groups = teacher_features
    rival = make(early_stopping=True, patience=1, cv=2).fit(X, y, groups=groups)
    assert set(rival.teacher_scores_) == {"teacher0", "teacher1", "teacher2"}


def test_partial_fit_does_not_choose_without_patients(teacher_features):
    X, y, _ = teacher_features
    with pytest.raises(ValueError, match=r"partial_fit.*fit\(X, y, groups=patients\)"):
        make().partial_fit(X, y)
    assert make(teacher="teacher2").partial_fit(X, y).teacher_ == "teacher2"


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_score_that_a_fold_does_not_allow_is_told(teacher_features):
    X, y, _ = teacher_features
    rare = np.where(np.arange(len(y)) == 0, "rare", y)
    with pytest.raises(ValueError, match=r"scoring='neg_log_loss'.*fewer folds as cv"):
        make(scoring="neg_log_loss").fit(X, rare)


def test_the_warning_about_blocks_points_at_the_caller(teacher_features):
    X, y, _ = teacher_features
    with pytest.warns(UndeclaredBlocksWarning) as caught:
        make().fit(np.asarray(X), y)
    assert {warning.filename for warning in caught} == {__file__}
