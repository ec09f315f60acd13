"""Several methods on the same patient-grouped folds, as records."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import has_fit_parameter

from skshazam.benchmark._statistics import patient_bootstrap_interval

__all__ = ["Comparison", "compare_methods"]


@dataclass(frozen=True)
class Comparison:
    """Outcome of a comparison.

    Parameters
    ----------
    records : list of dict
        One flat dict per method and fold: method, fold, seed, metric, value, seconds.
    predictions : dict of str to ndarray of shape (n_samples,)
        Out-of-fold predictions of each method.
    pooled : dict of str to float
        Balanced accuracy of each method's out-of-fold predictions taken together.
    intervals : dict of str to (float, float)
        95 % bootstrap interval over patients of `pooled`.
    """

    records: list[dict]
    predictions: dict[str, np.ndarray]
    pooled: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def scores(self) -> dict[str, list[float]]:
        """Return the scores of each method.

        Returns
        -------
        scores : dict of str to list of float
            Balanced accuracy in each fold, in fold order.
        """
        scores: dict[str, list[float]] = {}
        for record in self.records:
            scores.setdefault(record["method"], []).append(record["value"])
        return scores


def compare_methods(
    methods: Mapping[str, tuple[ClassifierMixin, np.ndarray]],
    y,
    groups,
    *,
    n_splits: int = 5,
    random_state: int = 0,
    on_fold: Callable[[str, int], None] | None = None,
) -> Comparison:
    """Cross-validate methods on the same folds; a patient is in one fold only.

    Parameters
    ----------
    methods : dict of str to (classifier, array-like)
        For each method a classifier and the features it sees, one row a sample. A
        ``fit`` that takes ``groups`` gets them; so does a search, for its inner folds.
    y : ndarray of shape (n_samples,)
        Labels.
    groups : ndarray of shape (n_samples,)
        Patient of each sample.
    n_splits : int, default=5
        Folds.
    random_state : int, default=0
        Seed of the folds.
    on_fold : callable, default=None
        Called with the method's name and the fold's number after each fit.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    ValueError
        A method is not a pair.
    """
    y, groups = np.asarray(y), np.asarray(groups)
    for name, method in methods.items():
        if not isinstance(method, tuple) or len(method) != 2:
            raise ValueError(
                f"methods[{name!r}]={method!r}; expected a pair (classifier, X): "
                "compare_methods({" + repr(name) + ": (classifier, X)}, y, groups)."
            )
    folds = list(
        StratifiedGroupKFold(n_splits, shuffle=True, random_state=random_state).split(
            y, y, groups
        )
    )
    records, predictions = [], {}
    for name, (classifier, X) in methods.items():
        predicted = np.empty_like(y)
        for fold, (train, test) in enumerate(folds):
            start = time.perf_counter()
            model = clone(classifier)
            of_train = {"groups": groups[train]} if _takes_groups(model) else {}
            model.fit(_safe_indexing(X, train), y[train], **of_train)
            predicted[test] = model.predict(_safe_indexing(X, test))
            records.append(
                {
                    "method": name,
                    "fold": fold,
                    "seed": random_state,
                    "metric": "balanced_accuracy",
                    "value": balanced_recall(y[test], predicted[test]),
                    "seconds": time.perf_counter() - start,
                }
            )
            if on_fold is not None:
                on_fold(name, fold)
        predictions[name] = predicted
    intervals = {
        name: patient_bootstrap_interval(
            y, predicted, groups, random_state=random_state
        )
        for name, predicted in predictions.items()
    }
    pooled = {name: balanced_recall(y, found) for name, found in predictions.items()}
    return Comparison(records, predictions, pooled, intervals)


def _takes_groups(classifier) -> bool:
    """Return whether ``fit`` makes use of patients."""
    is_search = isinstance(classifier, BaseSearchCV)
    return is_search or has_fit_parameter(classifier, "groups")


def balanced_recall(y_true, y_pred) -> float:
    """Return balanced accuracy over the classes that occur; a fold may lack some."""
    labels = np.unique(y_true)
    return float(recall_score(y_true, y_pred, labels=labels, average="macro"))
