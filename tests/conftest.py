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
from skshazam.teachers import _hub, _loading, unload_teachers
from tests.fake_hub import FakeHub

torch.set_num_threads(1)


_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo


class NetworkForbiddenError(RuntimeError):
    """A test tried to open a connection."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise NetworkForbiddenError("tests open no connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def loopback(no_network, monkeypatch):
    """Let a test connect to this machine, and to no other."""

    def check(host):
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise NetworkForbiddenError(f"this test connects to loopback, not {host!r}")

    def only_here(method):
        def call(self, address):
            check(address[0])
            return method(self, address)

        return call

    def getaddrinfo(host, *args, **kwargs):
        check(host)
        return _getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", only_here(_connect))
    monkeypatch.setattr(socket.socket, "connect_ex", only_here(_connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def fake_hub(loopback, monkeypatch, tmp_path):
    """A Hub on loopback that the Hub's client talks to, with an empty cache."""
    from huggingface_hub import close_session, constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    with FakeHub() as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        # The client reads these when it is asked, its environment only when imported.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # Or the client asks, now and then, for a list of names of its callers.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(_hub, "_PAUSE", 0)
        close_session()
        yield hub
        close_session()


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
