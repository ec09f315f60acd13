"""Fixtures that every test gets: no network, fixed seeds, no drawing window."""

import os

# Before torch is imported: two OpenMP threads on busy cores can be a hundred times
# slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Before scikit-learn is: else its array API check is skipped.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import socket

import numpy as np
import pytest
import torch

from skshazam.datasets import make_teacher_features
from skshazam.teachers import _loading, unload_teachers

torch.set_num_threads(1)


class NetworkForbiddenError(RuntimeError):
    """A test tried to open a connection."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise NetworkForbiddenError("tests open no connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def fixed_seeds():
    np.random.seed(0)  # noqa: NPY002 - what random_state=None follows
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_teachers():
    yield
    unload_teachers()


@pytest.fixture
def builds(monkeypatch):
    """Record the names of the specs whose networks are built."""
    names = []
    build = _loading._build
    monkeypatch.setattr(
        _loading, "_build", lambda spec: (names.append(spec.name), build(spec))[1]
    )
    return names


@pytest.fixture(scope="session")
def teacher_features():
    """X, y, groups of three synthetic teachers; never modify them."""
    X, y, groups = make_teacher_features(random_state=0)
    X.flags.writeable = False
    return X, y, groups


@pytest.fixture
def tiles():
    """Six RGB tiles of two sizes, as arrays."""
    rng = np.random.default_rng(0)
    shapes = [(40, 40, 3)] * 4 + [(30, 50, 3)] * 2
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
