"""Training on a GPU, and what of it reaches a machine without one."""

import pickle

import numpy as np
import pytest
import torch
from skorch.exceptions import DeviceWarning

from tests.fusion.students import fast_student

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


def test_a_device_index_this_machine_lacks_is_a_value_error(teacher_features):
    X, y, _ = teacher_features
    device = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=device):
        fast_student(device=device).fit(X, y)
