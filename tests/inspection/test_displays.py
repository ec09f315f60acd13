"""Displays: numbers in, what is drawn out; matplotlib only when plotting."""

import numpy as np
import pytest
from matplotlib import pyplot

from skshazam import ShazamClassifier
from skshazam.inspection import (
    ComparisonDisplay,
    TeacherAttentionDisplay,
    TileSheetDisplay,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def student(teacher_features):
    """A fitted student of depth 2; never refit it."""
    X, y, _ = teacher_features
    return ShazamClassifier(token_dim=8, depth=2, max_epochs=2, random_state=0).fit(
        X, y
    )


def test_attention_display_shows_the_mean_of_samples_and_layers(
    student, teacher_features
):
    X = teacher_features[0]
    display = TeacherAttentionDisplay.from_estimator(student, X)
    drawn = display.ax_.images[0].get_array()
    expected = student.attention(X).mean(axis=(0, 1))
    np.testing.assert_allclose(drawn, expected, rtol=1e-5)
    np.testing.assert_allclose(drawn.sum(axis=1), 1, rtol=1e-5)
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["teacher0", "teacher1", "teacher2"]
    texts = {text.get_text() for text in display.ax_.texts}
    assert f"{drawn[0, 0]:.2f}" in texts


def test_attention_display_of_one_layer_on_given_axes(student, teacher_features):
    X = teacher_features[0]
    _, ax = pyplot.subplots()
    display = TeacherAttentionDisplay.from_estimator(student, X, ax=ax, layer=1)
    assert display.ax_ is ax
    np.testing.assert_allclose(
        ax.images[0].get_array(), student.attention(X)[:, 1].mean(axis=0)
    )
    assert "layer 1" in ax.get_title()


def test_attention_of_a_student_without_layers_is_refused(teacher_features):
    X, y, _ = teacher_features
    student = ShazamClassifier(token_dim=8, depth=0, max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="depth=0"):
        TeacherAttentionDisplay.from_estimator(student, X)


def test_comparison_display_draws_folds_mean_and_interval():
    scores = {"one": [0.5, 0.7], "two": [0.8, 0.9]}
    display = ComparisonDisplay(scores, {"one": (0.4, 0.8), "two": (0.7, 1.0)}).plot()
    drawn = [line.get_xdata() for line in display.ax_.lines]
    assert [list(np.atleast_1d(x)) for x in drawn] == [
        [0.5, 0.7],
        [0.4, 0.8],
        [pytest.approx(0.6)],
        [0.8, 0.9],
        [0.7, 1.0],
        [pytest.approx(0.85)],
    ]
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["one", "two"]
    assert "interval" in display.ax_.get_xlabel()


def test_comparison_display_without_intervals_promises_none():
    display = ComparisonDisplay({"one": [0.5, 0.7]}, metric="weighted F1").plot()
    assert len(display.ax_.lines) == 2
    assert "interval" not in display.ax_.get_xlabel()
    assert "weighted F1" in display.ax_.get_xlabel()


def test_tile_sheet_marks_right_and_wrong_by_sign_and_colour(tiles):
    y_true = np.array(["a", "a", "a", "b", "b", "b"])
    y_pred = np.array(["a", "b", "a", "b", "b", "a"])
    display = TileSheetDisplay.from_predictions(
        tiles, y_true, y_pred, n_per_class=3, random_state=0
    )
    assert display.axes_.shape == (2, 3)
    for label, axes in zip("ab", display.axes_, strict=True):
        for ax in axes:
            sign, predicted = ax.get_xlabel().split()
            assert (sign == "✓") == (predicted == label)
            blue = ax.spines["left"].get_edgecolor()[2] > 0.5
            assert blue == (predicted == label)
    marks = [ax.get_xlabel()[0] for ax in display.axes_.flat]
    assert marks.count("✗") == 2


def test_tile_sheet_has_room_for_classes_with_few_tiles(tiles):
    display = TileSheetDisplay.from_predictions(
        tiles, list("aaaaab"), list("aaaaab"), n_per_class=4, random_state=0
    )
    assert display.axes_.shape == (2, 4)
    assert sum(bool(ax.images) for ax in display.axes_[1]) == 1


def test_tile_sheet_refuses_unequal_lengths(tiles):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TileSheetDisplay.from_predictions(tiles, ["a"], ["a"])
