"""The patient of each sample, checked."""

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils._missing import is_scalar_nan

__all__ = ["validated_groups"]

_MISSING = (
    "groups holds missing values. Give every sample a patient: one of its own if it is "
    "unknown."
)


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
    if groups.ndim == 2 and groups.shape[1] == 1:
        groups = groups[:, 0]
    if groups.ndim != 1:
        raise ValueError(
            f"groups has shape {groups.shape}; expected one patient for each sample. "
            "Join several columns to one name: f'{patient}-{slide}'."
        )
    check_consistent_length(X, groups)
    if groups.dtype == object:
        if any(_is_missing(group) for group in groups):
            raise ValueError(_MISSING)
        if len({type(group) for group in groups}) > 1:
            # Numbers and names cannot be sorted; numbered by equality, 1 stays 1.0.
            numbers: dict = {}
            groups = np.array([numbers.setdefault(g, len(numbers)) for g in groups])
    elif groups.dtype.kind == "f" and np.isnan(groups).any():
        raise ValueError(_MISSING)
    return groups


def _is_missing(group) -> bool:
    """Return whether it is None, NaN or pandas's NA, which is not even itself."""
    return group is None or is_scalar_nan(group) or str(group) in ("<NA>", "NaT")
