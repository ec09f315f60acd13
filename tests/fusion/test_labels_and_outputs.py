"""What a fitted student says: labels, probabilities, fused vectors, attention."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import check_is_fitted

from skshazam import ShazamClassifier
from skshazam.fusion._shazam import PRESETS
from tests.fusion.students import fast_preset, fast_student, state_of

LABELS = {
    "strings": ["adenoma", "normal"],
    "integers": [3, 7],
    "negative integers": [-1, 1],
    "booleans": [False, True],
    "floats": [0.0, 2.0],
    "categories": pd.Categorical(["adenoma", "normal"]),
    "pandas strings": pd.array(["adenoma", "normal"], dtype="str"),
}


@pytest.fixture(scope="module")
def fitted(teacher_features):
    X, y, _ = teacher_features
    return fast_student().fit(X, y)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_come_back_as_they_were_given(kind, teacher_features):
    X, y, _ = teacher_features
    X, y = X[y != "class-2"], y[y != "class-2"]
    labels = LABELS[kind]
    targets = pd.Series(labels[:2])[(y == "class-1").astype(int)].to_numpy()
    student = fast_student(max_epochs=30).fit(X, targets)
    assert student.classes_.tolist() == sorted(set(targets.tolist()))
    predicted = student.predict(X)
    assert set(predicted.tolist()) <= set(targets.tolist())
    assert (predicted == targets).mean() > 0.9
    assert student.score(X, targets) == (predicted == targets).mean()


def test_probabilities_sum_to_one_and_their_largest_is_the_prediction(
    fitted, teacher_features
):
    X, _, _ = teacher_features
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (120, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(
        fitted.classes_[probabilities.argmax(axis=1)], fitted.predict(X)
    )
    np.testing.assert_allclose(
        np.log(probabilities), fitted.predict_log_proba(X), atol=1e-5
    )


def test_fused_vectors_have_a_column_and_a_name_per_token_component(
    fitted, teacher_features
):
    X, _, _ = teacher_features
    fused = fitted.transform(X)
    assert fused.shape == (120, 8)
    assert fused.dtype == np.float32
    names = [f"shazamclassifier{i}" for i in range(8)]
    assert fitted.get_feature_names_out().tolist() == names
    frame = clone(fitted).fit(X, fitted.predict(X)).set_output(transform="pandas")
    assert frame.transform(X).columns.tolist() == names


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_attention_has_a_matrix_per_sample_and_layer(depth, teacher_features):
    X, y, _ = teacher_features
    attention = fast_student(depth=depth, max_epochs=1).fit(X, y).attention(X[:5])
    assert attention.shape == (5, depth, 3, 3)
    assert attention.dtype == np.float32
    np.testing.assert_allclose(attention.sum(axis=3), 1, rtol=1e-6)


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_outputs_are_bit_identical_whatever_stands_beside_a_row(
    block, projection, teacher_features
):
    X, y, _ = teacher_features
    student = fast_student(
        block=block, projection=projection, token_dim=128, depth=2, max_epochs=1
    ).fit(X, y)
    for method in (student.predict_proba, student.transform, student.attention):
        together = method(X)
        for rows in ([7], [3, 50], range(31), range(20, 53), range(119, -1, -1)):
            assert np.array_equal(method(X[list(rows)]), together[list(rows)])


def test_outputs_are_the_same_on_both_sides_of_the_prediction_batch(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(max_epochs=1).fit(X, y)
    many = np.tile(np.asarray(X), (9, 1))  # 1080 rows, 512 a batch
    expected = np.tile(student.predict_proba(X), (9, 1))
    assert np.array_equal(student.predict_proba(many), expected)


def test_prediction_leaves_the_network_as_it_was(fitted, teacher_features):
    X, _, _ = teacher_features
    before = state_of(fitted)
    first = fitted.predict_proba(X)
    np.testing.assert_array_equal(first, fitted.predict_proba(X))
    for name, array in state_of(fitted).items():
        assert np.array_equal(array, before[name])


# 6 and 10 columns, D = 8, K = 2 layers, C = 3 classes.
CLASSIFIER = (8 * 8 + 8) + 2 * 8 + (8 * 3 + 3)
PAPER = (6 * 8 + 8) + (10 * 8 + 8) + 2 * (3 * 8 * 8) + CLASSIFIER
TWO_LAYERS = 2 * 8 + (8 * 8 + 8) + 2 * 8
RELEASED = (
    (6 * 8 + 8 + TWO_LAYERS)
    + (10 * 8 + 8 + TWO_LAYERS)
    + 2 * (4 * (8 * 8 + 8) + 2 * 8)
    + CLASSIFIER
)


@pytest.mark.parametrize(
    ("preset", "trained", "fixed"),
    [("paper", PAPER, 0), ("released", RELEASED, (6 * 8 + 8) + (10 * 8 + 8))],
)
def test_presets_have_the_parameters_their_description_counts(preset, trained, fixed):
    X = np.random.default_rng(0).normal(size=(12, 16))
    student = fast_preset(preset, teacher_dims=(6, 10), depth=2)
    student.fit(X, np.arange(12) % 3)
    parameters = list(student.module_.parameters())
    assert sum(p.numel() for p in parameters if p.requires_grad) == trained
    assert sum(p.numel() for p in parameters if not p.requires_grad) == fixed


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_take_overrides_and_keep_the_published_optimisation(preset):
    params = ShazamClassifier.from_preset(preset, depth=2).get_params()
    assert params["depth"] == 2
    published = {
        "distillation_weight": 0.5,
        "huber_delta": 1.0,
        "lr": 1e-3,
        "weight_decay": 1e-3,
        "batch_size": 64,
        "max_epochs": 100,
        "standardize": False,
    }
    assert published.items() <= params.items()


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'papers'.*\['paper', 'released'\]"):
        ShazamClassifier.from_preset("papers")


def test_a_clone_has_the_parameters_and_nothing_learned(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert is_classifier(copy)
    with pytest.raises(ValueError, match="not fitted yet"):
        check_is_fitted(copy)
    assert not hasattr(copy, "classes_")


def test_the_notebook_shows_the_parameters_that_differ(fitted):
    page = fitted._repr_html_()
    assert "ShazamClassifier" in page
    assert "token_dim" in page
    assert "token_dim=8" in repr(fitted)
    assert "depth" not in repr(fitted)
