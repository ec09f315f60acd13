"""The main job: images in, one pipeline, scikit-learn's own tools around it."""

import os
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skshazam import TeacherFeatureTransformer
from skshazam._blocks import TeacherBlocks
from skshazam.teachers import load_teacher, unload_teachers
from tests.fusion.students import fast_student
from tests.tiny_teachers import tiny_convolution

TEACHERS = (tiny_convolution("narrow", dim=5), tiny_convolution("wide", dim=10))
GRID = {"student__distillation_weight": [0.05, 0.5], "student__depth": [1, 2]}


@pytest.fixture
def tiles(tmp_path):
    """Return paths of 36 PNG tiles, their labels and their patients."""
    rng = np.random.default_rng(0)
    colours = {
        "adenoma": (150, 60, 140),
        "mucus": (200, 190, 215),
        "normal": (225,) * 3,
    }
    paths, labels, patients = [], [], []
    for i in range(36):
        label = sorted(colours)[i % 3]
        pixels = rng.normal(colours[label], 25, (28, 28, 3)).clip(0, 255)
        path = tmp_path / f"tile-{i}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        paths.append(str(path))
        labels.append(label)
        patients.append(f"patient-{i // 3 % 6}")
    return paths, np.array(labels), np.array(patients)


def pipeline(**changes):
    return Pipeline(
        [
            ("teachers", TeacherFeatureTransformer(teachers=TEACHERS, device="cpu")),
            ("student", fast_student(**{"max_epochs": 25, **changes})),
        ]
    )


def test_a_pipeline_goes_from_files_to_labels(tiles):
    paths, labels, _ = tiles
    model = pipeline().fit(paths, labels)
    assert model["student"].teacher_blocks_.to_dict() == {"narrow": 5, "wide": 10}
    assert model.score(paths, labels) > 0.9
    assert set(model.predict(paths)) == {"adenoma", "mucus", "normal"}


@pytest.mark.parametrize("container", [np.array, pd.Series, lambda p: pd.DataFrame(p)])
def test_paths_may_stand_in_any_column(container, tiles):
    paths, labels, _ = tiles
    expected = pipeline(max_epochs=1).fit(paths, labels).predict_proba(paths)
    model = pipeline(max_epochs=1).fit(container(paths), labels)
    assert np.array_equal(model.predict_proba(container(paths)), expected)


def loaded_probabilities(path, paths):
    """Return the process, and what a saved model says there, its teachers unloaded."""
    unload_teachers()
    return os.getpid(), joblib.load(path).predict_proba(paths)


def test_a_parallel_search_is_saved_without_teachers_and_loaded_elsewhere(
    tiles, tmp_path
):
    paths, labels, groups = tiles
    search = GridSearchCV(
        pipeline(), GRID, cv=StratifiedGroupKFold(2), n_jobs=2, error_score="raise"
    ).fit(paths, labels, groups=groups)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 0.8
    expected = search.predict_proba(paths)

    saved = tmp_path / "search.joblib"
    joblib.dump(search, saved)
    for teacher in map(load_teacher, TEACHERS):
        weights = teacher.module.convolution.weight.numpy().tobytes()
        assert weights in pickle.dumps(teacher.module)
        assert weights not in saved.read_bytes()
    # The processes of the search, which are up; two, or joblib would stay in this one.
    loading = [joblib.delayed(loaded_probabilities)(saved, paths)] * 2
    for process, found in joblib.Parallel(n_jobs=2)(loading):
        assert process != os.getpid()
        assert np.array_equal(found, expected)


def test_a_search_in_parallel_finds_what_a_search_in_line_finds(teacher_features):
    X, y, groups = teacher_features
    grid = {"distillation_weight": [0.05, 0.5], "depth": [0, 1]}
    scores = [
        GridSearchCV(fast_student(), grid, cv=StratifiedGroupKFold(3), n_jobs=n_jobs)
        .fit(X, y, groups=groups)
        .cv_results_["mean_test_score"]
        for n_jobs in (None, 2)
    ]
    assert np.array_equal(*scores)
    assert len(set(scores[0])) > 1


def test_teachers_are_built_once_whatever_the_folds_and_clones(tiles, builds):
    paths, labels, groups = tiles
    scores = cross_val_score(
        pipeline(), paths, labels, groups=groups, cv=StratifiedGroupKFold(3)
    )
    clone(pipeline()).fit(paths, labels).predict(paths)
    assert scores.shape == (3,)
    assert scores.min() > 0.7
    assert sorted(builds) == ["narrow", "wide"]


def test_pandas_output_gives_the_same_student(tiles):
    paths, labels, _ = tiles
    plain = pipeline().fit(paths, labels)
    framed = pipeline().set_output(transform="pandas").fit(paths, labels)
    blocks = TeacherBlocks(("narrow", "wide"), (5, 10))
    assert framed["student"].teacher_blocks_ == blocks
    assert framed["student"].feature_names_in_.tolist() == list(
        blocks.get_feature_names()
    )
    assert np.array_equal(framed.predict_proba(paths), plain.predict_proba(paths))


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def routed(routing):
    def make(**changes):
        model = pipeline(**changes)
        model["student"].set_fit_request(sample_weight=True, groups=True)
        model["student"].set_score_request(sample_weight=True)
        return model

    return make


def test_sample_weights_are_routed_to_the_student(tiles, routed):
    paths, labels, groups = tiles
    weights = (labels != "mucus").astype(float)
    results = cross_validate(
        routed(),
        paths,
        labels,
        params={"sample_weight": weights, "groups": groups},
        cv=StratifiedGroupKFold(3),
        return_estimator=True,
        error_score="raise",
    )
    for model in results["estimator"]:
        assert model.classes_.tolist() == ["adenoma", "normal"]
    # Mucus cannot be predicted; without its weight in the score it costs nothing.
    assert results["test_score"].min() > 0.8


def test_groups_are_routed_to_the_validation_split_of_the_student(tiles, routed):
    paths, labels, groups = tiles
    model = routed(early_stopping=True).fit(paths, labels, groups=groups)
    assert "valid_loss" in model["student"].history_[-1]
    with pytest.raises(ValueError, match="at least 2 groups"):
        routed(early_stopping=True).fit(paths, labels, groups=["one"] * 36)
    results = cross_validate(
        routed(early_stopping=True),
        paths,
        labels,
        params={"groups": groups},
        cv=StratifiedGroupKFold(2),
        error_score="raise",
    )
    assert results["test_score"].shape == (2,)


def test_metadata_nobody_asked_for_is_an_error(tiles, routing):
    paths, labels, groups = tiles
    with pytest.raises(ValueError, match="set_fit_request"):
        pipeline().fit(paths, labels, groups=groups)


@pytest.fixture
def student(teacher_features):
    X, y, _ = teacher_features
    return fast_student(max_epochs=15).fit(X, y)


def test_a_frame_with_named_columns_is_as_good_as_teacher_features(
    student, teacher_features
):
    X, y, _ = teacher_features
    frame = pd.DataFrame(X, columns=X.teacher_blocks.get_feature_names())
    framed = clone(student).fit(frame, pd.Series(y))
    assert framed.teacher_blocks_ == X.teacher_blocks
    assert np.array_equal(framed.predict_proba(frame), student.predict_proba(X))


def test_folds_of_teacher_features_keep_their_blocks(student, teacher_features):
    X, y, groups = teacher_features
    results = cross_validate(
        student, X, y, groups=groups, cv=StratifiedGroupKFold(3), return_estimator=True
    )
    for fold in results["estimator"]:
        assert fold.teacher_blocks_ == X.teacher_blocks
    assert results["test_score"].min() > 0.5
    probabilities = cross_val_predict(student, X, y, method="predict_proba")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_probabilities_can_be_calibrated(method, student, teacher_features):
    X, y, _ = teacher_features
    model = CalibratedClassifierCV(clone(student), method=method, cv=3).fit(X, y)
    assert model.classes_.tolist() == student.classes_.tolist()
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    assert model.score(X, y) > 0.8


def test_students_vote(student, teacher_features):
    X, y, _ = teacher_features
    other = clone(student).set_params(random_state=1)
    model = VotingClassifier([("a", clone(student)), ("b", other)], voting="soft")
    model.fit(X, y)
    expected = (student.predict_proba(X) + other.fit(X, y).predict_proba(X)) / 2
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-6)
    assert set(model.predict(X)) == set(y)


def test_students_are_stacked(student, teacher_features):
    X, y, _ = teacher_features
    model = StackingClassifier(
        [
            ("student", clone(student)),
            ("linear", make_pipeline(StandardScaler(), LogisticRegression())),
        ],
        final_estimator=LogisticRegression(),
        cv=3,
    ).fit(X, y)
    assert model.estimators_[0].teacher_blocks_ == X.teacher_blocks
    assert model.score(X, y) > 0.8


def test_importance_belongs_to_the_columns_that_matter(teacher_features):
    X, y, _ = teacher_features
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(120, 10)).astype(np.float32)
    frame = pd.DataFrame(
        np.hstack([X[:, 20:], noise]),
        columns=TeacherBlocks(("seeing", "blind"), (16, 10)).get_feature_names(),
    )
    model = fast_student(max_epochs=30).fit(frame[:80], y[:80])
    importances = permutation_importance(
        model, frame[80:], y[80:], n_repeats=3, random_state=0
    ).importances_mean
    assert importances.shape == (26,)
    assert importances[:16].mean() > importances[16:].mean() + 0.005


def test_a_clone_of_a_fitted_pipeline_is_not_fitted_and_fits_alike(tiles):
    paths, labels, _ = tiles
    model = pipeline().fit(paths, labels)
    twin = clone(model)
    assert not twin["student"].__sklearn_is_fitted__()
    twin.fit(paths, labels)
    assert np.array_equal(twin.predict_proba(paths), model.predict_proba(paths))
