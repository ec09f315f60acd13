"""Methods on the same patient-grouped folds."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skshazam.benchmark import compare_methods
from skshazam.datasets import make_teacher_features


class Majority(ClassifierMixin, BaseEstimator):
    """Predicts the most frequent class, and remembers whom it was fitted on."""

    fitted_on = ()

    def fit(self, X, y, groups=None):
        Majority.fitted_on = (*Majority.fitted_on, frozenset(groups))
        values, counts = np.unique(y, return_counts=True)
        self.classes_, self.majority_ = values, values[counts.argmax()]
        return self

    def predict(self, X):
        Majority.fitted_on = (*Majority.fitted_on[:-1], (Majority.fitted_on[-1], X))
        return np.full(len(X), self.majority_)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    groups = np.repeat([f"patient-{i}" for i in range(12)], 10)
    y = np.where(rng.random(120) < 0.6, "tumour", "stroma")
    return groups[:, None], y, groups


def test_no_patient_is_on_both_sides_and_every_row_is_predicted_once(data):
    X, y, groups = data
    Majority.fitted_on = ()
    comparison = compare_methods({"majority": (Majority(), X)}, y, groups, n_splits=4)
    tested = []
    for trained_on, held_out in Majority.fitted_on:
        assert not trained_on & set(held_out[:, 0])
        tested.extend(held_out[:, 0])
    assert sorted(tested) == sorted(groups)
    assert len(comparison.predictions["majority"]) == len(y)


def test_records_hold_the_score_of_each_fold(data):
    X, y, groups = data
    methods = {"a": (Majority(), X), "b": (Majority(), X)}
    comparison = compare_methods(methods, y, groups, n_splits=3, random_state=1)
    assert len(comparison.records) == 6
    assert comparison.scores()["a"] == comparison.scores()["b"] == [0.5] * 3
    low, high = comparison.intervals["a"]
    overall = balanced_accuracy_score(y, comparison.predictions["a"])
    assert low <= overall <= high
    assert all(record["seconds"] >= 0 for record in comparison.records)


def test_the_callback_hears_of_every_fold(data):
    X, y, groups = data
    heard = []
    compare_methods(
        {"a": (Majority(), X)},
        y,
        groups,
        n_splits=2,
        on_fold=lambda method, fold: heard.append((method, fold)),
    )
    assert heard == [("a", 0), ("a", 1)]


def test_a_fold_that_lacks_a_class_is_scored_on_the_classes_it_has():
    groups = np.repeat(list("pqrs"), 5)
    y = np.repeat(["common", "common", "common", "rare"], 5)
    comparison = compare_methods(
        {"majority": (Majority(), groups[:, None])}, y, groups, n_splits=4
    )
    assert sorted(comparison.scores()["majority"]) == [0.0, 1.0, 1.0, 1.0]


def test_methods_that_take_no_groups_are_compared_too():
    X, y, groups = make_teacher_features(random_state=0)
    X = np.asarray(X)
    methods = {
        "tree": (DecisionTreeClassifier(max_depth=2, random_state=0), X),
        "pipeline": (make_pipeline(StandardScaler(), GaussianNB()), X),
        "search": (
            GridSearchCV(
                GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}, cv=GroupKFold(3)
            ),
            X,
        ),
    }
    comparison = compare_methods(methods, y, groups, n_splits=3)
    assert min(comparison.pooled.values()) > 0.5
    for name, (low, high) in comparison.intervals.items():
        assert low <= comparison.pooled[name] <= high


def test_lists_and_frames_are_compared_as_arrays_are():
    pandas = pytest.importorskip("pandas")
    X, y, groups = make_teacher_features(60, random_state=0)
    expected = compare_methods({"nb": (GaussianNB(), X)}, y, groups, n_splits=2)
    frame = pandas.DataFrame(X, columns=X.teacher_blocks.get_feature_names())
    found = compare_methods(
        {"nb": (GaussianNB(), frame)}, y.tolist(), groups.tolist(), n_splits=2
    )
    assert np.array_equal(found.predictions["nb"], expected.predictions["nb"])


def test_a_method_without_features_is_refused(data):
    _, y, groups = data
    with pytest.raises(ValueError, match=r"methods\['nb'\].*pair \(classifier, X\)"):
        compare_methods({"nb": GaussianNB()}, y, groups)
