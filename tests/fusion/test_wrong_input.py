"""Wrong input is an error that says what is wrong; torch is never the one to say it."""

import numpy as np
import pytest
import scipy.sparse

from tests.fusion.students import fast_student


def frames_of(error):
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame.f_globals["__name__"].partition(".")[0]
        traceback = traceback.tb_next


def replaced(X, value):
    X = X.copy()
    X[3, 5] = value
    return X


WRONG_X = {
    "NaN": (lambda X: replaced(X, np.nan), "NaN"),
    "infinity": (lambda X: replaced(X, np.inf), "infinity"),
    "beyond float32": (lambda X: replaced(X.astype(float), 1e39), "too large"),
    "words": (lambda X: replaced(X.astype(object), "tile.png"), "could not convert"),
    "complex": (lambda X: X + 1j, "Complex"),
    "one dimension": (lambda X: X[:, 0], "2D array"),
    "three dimensions": (lambda X: X[:, :, None], "dim 3"),
    "no rows": (lambda X: X[:0], "0 sample"),
    "no columns": (lambda X: X[:, :0], "0 feature"),
    "None": (lambda X: None, "2D array"),
}
WRONG_Y = {
    "one class": (lambda y: np.full(len(y), "adenoma"), "1 class: .*'adenoma'"),
    "continuous": (lambda y: np.linspace(0, 1, len(y)), "continuous"),
    "None": (lambda y: None, "requires y"),
    "short": (lambda y: y[:-1], "inconsistent"),
    "two columns": (lambda y: np.stack([y, y], axis=1), "shape|multi"),
    "NaN": (lambda y: np.where(y == "class-0", np.nan, 1.0), "NaN"),
}
WRONG_FIT_PARAMS = {
    "short weights": ({"sample_weight": np.ones(5)}, "sample_weight"),
    "negative weights": ({"sample_weight": -np.ones(120)}, "[Nn]egative"),
    "NaN weights": ({"sample_weight": np.full(120, np.nan)}, "NaN"),
    "zero weights": ({"sample_weight": np.zeros(120)}, "at least one non-zero"),
    "weights of one class": (
        {"sample_weight": np.array([1] + 119 * [0])},
        "1 class",
    ),
    "short groups": ({"groups": np.ones(5)}, "inconsistent"),
}


def refused(message, function, *args, error=ValueError, **kwargs):
    with pytest.raises(error, match=message) as caught:
        function(*args, **kwargs)
    assert "torch" not in set(frames_of(caught.value))


@pytest.fixture
def plain(teacher_features):
    X, y, _ = teacher_features
    return np.asarray(X), y


# numpy, called by scikit-learn, also warns of numbers beyond float32.
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("spoil", "message"), WRONG_X.values(), ids=WRONG_X)
def test_training_refuses_features(method, spoil, message, plain):
    X, y = plain
    student = fast_student(teacher_dims=(8, 12, 16))
    refused(message, getattr(student, method), spoil(X), y)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform"])
@pytest.mark.parametrize(("spoil", "message"), WRONG_X.values(), ids=WRONG_X)
def test_a_fitted_student_refuses_features(method, spoil, message, plain):
    X, y = plain
    student = fast_student(teacher_dims=(8, 12, 16), max_epochs=1).fit(X, y)
    refused(message, getattr(student, method), spoil(X))


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.dok_array])
def test_sparse_features_are_refused_with_the_error_of_scikit_learn(make, plain):
    X, y = plain
    student = fast_student(teacher_dims=(8, 12, 16), max_epochs=1)
    refused("Sparse data", student.fit, make(X), y, error=TypeError)
    refused("Sparse data", student.fit(X, y).predict, make(X), error=TypeError)


@pytest.mark.parametrize(("spoil", "message"), WRONG_Y.values(), ids=WRONG_Y)
def test_training_refuses_labels(spoil, message, plain):
    X, y = plain
    refused(message, fast_student(teacher_dims=(8, 12, 16)).fit, X, spoil(y))


@pytest.mark.parametrize(
    ("params", "message"), WRONG_FIT_PARAMS.values(), ids=WRONG_FIT_PARAMS
)
def test_training_refuses_weights_and_groups(params, message, plain):
    X, y = plain
    refused(message, fast_student(teacher_dims=(8, 12, 16)).fit, X, y, **params)


@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "predict_log_proba", "transform", "attention"],
)
def test_an_unfitted_student_says_so(method, plain):
    X, _ = plain
    refused("not fitted yet", getattr(fast_student(), method), X)


@pytest.mark.parametrize("device", ["gpu", "mtia:0:1", 3.5, None, "meta"])
def test_a_device_that_cannot_train_is_refused(device, plain):
    X, y = plain
    student = fast_student(teacher_dims=(8, 12, 16), device=device)
    with pytest.raises(ValueError, match="device="):
        student.fit(X, y)


def test_a_failed_fit_leaves_an_unfitted_student(plain):
    X, y = plain
    student = fast_student(teacher_dims=(8, 12))
    refused("36 columns", student.fit, X, y)
    refused("not fitted yet", student.predict, X)


def test_a_read_only_memory_map_is_read(plain, tmp_path):
    X, y = plain
    np.save(tmp_path / "features.npy", X)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    student = fast_student(teacher_dims=(8, 12, 16))
    from_map = student.fit(mapped, y).predict_proba(mapped)
    assert np.array_equal(from_map, student.fit(X, y).predict_proba(X))
    assert np.array_equal(mapped, X)


@pytest.mark.parametrize("writeable", [False, True])
def test_training_does_not_change_its_input(writeable, plain):
    X, y = plain
    given, weights = np.array(X), np.linspace(1, 2, 120)
    given.flags.writeable = writeable
    student = fast_student(teacher_dims=(8, 12, 16), class_weight="balanced")
    student.fit(given, y, sample_weight=weights).predict(given)
    assert np.array_equal(given, X)
    assert np.array_equal(weights, np.linspace(1, 2, 120))


@pytest.mark.parametrize("convert", [np.asfortranarray, lambda X: X[:, ::1], list])
def test_the_memory_layout_of_the_input_does_not_matter(convert, plain):
    X, y = plain
    student = fast_student(teacher_dims=(8, 12, 16))
    expected = student.fit(X, y).predict_proba(X)
    converted = convert(X)
    actual = student.fit(converted, y).predict_proba(converted)
    assert np.array_equal(actual, expected)
