"""LateFusionClassifier: one classifier per teacher, fused by their probabilities."""

from numbers import Integral
from typing import ClassVar

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.fusion._block_learning import BlockLearning
from skshazam.fusion._fit_arguments import fit_arguments, refuse_lost_weights
from skshazam.fusion._groups import validated_groups
from skshazam.fusion._inner_splits import inner_splits
from skshazam.fusion._sample_weights import validated_weights

__all__ = ["LateFusionClassifier", "logistic_regression"]

# A classifier's 0 would be a veto in a product, and outweigh everything in a stack.
# Of 1e-6 to 1e-2, this did best for both on four public sets.
LEAST_PROBABILITY = 1e-3


def logistic_regression(C: float):
    """Return a logistic regression that takes sample weights, routed or not.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty.

    Returns
    -------
    classifier : LogisticRegression
    """
    return _weighted(LogisticRegression(C=C, max_iter=1000))


def _weighted(estimator):
    if sklearn.get_config()["enable_metadata_routing"]:
        estimator.set_fit_request(sample_weight=True)
    return estimator


class LateFusionClassifier(BlockLearning, ClassifierMixin, BaseEstimator):
    """Base of the estimators that train one classifier per teacher and fuse them.

    A subclass implements ``_fused(probabilities)`` and, if there is something to learn,
    ``_learn_fusion(X, y, metadata, arguments)``.

    Parameters
    ----------
    estimator : classifier or None
        Cloned for each teacher.
    teacher_dims : sequence of int or None
        Widths of the teachers' blocks.
    n_jobs : int or None
        Fits that run at once.
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit"]), None],
        "teacher_dims": ["array-like", None],
        "n_jobs": [None, Integral],
    }

    # ---------------------------------------------------------------- fitting

    def fit(self, X, y, sample_weight=None, groups=None):
        """Train one classifier per teacher, and what fuses them.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Feature blocks side by side; converted to float32 unless they are float64.
        y : array-like of shape (n_samples,)
            Class labels, numbers or strings.
        sample_weight : array-like of shape (n_samples,), default=None
            Handed to every estimator as they are: a weight of 2 is two rows, and small
            weights are few rows, for which a logistic regression is regularised more.
            Scale them to mean 1 unless you mean that. Rows of weight 0 are left out.
        groups : array-like of shape (n_samples,), default=None
            Patient of each sample. No patient is on both sides of a split that is made
            here. Also handed to ``estimator`` if it takes groups, such as a search,
            which heeds them if its ``cv`` does: ``cv=StratifiedGroupKFold()``. A
            classifier that calibrates itself inside splits by row.

        Returns
        -------
        self : LateFusionClassifier
        """
        vars(self).pop("estimators_", None)  # not fitted, should this fit fail
        X, y, metadata = self._validate_training_data(X, y, sample_weight, groups)
        arguments = self._fit_arguments(metadata)
        self._learn_fusion(X, y, metadata, arguments)
        rows = _rows_that_count(metadata, y)
        (self.estimators_,) = self._fit_experts(X, y, [rows], arguments)
        self.named_estimators_ = Bunch(
            **dict(zip(self.teacher_blocks_.names, self.estimators_, strict=True))
        )
        return self

    def _validate_training_data(self, X, y, sample_weight, groups):
        """Return features, labels, and weights and groups as far as they are given."""
        self._validate_params()
        for name, estimator in self._named_inner_estimators():
            if not hasattr(estimator, "predict_proba"):
                raise ValueError(
                    f"{name}={estimator!r} has no predict_proba, but probabilities are "
                    f"what is fused. Pass a classifier that has, or {name}="
                    f"CalibratedClassifierCV({estimator!r}), whose inner splits are by "
                    "row and not by patient."
                )
        carried = getattr(X, "teacher_blocks", None)
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], order="C")
        check_classification_targets(y)
        metadata = {
            "sample_weight": validated_weights(sample_weight, X),
            "groups": validated_groups(groups, X),
        }
        metadata = {key: given for key, given in metadata.items() if given is not None}
        self.classes_ = np.unique(y[_rows_that_count(metadata, y)])
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, but y "
                f"holds only 1 class: {self.classes_.tolist()[0]!r}. In "
                "cross-validation, use a stratified splitter."
            )
        self._learn_blocks(carried)
        return X, y, metadata

    def _named_inner_estimators(self) -> list:
        """Return (parameter, estimator) of all estimators that are fitted inside."""
        return [("estimator", self._expert())]

    def _expert(self):
        """Return the classifier that is cloned for each teacher."""
        if self.estimator is not None:
            return self.estimator
        return make_pipeline(_weighted(StandardScaler()), logistic_regression(C=1.0))

    def _fit_arguments(self, metadata: dict) -> dict:
        """Return the arguments of each inner estimator's ``fit``, by parameter."""
        inner = self._named_inner_estimators()
        if sklearn.get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **metadata)
            return {name: dict(routed[name]["fit"]) for name, _ in inner}
        arguments = {}
        for name, estimator in inner:
            arguments[name] = fit_arguments(estimator, metadata)
            refuse_lost_weights(estimator, metadata, arguments[name])
        return arguments

    def get_metadata_routing(self):
        """Return who takes which metadata: this estimator and those inside.

        Returns
        -------
        routing : MetadataRouter
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        for name, estimator in self._named_inner_estimators():
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(**{name: estimator}, method_mapping=mapping)
        return router

    def _learn_fusion(self, X, y, metadata: dict, arguments: dict) -> None:
        """Learn how to fuse; an average has nothing to learn."""

    def _fit_experts(self, X, y, row_sets, arguments: dict) -> list[list]:
        """Return, for each set of rows, one fitted classifier per teacher."""
        blocks, expert = self.teacher_blocks_, self._expert()
        fitted = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_expert)(
                clone(expert),
                _block_of(X, blocks, teacher)[rows],
                y[rows],
                {key: given[rows] for key, given in arguments["estimator"].items()},
            )
            for rows in row_sets
            for teacher in range(len(blocks.dims))
        )
        n_teachers = len(blocks.dims)
        return [
            fitted[start : start + n_teachers]
            for start in range(0, len(fitted), n_teachers)
        ]

    def _out_of_fold(self, X, y, metadata: dict, arguments: dict):
        """Return rows, and what classifiers that have not seen them say of them.

        Returns
        -------
        rows : ndarray of shape (n_kept,), dtype=int
            Rows of classes that their fold's training part has.
        probabilities : ndarray of shape (n_teachers, n_kept, n_classes), dtype=float64
            Of these rows.
        """
        splits = inner_splits(
            self.cv, y, metadata.get("groups"), _rows_that_count(metadata, y)
        )
        experts = self._fit_experts(X, y, [train for train, _ in splits], arguments)
        rows, probabilities = [], []
        for (train, held_out), of_fold in zip(splits, experts, strict=True):
            known = held_out[np.isin(y[held_out], y[train])]
            if len(known):
                rows.append(known)
                probabilities.append(self._probabilities_of(of_fold, X[known]))
        if not rows or len(np.unique(y[np.concatenate(rows)])) < 2:
            raise ValueError(
                f"{type(self).__name__} learns from predictions on held-out patients, "
                "but fewer than 2 classes have a patient in the training and one in "
                "the held-out part of a split. Pass more patients of each class, or "
                "use AveragedTeachersClassifier, which has nothing to learn."
            )
        return np.concatenate(rows), np.concatenate(probabilities, axis=1)

    # ------------------------------------------------------------- prediction

    def _probabilities_of(self, experts, X) -> np.ndarray:
        """Return class probabilities of shape (n_teachers, n_samples, n_classes).

        A class that a classifier has not seen gets probability 0.
        """
        shape = (len(experts), len(X), len(self.classes_))
        probabilities = np.zeros(shape)
        for teacher, expert in enumerate(experts):
            known = np.searchsorted(self.classes_, expert.classes_)
            block = _block_of(X, self.teacher_blocks_, teacher)
            probabilities[teacher][:, known] = expert.predict_proba(block)
        # Rows of float32 sum to 1 but for 1e-6.
        return probabilities / probabilities.sum(axis=2, keepdims=True)

    def _teacher_probabilities(self, X) -> np.ndarray:
        """Return what each teacher's classifier says, after checking X."""
        check_is_fitted(self, "estimators_")  # a fit may have failed half-way
        self._check_carried_blocks(getattr(X, "teacher_blocks", None))
        X = validate_data(
            self, X, reset=False, dtype=[np.float32, np.float64], order="C"
        )
        return self._probabilities_of(self.estimators_, X)

    def predict(self, X):
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def predict_proba(self, X):
        """Return class probabilities.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), dtype=float64
            Columns in the order of ``classes_``; rows sum to 1.
        """
        return self._fused(self._teacher_probabilities(X))

    def predict_log_proba(self, X):
        """Return logarithms of class probabilities.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes), dtype=float64
        """
        with np.errstate(divide="ignore"):  # a probability may be 0
            return np.log(self.predict_proba(X))


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return logarithms, of 0 too.

    Parameters
    ----------
    probabilities : ndarray
        Between 0 and 1.

    Returns
    -------
    logarithms : ndarray, same shape
        At least log(1e-3).
    """
    return np.log(np.maximum(probabilities, LEAST_PROBABILITY))


def _rows_that_count(metadata: dict, y) -> np.ndarray:
    """Return the rows of positive weight."""
    return np.flatnonzero(metadata.get("sample_weight", np.ones(len(y))))


def _block_of(X: np.ndarray, blocks: TeacherBlocks, teacher: int) -> TeacherFeatures:
    """Return the columns of a teacher; they say whose they are, for students."""
    block = TeacherBlocks((blocks.names[teacher],), (blocks.dims[teacher],))
    return TeacherFeatures(X[:, blocks.slices[teacher]], block)


def _fit_expert(estimator, X, y, arguments: dict):
    return estimator.fit(X, y, **arguments)
