"""Stacking: inner splits by patient, and what they are good for."""

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.fusion import LogitProductClassifier, StackedTeachersClassifier
from skshazam.fusion._inner_splits import inner_splits

learning = pytest.mark.parametrize(
    "Late", [StackedTeachersClassifier, LogitProductClassifier]
)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=2, max_size=40),
    st.integers(2, 4),
    st.integers(0, 3),
)
@settings(max_examples=30, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_no_patient_is_on_both_sides_of_an_inner_split(pairs, cv, n_left_out):
    codes, patients = np.array(pairs).T
    rows = np.arange(n_left_out, len(codes))
    assume(len(np.unique(patients[rows])) >= cv)
    try:
        splits = inner_splits(cv, codes, patients, rows)
    except ValueError as error:
        assert "cv=" in str(error)  # no class has that many rows
        return
    for train, held_out in splits:
        assert set(patients[train]).isdisjoint(patients[held_out])
        assert len(np.unique(codes[train])) > 1
        assert set(train) | set(held_out) <= set(rows)
    out = np.concatenate([np.empty(0, int), *(held_out for _, held_out in splits)])
    assert len(out) == len(set(out))


class PatientSpy(GaussianNB):
    """Remembers which patients, column 0, it is trained on and asked about."""

    seen: ClassVar[list] = []

    def fit(self, X, y):
        self.patients = set(np.asarray(X)[:, 0])
        return super().fit(X, y)

    def predict_proba(self, X):
        self.seen.append((self.patients, set(np.asarray(X)[:, 0])))
        return super().predict_proba(X)


@learning
def test_classifiers_are_never_asked_about_patients_they_know(Late, teacher_features):
    X, y, groups = teacher_features
    patients = np.unique(groups, return_inverse=True)[1]
    marked = X.copy()
    marked[:, [0, 8, 20]] = patients[:, None]
    PatientSpy.seen.clear()
    Late(PatientSpy(), cv=3).fit(marked, y, groups=groups)
    assert len(PatientSpy.seen) == 9
    assert all(known.isdisjoint(asked) for known, asked in PatientSpy.seen)
    PatientSpy.seen.clear()
    Late(PatientSpy(), cv=3).fit(marked, y)
    assert not any(known.isdisjoint(asked) for known, asked in PatientSpy.seen)


def patients_with_a_signature(n_patients, seed):
    """Return features of which teacher "who" knows the patient and nothing else."""
    rng = np.random.default_rng(seed)
    patients = rng.permutation(np.repeat(np.arange(n_patients), 10))
    codes = patients % 2
    signature = rng.normal(size=(n_patients, 5))[patients]
    who = signature + 0.01 * rng.normal(size=(len(patients), 5))
    what = 1.5 * codes[:, None] + rng.normal(size=(len(patients), 1))
    blocks = TeacherBlocks(("who", "what"), (5, 1))
    return TeacherFeatures(np.hstack([who, what]), blocks), codes, patients


@learning
def test_a_classifier_that_recognises_patients_is_not_preferred(Late):
    X, y, patients = patients_with_a_signature(60, seed=1)
    X_new, y_new, _ = patients_with_a_signature(60, seed=2)
    memory = KNeighborsClassifier(n_neighbors=9)
    by_patient = Late(memory).fit(X, y, groups=patients)
    by_row = Late(memory).fit(X, y)
    honest = memory.fit(X[:, 5:], y).score(X_new[:, 5:], y_new)
    assert by_row.score(X_new, y_new) < 0.6
    assert by_patient.score(X_new, y_new) > honest - 0.05 > 0.65


@pytest.mark.parametrize("grouped", [True, False])
def test_stacking_is_that_of_cross_val_predict(grouped, teacher_features):
    X, y, groups = teacher_features
    expert = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    splitter = StratifiedGroupKFold(3) if grouped else StratifiedKFold(3)
    blocks = np.split(np.asarray(X), [8, 20], axis=1)
    groups = groups if grouped else None
    how = {"cv": splitter, "groups": groups, "method": "predict_log_proba"}
    unseen = [cross_val_predict(expert, block, y, **how) for block in blocks]
    seen = [expert.fit(block, y).predict_log_proba(block) for block in blocks]
    floor = np.log(1e-3)
    final = LogisticRegression(C=0.03, max_iter=1000)
    final.fit(np.hstack(unseen).clip(floor), y)
    expected = final.predict_proba(np.hstack(seen).clip(floor))
    late = StackedTeachersClassifier(cv=3).fit(X, y, groups=groups)
    np.testing.assert_allclose(late.predict_proba(X), expected, atol=1e-3)
    by_splitter = StackedTeachersClassifier(cv=splitter).fit(X, y, groups=groups)
    np.testing.assert_allclose(by_splitter.predict_proba(X), expected, atol=1e-3)


def test_the_final_classifier_is_the_users(teacher_features):
    X, y, groups = teacher_features
    late = StackedTeachersClassifier(GaussianNB(), LogisticRegression(), cv=2)
    late.set_params(final_estimator__C=1e-6).fit(X, y, groups=groups)
    assert late.final_estimator_.C == 1e-6
    np.testing.assert_allclose(late.predict_proba(X), 1 / 3, atol=1e-2)


@learning
def test_a_class_of_one_patient_alone_is_still_predicted(Late, teacher_features):
    X, y, groups = teacher_features
    groups = np.where(y == "class-2", "patient-alone", groups)
    late = Late(cv=3).fit(X, y, groups=groups)
    probabilities = late.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert late.score(X, y) > 0.9
    assert set(late.predict(X)) == {"class-0", "class-1", "class-2"}
    if Late is StackedTeachersClassifier:
        assert late.final_estimator_.classes_.tolist() == ["class-0", "class-1"]


@learning
def test_rows_that_no_split_holds_out_teach_the_fusion_nothing(Late, teacher_features):
    X, y, _ = teacher_features
    # Who is trained on the first 80 rows is asked about the next 20 and no others.
    cv = [(np.arange(80), np.arange(80, 100))]
    swapped = np.where(np.arange(120) < 100, y, np.roll(y, 1))
    fits = [Late(GaussianNB(), cv=cv).fit(X, labels) for labels in (y, swapped)]
    learnt = "coef_" if Late is LogitProductClassifier else "final_estimator_"
    first, second = (getattr(late, learnt) for late in fits)
    if Late is StackedTeachersClassifier:
        first, second = first.coef_, second.coef_
    assert np.array_equal(first, second)
    assert not np.array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))


@learning
def test_unfit_splits_are_named(Late, teacher_features):
    X, y, groups = teacher_features
    late = Late(GaussianNB())
    with pytest.raises(ValueError, match=r"cv=5 needs at least 5 groups, got 2.*cv=2"):
        late.fit(X, y, groups=np.arange(120) % 2)
    late.set_params(cv=KFold(5, shuffle=True, random_state=0))
    with pytest.raises(ValueError, match=r"rows of group 'patient-.*StratifiedGroup"):
        late.fit(X, y, groups=groups)
    late.set_params(cv=ShuffleSplit(5, random_state=0))
    with pytest.raises(ValueError, match=r"holds row .* out . times"):
        late.fit(X, y)
    late.set_params(cv=LeaveOneGroupOut())
    with pytest.raises(ValueError, match="fewer than 2 classes have a patient"):
        late.fit(X, y, groups=y)
