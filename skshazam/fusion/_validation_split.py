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
        There are too few groups, or every split tried takes all rows of a class.
    """
    unit = "rows" if groups is None else "groups"
    groups = np.arange(len(codes)) if groups is None else groups
    names, of_row = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"early_stopping=True needs at least 2 {unit} to hold some out, got "
            f"{len(names)}. Pass more data or early_stopping=False."
        )
    free = ~np.isin(of_row, _sole_holders(codes, of_row))
    n_free = len(np.unique(of_row[free]))
    n_held = min(max(1, round(fraction * len(names))), n_free)
    refusal = (
        f"early_stopping=True: holding out {n_held or 1} of {len(names)} {unit} takes "
        f"every row of some class. Pass more {unit} per class, a smaller "
        "validation_fraction, or early_stopping=False."
    )
    if n_free < 2:
        raise ValueError(refusal)
    rows = np.flatnonzero(free)
    splitter = GroupShuffleSplit(
        _N_CANDIDATES, test_size=min(n_held, n_free - 1), random_state=seed
    )
    counts = np.bincount(codes)
    best, best_distance = None, np.inf
    for _, held_out in splitter.split(rows, groups=of_row[rows]):
        held = np.bincount(codes[rows[held_out]], minlength=len(counts))
        distance = np.abs(held / held.sum() - counts / counts.sum()).sum()
        if (held < counts).all() and distance < best_distance:
            best, best_distance = rows[held_out], distance
    if best is None:
        raise ValueError(refusal)
    return np.isin(np.arange(len(codes)), best)


def _sole_holders(codes: np.ndarray, of_row: np.ndarray) -> np.ndarray:
    """Return the groups that hold a class which no other group has."""
    pairs = np.unique(np.column_stack([codes, of_row]), axis=0)
    n_holders = np.bincount(pairs[:, 0])
    return pairs[n_holders[pairs[:, 0]] == 1, 1]
