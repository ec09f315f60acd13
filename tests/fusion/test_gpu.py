"""Training on a GPU, and what of it reaches a machine without one."""

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from skorch.exceptions import DeviceWarning

from tests.fusion.students import Spy, fast_student

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_student_trained_on_a_gpu_predicts_the_same_without_one(
    teacher_features, monkeypatch
):
    X, y, _ = teacher_features
    student = fast_student(device="cuda").fit(X, y)
    expected = student.predict_proba(X)
    pickled = pickle.dumps(student)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(DeviceWarning, match="device='cpu'"):
        moved = pickle.loads(pickled)
    assert next(moved.module_.parameters()).device.type == "cpu"
    np.testing.assert_allclose(moved.predict_proba(X), expected, atol=1e-4)
    moved.partial_fit(X, y)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_generator_of_the_gpu_is_left_alone(device, teacher_features):
    X, y, _ = teacher_features
    before = torch.cuda.get_rng_state()
    fast_student(device=device, dropout=0.5).fit(X, y)
    assert torch.equal(before, torch.cuda.get_rng_state())


def test_auto_is_the_gpu_and_learns_what_the_cpu_learns(teacher_features):
    X, y, _ = teacher_features
    on_gpu = fast_student(device="auto", max_epochs=40).fit(X, y)
    assert next(on_gpu.module_.parameters()).device.type == "cuda"
    assert on_gpu.score(X, y) > 0.9


@pytest.mark.parametrize("changes", [{}, {"n_members": 2}, {"early_stopping": True}])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_fit_keeps_its_data_on_the_gpu(changes, dtype, teacher_features):
    X, y, groups = teacher_features
    spy = Spy()
    student = fast_student(device="cuda", callbacks=[spy], **changes)
    student.fit(X.astype(dtype), y, groups=groups)
    assert {spy.data[name].device.type for name in ("features", "targets")} == {"cuda"}
    assert spy.codes.device.type == "cuda"
    assert spy.data["features"].dtype == torch.from_numpy(np.empty(0, dtype)).dtype


def test_data_too_large_for_the_gpu_go_there_batch_by_batch(
    teacher_features, monkeypatch
):
    X, y, groups = teacher_features
    changes = {"device": "cuda", "early_stopping": True, "dropout": 0.0}
    resident = fast_student(**changes).fit(X, y, groups=groups)
    monkeypatch.setattr("skshazam.fusion._residence._free_bytes", lambda device: 0)
    spy = Spy()
    moved = fast_student(callbacks=[spy], **changes).fit(X, y, groups=groups)
    assert spy.data["features"].device.type == "cpu"
    np.testing.assert_allclose(
        moved.predict_proba(X), resident.predict_proba(X), atol=1e-3
    )


def test_no_step_waits_for_the_gpu(teacher_features):
    X, y, _ = teacher_features

    class Watch(Callback):
        """Let torch refuse every wait from the first step to the last."""

        def on_batch_begin(self, net, **kwargs):
            torch.cuda.set_sync_debug_mode("error")

        def on_batch_end(self, net, **kwargs):
            torch.cuda.set_sync_debug_mode("default")

    try:
        fast_student(device="cuda", callbacks=[Watch()]).fit(X, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_pickle_continues_on_the_gpu_where_it_stopped(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(device="cuda", n_members=2).fit(X, y)
    twin = pickle.loads(pickle.dumps(student))
    first, second = (
        each.partial_fit(X, y).predict_proba(X) for each in (student, twin)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_device_index_this_machine_lacks_is_a_value_error(teacher_features):
    X, y, _ = teacher_features
    device = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=device):
        fast_student(device=device).fit(X, y)
