"""scikit-learn's own checks of an estimator; the only expected failure is listed."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skshazam import ShazamClassifier

# Few steps at a high rate; the checks want a student that separates three blobs.
FAST = {
    "token_dim": 8,
    "depth": 1,
    "max_epochs": 10,
    "batch_size": 16,
    "lr": 0.05,
    "device": "cpu",
    "random_state": 0,
}

# Strict: a check of this table that passes fails the test.
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "mini-batches with shuffling: a repeated row changes the batches, a weight "
        "of 2 does not"
    ),
}


@pytest.mark.filterwarnings("ignore::skshazam.exceptions.UndeclaredBlocksWarning")
@parametrize_with_checks(
    [ShazamClassifier(**FAST), ShazamClassifier.from_preset("released", **FAST)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)
