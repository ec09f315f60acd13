"""Intervals that respect patients."""

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils import check_consistent_length, check_random_state

__all__ = ["patient_bootstrap_interval"]


def patient_bootstrap_interval(
    y_true, y_pred, groups, *, n_resamples=1000, level=0.95, random_state=None
):
    """Return a bootstrap interval of balanced accuracy, resampling patients.

    Tiles of one patient are alike, so that resampling tiles would promise far more
    certainty than there is.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True classes.
    y_pred : array-like of shape (n_samples,)
        Predicted classes.
    groups : array-like of shape (n_samples,)
        Patient of each sample.
    n_resamples : int, default=1000
        Bootstrap samples.
    level : float, default=0.95
        Coverage of the interval.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    low, high : float
        Percentile interval. A class that a resample lacks does not count in it.

    Raises
    ------
    ValueError
        There is only one patient.

    Examples
    --------
    >>> from skshazam.benchmark import patient_bootstrap_interval
    >>> patient_bootstrap_interval(["a", "b"] * 4, ["a", "b"] * 4, list("AABBCCDD"))
    (1.0, 1.0)
    """
    check_consistent_length(y_true, y_pred, groups)
    rng = check_random_state(random_state)
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    labels = np.unique(np.concatenate([y_true, y_pred]))
    patients, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(patients) < 2:
        raise ValueError(
            "groups holds a single patient; an interval over patients needs at least 2."
        )
    of_patient = np.stack(
        [
            confusion_matrix(y_true[codes == i], y_pred[codes == i], labels=labels)
            for i in range(len(patients))
        ]
    )
    shares = np.full(len(patients), 1 / len(patients))
    times_drawn = rng.multinomial(len(patients), shares, size=n_resamples)
    confusions = np.tensordot(times_drawn, of_patient, axes=1)  # (n_resamples, C, C)
    totals = confusions.sum(axis=2)
    right = np.diagonal(confusions, axis1=1, axis2=2)
    recalls = np.divide(
        right, totals, out=np.full(totals.shape, np.nan), where=totals > 0
    )
    scores = np.nanmean(recalls, axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(scores, (tail, 1 - tail))
    return float(low), float(high)
