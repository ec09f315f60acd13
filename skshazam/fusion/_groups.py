"""The patient of each sample, checked."""

import numpy as np
from sklearn.utils import check_consistent_length

__all__ = ["validated_groups"]


def validated_groups(groups, X) -> np.ndarray | None:
    """Return the groups of a call to ``fit``, checked.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        As the user gave them.
    X : ndarray of shape (n_samples, n_features)
        The samples.

    Returns
    -------
    groups : ndarray of shape (n_samples,) or None
        None of them missing.

    Raises
    ------
    ValueError
        There are not as many groups as samples, or some are None or NaN.
    """
    if groups is None:
        return None
    groups = np.asarray(groups)
    check_consistent_length(X, groups)
    if any(group is None or group != group for group in groups):
        raise ValueError(
            "groups holds missing values. Give every sample a patient: one of its own "
            "if it is unknown."
        )
    return groups
