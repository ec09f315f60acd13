"""Splits inside the training data; a patient is never on both sides of one."""

import warnings
from collections.abc import Iterable
from numbers import Integral

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv

__all__ = ["inner_splits"]


def inner_splits(cv, y, groups, rows) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return splits to learn from predictions of rows that were not trained on.

    Parameters
    ----------
    cv : int, splitter, iterable or None
        As in scikit-learn; an int is that many stratified folds, of whole groups if
        there are groups.
    y : ndarray of shape (n_samples,)
        Labels.
    groups : ndarray of shape (n_samples,) or None
        Patient of each row.
    rows : ndarray of shape (n_rows,), dtype=int
        Rows that are split, in ascending order; the others are on neither side.

    Returns
    -------
    splits : list of tuple of (ndarray, ndarray), dtype=int
        Training and held-out rows; no row is held out twice. Splits whose training part
        has only one class are left out.

    Raises
    ------
    ValueError
        There are fewer groups than folds; or ``cv`` holds a row out twice, or has a
        group on both sides.
    """
    # An iterable holds positions among all rows; a splitter makes its own.
    everything = np.arange(len(y))
    among = everything if isinstance(cv, Iterable) else rows
    groups_among = None if groups is None else groups[among]
    splitter = _splitter(cv, y[among], groups_among)
    with warnings.catch_warnings():
        # A splitter that ignores them is noticed below, if it matters.
        warnings.filterwarnings("ignore", "The groups parameter is ignored")
        splits = [
            (among[train], among[held_out])
            for train, held_out in splitter.split(
                np.zeros((len(among), 1)), y[among], groups_among
            )
        ]
    _refuse_repeated_rows(splits, len(y))
    if groups is not None:
        _refuse_shared_groups(splits, groups)
    splits = [tuple(part[np.isin(part, rows)] for part in split) for split in splits]
    return [
        (train, held_out)
        for train, held_out in splits
        if len(held_out) and len(np.unique(y[train])) > 1
    ]


def _splitter(cv, y, groups):
    """Return a splitter; stratified folds of whole groups for an int."""
    if cv is not None and not isinstance(cv, Integral):
        return check_cv(cv)
    n_folds = 5 if cv is None else cv
    n_groups = len(y) if groups is None else len(np.unique(groups))
    if n_groups < n_folds:
        unit = "rows" if groups is None else "groups"
        raise ValueError(
            f"cv={n_folds} needs at least {n_folds} {unit}, got {n_groups}. Pass more "
            f"{unit}" + (f", or cv={n_groups}." if n_groups > 1 else ".")
        )
    most = np.unique(y, return_counts=True)[1].max()
    if most < n_folds:
        raise ValueError(
            f"cv={n_folds} needs a class of at least {n_folds} rows, but the largest "
            f"has {most}. Pass more rows of each class"
            + (f", or cv={most}." if most > 1 else ".")
        )
    return StratifiedKFold(n_folds) if groups is None else StratifiedGroupKFold(n_folds)


def _refuse_repeated_rows(splits, n_rows: int) -> None:
    if not splits:
        raise ValueError("cv holds no split. Pass cv=5.")
    held_out = np.concatenate([held_out for _, held_out in splits])
    times = np.bincount(held_out, minlength=n_rows)
    if times.max() > 1:
        raise ValueError(
            f"cv holds row {times.argmax()} out {times.max()} times. Every row is "
            "predicted at most once: pass a KFold, not a repeated or random splitter."
        )


def _refuse_shared_groups(splits, groups) -> None:
    for train, held_out in splits:
        shared = np.intersect1d(groups[train], groups[held_out])
        if len(shared):
            raise ValueError(
                f"cv has rows of group {shared.tolist()[0]!r} in the training and in "
                "the held-out part of a split. Pass cv=5, which keeps groups whole, or "
                "a splitter that does: StratifiedGroupKFold(5)."
            )
