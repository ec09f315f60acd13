"""Memory, threads and waiting: what a fit leaves alone, and what it does only once."""

import pickle
import threading

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skshazam._randomness import private_randomness
from skshazam.fusion import _residence
from skshazam.fusion._column_statistics import column_statistics
from skshazam.fusion._feature_tensor import as_tensor
from skshazam.networks import DistillationTargets
from tests.fusion.students import Spy, equal_states, fast_student, state_of

# ------------------------------------------------------------------ half precision


class Batches(Callback):
    """Keep what every step was given and gave."""

    def on_train_begin(self, net, **kwargs):
        self.begun, self.ended, self.losses = [], [], []

    def on_batch_begin(self, net, batch, training, **kwargs):
        self.begun.append((batch, training))

    def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
        self.ended.append((batch, training, loss, y_pred))
        self.losses.append(net.history[-1]["batches"][-1]["train_loss"])


@pytest.mark.parametrize("changes", [{}, {"n_members": 2}, {"early_stopping": True}])
def test_half_precision_stays_until_the_batch_and_changes_nothing(
    changes, teacher_features
):
    X, y, _ = teacher_features
    half = X.astype(np.float16)
    spy, batches = Spy(), Batches()
    student = fast_student(callbacks=[spy, batches], **changes)
    if changes.get("early_stopping"):
        student.set_params(callbacks=[spy])
    student.fit(half, y)
    assert student.teacher_dims_ == (8, 12, 16)
    assert spy.data["features"].dtype == torch.float16
    assert np.shares_memory(spy.data["features"].numpy(), half)
    single = fast_student(**changes).fit(half.astype(np.float32), y)
    assert equal_states(state_of(student), state_of(single))
    expected = single.predict_proba(half.astype(np.float32))
    assert np.array_equal(student.predict_proba(half), expected)
    assert expected.dtype == student.transform(half).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_read_only_memory_map_is_not_copied(dtype, teacher_features, tmp_path):
    X, y, _ = teacher_features
    plain = np.asarray(X, dtype=dtype)
    np.save(tmp_path / "X.npy", plain)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.shares_memory(as_tensor(mapped).numpy(), mapped)
    spy = Spy()
    dims = {"teacher_dims": X.teacher_blocks.dims}
    student = fast_student(callbacks=[spy], **dims).fit(mapped, y)
    assert np.shares_memory(spy.data["features"].numpy(), mapped)
    assert equal_states(state_of(student), state_of(fast_student(**dims).fit(plain, y)))
    assert np.array_equal(student.predict_proba(mapped), student.predict_proba(plain))


def test_holding_rows_out_copies_no_features(teacher_features):
    X, y, groups = teacher_features
    X = np.ascontiguousarray(X)
    parts = []

    class Parts(Callback):
        def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
            parts.extend([dataset_train, dataset_valid])

    student = fast_student(
        teacher_dims=(8, 12, 16),
        early_stopping=True,
        max_epochs=1,
        callbacks=[spy := Spy(), Parts()],
    ).fit(X, y, groups=groups)
    codes = np.searchsorted(student.classes_, y)
    for part, rows in zip(parts, (~spy.held_out, spy.held_out), strict=True):
        assert np.shares_memory(part.tensors["features"].numpy(), X)
        assert len(part) == rows.sum()
        assert np.array_equal(part.X["features"], X[rows])
        assert np.array_equal(part.y, codes[rows])


# ---------------------------------------------------------------------- statistics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 300])
def test_statistics_are_those_of_float64(dtype, n_rows):
    rng = np.random.default_rng(0)
    columns = rng.normal([0, 1e3, -5], [1, 0.1, 1e2], (n_rows, 3))
    features = torch.from_numpy(columns).to(dtype)
    features[:, 2] = 1.7
    held_out = None
    counted = features.double().numpy()
    if n_rows > 60:
        held_out = torch.from_numpy(rng.random(n_rows) < 0.3)
        held_out[:3] = True
        counted = counted[~held_out.numpy()]
    mean, scale = column_statistics(features, held_out)
    scaler = StandardScaler().fit(counted)
    np.testing.assert_allclose(mean, counted.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(scale, np.sqrt(scaler.var_), rtol=1e-9, atol=1e-12)
    assert scale[2] == 0


def test_a_large_mean_costs_the_scale_no_digits():
    features = 1e6 + torch.arange(1000.0)[:, None] % 7
    expected = features.double().numpy().std(axis=0)
    np.testing.assert_allclose(column_statistics(features)[1], expected, rtol=1e-12)


# ------------------------------------------------------------------------- waiting


def test_losses_are_tensors_in_an_epoch_and_numbers_after_it(teacher_features):
    X, y, _ = teacher_features
    batches = Batches()
    student = fast_student(batch_size=50, max_epochs=2, callbacks=[batches]).fit(X, y)
    assert len(batches.begun) == len(batches.ended) == 2 * 3
    for (batch, training), (same, also, loss, outputs) in zip(
        batches.begun, batches.ended, strict=True
    ):
        assert batch is same
        assert training is also is True
        assert loss.shape == ()
        assert outputs[0][0].shape == (len(batch[1]), 3)
    assert all(isinstance(loss, torch.Tensor) for loss in batches.losses)
    assert not any(loss.requires_grad for loss in batches.losses)
    recorded = student.history_[:, "batches", :, "train_loss"]
    assert [loss for epoch in recorded for loss in epoch] == [
        loss.item() for loss in batches.losses
    ]
    assert all(type(loss) is float for epoch in recorded for loss in epoch)
    sizes = np.array(student.history_[0, "batches", :, "train_batch_size"])
    assert sizes.tolist() == [50, 50, 20]
    assert student.history_[0, "train_loss"] == pytest.approx(
        np.average(recorded[0], weights=sizes)
    )


def test_an_interrupted_epoch_leaves_numbers_too(teacher_features):
    class Stop(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    X, y, _ = teacher_features
    student = fast_student(callbacks=[Stop()]).fit(X, y)
    assert type(student.history_[0, "batches", 0, "train_loss"]) is float


def test_a_callback_may_predict_between_two_steps(teacher_features):
    class Predicting(Callback):
        def on_batch_end(self, net, batch, **kwargs):
            net.predict_proba(batch[0])

    X, y, _ = teacher_features
    watched = fast_student(dropout=0.5, callbacks=[Predicting()]).fit(X, y)
    assert equal_states(
        state_of(watched), state_of(fast_student(dropout=0.5).fit(X, y))
    )


# ---------------------------------------------------------- work that is done once


@pytest.fixture
def mapped_rows(monkeypatch):
    """Return how many rows the frozen maps were asked for, call by call."""
    counts = []
    original = DistillationTargets.forward

    def counting(self, features, tokens):
        counts.append(len(features))
        return original(self, features, tokens)

    monkeypatch.setattr(DistillationTargets, "forward", counting)
    return counts


def test_targets_are_not_computed_in_prediction(mapped_rows, teacher_features):
    X, y, _ = teacher_features
    student = fast_student(distillation_target="trained", early_stopping=True)
    student.fit(X, y)
    assert sum(mapped_rows) == student.n_iter_ * 108
    student.predict_proba(X)
    student.transform(X)
    assert sum(mapped_rows) == student.n_iter_ * 108


@pytest.mark.parametrize("n_members", [1, 2])
def test_frozen_targets_computed_once_are_those_of_every_batch(
    n_members, mapped_rows, monkeypatch, teacher_features
):
    X, y, _ = teacher_features
    changes = {"n_members": n_members, "token_dim": 16, "max_epochs": 3}
    once = fast_student(**changes).fit(X, y)
    assert mapped_rows == []
    monkeypatch.setattr(_residence, "MODEST", 0)
    every_batch = fast_student(**changes).fit(X, y)
    assert sum(mapped_rows) == 3 * 120 * n_members
    np.testing.assert_allclose(
        once.history_[:, "train_loss"], every_batch.history_[:, "train_loss"], rtol=1e-5
    )


@pytest.mark.parametrize("target", ["frozen", "trained"])
def test_without_distillation_no_target_is_computed(
    target, mapped_rows, teacher_features
):
    X, y, _ = teacher_features
    spy = Spy()
    changes = {"distillation_target": target, "callbacks": [spy]}
    fast_student(distillation_weight=0, **changes).fit(X, y)
    assert mapped_rows == []
    assert "targets" not in spy.data
    fast_student(distillation_weight=0.1, **changes).fit(X, y)
    assert ("targets" in spy.data) == (target == "frozen")


def test_what_is_fixed_may_take_as_much_memory_as_the_features(monkeypatch):
    features, device = torch.zeros(10, 4), torch.device("cpu")
    monkeypatch.setattr(_residence, "MODEST", 0)
    for width, kept in ((4, {"targets"}), (5, set())):
        found = _residence.fixed_outputs(
            lambda chunk, width=width: {"targets": chunk.new_ones(len(chunk), width)},
            features,
            device,
        )
        assert found.keys() == kept


def test_data_move_to_a_device_whose_memory_holds_them(monkeypatch):
    data = {"features": torch.zeros(10, 4), "held_out": torch.zeros(10, dtype=bool)}
    codes, device = torch.zeros(10, dtype=torch.int64), torch.device("meta")
    for free, where in ((2 * 170, "meta"), (2 * 170 - 1, "cpu")):
        monkeypatch.setattr(_residence, "_free_bytes", lambda device, free=free: free)
        moved, moved_codes = _residence.resident(data, codes, device)
        assert moved["features"].device.type == moved_codes.device.type == where
        assert moved["held_out"].device.type == "cpu"
    assert _residence.resident(data, codes, torch.device("cpu"))[0] is data


# ------------------------------------------------------------------------- threads


class Threads(Callback):
    """Note how many threads torch has in a step; fail if told to."""

    def __init__(self, failing=False):
        self.failing = failing

    def on_batch_end(self, net, **kwargs):
        self.seen = torch.get_num_threads()
        if self.failing:
            raise ZeroDivisionError


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_takes_one_thread_and_gives_back_the_others(
    method, three_threads, teacher_features
):
    X, y, _ = teacher_features
    threads = Threads()
    getattr(fast_student(callbacks=[threads]), method)(X, y)
    assert threads.seen == 1
    assert torch.get_num_threads() == 3


def test_threads_come_back_after_an_error(three_threads, teacher_features):
    X, y, _ = teacher_features
    threads = Threads(failing=True)
    with pytest.raises(ZeroDivisionError):
        fast_student(callbacks=[threads]).fit(X, y)
    assert threads.seen == 1
    assert torch.get_num_threads() == 3


def test_prediction_takes_one_thread_and_gives_back_the_others(
    three_threads, teacher_features
):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y)
    seen = []
    student.module_.register_forward_hook(
        lambda *_: seen.append(torch.get_num_threads())
    )
    student.predict(X)
    assert seen == [1]
    assert torch.get_num_threads() == 3


def test_a_student_is_loaded_only_when_no_other_draws(teacher_features):
    X, y, _ = teacher_features
    dump = pickle.dumps(fast_student().fit(X, y))
    loaded = threading.Event()
    loading = threading.Thread(target=lambda: (pickle.loads(dump), loaded.set()))
    with private_randomness(0, torch.device("cpu")):
        loading.start()
        assert not loaded.wait(0.2)  # it would move the generator
    loading.join()
    assert loaded.is_set()
