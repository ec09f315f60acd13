"""Every classifier of features under scikit-learn's own tools, a few steps each."""

import os

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB

from skshazam import fusion
from skshazam.datasets import make_teacher_features
from skshazam.fusion._base import FusionClassifier

NETWORK = {
    "token_dim": 16,
    "n_members": 1,
    "projection": "linear",
    "batch_size": 8,
    "max_epochs": 2,
    "lr": 0.02,
    "device": "cpu",
    "random_state": 0,
}
# Class: its parameters, and two values to choose from.
TABLE = {
    "AveragedTeachersClassifier": (
        {"estimator": GaussianNB()},
        {"average": ["probabilities", "logits"]},
    ),
    "ConcatClassifier": (NETWORK, {"dropout": [0.0, 0.5]}),
    "LogitProductClassifier": (
        {"estimator": GaussianNB(), "cv": 2},
        {"alpha": [1, 1000]},
    ),
    "MambaClassifier": ({**NETWORK, "state_dim": 2}, {"state_dim": [1, 2]}),
    "MoEClassifier": (NETWORK, {"gate": ["after_norm", "before_norm"]}),
    "ShazamClassifier": ({**NETWORK, "depth": 1}, {"distillation_weight": [0, 5]}),
    "SingleTeacherClassifier": ({**NETWORK, "cv": 2}, {"teacher": [0, 1]}),
    "StackedTeachersClassifier": ({"estimator": GaussianNB(), "cv": 2}, {"cv": [2, 3]}),
    "SumClassifier": (NETWORK, {"n_members": [1, 2]}),
}
NETWORKS = [
    name for name in TABLE if issubclass(getattr(fusion, name), FusionClassifier)
]
every_classifier = pytest.mark.parametrize("name", TABLE)
every_network = pytest.mark.parametrize("name", NETWORKS)


def make(name, **changes):
    return getattr(fusion, name)(**{**TABLE[name][0], **changes})


@pytest.fixture(scope="module")
def data():
    """X, y, groups of two teachers, two classes and 16 patients; never modify."""
    return make_teacher_features(
        48, teacher_dims=(3, 4), n_classes=2, n_groups=16, noise=0.3, random_state=3
    )


def test_the_table_is_complete():
    # FineTunedTeacherClassifier takes images.
    assert set(TABLE) == set(fusion.__all__) - {"FineTunedTeacherClassifier"}


@every_classifier
def test_a_grouped_search_finds_a_difference(name, data):
    X, y, groups = data
    search = GridSearchCV(
        make(name),
        TABLE[name][1],
        cv=StratifiedGroupKFold(2),
        scoring="neg_log_loss",
        error_score="raise",
    ).fit(X, y, groups=groups)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == 2
    assert search.best_estimator_.teacher_blocks_ == X.teacher_blocks
    assert search.predict_proba(X).shape == (48, 2)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def asking(name):
    """Return a classifier that asks for weights and groups, for those inside too."""
    model = make(name, **({"early_stopping": True} if name in NETWORKS else {}))
    if name not in NETWORKS:
        model.set_params(estimator=GaussianNB().set_fit_request(sample_weight=True))
    model.set_fit_request(sample_weight=True, groups=True)
    return model.set_score_request(sample_weight=True)


@every_classifier
def test_weights_and_groups_are_routed(name, routing, data):
    X, y, groups = data
    y = np.where(np.arange(48) % 4 == 0, "ignored", y)
    results = cross_validate(
        asking(name),
        X,
        y,
        params={"sample_weight": (y != "ignored").astype(float), "groups": groups},
        cv=StratifiedGroupKFold(2),
        return_estimator=True,
        error_score="raise",
    )
    for model in results["estimator"]:
        assert model.classes_.tolist() == ["class-0", "class-1"]
        if name in NETWORKS:
            assert "valid_loss" in model.history_[-1]


LEARNS_FROM_PATIENTS = [
    *NETWORKS,
    "LogitProductClassifier",
    "StackedTeachersClassifier",
]


@pytest.mark.parametrize("name", LEARNS_FROM_PATIENTS)
def test_routed_groups_arrive(name, routing, data):
    X, y, _ = data
    with pytest.raises(ValueError, match="groups"):
        asking(name).fit(X, y, groups=np.full(48, "one patient"))


@every_classifier
def test_probabilities_can_be_calibrated(name, data):
    X, y, _ = data
    model = CalibratedClassifierCV(make(name), cv=2).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    assert len(model.calibrated_classifiers_) == 2


@every_classifier
def test_the_threshold_can_be_tuned(name, data):
    X, y, _ = data
    model = TunedThresholdClassifierCV(
        make(name), scoring="balanced_accuracy", cv=2, thresholds=5
    ).fit(X, y)
    surest = np.quantile(model.estimator_.predict_proba(X)[:, 1], [0, 1])
    assert surest[0] - 0.5 < model.best_threshold_ < surest[1] + 0.5
    assert set(model.predict(X)) <= set(y)


@every_classifier
def test_importance_can_be_measured(name, data):
    X, y, _ = data
    frame = pd.DataFrame(np.asarray(X), columns=X.teacher_blocks.get_feature_names())
    model = make(name).fit(frame, y)
    found = permutation_importance(
        model, frame, y, n_repeats=1, random_state=0, scoring="neg_log_loss"
    )
    assert found.importances_mean.any()
    assert model.teacher_blocks_ == X.teacher_blocks


def test_all_of_them_vote_and_are_stacked(data):
    X, y, _ = data
    members = [(name, make(name)) for name in TABLE]
    vote = VotingClassifier(members, voting="soft").fit(X, y)
    alone = [make(name).fit(X, y).predict_proba(X) for name in TABLE]
    expected = np.mean(alone, axis=0)
    np.testing.assert_allclose(vote.predict_proba(X), expected, rtol=1e-6)
    stack = StackingClassifier(members, LogisticRegression(), cv=2).fit(X, y)
    assert all(
        member.teacher_blocks_ == X.teacher_blocks for member in stack.estimators_
    )
    assert stack.score(X, y) > 0.8


@every_network
def test_fused_vectors_come_as_a_frame(name, data):
    X, y, _ = data
    model = make(name).fit(X, y)
    plain = model.transform(X)
    frame = model.set_output(transform="pandas").transform(X)
    assert np.array_equal(frame, plain)
    assert frame.columns.tolist() == [f"{name.lower()}{i}" for i in range(16)]


@every_classifier
def test_its_picture_names_it(name, data):
    X, y, _ = data
    picture = make(name)._repr_html_()
    assert name in picture
    assert "<span>Fitted</span>" not in picture
    assert "<span>Fitted</span>" in make(name).fit(X, y)._repr_html_()


@every_classifier
def test_a_clone_is_not_fitted_and_fits_alike(name, data):
    X, y, groups = data
    model = make(name).fit(X, y, groups=groups)
    twin = clone(model)
    assert not hasattr(twin, "classes_")
    assert repr(twin) == repr(model)
    expected = model.predict_proba(X)
    assert np.array_equal(twin.fit(X, y, groups=groups).predict_proba(X), expected)


@every_network
def test_training_goes_on_by_chunks_or_from_where_it_stopped(name, data):
    X, y, _ = data
    own = {"teacher": 0} if name == "SingleTeacherClassifier" else {}
    model = make(name, **own).partial_fit(
        X[:24], y[:24], classes=["class-0", "class-1"]
    )
    before = model.predict_proba(X)
    after = model.partial_fit(X[24:], y[24:]).predict_proba(X)
    assert not np.array_equal(before, after)
    model.set_params(warm_start=True).fit(X, y)
    assert model.n_iter_ == 4
    assert not np.array_equal(model.predict_proba(X), after)


def loaded_probabilities(path):
    """Return the process, and what the models in a file say there."""
    models, X = joblib.load(path)
    return os.getpid(), {name: model.predict_proba(X) for name, model in models.items()}


def test_all_of_them_are_saved_and_loaded_elsewhere(data, tmp_path):
    X, y, _ = data
    models = {name: make(name).fit(X, y) for name in TABLE}
    joblib.dump((models, X), tmp_path / "models.joblib")
    # Two, or joblib would not leave this process.
    loading = [joblib.delayed(loaded_probabilities)(tmp_path / "models.joblib")] * 2
    for process, found in joblib.Parallel(n_jobs=2)(loading):
        assert process != os.getpid()
        for name, model in models.items():
            assert np.array_equal(found[name], model.predict_proba(X)), name
