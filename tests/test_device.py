"""Device and precision parameters become what torch understands, or a clear error."""

import pytest
import torch

from skshazam._device import resolve_device, resolve_precision

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))


@pytest.fixture
def accelerators(monkeypatch):
    """Pretend that torch sees these accelerators and no others."""

    def pretend(*, cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: cuda - 1)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, "cpu"),
        ({"mps": True}, "mps"),
        ({"cuda": 2}, "cuda:1"),
        ({"cuda": 1, "mps": True}, "cuda:0"),
    ],
)
def test_auto_prefers_the_current_cuda_device_then_mps_then_cpu(
    accelerators, seen, expected
):
    accelerators(**seen)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("device", ["cpu", CPU])
def test_an_explicit_device_is_taken_as_it_is(accelerators, device):
    accelerators(cuda=1)
    assert resolve_device(device) == CPU


def test_cuda_without_a_number_is_the_device_that_auto_finds(accelerators):
    accelerators(cuda=2)
    assert resolve_device("cuda") == resolve_device("auto")


@pytest.mark.parametrize("device", ["gpu", "cuda:one", "", None, 1.5, ["cpu"]])
def test_no_device_is_refused_with_the_names_that_work(device):
    with pytest.raises(ValueError, match=r"not a torch device.*'auto', 'cpu'"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", CUDA, "mps", MPS])
def test_an_absent_accelerator_is_refused_by_name(accelerators, device):
    accelerators()
    with pytest.raises(ValueError, match=f"{torch.device(device).type}.*device='auto'"):
        resolve_device(device)


def test_a_cuda_number_beyond_the_last_is_refused(accelerators):
    accelerators(cuda=1)
    with pytest.raises(ValueError, match="cuda:7"):
        resolve_device("cuda:7")


@pytest.mark.parametrize("preferred", ["float32", "float16", "bfloat16"])
def test_auto_precision_follows_the_teacher_on_cuda_only(preferred):
    assert resolve_precision("auto", preferred, CUDA) == getattr(torch, preferred)
    assert resolve_precision("auto", preferred, CPU) == torch.float32
    assert resolve_precision("auto", preferred, MPS) == torch.float32


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_an_explicit_precision_wins_over_the_teacher(precision):
    for device in (CPU, CUDA):
        resolved = resolve_precision(precision, "bfloat16", device)
        assert resolved == getattr(torch, precision)
