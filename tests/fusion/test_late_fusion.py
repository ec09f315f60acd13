"""What the classifiers that fuse one classifier per teacher share; the average."""

import threading

import numpy as np
import pandas as pd
import pytest
import sklearn
from joblib import parallel_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import FeatureBlockError, UndeclaredBlocksWarning
from skshazam.fusion import (
    AveragedTeachersClassifier,
    LogitProductClassifier,
    StackedTeachersClassifier,
)
from skshazam.fusion._groups import validated_groups
from tests.fusion.students import fast_student

LATE = [
    AveragedTeachersClassifier(GaussianNB()),
    StackedTeachersClassifier(GaussianNB(), cv=2),
    LogitProductClassifier(GaussianNB(), cv=2),
]
every_late_fusion = pytest.mark.parametrize(
    "late", LATE, ids=lambda late: type(late).__name__
)


def linear():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def probabilities_by_hand(X, y, rows=slice(None)):
    """Return (n_teachers, n_samples, n_classes) of one pipeline per block."""
    return np.stack(
        [
            linear().fit(block[rows], y[rows]).predict_proba(block)
            for block in np.split(np.asarray(X), [8, 20], axis=1)
        ]
    )


def test_the_average_is_that_of_classifiers_trained_by_hand(teacher_features):
    X, y, _ = teacher_features
    expected = probabilities_by_hand(X, y).mean(axis=0)
    late = AveragedTeachersClassifier().fit(X, y)
    np.testing.assert_allclose(late.predict_proba(X), expected, rtol=1e-6)
    explicit = AveragedTeachersClassifier(linear()).fit(X, y)
    assert np.array_equal(explicit.predict_proba(X), late.predict_proba(X))


def test_the_average_of_logits_is_the_normalised_geometric_mean(teacher_features):
    X, y, _ = teacher_features
    products = probabilities_by_hand(X, y).clip(1e-3).prod(axis=0) ** (1 / 3)
    expected = products / products.sum(axis=1, keepdims=True)
    late = AveragedTeachersClassifier(average="logits").fit(X, y)
    np.testing.assert_allclose(late.predict_proba(X), expected, rtol=1e-4, atol=1e-6)


@every_late_fusion
def test_a_teachers_classifier_sees_that_teacher_alone(late, teacher_features):
    X, y, _ = teacher_features
    other = X.copy()
    other[:, 8:20] = np.random.default_rng(0).normal(size=(120, 12))
    fitted, refitted = clone(late).fit(X, y), clone(late).fit(other, y)
    means = [
        [expert.theta_ for expert in model.named_estimators_.values()]
        for model in (fitted, refitted)
    ]
    same = [np.array_equal(*pair) for pair in zip(*means, strict=True)]
    assert list(fitted.named_estimators_) == ["teacher0", "teacher1", "teacher2"]
    assert [expert.n_features_in_ for expert in fitted.estimators_] == [8, 12, 16]
    assert same == [True, False, True]


@every_late_fusion
def test_blocks_are_learnt_as_students_learn_them(late, teacher_features):
    X, y, _ = teacher_features
    blocks = TeacherBlocks(("a", "b", "c"), (8, 12, 16))
    frame = pd.DataFrame(np.asarray(X), columns=blocks.get_feature_names())
    plain = np.asarray(X)
    carried = clone(late).fit(X, y)
    framed = clone(late).fit(frame, y)
    told = clone(late).set_params(teacher_dims=(8, 12, 16)).fit(plain, y)
    assert carried.teacher_blocks_ == told.teacher_blocks_ == X.teacher_blocks
    assert framed.teacher_blocks_ == blocks
    assert framed.feature_names_in_.tolist() == frame.columns.tolist()
    expected = carried.predict_proba(X)
    assert np.array_equal(framed.predict_proba(frame), expected)
    assert np.array_equal(told.predict_proba(plain), expected)
    with pytest.warns(UndeclaredBlocksWarning) as caught:
        assert clone(late).fit(plain, y).teacher_dims_ == (36,)
    assert caught[0].filename == __file__
    with pytest.raises(FeatureBlockError, match="adds up to 20"):
        clone(late).set_params(teacher_dims=(8, 12)).fit(plain, y)
    with pytest.raises(FeatureBlockError, match="Pass features of the same teachers"):
        framed.predict(TeacherFeatures(X, TeacherBlocks(("c", "b", "a"), (8, 12, 16))))


@every_late_fusion
@pytest.mark.parametrize("labels", [("mucus", "adenoma"), (7, -3), (True, False)])
def test_labels_of_any_kind_come_back(late, labels, teacher_features):
    X, y, _ = teacher_features
    y = np.where(y == "class-0", *labels)
    model = clone(late).fit(X, y)
    assert model.classes_.tolist() == sorted(labels)
    assert set(model.predict(X)) == set(labels)
    probabilities = model.predict_proba(X)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), probabilities)
    assert model.score(X, y) > 0.8


@every_late_fusion
def test_a_row_of_weight_0_is_as_if_it_were_not_there(late, teacher_features):
    X, y, groups = teacher_features
    kept = np.arange(120) % 3 > 0
    weighted = clone(late).fit(X, y, sample_weight=kept.astype(float), groups=groups)
    without = clone(late).fit(X[kept], y[kept], groups=groups[kept])
    np.testing.assert_allclose(
        weighted.predict_proba(X), without.predict_proba(X), rtol=1e-6, atol=1e-12
    )
    lacking = clone(late).fit(X, y, sample_weight=(y != "class-1").astype(float))
    assert lacking.classes_.tolist() == ["class-0", "class-2"]


SEARCH = GridSearchCV(
    linear(), {"logisticregression__C": [0.01, 1]}, cv=StratifiedGroupKFold(2)
)


@pytest.mark.parametrize("estimator", [linear(), SEARCH], ids=["pipeline", "search"])
def test_weights_and_groups_reach_what_is_inside(estimator, teacher_features):
    X, y, groups = teacher_features
    weights = np.where(y == "class-0", 10.0, 1.0)
    late = AveragedTeachersClassifier(estimator)
    # Without its groups, the splitter of the search would refuse.
    plain = clone(late).fit(X, y, groups=groups).predict(X)
    weighted = clone(late).fit(X, y, weights, groups).predict(X)
    assert (weighted == "class-0").sum() > (plain == "class-0").sum()


@every_late_fusion
def test_weights_that_would_be_lost_are_refused(late, teacher_features):
    X, y, _ = teacher_features
    late = clone(late).set_params(estimator=KNeighborsClassifier())
    with pytest.raises(ValueError, match=r"KNeighborsClassifier\.fit takes none"):
        late.fit(X, y, sample_weight=np.ones(120))


def test_parameters_inside_can_be_searched(teacher_features):
    X, y, groups = teacher_features
    late = AveragedTeachersClassifier(linear())
    grid = {"estimator__logisticregression__C": [1e-4, 1.0]}
    search = GridSearchCV(late, grid, cv=StratifiedGroupKFold(2))
    search.fit(X, y, groups=groups)
    expert = search.best_estimator_.named_estimators_["teacher2"]
    assert expert[-1].C == search.best_params_["estimator__logisticregression__C"] == 1
    assert late.get_params()["estimator__logisticregression__C"] == 1


def test_students_can_be_the_classifiers(teacher_features):
    X, y, _ = teacher_features
    late = AveragedTeachersClassifier(
        fast_student(max_epochs=1, depth=0, distillation_weight=0)
    ).fit(X, y)
    assert late.named_estimators_["teacher1"].teacher_blocks_.to_dict() == {
        "teacher1": 12
    }


class Where(GaussianNB):
    """Remembers the thread it is trained in."""

    def fit(self, X, y):
        self.thread = threading.get_ident()
        return super().fit(X, y)


@every_late_fusion
def test_fits_at_once_give_what_fits_in_line_give(late, teacher_features):
    X, y, groups = teacher_features
    late = clone(late).set_params(estimator=Where())
    in_line = clone(late).fit(X, y, groups=groups)
    with parallel_config("threading"):
        at_once = clone(late).set_params(n_jobs=2).fit(X, y, groups=groups)
    assert np.array_equal(at_once.predict_proba(X), in_line.predict_proba(X))
    here = threading.get_ident()
    assert {expert.thread for expert in in_line.estimators_} == {here}
    assert here not in {expert.thread for expert in at_once.estimators_}


@every_late_fusion
def test_its_picture_shows_the_classifier_inside(late):
    assert "GaussianNB" in late._repr_html_()


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@every_late_fusion
def test_metadata_is_routed_to_it_and_through_it(late, routing, teacher_features):
    X, y, groups = teacher_features
    weights = (y != "class-1").astype(float)
    expert = GaussianNB().set_fit_request(sample_weight=True)
    late = clone(late).set_params(estimator=expert)
    if isinstance(late, StackedTeachersClassifier):
        final = LogisticRegression().set_fit_request(sample_weight=True)
        late.set_params(final_estimator=final)
    late.set_fit_request(sample_weight=True, groups=True)
    late.set_score_request(sample_weight=True)
    results = cross_validate(
        late,
        X,
        y,
        params={"groups": groups, "sample_weight": weights},
        cv=StratifiedGroupKFold(2),
        return_estimator=True,
        error_score="raise",
    )
    for model in results["estimator"]:
        assert model.classes_.tolist() == ["class-0", "class-2"]
        assert model.estimators_[0].class_count_.sum() < 80


@every_late_fusion
def test_the_default_classifiers_take_routed_weights(late, routing, teacher_features):
    X, y, groups = teacher_features
    late = clone(late).set_params(estimator=None)
    assert late.fit(X, y, np.ones(120), groups).score(X, y) > 0.9


def test_weights_nobody_inside_asked_for_are_an_error(routing, teacher_features):
    X, y, _ = teacher_features
    with pytest.raises(ValueError, match="set_fit_request"):
        AveragedTeachersClassifier(GaussianNB()).fit(X, y, np.ones(120))


@every_late_fusion
def test_what_cannot_be_fused_is_named(late, teacher_features):
    X, y, groups = teacher_features
    with pytest.raises(NotFittedError):
        clone(late).predict(X)
    with pytest.raises(ValueError, match="only 1 class: 'class-0'"):
        clone(late).fit(X[y == "class-0"], y[y == "class-0"])
    with pytest.raises(ValueError, match=r"LinearSVC\(\) has no predict_proba"):
        clone(late).set_params(estimator=LinearSVC()).fit(X, y)
    lost = groups.astype(object)
    lost[3] = None
    with pytest.raises(ValueError, match="Give every sample a patient"):
        clone(late).fit(X, y, groups=lost)
    with pytest.raises(ValueError, match="contains NaN"):
        clone(late).fit(np.full_like(X, np.nan), y)


def test_a_final_classifier_without_probabilities_is_named(teacher_features):
    X, y, _ = teacher_features
    late = StackedTeachersClassifier(GaussianNB(), LinearSVC())
    with pytest.raises(ValueError, match="final_estimator=LinearSVC"):
        late.fit(X, y)


def test_weights_that_only_a_scaler_would_take_are_refused(teacher_features):
    X, y, _ = teacher_features
    model = AveragedTeachersClassifier(
        make_pipeline(StandardScaler(), KNeighborsClassifier())
    )
    with pytest.raises(ValueError, match=r"KNeighborsClassifier\.fit takes none"):
        model.fit(X, y, sample_weight=np.ones(len(y)))


def test_a_refit_that_fails_leaves_nothing_fitted(teacher_features):
    X, y, _ = teacher_features
    model = LogitProductClassifier().fit(X, y)
    with pytest.raises(ValueError, match="at least 5 groups, got 1"):
        model.fit(X, np.char.upper(y), groups=np.zeros(len(y)))
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros((120, 2)), "one patient for each sample"),
        (pd.array(["a"] * 119 + [None], "string"), "missing values"),
        (np.r_[np.zeros(119), np.nan], "missing values"),
    ],
)
def test_patients_that_nobody_can_tell_apart_are_refused(
    groups, message, teacher_features
):
    X, y, _ = teacher_features
    with pytest.raises(ValueError, match=message):
        StackedTeachersClassifier().fit(X, y, groups=groups)


def test_patients_may_be_a_column_or_of_mixed_types(teacher_features):
    X, y, groups = teacher_features
    expected = StackedTeachersClassifier().fit(X, y, groups=groups).predict_proba(X)
    column = StackedTeachersClassifier().fit(X, y, groups=groups[:, None])
    assert np.array_equal(column.predict_proba(X), expected)
    names = {name: i if i % 2 else str(name) for i, name in enumerate(set(groups))}
    of_two_types = np.array([names[name] for name in groups], dtype=object)
    StackedTeachersClassifier(cv=2).fit(X, y, groups=of_two_types)
    equal = np.array([1, 1.0, "a", 2.0, 2], dtype=object)
    assert validated_groups(equal, equal).tolist() == [0, 0, 1, 2, 2]
