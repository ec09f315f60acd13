"""How a student learns which columns belong to which teacher, and insists on it."""

import numpy as np
import pandas as pd
import pytest

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import FeatureBlockError, UndeclaredBlocksWarning
from tests.fusion.students import equal_states, fast_student, state_of

NAMES = ("uni", "phikon-v2", "virchow")
DIMS = (8, 12, 16)


@pytest.fixture
def plain(teacher_features):
    X, y, _ = teacher_features
    return np.asarray(X), y


def carrying(X, dims=DIMS, names=None):
    names = names or NAMES[: len(dims)]
    return TeacherFeatures(X, TeacherBlocks(names, dims))


def framed(X, dims=DIMS, names=NAMES):
    columns = TeacherBlocks(names, dims).get_feature_names()
    return pd.DataFrame(X, columns=columns)


def blocks_after_fit(X, y, **changes):
    return fast_student(max_epochs=1, **changes).fit(X, y).teacher_blocks_.to_dict()


def test_features_tell_their_own_blocks(plain):
    X, y = plain
    expected = dict(zip(NAMES, DIMS, strict=True))
    assert blocks_after_fit(carrying(X), y) == expected
    assert blocks_after_fit(carrying(X)[::2], y[::2]) == expected


def test_column_names_tell_the_blocks(plain):
    X, y = plain
    assert blocks_after_fit(framed(X), y) == dict(zip(NAMES, DIMS, strict=True))


def test_teacher_dims_tell_the_blocks(plain):
    X, y = plain
    blocks = blocks_after_fit(X, y, teacher_dims=DIMS)
    assert list(blocks.values()) == list(DIMS)
    assert blocks == blocks_after_fit(X, y, teacher_dims=np.array(DIMS))


@pytest.mark.parametrize("make", [carrying, framed])
def test_teacher_dims_outrank_what_the_features_say(make, plain):
    X, y = plain
    student = fast_student(teacher_dims=(20, 16)).fit(make(X), y)
    assert student.teacher_dims_ == (20, 16)
    expected = fast_student(teacher_dims=(20, 16)).fit(X, y)
    assert equal_states(state_of(student), state_of(expected))


@pytest.mark.parametrize("make", [carrying, framed])
def test_teacher_dims_outrank_what_the_features_say_in_predict_too(make, plain):
    X, y = plain
    student = fast_student(teacher_dims=(20, 16)).fit(make(X), y)
    assert student.predict(make(X)).shape == (120,)
    assert student.partial_fit(make(X), y).n_iter_ == 5


def test_features_outrank_column_names(plain):
    X, y = plain
    frame = framed(X, (20, 16), ("a", "b"))
    object.__setattr__(frame, "teacher_blocks", TeacherBlocks(NAMES, DIMS))
    student = fast_student().fit(frame, y)
    assert student.teacher_blocks_.names == NAMES


def test_all_sources_give_the_same_student(plain):
    X, y = plain
    states = [
        state_of(fast_student(**changes).fit(data, y))
        for data, changes in (
            (carrying(X), {}),
            (framed(X), {}),
            (X, {"teacher_dims": DIMS}),
        )
    ]
    assert equal_states(states[0], states[1])
    assert equal_states(states[0], states[2])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_columns_of_no_known_teacher_are_one_teacher_with_a_warning(method, plain):
    X, y = plain
    student = fast_student()
    with pytest.warns(UndeclaredBlocksWarning) as record:
        getattr(student, method)(X, y)
    assert student.teacher_dims_ == (36,)
    (warning,) = record
    assert warning.filename == __file__
    for remedy in ("TeacherFeatureTransformer", "<teacher>__<i>", "teacher_dims="):
        assert remedy in str(warning.message)
    assert "36 columns" in str(warning.message)


def test_column_names_without_teachers_are_no_declaration(plain):
    X, y = plain
    frame = framed(X).rename(columns={"uni__3": "age"})
    with pytest.warns(UndeclaredBlocksWarning):
        assert fast_student().fit(frame, y).teacher_dims_ == (36,)


@pytest.mark.parametrize("make", [np.asarray, carrying, framed])
def test_dims_that_do_not_add_up_are_refused(make, plain):
    X, y = plain
    with pytest.raises(FeatureBlockError, match=r"36 columns.*\(8, 12\).*up to 20"):
        fast_student(teacher_dims=(8, 12)).fit(make(X), y)


@pytest.mark.parametrize("dims", [(), (0, 36), (-4, 40), (8.9, 27.1), [[8, 28]], "ab"])
def test_dims_that_are_no_widths_are_refused(dims, plain):
    X, y = plain
    with pytest.raises(ValueError, match="teacher_dims"):
        fast_student(teacher_dims=dims).fit(X, y)


def test_columns_of_a_teacher_must_stand_together(plain):
    X, y = plain
    frame = framed(X)
    frame = frame[[*frame.columns[1:], "uni__0"]]
    with pytest.raises(FeatureBlockError, match=r"'uni'.*'uni__0'.*'virchow'"):
        fast_student().fit(frame, y)


METHODS = ["predict", "predict_proba", "transform", "attention"]


@pytest.mark.parametrize("method", METHODS)
def test_another_width_is_refused(method, plain):
    X, y = plain
    student = fast_student().fit(carrying(X), y)
    with pytest.raises(ValueError, match=r"35 features.*expecting 36"):
        getattr(student, method)(X[:, :35])


OTHER_TEACHERS = {
    "other widths": ((16, 12, 8), NAMES),
    "fewer teachers": ((20, 16), ("uni", "virchow")),
    "a teacher more": ((8, 12, 8, 8), (*NAMES, "gigapath")),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("other", OTHER_TEACHERS.values(), ids=OTHER_TEACHERS)
def test_features_of_other_teachers_are_refused(method, other, plain):
    X, y = plain
    student = fast_student().fit(carrying(X), y)
    with pytest.raises(FeatureBlockError, match=r"'uni'.*was fitted on.*'phikon-v2'"):
        getattr(student, method)(carrying(X, *other))


def test_teachers_of_equal_width_in_another_order_are_refused(plain):
    X, y = plain
    student = fast_student().fit(carrying(X, (18, 18), ("uni", "phikon-v2")), y)
    swapped = carrying(X, (18, 18), ("phikon-v2", "uni"))
    with pytest.raises(FeatureBlockError, match=r"same order"):
        student.predict(swapped)
    with pytest.raises(FeatureBlockError, match=r"same order"):
        student.partial_fit(swapped, y)


def test_a_frame_in_another_column_order_is_refused(plain):
    X, y = plain
    frame = framed(X)
    student = fast_student().fit(frame, y)
    with pytest.raises(ValueError, match="same order"):
        student.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize("fitted_on", [carrying, np.asarray])
def test_a_plain_matrix_of_the_right_width_is_taken_at_its_word(fitted_on, plain):
    X, y = plain
    student = fast_student(teacher_dims=DIMS).fit(fitted_on(X), y)
    expected = student.predict_proba(X)
    assert np.array_equal(student.predict_proba(carrying(X)), expected)
    assert np.array_equal(student.predict_proba(X.tolist()), expected)
    assert np.array_equal(student.predict_proba(X.astype(np.float64)), expected)
