"""extract_to_store on dask: a worker is killed half-way, and every row is exact."""

import logging
import os
import signal
import threading
import time

import numpy as np
import pytest

from skshazam.features import FeatureStore, extract_to_store, read_features
from tests.survival import expected_features, make_images, teachers_that_report

distributed = pytest.importorskip("distributed")


@pytest.fixture
def client(loopback, tmp_path):
    """Two worker processes that listen on loopback alone."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def kill_when_half_is_stored(pid, store, n_images):
    """Kill a worker as soon as half of the rows of two teachers are there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if sum(entry.rows for entry in store.info().teachers) >= n_images:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_worker_killed_half_way_costs_no_row(client, tmp_path):
    images = make_images(240)
    specs, _ = teachers_that_report(tmp_path)
    store = FeatureStore(tmp_path / "store")
    victim = min(client.run(os.getpid).values())
    killer = threading.Thread(
        target=kill_when_half_is_stored,
        args=(victim, FeatureStore(store.path), len(images)),
    )
    killer.start()
    extraction = extract_to_store(
        images,
        specs,
        store,
        device="cpu",
        batch_size=8,
        executor=client.get_executor(),
        task_size=24,
    )
    killer.join()
    client.wait_for_workers(2, timeout=60)
    assert victim not in client.run(os.getpid).values()
    assert not extraction.errors
    features = read_features(extraction.digests, specs, store)
    expected = expected_features(images)
    np.testing.assert_allclose(features, expected, rtol=2**-10, atol=1e-5)
    store.compact()
    assert {entry.rows for entry in store.info().teachers} == {len(images)}
