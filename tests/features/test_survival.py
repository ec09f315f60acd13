"""Extractions that are killed, or that run side by side; longer runs by hand."""

import os

import numpy as np
import pytest

from tests.survival import (
    BATCH,
    expected_features,
    killed_until_done,
    make_images,
    n_repeated,
    n_wrong_rows,
    run_together,
    teachers_that_report,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def images():
    return make_images(160)


@pytest.fixture
def reporting(tmp_path):
    return teachers_that_report(tmp_path)


def test_a_killed_extraction_loses_only_the_batch_in_flight(
    tmp_path, images, reporting
):
    specs, logs = reporting
    expected = expected_features(images)
    path = tmp_path / "store"
    rng = np.random.default_rng(0)
    kills, exits = killed_until_done(images, specs, path, rng, n_kills=6)
    assert exits == [0]
    assert kills > 0
    # Nothing is missing, and nothing has to be computed any more.
    assert n_wrong_rows(images, specs, path, expected) == (0, 0)
    for log in logs:
        assert n_repeated(log) <= kills * BATCH


def test_extractions_side_by_side_share_the_work(tmp_path, images, reporting):
    specs, logs = reporting
    expected = expected_features(images)
    path = tmp_path / "store"
    assert run_together(images, specs, path, n_writers=4) == [0, 0, 0, 0]
    assert n_wrong_rows(images, specs, path, expected) == (0, 0)
    for log in logs:
        # Alone, each would compute all: 480 images would be computed again.
        assert n_repeated(log) < 120
