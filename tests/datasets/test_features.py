"""make_teacher_features: what the examples and tests rely on."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skshazam._blocks import TeacherFeatures
from skshazam.datasets import make_teacher_features


def test_shapes_types_and_names_are_as_documented():
    X, y, groups = make_teacher_features(50, teacher_dims=(3, 4), random_state=0)
    assert isinstance(X, TeacherFeatures)
    assert X.shape == (50, 7)
    assert X.dtype == np.float32
    assert X.teacher_blocks.to_dict() == {"teacher0": 3, "teacher1": 4}
    assert set(y) == {"class-0", "class-1", "class-2"}
    assert set(groups) == {f"patient-{i:02d}" for i in range(12)}


@pytest.mark.parametrize(("n_samples", "n_classes"), [(120, 3), (100, 7)])
def test_classes_and_patients_are_as_equal_as_possible(n_samples, n_classes):
    _, y, groups = make_teacher_features(
        n_samples, n_classes=n_classes, n_groups=9, random_state=0
    )
    for labels, n_labels in ((y, n_classes), (groups, 9)):
        counts = np.unique(labels, return_counts=True)[1]
        assert len(counts) == n_labels
        assert np.ptp(counts) <= 1


def test_patients_do_not_give_the_class_away():
    _, y, groups = make_teacher_features(600, random_state=0)
    for patient in set(groups):
        assert len(set(y[groups == patient])) == 3


def test_a_seed_fixes_everything_and_another_changes_it():
    first, again, other = (
        make_teacher_features(random_state=seed) for seed in (1, 1, 2)
    )
    for one, same, different in zip(first, again, other, strict=True):
        assert np.array_equal(one, same)
        assert not np.array_equal(one, different)


def test_a_seed_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_teacher_features(random_state=1)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_each_teacher_has_a_scale_ten_times_the_one_before():
    X, _, _ = make_teacher_features(
        2000, teacher_dims=(200, 200, 200), noise=3.0, random_state=0
    )
    scales = [np.asarray(block).std() for block in X.teacher_blocks.split(X).values()]
    np.testing.assert_allclose(np.divide(scales[1:], scales[:-1]), 10, rtol=0.15)


def test_without_noise_class_and_patient_decide_the_features():
    X, y, groups = make_teacher_features(noise=0.0, random_state=0)
    cells = np.char.add(y, groups)
    for cell in set(cells):
        rows = np.asarray(X[cells == cell])
        np.testing.assert_allclose(rows, np.broadcast_to(rows[0], rows.shape))
    # 3 classes and 12 patients span the 5 latent dimensions of 3 classes.
    assert np.linalg.matrix_rank(np.asarray(X)[:, :8]) == 5


def test_each_teacher_is_linear_in_a_latent_vector_with_noise_of_its_own():
    X, _, _ = make_teacher_features(noise=1.0, random_state=0)
    blocks = [np.asarray(block) for block in X.teacher_blocks.split(X).values()]
    assert [np.linalg.matrix_rank(block) for block in blocks] == [5, 5, 5]
    assert np.linalg.matrix_rank(np.hstack(blocks) / np.hstack(blocks).std(0)) == 15


def test_teachers_complement_each_other():
    X, y, _ = make_teacher_features(600, noise=3.0, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    blocks = [np.asarray(block) for block in X.teacher_blocks.split(X).values()]
    alone = [cross_val_score(model, block, y).mean() for block in blocks]
    assert 1 / 3 < max(alone) < cross_val_score(model, np.asarray(X), y).mean() - 0.03


def test_rows_of_a_patient_cluster():
    X, y, groups = make_teacher_features(600, noise=0.3, random_state=0)
    features = StandardScaler().fit_transform(X)
    for label in set(y):
        rows = features[y == label]
        same = groups[y == label][:, None] == groups[y == label]
        distances = np.linalg.norm(rows[:, None] - rows, axis=2)
        apart = ~np.eye(len(rows), dtype=bool)
        assert distances[same & apart].mean() < 0.7 * distances[~same].mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_samples": 0},
        {"n_classes": 1},
        {"n_groups": 0},
        {"noise": -1.0},
        {"teacher_dims": ()},
        {"teacher_dims": (4, 0)},
        {"teacher_dims": 4},
        {"random_state": "seed"},
    ],
    ids=str,
)
def test_senseless_arguments_are_value_errors_that_name_them(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_teacher_features(**wrong)
