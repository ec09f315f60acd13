"""Which training rows are held out for early stopping; a group never straddles."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

__all__ = ["validation_rows"]

# Among this many random splits the one with the most faithful class shares is taken.
_N_CANDIDATES = 20


def validation_rows(codes, groups, fraction: float, seed: int) -> np.ndarray:
    """Choose rows for validation, all classes staying in the training part.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), dtype=int
        Class of each row.
    groups : ndarray of shape (n_samples,) or None
        Patient of each row; None makes every row its own patient.
    fraction : float
        Share of groups to hold out.
    seed : int
        Seed of the random splits.

    Returns
    -------
    held_out : ndarray of shape (n_samples,), dtype=bool
        True for validation rows.

    Raises
    ------
    ValueError
        There are too few groups, or each split takes all rows of a class.
    """
    n_groups = len(codes) if groups is None else len(np.unique(groups))
    unit = "rows" if groups is None else "groups"
    if n_groups < 2:
        raise ValueError(
            f"early_stopping=True needs at least 2 {unit} to hold some out, got "
            f"{n_groups}. Pass more data or early_stopping=False."
        )
    splitter = GroupShuffleSplit(
        _N_CANDIDATES,
        test_size=min(max(1, round(fraction * n_groups)), n_groups - 1),
        random_state=seed,
    )
    counts = np.bincount(codes)
    best, best_distance = None, np.inf
    for _, held_out in splitter.split(
        codes, groups=np.arange(n_groups) if groups is None else groups
    ):
        held = np.bincount(codes[held_out], minlength=len(counts))
        distance = np.abs(held / held.sum() - counts / counts.sum()).sum()
        if (held < counts).all() and distance < best_distance:
            best, best_distance = held_out, distance
    if best is None:
        raise ValueError(
            f"early_stopping=True: holding out {fraction:.0%} of {n_groups} {unit} "
            "always takes every row of some class. Pass data of more "
            f"{'patients' if groups is not None else 'rows'} per class, a smaller "
            "validation_fraction, or early_stopping=False."
        )
    return np.isin(np.arange(len(codes)), best)
