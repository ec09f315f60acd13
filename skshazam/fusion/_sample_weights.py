"""How much each sample counts in the loss."""

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

__all__ = ["scaled_to_mean_one", "validated_weights", "with_class_weights"]


def validated_weights(sample_weight, X) -> np.ndarray | None:
    """Return the weights of a call to ``fit``, checked.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
        As the user gave them.
    X : ndarray of shape (n_samples, n_features)
        The samples.

    Returns
    -------
    weights : ndarray of shape (n_samples,), dtype=float64, or None
        Non-negative and not all zero.
    """
    if sample_weight is None:
        return None
    weights = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not weights.any():
        raise ValueError(
            "Sample weights must contain at least one non-zero number; all "
            f"{len(weights)} are zero."
        )
    return weights


def with_class_weights(weights, class_weight, y) -> np.ndarray | None:
    """Return sample times class weights.

    Parameters
    ----------
    weights : ndarray of shape (n_samples,) or None
        Sample weights.
    class_weight : dict, "balanced" or None
        Weight of each label.
    y : ndarray of shape (n_samples,)
        Labels.

    Returns
    -------
    weights : ndarray of shape (n_samples,), dtype=float64, or None
        None if neither is given.
    """
    if class_weight is None:
        return weights
    of_class = compute_sample_weight(class_weight, y)
    if of_class.min() < 0 or not of_class.any():
        raise ValueError(
            f"class_weight={class_weight} must hold non-negative weights, not all of "
            "them zero."
        )
    return of_class if weights is None else weights * of_class


def scaled_to_mean_one(weights: np.ndarray, held_out: np.ndarray | None) -> np.ndarray:
    """Return weights whose mean is 1 among the training and the held-out rows.

    Parameters
    ----------
    weights : ndarray of shape (n_samples,)
        Non-negative.
    held_out : ndarray of shape (n_samples,), dtype=bool, or None
        Rows for validation; each part is scaled by itself.

    Returns
    -------
    weights : ndarray of shape (n_samples,), dtype=float64
        A part that is all 0 stays so.
    """
    scaled = weights.astype(np.float64)
    parts = [slice(None)] if held_out is None else [held_out, ~held_out]
    for part in parts:
        scaled[part] /= scaled[part].mean() or 1
    return scaled
