"""partial_fit, warm_start and pickles that go on where they stopped."""

import copy
import io
import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from skorch.exceptions import DeviceWarning

from skshazam import ShazamClassifier
from tests.fusion.students import (
    FAST,
    equal_states,
    fast_preset,
    fast_student,
    state_of,
)


def test_partial_fit_is_one_pass_a_call(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(batch_size=50)
    for call in (1, 2, 3):
        student.partial_fit(X, y)
        assert student.n_iter_ == len(student.history_) == call
        assert student.history_[-1, "train_batch_count"] == 3


def test_the_first_partial_fit_is_a_fit_of_one_epoch(teacher_features):
    X, y, _ = teacher_features
    assert equal_states(
        state_of(fast_student().partial_fit(X, y)),
        state_of(fast_student(max_epochs=1, lr_schedule="constant").fit(X, y)),
    )


def test_classes_can_be_declared_before_they_are_seen(teacher_features):
    X, y, _ = teacher_features
    classes = ["class-0", "class-1", "class-2", "class-3"]
    student = fast_student()
    student.partial_fit(X[y == "class-1"], y[y == "class-1"], classes=classes)
    assert student.classes_.tolist() == classes
    for chunk in (slice(0, 1), slice(1, 90), slice(90, 120)):
        student.partial_fit(X[chunk], y[chunk], sample_weight=np.ones(len(y[chunk])))
    assert student.predict_proba(X).shape == (120, 4)


def test_a_label_outside_the_declared_classes_is_refused(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().partial_fit(X, y)
    new = np.full(120, "class-9")
    with pytest.raises(ValueError, match=r"\['class-9'\].*classes="):
        student.partial_fit(X, new)
    with pytest.raises(ValueError, match=r"\['class-2'\]"):
        fast_student().partial_fit(X, y, classes=["class-0", "class-1"])


def test_other_classes_in_a_later_call_are_refused(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().partial_fit(X, y, classes=np.unique(y))
    student.partial_fit(X, y, classes=np.unique(y)[::-1])
    with pytest.raises(ValueError, match="classes"):
        student.partial_fit(X, y, classes=[*np.unique(y), "class-9"])


def test_columns_keep_the_statistics_of_the_first_chunk(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().partial_fit(X[:70], y[:70])
    student.partial_fit(1e3 + X[70:], y[70:])
    scaler = StandardScaler().fit(np.asarray(X[:70], dtype=np.float64))
    buffers = student.module_.standardization
    np.testing.assert_allclose(buffers.mean, scaler.mean_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(buffers.scale, scaler.scale_, rtol=1e-6)


def test_partial_fit_holds_nothing_out_even_with_early_stopping(teacher_features):
    X, y, _ = teacher_features
    stopping = fast_student(early_stopping=True, patience=1)
    for _ in range(4):
        stopping.partial_fit(X, y)
    assert stopping.n_iter_ == 4
    plain = fast_student()
    for _ in range(4):
        plain.partial_fit(X, y)
    assert equal_states(state_of(stopping), state_of(plain))


def test_a_warm_start_continues_and_a_cold_one_does_not(teacher_features):
    X, y, _ = teacher_features
    warm, cold = fast_student(warm_start=True), fast_student()
    for student in (warm, cold):
        student.fit(X, y).fit(X, y)
    assert warm.n_iter_ == 8
    assert cold.n_iter_ == 4
    losses = warm.history_[:, "train_loss"]
    assert losses[4] < losses[0]
    assert losses[:4] == cold.history_[:, "train_loss"]


def test_a_warm_start_refuses_other_labels(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="class-9"):
        student.fit(X, np.where(y == "class-0", "class-9", y))


@pytest.mark.parametrize("how", ["partial_fit", "warm fit"])
def test_a_new_learning_rate_takes_effect_in_continued_training(how, teacher_features):
    X, y, _ = teacher_features
    student = fast_student(warm_start=True, batch_size=120).fit(X, y)
    start = state_of(student)
    student.set_params(lr=1e-12, weight_decay=0.0)
    student.partial_fit(X, y) if how == "partial_fit" else student.fit(X, y)
    for name, array in state_of(student).items():
        np.testing.assert_allclose(array, start[name], atol=1e-9)
    student.set_params(lr=1e-2).partial_fit(X, y)
    assert not equal_states(start, state_of(student))


COPIERS = {
    "pickle": lambda student: pickle.loads(pickle.dumps(student)),
    "deepcopy": copy.deepcopy,
}
CONFIGURATIONS = {
    "default": lambda: fast_student(dropout=0.5),
    "paper": lambda: fast_preset("paper", standardize=True),
    "released": lambda: fast_preset("released"),
    "stopping": lambda: fast_student(early_stopping=True),
}


@pytest.mark.parametrize("copier", COPIERS.values(), ids=COPIERS)
@pytest.mark.parametrize("make", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_copy_predicts_and_continues_like_the_original_bit_for_bit(
    make, copier, teacher_features
):
    X, y, _ = teacher_features
    original = make().set_params(warm_start=True).fit(X, y)
    twin = copier(original)
    assert np.array_equal(original.predict_proba(X), twin.predict_proba(X))
    assert np.array_equal(original.attention(X), twin.attention(X))
    assert twin.history_[:, "train_loss"] == original.history_[:, "train_loss"]
    for student in (original, twin):
        student.fit(X, y)
    assert equal_states(state_of(original), state_of(twin))


def test_pickling_changes_nothing_in_the_middle_of_partial_fits(teacher_features):
    X, y, _ = teacher_features
    whole, interrupted = fast_student(dropout=0.5), fast_student(dropout=0.5)
    for start in range(0, 120, 30):
        chunk = slice(start, start + 30)
        whole.partial_fit(X[chunk], y[chunk], classes=np.unique(y))
        interrupted.partial_fit(X[chunk], y[chunk], classes=np.unique(y))
        interrupted = pickle.loads(pickle.dumps(interrupted))
    assert equal_states(state_of(whole), state_of(interrupted))


def test_an_unfitted_student_can_be_pickled():
    student = fast_student(depth=3)
    twin = pickle.loads(pickle.dumps(student))
    assert twin.get_params() == student.get_params()
    assert not twin.__sklearn_is_fitted__()


def test_a_pickle_holds_no_torch_object(teacher_features):
    X, y, _ = teacher_features
    found = []

    class Reader(pickle._Unpickler):
        def find_class(self, module, name):
            found.append(module)
            return super().find_class(module, name)

    Reader(io.BytesIO(pickle.dumps(fast_student().fit(X, y)))).load()
    assert "skshazam.fusion._shazam" in found
    assert {"torch._utils", "torch.storage", "torch._tensor"}.isdisjoint(found)


class PickleEachEpoch(Callback):
    def on_epoch_end(self, net, **kwargs):
        type(self).snapshot = pickle.dumps(net)


def test_a_pickle_taken_inside_training_predicts_labels(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(callbacks=[PickleEachEpoch()]).fit(X, y)
    snapshot = pickle.loads(PickleEachEpoch.snapshot)
    assert np.array_equal(snapshot.predict(X), student.predict(X))


@pytest.mark.parametrize(
    "change", [{"token_dim": 16}, {"depth": 2}, {"block": "plain"}], ids=str
)
@pytest.mark.parametrize("copied", [False, True])
def test_parameters_set_after_fit_wait_for_the_next_fit(
    change, copied, teacher_features
):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y)
    expected = student.predict_proba(X)
    student.set_params(**change)
    if copied:
        student = pickle.loads(pickle.dumps(student))
    assert np.array_equal(student.predict_proba(X), expected)
    assert len(student.get_feature_names_out()) == student.transform(X).shape[1]


def absent_device(device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    return device


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_pickle_from_a_device_this_machine_lacks_warns_and_works(
    device, teacher_features, monkeypatch
):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y)
    state = {**student.__getstate__(), "device": absent_device(device, monkeypatch)}
    moved = ShazamClassifier.__new__(ShazamClassifier)
    with pytest.warns(DeviceWarning, match=f"{device}.*loaded with device='cpu'"):
        moved.__setstate__(state)
    assert np.array_equal(moved.predict_proba(X), student.predict_proba(X))
    moved.partial_fit(X, y)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_this_machine_lacks_is_a_value_error(
    device, teacher_features, monkeypatch
):
    X, y, _ = teacher_features
    student = ShazamClassifier(**{**FAST, "device": absent_device(device, monkeypatch)})
    with pytest.raises(ValueError, match=f"device='{device}'.*device='auto'"):
        student.fit(X, y)


def held_out_by(student, X, y, groups, monkeypatch):
    """Fit once more and return the patients that were held out."""
    seen = []
    split = student.get_split_datasets

    def spying(data, codes, **fit_params):
        seen.append(data["held_out"].numpy())
        return split(data, codes, **fit_params)

    monkeypatch.setattr(student, "get_split_datasets", spying)
    student.fit(X, y, groups=groups)
    monkeypatch.undo()
    return set(groups[seen[0]])


def test_a_warm_start_holds_out_the_same_patients_again(teacher_features, monkeypatch):
    X, y, groups = teacher_features
    student = fast_student(
        warm_start=True, early_stopping=True, validation_fraction=0.2, max_epochs=1
    )
    first = held_out_by(student, X, y, groups, monkeypatch)
    assert first
    assert held_out_by(student, X, y, groups, monkeypatch) == first
    student.set_params(warm_start=False, random_state=5)
    assert held_out_by(student, X, y, groups, monkeypatch) != first


def test_the_weight_of_a_chunk_counts(teacher_features):
    X, y, _ = teacher_features
    probabilities = []
    for weight in (1.0, 100.0):
        student = fast_student(random_state=0).partial_fit(X[:60], y[:60])
        student.partial_fit(X[60:], y[60:], sample_weight=np.full(60, weight))
        probabilities.append(student.predict_proba(X))
    assert not np.array_equal(*probabilities)


def test_chunks_are_not_balanced_one_by_one(teacher_features):
    X, y, _ = teacher_features
    with pytest.raises(ValueError, match="compute_class_weight"):
        fast_student(class_weight="balanced").partial_fit(X, y)


def test_a_failed_refit_leaves_an_unfitted_student(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y)
    with pytest.raises(ValueError, match="adds up to 20"):
        student.set_params(teacher_dims=(8, 12)).fit(X, y)
    with pytest.raises(NotFittedError):
        student.predict(X)


def test_a_first_fit_that_dies_is_no_fit(teacher_features):
    class Dying(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("out of coffee")

    X, y, _ = teacher_features
    student = fast_student(callbacks=[Dying()])
    with pytest.raises(RuntimeError, match="coffee"):
        student.fit(X, y)
    with pytest.raises(NotFittedError):
        student.predict(X)


def test_skorchs_own_forward_gives_logits(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y)
    logits = student.forward(np.asarray(X))
    np.testing.assert_allclose(
        logits.log_softmax(dim=1).numpy(), student.predict_log_proba(X), atol=1e-5
    )


@pytest.mark.parametrize("change", [{"n_members": 2}, {"depth": 2}, {"token_dim": 4}])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_another_network_is_not_continued(change, method, teacher_features):
    X, y, _ = teacher_features
    student = fast_student(warm_start=True).fit(X, y).set_params(**change)
    with pytest.raises(ValueError, match=f"{next(iter(change))}.*warm_start=False"):
        getattr(student, method)(X, y)
    assert student.set_params(warm_start=False).fit(X, y).predict(X).shape == (len(y),)
